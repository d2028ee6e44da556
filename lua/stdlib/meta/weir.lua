---@meta
-- LuaCATS declarations of the language for editors. Never loaded.

---@class weir.node
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

---@alias weir.row table<string, any>
---@alias weir.predicate fun(e: weir.row): boolean?
---@alias weir.names string|string[]

---@class weir.time
---@field field string the column that carries event time
---@field out_of_order? string how far rows may come out of order, "5s"
---@field idle? string after how long a silent partition no longer holds the watermark
---@field max_ahead? string how far ahead of the clock a row may be, "1h"

---@class weir.dedup
---@field by weir.names
---@field within string event time, "24h"

---@class weir.stream
---@field description? string
---@field owner? string
---@field from string
---@field where? weir.predicate
---@field time? weir.time
---@field expectations? weir.node[]
---@field dedup? weir.dedup
---@field columns? table<string, string> what map adds, in this order, with its type
---@field map? fun(e: weir.row, out: weir.row, j: table)
---@field drop? weir.names
---@field join? table<string, weir.node> what stands beside each row, by name: { product = lookup "silver.product" { on = "sku" } }
---@field late? string the dataset of rows too late for a join
---@field explode? table the column that takes an element and its list, { line = "lines" }; index = "line_no", keep_empty = true
---@field keep? weir.names
---@field ensures? weir.node[]
---@field into? weir.node
---@field version? integer

---@class weir.model
---@field description? string
---@field owner? string
---@field from string
---@field where? weir.predicate
---@field time? weir.time
---@field expectations? weir.node[]
---@field dedup? weir.dedup
---@field by? weir.names
---@field window weir.node
---@field measures table<string, weir.node>
---@field derive? table[]
---@field tests? weir.node[]
---@field emit? "on_close"|"on_update"|weir.node
---@field into? weir.node
---@field version? integer

---@param why string
---@return table what a rule's process returns to refuse its row
function reject(why) end

---@class weir.rule
---@field expects? string the column in which a row says which version of its key it expects
---@field description? string
---@field owner? string
---@field on string
---@field key weir.names
---@field order? "time"|"arrival"
---@field time? weir.time
---@field where? weir.predicate
---@field expectations? weir.node[]
---@field emits? table<string, table<string, string>>
---@field params? table<string, any>
---@field state? table<string, any>
---@field version? integer
---@field process fun(e: table, s: table, p: table, emit: fun(dataset: string, row: table))
---@field timers? table<string, fun(key: any, s: table, p: table, emit: fun(dataset: string, row: table), at: any)>
---@field into? any

---@class weir.listener
---@field port integer
---@field address? string
---@field tls? { cert: string, key: string, client_ca?: string }
---@field connections? integer
---@field timeout? string
---@field idle? string

---@class weir.pipeline
---@field description? string
---@field owner? string
---@field rules? string
---@field storage weir.node
---@field commit? { every: string }
---@field ledger? { keep: string, path: string }
---@field memory? { data: string, state: string }
---@field time_zone? string
---@field serve? { http: weir.listener }
---@field sources weir.node[]

---@param name string
---@return fun(options: weir.pipeline): weir.node
function pipeline(name) end
---@param name string
---@return fun(options: table): weir.node
function source(name) end
---@param name string
---@return fun(options: weir.stream): weir.node
function stream(name) end
---@param name string a dataset by key
---@return fun(options: { on?: weir.names|table<string, string>, kind?: "inner"|"left", unmatched?: "drop"|"quarantine", default?: table }): weir.node
function lookup(name) end
---@class weir.asked
---@field columns table<string, string> what an answer has
---@field on? weir.names
---@field kind? "inner"|"left"
---@field unmatched? "drop"|"quarantine"
---@field default? table
---@field fallback? table in place of an answer that failed
---@field batch? integer keys a request
---@field cache? string how long an answer holds
---@field cache_size? integer
---@field timeout? string
---@field retries? integer
---@field backoff? string
---@field in_flight? integer
---@field rate? integer requests a second
---@field breaker? integer failures in a row
---@field pause? string
---@field token? any
---@field headers? table<string, string>
---@field ca? string

---@param url string where a service answers; {column} stands for the key
---@return fun(options: weir.asked): weir.node
function async_lookup(url) end
---Rows of another stream with the same key, close in event time.
---@param name string
---@return fun(options: { on: any, between: string[], kind?: string, where?: function, allowed_lateness?: string, late?: string }): weir.node
function interval_join(name) end
---@class weir.temporal
---@field on? any
---@field as_of? string a timestamp column that says which version is meant; event time
---@field kind? "inner"|"left"
---@field where? function
---@field wait? string how long a row waits for the versions' watermark
---@field unmatched? "drop"|"quarantine"
---@field allowed_lateness? string

---The version of another row that was valid at this row's time.
---@param name string a dataset with a key and a time
---@return fun(options: weir.temporal): weir.node
function temporal_join(name) end
---All rows of another dataset with the same key, kept true as both change.
---@param name string
---@return fun(options: { on: any, kind?: "inner"|"left"|"right"|"full", ttl: any }): weir.node
function regular_join(name) end
---Rows of another stream with the same key in the same window.
---@param name string
---@return fun(options: { on: any, window: weir.node, kind?: string, where?: function, allowed_lateness?: string, late?: string }): weir.node
function window_join(name) end
---In `map`: passes on the columns of a joined row that the stream's rows do not have.
---@param out table
---@param joined table
function copy(out, joined) end
---@param name string
---@return fun(options: weir.model): weir.node
function model(name) end
---@param name string
---@return fun(options: weir.rule): weir.node
function rule(name) end
---@class weir.pattern
---@field on string
---@field key weir.names
---@field sequence weir.node[]
---@field within? string
---@field skip? string|table
---@field emits table
---@field emit? fun(m: table, p: table, emit: function)
---@field params? table

