/* Measures one by one: exact results where they are easy to get wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "operator/aggregate/aggregate.h"
#include "operator/watermark.h"

typedef __int128 int128;

static struct weir_pool *pool;

static int128 decimal_at(const struct weir_column *column, int64_t at) {
    int128 value;
    memcpy(&value, (const uint8_t *)column->values + at * 16, sizeof value);
    return value;
}

/* One measure over one column, one group, one window; values as rows of `batch`. */
static int aggregate_one(enum weir_measure_kind kind, struct weir_batch *batch,
                         struct weir_batch **result, struct weir_error *err) {
    struct weir_schema *schema = batch->schema;
    struct weir_measure measure = {.name = "total",
                                   .kind = kind,
                                   .has_input = true,
                                   .type = schema->fields[0].type,
                                   .precision = schema->fields[0].precision,
                                   .scale = schema->fields[0].scale};
    struct weir_aggregate_config config = {.declaration = "gold.one",
                                           .input = schema,
                                           .size_us = 10,
                                           .measures = &measure,
                                           .measure_count = 1,
                                           .option = "memory.state"};
    struct weir_aggregate *aggregate = weir_aggregate_create(&config, err);
    if (aggregate == NULL) {
        return err->code;
    }
    int64_t times[64] = {0};
    int64_t watermarks[64];
    int32_t late[64];
    int32_t late_count;
    for (int i = 0; i < 64; i++) {
        watermarks[i] = INT64_MIN;
    }
    const struct weir_column *inputs[1] = {&batch->columns[0]};
    int rc = weir_aggregate_feed(aggregate, batch, NULL, batch->rows, times, watermarks, inputs,
                                 NULL, late, &late_count, err);
    struct weir_batch_builder builder;
    assert_int_equal(
        weir_batch_builder_init(&builder, pool, weir_aggregate_output(aggregate), 8, 4096, NULL),
        WEIR_OK);
    assert_int_equal(weir_batch_builder_begin(&builder), WEIR_OK);
    enum weir_fired fired;
    if (rc == WEIR_OK) {
        rc = weir_aggregate_fire(aggregate, WEIR_WATERMARK_END, &builder, 8, &fired, err);
    }
    struct weir_batch *taken = weir_batch_builder_take(&builder);
    if (rc == WEIR_OK) {
        *result = taken;
    } else if (taken != NULL) {
        weir_batch_unref(taken);
    }
    weir_batch_builder_fini(&builder);
    weir_aggregate_destroy(aggregate);
    return rc;
}

static struct weir_batch *batch_of(const char *type, const int128 *values, int count) {
    struct weir_schema *schema = weir_schema_create();
    assert_int_equal(weir_schema_add_text(schema, "v", type, true, NULL), WEIR_OK);
    struct weir_batch_builder builder;
    assert_int_equal(weir_batch_builder_init(&builder, pool, schema, 64, 4096, NULL), WEIR_OK);
    assert_int_equal(weir_batch_builder_begin(&builder), WEIR_OK);
    for (int i = 0; i < count; i++) {
        int rc = schema->fields[0].type == WEIR_TYPE_DECIMAL
                     ? weir_builder_decimal(&builder.columns[0], (uint64_t)values[i],
                                            (int64_t)(values[i] >> 64))
                     : weir_builder_int(&builder.columns[0], (int64_t)values[i]);
        assert_int_equal(rc, WEIR_OK);
        weir_batch_builder_finish_row(&builder);
    }
    struct weir_batch *batch = weir_batch_builder_take(&builder);
    weir_batch_builder_fini(&builder);
    weir_schema_unref(schema);
    return batch;
}

static int128 power(int exponent) {
    int128 value = 1;
    while (exponent-- > 0) {
        value *= 10;
    }
    return value;
}

static void int_sums_may_leave_the_range_but_not_end_outside(void **state) {
    (void)state;
    struct weir_error err = {0};
    struct weir_batch *result = NULL;
    int128 there_and_back[] = {INT64_MAX, INT64_MAX, INT64_MIN, INT64_MIN, 7};
    struct weir_batch *batch = batch_of("int64", there_and_back, 5);
    assert_int_equal(aggregate_one(WEIR_MEASURE_SUM, batch, &result, &err), WEIR_OK);
    assert_int_equal(((const int64_t *)result->columns[2].values)[0], 5);
    weir_batch_unref(result);
    weir_batch_unref(batch);
    int128 over[] = {INT64_MAX, 1};
    batch = batch_of("int64", over, 2);
    assert_int_equal(aggregate_one(WEIR_MEASURE_SUM, batch, &result, &err), WEIR_E_DATA);
    assert_non_null(strstr(err.message, "'total'"));
    assert_non_null(strstr(err.message, "gold.one"));
    weir_batch_unref(batch);
}

