/* The raw decoder: a frame's bytes as they are, in the column `value`. For texts no decoder knows,
 * and for topics kept whole. In a file a frame is a line, or the file. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "decode/row.h"

struct raw {
    struct weir_decoder head;
    struct weir_schema *schema;
    struct weir_buffer rescued; /* always empty */
    bool whole_file;
};

static void destroy(struct weir_decoder *base) {
    struct raw *raw = (struct raw *)base;
    weir_schema_unref(raw->schema);
    free(raw);
}

static int make_schema(struct weir_schema **out, struct weir_error *err) {
    struct weir_schema *schema = weir_schema_create();
    int rc = schema == NULL ? weir_error_set(err, WEIR_E_NOMEM, "raw decoder: out of memory")
                            : weir_schema_add_text(schema, "value", "binary", false, err);
    if (rc != WEIR_OK) {
        weir_schema_unref(schema);
        return rc;
    }
    *out = schema;
    return WEIR_OK;
}

static int columns(const char *options_json, const char *source_kind,
                   const char *source_options_json, struct weir_schema **out,
                   struct weir_error *err) {
    (void)options_json;
    (void)source_kind;
    (void)source_options_json;
    return make_schema(out, err);
}

static int create(struct weir_decoder **out, const char *options_json, struct weir_schema *schema,
                  struct weir_error *err) {
    struct raw *raw = calloc(1, sizeof(*raw));
    if (raw == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "raw decoder: out of memory");
    }
    json_t *options = json_loads(options_json != NULL ? options_json : "{}", 0, NULL);
    const char *frame = json_string_value(json_object_get(options, "frame"));
    raw->whole_file = frame != NULL && strcmp(frame, "file") == 0;
    json_decref(options);
    int rc = make_schema(&raw->schema, err);
    if (rc == WEIR_OK && schema != NULL && !weir_schema_equal(schema, raw->schema)) {
        rc = weir_error_set(err, WEIR_E_SCHEMA, "raw has one column, value binary");
    }
    if (rc != WEIR_OK) {
        destroy(&raw->head);
        return rc;
    }
    *out = &raw->head;
    return WEIR_OK;
}

static struct weir_schema *schema_of(const struct weir_decoder *base) {
    return ((const struct raw *)base)->schema;
}

static int read_one(void *decoder, const uint8_t *block, struct weir_frame *frame,
                    struct weir_batch_builder *builder, struct decode_fault *fault) {
    struct raw *raw = decoder;
    (void)fault;
    int rc = weir_builder_bytes(&builder->columns[0], block + frame->start, frame->length);
    return rc == WEIR_OK ? decode_finish_row(builder, 1, frame->offset, &raw->rescued) : rc;
}

static int decode(struct weir_decoder *base, const uint8_t *block, const struct weir_frame *frames,
                  int32_t count, struct weir_batch_builder *builder,
                  struct weir_reject_batch **rejects, int32_t *consumed) {
    return decode_frames(base, read_one, block, frames, count, builder, rejects, consumed);
}

static void cut_file(struct weir_split *work) {
    work->count = 0;
    work->used = 0;
    if (work->last && work->size > 0) {
        work->frames[0] =
            (struct weir_frame){.length = (uint32_t)work->size, .offset = (int64_t)work->offset};
        work->count = 1;
        work->used = work->size;
    }
}

/* Every line, blank ones too: its bytes are the value. */
static void cut_lines(struct weir_split *work) {
    size_t at = 0;
    work->count = 0;
    while (work->count < work->max && at < work->size) {
        const uint8_t *newline = memchr(work->bytes + at, '\n', work->size - at);
        if (newline == NULL && !work->last) {
            break;
        }
        size_t end = newline != NULL ? (size_t)(newline - work->bytes) : work->size;
        work->frames[work->count++] = (struct weir_frame){
            .start = (uint32_t)at,
            .length = (uint32_t)(end - at),
            .offset = (int64_t)(work->offset + at),
        };
        at = newline != NULL ? end + 1 : end;
    }
    work->used = at;
}

static int split(struct weir_decoder *base, struct weir_split *work, struct weir_error *err) {
    if (((const struct raw *)base)->whole_file) {
        cut_file(work);
    } else {
        cut_lines(work);
    }
    if (work->count == 0 && work->size > WEIR_SPLIT_BYTES_MAX) {
        return weir_error_set(
            err, WEIR_E_LIMIT,
            "more than %d bytes without an end of the frame; files of raw { frame "
            "= \"file\" } are at most that long",
            WEIR_SPLIT_BYTES_MAX);
    }
    return WEIR_OK;
}

static const char *const frame_choices[] = {"line", "file", NULL};

static const struct weir_option options[] = {
    {.name = "frame", .form = WEIR_OPTION_TEXT, .example = "\"line\"", .choices = frame_choices},
    {0},
};

const struct weir_decoder_vtable weir_decoder_raw = {
    .name = "raw",
    .options = options,
    .columns = columns,
    .create = create,
    .schema = schema_of,
    .decode = decode,
    .destroy = destroy,
    .split = split,
    .is_binary = true,
};
