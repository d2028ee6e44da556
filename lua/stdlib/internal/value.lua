-- The values rules compute with: int64 and decimals as one-word structs with exact operators (times
-- are in time.lua). A raw int64_t never reaches a rule: in stock LuaJIT 2LL == 2.5 and 5LL * 0.5 == 0.
--
-- The idea: a decimal of up to 18 digits is {v, scale} with |v| < 10^18, so a sum of two never leaves
-- the word and one range check is the whole overflow test; the JIT keeps both fields in registers.
-- Whatever leaves that range goes through wide.lua (128 bits in C). A plain Lua number beside one of
-- these values counts as the decimal written: 0.2 is two tenths.
local ffi = require "ffi"
local bit = require "bit"

local wide = require "weir.internal.wide"

-- Resolved once, here: the JIT compiles no call to a symbol it has not seen.
local weir_math_round = ffi.C.weir_math_round

local istype, type, error, tostring, tonumber = ffi.istype, type, error, tostring, tonumber
local floor, band, bxor = math.floor, bit.band, bit.bxor
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

local value = { Int64 = Int64, Decimal = Decimal, Wide = Wide, pow10 = pow10, LIMIT = LIMIT }

-- Digits of an int64 without the LL of LuaJIT's own tostring.
local function digits(v)
    if v > -1000000000000000LL and v < 1000000000000000LL then
        return format("%d", tonumber(v))
    end
    return (tostring(v):gsub("LL$", ""))
end
value.digits = digits

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
    return value.time_kind(x)
end
value.kind = kind

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
value.throw = throw

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
value.written = written

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
value.narrow = narrow

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
value.half_even = half_even

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
value.compare = compare
value.widen = widen

local function text_of(x)
    if x == nil then
        error("cannot join null (nil) to a text", 3)
    end
    return tostring(x)
end

local function concat(a, b)
    return text_of(a) .. text_of(b)
end
value.concat = concat

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

-- ---------------------------------------------------------------- int64

local function int64_overflow(sign, a, b)
    error(format("int64 overflow: %s %s %s", tostring(a), sign, tostring(b)), 3)
end

