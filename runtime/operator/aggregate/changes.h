#pragma once
/* What a batch did to the groups of an aggregate whose rows change: of each group touched, its
 * value as it was before. They leave as a changelog once the batch is fed (batch/change.h): +I for
 * a group that is new, −U and +U for one whose measures changed, −D for one no row is left of. How
 * many updates a group shows depends on where batches end; what they add up to does not. Nothing
 * here outlives the batch, so nothing is persisted. */
#include "operator/aggregate/aggregate_private.h"

struct weir_changes;

struct weir_changes *weir_changes_create(void);
void weir_changes_destroy(struct weir_changes *changes);
size_t weir_changes_bytes(const struct weir_changes *changes);
/* A batch begins: what the last one did has left. */
void weir_changes_begin(struct weir_aggregate *aggregate);
/* The slot is about to change; a row of this time does it. WEIR_E_NOMEM. */
int weir_changes_note(struct weir_aggregate *aggregate, struct weir_slot *slot, int64_t time_us,
                      struct weir_error *err) WEIR_MUST_CHECK;
/* The rows of one change, from `before` to what the slot holds; a full builder leaves none of them.
 * A group no row is left of goes. */
int weir_changes_leave(struct weir_aggregate *aggregate, struct weir_slot *slot,
                       const uint8_t *before, int64_t time_us, int64_t *times_us,
                       struct weir_batch_builder *out, struct weir_error *err) WEIR_MUST_CHECK;
/* The same of a session, which is known by where it starts, and that moves: to be called twice, for
 * all that changed with `first`, when what is there no more leaves, then without, when the rest
 * does. A session joined to another goes the second time. */
int weir_changes_leave_session(struct weir_aggregate *aggregate, struct weir_slot *slot,
                               const uint8_t *before, bool first, int64_t time_us,
                               int64_t *times_us, struct weir_batch_builder *out,
                               struct weir_error *err) WEIR_MUST_CHECK;
