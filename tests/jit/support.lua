-- Counts traces and aborts while a function runs: what the JIT tests assert about.
local support = {}

-- The limits traces have in the runtime, from the one place that says them.
local function same_limits()
    local file = assert(io.open "runtime/script/vm.c")
    local text = file:read "*a"
    file:close()
    local options = assert(text:match "jit%.opt%.start%((.-)%)\\n")
    for option in options:gmatch "'(%w+=%d+)'" do
        jit.opt.start(option)
    end
end

-- Runs f with the JIT on; returns traces started, and the aborts as "reason at place" texts.
function support.watch(f)
    local vmdef = require "jit.vmdef"
    local started, aborts = 0, {}
    local function trace(what, _, func, pc, code, reason)
        if what == "start" then
            started = started + 1
        elseif what == "abort" then
            local info = require("jit.util").funcinfo(func, pc)
            local text = vmdef.traceerr[code] or "?"
            if type(reason) ~= "function" and text:find "%%" then
                text = text:format(tostring(reason))
            end
            aborts[#aborts + 1] = ("%s at %s"):format(text, info.loc or tostring(info.ffid))
        end
    end
    same_limits()
    jit.flush()
    jit.on()
    collectgarbage() -- a finalizer that happens to run while a trace is recorded aborts it
    collectgarbage "stop"
    jit.attach(trace, "trace")
    local ok, why = pcall(f)
    jit.attach(trace)
    collectgarbage "restart"
    if not ok then
        error(why, 0)
    end
    return started, aborts
end

return support
