#pragma once
/* Keys and values that are not needed in memory now, in RocksDB on a thread of its own. It is a
 * cache of what snapshots and records hold, and nothing of it outlives the process: the folder is
 * made anew at first use and goes with it, nothing is logged twice or synced
 * (docs/adr/0018-cold-state-is-a-cache.md).
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
    size_t memory_bytes;        /* RocksDB's own: blocks in memory, writes gathered */
    struct weir_signal *signal; /* raised when something asked for is there; or NULL */
};

struct weir_cold *weir_cold_create(const struct weir_cold_options *options);
void weir_cold_destroy(struct weir_cold *cold); /* ends the thread, removes the folder */
/* WEIR_OK, or why nothing more is kept there (disk full, damaged). */
int weir_cold_failure(struct weir_cold *cold, struct weir_error *err);

/* Records one behind the other: u32 key bytes, u32 value bytes, key, value. WEIR_COLD_GONE in place
 * of the value's size: the key is deleted. */
#define WEIR_COLD_GONE UINT32_MAX
int weir_cold_put_record(struct weir_buffer *records, const void *key, uint32_t key_size,
                         const void *head, uint32_t head_size, const void *value,
                         uint32_t value_size) WEIR_MUST_CHECK;
struct weir_cold_record {
    const uint8_t *key;
    const uint8_t *value;
    uint32_t key_size;
    uint32_t value_size;
};
bool weir_cold_next_record(const uint8_t **at, const uint8_t *end, struct weir_cold_record *out);

/* All of these take the records' bytes and leave the buffer empty. */
int weir_cold_write(struct weir_cold *cold, struct weir_buffer *records) WEIR_MUST_CHECK;
/* Keys (records without values): those there are taken out of the store. One at a time. */
int weir_cold_load(struct weir_cold *cold, struct weir_buffer *keys) WEIR_MUST_CHECK;
/* True once it is done: the records found, the caller's from then on. Never of a load that failed:
 * ask for weir_cold_failure first. */
bool weir_cold_loaded(struct weir_cold *cold, struct weir_buffer *found);
/* All there is, as it is when its turn comes, part by part; a scan under way is given up. */
int weir_cold_scan(struct weir_cold *cold) WEIR_MUST_CHECK;
/* False: the next part is not read yet. *end with the last (perhaps empty) one. */
bool weir_cold_scanned(struct weir_cold *cold, struct weir_buffer *part, bool *end);
/* For starts, when nobody waits for the loop: all asked for is done. */
void weir_cold_wait(struct weir_cold *cold);

struct weir_cold_figures {
    uint64_t written; /* keys */
    uint64_t asked;
    uint64_t found;
};
struct weir_cold_figures weir_cold_figures(struct weir_cold *cold);

#ifdef __cplusplus
}
#endif
