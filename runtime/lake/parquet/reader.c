/* The reader's life: footer, selection, batches. Metadata is parsed in metadata.c and tree.c, pages
 * are decoded in column.c and values.c, nesting is rebuilt in assemble.c. */
#include "lake/parquet/reader.h"

#include <stdlib.h>
#include <string.h>

#include "lake/parquet/file.h"

enum { TAIL_BYTES = 8 };

#define MEMORY_DEFAULT ((size_t)1 << 30)

struct parquet_column *parquet_reader_column(const struct weir_parquet_reader *reader,
                                             int32_t leaf) {
    return reader->columns[leaf];
}

/* --- opening ----------------------------------------------------------------------------- */

int parquet_reader_fetch(struct weir_parquet_reader *reader, uint64_t offset, size_t size,
                         uint8_t *to, struct weir_error *err) {
    if (reader->memory != NULL) {
        memcpy(to, reader->memory + offset, size);
        return WEIR_OK;
    }
    return reader->read(reader->read_ctx, offset, to, size, err);
}

static int read_footer(struct weir_parquet_reader *reader, struct weir_error *err) {
    uint8_t tail[TAIL_BYTES];
    if (reader->size < 4 + TAIL_BYTES) {
        return weir_error_set(err, WEIR_E_CORRUPT,
                              "parquet: %llu bytes are too few for a Parquet file",
                              (unsigned long long)reader->size);
    }
    int rc = parquet_reader_fetch(reader, reader->size - TAIL_BYTES, TAIL_BYTES, tail, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (memcmp(tail + 4, "PARE", 4) == 0) {
        return weir_error_set(err, WEIR_E_UNSUPPORTED, "parquet: the file is encrypted");
    }
    if (memcmp(tail + 4, "PAR1", 4) != 0) {
        return weir_error_set(err, WEIR_E_CORRUPT,
                              "parquet: not a Parquet file: it does not end in PAR1");
    }
    uint32_t size;
    memcpy(&size, tail, sizeof(size));
    if (size > reader->size - TAIL_BYTES - 4) {
        return weir_error_set(err, WEIR_E_CORRUPT, "parquet: footer longer than the file");
    }
    reader->data_end = reader->size - TAIL_BYTES - size;
    if (reader->memory != NULL) {
        return parquet_read_metadata(reader, reader->memory + reader->data_end, size, err);
    }
    uint8_t *bytes = parquet_arena_take(&reader->arena, (size_t)size + 1); /* bounds lie in it */
    if (bytes == NULL) {
        return weir_error_set(err, WEIR_E_LIMIT,
                              "parquet: a footer of %u bytes passes the reader's memory limit",
                              size);
    }
    rc = parquet_reader_fetch(reader, reader->data_end, size, bytes, err);
    if (rc == WEIR_OK) {
        rc = parquet_read_metadata(reader, bytes, size, err);
    }
    return rc;
}

static int open_reader(struct weir_parquet_reader **out, struct weir_parquet_reader from,
                       struct weir_error *err) {
    *out = NULL;
    struct weir_parquet_reader *reader = malloc(sizeof(*reader));
    if (reader == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "parquet: out of memory");
    }
    *reader = from;
    if (reader->options.batch_rows <= 0 || reader->options.batch_rows > WEIR_BATCH_ROWS_MAX) {
        reader->options.batch_rows = WEIR_BATCH_ROWS_MAX;
    }
    if (reader->options.memory_bytes == 0) {
        reader->options.memory_bytes = MEMORY_DEFAULT;
    }
    reader->budget = reader->options.memory_bytes;
    weir_buffer_init(&reader->ranges, reader->options.memory_bytes);
    reader->arena.budget = &reader->budget;
    reader->decompressor = parquet_decompressor_create();
    int rc = reader->decompressor == NULL
                 ? weir_error_set(err, WEIR_E_NOMEM, "parquet: out of memory")
                 : read_footer(reader, err);
    if (rc == WEIR_OK) {
        rc = parquet_build_tree(reader, err);
    }
    if (rc == WEIR_OK) {
        reader->columns = parquet_arena_take(&reader->arena,
                                             (size_t)reader->leaf_count * sizeof(*reader->columns));
        rc = reader->columns == NULL
                 ? weir_error_set(err, WEIR_E_LIMIT,
                                  "parquet: metadata passes the reader's memory limit")
                 : weir_parquet_reader_select(reader, NULL, 0, err);
    }
    if (rc != WEIR_OK) {
        weir_parquet_reader_close(reader);
        return rc;
    }
    *out = reader;
    return WEIR_OK;
}

