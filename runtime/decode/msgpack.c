/* The msgpack decoder: frames are maps by field name or arrays by position, read straight into the
 * columns by the schema's types. In a file frames follow each other, or each has its length before
 * it (four bytes, big-endian). */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decode/json/json_number.h"
#include "decode/json/json_put.h"
#include "decode/json/json_text.h"
#include "decode/msgpack_read.h"
#include "decode/row.h"
#include "decode/text_value.h"

enum { TIMESTAMP_EXTENSION = -1, PREFIX_BYTES = 4 };

#define EXACT_IN_DOUBLE (INT64_C(1) << 53)

struct msgpack {
    struct weir_decoder head;
    struct decode_plan plan;
    struct msgpack_reader in; /* the frame at hand */
    bool has_lengths;
};

static int put(struct msgpack *m, struct json_field *f, struct weir_column_builder *b);

/* --- life --------------------------------------------------------------------------------- */

static void destroy(struct weir_decoder *base) {
    struct msgpack *m = (struct msgpack *)base;
    decode_plan_fini(&m->plan);
    free(m);
}

static int read_options(struct msgpack *m, const char *options_json, struct weir_error *err) {
    json_t *options = json_loads(options_json != NULL ? options_json : "{}", 0, NULL);
    int rc = WEIR_OK;
    const char *path = json_string_value(json_object_get(options, "schema"));
    const char *frames = json_string_value(json_object_get(options, "frames"));
    if (path != NULL) {
        rc = decode_plan_load(&m->plan, path, err);
    }
    m->has_lengths = frames != NULL && strcmp(frames, "length") == 0;
    json_decref(options);
    return rc;
}

static int create(struct weir_decoder **out, const char *options_json, struct weir_schema *schema,
                  struct weir_error *err) {
    struct msgpack *m = calloc(1, sizeof(*m));
    if (m == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "msgpack decoder: out of memory");
    }
    int rc = read_options(m, options_json, err);
    if (rc == WEIR_OK) {
        rc = decode_plan_settle(&m->plan, "msgpack", schema, -1, err);
    }
    if (rc != WEIR_OK) {
        destroy(&m->head);
        return rc;
    }
    *out = &m->head;
    return WEIR_OK;
}

static struct weir_schema *schema_of(const struct weir_decoder *base) {
    return ((const struct msgpack *)base)->plan.schema;
}

/* --- values ------------------------------------------------------------------------------- */

static const char *kind_text(enum msgpack_kind kind) {
    static const char *const texts[] = {"a cut item", "the byte c1", "nil",          "a boolean",
                                        "an integer", "an integer",  "a float",      "a double",
                                        "a string",   "binary",      "an extension", "an array",
                                        "a map"};
    return texts[kind];
}

static uint32_t here(const struct msgpack *m) {
    return (uint32_t)(m->in.p - m->in.begin);
}

static __attribute__((cold)) int fail_type(struct msgpack *m, const struct json_field *f,
                                           const struct msgpack_item *item) {
    struct json_reader *r = &m->plan.reader;
    if (item->kind == MSGPACK_END) {
        return json_fail(r, here(m), "the frame ends too early");
    }
    if (item->kind == MSGPACK_BAD) {
        return json_fail(r, here(m), "the byte c1, which is not MessagePack");
    }
    if (item->kind == MSGPACK_NIL) {
        return json_fail(r, here(m), "nil, but the field is not nullable");
    }
    struct weir_buffer type;
    weir_buffer_init(&type, 4096);
    const char *name =
        weir_field_format_type(f->field, &type) == WEIR_OK ? weir_buffer_text(&type) : NULL;
    name = name != NULL ? name : weir_type_name(f->field->type);
    if (item->kind == MSGPACK_INT) {
        json_fail(r, here(m), "%lld is not %s", (long long)item->integer, name);
    } else if (item->kind == MSGPACK_UINT) {
        json_fail(r, here(m), "%llu is not %s", (unsigned long long)item->integer, name);
    } else {
        json_fail(r, here(m), "%s is not %s", kind_text(item->kind), name);
    }
    weir_buffer_fini(&type);
    return WEIR_E_DATA;
}

