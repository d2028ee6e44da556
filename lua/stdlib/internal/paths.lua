-- What a row function's text says of its row by way of paths: `e.bid.price`, and locals that stand for such.
local naming = require "weir.internal.naming"
local syntax = require "weir.internal.syntax"

local paths = {}

-- The row itself, where paths begin.
function paths.row(columns)
    return { path = {}, names = {}, fields = columns }
end

-- { path = { index from 0 … }, names = { name … }, type = , fields = those of the struct it is } of an expression that is a path, or nil.
-- `known`: what names stand for. `longest`: more steps are none; or nil.
function paths.of(node, known, longest)
    if node.tag == "Paren" then
        return paths.of(node.expr, known, longest)
    elseif node.tag == "Name" then
        return known[node.name]
    elseif node.tag ~= "Index" or node.key.tag ~= "String" then
        return nil
    end
    local object = paths.of(node.object, known, longest)
    if not (object and object.fields) or #object.path == longest then
        return nil
    end
    local field, place = naming.column(object.fields, node.key.value)
    if not field then
        return nil
    end
    local path, names = { unpack(object.path) }, { unpack(object.names) }
    path[#path + 1], names[#names + 1] = place - 1, field.name
    return { path = path, names = names, type = field.type, fields = field.type.kind == "struct" and field.type.fields or nil }
end

-- How often each name is declared in the body, and whether it is assigned to.
function paths.survey(body)
    local declared, assigned = {}, {}
    local function declare(name)
        declared[name] = (declared[name] or 0) + 1
    end
    syntax.walk(body, function(n)
        for _, name in ipairs((n.tag == "Local" or n.tag == "Forin") and n.names or n.tag == "FunctionExpr" and n.params or {}) do
            declare(name.name)
        end
        if n.tag == "Fornum" then
            declare(n.var.name)
        elseif n.tag == "LocalFunction" then
            declare(n.name.name)
        end
        for _, target in ipairs(n.tag == "Assign" and n.targets or {}) do
            if target.tag == "Name" then
                assigned[target.name] = true
            end
        end
    end)
    return declared, assigned
end

-- Hands use(path) every path in the body as far as it goes, but for expressions in `saying`, which only say what a local stands for.
function paths.each(body, known, saying, use, longest)
    local function visit(n)
        if saying[n] then
            return false
        elseif n.tag == "Local" then -- its names read nothing
            for _, value in ipairs(n.values) do
                syntax.walk(value, visit)
            end
            return false
        end
        local path = paths.of(n, known, longest)
        if path then
            use(path)
            return false
        end
    end
    syntax.walk(body, visit)
end

return paths
