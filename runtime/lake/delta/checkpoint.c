/* Writing checkpoints: the table's state as one classic (V1) Parquet file, or where the table asks
 * for it as a V2 one (a small file and sidecars of its files), streamed in batches, so that its
 * cost in memory does not grow with the table. Then the hint, then the clean-up of log entries that
 * a checkpoint has made superfluous. Every step may be lost to a kill and repeated. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "batch/builder.h"
#include "core/clock.h"
#include "core/fault.h"
#include "core/log.h"
#include "lake/delta/checkpoint_stats.h"
#include "lake/delta/mapping.h"
#include "lake/delta/table_state.h"
#include "lake/parquet/writer.h"

#define BATCH_ROWS 1024
#define BATCH_BYTES ((size_t)16 << 20)
#define POOL_BYTES ((size_t)256 << 20)
#define ROW_GROUP_ROWS 65536
#define HELD_BYTES (32 << 20)
#define SIDECAR_ROWS                                                                               \
    ROW_GROUP_ROWS /* a sidecar ends after the batch that reaches one of the two                   \
                    */
#define SIDECAR_BYTES (64 << 20)
#define DAY_MS 86400000ll

static const struct {
    const char *name;
    const char *type;
} columns[] = {
    {"txn", "struct<appId: string, version: int64, lastUpdated: int64>"},
    {"add",
     "struct<path: string, partitionValues: map<string, string>, size: int64, modificationTime: "
     "int64, dataChange: bool, tags: map<string, string>, deletionVector: struct<storageType: "
     "string, pathOrInlineDv: string, offset: int32, sizeInBytes: int32, cardinality: int64>, "
     "baseRowId: int64, defaultRowCommitVersion: int64, clusteringProvider: string, stats: "
     "string>"},
    {"remove",
     "struct<path: string, deletionTimestamp: int64, dataChange: bool, extendedFileMetadata: bool, "
     "deletionVector: struct<storageType: string, pathOrInlineDv: string, offset: int32, "
     "sizeInBytes: int32, cardinality: int64>>"},
    {"metaData",
     "struct<id: string, name: string, description: string, format: struct<provider: string, "
     "options: map<string, string>>, schemaString: string, partitionColumns: list<string>, "
     "configuration: map<string, string>, createdTime: int64>"},
    {"protocol",
     "struct<minReaderVersion: int32, minWriterVersion: int32, readerFeatures: list<string>, "
     "writerFeatures: list<string>>"},
    {"domainMetadata", "struct<domain: string, configuration: string, removed: bool>"},
    {"checkpointMetadata", "struct<version: int64, tags: map<string, string>>"},
    {"sidecar", "struct<path: string, sizeInBytes: int64, modificationTime: int64, tags: "
                "map<string, string>>"},
};
enum {
    COLUMN_TXN,
    COLUMN_ADD,
    COLUMN_REMOVE,
    COLUMN_METADATA,
    COLUMN_PROTOCOL,
    COLUMN_DOMAIN,
    COLUMN_CHECKPOINT,
    COLUMN_SIDECAR,
};
#define FILE_COLUMNS (1u << COLUMN_ADD | 1u << COLUMN_REMOVE)
#define STATE_COLUMNS                                                                              \
    (1u << COLUMN_TXN | 1u << COLUMN_METADATA | 1u << COLUMN_PROTOCOL | 1u << COLUMN_DOMAIN)
#define V2_COLUMNS (STATE_COLUMNS | 1u << COLUMN_CHECKPOINT | 1u << COLUMN_SIDECAR)
#define COLUMNS ((int32_t)(sizeof(columns) / sizeof(columns[0])))

/* A file of adds and removes that a V2 checkpoint names. */
struct sidecar {
    char name[DELTA_UUID_BYTES + 16];
    int64_t size_bytes;
    int64_t modified_ms;
};

struct sidecars {
    struct sidecar *items;
    int32_t count;
    int32_t capacity;
};

