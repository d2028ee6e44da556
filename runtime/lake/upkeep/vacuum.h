#pragma once
/* Deleting what no version worth keeping needs: data files and deletion vectors that were removed
 * from the table longer ago than it keeps them, old change data, and files that no commit ever
 * named because their writer died.
 *
 * Kept, always: what the newest version names; what was removed, or written, within the retention
 * (so every version of that time can be read, and writers that are not done are left alone); the
 * log, its sidecars and every other hidden folder; folders of other tables inside this one; and
 * unnamed files newer than a day before the last commit of each Weir pipeline, because its ledger
 * may still hold the commit that names them. */
#include "lake/delta/commit.h"

#ifdef __cplusplus
extern "C" {
#endif

#define WEIR_DELTA_RETENTION_MS (168ll * 3600 * 1000)

struct weir_delta_vacuum_options {
    int64_t retention_ms; /* < 0: delta.deletedFileRetentionDuration, else 168 h */
    bool allow_short;     /* a retention below that of the table */
    bool ignore_pending;  /* do not keep files for the ledgers of pipelines */
    bool dry_run;
    /* Told each file that goes (or, dry, would go), before it does. */
    void (*tell)(void *context, const char *path, int64_t bytes);
    /* Called before and after the log is written to, or NULL: where a process has
     * another committer of this table, to keep it out. */
    void (*bracket)(void *context, bool enter);
    weir_delta_stop *stop; /* or NULL */
    void *context;
};

struct weir_delta_vacuum_result {
    int64_t retention_ms;
    int64_t files; /* deleted, or to be */
    int64_t bytes;
    int64_t pending; /* kept for pipelines */
    int64_t listed;
};

/* WEIR_E_USAGE: a retention the table's readers and writers are not safe under. Commits VACUUM
 * START and VACUUM END, with no actions, around the deletions. */
int weir_delta_vacuum(struct weir_delta_table *table,
                      const struct weir_delta_vacuum_options *options,
                      struct weir_delta_vacuum_result *result,
                      struct weir_error *err) WEIR_MUST_CHECK;

#ifdef __cplusplus
}
#endif
