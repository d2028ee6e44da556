/* What leaves a model: windows the watermark has closed, in chunks, and what changed of rows that
 * do. They are derived, tested and passed on as rows of their own. A chunk is always FIRED_ROWS
 * rows, but for the last, so what leaves does not tell how long a slice was. */
#include <string.h>

#include "batch/change.h"
#include "lake/delta/table.h"
#include "pipeline/graph/node.h"
#include "pipeline/graph/over.h"

/* Rows a test refused: there is no row as it entered, so the row that would have left is kept as
 * JSON in _raw. */
static int quarantine_fired(struct weir_node *node, struct weir_batch *out,
                            struct weir_error *err) {
    struct weir_buffer json;
    weir_buffer_init(&json, 1 << 20);
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < node->rejected_count; i++) {
        weir_buffer_clear(&json);
        rc = weir_delta_row_json(out, node->rejected[i], &json);
        struct raw_row raw = {.bytes = json.data, .size = json.size};
        if (rc == WEIR_OK) {
            rc = quarantine_noted_raw(node, node->rejected[i], &raw, err);
        }
    }
    weir_buffer_fini(&json);
    for (int32_t i = 0; i < node->noted_count; i++) {
        node->note_head[node->noted_rows[i]] = -1;
    }
    node->noted_count = node->note_count = node->rejected_count = 0;
    weir_buffer_clear(&node->graph->texts);
    return rc == WEIR_OK ? quarantine_flush(node->graph, &node->quarantine, err) : rc;
}

/* Rows for which `having` is not true stay: windows' are filtered, of changes see change.c. */
static int apply_having(struct weir_node *node, struct weir_batch *out, int32_t *count,
                        struct weir_error *err) {
    int32_t before = *count;
    int rc = node_view(node, out, out, err);
    if (rc == WEIR_OK) {
        rc = node_predicate(node, node->model->having, out, node->sel2, *count, node->verdict, -1,
                            err);
    }
    if (rc == WEIR_OK && change_having(out, node->verdict, node->sel2, count) != WEIR_OK) {
        rc = weir_error_set(err, WEIR_E_LIMIT, "%s: the memory cap is reached", node->name);
    }
    node->dataset->counters.filtered += before - *count;
    return rc;
}

int model_leave(struct weir_node *node, struct weir_batch *out, int32_t count,
                const int64_t *row_times, int64_t watermark_us, struct weir_error *err) {
    int64_t times[ROWS_MAX];
    int64_t before[ROWS_MAX];
    const int64_t *ends = node->model->unwindowed
                              ? NULL
                              : out->columns[weir_schema_find(out->schema, "window_end")].values;
    bool timed = ends != NULL || row_times != NULL;
    for (int32_t i = 0; timed && i < out->rows; i++) {
        times[i] = ends != NULL ? ends[i] - 1 : row_times[i];
        before[i] = node->downstream_watermark;
    }
    struct weir_flow flow = {
        .batch = out,
        .sel = node->sel2,
        .count = count,
        .times_us = timed ? times : NULL,
        .watermark_before_us = timed ? before : NULL,
        .watermark_us = watermark_us,
        .source = -1,
        .partition = node->name,
    };
    int rc = node->tests.any_function ? node_view(node, out, out, err) : WEIR_OK;
    if (rc == WEIR_OK) {
        rc = checks_apply(node, &node->tests, out, &flow, node->sel2, &count, err);
    }
    if (rc == WEIR_OK) {
        rc = duties_apply(node, out, &flow, node->sel2, &count, err);
    }
    if (rc == WEIR_OK) {
        rc = quarantine_fired(node, out, err);
    }
    flow.count = count;
    return rc == WEIR_OK ? graph_emit(node->graph, node->dataset, &flow, err) : rc;
}

/* What the windows made, or what became of groups, is to be ranked. */
static int feed_top(struct weir_node *node, const struct weir_batch *out, int32_t count,
                    const int64_t *row_times, struct weir_error *err) {
    int8_t signs[ROWS_MAX];
    int32_t late; /* none: the windows are over, or open */
    struct weir_top_rows rows = {
        .batch = out, .sel = node->sel2, .count = count, .times_us = row_times};
    if (model_top_retracts(node)) {
        const struct weir_column *changes =
            &out->columns[weir_schema_find(out->schema, WEIR_CHANGE_COLUMN)];
        for (int32_t i = 0; i < count; i++) {
            int32_t row = node->sel2[i];
            signs[row] = weir_change_takes_back(weir_change_read(changes, row)) ? -1 : 1;
        }
        rows.signs = signs;
    }
    return weir_top_feed(node->top, &rows, node->late_sel, &late, err);
}

