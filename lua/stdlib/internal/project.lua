-- Reads a project's files: the pipeline, rules/**.lua in order of their paths, the helpers they require
-- and the schemas they name. Each file runs once in its own sandbox; what it returns are declarations.
local native = require "weir.native"
local diagnostic = require "weir.internal.diagnostic"
local naming = require "weir.internal.naming"
local sandbox = require "weir.internal.sandbox"
local syntax = require "weir.internal.syntax"
local words = require "weir.internal.words"

local project = {}

-- What to use for a function that a library has elsewhere.
local instead = {
    ["math.random"] = "use random(): from 0 to 1, recorded, so that a replay sees the same", ["table.unpack"] = "name the elements",
    ["table.pack"] = "write { n = …, … }", ["math.round"] = "use round(x, places)", ["math.type"] = "use type(x)", ["math.tointeger"] = "use idiv(x, 1)",
    ["string.split"] = "use gmatch", ["string.trim"] = 'use match "^%s*(.-)%s*$"',
}

local MAX_FILES = 10000

-- The project root of a path: the folder above pipelines/, rules/ or spec/, or the file's own.
local function root_of(path)
    for _, folder in ipairs { "pipelines", "rules", "spec", "lib" } do
        local root = path:match("^(.-)/?" .. folder .. "/[^/].*$")
        if root and (root == "" or path:sub(1, #root + 1) == root .. "/") then
            local last
            -- the last such folder on the way counts
            for before in path:gmatch("()" .. folder .. "/") do
                if before == 1 or path:sub(before - 1, before - 1) == "/" then
                    last = before
                end
            end
            if last then
                return path:sub(1, math.max(0, last - 2)), last == 2
            end
        end
    end
    return path:match "^(.*)/[^/]*$" or "", false
end

function project.new(path)
    local self = {
        diagnostics = diagnostic.new(),
        context = { open = {}, loading = true },
        sites = setmetatable({}, { __mode = "k" }),
        infos = {},
        files = {},
        file_order = {},
        functions = {},
        code = {},
        by_name = {},
        time_zone = "UTC",
    }
    local root, absolute_root = root_of(path)
    self.root = root

    -- A path as the runtime opens it: relative ones start at the project root.
    function self.path(p)
        if p:sub(1, 1) == "/" or p:match "^%a[%w+.-]*://" then
            return p
        elseif absolute_root and root == "" then
            return "/" .. p
        end
        return root == "" and p or root .. "/" .. p
    end

    function self.remember_file(file, text)
        if not self.files[file] then
            self.file_order[#self.file_order + 1] = file
            self.files[file] = text
        end
    end

    local modules = {}
    local loading = {}

    local function remember_table(t, file, id)
        local info = self.infos[file]
        local node = info.tables[id]
        if node then
            self.sites[t] = { info = info, node = node }
        end
    end

    -- Statically: unknown and assigned globals, words not built, locals that hide constructors.
    local function check_names(info)
        local known
        local assigned = {}
        syntax.walk(info.ast, function(node)
            if node.tag == "Assign" then
                for _, target in ipairs(node.targets) do
                    assigned[target] = true
                end
            elseif node.tag == "Function" then
                assigned[node.target] = true
            end
        end)
        for _, node in ipairs(info.globals) do
            local name, at = node.name, syntax.place(info, node)
            if words.later[name] ~= nil then
                self.diagnostics:error("not-built", at, ("`%s` is not built yet"):format(name),
                    words.later[name] ~= "" and words.later[name] or nil)
            elseif self.base[name] == nil and not assigned[node] then
                known = known or sandbox.names(self.base)
                local why = name == "next" and "use pairs" or name == "unpack" and "name the elements" or diagnostic.did_you_mean(name, known)
                self.diagnostics:error("unknown-name", at, ("no global is called `%s` here"):format(name), why)
            end
        end
        for _, node in ipairs(info.locals) do
            if words.is_constructor(node.name) then
                self.diagnostics:lint("shadow", syntax.place(info, node),
                    ("the local `%s` hides the constructor of that name"):format(node.name), "give it another name")
            end
        end
        syntax.walk(info.ast, function(node)
            local library = node.tag == "Index" and node.object.tag == "Name" and node.object.scope == "global" and self.libraries[node.object.name]
            if library and node.key.tag == "String" and library[node.key.value] == nil then
                self.diagnostics:error("unknown-name", syntax.place(info, node.key), ("`%s` has no `%s` here"):format(node.object.name, node.key.value),
                    instead[node.object.name .. "." .. node.key.value] or diagnostic.did_you_mean(node.key.value, naming.keys(library)))
            elseif node.tag == "Assign" then
                for _, target in ipairs(node.targets) do
                    if target.tag == "Name" and target.scope == "global" then
                        self.diagnostics:error("global", syntax.place(info, target), ("a rule file cannot set the global `%s`"):format(target.name),
                            ("write local %s"):format(target.name))
                    end
                end
            elseif node.tag == "Function" and node.target.tag == "Name" and node.target.scope == "global" then
                self.diagnostics:error("global", syntax.place(info, node.target), ("a rule file cannot set the global `%s`"):format(node.target.name),
                    ("write local function %s"):format(node.target.name))
            end
        end)
    end

    -- Runs one file: true and what it returned; false after a complaint.
    function self.run(file, asked_at)
        if #self.file_order >= MAX_FILES then
            self.diagnostics:error("limit", asked_at, ("more than %d files"):format(MAX_FILES))
            return false
        end
        local text, why = native.read_file(file)
        if not text then
            self.diagnostics:error("file", asked_at or { file = file }, ("cannot read %s: %s"):format(file, tostring(why)))
            return false
        end
        self.remember_file(file, text)
        self.diagnostics:source(file, text)
        local rewritten, ast, tables = native.instrument(text, "@" .. file)
        if not rewritten then
            local problem = ast
            self.diagnostics:error("syntax", { file = file, line = problem.line, col = problem.column }, problem.message)
            return false
        end
        local info = syntax.index(file, text, ast)
        info.tables = tables
        self.infos[file] = info
        local before = self.diagnostics.errors
        check_names(info)
        local env = sandbox.file(self.base, file, remember_table)
        local chunk, message = native.load(rewritten, "@" .. file, env)
        if not chunk then
            self.diagnostics:error("syntax", { file = file, line = tonumber(tostring(message):match ":(%d+):") }, tostring(message))
            return false
        end
        local ok, result = pcall(chunk)
        if not ok then
            -- A name refused above often is why the file stops; say that once.
            if self.diagnostics.errors == before then
                local where, line, rest = tostring(result):match "^(.-):(%d+): (.*)$"
                if where and self.infos[where] then
                    self.diagnostics:error("load", { file = where, line = tonumber(line), col = 1 }, rest)
                else
                    self.diagnostics:error("load", { file = file, line = 1, col = 1 }, tostring(result))
                end
            end
            return false
        end
        self.report_open(file)
        return true, result
    end

    -- Declarations this file began and did not finish.
    function self.report_open(file)
        for node in pairs(self.context.open) do
            if node.where.file == file then
                self.context.open[node] = nil
                local at = { file = file, line = node.where.line, col = 1 }
                local info = self.infos[file]
                for _, call in ipairs(info.calls) do
                    if call.func.tag == "Name" and call.func.name == node.word and call.line == node.where.line
                        and call.args[1] and call.args[1].value == node.name then
                        at = syntax.place(info, call)
                    end
                end
                self.diagnostics:error("no-table", at, words.unfinished(node.word, node.name))
            end
        end
    end

    function self.require(name)
        if type(name) ~= "string" or not name:match "^lib%.[%w_]+[%w_.]*$" or name:find("..", 1, true) then
            error(("require finds project helpers only: require \"lib.name\", not %s"):format(tostring(name)), 2)
        end
        if modules[name] ~= nil then
            return modules[name]
        end
        if loading[name] then
            error(("%s requires itself"):format(name), 2)
        end
        loading[name] = true
        local ok, result = self.run(self.path((name:gsub("%.", "/")) .. ".lua"))
        loading[name] = nil
        if not ok then
            error(("%s does not load"):format(name), 2)
        end
        modules[name] = result == nil and true or result
        return modules[name]
    end

    self.base = sandbox.base(self)
    return self
end

-- The declarations among what a file returned: { { node =, at = } … }.
function project.declarations(self, reader, file, result)
    local list = {}
    local at = { file = file, line = 1, col = 1 }
    local info = self.infos[file]
    for i = #info.ast.body, 1, -1 do
        if info.ast.body[i].tag == "Return" then
            at = syntax.place(info, info.ast.body[i].values[1] or info.ast.body[i])
            break
        end
    end
    local function take(x, place)
        if words.is_node(x) and not x.open and not x.later and x.name ~= nil then
            list[#list + 1] = { node = x, at = reader:place_of(x, place) }
        elseif words.is_word(x) or words.is_node(x) and x.open then
            reader:left_open(x, place)
        elseif not (words.is_node(x) and x.later) then
            reader:error("no-declaration", place, ("a rule file returns a declaration or a list of them, not %s"):format(reader.described(x)),
                'return stream "silver.pos_sale" { … }')
        end
    end
    if type(result) == "table" and getmetatable(result) == nil then
        for _, field in ipairs(reader:fields(result, at)) do
            take(field.value, field.value_at)
        end
    else
        take(result, at)
    end
    return list
end

return project
