/* Changes wait in memory for their seal, which comes early when they grow large (held bytes), then
 * go into the effect reduced to one a key. */
#include "sink/delta_merge.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "batch/change.h"
#include "lake/delta/fit.h"
#include "lake/parquet/reader.h"
#include "lake/parquet/writer.h"

enum { KEYS_MAX = 16, PARTITIONS_MAX = 16, HEAD_BYTES_MAX = 1 << 16 };
#define MERGE_POOL_BYTES ((size_t)512 << 20)

static const char effect_start[] = "{\"merge\":";
static const char rows_start[] = "{\"rows\":1,";

struct delta_changes {
    const struct weir_sink_config *config;
    const struct weir_delta_partition *partitions;
    struct weir_delta_merge_options options;
    struct weir_parquet_writer *writer;
    struct weir_batch **batches;
    int32_t count;
    int32_t capacity;
    size_t bytes;
    int32_t change; /* column, or -1 */
    bool truncates; /* the table is emptied before the rows held go in */
};

static int no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "changes: out of memory");
}

int delta_changes_create(const struct weir_sink_config *config,
                         const struct weir_delta_partition *partitions, struct delta_changes **out,
                         struct weir_error *err) {
    struct weir_parquet_writer_options options;
    struct delta_changes *changes = calloc(1, sizeof(*changes));
    if (changes == NULL) {
        return no_memory(err);
    }
    changes->config = config;
    changes->partitions = partitions;
    changes->options.keys = config->keys;
    changes->options.key_count = config->key_count;
    changes->options.time = config->time;
    /* Without keys such a column is one of the data. */
    bool merges = config->key_count > 0;
    changes->change = merges ? weir_schema_find(config->schema, SINK_CHANGE_COLUMN) : -1;
    changes->options.change = changes->change >= 0 ? SINK_CHANGE_COLUMN : NULL;
    int32_t unavailable = merges ? weir_schema_find(config->schema, SINK_UNAVAILABLE_COLUMN) : -1;
    if (unavailable >= 0 && delta_changes_is_note(&config->schema->fields[unavailable])) {
        changes->options.unavailable = SINK_UNAVAILABLE_COLUMN;
    }
    weir_parquet_writer_options_init(&options);
    options.page_index = false;
    options.nanos_annotated = true; /* a table would say of a long in its schema what it counts */
    struct weir_schema *schema = weir_schema_create();
    int rc = schema != NULL ? WEIR_OK : no_memory(err);
    for (int32_t i = 0; rc == WEIR_OK && i < config->schema->count; i++) {
        struct weir_field field = config->schema->fields[i];
        field.nullable = true; /* a delete may know its key alone */
        rc = weir_schema_add(schema, &field) == WEIR_OK ? rc : no_memory(err);
    }
    if (rc == WEIR_OK) {
        rc = weir_parquet_writer_create(&changes->writer, schema, &options, err);
    }
    weir_schema_unref(schema);
    if (rc != WEIR_OK) {
        delta_changes_destroy(changes);
        return rc;
    }
    *out = changes;
    return WEIR_OK;
}

static void forget(struct delta_changes *changes) {
    for (int32_t i = 0; i < changes->count; i++) {
        weir_batch_unref(changes->batches[i]);
    }
    changes->count = 0;
    changes->bytes = 0;
    changes->truncates = false;
}

void delta_changes_destroy(struct delta_changes *changes) {
    if (changes != NULL) {
        forget(changes);
        weir_parquet_writer_destroy(changes->writer);
        free(changes->batches);
        free(changes);
    }
}

size_t delta_changes_bytes(const struct delta_changes *changes) {
    return changes->bytes;
}

