/* The lexer of the positioned Lua parser. What is a token, and what a malformed one, follows
 * LuaJIT's lexer, since LuaJIT compiles the same text afterwards (tests/unit/test_lua_parser.c
 * compares verdicts). */
#include "script/lexer.h"

#include <ctype.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define ARENA_BYTES_MAX ((size_t)256 << 20)
#define ARENA_CHUNK_BYTES ((size_t)64 << 10)

struct weir_arena_chunk {
    struct weir_arena_chunk *next;
    size_t used;
    size_t size;
    _Alignas(16) char data[];
};

static const char *const keyword_text[] = {
    "and",      "break",  "do",   "else", "elseif", "end",      "false",  "for",
    "function", "goto",   "if",   "in",   "local",  "nil",      "not",    "or",
    "repeat",   "return", "then", "true", "until",  "while",    "..",     "...",
    "==",       ">=",     "<=",   "~=",   "::",     "<number>", "<name>", "<string>"};

const char *weir_token_text(int kind) {
    static const char single[][2] = {
        "+", "-", "*", "/", "%", "^", "#", "<", ">", "=",
        "(", ")", "{", "}", "[", "]", ";", ":", ",", ".",
    };
    if (kind == TOKEN_EOF) {
        return "<end of file>";
    }
    if (kind >= TOKEN_AND && kind <= TOKEN_STRING) {
        return keyword_text[kind - TOKEN_AND];
    }
    for (size_t i = 0; i < sizeof(single) / sizeof(single[0]); i++) {
        if (single[i][0] == kind) {
            return single[i];
        }
    }
    return "<character>";
}

void weir_lexer_fail(struct weir_lexer *lexer, int code, size_t offset, int32_t line, int32_t col,
                     const char *format, ...) {
    va_list args;
    va_start(args, format);
    lexer->code = code;
    lexer->syntax->offset = offset;
    lexer->syntax->line = line;
    lexer->syntax->column = col;
    vsnprintf(lexer->syntax->message, sizeof(lexer->syntax->message), format, args);
    va_end(args);
    longjmp(lexer->stop, 1);
}

static _Noreturn void fail_here(struct weir_lexer *lexer, size_t offset, const char *message) {
    weir_lexer_fail(lexer, WEIR_E_SYNTAX, offset, lexer->line,
                    (int32_t)(offset - lexer->line_start) + 1, "%s", message);
}

void weir_lexer_unexpected(struct weir_lexer *lexer, const char *message) {
    const struct weir_token_value *t = &lexer->now;
    if (t->kind == TOKEN_EOF) {
        weir_lexer_fail(lexer, WEIR_E_SYNTAX, (size_t)t->first, t->line, t->col,
                        "%s near the end of the file", message);
    }
    int shown = t->last - t->first + 1;
    const char *tail = "";
    for (int i = 0; i < shown; i++) {
        char c = lexer->source[t->first + i];
        if (i == 40 || c == '\n' || c == '\r' || c == '\0') {
            shown = i;
            tail = "…";
        }
    }
    weir_lexer_fail(lexer, WEIR_E_SYNTAX, (size_t)t->first, t->line, t->col, "%s near '%.*s%s'",
                    message, shown, lexer->source + t->first, tail);
}

void *weir_lexer_alloc(struct weir_lexer *lexer, size_t size) {
    struct weir_arena *arena = lexer->arena;
    size = (size + 15) & ~(size_t)15;
    struct weir_arena_chunk *chunk = arena->chunks;
    if (chunk == NULL || chunk->size - chunk->used < size) {
        size_t room = size > ARENA_CHUNK_BYTES ? size : ARENA_CHUNK_BYTES;
        if (arena->bytes + room > arena->limit) {
            weir_lexer_fail(lexer, WEIR_E_LIMIT, lexer->at < lexer->length ? lexer->at : 0,
                            lexer->line, 1, "the file is too large to parse: split it");
        }
        chunk = malloc(sizeof(*chunk) + room);
        if (chunk == NULL) {
            weir_lexer_fail(lexer, WEIR_E_NOMEM, 0, lexer->line, 1, "out of memory");
        }
        chunk->next = arena->chunks;
        chunk->used = 0;
        chunk->size = room;
        arena->chunks = chunk;
        arena->bytes += room;
    }
    void *result = chunk->data + chunk->used;
    chunk->used += size;
    memset(result, 0, size);
    return result;
}

void weir_arena_fini(struct weir_arena *arena) {
    while (arena->chunks != NULL) {
        struct weir_arena_chunk *next = arena->chunks->next;
        free(arena->chunks);
        arena->chunks = next;
    }
}

