-- Writes the loop of each row function: one monomorphic Lua function per (row function, schema) that C
-- calls once a batch (runtime/abi/call.h). The cursor is written before each row, so that C can blame
-- the row a throw came from. No pairs, closures, varargs or concatenation inside; tests/jit holds it.
--
-- Output columns have one setter each, which checks the value against the column's type, so that what a
-- rule assigns is exact or an error naming the column.
local ffi = require "ffi"
local bit = require "bit"
local row = require "weir.internal.row"
local value = require "weir.internal.value"
local time = require "weir.internal.time"
local wide = require "weir.internal.wide"

local format, floor, type = string.format, math.floor, type
local istype, tonumber = ffi.istype, tonumber
local int64_t = ffi.typeof "int64_t"
local Int64, Decimal, Wide = value.Int64, value.Decimal, value.Wide

local codegen = {}

-- ---------------------------------------------------------------- conversion on assignment

local blame = value.throw

-- `name` of a part of a nested value is a place that knows how to print itself (nested.lua).
local function bad(x, name, type_text)
    if type(name) == "table" then
        blame(format("%s: expected %s, got %s", tostring(name), type_text, type(x) == "table" and "a table" or value.kind(x)))
    end
    blame(format("column `%s` is %s: it does not take %s", name, type_text, value.kind(x)))
end

local function about(name, type_text)
    return type(name) == "table" and format("%s is %s", tostring(name), type_text) or format("column `%s` is %s", name, type_text)
end

local function outside(x, name, type_text)
    blame(format("%s: %s is outside its range", about(name, type_text), tostring(x)))
end

local function fraction(x, name, type_text)
    blame(format("%s: %s has a fraction (round it first)", about(name, type_text), tostring(x)))
end

-- int64_t of any whole value.
local function to_int64(x, name, type_text)
    if type(x) == "number" then
        if x ~= floor(x) then
            fraction(x, name, type_text)
        elseif x < -9223372036854775808 or x >= 9223372036854775808 then
            outside(x, name, type_text)
        end
        return int64_t(x)
    elseif istype(Int64, x) then
        return x.v
    elseif istype(Decimal, x) then
        local v, scale = x.v, x.scale
        if scale <= 18 then
            local whole = v / value.pow10[scale]
            if whole * value.pow10[scale] ~= v then
                fraction(x, name, type_text)
            end
            return whole
        end
    elseif not istype(Wide, x) then
        bad(x, name, type_text)
    end
    local ok, result = wide.int64(value.widen(x))
    if not ok then
        if result == "has a fraction" then
            fraction(x, name, type_text)
        end
        outside(x, name, type_text)
    end
    return result
end

local function to_small(x, low, high, name, type_text)
    if type(x) ~= "number" then
        x = tonumber(to_int64(x, name, type_text))
    end
    if x ~= floor(x) then
        fraction(x, name, type_text)
    elseif x < low or x > high then
        outside(x, name, type_text)
    end
    return x
end

local function to_double(x, name, type_text)
    if type(x) == "number" then
        return x
    elseif value.is_number(x) then
        return (value.tonumber(x))
    end
    return bad(x, name, type_text)
end

local function to_float(x, name, type_text)
    local d = to_double(x, name, type_text)
    if (d > 3.4028235677973366e38 or d < -3.4028235677973366e38) and d ~= math.huge and d ~= -math.huge then
        outside(x, name, type_text)
    end
    return d
end

-- Two words of an unscaled decimal at the column's scale, rounded once, half to even.
local function to_decimal(x, precision, scale, name, type_text)
    if not value.is_number(x) then
        bad(x, name, type_text)
    end
    if istype(Decimal, x) and x.scale == scale then
        local v = x.v
        if precision < 18 and (v >= value.pow10[precision] or v <= -value.pow10[precision]) then
            outside(x, name, type_text)
        end
        return v, v < 0 and -1LL or 0LL
    end
    if type(x) == "number" and (x ~= x or x == math.huge or x == -math.huge) then
        outside(x, name, type_text)
    end
    local r = value.rescale(x, scale)
    if istype(Decimal, r) then
        local v = r.v
        if precision < 18 and (v >= value.pow10[precision] or v <= -value.pow10[precision]) then
            outside(x, name, type_text)
        end
        return v, v < 0 and -1LL or 0LL
    end
    if not wide.fits(r, precision) then
        outside(x, name, type_text)
    end
    return ffi.cast(int64_t, r.lo), r.hi
end