static int put_whole(struct msgpack *m, struct json_field *f, struct weir_column_builder *b,
                     const struct msgpack_item *item, int64_t low, int64_t high, int32_t width) {
    if (item->kind != MSGPACK_INT || item->integer < low || item->integer > high) {
        return fail_type(m, f, item);
    }
    return json_put_int(b, item->integer, width);
}

static int put_text(struct msgpack *m, struct json_field *f, struct weir_column_builder *b,
                    const struct msgpack_item *item) {
    return json_find_bad_utf8(item->bytes, item->length) >= 0
               ? json_fail(&m->plan.reader, here(m), "not valid UTF-8")
               : text_value_put(&m->plan.reader, f, b, item->bytes, item->length);
}

static int put_decimal(struct msgpack *m, struct json_field *f, struct weir_column_builder *b,
                       const struct msgpack_item *item) {
    if (item->kind == MSGPACK_STRING) {
        return put_text(m, f, b, item);
    }
    bool negative = item->kind == MSGPACK_INT && item->integer < 0;
    struct json_number n = {
        .mantissa = negative ? 0 - (uint64_t)item->integer : (uint64_t)item->integer,
        .negative = negative,
    };
    unsigned __int128 value;
    if ((item->kind != MSGPACK_INT && item->kind != MSGPACK_UINT) ||
        !json_number_decimal(&n, f->field->precision, f->field->scale, &value)) {
        return fail_type(m, f, item);
    }
    return weir_builder_decimal(b, (uint64_t)value, (int64_t)(value >> 64));
}

static int put_real(struct msgpack *m, struct json_field *f, struct weir_column_builder *b,
                    const struct msgpack_item *item) {
    double value = item->number;
    if (item->kind == MSGPACK_INT && item->integer >= -EXACT_IN_DOUBLE &&
        item->integer <= EXACT_IN_DOUBLE) {
        value = (double)item->integer;
    } else if (item->kind != MSGPACK_FLOAT && item->kind != MSGPACK_DOUBLE) {
        return fail_type(m, f, item);
    }
    if (b->type == WEIR_TYPE_DOUBLE) {
        return weir_builder_double(b, value);
    }
    float narrow = (float)value;
    if (isinf(narrow) && !isinf(value)) {
        return json_fail(&m->plan.reader, here(m), "%.17g is out of the range of float", value);
    }
    return weir_builder_float(b, narrow);
}

static int put_bytes(struct msgpack *m, struct json_field *f, struct weir_column_builder *b,
                     const struct msgpack_item *item) {
    if (item->kind != MSGPACK_BINARY && item->kind != MSGPACK_STRING) {
        return fail_type(m, f, item);
    }
    if (f->hint->fixed_bytes > 0 && item->length != (uint32_t)f->hint->fixed_bytes) {
        return json_fail(&m->plan.reader, here(m), "%u bytes where the schema fixes %d",
                         item->length, f->hint->fixed_bytes);
    }
    return weir_builder_bytes(b, item->bytes, item->length);
}

/* The timestamp extension: seconds in 4 bytes; 30 bits of nanoseconds and 34 of seconds in 8; 4 and
 * 8 bytes in 12. */
static bool read_time(const struct msgpack_item *item, int64_t *seconds, uint32_t *nanos) {
    uint64_t words[2] = {0, 0};
    uint32_t first = item->length == 12 ? 4 : item->length;
    for (uint32_t i = 0; i < item->length && i < 12; i++) {
        words[i >= first] = words[i >= first] << 8 | item->bytes[i];
    }
    *nanos = 0;
    switch (item->length) {
    case 4:
        *seconds = (int64_t)words[0];
        break;
    case 8:
        *nanos = (uint32_t)(words[0] >> 34);
        *seconds = (int64_t)(words[0] & ((UINT64_C(1) << 34) - 1));
        break;
    case 12:
        *nanos = (uint32_t)words[0];
        *seconds = (int64_t)words[1];
        break;
    default:
        return false;
    }
    return *nanos < 1000000000;
}

