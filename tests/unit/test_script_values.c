/* The value functions of abi/native.h: decimals, int64, doubles, time and zones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/decimal.h"
#include "core/time.h"

#define NINES "99999999999999999999999999999999999999"

static struct weir_decimal128 dec(const char *text) {
    struct weir_decimal128 d = {0};
    if (weir_decimal_from_text(&d, text, (int64_t)strlen(text)) != WEIR_NUMBER_OK) {
        fail_msg("not a decimal: %s", text);
    }
    return d;
}

typedef int binary(struct weir_decimal128 *, const struct weir_decimal128 *,
                   const struct weir_decimal128 *);

static void gives(binary *function, const char *a, const char *b, const char *wanted) {
    char text[64];
    struct weir_decimal128 x = dec(a);
    struct weir_decimal128 y = dec(b);
    int rc = function(&x, &x, &y);
    if (rc != WEIR_NUMBER_OK) {
        snprintf(text, sizeof(text), "%s", rc == WEIR_NUMBER_DIVIDE ? "divide" : "overflow");
    } else {
        weir_decimal_to_text(&x, text);
    }
    if (strcmp(text, wanted) != 0) {
        fail_msg("%s, %s: got %s, not %s", a, b, text, wanted);
    }
}

static void sums_and_products_are_exact_or_overflow(void **state) {
    (void)state;
    gives(weir_decimal_add, "0.1", "0.22", "0.32");
    gives(weir_decimal_add, "-1", "0.999", "-0.001");
    gives(weir_decimal_sub, "12.50", "12.5", "0.00");
    gives(weir_decimal_add, NINES, "1", "overflow");
    gives(weir_decimal_add, NINES, "0.1", "overflow");
    gives(weir_decimal_sub, "-" NINES, "1", "overflow");
    gives(weir_decimal_mul, "1.25", "0.2", "0.250");
    gives(weir_decimal_mul, "-9999999999999999999", "9999999999999999999",
          "-99999999999999999980000000000000000001");
    gives(weir_decimal_mul, NINES, "1.00", NINES);
    gives(weir_decimal_mul, "99999999999999999999", "99999999999999999999", "overflow");
    gives(weir_decimal_mul, "0.00000000000000000005", "0.00000000000000000020",
          "0.00000000000000000000000000000000000001");
    gives(weir_decimal_mul, "0.00000000000000000005", "0.00000000000000000002", "overflow");
}

static void division_rounds_half_even_at_scale_six_or_more(void **state) {
    (void)state;
    gives(weir_decimal_div, "1", "3", "0.333333");
    gives(weir_decimal_div, "2", "3", "0.666667");
    gives(weir_decimal_div, "-2", "3", "-0.666667");
    gives(weir_decimal_div, "0.0000005", "1", "0.0000005");
    gives(weir_decimal_div, "1", "2000000", "0.000000");
    gives(weir_decimal_div, "3", "2000000", "0.000002");
    gives(weir_decimal_div, "5", "2000000", "0.000002");
    gives(weir_decimal_div, "1.0000000", "3", "0.3333333");
    gives(weir_decimal_div, "1", "0.00", "divide");
    gives(weir_decimal_div, NINES, "3", "overflow");
    gives(weir_decimal_div, NINES, NINES, "1.000000");
    gives(weir_decimal_div, "12345678901234567890123456789012", "7",
          "1763668414462081127160493827001.714286");
    gives(weir_decimal_div, "1", "99999999999999999999999999999999999997", "0.000000");
    gives(weir_decimal_div, "99999999999999999999999999999999.999999",
          "99999999999999999999.000001", "1000000000000.000000");
}

static void remainders_and_whole_quotients_follow_lua(void **state) {
    (void)state;
    gives(weir_decimal_mod, "7.5", "2", "1.5");
    gives(weir_decimal_mod, "-7.5", "2", "0.5");
    gives(weir_decimal_mod, "7.5", "-2", "-0.5");
    gives(weir_decimal_mod, "7", "0", "divide");
    gives(weir_decimal_idiv, "-7.9", "2", "-3");
    gives(weir_decimal_idiv, "7.9", "0.1", "79");
}

static void rounding_is_half_even(void **state) {
    (void)state;
    static const struct {
        const char *from;
        int32_t digits;
        const char *to;
    } cases[] = {
        {"2.5", 0, "2"},         {"3.5", 0, "4"},      {"-2.5", 0, "-2"}, {"2.51", 0, "3"},
        {"1.005", 2, "1.00"},    {"1.015", 2, "1.02"}, {"1.5", 3, "1.5"}, {"1250", -2, "1200"},
        {"1350.00", -2, "1400"}, {"999.5", 0, "1000"}, {"49", -2, "0"},   {"7", -39, "0"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[64];
        struct weir_decimal128 d = dec(cases[i].from);
        assert_int_equal(weir_decimal_round(&d, &d, cases[i].digits), WEIR_NUMBER_OK);
        weir_decimal_to_text(&d, text);
        assert_string_equal(text, cases[i].to);
    }
    struct weir_decimal128 d = dec(NINES);
    assert_int_equal(weir_decimal_rescale(&d, &d, 1), WEIR_NUMBER_OVERFLOW);
    assert_int_equal(weir_decimal_rescale(&d, &d, 39), WEIR_NUMBER_RANGE);
}

static void text_keeps_its_scale_and_refuses_what_is_no_number(void **state) {
    (void)state;
    static const struct {
        const char *from;
        const char *to;
    } cases[] = {
        {"12.50", "12.50"}, {"-0.2", "-0.2"},   {"1e3", "1000"}, {"2.5E-1", "0.25"},
        {"+7", "7"},        {".5", "0.5"},      {"5.", "5"},     {"0e99", "0"},
        {"-0", "0"},        {"1.20e1", "12.0"}, {NINES, NINES},  {"1E+2", "100"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[64];
        struct weir_decimal128 d = dec(cases[i].from);
        assert_int_equal(weir_decimal_to_text(&d, text), strlen(cases[i].to));
        assert_string_equal(text, cases[i].to);
    }
    static const struct {
        const char *text;
        int rc;
    } bad[] = {
        {"", WEIR_NUMBER_SYNTAX},          {"-", WEIR_NUMBER_SYNTAX},
        {".", WEIR_NUMBER_SYNTAX},         {"1e", WEIR_NUMBER_SYNTAX},
        {"1.2.3", WEIR_NUMBER_SYNTAX},     {" 1", WEIR_NUMBER_SYNTAX},
        {"1x", WEIR_NUMBER_SYNTAX},        {"nan", WEIR_NUMBER_SYNTAX},
        {"1" NINES, WEIR_NUMBER_OVERFLOW}, {"1e38", WEIR_NUMBER_OVERFLOW},
        {"1e-39", WEIR_NUMBER_RANGE},      {"1e99999999", WEIR_NUMBER_OVERFLOW},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct weir_decimal128 d;
        if (weir_decimal_from_text(&d, bad[i].text, (int64_t)strlen(bad[i].text)) != bad[i].rc) {
            fail_msg("%s", bad[i].text);
        }
    }
}

static void comparison_is_by_exact_value(void **state) {
    (void)state;
    struct weir_decimal128 a = dec("0.1");
    struct weir_decimal128 b = dec("0.10");
    assert_int_equal(weir_decimal_compare(&a, &b), 0);
    assert_int_equal(weir_decimal_compare_double(&a, 0.1), -1); /* 0.1 is a little more */
    assert_int_equal(weir_decimal_compare_double(&a, 0.5), -1);
    a = dec(NINES);
    b = dec("0.00000000000000000000000000000000000001");
    assert_int_equal(weir_decimal_compare(&a, &b), 1);
    assert_int_equal(weir_decimal_compare(&b, &a), -1);
    /* the double 1e38 is 99999999999999997748… */
    assert_int_equal(weir_decimal_compare_double(&a, 1e38), 1);
    assert_int_equal(weir_decimal_compare_double(&a, NAN), -1);
    assert_int_equal(weir_decimal_compare_double(&a, INFINITY), -1);
    assert_int_equal(weir_decimal_compare_double(&a, -INFINITY), 1);
    a = dec("9007199254740993");
    assert_int_equal(weir_decimal_compare_double(&a, 9007199254740992.0), 1);
    a = dec("-9007199254740993");
    assert_int_equal(weir_decimal_compare_double(&a, -9007199254740992.0), -1);
    a = dec("-0.5");
    assert_int_equal(weir_decimal_compare_double(&a, -0.5), 0);
    assert_int_equal(weir_int64_compare_double(INT64_MAX, 0x1p63), -1);
    assert_int_equal(weir_int64_compare_double(INT64_MIN, -0x1p63), 0);
    assert_int_equal(weir_int64_compare_double(9007199254740993, 9007199254740992.0), 1);
    assert_int_equal(weir_int64_compare_double(-3, -2.5), -1);
    assert_int_equal(weir_int64_compare_double(-2, -2.5), 1);
}

