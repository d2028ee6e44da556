/* The Parquet reader on hostile bytes: footer, schema, pages, every encoding, nesting. The input is
 * a whole file. What could be read is written by our writer and must come back equal. Bounded by a
 * small memory limit and by rows, so that no input runs long.
 *
 * fuzz:
 *   runtime/lake/parquet/reader.c
 *   runtime/lake/parquet/metadata.c
 *   runtime/lake/parquet/tree.c
 *   runtime/lake/parquet/column.c
 *   runtime/lake/parquet/flat.c
 *   runtime/lake/parquet/prune.c
 *   runtime/lake/parquet/values.c
 *   runtime/lake/parquet/text.c
 *   runtime/lake/parquet/assemble.c
 *   runtime/lake/parquet/thrift.c
 *   runtime/lake/parquet/encoding_delta.c
 *   runtime/lake/parquet/encoding_rle.c */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "lake/parquet/reader.h"
#include "lake/parquet/writer.h"

enum { POOL_BYTES = 64 << 20, READER_BYTES = 16 << 20, BATCHES_MAX = 64 };

struct view {
    const uint8_t *bytes;
    size_t size;
};

static int read_view(void *ctx, uint64_t offset, void *bytes, size_t size, struct weir_error *err) {
    const struct view *view = ctx;
    if (offset > view->size || size > view->size - offset) {
        return weir_error_set(err, WEIR_E_IO, "read past the end");
    }
    if (size > 0) {
        memcpy(bytes, view->bytes + offset, size);
    }
    return WEIR_OK;
}

static void read_all(struct weir_parquet_reader *reader) {
    struct weir_error err = {0};
    struct weir_batch *batch = NULL;
    for (int i = 0; i < BATCHES_MAX; i++) {
        if (weir_parquet_reader_next(reader, &batch, &err) != WEIR_OK || batch == NULL) {
            return;
        }
        if (batch->column_count != weir_parquet_reader_batch_schema(reader)->count ||
            weir_parquet_reader_batch_start(reader) < 0) {
            __builtin_trap();
        }
        /* touch what was promised: sanitizers see short buffers */
        for (int32_t c = 0; c < batch->column_count; c++) {
            for (int32_t row = 0; row < batch->rows; row++) {
                if (!weir_column_value_equal(&batch->columns[c], row, &batch->columns[c], row)) {
                    __builtin_trap();
                }
            }
        }
        weir_batch_unref(batch);
    }
}

static int keep(void *ctx, const void *bytes, size_t size, struct weir_error *err) {
    (void)err;
    return weir_buffer_append(ctx, bytes, size);
}

/* The first batch through writer and reader. A value the writer refuses (a null in a required
 * column, a decimal past its precision) ends the attempt; a difference is a bug. */
static void write_and_compare(const struct weir_batch *batch, struct weir_pool *pool,
                              unsigned choice) {
    static const enum weir_parquet_codec codecs[] = {WEIR_PARQUET_ZSTD, WEIR_PARQUET_SNAPPY,
                                                     WEIR_PARQUET_GZIP, WEIR_PARQUET_LZ4_RAW};
    struct weir_error err = {0};
    struct weir_parquet_writer_options options;
    weir_parquet_writer_options_init(&options);
    options.codec = codecs[choice & 3];
    options.compat = choice >> 2 & 1;
    options.page_rows = choice >> 3 & 1 ? 50 : 1000;
    options.dictionary_values = choice >> 4 & 1 ? 10 : 1000;
    options.nanos_annotated = true;
    options.page_crc = true;
    struct weir_parquet_writer *writer = NULL;
    struct weir_parquet_reader *reader = NULL;
    struct weir_batch *again = NULL;
    struct weir_buffer file;
    weir_buffer_init(&file, READER_BYTES);
    int rc = weir_parquet_writer_create(&writer, batch->schema, &options, &err);
    rc = rc != 0 ? rc : weir_parquet_writer_open(writer, keep, &file, &err);
    rc = rc != 0 ? rc : weir_parquet_writer_append(writer, batch, NULL, batch->rows, &err);
    rc = rc != 0 ? rc : weir_parquet_writer_finish(writer, NULL, &err);
    if (rc == WEIR_OK) {
        struct weir_parquet_reader_options reading = {.pool = pool};
        rc = weir_parquet_reader_open_memory(&reader, file.data, file.size, &reading, &err);
        rc = rc != 0 ? rc : weir_parquet_reader_next(reader, &again, &err);
        if (rc != WEIR_OK && rc != WEIR_E_LIMIT) {
            __builtin_trap();
        }
        for (int32_t row = 0; again != NULL && row < batch->rows; row++) {
            for (int32_t c = 0; c < batch->column_count; c++) {
                if (!weir_column_value_equal(&batch->columns[c], row, &again->columns[c], row)) {
                    __builtin_trap();
                }
            }
        }
    }
    weir_batch_unref(again);
    weir_parquet_reader_close(reader);
    weir_parquet_writer_destroy(writer);
    weir_buffer_fini(&file);
}