local function to_timestamp(x, name, type_text)
    if istype(time.Timestamp, x) then
        return x.us
    elseif istype(time.TimestampNs, x) then
        local us = x.ns / 1000
        if us * 1000 ~= x.ns then
            blame(format("%s: %s has nanoseconds (trunc it first)", about(name, type_text), tostring(x)))
        end
        return us
    end
    return bad(x, name, type_text)
end

local function to_timestamp_ns(x, name, type_text)
    if istype(time.TimestampNs, x) then
        return x.ns
    elseif istype(time.Timestamp, x) then
        local us = x.us
        if us > 9223372036854775LL or us < -9223372036854775LL then
            outside(x, name, type_text)
        end
        return us * 1000
    end
    return bad(x, name, type_text)
end

local function to_date(x, name, type_text)
    if istype(time.Date, x) then
        return x.days
    end
    return bad(x, name, type_text)
end

local function refused_bytes(name)
    blame(format("column `%s`: the text is not valid UTF-8, or the batch holds too much", name))
end

local W = {
    bor = bit.bor,
    bnot = bit.bnot,
    floor = floor,
    type = type,
    istype = istype,
    to_int64 = to_int64,
    to_small = to_small,
    to_double = to_double,
    to_float = to_float,
    to_decimal = to_decimal,
    to_timestamp = to_timestamp,
    to_timestamp_ns = to_timestamp_ns,
    to_date = to_date,
    bad = bad,
    refused_bytes = refused_bytes,
    set_bytes = ffi.C.weir_out_set_bytes, -- resolved here: the JIT calls no symbol it has not seen
    set_null = ffi.C.weir_out_set_null,
    begin_nested = ffi.C.weir_out_nested,
    int8_w = ffi.typeof "int8_t *",
    int16_w = ffi.typeof "int16_t *",
    int32_w = ffi.typeof "int32_t *",
    int64_w = ffi.typeof "int64_t *",
    uint8_w = ffi.typeof "uint8_t *",
    float_w = ffi.typeof "float *",
    double_w = ffi.typeof "double *",
}
row.runtime.W = W
for name, item in pairs(W) do
    row.runtime[name] = item
end

