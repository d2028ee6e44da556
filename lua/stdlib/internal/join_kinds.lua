-- What each kind of join takes, and what it says to the plan: `read(reader, given, sides, plan, at)`, with sides.left and sides.right
-- { name, columns, time, key }.
local predicate = require "weir.internal.predicate"
local time = require "weir.internal.time"
local words = require "weir.internal.words"

local join_kinds = {}

local function is_timestamp(column)
    return column.type.kind == "timestamp" or column.type.kind == "timestamp_ntz"
end

local function has_column(side, name)
    for _, column in ipairs(side.columns) do
        if column.name == name then
            return true
        end
    end
    return false
end

-- A side by event time, whose rows do not change.
local function check_stream(reader, side, word, place)
    if has_column(side, "_change") then
        reader:error("type", place, ("the rows of %s change, and %s joins rows that only come"):format(side.behind or side.name, word),
            side.behind and "write it before the regular_join" or "a regular_join takes rows that change, a temporal_join on its right side")
    elseif not side.time then
        reader:error("no-time", place, ("%s goes by event time, and nothing declares that of %s"):format(word, side.name), 'add time = { field = "…" } there')
    end
end

-- ---------------------------------------------------------------- interval

-- A bound: microseconds, or (the second) the name of a left column.
local function read_bound(reader, item, left, may_be_column)
    local x = reader:resolve(item.value, item.value_at)
    local us = time.duration_us(x)
    if us then
        return us
    elseif type(x) ~= "string" then
        reader:error("type", item.value_at, 'a bound is a duration, right - left, such as "-10s"')
        return nil
    elseif not may_be_column then
        reader:error("type", item.value_at, "the lower bound is a duration", "put the streams the other way round to bound it by a column")
        return nil
    end
    local column = predicate.column(reader, left.columns, x, item.value_at, left.name)
    if column and not is_timestamp(column) then
        reader:error("type", item.value_at, ("the bound is a time; `%s` is %s"):format(x, column.type.text))
        return nil
    end
    return nil, column and require("weir.internal.joins").use(column)
end

