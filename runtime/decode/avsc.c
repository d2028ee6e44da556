#include "decode/avsc.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_BYTES_MAX = 4 << 20, DEPTH_MAX = 32, PATH_BYTES = 256, FIELDS_MAX = 16384 };

/* One parse: the named types seen so far, and where we are. */
struct parser {
    const char *origin;
    json_t *named; /* full name → definition, borrowed from the document */
    json_t *open;  /* names whose definition is being read: recursion */
    char path[PATH_BYTES];
    struct weir_error *err;
};

static int fail(struct parser *p, const char *format, ...) WEIR_PRINTF(2, 3);
static int fail(struct parser *p, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return weir_error_set(p->err, WEIR_E_SCHEMA, "%s: %s%s%s", p->origin, p->path,
                          p->path[0] == '\0' ? "" : ": ", text);
}

static int out_of_memory(struct parser *p) {
    return weir_error_set(p->err, WEIR_E_NOMEM, "%s: out of memory", p->origin);
}

static void free_texts(char **texts, int32_t count) {
    for (int32_t i = 0; i < count && texts != NULL; i++) {
        free(texts[i]);
    }
    free(texts);
}

static void fini_hint(struct weir_avsc_hint *hint) {
    free_texts(hint->symbols, hint->symbol_count);
    free_texts(hint->aliases, hint->alias_count);
    for (int32_t i = 0; i < hint->child_count && hint->children != NULL; i++) {
        fini_hint(&hint->children[i]);
    }
    free(hint->children);
    memset(hint, 0, sizeof(*hint));
}

static int add_children(struct parser *p, struct weir_field *field, struct weir_avsc_hint *hint,
                        int32_t count) {
    field->children = calloc((size_t)count + 1, sizeof(*field->children));
    hint->children = calloc((size_t)count + 1, sizeof(*hint->children));
    if (field->children == NULL || hint->children == NULL) {
        return out_of_memory(p);
    }
    field->child_count = hint->child_count = count;
    return WEIR_OK;
}

static int read_type(struct parser *p, const json_t *type, struct weir_field *field,
                     struct weir_avsc_hint *hint, int depth);

/* --- primitives and logical types --------------------------------------------------------- */

static const struct {
    const char *name;
    uint8_t type;
} primitives[] = {
    {"boolean", WEIR_TYPE_BOOL}, {"int", WEIR_TYPE_INT32},     {"long", WEIR_TYPE_INT64},
    {"float", WEIR_TYPE_FLOAT},  {"double", WEIR_TYPE_DOUBLE}, {"string", WEIR_TYPE_STRING},
    {"bytes", WEIR_TYPE_BINARY},
};

static uint8_t primitive(const char *name) {
    for (size_t i = 0; i < sizeof(primitives) / sizeof(primitives[0]); i++) {
        if (strcmp(primitives[i].name, name) == 0) {
            return primitives[i].type;
        }
    }
    return WEIR_TYPE_NONE;
}

/* `millis`: integers in JSON count milliseconds. */
static const struct {
    const char *name;
    uint8_t base;
    uint8_t type;
    bool millis;
} logical_types[] = {
    {"date", WEIR_TYPE_INT32, WEIR_TYPE_DATE, false},
    {"timestamp-millis", WEIR_TYPE_INT64, WEIR_TYPE_TIMESTAMP, true},
    {"timestamp-micros", WEIR_TYPE_INT64, WEIR_TYPE_TIMESTAMP, false},
    {"timestamp-nanos", WEIR_TYPE_INT64, WEIR_TYPE_TIMESTAMP_NS, false},
    {"local-timestamp-millis", WEIR_TYPE_INT64, WEIR_TYPE_TIMESTAMP_NTZ, true},
    {"local-timestamp-micros", WEIR_TYPE_INT64, WEIR_TYPE_TIMESTAMP_NTZ, false},
    {"local-timestamp-nanos", WEIR_TYPE_INT64, WEIR_TYPE_TIMESTAMP_NS_NTZ, false},
    {"uuid", WEIR_TYPE_STRING, WEIR_TYPE_STRING, false},
};

