-- Matching of a `pattern` over one key's rows in order of event time. What has been met so far are runs: partial matches, kept in cells of
-- the rule the pattern is, so that they are undone, snapshot, replayed and forgotten as any state. A run says the step it stands at by name;
-- a reload that changes steps goes on with those whose step is still there.
--
-- What becomes of the runs is C's (operator/rule/match.c, abi/match.h). Here conditions are asked: those that look at the row alone of every row,
-- which most rows do not get beyond, and those that look at what a run took run by run; and matches are handed to `emit`.
local ffi = require "ffi"
local time = require "weir.internal.time"

local match = {}

local RUNS_MAX, ROWS_MAX = 1000, 10000 -- of a key (operator/rule/match_private.h)
match.RUNS_MAX, match.ROWS_MAX = RUNS_MAX, ROWS_MAX
local TIMES_MAX = 2 ^ 31 - 1
local skips = { past_last = 0, next = 1, none = 2, to_first = 3, to_last = 4 }

-- ---------------------------------------------------------------- what functions see

-- A row that was taken: its columns by name. One that was not kept is asked for in vain.
local function kept_row(known)
    return {
        __index = function(_, name)
            if not known[name] then
                error(("the pattern kept no `%s` of this row; name the column: m.step.%s"):format(tostring(name), tostring(name)), 2)
            end
            return nil
        end,
    }
end

