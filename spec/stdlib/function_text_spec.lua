require "spec.stdlib.helper"
local native = require "weir.native"
local load = require "weir.internal.load"
local project = require "spec.stdlib.project"

local SCHEMA = [[{"type":"record","name":"sale","fields":[{"name":"id","type":"int"},{"name":"shop","type":"int"},{"name":"qty","type":"int"}]}]]
local PIPELINE = [[return pipeline "t" {
  storage = delta { root = "lake" },
  sources = { source "bronze.sale" { files { path = "in/*.jsonl" }, json { schema = "schemas/sale.avsc" }, into = none } },
}]]
local RULE = [[%s
return stream "silver.pair" { from = "bronze.sale", key = { "id", "other" }, keep = { "id" }, columns = { other = "int32" },
  join = { o = regular_join "bronze.sale" { on = "shop", ttl = none, where = %s } },
  map = function(e, out, j) out.other = j.o.id%s end, into = none }]]

-- What the condition of a regular join is known by. `around`: what stands before it; `map`: more of map.
local function condition(where, around, map, more)
    local files = {
        ["schemas/sale.avsc"] = SCHEMA,
        ["pipelines/t.lua"] = PIPELINE,
        ["rules/silver/pair.lua"] = RULE:format(around or "", where, map or ""),
    }
    for path, text in pairs(more or {}) do
        files[path] = text
    end
    local result, _, state = load { path = project.make(files) .. "/pipelines/t.lua" }
    assert.truthy(result, state and state.diagnostics:text())
    return native.json_decode(result.plan).streams[1].joins[1].condition
end

describe("what a function says", function()
    teardown(project.clear)

    local PLAIN = "function(e, j) return e.qty > j.o.qty end"

    it("is the same where only its looks change", function()
        local said = condition(PLAIN)
        assert.equal(said, condition(PLAIN))
        assert.equal(said, condition "function(e, j)\n    -- more than the other\n    return e.qty  >  j.o.qty\n  end")
        assert.equal(said, condition(PLAIN, "-- a file\nlocal other = 3"))
        assert.equal(said, condition(PLAIN, nil, " + 1"))
    end)

    it("is another where it says something else", function()
        assert.not_equal(condition(PLAIN), condition "function(e, j) return e.qty >= j.o.qty end")
        assert.not_equal(condition(PLAIN), condition "function(e, j) return j.o.qty > e.qty end")
        assert.not_equal(condition(PLAIN), condition "function(e, j) return e.qty > j.o.qty + 1 end")
    end)

    it("has the constants, tables and functions from around it", function()
        local limit = "function(e, j) return e.qty > LIMIT end"
        assert.equal(condition(limit, "local LIMIT = 3"), condition(limit, "local LIMIT   = 3 -- of all"))
        assert.not_equal(condition(limit, "local LIMIT = 3"), condition(limit, "local LIMIT = 4"))
        local from = "function(e, j) return e.qty > T.low[1] end"
        assert.equal(condition(from, "local T = { low = { 1, 2 }, high = 9 }"), condition(from, "local T = { high = 9, low = { 1, 2 } }"))
        assert.not_equal(condition(from, "local T = { low = { 1 } }"), condition(from, "local T = { low = { 2 } }"))
        local called = "function(e, j) return near(e.qty, j.o.qty) end"
        local text = "local N = %d\nlocal function far(a, b) return a - b > N end\nlocal function near(a, b) return not far(a, b) end"
        assert.equal(condition(called, text:format(1)), condition(called, "\n\n" .. text:format(1)))
        assert.not_equal(condition(called, text:format(1)), condition(called, text:format(2)))
    end)

    it("has functions of helper files", function()
        local called, around = "function(e, j) return near.by(e.qty, j.o.qty) end", 'local near = require "lib.near"'
        local text = "local N = %d\nlocal near = {}\nfunction near.by(a, b) return a - b < N end\nreturn near"
        local function with(n, other)
            return condition(called, around, nil, { ["lib/near.lua"] = (other or "") .. text:format(n) })
        end
        assert.equal(with(1), with(1, "-- of two numbers\n"))
        assert.not_equal(with(1), with(2))
    end)
end)
