/* Schemas and the text form of types: a small recursive-descent parser, depth-limited. */
#include "batch/schema.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { TYPE_DEPTH_MAX = 32 };

static const struct {
    const char *name;
    enum weir_type type;
} type_names[] = {
    {"bool", WEIR_TYPE_BOOL},
    {"int8", WEIR_TYPE_INT8},
    {"int16", WEIR_TYPE_INT16},
    {"int32", WEIR_TYPE_INT32},
    {"int64", WEIR_TYPE_INT64},
    {"float", WEIR_TYPE_FLOAT},
    {"double", WEIR_TYPE_DOUBLE},
    {"decimal", WEIR_TYPE_DECIMAL},
    {"string", WEIR_TYPE_STRING},
    {"binary", WEIR_TYPE_BINARY},
    {"date", WEIR_TYPE_DATE},
    {"timestamp", WEIR_TYPE_TIMESTAMP},
    {"timestamp_ntz", WEIR_TYPE_TIMESTAMP_NTZ},
    {"timestamp_ns", WEIR_TYPE_TIMESTAMP_NS},
    {"timestamp_ns_ntz", WEIR_TYPE_TIMESTAMP_NS_NTZ},
    {"list", WEIR_TYPE_LIST},
    {"struct", WEIR_TYPE_STRUCT},
    {"map", WEIR_TYPE_MAP},
};

const char *weir_type_name(enum weir_type type) {
    for (size_t i = 0; i < sizeof(type_names) / sizeof(type_names[0]); i++) {
        if (type_names[i].type == type) {
            return type_names[i].name;
        }
    }
    return "none";
}

void weir_field_fini(struct weir_field *field) {
    free(field->name);
    free(field->default_json);
    for (int32_t i = 0; i < field->child_count; i++) {
        weir_field_fini(&field->children[i]);
    }
    free(field->children);
    memset(field, 0, sizeof(*field));
}

int weir_field_copy(struct weir_field *to, const struct weir_field *from) {
    memset(to, 0, sizeof(*to));
    to->type = from->type;
    to->precision = from->precision;
    to->scale = from->scale;
    to->nullable = from->nullable;
    int rc = WEIR_E_NOMEM;
    if (from->name != NULL && (to->name = strdup(from->name)) == NULL) {
        goto out;
    }
    if (from->default_json != NULL && (to->default_json = strdup(from->default_json)) == NULL) {
        goto out;
    }
    if (from->child_count > 0) {
        to->children = calloc((size_t)from->child_count, sizeof(*to->children));
        if (to->children == NULL) {
            goto out;
        }
        for (int32_t i = 0; i < from->child_count; i++) {
            rc = weir_field_copy(&to->children[i], &from->children[i]);
            if (rc != WEIR_OK) {
                goto out;
            }
            to->child_count++;
        }
    }
    rc = WEIR_OK;
out:
    if (rc != WEIR_OK) {
        weir_field_fini(to);
    }
    return rc;
}

struct weir_schema *weir_schema_create(void) {
    struct weir_schema *schema = calloc(1, sizeof(*schema));
    if (schema != NULL) {
        schema->references = 1;
    }
    return schema;
}

struct weir_schema *weir_schema_ref(struct weir_schema *schema) {
    __atomic_add_fetch(&schema->references, 1, __ATOMIC_RELAXED);
    return schema;
}

void weir_schema_unref(struct weir_schema *schema) {
    if (schema == NULL || __atomic_sub_fetch(&schema->references, 1, __ATOMIC_ACQ_REL) > 0) {
        return;
    }
    for (int32_t i = 0; i < schema->count; i++) {
        weir_field_fini(&schema->fields[i]);
    }
    free(schema->fields);
    free(schema);
}

int weir_schema_add(struct weir_schema *schema, const struct weir_field *field) {
    struct weir_field *fields =
        realloc(schema->fields, ((size_t)schema->count + 1) * sizeof(*fields));
    if (fields == NULL) {
        return WEIR_E_NOMEM;
    }
    schema->fields = fields;
    int rc = weir_field_copy(&fields[schema->count], field);
    if (rc == WEIR_OK) {
        schema->count++;
    }
    return rc;
}

int weir_schema_add_text(struct weir_schema *schema, const char *name, const char *type,
                         bool nullable, struct weir_error *err) {
    struct weir_field field = {0};
    int rc = weir_field_parse_type(&field, type, err);
    if (rc != WEIR_OK) {
        if (err != NULL) {
            (void)weir_error_wrap(err, "column %s", name);
        }
        return rc;
    }
    field.nullable = nullable;
    field.name = strdup(name);
    rc = field.name == NULL ? WEIR_E_NOMEM : weir_schema_add(schema, &field);
    weir_field_fini(&field);
    return rc == WEIR_OK ? rc : weir_error_set(err, rc, "column %s: out of memory", name);
}

