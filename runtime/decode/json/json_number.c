#include "decode/json/json_number.h"

#include <stddef.h>

enum { DIGITS_MAX = 38, EXPONENT_CLAMP = 100000000 };

const uint8_t json_number_ends[256] = {
    [0] = 1,   [' '] = 1, ['\t'] = 1, ['\r'] = 1, ['\n'] = 1,
    [','] = 1, [']'] = 1, ['}'] = 1,  ['"'] = 1, /* the quote ends a number inside a string */
};

#define E19 ((unsigned __int128)10000000000000000000u)
const unsigned __int128 json_power10[39] = {
    1,
    10,
    100,
    1000,
    10000,
    100000,
    1000000,
    10000000,
    100000000,
    1000000000,
    10000000000,
    100000000000,
    1000000000000,
    10000000000000,
    100000000000000,
    1000000000000000,
    10000000000000000,
    100000000000000000,
    1000000000000000000,
    E19,
    E19 * 10,
    E19 * 100,
    E19 * 1000,
    E19 * 10000,
    E19 * 100000,
    E19 * 1000000,
    E19 * 10000000,
    E19 * 100000000,
    E19 * 1000000000,
    E19 * 10000000000,
    E19 * 100000000000,
    E19 * 1000000000000,
    E19 * 10000000000000,
    E19 * 100000000000000,
    E19 * 1000000000000000,
    E19 * 10000000000000000,
    E19 * 100000000000000000,
    E19 * 1000000000000000000,
    E19 *E19,
};

const uint8_t *json_number_exponent(const uint8_t *p, bool negative, int32_t *exponent) {
    const uint8_t *digits = p;
    int32_t value = 0;
    for (; json_is_digit(*p); p++) {
        value = value < EXPONENT_CLAMP ? value * 10 + (*p - '0') : value;
    }
    *exponent = negative ? -value : value;
    return p == digits ? NULL : p;
}

void json_number_rescan(struct json_number *n) {
    unsigned __int128 m = 0;
    int64_t significant = 0;
    int64_t zeros = 0; /* held back: they count only when another digit follows */
    for (const uint8_t *p = n->begin + n->negative; json_is_digit(*p) || *p == '.'; p++) {
        if (*p == '.') {
            continue;
        }
        if (*p == '0') {
            zeros += significant > 0;
            continue;
        }
        significant += zeros + 1;
        if (significant > DIGITS_MAX) {
            n->wide = true;
            return;
        }
        m = m * json_power10[zeros + 1] + (unsigned)(*p - '0');
        zeros = 0;
    }
    /* n->exponent counts from the last digit; the mantissa now ends `zeros` digits earlier. */
    n->mantissa = m;
    n->exponent = (int32_t)(n->exponent + zeros);
}

bool json_number_scale_slow(const struct json_number *n, int32_t scale,
                            unsigned __int128 *magnitude) {
    if (n->wide) {
        return false;
    }
    unsigned __int128 m = n->mantissa;
    int64_t shift = (int64_t)n->exponent + scale;
    if (m == 0) {
        *magnitude = 0;
        return true;
    }
    for (; shift < 0; shift++) {
        if (m % 10 != 0) {
            return false;
        }
        m /= 10;
    }
    if (shift > DIGITS_MAX || (shift > 0 && m >= json_power10[DIGITS_MAX - shift])) {
        return false;
    }
    *magnitude = m * json_power10[shift];
    return true;
}

/* Clinger's fast path: an exact mantissa and an exact power of ten round once. */
bool json_number_double(const struct json_number *n, double *value) {
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    if (!n->wide && n->mantissa <= (1ull << 53) && n->exponent >= -22 && n->exponent <= 22) {
        double m = (double)(uint64_t)n->mantissa;
        m = n->exponent < 0 ? m / powers[-n->exponent] : m * powers[n->exponent];
        *value = n->negative ? -m : m;
        return true;
    }
    return weir_json_to_double((const char *)n->begin, (const char *)n->end, value);
}

bool json_number_float(const struct json_number *n, float *value) {
    return weir_json_to_float((const char *)n->begin, (const char *)n->end, value);
}
