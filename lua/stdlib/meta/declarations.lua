---@meta
-- The language, for editors (LuaCATS) and for docs/reference/language.md. Never loaded. A lint holds that every word and every option is here.

---@class weir.node
---@alias weir.row table<string, any>
---@alias weir.predicate fun(e: weir.row): boolean?
---@alias weir.names string|string[]
---@alias weir.keys string|string[]|table<string, string> a name, a list, or left = "right" where names differ
---@alias weir.duration_text string such as "90s", "1h30m", "28d"
---@alias weir.secret weir.node|{ file: string } env "NAME", or a file that holds it

-- # Declarations

---@class weir.pipeline
---@field rules? string the folder of the rule files; "rules"
---@field sources weir.node[]
---@field storage? weir.node where tables lie: delta { root = "lake" }
---@field commit? { every?: string } how often an epoch ends, "20ms" or more; "1s"
---@field ledger? weir.ledger
---@field memory? weir.memory
---@field time_zone? string of date(), hour() and calendar windows that name none; "UTC"
---@field serve? { http: weir.listener } what the process listens on
---@field quarantine? weir.node where rejected rows go, if not to a table each: kafka { … } or none
---@field alerts? table<string, weir.node> whom `alert` of an expect_over reaches: { ["teams:retail"] = webhook { url = env "TEAMS" } }
---@field description? string
---@field owner? string

---@class weir.ledger
---@field path? string where it lies; _weir in the lake
---@field keep? weir.duration_text how far back replay and rollback can go; "10m"
---@field segment? string how large its files get; "64MB"
---@field snapshot_every? weir.duration_text how often state is dumped whole; "60s"

---@class weir.memory
---@field data? string cap of batches on their way; "128MB"
---@field state? string cap of the state of each declaration; "1GB"

---@class weir.listener
---@field port integer 0: one the system picks, see weir status
---@field address? string "127.0.0.1"; "0.0.0.0" for all
---@field tls? { cert: string, key: string, client_ca?: string } PEM files; with client_ca clients show a certificate
---@field connections? integer at once; 1000
---@field timeout? weir.duration_text of a request; "30s"
---@field idle? weir.duration_text of a connection; "60s"

---What the process runs: sources, storage, limits. One a file under pipelines/.
---@param name string
---@return fun(options: weir.pipeline): weir.node
function pipeline(name) end

---@class weir.source
---@field into? weir.node a table where nothing is said; none: memory only
---@field keep? weir.duration_text how long rows stay in the source's table; for ever
---@field quarantine? weir.node where frames go that do not decode
---@field alignment? weir.duration_text|weir.node how much further on in event time than others it is read; "1m" of sources that end, else none
---@field description? string
---@field owner? string

---Where events come in: a connector and, where its bytes need one, a decoder.
---@param name string
---@return fun(options: weir.source): weir.node
function source(name) end

---@class weir.time
---@field field string the column that carries event time
---@field out_of_order? weir.duration_text how far rows may come out of order; "0s"
---@field idle? weir.duration_text after how long a silent partition no longer holds the watermark
---@field max_ahead? weir.duration_text how far ahead of the clock a row may be, or it goes to quarantine; "1h"

---@class weir.dedup
---@field by weir.names
---@field within weir.duration_text of event time

---@class weir.explode
---@field index? string a column that tells the element's place, from 1
---@field keep_empty? boolean a row without elements stays, with null
---@field type? string of what a function gives, "list<…>"

---@class weir.stream
---@field from weir.names the dataset read; a list: a union by column name
---@field where? weir.predicate keeps rows of which it is true
---@field explode? weir.explode one row an element: { line = "lines" }
---@field time? weir.time
---@field expectations? weir.node[] of rows as they come in
---@field dedup? weir.dedup keeps the first to arrive of equal rows
---@field join? table<string, weir.node> what stands beside each row, by name
---@field late? string the dataset of rows too late for a join
---@field columns? table<string, string> what map adds, in this order, with its type
---@field map? fun(e: weir.row, out: weir.row, j: table)
---@field drop? weir.names columns that do not leave
---@field keep? weir.names the only columns that leave
---@field ensures? weir.node[] expectations of rows as they leave
---@field key? weir.names makes it a table: a row each
---@field into? weir.node
---@field quarantine? weir.node
---@field version? integer
---@field description? string
---@field owner? string

