#include "decode/debezium/debezium_avro.h"

#include <stdlib.h>
#include <string.h>

#include "decode/avro/avro_writers.h"

enum { TEXT_BYTES_MAX = 4 * WEIR_DECODE_FRAME_BYTES_MAX };

struct debezium_avro {
    struct avro_writers writers;
    const struct json_record *record;
    struct json_reader *reader;
    struct weir_buffer text;
};

/* A nullable type's own. */
static const struct avro_type *beside_null(const struct avro_type *type) {
    if (type->kind != AVRO_UNION) {
        return type;
    }
    for (int32_t i = 0; i < type->branch_count; i++) {
        if (type->branches[i]->kind != AVRO_NULL) {
            return type->branches[i];
        }
    }
    return type;
}

/* By the logical type, else by the name the field has in Kafka Connect. */
static struct debezium_field form_of(const struct avro_type *type) {
    struct debezium_field form = {.form = DEBEZIUM_PLAIN};
    if (type->logical == AVRO_DECIMAL) {
        form.form = DEBEZIUM_DECIMAL;
        form.scale = type->scale;
    } else if (type->logical == AVRO_TIMESTAMP) {
        form.form = type->per_second == 1000      ? DEBEZIUM_MILLIS
                    : type->per_second == 1000000 ? DEBEZIUM_MICROS
                                                  : DEBEZIUM_NANOS;
    } else if (type->connect_name != NULL) {
        form.form = debezium_form(type->connect_name);
        form.scale = form.form == DEBEZIUM_DECIMAL ? DEBEZIUM_SCALE_BAD : 0;
    }
    return form;
}

static int compile(void *context, struct avro_writer *writer, struct weir_error *err) {
    const struct debezium_avro *avro = context;
    const struct avro_type *top = writer->schema.top;
    const struct avro_type *after = NULL;
    for (int32_t i = 0; top->kind == AVRO_RECORD && i < top->field_count; i++) {
        if (strcmp(top->fields[i].name, "after") == 0) {
            after = beside_null(top->fields[i].type);
        }
    }
    struct debezium_field *forms = calloc((size_t)avro->record->count + 1, sizeof(*forms));
    if (forms == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "debezium decoder: out of memory");
    }
    writer->own = forms;
    for (int32_t i = 0; after != NULL && after->kind == AVRO_RECORD && i < after->field_count;
         i++) {
        const char *name = after->fields[i].name;
        int32_t at = json_record_find(avro->record, (const uint8_t *)name, strlen(name));
        if (at >= 0) {
            forms[at] = form_of(beside_null(after->fields[i].type));
        }
    }
    return WEIR_OK; /* without `after`: a logical message, or none of Debezium's, which op says */
}

int debezium_avro_create(const struct json_t *options, const struct json_record *record,
                         struct json_reader *reader, struct debezium_avro **out,
                         struct weir_error *err) {
    struct debezium_avro *avro = calloc(1, sizeof(*avro));
    if (avro == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "debezium decoder: out of memory");
    }
    *out = avro;
    avro->record = record;
    avro->reader = reader;
    avro->writers.what = "debezium";
    avro->writers.context = avro;
    avro->writers.compile = compile;
    weir_buffer_init(&avro->text, TEXT_BYTES_MAX);
    return avro_registry_create(options, &avro->writers.registry, err);
}

void debezium_avro_destroy(struct debezium_avro *avro) {
    if (avro != NULL) {
        avro_writers_fini(&avro->writers);
        weir_buffer_fini(&avro->text);
        free(avro);
    }
}

int debezium_avro_text(struct debezium_avro *avro, const uint8_t *block,
                       const struct weir_frame *frame, const uint8_t **text, size_t *size,
                       const struct debezium_field **forms) {
    static const uint8_t padding[WEIR_DECODE_PADDING];
    struct weir_buffer *out = &avro->text;
    const uint8_t *begin = block + frame->start;
    struct avro_in in = {.begin = begin, .p = begin, .end = begin + frame->length};
    struct avro_writer *writer;
    int rc = avro_writers_open(&avro->writers, avro->reader, &in, frame->offset, &writer);
    if (rc != WEIR_OK) {
        return rc;
    }
    weir_buffer_clear(out);
    rc = avro_rescue(&in, writer->schema.top, out, 0);
    *size = out->size;
    rc = rc == WEIR_OK ? weir_buffer_append(out, padding, sizeof(padding)) : rc;
    if (rc == WEIR_E_LIMIT) {
        return json_fail(avro->reader, 0, "as JSON the event is longer than %d MB",
                         TEXT_BYTES_MAX >> 20);
    }
    if (rc == WEIR_E_DATA || (rc == WEIR_OK && in.p != in.end)) {
        return json_fail(avro->reader, (uint32_t)(in.p - begin),
                         "the event ends elsewhere than its schema says");
    }
    *text = out->data;
    *forms = writer->own;
    return rc;
}

void debezium_avro_name(struct debezium_avro *avro) {
    avro_writers_name(avro->writers.last, avro->reader);
}
