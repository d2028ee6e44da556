#include "lake/delta/changes.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "lake/delta/commit_steps.h"
#include "lake/delta/maintain.h"
#include "lake/delta/partition.h"
#include "lake/delta/state.h"
#include "lake/delta/text.h"

#define TYPE_COLUMN "_change_type"

struct changes {
    struct weir_delta_snapshot *to;
    struct weir_schema *read;          /* the table's columns and _change_type */
    struct weir_delta_column *columns; /* of those; the entries' texts are borrowed */
    struct weir_schema *told;          /* those and version and time */
    struct weir_pool *pool;
    weir_delta_visit_batch *visit;
    void *context;
    struct delta_commit commit; /* at hand */
};

static int no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "read changes: out of memory");
}

/* --- rows ---------------------------------------------------------------------------------- */

/* The batch with its last columns filled in: `kind` NULL leaves the type that the file gives. */
static int tell(struct changes *changes, struct weir_batch *from, const char *kind,
                struct weir_error *err) {
    struct weir_batch *batch = weir_batch_create(changes->pool, changes->told);
    char version[24];
    struct weir_buffer time;
    weir_buffer_init(&time, 256);
    if (batch == NULL) {
        return no_memory(err);
    }
    int32_t type = changes->read->count - 1;
    const struct weir_field *fields = changes->told->fields;
    int rc = delta_text_timestamp(&time, changes->commit.timestamp_ms, 3, true, NULL);
    const char *time_text = rc == WEIR_OK ? weir_buffer_text(&time) : NULL;
    rc = time_text != NULL ? WEIR_OK : no_memory(err);
    snprintf(version, sizeof(version), "%" PRId64, changes->commit.version);
    batch->rows = from->rows;
    for (int32_t i = 0; i < changes->read->count && rc == WEIR_OK; i++) {
        if (i < type || kind == NULL) {
            rc = weir_batch_borrow(batch, i, from, i);
        } else {
            rc = delta_partition_column(&fields[i], kind, from->rows, batch, &batch->columns[i],
                                        err);
        }
    }
    if (rc == WEIR_OK) {
        rc = delta_partition_column(&fields[type + 1], version, from->rows, batch,
                                    &batch->columns[type + 1], err);
    }
    if (rc == WEIR_OK) {
        rc = delta_partition_column(&fields[type + 2], time_text, from->rows, batch,
                                    &batch->columns[type + 2], err);
    }
    if (rc == WEIR_OK) {
        rc = changes->visit(changes->context, batch, err);
    }
    weir_batch_unref(batch);
    weir_buffer_fini(&time);
    return rc;
}

/* Rows of a batch that are set in `in`, or, where that is NULL, not in `out` (NULL: none is). */
static struct weir_batch *choose(struct weir_batch *batch, int64_t first, const uint8_t *in,
                                 const uint8_t *out) {
    int32_t sel[WEIR_BATCH_ROWS_MAX];
    int32_t count = 0;
    for (int32_t i = 0; i < batch->rows; i++) {
        if (in != NULL ? weir_bit_get(in, first + i)
                       : out == NULL || !weir_bit_get(out, first + i)) {
            sel[count++] = i;
        }
    }
    return count == batch->rows ? weir_batch_ref(batch) : weir_batch_gather(batch, sel, count);
}

static int tell_step(struct changes *changes, const struct delta_step *step,
                     struct weir_error *err) {
    static const char *const kinds[] = {[DELTA_STEP_TYPED] = NULL,
                                        [DELTA_STEP_DELETES] = "delete",
                                        [DELTA_STEP_INSERTS] = "insert"};
    struct delta_cursor cursor;
    uint8_t *bits = NULL;
    int rc = delta_step_open(&cursor, changes->to, step, changes->commit.version, changes->read,
                             changes->columns, changes->pool, &bits, err);
    while (rc == WEIR_OK) {
        struct weir_batch *batch = NULL;
        rc = delta_cursor_next(&cursor, &batch, err);
        if (rc != WEIR_OK || batch == NULL) {
            break;
        }
        struct weir_batch *chosen = choose(batch, cursor.first_row, bits, cursor.deleted);
        weir_batch_unref(batch);
        if (chosen == NULL) {
            rc = no_memory(err);
        } else if (chosen->rows > 0) {
            rc = tell(changes, chosen, kinds[step->kind], err);
        }
        weir_batch_unref(chosen);
    }
    delta_cursor_close(&cursor);
    free(bits);
    return rc;
}

