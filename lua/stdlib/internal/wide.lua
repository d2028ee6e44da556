-- Decimals beyond 18 digits: 128-bit values through the C functions of abi/native.h (24 ns an
-- operation, where one word costs 2). Results are `true, value` or `false, message`.
local ffi = require "ffi"

-- Resolved once, here: the JIT compiles no call to a symbol it has not seen.
local weir_decimal_add = ffi.C.weir_decimal_add
local weir_decimal_compare = ffi.C.weir_decimal_compare
local weir_decimal_div = ffi.C.weir_decimal_div
local weir_decimal_fits = ffi.C.weir_decimal_fits
local weir_decimal_from_double = ffi.C.weir_decimal_from_double
local weir_decimal_from_text = ffi.C.weir_decimal_from_text
local weir_decimal_idiv = ffi.C.weir_decimal_idiv
local weir_decimal_mod = ffi.C.weir_decimal_mod
local weir_decimal_mul = ffi.C.weir_decimal_mul
local weir_decimal_rescale = ffi.C.weir_decimal_rescale
local weir_decimal_round = ffi.C.weir_decimal_round
local weir_decimal_sub = ffi.C.weir_decimal_sub
local weir_decimal_to_double = ffi.C.weir_decimal_to_double
local weir_decimal_to_int64 = ffi.C.weir_decimal_to_int64
local weir_decimal_to_text = ffi.C.weir_decimal_to_text

local Wide = ffi.typeof "struct weir_decimal128"
local uint64_t = ffi.typeof "uint64_t"

local wide = {}

local function outcome(status, result)
    if status == 0 then
        return true, result
    elseif status == 2 then
        return false, "division by zero"
    end
    return false, "decimal overflow: more than 38 digits"
end

function wide.from(v, scale)
    return (Wide(ffi.cast(uint64_t, v), v < 0 and -1 or 0, scale))
end

function wide.add(a, b)
    local out = Wide()
    return outcome(weir_decimal_add(out, a, b), out)
end

function wide.sub(a, b)
    local out = Wide()
    return outcome(weir_decimal_sub(out, a, b), out)
end

function wide.mul(a, b)
    local out = Wide()
    return outcome(weir_decimal_mul(out, a, b), out)
end

function wide.div(a, b)
    local out = Wide()
    return outcome(weir_decimal_div(out, a, b), out)
end

function wide.mod(a, b)
    local out = Wide()
    return outcome(weir_decimal_mod(out, a, b), out)
end

function wide.idiv(a, b)
    local out = Wide()
    return outcome(weir_decimal_idiv(out, a, b), out)
end

function wide.rescale(a, scale)
    local out = Wide()
    return outcome(weir_decimal_rescale(out, a, scale), out)
end

function wide.round(a, digits)
    local out = Wide()
    return outcome(weir_decimal_round(out, a, digits), out)
end

function wide.fits(a, precision)
    return weir_decimal_fits(a, precision) == 1
end

function wide.compare(a, b)
    return weir_decimal_compare(a, b)
end

-- Exact, or false with why not.
function wide.int64(a)
    local out = ffi.new "int64_t[1]"
    local status = weir_decimal_to_int64(out, a)
    if status == 0 then
        return true, out[0]
    end
    return false, status == 1 and "is out of the range of int64" or "has a fraction"
end

function wide.double(a)
    return weir_decimal_to_double(a)
end

-- The value of a text such as "12.50", or nil.
function wide.parse(text)
    local out = Wide()
    if weir_decimal_from_text(out, text, #text) ~= 0 then
        return nil
    end
    return out
end

-- The shortest decimal that reads as the double; nil for NaN, infinity and what has no 38-digit form.
function wide.written(x)
    local out = Wide()
    if weir_decimal_from_double(out, x) ~= 0 then
        return nil
    end
    return out
end

function wide.text(a)
    local buffer = ffi.new "char[64]"
    return ffi.string(buffer, weir_decimal_to_text(a, buffer))
end

return wide
