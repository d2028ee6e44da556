#pragma once
/* Merging changes into a Delta table by key: the newest row of a key replaces the one the table
 * holds, a delete removes it, a key the table lacks is inserted.
 *
 * The changes come in order and are first reduced to one a key (the newest by `time`; at equal
 * times, or without one, the last to come). The files that may hold those keys are found by
 * partition values and statistics, their key columns read, and then either rewritten without the
 * replaced rows or, where the table has `delta.enableDeletionVectors`, given a deletion vector.
 * With `delta.enableChangeDataFeed` the old and new rows go to `_change_data` as well.
 *
 * All of it is derived from the held snapshot; when another writer commits first it is thrown away
 * and derived again, so a merge is serializable with everything. Files of a merge that died are
 * garbage that no commit names. */
#include "batch/batch.h"
#include "lake/delta/writer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Values of the change column; rows without one are inserts. */
enum weir_delta_change {
    WEIR_DELTA_INSERT = 0,
    WEIR_DELTA_UPDATE_BEFORE = 1, /* the old row leaves its key, to which an update may come back */
    WEIR_DELTA_UPDATE_AFTER = 2,
    WEIR_DELTA_DELETE = 3,
};

struct weir_delta_merge_options {
    struct weir_delta_commit_options commit;
    const char *const *keys; /* columns; null equals null */
    int32_t key_count;
    const char *time;   /* a date, timestamp or integer column; NULL: the last to come wins */
    const char *change; /* an integer column of the changes, not of the table; NULL: all inserts */
    /* a list of strings, not of the table: columns a change leaves out, whose value stays; or NULL
     */
    const char *unavailable;
    const struct weir_delta_partition
        *partitions; /* as the table was made: tells derived columns */
    int32_t partition_count;
    bool truncate;          /* every row of the table goes first; there may be no changes then but
                               an empty batch that says the columns */
    struct weir_pool *pool; /* required: where batches of old rows go */
    const struct weir_delta_writer_options *writer; /* or NULL */
};

struct weir_delta_merge_result {
    struct weir_delta_commit_result commit;
    int64_t inserted;
    int64_t updated;
    int64_t deleted;
    int64_t outdated; /* changes older than what the table holds of their key */
    int64_t unknown;  /* columns left out of rows that had no value before: null */
    int64_t files_read;
    int64_t files_changed;
    bool columns_changed; /* by another writer meanwhile: WEIR_E_CONFLICT, fit the changes anew */
};

/* WEIR_E_SCHEMA: no such key, or a type that cannot be one. The rest as weir_delta_append. */
int weir_delta_merge(struct weir_delta_table *table, struct weir_batch *const *changes,
                     int32_t change_count, const struct weir_delta_merge_options *options,
                     struct weir_delta_merge_result *result,
                     struct weir_error *err) WEIR_MUST_CHECK;

/* Appends the last change of every key, and those that have what it leaves out, in the order they
 * came, as row numbers into the concatenation of the batches: what a record has to hold. `*rows` is
 * the caller's, free(). */
int weir_delta_net(struct weir_batch *const *changes, int32_t change_count,
                   const struct weir_delta_merge_options *options, int64_t **rows, int64_t *count,
                   struct weir_error *err) WEIR_MUST_CHECK;

#ifdef __cplusplus
}
#endif
