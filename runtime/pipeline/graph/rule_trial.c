/* A rule's state when its rules change while it runs. */
#include "operator/show.h"
#include "pipeline/graph/rule_parts.h"

enum { TRY_KEYS = 64 };

int rule_take_over(struct weir_node *node, struct weir_node *old, struct weir_error *err) {
    return weir_rule_state_take(node->rule->state, &old->rule->state, err);
}

/* Which key it was, for people. */
static int failed(struct weir_node *node, const struct weir_rule_item *item, const char *why,
                  struct weir_error *err) {
    struct weir_shown shown;
    weir_shown_init(&shown, node->graph->pool);
    struct weir_error none = {0};
    int rc = weir_shown_key(&shown, node->rule->key, item->key, item->key_bytes, &shown.key, &none);
    const char *key = rc == WEIR_OK ? weir_buffer_text(&shown.key) : NULL;
    weir_error_set(err, WEIR_E_STATE, "%s: state of %.300s does not migrate: %s", node->name,
                   key != NULL ? key : "a key", why);
    weir_shown_fini(&shown);
    return WEIR_E_STATE;
}

int rule_try(struct weir_node *node, struct weir_node *old, struct weir_cell_cursor *cursor,
             bool *done, struct weir_error *err) {
    struct rule *rule = node->rule;
    struct weir_rule_item items[TRY_KEYS];
    struct weir_error thrown = {0};
    enum weir_rule_end end;
    int32_t count;
    int rc =
        weir_rule_state_borrow(rule->state, old->rule->state, cursor, items, TRY_KEYS, &count, err);
    *done = rc == WEIR_OK && count == 0;
    if (rc != WEIR_OK || *done) {
        return rc;
    }
    struct weir_rule_span span = {
        .items = items,
        .count = count,
        .gate_us = INT64_MIN,
        .clock_us = INT64_MIN,
        .event_us = node->graph->clock_us,
        .only_migrate = true,
        .stop_at = -1,
        .most = TRY_KEYS + 1,
        .targets = rule->run_targets,
        .target_count = rule->plan->emit_count,
    };
    rc = rule_begin_targets(node, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    weir_rule_run_begin(rule->state, &span, 0);
    struct weir_call call = {.in = node->in, .end = TRY_KEYS + 1};
    call.rule = weir_rule_state_run(rule->state);
    rc = weir_rule_set_call(node->graph->rule_set, rule->plan->function, &call, &thrown);
    if (rc != WEIR_OK) {
        int32_t item = weir_rule_run_undo(rule->state);
        return weir_rule_run_failed(rule->state, err) != WEIR_OK
                   ? err->code
                   : failed(node, &items[item < 0 ? 0 : item], thrown.message, err);
    }
    rc = weir_rule_run_end(rule->state, &end, err);
    return rc == WEIR_OK ? weir_rule_state_give_back(rule->state, err) : rc;
}
