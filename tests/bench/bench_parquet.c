/* Parquet on one core: the rows of sale_batches.h written with each codec, beside raw zstd 1 of the
 * same column bytes as the floor; read back whole and three columns of nine; then column by column.
 * CPU time.
 *   bench_parquet [ROWS, default 5000000] [REPETITIONS, default 3] [FILE: left there, plain] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "lake/parquet/reader.h"
#include "lake/parquet/writer.h"
#include "sale_batches.h"

enum { COLUMNS = SALE_COLUMNS, DISTINCT_BATCHES = SALE_DISTINCT_BATCHES };

struct file {
    uint8_t *bytes;
    size_t size;
    size_t capacity;
};

static int keep(void *ctx, const void *bytes, size_t size, struct weir_error *err) {
    struct file *file = ctx;
    if (file->size + size > file->capacity) {
        file->capacity = (file->size + size) * 2;
        file->bytes = realloc(file->bytes, file->capacity);
        if (file->bytes == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "bench file");
        }
    }
    memcpy(file->bytes + file->size, bytes, size);
    file->size += size;
    return WEIR_OK;
}

/* The floor: the bytes of every column through zstd 1, a page's worth at a time. */
static double raw_zstd(struct weir_batch **batches, int count, size_t *packed) {
    ZSTD_CCtx *context = ZSTD_createCCtx();
    size_t capacity = ZSTD_compressBound(16 << 20);
    uint8_t *to = malloc(capacity);
    uint8_t *page = malloc(16 << 20);
    double start = sale_cpu();
    *packed = 0;
    for (int c = 0; c < COLUMNS; c++) {
        for (int i = 0; i < count; i += 8) {
            size_t size = 0;
            for (int j = i; j < i + 8 && j < count; j++) {
                const struct weir_column *column = &batches[j % DISTINCT_BATCHES]->columns[c];
                size += sale_copy_column(column, page + size);
            }
            *packed += ZSTD_compressCCtx(context, to, capacity, page, size, 1);
        }
    }
    double seconds = sale_cpu() - start;
    ZSTD_freeCCtx(context);
    free(to);
    free(page);
    return seconds;
}

static int write_file(struct weir_parquet_writer *writer, struct weir_batch **batches, int count,
                      const int32_t *sel, int32_t selected, struct file *file,
                      struct weir_error *err) {
    file->size = 0;
    int rc = weir_parquet_writer_open(writer, keep, file, err);
    for (int i = 0; i < count && rc == WEIR_OK; i++) {
        const struct weir_batch *batch = batches[i % DISTINCT_BATCHES];
        rc = weir_parquet_writer_append(writer, batch, sel, sel != NULL ? selected : batch->rows,
                                        err);
    }
    return rc != WEIR_OK ? rc : weir_parquet_writer_finish(writer, NULL, err);
}

struct input {
    struct weir_pool *pool;
    struct weir_schema *schema;
    struct weir_batch *batches[DISTINCT_BATCHES];
    int count;
    int repetitions;
    struct file file;
};

/* Writes `repetitions` times; seconds of the best, or below 0. */
static double time_writes(struct input *in, const struct weir_parquet_writer_options *options,
                          const int32_t *sel, int32_t selected, int64_t *held,
                          struct weir_error *err) {
    struct weir_parquet_writer *writer = NULL;
    double best = 1e9;
    int rc = weir_parquet_writer_create(&writer, in->schema, options, err);
    for (int i = 0; i < in->repetitions && rc == WEIR_OK; i++) {
        double start = sale_cpu();
        rc = write_file(writer, in->batches, in->count, sel, selected, &in->file, err);
        best = sale_least(best, sale_cpu() - start);
    }
    *held = rc == WEIR_OK ? weir_parquet_writer_memory(writer) : 0;
    weir_parquet_writer_destroy(writer);
    return rc == WEIR_OK ? best : -1;
}

static int read_file(struct input *in, const int32_t *columns, int32_t count, int64_t *rows,
                     struct weir_error *err) {
    struct weir_parquet_reader_options options = {.pool = in->pool};
    struct weir_parquet_reader *reader = NULL;
    int rc = weir_parquet_reader_open_memory(&reader, in->file.bytes, in->file.size, &options, err);
    if (rc == WEIR_OK && columns != NULL) {
        rc = weir_parquet_reader_select(reader, columns, count, err);
    }
    *rows = 0;
    for (struct weir_batch *batch = NULL; rc == WEIR_OK;) {
        rc = weir_parquet_reader_next(reader, &batch, err);
        if (batch == NULL) {
            break;
        }
        *rows += batch->rows;
        weir_batch_unref(batch);
    }
    weir_parquet_reader_close(reader);
    return rc;
}

static int report_read(struct input *in, const char *name, const int32_t *columns, int32_t count,
                       struct weir_error *err) {
    double best = 1e9;
    int64_t rows = 0;
    int rc = WEIR_OK;
    for (int i = 0; i < in->repetitions && rc == WEIR_OK; i++) {
        double start = sale_cpu();
        rc = read_file(in, columns, count, &rows, err);
        best = sale_least(best, sale_cpu() - start);
    }
    if (rc == WEIR_OK) {
        printf("parquet %-27s %6.2f M rows/s\n", name, (double)rows / best / 1e6);
    }
    return rc;
}

