-- What a declaration names: columns and datasets, found, or complained about with a suggestion.
local diagnostic = require "weir.internal.diagnostic"

local naming = {}

-- The column of that name and its place, without complaint. A list that explode took apart is no column any more.
function naming.column(columns, name)
    for i, column in ipairs(columns) do
        if column.name == name and not column.exploded then
            return column, i
        end
    end
end

function naming.names(columns)
    local names = {}
    for i, column in ipairs(columns) do
        names[i] = column.name
    end
    return names
end

function naming.keys(t)
    local names = {}
    for name in pairs(t) do
        names[#names + 1] = name
    end
    table.sort(names)
    return names
end

-- A name that a type's text can hold and e.product.name reach.
function naming.is_plain(name)
    return name:match "^[%a_][%w_]*$" ~= nil
end

-- `text`: what to say instead of the usual. Where a file did not load, that is what there is to say.
function naming.no_dataset(project, reader, name, at, text)
    if project.incomplete then
        return
    end
    local known = naming.keys(project.by_name)
    reader:error("unknown-dataset", at, text or ("no dataset is called `%s`"):format(tostring(name)),
        diagnostic.did_you_mean(tostring(name), known) or "there are: " .. table.concat(known, ", "))
end

-- The dataset whose rows are to be read; nil after a complaint.
function naming.dataset(project, reader, name, at)
    local found = type(name) == "string" and project.by_name[name]
    if not found then
        naming.no_dataset(project, reader, name, at)
        return nil
    elseif found.kind == "rule" and not found.broken then
        reader:error("type", at, ("the rule `%s` has no rows of its own"):format(name), "read what it emits: " .. table.concat(found.emits, ", "))
        return nil
    end
    return found
end

return naming
