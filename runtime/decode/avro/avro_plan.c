/* Compiling a pair of schemas into a field plan. */
#include "decode/avro/avro_plan.h"

#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 48 };

struct compiler {
    struct weir_error *err;
};

static int resolve(struct compiler *c, const struct avro_type *writer,
                   const struct avro_type *reader, struct json_field *f, struct avro_node *out,
                   int depth);

static int out_of_memory(struct compiler *c) {
    return weir_error_set(c->err, WEIR_E_NOMEM, "avro: out of memory for a field plan");
}

void avro_plan_fini(struct avro_node *node) {
    for (int32_t i = 0; i < node->child_count; i++) {
        avro_plan_fini(&node->children[i]);
    }
    free(node->children);
    free(node->symbols);
    free(node->absent);
    free(node->steps);
    free(node->reason);
    memset(node, 0, sizeof(*node));
}

static int cannot(struct compiler *c, const struct avro_type *writer, const struct json_field *f) {
    struct weir_buffer type;
    weir_buffer_init(&type, 4096);
    const char *name =
        weir_field_format_type(f->field, &type) == WEIR_OK ? weir_buffer_text(&type) : NULL;
    int rc = weir_error_set(c->err, WEIR_E_SCHEMA, "the writer's %s cannot become %s",
                            avro_kind_name(writer->kind),
                            name != NULL ? name : weir_type_name(f->field->type));
    weir_buffer_fini(&type);
    return rc;
}

static int add_children(struct compiler *c, struct avro_node *out, int32_t count) {
    out->children = calloc((size_t)count + 1, sizeof(*out->children));
    if (out->children == NULL) {
        return out_of_memory(c);
    }
    out->child_count = count;
    for (int32_t i = 0; i < count; i++) {
        out->children[i].column = -1;
    }
    return WEIR_OK;
}

/* The reader's type for a value that is there: the one of a nullable union's. */
static const struct avro_type *beside_null(const struct avro_type *type) {
    while (type != NULL && type->kind == AVRO_UNION) {
        const struct avro_type *found = NULL;
        for (int32_t i = 0; i < type->branch_count; i++) {
            found = type->branches[i]->kind != AVRO_NULL ? type->branches[i] : found;
        }
        type = found;
    }
    return type;
}

/* --- numbers ---------------------------------------------------------------------------------- */

static void range_of(uint8_t type, struct avro_node *out) {
    static const struct {
        uint8_t type;
        int32_t width;
    } ints[] = {
        {WEIR_TYPE_INT8, 1}, {WEIR_TYPE_INT16, 2}, {WEIR_TYPE_INT32, 4}, {WEIR_TYPE_DATE, 4}};
    out->width = 8;
    for (size_t i = 0; i < sizeof(ints) / sizeof(*ints); i++) {
        out->width = ints[i].type == type ? ints[i].width : out->width;
    }
    out->low = out->width == 8 ? INT64_MIN : -(INT64_C(1) << (out->width * 8 - 1));
    out->high = out->width == 8 ? INT64_MAX : (INT64_C(1) << (out->width * 8 - 1)) - 1;
    out->multiply = 1;
    out->divide = 1;
}

static bool is_timestamp(uint8_t type) {
    return type >= WEIR_TYPE_TIMESTAMP && type <= WEIR_TYPE_TIMESTAMP_NS_NTZ;
}

static int resolve_whole(struct compiler *c, const struct avro_type *writer, struct json_field *f,
                         struct avro_node *out) {
    uint8_t type = f->field->type;
    if (type == WEIR_TYPE_FLOAT || type == WEIR_TYPE_DOUBLE) {
        out->put = AVRO_PUT_REAL_OF_INT;
        return WEIR_OK;
    }
    bool fits = (type >= WEIR_TYPE_INT8 && type <= WEIR_TYPE_INT64) || type == WEIR_TYPE_DATE ||
                is_timestamp(type);
    if (!fits || (type == WEIR_TYPE_DATE && writer->kind != AVRO_INT)) {
        return cannot(c, writer, f);
    }
    out->put = AVRO_PUT_INT;
    range_of(type, out);
    if (is_timestamp(type)) {
        /* In the writer's unit where it says one, else in the unit the reader's schema names. */
        int64_t unit = writer->logical == AVRO_TIMESTAMP ? writer->per_second
                                                         : f->per_second / f->epoch_factor;
        if (unit <= f->per_second) {
            out->multiply = f->per_second / unit;
        } else {
            out->divide = unit / f->per_second;
        }
    }
    return WEIR_OK;
}

