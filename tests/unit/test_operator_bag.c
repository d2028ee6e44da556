/* Bags against a naive list: random adds, takes back and merges; orders there and back; damaged
 * bytes are told. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "operator/aggregate/bag.h"
#include "operator/order.h"
#include "random.h"

enum { ITEMS = 3000 };

struct naive {
    int64_t order[ITEMS];
    uint32_t value[ITEMS];
    int count;
};

static void add(struct weir_part *part, struct weir_heap *heap, const struct weir_bag_rules *rules,
                struct weir_bag_scratch *scratch, int64_t order, uint32_t value, int64_t count) {
    struct weir_buffer bytes;
    weir_buffer_init(&bytes, 64);
    assert_int_equal(weir_order_int64(order, false, &bytes), WEIR_OK);
    bool valued = rules->equals != WEIR_BAG_ONE;
    struct weir_bag_item item = {.order = bytes.data,
                                 .order_bytes = (uint32_t)bytes.size,
                                 .value = (const uint8_t *)&value,
                                 .value_bytes = valued ? sizeof value : 0,
                                 .count = count};
    assert_int_equal(weir_bag_add(part, heap, rules, scratch, &item), WEIR_OK);
    weir_buffer_fini(&bytes);
}

static void naive_put(struct naive *naive, int64_t order, uint32_t value, bool last_first) {
    int at = naive->count;
    while (at > 0 &&
           (naive->order[at - 1] > order || (last_first && naive->order[at - 1] == order))) {
        naive->order[at] = naive->order[at - 1];
        naive->value[at] = naive->value[at - 1];
        at--;
    }
    naive->order[at] = order;
    naive->value[at] = value;
    naive->count++;
}

static void naive_take(struct naive *naive, int at) {
    naive->count--;
    for (; at < naive->count; at++) {
        naive->order[at] = naive->order[at + 1];
        naive->value[at] = naive->value[at + 1];
    }
}

static void check(const struct weir_part *part, const struct weir_bag_rules *rules,
                  struct weir_bag_scratch *scratch, const struct naive *naive) {
    size_t count;
    int seen = 0;
    assert_true(weir_bag_check(part->bytes, part->length));
    assert_int_equal(weir_bag_items(part, rules, scratch, &count), WEIR_OK);
    for (size_t i = 0; i < count; i++) {
        for (int64_t n = 0; n < scratch->items[i].count; n++, seen++) {
            int64_t order;
            assert_true(seen < naive->count);
            assert_true(weir_order_read_int64(scratch->items[i].order,
                                              scratch->items[i].order_bytes, &order));
            assert_int_equal(order, naive->order[seen]);
            if (rules->equals != WEIR_BAG_ONE) {
                assert_memory_equal(scratch->items[i].value, &naive->value[seen], sizeof(uint32_t));
            }
        }
    }
    int most = rules->most > 0 && (int)rules->most < naive->count ? (int)rules->most : naive->count;
    assert_int_equal(seen, most);
}

static void a_bag_is_a_sorted_list(void **state) {
    (void)state;
    for (int seed = 0; seed < 60; seed++) {
        struct weir_heap heap;
        struct weir_bag_scratch scratch = {0};
        struct naive naive = {.count = 0};
        struct weir_part part = {0};
        struct weir_bag_rules rules = {.equals = (enum weir_bag_equals)(seed % 3)};
        bool takes_back = seed % 2 == 0;
        rules.most = !takes_back && rules.equals == WEIR_BAG_FIRST ? 1 + below(400) : 0;
        uint64_t orders = seed % 4 == 0 ? 5 : 100000;
        weir_heap_init(&heap);
        int items = (int)below(ITEMS);
        for (int i = 0; i < items; i++) {
            if (takes_back && naive.count > 0 && below(3) == 0) {
                /* The first of its order and value there is goes. */
                int at = (int)below((uint64_t)naive.count);
                for (int k = 0; k < at; k++) {
                    if (naive.order[k] == naive.order[at] && naive.value[k] == naive.value[at]) {
                        at = k;
                    }
                }
                add(&part, &heap, &rules, &scratch, naive.order[at], naive.value[at], -1);
                naive_take(&naive, at);
                continue;
            }
            int64_t order = (int64_t)below(orders) - (int64_t)(orders / 2);
            uint32_t value = rules.equals == WEIR_BAG_ONE ? 0 : (uint32_t)below(4);
            add(&part, &heap, &rules, &scratch, order, value, 1);
            naive_put(&naive, order, value, rules.equals == WEIR_BAG_LAST);
        }
        check(&part, &rules, &scratch, &naive);
        weir_bag_scratch_fini(&scratch);
        if (part.capacity > 0) {
            weir_heap_give(&heap, part.bytes, part.capacity);
        }
        weir_heap_fini(&heap);
    }
}