static int hold(struct delta_changes *changes, struct weir_batch *batch, const int32_t *sel,
                int32_t count, struct weir_error *err) {
    if (count == 0) {
        return WEIR_OK;
    }
    if (changes->count == changes->capacity) {
        int32_t capacity = changes->capacity > 0 ? changes->capacity * 2 : 16;
        struct weir_batch **batches =
            realloc(changes->batches, (size_t)capacity * sizeof(struct weir_batch *));
        if (batches == NULL) {
            return no_memory(err);
        }
        changes->batches = batches;
        changes->capacity = capacity;
    }
    struct weir_batch *own = sel == NULL && count == batch->rows ? weir_batch_ref(batch) : NULL;
    if (own == NULL && sel == NULL) {
        own = weir_batch_slice(batch, 0, count);
    } else if (own == NULL) {
        own = weir_batch_gather(batch, sel, count);
    }
    if (own == NULL) {
        return weir_error_set(err, WEIR_E_LIMIT,
                              "changes of one epoch pass the memory cap (memory.data)");
    }
    changes->batches[changes->count++] = own;
    changes->bytes += weir_batch_held_bytes(own);
    return WEIR_OK;
}

/* A truncate makes what came before it void. */
int delta_changes_write(struct delta_changes *changes, struct weir_batch *batch, const int32_t *sel,
                        int32_t count, struct weir_error *err) {
    int32_t all[WEIR_BATCH_ROWS_MAX];
    int32_t from = 0;
    for (int32_t i = 0; changes->change >= 0 && i < count; i++) {
        int32_t row = sel != NULL ? sel[i] : i;
        if (weir_change_read(&batch->columns[changes->change], row) == WEIR_CHANGE_TRUNCATE) {
            from = i + 1;
        }
    }
    if (from == 0) {
        return hold(changes, batch, sel, count, err);
    }
    forget(changes);
    changes->truncates = true;
    for (int32_t i = 0; sel == NULL && i < count; i++) {
        all[i] = i;
    }
    return hold(changes, batch, (sel != NULL ? sel : all) + from, count - from, err);
}

/* --- sealing ------------------------------------------------------------------------------- */

static int put_head(const struct delta_changes *changes, struct weir_buffer *effect) {
    static const char *const transforms[] = {"column", "date", "hour"};
    const struct weir_delta_merge_options *options = &changes->options;
    json_t *head = json_object();
    json_t *keys = json_array();
    json_t *partitions = json_array();
    for (int32_t i = 0; i < options->key_count; i++) {
        json_array_append_new(keys, json_string(options->keys[i]));
    }
    for (int32_t i = 0; i < changes->config->partition_count; i++) {
        const struct weir_delta_partition *partition = &changes->partitions[i];
        json_array_append_new(
            partitions, json_pack("{s:s}", transforms[partition->transform], partition->column));
    }
    json_object_set_new(head, options->key_count > 0 ? "merge" : "rows", json_integer(1));
    json_object_set_new(head, "key", keys);
    if (options->time != NULL) {
        json_object_set_new(head, "time", json_string(options->time));
    }
    if (options->change != NULL) {
        json_object_set_new(head, "change", json_string(options->change));
    }
    if (options->unavailable != NULL) {
        json_object_set_new(head, "unavailable", json_string(options->unavailable));
    }
    if (changes->truncates) {
        json_object_set_new(head, "truncate", json_true());
    }
    json_object_set_new(head, "partitions", partitions);
    char *text = json_dumps(head, JSON_COMPACT | JSON_ENSURE_ASCII);
    int rc = text != NULL ? weir_buffer_append_text(effect, text) : WEIR_E_NOMEM;
    free(text);
    json_decref(head);
    return rc == WEIR_OK ? weir_buffer_append(effect, "\n", 1) : rc;
}

static int append_bytes(void *context, const void *bytes, size_t size, struct weir_error *err) {
    int rc = weir_buffer_append(context, bytes, size);
    return rc == WEIR_OK ? rc
                         : weir_error_set(err, rc,
                                          "the changes of one epoch do not fit a record; seal more "
                                          "often (commit.every)");
}

/* Rows [*at, …) of the sorted row numbers that lie in batch `index`, which begins at `start`. */
static int put_rows(struct delta_changes *changes, int32_t index, int64_t start,
                    const int64_t *rows, int64_t count, int64_t *at, struct weir_error *err) {
    int32_t sel[WEIR_BATCH_ROWS_MAX];
    const struct weir_batch *batch = changes->batches[index];
    int rc = WEIR_OK;
    while (rc == WEIR_OK && *at < count && rows[*at] < start + batch->rows) {
        int32_t taken = 0;
        while (*at < count && rows[*at] < start + batch->rows && taken < WEIR_BATCH_ROWS_MAX) {
            sel[taken++] = (int32_t)(rows[(*at)++] - start);
        }
        rc = weir_parquet_writer_append(changes->writer, batch, sel, taken, err);
    }
    return rc;
}

