require "spec.stdlib.helper"
if not pcall(function()
    return require("ffi").C.test_out
end) then
    pending "needs doubles that only plain luajit can load: luajit busted spec/stdlib"
    return
end
local native = require "weir.native"
local project = require "spec.stdlib.project"

-- The harness itself is C's; this holds what its Lua face hands over and makes of the answers.
describe("weir.testing", function()
    local testing, calls, answers, stock
    before_each(function()
        calls, answers = {}, {}
        local double = {
            open = function()
                return {}
            end,
            input = function(_, name)
                return ({ ["silver.x"] = "bronze.x", ["gold.x"] = "silver.x" })[name]
            end,
            time = function(_, name)
                return name == "silver.x" and "at" or nil
            end,
            has = function(_, name)
                return name == "bronze.x" or name == "silver.x"
            end,
            columns = function()
                return '[{"name":"id","type":"string"},{"name":"price","type":"decimal(9,2)"}]'
            end,
            now = function()
                return 1767607200000000LL + 3600000000
            end,
            rows = function(_, name)
                return answers[name]
            end,
        }
        for _, name in ipairs { "feed", "watermark", "advance", "finish" } do
            double[name] = function(_, ...)
                calls[#calls + 1] = { name, ... }
            end
        end
        stock = package.loaded["weir.internal.harness"]
        package.loaded["weir.internal.harness"] = double
        package.loaded["weir.testing"] = nil
        testing = require "weir.testing"
    end)
    after_each(function()
        package.loaded["weir.internal.harness"] = stock
        package.loaded["weir.testing"] = nil
    end)

    it("feeds records as JSON lines, changed and moved in time", function()
        local make = testing.record { id = "a", n = 1, at = "2026-01-05T10:00:00Z" }
        testing.load("silver.x"):feed(make {}, make { n = 2.5, _at = "+4m", id = testing.null }, { id = "raw" }, '{"broken')
        assert.equal("bronze.x", calls[1][2])
        assert.equal(table.concat({
            '{"at":"2026-01-05T10:00:00Z","id":"a","n":1}', '{"at":"2026-01-05T10:04:00Z","id":null,"n":2.5}', '{"id":"raw"}', '{"broken',
        }, "\n"), calls[1][3])
    end)

    it("feeds what it reads, the source when told so, or the dataset it names", function()
        testing.load("gold.x"):feed { a = 1 }
        testing.load("gold.x", { upstream = true }):feed { a = 1 }
        local t = testing.load "gold.x"
        t:feed("bronze.x", { { a = 1 }, { a = 2 } })
        assert.same({ "silver.x", "bronze.x", "bronze.x" }, { calls[1][2], calls[2][2], calls[3][2] })
        assert.equal('{"a":1}\n{"a":2}', calls[3][3])
        assert.has_error(function()
            t:feed("bronze.z", { a = 1 })
        end)
        assert.has_error(function()
            testing.load "gold.none"
        end)
    end)

    it("moves watermark and clock, and reads rows and rejects", function()
        answers["silver.x"] = '{"id":"a","n":null,"price":1.50}\n'
        answers["quarantine.silver.x"] = '{"id":"b","_reasons":[{"expectation":"where","error":"x"},{"expectation":"y"}]}'
        local t = testing.load("silver.x"):watermark("2026-01-05T10:00:00Z"):clock("+1m"):finish()
        assert.same({ 1767607200000000, 60000000 }, { tonumber(calls[1][2]), calls[2][2] })
        assert.same({ { id = "a", price = "1.50" } }, t:rows())
        assert.same({ { price = "1.50" } }, t:rows { "price" })
        assert.same({ "where", "y" }, t:rejected()[1].reasons)
    end)
end)

describe("weir init", function()
    it("gives a project that loads", function()
        local files = {}
        for _, file in ipairs(require "weir.template" "my shop") do
            files[file.path] = file.text
        end
        local result, _, state = require "weir.internal.load" { path = project.make(files) .. "/pipelines/my_shop.lua" }
        project.clear()
        assert.truthy(result, state and state.diagnostics:text())
        assert.same({}, result.report)
        assert.equal("silver.order", result.tree.streams[1].name)
    end)
end)

describe("weir explain", function()
    local weir = require "weir"

    it("says plan, guarantees and generated code of the shipped example", function()
        local text = weir.explain("pipelines/retail.lua", "gold.sales_velocity", { code = true })
        for _, part in ipairs {
            "tumbling 1m", "revenue = sum of net: decimal(38,2)", "exactly once", "late rows go to quarantine.late_sale",
            "for position = first, last do",
        } do
            assert.truthy(text:find(part, 1, true), part)
        end
        local decoded = native.json_decode(weir.explain("pipelines/retail.lua", "silver.pos_sale", { json = true }))
        assert.equal("stream", decoded.kind)
    end)

    it("says when there is no such dataset", function()
        local text, why = weir.explain("pipelines/retail.lua", "gold.none")
        assert.is_nil(text)
        assert.truthy(why:find("no dataset", 1, true))
    end)
end)
