-- Patterns: sequences of rows of a key in order of event time. A pattern is a rule whose state are its partial matches and whose function is
-- that of match.lua; here its steps are read and checked, and what must be kept of earlier rows is found in its functions.
local diagnostic = require "weir.internal.diagnostic"
local function_check = require "weir.internal.function_check"
local json = require "weir.internal.json"
local match = require "weir.internal.match"
local naming = require "weir.internal.naming"
local predicate = require "weir.internal.predicate"
local rules = require "weir.internal.rules"
local syntax = require "weir.internal.syntax"
local time = require "weir.internal.time"
local types = require "weir.internal.types"

local patterns = {}

local options = {
    description = true, owner = true, on = true, key = true, within = true, sequence = true, skip = true, emits = true, emit = true, params = true,
    where = true, time = true, expectations = true, version = true, quarantine = true, into = true,
}
local step_options = { where = true, contiguity = true, consecutive = true, absent = true }
local closeness = { "relaxed", "strict", "any" }
local reserved = { key = true, started = true, ended = true }
local SPAN = 128
local STEPS_MAX, TIMES_MAX = 32, match.ROWS_MAX
local QUANTITIES = '3, "2..4", "3+", "+", "*" or "?"'

-- ---------------------------------------------------------------- steps

local function read_quantity(reader, x, at)
    local low, high
    if type(x) == "number" then
        low, high = x, x
    elseif x == "+" or x == "*" then
        low, high = x == "+" and 1 or 0, math.huge
    elseif x == "?" then
        low, high = 0, 1
    elseif type(x) == "string" then
        low, high = x:match "^(%d+)%.%.(%d+)$"
        low, high = tonumber(low or x:match "^(%d+)%+$"), tonumber(high) or math.huge
    end
    if not low or low % 1 ~= 0 or low < 0 or high < math.max(low, 1) or low > TIMES_MAX or (high > TIMES_MAX and high ~= math.huge) then
        reader:error("type", at, ("how often a step comes is %s, not %s"):format(QUANTITIES, reader.described(x)))
        return 1, 1
    end
    return low, high
end

local function read_step_options(reader, t, at, step, ctx)
    local named = reader:options(t, at, step_options, ("step %q"):format(step.name), false)
    local contiguity = reader:want(named.contiguity, "string", "contiguity", '"relaxed", "strict" or "any"') or "relaxed"
    if contiguity ~= "relaxed" and contiguity ~= "strict" and contiguity ~= "any" then
        reader:error("type", named.contiguity.value_at, ("no contiguity is called %q"):format(contiguity),
            diagnostic.did_you_mean(contiguity, closeness) or 'it is "relaxed", "strict" or "any"')
    end
    step.contiguity, step.strict, step.any = contiguity, contiguity == "strict", contiguity == "any"
    step.consecutive = reader:want(named.consecutive, "boolean", "consecutive", "true or false") or false
    step.absent = reader:want(named.absent, "boolean", "absent", "true or false") or false
    local f = reader:func(named.where, "where")
    if f then
        function_check.row_function(reader, f, { of = ctx.of, from = ctx.from, columns = ctx.input, predicate = true })
        step.where = { fn = f.fn, sees = f.node == nil or f.node.params[2] ~= nil, written = f }
    end
    if step.absent and (step.any or step.consecutive) then
        reader:error("type", (named.consecutive or named.contiguity).at, "a step that must not come is \"relaxed\" or \"strict\"")
    end
end

local function read_step(reader, field, ctx)
    local node = reader:node(field, "sequence", "step")
    if not node then
        return nil
    end
    local args, at = node.args, field.value_at
    local step = { name = args[1], at = at, min = 1, max = 1, contiguity = "relaxed", guards = {} }
    local quantified = args.n >= 2 and (type(args[2]) ~= "table" or getmetatable(args[2]) ~= nil)
    if type(step.name) ~= "string" or not step.name:match "^%a[%w_]*$" or reserved[step.name] then
        reader:error("name", reader:argument_at(at, 1), "a step has a name of letters and digits, and not key, started or ended",
            'step("probe", 3, { where = function(e) … end })')
        return nil
    elseif quantified then
        step.min, step.max = read_quantity(reader, args[2], reader:argument_at(at, 2))
    end
    local last = quantified and 3 or 2
    local t = args[last]
    if type(t) == "table" and getmetatable(t) == nil then
        read_step_options(reader, t, reader:argument_at(at, last), step, ctx)
    end
    if args.n > last or t ~= nil and (type(t) ~= "table" or getmetatable(t) ~= nil) then
        reader:error("type", at, "step takes a name, how often it comes, and a table", 'step("probe", 3, { where = function(e) … end })')
    elseif step.absent and quantified then
        reader:error("type", reader:argument_at(at, 2), "a step that must not come has no number")
    end
    return step
