#include "lake/delta/mapping.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <strings.h>

#include "lake/delta/maintain.h"

#define COLUMN_ID "delta.columnMapping.id"
#define PHYSICAL_NAME "delta.columnMapping.physicalName"

static int no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "write table: out of memory");
}

/* --- names and ids ------------------------------------------------------------------------- */

const char *delta_mapping_mode(const struct weir_delta_metadata *metadata) {
    const char *mode = weir_delta_metadata_property(metadata, "delta.columnMapping.mode");
    return mode != NULL && strcmp(mode, "none") != 0 ? mode : NULL;
}

const char *delta_mapping_name(struct weir_delta_snapshot *snapshot, const char *name) {
    const struct weir_schema *schema;
    const struct weir_delta_column *columns;
    if (weir_delta_snapshot_schema(snapshot, &schema, &columns, NULL) != WEIR_OK) {
        return name;
    }
    int32_t at = weir_schema_find(schema, name);
    return at >= 0 ? columns[at].physical_name : name;
}

struct mapping {
    int32_t *ids;
    int32_t count;
    int32_t capacity;
};

static bool push_id(struct mapping *mapping, int32_t id) {
    if (mapping->count == mapping->capacity) {
        int32_t capacity = mapping->capacity > 0 ? mapping->capacity * 2 : 32;
        int32_t *ids = realloc(mapping->ids, (size_t)capacity * sizeof(*ids));
        if (ids == NULL) {
            return false;
        }
        mapping->ids = ids;
        mapping->capacity = capacity;
    }
    mapping->ids[mapping->count++] = id;
    return true;
}

/* Renames a field and what is in it; `field` is a copy of ours, `from` the table's of that name. */
static bool rename_field(struct mapping *mapping, struct weir_field *field,
                         const struct weir_field *from, const struct weir_delta_column *column) {
    if (!push_id(mapping, column != NULL ? column->field_id : -1)) {
        return false;
    }
    bool in_struct = field->type == WEIR_TYPE_STRUCT;
    for (int32_t i = 0; i < field->child_count; i++) {
        struct weir_field *child = &field->children[i];
        int32_t at = !in_struct && column != NULL ? i : -1;
        for (int32_t j = 0; in_struct && from != NULL && j < from->child_count; j++) {
            at = strcmp(from->children[j].name, child->name) == 0 ? j : at;
        }
        const struct weir_delta_column *inner =
            at >= 0 && column != NULL && at < column->child_count ? &column->children[at] : NULL;
        if (!rename_field(mapping, child, inner != NULL ? &from->children[at] : NULL, inner)) {
            return false;
        }
    }
    char *name = column != NULL ? strdup(column->physical_name) : field->name;
    if (name == NULL) {
        return false;
    }
    if (name != field->name) {
        free(field->name);
        field->name = name;
    }
    return true;
}

