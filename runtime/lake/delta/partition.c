#include "lake/delta/partition.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <xxhash.h>

#include "core/time.h"
#include "lake/delta/actions.h"
#include "lake/delta/text.h"

#define SEGMENT_BYTES_MAX 200 /* file systems allow 255 */

/* Days, or hour of the day, of a date or timestamp in UTC. */
static int64_t derive(const struct delta_partition_column *column, const struct weir_column *data,
                      int64_t row) {
    int64_t value = weir_column_int(data, row);
    if (data->type == WEIR_TYPE_DATE) {
        return value;
    }
    bool nanos = data->type == WEIR_TYPE_TIMESTAMP_NS || data->type == WEIR_TYPE_TIMESTAMP_NS_NTZ;
    int64_t hours = weir_floor_div(value, nanos ? 3600000000000ll : 3600000000ll);
    int64_t days = weir_floor_div(hours, 24);
    return column->transform == WEIR_DELTA_DATE ? days : hours - days * 24;
}

int delta_partition_key(const struct delta_partition_column *column, const struct weir_batch *batch,
                        int32_t row, struct weir_buffer *key) {
    const struct weir_column *data = &batch->columns[column->index];
    uint8_t head[17] = {1};
    if (weir_column_is_null(data, row)) {
        head[0] = 0;
        return weir_buffer_append(key, head, 1);
    }
    if (column->transform != WEIR_DELTA_IDENTITY) {
        int64_t value = derive(column, data, row);
        memcpy(head + 1, &value, sizeof(value));
        return weir_buffer_append(key, head, 9);
    }
    if (weir_type_is_bytes(data->type)) {
        int32_t length;
        const char *bytes = weir_column_bytes(data, row, &length);
        head[0] = length > 0; /* empty is null */
        if (length == 0) {
            return weir_buffer_append(key, head, 1);
        }
        memcpy(head + 1, &length, sizeof(length));
        int rc = weir_buffer_append(key, head, 5);
        return rc == WEIR_OK ? weir_buffer_append(key, bytes, (size_t)length) : rc;
    }
    if (data->type == WEIR_TYPE_BOOL) {
        head[1] = weir_bit_get(data->values, row);
        return weir_buffer_append(key, head, 2);
    }
    size_t width = (size_t)weir_type_width(data->type);
    memcpy(head + 1, (const uint8_t *)data->values + (size_t)row * width, width);
    return weir_buffer_append(key, head, 1 + width);
}

int delta_partition_text(const struct delta_partition_column *column,
                         const struct weir_batch *batch, int32_t row, struct weir_buffer *text,
                         bool *is_null, struct weir_error *err) {
    const struct weir_column *data = &batch->columns[column->index];
    int rc;
    *is_null = weir_column_is_null(data, row);
    if (*is_null) {
        return WEIR_OK;
    }
    if (column->transform != WEIR_DELTA_IDENTITY) {
        int64_t value = derive(column, data, row);
        return column->transform == WEIR_DELTA_DATE ? delta_text_date(text, value, NULL)
                                                    : weir_buffer_printf(text, "%" PRId64, value);
    }
    switch (data->type) {
    case WEIR_TYPE_BOOL:
        return weir_buffer_append_text(text, weir_bit_get(data->values, row) ? "true" : "false");
    case WEIR_TYPE_FLOAT:
        return delta_text_double(text, ((const float *)data->values)[row], true);
    case WEIR_TYPE_DOUBLE:
        return delta_text_double(text, ((const double *)data->values)[row], false);
    case WEIR_TYPE_DECIMAL: {
        uint64_t words[2];
        memcpy(words, (const uint8_t *)data->values + (size_t)row * 16, sizeof(words));
        return delta_text_decimal(text, words[0], (int64_t)words[1], data->scale);
    }
    case WEIR_TYPE_DATE:
        return delta_text_date(text, weir_column_int(data, row), NULL);
    case WEIR_TYPE_TIMESTAMP:
    case WEIR_TYPE_TIMESTAMP_NTZ:
        return delta_text_timestamp(text, weir_column_int(data, row), 6,
                                    data->type == WEIR_TYPE_TIMESTAMP, NULL);
    case WEIR_TYPE_STRING:
    case WEIR_TYPE_BINARY: {
        int32_t length;
        const char *bytes = weir_column_bytes(data, row, &length);
        struct weir_buffer probe;
        weir_buffer_init(&probe, (size_t)length * 6 + 16);
        rc = memchr(bytes, '\0', (size_t)length) != NULL
                 ? WEIR_E_DATA
                 : weir_delta_json_string(&probe, bytes, (size_t)length);
        weir_buffer_fini(&probe);
        if (rc == WEIR_E_DATA) {
            return weir_error_set(err, WEIR_E_DATA,
                                  "partition column %s has a value that is no UTF-8 text, which a "
                                  "Delta log cannot hold; reject such rows with an expect, or do "
                                  "not partition by it",
                                  column->name);
        }
        *is_null = length == 0;
        return rc == WEIR_OK ? weir_buffer_append(text, bytes, (size_t)length) : rc;
    }
    default:
        return weir_buffer_printf(text, "%" PRId64, weir_column_int(data, row));
    }
}

