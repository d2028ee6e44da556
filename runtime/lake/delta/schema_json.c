#include "lake/delta/schema_json.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define DEPTH_MAX 48
#define FIELDS_MAX 100000
#define KEY_BYTES 512

static int no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "table schema: out of memory");
}

/* --- writing ------------------------------------------------------------------------------- */

static json_t *fields_json(const struct weir_field *fields, int32_t count, struct weir_error *err);

static const char *primitive_name(uint8_t type) {
    switch (type) {
    case WEIR_TYPE_BOOL:
        return "boolean";
    case WEIR_TYPE_INT8:
        return "byte";
    case WEIR_TYPE_INT16:
        return "short";
    case WEIR_TYPE_INT32:
        return "integer";
    case WEIR_TYPE_INT64:
    case WEIR_TYPE_TIMESTAMP_NS:
    case WEIR_TYPE_TIMESTAMP_NS_NTZ:
        return "long";
    case WEIR_TYPE_FLOAT:
        return "float";
    case WEIR_TYPE_DOUBLE:
        return "double";
    case WEIR_TYPE_STRING:
        return "string";
    case WEIR_TYPE_BINARY:
        return "binary";
    case WEIR_TYPE_DATE:
        return "date";
    case WEIR_TYPE_TIMESTAMP:
        return "timestamp";
    case WEIR_TYPE_TIMESTAMP_NTZ:
        return "timestamp_ntz";
    default:
        return NULL;
    }
}

/* The JSON of a field's type; nanosecond types are noted in `metadata` under `key`. */
static json_t *type_json(const struct weir_field *field, json_t *metadata, const char *key,
                         struct weir_error *err) {
    char inner[KEY_BYTES];
    if (field->type == WEIR_TYPE_DECIMAL) {
        char text[32];
        snprintf(text, sizeof(text), "decimal(%d,%d)", field->precision, field->scale);
        return json_string(text);
    }
    if (field->type == WEIR_TYPE_STRUCT) {
        json_t *fields = fields_json(field->children, field->child_count, err);
        return fields != NULL ? json_pack("{s:s,s:o}", "type", "struct", "fields", fields) : NULL;
    }
    if (field->type == WEIR_TYPE_LIST) {
        snprintf(inner, sizeof(inner), "%s.element", key);
        json_t *element = type_json(&field->children[0], metadata, inner, err);
        return element != NULL ? json_pack("{s:s,s:o,s:b}", "type", "array", "elementType", element,
                                           "containsNull", field->children[0].nullable)
                               : NULL;
    }
    if (field->type == WEIR_TYPE_MAP) {
        snprintf(inner, sizeof(inner), "%s.key", key);
        json_t *map_key = type_json(&field->children[0], metadata, inner, err);
        if (map_key == NULL) {
            return NULL;
        }
        snprintf(inner, sizeof(inner), "%s.value", key);
        json_t *value = type_json(&field->children[1], metadata, inner, err);
        if (value == NULL) {
            json_decref(map_key);
            return NULL;
        }
        return json_pack("{s:s,s:o,s:o,s:b}", "type", "map", "keyType", map_key, "valueType", value,
                         "valueContainsNull", field->children[1].nullable);
    }
    const char *name = primitive_name(field->type);
    if (name == NULL) {
        weir_error_set(err, WEIR_E_SCHEMA, "column %s: type %s has no Delta type", field->name,
                       weir_type_name((enum weir_type)field->type));
        return NULL;
    }
    if (field->type == WEIR_TYPE_TIMESTAMP_NS || field->type == WEIR_TYPE_TIMESTAMP_NS_NTZ) {
        const char *note =
            field->type == WEIR_TYPE_TIMESTAMP_NS ? "timestamp_ns" : "timestamp_ns_ntz";
        if (json_object_set_new(metadata, key, json_string(note)) != 0) {
            return NULL;
        }
    }
    return json_string(name);
}