-- The rows a step took: by number, and by column name of the last.
local row_list = {
    __index = function(list, name)
        local last = type(name) == "string" and list[#list]
        if last then
            return last[name]
        end
        return nil
    end,
}

local Matcher = {}
Matcher.__index = Matcher

-- Row number `at` of those kept; -1: the row at hand.
function Matcher:row_of(at, e)
    if at == -1 then
        local record = {}
        for _, name in ipairs(self.kept) do
            record[name] = e[name]
        end
        return setmetatable(record, self.row_meta)
    elseif at >= 0 then
        local record = self.rows[at]
        if not record then
            record = self.s.rows:get(at + 1)
            record._row = nil
            self.rows[at] = setmetatable(record, self.row_meta)
        end
        return record
    elseif not self.kept[1] then
        return setmetatable({}, self.row_meta)
    end
    error("a row of a partial match is missing", 0)
end

-- The match C told last, for conditions and emits.
function Matcher:seen(key, e, found)
    local told = self.told
    local m = { key = key, started = time.Timestamp(told.since_us), ended = found and time.Timestamp(told.ended_us) or nil }
    for i = 1, #self.places do
        m[self.places[i].name] = setmetatable({}, row_list)
    end
    for i = 0, told.taken_count - 1 do
        local place = self.places[told.taken_places[i] + 1]
        if place then -- of a step that is gone: not seen any more
            local list = m[place.name]
            list[#list + 1] = self:row_of(told.taken_rows[i], e)
        end
    end
    return m
end

-- The last row of the match C told last.
function Matcher:last_row(e)
    local told = self.told
    return e or self:row_of(told.taken_rows[told.taken_count - 1])
end

-- ---------------------------------------------------------------- a row

function Matcher:fail(h)
    error(ffi.string(ffi.C.weir_rule_error(h)), 0)
end

-- Conditions that look at a run, asked until C knows what becomes of all.
function Matcher:answer(h, next_one, e, key)
    local C, told = ffi.C, self.told
    local of, m
    while next_one == C.WEIR_MATCH_ASK do
        local run = tonumber(C.weir_match_taken(h, told))
        if run < 0 then
            self:fail(h)
        elseif run ~= of then
            of, m = run, self:seen(key, e)
        end
        next_one = C.weir_match_answer(h, told, self.conditions[told.asked + 1].fn(e, m, self.p) == true and 1 or 0)
    end
    return next_one
end

-- Each match is emitted; what is left of the runs is written.
function Matcher:tell(h, key, e)
    local C, told = ffi.C, self.told
    local more = C.weir_match_found(h, told)
    while more == 1 do
        self.emit(self, key, e)
        more = C.weir_match_found(h, told)
    end
    if more < 0 then
        self:fail(h)
    end
    return C.weir_match_end(h, told)
end

-- What is left to be done for a row: true when it is to be kept.
function Matcher:settle(h, next_one, e, p, emit)
    local C = ffi.C
    self.p, self.send, self.rows = p, emit, {}
    local key = self.key_of(e)
    next_one = self:answer(h, next_one, e, key)
    if next_one == C.WEIR_MATCH_FOUND then
        next_one = self:tell(h, key, e)
    end
    if next_one < 0 then
        self:fail(h)
    end
    return next_one == C.WEIR_MATCH_KEEP
end

-- What nothing came for in time: `at` the last moment of it.
function Matcher:over(h, key, p, emit, at)
    local C = ffi.C
    self.p, self.send, self.rows = p, emit, {}
    local next_one = C.weir_match_over(h, self.told, at)
    if next_one == C.WEIR_MATCH_FOUND then
        next_one = self:tell(h, key)
    end
    if next_one < 0 then
        self:fail(h)
    end
end

-- function process(e, s, p, emit): the conditions of the row alone are asked one after the other, so that they inline into the loop.
local function process_text(self)
    local names, asks, kept = {}, {}, {}
    for i, condition in ipairs(self.conditions) do
        if not condition.sees then
            names[#names + 1] = "c" .. i
            asks[#asks + 1] = ("    if c%d(e, nil, p) == true then mask = mask + %.0f end\n"):format(i, 2 ^ (i - 1))
        end
    end
    for i, name in ipairs(self.kept) do
        kept[i] = (", e[%q]"):format(name)
    end
    return ([[
local holder, row, told, settle, push, matcher, tonumber%s = ...
return function(e, s, p, emit)
    local mask = 0
%s%s    local h = holder[0]
    local next_one = row(h, told, mask)
    if next_one == 0 then return end
    if next_one == 1 or settle(matcher, h, next_one, e, p, emit) then
        push(nil, tonumber(told.id)%s)
    end
end
]]):format(#names > 0 and ", " .. table.concat(names, ", ") or "", table.concat(asks), self.always and "" or "    if mask == 0 then return end\n",
        table.concat(kept))
end

-- ---------------------------------------------------------------- the steps, as C knows them

local function fill(self, step, to, guards)
    to.name, to.name_bytes = step.name, #step.name
    to.condition = step.condition or -1
    to.sees = step.where and step.where.sees and 1 or 0
    to.min, to.max = step.min, math.min(step.max, TIMES_MAX)
    to.strict, to.any, to.consecutive = step.strict and 1 or 0, step.any and 1 or 0, step.consecutive and 1 or 0
    to.first_guard, to.guard_count = guards, #step.guards
    self.anchored[#self.anchored + 1] = step.name
end

-- reach: how far a run may go from a place without taking anything in between; ends: nothing more has to come; waits: something may come later.
local function fill_reach(places, i, tail, to)
    local reach, ends, waits = i, true, i == #places and tail
    for at = i + 1, #places do
        reach = at
        waits = waits or not places[at].strict
        ends = ends and places[at].min == 0
        if places[at].min > 0 then
            break
        end
    end
    to.reach, to.ends, to.waits = reach - 1, ends and 1 or 0, waits and 1 or 0
    return reach - 1
end

-- struct weir_match; `anchored` keeps what it points to.
local function told_of(self, spec)
    local count = 0
    for _, place in ipairs(spec.places) do
        count = count + #place.guards
    end
    local places = ffi.new("struct weir_match_step[?]", #spec.places)
    local guards = ffi.new("struct weir_match_step[?]", count)
    local told = ffi.new "struct weir_match"
    self.anchored = { places, guards }
    count = 0
    for i, place in ipairs(spec.places) do
        fill(self, place, places[i - 1], count)
        fill_reach(spec.places, i, spec.tail, places[i - 1])
        for _, guard in ipairs(place.guards) do
            fill(self, guard, guards[count], 0)
            count = count + 1
        end
        if place.name == spec.skip.step then
            told.skip_place = i - 1
        end
    end
    told.places, told.guards, told.place_count = places, guards, #spec.places
    told.begin_reach = fill_reach(spec.places, 0, spec.tail, ffi.new "struct weir_match_step")
    told.within_us = spec.within or 0
    told.skip, told.timer = skips[spec.skip.how], spec.tail and 0 or -1
    told.gaps, told.paths, told.keeps = spec.gaps and 1 or 0, spec.paths and 1 or 0, spec.kept[1] and 1 or 0
    return told
end

-- The functions of the rule that the pattern is: process(e, s, p, emit) and the timer's. `spec`: places (steps that take rows, each with the
-- guards behind it), steps (all of them), within (µs, or nil), skip, columns, those kept of earlier rows, tail (guards behind the last place), gaps (whether
-- a row let pass matters), paths (whether it matters which rows were taken), sees (whether conditions look at them), emit(matcher, key, e)
-- and key_of(e). The first is made from where the run at hand is held, and its cells.
function match.make(spec)
    local self = setmetatable({}, Matcher)
    for name, v in pairs(spec) do
        self[name] = v
    end
    local known = {}
    for _, name in ipairs(spec.columns) do
        known[name] = false
    end
    for _, name in ipairs(spec.kept) do
        known[name] = true
    end
    self.row_meta = kept_row(known)
    -- always: a row that fits nothing may still end a run, or a condition is asked of each run.
    self.conditions, self.always = {}, spec.gaps or spec.sees or false
    for _, step in ipairs(spec.steps) do
        if step.where then
            self.conditions[#self.conditions + 1] = step.where
            step.condition = #self.conditions - 1
        else
            self.always = true
        end
    end
    self.told = told_of(self, spec)
    local held
    local function process(holder, s)
        self.s, held = s, holder
        local asks = {}
        for _, condition in ipairs(self.conditions) do
            asks[#asks + 1] = not condition.sees and condition.fn or nil
        end
        local chunk = assert(loadstring(process_text(self), "=pattern"))
        return chunk(holder, ffi.C.weir_match_row, self.told, self.settle, self.kept[1] and s.rows.push or false, self, tonumber, unpack(asks))
    end
    local function within(key, _, p, emit, at)
        self:over(held[0], key, p, emit, at.us)
    end
    return process, within
end

return match
