#pragma once
/* What an owner of keyed state has on disk: which keys, in which runs, and what of the runs is
 * still worth keeping. The one way in and out for every kind of state that may be larger than
 * memory:
 *
 *   put, put, ..., flush        slots that leave memory; they are one run
 *   want, want, ..., load       keys that are needed; bring until done: each found is out of here
 *   tend                        between batches: runs mostly gone are written together anew
 *   scan, scanned               all of them, for a dump that goes on while keys come and go
 *
 * A key is here or in its owner's memory, never in both. Only what images and snapshots hold may be
 * put here: nothing of it survives the process (cold.h). One thread (the loop); it never waits for
 * the disk but in weir_cold_keys_wait. */
#include "state/cold.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weir_cold_keys;

/* NULL without memory. `name` is the owner's, for errors; borrowed. */
struct weir_cold_keys *weir_cold_keys_create(const char *name,
                                             const struct weir_cold_options *options);
void weir_cold_keys_destroy(struct weir_cold_keys *keys);
uint64_t weir_cold_keys_count(const struct weir_cold_keys *keys);
/* Records on disk, those of keys that left since among them. */
uint64_t weir_cold_keys_records(const struct weir_cold_keys *keys);
/* In memory: where the keys are, and RocksDB's own. */
size_t weir_cold_keys_bytes(const struct weir_cold_keys *keys);
struct weir_cold_figures weir_cold_keys_figures(const struct weir_cold_keys *keys);

struct weir_cold_key {
    uint64_t hash; /* any good one, always the same for the key */
    const void *bytes;
    uint32_t size;
};
/* *taken false: not now, another key of this run has the same tag. */
int weir_cold_keys_put(struct weir_cold_keys *keys, const struct weir_cold_key *key,
                       const void *head, uint32_t head_size, const void *value, uint32_t value_size,
                       bool *taken, struct weir_error *err) WEIR_MUST_CHECK;
int weir_cold_keys_flush(struct weir_cold_keys *keys, struct weir_error *err) WEIR_MUST_CHECK;

void weir_cold_keys_prefetch(const struct weir_cold_keys *keys, uint64_t hash);
/* Asks for the key if it may be here. */
int weir_cold_keys_want(struct weir_cold_keys *keys, const struct weir_cold_key *key,
                        struct weir_error *err) WEIR_MUST_CHECK;
/* Loads what is wanted. *waits: something is. */
int weir_cold_keys_load(struct weir_cold_keys *keys, bool *waits,
                        struct weir_error *err) WEIR_MUST_CHECK;
bool weir_cold_keys_waits(const struct weir_cold_keys *keys);
/* A key that was wanted, once each. Its bytes are good for the call. */
typedef int (*weir_cold_install)(void *context, const struct weir_cold_record *record,
                                 struct weir_error *err);
int weir_cold_keys_bring(struct weir_cold_keys *keys, weir_cold_install install, void *context,
                         bool *done, struct weir_error *err) WEIR_MUST_CHECK;

/* Not while something is loaded. `moved` (NULL: nobody asks) hears of each key that is in another
 * run now: the one being gathered. */
int weir_cold_keys_tend(struct weir_cold_keys *keys, weir_cold_install moved, void *context,
                        struct weir_error *err) WEIR_MUST_CHECK;
int weir_cold_keys_failure(const struct weir_cold_keys *keys, struct weir_error *err);
void weir_cold_keys_wait(struct weir_cold_keys *keys);

/* Some of what is here, for owners that know in which runs it is. The run being gathered. */
uint64_t weir_cold_keys_run(const struct weir_cold_keys *keys);
/* The run a record is in. */
uint64_t weir_cold_keys_run_of(const struct weir_cold_keys *keys, uint32_t number);
/* All keys of a run, in no order; one run at a time. *reads false: none of it is left. */
int weir_cold_keys_read(struct weir_cold_keys *keys, uint64_t run, bool *reads,
                        struct weir_error *err) WEIR_MUST_CHECK;
int weir_cold_keys_have_read(struct weir_cold_keys *keys, weir_cold_install each, void *context,
                             bool *done, struct weir_error *err) WEIR_MUST_CHECK;
/* What is loaded or read is there. */
bool weir_cold_keys_arrived(const struct weir_cold_keys *keys);
/* As want, of a record that was read. */
int weir_cold_keys_want_record(struct weir_cold_keys *keys, uint32_t tag, uint32_t number,
                               struct weir_error *err) WEIR_MUST_CHECK;

/* Records may have a time, after which they are worth nothing: that of each of a run is not kept,
 * only the latest. `time_of` reads a record's. Before the first key. */
typedef int64_t (*weir_cold_time)(void *context, const struct weir_cold_record *record);
void weir_cold_keys_timed(struct weir_cold_keys *keys, weir_cold_time time_of, void *context);
/* Keys of a time before this one are worth nothing: runs that hold no other are forgotten unread,
 * a little at a time as runs are tended, others when they are written anew. */
void weir_cold_keys_forget(struct weir_cold_keys *keys, int64_t before);
bool weir_cold_keys_is_over(const struct weir_cold_keys *keys,
                            const struct weir_cold_record *record);

/* What is here now, apart from what comes and goes until the end of the scan. */
int weir_cold_keys_scan(struct weir_cold_keys *keys, struct weir_error *err) WEIR_MUST_CHECK;
/* Each key of the next part, if that is read. `each` may be called for none. */
int weir_cold_keys_scanned(struct weir_cold_keys *keys, weir_cold_install each, void *context,
                           bool *end, struct weir_error *err) WEIR_MUST_CHECK;

#ifdef __cplusplus
}
#endif