json_t *delta_field_json(const struct weir_field *field, struct weir_error *err) {
    json_t *metadata = json_object();
    json_t *type = metadata != NULL ? type_json(field, metadata, "weir.type", err) : NULL;
    if (type == NULL) {
        json_decref(metadata);
        return NULL;
    }
    return json_pack("{s:s,s:o,s:b,s:o}", "name", field->name, "type", type, "nullable",
                     field->nullable, "metadata", metadata);
}

static json_t *fields_json(const struct weir_field *fields, int32_t count, struct weir_error *err) {
    json_t *array = json_array();
    for (int32_t i = 0; i < count && array != NULL; i++) {
        if (json_array_append_new(array, delta_field_json(&fields[i], err)) != 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

static int dump(json_t *root, struct weir_buffer *out, struct weir_error *err) {
    char *text = json_dumps(root, JSON_COMPACT);
    int rc = text != NULL ? weir_buffer_append_text(out, text) : WEIR_E_NOMEM;
    free(text);
    return rc == WEIR_OK ? rc : weir_error_set(err, rc, "table schema: %s", weir_error_text(rc));
}

int weir_delta_schema_format(const struct weir_schema *schema, struct weir_buffer *out,
                             struct weir_error *err) {
    struct weir_error inner;
    weir_error_clear(&inner);
    json_t *fields = fields_json(schema->fields, schema->count, &inner);
    json_t *root =
        fields != NULL ? json_pack("{s:s,s:o}", "type", "struct", "fields", fields) : NULL;
    int rc = root != NULL            ? dump(root, out, err)
             : inner.code != WEIR_OK ? weir_error_set(err, inner.code, "%s", inner.message)
                                     : no_memory(err);
    json_decref(root);
    return rc;
}

int weir_delta_schema_append(const char *schema_string, const struct weir_field *fields,
                             int32_t count, struct weir_buffer *out, struct weir_error *err) {
    json_error_t error;
    int rc = WEIR_OK;
    json_t *root = json_loads(schema_string, 0, &error);
    json_t *array = json_object_get(root, "fields");
    if (!json_is_array(array)) {
        rc = weir_error_set(err, WEIR_E_CORRUPT, "schemaString is not a struct of fields");
        goto out;
    }
    for (int32_t i = 0; i < count; i++) {
        struct weir_error inner;
        weir_error_clear(&inner);
        if (json_array_append_new(array, delta_field_json(&fields[i], &inner)) != 0) {
            rc = inner.code != WEIR_OK ? weir_error_set(err, inner.code, "%s", inner.message)
                                       : no_memory(err);
            goto out;
        }
    }
    rc = dump(root, out, err);
out:
    json_decref(root);
    return rc;
}

int weir_delta_schema_relax(struct weir_buffer *text, const struct weir_field *fields,
                            int32_t count, struct weir_error *err) {
    json_t *root = json_loadb((const char *)text->data, text->size, 0, NULL);
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(root, "fields"), i, item) {
        const char *name = json_string_value(json_object_get(item, "name"));
        for (int32_t f = 0; name != NULL && f < count; f++) {
            if (fields[f].nullable && strcmp(fields[f].name, name) == 0) {
                (void)json_object_set_new(item, "nullable", json_true());
            }
        }
    }
    weir_buffer_clear(text);
    int rc = root != NULL ? dump(root, text, err)
                          : weir_error_set(err, WEIR_E_CORRUPT, "schemaString is no JSON");
    json_decref(root);
    return rc;
}

bool weir_delta_schema_has_ntz(const struct weir_schema *schema) {
    struct {
        const struct weir_field *fields;
        int32_t count;
    } stack[DEPTH_MAX * 2];
    int depth = 0;
    stack[depth].fields = schema->fields;
    stack[depth++].count = schema->count;
    while (depth > 0) {
        depth--;
        const struct weir_field *fields = stack[depth].fields;
        int32_t count = stack[depth].count;
        for (int32_t i = 0; i < count; i++) {
            if (fields[i].type == WEIR_TYPE_TIMESTAMP_NTZ) {
                return true;
            }
            if (fields[i].child_count > 0) {
                /* the rest of this level first, then down: one frame a level */
                if (depth + 2 > DEPTH_MAX * 2) {
                    return true; /* deeper than we create; the parser refuses it anyway */
                }
                stack[depth].fields = fields + i + 1;
                stack[depth++].count = count - i - 1;
                stack[depth].fields = fields[i].children;
                stack[depth++].count = fields[i].child_count;
                break;
            }
        }
    }
    return false;
}

/* --- reading ------------------------------------------------------------------------------- */

static void column_fini(struct weir_delta_column *column) {
    free(column->physical_name);
    weir_delta_columns_free(column->children, column->child_count);
}

void weir_delta_columns_free(struct weir_delta_column *columns, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        column_fini(&columns[i]);
    }
    free(columns);
}

static int parse_primitive(const char *name, struct weir_field *field, const char *where,
                           struct weir_error *err) {
    static const struct {
        const char *name;
        uint8_t type;
    } names[] = {
        {"boolean", WEIR_TYPE_BOOL},        {"byte", WEIR_TYPE_INT8},
        {"short", WEIR_TYPE_INT16},         {"integer", WEIR_TYPE_INT32},
        {"long", WEIR_TYPE_INT64},          {"float", WEIR_TYPE_FLOAT},
        {"double", WEIR_TYPE_DOUBLE},       {"string", WEIR_TYPE_STRING},
        {"binary", WEIR_TYPE_BINARY},       {"date", WEIR_TYPE_DATE},
        {"timestamp", WEIR_TYPE_TIMESTAMP}, {"timestamp_ntz", WEIR_TYPE_TIMESTAMP_NTZ},
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i].name) == 0) {
            field->type = names[i].type;
            return WEIR_OK;
        }
    }
    int precision = 10;
    int scale = 0;
    char end = 0;
    if (strcmp(name, "decimal") == 0 ||
        (sscanf(name, "decimal(%d,%d%c", &precision, &scale, &end) == 3 && end == ')')) {
        if (precision < 1 || precision > 38 || scale < 0 || scale > precision) {
            return weir_error_set(err, WEIR_E_CORRUPT, "column %s: impossible type %s", where,
                                  name);
        }
        field->type = WEIR_TYPE_DECIMAL;
        field->precision = (uint8_t)precision;
        field->scale = (int8_t)scale;
        return WEIR_OK;
    }
    /* "string collate …" reads as the strings it holds */
    if (strncmp(name, "string collate ", 15) == 0 || strncmp(name, "varchar(", 8) == 0 ||
        strncmp(name, "char(", 5) == 0) {
        field->type = WEIR_TYPE_STRING;
        return WEIR_OK;
    }
    return weir_error_set(err, WEIR_E_UNSUPPORTED,
                          "column %s: type %.60s is not supported; read this table with an engine "
                          "that has it",
                          where, name);
}

