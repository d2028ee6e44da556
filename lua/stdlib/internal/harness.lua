-- The runtime specs run on, as testing.lua calls it: a thin face over abi/harness.h. The C functions
-- run rules, that is they call back into this VM, which compiled code must not do: hence jit.off.
local ffi = require "ffi"
local native = require "weir.native"
local C = ffi.C

local harness = {}

local function failure()
    return nil, ffi.string(C.weir_harness_error())
end

local function text_or_failure(pointer)
    if pointer == nil then
        return failure()
    end
    return ffi.string(pointer)
end

-- The project's only pipeline.
local function only_pipeline()
    local list = native.list_files("pipelines", ".lua") or {}
    if #list ~= 1 then
        error(("pipelines/ holds %d pipelines; say testing.load(name, { pipeline = … })"):format(#list), 0)
    end
    return list[1]
end

-- Everything `dataset` reads, directly or not, nearest first.
local function upstream_of(handle, dataset, whole)
    local list = {}
    local name = dataset
    local time_field = ffi.string(C.weir_harness_time(handle, name))
    while true do
        local input = C.weir_harness_input(handle, name)
        if input == nil then
            break
        end
        name = ffi.string(input)
        local own = ffi.string(C.weir_harness_time(handle, name))
        if time_field == "" then
            time_field = own -- event time declared upstream lives in these rows
        end
        list[#list + 1] = { name = name, time_field = time_field ~= "" and time_field or nil }
        if not whole then
            break
        end
    end
    return list
end

-- request: { pipeline =, upstream =, settings = { { key, value } … } }
function harness.harness_open(name, request)
    local settings = {}
    for i, setting in ipairs(request.settings or {}) do
        settings[i] = setting[1] .. "=" .. setting[2]
    end
    local ok, path = pcall(function()
        return request.pipeline or only_pipeline()
    end)
    if not ok then
        return nil, path
    end
    local handle = C.weir_harness_open(path, table.concat(settings, "\n"))
    if handle == nil then
        return failure()
    end
    handle = ffi.gc(handle, C.weir_harness_close)
    if C.weir_harness_input(handle, name) == nil then
        return failure()
    end
    -- Nearest first: feed() without a name feeds what the dataset reads; with `upstream`, the sources.
    local inputs = upstream_of(handle, name, true)
    if request.upstream then
        local reversed = {}
        for i = #inputs, 1, -1 do
            reversed[#reversed + 1] = inputs[i]
        end
        inputs = reversed
    end
    return handle, { inputs = inputs }
end

local function status(code)
    if code < 0 then
        return failure()
    end
    return true
end

function harness.harness_feed(handle, dataset, lines)
    return status(C.weir_harness_feed(handle, dataset, lines, #lines))
end

function harness.harness_watermark(handle, us)
    return status(C.weir_harness_watermark(handle, us))
end

-- Moves the clock by `us` microseconds.
function harness.harness_clock(handle, us)
    return status(C.weir_harness_advance(handle, us))
end

function harness.harness_finish(handle)
    return status(C.weir_harness_finish(handle))
end

-- What left the dataset, as one JSON array.
function harness.harness_rows(handle, dataset)
    local lines, why = text_or_failure(C.weir_harness_rows(handle, dataset))
    if not lines then
        return nil, why
    end
    return "[" .. lines:gsub("\n$", ""):gsub("\n", ",") .. "]"
end

for _, f in pairs(harness) do
    jit.off(f)
end
jit.off(status)

return harness
