/* Expressions, function bodies among them. */
#include "script/parser_parts.h"

void parser_exprs(struct weir_parser *p, struct weir_lua_node *node, struct weir_lua_list *list) {
    do {
        push(p, node, list, parser_expr(p));
    } while (accept(p, ','));
}

static struct weir_lua_node *string_node(struct weir_parser *p) {
    struct weir_lua_node *node = new_node(p, LUA_String);
    node->text = p->lexer.now.text;
    node->length = p->lexer.now.length;
    node->flags = p->lexer.now.is_long;
    next(p);
    return node;
}

static struct weir_lua_node *parse_table(struct weir_parser *p) {
    struct weir_lua_node *table = new_node(p, LUA_Table);
    table->in_function = p->function->outer != NULL;
    if (!table->in_function) {
        table->id = ++p->ast->table_count;
    }
    expect(p, '{');
    while (kind(p) != '}') {
        struct weir_lua_node *field = new_node(p, LUA_Field);
        if (is_name(p) && weir_lexer_peek(&p->lexer) == '=') {
            field->flags = FIELD_NAMED;
            set_text(field, take_name(p));
            next(p);
        } else if (accept(p, '[')) {
            field->flags = FIELD_INDEXED;
            set_a(p, field, parser_expr(p));
            expect(p, ']');
            expect(p, '=');
        } else {
            field->flags = FIELD_POSITIONAL;
        }
        set_b(p, field, parser_expr(p));
        finish(p, field);
        push(p, table, &table->list, field);
        if (!accept(p, ',') && !accept(p, ';')) {
            break;
        }
    }
    expect_close(p, '}', '{', table);
    finish(p, table);
    return table;
}

static void parse_args(struct weir_parser *p, struct weir_lua_node *call) {
    call->op_first = p->lexer.last_end + 1;
    switch (kind(p)) {
    case TOKEN_STRING:
        call->flags = SUGAR_STRING;
        push(p, call, &call->list, string_node(p));
        break;
    case '{':
        call->flags = SUGAR_TABLE;
        push(p, call, &call->list, parse_table(p));
        break;
    case '(': {
        if (p->lexer.now.line != p->lexer.last_line) {
            weir_lexer_unexpected(&p->lexer,
                                  "ambiguous: a call of the line above, or a new statement?");
        }
        struct weir_lua_node open = {.line = p->lexer.now.line};
        next(p);
        if (kind(p) != ')') {
            parser_exprs(p, call, &call->list);
        }
        expect_close(p, ')', '(', &open);
        break;
    }
    default:
        weir_lexer_unexpected(&p->lexer, "function arguments expected");
    }
    finish(p, call);
}

static struct weir_lua_node *parse_primary(struct weir_parser *p) {
    struct weir_lua_node *node;
    if (is_name(p)) {
        node = new_node(p, LUA_Name);
        struct weir_lua_name *name = take_name(p);
        set_text(node, name);
        weir_scope_use(p, node, name);
    } else if (kind(p) == '(') {
        node = new_node(p, LUA_Paren);
        next(p);
        set_a(p, node, parser_expr(p));
        expect_close(p, ')', '(', node);
        finish(p, node);
    } else {
        weir_lexer_unexpected(&p->lexer, "unexpected symbol");
    }
    return node;
}

struct weir_lua_node *parser_dot_key(struct weir_parser *p) {
    struct weir_lua_node *key = new_node(p, LUA_String);
    set_text(key, take_name(p));
    return key;
}

struct weir_lua_node *parser_suffixed(struct weir_parser *p) {
    struct weir_lua_node *node = parse_primary(p);
    for (;;) {
        struct weir_lua_node *outer;
        switch (kind(p)) {
        case '.':
            outer = new_node_at(p, LUA_Index, node);
            next(p);
            outer->flags = true;
            set_a(p, outer, node);
            set_b(p, outer, parser_dot_key(p));
            finish(p, outer);
            break;
        case '[':
            outer = new_node_at(p, LUA_Index, node);
            next(p);
            set_a(p, outer, node);
            set_b(p, outer, parser_expr(p));
            expect(p, ']');
            finish(p, outer);
            break;
        case ':':
            outer = new_node_at(p, LUA_MethodCall, node);
            next(p);
            set_a(p, outer, node);
            set_text(outer, take_name(p));
            parse_args(p, outer);
            break;
        case '(':
        case TOKEN_STRING:
        case '{':
            outer = new_node_at(p, LUA_Call, node);
            set_a(p, outer, node);
            parse_args(p, outer);
            break;
        default:
            return node;
        }
        node = outer;
    }
}

