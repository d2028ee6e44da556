-- What can be said of a row function before it runs: columns it names, kinds of values it mixes, what it
-- assigns, words it must not use, and constructs that keep LuaJIT from compiling it. A simple walk with
-- kinds where they are sure and silence where they are not: it never refuses what might work.
local diagnostic = require "weir.internal.diagnostic"
local native = require "weir.native"
local naming = require "weir.internal.naming"
local syntax = require "weir.internal.syntax"
local time = require "weir.internal.time"
local types = require "weir.internal.types"
local words = require "weir.internal.words"

local check = {}

local arithmetic = { ["+"] = true, ["-"] = true, ["*"] = true, ["/"] = true, ["%"] = true, ["^"] = true }
local comparison = { ["<"] = true, ["<="] = true, [">"] = true, [">="] = true, ["=="] = true, ["~="] = true }

-- Kinds: { k = "literal"|"small"|"double"|"int64"|"decimal"|"string"|"bool"|"timestamp"|"date"|"duration",
-- scale =, column = name }; nil when not sure.
local function of_column(column)
    local t = column.type
    local k
    if types.is_small_int(t) then
        k = "small"
    elseif types.is_float(t) then
        k = "double"
    elseif types.is_timestamp(t) then
        k = "timestamp"
    elseif t.kind == "int64" or t.kind == "decimal" or t.kind == "string" or t.kind == "bool" or t.kind == "date" then
        k = t.kind
    else
        return nil
    end
    return { k = k, scale = t.scale, column = column.name, type = t }
end

local numeric = { literal = true, small = true, double = true, int64 = true, decimal = true }
local timely = { timestamp = true, date = true, duration = true }
local text_forms = { timestamp = 'time with an offset', date = "date", duration = "duration" }
local text_examples = { timestamp = 'such as "2026-01-05T10:00:00Z"', date = 'such as "2026-01-05"', duration = 'such as "90s"' }

local not_compiled = {
    pairs = "pairs() does not compile; use ipairs or name the fields",
    pcall = "pcall in a row function slows the loop; let it throw, the row goes to quarantine with the message",
}
local not_compiled_string = { match = true, gmatch = true, gsub = true, reverse = false }

-- Whether a literal counts as the decimal written; of the plain forms, which are those that can lie.
local function exact(text, value)
    local whole, fraction = text:match "^0*(%d*)%.?(%d-)0*$"
    if not whole then
        return true
    elseif fraction == "" then
        return ("%.0f"):format(value) == (whole == "" and "0" or whole)
    end
    return #(whole .. fraction):gsub("^0+", "") <= 17
end

local Walk = {}
Walk.__index = Walk

function Walk:at(node)
    return syntax.place(self.info, node)
end

function Walk:error(code, node, message, suggestion)
    self.reader:error(code, self:at(node), message, suggestion)
end

function Walk:lint(code, node, message, suggestion)
    self.reader:lint(code, self:at(node), message, suggestion)
end

-- The column an expression `e.name` or `e["name"]` reads, through parameter `which`.
local function field_name(node)
    if node.tag == "Index" and node.key.tag == "String" then
        return node.key.value
    end
end

function Walk:is_param(node, which)
    return which ~= nil
        and node.tag == "Name"
        and node.name == which
        and not self.shadowed[which]
        and (node.scope == "local" or node.scope == "upvalue")
end

function Walk:column(node)
    local name = field_name(node)
    if not name or not self:is_param(node.object, self.row) then
        return nil
    end
    local column = self.by_name[name]
    if not column then
        self:error(
            "unknown-column",
            node.key,
            ("%s has no column `%s`"):format(self.from, name),
            diagnostic.did_you_mean(name, naming.names(self.columns)) or "it has: " .. table.concat(naming.names(self.columns), ", ")
        )
    elseif column.exploded then
        self:error("unknown-column", node.key, ("`%s` was taken apart by explode"):format(name), ("its element is `%s.%s`"):format(self.row, column.exploded))
        return nil
    end
    return column
