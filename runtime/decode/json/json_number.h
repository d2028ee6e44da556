#pragma once
/* Number text by exact value: mantissa × 10^exponent, up to 38 significant digits, never through a
 * double. Inline: these run once or more an event. */
#include <stdbool.h>
#include <stdint.h>

#include "abi/abi.h"
#include "decode/json/json_index.h"

struct json_number {
    unsigned __int128 mantissa;
    int32_t exponent;
    bool negative;
    bool wide;            /* more than 38 significant digits: mantissa is meaningless */
    const uint8_t *begin; /* the text */
    const uint8_t *end;
};

extern const uint8_t json_number_ends[256]; /* bytes that may follow a number */
extern const unsigned __int128 json_power10[39];

/* Digits of more than 64 bits, or with zeros that a 64-bit mantissa need not hold. */
void json_number_rescan(struct json_number *n);
/* Reads an exponent's digits at p (after e and sign); NULL when there are none. Clamps. */
const uint8_t *json_number_exponent(const uint8_t *p, bool negative, int32_t *exponent);

static inline bool json_is_digit(uint8_t c) {
    return (uint8_t)(c - '0') < 10;
}

/* False when the text at `p` is not a JSON number followed by a byte that may follow one. */
static inline bool json_number_read(const uint8_t *p, struct json_number *n) {
    uint64_t m = 0;
    n->begin = p;
    n->negative = *p == '-';
    p += n->negative;
    const uint8_t *digits = p;
    while (json_is_digit(*p)) {
        m = m * 10 + (uint64_t)(*p++ - '0');
    }
    int64_t count = p - digits;
    if (count == 0 || (*digits == '0' && count > 1)) {
        return false;
    }
    int32_t exponent = 0;
    if (*p == '.') {
        const uint8_t *fraction = ++p;
        while (json_is_digit(*p)) {
            m = m * 10 + (uint64_t)(*p++ - '0');
        }
        if (p == fraction) {
            return false;
        }
        count += p - fraction;
        exponent = (int32_t)(fraction - p);
    }
    if (__builtin_expect((*p | 0x20) == 'e', 0)) {
        bool minus = p[1] == '-';
        int32_t power;
        p = json_number_exponent(p + 1 + (minus || p[1] == '+'), minus, &power);
        if (p == NULL) {
            return false;
        }
        exponent += power;
    }
    n->end = p;
    n->mantissa = m;
    n->exponent = exponent;
    n->wide = false;
    if (__builtin_expect(count > 19, 0)) {
        json_number_rescan(n);
    }
    return json_number_ends[*p];
}

/* value × 10^scale as an integer of at most 38 digits; false when it is not one. */
bool json_number_scale_slow(const struct json_number *n, int32_t scale,
                            unsigned __int128 *magnitude);

static inline bool json_number_scaled(const struct json_number *n, int32_t scale,
                                      unsigned __int128 *magnitude) {
    int32_t shift = n->exponent + scale;
    if (__builtin_expect(shift >= 0 && shift < 20 && !n->wide && n->mantissa >> 64 == 0, 1)) {
        *magnitude = (unsigned __int128)(uint64_t)n->mantissa * (uint64_t)json_power10[shift];
        return true;
    }
    return json_number_scale_slow(n, scale, magnitude);
}

/* The exact value as an int64; false when it has a fraction or does not fit. */
static inline bool json_number_int64(const struct json_number *n, int64_t *value) {
    unsigned __int128 magnitude;
    if (!json_number_scaled(n, 0, &magnitude) ||
        magnitude > (unsigned __int128)INT64_MAX + n->negative) {
        return false;
    }
    *value = n->negative ? (int64_t)(0 - (uint64_t)magnitude) : (int64_t)magnitude;
    return true;
}

static inline bool json_number_decimal(const struct json_number *n, uint8_t precision, int8_t scale,
                                       unsigned __int128 *value) {
    unsigned __int128 magnitude;
    if (!json_number_scaled(n, scale, &magnitude) || magnitude >= json_power10[precision]) {
        return false;
    }
    *value = n->negative ? 0 - magnitude : magnitude;
    return true;
}

/* False on overflow. */
bool json_number_double(const struct json_number *n, double *value);
bool json_number_float(const struct json_number *n, float *value);