end

-- places: the steps that take rows, each with those that must not come behind it.
local function arrange(reader, steps, within, at)
    local places = {}
    for i, step in ipairs(steps) do
        local before, after = steps[i - 1], steps[i + 1]
        if not step.absent then
            places[#places + 1] = step
        elseif #places == 0 then
            reader:error("type", step.at, ("nothing comes before the step `%s` that must not come"):format(step.name),
                "begin with a row: what must not come before it is a rule's business")
            return nil
        elseif before.min == 0 or after and not after.absent and after.min == 0 or before.absent and #places > 0 and places[#places].min == 0 then
            reader:error("type", step.at, ("the step `%s`, which must not come, stands beside one that may be left out"):format(step.name),
                "let it stand between steps that do come")
            return nil
        else
            table.insert(places[#places].guards, step)
        end
    end
    local any = false
    for _, step in ipairs(places) do
        any = any or step.min > 0
    end
    if #places > 0 and not any then
        reader:error("type", at, "every step may be left out; a match has at least one row", "say \"+\" where one says \"*\"")
        return nil
    elseif places[1] and (places[1].contiguity ~= "relaxed") then
        reader:error("type", places[1].at, ("nothing comes before the first step `%s` it could follow"):format(places[1].name), "leave contiguity out")
        return nil
    elseif #steps > 0 and steps[#steps].absent and not within then
        reader:error("type", steps[#steps].at, ("the step `%s` must not come: until when?"):format(steps[#steps].name), 'within = "10m"')
        return nil
    end
    return places, #steps > 0 and steps[#steps].absent or false
end

local function read_sequence(reader, field, ctx, at)
    if not field then
        reader:error("type", at, ("pattern %q has no sequence"):format(ctx.of), 'sequence = { step("probe", 3, { where = function(e) … end }) }')
        return nil
    end
    local t = reader:want(field, "table", "sequence", "a list of steps")
    local steps, seen, whole = {}, {}, t ~= nil
    for _, item in ipairs(t and reader:fields(t, field.value_at) or {}) do
        local step = type(item.key) == "number" and read_step(reader, item, ctx)
        if type(item.key) ~= "number" then
            reader:error("unknown-option", item.at, 'sequence is a list: { step("probe", …), step("spend", …) }')
        elseif step and seen[step.name] then
            reader:error("repeated-name", step.at, ("two steps are called `%s`"):format(step.name))
        elseif step then
            seen[step.name] = true
            steps[#steps + 1] = step
        end
        whole = whole and step
    end
    if whole and (#steps == 0 or #steps > STEPS_MAX) then
        reader:error("type", field.value_at, ("a sequence has 1 to %d steps"):format(STEPS_MAX))
        return nil
    end
    return whole and steps
end

local function read_skip(reader, field, steps)
    local x = field and reader:resolve(field.value, field.value_at)
    if x == nil or x == "past_last" or x == "next" or x == "none" then
        return { how = x or "past_last" }
    elseif type(x) == "table" and getmetatable(x) == nil then
        local how = x.to_first and "to_first" or x.to_last and "to_last"
        for _, step in ipairs(how and steps or {}) do
            if step.name == x[how] and not step.absent then
                return { how = how, step = step.name }
            end
        end
        if how then
            reader:error("unknown-name", field.value_at, ("no step that takes rows is called `%s`"):format(tostring(x[how])))
            return nil
        end
    end
    reader:error("type", field.value_at, "skip says where the next match may begin",
        '"past_last" (the default), "next", "none", { to_first = "probe" } or { to_last = "probe" }')
    return nil
end

-- ---------------------------------------------------------------- functions that see the match

-- What a function says of the match (its n-th parameter), checked; the columns it names of rows go to `named`. Handed on whole: all = true.
local function check_match(reader, f, n, steps, ctx, named)
    local node = f.node
    local param = node and node.params[n]
    if not param then
        named.all = named.all or node == nil
        return
    end
    local known = { "key", "started", "ended" }
    for _, step in ipairs(steps) do
        if not step.absent then
            known[#known + 1] = step.name
        end
    end
    local function is_match(x)
        return x.tag == "Name" and x.name == param.name and (x.scope == "local" or x.scope == "upvalue")
    end
    local function step_of(x) -- m.probe or m.probe[1]
        if x.tag ~= "Index" then
            return nil
        elseif is_match(x.object) then
            return x.key.tag == "String" and not reserved[x.key.value] and x.key.value or nil
        end
        return x.key.tag ~= "String" and x.object.tag == "Index" and is_match(x.object.object) and step_of(x.object) or nil
    end
    local function hand_on(x)
        named.all = named.all or is_match(x) or step_of(x) ~= nil and x.tag == "Index"
    end
    syntax.walk(node.body, function(x)
        if x.tag == "Index" and x.key.tag == "String" then
            local name = x.key.value
            if is_match(x.object) then
                local found = false
                for _, each in ipairs(known) do
                    found = found or each == name
                end
                if not found then
                    reader:error("unknown-name", syntax.place(f.info, x.key), ("no step that takes rows is called `%s`"):format(name),
                        diagnostic.did_you_mean(name, known) or "there is: " .. table.concat(known, ", "))
                end
            elseif step_of(x.object) and not naming.column(ctx.input, name) then
                predicate.column(reader, ctx.input, name, syntax.place(f.info, x.key), ctx.from)
            else
                named[name] = true
            end
        elseif (x.tag == "Call" and not (x.func.tag == "Name" and x.func.scope == "global" and x.func.name == "ipairs")) or x.tag == "MethodCall" then
            for _, argument in ipairs(x.args) do
                hand_on(argument)
            end
        end
        return true
    end)
end

-- Emits without a function: columns by name, of the key, the last row, or when the match began and ended.
local function by_name(reader, ctx, named)
    local gives = {}
    for _, emit in ipairs(ctx.emits) do
        for _, column in ipairs(emit.columns) do
            local of_key = naming.column(ctx.key_columns, column.name)
            local of_row = naming.column(ctx.input, column.name)
            local kind = of_key and "key" or of_row and "row" or (column.name == "started" or column.name == "ended") and column.name
            local from = of_key or of_row or kind and { type = types.of "timestamp" }
            if not kind then
                reader:error("type", column.at, ("nothing gives `%s`: it is no column of %s, nor `started` or `ended`"):format(column.name, ctx.from),
                    "say emit = function(m, p, emit) … end")
            elseif from.type.text ~= column.type.text and not (types.is_numeric(from.type) and types.is_numeric(column.type)) then
                reader:error("type", column.at, ("`%s` is %s in %s, not %s"):format(column.name, from.type.text, ctx.from, column.type.text),
                    "say emit = function(m, p, emit) … end")
            end
            gives[#gives + 1] = { emit = emit.name, name = column.name, kind = kind }
            named[column.name] = named[column.name] or ctx.tail and kind == "row" or nil
        end
    end
    local one = #ctx.key_columns == 1
    local function given(self, give, key, e)
        if give.kind == "key" then
            if one then
                return key
            end
            return key[give.name]
        elseif give.kind == "row" then
            return self:last_row(e)[give.name]
        end
        return time.Timestamp(give.kind == "started" and self.told.since_us or self.told.ended_us)
    end
    return function(self, key, e)
        for _, emit in ipairs(ctx.emits) do
            local t = {}
            for _, give in ipairs(gives) do
                if give.emit == emit.name then
                    t[give.name] = given(self, give, key, e)
                end
            end
            self.send(emit.name, t)
        end
    end
end

local function by_function(reader, field, steps, ctx, named)
    local f = reader:func(field, "emit")
    if not f then
        return function() end
    end
    local seen = {}
    for _, name in ipairs { "key", "started", "ended" } do
        seen[#seen + 1] = { name = name, type = types.of "list<string>" }
    end
    for _, step in ipairs(steps) do
        seen[#seen + 1] = { name = step.name, type = types.of "list<string>" }
    end
    function_check.row_function(reader, f, { of = ctx.of, from = "a match", columns = seen })
    check_match(reader, f, 1, steps, ctx, named)
    ctx.check_uses(f, { p = 2, emit = 3 })
    return function(self, key, e)
        f.fn(self:seen(key, e, true), self.p, self.send)
    end
end

-- ---------------------------------------------------------------- the declaration

local function key_reader(columns)
    if #columns == 1 then
        local name = columns[1].name
        return function(e) return e[name] end
    end
    return function(e)
        local key = {}
        for _, column in ipairs(columns) do
            key[column.name] = e[column.name]
        end
        return key
    end
end

local function kept_columns(ctx, named)
    local kept, fields = {}, { { name = "_row", type = types.of "int64", nullable = true } }
    for _, column in ipairs(ctx.input) do
        if named[column.name] or named.all and not column.name:match "^_" then
            kept[#kept + 1] = column.name
            fields[#fields + 1] = { name = column.name, type = column.type, nullable = true }
        end
    end
    fields.record = true
    return kept, fields
end

local run_fields = { record = true }
for _, field in ipairs {
    { "step", "string" }, { "count", "int32" }, { "since", "timestamp" }, { "start", "double" }, { "last", "double" }, { "gap", "bool" },
} do
    run_fields[#run_fields + 1] = { name = field[1], type = types.of(field[2]), nullable = true }
end

local function quantity_text(step)
    if step.min == step.max then
        return step.min == 1 and "" or " " .. step.min
    elseif step.max == math.huge then
        return " " .. step.min .. "+"
    end
    return (" %d..%d"):format(step.min, step.max)
end

local function shown_steps(steps)
    local shown = json.array {}
    for i, step in ipairs(steps) do
        shown[i] = (step.absent and "not " or "") .. step.name .. quantity_text(step) .. (step.contiguity ~= "relaxed" and " " .. step.contiguity or "")
            .. (step.consecutive and " consecutive" or "") .. (step.where and "" or " (any row)")
    end
    return shown
end

-- What the rule does that a pattern is: its state, timer and function; nil after a complaint.
local function made(reader, named, ctx, at)
    local within = reader:duration(named.within, "within")
    local steps = read_sequence(reader, named.sequence, ctx, at)
    local places, tail = arrange(reader, steps or {}, within, at)
    local skip = read_skip(reader, named.skip, steps or {})
    if not steps or not places or not skip then
        return nil
    elseif within == 0 then
        reader:error("type", named.within.value_at, "within is how long a match may take, more than nothing")
    elseif not within then
        reader:lint("no-within", at, ("pattern %q keeps what has begun for ever"):format(ctx.of), 'within = "10m"')
    end
    local spec = { places = places, steps = steps, within = within, skip = skip, tail = tail, columns = naming.names(ctx.input) }
    local keeping = {}
    for _, step in ipairs(steps) do
        spec.gaps = spec.gaps or step.strict or step.consecutive or false
        if step.where and step.where.sees then
            spec.sees = true
            check_match(reader, step.where.written, 2, steps, ctx, keeping)
        end
        if step.where then
            ctx.check_uses(step.where.written, { p = 3 })
        end
    end
    ctx.tail = tail
    spec.emit = named.emit and by_function(reader, named.emit, steps, ctx, keeping) or by_name(reader, ctx, keeping)
    spec.paths = spec.sees or named.emit ~= nil or tail or skip.step ~= nil
    spec.key_of = key_reader(ctx.key_columns)
    local kept, fields = kept_columns(ctx, keeping)
    spec.kept = kept
    local cells = {
        { name = "runs", kind = "list", max = match.RUNS_MAX, fields = run_fields },
        { name = "taken", kind = "counter", max = 1, fields = { { name = "value", type = types.of "int64", nullable = true } } },
        { name = "paths", kind = "list", max = match.RUNS_MAX, fields = { { name = "value", type = types.of "string", nullable = true } } },
    }
    cells[4] = #kept > 0 and { name = "rows", kind = "list", max = match.ROWS_MAX, fields = fields } or nil
    ctx.plan = { steps = shown_steps(steps), within_us = within or json.null, skip = skip.how .. (skip.step and " " .. skip.step or "") }
    local process, over = match.make(spec)
    return {
        cells = cells, ttl_us = not tail and within or 0, timers = tail and { "within" } or {}, fires = tail and { within = over } or {},
        process = { at = at }, bind = process, span = SPAN,
    }
end

function patterns.pattern(project, reader, node, at)
    local shown
    local result = rules.rule(project, reader, node, at, {
        options = options,
        parts = function(named, ctx)
            local parts = made(reader, named, ctx, at)
            shown = ctx.plan
            return parts
        end,
    })
    if result then
        result.plan.pattern = shown
    end
    return result
end

return patterns
