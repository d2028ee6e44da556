/* A backtracking matcher for Lua patterns. Each single-character test and each element tried costs
 * a step; when they run out everything unwinds with no match, and the caller says which pattern it
 * was. Recursion happens per pattern element, not per character, and is capped as LuaJIT's is. */
#include "script/pattern.h"

#include <string.h>

static const char *match(struct weir_pattern *m, const char *s, const char *p);

static bool has_stopped(const struct weir_pattern *m) {
    return m->error != NULL || m->steps < 0;
}

static const char *fail(struct weir_pattern *m, const char *error) {
    m->error = error;
    return NULL;
}

/* --- characters: ASCII only, whatever the locale -------------------------------------------- */

static bool is_upper(int c) {
    return c >= 'A' && c <= 'Z';
}

static bool is_alpha(int c) {
    return is_upper(c & ~32) && c < 128;
}

static bool is_digit(int c) {
    return c >= '0' && c <= '9';
}

static bool is_class(int c, int class) {
    bool result;
    switch (class | 32) {
    case 'a':
        result = is_alpha(c);
        break;
    case 'c':
        result = c < 32 || c == 127;
        break;
    case 'd':
        result = is_digit(c);
        break;
    case 'g':
        result = c > 32 && c < 127;
        break;
    case 'l':
        result = c >= 'a' && c <= 'z';
        break;
    case 'p':
        result = c > 32 && c < 127 && !is_alpha(c) && !is_digit(c);
        break;
    case 's':
        result = c == ' ' || (c >= 9 && c <= 13);
        break;
    case 'u':
        result = is_upper(c);
        break;
    case 'w':
        result = is_alpha(c) || is_digit(c);
        break;
    case 'x':
        result = is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
        break;
    case 'z':
        result = c == 0;
        break;
    default:
        return class == c;
    }
    if (!is_alpha(class)) {
        return class == c; /* '!' | 32 and friends */
    }
    return is_upper(class) ? !result : result;
}

/* Past one element's character part: "x", "%d", "[…]". NULL with error set. */
static const char *element_end(struct weir_pattern *m, const char *p) {
    char c = *p++;
    if (c == '%') {
        return p < m->end ? p + 1 : fail(m, "malformed pattern (ends with '%')");
    }
    if (c != '[') {
        return p;
    }
    if (p < m->end && *p == '^') {
        p++;
    }
    do { /* a ']' in first place stands for itself */
        if (p >= m->end) {
            return fail(m, "malformed pattern (missing ']')");
        }
        if (*p++ == '%') {
            if (p >= m->end) {
                return fail(m, "malformed pattern (missing ']')");
            }
            p++;
        }
    } while (p >= m->end || *p != ']');
    return p + 1;
}

/* p at '[', last at its ']'. */
static bool in_set(struct weir_pattern *m, int c, const char *p, const char *last) {
    bool found_means = true;
    if (p[1] == '^') {
        found_means = false;
        p++;
    }
    while (++p < last) {
        m->steps--;
        if (*p == '%') {
            p++;
            if (is_class(c, (uint8_t)*p)) {
                return found_means;
            }
        } else if (p[1] == '-' && p + 2 < last) {
            p += 2;
            if ((uint8_t)p[-2] <= c && c <= (uint8_t)*p) {
                return found_means;
            }
        } else if ((uint8_t)*p == c) {
            return found_means;
        }
    }
    return !found_means;
}

static bool single(struct weir_pattern *m, const char *s, const char *p, const char *end) {
    m->steps--;
    if (s >= m->text_end) {
        return false;
    }
    int c = (uint8_t)*s;
    switch (*p) {
    case '.':
        return true;
    case '%':
        return is_class(c, (uint8_t)p[1]);
    case '[':
        return in_set(m, c, p, end - 1);
    default:
        return (uint8_t)*p == c;
    }
}

/* --- elements ------------------------------------------------------------------------------- */

static const char *match_balance(struct weir_pattern *m, const char *s, const char *p) {
    if (m->end - p < 2) {
        return fail(m, "unbalanced pattern (missing arguments to '%b')");
    }
    if (s >= m->text_end || *s != p[0]) {
        return NULL;
    }
    int open = 1;
    while (++s < m->text_end && m->steps-- >= 0) {
        if (*s == p[1]) {
            if (--open == 0) {
                return s + 1;
            }
        } else if (*s == p[0]) {
            open++;
        }
    }
    return NULL;
}

static const char *match_longest(struct weir_pattern *m, const char *s, const char *p,
                                 const char *end) {
    ptrdiff_t count = 0;
    while (m->steps >= 0 && single(m, s + count, p, end)) {
        count++;
    }
    for (; count >= 0 && !has_stopped(m); count--) {
        const char *result = match(m, s + count, end + 1);
        if (result != NULL) {
            return result;
        }
    }
    return NULL;
}

static const char *match_shortest(struct weir_pattern *m, const char *s, const char *p,
                                  const char *end) {
    while (!has_stopped(m)) {
        const char *result = match(m, s, end + 1);
        if (result != NULL) {
            return result;
        }
        if (has_stopped(m) || !single(m, s, p, end)) {
            return NULL;
        }
        s++;
    }
    return NULL;
}

