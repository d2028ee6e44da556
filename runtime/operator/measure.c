#include "operator/measure_private.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "operator/key.h"
#include "operator/wide.h"

enum { DECIMAL_DIGITS = 38, AVERAGE_SCALE = 6, NARROW_DIGITS = 18 };

_Static_assert(sizeof(struct weir_part) == 16, "bytes cell");
_Static_assert(sizeof(struct weir_distinct_cell) == 16, "distinct cell");

static const char *const names[] = {
    "count", "sum",     "avg",     "min",      "max",    "distinct",        "first",
    "last",  "arg_max", "arg_min", "variance", "stddev", "approx_distinct", "approx_quantile"};

bool weir_measure_kind_parse(const char *text, enum weir_measure_kind *kind) {
    for (int i = 0; i < (int)(sizeof names / sizeof names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            *kind = (enum weir_measure_kind)i;
            return true;
        }
    }
    return false;
}

int weir_measure_output(const struct weir_measure *measure, struct weir_field *field,
                        struct weir_error *err) {
    bool summable =
        is_int(measure->type) || is_float(measure->type) || measure->type == WEIR_TYPE_DECIMAL;
    field->precision = 0;
    field->scale = 0;
    field->nullable = true;
    if (measure->kind == WEIR_MEASURE_COUNT) {
        field->type = WEIR_TYPE_INT64;
        field->nullable = false;
        return WEIR_OK;
    }
    if (!measure->has_input) {
        return weir_error_set(err, WEIR_E_CONFIG, "measure '%s': only count works without a column",
                              measure->name);
    }
    switch (measure->kind) {
    case WEIR_MEASURE_COUNT:
    case WEIR_MEASURE_DISTINCT:
        field->type = WEIR_TYPE_INT64;
        field->nullable = false;
        if (weir_type_is_nested(measure->type)) {
            break;
        }
        return WEIR_OK;
    case WEIR_MEASURE_SUM:
        if (!summable) {
            break;
        }
        field->type = is_int(measure->type)     ? WEIR_TYPE_INT64
                      : is_float(measure->type) ? WEIR_TYPE_DOUBLE
                                                : WEIR_TYPE_DECIMAL;
        if (field->type == WEIR_TYPE_DECIMAL) {
            field->precision = DECIMAL_DIGITS;
            field->scale = measure->scale;
        }
        return WEIR_OK;
    case WEIR_MEASURE_AVG:
        if (!summable) {
            break;
        }
        if (is_float(measure->type)) {
            field->type = WEIR_TYPE_DOUBLE;
            return WEIR_OK;
        }
        field->type = WEIR_TYPE_DECIMAL;
        field->precision = DECIMAL_DIGITS;
        field->scale = is_int(measure->type) || measure->scale < AVERAGE_SCALE ? AVERAGE_SCALE
                                                                               : measure->scale;
        return WEIR_OK;
    case WEIR_MEASURE_APPROX_DISTINCT:
        field->type = WEIR_TYPE_INT64;
        field->nullable = false;
        if (weir_type_is_nested(measure->type)) {
            break;
        }
        return WEIR_OK;
    case WEIR_MEASURE_VARIANCE:
    case WEIR_MEASURE_STDDEV:
    case WEIR_MEASURE_APPROX_QUANTILE:
        if (!summable) {
            break;
        }
        field->type = WEIR_TYPE_DOUBLE;
        return WEIR_OK;
    case WEIR_MEASURE_MIN:
    case WEIR_MEASURE_MAX:
    case WEIR_MEASURE_FIRST:
    case WEIR_MEASURE_LAST:
    case WEIR_MEASURE_ARG_MAX:
    case WEIR_MEASURE_ARG_MIN:
        if (weir_type_is_nested(measure->type)) {
            break;
        }
        field->type = measure->type;
        field->precision = measure->precision;
        field->scale = measure->scale;
        return WEIR_OK;
    }
    return weir_error_set(err, WEIR_E_CONFIG, "measure '%s': %s does not take a %s column",
                          measure->name, names[measure->kind], weir_type_name(measure->type));
}

static uint32_t sum_bytes(const struct weir_measure_cell *cell) {
    if (is_float(cell->measure.type)) {
        return 8;
    }
    return cell->wide ? 24 : 16;
}

static uint32_t extreme_bytes(uint8_t type) {
    return weir_type_is_bytes(type) || type == WEIR_TYPE_DECIMAL ? 16 : 8;
}

