/* The parts of a line the schema does not name: checked as strictly as the rest (grammar, escapes,
 * numbers, keys twice) and kept verbatim in `_rescued`. Also what both halves need: strings as
 * views, and errors. */
#include <stdarg.h>
#include <stdio.h>

#include "decode/decoder.h"
#include "decode/json/json_number.h"
#include "decode/json/json_read.h"
#include "decode/json/json_text.h"

int json_fail(struct json_reader *r, uint32_t at, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(r->reason, sizeof(r->reason), format, args);
    va_end(args);
    r->path[0] = '\0';
    r->error_at = at;
    return WEIR_E_DATA;
}

const char *json_excerpt(const struct json_reader *r, uint32_t at, char out[64]) {
    const uint8_t *p = r->block + at;
    int length = 0;
    bool string = *p == '"';
    while (length < 40 && p[length] >= 0x20 &&
           (string || (p[length] != ',' && p[length] != '}' && p[length] != ']'))) {
        if (string && length > 0 && p[length] == '"' && p[length - 1] != '\\') {
            length++;
            break;
        }
        length++;
    }
    bool cut = length == 40;
    while (cut && length > 0 && (p[length] & 0xc0) == 0x80) {
        length--; /* not inside a character */
    }
    snprintf(out, 64, "%.*s%s", length, (const char *)p, cut ? "…" : "");
    return out;
}

uint32_t json_string_end(const struct json_reader *r, uint32_t at) {
    const uint8_t *p = r->block + at + 1;
    while (*p != '"') {
        p += *p == '\\' ? 2 : 1;
    }
    return (uint32_t)(p - r->block);
}

int json_string_view(struct json_reader *r, uint32_t at, const uint8_t **text, size_t *length) {
    const uint8_t *p = r->block + at + 1;
    const uint8_t *begin = p;
    while (*p != '"' && *p != '\\') {
        p++;
    }
    if (*p == '"') {
        *text = begin;
        *length = (size_t)(p - begin);
        return WEIR_OK;
    }
    size_t raw = json_string_end(r, at) - at - 1;
    weir_buffer_clear(&r->scratch);
    int rc = weir_buffer_reserve(&r->scratch, raw + WEIR_DECODE_PADDING);
    if (rc != WEIR_OK) {
        return rc;
    }
    size_t bad = 0;
    int64_t size = json_unescape(begin, raw, r->scratch.data, &bad);
    if (size < 0) {
        return json_fail(r, at + 1 + (uint32_t)bad, "bad escape in a string");
    }
    r->scratch.data[size] = '"';
    *text = r->scratch.data;
    *length = (size_t)size;
    return WEIR_OK;
}

static int skip_key(struct json_reader *r, uint32_t at, uint32_t object) {
    const uint8_t *key;
    size_t length;
    bool twice = false;
    int rc = json_string_view(r, at, &key, &length);
    if (rc == WEIR_OK) {
        rc = json_keys_add(&r->keys, object, key, length, &twice);
    }
    if (rc == WEIR_OK && twice) {
        char excerpt[64];
        return json_fail(r, at, "the key %s comes twice", json_excerpt(r, at, excerpt));
    }
    return rc;
}

static int skip_container(struct json_reader *r, bool object, uint32_t *end) {
    if (++r->depth > JSON_DEPTH_MAX) {
        return json_fail(r, r->next[-1], "nested deeper than %d levels", JSON_DEPTH_MAX);
    }
    uint8_t close = object ? '}' : ']';
    uint32_t id = object ? ++r->objects : 0;
    uint32_t at = *r->next;
    if (r->block[at] == close) {
        r->next++;
    } else {
        for (;;) {
            int rc = WEIR_OK;
            if (object) {
                at = *r->next++;
                if (r->block[at] != '"') {
                    return json_fail(r, at, "expected a key");
                }
                rc = skip_key(r, at, id);
                if (rc == WEIR_OK && r->block[*r->next++] != ':') {
                    return json_fail(r, r->next[-1], "expected a colon after the key");
                }
            }
            if (rc == WEIR_OK) {
                rc = json_skip_value(r, end);
            }
            if (rc != WEIR_OK) {
                return rc;
            }
            at = *r->next++;
            if (r->block[at] == close) {
                break;
            }
            if (r->block[at] != ',') {
                return json_fail(r, at, "expected a comma or %c", close);
            }
        }
    }
    *end = at + 1;
    r->depth--;
    return WEIR_OK;
}

