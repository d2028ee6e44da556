/* approx_distinct and approx_quantile: sketches (sketch.h) as parts of slots. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/decimal.h"
#include "operator/aggregate/measure_private.h"

enum { SKETCH_BYTES_MAX = 16 << 10 };

bool weir_measure_sketches(enum weir_measure_kind kind) {
    return kind == WEIR_MEASURE_APPROX_DISTINCT || kind == WEIR_MEASURE_APPROX_QUANTILE;
}

static double real(const struct weir_measure_cell *cell, const struct weir_column *column,
                   int32_t row) {
    const void *in = column->values;
    switch (column->type) {
    case WEIR_TYPE_FLOAT:
        return (double)((const float *)in)[row];
    case WEIR_TYPE_DOUBLE:
        return ((const double *)in)[row];
    case WEIR_TYPE_DECIMAL:
        return (double)((long double)weir_int128_load((const uint8_t *)in + (size_t)row * 16) /
                        (long double)weir_decimal_power10(cell->measure.scale));
    default:
        return (double)weir_column_int(column, row);
    }
}

int weir_sketch_add(struct weir_measures *measures, int32_t m, const struct weir_measure_rows *rows,
                    const struct weir_column *input, const uint8_t *mask, struct weir_error *err) {
    const struct weir_measure_cell *cell = &measures->cells[m];
    bool distinct = cell->measure.kind == WEIR_MEASURE_APPROX_DISTINCT;
    struct weir_heap *heap = weir_table_heap(measures->table);
    struct weir_keys *keys = &measures->keys;
    bool done = !distinct || weir_key_encode_columns(cell->member_key, &input, rows->rows,
                                                     rows->count, 0, keys) == WEIR_OK;
    int rc = weir_table_check_room(measures->table, SKETCH_BYTES_MAX, err);
    if (rc != WEIR_OK || !done) {
        return rc != WEIR_OK ? rc
                             : weir_error_set(err, WEIR_E_NOMEM, "measure '%s': no memory",
                                              cell->measure.name);
    }
    FOR_EACH_VALUE({
        struct weir_part part;
        memcpy(&part, value + cell->offset, sizeof part);
        if (distinct) {
            uint64_t hash = XXH3_64bits(keys->bytes + keys->offsets[k],
                                        keys->offsets[k + 1] - keys->offsets[k]);
            done = weir_distinct_sketch_add(&part, heap, hash);
        } else {
            done = weir_quantile_sketch_add(&part, heap, real(cell, input, row),
                                            rows->take_back ? -1 : 1);
        }
        memcpy(value + cell->offset, &part, sizeof part);
        set_present(value, m);
        if (!done) {
            return weir_error_set(err, WEIR_E_NOMEM, "measure '%s': no memory", cell->measure.name);
        }
    })
    return WEIR_OK;
}

bool weir_measure_grows(const struct weir_measure_cell *cell) {
    return weir_measure_sketches(cell->measure.kind) || weir_measure_bags(cell);
}

int weir_growing_merge(const struct weir_measures *measures, int32_t m, struct weir_heap *heap,
                       uint8_t *into, const uint8_t *from) {
    const struct weir_measure_cell *cell = &measures->cells[m];
    into += cell->offset;
    from += cell->offset;
    struct weir_part a;
    struct weir_part b;
    memcpy(&a, into, sizeof a);
    memcpy(&b, from, sizeof b);
    if (weir_measure_bags(cell)) {
        int rc = weir_measure_bag_merge(cell, heap, measures->bags, &a, &b);
        memcpy(into, &a, sizeof a);
        return rc;
    }
    bool done = cell->measure.kind == WEIR_MEASURE_APPROX_DISTINCT
                    ? weir_distinct_sketch_merge(&a, heap, &b)
                    : weir_quantile_sketch_merge(&a, heap, &b);
    memcpy(into, &a, sizeof a);
    return done ? WEIR_OK : WEIR_E_NOMEM;
}

bool weir_growing_check(const struct weir_measure_cell *cell, const uint8_t *bytes, size_t length) {
    return weir_measure_bags(cell) ? weir_bag_check(bytes, length)
           : cell->measure.kind == WEIR_MEASURE_APPROX_DISTINCT
               ? weir_distinct_sketch_check(bytes, length)
               : weir_quantile_sketch_check(bytes, length);
}

int weir_sketch_emit(const struct weir_measure_cell *cell, const uint8_t *value,
                     struct weir_column_builder *out) {
    struct weir_part part;
    memcpy(&part, value + cell->offset, sizeof part);
    if (cell->measure.kind == WEIR_MEASURE_APPROX_DISTINCT) {
        return weir_builder_int(out, part.length > 0 ? weir_distinct_sketch_count(&part) : 0);
    }
    double result;
    return weir_quantile_sketch_value(&part, cell->measure.share, &result)
               ? weir_builder_double(out, result)
               : weir_builder_null(out);
}
