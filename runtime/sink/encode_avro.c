/* Rows as messages of a schema registry's wire format: a zero byte, the schema's id in four bytes,
 * big-endian, the body. The schema is given, or derived from the columns and registered: when the
 * sink starts, or, where the registry is away then, before the first row; until it answers the
 * worker waits, and with it the epochs. What is written is part of the ledger's record, so the
 * registry is never asked twice about the same row. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "decode/avro/avro_subject.h"
#include "sink/encode.h"
#include "sink/encode_avro.h"

enum { WIRE_BYTES = 5, NAME_BYTES = 512, SCHEMA_BYTES_MAX = 4 << 20 };

#define TELL_AGAIN_NS (INT64_C(10) * 1000000000)

struct avro {
    char *name; /* dataset */
    char subject[NAME_BYTES];
    struct weir_schema *schema;
    struct avro_schema wire;
    struct avro_out plan;
    struct weir_buffer text; /* the schema's */
    struct avro_registry *registry;
    bool make; /* register what is not there */
    bool derived;
    bool adapted;
    bool *included;
    char record[NAME_BYTES];
    bool has_id;
    uint8_t head[WIRE_BYTES];
    bool (*stop)(void *context);
    bool (*draining)(void *context);
    void *stop_context;
    const struct weir_batch *batch;
};

static void destroy(void *self) {
    struct avro *avro = self;
    if (avro == NULL) {
        return;
    }
    avro_registry_destroy(avro->registry);
    avro_out_fini(&avro->plan);
    avro_schema_fini(&avro->wire);
    weir_buffer_fini(&avro->text);
    weir_schema_unref(avro->schema);
    free(avro->included);
    free(avro->name);
    free(avro);
}

/* --- create ----------------------------------------------------------------------------------- */

static int read_schema(struct avro *avro, const char *path, struct weir_error *err) {
    FILE *file = fopen(path, "rbe");
    char chunk[16 * 1024];
    size_t got;
    int rc = file != NULL ? WEIR_OK : weir_error_set(err, WEIR_E_NOTFOUND, "cannot read %s", path);
    while (rc == WEIR_OK && (got = fread(chunk, 1, sizeof(chunk), file)) > 0) {
        rc = weir_buffer_append(&avro->text, chunk, got);
    }
    if (file != NULL) {
        fclose(file);
    }
    return rc;
}

/* The subject by the strategies of Confluent's serializers; a bare type has no name. */
static int name_subject(struct avro *avro, const struct weir_encoder_config *config,
                        const json_t *options, bool bare, struct weir_error *err) {
    const char *given = config->key ? NULL : json_string_value(json_object_get(options, "subject"));
    const char *by = json_string_value(json_object_get(options, "subject_by"));
    const char *record = bare ? NULL : avro->wire.top->name;
    int length;
    if (given != NULL) {
        length = snprintf(avro->subject, NAME_BYTES, "%s", given);
    } else if (by == NULL || strcmp(by, "topic") == 0 || record == NULL) {
        length = snprintf(avro->subject, NAME_BYTES, "%s-%s", config->subject,
                          config->key ? "key" : "value");
    } else if (strcmp(by, "record") == 0) {
        length = snprintf(avro->subject, NAME_BYTES, "%s", record);
    } else {
        length = snprintf(avro->subject, NAME_BYTES, "%s-%s", config->subject, record);
    }
    return length < NAME_BYTES
               ? WEIR_OK
               : weir_error_set(err, WEIR_E_CONFIG, "%s: the subject %.80s… is too long",
                                config->name, avro->subject);
}

static int open_registry(struct avro *avro, const json_t *options, struct weir_error *err) {
    static const char *const names[][2] = {
        {"registry", "registry"},          {"registry_username", "username"},
        {"registry_password", "password"}, {"registry_token", "token"},
        {"registry_ca", "ca_file"},
    };
    json_t *own = json_object();
    for (size_t i = 0; own != NULL && i < sizeof(names) / sizeof(names[0]); i++) {
        json_t *value = json_object_get(options, names[i][0]);
        if (value != NULL) {
            (void)json_object_set(own, names[i][1], value);
        }
    }
    int rc = own == NULL ? weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", avro->name)
             : json_object_get(own, "registry") == NULL
                 ? weir_error_set(err, WEIR_E_CONFIG,
                                  "%s: format = \"avro\" says where its schema is registered: "
                                  "registry = env \"REGISTRY\"",
                                  avro->name)
                 : avro_registry_create(own, &avro->registry, err);
    json_decref(own);
    if (rc == WEIR_OK) {
        avro_registry_set_stop(avro->registry, avro->stop, avro->stop_context);
    }
    return rc;
}

