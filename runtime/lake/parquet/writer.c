/* The writer's life: options, open, append, finish. Pages are made in gather.c and page.c, row
 * groups and the footer in footer.c. */
#include "lake/parquet/writer.h"

#include <stdlib.h>
#include <string.h>

#include "lake/parquet/leaf.h"

enum { FOOTER_MAX = 256 << 20 };

void weir_parquet_writer_options_init(struct weir_parquet_writer_options *options) {
    memset(options, 0, sizeof(*options));
    options->codec = WEIR_PARQUET_ZSTD;
    options->row_group_rows = 1 << 20;
    options->page_rows = 32768;
    options->page_bytes = 1 << 20;
    options->dictionary_bytes = 1 << 20;
    options->dictionary_values = 1 << 17;
    options->memory_bytes = 256 << 20;
    options->page_index = true;
}

void weir_parquet_writer_options_direct_lake(struct weir_parquet_writer_options *options) {
    weir_parquet_writer_options_init(options);
    options->row_group_rows = 8 << 20;
    options->dictionary_bytes = 16 << 20;
    options->dictionary_values = 1 << 20;
}

static int check_options(const struct weir_parquet_writer_options *options,
                         struct weir_error *err) {
    switch (options->codec) {
    case WEIR_PARQUET_NONE:
    case WEIR_PARQUET_SNAPPY:
    case WEIR_PARQUET_GZIP:
    case WEIR_PARQUET_ZSTD:
    case WEIR_PARQUET_LZ4_RAW:
        break;
    default:
        return weir_error_set(err, WEIR_E_CONFIG,
                              "parquet codec %d cannot be written; use none, snappy, gzip, zstd or "
                              "lz4_raw",
                              (int)options->codec);
    }
    int32_t level_max = options->codec == WEIR_PARQUET_GZIP ? 9 : 22;
    if (options->level < 0 || options->level > level_max) {
        return weir_error_set(err, WEIR_E_CONFIG, "parquet level %d is not between 0 and %d",
                              options->level, level_max);
    }
    if (options->row_group_rows < 1 || options->page_rows < 1 || options->page_rows > 1 << 20 ||
        options->page_bytes < 1 || options->page_bytes > 1 << 30 || options->dictionary_bytes < 0 ||
        options->dictionary_bytes > 1 << 30 || options->dictionary_values < 0 ||
        options->dictionary_values > 1 << 24 || options->memory_bytes < 1) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "parquet options out of range: row_group_rows, page_rows (to 1 Mi), "
                              "page_bytes (to 1 GiB) and memory_bytes are positive, dictionaries "
                              "up to 1 GiB and 16 Mi values");
    }
    if (options->sorted_by_count < 0 || options->sorted_by_count > PARQUET_SORTED_BY_MAX) {
        return weir_error_set(err, WEIR_E_CONFIG, "parquet rows sorted by %d columns; 8 at most",
                              options->sorted_by_count);
    }
    return WEIR_OK;
}

/* Columns to leaves: the footer counts those. */
static int find_sorted(struct weir_parquet_writer *writer,
                       const struct weir_parquet_writer_options *options, struct weir_error *err) {
    for (int32_t i = 0; i < options->sorted_by_count; i++) {
        int32_t column = options->sorted_by[i];
        const struct parquet_shape *shape =
            column >= 0 && column < writer->schema->count ? &writer->columns[column] : NULL;
        if (shape == NULL || shape->excluded || shape->kind != PARQUET_NODE_LEAF) {
            return weir_error_set(err, WEIR_E_CONFIG,
                                  "parquet rows sorted by column %d, which is not in the file or "
                                  "is nested",
                                  column);
        }
        writer->sorted_leaves[i] = shape->leaf_first;
    }
    return WEIR_OK;
}