---Rows judged and mapped one by one.
---@param name string
---@return fun(options: weir.stream): weir.node
function stream(name) end

---@class weir.top
---@field n integer
---@field by? weir.names columns in order; "-price" is descending
---@field per? weir.names a ranking each
---@field ties? "first"|"last"|"all" of rows equal in the order; "first"
---@field rank? string a column for the place

---@class weir.model
---@field from weir.names
---@field where? weir.predicate
---@field time? weir.time
---@field expectations? weir.node[]
---@field dedup? weir.dedup
---@field by? weir.names the key of a group; without it there is one
---@field window? weir.node without it: a row a key, kept true
---@field measures? table<string, weir.node>
---@field derive? table[] { { name = function(m) … end, type = "…" } }: later ones see earlier ones
---@field having? fun(m: weir.row): boolean? keeps rows of which it is true
---@field top? weir.top the first rows of each group
---@field tests? weir.node[] expectations of its rows, and unique { … }
---@field emit? "on_close"|"on_update"|weir.node when rows leave; every "1s"
---@field into? weir.node
---@field quarantine? weir.node
---@field version? integer
---@field migrate? table<integer, any> from version n to n + 1 a function(old, m), names of measures, or both; [-n] back
---@field description? string
---@field owner? string

---Measures by key and window.
---@param name string
---@return fun(options: weir.model): weir.node
function model(name) end

---@class weir.rule
---@field on weir.names the dataset read
---@field key weir.names whose state it is
---@field order? "time"|"arrival" a key's rows by event time, held until the watermark, or as they come; "time"
---@field time? weir.time
---@field where? weir.predicate
---@field expectations? weir.node[]
---@field emits? table<string, table<string, string>> datasets and their columns
---@field params? table<string, any> numbers to turn without a new version
---@field state? table<string, any> cells by name; ttl = "24h" (event time) or ttl_clock = "24h"
---@field version? integer
---@field migrate? table<integer, fun(old: table, s: table): table?> from version n to n + 1; [-n] back
---@field expects? string the column in which a row says which version of its key it expects
---@field process fun(e: weir.row, s: table, p: table, emit: fun(dataset: string, row: table)): table?
---@field timers? table<string, fun(key: any, s: table, p: table, emit: fun(dataset: string, row: table), at: any)>
---@field into? any a sink, or one by dataset
---@field quarantine? weir.node
---@field description? string
---@field owner? string

---Rows with keyed state, timers and what they emit.
---@param name string
---@return fun(options: weir.rule): weir.node
function rule(name) end

---What a rule's process returns to refuse its row: nothing of it stays, and a command's sender is told why.
---@param why string
---@return table
function reject(why) end

---@class weir.pattern
---@field on weir.names
---@field key weir.names
---@field sequence weir.node[] steps
---@field within? weir.duration_text how long a match may last
---@field skip? string|table where the next match begins
---@field emits table<string, table<string, string>>
---@field emit? fun(m: table, p: table, emit: fun(dataset: string, row: table))
---@field params? table<string, any>
---@field where? weir.predicate
---@field time? weir.time
---@field expectations? weir.node[]
---@field into? any
---@field quarantine? weir.node
---@field version? integer
---@field description? string
---@field owner? string

---Rows of a key that come one after the other.
---@param name string
---@return fun(options: weir.pattern): weir.node
function pattern(name) end

---@class weir.step
---@field where? fun(e: weir.row, m: table, p: table): boolean? which rows it takes
---@field contiguity? "relaxed"|"strict"|"any" what may lie between the step before and this one; "relaxed"
---@field consecutive? boolean nothing lies between its rows
---@field absent? boolean must not come

---A step of a pattern, and how often it comes: 3, "2..4", "2+", "+", "*", "?".
---@param name string
---@param times? integer|string
---@param options? weir.step
---@return weir.node
function step(name, times, options) end

---@class weir.decision: weir.stream
---@field hit? "first"|"unique"|"any"|"priority"|"collect"|"sum"|"min"|"max"|"count" which rows of the table give the verdict; "first"
---@field priority? any[] of hit = "priority": verdicts, the weightiest first

