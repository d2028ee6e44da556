#include "lake/delta/alter_schema.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lake/delta/alter.h"
#include "lake/delta/schema_json.h"

#define TYPE_CHANGES "delta.typeChanges"
enum { DEPTH_MAX = 64, LISTED_MAX = 200 };

static int no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "alter table: out of memory");
}

/* --- names --------------------------------------------------------------------------------- */

static int keep_names(json_t *node, int64_t *max, int depth, struct weir_error *err) {
    static const char *const inner[] = {"elementType", "keyType", "valueType"};
    json_t *fields = json_object_get(node, "fields");
    int rc = depth < DEPTH_MAX ? WEIR_OK
                               : weir_error_set(err, WEIR_E_LIMIT, "the schema is nested too deep");
    for (size_t i = 0; i < json_array_size(fields) && rc == WEIR_OK; i++) {
        json_t *field = json_array_get(fields, i);
        json_t *metadata = json_object_get(field, "metadata");
        json_t *name = json_object_get(field, "name");
        if (json_object_set_new(metadata, "delta.columnMapping.id", json_integer(++*max)) != 0 ||
            json_object_set(metadata, "delta.columnMapping.physicalName", name) != 0) {
            return no_memory(err);
        }
        rc = keep_names(json_object_get(field, "type"), max, depth + 1, err);
    }
    for (size_t i = 0; i < 3 && rc == WEIR_OK; i++) {
        json_t *type = json_object_get(node, inner[i]);
        rc = json_is_object(type) ? keep_names(type, max, depth + 1, err) : WEIR_OK;
    }
    return rc;
}

int delta_mapping_keep_names(json_t *schema, int64_t *max, struct weir_error *err) {
    return keep_names(schema, max, 0, err);
}

/* --- types --------------------------------------------------------------------------------- */

static int digits_of(uint8_t type) {
    return type == WEIR_TYPE_INT64                             ? 20
           : type >= WEIR_TYPE_INT8 && type <= WEIR_TYPE_INT32 ? 10
                                                               : 0;
}

bool weir_delta_widens(const struct weir_field *from, const struct weir_field *to) {
    bool integer = from->type >= WEIR_TYPE_INT8 && from->type <= WEIR_TYPE_INT64;
    if (integer && to->type >= WEIR_TYPE_INT8 && to->type <= WEIR_TYPE_INT64) {
        return to->type > from->type;
    }
    if (to->type == WEIR_TYPE_DOUBLE) {
        return from->type == WEIR_TYPE_FLOAT || (integer && from->type != WEIR_TYPE_INT64);
    }
    if (to->type == WEIR_TYPE_DECIMAL && integer) {
        return to->precision - to->scale >= digits_of(from->type);
    }
    if (to->type == WEIR_TYPE_DECIMAL && from->type == WEIR_TYPE_DECIMAL) {
        int more = to->scale - from->scale;
        return more >= 0 && to->precision - from->precision >= more &&
               to->precision > from->precision;
    }
    return from->type == WEIR_TYPE_DATE && to->type == WEIR_TYPE_TIMESTAMP_NTZ;
}

/* The one field of a schema of it. */
static int parse_type(const char *type, bool spark, struct weir_schema **out,
                      struct weir_error *err) {
    struct weir_delta_column *columns = NULL;
    if (!spark) {
        *out = weir_schema_create();
        return *out == NULL ? no_memory(err) : weir_schema_add_text(*out, "c", type, true, err);
    }
    json_t *json = json_pack("{s:s,s:[{s:s,s:s,s:b,s:{}}]}", "type", "struct", "fields", "name",
                             "c", "type", type, "nullable", true, "metadata");
    char *text = json != NULL ? json_dumps(json, 0) : NULL;
    int rc = text != NULL ? weir_delta_schema_parse(text, out, &columns, err) : no_memory(err);
    if (rc == WEIR_OK) {
        weir_delta_columns_free(columns, 1);
    }
    json_decref(json);
    free(text);
    return rc;
}

/* As schemas of tables call it. */
static json_t *spark_name(const struct weir_schema *schema) {
    struct weir_buffer text;
    weir_buffer_init(&text, 1 << 16);
    json_t *json = weir_delta_schema_format(schema, &text, NULL) == WEIR_OK
                       ? json_loadb((const char *)text.data, text.size, 0, NULL)
                       : NULL;
    json_t *name = json_object_get(json_array_get(json_object_get(json, "fields"), 0), "type");
    json_incref(name);
    json_decref(json);
    weir_buffer_fini(&text);
    return name;
}

static int put_type(json_t *field, json_t *was, json_t *name, struct weir_error *err) {
    json_t *metadata = json_object_get(field, "metadata");
    json_t *changes = json_object_get(metadata, TYPE_CHANGES);
    bool good = true;
    if (!json_is_array(changes)) {
        changes = json_array();
        good = json_object_set_new(metadata, TYPE_CHANGES, changes) == 0;
    }
    good = good && json_array_append_new(
                       changes, json_pack("{s:O,s:O}", "fromType", was, "toType", name)) == 0;
    return good && json_object_set(field, "type", name) == 0 ? WEIR_OK : no_memory(err);
}

