-- What a map function only hands on: `out.price = e.bid.price`, always and once. C gives such a column of the
-- input, or of a struct in it, to the output as it is; Lua neither reads nor writes it, and a function that
-- does nothing else is not called at all.
--
-- The proof is of the text: straight-line assignments of the body itself, of paths from the row or from locals
-- that are such paths, in a function that never leaves early, never reads what it assigned and makes no
-- function of its own. A path through a struct throws where that struct is null: C looks first (`through`),
-- and where one is, the whole function runs.
local naming = require "weir.internal.naming"
local paths = require "weir.internal.paths"
local syntax = require "weir.internal.syntax"

local copies = {}

local MAX_PATH = 8

local leaving = { Return = true, Goto = true, Break = true, Label = true, FunctionExpr = true, Function = true, LocalFunction = true, Vararg = true }

-- How often each name is declared, whether it is assigned to, and how often `out.NAME` is; nothing when there is more to the body than can be followed.
local function survey(body, out)
    local columns = {}
    local uses, known, whole = 0, 0, true
    syntax.walk(body, function(n)
        if leaving[n.tag] then
            whole = false
        elseif n.tag == "Assign" then
            for _, target in ipairs(n.targets) do
                if target.tag == "Index" and target.object.tag == "Name" and target.object.name == out and target.key.tag == "String" then
                    known = known + 1
                    columns[target.key.value] = (columns[target.key.value] or 0) + 1
                end
            end
        elseif n.tag == "Name" and n.name == out then
            uses = uses + 1
        end
    end)
    if whole and uses == known then
        local declared, assigned = paths.survey(body)
        return declared, assigned, columns
    end
end

-- What path leads through: the structs that must not be null.
local function lead(found, path)
    for n = 1, #path - 1 do
        local text = table.concat(path, ".", 1, n)
        if not found.seen[text] then
            found.seen[text] = true
            found.through[#found.through + 1] = { unpack(path, 1, n) }
        end
    end
end

-- Fields read for nothing but copies: a tree { [column from 1] = true or { [field] = … } }, which rows need not show to what is left of
-- the function. Nothing of a value that goes elsewhere whole, and no struct that a path leads through, be it a copy's or a
-- local's: those statements still run.
local function only_copied(node, found, known, aliases)
    local uses, whole, led = {}, {}, found.seen
    paths.each(node.body, known, aliases, function(path)
        local text = table.concat(path.path, ".")
        uses[text] = (uses[text] or 0) + 1
        whole[text] = path.fields and true
        for n = 1, #path.path - 1 do
            led[table.concat(path.path, ".", 1, n)] = true
        end
    end, MAX_PATH)
    for _, path in pairs(found.columns) do
        local text = table.concat(path, ".")
        uses[text] = uses[text] - 1
    end
    local tree
    for _, path in pairs(found.columns) do
        local all = table.concat(path, ".")
        local free = uses[all] == 0 and not led[all]
        for n = 0, #path - 1 do
            local text = table.concat(path, ".", 1, n)
            free = free and not (whole[text] and uses[text] > 0)
        end
        tree = tree or {}
        local at = tree
        for n = 1, free and #path or 0 do
            local step = path[n] + 1
            at[step] = n == #path or at[step] or {}
            at = at[step]
        end
    end
    return tree
end

-- { columns = { [index in `out`] = path }, through = { path … }, all = nothing else is done, unread = fields
-- that nothing else reads } of a map function, or nil. `retyped`: indexes of columns that another text assigns
-- as well.
function copies.find(node, columns, out, retyped)
    local row, result = node and node.params[1], node and node.params[2]
    if not (out and row and result) or row.name == result.name then
        return nil
    end
    local declared, assigned, written = survey(node.body, result.name)
    if not declared or declared[row.name] or assigned[row.name] or declared[result.name] or assigned[result.name] then
        return nil
    end
    local taken = {}
    for _, k in ipairs(retyped or {}) do
        taken[k] = true
    end
    local known = { [row.name] = paths.row(columns) }
    local found = { columns = {}, through = {}, seen = {}, all = true }
    local any, aliases = false, {}
    for _, statement in ipairs(node.body) do
        local values = statement.values or {}
        local names = statement.tag == "Local" and statement.names or statement.tag == "Assign" and statement.targets or {}
        local said = {}
        for i = 1, #names == #values and #names or 0 do
            said[i] = paths.of(values[i], known, MAX_PATH)
        end
        if #names ~= #values or #names == 0 then
            found.all = false
        end
        for i, name in ipairs(names) do
            local path = said[i]
            if statement.tag == "Local" then
                known[name.name] = path and path.type and declared[name.name] == 1 and not assigned[name.name] and path or nil
                if known[name.name] then
                    aliases[values[i]] = true
                    lead(found, path.path)
                else
                    found.all = false
                end
            else
                local column, place = nil, nil
                local ours = name.tag == "Index" and name.object.tag == "Name" and name.object.name == result.name
                if path and path.type and ours and name.key.tag == "String" then
                    column, place = naming.column(out, name.key.value)
                end
                if column and not taken[place - 1] and written[column.name] == 1 and column.type.text == path.type.text then
                    found.columns[place - 1], any = path.path, true
                    lead(found, path.path)
                else
                    found.all = false
                end
            end
        end
    end
    found.unread = any and only_copied(node, found, known, aliases) or nil
    found.seen = nil
    return any and found or nil
end

return copies
