-- `join = { product = lookup "silver.product" { on = "sku" } }`: beside each row, the row another dataset has under a key. What is found is
-- a column of structs behind the input's, which map's third argument reads.
local connectors = require "weir.internal.connectors"
local diagnostic = require "weir.internal.diagnostic"
local json = require "weir.internal.json"
local naming = require "weir.internal.naming"
local predicate = require "weir.internal.predicate"
local types = require "weir.internal.types"
local words = require "weir.internal.words"

local lookups = {}

local options = { on = true, kind = true, unmatched = true, default = true }

local function quoted(names)
    local parts = {}
    for i, name in ipairs(names) do
        parts[i] = "`" .. name .. "`"
    end
    return table.concat(parts, ", ")
end

-- The dataset rows are found in; nil after a complaint.
local function target(project, reader, node, at, of)
    local found = naming.dataset(project, reader, node.name, at)
    if not found then
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
        local left, right = predicate.column(reader, input, pair.left, pair.at, of), naming.column(found.columns, name)
        if not left or not right then
            return nil
        elseif left.type.text ~= right.type.text then
            reader:error("type", pair.at, ("`%s` is %s in %s, `%s` of %s is %s: they are never equal"):format(
                pair.left, left.type.text, of, name, found.name, right.type.text), "give one of them the other's type in a stream before")
            return nil
        end
        on[i] = require("weir.internal.joins").use(left)
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

