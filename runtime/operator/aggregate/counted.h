#pragma once
/* Windows of so many rows of a key, as they arrive: [time of the earliest row, that of the latest +
 * 1 us). They close by their last row, not by time: no row is late, and only the end of a bounded
 * input closes those that are not full.
 *
 * A window is a slot: key (0 while it fills, its place among the full ones after that; by columns),
 * value measures, then how many rows it has and the bounds of their times. Full ones leave in the
 * order in which they filled; at the end the others follow in that of their first rows. */
#include "operator/aggregate/aggregate_private.h"

struct weir_counted;

struct weir_counted *weir_counted_create(int64_t rows);
void weir_counted_destroy(struct weir_counted *counted);
int weir_counted_feed(struct weir_aggregate *aggregate, const struct weir_feed *feed,
                      struct weir_error *err) WEIR_MUST_CHECK;
bool weir_counted_ready(const struct weir_aggregate *aggregate, int64_t watermark_us);
int weir_counted_fire(struct weir_aggregate *aggregate, int64_t watermark_us,
                      struct weir_batch_builder *out, int32_t max_rows, enum weir_fired *fired,
                      struct weir_error *err) WEIR_MUST_CHECK;
/* All slots are there. */
int weir_counted_restore(struct weir_aggregate *aggregate, const struct weir_ordered_slot *slots,
                         size_t count, struct weir_error *err) WEIR_MUST_CHECK;
/* Of the window with this value. */
void weir_counted_bounds(const struct weir_aggregate *aggregate, const uint8_t *value,
                         int64_t *start_us, int64_t *end_us);
size_t weir_counted_bytes(const struct weir_counted *counted);
