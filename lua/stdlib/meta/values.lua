---@meta
-- The values rules compute with, and the functions over them, for editors and docs/reference/language.md. Never loaded.

-- # Values

---@class weir.int64
---@operator add(any): weir.int64
---@operator sub(any): weir.int64
---@operator mul(any): weir.int64
---@operator div(any): weir.decimal
---@operator mod(any): weir.int64
---@class weir.decimal
---@operator add(any): weir.decimal
---@operator sub(any): weir.decimal
---@operator mul(any): weir.decimal
---@operator div(any): weir.decimal
---@operator mod(any): weir.decimal
---@class weir.duration
---@operator add(weir.duration|string): weir.duration
---@operator sub(weir.duration|string): weir.duration
---@operator mul(integer): weir.duration
---@class weir.timestamp
---@operator add(weir.duration|string): weir.timestamp
---@operator sub(weir.timestamp): weir.duration
---@class weir.date
---@operator add(weir.duration|string): weir.date
---@operator sub(weir.date): weir.duration

---Of the environment, at start: in a pipeline's texts, joined by `..`. Unset and without default: exit 3.
---@param name string
---@param default? string
---@return string
function env(name, default) end
---Nothing: no table, no time to live, null in a decision.
---@type weir.node
none = nil
---Exactly these digits.
---@param digits string|number
---@return weir.decimal
function decimal(digits) end
---Half to even.
---@generic T
---@param x T
---@param places? integer
---@return T
function round(x, places) end
---Whole division, towards zero.
---@param a weir.int64|number
---@param b weir.int64|number
---@return weir.int64|number
function idiv(a, b) end
---Equal values are equal keys of a Lua table: t[key(e.id)].
---@param x any
---@return string|number
function key(x) end
---@param n integer
---@return weir.duration
function days(n) end
---@param n integer
---@return weir.duration
function hours(n) end
---@param n integer
---@return weir.duration
function minutes(n) end
---@param n integer
---@return weir.duration
function seconds(n) end
---@param n integer
---@return weir.duration
function milliseconds(n) end
---The day of a time in a zone, the pipeline's where none is said.
---@param x weir.timestamp|string
---@param zone? string
---@return weir.date
function date(x, zone) end
---@param ts weir.timestamp
---@param zone? string
---@return integer
function hour(ts, zone) end
---@param ts weir.timestamp
---@param zone? string
---@return integer
function minute(ts, zone) end
---@param ts weir.timestamp
---@return integer
function second(ts) end
---@param ts weir.timestamp
---@param pattern string "%H:%M"
---@param zone? string
---@return string
function format(ts, pattern, zone) end
---The beginning of the step a time lies in: steps are counted from 1970-01-01 on the zone's clock, the pipeline's where none is said.
---@param ts weir.timestamp
---@param step string "10s"
---@param zone? string
---@return weir.timestamp
function trunc(ts, step, zone) end
---The clock as recorded: a replay sees the same.
---@return weir.timestamp
function now() end
---From 0 to 1, as recorded.
---@return number
function random() end
