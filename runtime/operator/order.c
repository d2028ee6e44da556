#include "operator/order.h"

#include <math.h>
#include <string.h>

static int put(struct weir_buffer *out, const void *bytes, size_t size, bool inverted) {
    size_t start = out->size;
    int rc = weir_buffer_append(out, bytes, size);
    for (size_t i = start; rc == WEIR_OK && inverted && i < out->size; i++) {
        out->data[i] = (uint8_t)~out->data[i];
    }
    return rc;
}

static int put_word(struct weir_buffer *out, uint64_t word, bool inverted) {
    word = __builtin_bswap64(word);
    return put(out, &word, sizeof word, inverted);
}

int weir_order_int64(int64_t value, bool descending, struct weir_buffer *out) {
    return put_word(out, (uint64_t)value ^ (UINT64_C(1) << 63), descending);
}

int weir_order_int128(weir_int128 value, bool descending, struct weir_buffer *out) {
    int rc = weir_order_int64((int64_t)(value >> 64), descending, out);
    return rc == WEIR_OK ? put_word(out, (uint64_t)value, descending) : rc;
}

static int put_double(struct weir_buffer *out, double value, bool descending) {
    uint64_t word;
    value = isnan(value) ? (double)NAN : value + 0.0; /* -0.0 is 0.0 */
    memcpy(&word, &value, sizeof word);
    if (isnan(value)) {
        word &= ~(UINT64_C(1) << 63);
    }
    word ^= (word >> 63) != 0 ? UINT64_MAX : UINT64_C(1) << 63;
    return put_word(out, word, descending);
}

static int put_text(struct weir_buffer *out, const char *bytes, int32_t length, bool descending) {
    static const char zero[2] = {0, (char)0xff};
    static const char end[2] = {0, 0};
    int rc = WEIR_OK;
    for (int32_t at = 0; rc == WEIR_OK && at < length;) {
        const char *next = memchr(bytes + at, 0, (size_t)(length - at));
        int32_t until = next != NULL ? (int32_t)(next - bytes) : length;
        rc = put(out, bytes + at, (size_t)(until - at), descending);
        at = until;
        if (rc == WEIR_OK && at < length) {
            rc = put(out, zero, sizeof zero, descending);
            at++;
        }
    }
    return rc == WEIR_OK ? put(out, end, sizeof end, descending) : rc;
}

int weir_order_value(const struct weir_column *column, int32_t row, bool descending,
                     struct weir_buffer *out) {
    if (column->codes != NULL && !weir_type_is_bytes(column->type)) {
        row = column->codes[row];
        column = column->dictionary;
    }
    const void *values = column->values;
    int32_t length;
    switch (column->type) {
    case WEIR_TYPE_BOOL:
        return weir_order_int64(weir_bit_get(values, row), descending, out);
    case WEIR_TYPE_INT8:
        return weir_order_int64(((const int8_t *)values)[row], descending, out);
    case WEIR_TYPE_INT16:
        return weir_order_int64(((const int16_t *)values)[row], descending, out);
    case WEIR_TYPE_INT32:
    case WEIR_TYPE_DATE:
        return weir_order_int64(((const int32_t *)values)[row], descending, out);
    case WEIR_TYPE_FLOAT:
        return put_double(out, (double)((const float *)values)[row], descending);
    case WEIR_TYPE_DOUBLE:
        return put_double(out, ((const double *)values)[row], descending);
    case WEIR_TYPE_DECIMAL:
        return weir_order_int128(weir_int128_load((const uint8_t *)values + (size_t)row * 16),
                                 descending, out);
    case WEIR_TYPE_STRING:
    case WEIR_TYPE_BINARY: {
        const char *bytes = weir_column_bytes(column, row, &length);
        return put_text(out, bytes, length, descending);
    }
    default:
        return weir_order_int64(((const int64_t *)values)[row], descending, out);
    }
}

/* --- back ------------------------------------------------------------------------------------ */

static uint64_t word_at(const uint8_t *bytes) {
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    return __builtin_bswap64(word);
}

bool weir_order_read_int64(const uint8_t *bytes, size_t length, int64_t *value) {
    if (length != sizeof *value) {
        return false;
    }
    *value = (int64_t)(word_at(bytes) ^ (UINT64_C(1) << 63));
    return true;
}

bool weir_order_read_int128(const uint8_t *bytes, size_t length, weir_int128 *value) {
    int64_t high;
    if (length != sizeof *value || !weir_order_read_int64(bytes, sizeof high, &high)) {
        return false;
    }
    *value = (weir_int128)((weir_uint128)(weir_int128)high << 64 | word_at(bytes + sizeof high));
    return true;
}

bool weir_order_read_double(const uint8_t *bytes, size_t length, double *value) {
    if (length != sizeof *value) {
        return false;
    }
    uint64_t word = word_at(bytes);
    word = (word >> 63) != 0 ? word ^ (UINT64_C(1) << 63) : ~word;
    memcpy(value, &word, sizeof *value);
    return true;
}

static int decode_text(const uint8_t *bytes, size_t length, struct weir_column_builder *out) {
    struct weir_buffer text;
    int rc = WEIR_OK;
    weir_buffer_init(&text, length + 1);
    for (size_t at = 0; rc == WEIR_OK;) {
        const uint8_t *zero = memchr(bytes + at, 0, length - at);
        if (zero == NULL || zero + 1 == bytes + length) {
            rc = WEIR_E_CORRUPT;
            break;
        }
        size_t until = (size_t)(zero - bytes);
        rc = weir_buffer_append(&text, bytes + at, until - at);
        if (rc == WEIR_OK && zero[1] == 0) {
            rc = until + 2 == length ? weir_builder_bytes(out, text.data, text.size)
                                     : WEIR_E_CORRUPT;
            break;
        }
        rc = rc == WEIR_OK ? weir_buffer_append(&text, zero, 1) : rc;
        at = until + 2;
    }
    weir_buffer_fini(&text);
    return rc;
}

int weir_order_decode(const uint8_t *bytes, size_t length, struct weir_column_builder *out) {
    int64_t whole;
    weir_int128 wide;
    double number;
    switch (out->type) {
    case WEIR_TYPE_FLOAT:
    case WEIR_TYPE_DOUBLE:
        if (!weir_order_read_double(bytes, length, &number)) {
            return WEIR_E_CORRUPT;
        }
        return out->type == WEIR_TYPE_FLOAT ? weir_builder_float(out, (float)number)
                                            : weir_builder_double(out, number);
    case WEIR_TYPE_DECIMAL:
        return weir_order_read_int128(bytes, length, &wide)
                   ? weir_builder_decimal(out, (uint64_t)wide, (int64_t)(wide >> 64))
                   : WEIR_E_CORRUPT;
    case WEIR_TYPE_STRING:
    case WEIR_TYPE_BINARY:
        return decode_text(bytes, length, out);
    default:
        if (!weir_order_read_int64(bytes, length, &whole)) {
            return WEIR_E_CORRUPT;
        }
        return out->type == WEIR_TYPE_BOOL ? weir_builder_bool(out, whole != 0)
                                           : weir_builder_int(out, whole);
    }
}
