/* The Kafka sink: an effect is the encoded messages of an epoch; applying it sends them in one
 * transaction with the record's number as marker (kafka_log.h). Rows become messages on the worker,
 * into buffers that are used again once their record is done: steady state allocates nothing. */
#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "batch/change.h"
#include "core/clock.h"
#include "core/fault.h"
#include "core/log.h"
#include "core/time.h"
#include "sink/encode.h"
#include "sink/kafka_log.h"

enum {
    FREE_MAX = 12,             /* buffers kept for the next epochs */
    KEEP_BYTES_MAX = 48 << 20, /* larger ones go back to the system */
    FIRST_BYTES = 16 << 20,    /* of a buffer: address space until it is written */
    EFFECT_BYTES_MAX = 1 << 30,
    MESSAGE_BYTES_MAX = 1000000,   /* librdkafka's default */
    MESSAGE_OVERHEAD_BYTES = 1024, /* what its check adds, generously */
    REFRESH_NS = 60,
};

/* Buffers outlive the sink where the ledger still holds their bytes. */
struct slab {
    struct slab *next;
    struct slabs *slabs;
    struct weir_buffer bytes;
};

struct slabs {
    pthread_mutex_t lock;
    struct slab *free;
    int32_t free_count;
    int32_t references; /* the sink's, and one a slab handed out */
    bool closed;
};

struct kafka_sink {
    struct weir_sink_config config; /* strings borrowed */
    char *options_json;
    json_t *options;
    struct kafka_log *log;
    char topic_name[KAFKA_NAME_BYTES];
    struct kafka_topic topic;
    bool transactional;

    /* worker */
    const struct weir_encoder_ops *encoder_ops;
    void *encoder;
    const struct weir_encoder_ops *key_ops; /* NULL: keys are texts */
    void *key_encoder;
    struct slabs *slabs;
    struct slab *slab; /* of the epoch at hand; NULL until its first row */
    uint32_t messages;
    uint16_t flags;
    int32_t *keys;
    int32_t key_count;
    int32_t *headers;
    int32_t header_count;
    int32_t time;   /* column or -1 */
    int32_t change; /* column or -1 */
    int32_t raw;    /* column whose null is a tombstone, or -1 */
    size_t message_max;

    int64_t refreshed_ns; /* applier */
};

/* --- buffers ---------------------------------------------------------------------------------- */

static void slabs_unref(struct slabs *slabs) {
    pthread_mutex_lock(&slabs->lock);
    bool last = --slabs->references == 0;
    pthread_mutex_unlock(&slabs->lock);
    if (!last) {
        return;
    }
    while (slabs->free != NULL) {
        struct slab *slab = slabs->free;
        slabs->free = slab->next;
        weir_buffer_fini(&slab->bytes);
        free(slab);
    }
    pthread_mutex_destroy(&slabs->lock);
    free(slabs);
}

static void give_back(void *owner) {
    struct slab *slab = owner;
    struct slabs *slabs = slab->slabs;
    pthread_mutex_lock(&slabs->lock);
    bool keep =
        !slabs->closed && slabs->free_count < FREE_MAX && slab->bytes.capacity <= KEEP_BYTES_MAX;
    if (keep) {
        slab->next = slabs->free;
        slabs->free = slab;
        slabs->free_count++;
    }
    pthread_mutex_unlock(&slabs->lock);
    if (!keep) {
        weir_buffer_fini(&slab->bytes);
        free(slab);
    }
    slabs_unref(slabs);
}

static struct slab *take_slab(struct slabs *slabs) {
    pthread_mutex_lock(&slabs->lock);
    struct slab *slab = slabs->free;
    if (slab != NULL) {
        slabs->free = slab->next;
        slabs->free_count--;
    }
    slabs->references++;
    pthread_mutex_unlock(&slabs->lock);
    if (slab == NULL) {
        slab = calloc(1, sizeof(*slab));
        if (slab == NULL) {
            slabs_unref(slabs);
            return NULL;
        }
        slab->slabs = slabs;
        weir_buffer_init(&slab->bytes, EFFECT_BYTES_MAX);
        if (weir_buffer_reserve(&slab->bytes, FIRST_BYTES) != WEIR_OK) {
            free(slab);
            slabs_unref(slabs);
            return NULL;
        }
    }
    weir_buffer_clear(&slab->bytes);
    return slab;
}

