#include "decode/text_value.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "decode/json/json_number.h"
#include "decode/json/json_put.h"
#include "decode/json/json_text.h"

enum { NUMBER_BYTES_MAX = 512, EXCERPT_BYTES = 40 };

static __attribute__((cold)) int fail(struct json_reader *r, const struct json_field *f,
                                      const uint8_t *text, size_t length, const char *why) {
    size_t shown = length < EXCERPT_BYTES ? length : EXCERPT_BYTES;
    while (shown < length && shown > 0 && (text[shown] & 0xc0) == 0x80) {
        shown--; /* not inside a character */
    }
    struct weir_buffer type;
    weir_buffer_init(&type, 4096);
    if (why == NULL && weir_field_format_type(f->field, &type) == WEIR_OK) {
        const char *name = weir_buffer_text(&type);
        json_fail(r, 0, "\"%.*s%s\" is not %s", (int)shown, (const char *)text,
                  shown < length ? "…" : "", name != NULL ? name : "of its type");
    } else {
        json_fail(r, 0, "\"%.*s%s\" %s", (int)shown, (const char *)text, shown < length ? "…" : "",
                  why);
    }
    weir_buffer_fini(&type);
    return WEIR_E_DATA;
}

/* Number text must be followed by a byte that may follow one: moved where it is. */
static bool read_number(const uint8_t *text, size_t length, struct json_number *n,
                        uint8_t copy[NUMBER_BYTES_MAX]) {
    if (length == 0 || length >= NUMBER_BYTES_MAX) {
        return false;
    }
    if (UNLIKELY(!json_number_ends[text[length]])) {
        memcpy(copy, text, length);
        copy[length] = '\0';
        text = copy;
    }
    return json_number_read(text, n) && n->end == text + length;
}

static int put_int(struct json_reader *r, const struct json_field *f, struct weir_column_builder *b,
                   const uint8_t *text, size_t length, int64_t low, int64_t high, int32_t width) {
    struct json_number n;
    uint8_t copy[NUMBER_BYTES_MAX];
    int64_t value;
    if (!read_number(text, length, &n, copy) || !json_number_int64(&n, &value) || value < low ||
        value > high) {
        return fail(r, f, text, length, NULL);
    }
    return json_put_int(b, value, width);
}

static int put_decimal(struct json_reader *r, const struct json_field *f,
                       struct weir_column_builder *b, const uint8_t *text, size_t length) {
    struct json_number n;
    uint8_t copy[NUMBER_BYTES_MAX];
    unsigned __int128 value;
    if (!read_number(text, length, &n, copy) ||
        !json_number_decimal(&n, f->field->precision, f->field->scale, &value)) {
        return fail(r, f, text, length, NULL);
    }
    return weir_builder_decimal(b, (uint64_t)value, (int64_t)(value >> 64));
}

static bool special(const uint8_t *text, size_t length, double *value) {
    bool negative = length > 0 && *text == '-';
    const char *word = (const char *)text + negative;
    size_t left = length - negative;
    if ((left == 3 && strncasecmp(word, "inf", 3) == 0) ||
        (left == 8 && strncasecmp(word, "infinity", 8) == 0)) {
        *value = negative ? -INFINITY : INFINITY;
        return true;
    }
    if (left == 3 && !negative && strncasecmp(word, "nan", 3) == 0) {
        *value = NAN;
        return true;
    }
    return false;
}

static int put_real(struct json_reader *r, const struct json_field *f,
                    struct weir_column_builder *b, const uint8_t *text, size_t length) {
    struct json_number n;
    uint8_t copy[NUMBER_BYTES_MAX];
    double value = 0;
    float narrow = 0;
    bool is_float = b->type == WEIR_TYPE_FLOAT;
    if (special(text, length, &value)) {
        narrow = (float)value;
    } else if (!read_number(text, length, &n, copy) ||
               !(is_float ? json_number_float(&n, &narrow) : json_number_double(&n, &value))) {
        return fail(r, f, text, length, NULL);
    }
    return is_float ? weir_builder_float(b, narrow) : weir_builder_double(b, value);
}

static int put_bool(struct json_reader *r, const struct json_field *f,
                    struct weir_column_builder *b, const uint8_t *text, size_t length) {
    const char *word = (const char *)text;
    if ((length == 4 && strncasecmp(word, "true", 4) == 0) || (length == 1 && *word == '1')) {
        return weir_builder_bool(b, true);
    }
    if ((length == 5 && strncasecmp(word, "false", 5) == 0) || (length == 1 && *word == '0')) {
        return weir_builder_bool(b, false);
    }
    return fail(r, f, text, length, NULL);
}

