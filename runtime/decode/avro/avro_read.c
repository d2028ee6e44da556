/* Walking a field plan: bytes into columns. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/decimal.h"
#include "decode/avro/avro_plan.h"
#include "decode/json/json_number.h"
#include "decode/json/json_put.h"
#include "decode/json/json_text.h"

typedef __int128 int128;

static int put(const struct avro_node *node, struct json_reader *r, struct avro_in *in,
               struct weir_column_builder *b, const struct json_scope *scope);

static uint32_t here(const struct avro_in *in) {
    return (uint32_t)(in->p - in->begin);
}

static __attribute__((cold, noinline)) int cut(struct json_reader *r, const struct avro_in *in) {
    return json_fail(r, here(in), "the message ends too early, or is not what its schema says");
}

/* --- numbers -----------------------------------------------------------------------------------
 */

static inline int put_int(const struct avro_node *node, struct json_reader *r, struct avro_in *in,
                          struct weir_column_builder *b) {
    int64_t value;
    if (UNLIKELY(!avro_varint(in, &value))) {
        return cut(r, in);
    }
    if (UNLIKELY(node->divide != 1)) {
        if (value % node->divide != 0) {
            return json_fail(r, here(in), "the timestamp %s",
                             json_time_error_text(JSON_TIME_TOO_PRECISE));
        }
        value /= node->divide;
    }
    int64_t scaled;
    if (UNLIKELY(__builtin_mul_overflow(value, node->multiply, &scaled) || scaled < node->low ||
                 scaled > node->high)) {
        return json_fail(r, here(in), "%lld is outside the range of the column", (long long)value);
    }
    return json_put_int(b, scaled, node->width);
}

static int put_double(struct weir_column_builder *b, double value) {
    return b->type == WEIR_TYPE_DOUBLE ? weir_builder_double(b, value)
                                       : weir_builder_float(b, (float)value);
}

static int put_real(const struct avro_node *node, struct json_reader *r, struct avro_in *in,
                    struct weir_column_builder *b) {
    if (node->put == AVRO_PUT_REAL_OF_INT) {
        int64_t value;
        return avro_varint(in, &value) ? put_double(b, (double)value) : cut(r, in);
    }
    bool narrow = node->put == AVRO_PUT_REAL_OF_FLOAT;
    if (in->end - in->p < (narrow ? 4 : 8)) {
        return cut(r, in);
    }
    if (narrow) {
        float value;
        memcpy(&value, in->p, sizeof(value));
        in->p += sizeof(value);
        return b->type == WEIR_TYPE_FLOAT ? weir_builder_float(b, value)
                                          : weir_builder_double(b, (double)value);
    }
    double value;
    memcpy(&value, in->p, sizeof(value));
    in->p += sizeof(value);
    return weir_builder_double(b, value);
}

/* Big-endian two's complement, as long as the writer liked. */
static bool read_unscaled(const uint8_t *bytes, size_t length, int128 *out) {
    uint8_t sign = length > 0 && bytes[0] >= 0x80 ? 0xff : 0;
    while (length > 16) {
        if (*bytes != sign) {
            return false;
        }
        bytes++;
        length--;
    }
    unsigned __int128 value = sign != 0 ? ~(unsigned __int128)0 : 0;
    if (length == 16 && (bytes[0] & 0x80) != (sign & 0x80)) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        value = value << 8 | bytes[i];
    }
    *out = (int128)value;
    return true;
}

static int put_decimal(const struct avro_node *node, struct json_reader *r, struct avro_in *in,
                       struct weir_column_builder *b) {
    const uint8_t *bytes = in->p;
    size_t length = (size_t)(node->width >= 0 ? node->width : 0);
    if (node->width >= 0 ? (int64_t)length > in->end - in->p : !avro_bytes(in, &bytes, &length)) {
        return cut(r, in);
    }
    in->p = node->width >= 0 ? in->p + length : in->p;
    int128 limit = weir_decimal_power10(
        b->field->precision - node->exponent > 0 ? b->field->precision - node->exponent : 0);
    int128 value;
    if (!read_unscaled(bytes, length, &value) || value >= limit || value <= -limit) {
        return json_fail(r, here(in), "the decimal has more digits than the column's %d",
                         b->field->precision);
    }
    value *= weir_decimal_power10(node->exponent);
    return weir_builder_decimal(b, (uint64_t)value, (int64_t)(value >> 64));
}

