-- Models: keyed aggregates over windows. Types of measures, the columns that come out, tests on them.
local datasets = require "weir.internal.datasets"
local naming = require "weir.internal.naming"
local json = require "weir.internal.json"
local predicate = require "weir.internal.predicate"
local sinks = require "weir.internal.sinks"
local types = require "weir.internal.types"
local words = require "weir.internal.words"

local measuring = require "weir.internal.measures"
local model_migrate = require "weir.internal.model_migrate"
local tops = require "weir.internal.tops"
local windows = require "weir.internal.windows"

local models = {}

local model_options = {
    description = true, owner = true, from = true, where = true, time = true, expectations = true, dedup = true,
    by = true, window = true, measures = true, derive = true, tests = true, emit = true, into = true, quarantine = true, version = true,
    migrate = true, having = true, top = true, join = "later", explode = "later", ensures = "later", key = "later", params = "later",
}

-- The list of derives: { { name = function(m) … end, type = "…" } … }.
local function read_derives(reader, field, columns, of, functions)
    local derives = json.array {}
    local list = reader:want(field, "table", "derive", '{ { mean = function(m) … end, type = "double" } }')
    for _, item in ipairs(list and reader:fields(list, field.value_at) or {}) do
        if type(item.key) ~= "number" or type(item.value) ~= "table" or getmetatable(item.value) ~= nil then
            reader:error("type", item.at, 'derive is a list, because later ones see earlier ones: { { mean = function(m) … end, type = "double" } }')
        else
            local name, f, parsed, type_field
            for _, part in ipairs(reader:fields(item.value, item.value_at)) do
                if part.key == "type" then
                    type_field = part
                elseif type(part.value) == "function" and type(part.key) == "string" then
                    if name then
                        reader:error("type", part.at, "one column a derive", "put the other in an entry of its own")
                    end
                    name, f = part, reader:func(part, "a derive")
                else
                    reader:error("unknown-option", part.at, ("a derive has a function and `type`, not `%s`"):format(tostring(part.key)))
                end
            end
            local why
            if type_field and type(type_field.value) == "string" then
                parsed, why = types.parse(type_field.value)
                if not parsed then
                    reader:error("type", type_field.value_at, why)
                end
            else
                reader:error("type", item.value_at, 'a derive says its type: type = "decimal(14,4)"')
            end
            if name and f and parsed then
                if naming.column(columns, name.key) then
                    reader:error("repeated-name", name.at, ("there is a column `%s` already"):format(name.key))
                else
                    local out = { name = name.key, type = parsed, nullable = true }
                    local before = {}
                    for i, column in ipairs(columns) do
                        before[i] = column
                    end
                    local number = functions("map", f, "derive " .. name.key, before, { out = { out }, result = out }, true)
                    derives[#derives + 1] = { name = name.key, type = parsed.text, ["function"] = number }
                    columns[#columns + 1] = out
                end
            elseif not name then
                reader:error("type", item.value_at, "a derive names its column: { mean = function(m) … end, type = \"double\" }")
            end
        end
    end
    return derives
end

-- A model writes one row a group and window: what names both is unique, anything less would need memory
-- of every row that left.
local function check_unique(reader, names, by, at, of, bound, counted)
    local given = {}
    for _, name in ipairs(names) do
        given[name] = true
    end
    local missing = {}
    for _, name in ipairs(by) do
        if not given[name] then
            missing[#missing + 1] = "`" .. name .. "`"
        end
    end
    if bound and not given[bound] and not given.window_end then
        missing[#missing + 1] = ("`%s`"):format(bound)
    end
    if counted then
        reader:error("type", at, ("rows of %s are told apart by no column: a key's windows of so many rows may share their bounds"):format(of))
    elseif #missing > 0 then
        reader:error("not-built", at, ("unique without %s is not built yet: rows of %s are unique by group and window"):format(
            table.concat(missing, " and "), of), "name every column of `by`" .. (bound and " and " .. bound or ""))
    end
end

local function read_tests(reader, field, columns, of, functions, seen, by, bound)
    local tests = json.array {}
    local list = reader:want(field, "table", "tests", '{ unique { "sku" }, expect "…" { … } }')
    for _, item in ipairs(list and reader:fields(list, field.value_at) or {}) do
        local node = type(item.key) == "number" and reader:node(item, "tests", "unique", "expect")
        if type(item.key) ~= "number" then
            reader:error("unknown-option", item.at, "tests is a list")
        elseif node and node.word == "unique" then
            local names = json.array {}
            local value = node.body or node.args[1]
            for _, column in ipairs(reader:names({ value = value, at = item.at, value_at = reader:argument_at(item.value_at, 1) }, "unique") or {}) do
                if predicate.column(reader, columns, column.name, column.at, of) then
                    names[#names + 1] = column.name
                end
            end
            if #names > 0 then
                check_unique(reader, names, by, item.value_at, of, bound, not bound and naming.column(columns, "window_start") ~= nil)
            end
            tests[#tests + 1] = { kind = "unique", columns = names }
        elseif node then
            local made = predicate.expectation(reader, node, item.value_at, columns, of, functions, true)
            if made then
                if seen[made.name] then
                    reader:error("repeated-name", item.value_at, ("the expectation %q is declared twice for %s"):format(made.name, of))
                end
                seen[made.name] = true
                made.kind = "expect"
                tests[#tests + 1] = made
            end
        end
    end
    return tests
end

local function read_emit(reader, field, windowed)
    local default = windowed and "on_close" or "on_update"
    if not field or words.is_node(field.value) and field.value.later then -- refused by name already
        return default
    elseif words.is_node(field.value, "every") then
        local at = reader:argument_at(field.value_at, 1)
        local us = reader:duration({ value = field.value.args[1], at = at, value_at = at }, "every")
        if us and us < 1000 then
            reader:error("type", at, "every is at least 1ms")
        end
        return "on_update", us
    end
    local emit = reader:want(field, "string", "emit", ("%q"):format(default))
    if emit and emit ~= "on_update" and emit ~= "on_close" then
        reader:error("type", field.value_at, ("no emit is called %q"):format(emit), 'it is "on_close", "on_update" or every "1s"')
    elseif emit and not windowed and emit ~= "on_update" then
        reader:error("type", field.value_at, "a model without a window is never closed", 'its emit = "on_update"')
    else
        return emit or default
    end
    return default
end

-- Where rows change, each is in every window it lies in: panes have nothing to take back from.
local function check_overlap(reader, window, at)
    if window.every_us > 0 and window.size_us / window.every_us > 1000 then
        reader:error("type", at, ("a row would change %d windows; up to 1000 can change"):format(math.ceil(window.size_us / window.every_us)),
            'make the step longer, or use emit = "on_close" over rows that do not change')
        return false
    end
    return true
end

-- Rows of windows that leave as they change.
local function check_updates(reader, plan, named)
    local kind = plan.window.kind
    if kind == "count" then
        reader:error("type", named.emit.at, "a window of so many rows leaves when it has them; nothing tells two of a key apart as they change",
            'use emit = "on_close"')
    elseif kind ~= "session" and not check_overlap(reader, plan.window, named.window.at) then
        return
    end
end

local keeps_values = { distinct = true, quantile = true, median = true, top_k = true, collect = true }

-- Changes that wait keep the measures as readers know them; of those that are lists beside the group there is only one.
local function check_every(reader, plan, named)
    local function refuse(what)
        reader:error("not-built", named.emit.at, ("emit = every of %s is not built yet"):format(what), 'use emit = "on_update"')
    end
    if named.top and not named.measures then
        refuse "a top of whole rows"
    end
    for _, measure in ipairs(plan.measures) do
        if measure.over_us ~= json.null then
            refuse "measures over the last while"
        elseif keeps_values[measure.kind] or plan.retracts and measure.kind ~= "count" and measure.kind ~= "sum" and measure.kind ~= "avg" then
            local over = plan.retracts and not keeps_values[measure.kind] and " over rows that change" or ""
            refuse(("a model with the measure `%s`%s"):format(measure.kind, over))
        end
    end
end

local function wide(measure)
    local digits = measure.input_type ~= json.null and measure.input_type:match "^decimal%((%d+),"
    return digits and tonumber(digits) > 18
end

-- Rows that change come with what they take back: a model's do, and a keyed stream remembers them. Whether they do.
local function ask_old_rows(reader, of, from, at)
    if from.changelog ~= "whole" and from.remember then
        from.remember() -- it has a key: it can keep what its rows were
    elseif from.changelog ~= "whole" then
        local why = "model %q measures %s, whose changes do not carry the old rows whole; taking them back is not built yet"
        reader:error("not-built", at, why:format(of, from.name), "give that stream a key, or measure the events the changes come from")
        return false
    end
    return true
end

local function check_no_dedup(reader, named, from)
    if named.dedup then
        reader:error("type", named.dedup.at, ("the rows of %s change; a dedup would keep what is taken back"):format(from.name))
    end
end

-- An old row is taken back from the window it was in: its time must be its own, not that of the change.
local function check_own_time(reader, plan, named, from)
    local own = plan.time ~= json.null and plan.time.field or nil
    if plan.window ~= json.null and (own == "_ingested_at" or not own and not from.steady) then
        reader:error("no-time", named.window.at, ("the rows of %s change, and their event time is when they did, not what an old row had"):format(from.name),
            'add time = { field = "…" } to the model, a column of the rows')
    end
end

-- What `top` of whole rows does without.
local function check_whole_rows(reader, plan, named, from, at, sliding)
    if plan.retracts and ask_old_rows(reader, plan.name, from, at) then
        check_own_time(reader, plan, named, from)
        check_no_dedup(reader, named, from)
    end
    for _, option in ipairs { "by", "derive", "having" } do
        if named[option] then
            reader:error("not-built", named[option].at, ("`%s` of a model that keeps whole rows is not built yet"):format(option),
                option == "by" and 'say top = { per = … }' or "say it in a stream that reads the model")
        end
    end
    local kind = sliding and "sliding" or plan.window ~= json.null and plan.window.kind
    if kind == "session" or kind == "count" or kind == "sliding" then
        reader:error("not-built", named.window.at, ("a top of whole rows in %s windows is not built yet"):format(kind), "use `tumbling`")
    elseif kind then
        check_overlap(reader, plan.window, named.window.at)
    end
end

-- TOP over what the windows made; its rank is one more column.
local function read_ranked(reader, plan, named, columns, of, changing)
    if not named.top then
        return columns
    elseif plan.window ~= json.null and (plan.window.kind == "session" or plan.window.kind == "count") then
        reader:error("type", named.top.at, "each session or count of rows is a window of its own; there is nothing to rank in it")
    end
    local kept = {} -- what became of a row stands behind its rank
    for _, column in ipairs(columns) do
        kept[#kept + 1] = column.name ~= "_change" and column or nil
    end
    plan.top = tops.read(reader, named.top, kept, kept, of)
    if plan.top and changing then
        tops.settle(plan.top, plan.by)
    end
    if plan.top and plan.top.rank ~= json.null then
        kept[#kept + 1] = { name = plan.top.rank, type = types.of "int64", nullable = false }
    end
    kept[#kept + 1] = changing and naming.column(columns, "_change") or nil
    return kept
end

-- A measure that cannot take back a row it was given.
local function check_taken_back(reader, measure, from, has_field)
    local floats = measure.input_type == "double" or measure.input_type == "float"
    if measure.kind == "approx_distinct" then
        local why = "approx_distinct cannot take back a row of %s: a sketch does not forget"
        reader:error("type", measure.at, why:format(from.name), "use distinct")
    elseif measure.kind == "aggregate" then
        local why = "an aggregate of your own cannot take back a row of %s"
        reader:error("type", measure.at, why:format(from.name), "measure the events the changes come from")
    elseif measure.most ~= json.null and measure.kind == "collect" then
        local why = "collect with max cannot take back a row of %s: what it left out would be missed"
        reader:error("type", measure.at, why:format(from.name), "leave max out")
    elseif measuring.needs_time[measure.kind] and not has_field then
        local why = "%s goes by event time, and that of the rows of %s is when they changed"
        reader:error("type", measure.at, why:format(measure.kind, from.name), 'add time = { field = "…" }, or use arg_max')
    elseif (floats or wide(measure)) and (measure.kind == "variance" or measure.kind == "stddev")
        or floats and (measure.kind == "sum" or measure.kind == "avg") then
        local why = "%s of a %s cannot take back a row of %s: it would not come out the same"
        reader:error("type", measure.at, why:format(measure.kind, measure.input_type, from.name), "make the column a decimal")
    end
end

local function check_retracts(reader, plan, named, from, at, has_field)
    if not ask_old_rows(reader, plan.name, from, at) then
        return
    end
    check_own_time(reader, plan, named, from)
    if plan.window ~= json.null and plan.window.kind == "count" then
        reader:error("type", named.window.at, ("the rows of %s change: a row taken back would leave a gap in its window"):format(from.name),
            "count the events the changes come from")
    elseif plan.window ~= json.null and plan.window.kind == "session" then
        for _, measure in ipairs(plan.measures) do
            if measure.kind ~= "count" and measure.kind ~= "sum" and measure.kind ~= "avg" then
                reader:error("not-built", measure.at, ("%s of sessions over rows that change is not built yet"):format(measure.kind),
                    "use count, sum or avg, or `tumbling`")
            end
        end
    elseif plan.window ~= json.null then
        check_overlap(reader, plan.window, named.window.at)
    end
    check_no_dedup(reader, named, from)
    for _, measure in ipairs(plan.measures) do
        check_taken_back(reader, measure, from, has_field)
    end
end

-- Measures of the last while only take back what is older; in a `sliding` window all of them are.
local function check_over(reader, plan, named, from, sliding)
    for _, measure in ipairs(plan.measures) do
        local over = measure.over_us ~= json.null
        if over and named.window then
            reader:error("type", measure.at, "a window says which rows count; `over` is for models without one")
        elseif (over or sliding) and plan.retracts then
            reader:error("type", measure.at, ("the rows of %s change: what was taken back would be forgotten a second time"):format(from.name),
                "measure the events the changes come from")
        elseif over or sliding then
            measure.over_us = sliding and sliding.size_us or measure.over_us
            check_taken_back(reader, measure, from, true)
        end
    end
end

-- Windows that leave as they end, into a table that can be put right: what comes late changes the row.
local function refires(plan, named)
    local into, window = named.into and named.into.value, plan.window
    local mode = words.is_node(into, "delta") and into.body and into.body.mode
    return plan.emit == "on_close" and mode == "merge" and window ~= json.null and window.kind ~= "session" and window.allowed_lateness_us > 0
        and not named.top and not (window.every_us > 0 and window.size_us / window.every_us > 1000)
end

function models.model(project, reader, node, at)
    local of = node.name
    local named = reader:options(node.body, at, model_options, ("model %q"):format(of), false)
    local from = datasets.upstream(project, reader, named.from, node, at)
    if not from or not from.columns then
        return nil
    end
    local input = from.columns
    local functions = datasets.adder(project, reader, of, from.name)
    local time = datasets.read_time(reader, named.time, input, from.name)
    local seen = {}
    local where = reader:func(named.where, "where")
    local sliding = named.window and words.is_node(named.window.value, "sliding")
    local plan = {
        name = of, file = at.file, line = at.line, column = at.col,
        description = datasets.text_of(reader, named.description, "description"),
        owner = datasets.text_of(reader, named.owner, "owner"),
        from = json.array(from.names or { from.name }),
        input = datasets.fields_json(input),
        time = time or json.null,
        event_time = time and time.field or from.time and from.time.field or json.null,
        where = where and functions("predicate", where, "where", input) or json.null,
        expectations = predicate.list(reader, named.expectations, "expectations", input, from.name, functions, seen, json.array {}),
        dedup = named.dedup and datasets.read_dedup(reader, named.dedup, input, from.name, time or from.time) or json.null,
        state_version = datasets.read_version(reader, named.version),
        retracts = naming.column(input, "_change") ~= nil,
    }
    plan.emit, plan.emit_every_us = read_emit(reader, named.emit, named.window ~= nil and not sliding)
    local late
    if named.window then
        plan.window, late = windows.read(reader, named.window, of)
        if plan.window and not (time or from.time) then
            reader:error("no-time", named.window.at, "a window needs event time, and nothing here or upstream declares it", 'add time = { field = "…" }')
        end
    end
    if sliding and plan.window then
        sliding, plan.late = plan.window, plan.window.late
    end
    plan.window = not sliding and plan.window or json.null
    local windowed = named.window ~= nil and not sliding
    plan.refires = windowed and refires(plan, named)
    local changing = plan.emit == "on_update" or plan.refires -- rows leave as changes
    if changing and not plan.refires and plan.window ~= json.null then
        check_updates(reader, plan, named)
    end
    local whole_rows = named.top ~= nil and not named.measures
    local columns = whole_rows and tops.kept(input) or {}
    if whole_rows then
        check_whole_rows(reader, plan, named, from, at, sliding)
        plan.top = tops.read(reader, named.top, input, columns, from.name)
        if plan.top and plan.retracts then
            tops.settle(plan.top, from.key)
        end
    end
    local by = json.array {}
    for _, item in ipairs(not whole_rows and reader:names(named.by, "by") or {}) do
        local column = predicate.column(reader, input, item.name, item.at, from.name)
        if column then
            if types.is_nested(column.type) then
                reader:error("type", item.at, ("`by` takes plain columns; `%s` is %s"):format(item.name, column.type.text))
            elseif naming.column(columns, item.name) then
                reader:error("repeated-name", item.at, ("`%s` is grouped by twice"):format(item.name))
            else
                columns[#columns + 1] = { name = item.name, type = column.type, nullable = column.nullable ~= false }
            end
            if windowed and (item.name == "window_start" or item.name == "window_end") then
                reader:error("repeated-name", item.at, ("`%s` is a column of the window"):format(item.name))
            elseif item.name == "_change" then
                reader:error("type", item.at, "`_change` says what became of a row; rows are not grouped by it")
            end
            by[#by + 1] = item.name
        end
    end
    plan.by = by
    if windowed then
        columns[#columns + 1] = { name = "window_start", type = types.of "timestamp", nullable = false }
        columns[#columns + 1] = { name = "window_end", type = types.of "timestamp", nullable = false }
    end
    local measures = json.array {}
    local list = reader:want(named.measures, "table", "measures", '{ units = sum "qty" }')
    for _, item in ipairs(list and reader:fields(list, named.measures.value_at) or {}) do
        if type(item.key) ~= "string" then
            reader:error("type", item.at, 'a measure has a name: { units = sum "qty" }')
        elseif item.key == "_change" then
            reader:error("repeated-name", item.at, "`_change` says what became of a row; name the measure otherwise")
        elseif windowed and (item.key == "window_start" or item.key == "window_end") then
            reader:error("repeated-name", item.at, ("the measure `%s` is named like a column of the window"):format(item.key), "name it otherwise")
        elseif naming.column(columns, item.key) then
            reader:error("repeated-name", item.at, ("the measure `%s` is named like a column of `by`"):format(item.key), "name it otherwise")
        else
            local measure, result = measuring.read(reader, item, input, from.name, functions, time or from.time)
            if measure then
                measure.at = item.value_at
                measures[#measures + 1] = measure
                columns[#columns + 1] = { name = item.key, type = result, nullable = not measuring.counts[measure.kind] }
            end
        end
    end
    if not named.measures and not named.top then
        reader:error("type", at, ("model %q measures nothing"):format(of), 'measures = { units = sum "qty" }')
    end
    if whole_rows and plan.top and plan.top.rank ~= json.null then
        columns[#columns + 1] = { name = plan.top.rank, type = types.of "int64", nullable = false }
    end
    plan.measures = measures
    check_over(reader, plan, named, from, sliding and sliding.size_us and sliding)
    if plan.emit_every_us then
        check_every(reader, plan, named)
    end
    if plan.retracts and not whole_rows then
        check_retracts(reader, plan, named, from, at, (time or from.time or {}).field)
    end
    for _, measure in ipairs(measures) do
        measure.at = nil
    end
    local migrate = named.migrate and model_migrate.read(project, reader, named.migrate, plan, input, named.top ~= nil)
    if migrate then
        plan.migrates, plan.renamed, plan.migrate = migrate.steps, migrate.renamed, migrate["function"]
    end
    if changing then
        columns[#columns + 1] = { name = "_change", type = types.of "int8", nullable = false }
    end
    plan.derive = read_derives(reader, named.derive, columns, of, functions)
    local having = reader:func(named.having, "having")
    local fired = {} -- what comes before the rank
    for i, column in ipairs(columns) do
        fired[i] = column
    end
    plan.having = having and functions("predicate", having, "having", fired, nil, true) or json.null
    if not whole_rows then
        columns = read_ranked(reader, plan, named, columns, of, changing)
    end
    plan.top = plan.top or json.null
    plan.columns = datasets.fields_json(columns)
    local bound = plan.window ~= json.null and windows.bound(plan.window) or nil
    plan.tests = read_tests(reader, named.tests, columns, of, functions, seen, by, bound)
    for _, test in ipairs(changing and plan.tests or {}) do
        if test.action == "quarantine" or test.action == "drop" then
            reader:error("not-built", named.tests.at, ("the rows of %q change; a test that takes some out is not built yet"):format(of),
                'on_violation = "warn" or "fail", or having = function(m) … end')
            break
        end
    end
    local key = json.array {}
    for i, name in ipairs(by) do
        key[i] = name
    end
    key[#key + 1] = bound
    local hint = 'add by = { "…" } to the model'
    if windowed and not bound then
        key, hint = nil, "windows of so many rows are told apart by no column; they append"
    end
    if plan.top ~= json.null then
        local own = not whole_rows and by or plan.retracts and from.key or nil
        key, hint = tops.key(plan.top, bound, own), 'add rank = "rank" to the top, and per'
    end
    plan.into = sinks.of(reader, named.into, columns, of, at, { key = key and #key > 0 and key or nil, hint = hint, merges = changing })
    plan.quarantine = sinks.quarantine(reader, named.quarantine, input, of, at)
    return {
        kind = "model", name = of, plan = plan, columns = columns, seen = seen, functions = functions, late = late,
        -- A window's row has event time window_end - 1 µs, another's that of the row that changed it; the next model reads it from there.
        time = (windowed or time or from.time) and { field = nil } or nil,
        changelog = changing and "whole" or nil,
        steady = windowed or nil, -- a row that is taken back has the time it had
        key = not windowed and key and #key > 0 and key or nil, looked_up = function() plan.lookup_key = key end,
    }
end

models.read_tests = read_tests

return models
