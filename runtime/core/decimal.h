#pragma once
/* Exact decimals: a 128-bit two's complement integer and a scale, at most 38 digits. The functions
 * are declared in abi/native.h, since LuaJIT calls them too; this header adds what only C uses.
 * Pure functions, any thread. */
#include <stdbool.h>

#include "abi/abi.h"

static inline __int128 weir_decimal_unscaled(const struct weir_decimal128 *a) {
    return (__int128)(((unsigned __int128)(uint64_t)a->hi << 64) | a->lo);
}

static inline void weir_decimal_set(struct weir_decimal128 *out, __int128 unscaled, int32_t scale) {
    out->lo = (uint64_t)unscaled;
    out->hi = (int64_t)(unscaled >> 64);
    out->scale = scale;
}

/* 10^n, 0 <= n <= 38. */
__int128 weir_decimal_power10(int32_t n);

/* What weir_native_now_us and weir_native_random answer. Loop thread only. */
void weir_native_set_clock(int64_t now_us);
void weir_native_set_seed(uint64_t seed);