/* One kind of file: the checkpoint's own, or its sidecars, one after the other. */
struct writing {
    struct weir_delta_table *table;
    struct weir_delta_snapshot *snapshot;
    unsigned columns; /* a bit for each kind of action the file holds */
    struct delta_parsed parsed;
    struct weir_pool *pool;
    struct weir_schema *schema;
    int32_t add_column; /* of the schema */
    struct weir_batch_builder builder;
    bool builder_made;
    bool begun;
    struct weir_parquet_writer *writer;
    struct weir_store_file *file;
    struct sidecars *sidecars; /* that the rows go to, or NULL */
    int64_t rows;
    int64_t adds;
    int64_t bytes;
    struct weir_error *err;
};

/* --- rows ---------------------------------------------------------------------------------- */

static int put_text(struct weir_column_builder *column, const char *text) {
    return text != NULL ? weir_builder_bytes(column, text, strlen(text))
                        : weir_builder_null(column);
}

static int put_texts(struct weir_column_builder *column, char *const *texts, int32_t count) {
    if (count < 0) {
        return weir_builder_null(column);
    }
    int rc = WEIR_OK;
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        rc = put_text(&column->children[0], texts[i]);
    }
    return rc == WEIR_OK ? weir_builder_list(column) : rc;
}

static int put_pairs(struct weir_column_builder *column, const struct weir_delta_pair *pairs,
                     int32_t count) {
    int rc = WEIR_OK;
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        rc = put_text(&column->children[0], pairs[i].key);
        if (rc == WEIR_OK) {
            rc = put_text(&column->children[1], pairs[i].value);
        }
    }
    return rc == WEIR_OK ? weir_builder_list(column) : rc;
}

/* First failure wins; what follows does nothing. */
#define PUT(call)                                                                                  \
    do {                                                                                           \
        if (rc == WEIR_OK) {                                                                       \
            rc = (call);                                                                           \
        }                                                                                          \
    } while (0)

static int put_dv(struct weir_column_builder *column, const struct weir_delta_dv *dv) {
    if (dv->storage_type == 0) {
        return weir_builder_null(column);
    }
    int rc = weir_builder_bytes(&column->children[0], &dv->storage_type, 1);
    PUT(put_text(&column->children[1], dv->path_or_inline));
    PUT(dv->offset >= 0 ? weir_builder_int(&column->children[2], dv->offset)
                        : weir_builder_null(&column->children[2]));
    PUT(weir_builder_int(&column->children[3], dv->size_bytes));
    PUT(weir_builder_int(&column->children[4], dv->cardinality));
    PUT(weir_builder_struct(column));
    return rc;
}

typedef int put_row(struct weir_column_builder *column, const void *item);

/* They say by what columns a file is in order (clustering.c). */
static int put_tags(struct weir_column_builder *column, const char *tags_json) {
    json_t *tags = tags_json != NULL ? json_loads(tags_json, 0, NULL) : NULL;
    const char *key;
    json_t *value;
    int rc = WEIR_OK;
    json_object_foreach(tags, key, value) {
        PUT(put_text(&column->children[0], key));
        PUT(put_text(&column->children[1], json_string_value(value)));
    }
    PUT(json_is_object(tags) ? weir_builder_list(column) : weir_builder_null(column));
    json_decref(tags);
    return rc;
}

/* A live file, and what else the table wants of it. */
struct adding {
    const struct weir_delta_add *add;
    const struct delta_parsed *parsed;
    const struct weir_field *field;
};

static int put_add(struct weir_column_builder *column, const void *item) {
    const struct adding *adding = item;
    const struct weir_delta_add *add = adding->add;
    struct weir_column_builder *c = column->children;
    int rc = put_text(&c[0], add->path);
    PUT(put_pairs(&c[1], add->partition_values, add->partition_count));
    PUT(weir_builder_int(&c[2], add->size_bytes));
    PUT(weir_builder_int(&c[3], add->modified_ms));
    PUT(weir_builder_bool(&c[4], false)); /* a checkpoint changes no data */
    PUT(put_tags(&c[5], add->tags_json));
    PUT(put_dv(&c[6], &add->dv));
    PUT(add->has_row_id ? weir_builder_int(&c[7], add->base_row_id) : weir_builder_null(&c[7]));
    PUT(add->has_row_id ? weir_builder_int(&c[8], add->default_row_commit_version)
                        : weir_builder_null(&c[8]));
    PUT(put_text(&c[9], add->clustering_provider));
    PUT(put_text(&c[10], adding->parsed->without_json ? NULL : add->stats));
    if (adding->parsed->as_struct) {
        PUT(delta_parsed_put_stats(&c[11], &adding->field->children[11], add->stats));
    }
    if (adding->parsed->as_struct && adding->parsed->has_partitions) {
        PUT(delta_parsed_put_partitions(&c[12], &adding->field->children[12], add));
    }
    PUT(weir_builder_struct(column));
    return rc;
}

