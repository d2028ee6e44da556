-- Rows as rules see them: FFI views over the columns of a batch. For every schema one struct type is
-- made whose metatype dispatches a field name to a getter written for exactly that column; the JIT
-- folds the dispatch away, so `e.qty` is a null check and a load. Types are cached by schema text and
-- reused across reloads: LuaJIT never frees a ctype.
--
-- A row view is one cdata an enclosing loop moves along; lists, structs and maps taken from it carry
-- the number of the call they belong to and refuse to be read later.
local ffi = require "ffi"
local bit = require "bit"
local native = require "weir.native"
local value = require "weir.internal.value"
local time = require "weir.internal.time"

local format = string.format

local row = { MAX_COLUMNS = 2048 }

-- A struct's own members can be named by whoever holds it, and behind these lie raw pointers. So in the
-- types and the code over them they get names no rule can guess; `weir explain --code` shows the plain ones.
local secret = "_" .. native.hash(tostring({}) .. tostring(print) .. tostring(ffi.new "int[1]")) .. "_"

function row.hide(source)
    return (source:gsub("_weir_", secret))
end

local COLUMNS, BEGIN, LENGTH, CALL = row.hide "_weir_c", row.hide "_weir_begin", row.hide "_weir_length", row.hide "_weir_call"

-- The call being run; nested views of earlier calls are dead.
local generation = ffi.new "int32_t[1]"
row.generation = generation

local runtime = {
    band = bit.band,
    rshift = bit.rshift,
    lshift = bit.lshift,
    cast = ffi.cast,
    ffi_string = ffi.string,
    generation = generation,
    int8_p = ffi.typeof "const int8_t *",
    int16_p = ffi.typeof "const int16_t *",
    int32_p = ffi.typeof "const int32_t *",
    int64_p = ffi.typeof "const int64_t *",
    uint8_p = ffi.typeof "const uint8_t *",
    char_p = ffi.typeof "const char *",
    float_p = ffi.typeof "const float *",
    double_p = ffi.typeof "const double *",
    uint64_t = ffi.typeof "uint64_t",
    Int64 = value.Int64,
    Decimal = value.Decimal,
    Wide = value.Wide,
    LIMIT = value.LIMIT,
    Timestamp = time.Timestamp,
    TimestampNs = time.TimestampNs,
    Date = time.Date,
    error = error,
}

