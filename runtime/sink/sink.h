#pragma once
/* Sinks: in-order consumers of the ledger. A sink's life has two halves on two threads.
 *
 *   worker   write(batch)* … seal(epoch): encodes, makes the epoch's part durable (data files
 *            synced) and returns it as effects: opaque bytes that go into the ledger's record.
 *   applier  apply(record, effects): after the record is durable, makes them visible in the
 *            outside system, with the record's number as a marker in the same transaction. A sink
 *            that already holds the marker skips.
 *
 * Adding one: a file with a vtable, and a line in registry.c. */
#include <stdbool.h>
#include <stdint.h>

#include "batch/batch.h"
#include "core/buffer.h"
#include "core/error.h"
#include "core/option.h"

struct weir_store;
struct weir_delta_duties;

/* Of a sink that keeps no marker of its own: the ledger's word is all there is (at least once). */
#define WEIR_SINK_NO_MARKER UINT64_MAX
/* Bytes a sink leaves free at the front of an effect it hands over: sinks.c writes the digest. */
#define WEIR_SINK_HEAD_BYTES 96

/* What effects in the ledger are: recorded, append only. */
enum weir_sink_effect_kind {
    WEIR_SINK_EFFECT_DELTA_APPEND = 1,
    WEIR_SINK_EFFECT_KAFKA = 2,
    WEIR_SINK_EFFECT_WEBHOOK = 3,
};

struct weir_sink_record { /* a record's effect, the digest's line left out */
    uint64_t record;
    const void *effect;
    size_t size;
    bool verify; /* files it names may be gone: look */
};

/* An effect's bytes and who gets them back. */
struct weir_sink_effect {
    void *data; /* WEIR_SINK_HEAD_BYTES free, then the effect */
    size_t size;
    void (*release)(void *owner);
    void *owner;
};

struct weir_sink_partition {
    const char *column;
    enum { WEIR_SINK_PARTITION_COLUMN, WEIR_SINK_PARTITION_DATE, WEIR_SINK_PARTITION_HOUR } kind;
};

/* What a sink did to keep its outside in order, beside what it was given. */
struct weir_sink_upkeep {
    int64_t runs; /* compactions */
    int64_t files_removed;
    int64_t files_added;
    int64_t bytes_written;
    int64_t files_expired;
    int64_t files_vacuumed;
    int64_t files_tiered; /* moved to the second store */
    int64_t checkpoints;
    int64_t alerts_sent;
    int64_t alerts_failed; /* given up */
    int64_t cpu_ns;
};

struct weir_sink_config {
    const char *kind;           /* "delta" */
    const char *options_json;   /* of other kinds: as written, an object; borrowed for `create` */
    const char *name;           /* dataset; borrowed for the sink's life */
    const char *root;           /* where tables lie; copied, as are partition columns */
    const char *within;         /* the table is made anew in this folder of its place; or NULL */
    struct weir_store *store;   /* borrowed, instead of a folder at root; NULL: that folder */
    const char *application_id; /* of the markers; borrowed, as the next three */
    const char *pipeline;
    const char *lineage; /* of the ledger, as hex */
    const char *log;
    const char *folder; /* of the ledger, for what a sink notes there of itself; borrowed */
    void **shared;      /* what sinks of this kind in this pipeline share, theirs to manage */
    struct weir_schema *schema; /* one reference is taken; NULL: only old effects are applied */
    const struct weir_sink_partition *partitions;
    int32_t partition_count;
    const char *const
        *keys; /* with key_count > 0 rows are merged by these columns; copied, as ... */
    int32_t key_count;
    const char *time; /* ... is the column by which the newest row wins; NULL: the last to come */
    const struct weir_sink_property {
        const char *name;
        const char *value;
    } * properties; /* a new table's; copied */
    int32_t property_count;
    const char *overwrite; /* partitions that the first commit takes away; NULL: none; copied */
    bool compact;          /* small files are put together while the pipeline runs, ... */
    bool vacuum;           /* ... and what no version needs is deleted */
    int64_t target_bytes;  /* of a file; 0: the sink's own */
    int64_t keep_us;       /* rows older than so much go; 0: none */
    const char *keep_by;   /* by this column; copied */
    const char *tier_root; /* files older than tier_us go there; NULL: none; copied */
    int64_t tier_us;
    const char *const *zorder; /* files are kept apart by these columns; copied */
    int32_t zorder_count;
    bool direct_lake; /* files of large sorted row groups */
    bool together;    /* epochs are short: few rows go into the record, not into files of theirs */
    bool lazy;        /* the table is made by its first rows (quarantines), not at the start */
    size_t memory_bytes;         /* what the encoder may hold */
    bool (*stop)(void *context); /* true: give up retrying, the pipeline is going down */
    /* True: the pipeline is ending and waits for what is under way; may be NULL. */
    bool (*draining)(void *context);
    void *stop_context; /* of both */
};

