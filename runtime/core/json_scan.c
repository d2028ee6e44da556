#include "core/json_scan.h"

#include <stdbool.h>
#include <stddef.h>

const char *weir_json_value_end(const char *at, const char *end) {
    size_t depth = 0;
    bool quoted = false;
    for (; at < end; at++) {
        char c = *at;
        if (quoted && c == '\\') {
            at += at + 1 < end; /* what is escaped ends nothing */
        } else if (c == '"') {
            quoted = !quoted;
        } else if (quoted) {
            continue;
        } else if (c == '[' || c == '{') {
            depth++;
        } else if (depth == 0 && (c == ',' || c == ']' || c == '}')) {
            break;
        } else if (c == ']' || c == '}') {
            depth--;
        }
    }
    return at;
}
