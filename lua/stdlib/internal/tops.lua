-- `top` of a model: the first n rows of each group, of what the model reads or of what its windows make.
local naming = require "weir.internal.naming"
local json = require "weir.internal.json"
local predicate = require "weir.internal.predicate"
local types = require "weir.internal.types"

local tops = {}

local ROWS_MAX = 1000 -- WEIR_TOP_ROWS_MAX of operator/top/top.h
local options = { n = true, by = true, per = true, ties = true, rank = true }
local FORM = 'top = { n = 10, by = "-price", per = "auction" }'

-- Where rows may be taken back, those equal in the order go by what tells them apart: columns behind those of `by`, in which none are equal.
function tops.settle(top, key)
    local named = {}
    for _, item in ipairs(top.by) do
        named[item.column] = true
    end
    top.tied = #top.by
    for _, name in ipairs(key or {}) do
        if not named[name] then
            top.by[#top.by + 1] = { column = name, descending = top.ties == "last" }
        end
    end
end

-- The columns kept of whole rows: those that pass through.
function tops.kept(input)
    local kept = {}
    for _, column in ipairs(input) do
        if not column.name:match "^_" then
            kept[#kept + 1] = { name = column.name, type = column.type, nullable = column.nullable ~= false }
        end
    end
    return kept
end

local function read_order(reader, field, columns, of)
    local by = json.array {}
    for _, item in ipairs(reader:names(field, "top by") or {}) do
        local name, descending = item.name:gsub("^%-", "")
        local column = predicate.column(reader, columns, name, item.at, of)
        if column and types.is_nested(column.type) then
            reader:error("type", item.at, ("rows are not ordered by a column of type %s"):format(column.type.text))
        end
        by[#by + 1] = { column = name, descending = descending == 1 }
    end
    return by
end

-- TOP of the plan; `columns` are those it chooses from, `kept` those that stay. nil after a complaint.
function tops.read(reader, field, columns, kept, of)
    local t = reader:want(field, "table", "top", FORM)
    if not t then
        return nil
    end
    local named = reader:options(t, field.value_at, options, "top", false)
    local n = reader:want(named.n, "number", "n", "a whole number")
    if not named.n or n and (n % 1 ~= 0 or n < 1 or n > ROWS_MAX) then
        reader:error("type", (named.n or field).value_at, ("top says how many rows of a group it keeps, from 1 to %d"):format(ROWS_MAX), FORM)
        n = nil
    end
    if not named.by then
        reader:error("type", field.value_at, "top says by what the rows are ordered", FORM)
    end
    local per = json.array {}
    for _, item in ipairs(reader:names(named.per, "per") or {}) do
        local column = predicate.column(reader, columns, item.name, item.at, of)
        if column and types.is_nested(column.type) then
            reader:error("type", item.at, ("`per` takes plain columns; `%s` is %s"):format(item.name, column.type.text))
        end
        per[#per + 1] = item.name
    end
    local ties = named.ties and reader:want(named.ties, "string", "ties", '"first", "last" or "all"') or "first"
    if ties ~= "first" and ties ~= "last" and ties ~= "all" then
        reader:error("type", named.ties.value_at, ("no ties are called %q"):format(ties), 'they are "first", "last" or "all"')
    end
    local rank = reader:want(named.rank, "string", "rank", "a column's name")
    if rank and (naming.column(columns, rank) or rank == "_change") then
        reader:error("repeated-name", named.rank.value_at, ("there is a column `%s` already"):format(rank))
    end
    local names = json.array {}
    for i, column in ipairs(kept) do
        names[i] = column.name
    end
    return n and {
        n = n, by = named.by and read_order(reader, named.by, columns, of) or json.array {}, per = per, ties = ties, rank = rank or json.null, columns = names,
    }
end

-- The columns by which its rows are one: nil where nothing tells them apart. `bound`: the column that tells windows apart, or nil;
-- `own`: columns that tell the rows apart it chooses from, or nil.
function tops.key(top, bound, own)
    local key, named = json.array {}, {}
    local function add(name)
        if name and not named[name] then
            key[#key + 1], named[name] = name, true
        end
    end
    for _, name in ipairs(top.per) do
        add(name ~= bound and name or nil)
    end
    add(bound)
    if top.ties ~= "all" and top.rank ~= json.null then
        add(top.rank)
    elseif top.ties == "all" or top.n > 1 then
        local kept = {}
        for _, name in ipairs(top.columns) do
            kept[name] = true
        end
        for _, name in ipairs(own or {}) do
            if not kept[name] then
                return nil
            end
            add(name)
        end
        if not own or #own == 0 then
            return nil
        end
    end
    return #key > 0 and key or nil
end

function tops.text(top)
    local by = {}
    for i, item in ipairs(top.by) do
        by[i] = (item.descending and "-" or "") .. item.column
    end
    return ("%d by %s%s, of equal ones %s"):format(top.n, table.concat(by, ", "), #top.per > 0 and " per " .. table.concat(top.per, ", ") or "",
        top.ties == "all" and "all" or "the " .. top.ties)
end

return tops
