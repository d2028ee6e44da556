/* Rows as Avro: the columns matched with a schema once, then written a row at a time. */
#include <stdlib.h>
#include <string.h>

#include "core/decimal.h"
#include "sink/encode_avro.h"

enum { VARINT_BYTES = 10, DECIMAL_BYTES = 16, DEPTH_MAX = 64, FIXED_DECIMAL_MAX = 64 };

struct compile {
    const char *dataset;
    const char *name; /* of the field at hand */
    struct weir_error *err;
};

/* --- compiling -------------------------------------------------------------------------------- */

static int compile(struct compile *c, const struct avro_type *type, const struct weir_field *field,
                   int depth, struct avro_out *out);

static int misfit(struct compile *c, const struct avro_type *type, const struct weir_field *field) {
    struct weir_buffer text;
    weir_buffer_init(&text, 4096);
    const char *column =
        weir_field_format_type(field, &text) == WEIR_OK ? weir_buffer_text(&text) : NULL;
    int rc = weir_error_set(c->err, WEIR_E_CONFIG,
                            "%s: column `%s` is %s, which Avro's %s%s in the schema cannot hold "
                            "exactly; correct the schema or the column",
                            c->dataset, c->name, column != NULL ? column : "of another type",
                            avro_kind_name(type->kind),
                            type->logical == AVRO_DECIMAL     ? " (decimal)"
                            : type->logical == AVRO_TIMESTAMP ? " (timestamp)"
                            : type->logical == AVRO_DATE      ? " (date)"
                                                              : "");
    weir_buffer_fini(&text);
    return rc;
}

static int unfilled(struct compile *c) {
    return weir_error_set(c->err, WEIR_E_CONFIG,
                          "%s: no column fills field \"%s\" of the Avro schema, and it may not be "
                          "null; add the column, or take the field out",
                          c->dataset, c->name);
}

static struct avro_out *children_of(struct compile *c, struct avro_out *out, int32_t count) {
    out->children = calloc((size_t)count + 1, sizeof(*out->children));
    if (out->children == NULL) {
        weir_error_set(c->err, WEIR_E_NOMEM, "%s: out of memory", c->dataset);
    } else {
        out->child_count = count;
    }
    return out->children;
}

/* Columns `fields` as the fields of a record: all of either are accounted for. */
static int compile_record(struct compile *c, const struct avro_type *type,
                          const struct weir_field *fields, int32_t count, const bool *included,
                          int depth, struct avro_out *out) {
    out->put = AVRO_OUT_RECORD;
    out->wire = type;
    out->null_branch = out->value_branch = -1;
    if (children_of(c, out, type->field_count) == NULL) {
        return WEIR_E_NOMEM;
    }
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < type->field_count; i++) {
        const struct avro_field *field = &type->fields[i];
        int32_t column = 0;
        while (column < count && ((included != NULL && !included[column]) ||
                                  strcmp(fields[column].name, field->name) != 0)) {
            column++;
        }
        c->name = field->name;
        rc = compile(c, field->type, column < count ? &fields[column] : NULL, depth + 1,
                     &out->children[i]);
        out->children[i].name = field->name;
        out->children[i].column = column < count ? column : -1;
    }
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        bool known = included != NULL && !included[i];
        for (int32_t f = 0; !known && f < type->field_count; f++) {
            known = strcmp(type->fields[f].name, fields[i].name) == 0;
        }
        if (!known) {
            rc = weir_error_set(c->err, WEIR_E_CONFIG,
                                "%s: the Avro schema has no field for column `%s`; add it there, "
                                "or drop the column",
                                c->dataset, fields[i].name);
        }
    }
    return rc;
}