/* --- create ----------------------------------------------------------------------------------- */

static void drop_encoders(struct kafka_sink *sink) {
    if (sink->encoder_ops != NULL) {
        sink->encoder_ops->destroy(sink->encoder);
    }
    if (sink->key_ops != NULL) {
        sink->key_ops->destroy(sink->key_encoder);
    }
    free(sink->keys);
    free(sink->headers);
    sink->encoder_ops = sink->key_ops = NULL;
    sink->keys = sink->headers = NULL;
}

static void destroy(void *self) {
    struct kafka_sink *sink = self;
    if (sink->log != NULL) {
        kafka_log_leave((struct kafka_log **)sink->config.shared, sink->log, &sink->topic);
    }
    if (sink->slab != NULL) {
        give_back(sink->slab);
    }
    if (sink->slabs != NULL) {
        pthread_mutex_lock(&sink->slabs->lock);
        sink->slabs->closed = true;
        pthread_mutex_unlock(&sink->slabs->lock);
        slabs_unref(sink->slabs);
    }
    drop_encoders(sink);
    weir_schema_unref(sink->config.schema);
    json_decref(sink->options);
    free(sink->options_json);
    free(sink);
}

static const char *text_option(const struct kafka_sink *sink, const char *name) {
    return json_string_value(json_object_get(sink->options, name));
}

/* The columns an option names, as numbers. */
static int columns_of(const struct kafka_sink *sink, const char *name, int32_t **out,
                      int32_t *count, struct weir_error *err) {
    const json_t *list = json_object_get(sink->options, name);
    size_t size = json_array_size(list);
    *count = 0;
    *out = calloc(size + 1, sizeof(**out));
    if (*out == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", sink->config.name);
    }
    for (size_t i = 0; i < size; i++) {
        const char *column = json_string_value(json_array_get(list, i));
        int32_t found = column != NULL ? weir_schema_find(sink->config.schema, column) : -1;
        if (found < 0) {
            return weir_error_set(err, WEIR_E_CONFIG, "%s: %s names `%s`, which it does not have",
                                  sink->config.name, name, column != NULL ? column : "");
        }
        (*out)[(*count)++] = found;
    }
    return WEIR_OK;
}

static int read_time(struct kafka_sink *sink, struct weir_error *err) {
    int32_t *columns = NULL;
    int32_t count = 0;
    sink->time = -1;
    int rc = columns_of(sink, "timestamp", &columns, &count, err);
    if (rc == WEIR_OK && count > 1) {
        rc = weir_error_set(err, WEIR_E_CONFIG, "%s: a message has one timestamp",
                            sink->config.name);
    } else if (rc == WEIR_OK && count == 1) {
        sink->time = columns[0];
        sink->flags |= KAFKA_EFFECT_TIMES;
        if (!weir_type_is_timestamp(sink->config.schema->fields[columns[0]].type)) {
            rc = weir_error_set(err, WEIR_E_CONFIG, "%s: timestamp names `%s`, which is no time",
                                sink->config.name, sink->config.schema->fields[columns[0]].name);
        }
    }
    free(columns);
    return rc;
}

static int read_columns(struct kafka_sink *sink, struct weir_error *err) {
    int rc = columns_of(sink, "key", &sink->keys, &sink->key_count, err);
    if (rc == WEIR_OK) {
        rc = columns_of(sink, "headers", &sink->headers, &sink->header_count, err);
    }
    if (rc == WEIR_OK && sink->header_count > KAFKA_EFFECT_HEADERS_MAX) {
        rc = weir_error_set(err, WEIR_E_CONFIG, "%s: at most %d headers", sink->config.name,
                            KAFKA_EFFECT_HEADERS_MAX);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < sink->key_count + sink->header_count; i++) {
        int32_t column = i < sink->key_count ? sink->keys[i] : sink->headers[i - sink->key_count];
        const struct weir_field *field = &sink->config.schema->fields[column];
        if (weir_type_is_nested(field->type)) {
            rc = weir_error_set(err, WEIR_E_CONFIG,
                                "%s: `%s` is a list, struct or map: no key and no header is made "
                                "of it",
                                sink->config.name, field->name);
        } else if (strlen(field->name) >= KAFKA_NAME_BYTES) {
            rc = weir_error_set(err, WEIR_E_CONFIG, "%s: the name of `%.40s…` is too long",
                                sink->config.name, field->name);
        }
    }
    if (rc == WEIR_OK && sink->header_count > 0) {
        sink->flags |= KAFKA_EFFECT_HEADERS;
    }
    sink->change = -1;
    int32_t change = weir_schema_find(sink->config.schema, WEIR_CHANGE_COLUMN);
    if (rc == WEIR_OK && change >= 0 && sink->key_count > 0 &&
        sink->config.schema->fields[change].type == WEIR_TYPE_INT8) {
        sink->change = change;
    }
    return rc == WEIR_OK ? read_time(sink, err) : rc;
}

