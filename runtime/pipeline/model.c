/* A model: keyed aggregation over windows. Rows are judged and fed in order; windows the watermark
 * has closed are emitted in chunks, derived, tested and passed on as rows of their own. A chunk is
 * always FIRED_ROWS rows, but for the last, so what leaves does not tell how long a slice was. */
#include <stdlib.h>
#include <string.h>

#include "lake/delta/table.h"
#include "pipeline/node.h"
#include "pipeline/over.h"

enum { FIRED_BYTES_MAX = 64 << 20 };

static int one_column(const char *name, const struct weir_field *type, struct weir_schema **out) {
    struct weir_schema *schema = weir_schema_create();
    if (schema == NULL) {
        return WEIR_E_NOMEM;
    }
    *out = schema;
    int rc = weir_schema_add(schema, type);
    if (rc == WEIR_OK) {
        free(schema->fields[0].name);
        schema->fields[0].name = strdup(name);
        schema->fields[0].nullable = true;
        rc = schema->fields[0].name == NULL ? WEIR_E_NOMEM : WEIR_OK;
    }
    return rc;
}

static int init_measure(struct weir_node *node, int32_t m, struct weir_measure *measure,
                        struct weir_error *err) {
    const struct weir_plan_measure *plan = &node->model->measures[m];
    measure->name = plan->name;
    measure->share = plan->share;
    measure->most = plan->most;
    node->measure_columns[m] = -1;
    node->order_columns[m] = -1;
    if (plan->order != NULL) {
        node->order_columns[m] = weir_schema_find(node->input, plan->order);
        if (node->order_columns[m] < 0) {
            return weir_error_set(err, WEIR_E_CONFIG, "measure %s: no column '%s'", plan->name,
                                  plan->order);
        }
    }
    if (!weir_measure_kind_parse(plan->kind, &measure->kind)) {
        return weir_error_set(err, WEIR_E_BUG, "measure %s: unknown kind '%s'", plan->name,
                              plan->kind);
    }
    const struct weir_field *type = &plan->input;
    if (plan->column != NULL) {
        node->measure_columns[m] = weir_schema_find(node->input, plan->column);
        if (node->measure_columns[m] < 0) {
            return weir_error_set(err, WEIR_E_CONFIG, "measure %s: no column '%s'", plan->name,
                                  plan->column);
        }
        type = &node->input->fields[node->measure_columns[m]];
    } else if (model_is_aggregate(node, m)) {
        int rc = model_aggregate_init(node, m, measure, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    } else if (plan->function >= 0) {
        int rc = one_column(plan->name, type, &node->measure_schemas[m]);
        if (rc != WEIR_OK) {
            return weir_error_set(err, rc, "out of memory");
        }
        rc = outs_create(node->measure_schemas[m], &node->measure_outs[m], err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    if (plan->column != NULL || (plan->function >= 0 && !model_is_aggregate(node, m))) {
        measure->has_input = true;
        measure->type = type->type;
        measure->precision = type->precision;
        measure->scale = type->scale;
    }
    if (plan->where >= 0 || plan->over_us > 0) {
        node->masks[m] = calloc(ROWS_MAX, 1);
        if (node->masks[m] == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
        }
    }
    return WEIR_OK;
}

int model_calendar(const struct weir_plan_model *model, struct weir_calendar *room,
                   const struct weir_calendar **calendar, struct weir_error *err) {
    enum weir_calendar_unit unit;
    *calendar = NULL;
    if (model->calendar_unit == NULL) {
        return WEIR_OK;
    }
    *calendar = room;
    return weir_calendar_unit_parse(model->calendar_unit, &unit)
               ? weir_calendar_init(room, unit, model->calendar_week_start, model->calendar_zone,
                                    err)
               : weir_error_set(err, WEIR_E_BUG, "no calendar unit '%s'", model->calendar_unit);
}

/* The columns of what comes before `top`: all but its rank. */
static int make_fired_schema(struct weir_node *node, struct weir_error *err) {
    const struct weir_schema *output = node->model->output;
    int32_t count = output->count - (node->model->top.rank != NULL);
    node->fired_schema = weir_schema_create();
    int rc = node->fired_schema != NULL ? WEIR_OK : WEIR_E_NOMEM;
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        rc = weir_schema_add(node->fired_schema, &output->fields[i]);
    }
    return rc == WEIR_OK ? rc : weir_error_set(err, rc, "out of memory");
}

static int init_aggregate(struct weir_node *node, struct weir_error *err) {
    const struct weir_plan_model *model = node->model;
    struct weir_measure *measures = calloc((size_t)model->measure_count + 1, sizeof(*measures));
    int64_t *over_us = calloc((size_t)model->measure_count + 1, sizeof(*over_us));
    int32_t *by = calloc((size_t)model->by_count + 1, sizeof(*by));
    bool merges = false;
    int rc = measures == NULL || over_us == NULL || by == NULL
                 ? weir_error_set(err, WEIR_E_NOMEM, "out of memory")
                 : WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < model->by_count; i++) {
        by[i] = weir_schema_find(node->input, model->by[i]);
        if (by[i] < 0) {
            rc = weir_error_set(err, WEIR_E_CONFIG, "by: no column '%s'", model->by[i]);
        }
    }
    for (int32_t m = 0; rc == WEIR_OK && m < model->measure_count; m++) {
        rc = init_measure(node, m, &measures[m], err);
        merges = merges || model_is_aggregate(node, m);
        over_us[m] = model->measures[m].over_us;
    }
    struct weir_calendar room;
    const struct weir_calendar *calendar = NULL;
    if (rc == WEIR_OK) {
        rc = model_calendar(model, &room, &calendar, err);
    }
    if (rc == WEIR_OK) {
        struct weir_aggregate_config config = {
            .declaration = node->name,
            .input = node->input,
            .by = by,
            .by_count = model->by_count,
            .size_us = model->window_size_us,
            .calendar = calendar,
            .gap_us = model->window_gap_us,
            .rows = model->window_rows,
            .every_us = model->window_every_us,
            .cumulate = model->window_cumulates,
            .lateness_us = model->allowed_lateness_us,
            .unwindowed = model->unwindowed,
            .updates = model->updates,
            .refires = model->refires,
            .delays = model->emit_every_us != 0,
            .retracts = model->retracts || model->forgets,
            .over_us = over_us,
            .measures = measures,
            .measure_count = model->measure_count,
            .merge = merges ? model_merge_states : NULL,
            .merge_context = node,
            .state_version = 1,
            .max_bytes = (size_t)node->graph->plan->state_bytes,
            .option = "memory.state",
            .disk = node->graph->disk,
            .disk_signal = node->graph->answers_signal,
        };
        node->aggregate = weir_aggregate_create(&config, err);
        rc = node->aggregate == NULL ? (err != NULL ? err->code : WEIR_E_NOMEM) : WEIR_OK;
    }
    if (rc == WEIR_OK) {
        rc = weir_batch_builder_init(&node->fired, node->graph->pool,
                                     weir_aggregate_output(node->aggregate), ROWS_MAX,
                                     FIRED_BYTES_MAX, err);
        node->has_fired = rc == WEIR_OK;
    }
    if (rc == WEIR_OK) {
        rc = over_init(node, by, err);
    }
    free(measures);
    free(over_us);
    free(by);
    return rc;
}

int model_init(struct weir_node *node, struct weir_error *err) {
    const struct weir_plan_model *model = node->model;
    size_t measures = (size_t)model->measure_count + 1;
    size_t derives = (size_t)model->derive_count + 1;
    node->measure_columns = calloc(measures, sizeof(*node->measure_columns));
    node->measure_schemas = calloc(measures, sizeof(struct weir_schema *));
    node->measure_outs = calloc(measures, sizeof(struct weir_out **));
    node->result_schemas = calloc(measures, sizeof(struct weir_schema *));
    node->result_outs = calloc(measures, sizeof(struct weir_out **));
    node->masks = calloc(measures, sizeof(uint8_t *));
    node->inputs = calloc(measures, sizeof(struct weir_column *));
    node->order_columns = calloc(measures, sizeof(*node->order_columns));
    node->orders = calloc(measures, sizeof(struct weir_column *));
    node->derive_schemas = calloc(derives, sizeof(struct weir_schema *));
    node->derive_outs = calloc(derives, sizeof(struct weir_out **));
    node->late_sel = calloc(ROWS_MAX, sizeof(*node->late_sel));
    node->downstream_watermark = WEIR_WATERMARK_NONE;
    int rc = WEIR_OK;
    if (node->measure_columns == NULL || node->measure_schemas == NULL ||
        node->measure_outs == NULL || node->result_schemas == NULL || node->result_outs == NULL ||
        node->masks == NULL || node->inputs == NULL || node->order_columns == NULL ||
        node->orders == NULL || node->derive_schemas == NULL || node->derive_outs == NULL ||
        node->late_sel == NULL) {
        rc = weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    if (rc == WEIR_OK) {
        rc = make_fired_schema(node, err);
    }
    bool whole_rows = model->measure_count == 0 && model->top.present;
    if (rc == WEIR_OK && !whole_rows) {
        rc = init_aggregate(node, err);
    }
    if (rc == WEIR_OK && model->top.present) {
        rc = model_top_init(node, err);
    }
    int32_t first = rc == WEIR_OK ? node->fired_schema->count - model->derive_count : 0;
    for (int32_t d = 0; rc == WEIR_OK && d < model->derive_count; d++) {
        const struct weir_field *field = &model->output->fields[first + d];
        rc = one_column(field->name, field, &node->derive_schemas[d]);
        rc = rc == WEIR_OK ? outs_create(node->derive_schemas[d], &node->derive_outs[d], err)
                           : weir_error_set(err, rc, "out of memory");
    }
    if (rc == WEIR_OK) {
        rc = checks_init(&node->tests, &model->tests, model->output, node->dataset, err);
    }
    return rc == WEIR_OK ? rc : weir_error_wrap(err, "%s", node->name);
}

void model_fini(struct weir_node *node) {
    held_fini(node);
    const struct weir_plan_model *model = node->model;
    for (int32_t m = 0; m < model->measure_count; m++) {
        if (node->measure_outs != NULL) {
            outs_destroy(node->measure_outs[m],
                         node->measure_schemas != NULL && node->measure_schemas[m] != NULL
                             ? node->measure_schemas[m]->count
                             : 0);
        }
        if (node->measure_schemas != NULL) {
            weir_schema_unref(node->measure_schemas[m]);
        }
        if (node->masks != NULL) {
            free(node->masks[m]);
        }
    }
    for (int32_t d = 0; d < model->derive_count; d++) {
        if (node->derive_outs != NULL) {
            outs_destroy(node->derive_outs[d], 1);
        }
        if (node->derive_schemas != NULL) {
            weir_schema_unref(node->derive_schemas[d]);
        }
    }
    model_aggregate_fini(node);
    free(node->measure_columns);
    free(node->measure_schemas);
    free(node->measure_outs);
    free(node->masks);
    free((void *)node->inputs);
    free(node->order_columns);
    free((void *)node->orders);
    free(node->derive_schemas);
    free(node->derive_outs);
    free(node->late_sel);
    checks_fini(&node->tests);
    if (node->has_fired) {
        weir_batch_builder_fini(&node->fired);
    }
    over_fini(node);
    weir_aggregate_destroy(node->aggregate);
    model_top_fini(node);
    weir_schema_unref(node->fired_schema);
}

/* --- feeding --------------------------------------------------------------------------------- */

struct value_offence {
    struct weir_node *node;
    struct out_columns *out;
    struct weir_out **outs;
    const int32_t *sel;
    bool reject; /* else: the value is null and counted (derive) */
    int rc;
};

static void value_offender(void *context, int32_t position, const char *message, bool touched) {
    struct value_offence *offence = context;
    int32_t row = offence->sel[position];
    if (touched) {
        out_clear_row(offence->out, offence->outs, row);
    }
    if (!offence->reject) {
        offence->node->dataset->counters.derive_errors++;
        return;
    }
    if (offence->node->worst[position] == 0 && offence->rc == WEIR_OK) {
        offence->rc = node_reject(offence->node, row, TALLY_MAP, message);
    }
    offence->node->worst[position] = 1;
}

int model_compute(struct weir_node *node, int32_t function, struct weir_batch *owner,
                  const struct weir_schema *schema, struct weir_out **outs, const int32_t *sel,
                  int32_t count, int32_t rows, bool reject, struct weir_column *columns,
                  struct weir_error *err) {
    struct out_columns out;
    int rc = out_begin(owner, schema, outs, rows, NULL, &out);
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: the memory cap is reached", node->name);
    }
    struct weir_call call = {
        .in = node->in,
        .out = out.columns,
        .out_var = outs,
        .sel = sel,
        .end = count,
        .rows = rows,
        .assigned = out.assigned,
    };
    struct value_offence offence = {node, &out, outs, sel, reject, WEIR_OK};
    int32_t breached_at;
    rc = node_call(node, function, &call, value_offender, &offence, &breached_at, err);
    if (rc == WEIR_OK) {
        rc = offence.rc;
    }
    for (int32_t i = breached_at; rc == WEIR_OK && i < count; i++) {
        out_clear_row(&out, outs, sel[i]);
        if (reject && node->worst[i] == 0) {
            node->worst[i] = 1;
            rc = node_reject(node, sel[i], TALLY_BUDGET, node->dataset->breach_text);
        }
    }
    if (rc == WEIR_OK) {
        rc = out_finish(owner, outs, &out);
        memcpy(columns, out.columns, (size_t)schema->count * sizeof(*columns));
    }
    return rc;
}

/* Values and masks of all measures; rows a function threw on leave sel, and the masks follow. */
static int measure_inputs(struct weir_node *node, const struct weir_flow *flow,
                          struct weir_batch *owner, int32_t *sel, int32_t *count,
                          struct weir_error *err) {
    const struct weir_plan_model *model = node->model;
    struct weir_column *computed =
        weir_batch_alloc(owner, ((size_t)model->measure_count + 1) * sizeof(*computed));
    if (computed == NULL) {
        return weir_error_set(err, WEIR_E_LIMIT, "%s: the memory cap is reached", node->name);
    }
    int rc = WEIR_OK;
    memset(node->worst, 0, (size_t)*count);
    for (int32_t m = 0; rc == WEIR_OK && m < model->measure_count; m++) {
        const struct weir_plan_measure *plan = &model->measures[m];
        node->inputs[m] = NULL;
        node->orders[m] =
            node->order_columns[m] >= 0 ? &flow->batch->columns[node->order_columns[m]] : NULL;
        if (node->measure_columns[m] >= 0) {
            node->inputs[m] = &flow->batch->columns[node->measure_columns[m]];
        } else if (model_is_aggregate(node, m)) {
            rc =
                model_add_states(node, m, owner, sel, *count, flow->batch->rows, &computed[m], err);
            node->inputs[m] = &computed[m];
        } else if (plan->function >= 0) {
            rc = model_compute(node, plan->function, owner, node->measure_schemas[m],
                               node->measure_outs[m], sel, *count, flow->batch->rows, true,
                               &computed[m], err);
            node->inputs[m] = &computed[m];
        }
        if (rc == WEIR_OK && plan->where < 0 && node->masks[m] != NULL) {
            memset(node->masks[m], 1, (size_t)*count);
        } else if (rc == WEIR_OK && plan->where >= 0) {
            rc = node_predicate(node, plan->where, flow->batch, sel, *count, node->masks[m],
                                TALLY_WHERE, err);
            for (int32_t i = 0; rc == WEIR_OK && i < *count; i++) {
                if (node->masks[m][i] >= 4 && node->worst[i] == 0) {
                    node->worst[i] = 1;
                    node->dataset->counters.tallies[TALLY_WHERE].rejected++;
                    node->dataset->counters.quarantined++;
                    node->rejected[node->rejected_count++] = sel[i];
                }
                node->masks[m][i] = node->masks[m][i] == 1;
            }
        }
    }
    int32_t kept = 0;
    for (int32_t i = 0; i < *count; i++) {
        if (node->worst[i] != 0) {
            continue;
        }
        if (kept != i) {
            sel[kept] = sel[i];
            for (int32_t m = 0; m < model->measure_count; m++) {
                if (node->masks[m] != NULL) {
                    node->masks[m][kept] = node->masks[m][i];
                }
            }
        }
        kept++;
    }
    *count = kept;
    return rc;
}

static const struct {
    int64_t bound_us;
    const char *text;
} late_buckets[WEIR_LATE_BUCKETS] = {
    {INT64_C(1000000), "1s"},    {INT64_C(10000000), "10s"},  {INT64_C(60000000), "1m"},
    {INT64_C(600000000), "10m"}, {INT64_C(3600000000), "1h"}, {INT64_C(86400000000), "1d"},
    {INT64_MAX, "more"},
};

int64_t weir_late_bound_us(int32_t bucket) {
    return late_buckets[bucket].bound_us;
}

const char *weir_late_bound_text(int32_t bucket) {
    return late_buckets[bucket].text;
}

static void count_late(struct weir_counters *counters, const int32_t *rows, int32_t count,
                       const int64_t *times, const int64_t *wm_before) {
    for (int32_t i = 0; i < count; i++) {
        int64_t behind;
        if (__builtin_sub_overflow(wm_before[rows[i]], times[rows[i]], &behind)) {
            behind = INT64_MAX / 2;
        }
        int32_t bucket = 0;
        while (behind > late_buckets[bucket].bound_us) {
            bucket++;
        }
        counters->late_by[bucket]++;
        counters->late_us = weir_time_add(counters->late_us, behind);
    }
}

static int feed(struct weir_node *node, const struct weir_flow *flow, struct weir_batch *owner,
                int32_t *sel, int32_t count, const int64_t *times, const int64_t *wm_before,
                struct weir_error *err) {
    const struct weir_plan_model *model = node->model;
    struct weir_counters *counters = &node->dataset->counters;
    if (node->dedup != NULL) {
        int rc = weir_dedup_feed(node->dedup, flow->batch, sel, count, times, wm_before,
                                 node->duplicate, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        int32_t kept = 0;
        for (int32_t i = 0; i < count; i++) {
            if (!node->duplicate[i]) {
                sel[kept++] = sel[i];
            }
        }
        counters->duplicates += count - kept;
        count = kept;
    }
    int32_t late = 0;
    int rc =
        node->aggregate != NULL ? measure_inputs(node, flow, owner, sel, &count, err) : WEIR_OK;
    if (rc == WEIR_OK && node->aggregate == NULL) {
        rc = weir_top_feed(node->top, flow->batch, sel, count, times, wm_before, node->late_sel,
                           &late, err);
    } else if (rc == WEIR_OK) {
        if (model->retracts) {
            change_signs(node, flow);
        }
        weir_aggregate_set_clock(node->aggregate, node->graph->clock_us);
        int32_t none; /* without a window only over_take knows late rows */
        if (node->over != NULL) {
            rc = over_take(node, flow->batch, sel, &count, times, wm_before, node->late_sel, &late,
                           err);
        }
        if (rc == WEIR_OK) {
            rc = weir_aggregate_feed_changes(node->aggregate, flow->batch, sel, count, times,
                                             wm_before, model->retracts ? node->signs : NULL,
                                             node->inputs, node->orders,
                                             (const uint8_t *const *)node->masks, node->late_sel,
                                             node->over != NULL ? &none : &late, err);
        }
    }
    counters->late += late;
    count_late(counters, node->late_sel, late, times, wm_before);
    if (rc == WEIR_OK && late > 0 && node->late != NULL) {
        node->late->counters.in += late;
        node->late->counters.out += late;
        rc = node->graph->callbacks.output(node->graph->callbacks.context, node->late, flow->batch,
                                           node->late_sel, late, err);
    }
    return rc;
}

/* --- firing ---------------------------------------------------------------------------------- */

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
        int32_t late; /* none: the windows are over */
        rc = weir_top_feed(node->top, out, node->sel2, count, NULL, NULL, node->late_sel, &late,
                           err);
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
    if (node->aggregate == NULL) {
        return model_top_changes(node, timed, watermark_us, done, err);
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

/* A slice of them now, the others in turns to come. */
static int begin_leaving(struct weir_node *node, bool timed, int64_t watermark_us,
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

static int go_on_leaving(struct weir_node *node, struct weir_error *err) {
    bool done;
    int rc = leave_some(node, node->unsaid_timed, node->downstream_watermark, &done, err);
    node->unsaid = rc != WEIR_OK || !done;
    return rc;
}

int model_process(struct weir_node *node, const struct weir_flow *flow, struct weir_error *err) {
    int32_t *sel = node->sel;
    int32_t count = 0;
    const int64_t *times;
    const int64_t *wm_before;
    int64_t watermark;
    struct weir_batch *owner = weir_batch_create(node->graph->pool, node->input);
    if (owner == NULL) {
        return weir_error_set(err, WEIR_E_LIMIT, "%s: the memory cap is reached", node->name);
    }
    int rc = WEIR_OK;
    while (rc == WEIR_OK && node->unsaid) { /* rows of another dataset it reads, say */
        rc = go_on_leaving(node, err);
    }
    if (rc == WEIR_OK && flow->count > 0) {
        rc = node_view(node, flow->batch, owner, err);
    }
    if (rc == WEIR_OK && node->aggregate != NULL) {
        rc = weir_aggregate_settle(node->aggregate, node->last_watermark, err);
    }
    if (rc == WEIR_OK) {
        rc = node_enter(node, flow, sel, &count, &times, &wm_before, &watermark, err);
    }
    if (rc == WEIR_OK && count > 0) {
        if (times == NULL && (!node->model->unwindowed || node->model->forgets)) {
            rc = weir_error_set(err, WEIR_E_CONFIG,
                                "%s: no event time reaches this model; declare `time` here or "
                                "upstream",
                                node->name);
        } else {
            rc = feed(node, flow, owner, sel, count, times, wm_before, err);
        }
    }
    if (rc == WEIR_OK) {
        rc = node_leave(node, flow, err);
    }
    weir_batch_unref(owner);
    bool changes = node->model->unwindowed || node->model->updates;
    if (rc == WEIR_OK && count > 0 && changes && node->model->emit_every_us == 0) {
        rc = begin_leaving(node, times != NULL, watermark, err);
    }
    if (rc == WEIR_OK) {
        rc = model_advance(node, watermark, err);
    }
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
    int rc = node->unsaid            ? go_on_leaving(node, err)
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
