-- weir.testing: rules under busted. The real runtime, a virtual clock, state in memory: the harness in C
-- runs the pipeline's graph over the records a spec feeds; this is its Lua face (abi/harness.h).
local native = require "weir.native"
local harness = require "weir.internal.harness"
local time = require "weir.internal.time"

local testing = {}

-- An explicit null in a record (a field left out is absent).
testing.null = native.null

-- ---------------------------------------------------------------- records

local function encode(v)
    if v == nil or v == native.null then
        return "null"
    elseif type(v) == "string" then
        return native.json_quote(v)
    elseif type(v) == "number" then
        if v ~= v or v == math.huge or v == -math.huge then
            error("JSON has no " .. tostring(v), 3)
        end
        return v % 1 == 0 and math.abs(v) < 1e15 and ("%d"):format(v) or ("%.17g"):format(v)
    elseif type(v) == "boolean" then
        return tostring(v)
    elseif type(v) == "cdata" then
        local kind = require("weir.internal.value").kind(v)
        local text = tostring(v)
        return (kind == "int64" or kind == "decimal") and text or native.json_quote(text)
    elseif type(v) ~= "table" then
        error("a record holds texts, numbers, booleans and tables, not a " .. type(v), 3)
    end
    local parts = {}
    if #v > 0 or next(v) == nil then
        for i, item in ipairs(v) do
            parts[i] = encode(item)
        end
        return "[" .. table.concat(parts, ",") .. "]"
    end
    local keys = {}
    for k in pairs(v) do
        keys[#keys + 1] = tostring(k)
    end
    table.sort(keys)
    for i, k in ipairs(keys) do
        parts[i] = native.json_quote(k) .. ":" .. encode(v[k])
    end
    return "{" .. table.concat(parts, ",") .. "}"
end

local Record = {}
Record.__index = Record

-- testing.record { … } gives a maker: maker { field = other } is the record with those fields changed.
-- `_at = "+4m"` moves the declared time field from the base record's.
function testing.record(base)
    return function(changes)
        local fields = {}
        for k, v in pairs(base) do
            fields[k] = v
        end
        local moved
        for k, v in pairs(changes or {}) do
            if k == "_at" then
                moved = v
            else
                fields[k] = v
            end
        end
        return setmetatable({ fields = fields, moved = moved }, Record)
    end
end

local function line_of(record, time_field)
    if type(record) == "string" then
        return record -- a raw line, to feed what does not decode
    end
    local fields = getmetatable(record) == Record and record.fields or record
    local moved = getmetatable(record) == Record and record.moved
    if moved then
        if not time_field then
            error("`_at` needs a dataset that declares its time field", 3)
        end
        local us = time.parse_duration((moved:gsub("^%+", "")))
        local base = time.parse_timestamp(tostring(fields[time_field]))
        if not us then
            error(("`_at` takes a duration such as \"+4m\", not %q"):format(moved), 3)
        elseif not base then
            error(("`_at` moves `%s`, which must be an ISO time in the record"):format(time_field), 3)
        end
        local changed = {}
        for k, v in pairs(fields) do
            changed[k] = v
        end
        changed[time_field] = tostring(time.Timestamp(base + us))
        fields = changed
    end
    return encode(fields)
end

-- Lines of spec/fixtures/NAME, one record each.
function testing.fixture(name)
    local text, why = native.read_file("spec/fixtures/" .. name)
    if not text then
        error(("cannot read the fixture %s: %s"):format(name, tostring(why)), 2)
    end
    local list = {}
    for line in text:gmatch "[^\r\n]+" do
        list[#list + 1] = line
    end
    return list
end

-- ---------------------------------------------------------------- a dataset under test

local Dataset = {}
Dataset.__index = Dataset

-- The project's pipeline: the one named, or the first under pipelines/.
local function pipeline_path(options)
    if options.pipeline then
        return options.pipeline
    end
    local found = native.list_files("pipelines", ".lua")
    if not found or #found == 0 then
        error("there is no pipelines/*.lua here; run the specs at the project root", 3)
    end
    return found[1]
end

-- The dataset of that name, run from the records fed to what it reads. options: { pipeline = path,
-- upstream = true: start at the sources, with everything between; settings = { ["commit.every"] = … } }.
function testing.load(name, options)
    options = options or {}
    local settings = {}
    for key, v in pairs(options.settings or {}) do
        settings[#settings + 1] = key .. "=" .. tostring(v)
    end
    table.sort(settings)
    local handle = harness.open(pipeline_path(options), table.concat(settings, "\n"))
    local input = harness.input(handle, name)
    if not input then
        error(("no stream or model is called `%s`"):format(name), 2)
    end
    -- Event time is declared by the dataset or by one it stems from.
    local time_field, at = nil, name
    while at and not time_field do
        time_field = harness.time(handle, at)
        at = harness.input(handle, at)
        if options.upstream and at then
            input = at
        end
    end
    while options.upstream and at do
        input, at = at, harness.input(handle, at)
    end
    return setmetatable({ name = name, handle = handle, input = input, time_field = time_field }, Dataset)
end

local function latest_of(lines, time_field)
    local latest
    for _, line in ipairs(lines) do
        local object = native.json_decode(line)
        local us = type(object) == "table" and type(object[time_field]) == "string" and time.parse_timestamp(object[time_field])
        if us and (not latest or us > latest) then
            latest = us
        end
    end
    return latest
end

-- feed(record, …), feed(list of records or lines), feed("dataset", record, …)
function Dataset:feed(...)
    local first = ...
    local input, from = self.input, 1
    if type(first) == "string" and not first:match "^%s*[{%[]" then
        input, from = first, 2
        if not harness.has(self.handle, input) then
            error(("no dataset is called `%s`"):format(input), 2)
        end
    end
    local lines = {}
    for i = from, select("#", ...) do
        local item = select(i, ...)
        if type(item) == "table" and getmetatable(item) == nil and #item > 0 then
            for _, each in ipairs(item) do
                lines[#lines + 1] = line_of(each, self.time_field)
            end
        else
            lines[#lines + 1] = line_of(item, self.time_field)
        end
    end
    -- Records come as they happen: the clock moves on to the latest, so that none lies in the future.
    local latest = self.time_field and latest_of(lines, self.time_field)
    local ahead = latest and tonumber(latest - harness.now())
    if ahead and ahead > 0 then
        harness.advance(self.handle, ahead)
    end
    harness.feed(self.handle, input, table.concat(lines, "\n"))
    return self
end

-- What an async_lookup answers: answer("customer", { customer_id = 1 }, { tier = "gold" }); without a row, nothing is found.
function Dataset:answer(lookup, key, row)
    harness.answer(self.handle, self.name, lookup, encode(key), row and encode(row) or "null", 0)
    return self
end

-- The service does not answer for a key, and why.
function Dataset:fail(lookup, key, why)
    harness.answer(self.handle, self.name, lookup, encode(key), tostring(why), 1)
    return self
end

-- Moves the watermark to an ISO time, as if a row of that time had come.
function Dataset:watermark(text)
    local us = time.parse_timestamp(text)
    if not us then
        error(("%q is not a time with an offset"):format(tostring(text)), 2)
    end
    harness.watermark(self.handle, us)
    return self
end

-- Moves the virtual clock by a duration: "+1m".
function Dataset:clock(text)
    local us = time.parse_duration((tostring(text):gsub("^%+", "")))
    if not us then
        error(("%q is not a duration such as \"+1m\""):format(tostring(text)), 2)
    end
    harness.advance(self.handle, us)
    return self
end

-- Ends the input: every window closes.
function Dataset:finish()
    harness.finish(self.handle)
    return self
end

-- A dataset's columns by name, as far as they are told.
local function types_of(handle, dataset)
    local text = harness.columns(handle, dataset)
    local types = {}
    for _, column in ipairs(text and native.json_decode(text) or {}) do
        types[column.name] = column.type
    end
    return types
end

-- A value as specs write it: decimals as their digits (3.00 is not 3), times as tostring prints them.
local function plain(line, name, v, type_text)
    if type_text:match "^decimal" and type(v) == "number" then
        local quoted = native.json_quote(name):gsub("%W", "%%%0")
        return line:match("[{,]" .. quoted .. ":(%-?[%d.]+)")
    elseif type_text == "timestamp" and type(v) == "string" then
        local us = time.parse_timestamp(v)
        return us and tostring(time.Timestamp(us)) or v
    end
    return v
end

local function rows_of(handle, dataset)
    local rows = {}
    local types = types_of(handle, dataset)
    for line in harness.rows(handle, dataset):gmatch "[^\n]+" do
        local object, why = native.json_decode(line)
        if not object then
            error(why, 3)
        end
        local row = {}
        for k, v in pairs(object) do
            if v ~= native.null then
                row[k] = types[k] and plain(line, k, v, types[k]) or v
            end
        end
        rows[#rows + 1] = row
    end
    return rows
end

-- What the dataset holds, in order: tables of its columns, or of those named. Decimals and int64 beyond
-- 2^53 are texts of their digits, times ISO texts, null absent.
function Dataset:rows(columns)
    local rows = rows_of(self.handle, self.name)
    if not columns then
        return rows
    end
    local picked = {}
    for i, row in ipairs(rows) do
        picked[i] = {}
        for _, name in ipairs(columns) do
            picked[i][name] = row[name]
        end
    end
    return picked
end

-- The rows in quarantine, each with `reasons`, a list of names.
function Dataset:rejected()
    local rows = rows_of(self.handle, "quarantine." .. self.name)
    for _, row in ipairs(rows) do
        row.reasons = {}
        for i, reason in ipairs(row._reasons or {}) do
            row.reasons[i] = reason.expectation
        end
    end
    return rows
end

-- The rows of another dataset this one writes: what a rule emits, late rows by the name they were given. Of a rule without a name: of all it
-- emits to, dataset by dataset as they are declared.
function Dataset:emitted(name)
    if name then
        return rows_of(self.handle, name)
    end
    local rows, any = {}, false
    for each in harness.emits(self.handle, self.name):gmatch "[^\n]+" do
        any = true
        for _, row in ipairs(rows_of(self.handle, each)) do
            rows[#rows + 1] = row
        end
    end
    return any and rows or rows_of(self.handle, self.name)
end

-- { in =, out =, rejected = { … }, late =, … } of the dataset, as in the summary of a run.
function Dataset:counters(name)
    return native.json_decode(harness.counters(self.handle, name or self.name))
end

return testing
