/* Scope resolution while parsing: one binding pointer a name makes look-ups constant-time, so that
 * hostile files cannot make it quadratic. */
#include "script/scope.h"

void weir_scope_open_function(struct weir_parser *p, struct weir_lua_function *function) {
    memset(function, 0, sizeof(*function));
    function->outer = p->function;
    function->upvalues = weir_lexer_alloc(&p->lexer, sizeof(*function->upvalues));
    function->globals = weir_lexer_alloc(&p->lexer, sizeof(*function->globals));
    p->function = function;
}

void weir_scope_close_function(struct weir_parser *p) {
    struct weir_lua_function *function = p->function;
    for (struct weir_lua_reference *r = function->globals->first; r != NULL; r = r->next) {
        r->name->globals = r->outer;
    }
    p->function = function->outer;
}

void weir_scope_open_block(struct weir_parser *p, struct weir_lua_block *block, bool is_loop) {
    memset(block, 0, sizeof(*block));
    block->outer = p->function->block;
    block->locals = p->function->locals;
    block->is_loop = is_loop;
    p->function->block = block;
}

static struct weir_lua_jump *find_jump(struct weir_lua_jump *list,
                                       const struct weir_lua_name *name) {
    while (list != NULL && list->name != name) {
        list = list->next;
    }
    return list;
}

void weir_scope_close_block(struct weir_parser *p) {
    struct weir_lua_function *f = p->function;
    struct weir_lua_block *block = f->block;
    int32_t locals_outside = block->locals != NULL ? block->locals->index + 1 : 0;
    struct weir_lua_jump *pending = block->gotos;
    while (pending != NULL) {
        struct weir_lua_jump *jump = pending;
        pending = jump->next;
        const struct weir_lua_jump *label = find_jump(block->labels, jump->name);
        const struct weir_lua_node *node = jump->node;
        if (label != NULL) {
            if (label->locals > jump->locals) {
                weir_lexer_fail(&p->lexer, WEIR_E_SYNTAX, (size_t)node->first, node->line,
                                node->col, "<goto %.*s> jumps into the scope of a local",
                                (int)(node->length < 60 ? node->length : 60), node->text);
            }
        } else if (block->outer == NULL) {
            weir_lexer_fail(&p->lexer, WEIR_E_SYNTAX, (size_t)node->first, node->line, node->col,
                            "label '%.*s' is not visible here",
                            (int)(node->length < 60 ? node->length : 60), node->text);
        } else {
            if (jump->locals > locals_outside) {
                jump->locals = locals_outside;
            }
            jump->next = block->outer->gotos;
            block->outer->gotos = jump;
        }
    }
    while (f->locals != block->locals) {
        f->locals->name->binding = f->locals->shadowed;
        f->locals = f->locals->outer;
        f->local_count--;
    }
    f->block = block->outer;
}

void weir_scope_declare(struct weir_parser *p, struct weir_lua_name *name) {
    struct weir_lua_function *f = p->function;
    if (f->local_count >= LOCALS_MAX) {
        weir_lexer_fail(&p->lexer, WEIR_E_SYNTAX, (size_t)p->lexer.now.first, p->lexer.now.line,
                        p->lexer.now.col, "a function may have %d locals at most", LOCALS_MAX);
    }
    struct weir_lua_variable *v = weir_lexer_alloc(&p->lexer, sizeof(*v));
    v->name = name;
    v->shadowed = name->binding;
    v->outer = f->locals;
    v->function = f;
    v->index = f->local_count++;
    name->binding = v;
    f->locals = v;
}

static struct weir_lua_reference *add_reference(struct weir_parser *p,
                                                struct weir_lua_references *list,
                                                const struct weir_lua_node *node,
                                                struct weir_lua_name *name) {
    struct weir_lua_reference *r = weir_lexer_alloc(&p->lexer, sizeof(*r));
    r->name = name;
    r->line = node->line;
    r->col = node->col;
    if (list->last != NULL) {
        list->last->next = r;
    } else {
        list->first = r;
    }
    list->last = r;
    list->count++;
    return r;
}

static struct weir_lua_reference *find_upvalue(const struct weir_lua_function *f,
                                               const struct weir_lua_variable *v) {
    struct weir_lua_reference *r = f->upvalues->first;
    while (r != NULL && r->variable != v) {
        r = r->next;
    }
    return r;
}

