-- `expect_over` of quality files: what must hold of a dataset over a while. Each becomes declarations of its own: of windows a model whose rows
-- are those that broke it; of how far the dataset is behind the clock a rule with a timer. Its violations are the dataset `quality.DATASET.NAME`.
local diagnostic = require "weir.internal.diagnostic"
local time = require "weir.internal.time"
local types = require "weir.internal.types"
local value = require "weir.internal.value"
local words = require "weir.internal.words"

local quality = {}

local options = { alert = true, on_violation = true, because = true, by = true, measures = true, where = true, time = true, into = true }
local windows = { tumbling = true, hopping = true, cumulate = true, session = true, calendar = true, sliding = true, count = true }

local function slug(name)
    return (name:lower():gsub("[^%w]+", "_"):gsub("^_+", ""):gsub("_+$", ""))
end

local function node(from, word, fields)
    fields.word, fields.where, fields.context = word, from.where, from.context
    return setmetatable(fields, words.Node)
end

-- { column =, most = } of max_null_ratio("loyalty_id", 0.4); nil after a complaint.
local function read_null_ratio(reader, said, at)
    local column, most = said.args[1], said.args[2]
    if type(column) ~= "string" or type(most) ~= "number" or not (most >= 0 and most < 1) or said.args.n > 2 then
        reader:error("type", at, "max_null_ratio takes a column and how many of its values may be null, from 0 on and below 1",
            'such as max_null_ratio("loyalty_id", 0.4)')
        return nil
    end
    return { column = column, most = most, ratio = column .. "_null_ratio", present = column .. "_present" }
end

