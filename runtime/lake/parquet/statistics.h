#pragma once
/* Bounds and counts of one leaf column, exact, for a chunk (footer) or a file (Delta stats).
 * Ordering by the Parquet spec: signed for numbers, decimals and times; unsigned bytes for strings;
 * NaN left out and flagged; zero bounds carry the sign that widens. */
#include <stdbool.h>
#include <stdint.h>

#include "core/buffer.h"

enum parquet_store {                     /* how a leaf's values are staged and stored */
                     PARQUET_STORE_BOOL, /* one byte each while staged */
                     PARQUET_STORE_I32,
                     PARQUET_STORE_I64,
                     PARQUET_STORE_F32,
                     PARQUET_STORE_F64,
                     PARQUET_STORE_FIXED, /* big-endian two's complement decimals */
                     PARQUET_STORE_BYTES,
};

enum { PARQUET_STAT_BYTES_MAX = 65536, PARQUET_FOOTER_STAT_BYTES = 64 };

struct parquet_statistics {
    int64_t value_count; /* entries, nulls included */
    int64_t null_count;
    bool set;
    bool has_nan;
    bool too_long;   /* a bound passed PARQUET_STAT_BYTES_MAX: no bounds */
    int64_t min_int; /* bool, integers, times, decimals up to 18 digits */
    int64_t max_int;
    double min_double; /* float and double */
    double max_double;
    __int128 min_wide; /* FIXED */
    __int128 max_wide;
    struct weir_buffer min_bytes;
    struct weir_buffer max_bytes;
};

void parquet_statistics_init(struct parquet_statistics *statistics);
void parquet_statistics_fini(struct parquet_statistics *statistics);
void parquet_statistics_clear(struct parquet_statistics *statistics);
/* Takes in n staged values of fixed width. */
void parquet_statistics_add_fixed(struct parquet_statistics *statistics, enum parquet_store store,
                                  int32_t width, const void *values, int64_t n);
/* Takes in n byte strings that lie one after another; PARQUET_SLACK readable bytes after them. */
int parquet_statistics_add_bytes(struct parquet_statistics *statistics, const uint8_t *bytes,
                                 const int32_t *lengths, int64_t n) WEIR_MUST_CHECK;
int parquet_statistics_add_one(struct parquet_statistics *statistics, const uint8_t *bytes,
                               size_t size) WEIR_MUST_CHECK;
int parquet_statistics_merge(struct parquet_statistics *into, enum parquet_store store,
                             const struct parquet_statistics *from) WEIR_MUST_CHECK;

__int128 parquet_load_be(const uint8_t *bytes, int32_t width);
void parquet_store_be(uint8_t *bytes, int32_t width, __int128 value);
