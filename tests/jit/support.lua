-- Counts traces and aborts while a function runs: what the JIT tests assert about.
local support = {}

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
    jit.flush()
    jit.on()
    jit.attach(trace, "trace")
    local ok, why = pcall(f)
    jit.attach(trace)
    if not ok then
        error(why, 0)
    end
    return started, aborts
end

return support
