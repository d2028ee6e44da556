-- Reads the options of a declaration: written order, repeated and unknown keys, placeholders from the
-- environment, durations and sizes. Every complaint carries the place it is about.
local native = require "weir.native"
local diagnostic = require "weir.internal.diagnostic"
local syntax = require "weir.internal.syntax"
local time = require "weir.internal.time"
local words = require "weir.internal.words"

local Reader = {}
Reader.__index = Reader

-- `project`: { diagnostics, sites, infos }
local function new(project)
    return setmetatable({ project = project, diagnostics = project.diagnostics }, Reader)
end

function Reader:error(code, at, message, suggestion)
    self.diagnostics:error(code, at, message, suggestion)
end

function Reader:lint(code, at, message, suggestion)
    self.diagnostics:lint(code, at, message, suggestion)
end

-- The place of a declaration: where its word stands; `parent` where the file does not say.
function Reader:place_of(node, parent)
    local site = node.body and self.project.sites[node.body]
    if site then
        local call = site.node.parent_call
        local at = syntax.place(site.info, call or site.node)
        return at
    end
    if parent then
        return parent
    end
    return { file = node.where and node.where.file, line = node.where and node.where.line, col = 1 }
end

local function sorted_rest(t, seen)
    local rest = {}
    for k in pairs(t) do
        if not seen[k] then
            rest[#rest + 1] = k
        end
    end
    table.sort(rest, function(a, b)
        if type(a) ~= type(b) then
            return type(a) == "number"
        end
        return (type(a) == "number" or type(a) == "string") and a < b or tostring(a) < tostring(b)
    end)
    return rest
end

-- The fields of a table in written order: { { key =, value =, at = place of the key, value_at = place
-- of the value } … }. `at` serves where the table was not written in a file.
function Reader:fields(t, at)
    local list, seen = {}, {}
    local site = self.project.sites[t]
    if site then
        local info, index = site.info, 0
        for _, field in ipairs(site.node.fields) do
            local key
            if field.kind == "positional" then
                index = index + 1
                key = index
            elseif field.kind == "named" then
                key = field.key
            else
                local known, constant = syntax.constant(field.key)
                key = known and constant or nil
            end
            if key ~= nil then
                local key_at = { file = info.file, line = field.key_line, col = field.key_col, info = info, node = field.value }
                if seen[key] then
                    self:error("repeated-key", key_at, ("`%s` is given twice"):format(tostring(key)), "keep one of them")
                else
                    seen[key] = true
                    if t[key] ~= nil then
                        list[#list + 1] = { key = key, value = t[key], at = key_at, value_at = syntax.place(info, field.value) }
                    end
                end
            end
        end
    end
    for _, key in ipairs(sorted_rest(t, seen)) do
        list[#list + 1] = { key = key, value = t[key], at = at, value_at = at }
    end
    return list
end

-- The options of a declaration by name, each { value =, at =, value_at = }, checked against `known`:
-- known[name] = true, or "later" for an option of the language that is not built yet. Positional
-- entries come back as a second list; `what` names the declaration in messages.
function Reader:options(t, at, known, what, positional_ok)
    local named, positional = {}, {}
    for _, field in ipairs(self:fields(t, at)) do
        if type(field.key) == "number" then
            positional[#positional + 1] = field
            if not positional_ok then
                self:error("unknown-option", field.at, ("%s takes named options only"):format(what))
            end
        elseif known[field.key] == "later" then
            self:error("not-built", field.at, ("`%s` of %s is not built yet"):format(tostring(field.key), what))
        elseif not known[field.key] then
            local names = {}
            for name in pairs(known) do
                names[#names + 1] = name
            end
            table.sort(names)
            self:error(
                "unknown-option",
                field.at,
                ("%s has no option `%s`"):format(what, tostring(field.key)),
                diagnostic.did_you_mean(tostring(field.key), names) or "it has: " .. table.concat(names, ", ")
            )
        else
            named[field.key] = field
        end
    end
    return named, positional
end

-- A value with its placeholders resolved; nil after a complaint.
function Reader:resolve(x, at)
    if getmetatable(x) ~= words.Placeholder then
        return x
    end
    if x.parts then
        local a, b = self:resolve(x.parts[1], at), self:resolve(x.parts[2], at)
        if a == nil or b == nil then
            return nil
        end
        return tostring(a) .. tostring(b)
    end
    if type(x.variable) ~= "string" then
        self:error("type", at, "env takes the name of a variable")
        return nil
    end
    local text = native.getenv(x.variable)
    if text == nil then
        text = x.default
    end
    if text == nil then
        self.project.environment_at_fault = true
        self:error(
            "environment",
            at,
            ("the environment variable %s is not set"):format(x.variable),
            ('set it, or give a default: env("%s", "…")'):format(x.variable)
        )
        return nil
    end
    return text
end

local function described(x)
    if words.is_node(x) then
        return "`" .. x.word .. "`"
    elseif words.is_word(x) then
        return "`" .. x.word .. "` without its table"
    elseif type(x) == "cdata" then
        return "a " .. require("weir.internal.value").kind(x)
    elseif type(x) == "string" then
        return ("%q"):format(x)
    elseif type(x) == "table" or type(x) == "function" then
        return "a " .. type(x)
    end
    return tostring(x)
end
Reader.described = described

-- A field's value of the wanted Lua type, or nil after a complaint. `form` shows how it is written.
function Reader:want(field, wanted, what, form)
    if not field then
        return nil
    end
    local x = self:resolve(field.value, field.value_at)
    if x == nil then
        return nil
    end
    if type(x) ~= wanted or (wanted == "table" and getmetatable(x) ~= nil) then
        if words.is_word(x) or words.is_node(x) and x.open then
            self:left_open(x, field.value_at)
        elseif not (words.is_node(x) and x.later) then
            self:error("type", field.value_at, ("%s takes %s, not %s"):format(what, form or "a " .. wanted, described(x)))
        end
        return nil
    end
    return x
end

-- A word, or half a word, where a whole declaration belongs.
function Reader:left_open(x, at)
    if x.context and x.context.open[x] then
        x.context.open[x] = nil
    end
    self:error("no-table", at, words.unfinished(x.word, x.name))
end

-- Microseconds of a duration text; nil after a complaint.
function Reader:duration(field, what)
    if not field then
        return nil
    end
    local x = self:resolve(field.value, field.value_at)
    if x == nil then
        return nil
    end
    local us = time.duration_us(x)
    if not us then
        self:error("type", field.value_at, ('%s takes a duration such as "10s", not %s'):format(what, described(x)))
        return nil
    elseif us < 0 then
        self:error("type", field.value_at, ("%s cannot be negative"):format(what))
        return nil
    end
    return us
end

local size_units = { B = 1, KB = 1024, MB = 1048576, GB = 1073741824, TB = 1099511627776 }

-- Bytes of "128MB".
function Reader:size(field, what)
    if not field then
        return nil
    end
    local x = self:resolve(field.value, field.value_at)
    local n, unit
    if type(x) == "string" then
        n, unit = x:match "^(%d+)%s*(%a*)$"
        unit = unit == "" and "B" or unit
    end
    if not n or not size_units[unit:upper()] then
        if x ~= nil then
            self:error("type", field.value_at, ('%s takes a size such as "128MB", not %s'):format(what, described(x)))
        end
        return nil
    end
    return tonumber(n) * size_units[unit:upper()]
end

-- A name or a list of names: { { name =, at = } … }; nil after a complaint.
function Reader:names(field, what)
    if not field then
        return nil
    end
    local x = self:resolve(field.value, field.value_at)
    if type(x) == "string" then
        return { { name = x, at = field.value_at } }
    end
    if type(x) ~= "table" or getmetatable(x) ~= nil then
        self:error("type", field.value_at, ('%s takes a name or a list of names, not %s'):format(what, described(x)))
        return nil
    end
    local names = {}
    for _, item in ipairs(self:fields(x, field.value_at)) do
        if type(item.key) ~= "number" then
            self:error("not-built", item.at, ("%s under two names is for joins, which are not built yet"):format(what))
        elseif type(item.value) ~= "string" then
            self:error("type", item.value_at, ("%s takes names, not %s"):format(what, described(item.value)))
        else
            names[#names + 1] = { name = item.value, at = item.value_at }
        end
    end
    if #names == 0 then
        self:error("type", field.value_at, ("%s names nothing"):format(what))
        return nil
    end
    return names
end

-- A whole declaration of one of the words; nil after a complaint.
function Reader:node(field, what, ...)
    local x = field.value
    if words.is_word(x) or words.is_node(x) and x.open then
        self:left_open(x, field.value_at)
        return nil
    elseif words.is_node(x) and x.later then
        return nil -- refused where it is written
    end
    for i = 1, select("#", ...) do
        if words.is_node(x, (select(i, ...))) then
            return x
        end
    end
    local forms = {}
    for i = 1, select("#", ...) do
        forms[i] = "`" .. select(i, ...) .. "`"
    end
    self:error("type", field.value_at, ("%s takes %s, not %s"):format(what, table.concat(forms, " or "), described(x)))
    return nil
end

-- A function with the place and, where it can be found, the syntax it was written as.
function Reader:func(field, what)
    if not field then
        return nil
    end
    local fn = self:want(field, "function", what, "a function")
    if not fn then
        return nil
    end
    return self:function_value(fn, field.value_at)
end

function Reader:function_value(fn, at)
    local node = at.node
    if node and node.tag == "FunctionExpr" then
        return { fn = fn, node = node, info = at.info, at = at }
    end
    local where = debug.getinfo(fn, "S")
    if where.what == "C" then
        self:error("type", at, "this is one of the language's own functions; wrap it: function(e) return … end")
        return nil
    end
    local info = self.project.infos[(where.source:gsub("^@", ""))]
    local found = info and syntax.function_of(info, fn)
    return { fn = fn, node = found, info = info, at = found and syntax.place(info, found) or at }
end

-- The nth argument's place inside a call such as between("x", 1, 2).
function Reader:argument_at(at, n)
    local node = at.node
    if node and (node.tag == "Call" or node.tag == "MethodCall") and node.args[n] then
        return syntax.place(at.info, node.args[n])
    end
    return at
end

return { new = new, described = described }
