-- The environment of one rule file: the constructors, the value functions and the allow-listed part of
-- Lua ("In scope"). Each file gets its own table, library tables are read-only views, and nothing in
-- them reaches the stdlib's own globals.
local native = require "weir.native"
local reject = require "weir.internal.reject"
local value = require "weir.internal.value"
local time = require "weir.internal.time"
local words = require "weir.internal.words"

local sandbox = {}

local function read_only(name, content)
    return setmetatable({}, {
        __index = content,
        __newindex = function()
            error(("`%s` cannot be changed"):format(name), 2)
        end,
        __metatable = "read-only",
    })
end

local function copy(from, names)
    local t = {}
    for name in names:gmatch "%S+" do
        t[name] = from[name]
    end
    return t
end

-- type() names the values of the language by their own names.
local function kind_of(...)
    if select("#", ...) == 0 then
        error("bad argument #1 to 'type' (value expected)", 2)
    end
    local x = ...
    if type(x) == "cdata" then
        return value.kind(x)
    end
    return type(x)
end

local function list_next(list, i)
    i = i + 1
    local item = list[i]
    if item == nil and i > #list then
        return nil
    end
    return i, item
end

-- Lists of a row are views: they go by length, so a null element does not end them.
local function each(t)
    if type(t) == "cdata" then
        return list_next, t, 0
    end
    return ipairs(t)
end