local prologue = {}
for name in pairs(runtime) do
    prologue[#prologue + 1] = name
end
table.sort(prologue)
do
    local values = {}
    for i, name in ipairs(prologue) do
        values[i] = "R." .. name
    end
    prologue = format("local R, V = ...\nlocal %s = %s\n", table.concat(prologue, ", "), table.concat(values, ", "))
end

local function compile(source, name, views)
    return assert(loadstring(prologue .. row.hide(source), "=" .. name))(runtime, views)
end
row.compile = compile

-- The statements that return row `i` of column `c`; `V[text]` makes nested views.
local reading = {
    int8 = "return cast(int8_p, c.values)[i]",
    int16 = "return cast(int16_p, c.values)[i]",
    int32 = "return cast(int32_p, c.values)[i]",
    int64 = "return (Int64(cast(int64_p, c.values)[i]))",
    float = "return cast(float_p, c.values)[i]",
    double = "return cast(double_p, c.values)[i]",
    bool = "return band(cast(uint8_p, c.values)[rshift(i, 3)], lshift(1, band(i, 7))) ~= 0",
    date = "return (Date(cast(int32_p, c.values)[i]))",
    timestamp = "return (Timestamp(cast(int64_p, c.values)[i]))",
    timestamp_ntz = "return (Timestamp(cast(int64_p, c.values)[i]))",
    timestamp_ns = "return (TimestampNs(cast(int64_p, c.values)[i]))",
    timestamp_ns_ntz = "return (TimestampNs(cast(int64_p, c.values)[i]))",
    string = [[if c.codes ~= nil then
        local j, d = c.codes[i], c.dictionary[0]
        local first = d.offsets[j]
        return (ffi_string(cast(char_p, d.values) + first, d.offsets[j + 1] - first))
    end
    local first = c.offsets[i]
    return (ffi_string(cast(char_p, c.values) + first, c.offsets[i + 1] - first))]],
}
reading.binary = reading.string

-- How a tree of fields nobody reads (row.view) reads as text; "" of none.
local function tree_text(unread)
    local parts = {}
    for k, below in pairs(unread or {}) do
        parts[#parts + 1] = below == true and tostring(k) or k .. "(" .. tree_text(below) .. ")"
    end
    table.sort(parts)
    return table.concat(parts, ",")
end

local function view_name(t, unread)
    return unread and t.text .. "\3" .. tree_text(unread) or t.text
end

local function read_text(t, unread)
    if t.kind == "decimal" then
        if t.precision <= 18 then
            return format("return (Decimal(cast(int64_p, c.values)[i * 2], %d))", t.scale)
        end
        return format(
            [[local w = cast(int64_p, c.values)
    local lo, hi = w[i * 2], w[i * 2 + 1]
    if (hi == 0 and lo >= 0 and lo < LIMIT) or (hi == -1 and lo < 0 and lo > -LIMIT) then
        return (Decimal(lo, %d))
    end
    return (Wide(cast(uint64_t, lo), hi, %d))]],
            t.scale,
            t.scale
        )
    elseif t.kind == "list" or t.kind == "map" then
        return format("return (V[%q](c.children, c.offsets[i], c.offsets[i + 1] - c.offsets[i], generation[0]))", t.text)
    elseif t.kind == "struct" then
        return format("return (V[%q](c.children, i, generation[0]))", view_name(t, unread))
    end
    return reading[t.kind]
end

-- function(r): column k of view r at row r.i
local function getter_text(k, t, unread)
    if unread == true then
        return "function() return nil end"
    end
    return format(
        [[function(r)
    local i, c = r._weir_i, r._weir_c[%d]
    if c.validity ~= nil and band(c.validity[rshift(i, 3)], lshift(1, band(i, 7))) == 0 then
        return nil
    end
    %s
end]],
        k,
        read_text(t, unread)
    )
end
row.getter_text = getter_text

-- function(c, i): row i of column c
local function item_text(t)
    return format(
        [[function(c, i)
    if c.validity ~= nil and band(c.validity[rshift(i, 3)], lshift(1, band(i, 7))) == 0 then
        return nil
    end
    %s
end]],
        read_text(t)
    )
end

local views = {} -- type text -> ctype of nested views
local kinds = {} -- { ctype, "list" | "struct" | "map", entries of a map } of each

local serial = 0

-- A struct type of its own each time, under the next free name (ctypes outlive a reloaded module).
local function declare(body)
    local name
    repeat
        serial = serial + 1
        name = "struct weir_view_" .. serial
    until not pcall(ffi.typeof, name)
    ffi.cdef(name .. " { " .. row.hide(body) .. " };")
    return ffi.typeof(name)
end
row.declare = declare

local function alive(view)
    if view[CALL] ~= generation[0] then
        error("a value taken from a row is read after its call; keep a copy of what it holds", 3)
    end
end

local function no_write(what)
    return function(_, name)
        error(format("%s cannot be changed (field `%s`); assign to the second argument of map", what, tostring(name)), 2)
    end
end

local make_view

local function need_views(t, unread)
    unread = t.kind == "struct" and unread ~= true and unread or nil
    if (t.kind == "list" or t.kind == "struct" or t.kind == "map") and not views[view_name(t, unread)] then
        make_view(t, unread)
    end
end

function make_view(t, unread)
    local text = t.text
    if t.kind == "list" then
        need_views(t.element)
        local View = declare "const struct weir_column *_weir_c; int32_t _weir_begin; int32_t _weir_length; int32_t _weir_call;"
        views[text], kinds[#kinds + 1] = View, { View, "list" }
        local item = compile("return " .. item_text(t.element), "list view", views)
        ffi.metatype(View, {
            __len = function(v)
                return v[LENGTH]
            end,
            __index = function(v, n)
                alive(v)
                if type(n) ~= "number" then
                    error("a list is read by position: e.items[1], #e.items", 2)
                elseif n < 1 or n > v[LENGTH] or n % 1 ~= 0 then
                    return nil
                end
                return (item(v[COLUMNS][0], v[BEGIN] + n - 1))
            end,
            __newindex = no_write "a list of a row",
        })
    elseif t.kind == "struct" then
        for k, field in ipairs(t.fields) do
            need_views(field.type, unread and unread[k])
        end
        local View = declare "const struct weir_column *_weir_c; int32_t _weir_i; int32_t _weir_call;"
        views[view_name(t, unread)], kinds[#kinds + 1] = View, { View, "struct" }
        local parts = { "return {" }
        for k, field in ipairs(t.fields) do
            parts[#parts + 1] = format("[%q] = %s,", field.name, getter_text(k - 1, field.type, unread and unread[k]))
        end
        parts[#parts + 1] = "}"
        local get = compile(table.concat(parts, "\n"), "struct view", views)
        ffi.metatype(View, {
            __index = function(v, name)
                alive(v)
                local f = get[name]
                if f == nil then
                    error(format("%s has no field `%s`", text, tostring(name)), 2)
                end
                return (f(v))
            end,
            __newindex = no_write "a struct of a row",
        })
    else
        need_views(t.key)
        need_views(t.value)
        local View = declare "const struct weir_column *_weir_c; int32_t _weir_begin; int32_t _weir_length; int32_t _weir_call;"
        views[text] = View
        local key = compile("return " .. item_text(t.key), "map view", views)
        local item = compile("return " .. item_text(t.value), "map view", views)
        kinds[#kinds + 1] = { View, "map", function(v, entries)
            alive(v)
            for n = v[BEGIN], v[BEGIN] + v[LENGTH] - 1 do
                entries[#entries + 1] = { key = key(v[COLUMNS][0], n), value = item(v[COLUMNS][1], n) }
            end
        end }
        ffi.metatype(View, {
            __len = function(v)
                return v[LENGTH]
            end,
            __index = function(v, wanted)
                alive(v)
                for n = v[BEGIN] + v[LENGTH] - 1, v[BEGIN], -1 do
                    if key(v[COLUMNS][0], n) == wanted then
                        return (item(v[COLUMNS][1], n))
                    end
                end
                return nil
            end,
            __newindex = no_write "a map of a row",
        })
    end
end

-- The ctype of views of a list, struct or map type.
function row.nested_view(t)
    need_views(t)
    return views[t.text]
end

local function known_view(x)
    if type(x) == "cdata" then
        for _, known in ipairs(kinds) do
            if ffi.istype(known[1], x) then
                return known
            end
        end
    end
end

-- "list", "struct" or "map" of a value taken from a row; nil of anything else.
function row.view_kind(x)
    local known = known_view(x)
    return known and known[2]
end

-- Adds { key =, value = } of each entry, as they come.
function row.map_entries(x, entries)
    known_view(x)[3](x, entries)
end

local function schema_text(columns)
    local parts = {}
    for i, column in ipairs(columns) do
        parts[i] = column.name .. "\1" .. column.type.text
    end
    return table.concat(parts, "\2")
end
row.schema_text = schema_text

-- The getters of a schema as one source text.
function row.getters_source(columns, unread)
    local parts = { "return {" }
    for k, column in ipairs(columns) do
        parts[#parts + 1] = format("[%q] = %s,", column.name, getter_text(k - 1, column.type, unread and unread[k]))
    end
    parts[#parts + 1] = "}"
    return table.concat(parts, "\n")
end

local rows = {} -- schema text -> ctype

-- The row type of a schema: { { name =, type = parsed type } … }. Its own members, _weir_c (columns)
-- and _weir_i (row), are the loop's. `unread`: a tree of fields, { [column from 1] = true or { [field] = … } }, that are nil to this view.
function row.view(columns, unread)
    local key = schema_text(columns) .. (unread and "\3" .. tree_text(unread) or "")
    if rows[key] then
        return rows[key]
    end
    for k, column in ipairs(columns) do
        need_views(column.type, unread and unread[k])
    end
    local source = row.getters_source(columns, unread)
    local get = compile(source, "row view", views)
    local View = declare "const struct weir_column *_weir_c; int32_t _weir_i;"
    ffi.metatype(View, {
        __index = function(r, name)
            local f = get[name]
            if f == nil then
                error(format("no column is called `%s`", tostring(name)), 2)
            end
            return (f(r))
        end,
        __newindex = no_write "a row",
    })
    rows[key] = View
    return View
end

row.views = views
row.runtime = runtime

return row
