#include "lake/delta/stats.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lake/delta/actions.h"
#include "lake/delta/text.h"

#define VALUE_BYTES_MAX (1u << 20)

enum kind { MIN, MAX, NULLS };

/* Decodes the character at bytes[*at], advancing; -1 when it is malformed. */
static int32_t next_char(const uint8_t *bytes, size_t size, size_t *at) {
    uint8_t c = bytes[*at];
    int more = c < 0x80 ? 0 : c >= 0xF0 ? 3 : c >= 0xE0 ? 2 : c >= 0xC2 ? 1 : -1;
    if (more < 0 || c > 0xF4 || *at + (size_t)more >= size + (more == 0)) {
        return -1;
    }
    int32_t value = more == 0 ? c : c & (0x3F >> more);
    for (int i = 1; i <= more; i++) {
        uint8_t next = bytes[*at + (size_t)i];
        if ((next & 0xC0) != 0x80) {
            return -1;
        }
        value = value << 6 | (next & 0x3F);
    }
    *at += (size_t)more + 1;
    return value;
}

/* A bound of at most `chars` characters: a prefix below the value, or a prefix and a tie-breaker
 * above it. False when there is no safe one. */
static bool string_bound(enum kind kind, const uint8_t *bytes, size_t size, int32_t chars,
                         struct weir_buffer *out) {
    size_t at = 0;
    int32_t seen = 0;
    while (at < size) {
        size_t start = at;
        int32_t c = next_char(bytes, size, &at);
        if (c < 0) {
            return false;
        }
        if (seen++ < chars) {
            continue;
        }
        /* the first character cut */
        if (kind == MIN) {
            size = start;
            break;
        }
        if (c == 0x10FFFF) {
            continue; /* nothing sorts above it: keep it and try the next */
        }
        const char *tie = c < 0x7F ? "\x7F" : "\xF4\x8F\xBF\xBF";
        return weir_buffer_append(out, bytes, start) == WEIR_OK &&
               weir_buffer_append_text(out, tie) == WEIR_OK;
    }
    return weir_buffer_append(out, bytes, size) == WEIR_OK;
}

/* Appends the bound as JSON to `out`; leaves it untouched and returns false where there is none. */
static bool put_bound(enum kind kind, const struct weir_parquet_column_info *column,
                      int32_t string_chars, struct weir_buffer *out) {
    const void *value = kind == MIN ? column->min : column->max;
    size_t size = kind == MIN ? column->min_size : column->max_size;
    if (!column->min_max_set) {
        return false;
    }
    struct weir_buffer text;
    weir_buffer_init(&text, VALUE_BYTES_MAX);
    bool plain = true;
    bool quoted = false;
    int64_t integer = 0;
    int rc = WEIR_OK;
    switch (column->field->type) {
    case WEIR_TYPE_INT8:
        rc = weir_buffer_printf(&text, "%d", *(const int8_t *)value);
        break;
    case WEIR_TYPE_INT16: {
        int16_t v;
        memcpy(&v, value, sizeof(v));
        rc = weir_buffer_printf(&text, "%d", v);
        break;
    }
    case WEIR_TYPE_INT32:
    case WEIR_TYPE_DATE: {
        int32_t v;
        memcpy(&v, value, sizeof(v));
        quoted = column->field->type == WEIR_TYPE_DATE;
        rc = quoted ? delta_text_date(&text, v, &plain) : weir_buffer_printf(&text, "%d", v);
        break;
    }
    case WEIR_TYPE_INT64:
    case WEIR_TYPE_TIMESTAMP_NS: /* stored as long */
    case WEIR_TYPE_TIMESTAMP_NS_NTZ:
        memcpy(&integer, value, sizeof(integer));
        rc = weir_buffer_printf(&text, "%" PRId64, integer);
        break;
    case WEIR_TYPE_TIMESTAMP:
    case WEIR_TYPE_TIMESTAMP_NTZ: {
        memcpy(&integer, value, sizeof(integer));
        int64_t ms = integer / 1000;
        int64_t rest = integer % 1000;
        ms -= kind == MIN && rest < 0; /* floor below */
        ms += kind == MAX && rest > 0; /* and up above: the bounds enclose the data */
        quoted = true;
        rc = delta_text_timestamp(&text, ms, 3, column->field->type == WEIR_TYPE_TIMESTAMP, &plain);
        break;
    }
    case WEIR_TYPE_FLOAT:
    case WEIR_TYPE_DOUBLE: {
        float f;
        double d;
        bool is_float = column->field->type == WEIR_TYPE_FLOAT;
        if (is_float) {
            memcpy(&f, value, sizeof(f));
            d = f;
        } else {
            memcpy(&d, value, sizeof(d));
        }
        /* NaN sorts above everything, and JSON has neither it nor infinities */
        plain = isfinite(d) && !(kind == MAX && column->has_nan);
        rc = plain ? delta_text_double(&text, d, is_float) : WEIR_OK;
        break;
    }
    case WEIR_TYPE_DECIMAL: {
        uint64_t words[2];
        memcpy(words, value, sizeof(words));
        rc = delta_text_decimal(&text, words[0], (int64_t)words[1], column->field->scale);
        break;
    }
    case WEIR_TYPE_STRING:
        quoted = true;
        plain = string_bound(kind, value, size, string_chars, &text);
        break;
    default:
        plain = false; /* booleans and binary have none */
        break;
    }
    if (rc == WEIR_OK && plain) {
        size_t mark = out->size;
        rc = quoted ? weir_delta_json_string(out, (const char *)text.data, text.size)
                    : weir_buffer_append(out, text.data, text.size);
        if (rc != WEIR_OK) {
            out->size = mark;
        }
    }
    weir_buffer_fini(&text);
    return rc == WEIR_OK && plain;
}

