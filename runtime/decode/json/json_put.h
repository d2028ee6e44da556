#pragma once
/* Appending to columns by pointer: what the walk does millions of times a second, inlined. The
 * builder's own functions take over where a column must grow. Private to the JSON decoder. */
#include <string.h>

#include "batch/builder.h"

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

static inline int json_reserve_bytes(struct weir_column_builder *b, size_t extra) {
    size_t need = b->bytes_size + extra;
    if (LIKELY(need <= b->bytes_capacity)) {
        return WEIR_OK;
    }
    size_t capacity = b->bytes_capacity * 2;
    while (capacity < need) {
        capacity *= 2;
    }
    if (need > INT32_MAX / 2) {
        return WEIR_E_LIMIT;
    }
    void *values = weir_batch_alloc(b->batch, capacity);
    if (values == NULL) {
        return WEIR_E_LIMIT;
    }
    memcpy(values, b->values, b->bytes_size);
    b->values = values;
    b->bytes_capacity = capacity;
    return WEIR_OK;
}

/* Accounts for bytes already written at the column's end. */
static inline int json_finish_bytes(struct weir_column_builder *b, size_t length) {
    if (LIKELY(b->length < b->capacity_rows)) {
        b->bytes_size += length;
        b->offsets[++b->length] = (int32_t)b->bytes_size;
        return WEIR_OK;
    }
    int rc = weir_builder_bytes(b, NULL, 0); /* grows the offsets */
    if (rc == WEIR_OK) {
        b->bytes_size += length;
        b->offsets[b->length] = (int32_t)b->bytes_size;
    }
    return rc;
}

static inline int json_put_int(struct weir_column_builder *b, int64_t value, int32_t width) {
    if (UNLIKELY(b->length >= b->capacity_rows)) {
        return weir_builder_int(b, value);
    }
    int64_t row = b->length++;
    switch (width) {
    case 1:
        ((int8_t *)b->values)[row] = (int8_t)value;
        break;
    case 2:
        ((int16_t *)b->values)[row] = (int16_t)value;
        break;
    case 4:
        ((int32_t *)b->values)[row] = (int32_t)value;
        break;
    default:
        ((int64_t *)b->values)[row] = value;
        break;
    }
    return WEIR_OK;
}
