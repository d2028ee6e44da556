/* ISO 8601 text, calendar fields and durations. Day arithmetic shifts the year to begin in March,
 * so that the leap day comes last and months follow one formula. */
#include "core/time.h"

#include <string.h>

/* --- calendar ------------------------------------------------------------------------------- */

#define DAYS_400_YEARS 146097
#define DAYS_TO_1970 719468 /* from 0000-03-01 */

int64_t weir_days_from_civil(int64_t year, int32_t month, int32_t day) {
    year -= month <= 2;
    int64_t cycle = weir_floor_div(year, 400);
    int64_t year_in_cycle = year - cycle * 400;
    int64_t day_in_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_in_cycle =
        year_in_cycle * 365 + year_in_cycle / 4 - year_in_cycle / 100 + day_in_year;
    return cycle * DAYS_400_YEARS + day_in_cycle - DAYS_TO_1970;
}

struct weir_civil weir_civil_from_days(int64_t days) {
    days += DAYS_TO_1970;
    int64_t cycle = weir_floor_div(days, DAYS_400_YEARS);
    int64_t day = days - cycle * DAYS_400_YEARS;
    int64_t year = (day - day / 1460 + day / 36524 - day / 146096) / 365;
    int64_t day_in_year = day - (365 * year + year / 4 - year / 100);
    int64_t month = (5 * day_in_year + 2) / 153;
    struct weir_civil civil = {
        .year = year + cycle * 400 + (month >= 10),
        .month = (int32_t)(month < 10 ? month + 3 : month - 9),
        .day = (int32_t)(day_in_year - (153 * month + 2) / 5 + 1),
    };
    return civil;
}

int32_t weir_days_in_month(int64_t year, int32_t month) {
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && is_leap);
}

int weir_date_make(int32_t *days, int32_t year, int32_t month, int32_t day) {
    if (month < 1 || month > 12 || day < 1 || day > weir_days_in_month(year, month)) {
        return WEIR_NUMBER_OVERFLOW;
    }
    int64_t n = weir_days_from_civil(year, month, day);
    if (n < INT32_MIN || n > INT32_MAX) {
        return WEIR_NUMBER_OVERFLOW;
    }
    *days = (int32_t)n;
    return WEIR_NUMBER_OK;
}

static int32_t weekday(int64_t days) { /* Monday 1; 1970-01-01 was a Thursday */
    int64_t n = days + 3;
    return (int32_t)(n - weir_floor_div(n, 7) * 7) + 1;
}

int32_t weir_date_part(int32_t days, int32_t part) {
    struct weir_civil civil = weir_civil_from_days(days);
    switch (part) {
    case 0:
        return (int32_t)civil.year;
    case 1:
        return civil.month;
    case 2:
        return civil.day;
    case 3:
        return weekday(days);
    default:
        return (int32_t)(days - weir_days_from_civil(civil.year, 1, 1)) + 1;
    }
}

/* --- fields of an instant --------------------------------------------------------------------- */

static int64_t local_seconds(int64_t us, const struct weir_zone *zone) {
    int64_t seconds = weir_floor_div(us, WEIR_US_PER_SECOND);
    return zone != NULL ? seconds + weir_zone_offset(zone, seconds) : seconds;
}

int32_t weir_time_date(int64_t us, const struct weir_zone *zone) {
    return (int32_t)weir_floor_div(local_seconds(us, zone), 86400);
}

static int32_t second_of_day(int64_t seconds) {
    return (int32_t)(seconds - weir_floor_div(seconds, 86400) * 86400);
}

int32_t weir_time_hour(int64_t us, const struct weir_zone *zone) {
    return second_of_day(local_seconds(us, zone)) / 3600;
}

int32_t weir_time_minute(int64_t us, const struct weir_zone *zone) {
    return second_of_day(local_seconds(us, zone)) / 60 % 60;
}

int32_t weir_time_second(int64_t us, const struct weir_zone *zone) {
    return second_of_day(local_seconds(us, zone)) % 60;
}

int32_t weir_time_weekday(int64_t us, const struct weir_zone *zone) {
    return weekday(weir_floor_div(local_seconds(us, zone), 86400));
}