static int copy_metadata(struct weir_parquet_writer *writer,
                         const struct weir_parquet_writer_options *options) {
    int32_t count = options->metadata_count;
    writer->metadata = calloc((size_t)count + 1, sizeof(*writer->metadata));
    if (writer->metadata == NULL) {
        return WEIR_E_NOMEM;
    }
    for (int32_t i = 0; i < count; i++) {
        char *key = strdup(options->metadata[i].key);
        char *value = strdup(options->metadata[i].value);
        writer->metadata[i] = (struct weir_parquet_key_value){key, value};
        if (key == NULL || value == NULL) {
            return WEIR_E_NOMEM;
        }
    }
    return WEIR_OK;
}

int weir_parquet_writer_create(struct weir_parquet_writer **out, struct weir_schema *schema,
                               const struct weir_parquet_writer_options *options,
                               struct weir_error *err) {
    *out = NULL;
    int rc = check_options(options, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    struct weir_parquet_writer *writer = calloc(1, sizeof(*writer));
    if (writer == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "parquet writer: out of memory");
    }
    writer->schema = weir_schema_ref(schema);
    writer->options = *options;
    writer->options.excluded = NULL; /* borrowed for this call only */
    writer->options.field_ids = NULL;
    writer->options.sorted_by = NULL;
    writer->options.metadata = NULL;
    weir_buffer_init(&writer->scratch, (size_t)4 * INT32_MAX);
    weir_buffer_init(&writer->header, FOOTER_MAX);
    weir_buffer_init(&writer->row_groups, FOOTER_MAX / 2);
    weir_buffer_init(&writer->indexed, FOOTER_MAX);
    weir_buffer_init(&writer->column_indexes, FOOTER_MAX);
    weir_buffer_init(&writer->offset_indexes, FOOTER_MAX);
    writer->compressor = parquet_compressor_create(options->codec, options->level);
    if (writer->compressor == NULL || copy_metadata(writer, options) != WEIR_OK) {
        rc = weir_error_set(err, WEIR_E_NOMEM, "parquet writer: out of memory");
    } else {
        rc = parquet_shape_build(writer, options, err);
        rc = rc == WEIR_OK ? find_sorted(writer, options, err) : rc;
    }
    if (rc != WEIR_OK) {
        weir_parquet_writer_destroy(writer);
        return rc;
    }
    *out = writer;
    return WEIR_OK;
}

void weir_parquet_writer_destroy(struct weir_parquet_writer *writer) {
    if (writer == NULL) {
        return;
    }
    parquet_shape_destroy(writer);
    for (int32_t i = 0; writer->metadata != NULL && i < writer->options.metadata_count; i++) {
        free((char *)(uintptr_t)writer->metadata[i].key);
        free((char *)(uintptr_t)writer->metadata[i].value);
    }
    free(writer->metadata);
    weir_buffer_fini(&writer->scratch);
    weir_buffer_fini(&writer->header);
    weir_buffer_fini(&writer->row_groups);
    weir_buffer_fini(&writer->indexed);
    weir_buffer_fini(&writer->column_indexes);
    weir_buffer_fini(&writer->offset_indexes);
    parquet_compressor_destroy(writer->compressor);
    free(writer->remap);
    weir_schema_unref(writer->schema);
    free(writer);
}

void weir_parquet_writer_abort(struct weir_parquet_writer *writer) {
    for (int32_t i = 0; i < writer->leaf_count; i++) {
        parquet_leaf_clear_chunk(&writer->leaves[i]);
    }
    writer->open = false;
    writer->failed = false;
    writer->held_bytes = 0;
    writer->group_rows = 0;
}

int weir_parquet_writer_open(struct weir_parquet_writer *writer, weir_parquet_write_fn write,
                             void *ctx, struct weir_error *err) {
    if (writer->open) {
        return weir_error_set(err, WEIR_E_BUG, "parquet writer: a file is already open");
    }
    for (int32_t i = 0; i < writer->leaf_count; i++) {
        parquet_leaf_clear_chunk(&writer->leaves[i]);
        parquet_statistics_clear(&writer->leaves[i].file);
        writer->leaves[i].store_pages = 0;
    }
    weir_buffer_clear(&writer->row_groups);
    weir_buffer_clear(&writer->indexed);
    weir_buffer_clear(&writer->column_indexes);
    weir_buffer_clear(&writer->offset_indexes);
    writer->row_group_count = 0;
    writer->rows = 0;
    writer->group_rows = 0;
    writer->held_bytes = 0;
    writer->write = write;
    writer->write_ctx = ctx;
    writer->open = true;
    writer->failed = false;
    writer->written = 4;
    int rc = write(ctx, "PAR1", 4, err);
    writer->failed = rc != WEIR_OK;
    return rc;
}