local int64_meta = {
    __add = function(a, b)
        local av, bv
        if istype(Int64, a) then
            av = a.v
        elseif type(a) == "number" and is_whole(a) then
            av = int64_t(a)
        else
            return (decimal_add(a, b))
        end
        if istype(Int64, b) then
            bv = b.v
        elseif type(b) == "number" and is_whole(b) then
            bv = int64_t(b)
        else
            return (decimal_add(a, b))
        end
        local v = av + bv
        if band(bxor(av, v), bxor(bv, v)) < 0 then
            int64_overflow("+", a, b)
        end
        return (Int64(v))
    end,
    __sub = function(a, b)
        local av, bv
        if istype(Int64, a) then
            av = a.v
        elseif type(a) == "number" and is_whole(a) then
            av = int64_t(a)
        else
            return (decimal_sub(a, b))
        end
        if istype(Int64, b) then
            bv = b.v
        elseif type(b) == "number" and is_whole(b) then
            bv = int64_t(b)
        else
            return (decimal_sub(a, b))
        end
        local v = av - bv
        if band(bxor(av, bv), bxor(av, v)) < 0 then
            int64_overflow("-", a, b)
        end
        return (Int64(v))
    end,
    __mul = function(a, b)
        local av, bv
        if istype(Int64, a) then
            av = a.v
        elseif type(a) == "number" and is_whole(a) then
            av = int64_t(a)
        else
            return (decimal_mul(a, b))
        end
        if istype(Int64, b) then
            bv = b.v
        elseif type(b) == "number" and is_whole(b) then
            bv = int64_t(b)
        else
            return (decimal_mul(a, b))
        end
        local near = tonumber(av) * tonumber(bv)
        local v = av * bv
        if near > 9.2e18 or near < -9.2e18 then
            -- Near the edge the doubles cannot say; dividing back can (and -1 * min wraps to itself).
            if near > 9.3e18 or near < -9.3e18 or v / bv ~= av or v == -9223372036854775807LL - 1 and near > 0 then
                int64_overflow("*", a, b)
            end
        end
        return (Int64(v))
    end,
    __div = decimal_div,
    __mod = function(a, b)
        local av, bv
        if istype(Int64, a) then
            av = a.v
        elseif type(a) == "number" and is_whole(a) then
            av = int64_t(a)
        else
            return (decimal_mod(a, b))
        end
        if istype(Int64, b) then
            bv = b.v
        elseif type(b) == "number" and is_whole(b) then
            bv = int64_t(b)
        else
            return (decimal_mod(a, b))
        end
        if bv == 0 then
            error(format("remainder of %s by zero", tostring(a)), 2)
        elseif bv == -1 then
            return (Int64(0))
        end
        local r = av % bv
        if r ~= 0 and (r < 0) ~= (bv < 0) then
            r = r + bv
        end
        return (Int64(r))
    end,
    __pow = no_power,
    __unm = function(a)
        local v = a.v
        if v == -9223372036854775807LL - 1 then
            error("int64 overflow: -(" .. tostring(a) .. ")", 2)
        end
        return (Int64(-v))
    end,
    __eq = function(a, b)
        if istype(Int64, a) then
            if istype(Int64, b) then
                return a.v == b.v
            elseif type(b) == "number" and is_whole(b) then
                return a.v == int64_t(b)
            end
        elseif type(a) == "number" and is_whole(a) then
            return int64_t(a) == b.v
        end
        return (equal(a, b))
    end,
    __lt = function(a, b)
        if istype(Int64, a) then
            if istype(Int64, b) then
                return a.v < b.v
            elseif type(b) == "number" and is_whole(b) then
                return a.v < int64_t(b)
            end
        elseif type(a) == "number" and is_whole(a) then
            return int64_t(a) < b.v
        end
        return (less(a, b))
    end,
    __le = function(a, b)
        if istype(Int64, a) then
            if istype(Int64, b) then
                return a.v <= b.v
            elseif type(b) == "number" and is_whole(b) then
                return a.v <= int64_t(b)
            end
        elseif type(a) == "number" and is_whole(a) then
            return int64_t(a) <= b.v
        end
        return (less_equal(a, b))
    end,
    __concat = concat,
    __tostring = function(a)
        return (digits(a.v))
    end,
    __index = function(_, name)
        error(format("an int64 has no field %q", tostring(name)), 2)
    end,
    __newindex = function()
        error("an int64 cannot be changed", 2)
    end,
}

ffi.metatype(Int64, int64_meta)
ffi.metatype(Decimal, decimal_meta)
ffi.metatype(Wide, wide_meta)

-- ---------------------------------------------------------------- functions of the language

local function is_number(x)
    return type(x) == "number" or istype(Int64, x) or istype(Decimal, x) or istype(Wide, x)
end
value.is_number = is_number

