#include "operator/key_nested.h"

#include <string.h>

enum { SHIFT_MAX = 64 };

/* What lies in a list or map: its elements' columns are the children, one row an element. */
struct span {
    int64_t first;
    int64_t count;
};

static struct span span_of(const struct weir_field *field, const struct weir_column *column,
                           int64_t row) {
    if (field->type == WEIR_TYPE_STRUCT) {
        return (struct span){row, 1};
    }
    return (struct span){column->offsets[row], column->offsets[row + 1] - column->offsets[row]};
}

static size_t content_bytes(const struct weir_field *field, const struct weir_column *column,
                            int64_t row) {
    struct span span = span_of(field, column, row);
    size_t bytes = field->type == WEIR_TYPE_STRUCT ? 0 : weir_varint_bytes((uint64_t)span.count);
    for (int32_t c = 0; c < field->child_count; c++) {
        for (int64_t i = 0; i < span.count; i++) {
            bytes += key_nested_bytes(&field->children[c], &column->children[c], span.first + i);
        }
    }
    return bytes;
}

size_t key_nested_bytes(const struct weir_field *field, const struct weir_column *column,
                        int64_t row) {
    if (weir_column_is_null(column, row)) {
        return 1;
    }
    if (weir_type_is_nested(field->type)) {
        size_t bytes = content_bytes(field, column, row);
        return 1 + weir_varint_bytes(bytes) + bytes;
    }
    if (weir_type_is_bytes(field->type)) {
        int32_t length;
        weir_column_bytes(column, row, &length);
        return 1 + weir_varint_bytes((uint64_t)length) + (size_t)length;
    }
    return 1 + (field->type == WEIR_TYPE_BOOL ? 1 : (size_t)weir_type_width(field->type));
}

/* Behind its length, which is known when it is there: most take one byte, others move it on. */
static uint8_t *put_content(const struct weir_field *field, const struct weir_column *column,
                            int64_t row, uint8_t *at) {
    struct span span = span_of(field, column, row);
    uint8_t *content = at + 1;
    uint8_t *end = content;
    if (field->type != WEIR_TYPE_STRUCT) {
        end = weir_varint_put(end, (uint64_t)span.count);
    }
    for (int64_t i = 0; i < span.count; i++) {
        for (int32_t c = 0; c < field->child_count; c++) {
            end = key_nested_put(&field->children[c], &column->children[c], span.first + i, end);
        }
    }
    size_t bytes = (size_t)(end - content);
    size_t length_bytes = weir_varint_bytes(bytes);
    if (length_bytes > 1) {
        memmove(at + length_bytes, content, bytes);
    }
    weir_varint_put(at, bytes);
    return at + length_bytes + bytes;
}

uint8_t *key_nested_put(const struct weir_field *field, const struct weir_column *column,
                        int64_t row, uint8_t *at) {
    if (weir_column_is_null(column, row)) {
        *at = 0;
        return at + 1;
    }
    *at++ = 1;
    if (weir_type_is_nested(field->type)) {
        return put_content(field, column, row, at);
    }
    if (weir_type_is_bytes(field->type)) {
        int32_t length;
        const char *bytes = weir_column_bytes(column, row, &length);
        at = weir_varint_put(at, (uint64_t)length);
        memcpy(at, bytes, (size_t)length);
        return at + length;
    }
    if (field->type == WEIR_TYPE_BOOL) {
        *at = key_bool_at(column, row);
        return at + 1;
    }
    size_t width = (size_t)weir_type_width(field->type);
    memcpy(at, key_value_at(column, row, width), width);
    return at + width;
}

/* --- decode -------------------------------------------------------------------------------- */

/* A value that is not null, at the reader. */
static int decode_plain(uint8_t type, struct weir_image_reader *reader,
                        struct weir_column_builder *out) {
    if (weir_type_is_bytes(type)) {
        const uint8_t *bytes;
        size_t length;
        return weir_image_bytes(reader, &bytes, &length) ? weir_builder_bytes(out, bytes, length)
                                                         : WEIR_E_CORRUPT;
    }
    size_t width = type == WEIR_TYPE_BOOL ? 1 : (size_t)weir_type_width(type);
    uint64_t words[2] = {0, 0};
    if (width > sizeof(words) || !weir_image_fixed(reader, words, width)) {
        return WEIR_E_CORRUPT;
    }
    switch (type) {
    case WEIR_TYPE_BOOL:
        return words[0] <= 1 ? weir_builder_bool(out, words[0] == 1) : WEIR_E_CORRUPT;
    case WEIR_TYPE_FLOAT: {
        float value;
        memcpy(&value, words, sizeof(value));
        return weir_builder_float(out, value);
    }
    case WEIR_TYPE_DOUBLE: {
        double value;
        memcpy(&value, words, sizeof(value));
        return weir_builder_double(out, value);
    }
    case WEIR_TYPE_DECIMAL:
        return weir_builder_decimal(out, words[0], (int64_t)words[1]);
    default: { /* sign-extended from the value's width */
        int shift = SHIFT_MAX - 8 * (int)width;
        return weir_builder_int(out, (int64_t)(words[0] << shift) >> shift);
    }
    }
}

static int decode_elements(const struct weir_field *field, struct weir_image_reader *content,
                           struct weir_column_builder *out) {
    uint64_t count = 1;
    if (field->type != WEIR_TYPE_STRUCT &&
        (!weir_image_varint(content, &count) ||
         count > (uint64_t)(content->end - content->at))) { /* an element is a byte or more */
        return WEIR_E_CORRUPT;
    }
    for (uint64_t i = 0; i < count; i++) {
        for (int32_t c = 0; c < field->child_count; c++) {
            int rc = key_nested_decode(&field->children[c], content, &out->children[c]);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
    }
    if (content->at != content->end) {
        return WEIR_E_CORRUPT;
    }
    return field->type == WEIR_TYPE_STRUCT ? weir_builder_struct(out) : weir_builder_list(out);
}

int key_nested_decode(const struct weir_field *field, struct weir_image_reader *reader,
                      struct weir_column_builder *out) {
    uint8_t there;
    if (!weir_image_u8(reader, &there) || there > 1) {
        return WEIR_E_CORRUPT;
    }
    if (there == 0) {
        return weir_builder_null(out);
    }
    if (!weir_type_is_nested(field->type)) {
        return decode_plain(field->type, reader, out);
    }
    const uint8_t *bytes;
    size_t length;
    if (!weir_image_bytes(reader, &bytes, &length)) {
        return WEIR_E_CORRUPT;
    }
    struct weir_image_reader content = {bytes, bytes + length};
    return decode_elements(field, &content, out);
}
