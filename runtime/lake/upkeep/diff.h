#pragma once
/* What changed between two versions of a table: its schema, partitioning and properties, and its
 * rows as multisets. Files that both versions have (with the same deletion vector) are not read, so
 * the cost is that of what was rewritten; compaction alone shows no difference. A column that one
 * version lacks counts as null. */
#include "batch/batch.h"
#include "lake/delta/snapshot.h"

#ifdef __cplusplus
extern "C" {
#endif

enum weir_delta_diff_kind { WEIR_DELTA_DIFF_OLD, WEIR_DELTA_DIFF_NEW };

struct weir_delta_diff_options {
    const char *const *keys; /* columns; NULL: rows have no identity */
    int32_t key_count;
    /* A row only one of the versions has; `changed`: the other has one with its key. NULL: they are
     * only counted. All old rows come before the new. */
    int (*row)(void *context, enum weir_delta_diff_kind kind, bool changed,
               const struct weir_batch *batch, int32_t row, struct weir_error *err);
    /* A line on the schema: "column extra string added". */
    int (*schema)(void *context, const char *text, struct weir_error *err);
    void *context;
};

struct weir_delta_diff_result {
    int64_t removed; /* rows of the old version alone; with keys, whose key is gone */
    int64_t added;
    int64_t changed; /* keys that both have, with other values */
    int64_t files_read;
    int64_t files_same;
    int32_t schema_changes;
};

/* WEIR_E_LIMIT: more differing rows than are held at once (some 30 million). */
int weir_delta_diff(struct weir_delta_snapshot *from, struct weir_delta_snapshot *to,
                    const struct weir_delta_diff_options *options,
                    struct weir_delta_diff_result *result, struct weir_error *err) WEIR_MUST_CHECK;

#ifdef __cplusplus
}
#endif
