/* ns a row of each operator, beside a floor of the same shape in the same run, and the longest
 * single call of a seal with a million changed slots. CPU time of this thread: other load on the
 * machine costs caches but is not counted. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/random.h"
#include "core/clock.h"
#include "operator/aggregate/aggregate.h"
#include "operator/dedup.h"
#include "operator/predicate.h"
#include "operator/watermark.h"
#include "state/table.h"

enum { BATCH = 4096, BATCHES = 64, SLICE = 2048, POOL_MIB = 100 };

static struct weir_pool *pool;

static void check(int rc, const struct weir_error *err) {
    if (rc != WEIR_OK) {
        fprintf(stderr, "bench_operator: %s\n", err->message);
        exit(1);
    }
}

static void report(const char *what, int64_t ns, double rows, const char *floor_what,
                   int64_t floor_ns, double floor_rows) {
    printf("%-52s %7.2f ns/row   floor %-28s %6.2f ns/row\n", what, (double)ns / rows, floor_what,
           (double)floor_ns / floor_rows);
}

static struct weir_schema *make_schema(void) {
    struct weir_schema *schema = weir_schema_create();
    static const char *const fields[][2] = {{"sku", "string"},   {"id", "int64"},
                                            {"qty", "int32"},    {"net", "decimal(12,2)"},
                                            {"price", "double"}, {"at", "timestamp"}};
    struct weir_error err = {0};
    for (int c = 0; c < 6; c++) {
        check(weir_schema_add_text(schema, fields[c][0], fields[c][1], true, &err), &err);
    }
    return schema;
}

static struct weir_batch *make_batch(struct weir_schema *schema, uint64_t keys, int64_t time) {
    struct weir_batch_builder builder;
    struct weir_error err = {0};
    check(weir_batch_builder_init(&builder, pool, schema, BATCH, 1 << 20, &err), &err);
    check(weir_batch_builder_begin(&builder), &err);
    for (int i = 0; i < BATCH; i++) {
        uint64_t key = next_random() % keys;
        char sku[32];
        int length = snprintf(sku, sizeof sku, "SKU-%07d", (int)key);
        struct weir_column_builder *c = builder.columns;
        int rc = weir_builder_bytes(&c[0], sku, (size_t)length);
        rc |= weir_builder_int(&c[1], (int64_t)key);
        rc |= weir_builder_int(&c[2], (int64_t)(next_random() % 10));
        rc |= weir_builder_decimal(&c[3], next_random() % 100000, 0);
        rc |= weir_builder_double(&c[4], (double)(next_random() % 10000) / 100);
        rc |= weir_builder_int(&c[5], time + i);
        check(rc, &err);
        weir_batch_builder_finish_row(&builder);
    }
    struct weir_batch *batch = weir_batch_builder_take(&builder);
    weir_batch_builder_fini(&builder);
    return batch;
}

static struct weir_batch *batches[BATCHES];
static int64_t times[BATCHES][BATCH];
static int64_t watermarks[BATCHES][BATCH];

static void make_times(int64_t first) {
    for (int b = 0; b < BATCHES; b++) {
        for (int i = 0; i < BATCH; i++) {
            times[b][i] = first + (int64_t)b * BATCH + i;
            watermarks[b][i] = times[b][i] - 1000;
        }
    }
}

static void make_batches(struct weir_schema *schema, uint64_t keys) {
    for (int b = 0; b < BATCHES; b++) {
        if (batches[b] != NULL) {
            weir_batch_unref(batches[b]);
        }
        batches[b] = make_batch(schema, keys, (int64_t)b * BATCH);
    }
    make_times(0);
}

/* The floor of everything keyed: hash an int64, one open-addressing probe, add. */
static int64_t plain_hash_loop(uint64_t keys, double *rows) {
    uint64_t size = 1;
    while (size < keys * 2) {
        size *= 2;
    }
    int64_t(*table)[2] = calloc(size, sizeof *table);
    int64_t spent = 0;
    for (int round = 0; round < 5; round++) {
        int64_t start = weir_clock_thread_cpu_ns();
        for (int b = 0; b < BATCHES; b++) {
            const int64_t *ids = batches[b]->columns[1].values;
            for (int i = 0; i < BATCH; i++) {
                int64_t id = ids[i] + 1;
                uint64_t at = ((uint64_t)id * UINT64_C(0x9E3779B97F4A7C15)) >> 20 & (size - 1);
                while (table[at][0] != 0 && table[at][0] != id) {
                    at = (at + 1) & (size - 1);
                }
                table[at][0] = id;
                table[at][1]++;
            }
        }
        spent += weir_clock_thread_cpu_ns() - start;
    }
    *rows = 5.0 * BATCHES * BATCH;
    free(table);
    return spent;
}

