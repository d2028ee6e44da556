#pragma once
/* Overwriting by partition: the rows of the partitions a predicate picks out are those of another
 * table, in one commit. Both see the same instant: readers have the old rows or the new ones. */
#include "lake/delta/commit.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weir_delta_replace_options {
    const char *where; /* of partition columns (where.h); not NULL */
    bool dry_run;      /* all but the commit; new files are removed again */
    weir_delta_stop *stop;
    void *stop_context;
};

struct weir_delta_replace_result {
    int64_t version; /* written; the table's when nothing was */
    int64_t files_removed;
    int64_t files_added;
    int64_t bytes_removed;
    int64_t bytes_added;
    int64_t rows; /* new */
    bool changed;
};

/* `from`: the new rows, all of them; a snapshot of any table whose columns the table has, with
 * their types. WEIR_E_DATA: a row lies outside the predicate, or violates a constraint.
 * WEIR_E_CONFLICT: another writer changed one of those partitions meanwhile; nothing was done. */
int weir_delta_replace(struct weir_delta_table *table, struct weir_delta_snapshot *from,
                       const struct weir_delta_replace_options *options,
                       struct weir_delta_replace_result *result,
                       struct weir_error *err) WEIR_MUST_CHECK;

/* As weir_delta_append, but the first commit of an application (`options->txn` names it) takes the
 * files of the partitions that `where` picks out away, as the table then is; its later ones append.
 * New files may be of any partition. */
int weir_delta_overwrite(struct weir_delta_table *table, const char *where,
                         struct weir_delta_add *const *adds, int32_t add_count,
                         const struct weir_delta_commit_options *options,
                         struct weir_delta_commit_result *result,
                         struct weir_error *err) WEIR_MUST_CHECK;
/* Whether the predicate is one of this table's. */
int weir_delta_overwrite_check(struct weir_delta_table *table, const char *where,
                               struct weir_error *err) WEIR_MUST_CHECK;

#ifdef __cplusplus
}
#endif
