/* Casts of expressions. What does not fit is a failure of the row, never another value. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/decimal.h"
#include "core/time.h"
#include "lake/delta/text.h"
#include "lake/expression/expression_internal.h"

static bool failed(struct delta_expression *at, const char *why) {
    at->failure = why;
    return false;
}

bool delta_in_bits(int64_t value, int bits) {
    return bits >= 64 || (value >= -(INT64_C(1) << (bits - 1)) && value < INT64_C(1) << (bits - 1));
}

bool delta_in_digits(__int128 value, int precision) {
    __int128 limit = weir_decimal_power10(precision);
    return value < limit && value > -limit;
}

static bool from_text(struct delta_expression *at, const struct delta_node *node,
                      struct delta_value *out) {
    char text[128];
    const char *from = out->text.bytes;
    int32_t length = out->text.length;
    while (length > 0 && (*from == ' ' || *from == '\t')) {
        from++;
        length--;
    }
    while (length > 0 && (from[length - 1] == ' ' || from[length - 1] == '\t')) {
        length--;
    }
    if (length == 0 || length >= (int32_t)sizeof(text) ||
        memchr(from, '\0', (size_t)length) != NULL) {
        return failed(at, "a text that is no such value");
    }
    memcpy(text, from, (size_t)length);
    text[length] = '\0';
    char *end = text + length;
    int32_t days;
    bool good = false;
    switch (node->kind) {
    case DELTA_KIND_INT:
        out->integer = strtoll(text, &end, 10);
        good = *end == '\0' && length <= 18 && delta_in_bits(out->integer, node->bits);
        break;
    case DELTA_KIND_DOUBLE:
        out->real = strtod(text, &end);
        good = *end == '\0';
        break;
    case DELTA_KIND_DECIMAL:
        good = delta_parse_decimal(text, node->precision, node->scale, &out->decimal);
        break;
    case DELTA_KIND_DATE:
        text[length > 10 && (text[10] == 'T' || text[10] == ' ') ? 10 : length] = '\0';
        good = delta_parse_date(text, &days);
        out->integer = days;
        break;
    default:
        good = delta_parse_date(text, &days);
        out->integer = good ? days * WEIR_US_PER_DAY : 0;
        good = good || delta_parse_timestamp(text, &out->integer);
        break;
    }
    return good ? true : failed(at, "a text that is no such value");
}

static bool to_text(struct delta_expression *at, enum delta_kind kind,
                    const struct delta_node *from, struct delta_value *out) {
    struct weir_buffer *scratch = &at->scratch;
    int rc;
    weir_buffer_clear(scratch);
    if (kind == DELTA_KIND_INT) {
        rc = weir_buffer_printf(scratch, "%" PRId64, out->integer);
    } else if (kind == DELTA_KIND_BOOL) {
        rc = weir_buffer_append_text(scratch, out->integer != 0 ? "true" : "false");
    } else if (kind == DELTA_KIND_DECIMAL) {
        rc = delta_text_decimal(scratch, (uint64_t)out->decimal, (int64_t)(out->decimal >> 64),
                                from->scale);
    } else {
        rc = delta_text_of_time(scratch, kind, out->integer);
    }
    return rc == WEIR_OK ? delta_keep_text(at, scratch->data, scratch->size, out)
                         : failed(at, "a text too long");
}

static bool to_decimal(struct delta_expression *at, const struct delta_node *from,
                       const struct delta_node *node, struct delta_value *out) {
    __int128 value = from->kind == DELTA_KIND_INT ? out->integer : out->decimal;
    int shift = node->scale - (from->kind == DELTA_KIND_INT ? 0 : from->scale);
    if (shift > 0 && __builtin_mul_overflow(value, weir_decimal_power10(shift), &value)) {
        return failed(at, "a number out of range");
    }
    if (shift < 0) { /* half up, away from zero */
        __int128 power = weir_decimal_power10(-shift);
        __int128 rest = value % power;
        value /= power;
        value += rest * 2 >= power ? 1 : rest * 2 <= -power ? -1 : 0;
    }
    out->decimal = value;
    return delta_in_digits(value, node->precision) ? true : failed(at, "a number out of range");
}

static bool to_integer(struct delta_expression *at, const struct delta_node *from,
                       const struct delta_node *node, struct delta_value *out) {
    if (from->kind == DELTA_KIND_DOUBLE) {
        if (!(out->real > -9.3e18 && out->real < 9.3e18) || fabs(out->real) >= 0x1p63) {
            return failed(at, "a number out of range");
        }
        out->integer = (int64_t)out->real;
    } else if (from->kind == DELTA_KIND_DECIMAL) {
        __int128 whole = out->decimal / weir_decimal_power10(from->scale);
        if (whole != (int64_t)whole) {
            return failed(at, "a number out of range");
        }
        out->integer = (int64_t)whole;
    } else if (from->kind == DELTA_KIND_TIMESTAMP) {
        out->integer = weir_floor_div(out->integer, WEIR_US_PER_SECOND);
    }
    return delta_in_bits(out->integer, node->bits) ? true : failed(at, "a number out of range");
}

static bool to_double(const struct delta_node *from, const struct delta_node *node,
                      struct delta_value *out) {
    double value = from->kind == DELTA_KIND_DOUBLE ? out->real
                   : from->kind == DELTA_KIND_DECIMAL
                       ? (double)out->decimal / (double)weir_decimal_power10(from->scale)
                       : (double)out->integer;
    out->real = node->bits == 32 ? (double)(float)value : value;
    return true;
}

bool delta_cast_value(struct delta_expression *expression, const struct delta_node *node,
                      struct delta_value *out) {
    struct delta_expression *at = expression;
    const struct delta_node *from = node->args[0];
    if (from->kind == DELTA_KIND_STRING) {
        return node->kind == DELTA_KIND_STRING ? true : from_text(at, node, out);
    }
    switch (node->kind) {
    case DELTA_KIND_STRING:
        return to_text(at, from->kind, from, out);
    case DELTA_KIND_DECIMAL:
        return to_decimal(at, from, node, out);
    case DELTA_KIND_INT:
        return to_integer(at, from, node, out);
    case DELTA_KIND_DOUBLE:
        return to_double(from, node, out);
    case DELTA_KIND_BOOL:
        out->integer = out->integer != 0;
        return true;
    case DELTA_KIND_DATE:
        if (from->kind != DELTA_KIND_DATE) {
            out->integer = weir_floor_div(out->integer, WEIR_US_PER_DAY);
        }
        return true;
    default: /* a time */
        if (from->kind == DELTA_KIND_DATE || from->kind == DELTA_KIND_INT) {
            int64_t factor = from->kind == DELTA_KIND_DATE ? WEIR_US_PER_DAY : WEIR_US_PER_SECOND;
            if (__builtin_mul_overflow(out->integer, factor, &out->integer)) {
                return failed(at, "a time out of range");
            }
        }
        return true;
    }
}
