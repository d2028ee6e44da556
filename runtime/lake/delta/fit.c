#include "lake/delta/fit.h"

#include <stdlib.h>
#include <string.h>

#include "lake/delta/alter.h"
#include "lake/delta/convert.h"

static int no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "fit rows to the table: out of memory");
}

/* The table's column for one of the stream's: by name, or by a name it had. */
static int32_t find_now(const struct weir_delta_metadata *metadata, const struct weir_schema *have,
                        const struct weir_schema *rows, const char *name) {
    int32_t at = weir_schema_find(have, name);
    char *now = at < 0 ? weir_delta_renamed_to(metadata, name) : NULL;
    at = now != NULL && weir_schema_find(rows, now) < 0 ? weir_schema_find(have, now) : at;
    free(now);
    return at;
}

int weir_delta_fit_schema(struct weir_delta_snapshot *snapshot, const struct weir_schema *rows,
                          struct weir_schema **fitted, struct weir_error *err) {
    const struct weir_delta_metadata *metadata = weir_delta_snapshot_metadata(snapshot);
    const struct weir_schema *have;
    struct weir_schema *made = weir_schema_create();
    bool differs = false;
    *fitted = NULL;
    int rc = made != NULL ? weir_delta_snapshot_schema(snapshot, &have, NULL, err) : no_memory(err);
    for (int32_t c = 0; rc == WEIR_OK && c < rows->count; c++) {
        struct weir_field field = rows->fields[c]; /* what it points to is borrowed */
        int32_t at = find_now(metadata, have, rows, field.name);
        if (at >= 0 && (weir_delta_widens(&field, &have->fields[at]) ||
                        (weir_field_holds(&have->fields[at], &field) &&
                         !weir_field_same_type(&have->fields[at], &field)))) {
            bool nullable = field.nullable;
            field = have->fields[at];
            field.nullable = nullable;
            differs = true;
        }
        differs = differs || (at >= 0 && strcmp(field.name, have->fields[at].name) != 0);
        field.name = at >= 0 ? have->fields[at].name : field.name;
        rc = weir_schema_add(made, &field) == WEIR_OK ? WEIR_OK : no_memory(err);
    }
    if (rc == WEIR_OK && differs) {
        *fitted = made;
        return WEIR_OK;
    }
    weir_schema_unref(made);
    return rc;
}

int weir_delta_fit_batch(struct weir_batch *batch, struct weir_schema *fitted,
                         struct weir_batch **out, struct weir_error *err) {
    struct weir_batch *to = weir_batch_create(batch->pool, fitted);
    int rc = to != NULL ? WEIR_OK : no_memory(err);
    for (int32_t c = 0; rc == WEIR_OK && c < fitted->count; c++) {
        const struct weir_field *field = &batch->schema->fields[c];
        const struct weir_field *wanted = &fitted->fields[c];
        struct weir_delta_column plain = {.physical_name = field->name, .field_id = -1};
        rc = weir_batch_borrow(to, c, batch, c) == WEIR_OK ? WEIR_OK : no_memory(err);
        if (rc == WEIR_OK && weir_type_is_nested(field->type)) {
            rc = weir_column_grow(&to->columns[c], wanted, &batch->columns[c], field, batch->rows,
                                  to) == WEIR_OK
                     ? WEIR_OK
                     : no_memory(err);
        } else if (rc == WEIR_OK &&
                   (field->type != wanted->type || field->scale != wanted->scale)) {
            rc = delta_convert_column(wanted, &plain, field, &batch->columns[c], batch->rows, to,
                                      &to->columns[c], err);
        }
    }
    if (rc != WEIR_OK) {
        weir_batch_unref(to);
        return rc;
    }
    to->rows = batch->rows;
    *out = to;
    return WEIR_OK;
}
