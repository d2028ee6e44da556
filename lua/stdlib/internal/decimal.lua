-- Decimals: exact operators over one-word structs, and what int64.lua and value.lua share with them.
--
-- The idea: a decimal of up to 18 digits is {v, scale} with |v| < 10^18, so a sum of two never leaves
-- the word and one range check is the whole overflow test; the JIT keeps both fields in registers.
-- Whatever leaves that range goes through wide.lua (128 bits in C). A plain Lua number beside one of
-- these values counts as the decimal written: 0.2 is two tenths.
local ffi = require "ffi"
local bit = require "bit"

local wide = require "weir.internal.wide"

local istype, type, error, tostring, tonumber = ffi.istype, type, error, tostring, tonumber
local floor, band = math.floor, bit.band
local format = string.format

local int64_t = ffi.typeof "int64_t"
local Int64 = ffi.typeof "struct weir_int64"
local Decimal = ffi.typeof "struct weir_decimal"
local Wide = ffi.typeof "struct weir_decimal128"

local LIMIT = 1000000000000000000LL -- 10^18
local pow10 = ffi.new "int64_t[19]" -- 10^k
local room = ffi.new "int64_t[19]" -- the largest |v| that may still be multiplied by 10^k
do
    local p = 1LL
    for k = 0, 18 do
        pow10[k] = p
        room[k] = (LIMIT - 1) / p
        p = p * 10
    end
end

local decimal = { Int64 = Int64, Decimal = Decimal, Wide = Wide, pow10 = pow10, room = room, LIMIT = LIMIT }

-- Digits of an int64 without the LL of LuaJIT's own tostring.
local function digits(v)
    if v > -1000000000000000LL and v < 1000000000000000LL then
        return format("%d", tonumber(v))
    end
    return (tostring(v):gsub("LL$", ""))
end
decimal.digits = digits

-- What a value is called in messages.
local function kind(x)
    if x == nil then
        return "null (nil)"
    elseif type(x) ~= "cdata" then
        return type(x)
    elseif istype(Int64, x) then
        return "int64"
    elseif istype(Decimal, x) or istype(Wide, x) then
        return "decimal"
    end
    return decimal.time_kind(x)
end
decimal.kind = kind

-- Throws with the place in the rule's own file, however many of our functions lie between.
local function throw(message)
    for level = 3, 64 do
        local info = debug.getinfo(level, "Sl")
        if not info then
            break
        end
        local source = info.source
        if source:sub(1, 1) == "@" and not source:find("^@weir/") and not source:find "lua/stdlib/" and info.currentline > 0 then
            error(format("%s:%d: %s", info.short_src, info.currentline, message), 0)
        end
    end
    error(message, 0)
end
decimal.throw = throw

local function refuse(verb, a, b)
    throw(format("cannot %s %s and %s", verb, kind(a), kind(b)))
end

-- ---------------------------------------------------------------- a number as the decimal written

-- The shortest decimal that reads as x: digits and scale. Division of whole numbers below 2^53 is
-- correctly rounded, so n / 10^k == x says exactly that n e-k reads as x.
local function written_slow(x)
    local w = wide.written(x)
    if w == nil then
        error(format("%s is not a number a decimal can hold", tostring(x)), 0)
    end
    return ffi.cast(int64_t, w.lo), w.scale
end

local function written(x)
    if x == floor(x) and x > -1e18 and x < 1e18 then
        return int64_t(x), 0
    end
    local n = floor(x * 10 + 0.5)
    if n / 10 == x then
        return int64_t(n), 1
    end
    n = floor(x * 100 + 0.5)
    if n / 100 == x and n < 1e15 and n > -1e15 then
        return int64_t(n), 2
    end
    n = floor(x * 1000 + 0.5)
    if n / 1000 == x and n < 1e15 and n > -1e15 then
        return int64_t(n), 3
    end
    n = floor(x * 10000 + 0.5)
    if n / 10000 == x and n < 1e15 and n > -1e15 then
        return int64_t(n), 4
    end
    return written_slow(x)