static int hive_escape(const char *text, struct weir_buffer *out) {
    int rc = WEIR_OK;
    for (const char *at = text; *at != '\0' && rc == WEIR_OK; at++) {
        unsigned char c = (unsigned char)*at;
        rc = c < 0x20 || c == 0x7F || strchr("\"#%'*/:=?\\{[]^", c) != NULL
                 ? weir_buffer_printf(out, "%%%02X", c)
                 : weir_buffer_append(out, at, 1);
    }
    return rc;
}

int delta_partition_folder(const char *name, const char *value, struct weir_buffer *out) {
    size_t start = out->size;
    int rc = hive_escape(name, out);
    if (rc == WEIR_OK) {
        rc = weir_buffer_append_text(out, "=");
    }
    if (rc == WEIR_OK) {
        rc = value != NULL ? hive_escape(value, out)
                           : weir_buffer_append_text(out, "__HIVE_DEFAULT_PARTITION__");
    }
    if (rc == WEIR_OK && out->size - start > SEGMENT_BYTES_MAX) {
        /* the name of a folder means nothing to readers, so a long one may be a hash */
        out->size = start;
        rc = weir_buffer_printf(
            out, "long=%016" PRIx64,
            (uint64_t)XXH64(value != NULL ? value : "", value != NULL ? strlen(value) : 0, 0));
    }
    return rc == WEIR_OK ? weir_buffer_append_text(out, "/") : rc;
}

int delta_uri_encode(const char *path, struct weir_buffer *out) {
    int rc = WEIR_OK;
    for (const char *at = path; *at != '\0' && rc == WEIR_OK; at++) {
        unsigned char c = (unsigned char)*at;
        rc = c <= 0x20 || c == 0x7F || strchr("\"#%<>?[\\]^`{|}", c) != NULL
                 ? weir_buffer_printf(out, "%%%02X", c)
                 : weir_buffer_append(out, at, 1);
    }
    return rc;
}

/* --- reading ------------------------------------------------------------------------------- */

static bool parse_int(const char *text, int64_t *out) {
    char *end;
    errno = 0;
    *out = strtoll(text, &end, 10);
    return end != text && *end == '\0' && errno == 0;
}

/* The value's bytes in column form; *size is 0 for a text that is no such value. */
static void parse_value(const struct weir_field *field, const char *text, uint8_t bytes[16],
                        size_t *size) {
    int64_t integer = 0;
    char *end;
    bool ok = false;
    *size = (size_t)weir_type_width(field->type);
    switch (field->type) {
    case WEIR_TYPE_BOOL:
        ok = strcmp(text, "true") == 0 || strcmp(text, "false") == 0;
        integer = text[0] == 't';
        *size = 1;
        break;
    case WEIR_TYPE_FLOAT: {
        float value = strtof(text, &end);
        ok = end != text && *end == '\0';
        memcpy(&integer, &value, sizeof(value));
        break;
    }
    case WEIR_TYPE_DOUBLE: {
        double value = strtod(text, &end);
        ok = end != text && *end == '\0';
        memcpy(&integer, &value, sizeof(value));
        break;
    }
    case WEIR_TYPE_DECIMAL: {
        __int128 value;
        ok = delta_parse_decimal(text, field->precision, field->scale, &value);
        memcpy(bytes, &value, ok ? sizeof(value) : 0);
        *size = ok ? 16 : 0;
        return;
    }
    case WEIR_TYPE_DATE: {
        int32_t days = 0;
        ok = delta_parse_date(text, &days);
        integer = days;
        break;
    }
    case WEIR_TYPE_TIMESTAMP:
    case WEIR_TYPE_TIMESTAMP_NTZ:
        ok = delta_parse_timestamp(text, &integer);
        break;
    default:
        ok = parse_int(text, &integer);
        break;
    }
    memcpy(bytes, &integer, sizeof(integer));
    if (!ok) {
        *size = 0;
    }
}

