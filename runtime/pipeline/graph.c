/* Builds the graph from a plan, moves flows along its edges, and speaks for all of its state. */
#include "pipeline/graph.h"

#include <msgpack.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "lake/delta/duties.h"
#include "operator/join.h"
#include "operator/rule_state.h"
#include "pipeline/asking.h"
#include "pipeline/rule.h"

enum { ERROR_TEXT_BYTES_MAX = 64 << 20 };

static const char *const reserved_tallies[TALLY_RESERVED] = {
    "decode", "time", "map", "where", "budget", "future", "unavailable"};

int32_t dataset_tally(struct weir_dataset *dataset, const char *name) {
    struct weir_counters *counters = &dataset->counters;
    for (int32_t i = 0; i < counters->tally_count; i++) {
        if (strcmp(counters->tallies[i].name, name) == 0) {
            return i;
        }
    }
    struct weir_tally *tallies =
        realloc(counters->tallies, ((size_t)counters->tally_count + 1) * sizeof(*tallies));
    if (tallies == NULL) {
        return -1;
    }
    counters->tallies = tallies;
    tallies[counters->tally_count] = (struct weir_tally){.name = name};
    return counters->tally_count++;
}

struct weir_dataset *graph_add_dataset(struct weir_graph *graph, const char *name,
                                       struct weir_schema *schema,
                                       const struct weir_plan_sink *into, struct weir_error *err) {
    struct weir_dataset **datasets =
        realloc(graph->datasets, ((size_t)graph->dataset_count + 1) * sizeof(*datasets));
    struct weir_dataset *dataset = calloc(1, sizeof(*dataset));
    if (datasets != NULL) {
        graph->datasets = datasets;
    }
    if (datasets == NULL || dataset == NULL || (dataset->name = strdup(name)) == NULL) {
        free(dataset);
        weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", name);
        return NULL;
    }
    dataset->schema = weir_schema_ref(schema);
    dataset->into = into;
    graph->datasets[graph->dataset_count++] = dataset;
    for (int i = 0; i < TALLY_RESERVED; i++) {
        if (dataset_tally(dataset, reserved_tallies[i]) < 0) {
            weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", name);
            return NULL;
        }
    }
    return dataset;
}

static int add_to(struct weir_node ***list, int32_t *count, struct weir_node *node,
                  struct weir_error *err) {
    struct weir_node **grown = realloc(*list, ((size_t)*count + 1) * sizeof(*grown));
    if (grown == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", node->name);
    }
    *list = grown;
    grown[(*count)++] = node;
    return WEIR_OK;
}

static int add_consumer(struct weir_graph *graph, struct weir_node *node, const char *name,
                        struct weir_error *err) {
    struct weir_dataset *from = weir_graph_find(graph, name);
    if (from == NULL) {
        return weir_error_set(err, WEIR_E_CONFIG, "%s: reads '%s', which nothing writes",
                              node->name, name);
    }
    int rc = add_to(&from->consumers, &from->consumer_count, node, err);
    if (rc != WEIR_OK || node->join == NULL) {
        return rc;
    }
    struct weir_dataset *right = weir_graph_find(graph, node->stream->join.from);
    return add_to(&right->joins, &right->join_count, node, err);
}

static int add_dedup(struct weir_node *node, const struct weir_plan_dedup *plan,
                     struct weir_error *err) {
    if (!plan->present) {
        return WEIR_OK;
    }
    int32_t by[64];
    for (int32_t i = 0; i < plan->by_count; i++) {
        if (i == 64) {
            return weir_error_set(err, WEIR_E_CONFIG, "%s: dedup by more than 64 columns",
                                  node->name);
        }
        by[i] = weir_schema_find(node->input, plan->by[i]);
        if (by[i] < 0) {
            return weir_error_set(err, WEIR_E_CONFIG, "%s: dedup by '%s': no such column",
                                  node->name, plan->by[i]);
        }
    }
    struct weir_dedup_config config = {
        .declaration = node->name,
        .input = node->input,
        .by = by,
        .by_count = plan->by_count,
        .within_us = plan->within_us,
        .state_version = 1,
        .max_bytes = (size_t)node->graph->plan->state_bytes,
        .option = "memory.state",
    };
    node->dedup = weir_dedup_create(&config, err);
    return node->dedup != NULL ? WEIR_OK : (err != NULL ? err->code : WEIR_E_NOMEM);
}

