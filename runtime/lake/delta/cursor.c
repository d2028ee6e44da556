#include "lake/delta/cursor.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lake/delta/convert.h"
#include "lake/delta/dv.h"
#include "lake/delta/partition.h"
#include "lake/delta/place.h"
#include "lake/delta/state.h"

/* Where a table column comes from in one file: >= 0 a column of the file's batches, -1 null. */
static int32_t find_column(const struct weir_parquet_reader *reader, const struct weir_schema *file,
                           const struct weir_delta_column *column, bool by_id) {
    if (by_id && column->field_id >= 0) {
        int32_t count;
        const struct weir_parquet_node *nodes = weir_parquet_reader_nodes(reader, &count);
        for (int32_t i = 0; i < file->count; i++) {
            int32_t node = weir_parquet_reader_column_node(reader, i);
            if (node >= 0 && node < count && nodes[node].field_id == column->field_id) {
                return i;
            }
        }
        return -1;
    }
    int32_t at = weir_schema_find(file, column->physical_name);
    for (int32_t i = 0; at < 0 && i < file->count; i++) {
        if (strcasecmp(file->fields[i].name, column->physical_name) == 0) {
            at = i;
        }
    }
    return at;
}

static const struct weir_delta_pair *partition_value(const struct weir_delta_add *add,
                                                     const char *name) {
    for (int32_t i = 0; add != NULL && i < add->partition_count; i++) {
        if (strcmp(add->partition_values[i].key, name) == 0) {
            return &add->partition_values[i];
        }
    }
    return NULL;
}

static const struct weir_delta_metadata *metadata_of(const struct delta_cursor *cursor) {
    return cursor->snapshot != NULL ? &cursor->snapshot->metadata : NULL;
}

