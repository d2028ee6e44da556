#pragma once
/* What the parser's two files share: nodes that are made, tokens that are taken, and the way from
 * expressions to blocks and back. */
#include <stdio.h>

#include "script/parser.h"
#include "script/scope.h"

#define HEIGHT_MAX 1000 /* a.b.c.d… and 1 + 1 + 1… grow leftwards without nesting the parser */

struct weir_lua_node *parser_expr(struct weir_parser *p);
void parser_exprs(struct weir_parser *p, struct weir_lua_node *node, struct weir_lua_list *list);
/* A name or an expression in brackets, and the calls, fields and indices behind it. */
struct weir_lua_node *parser_suffixed(struct weir_parser *p);
struct weir_lua_node *parser_dot_key(struct weir_parser *p);
/* From the parameter list to `end`; `start` is the `function` token. */
struct weir_lua_node *parser_body(struct weir_parser *p, bool is_method,
                                  const struct weir_token_value *start);
struct weir_lua_node *parser_block(struct weir_parser *p);

static inline int kind(const struct weir_parser *p) {
    return p->lexer.now.kind;
}

static inline struct weir_lua_node *new_node(struct weir_parser *p, enum weir_lua_tag tag) {
    struct weir_lua_node *node = weir_lexer_alloc(&p->lexer, sizeof(*node));
    const struct weir_token_value *t = &p->lexer.now;
    node->tag = (uint8_t)tag;
    node->line = t->line;
    node->col = t->col;
    node->first = t->first;
    node->last = t->last;
    node->height = 1;
    p->ast->node_count++;
    return node;
}

/* A node that begins where `start` begins. */
static inline struct weir_lua_node *new_node_at(struct weir_parser *p, enum weir_lua_tag tag,
                                                const struct weir_lua_node *start) {
    struct weir_lua_node *node = new_node(p, tag);
    node->line = start->line;
    node->col = start->col;
    node->first = start->first;
    return node;
}

static inline void grow(struct weir_parser *p, struct weir_lua_node *node,
                        const struct weir_lua_node *child) {
    if (child != NULL && child->height >= node->height) {
        node->height = child->height + 1;
        if (node->height > HEIGHT_MAX) {
            weir_lexer_fail(&p->lexer, WEIR_E_LIMIT, (size_t)node->first, node->line, node->col,
                            "this expression is too long: split it with locals");
        }
    }
}

static inline void set_a(struct weir_parser *p, struct weir_lua_node *node,
                         struct weir_lua_node *child) {
    node->a = child;
    grow(p, node, child);
}

static inline void set_b(struct weir_parser *p, struct weir_lua_node *node,
                         struct weir_lua_node *child) {
    node->b = child;
    grow(p, node, child);
}

static inline void push(struct weir_parser *p, struct weir_lua_node *node,
                        struct weir_lua_list *list, struct weir_lua_node *child) {
    if (list->last != NULL) {
        list->last->next = child;
    } else {
        list->first = child;
    }
    list->last = child;
    list->count++;
    grow(p, node, child);
}

static inline void finish(struct weir_parser *p, struct weir_lua_node *node) {
    node->last = p->lexer.last_end;
}

static inline void enter(struct weir_parser *p) {
    if (++p->depth > WEIR_LUA_DEPTH_MAX) {
        const struct weir_token_value *t = &p->lexer.now;
        weir_lexer_fail(&p->lexer, WEIR_E_LIMIT, (size_t)t->first, t->line, t->col,
                        "more than %d levels of nesting", WEIR_LUA_DEPTH_MAX);
    }
}

static inline void leave(struct weir_parser *p) {
    p->depth--;
}

static inline void next(struct weir_parser *p) {
    weir_lexer_next(&p->lexer);
}

static inline bool accept(struct weir_parser *p, int token) {
    if (kind(p) != token) {
        return false;
    }
    next(p);
    return true;
}

static inline void expect(struct weir_parser *p, int token) {
    if (!accept(p, token)) {
        char message[48];
        snprintf(message, sizeof(message), "'%s' expected", weir_token_text(token));
        weir_lexer_unexpected(&p->lexer, message);
    }
}

/* The end of something that began at `open`. */
static inline void expect_close(struct weir_parser *p, int token, int open,
                                const struct weir_lua_node *start) {
    if (!accept(p, token)) {
        char message[96];
        if (start->line == p->lexer.now.line) {
            snprintf(message, sizeof(message), "'%s' expected", weir_token_text(token));
        } else {
            snprintf(message, sizeof(message), "'%s' expected (to close '%s' at line %d)",
                     weir_token_text(token), weir_token_text(open), start->line);
        }
        weir_lexer_unexpected(&p->lexer, message);
    }
}

/* `goto` is an ordinary name where no goto statement can be meant, as in LuaJIT. */
static inline bool is_name(const struct weir_parser *p) {
    return kind(p) == TOKEN_NAME || kind(p) == TOKEN_GOTO;
}

static inline struct weir_lua_name *take_name(struct weir_parser *p) {
    if (!is_name(p)) {
        weir_lexer_unexpected(&p->lexer, "a name expected");
    }
    struct weir_lua_name *name = p->lexer.now.name;
    next(p);
    return name;
}

static inline void set_text(struct weir_lua_node *node, const struct weir_lua_name *name) {
    node->text = name->text;
    node->length = name->length;
}

/* A Name node for a local about to be declared (by the caller, when its scope begins). */
static inline struct weir_lua_node *parse_local_name(struct weir_parser *p,
                                                     struct weir_lua_name **name) {
    struct weir_lua_node *node = new_node(p, LUA_Name);
    *name = take_name(p);
    set_text(node, *name);
    node->flags = SCOPE_LOCAL;
    return node;
}
