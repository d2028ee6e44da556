/* The Avro decoder: bodies by one schema, or messages of a schema registry's wire format (a zero
 * byte, the writer's schema id in four bytes, big-endian, then the body). Each writer's schema is
 * compiled with the columns into a field plan, once. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decode/avro/avro_container.h"
#include "decode/avro/avro_writers.h"
#include "decode/json/json_put.h"

enum { SINGLE_BYTES = 10, SUBJECT_BYTES = 512 };

struct avro {
    struct weir_decoder head;
    struct decode_plan plan;
    struct avro_schema reader;   /* empty where only columns are known */
    struct avro_writers writers; /* without a registry: none */
    bool newest;   /* the columns are those of the subject's newest schema, and may change */
    char *subject; /* there: whose, where it can be told */
    struct avro_writer *only; /* without a registry: all of them write by the reader's schema */
    uint8_t
        single[SINGLE_BYTES]; /* what a single object by the reader's schema begins with; or 0 */
    struct avro_writer *file; /* whose container is being read; NULL for messages */
};

/* --- writers
 * -------------------------------------------------------------------------------------- */

/* A field of the writer's record that no column takes, or not all of it: a null, another branch. */
static bool leaves_out(const struct avro_node *plan) {
    bool found = false;
    for (int32_t i = 0; !found && i < plan->child_count; i++) {
        const struct avro_node *child = &plan->children[i];
        found = child->put == AVRO_PUT_SKIP ||
                (plan->put == AVRO_PUT_UNION && child->put == AVRO_PUT_REFUSE) || leaves_out(child);
    }
    return found;
}

static void tell_news(void *context, const struct avro_writer *writer) {
    const struct avro *avro = context;
    struct weir_decoder_news *news = avro->head.news;
    if (news == NULL) {
        return;
    }
    bool unknown = !writer->readable && writer->until_ns != 0; /* no schema at all */
    if (!writer->readable && !unknown) {
        __atomic_add_fetch(&news->refused, 1, __ATOMIC_RELAXED);
    }
    if (avro->newest && !unknown && (!writer->readable || leaves_out(&writer->plan))) {
        __atomic_add_fetch(&news->columns, 1, __ATOMIC_RELAXED);
    }
}

/* The newest schema says what columns do not: aliases, an enum's default. Asked for with each
 * writer, for it may be newer by then; one that is gone, or is no Avro, says nothing. */
static int ask_newest(struct avro *avro, struct weir_error *err) {
    struct avro_version version;
    struct weir_error why = {0};
    int rc = avro_registry_version(avro->writers.registry, avro->subject, "latest", &version, &why);
    if (rc == WEIR_OK) {
        avro_schema_fini(&avro->reader);
        avro->reader = version.schema;
    } else if (rc == WEIR_E_UNAVAILABLE || rc == WEIR_E_ENVIRONMENT) {
        *err = why;
        return rc;
    }
    return WEIR_OK;
}

