#pragma once
/* Tokens of Lua 5.1 + LuaJIT with byte positions. Internal to the script room. Reads only
 * [source, source + length); a NUL byte is an ordinary unexpected character. */
#include <setjmp.h>

#include "script/parser.h"

enum weir_token {
    TOKEN_EOF = 0,
    /* single characters are their own code, 33..126 */
    TOKEN_AND = 256,
    TOKEN_BREAK,
    TOKEN_DO,
    TOKEN_ELSE,
    TOKEN_ELSEIF,
    TOKEN_END,
    TOKEN_FALSE,
    TOKEN_FOR,
    TOKEN_FUNCTION,
    TOKEN_GOTO,
    TOKEN_IF,
    TOKEN_IN,
    TOKEN_LOCAL,
    TOKEN_NIL,
    TOKEN_NOT,
    TOKEN_OR,
    TOKEN_REPEAT,
    TOKEN_RETURN,
    TOKEN_THEN,
    TOKEN_TRUE,
    TOKEN_UNTIL,
    TOKEN_WHILE,
    TOKEN_CONCAT, /* .. */
    TOKEN_DOTS,   /* ... */
    TOKEN_EQ,
    TOKEN_GE,
    TOKEN_LE,
    TOKEN_NE,
    TOKEN_LABEL, /* :: */
    TOKEN_NUMBER,
    TOKEN_NAME,
    TOKEN_STRING,
};

enum weir_number_suffix { SUFFIX_NONE, SUFFIX_LL, SUFFIX_ULL, SUFFIX_I };

/* An identifier or keyword, interned for the life of the AST. */
struct weir_lua_name {
    const char *text;
    size_t length;
    uint32_t hash;
    struct weir_lua_name *next;
    struct weir_lua_variable *binding;  /* parser: innermost local of this name */
    struct weir_lua_reference *globals; /* parser: uses as a global, deepest open function first */
};

struct weir_token_value {
    int kind;
    int32_t line;
    int32_t end_line;
    int32_t col;
    int32_t first; /* byte offsets from 0, last inclusive */
    int32_t last;
    struct weir_lua_name *name; /* TOKEN_NAME, TOKEN_GOTO */
    const char *text;           /* TOKEN_STRING: decoded bytes, in the arena */
    size_t length;
    double number; /* TOKEN_NUMBER without suffix */
    uint8_t suffix;
    bool is_long; /* TOKEN_STRING written [[…]] */
};

struct weir_arena_chunk;

struct weir_arena {
    struct weir_arena_chunk *chunks;
    size_t bytes;
    size_t limit;
};

struct weir_lexer {
    const char *source;
    size_t length;
    size_t at;
    int32_t line;
    size_t line_start;
    int32_t last_line;           /* line of the token before the current one */
    int32_t last_end;            /* last byte of the token before the current one */
    struct weir_token_value now; /* current token */
    struct weir_token_value ahead;
    bool has_ahead;
    struct weir_arena *arena;
    struct weir_lua_name **names; /* hash table, in malloc memory */
    size_t name_slots;
    size_t name_count;
    struct weir_buffer scratch;
    struct weir_lua_syntax_error *syntax;
    int code;     /* of the error that ended it */
    jmp_buf stop; /* errors unwind to weir_lua_parse: no frame between owns anything */
};

/* Never NULL: runs out by leaving through lexer->stop. Zeroed. */
void *weir_lexer_alloc(struct weir_lexer *lexer, size_t size);
/* The one object of this name; `text` must live as long as the AST. */
struct weir_lua_name *weir_lexer_intern(struct weir_lexer *lexer, const char *text, size_t length);
void weir_arena_fini(struct weir_arena *arena);

int weir_lexer_init(struct weir_lexer *lexer, const char *source, size_t length,
                    struct weir_arena *arena, struct weir_lua_syntax_error *syntax) WEIR_MUST_CHECK;
void weir_lexer_fini(struct weir_lexer *lexer);
void weir_lexer_next(struct weir_lexer *lexer);
int weir_lexer_peek(struct weir_lexer *lexer); /* kind of the token after the current one */
_Noreturn void weir_lexer_fail(struct weir_lexer *lexer, int code, size_t offset, int32_t line,
                               int32_t col, const char *format, ...) WEIR_PRINTF(6, 7);
/* Fails at the current token: "<message> near '<token>'". */
_Noreturn void weir_lexer_unexpected(struct weir_lexer *lexer, const char *message);
const char *weir_token_text(int kind); /* "end", "=", "<name>" … */