static struct weir_aggregate *make_windows(struct weir_schema *schema, int32_t by, int64_t size,
                                           int64_t every) {
    struct weir_measure measures[3] = {
        {.name = "n", .kind = WEIR_MEASURE_COUNT},
        {.name = "units", .kind = WEIR_MEASURE_SUM, .has_input = true, .type = WEIR_TYPE_INT32},
        {.name = "revenue",
         .kind = WEIR_MEASURE_SUM,
         .has_input = true,
         .type = WEIR_TYPE_DECIMAL,
         .precision = 12,
         .scale = 2}};
    struct weir_aggregate_config config = {.declaration = "gold.bench",
                                           .input = schema,
                                           .by = &by,
                                           .by_count = 1,
                                           .size_us = size,
                                           .every_us = every,
                                           .measures = measures,
                                           .measure_count = 3};
    struct weir_error err = {0};
    struct weir_aggregate *aggregate = weir_aggregate_create(&config, &err);
    check(aggregate == NULL ? err.code : WEIR_OK, &err);
    return aggregate;
}

static struct weir_aggregate *make_aggregate(struct weir_schema *schema, int32_t by) {
    return make_windows(schema, by, INT64_C(60000000), 0);
}

static void feed(struct weir_aggregate *aggregate, int b) {
    struct weir_error err = {0};
    int32_t late[BATCH];
    int32_t late_count;
    const struct weir_column *inputs[3] = {NULL, &batches[b]->columns[2], &batches[b]->columns[3]};
    check(weir_aggregate_feed(aggregate, batches[b], NULL, BATCH, times[b], watermarks[b], inputs,
                              NULL, late, &late_count, &err),
          &err);
}

static void bench_aggregate(struct weir_schema *schema, uint64_t keys, int32_t by,
                            const char *what) {
    make_batches(schema, keys);
    double floor_rows;
    int64_t floor_ns = plain_hash_loop(keys, &floor_rows);
    struct weir_aggregate *aggregate = make_aggregate(schema, by);
    /* Fill first: the steady state is lookups among `keys` slots. */
    for (uint64_t n = 0; n < keys * 3 / (BATCH * BATCHES) + 1; n++) {
        for (int b = 0; b < BATCHES; b++) {
            feed(aggregate, b);
        }
        if (keys > BATCH * BATCHES) {
            make_batches(schema, keys);
        }
    }
    int64_t spent = 0;
    for (int round = 0; round < 5; round++) {
        int64_t start = weir_clock_thread_cpu_ns();
        for (int b = 0; b < BATCHES; b++) {
            feed(aggregate, b);
        }
        spent += weir_clock_thread_cpu_ns() - start;
    }
    report(what, spent, 5.0 * BATCHES * BATCH, "int64 hash loop", floor_ns, floor_rows);
    printf("    %zu keys, %.1f bytes a key in memory, estimate %zu\n",
           weir_aggregate_keys(aggregate),
           (double)weir_aggregate_bytes(aggregate) / (double)weir_aggregate_keys(aggregate),
           weir_aggregate_estimate(aggregate));
    struct weir_batch_builder builder;
    struct weir_error err = {0};
    check(weir_batch_builder_init(&builder, pool, weir_aggregate_output(aggregate), BATCH, 1 << 20,
                                  &err),
          &err);
    double rows = (double)weir_aggregate_keys(aggregate);
    int64_t longest = 0;
    int64_t start = weir_clock_thread_cpu_ns();
    enum weir_fired fired = WEIR_FIRED_SOME;
    while (fired != WEIR_FIRED_ALL) {
        check(weir_batch_builder_begin(&builder), &err);
        int64_t call = weir_clock_thread_cpu_ns();
        check(weir_aggregate_fire(aggregate, WEIR_WATERMARK_END, &builder, 1024, &fired, &err),
              &err);
        call = weir_clock_thread_cpu_ns() - call;
        longest = call > longest ? call : longest;
        weir_batch_unref(weir_batch_builder_take(&builder));
    }
    printf("    fire, 1024 rows a call: %.2f ns/row, longest call %.1f us\n",
           (double)(weir_clock_thread_cpu_ns() - start) / rows, (double)longest / 1000);
    weir_batch_builder_fini(&builder);
    weir_aggregate_destroy(aggregate);
}

