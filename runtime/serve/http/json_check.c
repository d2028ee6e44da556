#include "serve/http/json_check.h"

#include <string.h>

static bool fail(struct json_cursor *c, const char *problem) {
    if (c->problem == NULL) {
        c->problem = c->at < c->size ? problem : "the text ends too early";
    }
    return false;
}

void json_check_space(struct json_cursor *c) {
    while (c->at < c->size && (c->bytes[c->at] == ' ' || c->bytes[c->at] == '\n' ||
                               c->bytes[c->at] == '\r' || c->bytes[c->at] == '\t')) {
        c->at++;
    }
}

static bool tail(const uint8_t *p, size_t left, size_t count) {
#ifdef WEIR_PLANT_BUG /* tools/fuzz.py proves that the fuzzer would find this */
    left += 2;
#endif
    for (size_t i = 1; i <= count; i++) {
        if (i >= left || (p[i] & 0xc0) != 0x80) {
            return false;
        }
    }
    return true;
}

/* Bytes of the character at p; 0 when it is no UTF-8 (RFC 3629: no overlong forms, no surrogates,
 * nothing above U+10FFFF). */
static size_t character(const uint8_t *p, size_t left) {
    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        return tail(p, left, 1) ? 2 : 0;
    }
    if (p[0] >= 0xe0 && p[0] <= 0xef) {
        bool good =
            tail(p, left, 2) && !(p[0] == 0xe0 && p[1] < 0xa0) && !(p[0] == 0xed && p[1] > 0x9f);
        return good ? 3 : 0;
    }
    if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        bool good =
            tail(p, left, 3) && !(p[0] == 0xf0 && p[1] < 0x90) && !(p[0] == 0xf4 && p[1] > 0x8f);
        return good ? 4 : 0;
    }
    return 0;
}

