-- Where the rows of a dataset go: `into` and `quarantine` of a declaration, as SINK of the plan.
local connectors = require "weir.internal.connectors"
local json = require "weir.internal.json"
local naming = require "weir.internal.naming"
local predicate = require "weir.internal.predicate"
local types = require "weir.internal.types"
local words = require "weir.internal.words"

local sinks = {}

local delta_options = {
    mode = true, partition_by = true, properties = true, z_order_by = true, layout = true, compression = "later", every = "later", path = "later",
    target_file_size = true, keep = true, compact = true, vacuum = true, overwrite = true, tier_to = true, tier_after = true,
}

-- SINK of a kind C knows. `columns` nil: not known here.
local function other_sink(reader, node, field, columns, of)
    local at = reader:place_of(node, field.value_at)
    local options, named = connectors.options(reader.project, reader, "sinks", { node = node, at = at })
    for _, name in ipairs(columns and connectors.column_options("sinks", node.word) or {}) do
        for _, item in ipairs(named[name] and reader:names(named[name], name) or {}) do
            predicate.column(reader, columns, item.name, item.at, of)
        end
    end
    return { kind = node.word, options = options }
end

-- `mode` of a table: "append", or "merge" by the key of the dataset.
local function read_mode(reader, field, merge)
    local mode = reader:want(field, "string", "mode", '"append" or "merge"')
    if mode and mode ~= "append" and mode ~= "merge" then
        reader:error("type", field.value_at, ("no mode is called %q"):format(mode), 'it is "append" or "merge"')
    elseif mode == "merge" and not merge.key then
        reader:error("type", field.value_at, 'mode = "merge" needs to know which rows are the same', merge.hint)
    end
    return mode == "merge" and merge.key and "merge" or "append"
end

-- Table properties: texts under names with dots.
local function read_properties(reader, field)
    if not field then
        return nil
    end
    local texts = {}
    if type(field.value) ~= "table" or getmetatable(field.value) ~= nil then
        reader:error("type", field.value_at, "properties is a table of texts", 'properties = { ["delta.enableDeletionVectors"] = "true" }')
        return nil
    end
    for name, value in pairs(field.value) do
        if type(name) ~= "string" or type(value) == "table" then
            reader:error("type", field.value_at, "properties is a table of texts", 'properties = { ["delta.enableDeletionVectors"] = "true" }')
            return nil
        end
        texts[name] = tostring(value)
    end
    return next(texts) and texts or nil
end

-- A second store for old files, into SINK.
local function read_tier(reader, named, sink)
    local to = reader:want(named.tier_to, "string", "tier_to", "a folder or a URL")
    local after = reader:duration(named.tier_after, "tier_after")
    if to and after then
        sink.tier_to, sink.tier_us = reader.project.path(to), after
    elseif to or after then
        reader:error("type", (named.tier_to or named.tier_after).value_at, "tier_to and tier_after go together",
            'tier_to = "s3://bucket/cold", tier_after = "90d"')
    end
end

-- How a table is kept in order while the pipeline runs, into SINK.
local function read_upkeep(reader, named, sink, columns, time)
    local compact, vacuum = reader:want(named.compact, "boolean", "compact", "true or false"), reader:want(named.vacuum, "boolean", "vacuum", "true or false")
    if compact == false then
        sink.compact = false
    end
    if vacuum == false then
        sink.vacuum = false
    end
    local size = reader:size(named.target_file_size, "target_file_size")
    if size and size < 1048576 then
        reader:error("type", named.target_file_size.value_at, "files are of 1MB or more")
    elseif size then
        sink.target_bytes = size
    end
    sinks.keep(reader, named.keep, sink, columns, time)
end

