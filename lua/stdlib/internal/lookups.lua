-- `join = { product = lookup "silver.product" { on = "sku" } }`: beside each row, the row another dataset has under a key. What is found is
-- a column of structs behind the input's, which map's third argument reads.
local diagnostic = require "weir.internal.diagnostic"
local joins = require "weir.internal.joins"
local json = require "weir.internal.json"
local predicate = require "weir.internal.predicate"
local types = require "weir.internal.types"
local words = require "weir.internal.words"

local lookups = {}

local FORM = 'join = { product = lookup "silver.product" { on = "sku" } }'
local options = { on = true, kind = true, unmatched = true, default = true }

local function find(columns, name)
    for _, column in ipairs(columns) do
        if column.name == name and not column.exploded then
            return column
        end
    end
end

local function quoted(names)
    local parts = {}
    for i, name in ipairs(names) do
        parts[i] = "`" .. name .. "`"
    end
    return table.concat(parts, ", ")
end

-- The dataset rows are found in; nil after a complaint.
local function target(project, reader, node, at, of)
    local found = type(node.name) == "string" and project.by_name[node.name]
    if not found then
        local known = {}
        for name in pairs(project.by_name) do
            known[#known + 1] = name
        end
        table.sort(known)
        reader:error("unknown-dataset", at, ("no dataset is called `%s`"):format(tostring(node.name)),
            diagnostic.did_you_mean(tostring(node.name), known) or "there are: " .. table.concat(known, ", "))
        return nil
    elseif found.name == of then
        reader:error("cycle", at, ("`%s` looks its own rows up"):format(of), "look them up in another dataset")
        return nil
    elseif found.broken or not found.columns then
        return nil
    elseif not found.key then
        local why = found.kind == "source" and "is a source: its rows have no key" or found.kind == "model" and "is a model with windows, or none to group by"
            or "has no key"
        reader:error("type", at, ("rows are not found in `%s`, which %s"):format(found.name, why),
            found.kind == "model" and "look them up in a model with `by` and without a window"
            or found.kind == "source" and ('put a stream with key = "…" between: from = %q'):format(found.name) or 'give it key = "…"')
        return nil
    end
    return found
end

-- { right = { left =, at = } } of `on`: a name, a list, or { left = "right" }. Without it the key's own names.
local function pairs_of(reader, field, key, at)
    local by_right, order = {}, {}
    local function add(right, left, place)
        by_right[right] = { left = left, at = place }
        order[#order + 1] = right
    end
    if not field then
        for _, name in ipairs(key) do
            add(name, name, at)
        end
        return by_right, order
    end
    local x = reader:resolve(field.value, field.value_at)
    if type(x) == "string" then
        add(x, x, field.value_at)
        return by_right, order
    elseif type(x) ~= "table" or getmetatable(x) ~= nil then
        reader:error("type", field.value_at, "`on` takes a name, a list of names, or { left = \"right\" } where they differ", 'on = "sku"')
        return nil
    end
    for _, item in ipairs(reader:fields(x, field.value_at)) do
        if type(item.value) ~= "string" then
            reader:error("type", item.value_at, "`on` takes names", 'on = { product_id = "id" }')
            return nil
        end
        add(item.value, type(item.key) == "string" and item.key or item.value, item.value_at)
    end
    return by_right, order
end

-- The columns of the stream, in the order of the key.
local function read_on(reader, named, found, input, of, at)
    local by_right, order = pairs_of(reader, named.on, found.key, at)
    if not by_right then
        return nil
    end
    local on, is_key = json.array {}, {}
    for _, name in ipairs(found.key) do
        is_key[name] = true
    end
    for _, name in ipairs(order) do
        if not is_key[name] then
            reader:error("type", by_right[name].at, ("rows of `%s` are found by its key, %s, not by `%s`"):format(found.name, quoted(found.key), name),
                diagnostic.did_you_mean(name, found.key) or 'where names differ: on = { left = "right" }')
            return nil
        end
    end
    for i, name in ipairs(found.key) do
        local pair = by_right[name]
        if not pair then
            reader:error("type", (named.on or {}).value_at or at, ("the key of `%s` has %s, too"):format(found.name, quoted { name }),
                ("rows are found by all of it: %s"):format(quoted(found.key)))
            return nil
        end
        local left, right = predicate.column(reader, input, pair.left, pair.at, of), find(found.columns, name)
        if not left or not right then
            return nil
        elseif left.type.text ~= right.type.text then
            reader:error("type", pair.at, ("`%s` is %s in %s, `%s` of %s is %s: they are never equal"):format(
                pair.left, left.type.text, of, name, found.name, right.type.text), "give one of them the other's type in a stream before")
            return nil
        end
        on[i] = pair.left
    end
    return on
end

-- What rows that find nothing get instead, as literals by column.
local function read_default(reader, field, found, struct)
    local t = reader:want(field, "table", "default", '{ category = "unknown" }')
    if not t then
        return nil
    end
    local texts = {}
    for _, item in ipairs(reader:fields(t, field.value_at)) do
        local name, value = item.key, reader:resolve(item.value, item.value_at)
        local known = {}
        local held
        for i, f in ipairs(struct.fields) do
            known[i] = f.name
            held = f.name == name and f.type or held
        end
        if not held then
            reader:error("unknown-column", item.at, ("%s has no column `%s`"):format(found.name, tostring(name)),
                diagnostic.did_you_mean(tostring(name), known) or "it has: " .. table.concat(known, ", "))
        else
            local is_text = held.kind == "string" or held.kind == "binary" or held.kind == "date" or types.is_timestamp(held)
            local fits = type(value) == "string" and (is_text or held.kind == "decimal" or held.kind == "int64")
                or type(value) == "number" and types.is_numeric(held) or type(value) == "boolean" and held.kind == "bool"
                or type(value) == "cdata" and types.is_numeric(held)
            if not fits then
                reader:error("type", item.value_at, ("`%s` of %s is %s: its default cannot be this"):format(name, found.name, held.text))
            else
                texts[name] = type(value) == "number" and ("%.17g"):format(value) or tostring(value)
            end
        end
    end
    return texts
end

-- What is kept of a row found, as a type: plain columns, without those that begin with _.
local function struct_of(found)
    local parts = {}
    for _, column in ipairs(found.columns) do
        if not types.is_nested(column.type) and not column.name:match "^_" then
            parts[#parts + 1] = column.name .. ": " .. column.type.text
        end
    end
    return types.parse(("struct<%s>"):format(table.concat(parts, ", ")))
end

local function read_one(project, reader, item, node, input, from, of)
    local at = reader:place_of(node, item.value_at)
    local found = target(project, reader, node, at, of)
    local named = reader:options(node.body, at, options, ("lookup %q"):format(tostring(node.name)), false)
    if not found then
        return nil
    end
    local on = read_on(reader, named, found, input, from.name, at)
    local kind = named.kind and reader:want(named.kind, "string", "kind", '"inner" or "left"') or "inner"
    if kind ~= "inner" and kind ~= "left" then
        reader:error("type", named.kind.value_at, ("a lookup is not %q"):format(kind), 'it is "inner" or "left"')
    end
    local unmatched = named.unmatched and reader:want(named.unmatched, "string", "unmatched", '"drop" or "quarantine"') or "drop"
    if unmatched ~= "drop" and unmatched ~= "quarantine" then
        reader:error("type", named.unmatched.value_at, ("rows that find nothing are not %q"):format(unmatched), 'unmatched is "drop" or "quarantine"')
    elseif named.unmatched and kind == "left" then
        reader:error("type", named.unmatched.at, 'of a "left" lookup rows that find nothing stay', 'leave `unmatched` out, or say kind = "inner"')
    end
    local struct = struct_of(found)
    local default = named.default and read_default(reader, named.default, found, struct)
    if named.default and kind == "inner" then
        reader:error("type", named.default.at, 'of an "inner" lookup rows that find nothing leave', 'say kind = "left"')
    end
    if not on then
        return nil
    end
    found.looked_up()
    return {
        name = item.key, from = found.name, on = on, inner = kind == "inner", quarantine = unmatched == "quarantine",
        defaults = default or json.null,
        found = json.array { { name = item.key, type = struct.text, nullable = true } },
    }, { name = item.key, type = struct, nullable = true, of = found.name }
end

-- The plan's list and the columns of what is found. `input`: the stream's columns; `from`: what it reads.
function lookups.read(project, reader, field, input, from, of)
    local plan, columns = json.array {}, {}
    local t = reader:want(field, "table", "join", '{ product = lookup "silver.product" { on = "sku" } }')
    for _, item in ipairs(t and reader:fields(t, field.value_at) or {}) do
        local other = joins.is_join(item.value)
        local node = not other and type(item.key) == "string" and reader:node(item, "join", "lookup", "interval_join")
        if not other and type(item.key) ~= "string" then
            reader:error("type", item.at, "join names what it finds", FORM)
        elseif node and from.changelog == "whole" then
            local why = "a lookup for the rows of %s, which change, is not built yet: what was found then could not be taken back"
            reader:error("not-built", item.at, why:format(from.name), "look rows up in the stream of events before it")
        elseif node then
            plan[#plan + 1], columns[#columns + 1] = read_one(project, reader, item, node, input, from, of)
        end
    end
    return plan, columns
end

-- Names of the datasets a declaration joins, for the order they are read in.
function lookups.names(body)
    local names = {}
    for _, item in pairs(type(body.join) == "table" and getmetatable(body.join) == nil and body.join or {}) do
        if words.is_node(item) and type(item.name) == "string" then
            names[#names + 1] = item.name
        end
    end
    table.sort(names)
    return names
end

return lookups