static void use_global(struct weir_parser *p, const struct weir_lua_node *node,
                       struct weir_lua_name *name) {
    /* name->globals lists the open functions that use it, deepest first; whoever is inside one that
     * does not must be added, outermost first. */
    struct weir_lua_function *known = name->globals != NULL ? name->globals->function : NULL;
    struct weir_lua_function *missing[WEIR_LUA_DEPTH_MAX + 2];
    int count = 0;
    for (struct weir_lua_function *f = p->function; f != known; f = f->outer) {
        missing[count++] = f;
    }
    while (count > 0) {
        struct weir_lua_function *f = missing[--count];
        struct weir_lua_reference *r = add_reference(p, f->globals, node, name);
        r->function = f;
        r->outer = name->globals;
        name->globals = r;
    }
}

void weir_scope_use(struct weir_parser *p, struct weir_lua_node *node, struct weir_lua_name *name) {
    struct weir_lua_variable *v = name->binding;
    node->variable = v;
    if (v == NULL) {
        node->flags = SCOPE_GLOBAL;
        use_global(p, node, name);
        return;
    }
    node->flags = v->function == p->function ? SCOPE_LOCAL : SCOPE_UPVALUE;
    for (struct weir_lua_function *f = p->function; f != v->function; f = f->outer) {
        if (find_upvalue(f, v) != NULL) {
            return; /* then every function outside has it too */
        }
        if (f->upvalues->count >= UPVALUES_MAX) {
            weir_lexer_fail(&p->lexer, WEIR_E_SYNTAX, (size_t)node->first, node->line, node->col,
                            "a function may use %d outer locals at most", UPVALUES_MAX);
        }
        struct weir_lua_reference *r = add_reference(p, f->upvalues, node, name);
        r->variable = v;
        r->function = f;
    }
}

static void mark_assigned(struct weir_lua_reference *r, const struct weir_lua_node *node) {
    if (!r->assigned) {
        r->assigned = true;
        r->line = node->line;
        r->col = node->col;
    }
}

void weir_scope_assign(struct weir_parser *p, const struct weir_lua_node *node,
                       const struct weir_lua_name *name) {
    struct weir_lua_variable *v = node->variable;
    if (v == NULL) {
        for (struct weir_lua_reference *r = name->globals; r != NULL; r = r->outer) {
            mark_assigned(r, node);
        }
        return;
    }
    for (struct weir_lua_function *f = p->function; f != v->function; f = f->outer) {
        mark_assigned(find_upvalue(f, v), node);
    }
}

static struct weir_lua_jump *add_jump(struct weir_parser *p, struct weir_lua_node *node,
                                      struct weir_lua_name *name) {
    if (++p->function->jump_count > JUMPS_MAX) {
        weir_lexer_fail(&p->lexer, WEIR_E_SYNTAX, (size_t)node->first, node->line, node->col,
                        "a function may have %d labels and gotos at most", JUMPS_MAX);
    }
    struct weir_lua_jump *jump = weir_lexer_alloc(&p->lexer, sizeof(*jump));
    jump->name = name;
    jump->node = node;
    jump->locals = p->function->local_count;
    return jump;
}

void weir_scope_goto(struct weir_parser *p, struct weir_lua_node *node,
                     struct weir_lua_name *name) {
    struct weir_lua_jump *jump = add_jump(p, node, name);
    jump->next = p->function->block->gotos;
    p->function->block->gotos = jump;
}

void weir_scope_label(struct weir_parser *p, struct weir_lua_node *node,
                      struct weir_lua_name *name) {
    if (find_jump(p->function->block->labels, name) != NULL) {
        weir_lexer_fail(&p->lexer, WEIR_E_SYNTAX, (size_t)node->first, node->line, node->col,
                        "label '%.*s' is defined twice",
                        (int)(name->length < 60 ? name->length : 60), name->text);
    }
    struct weir_lua_jump *jump = add_jump(p, node, name);
    jump->next = p->function->block->labels;
    p->function->block->labels = jump;
}

void weir_scope_label_at_end(struct weir_parser *p, struct weir_lua_name *name) {
    struct weir_lua_block *block = p->function->block;
    struct weir_lua_jump *label = find_jump(block->labels, name);
    label->locals = block->locals != NULL ? block->locals->index + 1 : 0;
}