static int read_decimal(struct parser *p, const json_t *type, struct weir_field *field) {
    json_int_t precision = json_integer_value(json_object_get(type, "precision"));
    const json_t *scale_json = json_object_get(type, "scale");
    json_int_t scale = json_integer_value(scale_json);
    if (field->type != WEIR_TYPE_BINARY) {
        return fail(p, "logicalType decimal belongs on \"bytes\" or a fixed; write {\"type\": "
                       "\"bytes\", \"logicalType\": \"decimal\", \"precision\": 12, \"scale\": 2}");
    }
    if (precision < 1 || precision > 38) {
        return fail(p, "decimal needs a \"precision\" from 1 to 38");
    }
    if ((scale_json != NULL && !json_is_integer(scale_json)) || scale < 0 || scale > precision) {
        return fail(p, "decimal needs a \"scale\" from 0 to its precision, %d", (int)precision);
    }
    field->type = WEIR_TYPE_DECIMAL;
    field->precision = (uint8_t)precision;
    field->scale = (int8_t)scale;
    return WEIR_OK;
}

static int read_logical(struct parser *p, const json_t *type, struct weir_field *field,
                        struct weir_avsc_hint *hint) {
    const json_t *name_json = json_object_get(type, "logicalType");
    const char *name = json_string_value(name_json);
    if (name_json == NULL) {
        return WEIR_OK;
    }
    if (name == NULL) {
        return fail(p, "\"logicalType\" is not text");
    }
    if (strcmp(name, "decimal") == 0) {
        return read_decimal(p, type, field);
    }
    for (size_t i = 0; i < sizeof(logical_types) / sizeof(logical_types[0]); i++) {
        if (strcmp(logical_types[i].name, name) == 0) {
            if (field->type != logical_types[i].base) {
                return fail(p, "logicalType %s does not belong on this type; it goes on \"%s\"",
                            name,
                            logical_types[i].base == WEIR_TYPE_INT32   ? "int"
                            : logical_types[i].base == WEIR_TYPE_INT64 ? "long"
                                                                       : "string");
            }
            field->type = logical_types[i].type;
            hint->epoch_millis = logical_types[i].millis;
        }
    }
    return WEIR_OK;
}

static int read_weir(struct parser *p, const json_t *type, struct weir_field *field) {
    const json_t *name_json = json_object_get(type, "weir");
    const char *name = json_string_value(name_json);
    if (name_json == NULL) {
        return WEIR_OK;
    }
    if (name == NULL || field->type != WEIR_TYPE_INT32 ||
        (strcmp(name, "int8") != 0 && strcmp(name, "int16") != 0)) {
        return fail(p, "\"weir\" is \"int8\" or \"int16\" on an \"int\"");
    }
    field->type = strcmp(name, "int8") == 0 ? WEIR_TYPE_INT8 : WEIR_TYPE_INT16;
    return WEIR_OK;
}

/* --- named types -------------------------------------------------------------------------- */

static int define(struct parser *p, const json_t *type) {
    const char *name = json_string_value(json_object_get(type, "name"));
    if (name == NULL || name[0] == '\0') {
        return fail(p, "record, enum and fixed need a \"name\"");
    }
    const json_t *known = json_object_get(p->named, name);
    if (known != NULL && known != type) {
        return fail(p, "the type \"%s\" is defined twice; refer to it by name the second time",
                    name);
    }
    return json_object_set(p->named, name, (json_t *)(uintptr_t)type) == 0 ? WEIR_OK
                                                                           : out_of_memory(p);
}