-- What is kept of a row found, as a type: plain columns of plain names, without those that begin with _.
local function struct_of(found)
    local parts = {}
    for _, column in ipairs(found.columns) do
        if not types.is_nested(column.type) and not column.name:match "^_" and naming.is_plain(column.name) then
            parts[#parts + 1] = column.name .. ": " .. column.type.text
        end
    end
    return types.parse(("struct<%s>"):format(table.concat(parts, ", ")))
end

-- What becomes of rows that find nothing: they leave, one way or the other, or stay.
local function read_kind(reader, named)
    local kind = named.kind and reader:want(named.kind, "string", "kind", '"inner" or "left"') or "inner"
    if kind ~= "inner" and kind ~= "left" then
        reader:error("type", named.kind.value_at, ("a lookup is not %q"):format(kind), 'it is "inner" or "left"')
    end
    local unmatched = named.unmatched and reader:want(named.unmatched, "string", "unmatched", '"drop" or "quarantine"') or "drop"
    if unmatched ~= "drop" and unmatched ~= "quarantine" then
        reader:error("type", named.unmatched.value_at, ("rows that find nothing are not %q"):format(unmatched), 'unmatched is "drop" or "quarantine"')
    end
    if named.default and kind == "inner" then
        reader:error("type", named.default.at, 'of an "inner" lookup rows that find nothing leave', 'say kind = "left"')
    end
    return kind, unmatched
end

local function read_one(project, reader, item, node, input, from, of)
    local at = reader:place_of(node, item.value_at)
    local found = target(project, reader, node, at, of)
    local named = reader:options(node.body, at, options, ("lookup %q"):format(tostring(node.name)), false)
    if not found then
        return nil
    end
    local on = read_on(reader, named, found, input, from.name, at)
    local kind, unmatched = read_kind(reader, named)
    if named.unmatched and kind == "left" then
        reader:error("type", named.unmatched.at, 'of a "left" lookup rows that find nothing stay', 'leave `unmatched` out, or say kind = "inner"')
    end
    local struct = struct_of(found)
    local default = named.default and read_default(reader, named.default, found, struct)
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

-- ---------------------------------------------------------------- what a service says

local asked_options = {
    on = true, columns = true, kind = true, unmatched = true, default = true, fallback = true, batch = true, cache = true, cache_size = true,
    ordered = true, timeout = true, retries = true,
    backoff = true, rate = true, in_flight = true, breaker = true, pause = true, token = true, headers = true, ca = true,
}
local ASKED = 'join = { customer = async_lookup "https://crm/customers/{customer_id}" { columns = { tier = "string" } } }'

-- A whole number within bounds, or nil.
local function whole(reader, field, what, low, high)
    local n = field and reader:resolve(field.value, field.value_at)
    n = type(n) == "string" and tonumber(n) or n
    if field and (type(n) ~= "number" or n % 1 ~= 0 or n < low or n > high) then
        reader:error("type", field.value_at, ("%s is a whole number from %d to %d"):format(what, low, high))
        return nil
    end
    return n
end

local function asked_columns(reader, field, at)
    local parts, t = {}, reader:want(field, "table", "columns", '{ tier = "string" }')
    if not field then
        reader:error("type", at, "async_lookup says which columns an answer has", ASKED)
    end
    for _, item in ipairs(t and reader:fields(t, field.value_at) or {}) do
        local parsed, why = nil, "columns takes name = \"type\""
        if type(item.key) == "string" and not naming.is_plain(item.key) then
            why = ("an answer's columns have plain names; %q is none"):format(item.key)
        elseif type(item.key) == "string" and type(item.value) == "string" then
            parsed, why = types.parse(item.value)
        end
        if not parsed then
            reader:error("type", item.value_at, why)
            return nil
        end
        parts[#parts + 1] = item.key .. ": " .. parsed.text
    end
    return #parts > 0 and types.parse(("struct<%s>"):format(table.concat(parts, ", "))) or nil
end

-- The columns of the key: those in the URL, or `on`; and what they are called there.
local function asked_on(reader, named, url, input, of, at, place)
    local items = reader:names(named.on, "on")
    if not named.on then
        items = {}
        for name in url:gmatch "{([%w_.]+)}" do
            items[#items + 1] = { name = name, at = at }
        end
    end
    if items and #items == 0 then
        reader:error("type", at, "async_lookup asks by no column", "name it in the address, {customer_id}, or in `on`")
        return nil
    end
    local on, keys, seen = json.array {}, json.array {}, {}
    for _, item in ipairs(items or {}) do
        local column = predicate.column(reader, input, item.name, item.at, of)
        if not column then
            return nil
        elseif column.type.kind ~= "string" and column.type.kind ~= "bool" and not column.type.kind:match "^int" then
            reader:error("type", item.at, ("a service is asked by texts, whole numbers and truth values; `%s` is %s"):format(item.name, column.type.text),
                "make it one of these in a stream before")
            return nil
        elseif place and column.item and not column.item.is_join and column.item.before == place then
            reader:error("type", item.at, ("`%s` is what `%s` finds: rows are asked about by it one after the other, in order"):format(
                item.name, column.item.name), "leave `ordered = false` out, or look up in a stream that reads this one")
            return nil
        elseif not seen[item.name] then
            seen[item.name] = true
            on[#on + 1] = require("weir.internal.joins").use(column)
            keys[#on] = item.name -- the service knows it by this
        end
    end
    if #on > 0 then
        return on, keys
    end
end

-- A row written out, as JSON text.
local function row_text(reader, field, what, struct, of)
    local t = reader:want(field, "table", what, '{ tier = "none" }')
    local texts = t and struct and read_default(reader, field, { name = of }, struct)
    if not texts then
        return nil
    end
    local row = {}
    for _, f in ipairs(struct.fields) do
        local text = texts[f.name]
        if text and (types.is_numeric(f.type) or f.type.kind == "bool") and not tostring(text):match "^%-?nan" then
            row[#row + 1] = ("%s:%s"):format(json.encode(f.name), text)
        elseif text then
            row[#row + 1] = ("%s:%s"):format(json.encode(f.name), json.encode(text))
        end
    end
    return "{" .. table.concat(row, ",") .. "}"
end

local function read_asked(project, reader, item, node, input, from, _, place)
    local at = reader:place_of(node, item.value_at)
    local url = reader:resolve(node.name, at)
    local named = reader:options(node.body, at, asked_options, "async_lookup", false)
    if type(url) ~= "string" or not url:match "^https?://" then
        reader:error("type", at, "async_lookup takes the address of a service", ASKED)
        return nil
    end
    local batch = whole(reader, named.batch, "batch", 1, 1000) or 1
    if batch > 1 and url:find("{", 1, true) then
        reader:error("type", named.batch.value_at, "keys that are asked for together stand in the request's body, not in the address", 'on = "customer_id"')
    end
    local ordered = true
    if named.ordered then
        ordered = reader:want(named.ordered, "boolean", "ordered", "false") ~= false
    end
    local on, keys = asked_on(reader, named, url, input, from.name, at, not ordered and place or nil)
    local struct = asked_columns(reader, named.columns, at)
    local kind, unmatched = read_kind(reader, named)
    local secrets = connectors.secret_options(project, reader, named)
    local http = {
        url = url, keys = keys, batch = batch, token = secrets.token, ca = secrets.ca, headers = secrets.headers,
        nothing = named.default and row_text(reader, named.default, "default", struct, item.key),
        fallback = named.fallback and row_text(reader, named.fallback, "fallback", struct, item.key),
        cache_us = reader:duration(named.cache, "cache"), cache_size = whole(reader, named.cache_size, "cache_size", 1, 100000000),
        timeout_us = reader:duration(named.timeout, "timeout"), retries = whole(reader, named.retries, "retries", 0, 100),
        backoff_us = reader:duration(named.backoff, "backoff"), rate = whole(reader, named.rate, "rate", 1, 1000000),
        in_flight = whole(reader, named.in_flight, "in_flight", 1, 1000), breaker = whole(reader, named.breaker, "breaker", 0, 1000000),
        pause_us = reader:duration(named.pause, "pause"), ordered = ordered,
    }
    if not on or not struct then
        return nil
    end
    return {
        name = item.key, http = http, on = on, inner = kind == "inner", quarantine = unmatched == "quarantine",
        found = json.array { { name = item.key, type = struct.text, nullable = true } },
    }, { name = item.key, type = struct, nullable = true, of = item.key }
end

-- One of them: its entry in the plan, and the column of what is found. `left`: what rows are when they come to it; `from`: what the stream reads.
-- `place`: how many joins are before it.
function lookups.read(project, reader, item, node, left, from, of, place)
    return (node.word == "lookup" and read_one or read_asked)(project, reader, item, node, left.columns, from, of, place)
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
