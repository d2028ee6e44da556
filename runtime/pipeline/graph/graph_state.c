/* What a graph keeps: its cells, whether another rule set may go on with them, and handing them
 * over. */
#include <stdio.h>
#include <string.h>

#include "operator/rule/rule_state.h"
#include "pipeline/graph/asking.h"
#include "pipeline/graph/graph.h"
#include "pipeline/graph/node.h"
#include "pipeline/graph/over.h"
#include "pipeline/graph/rule.h"

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
            count += over_cells(node, cells + count, capacity - count);
        }
        if (node->rule != NULL) {
            count += weir_rule_state_cells(rule_state(node), cells + count, capacity - count);
        }
        if (node->top != NULL) {
            count += weir_top_cells(node->top, cells + count, capacity - count);
        }
    }
    return count;
}

/* What a stream makes itself stands behind the columns it reads. */
static int32_t entered(const struct weir_node *node) {
    return node->stream != NULL ? node->stream->entered : node->input->count;
}

static bool same_input(const struct weir_node *old, const struct weir_node *node) {
    int32_t count = entered(node);
    return entered(old) == count && weir_schema_begins_equal(old->input, node->input, count);
}

/* State goes on where columns are added or gone, but where whole rows are kept: those a rule waits
 * for the time of, a top's, those changes left values out of. */
static bool follows(const struct weir_node *old, const struct weir_node *node) {
    bool whole = old->withheld != NULL || (old->top != NULL && old->aggregate == NULL) ||
                 (old->rule != NULL && !old->stream->rule->by_arrival);
    return same_input(old, node) ||
           (!whole && columns_agree(old->input, entered(old), node->input));
}

int weir_graph_check_state(struct weir_graph *to, struct weir_graph *from, struct weir_error *err) {
    for (int32_t i = 0; i < from->node_count; i++) {
        const struct weir_node *old = from->nodes[i];
        const struct weir_node *node = graph_node(to, old->name);
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
        if (!follows(old, node)) {
            return weir_error_set(err, WEIR_E_STATE,
                                  "%s keeps rows, or state by columns that changed, and those of "
                                  "%s, which it reads, are others now; restart the pipeline",
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
        const char *changed = join_changed(old, node);
        if (changed != NULL) {
            return weir_error_set(err, WEIR_E_STATE,
                                  "%s: its join `%s` changed (place, bounds, keys, condition, or "
                                  "the columns it keeps of both sides), and the rows it keeps "
                                  "would be lost; make it anew from bronze (weir rebuild %s), or "
                                  "give the new form another name beside it",
                                  node->name, changed, node->name);
        }
        if ((old->withheld != NULL) != (node->withheld != NULL) ||
            (old->withheld != NULL &&
             withheld_shape(old->withheld) != withheld_shape(node->withheld))) {
            return weir_error_set(err, WEIR_E_STATE, "%s: its key changed; restart the pipeline",
                                  node->name);
        }
        uint64_t old_shape = old->top != NULL ? weir_top_shape(old->top) : 0;
        uint64_t new_shape = node->top != NULL ? weir_top_shape(node->top) : 0;
        old_shape += (old->aggregate != NULL) != (node->aggregate != NULL);
        if (old_dedup != new_dedup || old_shape != new_shape) {
            return weir_error_set(err, WEIR_E_STATE,
                                  "%s: the shape of its %s changed, and what it has counted so "
                                  "far would be lost; make it anew from bronze (weir rebuild %s), "
                                  "or give the new form another name beside it",
                                  node->name, old_dedup != new_dedup ? "dedup" : "windows",
                                  node->name);
        }
        if (old->aggregate != NULL) {
            int rc = weir_aggregate_check(node->aggregate, old->aggregate, err);
            bool other = rc == WEIR_OK && weir_aggregate_shape(node->aggregate) !=
                                              weir_aggregate_shape(old->aggregate);
            if (other && node->top != NULL) {
                rc = weir_error_set(err, WEIR_E_STATE,
                                    "%s: its measures changed, and its top keeps rows of them; "
                                    "make it anew from bronze (weir rebuild %s), or give the new "
                                    "form another name beside it",
                                    node->name, node->name);
            }
            bool changes = old->model->unwindowed || old->model->updates;
            if (other && rc == WEIR_OK && changes && old->dataset->consumer_count > 0 &&
                !weir_aggregate_keeps_columns(node->aggregate, old->aggregate)) {
                rc = weir_error_set(err, WEIR_E_STATE,
                                    "%s: a measure got the name of another, or is declared "
                                    "otherwise, and those that read its rows could not take back "
                                    "what they were given; give it a new name, or make the model "
                                    "anew from bronze (weir rebuild %s)",
                                    node->name, node->name);
            }
            if (rc != WEIR_OK) {
                return rc;
            }
        }
    }
    return WEIR_OK;
}

int weir_graph_record_answers(struct weir_graph *graph, struct weir_span cell,
                              struct weir_span bytes, struct weir_error *err) {
    int rc = WEIR_OK;
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
    struct weir_node *node = graph_node(graph, stream);
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
        rc = weir_buffer_printf(
            out,
            "%s\"%s\":{\"keys\":%lld,\"requests\":%lld,\"failed\":%lld,"
            "\"retries\":%lld,\"cached\":%lld,\"in_flight\":%lld,\"waiting\":%lld,\"open\":%s}",
            i == 0 ? "" : ",", f.name, (long long)f.keys, (long long)f.requests,
            (long long)f.failed, (long long)f.retries, (long long)f.cached, (long long)f.in_flight,
            (long long)f.waiting, f.open ? "true" : "false");
    }
    return rc;
}

void weir_graph_clear_breaches(struct weir_graph *graph) {
    for (int32_t i = 0; i < graph->dataset_count; i++) {
        graph->datasets[i]->breached = false;
    }
}

static int restore(struct weir_node *node, struct weir_error *err) {
    int rc = join_restore(node, err);
    if (rc == WEIR_OK && node->aggregate != NULL) {
        rc = weir_aggregate_restore(node->aggregate, err);
        rc = rc == WEIR_OK ? over_restore(node, err) : rc;
    }
    if (rc == WEIR_OK && node->rule != NULL) {
        rc = weir_rule_state_restore(rule_state(node), err);
    }
    return rc == WEIR_OK && node->top != NULL ? weir_top_restore(node->top, err) : rc;
}

int weir_graph_restore(struct weir_graph *graph, struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < graph->node_count; i++) {
        rc = restore(graph->nodes[i], err);
    }
    return rc;
}

