-- `join = { a = …, b = … }`: lookups and joins of two streams, one after the other as they are written. What one finds is known to those behind it: by
-- `on` and the like as "a.column" (or `column`, where nothing else is called so), by functions as j.a. For C each thing found is a struct behind the
-- columns; where another join follows, its fields are columns of their own as well (`beside`), which can be keys and are kept as the row's own are.
local joins = require "weir.internal.joins"
local json = require "weir.internal.json"
local lookups = require "weir.internal.lookups"
local naming = require "weir.internal.naming"
local types = require "weir.internal.types"

local join_chain = {}

local FORM = 'join = { product = lookup "silver.product" { on = "sku" } }'
local CHANGE = { _change = true, _unavailable = true }

-- ---------------------------------------------------------------- what rows are when they come to a join

-- The columns of things found, as those behind them may call them.
local function add_found(visible, items, own)
    local by_name, order = {}, {}
    for _, item in ipairs(items) do
        for _, field in ipairs(item.fields) do
            local entry = { name = item.name .. "." .. field.name, type = field.type, nullable = true, alias = ("_%s.%s"):format(item.name, field.name),
                field = field.name, item = item }
            visible[#visible + 1] = entry
            if not by_name[field.name] then
                by_name[field.name] = {}
                order[#order + 1] = field.name
            end
            table.insert(by_name[field.name], entry)
        end
    end
    for _, name in ipairs(order) do
        local entries = by_name[name]
        local bare = {}
        for key, value in pairs(entries[1]) do
            bare[key] = value
        end
        bare.name = name
        if #entries > 1 then
            local parts = {}
            for i, entry in ipairs(entries) do
                parts[i] = ("`%s`, line %d"):format(entry.item.name, entry.item.at.line)
            end
            bare.between, bare.such = table.concat(parts, ", and of "), entries[1].name
        end
        if not naming.column(own, name) then
            visible[#visible + 1] = bare
        end
    end
end

local function now(chain)
    local visible = {}
    for i, column in ipairs(chain.columns) do
        visible[i] = column
    end
    add_found(visible, chain.items, chain.columns)
    return {
        name = chain.from.name, columns = visible, time = chain.time, behind = chain.behind,
        changelog = chain.behind and "whole" or chain.from.changelog,
        steady = not chain.behind and chain.from.steady or nil, remember = not chain.behind and chain.from.remember or nil,
    }
end

-- ---------------------------------------------------------------- one after the other

local function plain_fields(columns)
    local fields = {}
    for _, column in ipairs(columns) do
        if not column.exploded and not types.is_nested(column.type) and naming.is_plain(column.name) then
            fields[#fields + 1] = { name = column.name, type = column.type }
        end
    end
    return fields
end

local function add_join(chain, reader, project, named, item)
    local join = joins.read(project, reader, named, item, now(chain), chain.of, #chain.joins == 0)
    if not join then
        return
    end
    join.fields = join.alone and {} or plain_fields(join.right.columns)
    local count = #chain.columns
    chain.columns = joins.entered(join, chain.columns)
    for i = count + 1, #chain.columns do
        chain.columns[i].by = join
    end
    chain.time = not join.plan.bounds and chain.time or {}
    chain.behind = join.changes and ("the %s `%s`"):format(join.word, join.name) or chain.behind
    chain.changes = chain.changes or join.changes
    chain.bounds = chain.bounds or join.plan.bounds ~= nil
    chain.joins[#chain.joins + 1] = join
    chain.items[#chain.items + 1] = join
    for _, late in ipairs(join.late_sets) do
        chain.late_sets[#chain.late_sets + 1] = late
    end
end

-- Whether a join of two streams comes behind the i-th.
local function joined_behind(items, i)
    for k = i + 1, #items do
        if joins.is_join(items[k].value) then
            return true
        end
    end
    return false
end

local function changes_behind(items, i)
    for k = i + 1, #items do
        if joins.is_join(items[k].value) and items[k].value.word == "regular_join" then
            return true
        end
    end
    return false
end

-- What is asked of a service changes how rows come to what is behind it, which rows that change may not stand.
local function check_asking(chain, reader, named, item, node, asks)
    local options = type(node.body) == "table" and node.body or {}
    local unordered = options.ordered == false
    local beside = #chain.joins > 0 or asks.exploded or asks.joined
    if naming.column(chain.columns, "_change") and (unordered or beside) then
        reader:error("not-built", item.at, ("an async_lookup %s for the changes of %s is not built yet"):format(
            unordered and "out of order" or "beside explode or a join", chain.from.name), "look up in a stream that reads this one")
    elseif unordered and named.key then
        reader:error("type", item.at, "of the rows of a key the newest counts: they are not looked up out of order",
            "leave `ordered = false` out, or give the key to a stream that reads this one")
    else
        return true
    end
end

local function add_lookup(chain, reader, project, items, i, named, exploded)
    local item = items[i]
    if type(item.key) ~= "string" then
        reader:error("type", item.at, "join names what it finds", FORM)
        return
    end
    local node = reader:node(item, "join", "lookup", "async_lookup", "interval_join", "temporal_join", "window_join", "regular_join")
    local from = chain.from
    local changed = from.changelog == "whole" and from.name or chain.behind
        or naming.column(chain.columns, "_change") and changes_behind(items, i) and from.name
    if not node then
        return
    elseif changed then
        local why = "a lookup for the rows of %s, which change, is not built yet: what was found then could not be taken back"
        reader:error("not-built", item.at, why:format(changed), chain.behind and "write it before the regular_join"
            or "look rows up in the stream of events before it")
        return
    elseif node.word == "async_lookup"
        and not check_asking(chain, reader, named, item, node, { exploded = exploded, joined = joined_behind(items, i) }) then
        return
    end
    local plan, column = lookups.read(project, reader, item, node, now(chain), from, chain.of, #chain.joins)
    if plan then
        chain.items[#chain.items + 1] = {
            name = item.key, at = item.at, plan = plan, column = column, needs = {}, fields = column.type.fields, before = #chain.joins,
            needs_all = node.word == "async_lookup" or nil, -- an answer is judged as a whole
        }
    end
end

-- `left`: { columns, time }, of what comes to the joins; `from`: what the stream reads.
function join_chain.read(project, reader, named, left, from, of, exploded)
    local chain = {
        of = of, from = from, columns = left.columns, time = left.time, items = {}, joins = {}, late_sets = {},
        lookups = json.array {}, entered = #left.columns,
    }
    local t = named.join and reader:want(named.join, "table", "join", FORM)
    local items = t and reader:fields(t, named.join.value_at) or {}
    for i, item in ipairs(items) do
        if joins.is_join(item.value) then
            add_join(chain, reader, project, named, item)
        else
            add_lookup(chain, reader, project, items, i, named, exploded)
        end
    end
    return chain
end

-- ---------------------------------------------------------------- where what is found stands

-- Whether others behind an item need its columns.
local function is_carried(chain, i)
    if chain.items[i].used then
        return true
    end
    for k = i + 1, #chain.items do
        if chain.items[k].is_join then
            return true
        end
    end
    return false
end

-- A lookup is found by all its columns; others keep those that something reads.
local function prune(item)
    local parts = {}
    for _, field in ipairs(item.column.type.fields) do
        if item.needs_all or item.needs[field.name] then
            parts[#parts + 1] = field.name .. ": " .. field.type.text
        end
    end
    if #parts == 0 then
        local first = item.column.type.fields[1]
        parts[1] = first.name .. ": " .. first.type.text
    end
    local struct = types.parse(("struct<%s>"):format(table.concat(parts, ", ")))
    if item.plan.defaults and item.plan.defaults ~= json.null then
        for name in pairs(item.plan.defaults) do
            item.plan.defaults[name] = (item.needs_all or item.needs[name]) and item.plan.defaults[name] or nil
        end
    end
    item.plan.found[1].type = struct.text
    item.kept = struct
end

-- Appends the columns that carry what is found on, and says which lookups stand among the joins. `functions`: { f, place of j } of all that read j.
function join_chain.carry(reader, chain, functions, copies)
    for _, item in ipairs(chain.items) do
        for _, each in ipairs(functions) do
            joins.note_reads(item, each[1], each[2])
        end
    end
    for _, copy in ipairs(copies) do
        for _, column in ipairs(copy.join and is_carried(chain, 1) and copy.join.right.columns or {}) do
            copy.join.needs[column.name] = copy.join.needs[column.name] or not column.name:match "^_" and not types.is_nested(column.type) or nil
        end
    end
    for i, item in ipairs(chain.items) do
        item.carried = is_carried(chain, i)
        item.inside = item.is_join or item.carried
        if item.carried then
            local fields
            if item.is_join then
                fields = joins.struct(reader, item)
            else
                prune(item)
                fields = item.kept.fields
            end
            item.plan.beside = #chain.columns
            local bool = types.of "bool"
            local function add(name, type)
                chain.columns[#chain.columns + 1] = { name = ("_%s.%s"):format(item.name, name), type = type, nullable = true, made = true, by = item }
            end
            add("", bool)
            for _, field in ipairs(fields or {}) do
                add(field.name, field.type)
            end
        end
    end
end

-- What j has: of map all, of the condition of a join that and what is before it.
function join_chain.joined(chain, of)
    local list, reached = {}, false
    for _, item in ipairs(chain.items) do
        if item.inside and not reached then
            list[#list + 1] = item.is_join and (item == of and item.full or item.met) or item.column
        end
        reached = reached or item == of and of ~= nil
    end
    for _, item in ipairs(chain.items) do
        if not item.inside and not of then
            list[#list + 1] = item.column
        end
    end
    return list
end

local function is_before(chain, a, b)
    for _, item in ipairs(chain.items) do
        if item == a or item == b then
            return item ~= b
        end
    end
end

-- When every function is known: the structs behind the columns, and what is kept of left rows. Arguments as of joins.keep_left.
function join_chain.finish(reader, chain, passes, reads)
    local fields = {}
    for _, item in ipairs(chain.items) do
        if item.inside then
            item.plan.column = #chain.columns + #fields
            local struct = item.kept
            if item.is_join then
                local kept, text = joins.struct(reader, item), {}
                if not kept then
                    return nil
                end
                for i, column in ipairs(kept) do
                    text[i] = column.name .. ": " .. column.type.text
                end
                struct = types.of(("struct<%s>"):format(table.concat(text, ", ")))
                item.full.type, item.met.type = struct, struct
            else
                item.column.type = struct
            end
            fields[#fields + 1] = { name = "_join_" .. item.name, type = struct, nullable = true }
        end
        if not item.is_join then
            item.plan.before = item.before
            chain.lookups[#chain.lookups + 1] = item.plan
        end
    end
    local plans = json.array {}
    for i, join in ipairs(chain.joins) do
        local columns = {}
        for k, column in ipairs(chain.columns) do
            if not CHANGE[column.name] or k <= chain.entered and not column.made then
                columns[#columns + 1] = (not column.by or is_before(chain, column.by, join)) and column or nil
            end
        end
        local read = reads
        for _, column in ipairs(columns) do
            if column.by and read then
                read[column.name] = true
            end
        end
        joins.keep_left(join, columns, passes, read)
        plans[i] = join.plan
    end
    return fields, plans
end

return join_chain
