-- Prints what the demo's run came to. usage: luajit tools/demo_summary.lua FOLDER LAKE
-- FOLDER holds summary.json (the run's last line) and sales_velocity.jsonl (the table's rows).
local folder, lake = arg[1], arg[2]

local function read(name)
    local file = assert(io.open(folder .. "/" .. name, "rb"))
    local text = file:read "*a"
    file:close()
    return text
end

-- The run's own JSON: objects, texts without escapes in names, numbers. Enough for this, and no more.
local function parse(text, at)
    at = text:find("%S", at)
    local first = text:sub(at, at)
    if first == "{" then
        local object, names = {}, {}
        at = text:find("%S", at + 1)
        while text:sub(at, at) ~= "}" do
            local name, next_at = text:match('^%s*"([^"]*)"%s*:%s*()', at)
            assert(name, "summary.json is not as expected near byte " .. at)
            object[name], at = parse(text, next_at)
            names[#names + 1] = name
            at = text:match("^%s*,?%s*()", at)
        end
        return object, at + 1, names
    end
    local quoted, after = text:match('^"([^"]*)"()', at)
    if quoted then
        return quoted, after
    end
    local word, behind = text:match("^([%w%.%+%-]+)()", at)
    assert(word, "summary.json is not as expected near byte " .. at)
    return tonumber(word) or word, behind
end

local function commas(number)
    local text = ("%d"):format(number)
    return (text:reverse():gsub("(%d%d%d)", "%1,"):reverse():gsub("^,", ""))
end

local summary = parse(read "summary.json", 1)
print(("\n%s events in %.1f s, %s epochs"):format(commas(summary.events), summary.seconds, commas(summary.epochs)))

local units, revenue, skus = {}, {}, {}
for line in read("sales_velocity.jsonl"):gmatch "[^\n]+" do
    local row = parse(line, 1)
    local sku = row.sku
    if sku and not units[sku] then
        units[sku], revenue[sku] = 0, 0
        skus[#skus + 1] = sku
    end
    if sku then
        units[sku] = units[sku] + (tonumber(row.units) or 0)
        revenue[sku] = revenue[sku] + (tonumber(row.revenue) or 0)
    end
end
table.sort(skus, function(a, b)
    if revenue[a] ~= revenue[b] then
        return revenue[a] > revenue[b]
    end
    return a < b
end)
print("\nThe ten best-selling SKUs of gold.sales_velocity, over all its one-minute windows:\n")
print(("  %-16s %14s %16s"):format("sku", "units", "revenue"))
for i = 1, math.min(10, #skus) do
    print(("  %-16s %14s %16.2f"):format(skus[i], commas(units[skus[i]]), revenue[skus[i]]))
end

print "\nQuarantined, dropped or late, and why:\n"
local datasets = {}
for name in pairs(summary.datasets) do
    datasets[#datasets + 1] = name
end
table.sort(datasets)
for _, name in ipairs(datasets) do
    local counts = summary.datasets[name]
    local reasons = {}
    for reason in pairs(counts.rejected or {}) do
        reasons[#reasons + 1] = reason
    end
    table.sort(reasons)
    for _, reason in ipairs(reasons) do
        print(("  %-24s %10s  %s"):format(name, commas(counts.rejected[reason]), reason))
    end
    for _, what in ipairs { "duplicates", "late" } do
        if (counts[what] or 0) > 0 then
            print(("  %-24s %10s  (%s)"):format(name, commas(counts[what]), what))
        end
    end
end

print(("\nThe Delta tables are in %s. To open one (after pip install deltalake pyarrow):\n"):format(lake))
print(([[  python3 -c 'import deltalake; print(deltalake.DeltaTable("%s/gold/sales_velocity").to_pyarrow_table())']]):format(lake))
print "\nNext: change a rule in rules/ while `build/release/weir run pipelines/retail.lua` runs; docs/guide tells the rest."
