-- State another version of a rule wrote, as its `migrate` functions read it: by cell a value, a table by field, or a
-- list of them. What is declared as it was has been carried over (operator/rule/rule_migrate.c); functions say what
-- becomes of the rest, one after the other from the version that wrote it to the one at hand.
local ffi = require "ffi"
local time = require "weir.internal.time"
local types = require "weir.internal.types"
local value = require "weir.internal.value"

local rule_migrate = {}

local int64_p, double_p = ffi.typeof "const int64_t *", ffi.typeof "const double *"

-- ---------------------------------------------------------------- an image

local function varint(reader)
    local result, scale = 0, 1
    while true do
        local byte = reader.bytes[reader.at]
        reader.at = reader.at + 1
        if byte < 128 then
            return result + byte * scale
        end
        result, scale = result + (byte - 128) * scale, scale * 128
    end
end

local function word(reader, as)
    local found = ffi.cast(as, reader.bytes + reader.at)[0]
    reader.at = reader.at + 8
    return found
end

local function decimal_of(lo, hi, scale)
    local limit = value.LIMIT
    if (hi == 0 and lo >= 0 and lo < limit) or (hi == -1 and lo < 0 and lo > -limit) then
        return value.Decimal(lo, scale)
    end
    return value.Wide(ffi.cast("uint64_t", lo), hi, scale)
end

local function field_of(reader, t)
    if t.kind == "string" or t.kind == "binary" then
        local length = varint(reader)
        reader.at = reader.at + length
        return ffi.string(reader.bytes + reader.at - length, length)
    elseif types.is_float(t) then
        return word(reader, double_p)
    elseif t.kind == "decimal" then
        local lo = word(reader, int64_p)
        return decimal_of(lo, word(reader, int64_p), t.scale)
    end
    local x = word(reader, int64_p)
    if t.kind == "int64" then
        return value.Int64(x)
    elseif t.kind == "bool" then
        return x ~= 0
    elseif t.kind == "date" then
        return time.Date(tonumber(x))
    elseif t.kind == "timestamp" or t.kind == "timestamp_ntz" then
        return time.Timestamp(x)
    elseif types.is_timestamp(t) then
        return time.TimestampNs(x)
    end
    return tonumber(x)
end

local function record_of(reader, cell)
    local found = {}
    local present = reader.at + 8 -- behind the time of the row that wrote it
    reader.at = present + #cell.fields
    for k, field in ipairs(cell.fields) do
        if reader.bytes[present + k - 1] ~= 0 then
            found[field.name] = field_of(reader, field.type)
        end
    end
    if #cell.fields == 1 and cell.fields[1].name == "value" then
        return found.value
    end
    return found
end

local function cell_of(reader, cell)
    local count = varint(reader)
    if cell.kind == "sketch" then
        reader.at = reader.at + count
        return nil
    end
    local list = {}
    for i = 1, count do
        list[i] = record_of(reader, cell)
    end
    if cell.kind == "value" then
        return list[1]
    elseif cell.kind == "counter" then
        return list[1] or value.Int64(0)
    end
    return list
end

-- ---------------------------------------------------------------- a layout

local layouts = setmetatable({}, { __mode = "v" })
local function layout_of(text)
    local layout = layouts[text]
    if not layout then
        layout = require "weir.native".json_decode(text)
        for _, cell in ipairs(layout.cells) do
            for k, field in ipairs(cell.fields) do
                cell.fields[k] = { name = field[1], type = assert(types.parse(field[2])) }
            end
        end
        layouts[text] = layout
    end
    return layout
end

-- What an image of this layout holds.
function rule_migrate.read(text, image)
    local layout, old = layout_of(text), {}
    local reader = { bytes = image, at = 16 } -- behind the layout's number and the time of the last change
    for _, cell in ipairs(layout.cells) do
        old[cell.name] = cell_of(reader, cell)
    end
    return old
end

-- ---------------------------------------------------------------- the functions

local function call(functions, step, old, s)
    local fn = functions[step]
    if not fn then
        return old
    end
    local ok, made = pcall(fn, old, s)
    if not ok then
        error(("migrate[%d]: %s"):format(step, tostring(made)), 0)
    end
    return type(made) == "table" and made or old
end

-- One function after the other, from the version that wrote `old` to the one at hand.
function rule_migrate.lead(functions, from, version, old, s)
    if from < version then
        for step = from, version - 1 do
            old = call(functions, step, old, s)
        end
    else
        for step = from, version + 1, -1 do
            old = call(functions, -step, old, s)
        end
    end
end

-- functions: by version; version: the rule's. false: it has none.
function rule_migrate.make(functions, version)
    if not functions or next(functions) == nil then
        return false
    end
    return function(h, s)
        local old = rule_migrate.read(ffi.string(h.old_layout), h.old)
        rule_migrate.lead(functions, tonumber(h.old_version), version, old, s)
    end
end

return rule_migrate
