require "spec.stdlib.helper"
local generator = require "weir.internal.generator"
local avsc = require "weir.internal.avsc"

-- The schema has two texts, in C and in the stdlib; this holds them to one meaning.
describe("the generator's columns", function()
    it("are what the source itself declares", function()
        local file = assert(io.open((os.getenv "WEIR_SOURCE_DIR" or ".") .. "/runtime/source/generator.c", "rb"))
        local source = file:read "*a"
        file:close()
        local literal = source:match 'avsc_text%[%] =%s*(".-");'
        local text = literal:gsub('"%s*\n%s*"', ""):sub(2, -2):gsub("\\n", "\n"):gsub('\\"', '"')
        local function described(schema)
            local list = {}
            for i, column in ipairs(assert(avsc.columns(schema))) do
                list[i] = ("%s %s %s"):format(column.name, column.type.text, tostring(column.nullable))
            end
            return list
        end
        assert.same(described(text), described(generator.schema))
    end)
end)