end

-- What `j.product` or `j.product.category` reads, through the third parameter of map; nil where it is neither.
function Walk:beside(node)
    local name = field_name(node)
    local owner = node.object
    if name and self:is_param(owner, self.joined) then
        local column = self.joined_by_name[name]
        if not column then
            self:error("unknown-column", node.key, ("%s joins nothing called `%s`"):format(self.of, name),
                diagnostic.did_you_mean(name, naming.names(self.joined_columns)) or "it joins: " .. table.concat(naming.names(self.joined_columns), ", "))
        end
        return column
    elseif not name or owner.tag ~= "Index" or not self:is_param(owner.object, self.joined) then
        return nil
    end
    local column = self.joined_by_name[field_name(owner)]
    for _, f in ipairs(column and column.type.fields or {}) do
        if f.name == name then
            return { name = column.name .. "." .. name, type = f.type }
        end
    end
    if column and #column.type.fields == 0 then
        self:error("unknown-column", node.key, ("a row of %s has none of the other side: there is only whether one was met"):format(self.of))
    elseif column then
        self:error("unknown-column", node.key, ("%s has no column `%s`"):format(column.of or column.name, name),
            diagnostic.did_you_mean(name, naming.names(column.type.fields)) or "it has: " .. table.concat(naming.names(column.type.fields), ", "))
    end
    return column
end

local function describe(kind)
    if kind.column then
        return ("column `%s` (%s)"):format(kind.column, kind.type.text)
    end
    return kind.k == "small" and "a number" or "a " .. kind.k
end

-- Comparisons with a time: what throws for every row is known before.
function Walk:compare_times(node, a, b)
    if timely[a.k] and b.text then
        if not time.reads(a.k, b.text) then
            self:error("type", node, ("%s is compared with %q, which is no %s"):format(describe(a), b.text, text_forms[a.k]),
                a.k == "timestamp" and time.reads("date", b.text) and ('write "%sT00:00:00Z", or compare its date(…)'):format(b.text) or text_examples[a.k])
        end
    elseif timely[a.k] and timely[b.k] and a.k ~= b.k then
        self:error("type", node, ("cannot compare %s with %s"):format(describe(a), describe(b)),
            a.k ~= "duration" and b.k ~= "duration" and "compare date(…) of the time" or nil)
    end
end

function Walk:mix(node, a, b)
    if not (a and b) then
        return
    elseif comparison[node.op] and (timely[a.k] or timely[b.k]) then
        if timely[a.k] then
            self:compare_times(node, a, b)
        else
            self:compare_times(node, b, a)
        end
    end
    for _ = 1, 2 do
        if a.k == "decimal" and b.k == "double" then
            self:error(
                "decimal-double",
                node,
                ("decimal and double do not mix: %s with %s"):format(describe(a), describe(b)),
                "a double is not exact; read the column as a decimal in the schema, or say tonumber(…) of the decimal to leave exactness"
            )
            return
        elseif a.k == "int64" and b.k == "double" and b.column then
            self:lint("int64-double", node, ("int64 with %s: the double counts as the decimal it prints as"):format(describe(b)))
            return
        end
        a, b = b, a
    end
    if node.op == ".." or node.op == "==" or node.op == "~=" then
        if node.op ~= ".." and a.k ~= b.k and a.column and b.column
            and not (numeric[a.k] and numeric[b.k])
            and not (timely[a.k] and timely[b.k]) then
            self:error("type", node, ("%s is never equal to %s"):format(describe(a), describe(b)))
        elseif node.op ~= ".." and (numeric[a.k] and b.k == "string" or a.k == "string" and numeric[b.k]) then
            self:error("type", node, ("%s is never equal to %s"):format(describe(a), describe(b)),
                "a number is written without quotes, a text with them")
        end
        return
    end
    local number_a, number_b = numeric[a.k], numeric[b.k]
    if comparison[node.op] then
        if number_a and b.k == "string" or a.k == "string" and number_b then
            self:error("type", node, ("cannot compare %s with %s"):format(describe(a), describe(b)))
        elseif number_a and timely[b.k] or timely[a.k] and number_b then
            self:error("type", node, ("cannot compare %s with %s"):format(describe(a), describe(b)),
                "durations compare with days(…), hours(…) or a text such as \"90s\"")
        end
    elseif arithmetic[node.op] then
        if a.k == "bool" or b.k == "bool" or a.k == "string" and number_b and a.column or number_a and b.k == "string" and b.column then
            self:error("type", node, ("cannot compute `%s` of %s and %s"):format(node.op, describe(a), describe(b)))
        elseif timely[a.k] and number_b and (node.op == "+" or node.op == "-") then
            self:error("type", node, ("cannot compute `%s` of %s and %s"):format(node.op, describe(a), describe(b)),
                "move a time by a duration: days(1), hours(2), \"90s\"")
        end
    end