struct parse {
    struct weir_error *err;
    const char *column; /* top-level name, for messages */
    int32_t fields;
    int depth;
};

static int parse_fields(struct parse *parse, const json_t *array, struct weir_field **fields,
                        struct weir_delta_column **columns, int32_t *count);

static int parse_type(struct parse *parse, const json_t *type, const json_t *metadata,
                      const char *key, struct weir_field *field, struct weir_delta_column *column) {
    char inner[KEY_BYTES];
    if (json_is_string(type)) {
        int rc = parse_primitive(json_string_value(type), field, parse->column, parse->err);
        const char *note = json_string_value(json_object_get(metadata, key));
        if (rc == WEIR_OK && field->type == WEIR_TYPE_INT64 && note != NULL) {
            if (strcmp(note, "timestamp_ns") == 0) {
                field->type = WEIR_TYPE_TIMESTAMP_NS;
            } else if (strcmp(note, "timestamp_ns_ntz") == 0) {
                field->type = WEIR_TYPE_TIMESTAMP_NS_NTZ;
            }
        }
        return rc;
    }
    const char *kind = json_string_value(json_object_get(type, "type"));
    if (kind == NULL) {
        return weir_error_set(parse->err, WEIR_E_CORRUPT, "schemaString: column %s has no type",
                              parse->column);
    }
    if (++parse->depth > DEPTH_MAX) {
        return weir_error_set(parse->err, WEIR_E_CORRUPT,
                              "schemaString: column %s is nested deeper than %d", parse->column,
                              DEPTH_MAX);
    }
    int rc;
    if (strcmp(kind, "struct") == 0) {
        field->type = WEIR_TYPE_STRUCT;
        rc = parse_fields(parse, json_object_get(type, "fields"), &field->children,
                          &column->children, &field->child_count);
        column->child_count = field->child_count;
        parse->depth--;
        return rc;
    }
    bool is_map = strcmp(kind, "map") == 0;
    if (!is_map && strcmp(kind, "array") != 0) {
        return weir_error_set(parse->err, WEIR_E_UNSUPPORTED,
                              "column %s: type %.60s is not supported", parse->column, kind);
    }
    int32_t count = is_map ? 2 : 1;
    field->type = is_map ? WEIR_TYPE_MAP : WEIR_TYPE_LIST;
    field->children = calloc((size_t)count, sizeof(*field->children));
    column->children = calloc((size_t)count, sizeof(*column->children));
    if (field->children == NULL || column->children == NULL) {
        return no_memory(parse->err);
    }
    field->child_count = count;
    column->child_count = count;
    static const char *const names[] = {"element", "key", "value"};
    static const char *const types[] = {"elementType", "keyType", "valueType"};
    rc = WEIR_OK;
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        int32_t n = is_map ? i + 1 : 0;
        struct weir_field *child = &field->children[i];
        snprintf(inner, sizeof(inner), "%s.%s", key, names[n]);
        child->name = strdup(names[n]);
        column->children[i].physical_name = strdup(names[n]);
        column->children[i].field_id = -1;
        if (child->name == NULL || column->children[i].physical_name == NULL) {
            return no_memory(parse->err);
        }
        const char *nullable = is_map ? "valueContainsNull" : "containsNull";
        child->nullable = n != 1 && !json_is_false(json_object_get(type, nullable));
        rc = parse_type(parse, json_object_get(type, types[n]), metadata, inner, child,
                        &column->children[i]);
    }
    parse->depth--;
    return rc;
}

