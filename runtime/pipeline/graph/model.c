/* A model: keyed aggregation over windows. Rows are judged and fed in order; what leaves is in
 * model_fire.c. */
#include <stdlib.h>
#include <string.h>

#include "pipeline/graph/node.h"
#include "pipeline/graph/over.h"

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

/* The columns of what comes before `top`: all but its rank, behind which of a top of measures that
 * change `_change` stands; before it stands behind them, where derives see it. */
static int make_fired_schema(struct weir_node *node, struct weir_error *err) {
    const struct weir_plan_model *model = node->model;
    const struct weir_schema *output = model->output;
    bool moved = model->measure_count > 0 && model->top.present &&
                 (model->unwindowed || (model->updates && !model->refires));
    int32_t count = output->count - (model->top.rank != NULL) - moved;
    int32_t change_at = moved ? count - model->derive_count : -1;
    node->fired_schema = weir_schema_create();
    int rc = node->fired_schema != NULL ? WEIR_OK : WEIR_E_NOMEM;
    for (int32_t i = 0; i <= count && rc == WEIR_OK; i++) {
        if (i == change_at) {
            rc = weir_schema_add(node->fired_schema, &output->fields[output->count - 1]);
        }
        if (rc == WEIR_OK && i < count) {
            rc = weir_schema_add(node->fired_schema, &output->fields[i]);
        }
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
            .version = model->version,
            .steps = model->migrates,
            .step_count = model->migrate_count,
            .renamed = model->renamed,
            .renamed_count = model->renamed_count,
            .migrate = model->migrate >= 0 ? model_migrate_groups : NULL,
            .migrate_context = node,
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
    if (rc == WEIR_OK && model->migrate >= 0) {
        rc = model_migrate_init(node, err);
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
        const struct weir_field *field = &node->fired_schema->fields[first + d];
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
    model_migrate_fini(node);
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
    if (rc == WEIR_OK && model->retracts) {
        change_signs(node, flow);
    }
    if (rc == WEIR_OK && node->aggregate == NULL) {
        struct weir_top_rows rows = {.batch = flow->batch,
                                     .sel = sel,
                                     .count = count,
                                     .times_us = times,
                                     .watermark_before_us = wm_before,
                                     .signs = model->retracts ? node->signs : NULL};
        rc = weir_top_feed(node->top, &rows, node->late_sel, &late, err);
    } else if (rc == WEIR_OK) {
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
        rc = model_go_on_leaving(node, err);
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
        rc = model_begin_leaving(node, times != NULL, watermark, err);
    }
    if (rc == WEIR_OK) {
        rc = model_advance(node, watermark, err);
    }
    return rc;
}
