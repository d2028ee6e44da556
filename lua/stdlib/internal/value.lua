-- The values rules compute with, and the functions of the language over them: int64 and decimals are structs with exact operators
-- (int64.lua, decimal.lua; times are in time.lua).
local ffi = require "ffi"

local value = require "weir.internal.decimal"
require "weir.internal.int64"
local wide = require "weir.internal.wide"

-- Resolved once, here: the JIT compiles no call to a symbol it has not seen.
local weir_math_round = ffi.C.weir_math_round

local istype, type, error, tostring, tonumber = ffi.istype, type, error, tostring, tonumber
local floor, format = math.floor, string.format

local int64_t = ffi.typeof "int64_t"
local Int64, Decimal, Wide = value.Int64, value.Decimal, value.Wide
local pow10, room = value.pow10, value.room
local digits, kind, written, is_whole, parts = value.digits, value.kind, value.written, value.is_whole, value.parts
local widen, narrow, half_even, refuse = value.widen, value.narrow, value.half_even, value.refuse
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

return value
