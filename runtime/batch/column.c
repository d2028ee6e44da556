/* Operations on single columns: sizes, plain form of dictionaries, value equality. */
#include <math.h>
#include <string.h>

#include "batch/batch.h"

/* Of rows [start, start + rows): a slice of a list has its children whole. */
static size_t column_bytes(const struct weir_column *column, int64_t start, int64_t rows) {
    if (rows == 0) {
        return 0;
    }
    size_t bits = (size_t)(rows + 7) / 8;
    size_t bytes = column->validity != NULL ? bits : 0;
    if (column->codes != NULL) {
        return bytes + (size_t)rows * 4;
    }
    if (column->offsets != NULL) {
        bytes += (size_t)(rows + 1) * 4;
        int64_t first = column->offsets[start];
        rows = column->offsets[start + rows] - first;
        start = first;
    }
    if (weir_type_is_bytes(column->type)) {
        return bytes + (size_t)rows;
    }
    if (column->type == WEIR_TYPE_BOOL) {
        return bytes + bits;
    }
    for (int32_t i = 0; i < column->child_count; i++) {
        bytes += column_bytes(&column->children[i], start, rows);
    }
    return bytes + (size_t)rows * (size_t)weir_type_width(column->type);
}

size_t weir_batch_bytes(const struct weir_batch *batch) {
    size_t bytes = 0;
    for (int32_t c = 0; c < batch->column_count; c++) {
        bytes += column_bytes(&batch->columns[c], 0, batch->columns[c].length);
    }
    return bytes;
}

int weir_column_make_plain(struct weir_column *column, struct weir_batch *batch) {
    if (column->codes == NULL) {
        return WEIR_OK;
    }
    const struct weir_column *dictionary = column->dictionary;
    int64_t rows = column->length;
    if (!weir_type_is_bytes(column->type)) {
        size_t width = (size_t)weir_type_width(column->type);
        uint8_t *values = weir_batch_alloc(batch, (size_t)rows * width + 1);
        if (values == NULL || width == 0) {
            return values == NULL ? WEIR_E_LIMIT : WEIR_E_UNSUPPORTED;
        }
        for (int64_t i = 0; i < rows; i++) {
            int32_t code = weir_column_is_null(column, i) ? 0 : column->codes[i];
            if (dictionary->length > 0) {
                memcpy(values + (size_t)i * width,
                       (const uint8_t *)dictionary->values + (size_t)code * width, width);
            } else {
                memset(values + (size_t)i * width, 0, width);
            }
        }
        column->values = values;
    } else {
        int32_t *offsets = weir_batch_alloc(batch, ((size_t)rows + 1) * sizeof(int32_t));
        if (offsets == NULL) {
            return WEIR_E_LIMIT;
        }
        int64_t total = 0;
        offsets[0] = 0;
        for (int64_t i = 0; i < rows; i++) {
            if (!weir_column_is_null(column, i)) {
                int32_t code = column->codes[i];
                total += dictionary->offsets[code + 1] - dictionary->offsets[code];
            }
            if (total > INT32_MAX) {
                return WEIR_E_LIMIT;
            }
            offsets[i + 1] = (int32_t)total;
        }
        uint8_t *bytes = weir_batch_alloc(batch, (size_t)total + 1);
        if (bytes == NULL) {
            return WEIR_E_LIMIT;
        }
        for (int64_t i = 0; i < rows; i++) {
            if (offsets[i + 1] > offsets[i]) {
                memcpy(bytes + offsets[i],
                       (const uint8_t *)dictionary->values + dictionary->offsets[column->codes[i]],
                       (size_t)(offsets[i + 1] - offsets[i]));
            }
        }
        column->offsets = offsets;
        column->values = bytes;
    }
    column->codes = NULL;
    column->dictionary = NULL;
    return WEIR_OK;
}

static bool float_equal(double a, double b) {
    return a == b ? signbit(a) == signbit(b) : isnan(a) && isnan(b);
}

bool weir_column_value_equal(const struct weir_column *a, int64_t i, const struct weir_column *b,
                             int64_t j) {
    bool null_a = weir_column_is_null(a, i);
    if (null_a || weir_column_is_null(b, j)) {
        return null_a && weir_column_is_null(b, j);
    }
    if (a->codes != NULL && !weir_type_is_bytes(a->type)) {
        return weir_column_value_equal(a->dictionary, a->codes[i], b, j);
    }
    if (b->codes != NULL && !weir_type_is_bytes(b->type)) {
        return weir_column_value_equal(a, i, b->dictionary, b->codes[j]);
    }
    switch (a->type) {
    case WEIR_TYPE_BOOL:
        return weir_bit_get(a->values, i) == weir_bit_get(b->values, j);
    case WEIR_TYPE_FLOAT:
        return float_equal(((const float *)a->values)[i], ((const float *)b->values)[j]);
    case WEIR_TYPE_DOUBLE:
        return float_equal(((const double *)a->values)[i], ((const double *)b->values)[j]);
    case WEIR_TYPE_STRING:
    case WEIR_TYPE_BINARY: {
        int32_t la;
        int32_t lb;
        const char *pa = weir_column_bytes(a, i, &la);
        const char *pb = weir_column_bytes(b, j, &lb);
        return la == lb && (la == 0 || memcmp(pa, pb, (size_t)la) == 0);
    }
    case WEIR_TYPE_STRUCT:
        for (int32_t c = 0; c < a->child_count; c++) {
            if (!weir_column_value_equal(&a->children[c], i, &b->children[c], j)) {
                return false;
            }
        }
        return true;
    case WEIR_TYPE_LIST:
    case WEIR_TYPE_MAP: {
        int32_t n = a->offsets[i + 1] - a->offsets[i];
        if (n != b->offsets[j + 1] - b->offsets[j]) {
            return false;
        }
        for (int32_t k = 0; k < n; k++) {
            for (int32_t c = 0; c < a->child_count; c++) {
                if (!weir_column_value_equal(&a->children[c], a->offsets[i] + k, &b->children[c],
                                             b->offsets[j] + k)) {
                    return false;
                }
            }
        }
        return true;
    }
    default: {
        size_t width = (size_t)weir_type_width(a->type);
        return memcmp((const uint8_t *)a->values + (size_t)i * width,
                      (const uint8_t *)b->values + (size_t)j * width, width) == 0;
    }
    }
}

void weir_batch_fill_int64(struct weir_batch *batch, int32_t column, int64_t value) {
    int64_t *values = batch->columns[column].values;
    for (int32_t i = 0; i < batch->rows; i++) {
        values[i] = value;
    }
}
