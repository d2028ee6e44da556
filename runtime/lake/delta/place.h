#pragma once
/* Where a file that the log names lies: in the table's folder, or in the second store of a table
 * whose old files were moved there (upkeep/tier.h), whose place the table remembers. */
#include "lake/delta/snapshot.h"
#include "lake/store/store.h"

#ifdef __cplusplus
extern "C" {
#endif

#define DELTA_TIER_ROOT "weir.tierRoot"

/* Is this file of the log in the table's second store? */
bool delta_is_tiered(const struct weir_delta_metadata *metadata, const char *logged);
/* Its path there, the caller's to free. */
int delta_tier_path(const struct weir_delta_metadata *metadata, const char *logged, char **path,
                    struct weir_error *err) WEIR_MUST_CHECK;
/* The second store of a table that has one; the snapshot's, opened once. */
int delta_tier_store(struct weir_delta_snapshot *snapshot, struct weir_store **store,
                     struct weir_error *err) WEIR_MUST_CHECK;
void delta_tier_close(struct weir_delta_snapshot *snapshot);
/* Where a file of the log lies: the table's folder, or its second store. The store is the
 * snapshot's, the path the caller's to free. */
int delta_file_place(struct weir_delta_snapshot *snapshot, const char *logged,
                     struct weir_store **store, char **path,
                     struct weir_error *err) WEIR_MUST_CHECK;

#ifdef __cplusplus
}
#endif
