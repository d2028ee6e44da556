/* ns a row of the joins that keep rows one by one: a temporal join (four left rows a version, all
 * of which meet one) and regular joins (both sides come; with a condition, judged here by a
 * comparison; semi, of which only left rows leave), each beside the floor of its shape in the same
 * run: an open-addressing probe and, of rows that are kept, an insert and a copy. CPU time
 * of this thread. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/random.h"
#include "core/clock.h"
#include "operator/join/regular.h"
#include "operator/join/temporal.h"

enum { BATCH = 4096, BATCHES = 200, KEYS = 100000, PIECE = 2048, POOL_MIB = 200, ROW_US = 100 };

static struct weir_pool *pool;
static struct weir_error err;
static struct weir_batch *batches[16];
static int64_t times[BATCH];
static int64_t before[BATCH];
static int32_t sel[BATCH];

static void check(int rc) {
    if (rc != WEIR_OK) {
        fprintf(stderr, "bench_join_kinds: %s\n", err.message);
        exit(1);
    }
}

static struct weir_batch *make_batch(struct weir_schema *schema) {
    struct weir_batch_builder builder;
    check(weir_batch_builder_init(&builder, pool, schema, BATCH, 1 << 20, &err));
    check(weir_batch_builder_begin(&builder));
    for (int i = 0; i < BATCH; i++) {
        struct weir_column_builder *c = builder.columns;
        int rc = weir_builder_int(&c[0], (int64_t)below(KEYS));
        rc |= weir_builder_int(&c[1], (int64_t)next_random());
        rc |= weir_builder_bytes(&c[2], "a text of forty bytes, more or less one", 39);
        check(rc);
        weir_batch_builder_finish_row(&builder);
    }
    struct weir_batch *batch = weir_batch_builder_take(&builder);
    weir_batch_builder_fini(&builder);
    return batch;
}

static void set_times(int b) {
    for (int i = 0; i < BATCH; i++) {
        sel[i] = i;
        times[i] = ((int64_t)b * BATCH + i) * ROW_US;
        before[i] = times[i] - ROW_US;
    }
}

/* A batch of versions, then four of rows that ask for them, which leave at once. */
static int64_t temporal_rows(struct weir_schema *schema, uint64_t *met) {
    static const int32_t on[] = {0};
    static const int32_t kept[] = {0, 1, 2};
    static struct weir_temporal_pair pairs[BATCH];
    static int32_t late_sel[BATCH];
    struct weir_temporal_config config = {
        .declaration = "bench.join",
        .sides = {{schema, on, kept, 3}, {schema, on, kept, 3}},
        .on_count = 1,
        .as_of = -1,
        .change = -1,
        .unavailable = -1,
        .wait_us = -1,
        .option = "memory.state",
    };
    struct weir_temporal *join = weir_temporal_create(&config, &err);
    int64_t spent = 0;
    if (join == NULL) {
        check(err.code);
    }
    for (int b = 0; b < BATCHES; b++) {
        set_times(b);
        int64_t start = weir_clock_thread_cpu_ns();
        if (b % 5 == 0) {
            int32_t from = 0;
            int64_t late = 0;
            check(weir_temporal_right(join, batches[b % 16], sel, BATCH, times, before, &from,
                                      &late, &err));
        } else {
            int32_t count;
            int32_t late;
            check(weir_temporal_left(join, batches[b % 16], sel, BATCH, times, before, pairs,
                                     &count, late_sel, &late, &err));
            for (int32_t i = 0; i < count; i++) {
                *met += pairs[i].version != NULL;
            }
        }
        weir_temporal_advance(join, WEIR_LEFT, times[0]);
        weir_temporal_advance(join, WEIR_RIGHT, times[0] + (int64_t)BATCH * (5 - b % 5) * ROW_US);
        check(weir_temporal_expire(join, BATCH * 2, &err));
        spent += weir_clock_thread_cpu_ns() - start;
    }
    weir_temporal_destroy(join);
    return spent;
}

/* Every other pair holds. */
static void judge(struct weir_regular *join, const struct weir_batch *batch) {
    static struct weir_regular_pair pairs[WEIR_REGULAR_ASKED];
    static bool holds[WEIR_REGULAR_ASKED];
    const int64_t *n = batch->columns[1].values;
    int32_t count = weir_regular_ask(join, pairs);
    for (int32_t i = 0; i < count; i++) {
        holds[i] = ((n[pairs[i].row] ^ pairs[i].other->time_us) & 1) != 0;
    }
    if (count > 0) {
        weir_regular_answer(join, holds);
    }
}

