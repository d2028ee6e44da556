/* ns a row of what rules do to the state of their key, without their Lua: a counter added to, a
 * value set, a ring pushed to, a timer put off, a row that waits for the watermark, and a pattern
 * whose run the row advances. The floor in the same run: the counter in a bare open-addressing hash
 * table. CPU time of this thread.
 * usage: bench_rule [TEXT]     only those whose name holds it */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../unit/random.h"
#include "abi/abi.h"
#include "core/clock.h"
#include "operator/rule/rule_state.h"

enum { CHUNK = 128, ROWS = 1 << 21, ROW_US = 10, WAITING = 1 << 14, SPARE = 1 << 10 };

static struct weir_pool *pool;
static struct weir_error err;
static struct weir_schema *key_schema;
static struct weir_key *key;
static int64_t ids[ROWS];
static uint8_t key_bytes[CHUNK][9];
static struct weir_rule_item items[CHUNK];

static void check(int rc) {
    if (rc != WEIR_OK) {
        fprintf(stderr, "bench_rule: %s\n", err.message);
        exit(1);
    }
}

static struct weir_schema *fields_of(const char *const *texts, int count) {
    struct weir_schema *schema = weir_schema_create();
    for (int i = 0; i < count; i++) {
        check(weir_schema_add_text(schema, texts[2 * i], texts[2 * i + 1], true, &err));
    }
    return schema;
}

static struct weir_rule_state *make(const struct weir_rule_cell *cells, int32_t count,
                                    int64_t ttl_us) {
    static const char *const timers[] = {"timer"};
    struct weir_rule_config config = {
        .declaration = "bench.rule",
        .key = key,
        .key_schema = key_schema,
        .pool = pool,
        .cells = cells,
        .cell_count = count,
        .timers = timers,
        .timer_count = 1,
        .ttl_us = ttl_us,
        .max_bytes = (size_t)4 << 30,
        .option = "memory.state",
    };
    struct weir_rule_state *state = weir_rule_state_create(&config, &err);
    check(state != NULL ? WEIR_OK : err.code);
    return state;
}

/* --- what a row does -------------------------------------------------------------------------- */

static void add_to_counter(struct weir_rule_run *run, int64_t n) {
    (void)n;
    uint8_t *record = weir_rule_set(run, 0);
    int64_t value;
    memcpy(&value, record + 16, sizeof value);
    value++;
    memcpy(record + 16, &value, sizeof value);
    record[8] = 1;
}

static void set_value(struct weir_rule_run *run, int64_t n) {
    uint8_t *record = weir_rule_set(run, 0);
    memcpy(record + 16, &n, sizeof n);
    record[8] = 1;
}

static void push_to_ring(struct weir_rule_run *run, int64_t n) {
    uint8_t *record = weir_rule_push(run, 0);
    memcpy(record + 16, &n, sizeof n);
    record[8] = 1;
}

static void put_timer_off(struct weir_rule_run *run, int64_t n) {
    set_value(run, n);
    check(weir_rule_timer(run, 0, run->time_us + 3600 * INT64_C(1000000), 0));
}

static struct weir_match_step steps[4] = {
    {.name = "a"}, {.name = "b"}, {.name = "c"}, {.name = "d"}};
static struct weir_match match = {
    .places = steps, .place_count = 4, .timer = -1, .within_us = 3600 * INT64_C(1000000)};
static uint8_t *phases; /* by key: the step its next row fits */
static int64_t matches;

static void advance_pattern(struct weir_rule_run *run, int64_t n) {
    uint8_t *phase = &phases[ids[n]];
    int32_t next = weir_match_row(run, &match, UINT32_C(1) << *phase);
    *phase = (*phase + 1) & 3;
    if (next == WEIR_MATCH_FOUND) {
        matches++;
        next = weir_match_end(run, &match);
    }
    check(next == WEIR_MATCH_DONE ? WEIR_OK : WEIR_E_BUG);
}

/* --- runs ------------------------------------------------------------------------------------- */

static int64_t run_rows(struct weir_rule_state *state,
                        void (*row)(struct weir_rule_run *, int64_t)) {
    struct weir_rule_run *run = weir_rule_state_run(state);
    int64_t start = weir_clock_thread_cpu_ns();
    for (int64_t n = 0; n < ROWS; n += CHUNK) {
        for (int i = 0; i < CHUNK; i++) {
            int64_t time = (n + i) * ROW_US;
            key_bytes[i][0] = 1;
            memcpy(key_bytes[i] + 1, &ids[n + i], 8);
            items[i] = (struct weir_rule_item){
                .row = i, .time_us = time, .gate_us = time, .key = key_bytes[i], .key_bytes = 9};
        }
        struct weir_rule_span span = {.items = items,
                                      .count = CHUNK,
                                      .gate_us = INT64_MIN,
                                      .clock_us = INT64_MIN,
                                      .stop_at = -1,
                                      .most = CHUNK + 1};
        enum weir_rule_end end;
        weir_rule_run_begin(state, &span, 0);
        for (int64_t i = n; weir_rule_next(run) != 0; i++) {
            row(run, i);
        }
        check(weir_rule_run_end(state, &end, &err));
    }
    return weir_clock_thread_cpu_ns() - start;
}