int weir_graph_take_state(struct weir_graph *to, struct weir_graph *from, struct weir_error *err) {
    for (int32_t i = 0; i < to->node_count; i++) {
        struct weir_node *node = to->nodes[i];
        struct weir_node *old = graph_node(from, node->name);
        if (old == NULL) {
            continue;
        }
        if (old->dedup != NULL && node->dedup != NULL) {
            struct weir_dedup *dedup = node->dedup;
            node->dedup = old->dedup;
            old->dedup = dedup;
            weir_dedup_follow(node->dedup, old->dedup);
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
        if (old->aggregate != NULL && node->aggregate != NULL &&
            weir_aggregate_shape(old->aggregate) != weir_aggregate_shape(node->aggregate)) {
            struct weir_aggregate *taken = old->aggregate;
            old->aggregate = NULL;
            int rc = weir_aggregate_take(node->aggregate, taken, err);
            if (rc != WEIR_OK) {
                return rc;
            }
        } else if (old->aggregate != NULL && node->aggregate != NULL) {
            struct weir_aggregate *aggregate = node->aggregate;
            node->aggregate = old->aggregate;
            old->aggregate = aggregate;
            weir_aggregate_follow(node->aggregate, old->aggregate);
            weir_aggregate_merge_with(node->aggregate, node); /* the old one goes */
            weir_aggregate_merge_with(old->aggregate, old);
            over_take_state(node, old);
        }
        if (old->rule != NULL && node->rule != NULL) {
            int rc = rule_take_over(node, old, err);
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
    for (int32_t i = 0; i < to->dataset_count; i++) {
        const struct weir_dataset *old = weir_graph_find(from, to->datasets[i]->name);
        to->datasets[i]->watermark_us = old != NULL ? old->watermark_us : WEIR_WATERMARK_NONE;
    }
    for (int32_t i = 0; i < to->node_count; i++) {
        if (to->nodes[i]->joined != NULL) {
            union_restore(to->nodes[i]);
        }
    }
    return WEIR_OK;
}

static bool rule_wants_trial(const struct weir_node *node, const struct weir_node *old) {
    return node->rule != NULL && old != NULL && old->rule != NULL &&
           weir_rule_state_migrates(rule_state(node), rule_state(old));
}

static bool model_wants_trial(const struct weir_node *node, const struct weir_node *old) {
    return node->aggregate != NULL && old != NULL && old->aggregate != NULL &&
           weir_aggregate_migrates(node->aggregate, old->aggregate);
}

static bool wants_trial(struct weir_node *node, struct weir_node *old) {
    return rule_wants_trial(node, old) || model_wants_trial(node, old);
}

bool weir_graph_wants_trial(struct weir_graph *to, struct weir_graph *from) {
    for (int32_t i = 0; i < to->node_count; i++) {
        if (wants_trial(to->nodes[i], graph_node(from, to->nodes[i]->name))) {
            return true;
        }
    }
    return false;
}

int weir_graph_try_state(struct weir_graph *to, struct weir_graph *from,
                         struct weir_graph_trial *trial, bool *done, struct weir_error *err) {
    *done = trial->node == to->node_count;
    if (*done) {
        return WEIR_OK;
    }
    struct weir_node *node = to->nodes[trial->node];
    struct weir_node *old = graph_node(from, node->name);
    bool whole = true;
    int rc = rule_wants_trial(node, old)    ? rule_try(node, old, &trial->cursor, &whole, err)
             : model_wants_trial(node, old) ? model_try(node, old, &trial->cursor, &whole, err)
                                            : WEIR_OK;
    if (whole) {
        trial->node++;
        trial->cursor = (struct weir_cell_cursor){0};
    }
    return rc;
}