static int compile(void *context, struct avro_writer *writer, struct weir_error *err) {
    struct avro *avro = context;
    if (avro->newest && avro->subject != NULL) {
        int rc = ask_newest(avro, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return avro_plan_compile(writer->schema.top, avro->reader.top, &avro->plan.record,
                             &writer->plan, err);
}

/* --- life
 * ----------------------------------------------------------------------------------------- */

static void destroy(struct weir_decoder *base) {
    struct avro *avro = (struct avro *)base;
    avro_writers_fini(&avro->writers);
    if (avro->only != NULL) {
        avro_writer_free(avro->only);
    }
    if (avro->file != NULL) {
        avro_writer_free(avro->file);
    }
    avro_schema_fini(&avro->reader);
    free(avro->subject);
    decode_plan_fini(&avro->plan);
    free(avro);
}

static int read_file(const char *path, struct weir_buffer *text, struct weir_error *err) {
    FILE *file = fopen(path, "rbe");
    char chunk[16 * 1024];
    size_t got;
    int rc = file != NULL ? WEIR_OK : weir_error_set(err, WEIR_E_NOTFOUND, "cannot read %s", path);
    while (rc == WEIR_OK && (got = fread(chunk, 1, sizeof(chunk), file)) > 0) {
        rc = weir_buffer_append(text, chunk, got);
    }
    if (file != NULL) {
        fclose(file);
    }
    return rc;
}

/* The reader's own schema, for what columns do not say. */
static int load_reader(struct avro *avro, const char *path, struct weir_error *err) {
    struct weir_buffer text;
    weir_buffer_init(&text, 4 << 20);
    int rc = decode_plan_load(&avro->plan, path, err);
    rc = rc == WEIR_OK ? read_file(path, &text, err) : rc;
    rc = rc == WEIR_OK
             ? avro_schema_parse(&avro->reader, (const char *)text.data, text.size, path, err)
             : rc;
    weir_buffer_fini(&text);
    return rc;
}

/* Two bytes that say so, and the schema's fingerprint (Avro 1.11, "Single-object encoding"). */
static void set_single(struct avro *avro) {
    uint64_t print;
    if (avro_fingerprint(avro->reader.top, &print)) {
        avro->single[0] = 0xc3;
        avro->single[1] = 1;
        memcpy(avro->single + 2, &print, sizeof(print));
    }
}

static int create(struct weir_decoder **out, const char *options_json, struct weir_schema *schema,
                  struct weir_error *err) {
    struct avro *avro = calloc(1, sizeof(*avro));
    json_t *options = json_loads(options_json != NULL ? options_json : "{}", 0, NULL);
    const char *path = json_string_value(json_object_get(options, "schema"));
    if (avro == NULL) {
        json_decref(options);
        return weir_error_set(err, WEIR_E_NOMEM, "avro decoder: out of memory");
    }
    int rc = path != NULL ? load_reader(avro, path, err) : WEIR_OK;
    rc = rc == WEIR_OK ? decode_plan_settle(&avro->plan, "avro", schema, -1, err) : rc;
    if (rc == WEIR_OK && json_object_get(options, "registry") != NULL) {
        avro->writers.what = "avro";
        avro->writers.context = avro;
        avro->writers.compile = compile;
        avro->writers.asked = tell_news;
        rc = avro_registry_create(options, &avro->writers.registry, err);
        avro->newest = path == NULL;
        const char *subject = json_string_value(json_object_get(options, "subject"));
        avro->subject = subject != NULL ? strdup(subject) : NULL;
        avro->head.is_whole = true; /* where a message ends only its schema knows */
    } else if (rc == WEIR_OK && path == NULL) {
        rc = weir_error_set(err, WEIR_E_CONFIG,
                            "avro says where its schemas are: avro { registry = env \"REGISTRY\" } "
                            "or avro { schema = \"schemas/x.avsc\" }");
    } else if (rc == WEIR_OK) {
        avro->only = calloc(1, sizeof(*avro->only));
        rc = avro->only == NULL ? weir_error_set(err, WEIR_E_NOMEM, "avro decoder: out of memory")
                                : avro_plan_compile(avro->reader.top, avro->reader.top,
                                                    &avro->plan.record, &avro->only->plan, err);
        if (rc == WEIR_OK) {
            avro->only->readable = true;
            set_single(avro);
        }
    }
    json_decref(options);
    if (rc != WEIR_OK) {
        destroy(&avro->head);
        return rc;
    }
    *out = &avro->head;
    return WEIR_OK;
}

static struct weir_schema *schema_of(const struct weir_decoder *base) {
    return ((const struct avro *)base)->plan.schema;
}

/* --- columns ------------------------------------------------------------------------------ */

/* The subject a topic's values are registered under (TopicNameStrategy). */
static int subject_of(const json_t *options, const char *source_options_json,
                      char subject[SUBJECT_BYTES], struct weir_error *err) {
    const char *given = json_string_value(json_object_get(options, "subject"));
    json_t *source = json_loads(source_options_json != NULL ? source_options_json : "{}", 0, NULL);
    const json_t *topic = json_object_get(source, "topic");
    topic = topic != NULL ? topic : json_object_get(source, "hub");
    topic = json_is_array(topic) && json_array_size(topic) == 1 ? json_array_get(topic, 0) : topic;
    int rc = WEIR_OK;
    if (given != NULL) {
        snprintf(subject, SUBJECT_BYTES, "%s", given);
    } else if (json_is_string(topic) && json_string_value(topic)[0] != '^') {
        snprintf(subject, SUBJECT_BYTES, "%s-value", json_string_value(topic));
    } else {
        rc = weir_error_set(err, WEIR_E_CONFIG,
                            "avro cannot tell the columns from several topics; say the subject, or "
                            "give them: avro { registry = …, schema = \"schemas/x.avsc\" }");
    }
    json_decref(source);
    return rc;
}

static int columns_of_registry(const json_t *options, const char *source_options_json,
                               struct weir_avsc *avsc, struct weir_error *err) {
    char subject[SUBJECT_BYTES];
    struct avro_registry *registry = NULL;
    struct weir_buffer text;
    weir_buffer_init(&text, 16 << 20);
    int rc = subject_of(options, source_options_json, subject, err);
    rc = rc == WEIR_OK ? avro_registry_create(options, &registry, err) : rc;
    rc = rc == WEIR_OK ? avro_registry_latest(registry, subject, &text, err) : rc;
    if (rc == WEIR_E_UNAVAILABLE || rc == WEIR_E_NOTFOUND) {
        rc = err != NULL ? (err->code = WEIR_E_ENVIRONMENT) : WEIR_E_ENVIRONMENT;
    }
    rc = rc == WEIR_OK ? weir_avsc_parse(subject, (const char *)text.data, text.size, avsc, err)
                       : rc;
    avro_registry_destroy(registry);
    weir_buffer_fini(&text);
    return rc;
}

static int columns(const char *options_json, const char *source_kind,
                   const char *source_options_json, struct weir_schema **out,
                   struct weir_error *err) {
    json_t *options = json_loads(options_json, 0, NULL);
    const char *path = json_string_value(json_object_get(options, "schema"));
    struct weir_avsc avsc = {0};
    int rc;
    if (strcmp(source_kind, "files") == 0 && path == NULL) {
        rc = weir_error_set(err, WEIR_E_CONFIG,
                            "say which columns a folder of Avro containers has: avro { schema = "
                            "\"schemas/x.avsc\" }");
    } else if (path != NULL) {
        rc = weir_avsc_load(path, &avsc, err);
    } else if (json_object_get(options, "registry") != NULL) {
        rc = columns_of_registry(options, source_options_json, &avsc, err);
    } else {
        rc = weir_error_set(err, WEIR_E_CONFIG,
                            "avro says where its schemas are: avro { registry = env \"REGISTRY\" } "
                            "or avro { schema = \"schemas/x.avsc\" }");
    }
    if (rc == WEIR_OK) {
        *out = weir_schema_ref(avsc.schema);
        weir_avsc_fini(&avsc);
    }
    json_decref(options);
    return rc;
}

static int settle(const char *options_json, const char *source_options_json, char **out,
                  struct weir_error *err) {
    char subject[SUBJECT_BYTES];
    json_t *options = json_loads(options_json != NULL ? options_json : "{}", 0, NULL);
    int rc = WEIR_OK;
    if (json_object_get(options, "registry") != NULL &&
        json_object_get(options, "schema") == NULL &&
        subject_of(options, source_options_json, subject, NULL) == WEIR_OK) {
        bool good = json_object_set_new(options, "subject", json_string(subject)) == 0;
        *out = good ? json_dumps(options, JSON_COMPACT) : NULL;
        rc = *out != NULL ? WEIR_OK : weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    json_decref(options);
    return rc;
}

/* --- frames
 * --------------------------------------------------------------------------------------- */

/* The writer of a message, and the body behind its id. */
static int open_frame(struct avro *avro, struct avro_in *in, int64_t offset,
                      struct avro_writer **writer) {
    struct json_reader *r = &avro->plan.reader;
    if (avro->file != NULL) {
        *writer = avro->file;
        return avro->file->readable ? WEIR_OK : json_fail(r, 0, "%s", avro->file->reason);
    }
    if (avro->only == NULL) {
        return avro_writers_open(&avro->writers, r, in, offset, writer);
    }
    *writer = avro->only;
    bool single = in->end - in->p >= SINGLE_BYTES && in->p[0] == 0xc3 &&
                  memcmp(in->p, avro->single, SINGLE_BYTES) == 0;
    in->p += single ? SINGLE_BYTES : 0;
    return WEIR_OK;
}

/* decode_finish_row for the usual row: nothing to rescue, room in every column. */
static inline int finish_row(struct weir_batch_builder *builder, int32_t user, int64_t offset,
                             const struct weir_buffer *rescued, int64_t room) {
    struct weir_column_builder *offsets = &builder->columns[user + WEIR_META_OFFSET];
    struct weir_column_builder *none = &builder->columns[user + WEIR_META_RESCUED];
    int64_t row = builder->rows;
    if (UNLIKELY(rescued->size > 0 || row >= room)) {
        return decode_finish_row(builder, user, offset, rescued);
    }
    ((int64_t *)offsets->values)[row] = offset;
    weir_bit_clear(none->validity, row);
    none->null_count++;
    none->offsets[row + 1] = none->offsets[row];
    none->length = offsets->length = row + 1;
    builder->rows++;
    return WEIR_OK;
}

static int decode_frame(struct avro *avro, const uint8_t *block, const struct weir_frame *frame,
                        struct weir_batch_builder *builder, int64_t room) {
    struct json_reader *r = &avro->plan.reader;
    struct avro_in in = {.begin = block + frame->start,
                         .p = block + frame->start,
                         .end = block + frame->start + frame->length};
    struct avro_writer *writer;
    weir_buffer_clear(&r->rescued);
    r->depth = 1;
    r->objects = 0;
    if (UNLIKELY(r->keys.entries.size > 0)) {
        json_keys_clear(&r->keys);
    }
    r->path[0] = '\0';
    int rc = open_frame(avro, &in, frame->offset, &writer);
    if (rc == WEIR_OK) {
        rc = avro_plan_read(&writer->plan, r, &in, builder->columns, builder->rows, room);
        if (UNLIKELY(rc == WEIR_E_DATA) && avro->writers.registry != NULL) {
            avro_writers_name(writer, r);
        }
    }
    return rc == WEIR_OK
               ? finish_row(builder, avro->plan.record.count, frame->offset, &r->rescued, room)
               : rc;
}

/* What a container's frame holds, as if it were a message. */
static int open_datum(struct avro *avro, const uint8_t *block, struct weir_frame *frame) {
    const uint8_t *begin;
    const uint8_t *end;
    char reason[256];
    bool is_bad = avro_container_datum(block, frame, &begin, &end, reason, sizeof(reason));
    frame->start = (uint32_t)(begin - block);
    frame->length = (uint32_t)(end - begin);
    if (!is_bad) {
        return WEIR_OK;
    }
    avro->plan.reader.path[0] = '\0';
    return json_fail(&avro->plan.reader, 0, "%s", reason);
}

/* Rows that fit into every column as it is. */
static int64_t room_of(const struct weir_batch_builder *builder) {
    int64_t room = INT64_MAX;
    for (int32_t i = 0; i < builder->column_count; i++) {
        int64_t rows = builder->columns[i].capacity_rows;
        room = rows < room ? rows : room;
    }
    return room;
}

struct avro_rows {
    struct avro *avro;
    int64_t room;
};

static int read_one(void *decoder, const uint8_t *block, struct weir_frame *frame,
                    struct weir_batch_builder *builder, struct decode_fault *fault) {
    const struct avro_rows *rows = decoder;
    const struct json_reader *r = &rows->avro->plan.reader;
    int rc = rows->avro->file != NULL ? open_datum(rows->avro, block, frame) : WEIR_OK;
    rc = rc == WEIR_OK ? decode_frame(rows->avro, block, frame, builder, rows->room) : rc;
    if (rc == WEIR_E_DATA) {
        *fault = (struct decode_fault){r->path, r->reason, r->error_at};
    }
    return rc;
}

static int decode(struct weir_decoder *base, const uint8_t *block, const struct weir_frame *frames,
                  int32_t count, struct weir_batch_builder *builder,
                  struct weir_reject_batch **rejects, int32_t *consumed) {
    struct avro_rows rows = {(struct avro *)base, room_of(builder)};
    return decode_frames(&rows, read_one, block, frames, count, builder, rejects, consumed);
}

/* --- containers --------------------------------------------------------------------------- */

/* A file's header: its schema is the writer's from here on. */
static int begin(struct weir_decoder *base, const uint8_t *bytes, size_t size, bool last,
                 size_t *used, struct weir_error *err) {
    struct avro *avro = (struct avro *)base;
    const uint8_t *schema;
    size_t schema_bytes;
    struct weir_error why = {0};
    int rc = avro_container_header(bytes, size, used, &schema, &schema_bytes, err);
    if (rc != WEIR_OK || *used == 0) {
        *used = last ? 0 : WEIR_SPLIT_MORE;
        return rc;
    }
    struct avro_writer *writer = calloc(1, sizeof(*writer));
    if (writer == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "avro decoder: out of memory");
    }
    rc = avro_schema_parse(&writer->schema, (const char *)schema, schema_bytes, "its schema", &why);
    rc = rc == WEIR_OK ? avro_plan_compile(writer->schema.top, avro->reader.top, &avro->plan.record,
                                           &writer->plan, &why)
                       : rc;
    writer->readable = rc == WEIR_OK;
    if (rc != WEIR_OK && asprintf(&writer->reason, "the file's schema: %s", why.message) < 0) {
        free(writer);
        return weir_error_set(err, WEIR_E_NOMEM, "avro decoder: out of memory");
    }
    if (avro->file != NULL) {
        avro_writer_free(avro->file);
    }
    avro->file = writer;
    return WEIR_OK;
}

static int split(struct weir_decoder *base, struct weir_split *work, struct weir_error *err) {
    (void)base;
    return avro_container_split(work, err);
}

static size_t cut(struct weir_decoder *base, const uint8_t *bytes, size_t size) {
    struct avro *avro = (struct avro *)base;
    struct avro_in in = {.begin = bytes, .p = bytes, .end = bytes + size};
    struct avro_writer *writer;
    if (open_frame(avro, &in, 0, &writer) != WEIR_OK) {
        return size;
    }
    return avro_skip(&in, avro->reader.top, 0) ? (size_t)(in.p - bytes) : 0;
}

static const struct weir_option options[] = {
    {.name = "registry", .form = WEIR_OPTION_TEXT, .example = "env \"REGISTRY\""},
    {.name = "schema", .form = WEIR_OPTION_FILE, .example = "\"schemas/pos_sale.avsc\""},
    {.name = "subject", .form = WEIR_OPTION_TEXT, .example = "\"pos-value\""},
    {.name = "username", .form = WEIR_OPTION_TEXT},
    {.name = "password", .form = WEIR_OPTION_SECRET},
    {.name = "token", .form = WEIR_OPTION_SECRET},
    {.name = "ca_file", .form = WEIR_OPTION_PATH},
    {0},
};

const struct weir_decoder_vtable weir_decoder_avro = {
    .name = "avro",
    .options = options,
    .columns = columns,
    .settle = settle,
    .create = create,
    .schema = schema_of,
    .decode = decode,
    .destroy = destroy,
    .split = split,
    .begin = begin,
    .cut = cut,
    .is_container = true,
    .is_binary = true,
};
