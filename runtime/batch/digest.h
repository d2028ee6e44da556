#pragma once
/* A digest of chosen rows, by value: the same for a batch however it lies in memory (slices,
 * gathers, dictionaries, what null slots hold, which NaN), so that a replay can be compared with
 * what was recorded. The order of rows and columns counts, their names do not. Chained: pass the
 * digest so far as `seed`; the cuts between chained calls count. */
#include "batch/batch.h"

/* sel NULL: rows 0..count. No allocation; some 30 KiB of stack a nesting level. */
uint64_t weir_batch_digest(const struct weir_batch *batch, const int32_t *sel, int32_t count,
                           uint64_t seed);