end
decimal.written = written

-- A number that is a whole one an int64 holds exactly.
local function is_whole(x)
    return x == floor(x) and x >= -9223372036854775808 and x < 9223372036854775808
end

-- Digits and scale of what fits one word; nothing for the rest.
local function parts(x)
    if istype(Decimal, x) then
        return x.v, x.scale
    elseif type(x) == "number" then
        if x > -1e18 and x < 1e18 then
            return written(x)
        end
    elseif istype(Int64, x) then
        local v = x.v
        if v < LIMIT and v > -LIMIT then
            return v, 0
        end
    end
    return nil, nil
end

-- The same as 128 bits, for the slow path; nothing when x is no number at all.
local function widen(x)
    if istype(Wide, x) then
        return x
    elseif istype(Decimal, x) then
        return wide.from(x.v, x.scale)
    elseif istype(Int64, x) then
        return wide.from(x.v, 0)
    elseif type(x) == "number" then
        local w = wide.written(x)
        if w == nil then
            error(format("%s is not a number a decimal can hold", tostring(x)), 0)
        end
        return w
    end
    return nil
end

-- Back to one word where it fits.
local function narrow(w)
    local v = ffi.cast(int64_t, w.lo)
    if (w.hi == 0 and v >= 0 and v < LIMIT) or (w.hi == -1 and v < 0 and v > -LIMIT) then
        return (Decimal(v, w.scale))
    end
    return w
end
decimal.narrow = narrow

local function wide_op(name, verb, a, b)
    local wa, wb = widen(a), widen(b)
    if wa == nil or wb == nil then
        error(format("cannot %s %s and %s", verb, kind(a), kind(b)), 0)
    end
    local ok, result = wide[name](wa, wb)
    if not ok then
        error(format("%s (%s %s and %s)", result, verb, tostring(a), tostring(b)), 0)
    end
    return (narrow(result))
end

-- ---------------------------------------------------------------- decimal arithmetic

local function decimal_add(a, b)
    local av, as = parts(a)
    local bv, bs = parts(b)
    if as and bs then
        if as == bs then
            local v = av + bv
            if v < LIMIT and v > -LIMIT then
                return (Decimal(v, as))
            end
        elseif as < bs then
            local k = bs - as
            if k <= 18 and av <= room[k] and av >= -room[k] then
                local v = av * pow10[k] + bv
                if v < LIMIT and v > -LIMIT then
                    return (Decimal(v, bs))
                end
            end
        else
            local k = as - bs
            if k <= 18 and bv <= room[k] and bv >= -room[k] then
                local v = av + bv * pow10[k]
                if v < LIMIT and v > -LIMIT then
                    return (Decimal(v, as))
                end
            end
        end
    end
    return wide_op("add", "add", a, b)
end

local function decimal_sub(a, b)
    local av, as = parts(a)
    local bv, bs = parts(b)
    if as and bs then
        if as == bs then
            local v = av - bv
            if v < LIMIT and v > -LIMIT then
                return (Decimal(v, as))
            end
        elseif as < bs then
            local k = bs - as
            if k <= 18 and av <= room[k] and av >= -room[k] then
                local v = av * pow10[k] - bv
                if v < LIMIT and v > -LIMIT then
                    return (Decimal(v, bs))
                end
            end
        else
            local k = as - bs
            if k <= 18 and bv <= room[k] and bv >= -room[k] then
                local v = av - bv * pow10[k]
                if v < LIMIT and v > -LIMIT then
                    return (Decimal(v, as))
                end
            end
        end
    end
    return wide_op("sub", "subtract", a, b)
end

local function decimal_mul(a, b)
    local av, as = parts(a)
    local bv, bs = parts(b)
    if as and bs then
        -- Below 9e17 as doubles is below 10^18 exactly: the product is right and in the word.
        local near = tonumber(av) * tonumber(bv)
        if near < 9e17 and near > -9e17 and as + bs <= 38 then
            return (Decimal(av * bv, as + bs))
        end
    end
    return wide_op("mul", "multiply", a, b)
