-- Projects for specs: files in a folder of their own, until `clear`, which a spec that made one leaves to its teardown.
local project = {}
local folders = {}

-- The folder; files: text by path.
function project.make(files)
    local root = os.tmpname()
    os.remove(root)
    folders[#folders + 1] = root
    for path, text in pairs(files) do
        local full = root .. "/" .. path
        os.execute("mkdir -p " .. full:match "^(.*)/")
        local file = assert(io.open(full, "wb"))
        file:write(text)
        file:close()
    end
    return root
end

function project.clear()
    for _, folder in ipairs(folders) do
        os.execute("rm -rf " .. folder)
    end
    folders = {}
end

return project
