-- The C harness of abi/harness.h under weir.testing. Its functions call back into this VM, so nothing
-- here may be compiled. Failures throw.
local ffi = require "ffi"
local C = ffi.C

local harness = {}

-- Old ones are closed as new ones open: a spec file opens one a test.
local open, MAX_OPEN = {}, 8

local function text_of(pointer)
    return pointer ~= nil and ffi.string(pointer) or nil
end

local function failed()
    error(text_of(C.weir_harness_error()) or "the harness failed", 0)
end

local function checked(status)
    if status < 0 then
        failed()
    end
end

function harness.open(path, settings)
    local handle = C.weir_harness_open(path, settings)
    if handle == nil then
        failed()
    end
    open[#open + 1] = handle
    if #open > MAX_OPEN then
        C.weir_harness_close(table.remove(open, 1))
    end
    return handle
end

-- The dataset it reads; nil for one that does not exist or reads nothing.
function harness.input(handle, name)
    local text = text_of(C.weir_harness_input(handle, name))
    return text ~= "" and text or nil
end

-- The time field it declares, or nil.
function harness.time(handle, name)
    local text = text_of(C.weir_harness_time(handle, name))
    return text ~= "" and text or nil
end

function harness.emits(handle, of)
    return text_of(C.weir_harness_emits(handle, of)) or ""
end

function harness.has(handle, name)
    return C.weir_harness_columns(handle, name) ~= nil
end

-- { { name =, type = } … } as JSON, or nil for a dataset that is not fed.
function harness.columns(handle, name)
    return text_of(C.weir_harness_columns(handle, name))
end

function harness.feed(handle, name, lines)
    checked(C.weir_harness_feed(handle, name, lines, #lines))
end

-- What an async_lookup answers for a key: JSON texts; `fails`: why it does not.
function harness.answer(handle, stream, lookup, key, answer, fails)
    checked(C.weir_harness_answer(handle, stream, lookup, key, answer, fails))
end

function harness.finish(handle)
    checked(C.weir_harness_finish(handle))
end

function harness.advance(handle, us)
    checked(C.weir_harness_advance(handle, us))
end

function harness.watermark(handle, us)
    checked(C.weir_harness_watermark(handle, us))
end

-- The recorded clock, microseconds.
function harness.now()
    return C.weir_native_now_us()
end

-- JSON lines.
function harness.rows(handle, name)
    local text = text_of(C.weir_harness_rows(handle, name))
    if text == nil then
        failed()
    end
    return text
end

-- JSON.
function harness.counters(handle, name)
    local text = text_of(C.weir_harness_counters(handle, name))
    if text == nil then
        failed()
    end
    return text
end

for _, f in pairs(harness) do
    jit.off(f)
end

return harness
