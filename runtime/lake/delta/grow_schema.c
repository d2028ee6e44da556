/* Members that structs of a table's columns gain, wherever they lie: in lists, in maps, in one
 * another. Readers find members by name (or by id), older files read as null. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lake/delta/alter_schema.h"
#include "lake/delta/schema_json.h"

static int32_t find_member(const struct weir_field *field, const char *name) {
    for (int32_t i = 0; i < field->child_count; i++) {
        if (strcasecmp(field->children[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

bool delta_meets(const struct weir_field *have, const struct weir_field *want, bool *grows) {
    if (have->type != want->type || have->precision != want->precision ||
        have->scale != want->scale) {
        return false;
    }
    bool members = want->type == WEIR_TYPE_STRUCT;
    for (int32_t i = 0; i < want->child_count; i++) {
        const struct weir_field *child = &want->children[i];
        int32_t at = members ? find_member(have, child->name) : i;
        if (at < 0) {
            *grows = true;
        } else if ((members && strcmp(have->children[at].name, child->name) != 0) ||
                   !delta_meets(&have->children[at], child, grows)) {
            return false;
        }
    }
    for (int32_t i = 0; members && i < have->child_count; i++) {
        if (!have->children[i].nullable && find_member(want, have->children[i].name) < 0) {
            return false;
        }
    }
    return true;
}

static int grow_type(json_t *type, const struct weir_field *want, struct weir_error *err);

static int grow_struct(json_t *type, const struct weir_field *want, struct weir_error *err) {
    json_t *fields = json_object_get(type, "fields");
    int rc = WEIR_OK;
    for (int32_t i = 0; i < want->child_count && rc == WEIR_OK; i++) {
        json_t *found = NULL;
        size_t at;
        json_t *item;
        json_array_foreach(fields, at, item) {
            const char *name = json_string_value(json_object_get(item, "name"));
            found = name != NULL && strcmp(name, want->children[i].name) == 0 ? item : found;
        }
        if (found != NULL) {
            rc = grow_type(json_object_get(found, "type"), &want->children[i], err);
            continue;
        }
        json_t *made = delta_field_json(&want->children[i], err);
        if (made == NULL || json_object_set_new(made, "nullable", json_true()) != 0 ||
            json_array_append(fields, made) != 0) {
            rc = weir_error_set(err, WEIR_E_SCHEMA, "the member %s cannot be added",
                                want->children[i].name);
        }
        json_decref(made);
    }
    return rc;
}

static int grow_type(json_t *type, const struct weir_field *want, struct weir_error *err) {
    static const char *const of_map[] = {"keyType", "valueType"};
    int rc = WEIR_OK;
    if (want->type == WEIR_TYPE_STRUCT) {
        return grow_struct(type, want, err);
    }
    for (int32_t i = 0; i < want->child_count && rc == WEIR_OK; i++) {
        const char *key = want->type == WEIR_TYPE_MAP ? of_map[i] : "elementType";
        rc = grow_type(json_object_get(type, key), &want->children[i], err);
    }
    return rc;
}

int delta_schema_grow(struct weir_buffer *text, const struct weir_field *fields, int32_t count,
                      struct weir_error *err) {
    json_t *root = json_loadb((const char *)text->data, text->size, 0, NULL);
    int rc =
        root != NULL ? WEIR_OK : weir_error_set(err, WEIR_E_CORRUPT, "schemaString is no JSON");
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(root, "fields"), i, item) {
        const char *name = json_string_value(json_object_get(item, "name"));
        for (int32_t f = 0; rc == WEIR_OK && name != NULL && f < count; f++) {
            if (weir_type_is_nested(fields[f].type) && strcmp(fields[f].name, name) == 0) {
                rc = grow_type(json_object_get(item, "type"), &fields[f], err);
            }
        }
    }
    char *grown = rc == WEIR_OK ? json_dumps(root, JSON_COMPACT) : NULL;
    weir_buffer_clear(text);
    if (rc == WEIR_OK && (grown == NULL || weir_buffer_append_text(text, grown) != WEIR_OK)) {
        rc = weir_error_set(err, WEIR_E_NOMEM, "add columns: out of memory");
    }
    free(grown);
    json_decref(root);
    return rc;
}
