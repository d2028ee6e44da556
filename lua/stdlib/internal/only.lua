-- `weir run --only NAME`: the datasets named, and what they read; only the named are written. It has a ledger of its own beside the pipeline's, since
-- what was read and written then is not what all of it would have read and written.
local diagnostic = require "weir.internal.diagnostic"
local json = require "weir.internal.json"

local only = {}

-- The names, sorted, out of the settings; nil: all. The other settings.
function only.split(settings)
    local names, seen, others = {}, {}, {}
    for _, setting in ipairs(settings or {}) do
        if setting[1] ~= "only" then
            others[#others + 1] = setting
        elseif not seen[setting[2]] then
            seen[setting[2]] = true
            names[#names + 1] = setting[2]
        end
    end
    table.sort(names)
    return #names > 0 and names or nil, others
end

-- Whether all of them are declared. `is_known` by name.
function only.check(reader, names, is_known, at)
    local known = {}
    for name in pairs(is_known) do
        known[#known + 1] = name
    end
    table.sort(known)
    for _, name in ipairs(names) do
        if not is_known[name] then
            local base = name:match "^quarantine%.(.+)$"
            reader:error("unknown-dataset", { file = at.file, line = at.line, col = at.col }, ("--only %s: no dataset is called that"):format(name),
                base and is_known[base] and ("it is written with --only %s"):format(base)
                or diagnostic.did_you_mean(name, known) or "there are: " .. table.concat(known, ", "))
        end
    end
end

-- A ledger of its own, beside that of all.
function only.ledger(names, plan)
    local whole = plan.ledger.path
    if whole == json.null then
        whole = ("%s/_weir/%s/ledger"):format(plan.storage.root, plan.name)
    end
    plan.ledger.whole = whole
    plan.ledger.path = ("%s-only/%s"):format(whole, table.concat(names, "+"))
    plan.only = json.array(names)
end

local function silence(made)
    local plan = made.plan
    plan.into = json.null
    plan.quarantine = { kind = "none" }
    for _, emitted in ipairs(plan.rule and plan.rule ~= json.null and plan.rule.emits or {}) do
        emitted.into = json.null
    end
    if plan.window and plan.window ~= json.null then
        plan.window.late = json.null
    end
    plan.late = plan.late and json.null or nil
    for _, join in ipairs(plan.joins or {}) do
        join.late_left, join.late_right = nil, nil
    end
end

local function reads(plan, add)
    for _, name in ipairs(plan.from or {}) do
        add(name)
    end
    for _, other in ipairs(plan.lookups or {}) do
        add(other.from)
    end
    for _, other in ipairs(plan.joins or {}) do
        add(other.from)
    end
end

-- Sources nobody needs go; who is not named writes nothing. `order`: what was made; `by_source`: { made = }, by place in plan_sources.
function only.prune(names, order, made_sources)
    local named, needed = {}, {}
    for _, name in ipairs(names) do
        named[name], needed[name] = true, true
    end
    for _, made in ipairs(order) do
        if made.plan then
            reads(made.plan, function(name) needed[name] = true end)
        end
        local writes = named[made.name]
        for _, emitted in ipairs(made.plan and made.plan.rule and made.plan.rule ~= json.null and made.plan.rule.emits or {}) do
            writes = writes or named[emitted.name]
        end
        if made.plan and not writes then
            silence(made)
        end
    end
    local kept = json.array {}
    for _, made in ipairs(made_sources) do
        if needed[made.plan.name] then
            kept[#kept + 1] = made.plan
            if not named[made.plan.name] then
                silence(made)
            end
        end
    end
    return kept
end

return only