local setter_names = {}
for name in pairs(W) do
    setter_names[#setter_names + 1] = name
end
table.sort(setter_names)
local setter_prologue
do
    local values = {}
    for i, name in ipairs(setter_names) do
        values[i] = "R." .. name
    end
    setter_prologue = format("local %s = %s\n", table.concat(setter_names, ", "), table.concat(values, ", "))
end

local ranges = { int8 = { -128, 127 }, int16 = { -32768, 32767 }, int32 = { -2147483648, 2147483647 } }

-- The statements that make `x` (a decimal: `lo` and `hi`) of `v`, not null, or throw. `n` and `ty`: what
-- names the column and its type there.
local function convert_text(t, n, ty)
    local kind = t.kind
    if ranges[kind] then
        local low, high = ranges[kind][1], ranges[kind][2]
        return format(
            "local x = v\n    if type(v) ~= \"number\" or v ~= floor(v) or v < %d or v > %d then x = to_small(v, %d, %d, %s, %s) end",
            low, high, low, high, n, ty
        )
    elseif kind == "int64" or kind == "double" or kind == "float" or kind == "date" then
        return format("local x = to_%s(v, %s, %s)", kind, n, ty)
    elseif kind == "timestamp" or kind == "timestamp_ntz" then
        return format("local x = to_timestamp(v, %s, %s)", n, ty)
    elseif kind == "timestamp_ns" or kind == "timestamp_ns_ntz" then
        return format("local x = to_timestamp_ns(v, %s, %s)", n, ty)
    elseif kind == "bool" then
        return format("local x = v\n    if x ~= true and x ~= false then bad(x, %s, %s) end", n, ty)
    elseif kind == "decimal" then
        return format("local lo, hi = to_decimal(v, %d, %d, %s, %s)", t.precision, t.scale, n, ty)
    elseif kind == "string" or kind == "binary" then
        return format("local x = v\n    if type(x) ~= \"string\" then bad(x, %s, %s) end", n, ty)
    end
end

local stored = { -- the C type of what is not itself
    int64 = "int64", timestamp = "int64", timestamp_ntz = "int64", timestamp_ns = "int64", timestamp_ns_ntz = "int64", date = "int32",
}

-- The statements that store `v` (not null) as row `i` of column `c`.
local function store_text(t, name)
    local convert = convert_text(t, format("%q", name), format("%q", t.text))
    if t.kind == "bool" then
        return convert .. [[

    local bits = cast(uint8_w, c.values)
    if x then bits[rshift(i, 3)] = bor(bits[rshift(i, 3)], m) else bits[rshift(i, 3)] = band(bits[rshift(i, 3)], bnot(m)) end]]
    elseif t.kind == "decimal" then
        return convert .. "\n    local w = cast(int64_w, c.values)\n    w[i * 2] = lo\n    w[i * 2 + 1] = hi"
    end
    return format("%s\n    cast(%s_w, c.values)[i] = x", convert, stored[t.kind] or t.kind)
end

local function is_bytes(t)
    return t.kind == "string" or t.kind == "binary"
end

local function is_nested(t)
    return t.kind == "list" or t.kind == "struct" or t.kind == "map"
end

-- The function that writes values of column k part by part.
local function writer(column)
    local nested = require "weir.internal.nested"
    local function convert(t)
        return convert_text(t, "P", "T")
    end
    return nested.writer(column.type, column.name, { convert = convert, head = setter_prologue, blame = blame })
end

-- function(o, v): assigns column k. `S` keeps what was assigned to the current row where it cannot be read back; `N` has the
-- writers of nested columns.
local function setter_text(k, column)
    local t, name = column.type, column.name
    if is_nested(t) then
        return format(
            [[function(o, v)
    local i = o._weir_i
    if v == nil then
        set_null(o._weir_call.out_var[%d], i)
        S[%d] = false
    else
        local n = begin_nested(o._weir_call.out_var[%d], i)
        if n == nil then refused_bytes(%q) end
        N[%d](n, v)
        S[%d] = v
    end
    o._weir_call.assigned[%d][i] = 1
end]],
            k, k, k, name, k, k, k
        )
    elseif is_bytes(t) then
        return format(
            [[function(o, v)
    local i = o._weir_i
    if v == nil then
        set_null(o._weir_call.out_var[%d], i)
        S[%d] = false
    else
        if type(v) ~= "string" then bad(v, %q, %q) end
        if set_bytes(o._weir_call.out_var[%d], i, v, #v) ~= 0 then refused_bytes(%q) end
        S[%d] = v
    end
    o._weir_call.assigned[%d][i] = 1
end]],
            k, k, name, t.text, k, name, k, k
        )
    end
    return format(
        [[function(o, v)
    local i, c = o._weir_i, o._weir_c[%d]
    local b, m = c.validity, lshift(1, band(i, 7))
    if v == nil then
        b[rshift(i, 3)] = band(b[rshift(i, 3)], bnot(m))
    else
        %s
        b[rshift(i, 3)] = bor(b[rshift(i, 3)], m)
    end
    o._weir_call.assigned[%d][i] = 1
end]],
        k,
        (store_text(t, name):gsub("\n    ", "\n        ")),
        k
    )
end

-- A text or nested value assigned to this row, or nil: the builder in C cannot be read.
local function shadow_text(k)
    return format(
        [[function(o)
    if o._weir_call.assigned[%d][o._weir_i] == 0 then
        return nil
    end
    return S[%d] or nil
end]],
        k,
        k
    )
end

local outs = {} -- schema text -> ctype

local function leave() end

function codegen.out_source(columns)
    local parts = { "local S, N = {}, V.N or {}\n" .. setter_prologue .. "return {" }
    for k, column in ipairs(columns) do
        parts[#parts + 1] = format("[%q] = %s,", column.name, setter_text(k - 1, column))
    end
    parts[#parts + 1] = "}, {"
    for k, column in ipairs(columns) do
        local text = (is_bytes(column.type) or is_nested(column.type)) and shadow_text(k - 1)
            or row.getter_text(k - 1, column.type)
        parts[#parts + 1] = format("[%q] = %s,", column.name, text)
    end
    parts[#parts + 1] = "}"
    return table.concat(parts, "\n")
end

-- The type of the second argument of map for these output columns.
-- `copied`: indexes (from 0) of columns that C fills; assigning them does nothing.
function codegen.out_view(columns, copied)
    local key = row.schema_text(columns)
    for k = 0, copied and #columns - 1 or -1 do
        key = key .. (copied[k] and "\3c" or "\3")
    end
    if outs[key] then
        return outs[key]
    end
    local writers = {}
    for k, column in ipairs(columns) do
        writers[k - 1] = is_nested(column.type) and writer(column) or nil
    end
    local set, get = row.compile(codegen.out_source(columns), "output row", setmetatable({ N = writers }, { __index = row.views }))
    for k, column in ipairs(copied and columns or {}) do
        set[column.name] = copied[k - 1] and leave or set[column.name]
    end
    local View = row.declare "struct weir_column *_weir_c; int32_t _weir_i; struct weir_call *_weir_call;"
    ffi.metatype(View, {
        __newindex = function(o, name, v)
            local f = set[name]
            if f == nil then
                error(format("`columns` declares no column `%s`", tostring(name)), 2)
            end
            f(o, v)
        end,
        __index = function(o, name)
            local f = get[name]
            if f == nil then
                error(format("`columns` declares no column `%s`", tostring(name)), 2)
            end
            return (f(o))
        end,
    })
    outs[key] = View
    return View
end

-- ---------------------------------------------------------------- loops

-- LuaJIT counts calls and loop turns alike, and a getter is called several times a row: left alone, the
-- getters would get hot first, and a trace that begins in a metamethod aborts ("return to lower frame")
-- until they are blacklisted. So a loop's first call runs exactly as many empty turns as make the
-- loop itself hot: recording then begins with the first row, everything inlined into it.
-- When LuaJIT flushes its traces (machine code full), every loop does so again. Whether a loop is
-- compiled shows in its own bytecode: LuaJIT patches the loop instruction, and back at a flush. (Not by
-- jit.attach: LuaJIT crashes when a trace callback runs on a stack that a rule's recursion has filled.)
local HOT = 2000
local funcbc = require("jit.util").funcbc
local function op_at(f, pc)
    local instruction = funcbc(f, pc)
    return instruction and bit.band(instruction, 255)
end
local function probe()
    for _ = 1, 2 do end
end
local FORL = op_at(probe, 5) -- never run, so never patched
local function cold(loop, state)
    if not state.pc then
        local pc, op = 0
        repeat
            pc = pc + 1
            op = op_at(loop, pc)
        until op == FORL or not op
        state.pc = op and pc or 0
    end
    if op_at(loop, state.pc) ~= FORL then
        state.tries, state.whole = 0, 0
        return false
    end
    -- What does not compile then never will; but a call that a throw cut short says little.
    state.tries = state.tries + 1
    return state.whole < 2 and state.tries <= 64
end
local function warm()
    if jit.opt and jit.opt.start then
        jit.opt.start("hotloop=" .. HOT) -- also sets all counters back
        return HOT
    end
    return 0
end

local loop_head = [[
local fn, row, enter, warm, cold, out, joined = ...
local state = { tries = 0, whole = 0 }
local loop
loop = function(call)
    enter(row, call)
%s    local begin = call.begin
    local last = call["end"] - 1
    local first = begin
    local warmed = last > begin + 16 and cold(loop, state)
    if warmed then
        first = begin - warm()
    end
    for position = first, last do
        if position >= begin then
            call.cursor = position
            local i = sel[position]
            row._weir_i = i
%s        end
    end
    if warmed then
        state.whole = state.whole + 1
    end
end
return loop
]]

local predicate_loop = loop_head:format(
    "    local sel, verdict = call.sel, call.verdict\n",
    [[
            local answer = fn(row)
            if answer == true then
                verdict[position] = 1
            elseif answer == false then
                verdict[position] = 0
            elseif answer == nil then
                verdict[position] = 2
            else
                verdict[position] = 3
            end
]]
)

local function with_joined(source, joined_at)
    return (source:gsub("enter%(row, call%)", ("enter(row, call, joined, %d)"):format(joined_at)))
end

-- `body`: the call of the row function, then pass-through of columns it left alone whose type changes.
-- `joined_at`: where the columns begin that its third argument reads, or nil.
local function out_loop(body, more, joined_at)
    local head = joined_at and with_joined(loop_head, joined_at) or loop_head
    return head:format(
        "    out._weir_c, out._weir_call = call.out, call\n"
            .. "    local sel" .. (more and ", assigned = call.sel, call.assigned\n" or " = call.sel\n"),
        "            out._weir_i = i\n" .. (joined_at and "            joined._weir_i = i\n" or "") .. body
    )
end

-- A row of nulls, so that a row kept past its call reads as gone rather than as freed memory.
local COLUMNS, INDEX = row.hide "_weir_c", row.hide "_weir_i"
local active
local nothing = ffi.new("struct weir_column[?]", row.MAX_COLUMNS)
local null_bits = ffi.new "uint8_t[1]"
for k = 0, row.MAX_COLUMNS - 1 do
    nothing[k].length, nothing[k].null_count, nothing[k].validity = 1, 1, null_bits
end
local generation = row.generation
local active_beside
local forget, forgotten, forgotten_too

-- What pairs of states hold is memory that goes with the call, like a row's: the next call of any loop takes it from them.
local function leave_states(how, s, o)
    if active then
        active[COLUMNS], active[INDEX] = nothing, 0
    end
    if active_beside then
        active_beside[COLUMNS], active_beside[INDEX] = nothing, 0
    end
    active, active_beside = nil, nil
    generation[0] = (generation[0] + 1) % 2000000000
    if forgotten and forgotten ~= s then
        forget(forgotten, forgotten_too)
    end
    forget, forgotten, forgotten_too = how, s, o
end

-- `beside`: the third argument of a map, over the columns from `first` on; or nil.
local function enter(view, call, beside, first)
    if active and active ~= view then
        active[COLUMNS], active[INDEX] = nothing, 0
    end
    if active_beside and active_beside ~= beside then
        active_beside[COLUMNS], active_beside[INDEX] = nothing, 0
    end
    if forgotten then
        forget(forgotten, forgotten_too)
        forgotten, forgotten_too = nil, nil
    end
    active_beside = beside
    if beside then
        beside[COLUMNS] = call["in"] + first
    end
    active = view
    generation[0] = (generation[0] + 1) % 2000000000
    view[COLUMNS] = call["in"]
end

codegen.convert_text = convert_text
codegen.parts = { enter = enter, leave = leave_states, warm = warm, cold = cold }

local function finish(source, name, ...)
    local chunk = assert(loadstring(row.hide(source), "=" .. name))
    return chunk(...), source
end

-- verdict codes of fn(row) for every selected row
function codegen.predicate(fn, columns, name, joined)
    local source = predicate_loop
    if joined then
        source = with_joined(source, #columns):gsub("row%._weir_i = i\n", "%0            joined._weir_i = i\n"):gsub("fn%(row%)", "fn(row, joined)")
    end
    return finish(source, name, fn, row.view(columns)(), enter, warm, cold, nil, joined and row.view(joined)() or nil)
end

-- fn(row, out); `retyped` lists indexes (from 0) into `out_columns` of input columns passed on in
-- another type when the function leaves them alone. fn may be nil: then only those are done.
-- `joined`: columns that lie behind `columns`, for the third argument of fn; or nil. `copies` (copies.lua):
-- what C hands on itself where call.copied says so; a loop of its own does the rest then.
function codegen.map(fn, columns, out_columns, retyped, name, joined, copies)
    local body = {}
    joined = joined and #joined > 0 and joined or nil
    if fn then
        body[#body + 1] = joined and "            fn(row, out, joined)\n" or "            fn(row, out)\n"
    end
    for _, k in ipairs(retyped) do
        local column = out_columns[k + 1].name
        body[#body + 1] = format(
            "            if assigned[%d][i] == 0 then\n                out[%q] = row[%q]\n            end\n", k, column, column)
    end
    local source = out_loop(table.concat(body), #retyped > 0, joined and #columns)
    local beside = joined and row.view(joined)() or nil
    local function make(copied, unread)
        local out = codegen.out_view(out_columns, copied)()
        return (finish(source, name, fn, row.view(columns, unread)(), enter, warm, cold, out, beside))
    end
    local whole = make()
    if not copies then
        return whole, source
    end
    local rest = make(copies.columns, copies.unread)
    return function(call)
        if call.copied ~= 0 then
            rest(call)
        else
            whole(call)
        end
    end, source
end

local groups_loop = [[
local fn, out = ...
return function(call)
    out._weir_c, out._weir_call = call.out, call
    local sel, from = call.sel, call.from
    for position = call.begin, call["end"] - 1 do
        call.cursor = position
        out._weir_i = sel[position]
        fn(from[position], out)
    end
end
]]

-- fn(group, out) for what C has prepared of each group (runtime/abi/call.h, from).
function codegen.groups(fn, out_columns, name)
    return finish(groups_loop, name, fn, codegen.out_view(out_columns)())
end

-- out.<the only column> = fn(row): measures over functions and derives
function codegen.value(fn, columns, out_column, name)
    local source = out_loop(format("            out[%q] = fn(row)\n", out_column.name), false)
    return finish(source, name, fn, row.view(columns)(), enter, warm, cold, codegen.out_view({ out_column })())
end

return codegen
