/* Columns as C and LuaJIT both see them. Arrow columnar layout (Arrow spec, "Physical memory
 * layout"): LSB-first validity bitmaps, int32 offsets, little-endian values. No preprocessor here:
 * lua/stdlib feeds these bytes to ffi.cdef. abi.h wraps them for C and asserts every size. */

enum weir_type {
    WEIR_TYPE_NONE = 0,
    WEIR_TYPE_BOOL = 1,          /* bit-packed */
    WEIR_TYPE_INT8 = 2,
    WEIR_TYPE_INT16 = 3,
    WEIR_TYPE_INT32 = 4,
    WEIR_TYPE_INT64 = 5,
    WEIR_TYPE_FLOAT = 6,
    WEIR_TYPE_DOUBLE = 7,
    WEIR_TYPE_DECIMAL = 8,       /* 128-bit two's complement, unscaled; precision 1..38 */
    WEIR_TYPE_STRING = 9,        /* UTF-8 */
    WEIR_TYPE_BINARY = 10,
    WEIR_TYPE_DATE = 11,         /* int32 days since 1970-01-01 */
    WEIR_TYPE_TIMESTAMP = 12,    /* int64 microseconds since epoch, UTC */
    WEIR_TYPE_TIMESTAMP_NTZ = 13,    /* int64 microseconds, no zone */
    WEIR_TYPE_TIMESTAMP_NS = 14,     /* int64 nanoseconds since epoch, UTC */
    WEIR_TYPE_TIMESTAMP_NS_NTZ = 15, /* int64 nanoseconds, no zone */
    WEIR_TYPE_LIST = 16,         /* children[0] = element */
    WEIR_TYPE_STRUCT = 17,       /* children = fields */
    WEIR_TYPE_MAP = 18           /* children[0] = key (not null), children[1] = value */
};

enum weir_column_flag {
    WEIR_COLUMN_MAY_HAVE_NAN = 1 /* float/double only: Lua must not load these raw */
};

struct weir_column {
    int64_t length;                 /* rows */
    int64_t null_count;             /* exact */
    uint8_t *validity;              /* bit i of byte i/8, 1 = valid; NULL when null_count == 0 */
    void *values;                   /* fixed-width values, bool bits, or string/binary bytes */
    int32_t *offsets;               /* string, binary, list, map: length + 1 entries */
    int32_t *codes;                 /* dictionary-encoded: index into dictionary; values, offsets NULL */
    struct weir_column *dictionary; /* plain column of distinct values, never null itself */
    struct weir_column *children;
    int32_t child_count;
    uint8_t type;                   /* enum weir_type */
    uint8_t flags;                  /* enum weir_column_flag */
    uint8_t precision;              /* decimal only */
    int8_t scale;                   /* decimal only */
};
