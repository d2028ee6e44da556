/* Rows to data files. Each open partition has a Parquet writer and a store file; Parquet writers
 * are kept and reused from seal to seal, so steady state opens files and nothing else. */
#include "lake/delta/writer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "core/clock.h"
#include "core/fault.h"
#include "lake/delta/duties.h"
#include "lake/delta/fit.h"
#include "lake/delta/follow.h"
#include "lake/delta/mapping.h"
#include "lake/delta/partition.h"
#include "lake/delta/stats.h"
#include "lake/delta/table_state.h"
#include "lake/parquet/writer.h"

#define MEMORY_BYTES ((size_t)64 << 20)
#define TARGET_BYTES ((size_t)128 << 20)
#define OPEN_FILES_MAX 256
#define STATS_BYTES_MAX ((size_t)64 << 20)
#define KEY_BYTES_MAX ((size_t)16 << 20)

/* One partition value and, when it has rows, its open file. */
struct slot {
    uint64_t hash;
    struct weir_buffer key;
    struct weir_delta_pair *values; /* owned texts; partition_count of them */
    char *folder;                   /* "a=1/b=x/", not yet URI-encoded */
    struct weir_parquet_writer *parquet;
    struct weir_store_file *file;
    char *name; /* path under the table's folder, as on disk */
    bool named; /* the file's name is durable */
    int32_t *sel;
    int32_t sel_count;
};

/* A finished, not yet synced file. */
struct finished {
    struct weir_store_file *file;
    struct weir_delta_add *add;
    char *folder;
    bool named;
};

struct weir_delta_writer {
    struct weir_store *store;
    char *dir;
    char *folder;               /* in front of every partition's */
    struct weir_schema *schema; /* under the names files have */
    struct weir_schema *fitted; /* rows under the table's names and types; NULL: they have them */
    int32_t *field_ids;
    struct weir_delta_duties *duties; /* or NULL */
    bool judged;
    uint8_t verdict[WEIR_BATCH_ROWS_MAX];
    struct delta_partition_column *partitions;
    int32_t partition_count;
    bool *excluded;
    struct weir_parquet_writer_options parquet;
    int32_t sorted_by[DELTA_SORTED_BY_MAX];
    const char *codec_name;
    int32_t stats_leaves;
    bool *stats_skipped; /* leaves the table's list of columns leaves out; NULL: no list */
    int32_t hidden_columns;
    int32_t stats_chars;
    size_t memory_bytes;
    size_t target_bytes;
    struct slot *slots;
    int32_t slot_count;
    int32_t slot_max;
    int32_t *table; /* hash to slot index + 1; a power of two */
    uint32_t table_mask;
    struct weir_parquet_writer **idle;
    int32_t idle_count;
    struct finished *finished;
    int32_t finished_count;
    int32_t finished_capacity;
    struct weir_store_file **unsynced; /* scratch of the seal */
    int32_t unsynced_capacity;
    struct weir_buffer key;
    int64_t rows;
    bool opened; /* some open file is not named yet */
    uint32_t file_number;
};

static int no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "write table: out of memory");
}

/* --- making and unmaking ------------------------------------------------------------------- */

static int64_t int_property(const struct weir_delta_metadata *metadata, const char *key,
                            int64_t fallback) {
    const char *text = weir_delta_metadata_property(metadata, key);
    char *end;
    long long value = text != NULL ? strtoll(text, &end, 10) : 0;
    return text != NULL && end != text && *end == '\0' ? value : fallback;
}

static int choose_codec(struct weir_delta_writer *writer,
                        const struct weir_delta_writer_options *options,
                        const struct weir_delta_metadata *metadata, struct weir_error *err) {
    enum weir_delta_codec codec = options->codec;
    if (codec == WEIR_DELTA_CODEC_TABLE) {
        const char *name =
            weir_delta_metadata_property(metadata, "delta.parquet.compression.codec");
        if (name == NULL || strcasecmp(name, "zstd") == 0) {
            codec = WEIR_DELTA_CODEC_ZSTD;
        } else if (strcasecmp(name, "snappy") == 0) {
            codec = WEIR_DELTA_CODEC_SNAPPY;
        } else if (strcasecmp(name, "uncompressed") == 0 || strcasecmp(name, "none") == 0) {
            codec = WEIR_DELTA_CODEC_NONE;
        } else {
            return weir_error_set(err, WEIR_E_UNSUPPORTED,
                                  "table property delta.parquet.compression.codec = %.30s; weir "
                                  "writes zstd, snappy or uncompressed",
                                  name);
        }
    }
    writer->parquet.level = options->level;
    switch (codec) {
    case WEIR_DELTA_CODEC_SNAPPY:
        writer->parquet.codec = WEIR_PARQUET_SNAPPY;
        writer->codec_name = "snappy.";
        break;
    case WEIR_DELTA_CODEC_NONE:
        writer->parquet.codec = WEIR_PARQUET_NONE;
        writer->codec_name = "";
        break;
    default:
        writer->parquet.codec = WEIR_PARQUET_ZSTD;
        writer->codec_name = "zstd.";
        break;
    }
    return WEIR_OK;
}

