#include "source/delta_feed.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "batch/change.h"
#include "core/log.h"
#include "lake/delta/state.h"
#include "lake/merge/merge_keys.h"

enum { UPDATED_MAX = 1 << 25 };

#define TYPE_COLUMN "_change_type"

static int no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "out of memory for a table's changes");
}

/* --- life --------------------------------------------------------------------------------- */

int delta_feed_init(struct delta_feed *feed, const json_t *keys, struct weir_error *err) {
    size_t count = json_array_size(keys);
    if (count == 0 || count > DELTA_FEED_KEYS_MAX) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "delta: changes are told by key, of 1 to %d columns; write delta { "
                              "path = …, changes = true, key = \"id\" }",
                              DELTA_FEED_KEYS_MAX);
    }
    feed->keys = calloc(count, sizeof(*feed->keys));
    feed->hashes = malloc(WEIR_BATCH_ROWS_MAX * sizeof(*feed->hashes));
    if (feed->keys == NULL || feed->hashes == NULL) {
        return no_memory(err);
    }
    for (size_t i = 0; i < count; i++) {
        feed->keys[i] = json_string_value(json_array_get(keys, i));
    }
    feed->key_count = (int32_t)count;
    return WEIR_OK;
}

void delta_feed_clear(struct delta_feed *feed) {
    delta_commit_fini(&feed->commit);
    free(feed->parts);
    free(feed->updated);
    free(feed->bits);
    feed->parts = NULL;
    feed->updated = NULL;
    feed->bits = NULL;
    feed->part_count = 0;
    feed->updated_count = 0;
    feed->updated_capacity = 0;
}

void delta_feed_fini(struct delta_feed *feed) {
    delta_feed_clear(feed);
    free(feed->keys);
    free(feed->hashes);
    feed->keys = NULL;
    feed->hashes = NULL;
}

int delta_feed_columns(const struct delta_feed *feed, const struct weir_schema *table,
                       struct weir_schema **out, struct weir_error *err) {
    static const struct {
        const char *name;
        const char *type;
    } more[] = {{WEIR_CHANGE_COLUMN, "int8"},
                {TABLE_FILE_VERSION_COLUMN, "int64"},
                {TABLE_FILE_TIME_COLUMN, "timestamp"}};
    for (int32_t i = 0; i < feed->key_count; i++) {
        int32_t at = weir_schema_find(table, feed->keys[i]);
        if (at < 0 || !delta_key_type(table->fields[at].type)) {
            return weir_error_set(err, WEIR_E_SCHEMA, "delta: the key \"%s\" is %s", feed->keys[i],
                                  at < 0 ? "no column of the table"
                                         : "nested; name a column of numbers, text or time");
        }
    }
    struct weir_schema *made = weir_schema_create();
    int rc = made != NULL ? WEIR_OK : no_memory(err);
    for (int32_t i = 0; rc == WEIR_OK && i < table->count; i++) {
        rc = weir_schema_add(made, &table->fields[i]) == WEIR_OK ? rc : no_memory(err);
    }
    for (size_t i = 0; rc == WEIR_OK && i < sizeof(more) / sizeof(more[0]); i++) {
        if (weir_schema_find(made, more[i].name) >= 0) {
            rc = weir_error_set(err, WEIR_E_SCHEMA,
                                "delta: the table has a column %s of its own, so its changes "
                                "cannot be told; read it without changes = true",
                                more[i].name);
        } else {
            rc = weir_schema_add_text(made, more[i].name, more[i].type, i > 0, err);
        }
    }
    if (rc != WEIR_OK) {
        weir_schema_unref(made);
        return rc;
    }
    *out = made;
    return WEIR_OK;
}

/* --- what a row is ------------------------------------------------------------------------ */

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static bool is_type(const struct weir_column *types, int32_t row, const char *name) {
    int32_t size;
    const char *text = weir_column_bytes(types, row, &size);
    return (size_t)size == strlen(name) && memcmp(text, name, (size_t)size) == 0;
}

/* Of a row of a change file; TABLE_FILE_UNTOLD where it is not of this part. */
static int8_t typed(const struct delta_feed *feed, const struct weir_column *types, int32_t row) {
    if (weir_column_is_null(types, row)) {
        return TABLE_FILE_UNTOLD;
    }
    if (feed->part->goes) {
        if (is_type(types, row, "delete")) {
            return WEIR_CHANGE_DELETE;
        }
        bool moved = is_type(types, row, "update_preimage") &&
                     (feed->updated_count == 0 ||
                      bsearch(&feed->hashes[row], feed->updated, feed->updated_count,
                              sizeof(*feed->updated), by_value) == NULL);
        return moved ? WEIR_CHANGE_DELETE : TABLE_FILE_UNTOLD;
    }
    return is_type(types, row, "insert")             ? WEIR_CHANGE_INSERT
           : is_type(types, row, "update_postimage") ? WEIR_CHANGE_AFTER
                                                     : TABLE_FILE_UNTOLD;
}

