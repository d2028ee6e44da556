#pragma once
/* Rows of one columnar file on their way to batches of a source: columns by name in the types the
 * pipeline was planned with, columns nobody planned as JSON in `_rescued`, deleted rows left out,
 * rows without a value they must have rejected with the whole row as JSON. Files Weir wrote have
 * meta columns of their own: `_timestamp` and `_rescued` are taken over, the others say where a row
 * came from and are this source's; all are taken over where rows are read again (source->again).
 * Shared by the sources `delta` and `parquet`. Batches end at the same rows whatever row reading
 * begins at. */
#include "lake/delta/cursor.h"
#include "source/internal.h"

#define TABLE_FILE_VERSION_COLUMN "_commit_version"
#define TABLE_FILE_TIME_COLUMN "_commit_timestamp"

enum { TABLE_FILE_UNTOLD = -1 };

/* Whose files tell changes: what each row of a batch is (enum weir_change, or untold) where the
 * batch begins at row `first` of its file, whose own deleted rows are `deleted` (or NULL). */
struct table_file_told {
    void (*tell)(void *context, const struct weir_batch *rows, int64_t first,
                 const uint8_t *deleted, int8_t *changes);
    void *context;
    int64_t version;
    int64_t time_us;
};

struct table_file {
    struct weir_source *source;
    struct weir_batch_builder meta; /* of the meta columns */
    bool has_meta;
    struct weir_schema *schema; /* what is read: the source's columns, then those nobody planned */
    struct weir_delta_column *columns; /* as the schema's fields; owned or, of a table, borrowed */
    struct weir_schema *unplanned;     /* NULL: none */
    int32_t rescued;                 /* place of the `_rescued` the files have themselves, or -1 */
    int32_t theirs[WEIR_META_COUNT]; /* likewise of meta columns that are taken over as they are */
    bool owns_columns;
    uint8_t *looks;          /* what to look at in each column of a batch */
    struct weir_buffer json; /* a row's */

    struct delta_cursor cursor;
    bool is_open;
    char *topic;
    struct weir_batch *rows; /* live rows being handed out, NULL between batches of the file */
    int64_t *numbers;        /* their numbers in the file */
    const struct table_file_told *told; /* borrowed; NULL: the rows are no changes */
    int8_t *changes;                    /* of `rows`, where they are */
    int32_t given;                      /* of `rows` */
    int64_t next_row;                   /* of the file: all before it were handed out */
};

/* The columns of files that have `fields`, for the checker: all but the meta columns; `nullable`:
 * each may be null. */
int table_file_columns(const struct weir_schema *fields, bool nullable, struct weir_schema **out,
                       struct weir_error *err) WEIR_MUST_CHECK;

int table_file_init(struct table_file *file, struct weir_source *source,
                    struct weir_error *err) WEIR_MUST_CHECK;
void table_file_fini(struct table_file *file);

/* What the files to come hold: `fields`, described by `columns` (borrowed until the next call) or,
 * when NULL, named as they are. Nothing is open. */
int table_file_expect(struct table_file *file, const struct weir_schema *fields,
                      const struct weir_delta_column *columns,
                      struct weir_error *err) WEIR_MUST_CHECK;

/* The cursor is open (delta_cursor_open over `schema` and `columns`): rows from `row` on.
 * `topic` is what `_topic` says. Closes the cursor when it fails. */
int table_file_begin(struct table_file *file, const char *topic, int64_t row,
                     struct weir_error *err) WEIR_MUST_CHECK;
void table_file_close(struct table_file *file);

/* At most max_rows rows and rejects as a batch with room for a position; NULL at the file's end,
 * with `next_row` behind its last row. WEIR_E_LIMIT: no memory now, nothing is lost. */
int table_file_next(struct table_file *file, int32_t partition, int32_t max_rows,
                    uint32_t position_bytes, struct weir_source_batch **out,
                    struct weir_error *err) WEIR_MUST_CHECK;
/* A batch without rows, to say that there will be no more. */
int table_file_last(struct table_file *file, int32_t partition, uint32_t position_bytes,
                    struct weir_source_batch **out) WEIR_MUST_CHECK;
