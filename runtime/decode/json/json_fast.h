#pragma once
/* Numbers, strings and keys whose end the structural index already tells: a short value that runs
 * up to the next structural byte is taken with a few vector instructions and no branch on its
 * length, which no predictor could guess. Everything else (white space, signs of exponents,
 * escapes, long values) returns false and takes the general way: nothing is rejected here.
 *
 * Reads up to 32 bytes from the value on: within WEIR_DECODE_PADDING. Private to the JSON decoder.
 */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX2__)
#include <immintrin.h>
#define JSON_FAST 1
#else
#define JSON_FAST 0
#endif

enum { JSON_FAST_BYTES = 32, JSON_FAST_DIGITS = 16, JSON_FAST_MINUTE = 16 };

struct json_fast_number {
    uint64_t digits;   /* without the point */
    uint32_t fraction; /* of them behind the point */
    bool negative;
};

/* The last minute a field's instants lay in: the next most often lies in the same. */
struct json_fast_minute {
    uint8_t text[JSON_FAST_MINUTE]; /* "2026-01-05T10:00"; zeros: none yet */
    int64_t micros;
};

#if JSON_FAST

/* json_fast_shuffles[1 + f] gathers a number with f digits behind its point, right-aligned in 16
 * bytes, from text right-aligned in 16 bytes; [0]: one without a point. */
extern const int8_t json_fast_shuffles[JSON_FAST_DIGITS + 1][16];

/* The 16 digits of `bytes`, most significant first. False when one of them is not a digit. */
static inline bool json_fast_digits(__m128i bytes, uint64_t *value) {
    __m128i digits = _mm_sub_epi8(bytes, _mm_set1_epi8('0'));
    __m128i nine = _mm_set1_epi8(9);
    bool good = _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_max_epu8(digits, nine), nine)) == 0xffff;
    const __m128i tens = _mm_set1_epi16(0x010a);
    const __m128i hundreds = _mm_set1_epi32(0x00010064);
    const __m128i myriads = _mm_set1_epi32(0x00012710);
    __m128i pairs = _mm_maddubs_epi16(digits, tens);
    __m128i fours = _mm_madd_epi16(pairs, hundreds);
    __m128i eights = _mm_madd_epi16(_mm_packus_epi32(fours, fours), myriads);
    uint64_t halves = (uint64_t)_mm_cvtsi128_si64(eights);
    *value = (halves & UINT32_MAX) * 100000000 + (halves >> 32);
    return good;
}

/* The number at `p`, whose next structural byte is at `end`. */
static inline bool json_fast_number(const uint8_t *p, const uint8_t *end,
                                    struct json_fast_number *out) {
    bool negative = *p == '-';
    p += negative;
    uint64_t length = (uint64_t)(end - p);
    if (length - 1 >= JSON_FAST_DIGITS || (*end & 0x2c) != 0x2c) { /* a comma or } */
        return false;
    }
    __m128i text = _mm_loadu_si128((const __m128i *)(const void *)p);
    uint32_t points = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(text, _mm_set1_epi8('.')));
    uint32_t whole = (uint32_t)__builtin_ctz(points | 1u << length); /* digits before the point */
    uint32_t behind = (uint32_t)length - whole;                      /* 0: no point, else 1 + f */
    __m128i from = _mm_loadu_si128((const __m128i *)(const void *)json_fast_shuffles[behind]);
    from = _mm_sub_epi8(from, _mm_set1_epi8((char)(16 - length)));
    __m128i gathered = _mm_blendv_epi8(_mm_shuffle_epi8(text, from), _mm_set1_epi8('0'), from);
    out->negative = negative;
    out->fraction = behind - (behind != 0);
    bool good = json_fast_digits(gathered, &out->digits);
    /* A digit on each side of a point, no leading zero. */
    return good & (whole != 0) & (behind != 1) & !((*p == '0') & (whole > 1));
}

/* Where the digits of the seconds and of their fraction lie behind "2026-01-05T10:00", of which
 * [f] has f; below 0: a zero. */
extern const int8_t json_fast_seconds[7][16];

/* Reads a minute that is not the last one. */
bool json_fast_new_minute(const uint8_t *p, struct json_fast_minute *minute);

/* The instant in UTC whose text begins at `p`, in microseconds: "2026-01-05T10:00:00Z", or with one
 * to six digits behind a point. */
