-- Every generated loop compiles without an abort, and stays so for the shapes rules have: checks,
-- decimals, strings, times, maps. Figures are printed, not judged: machines differ.
require "spec.stdlib.helper"
local ffi = require "ffi"
local columns = require "spec.stdlib.columns"
local aggregate_loop = require "weir.internal.aggregate_loop"
local codegen = require "weir.internal.codegen"
local support = require "tests.jit.support"
local parse = require("weir.internal.types").of
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

local function compiles(loop, call)
    local started, aborts = support.watch(function()
        for _ = 1, 30 do
            loop(call)
        end
    end)
    assert.same({}, aborts)
    assert.truthy(started > 0)
end

describe("compiled loops", function()
    local schema, call = columns.batch(types, rows())
    for name, fn in pairs(predicates) do
        it("predicate over " .. name .. " compiles without aborts", function()
            local loop = codegen.predicate(fn, schema, name)
            compiles(loop, call)
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

-- Many fields of a struct, assigned to many columns: LuaJIT counts tail calls as turns of a loop and gives up
-- at sixteen in one trace, so what is called for every field returns `(f(x))`.
describe("compiled loops over nested rows", function()
    local nested = {
        { "event_type", "int32" },
        { "bid", "struct<auction: int64, bidder: int64, price: int64, fee: decimal(10,2), at: timestamp, url: string, extra: string>" },
    }
    local wide_out = {
        { "auction", "int64" }, { "bidder", "int64" }, { "euros", "decimal(23,3)" }, { "fee", "decimal(12,2)" }, { "at", "timestamp" },
        { "url", "string" }, { "extra", "string" }, { "hour", "int32" },
    }
    local list = {}
    for i = 1, ROWS do
        list[i] = {
            event_type = i % 50 == 0 and 1 or 2,
            bid = {
                auction = i, bidder = i * 3, price = i * 100, fee = ("%d.%02d"):format(i % 100, i % 97),
                at = 1767607200000000LL + i * 1000000, url = "https://x/" .. i, extra = ("c"):rep(i % 7),
            },
        }
    end
    -- As a source with several kinds of events has them: a struct that is null on other rows, which are not selected.
    local sel = ffi.new("int32_t[?]", ROWS)
    local function select_some(call)
        local count = 0
        for i = 1, ROWS do
            if list[i].event_type == 2 then
                sel[count], count = i - 1, count + 1
            end
        end
        call.sel, call["end"] = sel, count
    end
    for i = 50, ROWS, 50 do
        list[i].bid = nil
    end
    local fields = {
        where = function(e)
            if e.event_type ~= 2 then
                return false
            end
            local bid = e.bid
            local euros = bid.price * 0.908
            return bid.fee ~= nil and bid.auction ~= nil and bid.at ~= nil and bid.auction ~= bid.bidder and bid.fee * 2 ~= 1.5
                and euros > 10 and euros < 50000000 and bid.fee >= 0 and bid.auction + bid.bidder - 1 >= 0
        end,
        map = function(e, out)
            local bid = e.bid
            out.auction, out.bidder, out.euros, out.fee = bid.auction, bid.bidder, bid.price * 0.908, bid.fee + bid.fee
            out.at, out.url, out.extra = bid.at, bid.url, bid.extra
            out.hour = hour(bid.at)
        end,
    }

    it("a predicate compiles without aborts", function()
        local schema, call = columns.batch(nested, list)
        local loop = codegen.predicate(fields.where, schema, "nested where")
        compiles(loop, call)
        assert.equal(1, call.verdict[0])
        assert.equal(0, call.verdict[49])
    end)

    it("a map of every field compiles without aborts", function()
        local schema, call, out = columns.batch(nested, list, wide_out)
        select_some(call)
        local loop = codegen.map(fields.map, schema, out, {}, "nested map")
        compiles(loop, call)
        assert.equal(4096, tonumber(ffi.cast("int64_t *", call.out[0].values)[4095]))
        assert.equal(0, call.assigned[0][49])
        local clock = os.clock()
        for _ = 1, 200 do
            loop(call)
        end
        print(("# map       %-20s %6.1f ns a row"):format("eight nested fields", (os.clock() - clock) / 200 / ROWS * 1e9))
    end)

    it("a map of what C does not hand on compiles without aborts, and leaves the rest alone", function()
        local schema, call, out = columns.batch(nested, list, wide_out)
        select_some(call)
        local handed_on = {
            columns = { [0] = { 1, 0 }, { 1, 1 }, [4] = { 1, 4 }, [5] = { 1, 5 }, [6] = { 1, 6 } },
            unread = { [2] = { [6] = true, [7] = true } },
        }
        local loop = codegen.map(fields.map, schema, out, {}, "nested rest", nil, handed_on)
        call.copied = 1
        compiles(loop, call)
        assert.equal(0, call.assigned[0][7])
        assert.equal(1, call.assigned[2][7])
        local clock = os.clock()
        for _ = 1, 200 do
            loop(call)
        end
        print(("# map       %-20s %6.1f ns a row"):format("three computed fields", (os.clock() - clock) / 200 / ROWS * 1e9))
    end)
end)

describe("a compiled loop over pairs of states", function()
    it("merges without aborts, one pair after the other, and what was kept of them reads as nothing", function()
        local kept
        local state = {
            { name = "low", type = parse "timestamp" }, { name = "rows", type = parse "int64" }, { name = "total", type = parse "decimal(38,2)" },
            { name = "far", type = parse "double" }, { name = "odd", type = parse "bool" }, { name = "n", type = parse "int32" },
        }
        local loop = aggregate_loop.merge(function(s, o)
            kept = o
            if o.low < s.low then s.low = o.low end
            s.rows = s.rows + o.rows
            s.total = s.total + o.total
            if o.far > s.far then s.far = o.far end
            s.odd = s.odd and o.odd
            s.n = (s.n * 31 + o.n) % 10007
        end, state, "states")
        local BYTES, GROUPS = 8 + 16 + 16 + 24, 7
        local states, from, into = ffi.new("uint8_t[?]", BYTES * (ROWS + GROUPS)), ffi.new("uint8_t *[?]", ROWS), ffi.new("uint8_t *[?]", ROWS)
        local wanted = {}
        local function fill(i, value)
            local at = states + i * BYTES
            ffi.fill(at, 6, 1)
            local words = ffi.cast("int64_t *", at + 8)
            words[0], words[1], words[2], words[3] = 5000 - value, 1, value * 100, 0
            ffi.cast("double *", at + 40)[0] = value / 2
            words[5], words[6] = 1, value
            return at
        end
        for g = 0, GROUPS - 1 do
            fill(ROWS + g, g)
            wanted[g] = { rows = 1, total = g * 100, n = g, far = g }
        end
        for i = 0, ROWS - 1 do
            local group = wanted[i % GROUPS]
            from[i], into[i] = fill(i, i), states + (ROWS + i % GROUPS) * BYTES
            group.rows, group.total, group.n, group.far = group.rows + 1, group.total + i * 100, (group.n * 31 + i) % 10007, i
        end
        local call = ffi.new "struct weir_call"
        call["end"], call.rows, call.into, call.from = ROWS, ROWS, into, from
        loop(call)
        for g = 0, GROUPS - 1 do
            local words = ffi.cast("int64_t *", states + (ROWS + g) * BYTES + 8)
            assert.equal(wanted[g].rows, tonumber(words[1]))
            assert.equal(wanted[g].total, tonumber(words[2]))
            assert.equal(wanted[g].far / 2, ffi.cast("double *", words + 4)[0])
            assert.equal(wanted[g].n, tonumber(words[6]))
            assert.equal(5000 - (ROWS - 1) + (ROWS - 1 - g) % GROUPS, tonumber(words[0]))
        end
        compiles(loop, call)
        local clock = os.clock()
        for _ = 1, 200 do
            loop(call)
        end
        print(("# merge     %-20s %6.1f ns a row"):format("six fields", (os.clock() - clock) / 200 / ROWS * 1e9))
        local schema, other = columns.batch(types, rows())
        codegen.predicate(predicates["a bool"], schema, "another")(other)
        assert.is_nil(kept.rows)
        assert.has_error(function() kept.rows = 1 end)
    end)
end)