int delta_mapping_schema(struct weir_delta_snapshot *snapshot, const struct weir_schema *schema,
                         struct weir_schema **physical, int32_t **ids, int32_t *id_count,
                         struct weir_error *err) {
    const struct weir_schema *table;
    const struct weir_delta_column *columns;
    struct mapping mapping = {NULL, 0, 0};
    *ids = NULL;
    *id_count = 0;
    if (delta_mapping_mode(&snapshot->metadata) == NULL) {
        *physical = weir_schema_ref((struct weir_schema *)(uintptr_t)schema);
        return WEIR_OK;
    }
    int rc = weir_delta_snapshot_schema(snapshot, &table, &columns, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    struct weir_schema *renamed = weir_schema_create();
    rc = renamed != NULL ? WEIR_OK : WEIR_E_NOMEM;
    for (int32_t i = 0; i < schema->count && rc == WEIR_OK; i++) {
        struct weir_field copy;
        int32_t at = weir_schema_find(table, schema->fields[i].name);
        rc = weir_field_copy(&copy, &schema->fields[i]);
        if (rc != WEIR_OK) {
            break;
        }
        if (!rename_field(&mapping, &copy, at >= 0 ? &table->fields[at] : NULL,
                          at >= 0 ? &columns[at] : NULL)) {
            rc = WEIR_E_NOMEM;
        }
        rc = rc == WEIR_OK ? weir_schema_add(renamed, &copy) : rc;
        weir_field_fini(&copy);
    }
    if (rc != WEIR_OK) {
        weir_schema_unref(renamed);
        free(mapping.ids);
        return weir_error_set(err, rc, "write table: %s", weir_error_text(rc));
    }
    *physical = renamed;
    *ids = mapping.ids;
    *id_count = mapping.count;
    return WEIR_OK;
}

/* --- new columns --------------------------------------------------------------------------- */

static int assign(json_t *node, int64_t *max_id, struct weir_error *err);

static int assign_field(json_t *field, int64_t *max_id, struct weir_error *err) {
    char uuid[DELTA_UUID_BYTES];
    char name[DELTA_UUID_BYTES + 4] = "col-";
    json_t *metadata = json_object_get(field, "metadata");
    int rc = delta_uuid(uuid, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    memcpy(name + 4, uuid, sizeof(uuid));
    if (!json_is_integer(json_object_get(metadata, COLUMN_ID)) &&
        (json_object_set_new(metadata, COLUMN_ID, json_integer(++*max_id)) != 0 ||
         json_object_set_new(metadata, PHYSICAL_NAME, json_string(name)) != 0)) {
        return no_memory(err);
    }
    return assign(json_object_get(field, "type"), max_id, err);
}

/* All fields inside a type. */
static int assign(json_t *node, int64_t *max_id, struct weir_error *err) {
    static const char *const inner[] = {"elementType", "keyType", "valueType"};
    json_t *fields = json_object_get(node, "fields");
    int rc = WEIR_OK;
    for (size_t i = 0; i < json_array_size(fields) && rc == WEIR_OK; i++) {
        rc = assign_field(json_array_get(fields, i), max_id, err);
    }
    for (size_t i = 0; i < 3 && rc == WEIR_OK; i++) {
        json_t *type = json_object_get(node, inner[i]);
        rc = json_is_object(type) ? assign(type, max_id, err) : WEIR_OK;
    }
    return rc;
}

int delta_mapping_assign(const char *schema_string, int64_t *max_id, struct weir_buffer *out,
                         struct weir_error *err) {
    json_t *root = json_loads(schema_string, 0, NULL);
    int rc = root != NULL ? assign(root, max_id, err) : no_memory(err);
    char *text = rc == WEIR_OK ? json_dumps(root, JSON_COMPACT) : NULL;
    weir_buffer_clear(out);
    if (rc == WEIR_OK && (text == NULL || weir_buffer_append_text(out, text) != WEIR_OK)) {
        rc = no_memory(err);
    }
    free(text);
    json_decref(root);
    return rc;
}

/* --- clustering ---------------------------------------------------------------------------- */

/* The leaf at `path` below the field, counting from `*leaf`; false, with `*leaf` past the field,
 * when it is not there. */
static bool find_leaf(const struct weir_field *field, const json_t *path, size_t depth,
                      int32_t *leaf) {
    const char *name = json_string_value(json_array_get(path, depth));
    bool named = name != NULL && strcmp(name, field->name) == 0;
    if (field->child_count == 0) {
        bool found = named && depth + 1 == json_array_size(path);
        *leaf += found ? 0 : 1;
        return found;
    }
    for (int32_t i = 0; i < field->child_count; i++) {
        /* a path of another name leads nowhere, but the leaves count all the same */
        if (find_leaf(&field->children[i], named ? path : NULL, depth + 1, leaf)) {
            return true;
        }
    }
    return false;
}

int delta_clustering_paths(const struct weir_delta_snapshot *snapshot, json_t **paths,
                           struct weir_error *err) {
    const char *configuration = NULL;
    *paths = NULL;
    for (int32_t i = 0; i < snapshot->domain_count; i++) {
        if (strcmp(snapshot->domains[i].name, "delta.clustering") == 0) {
            configuration = snapshot->domains[i].configuration;
        }
    }
    if (configuration == NULL) {
        return WEIR_OK;
    }
    json_t *root = json_loads(configuration, 0, NULL);
    *paths = json_incref(json_object_get(root, "clusteringColumns"));
    json_decref(root);
    if (!json_is_array(*paths)) {
        json_decref(*paths);
        *paths = NULL;
        return weir_error_set(err, WEIR_E_CORRUPT,
                              "the table's clustering (domain delta.clustering) is unreadable: %s",
                              configuration);
    }
    return WEIR_OK;
}

int delta_clusters_by(const struct weir_delta_snapshot *snapshot, const char *physical, bool *does,
                      struct weir_error *err) {
    json_t *paths;
    int rc = delta_clustering_paths(snapshot, &paths, err);
    *does = false;
    for (size_t c = 0; rc == WEIR_OK && c < json_array_size(paths); c++) {
        const char *name = json_string_value(json_array_get(json_array_get(paths, c), 0));
        *does |= name != NULL && strcmp(name, physical) == 0;
    }
    json_decref(paths);
    return rc;
}

int delta_clustering_leaves(const struct weir_delta_snapshot *snapshot,
                            const struct weir_schema *physical, const bool *excluded,
                            int32_t *leaves, struct weir_error *err) {
    json_t *columns;
    if (*leaves < 0) {
        return WEIR_OK;
    }
    int rc = delta_clustering_paths(snapshot, &columns, err);
    for (size_t c = 0; c < json_array_size(columns); c++) {
        int32_t leaf = 0;
        for (int32_t i = 0; i < physical->count; i++) {
            if (!excluded[i] &&
                find_leaf(&physical->fields[i], json_array_get(columns, c), 0, &leaf)) {
                *leaves = leaf + 1 > *leaves ? leaf + 1 : *leaves;
                break;
            }
        }
    }
    json_decref(columns);
    return rc;
}

bool delta_lists_feature(char *const *features, int32_t count, const char *feature) {
    for (int32_t i = 0; i < count; i++) {
        if (strcmp(features[i], feature) == 0) {
            return true;
        }
    }
    return false;
}

bool delta_has_writer_feature(const struct weir_delta_protocol *protocol, const char *feature) {
    return protocol->writer_version == 7 &&
           delta_lists_feature(protocol->writer_features, protocol->writer_feature_count, feature);
}
