-- Decision tables. The rows become the map of a stream: a function over exactly the columns they look at, written out as one test after
-- the other, which LuaJIT compiles into the stream's loop. What rows leave out or take twice is told when the files are read.
local conditions = require "weir.internal.conditions"
local datasets = require "weir.internal.datasets"
local diagnostic = require "weir.internal.diagnostic"
local function_check = require "weir.internal.function_check"
local json = require "weir.internal.json"
local naming = require "weir.internal.naming"
local reader_module = require "weir.internal.reader"
local regions = require "weir.internal.regions"
local time = require "weir.internal.time"
local types = require "weir.internal.types"
local value = require "weir.internal.value"
local words = require "weir.internal.words"

local format = string.format
local decisions = {}

local ROWS_MAX, LOOKED_MAX, GIVEN_MAX = 500, 64, 100 -- columns looked at and given are locals of one function, of which Lua has 200
local POLICIES = { "first", "unique", "any", "priority", "collect", "sum", "min", "max", "count" }

-- Options a decision has of a stream, and its own.
local of_stream = {
    description = true, owner = true, from = true, where = true, time = true, expectations = true, dedup = true, columns = true, drop = true, keep = true,
    ensures = true, into = true, quarantine = true, version = true, key = true,
}
local options = { hit = true, priority = true }
for name in pairs(of_stream) do
    options[name] = true
end

-- ---------------------------------------------------------------- rows