end

-- n / d rounded half to even; |d| < 2^62.
local function half_even(n, d)
    local q = n / d
    local r = n - q * d
    if r ~= 0 then
        if r < 0 then
            r = -r
        end
        local m = d
        if m < 0 then
            m = -m
        end
        r = r * 2
        if r > m or (r == m and band(q, 1) ~= 0) then
            if (n < 0) == (d < 0) then
                q = q + 1
            else
                q = q - 1
            end
        end
    end
    return q
end
decimal.half_even = half_even

local function decimal_div(a, b)
    local av, as = parts(a)
    local bv, bs = parts(b)
    if as and bs then
        if bv == 0 then
            error(format("division of %s by zero", tostring(a)), 3)
        end
        local scale = as
        if bs > scale then
            scale = bs
        end
        if scale < 6 then
            scale = 6
        end
        local k = scale - as + bs
        if k <= 18 and av <= room[k] and av >= -room[k] then
            return (Decimal(half_even(av * pow10[k], bv), scale))
        end
    end
    local wa, wb = widen(a), widen(b)
    if wa == nil or wb == nil then
        refuse("divide", a, b)
    end
    if wb.lo == 0 and wb.hi == 0 then
        error(format("division of %s by zero", tostring(a)), 3)
    end
    local ok, result = wide.div(wa, wb)
    if not ok then
        error(format("%s (divide %s by %s)", result, tostring(a), tostring(b)), 3)
    end
    return (narrow(result))
end

-- Floored, as Lua's own %: the result has the divisor's sign, and a - a % b is a multiple of b.
local function decimal_mod(a, b)
    local av, as = parts(a)
    local bv, bs = parts(b)
    if not (as and bs) then
        local wa, wb = widen(a), widen(b)
        if wa == nil or wb == nil then
            refuse("take the remainder of", a, b)
        end
        local ok, result = wide.mod(wa, wb)
        if not ok then
            throw(format("%s (%s %% %s)", result, tostring(a), tostring(b)))
        end
        return (narrow(result))
    end
    if bv == 0 then
        throw(format("remainder of %s by zero", tostring(a)))
    end
    local scale = as
    if as < bs then
        scale = bs
        if bs - as > 18 or av > room[bs - as] or av < -room[bs - as] then
            return wide_op("mod", "take the remainder of", a, b)
        end
        av = av * pow10[bs - as]
    elseif bs < as then
        if as - bs > 18 or bv > room[as - bs] or bv < -room[as - bs] then
            return wide_op("mod", "take the remainder of", a, b)
        end
        bv = bv * pow10[as - bs]
    end
    local r = av % bv
    if r ~= 0 and (r < 0) ~= (bv < 0) then
        r = r + bv
    end
    return (Decimal(r, scale))
end

-- -1, 0, 1; 2 when one is NaN; nothing when they cannot be compared.
local function compare(a, b)
    local av, as = parts(a)
    local bv, bs = parts(b)
    if not (as and bs) then
        -- A double beyond 38 digits, infinity included: its sign decides. (Never `==` here: that comes back.)
        if type(a) == "number" then
            if a ~= a then
                return 2
            elseif a >= 1e38 then
                return 1
            elseif a <= -1e38 then
                return -1
            end
        elseif type(b) == "number" then
            if b ~= b then
                return 2
            elseif b >= 1e38 then
                return -1
            elseif b <= -1e38 then
                return 1
            end
        end
        local wa, wb = widen(a), widen(b)
        if wa == nil or wb == nil then
            return nil
        end
        return wide.compare(wa, wb)
    end
    if as < bs then
        local k = bs - as
        if k > 18 or av > room[k] or av < -room[k] then
            if av == 0 then
                return bv < 0 and 1 or bv > 0 and -1 or 0
            end
            return av > 0 and 1 or -1
        end
        av = av * pow10[k]
    elseif bs < as then
        local k = as - bs
        if k > 18 or bv > room[k] or bv < -room[k] then
            if bv == 0 then
                return av < 0 and -1 or av > 0 and 1 or 0
            end
            return bv > 0 and -1 or 1
        end
        bv = bv * pow10[k]
    end
    if av < bv then
        return -1
    elseif av > bv then
        return 1
    end
    return 0
