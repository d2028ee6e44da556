/* The Lua parser on any bytes: no crash, and what it accepts it can rewrite into text that it
 * accepts again, with the same number of constructors.
 *
 * fuzz:
 *   runtime/script/lexer.c
 *   runtime/script/parser.c
 *   runtime/script/parser_expr.c
 *   runtime/script/instrument.c */
#include <stdlib.h>

#include "script/parser.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct weir_lua_ast *ast;
    struct weir_lua_syntax_error syntax;
    struct weir_buffer text;
    weir_buffer_init(&text, 64 << 20);
    if (weir_lua_parse((const char *)data, size, &ast, &syntax) != WEIR_OK) {
        if (syntax.line < 1 || syntax.column < 1 || syntax.message[0] == '\0' ||
            weir_source_caret(&text, (const char *)data, size, syntax.offset) != WEIR_OK) {
            abort();
        }
        weir_buffer_fini(&text);
        return 0;
    }
    if (weir_lua_instrument(ast, &text) != WEIR_OK) {
        abort();
    }
    struct weir_lua_ast *again;
    int rc = weir_lua_parse((const char *)text.data, text.size, &again, &syntax);
    /* Calls wrapped around constructors and powers nest deeper than the original. */
    if (rc != WEIR_OK && rc != WEIR_E_LIMIT) {
        abort();
    }
    if (rc == WEIR_OK && weir_lua_ast_nodes(again) < weir_lua_ast_nodes(ast)) {
        abort();
    }
    weir_lua_ast_destroy(again);
    weir_lua_ast_destroy(ast);
    weir_buffer_fini(&text);
    return 0;
}