int delta_changes_seal(struct delta_changes *changes, struct weir_buffer *effect,
                       struct weir_error *err) {
    int64_t *rows = NULL;
    int64_t count = 0;
    int64_t at = 0;
    int64_t start = 0;
    if (changes->count == 0 && !changes->truncates) {
        return WEIR_OK;
    }
    int rc = changes->options.key_count > 0 ? weir_delta_net(changes->batches, changes->count,
                                                             &changes->options, &rows, &count, err)
                                            : WEIR_OK;
    if (rc == WEIR_OK && put_head(changes, effect) != WEIR_OK) {
        rc = no_memory(err);
    }
    if (rc == WEIR_OK) {
        rc = weir_parquet_writer_open(changes->writer, append_bytes, effect, err);
    }
    for (int32_t i = 0; i < changes->count && rc == WEIR_OK; i++) {
        rc = changes->options.key_count > 0
                 ? put_rows(changes, i, start, rows, count, &at, err)
                 : weir_parquet_writer_append(changes->writer, changes->batches[i], NULL,
                                              changes->batches[i]->rows, err);
        start += changes->batches[i]->rows;
    }
    if (rc == WEIR_OK) {
        rc = weir_parquet_writer_finish(changes->writer, NULL, err);
    } else {
        weir_parquet_writer_abort(changes->writer);
    }
    free(rows);
    forget(changes);
    return rc;
}

/* --- applying ------------------------------------------------------------------------------ */

bool delta_changes_is_note(const struct weir_field *field) {
    return strcmp(field->name, SINK_CHANGE_COLUMN) == 0 ||
           (strcmp(field->name, SINK_UNAVAILABLE_COLUMN) == 0 && field->type == WEIR_TYPE_LIST &&
            field->children[0].type == WEIR_TYPE_STRING);
}

bool delta_changes_is_effect(const void *effect, size_t size) {
    return size > sizeof(effect_start) &&
           memcmp(effect, effect_start, sizeof(effect_start) - 1) == 0;
}

/* What an effect's first line says; texts are borrowed from `head`. */
struct how {
    const char *keys[KEYS_MAX];
    struct weir_delta_partition partitions[PARTITIONS_MAX];
    struct weir_delta_merge_options options;
};

static int read_head(const json_t *head, struct how *how, struct weir_error *err) {
    const json_t *keys = json_object_get(head, "key");
    const json_t *partitions = json_object_get(head, "partitions");
    size_t i;
    const json_t *item;
    const char *form = json_array_size(keys) > 0 ? "merge" : "rows";
    bool good = json_integer_value(json_object_get(head, form)) == 1 &&
                json_array_size(keys) <= KEYS_MAX && json_array_size(partitions) <= PARTITIONS_MAX;
    json_array_foreach(keys, i, item) {
        if (!good || json_string_value(item) == NULL) {
            good = false;
            break;
        }
        how->keys[how->options.key_count++] = json_string_value(item);
    }
    json_array_foreach(partitions, i, item) {
        static const char *const transforms[] = {"column", "date", "hour"};
        const char *column = NULL;
        struct weir_delta_partition *to = &how->partitions[how->options.partition_count];
        for (int k = 0; good && k < 3 && column == NULL; k++) {
            column = json_string_value(json_object_get(item, transforms[k]));
            to->transform = (enum weir_delta_transform)k;
        }
        if (column == NULL) {
            good = false;
            break;
        }
        to->column = column;
        how->options.partition_count++;
    }
    how->options.keys = how->keys;
    how->options.partitions = how->partitions;
    how->options.time = json_string_value(json_object_get(head, "time"));
    how->options.change = json_string_value(json_object_get(head, "change"));
    how->options.unavailable = json_string_value(json_object_get(head, "unavailable"));
    how->options.truncate = json_is_true(json_object_get(head, "truncate"));
    return good ? WEIR_OK
                : weir_error_set(err, WEIR_E_CORRUPT,
                                 "the record's changes do not say how to "
                                 "merge them");
}

