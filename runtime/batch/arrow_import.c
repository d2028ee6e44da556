/* Import: values are copied into pool buffers, because a foreign array lives by its own release
 * callback and its offset need not suit us. Dictionaries arrive decoded. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch/arrow.h"

enum { IMPORT_DEPTH_MAX = 32 };

static uint8_t type_of_format(const char *f, uint8_t *precision, int8_t *scale) {
    static const struct {
        const char *format;
        uint8_t type;
    } table[] = {
        {"b", WEIR_TYPE_BOOL},   {"c", WEIR_TYPE_INT8},   {"s", WEIR_TYPE_INT16},
        {"i", WEIR_TYPE_INT32},  {"l", WEIR_TYPE_INT64},  {"f", WEIR_TYPE_FLOAT},
        {"g", WEIR_TYPE_DOUBLE}, {"u", WEIR_TYPE_STRING}, {"z", WEIR_TYPE_BINARY},
        {"tdD", WEIR_TYPE_DATE}, {"+l", WEIR_TYPE_LIST},  {"+s", WEIR_TYPE_STRUCT},
        {"+m", WEIR_TYPE_MAP},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (strcmp(table[i].format, f) == 0) {
            return table[i].type;
        }
    }
    if (strncmp(f, "tsu:", 4) == 0) {
        return f[4] != '\0' ? WEIR_TYPE_TIMESTAMP : WEIR_TYPE_TIMESTAMP_NTZ;
    }
    if (strncmp(f, "tsn:", 4) == 0) {
        return f[4] != '\0' ? WEIR_TYPE_TIMESTAMP_NS : WEIR_TYPE_TIMESTAMP_NS_NTZ;
    }
    int p;
    int s;
    char rest;
    if (sscanf(f, "d:%d,%d%c", &p, &s, &rest) == 2 && p >= 1 && p <= 38 && s >= 0 && s <= p) {
        *precision = (uint8_t)p;
        *scale = (int8_t)s;
        return WEIR_TYPE_DECIMAL;
    }
    return WEIR_TYPE_NONE;
}

static int import_field(const struct ArrowSchema *in, struct weir_field *field, int depth,
                        struct weir_error *err) {
    memset(field, 0, sizeof(*field));
    if (depth > IMPORT_DEPTH_MAX) {
        return weir_error_set(err, WEIR_E_SCHEMA, "arrow column %s: nested too deeply", in->name);
    }
    field->name = strdup(in->name != NULL ? in->name : "");
    if (field->name == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "arrow import: out of memory");
    }
    field->nullable = (in->flags & ARROW_FLAG_NULLABLE) != 0;
    const struct ArrowSchema *type = in->dictionary != NULL ? in->dictionary : in;
    field->type = type_of_format(type->format, &field->precision, &field->scale);
    bool dictionary_of_bytes = in->dictionary == NULL || weir_type_is_bytes(field->type);
    if (field->type == WEIR_TYPE_NONE || !dictionary_of_bytes) {
        return weir_error_set(err, WEIR_E_SCHEMA,
                              "arrow column %s: type '%s' is not supported; cast it first",
                              field->name, in->format);
    }
    const struct ArrowSchema *parent = type;
    if (field->type == WEIR_TYPE_MAP) {
        parent = type->children[0];
    }
    int64_t count = weir_type_is_nested(field->type) ? parent->n_children : 0;
    if (count > 0) {
        field->children = calloc((size_t)count, sizeof(*field->children));
        if (field->children == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "arrow import: out of memory");
        }
        for (int64_t i = 0; i < count; i++) {
            field->child_count++;
            int rc = import_field(parent->children[i], &field->children[i], depth + 1, err);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
    }
    return WEIR_OK;
}

int weir_arrow_import_schema(const struct ArrowSchema *in, struct weir_schema **out,
                             struct weir_error *err) {
    *out = NULL;
    if (strcmp(in->format, "+s") != 0) {
        return weir_error_set(err, WEIR_E_SCHEMA, "arrow import: expected a struct, got '%s'",
                              in->format);
    }
    struct weir_schema *schema = weir_schema_create();
    int rc = schema == NULL ? WEIR_E_NOMEM : WEIR_OK;
    for (int64_t i = 0; rc == WEIR_OK && i < in->n_children; i++) {
        struct weir_field field;
        rc = import_field(in->children[i], &field, 0, err);
        if (rc == WEIR_OK) {
            rc = weir_schema_add(schema, &field);
        }
        weir_field_fini(&field);
    }
    if (rc != WEIR_OK) {
        weir_schema_unref(schema);
        return rc == WEIR_E_NOMEM ? weir_error_set(err, rc, "arrow import: out of memory") : rc;
    }
    *out = schema;
    return WEIR_OK;
}

static int copy_bits(struct weir_batch *batch, const uint8_t *bits, int64_t start, int64_t rows,
                     uint8_t **out) {
    uint8_t *copy = weir_batch_alloc(batch, (size_t)rows / 8 + 1);
    if (copy == NULL) {
        return WEIR_E_LIMIT;
    }
    memset(copy, 0, (size_t)rows / 8 + 1);
    for (int64_t i = 0; i < rows; i++) {
        copy[i >> 3] |= (uint8_t)((unsigned)weir_bit_get(bits, start + i) << (i & 7));
    }
    *out = copy;
    return WEIR_OK;
}

static int import_offsets(struct weir_batch *batch, const int32_t *offsets, int64_t start,
                          int64_t rows, int32_t **out) {
    int32_t *copy = weir_batch_alloc(batch, ((size_t)rows + 1) * sizeof(int32_t));
    if (copy == NULL) {
        return WEIR_E_LIMIT;
    }
    copy[0] = 0;
    for (int64_t i = 0; i < rows; i++) {
        copy[i + 1] = offsets[start + i + 1] - offsets[start];
    }
    *out = copy;
    return WEIR_OK;
}

static int import_column(struct weir_batch *batch, struct weir_column *to,
                         const struct ArrowArray *from, const struct ArrowSchema *type,
                         int64_t start, int64_t rows);

/* Text of a dictionary: offsets and bytes rebuilt value by value. */
static int import_dictionary(struct weir_batch *batch, struct weir_column *to,
                             const struct ArrowArray *from, const struct ArrowSchema *type,
                             int64_t start, int64_t rows) {
    const struct ArrowArray *dictionary = from->dictionary;
    const int32_t *offsets = dictionary->buffers[1];
    const uint8_t *bytes = dictionary->buffers[2];
    to->offsets = weir_batch_alloc(batch, ((size_t)rows + 1) * sizeof(int32_t));
    if (to->offsets == NULL) {
        return WEIR_E_LIMIT;
    }
    for (int pass = 0; pass < 2; pass++) {
        int64_t at = 0;
        to->offsets[0] = 0;
        for (int64_t i = 0; i < rows; i++) {
            if (!weir_column_is_null(to, i)) {
                int64_t code;
                switch (type->format[0]) {
                case 'c':
                    code = ((const int8_t *)from->buffers[1])[start + i];
                    break;
                case 's':
                    code = ((const int16_t *)from->buffers[1])[start + i];
                    break;
                case 'i':
                    code = ((const int32_t *)from->buffers[1])[start + i];
                    break;
                default:
                    code = ((const int64_t *)from->buffers[1])[start + i];
                    break;
                }
                code += dictionary->offset;
                size_t length = (size_t)(offsets[code + 1] - offsets[code]);
                if (pass == 1 && length > 0) {
                    memcpy((uint8_t *)to->values + at, bytes + offsets[code], length);
                }
                at += (int64_t)length;
            }
            if (at > INT32_MAX) {
                return WEIR_E_LIMIT;
            }
            to->offsets[i + 1] = (int32_t)at;
        }
        if (pass == 0) {
            to->values = weir_batch_alloc(batch, (size_t)at + 1);
            if (to->values == NULL) {
                return WEIR_E_LIMIT;
            }
        }
    }
    return WEIR_OK;
}

