/* The whole append path on one core: batches of 4096 rows with a selection through
 * weir_delta_writer to synced Parquet files and their adds, beside the Parquet writer alone, whose
 * bytes go nowhere, turn by turn; zstd 1 alone and memcpy over the same bytes. The rows are those
 * of sale_batches.h. CPU time. bench_delta_writer [ROWS] [REPETITIONS] [FOLDER] */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <zstd.h>

#include "core/clock.h"
#include "lake/delta/writer.h"
#include "lake/parquet/writer.h"
#include "sale_batches.h"

enum { COLUMNS = SALE_COLUMNS, DISTINCT_BATCHES = SALE_DISTINCT_BATCHES, PAGE_BATCHES = 8 };

/* The floors: all column bytes copied, and, when `context` is given, through zstd 1 by pages. */
static double raw(struct weir_batch **batches, int count, ZSTD_CCtx *context, size_t *bytes) {
    size_t page_bytes = (size_t)8 << 20;
    size_t bound = ZSTD_compressBound(page_bytes);
    uint8_t *page = malloc(page_bytes);
    uint8_t *packed = malloc(bound);
    if (page == NULL || packed == NULL) {
        exit(1);
    }
    double start = sale_cpu();
    *bytes = 0;
    for (int c = 0; c < COLUMNS; c++) {
        for (int i = 0; i < count; i += PAGE_BATCHES) {
            size_t size = 0;
            for (int j = i; j < i + PAGE_BATCHES && j < count; j++) {
                size += sale_copy_column(&batches[j % DISTINCT_BATCHES]->columns[c], page + size);
            }
            *bytes +=
                context != NULL ? ZSTD_compressCCtx(context, packed, bound, page, size, 1) : size;
        }
    }
    double seconds = sale_cpu() - start;
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
    double start = sale_cpu();
    int64_t wall = weir_clock_mono_ns();
    int rc = WEIR_OK;
    for (int i = 0; i < count && rc == WEIR_OK; i++) {
        struct weir_batch *batch = batches[i % DISTINCT_BATCHES];
        rc =
            weir_delta_writer_append(writer, batch, sel, sel != NULL ? selected : batch->rows, err);
    }
    rc = rc == WEIR_OK ? weir_delta_writer_seal(writer, &adds, err) : rc;
    out->cpu_s = sale_least(out->cpu_s, sale_cpu() - start);
    out->wall_s = sale_least(out->wall_s, (double)(weir_clock_mono_ns() - wall) * 1e-9);
    out->bytes = 0;
    out->files = adds.count;
    for (int32_t i = 0; i < adds.count; i++) {
        out->bytes += adds.items[i]->size_bytes;
    }
    weir_delta_adds_fini(&adds);
    return rc;
}

static int nowhere(void *context, const void *bytes, size_t size, struct weir_error *err) {
    (void)context;
    (void)bytes;
    (void)size;
    (void)err;
    return WEIR_OK;
}

/* What a table costs beyond its files' bytes is what the two differ by. */
static int write_parquet(struct weir_parquet_writer *writer, struct weir_batch **batches, int count,
                         const int32_t *sel, int32_t selected, double *cpu_s,
                         struct weir_error *err) {
    double start = sale_cpu();
    int rc = weir_parquet_writer_open(writer, nowhere, NULL, err);
    for (int i = 0; i < count && rc == WEIR_OK; i++) {
        struct weir_batch *batch = batches[i % DISTINCT_BATCHES];
        rc = weir_parquet_writer_append(writer, batch, sel, sel != NULL ? selected : batch->rows,
                                        err);
    }
    rc = rc == WEIR_OK ? weir_parquet_writer_finish(writer, NULL, err) : rc;
    *cpu_s = sale_least(*cpu_s, sale_cpu() - start);
    return rc;
}

