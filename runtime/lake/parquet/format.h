#pragma once
/* The numbers of parquet.thrift (apache/parquet-format) that both sides use. Private to this
 * directory. */

enum parquet_physical {
    PARQUET_BOOLEAN = 0,
    PARQUET_INT32 = 1,
    PARQUET_INT64 = 2,
    PARQUET_INT96 = 3,
    PARQUET_FLOAT = 4,
    PARQUET_DOUBLE = 5,
    PARQUET_BYTE_ARRAY = 6,
    PARQUET_FIXED = 7,
};

enum parquet_repetition { PARQUET_REQUIRED = 0, PARQUET_OPTIONAL = 1, PARQUET_REPEATED = 2 };

enum parquet_converted {
    PARQUET_CONVERTED_NONE = -1,
    PARQUET_UTF8 = 0,
    PARQUET_MAP = 1,
    PARQUET_MAP_KEY_VALUE = 2,
    PARQUET_LIST = 3,
    PARQUET_ENUM = 4,
    PARQUET_DECIMAL = 5,
    PARQUET_DATE = 6,
    PARQUET_TIME_MILLIS = 7,
    PARQUET_TIME_MICROS = 8,
    PARQUET_TIMESTAMP_MILLIS = 9,
    PARQUET_TIMESTAMP_MICROS = 10,
    PARQUET_UINT_8 = 11,
    PARQUET_UINT_16 = 12,
    PARQUET_UINT_32 = 13,
    PARQUET_UINT_64 = 14,
    PARQUET_INT_8 = 15,
    PARQUET_INT_16 = 16,
    PARQUET_INT_32 = 17,
    PARQUET_INT_64 = 18,
    PARQUET_JSON = 19,
    PARQUET_BSON = 20,
    PARQUET_INTERVAL = 21,
};

/* Field ids in the LogicalType union. */
enum parquet_logical {
    PARQUET_LOGICAL_NONE = 0,
    PARQUET_LOGICAL_STRING = 1,
    PARQUET_LOGICAL_MAP = 2,
    PARQUET_LOGICAL_LIST = 3,
    PARQUET_LOGICAL_ENUM = 4,
    PARQUET_LOGICAL_DECIMAL = 5,
    PARQUET_LOGICAL_DATE = 6,
    PARQUET_LOGICAL_TIME = 7,
    PARQUET_LOGICAL_TIMESTAMP = 8,
    PARQUET_LOGICAL_INTEGER = 10,
    PARQUET_LOGICAL_JSON = 12,
    PARQUET_LOGICAL_FLOAT16 = 15,
};

enum parquet_unit { PARQUET_UNIT_MILLIS = 1, PARQUET_UNIT_MICROS = 2, PARQUET_UNIT_NANOS = 3 };

enum parquet_encoding {
    PARQUET_PLAIN = 0,
    PARQUET_PLAIN_DICTIONARY = 2,
    PARQUET_RLE = 3,
    PARQUET_BIT_PACKED = 4,
    PARQUET_DELTA_BINARY_PACKED = 5,
    PARQUET_DELTA_LENGTH_BYTE_ARRAY = 6,
    PARQUET_DELTA_BYTE_ARRAY = 7,
    PARQUET_RLE_DICTIONARY = 8,
    PARQUET_BYTE_STREAM_SPLIT = 9,
};

enum parquet_page {
    PARQUET_PAGE_DATA = 0,
    PARQUET_PAGE_INDEX = 1,
    PARQUET_PAGE_DICTIONARY = 2,
    PARQUET_PAGE_DATA_V2 = 3,
};

enum {
    PARQUET_DEPTH_MAX = 64, /* schema nodes on a path; levels then fit a byte */
    PARQUET_SLACK = 64,     /* readable, writable bytes kept past the end of staging buffers */
};
