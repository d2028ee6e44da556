-- Writes a C file holding the given files for script/embedded.h: as they are, and of Lua's the compiled chunk, whose
-- name is that by which script/vm.c knows it.
-- usage: luajit embed.lua OUT ROOT FILE...
local out_path, root = arg[1], arg[2]
local out = {}
local entries = {}
out[#out + 1] = '#include "script/embedded.h"\n'

local function write_bytes(name, text)
    local bytes = {}
    for j = 1, #text do
        bytes[j] = text:byte(j)
    end
    bytes[#bytes + 1] = 0
    local lines = {}
    for j = 1, #bytes, 24 do
        lines[#lines + 1] = table.concat(bytes, ",", j, math.min(j + 23, #bytes))
    end
    out[#out + 1] = ("static const unsigned char %s[] = {\n%s};\n"):format(name, table.concat(lines, ",\n"))
end

for i = 3, #arg do
    local file = assert(io.open(arg[i], "rb"))
    local text = file:read "*a"
    file:close()
    local name = arg[i]:sub(#root + 2):gsub("^lua/stdlib/", ""):gsub("^runtime/", "")
    write_bytes("file_" .. i, text)
    local chunk, size = "NULL", 0
    if name:match "%.lua$" then
        local code = string.dump(assert(loadstring(text, "@weir/" .. name)))
        write_bytes("chunk_" .. i, code)
        chunk, size = "(const char *)chunk_" .. i, #code
    end
    entries[#entries + 1] = ('    {"%s", (const char *)file_%d, %d, %s, %d},\n'):format(name, i, #text, chunk, size)
end
out[#out + 1] = "const struct weir_embedded_file weir_embedded_files[] = {\n"
out[#out + 1] = table.concat(entries)
out[#out + 1] = ("};\nconst int weir_embedded_file_count = %d;\n"):format(#entries)
local file = assert(io.open(out_path, "wb"))
file:write(table.concat(out))
file:close()