static int read_enum(struct parser *p, const json_t *type, struct weir_field *field,
                     struct weir_avsc_hint *hint) {
    const json_t *symbols = json_object_get(type, "symbols");
    size_t count = json_array_size(symbols);
    int rc = define(p, type);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (count == 0 || count > FIELDS_MAX) {
        return fail(p, "enum needs \"symbols\", a list of 1 to %d names", FIELDS_MAX);
    }
    hint->symbols = calloc(count, sizeof(*hint->symbols));
    if (hint->symbols == NULL) {
        return out_of_memory(p);
    }
    hint->symbol_count = (int32_t)count;
    for (size_t i = 0; i < count; i++) {
        const char *symbol = json_string_value(json_array_get(symbols, i));
        if (symbol == NULL) {
            return fail(p, "symbols[%zu] is not text", i);
        }
        hint->symbols[i] = strdup(symbol);
        if (hint->symbols[i] == NULL) {
            return out_of_memory(p);
        }
    }
    field->type = WEIR_TYPE_STRING;
    return WEIR_OK;
}

static int read_fixed(struct parser *p, const json_t *type, struct weir_field *field,
                      struct weir_avsc_hint *hint) {
    json_int_t size = json_integer_value(json_object_get(type, "size"));
    int rc = define(p, type);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (size < 1 || size > 1 << 20) {
        return fail(p, "fixed needs a \"size\" from 1 to %d bytes", 1 << 20);
    }
    field->type = WEIR_TYPE_BINARY;
    rc = read_logical(p, type, field, hint);
    hint->fixed_bytes = field->type == WEIR_TYPE_BINARY ? (int32_t)size : 0;
    return rc;
}

/* --- defaults ----------------------------------------------------------------------------- */

static char *base64_json(const char *text, size_t length) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t *bytes = malloc(length + 3);
    char *out = malloc(length * 2 + 8);
    size_t size = 0;
    if (bytes == NULL || out == NULL) {
        free(bytes);
        free(out);
        return NULL;
    }
    /* Avro writes bytes as the code points 0 to 255; in UTF-8 those are one byte or two. */
    for (size_t i = 0; i < length; i++) {
        uint8_t c = (uint8_t)text[i];
        bytes[size++] = (uint8_t)(c < 0x80 ? c : (c << 6 & 0xc0) | (text[++i] & 0x3f));
    }
    size_t at = 0;
    out[at++] = '"';
    for (size_t i = 0; i < size; i += 3) {
        uint32_t bits = (uint32_t)bytes[i] << 16;
        bits |= i + 1 < size ? (uint32_t)bytes[i + 1] << 8 : 0;
        bits |= i + 2 < size ? (uint32_t)bytes[i + 2] : 0;
        out[at++] = digits[bits >> 18 & 63];
        out[at++] = digits[bits >> 12 & 63];
        out[at++] = i + 1 < size ? digits[bits >> 6 & 63] : '=';
        out[at++] = i + 2 < size ? digits[bits & 63] : '=';
    }
    out[at++] = '"';
    out[at] = '\0';
    free(bytes);
    return out;
}

static int read_default(struct parser *p, const json_t *json, struct weir_field *field) {
    const json_t *value = json_object_get(json, "default");
    if (value == NULL) {
        return WEIR_OK;
    }
    if (json_is_null(value) && !field->nullable) {
        return fail(p, "the default is null but the type is not; write [\"null\", …]");
    }
    if (field->type == WEIR_TYPE_BINARY && json_is_string(value)) {
        const char *text = json_string_value(value);
        for (const char *c = text; *c != '\0'; c++) {
            if ((uint8_t)*c > 0xc3) {
                return fail(p, "a default of bytes holds code points up to 255 only");
            }
        }
        field->default_json = base64_json(text, json_string_length(value));
    } else {
        field->default_json =
            json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(17));
    }
    return field->default_json != NULL ? WEIR_OK : out_of_memory(p);
}

static int read_aliases(struct parser *p, const json_t *json, struct weir_avsc_hint *hint) {
    const json_t *aliases = json_object_get(json, "aliases");
    size_t count = json_array_size(aliases);
    if (aliases != NULL && (!json_is_array(aliases) || count > FIELDS_MAX)) {
        return fail(p, "\"aliases\" is a list of names");
    }
    hint->aliases = count > 0 ? calloc(count, sizeof(*hint->aliases)) : NULL;
    if (count > 0 && hint->aliases == NULL) {
        return out_of_memory(p);
    }
    hint->alias_count = (int32_t)count;
    for (size_t i = 0; i < count; i++) {
        const char *alias = json_string_value(json_array_get(aliases, i));
        if (alias == NULL) {
            return fail(p, "\"aliases\" is a list of names");
        }
        hint->aliases[i] = strdup(alias);
        if (hint->aliases[i] == NULL) {
            return out_of_memory(p);
        }
    }
    return WEIR_OK;
}

