/* Recursive descent over LuaJIT's grammar, building the positioned AST (ast.h). Errors leave by
 * longjmp to weir_lua_parse; nothing on the way owns memory outside the arena. Depth is capped on
 * the way down and tree height on the way up, so that parser and walkers may recurse. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "script/parser_parts.h"

const char *const weir_lua_tag_names[LUA_TAG_COUNT_] = {
#define X(tag, a, b, c, l, l2) #tag,
    WEIR_LUA_TAGS(X)
#undef X
};

/* --- statements ----------------------------------------------------------------------------- */

static bool block_ends(const struct weir_parser *p) {
    switch (kind(p)) {
    case TOKEN_EOF:
    case TOKEN_END:
    case TOKEN_ELSE:
    case TOKEN_ELSEIF:
    case TOKEN_UNTIL:
        return true;
    default:
        return false;
    }
}

static struct weir_lua_node *parse_inner_block(struct weir_parser *p, bool is_loop) {
    struct weir_lua_block block;
    weir_scope_open_block(p, &block, is_loop);
    struct weir_lua_node *node = parser_block(p);
    weir_scope_close_block(p);
    return node;
}

static struct weir_lua_node *parse_if(struct weir_parser *p) {
    struct weir_lua_node *node = new_node(p, LUA_If);
    do {
        struct weir_lua_node *clause = new_node(p, LUA_Clause);
        next(p);
        set_a(p, clause, parser_expr(p));
        expect(p, TOKEN_THEN);
        set_b(p, clause, parse_inner_block(p, false));
        finish(p, clause);
        push(p, node, &node->list, clause);
    } while (kind(p) == TOKEN_ELSEIF);
    if (accept(p, TOKEN_ELSE)) {
        set_a(p, node, parse_inner_block(p, false));
    }
    expect_close(p, TOKEN_END, TOKEN_IF, node);
    return node;
}

static struct weir_lua_node *parse_while(struct weir_parser *p) {
    struct weir_lua_node *node = new_node(p, LUA_While);
    next(p);
    set_a(p, node, parser_expr(p));
    expect(p, TOKEN_DO);
    set_b(p, node, parse_inner_block(p, true));
    expect_close(p, TOKEN_END, TOKEN_WHILE, node);
    return node;
}

/* The body of a for, with its variables declared in it. */
static void parse_for_body(struct weir_parser *p, struct weir_lua_node *node,
                           const struct weir_lua_list *names, struct weir_lua_name **interned) {
    struct weir_lua_block block;
    expect(p, TOKEN_DO);
    weir_scope_open_block(p, &block, true);
    for (int32_t i = 0; i < names->count; i++) {
        weir_scope_declare(p, interned[i]);
    }
    struct weir_lua_node *body = parse_inner_block(p, false);
    if (node->tag == LUA_Fornum) {
        set_b(p, node, body);
    } else {
        set_a(p, node, body);
    }
    weir_scope_close_block(p);
    expect_close(p, TOKEN_END, TOKEN_FOR, node);
}

static struct weir_lua_node *parse_for(struct weir_parser *p) {
    struct weir_lua_node *node = new_node(p, LUA_Fornum);
    struct weir_lua_name *names[LOCALS_MAX];
    next(p);
    struct weir_lua_node *first = parse_local_name(p, &names[0]);
    if (accept(p, '=')) {
        struct weir_lua_list one = {.count = 1};
        set_a(p, node, first);
        push(p, node, &node->list, parser_expr(p));
        expect(p, ',');
        push(p, node, &node->list, parser_expr(p));
        if (accept(p, ',')) {
            push(p, node, &node->list, parser_expr(p));
        }
        parse_for_body(p, node, &one, names);
        return node;
    }
    node->tag = LUA_Forin;
    push(p, node, &node->list, first);
    while (accept(p, ',')) {
        if (node->list.count == LOCALS_MAX) {
            weir_lexer_unexpected(&p->lexer, "too many names in one for");
        }
        struct weir_lua_name **name = &names[node->list.count];
        push(p, node, &node->list, parse_local_name(p, name));
    }
    if (kind(p) != TOKEN_IN) {
        weir_lexer_unexpected(&p->lexer, "'=' or 'in' expected");
    }
    next(p);
    parser_exprs(p, node, &node->list2);
    parse_for_body(p, node, &node->list, names);
    return node;
}

