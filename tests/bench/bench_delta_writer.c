/* The whole append path on one core: batches of 4096 rows with a selection through
 * weir_delta_writer to synced Parquet files and their adds, beside zstd 1 alone and memcpy over the
 * same bytes. Nine columns: sequential time and id, two keys of 16 thousand and 10 thousand values,
 * an amount in random cents, a quantity, a unique text, a flag, a country. CPU time.
 *   bench_delta_writer [ROWS] [REPETITIONS] [FOLDER] */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <zstd.h>

#include "batch/builder.h"
#include "core/clock.h"
#include "lake/delta/writer.h"

enum { COLUMNS = 9, DISTINCT_BATCHES = 256, PAGE_BATCHES = 8 };

static double cpu(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double least(double a, double b) {
    return a < b ? a : b;
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
        if (weir_schema_add_text(schema, columns[i][0], columns[i][1], true, NULL) != WEIR_OK) {
            return NULL;
        }
    }
    return schema;
}

static int add_text(struct weir_column_builder *column, const char *prefix, int digits, int n) {
    char text[64];
    int size = snprintf(text, sizeof(text), "%s%0*d", prefix, digits, n);
    return weir_builder_bytes(column, text, (size_t)size);
}

static int add_row(struct weir_column_builder *c, uint64_t *seed, int64_t row, int64_t *time_us) {
    static const char *const countries[] = {"DE", "FR", "NL", "PL", "IT", "ES", "AT",
                                            "SE", "BE", "CZ", "DK", "FI", "GR", "HU",
                                            "IE", "LT", "LV", "PT", "RO", "SK"};
    char note[64];
    uint64_t r = draw(seed);
    uint64_t skewed = (r >> 14 & 1023) * (r >> 24 & 1023);
    *time_us += (int64_t)(r >> 34 & 8191);
    int rc = weir_builder_int(&c[0], *time_us);
    rc |= weir_builder_int(&c[1], row);
    rc |= add_text(&c[2], "cust-", 7, (int)(r & 16383));
    rc |= add_text(&c[3], "SKU-", 5, (int)(skewed / 105));
    rc |= weir_builder_double(&c[4], (double)(draw(seed) % 1000000) / 100.0);
    rc |= weir_builder_int(&c[5], (int64_t)(r >> 47) % 12);
    int size = snprintf(note, sizeof(note), "note %07lld %016llx", (long long)row,
                        (unsigned long long)draw(seed));
    rc |= weir_builder_bytes(&c[6], note, (size_t)size);
    rc |= weir_builder_bool(&c[7], r >> 58 == 0);
    return rc | weir_builder_bytes(&c[8], countries[(r >> 50) % 20], 2);
}

static struct weir_batch *make_batch(struct weir_batch_builder *builder, uint64_t *seed,
                                     int64_t *row, int64_t *time_us) {
    int rc = weir_batch_builder_begin(builder);
    for (int i = 0; i < WEIR_BATCH_ROWS_MAX && rc == WEIR_OK; i++) {
        rc = add_row(builder->columns, seed, (*row)++, time_us);
        weir_batch_builder_finish_row(builder);
    }
    return rc == WEIR_OK ? weir_batch_builder_take(builder) : NULL;
}

static size_t copy_column(const struct weir_column *column, uint8_t *to) {
    size_t bytes = column->offsets != NULL ? (size_t)column->offsets[column->length]
                   : column->type == WEIR_TYPE_BOOL
                       ? (size_t)column->length / 8
                       : (size_t)column->length * (size_t)weir_type_width(column->type);
    memcpy(to, column->values, bytes);
    if (column->offsets != NULL) {
        memcpy(to + bytes, column->offsets, (size_t)column->length * sizeof(int32_t));
        bytes += (size_t)column->length * sizeof(int32_t);
    }
    return bytes;
}

/* The floors: all column bytes copied, and, when `context` is given, through zstd 1 by pages. */
static double raw(struct weir_batch **batches, int count, ZSTD_CCtx *context, size_t *bytes) {
    size_t page_bytes = (size_t)8 << 20;
    size_t bound = ZSTD_compressBound(page_bytes);
    uint8_t *page = malloc(page_bytes);
    uint8_t *packed = malloc(bound);
    if (page == NULL || packed == NULL) {
        exit(1);
    }
    double start = cpu();
    *bytes = 0;
    for (int c = 0; c < COLUMNS; c++) {
        for (int i = 0; i < count; i += PAGE_BATCHES) {
            size_t size = 0;
            for (int j = i; j < i + PAGE_BATCHES && j < count; j++) {
                size += copy_column(&batches[j % DISTINCT_BATCHES]->columns[c], page + size);
            }
            *bytes +=
                context != NULL ? ZSTD_compressCCtx(context, packed, bound, page, size, 1) : size;
        }
    }
    double seconds = cpu() - start;
    free(page);
    free(packed);
    return seconds;
}

struct outcome {
    double cpu_s;
    double wall_s;
    int64_t bytes;
    int32_t files;
};

static int write_table(struct weir_delta_writer *writer, struct weir_batch **batches, int count,
                       const int32_t *sel, int32_t selected, struct outcome *out,
                       struct weir_error *err) {
    struct weir_delta_adds adds = {NULL, 0, 0};
    double start = cpu();
    int64_t wall = weir_clock_mono_ns();
    int rc = WEIR_OK;
    for (int i = 0; i < count && rc == WEIR_OK; i++) {
        struct weir_batch *batch = batches[i % DISTINCT_BATCHES];
        rc =
            weir_delta_writer_append(writer, batch, sel, sel != NULL ? selected : batch->rows, err);
    }
    rc = rc == WEIR_OK ? weir_delta_writer_seal(writer, &adds, err) : rc;
    out->cpu_s = least(out->cpu_s, cpu() - start);
    out->wall_s = least(out->wall_s, (double)(weir_clock_mono_ns() - wall) * 1e-9);
    out->bytes = 0;
    out->files = adds.count;
    for (int32_t i = 0; i < adds.count; i++) {
        out->bytes += adds.items[i]->size_bytes;
    }
    weir_delta_adds_fini(&adds);
    return rc;
}

