-- Writers of list, struct and map values: what a rule assigns to a column of such a type, a table or a
-- view of the input, goes part by part into the growing column (runtime/script/nested.h). One function
-- is generated for each part of a type, so that `out.items = { … }` compiles to appends without a
-- dispatch on types. An error names the part: `items[3].price: expected decimal(10,2), got string`.
local ffi = require "ffi"
local row = require "weir.internal.row"
local value = require "weir.internal.value"

local format, floor, tostring, type, next, rawget = string.format, math.floor, tostring, type, next, rawget

local nested = {}

-- ---------------------------------------------------------------- places

-- Where in a value a writer is: a text with the running index of each list and the key of each map in
-- it. Made a text only when something is wrong; until then an index costs one store.
local Place = {}
Place.__index = Place
Place.__tostring = function(place)
    local parts = {}
    for i, part in ipairs(place.parts) do
        if type(part) == "string" then
            parts[i] = part
        elseif part.map then
            local key = place.at[part.depth]
            parts[i] = type(key) == "string" and format("[%q]", key) or format("[%s]", tostring(key))
        else
            parts[i] = format("[%d]", place.at[part.depth])
        end
    end
    return table.concat(parts)
end

local function below(place, part)
    local parts = {}
    for i, known in ipairs(place.parts) do
        parts[i] = known
    end
    parts[#parts + 1] = part
    return setmetatable({ parts = parts, at = place.at }, Place)
end

-- ---------------------------------------------------------------- what the writers call

local blame -- codegen's: throws with the place in the rule's file

local function describe(x)
    return type(x) == "table" and "a table" or value.kind(x)
end

local function refuse(x, place, type_text)
    blame(format("%s: expected %s, got %s", tostring(place), type_text, describe(x)))
end

local function full(place)
    blame(format("%s: the text is not valid UTF-8, or the batch holds too much", tostring(place)))
end

local function keyless(place)
    blame(format("%s: the key of a map is not null", tostring(place)))
end

-- How many elements: of a list of the input, or of a table. A table says by `n` that it has nulls in it.
local function length_of(v, View, place, type_text)
    if type(v) == "table" then
        local n = rawget(v, "n")
        if n == nil then
            n = #v
            if n == 0 and next(v) ~= nil then
                blame(format("%s: expected %s, got a table with names", tostring(place), type_text))
            end
            return n
        elseif type(n) == "number" and n >= 0 and n == floor(n) and n < 2147483648 then
            return n
        end
        blame(format("%s: `n` says how many elements a list has, nulls counted", tostring(place)))
    elseif ffi.istype(View, v) or row.view_kind(v) == "list" then
        return #v
    end
    return refuse(v, place, type_text)
end

-- A struct is a table of no other names, or a struct of the input.
local function fields_of(v, View, allowed, place, type_text)
    if type(v) == "table" then
        for name in next, v do
            if not allowed[name] then
                blame(format("%s: %s has no field `%s`", tostring(place), type_text, tostring(name)))
            end
        end
    elseif not ffi.istype(View, v) and row.view_kind(v) ~= "struct" then
        refuse(v, place, type_text)
    end
end

-- Keys as they count for order: numbers before texts, and what is equal beside each other.
local function before(a, b)
    local x, y = a.order, b.order
    if type(x) == type(y) then
        return x < y
    end
    return type(x) == "number"
end

-- A key as key(…) makes it of a number too long for Lua's.
local function number_key(kind, k)
    if type(k) == "string" and (kind == "int64" or kind == "decimal") then
        local ok, made = pcall(value.decimal, k)
        return ok and made or k
    end
    return k
end

-- The entries of a map, { key =, value = } in order of their keys, so that no result depends on how a
-- table hashes. Not compiled: `next` goes by where a table keeps its entries.
local function entries_of(v, t, place)
    local entries = {}
    if type(v) == "table" then
        for k, item in next, v do
            local key = number_key(t.key.kind, k)
            local order = type(key) == "number" and key or tostring(key)
            entries[#entries + 1] = { key = key, value = item, order = order }
        end
        table.sort(entries, before)
        for i = 2, #entries do
            if entries[i].order == entries[i - 1].order then
                blame(format("%s: the key %s comes twice", tostring(place), tostring(entries[i].order)))
            end
        end
    elseif row.view_kind(v) == "map" then
        row.map_entries(v, entries)
    else
        refuse(v, place, t.text)
    end
    return entries
end

local C = ffi.C
local called = { -- resolved here: the JIT calls no symbol it has not seen
    null = C.weir_nested_null, int = C.weir_nested_int, double = C.weir_nested_double, bool = C.weir_nested_bool,
    decimal = C.weir_nested_decimal, bytes = C.weir_nested_bytes, finish = C.weir_nested_end, child = C.weir_nested_child,
    refuse = refuse, full = full, keyless = keyless, length_of = length_of, fields_of = fields_of, entries_of = entries_of,
}
local names = {}
for name in pairs(called) do
    names[#names + 1] = name
end
table.sort(names)
local prologue
do
    local values = {}
    for i, name in ipairs(names) do
        values[i] = "V.called." .. name
    end
    prologue = format([[local %s = %s
local P, T, at, put, depth, view, of, allowed = V.place, V.type, V.at, V.put, V.depth, V.view, V.of, V.allowed
]], table.concat(names, ", "), table.concat(values, ", "))
end

-- ---------------------------------------------------------------- writers

local PARTS = 40 -- writers held in locals of their own; LuaJIT allows 60 from outside a function

local function part(i, count)
    return count <= PARTS and "put" .. i or format("put[%d]", i)
end

local append = {
    bool = "bool(n, x and 1 or 0)", double = "double(n, x)", float = "double(n, x)", decimal = "decimal(n, lo, hi)",
    string = "bytes(n, x, #x)", binary = "bytes(n, x, #x)",
}

local body = {}

function body.list(_, _)
    return [[local c = child(n, 0)
    for k = 1, length_of(v, view, P, T) do
        at[depth] = k
        put1(c, v[k])
    end]]
end

function body.map()
    return [[local keys, items = child(n, 0), child(n, 1)
    local entries = entries_of(v, of, P)
    for k = 1, #entries do
        local entry = entries[k]
        at[depth] = entry.key
        if entry.key == nil then keyless(P) end
        put1(keys, entry.key)
        put2(items, entry.value)
    end]]
end

function body.struct(t, count)
    local lines = { "fields_of(v, view, allowed, P, T)" }
    for i, field in ipairs(t.fields) do
        lines[#lines + 1] = format("    %s(child(n, %d), v[%q])", part(i, count), i - 1, field.name)
    end
    return table.concat(lines, "\n")
end

local function source_of(t, puts, convert, head)
    local locals, write = {}
    if body[t.kind] then
        for i = 1, #puts <= PARTS and #puts or 0 do
            locals[i] = format("local put%d = put[%d]\n", i, i)
        end
        write = body[t.kind](t, #puts) .. "\n    if finish(n) ~= 0 then full(P) end"
    else
        write = format("%s\n    if %s ~= 0 then full(P) end", convert(t), append[t.kind] or "int(n, x)")
    end
    return format(
        [[%s%s%sreturn function(n, v)
    if v == nil then
        if null(n) ~= 0 then full(P) end
        return
    end
    %s
end]],
        head, prologue, table.concat(locals), write)
end

-- function(n, v): appends v to node n.
local function writer(t, place, depth, use)
    local puts, allowed = {}, nil
    if t.kind == "list" then
        puts[1] = writer(t.element, below(place, { depth = depth }), depth + 1, use)
    elseif t.kind == "map" then
        local item = below(place, { depth = depth, map = true })
        puts[1] = writer(t.key, item, depth + 1, use)
        puts[2] = writer(t.value, item, depth + 1, use)
    elseif t.kind == "struct" then
        allowed = {}
        for i, field in ipairs(t.fields) do
            allowed[field.name] = true
            puts[i] = writer(field.type, below(place, "." .. field.name), depth, use)
        end
    end
    local about = {
        called = called, place = place, type = t.text, at = place.at, put = puts, of = t, depth = depth, allowed = allowed,
        view = #puts > 0 and row.nested_view(t) or nil,
    }
    return row.compile(source_of(t, puts, use.convert, use.head), "writer of " .. t.text, about)
end

-- `use`: convert(t), the statements that make `x` (a decimal: `lo`, `hi`) of `v` or throw, naming P and T; `head`, the
-- locals these need; `blame`, which throws.
function nested.writer(t, name, use)
    blame = use.blame
    return writer(t, setmetatable({ parts = { name }, at = {} }, Place), 1, use)
end

return nested