static int parse_fields(struct parse *parse, const json_t *array, struct weir_field **fields,
                        struct weir_delta_column **columns, int32_t *count) {
    size_t n = json_array_size(array);
    if (!json_is_array(array) || n > FIELDS_MAX || (parse->fields += (int32_t)n) > FIELDS_MAX) {
        return weir_error_set(parse->err, WEIR_E_CORRUPT,
                              "schemaString is not a struct of at most %d fields", FIELDS_MAX);
    }
    *fields = calloc(n > 0 ? n : 1, sizeof(**fields));
    *columns = calloc(n > 0 ? n : 1, sizeof(**columns));
    if (*fields == NULL || *columns == NULL) {
        return no_memory(parse->err);
    }
    *count = (int32_t)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(array, i);
        const json_t *metadata = json_object_get(item, "metadata");
        const char *name = json_string_value(json_object_get(item, "name"));
        const char *physical =
            json_string_value(json_object_get(metadata, "delta.columnMapping.physicalName"));
        const json_t *id = json_object_get(metadata, "delta.columnMapping.id");
        if (name == NULL) {
            return weir_error_set(parse->err, WEIR_E_CORRUPT, "schemaString: a field has no name");
        }
        struct weir_field *field = &(*fields)[i];
        struct weir_delta_column *column = &(*columns)[i];
        field->name = strdup(name);
        field->nullable = !json_is_false(json_object_get(item, "nullable"));
        column->physical_name = strdup(physical != NULL ? physical : name);
        column->field_id = -1;
        if (json_is_integer(id) && json_integer_value(id) >= 0 &&
            json_integer_value(id) <= INT32_MAX) {
            column->field_id = (int32_t)json_integer_value(id);
        }
        if (field->name == NULL || column->physical_name == NULL) {
            return no_memory(parse->err);
        }
        if (parse->depth == 0) {
            parse->column = field->name;
        }
        int rc =
            parse_type(parse, json_object_get(item, "type"), metadata, "weir.type", field, column);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return WEIR_OK;
}