static int create_encoder(const struct kafka_sink *sink, const struct weir_encoder_ops *ops,
                          const bool *included, bool key, void **out, struct weir_error *err) {
    struct weir_encoder_config config = {
        .name = sink->config.name,
        .options_json = sink->options_json,
        .subject = sink->topic.name,
        .schema = sink->config.schema,
        .included = included,
        .key = key,
        .stop = sink->config.stop,
        .draining = sink->config.draining,
        .stop_context = sink->config.stop_context,
    };
    return ops->create(&config, out, err);
}

/* Of keys that are more than text. */
static int make_key_encoder(struct kafka_sink *sink, struct weir_error *err) {
    const char *format = text_option(sink, "key_format");
    if (format == NULL || strcmp(format, "text") == 0 || sink->key_count == 0) {
        return WEIR_OK;
    }
    const struct weir_encoder_ops *ops = weir_encoder_find(format);
    bool *included = calloc((size_t)sink->config.schema->count + 1, sizeof(*included));
    if (included == NULL || ops == NULL) {
        free(included);
        return weir_error_set(err, ops == NULL ? WEIR_E_CONFIG : WEIR_E_NOMEM,
                              "%s: keys cannot be \"%s\"", sink->config.name, format);
    }
    for (int32_t i = 0; i < sink->key_count; i++) {
        included[sink->keys[i]] = true;
    }
    int rc = create_encoder(sink, ops, included, true, &sink->key_encoder, err);
    sink->key_ops = rc == WEIR_OK ? ops : NULL;
    free(included);
    return rc;
}

static int make_encoder(struct kafka_sink *sink, struct weir_error *err) {
    const char *format = text_option(sink, "format");
    const struct weir_schema *schema = sink->config.schema;
    const struct weir_encoder_ops *ops = weir_encoder_find(format != NULL ? format : "json");
    if (ops == NULL) {
        return weir_error_set(err, WEIR_E_CONFIG, "%s: no format is called \"%s\"",
                              sink->config.name, format);
    }
    bool *included = calloc((size_t)schema->count + 1, sizeof(*included));
    if (included == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", sink->config.name);
    }
    bool raw = strcmp(ops->kind, "raw") == 0;
    for (int32_t i = 0; i < schema->count; i++) {
        included[i] = i != sink->change && !(raw && i == sink->time);
    }
    for (int32_t i = 0; i < sink->header_count; i++) {
        included[sink->headers[i]] = false;
    }
    for (int32_t i = 0; raw && i < sink->key_count; i++) {
        included[sink->keys[i]] = false;
    }
    int rc = create_encoder(sink, ops, included, false, &sink->encoder, err);
    sink->encoder_ops = rc == WEIR_OK ? ops : NULL;
    for (int32_t i = 0; raw && i < schema->count; i++) {
        sink->raw = included[i] ? i : sink->raw;
    }
    free(included);
    return rc;
}

static int make_encoders(struct kafka_sink *sink, struct weir_error *err) {
    sink->flags = 0;
    sink->raw = -1;
    int rc = read_columns(sink, err);
    rc = rc == WEIR_OK ? make_encoder(sink, err) : rc;
    return rc == WEIR_OK ? make_key_encoder(sink, err) : rc;
}

static int start_encoders(struct kafka_sink *sink, struct weir_error *err) {
    int rc = WEIR_OK;
    if (sink->encoder_ops != NULL && sink->encoder_ops->start != NULL) {
        rc = sink->encoder_ops->start(sink->encoder, err);
    }
    if (rc == WEIR_OK && sink->key_ops != NULL && sink->key_ops->start != NULL) {
        rc = sink->key_ops->start(sink->key_encoder, err);
    }
    return rc;
}

