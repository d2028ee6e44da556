-- The loop of a rule and what its functions are handed: `s`, whose cells are C memory reached through
-- abi/rule.h, `p`, and `emit`. Per cell a few functions are written for exactly its fields, so that a push
-- or a sum inlines into the loop. What a row does is kept by C when the next item is asked for, and undone
-- when it throws.
local ffi = require "ffi"
local codegen = require "weir.internal.codegen"
local reject = require "weir.internal.reject"
local row = require "weir.internal.row"
local rule_migrate = require "weir.internal.rule_migrate"
local time = require "weir.internal.time"
local types = require "weir.internal.types"
local value = require "weir.internal.value"

local format = string.format
local rule_loop = {}

-- ---------------------------------------------------------------- records

-- Where field k (from 1) of a record lies (operator/rule/rule_state.c says the same).
local function layout(fields)
    local at, places = 8 + math.ceil(#fields / 8) * 8, {}
    for k, field in ipairs(fields) do
        places[k] = at
        at = at + (field.type.kind == "decimal" and 16 or 8)
    end
    return places
end

local function is_text(t)
    return t.kind == "string" or t.kind == "binary"
end

-- function convK(v): what is stored of a value that is not null, or throws.
local function converter_text(k, cell, field)
    local t = field.type
    local name = #cell.fields == 1 and cell.name or cell.name .. "." .. field.name
    local result = t.kind == "decimal" and "lo, hi" or t.kind == "bool" and "(x and 1 or 0)" or "x"
    return format("local function conv%d(v)\n    %s\n    return %s\nend\n", k,
        codegen.convert_text(t, format("%q", name), format("%q", t.text)), result)
end

-- The statements that store `v<k>` into record `r`.
local function store_text(k, field, place)
    local t = field.type
    local there = format("r[%d]", 7 + k)
    if is_text(t) then
        return format([[
        if v%d == nil then
            %s = 0
            set_text(h, r + %d, nil, -1)
        else
            if set_text(h, r + %d, x%d, #x%d) ~= 0 then fail(h) end
            %s = 1
        end
]], k, there, place, place, k, k, there)
    end
    local into = t.kind == "decimal" and format("local w = cast(int64_w, r + %d)\n            w[0] = x%d\n            w[1] = y%d", place, k, k)
        or types.is_float(t) and format("cast(double_w, r + %d)[0] = x%d", place, k)
        or format("cast(int64_w, r + %d)[0] = x%d", place, k)
    return format([[
        if v%d == nil then
            %s = 0
        else
            %s
            %s = 1
        end
]], k, there, into, there)
end

-- The expression of field k of record `r`; nil when it is null.
local function load_text(k, field, place)
    local t = field.type
    local at = format("cast(int64_p, r + %d)", place)
    local read
    if is_text(t) then
        read = format("text_of(r + %d)", place)
    elseif types.is_float(t) then
        read = format("cast(double_p, r + %d)[0]", place)
    elseif t.kind == "decimal" then
        read = format("decimal_of(%s, %d)", at, t.scale)
    elseif t.kind == "int64" then
        read = format("Int64(%s[0])", at)
    elseif t.kind == "timestamp" or t.kind == "timestamp_ntz" then
        read = format("Timestamp(%s[0])", at)
    elseif types.is_timestamp(t) then
        read = format("TimestampNs(%s[0])", at)
    elseif t.kind == "date" then
        read = format("Date(tonumber(%s[0]))", at)
    elseif t.kind == "bool" then
        read = format("of_bool(%s[0])", at)
    else
        read = format("tonumber(%s[0])", at)
    end
    return format("load%d(r)", k), format("local function load%d(r)\n    if r[%d] == 0 then return nil end\n    return %s\nend\n", k, 7 + k, read)
end

local durations = {}
local function window_us(window)
    if window == nil then
        return -1
    end
    local us = durations[window]
    if us then
        return us
    end
    us = time.duration_us(window)
    if not us then
        error(('a window is a duration such as "10m", not %s'):format(tostring(window)), 3)
    end
    if type(window) == "string" then -- a duration is another key each time
        durations[window] = us
    end
    return us
end

local text_pp = ffi.typeof "struct weir_rule_text *const *"
local function text_of(place)
    local text = ffi.cast(text_pp, place)[0]
    return ffi.string(text.bytes, text.length)
end

local LIMIT = value.LIMIT
local uint64_t = ffi.typeof "uint64_t"
local function decimal_of(w, scale)
    local lo, hi = w[0], w[1]
    if (hi == 0 and lo >= 0 and lo < LIMIT) or (hi == -1 and lo < 0 and lo > -LIMIT) then
        return value.Decimal(lo, scale)
    end
    return value.Wide(ffi.cast(uint64_t, lo), hi, scale)
end

local function of_bool(word)
    return word ~= 0
end

local words2 = ffi.new "int64_t[2]"
local function wide_result(h, scale)
    words2[0], words2[1] = h.lo, h.hi
    return decimal_of(words2, scale)
end

-- ---------------------------------------------------------------- cells

local prologue = [[
local R, holder, at_us, fail, window_us, text_of, decimal_of, of_bool, wide_result, C = ...
local cast, type, floor, tonumber, error = R.cast, R.W.type, R.W.floor, R.tonumber, R.error
local int64_p, int64_w, double_p, double_w = R.int64_p, R.W.int64_w, R.double_p, R.W.double_w
local Int64, Timestamp, TimestampNs, Date = R.Int64, R.Timestamp, R.TimestampNs, R.Date
local to_int64, to_small, to_double, to_float, to_decimal = R.W.to_int64, R.W.to_small, R.W.to_double, R.W.to_float, R.W.to_decimal
local to_timestamp, to_timestamp_ns, to_date, bad = R.W.to_timestamp, R.W.to_timestamp_ns, R.W.to_date, R.W.bad
local set_text, count_of, at, set, push, key, get, put = C.weir_rule_set_text, C.weir_rule_count, C.weir_rule_at, C.weir_rule_set,
    C.weir_rule_push, C.weir_rule_key, C.weir_rule_get, C.weir_rule_put
local remove, remove_at, clear, fold = C.weir_rule_remove, C.weir_rule_remove_at, C.weir_rule_clear, C.weir_rule_fold
local cell = {}
]]

-- Statements that convert v<first>… to x<k>, y<k>.
local function convert_all(fields, first, last)
    local parts = {}
    for k = first, last do
        parts[#parts + 1] = format("    local x%d, y%d\n    if v%d ~= nil then x%d, y%d = conv%d(v%d) end\n", k, k, k, k, k, k, k)
    end
    return table.concat(parts)
end

local function store_all(fields, places, first, last)
    local parts = {}
    for k = first, last do
        parts[#parts + 1] = store_text(k, fields[k], places[k])
    end
    return table.concat(parts)
end

-- A record's values as what the rule sees: the value itself, or a table by name.
local function shown(fields, loads, first, last)
    if first == last and not fields.record then
        return loads[first]
    end
    local parts = {}
    for k = first, last do
        parts[#parts + 1] = format("[%q] = %s", fields[k].name, loads[k])
    end
    return "{ " .. table.concat(parts, ", ") .. " }"
end

-- Values given as one table by name, or one after the other.
local function unpack_text(fields, first, last)
    if not fields.record then
        return ""
    end
    local names = {}
    for k = first, last do
        names[#names + 1] = format("t[%q]", fields[k].name)
    end
    local given = {}
    for k = first, last do
        given[#given + 1] = "v" .. k
    end
    return format("    if type(v%d) == \"table\" then\n        local t = v%d\n        %s = %s\n    end\n", first, first,
        table.concat(given, ", "), table.concat(names, ", "))
end

local function arguments(first, last)
    local parts = {}
    for k = first, last do
        parts[#parts + 1] = "v" .. k
    end
    return table.concat(parts, ", ")
end

-- sum, min, max, avg, distinct of each field over entries, and count.
local function folds_text(number, cell)
    local fields = cell.fields
    local result = {}
    for k, field in ipairs(fields) do
        local t = field.type
        local shown_sum = t.kind == "decimal" and format("wide_result(h, %d)", t.scale) or types.is_float(t) and "h.number" or "Int64(h.lo)"
        local one
        if is_text(t) then
            one = "one_text(h)"
        elseif t.kind == "decimal" then
            one = format("wide_result(h, %d)", t.scale)
        elseif types.is_float(t) then
            one = "h.number"
        elseif t.kind == "int64" then
            one = "Int64(h.lo)"
        elseif t.kind == "date" then
            one = "Date(tonumber(h.lo))"
        elseif t.kind == "timestamp" or t.kind == "timestamp_ntz" then
            one = "Timestamp(h.lo)"
        elseif types.is_timestamp(t) then
            one = "TimestampNs(h.lo)"
        elseif t.kind == "bool" then
            one = "h.lo ~= 0"
        else
            one = "tonumber(h.lo)"
        end
        local sums = types.is_numeric(t)
        result[#result + 1] = format([[
by[%q] = {
    sum = %s,
    extreme = function(h, us, kind)
        if fold(h, %d, %d, kind, us) == 0 then return nil end
        return %s
    end,
    number = %d,
}
]], field.name, sums and format("function(h, us)\n        if fold(h, %d, %d, 1, us) < 0 then fail(h) end\n        return %s\n    end", number, k - 1, shown_sum)
            or "false", number, k - 1, one, k - 1)
    end
    local single = not fields.record
    return format([[
local by = {}
local function one_text(h)
    return R.text_at(h.lo)
end
%s
local single = %s
local function field_of(field, window)
    if single then
        return by[%q], field
    end
    local f = by[field]
    if f == nil then
        error("state `%s` has no field `" .. R.tostring(field) .. "`", 3)
    end
    return f, window
end
function cell:sum(field, window)
    local f, w = field_of(field, window)
    if not f.sum then error("state `%s`: only numbers have a sum", 2) end
    return f.sum(holder[0], window_us(w))
end
function cell:min(field, window)
    local f, w = field_of(field, window)
    return f.extreme(holder[0], window_us(w), 2)
end
function cell:max(field, window)
    local f, w = field_of(field, window)
    return f.extreme(holder[0], window_us(w), 3)
end
function cell:avg(field, window)
    local f, w = field_of(field, window)
    if not f.sum then error("state `%s`: only numbers have a mean", 2) end
    local h, us = holder[0], window_us(w)
    fold(h, %d, f.number, 0, us)
    local n = tonumber(h.lo)
    if n == 0 then return nil end
    return f.sum(h, us) / n
end
function cell:distinct(field, window)
    local f, w = field_of(field, window)
    local h = holder[0]
    if fold(h, %d, f.number, 4, window_us(w)) < 0 then fail(h) end
    return tonumber(h.lo)
end
function cell:count(window)
    local h = holder[0]
    if window == nil then
        return count_of(h, %d)
    end
    fold(h, %d, -1, 0, window_us(window))
    return tonumber(h.lo)
end
]], table.concat(result), tostring(single), fields[1].name, cell.name, cell.name, cell.name, number, number, number, number)
end

local writers = {}

local function common(number)
    return format("function cell:clear()\n    if clear(holder[0], %d) ~= 0 then fail(holder[0]) end\nend\n", number)
end

local function entries(number, cell, loads, first)
    return format([[
function cell:get(i)
    if type(i) ~= "number" then return nil end
    local r = at(holder[0], %d, i - 1)
    if r == nil then return nil end
    return %s
end
function cell:first()
    return cell:get(1)
end
function cell:last()
    return cell:get(count_of(holder[0], %d))
end
]], number, shown(cell.fields, loads, first, #cell.fields), number)
end

function writers.value(number, cell, loads, places)
    local n = #cell.fields
    local single_time = n == 1 and not cell.fields.record and types.is_timestamp(cell.fields[1].type)
    return format([[
function cell:get()
    local r = at(holder[0], %d, 0)
    if r == nil then return nil end
    return %s
end
function cell:set(%s)
%s%s    local h = holder[0]
    local r = set(h, %d)
    if r == nil then fail(h) end
%send
function cell:within(window)
    local h = holder[0]
    local r = at(h, %d, 0)
    if r == nil then return false end
    return h.time_us - cast(int64_p, r%s)[0] < window_us(window)
end
]], number, shown(cell.fields, loads, 1, n), arguments(1, n), unpack_text(cell.fields, 1, n), convert_all(cell.fields, 1, n), number,
        store_all(cell.fields, places, 1, n), number, single_time and cell.fields[1].type.kind:match "^timestamp$" and " + " .. places[1] or "")
end

function writers.counter(number, cell, _, places)
    return format([[
function cell:get()
    local r = at(holder[0], %d, 0)
    if r == nil then return Int64(0) end
    return Int64(cast(int64_p, r + %d)[0])
end
function cell:add(n)
    local h = holder[0]
    local more = n == nil and 1LL or to_int64(n, %q, "int64")
    local r = set(h, %d)
    if r == nil then fail(h) end
    local w = cast(int64_w, r + %d)
    local sum = w[0] + more
    if (more >= 0) ~= (sum >= w[0]) then error("state `%s`: the counter is out of range", 2) end
    w[0] = sum
    r[8] = 1
    return Int64(sum)
end
function cell:set(n)
    local h = holder[0]
    local x = to_int64(n, %q, "int64")
    local r = set(h, %d)
    if r == nil then fail(h) end
    cast(int64_w, r + %d)[0] = x
    r[8] = 1
end
]], number, places[1], cell.name, number, places[1], cell.name, cell.name, number, places[1])
end

function writers.ring(number, cell, loads, places)
    local n = #cell.fields
    return format([[
function cell:push(%s)
%s%s    local h = holder[0]
    local r = push(h, %d)
    if r == nil then fail(h) end
%send
]], arguments(1, n), unpack_text(cell.fields, 1, n), convert_all(cell.fields, 1, n), number, store_all(cell.fields, places, 1, n))
        .. entries(number, cell, loads, 1) .. folds_text(number, cell)
end

function writers.list(number, cell, loads, places)
    return writers.ring(number, cell, loads, places) .. format([[
function cell:remove(i)
    local h = holder[0]
    local was = type(i) == "number" and remove_at(h, %d, i - 1) or 0
    if was < 0 then fail(h) end
    return was == 1
end
function cell:pop()
    local n = count_of(holder[0], %d)
    local last = cell:get(n)
    cell:remove(n)
    return last
end
]], number, number)
end

-- The key's fields are the first: of a map one, of a set all.
local function by_key(number, cell, places, keys)
    return format([[
local function look(h%s)
    if v1 == nil then error("state `%s`: a key is not null", 3) end
%s    local r = key(h, %d)
%send
function cell:has(%s)
    local h = holder[0]
    look(h, %s)
    return get(h, %d) ~= nil
end
function cell:remove(%s)
    local h = holder[0]
    look(h, %s)
    local was = remove(h, %d)
    if was < 0 then fail(h) end
    return was == 1
end
function cell:count()
    return count_of(holder[0], %d)
end
]], ", " .. arguments(1, keys), cell.name, convert_all(cell.fields, 1, keys), number, store_all(cell.fields, places, 1, keys),
        arguments(1, keys), arguments(1, keys), number, arguments(1, keys), arguments(1, keys), number, number)
end

function writers.set(number, cell, loads, places)
    local n = #cell.fields
    return by_key(number, cell, places, n) .. format([[
function cell:add(%s)
    local h = holder[0]
    look(h, %s)
    local new = get(h, %d) == nil
    if put(h, %d) == nil then fail(h) end
    return new
end
]], arguments(1, n), arguments(1, n), number, number) .. entries(number, cell, loads, 1)
end

function writers.map(number, cell, loads, places)
    local n = #cell.fields
    local fields = setmetatable({ record = cell.fields.record }, { __index = cell.fields })
    local single = n == 2 and not cell.fields.record
    local numeric = single and (types.is_numeric(cell.fields[2].type))
    return by_key(number, cell, places, 1) .. format([[
function cell:get(v1)
    local h = holder[0]
    look(h, v1)
    local r = get(h, %d)
    if r == nil then return nil end
    return %s
end
function cell:set(%s)
%s%s    local h = holder[0]
    look(h, v1)
    local r = put(h, %d)
    if r == nil then fail(h) end
%send
function cell:entry(i)
    local r = at(holder[0], %d, i - 1)
    if r == nil then return nil end
    return %s, %s
end
]], number, shown(fields, loads, 2, n), arguments(1, n), unpack_text(fields, 2, n), convert_all(cell.fields, 2, n), number,
        store_all(cell.fields, places, 2, n), number, loads[1], shown(fields, loads, 2, n))
        .. (numeric and [[
function cell:add(v1, more)
    local old = cell:get(v1)
    local new = old == nil and (more or 1) or old + (more or 1)
    cell:set(v1, new)
    return new
end
]] or "")
end

function writers.sketch(number, cell, _, places)
    return format([[
local sketch_add, sketch_count = C.weir_rule_sketch_add, C.weir_rule_sketch_count
function cell:add(v1)
    if v1 == nil then return end
%s    local h = holder[0]
    local r = key(h, %d)
%s    if sketch_add(h, %d) ~= 0 then fail(h) end
end
function cell:count()
    return sketch_count(holder[0], %d)
end
]], convert_all(cell.fields, 1, 1), number, store_all(cell.fields, places, 1, 1), number, number)
end

local function cell_source(number, cell)
    local places, loads, parts = layout(cell.fields), {}, { prologue }
    for k, field in ipairs(cell.fields) do
        parts[#parts + 1] = converter_text(k, cell, field)
        local text
        loads[k], text = load_text(k, field, places[k])
        parts[#parts + 1] = text
    end
    parts[#parts + 1] = writers[cell.kind](number, cell, loads, places)
    parts[#parts + 1] = common(number)
    parts[#parts + 1] = "return cell"
    return table.concat(parts)
end

-- ---------------------------------------------------------------- what functions are handed

local function frozen(content, what)
    return setmetatable({}, {
        __index = setmetatable(content, {
            __index = function(_, name)
                error(("%s `%s`"):format(what, tostring(name)), 2)
            end,
        }),
        __newindex = function(_, name)
            error(("`%s` cannot be assigned; state is changed through its cells"):format(tostring(name)), 2)
        end,
        __metatable = "frozen",
    })
end

local char_p = ffi.typeof "struct weir_rule_text *"
local function text_at(address)
    local text = ffi.cast(char_p, ffi.cast("intptr_t", address))
    return ffi.string(text.bytes, text.length)
end

local function fail_with(C)
    return function(h)
        error(ffi.string(C.weir_rule_error(h)), 0)
    end
end

local function state_of(spec, holder, fail)
    local C = ffi.C
    local runtime = setmetatable({ tonumber = tonumber, tostring = tostring, text_at = text_at }, { __index = row.runtime })
    local cells, sources = {}, {}
    for i, cell in ipairs(spec.cells) do
        local source = cell_source(i - 1, cell)
        sources[#sources + 1] = source
        local chunk = assert(loadstring(source, "=state " .. cell.name))
        local api = chunk(runtime, holder, nil, fail, window_us, text_of, decimal_of, of_bool, wide_result, C)
        cells[cell.name] = frozen(api, ("state `%s` (%s) has no"):format(cell.name, cell.kind))
    end
    local numbers = {}
    for i, name in ipairs(spec.timers) do
        numbers[name] = i - 1
    end
    local function number_of(name)
        return numbers[name] or error(("no timer is called `%s`"):format(tostring(name)), 3)
    end
    local Timestamp, istype = time.Timestamp, ffi.istype
    local set_timer, cancel, clear = C.weir_rule_timer, C.weir_rule_cancel, C.weir_rule_clear
    local function set(name, at, clock)
        local number = number_of(name)
        if not istype(Timestamp, at) then
            error("a timer is set for a time, such as e.sold_at + minutes(5)", 3)
        end
        local h = holder[0]
        if set_timer(h, number, at.us, clock) ~= 0 then
            fail(h)
        end
    end
    function cells.timer(_, name, at)
        set(name, at, 0)
    end
    function cells.clock_timer(_, name, at)
        set(name, at, 1)
    end
    function cells.cancel(_, name)
        local h = holder[0]
        if cancel(h, number_of(name)) ~= 0 then
            fail(h)
        end
    end
    function cells.clear()
        local h = holder[0]
        if clear(h, -1) ~= 0 then
            fail(h)
        end
    end
    return frozen(cells, "the rule has no state"), sources
end

-- emit(name, { column = value }), and what is to be done with each target as a call begins.
local function emitter(spec, holder, fail)
    local C = ffi.C
    local targets, begins = {}, {}
    for i, emit in ipairs(spec.emits) do
        local parts = { row.hide "local out, holder, fail, next_row, target, type, error = ...\n" .. [[
local function write(t)
    if type(t) ~= "table" then error("emit takes a table of columns", 3) end
    local h = holder[0]
]], format("    local i = next_row(h, %d)\n    if i < 0 then fail(h) end\n    out._weir_i = i\n", i - 1) }
        for _, column in ipairs(emit.columns) do
            parts[#parts + 1] = format("    out[%q] = t[%q]\n", column.name, column.name)
        end
        parts[#parts + 1] = format([[
end
local function begin(h)
    local c = target(h, %d)
    out._weir_c, out._weir_call = c.out, c
end
return write, begin
]], i - 1)
        local chunk = assert(loadstring(row.hide(table.concat(parts)), "=emit " .. emit.name))
        targets[emit.name], begins[i] = chunk(codegen.out_view(emit.columns)(), holder, fail, C.weir_rule_emit, C.weir_rule_target, type, error)
    end
    return function(name, t)
        local write = targets[name]
        if write == nil then
            error(("the rule does not emit `%s`"):format(tostring(name)), 2)
        end
        write(t)
    end, begins
end

local loop_source = [[
local fn, row, enter, warm, cold, holder, s, p, emit, begins, begin_count, next_item, timers, key_of, refuse, guard, migrate = ...
local state = { tries = 0, whole = 0 }
local loop
local function timer(number, h)
    timers[number](key_of(h), s, p, emit, h)
end
loop = function(call)
    local h = call.rule
    enter(row, call)
    holder[0] = h
    for i = 1, begin_count do begins[i](h) end
    local first = 0
    local warmed = call.rows > 16 and cold(loop, state)
    if warmed then
        first = -warm()
    end
    for position = first, call["end"] - 1 do
        if position >= 0 then
            local kind = next_item(h)
            if kind == 0 then
                break
            end
            call.cursor = position
            if h.migrates ~= 0 then
                migrate(h, s)
            end
            if kind == 1 then
                row._weir_c = h["in"]
                row._weir_i = h.row
                if guard then
                    guard(h, row, fn, s, p, emit)
                else
                    local verdict = fn(row, s, p, emit)
                    if verdict ~= nil then refuse(h, verdict) end
                end
            elseif kind > 1 then
                timer(kind - 1, h)
            end
        end
    end
    if warmed then
        state.whole = state.whole + 1
    end
end
return loop
]]

-- The key of a timer that fires: the value, or a table of them by name.
local function key_reader(columns)
    local View = row.view(columns)
    local view = View()
    local COLUMNS, INDEX = row.hide "_weir_c", row.hide "_weir_i"
    return function(h)
        view[COLUMNS], view[INDEX] = h.key, 0
        if #columns == 1 then
            return view[columns[1].name]
        end
        local key = {}
        for _, column in ipairs(columns) do
            key[column.name] = view[column.name]
        end
        return key
    end
end

-- A row its function rejected: nothing of what it did is kept.
local function refuse(h, verdict)
    local why = reject.why(verdict)
    if why then
        ffi.C.weir_rule_reject(h, why, #why, -1)
    end
    return why ~= nil
end

-- Rows that say which version of their key they expect: another one is refused, and each row kept makes the next.
local function guard_of(column)
    if not column then
        return false
    end
    local tonumber = value.tonumber
    return function(h, view, fn, s, p, emit)
        local actual, expected = tonumber(s.version:get()), view[column]
        if expected ~= nil and tonumber(expected) ~= actual then
            local why = format("the version is %.0f, not %.0f", actual, tonumber(expected))
            ffi.C.weir_rule_reject(h, why, #why, actual)
        elseif not refuse(h, fn(view, s, p, emit)) then
            s.version:add(1)
            ffi.C.weir_rule_version(h, actual + 1)
        end
    end
end

-- spec: { process or bind (a function that makes it from where the run at hand is held),
-- timers = names, fires = functions by name, cells, emits, params, columns, key }
function rule_loop.make(spec, name)
    local holder = ffi.new "struct weir_rule_run *[1]"
    local fail = fail_with(ffi.C)
    local s, sources = state_of(spec, holder, fail)
    local p = frozen(spec.params, "the rule has no parameter")
    local emit, begins = emitter(spec, holder, fail)
    local fires = {}
    for i, timer in ipairs(spec.timers) do
        local fn = spec.fires[timer]
        fires[i] = function(key, state, params, emits, h)
            fn(key, state, params, emits, time.Timestamp(h.at_us))
        end
    end
    local chunk = assert(loadstring(row.hide(loop_source), "=" .. name))
    local parts = codegen.parts
    local process = spec.bind and spec.bind(holder, s) or spec.process
    local loop = chunk(process, row.view(spec.columns)(), parts.enter, parts.warm, parts.cold, holder, s, p, emit, begins, #begins,
        ffi.C.weir_rule_next, fires, key_reader(spec.key), refuse, guard_of(spec.expects),
        rule_migrate.make(spec.migrate, spec.version))
    return loop, loop_source .. table.concat(sources, "\n")
end

return rule_loop
