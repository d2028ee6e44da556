-- Where a row function certainly throws on nulls. A throw costs microseconds and disturbs the compiled
-- loop, and in real data a null under an operator is by far the commonest one. So what is certain is told
-- to C: it finds such rows in the validity bitmaps, knows the message from the first of them, which was
-- run for real, and never calls the function for the rest.
--
-- Certain means: reached unconditionally, with nothing before it that could throw for another reason or
-- leave a trace. The walk follows straight-line code in Lua's order of evaluation and stops at the first
-- thing it cannot vouch for: a branch, a call, an operation that may overflow. What it found until then
-- holds. A site is the pair of columns under one operator, -1 for an operand that is never null; which of
-- them are null decides the message. Should a site not throw after all, C notices and forgets it.
local types = require "weir.internal.types"

local check = {}

local MAX_SITES = 32
local whole_digits = { int8 = 3, int16 = 5, int32 = 10 }

-- What is known of a value: kind, the column it is (index from 0), digits before and after the point.
local function of_column(column, index)
    local t = column.type
    local v = { column = index, type = t.text }
    if whole_digits[t.kind] then
        v.kind, v.whole, v.scale = "number", whole_digits[t.kind], 0
    elseif types.is_float(t) then
        v.kind = "number" -- digits not known: it may be infinite
    elseif t.kind == "decimal" then
        v.kind, v.whole, v.scale = "decimal", t.precision - t.scale, t.scale
    elseif t.kind == "int64" or t.kind == "string" or t.kind == "bool" then
        v.kind = t.kind
    else
        return nil
    end
    return v
end

