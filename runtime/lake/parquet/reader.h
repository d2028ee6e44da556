#pragma once
/* Parquet reader: a file in memory or behind a pread callback becomes batches. Bytes are hostile
 * until proven otherwise: every length is checked, nesting, metadata and memory are capped, and
 * anything wrong is WEIR_E_CORRUPT naming column and row group.
 *
 * Reads V1 and V2 pages; PLAIN, dictionary, RLE, BIT_PACKED levels, DELTA_BINARY_PACKED,
 * DELTA_LENGTH_BYTE_ARRAY, DELTA_BYTE_ARRAY, BYTE_STREAM_SPLIT; no compression, snappy, gzip,
 * brotli, zstd, lz4_raw and Hadoop's lz4. LZO and encrypted files are refused by name.
 *
 * Types: unsigned integers widen to the next signed type (uint64 to decimal(20,0)); INT96 and
 * millisecond timestamps become microseconds; float16 becomes float; TIME stays its integer; UUID,
 * INTERVAL, BSON and unannotated bytes are binary; 1-, 2- and 3-level lists and legacy maps become
 * lists and maps; a map without values becomes a list of its keys. Strings are not checked for
 * UTF-8.
 *
 * One thread at a time. Batches own their buffers (from the pool) and outlive the reader. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "batch/batch.h"
#include "batch/schema.h"
#include "core/error.h"
#include "core/pool.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weir_parquet_reader_options {
    struct weir_pool *pool; /* required: where batches come from */
    int32_t batch_rows;     /* rows per batch at most; 0: WEIR_BATCH_ROWS_MAX */
    size_t memory_bytes;    /* cap on metadata, pages and staging; 0: 1 GiB */
    bool ignore_crc;        /* page checksums are verified where present unless set */
};

/* Reads exactly `size` bytes at `offset`; 0 or an error code with `err` set. May block. */
typedef int (*weir_parquet_read_fn)(void *ctx, uint64_t offset, void *bytes, size_t size,
                                    struct weir_error *err);

/* One element of the file's schema as written, in pre-order. Strings are the reader's. */
struct weir_parquet_node {
    const char *name;
    int32_t parent;      /* index; -1 for the root */
    int32_t child_count; /* 0 for leaves */
    int32_t field_id;    /* -1 when absent */
    int32_t type_length;
    int32_t precision;
    int32_t scale;
    int32_t leaf;       /* index of the column chunk, -1 for groups */
    int8_t physical;    /* enum parquet_physical; -1 for groups */
    int8_t repetition;  /* 0 required, 1 optional, 2 repeated */
    int8_t converted;   /* ConvertedType, -1 when absent */
    int8_t logical;     /* field id in the LogicalType union, 0 when absent */
    int8_t unit;        /* TIME and TIMESTAMP: 1 ms, 2 us, 3 ns */
    int8_t bits;        /* INTEGER: width */
    bool utc;           /* TIME and TIMESTAMP: adjusted to UTC */
    bool is_signed;     /* INTEGER */
    uint8_t definition; /* level at which this node is present */
    uint8_t repetition_level;
};

enum weir_parquet_op {
    WEIR_PARQUET_EQ,
    WEIR_PARQUET_LT,
    WEIR_PARQUET_LE,
    WEIR_PARQUET_GT,
    WEIR_PARQUET_GE,
    WEIR_PARQUET_IS_NULL, /* these two have no literal */
    WEIR_PARQUET_NOT_NULL,
};

/* "column op literal"; a null never compares true, NaN is greater than every number. */
struct weir_parquet_predicate {
    int32_t column; /* of the schema; it need not be selected */
    enum weir_parquet_op op;
    const void *value; /* one value as it would lie in the batch's column */
    size_t size;       /* its bytes: the type's width, 1 for bool */
};

struct weir_parquet_reader;

/* The bytes must stay until the reader is closed. */
int weir_parquet_reader_open_memory(struct weir_parquet_reader **reader, const void *bytes,
                                    size_t size, const struct weir_parquet_reader_options *options,
                                    struct weir_error *err) WEIR_MUST_CHECK;
int weir_parquet_reader_open(struct weir_parquet_reader **reader, weir_parquet_read_fn read,
                             void *ctx, uint64_t file_size,
                             const struct weir_parquet_reader_options *options,
                             struct weir_error *err) WEIR_MUST_CHECK;
void weir_parquet_reader_close(struct weir_parquet_reader *reader); /* NULL is ignored */

/* Borrowed until close. Column i of the schema is child i of the root node. */
struct weir_schema *weir_parquet_reader_schema(const struct weir_parquet_reader *reader);
const struct weir_parquet_node *weir_parquet_reader_nodes(const struct weir_parquet_reader *reader,
                                                          int32_t *count);
/* Node index of top-level column i of the schema. */
int32_t weir_parquet_reader_column_node(const struct weir_parquet_reader *reader, int32_t column);
int64_t weir_parquet_reader_rows(const struct weir_parquet_reader *reader);
int32_t weir_parquet_reader_row_groups(const struct weir_parquet_reader *reader);
int64_t weir_parquet_reader_row_group_rows(const struct weir_parquet_reader *reader, int32_t group);
const char *weir_parquet_reader_created_by(const struct weir_parquet_reader *reader); /* or NULL */
/* Value of a footer key, NULL when absent. */
const char *weir_parquet_reader_metadata(const struct weir_parquet_reader *reader, const char *key);

/* Chooses the top-level columns (indices into the schema) that batches hold, in that order, and
 * goes back to the start. Default: all. */
int weir_parquet_reader_select(struct weir_parquet_reader *reader, const int32_t *columns,
                               int32_t count, struct weir_error *err) WEIR_MUST_CHECK;
/* The schema batches have. Borrowed until the next select or close. */
struct weir_schema *weir_parquet_reader_batch_schema(const struct weir_parquet_reader *reader);
/* The next batch starts at row 0 of row group `group`. */
int weir_parquet_reader_seek(struct weir_parquet_reader *reader, int32_t group,
                             struct weir_error *err) WEIR_MUST_CHECK;
/* From now on rows are left out that bounds in the footer and in the page index show not to match
 * all of the predicates (copied); rows that come may still not match. Goes back to the start.
 * Columns in lists and structs rule nothing out. count 0: all rows again. */
int weir_parquet_reader_prune(struct weir_parquet_reader *reader,
                              const struct weir_parquet_predicate *predicates, int32_t count,
                              struct weir_error *err) WEIR_MUST_CHECK;
/* Row of the file at which the last batch began. */
int64_t weir_parquet_reader_batch_start(const struct weir_parquet_reader *reader);
/* The next rows, never across row groups; *batch is the caller's reference, NULL at the end.
 * WEIR_E_LIMIT at the pool's or the reader's cap. After any failure seek or close. */
int weir_parquet_reader_next(struct weir_parquet_reader *reader, struct weir_batch **batch,
                             struct weir_error *err) WEIR_MUST_CHECK;

#ifdef __cplusplus
}
#endif
