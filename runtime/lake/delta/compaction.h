#pragma once
/* A compaction under way: optimize.c plans and commits, compaction.c and zorder.c write. */
#include "lake/delta/maintain.h"
#include "lake/delta/optimize.h"
#include "lake/delta/scan.h"
#include "lake/delta/writer.h"

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
    bool keep_outputs;          /* a commit's outcome is unknown: its files stay */
    /* deleting old rows (expire.c) */
    struct weir_delta_optimize_options own; /* what options points to then */
    const char *expire_column;              /* NULL: all rows stay */
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

/* A writer of files under the folder of the group's partition. */
int delta_group_writer(struct weir_delta_compaction *compaction, const struct delta_group *group,
                       size_t memory_bytes, int64_t file_bytes, struct weir_delta_writer **out,
                       struct weir_error *err) WEIR_MUST_CHECK;
/* Seals the writer; its files become the group's outputs, with the partition values of its inputs.
 */
int delta_group_seal(struct delta_group *group, const struct weir_delta_add *like,
                     struct weir_delta_writer *writer, struct weir_error *err) WEIR_MUST_CHECK;
/* WEIR_E_CLOSED when the run is to stop. */
int delta_compaction_pace(struct weir_delta_compaction *compaction, int64_t bytes,
                          struct weir_error *err) WEIR_MUST_CHECK;
void delta_compaction_advance(struct weir_delta_compaction *compaction, int64_t bytes);

int delta_zorder_write(struct weir_delta_compaction *compaction, struct delta_group *group,
                       struct weir_error *err) WEIR_MUST_CHECK;