static int add_node(struct weir_graph *graph, const struct weir_plan_stream *stream,
                    const struct weir_plan_model *model, struct weir_error *err) {
    struct weir_node *node = calloc(1, sizeof(*node));
    if (node == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    graph->nodes[graph->node_count++] = node;
    node->stream = stream;
    node->model = model;
    node->name = stream != NULL ? stream->name : model->name;
    node->from = stream != NULL ? stream->from : model->from;
    node->input = stream != NULL ? stream->input : model->input;
    node->time = stream != NULL ? &stream->time : &model->time;
    node->where = stream != NULL ? stream->where : model->where;
    node->graph = graph;
    node->dataset =
        graph_add_dataset(graph, node->name, stream != NULL ? stream->output : model->output,
                          stream != NULL ? &stream->into : &model->into, err);
    if (node->dataset == NULL) {
        return WEIR_E_NOMEM;
    }
    int rc = node_init(node, graph, err);
    if (rc == WEIR_OK) {
        rc = checks_init(&node->expectations,
                         stream != NULL ? &stream->expectations : &model->expectations, node->input,
                         node->dataset, err);
    }
    if (rc == WEIR_OK) {
        rc = add_dedup(node, stream != NULL ? &stream->dedup : &model->dedup, err);
    }
    if (rc == WEIR_OK) {
        rc = withheld_create(node, err);
    }
    if (rc == WEIR_OK) {
        rc = remembered_create(node, err);
    }
    if (rc == WEIR_OK) {
        rc = stream == NULL         ? model_init(node, err)
             : stream->rule != NULL ? rule_init(node, err)
                                    : stream_init(node, err);
    }
    if (rc == WEIR_OK && model != NULL && model->late != NULL) {
        node->late = weir_graph_find(graph, model->late);
        if (node->late == NULL) {
            node->late =
                graph_add_dataset(graph, model->late, model->input, &graph->plan->quarantine, err);
        }
        rc = node->late == NULL ? WEIR_E_NOMEM : WEIR_OK;
    }
    const char **all_from = stream != NULL ? stream->all_from : model->all_from;
    int32_t from_count = stream != NULL ? stream->from_count : model->from_count;
    if (rc == WEIR_OK) {
        rc = union_create(node, (const char *const *)all_from, from_count, err);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < from_count; i++) {
        rc = add_consumer(graph, node, all_from[i], err);
    }
    return rc;
}

/* Streams and models read each other: each is made after what it reads. */
static int add_nodes(struct weir_graph *graph, struct weir_error *err) {
    const struct weir_plan *plan = graph->plan;
    int32_t total = plan->stream_count + plan->model_count;
    bool *made = calloc((size_t)total + 1, sizeof(*made));
    int rc = made == NULL ? weir_error_set(err, WEIR_E_NOMEM, "graph: out of memory") : WEIR_OK;
    bool found = true;
    while (rc == WEIR_OK && graph->node_count < total) {
        bool any = !found; /* nothing more can be reached: the next one says what it misses */
        found = false;
        for (int32_t i = 0; rc == WEIR_OK && i < total; i++) {
            const struct weir_plan_stream *stream =
                i < plan->stream_count ? &plan->streams[i] : NULL;
            const struct weir_plan_model *model =
                stream == NULL ? &plan->models[i - plan->stream_count] : NULL;
            const char **all_from = stream != NULL ? stream->all_from : model->all_from;
            int32_t count = stream != NULL ? stream->from_count : model->from_count;
            bool ready = true;
            for (int32_t k = 0; k < count; k++) {
                ready &= weir_graph_find(graph, all_from[k]) != NULL;
            }
            for (int32_t k = 0; stream != NULL && k < stream->lookup_count; k++) {
                const char *other = stream->lookups[k].from;
                ready &= other == NULL || weir_graph_find(graph, other) != NULL;
            }
            if (stream != NULL && stream->join.from != NULL) {
                ready &= weir_graph_find(graph, stream->join.from) != NULL;
            }
            if (!made[i] && (any || ready)) {
                rc = add_node(graph, stream, model, err);
                made[i] = true;
                found = true;
            }
        }
    }
    free(made);
    return rc;
}

int weir_graph_create(const struct weir_graph_options *options, struct weir_graph **out,
                      struct weir_error *err) {
    const struct weir_plan *plan = options->plan;
    struct weir_graph *graph = calloc(1, sizeof(*graph));
    *out = NULL;
    if (graph == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "graph: out of memory");
    }
    graph->plan = plan;
    graph->rule_set = weir_rule_set_ref(options->rule_set);
    const char *hash = weir_rule_set_hash(options->rule_set);
    weir_graph_set_rule_set_hash(graph, hash, strlen(hash));
    graph->pool = options->pool;
    graph->callbacks = options->callbacks;
    graph->past_failed = options->past_failed;
    graph->output_all = options->output_all;
    graph->answers = options->ask ? ANSWERS_ASKED : ANSWERS_GIVEN;
    graph->answers_signal = options->signal;
    weir_buffer_init(&graph->texts, ERROR_TEXT_BYTES_MAX);
    graph->nodes =
        calloc((size_t)(plan->stream_count + plan->model_count) + 1, sizeof(struct weir_node *));
    graph->source_quarantines =
        calloc((size_t)plan->source_count + 1, sizeof(*graph->source_quarantines));
    int rc = graph->nodes == NULL || graph->source_quarantines == NULL
                 ? weir_error_set(err, WEIR_E_NOMEM, "graph: out of memory")
                 : WEIR_OK;
    if (rc == WEIR_OK && nulls_create(plan, &graph->nulls) != WEIR_OK) {
        rc = weir_error_set(err, WEIR_E_NOMEM, "graph: out of memory");
    }
    for (int32_t i = 0; rc == WEIR_OK && i < plan->source_count; i++) {
        const struct weir_plan_source *source = &plan->sources[i];
        if (graph_add_dataset(graph, source->name, source->full_schema, &source->into, err) ==
            NULL) {
            rc = WEIR_E_NOMEM;
        }
    }
    for (int32_t i = 0; rc == WEIR_OK && i < plan->source_count; i++) {
        rc = quarantine_init(&graph->source_quarantines[i], graph, plan->sources[i].name,
                             plan->sources[i].schema, &plan->sources[i].quarantine, err);
    }
    if (rc == WEIR_OK) {
        rc = add_nodes(graph, err);
    }
    if (rc != WEIR_OK) {
        weir_graph_destroy(graph);
        return rc;
    }
    *out = graph;
    return WEIR_OK;
}

