#pragma once
/* File statistics as the log wants them (Delta protocol, "Per-file Statistics"; the traps are in
 * docs/formats/delta.md). */
#include "core/buffer.h"
#include "lake/parquet/writer.h"

/* Appends the JSON text of a file's statistics: numRecords, and for the first `leaves_max` leaf
 * columns (-1: all) but those `skipped` (or NULL) minValues, maxValues and nullCount. What cannot
 * be bounded safely is left out. */
int weir_delta_stats_format(const struct weir_parquet_file_info *info, int32_t leaves_max,
                            const bool *skipped, int32_t string_chars,
                            struct weir_buffer *out) WEIR_MUST_CHECK;
/* The text of the value of a member of statistics, or of an object within (what this answered for
 * minValues): of its own, not of what is inside or behind it. NULL when there is none, or no object
 * (NULL). */
const char *delta_stats_member(const char *stats, const char *name);
/* numRecords, or -1. */
int64_t delta_stats_rows(const char *stats);
#define DELTA_STATS_COLUMNS "delta.dataSkippingStatsColumns"
/* Leaf columns of a file with these columns that the list of delta.dataSkippingStatsColumns leaves
 * out; the caller frees. NULL without memory. */
bool *delta_stats_skipped(const char *list, const struct weir_schema *schema, const bool *excluded);
/* That list where the column `from` is called `to`, or, with NULL, is gone; appended to `out`. */
int delta_stats_columns_rename(const char *list, const char *from, const char *to,
                               struct weir_buffer *out) WEIR_MUST_CHECK;
