#pragma once
/* Who a name is: locals, upvalues, globals; gotos and labels. Internal to the parser. */
#include "script/ast.h"

#define LOCALS_MAX 200 /* LuaJIT's own limits a function */
#define UPVALUES_MAX 60
#define JUMPS_MAX 1000

struct weir_lua_variable {
    struct weir_lua_name *name;
    struct weir_lua_variable *shadowed; /* binding of the name outside this variable's scope */
    struct weir_lua_variable *outer;    /* local declared before this one in the function */
    struct weir_lua_function *function;
    int32_t index; /* locals alive in the function when it was declared */
};

struct weir_lua_jump {
    struct weir_lua_jump *next;
    struct weir_lua_name *name;
    struct weir_lua_node *node; /* its Goto or Label */
    int32_t locals;             /* alive there */
};

struct weir_lua_block {
    struct weir_lua_block *outer;
    struct weir_lua_variable *locals; /* the function's newest local at entry */
    struct weir_lua_jump *labels;
    struct weir_lua_jump *gotos; /* not resolved yet, from this block and closed ones inside */
    bool is_loop;
};

struct weir_lua_function {
    struct weir_lua_function *outer;
    struct weir_lua_block *block;
    struct weir_lua_variable *locals; /* newest first */
    int32_t local_count;
    bool is_vararg;
    int32_t jump_count; /* labels and gotos: capped, they are searched in a line */
    struct weir_lua_references *upvalues;
    struct weir_lua_references *globals;
};

struct weir_parser {
    struct weir_lexer lexer;
    struct weir_lua_ast *ast;
    struct weir_lua_function *function;
    int32_t depth;
};

void weir_scope_open_function(struct weir_parser *p, struct weir_lua_function *function);
void weir_scope_close_function(struct weir_parser *p);
void weir_scope_open_block(struct weir_parser *p, struct weir_lua_block *block, bool is_loop);
void weir_scope_close_block(struct weir_parser *p);
void weir_scope_declare(struct weir_parser *p, struct weir_lua_name *name);
/* Binds a Name node and notes the use in every function between. */
void weir_scope_use(struct weir_parser *p, struct weir_lua_node *node, struct weir_lua_name *name);
void weir_scope_assign(struct weir_parser *p, const struct weir_lua_node *node,
                       const struct weir_lua_name *name);
void weir_scope_goto(struct weir_parser *p, struct weir_lua_node *node, struct weir_lua_name *name);
/* at_end: nothing follows the label in its block, so locals declared before it do not matter. */
void weir_scope_label(struct weir_parser *p, struct weir_lua_node *node,
                      struct weir_lua_name *name);
void weir_scope_label_at_end(struct weir_parser *p, struct weir_lua_name *name);