local function of_literal(x)
    local text = x and ("%.14g"):format(x) or ""
    local before, after = text:match "^(%d+)%.?(%d*)$"
    if not before or tonumber(text) ~= x then
        return { kind = "number" }
    end
    return { kind = "number", whole = #before, scale = #after }
end

local Walk = {}
Walk.__index = Walk

local STOP = {} -- thrown when nothing more is certain

local function stop()
    error(STOP, 0)
end

function Walk:site(a, b)
    local left, right = a and a.column or -1, b and b.column or -1
    if left >= 0 or right >= 0 then
        if #self.sites == MAX_SITES then
            stop()
        end
        self.sites[#self.sites + 1] = { left, right }
    end
end

local arithmetic = { ["+"] = true, ["-"] = true, ["*"] = true, ["/"] = true }
local order = { ["<"] = true, ["<="] = true, [">"] = true, [">="] = true }

-- a op b where neither is null; stops when that may throw.
local function result_of(op, a, b)
    local exact = a.kind == "decimal" or b.kind == "decimal"
    if not exact and op == "/" then
        return { kind = "number" }
    elseif op == "/" then
        stop() -- by zero
    elseif not (a.whole and b.whole) then
        if exact then
            stop() -- a double may be one no decimal holds
        end
        return { kind = "number" }
    end
    local whole, scale
    if op == "*" then
        whole, scale = a.whole + b.whole, a.scale + b.scale
    else
        whole, scale = math.max(a.whole, b.whole) + 1, math.max(a.scale, b.scale)
    end
    if exact and whole + scale > 38 then
        stop()
    end
    return { kind = exact and "decimal" or "number", whole = whole <= 38 and whole or nil, scale = scale }
end

local function is_number(v)
    return v.kind == "number" or v.kind == "decimal"
end

function Walk:binary(node)
    local op = node.op
    local a = self:expression(node.left)
    if op == "and" or op == "or" then
        stop()
    end
    local b = self:expression(node.right)
    if op == "==" or op == "~=" then
        if a.kind ~= b.kind and not (is_number(a) and is_number(b)) then
            stop()
        end
        return { kind = "bool" }
    elseif op == ".." then
        if a.kind ~= "string" or b.kind ~= "string" then
            stop()
        end
        self:site(a, b)
        return { kind = "string" }
    elseif not (arithmetic[op] or order[op]) then
        stop()
    end
    local computable = (is_number(a) or a.kind == "int64") and (is_number(b) or b.kind == "int64")
    if not computable and not (order[op] and a.kind == "string" and b.kind == "string") then
        stop()
    end
    self:site(a, b)
    if order[op] then
        return { kind = "bool" }
    elseif a.kind == "int64" or b.kind == "int64" then
        stop() -- may overflow
    end
    return result_of(op, a, b)
end

function Walk:expression(node)
    local tag = node.tag
    if tag == "Number" and not node.suffix then
        return of_literal(node.value)
    elseif tag == "String" then
        return { kind = "string" }
    elseif tag == "True" or tag == "False" then
        return { kind = "bool" }
    elseif tag == "Paren" then
        return self:expression(node.expr)
    elseif tag == "Name" then
        return self.known[node.name] or stop()
    elseif tag == "Index" then
        local name = node.key.tag == "String" and node.key.value
        local row = node.object.tag == "Name" and node.object.name == self.row and not self.known[self.row]
        return row and name and self.columns[name] or stop()
    elseif tag == "Unop" then
        local v = self:expression(node.operand)
        if node.op == "not" then
            return { kind = "bool" }
        elseif node.op == "-" and is_number(v) then
            self:site(v)
            return { kind = v.kind, whole = v.whole, scale = v.scale }
        elseif node.op == "#" and v.kind == "string" then
            self:site(v)
            return { kind = "number", whole = 10, scale = 0 }
        end
    elseif tag == "Binop" then
        return self:binary(node)
    elseif tag == "MethodCall" then
        local v = self:expression(node.object)
        if v.kind == "string" then
            self:site(v)
        end
    elseif tag == "Call" and node.func.tag == "Name" and node.func.scope == "global" then
        for _, argument in ipairs(node.args) do
            self:expression(argument)
        end
    end
    return stop()
end

-- Whether every value like v, or null, can be assigned to a column of type t.
local function fits(v, t)
    if v.column then
        return v.type == t.text
    elseif t.kind == "decimal" and v.whole then
        return v.scale <= t.scale and v.whole <= t.precision - t.scale
    end
    return v.kind == t.kind
end

function Walk:statement(node)
    local tag = node.tag
    if tag == "Local" and #node.names == #node.values then
        local values = {}
        for i, value in ipairs(node.values) do
            values[i] = self:expression(value)
        end
        for i, name in ipairs(node.names) do
            self.known[name.name] = values[i]
        end
    elseif tag == "Return" then
        for _, value in ipairs(node.values) do
            self:expression(value)
        end
        stop()
    elseif tag == "If" then
        self:expression(node.clauses[1].cond)
        stop()
    elseif tag == "Assign" and #node.targets == 1 and #node.values == 1 then
        local target = node.targets[1]
        local out = target.tag == "Index" and target.object.tag == "Name" and target.object.name == self.out
            and not self.known[self.out] and target.key.tag == "String"
        local t = out and self.out_types[target.key.value] or stop()
        if not fits(self:expression(node.values[1]), t) then
            stop()
        end
    else
        stop()
    end
end

-- The sites of a row function in the order they are reached: { { left, right } … }, columns from 0.
-- `node`: its FunctionExpr, nil when not known. `out`: the columns it may assign, or nil.
function check.sites(node, columns, out)
    local walk = setmetatable({ sites = {}, known = {}, columns = {}, out_types = {} }, Walk)
    if not node or not node.params[1] or node.params[2] and node.params[2].name == node.params[1].name then
        return walk.sites
    end
    walk.row = node.params[1].name
    walk.out = out and node.params[2] and node.params[2].name
    for i, column in ipairs(columns) do
        walk.columns[column.name] = of_column(column, i - 1)
    end
    for _, column in ipairs(out or {}) do
        walk.out_types[column.name] = column.type
    end
    local ok, why = pcall(function()
        for _, statement in ipairs(node.body) do
            walk:statement(statement)
        end
    end)
    if not ok and why ~= STOP then
        error(why, 0)
    end
    return walk.sites
end

return check