static int compile_union(struct compile *c, const struct avro_type *type,
                         const struct weir_field *field, int depth, struct avro_out *out) {
    int8_t null_branch = -1;
    int rc = WEIR_E_CONFIG;
    for (int32_t i = 0; i < type->branch_count && i < INT8_MAX; i++) {
        null_branch = type->branches[i]->kind == AVRO_NULL ? (int8_t)i : null_branch;
    }
    if (field == NULL) {
        out->put = AVRO_OUT_NULL;
        rc = null_branch < 0 ? unfilled(c) : WEIR_OK;
    }
    for (int32_t i = 0; field != NULL && rc == WEIR_E_CONFIG && i < type->branch_count; i++) {
        if (i != null_branch) {
            avro_out_fini(out);
            rc = compile(c, type->branches[i], field, depth + 1, out);
            out->value_branch = (int8_t)i;
        }
    }
    out->null_branch = null_branch;
    if (rc == WEIR_OK) {
        weir_error_clear(c->err); /* of branches tried in vain */
    }
    return rc;
}

static int compile_int(struct compile *c, const struct avro_type *type,
                       const struct weir_field *field, struct avro_out *out) {
    bool wide = type->kind == AVRO_LONG;
    bool fits = false;
    out->multiply = 1;
    switch (field->type) {
    case WEIR_TYPE_INT8:
    case WEIR_TYPE_INT16:
    case WEIR_TYPE_INT32:
        fits = type->logical == AVRO_PLAIN;
        break;
    case WEIR_TYPE_INT64:
        fits = wide && type->logical == AVRO_PLAIN;
        break;
    case WEIR_TYPE_DATE:
        fits = type->logical == AVRO_DATE;
        break;
    default:
        if (weir_type_is_timestamp(field->type) && type->logical == AVRO_TIMESTAMP) {
            int64_t per_second =
                field->type >= WEIR_TYPE_TIMESTAMP_NS ? INT64_C(1000000000) : INT64_C(1000000);
            fits = type->per_second >= per_second;
            out->multiply = fits ? type->per_second / per_second : 1;
        }
    }
    out->put = AVRO_OUT_INT;
    return fits ? WEIR_OK : misfit(c, type, field);
}

static int compile_bytes(struct compile *c, const struct avro_type *type,
                         const struct weir_field *field, struct avro_out *out) {
    bool fixed = type->kind == AVRO_FIXED;
    if (field->type == WEIR_TYPE_DECIMAL) {
        out->put = fixed ? AVRO_OUT_DECIMAL_FIXED : AVRO_OUT_DECIMAL;
        return type->logical == AVRO_DECIMAL && type->scale == field->scale &&
                       type->precision >= field->precision &&
                       (!fixed || type->size <= FIXED_DECIMAL_MAX)
                   ? WEIR_OK
                   : misfit(c, type, field);
    }
    out->put = fixed ? AVRO_OUT_FIXED : AVRO_OUT_BYTES;
    bool fits = type->logical != AVRO_DECIMAL &&
                (field->type == WEIR_TYPE_BINARY ||
                 (field->type == WEIR_TYPE_STRING && type->kind == AVRO_STRING));
    return fits && !(type->kind == AVRO_STRING && field->type == WEIR_TYPE_BINARY)
               ? WEIR_OK
               : misfit(c, type, field);
}

static int compile_items(struct compile *c, const struct avro_type *type,
                         const struct weir_field *field, int depth, struct avro_out *out) {
    bool map = type->kind == AVRO_MAP;
    if (field->type != (map ? WEIR_TYPE_MAP : WEIR_TYPE_LIST) ||
        (map && field->children[0].type != WEIR_TYPE_STRING)) {
        return misfit(c, type, field);
    }
    out->put = map ? AVRO_OUT_MAP : AVRO_OUT_LIST;
    if (children_of(c, out, 1) == NULL) {
        return WEIR_E_NOMEM;
    }
    int rc =
        compile(c, type->branches[0], &field->children[map ? 1 : 0], depth + 1, &out->children[0]);
    out->children[0].name = c->name;
    return rc;
}

