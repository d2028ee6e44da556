#pragma once
/* Lua patterns, matched in C with a step budget. The meaning is that of LuaJIT's string library (a
 * test compares them); a pattern that backtracks without end stops with an error instead of holding
 * the loop. Pure: no Lua, any thread. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WEIR_PATTERN_CAPTURES 32
#define WEIR_PATTERN_DEPTH 200

enum { WEIR_CAPTURE_OPEN = -1, WEIR_CAPTURE_POSITION = -2 };

struct weir_pattern {
    const char *text; /* the subject */
    const char *text_end;
    const char *end;   /* of the pattern */
    int64_t steps;     /* left; below zero: given up */
    const char *error; /* NULL, or what is wrong with the pattern */
    int depth;
    int captures;
    struct {
        const char *start;
        ptrdiff_t length; /* or enum above */
    } capture[WEIR_PATTERN_CAPTURES];
};

/* Resets captures and matches at `s` exactly. The end of the match, or NULL: no match, or error
 * set, or steps below zero. */
const char *weir_pattern_match(struct weir_pattern *m, const char *s, const char *pattern);
/* True when no character of the pattern is special, so that a plain search will do. */
bool weir_pattern_is_plain(const char *pattern, size_t length);