static bool is_hex(uint8_t c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool escape(struct json_cursor *c) {
    if (c->at + 1 >= c->size) {
        c->at = c->size;
        return fail(c, "");
    }
    uint8_t kind = c->bytes[c->at + 1];
    if (kind != 'u') {
        if (memchr("\"\\/bfnrt", kind, 8) == NULL) {
            return fail(c, "no such escape");
        }
        c->at += 2;
        return true;
    }
    for (size_t i = 2; i < 6; i++) {
        if (c->at + i >= c->size || !is_hex(c->bytes[c->at + i])) {
            return fail(c, "\\u wants four hexadecimal digits");
        }
    }
    c->at += 6;
    return true;
}

static bool string(struct json_cursor *c) {
    if (c->at >= c->size || c->bytes[c->at] != '"') {
        return fail(c, "a text in double quotes was expected");
    }
    c->at++;
    while (c->at < c->size) {
        uint8_t byte = c->bytes[c->at];
        if (byte == '"') {
            c->at++;
            return true;
        }
        if (byte == '\\') {
            if (!escape(c)) {
                return false;
            }
        } else if (byte < 0x20) {
            return fail(c, "a control character inside a text; write it as an escape");
        } else if (byte < 0x80) {
            c->at++;
        } else {
            size_t length = character(c->bytes + c->at, c->size - c->at);
            if (length == 0) {
                return fail(c, "the bytes are not UTF-8");
            }
            c->at += length;
        }
    }
    return fail(c, "");
}

static bool digits(struct json_cursor *c) {
    size_t from = c->at;
    while (c->at < c->size && c->bytes[c->at] >= '0' && c->bytes[c->at] <= '9') {
        c->at++;
    }
    return c->at > from || fail(c, "a digit was expected");
}

static bool number(struct json_cursor *c) {
    c->at += c->bytes[c->at] == '-';
    if (c->at < c->size && c->bytes[c->at] == '0') {
        c->at++;
    } else if (!digits(c)) {
        return false;
    }
    if (c->at < c->size && c->bytes[c->at] == '.') {
        c->at++;
        if (!digits(c)) {
            return false;
        }
    }
    if (c->at < c->size && (c->bytes[c->at] | 0x20) == 'e') {
        c->at++;
        if (c->at < c->size && (c->bytes[c->at] == '+' || c->bytes[c->at] == '-')) {
            c->at++;
        }
        return digits(c);
    }
    return true;
}

static bool word(struct json_cursor *c, const char *text) {
    size_t length = strlen(text);
    if (c->size - c->at < length || memcmp(c->bytes + c->at, text, length) != 0) {
        return fail(c, "this is no JSON value");
    }
    c->at += length;
    return true;
}

static bool scalar(struct json_cursor *c) {
    switch (c->bytes[c->at]) {
    case '"':
        return string(c);
    case 't':
        return word(c, "true");
    case 'f':
        return word(c, "false");
    case 'n':
        return word(c, "null");
    default:
        return c->bytes[c->at] == '-' || (c->bytes[c->at] >= '0' && c->bytes[c->at] <= '9')
                   ? number(c)
                   : fail(c, "this is no JSON value");
    }
}

/* The key and the colon of an object's member. */
static bool key(struct json_cursor *c) {
    if (!string(c)) {
        return false;
    }
    json_check_space(c);
    if (c->at >= c->size || c->bytes[c->at] != ':') {
        return fail(c, "a colon was expected");
    }
    c->at++;
    json_check_space(c);
    return true;
}

/* Behind a value: closes what ends there, or gets to the next value. */
static bool behind(struct json_cursor *c, const uint8_t *closing, int *depth) {
    while (*depth > 0) {
        json_check_space(c);
        uint8_t byte = c->at < c->size ? c->bytes[c->at] : 0;
        if (byte == closing[*depth - 1]) {
            c->at++;
            --*depth;
            continue;
        }
        if (byte != ',') {
            return fail(c, closing[*depth - 1] == '}' ? "a comma or } was expected"
                                                      : "a comma or ] was expected");
        }
        c->at++;
        json_check_space(c);
        return closing[*depth - 1] == ']' || key(c);
    }
    return true;
}

bool json_check_value(struct json_cursor *c) {
    uint8_t closing[JSON_CHECK_DEPTH_MAX];
    int depth = 0;
    do {
        json_check_space(c);
        uint8_t byte = c->at < c->size ? c->bytes[c->at] : 0;
        if (byte == '{' || byte == '[') {
            if (depth == JSON_CHECK_DEPTH_MAX) {
                return fail(c, "nested too deeply (128 levels)");
            }
            closing[depth++] = byte == '{' ? '}' : ']';
            c->at++;
            json_check_space(c);
            if (c->at < c->size && c->bytes[c->at] == closing[depth - 1]) {
                c->at++;
                depth--;
            } else {
                if (byte == '{' && !key(c)) {
                    return false;
                }
                continue;
            }
        } else if (c->at >= c->size || !scalar(c)) {
            return fail(c, "");
        }
        if (!behind(c, closing, &depth)) {
            return false;
        }
    } while (depth > 0);
    return true;
}

/* Before a member or an element: false at the end. */
static bool advance(struct json_cursor *c, bool first, uint8_t closing) {
    json_check_space(c);
    if (c->at < c->size && c->bytes[c->at] == closing) {
        c->at++;
        return false;
    }
    if (!first) {
        if (c->at >= c->size || c->bytes[c->at] != ',') {
            return fail(c,
                        closing == '}' ? "a comma or } was expected" : "a comma or ] was expected");
        }
        c->at++;
        json_check_space(c);
    }
    return true;
}

bool json_check_member(struct json_cursor *c, bool first, struct json_member *out) {
    if (!advance(c, first, '}')) {
        return false;
    }
    out->name = c->bytes + c->at + 1;
    if (!string(c)) {
        return false;
    }
    out->name_size = (size_t)(c->bytes + c->at - out->name) - 1;
    json_check_space(c);
    if (c->at >= c->size || c->bytes[c->at] != ':') {
        return fail(c, "a colon was expected");
    }
    c->at++;
    json_check_space(c);
    out->value = c->bytes + c->at;
    if (!json_check_value(c)) {
        return false;
    }
    out->value_size = (size_t)(c->bytes + c->at - out->value);
    return true;
}

bool json_check_element(struct json_cursor *c, bool first, const uint8_t **value,
                        size_t *value_size) {
    if (!advance(c, first, ']')) {
        return false;
    }
    *value = c->bytes + c->at;
    if (!json_check_value(c)) {
        return false;
    }
    *value_size = (size_t)(c->bytes + c->at - *value);
    return true;
}

void json_check_place(const uint8_t *bytes, size_t at, size_t *line, size_t *column) {
    *line = 1;
    *column = 1;
    for (size_t i = 0; i < at; i++) {
        *column = bytes[i] == '\n' ? 1 : *column + 1;
        *line += bytes[i] == '\n';
    }
}
