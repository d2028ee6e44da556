/* Values of a batch as text: one JSON object a row, and the cells of a text table. */
#include <inttypes.h>
#include <math.h>

#include "lake/delta/actions.h"
#include "lake/delta/table.h"
#include "lake/delta/text.h"

static int put_value(const struct weir_column *column, const struct weir_field *field, int64_t row,
                     struct weir_buffer *out);

static int put_quoted(struct weir_buffer *out, int rc) {
    return rc == WEIR_OK ? weir_buffer_append(out, "\"", 1) : rc;
}

/* Text that is no UTF-8 is shown with each bad byte as U+FFFD: looking must not fail. */
static int put_string(struct weir_buffer *out, const char *bytes, size_t length) {
    size_t mark = out->size;
    int rc = weir_delta_json_string(out, bytes, length);
    if (rc != WEIR_E_DATA) {
        return rc;
    }
    out->size = mark;
    rc = weir_buffer_append(out, "\"", 1);
    for (size_t i = 0; i < length && rc == WEIR_OK;) {
        size_t n = 1;
        size_t inner = out->size;
        rc = WEIR_E_DATA;
        for (; n <= 4 && i + n <= length && rc == WEIR_E_DATA; n++) {
            out->size = inner;
            rc = weir_delta_json_string(out, bytes + i, n);
        }
        n--;
        if (rc == WEIR_OK) { /* drop the quotes of this one character */
            memmove(out->data + inner, out->data + inner + 1, out->size - inner - 2);
            out->size -= 2;
        } else if (rc == WEIR_E_DATA) {
            out->size = inner;
            n = 1;
            rc = weir_buffer_append_text(out, "\xEF\xBF\xBD");
        }
        i += n;
    }
    return put_quoted(out, rc);
}

static int put_number(struct weir_buffer *out, double value, bool is_float) {
    if (isfinite(value)) {
        return delta_text_double(out, value, is_float);
    }
    int rc = weir_buffer_append(out, "\"", 1);
    if (rc == WEIR_OK) {
        rc = delta_text_double(out, value, is_float);
    }
    return put_quoted(out, rc);
}

static int put_list(const struct weir_column *column, const struct weir_field *field, int64_t row,
                    struct weir_buffer *out) {
    bool is_map = field->type == WEIR_TYPE_MAP;
    int rc = weir_buffer_append_text(out, "[");
    for (int32_t i = column->offsets[row]; i < column->offsets[row + 1] && rc == WEIR_OK; i++) {
        rc = i > column->offsets[row] ? weir_buffer_append_text(out, ",") : WEIR_OK;
        if (rc == WEIR_OK && is_map) {
            rc = weir_buffer_append_text(out, "{\"key\":");
        }
        if (rc == WEIR_OK) {
            rc = put_value(&column->children[0], &field->children[0], i, out);
        }
        if (rc == WEIR_OK && is_map) {
            rc = weir_buffer_append_text(out, ",\"value\":");
            if (rc == WEIR_OK) {
                rc = put_value(&column->children[1], &field->children[1], i, out);
            }
            if (rc == WEIR_OK) {
                rc = weir_buffer_append_text(out, "}");
            }
        }
    }
    return rc == WEIR_OK ? weir_buffer_append_text(out, "]") : rc;
}

int weir_delta_fields_json(const struct weir_column *columns, const struct weir_field *fields,
                           int32_t count, int64_t row, struct weir_buffer *out) {
    int rc = weir_buffer_append_text(out, "{");
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        rc = i > 0 ? weir_buffer_append_text(out, ",") : WEIR_OK;
        if (rc == WEIR_OK) {
            rc = weir_delta_json_string(out, fields[i].name, strlen(fields[i].name));
        }
        if (rc == WEIR_OK) {
            rc = weir_buffer_append_text(out, ":");
        }
        if (rc == WEIR_OK) {
            rc = put_value(&columns[i], &fields[i], row, out);
        }
    }
    return rc == WEIR_OK ? weir_buffer_append_text(out, "}") : rc;
}