static int compile(struct compile *c, const struct avro_type *type, const struct weir_field *field,
                   int depth, struct avro_out *out) {
    memset(out, 0, sizeof(*out));
    out->wire = type;
    out->name = c->name;
    out->null_branch = out->value_branch = -1;
    if (depth > DEPTH_MAX) {
        return weir_error_set(c->err, WEIR_E_CONFIG, "%s: `%s` is nested deeper than %d levels",
                              c->dataset, c->name, DEPTH_MAX);
    }
    if (type->kind == AVRO_UNION) {
        return compile_union(c, type, field, depth, out);
    }
    if (field == NULL) {
        out->put = AVRO_OUT_NULL;
        return type->kind == AVRO_NULL ? WEIR_OK : unfilled(c);
    }
    static const struct {
        uint8_t column;
        enum avro_out_put put;
    } simple[] = {
        [AVRO_BOOLEAN] = {WEIR_TYPE_BOOL, AVRO_OUT_BOOL},
        [AVRO_FLOAT] = {WEIR_TYPE_FLOAT, AVRO_OUT_FLOAT},
        [AVRO_ENUM] = {WEIR_TYPE_STRING, AVRO_OUT_ENUM},
    };
    switch (type->kind) {
    case AVRO_BOOLEAN:
    case AVRO_FLOAT:
    case AVRO_ENUM:
        out->put = simple[type->kind].put;
        return field->type == simple[type->kind].column ? WEIR_OK : misfit(c, type, field);
    case AVRO_DOUBLE:
        out->put = AVRO_OUT_DOUBLE;
        return field->type == WEIR_TYPE_DOUBLE || field->type == WEIR_TYPE_FLOAT
                   ? WEIR_OK
                   : misfit(c, type, field);
    case AVRO_INT:
    case AVRO_LONG:
        return compile_int(c, type, field, out);
    case AVRO_BYTES:
    case AVRO_STRING:
    case AVRO_FIXED:
        return compile_bytes(c, type, field, out);
    case AVRO_ARRAY:
    case AVRO_MAP:
        return compile_items(c, type, field, depth, out);
    case AVRO_RECORD:
        return field->type == WEIR_TYPE_STRUCT
                   ? compile_record(c, type, field->children, field->child_count, NULL, depth, out)
                   : misfit(c, type, field);
    default:
        return misfit(c, type, field);
    }
}

int avro_out_compile(const struct avro_type *type, const struct weir_schema *schema,
                     const bool *included, const char *dataset, struct avro_out *out,
                     struct weir_error *err) {
    struct compile c = {.dataset = dataset, .name = "", .err = err};
    memset(out, 0, sizeof(*out));
    if (type->kind == AVRO_RECORD) {
        return compile_record(&c, type, schema->fields, schema->count, included, 0, out);
    }
    int32_t only = 0;
    while (only < schema->count && !included[only]) {
        only++;
    }
    if (only == schema->count) {
        return weir_error_set(err, WEIR_E_CONFIG, "%s: no column is left for an Avro message",
                              dataset);
    }
    c.name = schema->fields[only].name;
    int rc = compile(&c, type, &schema->fields[only], 0, out);
    out->column = only;
    return rc;
}

void avro_out_fini(struct avro_out *plan) {
    for (int32_t i = 0; i < plan->child_count; i++) {
        avro_out_fini(&plan->children[i]);
    }
    free(plan->children);
    plan->children = NULL;
    plan->child_count = 0;
}

/* --- writing ---------------------------------------------------------------------------------- */

static inline int room(struct weir_buffer *out, size_t bytes) {
    return out->capacity - out->size >= bytes ? WEIR_OK : weir_buffer_reserve(out, bytes);
}

/* With room for VARINT_BYTES. */
static inline void put_varint(struct weir_buffer *out, int64_t value) {
    uint64_t left = ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
    uint8_t *at = out->data + out->size;
    while (left > 0x7f) {
        *at++ = (uint8_t)(left | 0x80);
        left >>= 7;
    }
    *at++ = (uint8_t)left;
    out->size = (size_t)(at - out->data);
}

