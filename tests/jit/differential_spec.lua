-- The same operations over random values, compiled and interpreted, must print the same digits. The seed
-- is printed; WEIR_SEED repeats a run.
require "spec.stdlib.helper"
local value = require "weir.internal.value"

local N = 400

local operators = {
    add = function(a, b) return a + b end,
    sub = function(a, b) return a - b end,
    mul = function(a, b) return a * b end,
    div = function(a, b) return a / b end,
    mod = function(a, b) return a % b end,
    lt = function(a, b) return a < b end,
    le = function(a, b) return a <= b end,
    eq = function(a, b) return a == b end,
    idiv = function(a, b) return value.idiv(a, b) end,
    round = function(a) return value.round(a, 1) end,
    concat = function(a, b) return a .. b end,
    key = function(a) return value.key(a) end,
}

local state
local function random(n) -- a generator of our own: the same with and without the JIT
    state = (state * 1103515245 + 12345) % 2147483648
    return math.floor(state / 65536) % n
end

local function make()
    local kind = random(6)
    if kind == 0 then
        return random(100) - 50
    elseif kind == 1 then
        return (random(20000) - 10000) / 100
    elseif kind == 2 then
        return value.int64(random(1000) - 500)
    elseif kind == 3 then
        local v = 0LL
        for _ = 1, 5 do
            v = v * 8192 + random(8192)
        end
        return value.int64(v)
    elseif kind == 4 then
        return value.decimal(("%d.%02d"):format(random(10000) - 5000, random(100)))
    end
    local digits = {}
    for i = 1, 1 + random(24) do
        digits[i] = random(10)
    end
    return value.decimal((random(2) == 0 and "-" or "") .. table.concat(digits) .. "." .. random(1000))
end

local function run(f, list)
    local out = {}
    for i = 1, #list - 1 do
        if type(list[i]) == "cdata" or type(list[i + 1]) == "cdata" then
            local ok, result = pcall(f, list[i], list[i + 1])
            out[#out + 1] = ok and tostring(result) or "throws " .. tostring(result):gsub("^[^:]+:%d+: ", "")
        end
    end
    return out
end

describe("operators give the same compiled and interpreted", function()
    local seed = tonumber(os.getenv "WEIR_SEED") or os.time() % 1000000
    print("# seed " .. seed)
    for name, f in pairs(operators) do
        it(name, function()
            state = seed
            local list = {}
            for i = 1, N do
                list[i] = make()
            end
            jit.off()
            jit.flush()
            local interpreted = run(f, list)
            jit.on()
            local compiled
            for _ = 1, 5 do
                compiled = run(f, list)
            end
            assert.truthy(#compiled > N / 2)
            assert.same(interpreted, compiled)
        end)
    end
end)
