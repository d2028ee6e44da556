/* Data no column is for: stepped over, or kept as JSON. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "decode/avro/avro_plan.h"

enum { DEPTH_MAX = 64 };

bool avro_block(struct avro_in *in, int64_t *count) {
    if (!avro_varint(in, count)) {
        return false;
    }
    if (*count < 0) { /* its size in bytes follows, for who would skip it */
        int64_t size;
        if (*count == INT64_MIN || !avro_varint(in, &size)) {
            return false;
        }
        *count = -*count;
    }
    /* Items may take no bytes (null); as many as a message has bytes is more than anyone means. */
    return *count <= in->end - in->begin;
}

static bool step(struct avro_in *in, int64_t bytes) {
    if (bytes > in->end - in->p) {
        return false;
    }
    in->p += bytes;
    return true;
}

static bool skip_blocks(struct avro_in *in, const struct avro_type *type, int depth) {
    int64_t count;
    while (avro_block(in, &count)) {
        if (count == 0) {
            return true;
        }
        for (; count > 0; count--) {
            const uint8_t *key;
            size_t length;
            if ((type->kind == AVRO_MAP && !avro_bytes(in, &key, &length)) ||
                !avro_skip(in, type->branches[0], depth)) {
                return false;
            }
        }
    }
    return false;
}

bool avro_skip(struct avro_in *in, const struct avro_type *type, int depth) {
    int64_t number;
    const uint8_t *bytes;
    size_t length;
    if (depth > DEPTH_MAX) {
        return false;
    }
    switch (type->kind) {
    case AVRO_NULL:
        return true;
    case AVRO_BOOLEAN:
        return step(in, 1);
    case AVRO_INT:
    case AVRO_LONG:
        return avro_varint(in, &number);
    case AVRO_ENUM:
        return avro_varint(in, &number) && number >= 0 && number < type->symbol_count;
    case AVRO_FLOAT:
        return step(in, 4);
    case AVRO_DOUBLE:
        return step(in, 8);
    case AVRO_BYTES:
    case AVRO_STRING:
        return avro_bytes(in, &bytes, &length);
    case AVRO_FIXED:
        return step(in, type->size);
    case AVRO_ARRAY:
    case AVRO_MAP:
        return skip_blocks(in, type, depth + 1);
    case AVRO_RECORD:
        for (int32_t i = 0; i < type->field_count; i++) {
            if (!avro_skip(in, type->fields[i].type, depth + 1)) {
                return false;
            }
        }
        return true;
    case AVRO_UNION:
        return avro_varint(in, &number) && number >= 0 && number < type->branch_count &&
               avro_skip(in, type->branches[number], depth + 1);
    }
    return false;
}

/* --- as JSON --------------------------------------------------------------------------------- */

static int put_base64(struct weir_buffer *out, const uint8_t *bytes, size_t length) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    int rc = weir_buffer_append(out, "\"", 1);
    for (size_t i = 0; rc == WEIR_OK && i < length; i += 3) {
        uint32_t bits = (uint32_t)bytes[i] << 16;
        bits |= i + 1 < length ? (uint32_t)bytes[i + 1] << 8 : 0;
        bits |= i + 2 < length ? (uint32_t)bytes[i + 2] : 0;
        char four[4] = {digits[bits >> 18 & 63], digits[bits >> 12 & 63],
                        i + 1 < length ? digits[bits >> 6 & 63] : '=',
                        i + 2 < length ? digits[bits & 63] : '='};
        rc = weir_buffer_append(out, four, 4);
    }
    return rc == WEIR_OK ? weir_buffer_append(out, "\"", 1) : rc;
}

static int put_real(struct weir_buffer *out, double value) {
    if (!isfinite(value)) {
        return weir_buffer_printf(out, "\"%s\"",
                                  isnan(value) ? "NaN"
                                  : value > 0  ? "Infinity"
                                               : "-Infinity");
    }
    return weir_buffer_printf(out, "%.17g", value);
}