static void what_is_merged_comes_after_and_leaves_the_other_alone(void **state) {
    (void)state;
    for (int seed = 0; seed < 30; seed++) {
        struct weir_heap heap;
        struct weir_bag_scratch scratch = {0};
        struct naive naive = {.count = 0};
        struct weir_part parts[2] = {{0}, {0}};
        struct weir_bag_rules rules = {.equals = (enum weir_bag_equals)(seed % 3)};
        weir_heap_init(&heap);
        for (int half = 0; half < 2; half++) {
            for (int i = 0; i < 600; i++) {
                int64_t order = (int64_t)below(50);
                uint32_t value = rules.equals == WEIR_BAG_ONE ? 0 : (uint32_t)below(9);
                add(&parts[half], &heap, &rules, &scratch, order, value, 1);
                naive_put(&naive, order, value, rules.equals == WEIR_BAG_LAST);
            }
        }
        uint8_t *copy = malloc(parts[0].length);
        memcpy(copy, parts[0].bytes, parts[0].length);
        struct weir_part borrowed = parts[0];
        borrowed.capacity = 0;
        assert_int_equal(weir_bag_merge(&borrowed, &heap, &rules, &scratch, &parts[1]), WEIR_OK);
        check(&borrowed, &rules, &scratch, &naive);
        assert_memory_equal(copy, parts[0].bytes, parts[0].length);
        free(copy);
        weir_bag_scratch_fini(&scratch);
        struct weir_part all[3] = {parts[0], parts[1], borrowed};
        for (int i = 0; i < 3; i++) {
            weir_heap_give(&heap, all[i].bytes, all[i].capacity);
        }
        weir_heap_fini(&heap);
    }
}

static void rare_values_are_dropped_within_the_error_whatever_is_merged(void **state) {
    (void)state;
    enum { CANDIDATES = 50, VALUES = 400, ADDS = 20000 };
    struct weir_heap heap;
    struct weir_bag_scratch scratch = {0};
    struct weir_part parts[3] = {{0}, {0}, {0}};
    struct weir_bag_rules rules = {.equals = WEIR_BAG_ONE, .candidates = CANDIDATES};
    int64_t counts[VALUES] = {0};
    weir_heap_init(&heap);
    for (int i = 0; i < ADDS; i++) {
        uint64_t value = below(2) ? below(5) : below(VALUES);
        counts[value]++;
        add(&parts[below(3)], &heap, &rules, &scratch, (int64_t)value, 0, 1);
    }
    assert_int_equal(weir_bag_merge(&parts[0], &heap, &rules, &scratch, &parts[1]), WEIR_OK);
    assert_int_equal(weir_bag_merge(&parts[0], &heap, &rules, &scratch, &parts[2]), WEIR_OK);
    size_t count;
    int64_t found[VALUES] = {0};
    assert_int_equal(weir_bag_items(&parts[0], &rules, &scratch, &count), WEIR_OK);
    assert_true(count <= CANDIDATES);
    for (size_t i = 0; i < count; i++) {
        int64_t value;
        assert_true(weir_order_read_int64(scratch.items[i].order, 8, &value));
        found[value] = scratch.items[i].count;
    }
    for (int v = 0; v < VALUES; v++) {
        assert_true(found[v] <= counts[v]);
        assert_true(found[v] >= counts[v] - ADDS / (CANDIDATES + 1));
    }
    for (int i = 0; i < 3; i++) {
        weir_heap_give(&heap, parts[i].bytes, parts[i].capacity);
    }
    weir_bag_scratch_fini(&scratch);
    weir_heap_fini(&heap);
}

