-- What a rule's process returns to refuse its row: return reject "insufficient funds".
local reject = {}

local Reject = { __metatable = "reject" }

function reject.make(why)
    if type(why) ~= "string" or why == "" then
        error('reject takes the reason: return reject "insufficient funds"', 2)
    end
    return setmetatable({ why = why }, Reject)
end

-- The reason; nil: it is something else.
function reject.why(verdict)
    return type(verdict) == "table" and getmetatable(verdict) == "reject" and verdict.why or nil
end

return reject
