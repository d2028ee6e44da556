/* Actions as structs: copying, freeing, and writing them as JSON. The JSON is written by hand and
 * not through a tree, because the adds of a commit are its hot part and their stats are text
 * already. */
#include "lake/delta/actions.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "lake/delta/text.h"

/* --- adds ---------------------------------------------------------------------------------- */

static size_t text_size(const char *text) {
    return text != NULL ? strlen(text) + 1 : 0;
}

static const char *place_text(char **at, const char *text) {
    if (text == NULL) {
        return NULL;
    }
    size_t size = strlen(text) + 1;
    char *copy = *at;
    memcpy(copy, text, size);
    *at += size;
    return copy;
}

struct weir_delta_add *weir_delta_add_dup(const struct weir_delta_add *add) {
    size_t pairs = (size_t)add->partition_count * sizeof(struct weir_delta_pair);
    size_t size = sizeof(*add) + pairs + text_size(add->path) + text_size(add->stats) +
                  text_size(add->tags_json) + text_size(add->clustering_provider) +
                  text_size(add->dv.path_or_inline);
    for (int32_t i = 0; i < add->partition_count; i++) {
        size += text_size(add->partition_values[i].key) + text_size(add->partition_values[i].value);
    }
    struct weir_delta_add *copy = malloc(size);
    if (copy == NULL) {
        return NULL;
    }
    *copy = *add;
    struct weir_delta_pair *values = (struct weir_delta_pair *)(copy + 1);
    char *at = (char *)values + pairs;
    for (int32_t i = 0; i < add->partition_count; i++) {
        values[i].key = place_text(&at, add->partition_values[i].key);
        values[i].value = place_text(&at, add->partition_values[i].value);
    }
    copy->partition_values = values;
    copy->path = place_text(&at, add->path);
    copy->stats = place_text(&at, add->stats);
    copy->tags_json = place_text(&at, add->tags_json);
    copy->clustering_provider = place_text(&at, add->clustering_provider);
    copy->dv.path_or_inline = place_text(&at, add->dv.path_or_inline);
    return copy;
}

int weir_delta_adds_push(struct weir_delta_adds *adds, struct weir_delta_add *take) {
    if (adds->count == adds->capacity) {
        int32_t capacity = adds->capacity > 0 ? adds->capacity * 2 : 8;
        struct weir_delta_add **items = realloc(adds->items, (size_t)capacity * sizeof(*items));
        if (items == NULL) {
            return WEIR_E_NOMEM;
        }
        adds->items = items;
        adds->capacity = capacity;
    }
    adds->items[adds->count++] = take;
    return WEIR_OK;
}

void weir_delta_adds_fini(struct weir_delta_adds *adds) {
    for (int32_t i = 0; i < adds->count; i++) {
        free(adds->items[i]);
    }
    free(adds->items);
    memset(adds, 0, sizeof(*adds));
}

/* --- protocol and metadata ----------------------------------------------------------------- */

static void free_texts(char **texts, int32_t count) {
    for (int32_t i = 0; i < count; i++) {
        free(texts[i]);
    }
    free(texts);
}

void weir_delta_protocol_fini(struct weir_delta_protocol *protocol) {
    free_texts(protocol->reader_features, protocol->reader_feature_count);
    free_texts(protocol->writer_features, protocol->writer_feature_count);
    memset(protocol, 0, sizeof(*protocol));
}

void weir_delta_metadata_fini(struct weir_delta_metadata *metadata) {
    free(metadata->id);
    free(metadata->name);
    free(metadata->description);
    free(metadata->format_provider);
    free(metadata->schema_string);
    free_texts(metadata->partition_columns, metadata->partition_count);
    for (int32_t i = 0; i < metadata->configuration_count; i++) {
        free((void *)(uintptr_t)metadata->configuration[i].key);
        free((void *)(uintptr_t)metadata->configuration[i].value);
    }
    free(metadata->configuration);
    memset(metadata, 0, sizeof(*metadata));
}

static int copy_text(char **to, const char *from) {
    if (from != NULL) {
        *to = strdup(from);
        return *to != NULL ? WEIR_OK : WEIR_E_NOMEM;
    }
    return WEIR_OK;
}

static int copy_texts(char ***to, int32_t *to_count, char *const *from, int32_t count) {
    *to_count = count;
    if (count <= 0) {
        return WEIR_OK;
    }
    *to_count = 0;
    *to = calloc((size_t)count, sizeof(**to));
    if (*to == NULL) {
        return WEIR_E_NOMEM;
    }
    for (int32_t i = 0; i < count; i++) {
        if (copy_text(&(*to)[i], from[i]) != WEIR_OK) {
            return WEIR_E_NOMEM;
        }
        (*to_count)++;
    }
    return WEIR_OK;
}

