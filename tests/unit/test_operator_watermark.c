/* Watermarks by row: against the definition, partition by partition; windows' arithmetic. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "operator/watermark.h"
#include "operator/window.h"
#include "random.h"

static struct weir_error err;

static struct weir_watermark *make(int64_t out_of_order, int64_t idle, int64_t max_ahead) {
    struct weir_watermark_config config = {.dataset = "silver.test",
                                           .out_of_order_us = out_of_order,
                                           .idle_us = idle,
                                           .max_ahead_us = max_ahead};
    struct weir_watermark *watermark = weir_watermark_create(&config, &err);
    assert_non_null(watermark);
    return watermark;
}

static void feed(struct weir_watermark *watermark, int32_t partition, int64_t clock,
                 const int64_t *times, int32_t rows, int64_t *before, uint8_t *flags) {
    memset(flags, 0, (size_t)rows);
    weir_watermark_feed_times(watermark, partition, clock, times, rows, before, flags);
}

static void feed_one(struct weir_watermark *watermark, int32_t partition, int64_t clock,
                     int64_t time) {
    int64_t before;
    uint8_t flag;
    feed(watermark, partition, clock, &time, 1, &before, &flag);
}

static void equals_the_definition_however_rows_are_batched(void **state) {
    (void)state;
    enum { PARTITIONS = 3, ROWS = 600, LATE = 20 };
    for (int64_t largest = 1; largest <= 64; largest *= 4) {
        random_state = 3;
        struct weir_watermark *watermark = make(LATE, 0, 1000000);
        int64_t max[PARTITIONS];
        int64_t now = INT64_MIN;
        for (int p = 0; p < PARTITIONS; p++) {
            max[p] = INT64_MIN;
            char name[2] = {(char)('a' + p), 0};
            assert_int_equal(weir_watermark_partition(watermark, name, 0), p);
        }
        int64_t times[64];
        int64_t before[64];
        uint8_t flags[64];
        /* Runs of rows of one partition; the run is cut into batches of up to `largest`. */
        for (int run = 0; run < ROWS / 20; run++) {
            int32_t p = (int32_t)below(PARTITIONS);
            int32_t left = 20;
            while (left > 0) {
                int32_t rows = largest < left ? (int32_t)largest : left;
                for (int32_t i = 0; i < rows; i++) {
                    times[i] = run * 10 - 300 + (int64_t)below(60);
                }
                feed(watermark, p, 0, times, rows, before, flags);
                for (int32_t i = 0; i < rows; i++) {
                    int64_t least = INT64_MAX;
                    for (int q = 0; q < PARTITIONS; q++) {
                        int64_t own = max[q] == INT64_MIN ? INT64_MIN : max[q] - LATE;
                        least = own < least ? own : least;
                    }
                    now = least > now ? least : now;
                    assert_int_equal(before[i], now);
                    max[p] = times[i] > max[p] ? times[i] : max[p];
                }
                left -= rows;
            }
        }
        assert_true(weir_watermark_now(watermark) > INT64_MIN);
        weir_watermark_destroy(watermark);
    }
}

static void future_and_null_rows_are_flagged_and_move_nothing(void **state) {
    (void)state;
    struct weir_watermark *watermark = make(5, 0, 100);
    int32_t p = weir_watermark_partition(watermark, "p", 0);
    int64_t values[] = {1000, 1101, 0, 1100, 1050};
    uint8_t validity = 0x1b; /* row 2 is null */
    struct weir_column time = {.length = 5,
                               .null_count = 1,
                               .validity = &validity,
                               .values = values,
                               .type = WEIR_TYPE_TIMESTAMP};
    int64_t times[5];
    int64_t before[5];
    uint8_t flags[5];
    assert_int_equal(weir_watermark_feed(watermark, p, 1000, &time, 5, times, before, flags),
                     WEIR_OK);
    static const uint8_t wanted[] = {WEIR_TIME_OK, WEIR_TIME_FUTURE, WEIR_TIME_NULL, WEIR_TIME_OK,
                                     WEIR_TIME_OK};
    static const int64_t marks[] = {INT64_MIN, 995, 995, 995, 1095};
    assert_memory_equal(flags, wanted, 5);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(before[i], marks[i]);
    }
    assert_int_equal(weir_watermark_now(watermark), 1095);
    weir_watermark_destroy(watermark);
}

static void nanoseconds_and_dates_round_down_to_microseconds(void **state) {
    (void)state;
    int64_t ns[] = {1999, -1, -1000, -1001};
    int64_t times[4];
    uint8_t nulls[4];
    struct weir_column column = {.length = 4, .values = ns, .type = WEIR_TYPE_TIMESTAMP_NS};
    assert_int_equal(weir_time_read(&column, 4, times, nulls), WEIR_OK);
    static const int64_t wanted[] = {1, -1, -1, -2};
    assert_memory_equal(times, wanted, sizeof wanted);
    int32_t days[] = {1, -1};
    column = (struct weir_column){.length = 2, .values = days, .type = WEIR_TYPE_DATE};
    assert_int_equal(weir_time_read(&column, 2, times, nulls), WEIR_OK);
    assert_int_equal(times[0], INT64_C(86400000000));
    assert_int_equal(times[1], -INT64_C(86400000000));
    column.type = WEIR_TYPE_INT64;
    assert_int_equal(weir_time_read(&column, 2, times, nulls), WEIR_E_BUG);
}