/* --- parsing -------------------------------------------------------------------------------- */

struct cursor {
    const char *at;
    const char *end;
};

static int32_t peek(const struct cursor *c) {
    return c->at < c->end ? *c->at : -1;
}

static bool take(struct cursor *c, char wanted) {
    if (peek(c) != wanted) {
        return false;
    }
    c->at++;
    return true;
}

/* Exactly `count` digits, or -1. */
static int32_t take_digits(struct cursor *c, int count) {
    int32_t value = 0;
    if (c->end - c->at < count) {
        return -1;
    }
    for (int i = 0; i < count; i++) {
        char digit = c->at[i];
        if (digit < '0' || digit > '9') {
            return -1;
        }
        value = value * 10 + (digit - '0');
    }
    c->at += count;
    return value;
}

static int take_date(struct cursor *c, int64_t *days) {
    int32_t year = take_digits(c, 4);
    bool ok = year >= 0 && take(c, '-');
    int32_t month = ok ? take_digits(c, 2) : -1;
    ok = ok && month >= 1 && month <= 12 && take(c, '-');
    int32_t day = ok ? take_digits(c, 2) : -1;
    if (!ok || day < 1 || day > weir_days_in_month(year, month)) {
        return WEIR_NUMBER_SYNTAX;
    }
    *days = weir_days_from_civil(year, month, day);
    return WEIR_NUMBER_OK;
}

int weir_time_parse_date(int32_t *days, const char *text, int64_t length) {
    struct cursor c = {text, text + length};
    int64_t n;
    if (take_date(&c, &n) != WEIR_NUMBER_OK || c.at != c.end) {
        return WEIR_NUMBER_SYNTAX;
    }
    *days = (int32_t)n;
    return WEIR_NUMBER_OK;
}

/* ".123": as units of 10^-digits of a second. RANGE when digits beyond them are not zero. */
static int take_fraction(struct cursor *c, int digits, int64_t *fraction) {
    int count = 0;
    *fraction = 0;
    if (!take(c, '.') && !take(c, ',')) {
        while (count++ < digits) {
            *fraction *= 10;
        }
        return WEIR_NUMBER_OK;
    }
    bool is_lost = false;
    for (; peek(c) >= '0' && peek(c) <= '9'; c->at++) {
        if (count < digits) {
            *fraction = *fraction * 10 + (*c->at - '0');
        } else {
            is_lost |= *c->at != '0';
        }
        count = count < 1000 ? count + 1 : count;
    }
    if (count == 0) {
        return WEIR_NUMBER_SYNTAX;
    }
    for (; count < digits; count++) {
        *fraction *= 10;
    }
    return is_lost ? WEIR_NUMBER_RANGE : WEIR_NUMBER_OK;
}

/* Z, +hh, +hh:mm, +hhmm, or nothing. */
static int take_offset(struct cursor *c, int32_t *seconds, int32_t *has_zone) {
    *seconds = 0;
    *has_zone = 0;
    if (c->at == c->end) {
        return WEIR_NUMBER_OK;
    }
    *has_zone = 1;
    if (take(c, 'Z') || take(c, 'z')) {
        return WEIR_NUMBER_OK;
    }
    bool is_west = peek(c) == '-';
    if (!take(c, '+') && !take(c, '-')) {
        return WEIR_NUMBER_SYNTAX;
    }
    int32_t hours = take_digits(c, 2);
    bool has_colon = take(c, ':');
    int32_t minutes = c->at < c->end || has_colon ? take_digits(c, 2) : 0;
    if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59) {
        return WEIR_NUMBER_SYNTAX;
    }
    *seconds = (hours * 3600 + minutes * 60) * (is_west ? -1 : 1);
    return WEIR_NUMBER_OK;
}

