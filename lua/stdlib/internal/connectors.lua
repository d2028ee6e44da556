-- What sources read from, how it is decoded, where sinks write: options judged here by the tables C
-- gives (native.connectors), resolved, and handed back to C as JSON.
local native = require "weir.native"
local diagnostic = require "weir.internal.diagnostic"
local json = require "weir.internal.json"
local time = require "weir.internal.time"
local reader_module = require "weir.internal.reader"
local types = require "weir.internal.types"
local words = require "weir.internal.words"

local connectors = {}

local described = reader_module.described
local kinds = native.connectors()

-- Sorted names of one role: "sources", "decoders", "sinks".
function connectors.names(role)
    local names = {}
    for name in pairs(kinds[role]) do
        names[#names + 1] = name
    end
    table.sort(names)
    return names
end

function connectors.is(role, name)
    return kinds[role][name] ~= nil
end

-- ---------------------------------------------------------------- forms of options

local wanted = {
    text = "a text", count = "a whole number from 0", number = "a number from 0", ratio = "a number from 0 to 1",
    flag = "true or false", time = 'a time such as "2026-01-05T06:00:00Z"', path = "a path", file = "a path",
    texts = "a text or a list of texts", settings = "a table of settings", data = "texts, numbers, booleans and tables of them",
    secret = 'env "NAME" or { file = "path" }; a secret is not written into a file of rules',
}

-- Plain data, resolved; nil where it holds anything else.
local function plain(reader, x, at)
    x = reader:resolve(x, at)
    if type(x) ~= "table" or getmetatable(x) ~= nil then
        local known = type(x) == "string" or type(x) == "number" or type(x) == "boolean"
        if known then
            return x -- false is a value, too
        end
        return nil
    end
    local out, list = {}, #x > 0
    for key, value in pairs(x) do
        value = plain(reader, value, at)
        if value == nil or type(key) ~= (list and "number" or "string") then
            return nil
        end
        out[key] = value
    end
    return list and json.array(out) or out
end

-- What weir_secret_resolve takes; nil where it is none.
local function secret(reader, project, x)
    if getmetatable(x) == words.Placeholder then
        if x.parts then
            local parts = json.array {}
            for i, part in ipairs(x.parts) do
                parts[i] = type(part) == "string" and part or secret(reader, project, part)
            end
            return #parts == 2 and { parts = parts } or nil
        end
        return type(x.variable) == "string" and { env = x.variable, default = x.default } or nil
    end
    return type(x) == "table" and getmetatable(x) == nil and type(x.file) == "string" and { file = project.path(x.file) } or nil
end

-- Each takes the resolved value and answers what C gets, nil where it does not fit.
local read = {}

function read.text(x)
    return type(x) == "string" and x or nil
end
function read.number(x)
    x = type(x) == "string" and tonumber(x) or x -- env and --set give texts
    return type(x) == "number" and x == x and x >= 0 and x or nil
end
function read.count(x)
    x = read.number(x)
    return x and x % 1 == 0 and x or nil
end
function read.ratio(x)
    x = read.number(x)
    return x and x <= 1 and x or nil
end
function read.flag(x)
    if x == "true" or x == "false" then
        return x == "true"
    end
    if type(x) == "boolean" then
        return x -- `and … or nil` would lose false
    end
    return nil
end
function read.time(x)
    return type(x) == "string" and time.parse_timestamp(x) and x or nil
end
function read.path(x, _, project)
    return type(x) == "string" and x ~= "" and project.path(x) or nil
end
function read.file(x, _, project)
    return read.path(x, nil, project)
end
function read.texts(x, field, _, reader)
    if type(x) == "string" then
        return json.array { x }
    end
    x = plain(reader, x, field.value_at)
    for _, text in ipairs(type(x) == "table" and x or { 0 }) do
        if type(text) ~= "string" then
            return nil
        end
    end
    return x
end
function read.settings(x, field, _, reader)
    x = plain(reader, x, field.value_at)
    if type(x) ~= "table" then
        return nil
    end
    local texts = {}
    for key, value in pairs(x) do
        if type(key) ~= "string" or type(value) == "table" then
            return nil
        end
        texts[key] = type(value) == "number" and json.encode(value) or tostring(value)
    end
    return texts
end
function read.data(x, field, _, reader)
    return plain(reader, x, field.value_at)
end

local function read_option(project, reader, option, field, what)
    if option.form == "duration" then
        return reader:duration(field, what)
    elseif option.form == "bytes" then
        return reader:size(field, what)
    elseif option.form == "columns" then
        local names = reader:names(field, what)
        local list = json.array {}
        for i, name in ipairs(names or {}) do
            list[i] = name.name
        end
        return names and list or nil
    end
    local x, value = field.value
    if option.form == "secret" then
        value = secret(reader, project, x)
    else
        x = reader:resolve(x, field.value_at)
        if x == nil then
            return nil
        end
        value = read[option.form](x, field, project, reader)
    end
    if value == nil then
        reader:error("type", field.value_at, ("%s takes %s, not %s"):format(what, wanted[option.form],
            option.form == "secret" and type(x) == "string" and "a text" or described(x)))
    elseif option.choices then
        for _, choice in ipairs(option.choices) do
            if choice == value then
                return value
            end
        end
        reader:error("type", field.value_at, ("%s is one of %s, not %q"):format(what, table.concat(option.choices, ", "), value),
            diagnostic.did_you_mean(value, option.choices))
        return nil
    end
    return value
end

-- The options of `kafka { … }` as C gets them, and where each was written. `role` is "sources",
-- "decoders", "sinks" or "stores"; `own` names options the caller reads itself.
function connectors.options(project, reader, role, part, own)
    local node = part.node
    local known, options = {}, {}
    for name in pairs(own or {}) do
        known[name] = true
    end
    for _, option in ipairs(kinds[role][node.word].options) do
        known[option.name] = true
    end
    if not node.body then
        reader:left_open(node.args and node or { word = node.word }, part.at)
        return options, {}, false
    end
    local named = reader:options(node.body, part.at, known, node.word, false)
    local whole = true
    for _, option in ipairs(kinds[role][node.word].options) do
        local field = named[option.name]
        if field then
            options[option.name] = read_option(project, reader, option, field, node.word .. "." .. option.name)
            whole = whole and options[option.name] ~= nil
        elseif option.required then
            whole = false
            reader:error("type", part.at, ("%s needs `%s`"):format(node.word, option.name),
                option.example and ("%s { %s = %s }"):format(node.word, option.name, option.example) or nil)
        end
        if options[option.name] and option.form == "file" then
            local text, why = native.read_file(options[option.name])
            if text then
                project.remember_file(options[option.name], text)
            else
                whole = false
                reader:error("schema", field.value_at, ("cannot read %s %s: %s"):format("the " .. option.name, options[option.name], tostring(why)),
                    "relative paths start at the project root")
            end
        end
    end
    return options, named, whole
end

local asked = { token = { name = "token", form = "secret" }, headers = { name = "headers", form = "settings" }, ca = { name = "ca", form = "path" } }

-- Those of async_lookup that say who asks: `token`, `headers`, `ca`.
function connectors.secret_options(project, reader, named)
    local options = {}
    for name, option in pairs(asked) do
        options[name] = named[name] and read_option(project, reader, option, named[name], name)
    end
    return options
end

-- Names of the options that name columns.
function connectors.column_options(role, kind)
    local names = {}
    for _, option in ipairs(kinds[role][kind].options) do
        if option.form == "columns" then
            names[#names + 1] = option.name
        end
    end
    return names
end

-- ---------------------------------------------------------------- sources

-- Columns as native gives them, their type texts parsed.
local function typed(columns)
    for _, column in ipairs(columns) do
        column.type = types.of(column.type)
    end
    return columns
end

-- The plan's connector and decoder, and the columns; columns nil after a complaint.
function connectors.source(project, reader, node, at, connector, decoder)
    local kind = connector.node.word
    local options, written, whole = connectors.options(project, reader, "sources", connector)
    local made = { connector = { kind = kind, options = options }, decoder = json.null }
    if not kinds.sources[kind].needs_decoder then
        if decoder then
            reader:error("type", decoder.at, ("the %s makes columns itself and takes no decoder"):format(kind))
        end
        if not whole then
            return made, nil
        end
        local columns, why, environment = native.source_columns(kind, json.encode(options))
        if not columns then
            project.environment_at_fault = project.environment_at_fault or environment
            reader:error(environment and "environment" or "schema", written.path and written.path.value_at or connector.at, tostring(why))
        end
        return made, columns and typed(columns)
    end
    if not decoder then
        for _, field in ipairs(reader:fields(node.body, at)) do
            if type(field.value) == "table" and field.value.later then
                return made, nil -- refused by name already
            end
        end
        reader:error("type", connector.at, kind .. " needs a decoder",
            ('put one behind it: %s { … }, json { schema = "schemas/pos_sale.avsc" }'):format(kind))
        return made, nil
    end
    local word = decoder.node.word
    local decoder_options, named, decoder_whole = connectors.options(project, reader, "decoders", decoder)
    made.decoder = { kind = word, options = decoder_options }
    if not whole or not decoder_whole then
        return made, nil
    end
    local columns, why, environment = native.decoder_columns(word, json.encode(decoder_options), kind, json.encode(options), node.name)
    if not columns then
        project.environment_at_fault = project.environment_at_fault or environment
        reader:error(environment and "environment" or "schema", named.schema and named.schema.value_at or decoder.at, tostring(why))
        return made, nil
    end
    return made, typed(columns)
end

return connectors
