/* Columns the table fills in where the changes lack them: generated ones, and those with a default.
 * An upsert is a whole row, so one that is updated gets its defaults again. */
#include <stdlib.h>

#include "batch/change.h"
#include "lake/delta/duties.h"
#include "lake/merge/merge_internal.h"

/* Rows that bring a row to the table, of one batch. */
static int32_t choose(const struct weir_batch *batch,
                      const struct weir_delta_merge_options *options, int32_t *sel) {
    int32_t column =
        options->change != NULL ? weir_schema_find(batch->schema, options->change) : -1;
    int32_t count = 0;
    for (int32_t i = 0; i < batch->rows; i++) {
        int64_t change = WEIR_CHANGE_INSERT;
        if (column < 0 || !delta_int_value(&batch->columns[column], i, &change) ||
            change == WEIR_CHANGE_INSERT || change == WEIR_CHANGE_AFTER) {
            sel[count++] = i;
        }
    }
    return count;
}

/* What is made of a column that a change leaves out would be made of null. */
static int check_whole(const struct weir_batch *batch,
                       const struct weir_delta_merge_options *options, struct weir_error *err) {
    int32_t at =
        options->unavailable != NULL ? weir_schema_find(batch->schema, options->unavailable) : -1;
    for (int32_t i = 0; at >= 0 && i < batch->rows; i++) {
        const struct weir_column *column = &batch->columns[at];
        if (!weir_column_is_null(column, i) && column->offsets[i + 1] > column->offsets[i]) {
            return weir_error_set(err, WEIR_E_UNSUPPORTED,
                                  "merge: the table generates columns, and a change leaves columns "
                                  "out that they may be made of; send whole rows (REPLICA IDENTITY "
                                  "FULL), or give the stream the generated columns");
        }
    }
    return WEIR_OK;
}

int delta_merge_complete(struct weir_delta_table *table, struct weir_batch *const *changes,
                         int32_t count, const struct weir_delta_merge_options *options,
                         struct weir_batch ***out, struct weir_error *err) {
    struct weir_delta_duties *duties = NULL;
    int32_t sel[WEIR_BATCH_ROWS_MAX];
    *out = NULL;
    int rc = weir_delta_duties_create(table->snapshot, changes[0]->schema, &duties, err);
    bool fills = rc == WEIR_OK && duties != NULL &&
                 weir_delta_duties_schema(duties)->count > changes[0]->schema->count;
    struct weir_batch **full =
        fills ? calloc((size_t)count + 1, sizeof(struct weir_batch *)) : NULL;
    rc = fills && full == NULL ? delta_merge_no_memory(err) : rc;
    for (int32_t i = 0; fills && i < count && rc == WEIR_OK; i++) {
        rc = check_whole(changes[i], options, err);
        rc = rc == WEIR_OK
                 ? weir_delta_duties_complete(duties, changes[i], sel,
                                              choose(changes[i], options, sel), &full[i], err)
                 : rc;
    }
    weir_delta_duties_destroy(duties);
    if (rc == WEIR_OK) {
        *out = full;
        return WEIR_OK;
    }
    delta_merge_free_changes(full, count);
    return rc;
}

void delta_merge_free_changes(struct weir_batch **changes, int32_t count) {
    for (int32_t i = 0; changes != NULL && i < count; i++) {
        weir_batch_unref(changes[i]);
    }
    free((void *)changes);
}
