/* Rules whose keys need not all fit memory. While those of a chunk, or of a timer, are fetched, the
 * rule waits where it is, and what comes to it waits behind, in order (held.c). */
#include "pipeline/graph/rule_parts.h"
#include "state/table.h"

static void wait_for_keys(struct weir_node *node, bool waits) {
    node->graph->held += waits - node->waits;
    node->waits = waits;
}

int rule_need(struct weir_node *node, struct weir_error *err) {
    const struct rule *rule = node->rule;
    bool waits;
    int rc = weir_rule_state_need(rule->state, rule->items, rule->item_count, &waits, err);
    wait_for_keys(node, rc == WEIR_OK && waits);
    return rc;
}

void rule_wait(struct weir_node *node) {
    wait_for_keys(node, true);
}

int rule_come(struct weir_node *node, const struct weir_flow *flow, struct weir_error *err) {
    int rc = WEIR_OK;
    if (node->rule->plan->by_arrival && node->rule->held_count > 0) { /* of the same batch */
        rc = rule_run_all(node, err);
    }
    return rc != WEIR_OK                       ? rc
           : node->waits || node->held != NULL ? held_add(node, flow, err)
                                               : rule_process(node, flow, err);
}

int rule_run_all(struct weir_node *node, struct weir_error *err) {
    int rc = WEIR_OK;
    while (rc == WEIR_OK && node->firing && !node->waits) {
        rc = rule_fire(node, err);
    }
    return rc;
}

int rule_bring(struct weir_node *node, struct weir_error *err) {
    bool done = true;
    int rc = node->waits ? weir_rule_state_bring(node->rule->state, &done, err) : WEIR_OK;
    wait_for_keys(node, node->waits && !(rc == WEIR_OK && done));
    /* What waits behind is let through when nothing is half done. */
    return rc == WEIR_OK && node->held != NULL ? rule_run_all(node, err) : rc;
}

bool rule_may_wait(const struct weir_node *node) {
    return node->rule != NULL && weir_rule_state_may_wait(node->rule->state);
}

int rule_make_room(struct weir_node *node, bool *crowded, struct weir_error *err) {
    const struct rule *rule = node->rule;
    *crowded = false;
    return rule->item_at < rule->item_count /* their keys stay until they were run */
               ? WEIR_OK
               : weir_rule_state_make_room(rule->state, crowded, err);
}