local function read_between(reader, given, sides, plan, at)
    local field = given.between
    local t = reader:want(field, "table", "between", '{ "-10s", "10s" }')
    if not field then
        reader:error("type", at, "an interval join says how far apart its rows may be, right - left", 'between = { "-10s", "10s" }')
    end
    local items = t and reader:fields(t, field.value_at) or {}
    if t and (#items ~= 2 or items[1].key ~= 1 or items[2].key ~= 2) then
        reader:error("type", field.value_at, "between takes two bounds, right - left", 'between = { "-10s", "10s" }')
        return
    elseif not t then
        return
    end
    plan.low_us = read_bound(reader, items[1], sides.left, false) or 0
    plan.high_us, plan.high_column = read_bound(reader, items[2], sides.left, true)
    if plan.high_us and plan.low_us > plan.high_us then
        reader:error("type", field.value_at, "the lower bound comes after the upper one: nothing would ever be joined")
    end
    plan.high_us = plan.high_us or 0
end

local all = { "inner", "left", "right", "full", "semi", "anti" }

join_kinds.interval_join = {
    what = "interval",
    kinds = all,
    options = { on = true, between = true, kind = true, where = true, allowed_lateness = true, late = true },
    example = 'join = { payment = interval_join "silver.payment" { on = "order_id", between = { "0s", "1h" } } }',
    read = function(reader, given, sides, plan, at)
        check_stream(reader, sides.left, "an interval join", at)
        check_stream(reader, sides.right, "an interval join", at)
        read_between(reader, given, sides, plan, at)
    end,
}

-- ---------------------------------------------------------------- temporal

-- The versions are those of the key: all of it is asked for, and nothing else.
local function check_versions(reader, right, plan, at)
    local asked = {}
    for _, name in ipairs(plan.right_on or {}) do
        asked[name] = true
    end
    for _, name in ipairs(right.key) do
        if plan.right_on and not asked[name] then
            reader:error("type", at, ("the key of `%s` has `%s`, too"):format(right.name, name), "a version is found by all of the key")
        end
        asked[name] = nil
    end
    local other = next(asked)
    if other then
        reader:error("type", at, ("`%s` has one row at a time for each %s, not for each `%s`"):format(right.name, table.concat(right.key, ", "), other),
            'where names differ: on = { left = "right" }')
    end
end

local LATENESS_US = 3600000000 -- where nothing is said: an enrichment is no place to lose rows that are a little late

join_kinds.temporal_join = {
    what = "temporal",
    kinds = { "inner", "left" },
    options = { on = true, as_of = true, kind = true, where = true, wait = true, unmatched = true, allowed_lateness = true },
    example = 'join = { price = temporal_join "silver.price" { on = "sku" } }',
    default_on = function(right)
        return right.key
    end,
    ahead = true,
    read = function(reader, given, sides, plan, at)
        local left, right = sides.left, sides.right
        check_stream(reader, left, "a temporal join", at)
        if not right.key then
            local source = right.kind == "source"
            reader:error("type", at, ("`%s` has no versions: %s"):format(right.name, source and "a source has no key" or "it has no key"),
                source and ('put a stream with key = "…" and a time between: from = %q'):format(right.name)
                or right.kind == "model" and "join a model with `by` and without a window" or 'give it key = "…"')
        elseif not right.time then
            reader:error("no-time", at, ("versions hold from their event time on, and nothing declares that of %s"):format(right.name),
                'add time = { field = "…" } there')
        else
            check_versions(reader, right, plan, given.on and given.on.value_at or at)
        end
        local as_of = reader:want(given.as_of, "string", "as_of", "a column's name")
        local column = as_of and predicate.column(reader, left.columns, as_of, given.as_of.value_at, left.name)
        if column and not (is_timestamp(column)) then
            reader:error("type", given.as_of.value_at, ("versions are asked for by a time; `%s` is %s"):format(as_of, column.type.text))
        elseif column and not (left.time and left.time.field == as_of) then
            plan.as_of = require("weir.internal.joins").use(column)
        end
        plan.wait_us = reader:duration(given.wait, "wait")
        plan.lateness_us = LATENESS_US
        local unmatched = reader:want(given.unmatched, "string", "unmatched", '"drop" or "quarantine"') or "drop"
        if unmatched ~= "drop" and unmatched ~= "quarantine" then
            reader:error("type", given.unmatched.value_at, ("rows that find nothing are not %q"):format(unmatched), 'unmatched is "drop" or "quarantine"')
        elseif given.unmatched and plan.kind == "left" then
            reader:error("type", given.unmatched.at, 'of a "left" join rows that find nothing stay', 'leave `unmatched` out, or say kind = "inner"')
        end
        plan.quarantine = unmatched == "quarantine" or nil
    end,
}

-- ---------------------------------------------------------------- window

local HOPS_MAX = 1000

join_kinds.window_join = {
    what = "window",
    kinds = all,
    options = { on = true, window = true, kind = true, where = true, allowed_lateness = true, late = true },
    example = 'join = { bid = window_join "silver.bid" { on = "auction", window = tumbling "10s" } }',
    read = function(reader, given, sides, plan, at)
        check_stream(reader, sides.left, "a window join", at)
        check_stream(reader, sides.right, "a window join", at)
        if not given.window then
            reader:error("type", at, "a window join says in which windows its rows meet", 'window = tumbling "10s"')
            return
        end
        local window = require("weir.internal.windows").read(reader, given.window, sides.left.name)
        if not window then
            return
        elseif window.kind ~= "tumbling" and window.kind ~= "hopping" then
            reader:error("type", given.window.value_at, ("rows are joined in tumbling and hopping windows, not in %s ones"):format(window.kind),
                'window = tumbling "10s"')
            return
        end
        plan.window_us = window.size_us
        plan.every_us = window.every_us > 0 and window.every_us or window.size_us
        if plan.window_us / plan.every_us > HOPS_MAX then
            reader:error("limit", given.window.value_at, ("a row would be in %d windows; %d are the most"):format(
                math.ceil(plan.window_us / plan.every_us), HOPS_MAX))
        end
        plan.lateness_us = window.allowed_lateness_us
        for _, name in ipairs { "window_start", "window_end" } do
            if has_column(sides.left, name) then
                reader:error("repeated-name", at, ("%s has a column `%s`, which a window join adds"):format(sides.left.name, name),
                    "give it another name in a stream before")
            end
        end
        plan.bounds = true -- becomes their place
    end,
}

-- ---------------------------------------------------------------- regular

-- The microseconds for which a side's rows are kept; nil: for ever.
local function read_ttl(reader, value, at)
    local x = reader:resolve(value, at)
    if (words.is_word(x) or words.is_node(x)) and x.word == "none" then
        return nil
    end
    local us = time.duration_us(x)
    if not us or us <= 0 then
        reader:error("type", at, "ttl takes how long rows are kept that nothing changes, or none", 'ttl = "1d"')
        return nil
    end
    return us
end

local function read_ttls(reader, field, plan, at)
    if not field then
        reader:error("type", at, "a regular join says for how long it keeps rows: both sides are state, and grow with them", 'ttl = "1d", or ttl = none')
    elseif type(field.value) == "table" and getmetatable(field.value) == nil then
        local named = reader:options(field.value, field.value_at, { left = true, right = true }, "ttl", false)
        for _, side in ipairs { "left", "right" } do
            if named[side] then
                plan[side .. "_ttl_us"] = read_ttl(reader, named[side].value, named[side].value_at)
            else
                reader:error("type", field.value_at, ("ttl says nothing of the %s side"):format(side), 'ttl = { left = "1h", right = none }')
            end
        end
    else
        plan.left_ttl_us = read_ttl(reader, field.value, field.value_at)
        plan.right_ttl_us = plan.left_ttl_us
    end
end

-- Rows that change come with what they take back: a model's do, and a keyed stream remembers them.
local function take_back(reader, side, at)
    if not has_column(side, "_change") or side.changelog == "whole" then
        return
    elseif side.remember then
        side.remember()
    else
        reader:error("type", at, ("the changes of %s do not carry the old rows"):format(side.name),
            'put a stream with key = "…" and without explode between, which remembers them')
    end
end

join_kinds.regular_join = {
    what = "regular",
    kinds = all,
    options = { on = true, kind = true, where = true, ttl = true },
    example = 'join = { customer = regular_join "silver.customer" { on = "customer_id", ttl = none } }',
    changes = true,
    read = function(reader, given, sides, plan, at)
        read_ttls(reader, given.ttl, plan, at)
        take_back(reader, sides.left, at)
        take_back(reader, sides.right, at)
        plan.by_clock = not (sides.left.time and sides.right.time) or nil
        plan.left_changes = has_column(sides.left, "_change") or nil
        plan.change = true -- becomes its place
    end,
}

return join_kinds
