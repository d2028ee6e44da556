#pragma once
/* What keeps the tables of a running pipeline in order: one thread for all of them, which rewrites
 * small files, deletes rows past their age and vacuums, within a share of one core. It reads and
 * writes files on its own; a table's lock is held while it plans and while it commits, so that it
 * never races the pipeline's own appends. A second thread writes checkpoints, from a snapshot of
 * its own, so that neither a commit nor a long compaction is ever in its way. */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "lake/delta/commit.h"
#include "sink/sink.h"

enum { DELTA_UPKEEP_ORDER_MAX = 8 };

/* What a dataset asks for. */
struct delta_upkeep_options {
    bool compact;
    int64_t target_bytes;                 /* of compacted files; 0: 128 MiB */
    int64_t keep_us;                      /* rows older than so much go; 0: none */
    char *keep_by;                        /* the column that tells; owned */
    bool vacuum;                          /* once a day */
    char *zorder[DELTA_UPKEEP_ORDER_MAX]; /* columns by which files are kept apart; owned */
    int32_t zorder_count;
    char *tier_root; /* older files go there; owned; NULL: none */
    int64_t tier_us;
    bool direct_lake; /* files of large sorted row groups */
};

/* A table in care. Lives in its sink. */
struct delta_upkept {
    const char *name;
    pthread_mutex_t *lock;           /* guards *table */
    struct weir_delta_table **table; /* NULL until its first rows */
    struct delta_upkeep_options options;
    struct weir_sink_upkeep counts; /* under the upkeep's lock */
    int64_t new_files;
    bool checkpoint_due;
    int64_t checkpoint_ns; /* not before; monotonic */
    int64_t expire_ns;     /* when next; monotonic */
    int64_t vacuum_ns;
    int64_t tier_ns;
    bool leaving; /* atomic */
    struct delta_upkeep *upkeep;
    struct delta_upkept *next;
};

/* `shared`: the slot of this kind of sink in the pipeline. The first to join starts the thread.
 * `draining` (or NULL): the pipeline ends, nothing new is begun. */
int delta_upkeep_join(void **shared, struct delta_upkept *table, bool (*draining)(void *context),
                      void *context, struct weir_error *err) WEIR_MUST_CHECK;
/* Waits until the table is not being worked on; the last to leave ends the thread. May be called
 * without having joined. */
void delta_upkeep_leave(void **shared, struct delta_upkept *table);
/* After a commit that added so many files. */
void delta_upkeep_notice(struct delta_upkept *table, int64_t files);
/* A checkpoint is due: it is written soon, one at a time, within a share of one core, and before
 * delta_upkeep_leave returns. False: nobody would. */
bool delta_upkeep_checkpoint(struct delta_upkept *table);
/* Adds to *out. */
void delta_upkeep_counts(struct delta_upkept *table, struct weir_sink_upkeep *out);
