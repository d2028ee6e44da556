#include "operator/top_order.h"

#include <math.h>
#include <string.h>

enum { PRESENT = 1, ABSENT = 2 };

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

int weir_top_order_int64(int64_t value, bool descending, struct weir_buffer *out) {
    return put_word(out, (uint64_t)value ^ (UINT64_C(1) << 63), descending);
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

static int put_value(struct weir_buffer *out, const struct weir_column *column, int32_t row,
                     bool descending) {
    if (column->codes != NULL && !weir_type_is_bytes(column->type)) {
        row = column->codes[row];
        column = column->dictionary;
    }
    const void *values = column->values;
    int32_t length;
    int64_t high;
    uint64_t low;
    switch (column->type) {
    case WEIR_TYPE_BOOL:
        return weir_top_order_int64(weir_bit_get(values, row), descending, out);
    case WEIR_TYPE_INT8:
        return weir_top_order_int64(((const int8_t *)values)[row], descending, out);
    case WEIR_TYPE_INT16:
        return weir_top_order_int64(((const int16_t *)values)[row], descending, out);
    case WEIR_TYPE_INT32:
    case WEIR_TYPE_DATE:
        return weir_top_order_int64(((const int32_t *)values)[row], descending, out);
    case WEIR_TYPE_FLOAT:
        return put_double(out, (double)((const float *)values)[row], descending);
    case WEIR_TYPE_DOUBLE:
        return put_double(out, ((const double *)values)[row], descending);
    case WEIR_TYPE_DECIMAL:
        memcpy(&low, (const uint8_t *)values + (size_t)row * 16, sizeof low);
        memcpy(&high, (const uint8_t *)values + (size_t)row * 16 + 8, sizeof high);
        if (weir_top_order_int64(high, descending, out) != WEIR_OK) {
            return WEIR_E_NOMEM;
        }
        return put_word(out, low, descending);
    case WEIR_TYPE_STRING:
    case WEIR_TYPE_BINARY: {
        const char *bytes = weir_column_bytes(column, row, &length);
        return put_text(out, bytes, length, descending);
    }
    default:
        return weir_top_order_int64(((const int64_t *)values)[row], descending, out);
    }
}

int weir_top_order_append(const struct weir_top_order *by, int32_t by_count,
                          const struct weir_batch *batch, int32_t row, struct weir_buffer *out) {
    int rc = WEIR_OK;
    for (int32_t i = 0; i < by_count && rc == WEIR_OK; i++) {
        const struct weir_column *column = &batch->columns[by[i].column];
        uint8_t mark = weir_column_is_null(column, row) ? ABSENT : PRESENT;
        rc = put(out, &mark, 1, false);
        if (rc == WEIR_OK && mark == PRESENT) {
            rc = put_value(out, column, row, by[i].descending);
        }
    }
    return rc;
}
