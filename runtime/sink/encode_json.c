/* Rows as JSON objects, columns in order, nulls said as null (docs/formats/json.md). Each column's
 * key is text made once; values are written at the end of the buffer with room asked for once a
 * value, so that a row of plain numbers and short texts is one walk over its columns. Text is
 * copied sixteen bytes at a time and looked at on the way: what must be escaped is rare. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "core/decimal.h"
#include "core/time.h"
#include "sink/encode.h"
#include "sink/encode_number.h"

enum {
    SCALAR_BYTES = 64, /* room for any value of a fixed width, its quotes included */
    SLACK_BYTES = 32,  /* written past the end by wide copies */
    DEPTH_MAX = 64,
};

const char weir_encode_pairs[201] = "00010203040506070809"
                                    "10111213141516171819"
                                    "20212223242526272829"
                                    "30313233343536373839"
                                    "40414243444546474849"
                                    "50515253545556575859"
                                    "60616263646566676869"
                                    "70717273747576777879"
                                    "80818283848586878889"
                                    "90919293949596979899";

struct json_column {
    int32_t index;
    uint32_t key_bytes;
    char *key; /* `{"name":` or `,"name":` */
    const struct weir_field *field;
    const struct weir_column *values; /* of the batch at hand */
};

struct json {
    struct weir_schema *schema;
    struct json_column *columns;
    int32_t count;
};

/* --- text ------------------------------------------------------------------------------------- */

/* What stands for a byte after a backslash; 0: as \u00xx; 1: needs nothing. */
static uint8_t escape_of(uint8_t byte) {
    switch (byte) {
    case '"':
        return '"';
    case '\\':
        return '\\';
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    default:
        return byte < 0x20 ? 0 : 1;
    }
}

static char *put_escape(char *at, uint8_t byte) {
    static const char hex[] = "0123456789abcdef";
    uint8_t letter = escape_of(byte);
    *at++ = '\\';
    if (letter != 0) {
        *at++ = (char)letter;
        return at;
    }
    memcpy(at, "u00", 3);
    at[3] = hex[byte >> 4];
    at[4] = hex[byte & 15];
    return at + 5;
}

/* Escaped, without quotes. `at` has room for six bytes a byte and slack. Text of a batch lies in a
 * pool's buffer and may be read up to 64 bytes past its end. */
#ifdef __SSE2__
__attribute__((no_sanitize("address"))) static char *put_text(char *at, const char *text,
                                                              int64_t length) {
    const __m128i quote = _mm_set1_epi8('"');
    const __m128i backslash = _mm_set1_epi8('\\');
    const __m128i control = _mm_set1_epi8(0x1f);
    while (length > 0) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)text);
        _mm_storeu_si128((__m128i *)(void *)at, bytes);
        __m128i odd = _mm_or_si128(_mm_cmpeq_epi8(bytes, quote), _mm_cmpeq_epi8(bytes, backslash));
        odd = _mm_or_si128(odd, _mm_cmpeq_epi8(_mm_min_epu8(bytes, control), bytes));
        uint32_t mask = (uint32_t)_mm_movemask_epi8(odd);
        int64_t step = mask != 0 ? __builtin_ctz(mask) : 16;
        if (step >= length) {
            return at + length;
        }
        at += step;
        text += step;
        length -= step;
        if (step < 16) {
            at = put_escape(at, (uint8_t)*text);
            text++;
            length--;
        }
    }
    return at;
}
#else
static char *put_text(char *at, const char *text, int64_t length) {
    for (int64_t i = 0; i < length; i++) {
        if (escape_of((uint8_t)text[i]) == 1) {
            *at++ = text[i];
        } else {
            at = put_escape(at, (uint8_t)text[i]);
        }
    }
    return at;
}
#endif

static char *put_base64(char *at, const uint8_t *bytes, int64_t size) {
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int64_t i = 0; i < size; i += 3) {
        uint32_t word = (uint32_t)bytes[i] << 16;
        word |= i + 1 < size ? (uint32_t)bytes[i + 1] << 8 : 0;
        word |= i + 2 < size ? bytes[i + 2] : 0;
        at[0] = letters[word >> 18];
        at[1] = letters[(word >> 12) & 63];
        at[2] = i + 1 < size ? letters[(word >> 6) & 63] : '=';
        at[3] = i + 2 < size ? letters[word & 63] : '=';
        at += 4;
    }
    return at;
}

