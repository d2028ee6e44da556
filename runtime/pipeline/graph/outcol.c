/* Columns that map loops fill: fixed widths in place, variable widths through weir_out. */
#include <stdlib.h>
#include <string.h>

#include "pipeline/graph/node.h"

enum { OUT_BYTES_MAX = 64 << 20 }; /* text one batch of one column may hold */

int outs_create(const struct weir_schema *schema, struct weir_out ***outs, struct weir_error *err) {
    *outs = calloc((size_t)schema->count + 1, sizeof(**outs));
    if (*outs == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    for (int32_t i = 0; i < schema->count; i++) {
        uint8_t type = schema->fields[i].type;
        bool nested = weir_type_is_nested(type);
        if (nested || weir_type_is_bytes(type)) {
            (*outs)[i] = nested ? weir_out_create_nested(&schema->fields[i], OUT_BYTES_MAX)
                                : weir_out_create(type, OUT_BYTES_MAX);
            if ((*outs)[i] == NULL) {
                return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
            }
        }
    }
    return WEIR_OK;
}

void outs_destroy(struct weir_out **outs, int32_t count) {
    for (int32_t i = 0; outs != NULL && i < count; i++) {
        weir_out_destroy(outs[i]);
    }
    free(outs);
}

int out_begin(struct weir_batch *owner, const struct weir_schema *schema, struct weir_out **outs,
              int32_t rows, const bool *copied, struct out_columns *out) {
    size_t count = (size_t)schema->count;
    out->count = schema->count;
    out->copied = copied;
    out->columns = weir_batch_alloc(owner, count * sizeof(*out->columns) + 1);
    out->assigned = weir_batch_alloc(owner, count * sizeof(*out->assigned) + 1);
    if (out->columns == NULL || out->assigned == NULL) {
        return WEIR_E_LIMIT;
    }
    memset(out->columns, 0, count * sizeof(*out->columns));
    memset(out->assigned, 0, count * sizeof(*out->assigned));
    for (int32_t i = 0; i < schema->count; i++) {
        const struct weir_field *field = &schema->fields[i];
        struct weir_column *column = &out->columns[i];
        column->type = field->type;
        column->precision = field->precision;
        column->scale = field->scale;
        column->length = rows;
        if (copied != NULL && copied[i]) {
            continue;
        }
        if (outs[i] != NULL) {
            int rc = weir_out_begin(outs[i], rows);
            if (rc != WEIR_OK) {
                return rc;
            }
        } else {
            size_t width = (size_t)weir_type_width(field->type);
            size_t bytes =
                field->type == WEIR_TYPE_BOOL ? (size_t)rows / 8 + 8 : (size_t)rows * width + 8;
            column->validity = weir_batch_alloc(owner, (size_t)rows / 8 + 8);
            column->values = weir_batch_alloc(owner, bytes);
            if (column->validity == NULL || column->values == NULL) {
                return WEIR_E_LIMIT;
            }
            memset(column->validity, 0, (size_t)rows / 8 + 8);
            memset(column->values, 0, bytes);
        }
        out->assigned[i] = weir_batch_alloc(owner, (size_t)rows + 1);
        if (out->assigned[i] == NULL) {
            return WEIR_E_LIMIT;
        }
        memset(out->assigned[i], 0, (size_t)rows);
    }
    return WEIR_OK;
}

void out_clear_row(struct out_columns *out, struct weir_out **outs, int32_t row) {
    for (int32_t i = 0; i < out->count; i++) {
        if (out->copied != NULL && out->copied[i]) {
            continue;
        }
        if (outs[i] != NULL) {
            weir_out_rewind(outs[i], row);
        } else {
            weir_bit_clear(out->columns[i].validity, row);
        }
        out->assigned[i][row] = 0;
    }
}

int out_finish(struct weir_batch *owner, struct weir_out **outs, struct out_columns *out) {
    for (int32_t i = 0; i < out->count; i++) {
        struct weir_column *column = &out->columns[i];
        if (out->copied != NULL && out->copied[i]) {
            continue;
        }
        if (outs[i] != NULL) {
            int rc = weir_out_finish(outs[i], owner, column);
            if (rc != WEIR_OK) {
                return rc;
            }
            continue;
        }
        int64_t valid = 0;
        for (int64_t b = 0; b < column->length / 8; b++) {
            valid += __builtin_popcount(column->validity[b]);
        }
        for (int64_t r = column->length & ~INT64_C(7); r < column->length; r++) {
            valid += weir_bit_get(column->validity, r);
        }
        column->null_count = column->length - valid;
        if (column->null_count == 0) {
            column->validity = NULL;
        }
    }
    return WEIR_OK;
}

static int merge_bytes(struct weir_batch *owner, struct weir_column *column,
                       const uint8_t *assigned, const struct weir_column *input) {
    int64_t rows = column->length;
    int32_t *offsets = weir_batch_alloc(owner, ((size_t)rows + 1) * sizeof(int32_t));
    uint8_t *validity = weir_batch_alloc(owner, (size_t)rows / 8 + 8);
    if (offsets == NULL || validity == NULL) {
        return WEIR_E_LIMIT;
    }
    memset(validity, 0, (size_t)rows / 8 + 8);
    uint8_t *bytes = NULL;
    int64_t nulls = 0;
    for (int pass = 0; pass < 2; pass++) {
        int64_t at = 0;
        offsets[0] = 0;
        for (int64_t r = 0; r < rows; r++) {
            const struct weir_column *from = assigned[r] ? column : input;
            if (!weir_column_is_null(from, r)) {
                int32_t length;
                const char *text = weir_column_bytes(from, r, &length);
                if (pass == 1) {
                    memcpy(bytes + at, text, (size_t)length);
                    weir_bit_set(validity, r);
                }
                at += length;
            } else if (pass == 0) {
                nulls++;
            }
            if (at > INT32_MAX) {
                return WEIR_E_LIMIT;
            }
            offsets[r + 1] = (int32_t)at;
        }
        if (pass == 0 && (bytes = weir_batch_alloc(owner, (size_t)at + 1)) == NULL) {
            return WEIR_E_LIMIT;
        }
    }
    column->offsets = offsets;
    column->values = bytes;
    column->null_count = nulls;
    column->validity = nulls > 0 ? validity : NULL;
    return WEIR_OK;
}

int out_merge(struct weir_batch *owner, struct weir_column *column, const uint8_t *assigned,
              const struct weir_column *input) {
    if (assigned == NULL || memchr(assigned, 0, (size_t)column->length) == NULL) {
        return WEIR_OK;
    }
    if (weir_type_is_bytes(column->type)) {
        return merge_bytes(owner, column, assigned, input);
    }
    struct weir_column plain = *input;
    int rc = weir_column_make_plain(&plain, owner);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (column->validity == NULL) {
        column->validity = weir_batch_alloc(owner, (size_t)column->length / 8 + 8);
        if (column->validity == NULL) {
            return WEIR_E_LIMIT;
        }
        memset(column->validity, 0xff, (size_t)column->length / 8 + 8);
    }
    size_t width = (size_t)weir_type_width(column->type);
    int64_t nulls = 0;
    for (int64_t r = 0; r < column->length; r++) {
        if (!assigned[r]) {
            if (weir_column_is_null(&plain, r)) {
                weir_bit_clear(column->validity, r);
            } else {
                weir_bit_set(column->validity, r);
            }
            if (column->type == WEIR_TYPE_BOOL) {
                if (weir_bit_get(plain.values, r)) {
                    weir_bit_set(column->values, r);
                } else {
                    weir_bit_clear(column->values, r);
                }
            } else {
                memcpy((uint8_t *)column->values + (size_t)r * width,
                       (const uint8_t *)plain.values + (size_t)r * width, width);
            }
        }
        nulls += !weir_bit_get(column->validity, r);
    }
    column->null_count = nulls;
    column->flags |= input->flags;
    if (nulls == 0) {
        column->validity = NULL;
    }
    return WEIR_OK;
}
