/* What streams and models do alike when rows arrive: event time, `where`, expectations. And what
 * they do alike when they are done: the rows that were refused go to quarantine, with every reason
 * noted along the way. */
#include <stdlib.h>
#include <string.h>

#include "core/block.h"
#include "pipeline/graph/node.h"

static int32_t *int32_scratch(void) {
    return calloc(ROWS_MAX, sizeof(int32_t));
}

int node_init(struct weir_node *node, struct weir_graph *graph, struct weir_error *err) {
    node->graph = graph;
    node->sel = int32_scratch();
    node->sel2 = int32_scratch();
    node->rejected = int32_scratch();
    node->note_head = malloc(ROWS_MAX * sizeof(int32_t));
    node->note_tail = int32_scratch();
    node->noted_rows = int32_scratch();
    node->verdict = calloc(ROWS_MAX, 1);
    node->term_verdict = calloc(ROWS_MAX, 1);
    node->worst = calloc(ROWS_MAX, 1);
    node->duplicate = calloc(ROWS_MAX, 1);
    node->flags = calloc(ROWS_MAX, 1);
    node->times = calloc(ROWS_MAX, sizeof(int64_t));
    node->wm_before = calloc(ROWS_MAX, sizeof(int64_t));
    if (node->sel == NULL || node->sel2 == NULL || node->rejected == NULL ||
        node->note_head == NULL || node->note_tail == NULL || node->noted_rows == NULL ||
        node->verdict == NULL || node->term_verdict == NULL || node->worst == NULL ||
        node->duplicate == NULL || node->flags == NULL || node->times == NULL ||
        node->wm_before == NULL || change_init(node) != WEIR_OK) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", node->name);
    }
    memset(node->note_head, 0xff, ROWS_MAX * sizeof(int32_t));
    node->last_watermark = WEIR_WATERMARK_NONE;
    if (node->time->present) {
        node->time_column = weir_schema_find(node->input, node->time->field);
        if (node->time_column < 0) {
            return weir_error_set(err, WEIR_E_CONFIG, "%s: time field '%s' is not a column",
                                  node->name, node->time->field);
        }
        struct weir_watermark_config config = {
            .dataset = node->name,
            .out_of_order_us = node->time->out_of_order_us,
            .idle_us = node->time->idle_us,
            .max_ahead_us = node->time->max_ahead_us,
        };
        node->watermark = weir_watermark_create(&config, err);
        if (node->watermark == NULL) {
            return WEIR_E_NOMEM;
        }
    }
    return quarantine_init(
        &node->quarantine, graph, node->name, node->input,
        node->stream != NULL ? &node->stream->quarantine : &node->model->quarantine, err);
}

void node_fini(struct weir_node *node) {
    weir_watermark_destroy(node->watermark);
    union_destroy(node->joined);
    weir_dedup_destroy(node->dedup);
    withheld_destroy(node->withheld);
    checks_fini(&node->expectations);
    quarantine_fini(&node->quarantine);
    free(node->sel);
    free(node->sel2);
    free(node->rejected);
    free(node->note_head);
    free(node->note_tail);
    free(node->noted_rows);
    weir_block_give(node->notes);
    free(node->tallies_before);
    free(node->verdict);
    free(node->term_verdict);
    free(node->worst);
    free(node->duplicate);
    free(node->flags);
    free(node->exempt);
    free(node->signs);
    free(node->times);
    free(node->wm_before);
    free(node->in);
}

/* Times of the rows still alive only: rows an upstream declaration filtered do not move this
 * dataset's watermark. */
static int feed_selected(struct weir_node *node, const struct weir_flow *flow, int32_t partition,
                         const struct weir_column *time) {
    int64_t packed[ROWS_MAX];
    int64_t before[ROWS_MAX];
    uint8_t flags[ROWS_MAX];
    int32_t rows[ROWS_MAX];
    int32_t count = 0;
    int rc = weir_time_read(time, flow->batch->rows, node->times, node->flags);
    if (rc != WEIR_OK) {
        return rc;
    }
    for (int32_t i = 0; i < flow->count; i++) {
        int32_t row = flow->sel[i];
        if (node->flags[row]) {
            node->flags[row] = WEIR_TIME_NULL;
            node->wm_before[row] = WEIR_WATERMARK_NONE;
        } else {
            rows[count] = row;
            packed[count++] = node->times[row];
        }
    }
    weir_watermark_feed_times(node->watermark, partition, node->graph->clock_us, packed, count,
                              before, flags);
    for (int32_t i = 0; i < count; i++) {
        node->wm_before[rows[i]] = before[i];
        node->flags[rows[i]] = flags[i];
    }
    return WEIR_OK;
}