int weir_delta_schema_parse(const char *schema_string, struct weir_schema **schema,
                            struct weir_delta_column **columns, struct weir_error *err) {
    json_error_t error;
    struct parse parse = {err, "", 0, 0};
    struct weir_field root;
    struct weir_delta_column root_column;
    memset(&root, 0, sizeof(root));
    memset(&root_column, 0, sizeof(root_column));
    *schema = NULL;
    *columns = NULL;
    int rc;
    json_t *json = json_loads(schema_string, 0, &error);
    if (json == NULL) {
        return weir_error_set(err, WEIR_E_CORRUPT, "schemaString is not JSON: %s", error.text);
    }
    rc = parse_fields(&parse, json_object_get(json, "fields"), &root.children,
                      &root_column.children, &root.child_count);
    root_column.child_count = root.child_count;
    if (rc != WEIR_OK) {
        goto out;
    }
    *schema = weir_schema_create();
    if (*schema == NULL) {
        rc = no_memory(err);
        goto out;
    }
    for (int32_t i = 0; i < root.child_count; i++) {
        rc = weir_schema_add(*schema, &root.children[i]);
        if (rc != WEIR_OK) {
            rc = weir_error_set(err, rc, "table schema: %s", weir_error_text(rc));
            goto out;
        }
    }
    *columns = root_column.children;
    root_column.children = NULL;
    root_column.child_count = 0;
out:
    if (rc != WEIR_OK) {
        weir_schema_unref(*schema);
        *schema = NULL;
    }
    weir_field_fini(&root);
    weir_delta_columns_free(root_column.children, root_column.child_count);
    json_decref(json);
    return rc;
}

static bool find_metadata(const json_t *node, const char *key, int depth, char *name,
                          size_t name_size) {
    if (depth > DEPTH_MAX) {
        return false;
    }
    const json_t *fields = json_object_get(node, "fields");
    for (size_t i = 0; i < json_array_size(fields); i++) {
        const json_t *field = json_array_get(fields, i);
        const json_t *value = json_object_get(json_object_get(field, "metadata"), key);
        const char *text = json_string_value(json_object_get(field, "name"));
        if (value != NULL && !json_is_null(value)) {
            snprintf(name, name_size, "%s", text != NULL ? text : "?");
            return true;
        }
        if (find_metadata(json_object_get(field, "type"), key, depth + 1, name, name_size)) {
            return true;
        }
    }
    static const char *const inner[] = {"elementType", "keyType", "valueType"};
    for (size_t i = 0; i < 3; i++) {
        const json_t *type = json_object_get(node, inner[i]);
        if (json_is_object(type) && find_metadata(type, key, depth + 1, name, name_size)) {
            return true;
        }
    }
    return false;
}

bool delta_schema_notes(const json_t *type, const char *key, char *name, size_t name_size) {
    return find_metadata(type, key, 0, name, name_size);
}

bool weir_delta_schema_has_metadata(const char *schema_string, const char *key, char *name,
                                    size_t name_size) {
    json_error_t error;
    json_t *json = json_loads(schema_string, 0, &error);
    bool found = find_metadata(json, key, 0, name, name_size);
    json_decref(json);
    return found;
}
