/* min, max: the best value in the slot, texts as parts; those whose rows may be taken back get it
 * from their members (members.h). */
#include <math.h>

#include "operator/aggregate/measure_private.h"

uint32_t weir_extreme_bytes(uint8_t type) {
    return weir_type_is_bytes(type) || type == WEIR_TYPE_DECIMAL ? 16 : 8;
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

static void add_fixed(const struct weir_measure_cell *cell, int32_t m,
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

static int hold_bytes(struct weir_measures *measures, const struct weir_measure_cell *cell,
                      uint8_t *value, const char *bytes, uint32_t length, struct weir_error *err) {
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
        int rc = hold_bytes(measures, cell, value, bytes, (uint32_t)length, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        set_present(value, m);
    })
    return WEIR_OK;
}

int weir_extreme_add(struct weir_measures *measures, int32_t m,
                     const struct weir_measure_rows *rows, const struct weir_column *input,
                     const uint8_t *mask, struct weir_error *err) {
    const struct weir_measure_cell *cell = &measures->cells[m];
    if (weir_type_is_bytes(cell->measure.type)) {
        return add_bytes(measures, m, rows, input, mask, err);
    }
    add_fixed(cell, m, rows, input, mask);
    return WEIR_OK;
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

/* Equals stay: the earlier one is kept. */
bool weir_extreme_is_better(const struct weir_measure_cell *cell, const uint8_t *into,
                            const uint8_t *from) {
    return compare_held(cell, into, from) > 0;
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
    (void)weir_measure_take_varint(&at, key + length, size);
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
    return hold_bytes(measures, cell, value, text, size, err);
}

int weir_extreme_emit(const struct weir_measure_cell *cell, const uint8_t *value,
                      struct weir_column_builder *out) {
    const uint8_t *at = value + weir_extreme_offset(cell);
    if (weir_type_is_bytes(cell->measure.type)) {
        struct weir_part held;
        memcpy(&held, at, sizeof held);
        return weir_builder_bytes(out, held.bytes, held.length);
    }
    if (cell->measure.type == WEIR_TYPE_DECIMAL) {
        return weir_measure_decimal(out, weir_int128_load(at));
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