static int put_remove(struct weir_column_builder *column, const void *item) {
    const struct delta_tombstone *tombstone = item;
    struct weir_column_builder *c = column->children;
    int rc = put_text(&c[0], tombstone->path);
    PUT(weir_builder_int(&c[1], tombstone->deletion_ms));
    PUT(weir_builder_bool(&c[2], false));
    PUT(weir_builder_bool(&c[3], false));
    PUT(put_dv(&c[4], &tombstone->dv));
    PUT(weir_builder_struct(column));
    return rc;
}

static int put_txn(struct weir_column_builder *column, const void *item) {
    const struct delta_txn *txn = item;
    struct weir_column_builder *c = column->children;
    int rc = put_text(&c[0], txn->app_id);
    PUT(weir_builder_int(&c[1], txn->version));
    PUT(txn->last_updated_ms != 0 ? weir_builder_int(&c[2], txn->last_updated_ms)
                                  : weir_builder_null(&c[2]));
    PUT(weir_builder_struct(column));
    return rc;
}

static int put_domain(struct weir_column_builder *column, const void *item) {
    const struct delta_domain *domain = item;
    struct weir_column_builder *c = column->children;
    int rc = put_text(&c[0], domain->name);
    PUT(put_text(&c[1], domain->configuration));
    PUT(weir_builder_bool(&c[2], false));
    PUT(weir_builder_struct(column));
    return rc;
}

static int put_protocol(struct weir_column_builder *column, const void *item) {
    const struct weir_delta_protocol *protocol = item;
    struct weir_column_builder *c = column->children;
    int rc = weir_builder_int(&c[0], protocol->reader_version);
    PUT(weir_builder_int(&c[1], protocol->writer_version));
    PUT(put_texts(&c[2], protocol->reader_features,
                  protocol->reader_version >= 3 ? protocol->reader_feature_count : -1));
    PUT(put_texts(&c[3], protocol->writer_features,
                  protocol->writer_version >= 7 ? protocol->writer_feature_count : -1));
    PUT(weir_builder_struct(column));
    return rc;
}

static int put_metadata(struct weir_column_builder *column, const void *item) {
    const struct weir_delta_metadata *metadata = item;
    struct weir_column_builder *c = column->children;
    int rc = put_text(&c[0], metadata->id);
    PUT(put_text(&c[1], metadata->name));
    PUT(put_text(&c[2], metadata->description));
    PUT(put_text(&c[3].children[0], "parquet"));
    PUT(weir_builder_list(&c[3].children[1]));
    PUT(weir_builder_struct(&c[3]));
    PUT(put_text(&c[4], metadata->schema_string));
    PUT(put_texts(&c[5], metadata->partition_columns, metadata->partition_count));
    PUT(put_pairs(&c[6], metadata->configuration, metadata->configuration_count));
    PUT(metadata->created_ms != 0 ? weir_builder_int(&c[7], metadata->created_ms)
                                  : weir_builder_null(&c[7]));
    PUT(weir_builder_struct(column));
    return rc;
}

/* --- batches to the file ------------------------------------------------------------------- */

static int write_file(void *context, const void *bytes, size_t size, struct weir_error *err) {
    return weir_store_file_write(context, bytes, size, err);
}

static int flush(struct writing *writing) {
    struct weir_batch *batch = writing->begun ? weir_batch_builder_take(&writing->builder) : NULL;
    int rc = WEIR_OK;
    writing->begun = false;
    if (batch != NULL) {
        if (batch->rows > 0) {
            rc =
                weir_parquet_writer_append(writing->writer, batch, NULL, batch->rows, writing->err);
        }
        weir_batch_unref(batch);
    }
    return rc;
}

