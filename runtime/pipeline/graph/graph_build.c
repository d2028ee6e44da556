/* A graph from its plan: datasets, nodes in the order they read each other; and what the plan says
 * it may grow to. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lake/delta/duties.h"
#include "operator/rule/rule_state.h"
#include "pipeline/graph/graph.h"
#include "pipeline/graph/node.h"
#include "pipeline/graph/rule.h"

enum { ERROR_TEXT_BYTES_MAX = 64 << 20 };

const char *const reserved_tally_names[TALLY_RESERVED] = {
    "decode", "time", "map", "where", "budget", "future", "unavailable", "truncate"};

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
    dataset->watermark_us = WEIR_WATERMARK_NONE;
    graph->datasets[graph->dataset_count++] = dataset;
    for (int i = 0; i < TALLY_RESERVED; i++) {
        if (dataset_tally(dataset, reserved_tally_names[i]) < 0) {
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
    return add_to(&from->consumers, &from->consumer_count, node, err);
}

static int add_joins(struct weir_graph *graph, struct weir_node *node, struct weir_error *err) {
    for (int32_t i = 0; i < node->join_count; i++) {
        struct weir_dataset *right = weir_graph_find(graph, node->stream->joins[i].from);
        struct join **grown =
            realloc(right->joins, ((size_t)right->join_count + 1) * sizeof(*grown));
        if (grown == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", node->name);
        }
        right->joins = grown;
        grown[right->join_count++] = join_at(node, i);
    }
    return WEIR_OK;
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
    node->dataset->writer = node;
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
    rc = rc == WEIR_OK ? add_joins(graph, node, err) : rc;
    node->reads = rc == WEIR_OK ? weir_graph_find(graph, node->from) : NULL;
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
            for (int32_t k = 0; stream != NULL && k < stream->join_count; k++) {
                ready &= weir_graph_find(graph, stream->joins[k].from) != NULL;
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

/* Which rows come of the command whose row goes in, and of no other: those of streams, and of
 * models without windows. What a join or a rule sends further may be of others too; of a rule its
 * own word counts (rule.c). Those nobody reads are told. */
static void follow_commands(struct weir_graph *graph) {
    for (int32_t i = 0; i < graph->plan->source_count; i++) {
        graph->datasets[i]->follows = weir_plan_replies(&graph->plan->sources[i]);
    }
    for (int32_t i = 0; i < graph->node_count; i++) {
        struct weir_node *node = graph->nodes[i];
        bool windowed = node->model != NULL && !node->model->unwindowed;
        const char **from = node->stream != NULL ? node->stream->all_from : node->model->all_from;
        int32_t count = node->stream != NULL ? node->stream->from_count : node->model->from_count;
        for (int32_t k = 0; k < count; k++) {
            const struct weir_dataset *read = weir_graph_find(graph, from[k]);
            node->dataset->follows |= read != NULL && read->follows;
        }
        node->dataset->follows &= node->join == NULL && !windowed;
        node->dataset->told = node->dataset->follows && node->rule == NULL &&
                              node->dataset->consumer_count == 0 && node->dataset->join_count == 0;
    }
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
    graph->answers = options->answers;
    graph->answers_signal = options->signal;
    graph->command = options->command;
    graph->disk = options->disk;
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
    graph->disk = NULL;
    if (rc == WEIR_OK && graph->command != NULL) {
        follow_commands(graph);
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
        for (int32_t k = 0; rc == WEIR_OK && k < node->join_count; k++) {
            size_t bytes[2];
            join_estimate(node, k, bytes);
            rc = weir_buffer_printf(
                out,
                "%s%s%s: about %zu bytes per left row kept and %zu per right row; "
                "memory.state (%.0f MB) is %s of each side\n",
                node->name, node->join_count > 1 ? ": join " : "",
                node->join_count > 1 ? join_name(node, k) : "", bytes[0], bytes[1], cap,
                join_may_wait(node, k) ? "for what is in memory" : "the cap");
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