int delta_partition_column(const struct weir_field *field, const char *text, int32_t rows,
                           struct weir_batch *batch, struct weir_column *out,
                           struct weir_error *err) {
    uint8_t value[16] = {0};
    size_t size = 0;
    int rc = weir_column_init(out, field, batch);
    bool is_bytes = weir_type_is_bytes(field->type);
    if (text != NULL && text[0] == '\0') {
        text = NULL;
    }
    if (rc != WEIR_OK || weir_type_is_nested(field->type)) {
        return weir_error_set(err, rc != WEIR_OK ? rc : WEIR_E_CORRUPT,
                              "partition column %s of type %s", field->name,
                              weir_type_name((enum weir_type)field->type));
    }
    if (text != NULL && !is_bytes) {
        parse_value(field, text, value, &size);
        if (size == 0) {
            return weir_error_set(err, WEIR_E_CORRUPT,
                                  "partition value \"%.100s\" of column %s is no %s", text,
                                  field->name, weir_type_name((enum weir_type)field->type));
        }
    }
    size_t length = text != NULL ? strlen(text) : 0;
    size_t width = is_bytes                        ? 0
                   : field->type == WEIR_TYPE_BOOL ? 1
                                                   : (size_t)weir_type_width(field->type);
    out->length = rows;
    out->null_count = text == NULL ? rows : 0;
    if (text == NULL) {
        out->validity = weir_batch_alloc(batch, (size_t)(rows + 7) / 8 + 8);
    }
    if (is_bytes) {
        out->codes = weir_batch_alloc(batch, ((size_t)rows + 1) * sizeof(int32_t));
        out->dictionary = weir_batch_alloc(batch, sizeof(*out->dictionary));
        int32_t *offsets = weir_batch_alloc(batch, 2 * sizeof(int32_t));
        char *bytes = weir_batch_alloc(batch, length + 1);
        if (out->codes == NULL || out->dictionary == NULL || offsets == NULL || bytes == NULL) {
            return weir_error_set(err, WEIR_E_LIMIT, "read table: out of memory");
        }
        memset(out->codes, 0, ((size_t)rows + 1) * sizeof(int32_t));
        memset(out->dictionary, 0, sizeof(*out->dictionary));
        out->dictionary->type = field->type;
        out->dictionary->length = 1;
        out->dictionary->offsets = offsets;
        out->dictionary->values = bytes;
        out->values = NULL;
        out->offsets = NULL;
        offsets[0] = 0;
        offsets[1] = (int32_t)length;
        if (length > 0) {
            memcpy(bytes, text, length);
        }
    } else {
        out->values = weir_batch_alloc(batch, ((size_t)rows + 8) * width);
        if (out->values == NULL) {
            return weir_error_set(err, WEIR_E_LIMIT, "read table: out of memory");
        }
        if (field->type == WEIR_TYPE_BOOL) {
            memset(out->values, value[0] ? 0xFF : 0, ((size_t)rows + 7) / 8);
        } else {
            for (int32_t i = 0; i < rows; i++) {
                memcpy((uint8_t *)out->values + (size_t)i * width, value, width);
            }
        }
    }
    if (text == NULL) {
        if (out->validity == NULL) {
            return weir_error_set(err, WEIR_E_LIMIT, "read table: out of memory");
        }
        memset(out->validity, 0, (size_t)(rows + 7) / 8);
    }
    return WEIR_OK;
}
