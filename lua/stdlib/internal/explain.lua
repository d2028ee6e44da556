-- `weir explain`: one dataset's plan, guarantees and generated code, as text or JSON.
local json = require "weir.internal.json"
local time = require "weir.internal.time"
local tops = require "weir.internal.tops"
local windows = require "weir.internal.windows"

local explain = {}

local function duration(us)
    return time.duration_text(us)
end

local function said(x)
    return x ~= nil and x ~= json.null
end

local function find(plan, name)
    for _, kind in ipairs { "sources", "streams", "models" } do
        for _, dataset in ipairs(plan[kind]) do
            if dataset.name == name then
                return dataset, kind:sub(1, -2)
            end
        end
    end
end

local function columns_text(columns)
    local parts = {}
    for i, column in ipairs(columns) do
        parts[i] = column.name .. " " .. column.type
    end
    return table.concat(parts, ", ")
end

local function term_text(term)
    if term.kind == "not_null" then
        return ("%s is not null"):format(term.column)
    elseif term.kind == "between" then
        return ("%s between %s and %s"):format(term.column, term.low, term.high)
    elseif term.kind == "one_of" then
        local values = {}
        for i, v in ipairs(term.values) do
            values[i] = tostring(v)
        end
        return ("%s one of %s"):format(term.column, table.concat(values, ", "))
    elseif term.kind == "matches" then
        return ("%s matches %s"):format(term.column, term.pattern)
    elseif term.kind == "function" then
        return ("function %d"):format(term["function"])
    end
    return term.kind
end

