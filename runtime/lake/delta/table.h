#pragma once
/* What `weir table ls|show|history|cat` say, without printing: results go to callbacks and buffers.
 * Also the way to read a table's rows. Read only. Threads: one at a time; blocks on the store. */
#include "batch/batch.h"
#include "lake/delta/snapshot.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Finds the tables (folders with a _delta_log) at and under `dir` of the store, in order of path,
 * not looking inside tables; at most `depth` levels down. */
typedef int weir_delta_visit_table(void *context, const char *dir);
int weir_delta_table_ls(struct weir_store *store, const char *dir, int depth,
                        weir_delta_visit_table *visit, void *context,
                        struct weir_error *err) WEIR_MUST_CHECK;

struct weir_delta_summary {
    int64_t version;
    int64_t timestamp_ms;
    int64_t files;
    int64_t bytes;
    int64_t rows;               /* -1 when some file does not say */
    int64_t checkpoint_version; /* -1: none */
};

int weir_delta_summarize(struct weir_delta_snapshot *snapshot, struct weir_delta_summary *out,
                         struct weir_error *err) WEIR_MUST_CHECK;
/* One JSON object, or lines of text for a terminal: version, protocol, schema, partitioning,
 * properties, files, rows, bytes. */
int weir_delta_show(struct weir_delta_snapshot *snapshot, bool json, struct weir_buffer *out,
                    struct weir_error *err) WEIR_MUST_CHECK;

/* Commits, newest first, at most `limit` (0: all that the log still holds). */
typedef int weir_delta_visit_commit(void *context, int64_t version, int64_t timestamp_ms,
                                    const struct weir_delta_commit_info *info);
int weir_delta_history(struct weir_store *store, const char *dir, int64_t limit,
                       weir_delta_visit_commit *visit, void *context,
                       struct weir_error *err) WEIR_MUST_CHECK;
/* The same as JSON lines or as aligned text. */
int weir_delta_history_text(struct weir_store *store, const char *dir, int64_t limit, bool json,
                            struct weir_buffer *out, struct weir_error *err) WEIR_MUST_CHECK;

/* Rows of the table, batch by batch, in the table's schema (partition columns and missing columns
 * filled in, deletion vectors applied). The batch is borrowed. */
typedef int weir_delta_visit_batch(void *context, struct weir_batch *batch, struct weir_error *err);
int weir_delta_scan(struct weir_delta_snapshot *snapshot, struct weir_pool *pool,
                    weir_delta_visit_batch *visit, void *context,
                    struct weir_error *err) WEIR_MUST_CHECK;
/* The same of the columns at these positions of the table's schema, in that order; the others are
 * not read. NULL: all. */
int weir_delta_scan_columns(struct weir_delta_snapshot *snapshot, const int32_t *positions,
                            int32_t count, struct weir_pool *pool, weir_delta_visit_batch *visit,
                            void *context, struct weir_error *err) WEIR_MUST_CHECK;

/* Receives text piece by piece. */
typedef int weir_delta_write_text(void *context, const char *text, size_t length);
/* The table's rows, at most `limit` (-1: all): as NDJSON (null as null, timestamps ISO 8601 with Z
 * where they have a zone, int64 and decimals with all their digits, binary as base64, NaN and
 * infinities as strings, maps as arrays of {"key","value"}), or as an aligned text table. `columns`
 * names some ("id,amount"), which alone are read; NULL: all. */
int weir_delta_cat(struct weir_delta_snapshot *snapshot, const char *columns, int64_t limit,
                   bool json, weir_delta_write_text *write, void *context,
                   struct weir_error *err) WEIR_MUST_CHECK;

/* The same of the change data feed from version `from` to that of `to` (changes.h), all columns. */
int weir_delta_cat_changes(struct weir_delta_snapshot *to, int64_t from, int64_t limit, bool json,
                           weir_delta_write_text *write, void *context,
                           struct weir_error *err) WEIR_MUST_CHECK;

/* "3", "2026-11-21", "2026-11-21T10:00:00Z", "2026-11-21 10:00:00.5" → what to open. Times without
 * a zone are UTC. */
int weir_delta_at_parse(const char *version, const char *as_of, struct weir_delta_at *out,
                        struct weir_error *err) WEIR_MUST_CHECK;

/* One row as a JSON object, without newline (the format of weir_delta_cat). */
int weir_delta_row_json(const struct weir_batch *batch, int32_t row,
                        struct weir_buffer *out) WEIR_MUST_CHECK;
/* The same of some columns. */
int weir_delta_fields_json(const struct weir_column *columns, const struct weir_field *fields,
                           int32_t count, int64_t row, struct weir_buffer *out) WEIR_MUST_CHECK;

#ifdef __cplusplus
}
#endif
