#include "operator/literal.h"

#include "core/time.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

enum { MAX_DIGITS = 38, MAX_EXPONENT = 4096 };

/* value * 10^-scale, exactly; scale may be negative. */
struct exact {
    weir_int128 value;
    int scale;
};

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* 12, -1.50, 1e3, 0x10. False when the text is no number or has more than 38 digits. */
static bool parse_exact(const char *text, struct exact *out) {
    const char *at = text;
    bool negative = *at == '-';
    at += negative || *at == '+';
    weir_int128 value = 0;
    int digits = 0;
    int scale = 0;
    bool any = false;
    if (at[0] == '0' && (at[1] == 'x' || at[1] == 'X')) {
        char *end;
        errno = 0;
        unsigned long long bits = strtoull(at, &end, 16);
        if (errno != 0 || *end != '\0' || end == at + 2) {
            return false;
        }
        *out = (struct exact){negative ? -(weir_int128)bits : (weir_int128)bits, 0};
        return true;
    }
    for (bool fraction = false; is_digit(*at) || (*at == '.' && !fraction); at++) {
        if (*at == '.') {
            fraction = true;
            continue;
        }
        any = true;
        digits += digits > 0 || *at != '0';
        if (digits > MAX_DIGITS) {
            return false;
        }
        value = value * 10 + (*at - '0');
        scale += fraction;
        if (scale > MAX_EXPONENT) {
            return false;
        }
    }
    if (any && (*at == 'e' || *at == 'E')) {
        at++;
        bool down = *at == '-';
        at += down || *at == '+';
        int exponent = 0;
        any = false;
        for (; is_digit(*at) && exponent <= MAX_EXPONENT; at++) {
            exponent = exponent * 10 + (*at - '0');
            any = true;
        }
        scale += down ? exponent : -exponent;
    }
    *out = (struct exact){negative ? -value : value, scale};
    return any && *at == '\0';
}

/* Brings a number to the given scale without rounding. */
static bool rescale(const struct exact *number, int scale, weir_int128 *value) {
    *value = number->value;
    for (int at = number->scale; at > scale && *value != 0; at--) {
        if (*value % 10 != 0) {
            return false;
        }
        *value /= 10;
    }
    for (int at = number->scale; at < scale && *value != 0; at++) {
        if (!weir_int128_fits(*value, MAX_DIGITS - 1)) {
            return false;
        }
        *value *= 10;
    }
    return true;
}

static bool take_digits(const char **at, int count, int *value) {
    *value = 0;
    for (int i = 0; i < count; i++) {
        if (!is_digit((*at)[i])) {
            return false;
        }
        *value = *value * 10 + ((*at)[i] - '0');
    }
    *at += count;
    return true;
}

static bool parse_date(const char **at, int64_t *days) {
    static const uint8_t lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int year;
    int month;
    int day;
    if (!take_digits(at, 4, &year) || *(*at)++ != '-' || !take_digits(at, 2, &month) ||
        *(*at)++ != '-' || !take_digits(at, 2, &day) || month < 1 || month > 12 || day < 1) {
        return false;
    }
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    if (day > lengths[month - 1] + (month == 2 && leap)) {
        return false;
    }
    *days = weir_days_from_civil(year, month, day);
    return true;
}

/* 2026-01-05, 2026-01-05T10:00:00.25Z, … +01:00; a zone exactly where the type has one. */
static bool parse_time(const char *text, bool zoned, int fraction_digits, int64_t *units) {
    const char *at = text;
    int64_t days;
    int hour = 0;
    int minute = 0;
    int second = 0;
    int64_t fraction = 0;
    int64_t offset = 0;
    if (!parse_date(&at, &days)) {
        return false;
    }
    if (*at != '\0') {
        if ((*at != 'T' && *at != ' ') || (at++, !take_digits(&at, 2, &hour)) || *at++ != ':' ||
            !take_digits(&at, 2, &minute) || hour > 23 || minute > 59) {
            return false;
        }
        if (*at == ':' && (at++, !take_digits(&at, 2, &second) || second > 59)) {
            return false;
        }
        int digits = 0;
        if (*at == '.') {
            at++;
            for (; is_digit(*at); at++, digits++) {
                if (digits < fraction_digits) {
                    fraction = fraction * 10 + (*at - '0');
                } else if (*at != '0') {
                    return false;
                }
            }
            if (digits == 0) {
                return false;
            }
        }
        for (; digits < fraction_digits; digits++) {
            fraction *= 10;
        }
        bool has_zone = *at == 'Z' || *at == '+' || *at == '-';
        if (*at == 'Z') {
            at++;
        } else if (has_zone) {
            int sign = *at++ == '-' ? -1 : 1;
            int zone_hour;
            int zone_minute;
            if (!take_digits(&at, 2, &zone_hour) || *at++ != ':' ||
                !take_digits(&at, 2, &zone_minute) || zone_hour > 18 || zone_minute > 59) {
                return false;
            }
            offset = sign * (zone_hour * 3600 + zone_minute * 60);
        }
        if (*at != '\0' || has_zone != zoned) {
            return false;
        }
    }
    int64_t seconds = days * 86400 + hour * 3600 + minute * 60 + second - offset;
    int64_t a_second = fraction_digits == 9 ? 1000000000 : 1000000;
    return !__builtin_mul_overflow(seconds, a_second, units) &&
           !__builtin_add_overflow(*units, fraction, units);
}

