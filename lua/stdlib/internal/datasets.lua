-- Turns declarations into plan entries: sources, streams and models with their columns typed from
-- what they read. Everything that can be wrong with one is said here, with its place.
local diagnostic = require "weir.internal.diagnostic"
local explode = require "weir.internal.explode"
local connectors = require "weir.internal.connectors"
local function_check = require "weir.internal.function_check"
local function_text = require "weir.internal.function_text"
local join_chain = require "weir.internal.join_chain"
local joins = require "weir.internal.joins"
local json = require "weir.internal.json"
local naming = require "weir.internal.naming"
local null_check = require "weir.internal.null_check"
local handed_on = require "weir.internal.copies"
local predicate = require "weir.internal.predicate"
local sinks = require "weir.internal.sinks"
local types = require "weir.internal.types"
local words = require "weir.internal.words"

local datasets = {}

local MAX_COLUMNS = 2000 -- below row.MAX_COLUMNS, meta columns included

-- What every source adds after its own columns.
local meta = {}
for _, column in ipairs {
    { "_topic", "string" }, { "_partition", "int32" }, { "_offset", "int64" }, { "_timestamp", "timestamp" },
    { "_ingested_at", "timestamp" }, { "_rescued", "string" },
} do
    meta[#meta + 1] = { name = column[1], type = types.of(column[2]), nullable = true }
end

local function fields_json(columns)
    local list = json.array {}
    for i, column in ipairs(columns) do
        list[i] = { name = column.name, type = column.type.text, nullable = column.nullable ~= false }
    end
    return list
end

-- Adds row functions of one dataset to the project's list: returns functions(kind, f, what, columns, more).
local function adder(project, reader, of, from)
    return function(kind, f, what, columns, more, own)
        more = more or {}
        local reads = function_check.row_function(reader, f, {
            of = of,
            from = more.from or own and of or from,
            columns = columns,
            out = more.out,
            joined = more.joined,
            result = more.result,
            predicate = kind == "predicate",
            parameters = more.parameters,
        })
        for _, item in ipairs(more.joins or {}) do
            joins.note_reads(item, f, kind == "predicate" and 2 or 3)
        end
        local list = project.functions
        list[#list + 1] = {
            kind = kind,
            of = of,
            what = what,
            file = f.at.file,
            line = f.at.line,
            reads = reads,
            nulls = more.parameters and {} or null_check.sites(f.node, columns, more.out),
            fn = f.fn,
            node = f.node,
            text = f.text,
            columns = columns,
            out = more.out,
            result = more.result,
            retyped = more.retyped,
            joined = more.joined,
            init = more.init,
            copies = kind == "map" and more.copies and handed_on.find(f.node, columns, more.out, more.retyped) or nil,
        }
        return #list - 1, reads
    end
end

-- ---------------------------------------------------------------- parts common to kinds

local name_form = "^[%a_][%w_]*%.?[%w_%.]*$"

function datasets.check_name(reader, node, at)
    local name = node.name
    if type(name) ~= "string" or not name:match(name_form) or name:find("..", 1, true) or name:sub(-1) == "." or #name > 200 then
        reader:error("name", at, ("a dataset's name is words joined by dots, not %s"):format(type(name) == "string" and ("%q"):format(name) or type(name)),
            'such as "silver.pos_sale"')
        return false
    end
    return true
end

local time_options = { field = true, out_of_order = true, idle = true, max_ahead = true, alignment = "later" }

-- TIME of a `time` option; nil when not declared or wrong.
local function read_time(reader, field, columns, of)
    local t = reader:want(field, "table", "time", '{ field = "sold_at", out_of_order = "5s" }')
    if not t then
        return nil
    end
    local named = reader:options(t, field.value_at, time_options, "time", false)
    local name = named.field and reader:want(named.field, "string", "time.field", "a column's name")
    if not named.field then
        reader:error("type", field.value_at, "time names the column that carries it", 'time = { field = "sold_at" }')
    end
    if not name then
        return nil
    end
    local column = predicate.column(reader, columns, name, named.field.value_at, of)
    if not column then
        return nil
    elseif not types.is_timestamp(column.type) then
        reader:error("type", named.field.value_at, ("event time is a timestamp; `%s` is %s"):format(name, column.type.text))
        return nil
    end
    local idle = reader:duration(named.idle, "idle")
    return {
        field = name,
        out_of_order_us = reader:duration(named.out_of_order, "out_of_order") or 0,
        idle_us = idle or json.null,
        max_ahead_us = reader:duration(named.max_ahead, "max_ahead") or 3600000000,
    }
end

local dedup_options = { by = true, within = true }

local function read_dedup(reader, field, columns, of, has_time)
    local t = reader:want(field, "table", "dedup", '{ by = "event_id", within = "24h" }')
    if not t then
        return nil
    end
    local named = reader:options(t, field.value_at, dedup_options, "dedup", false)
    local by = json.array {}
    for _, item in ipairs(reader:names(named.by, "dedup by") or {}) do
        local column = predicate.column(reader, columns, item.name, item.at, of)
        if column and types.is_nested(column.type) then
            reader:error("type", item.at, ("dedup needs plain columns; `%s` is %s"):format(item.name, column.type.text))
        end
        by[#by + 1] = item.name
    end
    if not named.by then
        reader:error("type", field.value_at, "dedup says by which columns", 'dedup = { by = "event_id", within = "24h" }')
    end
    if not named.within then
        reader:error("type", field.value_at, "dedup says within which event time it remembers", 'within = "24h"')
    elseif not has_time then
        reader:error("no-time", named.within.at, "`within` is event time, and nothing here or upstream declares it", 'add time = { field = "…" }')
    end
    return { by = by, within_us = reader:duration(named.within, "within") or 0 }
end

-- The columns of all, in the order they are first met, those of the runtime last; what some lack may be null.
local function join_columns(reader, found, items)
    local columns, own, count = {}, {}, {}
    for i, each in ipairs(found) do
        for _, column in ipairs(each.columns) do
            local list = column.name:sub(1, 1) == "_" and column.name ~= "_change" and own or columns
            local other = naming.column(list, column.name)
            if not other and column.name ~= "_from" then -- of a union below: this one's says more
                list[#list + 1] = { name = column.name, type = column.type, nullable = column.nullable, of = each.name }
            elseif other and other.type.text ~= column.type.text then
                reader:error("type", items[i].at, ("`%s` is %s here and %s in %s"):format(column.name, column.type.text, other.type.text, other.of),
                    "give it one type in a stream in between")
                return nil
            elseif other then
                other.nullable = other.nullable ~= false or column.nullable ~= false
            end
            count[column.name] = (count[column.name] or 0) + 1
        end
    end
    for _, column in ipairs(own) do
        columns[#columns + 1] = column
    end
    for _, column in ipairs(columns) do
        if count[column.name] < #found then
            column.nullable = true
        end
    end
    columns[#columns + 1] = { name = "_from", type = types.of "string", nullable = false }
    return columns
end

-- Several datasets read as one.
local function union(project, reader, items)
    local found, seen, timed = {}, {}, 0
    for i, item in ipairs(items) do
        found[i] = naming.dataset(project, reader, item.name, item.at)
        if not found[i] or not found[i].columns then
            return nil
        elseif seen[item.name] then
            reader:error("repeated-name", item.at, ("`%s` is read twice"):format(item.name))
            return nil
        elseif (naming.column(found[i].columns, "_change") == nil) ~= (naming.column(found[1].columns, "_change") == nil) then
            reader:error("type", item.at, ("the rows of only one of %s and %s change"):format(found[1].name, item.name),
                "rows that change and rows that do not are not read as one")
            return nil
        elseif naming.column(found[i].columns, "_change") and found[i].changelog ~= "whole" then
            reader:error("not-built", item.at,
                ("a union of datasets whose changes do not carry the old rows whole, as those of %s, is not built yet"):format(item.name))
            return nil
        end
        seen[item.name] = true
        timed = timed + (found[i].time and 1 or 0)
    end
    local columns = join_columns(reader, found, items)
    local field = found[1].time and found[1].time.field
    for _, each in ipairs(found) do
        field = each.time and each.time.field == field and field or nil
    end
    local names, steady = {}, true
    for i, each in ipairs(found) do
        names[i], steady = each.name, steady and each.steady
    end
    return columns and {
        name = table.concat(names, ", "), names = names, columns = columns, changelog = found[1].changelog, steady = steady,
        time = timed == #found and { field = field } or nil,
    }
end

-- What a declaration reads: a dataset, or several as one; nil after a complaint.
local function upstream(project, reader, field, node, at)
    if not field then
        reader:error("type", at, ("%s %q reads nothing"):format(node.word, node.name), 'from = "bronze.pos_sale"')
        return nil
    end
    local names = reader:names(field, "from")
    if not names then
        return nil
    elseif #names > 1 then
        return union(project, reader, names)
    end
    return naming.dataset(project, reader, names[1].name, names[1].at), names[1]
end
datasets.upstream = upstream

-- Columns declared under `columns`, in written order.
local function read_columns(reader, field)
    local columns = {}
    local t = reader:want(field, "table", "columns", '{ net = "decimal(12,2)" }')
    for _, item in ipairs(t and reader:fields(t, field.value_at) or {}) do
        if type(item.key) ~= "string" then
            reader:error("type", item.at, 'columns takes name = "type"')
        elseif type(item.value) ~= "string" then
            reader:error("type", item.value_at, ("the type of column `%s` is a text such as \"int64\""):format(item.key))
        else
            local parsed, why, unknown = types.parse(item.value)
            if not parsed then
                reader:error("type", item.value_at, why, unknown and diagnostic.did_you_mean(unknown, types.names) or nil)
            else
                columns[#columns + 1] = { name = item.key, type = parsed, nullable = true, at = item.at }
            end
        end
    end
    return columns
end

-- Whether passing a column on as another type can always be tried (the value is checked row by row).
local function retypes(from, to)
    if from.text == to.text then
        return true
    elseif types.is_numeric(from) and types.is_numeric(to) then
        return not (types.is_float(from) and to.kind == "decimal")
    elseif types.is_timestamp(from) and types.is_timestamp(to) then
        return true
    end
    return (from.kind == "string" or from.kind == "binary") and (to.kind == "string" or to.kind == "binary")
end

local function text_of(reader, field, what)
    return reader:want(field, "string", what, "a text") or json.null
end

-- ---------------------------------------------------------------- source

local source_options = {
    description = true, owner = true, into = true, quarantine = true, keep = true, partitions = true, alignment = true, time = "later",
}

-- `keep` of a source: how long its table holds what was read.
local function keep_rows(reader, field, sink, columns)
    if sink == json.null or sink.kind ~= "delta" then
        reader:error("type", field.at, "`keep` says how long rows stay in the source's table, and it has none",
            "leave `keep` out, or write a table: into = delta { }")
    elseif sink.keep_us then
        reader:error("type", field.at, "`keep` of the source and of its table say the same thing", "leave one out")
    else
        sinks.keep(reader, field, sink, columns)
    end
end

-- How much further on in event time than another a source is read; -1: for ever, nil: not said.
local function read_alignment(reader, field)
    local x = field and field.value
    if (words.is_word(x) or words.is_node(x)) and x.word == "none" then
        return -1
    end
    return reader:duration(field, "alignment")
end

function datasets.source(project, reader, node, at)
    local named, positional = reader:options(node.body, at, source_options, ("source %q"):format(node.name), true)
    if named.partitions then
        reader:error("unknown-option", named.partitions.at, "`partitions` is an option of files, not of the source",
            'files { path = "…", partitions = "file" }')
    end
    local connector, decoder
    local parts = connectors.names "sources"
    for _, name in ipairs(connectors.names "decoders") do
        parts[#parts + 1] = name
    end
    for _, field in ipairs(positional) do
        local found = reader:node(field, "a source", unpack(parts))
        if found and connectors.is("decoders", found.word) then
            if decoder then
                reader:error("type", field.value_at, "a source has one decoder")
            end
            decoder = { node = found, at = reader:place_of(found, field.value_at) }
        elseif found then
            if connector then
                reader:error("type", field.value_at, "a source has one connector")
            end
            connector = { node = found, at = reader:place_of(found, field.value_at) }
        end
    end
    if not connector then
        for _, field in ipairs(positional) do
            if words.is_node(field.value) and field.value.later then
                return nil -- refused by name already
            end
        end
        reader:error("type", at, ("source %q reads from nowhere"):format(node.name), 'add files { path = "…" } or generator { }')
        return nil
    end
    local made, columns = connectors.source(project, reader, node, at, connector, decoder)
    if not columns then
        return nil
    end
    local full = {}
    for _, column in ipairs(columns) do
        if column.name:match "^_" and naming.column(meta, column.name) then
            reader:error("name", at, ("the schema of %q has a column `%s`, which the source adds itself"):format(node.name, column.name))
        end
        full[#full + 1] = column
    end
    for _, column in ipairs(meta) do
        full[#full + 1] = column
    end
    if #full > MAX_COLUMNS then
        reader:error("limit", at, ("%d columns are more than %d"):format(#full, MAX_COLUMNS))
        return nil
    end
    local schema = json.array {}
    for i, column in ipairs(columns) do
        schema[i] = { name = column.name, type = column.type.text, nullable = column.nullable ~= false, default = column.default }
    end
    made.name = node.name
    made.file, made.line, made.column = at.file, at.line, at.col
    made.schema = schema
    made.description = text_of(reader, named.description, "description")
    made.owner = text_of(reader, named.owner, "owner")
    made.into = sinks.of(reader, named.into, full, node.name, at)
    if named.keep then
        keep_rows(reader, named.keep, made.into, full)
    end
    made.alignment_us = read_alignment(reader, named.alignment)
    made.quarantine = sinks.quarantine(reader, named.quarantine)
    return {
        kind = "source", name = node.name, plan = made, columns = full, time = nil,
        commands = made.connector.kind == "http" and made.connector.options.reply == true or nil,
    }
end

-- ---------------------------------------------------------------- stream

local stream_options = {
    description = true, owner = true, from = true, where = true, time = true, expectations = true, dedup = true,
    columns = true, map = true, drop = true, keep = true, ensures = true, into = true, quarantine = true, version = true,
    key = true, explode = true, join = true, late = true, params = "later", tests = "later",
}

local function read_version(reader, field)
    local version = reader:want(field, "number", "version", "a whole number")
    if version and (version % 1 ~= 0 or version < 1) then
        reader:error("type", field.value_at, "version is a whole number from 1")
        return 1
    end
    return version or 1
end

-- Of a changelog: what became of each row (0 +I, 1 -U, 2 +U, 3 -D), and which columns an update left out. They go with the rows whatever is kept.
local CHANGE = { _change = true, _unavailable = true }

-- The columns of `key`, which make a stream a table; nil where there is none.
local function read_key(reader, field, out, of)
    local key = json.array {}
    for _, item in ipairs(reader:names(field, "key") or {}) do
        local column = predicate.column(reader, out, item.name, item.at, of)
        if column and (types.is_nested(column.type) or column.type.kind == "binary" or types.is_float(column.type)) then
            reader:error("type", item.at, ("a key is no column of type %s"):format(column.type.text))
        end
        key[#key + 1] = item.name
    end
    return #key > 0 and key or nil
end

local function of_exploded(columns, name)
    for _, column in ipairs(columns) do
        if column.exploded and column.name == name then
            return true
        end
    end
end

-- What leaves: pass-through columns as they came, then what `columns` adds.
local function stream_columns(reader, named, input, declared, of)
    local listed = {} -- `keep` or nil
    local dropped = {}
    if named.keep and named.drop then
        reader:error("type", named.keep.at, "`keep` and `drop` are two ways to say one thing; use one")
    end
    for _, item in ipairs(reader:names(named.keep, "keep") or {}) do
        if not naming.column(input, item.name) and naming.column(declared, item.name) then
            listed[item.name] = nil -- it leaves in any case
        elseif predicate.column(reader, input, item.name, item.at, of) then
            listed[item.name] = true
        end
    end
    for _, item in ipairs(reader:names(named.drop, "drop") or {}) do
        if of_exploded(input, item.name) then
            dropped[item.name] = true -- gone already
        elseif predicate.column(reader, input, item.name, item.at, of) then
            dropped[item.name] = true
        end
    end
    local out, by_declared = {}, {}
    for k, column in ipairs(declared) do
        by_declared[column.name] = k
    end
    for i, column in ipairs(input) do
        local k = by_declared[column.name]
        local passes
        if column.exploded then
            passes, k = false, nil
        elseif named.keep then
            passes = listed[column.name] or k or CHANGE[column.name]
        else
            passes = not dropped[column.name] and (k or CHANGE[column.name] or not column.name:match "^_")
        end
        if k and dropped[column.name] and not column.exploded then
            reader:error("type", declared[k].at, ("`%s` is both dropped and assigned"):format(column.name))
        end
        if passes and k then
            local to = declared[k]
            if not retypes(column.type, to.type) then
                reader:error("type", to.at, ("`%s` is %s in %s and cannot pass as %s"):format(column.name, column.type.text, of, to.type.text),
                    "give the new column another name and assign it in map")
            end
            out[#out + 1] = { name = column.name, type = to.type, nullable = true, input = i - 1, map = k - 1, from = column.type, at = to.at }
        elseif passes then
            out[#out + 1] = { name = column.name, type = column.type, nullable = column.nullable ~= false, input = i - 1 }
        end
    end
    for k, column in ipairs(declared) do
        if not naming.column(input, column.name) then
            out[#out + 1] = { name = column.name, type = column.type, nullable = true, map = k - 1, at = column.at }
        end
    end
    if #out == 0 then
        reader:error("type", (named.drop or named.keep or {}).at, ("no column of %s is left"):format(of))
    elseif #out > MAX_COLUMNS then
        reader:error("limit", (named.columns or {}).at, ("%d columns are more than %d"):format(#out, MAX_COLUMNS))
    end
    return out
end

-- A map may assign a column of the input that `columns` does not name: it keeps its type and its place.
local function add_assigned(declared, map, input)
    for _, assigned in ipairs(map and function_check.assigned(map) or {}) do
        local column = naming.column(input, assigned.name)
        if column and not naming.column(declared, assigned.name) then
            declared[#declared + 1] = { name = column.name, type = column.type, nullable = true, at = assigned.at }
        end
    end
end

-- `made`: the map of a stream that is written here and not in a file, { fn =, at =, reads =, text = }; or nil.
function datasets.stream(project, reader, node, at, made)
    local of = node.name
    local named = reader:options(node.body, at, stream_options, ("stream %q"):format(of), false)
    local from = upstream(project, reader, named.from, node, at)
    if not from or not from.columns then
        return nil
    end
    local input = from.columns
    local functions = adder(project, reader, of, from.name)
    local time = read_time(reader, named.time, input, from.name)
    local has_time = time or from.time
    local where = reader:func(named.where, "where")
    local seen = {}
    local where_function = where and functions("predicate", where, "where", input) or json.null
    local exploded, entered = nil, input
    if named.explode then
        exploded, entered = explode.read(reader, named.explode, input, from.name, functions)
        entered = entered or input
    end
    joins.check_late(reader, named)
    local judged = entered -- before the joins, which may add columns
    local map = made or reader:func(named.map, "map")
    local chain = join_chain.read(project, reader, named, { columns = entered, time = has_time }, from, of, exploded)
    if chain.changes and named.dedup then
        reader:error("type", named.dedup.at, "rows that change are joined as they are: dedup would keep the first",
            "dedup in a stream before, of rows that only come")
    end
    local copies, only_copies = joins.copies(reader, chain.items, map)
    local judging = map and { { map, 3 } } or {}
    for _, join in ipairs(chain.joins) do
        judging[#judging + 1] = join.where and { join.where, 2 } or nil
    end
    join_chain.carry(reader, chain, judging, copies)
    entered = chain.columns
    local joined = named.join and join_chain.joined(chain) or nil
    local reads, reads_any = {}, false
    local function note(_, names)
        reads_any = reads_any or not names
        for _, name in ipairs(names or {}) do
            reads[name] = true
        end
        return _
    end
    local declared = read_columns(reader, named.columns)
    add_assigned(declared, map, entered)
    local plan = {
        name = of, file = at.file, line = at.line, column = at.col,
        description = text_of(reader, named.description, "description"),
        owner = text_of(reader, named.owner, "owner"),
        from = json.array(from.names or { from.name }),
        input = fields_json(entered),
        time = time or json.null,
        where = where_function,
        explode = exploded or json.null,
        expectations = predicate.list(reader, named.expectations, "expectations", judged, from.name, functions, seen, json.array {}),
        dedup = named.dedup and read_dedup(reader, named.dedup, judged, from.name, has_time) or json.null,
        lookups = chain.lookups,
        state_version = read_version(reader, named.version),
    }
    plan.changes_whole = from.changelog == "whole" or chain.changes or false
    local out = stream_columns(reader, named, entered, declared, from.name)
    for _, join in ipairs(chain.joins) do
        if join.where then
            join.plan.where = note(functions("predicate", join.where, "join where", entered, {
                joined = join_chain.joined(chain, join), joins = chain.items,
            }))
            if join.changes then -- it is judged again when a row goes
                join.plan.condition = function_text.hash(project.infos, join.where)
            end
        end
    end
    for _, copy in ipairs(copies) do
        for _, column in ipairs(copy.join and joins.copied(reader, copy, out) or {}) do
            out[#out + 1] = column
        end
    end
    local retyped = {}
    for _, column in ipairs(out) do
        if column.input and column.map and (column.from.text ~= column.type.text or types.is_nested(column.type)) then
            retyped[#retyped + 1] = column.map
        end
    end
    if map and #copies == 0 and #declared == 0 and not named.columns and #function_check.assigned(map) == 0 then
        reader:error("type", named.map.at, "map has nothing to assign to", 'declare what it adds: columns = { net = "decimal(12,2)" }')
    end
    if only_copies and #retyped == 0 then
        plan.map = json.null
    elseif map or #retyped > 0 then
        plan.map = {
            ["function"] = note(functions("map", map or { fn = nil, at = named.columns.at }, "map", entered, {
                out = declared, retyped = retyped, joined = joined, joins = chain.items, copies = #chain.joins == 0,
            })),
            out = fields_json(declared),
        }
    elseif #declared > 0 then
        for _, column in ipairs(declared) do
            if not naming.column(entered, column.name) then
                reader:error("type", column.at, ("nothing assigns column `%s`"):format(column.name), "add map = function(e, out) … end")
            end
        end
        plan.map = json.null
    else
        plan.map = json.null
    end
    if named.join then
        local passes = {}
        for _, column in ipairs(out) do
            if column.input then
                passes[entered[column.input + 1].name] = true
            end
        end
        for _, item in ipairs(chain.items) do
            note(nil, item.plan.on or item.plan.left_on)
            note(nil, { item.plan.as_of, item.plan.high_column })
        end
        local fields, join_plans = join_chain.finish(reader, chain, passes, not reads_any and reads or nil)
        local input_fields = {}
        for _, list in ipairs { entered, fields or {} } do
            for _, column in ipairs(list) do
                input_fields[#input_fields + 1] = column
            end
        end
        plan.input, plan.joins, plan.entered = fields_json(input_fields), join_plans, chain.entered
    end
    local columns = json.array {}
    for i, column in ipairs(out) do
        columns[i] = {
            name = column.name, type = column.type.text, nullable = column.nullable,
            input = column.input or column.copied and column.copied.plan.column or json.null, map = plan.map ~= json.null and column.map or json.null,
            child = column.copied and column.copied.place and column.copied.place[column.name] or nil,
        }
    end
    plan.columns = columns
    plan.ensures = predicate.list(reader, named.ensures, "ensures", out, of, functions, seen, json.array {}, true)
    plan.quality = json.array {}
    local event_time = has_time and has_time.field
    if time then
        event_time = time.field
    end
    if chain.bounds then
        event_time = nil -- the last moment of the window
    end
    local changes = chain.changes
    local kept = event_time and naming.column(out, event_time)
    local key = named.key and read_key(reader, named.key, out, of)
    plan.into = sinks.of(reader, named.into, out, of, at, {
        key = key, time = kept and not changes and event_time or nil, merges = changes, -- changes are in order
        hint = 'add key = "…" to the stream',
    })
    plan.quarantine = sinks.quarantine(reader, named.quarantine, input, of, at)
    return {
        kind = "stream", name = of, plan = plan, columns = out, seen = seen, functions = functions, late_sets = chain.late_sets,
        changelog = changes and "whole" or not named.dedup and from.changelog or nil,
        steady = not changes and from.changelog == "whole" and (time and time.field ~= "_ingested_at" or not time and from.steady) or nil,
        commands = #chain.joins == 0 and from.commands or nil,
        key = key, looked_up = function() plan.lookup_key = key end,
        remember = not changes and from.changelog ~= "whole" and named.key and not named.explode and naming.column(out, "_change")
            and function() plan.remember = key end or nil,
        time = has_time and { field = kept and types.is_timestamp(kept.type) and event_time or nil } or nil,
    }
end

datasets.adder = adder
datasets.fields_json = fields_json
datasets.read_time = read_time
datasets.read_dedup = read_dedup
datasets.read_version = read_version
datasets.text_of = text_of
datasets.read_columns = read_columns

return datasets
