#include "decode/avro/avro_type.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { DEPTH_MAX = 64, FIELDS_MAX = 16384, NAME_BYTES = 512, FIXED_MAX = 1 << 20 };

struct parser {
    struct avro_schema *schema;
    const char *origin;
    struct weir_error *err;
};

static const char *const kind_names[] = {"null",   "boolean", "int",    "long",  "float",
                                         "double", "bytes",   "string", "fixed", "enum",
                                         "array",  "map",     "record", "union"};

const char *avro_kind_name(enum avro_kind kind) {
    return kind_names[kind];
}

static int out_of_memory(struct parser *p) {
    return weir_error_set(p->err, WEIR_E_NOMEM, "%s: out of memory", p->origin);
}

static int parse(struct parser *p, const json_t *json, const char *space, int depth,
                 const struct avro_type **out);

static struct avro_type *new_type(struct parser *p, enum avro_kind kind) {
    struct avro_type *type = calloc(1, sizeof(*type));
    if (type != NULL) {
        type->kind = kind;
        type->default_symbol = -1;
        type->next = p->schema->types;
        p->schema->types = type;
    }
    return type;
}

/* --- names -------------------------------------------------------------------------------- */

static void full_name(const char *name, const char *space, char out[NAME_BYTES]) {
    if (strchr(name, '.') != NULL || space[0] == '\0') {
        snprintf(out, NAME_BYTES, "%s", name);
    } else {
        snprintf(out, NAME_BYTES, "%s.%s", space, name);
    }
}

static void space_of(const char *full, char out[NAME_BYTES]) {
    snprintf(out, NAME_BYTES, "%s", full);
    char *dot = strrchr(out, '.');
    *(dot != NULL ? dot : out) = '\0';
}

static const struct avro_type *find_named(struct parser *p, const char *name, const char *space) {
    char full[NAME_BYTES];
    full_name(name, space, full);
    const json_t *index = json_object_get(p->schema->named, full);
    index = index != NULL ? index : json_object_get(p->schema->named, name);
    return index != NULL ? p->schema->by_index[json_integer_value(index)] : NULL;
}

static int define(struct parser *p, struct avro_type *type, const json_t *json, const char *space,
                  char inner[NAME_BYTES]) {
    const char *name = json_string_value(json_object_get(json, "name"));
    const char *own = json_string_value(json_object_get(json, "namespace"));
    struct avro_schema *s = p->schema;
    if (name == NULL || name[0] == '\0') {
        return weir_error_set(p->err, WEIR_E_SCHEMA, "%s: a %s without a name", p->origin,
                              avro_kind_name(type->kind));
    }
    char full[NAME_BYTES];
    full_name(name, own != NULL ? own : space, full);
    space_of(full, inner);
    if (s->named_count == s->named_capacity) {
        int32_t capacity = s->named_capacity == 0 ? 16 : s->named_capacity * 2;
        struct avro_type **larger = realloc(s->by_index, (size_t)capacity * sizeof(*larger));
        if (larger == NULL) {
            return out_of_memory(p);
        }
        s->by_index = larger;
        s->named_capacity = capacity;
    }
    type->name = strdup(full);
    s->by_index[s->named_count] = type;
    if (type->name == NULL ||
        json_object_set_new(s->named, full, json_integer(s->named_count)) != 0) {
        return out_of_memory(p);
    }
    s->named_count++;
    return WEIR_OK;
}

static int copy_texts(struct parser *p, const json_t *list, char ***out, int32_t *count) {
    size_t size = json_array_size(list);
    *out = size > 0 && size <= FIELDS_MAX ? calloc(size, sizeof(**out)) : NULL;
    for (size_t i = 0; *out != NULL && i < size; i++) {
        const char *text = json_string_value(json_array_get(list, i));
        (*out)[i] = text != NULL ? strdup(text) : NULL;
        if ((*out)[i] == NULL) {
            return weir_error_set(p->err, WEIR_E_SCHEMA, "%s: a list of names holds something else",
                                  p->origin);
        }
        (*count)++;
    }
    return size > 0 && *out == NULL ? out_of_memory(p) : WEIR_OK;
}

/* --- logical types --------------------------------------------------------------------------- */

