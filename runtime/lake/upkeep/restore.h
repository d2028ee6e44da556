#pragma once
/* Taking a table back to an earlier version, as a new version: files that version had and the table
 * no longer has come back, those it did not have go, and the schema, partitioning and properties
 * are that version's. The protocol is never lowered, and transaction markers stay: a pipeline goes
 * on with its next epoch and writes none twice. */
#include "lake/delta/commit.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weir_delta_restore_result {
    int64_t version;  /* written; the table's when it was as wanted already */
    int64_t restored; /* the version gone back to */
    int64_t files_restored;
    int64_t files_removed;
    int64_t bytes_restored;
    int64_t bytes_removed;
    bool changed;
};

struct weir_delta_restore_options {
    struct weir_delta_at at; /* a version or a time */
    bool dry_run;
    weir_delta_stop *stop; /* or NULL */
    void *stop_context;
};

/* WEIR_E_NOTFOUND: the version is no longer in the log, or a file of it was vacuumed (named).
 * Another writer's commit in between is undone as well: the restore is derived again. */
int weir_delta_restore(struct weir_delta_table *table,
                       const struct weir_delta_restore_options *options,
                       struct weir_delta_restore_result *result,
                       struct weir_error *err) WEIR_MUST_CHECK;

#ifdef __cplusplus
}
#endif