static int resolve_decimal(struct compiler *c, const struct avro_type *writer, struct json_field *f,
                           struct avro_node *out) {
    int32_t scale = writer->logical == AVRO_DECIMAL ? writer->scale : f->field->scale;
    out->put = AVRO_PUT_DECIMAL;
    out->exponent = f->field->scale - scale;
    out->width = writer->kind == AVRO_FIXED ? writer->size : -1;
    if (out->exponent < 0) {
        return weir_error_set(c->err, WEIR_E_SCHEMA,
                              "the writer's decimal has %d digits after the point, the column %d; "
                              "widen the column",
                              scale, f->field->scale);
    }
    return WEIR_OK;
}

/* --- texts and bytes ---------------------------------------------------------------------------
 */

static bool has_symbol(char *const *symbols, int32_t count, const char *symbol) {
    bool has = false;
    for (int32_t i = 0; !has && i < count; i++) {
        has = strcmp(symbols[i], symbol) == 0;
    }
    return has;
}

/* Where symbols are not the column's to say, but those of the newest schema, one that it has no
 * more stays as it is, unless there is a default for it. */
static int resolve_enum(struct compiler *c, const struct avro_type *writer,
                        const struct avro_type *reader, struct json_field *f,
                        struct avro_node *out) {
    if (f->field->type != WEIR_TYPE_STRING) {
        return cannot(c, writer, f);
    }
    out->put = AVRO_PUT_ENUM;
    out->symbols = calloc((size_t)writer->symbol_count + 1, sizeof(*out->symbols));
    if (out->symbols == NULL) {
        return out_of_memory(c);
    }
    for (int32_t i = 0; i < writer->symbol_count; i++) {
        bool known = f->hint->symbol_count == 0 ||
                     has_symbol(f->hint->symbols, f->hint->symbol_count, writer->symbols[i]);
        bool has_default =
            reader != NULL && reader->kind == AVRO_ENUM && reader->default_symbol >= 0;
        out->symbols[i] = known ? i : -1;
        if (has_default && !has_symbol(reader->symbols, reader->symbol_count, writer->symbols[i])) {
            out->symbols[i] = -2; /* the reader's default, in `reason` */
            free(out->reason);
            out->reason = strdup(reader->symbols[reader->default_symbol]);
            if (out->reason == NULL) {
                return out_of_memory(c);
            }
        }
    }
    return WEIR_OK;
}

static int resolve_bytes(struct compiler *c, const struct avro_type *writer, struct json_field *f,
                         struct avro_node *out) {
    uint8_t type = f->field->type;
    if (type == WEIR_TYPE_DECIMAL && writer->kind != AVRO_STRING) {
        return resolve_decimal(c, writer, f, out);
    }
    if (writer->kind == AVRO_FIXED) {
        if (type != WEIR_TYPE_BINARY ||
            (f->hint->fixed_bytes > 0 && f->hint->fixed_bytes != writer->size)) {
            return cannot(c, writer, f);
        }
        out->put = AVRO_PUT_FIXED;
        out->width = writer->size;
        return WEIR_OK;
    }
    if (type != WEIR_TYPE_STRING && type != WEIR_TYPE_BINARY) {
        return cannot(c, writer, f);
    }
    out->put = type == WEIR_TYPE_STRING ? AVRO_PUT_TEXT : AVRO_PUT_BYTES;
    out->width = f->hint->fixed_bytes;
    return WEIR_OK;
}

/* --- nested ------------------------------------------------------------------------------------
 */

static const struct avro_field *field_of(const struct avro_type *record, const char *name) {
    for (int32_t i = 0; record != NULL && i < record->field_count; i++) {
        if (strcmp(record->fields[i].name, name) == 0) {
            return &record->fields[i];
        }
    }
    return NULL;
}

/* The reader's field that takes the writer's: by name, else by one of its aliases, where the writer
 * has none of its name. A column the reader's schema does not know (any more) takes what nobody
 * else does. -1: none. */
