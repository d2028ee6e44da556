-- Every generated loop compiles without an abort, and stays so for the shapes rules have: checks,
-- decimals, strings, times, maps. Figures are printed, not judged: machines differ.
require "spec.stdlib.helper"
local columns = require "spec.stdlib.columns"
local codegen = require "weir.internal.codegen"
local support = require "tests.jit.support"
local sandbox_time = require("weir.internal.time").functions "UTC"
local hour = sandbox_time.hour

local ROWS = 4096
local types = {
    { "qty", "int32" }, { "store_id", "int32" }, { "total", "int64" }, { "price", "decimal(10,2)" }, { "vat", "decimal(12,2)" },
    { "weight", "double" }, { "open", "bool" }, { "sku", "string" }, { "sold_at", "timestamp" },
}

local function rows(null_every)
    local list = {}
    for i = 1, ROWS do
        local null = null_every and i % null_every == 0
        list[i] = {
            qty = not null and i % 9 + 1 or nil, store_id = i % 999 + 1, total = i, price = ("%d.%02d"):format(i % 100, i % 97),
            vat = ("%d.%02d"):format(i % 10, i % 89), weight = i / 7, open = i % 2 == 0, sku = "SKU-" .. i % 500, sold_at = 1767607200000000LL + i * 1000000,
        }
    end
    return list
end

local predicates = {
    ["a range"] = function(e)
        return e.qty ~= nil and e.qty > 0 and e.store_id <= 999
    end,
    ["an int64"] = function(e)
        return e.total * 2 > 5 and e.total ~= 7
    end,
    ["decimals"] = function(e)
        return e.price * e.qty - e.vat >= 0.2 or e.price == 0
    end,
    ["a double"] = function(e)
        return e.weight * 1.5 < 1e9
    end,
    ["a bool"] = function(e)
        return e.open
    end,
    ["a text"] = function(e)
        return e.sku ~= "SKU-1" and #e.sku > 4 and e.sku:sub(1, 4) == "SKU-"
    end,
    ["a time"] = function(e)
        return hour(e.sold_at) < 24 and e.sold_at - e.sold_at < "90s"
    end,
}

local maps = {
    ["decimal of decimals"] = function(e, out)
        out.net = e.price * e.qty - e.vat
    end,
    ["a rounded product"] = function(e, out)
        out.net = e.price * 0.2
    end,
    ["text"] = function(e, out)
        out.label = e.sku
    end,
    ["int64 and bool"] = function(e, out)
        out.n = e.total * 3
        out.flag = e.total > 100
    end,
}

describe("compiled loops", function()
    local schema, call = columns.batch(types, rows())
    for name, fn in pairs(predicates) do
        it("predicate over " .. name .. " compiles without aborts", function()
            local loop = codegen.predicate(fn, schema, name)
            local started, aborts = support.watch(function()
                for _ = 1, 30 do
                    loop(call)
                end
            end)
            assert.same({}, aborts)
            assert.truthy(started > 0)
            local clock = os.clock()
            for _ = 1, 200 do
                loop(call)
            end
            print(("# predicate %-20s %6.1f ns a row"):format(name, (os.clock() - clock) / 200 / ROWS * 1e9))
        end)
    end

    for name, fn in pairs(maps) do
        it("map of " .. name .. " compiles without aborts", function()
            local _, map_call, out = columns.batch(types, rows(), { { "net", "decimal(14,2)" }, { "label", "string" }, { "n", "int64" }, { "flag", "bool" } })
            local loop = codegen.map(fn, schema, out, {}, name)
            local started, aborts = support.watch(function()
                for _ = 1, 30 do
                    loop(map_call)
                end
            end)
            assert.same({}, aborts)
            assert.truthy(started > 0)
            local clock = os.clock()
            for _ = 1, 200 do
                loop(map_call)
            end
            print(("# map       %-20s %6.1f ns a row"):format(name, (os.clock() - clock) / 200 / ROWS * 1e9))
        end)
    end

    it("compile with nulls in the batch too", function()
        local null_schema, null_call = columns.batch(types, rows(5))
        local loop = codegen.predicate(predicates["a range"], null_schema, "nulls")
        local _, aborts = support.watch(function()
            for _ = 1, 30 do
                loop(null_call)
            end
        end)
        assert.same({}, aborts)
        assert.equal(0, null_call.verdict[4])
        assert.equal(1, null_call.verdict[0])
    end)
end)
