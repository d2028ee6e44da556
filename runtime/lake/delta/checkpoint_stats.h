#pragma once
/* Statistics and partition values of files as typed structs of a checkpoint: `stats_parsed` and
 * `partitionValues_parsed` (Delta protocol, "Checkpoint Schema"), which a table asks for by
 * delta.checkpoint.writeStatsAsStruct. A snapshot holds statistics as JSON, so that what a
 * checkpoint has as a struct alone is made JSON when it is read. */
#include "batch/builder.h"
#include "lake/delta/parquet_file.h"
#include "lake/delta/state.h"

/* The columns of an add action the table wants besides those there always are. */
struct delta_parsed {
    bool as_struct;
    bool without_json; /* delta.checkpoint.writeStatsAsJson = false */
    bool has_partitions;
};
void delta_parsed_init(struct delta_parsed *parsed, const struct weir_delta_metadata *metadata);
/* Adds them to `add`, a field with children: stats_parsed, then partitionValues_parsed. Bounds of
 * decimals of more than 15 digits, which JSON may not hold exactly, are left out. */
int delta_parsed_fields(struct weir_delta_snapshot *snapshot, const struct delta_parsed *parsed,
                        struct weir_field *add, struct weir_error *err) WEIR_MUST_CHECK;
/* One row of stats_parsed; `stats` NULL, or unreadable: null. */
int delta_parsed_put_stats(struct weir_column_builder *column, const struct weir_field *field,
                           const char *stats) WEIR_MUST_CHECK;
int delta_parsed_put_partitions(struct weir_column_builder *column, const struct weir_field *field,
                                const struct weir_delta_add *add) WEIR_MUST_CHECK;
/* The JSON text of a row of stats_parsed. */
int delta_parsed_stats_text(struct delta_view view, int64_t row,
                            struct weir_buffer *out) WEIR_MUST_CHECK;
