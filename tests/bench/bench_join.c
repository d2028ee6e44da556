/* ns a row of an interval join, both sides fed, beside the floor of its shape in the same run: an
 * open-addressing probe of the other side and one insert into one's own, of the row's bytes. CPU
 * time of this thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/random.h"
#include "core/clock.h"
#include "operator/join/join.h"
#include "operator/watermark.h"

enum { BATCH = 4096, BATCHES = 256, PIECE = 2048, POOL_MIB = 200, ROW_US = 100 };

static struct weir_pool *pool;
static struct weir_error err;

static void check(int rc) {
    if (rc != WEIR_OK) {
        fprintf(stderr, "bench_join: %s\n", err.message);
        exit(1);
    }
}

static struct weir_batch *make_batch(struct weir_schema *schema, uint64_t keys) {
    struct weir_batch_builder builder;
    check(weir_batch_builder_init(&builder, pool, schema, BATCH, 1 << 20, &err));
    check(weir_batch_builder_begin(&builder));
    for (int i = 0; i < BATCH; i++) {
        struct weir_column_builder *c = builder.columns;
        int rc = weir_builder_int(&c[0], (int64_t)(next_random() % keys));
        rc |= weir_builder_int(&c[1], (int64_t)next_random());
        rc |= weir_builder_bytes(&c[2], "a text of forty bytes, more or less one", 39);
        check(rc);
        weir_batch_builder_finish_row(&builder);
    }
    struct weir_batch *batch = weir_batch_builder_take(&builder);
    weir_batch_builder_fini(&builder);
    return batch;
}

static struct weir_batch *batches[2][16];

/* keys: per side; span: how many rows of the other side a row may meet, by time. */
static int64_t join_rows(struct weir_schema *schema, int64_t span, uint64_t *pairs_out) {
    static const int32_t on[] = {0};
    static const int32_t kept[] = {0, 1, 2};
    struct weir_join_config config = {
        .declaration = "bench.join",
        .sides = {{schema, on, kept, 3}, {schema, on, kept, 3}},
        .on_count = 1,
        .low_us = -span * ROW_US,
        .high_us = span * ROW_US,
        .high_column = -1,
        .option = "memory.state",
    };
    struct weir_join *join = weir_join_create(&config, &err);
    if (join == NULL) {
        check(err.code);
    }
    static int64_t times[BATCH];
    static int64_t before[BATCH];
    static int32_t sel[BATCH];
    static int32_t late_sel[BATCH];
    static struct weir_join_pair pairs[PIECE];
    int64_t spent = 0;
    for (int b = 0; b < BATCHES; b++) {
        for (int side = 0; side < 2; side++) {
            for (int i = 0; i < BATCH; i++) {
                sel[i] = i;
                times[i] = ((int64_t)b * BATCH + i) * ROW_US;
                before[i] = times[i] - 1000 * ROW_US;
            }
            int32_t late;
            int64_t start = weir_clock_thread_cpu_ns();
            check(weir_join_feed(join, side, batches[side][b % 16], sel, BATCH, times, before,
                                 late_sel, &late, &err));
            int32_t got;
            while ((got = weir_join_pairs(join, pairs, PIECE)) > 0) {
                for (int32_t i = 0; i < got; i++) {
                    bool leaves;
                    check(weir_join_meet(join, &pairs[i], &leaves, &err));
                    *pairs_out += leaves;
                }
            }
            weir_join_advance(join, side, times[BATCH - 1] - 1000 * ROW_US);
            weir_join_expire(join, BATCH * 2);
            spent += weir_clock_thread_cpu_ns() - start;
        }
    }
    weir_join_destroy(join);
    return spent;
}

/* The same lookups and inserts with nothing but what they cannot do without. */
static int64_t floor_rows(uint64_t keys) {
    uint64_t size = 1;
    while (size < keys * 2) {
        size *= 2;
    }
    int64_t *tables[2] = {calloc(size, sizeof(int64_t)), calloc(size, sizeof(int64_t))};
    uint8_t *log = malloc((size_t)64 << 20);
    size_t at = 0;
    int64_t met = 0;
    int64_t start = weir_clock_thread_cpu_ns();
    for (int b = 0; b < BATCHES; b++) {
        for (int side = 0; side < 2; side++) {
            const struct weir_batch *batch = batches[side][b % 16];
            const int64_t *ids = batch->columns[0].values;
            const int32_t *offsets = batch->columns[2].offsets;
            for (int i = 0; i < BATCH; i++) {
                int64_t id = ids[i] + 1;
                uint64_t slot = ((uint64_t)id * UINT64_C(0x9E3779B97F4A7C15)) >> 20 & (size - 1);
                for (int t = 0; t < 2; t++) {
                    int64_t *table = tables[t == 0 ? side : !side];
                    uint64_t place = slot;
                    while (table[place] != 0 && table[place] != id) {
                        place = (place + 1) & (size - 1);
                    }
                    if (t == 0) {
                        table[place] = id;
                    } else {
                        met += table[place] == id;
                    }
                }
                int32_t length = offsets[i + 1] - offsets[i];
                at = at + 128 > ((size_t)64 << 20) ? 0 : at;
                memcpy(log + at, &ids[i], sizeof ids[i]);
                memcpy(log + at + 16, (const char *)batch->columns[2].values + offsets[i],
                       (size_t)length);
                at += 16 + (size_t)length;
            }
        }
    }
    int64_t spent = weir_clock_thread_cpu_ns() - start;
    fprintf(stderr, met < 0 ? "?" : "");
    free(tables[0]);
    free(tables[1]);
    free(log);
    return spent;
}

int main(void) {
    static const struct {
        uint64_t keys;
        int64_t span;
        const char *what;
    } cases[] = {
        {1000000, 400, "join: 1 M keys, almost nothing meets"},
        {1000000, 1000000, "join: 1 M keys, all rows kept, half of them meet"},
        {4096, 2048, "join: 4,096 keys, a row meets one"},
    };
    struct weir_schema *schema = weir_schema_create();
    pool = weir_pool_create((size_t)POOL_MIB << 20);
    check(weir_schema_add_text(schema, "id", "int64", true, &err));
    check(weir_schema_add_text(schema, "n", "int64", true, &err));
    check(weir_schema_add_text(schema, "text", "string", true, &err));
    for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
        for (int side = 0; side < 2; side++) {
            for (int b = 0; b < 16; b++) {
                weir_batch_unref(batches[side][b]);
                batches[side][b] = make_batch(schema, cases[c].keys);
            }
        }
        uint64_t pairs = 0;
        double rows = 2.0 * BATCHES * BATCH;
        int64_t spent = join_rows(schema, cases[c].span, &pairs);
        int64_t least = floor_rows(cases[c].keys);
        printf("%-52s %7.2f ns/row   %5.2f pairs/row   floor probe, insert, copy %6.2f ns/row\n",
               cases[c].what, (double)spent / rows, (double)pairs / rows, (double)least / rows);
    }
    for (int side = 0; side < 2; side++) {
        for (int b = 0; b < 16; b++) {
            weir_batch_unref(batches[side][b]);
        }
    }
    weir_schema_unref(schema);
    weir_pool_destroy(pool);
    return 0;
}
