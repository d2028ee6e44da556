/* What a dataset's rows owe to the table they go to, when others made it: check constraints,
 * invariants, generated columns (lake/delta/duties.h). A row that fails goes to quarantine with the
 * constraint's name as its reason, as one that fails an expectation. */
#include "lake/delta/duties.h"

#include <stdlib.h>
#include <string.h>

#include "lake/delta/table.h"
#include "pipeline/graph/node.h"

int weir_dataset_set_duties(struct weir_dataset *dataset, struct weir_delta_duties *duties,
                            struct weir_error *err) {
    weir_delta_duties_destroy(dataset->duties);
    free(dataset->duty_tallies);
    dataset->duties = duties;
    dataset->duty_tallies = NULL;
    int32_t count = duties != NULL ? weir_delta_duties_count(duties) : 0;
    if (count == 0) {
        return WEIR_OK;
    }
    dataset->duty_tallies = calloc((size_t)count, sizeof(*dataset->duty_tallies));
    for (int32_t i = 0; i < count; i++) {
        int32_t tally = dataset->duty_tallies != NULL
                            ? dataset_tally(dataset, weir_delta_duties_name(duties, i))
                            : -1;
        if (tally < 0) {
            return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", dataset->name);
        }
        dataset->duty_tallies[i] = tally;
    }
    return WEIR_OK;
}

int duties_apply(struct weir_node *node, struct weir_batch *batch, const struct weir_flow *flow,
                 int32_t *sel, int32_t *count, struct weir_error *err) {
    struct weir_dataset *dataset = node->dataset;
    if (dataset->duties == NULL || *count == 0) {
        return WEIR_OK;
    }
    struct change_split split;
    int32_t kept = 0;
    *count = change_split(node, sel, *count, &split);
    int rc = weir_delta_duties_judge(dataset->duties, batch, sel, *count, node->verdict, err);
    for (int32_t i = 0; rc == WEIR_OK && i < *count; i++) {
        if (node->verdict[i] == 0) {
            sel[kept++] = sel[i];
            continue;
        }
        rc = node_reject(node, sel[i], dataset->duty_tallies[node->verdict[i] - 1], NULL);
        if (rc != WEIR_OK) {
            weir_error_set(err, rc, "%s: too many reasons", node->name);
        }
    }
    *count = rc == WEIR_OK ? kept : *count;
    *count = change_join(node, flow, &split, sel, *count);
    return rc == WEIR_OK ? rc : weir_error_wrap(err, "%s", node->name);
}

/* The row, as JSON, where a row that did not decode has its bytes. */
static int put_away(struct weir_graph *graph, int32_t source, struct weir_batch *batch, int32_t row,
                    const char *reason, struct weir_buffer *json, struct weir_error *err) {
    weir_buffer_clear(json);
    int rc = weir_delta_row_json(batch, row, json);
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: a refused row does not fit as JSON",
                              graph->datasets[source]->name);
    }
    const struct weir_column *meta = &batch->columns[batch->column_count - WEIR_META_COUNT];
    char topic[256] = "";
    if (!weir_column_is_null(&meta[WEIR_META_TOPIC], row)) {
        int32_t length;
        const char *text = weir_column_bytes(&meta[WEIR_META_TOPIC], row, &length);
        size_t room = (size_t)length < sizeof(topic) - 1 ? (size_t)length : sizeof(topic) - 1;
        memcpy(topic, text, room);
    }
    struct raw_row raw = {
        .bytes = json->data,
        .size = json->size,
        .topic = topic,
        .partition = ((const int32_t *)meta[WEIR_META_PARTITION].values)[row],
        .offset = ((const int64_t *)meta[WEIR_META_OFFSET].values)[row],
    };
    return quarantine_raw(graph, &graph->source_quarantines[source], &raw, reason, NULL, err);
}

int duties_apply_source(struct weir_graph *graph, int32_t source, struct weir_batch *batch,
                        int32_t *sel, int32_t *count, struct weir_error *err) {
    struct weir_dataset *dataset = graph->datasets[source];
    uint8_t verdict[ROWS_MAX];
    struct weir_buffer json;
    int32_t kept = 0;
    int rc = weir_delta_duties_judge(dataset->duties, batch, sel, *count, verdict, err);
    weir_buffer_init(&json, 16 << 20);
    for (int32_t i = 0; rc == WEIR_OK && i < *count; i++) {
        if (verdict[i] == 0) {
            sel[kept++] = sel[i];
            continue;
        }
        int32_t tally = dataset->duty_tallies[verdict[i] - 1];
        dataset->counters.quarantined++;
        dataset->counters.tallies[tally].rejected++;
        rc = put_away(graph, source, batch, sel[i], dataset->counters.tallies[tally].name, &json,
                      err);
    }
    weir_buffer_fini(&json);
    *count = kept;
    return rc == WEIR_OK ? quarantine_flush(graph, &graph->source_quarantines[source], err)
                         : weir_error_wrap(err, "%s", dataset->name);
}