/* The schema of `text` and how the columns become it. `origin` is where the text is from. */
static int compile(struct avro *avro, const char *origin, bool is_given, const bool *included,
                   struct weir_error *err) {
    int rc =
        avro_schema_parse(&avro->wire, (const char *)avro->text.data, avro->text.size, origin, err);
    if (rc == WEIR_OK && is_given && avro->wire.top->kind != AVRO_RECORD) {
        rc = weir_error_set(err, WEIR_E_CONFIG, "%s: a message is a record, and %s is none",
                            avro->name, origin);
    }
    return rc == WEIR_OK ? avro_out_compile(avro->wire.top, avro->schema, included, avro->name,
                                            &avro->plan, err)
                         : rc;
}

static int make_schema(struct avro *avro, const struct weir_encoder_config *config,
                       const json_t *options, bool bare, struct weir_error *err) {
    const char *path = config->key ? NULL : json_string_value(json_object_get(options, "schema"));
    const char *record = json_string_value(json_object_get(options, "record"));
    const char *name = avro->record;
    avro->derived = path == NULL && !bare;
    snprintf(avro->record, sizeof(avro->record), "%s%s", record != NULL ? record : config->name,
             config->key ? "_key" : "");
    int rc = path != NULL
                 ? read_schema(avro, path, err)
                 : avro_out_derive(config->schema, config->included, name, bare, &avro->text, err);
    return rc == WEIR_OK ? compile(avro, path != NULL ? path : config->name, path != NULL,
                                   config->included, err)
                         : rc;
}

static int create(const struct weir_encoder_config *config, void **self, struct weir_error *err) {
    struct avro *avro = calloc(1, sizeof(*avro));
    json_t *options = json_loads(config->options_json, 0, NULL);
    int32_t included = 0;
    for (int32_t i = 0; i < config->schema->count; i++) {
        included += config->included[i];
    }
    int rc = WEIR_E_NOMEM;
    if (avro != NULL) {
        weir_buffer_init(&avro->text, SCHEMA_BYTES_MAX);
        avro->name = strdup(config->name);
        avro->schema = weir_schema_ref(config->schema);
        avro->stop = config->stop;
        avro->draining = config->draining;
        avro->stop_context = config->stop_context;
        avro->make = json_object_get(options, "register") != json_false();
        avro->included = calloc((size_t)config->schema->count + 1, sizeof(*avro->included));
        rc = avro->name != NULL && avro->included != NULL ? WEIR_OK : WEIR_E_NOMEM;
    }
    if (rc != WEIR_OK) {
        weir_error_set(err, rc, "%s: out of memory", config->name);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < config->schema->count; i++) {
        avro->included[i] = config->included[i];
    }
    bool bare = config->key && included == 1;
    rc = rc == WEIR_OK ? make_schema(avro, config, options, bare, err) : rc;
    rc = rc == WEIR_OK ? name_subject(avro, config, options, bare, err) : rc;
    rc = rc == WEIR_OK ? open_registry(avro, options, err) : rc;
    json_decref(options);
    if (rc != WEIR_OK) {
        destroy(avro);
        return rc;
    }
    *self = avro;
    return WEIR_OK;
}

/* --- the id ----------------------------------------------------------------------------------- */

static const struct avro_field *field_called(const struct avro_type *record, const char *name) {
    for (int32_t i = 0; i < record->field_count; i++) {
        if (strcmp(record->fields[i].name, name) == 0) {
            return &record->fields[i];
        }
    }
    return NULL;
}

/* The columns, those that older versions lack or let be null said to be ones that may be null:
 * what is written now never is, and readers of the new schema still read the old messages. */
static struct weir_schema *beside(const struct avro *avro, const struct avro_type *newest) {
    struct weir_schema *made = weir_schema_create();
    for (int32_t i = 0; made != NULL && i < avro->schema->count; i++) {
        const struct avro_field *field = field_called(newest, avro->schema->fields[i].name);
        if (weir_schema_add(made, &avro->schema->fields[i]) != WEIR_OK) {
            weir_schema_unref(made);
            return NULL;
        }
        made->fields[i].nullable |= field == NULL || field->type->kind == AVRO_UNION;
    }
    return made;
}