/* The caller's name for a column, which the table may have renamed. */
static int32_t find_rows_column(const struct weir_schema *rows, const struct weir_schema *schema,
                                const char *name) {
    int32_t at = weir_schema_find(schema, name);
    return at >= 0 ? at : weir_schema_find(rows, name);
}

static int choose_partitions(struct weir_delta_writer *writer, struct weir_delta_snapshot *snapshot,
                             const struct weir_schema *rows, const struct weir_schema *schema,
                             const struct weir_delta_partition *partitions, int32_t count,
                             struct weir_error *err) {
    static const char *const tail[] = {"", "_date", "_hour"};
    for (int32_t i = 0; i < count; i++) {
        struct delta_partition_column *column = &writer->partitions[i];
        column->index = find_rows_column(rows, schema, partitions[i].column);
        column->transform = partitions[i].transform;
        if (column->index < 0) {
            return weir_error_set(err, WEIR_E_SCHEMA, "partition_by: there is no column %s",
                                  partitions[i].column);
        }
        char *name = NULL;
        const char *own = column->transform == WEIR_DELTA_IDENTITY
                              ? schema->fields[column->index].name
                              : partitions[i].column;
        if (asprintf(&name, "%s%s", own, tail[column->transform]) < 0) {
            return no_memory(err);
        }
        column->name = strdup(delta_mapping_name(snapshot, name));
        free(name);
        if (column->name == NULL) {
            return no_memory(err);
        }
        writer->partition_count++;
        if (column->transform == WEIR_DELTA_IDENTITY) {
            writer->excluded[column->index] = true;
        }
    }
    return WEIR_OK;
}

/* The table's own partitioning, for a caller that names none. NULL when it has none, or one whose
 * values rows of this schema do not hold. */
static struct weir_delta_partition *own_partitions(const struct weir_delta_metadata *metadata,
                                                   const struct weir_schema *schema) {
    struct weir_delta_partition *own = calloc((size_t)metadata->partition_count + 1, sizeof(*own));
    for (int32_t i = 0; own != NULL && i < metadata->partition_count; i++) {
        own[i] = (struct weir_delta_partition){metadata->partition_columns[i], WEIR_DELTA_IDENTITY};
        if (weir_schema_find(schema, own[i].column) < 0) {
            free(own);
            return NULL;
        }
    }
    return own;
}

/* What rows owe the table; *schema becomes what they are with what it fills in. */
static int choose_duties(struct weir_delta_writer *writer, struct weir_delta_table *table,
                         const struct weir_delta_writer_options *options,
                         const struct weir_schema **schema, struct weir_error *err) {
    if (options->as_is || options->folder != NULL) {
        return WEIR_OK;
    }
    writer->judged = options->judged;
    struct weir_schema *rows = (struct weir_schema *)(uintptr_t)*schema; /* only referenced */
    int rc = weir_delta_duties_create(table->snapshot, rows, &writer->duties, err);
    if (rc == WEIR_OK && writer->duties != NULL) {
        *schema = weir_delta_duties_schema(writer->duties);
    }
    return rc;
}

/* Listed columns have statistics wherever they are, and clustering columns always. */
static int choose_statistics(struct weir_delta_writer *writer, struct weir_delta_snapshot *snapshot,
                             const struct weir_schema *schema, struct weir_error *err) {
    const char *list =
        weir_delta_metadata_property(weir_delta_snapshot_metadata(snapshot), DELTA_STATS_COLUMNS);
    if (list == NULL || *list == '\0') {
        return delta_clustering_leaves(snapshot, writer->schema, writer->excluded,
                                       &writer->stats_leaves, err);
    }
    int32_t clustered = 0;
    writer->stats_leaves = -1;
    writer->stats_skipped = delta_stats_skipped(list, schema, writer->excluded);
    int rc =
        writer->stats_skipped != NULL
            ? delta_clustering_leaves(snapshot, writer->schema, writer->excluded, &clustered, err)
            : no_memory(err);
    for (int32_t i = 0; i < clustered && rc == WEIR_OK; i++) {
        writer->stats_skipped[i] = false;
    }
    return rc;
}