-- What is said in an expect_over: { window =, lag =, ratios =, holds =, named =, at =, name = }; nil after a complaint.
local function read(reader, expect, at, of)
    local place = reader:place_of(expect, at)
    local what = ("expect_over %q"):format(tostring(expect.name))
    if type(expect.name) ~= "string" or slug(expect.name) == "" then
        reader:error("type", place, 'an expectation has a name: expect_over "few null loyalty ids" { … }')
        return nil
    end
    local named, positional = reader:options(expect.body, place, options, what, true)
    local said = {
        node = expect, name = expect.name, dataset = ("quality.%s.%s"):format(of, slug(expect.name)), at = place, named = named, ratios = {}, holds = {},
    }
    local whole = true
    for _, field in ipairs(positional) do
        local x = field.value
        if type(x) == "function" then
            said.holds[#said.holds + 1] = field
        elseif words.is_node(x) and windows[x.word] then
            whole = whole and not said.window
            said.window = x
        elseif words.is_node(x, "max_null_ratio") then
            local ratio = read_null_ratio(reader, x, field.value_at)
            whole = whole and ratio
            said.ratios[#said.ratios + 1] = ratio
        elseif words.is_node(x, "max_lag") then
            local lag = x.args[1]
            if lag == nil then
                lag = false -- which is complained about
            end
            said.lag = reader:duration({ value = lag, at = field.value_at, value_at = field.value_at }, "max_lag")
            said.lags = true
        elseif reader:node(field, what, "tumbling", "hopping", "cumulate", "session", "calendar", "max_null_ratio", "max_lag") then
            whole = false
        end
    end
    if said.window and (said.window.word == "sliding" or said.window.word == "count") then
        reader:error("not-built", place, ("expect_over in %s windows is not built yet"):format(said.window.word), 'use tumbling "5m"')
        return nil
    elseif said.lags and (said.window or said.ratios[1] or said.holds[1] or named.measures or named.by or named.where) then
        reader:error("type", place, "max_lag goes by the clock, not by windows of rows; give it an expect_over of its own")
        return nil
    elseif not said.lags and not said.window then
        reader:error("type", place, ("%s does not say over what"):format(what), 'tumbling "5m", or max_lag "2m" for how far it may be behind the clock')
        return nil
    elseif not said.lags and not said.ratios[1] and not said.holds[1] then
        reader:error("type", place, ("%s says nothing to hold"):format(what),
            'max_null_ratio("loyalty_id", 0.4), or measures = { n = count() } and function(m) return m.n > 10 end')
        return nil
    elseif not whole or said.lags and not said.lag then
        return nil
    end
    return said
end

local function read_action(reader, field)
    local action = field and reader:want(field, "string", "on_violation", '"warn" or "fail"') or "warn"
    if action ~= "warn" and action ~= "fail" then
        reader:error("type", field.value_at, ("the rows of a window have left when it is judged: there is no %q any more"):format(action),
            diagnostic.did_you_mean(action, { "warn", "fail" }) or 'it is "warn" or "fail"')
        return "warn"
    end
    return action
end

-- ---------------------------------------------------------------- whom it is for

-- { channel = node } of a pipeline's `alerts`; nil: it sends none.
function quality.channels(reader, field)
    local t = field and reader:want(field, "table", "alerts", '{ ["teams:retail"] = webhook { url = env "TEAMS_URL" } }')
    if not t then
        return nil
    end
    local channels = {}
    for _, item in ipairs(reader:fields(t, field.value_at)) do
        if type(item.key) ~= "string" then
            reader:error("type", item.at, "alerts are channels by name", 'alerts = { ["teams:retail"] = webhook { url = env "TEAMS_URL" } }')
        else
            channels[item.key] = reader:node(item, "alerts", "webhook", "kafka")
        end
    end
    return channels
end

-- Whom an expect_over is for, and the stream that sends its rows there, where the pipeline says how.
local function read_alert(reader, said)
    local named, from, channels = said.named, said.node, reader.project.alerts
    local alert = named.alert and reader:want(named.alert, "string", "alert", "whom it is for, as a text") or nil
    if not alert or not channels then
        return alert
    elseif not channels[alert] then
        local known = {}
        for name in pairs(channels) do
            known[#known + 1] = name
        end
        table.sort(known)
        reader:error("unknown-name", named.alert.value_at, ("the pipeline's `alerts` have no channel %q"):format(alert),
            diagnostic.did_you_mean(alert, known) or "there are: " .. table.concat(known, ", "))
        return alert
    end
    return alert, { at = said.at, node = node(from, "stream", { name = said.dataset .. ".alert", body = {
        description = ("%s, for %s"):format(said.dataset, alert), from = said.dataset, into = channels[alert], quarantine = node(from, "none", {}),
    } }) }
end

-- ---------------------------------------------------------------- over windows

-- function(m): is the window's row one that breaks it? A function passes only on true; one that throws does not.
local function breaks(said)
    local ratios, holds = said.ratios, {}
    for i, field in ipairs(said.holds) do
        holds[i] = field.value
    end
    return function(m)
        for i = 1, #ratios do
            local ratio = m[ratios[i].ratio]
            if ratio ~= nil and ratio > ratios[i].most then
                return true
            end
        end
        for i = 1, #holds do
            local fine, held = pcall(holds[i], m)
            if not fine or held ~= true then
                return true
            end
        end
        return false
    end
end

local function null_ratio(present)
    return function(m)
        local rows = value.tonumber(m.rows)
        return (rows - value.tonumber(m[present])) / rows
    end
end

local function over_windows(reader, said, of)
    local named, from = said.named, said.node
    local written = named.measures and reader:want(named.measures, "table", "measures", "{ n = count() }")
    local measures, derive = written or {}, {}
    if said.ratios[1] then
        measures = { rows = node(from, "count", { args = { n = 0 } }) }
        for key, measure in pairs(written or {}) do
            measures[key] = measure
        end
    end
    for _, ratio in ipairs(said.ratios) do
        measures[ratio.present] = node(from, "count", { args = { n = 1, ratio.column } })
        derive[#derive + 1] = { [ratio.ratio] = null_ratio(ratio.present), type = "double" }
    end
    local alert, sender = read_alert(reader, said)
    if alert then
        derive[#derive + 1] = { alert = function() return alert end, type = "string" }
    end
    local action = read_action(reader, named.on_violation)
    local test = node(from, "expect", { name = said.name, body = {
        function() return false end, -- only what broke it comes here
        on_violation = action, because = named.because and named.because.value,
    } })
    return { { at = said.at, node = node(from, "model", { name = said.dataset, body = {
        description = ("windows of %s that break: %s"):format(of, said.name),
        from = of, where = named.where and named.where.value, by = named.by and named.by.value, time = named.time and named.time.value,
        window = said.window, measures = measures, derive = derive[1] and derive or nil, having = breaks(said), tests = { test },
        into = named.into and named.into.value,
    } }) }, sender }
end

-- ---------------------------------------------------------------- behind the clock

local rule_options = { on = true, key = true, order = true, emits = true, into = true, description = true }
local fresh_fields = { record = true }
for _, field in ipairs { { "newest", "timestamp" }, { "armed", "bool" }, { "told", "bool" } } do
    fresh_fields[#fresh_fields + 1] = { name = field[1], type = types.of(field[2]), nullable = true }
end

-- One timer stands for when the newest row gets too old; where a newer one came since, it is put off then, not by each row.
local function watch(said, alert)
    local lag = 0LL + said.lag
    local function process(holder)
        return function(_, s)
            local at, fresh = holder[0].time_us, s.fresh:get()
            if fresh and at <= fresh.newest.us then
                return
            end
            local armed, told = fresh and fresh.armed or false, fresh and fresh.told or false
            if not armed then
                told = told and at + lag <= time.now().us
                armed = not told
                if armed then
                    s:clock_timer("stale", time.Timestamp(at + lag))
                end
            end
            s.fresh:set { newest = time.Timestamp(at), armed = armed, told = told }
        end
    end
    local function stale(_, s, _, emit, at)
        local fresh = s.fresh:get()
        local due = fresh.newest.us + lag
        if due > at.us then
            s:clock_timer("stale", time.Timestamp(due))
            return
        end
        s.fresh:set { newest = fresh.newest, armed = false, told = true }
        emit(said.dataset, { newest = fresh.newest, known = at, alert = alert })
    end
    return {
        options = rule_options,
        parts = function()
            return {
                cells = { { name = "fresh", kind = "value", max = 1, fields = fresh_fields } }, ttl_us = 0,
                timers = { "stale" }, fires = { stale = stale }, process = { at = said.at }, bind = process,
            }
        end,
    }
end

local function behind_clock(reader, said, of)
    local named, from = said.named, said.node
    local alert, sender = read_alert(reader, said)
    if named.on_violation and read_action(reader, named.on_violation) == "fail" then
        reader:error("type", named.on_violation.value_at, "a dataset that is behind is no reason to stop", 'leave on_violation out: it is "warn"')
    end
    local rows = said.dataset .. ".rows"
    local stream = node(from, "stream", { name = rows, body = {
        description = "what is asked of " .. of .. " by the rule beside it", from = of, time = named.time and named.time.value,
        columns = { every_row = "int8" }, map = function(_, out) out.every_row = 1 end, into = node(from, "none", {}), quarantine = node(from, "none", {}),
    } })
    local rule = node(from, "rule", { name = said.dataset .. ".watch", made = watch(said, alert), body = {
        description = ("how far %s is behind the clock: %s"):format(of, said.name), on = rows, key = "every_row", order = "arrival",
        emits = { [said.dataset] = { newest = "timestamp", known = "timestamp", alert = "string" } }, into = named.into and named.into.value,
    } })
    return { { at = said.at, node = stream }, { at = said.at, node = rule }, sender }
end

-- The declarations that the expect_over of a quality file are.
function quality.declarations(reader, declaration)
    local list, of = {}, declaration.node.name
    for _, field in ipairs(reader:fields(declaration.node.body, declaration.at)) do
        if words.is_node(field.value, "expect_over") and not field.value.open and type(of) == "string" then
            local said = read(reader, field.value, field.value_at, of)
            for _, made in ipairs(said and (said.lag and behind_clock or over_windows)(reader, said, of) or {}) do
                list[#list + 1] = made
            end
        end
    end
    return list
end

return quality