static void tell(void *context, const struct weir_batch *rows, int64_t first,
                 const uint8_t *deleted, int8_t *changes) {
    struct delta_feed *feed = context;
    const struct delta_feed_part *part = feed->part;
    if (part->step.kind == DELTA_STEP_TYPED) {
        const struct weir_column *types =
            &rows->columns[weir_schema_find(rows->schema, TYPE_COLUMN)];
        delta_keys_hash(rows, feed->key_columns, feed->key_count, feed->hashes);
        for (int32_t i = 0; i < rows->rows; i++) {
            changes[i] = typed(feed, types, i);
        }
        return;
    }
    int8_t change = part->step.kind == DELTA_STEP_DELETES ? WEIR_CHANGE_DELETE : WEIR_CHANGE_INSERT;
    for (int32_t i = 0; i < rows->rows; i++) {
        bool is = feed->bits != NULL ? weir_bit_get(feed->bits, first + i)
                                     : deleted == NULL || !weir_bit_get(deleted, first + i);
        changes[i] = is ? change : TABLE_FILE_UNTOLD;
    }
}

/* --- parts -------------------------------------------------------------------------------- */

static int make_parts(struct delta_feed *feed, int32_t most, struct weir_error *err) {
    free(feed->parts);
    feed->part_count = 0;
    feed->parts = calloc((size_t)most + 1, sizeof(*feed->parts));
    return feed->parts != NULL ? WEIR_OK : no_memory(err);
}

/* Keys of the new rows of updates in one change file. */
static int gather_updated(struct delta_feed *feed, struct weir_delta_snapshot *snapshot,
                          const struct delta_step *step, struct weir_schema *schema,
                          const struct weir_delta_column *columns, struct weir_pool *pool,
                          struct weir_error *err) {
    int32_t keys[DELTA_FEED_KEYS_MAX];
    struct delta_cursor cursor;
    uint8_t *bits;
    for (int32_t i = 0; i < feed->key_count; i++) {
        keys[i] = i;
    }
    int rc = delta_step_open(&cursor, snapshot, step, feed->commit.version, schema, columns, pool,
                             &bits, err);
    while (rc == WEIR_OK && feed->updated_count <= UPDATED_MAX) {
        struct weir_batch *batch = NULL;
        rc = delta_cursor_next(&cursor, &batch, err);
        if (rc != WEIR_OK || batch == NULL) {
            break;
        }
        if (feed->updated_count + (size_t)batch->rows > feed->updated_capacity) {
            size_t capacity = feed->updated_capacity * 2 + (size_t)batch->rows;
            uint64_t *grown = realloc(feed->updated, capacity * sizeof(*grown));
            rc = grown != NULL ? WEIR_OK : no_memory(err);
            feed->updated = grown != NULL ? grown : feed->updated;
            feed->updated_capacity = grown != NULL ? capacity : feed->updated_capacity;
        }
        const struct weir_column *types = &batch->columns[feed->key_count];
        delta_keys_hash(batch, keys, feed->key_count, feed->hashes);
        for (int32_t i = 0; rc == WEIR_OK && i < batch->rows; i++) {
            if (!weir_column_is_null(types, i) && is_type(types, i, "update_postimage")) {
                feed->updated[feed->updated_count++] = feed->hashes[i];
            }
        }
        weir_batch_unref(batch);
    }
    delta_cursor_close(&cursor);
    free(bits);
    return rc;
}

