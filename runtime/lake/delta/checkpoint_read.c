/* Checkpoints to actions. A Parquet checkpoint has one struct column per kind of action, of which
 * one is not null in each row; it is read batch by batch, so memory follows the live files only.
 * V2 checkpoints may be JSON lines, and may keep their adds in sidecar files. */
#include <inttypes.h>
#include <stdlib.h>

#include "lake/delta/checkpoint_stats.h"
#include "lake/delta/parquet_file.h"
#include "lake/delta/state.h"
#include "lake/delta/text.h"

#define POOL_BYTES ((size_t)2 << 30)
#define SIDECARS_MAX 100000
#define LIST_MAX 100000

/* Memory of one row's texts, reused for the next. */
struct scratch {
    char *chunk;
    size_t used;
    size_t size;
    char **extra; /* texts that did not fit the chunk */
    size_t extra_count;
    size_t extra_capacity;
};

static void *scratch_take(struct scratch *scratch, size_t size) {
    size = (size + 7) & ~(size_t)7;
    if (scratch->size - scratch->used >= size) {
        void *at = scratch->chunk + scratch->used;
        scratch->used += size;
        return at;
    }
    if (scratch->extra_count == scratch->extra_capacity) {
        size_t capacity = scratch->extra_capacity > 0 ? scratch->extra_capacity * 2 : 16;
        char **extra = realloc(scratch->extra, capacity * sizeof(*extra));
        if (extra == NULL) {
            return NULL;
        }
        scratch->extra = extra;
        scratch->extra_capacity = capacity;
    }
    char *text = malloc(size);
    if (text != NULL) {
        scratch->extra[scratch->extra_count++] = text;
    }
    return text;
}

static void scratch_reset(struct scratch *scratch) {
    for (size_t i = 0; i < scratch->extra_count; i++) {
        free(scratch->extra[i]);
    }
    scratch->extra_count = 0;
    scratch->used = 0;
}

static void scratch_fini(struct scratch *scratch) {
    scratch_reset(scratch);
    free(scratch->extra);
    free(scratch->chunk);
}

struct reading {
    struct weir_delta_snapshot *snapshot;
    struct scratch scratch;
    struct weir_pool *pool;
    struct weir_error *err;
    bool failed;   /* the scratch ran out of memory */
    bool bad_text; /* a text is not UTF-8 */
    char **sidecars;
    int32_t sidecar_count;
};

static char *text_at(struct reading *reading, const struct weir_column *column, int64_t row) {
    int32_t length;
    const char *bytes = weir_column_bytes(column, row, &length);
    char *text = scratch_take(&reading->scratch, (size_t)length + 1);
    if (text == NULL) {
        reading->failed = true;
        return NULL;
    }
    memcpy(text, bytes, (size_t)length);
    text[length] = '\0';
    reading->bad_text = reading->bad_text || !delta_text_is_utf8(text, (size_t)length);
    return text;
}

/* NULL when null, absent or no text. */
static char *view_text(struct reading *reading, struct delta_view view, int64_t row) {
    if (!delta_view_has(view, row) || !weir_type_is_bytes(view.field->type)) {
        return NULL;
    }
    return text_at(reading, view.column, row);
}

/* Elements of a list of texts; -1 when null or absent. */
static int32_t view_texts(struct reading *reading, struct delta_view view, int64_t row,
                          char ***out) {
    *out = NULL;
    if (!delta_view_has(view, row) || view.field->type != WEIR_TYPE_LIST ||
        !weir_type_is_bytes(view.field->children[0].type)) {
        return -1;
    }
    int32_t start = view.column->offsets[row];
    int32_t count = view.column->offsets[row + 1] - start;
    if (count > LIST_MAX) {
        reading->failed = true;
        return 0;
    }
    *out = scratch_take(&reading->scratch, (size_t)(count + 1) * sizeof(**out));
    if (*out == NULL) {
        reading->failed = true;
        return 0;
    }
    for (int32_t i = 0; i < count; i++) {
        (*out)[i] = text_at(reading, &view.column->children[0], start + i);
    }
    return count;
}

