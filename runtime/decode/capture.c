/* The capture decoder: files that Event Hubs Capture writes, Avro containers whose records wrap
 * each event's bytes (`Body`). The bytes go to a decoder of their own, named by the option `body`;
 * what is beside them becomes columns after its columns. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decode/avro/avro_container.h"
#include "decode/avro/avro_plan.h"
#include "decode/json/json_text.h"

enum {
    BODY_BYTES_MAX = WEIR_DECODE_FRAME_BYTES_MAX + WEIR_DECODE_PADDING + 1,
    TEXT_BYTES_MAX = 16 << 20
};

/* Columns after the body's own. */
enum extra { EXTRA_SEQUENCE, EXTRA_ENQUEUED, EXTRA_PROPERTIES, EXTRA_COUNT };
static const struct {
    const char *name;
    const char *type;
    const char *field; /* of the file's records */
} extras[EXTRA_COUNT] = {
    {"_sequence_number", "int64", "SequenceNumber"},
    {"_enqueued_at", "timestamp", "EnqueuedTimeUtc"},
    {"_properties", "map<string, string>", "Properties"},
};

struct capture {
    struct weir_decoder head;
    struct weir_decoder *body;
    struct weir_schema *schema; /* the body's columns and the extras */
    int32_t body_count;
    struct avro_schema file;  /* of the file at hand */
    char *reason;             /* why its records cannot be read; NULL: they can */
    struct weir_buffer frame; /* one body, with the bytes decoders want behind it */
    struct weir_buffer text;
};

/* What one record holds. */
struct event {
    struct avro_in values[EXTRA_COUNT]; /* where each begins; p NULL: there is none */
    const struct avro_type *types[EXTRA_COUNT];
    const uint8_t *body; /* NULL: null */
    size_t body_bytes;
};

static int no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "capture decoder: out of memory");
}

/* --- life --------------------------------------------------------------------------------- */

static void destroy(struct weir_decoder *base) {
    struct capture *capture = (struct capture *)base;
    weir_decoder_destroy(capture->body);
    weir_schema_unref(capture->schema);
    avro_schema_fini(&capture->file);
    weir_buffer_fini(&capture->frame);
    weir_buffer_fini(&capture->text);
    free(capture->reason);
    free(capture);
}

/* The body's decoder and its options, which are this one's without `body`. */
static int body_options(const char *options_json, const char **kind, char **text,
                        struct weir_error *err) {
    static const char *const kinds[] = {"json", "avro", "msgpack"};
    json_t *options = json_loads(options_json != NULL ? options_json : "{}", 0, NULL);
    const char *said = json_string_value(json_object_get(options, "body"));
    *kind = kinds[0];
    for (size_t i = 0; said != NULL && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        *kind = strcmp(kinds[i], said) == 0 ? kinds[i] : *kind;
    }
    json_object_del(options, "body");
    *text = json_dumps(options, JSON_COMPACT);
    json_decref(options);
    return *text != NULL ? WEIR_OK : no_memory(err);
}

/* *out: the first `count` columns of `from` (-1: all), with the extras where `more`. */
static int columns_of(const struct weir_schema *from, int32_t count, bool more,
                      struct weir_schema **out, struct weir_error *err) {
    struct weir_schema *made = weir_schema_create();
    int rc = made != NULL ? WEIR_OK : no_memory(err);
    for (int32_t i = 0; rc == WEIR_OK && i < (count < 0 ? from->count : count); i++) {
        rc = weir_schema_add(made, &from->fields[i]) == WEIR_OK ? rc : no_memory(err);
    }
    for (int32_t i = 0; rc == WEIR_OK && more && i < EXTRA_COUNT; i++) {
        rc = weir_schema_find(made, extras[i].name) < 0
                 ? weir_schema_add_text(made, extras[i].name, extras[i].type, true, err)
                 : weir_error_set(err, WEIR_E_SCHEMA,
                                  "capture: the body has a field %s, as the event's own is called",
                                  extras[i].name);
    }
    if (rc != WEIR_OK) {
        weir_schema_unref(made);
        return rc;
    }
    *out = made;
    return WEIR_OK;
}

