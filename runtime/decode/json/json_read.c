/* The walk: simdjson has found every structural byte of the block and checked UTF-8, control
 * characters and quotes; what is left is to check the grammar between them and to convert. Keys are
 * guessed (the one that followed last time) and compared a word at a time; fixed-width values are
 * stored by pointer.
 *
 * Nothing here looks for the line's end: the byte after a frame matches no token, positions past
 * the last frame are a sentinel, and the caller rejects an object that ends past its frame. */
#include "decode/json/json_read.h"

#include <stdio.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "decode/decoder.h"
#include "decode/json/json_fast.h"
#include "decode/json/json_number.h"
#include "decode/json/json_put.h"
#include "decode/json/json_text.h"

void json_reader_init(struct json_reader *r) {
    memset(r, 0, sizeof(*r));
    json_keys_init(&r->keys);
    weir_buffer_init(&r->scratch, WEIR_DECODE_FRAME_BYTES_MAX + 2 * WEIR_DECODE_PADDING);
    weir_buffer_init(&r->rescued, 2 * (size_t)WEIR_DECODE_FRAME_BYTES_MAX);
}

void json_reader_fini(struct json_reader *r) {
    json_keys_fini(&r->keys);
    weir_buffer_fini(&r->scratch);
    weir_buffer_fini(&r->rescued);
}

/* --- failing ------------------------------------------------------------------------------ */

static const char *type_text(const struct json_field *f, char out[96]) {
    struct weir_buffer text;
    weir_buffer_init(&text, 4096);
    const char *name = NULL;
    if (!weir_type_is_nested(f->field->type) &&
        weir_field_format_type(f->field, &text) == WEIR_OK) {
        name = weir_buffer_text(&text);
    }
    snprintf(out, 96, "%s", name != NULL ? name : weir_type_name(f->field->type));
    weir_buffer_fini(&text);
    return out;
}

/* Cold: says what is wrong with a value that does not fit its type. */
static __attribute__((noinline, cold)) int fail_type(struct json_reader *r,
                                                     const struct json_field *f, uint32_t at) {
    char excerpt[64];
    char type[96];
    uint8_t c = r->block[at];
    if (c == 'n' && memcmp(r->block + at, "null", 4) == 0) {
        return json_fail(r, at, "null, but the field is not nullable");
    }
    if (c == '{' || c == '[') {
        return json_fail(r, at, "%s is not %s", c == '{' ? "an object" : "an array",
                         type_text(f, type));
    }
    if (c != '"' && c != '-' && !json_is_digit(c) && c != 't' && c != 'f') {
        return json_fail(r, at, c < 0x20 ? "the text ends too early" : "expected a value");
    }
    return json_fail(r, at, "%s is not %s", json_excerpt(r, at, excerpt), type_text(f, type));
}

/* Cold: puts "name." or "[i]" before the path of an error raised inside. */
__attribute__((noinline, cold)) int json_fail_within(struct json_reader *r, int rc,
                                                     const char *name, size_t name_length,
                                                     int64_t index) {
    if (rc == WEIR_E_DATA) {
        char inner[JSON_PATH_BYTES / 2]; /* the outer names matter more than the innermost */
        snprintf(inner, sizeof(inner), "%.*s", (int)sizeof(inner) - 1, r->path);
        const char *dot = inner[0] == '\0' || inner[0] == '[' ? "" : ".";
        if (name != NULL) {
            snprintf(r->path, sizeof(r->path), "%.*s%s%s",
                     (int)(name_length < 100 ? name_length : 100), name, dot, inner);
        } else {
            snprintf(r->path, sizeof(r->path), "[%lld]%s%s", (long long)index, dot, inner);
        }
    }
    return rc;
}

/* --- columns ------------------------------------------------------------------------------ */

/* --- strings ------------------------------------------------------------------------------ */

/* Copies from p to `to` up to the closing quote or the first backslash; returns that byte's
 * address. May write 31 bytes past it. */
static inline const uint8_t *copy_plain(const uint8_t *p, uint8_t *to) {
#ifdef __SSE2__
    const __m128i quote = _mm_set1_epi8('"');
    const __m128i slash = _mm_set1_epi8('\\');
    for (;;) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)p);
        _mm_storeu_si128((__m128i *)(void *)to, bytes);
        unsigned mask = (unsigned)_mm_movemask_epi8(
            _mm_or_si128(_mm_cmpeq_epi8(bytes, quote), _mm_cmpeq_epi8(bytes, slash)));
        if (mask != 0) {
            return p + __builtin_ctz(mask);
        }
        p += 16;
        to += 16;
    }