static int32_t view_pairs(struct reading *reading, struct delta_view view, int64_t row,
                          struct weir_delta_pair **out) {
    *out = NULL;
    if (!delta_view_has(view, row) || view.field->type != WEIR_TYPE_MAP ||
        !weir_type_is_bytes(view.field->children[0].type) ||
        !weir_type_is_bytes(view.field->children[1].type)) {
        return 0;
    }
    int32_t start = view.column->offsets[row];
    int32_t count = view.column->offsets[row + 1] - start;
    *out = count <= LIST_MAX ? scratch_take(&reading->scratch, (size_t)(count + 1) * sizeof(**out))
                             : NULL;
    if (*out == NULL) {
        reading->failed = true;
        return 0;
    }
    const struct weir_column *values = &view.column->children[1];
    for (int32_t i = 0; i < count; i++) {
        (*out)[i].key = text_at(reading, &view.column->children[0], start + i);
        (*out)[i].value =
            weir_column_is_null(values, start + i) ? NULL : text_at(reading, values, start + i);
    }
    return count;
}

static int done(struct reading *reading, const char *what, const void *required) {
    if (reading->failed) {
        return weir_error_set(reading->err, WEIR_E_NOMEM, "read checkpoint: out of memory");
    }
    if (reading->bad_text) {
        return weir_error_set(reading->err, WEIR_E_CORRUPT,
                              "checkpoint: an action has a text that is not UTF-8");
    }
    return required != NULL ? WEIR_OK
                            : weir_error_set(reading->err, WEIR_E_CORRUPT,
                                             "checkpoint: an action has no %s", what);
}

static void read_dv(struct reading *reading, struct delta_view parent, int64_t row,
                    struct weir_delta_dv *dv) {
    struct delta_view view = delta_view_child(parent, "deletionVector");
    memset(dv, 0, sizeof(*dv));
    if (!delta_view_has(view, row)) {
        return;
    }
    const char *type = view_text(reading, delta_view_child(view, "storageType"), row);
    dv->path_or_inline = view_text(reading, delta_view_child(view, "pathOrInlineDv"), row);
    if (type == NULL || dv->path_or_inline == NULL) {
        return;
    }
    dv->storage_type = type[0];
    dv->offset = (int32_t)delta_view_int(delta_view_child(view, "offset"), row, -1);
    dv->size_bytes = (int32_t)delta_view_int(delta_view_child(view, "sizeInBytes"), row, 0);
    dv->cardinality = delta_view_int(delta_view_child(view, "cardinality"), row, 0);
}