void weir_graph_destroy(struct weir_graph *graph) {
    if (graph == NULL) {
        return;
    }
    for (int32_t i = 0; i < graph->node_count; i++) {
        struct weir_node *node = graph->nodes[i];
        rule_fini(node);
        if (node->stream != NULL) {
            stream_fini(node);
        } else {
            model_fini(node);
        }
        node_fini(node);
        free(node);
    }
    for (int32_t i = 0; graph->source_quarantines != NULL && i < graph->plan->source_count; i++) {
        quarantine_fini(&graph->source_quarantines[i]);
    }
    for (int32_t i = 0; i < graph->dataset_count; i++) {
        struct weir_dataset *dataset = graph->datasets[i];
        free((void *)(uintptr_t)dataset->name);
        free(dataset->consumers);
        free(dataset->joins);
        remembered_destroy(dataset->remembered);
        weir_delta_duties_destroy(dataset->duties);
        free(dataset->duty_tallies);
        free(dataset->counters.tallies);
        weir_schema_unref(dataset->schema);
        free(dataset);
    }
    free(graph->datasets);
    free(graph->nodes);
    free(graph->source_quarantines);
    weir_buffer_fini(&graph->texts);
    nulls_destroy(graph->nulls);
    weir_rule_set_unref(graph->rule_set);
    free(graph);
}

