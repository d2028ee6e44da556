/* What a writer of data files is told by the table: codec, partitions, duties, statistics. */
#include <stdlib.h>
#include <string.h>

#include "lake/delta/fit.h"
#include "lake/delta/follow.h"
#include "lake/delta/mapping.h"
#include "lake/delta/stats.h"
#include "lake/delta/writer_private.h"

#define MEMORY_BYTES ((size_t)64 << 20)
#define TARGET_BYTES ((size_t)128 << 20)
#define OPEN_FILES_MAX 256

static int no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "write table: out of memory");
}

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
    weir_buffer_init(&writer->key, WRITER_KEY_BYTES_MAX);
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

void writer_slot_fini(struct weir_delta_writer *writer, struct writer_slot *slot) {
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
        writer_slot_fini(writer, &writer->slots[i]);
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
