-- What sources read from and how it is decoded: options judged here, resolved, and handed to C as JSON.
local native = require "weir.native"
local json = require "weir.internal.json"
local time = require "weir.internal.time"
local reader_module = require "weir.internal.reader"
local types = require "weir.internal.types"

local connectors = {}

local described = reader_module.described

-- option name -> how it is read
local option_forms = {
    generator = {
        seed = "count", count = "count", rate = "number", start = "time", per_second = "number", defects = "ratio", late_s = "number",
    },
    files = { path = "path", partitions = "later" },
    json = { schema = "path" },
}

local function read_option(project, reader, form, field, what)
    local x = reader:resolve(field.value, field.value_at)
    if x == nil then
        return nil
    end
    -- env and --set give texts.
    if type(x) == "string" and (form == "count" or form == "number" or form == "ratio") and tonumber(x) then
        x = tonumber(x)
    end
    if form == "path" then
        if type(x) ~= "string" or x == "" then
            reader:error("type", field.value_at, ("%s takes a path, not %s"):format(what, described(x)))
            return nil
        end
        return project.path(x)
    elseif form == "time" then
        if type(x) ~= "string" or not time.parse_timestamp(x) then
            reader:error("type", field.value_at, ('%s takes a time such as "2026-01-05T06:00:00Z", not %s'):format(what, described(x)))
            return nil
        end
        return x
    end
    if type(x) ~= "number" or x ~= x or x < 0 or form == "count" and x % 1 ~= 0 or form == "ratio" and x > 1 then
        local wanted = form == "count" and "a whole number from 0" or form == "ratio" and "a number from 0 to 1" or "a number from 0"
        reader:error("type", field.value_at, ("%s takes %s, not %s"):format(what, wanted, described(x)))
        return nil
    end
    return x
end

local function read_options(project, reader, part)
    local node = part.node
    local forms = option_forms[node.word]
    local known = {}
    for name, form in pairs(forms) do
        known[name] = form == "later" and "later" or true
    end
    local options = {}
    if not node.body then
        reader:left_open(node.args and node or { word = node.word }, part.at)
        return options, {}
    end
    local named = reader:options(node.body, part.at, known, node.word, false)
    for name, field in pairs(named) do
        options[name] = read_option(project, reader, forms[name], field, node.word .. "." .. name)
    end
    return options, named
end

-- Columns as native gives them, their type texts parsed.
local function typed(columns)
    for _, column in ipairs(columns) do
        column.type = types.of(column.type)
    end
    return columns
end

-- The schema file's columns; nil after a complaint.
local function schema_columns(project, reader, path, at)
    local text, why = native.read_file(path)
    if not text then
        reader:error("schema", at, ("cannot read the schema %s: %s"):format(path, tostring(why)), "relative paths start at the project root")
        return nil
    end
    project.remember_file(path, text)
    local columns
    columns, why = native.avsc(text, path)
    if not columns then
        reader:error("schema", at, tostring(why))
        return nil
    end
    return typed(columns)
end

-- The plan's connector and decoder, and the columns; columns nil after a complaint.
function connectors.source(project, reader, node, at, connector, decoder)
    local options, named = read_options(project, reader, connector)
    local made = { connector = { kind = connector.node.word, options = options }, decoder = json.null }
    if connector.node.word == "generator" then
        if decoder then
            reader:error("type", decoder.at, "the generator makes columns itself and takes no decoder")
        end
        return made, typed(native.source_columns "generator")
    end
    if not named.path then
        reader:error("type", connector.at, "files says which", 'files { path = "landing/pos_sale/*.jsonl" }')
    end
    if not decoder then
        for _, field in ipairs(reader:fields(node.body, at)) do
            if type(field.value) == "table" and field.value.later then
                return made, nil -- refused by name already
            end
        end
        reader:error("type", connector.at, "files need a decoder", 'add json { schema = "schemas/pos_sale.avsc" }')
        return made, nil
    end
    local decoder_options, decoder_named = read_options(project, reader, decoder)
    made.decoder = { kind = decoder.node.word, options = decoder_options }
    if not decoder_named.schema then
        reader:error("type", decoder.at, "json needs a schema", 'json { schema = "schemas/pos_sale.avsc" }')
        return made, nil
    elseif not decoder_options.schema then
        return made, nil
    end
    return made, schema_columns(project, reader, decoder_options.schema, decoder_named.schema.value_at)
end

return connectors
