#pragma once
/* All sinks of a pipeline and the threads that serve them: a few workers that encode (a sink stays
 * with one worker, so its rows keep their order), and one applier per sink that ever had an effect.
 *
 * The loop writes and seals, and asks for room before it takes more rows in: that is the
 * backpressure. Hooks carry what comes out to the commit room. */
#include <inttypes.h>

#include "sink/sink.h"

/* An effect's first line, before what the sink itself appended: what the rows of the epoch were, so
 * that a replay can say where it differs. printf arguments: rows, digest (batch/digest.h). */
#define WEIR_EFFECT_DIGEST "{\"digest\":{\"rows\":%" PRIu64 ",\"hash\":\"%016" PRIx64 "\"}}"

struct weir_sinks;

struct weir_sinks_hooks {
    void *context;
    /* Worker: the sink's part of `epoch` is durable. The effect is taken (release it); size 0:
     * nothing was written, nothing to release. */
    void (*sealed)(void *context, int32_t sink, uint64_t epoch,
                   const struct weir_sink_effect *effect);
    /* Applier (or the thread that called apply, when there was nothing to apply). */
    void (*applied)(void *context, int32_t sink, uint64_t epoch);
    /* Worker: a queue that was full has room again. May be NULL. */
    void (*room)(void *context);
    /* Any thread. Final: the pipeline must stop. */
    void (*failed)(void *context, const struct weir_error *err);
};

struct weir_sinks_options {
    struct weir_sinks_hooks hooks;
    int32_t workers;         /* 0: 2 */
    size_t queue_bytes;      /* rows waiting for one worker; 0: 24 MiB */
    size_t effect_bytes_max; /* of one sink and epoch; 0: 64 MiB */
};

struct weir_sinks_stats {
    int64_t blocked_ns;    /* writes waited for room */
    int64_t encode_cpu_ns; /* all workers */
    int64_t apply_cpu_ns;  /* all appliers */
    int64_t queued_bytes;
    struct weir_sink_upkeep upkeep;
};

struct weir_sink_figures { /* since the start */
    uint64_t rows;         /* written */
    uint64_t record_bytes; /* of its effects in the ledger: messages, or what names files */
    uint64_t commits;      /* visible outside */
};

int weir_sinks_create(const struct weir_sinks_options *options, struct weir_sinks **out,
                      struct weir_error *err) WEIR_MUST_CHECK;
/* Before start; sinks are numbered from 0 in order. */
int weir_sinks_add(struct weir_sinks *sinks, const struct weir_sink_config *config,
                   struct weir_error *err) WEIR_MUST_CHECK;
/* Starts every sink (vtable start), reporting its marker, then the threads. markers: room for one a
 * sink. */
int weir_sinks_start(struct weir_sinks *sinks, uint64_t *markers,
                     struct weir_error *err) WEIR_MUST_CHECK;
/* Adds and starts one more while running (a rule set that came by reload). Loop thread. */
int weir_sinks_add_running(struct weir_sinks *sinks, const struct weir_sink_config *config,
                           uint64_t *marker, struct weir_error *err) WEIR_MUST_CHECK;
/* Loop thread: what rows of a sink owe its outside; see sink.h. */
int weir_sinks_duties(struct weir_sinks *sinks, int32_t sink, struct weir_schema *schema,
                      struct weir_delta_duties **out, struct weir_error *err) WEIR_MUST_CHECK;
int32_t weir_sinks_count(const struct weir_sinks *sinks);
const char *weir_sinks_name(const struct weir_sinks *sinks, int32_t sink);
enum weir_sink_effect_kind weir_sinks_effect_kind(const struct weir_sinks *sinks, int32_t sink);
/* Loop thread: what one sink holds for the open epoch has grown so large that it should be sealed
 * before its time. */
bool weir_sinks_want_seal(struct weir_sinks *sinks);

/* Loop thread: no queue is full. */
bool weir_sinks_have_room(struct weir_sinks *sinks);
/* Loop thread. References the batch, copies sel (NULL: all rows). What one batch becomes is taken
 * beyond a full queue; it blocks only while the queue holds half as much again. */
int weir_sinks_write(struct weir_sinks *sinks, int32_t sink, struct weir_batch *batch,
                     const int32_t *sel, int32_t count, struct weir_error *err) WEIR_MUST_CHECK;
/* Loop: whether rows to come may have this schema, which lacks columns of the one before, has more,
 * or (`wider`) others of their types. */
int weir_sinks_takes(struct weir_sinks *sinks, int32_t sink, struct weir_schema *schema, bool wider,
                     struct weir_error *err) WEIR_MUST_CHECK;
/* Loop, right after a seal: rows to come of this sink have the schema (a reference is taken).
 * WEIR_E_UNSUPPORTED where the kind cannot change. */
int weir_sinks_evolve(struct weir_sinks *sinks, int32_t sink, struct weir_schema *schema,
                      struct weir_error *err) WEIR_MUST_CHECK;
/* Loop thread: ends the epoch in every sink; each answers by hooks.sealed (at once, on this thread,
 * where nothing was written). */
void weir_sinks_seal(struct weir_sinks *sinks, uint64_t epoch);
/* Queues effects of a durable record. The bytes are taken: release(owner) once applied. Does not
 * block; nothing to apply (size 0) is answered in order. Any one thread. */
void weir_sinks_apply(struct weir_sinks *sinks, int32_t sink, uint64_t epoch, const void *effect,
                      size_t size, bool verify, void (*release)(void *owner), void *owner);
/* Waits until everything queued for the appliers is done, or a sink failed. */
void weir_sinks_drain(struct weir_sinks *sinks);
/* Ends the threads; queued rows are dropped, queued effects too (recovery applies them). */
void weir_sinks_stop(struct weir_sinks *sinks);
void weir_sinks_destroy(struct weir_sinks *sinks);
/* Any thread. */
struct weir_sink_figures weir_sinks_figures(const struct weir_sinks *sinks, int32_t sink);
const char *weir_sinks_kind(const struct weir_sinks *sinks, int32_t sink);
void weir_sinks_stats(struct weir_sinks *sinks, struct weir_sinks_stats *out);
