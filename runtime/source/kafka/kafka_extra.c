/* Keys and headers as columns, where the declaration asks for them (keys = true, headers = true):
 * `_key` and `_headers`, between the user's columns and those every source adds. They are kept
 * beside the messages of a block and become columns once it is known which messages are rows. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "source/kafka/kafka.h"

enum { EXTRA_BYTES_MAX = 256 << 20, BATCH_BYTES_MAX = 256 << 20 };

static const struct {
    const char *option;
    const char *column;
    const char *type;
} extras[KAFKA_EXTRA_COUNT] = {
    [KAFKA_EXTRA_KEY] = {"keys", "_key", "binary"},
    [KAFKA_EXTRA_HEADERS] = {"headers", "_headers", "map<string, binary>"},
};

bool kafka_extra_wanted(const json_t *options, enum kafka_extra_column column) {
    return json_is_true(json_object_get(options, extras[column].option));
}

int kafka_extra_columns(const char *options_json, struct weir_schema *decoded,
                        struct weir_schema **out, struct weir_error *err) {
    json_t *options = json_loads(options_json != NULL ? options_json : "{}", 0, NULL);
    struct weir_schema *schema = weir_schema_create();
    int rc = schema == NULL ? weir_error_set(err, WEIR_E_NOMEM, "out of memory") : WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < decoded->count; i++) {
        rc = weir_schema_add(schema, &decoded->fields[i]);
    }
    for (int i = 0; rc == WEIR_OK && i < KAFKA_EXTRA_COUNT; i++) {
        if (!kafka_extra_wanted(options, (enum kafka_extra_column)i)) {
            continue;
        }
        rc = weir_schema_find(decoded, extras[i].column) >= 0
                 ? weir_error_set(err, WEIR_E_SCHEMA,
                                  "the schema has a field \"%s\" already, which %s = true adds; "
                                  "rename it",
                                  extras[i].column, extras[i].option)
                 : weir_schema_add_text(schema, extras[i].column, extras[i].type, true, err);
    }
    json_decref(options);
    if (rc != WEIR_OK) {
        weir_schema_unref(schema);
        return rc;
    }
    *out = schema;
    return WEIR_OK;
}

/* --- a lane's --------------------------------------------------------------------------------- */

struct extra_frame {
    uint32_t key_at;
    int32_t key_size; /* -1: null */
    uint32_t headers_at;
    int32_t header_count;
};

struct kafka_extra {
    struct extra_frame *frames;
    struct weir_buffer bytes;
    struct weir_schema *schema;        /* of the extra columns alone */
    struct weir_batch_builder builder; /* of them */
    struct weir_schema *full;          /* all columns of a batch */
    struct weir_schema *decoded;       /* the decoder's columns */
    struct weir_schema *decoded_full;  /* and those every source adds */
    bool has_builder;
    bool keys;
    bool headers;
};

struct weir_schema *kafka_extra_decoded(const struct kafka_extra *extra) {
    return extra->decoded;
}

struct weir_schema *kafka_extra_decoded_full(const struct kafka_extra *extra) {
    return extra->decoded_full;
}

