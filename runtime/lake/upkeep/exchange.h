#pragma once
/* A table's rows become those of another table, which lies in a folder of it: one commit takes all
 * files of the one away, names those of the other where they lie, and has its columns, partitioning
 * and properties. Readers see the old table or the new one. The table's id and transaction markers
 * stay. */
#include "lake/delta/commit.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weir_delta_exchange_result {
    int64_t version; /* written; the table's when it was done before */
    int64_t files_removed;
    int64_t files_added;
    bool skipped; /* the table holds options->txn already */
};

/* The table at `dir`/`within` of `store` (relative to its root) takes the place of the one at
 * `dir`, which is made where there is none. WEIR_E_UNSUPPORTED: one of both names its columns
 * otherwise in files (column mapping), is append-only, or has features that the other's files know
 * nothing of. Files that other writers append meanwhile are taken away too. */
int weir_delta_exchange(struct weir_store *store, const char *dir, const char *within,
                        const struct weir_delta_commit_options *options,
                        struct weir_delta_exchange_result *result,
                        struct weir_error *err) WEIR_MUST_CHECK;

#ifdef __cplusplus
}
#endif
