#pragma once
/* What fingerprint.c (buckets, feeding) and fingerprint_image.c (epochs, snapshots, recovery)
 * share. */
#include "core/region.h"
#include "state/fingerprint.h"
#include "state/image.h"

enum {
    ENTRY_BITS = 10,
    ENTRY_CHUNK = 1 << ENTRY_BITS,
    HEAD_BITS = 12,
    HEAD_CHUNK = 1 << HEAD_BITS,
    OPERATION_BYTES = 1 + 3 * 8 /* an insert's or forget's image */
};
#define TIME_DEAD UINT16_MAX

struct entry {
    uint64_t lo;
    uint64_t hi;
    uint32_t next;      /* entry number + 1; 0 ends the chain */
    uint32_t time_low;  /* time - bucket start, 48 bits */
    uint16_t time_high; /* TIME_DEAD: forgotten, on the free list through `next` */
} __attribute__((packed));

_Static_assert(sizeof(struct entry) == 26, "entry");

struct bucket {
    int64_t number; /* floor(time / within) */
    struct entry **entries;
    uint32_t **heads; /* entry number + 1 */
    uint32_t entry_chunks;
    uint32_t head_chunks;
    uint32_t entry_directory; /* room in `entries` */
    uint32_t head_directory;
    uint32_t entry_room; /* entries the chunks hold */
    uint32_t head_room;
    uint32_t used; /* entries ever used */
    uint32_t free_head;
    uint32_t live;
    uint32_t chains;
    uint32_t low_mask; /* largest power of two <= chains, minus 1 */
    struct bucket *next_dying;
};

struct chunk {
    struct chunk *next;
};

struct chunk_list {
    struct chunk *head;
    uint32_t count;
    struct chunk *bare; /* their pages are given up, their addresses are not */
};

struct weir_fingerprints {
    int64_t within;
    struct bucket **buckets; /* by number, ascending */
    uint32_t bucket_count;
    uint32_t bucket_capacity;
    uint32_t last; /* where the last lookup ended */
    struct bucket *dying;
    struct weir_region region; /* chunks are cut from it */
    struct chunk_list free_entries;
    struct chunk_list free_heads;
    uint32_t entry_chunks; /* full-size ones, in use or free */
    uint32_t head_chunks;
    size_t small_bytes; /* buckets, directories, first chunks */
    size_t keys;
    size_t max_keys;
    size_t max_bytes;
    uint64_t shape;
    bool sealed;
    struct weir_spill operations;
    struct weir_spill sealed_operations;
    char *name;
    char *declaration;
    char *option;
    struct weir_cell cell;
};

extern const struct weir_cell_ops weir_fingerprints_cell_ops;

static inline int64_t bucket_number(const struct weir_fingerprints *store, int64_t time) {
    int64_t number = time / store->within;
    return time % store->within < 0 ? number - 1 : number;
}

static inline struct entry *entry_of(const struct bucket *bucket, uint32_t number) {
    return &bucket->entries[number >> ENTRY_BITS][number & (ENTRY_CHUNK - 1)];
}

static inline int64_t entry_time(const struct weir_fingerprints *store, const struct bucket *bucket,
                                 const struct entry *entry) {
    uint64_t offset = (uint64_t)entry->time_high << 32 | entry->time_low;
    return (int64_t)((uint64_t)bucket->number * (uint64_t)store->within + offset);
}

/* In fingerprint.c. Positions are those of buckets in order of number; create and insert fail
 * without memory only. */
uint32_t weir_bucket_position(const struct weir_fingerprints *store, int64_t number);
struct bucket *weir_bucket_create(struct weir_fingerprints *store, int64_t number);
bool weir_bucket_insert(struct weir_fingerprints *store, struct bucket *bucket,
                        struct weir_fingerprint fingerprint, int64_t time);
bool weir_bucket_has(const struct weir_fingerprints *store, const struct bucket *bucket,
                     struct weir_fingerprint fingerprint, int64_t time, int64_t reach);
void weir_bucket_remove(struct weir_fingerprints *store, struct bucket *bucket,
                        struct weir_fingerprint fingerprint, int64_t time);
struct bucket *weir_bucket_find(struct weir_fingerprints *store, int64_t number);
