-- The stdlib's front door: what the command and the specs call. Rules never see it.
local weir = {}

-- request: { path =, settings = { { key, value } … } }. The loader's answer (runtime/script/NATIVE.md).
function weir.load(request)
    return require "weir.internal.load"(request)
end

-- The text of `weir explain [NAME]`, without a name of every dataset; nil and the findings, as one
-- text, when the files are at fault.
function weir.explain(path, name, options)
    local result, report, project = weir.load { path = path, settings = options and options.settings }
    if not result then
        return nil, project.diagnostics:text(), report
    end
    local explain = require "weir.internal.explain"
    if name then
        return explain.dataset(result, name, options or {})
    end
    local parts = {}
    for _, kind in ipairs { "sources", "streams", "models" } do
        for _, dataset in ipairs(result.tree[kind]) do
            parts[#parts + 1] = explain.dataset(result, dataset.name, options or {})
        end
    end
    return table.concat(parts, "\n")
end

-- The files of `weir init`: { { path =, text = } … }.
function weir.template(name)
    return require "weir.template"(name)
end

return weir
