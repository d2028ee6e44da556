-- What rules read of a source, by their text: no more than they do where it can be followed, everything where it cannot.
require "spec.stdlib.helper"
local load = require "weir.internal.load"
local project = require "spec.stdlib.project"

local SCHEMA = [[{"type":"record","name":"event","fields":[{"name":"kind","type":"int"},{"name":"extra","type":["null","string"]},
{"name":"tags","type":{"type":"array","items":"string"}},{"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},
{"name":"bid","type":["null",{"type":"record","name":"bid","fields":[{"name":"price","type":"long"},{"name":"url","type":"string"},
{"name":"by","type":["null",{"type":"record","name":"person","fields":[{"name":"id","type":"long"},{"name":"name","type":"string"}]}]}]}]}]}]]

local PIPELINE = [[return pipeline "t" { storage = delta { root = "lake" },
  sources = { source "bronze.event" { files { path = "in/*.jsonl" }, json { schema = "schemas/event.avsc" }, into = %s } } }]]

local DROP = 'drop = { "kind", "extra", "tags", "at", "bid" }, '

teardown(project.clear)

-- "kind, bid.price" of rule files, or "all".
local function read(rules, into)
    local files = { ["schemas/event.avsc"] = SCHEMA, ["pipelines/t.lua"] = PIPELINE:format(into or "none") }
    for i, text in ipairs(rules) do
        files[("rules/r%d.lua"):format(i)] = text
    end
    local result, report = load { path = project.make(files) .. "/pipelines/t.lua" }
    assert(result, report and report[1] and report[1].message)
    local decoded = result.tree.sources[1].decoded
    local paths = {}
    for i, path in ipairs(decoded or {}) do
        paths[i] = table.concat(path, ".")
    end
    return decoded and table.concat(paths, ", ") or "all"
end

local function stream(body, name)
    return ('return stream "%s" { from = "bronze.event", %s }'):format(name or "silver.a", body)
end

local function map(body)
    return stream(DROP .. 'columns = { n = "int64", s = "string" }, map = function(e, out) ' .. body .. " end")
end

describe("of a source is read", function()
    it("what row functions name, also in structs and by way of locals", function()
        assert.equal("bid.price", read { map "out.n = e.bid.price" })
        assert.equal("bid.url, bid.by.name", read { map "local bid = e.bid local by = (bid).by out.s = by.name .. bid.url" })
        assert.equal("kind, bid.by", read { map "local by = e.bid.by if by and e.kind == 1 then out.n = by.id end" })
        assert.equal("tags, bid.price", read { map "for _, tag in ipairs(e.tags) do out.s = tag end out.n = e.bid.price" })
        assert.equal("tags", read { map "out.s = e.tags[1]" })
        assert.equal("extra", read { map "out.s = e.extra:upper()" })
        assert.equal("bid.price", read { map "local function price() return e.bid.price end out.n = price()" })
    end)

    it("a struct whole where more than its fields is asked for", function()
        assert.equal("bid", read { map "local bid = e.bid if bid then out.n = bid.price end" })
        assert.equal("bid", read { map "local bid = e.bid bid = e.bid out.n = bid.price" })
        assert.equal("bid", read { map "local name = 'price' out.n = e.bid[name]" })
        assert.equal("bid", read { map "local bid = e.bid do local bid = e.bid out.n = bid.price end" })
    end)

    it("everything where the row goes elsewhere whole", function()
        assert.equal("all", read { map "local f = function(row) return row.bid.price end out.n = f(e)" })
        assert.equal("all", read { map "local row = e row = e out.n = row.bid.price" })
        assert.equal("all", read { map "local name = 'kind' out.n = e[name]" })
    end)

    it("what time, predicates, dedup and columns passed on name", function()
        assert.equal("at", read { stream(DROP .. 'time = { field = "at" }, columns = { n = "int64" }, map = function(e, out) out.n = 1 end') })
        assert.equal("kind, extra, at, bid.price", read { stream('keep = { "kind" }, time = { field = "at" }, '
            .. 'expectations = { expect "x" { not_null "extra" }, expect "y" { function(e) return e.bid.price > 1 end } }') })
        assert.equal("kind, at", read { stream('keep = { "kind" }, time = { field = "at" }, dedup = { by = "kind", within = "1h" }') })
        assert.equal("kind, extra", read { stream('keep = { "kind" }, where = function(e) return e.extra ~= nil end') })
    end)

    it("what any of several streams reads, and everything where one passes all on or it has a table", function()
        local a, b = map "out.n = e.bid.price", stream('keep = { "kind" }', "silver.b")
        assert.equal("kind, bid.price", read { a, b })
        assert.equal("all", read { a, stream("", "silver.b") })
        assert.equal("all", read({ a }, "delta { }"))
        assert.equal("all", read {})
    end)

    it("everything where a model, a join or explode reads it", function()
        assert.equal("all", read { 'return model "gold.a" { from = "bronze.event", by = { "kind" }, measures = { n = count() } }' })
        assert.equal("all", read { stream 'keep = { "kind" }, explode = { tag = "tags" }' })
        assert.equal("all", read { stream('keep = { "kind" }, key = "kind"', "silver.k"),
            stream('keep = { "kind" }, join = { k = lookup "silver.k" { on = "kind" } }', "silver.l") })
    end)
end)
