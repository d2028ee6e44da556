#pragma once
/* Columns as a Parquet file has them to columns as the table's schema says: missing ones become
 * null, narrower types are widened, structs are reordered, all by physical name. */
#include "batch/batch.h"
#include "lake/delta/snapshot.h"

/* `from` may be NULL (the file lacks the column). Buffers are shared with `from`, whose batch must
 * stay alive (weir_batch_borrow), or taken from `batch`. WEIR_E_UNSUPPORTED: no lossless way. */
int delta_convert_column(const struct weir_field *to_field,
                         const struct weir_delta_column *to_names,
                         const struct weir_field *from_field, const struct weir_column *from,
                         int64_t rows, struct weir_batch *batch, struct weir_column *out,
                         struct weir_error *err) WEIR_MUST_CHECK;
