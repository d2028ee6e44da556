/* Recursive descent over LuaJIT's grammar, building the positioned AST (ast.h). Errors leave by
 * longjmp to weir_lua_parse; nothing on the way owns memory outside the arena. Depth is capped on
 * the way down and tree height on the way up, so that parser and walkers may recurse. */
#include "script/parser.h"

#include <stdio.h>
#include <stdlib.h>

#include "script/scope.h"

#define HEIGHT_MAX 1000 /* a.b.c.d… and 1 + 1 + 1… grow leftwards without nesting the parser */

const char *const weir_lua_tag_names[LUA_TAG_COUNT_] = {
#define X(tag, a, b, c, l, l2) #tag,
    WEIR_LUA_TAGS(X)
#undef X
};

static struct weir_lua_node *parse_expr(struct weir_parser *p);
static struct weir_lua_node *parse_block(struct weir_parser *p);
static struct weir_lua_node *parse_body(struct weir_parser *p, bool is_method,
                                        const struct weir_token_value *start);

/* --- helpers -------------------------------------------------------------------------------- */

static int kind(const struct weir_parser *p) {
    return p->lexer.now.kind;
}

static struct weir_lua_node *new_node(struct weir_parser *p, enum weir_lua_tag tag) {
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
static struct weir_lua_node *new_node_at(struct weir_parser *p, enum weir_lua_tag tag,
                                         const struct weir_lua_node *start) {
    struct weir_lua_node *node = new_node(p, tag);
    node->line = start->line;
    node->col = start->col;
    node->first = start->first;
    return node;
}

static void grow(struct weir_parser *p, struct weir_lua_node *node,
                 const struct weir_lua_node *child) {
    if (child != NULL && child->height >= node->height) {
        node->height = child->height + 1;
        if (node->height > HEIGHT_MAX) {
            weir_lexer_fail(&p->lexer, WEIR_E_LIMIT, (size_t)node->first, node->line, node->col,
                            "this expression is too long: split it with locals");
        }
    }
}

static void set_a(struct weir_parser *p, struct weir_lua_node *node, struct weir_lua_node *child) {
    node->a = child;
    grow(p, node, child);
}

static void set_b(struct weir_parser *p, struct weir_lua_node *node, struct weir_lua_node *child) {
    node->b = child;
    grow(p, node, child);
}

static void push(struct weir_parser *p, struct weir_lua_node *node, struct weir_lua_list *list,
                 struct weir_lua_node *child) {
    if (list->last != NULL) {
        list->last->next = child;
    } else {
        list->first = child;
    }
    list->last = child;
    list->count++;
    grow(p, node, child);
}

static void finish(struct weir_parser *p, struct weir_lua_node *node) {
    node->last = p->lexer.last_end;
}

static void enter(struct weir_parser *p) {
    if (++p->depth > WEIR_LUA_DEPTH_MAX) {
        const struct weir_token_value *t = &p->lexer.now;
        weir_lexer_fail(&p->lexer, WEIR_E_LIMIT, (size_t)t->first, t->line, t->col,
                        "more than %d levels of nesting", WEIR_LUA_DEPTH_MAX);
    }
}

static void leave(struct weir_parser *p) {
    p->depth--;
}

static void next(struct weir_parser *p) {
    weir_lexer_next(&p->lexer);
}

static bool accept(struct weir_parser *p, int token) {
    if (kind(p) != token) {
        return false;
    }
    next(p);
    return true;
}

static void expect(struct weir_parser *p, int token) {
    if (!accept(p, token)) {
        char message[48];
        snprintf(message, sizeof(message), "'%s' expected", weir_token_text(token));
        weir_lexer_unexpected(&p->lexer, message);
    }
}

/* The end of something that began at `open`. */
static void expect_close(struct weir_parser *p, int token, int open,
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
static bool is_name(const struct weir_parser *p) {
    return kind(p) == TOKEN_NAME || kind(p) == TOKEN_GOTO;
}

static struct weir_lua_name *take_name(struct weir_parser *p) {
    if (!is_name(p)) {
        weir_lexer_unexpected(&p->lexer, "a name expected");
    }
    struct weir_lua_name *name = p->lexer.now.name;
    next(p);
    return name;
}

static void set_text(struct weir_lua_node *node, const struct weir_lua_name *name) {
    node->text = name->text;
    node->length = name->length;
}

/* A Name node for a local about to be declared (by the caller, when its scope begins). */
static struct weir_lua_node *parse_local_name(struct weir_parser *p, struct weir_lua_name **name) {
    struct weir_lua_node *node = new_node(p, LUA_Name);
    *name = take_name(p);
    set_text(node, *name);
    node->flags = SCOPE_LOCAL;
    return node;
}

/* --- expressions ---------------------------------------------------------------------------- */

static void parse_exprs(struct weir_parser *p, struct weir_lua_node *node,
                        struct weir_lua_list *list) {
    do {
        push(p, node, list, parse_expr(p));
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
            set_a(p, field, parse_expr(p));
            expect(p, ']');
            expect(p, '=');
        } else {
            field->flags = FIELD_POSITIONAL;
        }
        set_b(p, field, parse_expr(p));
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
            parse_exprs(p, call, &call->list);
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
        set_a(p, node, parse_expr(p));
        expect_close(p, ')', '(', node);
        finish(p, node);
    } else {
        weir_lexer_unexpected(&p->lexer, "unexpected symbol");
    }
    return node;
}

static struct weir_lua_node *dot_key(struct weir_parser *p) {
    struct weir_lua_node *key = new_node(p, LUA_String);
    set_text(key, take_name(p));
    return key;
}

static struct weir_lua_node *parse_suffixed(struct weir_parser *p) {
    struct weir_lua_node *node = parse_primary(p);
    for (;;) {
        struct weir_lua_node *outer;
        switch (kind(p)) {
        case '.':
            outer = new_node_at(p, LUA_Index, node);
            next(p);
            outer->flags = true;
            set_a(p, outer, node);
            set_b(p, outer, dot_key(p));
            finish(p, outer);
            break;
        case '[':
            outer = new_node_at(p, LUA_Index, node);
            next(p);
            set_a(p, outer, node);
            set_b(p, outer, parse_expr(p));
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
        return parse_body(p, false, &start);
    }
    default:
        return parse_suffixed(p);
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

static struct weir_lua_node *parse_expr(struct weir_parser *p) {
    return parse_binary(p, 0);
}

/* From the parameter list to `end`; `start` is the `function` token. */
static struct weir_lua_node *parse_body(struct weir_parser *p, bool is_method,
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
    set_a(p, node, parse_block(p));
    expect_close(p, TOKEN_END, TOKEN_FUNCTION, node);
    finish(p, node);
    weir_scope_close_block(p);
    node->upvalues = function.upvalues;
    node->globals = function.globals;
    weir_scope_close_function(p);
    return node;
}

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
    struct weir_lua_node *node = parse_block(p);
    weir_scope_close_block(p);
    return node;
}

static struct weir_lua_node *parse_if(struct weir_parser *p) {
    struct weir_lua_node *node = new_node(p, LUA_If);
    do {
        struct weir_lua_node *clause = new_node(p, LUA_Clause);
        next(p);
        set_a(p, clause, parse_expr(p));
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
    set_a(p, node, parse_expr(p));
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
        push(p, node, &node->list, parse_expr(p));
        expect(p, ',');
        push(p, node, &node->list, parse_expr(p));
        if (accept(p, ',')) {
            push(p, node, &node->list, parse_expr(p));
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
    parse_exprs(p, node, &node->list2);
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
    set_b(p, node, parse_block(p));
    expect_close(p, TOKEN_UNTIL, TOKEN_REPEAT, node);
    set_a(p, node, parse_expr(p));
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
        set_b(p, index, dot_key(p));
        finish(p, index);
        target = index;
    }
    node->flags = is_method;
    set_a(p, node, target);
    set_b(p, node, parse_body(p, is_method, &start));
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
        set_b(p, node, parse_body(p, false, &start));
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
        parse_exprs(p, node, &node->list2);
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
    struct weir_lua_node *first = parse_suffixed(p);
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
        struct weir_lua_node *target = parse_suffixed(p);
        check_target(p, target);
        push(p, node, &node->list, target);
        if (node->list.count > LOCALS_MAX) {
            weir_lexer_unexpected(&p->lexer, "too many targets in one assignment");
        }
    }
    expect(p, '=');
    parse_exprs(p, node, &node->list2);
    return node;
}

static struct weir_lua_node *parse_return(struct weir_parser *p) {
    struct weir_lua_node *node = new_node(p, LUA_Return);
    next(p);
    if (!block_ends(p) && kind(p) != ';') {
        parse_exprs(p, node, &node->list);
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
static struct weir_lua_node *parse_block(struct weir_parser *p) {
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
    set_a(p, chunk, parse_block(p));
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