/* Rows of the aggregate: derives, having; then they leave, or wait for the rest of their window to
 * be ranked. row_times: of rows without a window; NULL where no event time is known. */
static int finish_fired(struct weir_node *node, struct weir_batch *fired, const int64_t *row_times,
                        int64_t watermark_us, struct weir_error *err) {
    const struct weir_plan_model *model = node->model;
    struct weir_batch *out = weir_batch_create(node->graph->pool, node->fired_schema);
    if (out == NULL) {
        return weir_error_set(err, WEIR_E_LIMIT, "%s: the memory cap is reached", node->name);
    }
    out->rows = fired->rows;
    int32_t count = fired->rows;
    int32_t given = fired->column_count;
    int rc = WEIR_OK;
    for (int32_t c = 0; rc == WEIR_OK && c < given; c++) {
        rc = weir_batch_borrow(out, c, fired, c);
    }
    for (int32_t i = 0; i < count; i++) {
        node->sel2[i] = i;
    }
    if (rc == WEIR_OK && node->aggregate != NULL) {
        rc = model_finish_states(node, out, count, err);
    }
    for (int32_t d = 0; rc == WEIR_OK && d < model->derive_count; d++) {
        rc = node_view(node, out, out, err);
        if (rc == WEIR_OK) {
            rc = model_compute(node, model->derives[d].function, out, node->derive_schemas[d],
                               node->derive_outs[d], node->sel2, count, count, false,
                               &out->columns[given + d], err);
        }
    }
    if (rc == WEIR_OK && model->having >= 0) {
        rc = apply_having(node, out, &count, err);
    }
    if (rc == WEIR_OK && node->top != NULL) {
        rc = feed_top(node, out, count, row_times, err);
    } else if (rc == WEIR_OK) {
        rc = model_leave(node, out, count, row_times, watermark_us, err);
    }
    weir_batch_unref(out);
    return rc;
}

/* What the rows just fed, or those of an interval that is over, did to a model whose rows change: a
 * slice of it. */
static int leave_some(struct weir_node *node, bool timed, int64_t watermark_us, bool *done,
                      struct weir_error *err) {
    int64_t times[ROWS_MAX];
    if (node->aggregate == NULL || node->ranking) {
        int rc = model_top_changes(node, timed, watermark_us, done, err);
        node->ranking = node->ranking && (rc != WEIR_OK || !*done);
        return rc;
    }
    int rc = weir_batch_builder_begin(&node->fired);
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: the memory cap is reached", node->name);
    }
    rc = weir_aggregate_changes(node->aggregate, &node->fired, CHANGED_ROWS, times, done, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    struct weir_batch *fired = weir_batch_builder_take(&node->fired);
    if (fired->rows > 0) {
        rc = finish_fired(node, fired, timed && times[0] != INT64_MIN ? times : NULL, watermark_us,
                          err);
    }
    weir_batch_unref(fired);
    if (rc == WEIR_OK && *done && node->top != NULL) { /* all is fed: what became of the ranks */
        node->ranking = true;
        *done = false;
    }
    return rc;
}

static int leave_changes(struct weir_node *node, bool timed, int64_t watermark_us,
                         struct weir_error *err) {
    bool done = false;
    int rc = WEIR_OK;
    while (rc == WEIR_OK && !done) {
        rc = leave_some(node, timed, watermark_us, &done, err);
    }
    return rc;
}

static void start(struct weir_node *node) {
    if (!node->firing) {
        node->firing = true;
        node->graph->firing++;
    }
}

int model_begin_leaving(struct weir_node *node, bool timed, int64_t watermark_us,
                        struct weir_error *err) {
    bool done;
    int rc = leave_some(node, timed, watermark_us, &done, err);
    if (rc == WEIR_OK && !done) {
        node->unsaid = true;
        node->unsaid_timed = timed;
        start(node);
    }
    return rc;
}

int model_go_on_leaving(struct weir_node *node, struct weir_error *err) {
    bool done;
    int rc = leave_some(node, node->unsaid_timed, node->downstream_watermark, &done, err);
    node->unsaid = rc != WEIR_OK || !done;
    return rc;
}

/* Every window before the watermark is out: what reads this model may go on. */
static int pass_watermark(struct weir_node *node, struct weir_error *err) {
    bool advanced = node->advanced;
    int64_t watermark_us = node->last_watermark;
    node->advanced = false;
    if (!advanced || watermark_us == WEIR_WATERMARK_NONE) {
        return WEIR_OK;
    }
    /* Every window not emitted yet ends after watermark - lateness. */
    node->downstream_watermark =
        watermark_us == WEIR_WATERMARK_END
            ? watermark_us
            : weir_time_add(watermark_us, -node->model->allowed_lateness_us);
    return node_advance(node, node->downstream_watermark, err);
}

