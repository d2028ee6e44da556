#include "decode/json_fast.h"

#include "core/time.h"

#if JSON_FAST

/* Row 1 + f: a hole f bytes before the end, where the point is. */
#define TAKE(k, row) (int8_t)((15 - (k)) < (row)-1 ? (k) : (k)-1)
#define ROW(row)                                                                                   \
    {                                                                                              \
        TAKE(0, row), TAKE(1, row), TAKE(2, row), TAKE(3, row), TAKE(4, row), TAKE(5, row),        \
            TAKE(6, row), TAKE(7, row), TAKE(8, row), TAKE(9, row), TAKE(10, row), TAKE(11, row),  \
            TAKE(12, row), TAKE(13, row), TAKE(14, row), TAKE(15, row)                             \
    }

const int8_t json_fast_shuffles[JSON_FAST_DIGITS + 1][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    ROW(1),
    ROW(2),
    ROW(3),
    ROW(4),
    ROW(5),
    ROW(6),
    ROW(7),
    ROW(8),
    ROW(9),
    ROW(10),
    ROW(11),
    ROW(12),
    ROW(13),
    ROW(14),
    ROW(15),
    ROW(16),
};

/* Where the 12 digits before the seconds lie; below 0: a zero. */
static const int8_t head_digits[16] = {-1, -1, -1, -1, 0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15};
/* Behind them: the seconds' and six of the fraction, of which there are row many. */
static const int8_t tail_digits[7][16] = {
#define TAIL -1, -1, -1, -1, -1, -1, -1, -1, 1, 2
    {TAIL, -1, -1, -1, -1, -1, -1}, {TAIL, 4, -1, -1, -1, -1, -1}, {TAIL, 4, 5, -1, -1, -1, -1},
    {TAIL, 4, 5, 6, -1, -1, -1},    {TAIL, 4, 5, 6, 7, -1, -1},    {TAIL, 4, 5, 6, 7, 8, -1},
    {TAIL, 4, 5, 6, 7, 8, 9},
#undef TAIL
};

static inline bool gather_digits(const uint8_t *text, const int8_t *places, uint64_t *value) {
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)text);
    __m128i from = _mm_loadu_si128((const __m128i *)(const void *)places);
    return json_fast_digits(
        _mm_blendv_epi8(_mm_shuffle_epi8(bytes, from), _mm_set1_epi8('0'), from), value);
}

bool json_fast_instant(const uint8_t *p, const uint8_t *end, int64_t *micros) {
    size_t length = (size_t)(end - p) - 1;
    size_t digits = length - 20 - (length > 20);
    uint64_t head;
    uint64_t tail;
    if (length < 20 || length == 21 || digits > 6 || end[-1] != '"' || end[-2] != 'Z' ||
        p[4] != '-' || p[7] != '-' || p[10] != 'T' || p[13] != ':' || p[16] != ':' ||
        (digits > 0 && p[19] != '.') || !gather_digits(p, head_digits, &head) ||
        !gather_digits(p + 16, tail_digits[digits], &tail)) {
        return false;
    }
    uint32_t minute = (uint32_t)(head % 100);
    uint32_t hour = (uint32_t)(head / 100 % 100);
    uint32_t day = (uint32_t)(head / 10000 % 100);
    uint32_t month = (uint32_t)(head / 1000000 % 100);
    uint32_t year = (uint32_t)(head / 100000000);
    uint32_t second = (uint32_t)(tail / 1000000);
    if (month - 1 > 11 || day - 1 >= (uint32_t)weir_days_in_month(year, (int32_t)month) ||
        hour > 23 || minute > 59 || second > 59 || year == 0) {
        return false;
    }
    int64_t days = weir_days_from_civil((int32_t)year, (int32_t)month, (int32_t)day);
    *micros = (days * 86400 + (hour * 60 + minute) * 60) * 1000000 + (int64_t)tail;
    return true;
}

#endif