/* One that does not fit its type is ignored, as the specification asks. */
static void read_logical(struct avro_type *type, const json_t *json) {
    static const struct {
        const char *name;
        int64_t per_second;
    } timestamps[] = {
        {"timestamp-millis", 1000},      {"local-timestamp-millis", 1000},
        {"timestamp-micros", 1000000},   {"local-timestamp-micros", 1000000},
        {"timestamp-nanos", 1000000000}, {"local-timestamp-nanos", 1000000000},
    };
    const char *name = json_string_value(json_object_get(json, "logicalType"));
    if (name == NULL) {
        return;
    }
    if (strcmp(name, "decimal") == 0 && (type->kind == AVRO_BYTES || type->kind == AVRO_FIXED)) {
        json_int_t precision = json_integer_value(json_object_get(json, "precision"));
        json_int_t scale = json_integer_value(json_object_get(json, "scale"));
        if (precision > 0 && precision <= INT16_MAX && scale >= 0 && scale <= precision) {
            type->logical = AVRO_DECIMAL;
            type->precision = (int32_t)precision;
            type->scale = (int32_t)scale;
        }
    } else if (strcmp(name, "date") == 0 && type->kind == AVRO_INT) {
        type->logical = AVRO_DATE;
    }
    for (size_t i = 0; type->kind == AVRO_LONG && i < sizeof(timestamps) / sizeof(*timestamps);
         i++) {
        if (strcmp(name, timestamps[i].name) == 0) {
            type->logical = AVRO_TIMESTAMP;
            type->per_second = timestamps[i].per_second;
        }
    }
}

/* --- the kinds ------------------------------------------------------------------------------- */

static int parse_enum(struct parser *p, struct avro_type *type, const json_t *json) {
    int rc = copy_texts(p, json_object_get(json, "symbols"), &type->symbols, &type->symbol_count);
    const char *fallback = json_string_value(json_object_get(json, "default"));
    for (int32_t i = 0; rc == WEIR_OK && fallback != NULL && i < type->symbol_count; i++) {
        if (strcmp(type->symbols[i], fallback) == 0) {
            type->default_symbol = i;
        }
    }
    return rc;
}

static int parse_fixed(struct parser *p, struct avro_type *type, const json_t *json) {
    json_int_t size = json_integer_value(json_object_get(json, "size"));
    if (size < 0 || size > FIXED_MAX) {
        return weir_error_set(p->err, WEIR_E_SCHEMA, "%s: fixed %s of %lld bytes; at most %d",
                              p->origin, type->name, (long long)size, FIXED_MAX);
    }
    type->size = (int32_t)size;
    return WEIR_OK;
}

static int parse_record(struct parser *p, struct avro_type *type, const json_t *json,
                        const char *space, int depth) {
    const json_t *fields = json_object_get(json, "fields");
    size_t count = json_array_size(fields);
    if (!json_is_array(fields) || count > FIELDS_MAX) {
        return weir_error_set(p->err, WEIR_E_SCHEMA,
                              "%s: record %s needs \"fields\", a list of at most %d", p->origin,
                              type->name, FIELDS_MAX);
    }
    type->fields = calloc(count + 1, sizeof(*type->fields));
    if (type->fields == NULL) {
        return out_of_memory(p);
    }
    int rc = WEIR_OK;
    for (size_t i = 0; rc == WEIR_OK && i < count; i++) {
        const json_t *field = json_array_get(fields, i);
        const char *name = json_string_value(json_object_get(field, "name"));
        struct avro_field *out = &type->fields[i];
        out->name = name != NULL ? strdup(name) : NULL;
        type->field_count++;
        if (out->name == NULL) {
            return weir_error_set(p->err, WEIR_E_SCHEMA, "%s: a field of %s has no name", p->origin,
                                  type->name);
        }
        rc = copy_texts(p, json_object_get(field, "aliases"), &out->aliases, &out->alias_count);
        const json_t *otherwise = json_object_get(field, "default");
        if (rc == WEIR_OK && otherwise != NULL) {
            out->default_json = json_dumps(otherwise, JSON_ENCODE_ANY | JSON_COMPACT);
            rc = out->default_json == NULL ? out_of_memory(p) : WEIR_OK;
        }
        rc = rc == WEIR_OK ? parse(p, json_object_get(field, "type"), space, depth + 1, &out->type)
                           : rc;
        if (rc == WEIR_E_SCHEMA) {
            weir_error_wrap(p->err, "field \"%s\"", name);
        }
    }
    return rc;
}

static int parse_branches(struct parser *p, struct avro_type *type, const json_t *const *list,
                          size_t count, const char *space, int depth) {
    type->branches = calloc(count + 1, sizeof(*type->branches));
    if (type->branches == NULL) {
        return out_of_memory(p);
    }
    int rc = WEIR_OK;
    for (size_t i = 0; rc == WEIR_OK && i < count; i++) {
        rc = parse(p, list[i], space, depth + 1, &type->branches[i]);
        type->branch_count++;
    }
    return rc;
}

static int parse_union(struct parser *p, const json_t *json, const char *space, int depth,
                       const struct avro_type **out) {
    size_t count = json_array_size(json);
    struct avro_type *type = new_type(p, AVRO_UNION);
    const json_t **list = calloc(count + 1, sizeof(*list));
    *out = type;
    if (type == NULL || list == NULL || count == 0 || count > FIELDS_MAX) {
        free((void *)list);
        return count == 0 || count > FIELDS_MAX
                   ? weir_error_set(p->err, WEIR_E_SCHEMA, "%s: a union of %zu types", p->origin,
                                    count)
                   : out_of_memory(p);
    }
    for (size_t i = 0; i < count; i++) {
        list[i] = json_array_get(json, i);
    }
    int rc = parse_branches(p, type, list, count, space, depth);
    free((void *)list);
    return rc;
}