local function add_expectations(lines, title, list)
    for _, expectation in ipairs(list or {}) do
        if expectation.terms then
            local terms = {}
            for i, term in ipairs(expectation.terms) do
                terms[i] = term_text(term)
            end
            lines[#lines + 1] = ("  %-12s %s: %s, else %s"):format(title, expectation.name, table.concat(terms, " and "), expectation.action)
        else
            lines[#lines + 1] = ("  %-12s unique %s: by construction, one row a group and window"):format(title, table.concat(expectation.columns, ", "))
        end
    end
end

-- What can be promised of a dataset, and why.
function explain.guarantees(dataset, kind)
    local list = {}
    if said(dataset.into) and dataset.into.kind == "kafka" then
        list[#list + 1] = dataset.into.options.delivery == "at_least_once"
            and "at least once in its topic: a crash may send the last epoch's messages again (delivery = \"at_least_once\")"
            or "exactly once for readers with isolation.level=read_committed: the epoch's record carries its messages, the topic's own transaction the marker"
    elseif said(dataset.into) then
        list[#list + 1] = "exactly once in its table: the epoch's record carries its rows, the table's own transaction the marker"
    else
        list[#list + 1] = "in memory only: nothing is written"
    end
    if kind == "source" then
        list[#list + 1] = "read again from its recorded position after a crash"
    else
        list[#list + 1] = "the same result whatever the batch size or epoch length"
    end
    if said(dataset.window) then
        list[#list + 1] = (dataset.refires and "one row a group and window, as the window ends; late rows change it for %s"
            or "one row a group and window, once its lateness of %s is over"):format(duration(dataset.window.allowed_lateness_us))
        list[#list + 1] = said(dataset.window.late) and "late rows go to " .. dataset.window.late or "late rows are counted and left out"
    end
    if kind == "model" and not said(dataset.window) then
        list[#list + 1] = "one row a group, that changes: readers get a changelog (+I -U +U -D);"
            .. " how many updates it shows depends on batches, what they add up to does not"
    end
    if said(dataset.dedup) then
        list[#list + 1] = ("of rows equal in %s less than %s apart the first to arrive passes"):format(
            table.concat(dataset.dedup.by, ", "), duration(dataset.dedup.within_us))
    end
    return list
end

-- What a decimal column costs: more than 18 digits leave the one-word path.
local function costs(dataset)
    local list = {}
    for _, column in ipairs(dataset.columns or {}) do
        local precision = tonumber(column.type:match "^decimal%((%d+),")
        if precision and precision > 18 then
            list[#list + 1] = ("column %s is %s: values beyond 18 digits cost about 24 ns an operation in Lua instead of 2"):format(column.name, column.type)
        end
    end
    return list
end

local function functions_of(plan, code, name)
    local list = {}
    for i, f in ipairs(plan.functions) do
        if f.of == name then
            list[#list + 1] = { number = i - 1, what = f.what, kind = f.kind, file = f.file, line = f.line, reads = f.reads, code = code and code[i] }
        end
    end
    return list
end

-- result: what load returned; name: a dataset; options: { code = true, json = true }. nil and why not.
function explain.dataset(result, name, options)
    local plan = result.tree
    local dataset, kind = find(plan, name)
    if not dataset then
        return nil, ("no dataset is called `%s`"):format(name)
    end
    kind = dataset.decision and "decision" or dataset.pattern and "pattern" or kind
    local functions = functions_of(plan, options.code and result.code, name)
    if options.json then
        return json.encode({
            kind = kind,
            plan = dataset,
            guarantees = json.array(explain.guarantees(dataset, kind)),
            costs = json.array(costs(dataset)),
            functions = json.array(functions),
        }, true)
    end
    local lines = { ("%s %s (%s:%d)"):format(kind, name, dataset.file, dataset.line) }
    local function line(title, text)
        lines[#lines + 1] = ("  %-12s %s"):format(title, text)
    end
    if said(dataset.description) then
        line("about", dataset.description)
    end
    if dataset.connector then
        line("reads", dataset.connector.kind .. " " .. json.encode(dataset.connector.options))
        if said(dataset.decoder) then
            line("decodes", dataset.decoder.kind .. " " .. json.encode(dataset.decoder.options))
        end
        if said(dataset.decoded) then
            local paths = {}
            for i, path in ipairs(dataset.decoded) do
                paths[i] = table.concat(path, ".")
            end
            line("read of it", #paths > 0 and table.concat(paths, ", ") or "no column")
        end
    else
        line("from", table.concat(dataset.from, ", "))
    end
    if said(dataset.time) then
        line("time", ("%s, out of order up to %s%s"):format(dataset.time.field, duration(dataset.time.out_of_order_us),
            said(dataset.time.idle_us) and ", idle after " .. duration(dataset.time.idle_us) or ""))
    end
    if said(dataset.where) then
        line("where", ("function %d"):format(dataset.where))
    end
    add_expectations(lines, "expects", dataset.expectations)
    if said(dataset.dedup) then
        line("dedup", ("by %s within %s"):format(table.concat(dataset.dedup.by, ", "), duration(dataset.dedup.within_us)))
    end
    local function explain_lookup(lookup)
        local whose = lookup.http and "what " .. lookup.http.url .. " says" or "the row of " .. lookup.from
        local has_default = lookup.http and lookup.http.nothing or not lookup.http and said(lookup.defaults)
        local otherwise = not lookup.inner and (has_default and "takes the default" or "stays")
            or lookup.quarantine and "goes to quarantine" or "is dropped"
        line("lookup", ("%s = %s by %s; a row that finds nothing %s"):format(lookup.name, whose, table.concat(lookup.on, ", "), otherwise))
    end
    local function explain_join(join)
        local on = {}
        for i, left in ipairs(join.left_on) do
            on[i] = left == join.right_on[i] and left or left:gsub("^_(.*%.)", "%1") .. " = " .. join.right_on[i]
        end
        local function bound(us)
            return us < 0 and "-" .. duration(-us) or duration(us)
        end
        local how = ""
        if join.what == "interval" then
            how = (", right - left from %s to %s"):format(bound(join.low_us), said(join.high_column) and "column " .. join.high_column or bound(join.high_us))
        elseif join.what == "window" then
            how = (" in windows of %s%s"):format(duration(join.window_us), join.every_us < join.window_us and ", every " .. duration(join.every_us) or "")
        elseif join.what == "temporal" then
            how = (", the version of %s, waiting for it %s%s"):format(said(join.as_of) and "column " .. join.as_of or "the row's time",
                said(join.wait_us) and duration(join.wait_us) or "until its watermark passes", join.quarantine == true and "; without one to quarantine" or "")
        elseif join.what == "regular" then
            local function kept(us)
                return said(us) and "for " .. duration(us) or "for ever"
            end
            how = (", left rows kept %s, right rows %s"):format(kept(join.left_ttl_us), kept(join.right_ttl_us))
        end
        line("join", ("%s: %s %s_join of %s on %s%s%s"):format(join.name, join.kind, join.what, join.from, table.concat(on, ", "), how,
            said(join.where) and ", where function " .. join.where or ""))
    end
    local join_plans = said(dataset.joins) and dataset.joins or {}
    for i = 0, #join_plans do -- as they are written
        for _, lookup in ipairs(said(dataset.lookups) and dataset.lookups or {}) do
            if (lookup.before or 0) == i then
                explain_lookup(lookup)
            end
        end
        if join_plans[i + 1] then
            explain_join(join_plans[i + 1])
        end
    end
    if said(dataset.map) then
        line("map", ("function %d assigns %s"):format(dataset.map["function"], columns_text(dataset.map.out)))
    end
    if dataset.pattern then
        line("sequence", table.concat(dataset.pattern.steps, ", "))
        line("within", said(dataset.pattern.within_us) and duration(dataset.pattern.within_us) or "any time")
        line("skip", dataset.pattern.skip)
    end
    if dataset.decision then
        line("hit", dataset.decision.hit)
        for i, row in ipairs(dataset.decision.rows) do
            line("row " .. i, ("%s -> %s"):format(row.when ~= "" and row.when or "any", row.gives))
        end
    end
    if dataset.by then
        line("by", table.concat(dataset.by, ", "))
    end
    if said(dataset.window) then
        line("window", ("%s, allowed lateness %s"):format(windows.text(dataset.window, duration), duration(dataset.window.allowed_lateness_us)))
    end
    for _, measure in ipairs(dataset.measures or {}) do
        local over = said(measure.column) and measure.column or said(measure["function"]) and "function " .. measure["function"] or "rows"
        line("measures", ("%s = %s of %s: %s%s"):format(measure.name, measure.kind, over, measure.type,
            said(measure.where) and ", where function " .. measure.where or ""))
    end
    if said(dataset.top) then
        line("top", tops.text(dataset.top))
    end
    if said(dataset.having) then
        line("having", ("function %d"):format(dataset.having))
    end
    for _, derive in ipairs(dataset.derive or {}) do
        line("derives", ("%s = function %d: %s"):format(derive.name, derive["function"], derive.type))
    end
    add_expectations(lines, "ensures", dataset.ensures)
    add_expectations(lines, "quality", dataset.quality)
    add_expectations(lines, "tests", dataset.tests)
    line("columns", columns_text(dataset.columns or dataset.schema))
    if said(dataset.into) and dataset.into.kind ~= "delta" then
        line("into", ("%s %s"):format(dataset.into.kind, tostring(dataset.into.options.topic or "")))
    elseif said(dataset.into) then
        line("into", ("delta table %s/%s, %s"):format(tostring(plan.pipeline.storage.root), name:gsub("%.", "/"), dataset.into.mode))
    else
        line("into", "none")
    end
    for _, text in ipairs(explain.guarantees(dataset, kind)) do
        line("guarantees", text)
    end
    for _, text in ipairs(costs(dataset)) do
        line("costs", text)
    end
    for _, f in ipairs(functions) do
        line("function " .. f.number, ("%s, %s (%s:%d) reads %s"):format(f.what, f.kind, f.file, f.line,
            said(f.reads) and table.concat(f.reads, ", ") or "any column"))
        if f.code then
            for text in f.code:gmatch "[^\n]+" do
                lines[#lines + 1] = "    " .. text
            end
        end
    end
    return table.concat(lines, "\n") .. "\n"
end

return explain