static bool is_literal(const uint8_t *p, const char *word, size_t length) {
    return memcmp(p, word, length) == 0 && json_number_ends[p[length]] && p[length] != '"';
}

int json_skip_value(struct json_reader *r, uint32_t *end) {
    uint32_t at = *r->next++;
    const uint8_t *p = r->block + at;
    switch (*p) {
    case '{':
    case '[':
        return skip_container(r, *p == '{', end);
    case '"': {
        const uint8_t *text;
        size_t length;
        int rc = json_string_view(r, at, &text, &length);
        *end = rc == WEIR_OK ? json_string_end(r, at) + 1 : at;
        return rc;
    }
    case 't':
        *end = at + 4;
        return is_literal(p, "true", 4) ? WEIR_OK : json_fail(r, at, "expected a value");
    case 'n':
        *end = at + 4;
        return is_literal(p, "null", 4) ? WEIR_OK : json_fail(r, at, "expected a value");
    case 'f':
        *end = at + 5;
        return is_literal(p, "false", 5) ? WEIR_OK : json_fail(r, at, "expected a value");
    default: {
        struct json_number n;
        if (!json_number_read(p, &n) || *n.end == '"') {
            return json_fail(r, at, "expected a value");
        }
        *end = (uint32_t)(n.end - r->block);
        return WEIR_OK;
    }
    }
}

/* --- _rescued ----------------------------------------------------------------------------- */

static int append_escaped(struct weir_buffer *out, const char *text, size_t length) {
    static const char hex[] = "0123456789abcdef";
    int rc = WEIR_OK;
    for (size_t i = 0; rc == WEIR_OK && i < length; i++) {
        uint8_t c = (uint8_t)text[i];
        char escaped[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
        if (c < 0x20) {
            rc = weir_buffer_append(out, escaped, 6);
        } else if (c == '"' || c == '\\') {
            escaped[1] = (char)c;
            rc = weir_buffer_append(out, escaped, 2);
        } else {
            rc = weir_buffer_append(out, &c, 1);
        }
    }
    return rc;
}

int json_put_path(struct weir_buffer *out, const struct json_scope *scope) {
    if (scope == NULL) {
        return WEIR_OK;
    }
    int rc = json_put_path(out, scope->parent);
    if (rc == WEIR_OK && scope->name == NULL) {
        out->size -= out->size > 0 && out->data[out->size - 1] == '.';
        rc = weir_buffer_printf(out, "[%lld].", (long long)scope->index);
    } else if (rc == WEIR_OK) {
        rc = append_escaped(out, scope->name, scope->name_length);
        if (rc == WEIR_OK) {
            rc = weir_buffer_append(out, ".", 1);
        }
    }
    return rc;
}

int json_rescue(struct json_reader *r, uint32_t at, uint32_t object,
                const struct json_scope *scope) {
    uint32_t end;
    int rc = skip_key(r, at, object);
    if (rc == WEIR_OK && r->block[*r->next++] != ':') {
        return json_fail(r, r->next[-1], "expected a colon after the key");
    }
    uint32_t value_at = *r->next;
    if (rc == WEIR_OK) {
        rc = json_skip_value(r, &end);
    }
    struct weir_buffer *out = &r->rescued;
    if (rc == WEIR_OK) {
        rc = weir_buffer_append_text(out, out->size == 0 ? "{\"" : ",\"");
    }
    if (rc == WEIR_OK) {
        rc = json_put_path(out, scope);
    }
    if (rc == WEIR_OK) {
        rc = weir_buffer_append(out, r->block + at + 1, json_string_end(r, at) - at);
    }
    if (rc == WEIR_OK) {
        rc = weir_buffer_append(out, ":", 1);
    }
    if (rc == WEIR_OK) {
        rc = weir_buffer_append(out, r->block + value_at, end - value_at);
    }
    return rc;
}