static int read_add(struct reading *reading, struct delta_view view, int64_t row) {
    struct weir_delta_add add;
    struct weir_delta_pair *pairs;
    memset(&add, 0, sizeof(add));
    add.path = view_text(reading, delta_view_child(view, "path"), row);
    add.partition_count =
        view_pairs(reading, delta_view_child(view, "partitionValues"), row, &pairs);
    add.partition_values = pairs;
    add.size_bytes = delta_view_int(delta_view_child(view, "size"), row, 0);
    add.modified_ms = delta_view_int(delta_view_child(view, "modificationTime"), row, 0);
    add.data_change = delta_view_bool(delta_view_child(view, "dataChange"), row, false);
    add.stats = view_text(reading, delta_view_child(view, "stats"), row);
    add.clustering_provider = view_text(reading, delta_view_child(view, "clusteringProvider"), row);
    struct delta_view row_id = delta_view_child(view, "baseRowId");
    add.has_row_id = delta_view_has(row_id, row);
    add.base_row_id = delta_view_int(row_id, row, 0);
    add.default_row_commit_version =
        delta_view_int(delta_view_child(view, "defaultRowCommitVersion"), row, 0);
    read_dv(reading, view, row, &add.dv);
    struct delta_view tags = delta_view_child(view, "tags");
    struct delta_view parsed = delta_view_child(view, "stats_parsed");
    struct weir_buffer text;
    struct weir_buffer stats;
    weir_buffer_init(&text, 1u << 24);
    weir_buffer_init(&stats, 1u << 26);
    struct weir_delta_pair *tag_pairs;
    int32_t tag_count = view_pairs(reading, tags, row, &tag_pairs);
    int rc = done(reading, "path", add.path);
    if (rc == WEIR_OK && tag_count > 0) {
        rc = weir_buffer_append_text(&text, "{");
        for (int32_t i = 0; i < tag_count && rc == WEIR_OK; i++) {
            const char *value = tag_pairs[i].value;
            rc = i > 0 ? weir_buffer_append_text(&text, ",") : WEIR_OK;
            if (rc == WEIR_OK) {
                rc = weir_delta_json_string(&text, tag_pairs[i].key, strlen(tag_pairs[i].key));
            }
            if (rc == WEIR_OK) {
                rc = weir_buffer_append_text(&text, ":");
            }
            if (rc == WEIR_OK) {
                rc = value != NULL ? weir_delta_json_string(&text, value, strlen(value))
                                   : weir_buffer_append_text(&text, "null");
            }
        }
        if (rc == WEIR_OK) {
            rc = weir_buffer_append_text(&text, "}");
        }
        add.tags_json = rc == WEIR_OK ? weir_buffer_text(&text) : NULL;
        if (rc != WEIR_OK) {
            rc = weir_error_set(reading->err, WEIR_E_CORRUPT, "checkpoint: bad tags of file %s",
                                add.path);
        }
    }
    if (rc == WEIR_OK && add.stats == NULL && delta_view_has(parsed, row)) {
        rc = delta_parsed_stats_text(parsed, row, &stats);
        add.stats = rc == WEIR_OK ? weir_buffer_text(&stats) : NULL;
        if (rc != WEIR_OK) {
            rc = weir_error_set(reading->err, rc, "checkpoint: statistics of file %s: %s", add.path,
                                weir_error_text(rc));
        }
    }
    if (rc == WEIR_OK) {
        rc = delta_apply_add(reading->snapshot, &add, reading->err);
    }
    weir_buffer_fini(&text);
    weir_buffer_fini(&stats);
    return rc;
}

static int read_remove(struct reading *reading, struct delta_view view, int64_t row) {
    struct weir_delta_remove remove;
    memset(&remove, 0, sizeof(remove));
    remove.path = view_text(reading, delta_view_child(view, "path"), row);
    remove.deletion_ms = delta_view_int(delta_view_child(view, "deletionTimestamp"), row, 0);
    remove.data_change = delta_view_bool(delta_view_child(view, "dataChange"), row, false);
    read_dv(reading, view, row, &remove.dv);
    int rc = done(reading, "path", remove.path);
    return rc == WEIR_OK ? delta_apply_remove(reading->snapshot, &remove, reading->err) : rc;
}

static int read_metadata(struct reading *reading, struct delta_view view, int64_t row) {
    struct weir_delta_metadata metadata;
    struct weir_delta_pair *pairs;
    memset(&metadata, 0, sizeof(metadata));
    metadata.id = view_text(reading, delta_view_child(view, "id"), row);
    metadata.name = view_text(reading, delta_view_child(view, "name"), row);
    metadata.description = view_text(reading, delta_view_child(view, "description"), row);
    metadata.schema_string = view_text(reading, delta_view_child(view, "schemaString"), row);
    metadata.format_provider =
        view_text(reading, delta_view_child(delta_view_child(view, "format"), "provider"), row);
    metadata.partition_count = view_texts(reading, delta_view_child(view, "partitionColumns"), row,
                                          &metadata.partition_columns);
    if (metadata.partition_count < 0) {
        metadata.partition_count = 0;
    }
    metadata.configuration_count =
        view_pairs(reading, delta_view_child(view, "configuration"), row, &pairs);
    metadata.configuration = pairs;
    metadata.created_ms = delta_view_int(delta_view_child(view, "createdTime"), row, 0);
    char no_columns[] = "{\"type\":\"struct\",\"fields\":[]}"; /* as in commits: no schema yet */
    if (metadata.schema_string == NULL) {
        metadata.schema_string = no_columns;
    }
    int rc = done(reading, "id", metadata.id);
    return rc == WEIR_OK ? delta_apply_metadata(reading->snapshot, &metadata, reading->err) : rc;
}

