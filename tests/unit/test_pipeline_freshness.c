#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/clock.h"
#include "pipeline/freshness.h"

enum { MS = 1000000 };

static void a_row_is_as_old_as_it_waited(void **unused) {
    (void)unused;
    struct freshness f;
    freshness_init(&f);
    int64_t now = weir_clock_mono_ns();
    freshness_applied(&f, 1, now, 99);
    freshness_applied(&f, 1, now - INT64_C(5000) * MS, 1);
    freshness_applied(&f, 1, now, 0); /* no rows: no age */
    struct freshness_of of = freshness_read(&f, false);
    assert_int_equal(of.rows, 100);
    assert_true(of.p50 < 4000000);
    assert_true(of.p999 >= 5000000 && of.max >= 5000000);
    assert_int_equal(freshness_read(&f, true).rows, 0);
    freshness_fini(&f);
}

static void rows_are_in_tables_when_the_slowest_sink_is_through(void **unused) {
    (void)unused;
    struct freshness f;
    freshness_init(&f);
    int64_t now = weir_clock_mono_ns();
    freshness_applied(&f, 1, now - INT64_C(9000) * MS, 1000);
    freshness_applied(&f, 1, now - INT64_C(5000) * MS, 1000);
    freshness_applied(&f, 2, now, 7);
    freshness_committed(&f, 0, 2, 1);
    freshness_committed(&f, 0, 2, 2);
    assert_int_equal(freshness_read(&f, true).rows, 0);
    freshness_committed(&f, 1, 2, 1);
    struct freshness_of of = freshness_read(&f, true);
    assert_int_equal(of.rows, 2000);
    assert_true(of.p50 > 6500000 && of.max > 8500000); /* evenly from 5 s to 9 s */
    freshness_committed(&f, 1, 2, 1);                  /* told once */
    assert_int_equal(freshness_read(&f, true).rows, 2000);
    freshness_committed(&f, 1, 2, 2);
    assert_int_equal(freshness_read(&f, true).rows, 2007);
    freshness_fini(&f);
}

static void epochs_beyond_what_is_kept_are_left_out(void **unused) {
    (void)unused;
    struct freshness f;
    freshness_init(&f);
    int64_t now = weir_clock_mono_ns();
    for (uint64_t epoch = 1; epoch <= 3 * FRESHNESS_EPOCHS; epoch++) {
        freshness_applied(&f, epoch, now, 1);
    }
    freshness_committed(&f, 0, 1, 3 * FRESHNESS_EPOCHS);
    assert_int_equal(freshness_read(&f, true).rows, FRESHNESS_EPOCHS);
    freshness_committed(&f, 0, 1, UINT64_C(1) << 40); /* epochs without rows, of another log */
    assert_int_equal(freshness_read(&f, true).rows, FRESHNESS_EPOCHS);
    freshness_fini(&f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_row_is_as_old_as_it_waited),
        cmocka_unit_test(rows_are_in_tables_when_the_slowest_sink_is_through),
        cmocka_unit_test(epochs_beyond_what_is_kept_are_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