static int make_member_key(struct weir_measure_cell *cell, struct weir_error *err) {
    const struct weir_measure *measure = &cell->measure;
    struct weir_field field = {.name = NULL,
                               .type = measure->type,
                               .precision = measure->precision,
                               .scale = measure->scale};
    struct weir_schema schema = {.references = 1, .count = 1, .fields = &field};
    int32_t column = 0;
    cell->member_key = weir_key_create(&schema, &column, 1, err);
    return cell->member_key != NULL ? WEIR_OK : weir_error_wrap(err, "measure '%s'", measure->name);
}

static int cell_init(struct weir_measures *measures, struct weir_measure_cell *cell,
                     const struct weir_measure *measure, struct weir_error *err) {
    cell->measure = *measure;
    cell->measure.name = strdup(measure->name);
    if (cell->measure.name == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "measure '%s': no memory", measure->name);
    }
    int rc = weir_measure_output(&cell->measure, &cell->output, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    cell->wide = measure->type == WEIR_TYPE_DECIMAL && measure->precision > NARROW_DIGITS;
    cell->offset = measures->value_bytes;
    bool extreme = measure->kind == WEIR_MEASURE_MIN || measure->kind == WEIR_MEASURE_MAX;
    cell->of_members = measure->kind == WEIR_MEASURE_DISTINCT || (extreme && measures->retracts);
    if (cell->of_members) {
        measures->value_bytes += sizeof(struct weir_distinct_cell);
        measures->has_parts = true;
        measures->has_members = true;
    }
    if (cell->of_members || weir_measure_chooses(measure->kind) ||
        measure->kind == WEIR_MEASURE_APPROX_DISTINCT) {
        rc = make_member_key(cell, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    switch (measure->kind) {
    case WEIR_MEASURE_COUNT:
        measures->value_bytes += 8;
        break;
    case WEIR_MEASURE_SUM:
    case WEIR_MEASURE_AVG:
        cell->counted = measure->kind == WEIR_MEASURE_AVG || measures->retracts;
        cell->count_offset = cell->offset + sum_bytes(cell);
        measures->value_bytes += sum_bytes(cell) + (cell->counted ? 8 : 0);
        break;
    case WEIR_MEASURE_MIN:
    case WEIR_MEASURE_MAX:
        measures->value_bytes += extreme_bytes(measure->type);
        measures->has_parts |= weir_type_is_bytes(measure->type);
        break;
    case WEIR_MEASURE_FIRST:
    case WEIR_MEASURE_LAST:
    case WEIR_MEASURE_ARG_MAX:
    case WEIR_MEASURE_ARG_MIN:
        measures->value_bytes += sizeof(struct weir_chosen);
        measures->has_parts = true;
        break;
    case WEIR_MEASURE_VARIANCE:
    case WEIR_MEASURE_STDDEV:
        measures->value_bytes += weir_variance_bytes(measure);
        break;
    case WEIR_MEASURE_APPROX_DISTINCT:
    case WEIR_MEASURE_APPROX_QUANTILE:
        measures->value_bytes += sizeof(struct weir_part);
        measures->has_parts = true;
        measures->has_sketches = true;
        break;
    case WEIR_MEASURE_DISTINCT:
        break;
    }
    return WEIR_OK;
}

int weir_measures_init(struct weir_measures *measures, const struct weir_measure *list,
                       int32_t count, bool retracts, uint32_t tail_bytes, struct weir_error *err) {
    memset(measures, 0, sizeof *measures);
    measures->retracts = retracts;
    weir_keys_init(&measures->keys);
    if (count < 0 || count > WEIR_MEASURES_MAX) {
        return weir_error_set(err, WEIR_E_CONFIG, "%d measures: at most %d are possible", count,
                              WEIR_MEASURES_MAX);
    }
    measures->cells = calloc((size_t)count + 1, sizeof *measures->cells);
    if (measures->cells == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "no memory for %d measures", count);
    }
    measures->count = count;
    measures->value_bytes = (uint32_t)((count + 63) / 64) * 8;
    for (int32_t m = 0; m < count; m++) {
        int rc = cell_init(measures, &measures->cells[m], &list[m], err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    measures->tail_offset = measures->value_bytes;
    measures->value_bytes += tail_bytes;
    return WEIR_OK;
}

void weir_measures_fini(struct weir_measures *measures) {
    for (int32_t m = 0; m < measures->count; m++) {
        /* The struct's names are const to its readers; this one is the copy made above. */
        free((void *)(uintptr_t)measures->cells[m].measure.name);
        weir_key_destroy(measures->cells[m].member_key);
    }
    weir_keys_fini(&measures->keys);
    free(measures->cells);
    memset(measures, 0, sizeof *measures);
}

/* --- adding -------------------------------------------------------------------------------- */

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

static void add_count(const struct weir_measure_cell *cell, const struct weir_measure_rows *rows,
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

static void add_sum(const struct weir_measure_cell *cell, int32_t m,
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

/* NaN sorts above all numbers. */
static inline bool double_less(double a, double b) {
    return isnan(b) ? !isnan(a) : a < b;
}

#define PLAIN_LESS(a, b) ((a) < (b))

/* min and max of fixed types: the cell holds `type`. */
#define ADD_EXTREMES(type, less, load)                                                             \
    FOR_EACH_VALUE({                                                                               \
        type fresh = load;                                                                         \
        type held;                                                                                 \
        memcpy(&held, value + cell->offset, sizeof held);                                          \
        if (!set_present(value, m) || (maximum ? less(held, fresh) : less(fresh, held))) {         \
            memcpy(value + cell->offset, &fresh, sizeof fresh);                                    \
        }                                                                                          \
    })

static void add_extreme(const struct weir_measure_cell *cell, int32_t m,
                        const struct weir_measure_rows *rows, const struct weir_column *input,
                        const uint8_t *mask) {
    bool maximum = cell->measure.kind == WEIR_MEASURE_MAX;
    const void *in = input->values;
    switch (cell->measure.type) {
    case WEIR_TYPE_BOOL:
        ADD_EXTREMES(int64_t, PLAIN_LESS, weir_bit_get(in, row))
        break;
    case WEIR_TYPE_INT8:
        ADD_EXTREMES(int64_t, PLAIN_LESS, ((const int8_t *)in)[row])
        break;
    case WEIR_TYPE_INT16:
        ADD_EXTREMES(int64_t, PLAIN_LESS, ((const int16_t *)in)[row])
        break;
    case WEIR_TYPE_INT32:
    case WEIR_TYPE_DATE:
        ADD_EXTREMES(int64_t, PLAIN_LESS, ((const int32_t *)in)[row])
        break;
    case WEIR_TYPE_FLOAT:
        ADD_EXTREMES(double, double_less, (double)((const float *)in)[row])
        break;
    case WEIR_TYPE_DOUBLE:
        ADD_EXTREMES(double, double_less, ((const double *)in)[row])
        break;
    case WEIR_TYPE_DECIMAL:
        ADD_EXTREMES(weir_int128, PLAIN_LESS,
                     weir_int128_load((const uint8_t *)in + (size_t)row * 16))
        break;
    default:
        ADD_EXTREMES(int64_t, PLAIN_LESS, ((const int64_t *)in)[row])
    }
}

static int compare_bytes(const uint8_t *a, size_t a_length, const uint8_t *b, size_t b_length) {
    size_t common = a_length < b_length ? a_length : b_length;
    int order = common > 0 ? memcmp(a, b, common) : 0;
    return order != 0 ? order : (a_length > b_length) - (a_length < b_length);
}

int weir_measure_hold(struct weir_measures *measures, struct weir_part *held, const char *bytes,
                      uint32_t length, struct weir_error *err) {
    if (length > held->capacity || held->bytes == NULL) {
        int rc = weir_table_check_room(measures->table, length, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        struct weir_heap *heap = weir_table_heap(measures->table);
        uint32_t capacity = length > 0 ? length : 1;
        uint8_t *room = weir_heap_take(heap, capacity);
        if (room == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for a text of %u bytes",
                                  weir_table_name(measures->table), length);
        }
        weir_heap_give(heap, held->bytes, held->capacity);
        held->bytes = room;
        held->capacity = capacity;
    }
    if (length > 0) {
        memcpy(held->bytes, bytes, length);
    }
    held->length = length;
    return WEIR_OK;
}

static int extreme_slot_bytes(struct weir_measures *measures, const struct weir_measure_cell *cell,
                              uint8_t *value, const char *bytes, uint32_t length,
                              struct weir_error *err) {
    struct weir_part held;
    uint8_t *at = value + weir_extreme_offset(cell);
    memcpy(&held, at, sizeof held);
    int rc = weir_measure_hold(measures, &held, bytes, length, err);
    if (rc == WEIR_OK) {
        memcpy(at, &held, sizeof held);
    }
    return rc;
}

static int add_bytes(struct weir_measures *measures, int32_t m,
                     const struct weir_measure_rows *rows, const struct weir_column *input,
                     const uint8_t *mask, struct weir_error *err) {
    const struct weir_measure_cell *cell = &measures->cells[m];
    int better = cell->measure.kind == WEIR_MEASURE_MAX ? 1 : -1;
    FOR_EACH_VALUE({
        int32_t length;
        const char *bytes = weir_column_bytes(input, row, &length);
        struct weir_part held;
        memcpy(&held, value + cell->offset, sizeof held);
        if (is_present(value, m)) {
            int order =
                compare_bytes((const uint8_t *)bytes, (size_t)length, held.bytes, held.length);
            if (order * better <= 0) {
                continue;
            }
        }
        int rc = extreme_slot_bytes(measures, cell, value, bytes, (uint32_t)length, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        set_present(value, m);
    })
    return WEIR_OK;
}

int weir_measures_add(struct weir_measures *measures, int32_t m,
                      const struct weir_measure_rows *rows, const struct weir_column *input,
                      const uint8_t *mask, struct weir_error *err) {
    const struct weir_measure_cell *cell = &measures->cells[m];
    if (cell->measure.kind != WEIR_MEASURE_COUNT && input->codes != NULL &&
        !weir_type_is_bytes(cell->measure.type)) {
        return weir_error_set(err, WEIR_E_BUG, "measure '%s': its column is not plain",
                              cell->measure.name);
    }
    if (cell->of_members) {
        return weir_error_set(err, WEIR_E_BUG, "measure '%s': its members are fed by its owner",
                              cell->measure.name);
    }
    switch (cell->measure.kind) {
    case WEIR_MEASURE_COUNT:
        add_count(cell, rows, input, mask);
        return WEIR_OK;
    case WEIR_MEASURE_SUM:
    case WEIR_MEASURE_AVG:
        add_sum(cell, m, rows, input, mask);
        return WEIR_OK;
    case WEIR_MEASURE_MIN:
    case WEIR_MEASURE_MAX:
        if (weir_type_is_bytes(cell->measure.type)) {
            return add_bytes(measures, m, rows, input, mask, err);
        }
        add_extreme(cell, m, rows, input, mask);
        return WEIR_OK;
    case WEIR_MEASURE_FIRST:
    case WEIR_MEASURE_LAST:
    case WEIR_MEASURE_ARG_MAX:
    case WEIR_MEASURE_ARG_MIN:
        return weir_chosen_add(measures, m, rows, input, mask, err);
    case WEIR_MEASURE_VARIANCE:
    case WEIR_MEASURE_STDDEV:
        weir_variance_add(cell, rows, input, mask);
        return WEIR_OK;
    case WEIR_MEASURE_APPROX_DISTINCT:
    case WEIR_MEASURE_APPROX_QUANTILE:
        return weir_sketch_add(measures, m, rows, input, mask, err);
    case WEIR_MEASURE_DISTINCT:
        break;
    }
    return WEIR_E_BUG;
}

static bool take_varint(const uint8_t **at, const uint8_t *end, uint32_t *value) {
    uint64_t result = 0;
    for (int shift = 0; shift < 35 && *at < end; shift += 7) {
        uint8_t byte = *(*at)++;
        result |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            *value = (uint32_t)result;
            return result <= INT32_MAX;
        }
    }
    return false;
}

/* Of what two cells of min or max hold: > 0 when `from` is better than `into`, 0 when as good. */
static int compare_held(const struct weir_measure_cell *cell, const uint8_t *into,
                        const uint8_t *from) {
    int sign = cell->measure.kind == WEIR_MEASURE_MAX ? 1 : -1;
    if (weir_type_is_bytes(cell->measure.type)) {
        struct weir_part a;
        struct weir_part b;
        memcpy(&a, into, sizeof a);
        memcpy(&b, from, sizeof b);
        return sign * compare_bytes(b.bytes, b.length, a.bytes, a.length);
    }
    if (cell->measure.type == WEIR_TYPE_DECIMAL) {
        weir_int128 a = weir_int128_load(into);
        weir_int128 b = weir_int128_load(from);
        return sign * ((b > a) - (b < a));
    }
    if (is_float(cell->measure.type)) {
        double a;
        double b;
        memcpy(&a, into, sizeof a);
        memcpy(&b, from, sizeof b);
        return sign * (double_less(a, b) - double_less(b, a));
    }
    int64_t a;
    int64_t b;
    memcpy(&a, into, sizeof a);
    memcpy(&b, from, sizeof b);
    return sign * ((b > a) - (b < a));
}

/* --- extremes whose rows may be taken back -------------------------------------------------- */

/* A key's value (operator/key.h: 0x01, then the value) as min and max hold it. */
static void fixed_of_key(uint8_t type, const uint8_t *key, size_t length, uint8_t *out) {
    int64_t whole = 0;
    double number = 0;
    float narrow = 0;
    size_t bytes = length - 1;
    switch (type) {
    case WEIR_TYPE_DECIMAL:
        memcpy(out, key + 1, 16);
        return;
    case WEIR_TYPE_FLOAT:
        memcpy(&narrow, key + 1, sizeof narrow);
        number = (double)narrow;
        memcpy(out, &number, sizeof number);
        return;
    default:
        memcpy(&whole, key + 1, bytes);
        if (type != WEIR_TYPE_DOUBLE && bytes < sizeof whole) { /* little-endian: extend the sign */
            int shift = 64 - 8 * (int)bytes;
            whole = (int64_t)((uint64_t)whole << shift) >> shift;
        }
        memcpy(out, &whole, sizeof whole);
    }
}

static const uint8_t *text_of_key(const uint8_t *key, size_t length, uint32_t *size) {
    const uint8_t *at = key + 1;
    *size = 0;
    (void)take_varint(&at, key + length, size);
    return at;
}

int weir_extreme_compare(const struct weir_measure_cell *cell, const uint8_t *value,
                         const uint8_t *key, size_t length) {
    const uint8_t *at = value + weir_extreme_offset(cell);
    if (weir_type_is_bytes(cell->measure.type)) {
        struct weir_part held;
        struct weir_part other = {0};
        memcpy(&held, at, sizeof held);
        /* Only compared: nothing is written through it. */
        other.bytes = (uint8_t *)(uintptr_t)text_of_key(key, length, &other.length);
        return compare_held(cell, (const uint8_t *)&held, (const uint8_t *)&other);
    }
    uint8_t fixed[16];
    fixed_of_key(cell->measure.type, key, length, fixed);
    return compare_held(cell, at, fixed);
}

int weir_extreme_set(struct weir_measures *measures, int32_t m, uint8_t *value, const uint8_t *key,
                     size_t length, struct weir_error *err) {
    const struct weir_measure_cell *cell = &measures->cells[m];
    if (key == NULL) {
        clear_present(value, m);
        return WEIR_OK;
    }
    set_present(value, m);
    if (!weir_type_is_bytes(cell->measure.type)) {
        fixed_of_key(cell->measure.type, key, length, value + weir_extreme_offset(cell));
        return WEIR_OK;
    }
    uint32_t size;
    const char *text = (const char *)text_of_key(key, length, &size);
    return extreme_slot_bytes(measures, cell, value, text, size, err);
}

/* --- merging ------------------------------------------------------------------------------- */

static void merge_sum(const struct weir_measure_cell *cell, uint8_t *into, const uint8_t *from) {
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

/* Equals stay: the earlier one is kept. */
static bool is_better(const struct weir_measure_cell *cell, const uint8_t *into,
                      const uint8_t *from) {
    return compare_held(cell, into, from) > 0;
}

static void merge_cell(const struct weir_measures *measures, int32_t m, uint8_t *into,
                       const uint8_t *from) {
    const struct weir_measure_cell *cell = &measures->cells[m];
    uint8_t *a = into + cell->offset;
    const uint8_t *b = from + cell->offset;
    uint64_t count;
    switch (cell->measure.kind) {
    case WEIR_MEASURE_COUNT:
        memcpy(&count, b, sizeof count);
        add_u64(a, count);
        break;
    case WEIR_MEASURE_SUM:
    case WEIR_MEASURE_AVG:
        if (cell->counted) {
            memcpy(&count, from + cell->count_offset, sizeof count);
            if (count > 0) {
                merge_sum(cell, a, b);
                add_u64(into + cell->count_offset, count);
            }
        } else if (is_present(from, m)) {
            merge_sum(cell, a, b);
            set_present(into, m);
        }
        break;
    case WEIR_MEASURE_MIN:
    case WEIR_MEASURE_MAX:
        if (is_present(from, m) && (!set_present(into, m) || is_better(cell, a, b))) {
            memcpy(a, b, extreme_bytes(cell->measure.type));
        }
        break;
    case WEIR_MEASURE_FIRST:
    case WEIR_MEASURE_LAST:
    case WEIR_MEASURE_ARG_MAX:
    case WEIR_MEASURE_ARG_MIN:
        if (is_present(from, m) && (!set_present(into, m) || weir_chosen_is_better(cell, a, b))) {
            memcpy(a, b, sizeof(struct weir_chosen));
        }
        break;
    case WEIR_MEASURE_VARIANCE:
    case WEIR_MEASURE_STDDEV:
        weir_variance_merge(cell, a, b);
        break;
    case WEIR_MEASURE_APPROX_DISTINCT:
    case WEIR_MEASURE_APPROX_QUANTILE:
        break; /* weir_sketch_merge, which needs a heap */
    case WEIR_MEASURE_DISTINCT:
        break;
    }
}

int weir_measures_merge(const struct weir_measures *measures, struct weir_heap *heap, uint8_t *into,
                        const uint8_t *from) {
    int rc = WEIR_OK;
    for (int32_t m = 0; m < measures->count; m++) {
        const struct weir_measure_cell *cell = &measures->cells[m];
        if (!weir_measure_sketches(cell->measure.kind)) {
            merge_cell(measures, m, into, from);
        } else if (is_present(from, m)) {
            int merged = weir_sketch_merge(cell, heap, into + cell->offset, from + cell->offset);
            set_present(into, m);
            rc = rc == WEIR_OK ? merged : rc;
        }
    }
    return rc;
}

void weir_measures_borrow(const struct weir_measures *measures, uint8_t *into,
                          const uint8_t *from) {
    memcpy(into, from, measures->value_bytes);
    for (int32_t m = 0; m < measures->count && measures->has_sketches; m++) {
        if (weir_measure_sketches(measures->cells[m].measure.kind)) {
            memset(into + measures->cells[m].offset + offsetof(struct weir_part, capacity), 0,
                   sizeof(uint32_t));
        }
    }
}

void weir_measures_give_back(const struct weir_measures *measures, struct weir_heap *heap,
                             uint8_t *value) {
    for (int32_t m = 0; m < measures->count && measures->has_sketches; m++) {
        struct weir_part part;
        uint8_t *at = value + measures->cells[m].offset;
        memcpy(&part, at, sizeof part);
        if (weir_measure_sketches(measures->cells[m].measure.kind) && part.capacity > 0) {
            weir_heap_give(heap, part.bytes, part.capacity);
            memset(at, 0, sizeof part);
        }
    }
}

static bool holds_bytes(const struct weir_measure_cell *cell) {
    bool extreme = cell->measure.kind == WEIR_MEASURE_MIN || cell->measure.kind == WEIR_MEASURE_MAX;
    return weir_measure_chooses(cell->measure.kind) || weir_measure_sketches(cell->measure.kind) ||
           (extreme && weir_type_is_bytes(cell->measure.type));
}

/* Where the part of a cell that has one lies in the value. */
static uint32_t part_offset(const struct weir_measure_cell *cell) {
    return weir_measure_chooses(cell->measure.kind)
               ? cell->offset + (uint32_t)offsetof(struct weir_chosen, value)
               : weir_extreme_offset(cell);
}

int weir_measures_absorb(struct weir_measures *measures, uint8_t *into, const uint8_t *from,
                         struct weir_error *err) {
    for (int32_t m = 0; m < measures->count; m++) {
        const struct weir_measure_cell *cell = &measures->cells[m];
        if (!holds_bytes(cell)) {
            merge_cell(measures, m, into, from);
            continue;
        }
        if (weir_measure_sketches(cell->measure.kind)) {
            int merged = !is_present(from, m)
                             ? WEIR_OK
                             : weir_sketch_merge(cell, weir_table_heap(measures->table),
                                                 into + cell->offset, from + cell->offset);
            if (merged != WEIR_OK) {
                return weir_error_set(err, merged, "measure '%s': no memory", cell->measure.name);
            }
            is_present(from, m) ? (void)set_present(into, m) : (void)0;
            continue;
        }
        bool chooses = weir_measure_chooses(cell->measure.kind);
        const uint8_t *b = from + cell->offset;
        uint8_t *a = into + cell->offset;
        if (!is_present(from, m) ||
            (is_present(into, m) &&
             !(chooses ? weir_chosen_is_better(cell, a, b) : is_better(cell, a, b)))) {
            continue;
        }
        struct weir_part held;
        struct weir_part other;
        uint8_t *at = into + part_offset(cell);
        memcpy(&held, at, sizeof held);
        memcpy(&other, from + part_offset(cell), sizeof other);
        int rc = weir_measure_hold(measures, &held, (const char *)other.bytes, other.length, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        memcpy(a, b, part_offset(cell) - cell->offset);
        memcpy(at, &held, sizeof held);
        set_present(into, m);
    }
    return WEIR_OK;
}

/* --- results ------------------------------------------------------------------------------- */

static int append_decimal(struct weir_column_builder *out, weir_int128 value) {
    return weir_builder_decimal(out, (uint64_t)value, (int64_t)(value >> 64));
}

static int out_of_range(const struct weir_measure_cell *cell, struct weir_error *err) {
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

static bool sum_has_values(const struct weir_measure_cell *cell, int32_t m, const uint8_t *value) {
    int64_t count;
    if (!cell->counted) {
        return is_present(value, m);
    }
    memcpy(&count, value + cell->count_offset, sizeof count);
    return count > 0;
}

static int emit_sum(const struct weir_measure_cell *cell, const uint8_t *value,
                    struct weir_column_builder *out, struct weir_error *err) {
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
            return out_of_range(cell, err);
        }
        return weir_builder_int(out, (int64_t)sum);
    }
    if (!fits || !weir_int128_fits(sum, DECIMAL_DIGITS)) {
        return out_of_range(cell, err);
    }
    return append_decimal(out, sum);
}

static int emit_average(const struct weir_measure_cell *cell, const uint8_t *value,
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
        return out_of_range(cell, err);
    }
    return append_decimal(out, average);
}

static int emit_extreme(const struct weir_measure_cell *cell, const uint8_t *value,
                        struct weir_column_builder *out) {
    const uint8_t *at = value + weir_extreme_offset(cell);
    if (weir_type_is_bytes(cell->measure.type)) {
        struct weir_part held;
        memcpy(&held, at, sizeof held);
        return weir_builder_bytes(out, held.bytes, held.length);
    }
    if (cell->measure.type == WEIR_TYPE_DECIMAL) {
        return append_decimal(out, weir_int128_load(at));
    }
    if (is_float(cell->measure.type)) {
        double held;
        memcpy(&held, at, sizeof held);
        return cell->measure.type == WEIR_TYPE_FLOAT ? weir_builder_float(out, (float)held)
                                                     : weir_builder_double(out, held);
    }
    int64_t held;
    memcpy(&held, at, sizeof held);
    return cell->measure.type == WEIR_TYPE_BOOL ? weir_builder_bool(out, held != 0)
                                                : weir_builder_int(out, held);
}

int weir_measures_emit(const struct weir_measures *measures, int32_t m, const uint8_t *value,
                       struct weir_column_builder *out, struct weir_error *err) {
    const struct weir_measure_cell *cell = &measures->cells[m];
    switch (cell->measure.kind) {
    case WEIR_MEASURE_COUNT:
    case WEIR_MEASURE_DISTINCT: {
        int64_t count;
        memcpy(&count, value + cell->offset, sizeof count);
        return weir_builder_int(out, count);
    }
    case WEIR_MEASURE_AVG:
        return emit_average(cell, value, out, err);
    case WEIR_MEASURE_SUM:
        return sum_has_values(cell, m, value) ? emit_sum(cell, value, out, err)
                                              : weir_builder_null(out);
    case WEIR_MEASURE_MIN:
    case WEIR_MEASURE_MAX:
        return is_present(value, m) ? emit_extreme(cell, value, out) : weir_builder_null(out);
    case WEIR_MEASURE_FIRST:
    case WEIR_MEASURE_LAST:
    case WEIR_MEASURE_ARG_MAX:
    case WEIR_MEASURE_ARG_MIN:
        return is_present(value, m) ? weir_chosen_emit(cell, value, out, err)
                                    : weir_builder_null(out);
    case WEIR_MEASURE_VARIANCE:
    case WEIR_MEASURE_STDDEV:
        return weir_variance_emit(cell, value, out);
    case WEIR_MEASURE_APPROX_DISTINCT:
    case WEIR_MEASURE_APPROX_QUANTILE:
        return weir_sketch_emit(cell, value, out);
    }
    return WEIR_E_BUG;
}

/* --- images -------------------------------------------------------------------------------- */

static int codec_encode(void *context, const void *value, struct weir_buffer *out) {
    const struct weir_measures *measures = context;
    size_t start = out->size;
    int rc = weir_buffer_append(out, value, measures->value_bytes);
    for (int32_t m = 0; m < measures->count && rc == WEIR_OK; m++) {
        const struct weir_measure_cell *cell = &measures->cells[m];
        if (cell->of_members) {
            memset(out->data + start + cell->offset + sizeof(uint64_t), 0, sizeof(uint64_t));
        }
        if (holds_bytes(cell)) {
            memset(out->data + start + part_offset(cell), 0, sizeof(struct weir_part));
            if (!is_present(value, m)) {
                continue;
            }
            struct weir_part held;
            memcpy(&held, (const uint8_t *)value + part_offset(cell), sizeof held);
            uint8_t varint[5];
            size_t varint_bytes = 0;
            uint32_t length = held.length;
            for (; length >= 0x80; length >>= 7) {
                varint[varint_bytes++] = (uint8_t)(length | 0x80);
            }
            varint[varint_bytes++] = (uint8_t)length;
            rc = weir_buffer_append(out, varint, varint_bytes);
            if (rc == WEIR_OK) {
                rc = weir_buffer_append(out, held.bytes, held.length);
            }
        }
    }
    return rc;
}

static int codec_decode(void *context, void *value, const uint8_t *bytes, size_t length,
                        struct weir_error *err) {
    struct weir_measures *measures = context;
    if (length < measures->value_bytes) {
        return weir_error_set(err, WEIR_E_CORRUPT, "a value of %zu bytes, not %u", length,
                              measures->value_bytes);
    }
    const uint8_t *at = bytes + measures->value_bytes;
    const uint8_t *end = bytes + length;
    memcpy(value, bytes, measures->value_bytes);
    /* Nothing that came from outside may be taken for a pointer. */
    for (int32_t m = 0; m < measures->count; m++) {
        const struct weir_measure_cell *cell = &measures->cells[m];
        if (cell->of_members) {
            memset((uint8_t *)value + cell->offset + sizeof(uint64_t), 0, sizeof(uint64_t));
        }
        if (holds_bytes(cell)) {
            memset((uint8_t *)value + part_offset(cell), 0, sizeof(struct weir_part));
        }
    }
    for (int32_t m = 0; m < measures->count; m++) {
        const struct weir_measure_cell *cell = &measures->cells[m];
        if (!holds_bytes(cell) || !is_present(value, m)) {
            continue;
        }
        uint32_t size;
        if (!take_varint(&at, end, &size) || size > (size_t)(end - at)) {
            return weir_error_set(err, WEIR_E_CORRUPT, "measure '%s': the text is cut off",
                                  cell->measure.name);
        }
        if (weir_measure_sketches(cell->measure.kind) && !weir_sketch_check(cell, at, size)) {
            return weir_error_set(err, WEIR_E_CORRUPT, "measure '%s': its sketch does not parse",
                                  cell->measure.name);
        }
        struct weir_part held = {.capacity = size > 0 ? size : 1, .length = size};
        held.bytes = weir_heap_take(weir_table_heap(measures->table), held.capacity);
        if (held.bytes == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "measure '%s': no memory for %u bytes",
                                  cell->measure.name, size);
        }
        memcpy(held.bytes, at, size);
        memcpy((uint8_t *)value + part_offset(cell), &held, sizeof held);
        at += size;
    }
    if (at != end) {
        return weir_error_set(err, WEIR_E_CORRUPT, "%zu bytes too many in a value",
                              (size_t)(end - at));
    }
    return WEIR_OK;
}

void weir_measures_release(const struct weir_measures *measures, uint8_t *value,
                           struct weir_heap *heap) {
    for (int32_t m = 0; m < measures->count; m++) {
        const struct weir_measure_cell *cell = &measures->cells[m];
        if (holds_bytes(cell)) {
            struct weir_part held;
            memcpy(&held, value + part_offset(cell), sizeof held);
            weir_heap_give(heap, held.bytes, held.capacity);
        }
    }
}

int weir_measures_copy(const struct weir_measures *measures, uint8_t *into, const uint8_t *from,
                       struct weir_heap *heap) {
    int rc = WEIR_OK;
    memcpy(into, from, measures->value_bytes);
    for (int32_t m = 0; m < measures->count && measures->has_parts; m++) {
        const struct weir_measure_cell *cell = &measures->cells[m];
        if (!holds_bytes(cell)) {
            continue;
        }
        struct weir_part held;
        memcpy(&held, from + part_offset(cell), sizeof held);
        struct weir_part own = {0};
        if (held.bytes != NULL) {
            own.length = held.length;
            own.capacity = held.length > 0 ? held.length : 1;
            own.bytes = weir_heap_take(heap, own.capacity);
            if (own.bytes == NULL) {
                own = (struct weir_part){0};
                rc = WEIR_E_NOMEM; /* the rest is made whole, so that it may be released */
            } else {
                memcpy(own.bytes, held.bytes, held.length);
            }
        }
        memcpy(into + part_offset(cell), &own, sizeof own);
    }
    return rc;
}

static void codec_fini(void *context, void *value) {
    struct weir_measures *measures = context;
    weir_measures_release(measures, value, weir_table_heap(measures->table));
}

const struct weir_table_codec weir_measures_codec = {
    .encode = codec_encode,
    .decode = codec_decode,
    .fini = codec_fini,
};
