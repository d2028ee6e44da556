#include "decode/json/json_fast.h"

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
const int8_t json_fast_seconds[7][16] = {
#define TAIL -1, -1, -1, -1, -1, -1, -1, -1, 1, 2
    {TAIL, -1, -1, -1, -1, -1, -1}, {TAIL, 4, -1, -1, -1, -1, -1}, {TAIL, 4, 5, -1, -1, -1, -1},
    {TAIL, 4, 5, 6, -1, -1, -1},    {TAIL, 4, 5, 6, 7, -1, -1},    {TAIL, 4, 5, 6, 7, 8, -1},
    {TAIL, 4, 5, 6, 7, 8, 9},
#undef TAIL
};

bool json_fast_new_minute(const uint8_t *p, struct json_fast_minute *minute) {
    __m128i text = _mm_loadu_si128((const __m128i *)(const void *)p);
    __m128i from = _mm_loadu_si128((const __m128i *)(const void *)head_digits);
    uint64_t head;
    text = _mm_blendv_epi8(_mm_shuffle_epi8(text, from), _mm_set1_epi8('0'), from);
    if (p[4] != '-' || p[7] != '-' || p[10] != 'T' || p[13] != ':' ||
        !json_fast_digits(text, &head)) {
        return false;
    }
    uint32_t at = (uint32_t)(head % 100);
    uint32_t hour = (uint32_t)(head / 100 % 100);
    uint32_t day = (uint32_t)(head / 10000 % 100);
    uint32_t month = (uint32_t)(head / 1000000 % 100);
    uint32_t year = (uint32_t)(head / 100000000);
    if (month - 1 > 11 || day - 1 >= (uint32_t)weir_days_in_month(year, (int32_t)month) ||
        hour > 23 || at > 59 || year == 0) {
        return false;
    }
    int64_t days = weir_days_from_civil((int32_t)year, (int32_t)month, (int32_t)day);
    minute->micros = (days * 86400 + (hour * 60 + at) * 60) * 1000000;
    memcpy(minute->text, p, JSON_FAST_MINUTE);
    return true;
}

#endif