end

local function result_of(op, a, b)
    if comparison[op] then
        return { k = "bool" }
    elseif op == ".." then
        return { k = "string" }
    elseif not (a and b) then
        return nil
    elseif numeric[a.k] and numeric[b.k] then
        if a.k == "double" or b.k == "double" then
            if a.k == "double" and b.k == "double" or a.k == "small" or b.k == "small" or a.k == "literal" or b.k == "literal" then
                return { k = "double" }
            end
            return nil
        elseif a.k == "decimal" or b.k == "decimal" then
            return { k = "decimal" }
        elseif a.k == "int64" or b.k == "int64" then
            if op == "/" then
                return { k = "decimal" }
            end
            local other = a.k == "int64" and b or a
            if other.k == "literal" and not other.whole then
                return { k = "decimal" }
            end
            return { k = "int64" }
        end
        return { k = "double_result" }
    elseif a.k == "timestamp" and b.k == "timestamp" and op == "-" then
        return { k = "duration" }
    elseif timely[a.k] and a.k ~= "duration" and b.k == "duration" then
        return { k = a.k, }
    end
    return nil
end

local constructor_like = { days = "duration", hours = "duration", minutes = "duration", seconds = "duration", decimal = "decimal" }

-- The kind of an expression, checking everything in it on the way.
function Walk:expression(node)
    local tag = node.tag
    if tag == "Number" then
        if node.suffix then
            self:error("literal", node, ("`%s` is a raw C number of LuaJIT"):format(node.text), "write the digits alone; int64 columns stay exact")
        end
        if node.text and not exact(node.text, node.value) then
            self:error("literal", node, ("%s is more than Lua's numbers hold: it would count as %.17g"):format(node.text, node.value),
                ('write decimal "%s"'):format(node.text))
        end
        return { k = "literal", value = node.value, whole = node.value ~= nil and node.value % 1 == 0 }
    elseif tag == "String" then
        return { k = "string", text = node.value }
    elseif tag == "True" or tag == "False" then
        return { k = "bool" }
    elseif tag == "Nil" or tag == "Vararg" then
        return nil
    elseif tag == "Paren" then
        return self:expression(node.expr)
    elseif tag == "Name" then
        return self.kinds[node.name] or nil
    elseif tag == "Index" then
        local column = self:column(node)
        if column then
            return of_column(column)
        end
        local beside = self:beside(node)
        if beside then
            return of_column(beside)
        end
        if self:is_param(node.object, self.out) then
            local name = field_name(node)
            if name and not self.out_by_name[name] then
                self:undeclared(node.key, name)
            end
            return name and self.out_by_name[name] and of_column(self.out_by_name[name])
        end
        local held = self:expression(node.object)
        self:expression(node.key)
        local name = field_name(node)
        if held and (numeric[held.k] or timely[held.k] or held.column and held.k == "string" and name and not native.string[name])
            and held.k ~= "literal" then
            self:error("type", node.key, ("%s has no fields"):format(describe(held)))
        end
        return nil
    elseif tag == "Unop" then
        local inner = self:expression(node.operand)
        if node.op == "not" then
            return { k = "bool" }
        elseif node.op == "#" then
            return { k = "small" }
        elseif inner and inner.k == "literal" then
            return { k = "literal", value = inner.value and -inner.value, whole = inner.whole }
        end
        return inner and { k = inner.k }
    elseif tag == "Binop" then
        local a = self:expression(node.left)
        local b = self:expression(node.right)
        if node.op == "and" then
            return nil
        elseif node.op == "or" then
            return a and b and a.k == b.k and { k = a.k } or nil
        end
        self:mix(node, a, b)
        return result_of(node.op, a, b)
    elseif tag == "Call" or tag == "MethodCall" then
        return self:call(node)
    elseif tag == "FunctionExpr" then
        self:lint("closure", node, "a function made for each row does not compile", "make it once, outside the row function")
        return nil
    elseif tag == "Table" then
        for _, field in ipairs(node.fields) do
            if type(field.key) == "table" then
                self:expression(field.key)
            end
            self:expression(field.value)
        end
        return nil
    end
    return nil