int weir_delta_writer_create(struct weir_delta_table *table, const struct weir_schema *schema,
                             const struct weir_delta_partition *partitions, int32_t partition_count,
                             const struct weir_delta_writer_options *options,
                             struct weir_delta_writer **out, struct weir_error *err) {
    static const struct weir_delta_writer_options defaults;
    const struct weir_delta_metadata *metadata = &table->snapshot->metadata;
    struct weir_delta_writer *writer = calloc(1, sizeof(*writer));
    struct weir_delta_partition *own = NULL;
    int rc = WEIR_OK;
    options = options != NULL ? options : &defaults;
    if (writer == NULL) {
        return no_memory(err);
    }
    weir_buffer_init(&writer->key, KEY_BYTES_MAX);
    if (options->large_groups) {
        weir_parquet_writer_options_direct_lake(&writer->parquet);
    } else {
        weir_parquet_writer_options_init(&writer->parquet);
    }
    for (int32_t i = 0; i < options->sorted_by_count; i++) {
        writer->sorted_by[i] = options->sorted_by[i];
    }
    writer->parquet.sorted_by = writer->sorted_by;
    writer->parquet.sorted_by_count = options->sorted_by_count;
    writer->store = table->store;
    writer->dir = strdup(table->dir);
    writer->folder = strdup(options->folder != NULL ? options->folder : "");
    writer->memory_bytes = options->memory_bytes > 0 ? options->memory_bytes : MEMORY_BYTES;
    writer->target_bytes =
        options->target_file_bytes > 0 ? options->target_file_bytes : TARGET_BYTES;
    writer->hidden_columns = options->hidden_columns;
    writer->slot_max = options->open_files_max > 0 ? options->open_files_max : OPEN_FILES_MAX;
    writer->stats_leaves = (int32_t)int_property(metadata, "delta.dataSkippingNumIndexedCols", 32);
    writer->stats_chars =
        (int32_t)int_property(metadata, "delta.dataSkippingStringPrefixLength", 32);
    const struct weir_schema *rows = schema;
    uint32_t table_size = 16;
    while (table_size < (uint32_t)writer->slot_max * 2) {
        table_size *= 2;
    }
    writer->table_mask = table_size - 1;
    if (!options->as_is && options->folder == NULL) { /* rows of a stream */
        rc = weir_delta_fit_schema(table->snapshot, schema, &writer->fitted, err);
        schema = writer->fitted != NULL ? writer->fitted : schema;
        rc = rc == WEIR_OK ? delta_table_writes(table, schema, err) : rc;
    }
    if (rc != WEIR_OK) {
        goto out;
    }
    rc = choose_duties(writer, table, options, &schema, err);
    if (rc != WEIR_OK) {
        goto out;
    }
    if (partition_count == 0 && options->folder == NULL && metadata->partition_count > 0) {
        own = own_partitions(metadata, schema);
        partitions = own;
        partition_count = own != NULL ? metadata->partition_count : 0;
    }
    writer->table = calloc(table_size, sizeof(*writer->table));
    writer->slots = calloc((size_t)writer->slot_max, sizeof(*writer->slots));
    writer->idle = calloc((size_t)writer->slot_max, sizeof(*writer->idle));
    writer->excluded = calloc((size_t)schema->count + 1, sizeof(*writer->excluded));
    writer->partitions = calloc((size_t)partition_count + 1, sizeof(*writer->partitions));
    if (writer->dir == NULL || writer->folder == NULL || writer->table == NULL ||
        writer->slots == NULL || writer->idle == NULL || writer->excluded == NULL ||
        writer->partitions == NULL) {
        rc = no_memory(err);
        goto out;
    }
    rc = choose_codec(writer, options, metadata, err);
    if (rc == WEIR_OK) {
        rc = choose_partitions(writer, table->snapshot, rows, schema, partitions, partition_count,
                               err);
    }
    if (rc == WEIR_OK) {
        rc = delta_mapping_schema(table->snapshot, schema, &writer->schema, &writer->field_ids,
                                  &writer->parquet.field_id_count, err);
        writer->parquet.field_ids = writer->field_ids;
    }
    if (rc == WEIR_OK) {
        rc = choose_statistics(writer, table->snapshot, schema, err);
    }
    if (rc != WEIR_OK) {
        goto out;
    }
    writer->parquet.excluded = writer->excluded;
    writer->parquet.memory_bytes = (int64_t)(writer->memory_bytes / 2);
out:
    free(own);
    if (rc != WEIR_OK) {
        weir_delta_writer_destroy(writer);
        return rc;
    }
    *out = writer;
    return WEIR_OK;
}

