#include "lake/delta/changes.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "lake/delta/cursor.h"
#include "lake/delta/dv.h"
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
    /* of the commit at hand */
    struct weir_delta_adds adds;
    struct weir_delta_adds removes;
    struct weir_delta_adds cdc;
    int64_t version;
    int64_t timestamp_ms;
    bool changes_feed; /* the commit has metadata, which turns the feed off */
};

static int no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "read changes: out of memory");
}

/* --- one commit ---------------------------------------------------------------------------- */

static int keep(struct weir_delta_adds *adds, const struct weir_delta_add *add,
                struct weir_error *err) {
    struct weir_delta_add *copy = weir_delta_add_dup(add);
    int rc = copy != NULL ? weir_delta_adds_push(adds, copy) : WEIR_E_NOMEM;
    if (rc != WEIR_OK) {
        free(copy);
        return no_memory(err);
    }
    return WEIR_OK;
}

static int see_add(void *context, const struct weir_delta_add *add, struct weir_error *err) {
    struct changes *changes = context;
    return add->data_change ? keep(&changes->adds, add, err) : WEIR_OK;
}

static int see_remove(void *context, const struct weir_delta_add *add, struct weir_error *err) {
    struct changes *changes = context;
    return add->data_change ? keep(&changes->removes, add, err) : WEIR_OK;
}

static int see_cdc(void *context, const struct weir_delta_add *add, struct weir_error *err) {
    struct changes *changes = context;
    return keep(&changes->cdc, add, err);
}

static int see_info(void *context, const struct weir_delta_commit_info *info,
                    struct weir_error *err) {
    struct changes *changes = context;
    (void)err;
    changes->timestamp_ms =
        info->in_commit_timestamp_ms != 0 ? info->in_commit_timestamp_ms : info->timestamp_ms;
    return WEIR_OK;
}

static bool feed_is_on(const struct weir_delta_metadata *metadata) {
    const char *on = weir_delta_metadata_property(metadata, "delta.enableChangeDataFeed");
    return on != NULL && strcasecmp(on, "true") == 0;
}

static int see_metadata(void *context, const struct weir_delta_metadata *metadata,
                        struct weir_error *err) {
    struct changes *changes = context;
    (void)err;
    changes->changes_feed = !feed_is_on(metadata);
    return WEIR_OK;
}

static int feed_is_off(int64_t version, struct weir_error *err) {
    return weir_error_set(err, WEIR_E_UNSUPPORTED,
                          "the change data feed was not on at version %" PRId64
                          " (delta.enableChangeDataFeed), so what became of single rows is not "
                          "known; begin later, or see `weir table diff`",
                          version);
}