/* What a row costs in hopping windows whose slide shrinks 60-fold, and what a row that leaves does.
 */
static void bench_hops(struct weir_schema *schema) {
    enum {
        SIZE = 61440,
        LONG = 15360,
        SHORT = 256,
        KEYS = 20,
        ROUNDS = 5
    }; /* 13 rows a pane, key */
    static const int64_t slides[2] = {LONG, SHORT};
    double feed_ns[2] = {1e9, 1e9}; /* the least of some rounds */
    double fire_ns[2] = {1e9, 1e9};
    make_batches(schema, KEYS);
    for (int round = 0; round < ROUNDS * 2; round++) {
        int s = round % 2;
        struct weir_aggregate *aggregate = make_windows(schema, 1, SIZE, slides[s]);
        struct weir_batch_builder builder;
        struct weir_error err = {0};
        check(weir_batch_builder_init(&builder, pool, weir_aggregate_output(aggregate), BATCH,
                                      1 << 20, &err),
              &err);
        int64_t fed = 0;
        int64_t fired = 0;
        double left = 0;
        make_times(0);
        for (int n = 0; n < BATCHES * 2; n++) {
            int b = n % BATCHES;
            if (n == BATCHES) { /* what comes first makes the memory that is used from then on */
                make_times((int64_t)BATCHES * BATCH);
                fed = fired = 0;
                left = 0;
            }
            int64_t start = weir_clock_thread_cpu_ns();
            feed(aggregate, b);
            fed += weir_clock_thread_cpu_ns() - start;
            enum weir_fired state = WEIR_FIRED_SOME;
            while (state != WEIR_FIRED_ALL) {
                check(weir_batch_builder_begin(&builder), &err);
                start = weir_clock_thread_cpu_ns();
                do {
                    check(weir_aggregate_fire(aggregate, watermarks[b][BATCH - 1], &builder, BATCH,
                                              &state, &err),
                          &err);
                } while (state == WEIR_FIRED_SOME);
                fired += weir_clock_thread_cpu_ns() - start;
                struct weir_batch *batch = weir_batch_builder_take(&builder);
                left += batch->rows;
                weir_batch_unref(batch);
            }
        }
        double in = (double)fed / ((double)BATCHES * BATCH);
        double out = (double)fired / left;
        feed_ns[s] = in < feed_ns[s] ? in : feed_ns[s];
        fire_ns[s] = out < fire_ns[s] ? out : fire_ns[s];
        weir_batch_builder_fini(&builder);
        weir_aggregate_destroy(aggregate);
    }
    printf("%-52s %7.2f ns/row in, %7.2f a row out\n", "hopping, 4 panes a window", feed_ns[0],
           fire_ns[0]);
    printf("%-52s %7.2f ns/row in, %7.2f a row out: %.2f x, %.2f x\n",
           "hopping, 240 panes a window", feed_ns[1], fire_ns[1], feed_ns[1] / feed_ns[0],
           fire_ns[1] / fire_ns[0]);
}

/* --- seals --------------------------------------------------------------------------------- */