/* --- names ---------------------------------------------------------------------------------- */

struct weir_lua_name *weir_lexer_intern(struct weir_lexer *lexer, const char *text, size_t length) {
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < length; i++) {
        hash = (hash ^ (uint8_t)text[i]) * 16777619u;
    }
    struct weir_lua_name **slot = &lexer->names[hash & (lexer->name_slots - 1)];
    for (struct weir_lua_name *n = *slot; n != NULL; n = n->next) {
        if (n->hash == hash && n->length == length && memcmp(n->text, text, length) == 0) {
            return n;
        }
    }
    if (lexer->name_count >= lexer->name_slots) {
        size_t slots = lexer->name_slots * 2;
        struct weir_lua_name **table = calloc(slots, sizeof(*table));
        if (table == NULL) {
            weir_lexer_fail(lexer, WEIR_E_NOMEM, 0, lexer->line, 1, "out of memory");
        }
        for (size_t i = 0; i < lexer->name_slots; i++) {
            for (struct weir_lua_name *n = lexer->names[i]; n != NULL;) {
                struct weir_lua_name *next = n->next;
                n->next = table[n->hash & (slots - 1)];
                table[n->hash & (slots - 1)] = n;
                n = next;
            }
        }
        free(lexer->names);
        lexer->names = table;
        lexer->name_slots = slots;
        slot = &table[hash & (slots - 1)];
    }
    struct weir_lua_name *name = weir_lexer_alloc(lexer, sizeof(*name));
    name->text = text; /* the source outlives the AST */
    name->length = length;
    name->hash = hash;
    name->next = *slot;
    *slot = name;
    lexer->name_count++;
    return name;
}

static int keyword(const char *text, size_t length) {
    for (int i = 0; i <= TOKEN_WHILE - TOKEN_AND; i++) {
        if (strlen(keyword_text[i]) == length && memcmp(keyword_text[i], text, length) == 0) {
            return TOKEN_AND + i;
        }
    }
    return TOKEN_NAME;
}

/* --- characters ----------------------------------------------------------------------------- */

static int at(const struct weir_lexer *lexer, size_t offset) {
    return offset < lexer->length ? (uint8_t)lexer->source[offset] : -1;
}

static bool is_name_byte(int c) {
    return c >= 0x80 || c == '_' || (c > 0 && isalnum(c));
}