-- Written order where the file says one, then numbers, then texts: the same on every run.
local function ordered_pairs(sites)
    local function rank(a, b)
        local ta, tb = type(a), type(b)
        if ta ~= tb then
            return ta < tb
        elseif ta == "number" or ta == "string" then
            return a < b
        end
        return tostring(a) < tostring(b)
    end
    return function(t)
        if type(t) ~= "table" or getmetatable(t) ~= nil then
            error("pairs takes a table", 2)
        end
        local keys, seen = {}, {}
        local site = sites[t]
        for _, field in ipairs(site and site.node.fields or {}) do
            if field.kind == "named" and t[field.key] ~= nil and not seen[field.key] then
                keys[#keys + 1], seen[field.key] = field.key, true
            end
        end
        local rest = {}
        for k in pairs(t) do
            if not seen[k] then
                rest[#rest + 1] = k
            end
        end
        table.sort(rest, rank)
        for _, k in ipairs(rest) do
            keys[#keys + 1] = k
        end
        local i = 0
        return function()
            i = i + 1
            local k = keys[i]
            if k ~= nil then
                return k, t[k]
            end
        end
    end
end

-- math.abs, max, min of plain numbers and of values alike.
local function lifted_abs(x)
    if type(x) == "cdata" then
        return x < 0 and -x or x
    end
    return math.abs(x)
end

local function lifted_extreme(stock, better)
    local function pick(a, b, ...)
        if b == nil then
            return a
        end
        local best
        if type(a) == "cdata" or type(b) == "cdata" then
            best = better(b, a) and b or a
        else
            best = stock(a, b)
        end
        if ... ~= nil then
            return pick(best, ...)
        end
        return best
    end
    return pick
end

local function lifted_floor(x)
    if type(x) == "cdata" then
        return x - x % 1
    end
    return math.floor(x)
end

local function lifted_ceil(x)
    if type(x) == "cdata" then
        return x + -x % 1
    end
    return math.ceil(x)
end

-- A decimal as %f shows a number: exactly, rounded half-even.
local function fixed(x, flags, width, places)
    local text = tostring(value.round(x, places))
    local sign, digits = text:match "^(-?)(.*)$"
    local fraction = #(digits:match "%.(%d*)$" or "")
    if places > fraction then
        digits = digits .. (fraction == 0 and "." or "") .. ("0"):rep(places - fraction)
    end
    sign = sign ~= "" and sign or flags:match "%+" or flags:match " " or ""
    local room = (tonumber(width) or 0) - #sign - #digits
    if room <= 0 then
        return sign .. digits
    elseif flags:find("-", 1, true) then
        return sign .. digits .. (" "):rep(room)
    elseif flags:find("0", 1, true) then
        return sign .. ("0"):rep(room) .. digits
    end
    return (" "):rep(room) .. sign .. digits
end

-- string.format with values among its arguments: the pattern and the arguments as the stock one takes them.
local function plain_format(pattern, ...)
    local args, n = { ... }, 0
    local function plain(flags, width, places, conversion)
        n = n + 1
        local x = args[n]
        local kind = type(x) == "cdata" and value.kind(x)
        if kind == "int64" and conversion:find "[diuoxXc]" then
            args[n] = x.v
        elseif kind == "decimal" and conversion:find "[diuoxXc]" then
            args[n] = x % 1 == 0 and value.tonumber(x) or x
        elseif kind == "decimal" and conversion == "f" and #places <= 3 then
            args[n] = fixed(x, flags, width, tonumber(places:sub(2)) or (places == "" and 6 or 0))
            return "%s"
        elseif (kind == "int64" or kind == "decimal") and conversion:find "[eEfFgGaA]" then
            args[n] = value.tonumber(x)
        end
    end
    local rewritten = pattern:gsub("%%%%", "%%\0"):gsub("%%([-+ #0]*)(%d*)(%.?%d*)(%a)", plain):gsub("%%%z", "%%%%")
    return rewritten, unpack(args, 1, select("#", ...))
end

local function lifted_format(stock)
    return function(pattern, ...)
        local a, b, c, d = ...
        if type(a) ~= "cdata" and type(b) ~= "cdata" and type(c) ~= "cdata" and type(d) ~= "cdata" and select("#", ...) <= 4 then
            return stock(pattern, ...)
        end
        return stock(plain_format(pattern, ...))
    end
end
native.string.format = lifted_format(native.string.format) -- of texts' methods, too

-- `project`: { context, sites, time_zone, require, table_at(file, id, t) }
function sandbox.base(project)
    local base = words.environment(project.context)
    for name, f in pairs {
        select = select,
        type = kind_of,
        tonumber = value.tonumber,
        tostring = tostring,
        assert = assert,
        error = error,
        pcall = pcall,
        ipairs = each,
        pairs = ordered_pairs(project.sites),
        decimal = value.decimal,
        round = value.round,
        idiv = value.idiv,
        key = value.key,
        days = time.days,
        hours = time.hours,
        minutes = time.minutes,
        seconds = time.seconds,
        milliseconds = time.milliseconds,
        now = time.now,
        random = native.random,
        reject = reject.make,
        copy = function() end, -- of a joined row: C passes the columns on
    } do
        base[name] = f
    end

    -- Functions of time, whose default zone is the pipeline's. `date "column"` at load says a partition.
    local zoned, zoned_name
    local function zoned_functions()
        if zoned_name ~= project.time_zone then
            zoned, zoned_name = time.functions(project.time_zone), project.time_zone
        end
        return zoned
    end
    for _, name in ipairs { "minute", "second", "format", "trunc" } do
        base[name] = function(...)
            return zoned_functions()[name](...)
        end
    end
    for _, name in ipairs { "date", "hour" } do
        base[name] = function(x, zone_name)
            if project.context.loading and type(x) == "string" and not x:match "^%d%d%d%d%-" then
                return setmetatable({ word = name, args = { n = 1, x }, context = project.context }, words.Node)
            end
            return zoned_functions()[name](x, zone_name)
        end
    end

    local libraries = {
        string = copy(native.string, "byte char find format gmatch gsub len lower match rep reverse sub upper"),
        table = copy(table, "concat insert remove sort maxn"),
        math = {},
    }
    for name, f in pairs(native.math) do
        libraries.math[name] = f
    end
    libraries.math.random, libraries.math.randomseed = nil, nil
    libraries.math.abs, libraries.math.floor, libraries.math.ceil = lifted_abs, lifted_floor, lifted_ceil
    libraries.math.max = lifted_extreme(math.max, function(b, a)
        return a < b
    end)
    libraries.math.min = lifted_extreme(math.min, function(b, a)
        return b < a
    end)
    for name, content in pairs(libraries) do
        base[name] = read_only(name, content)
    end
    project.libraries = libraries
    base.require = project.require
    -- Powers of plain numbers: the same bits compiled and interpreted.
    base.__weir_pow = function(a, b)
        if type(a) == "cdata" or type(b) == "cdata" then
            error("^ is not defined for int64, decimals and times; multiply, or say tonumber(…)", 2)
        end
        return native.pow(a, b)
    end
    return base
end

-- The environment of one file.
function sandbox.file(base, file, remember)
    local env = {}
    for k, v in pairs(base) do
        env[k] = v
    end
    env.__weir_table = function(id, t)
        remember(t, file, id)
        return t
    end
    return setmetatable(env, {
        __index = function(_, name)
            error(("no global is called `%s`"):format(tostring(name)), 2)
        end,
        __newindex = function(_, name)
            error(("a rule file cannot set the global `%s`; write `local %s`"):format(tostring(name), tostring(name)), 2)
        end,
        __metatable = "sandbox",
    })
end

-- Every name a file may use, for suggestions and the check of globals.
function sandbox.names(base)
    local names = {}
    for name in pairs(base) do
        if not name:match "^__" then
            names[#names + 1] = name
        end
    end
    table.sort(names)
    return names
end

return sandbox