static int rescue_blocks(struct avro_in *in, const struct avro_type *type, struct weir_buffer *out,
                         int depth) {
    bool is_map = type->kind == AVRO_MAP;
    int rc = weir_buffer_append(out, is_map ? "{" : "[", 1);
    bool first = true;
    int64_t count = 1;
    while (rc == WEIR_OK && count != 0) {
        if (!avro_block(in, &count)) {
            return WEIR_E_DATA;
        }
        for (int64_t i = 0; rc == WEIR_OK && i < count; i++) {
            const uint8_t *key;
            size_t length;
            rc = first ? WEIR_OK : weir_buffer_append(out, ",", 1);
            first = false;
            if (is_map && rc == WEIR_OK) {
                rc = avro_bytes(in, &key, &length)
                         ? weir_buffer_append_json(out, (const char *)key, length)
                         : WEIR_E_DATA;
                rc = rc == WEIR_OK ? weir_buffer_append(out, ":", 1) : rc;
            }
            rc = rc == WEIR_OK ? avro_rescue(in, type->branches[0], out, depth) : rc;
        }
    }
    return rc == WEIR_OK ? weir_buffer_append(out, is_map ? "}" : "]", 1) : rc;
}

static int rescue_record(struct avro_in *in, const struct avro_type *type, struct weir_buffer *out,
                         int depth) {
    int rc = weir_buffer_append(out, "{", 1);
    for (int32_t i = 0; rc == WEIR_OK && i < type->field_count; i++) {
        rc = i > 0 ? weir_buffer_append(out, ",", 1) : WEIR_OK;
        rc = rc == WEIR_OK
                 ? weir_buffer_append_json(out, type->fields[i].name, strlen(type->fields[i].name))
                 : rc;
        rc = rc == WEIR_OK ? weir_buffer_append(out, ":", 1) : rc;
        rc = rc == WEIR_OK ? avro_rescue(in, type->fields[i].type, out, depth) : rc;
    }
    return rc == WEIR_OK ? weir_buffer_append(out, "}", 1) : rc;
}

int avro_rescue(struct avro_in *in, const struct avro_type *type, struct weir_buffer *out,
                int depth) {
    int64_t number = 0;
    const uint8_t *bytes = in->p;
    size_t length = 0;
    float narrow;
    double real;
    if (depth > DEPTH_MAX) {
        return WEIR_E_DATA;
    }
    switch (type->kind) {
    case AVRO_NULL:
        return weir_buffer_append_text(out, "null");
    case AVRO_BOOLEAN:
        return step(in, 1) ? weir_buffer_append_text(out, bytes[0] != 0 ? "true" : "false")
                           : WEIR_E_DATA;
    case AVRO_INT:
    case AVRO_LONG:
        return avro_varint(in, &number) ? weir_buffer_printf(out, "%lld", (long long)number)
                                        : WEIR_E_DATA;
    case AVRO_ENUM:
        return avro_varint(in, &number) && number >= 0 && number < type->symbol_count
                   ? weir_buffer_append_json(out, type->symbols[number],
                                             strlen(type->symbols[number]))
                   : WEIR_E_DATA;
    case AVRO_FLOAT:
        if (!step(in, 4)) {
            return WEIR_E_DATA;
        }
        memcpy(&narrow, bytes, sizeof(narrow));
        return put_real(out, (double)narrow);
    case AVRO_DOUBLE:
        if (!step(in, 8)) {
            return WEIR_E_DATA;
        }
        memcpy(&real, bytes, sizeof(real));
        return put_real(out, real);
    case AVRO_BYTES:
        return avro_bytes(in, &bytes, &length) ? put_base64(out, bytes, length) : WEIR_E_DATA;
    case AVRO_STRING:
        return avro_bytes(in, &bytes, &length)
                   ? weir_buffer_append_json(out, (const char *)bytes, length)
                   : WEIR_E_DATA;
    case AVRO_FIXED:
        return step(in, type->size) ? put_base64(out, bytes, (size_t)type->size) : WEIR_E_DATA;
    case AVRO_ARRAY:
    case AVRO_MAP:
        return rescue_blocks(in, type, out, depth + 1);
    case AVRO_RECORD:
        return rescue_record(in, type, out, depth + 1);
    case AVRO_UNION:
        return avro_varint(in, &number) && number >= 0 && number < type->branch_count
                   ? avro_rescue(in, type->branches[number], out, depth + 1)
                   : WEIR_E_DATA;
    }
    return WEIR_E_DATA;
}
