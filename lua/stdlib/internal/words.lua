-- The constructors analysts write with. Calling one makes a node: plain data about what was said and
-- where; nothing is judged here. A word that awaits its table (`stream "x"`) is a node marked open, so
-- that one left so can be reported. Words of the language that are not built yet exist to be refused by name.
local native = require "weir.native"

local words = {}

-- How a word is written:
--   named   kind "name" { … }          table   kind { … }
--   size    kind "5m" or kind { … }    args    kind(…), kind "text", kind { … }
words.built = {
    pipeline = "named", source = "named", stream = "named", model = "named", quality = "named", expect = "named", expect_over = "named",
    decision = "named", lookup = "named", async_lookup = "named", interval_join = "named",
    temporal_join = "named", window_join = "named", regular_join = "named",
    delta = "table", -- and the kinds of source, decoder and sink, below
    tumbling = "size", sliding = "size", hopping = "args", cumulate = "args", session = "args", calendar = "args", every = "args",
    max_null_ratio = "args", max_lag = "args", not_null = "args", one_of = "args", between = "args", matches = "args", unique = "args",
    sum = "args", count = "args", avg = "args", min = "args", max = "args", distinct = "args",
    first = "args", last = "args", arg_max = "args", arg_min = "args", variance = "args", stddev = "args", any = "args", all = "args",
    approx_distinct = "args", approx_quantile = "args", quantile = "args", median = "args", top_k = "args", collect = "args",
    aggregate = "args",
    rule = "named", pattern = "named", step = "args", value = "args", counter = "args",
    ring = "args", list = "args", map = "args", set = "args", sketch = "args",
}

-- Words of the language that are refused by name. The text is what to do meanwhile, if anything.
words.later = {
    job = "", policy = "",
}

-- A kind that C knows is a word of the language.
for _, kinds in pairs(native.connectors()) do -- by role
    for kind in pairs(kinds) do
        words.built[kind] = "table"
    end
end

local Node = {}
Node.__index = Node
words.Node = Node

-- A value that stands for an environment variable until the plan is made.
local Placeholder = {}
words.Placeholder = Placeholder

Placeholder.__concat = function(a, b)
    return setmetatable({ parts = { a, b } }, Placeholder)
end
Placeholder.__tostring = function()
    error("an env placeholder is resolved at start; join it with `..`", 2)
end

function words.is_node(x, word)
    return type(x) == "table" and getmetatable(x) == Node and (word == nil or x.word == word)
end

local Word = {}
words.Word = Word

function words.is_word(x)
    return type(x) == "table" and getmetatable(x) == Word
end

local function caller(level)
    local where = debug.getinfo(level + 1, "Sl")
    return { file = where.source:gsub("^@", ""), line = where.currentline }
end

-- `context`: { open = set of nodes that await their table, loading = true until the files are read }
function words.environment(context)
    local env = {}

    local function make(word, shape)
        return setmetatable({ word = word, shape = shape, context = context }, Word)
    end

    Word.__tostring = function(self)
        return "constructor `" .. self.word .. "`"
    end
    Word.__newindex = function(self)
        error("`" .. self.word .. "` cannot be changed", 2)
    end
    Word.__call = function(self, ...)
        if not self.context.loading then
            error(("`%s` builds declarations; a row function cannot use it"):format(self.word), 2)
        end
        local node = setmetatable({ word = self.word, where = caller(2), context = self.context }, Node)
        local first = ...
        if self.shape == "later" then
            node.later = true
        elseif self.shape == "named" then
            node.name = first
            node.open = true
            self.context.open[node] = true
        else
            node.args = { n = select("#", ...), ... }
            if type(first) == "table" and getmetatable(first) == nil then
                node.body = first
            end
        end
        return node
    end

    Node.__call = function(node, body)
        if node.later then
            return node
        end
        if not node.open then
            error(("`%s` already has its table"):format(node.word), 2)
        elseif type(body) ~= "table" or getmetatable(body) ~= nil then
            error(('`%s "%s"` takes a table: %s "%s" { … }'):format(node.word, tostring(node.name), node.word, tostring(node.name)), 2)
        end
        -- A second call of a kept half is a declaration of its own.
        local whole = setmetatable({ word = node.word, name = node.name, where = node.where, body = body, context = node.context }, Node)
        node.context.open[node] = nil
        return whole
    end
    Node.__concat = function(a, b)
        local node = getmetatable(a) == Node and a or b
        error(("`%s` is a declaration, not a text"):format(node.word), 2)
    end

    for word, shape in pairs(words.built) do
        env[word] = make(word, shape)
    end
    for word in pairs(words.later) do
        env[word] = make(word, "later")
    end

    env.none = setmetatable({ word = "none", context = context }, Node)

    function env.env(name, default)
        if not context.loading then
            error("`env` is read when the files are loaded; a row function cannot use it", 2)
        end
        return setmetatable({ variable = name, default = default, where = caller(2) }, Placeholder)
    end

    return env
end

-- What is wrong with a word, or half a word, where a whole declaration belongs; and the way out.
function words.unfinished(word, name)
    if name ~= nil and type(name) ~= "string" then
        return ("`%s` has a name before its table"):format(word), ('write %s "…" { … }'):format(word)
    end
    local half = name and ('%s "%s"'):format(word, name) or word
    return ("`%s` is left without its table"):format(half), ("write %s { … }"):format(half)
end

-- Names a local should not hide.
function words.is_constructor(name)
    return words.built[name] ~= nil or words.later[name] ~= nil or name == "env" or name == "none"
end

return words
