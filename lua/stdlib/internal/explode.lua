-- explode = { line = "lines" }: one row an element of a list, before expectations. From there on the row
-- has the element in a column of its own, and no longer the list, which would be copied once an element.
local predicate = require "weir.internal.predicate"
local json = require "weir.internal.json"
local types = require "weir.internal.types"

local EXAMPLE = 'explode = { line = "lines" }'
local options = { index = true, keep_empty = true, type = true }

-- { name =, value =, at = } of what is exploded, and the options by name.
local function parts(reader, field)
    local t = reader:want(field, "table", "explode", '{ line = "lines" }')
    local named, found = {}, nil
    for _, item in ipairs(t and reader:fields(t, field.value_at) or {}) do
        if type(item.key) ~= "string" then
            reader:error("type", item.at, "explode takes a column's name and the list it comes from", EXAMPLE)
        elseif options[item.key] then
            named[item.key] = item
        elseif found then
            reader:error("type", item.at, ("explode takes one list; `%s` is taken apart already"):format(found.key),
                "explode the other in a stream that reads this one")
        else
            found = item
        end
    end
    if t and not found then
        reader:error("type", field.value_at, "explode names the column that takes the element, and the list", EXAMPLE)
    end
    return found, named
end

-- The type a function's elements have.
local function element_type(reader, item, named)
    local text = named.type and reader:want(named.type, "string", "type", '"struct<sku: string, qty: int32>"')
    if not named.type then
        reader:error("type", item.value_at, ("a function's elements have a type: say which `%s` has"):format(item.key),
            'explode = { line = function(e) … end, type = "struct<sku: string, qty: int32>" }')
    end
    if not text then
        return nil
    end
    local parsed, why = types.parse(text)
    if not parsed then
        reader:error("type", named.type.value_at, why)
    end
    return parsed
end

local function list_of(reader, item, named, input, of)
    local name = reader:want(item, "string", "explode", "the name of a list, or a function that returns one")
    local column, at = nil, nil
    if name then
        column, at = predicate.column(reader, input, name, item.value_at, of)
    end
    if named.type then
        reader:error("type", named.type.at, "the type of a list's elements is known", "leave `type` out")
    end
    if column and column.type.kind ~= "list" then
        reader:error("type", item.value_at, ("`%s` is %s: only a list has elements"):format(name, column.type.text))
        return nil
    end
    return column, at
end

-- The plan's entry and the columns rows have from there on; nil where there is none or it is wrong.
-- `functions` as datasets' adder makes it.
local function read(reader, field, input, of, functions)
    local item, named = parts(reader, field)
    if not item then
        return nil
    end
    for _, column in ipairs(input) do
        if column.name == item.key then
            reader:error("type", item.at, ("%s has a column `%s` already"):format(of, item.key), "name the element otherwise: " .. EXAMPLE)
            return nil
        elseif column.name == "_change" then
            reader:error("not-built", field.value_at, ("explode of %s, a changelog, is not built yet"):format(of))
            return nil
        end
    end
    local plan = { column = json.null, ["function"] = json.null, first = #input }
    local entered, element = {}
    for i, column in ipairs(input) do
        entered[i] = column
    end
    if type(item.value) == "function" then
        element = element_type(reader, item, named)
        if not element then
            return nil
        end
        local made = { name = item.key, type = types.of(("list<%s>"):format(element.text)), nullable = true }
        plan["function"] = functions("map", reader:func(item, "explode"), "explode", input, { out = { made }, result = made })
        plan.made = json.array { { name = made.name, type = made.type.text, nullable = true } }
    else
        local column, at = list_of(reader, item, named, input, of)
        if not column then
            return nil
        end
        element, plan.column = column.type.element, at - 1
        entered[at] = { name = column.name, type = column.type, nullable = true, exploded = item.key }
    end
    entered[#entered + 1] = { name = item.key, type = element, nullable = true }
    if named.index then
        local name = reader:want(named.index, "string", "index", "the name of a column")
        for _, column in ipairs(name and entered or {}) do
            if column.name == name then
                reader:error("type", named.index.value_at, ("there is a column `%s` already"):format(name), 'index = "line_no"')
                return nil
            end
        end
        plan.index = name ~= nil
        entered[#entered + 1] = name and { name = name, type = types.of "int32", nullable = true } or nil
    end
    local keep = reader:want(named.keep_empty, "boolean", "keep_empty", "true or false")
    plan.keep_empty = keep == true
    return plan, entered
end

return { read = read }