static int create(struct weir_decoder **out, const char *options_json, struct weir_schema *schema,
                  struct weir_error *err) {
    struct capture *capture = calloc(1, sizeof(*capture));
    struct weir_schema *inner = NULL;
    const char *kind;
    char *text = NULL;
    if (capture == NULL) {
        return no_memory(err);
    }
    weir_buffer_init(&capture->frame, BODY_BYTES_MAX);
    weir_buffer_init(&capture->text, TEXT_BYTES_MAX);
    int rc = body_options(options_json, &kind, &text, err);
    if (rc == WEIR_OK && schema != NULL) {
        rc = columns_of(schema, schema->count - EXTRA_COUNT, false, &inner, err);
    }
    rc = rc == WEIR_OK ? weir_decoder_create(&capture->body, kind, text, inner, err) : rc;
    if (rc == WEIR_OK) {
        const struct weir_schema *own = capture->body->vtable->schema(capture->body);
        capture->body_count = own->count;
        rc = columns_of(own, -1, true, &capture->schema, err);
    }
    weir_schema_unref(inner);
    free(text);
    if (rc != WEIR_OK) {
        destroy(&capture->head);
        return rc;
    }
    *out = &capture->head;
    return WEIR_OK;
}

static struct weir_schema *schema_of(const struct weir_decoder *base) {
    return ((const struct capture *)base)->schema;
}

static int columns(const char *options_json, const char *source_kind,
                   const char *source_options_json, struct weir_schema **out,
                   struct weir_error *err) {
    struct weir_schema *body = NULL;
    const char *kind;
    char *text = NULL;
    if (strcmp(source_kind, "files") != 0) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "capture reads the files Event Hubs Capture wrote; of a hub itself "
                              "read event_hubs with the body's own decoder");
    }
    int rc = body_options(options_json, &kind, &text, err);
    rc = rc == WEIR_OK
             ? weir_decoder_columns(kind, text, "capture", source_options_json, &body, err)
             : rc;
    rc = rc == WEIR_OK ? columns_of(body, -1, true, out, err) : rc;
    weir_schema_unref(body);
    free(text);
    return rc;
}

/* --- a file's beginning ------------------------------------------------------------------- */

static const struct avro_type *body_type(const struct avro_type *top) {
    for (int32_t i = 0; top->kind == AVRO_RECORD && i < top->field_count; i++) {
        if (strcmp(top->fields[i].name, "Body") == 0) {
            return top->fields[i].type;
        }
    }
    return NULL;
}

static int begin(struct weir_decoder *base, const uint8_t *bytes, size_t size, bool last,
                 size_t *used, struct weir_error *err) {
    struct capture *capture = (struct capture *)base;
    const uint8_t *schema;
    size_t schema_bytes;
    struct weir_error why = {0};
    int rc = avro_container_header(bytes, size, used, &schema, &schema_bytes, err);
    if (rc != WEIR_OK || *used == 0) {
        *used = last ? 0 : WEIR_SPLIT_MORE;
        return rc;
    }
    avro_schema_fini(&capture->file);
    memset(&capture->file, 0, sizeof(capture->file));
    free(capture->reason);
    capture->reason = NULL;
    rc = avro_schema_parse(&capture->file, (const char *)schema, schema_bytes, "its schema", &why);
    if (rc == WEIR_OK && body_type(capture->file.top) == NULL) {
        rc = weir_error_set(&why, WEIR_E_SCHEMA,
                            "no field is called Body, so Event Hubs Capture did not write it; read "
                            "it with avro");
    }
    return rc != WEIR_OK && asprintf(&capture->reason, "the file's schema: %s", why.message) < 0
               ? no_memory(err)
               : WEIR_OK;
}

/* --- records ------------------------------------------------------------------------------ */

