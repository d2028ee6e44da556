/* The JSON decoder: lines → rows. Lines are indexed by the block (a few dozen at a time, so that
 * text, index and columns stay in cache); when a block has a line that simdjson cannot index, its
 * lines are indexed one by one, so that only the bad ones are rejected. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decode/avsc.h"
#include "decode/decoder.h"
#include "decode/json_index.h"
#include "decode/json_read.h"
#include "decode/json_text.h"

enum { INDEX_BYTES = 32 * 1024, REASON_BYTES = 1024, TYPE_BYTES_MAX = 16 << 20 };

struct json_decoder {
    struct weir_decoder head;
    struct weir_json_index *index;
    struct json_record record;
    struct json_reader reader;
    struct weir_schema *schema;
    struct weir_avsc avsc; /* zero without a schema file */
};

static void destroy(struct weir_decoder *base) {
    struct json_decoder *decoder = (struct json_decoder *)base;
    weir_json_index_destroy(decoder->index);
    json_record_fini(&decoder->record);
    json_reader_fini(&decoder->reader);
    weir_avsc_fini(&decoder->avsc);
    weir_schema_unref(decoder->schema);
    free(decoder);
}

/* {"schema": "path"}: loads it into decoder->avsc. */
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
            rc = weir_avsc_load(json_string_value(value), &decoder->avsc, err);
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

/* Reads every default once, so that one that does not fit its type is found at start. */
static int check_defaults(struct json_decoder *decoder, struct weir_error *err) {
    struct weir_pool *pool = weir_pool_create(64 << 20);
    struct weir_batch_builder builder;
    memset(&builder, 0, sizeof(builder));
    int rc = pool == NULL
                 ? weir_error_set(err, WEIR_E_NOMEM, "json decoder: out of memory")
                 : weir_batch_builder_init(&builder, pool, decoder->schema, 1, 1 << 20, err);
    if (rc == WEIR_OK) {
        rc = weir_batch_builder_begin(&builder);
        for (int32_t i = 0; rc == WEIR_OK && i < decoder->record.count; i++) {
            struct json_field *f = &decoder->record.fields[i];
            if (f->default_.text != NULL) {
                rc = json_read_default(&decoder->reader, f, &builder.columns[i]);
            }
            if (rc == WEIR_E_DATA) {
                rc =
                    weir_error_set(err, WEIR_E_SCHEMA, "field \"%s\": its default does not fit: %s",
                                   f->field->name, decoder->reader.reason);
            }
        }
        weir_batch_builder_fini(&builder);
    }
    weir_pool_destroy(pool);
    return rc;
}

/* Do both say the same columns? Type texts, as a plan has them, do not tell which nested fields
 * may be null. */
static bool same_columns(const struct weir_schema *a, const struct weir_schema *b) {
    struct weir_buffer left;
    struct weir_buffer right;
    weir_buffer_init(&left, TYPE_BYTES_MAX);
    weir_buffer_init(&right, TYPE_BYTES_MAX);
    bool same = a->count == b->count;
    for (int32_t i = 0; same && i < a->count; i++) {
        const struct weir_field *x = &a->fields[i];
        const struct weir_field *y = &b->fields[i];
        weir_buffer_clear(&left);
        weir_buffer_clear(&right);
        same = strcmp(x->name, y->name) == 0 && x->nullable == y->nullable &&
               weir_field_format_type(x, &left) == WEIR_OK &&
               weir_field_format_type(y, &right) == WEIR_OK && left.size == right.size &&
               memcmp(left.data, right.data, left.size) == 0;
    }
    weir_buffer_fini(&left);
    weir_buffer_fini(&right);
    return same;
}

static int create(struct weir_decoder **out, const char *options_json, struct weir_schema *schema,
                  struct weir_error *err) {
    struct json_decoder *decoder = calloc(1, sizeof(*decoder));
    if (decoder == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "json decoder: out of memory");
    }
    json_reader_init(&decoder->reader);
    int rc = read_options(decoder, options_json, err);
    if (rc == WEIR_OK && decoder->avsc.schema == NULL && schema == NULL) {
        rc = weir_error_set(err, WEIR_E_CONFIG,
                            "json needs a schema; write json { schema = \"schemas/x.avsc\" }");
    }
    if (rc == WEIR_OK && decoder->avsc.schema != NULL && schema != NULL &&
        !same_columns(decoder->avsc.schema, schema)) {
        rc = weir_error_set(err, WEIR_E_SCHEMA,
                            "json: the schema file is no longer the one the rules were checked "
                            "against; run `weir check` again");
    }
    if (rc == WEIR_OK) {
        /* The file's own schema carries what column types do not: symbols, epoch units. */
        decoder->schema =
            weir_schema_ref(decoder->avsc.schema != NULL ? decoder->avsc.schema : schema);
        rc = weir_decode_check_schema(decoder->schema, err);
    }
    if (rc == WEIR_OK) {
        decoder->index = weir_json_index_create();
        rc = decoder->index == NULL
                 ? weir_error_set(err, WEIR_E_NOMEM, "json decoder: out of memory")
                 : json_record_init(&decoder->record, decoder->schema->fields, decoder->avsc.hints,
                                    decoder->schema->count, err);
    }
    if (rc == WEIR_OK) {
        rc = check_defaults(decoder, err);
    }
    if (rc != WEIR_OK) {
        destroy(&decoder->head);
        return rc;
    }
    *out = &decoder->head;
    return WEIR_OK;
}

