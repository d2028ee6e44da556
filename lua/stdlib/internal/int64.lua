-- int64 as a value of rules. A raw int64_t never reaches a rule: in stock LuaJIT 2LL == 2.5 and 5LL * 0.5 == 0. Beside a whole number
-- it counts whole; beside a decimal or a broken number as the decimal it is.
local ffi = require "ffi"
local bit = require "bit"

local decimal = require "weir.internal.decimal"

local istype, type, error, tostring, tonumber = ffi.istype, type, error, tostring, tonumber
local band, bxor = bit.band, bit.bxor
local format = string.format

local int64_t = ffi.typeof "int64_t"
local Int64 = decimal.Int64
local is_whole, digits, concat = decimal.is_whole, decimal.digits, decimal.concat
local operators = decimal.operators
local decimal_add, decimal_sub, decimal_mul, decimal_div, decimal_mod = operators.add, operators.sub, operators.mul, operators.div, operators.mod
local no_power, less, less_equal, equal = operators.pow, operators.less, operators.less_equal, operators.equal

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