/* The branch of a union that is there; `type` itself where it is none. */
static const struct avro_type *branch_of(struct avro_in *in, const struct avro_type *type) {
    int64_t branch;
    if (type->kind != AVRO_UNION) {
        return type;
    }
    return avro_varint(in, &branch) && branch >= 0 && branch < type->branch_count
               ? type->branches[branch]
               : NULL;
}

/* Where the parts of a record lie. False: it is cut. */
static bool read_event(const struct avro_type *top, struct avro_in *in, struct event *event) {
    memset(event, 0, sizeof(*event));
    for (int32_t i = 0; i < top->field_count; i++) {
        const struct avro_field *field = &top->fields[i];
        struct avro_in from = *in;
        for (int32_t k = 0; k < EXTRA_COUNT; k++) {
            if (strcmp(field->name, extras[k].field) == 0) {
                event->values[k] = *in;
                event->types[k] = field->type;
            }
        }
        if (!avro_skip(in, field->type, 0)) {
            return false;
        }
        if (strcmp(field->name, "Body") == 0) {
            const struct avro_type *type = branch_of(&from, field->type);
            bool is_bytes = type != NULL && (type->kind == AVRO_BYTES || type->kind == AVRO_STRING);
            if (is_bytes && !avro_bytes(&from, &event->body, &event->body_bytes)) {
                return false;
            }
        }
    }
    return in->p == in->end;
}

/* "11/21/2026 6:05:00 PM", as Capture writes, or ISO 8601. */
static bool read_time(const char *text, size_t length, int64_t *out) {
    int month;
    int day;
    int year;
    int hour;
    int minute;
    int second;
    int used = 0;
    char half[3];
    char copy[64];
    char iso[64];
    if (length >= sizeof(copy)) {
        return false;
    }
    memcpy(copy, text, length);
    copy[length] = '\0';
    if (sscanf(copy, "%2d/%2d/%4d %2d:%2d:%2d %2[AP]M%n", &month, &day, &year, &hour, &minute,
               &second, half, &used) == 7 &&
        (size_t)used == length && hour >= 1 && hour <= 12) {
        hour = hour % 12 + (half[0] == 'P' ? 12 : 0);
        int size = snprintf(iso, sizeof(iso), "%04d-%02d-%02dT%02d:%02d:%02dZ", year, month, day,
                            hour, minute, second);
        return json_parse_timestamp((const uint8_t *)iso, (size_t)size, 1000000, true, out) ==
               JSON_TIME_OK;
    }
    return json_parse_timestamp((const uint8_t *)copy, length, 1000000, true, out) == JSON_TIME_OK;
}

/* A value as text: texts as they are, the others as JSON writes them. */
static int put_property(struct capture *capture, struct avro_in *in, const struct avro_type *type,
                        struct weir_column_builder *to) {
    const uint8_t *bytes;
    size_t length;
    type = branch_of(in, type);
    if (type == NULL) {
        return WEIR_E_DATA;
    }
    if (type->kind == AVRO_NULL) {
        return weir_builder_null(to);
    }
    if (type->kind == AVRO_STRING) {
        return avro_bytes(in, &bytes, &length) && json_find_bad_utf8(bytes, length) < 0
                   ? weir_builder_bytes(to, bytes, length)
                   : WEIR_E_DATA;
    }
    weir_buffer_clear(&capture->text);
    int rc = avro_rescue(in, type, &capture->text, 0);
    bool quoted = rc == WEIR_OK && capture->text.data[0] == '"';
    return rc == WEIR_OK ? weir_builder_bytes(to, capture->text.data + quoted,
                                              capture->text.size - 2 * (size_t)quoted)
                         : rc;
}