end

function Walk:call(node)
    local name
    if node.tag == "Call" then
        if node.func.tag == "Name" and node.func.scope == "global" then
            name = node.func.name
        elseif node.func.tag == "Index" and node.func.object.tag == "Name" and node.func.object.name == "string"
            and node.func.object.scope == "global" then
            local f = field_name(node.func)
            if f and not_compiled_string[f] then
                self:lint("not-compiled", node, ("string.%s does not compile"):format(f), "a data predicate such as matches(…) runs in C")
            end
        end
        if not name then
            self:expression(node.func)
        end
    else
        local held = self:expression(node.object)
        if held and held.k == "string" and not native.string[node.method] then
            self:error("unknown-name", node, ("a text has no function `%s`"):format(node.method),
                diagnostic.did_you_mean(node.method, naming.keys(native.string)))
        end
        if not_compiled_string[node.method] then
            self:lint("not-compiled", node, (":%s does not compile"):format(node.method), "a data predicate such as matches(…) runs in C")
        end
    end
    local first
    for i, arg in ipairs(node.args) do
        local kind = self:expression(arg)
        if i == 1 then
            first = kind
        end
    end
    if name and not_compiled[name] then
        self:lint("not-compiled", node, not_compiled[name])
    end
    if name == "round" and first then
        return { k = first.k == "decimal" and "decimal" or first.k }
    elseif name == "tonumber" then
        return { k = "small" }
    elseif name == "tostring" or name == "format" then
        return { k = "string" }
    elseif name == "trunc" or name == "now" then
        return { k = "timestamp" }
    elseif name == "date" then
        return { k = "date" }
    elseif name == "hour" or name == "minute" or name == "second" then
        return { k = "small" }
    elseif name and constructor_like[name] then
        return { k = constructor_like[name] }
    end
    return nil
end

-- A type that holds a value of this kind, for a way out.
local fitting = {
    small = "int32", literal = "int32", double = "double", double_result = "double", int64 = "int64", decimal = "decimal(12,2)", string = "string",
    bool = "bool", timestamp = "timestamp", date = "date",
}

