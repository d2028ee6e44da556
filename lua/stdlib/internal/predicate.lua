-- Expectations: the data predicates C evaluates (not_null, one_of, between, matches) and row functions,
-- judged against the columns they name. Literals go to the plan as text, as written.
local ffi = require "ffi"
local diagnostic = require "weir.internal.diagnostic"
local json = require "weir.internal.json"
local naming = require "weir.internal.naming"
local time = require "weir.internal.time"
local types = require "weir.internal.types"
local value = require "weir.internal.value"
local reader_module = require "weir.internal.reader"

local predicate = {}

local described = reader_module.described

-- The column of that name, or nil after a complaint with a suggestion.
function predicate.column(reader, columns, name, at, of)
    for index, column in ipairs(columns) do
        if column.name == name and column.exploded then
            reader:error("unknown-column", at, ("`%s` was taken apart by explode"):format(name), ("its element is `%s`"):format(column.exploded))
            return nil
        elseif column.name == name and column.between then -- of joined rows: two have it
            reader:error("ambiguous", at, ("`%s` is a column of %s"):format(name, column.between), ("say which, such as %q"):format(column.such))
            return nil
        elseif column.name == name then
            return column, index
        end
    end
    local names = naming.names(columns)
    reader:error("unknown-column", at, ("%s has no column `%s`"):format(of, tostring(name)),
        diagnostic.did_you_mean(tostring(name), names) or "it has: " .. table.concat(names, ", "))
    return nil
end

local function whole_text(x, node)
    if node and node.tag == "Number" and node.text and node.text:match "^%d+$" then
        return node.text
    elseif node and node.tag == "Unop" and node.op == "-" and node.operand.tag == "Number" and node.operand.text:match "^%d+$" then
        return "-" .. node.operand.text
    end
    return ("%.0f"):format(x)
end

local function number_text(x, node)
    if x % 1 == 0 and math.abs(x) < 1e18 then
        return whole_text(x, node)
    elseif node and node.tag == "Number" and node.text and node.text:match "^[%d.]+$" then
        return node.text
    elseif x % 1 == 0 and math.abs(x) < 1e38 then
        return whole_text(x, node)
    end
    for digits = 15, 17 do
        local text = ("%." .. digits .. "g"):format(x)
        if tonumber(text) == x then
            return text
        end
    end
end

local int64_limit = { low = "9223372036854775808", high = "9223372036854775807" }

local function int_in_range(text, kind)
    local range = types.range[kind]
    if range then
        local n = tonumber(text)
        return n >= range[1] and n <= range[2], ("%d to %d"):format(range[1], range[2])
    end
    local digits = text:gsub("^-", ""):gsub("^0+", "")
    local limit = text:sub(1, 1) == "-" and int64_limit.low or int64_limit.high
    return #digits < #limit or #digits == #limit and digits <= limit, "-9223372036854775808 to 9223372036854775807"
end