static int compare(struct weir_store *store, struct weir_schema *schema,
                   struct weir_batch **batches, int count, int repetitions,
                   struct weir_error *err) {
    static const struct {
        const char *name;
        enum weir_delta_codec codec;
        int32_t every; /* of so many rows one is left out; 0: no selection */
    } runs[] = {{"zstd-1", WEIR_DELTA_CODEC_ZSTD, 0},
                {"zstd-1, 90 % selected", WEIR_DELTA_CODEC_ZSTD, 10},
                {"snappy", WEIR_DELTA_CODEC_SNAPPY, 0},
                {"uncompressed", WEIR_DELTA_CODEC_NONE, 0}};
    const struct weir_delta_create_options options = {.schema = schema};
    struct weir_delta_table *table = NULL;
    int32_t sel[WEIR_BATCH_ROWS_MAX];
    int rc = weir_delta_table_create(store, "t", &options, &table, err);
    for (size_t r = 0; r < sizeof(runs) / sizeof(runs[0]) && rc == WEIR_OK; r++) {
        const struct weir_delta_writer_options how = {.codec = runs[r].codec};
        struct weir_delta_writer *writer = NULL;
        struct outcome best = {1e9, 1e9, 0, 0};
        int32_t selected = 0;
        for (int32_t i = 0; i < WEIR_BATCH_ROWS_MAX; i++) {
            if (runs[r].every == 0 || i % runs[r].every != 3) {
                sel[selected++] = i;
            }
        }
        rc = weir_delta_writer_create(table, schema, NULL, 0, &how, &writer, err);
        for (int i = 0; i < repetitions && rc == WEIR_OK; i++) {
            rc = write_table(writer, batches, count, runs[r].every > 0 ? sel : NULL, selected,
                             &best, err);
        }
        if (rc == WEIR_OK) {
            double millions = (double)count * selected / 1e6;
            printf("delta writer %-22s %6.2f M rows/s of CPU, %6.2f of wall, %d files of %.1f MB, "
                   "%.0f MB held\n",
                   runs[r].name, millions / best.cpu_s, millions / best.wall_s, best.files,
                   (double)best.bytes / 1e6, (double)weir_delta_writer_memory(writer) / 1e6);
        }
        weir_delta_writer_destroy(writer);
    }
    weir_delta_table_close(table);
    return rc;
}

int main(int argc, char **argv) {
    int count = (int)((argc > 1 ? atoll(argv[1]) : 5000000) / WEIR_BATCH_ROWS_MAX);
    int repetitions = argc > 2 ? atoi(argv[2]) : 3;
    struct weir_pool *pool = weir_pool_create((size_t)1 << 30);
    struct weir_schema *schema = make_schema();
    struct weir_batch_builder builder;
    struct weir_batch *batches[DISTINCT_BATCHES];
    struct weir_store *store = NULL;
    struct weir_error err = {0};
    char root[256];
    char command[300];
    snprintf(root, sizeof(root), "%s/weir-bench-XXXXXX", argc > 3 ? argv[3] : "/tmp");
    int distinct = count < DISTINCT_BATCHES ? count : DISTINCT_BATCHES;
    if (count < 1 || repetitions < 1 || pool == NULL || schema == NULL || mkdtemp(root) == NULL ||
        weir_batch_builder_init(&builder, pool, schema, WEIR_BATCH_ROWS_MAX, 1 << 20, NULL) !=
            WEIR_OK) {
        fprintf(stderr, "bench_delta_writer: at least %d rows, and a writable folder\n",
                WEIR_BATCH_ROWS_MAX);
        return 1;
    }
    uint64_t seed = 42;
    int64_t row = 0;
    int64_t time_us = 1700000000000000;
    for (int i = 0; i < distinct; i++) {
        batches[i] = make_batch(&builder, &seed, &row, &time_us);
        if (batches[i] == NULL) {
            return 1;
        }
    }
    double millions = (double)count * WEIR_BATCH_ROWS_MAX / 1e6;
    double copy_s = 1e9;
    double zstd_s = 1e9;
    size_t bytes = 0;
    size_t packed = 0;
    ZSTD_CCtx *context = ZSTD_createCCtx();
    for (int i = 0; i < repetitions; i++) {
        copy_s = least(copy_s, raw(batches, count, NULL, &bytes));
        zstd_s = least(zstd_s, raw(batches, count, context, &packed));
    }
    ZSTD_freeCCtx(context);
    printf("delta floor memcpy                  %6.2f M rows/s of CPU, %.0f MB\n",
           millions / copy_s, (double)bytes / 1e6);
    printf("delta floor raw zstd-1              %6.2f M rows/s of CPU, %.1f MB\n",
           millions / zstd_s, (double)packed / 1e6);
    int rc = weir_store_local_open(root, &store, &err);
    rc = rc == WEIR_OK ? compare(store, schema, batches, count, repetitions, &err) : rc;
    if (rc != WEIR_OK) {
        fprintf(stderr, "bench_delta_writer: %s\n", err.message);
    }
    weir_store_destroy(store);
    for (int i = 0; i < distinct; i++) {
        weir_batch_unref(batches[i]);
    }
    weir_batch_builder_fini(&builder);
    weir_schema_unref(schema);
    weir_pool_destroy(pool);
    snprintf(command, sizeof(command), "rm -rf '%s'", root);
    return system(command) != 0 || rc != WEIR_OK;
}
