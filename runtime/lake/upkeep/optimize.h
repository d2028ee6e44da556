#pragma once
/* Rewriting many small files, and files with deleted rows, into fewer: partition by partition, the
 * same rows, `dataChange = false`. Three steps, so that a process which also appends can hold its
 * table's lock for the first and last alone:
 *
 *   plan     chooses files from the held snapshot            (the table's thread)
 *   write    reads them and writes the new ones, synced      (any thread; the table may go on)
 *   commit   removes and adds in one entry of the log        (the table's thread)
 *
 * Between plan and commit others may commit what they like. Appends do not matter. A group of files
 * of which one is gone (or got a deletion vector) is left out of the commit and its new file
 * removed; a change of the table's schema or partitioning leaves out all. A run that dies leaves
 * files that no commit names. */
#include "core/pool.h"
#include "lake/delta/commit.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weir_delta_compaction;

/* Told after each file read; `done` and `total` count bytes of input. */
typedef void weir_delta_progress(void *context, int64_t done_bytes, int64_t total_bytes);
/* Called before each batch of rows is taken on, to wait where the work is budgeted; false: stop. */
typedef bool weir_delta_pace(void *context, int64_t bytes);

struct weir_delta_optimize_options {
    const char *where;         /* on partition columns (where.h), or NULL */
    const char *const *zorder; /* columns, or NULL: files are only made larger */
    int32_t zorder_count;
    bool clustered;            /* in the order of the columns the table is clustered by (domain
                                  delta.clustering): files that are not in it yet; *out is NULL where it is
                                  not clustered */
    int64_t target_file_bytes; /* 0: delta.targetFileSize, else 1 GiB */
    int64_t max_bytes;         /* of input to one commit; 0: 16 GiB. Z-ORDER: 0 is no bound */
    int32_t min_files;         /* small files a partition must have to be touched; 0: 2 */
    bool tiered;               /* a file is only taken with others of its size: in the background,
                                  where each run would else write the large ones again */
    bool direct_lake;          /* row groups are large and sorted (layout.c) */
    size_t memory_bytes;       /* of the writing; 0: 256 MiB */
    weir_delta_progress *progress;
    weir_delta_pace *pace;
    weir_delta_stop *stop; /* asked before each retry */
    void *context;         /* of the three above */
};

struct weir_delta_optimize_result {
    int64_t version; /* of the last commit, or the table's when nothing was to be done */
    int64_t files_removed;
    int64_t files_added;
    int64_t bytes_removed;
    int64_t bytes_added;
    int64_t rows;
    int64_t deleted_rows; /* hidden by deletion vectors, gone now */
    int64_t partitions;
    int32_t commits;
    int32_t groups_lost; /* to other writers, after their files had been written */
};

/* *out is NULL when there is nothing to do. WEIR_E_UNSUPPORTED: a table whose files weir may not
 * rewrite. `options` is borrowed until destroy. */
int weir_delta_compaction_plan(struct weir_delta_table *table,
                               const struct weir_delta_optimize_options *options,
                               struct weir_delta_compaction **out,
                               struct weir_error *err) WEIR_MUST_CHECK;
int64_t weir_delta_compaction_bytes(const struct weir_delta_compaction *compaction);
/* WEIR_E_CLOSED when `pace` said stop. */
int weir_delta_compaction_write(struct weir_delta_compaction *compaction,
                                struct weir_error *err) WEIR_MUST_CHECK;
/* Adds to `result`. `table`: the one planned from. Retries lost races itself. */
int weir_delta_compaction_commit(struct weir_delta_compaction *compaction,
                                 struct weir_delta_table *table,
                                 struct weir_delta_optimize_result *result,
                                 struct weir_error *err) WEIR_MUST_CHECK;
/* Removes new files that surely no commit names. */
void weir_delta_compaction_destroy(struct weir_delta_compaction *compaction);

struct weir_delta_expire_options {
    const char *column; /* a date or timestamp; null never expires */
    int64_t before_us;  /* rows of earlier times go */
    int64_t slack_us;   /* a file is rewritten for rows that are older than so much more */
    size_t memory_bytes;
    weir_delta_pace *pace;
    weir_delta_stop *stop;
    void *context;
};

/* Plans the deletion of old rows: files that hold nothing younger are dropped unread, told by their
 * partition or statistics; others are rewritten once they hold rows older than the slack, but not
 * in a table with a change data feed. Then write, commit and destroy as above; the commit is a
 * DELETE. WEIR_E_UNSUPPORTED: an append-only table, or a column that is no time. */
int weir_delta_expire_plan(struct weir_delta_table *table,
                           const struct weir_delta_expire_options *options,
                           struct weir_delta_compaction **out,
                           struct weir_error *err) WEIR_MUST_CHECK;

/* All of it, commit after commit until nothing is left to do; a clustered table is put in its
 * order, incrementally, where no other is asked for. Groups lost to other writers are
 * tried again, in the end given up: *result tells. */
int weir_delta_optimize(struct weir_delta_table *table,
                        const struct weir_delta_optimize_options *options,
                        struct weir_delta_optimize_result *result,
                        struct weir_error *err) WEIR_MUST_CHECK;

#ifdef __cplusplus
}
#endif