/* --- texts -------------------------------------------------------------------------------------
 */

static inline int put_bytes(const struct avro_node *node, struct json_reader *r, struct avro_in *in,
                            struct weir_column_builder *b) {
    const uint8_t *bytes;
    size_t length;
    if (UNLIKELY(!avro_bytes(in, &bytes, &length))) {
        return cut(r, in);
    }
    if (node->put == AVRO_PUT_TEXT && UNLIKELY(json_find_bad_utf8(bytes, length) >= 0)) {
        return json_fail(r, here(in), "not valid UTF-8");
    }
    if (UNLIKELY(node->width > 0 && length != (size_t)node->width)) {
        return json_fail(r, here(in), "%zu bytes where the schema fixes %d", length, node->width);
    }
    return weir_builder_bytes(b, bytes, length);
}

static int put_fixed(const struct avro_node *node, struct json_reader *r, struct avro_in *in,
                     struct weir_column_builder *b) {
    if (in->end - in->p < node->width) {
        return cut(r, in);
    }
    const uint8_t *bytes = in->p;
    in->p += node->width;
    return weir_builder_bytes(b, bytes, (size_t)node->width);
}

static int put_enum(const struct avro_node *node, struct json_reader *r, struct avro_in *in,
                    struct weir_column_builder *b) {
    int64_t index;
    if (!avro_varint(in, &index) || index < 0 || index >= node->wire->symbol_count) {
        return cut(r, in);
    }
    int32_t symbol = node->symbols[index];
    if (symbol == -1) {
        return json_fail(r, here(in), "\"%s\" is not a symbol of the schema here",
                         node->wire->symbols[index]);
    }
    const char *text = symbol >= 0 ? node->wire->symbols[symbol] : node->reason;
    return weir_builder_bytes(b, text, strlen(text));
}

/* --- nested ------------------------------------------------------------------------------------
 */

static int put_items(const struct avro_node *node, struct json_reader *r, struct avro_in *in,
                     struct weir_column_builder *b, const struct json_scope *scope) {
    bool is_map = node->put == AVRO_PUT_MAP;
    int64_t count = 1;
    int64_t at = 0;
    while (count != 0) {
        if (!avro_block(in, &count)) {
            return cut(r, in);
        }
        for (int64_t i = 0; i < count; i++, at++) {
            const uint8_t *key = NULL;
            size_t length = 0;
            int rc = WEIR_OK;
            if (is_map) {
                if (!avro_bytes(in, &key, &length) || json_find_bad_utf8(key, length) >= 0) {
                    return cut(r, in);
                }
                rc = weir_builder_bytes(&b->children[0], key, length);
            }
            struct json_scope inner = {
                .parent = scope, .name = (const char *)key, .name_length = length, .index = at};
            rc = rc == WEIR_OK
                     ? put(&node->children[0], r, in, &b->children[is_map ? 1 : 0], &inner)
                     : rc;
            if (rc != WEIR_OK) {
                return json_fail_within(r, rc, (const char *)key, length, at);
            }
        }
    }
    return weir_builder_list(b);
}

/* By its path, as JSON's are. */
static int keep_unknown(const struct avro_node *node, struct json_reader *r, struct avro_in *in,
                        const struct json_scope *scope) {
    struct weir_buffer *out = &r->rescued;
    struct json_scope inner = {
        .parent = scope, .name = node->name, .name_length = strlen(node->name)};
    int rc = weir_buffer_append_text(out, out->size == 0 ? "{\"" : ",\"");
    rc = rc == WEIR_OK ? json_put_path(out, &inner) : rc;
    out->size -= rc == WEIR_OK; /* its last dot */
    rc = rc == WEIR_OK ? weir_buffer_append_text(out, "\":") : rc;
    rc = rc == WEIR_OK ? avro_rescue(in, node->wire, out, 0) : rc;
    return rc == WEIR_E_DATA ? cut(r, in) : rc;
}

static int put_absent(const struct avro_node *plan, struct json_reader *r,
                      struct weir_column_builder *columns) {
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < plan->field_count; i++) {
        if ((plan->absent[i / 64] >> (i % 64) & 1) != 0) {
            rc = plan->fields[i].default_.text != NULL
                     ? json_read_default(r, &plan->fields[i], &columns[i])
                     : weir_builder_null(&columns[i]);
        }
    }
    return rc;
}