static inline void put_raw(struct weir_buffer *out, const void *bytes, size_t size) {
    memcpy(out->data + out->size, bytes, size);
    out->size += size;
}

static int put_value(const struct avro_out *plan, const struct weir_column *column, int32_t row,
                     struct weir_buffer *out, struct weir_error *err);

static int put_int(const struct avro_out *plan, const struct weir_column *column, int32_t row,
                   struct weir_buffer *out, struct weir_error *err) {
    int64_t value = weir_column_int(column, row);
    if (__builtin_mul_overflow(value, plan->multiply, &value)) {
        return weir_error_set(err, WEIR_E_DATA,
                              "the time in `%s` is out of the range of the Avro schema's unit; let "
                              "it be timestamp-micros there",
                              plan->name);
    }
    put_varint(out, value);
    return WEIR_OK;
}

/* Big-endian two's complement in as few bytes as hold it; returns how many. */
static int minimal(__int128 value, uint8_t bytes[DECIMAL_BYTES]) {
    for (int i = DECIMAL_BYTES - 1; i >= 0; i--) {
        bytes[i] = (uint8_t)value;
        value >>= 8;
    }
    int from = 0;
    while (from < DECIMAL_BYTES - 1 && ((bytes[from] == 0 && bytes[from + 1] < 0x80) ||
                                        (bytes[from] == 0xff && bytes[from + 1] >= 0x80))) {
        from++;
    }
    return DECIMAL_BYTES - from;
}

static int put_decimal(const struct avro_out *plan, const struct weir_column *column, int32_t row,
                       struct weir_buffer *out, struct weir_error *err) {
    __int128 value;
    uint8_t bytes[DECIMAL_BYTES];
    memcpy(&value, (const uint8_t *)column->values + (size_t)row * sizeof(value), sizeof(value));
    int size = minimal(value, bytes);
    if (plan->put == AVRO_OUT_DECIMAL) {
        put_varint(out, size);
    } else {
        int wanted = plan->wire->size;
        if (size > wanted) {
            return weir_error_set(err, WEIR_E_DATA,
                                  "a decimal of `%s` needs %d bytes, and fixed %s has %d; make it "
                                  "larger in the schema",
                                  plan->name, size, plan->wire->name, wanted);
        }
        memset(out->data + out->size, value < 0 ? 0xff : 0, (size_t)(wanted - size));
        out->size += (size_t)(wanted - size);
    }
    put_raw(out, bytes + DECIMAL_BYTES - size, (size_t)size);
    return WEIR_OK;
}

static int put_bytes(const struct avro_out *plan, const struct weir_column *column, int32_t row,
                     struct weir_buffer *out, struct weir_error *err) {
    int32_t length;
    const char *bytes = weir_column_bytes(column, row, &length);
    if (plan->put == AVRO_OUT_ENUM) {
        for (int32_t i = 0; i < plan->wire->symbol_count; i++) {
            const char *symbol = plan->wire->symbols[i];
            if (strlen(symbol) == (size_t)length && memcmp(symbol, bytes, (size_t)length) == 0) {
                put_varint(out, i);
                return WEIR_OK;
            }
        }
        return weir_error_set(err, WEIR_E_DATA,
                              "\"%.*s\" in `%s` is no symbol of enum %s in the Avro schema; add it "
                              "there, or refuse such rows: one_of(\"%s\", { … })",
                              length < 80 ? length : 80, bytes, plan->name, plan->wire->name,
                              plan->name);
    }
    if (plan->put == AVRO_OUT_FIXED && length != plan->wire->size) {
        return weir_error_set(err, WEIR_E_DATA, "%d bytes in `%s`, and fixed %s has %d", length,
                              plan->name, plan->wire->name, plan->wire->size);
    }
    int rc = room(out, (size_t)length + VARINT_BYTES);
    if (rc == WEIR_OK) {
        if (plan->put == AVRO_OUT_BYTES) {
            put_varint(out, length);
        }
        put_raw(out, bytes, (size_t)length);
    }
    return rc;
}