int kafka_extra_create(struct weir_source *source, struct kafka_extra **out,
                       struct weir_error *err) {
    struct kafka *kafka = source->state;
    struct kafka_extra *extra = calloc(1, sizeof(*extra));
    *out = extra;
    if (extra == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    weir_buffer_init(&extra->bytes, EXTRA_BYTES_MAX);
    extra->keys = kafka_extra_wanted(kafka->options, KAFKA_EXTRA_KEY);
    extra->headers = kafka_extra_wanted(kafka->options, KAFKA_EXTRA_HEADERS);
    extra->frames = calloc(WEIR_BATCH_ROWS_MAX, sizeof(*extra->frames));
    extra->schema = weir_schema_create();
    extra->decoded = weir_schema_create();
    if (extra->frames == NULL || extra->schema == NULL || extra->decoded == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    int rc = WEIR_OK;
    struct weir_schema *user;
    source_columns(source, &user, &extra->full);
    int32_t own = user->count - extra->keys - extra->headers;
    for (int32_t i = 0; rc == WEIR_OK && i < user->count; i++) {
        rc = weir_schema_add(i < own ? extra->decoded : extra->schema, &user->fields[i]);
    }
    weir_schema_unref(user);
    extra->decoded_full = rc == WEIR_OK ? weir_decode_full_schema(extra->decoded) : NULL;
    if (extra->decoded_full == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    rc = weir_batch_builder_init(&extra->builder, source->pool, extra->schema, source->batch_rows,
                                 BATCH_BYTES_MAX, err);
    extra->has_builder = rc == WEIR_OK;
    return rc;
}

void kafka_extra_destroy(struct kafka_extra *extra) {
    if (extra == NULL) {
        return;
    }
    if (extra->has_builder) {
        weir_batch_builder_fini(&extra->builder);
    }
    weir_schema_unref(extra->full);
    weir_buffer_fini(&extra->bytes);
    weir_schema_unref(extra->schema);
    weir_schema_unref(extra->decoded);
    weir_schema_unref(extra->decoded_full);
    free(extra->frames);
    free(extra);
}

static int keep_bytes(struct kafka_extra *extra, const void *bytes, int32_t size) {
    int rc = weir_buffer_append(&extra->bytes, &size, sizeof(size));
    return rc == WEIR_OK && size > 0 ? weir_buffer_append(&extra->bytes, bytes, (size_t)size) : rc;
}

int kafka_extra_keep(struct kafka_extra *extra, int32_t frame, const rd_kafka_message_t *message) {
    if (frame == 0) {
        weir_buffer_clear(&extra->bytes);
    }
    struct extra_frame *at = &extra->frames[frame];
    int rc = WEIR_OK;
    at->key_at = (uint32_t)extra->bytes.size;
    at->key_size = message->key != NULL ? (int32_t)message->key_len : -1;
    if (extra->keys && at->key_size > 0) {
        rc = weir_buffer_append(&extra->bytes, message->key, message->key_len);
    }
    at->headers_at = (uint32_t)extra->bytes.size;
    at->header_count = 0;
    rd_kafka_headers_t *headers = NULL;
    if (extra->headers &&
        rd_kafka_message_headers(message, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        headers = NULL;
    }
    const char *name;
    const void *value;
    size_t size;
    for (size_t i = 0;
         rc == WEIR_OK && headers != NULL &&
         rd_kafka_header_get_all(headers, i, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR;
         i++) {
        const void *later;
        size_t later_size;
        if (rd_kafka_header_get_last(headers, name, &later, &later_size) ==
                RD_KAFKA_RESP_ERR_NO_ERROR &&
            later != value) {
            continue; /* a name that comes twice: the last holds */
        }
        rc = keep_bytes(extra, name, (int32_t)strlen(name));
        rc = rc == WEIR_OK ? keep_bytes(extra, value, value != NULL ? (int32_t)size : -1) : rc;
        at->header_count++;
    }
    return rc;
}

static const uint8_t *take_bytes(const uint8_t *at, const uint8_t **bytes, int32_t *size) {
    memcpy(size, at, sizeof(*size));
    *bytes = at + sizeof(*size);
    return *bytes + (*size > 0 ? *size : 0);
}

static int put_headers(const struct kafka_extra *extra, const struct extra_frame *frame,
                       struct weir_column_builder *column) {
    if (frame->header_count == 0) {
        return weir_builder_null(column);
    }
    const uint8_t *at = extra->bytes.data + frame->headers_at;
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < frame->header_count; i++) {
        const uint8_t *bytes;
        int32_t size;
        at = take_bytes(at, &bytes, &size);
        rc = weir_builder_bytes(&column->children[0], bytes, (size_t)size);
        at = take_bytes(at, &bytes, &size);
        if (rc == WEIR_OK) {
            rc = size < 0 ? weir_builder_null(&column->children[1])
                          : weir_builder_bytes(&column->children[1], bytes, (size_t)size);
        }
    }
    return rc == WEIR_OK ? weir_builder_list(column) : rc;
}

static int put_row(struct kafka_extra *extra, const struct extra_frame *frame) {
    struct weir_column_builder *column = extra->builder.columns;
    int rc = WEIR_OK;
    if (extra->keys) {
        rc = frame->key_size < 0 ? weir_builder_null(column)
                                 : weir_builder_bytes(column, extra->bytes.data + frame->key_at,
                                                      (size_t)frame->key_size);
        column++;
    }
    if (rc == WEIR_OK && extra->headers) {
        rc = put_headers(extra, frame, column);
    }
    weir_batch_builder_finish_row(&extra->builder);
    return rc;
}

/* Columns of `decoded`, of `own`, of `decoded`, in the order of the source's full schema. */
static struct weir_batch *join(struct weir_source *source, struct weir_schema *full,
                               struct weir_batch *decoded, struct weir_batch *own) {
    struct weir_batch *joined = weir_batch_create(source->pool, full);
    int32_t first = decoded->column_count - WEIR_META_COUNT;
    int rc = joined == NULL ? WEIR_E_LIMIT : WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < decoded->column_count; i++) {
        rc = weir_batch_borrow(joined, i < first ? i : i + own->column_count, decoded, i);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < own->column_count; i++) {
        rc = weir_batch_borrow(joined, first + i, own, i);
    }
    if (rc != WEIR_OK) {
        weir_batch_unref(joined);
        return NULL;
    }
    joined->rows = decoded->rows;
    return joined;
}

struct weir_batch *kafka_extra_join(struct kafka_lane *lane, int32_t from,
                                    struct weir_batch *decoded) {
    struct kafka_extra *extra = lane->extra;
    const int64_t *offsets =
        decoded->columns[decoded->column_count - WEIR_META_COUNT + WEIR_META_OFFSET].values;
    int rc = weir_batch_builder_begin_rows(&extra->builder, decoded->rows > 0 ? decoded->rows : 1);
    for (int32_t row = 0, frame = from; rc == WEIR_OK && row < decoded->rows; row++) {
        while (lane->frames[frame].offset != offsets[row]) {
            frame++;
        }
        rc = put_row(extra, &extra->frames[frame]);
    }
    struct weir_batch *own = rc == WEIR_OK ? weir_batch_builder_take(&extra->builder) : NULL;
    struct weir_batch *joined = own != NULL ? join(lane->source, extra->full, decoded, own) : NULL;
    weir_batch_unref(own);
    return joined;
}