/* A field of a nested record. */
static int read_nested(const struct avro_node *node, struct json_reader *r, struct avro_in *in,
                       struct weir_column_builder *columns, const struct json_scope *scope) {
    struct json_scope inner = {
        .parent = scope, .name = node->name, .name_length = strlen(node->name)};
    return node->column >= 0 ? put(node, r, in, &columns[node->column], &inner)
                             : keep_unknown(node, r, in, scope);
}

static int read_fields(const struct avro_node *plan, struct json_reader *r, struct avro_in *in,
                       struct weir_column_builder *columns, const struct json_scope *scope) {
    for (int32_t i = 0; i < plan->child_count; i++) {
        const struct avro_node *node = &plan->children[i];
        int rc = read_nested(node, r, in, columns, scope);
        if (UNLIKELY(rc != WEIR_OK)) {
            return json_fail_within(r, rc, node->name, strlen(node->name), 0);
        }
    }
    return put_absent(plan, r, columns);
}

int avro_read_field(const struct avro_node *plan, int32_t index, struct json_reader *r,
                    struct avro_in *in, struct weir_column_builder *columns) {
    const struct avro_node *node = &plan->children[index];
    int rc = read_nested(node, r, in, columns, NULL);
    return rc == WEIR_OK ? rc : json_fail_within(r, rc, node->name, strlen(node->name), 0);
}

static int put_union(const struct avro_node *node, struct json_reader *r, struct avro_in *in,
                     struct weir_column_builder *b, const struct json_scope *scope) {
    int64_t index;
    if (UNLIKELY(!avro_varint(in, &index) || index < 0 || index >= node->child_count)) {
        return cut(r, in);
    }
    return put(&node->children[index], r, in, b, scope);
}

static int put(const struct avro_node *node, struct json_reader *r, struct avro_in *in,
               struct weir_column_builder *b, const struct json_scope *scope) {
    int rc;
    switch (node->put) {
    case AVRO_PUT_INT:
        return put_int(node, r, in, b);
    case AVRO_PUT_TEXT:
    case AVRO_PUT_BYTES:
        return put_bytes(node, r, in, b);
    case AVRO_PUT_UNION:
        return put_union(node, r, in, b, scope);
    case AVRO_PUT_NULL:
        return weir_builder_null(b);
    case AVRO_PUT_BOOL:
        return in->p < in->end ? weir_builder_bool(b, *in->p++ != 0) : cut(r, in);
    case AVRO_PUT_REAL_OF_INT:
    case AVRO_PUT_REAL_OF_FLOAT:
    case AVRO_PUT_REAL_OF_DOUBLE:
        return put_real(node, r, in, b);
    case AVRO_PUT_FIXED:
        return put_fixed(node, r, in, b);
    case AVRO_PUT_DECIMAL:
        return put_decimal(node, r, in, b);
    case AVRO_PUT_ENUM:
        return put_enum(node, r, in, b);
    case AVRO_PUT_LIST:
    case AVRO_PUT_MAP:
        return put_items(node, r, in, b, scope);
    case AVRO_PUT_STRUCT:
        rc = read_fields(node, r, in, b->children, scope);
        return rc == WEIR_OK ? weir_builder_struct(b) : rc;
    case AVRO_PUT_SKIP:
        return avro_skip(in, node->wire, 0) ? WEIR_OK : cut(r, in);
    case AVRO_PUT_REFUSE:
        return json_fail(r, here(in), "%s", node->reason);
    }
    return cut(r, in);
}

int avro_plan_read(const struct avro_node *plan, struct json_reader *r, struct avro_in *in,
                   struct weir_column_builder *columns, int64_t row, int64_t room) {
    int rc = WEIR_OK;
    if (LIKELY(row < room)) {
        rc = avro_steps_read(plan, r, in, columns, row);
    } else {
        for (int32_t i = 0; rc == WEIR_OK && i < plan->child_count; i++) {
            rc = avro_read_field(plan, i, r, in, columns);
        }
    }
    if (UNLIKELY(rc == WEIR_OK && plan->has_absent)) {
        rc = put_absent(plan, r, columns);
    }
    if (UNLIKELY(rc == WEIR_OK && r->rescued.size > 0)) {
        rc = weir_buffer_append(&r->rescued, "}", 1);
    }
    return UNLIKELY(rc == WEIR_OK && in->p != in->end)
               ? json_fail(r, here(in), "%zu bytes too many: not what its schema says",
                           (size_t)(in->end - in->p))
               : rc;
}