int weir_delta_protocol_copy(struct weir_delta_protocol *to,
                             const struct weir_delta_protocol *from) {
    memset(to, 0, sizeof(*to));
    to->reader_version = from->reader_version;
    to->writer_version = from->writer_version;
    int rc = copy_texts(&to->reader_features, &to->reader_feature_count, from->reader_features,
                        from->reader_feature_count);
    if (rc == WEIR_OK) {
        rc = copy_texts(&to->writer_features, &to->writer_feature_count, from->writer_features,
                        from->writer_feature_count);
    }
    if (rc != WEIR_OK) {
        weir_delta_protocol_fini(to);
    }
    return rc;
}

int weir_delta_metadata_copy(struct weir_delta_metadata *to,
                             const struct weir_delta_metadata *from) {
    memset(to, 0, sizeof(*to));
    to->created_ms = from->created_ms;
    int rc = WEIR_OK;
    if (copy_text(&to->id, from->id) != WEIR_OK || copy_text(&to->name, from->name) != WEIR_OK ||
        copy_text(&to->description, from->description) != WEIR_OK ||
        copy_text(&to->format_provider, from->format_provider) != WEIR_OK ||
        copy_text(&to->schema_string, from->schema_string) != WEIR_OK ||
        copy_texts(&to->partition_columns, &to->partition_count, from->partition_columns,
                   from->partition_count) != WEIR_OK) {
        rc = WEIR_E_NOMEM;
        goto out;
    }
    if (from->configuration_count > 0) {
        to->configuration = calloc((size_t)from->configuration_count, sizeof(*to->configuration));
        if (to->configuration == NULL) {
            rc = WEIR_E_NOMEM;
            goto out;
        }
        for (int32_t i = 0; i < from->configuration_count; i++) {
            char *key = NULL;
            char *value = NULL;
            rc = copy_text(&key, from->configuration[i].key);
            if (rc == WEIR_OK) {
                rc = copy_text(&value, from->configuration[i].value);
            }
            to->configuration[i].key = key;
            to->configuration[i].value = value;
            to->configuration_count = i + 1;
            if (rc != WEIR_OK) {
                goto out;
            }
        }
    }
out:
    if (rc != WEIR_OK) {
        weir_delta_metadata_fini(to);
    }
    return rc;
}

struct weir_delta_pair *delta_pairs_copy(const struct weir_delta_pair *pairs, int32_t count,
                                         int32_t more) {
    struct weir_delta_pair *copy = calloc((size_t)count + (size_t)more + 1, sizeof(*copy));
    if (copy != NULL && count > 0) {
        memcpy(copy, pairs, (size_t)count * sizeof(*copy));
    }
    return copy;
}

const char *weir_delta_metadata_property(const struct weir_delta_metadata *metadata,
                                         const char *key) {
    for (int32_t i = 0; i < metadata->configuration_count; i++) {
        if (strcmp(metadata->configuration[i].key, key) == 0) {
            return metadata->configuration[i].value;
        }
    }
    return NULL;
}

/* --- JSON ---------------------------------------------------------------------------------- */

int weir_delta_json_string(struct weir_buffer *out, const char *text, size_t length) {
    const unsigned char *bytes = (const unsigned char *)text;
    /* worst case: every byte becomes \u00XX */
    int rc = length < SIZE_MAX / 8 ? weir_buffer_reserve(out, length + 2) : WEIR_E_LIMIT;
    if (rc == WEIR_OK) {
        rc = weir_buffer_append(out, "\"", 1);
    }
    size_t start = 0;
    for (size_t i = 0; i < length && rc == WEIR_OK;) {
        unsigned char c = bytes[i];
        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7F) {
            size_t n = delta_text_utf8_length(bytes + i, length - i);
            if (n == 0) {
                return WEIR_E_DATA;
            }
            i += n;
            continue;
        }
        char escape[8];
        int n;
        switch (c) {
        case '"':
        case '\\':
            n = snprintf(escape, sizeof(escape), "\\%c", c);
            break;
        case '\n':
            n = snprintf(escape, sizeof(escape), "\\n");
            break;
        case '\r':
            n = snprintf(escape, sizeof(escape), "\\r");
            break;
        case '\t':
            n = snprintf(escape, sizeof(escape), "\\t");
            break;
        default:
            n = snprintf(escape, sizeof(escape), "\\u%04x", c);
            break;
        }
        rc = weir_buffer_append(out, bytes + start, i - start);
        if (rc == WEIR_OK) {
            rc = weir_buffer_append(out, escape, (size_t)n);
        }
        start = ++i;
    }
    if (rc == WEIR_OK) {
        rc = weir_buffer_append(out, bytes + start, length - start);
    }
    return rc == WEIR_OK ? weir_buffer_append(out, "\"", 1) : rc;
}