/* What the footer says, and a first batch from each of a few row groups. */
static void look_around(struct weir_parquet_reader *reader, struct weir_pool *pool,
                        unsigned choice) {
    struct weir_error err = {0};
    int32_t nodes;
    (void)weir_parquet_reader_nodes(reader, &nodes);
    (void)weir_parquet_reader_rows(reader);
    (void)weir_parquet_reader_created_by(reader);
    (void)weir_parquet_reader_metadata(reader, "ARROW:schema");
    int32_t groups = weir_parquet_reader_row_groups(reader);
    for (int32_t group = 0; group <= groups && group < 8; group++) {
        struct weir_batch *batch = NULL;
        if (group < groups && weir_parquet_reader_row_group_rows(reader, group) < 0) {
            __builtin_trap();
        }
        if (weir_parquet_reader_seek(reader, group, &err) == WEIR_OK &&
            weir_parquet_reader_next(reader, &batch, &err) == WEIR_OK && batch != NULL) {
            write_and_compare(batch, pool, choice);
            weir_batch_unref(batch);
        }
    }
}

/* Rows left out by whatever bounds the file claims: against a value of the file, or any bytes. */
static void read_pruned(struct weir_parquet_reader *reader, const uint8_t *bytes, size_t size) {
    struct weir_error err = {0};
    struct weir_batch *batch = NULL;
    if (weir_parquet_reader_seek(reader, 0, &err) != WEIR_OK ||
        weir_parquet_reader_next(reader, &batch, &err) != WEIR_OK) {
        batch = NULL;
    }
    const struct weir_schema *schema = weir_parquet_reader_schema(reader);
    int32_t nodes = 0;
    (void)weir_parquet_reader_nodes(reader, &nodes);
    uint8_t literal[16] = {0};
    memcpy(literal, bytes + size / 3, size / 3 < sizeof(literal) ? size / 3 : sizeof(literal));
    for (int32_t c = 0; c < schema->count && c < 16; c++) {
        uint8_t type = schema->fields[c].type;
        if (weir_parquet_reader_column_node(reader, c) >= nodes) {
            __builtin_trap();
        }
        size_t width =
            type == WEIR_TYPE_BOOL || weir_type_is_nested(type) ? 1 : (size_t)weir_type_width(type);
        struct weir_parquet_predicate predicate = {
            .column = c,
            .op = (enum weir_parquet_op)((bytes[size / 2] + (unsigned)c) %
                                         (WEIR_PARQUET_NOT_NULL + 1)),
            .value = literal,
            .size = weir_type_is_bytes(type) ? bytes[size - 1] % sizeof(literal) : width};
        const struct weir_column *column = batch != NULL ? &batch->columns[c] : NULL;
        if (column != NULL && weir_type_is_bytes(type)) {
            int32_t length;
            predicate.value = weir_column_bytes(column, batch->rows / 2, &length);
            predicate.size = (size_t)length;
        } else if (column != NULL && width > 1) {
            predicate.value = (const uint8_t *)column->values + (size_t)(batch->rows / 2) * width;
        }
        if (weir_parquet_reader_prune(reader, &predicate, 1, &err) == WEIR_OK) {
            read_all(reader);
        }
    }
    weir_batch_unref(batch);
    if (weir_parquet_reader_prune(reader, NULL, 0, &err) != WEIR_OK) {
        __builtin_trap();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct weir_error err = {0};
    /* one input in eight under tight memory: caps are refusals, never crashes or leaks */
    bool tight = size % 8 == 7;
    struct weir_pool *pool = weir_pool_create(tight ? size * 2 : POOL_BYTES);
    struct weir_parquet_reader_options options = {.pool = pool,
                                                  .batch_rows = size % 16 < 8 ? 1000 : 20,
                                                  .memory_bytes = tight ? size : READER_BYTES,
                                                  .ignore_crc = size % 2 == 0};
    struct weir_parquet_reader *reader = NULL;
    if (weir_parquet_reader_open_memory(&reader, bytes, size, &options, &err) == WEIR_OK) {
        read_all(reader);
        look_around(reader, pool, size > 100 ? bytes[size / 2] : 0);
        read_pruned(reader, bytes, size);
        /* again by columns: damage in one must not hide the others */
        int32_t columns = weir_parquet_reader_schema(reader)->count;
        for (int32_t c = 0; c < columns && c < 16; c++) {
            if (weir_parquet_reader_select(reader, &c, 1, &err) == WEIR_OK) {
                read_all(reader);
            }
        }
        weir_parquet_reader_close(reader);
    }
    struct view view = {bytes, size};
    if (weir_parquet_reader_open(&reader, read_view, &view, size, &options, &err) == WEIR_OK) {
        read_all(reader);
        weir_parquet_reader_close(reader);
    }
    if (weir_pool_used_bytes(pool) != 0) {
        __builtin_trap(); /* a batch was lost */
    }
    weir_pool_destroy(pool);
    return 0;
}
