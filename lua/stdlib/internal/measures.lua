-- Measures of models: what each kind takes, and what it says to the plan.
local aggregates = require "weir.internal.aggregates"
local json = require "weir.internal.json"
local predicate = require "weir.internal.predicate"
local types = require "weir.internal.types"

local measures = {}

local measure_options = { where = true, over = true }
local collect_options = { where = true, max = true, over = true }

local measure_words = {
    "sum", "count", "avg", "min", "max", "distinct", "first", "last", "arg_max", "arg_min", "variance", "stddev", "any", "all",
    "approx_distinct", "approx_quantile", "quantile", "median", "top_k", "collect", "aggregate",
}
measures.counts = { count = true, distinct = true, approx_distinct = true } -- never null
measures.needs_time = { first = true, last = true }

-- The column arg_max and arg_min go by: their second argument. nil after a complaint.
local function read_order(reader, kind, args, at, input, from_name)
    local name = args[2]
    if type(name) ~= "string" then
        reader:error("type", reader:argument_at(at, 2), ("%s takes a column and the one it is chosen by"):format(kind),
            ('such as %s("bidder", "price")'):format(kind))
        return nil
    end
    local column = predicate.column(reader, input, name, reader:argument_at(at, 2), from_name)
    local t = column and column.type
    if t and not (types.is_numeric(t) or types.is_timestamp(t) or t.kind == "date" or t.kind == "bool") then
        reader:error("type", reader:argument_at(at, 2), ("%s goes by a number or a time; `%s` is %s"):format(kind, name, t.text))
        return nil
    end
    return column and name
end

local shared = { quantile = true, approx_quantile = true }

-- A whole number above 0; nil after a complaint.
local function read_most(reader, value, at, what, example)
    if type(value) ~= "number" or value < 1 or value % 1 ~= 0 or value > 1e9 then
        reader:error("type", at, what, example)
        return nil
    end
    return value
end

-- How long a row counts in the measure; nil: for ever, or after a complaint.
local function read_over(reader, field, kind, has_time)
    local us = field and reader:duration(field, "over")
    if us == 0 then
        reader:error("type", field.value_at, "rows count for longer than nothing", ('such as %s("qty", { over = "7d" })'):format(kind))
    elseif us and not has_time then
        reader:error("no-time", field.at, "`over` goes by event time, and nothing here or upstream declares it", 'add time = { field = "…" }')
    end
    return us ~= 0 and us or nil
end

-- What kinds say behind their column: where the options come next, nil after a complaint.
local function read_more(reader, kind, args, at, measure)
    if shared[kind] then
        measure.share = args[2]
        if type(measure.share) ~= "number" or not (measure.share > 0 and measure.share <= 1) then
            reader:error("type", reader:argument_at(at, 2), kind .. " says which, above 0 and up to 1", ('such as %s("price", 0.95)'):format(kind))
            return nil
        end
        return 3
    elseif kind == "top_k" then
        measure.most = read_most(reader, args[2], reader:argument_at(at, 2), "top_k says how many values, from 1 on", 'such as top_k("item", 10)')
        return measure.most and 3
    end
    return 2
end

-- MEASURE of the plan and its type; nil after a complaint. has_time: event time is known.
function measures.read(reader, item, input, from_name, functions, has_time)
    local name = item.key
    local node = reader:node(item, ("measure `%s`"):format(name), unpack(measure_words))
    if not node then
        return nil
    end
    local kind, args, at = node.word, node.args, item.value_at
    local what = ("measure %s"):format(name)
    if kind == "aggregate" then
        return aggregates.read(reader, item, node, input, functions)
    end
    local measure = { name = name, kind = kind, column = json.null, ["function"] = json.null, input_type = json.null, where = json.null }
    local subject, next_arg = args[1], 2
    if kind == "count" and (subject == nil or type(subject) == "table") then
        subject, next_arg = nil, 1
    end
    if kind == "arg_max" or kind == "arg_min" then
        measure.order = read_order(reader, kind, args, at, input, from_name)
        if not measure.order then
            return nil
        end
        next_arg = 3
    elseif shared[kind] or kind == "top_k" then
        next_arg = read_more(reader, kind, args, at, measure)
        if not next_arg then
            return nil
        end
    elseif measures.needs_time[kind] and not has_time then
        reader:error("no-time", at, ("%s goes by event time, and nothing here or upstream declares it"):format(kind), 'add time = { field = "…" }')
        return nil
    end
    local input_type
    if type(subject) == "string" then
        local column = predicate.column(reader, input, subject, reader:argument_at(at, 1), from_name)
        if not column then
            return nil
        end
        measure.column, input_type = subject, column.type
    elseif type(subject) == "function" then
        if measure.order or measure.share or measure.most then
            reader:error("not-built", at, ("%s of a function is not built yet"):format(kind), "make it a column in a stream in between")
            return nil
        end
        local type_text = args[2]
        next_arg = 3
        local parsed, why
        if type(type_text) == "string" then
            parsed, why = types.parse(type_text)
        else
            why = ('%s over a function says the type of its values: %s(function(e) … end, "decimal(18,4)")'):format(kind, kind)
        end
        if not parsed then
            reader:error("type", reader:argument_at(at, 2), why)
            return nil
        end
        local f = reader:function_value(subject, reader:argument_at(at, 1))
        if not f then
            return nil
        end
        local out = { name = "value", type = parsed, nullable = true }
        measure["function"] = functions("map", f, what, input, { out = { out }, result = out })
        input_type = parsed
    elseif subject ~= nil or kind ~= "count" then
        reader:error("type", at, ("%s takes a column or a function, not %s"):format(kind, reader.described(subject)), ('such as %s "qty"'):format(kind))
        return nil
    end
    local more = args[next_arg]
    if more ~= nil then
        local more_at = reader:argument_at(at, next_arg)
        if type(more) ~= "table" or getmetatable(more) ~= nil then
            reader:error("type", more_at, ("%s takes options in a table: { where = function(e) … end }"):format(kind))
        else
            local named = reader:options(more, more_at, kind == "collect" and collect_options or measure_options, kind, false)
            if named.max then
                measure.most = read_most(reader, named.max.value, named.max.value_at, "max is how many values are kept, from 1 on", 'such as max = 100')
            end
            measure.over_us = read_over(reader, named.over, kind, has_time)
            local where = reader:func(named.where, "where")
            if where then
                measure.where = functions("predicate", where, what .. " where", input)
            end
        end
    end
    if args.n > next_arg then
        reader:error("type", reader:argument_at(at, next_arg + 1), ("%s takes no more than that"):format(kind))
    end
    if kind == "any" or kind == "all" then -- of truth values true is the greatest
        if input_type.kind ~= "bool" then
            reader:error("type", reader:argument_at(at, 1), ("%s needs a bool; `%s` is %s"):format(kind, tostring(measure.column), input_type.text))
            return nil
        end
        kind = kind == "any" and "max" or "min"
        measure.kind = kind
    end
    local result, why = types.measure(kind, input_type)
    if not result then
        reader:error("type", reader:argument_at(at, 1), ("%s; `%s` is %s"):format(why, tostring(measure.column), input_type.text))
        return nil
    end
    measure.order, measure.share, measure.most = measure.order or json.null, measure.share or json.null, measure.most or json.null
    measure.over_us = measure.over_us or json.null
    measure.input_type = input_type and input_type.text or json.null
    measure.type = result.text
    return measure, result
end

return measures
