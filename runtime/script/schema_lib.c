/* native.decoder_columns and native.source_columns: the columns rules are checked against, as the
 * rooms that read the data see them. */
#include <stdlib.h>
#include <string.h>

#include "core/buffer.h"
#include "decode/decoder.h"
#include "script/internal.h"
#include "source/source.h"

enum { TYPE_BYTES_MAX = 16 << 20 };

/* Owned by a userdata, so that a throw on the way leaks nothing. */
struct box {
    struct weir_schema *schema;
    struct weir_buffer type;
};

static int box_gc(lua_State *lua) {
    struct box *box = lua_touserdata(lua, 1);
    weir_schema_unref(box->schema);
    weir_buffer_fini(&box->type);
    return 0;
}

static struct box *push_box(lua_State *lua) {
    struct box *box = lua_newuserdata(lua, sizeof(*box));
    memset(box, 0, sizeof(*box));
    weir_buffer_init(&box->type, TYPE_BYTES_MAX);
    if (luaL_newmetatable(lua, "weir.schema")) {
        lua_pushcfunction(lua, box_gc);
        lua_setfield(lua, -2, "__gc");
    }
    lua_setmetatable(lua, -2);
    return box;
}

/* { { name =, type =, nullable =, default = JSON text or nil } … } */
static int push_columns(lua_State *lua, struct box *box) {
    const struct weir_schema *schema = box->schema;
    lua_createtable(lua, schema->count, 0);
    for (int32_t i = 0; i < schema->count; i++) {
        const struct weir_field *field = &schema->fields[i];
        weir_buffer_clear(&box->type);
        if (weir_field_format_type(field, &box->type) != WEIR_OK) {
            return luaL_error(lua, "out of memory for the type of %s", field->name);
        }
        lua_createtable(lua, 0, 4);
        lua_pushstring(lua, field->name);
        lua_setfield(lua, -2, "name");
        lua_pushlstring(lua, (const char *)box->type.data, box->type.size);
        lua_setfield(lua, -2, "type");
        lua_pushboolean(lua, field->nullable);
        lua_setfield(lua, -2, "nullable");
        if (field->default_json != NULL) {
            lua_pushstring(lua, field->default_json);
            lua_setfield(lua, -2, "default");
        }
        lua_rawseti(lua, -2, i + 1);
    }
    return 1;
}

/* nil, message, true where the environment is at fault, not the declaration. */
static int push_columns_or_why(lua_State *lua, struct box *box, int rc,
                               const struct weir_error *err) {
    if (rc == WEIR_OK) {
        return push_columns(lua, box);
    }
    lua_pushnil(lua);
    lua_pushstring(lua, err->message);
    lua_pushboolean(lua, rc == WEIR_E_ENVIRONMENT || rc == WEIR_E_UNAVAILABLE);
    return 3;
}

/* --- given ------------------------------------------------------------------------------------ */

static struct script_columns *find_given(struct weir_script *script, const char *source) {
    for (int32_t i = 0; i < script->column_count; i++) {
        if (strcmp(script->columns[i].source, source) == 0) {
            return &script->columns[i];
        }
    }
    return NULL;
}

int weir_script_set_columns(struct weir_script *script, const char *source,
                            struct weir_schema *columns, struct weir_error *err) {
    struct script_columns *found = find_given(script, source);
    if (found == NULL) {
        struct script_columns *grown =
            realloc(script->columns, (size_t)(script->column_count + 1) * sizeof(*grown));
        script->columns = grown != NULL ? grown : script->columns;
        char *name = grown != NULL ? strdup(source) : NULL;
        if (name == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "columns of %s: out of memory", source);
        }
        found = &script->columns[script->column_count++];
        *found = (struct script_columns){.source = name};
    }
    weir_schema_unref(found->schema);
    found->schema = columns != NULL ? weir_schema_ref(columns) : NULL;
    return WEIR_OK;
}

void weir_script_free_columns(struct weir_script *script) {
    for (int32_t i = 0; i < script->column_count; i++) {
        free(script->columns[i].source);
        weir_schema_unref(script->columns[i].schema);
    }
    free(script->columns);
}

/* (decoder, its options, the source's kind, its options, its name; options as JSON). */
static int native_decoder_columns(lua_State *lua) {
    const char *kind = luaL_checkstring(lua, 1);
    const char *options = luaL_checkstring(lua, 2);
    const char *source = luaL_checkstring(lua, 3);
    const char *source_options = luaL_checkstring(lua, 4);
    const char *name = luaL_optstring(lua, 5, "");
    struct box *box = push_box(lua);
    struct weir_error err = {0};
    struct weir_schema *decoded;
    const struct script_columns *given = find_given(weir_script_of(lua), name);
    if (given != NULL && given->schema != NULL) {
        box->schema = weir_schema_ref(given->schema);
        return push_columns(lua, box);
    }
    int rc = weir_decoder_columns(kind, options, source, source_options, &decoded, &err);
    if (rc == WEIR_OK) {
        rc = weir_source_columns(source, source_options, decoded, &box->schema, &err);
    }
    return push_columns_or_why(lua, box, rc, &err);
}

/* (kind, its options as JSON); as above. */
static int native_source_columns(lua_State *lua) {
    const char *kind = luaL_checkstring(lua, 1);
    const char *options = luaL_checkstring(lua, 2);
    struct box *box = push_box(lua);
    struct weir_error err = {0};
    int rc = weir_source_own_schema(kind, options, &box->schema, &err);
    return push_columns_or_why(lua, box, rc, &err);
}

void weir_script_open_schemas(lua_State *lua) {
    static const luaL_Reg functions[] = {{"decoder_columns", native_decoder_columns},
                                         {"source_columns", native_source_columns},
                                         {NULL, NULL}};
    for (const luaL_Reg *f = functions; f->name != NULL; f++) {
        lua_pushcfunction(lua, f->func);
        lua_setfield(lua, -2, f->name);
    }
}