int32_t weir_schema_find(const struct weir_schema *schema, const char *name) {
    for (int32_t i = 0; i < schema->count; i++) {
        if (strcmp(schema->fields[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

static bool field_equal(const struct weir_field *a, const struct weir_field *b) {
    if (a->type != b->type || a->precision != b->precision || a->scale != b->scale ||
        a->nullable != b->nullable || a->child_count != b->child_count ||
        strcmp(a->name != NULL ? a->name : "", b->name != NULL ? b->name : "") != 0) {
        return false;
    }
    for (int32_t i = 0; i < a->child_count; i++) {
        if (!field_equal(&a->children[i], &b->children[i])) {
            return false;
        }
    }
    return true;
}

bool weir_schema_equal(const struct weir_schema *a, const struct weir_schema *b) {
    return a->count == b->count && weir_schema_begins_equal(a, b, a->count);
}

bool weir_schema_begins_equal(const struct weir_schema *a, const struct weir_schema *b,
                              int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        if (!field_equal(&a->fields[i], &b->fields[i])) {
            return false;
        }
    }
    return true;
}

int32_t weir_field_find(const struct weir_field *field, const char *name) {
    for (int32_t i = 0; i < field->child_count; i++) {
        if (strcmp(field->children[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

static bool same_scalar(const struct weir_field *a, const struct weir_field *b) {
    return a->type == b->type && a->precision == b->precision && a->scale == b->scale;
}

bool weir_field_holds(const struct weir_field *to, const struct weir_field *from) {
    if (!same_scalar(to, from)) {
        return false;
    }
    bool members = to->type == WEIR_TYPE_STRUCT;
    int32_t found = 0;
    for (int32_t i = 0; i < to->child_count; i++) {
        const struct weir_field *child = &to->children[i];
        int32_t at = members ? weir_field_find(from, child->name) : i;
        if (at < 0 ? !child->nullable : !weir_field_holds(child, &from->children[at])) {
            return false;
        }
        found += at >= 0;
    }
    return found == from->child_count;
}

bool weir_field_same_type(const struct weir_field *a, const struct weir_field *b) {
    if (!same_scalar(a, b) || a->child_count != b->child_count) {
        return false;
    }
    for (int32_t i = 0; i < a->child_count; i++) {
        if (strcmp(a->children[i].name, b->children[i].name) != 0 ||
            !weir_field_same_type(&a->children[i], &b->children[i])) {
            return false;
        }
    }
    return true;
}

static uint64_t field_hash(const struct weir_field *field, uint64_t seed) {
    /* The number of children keeps a child and a following sibling apart. */
    int32_t shape[5] = {field->type, field->precision, field->scale, field->nullable,
                        field->child_count};
    uint64_t h = XXH3_64bits_withSeed(shape, sizeof(shape), seed);
    if (field->name != NULL) {
        h = XXH3_64bits_withSeed(field->name, strlen(field->name), h);
    }
    for (int32_t i = 0; i < field->child_count; i++) {
        h = field_hash(&field->children[i], h + 1);
    }
    return h;
}

uint64_t weir_schema_hash(const struct weir_schema *schema) {
    uint64_t h = (uint64_t)schema->count;
    for (int32_t i = 0; i < schema->count; i++) {
        h = field_hash(&schema->fields[i], h);
    }
    return h;
}

/* --- type text ---------------------------------------------------------------------------- */

struct type_parser {
    const char *text; /* whole text, for messages */
    const char *at;
    struct weir_error *err;
};

static int bad_type(struct type_parser *p, const char *why) {
    return weir_error_set(p->err, WEIR_E_SCHEMA,
                          "type '%.200s': %s at '%.20s'; write for example int64, decimal(12,2), "
                          "list<string>, struct<a: int64>, map<string, int32>",
                          p->text, why, p->at);
}

static void skip_space(struct type_parser *p) {
    while (isspace((unsigned char)*p->at)) {
        p->at++;
    }
}

static bool accept(struct type_parser *p, char c) {
    skip_space(p);
    if (*p->at != c) {
        return false;
    }
    p->at++;
    return true;
}

static size_t word_length(const char *at) {
    size_t n = 0;
    while (isalnum((unsigned char)at[n]) || at[n] == '_') {
        n++;
    }
    return n;
}

static int parse_type(struct type_parser *p, struct weir_field *field, int depth);

static int add_child(struct type_parser *p, struct weir_field *field, const char *name,
                     size_t name_length, bool nullable, int depth) {
    struct weir_field *children =
        realloc(field->children, ((size_t)field->child_count + 1) * sizeof(*children));
    if (children == NULL) {
        return weir_error_set(p->err, WEIR_E_NOMEM, "out of memory");
    }
    field->children = children;
    struct weir_field *child = &children[field->child_count];
    memset(child, 0, sizeof(*child));
    field->child_count++;
    child->nullable = nullable;
    child->name = strndup(name, name_length);
    if (child->name == NULL) {
        return weir_error_set(p->err, WEIR_E_NOMEM, "out of memory");
    }
    return parse_type(p, child, depth + 1);
}

static int parse_decimal(struct type_parser *p, struct weir_field *field) {
    if (!accept(p, '(')) {
        return bad_type(p, "decimal needs precision and scale");
    }
    char *end;
    long precision = strtol(p->at, &end, 10);
    bool any = end != p->at;
    p->at = end;
    long scale = 0;
    if (accept(p, ',')) {
        scale = strtol(p->at, &end, 10);
        any = any && end != p->at;
        p->at = end;
    }
    if (!any || !accept(p, ')')) {
        return bad_type(p, "expected decimal(precision,scale)");
    }
    if (precision < 1 || precision > 38 || scale < 0 || scale > precision) {
        return bad_type(p, "precision must be 1..38 and scale 0..precision");
    }
    field->precision = (uint8_t)precision;
    field->scale = (int8_t)scale;
    return WEIR_OK;
}

static int parse_struct(struct type_parser *p, struct weir_field *field, int depth) {
    do {
        skip_space(p);
        const char *name = p->at;
        size_t length = word_length(name);
        p->at += length;
        if (length == 0 || !accept(p, ':')) {
            return bad_type(p, "expected 'name: type'");
        }
        for (int32_t i = 0; i < field->child_count; i++) {
            if (strlen(field->children[i].name) == length &&
                memcmp(field->children[i].name, name, length) == 0) {
                p->at = name;
                return bad_type(p, "a field name given twice");
            }
        }
        int rc = add_child(p, field, name, length, true, depth);
        if (rc != WEIR_OK) {
            return rc;
        }
    } while (accept(p, ','));
    return WEIR_OK;
}

static int parse_type(struct type_parser *p, struct weir_field *field, int depth) {
    if (depth > TYPE_DEPTH_MAX) {
        return bad_type(p, "nested too deeply");
    }
    skip_space(p);
    size_t length = word_length(p->at);
    field->type = WEIR_TYPE_NONE;
    for (size_t i = 0; i < sizeof(type_names) / sizeof(type_names[0]); i++) {
        if (strlen(type_names[i].name) == length &&
            memcmp(type_names[i].name, p->at, length) == 0) {
            field->type = type_names[i].type;
        }
    }
    if (field->type == WEIR_TYPE_NONE) {
        return bad_type(p, "unknown type");
    }
    p->at += length;
    int rc = WEIR_OK;
    if (field->type == WEIR_TYPE_DECIMAL) {
        return parse_decimal(p, field);
    }
    if (!weir_type_is_nested(field->type)) {
        return WEIR_OK;
    }
    if (!accept(p, '<')) {
        return bad_type(p, "expected '<'");
    }
    if (field->type == WEIR_TYPE_LIST) {
        rc = add_child(p, field, "element", 7, true, depth);
    } else if (field->type == WEIR_TYPE_STRUCT) {
        rc = parse_struct(p, field, depth);
    } else {
        rc = add_child(p, field, "key", 3, false, depth);
        if (rc == WEIR_OK && !accept(p, ',')) {
            rc = bad_type(p, "map needs a key and a value type");
        }
        if (rc == WEIR_OK) {
            rc = add_child(p, field, "value", 5, true, depth);
        }
    }
    if (rc == WEIR_OK && !accept(p, '>')) {
        rc = bad_type(p, "expected '>'");
    }
    return rc;
}

int weir_field_parse_type(struct weir_field *field, const char *text, struct weir_error *err) {
    struct type_parser p = {text, text, err};
    char *name = field->name;
    char *default_json = field->default_json;
    bool nullable = field->nullable;
    memset(field, 0, sizeof(*field));
    int rc = parse_type(&p, field, 0);
    skip_space(&p);
    if (rc == WEIR_OK && *p.at != '\0') {
        rc = bad_type(&p, "unexpected text");
    }
    if (rc != WEIR_OK) {
        weir_field_fini(field);
    }
    field->name = name;
    field->default_json = default_json;
    field->nullable = nullable;
    return rc;
}

int weir_field_format_type(const struct weir_field *field, struct weir_buffer *out) {
    int rc = weir_buffer_append_text(out, weir_type_name((enum weir_type)field->type));
    if (rc == WEIR_OK && field->type == WEIR_TYPE_DECIMAL) {
        rc = weir_buffer_printf(out, "(%d,%d)", field->precision, field->scale);
    }
    if (rc != WEIR_OK || field->child_count == 0) {
        return rc;
    }
    rc = weir_buffer_append_text(out, "<");
    for (int32_t i = 0; rc == WEIR_OK && i < field->child_count; i++) {
        if (i > 0) {
            rc = weir_buffer_append_text(out, ", ");
        }
        if (rc == WEIR_OK && field->type == WEIR_TYPE_STRUCT) {
            rc = weir_buffer_printf(out, "%s: ", field->children[i].name);
        }
        if (rc == WEIR_OK) {
            rc = weir_field_format_type(&field->children[i], out);
        }
    }
    return rc == WEIR_OK ? weir_buffer_append_text(out, ">") : rc;
}
