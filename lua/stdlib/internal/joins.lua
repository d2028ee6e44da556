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

-- The name under which C knows a left column: those of rows joined before are columns of their own (join_chain.lua).
function joins.use(column)
    if column.alias then
        column.item.needs[column.field] = true
        column.item.used = true
    end
    return column.alias or column.name
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
            pair[1] = joins.use(a)
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

-- One join of a stream, or nil. `left`: { name, columns, time, … }, what rows are when they come to it; `first`: no other comes before it.
function joins.read(project, reader, named, item, left, of, first)
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
    plan.late_left = late_name(reader, named.late, of, first and late_sets or {})
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
        of = right.name, alone = alone, changes = kind.changes, needs = {}, word = node.word, is_join = true,
    }
end

-- The columns of what the join makes: the left ones, any of which may be null where right rows leave alone, and those it adds.
function joins.entered(join, columns)
    local outer = join.plan.kind == "right" or join.plan.kind == "full"
    local list = {}
    for i, column in ipairs(columns) do
        list[i] = column
        if outer then
            list[i] = { name = column.name, type = column.type, nullable = true, exploded = column.exploded, made = column.made, by = column.by }
        end
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
            list[#list + 1] = { name = name, type = types.of "timestamp", nullable = outer, made = true }
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

-- The joins whose rows map copies, { join, at } in order; *only*: it does nothing else. `items`: join_chain's.
function joins.copies(reader, items, map)
    local node = map and map.node
    local copied, others = {}, false
    local top, example = {}, nil
    for _, item in ipairs(items) do
        example = example or item.is_join and not item.alone and item or nil
    end
    for _, statement in ipairs(node and node.body or {}) do
        local call = is_copy(statement)
        if call then
            top[call] = true
            local out, row = call.args[1], call.args[2]
            local params = node.params
            local form = #call.args == 2 and out.tag == "Name" and params[2] and out.name == params[2].name
                and row.tag == "Index" and row.object.tag == "Name" and params[3] and row.object.name == params[3].name and row.key.tag == "String"
            local join
            for _, item in ipairs(items) do
                join = form and item.name == row.key.value and item.is_join and not item.alone and item or join
            end
            if not join then
                reader:error("type", syntax.place(map.info, call), "copy passes a joined row on", example
                    and ("copy(%s, %s.%s)"):format(params[2] and params[2].name or "out", params[3] and params[3].name or "j", example.name) or nil)
            end
            copied[#copied + 1] = { join = join, at = syntax.place(map.info, call) }
        else
            others = true
        end
    end
    syntax.walk(node and node.body or {}, function(n)
        if n.tag == "Call" and n.func.tag == "Name" and n.func.scope == "global" and n.func.name == "copy" and not top[n] then
            reader:error("type", syntax.place(map.info, n), "copy is a statement of its own, outside of if and loops", "copy(out, j.name)")
        end
    end)
    return copied, #copied > 0 and not others
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
            join.needs_all = join.needs_all or not inside[n]
        end
        if n.tag == "Index" and n.object.tag == "Name" and n.object.name == param.name and n.key.tag == "String" then
            inside[n.object] = true -- of this or of another name
        end
    end)
    syntax.walk(node.body, function(n)
        if n.tag == "Name" and n.name == param.name and not inside[n] and n.scope ~= "global" then
            join.needs_all = true
        end
    end)
end

-- Columns of the right row that leave because of copy: those the left side does not have.
function joins.copied(reader, copy, out)
    local list, join = {}, copy.join
    for _, column in ipairs(join.right.columns) do
        local other = naming.column(out, column.name)
        if not column.name:match "^_" and not other then
            join.needs[column.name] = true
            list[#list + 1] = { name = column.name, type = column.type, nullable = true, copied = join }
        elseif other and other.copied and other.copied ~= join then
            reader:error("repeated-name", copy.at, ("`%s` leaves twice: %s has it, and %s, which is copied before"):format(
                column.name, join.name, other.copied.name), ("assign what is needed of %s: out.… = j.%s.…"):format(join.name, join.name))
        end
    end
    return list
end

-- The struct of what is kept of the right row: { fields }, their places in join.place; nil after a complaint.
function joins.struct(reader, join)
    local fields = {}
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
        fields[1] = naming.column(join.right.columns, join.plan.right_on[1])
        join.place[fields[1].name] = 0
    end
    return fields
end

-- What is kept of left rows when they come to a join. `passes`: what of them leaves, by name; `reads`: what is read of them (nil: anything).
function joins.keep_left(join, columns, passes, reads)
    join.plan.left = json.array {}
    for _, column in ipairs(columns) do
        local kept = passes[column.name] or not reads or reads[column.name] or not column.name:match "^_" and not types.is_nested(column.type)
        if not column.exploded and kept then
            join.plan.left[#join.plan.left + 1] = column.name
        end
    end
end

return joins
