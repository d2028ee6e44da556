#pragma once
/* Parquet writer: batches in, one file after another out through a write callback.
 *
 * File layout (apache/parquet-format): "PAR1", row groups, footer (thrift compact FileMetaData),
 * 4-byte little-endian footer length, "PAR1". A row group holds one chunk per leaf column: an
 * optional dictionary page, then V1 data pages. Nested columns are written as definition and
 * repetition levels, lists and maps in the 3-level form.
 *
 * A writer is created once per schema and reused for file after file; it owns all its buffers and
 * keeps them, so steady state does not malloc. One thread at a time. Rows are copied straight from
 * the batch (through the selection) into page staging; a full page is encoded and compressed at
 * once and kept compressed until its row group is written. Batches are only read during the call.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "batch/batch.h"
#include "batch/schema.h"
#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

enum weir_parquet_codec { /* numbers of parquet.thrift's CompressionCodec */
                          WEIR_PARQUET_NONE = 0,
                          WEIR_PARQUET_SNAPPY = 1,
                          WEIR_PARQUET_GZIP = 2,
                          WEIR_PARQUET_BROTLI = 4,     /* read only */
                          WEIR_PARQUET_LZ4_HADOOP = 5, /* read only */
                          WEIR_PARQUET_ZSTD = 6,
                          WEIR_PARQUET_LZ4_RAW = 7,
};

struct weir_parquet_key_value {
    const char *key;
    const char *value;
};

/* Borrowed pointers are read during weir_parquet_writer_create only. */
struct weir_parquet_writer_options {
    enum weir_parquet_codec codec;
    int32_t level;             /* zstd, gzip; 0: zstd 1, gzip 6 */
    int64_t row_group_rows;    /* a row group is written at this many rows */
    int32_t page_rows;         /* rows per data page at most */
    int64_t page_bytes;        /* values per data page, soft */
    int64_t dictionary_bytes;  /* a chunk's dictionary past this falls back; 0: no dictionaries */
    int32_t dictionary_values; /* distinct values past this fall back */
    int64_t memory_bytes;      /* compressed pages held past this force the row group out early */
    bool compat;          /* only PLAIN and dictionary encodings, for readers of the oldest kind */
    bool nanos_annotated; /* timestamp_ns as TIMESTAMP(NANOS); default: plain INT64, a Delta long */
    bool page_crc;
    bool page_index;          /* where pages are and what they hold, before the footer */
    const bool *excluded;     /* per top-level column: true = not in the file; NULL: none */
    const int32_t *field_ids; /* one per field of the schema in pre-order (a list's element, a
                                 map's key and value and struct fields count), negative = none;
                                 NULL: none */
    int32_t field_id_count;
    const struct weir_parquet_key_value *metadata; /* footer key-value pairs */
    int32_t metadata_count;
    const int32_t *sorted_by; /* top-level columns by which the caller's rows rise within every row
                                 group, nulls first; said in the footer, not checked */
    int32_t sorted_by_count;  /* 8 at most */
};

/* With a page index, zstd 1, 1 Mi rows a group, 32 Ki rows or 1 MiB a page, dictionaries up to 1
 * MiB or 128 Ki values, 256 MiB of held pages. */
void weir_parquet_writer_options_init(struct weir_parquet_writer_options *options);
/* The above for readers that load whole columns into memory (Direct Lake): row groups of 8 Mi rows
 * and dictionaries that last for them. Rows sorted by columns of few values first make it pay. */
void weir_parquet_writer_options_direct_lake(struct weir_parquet_writer_options *options);

/* What one leaf column of a finished file holds. Pointers live until the writer is opened again or
 * destroyed. min and max are exact, in the column's batch form: the bytes of one value of
 * weir_column.values (bool: one byte 0/1; decimal: 16 bytes; string: its bytes). Floating-point
 * bounds leave NaN out (has_nan says so) and are -0.0 for a zero min, +0.0 for a zero max. String
 * order is by bytes. */
struct weir_parquet_column_info {
    const char *const *path; /* weir field names from the top: list children appear as "element",
                                map children as "key" and "value" */
    int32_t path_count;
    const struct weir_field *field; /* the leaf */
    bool repeated;                  /* inside a list or map */
    bool has_nan;
    bool min_max_set;    /* false: no non-null (and non-NaN) value, or values over 64 KiB */
    int64_t value_count; /* entries, nulls included */
    int64_t null_count;  /* a null or empty list counts as one in its leaves */
    const void *min;
    size_t min_size;
    const void *max;
    size_t max_size;
};

struct weir_parquet_file_info {
    int64_t rows;
    int64_t bytes;
    int32_t row_groups;
    int32_t column_count;
    const struct weir_parquet_column_info *columns; /* leaves in file order */
};

/* Receives the file's bytes in order; 0 or an error code with `err` set. May block. */
typedef int (*weir_parquet_write_fn)(void *ctx, const void *bytes, size_t size,
                                     struct weir_error *err);

struct weir_parquet_writer;

/* Takes a reference on the schema. WEIR_E_CONFIG for options out of range, WEIR_E_SCHEMA for a
 * schema without columns left or nested too deep. */
int weir_parquet_writer_create(struct weir_parquet_writer **writer, struct weir_schema *schema,
                               const struct weir_parquet_writer_options *options,
                               struct weir_error *err) WEIR_MUST_CHECK;
void weir_parquet_writer_destroy(struct weir_parquet_writer *writer); /* NULL is ignored */

/* Starts a file. WEIR_E_BUG when one is open. */
int weir_parquet_writer_open(struct weir_parquet_writer *writer, weir_parquet_write_fn write,
                             void *ctx, struct weir_error *err) WEIR_MUST_CHECK;
/* Appends rows sel[0..count) of the batch, or rows 0..count when sel is NULL. After a failure only
 * abort is possible. WEIR_E_DATA: a null in a required column, a decimal past its precision. */
int weir_parquet_writer_append(struct weir_parquet_writer *writer, const struct weir_batch *batch,
                               const int32_t *sel, int32_t count,
                               struct weir_error *err) WEIR_MUST_CHECK;
/* Writes the rows since the last row group as one, where there are any: for a caller whose rows are
 * sorted up to here. */
int weir_parquet_writer_end_group(struct weir_parquet_writer *writer,
                                  struct weir_error *err) WEIR_MUST_CHECK;
/* Writes what is left and the footer. On success `info` (may be NULL) describes the file. */
int weir_parquet_writer_finish(struct weir_parquet_writer *writer,
                               struct weir_parquet_file_info *info,
                               struct weir_error *err) WEIR_MUST_CHECK;
/* Forgets the open file, if any; what the callback got is the caller's to remove. */
void weir_parquet_writer_abort(struct weir_parquet_writer *writer);

bool weir_parquet_writer_is_open(const struct weir_parquet_writer *writer);
/* Rows appended to the open file. */
int64_t weir_parquet_writer_rows(const struct weir_parquet_writer *writer);
/* About how large the file would be if finished now. */
int64_t weir_parquet_writer_size_estimate(const struct weir_parquet_writer *writer);
/* Bytes of memory the writer holds. */
int64_t weir_parquet_writer_memory(const struct weir_parquet_writer *writer);

#ifdef __cplusplus
}
#endif
