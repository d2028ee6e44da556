-- Lets the stdlib run under plain luajit: a searcher for weir.* modules, the shared headers, and the
-- natives of runtime/script and runtime/core compiled into a library once a run. Under `weir test` all of that is
-- there already and this file does nothing.
local ffi = require "ffi"

if pcall(require, "weir.native") then
    return require "weir.native"
end

-- Each spec file begins without the modules of those before it, but what was declared and loaded for C stays.
local kept = debug.getregistry()
if kept["weir.spec"] then
    package.loaded["weir.native"] = kept["weir.spec"]
    return kept["weir.spec"]
end

local root = os.getenv "WEIR_SOURCE_DIR" or "."

local function read(path)
    local file, why = io.open(path, "rb")
    if not file then
        return nil, why
    end
    local text = file:read "*a"
    file:close()
    return text
end

table.insert(package.loaders, 2, function(name)
    local rest = name:match "^weir%.(.+)$"
    local path = name == "weir" and "weir.lua" or rest and rest:gsub("%.", "/") .. ".lua"
    if not path then
        return nil
    end
    local text = read(root .. "/lua/stdlib/" .. path)
    if not text then
        return "\n\tno stdlib module " .. path
    end
    return assert(loadstring(text, "@lua/stdlib/" .. path))
end)

for _, name in ipairs { "column", "value", "call", "rule", "native" } do
    ffi.cdef(assert(read(root .. "/runtime/abi/" .. name .. ".h")))
end

local function library()
    local out = os.tmpname()
    local sources = {}
    for name in ("core/decimal core/number core/time core/zone core/block core/region core/buffer core/error batch/schema decode/avsc script/lexer script/parser script/parser_expr script/scope "
        .. "script/instrument script/source_lib script/host_lib script/schema_lib script/string_lib script/pattern"):gmatch "%S+" do
        sources[#sources + 1] = ("%s/runtime/%s.c"):format(root, name)
    end
    local stub = out .. ".c"
    local file = assert(io.open(stub, "wb"))
    file:write [[
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>
#include "decode/avsc.h"
#include "script/internal.h"
static struct weir_script script = {.options = {.pattern_steps = 1000000}};
struct weir_script *weir_script_of(lua_State *lua) {
    (void)lua;
    return &script;
}
int luaopen_natives(lua_State *lua);
int luaopen_natives(lua_State *lua) {
    lua_newtable(lua);
    weir_script_open_host(lua);
    weir_script_open_schemas(lua);
    weir_script_open_source(lua);
    weir_script_open_strings(lua);
    return 1;
}
struct weir_schema; /* only files are read here: the sources stay outside */
struct weir_schema *weir_source_own_schema(const char *kind);
struct weir_schema *weir_source_own_schema(const char *kind) {
    (void)kind;
    return NULL;
}
/* No source of the specs adds columns. */
int weir_source_columns(const char *kind, const char *options_json, struct weir_schema *decoded,
                        struct weir_schema **out, struct weir_error *err) {
    (void)kind, (void)options_json, (void)err;
    *out = decoded;
    return WEIR_OK;
}
/* As decode/registry.c does it for decoders with a schema file. */
int weir_decoder_columns(const char *kind, const char *options_json, const char *source_kind,
                         const char *source_options_json, struct weir_schema **out,
                         struct weir_error *err) {
    (void)kind, (void)source_kind, (void)source_options_json;
    json_t *options = json_loads(options_json, 0, NULL);
    struct weir_avsc avsc = {0};
    int rc = weir_avsc_load(json_string_value(json_object_get(options, "schema")), &avsc, err);
    if (rc == WEIR_OK) {
        *out = weir_schema_ref(avsc.schema);
        weir_avsc_fini(&avsc);
    }
    json_decref(options);
    return rc;
}
struct weir_out { char *text[4096]; int64_t length[4096]; };
struct weir_out *test_out(void);
struct weir_out *test_out(void) { return calloc(1, sizeof(struct weir_out)); }
const char *test_out_text(struct weir_out *o, int32_t row);
const char *test_out_text(struct weir_out *o, int32_t row) { return o->text[row]; }
int weir_out_set_bytes(struct weir_out *o, int32_t row, const char *bytes, int64_t length) {
    free(o->text[row]);
    o->text[row] = malloc((size_t)length + 1);
    memcpy(o->text[row], bytes, (size_t)length);
    o->text[row][length] = 0;
    return 0;
}
/* Nested columns are tested in the runtime. */
struct weir_nested *weir_out_nested(struct weir_out *o, int32_t row) {
    (void)o, (void)row;
    return NULL;
}
int weir_out_set_null(struct weir_out *o, int32_t row) {
    free(o->text[row]);
    o->text[row] = NULL;
    return 0;
}
]]
    file:close()
    local command = ("cc -O1 -fPIC -shared -D_GNU_SOURCE -I%s/runtime $(pkg-config --cflags luajit) -o %s.so %s %s -lm -ljansson -lxxhash 2>%s.log"):format(
        root, out, stub, table.concat(sources, " "), out)
    if os.execute(command) ~= 0 then
        error("cannot build the value functions for the specs:\n" .. tostring(read(out .. ".log")))
    end
    local loaded = ffi.load(out .. ".so", true)
    local natives = assert(package.loadlib(out .. ".so", "luaopen_natives"))()
    os.remove(out .. ".so")
    os.remove(out .. ".log")
    os.remove(out)
    os.remove(stub)
    return natives, loaded
end
local native
native, _G.__weir_spec_library = library()
ffi.cdef [[
struct weir_out *test_out(void);
const char *test_out_text(struct weir_out *o, int32_t row);
]]

-- The sources stay outside the library; the generator's columns stand in its own file.
function native.source_columns(kind)
    assert(kind == "generator")
    local literal = read(root .. "/runtime/source/generator.c"):match 'avsc_text%[%] =%s*(".-");'
    local path = os.tmpname()
    local file = assert(io.open(path, "w"))
    file:write((literal:gsub('"%s*\n%s*"', ""):sub(2, -2):gsub("\\n", "\n"):gsub('\\"', '"')))
    file:close()
    local columns, why = native.decoder_columns("json", ('{"schema":"%s"}'):format(path), "files", "{}")
    os.remove(path)
    return assert(columns, why)
end

-- Of the tables in C, as far as the specs go.
function native.connectors()
    local function options(form, names)
        local list = {}
        for name in names:gmatch "%S+" do
            list[#list + 1] = { name = name, form = form, required = form == "path" or form == "file", example = '"x"' }
        end
        return list
    end
    return {
        sources = {
            files = { needs_decoder = true, options = options("path", "path") },
            generator = { needs_decoder = false, options = options("number", "seed count rate per_second defects late_s") },
        },
        decoders = { json = { options = options("file", "schema") } },
        sinks = {},
        stores = { delta = { options = options("text", "endpoint") } },
    }
end

native.abi_version = 1
native.math, native.pow = math, math.pow

package.loaded["weir.native"], kept["weir.spec"] = native, native
return native