static int row_once(struct writing *writing, int32_t column, put_row *put, const void *item) {
    int rc = WEIR_OK;
    if (!writing->begun) {
        rc = weir_batch_builder_begin(&writing->builder);
        writing->begun = rc == WEIR_OK;
    }
    int32_t at = 0;
    for (int32_t i = 0; i < COLUMNS && rc == WEIR_OK; i++) {
        if ((writing->columns & 1u << i) == 0) {
            continue;
        }
        struct weir_column_builder *builder = &writing->builder.columns[at++];
        rc = i == column ? put(builder, item) : weir_builder_null(builder);
    }
    if (rc == WEIR_OK) {
        weir_batch_builder_finish_row(&writing->builder);
    } else if (writing->begun) {
        weir_batch_builder_undo_row(&writing->builder);
    }
    return rc;
}

/* --- files --------------------------------------------------------------------------------- */

static int begin_file(struct writing *writing, const char *path) {
    int rc = weir_store_open(writing->table->store, path, WEIR_STORE_ATOMIC, &writing->file,
                             writing->err);
    PUT(weir_parquet_writer_open(writing->writer, write_file, writing->file, writing->err));
    return rc;
}

/* Durable and in its place, unless what came before failed with `rc`. */
static int end_file(struct writing *writing, int rc, struct weir_parquet_file_info *info) {
    struct weir_error close_error;
    PUT(flush(writing));
    PUT(weir_parquet_writer_finish(writing->writer, info, writing->err));
    PUT(weir_store_file_sync(writing->file, writing->err));
    if (rc == WEIR_OK && WEIR_FAULT(checkpoint_before_rename)) {
        rc = weir_error_set(writing->err, WEIR_E_FAULT, "injected fault before rename");
    }
    weir_error_clear(&close_error);
    int close_rc = weir_store_file_close(writing->file, rc == WEIR_OK, &close_error);
    writing->file = NULL;
    if (rc == WEIR_OK && close_rc != WEIR_OK) {
        rc = weir_error_set(writing->err, close_rc, "%s", close_error.message);
    }
    writing->bytes += rc == WEIR_OK ? info->bytes : 0;
    return rc;
}

static int begin_sidecar(struct writing *writing) {
    struct sidecars *sidecars = writing->sidecars;
    char uuid[DELTA_UUID_BYTES];
    if (sidecars->count == sidecars->capacity) {
        int32_t capacity = sidecars->capacity > 0 ? sidecars->capacity * 2 : 16;
        struct sidecar *items = realloc(sidecars->items, (size_t)capacity * sizeof(*items));
        if (items == NULL) {
            return weir_error_set(writing->err, WEIR_E_NOMEM, "out of memory");
        }
        sidecars->items = items;
        sidecars->capacity = capacity;
    }
    int rc = delta_uuid(uuid, writing->err);
    if (rc != WEIR_OK) {
        return rc;
    }
    struct sidecar *sidecar = &sidecars->items[sidecars->count++];
    snprintf(sidecar->name, sizeof(sidecar->name), "%s.parquet", uuid);
    char *path = delta_log_path(writing->table->dir, "_sidecars/%s", sidecar->name);
    rc = path != NULL ? begin_file(writing, path)
                      : weir_error_set(writing->err, WEIR_E_NOMEM, "out of memory");
    free(path);
    return rc;
}

static int end_sidecar(struct writing *writing, int rc) {
    struct weir_parquet_file_info info;
    struct sidecar *sidecar = &writing->sidecars->items[writing->sidecars->count - 1];
    rc = end_file(writing, rc, &info);
    if (rc == WEIR_OK) {
        sidecar->size_bytes = info.bytes;
        sidecar->modified_ms = weir_clock_wall_us() / 1000;
    }
    return rc;
}

/* --- rows to files ------------------------------------------------------------------------- */