/* Rows of sixty bytes, each waiting for some thousand others. */
static int64_t let_wait(struct weir_rule_state *state) {
    uint8_t bytes[60] = {1};
    int64_t start = weir_clock_thread_cpu_ns();
    for (int64_t n = 0; n < ROWS; n++) {
        struct weir_rule_parked row = {.time_us = n * ROW_US + ids[n] % SPARE * ROW_US,
                                       .arrival = weir_rule_state_arrival(state),
                                       .bytes = bytes,
                                       .size = sizeof bytes};
        check(weir_rule_state_park(state, &row, &err));
        if (n >= WAITING) {
            check(weir_rule_state_first(state, &row) ? WEIR_OK : WEIR_E_BUG);
            check(weir_rule_state_drop_first(state));
        }
    }
    return weir_clock_thread_cpu_ns() - start;
}

static int64_t floor_rows(uint64_t keys) {
    uint64_t size = 1;
    while (size < keys * 2) {
        size *= 2;
    }
    int64_t(*table)[2] = calloc(size, sizeof *table);
    int64_t start = weir_clock_thread_cpu_ns();
    for (int64_t n = 0; n < ROWS; n++) {
        int64_t id = ids[n] + 1;
        uint64_t place = ((uint64_t)id * UINT64_C(0x9E3779B97F4A7C15)) >> 20 & (size - 1);
        while (table[place][0] != 0 && table[place][0] != id) {
            place = (place + 1) & (size - 1);
        }
        table[place][0] = id;
        table[place][1]++;
    }
    int64_t spent = weir_clock_thread_cpu_ns() - start;
    fprintf(stderr, table[0][1] < 0 ? "?" : "");
    free(table);
    return spent;
}

static void fill_steps(void) {
    for (int i = 0; i < 4; i++) {
        steps[i].name_bytes = 1;
        steps[i].condition = i;
        steps[i].min = steps[i].max = 1;
        steps[i].reach = i < 3 ? i + 1 : i;
        steps[i].ends = i == 3;
        steps[i].waits = i < 3;
    }
}

int main(int argc, char **argv) {
    const char *wanted = argc > 1 ? argv[1] : "";
    static const char *const number[] = {"value", "int64"};
    static const char *const text[] = {"value", "string"};
    static const char *const run[] = {"step",  "string", "count", "int32",  "since", "timestamp",
                                      "start", "double", "last",  "double", "gap",   "bool"};
    struct weir_schema *numbers = fields_of(number, 1);
    struct weir_schema *texts = fields_of(text, 1);
    struct weir_schema *runs = fields_of(run, 6);
    const struct weir_rule_cell counter = {"n", WEIR_RULE_COUNTER, 1, numbers};
    const struct weir_rule_cell value = {"n", WEIR_RULE_VALUE, 1, numbers};
    const struct weir_rule_cell ring = {"n", WEIR_RULE_RING, 16, numbers};
    const struct weir_rule_cell pattern[] = {{"runs", WEIR_RULE_LIST, 1000, runs},
                                             {"taken", WEIR_RULE_COUNTER, 1, numbers},
                                             {"paths", WEIR_RULE_LIST, 1000, texts}};
    const struct {
        const char *what;
        const struct weir_rule_cell *cells;
        int32_t count;
        void (*row)(struct weir_rule_run *, int64_t);
    } cases[] = {
        {"rule: a counter", &counter, 1, add_to_counter},
        {"rule: a value", &value, 1, set_value},
        {"rule: a ring of 16", &ring, 1, push_to_ring},
        {"rule: a value and a timer put off", &value, 1, put_timer_off},
        {"pattern: each row advances a run", pattern, 3, advance_pattern},
    };
    static const int32_t column[] = {0};
    static const uint64_t sizes[] = {4096, 262144};
    pool = weir_pool_create((size_t)200 << 20);
    key_schema = weir_schema_create();
    check(weir_schema_add_text(key_schema, "id", "int64", true, &err));
    key = weir_key_create(key_schema, column, 1, &err);
    fill_steps();
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        for (int64_t n = 0; n < ROWS; n++) {
            ids[n] = (int64_t)(next_random() % sizes[s]);
        }
        double least = (double)floor_rows(sizes[s]) / ROWS;
        for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
            if (strstr(cases[c].what, wanted) == NULL) {
                continue;
            }
            phases = calloc(sizes[s], 1);
            struct weir_rule_state *state = make(cases[c].cells, cases[c].count, 0);
            double spent = (double)run_rows(state, cases[c].row) / ROWS;
            printf("%-36s %7llu keys %8.2f ns/row   floor a bare hash table %6.2f ns/row\n",
                   cases[c].what, (unsigned long long)sizes[s], spent, least);
            weir_rule_state_destroy(state);
            free(phases);
        }
    }
    static const char waits[] = "rule: a row that waits";
    if (strstr(waits, wanted) != NULL) {
        struct weir_rule_state *state = make(&counter, 1, 0);
        printf("%-36s %7d rows %8.2f ns/row\n", waits, WAITING, (double)let_wait(state) / ROWS);
        weir_rule_state_destroy(state);
    }
    weir_schema_unref(numbers);
    weir_schema_unref(texts);
    weir_schema_unref(runs);
    weir_key_destroy(key);
    weir_schema_unref(key_schema);
    weir_pool_destroy(pool);
    return matches > 0 || wanted[0] != '\0' ? 0 : 1;
}
