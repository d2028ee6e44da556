-- Times as values: timestamp (µs, UTC), timestamp_ns, date and duration, and the functions of the
-- language over them. Differences of times are durations; durations compare with durations or with a
-- text such as "90s". Bits and zones stay out of the rules' sight.
local ffi = require "ffi"
local value = require "weir.internal.value"

-- Resolved once, here: the JIT compiles no call to a symbol it has not seen.
local weir_duration_parse = ffi.C.weir_duration_parse
local weir_duration_to_text = ffi.C.weir_duration_to_text
local weir_native_now_us = ffi.C.weir_native_now_us
local weir_time_date = ffi.C.weir_time_date
local weir_time_format = ffi.C.weir_time_format
local weir_time_hour = ffi.C.weir_time_hour
local weir_time_minute = ffi.C.weir_time_minute
local weir_time_parse_date = ffi.C.weir_time_parse_date
local weir_time_parse_ns = ffi.C.weir_time_parse_ns
local weir_time_parse_us = ffi.C.weir_time_parse_us
local weir_time_second = ffi.C.weir_time_second
local weir_time_text_date = ffi.C.weir_time_text_date
local weir_time_text_ns = ffi.C.weir_time_text_ns
local weir_time_text_us = ffi.C.weir_time_text_us
local weir_time_trunc = ffi.C.weir_time_trunc
local weir_zone_find = ffi.C.weir_zone_find

local istype, type, error, tostring, tonumber = ffi.istype, type, error, tostring, tonumber
local floor, format = math.floor, string.format

local Timestamp = ffi.typeof "struct weir_timestamp"
local TimestampNs = ffi.typeof "struct weir_timestamp_ns"
local Date = ffi.typeof "struct weir_date"
local Duration = ffi.typeof "struct weir_duration"
local int64_t = ffi.typeof "int64_t"

local DAY_US = 86400000000LL

local time = { Timestamp = Timestamp, TimestampNs = TimestampNs, Date = Date, Duration = Duration }

function value.time_kind(x)
    return istype(Timestamp, x) and "timestamp"
        or istype(TimestampNs, x) and "timestamp_ns"
        or istype(Date, x) and "date"
        or istype(Duration, x) and "duration"
        or "a row value"
end

-- ---------------------------------------------------------------- texts

local out64, out32, has_zone = ffi.new "int64_t[1]", ffi.new "int32_t[1]", ffi.new "int32_t[1]"
local buffer = ffi.new "char[256]"

