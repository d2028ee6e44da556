/* JSON log lines to actions, through jansson (exact 64-bit integers, bounded depth). The bytes come
 * from outside: every field is checked for its kind, and a message names file, line and field. */
#include <jansson.h>
#include <stdlib.h>

#include "lake/delta/actions.h"

#define LINE_MAX_BYTES (64u << 20)
#define NAMES_MAX 4096 /* features, partition columns, properties */

struct place {
    const char *file;
    size_t line;
    struct weir_error *err;
};

static int bad(const struct place *place, const char *what, const char *field) {
    return weir_error_set(place->err, WEIR_E_CORRUPT, "%s line %zu: %s \"%s\"", place->file,
                          place->line, what, field);
}

/* Missing and null both leave *out as it is. */
static int get_text(const struct place *place, const json_t *object, const char *name,
                    const char **out) {
    const json_t *value = json_object_get(object, name);
    if (value == NULL || json_is_null(value)) {
        return WEIR_OK;
    }
    if (!json_is_string(value) || strlen(json_string_value(value)) != json_string_length(value)) {
        return bad(place, "expected a text in", name);
    }
    *out = json_string_value(value);
    return WEIR_OK;
}

static int get_int(const struct place *place, const json_t *object, const char *name,
                   int64_t *out) {
    const json_t *value = json_object_get(object, name);
    if (value == NULL || json_is_null(value)) {
        return WEIR_OK;
    }
    if (!json_is_integer(value)) {
        return bad(place, "expected an integer in", name);
    }
    *out = json_integer_value(value);
    return WEIR_OK;
}

static int get_bool(const struct place *place, const json_t *object, const char *name, bool *out) {
    const json_t *value = json_object_get(object, name);
    if (value == NULL || json_is_null(value)) {
        return WEIR_OK;
    }
    if (!json_is_boolean(value)) {
        return bad(place, "expected true or false in", name);
    }
    *out = json_is_true(value);
    return WEIR_OK;
}

static int get_int32(const struct place *place, const json_t *object, const char *name,
                     int32_t *out) {
    int64_t value = *out;
    int rc = get_int(place, object, name, &value);
    if (rc == WEIR_OK && (value < INT32_MIN || value > INT32_MAX)) {
        rc = bad(place, "number out of range in", name);
    }
    *out = (int32_t)value;
    return rc;
}

static int require(const struct place *place, const void *value, const char *name) {
    return value != NULL ? WEIR_OK : bad(place, "missing", name);
}

