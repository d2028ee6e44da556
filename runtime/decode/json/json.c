/* The JSON decoder: lines → rows. Lines are indexed by the block (a few dozen at a time, so that
 * text, index and columns stay in cache); when a block has a line that simdjson cannot index, its
 * lines are indexed one by one, so that only the bad ones are rejected. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decode/json/json_index.h"
#include "decode/json/json_text.h"
#include "decode/row.h"

enum { INDEX_BYTES = 32 * 1024 };

struct json_decoder {
    struct weir_decoder head;
    struct weir_json_index *index;
    struct decode_plan plan;
};

static void destroy(struct weir_decoder *base) {
    struct json_decoder *decoder = (struct json_decoder *)base;
    weir_json_index_destroy(decoder->index);
    decode_plan_fini(&decoder->plan);
    free(decoder);
}

/* {"schema": "path"}: loads it into the plan. */
static int read_options(struct json_decoder *decoder, const char *options_json,
                        struct weir_error *err) {
    if (options_json == NULL) {
        return WEIR_OK;
    }
    json_error_t where;
    json_t *options = json_loads(options_json, JSON_REJECT_DUPLICATES, &where);
    int rc = WEIR_OK;
    const char *key;
    json_t *value;
    if (!json_is_object(options)) {
        rc = weir_error_set(err, WEIR_E_CONFIG, "json: options are not an object: %s", where.text);
    }
    json_object_foreach(options, key, value) {
        if (strcmp(key, "schema") == 0 && json_is_string(value)) {
            rc = decode_plan_load(&decoder->plan, json_string_value(value), err);
        } else {
            rc = weir_error_set(err, WEIR_E_CONFIG,
                                "json: unknown option \"%s\"; it has schema = \"a.avsc\"", key);
        }
        if (rc != WEIR_OK) {
            break;
        }
    }
    json_decref(options);
    return rc;
}

static int create(struct weir_decoder **out, const char *options_json, struct weir_schema *schema,
                  struct weir_error *err) {
    struct json_decoder *decoder = calloc(1, sizeof(*decoder));
    if (decoder == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "json decoder: out of memory");
    }
    int rc = read_options(decoder, options_json, err);
    if (rc == WEIR_OK) {
        rc = decode_plan_settle(&decoder->plan, "json", schema, -1, err);
    }
    if (rc == WEIR_OK) {
        decoder->index = weir_json_index_create();
        rc = decoder->index == NULL
                 ? weir_error_set(err, WEIR_E_NOMEM, "json decoder: out of memory")
                 : WEIR_OK;
    }
    if (rc != WEIR_OK) {
        destroy(&decoder->head);
        return rc;
    }
    *out = &decoder->head;
    return WEIR_OK;
}

static struct weir_schema *schema_of(const struct weir_decoder *base) {
    return ((const struct json_decoder *)base)->plan.schema;
}

/* --- rejects ------------------------------------------------------------------------------ */

static int reject_unindexed(struct weir_batch_builder *builder, struct weir_reject_batch **rejects,
                            const uint8_t *block, const struct weir_frame *frame,
                            enum weir_json_index_result result) {
    const uint8_t *text = block + frame->start;
    int64_t position = -1;
    const char *reason = "not JSON";
    switch (result) {
    case WEIR_JSON_NOMEM:
        return WEIR_E_NOMEM;
    case WEIR_JSON_EMPTY:
        reason = "expected an object, found nothing";
        break;
    case WEIR_JSON_UTF8:
        reason = "not valid UTF-8";
        position = json_find_bad_utf8(text, frame->length);
        break;
    case WEIR_JSON_CONTROL:
        reason = "a control character inside a string (write it as \\u00XX)";
        break;
    case WEIR_JSON_UNCLOSED:
        reason = "the text ends inside a string";
        break;
    default:
        break;
    }
    return decode_reject(builder, rejects, block, frame, "", reason, position);
}

/* --- rows --------------------------------------------------------------------------------- */

/* One frame whose structural positions begin at r->next, relative to `block`. Leaves r->next behind
 * the frame's last. */