static int keep_batch(struct weir_batch *batch, struct weir_batch ***out, int32_t *count,
                      struct weir_error *err) {
    struct weir_batch **batches = realloc(*out, ((size_t)*count + 1) * sizeof(struct weir_batch *));
    if (batches == NULL) {
        weir_batch_unref(batch);
        return no_memory(err);
    }
    *out = batches;
    batches[(*count)++] = batch;
    return WEIR_OK;
}

/* One batch at least: an empty one says the columns. */
static int read_rows(const void *bytes, size_t size, struct weir_pool *pool,
                     struct weir_batch ***out, int32_t *count, struct weir_error *err) {
    const struct weir_parquet_reader_options options = {.pool = pool};
    struct weir_parquet_reader *reader = NULL;
    int rc = weir_parquet_reader_open_memory(&reader, bytes, size, &options, err);
    while (rc == WEIR_OK) {
        struct weir_batch *batch = NULL;
        rc = weir_parquet_reader_next(reader, &batch, err);
        if (rc != WEIR_OK || batch == NULL) {
            break;
        }
        rc = keep_batch(batch, out, count, err);
    }
    if (rc == WEIR_OK && *count == 0) {
        struct weir_batch *none = weir_batch_create(pool, weir_parquet_reader_schema(reader));
        rc = none != NULL ? keep_batch(none, out, count, err) : no_memory(err);
    }
    weir_parquet_reader_close(reader);
    return rc;
}

/* The name a column has among rows that were fitted to the table; borrowed from `fitted`. */
static const char *now_called(const struct weir_schema *rows, const struct weir_schema *fitted,
                              const char *name) {
    int32_t at = name != NULL ? weir_schema_find(rows, name) : -1;
    return at >= 0 ? fitted->fields[at].name : name;
}

/* A change may have been recorded before a column was renamed, or got a wider type: its columns as
 * the table has them by now. */
static int fit_rows(struct weir_delta_table *table, struct weir_batch **batches, int32_t count,
                    struct how *how, struct weir_error *err) {
    struct weir_schema *rows = weir_schema_ref(batches[0]->schema);
    struct weir_schema *fitted = NULL;
    int rc = weir_delta_fit_schema(weir_delta_table_snapshot(table), rows, &fitted, err);
    for (int32_t i = 0; fitted != NULL && i < count && rc == WEIR_OK; i++) {
        struct weir_batch *from = batches[i];
        rc = weir_delta_fit_batch(from, fitted, &batches[i], err);
        if (rc == WEIR_OK) {
            weir_batch_unref(from);
        }
    }
    for (int32_t k = 0; fitted != NULL && k < how->options.key_count; k++) {
        how->keys[k] = now_called(rows, fitted, how->keys[k]);
    }
    for (int32_t k = 0; fitted != NULL && k < how->options.partition_count; k++) {
        how->partitions[k].column = now_called(rows, fitted, how->partitions[k].column);
    }
    if (fitted != NULL) {
        how->options.time = now_called(rows, fitted, how->options.time);
    }
    weir_schema_unref(rows);
    weir_schema_unref(fitted); /* the batches' now */
    return rc;
}

/* An effect's first line and its rows, fitted to the table; the texts of `how` go with *head and
 * the batches, and the pool is the caller's. */
static int read_effect(struct weir_delta_table *table, const void *effect, size_t size,
                       struct weir_pool *pool, struct how *how, json_t **head,
                       struct weir_batch ***batches, int32_t *count, struct weir_error *err) {
    const char *text = effect;
    const char *newline = memchr(text, '\n', size);
    size_t length = newline != NULL ? (size_t)(newline - text) : size;
    *head = length < HEAD_BYTES_MAX ? json_loadb(text, length, 0, NULL) : NULL;
    int rc = read_head(*head, how, err);
    if (rc == WEIR_OK && newline != NULL) {
        rc = read_rows(newline + 1, size - length - 1, pool, batches, count, err);
    }
    return rc == WEIR_OK && *count > 0 ? fit_rows(table, *batches, *count, how, err) : rc;
}

static void free_effect(json_t *head, struct weir_batch **batches, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        weir_batch_unref(batches[i]);
    }
    free(batches);
    json_decref(head);
}

