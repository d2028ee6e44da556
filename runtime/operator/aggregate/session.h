#pragma once
/* Session windows of an aggregate: rows of a key no further apart than the gap are one window,
 * [first, last + gap). A row that lies within the gap of two sessions joins them. Lateness is
 * judged on the merged window: a row may join any session that is open, and is late when it would
 * make one of its own that is closed. What is open is a matter of the row's own watermark, not of
 * what was fired.
 *
 * A session is a slot: key (time of the row that made it, by columns), value measures, then first
 * and last. "group" holds the keys with open sessions; a group's `link` is its latest session's
 * slot, a session's `link` the next of its group. Sessions leave by (end, creation sequence). */
#include "operator/aggregate/aggregate_private.h"

struct weir_sessions;

struct weir_sessions *weir_sessions_create(struct weir_aggregate *aggregate,
                                           const struct weir_aggregate_config *config,
                                           struct weir_error *err);
void weir_sessions_destroy(struct weir_sessions *sessions);
int weir_sessions_feed(struct weir_aggregate *aggregate, const struct weir_feed *feed,
                       int32_t *late_sel, int32_t *late_count,
                       struct weir_error *err) WEIR_MUST_CHECK;
bool weir_sessions_ready(const struct weir_aggregate *aggregate, int64_t watermark_us);
int weir_sessions_fire(struct weir_aggregate *aggregate, int64_t watermark_us,
                       struct weir_batch_builder *out, int32_t max_rows, enum weir_fired *fired,
                       struct weir_error *err) WEIR_MUST_CHECK;
struct weir_cell *weir_sessions_cell(struct weir_sessions *sessions);
/* NULL: it has none, for no row is taken back. */
struct weir_cell *weir_sessions_moments(struct weir_sessions *sessions);
/* All slots are there: chains and the order of closing are made from them. */
int weir_sessions_restore(struct weir_aggregate *aggregate, const struct weir_ordered_slot *slots,
                          size_t count, struct weir_error *err) WEIR_MUST_CHECK;
/* Of the session with this value. */
void weir_sessions_bounds(const struct weir_aggregate *aggregate, const uint8_t *value,
                          int64_t *start_us, int64_t *end_us);
size_t weir_sessions_bytes(const struct weir_sessions *sessions);