#else
    while (*p != '"' && *p != '\\') {
        *to++ = *p++;
    }
    return p;
#endif
}

static int fail_enum(struct json_reader *r, uint32_t at) {
    char excerpt[64];
    return json_fail(r, at, "%s is not a symbol of the enum", json_excerpt(r, at, excerpt));
}

static int check_symbol(struct json_reader *r, const struct json_field *f, uint32_t at,
                        const uint8_t *text, size_t length) {
    for (int32_t i = 0; i < f->hint->symbol_count; i++) {
        const char *symbol = f->hint->symbols[i];
        if (strlen(symbol) == length && memcmp(symbol, text, length) == 0) {
            return WEIR_OK;
        }
    }
    return fail_enum(r, at);
}

/* Appends the string opening at `at`. */
static inline int put_string(struct json_reader *r, uint32_t at, struct weir_column_builder *b,
                             size_t *length) {
    const uint8_t *begin = r->block + at + 1;
    size_t room = *r->next - at + 2 * 16; /* the string ends before the next structural byte */
    int rc = json_reserve_bytes(b, room);
    if (UNLIKELY(rc != WEIR_OK)) {
        return rc;
    }
    uint8_t *to = (uint8_t *)b->values + b->bytes_size;
#if JSON_FAST
    if (LIKELY(json_fast_string(begin, r->block + *r->next, to, length))) {
        return json_finish_bytes(b, *length);
    }
#endif
    const uint8_t *end = copy_plain(begin, to);
    *length = (size_t)(end - begin);
    if (UNLIKELY(*end == '\\')) {
        size_t raw = json_string_end(r, at) - at - 1;
        size_t bad = 0;
        int64_t size = json_unescape(begin, raw, to, &bad);
        if (size < 0) {
            return json_fail(r, at + 1 + (uint32_t)bad, "bad escape in a string");
        }
        *length = (size_t)size;
    }
    return json_finish_bytes(b, *length);
}

static int read_string(struct json_reader *r, struct json_field *f, uint32_t at,
                       struct weir_column_builder *b) {
    if (UNLIKELY(r->block[at] != '"')) {
        return fail_type(r, f, at);
    }
    size_t length = 0;
    int rc = put_string(r, at, b, &length);
    if (rc == WEIR_OK && UNLIKELY(f->hint->symbol_count > 0)) {
        rc = check_symbol(r, f, at, (uint8_t *)b->values + b->bytes_size - length, length);
    }
    return rc;
}

