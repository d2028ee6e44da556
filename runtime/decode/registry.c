/* The decoders there are, and what all decoded batches have in common: the meta columns. */
#include <jansson.h>
#include <string.h>

#include "decode/avsc.h"
#include "decode/decoder.h"

extern const struct weir_decoder_vtable weir_decoder_json;
extern const struct weir_decoder_vtable weir_decoder_csv;
extern const struct weir_decoder_vtable weir_decoder_debezium;
extern const struct weir_decoder_vtable weir_decoder_msgpack;
extern const struct weir_decoder_vtable weir_decoder_avro;
extern const struct weir_decoder_vtable weir_decoder_raw;
extern const struct weir_decoder_vtable weir_decoder_capture;

static const struct weir_decoder_vtable *const decoders[] = {
    &weir_decoder_json, &weir_decoder_csv,  &weir_decoder_debezium, &weir_decoder_msgpack,
    &weir_decoder_raw,  &weir_decoder_avro, &weir_decoder_capture};

const struct weir_decoder_vtable *weir_decoder_find(const char *kind) {
    for (size_t i = 0; i < sizeof(decoders) / sizeof(decoders[0]); i++) {
        if (strcmp(decoders[i]->name, kind) == 0) {
            return decoders[i];
        }
    }
    return NULL;
}

const struct weir_decoder_vtable *weir_decoder_kind(size_t index) {
    return index < sizeof(decoders) / sizeof(decoders[0]) ? decoders[index] : NULL;
}

static int unknown(const char *kind, struct weir_error *err) {
    return weir_error_set(err, WEIR_E_CONFIG, "no decoder is called \"%s\"", kind);
}

static int schema_file_columns(const char *kind, const char *options_json, struct weir_schema **out,
                               struct weir_error *err) {
    json_t *options = options_json != NULL ? json_loads(options_json, 0, NULL) : NULL;
    const char *path = json_string_value(json_object_get(options, "schema"));
    struct weir_avsc avsc = {0};
    int rc = path == NULL ? weir_error_set(err, WEIR_E_CONFIG, "%s needs a schema", kind)
                          : weir_avsc_load(path, &avsc, err);
    if (rc == WEIR_OK) {
        *out = weir_schema_ref(avsc.schema);
        weir_avsc_fini(&avsc);
    }
    json_decref(options);
    return rc;
}

int weir_decoder_columns(const char *kind, const char *options_json, const char *source_kind,
                         const char *source_options_json, struct weir_schema **out,
                         struct weir_error *err) {
    *out = NULL;
    const struct weir_decoder_vtable *vtable = weir_decoder_find(kind);
    if (vtable == NULL) {
        return unknown(kind, err);
    }
    return vtable->columns != NULL
               ? vtable->columns(options_json, source_kind, source_options_json, out, err)
               : schema_file_columns(kind, options_json, out, err);
}

int weir_decoder_settle(const char *kind, const char *options_json, const char *source_options_json,
                        char **out, struct weir_error *err) {
    const struct weir_decoder_vtable *vtable = weir_decoder_find(kind);
    *out = NULL;
    int rc = vtable != NULL && vtable->settle != NULL
                 ? vtable->settle(options_json, source_options_json, out, err)
                 : WEIR_OK;
    if (rc == WEIR_OK && *out == NULL && options_json != NULL) {
        *out = strdup(options_json);
        rc = *out != NULL ? WEIR_OK : weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    return rc;
}

int weir_decoder_create(struct weir_decoder **out, const char *kind, const char *options_json,
                        struct weir_schema *schema, struct weir_error *err) {
    *out = NULL;
    const struct weir_decoder_vtable *vtable = weir_decoder_find(kind);
    if (vtable == NULL) {
        return unknown(kind, err);
    }
    int rc = vtable->create(out, options_json, schema, err);
    if (rc == WEIR_OK) {
        (*out)->vtable = vtable;
    }
    return rc;
}

void weir_decoder_destroy(struct weir_decoder *decoder) {
    if (decoder != NULL) {
        decoder->vtable->destroy(decoder);
    }
}

/* --- meta columns ------------------------------------------------------------------------- */

static const struct {
    const char *name;
    const char *type;
    bool nullable;
} meta_columns[WEIR_META_COUNT] = {
    [WEIR_META_TOPIC] = {"_topic", "string", false},
    [WEIR_META_PARTITION] = {"_partition", "int32", false},
    [WEIR_META_OFFSET] = {"_offset", "int64", false},
    [WEIR_META_TIMESTAMP] = {"_timestamp", "timestamp", true},
    [WEIR_META_INGESTED_AT] = {"_ingested_at", "timestamp", false},
    [WEIR_META_RESCUED] = {"_rescued", "string", true},
};

struct weir_schema *weir_decode_full_schema(const struct weir_schema *user) {
    struct weir_schema *schema = weir_schema_create();
    int rc = schema == NULL ? WEIR_E_NOMEM : WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < user->count; i++) {
        rc = weir_schema_add(schema, &user->fields[i]);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < WEIR_META_COUNT; i++) {
        rc = weir_schema_add_text(schema, meta_columns[i].name, meta_columns[i].type,
                                  meta_columns[i].nullable, NULL);
    }
    if (rc != WEIR_OK) {
        weir_schema_unref(schema);
        return NULL;
    }
    return schema;
}