/* --- scalars ---------------------------------------------------------------------------------- */

static char *put_decimal(char *at, __int128 value, int32_t scale) {
    unsigned __int128 left = value < 0 ? -(unsigned __int128)value : (unsigned __int128)value;
    char digits[ENCODE_DECIMAL_BYTES];
    int32_t from = ENCODE_DECIMAL_BYTES;
    int32_t done = 0;
    if (value < 0) {
        *at++ = '-';
    }
    for (; left > UINT64_MAX; done++) { /* divisions of 128 bits are slow */
        if (done == scale && scale > 0) {
            digits[--from] = '.';
        }
        digits[--from] = (char)('0' + (int)(left % 10));
        left /= 10;
    }
    for (uint64_t low = (uint64_t)left; low != 0 || done <= scale; done++) {
        if (done == scale && scale > 0) {
            digits[--from] = '.';
        }
        digits[--from] = (char)('0' + low % 10);
        low /= 10;
    }
    memcpy(at, digits + from, (size_t)(ENCODE_DECIMAL_BYTES - from));
    return at + (ENCODE_DECIMAL_BYTES - from);
}

enum { DATE_BYTES = 10 };

static char *put_date(char *at, int64_t days) {
    /* Times that follow each other are mostly of one day. */
    static _Thread_local int64_t last_days = INT64_MIN;
    static _Thread_local char last[DATE_BYTES];
    if (days == last_days) {
        memcpy(at, last, DATE_BYTES);
        return at + DATE_BYTES;
    }
    char *start = at;
    struct weir_civil civil = weir_civil_from_days(days);
    if (civil.year >= 0 && civil.year <= 9999) {
        at = weir_encode_pair(at, (uint32_t)civil.year / 100);
        at = weir_encode_pair(at, (uint32_t)civil.year % 100);
    } else { /* ISO 8601's longer years carry a sign */
        *at++ = civil.year < 0 ? '-' : '+';
        uint64_t year = (uint64_t)(civil.year < 0 ? -civil.year : civil.year);
        for (uint64_t tens = 1000; tens > year; tens /= 10) {
            *at++ = '0';
        }
        at = weir_encode_uint(at, year);
    }
    *at++ = '-';
    at = weir_encode_pair(at, (uint32_t)civil.month);
    *at++ = '-';
    at = weir_encode_pair(at, (uint32_t)civil.day);
    if (at - start == DATE_BYTES) {
        memcpy(last, start, DATE_BYTES);
        last_days = days;
    }
    return at;
}

/* Seconds with no, three, six or nine digits behind the point: as few as hold the time. */
static char *put_fraction(char *at, uint32_t fraction, int digits) {
    if (fraction == 0) {
        return at;
    }
    while (fraction % 1000 == 0) {
        fraction /= 1000;
        digits -= 3;
    }
    *at++ = '.';
    for (uint32_t tens = digits == 3   ? 100
                         : digits == 6 ? 100000
                                       : 100000000;
         tens > 0; tens /= 10) {
        *at++ = (char)('0' + fraction / tens % 10);
    }
    return at;
}

static char *put_time(char *at, int64_t ticks, uint8_t type) {
    bool nanos = type == WEIR_TYPE_TIMESTAMP_NS || type == WEIR_TYPE_TIMESTAMP_NS_NTZ;
    int64_t per_second = nanos ? 1000000000 : 1000000;
    int64_t seconds = weir_floor_div(ticks, per_second);
    uint32_t fraction = (uint32_t)(ticks - seconds * per_second);
    int64_t days = weir_floor_div(seconds, 86400);
    uint32_t of_day = (uint32_t)(seconds - days * 86400);
    at = put_date(at, days);
    *at++ = 'T';
    at = weir_encode_pair(at, of_day / 3600);
    *at++ = ':';
    at = weir_encode_pair(at, of_day / 60 % 60);
    *at++ = ':';
    at = weir_encode_pair(at, of_day % 60);
    at = put_fraction(at, fraction, nanos ? 9 : 6);
    if (type == WEIR_TYPE_TIMESTAMP || type == WEIR_TYPE_TIMESTAMP_NS) {
        *at++ = 'Z';
    }
    return at;
}