static void orders_compare_as_their_values_and_come_back(void **state) {
    (void)state;
    double doubles[] = {-INFINITY, -1e300, -2.5, -1e-300, 0.0, 1e-300, 1.5, 1e300, INFINITY, NAN};
    struct weir_buffer before;
    struct weir_buffer bytes;
    weir_buffer_init(&before, 64);
    weir_buffer_init(&bytes, 64);
    for (size_t i = 0; i < sizeof doubles / sizeof doubles[0]; i++) {
        struct weir_column column = {.type = WEIR_TYPE_DOUBLE, .length = 1, .values = &doubles[i]};
        double back;
        weir_buffer_clear(&bytes);
        assert_int_equal(weir_order_value(&column, 0, false, &bytes), WEIR_OK);
        assert_true(weir_order_read_double(bytes.data, bytes.size, &back));
        assert_true(back == doubles[i] || (isnan(back) && isnan(doubles[i])));
        assert_true(i == 0 || memcmp(before.data, bytes.data, 8) < 0);
        weir_buffer_clear(&before);
        assert_int_equal(weir_buffer_append(&before, bytes.data, bytes.size), WEIR_OK);
    }
    weir_int128 wide[] = {-((weir_int128)1 << 100), -((weir_int128)1 << 64), -1, 0, 1,
                          (weir_int128)1 << 64,     (weir_int128)1 << 100};
    for (size_t i = 0; i < sizeof wide / sizeof wide[0]; i++) {
        weir_int128 back;
        weir_buffer_clear(&bytes);
        assert_int_equal(weir_order_int128(wide[i], false, &bytes), WEIR_OK);
        assert_true(weir_order_read_int128(bytes.data, bytes.size, &back) && back == wide[i]);
        assert_true(i == 0 || memcmp(before.data, bytes.data, 16) < 0);
        weir_buffer_clear(&before);
        assert_int_equal(weir_buffer_append(&before, bytes.data, bytes.size), WEIR_OK);
    }
    assert_false(weir_order_read_int128(bytes.data, 15, &wide[0]));
    weir_buffer_fini(&before);
    weir_buffer_fini(&bytes);
}

static void damaged_bytes_are_told_or_harmless(void **state) {
    (void)state;
    struct weir_heap heap;
    struct weir_bag_scratch scratch = {0};
    struct weir_part part = {0};
    struct weir_bag_rules rules = {.equals = WEIR_BAG_FIRST};
    weir_heap_init(&heap);
    for (int i = 0; i < 300; i++) {
        add(&part, &heap, &rules, &scratch, (int64_t)below(50), (uint32_t)i, 1);
    }
    int told = 0;
    for (int i = 0; i < 5000; i++) {
        uint8_t *copy = malloc(part.length);
        memcpy(copy, part.bytes, part.length);
        copy[below(part.length)] ^= (uint8_t)(1 + below(255));
        struct weir_part damaged = {copy, part.length, 0};
        size_t count;
        if (!weir_bag_check(copy, part.length)) {
            told++;
        } else {
            assert_int_equal(weir_bag_items(&damaged, &rules, &scratch, &count), WEIR_OK);
        }
        free(copy);
    }
    assert_true(told > 1000);
    weir_heap_give(&heap, part.bytes, part.capacity);
    weir_bag_scratch_fini(&scratch);
    weir_heap_fini(&heap);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bag_is_a_sorted_list),
        cmocka_unit_test(what_is_merged_comes_after_and_leaves_the_other_alone),
        cmocka_unit_test(rare_values_are_dropped_within_the_error_whatever_is_merged),
        cmocka_unit_test(orders_compare_as_their_values_and_come_back),
        cmocka_unit_test(damaged_bytes_are_told_or_harmless),
    };
    return cmocka_run_group_tests_name("operator_bag", tests, NULL, NULL);
}