---A table of rows { column = condition, verdict = literal }; takes what a stream takes but for map, join and explode.
---@param name string
---@return fun(options: weir.decision): weir.node
function decision(name) end

---Expectations of a dataset that another file declares.
---@param name string the dataset judged
---@return fun(expectations: weir.node[]): weir.node
function quality(name) end

---@class weir.expect
---@field on_violation? "quarantine"|"drop"|"fail"|"warn" "quarantine"
---@field because? string why it must hold

---What must hold of a row: predicates and functions, all of them.
---@param name string
---@return fun(options: weir.expect): weir.node
function expect(name) end

---@class weir.expect_over
---@field on_violation? "warn"|"fail" "warn"
---@field because? string why it must hold
---@field alert? string whom a violation is for: a column of it, and a channel of the pipeline's `alerts`
---@field by? weir.names each group by itself
---@field where? fun(e): boolean
---@field measures? table<string, weir.node> what functions(m) look at
---@field time? weir.time where the dataset has none
---@field into? weir.node

---In a quality file, what must hold of a dataset over a while: max_null_ratio and functions of a window, or max_lag. [Guide](../guide/quality.md)
---@param name string
---@return fun(options: weir.expect_over): weir.node
function expect_over(name) end

-- # Predicates

---Of a window's rows at most this share has no value.
---@param column string
---@param most number
---@return weir.node
function max_null_ratio(column, most) end

---The newest row is at most so far behind the clock, from the first row on.
---@param lag weir.duration_text
---@return weir.node
function max_lag(lag) end


---Is there a value.
---@param column string
---@return weir.node
function not_null(column) end
---Passes on null, as the next two.
---@param column string
---@param values any[]
---@return weir.node
function one_of(column, values) end
---Bounds included.
---@param column string
---@param low any
---@param high any
---@return weir.node
function between(column, low, high) end
---@param column string
---@param pattern string a regular expression, [[^L\d{7}$]]
---@return weir.node
function matches(column, pattern) end
---Of a model's tests: no two rows have the same.
---@param columns weir.names
---@return weir.node
function unique(columns) end

-- # Joins

---@class weir.lookup
---@field on? weir.keys left = right; without it the other's key
---@field kind? "inner"|"left" "inner"
---@field unmatched? "drop"|"quarantine" of inner; "drop"
---@field default? table of left: what a row finds instead

---The row another dataset has under a key, as it is now.
---@param name string a dataset with a key
---@return fun(options: weir.lookup): weir.node
function lookup(name) end

---@class weir.asked
---@field columns table<string, string> what an answer has
---@field on? weir.names the key; the columns in the address
---@field kind? "inner"|"left" "inner"
---@field unmatched? "drop"|"quarantine"
---@field default? table for keys of which there is nothing
---@field fallback? table in place of an answer that failed
---@field batch? integer keys a request; 1
---@field cache? weir.duration_text how long an answer holds
---@field cache_size? integer answers kept; 100000
---@field timeout? weir.duration_text of one attempt; "5s"
---@field retries? integer 3
---@field backoff? weir.duration_text it doubles; "100ms"
---@field in_flight? integer requests at once; 16
---@field ordered? boolean false: rows leave as they are answered, not in the order they came; true
---@field rate? integer requests a second
---@field breaker? integer failures in a row until nobody is asked; 20, 0: never
---@field pause? weir.duration_text for so long; "10s"
---@field token? weir.secret sent as a bearer token
---@field headers? table<string, string>
---@field ca? string a private authority's certificate

---What an HTTP service says of a key.
---@param url string {column} stands for its text
---@return fun(options: weir.asked): weir.node
function async_lookup(url) end

---@class weir.interval
---@field on weir.keys
---@field between string[] right − left, bounds included: { "-1h", "0s" }; the upper may be a time column
---@field kind? "inner"|"left"|"right"|"full"|"semi"|"anti" "inner"
---@field where? fun(e: weir.row, j: table): boolean? a condition of the pair
---@field allowed_lateness? weir.duration_text
---@field late? string the dataset of right rows that come later still

