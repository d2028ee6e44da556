#pragma once
/* The change data feed: what each commit from one version to another did to rows, in order of
 * versions (Delta protocol, "Change Data Files"). A commit's change files say it where there are
 * any; else its added files are inserts and its removed ones deletes, and a file that only changed
 * its deletion vector gives the rows between the two. */
#include "lake/delta/table.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The columns of the table at `to`, then _change_type (insert, update_preimage, update_postimage,
 * delete), _commit_version and _commit_timestamp. The caller owns the reference. */
int weir_delta_changes_schema(struct weir_delta_snapshot *to, struct weir_schema **out,
                              struct weir_error *err) WEIR_MUST_CHECK;
/* `to` is the last version told; rows are in its columns. WEIR_E_UNSUPPORTED when the feed was not
 * on at each of these versions, WEIR_E_NOTFOUND when the log no longer holds one. */
int weir_delta_changes(struct weir_delta_snapshot *to, int64_t from, struct weir_pool *pool,
                       weir_delta_visit_batch *visit, void *context,
                       struct weir_error *err) WEIR_MUST_CHECK;

#ifdef __cplusplus
}
#endif
