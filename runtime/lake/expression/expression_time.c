/* Dates and times of expressions: parts, truncation, patterns. All in UTC. */
#include <string.h>
#include <strings.h>

#include "core/time.h"
#include "lake/delta/text.h"
#include "lake/expression/expression_internal.h"

enum unit { YEAR, QUARTER, MONTH, WEEK, DAY, HOUR, MINUTE, SECOND, NO_UNIT };

static enum unit find_unit(const char *name) {
    static const struct {
        const char *name;
        enum unit unit;
    } units[] = {{"year", YEAR},    {"yyyy", YEAR}, {"yy", YEAR},   {"quarter", QUARTER},
                 {"month", MONTH},  {"mm", MONTH},  {"mon", MONTH}, {"week", WEEK},
                 {"day", DAY},      {"dd", DAY},    {"hour", HOUR}, {"minute", MINUTE},
                 {"second", SECOND}};
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcasecmp(name, units[i].name) == 0) {
            return units[i].unit;
        }
    }
    return NO_UNIT;
}

bool delta_date_unit(const char *name, bool of_date, uint8_t *unit) {
    enum unit found = find_unit(name);
    *unit = (uint8_t)found;
    return found != NO_UNIT && (!of_date || found <= WEEK);
}

static int64_t truncate_days(int64_t days, enum unit unit) {
    struct weir_civil c = weir_civil_from_days(days);
    switch (unit) {
    case YEAR:
        return weir_days_from_civil(c.year, 1, 1);
    case QUARTER:
        return weir_days_from_civil(c.year, (c.month - 1) / 3 * 3 + 1, 1);
    case MONTH:
        return weir_days_from_civil(c.year, c.month, 1);
    case WEEK:
        return days - ((days + 3) % 7 + 7) % 7; /* Mondays */
    default:
        return days;
    }
}

static bool scaled(struct delta_expression *expression, int64_t value, int64_t factor,
                   struct delta_value *out) {
    if (__builtin_mul_overflow(value, factor, &out->integer)) {
        expression->failure = "a time out of range";
        return false;
    }
    return true;
}

static bool truncate_us(struct delta_expression *expression, int64_t us, enum unit unit,
                        struct delta_value *out) {
    int64_t step = unit == HOUR ? 3600000000ll : unit == MINUTE ? 60000000ll : 1000000ll;
    if (unit >= HOUR) {
        return scaled(expression, weir_floor_div(us, step), step, out);
    }
    int64_t days = truncate_days(weir_floor_div(us, WEIR_US_PER_DAY), unit);
    return scaled(expression, days, WEIR_US_PER_DAY, out);
}

/* ISO 8601: the week of the year that holds its Thursday. */
static int64_t week_of_year(int64_t days) {
    int64_t thursday = truncate_days(days, WEEK) + 3;
    return (thursday - weir_days_from_civil(weir_civil_from_days(thursday).year, 1, 1)) / 7 + 1;
}

/* What is left of a floored division, at the least value too. */
static int64_t rest_of(int64_t value, int64_t step) {
    int64_t rest = value % step;
    return rest < 0 ? rest + step : rest;
}

/* --- patterns ------------------------------------------------------------------------------ */

static int run_of(const char *at) {
    int run = 1;
    while (at[run] == at[0]) {
        run++;
    }
    return run;
}

bool delta_date_pattern_known(const char *pattern) {
    for (const char *at = pattern; *at != '\0';) {
        int run = run_of(at);
        bool letter = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z');
        if (letter && !(*at == 'y' && run == 4) && !(strchr("MdHms", *at) != NULL && run <= 2) &&
            !(*at == 'S' && run <= 6)) {
            return false;
        }
        if (strchr("'[]{}#", *at) != NULL) {
            return false;
        }
        at += run;
    }
    return true;
}

static int format_time(struct weir_buffer *out, int64_t us, const char *pattern) {
    int64_t days = weir_floor_div(us, WEIR_US_PER_DAY);
    int64_t rest = rest_of(us, WEIR_US_PER_DAY);
    struct weir_civil c = weir_civil_from_days(days);
    int rc = WEIR_OK;
    for (const char *at = pattern; *at != '\0' && rc == WEIR_OK;) {
        int run = run_of(at);
        int64_t value = *at == 'y'   ? c.year
                        : *at == 'M' ? c.month
                        : *at == 'd' ? c.day
                        : *at == 'H' ? rest / 3600000000ll
                        : *at == 'm' ? rest / 60000000ll % 60
                                     : rest / 1000000ll % 60;
        if (*at == 'S') {
            value = rest % 1000000;
            for (int i = run; i < 6; i++) {
                value /= 10;
            }
        }
        rc = strchr("yMdHmsS", *at) != NULL
                 ? weir_buffer_printf(out, "%0*lld", run, (long long)value)
                 : weir_buffer_append(out, at, (size_t)run);
        at += run;
    }
    return rc;
}

