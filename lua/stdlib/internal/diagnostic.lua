-- What is wrong with the files, collected: several findings a run, each with file, line, column, a
-- stable code and a way out. Errors refuse the rule set; lints never stop `run`.
local Diagnostics = {}
Diagnostics.__index = Diagnostics

local function new()
    return setmetatable({ list = {}, errors = 0, sources = {}, seen = {} }, Diagnostics)
end

-- The text of a file, so that findings can show their line.
function Diagnostics:source(file, text)
    local lines = {}
    for line in (text .. "\n"):gmatch "(.-)\r?\n" do
        lines[#lines + 1] = line
    end
    self.sources[file] = lines
end

function Diagnostics:add(severity, code, at, message, suggestion)
    at = at or {}
    local lines = self.sources[at.file]
    local entry = {
        severity = severity,
        code = code,
        file = at.file,
        line = at.line,
        column = at.col,
        message = message,
        suggestion = suggestion,
        source_line = lines and lines[at.line],
    }
    -- One place, one message: a helper checked for two datasets is reported once.
    local key = table.concat({ tostring(at.file), tostring(at.line), tostring(at.col), message }, "\0")
    if self.seen[key] then
        return
    end
    self.seen[key] = true
    self.list[#self.list + 1] = entry
    if severity == "error" then
        self.errors = self.errors + 1
    end
end

function Diagnostics:error(code, at, message, suggestion)
    self:add("error", code, at, message, suggestion)
end

function Diagnostics:lint(code, at, message, suggestion)
    self:add("lint", code, at, message, suggestion)
end

-- Errors first, then by place.
function Diagnostics:sorted()
    local list = {}
    for i, entry in ipairs(self.list) do
        list[i] = entry
        entry.order = i
    end
    table.sort(list, function(a, b)
        if a.severity ~= b.severity then
            return a.severity == "error"
        elseif a.file ~= b.file then
            return tostring(a.file) < tostring(b.file)
        elseif a.line ~= b.line then
            return (a.line or 0) < (b.line or 0)
        end
        return a.order < b.order
    end)
    for _, entry in ipairs(list) do
        entry.order = nil
    end
    return list
end

-- "file:line:column: error: message", the line, a caret, the suggestion: for specs and `weir.testing`;
-- the command renders the same in C.
function Diagnostics:text()
    local out = {}
    for _, e in ipairs(self:sorted()) do
        local place = (e.file or "?") .. (e.line and ":" .. e.line or "") .. (e.column and ":" .. e.column or "")
        out[#out + 1] = ("%s: %s: %s"):format(place, e.severity, e.message)
        if e.source_line then
            out[#out + 1] = e.source_line
            local lead = e.source_line:sub(1, (e.column or 1) - 1):gsub("[^\t]", " ")
            out[#out + 1] = lead .. "^"
        end
        if e.suggestion then
            out[#out + 1] = e.suggestion
        end
    end
    return table.concat(out, "\n")
end

-- Edits between two words, a swap of neighbours counting one.
local function distance(a, b)
    local la, lb = #a, #b
    local before, row = nil, {}
    for j = 0, lb do
        row[j] = j
    end
    for i = 1, la do
        local next_row = { [0] = i }
        for j = 1, lb do
            local cost = a:byte(i) == b:byte(j) and 0 or 1
            local best = math.min(row[j] + 1, next_row[j - 1] + 1, row[j - 1] + cost)
            if i > 1 and j > 1 and a:byte(i) == b:byte(j - 1) and a:byte(i - 1) == b:byte(j) then
                best = math.min(best, before[j - 2] + 1)
            end
            next_row[j] = best
        end
        before, row = row, next_row
    end
    return row[lb]
end

-- The known word nearest to `word`, when it is near enough to be meant.
local function nearest(word, known)
    local best, best_distance
    local limit = math.max(1, math.floor(#word / 3))
    if #word > 100 then
        return nil
    end
    for _, candidate in ipairs(known) do
        if math.abs(#candidate - #word) <= limit then
            local d = distance(word:lower(), candidate:lower())
            if d <= limit and (not best or d < best_distance) then
                best, best_distance = candidate, d
            end
        end
    end
    return best
end

local function did_you_mean(word, known)
    local best = nearest(word, known)
    return best and ("did you mean `%s`?"):format(best) or nil
end

return { new = new, nearest = nearest, did_you_mean = did_you_mean }
