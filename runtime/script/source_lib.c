/* native.parse, instrument, caret, load: the parser as Lua sees it. Lua may throw out of memory at
 * any push, so the AST lives in a collected userdata while it is turned into tables. */
#include "script/ast.h"
#include "script/internal.h"

#include <stdio.h>

#define AST_TYPE "weir.ast"
#define PUSH_STACK 12

struct ast_box {
    struct weir_lua_ast *ast;
    struct weir_buffer text;
    int tables; /* stack index of the id -> node table, 0 when not wanted */
};

static int box_gc(lua_State *lua) {
    struct ast_box *box = lua_touserdata(lua, 1);
    weir_lua_ast_destroy(box->ast);
    box->ast = NULL;
    weir_buffer_fini(&box->text);
    return 0;
}

static struct ast_box *new_box(lua_State *lua) {
    struct ast_box *box = lua_newuserdata(lua, sizeof(*box));
    memset(box, 0, sizeof(*box));
    weir_buffer_init(&box->text, (size_t)WEIR_LUA_SOURCE_BYTES_MAX * 4);
    if (luaL_newmetatable(lua, AST_TYPE)) {
        lua_pushcfunction(lua, box_gc);
        lua_setfield(lua, -2, "__gc");
    }
    lua_setmetatable(lua, -2);
    return box;
}

static void set_integer(lua_State *lua, const char *key, int64_t value) {
    lua_pushnumber(lua, (lua_Number)value);
    lua_setfield(lua, -2, key);
}

static void set_bytes(lua_State *lua, const char *key, const char *text, size_t length) {
    lua_pushlstring(lua, text, length);
    lua_setfield(lua, -2, key);
}

static void set_true(lua_State *lua, const char *key, bool value) {
    if (value) {
        lua_pushboolean(lua, true);
        lua_setfield(lua, -2, key);
    }
}

static void push_node(lua_State *lua, struct ast_box *box, const struct weir_lua_node *node);

static void set_node(lua_State *lua, struct ast_box *box, const char *key,
                     const struct weir_lua_node *node) {
    if (node != NULL) {
        push_node(lua, box, node);
        lua_setfield(lua, -2, key);
    }
}

/* Appends the list's nodes to the table on top. */
static void add_list(lua_State *lua, struct ast_box *box, const struct weir_lua_list *list) {
    int i = 1;
    for (const struct weir_lua_node *n = list->first; n != NULL; n = n->next) {
        push_node(lua, box, n);
        lua_rawseti(lua, -2, i++);
    }
}

static void set_list(lua_State *lua, struct ast_box *box, const char *key,
                     const struct weir_lua_list *list) {
    lua_createtable(lua, list->count, 0);
    add_list(lua, box, list);
    lua_setfield(lua, -2, key);
}

static void set_references(lua_State *lua, const char *key,
                           const struct weir_lua_references *references) {
    int i = 1;
    lua_createtable(lua, references->count, 0);
    for (const struct weir_lua_reference *r = references->first; r != NULL; r = r->next) {
        lua_createtable(lua, 0, 4);
        set_bytes(lua, "name", r->name->text, r->name->length);
        set_integer(lua, "line", r->line);
        set_integer(lua, "col", r->col);
        set_true(lua, "assigned", r->assigned);
        lua_rawseti(lua, -2, i++);
    }
    lua_setfield(lua, -2, key);
}

static void push_field(lua_State *lua, struct ast_box *box, const struct weir_lua_node *node) {
    static const char *const kinds[] = {"named", "indexed", "positional"};
    const struct weir_lua_node *key = node;
    if (node->flags == FIELD_NAMED) {
        set_bytes(lua, "key", node->text, node->length);
    } else if (node->flags == FIELD_INDEXED) {
        key = node->a;
        set_node(lua, box, "key", node->a);
    }
    lua_pushstring(lua, kinds[node->flags]);
    lua_setfield(lua, -2, "kind");
    set_integer(lua, "key_line", key->line);
    set_integer(lua, "key_col", key->col);
    set_node(lua, box, "value", node->b);
}