static int put_value(const struct weir_column *column, const struct weir_field *field, int64_t row,
                     struct weir_buffer *out) {
    if (weir_column_is_null(column, row)) {
        return weir_buffer_append_text(out, "null");
    }
    const void *values = column->values;
    int32_t length;
    int rc;
    switch (field->type) {
    case WEIR_TYPE_BOOL:
        return weir_buffer_append_text(out, weir_bit_get(values, row) ? "true" : "false");
    case WEIR_TYPE_INT8:
        return weir_buffer_printf(out, "%d", ((const int8_t *)values)[row]);
    case WEIR_TYPE_INT16:
        return weir_buffer_printf(out, "%d", ((const int16_t *)values)[row]);
    case WEIR_TYPE_INT32:
        return weir_buffer_printf(out, "%d", ((const int32_t *)values)[row]);
    case WEIR_TYPE_INT64:
        return weir_buffer_printf(out, "%" PRId64, ((const int64_t *)values)[row]);
    case WEIR_TYPE_FLOAT:
        return put_number(out, ((const float *)values)[row], true);
    case WEIR_TYPE_DOUBLE:
        return put_number(out, ((const double *)values)[row], false);
    case WEIR_TYPE_DECIMAL: {
        uint64_t words[2];
        memcpy(words, (const uint8_t *)values + (size_t)row * 16, sizeof(words));
        return delta_text_decimal(out, words[0], (int64_t)words[1], field->scale);
    }
    case WEIR_TYPE_STRING: {
        const char *bytes = weir_column_bytes(column, row, &length);
        return put_string(out, bytes, (size_t)length);
    }
    case WEIR_TYPE_BINARY: {
        const char *bytes = weir_column_bytes(column, row, &length);
        rc = weir_buffer_append(out, "\"", 1);
        if (rc == WEIR_OK) {
            rc = delta_text_base64(out, bytes, (size_t)length);
        }
        return put_quoted(out, rc);
    }
    case WEIR_TYPE_DATE:
        rc = weir_buffer_append(out, "\"", 1);
        if (rc == WEIR_OK) {
            rc = delta_text_date(out, ((const int32_t *)values)[row], NULL);
        }
        return put_quoted(out, rc);
    case WEIR_TYPE_TIMESTAMP:
    case WEIR_TYPE_TIMESTAMP_NTZ:
    case WEIR_TYPE_TIMESTAMP_NS:
    case WEIR_TYPE_TIMESTAMP_NS_NTZ:
        rc = weir_buffer_append(out, "\"", 1);
        if (rc == WEIR_OK) {
            bool micros =
                field->type == WEIR_TYPE_TIMESTAMP || field->type == WEIR_TYPE_TIMESTAMP_NTZ;
            bool utc = field->type == WEIR_TYPE_TIMESTAMP || field->type == WEIR_TYPE_TIMESTAMP_NS;
            rc = delta_text_timestamp(out, ((const int64_t *)values)[row], micros ? 6 : 9, utc,
                                      NULL);
        }
        return put_quoted(out, rc);
    case WEIR_TYPE_LIST:
    case WEIR_TYPE_MAP:
        return put_list(column, field, row, out);
    case WEIR_TYPE_STRUCT:
        return weir_delta_fields_json(column->children, field->children, field->child_count, row,
                                      out);
    default:
        return WEIR_E_UNSUPPORTED;
    }
}

int weir_delta_row_json(const struct weir_batch *batch, int32_t row, struct weir_buffer *out) {
    return weir_delta_fields_json(batch->columns, batch->schema->fields, batch->column_count, row,
                                  out);
}

int delta_cell_text(const struct weir_batch *batch, int32_t column, int32_t row,
                    struct weir_buffer *out) {
    size_t start = out->size;
    int rc = put_value(&batch->columns[column], &batch->schema->fields[column], row, out);
    /* a cell shows a text without the quotes around it */
    if (rc == WEIR_OK && out->size > start + 1 && out->data[start] == '"') {
        memmove(out->data + start, out->data + start + 1, out->size - start - 2);
        out->size -= 2;
    }
    return rc;
}