---Rows of a key that come one after the other; see docs/guide/patterns.md.
---@param name string
---@return fun(options: weir.pattern): weir.node
function pattern(name) end
---A step of a pattern: how often it comes (3, "2..4", "+", "*", "?"), and which rows it takes.
---@param name string
---@param times? integer|string|table
---@param options? { where?: fun(e: weir.row, m: table, p: table): boolean?, contiguity?: "relaxed"|"strict"|"any", consecutive?: boolean, absent?: boolean }
---@return weir.node
function step(name, times, options) end
---@param name string the dataset judged
---@return fun(expectations: weir.node[]): weir.node
function quality(name) end
---@param name string
---@return fun(body: table): weir.node
function expect(name) end

---@class weir.delta
---@field root? string of `storage`
---@field mode? "append"|"merge"
---@field partition_by? any
---@field properties? table<string, string>
---@field compact? boolean put small files together while the pipeline runs
---@field vacuum? boolean delete files no version needs
---@field keep? string how long rows stay
---@field target_file_size? string
---@field overwrite? string partitions that the first commit of the pipeline replaces
---@field tier_to? string where old files go: a folder or a URL
---@field tier_after? string how old they are by then
---@field z_order_by? string|string[] files that are put together hold narrow ranges of these
---@field layout? "direct_lake" large sorted row groups

---@param options weir.delta
---@return weir.node
function delta(options) end
---@param options { path: string }
---@return weir.node
function files(options) end
---@param options { schema: string }
---@return weir.node
function json(options) end
---@param options { seed?: integer, count?: integer, rate?: number, start?: string, per_second?: number, defects?: number, late_s?: number }
---@return weir.node
function generator(options) end
---A table of rows { column = condition, verdict = literal }, by a hit policy; see docs/guide/decisions.md.
---@param name string
---@return fun(t: table): weir.node
function decision(name) end
---@param options string|{ size: string, allowed_lateness?: string, late?: string }
---@return weir.node
function tumbling(options) end
---A window of `size` starts every so often; a row counts in each window it lies in.
---@param options { size: string, every: string, allowed_lateness?: string, late?: string }
---@return weir.node
function hopping(options) end
---Windows that share their start and grow by `step` up to `size`: running totals of a day, say.
---@param options { size: string, step: string, allowed_lateness?: string, late?: string }
---@return weir.node
function cumulate(options) end
---`emit = every "1s"`: rows that change leave once an interval of the clock.
---@param interval string
---@return weir.node
function every(interval) end
---Rows of a key no further apart than `gap` are one window.
---@param options string|{ gap: string, allowed_lateness?: string, late?: string }
---@return weir.node
function session(options) end
---Days, weeks, months, quarters or years of a time zone: `calendar { "day", time_zone = "Europe/London" }`.
---@param options string|{ [1]: string, time_zone?: string, week_start?: string, allowed_lateness?: string, late?: string }
---@return weir.node
function calendar(options) end

---@param column string
---@return weir.node
function not_null(column) end
---@param column string
---@param values any[]
---@return weir.node
function one_of(column, values) end
---@param column string
---@param low any
---@param high any
---@return weir.node
function between(column, low, high) end
---@param column string
---@param pattern string a regular expression
---@return weir.node
function matches(column, pattern) end
---@param columns weir.names
---@return weir.node
function unique(columns) end

---@alias weir.measured string|fun(e: weir.row): any
---@param what weir.measured
---@param type_or_options? string|table
---@param options? { where: weir.predicate }
---@return weir.node
function sum(what, type_or_options, options) end
---As a measure: of rows or of values that are not null. As a window: `count(100)`, so many rows of a key as they come.
---@param what? weir.measured|integer|{ where: weir.predicate }|{ size: integer }
---@return weir.node
function count(what) end
---@param what weir.measured
---@return weir.node
function avg(what, type_or_options, options) end
---@param what weir.measured
---@return weir.node
function min(what, type_or_options, options) end
---@param what weir.measured
---@return weir.node
function max(what, type_or_options, options) end
---@param what weir.measured
---@return weir.node
function distinct(what, type_or_options, options) end

---@param name string
---@param default? string
---@return string
function env(name, default) end
---@type weir.node
none = nil

---@param digits string|number
---@return weir.decimal
function decimal(digits) end
---@generic T
---@param x T
---@param digits? integer
---@return T
function round(x, digits) end
---@return weir.int64|number
function idiv(a, b) end
---@return string|number
function key(x) end
---@return weir.duration
function days(n) end
---@return weir.duration
function hours(n) end
---@return weir.duration
function minutes(n) end
---@return weir.duration
function seconds(n) end
---@return weir.duration
function milliseconds(n) end
---@return weir.date
function date(x, zone) end
---@return integer
function hour(ts, zone) end
---@return integer
function minute(ts, zone) end
---@return integer
function second(ts) end
---@return string
function format(ts, pattern, zone) end
---@return weir.timestamp
function trunc(ts, step, zone) end
---@return weir.timestamp
function now() end
---@return number
function random() end
