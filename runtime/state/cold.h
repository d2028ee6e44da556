#pragma once
/* Keys and values that are not needed in memory now, in RocksDB on a thread of its own. It is a
 * cache of what snapshots and records hold, and nothing of it outlives the process: the folder is
 * made anew at first use and goes with it, nothing is logged twice or synced
 * (docs/adr/0018-cold-state-is-a-cache.md).
 *
 * RocksDB never sees a key. What goes to disk together is a *run*, cut by hash into pieces of about
 * a page, and a piece is one value; which run holds a key the asker knows (cold_index.h). So a
 * thousand keys cost as many puts as they fill pages, what is gone needs no tombstone, and a key is
 * read with one look-up in files whose ranges never overlap, which no compaction ever rewrites.
 *
 * The loop's thread asks and never waits; what it asks is done in the order of asking. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buffer.h"
#include "core/error.h"
#include "core/signal.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weir_cold;

struct weir_cold_options {
    const char *path;           /* folder; copied */
    size_t memory_bytes;        /* RocksDB's own: writes gathered */
    struct weir_signal *signal; /* raised when something asked for is there; or NULL */
};

struct weir_cold *weir_cold_create(const struct weir_cold_options *options);
void weir_cold_destroy(struct weir_cold *cold); /* ends the thread, removes the folder */
/* WEIR_OK, or why nothing more is kept there (disk full, damaged). */
int weir_cold_failure(struct weir_cold *cold, struct weir_error *err);

/* Records one behind the other: u32 tag, u32 run, u32 key bytes, u32 value bytes, key, value. */
struct weir_cold_record {
    uint32_t tag; /* 32 bits of the key's hash */
    uint32_t run;
    const uint8_t *key;
    const uint8_t *value;
    uint32_t key_size;
    uint32_t value_size;
};
/* The value's first `head_size` bytes come from the head. */
int weir_cold_put_record(struct weir_buffer *records, const struct weir_cold_record *record,
                         const void *head, uint32_t head_size) WEIR_MUST_CHECK;
bool weir_cold_next_record(const uint8_t **at, const uint8_t *end, struct weir_cold_record *out);

/* Runs are numbered in the order of writing, from 0 on. */
#define WEIR_COLD_PIECE_BITS_MAX 16
static inline uint32_t weir_cold_piece(uint32_t tag, uint32_t bits) {
    return bits > 0 ? tag >> (32 - bits) : 0;
}

/* All of these that take a buffer take its bytes and leave it empty. */
/* A run, in 2^bits pieces. */
int weir_cold_write(struct weir_cold *cold, uint64_t run, uint32_t bits,
                    struct weir_buffer *records) WEIR_MUST_CHECK;
/* A key to be loaded, of a run in so many pieces; no key: the record of that tag. */
int weir_cold_put_ask(struct weir_buffer *asks, uint64_t run, uint32_t bits,
                      const struct weir_cold_record *record) WEIR_MUST_CHECK;
/* One load at a time. The store is as before. */
int weir_cold_load(struct weir_cold *cold, struct weir_buffer *asks) WEIR_MUST_CHECK;
/* True once it is done: the records found, the caller's from then on. Never of a load that failed:
 * ask for weir_cold_failure first. */
bool weir_cold_loaded(struct weir_cold *cold, struct weir_buffer *found);
/* All records of the runs from `run` on, `count` of them. Two at a time at most, in order. */
int weir_cold_sweep(struct weir_cold *cold, uint64_t run, uint64_t count) WEIR_MUST_CHECK;
bool weir_cold_swept(struct weir_cold *cold, struct weir_buffer *records);
/* A load or a sweep asked for is there to be taken. */
bool weir_cold_arrived(struct weir_cold *cold);
/* Runs before this one are asked for no more. */
int weir_cold_drop(struct weir_cold *cold, uint64_t run) WEIR_MUST_CHECK;
/* All there is, as it is when its turn comes, part by part; a scan under way is given up. */
int weir_cold_scan(struct weir_cold *cold) WEIR_MUST_CHECK;
/* False: the next part is not read yet. *end with the last (perhaps empty) one. */
bool weir_cold_scanned(struct weir_cold *cold, struct weir_buffer *part, bool *end);
/* For starts, when nobody waits for the loop: all asked for is done. */
void weir_cold_wait(struct weir_cold *cold);

struct weir_cold_figures {
    uint64_t written; /* records */
    uint64_t asked;   /* keys */
    uint64_t read;    /* pieces, for them */
    uint64_t found;
    uint64_t forgotten; /* keys whose time was over (cold_keys.h) */
};
struct weir_cold_figures weir_cold_figures(struct weir_cold *cold);

#ifdef __cplusplus
}
#endif
