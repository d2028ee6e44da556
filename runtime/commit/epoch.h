#pragma once
/* Epochs on their way to the ledger. The loop seals epoch e and goes on; what e changed is
 * gathered here from several threads, and when all of it has arrived the committer thread (ours)
 * writes record e, strictly in sequence, and tells the sinks. At most two sealed epochs wait;
 * beyond that weir_commit_may_seal is false and the loop must pause its sources.
 *
 *   loop:   open(e) → fill weir_commit_record(e) → complete(e)
 *   sinks:  post_effect(e, sink, …)*, effects_complete(e, sink)
 *   here:   build, append, sync → durable(e) to the loop's hook and every sink's
 *   sinks:  … applied → done(sink, e): goes into later records as the marker, frees its bytes
 *
 * Memory is bounded: two epochs of parts plus effects not yet done (max_lag_bytes, beyond it
 * may_seal is false). A failure is final: it is kept, told once, and every call answers with it. */
#include <stdbool.h>
#include <stdint.h>

#include "commit/ledger.h"
#include "commit/record.h"
#include "core/error.h"

#define WEIR_COMMIT_MAX_PENDING 2
#define WEIR_COMMIT_MAX_SINKS 64

struct weir_commit;

struct weir_effect { /* handed to a sink with "record e is durable" */
    uint64_t kind;
    struct weir_blob body;
};

struct weir_commit_sink {
    const char *name; /* copied */
    uint64_t marker;  /* up to which record it is done at the start (weir_recovery_done) */
    uint64_t held;    /* the marker in its own system, at most `marker` */
    void *context;
    /* Committer thread; must not block. The sink owns the bodies from here on (it releases each,
     * emptying it in the array is not needed); the array itself is valid during the call. Called
     * for every epoch, also with count 0. */
    void (*durable)(void *context, uint64_t epoch, struct weir_effect *effects, size_t count);
};

struct weir_commit_options {
    struct weir_ledger *ledger; /* borrowed; used by the committer thread alone while started */
    uint64_t max_lag_bytes;     /* effects durable but not done, all sinks; 0 = 256 MiB */
    uint64_t max_epoch_bytes;   /* one record; 0 = the ledger's max_record_bytes */
    int64_t keep_us;            /* records younger than this (recorded clock) are never trimmed */
    void *context;
    /* Committer thread, must not block; both may be NULL. durable is called after the sinks'. */
    void (*durable)(void *context, uint64_t epoch);
    void (*failed)(void *context, const struct weir_error *err);
};

struct weir_commit_status {
    uint64_t sealed;  /* newest epoch opened */
    uint64_t durable; /* newest epoch durable */
    uint64_t lag_bytes;
    uint64_t record_syncs;
    uint64_t records;
    uint64_t latency_p50_us; /* seal (open) to durable, of all records so far */
    uint64_t latency_p99_us;
    uint64_t latency_max_us;
    bool failed;
};

int weir_commit_create(const struct weir_commit_options *options, struct weir_commit **out,
                       struct weir_error *err) WEIR_MUST_CHECK;
/* Before start. *index names the sink from then on. */
int weir_commit_add_sink(struct weir_commit *commit, const struct weir_commit_sink *sink,
                         uint32_t *index, struct weir_error *err) WEIR_MUST_CHECK;
int weir_commit_start(struct weir_commit *commit, struct weir_error *err) WEIR_MUST_CHECK;
/* Writes epochs that are complete, drops the others (never recorded, so they will be redone from
 * their positions), ends the thread. Idempotent. */
void weir_commit_stop(struct weir_commit *commit);
void weir_commit_destroy(struct weir_commit *commit); /* stops first */

/* Loop thread. False: two epochs wait, or the sinks lag, or it failed. */
bool weir_commit_may_seal(struct weir_commit *commit);
/* Loop thread, at the seal; epoch = last + 1; sealed_at_us = recorded clock. */
int weir_commit_open(struct weir_commit *commit, uint64_t epoch, int64_t sealed_at_us,
                     struct weir_error *err) WEIR_MUST_CHECK;
/* The loop's part of the record: positions, schedule, images, counters … Loop thread (or a thread
 * it hands this to), until complete. NULL when the epoch is not open. */
struct weir_record *weir_commit_record(struct weir_commit *commit, uint64_t epoch);
int weir_commit_complete(struct weir_commit *commit, uint64_t epoch,
                         struct weir_error *err) WEIR_MUST_CHECK;

/* Any thread, one at a time per sink and epoch. The body is taken in every case. */
int weir_commit_post_effect(struct weir_commit *commit, uint64_t epoch, uint32_t sink,
                            uint64_t kind, struct weir_blob *body,
                            struct weir_error *err) WEIR_MUST_CHECK;
/* Every sink says this once per epoch, with or without effects. */
int weir_commit_effects_complete(struct weir_commit *commit, uint64_t epoch, uint32_t sink,
                                 struct weir_error *err) WEIR_MUST_CHECK;
/* A sink could not make its part: the pipeline stops with this error. */
void weir_commit_fail(struct weir_commit *commit, const struct weir_error *cause);
/* The markers of the newest record, for the state of a snapshot whose end is epoch `end`, the open
 * one: recovery from it must know them although the records that say them may lie before its begin.
 * Records before the end that are not written yet may say more, so that of the end says every
 * marker again. Any thread. */
int weir_commit_put_markers(struct weir_commit *commit, uint64_t end, struct weir_record *record,
                            struct weir_error *err) WEIR_MUST_CHECK;
/* The sink holds the marker of `epoch` in its own transaction. Any thread; never goes back. */
void weir_commit_sink_done(struct weir_commit *commit, uint32_t sink, uint64_t epoch);
/* How far a sink is behind the ledger: durable epochs it is not done with, and how long the oldest
 * of them has been durable. Any thread. */
struct weir_commit_lag {
    uint64_t epochs;
    int64_t ns;
};
struct weir_commit_lag weir_commit_sink_lag(struct weir_commit *commit, uint32_t sink);
/* Records below this may go as far as snapshots are concerned. Any thread. */
void weir_commit_set_snapshot_begin(struct weir_commit *commit, uint64_t oldest_begin);

/* Blocks until `epoch` is durable: WEIR_OK, the failure, WEIR_E_CLOSED when stopped, or
 * WEIR_E_LIMIT after timeout_ms (negative = none). */
int weir_commit_wait(struct weir_commit *commit, uint64_t epoch, int timeout_ms,
                     struct weir_error *err) WEIR_MUST_CHECK;
void weir_commit_status(struct weir_commit *commit, struct weir_commit_status *out);
/* WEIR_OK or the failure. */
int weir_commit_failure(struct weir_commit *commit, struct weir_error *err);