static void set_details(lua_State *lua, struct ast_box *box, const struct weir_lua_node *node) {
    static const char *const scopes[] = {"local", "upvalue", "global"};
    static const char *const sugars[] = {NULL, "table", "string"};
    static const char *const suffixes[] = {NULL, "LL", "ULL", "i"};
    switch (node->tag) {
    case LUA_Name:
        set_bytes(lua, "name", node->text, node->length);
        lua_pushstring(lua, scopes[node->flags]);
        lua_setfield(lua, -2, "scope");
        break;
    case LUA_Goto:
    case LUA_Label:
        set_bytes(lua, "label", node->text, node->length);
        break;
    case LUA_String:
        set_bytes(lua, "value", node->text, node->length);
        set_true(lua, "long", node->flags);
        break;
    case LUA_Number:
        set_bytes(lua, "text", box->ast->source + node->first,
                  (size_t)(node->last - node->first + 1));
        if (node->flags == SUFFIX_NONE) {
            lua_pushnumber(lua, node->number);
            lua_setfield(lua, -2, "value");
        } else {
            lua_pushstring(lua, suffixes[node->flags]);
            lua_setfield(lua, -2, "suffix");
        }
        break;
    case LUA_MethodCall:
        set_bytes(lua, "method", node->text, node->length);
        /* fallthrough */
    case LUA_Call:
        if (node->flags != SUGAR_NONE) {
            lua_pushstring(lua, sugars[node->flags]);
            lua_setfield(lua, -2, "sugar");
        }
        break;
    case LUA_Index:
        set_true(lua, "dot", node->flags);
        break;
    case LUA_Function:
        set_true(lua, "method", node->flags);
        break;
    case LUA_Binop:
    case LUA_Unop:
        lua_pushstring(lua, weir_token_text(node->op));
        lua_setfield(lua, -2, "op");
        break;
    case LUA_FunctionExpr:
        set_true(lua, "vararg", node->flags);
        /* fallthrough */
    case LUA_Chunk:
        set_references(lua, "upvalues", node->upvalues);
        set_references(lua, "globals", node->globals);
        break;
    case LUA_Fornum: {
        static const char *const bounds[] = {"from", "to", "step"};
        int i = 0;
        for (const struct weir_lua_node *n = node->list.first; n != NULL; n = n->next) {
            set_node(lua, box, bounds[i++], n);
        }
        break;
    }
    case LUA_Table:
        if (node->id != 0) {
            set_integer(lua, "id", node->id);
            if (box->tables != 0) {
                lua_pushvalue(lua, -1);
                lua_rawseti(lua, box->tables, node->id);
            }
        }
        break;
    default:
        break;
    }
}

static const struct {
    const char *a;
    const char *b;
    const char *list;
    const char *list2;
} slots[LUA_TAG_COUNT_] = {
#define X(tag, a, b, c, l, l2) {a, b, l, l2},
    WEIR_LUA_TAGS(X)
#undef X
};

/* Recurses as deep as the tree is high, which the parser caps. */
static void push_node(lua_State *lua, struct ast_box *box, const struct weir_lua_node *node) {
    luaL_checkstack(lua, PUSH_STACK, "the syntax tree is too deep");
    lua_createtable(lua, node->tag == LUA_Block ? node->list.count : 0, 8);
    lua_pushstring(lua, weir_lua_tag_names[node->tag]);
    lua_setfield(lua, -2, "tag");
    set_integer(lua, "line", node->line);
    set_integer(lua, "col", node->col);
    set_integer(lua, "first", (int64_t)node->first + 1);
    set_integer(lua, "last", (int64_t)node->last + 1);
    if (node->tag == LUA_Field) {
        push_field(lua, box, node);
        return;
    }
    set_details(lua, box, node);
    if (slots[node->tag].a != NULL) {
        set_node(lua, box, slots[node->tag].a, node->a);
    }
    if (slots[node->tag].b != NULL) {
        set_node(lua, box, slots[node->tag].b, node->b);
    }
    if (node->tag == LUA_Block) {
        add_list(lua, box, &node->list);
    } else if (slots[node->tag].list != NULL && node->tag != LUA_Fornum) {
        set_list(lua, box, slots[node->tag].list, &node->list);
    }
    if (slots[node->tag].list2 != NULL) {
        set_list(lua, box, slots[node->tag].list2, &node->list2);
    }
}

static const char *bare_chunkname(const char *chunkname) {
    return chunkname[0] == '@' || chunkname[0] == '=' ? chunkname + 1 : chunkname;
}

