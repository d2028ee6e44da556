/* The rows of a rule that are run next: of the batch at hand and of those that waited, in order. A
 * chunk of a rule with keys on disk is large, so that many are fetched together. */
#include "pipeline/graph/rule_parts.h"

bool rule_row_waits(const struct weir_node *node) {
    int64_t time_us;
    return weir_rule_state_first_time(node->rule->state, &time_us) &&
           time_us < node->last_watermark;
}

static bool parked_is_next(const struct rule *rule, const struct weir_rule_parked *row) {
    if (rule->held_at == rule->held_count) {
        return true;
    }
    const struct held_row *held = &rule->held[rule->held_at];
    return row->time_us != held->time_us ? row->time_us < held->time_us
                                         : row->arrival < held->arrival;
}

static void add_held(struct rule *rule) {
    const struct held_row *held = &rule->held[rule->held_at];
    const struct weir_keys *keys = &rule->held_keys;
    rule->of_held[rule->item_count] = true;
    rule->items[rule->item_count++] = (struct weir_rule_item){
        .in = rule->held_in,
        .row = held->row,
        .time_us = held->time_us,
        .gate_us = held->gate_us,
        .key = keys->bytes + keys->offsets[rule->held_at],
        .key_bytes = keys->offsets[rule->held_at + 1] - keys->offsets[rule->held_at],
    };
    rule->held_at++;
}

static int add_parked(struct weir_node *node, const struct weir_rule_parked *row,
                      struct weir_error *err) {
    struct rule *rule = node->rule;
    int rc = rule->builder.batch == NULL ? weir_batch_builder_begin_rows(&rule->builder, CHUNK_ROWS)
                                         : WEIR_OK;
    rc = rc == WEIR_OK ? weir_key_decode(rule->whole, row->bytes, row->size, rule->builder.columns)
                       : rc;
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: a row that waited cannot be read back", node->name);
    }
    rule->of_held[rule->item_count] = false;
    rule->items[rule->item_count++] = (struct weir_rule_item){
        .in = rule->waited_in,
        .row = rule->builder.rows,
        .time_us = row->time_us,
        .gate_us = row->time_us,
    };
    weir_batch_builder_finish_row(&rule->builder);
    return weir_rule_state_drop_first(rule->state);
}

/* Rows that waited are a batch of their own. */
static int view_waited(struct weir_node *node, struct weir_error *err) {
    struct rule *rule = node->rule;
    rule->waited = weir_batch_builder_take(&rule->builder);
    if (rule->waited == NULL) {
        return WEIR_OK;
    }
    int rc = node_view(node, rule->waited, rule->waited, err);
    rc = rc == WEIR_OK ? weir_key_encode(rule->key, rule->waited, NULL, rule->waited->rows, 0,
                                         &rule->waited_keys)
                       : rc;
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: the memory cap is reached", node->name);
    }
    memcpy(rule->waited_in, node->in, (size_t)node->input->count * sizeof(*rule->waited_in));
    const struct weir_keys *keys = &rule->waited_keys;
    for (int32_t i = 0; i < rule->item_count; i++) {
        struct weir_rule_item *item = &rule->items[i];
        if (!rule->of_held[i]) {
            item->key = keys->bytes + keys->offsets[item->row];
            item->key_bytes = keys->offsets[item->row + 1] - keys->offsets[item->row];
        }
    }
    return WEIR_OK;
}

int rule_make_chunk(struct weir_node *node, struct weir_error *err) {
    struct rule *rule = node->rule;
    int rc = WEIR_OK;
    weir_batch_unref(rule->waited);
    rule->waited = NULL;
    rule->item_count = rule->item_at = rule->block_end = 0;
    int32_t most = weir_rule_state_uses_disk(rule->state) ? CHUNK_ROWS : BLOCK_ROWS;
    while (rc == WEIR_OK && rule->item_count < most) {
        struct weir_rule_parked row;
        bool parked = weir_rule_state_first(rule->state, &row) &&
                      row.time_us < node->last_watermark && parked_is_next(rule, &row);
        if (!parked && rule->held_at == rule->held_count) {
            break;
        }
        if (parked) {
            rc = add_parked(node, &row, err);
        } else {
            add_held(rule);
        }
    }
    rule->last = rule->held_at == rule->held_count && !rule_row_waits(node);
    rc = rc == WEIR_OK && rule->builder.batch != NULL ? view_waited(node, err) : rc;
    return rc == WEIR_OK ? rule_need(node, err) : rc;
}