int weir_parquet_reader_open_memory(struct weir_parquet_reader **reader, const void *bytes,
                                    size_t size, const struct weir_parquet_reader_options *options,
                                    struct weir_error *err) {
    struct weir_parquet_reader from = {.options = *options, .memory = bytes, .size = size};
    return open_reader(reader, from, err);
}

int weir_parquet_reader_open(struct weir_parquet_reader **reader, weir_parquet_read_fn read,
                             void *ctx, uint64_t file_size,
                             const struct weir_parquet_reader_options *options,
                             struct weir_error *err) {
    struct weir_parquet_reader from = {
        .options = *options, .read = read, .read_ctx = ctx, .size = file_size};
    return open_reader(reader, from, err);
}

static void drop_columns(struct weir_parquet_reader *reader) {
    for (int32_t i = 0; reader->columns != NULL && i < reader->leaf_count; i++) {
        if (reader->columns[i] != NULL) {
            parquet_column_fini(reader->columns[i]);
            free(reader->columns[i]);
            reader->columns[i] = NULL;
        }
    }
    free(reader->selected);
    reader->selected = NULL;
    reader->selected_count = 0;
    weir_schema_unref(reader->selected_schema);
    reader->selected_schema = NULL;
}

void weir_parquet_reader_close(struct weir_parquet_reader *reader) {
    if (reader == NULL) {
        return;
    }
    drop_columns(reader);
    parquet_prune_drop(reader);
    weir_buffer_fini(&reader->ranges);
    weir_schema_unref(reader->schema);
    parquet_decompressor_destroy(reader->decompressor);
    parquet_arena_fini(&reader->arena);
    free(reader);
}

/* --- what the file says ------------------------------------------------------------------- */

struct weir_schema *weir_parquet_reader_schema(const struct weir_parquet_reader *reader) {
    return reader->schema;
}

struct weir_schema *weir_parquet_reader_batch_schema(const struct weir_parquet_reader *reader) {
    return reader->selected_schema;
}

const struct weir_parquet_node *weir_parquet_reader_nodes(const struct weir_parquet_reader *reader,
                                                          int32_t *count) {
    *count = reader->node_count;
    return reader->nodes;
}

int32_t weir_parquet_reader_column_node(const struct weir_parquet_reader *reader, int32_t column) {
    return reader->column_nodes[column];
}

int64_t weir_parquet_reader_rows(const struct weir_parquet_reader *reader) {
    return reader->rows;
}

int32_t weir_parquet_reader_row_groups(const struct weir_parquet_reader *reader) {
    return reader->group_count;
}

int64_t weir_parquet_reader_row_group_rows(const struct weir_parquet_reader *reader,
                                           int32_t group) {
    return reader->groups[group].rows;
}

const char *weir_parquet_reader_created_by(const struct weir_parquet_reader *reader) {
    return reader->created_by;
}

const char *weir_parquet_reader_metadata(const struct weir_parquet_reader *reader,
                                         const char *key) {
    for (int32_t i = 0; i < reader->metadata_count; i++) {
        if (strcmp(reader->metadata[i].key, key) == 0) {
            return reader->metadata[i].value;
        }
    }
    return NULL;
}

/* --- selection ---------------------------------------------------------------------------- */

static int add_leaves(struct weir_parquet_reader *reader, const struct parquet_slot *slot,
                      struct weir_error *err) {
    if (slot->child_count > 0) {
        int rc = WEIR_OK;
        for (int32_t i = 0; i < slot->child_count && rc == WEIR_OK; i++) {
            rc = add_leaves(reader, &slot->children[i], err);
        }
        return rc;
    }
    struct parquet_column *column = malloc(sizeof(*column));
    if (column == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "parquet: out of memory");
    }
    parquet_column_init(column, reader, slot);
    reader->columns[slot->leaf] = column;
    return WEIR_OK;
}