static void doubles_become_the_literal_that_was_written(void **state) {
    (void)state;
    static const struct {
        double from;
        const char *to;
    } cases[] = {
        {0.2, "0.2"},
        {1e22, "10000000000000000000000"},
        {0.1 + 0.2, "0.30000000000000004"},
        {-2.675, "-2.675"},
        {5e-7, "0.0000005"},
        {123456789012345.6, "123456789012345.6"},
        {0, "0"},
        {1e15, "1000000000000000"},
        {0.07, "0.07"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[64];
        struct weir_decimal128 d;
        assert_int_equal(weir_decimal_from_double(&d, cases[i].from), WEIR_NUMBER_OK);
        weir_decimal_to_text(&d, text);
        assert_string_equal(text, cases[i].to);
        assert_true(weir_decimal_to_double(&d) == cases[i].from);
    }
    struct weir_decimal128 d;
    assert_int_equal(weir_decimal_from_double(&d, NAN), WEIR_NUMBER_RANGE);
    assert_int_equal(weir_decimal_from_double(&d, 1e300), WEIR_NUMBER_OVERFLOW);
    assert_true(weir_math_round(2.675, 2) == 2.68);
    assert_true(weir_math_round(-0.5, 0) == 0);
    assert_true(weir_math_round(1e300, 2) == 1e300);
    char text[32];
    weir_double_to_text(0.1, text);
    assert_string_equal(text, "0.1");
    weir_double_to_text(0.1 + 0.2, text);
    assert_string_equal(text, "0.30000000000000004");
}

static void a_nan_is_always_the_canonical_one(void **state) {
    (void)state;
    uint64_t bits = 0xffffffff00000001u;
    double odd;
    memcpy(&odd, &bits, 8);
    double results[] = {weir_math_canonical(odd), weir_math_pow(odd, 2), weir_math_log(-1),
                        weir_math_fmod(1, 0), weir_math_round(odd, 2)};
    for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
        memcpy(&bits, &results[i], 8);
        assert_true(bits == 0xfff8000000000000u);
    }
}