static int put_timestamp(struct msgpack *m, struct json_field *f, struct weir_column_builder *b,
                         const struct msgpack_item *item) {
    int64_t value;
    if (item->kind == MSGPACK_STRING) {
        return put_text(m, f, b, item);
    }
    if (item->kind == MSGPACK_INT) {
        if (__builtin_mul_overflow(item->integer, f->epoch_factor, &value)) {
            return fail_type(m, f, item);
        }
        return json_put_int(b, value, 8);
    }
    int64_t seconds;
    uint32_t nanos;
    uint32_t unit = (uint32_t)(1000000000 / f->per_second);
    if (item->kind != MSGPACK_EXTENSION || item->extension != TIMESTAMP_EXTENSION ||
        !read_time(item, &seconds, &nanos)) {
        return fail_type(m, f, item);
    }
    if (nanos % unit != 0) {
        return json_fail(&m->plan.reader, here(m), "the timestamp %s",
                         json_time_error_text(JSON_TIME_TOO_PRECISE));
    }
    __int128 exact = (__int128)seconds * f->per_second + nanos / unit;
    if (exact < INT64_MIN || exact > INT64_MAX) {
        return json_fail(&m->plan.reader, here(m), "the timestamp %s",
                         json_time_error_text(JSON_TIME_RANGE));
    }
    return json_put_int(b, (int64_t)exact, 8);
}

/* --- nested ------------------------------------------------------------------------------- */

static int enter(struct msgpack *m) {
    struct json_reader *r = &m->plan.reader;
    return ++r->depth > JSON_DEPTH_MAX
               ? json_fail(r, here(m), "nested deeper than %d levels", JSON_DEPTH_MAX)
               : WEIR_OK;
}

static int put_list(struct msgpack *m, struct json_field *f, struct weir_column_builder *b,
                    uint32_t count) {
    int rc = enter(m);
    for (uint32_t i = 0; rc == WEIR_OK && i < count; i++) {
        rc = put(m, &f->children[0], &b->children[0]);
        if (rc != WEIR_OK) {
            return json_fail_within(&m->plan.reader, rc, NULL, 0, i);
        }
    }
    m->plan.reader.depth--;
    return rc == WEIR_OK ? weir_builder_list(b) : rc;
}

/* A key is a text that comes once in its map. */
static int check_key(struct msgpack *m, uint32_t object, const struct msgpack_item *key) {
    struct json_reader *r = &m->plan.reader;
    bool twice = false;
    if (key->kind == MSGPACK_END) {
        return json_fail(r, here(m), "the frame ends too early");
    }
    if (key->kind != MSGPACK_STRING || json_find_bad_utf8(key->bytes, key->length) >= 0) {
        return json_fail(r, here(m), "%s as a key; a key is a text", kind_text(key->kind));
    }
    int rc = json_keys_add(&r->keys, object, key->bytes, key->length, &twice);
    return rc == WEIR_OK && twice
               ? json_fail(r, here(m), "the key \"%.*s\" comes twice",
                           (int)(key->length < 40 ? key->length : 40), (const char *)key->bytes)
               : rc;
}

static int read_key(struct msgpack *m, uint32_t object, struct msgpack_item *key) {
    msgpack_next(&m->in, key);
    return check_key(m, object, key);
}

