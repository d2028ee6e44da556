/* State that need not all fit memory. What comes to a model waits, like rows for an answer from
 * outside (held.c), until the keys of its rows are in. */
#include "operator/rule/rule_state.h"
#include "pipeline/graph/node.h"
#include "pipeline/graph/rule.h"
#include "state/table.h"

bool model_may_wait(const struct weir_node *node) {
    return node->aggregate != NULL && weir_aggregate_may_wait(node->aggregate);
}

int model_need(struct weir_node *node, const struct weir_flow *flow, struct weir_error *err) {
    const int64_t *times = flow->times_us;
    if (node->watermark != NULL && !node->model->unwindowed) { /* what is no time is told later */
        bool read = weir_time_read(&flow->batch->columns[node->time_column], flow->batch->rows,
                                   node->times, node->flags) == WEIR_OK;
        times = read ? node->times : NULL;
    }
    return weir_aggregate_need(node->aggregate, flow->batch, flow->sel, flow->count, times,
                               &node->waits, err);
}

int model_bring(struct weir_node *node, struct weir_error *err) {
    bool done;
    int rc = node->waits ? weir_aggregate_bring(node->aggregate, &done, err) : WEIR_OK;
    node->waits = node->waits && !(rc == WEIR_OK && done);
    return rc;
}

int weir_graph_make_room(struct weir_graph *graph, bool *crowded, struct weir_error *err) {
    int rc = WEIR_OK;
    *crowded = false;
    if (weir_graph_holds(graph)) { /* keys that were looked for must stay where they are */
        return WEIR_OK;
    }
    for (int32_t i = 0; rc == WEIR_OK && i < graph->node_count; i++) {
        struct weir_node *node = graph->nodes[i];
        bool this_one = false;
        /* What leaves yet is known by where its group lies. */
        if (node->model != NULL && model_may_wait(node) && !node->unsaid) {
            rc = weir_aggregate_make_room(node->aggregate, &this_one, err);
        } else if (rule_may_wait(node)) {
            rc = rule_make_room(node, &this_one, err);
        } else if (node->join_count > 0) {
            rc = join_make_room(node, &this_one, err);
        }
        *crowded |= this_one;
    }
    return rc;
}

bool weir_graph_on_disk(struct weir_graph *graph, int32_t index, const char **name,
                        struct weir_table_disk_figures *out) {
    for (int32_t i = 0; i < graph->node_count; i++) {
        const struct weir_node *node = graph->nodes[i];
        bool model = node->model != NULL && model_may_wait(node);
        if ((model || rule_may_wait(node)) && index-- == 0) {
            *name = node->name;
            *out = model ? weir_aggregate_disk_figures(node->aggregate)
                         : weir_rule_state_disk_figures(rule_state(node));
            return true;
        }
        if (join_on_disk(node, &index, name, out)) {
            return true;
        }
    }
    return false;
}