static int decode_frame(struct json_decoder *decoder, const uint8_t *block,
                        const struct weir_frame *frame, const uint8_t *base,
                        const uint32_t *positions_end, struct weir_batch_builder *builder,
                        struct weir_reject_batch **rejects) {
    struct json_reader *r = &decoder->plan.reader;
    const uint32_t *first = r->next;
    uint32_t start = (uint32_t)(block + frame->start - base);
    uint32_t end = start + frame->length;
    int rc = json_read_row(r, &decoder->plan.record, builder->columns);
    if (rc == WEIR_OK && __builtin_expect(r->next[-1] >= end, 0)) {
        rc = json_fail(r, end, "the text ends too early"); /* it read on into the next line */
    }
    if (rc == WEIR_OK && __builtin_expect(*r->next < end, 0)) {
        rc = json_fail(r, *r->next, "more text after the object");
    }
    if (__builtin_expect(rc == WEIR_OK, 1)) {
        rc = decode_finish_row(builder, decoder->plan.record.count, frame->offset, &r->rescued);
    }
    if (rc == WEIR_OK) {
        return WEIR_OK;
    }
    weir_batch_builder_undo_row(builder);
    if (rc == WEIR_E_DATA) {
        bool early = r->error_at >= end;
        rc = decode_reject(builder, rejects, block, frame, r->path,
                           early ? "the text ends too early" : r->reason,
                           early ? frame->length : r->error_at - start);
    }
    r->next = first;
    while (r->next < positions_end && *r->next < end) {
        r->next++;
    }
    return rc;
}

/* Decodes frames[0..count) as one indexed block; *done frames were taken. *broken: the block cannot
 * be indexed whole. */
static int decode_block(struct json_decoder *decoder, const uint8_t *block,
                        const struct weir_frame *frames, int32_t count,
                        struct weir_batch_builder *builder, struct weir_reject_batch **rejects,
                        size_t *bytes, int32_t *done, enum weir_json_index_result *result) {
    const uint8_t *base = block + frames[0].start;
    size_t length = frames[count - 1].start + frames[count - 1].length - frames[0].start;
    uint32_t *positions;
    uint32_t position_count;
    *done = 0;
    *result = weir_json_index_run(decoder->index, base, length, &positions, &position_count);
    if (*result != WEIR_JSON_INDEXED) {
        return WEIR_OK;
    }
    struct json_reader *r = &decoder->plan.reader;
    r->block = base;
    r->next = positions;
    for (int32_t i = 0; i < count && !decode_is_full(builder, *bytes); i++) {
        int rc = decode_frame(decoder, block, &frames[i], base, positions + position_count, builder,
                              rejects);
        if (rc != WEIR_OK) {
            return rc;
        }
        *bytes += frames[i].length;
        (*done)++;
    }
    return WEIR_OK;
}

static int decode(struct weir_decoder *base, const uint8_t *block, const struct weir_frame *frames,
                  int32_t count, struct weir_batch_builder *builder,
                  struct weir_reject_batch **rejects, int32_t *consumed) {
    struct json_decoder *decoder = (struct json_decoder *)base;
    int32_t at = 0;
    int32_t alone_until = 0; /* frames before this one are indexed one by one */
    size_t bytes = 0;
    int rc = WEIR_OK;
    while (rc == WEIR_OK && at < count && !decode_is_full(builder, bytes)) {
        int32_t last = at + 1;
        while (at >= alone_until && last < count &&
               frames[last].start + frames[last].length - frames[at].start <= INDEX_BYTES) {
            last++;
        }
        int32_t done;
        enum weir_json_index_result result;
        rc = decode_block(decoder, block, frames + at, last - at, builder, rejects, &bytes, &done,
                          &result);
        if (rc == WEIR_OK && result != WEIR_JSON_INDEXED) {
            if (last - at > 1) {
                alone_until = last;
                continue;
            }
            rc = reject_unindexed(builder, rejects, block, &frames[at], result);
            done = rc == WEIR_OK ? 1 : 0;
        }
        at += done;
    }
    *consumed = at;
    return rc;
}

static const struct weir_option options[] = {
    {.name = "schema",
     .form = WEIR_OPTION_FILE,
     .required = true,
     .example = "\"schemas/pos_sale.avsc\""},
    {0},
};

const struct weir_decoder_vtable weir_decoder_json = {
    .name = "json",
    .options = options,
    .create = create,
    .schema = schema_of,
    .decode = decode,
    .destroy = destroy,
    .projects = true,
};
