/* What a row costs in the shipped rules: the generated loops of pipelines/retail.lua over batches
 * of 4,096 rows, beside the same work in plain C, the price of one call, and of the watchdog. CPU
 * time of the loop thread; each figure is the median of several rounds. Argument: project
 * directory. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "batch/builder.h"
#include "core/clock.h"
#include "core/decimal.h"
#include "script/script.h"

enum { ROWS = WEIR_BATCH_ROWS_MAX, ROUNDS = 31, CALLS = 40 };

struct bench {
    struct weir_script *script;
    struct weir_rule_set *rule_set;
    struct weir_pool *pool;
    struct weir_schema *schema;
    struct weir_batch *batch;
    struct weir_column out;
    struct weir_out *out_var;
    uint8_t *assigned;
    int32_t sel[ROWS];
    uint8_t verdict[ROWS];
};

static void check(int rc, const struct weir_error *err) {
    if (rc != WEIR_OK) {
        fprintf(stderr, "bench_script: %s\n", err->message);
        exit(1);
    }
}

static void must(bool ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "bench_script: %s\n", what);
        exit(1);
    }
}

/* --- one batch in the shape the plan asks for ----------------------------------------------- */

static void read_schema(struct bench *b) {
    struct weir_error err = {0};
    json_t *plan = json_loads(weir_rule_set_plan(b->rule_set, NULL), 0, NULL);
    must(plan != NULL, "the plan is no JSON");
    json_t *stream = json_array_get(json_object_get(plan, "streams"), 0);
    json_t *input = json_object_get(stream, "input");
    b->schema = weir_schema_create();
    must(b->schema != NULL, "out of memory");
    for (size_t i = 0; i < json_array_size(input); i++) {
        json_t *field = json_array_get(input, i);
        check(weir_schema_add_text(b->schema, json_string_value(json_object_get(field, "name")),
                                   json_string_value(json_object_get(field, "type")), true, &err),
              &err);
    }
    json_decref(plan);
}

/* gross = qty * unit_price - discount, in cents. */
static int64_t cents(const char *name, int32_t row) {
    int64_t qty = row % 9 + 1;
    int64_t price = 100 + row * 7 % 5000;
    int64_t discount = row % 50;
    if (strcmp(name, "unit_price") == 0) {
        return price;
    }
    if (strcmp(name, "discount") == 0) {
        return discount;
    }
    return strcmp(name, "vat") == 0 ? price / 5 : qty * price - discount;
}

static int append(struct weir_column_builder *column, const char *name, int32_t row) {
    switch (column->type) {
    case WEIR_TYPE_STRING:
        return weir_builder_bytes(column, "GBP", 3);
    case WEIR_TYPE_DECIMAL: {
        int64_t value = cents(name, row);
        return weir_builder_decimal(column, (uint64_t)value, value < 0 ? -1 : 0);
    }
    case WEIR_TYPE_DOUBLE:
        return weir_builder_double(column, row);
    case WEIR_TYPE_BOOL:
        return weir_builder_bool(column, row % 2 == 0);
    default:
        return weir_builder_int(column, strcmp(name, "qty") == 0 ? row % 9 + 1 : row);
    }
}

static void build_batch(struct bench *b) {
    struct weir_batch_builder builder;
    struct weir_error err = {0};
    check(weir_batch_builder_init(&builder, b->pool, b->schema, ROWS, 8 << 20, &err), &err);
    must(weir_batch_builder_begin(&builder) == WEIR_OK, "cannot begin a batch");
    for (int32_t row = 0; row < ROWS; row++) {
        for (int32_t i = 0; i < b->schema->count; i++) {
            must(append(&builder.columns[i], b->schema->fields[i].name, row) == WEIR_OK,
                 "cannot append");
        }
        weir_batch_builder_finish_row(&builder);
        b->sel[row] = row;
    }
    b->batch = weir_batch_builder_take(&builder);
    weir_batch_builder_fini(&builder);
    b->out = (struct weir_column){.length = ROWS,
                                  .null_count = ROWS,
                                  .validity = calloc(1, ROWS / 8),
                                  .values = calloc(ROWS, 16),
                                  .type = WEIR_TYPE_DECIMAL,
                                  .precision = 12,
                                  .scale = 2};
    b->assigned = calloc(1, ROWS);
    must(b->batch != NULL && b->out.values != NULL && b->out.validity != NULL &&
             b->assigned != NULL,
         "out of memory");
}

