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

struct weir_sink_partition {
    const char *column;
    enum { WEIR_SINK_PARTITION_COLUMN, WEIR_SINK_PARTITION_DATE, WEIR_SINK_PARTITION_HOUR } kind;
};

struct weir_sink_config {
    const char *kind;           /* "delta" */
    const char *options_json;   /* of other kinds: as written, an object; borrowed for `create` */
    const char *name;           /* dataset; borrowed for the sink's life */
    const char *root;           /* where tables lie; copied, as are partition columns */
    struct weir_store *store;   /* borrowed, instead of a folder at root; NULL: that folder */
    const char *application_id; /* of the markers; borrowed */
    struct weir_schema *schema; /* one reference is taken; NULL: only old effects are applied */
    const struct weir_sink_partition *partitions;
    int32_t partition_count;
    bool lazy;           /* the table is made by its first rows (quarantines), not at the start */
    size_t memory_bytes; /* what the encoder may hold */
    bool (*stop)(void *context); /* true: give up retrying, the pipeline is going down */
    void *stop_context;
};

struct weir_sink_ops {
    const char *kind;
    /* What `into = kind { … }` takes, ended by a NULL name; NULL: the checker knows by itself
     * (delta, whose options are declarations). */
    const struct weir_option *options;
    /* Caller's thread, no I/O. */
    int (*create)(const struct weir_sink_config *config, void **self, struct weir_error *err);
    /* Caller's thread, before the threads start: connects, makes what must exist, and says which
     * marker the outside system holds (0: none). May block; may be repeated. */
    int (*start)(void *self, uint64_t *marker, struct weir_error *err);
    /* Worker. The batch is borrowed. May block on the disk. Not idempotent. */
    int (*write)(void *self, struct weir_batch *batch, const int32_t *sel, int32_t count,
                 struct weir_error *err);
    /* Worker. Everything written since the last seal is durable on return; its effect is appended
     * to `effect` (left empty when there was nothing). */
    int (*seal)(void *self, uint64_t epoch, struct weir_buffer *effect, struct weir_error *err);
    /* Applier. Idempotent by the marker: `record` ascends. `verify`: after a restart, check that
     * what the effect names still exists. Blocks, retries what can be retried. */
    int (*apply)(void *self, uint64_t record, const void *effect, size_t size, bool verify,
                 struct weir_error *err);
    /* Applier, after apply, off the commit path: checkpoints and the like. Failing is told and
     * tried again after a later effect. */
    int (*maintain)(void *self, struct weir_error *err);
    /* After both threads are gone. What was written and not sealed is removed. */
    void (*destroy)(void *self);
};

/* NULL when there is no such kind. */
const struct weir_sink_ops *weir_sink_find(const char *kind);
/* Tells the checker of the kinds there are (core/option.h). Once, at start. */
void weir_sink_declare(void);
extern const struct weir_sink_ops weir_sink_delta;
