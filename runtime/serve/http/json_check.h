#pragma once
/* Is this JSON (RFC 8259, UTF-8), and where do its parts lie? Checked at the door so that a sender
 * hears at once; what the values mean is the decoder's. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_cursor {
    const uint8_t *bytes;
    size_t size;
    size_t at;
    const char *problem; /* a literal; NULL while all is well. `at` is where */
};

enum { JSON_CHECK_DEPTH_MAX = 128 };

void json_check_space(struct json_cursor *cursor);
/* One value from `at` on; false when it is none. */
bool json_check_value(struct json_cursor *cursor);
/* Inside an object, after its brace or a comma: the next member, its value checked. Text lies
 * between the quotes, escapes as written. False at the closing brace (passed over) or a problem. */
struct json_member {
    const uint8_t *name;
    size_t name_size;
    const uint8_t *value;
    size_t value_size;
};
bool json_check_member(struct json_cursor *cursor, bool first, struct json_member *out);
/* Likewise for an array's elements. */
bool json_check_element(struct json_cursor *cursor, bool first, const uint8_t **value,
                        size_t *value_size);
/* Line and column, from 1, of a place. */
void json_check_place(const uint8_t *bytes, size_t at, size_t *line, size_t *column);