static void drop_file(struct weir_store_file *file) {
    /* removing is best effort: what stays is a file no commit names */
    if (weir_store_file_close(file, false, NULL) != WEIR_OK) {
        return;
    }
}

static void slot_fini(struct weir_delta_writer *writer, struct slot *slot) {
    weir_parquet_writer_destroy(slot->parquet);
    drop_file(slot->file);
    for (int32_t i = 0; slot->values != NULL && i < writer->partition_count; i++) {
        free((void *)(uintptr_t)slot->values[i].value);
    }
    free(slot->values);
    free(slot->folder);
    free(slot->name);
    free(slot->sel);
    weir_buffer_fini(&slot->key);
    memset(slot, 0, sizeof(*slot));
}

void weir_delta_writer_destroy(struct weir_delta_writer *writer) {
    if (writer == NULL) {
        return;
    }
    for (int32_t i = 0; i < writer->slot_count; i++) {
        slot_fini(writer, &writer->slots[i]);
    }
    for (int32_t i = 0; i < writer->idle_count; i++) {
        weir_parquet_writer_destroy(writer->idle[i]);
    }
    for (int32_t i = 0; i < writer->finished_count; i++) {
        drop_file(writer->finished[i].file);
        free(writer->finished[i].add);
        free(writer->finished[i].folder);
    }
    for (int32_t i = 0; i < writer->partition_count; i++) {
        free(writer->partitions[i].name);
    }
    weir_buffer_fini(&writer->key);
    weir_schema_unref(writer->schema);
    weir_schema_unref(writer->fitted);
    weir_delta_duties_destroy(writer->duties);
    free(writer->field_ids);
    free(writer->stats_skipped);
    free(writer->partitions);
    free(writer->finished);
    free(writer->unsynced);
    free(writer->excluded);
    free(writer->slots);
    free(writer->table);
    free(writer->idle);
    free(writer->folder);
    free(writer->dir);
    free(writer);
}

/* --- files --------------------------------------------------------------------------------- */

static int write_file(void *context, const void *bytes, size_t size, struct weir_error *err) {
    return weir_store_file_write(context, bytes, size, err);
}

