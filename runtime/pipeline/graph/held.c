/* Rows that wait for answers from outside, or for keys on disk. A stream with an asynchronous
 * lookup holds what comes to it, rows and the advance of time alike, in order, until all that was
 * asked is answered. The loop takes no other batch meanwhile and ends no epoch: so nothing of it
 * has to outlive a crash, and what waits is bounded by what one batch makes. */
#include <stdlib.h>
#include <string.h>

#include "pipeline/graph/node.h"
#include "pipeline/graph/rule.h"

struct held {
    struct held *next;
    bool advance; /* no rows: the watermark alone */
    bool begun;   /* what it needs was asked for */
    struct weir_flow flow;
    char partition[256];
    int32_t sel[ROWS_MAX];
    int64_t times[ROWS_MAX];
    int64_t before[ROWS_MAX];
};

static void held_free(struct held *held) {
    weir_batch_unref(held->flow.batch);
    weir_batch_unref(held->flow.origin);
    free(held);
}

static int add(struct weir_node *node, const struct weir_flow *flow, bool advance, bool begun,
               struct weir_error *err) {
    struct held *held = calloc(1, sizeof(*held));
    if (held == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", node->name);
    }
    held->flow = *flow;
    held->advance = advance;
    held->begun = begun;
    if (!advance) {
        weir_batch_ref(flow->batch);
        if (flow->origin != NULL) {
            weir_batch_ref(flow->origin);
        }
        memcpy(held->sel, flow->sel, (size_t)flow->count * sizeof(*held->sel));
        held->flow.sel = held->sel;
        size_t bytes = (size_t)flow->batch->rows * sizeof(int64_t);
        if (flow->times_us != NULL) {
            memcpy(held->times, flow->times_us, bytes);
            held->flow.times_us = held->times;
        }
        if (flow->watermark_before_us != NULL) {
            memcpy(held->before, flow->watermark_before_us, bytes);
            held->flow.watermark_before_us = held->before;
        }
        if (flow->partition != NULL) {
            snprintf(held->partition, sizeof(held->partition), "%s", flow->partition);
            held->flow.partition = held->partition;
        }
    }
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
    return add(node, flow, false, true, err);
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
    return add(node, flow, false, begins, err);
}

int held_advance(struct weir_node *node, int64_t watermark_us, struct weir_error *err) {
    struct weir_flow flow = {.watermark_us = watermark_us};
    return add(node, &flow, true, true, err);
}

void held_fini(struct weir_node *node) {
    while (node->held != NULL) {
        struct held *next = node->held->next;
        held_free(node->held);
        node->held = next;
    }
}

static int pass_on(struct weir_node *node, const struct held *held, struct weir_error *err) {
    if (node->model != NULL) {
        return held->advance ? model_advance(node, held->flow.watermark_us, err)
                             : model_process(node, &held->flow, err);
    }
    if (node->rule != NULL) {
        return held->advance ? rule_advance(node, held->flow.watermark_us, err)
                             : rule_process(node, &held->flow, err);
    }
    return held->advance ? node_advance(node, held->flow.watermark_us, err)
                         : stream_go_on(node, &held->flow, err);
}

static int go_on(struct weir_node *node, struct weir_error *err) {
    int rc = node->model != NULL  ? model_bring(node, err)
             : node->rule != NULL ? rule_bring(node, err)
                                  : lookup_take(node, err);
    while (rc == WEIR_OK && node->held != NULL && !waits(node)) {
        struct held *held = node->held;
        if (node->model != NULL && !held->begun) {
            held->begun = true;
            rc = model_need(node, &held->flow, err);
            continue;
        }
        node->held = held->next;
        node->graph->held--;
        rc = pass_on(node, held, err);
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
        rc = rc == WEIR_OK ? waiting_go_on(node, err) : rc;
    }
    return rc;
}

bool weir_graph_holds(const struct weir_graph *graph) {
    return graph->held > 0 || graph->awaits != NULL;
}
