#pragma once
/* A Lua parser that keeps positions: Lua 5.1 plus what LuaJIT adds (goto and labels, LL/ULL/i and
 * hex-float and 0b literals, \x \z \u escapes). It gives the stdlib what the language needs and a
 * running table cannot: the written order of constructor fields, and line and column of everything.
 * It accepts what LuaJIT's own parser accepts (a test compares them).
 *
 * Source text is hostile: size, depth and arena are capped, every read is bounds-checked, nothing
 * is executed. Any thread; a weir_lua_ast belongs to one. Node shapes: NATIVE.md. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buffer.h"
#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

#define WEIR_LUA_SOURCE_BYTES_MAX (4u << 20)
#define WEIR_LUA_DEPTH_MAX                                                                         \
    190 /* nested blocks, expressions and constructors; LuaJIT stops at 200 */

struct weir_lua_ast;

struct weir_lua_syntax_error {
    int32_t line;   /* from 1 */
    int32_t column; /* from 1, bytes */
    size_t offset;  /* from 0 */
    char message[256];
};

/* Parses `source` (borrowed: it must outlive the AST). WEIR_OK, WEIR_E_SYNTAX with `syntax` filled
 * in, WEIR_E_LIMIT (too large or too deep; `syntax` filled in too) or WEIR_E_NOMEM. */
int weir_lua_parse(const char *source, size_t length, struct weir_lua_ast **out,
                   struct weir_lua_syntax_error *syntax) WEIR_MUST_CHECK;
void weir_lua_ast_destroy(struct weir_lua_ast *ast);

/* Bytes the AST holds; nodes; constructors outside functions (those instrument wraps). */
size_t weir_lua_ast_bytes(const struct weir_lua_ast *ast);
int32_t weir_lua_ast_nodes(const struct weir_lua_ast *ast);

/* The rewritten source (NATIVE.md, "instrument"): constructors outside function bodies wrapped in
 * __weir_table(id, …), powers in __weir_pow(a, b). Line numbers stay. */
int weir_lua_instrument(const struct weir_lua_ast *ast, struct weir_buffer *out) WEIR_MUST_CHECK;

/* Appends the source line that `offset` lies in, a newline, and a ^ under it (tabs kept, so that it
 * lines up), without a final newline. */
int weir_source_caret(struct weir_buffer *out, const char *source, size_t length,
                      size_t offset) WEIR_MUST_CHECK;

#ifdef __cplusplus
}
#endif