static int evolve(void *self, struct weir_schema *schema, struct weir_error *err) {
    struct kafka_sink *sink = self;
    drop_encoders(sink);
    weir_schema_unref(sink->config.schema);
    sink->config.schema = weir_schema_ref(schema);
    int rc = make_encoders(sink, err);
    return rc == WEIR_OK ? start_encoders(sink, err) : rc;
}

static int make_slabs(struct kafka_sink *sink, struct weir_error *err) {
    sink->slabs = calloc(1, sizeof(*sink->slabs));
    if (sink->slabs == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", sink->config.name);
    }
    pthread_mutex_init(&sink->slabs->lock, NULL);
    sink->slabs->references = 1;
    return WEIR_OK;
}

/* {dataset} stands for the dataset's name. False where the name gets too long for Kafka. */
static bool name_topic(struct kafka_sink *sink) {
    static const char mark[] = "{dataset}";
    const char *text = text_option(sink, "topic");
    const char *found = text != NULL ? strstr(text, mark) : NULL;
    int before = found != NULL ? (int)(found - text) : (int)strlen(text != NULL ? text : "");
    int length = snprintf(sink->topic_name, sizeof(sink->topic_name), "%.*s%s%s", before,
                          text != NULL ? text : "", found != NULL ? sink->config.name : "",
                          found != NULL ? found + sizeof(mark) - 1 : "");
    return length > 0 && length < (int)sizeof(sink->topic_name);
}

static void read_topic(struct kafka_sink *sink) {
    const char *delivery = text_option(sink, "delivery");
    const char *partitioner = text_option(sink, "partitioner");
    const json_t *settings = json_object_get(sink->options, "options");
    const char *max = json_string_value(json_object_get(settings, "message.max.bytes"));
    long bytes = max != NULL ? strtol(max, NULL, 10) : MESSAGE_BYTES_MAX;
    sink->transactional = delivery == NULL || strcmp(delivery, "exactly_once") == 0;
    sink->message_max = bytes > 2 * MESSAGE_OVERHEAD_BYTES ? (size_t)bytes - MESSAGE_OVERHEAD_BYTES
                                                           : MESSAGE_OVERHEAD_BYTES;
    if (partitioner == NULL) {
        partitioner = json_string_value(json_object_get(settings, "partitioner"));
    }
    sink->topic = (struct kafka_topic){
        .sink = sink->config.name,
        .name = sink->topic_name,
        .compression = text_option(sink, "compression"),
        .partitioner =
            partitioner != NULL && strcmp(partitioner, "murmur2") != 0 ? partitioner : NULL,
        .make = json_object_get(sink->options, "create"),
        .has_key = json_array_size(json_object_get(sink->options, "key")) > 0,
    };
}

static int create(const struct weir_sink_config *config, void **self, struct weir_error *err) {
    struct kafka_sink *sink = calloc(1, sizeof(*sink));
    if (sink == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", config->name);
    }
    sink->config = *config;
    sink->raw = -1;
    sink->config.schema = config->schema != NULL ? weir_schema_ref(config->schema) : NULL;
    sink->options_json = strdup(config->options_json != NULL ? config->options_json : "{}");
    sink->options = sink->options_json != NULL ? json_loads(sink->options_json, 0, NULL) : NULL;
    int rc = sink->options == NULL
                 ? weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", config->name)
                 : make_slabs(sink, err);
    if (rc == WEIR_OK) {
        read_topic(sink);
        rc = !name_topic(sink)
                 ? weir_error_set(err, WEIR_E_CONFIG,
                                  "%s: kafka needs a topic of at most 249 letters", config->name)
                 : WEIR_OK;
    }
    if (rc == WEIR_OK && config->schema != NULL) {
        rc = make_encoders(sink, err);
    }
    if (rc == WEIR_OK) {
        rc = kafka_log_join((struct kafka_log **)config->shared, config, sink->options,
                            sink->transactional, &sink->topic, &sink->log, err);
    }
    if (rc != WEIR_OK) {
        destroy(sink);
        return rc;
    }
    *self = sink;
    return WEIR_OK;
}

