/* Event time in a graph: the partitions of its sources, ticks of the clock, ends, and why rows
 * wait. */
#include <stdio.h>
#include <string.h>

#include "pipeline/graph/graph.h"
#include "pipeline/graph/node.h"
#include "pipeline/graph/rule.h"

struct weir_node *graph_timed_node(struct weir_graph *graph, const char *name) {
    for (int32_t hops = 0; hops <= graph->node_count; hops++) {
        struct weir_node *node = graph_writer(graph, name);
        if (node == NULL || node->watermark != NULL) {
            return node;
        }
        name = node->from;
    }
    return NULL;
}

static int advance_timed(struct weir_node *node, struct weir_error *err) {
    int64_t now = weir_watermark_now(node->watermark);
    if (now == node->last_watermark) {
        return WEIR_OK;
    }
    if (node->model == NULL && node->join == NULL && node->rule == NULL) {
        node->last_watermark = now;
    }
    return node_reach(node, now, err);
}

/* Windows over the time rows came in close by the clock: what comes later is not older. Nothing
 * else moves by it, so that a clock alone makes no epochs. */
static bool closes_by_clock(struct weir_node *node) {
    return node->model != NULL && node->aggregate != NULL && !node->model->unwindowed &&
           strcmp(node->time->field, "_ingested_at") == 0 &&
           weir_aggregate_ready(node->aggregate,
                                node->graph->clock_us - node->time->out_of_order_us) &&
           weir_watermark_reach(node->watermark, node->graph->clock_us);
}

int weir_graph_tick(struct weir_graph *graph, bool *moved, struct weir_error *err) {
    *moved = false;
    for (int32_t i = 0; i < graph->node_count; i++) {
        struct weir_node *node = graph->nodes[i];
        if (node->rule != NULL) {
            rule_tick(node);
        } else if (node->model != NULL) {
            model_tick(node);
        }
        if (node->watermark != NULL &&
            (weir_watermark_tick(node->watermark, graph->clock_us) || closes_by_clock(node))) {
            int rc = advance_timed(node, err);
            *moved = true;
            if (rc != WEIR_OK) {
                return rc;
            }
        }
    }
    return graph_look_at_unions(graph, moved, err);
}

static bool reads_source(struct weir_graph *graph, const struct weir_node *node, int32_t source);

/* Is this dataset the source, or does it stem from it? */
static bool stems_from(struct weir_graph *graph, const char *name, int32_t source) {
    const struct weir_node *node = graph_writer(graph, name);
    return node != NULL ? reads_source(graph, node, source)
                        : strcmp(name, graph->plan->sources[source].name) == 0;
}

static const char *read_by(const struct weir_node *node, int32_t i) {
    return node->joined != NULL ? union_from(node->joined, i) : node->from;
}

static int32_t reads(const struct weir_node *node) {
    return node->joined != NULL ? union_count(node->joined) : 1;
}

/* Does this node read, directly or not, from source `source`? */
static bool reads_source(struct weir_graph *graph, const struct weir_node *node, int32_t source) {
    for (int32_t i = 0; i < reads(node); i++) {
        if (stems_from(graph, read_by(node, i), source)) {
            return true;
        }
    }
    return false;
}

bool weir_graph_looked_up(struct weir_graph *graph, int32_t source) {
    for (int32_t i = 0; i < graph->node_count; i++) {
        const struct weir_node *node = graph->nodes[i];
        int32_t keys =
            node->stream != NULL ? node->stream->lookup_key_count : node->model->lookup_key_count;
        if (keys > 0 && reads_source(graph, node, source)) {
            return true;
        }
        for (int32_t k = 0; k < node->join_count; k++) {
            const struct weir_plan_join *join = &node->stream->joins[k];
            if (strcmp(join->what, "temporal") == 0 && stems_from(graph, join->from, source)) {
                return true;
            }
        }
    }
    return false;
}

/* What is done to a partition of a source, in every time that has it. */
typedef void (*partition_act)(struct weir_node *node, int32_t index, bool flag);

static int for_partition(struct weir_graph *graph, int32_t source, const char *partition,
                         partition_act act, bool flag, struct weir_error *err) {
    char name[UNION_PARTITION_BYTES];
    for (int32_t n = 0; n < graph->node_count; n++) {
        struct weir_node *node = graph->nodes[n];
        for (int32_t i = 0; node->watermark != NULL && i < reads(node); i++) {
            if (!stems_from(graph, read_by(node, i), source)) {
                continue;
            }
            snprintf(name, sizeof(name), "%s", partition);
            int rc = WEIR_OK;
            if (node->joined != NULL) {
                union_partition(node->joined, i, partition, name);
                rc = union_wait(node, err);
            }
            int32_t index = weir_watermark_partition(node->watermark, name, graph->clock_us);
            if (rc != WEIR_OK || index < 0) {
                return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", node->name);
            }
            if (node->joined != NULL) {
                union_came(node, i);
            }
            act(node, index, flag);
        }
    }
    return WEIR_OK;
}

static void open_partition(struct weir_node *node, int32_t index, bool anew) {
    if (anew) {
        weir_watermark_renew(node->watermark, index, node->graph->clock_us);
    }
}