static const char *open_capture(struct weir_pattern *m, const char *s, const char *p,
                                ptrdiff_t kind) {
    if (m->captures >= WEIR_PATTERN_CAPTURES) {
        return fail(m, "too many captures");
    }
    m->capture[m->captures].start = s;
    m->capture[m->captures].length = kind;
    m->captures++;
    const char *result = match(m, s, p);
    if (result == NULL) {
        m->captures--;
    }
    return result;
}

static const char *close_capture(struct weir_pattern *m, const char *s, const char *p) {
    int i = m->captures - 1;
    while (i >= 0 && m->capture[i].length != WEIR_CAPTURE_OPEN) {
        i--;
    }
    if (i < 0) {
        return fail(m, "invalid pattern capture");
    }
    m->capture[i].length = s - m->capture[i].start;
    const char *result = match(m, s, p);
    if (result == NULL) {
        m->capture[i].length = WEIR_CAPTURE_OPEN;
    }
    return result;
}

/* %1: the text of a closed capture again. Its end in the subject. */
static const char *match_again(struct weir_pattern *m, const char *s, int digit) {
    int i = digit - '1';
    if (i < 0 || i >= m->captures || m->capture[i].length == WEIR_CAPTURE_OPEN) {
        return fail(m, "invalid capture index");
    }
    /* A position capture has no text; LuaJIT takes its length for a huge one, which never fits. */
    size_t length = (size_t)m->capture[i].length;
    if (length > (size_t)(m->text_end - s)) {
        return NULL;
    }
    m->steps -= (int64_t)length;
    return memcmp(m->capture[i].start, s, length) == 0 ? s + length : NULL;
}

/* %f[set]: between a character outside and one inside the set, NUL standing at both ends. */
static bool at_frontier(struct weir_pattern *m, const char *s, const char *p, const char *end) {
    int before = s == m->text ? 0 : (uint8_t)s[-1];
    int after = s < m->text_end ? (uint8_t)*s : 0;
    return !in_set(m, before, p, end - 1) && in_set(m, after, p, end - 1);
}

static const char *match_elements(struct weir_pattern *m, const char *s, const char *p) {
    while (p < m->end) {
        if (has_stopped(m)) {
            return NULL;
        }
        m->steps--;
        switch (*p) {
        case '(':
            if (p + 1 < m->end && p[1] == ')') {
                return open_capture(m, s, p + 2, WEIR_CAPTURE_POSITION);
            }
            return open_capture(m, s, p + 1, WEIR_CAPTURE_OPEN);
        case ')':
            return close_capture(m, s, p + 1);
        case '$':
            if (p + 1 == m->end) {
                return s == m->text_end ? s : NULL;
            }
            break;
        case '%':
            if (p + 1 < m->end && p[1] == 'b') {
                s = match_balance(m, s, p + 2);
                p += 4;
            } else if (p + 1 < m->end && p[1] == 'f') {
                p += 2;
                if (p >= m->end || *p != '[') {
                    return fail(m, "missing '[' after '%f' in pattern");
                }
                const char *end = element_end(m, p);
                if (end == NULL || !at_frontier(m, s, p, end)) {
                    return NULL;
                }
                p = end;
            } else if (p + 1 < m->end && is_digit((uint8_t)p[1])) {
                s = match_again(m, s, p[1]);
                p += 2;
            } else {
                break;
            }
            if (s == NULL) {
                return NULL;
            }
            continue;
        default:
            break;
        }
        const char *end = element_end(m, p);
        if (end == NULL) {
            return NULL;
        }
        switch (end < m->end ? *end : '\0') {
        case '?':
            if (single(m, s, p, end)) {
                const char *result = match(m, s + 1, end + 1);
                if (result != NULL) {
                    return result;
                }
            }
            p = end + 1;
            continue;
        case '*':
            return match_longest(m, s, p, end);
        case '+':
            return single(m, s, p, end) ? match_longest(m, s + 1, p, end) : NULL;
        case '-':
            return match_shortest(m, s, p, end);
        default:
            if (!single(m, s, p, end)) {
                return NULL;
            }
            s++;
            p = end;
        }
    }
    return s;
}

static const char *match(struct weir_pattern *m, const char *s, const char *p) {
    if (m->depth >= WEIR_PATTERN_DEPTH) {
        return fail(m, "pattern too complex");
    }
    m->depth++;
    const char *result = match_elements(m, s, p);
    m->depth--;
    return has_stopped(m) ? NULL : result;
}

const char *weir_pattern_match(struct weir_pattern *m, const char *s, const char *pattern) {
    m->captures = 0;
    m->depth = 0;
    return match(m, s, pattern);
}

bool weir_pattern_is_plain(const char *pattern, size_t length) {
    for (size_t i = 0; i < length; i++) {
        if (pattern[i] != '\0' && strchr("^$*+?.([%-", pattern[i]) != NULL) {
            return false;
        }
    }
    return true;
}