/* Rows of one row group. */
static int append_rows(struct weir_parquet_writer *writer, const struct weir_batch *batch,
                       const int32_t *sel, int32_t start, int32_t count, struct weir_error *err) {
    /* Without a selection rows are addressed by position, so a start past 0 needs one. */
    int32_t positions[WEIR_BATCH_ROWS_MAX];
    if (sel == NULL && start > 0) {
        for (int32_t i = 0; i < count; i++) {
            positions[i] = start + i;
        }
        sel = positions;
    } else if (sel != NULL) {
        sel += start;
    }
    for (int32_t i = 0; i < batch->column_count; i++) {
        const struct parquet_shape *shape = &writer->columns[i];
        if (shape->excluded) {
            continue;
        }
        const struct weir_column *column = &batch->columns[i];
        int rc = shape->kind == PARQUET_NODE_LEAF
                     ? parquet_gather_flat(writer, &writer->leaves[shape->leaf_first], column, sel,
                                           count, err)
                     : parquet_shred(writer, shape, column, sel, count, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    writer->rows += count;
    writer->group_rows += count;
    return WEIR_OK;
}

int weir_parquet_writer_append(struct weir_parquet_writer *writer, const struct weir_batch *batch,
                               const int32_t *sel, int32_t count, struct weir_error *err) {
    if (!writer->open || writer->failed) {
        return weir_error_set(err, WEIR_E_BUG,
                              "parquet writer: no open file, or one that failed before");
    }
    if (batch->column_count != writer->schema->count) {
        return weir_error_set(err, WEIR_E_BUG,
                              "parquet writer: a batch of %d columns for a schema of %d",
                              batch->column_count, writer->schema->count);
    }
    int rc = WEIR_OK;
    for (int32_t at = 0; at < count && rc == WEIR_OK;) {
        int64_t room = writer->options.row_group_rows - writer->group_rows;
        int32_t n = count - at < WEIR_BATCH_ROWS_MAX ? count - at : WEIR_BATCH_ROWS_MAX;
        n = n < room ? n : (int32_t)room;
        rc = append_rows(writer, batch, sel, at, n, err);
        at += n;
        if (rc == WEIR_OK && (writer->group_rows >= writer->options.row_group_rows ||
                              writer->held_bytes >= writer->options.memory_bytes)) {
            rc = parquet_footer_row_group(writer, err);
        }
    }
    writer->failed = rc != WEIR_OK;
    return rc;
}

int weir_parquet_writer_end_group(struct weir_parquet_writer *writer, struct weir_error *err) {
    if (!writer->open || writer->failed || writer->group_rows == 0) {
        return WEIR_OK;
    }
    int rc = parquet_footer_row_group(writer, err);
    writer->failed = rc != WEIR_OK;
    return rc;
}

/* --- what a finished file holds ------------------------------------------------------------ */

static size_t batch_form(const struct parquet_leaf *leaf, bool maximum, uint8_t *to) {
    const struct parquet_statistics *file = &leaf->file;
    int64_t integer = maximum ? file->max_int : file->min_int;
    double number = maximum ? file->max_double : file->min_double;
    float narrow = (float)number;
    if (leaf->field->type == WEIR_TYPE_DECIMAL) {
        __int128 wide = maximum ? file->max_wide : file->min_wide;
        wide = leaf->store == PARQUET_STORE_FIXED ? wide : (__int128)integer;
        memcpy(to, &wide, sizeof(wide));
        return sizeof(wide);
    }
    if (leaf->store == PARQUET_STORE_F64) {
        memcpy(to, &number, sizeof(number));
    } else if (leaf->store == PARQUET_STORE_F32) {
        memcpy(to, &narrow, sizeof(narrow));
    } else {
        memcpy(to, &integer, sizeof(integer));
    }
    int32_t width = weir_type_width(leaf->field->type);
    return width == 0 ? 1 : (size_t)width;
}

static void fill_info(struct weir_parquet_writer *writer, struct weir_parquet_file_info *info) {
    for (int32_t i = 0; i < writer->leaf_count; i++) {
        struct parquet_leaf *leaf = &writer->leaves[i];
        struct weir_parquet_column_info *column = &writer->infos[i];
        memset(column, 0, sizeof(*column));
        column->path = leaf->info_path;
        column->path_count = leaf->info_path_count;
        column->field = leaf->field;
        column->repeated = leaf->max_repetition > 0;
        column->has_nan = leaf->file.has_nan;
        column->value_count = leaf->file.value_count;
        column->null_count = leaf->file.null_count;
        column->min_max_set = leaf->file.set && !leaf->file.too_long;
        if (!column->min_max_set) {
            continue;
        }
        if (leaf->store == PARQUET_STORE_BYTES) {
            column->min = leaf->file.min_bytes.data;
            column->min_size = leaf->file.min_bytes.size;
            column->max = leaf->file.max_bytes.data;
            column->max_size = leaf->file.max_bytes.size;
        } else {
            column->min_size = batch_form(leaf, false, leaf->info_bounds[0]);
            column->max_size = batch_form(leaf, true, leaf->info_bounds[1]);
            column->min = leaf->info_bounds[0];
            column->max = leaf->info_bounds[1];
        }
    }
    info->rows = writer->rows;
    info->bytes = writer->written;
    info->row_groups = writer->row_group_count;
    info->column_count = writer->leaf_count;
    info->columns = writer->infos;
}

int weir_parquet_writer_finish(struct weir_parquet_writer *writer,
                               struct weir_parquet_file_info *info, struct weir_error *err) {
    if (!writer->open || writer->failed) {
        return weir_error_set(err, WEIR_E_BUG,
                              "parquet writer: no open file, or one that failed before");
    }
    int rc = parquet_footer_row_group(writer, err);
    if (rc == WEIR_OK) {
        rc = parquet_footer_write(writer, err);
    }
    if (rc != WEIR_OK) {
        writer->failed = true;
        return rc;
    }
    writer->open = false;
    if (info != NULL) {
        fill_info(writer, info);
    }
    return WEIR_OK;
}

bool weir_parquet_writer_is_open(const struct weir_parquet_writer *writer) {
    return writer->open;
}

int64_t weir_parquet_writer_rows(const struct weir_parquet_writer *writer) {
    return writer->rows;
}

int64_t weir_parquet_writer_size_estimate(const struct weir_parquet_writer *writer) {
    int64_t bytes = writer->written + writer->held_bytes + (int64_t)writer->row_groups.size;
    for (int32_t i = 0; i < writer->leaf_count; i++) {
        const struct parquet_leaf *leaf = &writer->leaves[i];
        size_t staged = leaf->values.size - leaf->headroom + leaf->definition.size / 8 +
                        leaf->codes.size / 2 + leaf->dictionary.arena.size;
        bytes += (int64_t)(staged / 2) + 128; /* half for compression; footer */
    }
    return bytes;
}

int64_t weir_parquet_writer_memory(const struct weir_parquet_writer *writer) {
    size_t bytes = sizeof(*writer) + writer->scratch.capacity + writer->header.capacity +
                   writer->row_groups.capacity + writer->indexed.capacity +
                   writer->column_indexes.capacity + writer->offset_indexes.capacity;
    for (int32_t i = 0; i < writer->leaf_count; i++) {
        const struct parquet_leaf *leaf = &writer->leaves[i];
        bytes += leaf->definition.capacity + leaf->repetition.capacity + leaf->values.capacity +
                 leaf->lengths.capacity + leaf->codes.capacity + leaf->indices.capacity +
                 leaf->held.capacity + leaf->pages.capacity + leaf->bounds.capacity +
                 parquet_dictionary_memory(&leaf->dictionary);
    }
    return (int64_t)bytes;
}
