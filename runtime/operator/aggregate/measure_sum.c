/* count, sum, avg: ints in 128 bits, decimals in 128 or 192, floats as doubles in row order. */
#include "operator/aggregate/measure_private.h"

enum { DECIMAL_DIGITS = 38 };

uint32_t weir_sum_bytes(const struct weir_measure_cell *cell) {
    if (is_float(cell->measure.type)) {
        return 8;
    }
    return cell->wide ? 24 : 16;
}

static inline void add_i128(uint8_t *at, weir_int128 by) {
    weir_uint128 sum;
    memcpy(&sum, at, sizeof sum);
    sum += (weir_uint128)by;
    memcpy(at, &sum, sizeof sum);
}

static inline void add_wide(uint8_t *at, weir_int128 by) {
    struct weir_wide sum;
    memcpy(&sum, at, sizeof sum);
    weir_wide_add(&sum, by);
    memcpy(at, &sum, sizeof sum);
}

static inline void add_double(uint8_t *at, double by) {
    double sum;
    memcpy(&sum, at, sizeof sum);
    sum += by;
    memcpy(at, &sum, sizeof sum);
}

void weir_count_add(const struct weir_measure_cell *cell, const struct weir_measure_rows *rows,
                    const struct weir_column *input, const uint8_t *mask) {
    FOR_EACH_VALUE({
        (void)row;
        add_u64(value + cell->offset, rows->take_back ? UINT64_MAX : 1);
    })
}

/* sum and avg; `add` puts input[row] into the sum cell. */
#define ADD_SUMS(add, load)                                                                        \
    FOR_EACH_VALUE({                                                                               \
        if (rows->take_back) {                                                                     \
            add(value + cell->offset, -(load));                                                    \
        } else {                                                                                   \
            add(value + cell->offset, load);                                                       \
        }                                                                                          \
        if (cell->counted) {                                                                       \
            add_u64(value + cell->count_offset, rows->take_back ? UINT64_MAX : 1);                 \
        } else {                                                                                   \
            set_present(value, m);                                                                 \
        }                                                                                          \
    })

void weir_sum_add(const struct weir_measure_cell *cell, int32_t m,
                  const struct weir_measure_rows *rows, const struct weir_column *input,
                  const uint8_t *mask) {
    const void *in = input->values;
    switch (cell->measure.type) {
    case WEIR_TYPE_INT8:
        ADD_SUMS(add_i128, ((const int8_t *)in)[row])
        break;
    case WEIR_TYPE_INT16:
        ADD_SUMS(add_i128, ((const int16_t *)in)[row])
        break;
    case WEIR_TYPE_INT32:
        ADD_SUMS(add_i128, (weir_int128)((const int32_t *)in)[row])
        break;
    case WEIR_TYPE_INT64:
        ADD_SUMS(add_i128, (weir_int128)((const int64_t *)in)[row])
        break;
    case WEIR_TYPE_FLOAT:
        ADD_SUMS(add_double, (double)((const float *)in)[row])
        break;
    case WEIR_TYPE_DOUBLE:
        ADD_SUMS(add_double, ((const double *)in)[row])
        break;
    default:
        if (cell->wide) {
            ADD_SUMS(add_wide, weir_int128_load((const uint8_t *)in + (size_t)row * 16))
        } else {
            ADD_SUMS(add_i128, weir_int128_load((const uint8_t *)in + (size_t)row * 16))
        }
    }
}

static void merge(const struct weir_measure_cell *cell, uint8_t *into, const uint8_t *from) {
    if (is_float(cell->measure.type)) {
        double by;
        memcpy(&by, from, sizeof by);
        add_double(into, by);
    } else if (cell->wide) {
        struct weir_wide a;
        struct weir_wide b;
        memcpy(&a, into, sizeof a);
        memcpy(&b, from, sizeof b);
        weir_wide_merge(&a, &b);
        memcpy(into, &a, sizeof a);
    } else {
        add_i128(into, weir_int128_load(from));
    }
}

void weir_sum_merge(const struct weir_measure_cell *cell, int32_t m, uint8_t *into,
                    const uint8_t *from) {
    if (!cell->counted) {
        if (is_present(from, m)) {
            merge(cell, into + cell->offset, from + cell->offset);
            set_present(into, m);
        }
        return;
    }
    uint64_t count;
    memcpy(&count, from + cell->count_offset, sizeof count);
    if (count > 0) {
        merge(cell, into + cell->offset, from + cell->offset);
        add_u64(into + cell->count_offset, count);
    }
}

int weir_measure_out_of_range(const struct weir_measure_cell *cell, struct weir_error *err) {
    bool ints = is_int(cell->measure.type) && cell->measure.kind == WEIR_MEASURE_SUM;
    return weir_error_set(err, WEIR_E_DATA,
                          "measure '%s' ends out of range: more than %s; sum a %s, or use a "
                          "shorter window",
                          cell->measure.name, ints ? "an int64 holds" : "38 digits",
                          ints ? "decimal column" : "column of smaller scale");
}

static struct weir_wide load_sum(const struct weir_measure_cell *cell, const uint8_t *value) {
    struct weir_wide sum;
    if (cell->wide) {
        memcpy(&sum, value + cell->offset, sizeof sum);
        return sum;
    }
    return weir_wide_from(weir_int128_load(value + cell->offset));
}

static bool has_values(const struct weir_measure_cell *cell, int32_t m, const uint8_t *value) {
    int64_t count;
    if (!cell->counted) {
        return is_present(value, m);
    }
    memcpy(&count, value + cell->count_offset, sizeof count);
    return count > 0;
}

int weir_sum_emit(const struct weir_measure_cell *cell, int32_t m, const uint8_t *value,
                  struct weir_column_builder *out, struct weir_error *err) {
    if (!has_values(cell, m, value)) {
        return weir_builder_null(out);
    }
    if (is_float(cell->measure.type)) {
        double sum;
        memcpy(&sum, value + cell->offset, sizeof sum);
        return weir_builder_double(out, sum);
    }
    struct weir_wide wide = load_sum(cell, value);
    weir_int128 sum;
    bool fits = weir_wide_to(&wide, &sum);
    if (is_int(cell->measure.type)) {
        if (!fits || sum < INT64_MIN || sum > INT64_MAX) {
            return weir_measure_out_of_range(cell, err);
        }
        return weir_builder_int(out, (int64_t)sum);
    }
    if (!fits || !weir_int128_fits(sum, DECIMAL_DIGITS)) {
        return weir_measure_out_of_range(cell, err);
    }
    return weir_measure_decimal(out, sum);
}

int weir_average_emit(const struct weir_measure_cell *cell, const uint8_t *value,
                      struct weir_column_builder *out, struct weir_error *err) {
    uint64_t count;
    memcpy(&count, value + cell->count_offset, sizeof count);
    if ((int64_t)count <= 0) {
        return weir_builder_null(out);
    }
    if (is_float(cell->measure.type)) {
        double sum;
        memcpy(&sum, value + cell->offset, sizeof sum);
        return weir_builder_double(out, sum / (double)count);
    }
    int scale = is_int(cell->measure.type) ? 0 : cell->measure.scale;
    struct weir_wide sum = load_sum(cell, value);
    weir_int128 average;
    if (!weir_wide_average(&sum, count, cell->output.scale - scale, &average)) {
        return weir_measure_out_of_range(cell, err);
    }
    return weir_measure_decimal(out, average);
}
