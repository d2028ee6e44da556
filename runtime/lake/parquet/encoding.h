#pragma once
/* Parquet's value encodings (apache/parquet-format Encodings.md), both ways. Encoders write to
 * memory the caller sized by the _bound functions (plus PARQUET_SLACK) and return the new end.
 * Decoders are resumable, never read past `end` and report how many values they could give: fewer
 * than asked means corrupt input. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lake/parquet/format.h"

/* --- RLE / bit-packed hybrid (levels, dictionary indices, booleans) ------------------------ */

/* Bytes for n values of `width` bits. */
size_t parquet_rle_bound(int64_t n, int width);
uint8_t *parquet_rle_encode_u8(const uint8_t *values, int64_t n, int width, uint8_t *to);
uint8_t *parquet_rle_encode_u32(const uint32_t *values, int64_t n, int width, uint8_t *to);

struct parquet_rle {
    const uint8_t *at;
    const uint8_t *end;
    int width;
    bool old_bit_packed; /* the deprecated BIT_PACKED levels: most significant bit first */
    uint32_t run_value;
    uint64_t run_left;    /* repeats of run_value */
    uint64_t packed_left; /* bit-packed values not yet unpacked */
    uint32_t bit_offset;  /* old_bit_packed only */
    int32_t unpacked_at;
    int32_t unpacked_count;
    uint32_t unpacked[32];
};

void parquet_rle_init(struct parquet_rle *rle, const uint8_t *bytes, size_t size, int width);
int32_t parquet_rle_next_u32(struct parquet_rle *rle, uint32_t *to, int32_t n);
int32_t parquet_rle_next_u8(struct parquet_rle *rle, uint8_t *to, int32_t n);
/* Steps over up to n repeats of one value, when that is what comes next; 0 when it is not. */
int32_t parquet_rle_run(struct parquet_rle *rle, int32_t n, uint32_t *value);

/* --- DELTA_BINARY_PACKED ------------------------------------------------------------------ */

size_t parquet_delta_bound(int64_t n, int value_bytes);
uint8_t *parquet_delta_encode_i32(const int32_t *values, int64_t n, uint8_t *to);
uint8_t *parquet_delta_encode_i64(const int64_t *values, int64_t n, uint8_t *to);
/* Size the encoding would have, from every 8th block or so: for choosing, not for memory. */
size_t parquet_delta_estimate_i32(const int32_t *values, int64_t n);
size_t parquet_delta_estimate_i64(const int64_t *values, int64_t n);

struct parquet_delta {
    const uint8_t *at; /* after the current miniblock */
    const uint8_t *end;
    const uint8_t *mini_at;
    const uint8_t *widths;
    uint64_t left; /* values not yet given */
    uint64_t last;
    uint64_t min_delta;
    uint32_t mini_values; /* per miniblock */
    uint32_t mini_count;  /* per block */
    uint32_t mini_index;
    uint32_t mini_left; /* values of the miniblock not yet unpacked */
    int width;
    bool first; /* the first value, from the header, is next */
    int32_t unpacked_at;
    int32_t unpacked_count;
    uint64_t unpacked[32];
};

/* False when the header is corrupt. */
bool parquet_delta_init(struct parquet_delta *delta, const uint8_t *bytes, size_t size);
int32_t parquet_delta_next(struct parquet_delta *delta, int64_t *to, int32_t n);
int32_t parquet_delta_next_i32(struct parquet_delta *delta, int32_t *to, int32_t n); /* low bits */
/* Runs to the end of the stream without giving values; NULL when corrupt. */
const uint8_t *parquet_delta_end(const struct parquet_delta *delta);