static int select_columns(struct weir_parquet_reader *reader, const int32_t *columns, int32_t count,
                          struct weir_error *err) {
    reader->selected = calloc((size_t)count + 1, sizeof(*reader->selected));
    reader->selected_schema = weir_schema_create();
    if (reader->selected == NULL || reader->selected_schema == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "parquet: out of memory");
    }
    for (int32_t i = 0; i < count; i++) {
        int32_t column = columns == NULL ? i : columns[i];
        if (column < 0 || column >= reader->schema->count) {
            return weir_error_set(err, WEIR_E_BUG, "parquet: no column %d", column);
        }
        const struct parquet_slot *slot = &reader->slots[column];
        if (reader->columns[slot->leaf] != NULL) {
            return weir_error_set(err, WEIR_E_BUG, "parquet: column %d selected twice", column);
        }
        const struct weir_field *field = &reader->schema->fields[column];
        int rc = weir_schema_add(reader->selected_schema, field) != WEIR_OK
                     ? weir_error_set(err, WEIR_E_NOMEM, "parquet: out of memory")
                     : add_leaves(reader, slot, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        reader->selected[i] = column;
        reader->selected_count = i + 1;
    }
    return WEIR_OK;
}

int weir_parquet_reader_select(struct weir_parquet_reader *reader, const int32_t *columns,
                               int32_t count, struct weir_error *err) {
    drop_columns(reader);
    reader->group = 0;
    reader->group_at = -1;
    reader->failed = false;
    int rc = select_columns(reader, columns, columns == NULL ? reader->schema->count : count, err);
    if (rc != WEIR_OK) {
        drop_columns(reader); /* nothing selected: next refuses */
    }
    return rc;
}

/* --- batches ------------------------------------------------------------------------------ */

int weir_parquet_reader_seek(struct weir_parquet_reader *reader, int32_t group,
                             struct weir_error *err) {
    if (group < 0 || group > reader->group_count) {
        return weir_error_set(err, WEIR_E_BUG, "parquet: no row group %d", group);
    }
    reader->group = group;
    reader->group_at = -1;
    reader->failed = false;
    reader->group_start = 0;
    for (int32_t i = 0; i < group; i++) {
        reader->group_start += reader->groups[i].rows;
    }
    return WEIR_OK;
}

