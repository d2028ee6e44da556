-- Matching of a `pattern` over one key's rows in order of event time. What has been met so far are runs: partial matches, kept in cells of
-- the rule the pattern is, so that they are undone, snapshot, replayed and forgotten as any state. A run says the step it stands at by name;
-- a reload that changes steps goes on with those whose step is still there.
--
-- A row is first held against what must not come (guards), then taken by the runs that can take it. Where it fits the step a run stands at
-- and a later one, both are tried. Of matches the same row completes, those that began first go first, then the longest.
local time = require "weir.internal.time"

local match = {}

local nothing = {}
local RUNS_MAX, ROWS_MAX = 1000, 10000 -- of a key
match.RUNS_MAX, match.ROWS_MAX = RUNS_MAX, ROWS_MAX

-- ---------------------------------------------------------------- what functions see

-- A row that was taken: its columns by name. One that was not kept is asked for in vain.
local Row = {}
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
Row.list = {
    __index = function(list, name)
        local last = type(name) == "string" and list[#list]
        if last then
            return last[name]
        end
        return nil
    end,
}

-- ---------------------------------------------------------------- runs

-- "probe 1 2|spend 5": which rows which step took, as steps and ids. (No patterns: they do not compile.)
local function parse_path(text)
    local steps, ids, count = {}, {}, 0
    local step, at = nil, 1
    while at <= #text do
        local stop = at
        local byte = text:byte(stop)
        while byte and byte ~= 32 and byte ~= 124 do
            stop = stop + 1
            byte = text:byte(stop)
        end
        local word = text:sub(at, stop - 1)
        if step then
            count = count + 1
            steps[count], ids[count] = step, tonumber(word)
        else
            step = word
        end
        step = byte ~= 124 and step or nil
        at = stop + 1
    end
    return steps, ids, count
end

local function longer(path, step, same, id)
    if path == "" then
        return step .. " " .. id
    end
    return same and path .. " " .. id or path .. "|" .. step .. " " .. id
end

local Matcher = {}
Matcher.__index = Matcher

-- Which rows a run took: kept beside it, and read where it matters.
function Matcher:path(run)
    if not run.path and run.place then
        run.path = self.s.paths:get(run.place)
    end
    return run.path or ""
end

-- The match so far, for conditions and emits.
function Matcher:seen(run, key)
    local m = { key = key, started = time.Timestamp(run.since), ended = run.ended and time.Timestamp(run.ended) or nil }
    for i = 1, #self.places do
        m[self.places[i].name] = setmetatable({}, Row.list)
    end
    local steps, ids, count = parse_path(self:path(run))
    for i = 1, count do
        local list = m[steps[i]]
        if list then -- of a step that is gone: not seen any more
            list[#list + 1] = self:row_of(ids[i])
        end
    end
    return m
end

function Matcher:row_of(id)
    local found = self.rows[id]
    if found then
        return found
    elseif not self.kept[1] then
        return setmetatable({}, self.row_meta)
    end
    local rows = self.s.rows
    for i = rows:count(), 1, -1 do
        local record = rows:get(i)
        if tonumber(record._row.v) == id then
            record._row = nil
            self.rows[id] = setmetatable(record, self.row_meta)
            return record
        end
    end
    error("a row of a partial match is missing", 0)
end

-- The row at hand as it will be kept.
function Matcher:keep(e, id)
    local record = {}
    for _, name in ipairs(self.kept) do
        record[name] = e[name]
    end
    self.rows[id] = setmetatable(record, self.row_meta)
end

-- The runs of the key, each with its place among those kept (`slot`); how many are kept, with those whose step is gone.
function Matcher:load()
    local runs, cell = {}, self.s.runs
    local held = cell:count()
    for i = 1, held do
        local run = cell:get(i)
        run.at = self.place_of[run.step]
        if run.at then
            run.slot, run.place, run.since = i, i, run.since.us
            runs[#runs + 1] = run
        end
    end
    return runs, held
end

function Matcher:holds(f, e, run, key)
    if not f then
        return true
    elseif not f.sees then
        return f.now
    end
    if not run.seen then
        run.seen = self:seen(run, key)
    end
    return f.fn(e, run.seen, self.p) == true
end

-- ---------------------------------------------------------------- a row

-- Whether the row at hand is one that must not come now.
function Matcher:forbidden(e, run, key)
    local step = self.places[run.at]
    if run.count < step.min then
        return false
    end
    for i = 1, #step.guards do
        local guard = step.guards[i]
        if not (guard.strict and run.gap) and self:holds(guard.where, e, run, key) then
            return true
        end
    end
    return false
end

function Matcher:taken(run, at, count, id)
    local name = self.places[at].name
    local path = self.paths and longer(self:path(run), name, at == run.at, id) or ""
    return { at = at, step = name, count = count, since = run.since, start = run.start or id, gap = false, path = path, last = id }
end

-- What becomes of a run at this row: the runs that take it, and whether it also goes on without.
function Matcher:successors(e, run, key, id, into)
    local step, before, stays = self.places[run.at], #into, false
    if run.count < step.max and not (step.consecutive and run.gap) and self:holds(step.where, e, run, key) then
        into[#into + 1] = self:taken(run, run.at, run.count + 1, id)
    end
    if run.count >= step.min then
        for at = run.at + 1, step.reach do
            local next_step = self.places[at]
            if not (next_step.strict and run.gap) and self:holds(next_step.where, e, run, key) then
                into[#into + 1] = self:taken(run, at, 1, id)
                stays = stays or next_step.any
            end
        end
    end
    return #into == before or stays
end

-- Whether a run that let a row pass can still go on.
function Matcher:alive(run)
    local step = self.places[run.at]
    return run.count < step.max and not step.consecutive or run.count >= step.min and step.waits
end

function Matcher:complete(run)
    local step = self.places[run.at]
    return step.ends and run.count >= step.min
end

-- ---------------------------------------------------------------- matches

-- Which of two matches goes first: that which began first, the longer, that of earlier rows, that whose earlier steps took more.
function Matcher:before(a, b)
    if a.start ~= b.start then
        return a.start < b.start
    end
    local steps, ids, count = parse_path(self:path(a))
    local others, other_ids, other = parse_path(self:path(b))
    if count ~= other then
        return count > other
    end
    for i = 1, count do
        if ids[i] ~= other_ids[i] then
            return ids[i] < other_ids[i]
        end
    end
    for i = 1, count do
        if steps[i] ~= others[i] then
            return self.place_of[steps[i]] < self.place_of[others[i]]
        end
    end
    return false
end

-- The first row the next match may begin with.
function Matcher:resumes(run)
    local skip = self.skip
    if skip.how == "past_last" then
        return run.last + 1
    elseif skip.how == "next" then
        return run.start + 1
    elseif skip.how == "none" then
        return 0
    end
    local found
    local steps, ids, count = parse_path(self:path(run))
    for i = 1, count do
        if steps[i] == skip.step and (not found or skip.how == "to_last") then
            found = ids[i]
        end
    end
    return found or 0 -- the step took none: nothing is skipped
end

-- Emits of the complete what the skip strategy leaves; returns the runs it leaves.
function Matcher:settle(complete, runs, key, e)
    if #complete > 1 then
        table.sort(complete, self.order)
    end
    local from = 0
    for i = 1, #complete do
        local run = complete[i]
        if run.start >= from then
            from = math.max(from, self:resumes(run))
            self.emit(self, run, key, e)
        end
    end
    local left = {}
    for i = 1, #runs do
        if runs[i].start >= from then
            left[#left + 1] = runs[i]
        end
    end
    return left
end

-- ---------------------------------------------------------------- state

-- Rows no run needs go; the row at hand stays when one does.
function Matcher:write_rows(runs, id)
    local first, needed, rows = math.huge, false, self.s.rows
    for i = 1, #runs do
        first, needed = math.min(first, runs[i].start), needed or runs[i].last == id
    end
    while rows:count() > 0 and tonumber(rows:get(1)._row.v) < first do
        rows:remove(1)
    end
    if needed and id then
        if rows:count() >= ROWS_MAX then
            error(("more than %d rows of partial matches; say within, or a narrower first step"):format(ROWS_MAX), 0)
        end
        local record, row = { _row = id }, self.rows[id]
        for i = 1, #self.kept do
            record[self.kept[i]] = row[self.kept[i]]
        end
        rows:push(record)
    end
end

-- What changed of the runs: `held` were kept, in their slots; those without a slot are new, and so is one that has let its first row pass.
function Matcher:write(runs, held, id)
    local s = self.s
    if #runs == 0 then
        s:clear()
        if self.tail then
            s:cancel "within"
        end
        return
    elseif #runs > RUNS_MAX then
        error(("more than %d partial matches of a key; say within, or a narrower first step"):format(RUNS_MAX), 0)
    end
    local cell, paths, stays = s.runs, s.paths, {}
    for i = 1, #runs do
        local slot = runs[i].slot
        if slot then
            stays[slot] = true
        end
    end
    for slot = held, 1, -1 do
        if not stays[slot] then
            cell:remove(slot)
            paths:remove(slot)
        end
    end
    local oldest = runs[1].since
    for i = 1, #runs do
        local run = runs[i]
        if not run.slot then
            cell:push { step = run.step, count = run.count, since = time.Timestamp(run.since), start = run.start, last = run.last, gap = run.gap }
            paths:push(run.path)
        end
        oldest = run.since < oldest and run.since or oldest
    end
    if id then
        s.taken:set(id)
    end
    if self.kept[1] then
        self:write_rows(runs, id)
    end
    if self.tail then
        s:timer("within", time.Timestamp(oldest + self.within - 1))
    end
end

function Matcher:begins(e, now, key, id, into)
    local run = { since = now, count = 0 }
    for at = 1, self.places[0].reach do
        if self:holds(self.places[at].where, e, run, key) then
            into[#into + 1] = self:taken(run, at, 1, id)
        end
    end
end

-- What becomes of the runs there are: those that let the row pass, and into `took` those that took it. Whether anything changed.
function Matcher:go_on(runs, e, now, key, id, took)
    local on, changed = {}, false
    for i = 1, #runs do
        local run = runs[i]
        if self.within and now - run.since >= self.within or self:forbidden(e, run, key) then
            changed = true
        elseif self:successors(e, run, key, id, took) then
            if self.gaps and not run.gap then
                self:path(run)
                run.gap, run.slot, changed = true, nil, true
            end
            if self:alive(run) then
                on[#on + 1] = run
            else
                changed = true
            end
        end
    end
    return on, changed
end

-- Asks the conditions that look at the row alone, once. Whether it may matter to any run: most rows of a key do not, and its runs are not even read.
function Matcher:matters(e)
    local any = self.always
    for i = 1, #self.conditions do
        local f = self.conditions[i]
        f.now = f.fn(e, nil, self.p) == true
        any = any or f.now
    end
    return any
end

-- One row that may matter: `now` its time.
function Matcher:row(e, now)
    local runs, held = nothing, 0
    self.rows = {}
    if self.s.runs:count() > 0 then
        runs, held = self:load()
    end
    local key, id = self.sees and self.key_of(e), held > 0 and tonumber(self.s.taken:get().v) + 1 or 1
    local took = {}
    local on, changed = self:go_on(runs, e, now, key, id, took)
    self:begins(e, now, key, id, took)
    if #took == 0 then
        if changed or held > #runs then
            self:write(on, held, nil)
        end
        return
    end
    self:keep(e, id)
    local complete = {}
    for i = 1, #took do
        local run = took[i]
        local ends = not self.tail and self:complete(run)
        if ends then
            run.ended = now
            complete[#complete + 1] = run
        end
        if not ends or run.count < self.places[run.at].max or run.at < #self.places then
            on[#on + 1] = run
        end
    end
    if #complete > 0 then
        on = self:settle(complete, on, self.key_of(e), e)
    end
    self:write(on, held, id)
end

-- What nothing came for in time: `at` the last moment of it.
function Matcher:over(key, at)
    self.rows = {}
    local complete, left = {}, {}
    local runs, held = self:load()
    for _, run in ipairs(runs) do
        if run.since + self.within - 1 > at then
            left[#left + 1] = run
        elseif self:complete(run) then
            run.ended = run.since + self.within
            complete[#complete + 1] = run
        end
    end
    self:write(self:settle(complete, left, key), held, nil)
end

-- Inlined into the loop of rows these make traces of thousands of instructions, most of which are given up after milliseconds of recording:
-- they are called, and what they call of the cells is compiled by itself.
for _, f in pairs(Matcher) do
    if type(f) == "function" and f ~= Matcher.matters then
        jit.off(f)
    end
end

-- The functions of the rule that the pattern is: process(e, s, p, emit) and the timer's. `spec`: places (steps that take rows, each with the
-- guards behind it), steps (all of them), within (µs, or nil), skip, columns, those kept of earlier rows, tail (guards behind the last place), gaps (whether
-- a row let pass matters), paths (whether it matters which rows were taken), sees (whether conditions look at them), emit(matcher, run, key, e)
-- and key_of(e). The first is made for a function that tells the time of the row at hand.
function match.make(spec)
    local self = setmetatable({ place_of = {} }, Matcher)
    self.order = function(a, b) return self:before(a, b) end
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
        self.conditions[#self.conditions + 1] = step.where and not step.where.sees and step.where or nil
        self.always = self.always or not step.where
    end
    -- reach: how far a run may go from a place without taking anything in between; ends: nothing more has to come; waits: something may come later.
    spec.places[0] = { min = 0 }
    for i = 0, #spec.places do
        local step = spec.places[i]
        step.reach, step.ends, step.waits = i, true, i == #spec.places and spec.tail
        for at = i + 1, #spec.places do
            step.reach = at
            step.waits = step.waits or not spec.places[at].strict
            step.ends = step.ends and spec.places[at].min == 0
            if spec.places[at].min > 0 then
                break
            end
        end
        if i > 0 then
            self.place_of[step.name] = i
        end
    end
    local function process(row_time)
        return function(e, s, p, emit)
            self.s, self.p, self.send = s, p, emit
            if self:matters(e) then
                self:row(e, row_time())
            end
        end
    end
    local function within(key, s, p, emit, at)
        self.s, self.p, self.send = s, p, emit
        self:over(key, at.us)
    end
    return process, within
end

return match
