-- The loader C calls (runtime/script/NATIVE.md, "What C calls"): from a pipeline file to the plan, the
-- generated loops and the text the rule-set hash is taken over. Pure: reading files is its only effect.
local native = require "weir.native"
local aggregate_loop = require "weir.internal.aggregate_loop"
local model_migrate = require "weir.internal.model_migrate"
local codegen = require "weir.internal.codegen"
local connectors = require "weir.internal.connectors"
local datasets = require "weir.internal.datasets"
local decisions = require "weir.internal.decisions"
local json = require "weir.internal.json"
local lookups = require "weir.internal.lookups"
local models = require "weir.internal.models"
local naming = require "weir.internal.naming"
local only = require "weir.internal.only"
local patterns = require "weir.internal.patterns"
local predicate = require "weir.internal.predicate"
local project_module = require "weir.internal.project"
local quality = require "weir.internal.quality"
local rule_kind = require "weir.internal.rules"
local rule_loop = require "weir.internal.rule_loop"
local readings = require "weir.internal.readings"
local reader_module = require "weir.internal.reader"
local serve = require "weir.internal.serve"
local sinks = require "weir.internal.sinks"
local time = require "weir.internal.time"
local words = require "weir.internal.words"

local pipeline_options = {
    description = true, owner = true, rules = true, storage = true, commit = true, ledger = true, time_zone = true, sources = true, memory = true,
    quarantine = true, serve = true, alerts = true,
    metrics = "later",
}
local option_tables = {
    commit = { every = true },
    ledger = { keep = true, path = true, segment = true, snapshot_every = true },
    memory = { data = true, state = true },
}
local storage_options = { root = true }
local remote_schemes = { file = true, abfss = true, abfs = true, az = true, wasbs = true, https = true, s3 = true, s3a = true }

-- ---------------------------------------------------------------- settings

local function plain(text)
    if text == "true" or text == "false" then
        return text == "true"
    end
    return tonumber(text) or text
end