static int put_properties(struct capture *capture, struct avro_in in, const struct avro_type *type,
                          struct weir_column_builder *to) {
    int64_t count = 1;
    type = branch_of(&in, type);
    if (type == NULL || type->kind != AVRO_MAP) {
        return weir_builder_null(to);
    }
    while (count != 0) {
        if (!avro_block(&in, &count)) {
            return WEIR_E_DATA;
        }
        for (int64_t i = 0; i < count; i++) {
            const uint8_t *key;
            size_t length;
            int rc = avro_bytes(&in, &key, &length) && json_find_bad_utf8(key, length) < 0
                         ? weir_builder_bytes(&to->children[0], key, length)
                         : WEIR_E_DATA;
            rc = rc == WEIR_OK ? put_property(capture, &in, type->branches[0], &to->children[1])
                               : rc;
            if (rc != WEIR_OK) {
                return rc;
            }
        }
    }
    return weir_builder_list(to);
}

static int put_extra(struct capture *capture, const struct event *event, enum extra extra,
                     struct weir_column_builder *to) {
    struct avro_in in = event->values[extra];
    const struct avro_type *type = event->types[extra];
    const uint8_t *text;
    size_t length;
    int64_t number;
    if (type == NULL) {
        return weir_builder_null(to);
    }
    if (extra == EXTRA_PROPERTIES) {
        return put_properties(capture, in, type, to);
    }
    type = branch_of(&in, type);
    bool is_number = type != NULL && (type->kind == AVRO_LONG || type->kind == AVRO_INT) &&
                     avro_varint(&in, &number);
    bool is_time = type != NULL && type->kind == AVRO_STRING && avro_bytes(&in, &text, &length) &&
                   read_time((const char *)text, length, &number);
    return (extra == EXTRA_SEQUENCE ? is_number : is_time) ? weir_builder_int(to, number)
                                                           : weir_builder_null(to);
}

/* --- frames ------------------------------------------------------------------------------- */

/* The builder's columns with the extras last, so that the body's decoder finds its meta columns
 * behind its own; and back. */
static void turn(const struct capture *capture, struct weir_batch_builder *builder, bool back) {
    struct weir_column_builder held[(int)EXTRA_COUNT + (int)WEIR_META_COUNT]; /* more than either */
    struct weir_column_builder *at = builder->columns + capture->body_count;
    size_t extra = EXTRA_COUNT * sizeof(*at);
    size_t meta = WEIR_META_COUNT * sizeof(*at);
    if (back) {
        memcpy(held, at, meta);
        memmove(at, at + WEIR_META_COUNT, extra);
        memcpy(at + EXTRA_COUNT, held, meta);
        builder->column_count += EXTRA_COUNT;
    } else {
        memcpy(held, at, extra);
        memmove(at, at + EXTRA_COUNT, meta);
        memcpy(at + WEIR_META_COUNT, held, extra);
        builder->column_count -= EXTRA_COUNT;
    }
}

/* The body alone, as a block a decoder may read. */
static int copy_body(struct capture *capture, const struct event *event) {
    static const uint8_t behind[WEIR_DECODE_PADDING] = {'\n'};
    weir_buffer_clear(&capture->frame);
    int rc = weir_buffer_append(&capture->frame, event->body, event->body_bytes);
    return rc == WEIR_OK ? weir_buffer_append(&capture->frame, behind, sizeof(behind)) : rc;
}

/* The builder is turned. *taken: the frame is a row, a reject, or passed over. */
static int decode_event(struct capture *capture, const struct event *event, int64_t offset,
                        struct weir_batch_builder *builder, struct weir_reject_batch **rejects,
                        bool *taken) {
    struct weir_frame frame = {.length = (uint32_t)event->body_bytes, .offset = offset};
    struct weir_column_builder *more = builder->columns + builder->column_count;
    int32_t rows = builder->rows;
    int32_t consumed = 0;
    int rc = copy_body(capture, event);
    rc = rc == WEIR_OK ? weir_decoder_decode(capture->body, capture->frame.data, &frame, 1, builder,
                                             rejects, &consumed)
                       : rc;
    *taken = rc == WEIR_OK && consumed == 1;
    if (!*taken || builder->rows == rows) {
        return rc;
    }
    builder->rows = rows; /* until the row is whole */
    for (int32_t i = 0; rc == WEIR_OK && i < EXTRA_COUNT; i++) {
        rc = put_extra(capture, event, (enum extra)i, &more[i]);
    }
    if (rc == WEIR_OK) {
        builder->rows++;
    }
    return rc;
}