static int start(void *self, uint64_t *marker, struct weir_error *err) {
    struct kafka_sink *sink = self;
    int rc = kafka_log_start(sink->log, &sink->topic, err);
    rc = rc == WEIR_OK ? start_encoders(sink, err) : rc;
    *marker = sink->transactional ? sink->topic.marker : WEIR_SINK_NO_MARKER;
    sink->refreshed_ns = weir_clock_mono_ns();
    return rc;
}

/* --- rows ------------------------------------------------------------------------------------- */

static int put_u32(struct weir_buffer *out, size_t at, size_t value) {
    uint32_t v = (uint32_t)value;
    memcpy(out->data + at, &v, sizeof(v));
    return WEIR_OK;
}

/* A key of one column is its text; of several, a JSON object. */
static int put_key(const struct kafka_sink *sink, const struct weir_batch *batch, int32_t row,
                   struct weir_buffer *out, struct weir_error *err) {
    if (sink->key_ops != NULL) {
        return sink->key_ops->row(sink->key_encoder, row, out, err);
    }
    if (sink->key_count == 1) {
        return weir_encode_plain(&batch->columns[sink->keys[0]], row, out);
    }
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < sink->key_count; i++) {
        const struct weir_field *field = &sink->config.schema->fields[sink->keys[i]];
        rc = weir_buffer_append(out, i == 0 ? "{" : ",", 1);
        rc = rc == WEIR_OK ? weir_encode_json_text(field->name, strlen(field->name), out) : rc;
        rc = rc == WEIR_OK ? weir_buffer_append(out, ":", 1) : rc;
        rc = rc == WEIR_OK ? weir_encode_json_value(&batch->columns[sink->keys[i]], field, row, out)
                           : rc;
    }
    return rc == WEIR_OK ? weir_buffer_append(out, "}", 1) : rc;
}

static int put_headers(const struct kafka_sink *sink, const struct weir_batch *batch, int32_t row,
                       struct weir_buffer *out) {
    uint16_t count = (uint16_t)sink->header_count;
    int rc = weir_buffer_append(out, &count, sizeof(count));
    for (int32_t i = 0; rc == WEIR_OK && i < sink->header_count; i++) {
        const struct weir_column *column = &batch->columns[sink->headers[i]];
        const char *name = sink->config.schema->fields[sink->headers[i]].name;
        uint16_t name_size = (uint16_t)strlen(name);
        uint32_t null = KAFKA_EFFECT_NULL;
        rc = weir_buffer_append(out, &name_size, sizeof(name_size));
        size_t at = out->size;
        rc = rc == WEIR_OK ? weir_buffer_append(out, &null, sizeof(null)) : rc;
        rc = rc == WEIR_OK ? weir_buffer_append(out, name, name_size) : rc;
        size_t from = out->size;
        if (rc == WEIR_OK && !weir_column_is_null(column, row)) {
            rc = weir_encode_plain(column, row, out);
            rc = rc == WEIR_OK ? put_u32(out, at, out->size - from) : rc;
        }
    }
    return rc;
}

static int put_time(const struct kafka_sink *sink, const struct weir_batch *batch, int32_t row,
                    struct weir_buffer *out) {
    const struct weir_column *column = &batch->columns[sink->time];
    bool nanos =
        column->type == WEIR_TYPE_TIMESTAMP_NS || column->type == WEIR_TYPE_TIMESTAMP_NS_NTZ;
    int64_t ms = 0;
    if (!weir_column_is_null(column, row)) {
        ms = weir_floor_div(((const int64_t *)column->values)[row], nanos ? 1000000 : 1000);
    }
    ms = ms > 0 ? ms : 0; /* Kafka has no time before 1970 */
    return weir_buffer_append(out, &ms, sizeof(ms));
}

static int too_large(const struct kafka_sink *sink, size_t bytes, struct weir_error *err) {
    return weir_error_set(err, WEIR_E_CONFIG,
                          "a row makes a message of %zu bytes and %zu are allowed; raise "
                          "options[\"message.max.bytes\"] here and max.message.bytes of topic %s, "
                          "or drop what makes it large",
                          bytes, sink->message_max, sink->topic.name);
}