static int make_room(struct writing *writing) {
    int rc = flush(writing);
    if (rc == WEIR_OK && writing->sidecars != NULL &&
        (weir_parquet_writer_rows(writing->writer) >= SIDECAR_ROWS ||
         weir_parquet_writer_size_estimate(writing->writer) >= SIDECAR_BYTES)) {
        rc = end_sidecar(writing, rc);
        PUT(begin_sidecar(writing));
    }
    return rc;
}

static int add_row(struct writing *writing, int32_t column, put_row *put, const void *item) {
    int rc = row_once(writing, column, put, item);
    if (rc == WEIR_E_LIMIT) { /* the batch is full: write it and put the row into the next */
        rc = make_room(writing);
        if (rc != WEIR_OK) {
            return rc;
        }
        rc = row_once(writing, column, put, item);
    }
    if (rc != WEIR_OK) {
        return weir_error_set(writing->err, rc,
                              "a %s action of the table does not fit a batch of "
                              "%zu bytes: %s",
                              columns[column].name, BATCH_BYTES, weir_error_text(rc));
    }
    writing->rows++;
    return WEIR_OK;
}

static int visit_add(void *context, const struct weir_delta_add *add, struct weir_error *err) {
    struct writing *writing = context;
    (void)err; /* the writing's own */
    const struct adding adding = {add, &writing->parsed,
                                  &writing->schema->fields[writing->add_column]};
    writing->adds++;
    return add_row(writing, COLUMN_ADD, put_add, &adding);
}

static int visit_tombstone(void *context, void *item) {
    return add_row(context, COLUMN_REMOVE, put_remove, item);
}

static int put_sidecar(struct weir_column_builder *column, const void *item) {
    const struct sidecar *sidecar = item;
    struct weir_column_builder *c = column->children;
    int rc = put_text(&c[0], sidecar->name);
    PUT(weir_builder_int(&c[1], sidecar->size_bytes));
    PUT(weir_builder_int(&c[2], sidecar->modified_ms));
    PUT(weir_builder_null(&c[3]));
    PUT(weir_builder_struct(column));
    return rc;
}

static int put_checkpoint(struct weir_column_builder *column, const void *item) {
    const struct weir_delta_snapshot *snapshot = item;
    int rc = weir_builder_int(&column->children[0], snapshot->version);
    PUT(weir_builder_null(&column->children[1]));
    PUT(weir_builder_struct(column));
    return rc;
}

/* `sidecars`: of a V2 checkpoint, or NULL. */
static int write_state(struct writing *writing, const struct sidecars *sidecars) {
    struct weir_delta_snapshot *snapshot = writing->snapshot;
    int rc = WEIR_OK;
    if (sidecars != NULL) {
        PUT(add_row(writing, COLUMN_CHECKPOINT, put_checkpoint, snapshot));
    }
    for (int32_t i = 0; sidecars != NULL && i < sidecars->count; i++) {
        PUT(add_row(writing, COLUMN_SIDECAR, put_sidecar, &sidecars->items[i]));
    }
    PUT(add_row(writing, COLUMN_PROTOCOL, put_protocol, &snapshot->protocol));
    PUT(add_row(writing, COLUMN_METADATA, put_metadata, &snapshot->metadata));
    for (int32_t i = 0; i < snapshot->txn_count; i++) {
        PUT(add_row(writing, COLUMN_TXN, put_txn, &snapshot->txns[i]));
    }
    for (int32_t i = 0; i < snapshot->domain_count; i++) {
        PUT(add_row(writing, COLUMN_DOMAIN, put_domain, &snapshot->domains[i]));
    }
    return rc;
}

static int write_files(struct writing *writing) {
    struct weir_delta_snapshot *snapshot = writing->snapshot;
    int rc = WEIR_OK;
    delta_files_each(&snapshot->tombstones, visit_tombstone, writing, &rc);
    PUT(weir_delta_snapshot_each_file(snapshot, visit_add, writing, writing->err));
    return rc;
}