static inline bool json_fast_instant(const uint8_t *p, const uint8_t *end,
                                     struct json_fast_minute *minute, int64_t *micros) {
    size_t length = (size_t)(end - p) - 1;
    size_t digits = length - 20 - (length > 20);
    if (length < 20 || length == 21 || digits > 6 || end[-1] != '"' || end[-2] != 'Z' ||
        p[16] != ':' || (digits > 0 && p[19] != '.')) {
        return false;
    }
    __m128i text = _mm_loadu_si128((const __m128i *)(const void *)p);
    __m128i last = _mm_loadu_si128((const __m128i *)(const void *)minute->text);
    if (_mm_movemask_epi8(_mm_cmpeq_epi8(text, last)) != 0xffff &&
        !json_fast_new_minute(p, minute)) {
        return false;
    }
    __m128i tail = _mm_loadu_si128((const __m128i *)(const void *)(p + JSON_FAST_MINUTE));
    __m128i from = _mm_loadu_si128((const __m128i *)(const void *)json_fast_seconds[digits]);
    uint64_t behind;
    tail = _mm_blendv_epi8(_mm_shuffle_epi8(tail, from), _mm_set1_epi8('0'), from);
    bool good = json_fast_digits(tail, &behind);
    *micros = minute->micros + (int64_t)behind;
    return good & (behind < 60000000);
}

/* Copies the string whose text begins at `p` and whose next structural byte is at `end`. Writes
 * JSON_FAST_BYTES. */
static inline bool json_fast_string(const uint8_t *p, const uint8_t *end, uint8_t *to,
                                    size_t *length) {
    size_t size = (size_t)(end - p) - 1;
    if (size > JSON_FAST_BYTES - 1 || end[-1] != '"') {
        return false;
    }
    __m256i text = _mm256_loadu_si256((const __m256i *)(const void *)p);
    uint32_t slashes =
        (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(text, _mm256_set1_epi8('\\')));
    if ((slashes & ((1u << size) - 1)) != 0) {
        return false;
    }
    _mm256_storeu_si256((__m256i *)(void *)to, text);
    *length = size;
    return true;
}

/* Is the string whose text begins at `p` without escapes? Where `copies` says so, a constant, it
 * is written to `to`. */
static inline bool json_fast_scan(const uint8_t *p, const uint8_t *end, uint8_t *to, bool copies) {
    size_t size = (size_t)(end - p) - 1;
    __m256i slash = _mm256_set1_epi8('\\');
    if (end[-1] != '"') {
        return false;
    }
    for (size_t i = 0; i < size; i += JSON_FAST_BYTES) {
        __m256i text = _mm256_loadu_si256((const __m256i *)(const void *)(p + i));
        uint32_t slashes = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(text, slash));
        if (copies) {
            _mm256_storeu_si256((__m256i *)(void *)(to + i), text);
        }
        if (slashes != 0 && i + (uint32_t)__builtin_ctz(slashes) < size) {
            return false;
        }
    }
    return true;
}

/* json_fast_string of any length: writes up to JSON_FAST_BYTES more than it has. */
static inline bool json_fast_text(const uint8_t *p, const uint8_t *end, uint8_t *to,
                                  size_t *length) {
    *length = (size_t)(end - p) - 1;
    return json_fast_scan(p, end, to, true);
}

static inline bool json_fast_plain(const uint8_t *p, const uint8_t *end) {
    return json_fast_scan(p, end, NULL, false);
}

/* Is the value at `p` a whole number in digits, as JSON writes them? */
static inline bool json_fast_is_digits(const uint8_t *p, const uint8_t *end) {
    p += *p == '-';
    uint64_t length = (uint64_t)(end - p);
    if (length - 1 >= JSON_FAST_DIGITS || (*end & 0x2c) != 0x2c) { /* a comma or } */
        return false;
    }
    __m128i digits =
        _mm_sub_epi8(_mm_loadu_si128((const __m128i *)(const void *)p), _mm_set1_epi8('0'));
    __m128i nine = _mm_set1_epi8(9);
    uint32_t good = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_max_epu8(digits, nine), nine));
    return (~good & ((1u << length) - 1)) == 0 && !((*p == '0') & (length > 1));
}

/* Do the first `length` bytes (1 to 31) at `p` equal `match`, which has JSON_FAST_BYTES? */
static inline bool json_fast_equal(const uint8_t *p, const uint8_t *match, uint32_t length) {
    __m256i text = _mm256_loadu_si256((const __m256i *)(const void *)p);
    __m256i want = _mm256_loadu_si256((const __m256i *)(const void *)match);
    uint32_t differ = ~(uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(text, want));
    return (differ & ((1u << length) - 1)) == 0;
}

#endif
