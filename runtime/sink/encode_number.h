#pragma once
/* Numbers as text. Each writes at `at`, which has room for the most that is said, and returns the
 * end. */
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { ENCODE_INT_BYTES = 20, ENCODE_DOUBLE_BYTES = 32, ENCODE_DECIMAL_BYTES = 42 };

/* The shortest digits that read back as the same number. Finite. */
char *weir_encode_double(char *at, double value);
char *weir_encode_float(char *at, float value);

#ifdef __cplusplus
}
#endif

extern const char weir_encode_pairs[201]; /* "00" to "99" */

static inline char *weir_encode_pair(char *at, uint32_t two) {
    at[0] = weir_encode_pairs[2 * two];
    at[1] = weir_encode_pairs[2 * two + 1];
    return at + 2;
}

static inline char *weir_encode_uint(char *at, uint64_t value) {
    char digits[ENCODE_INT_BYTES];
    int from = ENCODE_INT_BYTES;
    while (value >= 100) {
        uint32_t two = (uint32_t)(value % 100);
        value /= 100;
        from -= 2;
        digits[from] = weir_encode_pairs[2 * two];
        digits[from + 1] = weir_encode_pairs[2 * two + 1];
    }
    if (value >= 10) {
        from -= 2;
        digits[from] = weir_encode_pairs[2 * value];
        digits[from + 1] = weir_encode_pairs[2 * value + 1];
    } else {
        digits[--from] = (char)('0' + value);
    }
    while (from < ENCODE_INT_BYTES) {
        *at++ = digits[from++];
    }
    return at;
}

static inline char *weir_encode_int(char *at, int64_t value) {
    if (value < 0) {
        *at++ = '-';
        return weir_encode_uint(at, -(uint64_t)value);
    }
    return weir_encode_uint(at, (uint64_t)value);
}