static struct weir_schema *schema_of(const struct weir_decoder *base) {
    return ((const struct json_decoder *)base)->schema;
}

/* --- rejects ------------------------------------------------------------------------------ */

static int reject(struct weir_batch_builder *builder, struct weir_reject_batch **rejects,
                  const uint8_t *block, const struct weir_frame *frame, const char *field,
                  const char *reason, int64_t position) {
    if (*rejects == NULL) {
        *rejects = weir_reject_batch_create(builder->pool);
        if (*rejects == NULL) {
            return WEIR_E_LIMIT;
        }
    }
    char text[REASON_BYTES];
    int used = snprintf(text, sizeof(text), "%s", reason);
    if (position >= 0 && used > 0 && (size_t)used < sizeof(text)) {
        snprintf(text + used, sizeof(text) - (size_t)used, ", at byte %lld", (long long)position);
    }
    return weir_reject_batch_add(*rejects, builder->rows, frame->offset, block + frame->start,
                                 frame->length, text, field, (int32_t)position);
}

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
    return reject(builder, rejects, block, frame, "", reason, position);
}

/* --- rows --------------------------------------------------------------------------------- */

static void undo_row(struct weir_batch_builder *builder) {
    for (int32_t i = 0; i < builder->column_count; i++) {
        json_truncate_column(&builder->columns[i], builder->rows);
    }
}

static int finish_row(struct json_reader *r, struct weir_batch_builder *builder, int32_t user,
                      int64_t offset) {
    struct weir_column_builder *meta = builder->columns + user;
    int64_t row = builder->rows;
    ((int64_t *)meta[WEIR_META_OFFSET].values)[row] = offset;
    meta[WEIR_META_OFFSET].length = row + 1;
    int rc = r->rescued.size == 0
                 ? weir_builder_null(&meta[WEIR_META_RESCUED])
                 : weir_builder_bytes(&meta[WEIR_META_RESCUED], r->rescued.data, r->rescued.size);
    if (rc == WEIR_OK) {
        builder->rows++;
    }
    return rc;
}

/* One frame whose structural positions begin at r->next, relative to `block`. Leaves r->next behind
 * the frame's last. */
static int decode_frame(struct json_decoder *decoder, const uint8_t *block,
                        const struct weir_frame *frame, const uint8_t *base,
                        const uint32_t *positions_end, struct weir_batch_builder *builder,
                        struct weir_reject_batch **rejects) {
    struct json_reader *r = &decoder->reader;
    const uint32_t *first = r->next;
    uint32_t start = (uint32_t)(block + frame->start - base);
    uint32_t end = start + frame->length;
    int rc = json_read_row(r, &decoder->record, builder->columns);
    if (rc == WEIR_OK && __builtin_expect(r->next[-1] >= end, 0)) {
        rc = json_fail(r, end, "the text ends too early"); /* it read on into the next line */
    }
    if (rc == WEIR_OK && __builtin_expect(*r->next < end, 0)) {
        rc = json_fail(r, *r->next, "more text after the object");
    }
    if (__builtin_expect(rc == WEIR_OK, 1)) {
        rc = finish_row(r, builder, decoder->record.count, frame->offset);
    }
    if (rc == WEIR_OK) {
        return WEIR_OK;
    }
    undo_row(builder);
    if (rc == WEIR_E_DATA) {
        bool early = r->error_at >= end;
        rc = reject(builder, rejects, block, frame, r->path,
                    early ? "the text ends too early" : r->reason,
                    early ? frame->length : r->error_at - start);
    }
    r->next = first;
    while (r->next < positions_end && *r->next < end) {
        r->next++;
    }
    return rc;
}

/* Bytes of the frames decoded so far count against the batch, so that long lines give short ones.
 */
static bool is_full(const struct weir_batch_builder *builder, size_t bytes) {
    return builder->rows >= builder->rows_max || bytes >= builder->bytes_max;
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
    struct json_reader *r = &decoder->reader;
    r->block = base;
    r->next = positions;
    for (int32_t i = 0; i < count && !is_full(builder, *bytes); i++) {
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
    while (rc == WEIR_OK && at < count && !is_full(builder, bytes)) {
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
};
