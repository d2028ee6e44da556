#pragma once
/* Which keys are on disk, and in which run: eight bytes a key or so, none of them the key's. A key
 * is known by 32 bits of its hash, its tag; a run never holds two keys of one tag, so that tag and
 * run name one record exactly. One thread (the loop). */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WEIR_COLD_SEGMENTS 256

struct weir_cold_segment {
    uint8_t *entries; /* tag, run; run 0: empty */
    uint32_t capacity;
    uint32_t count;
};

struct weir_cold_index {
    struct weir_cold_segment segments[WEIR_COLD_SEGMENTS]; /* by the tag's first bits */
    uint64_t count;
    size_t bytes;
};

/* All zeros is an empty one. */
void weir_cold_index_fini(struct weir_cold_index *index);
/* run > 0; the pair is not there yet. False without memory. */
bool weir_cold_index_add(struct weir_cold_index *index, uint32_t tag, uint16_t run);
bool weir_cold_index_has(const struct weir_cold_index *index, uint32_t tag, uint16_t run);
/* False: it was not there. */
bool weir_cold_index_remove(struct weir_cold_index *index, uint32_t tag, uint16_t run);
/* Drops what a segment has of the runs that are gone. How many; -1 without memory: nothing is. */
int64_t weir_cold_index_purge(struct weir_cold_index *index, uint32_t segment,
                              bool (*gone)(void *context, uint16_t run), void *context);
/* The next run with the tag; *at is 0 before the first. 0: no more. */
uint16_t weir_cold_index_next(const struct weir_cold_index *index, uint32_t tag, uint32_t *at);
void weir_cold_index_prefetch(const struct weir_cold_index *index, uint32_t tag);

#ifdef __cplusplus
}
#endif
