-- What a decision's cells ask of a column ("<= 28", "10..20", { "store", "web" }, none), as terms. A term is a test over the column's
-- literals, in the form the generated code compares and the proofs of regions.lua count with.
local ffi = require "ffi"
local diagnostic = require "weir.internal.diagnostic"
local naming = require "weir.internal.naming"
local predicate = require "weir.internal.predicate"
local reader_module = require "weir.internal.reader"
local row = require "weir.internal.row"
local time = require "weir.internal.time"
local types = require "weir.internal.types"
local value = require "weir.internal.value"
local words = require "weir.internal.words"

local conditions = {}

local FORMS = '28, "<= 28", "10..20", "[10..20)", { "store", "web" }, none, "not null" or "-"'

function conditions.one_word(t) -- whether a decimal is compared by its one word
    return t.kind == "decimal" and t.precision <= 18
end

-- The literal at the column's type, as what is compared: a number, an int64_t, a text, a truth value; of long decimals the value.
local function raw_of(text, t, name)
    if t.kind == "decimal" then
        local exact = value.rescale(value.decimal(text), t.scale)
        return conditions.one_word(t) and exact.v or exact
    elseif t.kind == "int64" then
        return row.runtime.to_int64(value.decimal(text), name, t.text)
    elseif t.kind == "date" then
        return time.parse_date(text)
    elseif types.is_timestamp(t) then
        return t.kind:match "_ns" and time.parse_timestamp_ns(text, true) or time.parse_timestamp(text, true)
    elseif t.kind == "float" then
        return tonumber(ffi.cast("float", tonumber(text))) -- as the column holds it
    elseif types.is_numeric(t) then
        return tonumber(text)
    end
    return text
end

-- What two literals of a column share that are the same value, however written: "1.5" and "1.50" of a decimal.
local function identity(raw)
    return type(raw) == "number" and ("%.17g"):format(raw) or tostring(raw)
end

-- { text =, raw =, same = } of a literal of the column, as written, compared and told from others; nil after a complaint.
function conditions.literal(reader, x, column, at)
    local t = column.type
    local number = type(x) == "string" and types.is_numeric(t) and t.kind ~= "decimal" and t.kind ~= "int64" and tonumber(x)
    local text = predicate.literal(reader, number or x, column, at)
    if text == nil then
        return nil
    end
    local raw = raw_of(text, t, column.name)
    return { text = tostring(text), raw = raw, same = identity(raw) }
end

local function wrong(reader, column, at, what)
    reader:error("type", at, ("a condition of column `%s` (%s) is not %s"):format(column.name, column.type.text, what), FORMS)
    return nil
end

local function ordered(t)
    return t.kind ~= "string" and t.kind ~= "bool"
end
conditions.ordered = ordered

local operators = { ["<="] = "<=", ["<"] = "<", [">="] = ">=", [">"] = ">", ["="] = "==", ["=="] = "==", ["~="] = "~=", ["!="] = "~=" }

-- The text without a node: its place is the whole cell's.
local function inside(at)
    return { file = at.file, line = at.line, col = at.col }
end

local function compared(reader, op, text, column, at)
    if not ordered(column.type) and op ~= "==" and op ~= "~=" then
        return wrong(reader, column, at, ("an order: only numbers and times have `%s`"):format(op))
    end
    local literal = conditions.literal(reader, text, column, inside(at))
    return literal and { op = op, low = literal, text = (op == "==" and "= " or op .. " ") .. literal.text }
end

local function range(reader, open, low, high, close, column, at)
    local a = conditions.literal(reader, low, column, inside(at))
    local b = a and conditions.literal(reader, high, column, inside(at))
    if not b then
        return nil
    elseif a.raw > b.raw or a.raw == b.raw and (open == "(" or close == ")") then
        reader:error("type", at, ("nothing lies between %s and %s"):format(a.text, b.text), "the lower bound comes first")
        return nil
    end
    return { op = "range", low = a, high = b, low_open = open == "(", high_open = close == ")", text = ("%s%s..%s%s"):format(open, a.text, b.text, close) }
end

local function of_text(reader, text, column, at)
    if text == "-" then
        return {}
    elseif text == "not null" then
        return { { op = "not_null", text = "is not null" } }
    end
    local op, rest = text:match "^([<>=~!]=?)%s*(.-)%s*$"
    if op and operators[op] then
        local term = compared(reader, operators[op], rest, column, at)
        return term and { term }
    end
    local open, low, high, close = text:match "^%s*([%[%(]?)%s*(.-)%s*%.%.%s*(.-)%s*([%]%)]?)%s*$"
    if low and ordered(column.type) then
        local term = range(reader, open == "" and "[" or open, low, high, close == "" and "]" or close, column, at)
        return term and { term }
    end
    local term = compared(reader, "==", text, column, at)
    return term and { term }
end

local function one(reader, x, column, at, listed)
    if words.is_node(x, "none") then
        return { { op = "null", text = "is null" } }
    elseif type(x) == "string" and not (listed and column.type.kind == "string") then
        return of_text(reader, x, column, at)
    elseif type(x) == "table" or type(x) == "function" or words.is_word(x) then
        return wrong(reader, column, at, reader_module.described(x))
    end
    local literal = conditions.literal(reader, x, column, at)
    return literal and { { op = "==", low = literal, text = "= " .. literal.text } }
end

-- The terms of a cell, any of which suffices; {} of one that asks nothing; nil after a complaint.
function conditions.read(reader, item, column)
    local t = column.type
    if types.is_nested(t) or t.kind == "binary" then
        reader:error("type", item.at, ("a decision does not look at column `%s` of type %s"):format(column.name, t.text),
            "give what it looks at a column of its own in a stream before")
        return nil
    end
    local x = item.value
    if type(x) ~= "table" or getmetatable(x) ~= nil then
        return one(reader, x, column, item.value_at)
    end
    local terms = {}
    for _, each in ipairs(reader:fields(x, item.value_at)) do
        local more = type(each.key) == "number" and one(reader, each.value, column, each.value_at, true)
            or wrong(reader, column, each.at, "a table of names")
        if not more then
            return nil
        elseif #more == 0 then
            return {}
        end
        for _, term in ipairs(more) do
            terms[#terms + 1] = term
        end
    end
    if #terms == 0 then
        return wrong(reader, column, item.value_at, "an empty list, which no row is in")
    end
    return terms
end

function conditions.text(column, terms)
    local parts = {}
    for i, term in ipairs(terms) do
        parts[i] = term.text
    end
    return column.name .. " " .. table.concat(parts, " or ")
end

function conditions.unknown(reader, item, of, inputs, outputs)
    local known = naming.names(inputs)
    for _, column in ipairs(outputs) do
        known[#known + 1] = column.name
    end
    reader:error("unknown-column", item.at, ("%s has no column `%s`, and `columns` declares none"):format(of, tostring(item.key)),
        diagnostic.did_you_mean(tostring(item.key), known) or "there are: " .. table.concat(known, ", "))
end

return conditions