static int reject(const struct weir_field *field, const char *text, const char *wanted,
                  struct weir_error *err) {
    struct weir_buffer type;
    weir_buffer_init(&type, 256);
    const char *name =
        weir_field_format_type(field, &type) == WEIR_OK ? weir_buffer_text(&type) : NULL;
    int rc = weir_error_set(err, WEIR_E_CONFIG, "'%.100s' is no value of column '%s' (%s): give %s",
                            text, field->name, name != NULL ? name : weir_type_name(field->type),
                            wanted);
    weir_buffer_fini(&type);
    return rc;
}

static int parse_int(const struct weir_field *field, const char *text, int bits,
                     struct weir_literal *literal, struct weir_error *err) {
    struct exact number;
    weir_int128 value;
    weir_int128 limit = (weir_int128)1 << (bits - 1);
    if (!parse_exact(text, &number) || !rescale(&number, 0, &value) || value < -limit ||
        value >= limit) {
        return reject(field, text, "a whole number in its range", err);
    }
    literal->integer = (int64_t)value;
    return WEIR_OK;
}

static int parse_decimal(const struct weir_field *field, const char *text,
                         struct weir_literal *literal, struct weir_error *err) {
    struct exact number;
    if (!parse_exact(text, &number) || !rescale(&number, field->scale, &literal->decimal) ||
        !weir_int128_fits(literal->decimal, field->precision)) {
        return reject(field, text, "a number that fits its digits and scale as it is", err);
    }
    return WEIR_OK;
}

static int parse_float(const struct weir_field *field, const char *text,
                       struct weir_literal *literal, struct weir_error *err) {
    char *end = NULL;
    bool number = is_digit(text[0]) || text[0] == '-' || text[0] == '+' || text[0] == '.';
    literal->number =
        field->type == WEIR_TYPE_FLOAT ? (double)strtof(text, &end) : strtod(text, &end);
    if (!number || end == text || *end != '\0' || !isfinite(literal->number)) {
        return reject(field, text, "a finite number", err);
    }
    return WEIR_OK;
}

int weir_literal_parse(const struct weir_field *field, const char *text,
                       struct weir_literal *literal, struct weir_error *err) {
    *literal = (struct weir_literal){.bytes = text};
    const char *at = text;
    switch (field->type) {
    case WEIR_TYPE_BOOL:
        literal->integer = strcmp(text, "true") == 0;
        if (literal->integer == 0 && strcmp(text, "false") != 0) {
            return reject(field, text, "true or false", err);
        }
        return WEIR_OK;
    case WEIR_TYPE_INT8:
        return parse_int(field, text, 8, literal, err);
    case WEIR_TYPE_INT16:
        return parse_int(field, text, 16, literal, err);
    case WEIR_TYPE_INT32:
        return parse_int(field, text, 32, literal, err);
    case WEIR_TYPE_INT64:
        return parse_int(field, text, 64, literal, err);
    case WEIR_TYPE_FLOAT:
    case WEIR_TYPE_DOUBLE:
        return parse_float(field, text, literal, err);
    case WEIR_TYPE_DECIMAL:
        return parse_decimal(field, text, literal, err);
    case WEIR_TYPE_STRING:
    case WEIR_TYPE_BINARY: {
        size_t length = strlen(text);
        if (length > INT32_MAX) {
            return reject(field, "(a very long text)", "a shorter one", err);
        }
        literal->length = (int32_t)length;
        return WEIR_OK;
    }
    case WEIR_TYPE_DATE:
        if (!parse_date(&at, &literal->integer) || *at != '\0') {
            return reject(field, text, "a date as 2026-01-05", err);
        }
        return WEIR_OK;
    case WEIR_TYPE_TIMESTAMP:
    case WEIR_TYPE_TIMESTAMP_NS:
        if (!parse_time(text, true, field->type == WEIR_TYPE_TIMESTAMP ? 6 : 9,
                        &literal->integer)) {
            return reject(field, text, "a time as 2026-01-05T10:00:00Z or with an offset", err);
        }
        return WEIR_OK;
    case WEIR_TYPE_TIMESTAMP_NTZ:
    case WEIR_TYPE_TIMESTAMP_NS_NTZ:
        if (!parse_time(text, false, field->type == WEIR_TYPE_TIMESTAMP_NTZ ? 6 : 9,
                        &literal->integer)) {
            return reject(field, text, "a time without zone, as 2026-01-05T10:00:00", err);
        }
        return WEIR_OK;
    default:
        return weir_error_set(err, WEIR_E_CONFIG,
                              "column '%s' is a %s: only not_null judges nested values",
                              field->name, weir_type_name(field->type));
    }
}

int weir_literal_put(const struct weir_field *field, const struct weir_literal *literal,
                     struct weir_column_builder *to) {
    switch (field->type) {
    case WEIR_TYPE_BOOL:
        return weir_builder_bool(to, literal->integer != 0);
    case WEIR_TYPE_FLOAT:
        return weir_builder_float(to, (float)literal->number);
    case WEIR_TYPE_DOUBLE:
        return weir_builder_double(to, literal->number);
    case WEIR_TYPE_DECIMAL:
        return weir_builder_decimal(to, (uint64_t)literal->decimal,
                                    (int64_t)(literal->decimal >> 64));
    case WEIR_TYPE_STRING:
    case WEIR_TYPE_BINARY:
        return weir_builder_bytes(to, literal->bytes, (size_t)literal->length);
    default:
        return weir_builder_int(to, literal->integer);
    }
}
