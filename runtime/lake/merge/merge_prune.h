#pragma once
/* Which files may hold the keys of a merge: by partition values, and by the statistics of the key
 * columns. Wrong only towards reading too much. */
#include "lake/delta/partition.h"
#include "lake/delta/snapshot.h"
#include "lake/merge/merge_keys.h"

struct delta_prune;

/* A partition column whose value follows from the key columns of a change. `partition->index` is
 * the column of the changes. */
struct delta_prune_partition {
    const char *name; /* in partitionValues */
    const struct delta_partition_column *column;
};

int delta_prune_create(struct delta_prune **out, const struct delta_keys *keys,
                       const struct weir_delta_column *key_names, /* one per key column */
                       const struct delta_prune_partition *partitions, int32_t partition_count,
                       struct weir_error *err) WEIR_MUST_CHECK;
void delta_prune_destroy(struct delta_prune *prune);
bool delta_prune_may_hold(const struct delta_prune *prune, const struct weir_delta_add *add);
