#pragma once
/* Changes of groups that wait for an interval to be over (`emit = every "1s"`): of each group
 * touched since readers were told last, its value as they know it. Unlike changes.h this outlives
 * batches and epochs, so it is a table of its own, by the groups' keys. Its image: i64 time of the
 * last row that changed the group, i64 clock when the first did, and the value as the groups' table
 * images it. */
#include "operator/aggregate/aggregate_private.h"

enum {
    WEIR_DELAYED_HEAD = 16
}; /* of an image: when its event time and the clock were; the value follows */

struct weir_delayed;

struct weir_delayed *weir_delayed_create(struct weir_aggregate *aggregate,
                                         const struct weir_aggregate_config *config,
                                         struct weir_error *err);
void weir_delayed_destroy(struct weir_delayed *delayed);
struct weir_cell *weir_delayed_cell(struct weir_delayed *delayed);
size_t weir_delayed_bytes(const struct weir_delayed *delayed);
/* After all images were applied. */
void weir_delayed_restore(struct weir_delayed *delayed);
/* A change of the group waits. */
bool weir_delayed_holds(const struct weir_aggregate *aggregate, const struct weir_slot *slot);
/* Groups whose changes wait and that are on disk are brought in; blocking, for starts. */
int weir_delayed_bring(struct weir_aggregate *aggregate, struct weir_error *err) WEIR_MUST_CHECK;
/* The slot is about to change; see weir_changes_note. */
int weir_delayed_note(struct weir_aggregate *aggregate, struct weir_slot *slot, int64_t time_us,
                      struct weir_error *err) WEIR_MUST_CHECK;
/* What waits leaves: see weir_aggregate_changes. */
int weir_delayed_leave(struct weir_aggregate *aggregate, struct weir_batch_builder *out,
                       int32_t max_rows, int64_t *times_us, bool *done,
                       struct weir_error *err) WEIR_MUST_CHECK;
/* Something waits, and a new interval began since the first of it came. */
bool weir_delayed_due(const struct weir_delayed *delayed, int64_t every_us, int64_t clock_us);
bool weir_delayed_any(const struct weir_delayed *delayed);
