-- What a function says, as a text that is the same as long as it says the same: its tree without places, comments and spaces, and what it has
-- from around it: constants, tables of them, other functions. For what is kept by a function's word and has to be another thing once the word is.
local native = require "weir.native"
local syntax = require "weir.internal.syntax"

local function_text = {}

local places = {
    line = true, col = true, first = true, last = true, last_line = true, id = true, key_line = true, key_col = true,
    upvalues = true, globals = true, parent_call = true, enclosing = true,
}

local function sorted_keys(t, skipped)
    local keys = {}
    for k in pairs(t) do
        if not skipped[k] then
            keys[#keys + 1] = k
        end
    end
    table.sort(keys, function(a, b)
        if type(a) ~= type(b) then
            return type(a) < type(b)
        end
        return a < b
    end)
    return keys
end

local function scalar(x)
    return type(x) == "number" and ("%.17g"):format(x) or type(x) == "string" and ("%q"):format(x) or tostring(x)
end

local function put_tree(out, node)
    out[#out + 1] = "{"
    for _, k in ipairs(sorted_keys(node, places)) do
        local child = node[k]
        out[#out + 1] = scalar(k) .. "="
        if type(child) == "table" then
            put_tree(out, child)
        else
            out[#out + 1] = scalar(child) .. ";"
        end
    end
    out[#out + 1] = "}"
end

local put_value

local function put_function(out, infos, fn, node, seen)
    local where = debug.getinfo(fn, "S")
    local info = infos[(where.source:gsub("^@", ""))]
    node = node or info and syntax.function_of(info, fn)
    if not info then -- of the language itself
        out[#out + 1] = "native;"
        return
    elseif not node then -- not known from another on its lines
        out[#out + 1] = native.hash(info.source) .. ";"
    else
        put_tree(out, node)
    end
    for i = 1, math.huge do
        local name, x = debug.getupvalue(fn, i)
        if not name then
            break
        end
        out[#out + 1] = name .. "="
        put_value(out, infos, x, info, seen)
    end
end

function put_value(out, infos, x, info, seen)
    if type(x) == "function" or type(x) == "table" then
        if seen[x] then
            out[#out + 1] = ("<%d>"):format(seen[x])
            return
        end
        seen.count = seen.count + 1
        seen[x] = seen.count
    end
    if type(x) == "function" then
        put_function(out, infos, x, nil, seen)
    elseif type(x) == "table" and getmetatable(x) == nil then
        out[#out + 1] = "{"
        local plain = true
        for k in pairs(x) do
            plain = plain and (type(k) == "string" or type(k) == "number")
        end
        for _, k in ipairs(plain and sorted_keys(x, {}) or {}) do
            out[#out + 1] = scalar(k) .. "="
            put_value(out, infos, x[k], info, seen)
        end
        out[#out + 1] = plain and "}" or native.hash(info.source) .. "}"
    elseif type(x) == "number" or type(x) == "string" or type(x) == "boolean" or x == nil then
        out[#out + 1] = scalar(x) .. ";"
    else -- a value of the language's own: the file says which
        out[#out + 1] = native.hash(info.source) .. ";"
    end
end

-- 32 hex digits. `infos`: the project's files; `f`: { fn, node } as Reader:func gives it.
function function_text.hash(infos, f)
    local out = {}
    put_function(out, infos, f.fn, f.node, { count = 0 })
    return native.hash(table.concat(out))
end

return function_text