/* nil, problem */
static int push_problem(lua_State *lua, struct ast_box *box, int rc, const char *source,
                        size_t length, const char *chunkname,
                        const struct weir_lua_syntax_error *syntax) {
    const char *message = syntax->message[0] != '\0' ? syntax->message : weir_error_text(rc);
    lua_pushnil(lua);
    lua_createtable(lua, 0, 5);
    lua_pushstring(lua, message);
    lua_setfield(lua, -2, "message");
    set_integer(lua, "line", syntax->line);
    set_integer(lua, "column", syntax->column);
    set_integer(lua, "offset", (int64_t)syntax->offset + 1);
    weir_buffer_clear(&box->text);
    weir_buffer_printf(&box->text, "%s:%d:%d: %s\n", bare_chunkname(chunkname), syntax->line,
                       syntax->column, message);
    if (weir_source_caret(&box->text, source, length, syntax->offset) != WEIR_OK) {
        return luaL_error(lua, "out of memory");
    }
    set_bytes(lua, "text", (const char *)box->text.data, box->text.size);
    return 2;
}

/* Parses argument 1 into a box left on the stack; returns 0, or the count of nil, problem. */
static int parse_argument(lua_State *lua, struct ast_box **box) {
    size_t length;
    const char *source = luaL_checklstring(lua, 1, &length);
    const char *chunkname = luaL_optstring(lua, 2, "=input");
    struct weir_lua_syntax_error syntax;
    *box = new_box(lua);
    int rc = weir_lua_parse(source, length, &(*box)->ast, &syntax);
    if (rc != WEIR_OK) {
        return push_problem(lua, *box, rc, source, length, chunkname, &syntax);
    }
    return 0;
}

static int native_parse(lua_State *lua) {
    struct ast_box *box;
    int count = parse_argument(lua, &box);
    if (count > 0) {
        return count;
    }
    push_node(lua, box, box->ast->root);
    return 1;
}

static int native_instrument(lua_State *lua) {
    struct ast_box *box;
    int count = parse_argument(lua, &box);
    if (count > 0) {
        return count;
    }
    if (weir_lua_instrument(box->ast, &box->text) != WEIR_OK) {
        return luaL_error(lua, "out of memory");
    }
    lua_createtable(lua, box->ast->table_count, 0);
    box->tables = lua_gettop(lua);
    lua_pushlstring(lua, (const char *)box->text.data, box->text.size);
    push_node(lua, box, box->ast->root);
    lua_pushvalue(lua, box->tables);
    return 3;
}

static int native_caret(lua_State *lua) {
    size_t length;
    const char *source = luaL_checklstring(lua, 1, &length);
    lua_Integer place = luaL_checkinteger(lua, 2);
    size_t offset = place > 0 ? (size_t)place - 1 : 0;
    if (!lua_isnoneornil(lua, 3)) {
        lua_Integer column = luaL_checkinteger(lua, 3);
        offset = 0;
        for (lua_Integer line = 1; line < place && offset < length; offset++) {
            if (source[offset] == '\r' && offset + 1 < length && source[offset + 1] == '\n') {
                continue;
            }
            line += source[offset] == '\n' || source[offset] == '\r';
        }
        offset += column > 0 ? (size_t)column - 1 : 0;
    }
    struct ast_box *box = new_box(lua);
    if (weir_source_caret(&box->text, source, length, offset) != WEIR_OK) {
        return luaL_error(lua, "out of memory");
    }
    lua_pushlstring(lua, (const char *)box->text.data, box->text.size);
    return 1;
}

static int native_load(lua_State *lua) {
    size_t length;
    const char *source = luaL_checklstring(lua, 1, &length);
    const char *chunkname = luaL_optstring(lua, 2, "=input");
    luaL_checktype(lua, 3, LUA_TTABLE);
    if (length > (size_t)WEIR_LUA_SOURCE_BYTES_MAX * 2) {
        lua_pushnil(lua);
        lua_pushfstring(lua, "%s: too large for a script", bare_chunkname(chunkname));
        return 2;
    }
    if (length > 0 && source[0] == LUA_SIGNATURE[0]) {
        lua_pushnil(lua);
        lua_pushfstring(lua, "%s: compiled Lua is refused, only text is loaded",
                        bare_chunkname(chunkname));
        return 2;
    }
    if (luaL_loadbufferx(lua, source, length, chunkname, "t") != 0) {
        lua_pushnil(lua);
        lua_insert(lua, -2);
        return 2;
    }
    lua_pushvalue(lua, 3);
    lua_setfenv(lua, -2);
    return 1;
}

void weir_script_open_source(lua_State *lua) {
    static const luaL_Reg functions[] = {{"parse", native_parse},
                                         {"instrument", native_instrument},
                                         {"caret", native_caret},
                                         {"load", native_load},
                                         {NULL, NULL}};
    for (const luaL_Reg *f = functions; f->name != NULL; f++) {
        lua_pushcfunction(lua, f->func);
        lua_setfield(lua, -2, f->name);
    }
}