/* --- the feed ------------------------------------------------------------------------------ */

int weir_delta_changes_schema(struct weir_delta_snapshot *to, struct weir_schema **out,
                              struct weir_error *err) {
    static const char *const more[][2] = {
        {TYPE_COLUMN, "string"}, {"_commit_version", "int64"}, {"_commit_timestamp", "timestamp"}};
    const struct weir_schema *schema;
    int rc = weir_delta_snapshot_schema(to, &schema, NULL, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    struct weir_schema *made = weir_schema_create();
    rc = made != NULL ? WEIR_OK : no_memory(err);
    for (int32_t i = 0; i < schema->count && rc == WEIR_OK; i++) {
        rc = weir_schema_add(made, &schema->fields[i]) == WEIR_OK ? WEIR_OK : no_memory(err);
    }
    for (size_t i = 0; i < sizeof(more) / sizeof(more[0]) && rc == WEIR_OK; i++) {
        rc = weir_schema_add_text(made, more[i][0], more[i][1], true, err);
    }
    if (rc != WEIR_OK) {
        weir_schema_unref(made);
        return rc;
    }
    *out = made;
    return WEIR_OK;
}

static int prepare(struct changes *changes, struct weir_error *err) {
    const struct weir_schema *schema;
    const struct weir_delta_column *columns;
    int rc = weir_delta_changes_schema(changes->to, &changes->told, err);
    if (rc == WEIR_OK) {
        rc = weir_delta_snapshot_schema(changes->to, &schema, &columns, err);
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    changes->read = weir_schema_create();
    changes->columns = calloc((size_t)schema->count + 1, sizeof(*changes->columns));
    if (changes->read == NULL || changes->columns == NULL) {
        return no_memory(err);
    }
    for (int32_t i = 0; i <= schema->count && rc == WEIR_OK; i++) {
        rc = weir_schema_add(changes->read, &changes->told->fields[i]);
        if (i < schema->count) {
            changes->columns[i] = columns[i];
        }
    }
    changes->columns[schema->count] = (struct weir_delta_column){
        .physical_name = changes->told->fields[schema->count].name, .field_id = -1};
    return rc == WEIR_OK ? rc : no_memory(err);
}

/* The feed must be on before the first version told, or from it on. */
static int check_start(struct changes *changes, int64_t from, struct weir_error *err) {
    const struct weir_delta_at at = {.kind = WEIR_DELTA_VERSION, .version = from};
    struct weir_delta_snapshot *first = NULL;
    int rc = weir_delta_snapshot_open(changes->to->store, changes->to->dir, &at, &first, err);
    if (rc == WEIR_OK && !delta_property_is_true(&first->metadata, DELTA_FEED_PROPERTY)) {
        rc = delta_feed_is_off(from, err);
    }
    weir_delta_snapshot_destroy(first);
    return rc;
}

int weir_delta_changes(struct weir_delta_snapshot *to, int64_t from, struct weir_pool *pool,
                       weir_delta_visit_batch *visit, void *context, struct weir_error *err) {
    struct changes changes = {.to = to, .pool = pool, .visit = visit, .context = context};
    if (from < 0 || from > to->version) {
        return weir_error_set(err, WEIR_E_USAGE,
                              "changes from version %" PRId64 ": give a version from 0 to %" PRId64,
                              from, to->version);
    }
    int rc = check_start(&changes, from, err);
    if (rc == WEIR_OK) {
        rc = prepare(&changes, err);
    }
    for (int64_t version = from; version <= to->version && rc == WEIR_OK; version++) {
        rc = delta_commit_read(&changes.commit, to->store, to->dir, version, err);
        for (int32_t i = 0; rc == WEIR_OK && i < changes.commit.step_count; i++) {
            rc = tell_step(&changes, &changes.commit.steps[i], err);
        }
    }
    delta_commit_fini(&changes.commit);
    weir_schema_unref(changes.read);
    weir_schema_unref(changes.told);
    free(changes.columns);
    return rc;
}
