/* native.connectors: the kinds of source, decoder and sink there are and the options each takes, so
 * that a new one needs no line of Lua. */
#include "core/option.h"
#include "decode/decoder.h"
#include "script/internal.h"
#include "source/source.h"

/* { { name =, form =, required =, example =, choices = { … } } … } */
static void push_options(lua_State *lua, const struct weir_option *options) {
    lua_newtable(lua);
    for (int i = 0; options != NULL && options[i].name != NULL; i++) {
        const struct weir_option *option = &options[i];
        lua_createtable(lua, 0, 5);
        lua_pushstring(lua, option->name);
        lua_setfield(lua, -2, "name");
        lua_pushstring(lua, weir_option_form_name(option->form));
        lua_setfield(lua, -2, "form");
        lua_pushboolean(lua, option->required);
        lua_setfield(lua, -2, "required");
        if (option->example != NULL) {
            lua_pushstring(lua, option->example);
            lua_setfield(lua, -2, "example");
        }
        if (option->choices != NULL) {
            lua_newtable(lua);
            for (int c = 0; option->choices[c] != NULL; c++) {
                lua_pushstring(lua, option->choices[c]);
                lua_rawseti(lua, -2, c + 1);
            }
            lua_setfield(lua, -2, "choices");
        }
        lua_rawseti(lua, -2, i + 1);
    }
}

static int native_connectors(lua_State *lua) {
    lua_createtable(lua, 0, 3);
    lua_newtable(lua);
    const struct weir_source_vtable *source;
    for (size_t i = 0; (source = weir_source_kind(i)) != NULL; i++) {
        lua_createtable(lua, 0, 2);
        push_options(lua, source->options);
        lua_setfield(lua, -2, "options");
        lua_pushboolean(lua, source->needs_decoder);
        lua_setfield(lua, -2, "needs_decoder");
        lua_setfield(lua, -2, source->name);
    }
    lua_setfield(lua, -2, "sources");
    lua_newtable(lua);
    const struct weir_decoder_vtable *decoder;
    for (size_t i = 0; (decoder = weir_decoder_kind(i)) != NULL; i++) {
        lua_createtable(lua, 0, 1);
        push_options(lua, decoder->options);
        lua_setfield(lua, -2, "options");
        lua_setfield(lua, -2, decoder->name);
    }
    lua_setfield(lua, -2, "decoders");
    lua_newtable(lua);
    size_t count;
    const struct weir_connector *sinks = weir_sink_connectors(&count);
    for (size_t i = 0; i < count; i++) {
        lua_createtable(lua, 0, 1);
        push_options(lua, sinks[i].options);
        lua_setfield(lua, -2, "options");
        lua_setfield(lua, -2, sinks[i].kind);
    }
    lua_setfield(lua, -2, "sinks");
    lua_newtable(lua);
    lua_createtable(lua, 0, 1);
    push_options(lua, weir_storage_options());
    lua_setfield(lua, -2, "options");
    lua_setfield(lua, -2, "delta");
    lua_setfield(lua, -2, "stores");
    return 1;
}

void weir_script_open_connectors(lua_State *lua) {
    lua_pushcfunction(lua, native_connectors);
    lua_setfield(lua, -2, "connectors");
}
