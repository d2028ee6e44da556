-- Compares runtime/abi/*.h as C sees them with what LuaJIT's ffi.cdef makes of the same bytes:
-- every struct's size, every field's offset and size, every enum value; and asks the binary for
-- every function they declare. Prints TAP.
-- usage: luajit tests/abi/abi_test.lua ROOT BINARY [CC]
local ffi = require "ffi"

local root, binary, cc = arg[1], arg[2], arg[3] or os.getenv "CC" or "cc"
if not (root and binary) then
    io.stderr:write "usage: luajit tests/abi/abi_test.lua ROOT BINARY [CC]\n"
    os.exit(2)
end

local count, failed = 0, 0
local function check(ok, name, detail)
    count = count + 1
    if not ok then
        failed = failed + 1
    end
    print(("%s %d - %s"):format(ok and "ok" or "not ok", count, name))
    if not ok and detail then
        print("# " .. detail)
    end
end

local function read(path)
    local file = assert(io.open(path, "rb"))
    local text = file:read "*a"
    file:close()
    return text
end

local function command(line)
    local pipe = assert(io.popen(line))
    local text = pipe:read "*a"
    return text, pipe:close()
end

-- What a header declares: { structs = { {name, fields} }, enums = { names }, functions = { names } }.
-- The headers keep to one declarator a line; anything else is an error here, not a silent miss.
local function parse(text)
    local found = { structs = {}, enums = {}, functions = {} }
    text = text:gsub("/%*.-%*/", " ")
    assert(not text:find "#", "a shared header has no preprocessor lines")
    text = text:gsub("struct%s+([%w_]+)%s*(%b{})%s*;", function(name, body)
        local fields = {}
        for statement in body:sub(2, -2):gmatch "([^;]+);" do
            assert(not statement:find "[{},]", "one plain declarator a field: " .. statement)
            local field = statement:match "%(%s*%*%s*([%w_]+)%s*%)" or statement:match "([%w_]+)%s*%b[]%s*$"
                or statement:match "([%w_]+)%s*$"
            fields[#fields + 1] = assert(field, "unreadable field: " .. statement)
        end
        found.structs[#found.structs + 1] = { name = name, fields = fields }
        return " "
    end)
    text = text:gsub("enum%s+[%w_]*%s*(%b{})%s*;", function(body)
        for name in body:gmatch "([%w_]+)%s*=?[^,}]*[,}]" do
            found.enums[#found.enums + 1] = name
        end
        return " "
    end)
    for name in text:gmatch "([%w_]+)%s*%b()%s*;" do
        found.functions[#found.functions + 1] = name
    end
    return found
end

-- One "what value" line for each fact, from a C program generated for the purpose.
local function seen_by_c(found, include)
    local lines = { "#include <stdint.h>", "#include <stddef.h>", "#include <stdio.h>", include, "int main(void) {" }
    local function fact(key, expression)
        lines[#lines + 1] = ('printf("%s %%lld\\n", (long long)(%s));'):format(key, expression)
    end
    for _, struct in ipairs(found.structs) do
        fact("sizeof:" .. struct.name, ("sizeof(struct %s)"):format(struct.name))
        for _, field in ipairs(struct.fields) do
            local key = struct.name .. "." .. field
            fact("offset:" .. key, ("offsetof(struct %s, %s)"):format(struct.name, field))
            fact("size:" .. key, ("sizeof(((struct %s *)0)->%s)"):format(struct.name, field))
        end
    end
    for _, name in ipairs(found.enums) do
        fact("enum:" .. name, name)
    end
    lines[#lines + 1] = "return 0; }"
    local base = os.tmpname()
    local file = assert(io.open(base .. ".c", "w"))
    file:write(table.concat(lines, "\n"), "\n")
    file:close()
    local log = command(("%s -I'%s/runtime' -o %s.out %s.c 2>&1"):format(cc, root, base, base))
    local out, ok = command(base .. ".out")
    os.remove(base)
    os.remove(base .. ".c")
    os.remove(base .. ".out")
    assert(ok, "the generated C program did not build or run: " .. log)
    local facts = {}
    for key, value in out:gmatch "(%S+) (%-?%d+)" do
        facts[key] = tonumber(value)
    end
    return facts
end

local function seen_by_lua(found)
    local facts = {}
    for _, struct in ipairs(found.structs) do
        local ctype = ffi.typeof("struct " .. struct.name)
        facts["sizeof:" .. struct.name] = ffi.sizeof(ctype)
        for _, field in ipairs(struct.fields) do
            local key = struct.name .. "." .. field
            facts["offset:" .. key] = ffi.offsetof(ctype, field)
        end
    end
    for _, name in ipairs(found.enums) do
        facts["enum:" .. name] = tonumber(ffi.C[name])
    end
    return facts
end

local function differences(lua, c)
    local list = {}
    for key, value in pairs(lua) do
        if c[key] ~= value then
            list[#list + 1] = ("%s is %s in LuaJIT, %s in C"):format(key, value, tostring(c[key]))
        end
    end
    table.sort(list)
    return list
end

-- The comparison itself must see a swapped pair, a widened field and a changed enum value.
ffi.cdef "struct abi_probe { int32_t a; int8_t b; int64_t c; }; enum { ABI_PROBE = 3 };"
local probe = parse "struct abi_probe { int32_t a; int8_t b; int64_t c; }; enum { ABI_PROBE = 3 };"
local probe_lua = seen_by_lua(probe)
local function probe_differs(c_text)
    return #differences(probe_lua, seen_by_c(probe, c_text)) > 0
end
check(not probe_differs "struct abi_probe { int32_t a; int8_t b; int64_t c; }; enum { ABI_PROBE = 3 };",
    "self-test: equal layouts compare equal")
check(probe_differs "struct abi_probe { int8_t b; int32_t a; int64_t c; }; enum { ABI_PROBE = 3 };",
    "self-test: swapped fields are seen")
check(probe_differs "struct abi_probe { int32_t a; int16_t b; int64_t c, d; }; enum { ABI_PROBE = 3 };",
    "self-test: a struct that grew is seen")
check(probe_differs "struct abi_probe { int32_t a; int8_t b; int64_t c; }; enum { ABI_PROBE = 4 };",
    "self-test: a changed enum value is seen")

local wrapper = read(root .. "/runtime/abi/abi.h")
local all = { structs = {}, enums = {}, functions = {} }
local function order(a, b) -- the order in which abi.h includes them, which is the order of cdef
    return (wrapper:find("abi/" .. a, 1, true) or math.huge) < (wrapper:find("abi/" .. b, 1, true) or math.huge)
end
local names = {}
for name in command(("ls '%s/runtime/abi'"):format(root)):gmatch "([%w_]+%.h)\n" do
    if name ~= "abi.h" then
        names[#names + 1] = name
    end
end
table.sort(names, order)
for _, name in ipairs(names) do
    local text = read(root .. "/runtime/abi/" .. name)
    check(wrapper:find('#include "abi/' .. name .. '"', 1, true), "abi.h includes " .. name)
    ffi.cdef(text)
    local found = parse(text)
    for kind, list in pairs(all) do
        for _, item in ipairs(found[kind]) do
            list[#list + 1] = item
        end
    end
end
check(#all.structs > 0 and #all.functions > 0, "the shared headers declare structs and functions")

local lua, c = seen_by_lua(all), seen_by_c(all, '#include "abi/abi.h"')
for _, struct in ipairs(all.structs) do
    local bad = {}
    for _, line in ipairs(differences(lua, c)) do
        if line:find(":" .. struct.name .. "[%. ]") then
            bad[#bad + 1] = line
        end
    end
    local name = ("struct %s: size and %d offsets agree"):format(struct.name, #struct.fields)
    check(#bad == 0, name, table.concat(bad, "; "))
end
local enums_bad = {}
for _, line in ipairs(differences(lua, c)) do
    if line:find "^enum:" then
        enums_bad[#enums_bad + 1] = line
    end
end
check(#enums_bad == 0, ("%d enum values agree"):format(#all.enums), table.concat(enums_bad, "; "))

local symbols = {}
for name in command(("nm -D --defined-only '%s'"):format(binary)):gmatch "%x+ T ([%w_]+)" do
    symbols[name] = true
end
for _, name in ipairs(all.functions) do
    check(symbols[name], name .. " is exported by the binary", "it is hidden, or the linker dropped the object file that defines it")
end
print("1.." .. count)
os.exit(failed == 0 and 0 or 1)