static int put_message(struct kafka_sink *sink, const struct weir_batch *batch, int32_t row,
                       struct weir_error *err) {
    struct weir_buffer *out = &sink->slab->bytes;
    int64_t change = sink->change >= 0 ? weir_change_read(&batch->columns[sink->change], row)
                                       : WEIR_CHANGE_INSERT;
    if (change == WEIR_CHANGE_BEFORE) {
        return WEIR_OK; /* a topic by key knows only the newest row */
    }
    if (change == WEIR_CHANGE_TRUNCATE) {
        weir_log_warn("sink",
                      "a table was truncated: its rows stay in the topic, whose keys nobody knows "
                      "dataset=%s",
                      sink->config.name);
        return WEIR_OK;
    }
    static const uint32_t nulls[2] = {KAFKA_EFFECT_NULL, KAFKA_EFFECT_NULL};
    size_t at = out->size;
    int rc = weir_buffer_append(out, nulls, sizeof(nulls));
    rc = rc == WEIR_OK && sink->time >= 0 ? put_time(sink, batch, row, out) : rc;
    rc = rc == WEIR_OK && sink->header_count > 0 ? put_headers(sink, batch, row, out) : rc;
    size_t key = out->size;
    if (rc == WEIR_OK && sink->key_count > 0 &&
        (sink->key_count > 1 || !weir_column_is_null(&batch->columns[sink->keys[0]], row))) {
        rc = put_key(sink, batch, row, out, err);
        rc = rc == WEIR_OK ? put_u32(out, at, out->size - key) : rc;
    }
    size_t value = out->size;
    bool is_null = sink->raw >= 0 && weir_column_is_null(&batch->columns[sink->raw], row);
    if (rc == WEIR_OK && change != WEIR_CHANGE_DELETE && !is_null) {
        rc = sink->encoder_ops->row(sink->encoder, row, out, err);
        rc = rc == WEIR_OK ? put_u32(out, at + 4, out->size - value) : rc;
    }
    if (rc != WEIR_OK) {
        return err->code != WEIR_OK ? rc
                                    : weir_error_set(err, rc,
                                                     "the messages of one epoch do not fit a "
                                                     "record; commit more often (commit.every)");
    }
    sink->messages++;
    return out->size - at > sink->message_max ? too_large(sink, out->size - at, err) : WEIR_OK;
}

static int begin_epoch(struct kafka_sink *sink, struct weir_error *err) {
    static const char head[WEIR_SINK_HEAD_BYTES];
    sink->slab = take_slab(sink->slabs);
    sink->messages = 0;
    int rc = sink->slab == NULL ? WEIR_E_NOMEM
                                : weir_buffer_append(&sink->slab->bytes, head, sizeof(head));
    rc = rc == WEIR_OK ? kafka_effect_begin(&sink->slab->bytes, sink->flags, sink->options_json)
                       : rc;
    return rc == WEIR_OK ? rc : weir_error_set(err, rc, "out of memory");
}

static int write_rows(void *self, struct weir_batch *batch, const int32_t *sel, int32_t count,
                      struct weir_error *err) {
    struct kafka_sink *sink = self;
    struct weir_error why = {0};
    int rc = sink->slab == NULL ? begin_epoch(sink, &why) : WEIR_OK;
    if (rc == WEIR_OK) {
        rc = sink->encoder_ops->begin(sink->encoder, batch, &why);
    }
    if (rc == WEIR_OK && sink->key_ops != NULL) {
        rc = sink->key_ops->begin(sink->key_encoder, batch, &why);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        rc = put_message(sink, batch, sel != NULL ? sel[i] : i, &why);
    }
    if (rc != WEIR_OK && err != NULL) {
        *err = why;
    }
    return rc == WEIR_OK ? rc : weir_error_wrap(err, "write %s", sink->config.name);
}

static size_t held(void *self) {
    const struct kafka_sink *sink = self;
    return sink->slab != NULL ? sink->slab->bytes.size : 0;
}

static int hand_over(void *self, uint64_t epoch, struct weir_sink_effect *out,
                     struct weir_error *err) {
    struct kafka_sink *sink = self;
    (void)epoch;
    if (sink->slab == NULL) {
        return WEIR_OK;
    }
    if (WEIR_FAULT(kafka_encoded)) {
        return weir_error_set(err, WEIR_E_FAULT, "seal %s: injected at kafka_encoded",
                              sink->config.name);
    }
    struct slab *slab = sink->slab;
    sink->slab = NULL;
    kafka_effect_finish(&slab->bytes, WEIR_SINK_HEAD_BYTES, sink->messages);
    *out = (struct weir_sink_effect){
        .data = slab->bytes.data,
        .size = slab->bytes.size,
        .release = give_back,
        .owner = slab,
    };
    return WEIR_OK;
}

