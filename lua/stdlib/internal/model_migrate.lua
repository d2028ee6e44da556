-- `migrate` of a model: what becomes of what it has counted when its measures are others. By the version it leads from a function, a table of
-- measures that go on under another name, or both; the functions say where measures begin that did not see the rows before.
local ffi = require "ffi"
local codegen = require "weir.internal.codegen"
local function_check = require "weir.internal.function_check"
local json = require "weir.internal.json"
local naming = require "weir.internal.naming"
local diagnostic = require "weir.internal.diagnostic"
local rule_migrate = require "weir.internal.rule_migrate"
local types = require "weir.internal.types"

local model_migrate = {}

local FORM = "{ [1] = function(old, m) … end }"

-- ---------------------------------------------------------------- reading

-- The type of what says where a measure begins; nil where nothing does.
local function start_type(measure, input)
    local kind = measure.kind
    if kind == "count" then
        return "int64"
    elseif kind == "sum" or kind == "min" or kind == "max" then
        return measure.type
    elseif kind == "avg" then
        return ("struct<sum: %s, count: int64>"):format(types.measure("sum", types.of(measure.input_type)).text)
    elseif kind == "first" or kind == "last" then
        return ("struct<value: %s, at: timestamp>"):format(measure.type)
    elseif kind == "arg_max" or kind == "arg_min" then
        return ("struct<value: %s, by: %s>"):format(measure.type, naming.column(input, measure.order).type.text)
    end
    return nil
end

local function names_of(measures)
    local names = {}
    for i, measure in ipairs(measures) do
        names[i] = measure.name
    end
    return names
end

-- new = "old", of one version.
local function read_name(reader, item, version, measures, renamed)
    if type(item.value) ~= "string" then
        reader:error("type", item.value_at, ("`%s` is what another measure was: %s = \"qty\""):format(item.key, item.key))
        return
    end
    local known, leads = names_of(measures), item.key
    if version == renamed.latest and not naming.column(measures, leads) then
        reader:error("unknown-name", item.at, ("the model has no measure `%s`"):format(leads), diagnostic.did_you_mean(leads, known)
            or "there is: " .. table.concat(known, ", "))
    end
    renamed[#renamed + 1] = { version = version, from = item.value, to = leads }
end

local function read_step(reader, item, measures, renamed)
    local f
    if type(item.value) == "function" then
        return reader:func(item, ("migrate[%d]"):format(item.key))
    elseif type(item.value) ~= "table" or getmetatable(item.value) ~= nil then
        reader:error("type", item.value_at, ("migrate[%d] is a function, or says what measures were called: { units = \"qty\" }"):format(item.key))
        return nil
    end
    for _, part in ipairs(reader:fields(item.value, item.value_at)) do
        if type(part.key) == "string" then
            read_name(reader, part, item.key, measures, renamed)
        elseif f then
            reader:error("type", part.at, "one function a version")
        else
            f = reader:func(part, ("migrate[%d]"):format(item.key))
        end
    end
    return f
end

-- Why what such a model has counted does not go on under other measures (runtime/operator/aggregate/layout.c); nil where it does.
local function why_fixed(plan, measures, ranked)
    local window = plan.window ~= json.null and plan.window or {}
    local changes = plan.emit == "on_update" or plan.refires
    if window.every_us and window.every_us > 0 and not changes and not plan.retracts then
        return "windows put together from panes"
    elseif window.kind == "session" then
        return "sessions"
    elseif window.kind == "count" then
        return "windows of so many rows"
    elseif plan.emit_every_us then
        return "rows that leave every so often"
    elseif ranked then
        return "a top"
    end
    for _, measure in ipairs(measures) do
        if measure.over_us ~= json.null then
            return "measures of the last while"
        elseif measure.kind == "distinct" or plan.retracts and (measure.kind == "min" or measure.kind == "max") then
            return ("single values, as `%s` keeps them,"):format(measure.name)
        end
    end
    return nil
end

-- What the plan says of it: { steps, renamed, function }, or nil. `measures` get the type of what they begin with.
function model_migrate.read(project, reader, field, plan, input, ranked)
    local of, version, measures = plan.name, plan.state_version, plan.measures
    local t = reader:want(field, "table", "migrate", FORM)
    if not t then
        return nil
    end
    local fixed = why_fixed(plan, measures, ranked)
    if fixed then
        reader:error("not-built", field.at, ("migrate of a model with %s is not built yet"):format(fixed),
            ("make it anew from bronze when its measures change: weir rebuild %s"):format(of))
        return nil
    end
    local steps, functions, first = json.array {}, {}, nil
    local renamed = json.array {}
    renamed.latest = version - 1
    local starts = {}
    for _, measure in ipairs(measures) do
        measure.start = start_type(measure, input)
        if measure.start then
            starts[#starts + 1] = { name = measure.name, type = types.of(measure.start), nullable = true }
        end
    end
    for _, item in ipairs(reader:fields(t, field.value_at)) do
        if type(item.key) ~= "number" or item.key % 1 ~= 0 or item.key == 0 then
            reader:error("type", item.at, "migrate has a function by the version it leads from: " .. FORM)
        else
            local f = read_step(reader, item, measures, renamed)
            if f then
                first = first or f
                steps[#steps + 1], functions[item.key] = item.key, f.fn
                function_check.row_function(reader, f, {
                    of = of, from = of, columns = {}, out = starts, parameters = { out = 2 }, begins = naming.names(measures),
                })
            end
        end
    end
    renamed.latest = nil
    table.sort(steps)
    local made = { steps = steps, renamed = renamed, ["function"] = json.null }
    if first then
        local list = project.functions
        list[#list + 1] = {
            kind = "migrate", of = of, what = "migrate", file = first.at.file, line = first.at.line, reads = {}, nulls = {},
            migrate = functions, version = version, out = starts,
        }
        made["function"] = #list - 1
    end
    return made
end

-- ---------------------------------------------------------------- running

-- A group as C gives it (runtime/pipeline/graph/model_migrate.c): version, the layout's text, and what the measures came to as a rule's image has cells.
local words, texts = ffi.typeof "const int64_t *", ffi.typeof "const char *const *"

function model_migrate.loop(functions, version, out, name)
    local function lead(group, m)
        local old = rule_migrate.read(ffi.string(ffi.cast(texts, group + 8)[0]), group + 16)
        rule_migrate.lead(functions, tonumber(ffi.cast(words, group)[0]), version, old, m)
    end
    return codegen.groups(lead, out, name)
end

return model_migrate
