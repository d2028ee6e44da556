#pragma once
/* What a data file owes to a table beyond its rows: the names and ids of column mapping, statistics
 * of clustering columns, values for columns that have a default. */
#include <jansson.h>

#include "lake/delta/table_state.h"

/* "name", "id", or NULL without column mapping. */
const char *delta_mapping_mode(const struct weir_delta_metadata *metadata);
/* `schema` (columns of the table, by name; others keep theirs) under the names its files have.
 * `*ids` are the columns' ids in pre-order, one for each field; NULL without mapping. The caller
 * owns both. */
int delta_mapping_schema(struct weir_delta_snapshot *snapshot, const struct weir_schema *schema,
                         struct weir_schema **physical, int32_t **ids, int32_t *id_count,
                         struct weir_error *err) WEIR_MUST_CHECK;
/* The name under which files and partition values know a column of the table; `name` itself when
 * there is no such column. Borrowed. */
const char *delta_mapping_name(struct weir_delta_snapshot *snapshot, const char *name);
/* Is the column that files call `physical`, or one inside it, one the table is clustered by? */
int delta_clusters_by(const struct weir_delta_snapshot *snapshot, const char *physical, bool *does,
                      struct weir_error *err) WEIR_MUST_CHECK;
/* How many leaf columns of a file need statistics, given how many get them anyway: up to the last
 * clustering column. `excluded` as of the Parquet writer. */
int delta_clustering_leaves(const struct weir_delta_snapshot *snapshot,
                            const struct weir_schema *physical, const bool *excluded,
                            int32_t *leaves, struct weir_error *err) WEIR_MUST_CHECK;
/* The JSON list of paths, by the names in files, that the table is clustered by; NULL where it is
 * not. The caller's reference. */
int delta_clustering_paths(const struct weir_delta_snapshot *snapshot, json_t **paths,
                           struct weir_error *err) WEIR_MUST_CHECK;
/* Gives the fields of `schema_string` that have no id one above `*max_id`, which is moved on, and a
 * name of their own. */
int delta_mapping_assign(const char *schema_string, int64_t *max_id, struct weir_buffer *out,
                         struct weir_error *err) WEIR_MUST_CHECK;

bool delta_lists_feature(char *const *features, int32_t count, const char *feature);
/* True when the protocol lists this writer feature. */
bool delta_has_writer_feature(const struct weir_delta_protocol *protocol, const char *feature);
