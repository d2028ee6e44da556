-- The loops of `aggregate`: add is a map whose output is a state; merge walks pairs of states where they lie in C (runtime/abi/call.h),
-- one byte a field, 1 when it is not null, padded to 8; then the fields, 8 bytes an integer (bool, date, times too) or double, 16 a decimal.
local ffi = require "ffi"
local codegen = require "weir.internal.codegen"
local row = require "weir.internal.row"
local types = require "weir.internal.types"
local value = require "weir.internal.value"

local format = string.format
local aggregate_loop = {}

-- A map over a row and a fresh state, of add(s, e) and init(s) or false.
function aggregate_loop.added(init, add)
    if not init then
        return function(e, s)
            add(s, e)
        end
    end
    return function(e, s)
        init(s)
        add(s, e)
    end
end

local LIMIT = value.LIMIT
local uint64_t = ffi.typeof "uint64_t"
local function decimal_of(lo, hi, scale)
    if (hi == 0 and lo >= 0 and lo < LIMIT) or (hi == -1 and lo < 0 and lo > -LIMIT) then
        return (value.Decimal(lo, scale))
    end
    return (value.Wide(ffi.cast(uint64_t, lo), hi, scale))
end

local prologue = [[
local R, decimal_of = ...
local W, cast, tonumber = R.W, R.cast, tonumber
local type, floor = W.type, W.floor
local int64_p, int64_w, double_p, double_w = R.int64_p, W.int64_w, R.double_p, W.double_w
local Int64, Timestamp, TimestampNs, Date = R.Int64, R.Timestamp, R.TimestampNs, R.Date
local to_int64, to_small, to_double, to_float, to_decimal = W.to_int64, W.to_small, W.to_double, W.to_float, W.to_decimal
local to_timestamp, to_timestamp_ns, to_date, bad = W.to_timestamp, W.to_timestamp_ns, W.to_date, W.bad
]]

local function read_text(t, place)
    local word = format("cast(int64_p, r + %d)", place)
    if types.is_float(t) then
        return format("cast(double_p, r + %d)[0]", place)
    elseif t.kind == "decimal" then
        return format("(decimal_of(%s[0], %s[1], %d))", word, word, t.scale)
    elseif t.kind == "int64" then
        return format("(Int64(%s[0]))", word)
    elseif t.kind == "timestamp" or t.kind == "timestamp_ntz" then
        return format("(Timestamp(%s[0]))", word)
    elseif types.is_timestamp(t) then
        return format("(TimestampNs(%s[0]))", word)
    elseif t.kind == "date" then
        return format("(Date(tonumber(%s[0])))", word)
    elseif t.kind == "bool" then
        return format("%s[0] ~= 0", word)
    end
    return format("tonumber(%s[0])", word)
end

local function getter_text(k, t, place)
    return format("function(s)\n    local r = s._weir_p\n    if r[%d] == 0 then return nil end\n    return %s\nend", k, read_text(t, place))
end

local function setter_text(k, column, place)
    local t = column.type
    local into = types.is_float(t) and format("cast(double_w, r + %d)[0] = x", place)
        or t.kind == "decimal" and format("local w = cast(int64_w, r + %d)\n        w[0], w[1] = lo, hi", place)
        or format("cast(int64_w, r + %d)[0] = %s", place, t.kind == "bool" and "x and 1 or 0" or "x")
    return format([[function(s, v)
    local r = s._weir_p
    if v == nil then
        r[%d] = 0
    else
        %s
        %s
        r[%d] = 1
    end
end]], k, (codegen.convert_text(t, format("%q", column.name), format("%q", t.text)):gsub("\n    ", "\n        ")), into, k)
end

local POINTER = row.hide "_weir_p"
local nothing = ffi.new("uint8_t[?]", 2048) -- a state of nulls, for those kept past their call

local function refuse(_, name)
    error(format("the second state is only read (field `%s`); merge changes the first", tostring(name)), 2)
end

-- Makes types of states for these columns: one that is written, one that is only read.
local function views(columns)
    local get, set = { "return {" }, { "}, {" }
    local place = math.ceil(#columns / 8) * 8
    for k, column in ipairs(columns) do
        get[#get + 1] = format("[%q] = %s,", column.name, getter_text(k - 1, column.type, place))
        set[#set + 1] = format("[%q] = %s,", column.name, setter_text(k - 1, column, place))
        place = place + (column.type.kind == "decimal" and 16 or 8)
    end
    local source = prologue .. table.concat(get, "\n") .. table.concat(set, "\n") .. "}"
    local getters, setters = assert(loadstring(row.hide(source), "=state"))(row.runtime, decimal_of)
    local function index(s, name)
        local f = getters[name]
        if f == nil then
            error(format("the state has no field `%s`", tostring(name)), 2)
        end
        return (f(s))
    end
    local Written, Read = row.declare "uint8_t *_weir_p;", row.declare "uint8_t *_weir_p;"
    ffi.metatype(Read, { __index = index, __newindex = refuse })
    ffi.metatype(Written, { __index = index, __newindex = function(s, name, v)
        local f = setters[name]
        if f == nil then
            error(format("the state has no field `%s`", tostring(name)), 2)
        end
        f(s, v)
    end })
    return Written, Read
end

local loop = [[
local fn, s, o, enter, warm, cold = ...
local state = { tries = 0, whole = 0 }
local loop
loop = function(call)
    enter(s, o)
    local into, from = call.into, call.from
    local begin = call.begin
    local last = call["end"] - 1
    local first = begin
    local warmed = last > begin + 16 and cold(loop, state)
    if warmed then
        first = begin - warm()
    end
    for position = first, last do
        if position >= begin then
            call.cursor = position
            s._weir_p = into[position]
            o._weir_p = from[position]
            fn(s, o)
        end
    end
    if warmed then
        state.whole = state.whole + 1
    end
end
return loop
]]

local function forget(s, o)
    s[POINTER], o[POINTER] = nothing, nothing
end

-- fn(s, o) for pairs of states.
function aggregate_loop.merge(fn, columns, name)
    local Written, Read = views(columns)
    local chunk = assert(loadstring(row.hide(loop), "=" .. name))
    local function enter(s, o)
        codegen.parts.leave(forget, s, o)
    end
    return chunk(fn, Written(), Read(), enter, codegen.parts.warm, codegen.parts.cold), loop
end

return aggregate_loop