end
decimal.compare = compare
decimal.widen = widen

local function text_of(x)
    if x == nil then
        error("cannot join null (nil) to a text", 3)
    end
    return tostring(x)
end

local function concat(a, b)
    return text_of(a) .. text_of(b)
end
decimal.concat = concat

local function decimal_text(v, scale)
    local text = digits(v)
    if scale == 0 then
        return text
    end
    local sign = ""
    if v < 0 then
        sign, text = "-", text:sub(2)
    end
    if #text <= scale then
        text = ("0"):rep(scale - #text + 1) .. text
    end
    return sign .. text:sub(1, -scale - 1) .. "." .. text:sub(-scale)
end

local function no_power()
    error("^ is not defined for int64 and decimal; multiply instead", 2)
end

-- A call that compare() could not answer is a mistake in the rule, not a false.
local function less(a, b)
    local order = compare(a, b)
    if order == nil then
        refuse("compare", a, b)
    end
    return order == -1
end

local function less_equal(a, b)
    local order = compare(a, b)
    if order == nil then
        refuse("compare", a, b)
    end
    return order == -1 or order == 0
end

local function equal(a, b)
    if type(a) == "nil" or type(b) == "nil" then
        return false
    end
    return compare(a, b) == 0
end

local decimal_meta = {
    __add = decimal_add,
    __sub = decimal_sub,
    __mul = decimal_mul,
    __div = decimal_div,
    __mod = decimal_mod,
    __pow = no_power,
    __unm = function(a)
        return (Decimal(-a.v, a.scale))
    end,
    __eq = function(a, b)
        if istype(Decimal, a) and istype(Decimal, b) and a.scale == b.scale then
            return a.v == b.v
        end
        return (equal(a, b))
    end,
    __lt = function(a, b)
        if istype(Decimal, a) and istype(Decimal, b) and a.scale == b.scale then
            return a.v < b.v
        end
        return (less(a, b))
    end,
    __le = function(a, b)
        if istype(Decimal, a) and istype(Decimal, b) and a.scale == b.scale then
            return a.v <= b.v
        end
        return (less_equal(a, b))
    end,
    __concat = concat,
    __tostring = function(a)
        return decimal_text(a.v, a.scale)
    end,
    __index = function(_, name)
        error(format("a decimal has no field %q", tostring(name)), 2)
    end,
    __newindex = function()
        error("a decimal cannot be changed", 2)
    end,
}

local wide_meta = {
    __add = decimal_add,
    __sub = decimal_sub,
    __mul = decimal_mul,
    __div = decimal_div,
    __mod = decimal_mod,
    __pow = no_power,
    __unm = function(a)
        return (decimal_sub(Decimal(0, a.scale), a))
    end,
    __eq = equal,
    __lt = less,
    __le = less_equal,
    __concat = concat,
    __tostring = function(a)
        return wide.text(a)
    end,
    __index = decimal_meta.__index,
    __newindex = decimal_meta.__newindex,
}

ffi.metatype(Decimal, decimal_meta)
ffi.metatype(Wide, wide_meta)

-- replaced by time.lua, which knows the kinds of time
function decimal.time_kind(_)
    return "a value"
end

decimal.is_whole, decimal.parts, decimal.half_even, decimal.refuse = is_whole, parts, half_even, refuse
decimal.operators = { add = decimal_add, sub = decimal_sub, mul = decimal_mul, div = decimal_div, mod = decimal_mod, pow = no_power,
    less = less, less_equal = less_equal, equal = equal }

return decimal