static void int64_says_when_it_would_wrap(void **state) {
    (void)state;
    struct weir_int64 v = {0};
    assert_int_equal(weir_int64_add(&v, INT64_MAX, 1), WEIR_NUMBER_OVERFLOW);
    assert_int_equal(weir_int64_sub(&v, INT64_MIN, 1), WEIR_NUMBER_OVERFLOW);
    assert_int_equal(weir_int64_mul(&v, INT64_MIN, -1), WEIR_NUMBER_OVERFLOW);
    assert_int_equal(weir_int64_idiv(&v, INT64_MIN, -1), WEIR_NUMBER_OVERFLOW);
    assert_int_equal(weir_int64_idiv(&v, 1, 0), WEIR_NUMBER_DIVIDE);
    assert_int_equal(weir_int64_mod(&v, INT64_MIN, -1), WEIR_NUMBER_OK);
    assert_int_equal(v.v, 0);
    assert_int_equal(weir_int64_mod(&v, -7, 3), WEIR_NUMBER_OK);
    assert_int_equal(v.v, 2);
    assert_int_equal(weir_int64_idiv(&v, -7, 2), WEIR_NUMBER_OK);
    assert_int_equal(v.v, -3);
    assert_int_equal(weir_int64_from_text(&v, "-9223372036854775808", 20), WEIR_NUMBER_OK);
    assert_true(v.v == INT64_MIN);
    char text[32];
    assert_int_equal(weir_int64_to_text(v.v, text), 20);
    assert_string_equal(text, "-9223372036854775808");
    assert_int_equal(weir_int64_from_text(&v, "9223372036854775808", 19), WEIR_NUMBER_OVERFLOW);
    assert_int_equal(weir_int64_from_text(&v, "1.0", 3), WEIR_NUMBER_SYNTAX);
    assert_int_equal(weir_int64_from_text(&v, "-", 1), WEIR_NUMBER_SYNTAX);
}