static void an_idle_partition_holds_nothing_and_blocked_time_does_not_count(void **state) {
    (void)state;
    struct weir_watermark *watermark = make(0, 100, -1);
    int32_t a = weir_watermark_partition(watermark, "a", 0);
    int32_t b = weir_watermark_partition(watermark, "b", 0);
    int64_t time = 500;
    int64_t before;
    uint8_t flag;
    feed(watermark, a, 50, &time, 1, &before, &flag);
    assert_int_equal(weir_watermark_now(watermark), INT64_MIN); /* b has had no row */
    weir_watermark_block(watermark, b, true, 60);
    assert_false(weir_watermark_tick(watermark, 130)); /* b waits for us: 60 us of its own */
    weir_watermark_block(watermark, b, false, 130);
    assert_false(weir_watermark_tick(watermark, 149)); /* a: 99 us; b: 79 */
    time = 600;
    feed(watermark, a, 149, &time, 1, &before, &flag);
    assert_false(weir_watermark_tick(watermark, 169)); /* b: 99 */
    assert_true(weir_watermark_tick(watermark, 170));
    assert_int_equal(weir_watermark_now(watermark), 600);
    /* b wakes up behind: its rows are late, the dataset's watermark stays */
    time = 10;
    feed(watermark, b, 171, &time, 1, &before, &flag);
    assert_int_equal(before, 600);
    assert_int_equal(weir_watermark_now(watermark), 600);
    time = 900;
    feed(watermark, a, 172, &time, 1, &before, &flag);
    assert_int_equal(weir_watermark_now(watermark), 600); /* b holds again */
    weir_watermark_finish(watermark, b);
    assert_int_equal(weir_watermark_now(watermark), 900);
    weir_watermark_destroy(watermark);
}

static void time_in_which_nothing_is_taken_is_nobodys_idleness(void **state) {
    (void)state;
    struct weir_watermark *watermark = make(10, 100, -1);
    int32_t a = weir_watermark_partition(watermark, "a", 0);
    int32_t b = weir_watermark_partition(watermark, "b", 0);
    feed_one(watermark, a, 50, 500);
    feed_one(watermark, b, 50, 300);
    weir_watermark_block(watermark, b, true, 60); /* 10 us of its own, 40 more of its own a's */
    weir_watermark_held(watermark, 1000, 1100);   /* from 100 on */
    assert_false(weir_watermark_tick(watermark, 1149)); /* a: 50 and 49 */
    feed_one(watermark, a, 1149, 600);
    assert_int_equal(weir_watermark_now(watermark), 290);
    assert_false(weir_watermark_tick(watermark, 1189)); /* b: 10 and 89 */
    assert_true(weir_watermark_tick(watermark, 1190));
    assert_int_equal(weir_watermark_now(watermark), 590);
    weir_watermark_held(watermark, 1 << 20, 1200); /* no further than the clock */
    feed_one(watermark, b, 1200, 610);
    feed_one(watermark, a, 1290, 900);
    assert_int_equal(weir_watermark_now(watermark), 600);
    assert_false(weir_watermark_tick(watermark, 1299));
    assert_true(weir_watermark_tick(watermark, 1300));
    assert_int_equal(weir_watermark_now(watermark), 890);
    weir_watermark_destroy(watermark);
}

static void when_all_are_idle_the_watermark_stands(void **state) {
    (void)state;
    struct weir_watermark *watermark = make(10, 100, -1);
    int32_t a = weir_watermark_partition(watermark, "a", 0);
    int64_t time = 500;
    int64_t before;
    uint8_t flag;
    feed(watermark, a, 0, &time, 1, &before, &flag);
    assert_false(weir_watermark_tick(watermark, 1000));
    assert_int_equal(weir_watermark_now(watermark), 490);
    weir_watermark_destroy(watermark);
}

static void why_names_the_partition_that_holds_it(void **state) {
    (void)state;
    struct weir_watermark *watermark = make(0, 100, -1);
    int32_t a = weir_watermark_partition(watermark, "pos/0", 0);
    weir_watermark_partition(watermark, "pos/1", 0);
    int64_t time = INT64_C(1767607200000000); /* 2026-01-05T10:00:00Z */
    int64_t before;
    uint8_t flag;
    struct weir_buffer out;
    weir_buffer_init(&out, 4096);
    feed(watermark, a, 0, &time, 1, &before, &flag);
    assert_int_equal(weir_watermark_why(watermark, 50, &out), WEIR_OK);
    assert_non_null(strstr(weir_buffer_text(&out), "silver.test"));
    assert_non_null(strstr(weir_buffer_text(&out), "'pos/1'"));
    weir_watermark_tick(watermark, 100);
    feed(watermark, a, 100, &time, 1, &before, &flag);
    weir_buffer_clear(&out);
    assert_int_equal(weir_watermark_why(watermark, 100, &out), WEIR_OK);
    assert_non_null(strstr(weir_buffer_text(&out), "'pos/0'"));
    assert_non_null(strstr(weir_buffer_text(&out), "2026-01-05T10:00:00.000000Z"));
    weir_buffer_fini(&out);
    weir_watermark_destroy(watermark);
}

