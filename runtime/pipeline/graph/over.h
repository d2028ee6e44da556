#pragma once
/* over.c: measures of a model over the last while. */
#include "pipeline/graph/node.h"

/* Makes node->over where a measure is over a while. by: columns of the input. */
int over_init(struct weir_node *node, const int32_t *by, struct weir_error *err) WEIR_MUST_CHECK;
void over_fini(struct weir_node *node);
/* Keeps the rows, node->inputs, orders and masks (by position) being ready; those too late for all
 * measures leave sel for late_sel, and masks say of the others where they count. */
int over_take(struct weir_node *node, const struct weir_batch *batch, int32_t *sel, int32_t *count,
              const int64_t *times, const int64_t *wm_before, int32_t *late_sel, int32_t *late,
              struct weir_error *err) WEIR_MUST_CHECK;
/* The watermark moves; before node->last_watermark does. */
void over_advance(struct weir_node *node, int64_t watermark_us);
/* For the record, as the node's watermark: up to where rows were taken back, which the end of
 * everything does not move. */
int64_t over_reached(const struct weir_node *node);
/* Rows are to be taken back: by over_fire, some of them at a time, whose changes leave next. */
bool over_ready(const struct weir_node *node);
int over_fire(struct weir_node *node, struct weir_error *err) WEIR_MUST_CHECK;
int32_t over_shows(struct weir_node *node, struct weir_show *shows, int32_t capacity);
int32_t over_cells(struct weir_node *node, struct weir_cell **cells, int32_t capacity);
int over_restore(struct weir_node *node, struct weir_error *err) WEIR_MUST_CHECK;
void over_take_state(struct weir_node *node, struct weir_node *from);