static int open_file(struct weir_delta_writer *writer, struct slot *slot, struct weir_error *err) {
    char uuid[DELTA_UUID_BYTES];
    char *path = NULL;
    int rc = delta_uuid(uuid, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (slot->parquet == NULL && writer->idle_count > 0) {
        slot->parquet = writer->idle[--writer->idle_count];
    }
    if (slot->parquet == NULL) {
        rc = weir_parquet_writer_create(&slot->parquet, writer->schema, &writer->parquet, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    if (asprintf(&slot->name, "%spart-%05u-%s.c000.%sparquet", slot->folder,
                 writer->file_number++ % 100000, uuid, writer->codec_name) < 0) {
        slot->name = NULL;
        return no_memory(err);
    }
    path = delta_join(writer->dir, slot->name);
    rc = path != NULL ? weir_store_open(writer->store, path, WEIR_STORE_CREATE, &slot->file, err)
                      : no_memory(err);
    free(path);
    slot->named = false;
    writer->opened = true;
    return rc == WEIR_OK ? weir_parquet_writer_open(slot->parquet, write_file, slot->file, err)
                         : rc;
}

static int sync_folder(struct weir_delta_writer *writer, const char *folder,
                       struct weir_error *err) {
    char *path = delta_join(writer->dir, folder);
    size_t length = path != NULL ? strlen(path) : 0;
    if (length > 0 && path[length - 1] == '/') {
        path[length - 1] = '\0';
    }
    int rc = path != NULL ? weir_store_sync_dir(writer->store, path, err) : no_memory(err);
    free(path);
    return rc;
}

/* Makes the names of freshly opened files durable while rows still come, so that the seal waits for
 * their bytes alone. */
static int name_files(struct weir_delta_writer *writer, struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t i = 0; i < writer->slot_count && rc == WEIR_OK; i++) {
        struct slot *slot = &writer->slots[i];
        if (slot->file != NULL && !slot->named) {
            rc = sync_folder(writer, slot->folder, err);
            slot->named = rc == WEIR_OK;
        }
    }
    writer->opened = rc != WEIR_OK;
    return rc;
}

static int make_add(struct weir_delta_writer *writer, struct slot *slot,
                    const struct weir_parquet_file_info *info, struct weir_delta_add **out,
                    struct weir_error *err) {
    struct weir_delta_add add;
    struct weir_buffer stats;
    struct weir_buffer path;
    memset(&add, 0, sizeof(add));
    weir_buffer_init(&stats, STATS_BYTES_MAX);
    weir_buffer_init(&path, 1u << 20);
    int32_t leaves = info->column_count - writer->hidden_columns;
    leaves =
        writer->stats_leaves >= 0 && writer->stats_leaves < leaves ? writer->stats_leaves : leaves;
    int rc =
        weir_delta_stats_format(info, leaves, writer->stats_skipped, writer->stats_chars, &stats);
    if (rc == WEIR_OK) {
        rc = delta_uri_encode(slot->name, &path);
    }
    add.stats = rc == WEIR_OK ? weir_buffer_text(&stats) : NULL;
    add.path = rc == WEIR_OK ? weir_buffer_text(&path) : NULL;
    add.partition_values = slot->values;
    add.partition_count = writer->partition_count;
    add.size_bytes = slot->file->size_bytes;
    add.modified_ms = weir_clock_wall_us() / 1000;
    add.data_change = true;
    *out = add.stats != NULL && add.path != NULL ? weir_delta_add_dup(&add) : NULL;
    if (*out == NULL) {
        rc = weir_error_set(err, rc != WEIR_OK ? rc : WEIR_E_NOMEM, "describe file %s: %s",
                            slot->name, weir_error_text(rc != WEIR_OK ? rc : WEIR_E_NOMEM));
    }
    weir_buffer_fini(&stats);
    weir_buffer_fini(&path);
    return rc;
}

/* Completes the slot's file and moves it to the finished ones. The Parquet writer is kept for the
 * next file, or freed when memory is what is short. */
static int finish_file(struct weir_delta_writer *writer, struct slot *slot, bool free_memory,
                       struct weir_error *err) {
    struct weir_parquet_file_info info;
    struct finished done = {.named = slot->named};
    if (writer->finished_count == writer->finished_capacity) {
        int32_t capacity = writer->finished_capacity > 0 ? writer->finished_capacity * 2 : 16;
        struct finished *finished = realloc(writer->finished, (size_t)capacity * sizeof(*finished));
        if (finished == NULL) {
            return no_memory(err);
        }
        writer->finished = finished;
        writer->finished_capacity = capacity;
    }
    int rc = weir_parquet_writer_finish(slot->parquet, &info, err);
    if (rc == WEIR_OK) {
        rc = make_add(writer, slot, &info, &done.add, err);
    }
    if (rc == WEIR_OK) {
        done.folder = strdup(slot->folder);
        rc = done.folder != NULL ? WEIR_OK : no_memory(err);
    }
    if (rc != WEIR_OK) {
        free(done.add);
        return rc;
    }
    done.file = slot->file;
    slot->file = NULL;
    free(slot->name);
    slot->name = NULL;
    writer->finished[writer->finished_count++] = done;
    if (free_memory || writer->idle_count == writer->slot_max) {
        weir_parquet_writer_destroy(slot->parquet);
    } else {
        writer->idle[writer->idle_count++] = slot->parquet;
    }
    slot->parquet = NULL;
    return WEIR_OK;
}

/* Syncs and closes one finished file ahead of the seal, so that rolled files hold no descriptor. */
static int settle(struct finished *done, struct weir_error *err) {
    if (done->file == NULL) {
        return WEIR_OK;
    }
    int rc = weir_store_file_sync(done->file, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    struct weir_store_file *file = done->file;
    done->file = NULL;
    return weir_store_file_close(file, true, err);
}

static int roll(struct weir_delta_writer *writer, struct slot *slot, bool free_memory,
                struct weir_error *err) {
    int rc = finish_file(writer, slot, free_memory, err);
    return rc == WEIR_OK ? settle(&writer->finished[writer->finished_count - 1], err) : rc;
}

/* --- memory -------------------------------------------------------------------------------- */

size_t weir_delta_writer_memory(const struct weir_delta_writer *writer) {
    int64_t total = 0;
    for (int32_t i = 0; i < writer->slot_count; i++) {
        if (writer->slots[i].parquet != NULL) {
            total += weir_parquet_writer_memory(writer->slots[i].parquet);
        }
    }
    for (int32_t i = 0; i < writer->idle_count; i++) {
        total += weir_parquet_writer_memory(writer->idle[i]);
    }
    return (size_t)total;
}

static int keep_budget(struct weir_delta_writer *writer, struct weir_error *err) {
    while (weir_delta_writer_memory(writer) > writer->memory_bytes) {
        if (writer->idle_count > 0) {
            weir_parquet_writer_destroy(writer->idle[--writer->idle_count]);
            continue;
        }
        struct slot *largest = NULL;
        int64_t most = 0;
        int32_t open = 0;
        for (int32_t i = 0; i < writer->slot_count; i++) {
            struct slot *slot = &writer->slots[i];
            if (slot->file != NULL) {
                int64_t bytes = weir_parquet_writer_memory(slot->parquet);
                open++;
                if (bytes >= most) {
                    most = bytes;
                    largest = slot;
                }
            }
        }
        if (open < 2) {
            break; /* one writer bounds itself by its row groups */
        }
        int rc = roll(writer, largest, true, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return WEIR_OK;
}

/* --- partitions ---------------------------------------------------------------------------- */

/* Finishes every file and forgets every partition: when there are more than may be open. */
static int clear_slots(struct weir_delta_writer *writer, bool settle_now, struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t i = 0; i < writer->slot_count && rc == WEIR_OK; i++) {
        struct slot *slot = &writer->slots[i];
        if (slot->file != NULL) {
            rc =
                settle_now ? roll(writer, slot, false, err) : finish_file(writer, slot, false, err);
        }
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    for (int32_t i = 0; i < writer->slot_count; i++) {
        slot_fini(writer, &writer->slots[i]);
    }
    writer->slot_count = 0;
    memset(writer->table, 0, ((size_t)writer->table_mask + 1) * sizeof(*writer->table));
    return WEIR_OK;
}

static int fill_slot(struct weir_delta_writer *writer, struct slot *slot,
                     const struct weir_batch *batch, int32_t row, struct weir_error *err) {
    struct weir_buffer folder;
    struct weir_buffer text;
    weir_buffer_init(&folder, 1u << 20);
    weir_buffer_init(&text, KEY_BYTES_MAX);
    int rc = WEIR_OK;
    weir_buffer_init(&slot->key, KEY_BYTES_MAX);
    slot->values = calloc((size_t)writer->partition_count + 1, sizeof(*slot->values));
    slot->sel = malloc(WEIR_BATCH_ROWS_MAX * sizeof(*slot->sel));
    if (slot->values == NULL || slot->sel == NULL ||
        weir_buffer_append(&slot->key, writer->key.data, writer->key.size) != WEIR_OK ||
        weir_buffer_append_text(&folder, writer->folder) != WEIR_OK) {
        rc = no_memory(err);
    }
    for (int32_t i = 0; i < writer->partition_count && rc == WEIR_OK; i++) {
        bool is_null;
        weir_buffer_clear(&text);
        rc = delta_partition_text(&writer->partitions[i], batch, row, &text, &is_null, err);
        if (rc == WEIR_OK) {
            const char *value = is_null ? NULL : weir_buffer_text(&text);
            slot->values[i].key = writer->partitions[i].name;
            slot->values[i].value = value != NULL ? strdup(value) : NULL;
            rc = !is_null && slot->values[i].value == NULL
                     ? no_memory(err)
                     : delta_partition_folder(writer->partitions[i].name, value, &folder);
        }
    }
    if (rc == WEIR_OK) {
        const char *path = weir_buffer_text(&folder);
        slot->folder = path != NULL ? strdup(path) : NULL;
        rc = slot->folder != NULL ? WEIR_OK : no_memory(err);
    }
    weir_buffer_fini(&folder);
    weir_buffer_fini(&text);
    return rc;
}

/* The slot of the key in writer->key, made from this row when new. NULL with *rc set on error, or
 * with *rc == WEIR_E_LIMIT when no slot is left. */
static struct slot *find_slot(struct weir_delta_writer *writer, const struct weir_batch *batch,
                              int32_t row, struct weir_error *err, int *rc) {
    const struct weir_buffer *key = &writer->key;
    uint64_t hash = XXH64(key->size > 0 ? (const void *)key->data : "", key->size, 0);
    uint32_t at = (uint32_t)hash & writer->table_mask;
    *rc = WEIR_OK;
    for (; writer->table[at] != 0; at = (at + 1) & writer->table_mask) {
        struct slot *slot = &writer->slots[writer->table[at] - 1];
        if (slot->hash == hash && slot->key.size == key->size &&
            (key->size == 0 || memcmp(slot->key.data, key->data, key->size) == 0)) {
            return slot;
        }
    }
    if (writer->slot_count == writer->slot_max) {
        *rc = WEIR_E_LIMIT;
        return NULL;
    }
    struct slot *slot = &writer->slots[writer->slot_count++];
    slot->hash = hash;
    *rc = fill_slot(writer, slot, batch, row, err);
    writer->table[at] = writer->slot_count;
    return *rc == WEIR_OK ? slot : NULL;
}

static int append_slot(struct weir_delta_writer *writer, struct slot *slot,
                       const struct weir_batch *batch, const int32_t *sel, int32_t count,
                       struct weir_error *err) {
    int rc = slot->file == NULL ? open_file(writer, slot, err) : WEIR_OK;
    if (rc == WEIR_OK) {
        rc = weir_parquet_writer_append(slot->parquet, batch, sel, count, err);
    }
    if (rc == WEIR_OK &&
        weir_parquet_writer_size_estimate(slot->parquet) >= (int64_t)writer->target_bytes) {
        rc = roll(writer, slot, false, err);
    }
    return rc;
}

static int flush_selections(struct weir_delta_writer *writer, const struct weir_batch *batch,
                            struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t i = 0; i < writer->slot_count && rc == WEIR_OK; i++) {
        struct slot *slot = &writer->slots[i];
        if (slot->sel_count > 0) {
            rc = append_slot(writer, slot, batch, slot->sel, slot->sel_count, err);
            slot->sel_count = 0;
        }
    }
    return rc;
}

static int split(struct weir_delta_writer *writer, const struct weir_batch *batch,
                 const int32_t *sel, int32_t count, struct weir_error *err) {
    struct slot *last = NULL;
    int rc = WEIR_OK;
    for (int32_t i = 0; i < count; i++) {
        int32_t row = sel != NULL ? sel[i] : i;
        weir_buffer_clear(&writer->key);
        for (int32_t c = 0; c < writer->partition_count && rc == WEIR_OK; c++) {
            rc = delta_partition_key(&writer->partitions[c], batch, row, &writer->key);
        }
        if (rc != WEIR_OK) {
            return weir_error_set(err, rc, "partition value: %s", weir_error_text(rc));
        }
        if (last == NULL || last->key.size != writer->key.size ||
            memcmp(last->key.data, writer->key.data, writer->key.size) != 0) {
            last = find_slot(writer, batch, row, err, &rc);
            if (last == NULL && rc == WEIR_E_LIMIT) {
                rc = flush_selections(writer, batch, err);
                if (rc == WEIR_OK) {
                    rc = clear_slots(writer, true, err);
                }
                if (rc == WEIR_OK) {
                    last = find_slot(writer, batch, row, err, &rc);
                }
            }
            if (last == NULL || rc != WEIR_OK) {
                return rc;
            }
        }
        if (last->sel_count == WEIR_BATCH_ROWS_MAX) {
            rc = flush_selections(writer, batch, err);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
        last->sel[last->sel_count++] = row;
    }
    return flush_selections(writer, batch, err);
}

static int append_rows(struct weir_delta_writer *writer, struct weir_batch *batch,
                       const int32_t *sel, int32_t count, struct weir_error *err) {
    int rc;
    if (writer->partition_count > 0) {
        rc = split(writer, batch, sel, count, err);
    } else {
        weir_buffer_clear(&writer->key);
        struct slot *slot = find_slot(writer, batch, 0, err, &rc);
        rc = slot != NULL ? append_slot(writer, slot, batch, sel, count, err) : rc;
    }
    if (rc == WEIR_OK) {
        writer->rows += count;
        rc = keep_budget(writer, err);
    }
    return rc == WEIR_OK && writer->opened ? name_files(writer, err) : rc;
}

static int check_rows(struct weir_delta_writer *writer, struct weir_batch *batch,
                      const int32_t *sel, int32_t count, struct weir_error *err) {
    int rc = weir_delta_duties_judge(writer->duties, batch, sel, count, writer->verdict, err);
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        if (writer->verdict[i] != 0) {
            rc = weir_error_set(err, WEIR_E_DATA, "a row violates %s of the table",
                                weir_delta_duties_name(writer->duties, writer->verdict[i] - 1));
        }
    }
    return rc;
}

static int append_judged(struct weir_delta_writer *writer, struct weir_batch *batch,
                         const int32_t *sel, int32_t count, struct weir_error *err) {
    struct weir_batch *full = NULL;
    if (writer->duties == NULL) {
        return append_rows(writer, batch, sel, count, err);
    }
    int rc = writer->judged ? WEIR_OK : check_rows(writer, batch, sel, count, err);
    rc = rc == WEIR_OK ? weir_delta_duties_complete(writer->duties, batch, sel, count, &full, err)
                       : rc;
    rc = rc == WEIR_OK ? append_rows(writer, full, sel, count, err) : rc;
    weir_batch_unref(full);
    return rc;
}

int weir_delta_writer_append(struct weir_delta_writer *writer, struct weir_batch *batch,
                             const int32_t *sel, int32_t count, struct weir_error *err) {
    struct weir_batch *fitted = NULL;
    if (count <= 0 || writer->fitted == NULL) {
        return count > 0 ? append_judged(writer, batch, sel, count, err) : WEIR_OK;
    }
    int rc = weir_delta_fit_batch(batch, writer->fitted, &fitted, err);
    rc = rc == WEIR_OK ? append_judged(writer, fitted, sel, count, err) : rc;
    weir_batch_unref(fitted);
    return rc;
}

int weir_delta_writer_end_group(struct weir_delta_writer *writer, struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t i = 0; i < writer->slot_count && rc == WEIR_OK; i++) {
        if (writer->slots[i].file != NULL) {
            rc = weir_parquet_writer_end_group(writer->slots[i].parquet, err);
        }
    }
    return rc;
}

/* --- seal ---------------------------------------------------------------------------------- */

/* Folders of files that were opened and finished within one append. */
static int sync_folders(struct weir_delta_writer *writer, struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t i = 0; i < writer->finished_count && rc == WEIR_OK; i++) {
        struct finished *done = &writer->finished[i];
        if (!done->named) {
            rc = sync_folder(writer, done->folder, err);
        }
        for (int32_t j = i; j < writer->finished_count && rc == WEIR_OK; j++) {
            struct finished *other = &writer->finished[j];
            other->named = other->named || strcmp(other->folder, done->folder) == 0;
        }
    }
    return rc;
}

/* Syncs all finished files at once, then closes them. */
static int sync_files(struct weir_delta_writer *writer, struct weir_error *err) {
    int32_t count = 0;
    if (writer->finished_count > writer->unsynced_capacity) {
        int32_t capacity = writer->finished_capacity;
        struct weir_store_file **files =
            realloc(writer->unsynced, (size_t)capacity * sizeof(struct weir_store_file *));
        if (files == NULL) {
            return no_memory(err);
        }
        writer->unsynced = files;
        writer->unsynced_capacity = capacity;
    }
    for (int32_t i = 0; i < writer->finished_count; i++) {
        if (writer->finished[i].file != NULL) {
            writer->unsynced[count++] = writer->finished[i].file;
        }
    }
    int rc = weir_store_sync_files(writer->unsynced, count, err);
    for (int32_t i = 0; i < writer->finished_count && rc == WEIR_OK; i++) {
        struct weir_store_file *file = writer->finished[i].file;
        writer->finished[i].file = NULL;
        rc = weir_store_file_close(file, true, err);
    }
    return rc;
}

int weir_delta_writer_seal(struct weir_delta_writer *writer, struct weir_delta_adds *adds,
                           struct weir_error *err) {
    int rc = clear_slots(writer, false, err);
    if (rc == WEIR_OK && writer->finished_count > 0 && WEIR_FAULT(sink_file_written)) {
        rc = weir_error_set(err, WEIR_E_FAULT, "seal: injected fault before the sync");
    }
    if (rc == WEIR_OK) {
        rc = sync_files(writer, err);
    }
    if (rc == WEIR_OK) {
        rc = sync_folders(writer, err);
    }
    if (rc == WEIR_OK && writer->finished_count > 0 && WEIR_FAULT(sink_file_synced)) {
        rc = weir_error_set(err, WEIR_E_FAULT, "seal: injected fault after the sync");
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    int32_t moved = 0;
    for (; moved < writer->finished_count && rc == WEIR_OK; moved++) {
        rc = weir_delta_adds_push(adds, writer->finished[moved].add);
        if (rc != WEIR_OK) {
            break;
        }
        free(writer->finished[moved].folder);
    }
    writer->finished_count -= moved;
    if (writer->finished_count > 0) {
        memmove(writer->finished, writer->finished + moved,
                (size_t)writer->finished_count * sizeof(*writer->finished));
    }
    writer->rows = 0;
    return rc == WEIR_OK ? rc : no_memory(err);
}

int64_t weir_delta_writer_rows(const struct weir_delta_writer *writer) {
    return writer->rows;
}

int weir_delta_adds_exist(struct weir_delta_table *table, struct weir_delta_add *const *adds,
                          int32_t count, struct weir_error *err) {
    for (int32_t i = 0; i < count; i++) {
        char *path;
        struct weir_store_info info;
        int rc = delta_file_path(table->store, table->dir, adds[i]->path, &path, err);
        if (rc == WEIR_OK) {
            rc = weir_store_stat(table->store, path, &info, err);
        }
        free(path);
        if (rc != WEIR_OK) {
            return rc;
        }
        if (info.size_bytes != adds[i]->size_bytes) {
            return weir_error_set(err, WEIR_E_CORRUPT,
                                  "data file %s of table %s has %lld bytes instead of %lld",
                                  adds[i]->path, table->dir, (long long)info.size_bytes,
                                  (long long)adds[i]->size_bytes);
        }
    }
    return WEIR_OK;
}