static int prepare(struct writing *writing) {
    struct weir_parquet_writer_options options;
    writing->pool = weir_pool_create(POOL_BYTES);
    writing->schema = weir_schema_create();
    if (writing->pool == NULL || writing->schema == NULL) {
        return weir_error_set(writing->err, WEIR_E_NOMEM, "out of memory");
    }
    int rc = WEIR_OK;
    for (int32_t i = 0; i < COLUMNS; i++) {
        if ((writing->columns & 1u << i) != 0) {
            PUT(weir_schema_add_text(writing->schema, columns[i].name, columns[i].type, true,
                                     writing->err));
            if (rc == WEIR_OK && i == COLUMN_ADD && writing->parsed.as_struct) {
                writing->add_column = writing->schema->count - 1;
                rc = delta_parsed_fields(writing->snapshot, &writing->parsed,
                                         &writing->schema->fields[writing->add_column],
                                         writing->err);
            }
        }
    }
    PUT(weir_batch_builder_init(&writing->builder, writing->pool, writing->schema, BATCH_ROWS,
                                BATCH_BYTES, writing->err));
    writing->builder_made = rc == WEIR_OK;
    weir_parquet_writer_options_init(&options);
    options.codec = WEIR_PARQUET_SNAPPY; /* what every reader of a log takes */
    options.compat = true;
    options.row_group_rows = ROW_GROUP_ROWS;
    options.memory_bytes = HELD_BYTES;
    PUT(weir_parquet_writer_create(&writing->writer, writing->schema, &options, writing->err));
    return rc;
}

static int start(struct writing *writing, struct weir_delta_table *table, unsigned wanted,
                 struct weir_error *err) {
    memset(writing, 0, sizeof(*writing));
    writing->table = table;
    writing->snapshot = table->snapshot;
    writing->columns = wanted;
    writing->err = err;
    delta_parsed_init(&writing->parsed, &table->snapshot->metadata);
    return prepare(writing);
}

static void stop(struct writing *writing) {
    weir_parquet_writer_destroy(writing->writer);
    if (writing->builder_made) {
        weir_batch_builder_fini(&writing->builder);
    }
    weir_schema_unref(writing->schema);
    if (writing->pool != NULL) {
        weir_pool_destroy(writing->pool);
    }
}

static int sync_log(struct weir_delta_table *table, const char *folder, struct weir_error *err) {
    char *log = delta_log_path(table->dir, "%s", folder);
    int rc = log != NULL ? weir_store_sync_dir(table->store, log, err)
                         : weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    free(log);
    return rc;
}

/* What both kinds of files of a checkpoint come to. */
struct counts {
    int64_t rows;
    int64_t adds;
    int64_t bytes;
};

static void count(struct counts *counts, const struct writing *writing) {
    counts->rows += writing->rows;
    counts->adds += writing->adds;
    counts->bytes += writing->bytes;
}

/* The live files and tombstones of a V2 checkpoint, durable before anything names them. */
static int write_sidecars(struct weir_delta_table *table, struct sidecars *sidecars,
                          struct counts *counts, struct weir_error *err) {
    struct writing writing;
    int rc = start(&writing, table, FILE_COLUMNS, err);
    writing.sidecars = sidecars;
    PUT(begin_sidecar(&writing));
    PUT(write_files(&writing));
    rc = sidecars->count > 0 ? end_sidecar(&writing, rc) : rc;
    count(counts, &writing);
    stop(&writing);
    PUT(sync_log(table, "_sidecars", err));
    PUT(sync_log(table, "", err));
    return rc;
}

/* `sidecars`: those it names; NULL for a classic one, which has the table's files itself. */
static int write_main(struct weir_delta_table *table, const char *path,
                      const struct sidecars *sidecars, struct counts *counts,
                      struct weir_error *err) {
    struct writing writing;
    struct weir_parquet_file_info info;
    int rc =
        start(&writing, table, sidecars != NULL ? V2_COLUMNS : STATE_COLUMNS | FILE_COLUMNS, err);
    PUT(begin_file(&writing, path));
    PUT(write_state(&writing, sidecars));
    if (sidecars == NULL) {
        PUT(write_files(&writing));
    }
    rc = end_file(&writing, rc, &info);
    count(counts, &writing);
    stop(&writing);
    PUT(sync_log(table, "", err));
    return rc;
}