/* Where a dataset's table lies below the root: silver.pos_sale in silver/pos_sale. WEIR_E_CONFIG
 * when its name does not fit. */
int weir_sink_folder(const char *dataset, char *out, size_t size,
                     struct weir_error *err) WEIR_MUST_CHECK;

struct weir_sink_ops {
    const char *kind;
    /* What `into = kind { … }` takes, ended by a NULL name; NULL: the checker knows by itself
     * (delta, whose options are declarations). */
    const struct weir_option *options;
    enum weir_sink_effect_kind effect_kind;
    /* Caller's thread, no I/O. */
    int (*create)(const struct weir_sink_config *config, void **self, struct weir_error *err);
    /* Caller's thread, before the threads start: connects, makes what must exist, and says which
     * marker the outside system holds (0: none; or WEIR_SINK_NO_MARKER). May block; may be
     * repeated. */
    int (*start)(void *self, uint64_t *marker, struct weir_error *err);
    /* Loop thread, after start, or NULL: what rows of this schema owe to the outside (NULL:
     * nothing), for the graph to judge them by (lake/delta/duties.h); the caller's. */
    int (*duties)(void *self, struct weir_schema *schema, struct weir_delta_duties **out,
                  struct weir_error *err);
    /* Worker. The batch is borrowed. May block on the disk. Not idempotent. */
    int (*write)(void *self, struct weir_batch *batch, const int32_t *sel, int32_t count,
                 struct weir_error *err);
    /* Loop thread, after start, or NULL (they may, but for wider types): whether rows may have the
     * columns and types of this schema from now on, and nothing that is written stands against it.
     */
    int (*takes)(void *self, struct weir_schema *schema, struct weir_error *err);
    /* Worker, between a seal and the first rows after it: rows to come have this schema. Columns
     * that are new go outside with the next effect; those that are gone stay there. NULL: columns
     * change at a restart only. */
    int (*evolve)(void *self, struct weir_schema *schema, struct weir_error *err);
    /* Worker. Everything written since the last seal is durable on return; its effect is appended
     * to `effect` (left empty when there was nothing). */
    int (*seal)(void *self, uint64_t epoch, struct weir_buffer *effect, struct weir_error *err);
    /* Worker, instead of seal (NULL then): hands over bytes of its own, without a copy, where
     * effects are large. Left empty when there was nothing. */
    int (*hand_over)(void *self, uint64_t epoch, struct weir_sink_effect *effect,
                     struct weir_error *err);
    /* Worker, with hand_over: bytes of the effect so far, which a record will have to hold. */
    size_t (*held)(void *self);
    /* Applier. Idempotent by the marker: `record` ascends. `verify`: after a restart, check that
     * what the effect names still exists. Blocks, retries what can be retried. */
    int (*apply)(void *self, uint64_t record, const void *effect, size_t size, bool verify,
                 struct weir_error *err);
    /* Applier, where records that wait can share a transaction: ascending, the last one's number as
     * marker. Instead of apply, which is NULL then; or beside it, for sinks whose rows lie in
     * records (`together`). Else as apply. */
    int (*apply_many)(void *self, const struct weir_sink_record *records, int32_t count,
                      struct weir_error *err);
    /* Applier, after apply, off the commit path: checkpoints and the like. Failing is told and
     * tried again after a later effect. */
    int (*maintain)(void *self, struct weir_error *err);
    /* Any thread, or NULL: adds to *out. */
    void (*upkeep)(void *self, struct weir_sink_upkeep *out);
    /* After both threads are gone. What was written and not sealed is removed. */
    void (*destroy)(void *self);
};

/* NULL when there is no such kind. */
const struct weir_sink_ops *weir_sink_find(const char *kind);
/* Tells the checker of the kinds there are (core/option.h). Once, at start. */
void weir_sink_declare(void);
extern const struct weir_sink_ops weir_sink_delta;
extern const struct weir_sink_ops weir_sink_kafka;
extern const struct weir_sink_ops weir_sink_webhook;

/* The sink's options an effect of a Kafka sink carries, as JSON; borrowed from it. */
int weir_sink_kafka_options(const void *effect, size_t size, const char **options,
                            size_t *options_size, struct weir_error *err) WEIR_MUST_CHECK;