static int put_map(struct msgpack *m, struct json_field *f, struct weir_column_builder *b,
                   uint32_t count) {
    uint32_t object = ++m->plan.reader.objects;
    int rc = enter(m);
    for (uint32_t i = 0; rc == WEIR_OK && i < count; i++) {
        struct msgpack_item key;
        rc = read_key(m, object, &key);
        if (rc != WEIR_OK) { /* it may be no text to name a place by */
            return json_fail_within(&m->plan.reader, rc, NULL, 0, i);
        }
        rc = weir_builder_bytes(&b->children[0], key.bytes, key.length);
        rc = rc == WEIR_OK ? put(m, &f->children[1], &b->children[1]) : rc;
        if (rc != WEIR_OK) {
            return json_fail_within(&m->plan.reader, rc, (const char *)key.bytes, key.length, 0);
        }
    }
    m->plan.reader.depth--;
    return rc == WEIR_OK ? weir_builder_list(b) : rc;
}

/* What no column is for, as JSON text: bytes and extensions as "<N bytes>". */
static int rescue_value(struct msgpack *m, struct weir_buffer *out) {
    struct msgpack_item item;
    msgpack_next(&m->in, &item);
    int rc = WEIR_OK;
    switch (item.kind) {
    case MSGPACK_END:
    case MSGPACK_BAD:
        return json_fail(&m->plan.reader, here(m), "the frame ends too early");
    case MSGPACK_NIL:
        return weir_buffer_append_text(out, "null");
    case MSGPACK_BOOL:
        return weir_buffer_append_text(out, item.truth ? "true" : "false");
    case MSGPACK_INT:
        return weir_buffer_printf(out, "%lld", (long long)item.integer);
    case MSGPACK_UINT:
        return weir_buffer_printf(out, "%llu", (unsigned long long)item.integer);
    case MSGPACK_FLOAT:
    case MSGPACK_DOUBLE:
        return isfinite(item.number) ? weir_buffer_printf(out, "%.17g", item.number)
                                     : weir_buffer_printf(out, "\"%s\"",
                                                          isnan(item.number) ? "NaN"
                                                          : item.number > 0  ? "Infinity"
                                                                             : "-Infinity");
    case MSGPACK_STRING:
        return json_find_bad_utf8(item.bytes, item.length) >= 0
                   ? json_fail(&m->plan.reader, here(m), "not valid UTF-8")
                   : weir_buffer_append_json(out, (const char *)item.bytes, item.length);
    case MSGPACK_BINARY:
    case MSGPACK_EXTENSION:
        return weir_buffer_printf(out, "\"<%u bytes>\"", item.length);
    case MSGPACK_ARRAY:
    case MSGPACK_MAP:
        break;
    }
    bool is_map = item.kind == MSGPACK_MAP;
    uint32_t object = ++m->plan.reader.objects;
    rc = enter(m);
    rc = rc == WEIR_OK ? weir_buffer_append_text(out, is_map ? "{" : "[") : rc;
    for (uint32_t i = 0; rc == WEIR_OK && i < item.count; i++) {
        struct msgpack_item key;
        rc = i > 0 ? weir_buffer_append_text(out, ",") : WEIR_OK;
        if (rc == WEIR_OK && is_map) {
            rc = read_key(m, object, &key);
            rc = rc == WEIR_OK ? weir_buffer_append_json(out, (const char *)key.bytes, key.length)
                               : rc;
            rc = rc == WEIR_OK ? weir_buffer_append_text(out, ":") : rc;
        }
        rc = rc == WEIR_OK ? rescue_value(m, out) : rc;
    }
    m->plan.reader.depth--;
    return rc == WEIR_OK ? weir_buffer_append_text(out, is_map ? "}" : "]") : rc;
}

static int rescue(struct msgpack *m, const struct msgpack_item *key) {
    struct weir_buffer *out = &m->plan.reader.rescued;
    int rc = weir_buffer_append(out, out->size == 0 ? "{" : ",", 1);
    rc = rc == WEIR_OK ? weir_buffer_append_json(out, (const char *)key->bytes, key->length) : rc;
    rc = rc == WEIR_OK ? weir_buffer_append(out, ":", 1) : rc;
    return rc == WEIR_OK ? rescue_value(m, out) : rc;
}

