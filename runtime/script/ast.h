#pragma once
/* The AST as the room's own files see it: one struct for all nodes, children in a few slots whose
 * meaning the tag gives. NATIVE.md names them for Lua. Everything lies in the AST's arena. */
#include "script/lexer.h"

/* X(tag, a, b, c, list, list2): names of the slots in Lua, NULL where the tag has none. */
#define WEIR_LUA_TAGS(X)                                                                           \
    X(Chunk, "body", NULL, NULL, NULL, NULL)                                                       \
    X(Block, NULL, NULL, NULL, "", NULL)                                                           \
    X(Local, NULL, NULL, NULL, "names", "values")                                                  \
    X(Assign, NULL, NULL, NULL, "targets", "values")                                               \
    X(CallStat, "call", NULL, NULL, NULL, NULL)                                                    \
    X(Do, "body", NULL, NULL, NULL, NULL)                                                          \
    X(While, "cond", "body", NULL, NULL, NULL)                                                     \
    X(Repeat, "cond", "body", NULL, NULL, NULL)                                                    \
    X(If, "orelse", NULL, NULL, "clauses", NULL)                                                   \
    X(Clause, "cond", "body", NULL, NULL, NULL)                                                    \
    X(Fornum, "var", "body", NULL, "range", NULL)                                                  \
    X(Forin, "body", NULL, NULL, "names", "values")                                                \
    X(Function, "target", "func", NULL, NULL, NULL)                                                \
    X(LocalFunction, "name", "func", NULL, NULL, NULL)                                             \
    X(Return, NULL, NULL, NULL, "values", NULL)                                                    \
    X(Break, NULL, NULL, NULL, NULL, NULL)                                                         \
    X(Goto, NULL, NULL, NULL, NULL, NULL)                                                          \
    X(Label, NULL, NULL, NULL, NULL, NULL)                                                         \
    X(Nil, NULL, NULL, NULL, NULL, NULL)                                                           \
    X(True, NULL, NULL, NULL, NULL, NULL)                                                          \
    X(False, NULL, NULL, NULL, NULL, NULL)                                                         \
    X(Number, NULL, NULL, NULL, NULL, NULL)                                                        \
    X(String, NULL, NULL, NULL, NULL, NULL)                                                        \
    X(Vararg, NULL, NULL, NULL, NULL, NULL)                                                        \
    X(FunctionExpr, "body", NULL, NULL, "params", NULL)                                            \
    X(Name, NULL, NULL, NULL, NULL, NULL)                                                          \
    X(Index, "object", "key", NULL, NULL, NULL)                                                    \
    X(Call, "func", NULL, NULL, "args", NULL)                                                      \
    X(MethodCall, "object", NULL, NULL, "args", NULL)                                              \
    X(Table, NULL, NULL, NULL, "fields", NULL)                                                     \
    X(Field, "key", "value", NULL, NULL, NULL)                                                     \
    X(Binop, "left", "right", NULL, NULL, NULL)                                                    \
    X(Unop, "operand", NULL, NULL, NULL, NULL)                                                     \
    X(Paren, "expr", NULL, NULL, NULL, NULL)

enum weir_lua_tag {
#define X(tag, a, b, c, l, l2) LUA_##tag,
    WEIR_LUA_TAGS(X)
#undef X
        LUA_TAG_COUNT_
};

enum weir_lua_scope { SCOPE_LOCAL, SCOPE_UPVALUE, SCOPE_GLOBAL };
enum weir_lua_sugar { SUGAR_NONE, SUGAR_TABLE, SUGAR_STRING };
enum weir_lua_field { FIELD_NAMED, FIELD_INDEXED, FIELD_POSITIONAL };

struct weir_lua_node;

struct weir_lua_list {
    struct weir_lua_node *first; /* chained by node->next */
    struct weir_lua_node *last;
    int32_t count;
};

/* A use of an upvalue or global by one function (or functions inside it). */
struct weir_lua_reference {
    struct weir_lua_reference *next;  /* in the function's list, first use first */
    struct weir_lua_reference *outer; /* globals: the enclosing function's, while parsing */
    struct weir_lua_name *name;
    struct weir_lua_variable *variable; /* upvalues */
    struct weir_lua_function *function;
    int32_t line;
    int32_t col;
    bool assigned;
};

struct weir_lua_references {
    struct weir_lua_reference *first;
    struct weir_lua_reference *last;
    int32_t count;
};

struct weir_lua_node {
    uint8_t tag;   /* enum weir_lua_tag */
    uint8_t flags; /* Name: scope; Call: sugar; Number: suffix; Field: kind; Index: dot; Function:
                      method; FunctionExpr: vararg; String: long; Label: a semicolon follows */
    bool in_function; /* Table: inside a function body */
    int32_t height;   /* of the tree below, capped so that walkers may recurse */
    int32_t line;
    int32_t col;
    int32_t first; /* byte offsets from 0, last inclusive */
    int32_t last;
    int32_t op;       /* Binop, Unop: token kind */
    int32_t op_first; /* Binop, Unop: its byte offset; calls: right behind what is called */
    int32_t id;       /* Table outside functions, from 1 */
    struct weir_lua_node *next;
    struct weir_lua_node *a;
    struct weir_lua_node *b;
    struct weir_lua_list list;
    struct weir_lua_list list2;
    const char *text; /* Name, String, Number, Goto, Label, MethodCall, Field: bytes */
    size_t length;
    double number;
    struct weir_lua_variable *variable;   /* Name: what it is bound to; NULL global */
    struct weir_lua_references *upvalues; /* Chunk, FunctionExpr */
    struct weir_lua_references *globals;
};

struct weir_lua_ast {
    struct weir_arena arena;
    const char *source;
    size_t length;
    struct weir_lua_node *root;
    int32_t node_count;
    int32_t table_count; /* ids given */
};

extern const char *const weir_lua_tag_names[LUA_TAG_COUNT_];