static int read_commit(struct changes *changes, struct weir_error *err) {
    struct weir_buffer bytes;
    struct weir_store_info info;
    const struct weir_delta_action_visitor visitor = {.context = changes,
                                                      .metadata = see_metadata,
                                                      .add = see_add,
                                                      .removed_file = see_remove,
                                                      .cdc = see_cdc,
                                                      .commit_info = see_info};
    weir_delta_adds_fini(&changes->adds);
    weir_delta_adds_fini(&changes->removes);
    weir_delta_adds_fini(&changes->cdc);
    changes->timestamp_ms = 0;
    weir_buffer_init(&bytes, DELTA_COMMIT_BYTES_MAX);
    char *path = delta_log_path(changes->to->dir, "%020" PRId64 ".json", changes->version);
    int rc = path != NULL ? weir_store_get(changes->to->store, path, 0, -1, &bytes, err)
                          : no_memory(err);
    if (rc == WEIR_E_NOTFOUND) {
        rc = weir_error_set(err, rc,
                            "version %" PRId64 " is no longer in the table's log; its changes are "
                            "gone",
                            changes->version);
    }
    if (rc == WEIR_OK) {
        rc = weir_delta_actions_parse((const char *)bytes.data, bytes.size, path, &visitor, err);
    }
    if (rc == WEIR_OK && changes->changes_feed) {
        rc = feed_is_off(changes->version, err);
    }
    if (rc == WEIR_OK && changes->timestamp_ms == 0) {
        rc = weir_store_stat(changes->to->store, path, &info, err);
        changes->timestamp_ms = rc == WEIR_OK ? info.modified_ms : 0;
    }
    weir_buffer_fini(&bytes);
    free(path);
    return rc;
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
    int rc = delta_text_timestamp(&time, changes->timestamp_ms, 3, true, NULL);
    const char *time_text = rc == WEIR_OK ? weir_buffer_text(&time) : NULL;
    rc = time_text != NULL ? WEIR_OK : no_memory(err);
    snprintf(version, sizeof(version), "%" PRId64, changes->version);
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

/* Rows of a batch that are set in `in` (NULL: all) and not in `out` (NULL: none of them). */
static struct weir_batch *choose(struct weir_batch *batch, int64_t first, const uint8_t *in,
                                 const uint8_t *out) {
    int32_t sel[WEIR_BATCH_ROWS_MAX];
    int32_t count = 0;
    for (int32_t i = 0; i < batch->rows; i++) {
        if ((in == NULL || weir_bit_get(in, first + i)) &&
            (out == NULL || !weir_bit_get(out, first + i))) {
            sel[count++] = i;
        }
    }
    return count == batch->rows ? weir_batch_ref(batch) : weir_batch_gather(batch, sel, count);
}

/* Tells a file's rows as `kind`: those set in `in`, but for those its own vector hides unless `in`
 * is given, and those in `out`. */
static int tell_file(struct changes *changes, const struct weir_delta_add *add, const char *kind,
                     const uint8_t *in, const uint8_t *out, struct weir_error *err) {
    struct delta_cursor cursor;
    if (add->partition_count == 0 && changes->to->metadata.partition_count > 0) {
        return weir_error_set(err, WEIR_E_UNSUPPORTED,
                              "version %" PRId64 " does not say which partition the removed file "
                              "%.200s was of (its remove has no extendedFileMetadata)",
                              changes->version, add->path);
    }
    int rc = delta_cursor_open(&cursor, changes->to, add, changes->read, changes->columns,
                               changes->pool, err);
    while (rc == WEIR_OK) {
        struct weir_batch *batch = NULL;
        rc = delta_cursor_next(&cursor, &batch, err);
        if (rc != WEIR_OK || batch == NULL) {
            break;
        }
        struct weir_batch *chosen =
            choose(batch, cursor.first_row, in, in != NULL || out != NULL ? out : cursor.deleted);
        weir_batch_unref(batch);
        if (chosen == NULL) {
            rc = no_memory(err);
        } else if (chosen->rows > 0) {
            rc = tell(changes, chosen, kind, err);
        }
        weir_batch_unref(chosen);
    }
    delta_cursor_close(&cursor);
    if (rc == WEIR_E_NOTFOUND) {
        rc = weir_error_wrap(err, "a file of version %" PRId64 " is gone, as VACUUM removes them",
                             changes->version);
    }
    return rc;
}

/* A file that stayed and got another deletion vector. */
static int tell_vectors(struct changes *changes, const struct weir_delta_add *before,
                        const struct weir_delta_add *after, struct weir_error *err) {
    struct weir_delta_add bare = *after;
    struct delta_cursor cursor;
    uint8_t *old_bits = NULL;
    uint8_t *new_bits = NULL;
    memset(&bare.dv, 0, sizeof(bare.dv));
    int rc = delta_cursor_open(&cursor, changes->to, &bare, changes->read, changes->columns,
                               changes->pool, err);
    int64_t rows = rc == WEIR_OK ? weir_parquet_reader_rows(cursor.file.reader) : 0;
    delta_cursor_close(&cursor);
    struct weir_store *store = changes->to->store;
    if (rc == WEIR_OK && before->dv.storage_type != 0) {
        rc = delta_dv_read(store, changes->to->dir, &before->dv, rows, &old_bits, err);
    }
    if (rc == WEIR_OK && after->dv.storage_type != 0) {
        rc = delta_dv_read(store, changes->to->dir, &after->dv, rows, &new_bits, err);
    }
    if (rc == WEIR_OK && new_bits != NULL) {
        rc = tell_file(changes, &bare, "delete", new_bits, old_bits, err);
    }
    if (rc == WEIR_OK && old_bits != NULL) {
        rc = tell_file(changes, &bare, "insert", old_bits, new_bits, err);
    }
    free(old_bits);
    free(new_bits);
    return rc;
}

static int tell_commit(struct changes *changes, struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t i = 0; i < changes->cdc.count && rc == WEIR_OK; i++) {
        rc = tell_file(changes, changes->cdc.items[i], NULL, NULL, NULL, err);
    }
    if (changes->cdc.count > 0) {
        return rc;
    }
    for (int32_t r = 0; r < changes->removes.count && rc == WEIR_OK; r++) {
        const struct weir_delta_add *removed = changes->removes.items[r];
        struct weir_delta_add *again = NULL;
        for (int32_t a = 0; a < changes->adds.count; a++) {
            struct weir_delta_add *add = changes->adds.items[a];
            again = add != NULL && strcmp(add->path, removed->path) == 0 ? add : again;
        }
        rc = again != NULL ? tell_vectors(changes, removed, again, err)
                           : tell_file(changes, removed, "delete", NULL, NULL, err);
        if (again != NULL) {
            again->data_change = false; /* told */
        }
    }
    for (int32_t a = 0; a < changes->adds.count && rc == WEIR_OK; a++) {
        if (changes->adds.items[a]->data_change) {
            rc = tell_file(changes, changes->adds.items[a], "insert", NULL, NULL, err);
        }
    }
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
    if (rc == WEIR_OK && !feed_is_on(&first->metadata)) {
        rc = feed_is_off(from, err);
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
    for (changes.version = from; changes.version <= to->version && rc == WEIR_OK;
         changes.version++) {
        rc = read_commit(&changes, err);
        if (rc == WEIR_OK) {
            rc = tell_commit(&changes, err);
        }
    }
    weir_delta_adds_fini(&changes.adds);
    weir_delta_adds_fini(&changes.removes);
    weir_delta_adds_fini(&changes.cdc);
    weir_schema_unref(changes.read);
    weir_schema_unref(changes.told);
    free(changes.columns);
    return rc;
}
