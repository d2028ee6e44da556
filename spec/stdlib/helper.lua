-- Lets the stdlib run under plain luajit: a searcher for weir.* modules, the shared headers, and the
-- value functions of runtime/core compiled into a library once a run. Under `weir test` all of that is
-- there already and this file does nothing.
local ffi = require "ffi"

if pcall(require, "weir.native") then
    return require "weir.native"
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

for _, name in ipairs { "column", "value", "call", "native" } do
    ffi.cdef(assert(read(root .. "/runtime/abi/" .. name .. ".h")))
end

local function library()
    local out = os.tmpname()
    local sources = {}
    for _, name in ipairs { "decimal", "number", "time", "zone" } do
        sources[#sources + 1] = ("%s/runtime/core/%s.c"):format(root, name)
    end
    local stub = os.tmpname() .. ".c"
    local file = assert(io.open(stub, "wb"))
    file:write [[
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "abi/abi.h"
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
int weir_out_set_null(struct weir_out *o, int32_t row) {
    free(o->text[row]);
    o->text[row] = NULL;
    return 0;
}
]]
    file:close()
    local command = ("cc -O2 -fPIC -shared -D_GNU_SOURCE -I%s/runtime -o %s.so %s %s -lm 2>%s.log"):format(
        root, out, stub, table.concat(sources, " "), out)
    if os.execute(command) ~= 0 then
        error("cannot build the value functions for the specs:\n" .. tostring(read(out .. ".log")))
    end
    local loaded = ffi.load(out .. ".so", true)
    os.remove(out .. ".so")
    os.remove(out .. ".log")
    os.remove(out)
    os.remove(stub)
    return loaded
end
_G.__weir_spec_library = library()
ffi.cdef [[
struct weir_out *test_out(void);
const char *test_out_text(struct weir_out *o, int32_t row);
]]

local native = {
    abi_version = 1,
    embedded = function(name)
        return assert(read(root .. "/runtime/" .. name))
    end,
    read_file = function(path)
        return read(path)
    end,
    getenv = os.getenv,
    json_quote = function(text)
        return '"' .. text:gsub('[%c"\\]', function(c)
            return ("\\u%04x"):format(c:byte())
        end) .. '"'
    end,
    string = string,
    math = math,
    pow = math.pow,
    random = function()
        return 0.5
    end,
    hash = function(text)
        local h = 0
        for i = 1, #text do
            h = (h * 31 + text:byte(i)) % 4294967296
        end
        return ("%032x"):format(h)
    end,
}
package.loaded["weir.native"] = native
return native