static void bench_seal(void) {
    enum { KEYS = 1000000 };
    struct weir_error err = {0};
    struct weir_table_config config = {
        .declaration = "gold.bench", .cell = "window", .value_bytes = 40, .key_inline_bytes = 24};
    struct weir_table *table = weir_table_create(&config, &err);
    check(table == NULL ? err.code : WEIR_OK, &err);
    struct weir_slot **slots = malloc(KEYS * sizeof(struct weir_slot *));
    int64_t longest_get = 0;
    int64_t start = weir_clock_thread_cpu_ns();
    for (uint64_t k = 0; k < KEYS; k++) {
        uint64_t key[3] = {k, k * 3, 7};
        bool created;
        int64_t call = k % 16 == 0 ? weir_clock_thread_cpu_ns() : 0;
        slots[k] = weir_table_get(table, weir_table_hash(table, key, 20), key, 20, &created, &err);
        if (k % 16 == 0) {
            call = weir_clock_thread_cpu_ns() - call;
            longest_get = call > longest_get ? call : longest_get;
        }
        check(slots[k] == NULL ? err.code : WEIR_OK, &err);
    }
    printf("%-52s %7.2f ns/key, longest seen %.1f us\n", "create 1 M slots",
           (double)(weir_clock_thread_cpu_ns() - start) / KEYS, (double)longest_get / 1000);
    for (uint64_t k = KEYS - 1; k > 0; k--) { /* a random order to touch and collect in */
        uint64_t other = next_random() % (k + 1);
        struct weir_slot *slot = slots[k];
        slots[k] = slots[other];
        slots[other] = slot;
    }
    struct weir_buffer out;
    weir_buffer_init(&out, (size_t)1 << 30);
    check(weir_buffer_reserve(&out, (size_t)100 << 20), &err);
    memset(out.data, 0, out.capacity);
    bool done = false;
    check(weir_table_seal(table, &err), &err);
    while (!done) {
        check(weir_table_collect(table, &out, SLICE, &done, &err), &err);
    }
    start = weir_clock_thread_cpu_ns();
    uint64_t floor_sum = 0;
    for (int k = 0; k < KEYS; k++) {
        floor_sum += ++*(uint64_t *)weir_slot_value(table, slots[k]);
    }
    int64_t floor_ns = weir_clock_thread_cpu_ns() - start;
    start = weir_clock_thread_cpu_ns();
    for (int k = 0; k < KEYS; k++) {
        check(weir_table_touch(table, slots[k]), &err);
        ++*(uint64_t *)weir_slot_value(table, slots[k]);
    }
    report("touch and write, first in the epoch, random", weir_clock_thread_cpu_ns() - start, KEYS,
           "write without touch", floor_ns, KEYS);
    start = weir_clock_thread_cpu_ns();
    for (int round = 0; round < 20; round++) {
        for (int k = 0; k < KEYS / 20; k++) {
            check(weir_table_touch(table, slots[k % 1000]), &err);
        }
    }
    printf("%-52s %7.2f ns\n", "touch again", (double)(weir_clock_thread_cpu_ns() - start) / KEYS);
    int64_t call = weir_clock_thread_cpu_ns();
    check(weir_table_seal(table, &err), &err);
    int64_t seal_ns = weir_clock_thread_cpu_ns() - call;
    int64_t longest = seal_ns;
    int64_t total = seal_ns;
    int64_t touching = 0;
    int64_t touched = 0;
    weir_buffer_clear(&out);
    done = false;
    while (!done) { /* the loop goes on meanwhile: a tenth of the slots change again */
        call = weir_clock_thread_cpu_ns();
        check(weir_table_collect(table, &out, SLICE, &done, &err), &err);
        call = weir_clock_thread_cpu_ns() - call;
        longest = call > longest ? call : longest;
        total += call;
        call = weir_clock_thread_cpu_ns();
        for (int i = 0; i < 200; i++, touched++) {
            struct weir_slot *slot = slots[next_random() % KEYS];
            check(weir_table_touch(table, slot), &err);
            ++*(uint64_t *)weir_slot_value(table, slot);
        }
        touching += weir_clock_thread_cpu_ns() - call;
    }
    uint8_t *copy = malloc(out.size);
    memset(copy, 1, out.size);
    call = weir_clock_thread_cpu_ns();
    memcpy(copy, out.data, out.size);
    int64_t copy_ns = weir_clock_thread_cpu_ns() - call;
    report("seal and collect 1 M changed slots", total, KEYS, "memcpy of the images", copy_ns,
           KEYS);
    printf("    seal %.1f us; longest call %.1f us (slices of %d); %.1f ns a touch meanwhile; "
           "%.1f bytes an image\n",
           (double)seal_ns / 1000, (double)longest / 1000, SLICE,
           (double)touching / (double)touched, (double)out.size / KEYS);
    struct weir_table *fresh = weir_table_create(&config, &err);
    call = weir_clock_thread_cpu_ns();
    check(weir_table_apply(fresh, out.data, out.size, &err), &err);
    printf("    apply: %.1f ns/slot (sum %d)\n", (double)(weir_clock_thread_cpu_ns() - call) / KEYS,
           (int)(floor_sum + copy[0]) & 1);
    weir_table_destroy(fresh);
    weir_table_destroy(table);
    weir_buffer_fini(&out);
    free(copy);
    free(slots);
}

/* --- the rest ------------------------------------------------------------------------------ */