static int report_writes(struct input *in, struct weir_error *err) {
    static const struct {
        const char *name;
        enum weir_parquet_codec codec;
        bool selection;
    } runs[] = {{"append uncompressed", WEIR_PARQUET_NONE, false},
                {"append snappy", WEIR_PARQUET_SNAPPY, false},
                {"append zstd-1 90 % selected", WEIR_PARQUET_ZSTD, true},
                {"append zstd-1", WEIR_PARQUET_ZSTD, false}};
    int32_t sel[WEIR_BATCH_ROWS_MAX];
    int32_t selected = 0;
    for (int32_t i = 0; i < WEIR_BATCH_ROWS_MAX; i++) {
        if (i % 10 != 3) {
            sel[selected++] = i;
        }
    }
    double millions = (double)in->count * WEIR_BATCH_ROWS_MAX / 1e6;
    for (size_t r = 0; r < sizeof(runs) / sizeof(runs[0]); r++) {
        struct weir_parquet_writer_options options;
        weir_parquet_writer_options_init(&options);
        options.codec = runs[r].codec;
        int64_t held;
        double seconds =
            time_writes(in, &options, runs[r].selection ? sel : NULL, selected, &held, err);
        if (seconds < 0) {
            return WEIR_E_IO;
        }
        double written = runs[r].selection ? millions * selected / WEIR_BATCH_ROWS_MAX : millions;
        printf("parquet %-27s %6.2f M rows/s  %7.1f MB, %.0f MB held\n", runs[r].name,
               written / seconds, (double)in->file.size / 1e6, (double)held / 1e6);
    }
    return WEIR_OK;
}

/* Each column as a file of its own: where the time and the bytes go. */
static int report_columns(struct input *in, struct weir_error *err) {
    for (int c = 0; c < COLUMNS; c++) {
        bool excluded[COLUMNS];
        for (int i = 0; i < COLUMNS; i++) {
            excluded[i] = i != c;
        }
        struct weir_parquet_writer_options options;
        weir_parquet_writer_options_init(&options);
        options.excluded = excluded;
        int64_t held;
        double write_s = time_writes(in, &options, NULL, 0, &held, err);
        double read_s = 1e9;
        int64_t rows = 0;
        int rc = write_s < 0 ? WEIR_E_IO : WEIR_OK;
        for (int i = 0; i < in->repetitions && rc == WEIR_OK; i++) {
            double start = sale_cpu();
            rc = read_file(in, NULL, 0, &rows, err);
            read_s = sale_least(read_s, sale_cpu() - start);
        }
        if (rc != WEIR_OK) {
            return rc;
        }
        printf("parquet column %-20s %6.1f ns a row written, %5.1f read, %6.2f MB\n",
               sale_columns[c][0], write_s / (double)rows * 1e9, read_s / (double)rows * 1e9,
               (double)in->file.size / 1e6);
    }
    return WEIR_OK;
}

/* The rows for other writers to try: without compression or encodings to undo. */
static int leave_file(struct input *in, const char *path, struct weir_error *err) {
    struct weir_parquet_writer_options options;
    weir_parquet_writer_options_init(&options);
    options.codec = WEIR_PARQUET_NONE;
    int repetitions = in->repetitions;
    int64_t held;
    in->repetitions = 1;
    double seconds = time_writes(in, &options, NULL, 0, &held, err);
    in->repetitions = repetitions;
    FILE *to = seconds < 0 ? NULL : fopen(path, "wb");
    bool good = to != NULL && fwrite(in->file.bytes, 1, in->file.size, to) == in->file.size;
    good = to != NULL && fclose(to) == 0 && good;
    return good ? WEIR_OK : weir_error_set(err, WEIR_E_IO, "%s cannot be written", path);
}

int main(int argc, char **argv) {
    static const int32_t three[] = {1, 5, 8}; /* id, qty, country */
    struct input in = {.repetitions = argc > 2 ? atoi(argv[2]) : 3};
    in.count = (int)((argc > 1 ? atoll(argv[1]) : 5000000) / WEIR_BATCH_ROWS_MAX);
    int distinct = in.count < DISTINCT_BATCHES ? in.count : DISTINCT_BATCHES;
    in.pool = weir_pool_create((size_t)2 << 30);
    in.schema = sale_schema();
    struct weir_error err = {0};
    if (in.count < 1 || in.pool == NULL || in.schema == NULL ||
        !sale_batches(in.pool, in.schema, in.batches, distinct)) {
        fprintf(stderr, "bench_parquet: at least %d rows\n", WEIR_BATCH_ROWS_MAX);
        return 1;
    }
    int rc = argc > 3 ? leave_file(&in, argv[3], &err) : WEIR_OK;
    size_t packed = 0;
    double floor_s = 1e9;
    for (int i = 0; i < in.repetitions && rc == WEIR_OK; i++) {
        floor_s = sale_least(floor_s, raw_zstd(in.batches, in.count, &packed));
    }
    printf("parquet floor: raw zstd-1           %6.2f M rows/s  %7.1f MB\n",
           (double)in.count * WEIR_BATCH_ROWS_MAX / 1e6 / floor_s, (double)packed / 1e6);
    rc = rc == WEIR_OK ? report_writes(&in, &err) : rc;
    rc = rc == WEIR_OK ? report_read(&in, "read zstd-1", NULL, 0, &err) : rc;
    rc = rc == WEIR_OK ? report_read(&in, "read zstd-1, 3 columns of 9", three, 3, &err) : rc;
    rc = rc == WEIR_OK ? report_columns(&in, &err) : rc;
    if (rc != WEIR_OK) {
        fprintf(stderr, "bench_parquet: %s\n", err.message);
    }
    free(in.file.bytes);
    for (int i = 0; i < distinct; i++) {
        weir_batch_unref(in.batches[i]);
    }
    weir_schema_unref(in.schema);
    weir_pool_destroy(in.pool);
    return rc != WEIR_OK;
}
