/* Rows of a sale to JSON, beside a floor that copies as many bytes a row from ready texts.
 * usage: bench_encode_json [ROUNDS] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "batch/builder.h"
#include "core/pool.h"
#include "sink/encode.h"

enum { ROWS = 4096 };

static const char *const columns[][2] = {
    {"event_id", "string"},     {"store_id", "int32"},    {"sku", "string"},
    {"currency", "string"},     {"qty", "int32"},         {"unit_price", "decimal(10,2)"},
    {"gross", "decimal(12,2)"}, {"loyalty_id", "string"}, {"note", "string"},
    {"sold_at", "timestamp"},   {"weight", "double"},
};

static double cpu_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void must(int rc, const char *what) {
    if (rc != WEIR_OK) {
        fprintf(stderr, "bench_encode_json: %s: %s\n", what, weir_error_name(rc));
        exit(1);
    }
}

static void fill(struct weir_batch_builder *builder) {
    static const char note[] = "lorem ipsum dolor sit amet lorem ipsum dolor sit amet lorem ipsum";
    struct weir_column_builder *at = builder->columns;
    for (int i = 0; i < ROWS; i++) {
        char text[32];
        int length = snprintf(text, sizeof(text), "e-%016d", i);
        must(weir_builder_bytes(&at[0], text, (size_t)length), "event_id");
        must(weir_builder_int(&at[1], 1 + i % 999), "store_id");
        length = snprintf(text, sizeof(text), "S%d", 100 + i % 200);
        must(weir_builder_bytes(&at[2], text, (size_t)length), "sku");
        must(weir_builder_bytes(&at[3], "GBP", 3), "currency");
        must(weir_builder_int(&at[4], 1 + i % 5), "qty");
        must(weir_builder_decimal(&at[5], 1250 + (uint64_t)i, 0), "unit_price");
        must(weir_builder_decimal(&at[6], (1250 + (uint64_t)i) * (1 + i % 5), 0), "gross");
        must(i % 3 == 0 ? weir_builder_null(&at[7]) : weir_builder_bytes(&at[7], "L0012345", 8),
             "loyalty_id");
        must(weir_builder_bytes(&at[8], note, sizeof(note) - 1), "note");
        must(weir_builder_int(&at[9], 1767607200000000 + i * INT64_C(1234)), "sold_at");
        must(weir_builder_double(&at[10], 0.1 * i), "weight");
        weir_batch_builder_finish_row(builder);
    }
}

int main(int argc, char **argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 300;
    enum { COLUMNS = sizeof(columns) / sizeof(columns[0]) };
    bool included[COLUMNS];
    memset(included, 1, sizeof(included));
    struct weir_pool *pool = weir_pool_create((size_t)64 << 20);
    struct weir_schema *schema = weir_schema_create();
    for (size_t i = 0; i < COLUMNS; i++) {
        must(weir_schema_add_text(schema, columns[i][0], columns[i][1], true, NULL), "schema");
    }
    struct weir_batch_builder builder;
    must(weir_batch_builder_init(&builder, pool, schema, ROWS, 1 << 24, NULL), "builder");
    must(weir_batch_builder_begin(&builder), "batch");
    fill(&builder);
    struct weir_batch *batch = weir_batch_builder_take(&builder);

    const struct weir_encoder_ops *ops = weir_encoder_find("json");
    struct weir_encoder_config config = {
        .name = "bench", .options_json = "{}", .schema = schema, .included = included};
    void *encoder;
    struct weir_buffer out;
    weir_buffer_init(&out, (size_t)64 << 20);
    must(ops->create(&config, &encoder, NULL), "encoder");
    must(ops->begin(encoder, batch, NULL), "begin");
    double ours = 0;
    double floor = 0;
    size_t bytes = 0;
    char *copy = NULL;
    for (int round = 0; round < rounds + 1; round++) { /* the first warms */
        weir_buffer_clear(&out);
        double start = cpu_ns();
        for (int32_t i = 0; i < batch->rows; i++) {
            must(ops->row(encoder, i, &out, NULL), "row");
        }
        ours += round > 0 ? cpu_ns() - start : 0;
        bytes = out.size;
        copy = copy != NULL ? copy : calloc(1, bytes);
        start = cpu_ns();
        for (size_t at = 0; at < bytes; at += bytes / ROWS) { /* a row's bytes at a time */
            size_t left = bytes - at;
            memcpy(copy + at, out.data + at, left < bytes / ROWS ? left : bytes / ROWS);
        }
        floor += round > 0 ? cpu_ns() - start : 0;
        __asm__ volatile("" ::"r"(copy) : "memory");
    }
    double rows = (double)rounds * ROWS;
    printf("encode JSON: %.1f ns a row of %zu bytes and %d columns (%.2f GB/s), memcpy of the same "
           "%.1f\n",
           ours / rows, bytes / ROWS, (int)COLUMNS, (double)bytes * rounds / ours, floor / rows);
    free(copy);
    ops->destroy(encoder);
    weir_buffer_fini(&out);
    weir_batch_unref(batch);
    weir_batch_builder_fini(&builder);
    weir_schema_unref(schema);
    weir_pool_destroy(pool);
    return 0;
}
