/* Import: values are copied into pool buffers, because a foreign array lives by its own release
 * callback and its offset need not suit us. Dictionaries arrive decoded. Buffers come without their
 * sizes, so they are trusted; what the structs say of each other is checked. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch/arrow.h"

enum { IMPORT_DEPTH_MAX = 32, IMPORT_FIELDS_MAX = 1 << 16 };

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
    int bits = 128; /* said only when it differs */
    char rest;
    int read = sscanf(f, "d:%d,%d,%d%c", &p, &s, &bits, &rest);
    if ((read == 3 || (read == 2 && f[strlen(f) - 1] != ',')) && bits == 128 && p >= 1 && p <= 38 &&
        s >= 0 && s <= p) {
        *precision = (uint8_t)p;
        *scale = (int8_t)s;
        return WEIR_TYPE_DECIMAL;
    }
    return WEIR_TYPE_NONE;
}

/* --- schema ------------------------------------------------------------------------------- */

/* Where the fields of a nested type are: a map's are those of its entries. */
static const struct ArrowSchema *fields_of(const struct ArrowSchema *type, uint8_t kind) {
    return kind == WEIR_TYPE_MAP && type->n_children == 1 ? type->children[0] : type;
}

static const char *own_name(uint8_t parent, int64_t child) {
    return parent == WEIR_TYPE_LIST ? "element" : child == 0 ? "key" : "value";
}

static bool has_fields(const struct ArrowSchema *fields, uint8_t kind) {
    if (kind == WEIR_TYPE_LIST) {
        return fields->n_children == 1;
    }
    if (kind == WEIR_TYPE_MAP) {
        return fields->n_children == 2 && strcmp(fields->format, "+s") == 0;
    }
    return fields->n_children >= 0 && fields->n_children <= IMPORT_FIELDS_MAX;
}