/* `"a":{"b":` for the path of a column, given how deep the previous one left us. */
static int put_names(struct weir_buffer *out, const struct weir_parquet_column_info *column,
                     int32_t shared, bool first) {
    int rc = WEIR_OK;
    for (int32_t i = shared; i < column->path_count && rc == WEIR_OK; i++) {
        if (i == shared && !first) {
            rc = weir_buffer_append_text(out, ",");
        }
        if (rc == WEIR_OK) {
            rc = weir_delta_json_string(out, column->path[i], strlen(column->path[i]));
        }
        if (rc == WEIR_OK) {
            rc = weir_buffer_append_text(out, i + 1 < column->path_count ? ":{" : ":");
        }
    }
    return rc;
}

static int put_tree(const struct weir_parquet_file_info *info, int32_t leaves, const bool *skipped,
                    enum kind kind, int32_t string_chars, struct weir_buffer *out) {
    const struct weir_parquet_column_info *last = NULL;
    int32_t open = 0; /* objects open below the tree's own */
    int rc = weir_buffer_append_text(out, "{");
    struct weir_buffer value;
    weir_buffer_init(&value, VALUE_BYTES_MAX * 8);
    for (int32_t i = 0; i < leaves && rc == WEIR_OK; i++) {
        const struct weir_parquet_column_info *column = &info->columns[i];
        if (column->repeated || (skipped != NULL && skipped[i])) {
            continue; /* what a list holds has no statistics in Delta */
        }
        weir_buffer_clear(&value);
        if (kind == NULLS) {
            rc = weir_buffer_printf(&value, "%" PRId64, column->null_count);
        } else if (!put_bound(kind, column, string_chars, &value)) {
            continue;
        }
        int32_t shared = 0;
        while (last != NULL && shared < open && shared + 1 < column->path_count &&
               strcmp(last->path[shared], column->path[shared]) == 0) {
            shared++;
        }
        for (; open > shared && rc == WEIR_OK; open--) {
            rc = weir_buffer_append_text(out, "}");
        }
        if (rc == WEIR_OK) {
            rc = put_names(out, column, shared, last == NULL);
        }
        if (rc == WEIR_OK) {
            rc = weir_buffer_append(out, value.data, value.size);
        }
        open = column->path_count - 1;
        last = column;
    }
    for (; open >= 0 && rc == WEIR_OK; open--) {
        rc = weir_buffer_append_text(out, "}");
    }
    weir_buffer_fini(&value);
    return rc;
}

int weir_delta_stats_format(const struct weir_parquet_file_info *info, int32_t leaves_max,
                            const bool *skipped, int32_t string_chars, struct weir_buffer *out) {
    int32_t leaves =
        leaves_max < 0 || leaves_max > info->column_count ? info->column_count : leaves_max;
    int rc = weir_buffer_printf(out, "{\"numRecords\":%" PRId64, info->rows);
    static const char *const names[] = {"minValues", "maxValues", "nullCount"};
    for (int kind = MIN; kind <= NULLS && rc == WEIR_OK && leaves > 0; kind++) {
        rc = weir_buffer_printf(out, ",\"%s\":", names[kind]);
        if (rc == WEIR_OK) {
            rc = put_tree(info, leaves, skipped, (enum kind)kind, string_chars, out);
        }
    }
    return rc == WEIR_OK ? weir_buffer_append_text(out, "}") : rc;
}

/* --- reading ------------------------------------------------------------------------------- */

static const char *skip_blank(const char *at) {
    return at + strspn(at, " \t\r\n");
}

const char *delta_stats_member(const char *stats, const char *name) {
    size_t length = strlen(name);
    int depth = 0;
    stats = stats != NULL ? skip_blank(stats) : NULL;
    for (const char *at = stats; at != NULL && *at != '\0'; at++) {
        depth += (*at == '{' || *at == '[') - (*at == '}' || *at == ']');
        if (depth == 0) { /* no object, or behind it */
            break;
        }
        if (*at != '"') {
            continue;
        }
        const char *text = ++at;
        while (*at != '"' && *at != '\0') {
            at += at[0] == '\\' && at[1] != '\0' ? 2 : 1;
        }
        if (*at == '\0') {
            break;
        }
        const char *after = skip_blank(at + 1);
        if (depth == 1 && *after == ':' && (size_t)(at - text) == length &&
            memcmp(text, name, length) == 0) {
            return skip_blank(after + 1);
        }
    }
    return NULL;
}

int64_t delta_stats_rows(const char *stats) {
    const char *at = delta_stats_member(stats, "numRecords");
    char *end = NULL;
    errno = 0;
    long long rows = at != NULL ? strtoll(at, &end, 10) : -1;
    return end == at || errno != 0 || rows < 0 ? -1 : rows;
}