int delta_text_of_time(struct weir_buffer *out, enum delta_kind kind, int64_t value) {
    if (kind == DELTA_KIND_DATE) {
        return delta_text_date(out, value, NULL);
    }
    int rc = format_time(out, value, "yyyy-MM-dd HH:mm:ss");
    int64_t micros = rest_of(value, 1000000);
    if (rc == WEIR_OK && micros > 0) { /* without zeros at the end, as Spark */
        int digits = 6;
        while (micros % 10 == 0) {
            micros /= 10;
            digits--;
        }
        rc = weir_buffer_printf(out, ".%0*lld", digits, (long long)micros);
    }
    return rc;
}

/* --- calls --------------------------------------------------------------------------------- */

static int64_t part_of(enum delta_function function, int64_t days) {
    struct weir_civil c = weir_civil_from_days(days);
    switch (function) {
    case FN_YEAR:
        return c.year;
    case FN_QUARTER:
        return (c.month - 1) / 3 + 1;
    case FN_MONTH:
        return c.month;
    case FN_DAY:
        return c.day;
    case FN_DAY_OF_YEAR:
        return days - weir_days_from_civil(c.year, 1, 1) + 1;
    case FN_DAY_OF_WEEK: /* 1 is Sunday */
        return ((days + 4) % 7 + 7) % 7 + 1;
    case FN_WEEKDAY: /* 0 is Monday */
        return ((days + 3) % 7 + 7) % 7;
    case FN_LAST_DAY:
        return days + weir_days_in_month(c.year, c.month) - c.day;
    default:
        return week_of_year(days);
    }
}

bool delta_call_time(struct delta_expression *expression, const struct delta_node *node,
                     const struct delta_value *args, struct delta_value *out) {
    int64_t value = node->arg_count > 0 ? args[0].integer : 0;
    int64_t day_us = rest_of(value, WEIR_US_PER_DAY);
    out->is_null = false;
    switch (node->function) {
    case FN_HOUR:
        out->integer = day_us / 3600000000ll;
        return true;
    case FN_MINUTE:
        out->integer = day_us / 60000000ll % 60;
        return true;
    case FN_SECOND:
        out->integer = day_us / 1000000ll % 60;
        return true;
    case FN_DATE:
        out->integer = value;
        return true;
    case FN_DATE_TRUNC:
        return truncate_us(expression, args[1].integer, (enum unit)node->unit, out);
    case FN_TRUNC:
        out->integer = truncate_days(value, (enum unit)node->unit);
        return true;
    case FN_DATE_ADD:
    case FN_DATE_SUB:
        if (args[1].integer == (int32_t)args[1].integer) {
            value += node->function == FN_DATE_ADD ? args[1].integer : -args[1].integer;
        } else {
            value = INT64_MAX;
        }
        out->integer = value;
        if (value != (int32_t)value) {
            expression->failure = "a date out of range";
            return false;
        }
        return true;
    case FN_DATE_DIFF:
        out->integer = value - args[1].integer;
        return true;
    case FN_TIMESTAMP_SECONDS:
        return scaled(expression, value, 1000000, out);
    case FN_TIMESTAMP_MILLIS:
        return scaled(expression, value, 1000, out);
    case FN_TIMESTAMP_MICROS:
        out->integer = value;
        return true;
    case FN_NOW:
        out->integer = expression->now_us;
        return true;
    case FN_TODAY:
        out->integer = weir_floor_div(expression->now_us, WEIR_US_PER_DAY);
        return true;
    case FN_DATE_FORMAT:
        weir_buffer_clear(&expression->scratch);
        if (format_time(&expression->scratch, value, node->args[1]->text) != WEIR_OK) {
            expression->failure = "a text too long";
            return false;
        }
        return delta_keep_text(expression, expression->scratch.data, expression->scratch.size, out);
    default:
        out->integer = part_of(node->function, value);
        return true;
    }
}
