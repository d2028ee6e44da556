/* Typed values as Lua holds them (docs: language, "Values"). One-field structs so that LuaJIT's
 * allocation sinking keeps them in registers; a raw int64_t never reaches a rule. */

struct weir_int64 { int64_t v; };
struct weir_decimal { int64_t v; int32_t scale; };                 /* up to 18 digits, one word */
struct weir_decimal128 { uint64_t lo; int64_t hi; int32_t scale; }; /* 19..38 digits */
struct weir_timestamp { int64_t us; };                             /* UTC, or local when the column has no zone */
struct weir_timestamp_ns { int64_t ns; };
struct weir_date { int32_t days; };
struct weir_duration { int64_t us; };