/* --- effects ---------------------------------------------------------------------------------- */

static int apply_many(void *self, const struct weir_sink_record *records, int32_t count,
                      struct weir_error *err) {
    struct kafka_sink *sink = self;
    int rc = kafka_log_apply(sink->log, &sink->topic, records, count, err);
    return rc == WEIR_OK ? rc
                         : weir_error_wrap(err, "sink %s, record %llu", sink->config.name,
                                           (unsigned long long)records[0].record);
}

static int maintain(void *self, struct weir_error *err) {
    struct kafka_sink *sink = self;
    int64_t now = weir_clock_mono_ns();
    if (now - sink->refreshed_ns < REFRESH_NS * INT64_C(1000000000)) {
        return WEIR_OK;
    }
    sink->refreshed_ns = now;
    return kafka_log_refresh(sink->log, &sink->topic, err);
}

int weir_sink_kafka_options(const void *effect, size_t size, const char **options,
                            size_t *options_size, struct weir_error *err) {
    struct kafka_effect open;
    int rc = kafka_effect_open(&open, effect, size, err);
    *options = open.options;
    *options_size = open.options_size;
    return rc;
}

static const char *const formats[] = {"json", "avro", "raw", NULL};
static const char *const key_formats[] = {"text", "json", "avro", NULL};
static const char *const strategies[] = {"topic", "record", "topic_record", NULL};
static const char *const compressions[] = {"none", "gzip", "snappy", "lz4", "zstd", NULL};
static const char *const deliveries[] = {"exactly_once", "at_least_once", NULL};

static const struct weir_option options[] = {
    {.name = "topic", .form = WEIR_OPTION_TEXT, .required = true, .example = "\"pos.clean\""},
    {.name = "key", .form = WEIR_OPTION_COLUMNS},
    {.name = "headers", .form = WEIR_OPTION_COLUMNS},
    {.name = "timestamp", .form = WEIR_OPTION_COLUMNS},
    {.name = "format", .form = WEIR_OPTION_TEXT, .choices = formats},
    {.name = "key_format", .form = WEIR_OPTION_TEXT, .choices = key_formats},
    {.name = "registry", .form = WEIR_OPTION_TEXT, .example = "env \"REGISTRY\""},
    {.name = "registry_username", .form = WEIR_OPTION_TEXT},
    {.name = "registry_password", .form = WEIR_OPTION_SECRET},
    {.name = "registry_token", .form = WEIR_OPTION_SECRET},
    {.name = "registry_ca", .form = WEIR_OPTION_PATH},
    {.name = "schema", .form = WEIR_OPTION_FILE, .example = "\"schemas/pos_sale.avsc\""},
    {.name = "subject", .form = WEIR_OPTION_TEXT, .example = "\"pos.clean-value\""},
    {.name = "subject_by", .form = WEIR_OPTION_TEXT, .choices = strategies},
    {.name = "record", .form = WEIR_OPTION_TEXT, .example = "\"shop.sale\""},
    {.name = "register", .form = WEIR_OPTION_FLAG},
    {.name = "compression", .form = WEIR_OPTION_TEXT, .choices = compressions},
    {.name = "partitioner", .form = WEIR_OPTION_TEXT},
    {.name = "delivery", .form = WEIR_OPTION_TEXT, .choices = deliveries},
    {.name = "create", .form = WEIR_OPTION_DATA, .example = "{ partitions = 4 }"},
    WEIR_KAFKA_CLIENT_OPTIONS,
    {0},
};

const struct weir_sink_ops weir_sink_kafka = {
    .kind = "kafka",
    .options = options,
    .effect_kind = WEIR_SINK_EFFECT_KAFKA,
    .create = create,
    .start = start,
    .write = write_rows,
    .evolve = evolve,
    .held = held,
    .hand_over = hand_over,
    .apply_many = apply_many,
    .maintain = maintain,
    .destroy = destroy,
};
