#pragma once
/* Row tracking (Delta protocol, "Row Tracking"): every row of a table has an id for life and the
 * version it last changed in. A file's rows have its baseRowId and up, and its
 * defaultRowCommitVersion; rows that are moved to another file take theirs along in two columns of
 * it, named by table properties, that are none of the schema's. Null there means the file's own. */
#include "batch/batch.h"
#include "lake/delta/table_state.h"

enum { DELTA_TRACKING_COLUMNS = 2 }; /* id, version: both int64, both may be null */

struct delta_tracking {
    const char *id; /* names, of the snapshot's metadata */
    const char *version;
};

/* Files that are added get ids: the table has the feature. */
bool delta_gives_row_ids(const struct weir_delta_snapshot *snapshot);
/* Moved rows must take theirs along: delta.enableRowTracking. False, too, where they need not.
 * WEIR_E_UNSUPPORTED where the columns have no names. */
int delta_tracking_of(const struct weir_delta_snapshot *snapshot, struct delta_tracking *tracking,
                      bool *tracked, struct weir_error *err) WEIR_MUST_CHECK;
/* Gives the files the ids after those of the table, and appends the domain's action; nothing where
 * the table gives none. Done again for each attempt. */
int delta_track_rows(const struct weir_delta_snapshot *snapshot, struct weir_delta_add *const *adds,
                     int32_t count, struct weir_buffer *actions,
                     struct weir_error *err) WEIR_MUST_CHECK;

/* The two columns, at the end of a schema. */
int delta_tracking_add(const struct delta_tracking *tracking,
                       struct weir_schema *schema) WEIR_MUST_CHECK;
/* Columns `first` and the next of a batch of the file's rows from `first_row` on: where they are
 * null they become what the file says of all its rows. */
int delta_tracking_fill(struct weir_batch *batch, int32_t first, const struct weir_delta_add *add,
                        int64_t first_row, struct weir_error *err) WEIR_MUST_CHECK;