-- Microseconds (a Lua number) of "90s", "1h30m", "-28d"; nil when it is no duration.
function time.parse_duration(text)
    if weir_duration_parse(out64, text, #text) ~= 0 then
        return nil
    end
    return (tonumber(out64[0]))
end

-- The same of a duration or its text; nil of anything else.
function time.duration_us(x)
    if istype(Duration, x) then
        return (tonumber(x.us))
    end
    return type(x) == "string" and time.parse_duration(x) or nil
end

-- Days since the epoch of "2026-01-05", or nil.
function time.parse_date(text)
    if weir_time_parse_date(out32, text, #text) ~= 0 then
        return nil
    end
    return (tonumber(out32[0]))
end

-- Microseconds (int64_t) of ISO 8601 text; nil when it is none. Without an offset only when `local_ok`.
function time.parse_timestamp(text, local_ok)
    if weir_time_parse_us(out64, has_zone, text, #text) ~= 0 or (has_zone[0] == 0 and not local_ok) then
        return nil
    end
    return out64[0] + 0LL
end

-- The same in nanoseconds.
function time.parse_timestamp_ns(text, local_ok)
    if weir_time_parse_ns(out64, has_zone, text, #text) ~= 0 or (has_zone[0] == 0 and not local_ok) then
        return nil
    end
    return out64[0] + 0LL
end

local function duration_text(us)
    return ffi.string(buffer, weir_duration_to_text(us, buffer))
end
time.duration_text = duration_text

-- Texts in comparisons repeat row after row: the last few parses of each kind are kept, capped.
local parsed, parsed_count = {}, 0
local function remembered(text, parse, what)
    local of_kind = parsed[parse]
    local found = of_kind and of_kind[text]
    if found == nil then
        found = parse(text)
        if found == nil then
            error(format("%q is not a %s", text, what), 4)
        end
        if parsed_count >= 1024 then
            parsed, parsed_count, of_kind = {}, 0, nil
        end
        of_kind = of_kind or {}
        parsed[parse], parsed_count = of_kind, parsed_count + 1
        of_kind[text] = found
    end
    return found
end

local function parse_duration_value(text)
    local us = time.parse_duration(text)
    return us and Duration(int64_t(us))
end

local function parse_timestamp_value(text)
    local us = time.parse_timestamp(text)
    if us then
        return Timestamp(us)
    end
    local ns = time.parse_timestamp_ns(text) -- more places than microseconds have
    return ns and TimestampNs(ns)
end

local function parse_date_value(text)
    local days = time.parse_date(text)
    return days and Date(days)
end

-- Whether a text can stand for a value of this kind in a comparison.
function time.reads(kind, text)
    local parse = kind == "timestamp" and parse_timestamp_value or kind == "date" and parse_date_value or parse_duration_value
    return parse(text) ~= nil
end

-- ---------------------------------------------------------------- arithmetic

local function add64(a, b, x, y)
    local v = a + b
    if (a < 0) == (b < 0) and (v < 0) ~= (a < 0) then
        error(format("time overflow: %s + %s", tostring(x), tostring(y)), 3)
    end
    return v
end

local function refuse(verb, a, b)
    error(format("cannot %s %s and %s", verb, value.kind(a), value.kind(b)), 3)
end

-- A duration from a duration or its text.
local function as_duration(x)
    if istype(Duration, x) then
        return x
    elseif type(x) == "string" then
        return remembered(x, parse_duration_value, 'duration such as "90s"')
    end
    return nil
end

local function whole_days(d, x)
    local days = d.us / DAY_US
    if days * DAY_US ~= d.us then
        error(format("a date moves by whole days, not by %s", tostring(x)), 3)
    end
    return (tonumber(days))
end

local function moved(a, us, x)
    if istype(Timestamp, a) then
        return (Timestamp(add64(a.us, us, a, x)))
    end
    if us > 9000000000000000LL or us < -9000000000000000LL then
        error(format("time overflow: %s and %s", tostring(a), tostring(x)), 3)
    end
    return (TimestampNs(add64(a.ns, us * 1000, a, x)))
end

local function is_instant(x)
    return istype(Timestamp, x) or istype(TimestampNs, x)
end

local function add(a, b)
    if istype(Duration, a) and not istype(Duration, b) and type(b) ~= "string" then
        a, b = b, a
    end
    local d = as_duration(b)
    if d then
        if is_instant(a) then
            return moved(a, d.us, b)
        elseif istype(Date, a) then
            return (Date(a.days + whole_days(d, b)))
        end
        local left = as_duration(a)
        if left then
            return (Duration(add64(left.us, d.us, a, b)))
        end
    end
    return refuse("add", a, b)
end

local function subtract(a, b)
    if istype(Timestamp, a) then
        if istype(Timestamp, b) then
            return (Duration(add64(a.us, -b.us, a, b)))
        elseif istype(TimestampNs, b) then
            return (Duration(add64(a.us, -(b.ns / 1000), a, b)))
        end
    elseif istype(TimestampNs, a) then
        if istype(TimestampNs, b) then
            return (Duration((a.ns - b.ns) / 1000))
        elseif istype(Timestamp, b) then
            return (Duration(add64(a.ns / 1000, -b.us, a, b)))
        end
    elseif istype(Date, a) and istype(Date, b) then
        return (Duration(int64_t(a.days - b.days) * DAY_US))
    end
    local d = as_duration(b)
    if d then
        if is_instant(a) then
            return moved(a, -d.us, b)
        elseif istype(Date, a) then
            return (Date(a.days - whole_days(d, b)))
        end
        local left = as_duration(a)
        if left then
            return (Duration(add64(left.us, -d.us, a, b)))
        end
    end
    return refuse("subtract", a, b)
end

-- -1, 0, 1; nil when the kinds do not compare.
local function compare(a, b)
    local av, bv
    if istype(Timestamp, a) or istype(Timestamp, b) or istype(TimestampNs, a) or istype(TimestampNs, b) then
        if type(a) == "string" then
            a = remembered(a, parse_timestamp_value, "time with an offset")
        elseif type(b) == "string" then
            b = remembered(b, parse_timestamp_value, "time with an offset")
        end
        if istype(Timestamp, a) and istype(Timestamp, b) then
            av, bv = a.us, b.us
        elseif is_instant(a) and is_instant(b) then
            -- Mixed: whole microseconds first, the nanoseconds over decide a tie.
            local at, bt = a, b
            local a_us = istype(Timestamp, at) and at.us or at.ns / 1000
            local b_us = istype(Timestamp, bt) and bt.us or bt.ns / 1000
            av, bv = a_us, b_us
            if av == bv then
                av = istype(Timestamp, at) and 0LL or at.ns - a_us * 1000
                bv = istype(Timestamp, bt) and 0LL or bt.ns - b_us * 1000
            end
        else
            return nil
        end
    elseif istype(Date, a) or istype(Date, b) then
        if type(a) == "string" then
            a = remembered(a, parse_date_value, "date")
        elseif type(b) == "string" then
            b = remembered(b, parse_date_value, "date")
        end
        if not (istype(Date, a) and istype(Date, b)) then
            return nil
        end
        if a.days < b.days then
            return -1
        end
        return a.days > b.days and 1 or 0
    else
        local da, db = as_duration(a), as_duration(b)
        if not (da and db) then
            return nil
        end
        av, bv = da.us, db.us
    end
    if av < bv then
        return -1
    elseif av > bv then
        return 1
    end
    return 0
end

local function less(a, b)
    local order = compare(a, b)
    if order == nil then
        refuse("compare", a, b)
    end
    return order < 0
end

local function less_equal(a, b)
    local order = compare(a, b)
    if order == nil then
        refuse("compare", a, b)
    end
    return order <= 0
end

local function equal(a, b)
    if type(a) == "nil" or type(b) == "nil" then
        return false
    end
    return compare(a, b) == 0
end

local function whole_factor(x)
    if type(x) == "number" and x == floor(x) and x > -9e15 and x < 9e15 then
        return x
    elseif istype(value.Int64, x) then
        return (tonumber(x.v))
    end
    return nil
end

local function multiply(a, b)
    if not istype(Duration, a) then
        a, b = b, a
    end
    local n = whole_factor(b)
    if not n or istype(Duration, b) then
        refuse("multiply", a, b)
    end
    local near = tonumber(a.us) * n
    if near > 9e18 or near < -9e18 then
        error(format("time overflow: %s * %s", tostring(a), tostring(b)), 2)
    end
    return (Duration(a.us * int64_t(n)))
end

local function divide(a, b)
    if istype(Duration, a) and istype(Duration, b) then
        return value.Int64(a.us) / value.Int64(b.us)
    end
    local n = istype(Duration, a) and whole_factor(b)
    if not n then
        refuse("divide", a, b)
    elseif n == 0 then
        error(format("division of %s by zero", tostring(a)), 2)
    end
    return (Duration(value.half_even(a.us, int64_t(n))))
end

local function meta(name, text, extra)
    local m = {
        __add = add,
        __sub = subtract,
        __lt = less,
        __le = less_equal,
        __eq = equal,
        __mul = function(a, b)
            refuse("multiply", a, b)
        end,
        __div = function(a, b)
            refuse("divide", a, b)
        end,
        __mod = function(a, b)
            refuse("take the remainder of", a, b)
        end,
        __concat = value.concat,
        __tostring = text,
        __index = function(_, field)
            error(format("a %s has no field %q", name, tostring(field)), 2)
        end,
        __newindex = function()
            error("a " .. name .. " cannot be changed", 2)
        end,
    }
    for k, v in pairs(extra or {}) do
        m[k] = v
    end
    return m
end

ffi.metatype(
    Timestamp,
    meta("timestamp", function(x)
        return ffi.string(buffer, weir_time_text_us(x.us, 1, buffer))
    end)
)
ffi.metatype(
    TimestampNs,
    meta("timestamp", function(x)
        return ffi.string(buffer, weir_time_text_ns(x.ns, 1, buffer))
    end)
)
ffi.metatype(
    Date,
    meta("date", function(x)
        return ffi.string(buffer, weir_time_text_date(x.days, buffer))
    end)
)
ffi.metatype(
    Duration,
    meta("duration", function(x)
        return duration_text(x.us)
    end, {
        __mul = multiply,
        __div = divide,
        __unm = function(x)
            return (Duration(-x.us))
        end,
    })
)

-- ---------------------------------------------------------------- functions of the language

local function duration_of(name, us)
    return function(n)
        if istype(value.Int64, n) then
            n = tonumber(n.v)
        end
        local total = type(n) == "number" and n * us or nil
        if not total or total ~= floor(total) or total > 9e15 or total < -9e15 then
            error(format("%s takes a number, not %s", name, value.kind(n)), 2)
        end
        return (Duration(int64_t(total)))
    end
end
time.days = duration_of("days", 86400000000)
time.hours = duration_of("hours", 3600000000)
time.minutes = duration_of("minutes", 60000000)
time.seconds = duration_of("seconds", 1000000)
time.milliseconds = duration_of("milliseconds", 1000)

local function us_of(x, name)
    if istype(Timestamp, x) then
        return x.us
    elseif istype(TimestampNs, x) then
        local us = x.ns / 1000
        if us * 1000 > x.ns then
            us = us - 1
        end
        return us
    elseif istype(Date, x) then
        return int64_t(x.days) * DAY_US
    end
    return error(format("%s takes a time, not %s", name, value.kind(x)), 3)
end

local zones, zone_count = {}, 0
local function zone_of(name)
    local z = zones[name]
    if not z then
        if type(name) ~= "string" then
            error("a time zone is a name such as \"Europe/London\", not " .. value.kind(name), 3)
        end
        z = weir_zone_find(name, #name)
        if z == nil then
            error(format("no time zone %q on this machine (is tzdata installed?)", name), 3)
        end
        if zone_count >= 1024 then
            zones, zone_count = {}, 0
        end
        zones[name], zone_count = z, zone_count + 1
    end
    return z
end

-- Whether a zone of that name exists.
function time.has_zone(name)
    return (pcall(zone_of, name))
end

-- The functions whose default zone is the pipeline's: date hour minute second format trunc.
function time.functions(default_zone)
    local f = {}

    function f.date(x, zone_name)
        if x == nil then
            return nil
        elseif istype(Date, x) then
            return x
        elseif type(x) == "string" then
            return remembered(x, parse_date_value, "date")
        end
        return (Date(weir_time_date(us_of(x, "date"), zone_of(zone_name or default_zone))))
    end

    function f.hour(x, zone_name)
        if x == nil then
            return nil
        end
        return (weir_time_hour(us_of(x, "hour"), zone_of(zone_name or default_zone)))
    end

    function f.minute(x, zone_name)
        if x == nil then
            return nil
        end
        return (weir_time_minute(us_of(x, "minute"), zone_of(zone_name or default_zone)))
    end

    function f.second(x)
        if x == nil then
            return nil
        end
        return (weir_time_second(us_of(x, "second"), nil))
    end

    function f.format(x, pattern, zone_name)
        if x == nil then
            return nil
        elseif type(pattern) ~= "string" then
            error('format takes a time and a pattern such as "%H:%M"', 2)
        end
        local us = us_of(x, "format")
        local n = weir_time_format(us, pattern, #pattern, zone_of(zone_name or default_zone), buffer, 256)
        if n < 0 then
            error(format(n == -1 and "format knows not every %% of %q" or "the text of format(%q) is too long", pattern), 2)
        end
        return ffi.string(buffer, n)
    end

    -- Down to a multiple of the step on the zone's clock.
    function f.trunc(x, step, zone_name)
        if x == nil then
            return nil
        end
        local d = as_duration(step)
        if not d or d.us <= 0 then
            error('trunc takes a time and a step such as "10s"', 2)
        end
        if weir_time_trunc(out64, us_of(x, "trunc"), d.us, zone_of(zone_name or default_zone)) ~= 0 then
            error("trunc: the time is out of range", 2)
        end
        return (Timestamp(out64[0]))
    end

    return f
end

function time.now()
    return (Timestamp(weir_native_now_us()))
end

return time
