-- What the checks ask of a parsed file: every function, every use of a global name, the call a table
-- was written in, and where a byte lies. Node shapes: runtime/script/NATIVE.md.
local syntax = {}

local skipped = { upvalues = true, globals = true, parent_call = true, enclosing = true }

-- Calls visit(node) on every node below (and with) `node`; visit returns false to stay out of it.
local function walk(node, visit)
    if node.tag and visit(node) == false then
        return
    end
    for k, child in pairs(node) do
        if type(child) == "table" and not skipped[k] then
            walk(child, visit)
        end
    end
end
syntax.walk = walk

local function line_of(starts, byte)
    local low, high = 1, #starts
    while low < high do
        local middle = math.floor((low + high + 1) / 2)
        if starts[middle] <= byte then
            low = middle
        else
            high = middle - 1
        end
    end
    return low
end

-- Everything about a file the checks need, found in one walk.
function syntax.index(file, source, ast)
    local info = { file = file, source = source, ast = ast, functions = {}, globals = {}, locals = {}, calls = {} }
    local starts = { 1 }
    for at in source:gmatch "()\n" do
        starts[#starts + 1] = at + 1
    end
    local function enter(node, enclosing)
        if node.tag == "FunctionExpr" then
            node.last_line = line_of(starts, node.last)
            node.enclosing = enclosing
            info.functions[#info.functions + 1] = node
            enclosing = node
        elseif node.tag == "Name" then
            node.enclosing = enclosing
            if node.scope == "global" then
                info.globals[#info.globals + 1] = node
            end
        elseif node.tag == "Call" then
            info.calls[#info.calls + 1] = node
            for _, arg in ipairs(node.args) do
                if arg.tag == "Table" then
                    arg.parent_call = node
                end
            end
        elseif node.tag == "Local" then
            for _, name in ipairs(node.names) do
                info.locals[#info.locals + 1] = name
            end
        elseif node.tag == "LocalFunction" then
            info.locals[#info.locals + 1] = node.name
        end
        for k, child in pairs(node) do
            if type(child) == "table" and not skipped[k] then
                enter(child, enclosing)
            end
        end
    end
    enter(ast, nil)
    return info
end

function syntax.place(info, node)
    return { file = info.file, line = node.line, col = node.col, node = node, info = info }
end

-- The FunctionExpr a running function was compiled from; nil when two begin and end on the same lines.
function syntax.function_of(info, fn)
    local where = debug.getinfo(fn, "S")
    local found
    for _, node in ipairs(info.functions) do
        if node.line == where.linedefined and node.last_line == where.lastlinedefined then
            if found then
                return nil
            end
            found = node
        end
    end
    return found
end

-- A constant's Lua value: true and the value.
function syntax.constant(node)
    if node.tag == "String" or node.tag == "Number" then
        return node.value ~= nil, node.value
    elseif node.tag == "True" then
        return true, true
    elseif node.tag == "False" then
        return true, false
    elseif node.tag == "Unop" and node.op == "-" then
        local inner = node.operand or node.expr
        if inner and inner.tag == "Number" and inner.value then
            return true, -inner.value
        end
    elseif node.tag == "Paren" then
        return syntax.constant(node.expr)
    end
    return false
end

return syntax