static int64_t regular_rows(struct weir_schema *schema, enum weir_join_kind kind,
                            const char *condition, uint64_t *met) {
    static const int32_t on[] = {0};
    static const int32_t kept[] = {0, 1, 2};
    static struct weir_regular_change changes[PIECE];
    struct weir_regular_config config = {
        .declaration = "bench.join",
        .sides = {{schema, on, kept, 3}, {schema, on, kept, 3}},
        .on_count = 1,
        .kind = kind,
        .condition = condition,
        .change = {-1, -1},
        .ttl_us = {(int64_t)BATCH * 25 * ROW_US, (int64_t)BATCH * 25 * ROW_US},
        .option = "memory.state",
    };
    struct weir_regular *join = weir_regular_create(&config, &err);
    int64_t spent = 0;
    if (join == NULL) {
        check(err.code);
    }
    for (int b = 0; b < BATCHES; b++) {
        set_times(b);
        int64_t start = weir_clock_thread_cpu_ns();
        int32_t count;
        check(weir_regular_feed(join, b & 1, batches[b % 16], sel, BATCH, times, &err));
        do {
            if (condition != NULL) {
                judge(join, batches[b % 16]);
            }
            check(weir_regular_changes(join, changes, PIECE, &count, &err));
            *met += (uint64_t)count;
        } while (weir_regular_any(join));
        check(weir_regular_expire(join, times[BATCH - 1], BATCH * 2, &err));
        spent += weir_clock_thread_cpu_ns() - start;
    }
    weir_regular_destroy(join);
    return spent;
}

/* Of every `each`-th batch the rows are put into the table and copied; all rows probe it. */
static int64_t floor_rows(int each) {
    uint64_t size = 1;
    while (size < KEYS * 2) {
        size *= 2;
    }
    int64_t *table = calloc(size, sizeof(int64_t));
    uint8_t *log = malloc((size_t)64 << 20);
    size_t at = 0;
    int64_t met = 0;
    int64_t start = weir_clock_thread_cpu_ns();
    for (int b = 0; b < BATCHES && table != NULL && log != NULL; b++) {
        const struct weir_batch *batch = batches[b % 16];
        const int64_t *ids = batch->columns[0].values;
        const int32_t *offsets = batch->columns[2].offsets;
        for (int i = 0; i < BATCH; i++) {
            int64_t id = ids[i] + 1;
            uint64_t place = ((uint64_t)id * UINT64_C(0x9E3779B97F4A7C15)) >> 20 & (size - 1);
            while (table[place] != 0 && table[place] != id) {
                place = (place + 1) & (size - 1);
            }
            met += table[place] == id;
            if (b % each == 0) {
                int32_t length = offsets[i + 1] - offsets[i];
                table[place] = id;
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
    free(table);
    free(log);
    return spent;
}

int main(void) {
    double rows = (double)BATCHES * BATCH;
    struct weir_schema *schema = weir_schema_create();
    pool = weir_pool_create((size_t)POOL_MIB << 20);
    check(weir_schema_add_text(schema, "id", "int64", true, &err));
    check(weir_schema_add_text(schema, "n", "int64", true, &err));
    check(weir_schema_add_text(schema, "text", "string", true, &err));
    for (int b = 0; b < 16; b++) {
        batches[b] = make_batch(schema);
    }
    uint64_t met = 0;
    int64_t spent = temporal_rows(schema, &met);
    printf("%-52s %7.2f ns/row   %5.2f met/row     floor probe, some copy %6.2f ns/row\n",
           "temporal join: 100 K keys, 1 row in 5 a version", (double)spent / rows,
           (double)met / rows, (double)floor_rows(5) / rows);
    static const struct {
        const char *text;
        enum weir_join_kind kind;
        const char *condition;
    } regular[] = {
        {"regular join: 100 K keys, rows kept for 25 batches", WEIR_JOIN_INNER, NULL},
        {"the same, every other pair holds", WEIR_JOIN_INNER, "odd"},
        {"the same, left rows that meet some (semi)", WEIR_JOIN_SEMI, NULL},
        {"the same, semi, every other pair holds", WEIR_JOIN_SEMI, "odd"},
    };
    for (size_t i = 0; i < sizeof regular / sizeof regular[0]; i++) {
        met = 0;
        spent = regular_rows(schema, regular[i].kind, regular[i].condition, &met);
        printf("%-52s %7.2f ns/row   %5.2f changes/row floor probe, insert, copy %6.2f ns/row\n",
               regular[i].text, (double)spent / rows, (double)met / rows,
               (double)floor_rows(1) / rows);
    }
    for (int b = 0; b < 16; b++) {
        weir_batch_unref(batches[b]);
    }
    weir_schema_unref(schema);
    weir_pool_destroy(pool);
    return 0;
}
