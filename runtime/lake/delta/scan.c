/* Reading a table's rows: each live file through the Parquet reader, put into the table's schema,
 * partition values added, deleted rows left out. */
#include <stdlib.h>

#include "lake/delta/cursor.h"
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
    const struct delta_tracking *tracking; /* or NULL */
};

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
    struct delta_cursor cursor;
    int rc = delta_cursor_open(&cursor, scan->snapshot, add, scan->schema, scan->columns,
                               scan->pool, err);
    while (rc == WEIR_OK) {
        struct weir_batch *batch;
        rc = delta_cursor_next(&cursor, &batch, err);
        if (rc != WEIR_OK || batch == NULL) {
            break;
        }
        if (scan->tracking != NULL) {
            rc = delta_tracking_fill(batch, scan->schema->count - DELTA_TRACKING_COLUMNS, add,
                                     cursor.first_row, err);
        }
        rc = rc == WEIR_OK ? visit(context, &batch, cursor.first_row, cursor.deleted, err) : rc;
        weir_batch_unref(batch);
    }
    delta_cursor_close(&cursor);
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
                   const int32_t *positions, int32_t count, const struct delta_tracking *tracking,
                   struct weir_schema **out, struct weir_delta_column **columns,
                   struct weir_error *err) {
    *out = weir_schema_create();
    *columns = calloc((size_t)count + 1 + DELTA_TRACKING_COLUMNS, sizeof(**columns));
    int rc = *out != NULL && *columns != NULL ? WEIR_OK : WEIR_E_NOMEM;
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        (*columns)[i] = all[positions[i]];
        rc = weir_schema_add(*out, &schema->fields[positions[i]]);
    }
    if (rc == WEIR_OK && tracking != NULL) {
        rc = delta_tracking_add(tracking, *out);
        for (int32_t i = 0; i < DELTA_TRACKING_COLUMNS && rc == WEIR_OK; i++) {
            (*columns)[count + i] = (struct weir_delta_column){
                .physical_name = (*out)->fields[count + i].name, .field_id = -1};
        }
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
        rc = project(schema, scan->columns, positions, count, scan->tracking, projected, columns,
                     err);
        scan->columns = *columns;
        schema = *projected;
    }
    scan->schema = rc == WEIR_OK ? (struct weir_schema *)(uintptr_t)schema : NULL;
    return rc;
}

int delta_scan_file(struct weir_delta_snapshot *snapshot, const struct weir_delta_add *add,
                    const int32_t *positions, int32_t count, const struct delta_tracking *tracking,
                    struct weir_pool *pool, delta_visit_rows *visit, void *context,
                    struct weir_error *err) {
    struct scan scan = {.snapshot = snapshot, .pool = pool, .tracking = tracking};
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
    struct scan scan = {.snapshot = snapshot, .pool = pool, .visit = visit, .context = context};
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
