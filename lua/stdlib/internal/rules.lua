-- Rules: rows with keyed state, timers and emits. Cells of state get their types here, functions are
-- checked, and what is emitted becomes datasets others may read.
local ffi = require "ffi"
local datasets = require "weir.internal.datasets"
local diagnostic = require "weir.internal.diagnostic"
local function_check = require "weir.internal.function_check"
local naming = require "weir.internal.naming"
local json = require "weir.internal.json"
local predicate = require "weir.internal.predicate"
local sinks = require "weir.internal.sinks"
local syntax = require "weir.internal.syntax"
local time = require "weir.internal.time"
local types = require "weir.internal.types"
local value = require "weir.internal.value"
local words = require "weir.internal.words"

local rules = {}

local rule_options = {
    description = true, owner = true, on = true, key = true, order = true, time = true, where = true, expectations = true, emits = true,
    params = true, state = true, version = true, expects = true, migrate = true, process = true, timers = true, quarantine = true, into = true,
    dedup = "later", tests = "later",
}

local ENTRIES, ENTRIES_MAX = 1000, 100000

-- ---------------------------------------------------------------- emits

-- The names a rule emits to, before it is read: each is a dataset with one writer.
function rules.emitted(project, reader, declaration)
    local emits = declaration.node.body.emits
    local names = {}
    for _, item in ipairs(type(emits) == "table" and getmetatable(emits) == nil and reader:fields(emits, declaration.at) or {}) do
        if type(item.key) == "string" then
            local other = project.writers[item.key]
            if other then
                reader:error("two-writers", item.at, ("`%s` has a writer already"):format(item.key),
                    ("the other is at %s:%d"):format(tostring(other.file), other.line or 0))
            elseif datasets.check_name(reader, { name = item.key }, item.at) then
                project.writers[item.key] = item.at
                names[#names + 1] = item.key
            end
        end
    end
    return names
end

local function read_emits(reader, named, of, at)
    local emits, plans = {}, json.array {}
    local t = reader:want(named.emits, "table", "emits", '{ ["gold.alert"] = { card_id = "string" } }')
    for _, item in ipairs(t and reader:fields(t, named.emits.value_at) or {}) do
        if type(item.key) ~= "string" then
            reader:error("type", item.at, 'emits takes ["dataset"] = { column = "type" }')
        else
            local columns = datasets.read_columns(reader, item)
            for _, column in ipairs(columns) do
                if column.name == "_change" or column.name:match "^_weir" then
                    reader:error("name", column.at, ("`%s` is not a name for a column of a rule"):format(column.name))
                end
            end
            if #columns == 0 then
                reader:error("type", item.at, ("`%s` has no columns"):format(item.key), 'such as { card_id = "string" }')
            end
            local into = named.into
            if into and type(into.value) == "table" and getmetatable(into.value) == nil then -- by dataset
                into = nil
                for _, field in ipairs(reader:fields(named.into.value, named.into.value_at)) do
                    if field.key == item.key then
                        into = field
                    end
                end
            end
            emits[#emits + 1] = { name = item.key, columns = columns, at = item.at }
            plans[#plans + 1] = {
                name = item.key, columns = datasets.fields_json(columns),
                into = sinks.of(reader, into, columns, item.key, at),
            }
        end
    end
    return emits, plans
end

-- ---------------------------------------------------------------- state

local forms = {
    value = 'value "timestamp", or value { price = "int64", bidder = "int64" }',
    counter = "counter()",
    ring = 'ring(32, "double"), or ring(32, { at = "timestamp", amount = "decimal(12,2)" })',
    list = 'list(100, "string")',
    map = 'map("string", "int64"), or map(100, "string", { price = "int64" })',
    set = 'set "string", or set(100, "string")',
    sketch = 'sketch "string"',
}

local function bad_cell(reader, item, word, why)
    reader:error("type", item.value_at, ("state `%s`: %s"):format(item.key, why), forms[word])
end

-- A type text, or a table of them: fields { name, type }, record = true for a table.
local function read_fields(reader, item, word, given, at)
    if type(given) == "string" then
        local parsed, why, unknown = types.parse(given)
        if not parsed then
            reader:error("type", at, why, unknown and diagnostic.did_you_mean(unknown, types.names) or nil)
            return nil
        elseif types.is_nested(parsed) then
            bad_cell(reader, item, word, "lists, structs and maps are not kept in it")
            return nil
        end
        return { { name = "value", type = parsed, nullable = true } }
    elseif type(given) == "table" and getmetatable(given) == nil then
        local fields = datasets.read_columns(reader, { value = given, at = at, value_at = at })
        for _, field in ipairs(fields) do
            if types.is_nested(field.type) then
                bad_cell(reader, item, word, "lists, structs and maps are not kept in it")
                return nil
            end
        end
        fields.record = true
        return #fields > 0 and #fields <= 32 and fields or bad_cell(reader, item, word, "a record has 1 to 32 fields")
    end
    bad_cell(reader, item, word, "it says the type of what it holds")
    return nil
end

local function read_max(reader, item, word, args, needed)
    local max = args[1]
    if type(max) ~= "number" then
        if needed then
            bad_cell(reader, item, word, "it says how many entries it holds")
        end
        return not needed and ENTRIES or nil, 1
    elseif max % 1 ~= 0 or max < 1 or max > ENTRIES_MAX then
        bad_cell(reader, item, word, ("it holds 1 to %d entries"):format(ENTRIES_MAX))
        return nil, 2
    end
    return max, 2
end

local function read_cell(reader, item)
    local x = item.value
    local word = words.is_word(x) and x.word or words.is_node(x) and x.word
    if not word or not forms[word] then
        reader:error("type", item.value_at, ("state `%s` is a value, counter, ring, list, map, set or sketch, not %s"):format(tostring(item.key),
            reader.described(x)), forms.value)
        return nil
    end
    if word == "counter" then
        return { name = item.key, kind = word, max = 1, fields = { { name = "value", type = types.of "int64", nullable = true } } }
    elseif words.is_word(x) then
        bad_cell(reader, item, word, "it says the type of what it holds")
        return nil
    end
    local args = x.args
    local max, next_arg = 1, 1
    if word ~= "value" and word ~= "sketch" then
        max, next_arg = read_max(reader, item, word, args, word == "ring" or word == "list")
    end
    local function fields_of(n)
        local at = reader:argument_at(item.value_at, n)
        return read_fields(reader, item, word, args[n], at)
    end
    local fields = max and fields_of(next_arg)
    if not fields then
        return nil
    end
    if word == "map" then
        local held = fields_of(next_arg + 1)
        if not held then
            return nil
        elseif fields.record then
            bad_cell(reader, item, word, "its key is one plain value")
            return nil
        end
        local all = { { name = "key", type = fields[1].type, nullable = true }, record = held.record }
        for _, field in ipairs(held) do
            if field.name == "key" then
                bad_cell(reader, item, word, "a field cannot be called `key`")
                return nil
            end
            all[#all + 1] = field
        end
        fields = all
    elseif word == "sketch" and fields.record then
        bad_cell(reader, item, word, "it counts values of one type")
        return nil
    end
    return { name = item.key, kind = word, max = max, fields = fields }
end

local reserved = { timer = true, clock_timer = true, cancel = true, clear = true }

local function read_state(reader, field)
    local cells, state = {}, {}
    local t = reader:want(field, "table", "state", "{ seen = counter() }")
    for _, item in ipairs(t and reader:fields(t, field.value_at) or {}) do
        if item.key == "ttl" or item.key == "ttl_clock" then
            if state.ttl_us then
                reader:error("type", item.at, "`ttl` and `ttl_clock` are two ways to say one thing; use one")
            end
            state.ttl_us = reader:duration(item, item.key)
            state.ttl_by_clock = item.key == "ttl_clock"
            if state.ttl_us == 0 then
                reader:error("type", item.value_at, ("%s is how long a key is remembered, more than nothing"):format(item.key),
                    "leave it out to keep it for ever")
            end
        elseif type(item.key) ~= "string" or not item.key:match "^%a[%w_]*$" then
            reader:error("type", item.at, "a cell of state has a name: { seen = counter() }")
        elseif reserved[item.key] then
            reader:error("name", item.at, ("`%s` is what s:%s does; give the cell another name"):format(item.key, item.key))
        else
            cells[#cells + 1] = read_cell(reader, item)
        end
    end
    if #cells > 64 then
        reader:error("limit", field.value_at, "a rule has up to 64 cells of state")
    end
    return cells, state
end

-- ---------------------------------------------------------------- params

local function read_params(reader, field)
    local params, texts = {}, {}
    local t = reader:want(field, "table", "params", '{ window = "10m" }')
    for _, item in ipairs(t and reader:fields(t, field.value_at) or {}) do
        local x = reader:resolve(item.value, item.value_at)
        local plain = type(x) == "string" or type(x) == "number" or type(x) == "boolean"
            or type(x) == "cdata" and (value.is_number(x) or ffi.istype(time.Duration, x) or ffi.istype(time.Timestamp, x))
        if type(item.key) ~= "string" then
            reader:error("type", item.at, 'a parameter has a name: { window = "10m" }')
        elseif not plain then
            if x ~= nil then
                reader:error("type", item.value_at, ("the parameter `%s` is a text, number, truth value, decimal, time or duration, not %s"):format(item.key,
                    reader.described(x)))
            end
        else
            params[item.key], texts[item.key] = x, tostring(x)
        end
    end
    return params, texts
end

-- ---------------------------------------------------------------- functions

local methods = {
    value = "get set within clear", counter = "get add set clear", ring = "push get first last sum min max avg distinct count clear",
    list = "push get first last sum min max avg distinct count remove pop clear", map = "get set has remove count entry add clear",
    set = "add has remove count get first last clear", sketch = "add count clear",
}

-- What a function says of s, p and emit, checked against the declaration.
local function check_uses(reader, f, places, spec)
    local node = f and f.node
    if not node then
        return
    end
    local function param(n, x)
        local name = node.params[n] and node.params[n].name
        return name ~= nil and x.tag == "Name" and x.name == name and (x.scope == "local" or x.scope == "upvalue")
    end
    local cells = {}
    for _, cell in ipairs(spec.cells) do
        cells[cell.name] = cell
    end
    local function unknown(at_node, what, name, known)
        reader:error("unknown-name", syntax.place(f.info, at_node), ("%s `%s`"):format(what, name),
            diagnostic.did_you_mean(name, known) or (#known > 0 and "there is: " .. table.concat(known, ", ") or nil))
    end
    local function timer_name(call)
        local first = call.args[1]
        if first and first.tag == "String" and not spec.fires[first.value] then
            unknown(first, "no timer is called", first.value, spec.timers)
        end
    end
    local function emit_call(call)
        local first, t = call.args[1], call.args[2]
        if not first or first.tag ~= "String" then
            return
        end
        for _, emit in ipairs(spec.emits) do
            if emit.name == first.value then
                for _, field in ipairs(t and t.tag == "Table" and t.fields or {}) do
                    local key = field.kind == "named" and field.key
                    if key and not naming.column(emit.columns, key) then
                        unknown(field.value, ("`%s` has no column"):format(emit.name), key, naming.names(emit.columns))
                    end
                end
                return
            end
        end
        unknown(first, "the rule does not emit", first.value, naming.names(spec.emits))
    end
    syntax.walk(node.body, function(n)
        if n.tag == "Index" and n.key.tag == "String" then
            local name = n.key.value
            if param(places.s, n.object) and not cells[name] and not reserved[name] then
                unknown(n.key, "the rule has no state", name, naming.names(spec.cells))
            elseif param(places.p, n.object) and spec.params[name] == nil then
                local known = {}
                for key in pairs(spec.params) do
                    known[#known + 1] = key
                end
                table.sort(known)
                unknown(n.key, "the rule has no parameter", name, known)
            end
        elseif n.tag == "MethodCall" and param(places.s, n.object) then
            if not reserved[n.method] then
                unknown(n, "state has no", n.method, { "timer", "clock_timer", "cancel", "clear" })
            elseif n.method ~= "clear" then
                timer_name(n)
            end
        elseif n.tag == "MethodCall" and n.object.tag == "Index" and n.object.key.tag == "String" and param(places.s, n.object.object) then
            local cell = cells[n.object.key.value]
            local known = {}
            for method in (cell and (cell.reads_only and "get" or methods[cell.kind]) or ""):gmatch "%S+" do
                known[#known + 1] = method
                known[method] = true
            end
            if cell and not known[n.method] then
                unknown(n, ("a %s has no"):format(cell.kind), n.method, known)
            end
        elseif n.tag == "Call" and param(places.emit, n.func) then
            emit_call(n)
        end
    end)
end

local function read_timers(reader, field, of, columns)
    local names, fires, functions = {}, {}, {}
    local t = reader:want(field, "table", "timers", "{ forget = function(key, s, p, emit, at) … end }")
    for _, item in ipairs(t and reader:fields(t, field.value_at) or {}) do
        if type(item.key) ~= "string" or #item.key > 100 then
            reader:error("type", item.at, "a timer has a name: { forget = function(key, s, p, emit, at) … end }")
        else
            local f = reader:func(item, ("the timer `%s`"):format(item.key))
            if f then
                function_check.row_function(reader, f, { of = of, from = "the key", columns = columns })
                names[#names + 1], fires[item.key], functions[item.key] = item.key, f.fn, f
            end
        end
    end
    return names, fires, functions
end

local function read_key(reader, field, input, of, at)
    local key, columns = json.array {}, {}
    if not field then
        reader:error("type", at, ("rule %q says whose state a row belongs to"):format(of), 'key = "card_id"')
    end
    for _, item in ipairs(reader:names(field, "key") or {}) do
        local column = predicate.column(reader, input, item.name, item.at, of)
        if column and (types.is_nested(column.type) or types.is_float(column.type)) then
            reader:error("type", item.at, ("a key is no column of type %s"):format(column.type.text))
        elseif column then
            key[#key + 1] = item.name
            columns[#columns + 1] = column
        end
    end
    return key, columns
end

-- Functions by the version they lead away from: n to n + 1, or -n back to n - 1.
local function read_migrate(reader, field)
    local steps, functions, list = json.array {}, {}, {}
    local t = reader:want(field, "table", "migrate", "{ [1] = function(old, s) … end }")
    for _, item in ipairs(t and reader:fields(t, field.value_at) or {}) do
        if type(item.key) ~= "number" or item.key % 1 ~= 0 or item.key == 0 then
            reader:error("type", item.at, "migrate has a function by the version it leads from: { [1] = function(old, s) … end }")
        else
            local f = reader:func(item, ("migrate[%d]"):format(item.key))
            if f then
                steps[#steps + 1], functions[item.key], list[#list + 1] = item.key, f.fn, f
            end
        end
    end
    table.sort(steps)
    return steps, functions, list
end

-- The column in which a command says which version of its key it expects; the version is a cell the rule may read.
local function read_expects(reader, field, input, of, cells)
    if not field then
        return nil
    end
    local name = reader:want(field, "string", "expects", '"expected_version"')
    local column = name and predicate.column(reader, input, name, field.value_at, of)
    if not column then
        return nil
    elseif column.type.kind ~= "int64" and column.type.kind ~= "int32" then
        reader:error("type", field.value_at, ("a version is int64 or int32; `%s` is %s"):format(name, column.type.text))
        return nil
    end
    for _, cell in ipairs(cells) do
        if cell.name == "version" then
            reader:error("name", field.value_at, "with `expects`, s.version is the version of the key; give the cell another name")
            return nil
        end
    end
    cells[#cells + 1] = {
        name = "version", kind = "counter", max = 1, reads_only = true, fields = { { name = "value", type = types.of "int64", nullable = true } },
    }
    return name
end

local function read_order(reader, field)
    local order = reader:want(field, "string", "order", '"time" or "arrival"')
    if order and order ~= "time" and order ~= "arrival" then
        reader:error("type", field.value_at, ("no order is called %q"):format(order), '"time" (the default) or "arrival"')
    end
    return order == "arrival"
end

-- `made`: of a declaration that becomes a rule, its options and parts(named, ctx), which gives the state, timers and process of it: { cells, ttl_us,
-- timers, fires, process = { at = }, bind = function that makes process for one that tells the row's time, span = most rows of a call }; nil after a complaint.
function rules.rule(project, reader, node, at, made)
    local of = node.name
    for name in pairs(type(node.body.emits) == "table" and node.body.emits or {}) do -- have a name, whatever is wrong here
        project.by_name[name] = { kind = "emitted", name = name, broken = true }
    end
    local named = reader:options(node.body, at, made and made.options or rule_options, ("%s %q"):format(node.word, of), false)
    if not named.on then
        reader:error("type", at, ("%s %q reads nothing"):format(node.word, of), 'on = "silver.card_auth"')
        return nil
    end
    local from = datasets.upstream(project, reader, named.on, node, at)
    if not from or not from.columns then
        return nil
    end
    local input = from.columns
    if naming.column(input, "_change") and (from.changelog == "whole" or node.word ~= "rule") then
        reader:error("not-built", named.on.value_at, ("a %s over the rows of %s, which change as batches come, is not built yet"):format(node.word, from.name),
            "read the events the changes come from")
        return nil
    end
    local functions = datasets.adder(project, reader, of, from.name)
    local own_time = datasets.read_time(reader, named.time, input, from.name)
    local timed = (own_time or from.time) ~= nil
    local by_arrival = read_order(reader, named.order)
    if from.commands and not by_arrival then
        reader:error("commands-by-time", named.order and named.order.value_at or at,
            ("the commands of %s are answered as they come; in order of event time they would wait for those after them"):format(from.name),
            'say order = "arrival"')
    end
    if not timed and not by_arrival then
        reader:error("no-time", at, ("a %s takes rows in order of event time, and nothing here or upstream declares it"):format(node.word),
            'add time = { field = "…" }' .. (made and "" or ', or order = "arrival"'))
    end
    local where = reader:func(named.where, "where")
    local key, key_columns = read_key(reader, named.key, input, from.name, at)
    local emits, emit_plans = read_emits(reader, named, of, at)
    local cells, state = read_state(reader, named.state)
    local expects = read_expects(reader, named.expects, input, from.name, cells)
    local params, param_texts = read_params(reader, named.params)
    local timers, fires, timer_functions = read_timers(reader, named.timers, of, #key_columns > 1 and key_columns or {})
    local process = reader:func(named.process, "process")
    local steps, migrate, migrate_functions = read_migrate(reader, named.migrate)
    local parts
    if made then
        parts = made.parts(named, {
            of = of, from = from.name, input = input, key_columns = key_columns, emits = emits,
            check_uses = function(f, places)
                check_uses(reader, f, places, { cells = {}, timers = {}, fires = {}, emits = emits, params = params })
            end,
        }) or {}
        process, cells, state = parts.process, parts.cells, { ttl_us = parts.ttl_us }
        timers, fires = parts.timers, parts.fires
    elseif not named.process then
        reader:error("type", at, ("rule %q does nothing"):format(of), "process = function(e, s, p, emit) … end")
    end
    local plan = {
        name = of, file = at.file, line = at.line, column = at.col,
        description = datasets.text_of(reader, named.description, "description"),
        owner = datasets.text_of(reader, named.owner, "owner"),
        from = json.array { from.name }, input = datasets.fields_json(input), time = own_time or json.null,
        where = where and functions("predicate", where, "where", input) or json.null, explode = json.null,
        expectations = predicate.list(reader, named.expectations, "expectations", input, from.name, functions, {}, json.array {}),
        dedup = json.null, changes_whole = false, map = json.null, columns = json.array {}, ensures = json.array {}, quality = json.array {},
        into = json.null, quarantine = sinks.quarantine(reader, named.quarantine, input, of, at), state_version = datasets.read_version(reader, named.version),
    }
    if not process then
        return nil
    end
    local spec = {
        migrate = migrate, version = plan.state_version,
        process = process.fn, bind = parts and parts.bind, timers = timers, fires = fires, cells = cells, emits = emits, params = params,
        columns = input, key = key_columns,
        expects = expects,
    }
    check_uses(reader, process, { s = 2, p = 3, emit = 4 }, spec)
    for _, f in pairs(timer_functions) do
        check_uses(reader, f, { s = 2, p = 3, emit = 4 }, spec)
    end
    for _, f in ipairs(migrate_functions) do
        check_uses(reader, f, { s = 2 }, spec)
    end
    local reads = function_check.row_function(reader, process, { of = of, from = from.name, columns = input, rejects = true })
    local list = project.functions
    list[#list + 1] = {
        kind = "rule", of = of, what = "process", file = process.at.file, line = process.at.line, reads = reads, nulls = {}, rule = spec,
    }
    local cell_plans = json.array {}
    for i, cell in ipairs(cells) do
        cell_plans[i] = { name = cell.name, kind = cell.kind, max = cell.max, fields = datasets.fields_json(cell.fields) }
    end
    plan.rule = {
        key = key, by_arrival = by_arrival, timed = timed, ["function"] = #list - 1, timers = json.array(timers), state = cell_plans,
        span = parts and parts.span, version = plan.state_version, ttl_us = state.ttl_us or 0, ttl_by_clock = state.ttl_by_clock or false,
        migrates = steps, emits = emit_plans, params = next(param_texts) and param_texts or nil,
        versioned = expects and true or nil,
    }
    local names = {}
    for i, emit in ipairs(emits) do
        names[i] = emit.name
        project.by_name[emit.name] = { kind = "emitted", name = emit.name, columns = emit.columns, time = timed and { field = nil } or nil }
    end
    return { kind = "rule", name = of, plan = plan, emits = names }
end

return rules