static int read_binary(struct json_reader *r, struct json_field *f, uint32_t at,
                       struct weir_column_builder *b) {
    const uint8_t *text;
    size_t length;
    if (r->block[at] != '"') {
        return fail_type(r, f, at);
    }
    int rc = json_string_view(r, at, &text, &length);
    if (rc == WEIR_OK) {
        rc = json_reserve_bytes(b, length + WEIR_DECODE_PADDING);
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    int64_t size = json_base64(text, length, (uint8_t *)b->values + b->bytes_size);
    if (size < 0) {
        char excerpt[64];
        return json_fail(r, at, "%s is not base64", json_excerpt(r, at, excerpt));
    }
    if (f->hint->fixed_bytes > 0 && size != f->hint->fixed_bytes) {
        return json_fail(r, at, "%lld bytes where the schema fixes %d", (long long)size,
                         f->hint->fixed_bytes);
    }
    return json_finish_bytes(b, (size_t)size);
}

/* --- numbers ------------------------------------------------------------------------------ */

/* The number at `at`; its first structural byte has been taken. */
static inline bool number_at(const struct json_reader *r, uint32_t at, struct json_number *n) {
    const uint8_t *p = r->block + at;
#if JSON_FAST
    const uint8_t *end = r->block + *r->next;
    struct json_fast_number fast;
    if (LIKELY(json_fast_number(p, end, &fast))) {
        n->mantissa = fast.digits;
        n->exponent = -(int32_t)fast.fraction;
        n->negative = fast.negative;
        n->wide = false;
        n->begin = p;
        n->end = end;
        return true;
    }
#endif
    return json_number_read(p, n) && *n->end != '"';
}

static int number_in_string(struct json_reader *r, const struct json_field *f, uint32_t at,
                            struct json_number *n) {
    const uint8_t *text;
    size_t length;
    int rc = json_string_view(r, at, &text, &length);
    if (rc == WEIR_OK && (!json_number_read(text, n) || n->end != text + length)) {
        rc = fail_type(r, f, at);
    }
    return rc;
}

static inline int read_int(struct json_reader *r, struct json_field *f, uint32_t at,
                           struct weir_column_builder *b, int64_t low, int64_t high,
                           int32_t width) {
    struct json_number n;
    int64_t value;
    if (UNLIKELY(!number_at(r, at, &n) || !json_number_int64(&n, &value) || value < low ||
                 value > high)) {
        return fail_type(r, f, at);
    }
    return json_put_int(b, value, width);
}

static int read_int64(struct json_reader *r, struct json_field *f, uint32_t at,
                      struct weir_column_builder *b) {
    struct json_number n;
    int64_t value;
    if (UNLIKELY(r->block[at] == '"')) {
        int rc = number_in_string(r, f, at, &n);
        if (rc != WEIR_OK) {
            return rc;
        }
        for (const uint8_t *p = n.begin + n.negative; p < n.end; p++) {
            if (!json_is_digit(*p)) { /* digits only: "1e3" is text */
                return fail_type(r, f, at);
            }
        }
        if (!json_number_int64(&n, &value)) {
            return fail_type(r, f, at);
        }
        return json_put_int(b, value, 8);
    }
    return read_int(r, f, at, b, INT64_MIN, INT64_MAX, 8);
}

static inline int read_decimal(struct json_reader *r, struct json_field *f, uint32_t at,
                               struct weir_column_builder *b) {
    struct json_number n;
    unsigned __int128 value;
    if (UNLIKELY(r->block[at] == '"')) {
        int rc = number_in_string(r, f, at, &n);
        if (rc != WEIR_OK) {
            return rc;
        }
    } else if (UNLIKELY(!number_at(r, at, &n))) {
        return fail_type(r, f, at);
    }
    if (UNLIKELY(!json_number_decimal(&n, f->field->precision, f->field->scale, &value))) {
        return fail_type(r, f, at);
    }
    if (UNLIKELY(b->length >= b->capacity_rows)) {
        return weir_builder_decimal(b, (uint64_t)value, (int64_t)(value >> 64));
    }
    ((unsigned __int128 *)b->values)[b->length++] = value;
    return WEIR_OK;
}

static int read_double(struct json_reader *r, struct json_field *f, uint32_t at,
                       struct weir_column_builder *b) {
    struct json_number n;
    double value;
    if (!number_at(r, at, &n) || !json_number_double(&n, &value)) {
        return fail_type(r, f, at);
    }
    return weir_builder_double(b, value);
}

static int read_float(struct json_reader *r, struct json_field *f, uint32_t at,
                      struct weir_column_builder *b) {
    struct json_number n;
    float value;
    if (!number_at(r, at, &n) || !json_number_float(&n, &value)) {
        return fail_type(r, f, at);
    }
    return weir_builder_float(b, value);
}

static int read_bool(struct json_reader *r, struct json_field *f, uint32_t at,
                     struct weir_column_builder *b) {
    const uint8_t *p = r->block + at;
    bool value = *p == 't';
    size_t length = value ? 4 : 5;
    if (memcmp(p, value ? "true" : "false", length) != 0 || !json_number_ends[p[length]] ||
        p[length] == '"') {
        return fail_type(r, f, at);
    }
    return weir_builder_bool(b, value);
}

/* --- times -------------------------------------------------------------------------------- */

static __attribute__((cold)) int fail_time(struct json_reader *r, uint32_t at,
                                           enum json_time_error error) {
    char excerpt[64];
    return json_fail(r, at, "%s %s", json_excerpt(r, at, excerpt), json_time_error_text(error));
}

static int read_timestamp(struct json_reader *r, struct json_field *f, uint32_t at,
                          struct weir_column_builder *b) {
    int64_t value;
    if (r->block[at] == '"') {
        const uint8_t *text;
        size_t length;
        int rc = json_string_view(r, at, &text, &length);
        if (rc != WEIR_OK) {
            return rc;
        }
        bool zoned = b->type == WEIR_TYPE_TIMESTAMP || b->type == WEIR_TYPE_TIMESTAMP_NS;
        enum json_time_error error =
            json_parse_timestamp(text, length, f->per_second, zoned, &value);
        if (UNLIKELY(error != JSON_TIME_OK)) {
            return fail_time(r, at, error);
        }
    } else {
        struct json_number n;
        if (!number_at(r, at, &n) || !json_number_int64(&n, &value) ||
            __builtin_mul_overflow(value, f->epoch_factor, &value)) {
            return fail_type(r, f, at);
        }
    }
    return json_put_int(b, value, 8);
}

static int read_date(struct json_reader *r, struct json_field *f, uint32_t at,
                     struct weir_column_builder *b) {
    if (r->block[at] != '"') {
        return read_int(r, f, at, b, INT32_MIN, INT32_MAX, 4);
    }
    const uint8_t *text;
    size_t length;
    int32_t days;
    int rc = json_string_view(r, at, &text, &length);
    if (rc != WEIR_OK) {
        return rc;
    }
    enum json_time_error error = json_parse_date(text, length, &days);
    return error != JSON_TIME_OK ? fail_time(r, at, error) : json_put_int(b, days, 4);
}

/* --- nested ------------------------------------------------------------------------------- */

static int enter(struct json_reader *r, uint32_t at) {
    if (++r->depth > JSON_DEPTH_MAX) {
        return json_fail(r, at, "nested deeper than %d levels", JSON_DEPTH_MAX);
    }
    return WEIR_OK;
}

static int read_list(struct json_reader *r, struct json_field *f, uint32_t at,
                     struct weir_column_builder *b, const struct json_scope *parent) {
    if (r->block[at] != '[') {
        return fail_type(r, f, at);
    }
    int rc = enter(r, at);
    struct json_scope scope = {.parent = parent};
    if (rc == WEIR_OK && r->block[*r->next] == ']') {
        r->next++;
    } else {
        while (rc == WEIR_OK) {
            rc = json_read_value(r, &f->children[0], &b->children[0], &scope);
            if (rc != WEIR_OK) {
                return json_fail_within(r, rc, NULL, 0, scope.index);
            }
            scope.index++;
            at = *r->next++;
            if (r->block[at] == ']') {
                break;
            }
            if (r->block[at] != ',') {
                return json_fail(r, at, "expected a comma or ]");
            }
        }
    }
    r->depth--;
    return rc == WEIR_OK && !b->unread ? weir_builder_list(b) : rc;
}

static int read_map_entry(struct json_reader *r, struct json_field *f,
                          struct weir_column_builder *b, uint32_t object,
                          const struct json_scope *parent) {
    uint32_t at = *r->next++;
    if (r->block[at] != '"') {
        return json_fail(r, at, "expected a key");
    }
    size_t length = 0;
    struct weir_column_builder *keys = &b->children[0];
    int rc = keys->unread ? weir_builder_scratch(keys) : WEIR_OK;
    rc = rc == WEIR_OK ? put_string(r, at, keys, &length) : rc;
    if (rc != WEIR_OK) {
        return rc;
    }
    const uint8_t *key = (uint8_t *)keys->values + keys->bytes_size - length;
    bool twice;
    rc = json_keys_add(&r->keys, object, key, length, &twice);
    if (rc == WEIR_OK && twice) {
        char excerpt[64];
        return json_fail(r, at, "the key %s comes twice", json_excerpt(r, at, excerpt));
    }
    if (rc == WEIR_OK && r->block[*r->next++] != ':') {
        return json_fail(r, r->next[-1], "expected a colon after the key");
    }
    if (rc == WEIR_OK) {
        struct json_scope scope = {
            .parent = parent, .name = (const char *)key, .name_length = length};
        rc = json_read_value(r, &f->children[1], &b->children[1], &scope);
        if (rc != WEIR_OK) {
            return json_fail_within(r, rc, (const char *)key, length, 0);
        }
    }
    return rc;
}

static int read_map(struct json_reader *r, struct json_field *f, uint32_t at,
                    struct weir_column_builder *b, const struct json_scope *parent) {
    if (r->block[at] != '{') {
        return fail_type(r, f, at);
    }
    int rc = enter(r, at);
    uint32_t object = ++r->objects;
    if (rc == WEIR_OK && r->block[*r->next] == '}') {
        r->next++;
    } else {
        while (rc == WEIR_OK) {
            rc = read_map_entry(r, f, b, object, parent);
            if (rc != WEIR_OK) {
                return rc;
            }
            at = *r->next++;
            if (r->block[at] == '}') {
                break;
            }
            if (r->block[at] != ',') {
                return json_fail(r, at, "expected a comma or }");
            }
        }
    }
    r->depth--;
    return rc == WEIR_OK && !b->unread ? weir_builder_list(b) : rc;
}

static inline bool key_matches(const uint8_t *p, const struct json_field *f) {
#if JSON_FAST
    if (LIKELY(f->match_length < JSON_FAST_BYTES)) {
        return json_fast_equal(p, f->match, f->match_length);
    }
#endif
    return memcmp(p, f->match, f->match_length) == 0;
}

/* Field of the key opening at `at`: the guess, its neighbours, then the name table. -1: unknown. */
static inline int find_field(struct json_reader *r, struct json_record *record, int32_t previous,
                             uint32_t at, int32_t *found) {
    const uint8_t *p = r->block + at + 1;
    int32_t guess = record->after[previous + 1];
    if (LIKELY(guess < record->count) && LIKELY(key_matches(p, &record->fields[guess]))) {
        *found = guess;
        return WEIR_OK;
    }
    const uint8_t *key;
    size_t length;
    int rc = json_string_view(r, at, &key, &length);
    if (rc != WEIR_OK) {
        return rc;
    }
    *found = json_record_meant(record, key, length);
    if (*found >= 0) {
        record->after[previous + 1] = (uint16_t)*found;
    }
    return WEIR_OK;
}

int json_read_default(struct json_reader *r, struct json_field *f, struct weir_column_builder *b) {
    const uint8_t *block = r->block;
    const uint32_t *next = r->next;
    r->block = f->default_.text;
    r->next = f->default_.positions;
    int rc = json_read_value(r, f, b, NULL);
    r->block = block;
    r->next = next;
    return rc;
}

static int read_absent(struct json_reader *r, struct json_field *f, struct weir_column_builder *b,
                       uint32_t at) {
    if (b->unread && (f->default_.text != NULL || f->field->nullable)) {
        return WEIR_OK; /* the default was looked at when the plan was made */
    }
    if (f->default_.text != NULL) {
        return json_read_default(r, f, b);
    }
    if (f->field->nullable) {
        return weir_builder_null(b);
    }
    json_fail(r, at, "missing field");
    return json_fail_within(r, WEIR_E_DATA, f->field->name, strlen(f->field->name), 0);
}

/* The rest of an object of which `done` has been read; one value to each column. */
static int read_rest(struct json_reader *r, struct json_record *record,
                     struct weir_column_builder *columns, const struct json_scope *parent,
                     const struct json_progress *done) {
    uint32_t object = ++r->objects;
    int32_t previous = done->previous;
    int32_t found = done->found;
    uint32_t at = done->closed ? r->next[-1] : *r->next++;
    if (!done->closed && (found > 0 || r->block[at] != '}')) {
        for (;;) {
            if (UNLIKELY(r->block[at] != '"')) {
                return json_fail(r, at, "expected a key");
            }
            int32_t i;
            int rc = find_field(r, record, previous, at, &i);
            if (UNLIKELY(rc != WEIR_OK)) {
                return rc;
            }
            if (LIKELY(i >= 0)) {
                uint64_t bit = 1ull << (i & 63);
                struct json_field *f = &record->fields[i];
                if (UNLIKELY((record->seen[i >> 6] & bit) != 0)) {
                    return json_fail(r, at, "the key \"%s\" comes twice", f->field->name);
                }
                record->seen[i >> 6] |= bit;
                found++;
                previous = i;
                uint32_t colon = *r->next++;
                if (UNLIKELY(r->block[colon] != ':')) {
                    return json_fail(r, colon, "expected a colon after the key");
                }
                rc = json_read_value(r, f, &columns[i], parent);
                if (UNLIKELY(rc != WEIR_OK)) {
                    return json_fail_within(r, rc, f->field->name, strlen(f->field->name), 0);
                }
            } else {
                rc = json_rescue(r, at, object, parent);
                if (rc != WEIR_OK) {
                    return rc;
                }
            }
            at = *r->next++;
            if (r->block[at] == ',') {
                at = *r->next++;
                continue;
            }
            if (LIKELY(r->block[at] == '}')) {
                break;
            }
            return json_fail(r, at, "expected a comma or }");
        }
    }
    if (found == record->count) {
        return WEIR_OK;
    }
    for (int32_t i = 0; i < record->count; i++) {
        if ((record->seen[i >> 6] >> (i & 63) & 1) == 0) {
            int rc = read_absent(r, &record->fields[i], &columns[i], at);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
    }
    return WEIR_OK;
}

static void clear_seen(struct json_record *record) {
    for (int32_t w = 0; w < record->words; w++) {
        record->seen[w] = 0;
    }
}

/* An object whose brace has been read. */
static int read_object(struct json_reader *r, struct json_record *record,
                       struct weir_column_builder *columns, const struct json_scope *parent) {
    struct json_progress done = {.previous = -1};
    clear_seen(record);
    int rc = json_read_expected(r, record, columns, parent, &done);
    if (rc == WEIR_OK && UNLIKELY(!done.closed || done.found != record->count)) {
        rc = read_rest(r, record, columns, parent, &done);
    }
    return rc;
}

/* Elements of lists and maps have no name of their own: their scope is the index or key. */
static inline const struct json_scope *
scope_of(const struct json_field *f, const struct json_scope *parent, struct json_scope *named) {
    *named = (struct json_scope){
        .parent = parent, .name = f->field->name, .name_length = f->match_length - 1};
    return f->is_element ? parent : named;
}

int json_read_struct(struct json_reader *r, struct json_field *f, uint32_t at,
                     struct weir_column_builder *b, const struct json_scope *parent) {
    struct json_scope named;
    int rc = enter(r, at);
    if (rc == WEIR_OK) {
        rc = read_object(r, f->record, b->children, scope_of(f, parent, &named));
    }
    r->depth--;
    return rc == WEIR_OK && !b->unread ? weir_builder_struct(b) : rc;
}

static int read_nested(struct json_reader *r, struct json_field *f, uint32_t at,
                       struct weir_column_builder *b, const struct json_scope *parent) {
    struct json_scope named;
    const struct json_scope *scope = scope_of(f, parent, &named);
    switch (b->type) {
    case WEIR_TYPE_LIST:
        return read_list(r, f, at, b, scope);
    case WEIR_TYPE_MAP:
        return read_map(r, f, at, b, scope);
    default:
        return r->block[at] == '{' ? json_read_struct(r, f, at, b, parent) : fail_type(r, f, at);
    }
}

int json_read_value(struct json_reader *r, struct json_field *f, struct weir_column_builder *b,
                    const struct json_scope *parent) {
    uint32_t at = *r->next++;
    const uint8_t *p = r->block + at;
    if (*p == 'n' && f->field->nullable && memcmp(p, "null", 4) == 0 && json_number_ends[p[4]] &&
        p[4] != '"') {
        return b->unread ? WEIR_OK : weir_builder_null(b);
    }
    if (UNLIKELY(b->unread) && !weir_type_is_nested(b->type)) {
        int rc = weir_builder_scratch(b);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    switch (b->type) {
    case WEIR_TYPE_STRING:
        return read_string(r, f, at, b);
    case WEIR_TYPE_DECIMAL:
        return read_decimal(r, f, at, b);
    case WEIR_TYPE_INT32:
        return read_int(r, f, at, b, INT32_MIN, INT32_MAX, 4);
    case WEIR_TYPE_INT64:
        return read_int64(r, f, at, b);
    case WEIR_TYPE_TIMESTAMP:
    case WEIR_TYPE_TIMESTAMP_NTZ:
    case WEIR_TYPE_TIMESTAMP_NS:
    case WEIR_TYPE_TIMESTAMP_NS_NTZ:
        return read_timestamp(r, f, at, b);
    case WEIR_TYPE_BOOL:
        return read_bool(r, f, at, b);
    case WEIR_TYPE_DOUBLE:
        return read_double(r, f, at, b);
    case WEIR_TYPE_INT8:
        return read_int(r, f, at, b, INT8_MIN, INT8_MAX, 1);
    case WEIR_TYPE_INT16:
        return read_int(r, f, at, b, INT16_MIN, INT16_MAX, 2);
    case WEIR_TYPE_FLOAT:
        return read_float(r, f, at, b);
    case WEIR_TYPE_BINARY:
        return read_binary(r, f, at, b);
    case WEIR_TYPE_DATE:
        return read_date(r, f, at, b);
    default:
        return read_nested(r, f, at, b, parent);
    }
}

int json_read_row(struct json_reader *r, struct json_record *record,
                  struct weir_column_builder *columns) {
    r->depth = 1;
    r->objects = 0;
    r->path[0] = '\0';
    if (UNLIKELY(r->keys.entries.size > 0)) {
        json_keys_clear(&r->keys);
    }
    weir_buffer_clear(&r->rescued);
    uint32_t at = *r->next++;
    if (r->block[at] != '{') {
        return json_fail(r, at, "expected an object");
    }
    int rc = read_object(r, record, columns, NULL);
    if (rc == WEIR_OK && UNLIKELY(r->rescued.size > 0)) {
        rc = weir_buffer_append(&r->rescued, "}", 1);
    }
    return rc;
}