/* --- time ----------------------------------------------------------------------------------- */

static int64_t at(const char *text) {
    int64_t us;
    int32_t has_zone;
    if (weir_time_parse_us(&us, &has_zone, text, (int64_t)strlen(text)) != WEIR_NUMBER_OK) {
        fail_msg("not a time: %s", text);
    }
    return us;
}

static void shows(int64_t us, const char *wanted) {
    char text[64];
    weir_time_text_us(us, 1, text);
    assert_string_equal(text, wanted);
}

static void iso_times_are_read_and_written(void **state) {
    (void)state;
    shows(at("2026-01-05T10:00:00Z"), "2026-01-05T10:00:00Z");
    shows(at("2026-01-05 10:00:00.25+01:30"), "2026-01-05T08:30:00.250Z");
    shows(at("2026-01-05T10:00-0230"), "2026-01-05T12:30:00Z");
    shows(at("1969-12-31T23:59:59.999999Z"), "1969-12-31T23:59:59.999999Z");
    shows(at("0001-01-01T00:00:00Z"), "0001-01-01T00:00:00Z");
    shows(at("2024-02-29T23:59:59.1000000Z"), "2024-02-29T23:59:59.100Z");
    static const char *const bad[] = {
        "",
        "2026-01-05",
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-01-05T24:00:00Z",
        "2026-01-05T10:60:00Z",
        "2026-01-05T10:00:60Z",
        "2026-01-05T10:00:00.Z",
        "2026-01-05T10:00:00+",
        "2026-01-05T10:00:00+24:00",
        "2026-01-05T10:00:00Zx",
        "2026-1-5T10:00:00Z",
        "26-01-05T10:00:00Z",
        "2026-01-05T10:00:00+01:",
        "2026-01-05T1",
    };
    int64_t us;
    int32_t has_zone;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (weir_time_parse_us(&us, &has_zone, bad[i], (int64_t)strlen(bad[i])) !=
            WEIR_NUMBER_SYNTAX) {
            fail_msg("accepted: %s", bad[i]);
        }
    }
    const char *fine = "2026-01-05T10:00:00.1234567Z";
    assert_int_equal(weir_time_parse_us(&us, &has_zone, fine, 28), WEIR_NUMBER_RANGE);
    assert_int_equal(weir_time_parse_ns(&us, &has_zone, fine, 28), WEIR_NUMBER_OK);
    char text[64];
    weir_time_text_ns(us, 0, text);
    assert_string_equal(text, "2026-01-05T10:00:00.123456700");
    assert_int_equal(weir_time_parse_us(&us, &has_zone, "2026-01-05T10:00:00", 19), WEIR_NUMBER_OK);
    assert_int_equal(has_zone, 0);
    assert_int_equal(weir_time_parse_ns(&us, &has_zone, "9999-01-01T00:00:00Z", 20),
                     WEIR_NUMBER_OVERFLOW);
    int32_t days;
    assert_int_equal(weir_time_parse_date(&days, "1970-01-02", 10), WEIR_NUMBER_OK);
    assert_int_equal(days, 1);
    weir_time_text_date(-719162, text);
    assert_string_equal(text, "0001-01-01");
}

static void the_calendar_round_trips_over_ten_thousand_years(void **state) {
    (void)state;
    for (int64_t days = -800000; days < 3000000; days += 7) {
        struct weir_civil c = weir_civil_from_days(days);
        assert_true(c.month >= 1 && c.month <= 12 && c.day >= 1 &&
                    c.day <= weir_days_in_month(c.year, c.month));
        assert_int_equal(weir_days_from_civil(c.year, c.month, c.day), days);
    }
    assert_int_equal(weir_date_part(0, 3), 4);
    assert_int_equal(weir_date_part(weir_time_date(at("2024-12-31T00:00:00Z"), NULL), 4), 366);
    int32_t d;
    assert_int_equal(weir_date_make(&d, 2026, 2, 29), WEIR_NUMBER_OVERFLOW);
}