static void saved_state_goes_on_where_it_stopped(void **state) {
    (void)state;
    struct weir_watermark *watermark = make(10, 100, -1);
    struct weir_watermark *copy = make(10, 100, -1);
    int32_t a = weir_watermark_partition(watermark, "a", 0);
    weir_watermark_partition(watermark, "b", 0);
    int64_t time = 500;
    int64_t before;
    uint8_t flag;
    feed(watermark, a, 90, &time, 1, &before, &flag);
    struct weir_buffer out;
    weir_buffer_init(&out, 4096);
    assert_int_equal(weir_watermark_save(watermark, &out), WEIR_OK);
    assert_int_equal(weir_watermark_load(copy, out.data, out.size, &err), WEIR_OK);
    assert_int_equal(weir_watermark_partition(copy, "a", 0), 0);
    assert_int_equal(weir_watermark_partition(copy, "b", 0), 1);
    assert_true(weir_watermark_tick(copy, 100));
    assert_true(weir_watermark_tick(watermark, 100));
    assert_int_equal(weir_watermark_now(copy), 490);
    assert_int_equal(weir_watermark_now(watermark), 490);
    for (size_t cut = 0; cut < out.size; cut++) {
        uint8_t *exact = malloc(cut + 1);
        memcpy(exact, out.data, cut);
        assert_int_equal(weir_watermark_load(copy, exact, cut, &err), WEIR_E_CORRUPT);
        free(exact);
    }
    weir_buffer_fini(&out);
    weir_watermark_destroy(watermark);
    weir_watermark_destroy(copy);
}

static void windows_are_aligned_below_zero_and_at_the_ends(void **state) {
    (void)state;
    assert_int_equal(weir_window_start(0, 10), 0);
    assert_int_equal(weir_window_start(9, 10), 0);
    assert_int_equal(weir_window_start(10, 10), 10);
    assert_int_equal(weir_window_start(-1, 10), -10);
    assert_int_equal(weir_window_start(-10, 10), -10);
    assert_int_equal(weir_window_start(-11, 10), -20);
    assert_int_equal(weir_window_start(INT64_MIN, 10), INT64_MIN);
    assert_int_equal(weir_window_start(INT64_MAX, 10), INT64_MAX - 7);
    assert_true(weir_window_closed(INT64_MAX - 7, 10, 5, INT64_MAX));
    assert_false(weir_window_closed(INT64_MAX - 7, 10, 5, INT64_MAX - 1));
    assert_true(weir_window_closed(0, 10, 5, 15));
    assert_false(weir_window_closed(0, 10, 5, 14));
}

static void windows_come_out_in_order_of_time(void **state) {
    (void)state;
    enum { MANY = 5000 };
    struct weir_windows windows;
    weir_windows_init(&windows);
    uint8_t *open = calloc(MANY, 1);
    int64_t removed = 0;
    for (int step = 0; step < 40000; step++) {
        int64_t start = (int64_t)below(MANY);
        if (below(3) != 0) {
            struct weir_window *window = weir_windows_get(&windows, start - MANY / 2);
            assert_non_null(window);
            assert_int_equal(window->slots, open[start]);
            if (window->slots < 200) {
                window->slots++;
                open[start]++;
            }
        } else if (weir_windows_first(&windows) != NULL) {
            int64_t least = 0;
            while (open[least] == 0) {
                least++;
            }
            assert_int_equal(weir_windows_first(&windows)->start_us, least - MANY / 2);
            assert_int_equal(weir_windows_first(&windows)->slots, open[least]);
            weir_windows_remove_first(&windows);
            open[least] = 0;
            removed++;
        }
    }
    assert_true(removed > 1000);
    weir_windows_clear(&windows);
    assert_null(weir_windows_first(&windows));
    assert_int_equal(weir_windows_get(&windows, 1)->slots, 0);
    free(open);
    weir_windows_fini(&windows);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_definition_however_rows_are_batched),
        cmocka_unit_test(future_and_null_rows_are_flagged_and_move_nothing),
        cmocka_unit_test(nanoseconds_and_dates_round_down_to_microseconds),
        cmocka_unit_test(an_idle_partition_holds_nothing_and_blocked_time_does_not_count),
        cmocka_unit_test(time_in_which_nothing_is_taken_is_nobodys_idleness),
        cmocka_unit_test(when_all_are_idle_the_watermark_stands),
        cmocka_unit_test(why_names_the_partition_that_holds_it),
        cmocka_unit_test(saved_state_goes_on_where_it_stopped),
        cmocka_unit_test(windows_are_aligned_below_zero_and_at_the_ends),
        cmocka_unit_test(windows_come_out_in_order_of_time),
    };
    return cmocka_run_group_tests_name("operator_watermark", tests, NULL, NULL);
}
