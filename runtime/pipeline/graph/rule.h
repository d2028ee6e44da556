#pragma once
/* rule.c: a stream whose rows go through a function with keyed state and timers. */
#include "pipeline/graph/node.h"

struct rule;

int rule_init(struct weir_node *node, struct weir_error *err) WEIR_MUST_CHECK;
void rule_fini(struct weir_node *node);
int rule_process(struct weir_node *node, const struct weir_flow *flow,
                 struct weir_error *err) WEIR_MUST_CHECK;
/* The same, or it waits behind what the rule waits for. */
int rule_come(struct weir_node *node, const struct weir_flow *flow,
              struct weir_error *err) WEIR_MUST_CHECK;
/* rule_disk.c: keys on disk. Looks whether those it waits for are in. */
int rule_bring(struct weir_node *node, struct weir_error *err) WEIR_MUST_CHECK;
bool rule_may_wait(const struct weir_node *node);
int rule_make_room(struct weir_node *node, bool *crowded, struct weir_error *err) WEIR_MUST_CHECK;
/* Its watermark moved. Rows and timers it reaches are run by rule_fire, slice by slice. */
int rule_advance(struct weir_node *node, int64_t watermark_us,
                 struct weir_error *err) WEIR_MUST_CHECK;
/* The clock moved. */
void rule_tick(struct weir_node *node);
int rule_fire(struct weir_node *node, struct weir_error *err) WEIR_MUST_CHECK;
struct weir_show;
int32_t rule_shows(struct weir_node *node, struct weir_show *shows, int32_t capacity);
/* Hot reload: what `old` remembers. */
int rule_take_over(struct weir_node *node, struct weir_node *old,
                   struct weir_error *err) WEIR_MUST_CHECK;
/* Hot reload: `node`, of a graph that is for nothing else, migrates some keys of `old` and forgets
 * them again. The error is what its functions threw. */
int rule_try(struct weir_node *node, struct weir_node *old, struct weir_cell_cursor *cursor,
             bool *done, struct weir_error *err) WEIR_MUST_CHECK;
struct weir_rule_state *rule_state(const struct weir_node *node);