/* --- measuring ------------------------------------------------------------------------------ */

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void call(struct bench *b, int32_t function, int32_t rows) {
    struct weir_error err = {0};
    struct weir_call c = {.in = b->batch->columns,
                          .out = &b->out,
                          .out_var = &b->out_var,
                          .sel = b->sel,
                          .end = rows,
                          .rows = ROWS,
                          .verdict = b->verdict,
                          .assigned = &b->assigned};
    check(weir_rule_set_call(b->rule_set, function, &c, &err), &err);
}

/* Nanoseconds a row (or a call, when rows is 0). */
static double measure(struct bench *b, int32_t function, int32_t rows) {
    static double rounds[ROUNDS];
    for (int i = 0; i < CALLS; i++) {
        call(b, function, rows);
    }
    for (int round = 0; round < ROUNDS; round++) {
        int64_t start = weir_clock_thread_cpu_ns();
        for (int i = 0; i < CALLS; i++) {
            call(b, function, rows);
        }
        double took = (double)(weir_clock_thread_cpu_ns() - start);
        rounds[round] = took / CALLS / (rows > 0 ? rows : 1);
    }
    qsort(rounds, ROUNDS, sizeof(*rounds), by_value);
    return rounds[ROUNDS / 2];
}

static const struct weir_decimal128 *load_decimal(const struct weir_column *column, int32_t row,
                                                  struct weir_decimal128 *out) {
    const uint64_t *words = (const uint64_t *)column->values + (size_t)row * 2;
    out->lo = words[0];
    out->hi = (int64_t)words[1];
    out->scale = 2;
    return out;
}

/* The predicate in C through the same exact functions: the floor. */
static double measure_floor(struct bench *b) {
    static double rounds[ROUNDS];
    const struct weir_column *columns = b->batch->columns;
    int32_t at[4];
    static const char *const names[] = {"gross", "qty", "unit_price", "discount"};
    for (int i = 0; i < 4; i++) {
        at[i] = weir_schema_find(b->schema, names[i]);
        must(at[i] >= 0, "the shipped rules have changed: adapt bench_script");
    }
    for (int round = 0; round < ROUNDS; round++) {
        int64_t start = weir_clock_thread_cpu_ns();
        for (int32_t row = 0; row < ROWS; row++) {
            struct weir_decimal128 gross;
            struct weir_decimal128 price;
            struct weir_decimal128 discount;
            struct weir_decimal128 qty;
            weir_decimal_from_int64(&qty, ((const int32_t *)columns[at[1]].values)[row]);
            load_decimal(&columns[at[0]], row, &gross);
            bool ok =
                weir_decimal_mul(&price, load_decimal(&columns[at[2]], row, &price), &qty) == 0 &&
                weir_decimal_sub(&price, &price, load_decimal(&columns[at[3]], row, &discount)) ==
                    0;
            b->verdict[row] = ok && weir_decimal_compare(&gross, &price) == 0;
        }
        rounds[round] = (double)(weir_clock_thread_cpu_ns() - start) / ROWS;
    }
    qsort(rounds, ROUNDS, sizeof(*rounds), by_value);
    return rounds[ROUNDS / 2];
}

static void start(struct bench *b, const struct weir_script_options *options) {
    struct weir_error err = {0};
    struct weir_buffer report;
    weir_buffer_init(&report, 1 << 20);
    check(weir_script_create(options, &b->script, &err), &err);
    int rc = weir_script_load(b->script, "pipelines/retail.lua", NULL, 0, &b->rule_set, &report,
                              NULL, &err);
    if (rc != WEIR_OK) {
        fprintf(stderr, "%s\n", weir_buffer_text(&report));
    }
    check(rc, &err);
    weir_buffer_fini(&report);
    weir_script_set_clock(0);
}

static void stop(struct bench *b) {
    weir_rule_set_unref(b->rule_set);
    weir_script_destroy(b->script);
}

/* --- throws --------------------------------------------------------------------------------- */

/* The floor is the least that can be written by hand: a loop over an array whose rows throw. */
static const char throwing[] =
    "local ffi = require 'ffi' "
    "local codegen = require 'weir.internal.codegen' "
    "local types = require 'weir.internal.types' "
    "local function refuse(e) if e.amount == nil then error('refused') end return true end "
    "local columns = { { name = 'amount', type = types.parse 'decimal(12,2)' } } "
    "local bits = ffi.typeof 'const int64_t *' "
    "local function by_hand(call) "
    "  local values, verdict = ffi.cast(bits, call['in'][0].values), call.verdict "
    "  for i = call.begin, call['end'] - 1 do "
    "    call.cursor = i "
    "    if values[i * 2] == -1 then error('refused') end "
    "    verdict[i] = 1 "
    "  end "
    "end "
    "return { plan = '{}', hash_input = '', "
    "  functions = { by_hand, (codegen.predicate(refuse, columns, 'refuse')) } }";