static int parse_object(struct parser *p, const json_t *json, const char *kind_name,
                        const char *space, int depth, const struct avro_type **out) {
    int kind = AVRO_UNION;
    while (kind >= 0 && strcmp(kind_names[kind], kind_name) != 0) {
        kind--;
    }
    if (strcmp(kind_name, "error") == 0) {
        kind = AVRO_RECORD;
    }
    if (kind < 0 || kind == AVRO_UNION) {
        return parse(p, json_object_get(json, "type"), space, depth + 1, out);
    }
    struct avro_type *type = new_type(p, (enum avro_kind)kind);
    *out = type;
    if (type == NULL) {
        return out_of_memory(p);
    }
    char inner[NAME_BYTES];
    int rc = kind == AVRO_FIXED || kind == AVRO_ENUM || kind == AVRO_RECORD
                 ? define(p, type, json, space, inner)
                 : WEIR_OK;
    if (rc == WEIR_OK && kind == AVRO_ENUM) {
        rc = parse_enum(p, type, json);
    } else if (rc == WEIR_OK && kind == AVRO_FIXED) {
        rc = parse_fixed(p, type, json);
    } else if (rc == WEIR_OK && kind == AVRO_RECORD) {
        rc = parse_record(p, type, json, inner, depth);
    } else if (rc == WEIR_OK && (kind == AVRO_ARRAY || kind == AVRO_MAP)) {
        const json_t *items = json_object_get(json, kind == AVRO_ARRAY ? "items" : "values");
        rc = parse_branches(p, type, &items, 1, space, depth);
    }
    const char *connect = json_string_value(json_object_get(json, "connect.name"));
    if (rc == WEIR_OK && connect != NULL) {
        type->connect_name = strdup(connect);
        rc = type->connect_name == NULL ? out_of_memory(p) : WEIR_OK;
    }
    if (rc == WEIR_OK) {
        read_logical(type, json);
    }
    return rc;
}

static int parse(struct parser *p, const json_t *json, const char *space, int depth,
                 const struct avro_type **out) {
    *out = NULL;
    if (depth > DEPTH_MAX) {
        return weir_error_set(p->err, WEIR_E_SCHEMA, "%s: nested deeper than %d levels", p->origin,
                              DEPTH_MAX);
    }
    if (json_is_array(json)) {
        return parse_union(p, json, space, depth, out);
    }
    const char *name =
        json_string_value(json_is_object(json) ? json_object_get(json, "type") : json);
    if (json_is_object(json)) {
        return name != NULL ? parse_object(p, json, name, space, depth, out)
                            : parse(p, json_object_get(json, "type"), space, depth + 1, out);
    }
    if (name == NULL) {
        return weir_error_set(p->err, WEIR_E_SCHEMA, "%s: a type is a name, an object or a list",
                              p->origin);
    }
    for (int kind = AVRO_NULL; kind <= AVRO_STRING; kind++) {
        if (strcmp(kind_names[kind], name) == 0) {
            struct avro_type *type = new_type(p, (enum avro_kind)kind);
            *out = type;
            return type != NULL ? WEIR_OK : out_of_memory(p);
        }
    }
    *out = find_named(p, name, space);
    return *out != NULL ? WEIR_OK
                        : weir_error_set(p->err, WEIR_E_SCHEMA, "%s: no type is called \"%s\"",
                                         p->origin, name);
}

int avro_schema_parse(struct avro_schema *schema, const char *text, size_t length,
                      const char *origin, struct weir_error *err) {
    struct parser p = {.schema = schema, .origin = origin, .err = err};
    json_error_t where;
    json_t *json = json_loadb(text, length, JSON_DECODE_ANY, &where);
    if (json == NULL) {
        return weir_error_set(err, WEIR_E_SCHEMA, "%s: not JSON: %s in line %d", origin, where.text,
                              where.line);
    }
    if (schema->named == NULL) {
        schema->named = json_object();
    }
    int rc = schema->named == NULL ? out_of_memory(&p) : parse(&p, json, "", 0, &schema->top);
    json_decref(json);
    return rc;
}

static void free_texts(char **texts, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        free(texts[i]);
    }
    free(texts);
}

void avro_schema_fini(struct avro_schema *schema) {
    for (struct avro_type *type = schema->types; type != NULL;) {
        struct avro_type *next = type->next;
        for (int32_t i = 0; i < type->field_count; i++) {
            free(type->fields[i].name);
            free(type->fields[i].default_json);
            free_texts(type->fields[i].aliases, type->fields[i].alias_count);
        }
        free(type->fields);
        free((void *)type->branches);
        free_texts(type->symbols, type->symbol_count);
        free(type->name);
        free(type->connect_name);
        free(type);
        type = next;
    }
    json_decref(schema->named);
    free(schema->by_index);
    memset(schema, 0, sizeof(*schema));
}
