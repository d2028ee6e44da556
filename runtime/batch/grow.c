/* Columns under a type that has more members: what a batch made before knows nothing of is null. */
#include <string.h>

#include "batch/batch.h"

int weir_column_nulls(struct weir_column *out, const struct weir_field *field, int64_t rows,
                      struct weir_batch *batch) {
    int rc = weir_column_init(out, field, batch);
    size_t bits = (size_t)rows / 8 + 8;
    if (rc != WEIR_OK) {
        return rc;
    }
    out->length = rows;
    out->null_count = rows;
    out->validity = weir_batch_alloc(batch, bits);
    if (out->validity == NULL) {
        return WEIR_E_LIMIT;
    }
    memset(out->validity, 0, bits);
    if (weir_type_is_bytes(field->type) || field->type == WEIR_TYPE_LIST ||
        field->type == WEIR_TYPE_MAP) {
        out->offsets = weir_batch_alloc(batch, ((size_t)rows + 1) * sizeof(int32_t));
        if (out->offsets == NULL) {
            return WEIR_E_LIMIT;
        }
        memset(out->offsets, 0, ((size_t)rows + 1) * sizeof(int32_t));
        rows = 0;
    }
    if (weir_type_is_nested(field->type)) {
        for (int32_t i = 0; i < field->child_count && rc == WEIR_OK; i++) {
            rc = weir_column_nulls(&out->children[i], &field->children[i], rows, batch);
        }
        return rc;
    }
    size_t width = (size_t)weir_type_width(field->type);
    size_t bytes = field->type == WEIR_TYPE_BOOL ? bits : (size_t)rows * width + 8;
    out->values = weir_batch_alloc(batch, bytes);
    if (out->values == NULL) {
        return WEIR_E_LIMIT;
    }
    memset(out->values, 0, bytes);
    return WEIR_OK;
}

int weir_column_grow(struct weir_column *out, const struct weir_field *field,
                     const struct weir_column *from, const struct weir_field *was, int64_t rows,
                     struct weir_batch *batch) {
    if (!weir_type_is_nested(field->type)) {
        *out = *from;
        return WEIR_OK;
    }
    int rc = weir_column_init(out, field, batch);
    if (rc != WEIR_OK) {
        return rc;
    }
    bool members = field->type == WEIR_TYPE_STRUCT;
    out->length = from->length;
    out->null_count = from->null_count;
    out->validity = from->validity;
    out->offsets = from->offsets;
    for (int32_t i = 0; i < field->child_count && rc == WEIR_OK; i++) {
        const struct weir_field *child = &field->children[i];
        int32_t at = members ? weir_field_find(was, child->name) : i;
        if (at < 0) {
            rc = weir_column_nulls(&out->children[i], child, rows, batch);
            continue;
        }
        rc = weir_column_grow(&out->children[i], child, &from->children[at], &was->children[at],
                              members ? rows : from->children[at].length, batch);
    }
    return rc;
}
