/* int64 and double functions of abi/native.h: checked instead of wrapping, and doubles through one
 * C function each, because LuaJIT's interpreter and its compiler do not agree on the last bit of
 * x ^ 2. A NaN that reaches Lua must be LuaJIT's own: other patterns are its tagged values. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/decimal.h"

int weir_int64_add(struct weir_int64 *out, int64_t a, int64_t b) {
    int64_t v;
    if (__builtin_add_overflow(a, b, &v)) {
        return WEIR_NUMBER_OVERFLOW;
    }
    out->v = v;
    return WEIR_NUMBER_OK;
}

int weir_int64_sub(struct weir_int64 *out, int64_t a, int64_t b) {
    int64_t v;
    if (__builtin_sub_overflow(a, b, &v)) {
        return WEIR_NUMBER_OVERFLOW;
    }
    out->v = v;
    return WEIR_NUMBER_OK;
}

int weir_int64_mul(struct weir_int64 *out, int64_t a, int64_t b) {
    int64_t v;
    if (__builtin_mul_overflow(a, b, &v)) {
        return WEIR_NUMBER_OVERFLOW;
    }
    out->v = v;
    return WEIR_NUMBER_OK;
}

int weir_int64_idiv(struct weir_int64 *out, int64_t a, int64_t b) {
    if (b == 0) {
        return WEIR_NUMBER_DIVIDE;
    }
    if (a == INT64_MIN && b == -1) {
        return WEIR_NUMBER_OVERFLOW;
    }
    out->v = a / b;
    return WEIR_NUMBER_OK;
}

int weir_int64_mod(struct weir_int64 *out, int64_t a, int64_t b) {
    if (b == 0) {
        return WEIR_NUMBER_DIVIDE;
    }
    if (b == -1) {
        out->v = 0;
        return WEIR_NUMBER_OK;
    }
    int64_t r = a % b;
    out->v = r != 0 && (r < 0) != (b < 0) ? r + b : r;
    return WEIR_NUMBER_OK;
}

int weir_int64_compare_double(int64_t a, double b) {
    if (isnan(b) || b >= 0x1p63) {
        return -1;
    }
    if (b < -0x1p63) {
        return 1;
    }
    double whole = floor(b);
    int64_t low = (int64_t)whole;
    if (a != low) {
        return a < low ? -1 : 1;
    }
    return b > whole ? -1 : 0;
}

int weir_int64_from_text(struct weir_int64 *out, const char *text, int64_t length) {
    int64_t i = 0;
    bool is_negative = length > 0 && text[0] == '-';
    if (length > 0 && (text[0] == '-' || text[0] == '+')) {
        i++;
    }
    if (i == length) {
        return WEIR_NUMBER_SYNTAX;
    }
    int64_t v = 0;
    bool is_too_large = false;
    for (; i < length; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return WEIR_NUMBER_SYNTAX;
        }
        int digit = text[i] - '0';
        is_too_large |= __builtin_mul_overflow(v, 10, &v) ||
                        __builtin_add_overflow(v, is_negative ? -digit : digit, &v);
    }
    if (is_too_large) {
        return WEIR_NUMBER_OVERFLOW;
    }
    out->v = v;
    return WEIR_NUMBER_OK;
}

int weir_int64_to_text(int64_t value, char *buffer) {
    char digits[24];
    int count = 0;
    int n = 0;
    uint64_t m = value < 0 ? -(uint64_t)value : (uint64_t)value;
    do {
        digits[count++] = (char)('0' + m % 10);
        m /= 10;
    } while (m > 0);
    if (value < 0) {
        buffer[n++] = '-';
    }
    while (count > 0) {
        buffer[n++] = digits[--count];
    }
    buffer[n] = '\0';
    return n;
}

/* --- doubles -------------------------------------------------------------------------------- */

double weir_math_canonical(double x) {
    if (x == x) {
        return x;
    }
    uint64_t bits = 0xfff8000000000000u;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

#define UNARY(name)                                                                                \
    double weir_math_##name(double x) {                                                            \
        return weir_math_canonical(name(x));                                                       \
    }
#define BINARY(name)                                                                               \
    double weir_math_##name(double x, double y) {                                                  \
        return weir_math_canonical(name(x, y));                                                    \
    }

UNARY(exp)
UNARY(log)
UNARY(log10)
UNARY(sin)
UNARY(cos)
UNARY(tan)
UNARY(asin)
UNARY(acos)
UNARY(atan)
UNARY(sinh)
UNARY(cosh)
UNARY(tanh)
UNARY(sqrt)
BINARY(pow)
BINARY(atan2)
BINARY(fmod)

double weir_math_round(double x, int32_t digits) {
    struct weir_decimal128 d;
    if (weir_decimal_from_double(&d, x) != WEIR_NUMBER_OK ||
        weir_decimal_round(&d, &d, digits) != WEIR_NUMBER_OK) {
        /* NaN, infinity, or beyond 38 digits: nothing below the point there, or nothing above. */
        return fabs(x) < 1 && digits <= 30 ? copysign(0, x) : weir_math_canonical(x);
    }
    return weir_decimal_to_double(&d);
}

int weir_double_to_text(double x, char *buffer) {
    if (isnan(x)) {
        return snprintf(buffer, 32, "nan");
    }
    if (isinf(x)) {
        return snprintf(buffer, 32, x > 0 ? "inf" : "-inf");
    }
    int n = 0;
    for (int digits = 15; digits <= 17; digits++) {
        n = snprintf(buffer, 32, "%.*g", digits, x);
        if (strtod(buffer, NULL) == x) {
            break;
        }
    }
    return n;
}

/* --- values the runtime provides ------------------------------------------------------------ */

static int64_t clock_us;
static uint64_t random_state;

void weir_native_set_clock(int64_t now_us) {
    clock_us = now_us;
}

void weir_native_set_seed(uint64_t seed) {
    random_state = seed;
}

int64_t weir_native_now_us(void) {
    return clock_us;
}

/* splitmix64 (Steele, Lea, Flood 2014): one word of state, so that a record can hold it. */
double weir_native_random(void) {
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return (double)(z >> 11) * 0x1p-53;
}