static int enter_time(struct weir_node *node, const struct weir_flow *flow, int32_t *sel,
                      int32_t *count, struct weir_error *err) {
    int32_t partition =
        weir_watermark_partition(node->watermark, flow->partition, node->graph->clock_us);
    if (partition < 0) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", node->name);
    }
    const struct weir_column *time = &flow->batch->columns[node->time_column];
    int rc = flow->count == flow->batch->rows
                 ? weir_watermark_feed(node->watermark, partition, node->graph->clock_us, time,
                                       flow->batch->rows, node->times, node->wm_before, node->flags)
                 : feed_selected(node, flow, partition, time);
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: time field '%s' must be a timestamp or a date",
                              node->name, node->time->field);
    }
    int32_t kept = 0;
    for (int32_t i = 0; i < *count; i++) {
        int32_t row = sel[i];
        if (node->flags[row] == WEIR_TIME_OK ||
            (node->change_column >= 0 && !node->change_whole && node->rule == NULL &&
             node->exempt[row] != 0)) { /* a delete may know its key alone */
            sel[kept++] = row;
            continue;
        }
        rc = node->flags[row] == WEIR_TIME_NULL
                 ? node_reject(node, row, TALLY_TIME, "the time field is null")
                 : node_reject(node, row, TALLY_FUTURE, "event time is too far in the future");
        if (rc != WEIR_OK) {
            return weir_error_set(err, rc, "%s: too many reasons in one batch", node->name);
        }
    }
    *count = kept;
    return WEIR_OK;
}

int node_where_failed(struct weir_node *node, int32_t row, uint8_t verdict) {
    struct weir_counters *counters = &node->dataset->counters;
    if (verdict == VERDICT_BREACHED) {
        return node_reject(node, row, TALLY_BUDGET, node->dataset->breach_text);
    }
    if (verdict == VERDICT_THREW) { /* noted already */
        counters->tallies[TALLY_WHERE].rejected++;
        counters->quarantined++;
        node->rejected[node->rejected_count++] = row;
    }
    return WEIR_OK;
}

static int enter_where(struct weir_node *node, const struct weir_flow *flow, int32_t *sel,
                       int32_t *count, struct weir_error *err) {
    struct weir_counters *counters = &node->dataset->counters;
    struct change_split split;
    int32_t judged = change_split(node, sel, *count, &split);
    int rc = node_predicate(node, node->where, flow->batch, sel, judged, node->verdict, TALLY_WHERE,
                            err);
    int32_t kept = 0;
    for (int32_t i = 0; rc == WEIR_OK && i < judged; i++) {
        if (node->verdict[i] == 1) {
            sel[kept++] = sel[i];
        } else if (node->verdict[i] >= VERDICT_THREW) {
            rc = node_where_failed(node, sel[i], node->verdict[i]);
        } else {
            counters->filtered++;
            change_leaves(node, flow, sel[i]);
        }
    }
    *count = change_join(node, flow, &split, sel, kept);
    return rc;
}

int node_enter(struct weir_node *node, const struct weir_flow *flow, int32_t *sel, int32_t *count,
               const int64_t **times, const int64_t **wm_before, int64_t *watermark,
               struct weir_error *err) {
    memcpy(sel, flow->sel, (size_t)flow->count * sizeof(*sel));
    *count = flow->count;
    node->dataset->counters.in += flow->count;
    *times = flow->times_us;
    *wm_before = flow->watermark_before_us;
    *watermark = flow->watermark_us;
    int rc = WEIR_OK;
    change_begin(node, flow);
    if (node->watermark != NULL) {
        rc = enter_time(node, flow, sel, count, err);
        *times = node->times;
        *wm_before = node->wm_before;
        *watermark = weir_watermark_now(node->watermark);
    }
    rc = rc == WEIR_OK ? change_refuse(node, flow, sel, count, err) : rc;
    if (rc == WEIR_OK && node->withheld != NULL) {
        rc = withheld_refuse(node, flow, sel, count, err);
    }
    if (rc == WEIR_OK && node->dataset->breached) {
        for (int32_t i = 0; rc == WEIR_OK && i < *count; i++) {
            rc = node_reject(node, sel[i], TALLY_BUDGET, node->dataset->breach_text);
        }
        *count = 0;
    }
    if (rc == WEIR_OK && node->where >= 0 && *count > 0) {
        rc = enter_where(node, flow, sel, count, err);
    }
    if (rc == WEIR_OK && node->explode == NULL && waiting_at(node, 0) == NULL) {
        rc = checks_apply(node, &node->expectations, flow->batch, flow, sel, count, err);
    }
    return rc;
}

int node_leave(struct weir_node *node, const struct weir_flow *flow, struct weir_error *err) {
    int rc = quarantine_rows(node, flow, node->rejected, node->rejected_count, err);
    for (int32_t i = 0; i < node->noted_count; i++) {
        node->note_head[node->noted_rows[i]] = -1;
    }
    node->noted_count = 0;
    node->note_count = 0;
    node->rejected_count = 0;
    weir_buffer_clear(&node->graph->texts);
    return rc;
}