static struct weir_lua_node *parse_repeat(struct weir_parser *p) {
    struct weir_lua_node *node = new_node(p, LUA_Repeat);
    struct weir_lua_block loop;
    struct weir_lua_block scope;
    next(p);
    weir_scope_open_block(p, &loop, true);
    weir_scope_open_block(p, &scope, false); /* the condition sees the body's locals */
    set_b(p, node, parser_block(p));
    expect_close(p, TOKEN_UNTIL, TOKEN_REPEAT, node);
    set_a(p, node, parser_expr(p));
    weir_scope_close_block(p);
    weir_scope_close_block(p);
    return node;
}

static struct weir_lua_node *parse_function_statement(struct weir_parser *p) {
    struct weir_lua_node *node = new_node(p, LUA_Function);
    struct weir_token_value start = p->lexer.now;
    bool is_method = false;
    next(p);
    struct weir_lua_node *target = new_node(p, LUA_Name);
    struct weir_lua_name *name = take_name(p);
    set_text(target, name);
    weir_scope_use(p, target, name);
    if (kind(p) != '.' && kind(p) != ':') {
        weir_scope_assign(p, target, name);
    }
    while (!is_method && (kind(p) == '.' || kind(p) == ':')) {
        struct weir_lua_node *index = new_node_at(p, LUA_Index, target);
        is_method = kind(p) == ':';
        next(p);
        index->flags = true;
        set_a(p, index, target);
        set_b(p, index, parser_dot_key(p));
        finish(p, index);
        target = index;
    }
    node->flags = is_method;
    set_a(p, node, target);
    set_b(p, node, parser_body(p, is_method, &start));
    return node;
}

static struct weir_lua_node *parse_local(struct weir_parser *p) {
    struct weir_lua_node *node = new_node(p, LUA_Local);
    struct weir_lua_name *names[LOCALS_MAX];
    next(p);
    if (kind(p) == TOKEN_FUNCTION) {
        struct weir_token_value start = p->lexer.now;
        next(p);
        node->tag = LUA_LocalFunction;
        set_a(p, node, parse_local_name(p, &names[0]));
        weir_scope_declare(p, names[0]);
        set_b(p, node, parser_body(p, false, &start));
        return node;
    }
    do {
        if (node->list.count == LOCALS_MAX) {
            weir_lexer_unexpected(&p->lexer, "too many names in one local");
        }
        struct weir_lua_name **name = &names[node->list.count];
        push(p, node, &node->list, parse_local_name(p, name));
    } while (accept(p, ','));
    if (accept(p, '=')) {
        parser_exprs(p, node, &node->list2);
    }
    for (int32_t i = 0; i < node->list.count; i++) {
        weir_scope_declare(p, names[i]);
    }
    return node;
}

static void check_target(struct weir_parser *p, const struct weir_lua_node *target) {
    if (target->tag != LUA_Name && target->tag != LUA_Index) {
        weir_lexer_unexpected(&p->lexer, "syntax error");
    }
    if (target->tag == LUA_Name) {
        weir_scope_assign(p, target, weir_lexer_intern(&p->lexer, target->text, target->length));
    }
}

static struct weir_lua_node *parse_expression_statement(struct weir_parser *p) {
    struct weir_lua_node *first = parser_suffixed(p);
    if (kind(p) != '=' && kind(p) != ',') {
        if (first->tag != LUA_Call && first->tag != LUA_MethodCall) {
            weir_lexer_unexpected(&p->lexer, "syntax error: a statement expected");
        }
        struct weir_lua_node *node = new_node_at(p, LUA_CallStat, first);
        set_a(p, node, first);
        return node;
    }
    struct weir_lua_node *node = new_node_at(p, LUA_Assign, first);
    check_target(p, first);
    push(p, node, &node->list, first);
    while (accept(p, ',')) {
        struct weir_lua_node *target = parser_suffixed(p);
        check_target(p, target);
        push(p, node, &node->list, target);
        if (node->list.count > LOCALS_MAX) {
            weir_lexer_unexpected(&p->lexer, "too many targets in one assignment");
        }
    }
    expect(p, '=');
    parser_exprs(p, node, &node->list2);
    return node;
}

