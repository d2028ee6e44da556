/* Calendar windows against the C library's own reading of tzdata. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "operator/calendar.h"
#include "random.h"

#define HOUR INT64_C(3600000000)

static struct weir_calendar make(enum weir_calendar_unit unit, int32_t week_start,
                                 const char *zone) {
    struct weir_calendar calendar;
    struct weir_error err = {0};
    if (weir_calendar_init(&calendar, unit, week_start, zone, &err) != WEIR_OK) {
        fail_msg("%s", err.message);
    }
    return calendar;
}

static struct tm local(int64_t us) {
    time_t seconds = (time_t)(us >= 0 ? us / 1000000 : -((-us + 999999) / 1000000));
    struct tm tm;
    localtime_r(&seconds, &tm);
    return tm;
}

/* What two instants share if they lie in one window. */
static long label(enum weir_calendar_unit unit, int32_t week_start, const struct tm *tm) {
    struct tm day = {.tm_year = tm->tm_year, .tm_mon = tm->tm_mon, .tm_mday = tm->tm_mday};
    long number = (long)(timegm(&day) / 86400) - (timegm(&day) % 86400 < 0);
    switch (unit) {
    case WEIR_CALENDAR_DAY:
        return number;
    case WEIR_CALENDAR_WEEK: /* 1970-01-05 was a Monday */
        return (number - 4 - week_start + 7000000) / 7;
    case WEIR_CALENDAR_MONTH:
        return tm->tm_year * 12L + tm->tm_mon;
    case WEIR_CALENDAR_QUARTER:
        return tm->tm_year * 4L + tm->tm_mon / 3;
    default:
        return tm->tm_year;
    }
}

static void windows_hold_what_shares_a_date(void **state) {
    (void)state;
    static const char *const zones[] = {
        "Europe/London",       "America/New_York", "Asia/Kathmandu", "Africa/Casablanca",
        "Australia/Lord_Howe", "America/Havana",   "Asia/Tokyo"};
    for (size_t z = 0; z < sizeof zones / sizeof zones[0]; z++) {
        setenv("TZ", zones[z], 1);
        tzset();
        for (int n = 0; n < 4000; n++) {
            enum weir_calendar_unit unit = WEIR_CALENDAR_DAY + below(5);
            int32_t week_start = (int32_t)below(7);
            struct weir_calendar calendar = make(unit, week_start, zones[z]);
            int64_t time = ((int64_t)below(100 * 366 * 24) - 20 * 366 * 24) * HOUR +
                           (below(2) ? 0 : (int64_t)below(3600000000));
            int64_t start;
            int64_t end;
            weir_calendar_window(&calendar, time, &start, &end);
            assert_true(start <= time && time < end);
            struct tm at = local(time);
            struct tm first = local(start);
            struct tm last = local(end - 1);
            struct tm before = local(start - 1);
            struct tm after = local(end);
            long wanted = label(unit, week_start, &at);
            assert_int_equal(label(unit, week_start, &first), wanted);
            assert_int_equal(label(unit, week_start, &last), wanted);
            assert_true(label(unit, week_start, &before) < wanted);
            assert_true(label(unit, week_start, &after) > wanted);
        }
    }
}

static void days_are_23_or_25_hours_where_clocks_change(void **state) {
    (void)state;
    struct weir_calendar day = make(WEIR_CALENDAR_DAY, 0, "Europe/London");
    int64_t start;
    int64_t end;
    weir_calendar_window(&day, INT64_C(1774742400000000), &start, &end); /* 2026-03-29 */
    assert_int_equal(end - start, 23 * HOUR);
    assert_int_equal(start, INT64_C(1774742400000000));
    weir_calendar_window(&day, INT64_C(1792893600000000), &start, &end); /* 2026-10-25 */
    assert_int_equal(end - start, 25 * HOUR);
    assert_int_equal(start, INT64_C(1792882800000000));
}

static void a_date_a_zone_skipped_is_empty(void **state) {
    (void)state;
    /* Samoa had no 30 December 2011. */
    struct weir_calendar day = make(WEIR_CALENDAR_DAY, 0, "Pacific/Apia");
    int64_t change = INT64_C(1325239200000000);
    int64_t start;
    int64_t end;
    weir_calendar_window(&day, change - 1, &start, &end);
    assert_int_equal(end, change);
    assert_int_equal(end - start, 24 * HOUR);
    weir_calendar_window(&day, change, &start, &end);
    assert_int_equal(start, change);
    assert_int_equal(end - start, 24 * HOUR);
}

static void zones_that_are_not_there_are_said(void **state) {
    (void)state;
    struct weir_calendar calendar;
    struct weir_error err = {0};
    assert_int_equal(weir_calendar_init(&calendar, WEIR_CALENDAR_DAY, 0, "Europe/Nowhere", &err),
                     WEIR_E_CONFIG);
    assert_non_null(strstr(err.message, "Europe/Nowhere"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(windows_hold_what_shares_a_date),
        cmocka_unit_test(days_are_23_or_25_hours_where_clocks_change),
        cmocka_unit_test(a_date_a_zone_skipped_is_empty),
        cmocka_unit_test(zones_that_are_not_there_are_said),
    };
    return cmocka_run_group_tests_name("operator_calendar", tests, NULL, NULL);
}