int weir_graph_open_partition(struct weir_graph *graph, int32_t source, const char *partition,
                              bool anew, struct weir_error *err) {
    return for_partition(graph, source, partition, open_partition, anew, err);
}

static void block_partition(struct weir_node *node, int32_t index, bool blocked) {
    weir_watermark_block(node->watermark, index, blocked, node->graph->clock_us);
}

int weir_graph_block(struct weir_graph *graph, int32_t source, const char *partition, bool blocked,
                     struct weir_error *err) {
    return for_partition(graph, source, partition, block_partition, blocked, err);
}

bool weir_graph_timed(struct weir_graph *graph, int32_t source) {
    for (int32_t n = 0; n < graph->node_count; n++) {
        const struct weir_node *node = graph->nodes[n];
        if (node->watermark != NULL && reads_source(graph, node, source)) {
            return true;
        }
    }
    return false;
}

int64_t weir_graph_time_of(struct weir_graph *graph, int32_t source, const char *partition,
                           bool *counts) {
    char name[UNION_PARTITION_BYTES];
    int64_t most = WEIR_WATERMARK_NONE;
    *counts = false;
    for (int32_t n = 0; n < graph->node_count; n++) {
        const struct weir_node *node = graph->nodes[n];
        for (int32_t i = 0; node->watermark != NULL && i < reads(node); i++) {
            if (!stems_from(graph, read_by(node, i), source)) {
                continue;
            }
            snprintf(name, sizeof(name), "%s", partition);
            if (node->joined != NULL) {
                union_partition(node->joined, i, partition, name);
            }
            int32_t index = weir_watermark_find(node->watermark, name);
            if (index >= 0 && !weir_watermark_is_idle(node->watermark, index)) {
                int64_t time = weir_watermark_of(node->watermark, index);
                *counts = true;
                most = time > most ? time : most;
            }
        }
    }
    return most;
}

void weir_graph_held(struct weir_graph *graph, int64_t held_us) {
    for (int32_t i = 0; i < graph->node_count; i++) {
        if (graph->nodes[i]->watermark != NULL) {
            weir_watermark_held(graph->nodes[i]->watermark, held_us, graph->clock_us);
        }
    }
}

bool weir_graph_idles(const struct weir_graph *graph) {
    for (int32_t i = 0; i < graph->node_count; i++) {
        if (graph->nodes[i]->watermark != NULL && graph->nodes[i]->time->idle_us > 0) {
            return true;
        }
    }
    return false;
}

static void finish_partition(struct weir_node *node, int32_t index, bool flag) {
    (void)flag;
    weir_watermark_finish(node->watermark, index);
}

int weir_graph_finish(struct weir_graph *graph, int32_t source, const char *partition,
                      struct weir_error *err) {
    int rc = for_partition(graph, source, partition, finish_partition, false, err);
    for (int32_t i = 0; i < graph->node_count && rc == WEIR_OK; i++) {
        struct weir_node *node = graph->nodes[i];
        rc = node->watermark != NULL ? advance_timed(node, err) : WEIR_OK;
    }
    bool moved = false;
    return rc == WEIR_OK ? graph_look_at_unions(graph, &moved, err) : rc;
}

int weir_graph_move_watermark(struct weir_graph *graph, const char *partition, int64_t time_us,
                              struct weir_error *err) {
    for (int32_t i = 0; i < graph->node_count; i++) {
        struct weir_node *node = graph->nodes[i];
        int64_t before;
        uint8_t flag;
        if (node->watermark == NULL) {
            continue;
        }
        int32_t number = weir_watermark_partition(node->watermark, partition, graph->clock_us);
        if (number < 0) {
            return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", node->name);
        }
        weir_watermark_feed_times(node->watermark, number, graph->clock_us, &time_us, 1, &before,
                                  &flag);
        int rc = advance_timed(node, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return WEIR_OK;
}

int weir_graph_finish_all(struct weir_graph *graph, struct weir_error *err) {
    for (int32_t i = 0; i < graph->node_count; i++) {
        struct weir_node *node = graph->nodes[i];
        if (node->watermark != NULL) {
            int rc = node_reach(node, WEIR_WATERMARK_END, err);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
        if (node->model != NULL && node->model->emit_every_us != 0) {
            model_end(node);
        }
    }
    return WEIR_OK;
}

int64_t weir_graph_watermark(const struct weir_graph *graph) {
    int64_t lowest = INT64_MAX;
    bool any = false;
    for (int32_t i = 0; i < graph->node_count; i++) {
        if (graph->nodes[i]->watermark != NULL) {
            int64_t now = weir_watermark_now(graph->nodes[i]->watermark);
            lowest = now < lowest ? now : lowest;
            any = true;
        }
    }
    return any ? lowest : WEIR_WATERMARK_NONE;
}

int weir_graph_why_waiting(struct weir_graph *graph, struct weir_buffer *out) {
    for (int32_t i = 0; i < graph->node_count; i++) {
        if (graph->nodes[i]->watermark != NULL) {
            int rc = weir_watermark_why(graph->nodes[i]->watermark, graph->clock_us, out);
            if (rc == WEIR_OK) {
                rc = weir_buffer_append_text(out, "\n");
            }
            if (rc != WEIR_OK) {
                return rc;
            }
        }
    }
    return WEIR_OK;
}