static int put_timestamp(struct json_reader *r, const struct json_field *f,
                         struct weir_column_builder *b, const uint8_t *text, size_t length) {
    struct json_number n;
    uint8_t copy[NUMBER_BYTES_MAX];
    int64_t value;
    if (read_number(text, length, &n, copy)) {
        if (!json_number_int64(&n, &value) ||
            __builtin_mul_overflow(value, f->epoch_factor, &value)) {
            return fail(r, f, text, length, NULL);
        }
    } else {
        bool zoned = b->type == WEIR_TYPE_TIMESTAMP || b->type == WEIR_TYPE_TIMESTAMP_NS;
        enum json_time_error error =
            json_parse_timestamp(text, length, f->per_second, zoned, &value);
        if (error != JSON_TIME_OK) {
            return fail(r, f, text, length, json_time_error_text(error));
        }
    }
    return json_put_int(b, value, 8);
}

static int put_date(struct json_reader *r, const struct json_field *f,
                    struct weir_column_builder *b, const uint8_t *text, size_t length) {
    struct json_number n;
    uint8_t copy[NUMBER_BYTES_MAX];
    if (read_number(text, length, &n, copy)) {
        return put_int(r, f, b, text, length, INT32_MIN, INT32_MAX, 4);
    }
    int32_t days;
    enum json_time_error error = json_parse_date(text, length, &days);
    return error != JSON_TIME_OK ? fail(r, f, text, length, json_time_error_text(error))
                                 : json_put_int(b, days, 4);
}

static int put_string(struct json_reader *r, const struct json_field *f,
                      struct weir_column_builder *b, const uint8_t *text, size_t length) {
    bool known = f->hint->symbol_count == 0;
    for (int32_t i = 0; !known && i < f->hint->symbol_count; i++) {
        const char *symbol = f->hint->symbols[i];
        known = strlen(symbol) == length && memcmp(symbol, text, length) == 0;
    }
    return known ? weir_builder_bytes(b, text, length)
                 : fail(r, f, text, length, "is not a symbol of the enum");
}

static int put_binary(struct json_reader *r, const struct json_field *f,
                      struct weir_column_builder *b, const uint8_t *text, size_t length) {
    int rc = json_reserve_bytes(b, length + 64);
    if (rc != WEIR_OK) {
        return rc;
    }
    int64_t size = json_base64(text, length, (uint8_t *)b->values + b->bytes_size);
    if (size < 0) {
        return fail(r, f, text, length, "is not base64");
    }
    if (f->hint->fixed_bytes > 0 && size != f->hint->fixed_bytes) {
        return json_fail(r, 0, "%lld bytes where the schema fixes %d", (long long)size,
                         f->hint->fixed_bytes);
    }
    return json_finish_bytes(b, (size_t)size);
}

int text_value_put(struct json_reader *r, const struct json_field *f, struct weir_column_builder *b,
                   const uint8_t *text, size_t length) {
    switch (b->type) {
    case WEIR_TYPE_STRING:
        return put_string(r, f, b, text, length);
    case WEIR_TYPE_BINARY:
        return put_binary(r, f, b, text, length);
    case WEIR_TYPE_INT8:
        return put_int(r, f, b, text, length, INT8_MIN, INT8_MAX, 1);
    case WEIR_TYPE_INT16:
        return put_int(r, f, b, text, length, INT16_MIN, INT16_MAX, 2);
    case WEIR_TYPE_INT32:
        return put_int(r, f, b, text, length, INT32_MIN, INT32_MAX, 4);
    case WEIR_TYPE_INT64:
        return put_int(r, f, b, text, length, INT64_MIN, INT64_MAX, 8);
    case WEIR_TYPE_DECIMAL:
        return put_decimal(r, f, b, text, length);
    case WEIR_TYPE_FLOAT:
    case WEIR_TYPE_DOUBLE:
        return put_real(r, f, b, text, length);
    case WEIR_TYPE_BOOL:
        return put_bool(r, f, b, text, length);
    case WEIR_TYPE_DATE:
        return put_date(r, f, b, text, length);
    case WEIR_TYPE_TIMESTAMP:
    case WEIR_TYPE_TIMESTAMP_NTZ:
    case WEIR_TYPE_TIMESTAMP_NS:
    case WEIR_TYPE_TIMESTAMP_NS_NTZ:
        return put_timestamp(r, f, b, text, length);
    default:
        return json_fail(r, 0, "%s is not written as plain text", weir_type_name(b->type));
    }
}
