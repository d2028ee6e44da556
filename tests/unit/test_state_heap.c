#include "state/heap.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>

#include <cmocka.h>

enum { LARGE = 40000, SMALL = 100, PARTS = 64 };

static void large_parts_go_back_in_any_order(void **state) {
    (void)state;
    struct weir_heap heap;
    void *parts[PARTS];
    weir_heap_init(&heap);
    for (int i = 0; i < PARTS; i++) {
        parts[i] = weir_heap_take(&heap, (size_t)LARGE + (size_t)i);
        assert_non_null(parts[i]);
        memset(parts[i], i, (size_t)LARGE + (size_t)i);
    }
    for (int step = 0; step < PARTS; step++) {
        int i = step * 37 % PARTS;
        assert_int_equal(((uint8_t *)parts[i])[LARGE + i - 1], i);
        weir_heap_give(&heap, parts[i], (size_t)LARGE + (size_t)i);
    }
    assert_int_equal(heap.reserved_bytes, 0);
    weir_heap_fini(&heap);
}

/* What is told is LeakSanitizer's to say: nothing of a heap stays behind it. */
static void a_heap_that_goes_takes_along_what_is_taken(void **state) {
    (void)state;
    struct weir_heap heap;
    weir_heap_init(&heap);
    for (int round = 0; round < 3; round++) {
        void *kept = weir_heap_take(&heap, LARGE);
        void *given = weir_heap_take(&heap, LARGE * 2);
        assert_non_null(weir_heap_take(&heap, SMALL));
        assert_non_null(kept);
        weir_heap_give(&heap, given, LARGE * 2);
        weir_heap_fini(&heap);
        assert_int_equal(heap.reserved_bytes, 0);
    }
}

static void a_part_is_found_again(void **state) {
    (void)state;
    struct weir_heap heap;
    weir_heap_init(&heap);
    void *first = weir_heap_take(&heap, SMALL);
    weir_heap_give(&heap, first, SMALL);
    assert_int_equal(heap.idle_bytes, weir_heap_usable(SMALL));
    assert_ptr_equal(weir_heap_take(&heap, SMALL + 5), first); /* of the same class */
    assert_int_equal(heap.idle_bytes, 0);
    weir_heap_fini(&heap);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_parts_go_back_in_any_order),
        cmocka_unit_test(a_heap_that_goes_takes_along_what_is_taken),
        cmocka_unit_test(a_part_is_found_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
