require "spec.stdlib.helper"
if not pcall(function()
    return require("ffi").C.test_out
end) then
    pending "needs doubles that only plain luajit can load: luajit busted spec/stdlib"
    return
end
local columns = require "spec.stdlib.columns"
local codegen = require "weir.internal.codegen"
local value = require "weir.internal.value"
local time = require "weir.internal.time"

local function verdicts(call, n)
    local list = {}
    for i = 0, n - 1 do
        list[#list + 1] = call.verdict[i]
    end
    return list
end

describe("a generated predicate loop", function()
    it("writes a verdict for true, false, nil and what is neither", function()
        local schema, call = columns.batch({ { "n", "int32" } }, { { n = 1 }, { n = 2 }, {}, { n = 4 } })
        local loop = codegen.predicate(function(e)
            if e.n == nil then
                return nil
            elseif e.n == 4 then
                return "yes"
            end
            return e.n == 1
        end, schema, "spec")
        loop(call)
        assert.same({ 1, 0, 2, 3 }, verdicts(call, 4))
    end)

    it("evaluates only the selected rows and leaves the cursor at the row that throws", function()
        local schema, call = columns.batch({ { "n", "int64" } }, { { n = 1 }, { n = 2 }, { n = 3 } })
        local sel = require("ffi").new("int32_t[2]", { 0, 2 })
        call.sel, call["end"] = sel, 2
        local loop = codegen.predicate(function(e)
            if e.n == 3 then
                error "three"
            end
            return true
        end, schema, "spec")
        local ok, why = pcall(loop, call)
        assert.is_false(ok)
        assert.truthy(why:find("three", 1, true))
        assert.equal(1, call.cursor)
        assert.equal(1, call.verdict[0])
    end)

    it("reads every type, null as nil", function()
        local schema, call = columns.batch({
            { "b", "bool" }, { "i", "int16" }, { "l", "int64" }, { "f", "float" }, { "d", "double" }, { "m", "decimal(12,2)" },
            { "w", "decimal(38,4)" }, { "s", "string" }, { "t", "timestamp" }, { "u", "timestamp_ns" }, { "day", "date" },
        }, {
            { b = true, i = -7, l = 9007199254740993LL, f = 0.5, d = 0.1, m = "12.50", w = "99999999999999999999999.5", s = "héllo", t = 1000001LL, u = 1500LL, day = 20000 },
            {},
        })
        local seen = {}
        codegen.predicate(function(e)
            for _, name in ipairs { "b", "i", "l", "f", "d", "m", "w", "s", "t", "u", "day" } do
                seen[#seen + 1] = tostring(e[name])
            end
            return true
        end, schema, "spec")(call)
        assert.same({
            "true", "-7", "9007199254740993", "0.5", "0.1", "12.50", "99999999999999999999999.5000", "héllo", "1970-01-01T00:00:01.000001Z",
            "1970-01-01T00:00:00.000001500Z", "2024-10-04",
            "nil", "nil", "nil", "nil", "nil", "nil", "nil", "nil", "nil", "nil", "nil",
        }, seen)
    end)

    it("reads lists, structs, maps and odd names", function()
        local schema, call = columns.batch({
            { "items", "list<struct<sku: string, n: int32>>" }, { "attrs", "map<string, int64>" }, { "end", "int32" }, { "a", "struct<b: struct<c: string>>" },
        }, {
            { items = { { sku = "x", n = 1 }, { sku = "y", n = 2 } }, attrs = { { "k", 5 }, { "j", 6 } }, ["end"] = 9, a = { b = { c = "deep" } } },
            { items = {} },
        })
        local seen = {}
        codegen.predicate(function(e)
            seen[#seen + 1] = #e.items
            for i = 1, #e.items do
                seen[#seen + 1] = e.items[i].sku
            end
            seen[#seen + 1] = tostring(e.items[3])
            if e.attrs then
                seen[#seen + 1] = tostring(e.attrs["k"]) .. tostring(e.attrs["none"])
                seen[#seen + 1] = e["end"] .. e.a.b.c
            end
            return true
        end, schema, "spec")(call)
        assert.same({ 2, "x", "y", "nil", "5nil", "9deep", 0, "nil" }, seen)
    end)

    it("refuses a nested value kept past its call", function()
        local schema, call = columns.batch({ { "items", "list<int32>" } }, { { items = { 1 } } })
        local kept
        local loop = codegen.predicate(function(e)
            if kept then
                return kept[1] == 1
            end
            kept = e.items
            return true
        end, schema, "spec")
        loop(call)
        local ok, why = pcall(loop, call)
        assert.is_false(ok)
        assert.truthy(why:find("after its call", 1, true))
    end)

    it("keeps its pointers out of the rules' reach", function()
        local schema, call = columns.batch({ { "n", "int32" }, { "items", "list<int32>" } }, { { n = 1, items = { 1 } } })
        for _, name in ipairs { "_weir_c", "_weir_i", "c", "i" } do
            assert.has_error(function()
                codegen.predicate(function(e)
                    return e[name] ~= nil
                end, schema, "spec")(call)
            end)
            assert.has_error(function()
                codegen.predicate(function(e)
                    return e.items[name] ~= nil
                end, schema, "spec")(call)
            end)
        end
    end)

    it("tells a null list or struct from an empty one", function()
        local schema, call = columns.batch({ { "items", "list<int32>" }, { "a", "struct<b: int32>" } }, { { items = {}, a = { b = 1 } }, {} })
        codegen.predicate(function(e)
            return e.items ~= nil and e.a ~= nil
        end, schema, "spec")(call)
        assert.same({ 1, 0 }, verdicts(call, 2))
    end)

    it("throws for a column that is not there", function()
        local schema, call = columns.batch({ { "n", "int32" } }, { { n = 1 } })
        local ok, why = pcall(codegen.predicate(function(e)
            return e.m
        end, schema, "spec"), call)
        assert.is_false(ok)
        assert.truthy(why:find("no column is called `m`", 1, true))
    end)
end)

describe("a generated map loop", function()
    local function map(fn, rows, types, out)
        local schema, call, parsed = columns.batch(types, rows, out)
        codegen.map(fn, schema, parsed, {}, "spec")(call)
        return function(k, i)
            return columns.out(call, parsed, k, i)
        end, call
    end

    it("stores every type", function()
        local out, call = map(function(_, o)
            o.b, o.i, o.l, o.d, o.m, o.w, o.s = true, -3, 5, 0.25, 12.345, value.decimal "123456789012345678901.5", "text"
            o.t, o.day = time.Timestamp(5LL), time.Date(3)
        end, { {} }, { { "x", "int32" } }, {
            { "b", "bool" }, { "i", "int8" }, { "l", "int64" }, { "d", "double" }, { "m", "decimal(12,2)" }, { "w", "decimal(38,2)" },
            { "s", "string" }, { "t", "timestamp" }, { "day", "date" },
        })
        local got = {}
        for k = 1, 9 do
            got[k] = out(k, 1)
            assert.equal(1, call.assigned[k - 1][0])
        end
        assert.same({ true, -3, "5", 0.25, "12.34", "123456789012345678901.50", "text", "5", 3 }, got)
    end)

    it("rounds a decimal to a smaller scale once, half to even", function()
        local out = map(function(e, o)
            o.m = e.x
        end, { { x = "0.125" }, { x = "0.135" }, { x = "-0.125" }, { x = "2.5" } }, { { "x", "decimal(9,3)" } }, { { "m", "decimal(9,2)" } })
        assert.same({ "0.12", "0.14", "-0.12", "2.50" }, { out(1, 1), out(1, 2), out(1, 3), out(1, 4) })
    end)

    it("throws, naming the column, for a value outside its type", function()
        for _, case in ipairs {
            { "int8", 128 }, { "int8", 1.5 }, { "int8", "x" }, { "int64", value.decimal "1.5" }, { "int64", 1e19 }, { "decimal(4,2)", 100 },
            { "decimal(4,2)", "1" }, { "string", 5 }, { "bool", 1 }, { "timestamp", 5 }, { "date", "2026-01-01" }, { "int32", value.int64(4294967296LL) },
        } do
            local ok, why = pcall(map, function(_, o)
                o.price = case[2]
            end, { {} }, { { "x", "int32" } }, { { "price", case[1] } })
            assert.is_false(ok, case[1])
            assert.truthy(tostring(why):find("column `price`", 1, true), tostring(why))
        end
    end)

    it("takes null, overwriting, and a whole value of any kind for an int64", function()
        local out, call = map(function(e, o)
            o.l = (e.x - e.x % 7) / 7
            o.gone = 5
            o.gone = nil
            o.text = "a"
            o.text = nil
        end, { { x = 9223372036854775807LL } }, { { "x", "int64" } }, { { "l", "int64" }, { "gone", "int32" }, { "text", "string" }, { "never", "int32" } })
        assert.equal("1317624576693539401", out(1, 1))
        assert.is_nil(out(2, 1))
        assert.is_nil(out(3, 1))
        assert.equal(1, call.assigned[1][0])
        assert.equal(0, call.assigned[3][0])
    end)

    it("reads back what it assigned to this row, and only that", function()
        local seen = {}
        map(function(e, o)
            if e.x == 1 then
                o.s, o.n = "one", 4
            end
            seen[#seen + 1] = tostring(o.s) .. tostring(o.n)
        end, { { x = 1 }, { x = 2 } }, { { "x", "int32" } }, { { "s", "string" }, { "n", "int64" } })
        assert.same({ "one4", "nilnil" }, seen)
    end)

    it("passes a column on in another type when map leaves it alone", function()
        local schema, call, parsed = columns.batch({ { "x", "int32" } }, { { x = 7 }, {}, { x = 9 } }, { { "x", "decimal(9,2)" } })
        codegen.map(function(e, o)
            if e.x == 9 then
                o.x = 1
            end
        end, schema, parsed, { 0 }, "spec")(call)
        assert.same({ "7.00", "1.00" }, { columns.out(call, parsed, 1, 1), columns.out(call, parsed, 1, 3) })
        assert.is_nil(columns.out(call, parsed, 1, 2))
    end)

    it("refuses a column that was not declared", function()
        local ok, why = pcall(map, function(_, o)
            o.other = 1
        end, { {} }, { { "x", "int32" } }, { { "n", "int64" } })
        assert.is_false(ok)
        assert.truthy(why:find("declares no column `other`", 1, true))
    end)

    it("refuses a write to the row", function()
        local ok, why = pcall(map, function(e)
            e.x = 1
        end, { { x = 2 } }, { { "x", "int32" } }, { { "n", "int64" } })
        assert.is_false(ok)
        assert.truthy(why:find("cannot be changed", 1, true))
    end)
end)
