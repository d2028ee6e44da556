/* Statistics of a data file: bounds that enclose what they stand for, or none. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "lake/delta/stats.h"

/* The statistics of one column with these bounds equal `wanted` after {"numRecords":9. */
static void expect(uint8_t type, const void *min, size_t min_size, const void *max, size_t max_size,
                   bool has_nan, const char *wanted) {
    static const char *const path[] = {"c"};
    const struct weir_field field = {.name = (char[]){"c"}, .type = type, .nullable = true};
    const struct weir_parquet_column_info column = {.path = path,
                                                    .path_count = 1,
                                                    .field = &field,
                                                    .has_nan = has_nan,
                                                    .min_max_set = true,
                                                    .value_count = 9,
                                                    .null_count = 2,
                                                    .min = min,
                                                    .min_size = min_size,
                                                    .max = max,
                                                    .max_size = max_size};
    const struct weir_parquet_file_info info = {.rows = 9, .column_count = 1, .columns = &column};
    struct weir_buffer out;
    char whole[1024];
    weir_buffer_init(&out, 1u << 16);
    assert_int_equal(weir_delta_stats_format(&info, 32, NULL, 4, &out), WEIR_OK);
    snprintf(whole, sizeof(whole), "{\"numRecords\":9,%s,\"nullCount\":{\"c\":2}}", wanted);
    assert_string_equal(weir_buffer_text(&out), whole);
    weir_buffer_fini(&out);
}

static void microseconds_round_down_below_and_up_above(void **state) {
    (void)state;
    const int64_t below = -1;
    const int64_t above = 1001;
    expect(WEIR_TYPE_TIMESTAMP, &below, 8, &above, 8, false,
           "\"minValues\":{\"c\":\"1969-12-31T23:59:59.999Z\"},"
           "\"maxValues\":{\"c\":\"1970-01-01T00:00:00.002Z\"}");
    const int64_t exact = 2000;
    expect(WEIR_TYPE_TIMESTAMP_NTZ, &exact, 8, &exact, 8, false,
           "\"minValues\":{\"c\":\"1970-01-01T00:00:00.002\"},"
           "\"maxValues\":{\"c\":\"1970-01-01T00:00:00.002\"}");
}

static void nan_and_infinity_leave_no_bound_that_hides_them(void **state) {
    (void)state;
    const double low = 1.5;
    const double high = 2.5;
    const double infinite = INFINITY;
    expect(WEIR_TYPE_DOUBLE, &low, 8, &high, 8, true, "\"minValues\":{\"c\":1.5},\"maxValues\":{}");
    expect(WEIR_TYPE_DOUBLE, &low, 8, &infinite, 8, false,
           "\"minValues\":{\"c\":1.5},\"maxValues\":{}");
}

static void long_texts_are_cut_to_bounds_that_still_enclose_them(void **state) {
    (void)state;
    expect(WEIR_TYPE_STRING, "abcde", 5, "abcde", 5, false,
           "\"minValues\":{\"c\":\"abcd\"},\"maxValues\":{\"c\":\"abcd\\u007f\"}");
    expect(WEIR_TYPE_STRING, "abcd", 4, "abcd", 4, false,
           "\"minValues\":{\"c\":\"abcd\"},\"maxValues\":{\"c\":\"abcd\"}");
    expect(WEIR_TYPE_STRING, "a\0bcd", 5, "abcd\xC3\xA4", 6, false,
           "\"minValues\":{\"c\":\"a\\u0000bc\"},\"maxValues\":{\"c\":\"abcd\xF4\x8F\xBF\xBF\"}");
}

static void booleans_have_counts_only(void **state) {
    (void)state;
    const uint8_t value = 1;
    expect(WEIR_TYPE_BOOL, &value, 1, &value, 1, false, "\"minValues\":{},\"maxValues\":{}");
}

static void members_are_those_of_the_object_itself(void **state) {
    static const char stats[] = " {\"minValues\": {\"at\": {\"x\":1}, \"b\":\"}\\\"{\"}, "
                                "\"maxValues\":{\"x\":2, \"c\":3}, \"nullCount\":null, \"x\":4}";
    (void)state;
    const char *least = delta_stats_member(stats, "minValues");
    assert_non_null(least);
    assert_memory_equal(delta_stats_member(least, "at"), "{\"x\":1}", 7);
    assert_memory_equal(delta_stats_member(least, "b"), "\"}", 2);
    assert_null(delta_stats_member(least, "x"));         /* inside, and behind */
    assert_null(delta_stats_member(least, "maxValues")); /* behind */
    assert_int_equal(delta_stats_member(delta_stats_member(stats, "maxValues"), "x")[0], '2');
    assert_int_equal(delta_stats_member(stats, "x")[0], '4');
    assert_null(delta_stats_member(delta_stats_member(stats, "nullCount"), "x")); /* no object */
    assert_null(delta_stats_member(NULL, "x"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(microseconds_round_down_below_and_up_above),
        cmocka_unit_test(nan_and_infinity_leave_no_bound_that_hides_them),
        cmocka_unit_test(long_texts_are_cut_to_bounds_that_still_enclose_them),
        cmocka_unit_test(booleans_have_counts_only),
        cmocka_unit_test(members_are_those_of_the_object_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
