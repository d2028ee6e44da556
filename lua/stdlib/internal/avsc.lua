-- Column names and types of an .avsc file, as runtime/decode/avsc.h maps them: that file judges the
-- schema when the source opens; this one tells the checks what a row holds.
local native = require "weir.native"
local types = require "weir.internal.types"
local json = require "weir.internal.json"

local avsc = {}

local plain = {
    boolean = "bool", int = "int32", long = "int64", float = "float", double = "double", string = "string", bytes = "binary",
    enum = "string", fixed = "binary",
}
local logical = {
    int = { date = "date" },
    long = {
        ["timestamp-millis"] = "timestamp", ["timestamp-micros"] = "timestamp", ["timestamp-nanos"] = "timestamp_ns",
        ["local-timestamp-millis"] = "timestamp_ntz", ["local-timestamp-micros"] = "timestamp_ntz",
        ["local-timestamp-nanos"] = "timestamp_ns_ntz",
    },
}

local read_type

local function read_fields(record, path)
    if type(record.fields) ~= "table" then
        return nil, path .. " has no fields"
    end
    local fields = {}
    for i, field in ipairs(record.fields) do
        if type(field) ~= "table" or type(field.name) ~= "string" then
            return nil, ("%s.fields[%d] has no name"):format(path, i - 1)
        end
        local t, nullable = read_type(field.type, path .. "." .. field.name)
        if not t then
            return nil, nullable
        end
        local default = field.default
        if default == native.null then
            default = json.null
        end
        fields[i] = { name = field.name, type = t, nullable = nullable, default = default ~= nil and json.encode(default) or nil }
    end
    return fields
end

-- The type and whether it may be null; nil and why not.
function read_type(t, path)
    if type(t) == "string" then
        if plain[t] and t ~= "enum" and t ~= "fixed" then
            return types.of(plain[t]), false
        end
        return nil, ("%s: no type is called %q"):format(path, t)
    elseif type(t) ~= "table" then
        return nil, path .. " has no type"
    elseif native.json_is_array(t) then
        if #t == 2 and (t[1] == "null" or t[2] == "null") then
            local inner, why = read_type(t[1] == "null" and t[2] or t[1], path)
            return inner, inner and true or why
        end
        return nil, path .. ': of unions only ["null", T] is a column'
    end
    local kind = t.type
    if type(kind) == "table" then
        return read_type(kind, path)
    elseif kind == "record" then
        local fields, why = read_fields(t, path)
        if not fields then
            return nil, why
        end
        local texts = {}
        for i, field in ipairs(fields) do
            texts[i] = field.name .. ": " .. field.type.text
        end
        return { kind = "struct", fields = fields, text = "struct<" .. table.concat(texts, ", ") .. ">" }, false
    elseif kind == "array" then
        local element, why = read_type(t.items, path .. "[]")
        if not element then
            return nil, why
        end
        return { kind = "list", element = element, text = "list<" .. element.text .. ">" }, false
    elseif kind == "map" then
        local item, why = read_type(t.values, path .. "{}")
        if not item then
            return nil, why
        end
        local key = types.of "string"
        return { kind = "map", key = key, value = item, text = ("map<string, %s>"):format(item.text) }, false
    elseif t.logicalType == "decimal" and (kind == "bytes" or kind == "fixed") then
        local made, why = types.parse(("decimal(%d,%d)"):format(t.precision or 0, t.scale or 0))
        return made, made and false or path .. ": " .. tostring(why)
    elseif kind == "int" and (t.weir == "int8" or t.weir == "int16") then
        return types.of(t.weir), false
    elseif type(kind) == "string" and plain[kind] then
        local special = logical[kind] and logical[kind][t.logicalType]
        return types.of(special or plain[kind]), false
    end
    return nil, ("%s: no type is called %q"):format(path, tostring(kind))
end

-- { { name =, type =, nullable =, default = JSON text or nil } … }; nil and why not.
function avsc.columns(text)
    local record, why = native.json_decode(text)
    if not record then
        return nil, why
    elseif type(record) ~= "table" or record.type ~= "record" then
        return nil, "the top level of a schema is a record"
    end
    return read_fields(record, record.name or "record")
end

return avsc