-- A literal as C reads it at the column's type; nil after a complaint.
local function literal(reader, x, column, at)
    local t = column.type
    local function wrong(form)
        reader:error("type", at, ("column `%s` is %s: it does not compare with %s"):format(column.name, t.text, described(x)), form)
        return nil
    end
    local node = at.node
    if t.kind == "bool" then
        if type(x) ~= "boolean" then
            return wrong "write true or false"
        end
        return x
    elseif types.is_int(t) then
        if type(x) == "string" and t.kind == "int64" and x:match "^-?%d+$" then
            node = nil
        elseif type(x) ~= "number" then
            return wrong "write the number without quotes"
        elseif x % 1 ~= 0 then
            return wrong "write a whole number"
        end
        local text = type(x) == "string" and x or number_text(x, node)
        local fits, range = int_in_range(text, t.kind)
        if not fits then
            reader:error("literal", at, ("column `%s` is %s: %s is outside its range %s"):format(column.name, t.text, text, range))
            return nil
        end
        return text
    elseif t.kind == "decimal" then
        local text
        if type(x) == "cdata" and value.is_number(x) then
            text = tostring(x)
        elseif type(x) == "string" and x:match "^[+-]?%d+%.?%d*$" then
            text = x
        elseif type(x) == "number" then
            text = number_text(x, node)
        else
            return wrong 'write the number, or its digits as a text: "12.50"'
        end
        local whole, fraction = text:match "^[+-]?0*(%d*)%.?(%d-)0*$"
        if whole and (#fraction > t.scale or #whole > t.precision - t.scale) then
            reader:error("literal", at, ("column `%s` is %s: no value of it is %s"):format(column.name, t.text, text),
                ("write at most %d digits before the point and %d after it"):format(t.precision - t.scale, t.scale))
            return nil
        end
        return text
    elseif types.is_float(t) then
        if type(x) ~= "number" then
            return wrong "write the number without quotes"
        end
        return number_text(x, node)
    elseif t.kind == "string" then
        if type(x) ~= "string" then
            return wrong "write a text in quotes"
        end
        return x
    elseif types.is_timestamp(t) then
        if type(x) == "cdata" and (ffi.istype(time.Timestamp, x) or ffi.istype(time.TimestampNs, x)) then
            return tostring(x)
        elseif type(x) == "string" and (t.kind:match "_ns" and time.parse_timestamp_ns or time.parse_timestamp)(x, t.kind:match "ntz" ~= nil) then
            return x
        end
        return wrong 'write a time with its offset: "2026-01-05T10:00:00Z"'
    elseif t.kind == "date" then
        if type(x) == "cdata" and ffi.istype(time.Date, x) then
            return tostring(x)
        elseif type(x) == "string" and time.parse_date(x) then
            return x
        end
        return wrong 'write a date: "2026-01-05"'
    end
    return wrong "this type has no literals; use a function(e)"
end

-- The plan term of one predicate node; nil after a complaint.
local function term(reader, node, at, columns, of)
    local args = node.args
    if node.word == "not_null" or node.word == "matches" or node.word == "one_of" or node.word == "between" then
        local name = args[1]
        if node.word == "not_null" and type(name) ~= "string" then
            reader:error("type", at, 'not_null takes a column: not_null "event_id"')
            return nil
        elseif type(name) ~= "string" then
            reader:error("type", reader:argument_at(at, 1), ("%s takes a column's name first, not %s"):format(node.word, described(name)))
            return nil
        end
        local column = predicate.column(reader, columns, name, reader:argument_at(at, 1), of)
        if not column then
            return nil
        end
        if node.word == "not_null" then
            if args.n > 1 then
                reader:error("type", reader:argument_at(at, 2), "not_null takes one column; list several not_null beside each other")
                return nil
            end
            return { kind = "not_null", column = name }
        elseif types.is_nested(column.type) or column.type.kind == "binary" then
            reader:error("type", at, ("%s does not judge column `%s` of type %s"):format(node.word, name, column.type.text), "use a function(e)")
            return nil
        elseif node.word == "matches" then
            if column.type.kind ~= "string" then
                reader:error("type", reader:argument_at(at, 1), ("matches takes a string column; `%s` is %s"):format(name, column.type.text))
                return nil
            elseif type(args[2]) ~= "string" then
                reader:error("type", reader:argument_at(at, 2), "matches takes a regular expression: matches(\"id\", [[^L\\d{7}$]])")
                return nil
            end
            return { kind = "matches", column = name, pattern = args[2] }
        elseif node.word == "between" then
            if args.n ~= 3 then
                reader:error("type", at, "between takes a column, the lowest and the highest value")
                return nil
            elseif column.type.kind == "bool" then
                reader:error("type", reader:argument_at(at, 1), ("between takes an ordered column; `%s` is bool"):format(name))
                return nil
            end
            local low = literal(reader, args[2], column, reader:argument_at(at, 2))
            local high = literal(reader, args[3], column, reader:argument_at(at, 3))
            if low == nil or high == nil then
                return nil
            end
            local a, b = tonumber(low), tonumber(high)
            if types.is_numeric(column.type) and a and b and a > b or column.type.kind == "string" and low > high then
                reader:lint("empty-range", at, ("nothing lies between %s and %s"):format(low, high), "the lower bound comes first")
            end
            return { kind = "between", column = name, low = low, high = high }
        end
        local list = args[2]
        local list_at = reader:argument_at(at, 2)
        if type(list) ~= "table" or getmetatable(list) ~= nil then
            reader:error("type", list_at, 'one_of takes a list: one_of("currency", { "GBP", "EUR" })')
            return nil
        end
        local values = json.array {}
        for _, item in ipairs(reader:fields(list, list_at)) do
            local text = literal(reader, item.value, column, item.value_at)
            if text == nil then
                return nil
            end
            values[#values + 1] = text
        end
        if #values == 0 then
            reader:error("type", list_at, "one_of with an empty list passes no row")
            return nil
        end
        return { kind = "one_of", column = name, values = values }
    end
    reader:error("type", at, ("`%s` is no predicate"):format(node.word), "a predicate is not_null, one_of, between, matches or a function(e)")
    return nil
end

local expect_options = { on_violation = true, because = true }
local actions = { quarantine = true, drop = true, fail = true, warn = true }
local reserved = { decode = true, time = true, map = true, where = true, budget = true, future = true, unavailable = true, truncate = true }

-- The plan entry of one `expect`. `functions`: adds a row function, returns its number; `own`: the
-- columns are the dataset's own, not what it reads.
function predicate.expectation(reader, node, at, columns, of, functions, own)
    local place = reader:place_of(node, at)
    if type(node.name) ~= "string" or node.name == "" then
        reader:error("type", place, "an expectation has a name: expect \"sale has an id\" { … }")
        return nil
    elseif reserved[node.name] then
        reader:error("reserved", place, ("`%s` is a reserved reason; name the expectation otherwise"):format(node.name))
    end
    local named, positional = reader:options(node.body, place, expect_options, ("expect %q"):format(node.name), true)
    local action = "quarantine"
    if named.on_violation then
        local said = reader:want(named.on_violation, "string", "on_violation", '"quarantine", "drop", "fail" or "warn"')
        if said and not actions[said] then
            reader:error("type", named.on_violation.value_at, ("no action is called %q"):format(said),
                diagnostic.did_you_mean(said, { "quarantine", "drop", "fail", "warn" }) or "it is quarantine, drop, fail or warn")
        end
        action = said or action
    end
    local terms = json.array {}
    for _, field in ipairs(positional) do
        local x = field.value
        if type(x) == "function" then
            local f = reader:func(field, "an expectation")
            if f then
                local number = functions("predicate", f, "expectation " .. node.name, columns, nil, own)
                terms[#terms + 1] = { kind = "function", ["function"] = number }
            end
        else
            local found = reader:node(field, ("expect %q"):format(node.name), "not_null", "one_of", "between", "matches")
            local made = found and term(reader, found, field.value_at, columns, of)
            if made then
                terms[#terms + 1] = made
            end
        end
    end
    if #positional == 0 then
        reader:error("type", place, ("expect %q says nothing to hold"):format(node.name), "add a predicate such as not_null \"id\" or a function(e)")
    end
    return {
        name = node.name,
        action = action,
        because = reader:want(named.because, "string", "because", "a text"),
        line = place.line,
        file = place.file,
        terms = terms,
    }
end

-- A list of expectations under an option; `seen` holds names already used for this dataset.
function predicate.list(reader, field, what, columns, of, functions, seen, into, own)
    if not field then
        return into
    end
    local list = reader:want(field, "table", what, "a list of expectations")
    for _, item in ipairs(list and reader:fields(list, field.value_at) or {}) do
        if type(item.key) ~= "number" then
            reader:error("unknown-option", item.at, ("%s is a list of expect \"name\" { … }"):format(what))
        else
            local node = reader:node(item, what, "expect")
            local made = node and predicate.expectation(reader, node, item.value_at, columns, of, functions, own)
            if made then
                if seen[made.name] then
                    reader:error("repeated-name", reader:place_of(node, item.value_at), ("the expectation %q is declared twice for %s"):format(made.name, of))
                end
                seen[made.name] = true
                into[#into + 1] = made
            end
        end
    end
    return into
end

predicate.literal = literal

return predicate