static struct weir_lua_node *parse_return(struct weir_parser *p) {
    struct weir_lua_node *node = new_node(p, LUA_Return);
    next(p);
    if (!block_ends(p) && kind(p) != ';') {
        parser_exprs(p, node, &node->list);
    }
    return node;
}

static struct weir_lua_node *parse_break(struct weir_parser *p) {
    struct weir_lua_node *node = new_node(p, LUA_Break);
    const struct weir_lua_block *block = p->function->block;
    while (block != NULL && !block->is_loop) {
        block = block->outer;
    }
    if (block == NULL) {
        weir_lexer_unexpected(&p->lexer, "no loop to leave");
    }
    next(p);
    return node;
}

static struct weir_lua_node *parse_goto(struct weir_parser *p) {
    struct weir_lua_node *node = new_node(p, LUA_Goto);
    next(p);
    struct weir_lua_name *name = take_name(p);
    set_text(node, name);
    finish(p, node);
    weir_scope_goto(p, node, name);
    return node;
}

static struct weir_lua_node *parse_label(struct weir_parser *p) {
    struct weir_lua_node *node = new_node(p, LUA_Label);
    next(p);
    struct weir_lua_name *name = take_name(p);
    set_text(node, name);
    finish(p, node);
    weir_scope_label(p, node, name);
    expect(p, TOKEN_LABEL);
    return node;
}

static struct weir_lua_node *parse_do(struct weir_parser *p) {
    struct weir_lua_node *node = new_node(p, LUA_Do);
    next(p);
    set_a(p, node, parse_inner_block(p, false));
    expect_close(p, TOKEN_END, TOKEN_DO, node);
    return node;
}

static struct weir_lua_node *parse_statement(struct weir_parser *p) {
    switch (kind(p)) {
    case TOKEN_IF:
        return parse_if(p);
    case TOKEN_WHILE:
        return parse_while(p);
    case TOKEN_DO:
        return parse_do(p);
    case TOKEN_FOR:
        return parse_for(p);
    case TOKEN_REPEAT:
        return parse_repeat(p);
    case TOKEN_FUNCTION:
        return parse_function_statement(p);
    case TOKEN_LOCAL:
        return parse_local(p);
    case TOKEN_RETURN:
        return parse_return(p);
    case TOKEN_BREAK:
        return parse_break(p);
    case TOKEN_LABEL:
        return parse_label(p);
    case TOKEN_GOTO:
        if (weir_lexer_peek(&p->lexer) == TOKEN_NAME) {
            return parse_goto(p);
        }
        break;
    default:
        break;
    }
    return parse_expression_statement(p);
}

/* Labels that nothing follows in their block may be jumped to past any local. `until` still sees
 * the block's locals, so it does not count as an end; nor does a label with a semicolon behind it,
 * to LuaJIT. */
static void free_trailing_labels(struct weir_parser *p, const struct weir_lua_node *block) {
    if (kind(p) == TOKEN_UNTIL) {
        return;
    }
    const struct weir_lua_node *trailing = NULL;
    for (const struct weir_lua_node *n = block->list.first; n != NULL; n = n->next) {
        if (n->tag != LUA_Label || n->flags) {
            trailing = NULL;
        } else if (trailing == NULL) {
            trailing = n;
        }
    }
    for (; trailing != NULL; trailing = trailing->next) {
        weir_scope_label_at_end(p, weir_lexer_intern(&p->lexer, trailing->text, trailing->length));
    }
}