int weir_decode_check_schema(const struct weir_schema *user, struct weir_error *err) {
    for (int32_t i = 0; i < user->count; i++) {
        for (int32_t m = 0; m < WEIR_META_COUNT; m++) {
            if (strcmp(user->fields[i].name, meta_columns[m].name) == 0) {
                return weir_error_set(err, WEIR_E_SCHEMA,
                                      "field \"%s\" has the name of a column every source adds; "
                                      "rename it",
                                      meta_columns[m].name);
            }
        }
    }
    return WEIR_OK;
}

/* A dictionary of one value, and a zero code a row. */
static int set_constant(struct weir_batch *batch, struct weir_column *column, const char *text) {
    size_t length = strlen(text);
    size_t rows = (size_t)batch->rows;
    struct weir_column *dictionary = weir_batch_alloc(batch, sizeof(*dictionary));
    uint8_t *block = weir_batch_alloc(batch, 2 * sizeof(int32_t) + length + 1);
    int32_t *codes = weir_batch_alloc(batch, (rows + 1) * sizeof(int32_t));
    if (dictionary == NULL || block == NULL || codes == NULL) {
        return WEIR_E_LIMIT;
    }
    memset(dictionary, 0, sizeof(*dictionary));
    memset(codes, 0, (rows + 1) * sizeof(int32_t));
    int32_t *offsets = (int32_t *)(void *)block;
    offsets[0] = 0;
    offsets[1] = (int32_t)length;
    memcpy(block + 2 * sizeof(int32_t), text, length);
    dictionary->type = column->type;
    dictionary->length = 1;
    dictionary->offsets = offsets;
    dictionary->values = block + 2 * sizeof(int32_t);
    column->length = batch->rows;
    column->null_count = 0;
    column->validity = NULL;
    column->values = NULL;
    column->offsets = NULL;
    column->codes = codes;
    column->dictionary = dictionary;
    return WEIR_OK;
}

int weir_decode_finish(struct weir_batch *batch, const char *topic, int32_t partition) {
    struct weir_column *meta = batch->columns + batch->column_count - WEIR_META_COUNT;
    int32_t *partitions = meta[WEIR_META_PARTITION].values;
    for (int32_t i = 0; i < batch->rows; i++) {
        partitions[i] = partition;
    }
    meta[WEIR_META_PARTITION].length = batch->rows;
    struct weir_column *timestamp = &meta[WEIR_META_TIMESTAMP];
    size_t bits = (size_t)batch->rows / 8 + 1;
    timestamp->validity = weir_batch_alloc(batch, bits);
    if (timestamp->validity == NULL) {
        return WEIR_E_LIMIT;
    }
    memset(timestamp->validity, 0, bits);
    memset(timestamp->values, 0, (size_t)batch->rows * sizeof(int64_t));
    timestamp->null_count = timestamp->length = batch->rows;
    if (batch->rows == 0) {
        timestamp->validity = NULL;
    }
    memset(meta[WEIR_META_INGESTED_AT].values, 0, (size_t)batch->rows * sizeof(int64_t));
    meta[WEIR_META_INGESTED_AT].length = batch->rows;
    return set_constant(batch, &meta[WEIR_META_TOPIC], topic);
}