---Rows of another stream with the same key, close in event time.
---@param name string
---@return fun(options: weir.interval): weir.node
function interval_join(name) end

---@class weir.temporal
---@field on? weir.keys without it the other's key
---@field as_of? string a timestamp column that says which version is meant; event time
---@field kind? "inner"|"left" "inner"
---@field where? fun(e: weir.row, j: table): boolean?
---@field wait? weir.duration_text how long a row waits for the versions' watermark
---@field unmatched? "drop"|"quarantine" of inner; "drop"
---@field allowed_lateness? weir.duration_text how far back versions are kept; "1h"

---The version of another row that was valid at this row's time.
---@param name string a dataset with a key and a time
---@return fun(options: weir.temporal): weir.node
function temporal_join(name) end

---@class weir.window_join
---@field on weir.keys
---@field window weir.node tumbling or hopping
---@field kind? "inner"|"left"|"right"|"full"|"semi"|"anti" "inner"
---@field where? fun(e: weir.row, j: table): boolean?
---@field allowed_lateness? weir.duration_text
---@field late? string

---Rows of another stream with the same key in the same window.
---@param name string
---@return fun(options: weir.window_join): weir.node
function window_join(name) end

---@class weir.regular_join
---@field on weir.keys
---@field kind? "inner"|"left"|"right"|"full"|"semi"|"anti" "inner"
---@field where? fun(e: weir.row, j: table): boolean? a condition of the pair
---@field ttl any how long rows are kept that nothing changes: "30d", none, or { left = …, right = … }

---All rows of another dataset with the same key, kept true as both change.
---@param name string
---@return fun(options: weir.regular_join): weir.node
function regular_join(name) end

---In map: passes on the columns of a joined row that the stream's rows do not have.
---@param out table
---@param joined table
function copy(out, joined) end

-- # Windows

---@class weir.window
---@field allowed_lateness? weir.duration_text for how long after its end rows count; "0s"
---@field late? string the dataset of rows later still

---@class weir.tumbling: weir.window
---@field size weir.duration_text

---One after the other.
---@param options string|weir.tumbling
---@return weir.node
function tumbling(options) end

---@class weir.hopping: weir.window
---@field size weir.duration_text
---@field every weir.duration_text

---One of `size` begins every so often; a row counts in each it lies in.
---@param options weir.hopping
---@return weir.node
function hopping(options) end

---@class weir.sliding
---@field size weir.duration_text

---The last while, kept true: a row a key that changes as rows come and leave.
---@param options string|weir.sliding
---@return weir.node
function sliding(options) end

---@class weir.cumulate: weir.window
---@field size weir.duration_text
---@field step weir.duration_text divides the size

---They share their start and grow by the step: running totals of a day.
---@param options weir.cumulate
---@return weir.node
function cumulate(options) end

---@class weir.session: weir.window
---@field gap weir.duration_text

---Rows of a key no further apart than the gap.
---@param options string|weir.session
---@return weir.node
function session(options) end

---@class weir.calendar: weir.window
---@field [1] "day"|"week"|"month"|"quarter"|"year"
---@field time_zone? string the pipeline's
---@field week_start? string "monday"

---As the calendar of a zone has them; a day is 23 or 25 hours where clocks change.
---@param options string|weir.calendar
---@return weir.node
function calendar(options) end

---Of `emit`: rows that change leave once an interval of the recorded clock.
---@param interval weir.duration_text
---@return weir.node
function every(interval) end

-- # Measures

---@class weir.measured
---@field where? weir.predicate which rows count
---@field over? weir.duration_text without a window: the last while

---@class weir.collected: weir.measured
---@field max? integer values at most, the first so many

