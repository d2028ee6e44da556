-- Column types as analysts write them: "int64", "decimal(12,2)", "list<string>",
-- "struct<a: int64, b: string>", "map<string, int32>". Parsed once into plain tables.
local types = {}

local simple = {}
for _, name in ipairs {
    "bool", "int8", "int16", "int32", "int64", "float", "double", "string", "binary", "date",
    "timestamp", "timestamp_ntz", "timestamp_ns", "timestamp_ns_ntz",
} do
    simple[name] = { kind = name, text = name }
end

types.names = {
    "bool", "int8", "int16", "int32", "int64", "float", "double", "decimal", "string", "binary", "date",
    "timestamp", "timestamp_ntz", "timestamp_ns", "timestamp_ns_ntz", "list", "struct", "map",
}

-- Range of the whole-number types that are Lua numbers.
types.range = {
    int8 = { -128, 127 },
    int16 = { -32768, 32767 },
    int32 = { -2147483648, 2147483647 },
}

local MAX_DEPTH = 32

local parse

local function space(text, at)
    return text:match("^%s*()", at)
end

local function expect(text, at, char)
    at = space(text, at)
    if text:sub(at, at) ~= char then
        return nil, ("expected `%s` at %d of %q"):format(char, at, text)
    end
    return at + 1
end

function parse(text, at, depth)
    if depth > MAX_DEPTH then
        return nil, "type nested too deep"
    end
    at = space(text, at)
    local name, after = text:match("^([%a_][%w_]*)()", at)
    if not name then
        return nil, ("expected a type at %d of %q"):format(at, text)
    end
    if simple[name] then
        return simple[name], after
    elseif name == "decimal" then
        local p, s, next_at = text:match("^%s*%(%s*(%d+)%s*,%s*(%-?%d+)%s*%)()", after)
        if not p then
            return nil, 'a decimal says its digits, as "decimal(12,2)"'
        end
        p, s = tonumber(p), tonumber(s)
        if p < 1 or p > 38 or s < 0 or s > p then
            return nil, ("decimal(%d,%d): precision 1 to 38, scale 0 to the precision"):format(p, s)
        end
        return { kind = "decimal", precision = p, scale = s, text = ("decimal(%d,%d)"):format(p, s) }, next_at
    elseif name == "list" then
        local why, element
        at, why = expect(text, after, "<")
        if not at then
            return nil, why
        end
        element, at = parse(text, at, depth + 1)
        if not element then
            return nil, at
        end
        at, why = expect(text, at, ">")
        if not at then
            return nil, why
        end
        return { kind = "list", element = element, text = "list<" .. element.text .. ">" }, at
    elseif name == "map" then
        local why, key, item
        at, why = expect(text, after, "<")
        if not at then
            return nil, why
        end
        key, at = parse(text, at, depth + 1)
        if not key then
            return nil, at
        end
        at, why = expect(text, at, ",")
        if not at then
            return nil, why
        end
        item, at = parse(text, at, depth + 1)
        if not item then
            return nil, at
        end
        at, why = expect(text, at, ">")
        if not at then
            return nil, why
        end
        return { kind = "map", key = key, value = item, text = ("map<%s, %s>"):format(key.text, item.text) }, at
    elseif name == "struct" then
        local why
        at, why = expect(text, after, "<")
        if not at then
            return nil, why
        end
        local fields, texts = {}, {}
        repeat
            local field, colon = text:match("^%s*([%w_]+)%s*:()", at)
            if not field then
                return nil, ("expected `name: type` at %d of %q"):format(at, text)
            end
            local inner
            inner, at = parse(text, colon, depth + 1)
            if not inner then
                return nil, at
            end
            fields[#fields + 1] = { name = field, type = inner, nullable = true }
            texts[#texts + 1] = field .. ": " .. inner.text
            at = space(text, at)
            local separator = text:sub(at, at)
            at = at + 1
        until separator ~= ","
        at = at - 1
        at, why = expect(text, at, ">")
        if not at then
            return nil, why
        end
        return { kind = "struct", fields = fields, text = "struct<" .. table.concat(texts, ", ") .. ">" }, at
    end
    return nil, nil, name
end

-- The type, or nil, why not, and the unknown word when that is what is wrong.
function types.parse(text)
    local t, at, unknown = parse(text, 1, 0)
    if not t then
        return nil, at or ("no type is called `%s`"):format(unknown), unknown
    end
    if space(text, at) ~= #text + 1 then
        return nil, ("%q goes on after the type %s"):format(text, t.text)
    end
    return t
end

function types.of(text)
    return assert(types.parse(text))
end

function types.decimal(precision, scale)
    return { kind = "decimal", precision = precision, scale = scale, text = ("decimal(%d,%d)"):format(precision, scale) }
end

function types.is_small_int(t)
    return types.range[t.kind] ~= nil
end

function types.is_int(t)
    return types.range[t.kind] ~= nil or t.kind == "int64"
end

function types.is_float(t)
    return t.kind == "float" or t.kind == "double"
end

function types.is_numeric(t)
    return types.is_int(t) or types.is_float(t) or t.kind == "decimal"
end

function types.is_timestamp(t)
    return t.kind:match "^timestamp" ~= nil
end

function types.is_nested(t)
    return t.kind == "list" or t.kind == "struct" or t.kind == "map"
end

-- What a measure of this kind over a column of type `t` gives; nil and why when it cannot.
function types.measure(kind, t)
    if kind == "count" then
        return simple.int64
    elseif kind == "distinct" or kind == "approx_distinct" then
        if types.is_nested(t) then
            return nil, "distinct needs a column of a plain type"
        end
        return simple.int64
    elseif kind == "sum" then
        if types.is_int(t) then
            return simple.int64
        elseif t.kind == "decimal" then
            return types.decimal(38, t.scale)
        elseif types.is_float(t) then
            return simple.double
        end
        return nil, "sum needs a number"
    elseif kind == "avg" or kind == "median" then
        if types.is_int(t) then
            return types.decimal(38, 6)
        elseif t.kind == "decimal" then
            return types.decimal(38, math.max(6, t.scale))
        elseif types.is_float(t) then
            return simple.double
        end
        return nil, kind .. " needs a number"
    elseif kind == "variance" or kind == "stddev" or kind == "approx_quantile" then
        if not types.is_numeric(t) then
            return nil, kind .. " needs a number"
        end
        return simple.double
    elseif kind == "first" or kind == "last" or kind == "arg_max" or kind == "arg_min" then
        if types.is_nested(t) then
            return nil, kind .. " needs a column of a plain type"
        end
        return t
    elseif kind == "top_k" or kind == "collect" then
        if types.is_nested(t) then
            return nil, kind .. " needs a column of a plain type"
        end
        return types.of((kind == "top_k" and "list<struct<value: %s, count: int64>>" or "list<%s>"):format(t.text))
    elseif kind == "min" or kind == "max" or kind == "quantile" then
        if types.is_nested(t) or t.kind == "binary" then
            return nil, kind .. " needs a column whose values are ordered"
        end
        return t
    end
    return nil, "no measure is called " .. tostring(kind)
end

return types