static int put_absent(struct msgpack *m, struct json_field *f, struct weir_column_builder *b) {
    if (f->default_.text != NULL) {
        return json_read_default(&m->plan.reader, f, b);
    }
    if (f->field->nullable) {
        return weir_builder_null(b);
    }
    json_fail(&m->plan.reader, here(m), "missing field");
    return json_fail_within(&m->plan.reader, WEIR_E_DATA, f->field->name, strlen(f->field->name),
                            0);
}

static int put_fields(struct msgpack *m, struct json_record *record,
                      struct weir_column_builder *columns, uint32_t count) {
    uint32_t object = ++m->plan.reader.objects;
    memset(record->seen, 0, (size_t)record->words * sizeof(uint64_t));
    int32_t guess = 0;
    for (uint32_t n = 0; n < count; n++) {
        struct msgpack_item key;
        msgpack_next(&m->in, &key);
        int32_t i = -1;
        if (key.kind == MSGPACK_STRING && guess < record->count &&
            record->fields[guess].match_length == key.length + 1 &&
            memcmp(record->fields[guess].field->name, key.bytes, key.length) == 0) {
            i = guess;
        } else if (key.kind == MSGPACK_STRING) {
            i = json_record_meant(record, key.bytes, key.length);
        }
        int rc = WEIR_OK;
        if (i < 0) {
            rc = check_key(m, object, &key);
            rc = rc == WEIR_OK ? rescue(m, &key) : rc;
            if (rc != WEIR_OK) {
                return rc;
            }
            continue;
        }
        struct json_field *f = &record->fields[i];
        uint64_t bit = 1ull << (i & 63);
        if ((record->seen[i >> 6] & bit) != 0) {
            return json_fail(&m->plan.reader, here(m), "the key \"%s\" comes twice",
                             f->field->name);
        }
        record->seen[i >> 6] |= bit;
        guess = i + 1;
        rc = put(m, f, &columns[i]);
        if (rc != WEIR_OK) {
            return json_fail_within(&m->plan.reader, rc, f->field->name, strlen(f->field->name), 0);
        }
    }
    for (int32_t i = 0; i < record->count; i++) {
        if ((record->seen[i >> 6] >> (i & 63) & 1) == 0) {
            int rc = put_absent(m, &record->fields[i], &columns[i]);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
    }
    return WEIR_OK;
}

/* Fields by position; those at the end may be absent. */
static int put_places(struct msgpack *m, struct json_record *record,
                      struct weir_column_builder *columns, uint32_t count) {
    if (count > (uint32_t)record->count) {
        return json_fail(&m->plan.reader, here(m), "%u items where there are %d fields", count,
                         record->count);
    }
    for (int32_t i = 0; i < record->count; i++) {
        struct json_field *f = &record->fields[i];
        bool is_there = (uint32_t)i < count;
        int rc = is_there ? put(m, f, &columns[i]) : put_absent(m, f, &columns[i]);
        if (rc != WEIR_OK) {
            return is_there ? json_fail_within(&m->plan.reader, rc, f->field->name,
                                               strlen(f->field->name), 0)
                            : rc;
        }
    }
    return WEIR_OK;
}

static int put_record(struct msgpack *m, struct json_record *record,
                      struct weir_column_builder *columns, const struct msgpack_item *item) {
    return item->kind == MSGPACK_MAP ? put_fields(m, record, columns, item->count)
                                     : put_places(m, record, columns, item->count);
}

static int put_nested(struct msgpack *m, struct json_field *f, struct weir_column_builder *b,
                      const struct msgpack_item *item) {
    bool is_array = item->kind == MSGPACK_ARRAY;
    bool is_map = item->kind == MSGPACK_MAP;
    if (b->type == WEIR_TYPE_LIST && is_array) {
        return put_list(m, f, b, item->count);
    }
    if (b->type == WEIR_TYPE_MAP && is_map) {
        return put_map(m, f, b, item->count);
    }
    if (b->type != WEIR_TYPE_STRUCT || !(is_array || is_map)) {
        return fail_type(m, f, item);
    }
    int rc = enter(m);
    rc = rc == WEIR_OK ? put_record(m, f->record, b->children, item) : rc;
    m->plan.reader.depth--;
    return rc == WEIR_OK ? weir_builder_struct(b) : rc;
}

static int put(struct msgpack *m, struct json_field *f, struct weir_column_builder *b) {
    struct msgpack_item item;
    msgpack_next(&m->in, &item);
    if (item.kind == MSGPACK_NIL && f->field->nullable) {
        return weir_builder_null(b);
    }
    switch (b->type) {
    case WEIR_TYPE_INT8:
        return put_whole(m, f, b, &item, INT8_MIN, INT8_MAX, 1);
    case WEIR_TYPE_INT16:
        return put_whole(m, f, b, &item, INT16_MIN, INT16_MAX, 2);
    case WEIR_TYPE_INT32:
        return put_whole(m, f, b, &item, INT32_MIN, INT32_MAX, 4);
    case WEIR_TYPE_INT64:
        return put_whole(m, f, b, &item, INT64_MIN, INT64_MAX, 8);
    case WEIR_TYPE_DATE:
        return item.kind == MSGPACK_STRING ? put_text(m, f, b, &item)
                                           : put_whole(m, f, b, &item, INT32_MIN, INT32_MAX, 4);
    case WEIR_TYPE_BOOL:
        return item.kind == MSGPACK_BOOL ? weir_builder_bool(b, item.truth)
                                         : fail_type(m, f, &item);
    case WEIR_TYPE_FLOAT:
    case WEIR_TYPE_DOUBLE:
        return put_real(m, f, b, &item);
    case WEIR_TYPE_DECIMAL:
        return put_decimal(m, f, b, &item);
    case WEIR_TYPE_STRING:
        return item.kind == MSGPACK_STRING ? put_text(m, f, b, &item) : fail_type(m, f, &item);
    case WEIR_TYPE_BINARY:
        return put_bytes(m, f, b, &item);
    case WEIR_TYPE_TIMESTAMP:
    case WEIR_TYPE_TIMESTAMP_NTZ:
    case WEIR_TYPE_TIMESTAMP_NS:
    case WEIR_TYPE_TIMESTAMP_NS_NTZ:
        return put_timestamp(m, f, b, &item);
    default:
        return put_nested(m, f, b, &item);
    }
}

/* --- frames ------------------------------------------------------------------------------- */

static int read_frame(struct msgpack *m, const uint8_t *bytes, uint32_t length,
                      struct weir_column_builder *columns) {
    struct json_reader *r = &m->plan.reader;
    m->in = (struct msgpack_reader){.begin = bytes, .p = bytes, .end = bytes + length};
    r->depth = 1;
    r->objects = 0;
    r->path[0] = '\0';
    json_keys_clear(&r->keys);
    weir_buffer_clear(&r->rescued);
    struct msgpack_item item;
    msgpack_next(&m->in, &item);
    if (item.kind != MSGPACK_MAP && item.kind != MSGPACK_ARRAY) {
        return json_fail(r, 0, "expected a map or an array, found %s", kind_text(item.kind));
    }
    int rc = put_record(m, &m->plan.record, columns, &item);
    if (rc == WEIR_OK && m->in.p != m->in.end) {
        rc = json_fail(r, here(m), "more bytes after the row");
    }
    return rc == WEIR_OK && r->rescued.size > 0 ? weir_buffer_append(&r->rescued, "}", 1) : rc;
}

static int read_one(void *decoder, const uint8_t *block, struct weir_frame *frame,
                    struct weir_batch_builder *builder, struct decode_fault *fault) {
    struct msgpack *m = decoder;
    struct json_reader *r = &m->plan.reader;
    int rc = read_frame(m, block + frame->start, frame->length, builder->columns);
    if (rc == WEIR_E_DATA) {
        *fault = (struct decode_fault){r->path, r->reason, r->error_at};
    }
    return rc == WEIR_OK
               ? decode_finish_row(builder, m->plan.record.count, frame->offset, &r->rescued)
               : rc;
}

static int decode(struct weir_decoder *base, const uint8_t *block, const struct weir_frame *frames,
                  int32_t count, struct weir_batch_builder *builder,
                  struct weir_reject_batch **rejects, int32_t *consumed) {
    return decode_frames(base, read_one, block, frames, count, builder, rejects, consumed);
}

/* Bytes of the frame at `at`, with what comes before it in *prefix; 0: it is not whole. */
static size_t frame_length(const struct msgpack *m, const struct weir_split *work, size_t at,
                           size_t *prefix, bool *bad) {
    const uint8_t *p = work->bytes + at;
    size_t left = work->size - at;
    *prefix = m->has_lengths ? PREFIX_BYTES : 0;
    *bad = false;
    if (m->has_lengths) {
        if (left < PREFIX_BYTES) {
            return 0;
        }
        size_t length = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];
        *bad = length > WEIR_SPLIT_BYTES_MAX || length == 0;
        return *bad || left - PREFIX_BYTES < length ? 0 : length;
    }
    struct msgpack_reader r = {.begin = p, .p = p, .end = p + left};
    enum msgpack_kind kind = msgpack_skip(&r);
    *bad = kind == MSGPACK_BAD || (kind == MSGPACK_END && left > WEIR_SPLIT_BYTES_MAX);
    return kind == MSGPACK_NIL ? (size_t)(r.p - p) : 0;
}