/* Statements up to a token that ends a block. The caller has opened the scope. */
struct weir_lua_node *parser_block(struct weir_parser *p) {
    struct weir_lua_node *block = new_node(p, LUA_Block);
    bool is_last = false;
    enter(p);
    while (!is_last && !block_ends(p)) {
        struct weir_lua_node *statement = parse_statement(p);
        finish(p, statement);
        is_last = statement->tag == LUA_Return || statement->tag == LUA_Break;
        if (accept(p, ';') && statement->tag == LUA_Label) {
            statement->flags = true;
        }
        push(p, block, &block->list, statement);
    }
    free_trailing_labels(p, block);
    leave(p);
    block->last = block->list.last != NULL ? block->list.last->last : block->first - 1;
    return block;
}

static void parse_chunk(struct weir_parser *p) {
    struct weir_lua_function function;
    struct weir_lua_block block;
    weir_lexer_next(&p->lexer);
    struct weir_lua_node *chunk = new_node(p, LUA_Chunk);
    weir_scope_open_function(p, &function);
    function.is_vararg = true;
    weir_scope_open_block(p, &block, false);
    set_a(p, chunk, parser_block(p));
    if (kind(p) != TOKEN_EOF) {
        weir_lexer_unexpected(&p->lexer, "end of the file expected");
    }
    chunk->last = chunk->a->last;
    weir_scope_close_block(p);
    chunk->upvalues = function.upvalues;
    chunk->globals = function.globals;
    weir_scope_close_function(p);
    p->ast->root = chunk;
}

int weir_lua_parse(const char *source, size_t length, struct weir_lua_ast **out,
                   struct weir_lua_syntax_error *syntax) {
    struct weir_parser p;
    *out = NULL;
    memset(syntax, 0, sizeof(*syntax));
    syntax->line = 1;
    syntax->column = 1;
    if (length > WEIR_LUA_SOURCE_BYTES_MAX) {
        snprintf(syntax->message, sizeof(syntax->message),
                 "the file has %zu bytes, more than the %u a script may have", length,
                 WEIR_LUA_SOURCE_BYTES_MAX);
        return WEIR_E_LIMIT;
    }
    memset(&p, 0, sizeof(p));
    p.ast = calloc(1, sizeof(*p.ast));
    if (p.ast == NULL) {
        return WEIR_E_NOMEM;
    }
    p.ast->source = source;
    p.ast->length = length;
    int rc = weir_lexer_init(&p.lexer, source, length, &p.ast->arena, syntax);
    if (rc == WEIR_OK) {
        if (setjmp(p.lexer.stop) == 0) {
            parse_chunk(&p);
        } else {
            rc = p.lexer.code;
        }
    }
    weir_lexer_fini(&p.lexer);
    if (rc != WEIR_OK) {
        weir_lua_ast_destroy(p.ast);
        return rc;
    }
    *out = p.ast;
    return WEIR_OK;
}

void weir_lua_ast_destroy(struct weir_lua_ast *ast) {
    if (ast != NULL) {
        weir_arena_fini(&ast->arena);
        free(ast);
    }
}

size_t weir_lua_ast_bytes(const struct weir_lua_ast *ast) {
    return ast->arena.bytes;
}

int32_t weir_lua_ast_nodes(const struct weir_lua_ast *ast) {
    return ast->node_count;
}

int weir_source_caret(struct weir_buffer *out, const char *source, size_t length, size_t offset) {
    if (offset > length) {
        offset = length;
    }
    size_t first = offset;
    while (first > 0 && source[first - 1] != '\n' && source[first - 1] != '\r') {
        first--;
    }
    size_t last = offset;
    while (last < length && source[last] != '\n' && source[last] != '\r') {
        last++;
    }
    /* a machine-written line is shown around the place only */
    if (offset - first > 120) {
        first = offset - 120;
    }
    if (last - first > 160) {
        last = first + 160;
    }
    int rc = weir_buffer_append(out, source + first, last - first);
    rc = rc != WEIR_OK ? rc : weir_buffer_append(out, "\n", 1);
    for (size_t i = first; rc == WEIR_OK && i < offset; i++) {
        if (((uint8_t)source[i] & 0xc0) != 0x80) { /* one column a UTF-8 character */
            rc = weir_buffer_append(out, source[i] == '\t' ? "\t" : " ", 1);
        }
    }
    return rc != WEIR_OK ? rc : weir_buffer_append(out, "^", 1);
}
