#pragma once
/* One data file of a table, or a Parquet file that belongs to none, batch by batch, in the table's
 * schema: partition columns and missing ones filled in, deleted rows still in place beside a bitmap
 * that tells them. For those who come back for more (a source); scan.h has the same for those who
 * take all. One thread at a time; blocks on the store. */
#include "batch/batch.h"
#include "lake/delta/parquet_file.h"
#include "lake/delta/snapshot.h"

struct delta_cursor {
    struct weir_delta_snapshot *snapshot; /* borrowed, not refreshed while this is open; or NULL */
    const struct weir_delta_add *add;     /* borrowed, or NULL */
    const struct weir_delta_column *columns; /* borrowed; as the schema's fields */
    struct weir_schema *schema;              /* borrowed */
    struct weir_pool *pool;
    struct delta_parquet_file file;
    int32_t *sources;  /* of each column, its place in the file's batches, or -1 */
    uint8_t *deleted;  /* a bit for every row of the file, NULL: none */
    int64_t first_row; /* of the file, at which the last batch began */
    int64_t next_row;
};

/* `schema` and `columns`: the snapshot's, or some of them in any order. Close also after an error.
 * Errors name the file. */
int delta_cursor_open(struct delta_cursor *cursor, struct weir_delta_snapshot *snapshot,
                      const struct weir_delta_add *add, struct weir_schema *schema,
                      const struct weir_delta_column *columns, struct weir_pool *pool,
                      struct weir_error *err) WEIR_MUST_CHECK;
/* The same of a file without a table: columns are found by name. */
int delta_cursor_open_file(struct delta_cursor *cursor, struct weir_store *store, const char *path,
                           struct weir_schema *schema, const struct weir_delta_column *columns,
                           struct weir_pool *pool, struct weir_error *err) WEIR_MUST_CHECK;
void delta_cursor_close(struct delta_cursor *cursor);
/* The columns of a schema as files without a table name them. weir_delta_columns_free
 * (schema_json.h) frees them; NULL without memory. */
struct weir_delta_column *delta_plain_columns(const struct weir_field *fields, int32_t count);
/* The next batch is the one that holds row `row` of the file; batches begin at the same rows
 * however the file is entered. */
int delta_cursor_seek(struct delta_cursor *cursor, int64_t row,
                      struct weir_error *err) WEIR_MUST_CHECK;
/* *batch is the caller's reference, NULL at the file's end. */
int delta_cursor_next(struct delta_cursor *cursor, struct weir_batch **batch,
                      struct weir_error *err) WEIR_MUST_CHECK;
