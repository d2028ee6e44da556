#include "decode/json_fast.h"

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

#endif