static void bench_dedup(struct weir_schema *schema) {
    struct weir_error err = {0};
    int32_t by = 1;
    struct weir_dedup_config config = {.declaration = "silver.bench",
                                       .input = schema,
                                       .by = &by,
                                       .by_count = 1,
                                       .within_us = INT64_C(1) << 40};
    struct weir_dedup *dedup = weir_dedup_create(&config, &err);
    check(dedup == NULL ? err.code : WEIR_OK, &err);
    uint8_t duplicate[BATCH];
    int64_t spent = 0;
    double rows = 0;
    int64_t longest = 0;
    for (int round = 0; round < 12; round++) {
        make_batches(schema, UINT64_C(1) << 60); /* no duplicates: every row is remembered */
        for (int b = 0; b < BATCHES; b++) {
            int64_t start = weir_clock_thread_cpu_ns();
            check(weir_dedup_feed(dedup, batches[b], NULL, BATCH, times[b], watermarks[b],
                                  duplicate, &err),
                  &err);
            int64_t call = weir_clock_thread_cpu_ns() - start;
            spent += call;
            longest = call > longest ? call : longest;
        }
        rows += BATCHES * BATCH;
        bool done = false;
        struct weir_buffer out;
        weir_buffer_init(&out, (size_t)1 << 30);
        struct weir_cell *cell = weir_dedup_cell(dedup);
        check(cell->ops->seal(cell->self, &err), &err);
        while (!done) {
            check(cell->ops->collect(cell->self, &out, SLICE, &done, &err), &err);
        }
        weir_buffer_fini(&out);
    }
    double floor_rows;
    int64_t floor_ns = plain_hash_loop(UINT64_C(1) << 22, &floor_rows);
    report("dedup, all new, to 3.1 M keys", spent, rows, "int64 hash loop", floor_ns, floor_rows);
    printf("    %zu keys, %.2f bytes a key; longest batch of %d rows %.1f us\n",
           weir_dedup_keys(dedup), (double)weir_dedup_bytes(dedup) / (double)weir_dedup_keys(dedup),
           BATCH, (double)longest / 1000);
    weir_dedup_destroy(dedup);
}

static void bench_predicate(struct weir_schema *schema, enum weir_predicate_kind kind, int column,
                            const char *const *literals, int32_t count, const char *what) {
    struct weir_error err = {0};
    struct weir_predicate *predicate =
        weir_predicate_create(kind, &schema->fields[column], literals, count, &err);
    check(predicate == NULL ? err.code : WEIR_OK, &err);
    uint8_t verdict[BATCH];
    static uint8_t copy[BATCH * 16];
    int32_t sel[BATCH];
    for (int i = 0; i < BATCH; i++) {
        sel[i] = i;
    }
    int64_t spent = 0;
    int64_t spent_sel = 0;
    int64_t floor_ns = 0;
    unsigned seen = 0;
    size_t width = (size_t)weir_type_width(schema->fields[column].type);
    width = width == 0 ? 11 : width;
    for (int b = 0; b < BATCHES; b++) {
        const struct weir_column *in = &batches[b]->columns[column];
        int64_t start = weir_clock_thread_cpu_ns();
        weir_predicate_evaluate(predicate, in, NULL, BATCH, verdict);
        spent += weir_clock_thread_cpu_ns() - start;
        start = weir_clock_thread_cpu_ns();
        weir_predicate_evaluate(predicate, in, sel, BATCH, verdict);
        spent_sel += weir_clock_thread_cpu_ns() - start;
        start = weir_clock_thread_cpu_ns();
        memcpy(copy, in->values, BATCH * width);
        floor_ns += weir_clock_thread_cpu_ns() - start;
        seen += verdict[b] + copy[b];
    }
    report(what, spent, (double)BATCHES * BATCH, "memcpy of the column", floor_ns,
           (double)BATCHES * BATCH);
    printf("    through a selection: %.2f ns/row (%u)\n",
           (double)spent_sel / ((double)BATCHES * BATCH), seen & 1);
    weir_predicate_destroy(predicate);
}

static void bench_watermark(void) {
    struct weir_error err = {0};
    struct weir_watermark_config config = {
        .dataset = "silver.bench", .out_of_order_us = 5, .max_ahead_us = 3600000000};
    struct weir_watermark *watermark = weir_watermark_create(&config, &err);
    check(watermark == NULL ? err.code : WEIR_OK, &err);
    int32_t partition = weir_watermark_partition(watermark, "p", 0);
    static int64_t out[BATCH];
    static int64_t before[BATCH];
    static uint8_t flags[BATCH];
    int64_t spent = 0;
    int64_t floor_ns = 0;
    for (int b = 0; b < BATCHES; b++) {
        int64_t start = weir_clock_thread_cpu_ns();
        check(weir_watermark_feed(watermark, partition, b, &batches[b]->columns[5], BATCH, out,
                                  before, flags),
              &err);
        spent += weir_clock_thread_cpu_ns() - start;
        start = weir_clock_thread_cpu_ns();
        memcpy(before, batches[b]->columns[5].values, sizeof before);
        floor_ns += weir_clock_thread_cpu_ns() - start;
    }
    report("watermark by row", spent, (double)BATCHES * BATCH, "memcpy of the column", floor_ns,
           (double)BATCHES * BATCH);
    weir_watermark_destroy(watermark);
}