-- Where the table of options behind a key is: pipeline options, storage, or a source's connector.
local function table_behind(body, path)
    local source_name, option = path:match "^sources%.(.+)%.([%w_]+)$"
    if source_name then
        for _, source in ipairs(type(body.sources) == "table" and body.sources or {}) do
            if words.is_node(source, "source") and source.name == source_name and source.body then
                if option == "into" then
                    return source.body, option
                end
                for _, part in ipairs(source.body) do
                    if words.is_node(part) and part.body and (part.body[option] ~= nil or part.word == "generator" or option == "path") then
                        return part.body, option
                    end
                end
            end
        end
        return nil
    end
    local t = body
    local names = {}
    for name in path:gmatch "[^.]+" do
        names[#names + 1] = name
    end
    for i = 1, #names - 1 do
        local inner = t[names[i]]
        if words.is_node(inner) then
            inner = inner.body
        end
        if inner == nil and i == 1 and option_tables[names[1]] then
            inner = {}
            t[names[1]] = inner
        end
        if type(inner) ~= "table" then
            return nil
        end
        t = inner
    end
    return t, names[#names]
end

local function apply_settings(reader, body, settings, at)
    for _, setting in ipairs(settings or {}) do
        local key, text = setting[1], setting[2]
        local t, name = table_behind(body, key)
        if not t or not name then
            reader:error("setting", { file = at.file, line = at.line, col = at.col }, ("--set %s: the pipeline has no such option"):format(key),
                "such as --set commit.every=100ms")
        elseif name == "into" and text == "none" then
            t[name] = setmetatable({ word = "none" }, words.Node)
        else
            local v = plain(text)
            if name == "root" or name == "path" or name == "every" or name == "keep" then
                v = text
            end
            t[name] = v
        end
    end
end

-- ---------------------------------------------------------------- the pipeline's own options

local function sub_options(reader, named, name)
    local field = named[name]
    local t = reader:want(field, "table", name, "a table of options")
    if not t then
        return {}
    end
    return reader:options(t, field.value_at, option_tables[name], name, false)
end

local function pipeline_plan(project, reader, node, at)
    local named = reader:options(node.body, at, pipeline_options, ("pipeline %q"):format(tostring(node.name)), false)
    if type(node.name) ~= "string" or not node.name:match "^[%a_][%w_-]*$" then
        reader:error("name", at, "a pipeline has a name of letters, digits and _", 'pipeline "retail" { … }')
    end
    local zone = reader:want(named.time_zone, "string", "time_zone", "a zone's name") or "UTC"
    if not time.has_zone(zone) then
        reader:error("type", named.time_zone.value_at, ("no time zone is called %q on this machine"):format(zone), 'such as "Europe/London"')
        zone = "UTC"
    end
    project.time_zone = zone
    local plan = { name = node.name, time_zone = zone, file = at.file, line = at.line, column = at.col }
    local remote_at
    if named.storage then
        local storage = reader:node(named.storage, "storage", "delta")
        if storage and not storage.body then
            reader:left_open({ word = "delta" }, named.storage.value_at)
        elseif storage then
            local place = reader:place_of(storage, named.storage.value_at)
            local options, written = connectors.options(project, reader, "stores", { node = storage, at = place }, storage_options)
            local root = reader:want(written.root, "string", "root", "a folder or a URL")
            if not written.root then
                reader:error("type", place, "storage says its root", 'delta { root = "data/lake" }')
            end
            local scheme = root and root:match "^(%a[%w+.-]*)://"
            if scheme and not remote_schemes[scheme] then
                reader:error("type", written.root.value_at, ("no store speaks %s://"):format(scheme), "a folder, abfss://…, az://… or s3://…")
            end
            remote_at = scheme and scheme ~= "file" and written.root.value_at
            plan.storage = { kind = "delta", root = root and project.path(root), options = options }
        end
    else
        project.without_tables = true
    end
    plan.quarantine = sinks.quarantine(reader, named.quarantine)
    project.rejects_elsewhere = plan.quarantine ~= nil
    if not named.storage and not named.quarantine then
        reader:error("type", at, "rejected rows have nowhere to go: the pipeline has no storage",
            'storage = delta { root = "data/lake" }, or quarantine = kafka { … } or none')
    end
    local commit = sub_options(reader, named, "commit")
    plan.commit = { every_us = reader:duration(commit.every, "commit.every") or 1000000 }
    if commit.every and plan.commit.every_us < 20000 then
        reader:error("type", commit.every.value_at, "commit.every is at least 20ms")
    end
    local ledger = sub_options(reader, named, "ledger")
    local ledger_path = reader:want(ledger.path, "string", "ledger.path", "a folder")
    if remote_at and not ledger.path then
        reader:error("type", remote_at, "a lake in an object store keeps its ledger on a local disk that outlives the process",
            'ledger = { path = "/var/lib/weir/retail" }')
    end
    plan.ledger = {
        keep_us = reader:duration(ledger.keep, "ledger.keep") or 600000000, path = ledger_path and project.path(ledger_path)
            or project.without_tables and project.path(("data/_weir/%s/ledger"):format(tostring(node.name))) or json.null,
        segment_bytes = reader:size(ledger.segment, "ledger.segment") or 67108864,
        snapshot_every_us = reader:duration(ledger.snapshot_every, "ledger.snapshot_every") or 60000000,
    }
    if ledger.segment and plan.ledger.segment_bytes < 65536 then
        reader:error("type", ledger.segment.value_at, "ledger.segment is at least 64KB")
    end
    local memory = sub_options(reader, named, "memory")
    plan.memory = { data_bytes = reader:size(memory.data, "memory.data") or 134217728, state_bytes = reader:size(memory.state, "memory.state") or 1073741824 }
    plan.serve = serve.plan(project, reader, named.serve)
    project.alerts = quality.channels(reader, named.alerts)
    plan.description = datasets.text_of(reader, named.description, "description")
    plan.owner = datasets.text_of(reader, named.owner, "owner")
    local rules = reader:want(named.rules, "string", "rules", "a folder") or "rules"
    return plan, named, rules, named.rules and named.rules.value_at or at
end

-- ---------------------------------------------------------------- the graph

local kinds = { stream = true, decision = true, model = true, rule = true, pattern = true, quality = true }

local emitting = { rule = true, pattern = true }

-- Registers a declaration under its name: one dataset, one writer.
local function register(project, reader, declaration)
    local node, at = declaration.node, declaration.at
    if not datasets.check_name(reader, node, at) then
        return false
    end
    local base = node.name:match "^quarantine%.(.+)$"
    local other = project.writers[node.name]
    if other then
        reader:error("two-writers", at, ("`%s` is declared twice: one dataset has one writer"):format(node.name),
            ("the other is at %s:%d"):format(tostring(other.file), other.line or 0))
        return false
    elseif base and (project.all_names[base] or base == node.name) then
        reader:error("two-writers", at, ("`%s` is written already: the rejects of `%s` go there"):format(node.name, base), "give it another name")
        return false
    end
    project.writers[node.name] = at
    return true
end

local function visit(project, reader, declaration, pending, path)
    local node = declaration.node
    if declaration.state == "done" then
        return
    elseif declaration.state == "open" then
        local names = {}
        for i, name in ipairs(path) do
            names[i] = name
        end
        names[#names + 1] = node.name
        reader:error("cycle", declaration.at, ("datasets read each other in a circle: %s"):format(table.concat(names, " -> ")))
        return
    end
    declaration.state = "open"
    project.by_name[node.name] = { kind = node.word, name = node.name, broken = true }
    path[#path + 1] = node.name
    local from = node.body.from or node.body.on
    local names = type(from) == "table" and getmetatable(from) == nil and from or { from }
    for _, name in ipairs(names) do
        if type(name) == "string" and pending[name] then
            visit(project, reader, pending[name], pending, path)
        end
    end
    for _, name in ipairs(lookups.names(node.body)) do
        if pending[name] and name ~= node.name then
            visit(project, reader, pending[name], pending, path)
        end
    end
    path[#path] = nil
    declaration.state = "done"
    local made
    if node.word == "stream" then
        made = datasets.stream(project, reader, node, declaration.at)
    elseif node.word == "decision" then
        made = decisions.decision(project, reader, node, declaration.at)
    elseif node.word == "rule" then
        made = rule_kind.rule(project, reader, node, declaration.at, node.made)
    elseif node.word == "pattern" then
        made = patterns.pattern(project, reader, node, declaration.at)
    else
        made = models.model(project, reader, node, declaration.at)
    end
    -- A dataset with errors still has a name, so that its readers do not complain about that too.
    made = made or { kind = node.word, name = node.name, broken = true }
    project.by_name[node.name] = made
    project.order[#project.order + 1] = made
end

local function attach_quality(project, reader, declaration)
    local node, at = declaration.node, declaration.at
    local target = project.by_name[node.name]
    if not target then
        naming.no_dataset(project, reader, node.name, at, ("quality of `%s`: no dataset is called that"):format(tostring(node.name)))
        return
    elseif target.broken then
        return
    elseif target.kind == "rule" or target.kind == "emitted" then
        reader:error("not-built", at, "quality of a rule is not built yet", "attach it to a stream that reads what the rule emits")
        return
    elseif target.kind == "source" then
        reader:error("not-built", at, "quality of a source is not built yet", "attach it to the stream that reads it")
        return
    end
    for _, field in ipairs(reader:fields(node.body, at)) do
        if type(field.key) ~= "number" then
            reader:error("unknown-option", field.at, ("quality %q takes a list of expect \"name\" { … }"):format(node.name))
        else
            local expect = reader:node(field, "quality", "expect", "expect_over")
            expect = expect and expect.word == "expect" and expect -- the others are declarations of their own
            local made = expect and predicate.expectation(reader, expect, field.value_at, target.columns, node.name, target.functions, true)
            if made then
                if target.seen[made.name] then
                    reader:error("repeated-name", reader:place_of(expect, field.value_at),
                        ("the expectation %q is declared twice for %s"):format(made.name, node.name))
                end
                target.seen[made.name] = true
                if target.kind == "model" then
                    made.kind = "expect"
                    target.plan.tests[#target.plan.tests + 1] = made
                else
                    target.plan.quality[#target.plan.quality + 1] = made
                end
            end
        end
    end
end

-- ---------------------------------------------------------------- functions

-- The plan entry, the loop and its source.
local function generate(f)
    local name = f.of .. " " .. f.what
    local loop, source
    if f.kind == "rule" then
        loop, source = rule_loop.make(f.rule, name)
    elseif f.kind == "migrate" then
        loop, source = model_migrate.loop(f.migrate, f.version, f.out, name)
    elseif f.kind == "merge" then
        loop, source = aggregate_loop.merge(f.fn, f.columns, name)
    elseif f.kind == "predicate" then
        loop, source = codegen.predicate(f.fn, f.columns, name, f.joined)
    elseif f.result then
        loop, source = codegen.value(f.fn, f.columns, f.result, name)
    else
        loop, source = codegen.map(f.init ~= nil and aggregate_loop.added(f.init, f.fn) or f.fn, f.columns, f.out, f.retyped, name, f.joined, f.copies)
    end
    return loop, f.text and source .. f.text or source
end

-- ---------------------------------------------------------------- load

local function find_pipeline(project, reader, path)
    local found = native.list_files(project.path "pipelines", ".lua")
    if not found or #found == 0 then
        reader:error("no-pipeline", { file = path, line = 1, col = 1 }, "no pipeline beside this file", "pipelines/NAME.lua declares the sources it reads")
        return nil
    end
    return found[1]
end

local function load_all(project, reader, request)
    local ok, result = project.run(request.path)
    if not ok then
        return nil
    end
    local declarations = project_module.declarations(project, reader, request.path, result)
    local pipeline, others = nil, {}
    local ran = { [request.path] = true }
    local function sort_out(list)
        for _, declaration in ipairs(list) do
            if declaration.node.word == "pipeline" then
                if pipeline then
                    reader:error("two-pipelines", declaration.at, "a run has one pipeline")
                end
                pipeline = declaration
            else
                others[#others + 1] = declaration
            end
        end
    end
    sort_out(declarations)
    if not pipeline then
        if #declarations == 0 then
            return nil
        end
        local path = find_pipeline(project, reader, request.path)
        if not path then
            return nil
        end
        ran[path] = true
        ok, result = project.run(path)
        if not ok then
            return nil
        end
        sort_out(project_module.declarations(project, reader, path, result))
        if not pipeline then
            reader:error("no-pipeline", { file = path, line = 1, col = 1 }, "this file declares no pipeline", 'return pipeline "name" { … }')
            return nil
        end
    end
    local node, at = pipeline.node, pipeline.at
    local wanted, settings = only.split(request.settings)
    apply_settings(reader, node.body, settings, at)
    local plan, named, rules, rules_at = pipeline_plan(project, reader, node, at)
    if wanted and (plan.ledger.path ~= json.null or plan.storage) then
        only.ledger(wanted, plan)
    end
    local folder = project.path(rules)
    local files, why = native.list_files(folder, ".lua")
    if not files and named.rules then
        reader:error("file", rules_at, ("cannot read the folder %s: %s"):format(folder, tostring(why)), "relative paths start at the project root")
    end
    for _, file in ipairs(files or {}) do
        if not ran[file] then
            ran[file] = true
            ok, result = project.run(file)
            if ok then
                sort_out(project_module.declarations(project, reader, file, result))
            else
                project.incomplete = true
            end
        end
    end
    project.context.loading = false
    project.writers, project.all_names, project.order = {}, {}, {}
    local sources = {}
    for _, field in ipairs(named.sources and reader:fields(reader:want(named.sources, "table", "sources", "a list") or {}, named.sources.value_at) or {}) do
        local source = reader:node(field, "sources", "source")
        if source then
            sources[#sources + 1] = { node = source, at = reader:place_of(source, field.value_at) }
            project.all_names[source.name or ""] = true
        end
    end
    for _, declaration in ipairs(others) do
        project.all_names[declaration.node.name or ""] = true
    end
    local plan_sources, made_sources, is_known = json.array {}, {}, {}
    for _, declaration in ipairs(sources) do
        if register(project, reader, declaration) then
            local made = datasets.source(project, reader, declaration.node, declaration.at)
            project.by_name[declaration.node.name] = made or { kind = "source", name = declaration.node.name, broken = true }
            if made then
                plan_sources[#plan_sources + 1] = made.plan
                made_sources[#made_sources + 1] = made
            end
            is_known[declaration.node.name] = true
        end
    end
    local pending, listed, qualities = {}, {}, {}
    for _, declaration in ipairs(others) do
        local word = declaration.node.word
        if not kinds[word] then
            reader:error("no-declaration", declaration.at, ("`%s` does not stand on its own in a rule file"):format(word),
                word == "source" and "sources are listed in the pipeline" or nil)
        elseif word == "quality" then
            qualities[#qualities + 1] = declaration
        elseif register(project, reader, declaration) then
            pending[declaration.node.name] = declaration
            listed[#listed + 1] = declaration
        end
    end
    for _, declaration in ipairs(qualities) do
        for _, made in ipairs(quality.declarations(reader, declaration)) do
            if register(project, reader, made) then
                pending[made.node.name] = made
                listed[#listed + 1] = made
            end
        end
    end
    for _, declaration in ipairs(listed) do
        for _, name in ipairs(emitting[declaration.node.word] and rule_kind.emitted(project, reader, declaration) or {}) do
            pending[name] = declaration
        end
    end
    for name in pairs(pending) do
        is_known[name] = true
    end
    if wanted then
        only.check(reader, wanted, is_known, at)
    end
    for _, declaration in ipairs(listed) do
        if not wanted then
            visit(project, reader, declaration, pending, {})
        end
    end
    for _, name in ipairs(wanted or {}) do
        if pending[name] then
            visit(project, reader, pending[name], pending, {})
        end
    end
    for _, declaration in ipairs(qualities) do
        if not wanted or project.by_name[declaration.node.name] or not is_known[declaration.node.name] then
            attach_quality(project, reader, declaration)
        end
    end
    if wanted then
        plan_sources = only.prune(wanted, project.order, made_sources)
    end
    -- A late dataset is one more table with one writer.
    for _, made in ipairs(project.order) do
        for _, late in ipairs(made.late_sets or { made.late }) do
            local other = project.writers[late.name]
            if other then
                reader:error("two-writers", late.at, ("`%s` has a writer already"):format(late.name),
                    ("the other is at %s:%d"):format(tostring(other.file), other.line or 0))
            end
            project.writers[late.name] = late.at
        end
    end
    local streams, plan_models = json.array {}, json.array {}
    for _, made in ipairs(project.order) do
        if not made.broken then
            local list = made.kind ~= "model" and streams or plan_models
            list[#list + 1] = made.plan
        end
    end
    serve.check_sources(reader, plan, plan_sources)
    return { format = 1, pipeline = plan, sources = plan_sources, streams = streams, models = plan_models }
end

-- What the rule-set hash is taken over: every file, and every value the environment and --set gave.
local function hash_input(project, plan)
    local files = {}
    for i, file in ipairs(project.file_order) do
        files[i] = file
    end
    table.sort(files)
    local parts = { "weir rule set 1" }
    for _, file in ipairs(files) do
        local name = file
        if project.root ~= "" and file:sub(1, #project.root + 1) == project.root .. "/" then
            name = file:sub(#project.root + 2)
        end
        parts[#parts + 1] = ("file %s %s"):format(name, native.hash(project.files[file]))
    end
    local used = {}
    for _, source in ipairs(plan.sources) do
        local options = source.decoder ~= json.null and source.decoder.options
        local outside = options and options.registry and not options.schema -- what no file says
        used[source.name] = { source.connector, source.decoder, outside and source.schema or nil }
    end
    for _, stream in ipairs(plan.streams) do -- parameters may come from the environment
        used["rule " .. stream.name] = stream.rule and stream.rule.params or nil
    end
    parts[#parts + 1] = "resolved " .. json.encode { pipeline = plan.pipeline, connectors = used }
    return table.concat(parts, "\n"), files
end

local function copies_json(copies)
    local columns, through = json.array {}, json.array {}
    local indexes = {}
    for k in pairs(copies.columns) do
        indexes[#indexes + 1] = k
    end
    table.sort(indexes)
    for i, k in ipairs(indexes) do
        columns[i] = { map = k, path = json.array(copies.columns[k]) }
    end
    for i, path in ipairs(copies.through) do
        through[i] = json.array(path)
    end
    return { columns = columns, through = through, all = copies.all }
end

-- request: { path =, settings = { { key, value } … } }
local function load(request)
    local project = project_module.new(request.path)
    local reader = reader_module.new(project)
    local plan = load_all(project, reader, request)
    project.context.loading = false
    local report = project.diagnostics:sorted()
    if not plan or project.diagnostics.errors > 0 then
        report.environment = project.environment_at_fault or nil
        return nil, report, project
    end
    readings.settle(plan, project.by_name, project.functions)
    local functions, code, listed = {}, {}, json.array {}
    for i, f in ipairs(project.functions) do
        functions[i], code[i] = generate(f)
        local nulls = json.array {}
        for k, site in ipairs(f.nulls) do
            nulls[k] = json.array(site)
        end
        listed[i] = {
            kind = f.kind, of = f.of, what = f.what, file = f.file, line = f.line,
            reads = f.reads and json.array(f.reads) or json.null, nulls = nulls, copies = f.copies and copies_json(f.copies) or nil,
        }
    end
    plan.functions = listed
    local text, files = hash_input(project, plan)
    return {
        plan = json.encode(plan),
        functions = functions,
        code = code,
        files = files,
        hash_input = text,
        report = report,
        project = project,
        tree = plan,
    }
end

return load