static const struct weir_zone *zone(const char *name) {
    const struct weir_zone *z = weir_zone_find(name, (int64_t)strlen(name));
    if (z == NULL) {
        fail_msg("no zone %s", name);
    }
    return z;
}

static void clock_change_days_are_exact_in_london(void **state) {
    (void)state;
    const struct weir_zone *london = zone("Europe/London");
    int64_t spring = at("2026-03-29T01:00:00Z");
    int64_t autumn = at("2026-10-25T01:00:00Z");
    assert_int_equal(weir_time_hour(spring - 1, london), 0);
    assert_int_equal(weir_time_hour(spring, london), 2);
    assert_int_equal(weir_time_hour(autumn - 1, london), 1);
    assert_int_equal(weir_time_hour(autumn, london), 1);
    assert_int_equal(weir_time_date(at("2026-07-01T23:30:00Z"), london),
                     weir_time_date(at("2026-07-02T00:00:00Z"), NULL));
    int64_t out;
    assert_int_equal(weir_time_trunc(&out, at("2026-03-29T12:00:00Z"), WEIR_US_PER_DAY, london), 0);
    shows(out, "2026-03-29T00:00:00Z");
    assert_int_equal(weir_time_trunc(&out, at("2026-03-30T12:00:00Z"), WEIR_US_PER_DAY, london), 0);
    shows(out, "2026-03-29T23:00:00Z");
    assert_int_equal(weir_time_trunc(&out, at("2026-10-25T12:00:00Z"), WEIR_US_PER_DAY, london), 0);
    shows(out, "2026-10-24T23:00:00Z");
    assert_int_equal(weir_time_trunc(&out, at("2026-10-25T01:20:00Z"), 3600000000, london), 0);
    shows(out, "2026-10-25T01:00:00Z");
    assert_int_equal(weir_time_trunc(&out, at("2026-10-25T00:20:00Z"), 3600000000, london), 0);
    shows(out, "2026-10-25T00:00:00Z");
    shows(weir_zone_to_utc(london, at("2026-03-29T01:30:00Z")), "2026-03-29T01:00:00Z");
    shows(weir_zone_to_utc(london, at("2026-10-25T01:30:00Z")), "2026-10-25T00:30:00Z");
    shows(weir_zone_to_utc(london, at("2026-07-01T00:00:00.000001Z")),
          "2026-06-30T23:00:00.000001Z");
    assert_int_equal(weir_time_trunc(&out, at("2026-01-05T10:00:07.5Z"), 10000000, NULL), 0);
    shows(out, "2026-01-05T10:00:00Z");
    assert_int_equal(weir_time_trunc(&out, 0, 0, NULL), WEIR_NUMBER_RANGE);
    /* a day that has no midnight */
    const struct weir_zone *beirut = zone("Asia/Beirut");
    assert_int_equal(weir_time_trunc(&out, at("2022-03-27T10:00:00Z"), WEIR_US_PER_DAY, beirut), 0);
    shows(out, "2022-03-26T22:00:00Z");
}

static void every_zone_agrees_with_the_c_library(void **state) {
    (void)state;
    static const char *const names[] = {
        "Europe/London", "America/New_York",  "Asia/Kolkata",      "Australia/Lord_Howe",
        "Asia/Beirut",   "America/Sao_Paulo", "Africa/Casablanca", "Pacific/Apia",
        "Asia/Tokyo",    "America/St_Johns",  "Europe/Dublin",     "Antarctica/Troll",
        "Etc/GMT+9",     "Asia/Gaza",         "America/Nuuk",
    };
    uint64_t seed = 88172645463325252u;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const struct weir_zone *z = zone(names[i]);
        setenv("TZ", names[i], 1);
        tzset();
        for (int round = 0; round < 20000; round++) {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            /* 1901 to 2430: past the last listed change, where the rule goes on */
            time_t t = (time_t)(seed % 16700000000u) - 2170000000;
            struct tm local;
            localtime_r(&t, &local);
            if (weir_zone_offset(z, t) != local.tm_gmtoff) {
                fail_msg("%s at %lld: %d, the C library says %ld", names[i], (long long)t,
                         weir_zone_offset(z, t), local.tm_gmtoff);
            }
            char ours[128];
            char theirs[128];
            static const char format[] =
                "%Y-%m-%d %H:%M:%S %j %a %A %b %B %e %p %I %u %F %T %z %Z %s %%";
            int n = weir_time_format((int64_t)t * 1000000, format, sizeof(format) - 1, z, ours,
                                     sizeof(ours) - 1);
            assert_true(n > 0);
            ours[n] = '\0';
            strftime(theirs, sizeof(theirs), format, &local);
            assert_string_equal(ours, theirs);
        }
    }
    unsetenv("TZ");
    tzset();
}