static int import_nested(struct weir_batch *batch, struct weir_column *to,
                         const struct ArrowArray *from, const struct ArrowSchema *type,
                         int64_t start, int64_t rows) {
    const struct ArrowArray *parent = from;
    const struct ArrowSchema *parent_type = type;
    int64_t inner_start = start;
    int64_t inner_rows = rows;
    if (to->type != WEIR_TYPE_STRUCT) {
        const int32_t *offsets = from->buffers[1];
        int rc = import_offsets(batch, offsets, start, rows, &to->offsets);
        if (rc != WEIR_OK) {
            return rc;
        }
        inner_start = offsets[start];
        inner_rows = offsets[start + rows] - offsets[start];
    }
    if (to->type == WEIR_TYPE_MAP) {
        parent = from->children[0];
        parent_type = type->children[0];
        inner_start += parent->offset;
    }
    for (int32_t i = 0; i < to->child_count; i++) {
        const struct ArrowArray *child = parent->children[i];
        int rc = import_column(batch, &to->children[i], child, parent_type->children[i],
                               inner_start + child->offset, inner_rows);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return WEIR_OK;
}

static int import_column(struct weir_batch *batch, struct weir_column *to,
                         const struct ArrowArray *from, const struct ArrowSchema *type,
                         int64_t start, int64_t rows) {
    to->length = rows;
    if (from->null_count != 0 && from->buffers[0] != NULL) {
        int rc = copy_bits(batch, from->buffers[0], start, rows, &to->validity);
        if (rc != WEIR_OK) {
            return rc;
        }
        for (int64_t i = 0; i < rows; i++) {
            to->null_count += !weir_bit_get(to->validity, i);
        }
        if (to->null_count == 0) {
            to->validity = NULL;
        }
    }
    if (from->dictionary != NULL) {
        return import_dictionary(batch, to, from, type, start, rows);
    }
    if (weir_type_is_nested(to->type)) {
        return import_nested(batch, to, from, type, start, rows);
    }
    if (to->type == WEIR_TYPE_BOOL) {
        uint8_t *bits = NULL;
        int rc = copy_bits(batch, from->buffers[1], start, rows, &bits);
        to->values = bits;
        return rc;
    }
    const uint8_t *source = from->buffers[1];
    int64_t first = start * weir_type_width(to->type);
    int64_t bytes = rows * weir_type_width(to->type);
    if (weir_type_is_bytes(to->type)) {
        const int32_t *offsets = from->buffers[1];
        int rc = import_offsets(batch, offsets, start, rows, &to->offsets);
        if (rc != WEIR_OK) {
            return rc;
        }
        source = from->buffers[2];
        first = offsets[start];
        bytes = offsets[start + rows] - offsets[start];
    } else if (to->type == WEIR_TYPE_FLOAT || to->type == WEIR_TYPE_DOUBLE) {
        to->flags = WEIR_COLUMN_MAY_HAVE_NAN;
    }
    to->values = weir_batch_alloc(batch, (size_t)bytes + 1);
    if (to->values == NULL) {
        return WEIR_E_LIMIT;
    }
    if (bytes > 0) {
        memcpy(to->values, source + first, (size_t)bytes);
    }
    return WEIR_OK;
}

int weir_arrow_import_batch(const struct ArrowArray *in, const struct ArrowSchema *type,
                            struct weir_schema *schema, struct weir_pool *pool,
                            struct weir_batch **out, struct weir_error *err) {
    *out = NULL;
    if (in->n_children != schema->count || in->length > INT32_MAX) {
        return weir_error_set(err, WEIR_E_SCHEMA,
                              "arrow import: array and schema differ, or too many rows");
    }
    struct weir_batch *batch = weir_batch_create(pool, schema);
    if (batch == NULL) {
        return weir_error_set(err, WEIR_E_LIMIT, "arrow import: the memory cap is reached");
    }
    batch->rows = (int32_t)in->length;
    for (int32_t i = 0; i < schema->count; i++) {
        int rc = import_column(batch, &batch->columns[i], in->children[i], type->children[i],
                               in->offset + in->children[i]->offset, in->length);
        if (rc != WEIR_OK) {
            weir_batch_unref(batch);
            return weir_error_set(err, rc, "arrow import: column %s: memory cap reached",
                                  schema->fields[i].name);
        }
    }
    *out = batch;
    return WEIR_OK;
}