static int begin_group(struct weir_parquet_reader *reader, struct weir_error *err) {
    for (int32_t i = 0; i < reader->leaf_count; i++) {
        if (reader->columns[i] != NULL) {
            int rc = parquet_column_seek(reader->columns[i], reader->group, err);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
    }
    reader->group_at = 0;
    return WEIR_OK;
}

static bool is_flat(const struct parquet_column *column) {
    return column->node->parent == 0 && column->node->repetition_level == 0;
}

static int read_batch(struct weir_parquet_reader *reader, int32_t rows, struct weir_batch *batch,
                      struct weir_error *err) {
    for (int32_t i = 0; i < reader->leaf_count; i++) {
        if (reader->columns[i] != NULL && !is_flat(reader->columns[i])) {
            int rc = parquet_column_read(reader->columns[i], rows, err);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
    }
    batch->rows = rows;
    for (int32_t i = 0; i < reader->selected_count; i++) {
        const struct parquet_slot *slot = &reader->slots[reader->selected[i]];
        struct parquet_column *leaf = reader->columns[slot->leaf];
        int rc = is_flat(leaf)
                     ? parquet_flat_read(leaf, rows, batch, &batch->columns[i], err)
                     : parquet_assemble(reader, slot, batch, &batch->columns[i], rows, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return WEIR_OK;
}

/* Reads rows of one column for nobody. */
static int discard(struct weir_parquet_reader *reader, const struct parquet_slot *slot, int32_t at,
                   int32_t rows, struct weir_error *err) {
    int rc = WEIR_OK;
    if (is_flat(reader->columns[slot->leaf])) {
        struct weir_batch *batch = weir_batch_create(reader->options.pool, reader->selected_schema);
        rc = batch == NULL
                 ? weir_error_set(err, WEIR_E_LIMIT, "parquet: the batch passes the pool's limit")
                 : parquet_flat_read(reader->columns[slot->leaf], rows, batch, &batch->columns[at],
                                     err);
        weir_batch_unref(batch);
        return rc;
    }
    if (slot->child_count == 0) {
        return parquet_column_read(reader->columns[slot->leaf], rows, err);
    }
    for (int32_t i = 0; i < slot->child_count && rc == WEIR_OK; i++) {
        rc = discard(reader, &slot->children[i], at, rows, err);
    }
    return rc;
}

/* Steps every selected column over rows that are not wanted. */
static int skip_rows(struct weir_parquet_reader *reader, int64_t rows, struct weir_error *err) {
    for (int32_t i = 0; i < reader->selected_count; i++) {
        const struct parquet_slot *slot = &reader->slots[reader->selected[i]];
        int64_t left = rows;
        bool flat = is_flat(reader->columns[slot->leaf]);
        while (left > 0) {
            int rc =
                flat ? parquet_column_skip_pages(reader->columns[slot->leaf], &left, err) : WEIR_OK;
            int64_t page = flat ? reader->columns[slot->leaf]->page_left : left;
            int64_t n = left < reader->options.batch_rows ? left : reader->options.batch_rows;
            n = page > 0 && page < n ? page : n;
            if (rc == WEIR_OK && left > 0) {
                rc = discard(reader, slot, i, (int32_t)n, err);
            }
            if (rc != WEIR_OK) {
                return rc;
            }
            left -= left > 0 ? n : 0;
        }
    }
    return WEIR_OK;
}

/* Stands at rows to read: the next range, or that of the next group that has any. False at the
 * end. */
static int find_rows(struct weir_parquet_reader *reader, struct parquet_range *range,
                     struct weir_error *err) {
    for (; reader->group < reader->group_count; reader->group++, reader->group_at = -1) {
        if (reader->group_at < 0) {
            if (reader->group == 0) {
                reader->group_start = 0;
            }
            int rc = parquet_prune_group(reader, err);
            rc = rc == WEIR_OK && reader->ranges.size > 0 ? begin_group(reader, err) : rc;
            if (rc != WEIR_OK) {
                return rc;
            }
            reader->range_at = 0;
            reader->group_at = 0;
        }
        const struct parquet_range *ranges = (const struct parquet_range *)reader->ranges.data;
        size_t count = reader->ranges.size / sizeof(*ranges);
        while (reader->range_at < count && ranges[reader->range_at].end <= reader->group_at) {
            reader->range_at++;
        }
        if (reader->range_at < count) {
            *range = ranges[reader->range_at];
            return WEIR_OK;
        }
        reader->group_start += reader->groups[reader->group].rows;
    }
    *range = (struct parquet_range){0, 0};
    return WEIR_OK;
}

int weir_parquet_reader_next(struct weir_parquet_reader *reader, struct weir_batch **out,
                             struct weir_error *err) {
    *out = NULL;
    if (reader->failed || reader->selected_schema == NULL) {
        return weir_error_set(err, WEIR_E_BUG,
                              "parquet: the reader failed before; seek or select first");
    }
    struct parquet_range range;
    struct weir_batch *batch = NULL;
    int rc = find_rows(reader, &range, err);
    if (rc == WEIR_OK && range.end == 0) {
        return WEIR_OK;
    }
    if (rc == WEIR_OK && range.first > reader->group_at) {
        rc = skip_rows(reader, range.first - reader->group_at, err);
        reader->group_at = range.first;
    }
    if (rc == WEIR_OK) {
        int64_t left = range.end - reader->group_at;
        int32_t rows =
            left < reader->options.batch_rows ? (int32_t)left : reader->options.batch_rows;
        batch = weir_batch_create(reader->options.pool, reader->selected_schema);
        rc = batch == NULL
                 ? weir_error_set(err, WEIR_E_LIMIT, "parquet: the batch passes the pool's limit")
                 : read_batch(reader, rows, batch, err);
        reader->batch_start = reader->group_start + reader->group_at;
        reader->group_at += rows;
    }
    if (rc != WEIR_OK) {
        weir_batch_unref(batch);
        reader->failed = true;
        return rc;
    }
    *out = batch;
    return WEIR_OK;
}

int64_t weir_parquet_reader_batch_start(const struct weir_parquet_reader *reader) {
    return reader->batch_start;
}