/* `,"name":` then the string or null. */
static int put_text(struct weir_buffer *out, const char *name, const char *value) {
    int rc = weir_buffer_printf(out, ",\"%s\":", name);
    if (rc == WEIR_OK) {
        rc = value != NULL ? weir_delta_json_string(out, value, strlen(value))
                           : weir_buffer_append_text(out, "null");
    }
    return rc;
}

static int put_pairs(struct weir_buffer *out, const struct weir_delta_pair *pairs, int32_t count) {
    int rc = weir_buffer_append_text(out, "{");
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        rc = i > 0 ? weir_buffer_append_text(out, ",") : WEIR_OK;
        if (rc == WEIR_OK) {
            rc = weir_delta_json_string(out, pairs[i].key, strlen(pairs[i].key));
        }
        if (rc == WEIR_OK) {
            rc = weir_buffer_append_text(out, ":");
        }
        if (rc == WEIR_OK) {
            rc = pairs[i].value != NULL
                     ? weir_delta_json_string(out, pairs[i].value, strlen(pairs[i].value))
                     : weir_buffer_append_text(out, "null");
        }
    }
    return rc == WEIR_OK ? weir_buffer_append_text(out, "}") : rc;
}

static int put_texts(struct weir_buffer *out, char *const *texts, int32_t count) {
    int rc = weir_buffer_append_text(out, "[");
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        rc = i > 0 ? weir_buffer_append_text(out, ",") : WEIR_OK;
        if (rc == WEIR_OK) {
            rc = weir_delta_json_string(out, texts[i], strlen(texts[i]));
        }
    }
    return rc == WEIR_OK ? weir_buffer_append_text(out, "]") : rc;
}

static int put_dv(struct weir_buffer *out, const struct weir_delta_dv *dv) {
    int rc =
        weir_buffer_printf(out, ",\"deletionVector\":{\"storageType\":\"%c\"", dv->storage_type);
    if (rc == WEIR_OK) {
        rc = put_text(out, "pathOrInlineDv", dv->path_or_inline);
    }
    if (rc == WEIR_OK && dv->offset >= 0) {
        rc = weir_buffer_printf(out, ",\"offset\":%d", dv->offset);
    }
    if (rc == WEIR_OK) {
        rc = weir_buffer_printf(out, ",\"sizeInBytes\":%d,\"cardinality\":%" PRId64 "}",
                                dv->size_bytes, dv->cardinality);
    }
    return rc;
}

/* What every action of a file begins with. */
static int put_file(struct weir_buffer *out, const char *action,
                    const struct weir_delta_add *file) {
    int rc = weir_buffer_printf(out, "{\"%s\":{\"path\":", action);
    rc = rc == WEIR_OK ? weir_delta_json_string(out, file->path, strlen(file->path)) : rc;
    rc = rc == WEIR_OK ? weir_buffer_append_text(out, ",\"partitionValues\":") : rc;
    return rc == WEIR_OK ? put_pairs(out, file->partition_values, file->partition_count) : rc;
}

int weir_delta_add_format(const struct weir_delta_add *add, struct weir_buffer *out) {
    int rc = put_file(out, "add", add);
    if (rc == WEIR_OK) {
        rc = weir_buffer_printf(
            out, ",\"size\":%" PRId64 ",\"modificationTime\":%" PRId64 ",\"dataChange\":%s",
            add->size_bytes, add->modified_ms, add->data_change ? "true" : "false");
    }
    if (rc == WEIR_OK && add->stats != NULL) {
        rc = put_text(out, "stats", add->stats);
    }
    if (rc == WEIR_OK && add->tags_json != NULL) {
        rc = weir_buffer_printf(out, ",\"tags\":%s", add->tags_json);
    }
    if (rc == WEIR_OK && add->dv.storage_type != 0) {
        rc = put_dv(out, &add->dv);
    }
    if (rc == WEIR_OK && add->has_row_id) {
        rc = weir_buffer_printf(out,
                                ",\"baseRowId\":%" PRId64 ",\"defaultRowCommitVersion\":%" PRId64,
                                add->base_row_id, add->default_row_commit_version);
    }
    if (rc == WEIR_OK && add->clustering_provider != NULL) {
        rc = put_text(out, "clusteringProvider", add->clustering_provider);
    }
    return rc == WEIR_OK ? weir_buffer_append_text(out, "}}") : rc;
}

