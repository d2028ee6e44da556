#pragma once
/* The half of the Delta sink that merges. An effect is the epoch's net change set: one line of JSON
 * that says how to merge (so that it can be applied after the rules have changed), then the
 * changes, the last of every key and those that have what it leaves out, as a Parquet file:
 *   {"merge":1,"key":["sku"],"time":"updated_at","change":"_change","unavailable":"_unavailable",
 *    "truncate":true,"partitions":[…]}\n  PAR1 …
 * With "truncate" every row the table has goes before the changes come.
 * What it does to the table's files is derived when it is applied, from the table as it is then. */
#include "lake/delta/writer.h"
#include "lake/merge/merge.h"
#include "sink/sink.h"

#define SINK_CHANGE_COLUMN "_change"
#define SINK_UNAVAILABLE_COLUMN "_unavailable"

struct delta_changes;

/* Rows of one sink, gathered until the seal. Keys, time and schema are those of the config, which
 * stays; partitions are borrowed. */
int delta_changes_create(const struct weir_sink_config *config,
                         const struct weir_delta_partition *partitions, struct delta_changes **out,
                         struct weir_error *err) WEIR_MUST_CHECK;
void delta_changes_destroy(struct delta_changes *changes);
int delta_changes_write(struct delta_changes *changes, struct weir_batch *batch, const int32_t *sel,
                        int32_t count, struct weir_error *err) WEIR_MUST_CHECK;
size_t delta_changes_bytes(const struct delta_changes *changes);
/* Appends the effect; nothing when nothing was written. */
int delta_changes_seal(struct delta_changes *changes, struct weir_buffer *effect,
                       struct weir_error *err) WEIR_MUST_CHECK;

/* Without keys: rows to be appended, {"rows":1,"partitions":[…]}\n PAR1 …, few enough to lie in the
 * record; the files are made when they are applied, of several records together. */
bool delta_rows_is_effect(const void *effect, size_t size);
int delta_rows_files(struct weir_delta_table *table, const struct weir_sink_record *records,
                     int32_t count, struct weir_delta_adds *adds,
                     struct weir_error *err) WEIR_MUST_CHECK;
/* What was written since the last seal goes to a writer instead. */
int delta_changes_move(struct delta_changes *changes, struct weir_delta_writer *to,
                       struct weir_error *err) WEIR_MUST_CHECK;

/* Columns of merged rows that say what became of them are none of the table's. */
bool delta_changes_is_note(const struct weir_field *field);
bool delta_changes_is_effect(const void *effect, size_t size);
int delta_changes_apply(struct weir_delta_table *table, const void *effect, size_t size,
                        const struct weir_delta_commit_options *commit,
                        struct weir_delta_merge_result *result,
                        struct weir_error *err) WEIR_MUST_CHECK;