static int read_protocol(struct reading *reading, struct delta_view view, int64_t row) {
    struct weir_delta_protocol protocol;
    protocol.reader_version =
        (int32_t)delta_view_int(delta_view_child(view, "minReaderVersion"), row, 0);
    protocol.writer_version =
        (int32_t)delta_view_int(delta_view_child(view, "minWriterVersion"), row, 0);
    protocol.reader_feature_count = view_texts(reading, delta_view_child(view, "readerFeatures"),
                                               row, &protocol.reader_features);
    protocol.writer_feature_count = view_texts(reading, delta_view_child(view, "writerFeatures"),
                                               row, &protocol.writer_features);
    int rc = done(reading, "protocol", reading);
    return rc == WEIR_OK ? delta_apply_protocol(reading->snapshot, &protocol, reading->err) : rc;
}

static int read_txn(struct reading *reading, struct delta_view view, int64_t row) {
    struct weir_delta_txn txn;
    txn.app_id = view_text(reading, delta_view_child(view, "appId"), row);
    txn.version = delta_view_int(delta_view_child(view, "version"), row, 0);
    txn.last_updated_ms = delta_view_int(delta_view_child(view, "lastUpdated"), row, 0);
    int rc = done(reading, "appId", txn.app_id);
    return rc == WEIR_OK ? delta_apply_txn(reading->snapshot, &txn, reading->err) : rc;
}

static int read_domain(struct reading *reading, struct delta_view view, int64_t row) {
    struct weir_delta_domain domain;
    domain.name = view_text(reading, delta_view_child(view, "domain"), row);
    domain.configuration = view_text(reading, delta_view_child(view, "configuration"), row);
    if (domain.configuration == NULL) {
        domain.configuration = "";
    }
    domain.removed = delta_view_bool(delta_view_child(view, "removed"), row, false);
    int rc = done(reading, "domain", domain.name);
    return rc == WEIR_OK ? delta_apply_domain(reading->snapshot, &domain, reading->err) : rc;
}

static int push_sidecar(void *context, const char *path, int64_t size_bytes,
                        struct weir_error *err) {
    struct reading *reading = context;
    (void)size_bytes;
    char **sidecars =
        reading->sidecar_count < SIDECARS_MAX
            ? realloc(reading->sidecars, (size_t)(reading->sidecar_count + 1) * sizeof(*sidecars))
            : NULL;
    if (sidecars == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "checkpoint: too many sidecars for memory");
    }
    reading->sidecars = sidecars;
    sidecars[reading->sidecar_count] = strdup(path);
    if (sidecars[reading->sidecar_count] == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "checkpoint: out of memory");
    }
    reading->sidecar_count++;
    return WEIR_OK;
}

static int read_sidecar(struct reading *reading, struct delta_view view, int64_t row) {
    const char *path = view_text(reading, delta_view_child(view, "path"), row);
    int rc = done(reading, "path", path);
    return rc == WEIR_OK ? push_sidecar(reading, path, 0, reading->err) : rc;
}

typedef int read_action(struct reading *reading, struct delta_view view, int64_t row);

