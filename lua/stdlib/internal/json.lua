-- A deterministic JSON writer for the plan: keys sorted, arrays said aloud. Reading is native.json_decode.
local native = require "weir.native"

local json = {}

local null = setmetatable({}, {
    __tostring = function()
        return "null"
    end,
})
local Array = {}
json.null = null

-- Marks t as an array, so that an empty one is written [].
function json.array(t)
    return setmetatable(t or {}, Array)
end

local quote = native.json_quote

local function number(x)
    if x ~= x or x == math.huge or x == -math.huge then
        error("JSON has no " .. tostring(x), 3)
    end
    if x == math.floor(x) and x > -1e15 and x < 1e15 then
        return ("%d"):format(x)
    end
    local text = ("%.15g"):format(x)
    return tonumber(text) == x and text or ("%.17g"):format(x)
end

local write

local function write_object(t, out, indent)
    local keys = {}
    for k in pairs(t) do
        keys[#keys + 1] = k
    end
    if #keys == 0 then
        out[#out + 1] = "{}"
        return
    end
    table.sort(keys)
    local inner = indent and indent .. "  "
    out[#out + 1] = "{"
    for i, k in ipairs(keys) do
        out[#out + 1] = (i > 1 and "," or "") .. (indent and "\n" .. inner or "")
        out[#out + 1] = quote(k) .. (indent and ": " or ":")
        write(t[k], out, inner)
    end
    out[#out + 1] = (indent and "\n" .. indent or "") .. "}"
end

local function write_array(t, out, indent)
    if #t == 0 then
        out[#out + 1] = "[]"
        return
    end
    local inner = indent and indent .. "  "
    out[#out + 1] = "["
    for i = 1, #t do
        out[#out + 1] = (i > 1 and "," or "") .. (indent and "\n" .. inner or "")
        write(t[i], out, inner)
    end
    out[#out + 1] = (indent and "\n" .. indent or "") .. "]"
end

function write(v, out, indent)
    local kind = type(v)
    if v == nil or v == null then
        out[#out + 1] = "null"
    elseif kind == "string" then
        out[#out + 1] = quote(v)
    elseif kind == "number" then
        out[#out + 1] = number(v)
    elseif kind == "boolean" then
        out[#out + 1] = v and "true" or "false"
    elseif kind == "table" then
        if getmetatable(v) == Array or #v > 0 then
            write_array(v, out, indent)
        else
            write_object(v, out, indent)
        end
    else
        error("JSON has no " .. kind, 2)
    end
end

-- One line, or indented when `pretty`.
function json.encode(v, pretty)
    local out = {}
    write(v, out, pretty and "" or nil)
    return table.concat(out)
end

return json
