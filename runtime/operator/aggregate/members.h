#pragma once
/* Members of the sets inside an aggregate's slots: the values of exact distinct, as slots of a
 * table of their own, so that an epoch logs only new ones. A member's key is its owner's sequence,
 * the measure's number, the value; owners hold their members as a list through the slots' links. */
#include "operator/aggregate/aggregate_private.h"

enum { MEMBER_BYTES = 8 + 2 }; /* owner's sequence and measure, before the value in a key */

/* Adds rows[from..to) to measure m, or takes them back. */
int weir_members_add(struct weir_aggregate *aggregate, int32_t m, int32_t from, int32_t to,
                     const struct weir_column *input, const uint8_t *mask, bool take_back,
                     struct weir_error *err) WEIR_MUST_CHECK;
/* The members of from's sets become into's; from's stay until it is deleted. */
int weir_members_move(struct weir_aggregate *aggregate, struct weir_slot *into,
                      struct weir_slot *from, struct weir_error *err) WEIR_MUST_CHECK;
/* The slot's members wait for weir_members_reap. */
int weir_members_bury(struct weir_aggregate *aggregate, const uint8_t *value,
                      struct weir_error *err) WEIR_MUST_CHECK;
/* Frees some members of slots that are gone; silently, for the owner's tombstone says it all. */
int weir_members_reap(struct weir_aggregate *aggregate, struct weir_error *err) WEIR_MUST_CHECK;
/* Gives a member back to its owner; one without an owner (it was emitted) is dropped. */
int weir_members_restore(struct weir_aggregate *aggregate, struct weir_slot *member,
                         const struct weir_ordered_slot *owners, size_t owner_count,
                         struct weir_error *err) WEIR_MUST_CHECK;
/* After all were: owners have as many as they count. */
int weir_members_check(struct weir_aggregate *aggregate, const struct weir_ordered_slot *owners,
                       size_t owner_count, struct weir_error *err) WEIR_MUST_CHECK;
