-- Which columns of a source, and which fields of structs in them, anything reads: C checks the others and leaves them out
-- (plan: `decoded`). What is not certain counts as read.
--
-- Rows that leave a stream take what passes through it with them: that is read. Row functions are followed by their text:
-- `e.bid.price`, and locals that stand for such paths; a row that goes elsewhere whole is read whole.
local json = require "weir.internal.json"
local paths = require "weir.internal.paths"
local syntax = require "weir.internal.syntax"

local readings = {}

local function said(value)
    return value ~= nil and value ~= json.null and value ~= false
end

local function filled(list)
    return said(list) and #list > 0
end

-- Locals that are nothing but paths: { [name] = path }, and the expressions that say so.
local function aliases_of(body, known)
    local declared, assigned = paths.survey(body)
    local saying = {}
    for name in pairs(known) do
        if declared[name] or assigned[name] then
            return nil
        end
    end
    local more = true
    while more do
        more = false
        syntax.walk(body, function(n)
            for i, name in ipairs(n.tag == "Local" and #n.names == #n.values and n.names or {}) do
                local path = declared[name.name] == 1 and not assigned[name.name] and not known[name.name] and paths.of(n.values[i], known)
                if path then
                    known[name.name], saying[n.values[i]], more = path, true, true
                end
            end
        end)
    end
    return saying
end

-- Hands every path the function reads to add(path); false when it may read any.
local function follow(node, columns, add)
    local row = node.params[1]
    if not row then
        return true
    end
    local known = { [row.name] = paths.row(columns) }
    local saying = aliases_of(node.body, known)
    local certain = saying ~= nil
    if certain then
        paths.each(node.body, known, saying, function(path)
            certain = certain and #path.names > 0
            add(path.names)
        end)
    end
    return certain
end

-- A tree { [name] = true (all of it) or a tree }.
local function note(tree, path)
    for i, name in ipairs(path) do
        if tree[name] == true then
            return
        end
        tree[name] = i == #path or tree[name] or {}
        tree = tree[name]
    end
end

local function of_function(functions, number, add)
    local f = functions[number + 1]
    if f.node then
        return follow(f.node, f.columns, add)
    end
    for _, name in ipairs(f.reads or {}) do
        add { name }
    end
    return f.reads ~= nil
end

-- What a stream reads of its one input's columns; false: anything.
local function of_stream(stream, functions, add)
    if #stream.from > 1 or said(stream.explode) or filled(stream.lookups) or filled(stream.joins) or said(stream.rule)
        or said(stream.remember) or said(stream.lookup_key) or said(stream.changes_whole) then
        return false
    end
    local certain = true
    if said(stream.time) then
        add { stream.time.field }
    end
    if said(stream.where) then
        certain = of_function(functions, stream.where, add)
    end
    for _, expectation in ipairs(stream.expectations) do
        for _, term in ipairs(expectation.terms) do
            if term.kind == "function" then
                certain = certain and of_function(functions, term["function"], add)
            else
                add { term.column }
            end
        end
    end
    for _, name in ipairs(said(stream.dedup) and stream.dedup.by or {}) do
        add { name }
    end
    if said(stream.map) then
        certain = certain and of_function(functions, stream.map["function"], add)
    end
    for _, column in ipairs(stream.columns or {}) do
        if said(column.input) then
            add { stream.input[column.input + 1].name }
        end
    end
    return certain and stream.columns ~= nil
end

local function reads(dataset, name)
    for _, from in ipairs(dataset.from) do
        if from == name then
            return true
        end
    end
    for _, list in ipairs { said(dataset.joins) and dataset.joins or {}, said(dataset.lookups) and dataset.lookups or {} } do
        for _, item in ipairs(list) do
            if item.from == name then
                return true
            end
        end
    end
    return false
end

-- Paths of the tree in the fields' order.
local function listed(tree, fields, path, list)
    for _, field in ipairs(fields) do
        if tree[field.name] then
            path[#path + 1] = field.name
            if tree[field.name] == true then
                list[#list + 1] = json.array { unpack(path) }
            else
                listed(tree[field.name], field.type.fields, path, list)
            end
            path[#path] = nil
        end
    end
    return list
end

-- The paths of `columns`, the source's, that anything reads; nil: all.
local function of_source(plan, source, columns, functions)
    local tree, certain, any = {}, not said(source.into), false
    local function add(path)
        note(tree, path)
    end
    for _, model in ipairs(plan.models) do
        certain = certain and not reads(model, source.name)
    end
    for _, stream in ipairs(plan.streams) do
        if certain and reads(stream, source.name) then
            any = true
            certain = of_stream(stream, functions, add)
        end
    end
    if not (certain and any) then
        return nil
    end
    local whole = true
    for _, column in ipairs(columns) do
        whole = whole and tree[column.name] == true
    end
    return not whole and listed(tree, columns, {}, json.array {}) or nil
end

-- Says of each source of the plan what is read of it. `made`: datasets by their names.
function readings.settle(plan, made, functions)
    for _, source in ipairs(plan.sources) do
        local columns = {}
        for i in ipairs(source.schema) do
            columns[i] = made[source.name].columns[i] -- those the source adds follow
        end
        source.decoded = of_source(plan, source, columns, functions)
    end
end

return readings
