/* variance and stddev of a sample. Of whole numbers and decimals of up to 18 digits from exact
 * sums: n and the sums of values and squares, put together in 256 bits and rounded once. Of others
 * by Welford's update and Chan's merge. */
#include <math.h>

#include "core/decimal.h"
#include "operator/aggregate/measure_private.h"

enum { NARROW_DIGITS = 18, LIMBS = 4 };

struct exact {
    int64_t count;
    uint64_t sum[2];
    struct weir_wide squares;
};

struct running {
    int64_t count;
    double mean;
    double squares; /* of differences from the mean */
};

static bool is_exact(const struct weir_measure *measure) {
    return is_int(measure->type) ||
           (measure->type == WEIR_TYPE_DECIMAL && measure->precision <= NARROW_DIGITS);
}

uint32_t weir_variance_bytes(const struct weir_measure *measure) {
    return is_exact(measure) ? sizeof(struct exact) : sizeof(struct running);
}

static weir_int128 whole(const struct weir_column *column, int32_t row) {
    return column->type == WEIR_TYPE_DECIMAL
               ? weir_int128_load((const uint8_t *)column->values + (size_t)row * 16)
               : weir_column_int(column, row);
}

static double real(const struct weir_measure_cell *cell, const struct weir_column *column,
                   int32_t row) {
    if (column->type == WEIR_TYPE_FLOAT) {
        return (double)((const float *)column->values)[row];
    }
    if (column->type == WEIR_TYPE_DOUBLE) {
        return ((const double *)column->values)[row];
    }
    return (double)((long double)whole(column, row) /
                    (long double)weir_decimal_power10(cell->measure.scale));
}

void weir_variance_add(const struct weir_measure_cell *cell, const struct weir_measure_rows *rows,
                       const struct weir_column *input, const uint8_t *mask) {
    if (is_exact(&cell->measure)) {
        FOR_EACH_VALUE({
            struct exact held;
            memcpy(&held, value + cell->offset, sizeof held);
            weir_int128 one = whole(input, row);
            weir_int128 square = one * one;
            weir_uint128 sum = (weir_uint128)weir_int128_load(held.sum) +
                               (weir_uint128)(rows->take_back ? -one : one);
            memcpy(held.sum, &sum, sizeof held.sum);
            weir_wide_add(&held.squares, rows->take_back ? -square : square);
            held.count += rows->take_back ? -1 : 1;
            memcpy(value + cell->offset, &held, sizeof held);
        })
        return;
    }
    FOR_EACH_VALUE({
        struct running held;
        memcpy(&held, value + cell->offset, sizeof held);
        double one = real(cell, input, row);
        double away = one - held.mean;
        held.count++;
        held.mean += away / (double)held.count;
        held.squares += away * (one - held.mean);
        memcpy(value + cell->offset, &held, sizeof held);
    })
}

void weir_variance_merge(const struct weir_measure_cell *cell, uint8_t *into, const uint8_t *from) {
    if (is_exact(&cell->measure)) {
        struct exact a;
        struct exact b;
        memcpy(&a, into, sizeof a);
        memcpy(&b, from, sizeof b);
        weir_uint128 sum =
            (weir_uint128)weir_int128_load(a.sum) + (weir_uint128)weir_int128_load(b.sum);
        memcpy(a.sum, &sum, sizeof a.sum);
        weir_wide_merge(&a.squares, &b.squares);
        a.count += b.count;
        memcpy(into, &a, sizeof a);
        return;
    }
    struct running a;
    struct running b;
    memcpy(&a, into, sizeof a);
    memcpy(&b, from, sizeof b);
    if (b.count == 0) {
        return;
    }
    double away = b.mean - a.mean;
    double count = (double)a.count + (double)b.count;
    a.squares += b.squares + away * away * ((double)a.count * (double)b.count / count);
    a.mean += away * ((double)b.count / count);
    a.count += b.count;
    memcpy(into, &a, sizeof a);
}

/* out = a * b, without sign. */
static void multiply(const uint64_t *a, int a_limbs, const uint64_t *b, int b_limbs,
                     uint64_t *out) {
    memset(out, 0, LIMBS * sizeof *out);
    for (int i = 0; i < a_limbs; i++) {
        uint64_t carry = 0;
        for (int j = 0; j < b_limbs && i + j < LIMBS; j++) {
            weir_uint128 part = (weir_uint128)a[i] * b[j] + out[i + j] + carry;
            out[i + j] = (uint64_t)part;
            carry = (uint64_t)(part >> 64);
        }
        if (i + b_limbs < LIMBS) {
            out[i + b_limbs] = carry;
        }
    }
}

/* count * squares - sum * sum, which is not negative. */
static long double spread(const struct exact *held) {
    uint64_t count = (uint64_t)held->count;
    weir_int128 sum = weir_int128_load(held->sum);
    weir_uint128 size = sum < 0 ? -(weir_uint128)sum : (weir_uint128)sum;
    uint64_t limbs[2] = {(uint64_t)size, (uint64_t)(size >> 64)};
    uint64_t a[LIMBS];
    uint64_t b[LIMBS];
    multiply(&count, 1, held->squares.limbs, 3, a);
    multiply(limbs, 2, limbs, 2, b);
    long double result = 0;
    uint64_t borrow = 0;
    for (int i = 0; i < LIMBS; i++) {
        weir_uint128 part = (weir_uint128)a[i] - b[i] - borrow;
        a[i] = (uint64_t)part;
        borrow = (uint64_t)(part >> 64) & 1;
    }
    for (int i = LIMBS - 1; i >= 0; i--) {
        result = result * 0x1p64L + (long double)a[i];
    }
    return result;
}

int weir_variance_emit(const struct weir_measure_cell *cell, const uint8_t *value,
                       struct weir_column_builder *out) {
    long double variance;
    if (is_exact(&cell->measure)) {
        struct exact held;
        memcpy(&held, value + cell->offset, sizeof held);
        if (held.count < 2) {
            return weir_builder_null(out);
        }
        long double unit = cell->measure.type == WEIR_TYPE_DECIMAL
                               ? (long double)weir_decimal_power10(cell->measure.scale)
                               : 1;
        variance =
            spread(&held) / (long double)held.count / (long double)(held.count - 1) / unit / unit;
    } else {
        struct running held;
        memcpy(&held, value + cell->offset, sizeof held);
        if (held.count < 2) {
            return weir_builder_null(out);
        }
        variance = (long double)held.squares / (long double)(held.count - 1);
    }
    return weir_builder_double(
        out, (double)(cell->measure.kind == WEIR_MEASURE_STDDEV ? sqrtl(variance) : variance));
}