static int find_updated(struct delta_feed *feed, struct weir_delta_snapshot *snapshot,
                        struct weir_pool *pool, struct weir_error *err) {
    const struct weir_schema *table;
    const struct weir_delta_column *all;
    struct weir_delta_column columns[DELTA_FEED_KEYS_MAX + 1] = {0};
    int rc = weir_delta_snapshot_schema(snapshot, &table, &all, err);
    struct weir_schema *schema = weir_schema_create();
    rc = rc == WEIR_OK && schema == NULL ? no_memory(err) : rc;
    for (int32_t i = 0; rc == WEIR_OK && i < feed->key_count; i++) {
        int32_t at = weir_schema_find(table, feed->keys[i]);
        rc = at >= 0 ? weir_schema_add(schema, &table->fields[at])
                     : weir_error_set(err, WEIR_E_SCHEMA,
                                      "the table has no key column \"%s\" any more", feed->keys[i]);
        columns[i] = at >= 0 ? all[at] : columns[i];
    }
    columns[feed->key_count] =
        (struct weir_delta_column){.physical_name = TYPE_COLUMN, .field_id = -1};
    rc = rc == WEIR_OK ? weir_schema_add_text(schema, TYPE_COLUMN, "string", true, err) : rc;
    for (int32_t i = 0; rc == WEIR_OK && i < feed->commit.step_count; i++) {
        if (feed->commit.steps[i].kind == DELTA_STEP_TYPED) {
            rc = gather_updated(feed, snapshot, &feed->commit.steps[i], schema, columns, pool, err);
        }
    }
    weir_schema_unref(schema);
    if (rc == WEIR_OK && feed->updated_count > UPDATED_MAX) {
        weir_log_warn("source",
                      "a commit updates more rows than are compared: the old ones go as deletes "
                      "version=%lld rows=%d",
                      (long long)feed->commit.version, UPDATED_MAX);
        feed->updated_count = 0;
    }
    if (rc == WEIR_OK && feed->updated_count > 0) {
        qsort(feed->updated, feed->updated_count, sizeof(*feed->updated), by_value);
    }
    return rc;
}

int delta_feed_take(struct delta_feed *feed, struct weir_delta_snapshot *snapshot, int64_t version,
                    struct weir_pool *pool, struct weir_error *err) {
    delta_feed_clear(feed);
    int rc = delta_commit_read(&feed->commit, snapshot->store, snapshot->dir, version, err);
    const struct delta_commit *commit = &feed->commit;
    rc = rc == WEIR_OK ? make_parts(feed, 2 * commit->step_count, err) : rc;
    rc = rc == WEIR_OK ? find_updated(feed, snapshot, pool, err) : rc;
    if (rc == WEIR_E_NOTFOUND && commit->step_count > 0) { /* the commit is there, a file is not */
        rc = weir_error_set(err, WEIR_E_STATE,
                            "a change file of version %" PRId64 " was vacuumed before it was "
                            "read; raise delta.deletedFileRetentionDuration of the table, and "
                            "begin behind that version under another source's name",
                            version);
    }
    for (int comes = 0; rc == WEIR_OK && comes < 2; comes++) {
        enum delta_step_kind kind = comes ? DELTA_STEP_INSERTS : DELTA_STEP_DELETES;
        for (int32_t i = 0; i < commit->step_count; i++) {
            if (commit->steps[i].kind == kind || commit->steps[i].kind == DELTA_STEP_TYPED) {
                feed->parts[feed->part_count++] =
                    (struct delta_feed_part){commit->steps[i], !comes};
            }
        }
    }
    return rc;
}

int delta_feed_take_files(struct delta_feed *feed, const struct weir_delta_snapshot *snapshot,
                          const struct weir_delta_adds *files, struct weir_error *err) {
    delta_feed_clear(feed);
    feed->commit.version = snapshot->version;
    feed->commit.timestamp_ms = snapshot->timestamp_ms;
    int rc = make_parts(feed, files->count, err);
    for (int32_t i = 0; rc == WEIR_OK && i < files->count; i++) {
        feed->parts[feed->part_count++] =
            (struct delta_feed_part){.step = {.kind = DELTA_STEP_INSERTS, .file = files->items[i]}};
    }
    return rc;
}

int delta_feed_open(struct delta_feed *feed, int32_t part, struct table_file *file,
                    struct weir_delta_snapshot *snapshot, struct weir_error *err) {
    free(feed->bits);
    feed->bits = NULL;
    feed->part = &feed->parts[part];
    feed->told = (struct table_file_told){.tell = tell,
                                          .context = feed,
                                          .version = feed->commit.version,
                                          .time_us = feed->commit.timestamp_ms * 1000};
    file->told = &feed->told;
    for (int32_t i = 0; i < feed->key_count; i++) {
        feed->key_columns[i] = weir_schema_find(file->schema, feed->keys[i]);
        if (feed->key_columns[i] < 0) {
            return weir_error_set(err, WEIR_E_SCHEMA, "there is no key column \"%s\"",
                                  feed->keys[i]);
        }
    }
    return delta_step_open(&file->cursor, snapshot, &feed->part->step, feed->commit.version,
                           file->schema, file->columns, file->source->pool, &feed->bits, err);
}
