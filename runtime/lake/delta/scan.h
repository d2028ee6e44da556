#pragma once
/* Reading one data file of a table, with the rows its deletion vector hides still in place: what
 * a merge needs, which counts rows as the file does. */
#include "batch/batch.h"
#include "lake/delta/row_tracking.h"
#include "lake/delta/snapshot.h"

/* `*batch` starts at row `first_row` of the file; `deleted` (or NULL) has a bit for every row of
 * the file. The batch may be replaced by another reference. */
typedef int delta_visit_rows(void *context, struct weir_batch **batch, int64_t first_row,
                             const uint8_t *deleted, struct weir_error *err);

/* `positions`: columns of the table's schema, in the order batches have them; NULL: all. With
 * `tracking` (or NULL) two more columns follow, those of row_tracking.h, never null. */
int delta_scan_file(struct weir_delta_snapshot *snapshot, const struct weir_delta_add *add,
                    const int32_t *positions, int32_t count, const struct delta_tracking *tracking,
                    struct weir_pool *pool, delta_visit_rows *visit, void *context,
                    struct weir_error *err) WEIR_MUST_CHECK;