static int hex_digit(int c) {
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

/* Past one line break of any kind; \r\n and \n\r count as one. */
static void newline(struct weir_lexer *lexer) {
    int old = at(lexer, lexer->at++);
    int c = at(lexer, lexer->at);
    if ((c == '\n' || c == '\r') && c != old) {
        lexer->at++;
    }
    if (lexer->line < INT32_MAX) {
        lexer->line++;
    }
    lexer->line_start = lexer->at;
}

static void put(struct weir_lexer *lexer, int c) {
    char byte = (char)c;
    int rc = weir_buffer_append(&lexer->scratch, &byte, 1);
    if (rc != WEIR_OK) {
        weir_lexer_fail(lexer, rc, 0, lexer->line, 1, "out of memory");
    }
}

static void keep_scratch(struct weir_lexer *lexer, struct weir_token_value *token) {
    char *copy = weir_lexer_alloc(lexer, lexer->scratch.size + 1);
    if (lexer->scratch.size > 0) {
        memcpy(copy, lexer->scratch.data, lexer->scratch.size);
    }
    token->text = copy;
    token->length = lexer->scratch.size;
}

/* --- strings -------------------------------------------------------------------------------- */

/* At '[': the level of a long bracket (0 for "[["), or -1 when it is not one, or -2 for "[=". */
static int long_bracket_level(const struct weir_lexer *lexer) {
    size_t i = lexer->at + 1;
    int level = 0;
    while (at(lexer, i) == '=') {
        level++;
        i++;
    }
    if (at(lexer, i) == '[') {
        return level;
    }
    return level == 0 ? -1 : -2;
}

static void read_long(struct weir_lexer *lexer, int level, bool keep, const char *what) {
    size_t start = lexer->at;
    int32_t line = lexer->line;
    int32_t col = (int32_t)(start - lexer->line_start) + 1;
    lexer->at += (size_t)level + 2;
    weir_buffer_clear(&lexer->scratch);
    if (at(lexer, lexer->at) == '\n' || at(lexer, lexer->at) == '\r') {
        newline(lexer);
    }
    for (;;) {
        int c = at(lexer, lexer->at);
        if (c < 0) {
            weir_lexer_fail(lexer, WEIR_E_SYNTAX, start, line, col, "unfinished %s", what);
        } else if (c == ']') {
            size_t i = lexer->at + 1;
            int equals = 0;
            while (at(lexer, i) == '=') {
                equals++;
                i++;
            }
            if (equals == level && at(lexer, i) == ']') {
                lexer->at = i + 1;
                return;
            }
            for (; lexer->at < i; lexer->at++) {
                if (keep) {
                    put(lexer, lexer->source[lexer->at]);
                }
            }
        } else if (c == '\n' || c == '\r') {
            newline(lexer);
            if (keep) {
                put(lexer, '\n');
            }
        } else {
            if (keep) {
                put(lexer, c);
            }
            lexer->at++;
        }
    }
}

static void put_utf8(struct weir_lexer *lexer, uint32_t c) {
    if (c < 0x80) {
        put(lexer, (int)c);
    } else if (c < 0x800) {
        put(lexer, (int)(0xc0 | (c >> 6)));
        put(lexer, (int)(0x80 | (c & 63)));
    } else if (c < 0x10000) {
        put(lexer, (int)(0xe0 | (c >> 12)));
        put(lexer, (int)(0x80 | ((c >> 6) & 63)));
        put(lexer, (int)(0x80 | (c & 63)));
    } else {
        put(lexer, (int)(0xf0 | (c >> 18)));
        put(lexer, (int)(0x80 | ((c >> 12) & 63)));
        put(lexer, (int)(0x80 | ((c >> 6) & 63)));
        put(lexer, (int)(0x80 | (c & 63)));
    }
}

static const char bad_escape[] = "invalid escape sequence: write \\\\ for a backslash";

/* At the character after the backslash. */
static void read_escape(struct weir_lexer *lexer) {
    static const char from[] = "abfnrtv\\\"'";
    static const char to[] = "\a\b\f\n\r\t\v\\\"'";
    size_t start = lexer->at - 1;
    int c = at(lexer, lexer->at);
    const char *simple = c > 0 ? strchr(from, c) : NULL;
    if (simple != NULL) {
        put(lexer, to[simple - from]);
        lexer->at++;
    } else if (c == '\n' || c == '\r') {
        newline(lexer);
        put(lexer, '\n');
    } else if (c == 'x') {
        int high = hex_digit(at(lexer, lexer->at + 1));
        int low = hex_digit(at(lexer, lexer->at + 2));
        if (high < 0 || low < 0) {
            fail_here(lexer, start, bad_escape);
        }
        put(lexer, high * 16 + low);
        lexer->at += 3;
    } else if (c == 'z') {
        lexer->at++;
        for (;;) {
            c = at(lexer, lexer->at);
            if (c == '\n' || c == '\r') {
                newline(lexer);
            } else if (c > 0 && isspace(c)) {
                lexer->at++;
            } else {
                break;
            }
        }
    } else if (c == 'u') {
        uint32_t value = 0;
        lexer->at++;
        if (at(lexer, lexer->at++) != '{' || hex_digit(at(lexer, lexer->at)) < 0) {
            fail_here(lexer, start, bad_escape);
        }
        for (; hex_digit(at(lexer, lexer->at)) >= 0; lexer->at++) {
            value = value * 16 + (uint32_t)hex_digit(at(lexer, lexer->at));
            if (value >= 0x110000) {
                fail_here(lexer, start, bad_escape);
            }
        }
        if (at(lexer, lexer->at++) != '}' || (value >= 0xd800 && value < 0xe000)) {
            fail_here(lexer, start, bad_escape);
        }
        put_utf8(lexer, value);
    } else if (c >= '0' && c <= '9') {
        int value = 0;
        for (int i = 0; i < 3 && at(lexer, lexer->at) >= '0' && at(lexer, lexer->at) <= '9'; i++) {
            value = value * 10 + (at(lexer, lexer->at++) - '0');
        }
        if (value > 255) {
            fail_here(lexer, start, bad_escape);
        }
        put(lexer, value);
    } else {
        fail_here(lexer, start, c < 0 ? "unfinished string" : bad_escape);
    }
}

static void read_string(struct weir_lexer *lexer, int quote) {
    size_t start = lexer->at++;
    int32_t line = lexer->line;
    int32_t col = (int32_t)(start - lexer->line_start) + 1;
    weir_buffer_clear(&lexer->scratch);
    for (;;) {
        int c = at(lexer, lexer->at);
        if (c == quote) {
            lexer->at++;
            return;
        }
        if (c < 0 || c == '\n' || c == '\r') {
            weir_lexer_fail(lexer, WEIR_E_SYNTAX, start, line, col, "unfinished string");
        }
        lexer->at++;
        if (c == '\\') {
            read_escape(lexer);
        } else {
            put(lexer, c);
        }
    }
}

/* --- numbers -------------------------------------------------------------------------------- */

static size_t skip_digits(const char *text, size_t i, int base) {
    while (hex_digit((uint8_t)text[i]) >= 0 && hex_digit((uint8_t)text[i]) < base) {
        i++;
    }
    return i;
}

/* Judges a NUL-terminated candidate; the value goes to token. */
static bool number_value(char *text, struct weir_token_value *token) {
    bool has_hex = text[0] == '0' && (text[1] | 32) == 'x';
    bool binary = text[0] == '0' && (text[1] | 32) == 'b';
    int base = has_hex ? 16 : binary ? 2 : 10;
    size_t start = base == 10 ? 0 : 2;
    size_t i = skip_digits(text, start, base);
    size_t digits = i - start;
    bool whole = true;
    if (text[i] == '.' && !binary) {
        size_t fraction = ++i;
        i = skip_digits(text, i, base);
        digits += i - fraction;
        whole = false;
    }
    if (digits == 0) {
        return false;
    }
    if (!binary && (text[i] | 32) == (has_hex ? 'p' : 'e')) {
        i++;
        if (text[i] == '+' || text[i] == '-') {
            i++;
        }
        size_t exponent = i;
        i = skip_digits(text, i, 10);
        if (i == exponent) {
            return false;
        }
        whole = false;
    }
    char suffix[5] = {0};
    for (size_t k = 0; text[i + k] != '\0'; k++) {
        if (k == 3) {
            return false;
        }
        suffix[k] = (char)(text[i + k] | 32);
    }
    text[i] = '\0';
    if (suffix[0] == '\0') {
        token->suffix = SUFFIX_NONE;
    } else if (strcmp(suffix, "i") == 0) {
        token->suffix = SUFFIX_I;
    } else if (whole && strcmp(suffix, "ll") == 0) {
        token->suffix = SUFFIX_LL;
    } else if (whole && (strcmp(suffix, "ull") == 0 || strcmp(suffix, "llu") == 0)) {
        token->suffix = SUFFIX_ULL;
    } else {
        return false;
    }
    if (binary) {
        token->number = 0;
        for (size_t k = 2; k < i; k++) {
            token->number = token->number * 2 + (text[k] - '0');
        }
    } else {
        token->number = strtod(text, NULL); /* the process never sets a locale */
    }
    return true;
}

static void read_number(struct weir_lexer *lexer, struct weir_token_value *token) {
    size_t start = lexer->at;
    int exponent = 'e';
    if (at(lexer, start) == '0' && (at(lexer, start + 1) | 32) == 'x') {
        exponent = 'p';
    }
    weir_buffer_clear(&lexer->scratch);
    for (;;) {
        int c = at(lexer, lexer->at);
        int before = lexer->at > start ? at(lexer, lexer->at - 1) | 32 : 0;
        if (!is_name_byte(c) && c != '.' && !((c == '+' || c == '-') && before == exponent)) {
            break;
        }
        put(lexer, c);
        lexer->at++;
    }
    put(lexer, '\0');
    if (!number_value((char *)lexer->scratch.data, token)) {
        fail_here(lexer, start, "malformed number");
    }
}

/* --- tokens --------------------------------------------------------------------------------- */

static void skip_comment(struct weir_lexer *lexer) {
    lexer->at += 2;
    if (at(lexer, lexer->at) == '[') {
        int level = long_bracket_level(lexer);
        if (level >= 0) {
            read_long(lexer, level, false, "comment: ]] is missing");
            return;
        }
    }
#ifdef WEIR_PLANT_BUG /* tools/fuzz.py proves that the fuzzer would find this */
    while (lexer->source[lexer->at] != '\n') {
        lexer->at++;
    }
#endif
    while (lexer->at < lexer->length && at(lexer, lexer->at) != '\n' &&
           at(lexer, lexer->at) != '\r') {
        lexer->at++;
    }
}

static void skip_blank(struct weir_lexer *lexer) {
    for (;;) {
        int c = at(lexer, lexer->at);
        if (c == '\n' || c == '\r') {
            newline(lexer);
        } else if (c == ' ' || c == '\t' || c == '\v' || c == '\f') {
            lexer->at++;
        } else if (c == '-' && at(lexer, lexer->at + 1) == '-') {
            skip_comment(lexer);
        } else {
            return;
        }
    }
}

static int symbol(struct weir_lexer *lexer, int c) {
    static const struct {
        char text[4];
        int kind;
    } longer[] = {
        {"...", TOKEN_DOTS}, {"..", TOKEN_CONCAT}, {"==", TOKEN_EQ},    {">=", TOKEN_GE},
        {"<=", TOKEN_LE},    {"~=", TOKEN_NE},     {"::", TOKEN_LABEL},
    };
    for (size_t i = 0; i < sizeof(longer) / sizeof(longer[0]); i++) {
        size_t n = strlen(longer[i].text);
        if (lexer->length - lexer->at >= n &&
            memcmp(lexer->source + lexer->at, longer[i].text, n) == 0) {
            lexer->at += n;
            return longer[i].kind;
        }
    }
    if (c <= ' ' || c > '~') {
        weir_lexer_fail(lexer, WEIR_E_SYNTAX, lexer->at, lexer->line,
                        (int32_t)(lexer->at - lexer->line_start) + 1,
                        "unexpected character (byte 0x%02x)", (unsigned)c);
    }
    lexer->at++;
    return c;
}

static void scan(struct weir_lexer *lexer, struct weir_token_value *token) {
    skip_blank(lexer);
    memset(token, 0, sizeof(*token));
    token->line = lexer->line;
    token->col = (int32_t)(lexer->at - lexer->line_start) + 1;
    token->first = (int32_t)lexer->at;
    int c = at(lexer, lexer->at);
    int next = at(lexer, lexer->at + 1);
    if (c < 0) {
        token->kind = TOKEN_EOF;
    } else if ((c >= '0' && c <= '9') || (c == '.' && next >= '0' && next <= '9')) {
        token->kind = TOKEN_NUMBER;
        read_number(lexer, token);
    } else if (is_name_byte(c)) {
        while (is_name_byte(at(lexer, lexer->at))) {
            lexer->at++;
        }
        size_t length = lexer->at - (size_t)token->first;
        token->kind = keyword(lexer->source + token->first, length);
        if (token->kind == TOKEN_NAME || token->kind == TOKEN_GOTO) {
            token->name = weir_lexer_intern(lexer, lexer->source + token->first, length);
        }
    } else if (c == '"' || c == '\'') {
        token->kind = TOKEN_STRING;
        read_string(lexer, c);
        keep_scratch(lexer, token);
    } else if (c == '[' && long_bracket_level(lexer) >= 0) {
        token->kind = TOKEN_STRING;
        token->is_long = true;
        read_long(lexer, long_bracket_level(lexer), true, "long string: ]] is missing");
        keep_scratch(lexer, token);
    } else if (c == '[' && long_bracket_level(lexer) == -2) {
        fail_here(lexer, lexer->at, "malformed long string opening: [=[ expected");
    } else {
        token->kind = symbol(lexer, c);
    }
    token->last = (int32_t)lexer->at - 1;
    token->end_line = lexer->line; /* a string may end on a later line than it began */
}

void weir_lexer_next(struct weir_lexer *lexer) {
    lexer->last_line = lexer->now.end_line;
    lexer->last_end = lexer->now.last;
    if (lexer->has_ahead) {
        lexer->now = lexer->ahead;
        lexer->has_ahead = false;
        return;
    }
    scan(lexer, &lexer->now);
}

int weir_lexer_peek(struct weir_lexer *lexer) {
    if (!lexer->has_ahead) {
        scan(lexer, &lexer->ahead);
        lexer->has_ahead = true;
    }
    return lexer->ahead.kind;
}

int weir_lexer_init(struct weir_lexer *lexer, const char *source, size_t length,
                    struct weir_arena *arena, struct weir_lua_syntax_error *syntax) {
    memset(lexer, 0, sizeof(*lexer));
    arena->limit = ARENA_BYTES_MAX;
    lexer->source = source;
    lexer->length = length;
    lexer->line = 1;
    lexer->arena = arena;
    lexer->syntax = syntax;
    lexer->now.last = -1;
    weir_buffer_init(&lexer->scratch, WEIR_LUA_SOURCE_BYTES_MAX + 16);
    lexer->name_slots = 256;
    lexer->names = calloc(lexer->name_slots, sizeof(*lexer->names));
    if (lexer->names == NULL) {
        return WEIR_E_NOMEM;
    }
    if (length >= 3 && memcmp(source, "\xef\xbb\xbf", 3) == 0) {
        lexer->at = 3;
        lexer->line_start = 3;
    }
    if (at(lexer, lexer->at) == '#') {
        while (lexer->at < length && source[lexer->at] != '\n' && source[lexer->at] != '\r') {
            lexer->at++;
        }
    }
    return WEIR_OK;
}

void weir_lexer_fini(struct weir_lexer *lexer) {
    free(lexer->names);
    weir_buffer_fini(&lexer->scratch);
}