function Walk:undeclared(node, name, kind)
    local type_text = kind and (kind.type and kind.type.text or fitting[kind.k]) or "…"
    local known = naming.names(self.out_columns)
    if self.begins then
        local measured = false
        for _, measure in ipairs(self.begins) do
            measured = measured or measure == name
        end
        self:error("unknown-name", node,
            (measured and "where `%s` begins cannot be told: it begins with nothing" or "the model has no measure `%s`"):format(name),
            diagnostic.did_you_mean(name, known) or "count, sum, avg, min, max, first, last, arg_max and arg_min can be told")
        return
    end
    for _, column in ipairs(self.columns) do
        known[#known + 1] = column.name
    end
    self:error(
        "undeclared-column",
        node,
        ("`columns` of %s declares no column `%s`"):format(self.of, name),
        diagnostic.did_you_mean(name, known) or ('declare it: columns = { %s = "%s" }'):format(name, type_text)
    )
end

local literal_tags = { Number = true, String = true, True = true, False = true }

-- A part of a table written out, to a part of a list, struct or map.
function Walk:part(node, name, t)
    if node.tag == "Table" or literal_tags[node.tag] and not node.suffix then
        self:assignable(node, node.tag ~= "Table" and self:expression(node) or nil, { name = name, type = t })
    end
end

-- A table written out: the names of structs are known, and what is no list has no places.
function Walk:table_of(node, column)
    local name, t = column.name, column.type
    if not types.is_nested(t) then
        self:error("type", node, ("column `%s` is %s: it does not take a table"):format(name, t.text))
        return
    end
    local fields = {}
    for _, field in ipairs(t.fields or {}) do
        fields[field.name] = field.type
    end
    for place, field in ipairs(node.fields) do
        local key = type(field.key) == "string" and field.key or type(field.key) == "table" and field.key.tag == "String" and field.key.value or nil
        if t.kind == "map" and field.kind ~= "positional" then
            self:part(field.value, ("%s[%s]"):format(name, key or "…"), t.value)
        elseif t.kind == "list" and field.kind == "positional" then
            self:part(field.value, ("%s[%d]"):format(name, place), t.element)
        elseif t.kind == "list" and key and key ~= "n" then
            self:error("type", field.value, ("`%s` is %s: a list has no field `%s`"):format(name, t.text, key), "its elements are written { a, b }")
        elseif t.kind == "struct" and key and not fields[key] then
            self:error("unknown-column", field.value, ("`%s` is %s: it has no field `%s`"):format(name, t.text, key),
                diagnostic.did_you_mean(key, naming.names(t.fields)))
        elseif t.kind == "struct" and key then
            self:part(field.value, name .. "." .. key, fields[key])
        elseif t.kind == "struct" and field.kind == "positional" then
            self:error("type", field.value, ("`%s` is %s: its fields have names"):format(name, t.text), "write { name = value }")
        end
    end
end

-- Whether a value of this kind can be what a column holds.
function Walk:assignable(node, kind, column)
    if node.tag == "Table" then
        self:table_of(node, column)
        return
    elseif not kind then
        return
    end
    local t = column.type
    local what = ("column `%s` is %s"):format(column.name, t.text)
    if kind.k == "literal" and kind.value then
        local range = types.range[t.kind]
        if range then
            if not kind.whole then
                self:error("type", node, ("%s: %s has a fraction"):format(what, tostring(kind.value)))
            elseif kind.value < range[1] or kind.value > range[2] then
                self:error("literal", node, ("%s: %s is outside its range %d to %d"):format(what, ("%.17g"):format(kind.value), range[1], range[2]))
            end
        elseif t.kind == "int64" and (not kind.whole or kind.value >= 2 ^ 63 or kind.value < -2 ^ 63) then
            self:error("literal", node, ("%s: %s does not fit"):format(what, ("%.17g"):format(kind.value)))
        elseif t.kind == "decimal" and math.abs(kind.value) >= 10 ^ (t.precision - t.scale) then
            self:error("literal", node, ("%s: %s has too many digits"):format(what, ("%.17g"):format(kind.value)))
        elseif not types.is_numeric(t) then
            self:error("type", node, ("%s: it does not take a number"):format(what))
        end
        return
    end
    local ok = true
    if numeric[kind.k] or kind.k == "double_result" then
        ok = types.is_numeric(t)
        if ok and kind.k == "double" and t.kind == "decimal" then
            self:error("decimal-double", node, ("%s: a double is not exact"):format(what), "compute with decimals, or declare the column double")
            return
        end
    elseif kind.k == "string" then
        ok = t.kind == "string" or t.kind == "binary"
    elseif kind.k == "bool" then
        ok = t.kind == "bool"
    elseif kind.k == "timestamp" then
        ok = types.is_timestamp(t)
    elseif kind.k == "date" then
        ok = t.kind == "date"
    elseif kind.k == "duration" then
        ok = false
    end
    if not ok then
        self:error("type", node, ("%s: it does not take %s"):format(what, describe(kind)))
    end
end

function Walk:assign(target, kind, value_node)
    if target.tag == "Index" and self:is_param(target.object, self.out) then
        local name = field_name(target)
        if name then
            local column = self.out_by_name[name]
            if not column then
                self:undeclared(target.key, name, kind)
            elseif value_node then
                self:assignable(value_node, kind, column)
            end
        end
    elseif target.tag == "Index" and self:is_param(target.object, self.row) then
        self:error("read-only", target, "a row cannot be changed", "assign to the second argument of map: function(e, out) … end")
    elseif target.tag == "Name" then
        self.kinds[target.name] = nil
        if target.scope == "upvalue" then
            self:lint("upvalue", target, ("`%s` is written from a row function: it would remember rows where nothing restores it"):format(target.name),
                "state is declared, not kept in locals")
        end
    else
        self:expression(target)
    end
end

local function declare(self, name, kind)
    if name.name == self.row or name.name == self.out or name.name == self.joined then
        self.shadowed[name.name] = true
    end
    self.kinds[name.name] = kind or nil
end

function Walk:statement(node)
    local tag = node.tag
    if tag == "Local" then
        local kinds = {}
        for i, value in ipairs(node.values) do
            kinds[i] = self:expression(value)
        end
        for i, name in ipairs(node.names) do
            declare(self, name, not self.reassigned[name.name] and kinds[i] or nil)
        end
    elseif tag == "Assign" then
        local kinds = {}
        for i, value in ipairs(node.values) do
            kinds[i] = self:expression(value)
        end
        for i, target in ipairs(node.targets) do
            self:assign(target, kinds[i], node.values[i])
        end
    elseif tag == "CallStat" then
        self:expression(node.call)
    elseif tag == "Return" then
        for i, value in ipairs(node.values) do
            local kind = self:expression(value)
            if i == 1 and self.result then
                self:assignable(value, kind, self.result)
            elseif i == 1 and self.predicate and kind and kind.k ~= "bool" then
                self:lint("not-boolean", value, "this is not true or false, so the row always fails",
                    "a function passes only on true")
            end
        end
    elseif tag == "If" then
        for _, clause in ipairs(node.clauses) do
            self:expression(clause.cond)
            self:block(clause.body)
        end
        if node.orelse then
            self:block(node.orelse)
        end
    elseif tag == "Do" then
        self:block(node.body)
    elseif tag == "While" then
        self:expression(node.cond)
        self:block(node.body)
    elseif tag == "Repeat" then
        self:block(node.body)
        self:expression(node.cond)
    elseif tag == "Fornum" then
        self:expression(node.from)
        self:expression(node.to)
        if node.step then
            self:expression(node.step)
        end
        declare(self, node.var, { k = "small" })
        self:block(node.body)
    elseif tag == "Forin" then
        for _, value in ipairs(node.values) do
            self:expression(value)
        end
        for _, name in ipairs(node.names) do
            declare(self, name, nil)
        end
        self:block(node.body)
    elseif tag == "LocalFunction" or tag == "Function" then
        self:lint("closure", node.func, "a function made for each row does not compile", "make it once, outside the row function")
    end
end

function Walk:block(block)
    for _, statement in ipairs(block) do
        self:statement(statement)
    end
end

-- Columns the function may read: every name after its row parameter. nil when it hands the row on.
local function reads_of(walk, node)
    local found, order, escapes = {}, {}, false
    local inside = {}
    syntax.walk(node.body, function(n)
        if n.tag == "Index" and walk:is_param(n.object, walk.row) then
            local name = field_name(n)
            if not name then
                escapes = true
            elseif not found[name] then
                found[name] = true
                order[#order + 1] = name
            end
            inside[n.object] = true
        end
    end)
    syntax.walk(node.body, function(n)
        if walk:is_param(n, walk.row) and not inside[n] then
            escapes = true
        end
    end)
    if escapes then
        return nil
    end
    table.sort(order)
    return order
end

-- The names a map function assigns, { name =, at = } in written order; none where its text is not known.
function check.assigned(f)
    local found, seen = {}, {}
    local out = f.node and f.node.params[2]
    if not out then
        return found
    end
    syntax.walk(f.node.body, function(n)
        for _, target in ipairs(n.tag == "Assign" and n.targets or {}) do
            local name = field_name(target)
            if name and target.object.tag == "Name" and target.object.name == out.name and not seen[name] then
                seen[name] = true
                found[#found + 1] = { name = name, at = syntax.place(f.info, target.key) }
            end
        end
    end)
    return found
end

local PARAMETERS = { row = 1, out = 2 } -- which of them is what

-- Checks one row function. `f`: { fn, node, info, at } (Reader:func). `about`: { of = dataset, columns =,
-- out = columns map may assign, result = column the value goes to, predicate = true, parameters = as PARAMETERS }.
-- Returns the columns it reads, sorted, or nil when that is not known.
function check.row_function(reader, f, about)
    local node = f.node
    if not node then
        return f.reads -- of what is written here and not in a file
    end
    local parameters = about.parameters or PARAMETERS
    local row, out = node.params[parameters.row], node.params[parameters.out]
    local walk = setmetatable({
        reader = reader,
        info = f.info,
        of = about.of,
        from = about.from,
        columns = about.columns,
        by_name = {},
        out_columns = about.out or {},
        out_by_name = {},
        result = about.result,
        predicate = about.predicate,
        begins = about.begins,
        row = row and row.name,
        out = about.out and out and out.name,
        joined = about.joined and node.params[about.out and 3 or 2] and node.params[about.out and 3 or 2].name,
        joined_columns = about.joined or {},
        joined_by_name = {},
        kinds = {},
        shadowed = {},
        reassigned = {},
    }, Walk)
    for _, column in ipairs(about.columns) do
        walk.by_name[column.name] = column
    end
    for _, column in ipairs(walk.out_columns) do
        walk.out_by_name[column.name] = column
    end
    for _, column in ipairs(walk.joined_columns) do
        walk.joined_by_name[column.name] = column
    end
    if node.vararg then
        walk:lint("vararg", node, "a row function with `...` does not compile", "name its parameters")
    end
    syntax.walk(node.body, function(n)
        if n.tag == "Assign" then
            for _, target in ipairs(n.targets) do
                if target.tag == "Name" then
                    walk.reassigned[target.name] = true
                end
            end
        elseif n.tag == "Name" and n.scope == "global" and words.is_constructor(n.name) and not words.later[n.name] then
            local instead = (n.name == "min" or n.name == "max") and ("math.%s is the function"):format(n.name)
                or "declare it outside the function"
            walk:error("constructor-in-function", n, ("`%s` builds declarations; a row function cannot use it"):format(n.name), instead)
        elseif n.tag == "Name" and n.scope == "global" and n.name == "reject" and not about.rejects then
            walk:error("reject-outside", n, "only the `process` of a rule rejects its row", "an expectation refuses rows elsewhere")
        end
    end)
    walk:block(node.body)
    return reads_of(walk, node)
end

return check