static bool is_partition(const struct weir_delta_metadata *metadata, const char *name) {
    for (int32_t i = 0; metadata != NULL && i < metadata->partition_count; i++) {
        if (strcasecmp(metadata->partition_columns[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* A batch in the table's schema from one of the file's. */
static int shape_batch(const struct delta_cursor *cursor, struct weir_batch *from,
                       struct weir_batch **out, struct weir_error *err) {
    struct weir_batch *batch = weir_batch_create(cursor->pool, cursor->schema);
    if (batch == NULL) {
        return weir_error_set(err, WEIR_E_LIMIT, "read table: out of memory");
    }
    int rc = WEIR_OK;
    batch->rows = from->rows;
    for (int32_t i = 0; i < cursor->schema->count && rc == WEIR_OK; i++) {
        const struct weir_field *field = &cursor->schema->fields[i];
        const struct weir_delta_pair *value =
            partition_value(cursor->add, cursor->columns[i].physical_name);
        if (is_partition(metadata_of(cursor), field->name)) {
            rc = delta_partition_column(field, value != NULL ? value->value : NULL, from->rows,
                                        batch, &batch->columns[i], err);
            continue;
        }
        int32_t at = cursor->sources[i];
        if (at >= 0) { /* keeps the file's batch alive; the column itself is replaced below */
            rc = weir_batch_borrow(batch, i, from, at);
        }
        if (rc == WEIR_OK) {
            rc = delta_convert_column(
                field, &cursor->columns[i], at >= 0 ? &from->schema->fields[at] : NULL,
                at >= 0 ? &from->columns[at] : NULL, from->rows, batch, &batch->columns[i], err);
        } else {
            weir_error_set(err, rc, "read table: out of memory");
        }
    }
    if (rc != WEIR_OK) {
        weir_batch_unref(batch);
        return rc;
    }
    *out = batch;
    return WEIR_OK;
}

/* Which columns of the file are read, and where each of the table's is among them. */
static int choose_columns(struct delta_cursor *cursor, struct weir_error *err) {
    struct weir_parquet_reader *reader = cursor->file.reader;
    const struct weir_delta_metadata *metadata = metadata_of(cursor);
    const struct weir_schema *schema = weir_parquet_reader_schema(reader);
    const char *mapping = metadata != NULL
                              ? weir_delta_metadata_property(metadata, "delta.columnMapping.mode")
                              : NULL;
    bool by_id = mapping != NULL && strcmp(mapping, "id") == 0;
    int32_t *wanted = calloc((size_t)cursor->schema->count + 1, sizeof(*wanted));
    if (wanted == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "read table: out of memory");
    }
    int32_t count = 0;
    for (int32_t i = 0; i < cursor->schema->count; i++) {
        int32_t at = is_partition(metadata, cursor->schema->fields[i].name)
                         ? -1
                         : find_column(reader, schema, &cursor->columns[i], by_id);
        cursor->sources[i] = -1;
        if (at >= 0) {
            cursor->sources[i] = count;
            wanted[count++] = at;
        }
    }
    if (count == 0 && schema->count > 0) {
        wanted[count++] = 0; /* nothing but partition columns: any column gives the row count */
    }
    int rc = weir_parquet_reader_select(reader, wanted, count, err);
    free(wanted);
    return rc;
}

static int open_at(struct delta_cursor *cursor, struct weir_store *store, const char *path,
                   struct weir_error *err) {
    cursor->sources = calloc((size_t)cursor->schema->count + 1, sizeof(*cursor->sources));
    int rc = cursor->sources != NULL
                 ? delta_parquet_open(&cursor->file, store, path, -1, cursor->pool, err)
                 : weir_error_set(err, WEIR_E_NOMEM, "read table: out of memory");
    return rc == WEIR_OK ? choose_columns(cursor, err) : rc;
}

int delta_cursor_open(struct delta_cursor *cursor, struct weir_delta_snapshot *snapshot,
                      const struct weir_delta_add *add, struct weir_schema *schema,
                      const struct weir_delta_column *columns, struct weir_pool *pool,
                      struct weir_error *err) {
    *cursor = (struct delta_cursor){
        .snapshot = snapshot, .add = add, .schema = schema, .columns = columns, .pool = pool};
    char *path = NULL;
    struct weir_store *store;
    int rc = delta_file_place(snapshot, add->path, &store, &path, err);
    if (rc == WEIR_OK) {
        rc = open_at(cursor, store, path, err);
        if (rc == WEIR_E_NOTFOUND) {
            weir_error_set(err, rc,
                           "%s is gone, which the table names at version %" PRId64
                           ": removed by hand, or vacuumed too early; put it back, or go to a "
                           "version that does without it by `weir table restore`",
                           path, snapshot->version);
        }
    }
    if (rc == WEIR_OK && add->dv.storage_type != 0) {
        rc = delta_dv_read(snapshot, &add->dv, weir_parquet_reader_rows(cursor->file.reader),
                           &cursor->deleted, err);
    }
    free(path);
    return rc;
}

int delta_cursor_open_file(struct delta_cursor *cursor, struct weir_store *store, const char *path,
                           struct weir_schema *schema, const struct weir_delta_column *columns,
                           struct weir_pool *pool, struct weir_error *err) {
    *cursor = (struct delta_cursor){.schema = schema, .columns = columns, .pool = pool};
    return open_at(cursor, store, path, err);
}

struct weir_delta_column *delta_plain_columns(const struct weir_field *fields, int32_t count) {
    struct weir_delta_column *columns = calloc((size_t)count + 1, sizeof(*columns));
    bool whole = columns != NULL;
    for (int32_t i = 0; whole && i < count; i++) {
        columns[i].field_id = -1;
        columns[i].physical_name = strdup(fields[i].name != NULL ? fields[i].name : "");
        columns[i].child_count = fields[i].child_count;
        columns[i].children = delta_plain_columns(fields[i].children, fields[i].child_count);
        whole = columns[i].physical_name != NULL && columns[i].children != NULL;
    }
    if (!whole && columns != NULL) {
        weir_delta_columns_free(columns, count);
        columns = NULL;
    }
    return columns;
}

void delta_cursor_close(struct delta_cursor *cursor) {
    delta_parquet_close(&cursor->file);
    free(cursor->deleted);
    free(cursor->sources);
    cursor->deleted = NULL;
    cursor->sources = NULL;
}

int delta_cursor_seek(struct delta_cursor *cursor, int64_t row, struct weir_error *err) {
    struct weir_parquet_reader *reader = cursor->file.reader;
    int32_t groups = weir_parquet_reader_row_groups(reader);
    int64_t begin = 0;
    int32_t group = 0;
    while (group < groups && begin + weir_parquet_reader_row_group_rows(reader, group) <= row) {
        begin += weir_parquet_reader_row_group_rows(reader, group++);
    }
    if (group == groups) {
        return weir_error_set(err, WEIR_E_CORRUPT, "%s has no row %lld; was the file replaced?",
                              cursor->file.path, (long long)row);
    }
    int rc = weir_parquet_reader_seek(reader, group, err);
    cursor->next_row = begin;
    /* Batches begin where they always do: those that end before the row are passed over. */
    while (rc == WEIR_OK && row - cursor->next_row >= WEIR_BATCH_ROWS_MAX) {
        struct weir_batch *passed = NULL;
        rc = weir_parquet_reader_next(reader, &passed, err);
        if (rc == WEIR_OK && passed == NULL) {
            break;
        }
        cursor->next_row += rc == WEIR_OK ? passed->rows : 0;
        weir_batch_unref(passed);
    }
    return rc;
}

int delta_cursor_next(struct delta_cursor *cursor, struct weir_batch **batch,
                      struct weir_error *err) {
    struct weir_batch *from = NULL;
    *batch = NULL;
    int rc = weir_parquet_reader_next(cursor->file.reader, &from, err);
    if (rc != WEIR_OK || from == NULL) {
        return rc;
    }
    cursor->first_row = cursor->next_row;
    cursor->next_row += from->rows;
    rc = shape_batch(cursor, from, batch, err);
    weir_batch_unref(from);
    return rc;
}
