/* Moves flows along the edges of a graph. */
#include "pipeline/graph/graph.h"

#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "lake/delta/duties.h"
#include "operator/join/join.h"
#include "pipeline/graph/command.h"
#include "pipeline/graph/rule.h"

/* --- flow ------------------------------------------------------------------------------------ */

static int model_come(struct weir_node *node, const struct weir_flow *flow,
                      struct weir_error *err) {
    bool now = true;
    int rc = model_may_wait(node) ? held_process(node, flow, &now, err) : WEIR_OK;
    return rc == WEIR_OK && now ? model_process(node, flow, err) : rc;
}

/* `right`: the join of the node that takes the flow on its right, or NULL. */
static int process(struct weir_node *node, const struct weir_flow *flow, struct join *right,
                   struct weir_error *err) {
    /* What the datasets downstream take is theirs. */
    struct weir_graph *graph = node->graph;
    int64_t outer = graph->downstream_ns;
    int64_t start = weir_clock_mono_ns();
    graph->downstream_ns = 0;
    int rc = right != NULL          ? join_feed(right, WEIR_RIGHT, flow, err)
             : node->rule != NULL   ? rule_come(node, flow, err)
             : node->stream != NULL ? stream_process(node, flow, err)
                                    : model_come(node, flow, err);
    int64_t all = weir_clock_mono_ns() - start;
    node->dataset->ns += all - graph->downstream_ns;
    graph->downstream_ns = outer + all;
    return rc;
}

/* Rows of a dataset go to one of its readers. */
static int deliver(const struct weir_dataset *dataset, struct weir_node *node,
                   const struct weir_flow *flow, struct weir_error *err) {
    if (node->joined == NULL) {
        return process(node, flow, NULL, err);
    }
    struct weir_flow taken;
    int rc = union_take(node, dataset, flow, &taken, err);
    if (rc == WEIR_OK) {
        rc = process(node, &taken, NULL, err);
        weir_batch_unref(taken.batch);
    }
    return rc;
}

/* Of a dataset that remembers rows: those go to models that take them back, and to joins. */
static bool takes_back(const struct weir_node *consumer) {
    return consumer->model != NULL ? consumer->model->retracts : join_reads_changes(consumer);
}

static int pass_to_models(void *context, const struct weir_flow *flow, struct weir_error *err) {
    const struct weir_dataset *dataset = context;
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < dataset->consumer_count; i++) {
        rc = takes_back(dataset->consumers[i]) ? deliver(dataset, dataset->consumers[i], flow, err)
                                               : rc;
    }
    for (int32_t i = 0; rc == WEIR_OK && i < dataset->join_count; i++) {
        struct join *join = dataset->joins[i];
        rc = join_takes_back(join) ? process(join_node(join), flow, join, err) : rc;
    }
    return rc;
}

