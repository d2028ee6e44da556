require "spec.stdlib.helper"
local native = require "weir.native"
local load = require "weir.internal.load"
local project = require "spec.stdlib.project"

local SCHEMA = [[{"type":"record","name":"sale","fields":[
{"name":"event_id","type":["null","string"]},{"name":"store_id","type":["null","int"]},{"name":"sku","type":["null","string"]},
{"name":"qty","type":["null","long"]},{"name":"price","type":["null",{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}]},
{"name":"weight","type":["null","double"]},{"name":"open","type":["null","boolean"]},
{"name":"sold_at","type":["null",{"type":"long","logicalType":"timestamp-micros"}]}]}]]

local PIPELINE = [[return pipeline "t" {
  storage = delta { root = env("WEIR_SPEC_LAKE", "data/lake") },
  sources = { source "bronze.sale" { files { path = "in/*.jsonl" }, json { schema = "schemas/sale.avsc" }, into = none } },
}]]

local HEAD = 'return stream "silver.sale" { from = "bronze.sale", time = { field = "sold_at" }, '

teardown(project.clear)

-- The pipeline file of a project with these files, or with this text as its rule.
local function pipeline_of(files)
    files = type(files) == "string" and { ["rules/silver/sale.lua"] = files } or files
    files["schemas/sale.avsc"] = files["schemas/sale.avsc"] or SCHEMA
    files["pipelines/t.lua"] = files["pipelines/t.lua"] or PIPELINE
    return project.make(files) .. "/pipelines/t.lua"
end

local function try(files, settings)
    local result, report, state = load { path = pipeline_of(files), settings = settings }
    return result, result and result.report or report, state
end

local function plan_of(...)
    local result, _, state = try(...)
    assert.truthy(result, state and state.diagnostics:text())
    return native.json_decode(result.plan), result
end

-- The finding of that code: its line, column, message and suggestion.
local function finding(code, files, settings)
    local _, report, state = try(files, settings)
    for _, entry in ipairs(report) do
        if entry.code == code then
            return entry
        end
    end
    error("no finding " .. code .. " in:\n" .. (state and state.diagnostics:text() or "nothing"), 2)
end

local function says(entry, message, suggestion)
    assert.truthy(entry.message:find(message, 1, true), entry.message)
    if suggestion then
        assert.truthy(tostring(entry.suggestion):find(suggestion, 1, true), tostring(entry.suggestion))
    end
    return entry
end