-- decimal "12.50": exactly these digits, with this scale. Also from a value or a number.
function value.decimal(x)
    if type(x) == "string" then
        local sign, whole, fraction = x:match "^([+-]?)(%d+)%.?(%d*)$"
        if not sign then
            error(format("%q is not a decimal; write digits such as \"1500.00\"", x), 2)
        end
        local significant = (whole .. fraction):gsub("^0+", "")
        if #significant <= 18 and #fraction <= 38 then
            local v = 0LL
            for i = 1, #significant do
                v = v * 10 + (significant:byte(i) - 48)
            end
            return (Decimal(sign == "-" and -v or v, #fraction))
        end
        if #significant > 38 or #fraction > 38 then
            error(format("%s has more than 38 digits", x), 2)
        end
        return (narrow(wide.parse(x)))
    elseif istype(Decimal, x) or istype(Wide, x) then
        return x
    elseif type(x) == "number" then
        return (Decimal(written(x)))
    elseif istype(Int64, x) then
        return (narrow(widen(x)))
    end
    error("decimal takes digits in a text, not " .. kind(x), 2)
end

-- Rescales to `scale` digits, half to even: a Decimal or Wide. What has more than 38 digits then throws.
local function rescale(x, scale)
    local v, s = parts(x)
    if s then
        if s == scale then
            return (Decimal(v, s))
        elseif s > scale then
            local k = s - scale
            if k <= 18 then
                return (Decimal(half_even(v, pow10[k]), scale))
            end
        else
            local k = scale - s
            if k <= 18 and v <= room[k] and v >= -room[k] then
                return (Decimal(v * pow10[k], scale))
            end
        end
    end
    local w = widen(x)
    if w == nil then
        error(format("%s is not a number", kind(x)), 2)
    end
    local ok, result = wide.rescale(w, scale)
    if not ok then
        error(format("%s has more than 38 digits at scale %d", tostring(x), scale), 2)
    end
    return (narrow(result))
end
value.rescale = rescale

function value.round(x, n)
    n = n or 0
    if type(n) ~= "number" or n ~= floor(n) then
        error("round takes a whole number of digits", 2)
    end
    if x == nil then
        return nil
    elseif type(x) == "number" then
        return (weir_math_round(x, n))
    elseif istype(Int64, x) then
        if n >= 0 then
            return x
        end
        if n < -18 then
            return (Int64(0))
        end
        return Int64(half_even(x.v, pow10[-n])) * Int64(pow10[-n])
    elseif istype(Decimal, x) or istype(Wide, x) then
        if n >= x.scale then
            return x
        end
        if n < 0 then
            local ok, result = wide.round(widen(x), n)
            if not ok then
                error(result, 2)
            end
            return (narrow(result))
        end
        return rescale(x, n)
    end
    error("round takes a number, not " .. kind(x), 2)
end

-- Division of whole numbers, truncating toward zero.
function value.idiv(a, b)
    if type(a) == "number" and type(b) == "number" then
        if b == 0 then
            error(format("division of %s by zero", tostring(a)), 2)
        end
        local q = a / b
        if q < 0 then
            return -floor(-q)
        end
        return (floor(q))
    end
    if istype(Decimal, a) or istype(Wide, a) or istype(Decimal, b) or istype(Wide, b) then
        local wa, wb = widen(a), widen(b)
        if wa == nil or wb == nil then
            refuse("divide", a, b)
        end
        local ok, result = wide.idiv(wa, wb)
        if not ok then
            error(format("%s (divide %s by %s)", result, tostring(a), tostring(b)), 2)
        end
        return (narrow(result))
    end
    local av, bv
    if istype(Int64, a) then
        av = a.v
    elseif type(a) == "number" and is_whole(a) then
        av = int64_t(a)
    else
        error("idiv takes whole numbers, not " .. kind(a), 2)
    end
    if istype(Int64, b) then
        bv = b.v
    elseif type(b) == "number" and is_whole(b) then
        bv = int64_t(b)
    else
        error("idiv takes whole numbers, not " .. kind(b), 2)
    end
    if bv == 0 then
        error(format("division of %s by zero", tostring(a)), 2)
    elseif bv == -1 then
        return -Int64(av)
    end
    return (Int64(av / bv))
end

-- A Lua table key equal for equal values: whole and short numbers are Lua numbers, so key(int64 5) is
-- 5; longer ones are their digits without trailing zeros.
function value.key(x)
    if istype(Int64, x) then
        local v = x.v
        if v >= -9007199254740992LL and v <= 9007199254740992LL then
            return (tonumber(v))
        end
        return (digits(v))
    elseif istype(Decimal, x) or istype(Wide, x) then
        local text = tostring(x)
        if text:find(".", 1, true) then
            text = text:gsub("0+$", ""):gsub("%.$", "")
        end
        if #text <= 16 then
            return (tonumber(text))
        end
        return text
    elseif type(x) == "cdata" then
        return tostring(x)
    end
    return x
end

-- Lua's tonumber, also of int64 and decimal (nearest double).
function value.tonumber(x, base)
    if base then
        return (tonumber(x, base))
    elseif istype(Int64, x) then
        return (tonumber(x.v))
    elseif istype(Decimal, x) then
        if x.v > -9007199254740992LL and x.v < 9007199254740992LL and x.scale <= 22 then
            return tonumber(x.v) / 10 ^ x.scale
        end
        return wide.double(widen(x))
    elseif istype(Wide, x) then
        return wide.double(x)
    elseif type(x) == "cdata" then
        return nil
    end
    return (tonumber(x))
end

function value.int64(v)
    return (Int64(v))
end

-- replaced by time.lua, which knows the kinds of time
function value.time_kind(_)
    return "a value"
end

return value