static void zone_names_cannot_leave_the_folder(void **state) {
    (void)state;
    static const char *const bad[] = {"",        "/etc/passwd",     "../../../etc/passwd",
                                      "No/Such", "Europe",          "+25:00",
                                      "+1",      "Europe/London\n", "tzdata.zi"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (weir_zone_find(bad[i], (int64_t)strlen(bad[i])) != NULL) {
            fail_msg("found: %s", bad[i]);
        }
    }
    assert_int_equal(weir_zone_offset(zone("+05:30"), 0), 19800);
    assert_int_equal(weir_zone_offset(zone("-0330"), 0), -12600);
    assert_ptr_equal(zone("UTC"), zone("UTC"));
}

static void durations_are_read_and_written(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int64_t us;
        const char *shown;
    } cases[] = {
        {"90s", 90000000, "1m30s"},       {"1.5h", 5400000000, "1h30m"},
        {"100ms", 100000, "100ms"},       {"5us", 5, "5us"},
        {"-28d", -2419200000000, "-28d"}, {"2w", 1209600000000, "14d"},
        {"1h30m", 5400000000, "1h30m"},   {"0s", 0, "0s"},
        {"1.5s", 1500000, "1s500ms"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t us;
        char text[64];
        assert_int_equal(weir_duration_parse(&us, cases[i].text, (int64_t)strlen(cases[i].text)),
                         WEIR_NUMBER_OK);
        assert_int_equal(us, cases[i].us);
        weir_duration_to_text(us, text);
        assert_string_equal(text, cases[i].shown);
    }
    static const char *const bad[] = {"",
                                      "-",
                                      "5",
                                      "s",
                                      "5x",
                                      "1 h",
                                      ".s",
                                      "5.s",
                                      "0.5us",
                                      "99999999999999999999s",
                                      "9999999999999d",
                                      "1..5s"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int64_t us;
        if (weir_duration_parse(&us, bad[i], (int64_t)strlen(bad[i])) == WEIR_NUMBER_OK) {
            fail_msg("accepted: %s", bad[i]);
        }
    }
}

static void unknown_conversions_and_small_buffers_are_refused(void **state) {
    (void)state;
    char text[8];
    assert_int_equal(weir_time_format(0, "%Q", 2, NULL, text, sizeof(text)), -1);
    assert_int_equal(weir_time_format(0, "%", 1, NULL, text, sizeof(text)), -1);
    assert_int_equal(weir_time_format(0, "%F", 2, NULL, text, sizeof(text)), -2);
    assert_int_equal(weir_time_format(1, "%f", 2, NULL, text, sizeof(text)), 6);
    assert_memory_equal(text, "000001", 6);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_and_products_are_exact_or_overflow),
        cmocka_unit_test(division_rounds_half_even_at_scale_six_or_more),
        cmocka_unit_test(remainders_and_whole_quotients_follow_lua),
        cmocka_unit_test(rounding_is_half_even),
        cmocka_unit_test(text_keeps_its_scale_and_refuses_what_is_no_number),
        cmocka_unit_test(comparison_is_by_exact_value),
        cmocka_unit_test(doubles_become_the_literal_that_was_written),
        cmocka_unit_test(a_nan_is_always_the_canonical_one),
        cmocka_unit_test(int64_says_when_it_would_wrap),
        cmocka_unit_test(iso_times_are_read_and_written),
        cmocka_unit_test(the_calendar_round_trips_over_ten_thousand_years),
        cmocka_unit_test(clock_change_days_are_exact_in_london),
        cmocka_unit_test(every_zone_agrees_with_the_c_library),
        cmocka_unit_test(zone_names_cannot_leave_the_folder),
        cmocka_unit_test(durations_are_read_and_written),
        cmocka_unit_test(unknown_conversions_and_small_buffers_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