/* --- flow ------------------------------------------------------------------------------------ */

static int process(struct weir_node *node, const struct weir_flow *flow, bool right,
                   struct weir_error *err) {
    /* What the datasets downstream take is theirs. */
    struct weir_graph *graph = node->graph;
    int64_t outer = graph->downstream_ns;
    int64_t start = weir_clock_mono_ns();
    graph->downstream_ns = 0;
    int rc = right                  ? join_feed(node, WEIR_RIGHT, flow, err)
             : node->rule != NULL   ? rule_process(node, flow, err)
             : node->stream != NULL ? stream_process(node, flow, err)
                                    : model_process(node, flow, err);
    int64_t all = weir_clock_mono_ns() - start;
    node->dataset->ns += all - graph->downstream_ns;
    graph->downstream_ns = outer + all;
    return rc;
}

/* Rows of a dataset go to one of its readers. */
static int deliver(const struct weir_dataset *dataset, struct weir_node *node,
                   const struct weir_flow *flow, struct weir_error *err) {
    if (node->joined == NULL) {
        return process(node, flow, false, err);
    }
    struct weir_flow taken;
    int rc = union_take(node, dataset, flow, &taken, err);
    if (rc == WEIR_OK) {
        rc = process(node, &taken, false, err);
        weir_batch_unref(taken.batch);
    }
    return rc;
}

/* Of a dataset that remembers rows: those go to models that take them back. */
static bool takes_back(const struct weir_node *consumer) {
    return consumer->model != NULL && consumer->model->retracts;
}

static int pass_to_models(void *context, const struct weir_flow *flow, struct weir_error *err) {
    const struct weir_dataset *dataset = context;
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < dataset->consumer_count; i++) {
        rc = takes_back(dataset->consumers[i]) ? deliver(dataset, dataset->consumers[i], flow, err)
                                               : rc;
    }
    return rc;
}