static bool closes_windows(const struct weir_node *node) {
    return node->fired_begun ||
           (node->aggregate != NULL && weir_aggregate_ready(node->aggregate, node->last_watermark));
}

static bool fires(const struct weir_node *node) {
    return closes_windows(node) || model_top_ready(node) || over_ready(node);
}

/* What waits for its interval (`all`: for any) leaves. */
static bool starts_telling(struct weir_node *node, bool all) {
    int64_t every_us = node->model->emit_every_us;
    all = all || node->input_over;
    if (every_us != 0 && weir_aggregate_due(node->aggregate, all ? 0 : every_us)) {
        node->telling = true;
    }
    return node->telling;
}

void model_tick(struct weir_node *node) {
    if (node->model->emit_every_us != 0 && !node->firing) {
        weir_aggregate_set_clock(node->aggregate, node->graph->clock_us);
        if (starts_telling(node, false)) {
            start(node);
        }
    }
}

void model_end(struct weir_node *node) {
    node->input_over = true;
    if (starts_telling(node, true)) {
        start(node);
    }
}

int model_advance(struct weir_node *node, int64_t watermark_us, struct weir_error *err) {
    int rc = node->aggregate != NULL
                 ? weir_aggregate_settle(node->aggregate, node->last_watermark, err)
                 : WEIR_OK;
    if (rc != WEIR_OK) {
        return rc;
    }
    over_advance(node, watermark_us);
    node->advanced = node->advanced || watermark_us != node->last_watermark;
    node->last_watermark = watermark_us;
    if (node->firing) {
        return WEIR_OK;
    }
    bool over = watermark_us == WEIR_WATERMARK_END || closes_windows(node);
    if (starts_telling(node, over) || fires(node)) {
        start(node);
        return WEIR_OK;
    }
    return pass_watermark(node, err);
}

static int pass_fired(struct weir_node *node, struct weir_error *err) {
    struct weir_batch *fired = weir_batch_builder_take(&node->fired);
    node->fired_begun = false;
    int rc = fired->rows > 0 ? finish_fired(node, fired, NULL, node->downstream_watermark, err)
                             : WEIR_OK;
    weir_batch_unref(fired);
    return rc;
}

/* A slice of the aggregate's windows. */
static int fire_windows(struct weir_node *node, struct weir_error *err) {
    enum weir_fired fired;
    if (!node->fired_begun) {
        int rc = weir_batch_builder_begin_rows(&node->fired, FIRED_ROWS);
        if (rc != WEIR_OK) {
            return weir_error_set(err, rc, "%s: the memory cap is reached", node->name);
        }
        node->fired_begun = true;
    }
    int rc = weir_aggregate_fire(node->aggregate, node->last_watermark, &node->fired, FIRED_ROWS,
                                 &fired, err);
    if (rc != WEIR_OK || fired == WEIR_FIRED_SOME) {
        return rc;
    }
    if (fired == WEIR_FIRED_WAITS) {
        node->graph->awaits = node;
        return WEIR_OK;
    }
    return pass_fired(node, err);
}

/* A slice of what waited. */
static int tell(struct weir_node *node, struct weir_error *err) {
    bool done;
    int rc = node->fired_begun ? pass_fired(node, err) : WEIR_OK;
    rc = rc == WEIR_OK ? leave_some(node, true, node->downstream_watermark, &done, err) : rc;
    node->telling = rc != WEIR_OK || !done;
    return rc;
}

int model_fire(struct weir_node *node, struct weir_error *err) {
    /* A window that closes forgets its groups: what waits of them leaves before. */
    bool tells =
        !node->unsaid && (node->telling || (closes_windows(node) && starts_telling(node, true)));
    int rc = node->unsaid            ? model_go_on_leaving(node, err)
             : tells                 ? tell(node, err)
             : closes_windows(node)  ? fire_windows(node, err)
             : model_top_ready(node) ? model_top_fire(node, err)
                                     : over_fire(node, err);
    if (rc == WEIR_OK && node->over != NULL && !node->unsaid) {
        rc = leave_changes(node, true, node->last_watermark, err);
    }
    if (rc == WEIR_OK && !node->unsaid && !node->telling && !fires(node)) {
        node->firing = false;
        node->graph->firing--;
        rc = pass_watermark(node, err);
    }
    return rc;
}