static const struct {
    const char *name;
    read_action *read;
} kinds[] = {
    {"add", read_add},           {"remove", read_remove}, {"metaData", read_metadata},
    {"protocol", read_protocol}, {"txn", read_txn},       {"domainMetadata", read_domain},
    {"sidecar", read_sidecar},
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

static int read_rows(struct reading *reading, const struct weir_batch *batch,
                     read_action *const *readers) {
    for (int32_t row = 0; row < batch->rows; row++) {
        for (int32_t i = 0; i < batch->column_count; i++) {
            struct delta_view view = {&batch->schema->fields[i], &batch->columns[i]};
            if (view.field->type == WEIR_TYPE_STRUCT && delta_view_has(view, row)) {
                int rc = readers[i](reading, view, row);
                if (rc != WEIR_OK) {
                    return rc;
                }
            }
        }
        scratch_reset(&reading->scratch);
    }
    return WEIR_OK;
}

/* `only`: the kind of action wanted, or NULL for all. */
static int read_parquet(struct reading *reading, const char *path, const char *only) {
    struct delta_parquet_file file;
    read_action *readers[KINDS];
    int32_t columns[KINDS];
    int32_t count = 0;
    int rc =
        delta_parquet_open(&file, reading->snapshot->store, path, -1, reading->pool, reading->err);
    if (rc != WEIR_OK) {
        return rc;
    }
    const struct weir_schema *schema = weir_parquet_reader_schema(file.reader);
    for (size_t i = 0; i < KINDS; i++) {
        int32_t at = weir_schema_find(schema, kinds[i].name);
        if (at >= 0 && (only == NULL || strcmp(only, kinds[i].name) == 0)) {
            readers[count] = kinds[i].read;
            columns[count++] = at;
        }
    }
    if (count == 0 && only != NULL) {
        goto out;
    }
    if (count == 0) {
        rc = weir_error_set(reading->err, WEIR_E_CORRUPT, "%s has no column of a checkpoint", path);
        goto out;
    }
    rc = weir_parquet_reader_select(file.reader, columns, count, reading->err);
    while (rc == WEIR_OK) {
        struct weir_batch *batch = NULL;
        rc = weir_parquet_reader_next(file.reader, &batch, reading->err);
        if (rc != WEIR_OK || batch == NULL) {
            break;
        }
        rc = read_rows(reading, batch, readers);
        weir_batch_unref(batch);
    }
    if (rc != WEIR_OK) {
        rc = weir_error_wrap(reading->err, "checkpoint %s", path);
    }
out:
    delta_parquet_close(&file);
    return rc;
}

static int read_json(struct reading *reading, const char *path) {
    struct weir_buffer bytes;
    struct weir_delta_snapshot *snapshot = reading->snapshot;
    weir_buffer_init(&bytes, DELTA_COMMIT_BYTES_MAX);
    int rc = weir_store_get(snapshot->store, path, 0, -1, &bytes, reading->err);
    if (rc == WEIR_OK) {
        /* two passes, since sidecars go to another place than the rest */
        const struct weir_delta_action_visitor sidecars = {.context = reading,
                                                           .sidecar = push_sidecar};
        const struct weir_delta_action_visitor actions = {
            .context = snapshot,
            .protocol = delta_apply_protocol,
            .metadata = delta_apply_metadata,
            .add = delta_apply_add,
            .remove = delta_apply_remove,
            .txn = delta_apply_txn,
            .domain = delta_apply_domain,
        };
        rc = weir_delta_actions_parse((const char *)bytes.data, bytes.size, path, &actions,
                                      reading->err);
        if (rc == WEIR_OK) {
            rc = weir_delta_actions_parse((const char *)bytes.data, bytes.size, path, &sidecars,
                                          reading->err);
        }
    }
    weir_buffer_fini(&bytes);
    return rc;
}

/* A sidecar is named by its file name in _sidecars, or (some writers) by a path that ends so. */
static int read_sidecars(struct reading *reading) {
    int rc = WEIR_OK;
    int32_t count = reading->sidecar_count;
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        char *decoded = delta_uri_decode(reading->sidecars[i]);
        const char *slash = decoded != NULL ? strrchr(decoded, '/') : NULL;
        const char *name = slash != NULL ? slash + 1 : decoded;
        char *path =
            name != NULL ? delta_log_path(reading->snapshot->dir, "_sidecars/%s", name) : NULL;
        rc = path != NULL ? read_parquet(reading, path, NULL)
                          : weir_error_set(reading->err, WEIR_E_NOMEM, "checkpoint: out of memory");
        free(path);
        free(decoded);
    }
    if (rc == WEIR_OK && reading->sidecar_count != count) {
        rc = weir_error_set(reading->err, WEIR_E_CORRUPT, "checkpoint: a sidecar names a sidecar");
    }
    return rc;
}

