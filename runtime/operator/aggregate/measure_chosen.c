/* first, last, arg_max, arg_min: the value of one row, chosen by event time or by another column.
 * Of rows equal in that the one of least event time wins, then the first to arrive; for last the
 * last to arrive. What is chosen does not depend on the order in which panes or sessions are
 * joined. */
#include <math.h>

#include "operator/aggregate/measure_private.h"

bool weir_measure_chooses(enum weir_measure_kind kind) {
    return kind == WEIR_MEASURE_FIRST || kind == WEIR_MEASURE_LAST ||
           kind == WEIR_MEASURE_ARG_MAX || kind == WEIR_MEASURE_ARG_MIN;
}

/* Bits that compare as the doubles do; NaN above all. */
static int64_t double_order(double value) {
    int64_t bits;
    value = isnan(value) ? (double)NAN : value + 0.0;
    memcpy(&bits, &value, sizeof bits);
    if (isnan(value)) {
        return INT64_MAX;
    }
    return bits < 0 ? (int64_t)(~(uint64_t)bits ^ (UINT64_C(1) << 63)) : bits;
}

weir_int128 weir_chosen_order(const struct weir_column *column, int32_t row) {
    const void *in = column->values;
    switch (column->type) {
    case WEIR_TYPE_BOOL:
        return weir_bit_get(in, row);
    case WEIR_TYPE_INT8:
        return ((const int8_t *)in)[row];
    case WEIR_TYPE_INT16:
        return ((const int16_t *)in)[row];
    case WEIR_TYPE_INT32:
    case WEIR_TYPE_DATE:
        return ((const int32_t *)in)[row];
    case WEIR_TYPE_FLOAT:
        return double_order((double)((const float *)in)[row]);
    case WEIR_TYPE_DOUBLE:
        return double_order(((const double *)in)[row]);
    case WEIR_TYPE_DECIMAL:
        return weir_int128_load((const uint8_t *)in + (size_t)row * 16);
    default:
        return ((const int64_t *)in)[row];
    }
}

static int compare(weir_int128 a, weir_int128 b) {
    return (a > b) - (a < b);
}

/* Is (order, time), which came later, to be taken over what is held? */
static bool wins(enum weir_measure_kind kind, const struct weir_chosen *held, weir_int128 order,
                 int64_t time) {
    int by = compare(order, weir_int128_load(held->order));
    if (kind == WEIR_MEASURE_LAST) {
        return by >= 0;
    }
    by = kind == WEIR_MEASURE_ARG_MAX ? by : -by;
    return by > 0 || (by == 0 && time < held->time);
}

int weir_chosen_add(struct weir_measures *measures, int32_t m, const struct weir_measure_rows *rows,
                    const struct weir_column *input, const uint8_t *mask, struct weir_error *err) {
    const struct weir_measure_cell *cell = &measures->cells[m];
    struct weir_keys *keys = &measures->keys;
    if (weir_key_encode_columns(cell->member_key, &input, rows->rows, rows->count, 0, keys) !=
        WEIR_OK) {
        return weir_error_set(err, WEIR_E_NOMEM, "measure '%s': no memory", cell->measure.name);
    }
    FOR_EACH_VALUE({
        int64_t time = rows->times_us != NULL ? rows->times_us[row] : 0;
        if (rows->order != NULL && weir_column_is_null(rows->order, row)) {
            continue;
        }
        weir_int128 order = rows->order != NULL ? weir_chosen_order(rows->order, row) : time;
        struct weir_chosen held;
        memcpy(&held, value + cell->offset, sizeof held);
        if (is_present(value, m) && !wins(cell->measure.kind, &held, order, time)) {
            continue;
        }
        int rc =
            weir_measure_hold(measures, &held.value, (const char *)keys->bytes + keys->offsets[k],
                              keys->offsets[k + 1] - keys->offsets[k], err);
        if (rc != WEIR_OK) {
            return rc;
        }
        memcpy(held.order, &order, sizeof held.order);
        held.time = time;
        memcpy(value + cell->offset, &held, sizeof held);
        set_present(value, m);
    })
    return WEIR_OK;
}

bool weir_chosen_is_better(const struct weir_measure_cell *cell, const uint8_t *into,
                           const uint8_t *from) {
    struct weir_chosen a;
    struct weir_chosen b;
    memcpy(&a, into, sizeof a);
    memcpy(&b, from, sizeof b);
    return wins(cell->measure.kind, &a, weir_int128_load(b.order), b.time);
}

int weir_chosen_emit(const struct weir_measure_cell *cell, const uint8_t *value,
                     struct weir_column_builder *out, struct weir_error *err) {
    struct weir_chosen held;
    memcpy(&held, value + cell->offset, sizeof held);
    int rc = weir_key_decode(cell->member_key, held.value.bytes, held.value.length, out);
    return rc == WEIR_E_CORRUPT ? weir_error_set(err, rc, "measure '%s': its value does not parse",
                                                 cell->measure.name)
                                : rc;
}
