/* Reading a table's rows: each live file through the Parquet reader, put into the table's schema,
 * partition values added, deleted rows left out. */
#include <stdlib.h>
#include <strings.h>

#include "lake/delta/convert.h"
#include "lake/delta/dv.h"
#include "lake/delta/parquet_file.h"
#include "lake/delta/partition.h"
#include "lake/delta/scan.h"
#include "lake/delta/state.h"
#include "lake/delta/table.h"

struct scan {
    struct weir_delta_snapshot *snapshot;
    struct weir_schema *schema;
    const struct weir_delta_column *columns;
    struct weir_pool *pool;
    weir_delta_visit_batch *visit;
    void *context;
};

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
    for (int32_t i = 0; i < add->partition_count; i++) {
        if (strcmp(add->partition_values[i].key, name) == 0) {
            return &add->partition_values[i];
        }
    }
    return NULL;
}

static bool is_partition(const struct weir_delta_metadata *metadata, const char *name) {
    for (int32_t i = 0; i < metadata->partition_count; i++) {
        if (strcasecmp(metadata->partition_columns[i], name) == 0) {
            return true;
        }
    }
    return false;
}

/* A batch in the table's schema from one of the file's. */
static int shape_batch(const struct scan *scan, const struct weir_delta_add *add,
                       struct weir_batch *from, const int32_t *sources, struct weir_batch **out,
                       struct weir_error *err) {
    struct weir_batch *batch = weir_batch_create(scan->pool, scan->schema);
    if (batch == NULL) {
        return weir_error_set(err, WEIR_E_LIMIT, "read table: out of memory");
    }
    int rc = WEIR_OK;
    batch->rows = from->rows;
    for (int32_t i = 0; i < scan->schema->count && rc == WEIR_OK; i++) {
        const struct weir_field *field = &scan->schema->fields[i];
        const struct weir_delta_pair *value = partition_value(add, scan->columns[i].physical_name);
        if (is_partition(&scan->snapshot->metadata, field->name)) {
            rc = delta_partition_column(field, value != NULL ? value->value : NULL, from->rows,
                                        batch, &batch->columns[i], err);
            continue;
        }
        int32_t at = sources[i];
        if (at >= 0) { /* keeps the file's batch alive; the column itself is replaced below */
            rc = weir_batch_borrow(batch, i, from, at);
        }
        if (rc == WEIR_OK) {
            rc = delta_convert_column(
                field, &scan->columns[i], at >= 0 ? &from->schema->fields[at] : NULL,
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

/* Drops the rows whose bit is set; *batch is replaced. */
static int drop_deleted(struct weir_batch **batch, const uint8_t *deleted, int64_t first_row,
                        struct weir_error *err) {
    int32_t *sel = malloc(((size_t)(*batch)->rows + 1) * sizeof(*sel));
    if (sel == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "read table: out of memory");
    }
    int32_t count = 0;
    for (int32_t i = 0; i < (*batch)->rows; i++) {
        if (!weir_bit_get(deleted, first_row + i)) {
            sel[count++] = i;
        }
    }
    int rc = WEIR_OK;
    if (count < (*batch)->rows) {
        struct weir_batch *kept = weir_batch_gather(*batch, sel, count);
        if (kept == NULL) {
            rc = weir_error_set(err, WEIR_E_LIMIT, "read table: out of memory");
        } else {
            weir_batch_unref(*batch);
            *batch = kept;
        }
    }
    free(sel);
    return rc;
}

static int read_file(const struct scan *scan, const struct weir_delta_add *add,
                     delta_visit_rows *visit, void *context, struct weir_error *err) {
    struct delta_parquet_file file;
    uint8_t *deleted = NULL;
    char *path = NULL;
    memset(&file, 0, sizeof(file));
    int32_t *sources = calloc((size_t)scan->schema->count + 1, sizeof(*sources));
    int32_t *wanted = calloc((size_t)scan->schema->count + 1, sizeof(*wanted));
    int rc =
        sources != NULL && wanted != NULL
            ? delta_file_path(scan->snapshot->store, scan->snapshot->dir, add->path, &path, err)
            : weir_error_set(err, WEIR_E_NOMEM, "read table: out of memory");
    if (rc == WEIR_OK) {
        rc = delta_parquet_open(&file, scan->snapshot->store, path, -1, scan->pool, err);
    }
    if (rc != WEIR_OK) {
        goto out;
    }
    const char *mapping =
        weir_delta_metadata_property(&scan->snapshot->metadata, "delta.columnMapping.mode");
    bool by_id = mapping != NULL && strcmp(mapping, "id") == 0;
    const struct weir_schema *schema = weir_parquet_reader_schema(file.reader);
    int32_t count = 0;
    for (int32_t i = 0; i < scan->schema->count; i++) {
        int32_t at = is_partition(&scan->snapshot->metadata, scan->schema->fields[i].name)
                         ? -1
                         : find_column(file.reader, schema, &scan->columns[i], by_id);
        sources[i] = -1;
        if (at >= 0) {
            sources[i] = count;
            wanted[count++] = at;
        }
    }
    if (count == 0 && schema->count > 0) {
        wanted[count++] = 0; /* nothing but partition columns: any column gives the row count */
    }
    rc = weir_parquet_reader_select(file.reader, wanted, count, err);
    if (rc == WEIR_OK && add->dv.storage_type != 0) {
        rc = delta_dv_read(scan->snapshot->store, scan->snapshot->dir, &add->dv,
                           weir_parquet_reader_rows(file.reader), &deleted, err);
    }
    int64_t row = 0;
    while (rc == WEIR_OK) {
        struct weir_batch *from = NULL;
        struct weir_batch *batch = NULL;
        rc = weir_parquet_reader_next(file.reader, &from, err);
        if (rc != WEIR_OK || from == NULL) {
            break;
        }
        rc = shape_batch(scan, add, from, sources, &batch, err);
        if (rc == WEIR_OK) {
            rc = visit(context, &batch, row, deleted, err);
        }
        row += from->rows;
        weir_batch_unref(from);
        if (batch != NULL) {
            weir_batch_unref(batch);
        }
    }
out:
    delta_parquet_close(&file);
    free(deleted);
    free(sources);
    free(wanted);
    free(path);
    return rc;
}

static int visit_live(void *context, struct weir_batch **batch, int64_t first_row,
                      const uint8_t *deleted, struct weir_error *err) {
    const struct scan *scan = context;
    int rc = deleted != NULL ? drop_deleted(batch, deleted, first_row, err) : WEIR_OK;
    return rc == WEIR_OK && (*batch)->rows > 0 ? scan->visit(scan->context, *batch, err) : rc;
}

static int scan_file(void *context, const struct weir_delta_add *add, struct weir_error *err) {
    return read_file(context, add, visit_live, context, err);
}

/* The table's columns at these positions: a schema of their own and their places in files. */
static int project(const struct weir_schema *schema, const struct weir_delta_column *all,
                   const int32_t *positions, int32_t count, struct weir_schema **out,
                   struct weir_delta_column **columns, struct weir_error *err) {
    *out = weir_schema_create();
    *columns = calloc((size_t)count + 1, sizeof(**columns));
    int rc = *out != NULL && *columns != NULL ? WEIR_OK : WEIR_E_NOMEM;
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        (*columns)[i] = all[positions[i]];
        rc = weir_schema_add(*out, &schema->fields[positions[i]]);
    }
    return rc == WEIR_OK ? rc : weir_error_set(err, rc, "read table: out of memory");
}

/* The columns a scan reads: all (positions NULL) or those. `*projected` and `*columns` are owned.
 */
static int choose(struct scan *scan, const int32_t *positions, int32_t count,
                  struct weir_schema **projected, struct weir_delta_column **columns,
                  struct weir_error *err) {
    const struct weir_schema *schema;
    int rc = weir_delta_snapshot_schema(scan->snapshot, &schema, &scan->columns, err);
    if (rc == WEIR_OK && positions != NULL) {
        rc = project(schema, scan->columns, positions, count, projected, columns, err);
        scan->columns = *columns;
        schema = *projected;
    }
    scan->schema = rc == WEIR_OK ? (struct weir_schema *)(uintptr_t)schema : NULL;
    return rc;
}

int delta_scan_file(struct weir_delta_snapshot *snapshot, const struct weir_delta_add *add,
                    const int32_t *positions, int32_t count, struct weir_pool *pool,
                    delta_visit_rows *visit, void *context, struct weir_error *err) {
    struct scan scan = {snapshot, NULL, NULL, pool, NULL, NULL};
    struct weir_schema *projected = NULL;
    struct weir_delta_column *columns = NULL;
    int rc = choose(&scan, positions, count, &projected, &columns, err);
    if (rc == WEIR_OK) {
        rc = read_file(&scan, add, visit, context, err);
    }
    weir_schema_unref(projected);
    free(columns);
    return rc;
}

int weir_delta_scan_columns(struct weir_delta_snapshot *snapshot, const int32_t *positions,
                            int32_t count, struct weir_pool *pool, weir_delta_visit_batch *visit,
                            void *context, struct weir_error *err) {
    struct scan scan = {snapshot, NULL, NULL, pool, visit, context};
    struct weir_schema *projected = NULL;
    struct weir_delta_column *columns = NULL;
    int rc = choose(&scan, positions, count, &projected, &columns, err);
    if (rc == WEIR_OK) {
        rc = weir_delta_snapshot_each_file(snapshot, scan_file, &scan, err);
    }
    weir_schema_unref(projected);
    free(columns);
    return rc;
}

int weir_delta_scan(struct weir_delta_snapshot *snapshot, struct weir_pool *pool,
                    weir_delta_visit_batch *visit, void *context, struct weir_error *err) {
    return weir_delta_scan_columns(snapshot, NULL, 0, pool, visit, context, err);
}
