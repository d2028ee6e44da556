/* Rows that wait for answers from outside, or for keys on disk. A stream with an asynchronous
 * lookup holds what comes to it, rows and the advance of time alike, in order, until all that was
 * asked is answered. The loop takes no other batch meanwhile and ends no epoch: so nothing of it
 * has to outlive a crash, and what waits is bounded by what one batch makes. */
#include <stdlib.h>

#include "pipeline/graph/kept_flow.h"
#include "pipeline/graph/node.h"
#include "pipeline/graph/rule.h"

struct held {
    struct held *next;
    bool begun; /* what it needs was asked for */
    struct kept_flow kept;
};

static void held_free(struct held *held) {
    flow_let_go(&held->kept);
    free(held);
}

static int add(struct weir_node *node, const struct weir_flow *flow, bool begun,
               struct weir_error *err) {
    struct held *held = calloc(1, sizeof(*held));
    if (held == NULL || flow_keep(&held->kept, flow) != WEIR_OK) {
        free(held);
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", node->name);
    }
    held->begun = begun;
    struct held **end = &node->held;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = held;
    node->graph->held++;
    return WEIR_OK;
}

static bool waits(const struct weir_node *node) {
    return node->model != NULL || node->rule != NULL ? node->waits : lookup_waits(node);
}

int held_add(struct weir_node *node, const struct weir_flow *flow, struct weir_error *err) {
    return add(node, flow, true, err);
}

/* A stream asks for all that waits at once; a model's keys are looked for when it is their turn,
 * since what comes before may bring them. */
int held_process(struct weir_node *node, const struct weir_flow *flow, bool *now,
                 struct weir_error *err) {
    bool begins = flow->count > 0 && (node->model == NULL || node->held == NULL);
    int rc = !begins               ? WEIR_OK
             : node->model != NULL ? model_need(node, flow, err)
                                   : lookup_begin(node, flow, err);
    *now = node->held == NULL && !waits(node);
    if (rc != WEIR_OK || *now) {
        return rc;
    }
    return add(node, flow, begins, err);
}

int held_advance(struct weir_node *node, int64_t watermark_us, struct weir_error *err) {
    struct weir_flow flow = {.watermark_us = watermark_us};
    return add(node, &flow, true, err);
}

void held_fini(struct weir_node *node) {
    while (node->held != NULL) {
        struct held *next = node->held->next;
        held_free(node->held);
        node->held = next;
    }
}

static int pass_on(struct weir_node *node, const struct weir_flow *flow, struct weir_error *err) {
    bool advance = flow->batch == NULL;
    if (node->model != NULL) {
        return advance ? model_advance(node, flow->watermark_us, err)
                       : model_process(node, flow, err);
    }
    if (node->rule != NULL) {
        return advance ? rule_advance(node, flow->watermark_us, err)
                       : rule_process(node, flow, err);
    }
    return advance ? node_advance(node, flow->watermark_us, err) : stream_go_on(node, flow, err);
}

static int go_on(struct weir_node *node, struct weir_error *err) {
    int rc = node->model != NULL  ? model_bring(node, err)
             : node->rule != NULL ? rule_bring(node, err)
                                  : lookup_take(node, err);
    while (rc == WEIR_OK && node->held != NULL && !waits(node)) {
        struct held *held = node->held;
        if (node->model != NULL && !held->begun) {
            held->begun = true;
            rc = model_need(node, &held->kept.flow, err);
            continue;
        }
        node->held = held->next;
        node->graph->held--;
        rc = pass_on(node, &held->kept.flow, err);
        held_free(held);
        if (rc == WEIR_OK && node->rule != NULL) {
            rc = rule_bring(node, err); /* the next comes to one that is done */
        }
    }
    return rc;
}

int weir_graph_go_on(struct weir_graph *graph, struct weir_error *err) {
    int rc = WEIR_OK;
    if (graph->awaits != NULL && !weir_aggregate_awaits(graph->awaits->aggregate)) {
        graph->awaits = NULL;
    }
    for (int32_t i = 0; rc == WEIR_OK && graph->held > 0 && i < graph->node_count; i++) {
        struct weir_node *node = graph->nodes[i];
        bool keys = node->rule != NULL && node->waits;
        rc = node->held != NULL || keys ? go_on(node, err) : rc;
        rc = rc == WEIR_OK && join_waits(node) ? join_bring(node, err) : rc;
        rc = rc == WEIR_OK ? waiting_go_on(node, err) : rc;
    }
    return rc;
}

bool weir_graph_holds(const struct weir_graph *graph) {
    return graph->held > 0 || graph->awaits != NULL;
}
