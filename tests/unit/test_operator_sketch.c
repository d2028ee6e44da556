/* Sketches against what they estimate; the same bits whatever the order and the merging; damaged
 * bytes are told. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "operator/sketch.h"
#include "random.h"

static void assert_same_part(const struct weir_part *a, const struct weir_part *b) {
    assert_int_equal(a->length, b->length);
    assert_memory_equal(a->bytes, b->bytes, a->length);
}

static void distinct_is_within_its_error_and_merges_to_the_same_bits(void **state) {
    (void)state;
    static const int counts[] = {0, 1, 10, 900, 1000, 5000, 100000, 1000000};
    struct weir_heap heap;
    weir_heap_init(&heap);
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        struct weir_part whole = {0};
        struct weir_part halves[2] = {{0}, {0}};
        for (int i = 0; i < counts[c]; i++) {
            uint64_t hash = next_random();
            assert_true(weir_distinct_sketch_add(&whole, &heap, hash));
            assert_true(weir_distinct_sketch_add(&whole, &heap, hash));
            assert_true(weir_distinct_sketch_add(&halves[i % 7 == 0], &heap, hash));
        }
        int64_t found = weir_distinct_sketch_count(&whole);
        assert_true(llabs(found - counts[c]) <= 1 + 4 * 0.0163 * counts[c]);
        struct weir_part borrowed = halves[0];
        borrowed.capacity = 0; /* another's: must not change */
        uint32_t length = halves[0].length;
        assert_true(weir_distinct_sketch_merge(&borrowed, &heap, &halves[1]));
        assert_int_equal(halves[0].length, length);
        assert_true(weir_distinct_sketch_merge(&halves[1], &heap, &halves[0]));
        assert_int_equal(weir_distinct_sketch_count(&halves[1]), found);
        assert_same_part(&halves[1], &borrowed);
        assert_true(weir_distinct_sketch_check(whole.bytes, whole.length));
    }
    weir_heap_fini(&heap);
}

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static void quantiles_are_within_their_error_in_any_order(void **state) {
    (void)state;
    enum { VALUES = 5000 };
    static double values[VALUES];
    struct weir_heap heap;
    weir_heap_init(&heap);
    struct weir_part whole = {0};
    struct weir_part halves[2] = {{0}, {0}};
    for (int i = 0; i < VALUES; i++) {
        double size = exp((double)(next_random() % 1000) / 200);
        values[i] = next_random() % 3 == 0 ? -size : next_random() % 50 == 0 ? 0.0 : size;
        assert_true(weir_quantile_sketch_add(&whole, &heap, values[i], 1));
    }
    for (int i = VALUES - 1; i >= 0; i--) {
        assert_true(weir_quantile_sketch_add(&halves[i % 3 == 0], &heap, values[i], 1));
    }
    assert_true(weir_quantile_sketch_merge(&halves[0], &heap, &halves[1]));
    assert_same_part(&halves[0], &whole);
    for (int i = 0; i < VALUES; i += 2) { /* taken back: what is left is as if never added */
        assert_true(weir_quantile_sketch_add(&whole, &heap, values[i], -1));
    }
    struct weir_part odd = {0};
    int count = 0;
    for (int i = 1; i < VALUES; i += 2) {
        assert_true(weir_quantile_sketch_add(&odd, &heap, values[i], 1));
        values[count++] = values[i];
    }
    assert_same_part(&whole, &odd);
    qsort(values, (size_t)count, sizeof *values, compare_doubles);
    for (int percent = 0; percent <= 100; percent += 5) {
        double got;
        assert_true(weir_quantile_sketch_value(&odd, percent / 100.0, &got));
        int rank = (int)ceil(percent / 100.0 * count);
        double wanted = values[rank < 1 ? 0 : rank - 1];
        assert_true(fabs(got - wanted) <= fabs(wanted) / 127);
    }
    weir_heap_fini(&heap);
}

static void a_quantile_sketch_keeps_the_highest_magnitudes_apart(void **state) {
    (void)state;
    struct weir_heap heap;
    weir_heap_init(&heap);
    struct weir_part part = {0};
    for (int i = 0; i < 4000; i++) {
        assert_true(
            weir_quantile_sketch_add(&part, &heap, ldexp(1.0 + (i % 64) / 64.0, i / 64), 1));
    }
    assert_true(part.length <= 12 * 1024);
    double highest;
    assert_true(weir_quantile_sketch_value(&part, 1, &highest));
    double wanted = ldexp(1.0 + (3999 % 64) / 64.0, 3999 / 64);
    assert_true(fabs(highest - wanted) <= wanted / 127);
    assert_true(weir_quantile_sketch_check(part.bytes, part.length));
    weir_heap_fini(&heap);
}

static void nothing_has_no_quantile_and_damage_is_told(void **state) {
    (void)state;
    struct weir_part nothing = {0};
    double value;
    assert_false(weir_quantile_sketch_value(&nothing, 0.5, &value));
    assert_int_equal(weir_distinct_sketch_count(&nothing), 0);
    uint8_t damaged[24] = {0}; /* two equal buckets, of no count */
    assert_false(weir_quantile_sketch_check(damaged, sizeof damaged));
    assert_false(weir_quantile_sketch_check(damaged, 13));
    uint8_t registers[6] = {1, 0, 3, 1, 0, 4}; /* one twice */
    assert_false(weir_distinct_sketch_check(registers, sizeof registers));
    assert_false(weir_distinct_sketch_check(registers, 4));
    assert_true(weir_distinct_sketch_check(registers, 3));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(distinct_is_within_its_error_and_merges_to_the_same_bits),
        cmocka_unit_test(quantiles_are_within_their_error_in_any_order),
        cmocka_unit_test(a_quantile_sketch_keeps_the_highest_magnitudes_apart),
        cmocka_unit_test(nothing_has_no_quantile_and_damage_is_told),
    };
    return cmocka_run_group_tests_name("operator_sketch", tests, NULL, NULL);
}