/* --- records, unions, containers ---------------------------------------------------------- */

static int read_field(struct parser *p, const json_t *json, size_t index, struct weir_field *field,
                      struct weir_avsc_hint *hint, int depth) {
    size_t path_length = strlen(p->path);
    const char *name = json_string_value(json_object_get(json, "name"));
    snprintf(p->path + path_length, sizeof(p->path) - path_length, "%sfields[%zu] \"%s\"",
             path_length > 0 ? "." : "", index, name != NULL ? name : "");
    if (name == NULL || name[0] == '\0') {
        return fail(p, "a field is an object with a \"name\" and a \"type\"");
    }
    field->name = strdup(name);
    if (field->name == NULL) {
        return out_of_memory(p);
    }
    const json_t *type = json_object_get(json, "type");
    if (type == NULL) {
        return fail(p, "no \"type\"");
    }
    int rc = read_type(p, type, field, hint, depth);
    /* People write logicalType beside "type" rather than inside it; Avro would ignore it. */
    if (rc == WEIR_OK && json_is_string(type) &&
        !json_object_get(p->named, json_string_value(type))) {
        rc = read_logical(p, json, field, hint);
        if (rc == WEIR_OK) {
            rc = read_weir(p, json, field);
        }
    }
    if (rc == WEIR_OK) {
        rc = read_default(p, json, field);
    }
    if (rc == WEIR_OK) {
        rc = read_aliases(p, json, hint);
    }
    if (rc == WEIR_OK) {
        p->path[path_length] = '\0';
    }
    return rc;
}

static int read_record(struct parser *p, const json_t *type, struct weir_field *field,
                       struct weir_avsc_hint *hint, int depth) {
    int rc = define(p, type);
    if (rc != WEIR_OK) {
        return rc;
    }
    const char *name = json_string_value(json_object_get(type, "name"));
    const json_t *fields = json_object_get(type, "fields");
    if (!json_is_array(fields) || json_array_size(fields) == 0 ||
        json_array_size(fields) > FIELDS_MAX) {
        return fail(p, "record \"%s\" needs \"fields\", a list of 1 to %d fields", name,
                    FIELDS_MAX);
    }
    if (json_object_get(p->open, name) != NULL) {
        return fail(p, "record \"%s\" contains itself; columns cannot: flatten it", name);
    }
    if (json_object_set_new(p->open, name, json_true()) != 0) {
        return out_of_memory(p);
    }
    field->type = WEIR_TYPE_STRUCT;
    rc = add_children(p, field, hint, (int32_t)json_array_size(fields));
    for (size_t i = 0; rc == WEIR_OK && i < json_array_size(fields); i++) {
        rc = read_field(p, json_array_get(fields, i), i, &field->children[i], &hint->children[i],
                        depth);
        for (size_t j = 0; rc == WEIR_OK && j < i; j++) {
            if (strcmp(field->children[i].name, field->children[j].name) == 0) {
                rc = fail(p, "field \"%s\" is declared twice in record \"%s\"",
                          field->children[i].name, name);
            }
        }
    }
    json_object_del(p->open, name);
    return rc;
}

static int read_union(struct parser *p, const json_t *type, struct weir_field *field,
                      struct weir_avsc_hint *hint, int depth) {
    const json_t *branch = NULL;
    bool has_null = false;
    for (size_t i = 0; i < json_array_size(type); i++) {
        const json_t *one = json_array_get(type, i);
        const char *name = json_string_value(one);
        if (name != NULL && strcmp(name, "null") == 0) {
            has_null = true;
        } else if (branch == NULL) {
            branch = one;
        } else {
            return fail(p, "a union of several types has no column; [\"null\", T] is the one "
                           "union that can be read");
        }
    }
    if (branch == NULL) {
        return fail(p, "a union needs a type beside \"null\"");
    }
    int rc = read_type(p, branch, field, hint, depth);
    field->nullable = field->nullable || has_null;
    return rc;
}