static int parse_instant(int64_t *out, int32_t *has_zone, const char *text, int64_t length,
                         int digits, int64_t units) {
    struct cursor c = {text, text + length};
    int64_t days;
    int64_t fraction;
    int32_t offset;
    if (take_date(&c, &days) != WEIR_NUMBER_OK ||
        (!take(&c, 'T') && !take(&c, 't') && !take(&c, ' '))) {
        return WEIR_NUMBER_SYNTAX;
    }
    int32_t hour = take_digits(&c, 2);
    if (hour < 0 || hour > 23 || !take(&c, ':')) {
        return WEIR_NUMBER_SYNTAX;
    }
    int32_t minute = take_digits(&c, 2);
    int32_t second = minute >= 0 && take(&c, ':') ? take_digits(&c, 2) : 0;
    if (minute < 0 || minute > 59 || second < 0 || second > 59) {
        return WEIR_NUMBER_SYNTAX;
    }
    int rc = take_fraction(&c, digits, &fraction);
    if (rc == WEIR_NUMBER_SYNTAX || take_offset(&c, &offset, has_zone) != WEIR_NUMBER_OK ||
        c.at != c.end) {
        return WEIR_NUMBER_SYNTAX;
    }
    if (rc != WEIR_NUMBER_OK) {
        return rc;
    }
    int64_t seconds = days * 86400 + hour * 3600 + minute * 60 + second - offset;
    int64_t value;
    if (__builtin_mul_overflow(seconds, units, &value) ||
        __builtin_add_overflow(value, fraction, &value)) {
        return WEIR_NUMBER_OVERFLOW;
    }
    *out = value;
    return WEIR_NUMBER_OK;
}

int weir_time_parse_us(int64_t *us, int32_t *has_zone, const char *text, int64_t length) {
    return parse_instant(us, has_zone, text, length, 6, WEIR_US_PER_SECOND);
}

int weir_time_parse_ns(int64_t *ns, int32_t *has_zone, const char *text, int64_t length) {
    return parse_instant(ns, has_zone, text, length, 9, 1000000000);
}

/* --- text ----------------------------------------------------------------------------------- */

static char *put_number(char *out, int64_t value, int width) {
    char digits[24];
    int count = 0;
    if (value < 0) {
        *out++ = '-';
        value = -value;
    }
    while (value > 0 || count < width) {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    }
    while (count > 0) {
        *out++ = digits[--count];
    }
    return out;
}

static char *put_date(char *out, int64_t days) {
    struct weir_civil civil = weir_civil_from_days(days);
    out = put_number(out, civil.year, 4);
    *out++ = '-';
    out = put_number(out, civil.month, 2);
    *out++ = '-';
    return put_number(out, civil.day, 2);
}

static char *put_clock(char *out, int32_t seconds) {
    out = put_number(out, seconds / 3600, 2);
    *out++ = ':';
    out = put_number(out, seconds / 60 % 60, 2);
    *out++ = ':';
    return put_number(out, seconds % 60, 2);
}

int weir_time_text_date(int32_t days, char *buffer) {
    char *end = put_date(buffer, days);
    *end = '\0';
    return (int)(end - buffer);
}

static int text_instant(int64_t value, int64_t units, int digits, int32_t utc, char *buffer) {
    int64_t seconds = weir_floor_div(value, units);
    int64_t fraction = value - seconds * units;
    char *end = put_date(buffer, weir_floor_div(seconds, 86400));
    *end++ = 'T';
    end = put_clock(end, second_of_day(seconds));
    if (fraction != 0) {
        while (fraction % 1000 == 0) {
            fraction /= 1000;
            digits -= 3;
        }
        *end++ = '.';
        end = put_number(end, fraction, digits);
    }
    if (utc) {
        *end++ = 'Z';
    }
    *end = '\0';
    return (int)(end - buffer);
}

int weir_time_text_us(int64_t us, int32_t utc, char *buffer) {
    return text_instant(us, WEIR_US_PER_SECOND, 6, utc, buffer);
}

int weir_time_text_ns(int64_t ns, int32_t utc, char *buffer) {
    return text_instant(ns, 1000000000, 9, utc, buffer);
}

/* --- durations ------------------------------------------------------------------------------ */

static const struct {
    char name[4];
    int64_t us;
} duration_units[] = {
    {"us", 1},           {"ms", 1000},         {"s", 1000000},        {"m", 60000000},
    {"h", 3600000000ll}, {"d", 86400000000ll}, {"w", 604800000000ll},
};
#define DURATION_UNITS (sizeof(duration_units) / sizeof(duration_units[0]))