/* JSON has no text for these; a string is what other writers give. */
static char *put_no_number(char *at, double value) {
    const char *text = isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";
    size_t length = strlen(text);
    memcpy(at, text, length);
    return at + length;
}

static bool is_quoted(const struct weir_column *column, int32_t row) {
    switch (column->type) {
    case WEIR_TYPE_FLOAT:
        return !isfinite(((const float *)column->values)[row]);
    case WEIR_TYPE_DOUBLE:
        return !isfinite(((const double *)column->values)[row]);
    default:
        return column->type == WEIR_TYPE_DATE || weir_type_is_timestamp(column->type);
    }
}

/* A value of a fixed width, without quotes; room: SCALAR_BYTES. */
static char *put_scalar(char *at, const struct weir_column *column, int32_t row) {
    switch (column->type) {
    case WEIR_TYPE_BOOL: {
        bool is = weir_bit_get(column->values, row);
        memcpy(at, is ? "true " : "false", 5);
        return at + (is ? 4 : 5);
    }
    case WEIR_TYPE_INT8:
        return weir_encode_int(at, ((const int8_t *)column->values)[row]);
    case WEIR_TYPE_INT16:
        return weir_encode_int(at, ((const int16_t *)column->values)[row]);
    case WEIR_TYPE_INT32:
        return weir_encode_int(at, ((const int32_t *)column->values)[row]);
    case WEIR_TYPE_INT64:
        return weir_encode_int(at, ((const int64_t *)column->values)[row]);
    case WEIR_TYPE_FLOAT: {
        float value = ((const float *)column->values)[row];
        return isfinite(value) ? weir_encode_float(at, value) : put_no_number(at, value);
    }
    case WEIR_TYPE_DOUBLE: {
        double value = ((const double *)column->values)[row];
        return isfinite(value) ? weir_encode_double(at, value) : put_no_number(at, value);
    }
    case WEIR_TYPE_DECIMAL: {
        __int128 value;
        memcpy(&value, (const uint8_t *)column->values + 16 * (size_t)row, sizeof(value));
        return put_decimal(at, value, column->scale);
    }
    case WEIR_TYPE_DATE:
        return put_date(at, ((const int32_t *)column->values)[row]);
    default:
        return put_time(at, ((const int64_t *)column->values)[row], column->type);
    }
}

/* --- values ----------------------------------------------------------------------------------- */

static inline int room(struct weir_buffer *out, size_t bytes) {
    return out->capacity - out->size >= bytes ? WEIR_OK : weir_buffer_reserve(out, bytes);
}

static inline char *end_of(struct weir_buffer *out) {
    return (char *)out->data + out->size;
}

static inline void ends_at(struct weir_buffer *out, const char *at) {
    out->size = (size_t)(at - (const char *)out->data);
}

static int put_bytes(const struct weir_column *column, int32_t row, struct weir_buffer *out) {
    int32_t length;
    const char *bytes = weir_column_bytes(column, row, &length);
    uint8_t type = column->type;
    int rc = room(out, 6 * (size_t)length + 2 + SLACK_BYTES);
    if (rc != WEIR_OK) {
        return rc;
    }
    char *at = end_of(out);
    *at++ = '"';
    at = type == WEIR_TYPE_STRING ? put_text(at, bytes, length)
                                  : put_base64(at, (const uint8_t *)bytes, length);
    *at++ = '"';
    ends_at(out, at);
    return WEIR_OK;
}

static int put_value(const struct weir_column *column, const struct weir_field *field, int32_t row,
                     int depth, struct weir_buffer *out);

static int put_list(const struct weir_column *column, const struct weir_field *field, int32_t row,
                    int depth, struct weir_buffer *out) {
    int rc = weir_buffer_append(out, "[", 1);
    for (int32_t i = column->offsets[row]; rc == WEIR_OK && i < column->offsets[row + 1]; i++) {
        if (i > column->offsets[row]) {
            rc = weir_buffer_append(out, ",", 1);
        }
        if (rc == WEIR_OK) {
            rc = put_value(&column->children[0], &field->children[0], i, depth + 1, out);
        }
    }
    return rc == WEIR_OK ? weir_buffer_append(out, "]", 1) : rc;
}