static int name_child(struct parser *p, struct weir_field *child, const char *name) {
    child->name = strdup(name);
    return child->name != NULL ? WEIR_OK : out_of_memory(p);
}

static int read_array(struct parser *p, const json_t *type, struct weir_field *field,
                      struct weir_avsc_hint *hint, int depth) {
    const json_t *items = json_object_get(type, "items");
    if (items == NULL) {
        return fail(p, "array needs \"items\"");
    }
    field->type = WEIR_TYPE_LIST;
    int rc = add_children(p, field, hint, 1);
    if (rc == WEIR_OK) {
        rc = name_child(p, &field->children[0], "element");
    }
    return rc == WEIR_OK ? read_type(p, items, &field->children[0], &hint->children[0], depth) : rc;
}

static int read_map(struct parser *p, const json_t *type, struct weir_field *field,
                    struct weir_avsc_hint *hint, int depth) {
    const json_t *values = json_object_get(type, "values");
    if (values == NULL) {
        return fail(p, "map needs \"values\"");
    }
    field->type = WEIR_TYPE_MAP;
    int rc = add_children(p, field, hint, 2);
    if (rc == WEIR_OK) {
        field->children[0].type = WEIR_TYPE_STRING;
        rc = name_child(p, &field->children[0], "key");
    }
    if (rc == WEIR_OK) {
        rc = name_child(p, &field->children[1], "value");
    }
    return rc == WEIR_OK ? read_type(p, values, &field->children[1], &hint->children[1], depth)
                         : rc;
}

static int read_named(struct parser *p, const char *name, struct weir_field *field,
                      struct weir_avsc_hint *hint, int depth) {
    field->type = primitive(name);
    if (field->type != WEIR_TYPE_NONE) {
        return WEIR_OK;
    }
    const json_t *known = json_object_get(p->named, name);
    if (known == NULL) {
        return fail(p,
                    "no type is called \"%s\"; there are boolean int long float double string "
                    "bytes record enum fixed array map, and the names defined above",
                    name);
    }
    return read_type(p, known, field, hint, depth);
}

static int read_type(struct parser *p, const json_t *type, struct weir_field *field,
                     struct weir_avsc_hint *hint, int depth) {
    if (depth > DEPTH_MAX) {
        return fail(p, "nested deeper than %d levels; flatten the schema", DEPTH_MAX);
    }
    if (json_is_string(type)) {
        return read_named(p, json_string_value(type), field, hint, depth + 1);
    }
    if (json_is_array(type)) {
        return read_union(p, type, field, hint, depth + 1);
    }
    const json_t *kind_json = json_object_get(type, "type");
    const char *kind = json_string_value(kind_json);
    if (kind == NULL) {
        if (kind_json == NULL) {
            return fail(p, "a type is a name, a [\"null\", T] union, or an object with \"type\"");
        }
        return read_type(p, kind_json, field, hint, depth + 1);
    }
    if (strcmp(kind, "record") == 0) {
        return read_record(p, type, field, hint, depth + 1);
    }
    if (strcmp(kind, "enum") == 0) {
        return read_enum(p, type, field, hint);
    }
    if (strcmp(kind, "fixed") == 0) {
        return read_fixed(p, type, field, hint);
    }
    if (strcmp(kind, "array") == 0) {
        return read_array(p, type, field, hint, depth + 1);
    }
    if (strcmp(kind, "map") == 0) {
        return read_map(p, type, field, hint, depth + 1);
    }
    int rc = read_named(p, kind, field, hint, depth + 1);
    if (rc == WEIR_OK) {
        rc = read_logical(p, type, field, hint);
    }
    return rc == WEIR_OK ? read_weir(p, type, field) : rc;
}