describe("the loader", function()
    it("makes the plan of the simplest stream", function()
        local plan = plan_of(HEAD .. 'expectations = { expect "has id" { not_null "event_id" } } }')
        local stream = plan.streams[1]
        assert.equal("silver.sale", stream.name)
        assert.equal("not_null", stream.expectations[1].terms[1].kind)
        assert.equal("quarantine", stream.expectations[1].action)
        assert.equal("delta", stream.into.kind)
        assert.equal(native.null, plan.sources[1].into)
        assert.equal("json", plan.sources[1].decoder.kind)
        assert.equal(8, #plan.sources[1].schema)
        assert.equal(14, #stream.input)
        assert.equal(8, #stream.columns)
    end)

    it("lets columns out as written: what passes, retyped in place, then what map adds", function()
        local plan = plan_of(HEAD .. [[
          columns = { z = "string", qty = "decimal(20,0)", a = "int64", _offset = "int64" }, drop = { "weight", "open" },
          map = function(e, out) out.z = e.sku; out.a = 1 end }]])
        local names = {}
        for i, column in ipairs(plan.streams[1].columns) do
            names[i] = column.name .. ":" .. column.type
        end
        assert.same({ "event_id:string", "store_id:int32", "sku:string", "qty:decimal(20,0)", "price:decimal(10,2)", "sold_at:timestamp",
            "_offset:int64", "z:string", "a:int64" }, names)
    end)

    it("types measures and derives, in written order", function()
        local plan = plan_of [[return model "gold.v" { from = "bronze.sale", time = { field = "sold_at" }, by = { "sku", "store_id" },
          window = tumbling { size = "1m", allowed_lateness = "10s", late = "quarantine.late_v" },
          measures = { units = sum "qty", revenue = sum "price", heavy = sum "weight", n = count(), mean = avg "qty", avg_price = avg "price",
            first_at = min "sold_at", skus = distinct "event_id", big = count({ where = function(e) return e.qty > 5 end }),
            net = sum(function(e) return e.price * 0.2 end, "decimal(18,4)") },
          derive = { { a = function(m) return m.revenue / m.units end, type = "decimal(14,4)" }, { b = function(m) return m.a * 2 end, type = "decimal(14,4)" } },
          tests = { unique { "sku", "store_id", "window_start" } }, into = delta { partition_by = { date "window_start" } } }]]
        local names = {}
        for i, column in ipairs(plan.models[1].columns) do
            names[i] = column.name .. ":" .. column.type
        end
        assert.same({ "sku:string", "store_id:int32", "window_start:timestamp", "window_end:timestamp", "units:int64", "revenue:decimal(38,2)",
            "heavy:double", "n:int64", "mean:decimal(38,6)", "avg_price:decimal(38,6)", "first_at:timestamp", "skus:int64", "big:int64",
            "net:decimal(38,4)", "a:decimal(14,4)", "b:decimal(14,4)" }, names)
        assert.equal("window_start", plan.models[1].into.partition_by[1].date)
    end)

    it("attaches quality files by path", function()
        local plan = plan_of { ["rules/silver/sale.lua"] = HEAD .. "}",
            ["rules/quality/b.lua"] = [=[return quality "silver.sale" { expect "b" { matches("sku", [[^S\d+$]]), on_violation = "warn" } }]=],
            ["rules/quality/a.lua"] = 'return quality "silver.sale" { expect "a" { one_of("store_id", { 1, 2 }) } }' }
        assert.equal("a", plan.streams[1].quality[1].name)
        assert.equal("warn", plan.streams[1].quality[2].action)
        assert.same({ "1", "2" }, { plan.streams[1].quality[1].terms[1].values[1], plan.streams[1].quality[1].terms[1].values[2] })
    end)

    it("writes literals as they were written", function()
        local plan = plan_of(HEAD .. 'expectations = { expect "a" { between("price", 0.10, "99.90"), between("qty", -5, 9223372036854775807), one_of("open", { true }) } } }')
        local terms = plan.streams[1].expectations[1].terms
        assert.same({ "0.10", "99.90" }, { terms[1].low, terms[1].high })
        assert.same({ "-5", "9223372036854775807" }, { terms[2].low, terms[2].high })
        assert.equal(true, terms[3].values[1])
    end)

    it("orders datasets by what they read, whatever the files are called", function()
        local plan = plan_of { ["rules/a.lua"] = 'return stream "c.last" { from = "b.middle" }', ["rules/b.lua"] = 'return stream "b.middle" { from = "silver.sale" }',
            ["rules/z.lua"] = HEAD .. "}" }
        assert.same({ "silver.sale", "b.middle", "c.last" }, { plan.streams[1].name, plan.streams[2].name, plan.streams[3].name })
    end)

    it("requires helpers inside the project, and hashes them", function()
        local files = { ["lib/vat.lua"] = "return { rate = 0.2 }", ["rules/silver/sale.lua"] = 'local vat = require "lib.vat"\n' .. HEAD .. 'columns = { v = "decimal(12,4)" }, map = function(e, out) out.v = e.price * vat.rate end }' }
        local _, result = plan_of(files)
        assert.truthy(table.concat(result.files, "\n"):find("lib/vat.lua", 1, true))
        files["lib/vat.lua"] = "return { rate = 0.25 }"
        local _, other = plan_of(files)
        assert.not_equal(result.hash_input, other.hash_input)
        says(finding("load", 'local x = require "os"\n' .. HEAD .. "}"), "require finds project helpers only")
    end)

    it("gives the same plan twice", function()
        local text = HEAD .. 'columns = { a = "int64", b = "string" }, map = function(e, out) out.a = 1 end }'
        local path = pipeline_of(text)
        assert.equal(load({ path = path }).plan, load({ path = path }).plan)
    end)

    it("takes settings from the command line, and refuses those that are none", function()
        local plan = plan_of(HEAD .. "}", { { "commit.every", "100ms" }, { "storage.root", "elsewhere" } })
        assert.equal(100000, plan.pipeline.commit.every_us)
        assert.truthy(plan.pipeline.storage.root:find "elsewhere$")
        says(finding("setting", HEAD .. "}", { { "nonsense.every", "1s" } }), "no such option")
        says(finding("unknown-option", HEAD .. "}", { { "commit.evry", "1s" } }), "no option `evry`", "did you mean `every`")
    end)

    it("joins and defaults environment variables; an unset one is the environment's fault", function()
        local _, report = try { ["pipelines/t.lua"] = PIPELINE:gsub('env%b()', 'env "WEIR_SPEC_UNSET" .. "/lake"') }
        assert.is_true(report.environment)
        says(finding("environment", { ["pipelines/t.lua"] = PIPELINE:gsub('env%b()', 'env "WEIR_SPEC_UNSET"') }), "WEIR_SPEC_UNSET is not set", "give a default")
        local plan = plan_of { ["pipelines/t.lua"] = PIPELINE:gsub('env%b()', 'env("WEIR_SPEC_UNSET", "x") .. "/lake"') }
        assert.truthy(plan.pipeline.storage.root:find "x/lake$")
    end)
end)

describe("the checks", function()
    local cases = {
        { "an unknown option", "unknown-option", HEAD .. 'form = "x" }', "no option `form`", "did you mean `from`" },
        { "a repeated key", "repeated-key", HEAD .. 'from = "bronze.sale" }', "`from` is given twice" },
        { "a constructor in a row function", "constructor-in-function", HEAD .. 'where = function(e) return not_null "x" end }', "`not_null` builds declarations" },
        { "a constructor without its table", "no-table", 'return stream "silver.sale"', 'left without its table' },
        { "an unfinished expect", "no-table", HEAD .. 'expectations = { expect "x" } }', '`expect "x"` is left without its table' },
        { "an unfinished declaration on the way", "no-table", 'local x = stream "a.b"\n' .. HEAD .. "}", '`stream "a.b"` is left' },
        { "two writers", "two-writers", { ["rules/a.lua"] = HEAD .. "}", ["rules/b.lua"] = HEAD .. "}" }, "one dataset has one writer" },
        { "quarantine beside its dataset", "two-writers", "return { " .. HEAD:sub(8) .. '}, stream "quarantine.silver.sale" { from = "bronze.sale" } }', "the rejects of `silver.sale`" },
        { "an unknown column in by", "unknown-column", 'return model "g.v" { from = "bronze.sale", time = { field = "sold_at" }, by = "skv", window = tumbling "1m", measures = { n = count() } }', "no column `skv`", "did you mean `sku`" },
        { "an unknown column in a predicate", "unknown-column", HEAD .. 'expectations = { expect "x" { not_null "event_i" } } }', "no column `event_i`", "`event_id`" },
        { "an unknown column in drop", "unknown-column", HEAD .. 'drop = "wieght" }', "no column `wieght`", "`weight`" },
        { "an unknown column in dedup", "unknown-column", HEAD .. 'dedup = { by = "id", within = "1h" } }', "no column `id`" },
        { "an unknown column in a function", "unknown-column", HEAD .. "where = function(e) return e.quty > 1 end }", "no column `quty`", "`qty`" },
        { "an unknown time field", "unknown-column", 'return stream "a.b" { from = "bronze.sale", time = { field = "sold" } }', "no column `sold`" },
        { "a time that is none", "type", 'return stream "a.b" { from = "bronze.sale", time = { field = "sku" } }', "event time is a timestamp" },
        { "between of a text with numbers", "type", HEAD .. 'expectations = { expect "x" { between("sku", 1, 2) } } }', "does not compare with 1" },
        { "one_of out of range", "literal", HEAD .. 'expectations = { expect "x" { one_of("store_id", { 3000000000 }) } } }', "outside its range" },
        { "decimal with a double", "decimal-double", HEAD .. "where = function(e) return e.price * e.weight > 1 end }", "decimal and double do not mix" },
        { "a literal too big", "literal", HEAD .. 'columns = { n = "int8" }, map = function(e, out) out.n = 200 end }', "outside its range" },
        { "an undeclared out column", "undeclared-column", HEAD .. 'columns = { n = "int8" }, map = function(e, out) out.m = 2 end }', "declares no column `m`" },
        { "a field of a value", "type", HEAD .. "where = function(e) return e.qty.v == 1 end }", "column `qty` (int64) has no fields" },
        { "an assigned text in a number", "type", HEAD .. 'columns = { n = "int8" }, map = function(e, out) out.n = e.sku end }', "does not take column `sku`" },
        { "a measure named like a window column", "repeated-name", 'return model "g.v" { from = "bronze.sale", time = { field = "sold_at" }, by = "sku", window = tumbling "1m", measures = { window_end = count() } }', "named like a column of the window" },
        { "a sum of texts", "type", 'return model "g.v" { from = "bronze.sale", time = { field = "sold_at" }, window = tumbling "1m", measures = { n = sum "sku" } }', "sum needs a number" },
        { "a window without time", "no-time", 'return model "g.v" { from = "bronze.sale", window = tumbling "1m", measures = { n = count() } }', "a window needs event time" },
        { "a word not built", "not-built", 'return job "a.b" { at = "0 3 * * *" }', "`job` is not built yet" },
        { "an option not built", "not-built", HEAD .. 'params = { x = "y" } }', "`params` of stream" },
        { "an unknown dataset", "unknown-dataset", 'return stream "a.b" { from = "bronze.sail" }', "no dataset is called `bronze.sail`", "`bronze.sale`" },
        { "a circle", "cycle", { ["rules/a.lua"] = 'return stream "a.a" { from = "a.b" }', ["rules/b.lua"] = 'return stream "a.b" { from = "a.a" }' }, "a.a -> a.b -> a.a" },
        { "an unknown global", "unknown-name", HEAD .. "where = function(e) return os.time() end }", "no global is called `os`" },
        { "a set global", "global", "x = 1\n" .. HEAD .. "}", "cannot set the global `x`" },
        { "a syntax error", "syntax", "return stream {", "unexpected symbol" },
        { "a file that returns nothing of use", "no-declaration", "return 5", "not 5" },
    }
    for _, case in ipairs(cases) do
        it("refuse " .. case[1], function()
            local entry = finding(case[2], case[3])
            says(entry, case[4], case[5])
            assert.equal("error", entry.severity)
            assert.truthy(entry.line)
            assert.truthy(entry.file)
        end)
    end

    local lints = {
        { "a written upvalue", "upvalue", "local seen\n" .. HEAD .. "where = function(e) seen = e.sku return true end }" },
        { "a local that hides a constructor", "shadow", "local count = 1\n" .. HEAD .. "}" },
        { "what does not compile", "not-compiled", HEAD .. 'where = function(e) return e.sku:match "x" ~= nil end }' },
        { "a function made a row", "closure", HEAD .. "where = function(e) local f = function() return e.qty end return f() > 1 end }" },
    }
    for _, case in ipairs(lints) do
        it("lint, and go on: " .. case[1], function()
            local result, report = try(case[3])
            assert.truthy(result)
            local found = false
            for _, entry in ipairs(report) do
                found = found or entry.code == case[2] and entry.severity == "lint"
            end
            assert.is_true(found)
        end)
    end

    it("put the caret where the mistake is", function()
        local entry = finding("unknown-column", HEAD .. '\n  expectations = { expect "x" { not_null "evnt_id" } } }')
        assert.equal(2, entry.line)
        assert.equal(42, entry.column)
        assert.truthy(entry.source_line:find "evnt_id")
    end)

    it("find several mistakes in one run", function()
        local _, report = try(HEAD .. 'drop = "a", form = 1, expectations = { expect "x" { not_null "b" } } }')
        assert.equal(3, #report)
    end)
end)
