#pragma once
/* A merge under way. merge.c plans and commits, merge_files.c reads and writes the files. */
#include "lake/delta/dv.h"
#include "lake/delta/scan.h"
#include "lake/delta/table_state.h"
#include "lake/merge/merge.h"
#include "lake/merge/merge_keys.h"
#include "lake/merge/merge_prune.h"

enum { DELTA_MERGE_KEYS_MAX = 16 };

/* A row of the table whose key is among the changes. */
struct delta_match {
    int64_t row; /* in its file */
    struct delta_entry *entry;
};

/* A file that holds such rows. */
struct delta_touched {
    const struct weir_delta_add *add; /* the snapshot's */
    size_t first;                     /* match */
    size_t count;
    int64_t rows; /* of the file, deleted ones too */
    int64_t live;
};

struct delta_merge {
    struct weir_delta_table *table;
    struct weir_batch *const *changes;
    int32_t change_count;
    const struct weir_delta_merge_options *options;
    struct weir_delta_merge_result *result;
    int32_t key_columns[DELTA_MERGE_KEYS_MAX]; /* of the changes */
    int32_t key_count;
    int32_t time;        /* column of the changes, or -1 */
    int32_t change;      /* column of the changes, or -1 */
    int32_t unavailable; /* likewise */
    struct delta_keys keys;
    /* of the table, redone when its schema moved */
    struct weir_schema *schema; /* what data files are written from: all but derived columns */
    int32_t *positions;         /* of its columns in the table's schema */
    int32_t *sources;           /* of its columns in the changes, or -1 */
    int32_t column_count;       /* of those; columns of row tracking follow */
    struct delta_tracking tracking;
    bool tracked;
    struct weir_delta_partition *partitions;
    int32_t partition_count;
    bool use_vectors;
    bool feed;
    /* of one attempt */
    struct delta_match *matches;
    size_t match_count;
    size_t match_capacity;
    struct delta_touched *touched;
    int32_t touched_count;
    int32_t touched_capacity;
    struct weir_batch **old; /* rows of the table whose values changes leave out */
    int32_t old_count;
    int32_t old_capacity;
    struct weir_delta_writer *writer; /* kept from attempt to attempt */
    struct weir_delta_writer *feed_writer;
    struct weir_schema *feed_schema;
    struct weir_delta_adds adds;
    struct weir_delta_adds cdc;
    struct delta_dv_writer vectors;
    bool has_vectors;
    struct weir_buffer actions;
};

int delta_merge_no_memory(struct weir_error *err);
/* Finds the rows of the table whose keys are among the changes, and which changes are outdated. */
int delta_merge_match(struct delta_merge *merge, struct weir_error *err) WEIR_MUST_CHECK;
/* Writes data files, vectors and the feed, durable on return, and formats the actions. */
int delta_merge_write(struct delta_merge *merge, struct weir_error *err) WEIR_MUST_CHECK;
/* Rows sel[0..count) of a batch as data files have it, to the feed if there is one. */
int delta_merge_feed(struct delta_merge *merge, struct weir_batch *batch, const int32_t *sel,
                     int32_t count, const char *kind, struct weir_error *err) WEIR_MUST_CHECK;

/* merge_parts.c: changes that leave columns out. Does the table hold something of them in this
 * file? */
bool delta_parts_in(const struct delta_merge *merge, const struct delta_touched *touched);
/* Keeps those of the table's rows whose changes leave out what it has; entries[i] is that of
 * rows[i]. The arrays are used up. */
int delta_parts_keep(struct delta_merge *merge, struct weir_batch *batch, int32_t *rows,
                     struct delta_entry **entries, int32_t count,
                     struct weir_error *err) WEIR_MUST_CHECK;
/* Writes the entries whose changes leave columns out, whole. */
int delta_parts_write(struct delta_merge *merge, struct delta_entry *const *entries, int64_t count,
                      struct weir_error *err) WEIR_MUST_CHECK;
void delta_parts_forget(struct delta_merge *merge);

/* merge_complete.c: the changes with what the table fills in; NULL where it fills in nothing. */
int delta_merge_complete(struct weir_delta_table *table, struct weir_batch *const *changes,
                         int32_t count, const struct weir_delta_merge_options *options,
                         struct weir_batch ***out, struct weir_error *err) WEIR_MUST_CHECK;
void delta_merge_free_changes(struct weir_batch **changes, int32_t count);

/* Removes what delta_merge_write made, and forgets the matches. */
void delta_merge_discard(struct delta_merge *merge, bool remove_files);
