#pragma once
/* A digest of chosen rows, by value: the same for a batch however it lies in memory (slices,
 * dictionaries, what null slots hold), so that a replay can be compared with what was recorded.
 * Chained: pass the digest so far as `seed`. */
#include "batch/batch.h"

/* sel NULL: rows 0..count. Works on copies of at most WEIR_BATCH_ROWS_MAX values; no allocation. */
uint64_t weir_batch_digest(const struct weir_batch *batch, const int32_t *sel, int32_t count,
                           uint64_t seed);