static void bench_key(struct weir_schema *schema, int32_t column, const char *what) {
    struct weir_error err = {0};
    struct weir_key *key = weir_key_create(schema, &column, 1, &err);
    check(key == NULL ? err.code : WEIR_OK, &err);
    struct weir_keys keys;
    weir_keys_init(&keys);
    int64_t encode = 0;
    int64_t hash = 0;
    int64_t fingerprint = 0;
    for (int b = 0; b < BATCHES; b++) {
        int64_t start = weir_clock_thread_cpu_ns();
        check(weir_key_encode(key, batches[b], NULL, BATCH, 8, &keys), &err);
        int64_t encoded = weir_clock_thread_cpu_ns();
        weir_keys_hash(&keys, 1);
        int64_t hashed = weir_clock_thread_cpu_ns();
        weir_keys_fingerprint(&keys);
        fingerprint += weir_clock_thread_cpu_ns() - hashed;
        hash += hashed - encoded;
        encode += encoded - start;
    }
    double rows = (double)BATCHES * BATCH;
    printf("%-52s %7.2f ns/row encode, %.2f hash, %.2f fingerprint\n", what, (double)encode / rows,
           (double)hash / rows, (double)fingerprint / rows);
    weir_keys_fini(&keys);
    weir_key_destroy(key);
}

/* One part alone: its name as the argument. */
static bool wanted(int argc, char **argv, const char *part) {
    return argc < 2 || strcmp(argv[1], part) == 0;
}

static void bench_aggregates(struct weir_schema *schema) {
    bench_aggregate(schema, 100, 0, "aggregate by sku, 3 measures, 100 keys");
    bench_aggregate(schema, 1000000, 0, "aggregate by sku, 3 measures, 1 M keys");
    bench_aggregate(schema, 1000000, 1, "aggregate by int64, 3 measures, 1 M keys");
}

static void bench_predicates(struct weir_schema *schema) {
    static const char *const bounds[] = {"1", "999"};
    static const char *const set[] = {"1", "2", "3"};
    static const char *const skus[] = {"SKU-0000001", "SKU-0000002", "SKU-0000003"};
    static const char *const pattern[] = {"^SKU-\\d{7}$"};
    bench_predicate(schema, WEIR_PREDICATE_NOT_NULL, 0, NULL, 0, "not_null");
    bench_predicate(schema, WEIR_PREDICATE_BETWEEN, 1, bounds, 2, "between, int64");
    bench_predicate(schema, WEIR_PREDICATE_BETWEEN, 3, bounds, 2, "between, decimal");
    bench_predicate(schema, WEIR_PREDICATE_ONE_OF, 2, set, 3, "one_of 3, int32");
    bench_predicate(schema, WEIR_PREDICATE_ONE_OF, 0, skus, 3, "one_of 3, string");
    bench_predicate(schema, WEIR_PREDICATE_MATCHES, 0, pattern, 1, "matches ^SKU-\\d{7}$");
}

int main(int argc, char **argv) {
    pool = weir_pool_create((size_t)POOL_MIB << 20);
    struct weir_schema *schema = make_schema();
    if (wanted(argc, argv, "aggregate")) {
        bench_aggregates(schema);
    }
    if (wanted(argc, argv, "hops")) {
        bench_hops(schema);
    }
    if (wanted(argc, argv, "seal")) {
        bench_seal();
    }
    if (wanted(argc, argv, "dedup")) {
        bench_dedup(schema);
    }
    make_batches(schema, 1000);
    if (wanted(argc, argv, "key")) {
        bench_key(schema, 0, "key: string");
        bench_key(schema, 1, "key: int64");
    }
    if (wanted(argc, argv, "predicate")) {
        bench_watermark();
        bench_predicates(schema);
    }
    for (int b = 0; b < BATCHES; b++) {
        weir_batch_unref(batches[b]);
    }
    weir_schema_unref(schema);
    weir_pool_destroy(pool);
    return 0;
}