static int64_t take_unit(struct cursor *c) {
    size_t n = 0;
    while (c->at + n < c->end && c->at[n] >= 'a' && c->at[n] <= 'z') {
        n++;
    }
    for (size_t i = 0; i < DURATION_UNITS; i++) {
        if (strlen(duration_units[i].name) == n && memcmp(duration_units[i].name, c->at, n) == 0) {
            c->at += n;
            return duration_units[i].us;
        }
    }
    return 0;
}

int weir_duration_parse(int64_t *us, const char *text, int64_t length) {
    struct cursor c = {text, text + length};
    bool is_negative = take(&c, '-');
    __int128 total = 0;
    if (c.at == c.end) {
        return WEIR_NUMBER_SYNTAX;
    }
    while (c.at < c.end) {
        const char *start = c.at;
        __int128 value = 0;
        __int128 divisor = 1;
        bool has_point = false;
        for (; c.at < c.end && ((*c.at >= '0' && *c.at <= '9') || (*c.at == '.' && !has_point));
             c.at++) {
            if (*c.at == '.') {
                has_point = true;
                continue;
            }
            if (c.at - start > 18) {
                return WEIR_NUMBER_OVERFLOW;
            }
            value = value * 10 + (*c.at - '0');
            divisor = has_point ? divisor * 10 : divisor;
        }
        bool has_digit = c.at > start && c.at[-1] != '.' && *start != '.';
        int64_t unit = has_digit ? take_unit(&c) : 0;
        if (unit == 0) {
            return WEIR_NUMBER_SYNTAX;
        }
        if (value * unit % divisor != 0) {
            return WEIR_NUMBER_RANGE; /* finer than a microsecond */
        }
        total += value * unit / divisor;
        if (total > INT64_MAX) {
            return WEIR_NUMBER_OVERFLOW;
        }
    }
    *us = is_negative ? -(int64_t)total : (int64_t)total;
    return WEIR_NUMBER_OK;
}

int weir_duration_to_text(int64_t us, char *buffer) {
    char *out = buffer;
    uint64_t left = us < 0 ? -(uint64_t)us : (uint64_t)us;
    if (us < 0) {
        *out++ = '-';
    }
    for (size_t i = DURATION_UNITS - 1; i-- > 0;) { /* days and below */
        uint64_t unit = (uint64_t)duration_units[i].us;
        if (left >= unit) {
            out = put_number(out, (int64_t)(left / unit), 1);
            left %= unit;
            for (const char *c = duration_units[i].name; *c != '\0'; c++) {
                *out++ = *c;
            }
        }
    }
    if (us == 0) {
        *out++ = '0';
        *out++ = 's';
    }
    *out = '\0';
    return (int)(out - buffer);
}

/* --- format --------------------------------------------------------------------------------- */

static const char *const month_names[] = {"January",   "February", "March",    "April",
                                          "May",       "June",     "July",     "August",
                                          "September", "October",  "November", "December"};
static const char *const day_names[] = {"Monday", "Tuesday",  "Wednesday", "Thursday",
                                        "Friday", "Saturday", "Sunday"};

struct instant {
    int64_t utc_seconds;
    int64_t local_seconds;
    int64_t days;
    int32_t second; /* of the day */
    int32_t micros;
    struct weir_civil civil;
    const struct weir_zone *zone;
};

static char *put_text(char *out, const char *text, size_t limit) {
    for (size_t i = 0; i < limit && text[i] != '\0'; i++) {
        *out++ = text[i];
    }
    return out;
}