int weir_delta_remove_format(const struct weir_delta_add *add, int64_t deletion_ms,
                             bool data_change, struct weir_buffer *out) {
    int rc = weir_buffer_append_text(out, "{\"remove\":{\"path\":");
    if (rc == WEIR_OK) {
        rc = weir_delta_json_string(out, add->path, strlen(add->path));
    }
    if (rc == WEIR_OK) {
        rc = weir_buffer_printf(out,
                                ",\"deletionTimestamp\":%" PRId64 ",\"dataChange\":%s,"
                                "\"extendedFileMetadata\":true,\"partitionValues\":",
                                deletion_ms, data_change ? "true" : "false");
    }
    if (rc == WEIR_OK) {
        rc = put_pairs(out, add->partition_values, add->partition_count);
    }
    if (rc == WEIR_OK) {
        rc = weir_buffer_printf(out, ",\"size\":%" PRId64, add->size_bytes);
    }
    if (rc == WEIR_OK && add->dv.storage_type != 0) {
        rc = put_dv(out, &add->dv);
    }
    if (rc == WEIR_OK && add->has_row_id) {
        rc = weir_buffer_printf(out,
                                ",\"baseRowId\":%" PRId64 ",\"defaultRowCommitVersion\":%" PRId64,
                                add->base_row_id, add->default_row_commit_version);
    }
    return rc == WEIR_OK ? weir_buffer_append_text(out, "}}\n") : rc;
}

int weir_delta_cdc_format(const struct weir_delta_add *file, struct weir_buffer *out) {
    int rc = put_file(out, "cdc", file);
    return rc == WEIR_OK ? weir_buffer_printf(out, ",\"size\":%" PRId64 ",\"dataChange\":false}}\n",
                                              file->size_bytes)
                         : rc;
}

int weir_delta_protocol_format(const struct weir_delta_protocol *protocol,
                               struct weir_buffer *out) {
    int rc =
        weir_buffer_printf(out, "{\"protocol\":{\"minReaderVersion\":%d,\"minWriterVersion\":%d",
                           protocol->reader_version, protocol->writer_version);
    if (rc == WEIR_OK && protocol->reader_feature_count >= 0 && protocol->reader_version >= 3) {
        rc = weir_buffer_append_text(out, ",\"readerFeatures\":");
        if (rc == WEIR_OK) {
            rc = put_texts(out, protocol->reader_features, protocol->reader_feature_count);
        }
    }
    if (rc == WEIR_OK && protocol->writer_feature_count >= 0 && protocol->writer_version >= 7) {
        rc = weir_buffer_append_text(out, ",\"writerFeatures\":");
        if (rc == WEIR_OK) {
            rc = put_texts(out, protocol->writer_features, protocol->writer_feature_count);
        }
    }
    return rc == WEIR_OK ? weir_buffer_append_text(out, "}}") : rc;
}

int weir_delta_metadata_format(const struct weir_delta_metadata *metadata,
                               struct weir_buffer *out) {
    int rc = weir_buffer_append_text(out, "{\"metaData\":{\"id\":");
    if (rc == WEIR_OK) {
        rc = weir_delta_json_string(out, metadata->id, strlen(metadata->id));
    }
    if (rc == WEIR_OK && metadata->name != NULL) {
        rc = put_text(out, "name", metadata->name);
    }
    if (rc == WEIR_OK && metadata->description != NULL) {
        rc = put_text(out, "description", metadata->description);
    }
    if (rc == WEIR_OK) {
        rc = weir_buffer_append_text(out, ",\"format\":{\"provider\":\"parquet\",\"options\":{}}");
    }
    if (rc == WEIR_OK) {
        rc = put_text(out, "schemaString", metadata->schema_string);
    }
    if (rc == WEIR_OK) {
        rc = weir_buffer_append_text(out, ",\"partitionColumns\":");
    }
    if (rc == WEIR_OK) {
        rc = put_texts(out, metadata->partition_columns, metadata->partition_count);
    }
    if (rc == WEIR_OK) {
        rc = weir_buffer_append_text(out, ",\"configuration\":");
    }
    if (rc == WEIR_OK) {
        rc = put_pairs(out, metadata->configuration, metadata->configuration_count);
    }
    if (rc == WEIR_OK && metadata->created_ms != 0) {
        rc = weir_buffer_printf(out, ",\"createdTime\":%" PRId64, metadata->created_ms);
    }
    return rc == WEIR_OK ? weir_buffer_append_text(out, "}}") : rc;
}