static void decimal_sums_run_beyond_128_bits_and_stop_at_38_digits(void **state) {
    (void)state;
    struct weir_error err = {0};
    struct weir_batch *result = NULL;
    int128 most = power(38) - 1;
    int128 there_and_back[] = {most, most, most, most, -most, -most, -most, 0};
    struct weir_batch *batch = batch_of("decimal(38,2)", there_and_back, 8);
    assert_int_equal(aggregate_one(WEIR_MEASURE_SUM, batch, &result, &err), WEIR_OK);
    assert_true(decimal_at(&result->columns[2], 0) == most);
    assert_int_equal(result->columns[2].scale, 2);
    assert_int_equal(result->columns[2].precision, 38);
    weir_batch_unref(result);
    weir_batch_unref(batch);
    int128 over[] = {-most, -1};
    batch = batch_of("decimal(38,2)", over, 2);
    assert_int_equal(aggregate_one(WEIR_MEASURE_SUM, batch, &result, &err), WEIR_E_DATA);
    weir_batch_unref(batch);
}

static void averages_round_half_to_even_at_six_digits(void **state) {
    (void)state;
    static const struct {
        const char *type;
        int128 values[4];
        int count;
        int128 average;
        int scale;
    } cases[] = {
        {"int32", {1, 2}, 2, 1500000, 6},      {"int32", {1, 0, 0}, 3, 333333, 6},
        {"int32", {-2, 0, 0}, 3, -666667, 6},  {"decimal(10,6)", {1, 2}, 2, 2, 6}, /* 1.5e-6 to 2 */
        {"decimal(10,6)", {2, 3}, 2, 2, 6},                                        /* 2.5e-6 to 2 */
        {"decimal(10,6)", {-2, -3}, 2, -2, 6}, {"decimal(20,8)", {5, 5, 6}, 3, 5, 8},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct weir_error err = {0};
        struct weir_batch *result = NULL;
        struct weir_batch *batch = batch_of(cases[i].type, cases[i].values, cases[i].count);
        assert_int_equal(aggregate_one(WEIR_MEASURE_AVG, batch, &result, &err), WEIR_OK);
        assert_int_equal(result->columns[2].scale, cases[i].scale);
        assert_true(decimal_at(&result->columns[2], 0) == cases[i].average);
        weir_batch_unref(result);
        weir_batch_unref(batch);
    }
}

static void measures_refuse_types_they_cannot_take(void **state) {
    (void)state;
    struct weir_error err = {0};
    struct weir_field out = {0};
    struct weir_measure measure = {
        .name = "m", .kind = WEIR_MEASURE_SUM, .has_input = true, .type = WEIR_TYPE_STRING};
    assert_int_equal(weir_measure_output(&measure, &out, &err), WEIR_E_CONFIG);
    assert_non_null(strstr(err.message, "'m'"));
    measure.type = WEIR_TYPE_STRUCT;
    measure.kind = WEIR_MEASURE_DISTINCT;
    assert_int_equal(weir_measure_output(&measure, &out, &err), WEIR_E_CONFIG);
    measure.kind = WEIR_MEASURE_MAX;
    measure.has_input = false;
    assert_int_equal(weir_measure_output(&measure, &out, &err), WEIR_E_CONFIG);
}

int main(void) {
    pool = weir_pool_create((size_t)1 << 30);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(int_sums_may_leave_the_range_but_not_end_outside),
        cmocka_unit_test(decimal_sums_run_beyond_128_bits_and_stop_at_38_digits),
        cmocka_unit_test(averages_round_half_to_even_at_six_digits),
        cmocka_unit_test(measures_refuse_types_they_cannot_take),
    };
    int failed = cmocka_run_group_tests_name("operator_measure", tests, NULL, NULL);
    weir_pool_destroy(pool);
    return failed;
}
