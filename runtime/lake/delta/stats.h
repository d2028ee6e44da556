#pragma once
/* File statistics as the log wants them (Delta protocol, "Per-file Statistics"; the traps are in
 * docs/formats/delta.md). */
#include "core/buffer.h"
#include "lake/parquet/writer.h"

/* Appends the JSON text of a file's statistics: numRecords, and for the first `leaves_max` leaf
 * columns (-1: all) minValues, maxValues and nullCount. What cannot be bounded safely is left
 * out. */
int weir_delta_stats_format(const struct weir_parquet_file_info *info, int32_t leaves_max,
                            int32_t string_chars, struct weir_buffer *out) WEIR_MUST_CHECK;
