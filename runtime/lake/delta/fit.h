#pragma once
/* Rows as a stream has them to rows as the table has its columns by now. A table may have renamed a
 * column, or given it a wider type or more members, while a pipeline that knows nothing of it goes
 * on, or before what a record holds is committed: such rows go where they belong, under the names
 * and types of the table. */
#include "batch/batch.h"
#include "lake/delta/snapshot.h"

#ifdef __cplusplus
extern "C" {
#endif

/* `rows` with the table's names and types where it has others; *fitted is NULL where there are none
 * (new columns are not the fit's matter). The caller owns the reference. */
int weir_delta_fit_schema(struct weir_delta_snapshot *snapshot, const struct weir_schema *rows,
                          struct weir_schema **fitted, struct weir_error *err) WEIR_MUST_CHECK;
/* The same rows under `fitted`, column by column; the caller owns the reference. Memory is of the
 * batch's pool. */
int weir_delta_fit_batch(struct weir_batch *batch, struct weir_schema *fitted,
                         struct weir_batch **out, struct weir_error *err) WEIR_MUST_CHECK;

#ifdef __cplusplus
}
#endif