static int32_t find_column(const struct avro_type *reader, const struct avro_type *writer,
                           const struct json_record *columns, const char *name) {
    int32_t same = json_record_find(columns, (const uint8_t *)name, strlen(name));
    if (same >= 0 && (reader == NULL || field_of(reader, name) != NULL)) {
        return same;
    }
    for (int32_t i = 0; i < columns->count; i++) {
        const struct avro_field *field = field_of(reader, columns->fields[i].field->name);
        bool taken =
            field != NULL && field->alias_count > 0 && field_of(writer, field->name) != NULL;
        for (int32_t a = 0; field != NULL && !taken && a < field->alias_count; a++) {
            if (strcmp(field->aliases[a], name) == 0) {
                return i;
            }
        }
    }
    return same;
}

/* Columns of a registry's newest schema have no defaults inside structs, but that schema has. Those
 * that read alike in Avro and in JSON are taken from it. */
static int take_default(struct json_field *f, const struct avro_field *reader,
                        struct weir_error *err) {
    const char *json = reader != NULL ? reader->default_json : NULL;
    uint8_t type = f->field->type;
    bool alike = type == WEIR_TYPE_BOOL || type == WEIR_TYPE_STRING ||
                 (type >= WEIR_TYPE_INT8 && type <= WEIR_TYPE_DOUBLE);
    bool nothing = json != NULL && ((type == WEIR_TYPE_LIST && strcmp(json, "[]") == 0) ||
                                    (type == WEIR_TYPE_MAP && strcmp(json, "{}") == 0));
    return json != NULL && strcmp(json, "null") != 0 && (alike || nothing)
               ? json_field_default(f, json, err)
               : WEIR_OK;
}

static int resolve_record(struct compiler *c, const struct avro_type *writer,
                          const struct avro_type *reader, struct json_record *columns,
                          struct avro_node *out, int depth) {
    out->put = AVRO_PUT_STRUCT;
    out->wire = writer;
    out->fields = columns->fields;
    out->field_count = columns->count;
    out->absent = calloc((size_t)columns->count / 64 + 1, sizeof(*out->absent));
    if (out->absent == NULL) {
        return out_of_memory(c);
    }
    memset(out->absent, 0xff, ((size_t)columns->count / 64 + 1) * sizeof(*out->absent));
    int rc = add_children(c, out, writer->field_count);
    for (int32_t i = 0; rc == WEIR_OK && i < writer->field_count; i++) {
        const struct avro_field *from = &writer->fields[i];
        struct avro_node *node = &out->children[i];
        node->wire = from->type;
        node->name = from->name;
        int32_t at = find_column(reader, writer, columns, from->name);
        if (at < 0 || (out->absent[at / 64] >> (at % 64) & 1) == 0) {
            node->put = AVRO_PUT_SKIP;
            continue;
        }
        const struct avro_field *to = field_of(reader, columns->fields[at].field->name);
        rc = resolve(c, from->type, to != NULL ? to->type : NULL, &columns->fields[at], node,
                     depth + 1);
        node->name = from->name;
        node->column = at;
        out->absent[at / 64] &= ~(UINT64_C(1) << (at % 64));
        if (rc == WEIR_E_SCHEMA) {
            weir_error_wrap(c->err, "field \"%s\"", from->name);
        }
    }
    for (int32_t i = 0; rc == WEIR_OK && i < columns->count; i++) {
        struct json_field *f = &columns->fields[i];
        bool absent = (out->absent[i / 64] >> (i % 64) & 1) != 0;
        rc = absent ? take_default(f, field_of(reader, f->field->name), c->err) : WEIR_OK;
        if (rc == WEIR_OK && absent && f->default_.text == NULL && !f->field->nullable) {
            rc = weir_error_set(c->err, WEIR_E_SCHEMA,
                                "field \"%s\": the writer has none, and the schema here gives no "
                                "default",
                                f->field->name);
        }
    }
    return rc;
}

static int resolve_items(struct compiler *c, const struct avro_type *writer,
                         const struct avro_type *reader, struct json_field *f,
                         struct avro_node *out, int depth) {
    bool is_map = writer->kind == AVRO_MAP;
    if (f->field->type != (is_map ? WEIR_TYPE_MAP : WEIR_TYPE_LIST)) {
        return cannot(c, writer, f);
    }
    out->put = is_map ? AVRO_PUT_MAP : AVRO_PUT_LIST;
    const struct avro_type *items =
        reader != NULL && reader->kind == writer->kind ? reader->branches[0] : NULL;
    int rc = add_children(c, out, 1);
    return rc == WEIR_OK ? resolve(c, writer->branches[0], items, &f->children[is_map ? 1 : 0],
                                   &out->children[0], depth + 1)
                         : rc;
}