static int put_struct(const struct weir_column *column, const struct weir_field *field, int32_t row,
                      int depth, struct weir_buffer *out) {
    int rc = weir_buffer_append(out, "{", 1);
    for (int32_t i = 0; rc == WEIR_OK && i < column->child_count; i++) {
        const char *name = field->children[i].name;
        if (i > 0) {
            rc = weir_buffer_append(out, ",", 1);
        }
        rc = rc == WEIR_OK ? weir_encode_json_text(name, strlen(name), out) : rc;
        rc = rc == WEIR_OK ? weir_buffer_append(out, ":", 1) : rc;
        if (rc == WEIR_OK) {
            rc = put_value(&column->children[i], &field->children[i], row, depth + 1, out);
        }
    }
    return rc == WEIR_OK ? weir_buffer_append(out, "}", 1) : rc;
}

/* A key that is no text is its JSON in quotes. */
static int put_map_key(const struct weir_column *keys, int32_t row, struct weir_buffer *out) {
    if (weir_type_is_bytes(keys->type)) {
        return put_bytes(keys, row, out);
    }
    if (weir_type_is_nested(keys->type)) {
        return WEIR_E_UNSUPPORTED;
    }
    int rc = room(out, SCALAR_BYTES + 2);
    if (rc == WEIR_OK) {
        char *at = end_of(out);
        *at++ = '"';
        at = put_scalar(at, keys, row);
        *at++ = '"';
        ends_at(out, at);
    }
    return rc;
}

static int put_map(const struct weir_column *column, const struct weir_field *field, int32_t row,
                   int depth, struct weir_buffer *out) {
    int rc = weir_buffer_append(out, "{", 1);
    for (int32_t i = column->offsets[row]; rc == WEIR_OK && i < column->offsets[row + 1]; i++) {
        if (i > column->offsets[row]) {
            rc = weir_buffer_append(out, ",", 1);
        }
        rc = rc == WEIR_OK ? put_map_key(&column->children[0], i, out) : rc;
        rc = rc == WEIR_OK ? weir_buffer_append(out, ":", 1) : rc;
        if (rc == WEIR_OK) {
            rc = put_value(&column->children[1], &field->children[1], i, depth + 1, out);
        }
    }
    return rc == WEIR_OK ? weir_buffer_append(out, "}", 1) : rc;
}

static int put_nested(const struct weir_column *column, const struct weir_field *field, int32_t row,
                      int depth, struct weir_buffer *out) {
    if (depth > DEPTH_MAX) {
        return WEIR_E_LIMIT;
    }
    switch (column->type) {
    case WEIR_TYPE_LIST:
        return put_list(column, field, row, depth, out);
    case WEIR_TYPE_STRUCT:
        return put_struct(column, field, row, depth, out);
    default:
        return put_map(column, field, row, depth, out);
    }
}

static inline int put_value(const struct weir_column *column, const struct weir_field *field,
                            int32_t row, int depth, struct weir_buffer *out) {
    if (weir_column_is_null(column, row)) {
        return weir_buffer_append(out, "null", 4);
    }
    if (weir_type_is_bytes(column->type)) {
        return put_bytes(column, row, out);
    }
    if (weir_type_is_nested(column->type)) {
        return put_nested(column, field, row, depth, out);
    }
    int rc = room(out, SCALAR_BYTES + 2);
    if (rc != WEIR_OK) {
        return rc;
    }
    char *at = end_of(out);
    if (is_quoted(column, row)) {
        *at++ = '"';
        at = put_scalar(at, column, row);
        *at++ = '"';
    } else {
        at = put_scalar(at, column, row);
    }
    ends_at(out, at);
    return WEIR_OK;
}

int weir_encode_json_value(const struct weir_column *column, const struct weir_field *field,
                           int32_t row, struct weir_buffer *out) {
    return put_value(column, field, row, 0, out);
}

int weir_encode_plain(const struct weir_column *column, int32_t row, struct weir_buffer *out) {
    if (weir_column_is_null(column, row)) {
        return WEIR_OK;
    }
    if (weir_type_is_bytes(column->type)) {
        int32_t length;
        const char *bytes = weir_column_bytes(column, row, &length);
        return weir_buffer_append(out, bytes, (size_t)length);
    }
    if (weir_type_is_nested(column->type)) {
        return WEIR_E_DATA;
    }
    int rc = room(out, SCALAR_BYTES);
    if (rc == WEIR_OK) {
        ends_at(out, put_scalar(end_of(out), column, row));
    }
    return rc;
}

