/* What a value costs a builder, a gather and a digest, each beside memcpy of the same bytes in the
 * same run. CPU time of the thread, best of ROUNDS. One line a figure. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "batch/builder.h"
#include "batch/digest.h"

enum { ROWS = WEIR_BATCH_ROWS_MAX, ROUNDS = 400, TEXT_BYTES = 12 };

static volatile uint64_t sink;

static double cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void must(bool good, const char *what) {
    if (!good) {
        fprintf(stderr, "bench_batch: %s failed\n", what);
        exit(1);
    }
}

static struct weir_batch *build(struct weir_batch_builder *builder) {
    static const char text[] = "store-000042";
    must(weir_batch_builder_begin(builder) == WEIR_OK, "begin");
    for (int32_t i = 0; i < ROWS; i++) {
        struct weir_column_builder *c = builder->columns;
        int rc = weir_builder_int(&c[0], i);
        rc |= weir_builder_double(&c[1], i);
        rc |= weir_builder_bytes(&c[2], text, TEXT_BYTES);
        rc |= i % 8 == 0 ? weir_builder_null(&c[3]) : weir_builder_int(&c[3], i);
        must(rc == WEIR_OK, "append");
        weir_batch_builder_finish_row(builder);
    }
    return weir_batch_builder_take(builder);
}

/* Best time of one round of `work`, ns. */
#define BEST(work)                                                                                 \
    __extension__({                                                                                \
        double best = 1e18;                                                                        \
        for (int round = 0; round < ROUNDS; round++) {                                             \
            double start = cpu_ns();                                                               \
            work;                                                                                  \
            double took = cpu_ns() - start;                                                        \
            best = took < best ? took : best;                                                      \
        }                                                                                          \
        best;                                                                                      \
    })

int main(void) {
    struct weir_pool *pool = weir_pool_create((size_t)64 << 20);
    struct weir_schema *schema = weir_schema_create();
    must(pool != NULL && schema != NULL &&
             weir_schema_add_text(schema, "id", "int64", false, NULL) == WEIR_OK &&
             weir_schema_add_text(schema, "amount", "double", false, NULL) == WEIR_OK &&
             weir_schema_add_text(schema, "store", "string", false, NULL) == WEIR_OK &&
             weir_schema_add_text(schema, "count", "int32", true, NULL) == WEIR_OK,
         "schema");
    struct weir_batch_builder builder;
    must(weir_batch_builder_init(&builder, pool, schema, ROWS, (size_t)16 << 20, NULL) == WEIR_OK,
         "builder");
    double built = BEST(weir_batch_unref(build(&builder)));
    struct weir_batch *batch = build(&builder);
    size_t bytes = weir_batch_bytes(batch);
    uint8_t *from = calloc(1, bytes);
    uint8_t *to = calloc(1, bytes);
    must(from != NULL && to != NULL, "memory");
    double copied = BEST({
        memcpy(to, from, bytes);
        sink += to[sink % bytes];
    });
    int32_t sel[ROWS];
    int32_t count = 0;
    for (int32_t i = 0; i < ROWS; i++) {
        sel[count] = i;
        count += i % 5 != 0;
    }
    double gathered = BEST(weir_batch_unref(weir_batch_gather(batch, sel, count)));
    double digested = BEST(sink += weir_batch_digest(batch, NULL, ROWS, 1));
    double chosen = BEST(sink += weir_batch_digest(batch, sel, count, 1));
    double share = (double)count / ROWS;
    printf("builder        %6.2f ns/value   (4 columns; memcpy of the batch %.2f)\n",
           built / (4.0 * ROWS), copied / (4.0 * ROWS));
    printf("gather         %6.2f GB/s       (4 of 5 rows; memcpy %.2f)\n",
           (double)bytes * share / gathered, (double)bytes / copied);
    printf("digest         %6.2f ns/row     (every row; memcpy %.2f)\n", digested / ROWS,
           copied / ROWS);
    printf("digest chosen  %6.2f ns/row     (4 of 5 rows; memcpy %.2f)\n", chosen / count,
           copied / ROWS);
    free(from);
    free(to);
    weir_batch_unref(batch);
    weir_batch_builder_fini(&builder);
    weir_schema_unref(schema);
    weir_pool_destroy(pool);
    return 0;
}