int delta_schema_widen_field(json_t *field, const char *type, struct weir_error *err) {
    json_t *was = json_object_get(field, "type");
    const char *name = json_string_value(json_object_get(field, "name"));
    struct weir_schema *from = NULL;
    struct weir_schema *to = NULL;
    if (!json_is_string(was)) {
        return weir_error_set(err, WEIR_E_SCHEMA, "column %s is nested, its type stays", name);
    }
    struct weir_error quiet;
    json_incref(was);
    int rc = parse_type(json_string_value(was), true, &from, err);
    if (rc == WEIR_OK && parse_type(type, false, &to, &quiet) != WEIR_OK) {
        weir_schema_unref(to);
        to = NULL;
        rc = parse_type(type, true, &to, err);
    }
    if (rc == WEIR_OK && !weir_delta_widens(&from->fields[0], &to->fields[0])) {
        rc = weir_error_set(err, WEIR_E_SCHEMA,
                            "column %s is of type %s, which %s is not a wider one of", name,
                            json_string_value(was), type);
    }
    if (rc == WEIR_OK) {
        json_t *spark = spark_name(to);
        rc = spark != NULL ? put_type(field, was, spark, err) : no_memory(err);
        json_decref(spark);
    }
    json_decref(was);
    weir_schema_unref(from);
    weir_schema_unref(to);
    return rc;
}

static int widen_named(json_t *root, const struct weir_field *field, struct weir_error *err) {
    struct weir_buffer type;
    weir_buffer_init(&type, 1024);
    json_t *fields = json_object_get(root, "fields");
    int rc = weir_field_format_type(field, &type) == WEIR_OK ? WEIR_OK : no_memory(err);
    for (size_t i = 0; i < json_array_size(fields) && rc == WEIR_OK; i++) {
        json_t *item = json_array_get(fields, i);
        const char *name = json_string_value(json_object_get(item, "name"));
        if (name != NULL && strcasecmp(name, field->name) == 0) {
            rc = delta_schema_widen_field(item, weir_buffer_text(&type), err);
        }
    }
    weir_buffer_fini(&type);
    return rc;
}

int delta_schema_widen(struct weir_buffer *text, const struct weir_schema *have,
                       const struct weir_field *fields, int32_t count, struct weir_error *err) {
    json_t *root = json_loadb((const char *)text->data, text->size, 0, NULL);
    int rc = root != NULL ? WEIR_OK : no_memory(err);
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        int32_t at = weir_schema_find(have, fields[i].name);
        if (at >= 0 && weir_delta_widens(&have->fields[at], &fields[i])) {
            rc = widen_named(root, &fields[i], err);
        }
    }
    char *dumped = rc == WEIR_OK ? json_dumps(root, JSON_COMPACT) : NULL;
    weir_buffer_clear(text);
    if (rc == WEIR_OK && (dumped == NULL || weir_buffer_append_text(text, dumped) != WEIR_OK)) {
        rc = no_memory(err);
    }
    free(dumped);
    json_decref(root);
    return rc;
}

/* --- the protocol -------------------------------------------------------------------------- */

static bool has(char *const *features, int32_t count, const char *name) {
    for (int32_t i = 0; i < count; i++) {
        if (strcmp(features[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static void list(char **features, int32_t *count, const char *name) {
    if (!has(features, *count, name)) {
        features[(*count)++] = (char *)(uintptr_t)name;
    }
}

int delta_protocol_add(const struct weir_delta_protocol *now, const char *const *features,
                       int32_t count, struct weir_buffer *out) {
    static const struct {
        int version;
        const char *name;
    } implied[] = {{2, "appendOnly"},     {2, "invariants"},       {3, "checkConstraints"},
                   {4, "changeDataFeed"}, {4, "generatedColumns"}, {5, "columnMapping"},
                   {6, "identityColumns"}};
    char *readers[LISTED_MAX + 56];
    char *writers[LISTED_MAX + 56];
    struct weir_delta_protocol next = {3, 7, readers, writers, 0, 0};
    for (int32_t i = 0; i < now->reader_feature_count && i < LISTED_MAX && now->reader_version == 3;
         i++) {
        list(readers, &next.reader_feature_count, now->reader_features[i]);
    }
    for (int32_t i = 0; i < now->writer_feature_count && i < LISTED_MAX && now->writer_version == 7;
         i++) {
        list(writers, &next.writer_feature_count, now->writer_features[i]);
    }
    for (size_t i = 0; i < sizeof(implied) / sizeof(implied[0]) && now->writer_version < 7; i++) {
        if (now->writer_version >= implied[i].version) {
            list(writers, &next.writer_feature_count, implied[i].name);
        }
    }
    /* All that reader version 2 stands for. */
    if (now->reader_version == 2 && has(writers, next.writer_feature_count, "columnMapping")) {
        list(readers, &next.reader_feature_count, "columnMapping");
    }
    for (int32_t i = 0; i < count; i++) {
        list(readers, &next.reader_feature_count, features[i]);
        list(writers, &next.writer_feature_count, features[i]);
    }
    int rc = weir_delta_protocol_format(&next, out);
    return rc == WEIR_OK ? weir_buffer_append(out, "\n", 1) : rc;
}