static int apply_once(struct weir_delta_table *table, const void *effect, size_t size,
                      const struct weir_delta_commit_options *commit,
                      struct weir_delta_merge_result *result, struct weir_error *err) {
    struct how how = {.options = {.commit = *commit}};
    struct weir_batch **batches = NULL;
    int32_t count = 0;
    json_t *head = NULL;
    struct weir_pool *pool = weir_pool_create(MERGE_POOL_BYTES);
    int rc = pool != NULL
                 ? read_effect(table, effect, size, pool, &how, &head, &batches, &count, err)
                 : no_memory(err);
    memset(result, 0, sizeof(*result));
    if (rc == WEIR_OK) {
        how.options.pool = pool;
        rc = weir_delta_merge(table, batches, count, &how.options, result, err);
    }
    free_effect(head, batches, count);
    if (pool != NULL) {
        weir_pool_destroy(pool);
    }
    return rc;
}

int delta_changes_apply(struct weir_delta_table *table, const void *effect, size_t size,
                        const struct weir_delta_commit_options *commit,
                        struct weir_delta_merge_result *result, struct weir_error *err) {
    int rc;
    do { /* rows are fitted to the table again, when others changed its columns meanwhile */
        rc = apply_once(table, effect, size, commit, result, err);
    } while (rc == WEIR_E_CONFLICT && result->columns_changed);
    return rc;
}

/* --- rows in the record -------------------------------------------------------------------- */

bool delta_rows_is_effect(const void *effect, size_t size) {
    return size > sizeof(rows_start) && memcmp(effect, rows_start, sizeof(rows_start) - 1) == 0;
}

int delta_changes_move(struct delta_changes *changes, struct weir_delta_writer *to,
                       struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t i = 0; i < changes->count && rc == WEIR_OK; i++) {
        rc =
            weir_delta_writer_append(to, changes->batches[i], NULL, changes->batches[i]->rows, err);
    }
    forget(changes);
    return rc;
}

/* Columns may have come between two records: each its own writer then. */
static int append_rows(struct weir_delta_table *table, const struct weir_sink_record *record,
                       struct weir_pool *pool, struct weir_delta_writer **writer,
                       struct weir_schema **columns, struct weir_delta_adds *adds,
                       struct weir_error *err) {
    static const struct weir_delta_writer_options options = {.judged = true};
    struct how how = {0};
    struct weir_batch **batches = NULL;
    int32_t count = 0;
    json_t *head = NULL;
    int rc =
        read_effect(table, record->effect, record->size, pool, &how, &head, &batches, &count, err);
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        struct weir_schema *schema = batches[i]->schema;
        if (*writer != NULL && !weir_schema_equal(*columns, schema)) {
            rc = weir_delta_writer_seal(*writer, adds, err);
            weir_delta_writer_destroy(*writer);
            *writer = NULL;
        }
        if (rc == WEIR_OK && *writer == NULL) {
            weir_schema_unref(*columns);
            *columns = weir_schema_ref(schema);
            rc = weir_delta_writer_create(table, schema, how.options.partitions,
                                          how.options.partition_count, &options, writer, err);
        }
        if (rc == WEIR_OK) {
            rc = weir_delta_writer_append(*writer, batches[i], NULL, batches[i]->rows, err);
        }
    }
    free_effect(head, batches, count);
    return rc;
}

int delta_rows_files(struct weir_delta_table *table, const struct weir_sink_record *records,
                     int32_t count, struct weir_delta_adds *adds, struct weir_error *err) {
    struct weir_delta_writer *writer = NULL;
    struct weir_schema *columns = NULL;
    struct weir_pool *pool = weir_pool_create(MERGE_POOL_BYTES);
    int rc = pool != NULL ? WEIR_OK : no_memory(err);
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        rc = append_rows(table, &records[i], pool, &writer, &columns, adds, err);
    }
    if (rc == WEIR_OK && writer != NULL) {
        rc = weir_delta_writer_seal(writer, adds, err);
    }
    weir_delta_writer_destroy(writer);
    weir_schema_unref(columns);
    if (pool != NULL) {
        weir_pool_destroy(pool);
    }
    return rc;
}
