/* Parquet append on one core: nine columns of a retail event (sequential time and id, two skewed
 * keys, price, quantity, unique text, flag, country) as batches of 4096 rows, written with zstd 1
 * and snappy, beside raw zstd 1 of the same column bytes as the floor; then read back. CPU time.
 * bench_parquet [rows, default 2000000] [repetitions, default 3] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zstd.h>

#include "batch/builder.h"
#include "lake/parquet/reader.h"
#include "lake/parquet/writer.h"

enum { COLUMNS = 9, DISTINCT_BATCHES = 256 };

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

static double cpu(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static uint64_t draw(uint64_t *seed) {
    uint64_t z = *seed += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static struct weir_schema *make_schema(void) {
    static const char *const columns[COLUMNS][2] = {
        {"event_time", "timestamp"}, {"id", "int64"},      {"key", "string"},
        {"sku", "string"},           {"amount", "double"}, {"qty", "int32"},
        {"note", "string"},          {"flag", "bool"},     {"country", "string"}};
    struct weir_schema *schema = weir_schema_create();
    for (int i = 0; schema != NULL && i < COLUMNS; i++) {
        if (weir_schema_add_text(schema, columns[i][0], columns[i][1], true, NULL) != 0) {
            return NULL;
        }
    }
    return schema;
}

static int add_row(struct weir_column_builder *c, uint64_t *seed, int64_t row, int64_t *time_us) {
    static const char *const words[] = {"paid",  "card",   "online", "store",  "refund", "gift",
                                        "promo", "return", "member", "weekly", "sunday", "queue"};
    char text[128];
    uint64_t r = draw(seed);
    *time_us += (int64_t)(r % 2000);
    int rc = weir_builder_int(&c[0], *time_us);
    rc |= weir_builder_int(&c[1], row);
    rc |= weir_builder_bytes(
        &c[2], text,
        (size_t)snprintf(text, sizeof(text), "customer-%05d", (int)(r >> 11) % 16000 & 16383));
    rc |= weir_builder_bytes(&c[3], text,
                             (size_t)snprintf(text, sizeof(text), "SKU-%06d",
                                              (int)((r >> 25) % 100 * (r >> 32 & 15) % 1000)));
    rc |= weir_builder_double(&c[4], (double)(draw(seed) % 1000000) / 100.0);
    rc |= weir_builder_int(&c[5], (int64_t)(r >> 40) % 10 + 1);
    uint64_t w = draw(seed);
    size_t n = (size_t)snprintf(text, sizeof(text), "%s %s %s order %08x", words[w % 12],
                                words[w >> 8 & 7], words[(w >> 16) % 12], (unsigned)(w >> 32));
    rc |= weir_builder_bytes(&c[6], text, n);
    rc |= weir_builder_bool(&c[7], r >> 60 == 0);
    static const char *const countries[] = {"DE", "FR", "NL", "PL", "IT", "ES", "AT", "SE"};
    rc |= weir_builder_bytes(&c[8], countries[(r >> 50) % 8], 2);
    return rc;
}

static struct weir_batch *make_batch(struct weir_batch_builder *builder, uint64_t *seed,
                                     int64_t *row, int64_t *time_us) {
    int rc = weir_batch_builder_begin(builder);
    for (int i = 0; i < WEIR_BATCH_ROWS_MAX && rc == 0; i++) {
        rc = add_row(builder->columns, seed, (*row)++, time_us);
        weir_batch_builder_finish_row(builder);
    }
    return rc == 0 ? weir_batch_builder_take(builder) : NULL;
}

/* The floor: the bytes of every column through zstd 1, a page's worth at a time. */
static double raw_zstd(struct weir_batch **batches, int count, size_t *packed) {
    ZSTD_CCtx *context = ZSTD_createCCtx();
    size_t capacity = ZSTD_compressBound(16 << 20);
    uint8_t *to = malloc(capacity);
    uint8_t *page = malloc(16 << 20);
    double start = cpu();
    *packed = 0;
    for (int c = 0; c < COLUMNS; c++) {
        for (int i = 0; i < count; i += 8) {
            size_t size = 0;
            for (int j = i; j < i + 8 && j < count; j++) {
                const struct weir_column *column = &batches[j % DISTINCT_BATCHES]->columns[c];
                size_t bytes = column->offsets != NULL ? (size_t)column->offsets[column->length]
                               : column->type == WEIR_TYPE_BOOL
                                   ? (size_t)column->length / 8
                                   : (size_t)column->length * (size_t)weir_type_width(column->type);
                memcpy(page + size, column->values, bytes);
                size += bytes;
                if (column->offsets != NULL) {
                    memcpy(page + size, column->offsets, (size_t)column->length * 4);
                    size += (size_t)column->length * 4;
                }
            }
            *packed += ZSTD_compressCCtx(context, to, capacity, page, size, 1);
        }
    }
    double seconds = cpu() - start;
    ZSTD_freeCCtx(context);
    free(to);
    free(page);
    return seconds;
}

static double write_file(struct weir_parquet_writer *writer, struct weir_batch **batches, int count,
                         const int32_t *sel, int32_t selected, struct file *file) {
    struct weir_error err = {0};
    file->size = 0;
    double start = cpu();
    int rc = weir_parquet_writer_open(writer, keep, file, &err);
    for (int i = 0; i < count && rc == 0; i++) {
        const struct weir_batch *batch = batches[i % DISTINCT_BATCHES];
        rc = weir_parquet_writer_append(writer, batch, sel, sel != NULL ? selected : batch->rows,
                                        &err);
    }
    rc = rc != 0 ? rc : weir_parquet_writer_finish(writer, NULL, &err);
    if (rc != 0) {
        fprintf(stderr, "bench_parquet: %s\n", err.message);
        exit(1);
    }
    return cpu() - start;
}