/* Array of texts; *count is -1 when absent. */
static int get_texts(const struct place *place, const json_t *object, const char *name, char ***out,
                     int32_t *count) {
    const json_t *array = json_object_get(object, name);
    *count = -1;
    if (array == NULL || json_is_null(array)) {
        return WEIR_OK;
    }
    size_t n = json_array_size(array);
    if (!json_is_array(array) || n > NAMES_MAX) {
        return bad(place, "expected a list of texts in", name);
    }
    *count = 0;
    *out = calloc(n > 0 ? n : 1, sizeof(**out));
    if (*out == NULL) {
        return weir_error_set(place->err, WEIR_E_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < n; i++) {
        const char *text = json_string_value(json_array_get(array, i));
        if (text == NULL) {
            return bad(place, "expected a list of texts in", name);
        }
        (*out)[i] = strdup(text);
        if ((*out)[i] == NULL) {
            return weir_error_set(place->err, WEIR_E_NOMEM, "out of memory");
        }
        (*count)++;
    }
    return WEIR_OK;
}

/* Object of texts and nulls, borrowed from the tree. The caller frees the array. */
static int get_pairs(const struct place *place, const json_t *object, const char *name,
                     struct weir_delta_pair **out, int32_t *count) {
    json_t *map = json_object_get(object, name);
    *count = 0;
    *out = NULL;
    if (map == NULL || json_is_null(map)) {
        return WEIR_OK;
    }
    size_t n = json_object_size(map);
    if (!json_is_object(map) || n > NAMES_MAX) {
        return bad(place, "expected an object of texts in", name);
    }
    *out = calloc(n > 0 ? n : 1, sizeof(**out));
    if (*out == NULL) {
        return weir_error_set(place->err, WEIR_E_NOMEM, "out of memory");
    }
    const char *key;
    json_t *value;
    json_object_foreach(map, key, value) {
        if (!json_is_string(value) && !json_is_null(value)) {
            return bad(place, "expected an object of texts in", name);
        }
        (*out)[*count].key = key;
        (*out)[*count].value = json_string_value(value);
        (*count)++;
    }
    return WEIR_OK;
}

static int get_dv(const struct place *place, const json_t *object, struct weir_delta_dv *dv) {
    const json_t *value = json_object_get(object, "deletionVector");
    memset(dv, 0, sizeof(*dv));
    if (value == NULL || json_is_null(value)) {
        return WEIR_OK;
    }
    if (!json_is_object(value)) {
        return bad(place, "expected an object in", "deletionVector");
    }
    const char *type = NULL;
    dv->offset = -1;
    int rc = get_text(place, value, "storageType", &type);
    if (rc == WEIR_OK) {
        rc = get_text(place, value, "pathOrInlineDv", &dv->path_or_inline);
    }
    if (rc == WEIR_OK) {
        rc = get_int32(place, value, "offset", &dv->offset);
    }
    if (rc == WEIR_OK) {
        rc = get_int32(place, value, "sizeInBytes", &dv->size_bytes);
    }
    if (rc == WEIR_OK) {
        rc = get_int(place, value, "cardinality", &dv->cardinality);
    }
    if (rc == WEIR_OK) {
        rc = require(place, dv->path_or_inline, "deletionVector.pathOrInlineDv");
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    if (type == NULL || strlen(type) != 1 || strchr("uip", type[0]) == NULL) {
        return bad(place, "unknown kind of deletion vector in", "storageType");
    }
    dv->storage_type = type[0];
    return WEIR_OK;
}

/* Fills `add` with borrowed texts; *pairs and *tags are the caller's to free. */
static int read_add(const struct place *place, const json_t *object, struct weir_delta_add *add,
                    struct weir_delta_pair **pairs, char **tags) {
    memset(add, 0, sizeof(*add));
    add->data_change = true;
    *pairs = NULL;
    *tags = NULL;
    int rc = get_text(place, object, "path", &add->path);
    if (rc == WEIR_OK) {
        rc = require(place, add->path, "add.path");
    }
    if (rc == WEIR_OK) {
        rc = get_pairs(place, object, "partitionValues", pairs, &add->partition_count);
        add->partition_values = *pairs;
    }
    if (rc == WEIR_OK) {
        rc = get_int(place, object, "size", &add->size_bytes);
    }
    if (rc == WEIR_OK) {
        rc = get_int(place, object, "modificationTime", &add->modified_ms);
    }
    if (rc == WEIR_OK) {
        rc = get_bool(place, object, "dataChange", &add->data_change);
    }
    if (rc == WEIR_OK) {
        rc = get_text(place, object, "stats", &add->stats);
    }
    if (rc == WEIR_OK) {
        rc = get_text(place, object, "clusteringProvider", &add->clustering_provider);
    }
    if (rc == WEIR_OK) {
        rc = get_dv(place, object, &add->dv);
    }
    const json_t *row_id = json_object_get(object, "baseRowId");
    if (rc == WEIR_OK && json_is_integer(row_id)) {
        add->has_row_id = true;
        add->base_row_id = json_integer_value(row_id);
        rc = get_int(place, object, "defaultRowCommitVersion", &add->default_row_commit_version);
    }
    const json_t *tags_value = json_object_get(object, "tags");
    if (rc == WEIR_OK && json_is_object(tags_value)) {
        *tags = json_dumps(tags_value, JSON_COMPACT | JSON_ENCODE_ANY);
        if (*tags == NULL) {
            rc = weir_error_set(place->err, WEIR_E_NOMEM, "out of memory");
        }
        add->tags_json = *tags;
    }
    if (rc == WEIR_OK && add->size_bytes < 0) {
        rc = bad(place, "negative number in", "add.size");
    }
    return rc;
}

static int visit_file(const struct place *place, const json_t *object,
                      int (*visit)(void *context, const struct weir_delta_add *add,
                                   struct weir_error *err),
                      void *context) {
    struct weir_delta_add add;
    struct weir_delta_pair *pairs;
    char *tags;
    int rc = read_add(place, object, &add, &pairs, &tags);
    if (rc == WEIR_OK) {
        rc = visit(context, &add, place->err);
    }
    free(pairs);
    free(tags);
    return rc;
}

static int visit_remove(const struct place *place, const json_t *object,
                        const struct weir_delta_action_visitor *visitor) {
    struct weir_delta_remove remove;
    memset(&remove, 0, sizeof(remove));
    remove.data_change = true;
    int rc = get_text(place, object, "path", &remove.path);
    if (rc == WEIR_OK) {
        rc = require(place, remove.path, "remove.path");
    }
    if (rc == WEIR_OK) {
        rc = get_int(place, object, "deletionTimestamp", &remove.deletion_ms);
    }
    if (rc == WEIR_OK) {
        rc = get_bool(place, object, "dataChange", &remove.data_change);
    }
    if (rc == WEIR_OK) {
        rc = get_dv(place, object, &remove.dv);
    }
    return rc == WEIR_OK ? visitor->remove(visitor->context, &remove, place->err) : rc;
}

static int visit_protocol(const struct place *place, const json_t *object,
                          const struct weir_delta_action_visitor *visitor) {
    struct weir_delta_protocol protocol;
    memset(&protocol, 0, sizeof(protocol));
    int rc = get_int32(place, object, "minReaderVersion", &protocol.reader_version);
    if (rc == WEIR_OK) {
        rc = get_int32(place, object, "minWriterVersion", &protocol.writer_version);
    }
    if (rc == WEIR_OK) {
        rc = get_texts(place, object, "readerFeatures", &protocol.reader_features,
                       &protocol.reader_feature_count);
    }
    if (rc == WEIR_OK) {
        rc = get_texts(place, object, "writerFeatures", &protocol.writer_features,
                       &protocol.writer_feature_count);
    }
    if (rc == WEIR_OK) {
        rc = visitor->protocol(visitor->context, &protocol, place->err);
    }
    weir_delta_protocol_fini(&protocol);
    return rc;
}

static int visit_metadata(const struct place *place, const json_t *object,
                          const struct weir_delta_action_visitor *visitor) {
    const char *id = NULL;
    const char *name = NULL;
    const char *description = NULL;
    const char *schema = NULL;
    const char *provider = NULL;
    struct weir_delta_pair *pairs = NULL;
    struct weir_delta_metadata metadata; /* borrows everything but partition_columns and pairs */
    memset(&metadata, 0, sizeof(metadata));
    const json_t *format = json_object_get(object, "format");
    int rc = get_text(place, object, "id", &id);
    if (rc == WEIR_OK) {
        rc = get_text(place, object, "name", &name);
    }
    if (rc == WEIR_OK) {
        rc = get_text(place, object, "description", &description);
    }
    if (rc == WEIR_OK) {
        rc = get_text(place, object, "schemaString", &schema);
    }
    if (rc == WEIR_OK && json_is_object(format)) {
        rc = get_text(place, format, "provider", &provider);
    }
    if (rc == WEIR_OK) {
        rc = get_texts(place, object, "partitionColumns", &metadata.partition_columns,
                       &metadata.partition_count);
    }
    if (rc == WEIR_OK) {
        rc = get_pairs(place, object, "configuration", &pairs, &metadata.configuration_count);
    }
    if (rc == WEIR_OK) {
        rc = get_int(place, object, "createdTime", &metadata.created_ms);
    }
    if (rc == WEIR_OK) {
        rc = require(place, id, "metaData.id");
    }
    if (rc == WEIR_OK && schema == NULL) {
        schema = "{\"type\":\"struct\",\"fields\":[]}"; /* tables made before they had columns */
    }
    if (rc == WEIR_OK) {
        metadata.id = (char *)(uintptr_t)id;
        metadata.name = (char *)(uintptr_t)name;
        metadata.description = (char *)(uintptr_t)description;
        metadata.format_provider = (char *)(uintptr_t)(provider != NULL ? provider : "parquet");
        metadata.schema_string = (char *)(uintptr_t)schema;
        metadata.configuration = pairs;
        if (metadata.partition_count < 0) {
            metadata.partition_count = 0;
        }
        rc = visitor->metadata(visitor->context, &metadata, place->err);
    }
    for (int32_t i = 0; i < metadata.partition_count; i++) {
        free(metadata.partition_columns[i]);
    }
    free(metadata.partition_columns);
    free(pairs);
    return rc;
}

static int visit_txn(const struct place *place, const json_t *object,
                     const struct weir_delta_action_visitor *visitor) {
    struct weir_delta_txn txn = {NULL, 0, 0};
    int rc = get_text(place, object, "appId", &txn.app_id);
    if (rc == WEIR_OK) {
        rc = require(place, txn.app_id, "txn.appId");
    }
    if (rc == WEIR_OK) {
        rc = get_int(place, object, "version", &txn.version);
    }
    if (rc == WEIR_OK) {
        rc = get_int(place, object, "lastUpdated", &txn.last_updated_ms);
    }
    return rc == WEIR_OK ? visitor->txn(visitor->context, &txn, place->err) : rc;
}

static int visit_domain(const struct place *place, const json_t *object,
                        const struct weir_delta_action_visitor *visitor) {
    struct weir_delta_domain domain = {NULL, "", false};
    int rc = get_text(place, object, "domain", &domain.name);
    if (rc == WEIR_OK) {
        rc = require(place, domain.name, "domainMetadata.domain");
    }
    if (rc == WEIR_OK) {
        rc = get_text(place, object, "configuration", &domain.configuration);
    }
    if (rc == WEIR_OK) {
        rc = get_bool(place, object, "removed", &domain.removed);
    }
    return rc == WEIR_OK ? visitor->domain(visitor->context, &domain, place->err) : rc;
}

/* commitInfo is free-form: a field of an unexpected kind is passed over, never an error. */
static int visit_commit_info(const struct place *place, const json_t *object,
                             const struct weir_delta_action_visitor *visitor) {
    struct weir_delta_commit_info info;
    memset(&info, 0, sizeof(info));
    const json_t *blind = json_object_get(object, "isBlindAppend");
    const json_t *read = json_object_get(object, "readVersion");
    const json_t *parameters = json_object_get(object, "operationParameters");
    const json_t *metrics = json_object_get(object, "operationMetrics");
    char *parameters_json =
        json_is_object(parameters) ? json_dumps(parameters, JSON_COMPACT) : NULL;
    char *metrics_json = json_is_object(metrics) ? json_dumps(metrics, JSON_COMPACT) : NULL;
    info.timestamp_ms = json_integer_value(json_object_get(object, "timestamp"));
    info.in_commit_timestamp_ms = json_integer_value(json_object_get(object, "inCommitTimestamp"));
    info.operation = json_string_value(json_object_get(object, "operation"));
    info.engine_info = json_string_value(json_object_get(object, "engineInfo"));
    info.txn_id = json_string_value(json_object_get(object, "txnId"));
    info.operation_parameters_json = parameters_json;
    info.operation_metrics_json = metrics_json;
    info.read_version = json_is_integer(read) ? json_integer_value(read) : -1;
    info.is_blind_append = json_is_boolean(blind) ? json_is_true(blind) : -1;
    int rc = visitor->commit_info(visitor->context, &info, place->err);
    free(parameters_json);
    free(metrics_json);
    return rc;
}

static int visit_sidecar(const struct place *place, const json_t *object,
                         const struct weir_delta_action_visitor *visitor) {
    const char *path = NULL;
    int64_t size = 0;
    int rc = get_text(place, object, "path", &path);
    if (rc == WEIR_OK) {
        rc = require(place, path, "sidecar.path");
    }
    if (rc == WEIR_OK) {
        rc = get_int(place, object, "sizeInBytes", &size);
    }
    return rc == WEIR_OK ? visitor->sidecar(visitor->context, path, size, place->err) : rc;
}

static int visit_action(const struct place *place, const char *kind, const json_t *object,
                        const struct weir_delta_action_visitor *visitor) {
    if (json_is_null(object)) {
        return WEIR_OK;
    }
    static const char *const known[] = {"add", "remove",     "metaData",       "protocol",
                                        "txn", "commitInfo", "domainMetadata", "sidecar",
                                        "cdc"};
    size_t which = 0;
    size_t count = sizeof(known) / sizeof(known[0]);
    while (which < count && strcmp(kind, known[which]) != 0) {
        which++;
    }
    if (which == count) {
        return WEIR_OK; /* checkpointMetadata, and what later protocols add */
    }
    if (!json_is_object(object)) {
        return bad(place, "expected an object in", kind);
    }
    switch (which) {
    case 0:
        return visitor->add != NULL ? visit_file(place, object, visitor->add, visitor->context)
                                    : WEIR_OK;
    case 1:
        if (visitor->removed_file != NULL) {
            return visit_file(place, object, visitor->removed_file, visitor->context);
        }
        return visitor->remove != NULL ? visit_remove(place, object, visitor) : WEIR_OK;
    case 2:
        return visitor->metadata != NULL ? visit_metadata(place, object, visitor) : WEIR_OK;
    case 3:
        return visitor->protocol != NULL ? visit_protocol(place, object, visitor) : WEIR_OK;
    case 4:
        return visitor->txn != NULL ? visit_txn(place, object, visitor) : WEIR_OK;
    case 5:
        return visitor->commit_info != NULL ? visit_commit_info(place, object, visitor) : WEIR_OK;
    case 6:
        return visitor->domain != NULL ? visit_domain(place, object, visitor) : WEIR_OK;
    case 8:
        return visitor->cdc != NULL ? visit_file(place, object, visitor->cdc, visitor->context)
                                    : WEIR_OK;
    default:
        return visitor->sidecar != NULL ? visit_sidecar(place, object, visitor) : WEIR_OK;
    }
}

static json_t *load_object(const struct place *place, const char *text, size_t length, int *rc) {
    json_error_t error;
    json_t *line = NULL;
    *rc = WEIR_OK;
    if (length <= LINE_MAX_BYTES) {
        line = json_loadb(text, length, 0, &error);
    } else {
        snprintf(error.text, sizeof(error.text), "longer than %u bytes", LINE_MAX_BYTES);
    }
    if (line == NULL) {
        *rc = weir_error_set(place->err, WEIR_E_CORRUPT, "%s line %zu is not a JSON object: %s",
                             place->file, place->line, error.text);
    } else if (!json_is_object(line)) {
        *rc = weir_error_set(place->err, WEIR_E_CORRUPT, "%s line %zu is not a JSON object",
                             place->file, place->line);
        json_decref(line);
        line = NULL;
    }
    return line;
}

int weir_delta_actions_parse(const char *bytes, size_t size, const char *name,
                             const struct weir_delta_action_visitor *visitor,
                             struct weir_error *err) {
    struct place place = {name, 0, err};
    size_t at = 0;
    while (at < size) {
        const char *line = bytes + at;
        const char *end = memchr(line, '\n', size - at);
        size_t length = end != NULL ? (size_t)(end - line) : size - at;
        at += length + 1;
        place.line++;
        while (length > 0 && (line[length - 1] == '\r' || line[length - 1] == ' ')) {
            length--;
        }
        if (length == 0) {
            continue;
        }
        int rc;
        json_t *object = load_object(&place, line, length, &rc);
        const char *kind;
        json_t *value;
        if (object != NULL) {
            json_object_foreach(object, kind, value) {
                rc = visit_action(&place, kind, value, visitor);
                if (rc != WEIR_OK) {
                    break;
                }
            }
            json_decref(object);
        }
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return WEIR_OK;
}

int weir_delta_add_parse(const char *text, size_t length, struct weir_delta_add **out,
                         struct weir_error *err) {
    struct place place = {"add action", 1, err};
    struct weir_delta_add add;
    struct weir_delta_pair *pairs = NULL;
    char *tags = NULL;
    int rc;
    json_t *object = load_object(&place, text, length, &rc);
    if (object == NULL) {
        return rc;
    }
    const json_t *body = json_object_get(object, "add");
    rc = json_is_object(body) ? read_add(&place, body, &add, &pairs, &tags)
                              : bad(&place, "expected an object in", "add");
    if (rc == WEIR_OK) {
        *out = weir_delta_add_dup(&add);
        if (*out == NULL) {
            rc = weir_error_set(err, WEIR_E_NOMEM, "out of memory");
        }
    }
    free(pairs);
    free(tags);
    json_decref(object);
    return rc;
}