static int import_field(const struct ArrowSchema *in, const char *name, struct weir_field *field,
                        int depth, struct weir_error *err) {
    memset(field, 0, sizeof(*field));
    if (depth > IMPORT_DEPTH_MAX) {
        return weir_error_set(err, WEIR_E_SCHEMA, "arrow column %s: nested too deeply", name);
    }
    field->name = strdup(name != NULL ? name : in->name != NULL ? in->name : "");
    if (field->name == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "arrow import: out of memory");
    }
    field->nullable = (in->flags & ARROW_FLAG_NULLABLE) != 0;
    const struct ArrowSchema *type = in->dictionary != NULL ? in->dictionary : in;
    field->type = type_of_format(type->format, &field->precision, &field->scale);
    bool dictionary_fits =
        in->dictionary == NULL || (weir_type_is_bytes(field->type) && strlen(in->format) == 1 &&
                                   strchr("cCsSiIlL", in->format[0]) != NULL);
    const struct ArrowSchema *fields = fields_of(type, field->type);
    bool nested = weir_type_is_nested(field->type);
    if (field->type == WEIR_TYPE_NONE || !dictionary_fits ||
        (nested && !has_fields(fields, field->type))) {
        return weir_error_set(
            err, WEIR_E_SCHEMA, "arrow column %s: type '%s%s' is not supported; cast it first",
            field->name, in->dictionary != NULL ? "dictionary of " : "", type->format);
    }
    if (nested && fields->n_children > 0) {
        field->children = calloc((size_t)fields->n_children, sizeof(*field->children));
        if (field->children == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "arrow import: out of memory");
        }
    }
    for (int64_t i = 0; nested && i < fields->n_children; i++) {
        field->child_count++;
        const char *child = field->type == WEIR_TYPE_STRUCT ? NULL : own_name(field->type, i);
        int rc = import_field(fields->children[i], child, &field->children[i], depth + 1, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    if (field->type == WEIR_TYPE_MAP) {
        field->children[0].nullable = false;
    }
    return WEIR_OK;
}

int weir_arrow_import_schema(const struct ArrowSchema *in, struct weir_schema **out,
                             struct weir_error *err) {
    *out = NULL;
    if (strcmp(in->format, "+s") != 0 || in->n_children > IMPORT_FIELDS_MAX) {
        return weir_error_set(err, WEIR_E_SCHEMA, "arrow import: expected a struct, got '%s'",
                              in->format);
    }
    struct weir_schema *schema = weir_schema_create();
    int rc = schema == NULL ? WEIR_E_NOMEM : WEIR_OK;
    for (int64_t i = 0; rc == WEIR_OK && i < in->n_children; i++) {
        struct weir_field field;
        rc = import_field(in->children[i], NULL, &field, 0, err);
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

/* --- values ------------------------------------------------------------------------------- */

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

/* Offsets from 0 on; *first and *count say which children or bytes they speak of. An array without
 * rows may come without offsets. */
static int import_offsets(struct weir_batch *batch, const struct ArrowArray *from, int64_t start,
                          int64_t rows, int32_t **out, int64_t *first, int64_t *count) {
    const int32_t *offsets = from->buffers[1];
    int32_t *copy = weir_batch_alloc(batch, ((size_t)rows + 1) * sizeof(int32_t));
    if (copy == NULL) {
        return WEIR_E_LIMIT;
    }
    copy[0] = 0;
    *first = rows > 0 ? offsets[start] : 0;
    for (int64_t i = 0; i < rows; i++) {
        int64_t at = offsets[start + i + 1] - *first;
        if (*first < 0 || at < copy[i]) {
            return WEIR_E_CORRUPT;
        }
        copy[i + 1] = (int32_t)at;
    }
    *out = copy;
    *count = copy[rows];
    return WEIR_OK;
}

static int import_column(struct weir_batch *batch, struct weir_column *to,
                         const struct ArrowArray *from, const struct ArrowSchema *type,
                         int64_t start, int64_t rows);

static int64_t index_at(const void *indices, char format, int64_t row) {
    switch (format) {
    case 'c':
        return ((const int8_t *)indices)[row];
    case 'C':
        return ((const uint8_t *)indices)[row];
    case 's':
        return ((const int16_t *)indices)[row];
    case 'S':
        return ((const uint16_t *)indices)[row];
    case 'i':
        return ((const int32_t *)indices)[row];
    case 'I':
        return ((const uint32_t *)indices)[row];
    default: /* an unsigned one past INT64_MAX is refused as negative */
        return ((const int64_t *)indices)[row];
    }
}

/* Codes whose dictionary value is null make the row null. */
static int take_nulls_of_dictionary(struct weir_batch *batch, struct weir_column *to,
                                    const struct ArrowArray *from, char format, int64_t start) {
    const struct ArrowArray *dictionary = from->dictionary;
    const uint8_t *valid = dictionary->null_count != 0 ? dictionary->buffers[0] : NULL;
    for (int64_t i = 0; i < to->length; i++) {
        if (weir_column_is_null(to, i)) {
            continue;
        }
        int64_t code = index_at(from->buffers[1], format, start + i);
        if (code < 0 || code >= dictionary->length) {
            return WEIR_E_CORRUPT;
        }
        if (valid == NULL || weir_bit_get(valid, dictionary->offset + code)) {
            continue;
        }
        if (to->validity == NULL) {
            size_t bytes = (size_t)to->length / 8 + 1;
            to->validity = weir_batch_alloc(batch, bytes);
            if (to->validity == NULL) {
                return WEIR_E_LIMIT;
            }
            memset(to->validity, 0xff, bytes);
        }
        weir_bit_clear(to->validity, i);
        to->null_count++;
    }
    return WEIR_OK;
}

/* Text of a dictionary: offsets and bytes rebuilt value by value. */
static int import_dictionary(struct weir_batch *batch, struct weir_column *to,
                             const struct ArrowArray *from, const struct ArrowSchema *type,
                             int64_t start) {
    const struct ArrowArray *dictionary = from->dictionary;
    const int32_t *offsets = dictionary->buffers[1];
    const uint8_t *bytes = dictionary->buffers[2];
    char format = type->format[0];
    int rc = take_nulls_of_dictionary(batch, to, from, format, start);
    if (rc != WEIR_OK) {
        return rc;
    }
    to->offsets = weir_batch_alloc(batch, ((size_t)to->length + 1) * sizeof(int32_t));
    if (to->offsets == NULL) {
        return WEIR_E_LIMIT;
    }
    for (int pass = 0; pass < 2; pass++) {
        int64_t at = 0;
        to->offsets[0] = 0;
        for (int64_t i = 0; i < to->length; i++) {
            if (!weir_column_is_null(to, i)) {
                int64_t code = index_at(from->buffers[1], format, start + i) + dictionary->offset;
                if (offsets[code + 1] < offsets[code]) {
                    return WEIR_E_CORRUPT;
                }
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

static bool has_rows(const struct ArrowArray *array, int64_t first, int64_t rows) {
    return array->offset >= 0 && first >= 0 && rows <= array->length &&
           first <= array->length - rows;
}

static int import_nested(struct weir_batch *batch, struct weir_column *to,
                         const struct ArrowArray *from, const struct ArrowSchema *type,
                         int64_t start, int64_t rows) {
    const struct ArrowArray *parent = from;
    const struct ArrowSchema *fields = fields_of(type, to->type);
    int64_t inner_start = start;
    int64_t inner_rows = rows;
    if (to->type != WEIR_TYPE_STRUCT) {
        int rc = import_offsets(batch, from, start, rows, &to->offsets, &inner_start, &inner_rows);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    if (to->type == WEIR_TYPE_MAP) {
        if (from->n_children != 1 || !has_rows(from->children[0], inner_start, inner_rows)) {
            return WEIR_E_CORRUPT;
        }
        parent = from->children[0];
        inner_start += parent->offset;
    }
    if (parent->n_children != to->child_count) {
        return WEIR_E_CORRUPT;
    }
    for (int32_t i = 0; i < to->child_count; i++) {
        const struct ArrowArray *child = parent->children[i];
        if (!has_rows(child, inner_start, inner_rows)) {
            return WEIR_E_CORRUPT;
        }
        int rc = import_column(batch, &to->children[i], child, fields->children[i],
                               inner_start + child->offset, inner_rows);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return WEIR_OK;
}

static int64_t buffer_count(const struct weir_column *column, bool dictionary) {
    return dictionary                         ? 2
           : weir_type_is_bytes(column->type) ? 3
           : column->type == WEIR_TYPE_STRUCT ? 1
                                              : 2;
}

/* Rows [start, start + rows) of the buffers; `start` counts the array's own offset in. */
static int import_column(struct weir_batch *batch, struct weir_column *to,
                         const struct ArrowArray *from, const struct ArrowSchema *type,
                         int64_t start, int64_t rows) {
    bool dictionary = type->dictionary != NULL;
    if (dictionary != (from->dictionary != NULL) ||
        from->n_buffers != buffer_count(to, dictionary)) {
        return WEIR_E_CORRUPT;
    }
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
    if (dictionary) {
        return import_dictionary(batch, to, from, type, start);
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
        int rc = import_offsets(batch, from, start, rows, &to->offsets, &first, &bytes);
        if (rc != WEIR_OK) {
            return rc;
        }
        source = from->buffers[2];
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

/* A batch has no null rows; a struct array may. */
static bool has_null_rows(const struct ArrowArray *in) {
    const uint8_t *valid = in->null_count != 0 && in->n_buffers > 0 ? in->buffers[0] : NULL;
    bool null = false;
    for (int64_t i = 0; valid != NULL && !null && i < in->length; i++) {
        null = !weir_bit_get(valid, in->offset + i);
    }
    return null;
}

int weir_arrow_import_batch(const struct ArrowArray *in, const struct ArrowSchema *type,
                            struct weir_schema *schema, struct weir_pool *pool,
                            struct weir_batch **out, struct weir_error *err) {
    *out = NULL;
    if (in->n_children != schema->count || type->n_children != schema->count || in->length < 0 ||
        in->length > INT32_MAX || in->offset < 0) {
        return weir_error_set(err, WEIR_E_SCHEMA,
                              "arrow import: array and schema differ, or too many rows");
    }
    if (has_null_rows(in)) {
        return weir_error_set(err, WEIR_E_UNSUPPORTED,
                              "arrow import: the struct array has null rows; drop them first");
    }
    struct weir_batch *batch = weir_batch_create(pool, schema);
    if (batch == NULL) {
        return weir_error_set(err, WEIR_E_LIMIT, "arrow import: the memory cap is reached");
    }
    batch->rows = (int32_t)in->length;
    for (int32_t i = 0; i < schema->count; i++) {
        const struct ArrowArray *child = in->children[i];
        int rc = has_rows(child, in->offset, in->length)
                     ? import_column(batch, &batch->columns[i], child, type->children[i],
                                     in->offset + child->offset, in->length)
                     : WEIR_E_CORRUPT;
        if (rc != WEIR_OK) {
            weir_batch_unref(batch);
            return weir_error_set(err, rc, "arrow import: column %s: %s", schema->fields[i].name,
                                  rc == WEIR_E_LIMIT
                                      ? "the memory cap is reached, or text passes 2 GiB"
                                      : "its arrays, offsets or codes do not fit together");
        }
    }
    *out = batch;
    return WEIR_OK;
}
