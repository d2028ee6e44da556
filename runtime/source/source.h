#pragma once
/* Sources deliver batches with the position that follows them. Two ways to drive one:
 *   pull      weir_source_next on the caller's thread; replay, tests, simulation
 *   threaded  weir_source_start: a thread a lane pushes into a bounded ring; weir_source_poll
 *             takes. A lane serves one partition, or many where the kind says so (Kafka). A full
 *             ring pauses the lane.
 * Lifecycle: create (no I/O) → open (positions; reads directories) → next… or start, poll…, stop →
 * destroy. A position is opaque, versioned bytes (docs/formats/files.md): opened with it, a source
 * delivers exactly the rows after it, in the same order; the batch boundaries may differ unless
 * max_rows is given as before. */
#include "batch/batch.h"
#include "core/option.h"
#include "core/signal.h"
#include "decode/decoder.h"

#ifdef __cplusplus
extern "C" {
#endif

#define WEIR_POSITION_BYTES_MAX                                                                    \
    (64 * 1024) /* tens of bytes as a rule: 8 a file read, 40 + its name */
#define WEIR_SOURCE_PARTITIONS_MAX 4096

struct weir_position {
    const uint8_t *bytes; /* NULL and 0: from the beginning */
    uint32_t size;
};

struct weir_source_batch {
    struct weir_batch *batch; /* full schema; owned; may have 0 rows; NULL when code != 0 */
    struct weir_reject_batch *rejects; /* owned, NULL when none */
    struct weir_position position;     /* after this batch; lives as long as it */
    uint64_t hash;     /* XXH3 of the raw frames' bytes (generator: of the numbers) */
    int32_t partition; /* new ones may come while a source runs, but when it is bounded */
    int32_t number;    /* what `_partition` says */
    int32_t lane;
    int32_t rows;   /* batch rows + rejects */
    int64_t due_ns; /* monotonic: since when its rows wait to be taken; of a paced generator: since
                       when they should have */
    bool opens;     /* no rows: rows of this partition will come, so time waits for it */
    bool closes;    /* time no longer waits for the partition, until it opens or has rows again */
    uint64_t item;  /* with `opens`: the partition begins anew, with this; hash says it too. Or 0 */
    bool end;       /* the partition has no more input; its last batch */
    int code;       /* not 0: the lane failed; weir_source_error says why; its last batch */
    struct weir_pool *pool;
};

/* Gives everything back to the pool. To keep the weir_batch, ref it or set `batch` to NULL. */
void weir_source_batch_release(struct weir_source_batch *batch);

struct weir_source_config {
    const char *name;         /* dataset name; `_topic` where the kind has no better one */
    const char *pipeline;     /* its name; NULL where none runs (checks, replay) */
    const char *instance;     /* who runs it: the same after a restart, unlike any other; or NULL */
    const char *log_path;     /* folder for kinds that keep a log of their own; or NULL */
    int64_t keep_us;          /* how long it keeps what the ledger has */
    const char *kind;         /* "files", "generator" */
    const char *options_json; /* as written in the declaration, an object; NULL for {} */
    const char *decoder;      /* "json"; NULL for sources that need none */
    const char *decoder_options_json;
    struct weir_schema *schema; /* the user's columns (reference taken); NULL: from the decoder's or
                                   source's own */
    struct weir_pool *pool;     /* borrowed */
    struct weir_signal *signal; /* borrowed, raised when a batch is ready; NULL in pull mode */
    bool until_end;             /* bounded: ends where the input ends, else followed */
    bool again; /* of a table another source's rows were written to: rows as they were then, meta
                   columns too, in the order they came in */
    int32_t batch_rows;     /* at most; 0: WEIR_BATCH_ROWS_MAX */
    uint32_t queue_batches; /* ring size a partition; 0: 8 */
};

struct weir_source;

int weir_source_create(struct weir_source **out, const struct weir_source_config *config,
                       struct weir_error *err) WEIR_MUST_CHECK;
/* Stops first where it runs. Every batch taken stays valid. */
void weir_source_destroy(struct weir_source *source);

/* positions[i] is partition i's; partitions beyond `count` start at the beginning. */
int weir_source_open(struct weir_source *source, const struct weir_position *positions,
                     int32_t count, struct weir_error *err) WEIR_MUST_CHECK;
/* Those known after open. */
int32_t weir_source_partitions(const struct weir_source *source);
/* Valid after start; fixed from then on. */
int32_t weir_source_lanes(const struct weir_source *source);
struct weir_schema *weir_source_schema(const struct weir_source *source); /* full; borrowed */
const char *weir_source_name(const struct weir_source *source);

/* Pull: at most max_rows rows and rejects (0: batch_rows). *out is NULL when a followed partition
 * has nothing now, or after the batch marked `end`. WEIR_E_LIMIT: the pool is exhausted, try again.
 */
int weir_source_next(struct weir_source *source, int32_t partition, int32_t max_rows,
                     struct weir_source_batch **out, struct weir_error *err) WEIR_MUST_CHECK;

/* Replay: the partition began anew with `item`, as its `opens` batch said. */
int weir_source_assign(struct weir_source *source, int32_t partition, uint64_t item,
                       struct weir_error *err) WEIR_MUST_CHECK;

int weir_source_start(struct weir_source *source, struct weir_error *err) WEIR_MUST_CHECK;
/* Any thread: threads make batches of at most so many rows from now on (those that wait stay as
 * they are), so that one batch is little work for who takes it. */
void weir_source_set_batch_rows(struct weir_source *source, int32_t rows);
/* Consumer thread; NULL when nothing is ready. The caller releases. */
struct weir_source_batch *weir_source_poll(struct weir_source *source, int32_t lane);
/* The next batch without taking it (rows, end and times can be looked at), NULL when none. */
const struct weir_source_batch *weir_source_peek(struct weir_source *source, int32_t lane);
/* Nothing waits and nothing came lately: its present end was reached. Consumer thread. */
bool weir_source_caught_up(struct weir_source *source);
/* Rows to come have these columns, of the user's; what lanes have decoded already comes in the old
 * ones. Consumer thread, while it runs or before. WEIR_E_UNSUPPORTED where the kind or its decoder
 * cannot change them in the middle. All are decoded, until weir_source_project says otherwise. */
int weir_source_set_columns(struct weir_source *source, struct weir_schema *user,
                            struct weir_error *err) WEIR_MUST_CHECK;
bool weir_source_columns_change(const struct weir_source *source); /* whether it can */
/* Rows to come need only these of the user's columns; the others may be null in them, where the
 * kind and its decoder can leave them out. NULL: all. Takes no reference. Consumer thread, while it
 * runs or before. */
void weir_source_project(struct weir_source *source, struct weir_projection *projection);
/* A batch that lacks other columns than those left out now gets all, from `pool`. Consumer thread.
 * WEIR_E_LIMIT. */
int weir_source_keep_up(struct weir_source *source, struct weir_pool *pool,
                        struct weir_batch **batch, struct weir_error *err) WEIR_MUST_CHECK;
/* Rows rows[0..count) of a batch that lacks columns (`frames`), with all of them, in that order,
 * from `pool`. Consumer thread. WEIR_E_LIMIT. */
int weir_source_complete(struct weir_batch *batch, struct weir_pool *pool, const int32_t *rows,
                         int32_t count, struct weir_batch **out,
                         struct weir_error *err) WEIR_MUST_CHECK;
/* What its decoders noticed so far. Any thread. */
struct weir_decoder_news weir_source_news(const struct weir_source *source);
/* Joins the threads and releases what was not taken. Idempotent. */
void weir_source_stop(struct weir_source *source);
/* Why the lane's batch had a code. Messages do not name the source: the caller does. */
const struct weir_error *weir_source_error(const struct weir_source *source, int32_t lane);
/* Consumer thread: rows up to `position` are durable; for kinds that tell others how far they are.
 */
void weir_source_committed(struct weir_source *source, int32_t partition,
                           const struct weir_position *position);
/* What the kind shows of itself in status (requests, lag), as members of a JSON object; nothing of
 * most kinds. Consumer thread. */
int weir_source_figures(struct weir_source *source, struct weir_buffer *out) WEIR_MUST_CHECK;
/* CPU nanoseconds of the source's threads so far, for the per-stage budget. */
int64_t weir_source_cpu_ns(const struct weir_source *source);

/* The user's columns a source of its own brings (generator, delta: the table's); *out is one
 * reference for the caller, NULL when the kind has none. May block on storage. */
int weir_source_own_schema(const char *kind, const char *options_json, struct weir_schema **out,
                           struct weir_error *err) WEIR_MUST_CHECK;
/* The user's columns of a source whose decoder has `decoded` (a reference taken over, also by a
 * failure). One reference for the caller. */
int weir_source_columns(const char *kind, const char *options_json, struct weir_schema *decoded,
                        struct weir_schema **out, struct weir_error *err) WEIR_MUST_CHECK;
/* True when the kind exists. */
bool weir_source_exists(const char *kind);
/* The kinds there are, NULL after the last. */
const struct weir_source_vtable *weir_source_kind(size_t index);
/* One line a human can read: "landing/a.jsonl at byte 1234, 3 files read". */
int weir_source_describe_position(const char *kind, const struct weir_position *position,
                                  struct weir_buffer *out) WEIR_MUST_CHECK;

/* --- for implementers --------------------------------------------------------------------- */

/* Where a lane's thread puts its batches. */
struct source_outlet;

/* One array in registry.c. Slots are called with no lock held; `next` and `serve` on the lane's
 * thread, the others on the owner's. */
struct weir_source_vtable {
    const char *name;
    const struct weir_option *options; /* what `name { … }` takes, ended by a NULL name */
    bool needs_decoder;
    int32_t quiet_ms;    /* without rows for so long its present end is taken to be reached */
    bool columns_change; /* lanes look for new columns (source_renew) */
    bool projects;       /* lanes leave columns out (source_keep_frames) */
    bool has_beginnings; /* its frames lie in files, at whose beginning a decoder may read a head */
    /* As weir_source_own_schema; NULL: columns are the decoder's. */
    int (*own_schema)(const char *options_json, struct weir_schema **out, struct weir_error *err);
    /* The user's columns when the decoder has `decoded`: those the options add come last (keys,
     * headers). One reference for the caller. NULL: the decoder's. */
    int (*columns)(const char *options_json, struct weir_schema *decoded, struct weir_schema **out,
                   struct weir_error *err);
    /* Reads options. No I/O. */
    int (*init)(struct weir_source *source, const char *options_json, struct weir_error *err);
    /* May block on directories. Sets the number of partitions. */
    int (*open)(struct weir_source *source, const struct weir_position *positions, int32_t count,
                struct weir_error *err);
    /* May block on files, never on the consumer; must not wait for input to appear. */
    int (*next)(struct weir_source *source, int32_t partition, int32_t max_rows,
                struct weir_source_batch **out, struct weir_error *err);
    /* As weir_source_assign; NULL: partitions do not begin anew. */
    int (*assign)(struct weir_source *source, int32_t partition, uint64_t item,
                  struct weir_error *err);
    /* Milliseconds the thread should wait after an empty `next` (rate, poll interval); NULL with
     * `serve`. */
    int (*wait_ms)(struct weir_source *source, int32_t partition);
    /* Kinds whose threads serve many partitions each: begins, and says how many lanes there are.
     * NULL: a lane a partition, over `next`. */
    int (*begin)(struct weir_source *source, int32_t *lanes, struct weir_error *err);
    /* Reads for a tenth of a second at most and delivers through source_outlet_push; *ended: there
     * will be no more. An error ends the lane. */
    int (*serve)(struct weir_source *source, int32_t lane, struct source_outlet *outlet,
                 bool *ended, struct weir_error *err);
    /* Before lanes are joined; may be NULL. */
    void (*interrupt)(struct weir_source *source);
    /* As weir_source_committed; may be NULL. Must not block. */
    void (*committed)(struct weir_source *source, int32_t partition,
                      const struct weir_position *position);
    /* As weir_source_figures; may be NULL. */
    int (*figures)(struct weir_source *source, struct weir_buffer *out);
    void (*fini)(struct weir_source *source); /* also after a failed init or open */
    int (*describe)(const struct weir_position *position, struct weir_buffer *out);
};

#ifdef __cplusplus
}
#endif
