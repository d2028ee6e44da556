-- join = { a = interval_join "silver.auction" { on = …, between = …, kind = … } }, and the other joins of two streams: what they mean for a stream.
-- Row functions read the right row as j.a; in C it is a struct behind the left columns, of those columns of the right dataset that some function
-- reads or copies. What is special to a kind is in join_kinds.lua.
local diagnostic = require "weir.internal.diagnostic"
local join_kinds = require "weir.internal.join_kinds"
local json = require "weir.internal.json"
local naming = require "weir.internal.naming"
local predicate = require "weir.internal.predicate"
local syntax = require "weir.internal.syntax"
local types = require "weir.internal.types"
local words = require "weir.internal.words"

local joins = {}

-- `join` has lookups as well (lookups.lua).
function joins.is_join(x)
    return words.is_node(x) and join_kinds[x.word] ~= nil and not x.open
end

function joins.check_late(reader, named)
    local t = named.join and named.join.value
    local any = false
    for _, x in pairs(type(t) == "table" and getmetatable(t) == nil and t or {}) do
        any = any or joins.is_join(x)
    end
    if named.late and not any then
        reader:error("type", named.late.at, "late rows of a stream are those that come too late for its join",
            join_kinds.interval_join.example)
    end
end

-- `on`: a name, a list, or { left = "right" }.
local function read_on(reader, field, left, right, at, default)
    local x = field and reader:resolve(field.value, field.value_at)
    local pairs_of = {}
    if not field and default then
        for i, name in ipairs(default) do
            pairs_of[i] = { name, name, at }
        end
        field = { value_at = at }
    elseif not field then
        reader:error("type", at, "a join says by which columns", 'on = "order_id", or on = { order_id = "id" }')
        return nil
    elseif type(x) == "string" then
        pairs_of[1] = { x, x, field.value_at }
    elseif type(x) == "table" and getmetatable(x) == nil then
        for _, item in ipairs(reader:fields(x, field.value_at)) do
            if type(item.value) ~= "string" then
                reader:error("type", item.value_at, "on takes names of columns", 'on = { order_id = "id" }')
                return nil
            end
            pairs_of[#pairs_of + 1] = { type(item.key) == "string" and item.key or item.value, item.value, item.value_at }
        end
    end
    if #pairs_of == 0 then
        reader:error("type", field.value_at, "on takes a name, a list of names, or { left = \"right\" } where they differ")
        return nil
    end
    local left_on, right_on, known = json.array {}, json.array {}, true
    for i, pair in ipairs(pairs_of) do
        local a = predicate.column(reader, left.columns, pair[1], pair[3], left.name)
        local b = predicate.column(reader, right.columns, pair[2], pair[3], right.name)
        if a and b then
            if types.is_nested(a.type) or types.is_float(a.type) then
                reader:error("type", pair[3], ("a key is no column of type %s"):format(a.type.text))
            elseif a.type.text ~= b.type.text then
                reader:error("type", pair[3], ("`%s` of %s is %s and `%s` of %s is %s: keys are equal in type as well"):format(
                    pair[1], left.name, a.type.text, pair[2], right.name, b.type.text), "retype one of them in a stream before: columns = { … }")
            end
        end
        left_on[i], right_on[i] = pair[1], pair[2]
        known = known and a ~= nil and b ~= nil
    end
    if not known then
        return nil
    end
    return left_on, right_on
end

local function late_name(reader, field, of, list)
    local name = reader:want(field, "string", "late", "a dataset's name")
    if name and require("weir.internal.datasets").check_name(reader, { name = name }, field.value_at) then
        list[#list + 1] = { name = name, at = field.value_at, of = of }
        return name
    end
    return nil
end

local function read_kind(reader, field, word, kinds)
    local said = reader:want(field, "string", "kind", '"' .. table.concat(kinds, '", "') .. '"') or "inner"
    for _, name in ipairs(kinds) do
        if name == said then
            return said
        end
    end
    reader:error("type", field.value_at, ("no kind of %s is called %q"):format(#kinds > 2 and "join" or word, said),
        diagnostic.did_you_mean(said, kinds) or table.concat(kinds, ", "))
    return "inner"
end

-- The join of a stream, or nil. `left`: { name, columns, time }.
function joins.read(project, reader, named, left, of)
    local t = named.join.value
    local items = {}
    for _, item in ipairs(type(t) == "table" and getmetatable(t) == nil and reader:fields(t, named.join.value_at) or {}) do
        if joins.is_join(item.value) then
            items[#items + 1] = item
        end
    end
    if #items == 0 then
        return nil
    elseif #items > 1 then
        reader:error("not-built", items[2].at, "a second join of two streams in one stream is not built yet", "join the rest in a stream that reads this one")
        return nil
    end
    local item = items[1]
    local node = item.value
    local kind = join_kinds[node.word]
    if type(item.key) ~= "string" or not naming.is_plain(item.key) then
        reader:error("type", item.at, "a join has the name by which row functions know it", kind.example)
        return nil
    elseif type(node.name) ~= "string" then
        reader:error("type", item.value_at, ("%s takes a dataset's name"):format(node.word), kind.example)
        return nil
    end
    local at = reader:place_of(node, item.value_at)
    local right = naming.dataset(project, reader, node.name, at)
    if not right or not right.columns then
        return nil -- broken: said there
    end
    local given = reader:options(node.body, at, kind.options, ("%s %q"):format(node.word, node.name), false)
    local plan = { name = item.key, what = kind.what, from = node.name, low_us = 0, high_us = 0 }
    local late_sets = {}
    plan.kind = read_kind(reader, given.kind, node.word, kind.kinds)
    plan.left_on, plan.right_on = read_on(reader, given.on, left, right, at, kind.default_on and kind.default_on(right))
    kind.read(reader, given, { left = left, right = right }, plan, at)
    plan.lateness_us = reader:duration(given.allowed_lateness, "allowed_lateness") or plan.lateness_us or 0
    plan.late_left = late_name(reader, named.late, of, late_sets)
    plan.late_right = late_name(reader, given.late, of, late_sets)
    if not plan.left_on then
        return nil
    end
    local alone = plan.kind == "anti" or plan.kind == "semi"
    -- What `j` has of it: where the pair is judged all columns; in map none, when no pair leaves. Both become what is kept (finish).
    local fields = {}
    for _, column in ipairs(right.columns) do
        fields[#fields + 1] = not column.exploded and { name = column.name, type = column.type } or nil
    end
    local full = { name = item.key, of = right.name, type = { kind = "struct", text = "", fields = fields } }
    return {
        name = item.key, right = right, plan = plan, at = at, where = reader:func(given.where, "where"), late_sets = late_sets,
        full = full, met = alone and { name = item.key, of = right.name, type = { kind = "struct", text = "", fields = {} } } or full,
        of = right.name, alone = alone, changes = kind.changes, needs = {},
    }
end

-- The columns of what the join makes: the left ones, any of which may be null where right rows leave alone, and those it adds.
function joins.entered(join, columns)
    local outer = join.plan.kind == "right" or join.plan.kind == "full"
    local list = {}
    for i, column in ipairs(columns) do
        list[i] = outer and { name = column.name, type = column.type, nullable = true, exploded = column.exploded } or column
        if join.plan.change and (column.name == "_change" or column.name == "_unavailable") then -- of what leaves, the join says it
            list[i] = { name = column.name, type = column.type, nullable = column.nullable, made = true }
            join.plan.change = column.name == "_change" and i - 1 or join.plan.change
        end
    end
    if join.plan.change == true then
        join.plan.change = #list
        list[#list + 1] = { name = "_change", type = types.of "int8", nullable = false, made = true }
    end
    if join.plan.bounds then
        join.plan.bounds = #list
        for _, name in ipairs { "window_start", "window_end" } do
            list[#list + 1] = { name = name, type = types.of "timestamp", nullable = false, made = true }
        end
    end
    return list
end

-- ---------------------------------------------------------------- what functions read

-- copy(out, j.name), as a statement of its own at the top of map: true for these. C passes the columns on.
local function is_copy(statement)
    local call = statement.tag == "CallStat" and statement.call
    return call and call.tag == "Call" and call.func.tag == "Name" and call.func.scope == "global" and call.func.name == "copy" and call
end

-- Whether map copies the joined row; *only*: it does nothing else.
function joins.copies(reader, join, map)
    local node = map and map.node
    local copies, others = false, false
    local top = {}
    for _, statement in ipairs(node and node.body or {}) do
        local call = is_copy(statement)
        if call then
            top[call] = true
            local out, row = call.args[1], call.args[2]
            local params = node.params
            local right = #call.args == 2 and out.tag == "Name" and params[2] and out.name == params[2].name
                and row.tag == "Index" and row.object.tag == "Name" and params[3] and row.object.name == params[3].name
                and row.key.tag == "String" and join and row.key.value == join.name and not join.alone
            if not right then
                reader:error("type", syntax.place(map.info, call), "copy passes a joined row on", join and not join.alone
                    and ("copy(%s, %s.%s)"):format(params[2] and params[2].name or "out", params[3] and params[3].name or "j", join.name) or nil)
            end
            copies = true
        else
            others = true
        end
    end
    syntax.walk(node and node.body or {}, function(n)
        if n.tag == "Call" and n.func.tag == "Name" and n.func.scope == "global" and n.func.name == "copy" and not top[n] then
            reader:error("type", syntax.place(map.info, n), "copy is a statement of its own, outside of if and loops", "copy(out, j.name)")
        end
    end)
    return copies, copies and not others
end

-- Notes which columns of the right row a function reads: all of them when the row is handed on.
function joins.note_reads(join, f, place)
    local node = f.node
    local param = node and node.params[place]
    if not node then
        join.needs_all = true
    end
    if not param then
        return
    end
    local inside = {}
    local function joined(n)
        return n.tag == "Index" and n.object.tag == "Name" and n.object.name == param.name and n.key.tag == "String" and n.key.value == join.name
    end
    local function judged(n) -- only whether it is there
        if n.tag == "Paren" then
            n = n.expr
        end
        inside[n] = true
    end
    syntax.walk(node.body, function(n)
        if n.tag == "Index" and joined(n.object) and n.key.tag == "String" then
            join.needs[n.key.value] = true
            inside[n.object] = true
        elseif n.tag == "Binop" and (n.op == "==" or n.op == "~=") and (n.left.tag == "Nil" or n.right.tag == "Nil") then
            judged(n.left)
            judged(n.right)
        elseif n.tag == "Binop" and n.op == "and" then
            judged(n.left)
        elseif n.tag == "Unop" and n.op == "not" then
            judged(n.operand)
        elseif n.tag == "If" then
            for _, clause in ipairs(n.clauses) do
                judged(clause.cond)
            end
        elseif n.tag == "CallStat" and is_copy(n) then
            judged(n.call.args[2] or n)
        end
    end)
    syntax.walk(node.body, function(n)
        if joined(n) then
            inside[n.object] = true
            join.needs_all = join.needs_all or not inside[n]
        end
    end)
    syntax.walk(node.body, function(n)
        if n.tag == "Name" and n.name == param.name and not inside[n] and n.scope ~= "global" then
            join.needs_all = true
        end
    end)
end

-- Columns of the right row that leave because of copy: those the left side does not have.
function joins.copied(join, out)
    local list = {}
    for _, column in ipairs(join.right.columns) do
        if not column.name:match "^_" and not naming.column(out, column.name) then
            join.needs[column.name] = true
            list[#list + 1] = column
        end
    end
    return list
end

-- When every function is known: the struct, and what is kept of left rows. `input`: the left columns; `passes`: what of them leaves, by name;
-- `reads`: what functions read of them (nil: anything).
function joins.finish(reader, join, input, passes, reads)
    local plan, fields = join.plan, {}
    join.place = {}
    for _, column in ipairs(join.right.columns) do
        if not column.exploded and (join.needs[column.name] or join.needs_all and not column.name:match "^_" and not types.is_nested(column.type)) then
            if not naming.is_plain(column.name) then
                reader:error("type", join.at, ("a join keeps columns with plain names; %s has `%s`"):format(join.of, column.name))
                return nil
            end
            join.place[column.name] = #fields
            fields[#fields + 1] = column
        end
    end
    if #fields == 0 then -- a struct has some
        fields[1] = naming.column(join.right.columns, plan.right_on[1])
        join.place[fields[1].name] = 0
    end
    local text = {}
    for i, column in ipairs(fields) do
        text[i] = column.name .. ": " .. column.type.text
    end
    local struct = types.of(("struct<%s>"):format(table.concat(text, ", ")))
    join.full.type, join.met.type = struct, struct
    plan.column = #input
    plan.left = json.array {}
    for _, column in ipairs(input) do
        local read = not reads or reads[column.name]
        local kept = passes[column.name] or read or not column.name:match "^_" and not types.is_nested(column.type)
        if not column.exploded and not column.made and kept then
            plan.left[#plan.left + 1] = column.name
        end
    end
    return { name = "_join_" .. join.name, type = struct, nullable = true }
end

return joins