/* Byte by byte: names are short and do not lie in a pool's buffer. */
int weir_encode_json_text(const char *text, size_t length, struct weir_buffer *out) {
    int rc = room(out, 6 * length + 2);
    if (rc != WEIR_OK) {
        return rc;
    }
    char *at = end_of(out);
    *at++ = '"';
    for (size_t i = 0; i < length; i++) {
        if (escape_of((uint8_t)text[i]) == 1) {
            *at++ = text[i];
        } else {
            at = put_escape(at, (uint8_t)text[i]);
        }
    }
    *at++ = '"';
    ends_at(out, at);
    return WEIR_OK;
}

/* --- rows ------------------------------------------------------------------------------------- */

static void destroy(void *self) {
    struct json *json = self;
    if (json == NULL) {
        return;
    }
    for (int32_t i = 0; i < json->count; i++) {
        free(json->columns[i].key);
    }
    free(json->columns);
    weir_schema_unref(json->schema);
    free(json);
}

/* With room for wide copies after it. */
static int make_key(struct json_column *column, const char *name, bool first) {
    struct weir_buffer text;
    weir_buffer_init(&text, 1 << 20);
    int rc = weir_buffer_append(&text, first ? "{" : ",", 1);
    rc = rc == WEIR_OK ? weir_encode_json_text(name, strlen(name), &text) : rc;
    rc = rc == WEIR_OK ? weir_buffer_append(&text, ":", 1) : rc;
    column->key_bytes = (uint32_t)text.size;
    column->key = rc == WEIR_OK ? calloc(1, text.size + SLACK_BYTES) : NULL;
    if (column->key != NULL) {
        memcpy(column->key, text.data, text.size);
    } else if (rc == WEIR_OK) {
        rc = WEIR_E_NOMEM;
    }
    weir_buffer_fini(&text);
    return rc;
}

static int create(const struct weir_encoder_config *config, void **self, struct weir_error *err) {
    struct json *json = calloc(1, sizeof(*json));
    int rc = json == NULL ? WEIR_E_NOMEM : WEIR_OK;
    if (rc == WEIR_OK) {
        json->schema = weir_schema_ref(config->schema);
        json->columns = calloc((size_t)config->schema->count + 1, sizeof(*json->columns));
        rc = json->columns == NULL ? WEIR_E_NOMEM : WEIR_OK;
    }
    for (int32_t i = 0; rc == WEIR_OK && i < config->schema->count; i++) {
        if (config->included[i]) {
            struct json_column *column = &json->columns[json->count++];
            column->index = i;
            column->field = &json->schema->fields[i];
            rc = make_key(column, column->field->name, json->count == 1);
        }
    }
    if (rc != WEIR_OK) {
        destroy(json);
        return weir_error_set(err, rc, "%s: out of memory", config->name);
    }
    *self = json;
    return WEIR_OK;
}

static int begin(void *self, const struct weir_batch *batch, struct weir_error *err) {
    struct json *json = self;
    (void)err;
    for (int32_t i = 0; i < json->count; i++) {
        json->columns[i].values = &batch->columns[json->columns[i].index];
    }
    return WEIR_OK;
}

static inline char *put_key(char *at, const struct json_column *column) {
    uint32_t done = 0;
    do { /* most names are short: one copy of a fixed size */
        memcpy(at + done, column->key + done, 16);
        done += 16;
    } while (done < column->key_bytes);
    return at + column->key_bytes;
}

static int encode_row(void *self, int32_t row, struct weir_buffer *out, struct weir_error *err) {
    const struct json *json = self;
    (void)err;
    for (int32_t i = 0; i < json->count; i++) {
        const struct json_column *column = &json->columns[i];
        int rc = room(out, column->key_bytes + SLACK_BYTES);
        if (rc != WEIR_OK) {
            return rc;
        }
        ends_at(out, put_key(end_of(out), column));
        rc = put_value(column->values, column->field, row, 0, out);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return weir_buffer_append(out, json->count == 0 ? "{}" : "}", json->count == 0 ? 2 : 1);
}

const struct weir_encoder_ops weir_encoder_json = {
    .kind = "json",
    .create = create,
    .begin = begin,
    .row = encode_row,
    .destroy = destroy,
};