int delta_checkpoint_read(struct weir_delta_snapshot *snapshot,
                          const struct delta_checkpoint *files, int32_t count,
                          struct weir_error *err) {
    struct reading reading;
    struct weir_error own;
    memset(&reading, 0, sizeof(reading));
    reading.snapshot = snapshot;
    reading.err = err != NULL ? err : &own;
    reading.scratch.chunk = malloc(1u << 16);
    reading.scratch.size = 1u << 16;
    reading.pool = weir_pool_create(POOL_BYTES);
    int rc = reading.scratch.chunk != NULL && reading.pool != NULL
                 ? WEIR_OK
                 : weir_error_set(err, WEIR_E_NOMEM, "checkpoint: out of memory");
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        char *path = delta_log_path(snapshot->dir, "%s", files[i].name);
        if (path == NULL) {
            rc = weir_error_set(err, WEIR_E_NOMEM, "checkpoint: out of memory");
        } else {
            rc = files[i].is_json ? read_json(&reading, path) : read_parquet(&reading, path, NULL);
        }
        free(path);
    }
    if (rc == WEIR_OK) {
        rc = read_sidecars(&reading);
    }
    for (int32_t i = 0; i < reading.sidecar_count; i++) {
        free(reading.sidecars[i]);
    }
    free(reading.sidecars);
    scratch_fini(&reading.scratch);
    if (reading.pool != NULL) {
        weir_pool_destroy(reading.pool);
    }
    return rc;
}

int delta_checkpoint_sidecars(struct weir_store *store, const char *dir,
                              const struct delta_checkpoint *file, char ***names, int32_t *count,
                              struct weir_error *err) {
    struct weir_delta_snapshot place = {.store = store, .dir = (char *)(uintptr_t)dir};
    struct reading reading = {.snapshot = &place, .err = err};
    struct weir_buffer bytes;
    weir_buffer_init(&bytes, DELTA_COMMIT_BYTES_MAX);
    reading.pool = weir_pool_create(POOL_BYTES);
    char *path = delta_log_path(dir, "%s", file->name);
    int rc = reading.pool != NULL && path != NULL
                 ? WEIR_OK
                 : weir_error_set(err, WEIR_E_NOMEM, "checkpoint: out of memory");
    if (rc == WEIR_OK && file->is_json) {
        const struct weir_delta_action_visitor sidecars = {.context = &reading,
                                                           .sidecar = push_sidecar};
        rc = weir_store_get(store, path, 0, -1, &bytes, err);
        if (rc == WEIR_OK) {
            rc = weir_delta_actions_parse((const char *)bytes.data, bytes.size, path, &sidecars,
                                          err);
        }
    } else if (rc == WEIR_OK) {
        rc = read_parquet(&reading, path, "sidecar");
    }
    *names = reading.sidecars;
    *count = reading.sidecar_count;
    scratch_fini(&reading.scratch);
    weir_buffer_fini(&bytes);
    free(path);
    if (reading.pool != NULL) {
        weir_pool_destroy(reading.pool);
    }
    return rc;
}