static int put_items(const struct avro_out *plan, const struct weir_column *column, int32_t row,
                     struct weir_buffer *out, struct weir_error *err) {
    int32_t from = column->offsets[row];
    int32_t to = column->offsets[row + 1];
    bool map = plan->put == AVRO_OUT_MAP;
    static const struct avro_out key = {
        .put = AVRO_OUT_BYTES, .name = "key", .null_branch = -1, .value_branch = -1};
    int rc = WEIR_OK;
    if (to > from) {
        put_varint(out, to - from);
    }
    for (int32_t i = from; rc == WEIR_OK && i < to; i++) {
        rc = map ? put_bytes(&key, &column->children[0], i, out, err) : WEIR_OK;
        rc = rc == WEIR_OK
                 ? put_value(&plan->children[0], &column->children[map ? 1 : 0], i, out, err)
                 : rc;
    }
    rc = rc == WEIR_OK ? room(out, 1) : rc;
    if (rc == WEIR_OK) {
        out->data[out->size++] = 0;
    }
    return rc;
}

static int put_record(const struct avro_out *plan, const struct weir_column *columns, int32_t row,
                      struct weir_buffer *out, struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < plan->child_count; i++) {
        const struct avro_out *child = &plan->children[i];
        rc = put_value(child, child->column >= 0 ? &columns[child->column] : NULL, row, out, err);
    }
    return rc;
}

static int put_null(const struct avro_out *plan, struct weir_buffer *out, struct weir_error *err) {
    if (plan->null_branch < 0 && plan->wire->kind != AVRO_NULL) {
        return weir_error_set(err, WEIR_E_DATA,
                              "`%s` is null, and the Avro schema does not allow it; refuse such "
                              "rows (not_null \"%s\"), or allow null there",
                              plan->name, plan->name);
    }
    if (plan->null_branch >= 0) {
        put_varint(out, plan->null_branch);
    }
    return WEIR_OK;
}

static int put_value(const struct avro_out *plan, const struct weir_column *column, int32_t row,
                     struct weir_buffer *out, struct weir_error *err) {
    int rc = room(out, VARINT_BYTES * 2 + FIXED_DECIMAL_MAX);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (column == NULL || weir_column_is_null(column, row)) {
        return put_null(plan, out, err);
    }
    if (plan->value_branch >= 0) {
        put_varint(out, plan->value_branch);
    }
    switch (plan->put) {
    case AVRO_OUT_BOOL:
        out->data[out->size++] = weir_bit_get(column->values, row);
        return WEIR_OK;
    case AVRO_OUT_INT:
        return put_int(plan, column, row, out, err);
    case AVRO_OUT_FLOAT:
        put_raw(out, (const uint8_t *)column->values + (size_t)row * 4, 4);
        return WEIR_OK;
    case AVRO_OUT_DOUBLE: {
        double value = column->type == WEIR_TYPE_FLOAT
                           ? (double)((const float *)column->values)[row]
                           : ((const double *)column->values)[row];
        put_raw(out, &value, sizeof(value));
        return WEIR_OK;
    }
    case AVRO_OUT_DECIMAL:
    case AVRO_OUT_DECIMAL_FIXED:
        return put_decimal(plan, column, row, out, err);
    case AVRO_OUT_LIST:
    case AVRO_OUT_MAP:
        return put_items(plan, column, row, out, err);
    case AVRO_OUT_RECORD:
        return put_record(plan, column->children, row, out, err);
    case AVRO_OUT_NULL:
        return put_null(plan, out, err);
    default:
        return put_bytes(plan, column, row, out, err);
    }
}

int avro_out_write(const struct avro_out *plan, const struct weir_batch *batch, int32_t row,
                   struct weir_buffer *out, struct weir_error *err) {
    return plan->put == AVRO_OUT_RECORD
               ? put_record(plan, batch->columns, row, out, err)
               : put_value(plan, &batch->columns[plan->column], row, out, err);
}