/* One conversion, at most 32 bytes; NULL when unknown. */
static char *convert(char *out, char what, const struct instant *t) {
    int32_t hour = t->second / 3600;
    switch (what) {
    case 'Y':
        return put_number(out, t->civil.year, 4);
    case 'y':
        return put_number(out, t->civil.year - weir_floor_div(t->civil.year, 100) * 100, 2);
    case 'm':
        return put_number(out, t->civil.month, 2);
    case 'd':
        return put_number(out, t->civil.day, 2);
    case 'e':
        if (t->civil.day < 10) {
            *out++ = ' ';
        }
        return put_number(out, t->civil.day, 1);
    case 'H':
        return put_number(out, hour, 2);
    case 'I':
        return put_number(out, (hour + 11) % 12 + 1, 2);
    case 'M':
        return put_number(out, t->second / 60 % 60, 2);
    case 'S':
        return put_number(out, t->second % 60, 2);
    case 'p':
        return put_text(out, hour < 12 ? "AM" : "PM", 2);
    case 'j':
        return put_number(out, t->days - weir_days_from_civil(t->civil.year, 1, 1) + 1, 3);
    case 'u':
        return put_number(out, weekday(t->days), 1);
    case 'a':
        return put_text(out, day_names[weekday(t->days) - 1], 3);
    case 'A':
        return put_text(out, day_names[weekday(t->days) - 1], 16);
    case 'b':
        return put_text(out, month_names[t->civil.month - 1], 3);
    case 'B':
        return put_text(out, month_names[t->civil.month - 1], 16);
    case 'F':
        return put_date(out, t->days);
    case 'T':
        return put_clock(out, t->second);
    case 's':
        return put_number(out, t->utc_seconds, 1);
    case 'f':
        return put_number(out, t->micros, 6);
    case 'L':
        return put_number(out, t->micros / 1000, 3);
    case 'z': {
        int64_t offset = t->local_seconds - t->utc_seconds;
        *out++ = offset < 0 ? '-' : '+';
        offset = offset < 0 ? -offset : offset;
        out = put_number(out, offset / 3600, 2);
        return put_number(out, offset / 60 % 60, 2);
    }
    case 'Z':
        return put_text(
            out, t->zone != NULL ? weir_zone_abbreviation(t->zone, t->utc_seconds) : "UTC", 16);
    case '%':
        *out++ = '%';
        return out;
    default:
        return NULL;
    }
}

int weir_time_format(int64_t us, const char *format, int64_t format_length,
                     const struct weir_zone *zone, char *buffer, int64_t capacity) {
    struct instant t = {.zone = zone};
    int64_t n = 0;
    t.utc_seconds = weir_floor_div(us, WEIR_US_PER_SECOND);
    t.micros = (int32_t)(us - t.utc_seconds * WEIR_US_PER_SECOND);
    t.local_seconds = local_seconds(us, zone);
    t.days = weir_floor_div(t.local_seconds, 86400);
    t.second = second_of_day(t.local_seconds);
    t.civil = weir_civil_from_days(t.days);
    for (int64_t i = 0; i < format_length; i++) {
        char piece[40];
        char *end = piece;
        if (format[i] != '%') {
            *end++ = format[i];
        } else {
            end = i + 1 < format_length ? convert(piece, format[++i], &t) : NULL;
            if (end == NULL) {
                return -1;
            }
        }
        if (end - piece > capacity - n) {
            return -2;
        }
        memcpy(buffer + n, piece, (size_t)(end - piece));
        n += end - piece;
    }
    return (int)n;
}

int weir_time_trunc(int64_t *out, int64_t us, int64_t unit_us, const struct weir_zone *zone) {
    if (unit_us <= 0) {
        return WEIR_NUMBER_RANGE;
    }
    int64_t offset = 0;
    if (zone != NULL) {
        offset =
            weir_zone_offset(zone, weir_floor_div(us, WEIR_US_PER_SECOND)) * WEIR_US_PER_SECOND;
    }
    int64_t local;
    if (__builtin_add_overflow(us, offset, &local)) {
        return WEIR_NUMBER_OVERFLOW;
    }
    int64_t down = local % unit_us;
    down = down < 0 ? down + unit_us : down;
    if (__builtin_sub_overflow(local, down, &local)) {
        return WEIR_NUMBER_OVERFLOW;
    }
    int64_t result = local - offset;
    /* On a clock-change day the truncated local time may lie before the change, under the other
     * offset, or not exist at all. */
    if (zone != NULL &&
        weir_zone_offset(zone, weir_floor_div(result, WEIR_US_PER_SECOND)) * WEIR_US_PER_SECOND !=
            offset) {
        result = weir_zone_to_utc(zone, local);
    }
    *out = result;
    return WEIR_NUMBER_OK;
}