/* --- whole files -------------------------------------------------------------------------- */

static int take_fields(struct parser *p, struct weir_field *top, struct weir_avsc *out) {
    out->schema = weir_schema_create();
    int rc = out->schema == NULL ? WEIR_E_NOMEM : WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < top->child_count; i++) {
        rc = weir_schema_add(out->schema, &top->children[i]);
    }
    return rc == WEIR_OK ? WEIR_OK : out_of_memory(p);
}

int weir_avsc_parse(const char *origin, const char *text, size_t length, struct weir_avsc *out,
                    struct weir_error *err) {
    memset(out, 0, sizeof(*out));
    json_error_t where;
    json_t *json = json_loadb(text, length, JSON_REJECT_DUPLICATES, &where);
    if (json == NULL) {
        return weir_error_set(err, WEIR_E_SYNTAX, "%s:%d:%d: not JSON: %s", origin, where.line,
                              where.column, where.text);
    }
    struct parser p = {.origin = origin, .named = json_object(), .open = json_object(), .err = err};
    struct weir_field top = {0};
    struct weir_avsc_hint hint = {0};
    const char *kind = json_string_value(json_object_get(json, "type"));
    int rc;
    if (p.named == NULL || p.open == NULL) {
        rc = out_of_memory(&p);
    } else if (kind == NULL || strcmp(kind, "record") != 0) {
        rc = fail(&p, "the top level is a record: {\"type\": \"record\", \"name\": …, \"fields\": "
                      "[…]}");
    } else {
        rc = read_record(&p, json, &top, &hint, 0);
    }
    if (rc == WEIR_OK) {
        rc = take_fields(&p, &top, out);
    }
    if (rc == WEIR_OK) {
        const char *doc = json_string_value(json_object_get(json, "doc"));
        out->hints = hint.children;
        hint.children = NULL;
        hint.child_count = 0;
        out->name = strdup(json_string_value(json_object_get(json, "name")));
        out->doc = doc != NULL ? strdup(doc) : NULL;
        rc = out->name == NULL ? out_of_memory(&p) : WEIR_OK;
    }
    fini_hint(&hint);
    weir_field_fini(&top);
    json_decref(p.named);
    json_decref(p.open);
    json_decref(json);
    if (rc != WEIR_OK) {
        weir_avsc_fini(out);
    }
    return rc;
}

int weir_avsc_load(const char *path, struct weir_avsc *out, struct weir_error *err) {
    memset(out, 0, sizeof(*out));
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return weir_error_system(err, errno == ENOENT ? WEIR_E_NOTFOUND : WEIR_E_ENVIRONMENT, errno,
                                 "cannot read the schema file %s", path);
    }
    struct weir_buffer text;
    weir_buffer_init(&text, FILE_BYTES_MAX);
    int rc = WEIR_OK;
    char chunk[16 * 1024];
    size_t got;
    while (rc == WEIR_OK && (got = fread(chunk, 1, sizeof(chunk), file)) > 0) {
        rc = weir_buffer_append(&text, chunk, got);
    }
    if (rc != WEIR_OK) {
        weir_error_set(err, rc, "%s: a schema file has at most %d bytes", path, FILE_BYTES_MAX);
    } else if (ferror(file)) {
        rc = weir_error_system(err, WEIR_E_IO, errno, "cannot read the schema file %s", path);
    } else {
        rc = weir_avsc_parse(path, (const char *)text.data, text.size, out, err);
    }
    weir_buffer_fini(&text);
    fclose(file);
    return rc;
}

void weir_avsc_fini(struct weir_avsc *avsc) {
    for (int32_t i = 0; avsc->hints != NULL && i < avsc->schema->count; i++) {
        fini_hint(&avsc->hints[i]);
    }
    free(avsc->hints);
    weir_schema_unref(avsc->schema);
    free(avsc->name);
    free(avsc->doc);
    memset(avsc, 0, sizeof(*avsc));
}
