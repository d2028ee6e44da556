#pragma once
/* What rows owe to a table that others made, beyond their columns' types: check constraints and
 * invariants hold, generated columns have their expression's value, columns that are left out get
 * their default. For one schema of rows; made again when it changes.
 *
 * Threads: one at a time; made from a snapshot, which is only read while making. */
#include "batch/batch.h"
#include "lake/delta/snapshot.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weir_delta_duties;

/* *out is NULL where rows of this schema owe nothing. WEIR_E_UNSUPPORTED names the constraint or
 * column whose expression is outside the subset, or an identity column. */
int weir_delta_duties_create(struct weir_delta_snapshot *snapshot, struct weir_schema *schema,
                             struct weir_delta_duties **out,
                             struct weir_error *err) WEIR_MUST_CHECK;
void weir_delta_duties_destroy(struct weir_delta_duties *duties);

/* The rows' columns, then those the table fills in. Borrowed. */
struct weir_schema *weir_delta_duties_schema(struct weir_delta_duties *duties);
/* What a row may fail: "positive" (a constraint's name), "invariant of id", "generated column day".
 * Borrowed. */
int32_t weir_delta_duties_count(const struct weir_delta_duties *duties);
const char *weir_delta_duties_name(const struct weir_delta_duties *duties, int32_t check);

/* verdict[i] of row sel[i] (NULL: row i): 0, or 1 + the check it fails first. */
int weir_delta_duties_judge(struct weir_delta_duties *duties, struct weir_batch *batch,
                            const int32_t *sel, int32_t count, uint8_t *verdict,
                            struct weir_error *err) WEIR_MUST_CHECK;
/* The same rows with the columns that were left out, as a new batch. WEIR_E_DATA for a row without
 * a value (judge says so before). */
int weir_delta_duties_complete(struct weir_delta_duties *duties, struct weir_batch *batch,
                               const int32_t *sel, int32_t count, struct weir_batch **out,
                               struct weir_error *err) WEIR_MUST_CHECK;

/* The table's constraints, invariants and generated columns as one text, to see them change. The
 * caller frees; NULL without memory. */
char *weir_delta_duties_text(const struct weir_delta_metadata *metadata);
/* The table fills this column in where rows lack it: it is generated or has a default. */
bool weir_delta_fills(const struct weir_delta_metadata *metadata, const char *column);

#ifdef __cplusplus
}
#endif