/* Nanoseconds a throw, isolated as the pipeline does it: the loop goes on behind the row. */
static double measure_throws(struct bench *b, int32_t function) {
    enum { EVERY = 50 };
    static double rounds[ROUNDS];
    static int64_t values[ROWS][2];
    static uint8_t validity[ROWS / 8];
    for (int32_t row = 0; row < ROWS; row++) {
        bool is_null = row % EVERY == EVERY / 2;
        values[row][0] = is_null ? -1 : row;
        validity[row / 8] |= (uint8_t)(!is_null << row % 8);
    }
    struct weir_column column = {.length = ROWS,
                                 .null_count = ROWS / EVERY,
                                 .validity = validity,
                                 .values = values,
                                 .type = WEIR_TYPE_DECIMAL,
                                 .precision = 12,
                                 .scale = 2};
    for (int round = 0; round < ROUNDS; round++) {
        int throws = 0;
        int64_t start = weir_clock_thread_cpu_ns();
        for (int i = 0; i < CALLS; i++) {
            struct weir_error err = {0};
            struct weir_call c = {
                .in = &column, .sel = b->sel, .end = ROWS, .rows = ROWS, .verdict = b->verdict};
            while (weir_rule_set_call(b->rule_set, function, &c, &err) == WEIR_E_SCRIPT) {
                throws++;
                c.begin = c.cursor + 1;
            }
        }
        must(throws == CALLS * ((ROWS + EVERY / 2 - 1) / EVERY), "a row did not throw");
        rounds[round] = (double)(weir_clock_thread_cpu_ns() - start) / throws;
    }
    qsort(rounds, ROUNDS, sizeof(*rounds), by_value);
    return rounds[ROUNDS / 2];
}

int main(int argc, char **argv) {
    static struct bench b;
    must(argc < 2 || chdir(argv[1]) == 0, "no such directory");
    weir_script_block_signals();
    start(&b, &(struct weir_script_options){.jit_figures = true, .call_budget_ns = 5000000000});
    b.pool = weir_pool_create(256 << 20);
    must(b.pool != NULL, "out of memory");
    read_schema(&b);
    build_batch(&b);

    double floor_ns = measure_floor(&b);
    double predicate = measure(&b, 0, ROWS);
    int passed = 0;
    for (int i = 0; i < ROWS; i++) {
        passed += b.verdict[i] == 1;
    }
    must(passed == ROWS, "the predicate does not hold on rows made to fit it");
    double map = measure(&b, 1, ROWS);
    double empty = measure(&b, 0, 0);
    struct weir_script_jit jit;
    weir_script_jit_figures(b.script, &jit);
    stop(&b);

    start(&b, &(struct weir_script_options){.no_watchdog = true, .call_budget_ns = 5000000000});
    double unwatched = measure(&b, 0, ROWS);
    stop(&b);
    start(&b, &(struct weir_script_options){.jit_off = true, .call_budget_ns = 5000000000});
    double interpreted = measure(&b, 0, ROWS);
    stop(&b);

    struct weir_error err = {0};
    struct weir_buffer report;
    weir_buffer_init(&report, 1 << 20);
    check(weir_script_create(NULL, &b.script, &err), &err);
    check(weir_script_load_text(b.script, throwing, sizeof(throwing) - 1, "@throwing", &b.rule_set,
                                &report, &err),
          &err);
    weir_buffer_fini(&report);
    double throw_floor = measure_throws(&b, 0);
    double thrown = measure_throws(&b, 1);
    stop(&b);

    printf(
        "script predicate gross == qty * unit_price - discount: %.1f ns/row (floor, C on 128 bits: "
        "%.1f; interpreted: %.0f; watchdog off: %.1f)\n",
        predicate, floor_ns, interpreted, unwatched);
    printf("script map net = gross - vat: %.1f ns/row\n", map);
    printf("script call of a loop over no rows: %.0f ns\n", empty);
    printf("script throw, one row in 50: %.1f us (floor, a loop written by hand: %.1f)\n",
           thrown / 1e3, throw_floor / 1e3);
    printf("script jit: %lld traces, %lld aborts, %lld flushes\n", (long long)jit.traces,
           (long long)jit.aborts, (long long)jit.flushes);

    weir_batch_unref(b.batch);
    weir_schema_unref(b.schema);
    free(b.out.validity);
    free(b.out.values);
    free(b.assigned);
    weir_pool_destroy(b.pool);
    return 0;
}