static int compare(struct weir_store *store, struct weir_schema *schema,
                   struct weir_batch **batches, int count, int repetitions,
                   struct weir_error *err) {
    static const struct {
        const char *name;
        enum weir_delta_codec codec;
        enum weir_parquet_codec bare;
        int32_t every; /* of so many rows one is left out; 0: no selection */
    } runs[] = {{"zstd-1", WEIR_DELTA_CODEC_ZSTD, WEIR_PARQUET_ZSTD, 0},
                {"zstd-1, 90 % selected", WEIR_DELTA_CODEC_ZSTD, WEIR_PARQUET_ZSTD, 10},
                {"snappy", WEIR_DELTA_CODEC_SNAPPY, WEIR_PARQUET_SNAPPY, 0},
                {"uncompressed", WEIR_DELTA_CODEC_NONE, WEIR_PARQUET_NONE, 0}};
    const struct weir_delta_create_options options = {.schema = schema};
    struct weir_delta_table *table = NULL;
    int32_t sel[WEIR_BATCH_ROWS_MAX];
    int rc = weir_delta_table_create(store, "t", &options, &table, err);
    for (size_t r = 0; r < sizeof(runs) / sizeof(runs[0]) && rc == WEIR_OK; r++) {
        const struct weir_delta_writer_options how = {.codec = runs[r].codec};
        struct weir_delta_writer *writer = NULL;
        struct weir_parquet_writer *bare = NULL;
        struct weir_parquet_writer_options bare_how;
        struct outcome best = {1e9, 1e9, 0, 0};
        double bare_s = 1e9;
        int32_t selected = 0;
        for (int32_t i = 0; i < WEIR_BATCH_ROWS_MAX; i++) {
            if (runs[r].every == 0 || i % runs[r].every != 3) {
                sel[selected++] = i;
            }
        }
        weir_parquet_writer_options_init(&bare_how);
        bare_how.codec = runs[r].bare;
        rc = weir_delta_writer_create(table, schema, NULL, 0, &how, &writer, err);
        rc = rc == WEIR_OK ? weir_parquet_writer_create(&bare, schema, &bare_how, err) : rc;
        for (int i = 0; i < repetitions && rc == WEIR_OK; i++) {
            rc = write_parquet(bare, batches, count, runs[r].every > 0 ? sel : NULL, selected,
                               &bare_s, err);
            if (rc != WEIR_OK) {
                break;
            }
            rc = write_table(writer, batches, count, runs[r].every > 0 ? sel : NULL, selected,
                             &best, err);
        }
        if (rc == WEIR_OK) {
            double millions = (double)count * selected / 1e6;
            printf("delta writer %-22s %6.2f M rows/s of CPU, %6.2f of wall, Parquet alone %6.2f; "
                   "%d files of %.1f MB, %.0f MB held\n",
                   runs[r].name, millions / best.cpu_s, millions / best.wall_s, millions / bare_s,
                   best.files, (double)best.bytes / 1e6,
                   (double)weir_delta_writer_memory(writer) / 1e6);
        }
        weir_parquet_writer_destroy(bare);
        weir_delta_writer_destroy(writer);
    }
    weir_delta_table_close(table);
    return rc;
}

int main(int argc, char **argv) {
    int count = (int)((argc > 1 ? atoll(argv[1]) : 5000000) / WEIR_BATCH_ROWS_MAX);
    int repetitions = argc > 2 ? atoi(argv[2]) : 3;
    struct weir_pool *pool = weir_pool_create((size_t)1 << 30);
    struct weir_schema *schema = sale_schema();
    struct weir_batch *batches[DISTINCT_BATCHES];
    struct weir_store *store = NULL;
    struct weir_error err = {0};
    char root[256];
    char command[300];
    snprintf(root, sizeof(root), "%s/weir-bench-XXXXXX", argc > 3 ? argv[3] : "/tmp");
    int distinct = count < DISTINCT_BATCHES ? count : DISTINCT_BATCHES;
    if (count < 1 || repetitions < 1 || pool == NULL || schema == NULL || mkdtemp(root) == NULL ||
        !sale_batches(pool, schema, batches, distinct)) {
        fprintf(stderr, "bench_delta_writer: at least %d rows, and a writable folder\n",
                WEIR_BATCH_ROWS_MAX);
        return 1;
    }
    double millions = (double)count * WEIR_BATCH_ROWS_MAX / 1e6;
    double copy_s = 1e9;
    double zstd_s = 1e9;
    size_t bytes = 0;
    size_t packed = 0;
    ZSTD_CCtx *context = ZSTD_createCCtx();
    for (int i = 0; i < repetitions; i++) {
        copy_s = sale_least(copy_s, raw(batches, count, NULL, &bytes));
        zstd_s = sale_least(zstd_s, raw(batches, count, context, &packed));
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
    weir_schema_unref(schema);
    weir_pool_destroy(pool);
    snprintf(command, sizeof(command), "rm -rf '%s'", root);
    return system(command) != 0 || rc != WEIR_OK;
}