-- What a cell of a verdict gives: { text = Lua source, shown = }; nil after a complaint. K keeps what has no source of its own.
local function read_verdict(reader, item, column, spec)
    local x, t = item.value, column.type
    if words.is_node(x, "none") then
        return { text = "nil", shown = "null", null = true }
    elseif type(x) == "function" then
        local f = reader:func(item, ("the column `%s`"):format(column.name))
        if not f then
            return nil
        end
        local reads = function_check.row_function(reader, f, { of = spec.of, from = spec.from, columns = spec.input, result = column })
        spec.reads_any = spec.reads_any or not reads
        for _, name in ipairs(reads or {}) do
            spec.reads[name] = true
        end
        spec.K[#spec.K + 1] = f.fn
        return { text = format("K[%d](e)", #spec.K), shown = "function", value = f.fn }
    elseif types.is_nested(t) or t.kind == "binary" then
        reader:error("type", item.value_at, ("no literal is of type %s"):format(t.text), ("write %s = function(e) … end"):format(column.name))
        return nil
    end
    local literal = conditions.literal(reader, x, column, item.value_at)
    if not literal then
        return nil
    end
    local made = { shown = literal.text, value = literal.same }
    if t.kind == "string" then
        made.text = format("%q", literal.raw)
    elseif t.kind == "bool" or types.is_small_int(t) then
        made.text = tostring(literal.raw)
    elseif types.is_float(t) then
        made.text = format("(%.17g)", literal.raw)
    else
        local whole = t.kind == "decimal" and value.rescale(value.decimal(literal.text), t.scale) or t.kind == "int64" and value.Int64(literal.raw)
            or t.kind == "date" and time.Date(literal.raw) or t.kind:match "_ns" and time.TimestampNs(literal.raw) or time.Timestamp(literal.raw)
        spec.K[#spec.K + 1] = whole
        made.text = format("K[%d]", #spec.K)
    end
    return made
end

local function read_row(reader, field, number, spec)
    local row = { number = number, at = field.value_at, conditions = {}, verdicts = {}, shown = {} }
    local x = field.value
    if type(x) ~= "table" or getmetatable(x) ~= nil then
        reader:error("type", field.value_at, ("a row of a decision is a table, not %s"):format(reader_module.described(x)),
            '{ age = "<= 28", verdict = "accept" }')
        return nil
    end
    local whole = true
    for _, item in ipairs(reader:fields(x, field.value_at)) do
        local output = type(item.key) == "string" and naming.column(spec.outputs, item.key)
        local input = type(item.key) == "string" and not output and naming.column(spec.input, item.key)
        if output then
            row.verdicts[item.key] = read_verdict(reader, item, spec.verdict_of[item.key], spec)
            whole = whole and row.verdicts[item.key] ~= nil
        elseif input then
            local terms = conditions.read(reader, item, input)
            whole = whole and terms ~= nil
            if terms and #terms > 0 then
                row.conditions[item.key] = terms
                row.shown[#row.shown + 1] = conditions.text(input, terms)
                spec.looked[item.key] = true
            end
        else
            conditions.unknown(reader, item, spec.from, spec.input, spec.outputs)
            whole = false
        end
    end
    if whole and spec.hit ~= "count" and next(row.verdicts) == nil then
        reader:error("type", field.value_at, ("row %d gives no verdict"):format(number), ('such as %s = …, or %s = none'):format(spec.outputs[1].name,
            spec.outputs[1].name))
    end
    return whole and row or nil
end

-- ---------------------------------------------------------------- policies

local function read_hit(reader, field)
    local hit = reader:want(field, "string", "hit", '"first", "unique", "any" or another policy') or "first"
    for _, known in ipairs(POLICIES) do
        if hit == known then
            return hit
        end
    end
    reader:error("type", field.value_at, ("no hit policy is called %q"):format(hit),
        diagnostic.did_you_mean(hit, POLICIES) or "there are: " .. table.concat(POLICIES, ", "))
    return nil
end

-- The type a row's verdict has: of a collected column that of its elements.
local function check_outputs(reader, spec, at)
    local whole = true
    local function wrong(column, text, suggestion)
        reader:error("type", column.at, text, suggestion)
        whole = false
    end
    for _, column in ipairs(spec.outputs) do
        local t = column.type
        spec.verdict_of[column.name] = column
        if naming.column(spec.input, column.name) then
            wrong(column, ("`%s` is a column of %s"):format(column.name, spec.from), "give the verdict a name of its own")
        elseif spec.hit == "collect" and t.kind ~= "list" then
            wrong(column, ('hit = "collect" gives lists; `%s` is %s'):format(column.name, t.text), ("list<%s>"):format(t.text))
        elseif spec.hit == "collect" then
            spec.verdict_of[column.name] = { name = column.name, type = t.element, nullable = true }
        elseif (spec.hit == "sum" or spec.hit == "count") and not types.is_numeric(t) then
            wrong(column, ("hit = %q gives a number; `%s` is %s"):format(spec.hit, column.name, t.text))
        elseif (spec.hit == "min" or spec.hit == "max") and (types.is_nested(t) or t.kind == "binary" or t.kind == "bool") then
            wrong(column, ("hit = %q needs ordered values; `%s` is %s"):format(spec.hit, column.name, t.text))
        end
    end
    if #spec.outputs == 0 then
        reader:error("type", at, ("decision %q says no column for its verdict"):format(spec.of), 'columns = { verdict = "string" }')
        whole = false
    elseif spec.hit == "count" and #spec.outputs > 1 then
        wrong(spec.outputs[2], 'hit = "count" gives one column')
    end
    return whole
end

-- `priority`: values of the first output, the weightiest first. The order rows are tried in.
local function order_of(reader, named, spec, at)
    local order, rank = {}, {}
    for i = 1, #spec.rows do
        order[i] = i
    end
    if spec.hit ~= "priority" then
        if named.priority then
            reader:error("type", named.priority.at, "`priority` is for hit = \"priority\"")
        end
        return order
    end
    local column = spec.outputs[1]
    local list = reader:want(named.priority, "table", "priority", "a list of verdicts, the weightiest first")
    if not named.priority then
        reader:error("type", at, 'hit = "priority" says which verdict goes before which', ('priority = { … } of `%s`'):format(column.name))
    end
    local count = 0
    for _, item in ipairs(list and reader:fields(list, named.priority.value_at) or {}) do
        local literal = conditions.literal(reader, item.value, column, item.value_at)
        if literal then
            count = count + 1
            rank[literal.same] = rank[literal.same] or count
        end
    end
    for _, row in ipairs(list and spec.rows or {}) do
        local verdict = row.verdicts[column.name]
        row.rank = verdict and rank[verdict.value]
        if not row.rank then
            reader:error("type", row.at, ("`priority` does not say where row %d's `%s` stands"):format(row.number, column.name), "add it to the list")
            row.rank = count + 1
        end
    end
    table.sort(order, function(a, b)
        local x, y = spec.rows[a].rank or 0, spec.rows[b].rank or 0
        return x < y or x == y and a < b
    end)
    return order
end

-- ---------------------------------------------------------------- proofs

local function row_name(row)
    return ("row %d (line %d)"):format(row.number, row.at.line or 0)
end

local function same_verdict(a, b, outputs)
    for _, column in ipairs(outputs) do
        local x, y = a.verdicts[column.name] or { null = true }, b.verdicts[column.name] or { null = true }
        if x.value ~= y.value then
            return false
        end
    end
    return true
end

local function check_overlaps(reader, spec, space)
    for j = 2, #spec.rows do
        for i = 1, j - 1 do
            local a, b = spec.rows[i], spec.rows[j]
            local both = (spec.hit == "unique" or not same_verdict(a, b, spec.outputs)) and regions.overlap(space, i, j)
            if both then
                reader:error("overlap", b.at, ("%s and %s both take: %s"):format(row_name(a), row_name(b), both),
                    spec.hit == "any" and "where several rows match they give the same verdict; or say hit = \"first\""
                        or "one row at most may match; or say hit = \"first\"")
                break -- one example a row is enough
            end
        end
    end
end

local function check_reached(reader, spec, space)
    for i, row in ipairs(spec.rows) do
        local never, by = regions.unreached(space, i, spec.order)
        if never then
            local names = {}
            for k, j in ipairs(by) do
                names[k] = row_name(spec.rows[j])
            end
            reader:lint("unreached", row.at, ("row %d is never reached: %s"):format(row.number,
                #names > 0 and table.concat(names, ", ") .. " take all of it" or "nothing meets its conditions"), "move it up, or take it out")
        end
    end
end

-- Every list of a collecting policy may be empty; of the others, what no row takes is null.
local function check_table(reader, spec, at)
    local alone = spec.hit == "unique" or spec.hit == "any"
    if not alone and spec.hit ~= "first" and spec.hit ~= "priority" then
        return
    end
    local columns = {}
    for _, column in ipairs(spec.input) do
        if spec.looked[column.name] then
            columns[#columns + 1] = column
        end
    end
    local space = regions.of(columns, spec.rows)
    if alone then
        check_overlaps(reader, spec, space)
    else
        check_reached(reader, spec, space)
    end
    local gap = regions.gap(space)
    if gap and gap ~= "unknown" then
        reader:lint("gap", at, ("no row of decision %q takes: %s"):format(spec.of, gap),
            ("its verdict is null; a last row { %s = … } takes what is left"):format(spec.outputs[1].name))
    end
end

-- ---------------------------------------------------------------- code

local access = { int64 = ".v", date = ".days", timestamp = ".us", timestamp_ntz = ".us", timestamp_ns = ".ns", timestamp_ns_ntz = ".ns" }

local function raw_text(raw, t, K)
    if t.kind == "string" then
        return format("%q", raw)
    elseif type(raw) == "number" then
        return format("(%.17g)", raw)
    elseif type(raw) == "boolean" then
        return tostring(raw)
    elseif t.kind == "decimal" and not conditions.one_word(t) then
        K[#K + 1] = raw
        return format("K[%d]", #K)
    end
    return "(" .. tostring(raw) .. ")" -- digits and LL
end

-- NaN counts as above all numbers, as it sorts.
local function term_text(term, v, t, K)
    local low = term.low and raw_text(term.low.raw, t, K)
    if term.op == "range" then
        return format("not (%s %s %s) and %s %s %s", v, term.low_open and "<=" or "<", low, v, term.high_open and "<" or "<=",
            raw_text(term.high.raw, t, K))
    elseif term.op == ">" or term.op == ">=" then
        return format("not (%s %s %s)", v, term.op == ">" and "<=" or "<", low)
    end
    return format("%s %s %s", v, term.op, low)
end

-- A null meets no term but `none`. (What is kept of an int64 or a time is asked whether it is there without comparing it.)
local function condition_text(terms, v, t, K)
    local parts = {}
    local there, absent = t.kind == "bool" and v .. " ~= nil" or v, t.kind == "bool" and v .. " == nil" or "not " .. v
    for i, term in ipairs(terms) do
        parts[i] = term.op == "null" and absent or term.op == "not_null" and there or format("%s and %s", there, term_text(term, v, t, K))
    end
    return #parts == 1 and parts[1] or "(" .. table.concat(parts, " or ") .. ")"
end

-- The local a column is read into; the statement that reads it, where it is looked at for the first time.
local function reading(column, k)
    local member = access[column.type.kind] or conditions.one_word(column.type) and ".v" or ""
    if member == "" then
        return format("    local v%d = e[%q]\n", k, column.name)
    end
    return format("    local v%d = e[%q]\n    if v%d then v%d = v%d%s end\n", k, column.name, k, k, k, member)
end

local function combine(hit, name, text, k)
    if hit == "collect" then
        return format("        l%d[n] = %s\n", k, text)
    elseif hit == "sum" then
        return format("        do\n            local x = %s\n            if x ~= nil then l%d = l%d == nil and x or l%d + x end\n        end\n", text, k, k, k)
    elseif hit == "min" or hit == "max" then
        return format("        do\n            local x = %s\n            if x ~= nil and (l%d == nil or x %s l%d) then l%d = x end\n        end\n", text, k,
            hit == "min" and "<" or ">", k, k)
    end
    return format("        out[%q] = %s\n", name, text)
end

local function source_of(spec)
    local parts, numbers, count = { "local K = ...\nreturn function(e, out)\n" }, {}, 0
    local one = spec.hit == "first" or spec.hit == "unique" or spec.hit == "any" or spec.hit == "priority"
    if not one then
        parts[#parts + 1] = "    local n = 0\n"
        for k in ipairs(spec.outputs) do
            parts[#parts + 1] = format("    local l%d%s\n", k, spec.hit == "collect" and " = {}" or "")
        end
    end
    for _, i in ipairs(spec.order) do
        local row, tests = spec.rows[i], {}
        for _, column in ipairs(spec.input) do
            if row.conditions[column.name] then
                if not numbers[column.name] then
                    count = count + 1
                    numbers[column.name] = count
                    parts[#parts + 1] = reading(column, count)
                end
                tests[#tests + 1] = condition_text(row.conditions[column.name], "v" .. numbers[column.name], column.type, spec.K)
            end
        end
        parts[#parts + 1] = format("    if %s then -- row %d\n", #tests > 0 and table.concat(tests, " and ") or "true", row.number)
        parts[#parts + 1] = one and "" or "        n = n + 1\n"
        for k, column in ipairs(spec.outputs) do
            local verdict = row.verdicts[column.name]
            if verdict then
                parts[#parts + 1] = combine(spec.hit, column.name, verdict.text, k)
            end
        end
        parts[#parts + 1] = one and "        return\n    end\n" or "    end\n"
    end
    for k, column in ipairs(one and {} or spec.outputs) do
        parts[#parts + 1] = format("    out[%q] = %s\n", column.name, spec.hit == "count" and "n" or "l" .. k)
    end
    parts[#parts + 1] = "end\n"
    return table.concat(parts)
end

-- ---------------------------------------------------------------- the declaration

local function read_rows(reader, positional, spec, at)
    for _, field in ipairs(positional) do
        local row = read_row(reader, field, field.key, spec)
        if not row then
            spec.broken = true
        else
            spec.rows[#spec.rows + 1] = row
        end
        for _, column in ipairs(row and (spec.hit == "collect" and spec.outputs or {}) or {}) do
            local verdict = row.verdicts[column.name]
            if not verdict or verdict.null then
                reader:error("type", row.at, ("row %d gives no `%s`; what is collected is not null"):format(row.number, column.name))
            end
        end
    end
    local looked = 0
    for _ in pairs(spec.looked) do
        looked = looked + 1
    end
    if #positional == 0 then
        reader:error("type", at, ("decision %q has no rows"):format(spec.of), '{ age = "<= 28", verdict = "accept" }, { verdict = "refuse" }')
        spec.broken = true
    elseif #positional > ROWS_MAX or looked > LOOKED_MAX or #spec.outputs > GIVEN_MAX then
        reader:error("limit", at, ("a decision has up to %d rows over %d columns and gives up to %d"):format(ROWS_MAX, LOOKED_MAX, GIVEN_MAX),
            "a lookup in a dataset answers larger tables")
        spec.broken = true
    end
end

-- The function of the table, as datasets.stream takes one.
local function made_function(spec, at)
    local text = source_of(spec)
    local fn = assert(loadstring(text, "=decision " .. spec.of))(spec.K)
    local reads
    if not spec.reads_any then
        for name in pairs(spec.looked) do
            spec.reads[name] = true
        end
        reads = {}
        for name in pairs(spec.reads) do
            reads[#reads + 1] = name
        end
        table.sort(reads)
    end
    return { fn = fn, at = at, reads = reads, text = text }
end

local function shown_rows(spec)
    local shown = json.array {}
    for i, row in ipairs(spec.rows) do
        local gives = {}
        for _, column in ipairs(spec.outputs) do
            local verdict = row.verdicts[column.name]
            gives[#gives + 1] = verdict and ("%s = %s"):format(column.name, verdict.shown) or nil
        end
        shown[i] = { line = row.at.line, when = table.concat(row.shown, ", "), gives = table.concat(gives, ", ") }
    end
    return shown
end

function decisions.decision(project, reader, node, at)
    local what = ("decision %q"):format(node.name)
    local named, positional = reader:options(node.body, at, options, what, true)
    local from = datasets.upstream(project, reader, named.from, node, at)
    if not from or not from.columns then
        return nil
    end
    local spec = {
        of = node.name, from = from.name, input = from.columns, hit = read_hit(reader, named.hit), outputs = datasets.read_columns(reader, named.columns),
        verdict_of = {}, rows = {}, looked = {}, reads = {}, K = {},
    }
    if not spec.hit or not check_outputs(reader, spec, at) then
        return nil
    end
    read_rows(reader, positional, spec, at)
    if spec.broken then
        return nil
    end
    spec.order = order_of(reader, named, spec, at)
    check_table(reader, spec, at)
    local body = {}
    for name in pairs(of_stream) do
        body[name] = node.body[name]
    end
    project.sites[body] = project.sites[node.body]
    local stream = setmetatable({ word = "stream", name = node.name, where = node.where, body = body }, words.Node)
    local made = datasets.stream(project, reader, stream, at, made_function(spec, at))
    if made then
        made.plan.decision = { hit = spec.hit, rows = shown_rows(spec) }
    end
    return made
end

return decisions
