#pragma once
/* 192-bit two's complement sums: 2^64 values of 38 digits cannot overflow them, so a decimal sum
 * may leave its range on the way as long as it ends inside it. */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

typedef __int128 weir_int128;
typedef unsigned __int128 weir_uint128;

struct weir_wide {
    uint64_t limbs[3]; /* least significant first */
};

static inline weir_int128 weir_int128_load(const void *at) {
    weir_int128 value;
    memcpy(&value, at, sizeof value);
    return value;
}

static inline void weir_wide_add(struct weir_wide *sum, weir_int128 value) {
    weir_uint128 low = ((weir_uint128)sum->limbs[1] << 64) | sum->limbs[0];
    weir_uint128 added = low + (weir_uint128)value;
    uint64_t carry = added < low;
    sum->limbs[0] = (uint64_t)added;
    sum->limbs[1] = (uint64_t)(added >> 64);
    sum->limbs[2] += (value < 0 ? UINT64_MAX : 0) + carry;
}

static inline void weir_wide_merge(struct weir_wide *sum, const struct weir_wide *by) {
    uint64_t carry = 0;
    for (int i = 0; i < 3; i++) {
        weir_uint128 part = (weir_uint128)sum->limbs[i] + by->limbs[i] + carry;
        sum->limbs[i] = (uint64_t)part;
        carry = (uint64_t)(part >> 64);
    }
}

static inline struct weir_wide weir_wide_from(weir_int128 value) {
    weir_uint128 bits = (weir_uint128)value;
    return (struct weir_wide){{(uint64_t)bits, (uint64_t)(bits >> 64), value < 0 ? UINT64_MAX : 0}};
}

/* False when the sum needs more than 128 bits. */
static inline bool weir_wide_to(const struct weir_wide *sum, weir_int128 *value) {
    weir_uint128 low = ((weir_uint128)sum->limbs[1] << 64) | sum->limbs[0];
    *value = (weir_int128)low;
    return sum->limbs[2] == (*value < 0 ? UINT64_MAX : 0);
}

/* |value| < 10^digits */
bool weir_int128_fits(weir_int128 value, int digits);
/* sum / count * 10^shift, rounded half to even; count > 0, shift <= 18. False when it does not fit
 * 38 digits. */
bool weir_wide_average(const struct weir_wide *sum, uint64_t count, int shift,
                       weir_int128 *average);