static struct weir_lua_node *parse_simple(struct weir_parser *p) {
    struct weir_lua_node *node;
    switch (kind(p)) {
    case TOKEN_NUMBER:
        node = new_node(p, LUA_Number);
        node->number = p->lexer.now.number;
        node->flags = p->lexer.now.suffix;
        break;
    case TOKEN_STRING:
        return string_node(p);
    case TOKEN_NIL:
        node = new_node(p, LUA_Nil);
        break;
    case TOKEN_TRUE:
        node = new_node(p, LUA_True);
        break;
    case TOKEN_FALSE:
        node = new_node(p, LUA_False);
        break;
    case TOKEN_DOTS:
        if (!p->function->is_vararg) {
            weir_lexer_unexpected(&p->lexer, "cannot use '...' outside a vararg function");
        }
        node = new_node(p, LUA_Vararg);
        break;
    case '{':
        return parse_table(p);
    case TOKEN_FUNCTION: {
        struct weir_token_value start = p->lexer.now;
        next(p);
        return parser_body(p, false, &start);
    }
    default:
        return parser_suffixed(p);
    }
    next(p);
    return node;
}

#define UNARY_PRIORITY 8

/* Left and right binding power, Lua 5.1 manual §2.5.6; 0: no binary operator. */
static int priority(int token, int *right) {
    static const struct {
        int token;
        uint8_t left;
        uint8_t right;
    } table[] = {
        {'+', 6, 6},      {'-', 6, 6},       {'*', 7, 7},          {'/', 7, 7},
        {'%', 7, 7},      {'^', 10, 9},      {TOKEN_CONCAT, 5, 4}, {TOKEN_EQ, 3, 3},
        {TOKEN_NE, 3, 3}, {'<', 3, 3},       {TOKEN_LE, 3, 3},     {'>', 3, 3},
        {TOKEN_GE, 3, 3}, {TOKEN_AND, 2, 2}, {TOKEN_OR, 1, 1},
    };
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (table[i].token == token) {
            *right = table[i].right;
            return table[i].left;
        }
    }
    return 0;
}

static struct weir_lua_node *parse_binary(struct weir_parser *p, int limit) {
    struct weir_lua_node *left;
    enter(p);
    if (kind(p) == TOKEN_NOT || kind(p) == '-' || kind(p) == '#') {
        left = new_node(p, LUA_Unop);
        left->op = kind(p);
        left->op_first = left->first;
        next(p);
        set_a(p, left, parse_binary(p, UNARY_PRIORITY));
        finish(p, left);
    } else {
        left = parse_simple(p);
    }
    int right_limit = 0;
    int power;
    while ((power = priority(kind(p), &right_limit)) > limit) {
        struct weir_lua_node *node = new_node_at(p, LUA_Binop, left);
        node->op = kind(p);
        node->op_first = p->lexer.now.first;
        next(p);
        set_a(p, node, left);
        set_b(p, node, parse_binary(p, right_limit));
        finish(p, node);
        left = node;
    }
    leave(p);
    return left;
}

struct weir_lua_node *parser_expr(struct weir_parser *p) {
    return parse_binary(p, 0);
}

struct weir_lua_node *parser_body(struct weir_parser *p, bool is_method,
                                  const struct weir_token_value *start) {
    struct weir_lua_function function;
    struct weir_lua_block block;
    struct weir_lua_node *node = new_node(p, LUA_FunctionExpr);
    node->line = start->line;
    node->col = start->col;
    node->first = start->first;
    weir_scope_open_function(p, &function);
    weir_scope_open_block(p, &block, false);
    if (is_method) {
        struct weir_lua_name *self = weir_lexer_intern(&p->lexer, "self", 4);
        weir_scope_declare(p, self);
    }
    expect(p, '(');
    if (kind(p) != ')') {
        do {
            if (accept(p, TOKEN_DOTS)) {
                node->flags = true;
                function.is_vararg = true;
                break;
            }
            struct weir_lua_name *name;
            push(p, node, &node->list, parse_local_name(p, &name));
            weir_scope_declare(p, name);
        } while (accept(p, ','));
    }
    expect(p, ')');
    set_a(p, node, parser_block(p));
    expect_close(p, TOKEN_END, TOKEN_FUNCTION, node);
    finish(p, node);
    weir_scope_close_block(p);
    node->upvalues = function.upvalues;
    node->globals = function.globals;
    weir_scope_close_function(p);
    return node;
}
