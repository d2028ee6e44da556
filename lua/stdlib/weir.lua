-- The stdlib's front door: what the command and the specs call. Rules never see it.
local weir = {}

-- request: { path =, settings = { { key, value } … } }. The loader's answer (runtime/script/NATIVE.md).
function weir.load(request)
    return require "weir.internal.load"(request)
end

-- The text of `weir explain NAME`; nil and the findings, as one text, when the files are at fault.
function weir.explain(path, name, options)
    local result, report, project = weir.load { path = path, settings = options and options.settings }
    if not result then
        return nil, project.diagnostics:text(), report
    end
    return require("weir.internal.explain").dataset(result, name, options or {})
end

-- The files of `weir init`: { { path =, text = } … }.
function weir.template(name)
    return require "weir.template"(name)
end

return weir
