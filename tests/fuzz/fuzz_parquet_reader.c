/* The Parquet reader on hostile bytes: footer, schema, pages, every encoding, nesting. The input is
 * a whole file. Bounded by a small memory limit and by rows, so that no input runs long. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "lake/parquet/reader.h"

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
    memcpy(bytes, view->bytes + offset, size);
    return WEIR_OK;
}

static void read_all(struct weir_parquet_reader *reader) {
    struct weir_error err = {0};
    struct weir_batch *batch = NULL;
    for (int i = 0; i < BATCHES_MAX; i++) {
        if (weir_parquet_reader_next(reader, &batch, &err) != WEIR_OK || batch == NULL) {
            return;
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

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    struct weir_error err = {0};
    struct weir_pool *pool = weir_pool_create(POOL_BYTES);
    struct weir_parquet_reader_options options = {.pool = pool,
                                                  .batch_rows = 1000,
                                                  .memory_bytes = READER_BYTES,
                                                  .ignore_crc = size % 2 == 0};
    struct weir_parquet_reader *reader = NULL;
    if (weir_parquet_reader_open_memory(&reader, bytes, size, &options, &err) == WEIR_OK) {
        read_all(reader);
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
