#pragma once
/* A compaction under way: optimize.c plans and commits, compaction.c and zorder.c write. */
#include "lake/delta/maintain.h"
#include "lake/delta/scan.h"
#include "lake/delta/writer.h"
#include "lake/upkeep/optimize.h"

enum { DELTA_ZORDER_COLUMNS_MAX = 8 };

/* Files of one partition that become one file (by Z-ORDER: some). */
struct delta_group {
    int32_t first; /* in inputs */
    int32_t count;
    bool dropped; /* all rows go: nothing is read or written */
    int64_t bytes;
    struct weir_delta_adds outputs;
};

struct weir_delta_compaction {
    const struct weir_delta_optimize_options *options;
    struct weir_delta_snapshot *head; /* of the table as planned; no files */
    int64_t target_bytes;
    struct weir_delta_adds inputs; /* copies, by partition */
    struct delta_group *groups;
    int32_t group_count;
    int64_t bytes; /* of all inputs */
    int64_t done_bytes;
    struct weir_pool *pool;
    struct weir_schema *schema; /* what the new files hold: all but partition columns */
    int32_t *positions;         /* of its columns in the table's */
    int32_t column_count;       /* of those; columns of row tracking follow */
    struct delta_tracking tracking;
    bool tracked;
    char *order[DELTA_ZORDER_COLUMNS_MAX]; /* of a clustered table; owned */
    int32_t order_count;
    char *tags;                             /* of the new files, a JSON object; or NULL */
    bool keep_outputs;                      /* a commit's outcome is unknown: its files stay */
    struct weir_delta_optimize_options own; /* what options points to where it is made here */
    /* deleting old rows (expire.c) */
    const char *expire_column; /* NULL: all rows stay */
    int64_t expire_before_us;
    int64_t expired_rows; /* left out by the writing */
};

/* Room for `count` copies of these files as one more group. */
int delta_compaction_add(struct weir_delta_compaction *compaction,
                         const struct weir_delta_add **files, size_t count,
                         struct weir_error *err) WEIR_MUST_CHECK;
/* Nothing planned yet, over the table as it is. */
int delta_compaction_create(struct weir_delta_table *table, const char *what,
                            const struct weir_delta_optimize_options *options,
                            struct weir_delta_compaction **out,
                            struct weir_error *err) WEIR_MUST_CHECK;

/* A writer of files under the folder of the group's partition, which is put into `options`. */
int delta_group_writer(struct weir_delta_compaction *compaction, const struct delta_group *group,
                       struct weir_delta_writer_options *options, struct weir_delta_writer **out,
                       struct weir_error *err) WEIR_MUST_CHECK;
/* Reads a file whole, as new files hold its rows. */
int delta_group_scan(struct weir_delta_compaction *compaction, const struct weir_delta_add *add,
                     delta_visit_rows *visit, void *context,
                     struct weir_error *err) WEIR_MUST_CHECK;
size_t delta_group_file_bytes(const struct weir_delta_compaction *compaction);
/* Seals the writer; its files become the group's outputs, with the partition values of its inputs.
 */
int delta_group_seal(struct weir_delta_compaction *compaction, struct delta_group *group,
                     struct weir_delta_writer *writer, struct weir_error *err) WEIR_MUST_CHECK;
/* WEIR_E_CLOSED when the run is to stop. */
int delta_compaction_pace(struct weir_delta_compaction *compaction, int64_t bytes,
                          struct weir_error *err) WEIR_MUST_CHECK;
void delta_compaction_advance(struct weir_delta_compaction *compaction, int64_t bytes);

/* Rows on their way into files whose row groups are large and sorted (layout.c). */
struct delta_layout;
int delta_layout_create(struct weir_delta_compaction *compaction, struct delta_group *group,
                        size_t memory_bytes, struct delta_layout **out,
                        struct weir_error *err) WEIR_MUST_CHECK;
void delta_layout_destroy(struct delta_layout *layout);
/* Rows sel[0..count) of the batch, which is kept until they are written. */
int delta_layout_append(struct delta_layout *layout, struct weir_batch *batch, const int32_t *sel,
                        int32_t count, struct weir_error *err) WEIR_MUST_CHECK;
/* The files become the group's outputs. */
int delta_layout_seal(struct delta_layout *layout, struct weir_error *err) WEIR_MUST_CHECK;

/* Tags for the files this compaction writes, where it puts rows in order (clustering.c). */
int delta_make_tags(struct weir_delta_compaction *compaction,
                    struct weir_error *err) WEIR_MUST_CHECK;
/* The columns a clustered table is ordered by go into compaction->order; none where it is not
 * clustered, or by what no file can be skipped by. */
int delta_clustering_order(struct weir_delta_compaction *compaction,
                           struct weir_delta_snapshot *snapshot,
                           struct weir_error *err) WEIR_MUST_CHECK;
/* The file is one of such a compaction. */
bool delta_is_in_order(const struct weir_delta_compaction *compaction,
                       const struct weir_delta_add *add);
/* Appends ["a","b"] as a JSON text. */
int delta_put_names(struct weir_buffer *out, const char *const *names,
                    int32_t count) WEIR_MUST_CHECK;

int delta_zorder_write(struct weir_delta_compaction *compaction, struct delta_group *group,
                       struct weir_error *err) WEIR_MUST_CHECK;