---Rows, or values that are not null. As a window, count(100): so many rows of a key.
---@param column? string|integer
---@param options? weir.measured
---@return weir.node
function count(column, options) end
---Exact for int64 and decimals; doubles are added in row order.
---@param what string|fun(e: weir.row): any
---@param type_or_options? string|weir.measured
---@param options? weir.measured
---@return weir.node
function sum(what, type_or_options, options) end
---Of whole numbers and decimals decimal(38, max(6, s)), half to even; of floats double.
---@param what string|fun(e: weir.row): any
---@param type_or_options? string|weir.measured
---@param options? weir.measured
---@return weir.node
function avg(what, type_or_options, options) end
---@param what string|fun(e: weir.row): any
---@param type_or_options? string|weir.measured
---@param options? weir.measured
---@return weir.node
function min(what, type_or_options, options) end
---@param what string|fun(e: weir.row): any
---@param type_or_options? string|weir.measured
---@param options? weir.measured
---@return weir.node
function max(what, type_or_options, options) end
---How many different values, exactly.
---@param what string|fun(e: weir.row): any
---@param type_or_options? string|weir.measured
---@param options? weir.measured
---@return weir.node
function distinct(what, type_or_options, options) end
---Of a sample.
---@param what string|fun(e: weir.row): any
---@param type_or_options? string|weir.measured
---@param options? weir.measured
---@return weir.node
function variance(what, type_or_options, options) end
---@param what string|fun(e: weir.row): any
---@param type_or_options? string|weir.measured
---@param options? weir.measured
---@return weir.node
function stddev(what, type_or_options, options) end
---@param what string|fun(e: weir.row): any
---@param type_or_options? string|weir.measured
---@param options? weir.measured
---@return weir.node
function median(what, type_or_options, options) end
---A value that is there: of rank ⌈share · n⌉.
---@param column string
---@param share number
---@param options? weir.measured
---@return weir.node
function quantile(column, share, options) end
---The most frequent values, with their counts.
---@param column string
---@param n integer
---@param options? weir.measured
---@return weir.node
function top_k(column, n, options) end
---All values, by event time.
---@param column string
---@param options? weir.collected
---@return weir.node
function collect(column, options) end
---@class weir.aggregate
---@field state table<string, string> its fields and their types: numbers, truth values and times
---@field init? fun(s: table) what a fresh state holds; all null
---@field add fun(s: table, e: weir.row) puts a row into a fresh state
---@field merge fun(s: table, o: table) puts a state of later rows into another
---@field result fun(s: table): any what leaves
---@field type string of the result
---@field where? weir.predicate which rows count

---A measure of your own, of three functions over a state.
---@param options weir.aggregate
---@return weir.node
function aggregate(options) end
---By event time.
---@param column string
---@param options? weir.measured
---@return weir.node
function first(column, options) end
---@param column string
---@param options? weir.measured
---@return weir.node
function last(column, options) end
---The value of the row whose other column is greatest.
---@param column string
---@param by string
---@param options? weir.measured
---@return weir.node
function arg_max(column, by, options) end
---@param column string
---@param by string
---@param options? weir.measured
---@return weir.node
function arg_min(column, by, options) end
---Of truth values.
---@param what string|fun(e: weir.row): any
---@param options? weir.measured
---@return weir.node
function any(what, options) end
---@param what string|fun(e: weir.row): any
---@param options? weir.measured
---@return weir.node
function all(what, options) end
---A sketch: standard error 1.6 %, at most 6 KB a group.
---@param column string
---@param options? weir.measured
---@return weir.node
function approx_distinct(column, options) end
---A sketch: within 0.8 % of a value of that rank, at most 18 KB a group.
---@param column string
---@param share number
---@param options? weir.measured
---@return weir.node
function approx_quantile(column, share, options) end

-- # State of rules

---One value, or a record.
---@param of string|table<string, string>
---@return weir.node
function value(of) end
---A whole number.
---@return weir.node
function counter() end
---The newest so many.
---@param most integer
---@param of string|table<string, string>
---@return weir.node
function ring(most, of) end
---So many at most; a push to a full one throws.
---@param most integer
---@param of string|table<string, string>
---@return weir.node
function list(most, of) end
---1000 entries where nothing is said.
---@param most_or_key integer|string
---@param key_or_value string|table<string, string>
---@param value? string|table<string, string>
---@return weir.node
function map(most_or_key, key_or_value, value) end
---1000 entries where nothing is said.
---@param most_or_type integer|string
---@param of? string
---@return weir.node
function set(most_or_type, of) end
---About how many different values: 1.6 %.
---@param of string
---@return weir.node
function sketch(of) end