/* The schema that follows from the columns once more, to stand beside the subject's newest. */
static int adapt(struct avro *avro, struct weir_error *err) {
    struct avro_version newest;
    int rc = avro_registry_version(avro->registry, avro->subject, "latest", &newest, err);
    if (rc != WEIR_OK || newest.schema.top->kind != AVRO_RECORD) {
        return rc;
    }
    struct weir_schema *columns = beside(avro, newest.schema.top);
    avro_schema_fini(&newest.schema);
    avro_out_fini(&avro->plan);
    avro_schema_fini(&avro->wire);
    weir_buffer_clear(&avro->text);
    rc = columns == NULL
             ? weir_error_set(err, WEIR_E_NOMEM, "out of memory")
             : avro_out_derive(columns, avro->included, avro->record, false, &avro->text, err);
    rc = rc == WEIR_OK ? compile(avro, avro->name, false, avro->included, err) : rc;
    weir_schema_unref(columns);
    return rc;
}

static int ask_once(struct avro *avro, int32_t *id, struct weir_error *err) {
    const char *text = weir_buffer_text(&avro->text);
    return text == NULL
               ? weir_error_set(err, WEIR_E_NOMEM, "out of memory")
               : avro_subject_register(avro->registry, avro->subject, text, avro->make, id, err);
}

static int ask_id(struct avro *avro, struct weir_error *err) {
    int32_t id = 0;
    int rc = ask_once(avro, &id, err);
    if (rc == WEIR_E_CONFLICT && avro->derived && !avro->adapted) {
        weir_error_clear(err);
        rc = adapt(avro, err);
        avro->adapted = rc != WEIR_E_UNAVAILABLE;
        rc = rc == WEIR_OK ? ask_once(avro, &id, err) : rc;
    }
    if (rc == WEIR_E_CONFLICT) {
        rc = err != NULL ? (err->code = WEIR_E_CONFIG) : WEIR_E_CONFIG;
    }
    if (rc == WEIR_OK) {
        avro->has_id = true;
        for (int i = 1; i < WIRE_BYTES; i++) {
            avro->head[i] = (uint8_t)((uint32_t)id >> (8 * (WIRE_BYTES - 1 - i)));
        }
        weir_log_info("sink", "avro dataset=%s subject=%s id=%d", avro->name, avro->subject,
                      (int)id);
    }
    return rc;
}

/* What cannot be told now is asked again before the first row. */
static int start(void *self, struct weir_error *err) {
    struct avro *avro = self;
    int rc = avro->has_id ? WEIR_OK : ask_id(avro, err);
    if (rc == WEIR_E_UNAVAILABLE) {
        weir_log_warn("sink", "%s: rows wait for the schema registry: %s", avro->name,
                      err->message);
        weir_error_clear(err);
        return WEIR_OK;
    }
    return rc == WEIR_OK ? rc : weir_error_wrap(err, "%s", avro->name);
}

/* Each try is three seconds of tries with a back-off. A pipeline that is told to end does not wait
 * for what may never come: nothing of these rows is recorded. */
static int wait_for_id(struct avro *avro, struct weir_error *err) {
    int64_t told_ns = weir_clock_mono_ns();
    int rc;
    while ((rc = ask_id(avro, err)) == WEIR_E_UNAVAILABLE) {
        if (weir_clock_mono_ns() - told_ns > TELL_AGAIN_NS) {
            told_ns = weir_clock_mono_ns();
            weir_log_warn("sink", "%s: rows wait for the schema registry: %s", avro->name,
                          err->message);
        }
        if (avro->draining != NULL && avro->draining(avro->stop_context)) {
            weir_error_wrap(err, "rows wait for it and are read again at the next start");
            return err != NULL ? (err->code = WEIR_E_ENVIRONMENT) : WEIR_E_ENVIRONMENT;
        }
        weir_error_clear(err);
    }
    return rc;
}

/* --- rows ------------------------------------------------------------------------------------- */

static int begin(void *self, const struct weir_batch *batch, struct weir_error *err) {
    struct avro *avro = self;
    avro->batch = batch;
    return avro->has_id ? WEIR_OK : wait_for_id(avro, err);
}

static int encode_row(void *self, int32_t row, struct weir_buffer *out, struct weir_error *err) {
    const struct avro *avro = self;
    int rc = weir_buffer_append(out, avro->head, WIRE_BYTES);
    return rc == WEIR_OK ? avro_out_write(&avro->plan, avro->batch, row, out, err) : rc;
}

const struct weir_encoder_ops weir_encoder_avro = {
    .kind = "avro",
    .create = create,
    .start = start,
    .begin = begin,
    .row = encode_row,
    .destroy = destroy,
};