-- How long rows are kept, into SINK. Rows are as old as `time`, the column the declaration says, tells; without one, as the day or hour they are
-- partitioned by, their window, or when they were read.
function sinks.keep(reader, field, sink, columns, time)
    local keep = reader:duration(field, "keep")
    if not keep then
        return
    end
    for _, part in ipairs(sink.partition_by) do
        time = time or part.date or part.hour
    end
    for _, name in ipairs { "window_start", "_ingested_at" } do
        time = time or naming.column(columns or {}, name) and name
    end
    if not time then
        reader:error("type", field.value_at, "keep needs to know how old a row is",
            'add time = { field = "…" } to the stream, or partition_by = { date "…" }')
    elseif keep < 60000000 then
        reader:error("type", field.value_at, "rows are kept for a minute or more")
    else
        sink.keep_us, sink.keep_by = keep, time
    end
end

-- partition_by: columns, date "column", hour "column".
local function read_partitions(reader, field, columns, of)
    local parts, items = json.array {}, {}
    local x = field and field.value
    if type(x) == "table" and getmetatable(x) == nil then
        items = reader:fields(x, field.value_at)
    elseif field then
        items[1] = { key = 1, value = x, at = field.at, value_at = field.value_at }
    end
    for _, item in ipairs(items) do
        local name, part = item.value, "column"
        if words.is_node(name) and (name.word == "date" or name.word == "hour") then
            name, part = name.args[1], name.word
        end
        if type(name) ~= "string" then
            reader:error("type", item.value_at, 'partition_by takes columns, date "column" or hour "column"')
        else
            local column = predicate.column(reader, columns, name, part == "column" and item.value_at or reader:argument_at(item.value_at, 1), of)
            if column and part ~= "column" and not types.is_timestamp(column.type) and column.type.kind ~= "date" then
                reader:error("type", item.value_at, ("%s takes a time; `%s` is %s"):format(part, name, column.type.text))
            elseif column and (types.is_nested(column.type) or column.type.kind == "binary") then
                reader:error("type", item.value_at, ("a table is not partitioned by a column of type %s"):format(column.type.text))
            end
            parts[#parts + 1] = { [part] = name }
        end
    end
    return parts
end

-- In which order files that are put together hold their rows, into SINK.
local function read_layout(reader, named, sink, columns, of)
    local layout = reader:want(named.layout, "string", "layout", '"direct_lake"')
    if layout and layout ~= "direct_lake" then
        reader:error("type", named.layout.value_at, ("no layout is called %q"):format(layout), 'it is "direct_lake"; or say z_order_by = { "column" }')
        return
    elseif layout and named.z_order_by then
        reader:error("type", named.z_order_by.value_at, 'layout = "direct_lake" has an order of its own', "leave one of the two out")
        return
    end
    local apart, order = {}, json.array {}
    for _, part in ipairs(sink.partition_by) do
        apart[part.column or ""] = true
    end
    for _, item in ipairs(reader:names(named.z_order_by, "z_order_by") or {}) do
        local column = predicate.column(reader, columns, item.name, item.at, of)
        if column and apart[item.name] then
            reader:error("type", item.at, ("`%s` is in partition_by: files are apart by it already"):format(item.name))
        elseif column and (types.is_nested(column.type) or column.type.kind == "bool" or column.type.kind == "binary") then
            reader:error("type", item.at, ("a table is not ordered by a column of type %s"):format(column.type.text))
        elseif #order == 8 then
            reader:error("type", item.at, "a table is ordered by 8 columns at most", "two or three keep files narrow")
        end
        order[#order + 1] = item.name
    end
    if sink.compact == false and (layout or #order > 0) then
        reader:error("type", (named.layout or named.z_order_by).value_at, "rows are put in order where files are put together", "leave compact = false out")
    end
    sink.layout, sink.z_order_by = layout, #order > 0 and order or nil
end

-- What Delta takes for the name of a column: told here, before a first row does.
local function check_names(reader, columns, what, at)
    local taken = {}
    local function refuse(column, text)
        reader:error("name", column.at or at, what .. " cannot have " .. text,
            column.at and "name it otherwise" or ('name the field otherwise in the schema, and say "aliases": [%q] there'):format(column.name))
    end
    for _, column in ipairs(columns) do
        local name, lower = column.name, column.name:lower()
        if name == "" or name:find "[ ,;{}()=\t\n]" then
            refuse(column, ("a column `%s`: in names of a Delta table there is no space and none of ,;{}()="):format(name))
        elseif taken[lower] and taken[lower] ~= name then
            refuse(column, ("the columns `%s` and `%s`: Delta compares names without case"):format(taken[lower], name))
        end
        taken[lower] = name
    end
end

local APPEND_ONLY = { hint = 'give a stream a key = "…"; a source appends' }

-- SINK of an `into`; json.null for none. Where nothing is said: a table, if there is a place for tables. `merge` says by which columns rows may
-- be merged and which time makes one newer: { key =, time =, hint = what to add where there is no key }.
function sinks.of(reader, field, columns, of, at, merge)
    if not field and reader.project.without_tables then
        reader:error("type", at, ("there is no storage for a table of `%s`"):format(of),
            'say where it goes: into = kafka { … } or none; or storage = delta { root = "data/lake" } in the pipeline')
        return json.null
    elseif not field then
        if merge and merge.merges and not merge.key then
            reader:error("type", at, ("the rows of `%s` change, and a table of them needs to know which are the same"):format(of), merge.hint)
        end
        local merges = merge and merge.merges and merge.key
        check_names(reader, columns, ("the table of `%s`"):format(of), at)
        return { kind = "delta", mode = merges and "merge" or "append", key = merges or nil, partition_by = json.array {} }
    end
    local node = reader:node(field, "into", "delta", "none", unpack(connectors.names "sinks"))
    if not node then
        return json.null
    elseif node.word == "none" then
        return json.null
    elseif connectors.is("sinks", node.word) then
        return other_sink(reader, node, field, columns, of)
    elseif not node.body then
        reader:left_open({ word = "delta" }, field.value_at)
        return json.null
    elseif reader.project.without_tables then
        reader:error("type", field.value_at, "the pipeline has no storage for tables", 'add storage = delta { root = "data/lake" } to it')
    end
    at = reader:place_of(node, field.value_at)
    local named = reader:options(node.body, at, delta_options, "delta", false)
    merge = merge or APPEND_ONLY
    local mode = read_mode(reader, named.mode, merge)
    if merge.merges and not named.mode and merge.key then
        mode = "merge"
    end
    local sink = {
        kind = "delta", mode = mode,
        partition_by = read_partitions(reader, named.partition_by, columns, of),
        properties = read_properties(reader, named.properties),
    }
    if mode == "merge" then
        sink.key, sink.time = merge.key, merge.time
    end
    sink.overwrite = reader:want(named.overwrite, "string", "overwrite", 'a predicate on partitions, such as "day = \'2026-11-01\'"')
    if sink.overwrite and mode == "merge" then
        reader:error("type", named.overwrite.value_at, "a table that is merged into is kept true by key", "leave overwrite out")
    elseif sink.overwrite and #sink.partition_by == 0 then
        reader:error("type", named.overwrite.value_at, "overwrite picks out partitions", 'add partition_by = { "column" }')
    end
    read_upkeep(reader, named, sink, columns, merge.time)
    read_tier(reader, named, sink)
    read_layout(reader, named, sink, columns, of)
    check_names(reader, columns, ("the table of `%s`"):format(of), field.value_at)
    return sink
end

-- SINK of rejected rows where a declaration says it; nil where the pipeline's (a table each) holds. `none`: they are counted only. `input`: the
-- columns of what `of` reads, which a table of its rejects has.
function sinks.quarantine(reader, field, input, of, at)
    if not field then
        if input and not reader.project.rejects_elsewhere then
            check_names(reader, input, ("the quarantine of `%s`, which holds rows as they enter,"):format(of), at)
        end
        return nil
    end
    local node = reader:node(field, "quarantine", "none", unpack(connectors.names "sinks"))
    if node and connectors.is("sinks", node.word) then
        return other_sink(reader, node, field)
    end
    return node and { kind = "none" } or nil
end

return sinks
