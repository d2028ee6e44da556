#include "lake/delta/row_tracking.h"

#include <inttypes.h>
#include <jansson.h>

#include "lake/delta/maintain.h"
#include "lake/delta/mapping.h"

#define DOMAIN "delta.rowTracking"
#define ID_COLUMN "delta.rowTracking.materializedRowIdColumnName"
#define VERSION_COLUMN "delta.rowTracking.materializedRowCommitVersionColumnName"

bool delta_gives_row_ids(const struct weir_delta_snapshot *snapshot) {
    return delta_has_writer_feature(&snapshot->protocol, "rowTracking");
}

int delta_tracking_of(const struct weir_delta_snapshot *snapshot, struct delta_tracking *tracking,
                      bool *tracked, struct weir_error *err) {
    *tracked = delta_gives_row_ids(snapshot) &&
               delta_property_is_true(&snapshot->metadata, "delta.enableRowTracking");
    tracking->id = weir_delta_metadata_property(&snapshot->metadata, ID_COLUMN);
    tracking->version = weir_delta_metadata_property(&snapshot->metadata, VERSION_COLUMN);
    return !*tracked || (tracking->id != NULL && tracking->version != NULL)
               ? WEIR_OK
               : weir_error_set(err, WEIR_E_UNSUPPORTED,
                                "the table tracks rows (delta.enableRowTracking), but its "
                                "properties do not name the columns (" ID_COLUMN ", " VERSION_COLUMN
                                ") in which rows that are moved keep their ids");
}

/* The highest id given so far; -1 when none was. */
static int64_t high_water_mark(const struct weir_delta_snapshot *snapshot) {
    int64_t mark = -1;
    for (int32_t i = 0; i < snapshot->domain_count; i++) {
        if (strcmp(snapshot->domains[i].name, DOMAIN) == 0) {
            json_t *root = json_loads(snapshot->domains[i].configuration, 0, NULL);
            const json_t *value = json_object_get(root, "rowIdHighWaterMark");
            mark = json_is_integer(value) ? json_integer_value(value) : mark;
            json_decref(root);
        }
    }
    return mark;
}

int delta_track_rows(const struct weir_delta_snapshot *snapshot, struct weir_delta_add *const *adds,
                     int32_t count, struct weir_buffer *actions, struct weir_error *err) {
    if (count == 0 || !delta_gives_row_ids(snapshot)) {
        return WEIR_OK;
    }
    int64_t mark = high_water_mark(snapshot);
    for (int32_t i = 0; i < count; i++) {
        int64_t rows = delta_add_rows(adds[i]);
        if (rows < 0) {
            return weir_error_set(err, WEIR_E_DATA,
                                  "the table tracks rows, and file %.200s does not say how many it "
                                  "holds",
                                  adds[i]->path);
        }
        adds[i]->has_row_id = true;
        adds[i]->base_row_id = mark + 1;
        adds[i]->default_row_commit_version = snapshot->version + 1;
        mark += rows;
    }
    int rc = weir_buffer_printf(actions,
                                "{\"domainMetadata\":{\"domain\":\"" DOMAIN
                                "\",\"configuration\":\"{\\\"rowIdHighWaterMark\\\":%" PRId64
                                "}\",\"removed\":false}}\n",
                                mark);
    return rc == WEIR_OK ? rc : weir_error_set(err, rc, "row ids: %s", weir_error_text(rc));
}

int delta_tracking_add(const struct delta_tracking *tracking, struct weir_schema *schema) {
    int rc = weir_schema_add_text(schema, tracking->id, "int64", true, NULL);
    return rc == WEIR_OK ? weir_schema_add_text(schema, tracking->version, "int64", true, NULL)
                         : rc;
}

int delta_tracking_fill(struct weir_batch *batch, int32_t first, const struct weir_delta_add *add,
                        int64_t first_row, struct weir_error *err) {
    if (!add->has_row_id) {
        return weir_error_set(err, WEIR_E_DATA,
                              "the table tracks rows, but file %.200s has no baseRowId; let the "
                              "engine that turned row tracking on give it one",
                              add->path);
    }
    for (int32_t c = 0; c < DELTA_TRACKING_COLUMNS; c++) {
        struct weir_column *column = &batch->columns[first + c];
        int64_t *values = weir_batch_alloc(batch, ((size_t)batch->rows + 1) * sizeof(*values));
        if (values == NULL) {
            return weir_error_set(err, WEIR_E_LIMIT, "read table: out of memory");
        }
        for (int32_t i = 0; i < batch->rows; i++) {
            values[i] = !weir_column_is_null(column, i) ? ((const int64_t *)column->values)[i]
                        : c == 0                        ? add->base_row_id + first_row + i
                                                        : add->default_row_commit_version;
        }
        column->values = values;
        column->validity = NULL;
        column->null_count = 0;
    }
    return WEIR_OK;
}