int graph_emit(struct weir_graph *graph, struct weir_dataset *dataset, const struct weir_flow *flow,
               struct weir_error *err) {
    dataset->counters.out += flow->count;
    dataset->watermark_us = flow->times_us != NULL ? flow->watermark_us : dataset->watermark_us;
    if (dataset->told && weir_command_open(graph->command)) {
        int rc = weir_command_emitted(graph->command, dataset->name, flow->batch, flow->sel,
                                      flow->count, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    bool written = graph->output_all || (dataset->into != NULL && dataset->into->present);
    if (flow->count > 0 && written) {
        int rc = graph->callbacks.output(graph->callbacks.context, dataset, flow->batch, flow->sel,
                                         flow->count, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    bool emits = dataset->remembered != NULL && remembered_emits(dataset->remembered);
    for (int32_t i = 0; i < dataset->consumer_count; i++) {
        if (emits && takes_back(dataset->consumers[i])) {
            continue; /* by remembered_pass, below */
        }
        int rc = deliver(dataset, dataset->consumers[i], flow, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    for (int32_t i = 0; i < dataset->join_count; i++) {
        struct join *join = dataset->joins[i];
        bool later = emits && join_takes_back(join);
        int rc = later ? WEIR_OK : process(join_node(join), flow, join, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    const struct remembered_target target = {dataset, pass_to_models};
    return dataset->remembered != NULL ? remembered_pass(dataset->remembered, flow, &target, err)
                                       : WEIR_OK;
}

/* The most downstream first, so that what fires above it finds it empty. */
static struct weir_node *last_firing(const struct weir_graph *graph) {
    for (int32_t i = graph->node_count; graph->firing > 0 && i > 0; i--) {
        if (graph->nodes[i - 1]->firing) {
            return graph->nodes[i - 1];
        }
    }
    return NULL;
}

bool weir_graph_firing(const struct weir_graph *graph) {
    return graph->firing > 0;
}

int weir_graph_fire(struct weir_graph *graph, int64_t budget_ns, bool *done,
                    struct weir_error *err) {
    struct weir_node *node;
    int64_t began = graph->firing > 0 ? weir_clock_mono_ns() : 0;
    int64_t at = began;
    *done = false;
    while (!weir_graph_holds(graph) && (node = last_firing(graph)) != NULL) {
        graph->downstream_ns = 0;
        int rc = node->model != NULL  ? model_fire(node, err)
                 : node->rule != NULL ? rule_fire(node, err)
                                      : join_fire(node, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        int64_t now = weir_clock_mono_ns();
        node->dataset->ns += now - at - graph->downstream_ns;
        at = now;
        if (budget_ns >= 0 && now - began >= budget_ns) {
            break;
        }
    }
    *done = graph->firing == 0 && !weir_graph_holds(graph);
    return WEIR_OK;
}

int node_reach(struct weir_node *node, int64_t watermark_us, struct weir_error *err) {
    return waiting_at(node, 0) != NULL ? waiting_advance(waiting_at(node, 0), watermark_us, err)
           : node->held != NULL || node->waits ? held_advance(node, watermark_us, err)
           : node->model != NULL               ? model_advance(node, watermark_us, err)
           : node->join != NULL ? join_advance(join_at(node, 0), WEIR_LEFT, watermark_us, err)
           : node->rule != NULL ? rule_advance(node, watermark_us, err)
                                : node_advance(node, watermark_us, err);
}

int node_advance(struct weir_node *node, int64_t watermark_us, struct weir_error *err) {
    return dataset_advance(node->dataset, watermark_us, err);
}

int dataset_advance(struct weir_dataset *dataset, int64_t watermark_us, struct weir_error *err) {
    dataset->watermark_us = watermark_us;
    for (int32_t i = 0; i < dataset->consumer_count; i++) {
        struct weir_node *next = dataset->consumers[i];
        if (next->watermark != NULL) {
            continue; /* it has a time of its own */
        }
        int64_t reached = watermark_us;
        if (next->joined != NULL && !union_look(next, &reached)) {
            continue;
        }
        int rc = node_reach(next, reached, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    for (int32_t i = 0; i < dataset->join_count; i++) {
        int rc = join_advance(dataset->joins[i], WEIR_RIGHT, watermark_us, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return WEIR_OK;
}

/* Those that read several and have no time of their own no longer wait for what is idle. */
int graph_look_at_unions(struct weir_graph *graph, bool *moved, struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t i = 0; i < graph->node_count && rc == WEIR_OK; i++) {
        struct weir_node *node = graph->nodes[i];
        int64_t reached;
        if (node->joined != NULL && node->watermark == NULL && union_look(node, &reached)) {
            *moved = true;
            rc = node_reach(node, reached, err);
        }
    }
    return rc;
}

void weir_graph_set_moment(struct weir_graph *graph, int64_t clock_us, int64_t epoch) {
    graph->clock_us = clock_us;
    graph->epoch = epoch;
    graph->message++;
}

void weir_graph_set_partitions(struct weir_graph *graph, int32_t partitions) {
    graph->partitions = partitions;
}

void weir_graph_set_rule_set_hash(struct weir_graph *graph, const char *hash, size_t length) {
    snprintf(graph->rule_set_hash, sizeof(graph->rule_set_hash), "%.*s", (int)length, hash);
}

void weir_graph_expect_breach(struct weir_graph *graph, int32_t function, int32_t row,
                              const char *text, size_t length) {
    if (graph->expected_count < EXPECTED_BREACHES_MAX) {
        struct expected_breach *expected = &graph->expected[graph->expected_count++];
        expected->function = function;
        expected->row = row;
        snprintf(expected->text, sizeof(expected->text), "%.*s", (int)length, text);
    }
}

void weir_graph_expect_none(struct weir_graph *graph) {
    graph->expected_count = 0;
}

struct weir_node *graph_node(struct weir_graph *graph, const char *name) {
    for (int32_t i = 0; i < graph->node_count; i++) {
        if (strcmp(graph->nodes[i]->name, name) == 0) {
            return graph->nodes[i];
        }
    }
    return NULL;
}

const int32_t *all_rows(void) {
    static int32_t all[ROWS_MAX];
    if (all[1] == 0) {
        for (int32_t i = 0; i < ROWS_MAX; i++) {
            all[i] = i;
        }
    }
    return all;
}

int weir_graph_push(struct weir_graph *graph, int32_t source, const char *partition,
                    struct weir_batch *batch, struct weir_error *err) {
    struct weir_flow flow = {
        .batch = batch,
        .sel = all_rows(),
        .count = batch->rows,
        .watermark_us = WEIR_WATERMARK_NONE,
        .origin = batch,
        .source = source,
        .partition = partition,
    };
    graph->datasets[source]->counters.in += batch->rows;
    int32_t kept[ROWS_MAX];
    if (graph->datasets[source]->duties != NULL) {
        memcpy(kept, flow.sel, (size_t)flow.count * sizeof(*kept));
        flow.sel = kept;
        int rc = duties_apply_source(graph, source, batch, kept, &flow.count, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return graph_emit(graph, graph->datasets[source], &flow, err);
}

struct weir_node *graph_writer(struct weir_graph *graph, const char *name) {
    const struct weir_dataset *dataset = weir_graph_find(graph, name);
    return dataset != NULL ? dataset->writer : NULL;
}

int weir_graph_inject(struct weir_graph *graph, struct weir_dataset *dataset, const char *partition,
                      struct weir_batch *batch, struct weir_error *err) {
    int64_t times[ROWS_MAX];
    int64_t before[ROWS_MAX];
    uint8_t flags[ROWS_MAX];
    struct weir_flow flow = {
        .batch = batch,
        .sel = all_rows(),
        .count = batch->rows,
        .watermark_us = WEIR_WATERMARK_NONE,
        .source = -1,
        .partition = partition,
    };
    struct weir_node *node = graph_timed_node(graph, dataset->name);
    if (node != NULL) {
        int32_t column = weir_schema_find(dataset->schema, node->time->field);
        int32_t number = weir_watermark_partition(node->watermark, partition, graph->clock_us);
        if (column < 0) {
            return weir_error_set(err, WEIR_E_CONFIG,
                                  "%s does not carry its time field '%s'; feed '%s' instead",
                                  dataset->name, node->time->field, node->from);
        }
        int rc = number < 0 ? WEIR_E_NOMEM
                            : weir_watermark_feed(node->watermark, number, graph->clock_us,
                                                  &batch->columns[column], batch->rows, times,
                                                  before, flags);
        if (rc != WEIR_OK) {
            return weir_error_set(err, rc, "%s: cannot read its time field", dataset->name);
        }
        flow.times_us = times;
        flow.watermark_before_us = before;
        flow.watermark_us = weir_watermark_now(node->watermark);
        node->last_watermark = flow.watermark_us;
    }
    return graph_emit(graph, dataset, &flow, err);
}

int weir_graph_reject_of(struct weir_graph *graph, int32_t source, int32_t partition,
                         const struct weir_reject_batch *rejects, int32_t index,
                         struct weir_error *err) {
    struct weir_counters *counters = &graph->datasets[source]->counters;
    const struct weir_reject *reject = &rejects->rejects[index];
    const char *field = weir_reject_field(rejects, index);
    char reason[512];
    snprintf(reason, sizeof(reason), "%s%s%s", field, field[0] != '\0' ? ": " : "",
             weir_reject_reason(rejects, index));
    counters->in++;
    counters->quarantined++;
    counters->tallies[TALLY_DECODE].rejected++;
    if (weir_command_open(graph->command)) {
        int rc = weir_command_rejected(graph->command, graph->datasets[source]->name,
                                       reserved_tally_names[TALLY_DECODE], reason, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    const char *topic = weir_reject_topic(rejects);
    struct raw_row raw = {
        .bytes = weir_reject_raw(rejects, index),
        .size = (size_t)reject->raw_bytes,
        .topic = topic != NULL ? topic : graph->datasets[source]->name,
        .partition = partition,
        .offset = reject->offset,
    };
    return quarantine_raw(graph, &graph->source_quarantines[source], &raw,
                          reserved_tally_names[TALLY_DECODE], reason, err);
}

int weir_graph_flush_rejects(struct weir_graph *graph, struct weir_error *err) {
    for (int32_t i = 0; i < graph->plan->source_count; i++) {
        int rc = quarantine_flush(graph, &graph->source_quarantines[i], err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return WEIR_OK;
}

/* --- state ------------------------------------------------------------------------------------ */

int32_t weir_graph_dataset_count(const struct weir_graph *graph) {
    return graph->dataset_count;
}

struct weir_dataset *weir_graph_dataset(struct weir_graph *graph, int32_t index) {
    return graph->datasets[index];
}

struct weir_dataset *weir_graph_find(struct weir_graph *graph, const char *name) {
    for (int32_t i = 0; i < graph->dataset_count; i++) {
        if (strcmp(graph->datasets[i]->name, name) == 0) {
            return graph->datasets[i];
        }
    }
    return NULL;
}