/* A branch that cannot be read refuses the values that choose it, not the schema; unless no branch
 * can. */
static int resolve_union(struct compiler *c, const struct avro_type *writer,
                         const struct avro_type *reader, struct json_field *f,
                         struct avro_node *out, int depth) {
    out->put = AVRO_PUT_UNION;
    int rc = add_children(c, out, writer->branch_count);
    int32_t readable = 0;
    for (int32_t i = 0; rc == WEIR_OK && i < writer->branch_count; i++) {
        struct avro_node *node = &out->children[i];
        struct weir_error why = {0};
        struct compiler inner = {.err = &why};
        rc = resolve(&inner, writer->branches[i], reader, f, node, depth + 1);
        node->column = -1;
        readable += rc == WEIR_OK;
        if (rc == WEIR_E_SCHEMA) {
            avro_plan_fini(node);
            node->put = AVRO_PUT_REFUSE;
            node->reason = strdup(why.message);
            rc = node->reason != NULL ? WEIR_OK : out_of_memory(c);
            if (rc == WEIR_OK && readable == 0 && i + 1 == writer->branch_count) {
                rc = weir_error_set(c->err, WEIR_E_SCHEMA, "%s", why.message);
            }
        }
    }
    return rc;
}

static int resolve(struct compiler *c, const struct avro_type *writer,
                   const struct avro_type *reader, struct json_field *f, struct avro_node *out,
                   int depth) {
    memset(out, 0, sizeof(*out));
    out->wire = writer;
    out->column = -1;
    if (depth > DEPTH_MAX) {
        return weir_error_set(c->err, WEIR_E_SCHEMA, "a type that contains itself has no columns");
    }
    if (writer->kind == AVRO_UNION) {
        return resolve_union(c, writer, reader, f, out, depth);
    }
    reader = beside_null(reader);
    switch (writer->kind) {
    case AVRO_NULL:
        out->put = AVRO_PUT_NULL;
        return f->field->nullable
                   ? WEIR_OK
                   : weir_error_set(c->err, WEIR_E_SCHEMA, "null, but the field is not nullable");
    case AVRO_BOOLEAN:
        out->put = AVRO_PUT_BOOL;
        return f->field->type == WEIR_TYPE_BOOL ? WEIR_OK : cannot(c, writer, f);
    case AVRO_INT:
    case AVRO_LONG:
        return resolve_whole(c, writer, f, out);
    case AVRO_FLOAT:
        out->put = AVRO_PUT_REAL_OF_FLOAT;
        return f->field->type == WEIR_TYPE_FLOAT || f->field->type == WEIR_TYPE_DOUBLE
                   ? WEIR_OK
                   : cannot(c, writer, f);
    case AVRO_DOUBLE:
        out->put = AVRO_PUT_REAL_OF_DOUBLE;
        return f->field->type == WEIR_TYPE_DOUBLE ? WEIR_OK : cannot(c, writer, f);
    case AVRO_BYTES:
    case AVRO_STRING:
    case AVRO_FIXED:
        return resolve_bytes(c, writer, f, out);
    case AVRO_ENUM:
        return resolve_enum(c, writer, reader, f, out);
    case AVRO_ARRAY:
    case AVRO_MAP:
        return resolve_items(c, writer, reader, f, out, depth);
    case AVRO_RECORD:
        return f->field->type == WEIR_TYPE_STRUCT
                   ? resolve_record(c, writer,
                                    reader != NULL && reader->kind == AVRO_RECORD ? reader : NULL,
                                    f->record, out, depth)
                   : cannot(c, writer, f);
    case AVRO_UNION:
        break;
    }
    return cannot(c, writer, f);
}

int avro_plan_compile(const struct avro_type *writer, const struct avro_type *reader,
                      struct json_record *columns, struct avro_node *out, struct weir_error *err) {
    struct compiler c = {.err = err};
    memset(out, 0, sizeof(*out));
    if (writer->kind != AVRO_RECORD) {
        return weir_error_set(err, WEIR_E_SCHEMA, "a message is a record, not %s",
                              avro_kind_name(writer->kind));
    }
    int rc = resolve_record(
        &c, writer, reader != NULL && reader->kind == AVRO_RECORD ? reader : NULL, columns, out, 0);
    if (rc == WEIR_OK && !avro_steps_compile(out)) {
        rc = out_of_memory(&c);
    }
    if (rc != WEIR_OK) {
        avro_plan_fini(out);
    }
    return rc;
}
