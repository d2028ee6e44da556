-- What the rows of a decision cover between them. Each column's values fall into cells that no condition tells apart: the literals, what
-- lies between two of them, null. A row is then a box of cells, and overlaps, gaps and rows never reached are found exactly, each
-- with an example. The search is bounded: beyond its budget nothing is claimed.
local conditions = require "weir.internal.conditions"
local types = require "weir.internal.types"
local value = require "weir.internal.value"

local regions = {}

local BUDGET = 200000 -- cells looked at for one proof

-- ---------------------------------------------------------------- cells

-- How far two neighbouring values of a type are apart; nil where there is always one between.
local function step_of(t)
    if types.is_float(t) then
        return nil
    elseif t.kind == "decimal" and not conditions.one_word(t) then
        return value.decimal(t.scale == 0 and "1" or "0." .. ("0"):rep(t.scale - 1) .. "1")
    elseif types.is_small_int(t) or t.kind == "date" then
        return 1
    end
    return 1LL
end

local function literals_of(boxes, name)
    local list, seen = {}, {}
    for _, box in ipairs(boxes) do
        for _, term in ipairs(box.conditions[name] or {}) do
            for _, literal in ipairs { term.low, term.high } do
                if not seen[literal.same] then
                    seen[literal.same] = true
                    list[#list + 1] = literal
                end
            end
        end
    end
    return list
end

local function span_text(name, from, to)
    if from and to then
        return ("%s < %s < %s"):format(from.text, name, to.text)
    end
    return from and ("%s > %s"):format(name, from.text) or ("%s < %s"):format(name, to.text)
end

local function ordered_cells(column, literals)
    local t, cells = column.type, {}
    table.sort(literals, function(a, b) return a.raw < b.raw end)
    local step = step_of(t)
    local limit = types.range[t.kind]
    local last
    for _, literal in ipairs(literals) do
        if not last or last.raw < literal.raw then -- the same value may be written in two ways
            local next_to = last and step and last.raw + step == literal.raw
            local lowest = not last and limit and literal.raw <= limit[1]
            if not next_to and not lowest then
                cells[#cells + 1] = { at = literal.raw, side = -1, text = span_text(column.name, last, literal) }
            end
            cells[#cells + 1] = { at = literal.raw, side = 0, text = ("%s = %s"):format(column.name, literal.text) }
            last = literal
        end
    end
    if last and not (limit and last.raw >= limit[2]) then
        cells[#cells + 1] = { at = last.raw, side = 1, text = span_text(column.name, last, nil) }
    end
    return cells
end

local function cells_of(column, boxes)
    local literals = literals_of(boxes, column.name)
    local cells
    if column.type.kind == "bool" then
        cells = { { exact = true, text = column.name .. " = true" }, { exact = false, text = column.name .. " = false" } }
    elseif not conditions.ordered(column.type) then
        cells = {}
        for _, literal in ipairs(literals) do
            cells[#cells + 1] = { exact = literal.raw, text = ("%s = %q"):format(column.name, literal.raw) }
        end
        cells[#cells + 1] = { exact = {}, text = #literals > 0 and "any other " .. column.name or "any " .. column.name }
    else
        cells = ordered_cells(column, literals)
        if #cells == 0 then
            cells[1] = { exact = {}, text = "any " .. column.name }
        end
    end
    if column.nullable ~= false then
        cells[#cells + 1] = { null = true, text = column.name .. " null" }
    end
    return cells
end

-- Where a cell lies beside a literal: -1 below, 0 at it, 1 above.
local function place(cell, literal)
    if cell.at < literal.raw then
        return -1
    elseif literal.raw < cell.at then
        return 1
    end
    return cell.side
end

local function meets(cell, term)
    if cell.null or term.op == "null" or term.op == "not_null" then
        return (cell.null == true) == (term.op == "null")
    elseif cell.at == nil then
        return (cell.exact == term.low.raw) == (term.op == "==")
    end
    local p = place(cell, term.low)
    if term.op == "range" then
        local q = place(cell, term.high)
        return (p > 0 or p == 0 and not term.low_open) and (q < 0 or q == 0 and not term.high_open)
    end
    return term.op == "==" and p == 0 or term.op == "~=" and p ~= 0 or term.op == "<" and p < 0 or term.op == "<=" and p <= 0
        or term.op == ">" and p > 0 or term.op == ">=" and p >= 0
end

-- ---------------------------------------------------------------- boxes

-- rows: { conditions = { [column] = terms } }; columns: those any of them looks at. What is returned answers below.
function regions.of(columns, rows)
    local space = { columns = columns, cells = {}, boxes = {} }
    for k, column in ipairs(columns) do
        space.cells[k] = cells_of(column, rows)
    end
    for i, row in ipairs(rows) do
        local box = { last = 0 }
        for k, column in ipairs(columns) do
            local terms = row.conditions[column.name]
            if terms then
                box.last = k
                box[k] = {}
                for c, cell in ipairs(space.cells[k]) do
                    for _, term in ipairs(terms) do
                        box[k][c] = box[k][c] or meets(cell, term)
                    end
                end
            end
        end
        space.boxes[i] = box
    end
    return space
end

local function example(space, chosen, looked)
    local parts = {}
    for k, cells in ipairs(space.cells) do
        if chosen[k] and (not looked or looked(k)) then
            parts[#parts + 1] = cells[chosen[k]].text
        end
    end
    return #parts > 0 and table.concat(parts, ", ") or "any row"
end

-- A row both would take, or nil.
function regions.overlap(space, i, j)
    local a, b, chosen = space.boxes[i], space.boxes[j], {}
    for k, cells in ipairs(space.cells) do
        for c in ipairs(cells) do
            if (not a[k] or a[k][c]) and (not b[k] or b[k][c]) then
                chosen[k] = c
                break
            end
        end
        if not chosen[k] then
            return nil
        end
    end
    return example(space, chosen, function(k) return a[k] or b[k] end)
end

-- A row inside `limit` (a box, or nil: anywhere) that none of the boxes take; nil when there is none, "unknown" beyond the budget.
-- `nulls` false: of rows without nulls.
local function uncovered(space, boxes, limit, nulls)
    local chosen, covered, spent = {}, {}, 0
    local function from(k, alive)
        for _, i in ipairs(alive) do
            if space.boxes[i].last < k then
                return nil
            end
        end
        if #alive == 0 then
            return example(space, chosen)
        end
        local known = k .. ":" .. table.concat(alive, ",")
        if covered[known] then
            return nil
        end
        for c, cell in ipairs(space.cells[k]) do
            if (nulls or not cell.null) and (not limit or not limit[k] or limit[k][c]) then
                spent = spent + #alive
                if spent > BUDGET then
                    return "unknown"
                end
                local left = {}
                for _, i in ipairs(alive) do
                    local box = space.boxes[i]
                    if not box[k] or box[k][c] then
                        left[#left + 1] = i
                    end
                end
                chosen[k] = c
                local found = from(k + 1, left)
                if found then
                    return found
                end
                chosen[k] = nil
            end
        end
        covered[known] = true
        return nil
    end
    return from(1, boxes)
end

local function first(n)
    local list = {}
    for i = 1, n do
        list[i] = i
    end
    return list
end

-- A row the table has no answer for, or nil, or "unknown".
function regions.gap(space)
    local all = first(#space.boxes)
    return uncovered(space, all, nil, false) or uncovered(space, all, nil, true)
end

-- Whether rows before i (in `order`, or as written) take all that i would. Of rows that take nothing themselves too.
function regions.unreached(space, i, order)
    local before = {}
    for _, j in ipairs(order) do
        if j == i then
            break
        end
        before[#before + 1] = j
    end
    local box = space.boxes[i]
    for k, cells in ipairs(space.cells) do
        local any = not box[k]
        for c in ipairs(box[k] and cells or {}) do
            any = any or box[k][c]
        end
        if not any then
            return true, {}
        end
    end
    local taking = {}
    for _, j in ipairs(before) do
        if regions.overlap(space, i, j) then
            taking[#taking + 1] = j
        end
    end
    return #taking > 0 and uncovered(space, taking, box, true) == nil, taking
end

return regions