int graph_emit(struct weir_graph *graph, struct weir_dataset *dataset, const struct weir_flow *flow,
               struct weir_error *err) {
    dataset->counters.out += flow->count;
    bool written = graph->output_all || (dataset->into != NULL && dataset->into->present);
    if (flow->count > 0 && written) {
        int rc = graph->callbacks.output(graph->callbacks.context, dataset, flow->batch, flow->sel,
                                         flow->count, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    for (int32_t i = 0; i < dataset->consumer_count; i++) {
        if (dataset->remembered != NULL && remembered_emits(dataset->remembered) &&
            takes_back(dataset->consumers[i])) {
            continue; /* by remembered_pass, below */
        }
        int rc = deliver(dataset, dataset->consumers[i], flow, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    for (int32_t i = 0; i < dataset->join_count; i++) {
        int rc = process(dataset->joins[i], flow, true, err);
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
    while (graph->held == 0 && (node = last_firing(graph)) != NULL) {
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
    *done = graph->firing == 0 && graph->held == 0;
    return WEIR_OK;
}

/* A watermark for one that has no time of its own, or whose own moved. */
static int advance(struct weir_node *node, int64_t watermark_us, struct weir_error *err) {
    return node->model != NULL  ? model_advance(node, watermark_us, err)
           : node->join != NULL ? join_advance(node, WEIR_LEFT, watermark_us, err)
           : node->rule != NULL ? rule_advance(node, watermark_us, err)
           : node->held != NULL ? held_advance(node, watermark_us, err)
                                : node_advance(node, watermark_us, err);
}

int node_advance(struct weir_node *node, int64_t watermark_us, struct weir_error *err) {
    return dataset_advance(node->dataset, watermark_us, err);
}

int dataset_advance(struct weir_dataset *dataset, int64_t watermark_us, struct weir_error *err) {
    for (int32_t i = 0; i < dataset->consumer_count; i++) {
        struct weir_node *next = dataset->consumers[i];
        if (next->watermark != NULL) {
            continue; /* it has a time of its own */
        }
        int64_t reached = watermark_us;
        if (next->joined != NULL && !union_tell(next, dataset, &reached)) {
            continue;
        }
        int rc = advance(next, reached, err);
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
static int look_at_unions(struct weir_graph *graph, bool *moved, struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t i = 0; i < graph->node_count && rc == WEIR_OK; i++) {
        struct weir_node *node = graph->nodes[i];
        int64_t reached;
        if (node->joined != NULL && node->watermark == NULL && union_look(node, &reached)) {
            *moved = true;
            rc = advance(node, reached, err);
        }
    }
    return rc;
}

void weir_graph_set_moment(struct weir_graph *graph, int64_t clock_us, int64_t epoch) {
    graph->clock_us = clock_us;
    graph->epoch = epoch;
    graph->message++;
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

static struct weir_node *find_node(struct weir_graph *graph, const char *name) {
    for (int32_t i = 0; i < graph->node_count; i++) {
        if (strcmp(graph->nodes[i]->name, name) == 0) {
            return graph->nodes[i];
        }
    }
    return NULL;
}

static const int32_t *all_rows(void) {
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

/* The node whose rows a dataset holds; NULL of a source. */
static struct weir_node *find_writer(struct weir_graph *graph, const char *name) {
    struct weir_node *node = find_node(graph, name);
    for (int32_t i = 0; node == NULL && i < graph->node_count; i++) {
        node = rule_writes(graph->nodes[i], name) ? graph->nodes[i] : NULL;
    }
    return node;
}

/* The node whose `time` a dataset's rows carry: its own or the nearest upstream. */
static struct weir_node *timed_node(struct weir_graph *graph, const char *name) {
    for (int32_t hops = 0; hops <= graph->node_count; hops++) {
        struct weir_node *node = find_writer(graph, name);
        if (node == NULL || node->watermark != NULL) {
            return node;
        }
        name = node->from;
    }
    return NULL;
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
    struct weir_node *node = timed_node(graph, dataset->name);
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
    const char *topic = weir_reject_topic(rejects);
    struct raw_row raw = {
        .bytes = weir_reject_raw(rejects, index),
        .size = (size_t)reject->raw_bytes,
        .topic = topic != NULL ? topic : graph->datasets[source]->name,
        .partition = partition,
        .offset = reject->offset,
    };
    return quarantine_raw(graph, &graph->source_quarantines[source], &raw,
                          reserved_tallies[TALLY_DECODE], reason, err);
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

static int advance_timed(struct weir_node *node, struct weir_error *err) {
    int64_t now = weir_watermark_now(node->watermark);
    if (now == node->last_watermark) {
        return WEIR_OK;
    }
    if (node->model == NULL && node->join == NULL && node->rule == NULL) {
        node->last_watermark = now;
    }
    return advance(node, now, err);
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
    return look_at_unions(graph, moved, err);
}

static bool reads_source(struct weir_graph *graph, const struct weir_node *node, int32_t source);

/* Is this dataset the source, or does it stem from it? */
static bool stems_from(struct weir_graph *graph, const char *name, int32_t source) {
    const struct weir_node *node = find_writer(graph, name);
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
    return rc == WEIR_OK ? look_at_unions(graph, &moved, err) : rc;
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
            int rc = advance(node, WEIR_WATERMARK_END, err);
            if (rc != WEIR_OK) {
                return rc;
            }
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

int32_t weir_graph_cells(struct weir_graph *graph, struct weir_cell **cells, int32_t capacity) {
    int32_t count = 0;
    for (int32_t i = 0; i < graph->node_count; i++) {
        struct weir_node *node = graph->nodes[i];
        if (node->dedup != NULL && count < capacity) {
            cells[count++] = weir_dedup_cell(node->dedup);
        }
        count += join_cells(node, cells + count, capacity - count);
        if (node->withheld != NULL && count < capacity) {
            cells[count++] = withheld_cell(node->withheld);
        }
        if (node->dataset->remembered != NULL && count < capacity) {
            cells[count++] = remembered_cell(node->dataset->remembered);
        }
        for (int32_t k = 0; lookup_asking(node, k) != NULL && count < capacity; k++) {
            cells[count++] = asking_cell(lookup_asking(node, k));
        }
        if (node->aggregate != NULL) {
            count += weir_aggregate_cells(node->aggregate, cells + count, capacity - count);
        }
        if (node->rule != NULL) {
            count += weir_rule_state_cells(rule_state(node), cells + count, capacity - count);
        }
        if (node->top != NULL && count < capacity) {
            cells[count++] = weir_top_cell(node->top);
        }
    }
    return count;
}

int weir_graph_check_state(struct weir_graph *to, struct weir_graph *from, struct weir_error *err) {
    for (int32_t i = 0; i < from->node_count; i++) {
        const struct weir_node *old = from->nodes[i];
        const struct weir_node *node = find_node(to, old->name);
        if (old->dedup == NULL && old->aggregate == NULL && old->withheld == NULL &&
            old->dataset->remembered == NULL && old->top == NULL && old->join == NULL &&
            old->rule == NULL) {
            continue;
        }
        if (node == NULL) {
            return weir_error_set(err, WEIR_E_STATE,
                                  "%s is gone and its state would be lost; put it back, or stop "
                                  "the pipeline to remove it",
                                  old->name);
        }
        if (!weir_schema_equal(old->input, node->input)) { /* keys are read by column number */
            return weir_error_set(err, WEIR_E_STATE,
                                  "%s keeps state, and the columns of %s, which it reads, "
                                  "changed; restart the pipeline",
                                  node->name, node->from);
        }
        if ((old->rule != NULL) != (node->rule != NULL)) {
            return weir_error_set(err, WEIR_E_STATE,
                                  "%s was a %s and is a %s; give the new form another name",
                                  node->name, old->rule != NULL ? "rule" : "stream",
                                  node->rule != NULL ? "rule" : "stream");
        }
        if (old->rule != NULL) {
            int rc = weir_rule_state_check(rule_state(node), rule_state(old), err);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
        uint64_t old_dedup = old->dedup != NULL ? weir_dedup_shape(old->dedup) : 0;
        uint64_t new_dedup = node->dedup != NULL ? weir_dedup_shape(node->dedup) : 0;
        const struct remembered *old_rows = old->dataset->remembered;
        const struct remembered *new_rows = node->dataset->remembered;
        if ((old_rows != NULL) != (new_rows != NULL) ||
            (old_rows != NULL && remembered_shape(old_rows) != remembered_shape(new_rows))) {
            return weir_error_set(
                err, WEIR_E_STATE,
                "%s: the rows it remembers for models or lookups changed; restart the pipeline",
                node->name);
        }
        if (!join_same(old, node)) {
            return weir_error_set(err, WEIR_E_STATE,
                                  "%s: its join changed (bounds, keys, or the columns it keeps of "
                                  "both sides), and the rows it keeps would be lost; give the new "
                                  "form another name beside it",
                                  node->name);
        }
        if ((old->withheld != NULL) != (node->withheld != NULL) ||
            (old->withheld != NULL &&
             withheld_shape(old->withheld) != withheld_shape(node->withheld))) {
            return weir_error_set(err, WEIR_E_STATE, "%s: its key changed; restart the pipeline",
                                  node->name);
        }
        uint64_t old_shape = old->aggregate != NULL ? weir_aggregate_shape(old->aggregate) : 0;
        uint64_t new_shape = node->aggregate != NULL ? weir_aggregate_shape(node->aggregate) : 0;
        old_shape += old->top != NULL ? weir_top_shape(old->top) : 0;
        new_shape += node->top != NULL ? weir_top_shape(node->top) : 0;
        if (old_dedup != new_dedup || old_shape != new_shape) {
            return weir_error_set(err, WEIR_E_STATE,
                                  "%s: the shape of its %s changed, and what it has counted so "
                                  "far would be lost; give the new form another name beside it",
                                  node->name, old_dedup != new_dedup ? "dedup" : "windows");
        }
    }
    return WEIR_OK;
}

int weir_graph_record_answers(struct weir_graph *graph, struct weir_span cell,
                              struct weir_span bytes, struct weir_error *err) {
    int rc = WEIR_OK;
    graph->answers = ANSWERS_RECORDED;
    for (int32_t i = 0; rc == WEIR_OK && i < graph->node_count; i++) {
        struct asking *asking;
        for (int32_t k = 0; rc == WEIR_OK; k++) {
            if ((asking = lookup_asking(graph->nodes[i], k)) == NULL) {
                break;
            }
            rc = asking_record(asking, cell, bytes, err);
        }
    }
    return rc;
}

int weir_graph_give_answer(struct weir_graph *graph, const char *stream, const char *lookup,
                           const char *key, const char *answer, bool fails,
                           struct weir_error *err) {
    struct weir_node *node = find_node(graph, stream);
    struct asking *asking;
    for (int32_t k = 0; node != NULL && (asking = lookup_asking(node, k)) != NULL; k++) {
        struct weir_asked figures;
        asking_figures(asking, &figures);
        if (strcmp(strrchr(figures.name, '/') + 1, lookup) == 0) {
            return asking_give(asking, key, answer, fails, err);
        }
    }
    return weir_error_set(err, WEIR_E_NOTFOUND, "%s has no async_lookup called `%s`", stream,
                          lookup);
}

bool weir_graph_asked(struct weir_graph *graph, int32_t index, struct weir_asked *out) {
    for (int32_t i = 0; i < graph->node_count; i++) {
        struct asking *asking;
        for (int32_t k = 0; (asking = lookup_asking(graph->nodes[i], k)) != NULL; k++) {
            if (index-- == 0) {
                asking_figures(asking, out);
                return true;
            }
        }
    }
    return false;
}

int weir_graph_asked_status(struct weir_graph *graph, struct weir_buffer *out) {
    struct weir_asked f;
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && weir_graph_asked(graph, i, &f); i++) {
        rc = weir_buffer_printf(out,
                                "%s\"%s\":{\"keys\":%lld,\"requests\":%lld,\"failed\":%lld,"
                                "\"retries\":%lld,\"cached\":%lld,\"in_flight\":%lld,\"open\":%s}",
                                i == 0 ? "" : ",", f.name, (long long)f.keys, (long long)f.requests,
                                (long long)f.failed, (long long)f.retries, (long long)f.cached,
                                (long long)f.in_flight, f.open ? "true" : "false");
    }
    return rc;
}

void weir_graph_clear_breaches(struct weir_graph *graph) {
    for (int32_t i = 0; i < graph->dataset_count; i++) {
        graph->datasets[i]->breached = false;
    }
}

int weir_graph_restore(struct weir_graph *graph, struct weir_error *err) {
    for (int32_t i = 0; i < graph->node_count; i++) {
        int joined = join_restore(graph->nodes[i], err);
        if (joined != WEIR_OK) {
            return joined;
        }
        if (graph->nodes[i]->aggregate != NULL) {
            int rc = weir_aggregate_restore(graph->nodes[i]->aggregate, err);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
        if (graph->nodes[i]->rule != NULL) {
            int rc = weir_rule_state_restore(rule_state(graph->nodes[i]), err);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
        if (graph->nodes[i]->top != NULL) {
            int rc = weir_top_restore(graph->nodes[i]->top, err);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
    }
    return WEIR_OK;
}

int weir_graph_take_state(struct weir_graph *to, struct weir_graph *from, struct weir_error *err) {
    for (int32_t i = 0; i < to->node_count; i++) {
        struct weir_node *node = to->nodes[i];
        struct weir_node *old = find_node(from, node->name);
        if (old == NULL) {
            continue;
        }
        if (old->dedup != NULL && node->dedup != NULL) {
            struct weir_dedup *dedup = node->dedup;
            node->dedup = old->dedup;
            old->dedup = dedup;
        }
        if (old->dataset->remembered != NULL && node->dataset->remembered != NULL) {
            struct remembered *remembered = node->dataset->remembered;
            node->dataset->remembered = old->dataset->remembered;
            old->dataset->remembered = remembered;
        }
        for (int32_t k = 0; lookup_asking(node, k) != NULL; k++) {
            for (int32_t o = 0; lookup_asking(old, o) != NULL; o++) {
                asking_take_state(lookup_asking(node, k), lookup_asking(old, o));
            }
        }
        if (old->withheld != NULL && node->withheld != NULL) {
            struct withheld *withheld = node->withheld;
            node->withheld = old->withheld;
            old->withheld = withheld;
        }
        join_take_state(node, old);
        if (old->aggregate != NULL && node->aggregate != NULL) {
            struct weir_aggregate *aggregate = node->aggregate;
            node->aggregate = old->aggregate;
            old->aggregate = aggregate;
        }
        if (old->rule != NULL && node->rule != NULL) {
            int rc = weir_rule_state_take(rule_state(node), rule_state(old), err);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
        if (old->top != NULL && node->top != NULL) {
            struct weir_top *top = node->top;
            node->top = old->top;
            old->top = top;
        }
        if (node->watermark != NULL && old->watermark != NULL) {
            struct weir_buffer bytes;
            weir_buffer_init(&bytes, 16 << 20);
            int rc = weir_watermark_save(old->watermark, &bytes);
            if (rc == WEIR_OK) {
                rc = weir_watermark_load(node->watermark, bytes.data, bytes.size, err);
            }
            weir_buffer_fini(&bytes);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
        node->last_watermark = old->last_watermark;
        node->downstream_watermark = old->downstream_watermark;
    }
    for (int32_t i = 0; i < to->node_count; i++) {
        if (to->nodes[i]->joined != NULL) {
            union_restore(to->nodes[i]);
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

/* A count in a unit it does not round to nothing in. */
static double in_unit(double count, const char **unit) {
    bool many = count >= 1e6;
    *unit = many ? "million" : "thousand";
    return count / (many ? 1e6 : 1e3);
}

int weir_graph_estimates(struct weir_graph *graph, struct weir_buffer *out) {
    const char *unit;
    double cap = (double)graph->plan->state_bytes / (1 << 20);
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < graph->node_count; i++) {
        const struct weir_node *node = graph->nodes[i];
        if (node->dedup != NULL) {
            double keys = in_unit((double)graph->plan->state_bytes / 32, &unit);
            rc = weir_buffer_printf(
                out, "%s: dedup remembers a key in 32 bytes; memory.state holds %.0f %s\n",
                node->name, keys, unit);
        }
        if (rc == WEIR_OK && node->join != NULL) {
            size_t bytes[2];
            join_estimate(node, bytes);
            rc = weir_buffer_printf(out,
                                    "%s: about %zu bytes per left row kept and %zu per right row; "
                                    "memory.state (%.0f MB) is the cap of each side\n",
                                    node->name, bytes[0], bytes[1], cap);
        }
        if (rc == WEIR_OK && node->rule != NULL) {
            size_t bytes = weir_rule_state_estimate(rule_state(node));
            double keys = in_unit((double)graph->plan->state_bytes / (double)bytes, &unit);
            rc = weir_buffer_printf(out,
                                    "%s: about %zu bytes a key, more with texts and many entries; "
                                    "memory.state (%.0f MB) holds %.1f %s\n",
                                    node->name, bytes, cap, keys, unit);
        }
        if (rc == WEIR_OK && node->aggregate != NULL) {
            size_t bytes = weir_aggregate_estimate(node->aggregate);
            double groups = in_unit((double)graph->plan->state_bytes / (double)bytes, &unit);
            rc = weir_buffer_printf(out,
                                    "%s: about %zu bytes per group and open window; memory.state "
                                    "(%.0f MB) holds %.1f %s\n",
                                    node->name, bytes, cap, groups, unit);
        }
    }
    return rc;
}
