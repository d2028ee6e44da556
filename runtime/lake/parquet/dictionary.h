#pragma once
/* A column chunk's dictionary under construction. The values lie in one arena in PLAIN encoding, so
 * the arena is the dictionary page; an open-addressing table of (hash, index) finds them. */
#include <stdbool.h>
#include <stdint.h>

#include "core/buffer.h"

struct parquet_dictionary_slot {
    uint32_t hash;
    uint32_t index; /* plus one; 0 = free */
};

/* What byte values are told apart by (dictionary.c). */
struct parquet_dictionary_key {
    uint64_t low;
    uint64_t high;
};

struct parquet_dictionary {
    struct weir_buffer arena; /* the dictionary page; its limit is the byte limit */
    struct parquet_dictionary_slot *slots;
    uint32_t *offsets;                   /* byte values: arena offset of the length prefix */
    struct parquet_dictionary_key *keys; /* theirs */
    uint32_t slot_count;                 /* power of two */
    uint32_t slots_capacity;
    uint32_t values_capacity;
    uint32_t count;
    uint32_t count_max;
    int32_t width; /* bytes of a fixed value; 0: length-prefixed bytes */
};

enum { PARQUET_DICTIONARY_FULL = -1, PARQUET_DICTIONARY_NOMEM = -2 };

void parquet_dictionary_init(struct parquet_dictionary *dictionary, int32_t width, size_t bytes_max,
                             uint32_t count_max);
void parquet_dictionary_fini(struct parquet_dictionary *dictionary);
void parquet_dictionary_clear(struct parquet_dictionary *dictionary);
/* Index of the value, added when new; or one of the negative codes. Up to PARQUET_SLACK bytes past
 * the value may not be read: callers pass exact ranges. */
int64_t parquet_dictionary_add(struct parquet_dictionary *dictionary, const void *bytes,
                               uint32_t size);
/* Codes of the n byte values at rows `index` (NULL: 0, 1, …) of a batch column; returns as
 * parquet_dictionary_add_fixed does. */
int64_t parquet_dictionary_add_bytes(struct parquet_dictionary *dictionary, const uint8_t *bytes,
                                     const int32_t *offsets, const int32_t *index, int32_t n,
                                     uint32_t *codes);
/* Codes of n fixed values; returns how many were coded before the dictionary was full, or
 * PARQUET_DICTIONARY_NOMEM. */
int64_t parquet_dictionary_add_fixed(struct parquet_dictionary *dictionary, const void *values,
                                     int64_t n, uint32_t *codes);
const uint8_t *parquet_dictionary_get(const struct parquet_dictionary *dictionary, uint32_t index,
                                      uint32_t *size);
size_t parquet_dictionary_memory(const struct parquet_dictionary *dictionary);
/* Bits of a code. */
int parquet_dictionary_bits(const struct parquet_dictionary *dictionary);