static int decode_frame(struct capture *capture, const uint8_t *block,
                        const struct weir_frame *frame, struct weir_batch_builder *builder,
                        struct weir_reject_batch **rejects, bool *taken) {
    struct avro_in in;
    struct event event;
    char reason[256];
    bool is_bad = avro_container_datum(block, frame, &in.begin, &in.end, reason, sizeof(reason));
    struct weir_frame raw = {.start = (uint32_t)(in.begin - block),
                             .length = (uint32_t)(in.end - in.begin),
                             .offset = frame->offset};
    *taken = true;
    in.p = in.begin;
    const char *why = is_bad                    ? reason
                      : capture->reason != NULL ? capture->reason
                      : !read_event(capture->file.top, &in, &event)
                          ? "the record ends elsewhere than its schema says"
                      : event.body_bytes > WEIR_DECODE_FRAME_BYTES_MAX ? "a body of over 16 MB"
                                                                       : NULL;
    if (why != NULL) {
        return decode_reject(builder, rejects, block, &raw, "", why, -1);
    }
    if (event.body == NULL || event.body_bytes == 0) {
        return WEIR_OK; /* a tombstone */
    }
    turn(capture, builder, false);
    int rc = decode_event(capture, &event, frame->offset, builder, rejects, taken);
    turn(capture, builder, true);
    if (rc != WEIR_OK) {
        weir_batch_builder_undo_row(builder);
        *taken = false;
    }
    return rc == WEIR_E_DATA /* of the extras: what was skipped well is read well, but for texts */
               ? (*taken = true,
                  decode_reject(builder, rejects, block, &raw, "Properties", "not valid UTF-8", -1))
               : rc;
}

static int decode(struct weir_decoder *base, const uint8_t *block, const struct weir_frame *frames,
                  int32_t count, struct weir_batch_builder *builder,
                  struct weir_reject_batch **rejects, int32_t *consumed) {
    struct capture *capture = (struct capture *)base;
    size_t bytes = 0;
    int32_t i = 0;
    int rc = WEIR_OK;
    capture->body->news = base->news;
    for (bool taken = true; i < count && !decode_is_full(builder, bytes); i++) {
        rc = decode_frame(capture, block, &frames[i], builder, rejects, &taken);
        if (rc != WEIR_OK || !taken) {
            break;
        }
        bytes += frames[i].length;
    }
    *consumed = i;
    return rc;
}

static const char *const bodies[] = {"json", "avro", "msgpack", NULL};

static const struct weir_option options[] = {
    {.name = "body", .form = WEIR_OPTION_TEXT, .example = "\"json\"", .choices = bodies},
    {.name = "schema", .form = WEIR_OPTION_FILE, .example = "\"schemas/pos_sale.avsc\""},
    {.name = "registry", .form = WEIR_OPTION_TEXT, .example = "env \"REGISTRY\""},
    {.name = "subject", .form = WEIR_OPTION_TEXT, .example = "\"pos-value\""},
    {.name = "username", .form = WEIR_OPTION_TEXT},
    {.name = "password", .form = WEIR_OPTION_SECRET},
    {.name = "token", .form = WEIR_OPTION_SECRET},
    {.name = "ca_file", .form = WEIR_OPTION_PATH},
    {0},
};

static int split(struct weir_decoder *base, struct weir_split *work, struct weir_error *err) {
    (void)base;
    return avro_container_split(work, err);
}

const struct weir_decoder_vtable weir_decoder_capture = {
    .name = "capture",
    .options = options,
    .columns = columns,
    .create = create,
    .schema = schema_of,
    .decode = decode,
    .destroy = destroy,
    .split = split,
    .begin = begin,
    .is_container = true,
    .is_binary = true,
};