static double read_file(struct weir_pool *pool, const struct file *file, int64_t *rows) {
    struct weir_error err = {0};
    struct weir_parquet_reader_options options = {.pool = pool};
    struct weir_parquet_reader *reader = NULL;
    double start = cpu();
    int rc = weir_parquet_reader_open_memory(&reader, file->bytes, file->size, &options, &err);
    *rows = 0;
    for (struct weir_batch *batch = NULL; rc == 0;) {
        rc = weir_parquet_reader_next(reader, &batch, &err);
        if (batch == NULL) {
            break;
        }
        *rows += batch->rows;
        weir_batch_unref(batch);
    }
    if (rc != 0) {
        fprintf(stderr, "bench_parquet: %s\n", err.message);
        exit(1);
    }
    weir_parquet_reader_close(reader);
    return cpu() - start;
}

static double least(double a, double b) {
    return a < b ? a : b;
}

int main(int argc, char **argv) {
    int64_t rows = argc > 1 ? atoll(argv[1]) : 2000000;
    int repetitions = argc > 2 ? atoi(argv[2]) : 3;
    int count = (int)(rows / WEIR_BATCH_ROWS_MAX);
    int distinct = count < DISTINCT_BATCHES ? count : DISTINCT_BATCHES;
    if (count < 1) {
        fprintf(stderr, "bench_parquet: at least %d rows\n", WEIR_BATCH_ROWS_MAX);
        return 1;
    }
    rows = (int64_t)count * WEIR_BATCH_ROWS_MAX;
    struct weir_pool *pool = weir_pool_create((size_t)2 << 30);
    struct weir_schema *schema = make_schema();
    struct weir_batch_builder builder;
    if (schema == NULL ||
        weir_batch_builder_init(&builder, pool, schema, WEIR_BATCH_ROWS_MAX, 1 << 20, NULL) != 0) {
        return 1;
    }
    struct weir_batch *batches[DISTINCT_BATCHES];
    uint64_t seed = 42;
    int64_t row = 0;
    int64_t time_us = 1700000000000000;
    size_t bytes = 0;
    for (int i = 0; i < distinct; i++) {
        batches[i] = make_batch(&builder, &seed, &row, &time_us);
        if (batches[i] == NULL) {
            return 1;
        }
        bytes += weir_batch_bytes(batches[i]);
    }
    double millions = (double)rows / 1e6;
    double input_mb = (double)bytes / distinct * count / 1e6;
    size_t packed = 0;
    double floor_s = 1e9;
    for (int i = 0; i < repetitions; i++) {
        floor_s = least(floor_s, raw_zstd(batches, count, &packed));
    }
    printf("parquet raw zstd-1 floor      %6.2f M rows/s  %7.1f MB of %.0f MB\n",
           millions / floor_s, (double)packed / 1e6, input_mb);
    int32_t sel[WEIR_BATCH_ROWS_MAX];
    int32_t selected = 0;
    for (int32_t i = 0; i < WEIR_BATCH_ROWS_MAX; i++) {
        if (i % 10 != 3) {
            sel[selected++] = i;
        }
    }
    static const struct {
        const char *name;
        enum weir_parquet_codec codec;
        int selection;
    } runs[] = {{"append zstd-1", WEIR_PARQUET_ZSTD, 0},
                {"append zstd-1 90 % selected", WEIR_PARQUET_ZSTD, 1},
                {"append snappy", WEIR_PARQUET_SNAPPY, 0},
                {"append uncompressed", WEIR_PARQUET_NONE, 0}};
    struct file file = {0};
    struct weir_error err = {0};
    for (size_t r = 0; r < sizeof(runs) / sizeof(runs[0]); r++) {
        struct weir_parquet_writer_options options;
        weir_parquet_writer_options_init(&options);
        options.codec = runs[r].codec;
        struct weir_parquet_writer *writer = NULL;
        if (weir_parquet_writer_create(&writer, schema, &options, &err) != 0) {
            fprintf(stderr, "bench_parquet: %s\n", err.message);
            return 1;
        }
        double seconds = 1e9;
        for (int i = 0; i < repetitions; i++) {
            seconds = least(seconds, write_file(writer, batches, count,
                                                runs[r].selection ? sel : NULL, selected, &file));
        }
        double written = runs[r].selection ? millions * selected / WEIR_BATCH_ROWS_MAX : millions;
        printf("parquet %-27s %5.2f M rows/s  %7.1f MB, %.0f MB held\n", runs[r].name,
               written / seconds, (double)file.size / 1e6,
               (double)weir_parquet_writer_memory(writer) / 1e6);
        if (r == 0) {
            double read_s = 1e9;
            int64_t got = 0;
            for (int i = 0; i < repetitions; i++) {
                read_s = least(read_s, read_file(pool, &file, &got));
            }
            printf("parquet read zstd-1           %6.2f M rows/s  %lld rows\n", millions / read_s,
                   (long long)got);
        }
        weir_parquet_writer_destroy(writer);
    }
    free(file.bytes);
    for (int i = 0; i < distinct; i++) {
        weir_batch_unref(batches[i]);
    }
    weir_batch_builder_fini(&builder);
    weir_schema_unref(schema);
    weir_pool_destroy(pool);
    return 0;
}
