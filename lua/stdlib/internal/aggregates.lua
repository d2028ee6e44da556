-- `aggregate`: a measure of the analyst's own. A row is added to a state of its own, states are merged in the order of the rows, and
-- a result is made of what leaves: so windows made of panes, and sessions that join, need no more than those three functions.
local datasets = require "weir.internal.datasets"
local function_check = require "weir.internal.function_check"
local json = require "weir.internal.json"
local types = require "weir.internal.types"

local aggregates = {}

local FIELDS_MAX = 64
local FORM = 'aggregate { state = { total = "double" }, add = function(s, e) … end, merge = function(s, o) … end, result = function(s) … end, type = "double" }'
local options = { state = true, init = true, add = true, merge = true, result = true, type = true, where = true }

-- The columns of its state; nil after a complaint.
local function read_state(reader, named, at)
    local columns = datasets.read_columns(reader, named.state)
    if #columns == 0 or #columns > FIELDS_MAX then
        reader:error("type", named.state and named.state.value_at or at, ("an aggregate's state has 1 to %d fields"):format(FIELDS_MAX),
            'state = { total = "decimal(38,4)", rows = "int64" }')
        return nil
    end
    for _, column in ipairs(columns) do
        if types.is_nested(column.type) or column.type.kind == "string" or column.type.kind == "binary" then
            reader:error("type", column.at, ("an aggregate's state is numbers, truth values and times; `%s` is %s"):format(column.name, column.type.text),
                "texts are measured by min, max, arg_max, collect")
            return nil
        end
    end
    return columns
end

local function read_type(reader, field, at)
    local parsed, why
    if field and type(field.value) == "string" then
        parsed, why = types.parse(field.value)
    else
        why = 'an aggregate says the type of its result: type = "double"'
    end
    if not parsed then
        reader:error("type", field and field.value_at or at, why)
    end
    return parsed
end

-- MEASURE of the plan and its type; nil after a complaint. `functions` as datasets' adder makes it.
function aggregates.read(reader, item, node, input, functions)
    local name, at = item.key, item.value_at
    local what = ("measure %s"):format(name)
    if not node.body then
        reader:error("type", at, "aggregate takes a table", FORM)
        return nil
    end
    local named = reader:options(node.body, at, options, "aggregate", false)
    local state = read_state(reader, named, at)
    local result = read_type(reader, named.type, at)
    local given = {}
    for _, each in ipairs { "init", "add", "merge", "result", "where" } do
        given[each] = reader:func(named[each], each)
        if not named[each] and each ~= "init" and each ~= "where" then
            reader:error("type", at, ("an aggregate has a function `%s`"):format(each), FORM)
        end
    end
    if not state or not result or not given.add or not given.merge or not given.result then
        return nil
    end
    local of = ("the state of `%s`"):format(name)
    if given.init then
        function_check.row_function(reader, given.init, { of = of, from = of, columns = {}, out = state, parameters = { out = 1 } })
    end
    local parts = {}
    for i, column in ipairs(state) do
        parts[i] = column.name .. ": " .. column.type.text
    end
    local out = { name = "value", type = result, nullable = true }
    return {
        name = name, kind = "aggregate", column = json.null, order = json.null, share = json.null, most = json.null, over_us = json.null,
        ["function"] = functions("map", given.add, what .. " add", input,
            { out = state, retyped = {}, parameters = { row = 2, out = 1 }, init = given.init and given.init.fn or false }),
        merge = functions("merge", given.merge, what .. " merge", state, { out = state, from = of, parameters = { row = 2, out = 1 } }),
        finish = functions("map", given.result, what .. " result", state, { out = { out }, result = out, from = of }),
        where = given.where and functions("predicate", given.where, what .. " where", input) or json.null,
        input_type = "struct<" .. table.concat(parts, ", ") .. ">", type = result.text,
    }, result
end

return aggregates
