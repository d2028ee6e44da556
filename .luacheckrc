-- Lua here runs in LuaJIT 5.1; rules additionally see the words the sandbox gives them.
std = "luajit"
max_line_length = 160
unused_args = false
exclude_files = { "build", "data", "tests/golden", "tests/fuzz/corpus" }

local words = {
    -- kinds
    "pipeline", "source", "stream", "model", "rule", "quality", "decision", "pattern", "job", "policy",
    -- connectors and formats
    "kafka", "files", "http", "generator", "json", "avro", "csv", "msgpack", "debezium", "raw", "delta", "none",
    -- expectations
    "expect", "expect_over", "not_null", "one_of", "between", "matches", "unique",
    -- windows, measures, joins
    "tumbling", "hopping", "sliding", "session", "cumulate", "calendar", "sum", "count", "avg", "min", "max",
    "first", "last", "stddev", "distinct", "approx_distinct", "quantile", "approx_quantile", "top_k", "collect",
    "temporal_join", "interval_join", "lookup", "date", "hour", "minute",
    -- values
    "int64", "decimal", "timestamp", "duration", "key", "round", "idiv", "format", "trunc", "copy", "env",
    "days", "hours", "minutes", "seconds", "now", "random", "reject", "default", "nullable", "field",
}
local rule_files = { std = "lua51", read_globals = words }
files["rules/**/*.lua"] = rule_files
files["pipelines/**/*.lua"] = rule_files
files["tests/nexmark/**/*.lua"] = rule_files
files["spec/**/*.lua"] = { std = "+busted", max_line_length = 260 } -- tables of cases
files["lua/stdlib/meta/**/*.lua"] = { ignore = { "111", "112", "113", "131", "211", "212" } }