static int write_hint(struct weir_delta_table *table, const struct counts *counts,
                      struct weir_error *err) {
    char text[256];
    char *path = delta_log_path(table->dir, "_last_checkpoint");
    int size = snprintf(text, sizeof(text),
                        "{\"version\":%" PRId64 ",\"size\":%" PRId64 ",\"sizeInBytes\":%" PRId64
                        ",\"numOfAddFiles\":%" PRId64 "}",
                        table->snapshot->version, counts->rows, counts->bytes, counts->adds);
    int rc = path != NULL ? weir_store_put(table->store, path, text, (size_t)size, err)
                          : weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    free(path);
    return rc;
}

static int write_checkpoint(struct weir_delta_table *table, const char *path, bool v2,
                            struct weir_error *err) {
    struct counts counts = {0, 0, 0};
    struct sidecars sidecars = {NULL, 0, 0};
    int rc = v2 ? write_sidecars(table, &sidecars, &counts, err) : WEIR_OK;
    PUT(write_main(table, path, v2 ? &sidecars : NULL, &counts, err));
    free(sidecars.items);
    if (rc == WEIR_OK) {
        table->snapshot->checkpoint_version = table->snapshot->version;
        rc = WEIR_FAULT(checkpoint_before_hint)
                 ? weir_error_set(err, WEIR_E_FAULT, "injected fault before the hint")
                 : write_hint(table, &counts, err);
    }
    return rc;
}

/* --- entry points -------------------------------------------------------------------------- */

bool weir_delta_checkpoint_due(const struct weir_delta_table *table) {
    const struct weir_delta_snapshot *snapshot = table->snapshot;
    const char *text =
        weir_delta_metadata_property(&snapshot->metadata, "delta.checkpointInterval");
    int64_t interval = text != NULL ? strtoll(text, NULL, 10) : 0;
    if (interval <= 0) {
        interval = DELTA_CHECKPOINT_INTERVAL;
    }
    int64_t last = snapshot->checkpoint_version >= 0 ? snapshot->checkpoint_version : 0;
    return snapshot->version - last >= interval;
}

static void expire_tombstones(struct weir_delta_snapshot *snapshot) {
    int64_t keep_ms = delta_interval_ms(
        weir_delta_metadata_property(&snapshot->metadata, "delta.deletedFileRetentionDuration"),
        7 * DAY_MS);
    delta_tombstones_expire(snapshot, weir_clock_wall_us() / 1000 - keep_ms);
}

void weir_delta_checkpoint_seen(struct weir_delta_table *table,
                                const struct weir_delta_snapshot *other) {
    struct weir_delta_snapshot *snapshot = table->snapshot;
    expire_tombstones(snapshot);
    if (other->checkpoint_version > snapshot->checkpoint_version) {
        snapshot->checkpoint_version = other->checkpoint_version;
    }
}

int weir_delta_checkpoint(struct weir_delta_table *table, struct weir_error *err) {
    struct weir_error own;
    struct weir_error *e = err != NULL ? err : &own;
    struct weir_delta_snapshot *snapshot = table->snapshot;
    struct weir_store_info info;
    expire_tombstones(snapshot);
    weir_error_clear(e);
    const char *policy =
        weir_delta_metadata_property(&snapshot->metadata, "delta.checkpointPolicy");
    bool v2 = policy != NULL && strcasecmp(policy, "v2") == 0 &&
              delta_has_writer_feature(&snapshot->protocol, "v2Checkpoint");
    char *path = delta_log_path(table->dir, "%020" PRId64 ".checkpoint.parquet", snapshot->version);
    int rc = path != NULL ? weir_store_stat(table->store, path, &info, e)
                          : weir_error_set(e, WEIR_E_NOMEM, "out of memory");
    if (rc == WEIR_OK) {
        snapshot->checkpoint_version = snapshot->version;
    } else if (rc == WEIR_E_NOTFOUND) {
        rc = write_checkpoint(table, path, v2, e);
    }
    if (rc == WEIR_OK) {
        rc = delta_log_clean(table, e);
    }
    if (rc != WEIR_OK) {
        rc = weir_error_wrap(e, "checkpoint of table %s at version %" PRId64, table->dir,
                             snapshot->version);
    }
    free(path);
    return rc;
}