static int split(struct weir_decoder *base, struct weir_split *work, struct weir_error *err) {
    const struct msgpack *m = (const struct msgpack *)base;
    size_t at = 0;
    bool bad = false;
    work->count = 0;
    while (work->count < work->max && at < work->size) {
        size_t prefix;
        size_t length = frame_length(m, work, at, &prefix, &bad);
        if (length == 0) {
            break;
        }
        work->frames[work->count++] = (struct weir_frame){
            .start = (uint32_t)(at + prefix),
            .length = (uint32_t)length,
            .offset = (int64_t)(work->offset + at),
        };
        at += prefix + length;
    }
    work->used = at;
    if (work->count == 0 && at < work->size && (bad || work->last)) {
        return weir_error_set(err, WEIR_E_CORRUPT,
                              bad ? "byte %llu begins no frame of at most %d bytes; what follows "
                                    "cannot be read: is it msgpack { frames = … } of this kind?"
                                  : "the file ends inside the frame at byte %llu (frames have at "
                                    "most %d bytes); replace it with a whole copy",
                              (unsigned long long)work->offset, WEIR_SPLIT_BYTES_MAX);
    }
    return WEIR_OK;
}

static size_t cut(struct weir_decoder *base, const uint8_t *bytes, size_t size) {
    struct msgpack_reader r = {.begin = bytes, .p = bytes, .end = bytes + size};
    (void)base;
    return msgpack_skip(&r) == MSGPACK_NIL ? (size_t)(r.p - bytes) : 0;
}

static const char *const frame_choices[] = {"joined", "length", NULL};

static const struct weir_option options[] = {
    {.name = "schema",
     .form = WEIR_OPTION_FILE,
     .required = true,
     .example = "\"schemas/reading.avsc\""},
    {.name = "frames", .form = WEIR_OPTION_TEXT, .example = "\"length\"", .choices = frame_choices},
    {0},
};

const struct weir_decoder_vtable weir_decoder_msgpack = {
    .name = "msgpack",
    .options = options,
    .create = create,
    .schema = schema_of,
    .decode = decode,
    .destroy = destroy,
    .split = split,
    .cut = cut,
    .is_binary = true,
};
