-- Windows of models: what each kind takes, and what it says to the plan.
local datasets = require "weir.internal.datasets"
local json = require "weir.internal.json"
local time = require "weir.internal.time"

local windows = {}

-- kind -> `length`: the option that says how long one is; `hop`: the one that says how often; how it is written;
-- `bare`: its rows have no bounds and are never closed; `rows`: the length is a number of rows, and no time closes it
local kinds = {
    tumbling = { length = "size", form = 'tumbling { size = "1m" }' },
    hopping = { length = "size", hop = "every", form = 'hopping { size = "1h", every = "1m" }' },
    cumulate = { length = "size", hop = "step", form = 'cumulate { size = "1d", step = "1h" }' },
    sliding = { length = "size", bare = true, form = 'sliding "10m"' },
    count = { length = "size", rows = true, form = "count(100)" },
    session = { length = "gap", form = 'session { gap = "30m" }' },
    calendar = { form = 'calendar { "day", time_zone = "Europe/London" }' },
}

local ROWS_MAX = 1e9 -- of a count window

local units = { day = true, week = true, month = true, quarter = true, year = true }
local weekdays = { monday = 0, tuesday = 1, wednesday = 2, thursday = 3, friday = 4, saturday = 5, sunday = 6 }

-- The microseconds between one window and the next; 0 where they follow each other, nil after a complaint.
local function read_hop(reader, node, named, field, size)
    local kind = kinds[node.word]
    if not kind.hop then
        return 0
    elseif not named[kind.hop] then
        reader:error("type", field.value_at, ("a %s window says its `%s`"):format(node.word, kind.hop), kind.form)
        return nil
    end
    local hop = reader:duration(named[kind.hop], kind.hop)
    if hop == 0 or hop and hop > size then
        reader:error("type", named[kind.hop].value_at, ("`%s` is longer than nothing and not longer than size"):format(kind.hop),
            hop == 0 and kind.form or "rows between two windows would count nowhere")
        return nil
    elseif hop and node.word == "cumulate" and size % hop ~= 0 then
        reader:error("type", named.step.value_at, "steps divide the size", kind.form)
        return nil
    end
    return hop
end

-- The options of a window and its positional ones; nil after a complaint.
local function read_options(reader, node, field, kind)
    local options = { allowed_lateness = not (kind.bare or kind.rows) or nil, late = not kind.rows or nil }
    if kind.length then
        options[kind.length] = true
    else
        options.time_zone, options.week_start = true, true
    end
    if kind.hop then
        options[kind.hop] = true
    end
    if node.body then
        return reader:options(node.body, reader:place_of(node, field.value_at), options, node.word, kind.length == nil)
    elseif type(node.args[1]) == "string" or kind.rows and node.args[1] ~= nil then
        local at = reader:argument_at(field.value_at, 1)
        local said = { key = 1, value = node.args[1], at = at, value_at = at }
        return kind.length and { [kind.length] = said } or {}, { not kind.length and said or nil }
    end
    reader:left_open({ word = node.word }, field.value_at)
    return nil
end

local function read_calendar(reader, named, positional, field, kind, window)
    local said = positional[1]
    local unit = said and reader:want(said, "string", "calendar", '"day", "week", "month", "quarter" or "year"')
    if not said or unit and not units[unit] then
        reader:error("type", (said or field).value_at, ("a calendar window is of a day, week, month, quarter or year%s"):format(
            unit and (", not %q"):format(unit) or ""), kind.form)
        return nil
    end
    local zone = named.time_zone and reader:want(named.time_zone, "string", "time_zone", "a zone's name") or reader.project.time_zone
    if not time.has_zone(zone) then
        reader:error("type", (named.time_zone or field).value_at, ("no time zone is called %q on this machine"):format(zone), 'such as "Europe/London"')
        return nil
    end
    local first = named.week_start and reader:want(named.week_start, "string", "week_start", "a day of the week")
    if first and not weekdays[first] then
        reader:error("type", named.week_start.value_at, ("no day of the week is called %q"):format(first), 'week_start = "sunday"')
        return nil
    elseif first and unit ~= "week" then
        reader:error("type", named.week_start.at, "`week_start` is for calendar windows of a week")
    end
    if not unit then
        return nil
    end
    window.unit, window.time_zone, window.week_start = unit, zone, weekdays[first or "monday"]
    return window
end

local function read_length(reader, node, named, field, kind, window)
    local said = named[kind.length]
    if not said then
        reader:error("type", field.value_at, ("a %s window has a %s"):format(node.word, kind.length), kind.form)
        return nil
    end
    local length = reader:duration(said, kind.length)
    if length == 0 then
        reader:error("type", said.value_at, kind.length == "gap" and "a gap is longer than nothing" or "a window is longer than nothing")
        return nil
    end
    local hop = length and read_hop(reader, node, named, field, length)
    if not hop then
        return nil
    end
    window[kind.length .. "_us"], window.every_us = length, hop
    return window
end

local function read_rows(reader, named, field, kind, window)
    local said = named.size
    local rows = said and reader:want(said, "number", "count", "how many rows are a window: " .. kind.form)
    if not said or rows and (rows < 1 or rows % 1 ~= 0 or rows > ROWS_MAX) then
        reader:error("type", (said or field).value_at, ("a count window says how many rows it has, from 1 to %d"):format(ROWS_MAX), kind.form)
        return nil
    end
    window.rows = rows
    return rows and window
end

-- WINDOW of the plan and the late dataset it names; nil after a complaint.
function windows.read(reader, field, of)
    local node = reader:node(field, "window", "tumbling", "hopping", "sliding", "cumulate", "session", "count", "calendar")
    if not node then
        return nil
    end
    local kind = kinds[node.word]
    local named, positional = read_options(reader, node, field, kind)
    if not named then
        return nil
    end
    local window = { kind = node.word, every_us = 0 }
    if kind.rows then
        window = read_rows(reader, named, field, kind, window)
    elseif kind.length then
        window = read_length(reader, node, named, field, kind, window)
    else
        window = read_calendar(reader, named, positional or {}, field, kind, window)
    end
    local late = reader:want(named.late, "string", "late", "a dataset's name")
    if late and not datasets.check_name(reader, { name = late }, named.late.value_at) then
        late = nil
    end
    if window then
        window.allowed_lateness_us = reader:duration(named.allowed_lateness, "allowed_lateness") or 0
        window.late = late or json.null
    end
    return window, late and { name = late, at = named.late.value_at, of = of }
end

-- The column that tells the windows of a group apart: cumulate windows share their start. nil: none does, for rows of one time may be in several.
function windows.bound(window)
    return window.kind ~= "count" and (window.kind == "cumulate" and "window_end" or "window_start") or nil
end

-- As `weir explain` says it.
function windows.text(window, duration)
    if window.kind == "calendar" then
        return ("calendar %s in %s"):format(window.unit, window.time_zone)
    elseif window.kind == "session" then
        return "session, gap " .. duration(window.gap_us)
    elseif window.kind == "count" then
        return ("count, of %d rows"):format(window.rows)
    end
    local hop = window.every_us > 0 and (", %s %s"):format(window.kind == "hopping" and "every" or "step", duration(window.every_us)) or ""
    return ("%s %s%s"):format(window.kind, duration(window.size_us), hop)
end

return windows
