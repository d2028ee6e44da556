/* A rule: rows with keyed state, in order of event time. A row that is above the watermark waits as
 * state; what the watermark has reached is run in chunks, with the timers that are due in between.
 * Rows of the batch at hand that need not wait stay where they are: an epoch does not end while
 * they are held. Where a chunk ends changes nothing of what comes out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pipeline/graph/rule_parts.h"

struct weir_rule_state *rule_state(const struct weir_node *node) {
    return node->rule->state;
}

int32_t rule_shows(struct weir_node *node, struct weir_show *shows, int32_t capacity) {
    return weir_rule_state_shows(node->rule->state, node->rule->whole, shows, capacity);
}

/* --- life ------------------------------------------------------------------------------------- */

static int init_targets(struct weir_node *node, struct weir_error *err) {
    struct rule *rule = node->rule;
    size_t count = (size_t)rule->plan->emit_count;
    rule->targets = calloc(count + 1, sizeof(*rule->targets));
    rule->run_targets = calloc(count + 1, sizeof(*rule->run_targets));
    if (rule->targets == NULL || rule->run_targets == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    for (int32_t i = 0; i < rule->plan->emit_count; i++) {
        const struct weir_plan_emit *emit = &rule->plan->emits[i];
        struct target *target = &rule->targets[i];
        target->node = node;
        target->schema = emit->schema;
        target->dataset =
            graph_add_dataset(node->graph, emit->name, emit->schema, &emit->into, err);
        if (target->dataset == NULL) {
            return WEIR_E_NOMEM;
        }
        target->dataset->writer = node;
        int rc = outs_create(emit->schema, &target->outs, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    for (int32_t i = 0; i < EMIT_ROWS; i++) {
        rule->sel[i] = i;
    }
    return WEIR_OK;
}

static int init_state(struct weir_node *node, struct weir_error *err) {
    struct rule *rule = node->rule;
    const struct weir_plan_rule *plan = rule->plan;
    struct weir_rule_cell *cells = calloc((size_t)plan->cell_count + 1, sizeof(*cells));
    if (cells == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < plan->cell_count; i++) {
        cells[i].name = plan->cells[i].name;
        cells[i].max = (uint32_t)plan->cells[i].max;
        cells[i].fields = plan->cells[i].fields;
        if (!weir_rule_kind_parse(plan->cells[i].kind, &cells[i].kind)) {
            rc = weir_error_set(err, WEIR_E_BUG, "state %s: unknown kind '%s'", plan->cells[i].name,
                                plan->cells[i].kind);
        }
    }
    if (rc == WEIR_OK) {
        struct weir_rule_config config = {
            .declaration = node->name,
            .version = plan->version,
            .key = rule->key,
            .key_schema = rule->key_schema,
            .pool = node->graph->pool,
            .cells = cells,
            .cell_count = plan->cell_count,
            .timers = plan->timers,
            .timer_count = plan->timer_count,
            .ttl_us = plan->ttl_us,
            .ttl_by_clock = plan->ttl_by_clock,
            .steps = plan->migrates,
            .step_count = plan->migrate_count,
            .max_bytes = (size_t)node->graph->plan->state_bytes,
            .option = "memory.state",
            .disk = node->graph->disk,
            .disk_signal = node->graph->answers_signal,
        };
        rule->state = weir_rule_state_create(&config, err);
        rc = rule->state != NULL ? WEIR_OK : (err != NULL ? err->code : WEIR_E_NOMEM);
    }
    free(cells);
    return rc;
}

static int init_keys(struct weir_node *node, struct weir_error *err) {
    struct rule *rule = node->rule;
    int32_t columns[KEYS_MAX];
    rule->key_schema = weir_schema_create();
    if (rule->plan->key_count > KEYS_MAX) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "its key has %d columns, and %d are the most; make one column of "
                              "several in a stream before",
                              rule->plan->key_count, KEYS_MAX);
    }
    if (rule->key_schema == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    for (int32_t i = 0; i < rule->plan->key_count; i++) {
        columns[i] = weir_schema_find(node->input, rule->plan->key[i]);
        if (columns[i] < 0) {
            return weir_error_set(err, WEIR_E_CONFIG, "key: no column '%s'", rule->plan->key[i]);
        }
        if (weir_schema_add(rule->key_schema, &node->input->fields[columns[i]]) != WEIR_OK) {
            return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
        }
    }
    rule->key = weir_key_create(node->input, columns, rule->plan->key_count, err);
    if (rule->key == NULL) {
        return WEIR_E_CONFIG;
    }
    if (rule->plan->by_arrival) {
        return WEIR_OK;
    }
    int32_t *all = calloc((size_t)node->input->count + 1, sizeof(*all));
    for (int32_t i = 0; all != NULL && i < node->input->count; i++) {
        all[i] = i;
    }
    rule->whole =
        all != NULL ? weir_key_create_whole(node->input, all, node->input->count, err) : NULL;
    free(all);
    if (rule->whole == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    int rc = weir_batch_builder_init(&rule->builder, node->graph->pool, node->input, ROWS_MAX,
                                     BATCH_BYTES_MAX, err);
    rule->has_builder = rc == WEIR_OK;
    return rc;
}

int rule_init(struct weir_node *node, struct weir_error *err) {
    struct rule *rule = calloc(1, sizeof(*rule));
    if (rule == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", node->name);
    }
    node->rule = rule;
    rule->plan = node->stream->rule;
    node->downstream_watermark = WEIR_WATERMARK_NONE;
    weir_keys_init(&rule->whole_bytes);
    weir_keys_init(&rule->held_keys);
    weir_keys_init(&rule->waited_keys);
    weir_buffer_init(&rule->texts, 64 << 20);
    size_t columns = (size_t)node->input->count + 1;
    rule->held_in = calloc(columns, sizeof(*rule->held_in));
    rule->waited_in = calloc(columns, sizeof(*rule->waited_in));
    rule->late_tally = dataset_tally(node->dataset, "late");
    rule->timer_tally = dataset_tally(node->dataset, "timer");
    rule->process_tally = dataset_tally(node->dataset, "process");
    rule->reject_tally = dataset_tally(node->dataset, "reject");
    rule->version_tally =
        rule->plan->versioned ? dataset_tally(node->dataset, "version") : rule->reject_tally;
    int rc = rule->held_in == NULL || rule->waited_in == NULL || rule->process_tally < 0 ||
                     rule->reject_tally < 0 || rule->version_tally < 0
                 ? weir_error_set(err, WEIR_E_NOMEM, "out of memory")
                 : init_keys(node, err);
    rc = rc == WEIR_OK ? init_targets(node, err) : rc;
    rc = rc == WEIR_OK ? rule_init_rings(node, err) : rc;
    rc = rc == WEIR_OK ? init_state(node, err) : rc;
    return rc == WEIR_OK ? rc : weir_error_wrap(err, "%s", node->name);
}

static void release_held(struct rule *rule) {
    weir_batch_unref(rule->flow.batch);
    weir_batch_unref(rule->flow.origin);
    weir_batch_unref(rule->held_owner);
    free(rule->partition);
    rule->partition = NULL;
    rule->flow = (struct weir_flow){0};
    rule->held_owner = NULL;
    rule->held_count = rule->held_at = 0;
}

void rule_fini(struct weir_node *node) {
    struct rule *rule = node->rule;
    if (rule == NULL) {
        return;
    }
    release_held(rule);
    for (int32_t i = 0; rule->targets != NULL && i < rule->plan->emit_count; i++) {
        outs_destroy(rule->targets[i].outs, rule->targets[i].schema->count);
        weir_batch_unref(rule->targets[i].batch);
    }
    weir_batch_unref(rule->waited);
    weir_rule_state_destroy(rule->state);
    weir_key_destroy(rule->key);
    weir_key_destroy(rule->whole);
    weir_keys_fini(&rule->whole_bytes);
    weir_keys_fini(&rule->held_keys);
    weir_keys_fini(&rule->waited_keys);
    if (rule->has_builder) {
        weir_batch_builder_fini(&rule->builder);
    }
    if (rule->key_schema != NULL) {
        weir_schema_unref(rule->key_schema);
    }
    weir_buffer_fini(&rule->texts);
    rule_fini_rings(rule);
    free(rule->held_in);
    free(rule->waited_in);
    free(rule->targets);
    free(rule->run_targets);
    free(rule);
    node->rule = NULL;
}

/* --- rows come in ----------------------------------------------------------------------------- */

static void start(struct weir_node *node) {
    struct rule *rule = node->rule;
    rule->clock_us = node->graph->clock_us;
    if (rule->message != node->graph->message) {
        rule->message = node->graph->message;
        rule->position = 0;
    }
    if (!node->firing) {
        node->firing = true;
        node->graph->firing++;
    }
}

/* Rows below the watermark before them came too late. */
static int refuse_late(struct weir_node *node, int32_t *sel, int32_t *count, const int64_t *times,
                       const int64_t *before, struct weir_error *err) {
    int32_t kept = 0;
    for (int32_t i = 0; i < *count; i++) {
        int32_t row = sel[i];
        if (times[row] >= before[row] || before[row] == WEIR_WATERMARK_NONE) {
            sel[kept++] = row;
            continue;
        }
        int rc = node_reject(node, row, node->rule->late_tally,
                             "it came after the watermark had passed its time");
        if (rc != WEIR_OK) {
            return weir_error_set(err, rc, "%s: too many reasons in one batch", node->name);
        }
    }
    *count = kept;
    return WEIR_OK;
}

static int park(struct weir_node *node, const struct weir_flow *flow, const int32_t *rows,
                int32_t count, const int64_t *times, const uint64_t *arrivals,
                struct weir_error *err) {
    struct rule *rule = node->rule;
    int rc = count == 0
                 ? WEIR_OK
                 : weir_key_encode(rule->whole, flow->batch, rows, count, 0, &rule->whole_bytes);
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: the memory cap is reached", node->name);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        const struct weir_keys *bytes = &rule->whole_bytes;
        struct weir_rule_parked row = {
            .time_us = times[rows[i]],
            .arrival = arrivals[i],
            .bytes = bytes->bytes + bytes->offsets[i],
            .size = bytes->offsets[i + 1] - bytes->offsets[i],
        };
        rc = weir_rule_state_park(rule->state, &row, err);
    }
    return rc;
}

static int by_time(const void *a, const void *b) {
    const struct held_row *left = a;
    const struct held_row *right = b;
    if (left->time_us != right->time_us) {
        return left->time_us < right->time_us ? -1 : 1;
    }
    return (left->arrival > right->arrival) - (left->arrival < right->arrival);
}

static void sort_held(struct rule *rule) {
    for (int32_t i = 1; i < rule->held_count; i++) {
        if (rule->held[i].time_us < rule->held[i - 1].time_us) {
            qsort(rule->held, (size_t)rule->held_count, sizeof(*rule->held), by_time);
            return;
        }
    }
}

/* What the rows at hand are to Lua, and by their keys. */
static int view_held(struct weir_node *node, const struct weir_flow *flow, struct weir_error *err) {
    struct rule *rule = node->rule;
    int32_t rows[ROWS_MAX];
    for (int32_t i = 0; i < rule->held_count; i++) {
        rows[i] = rule->held[i].row;
    }
    rule->held_owner = weir_batch_create(node->graph->pool, node->input);
    int rc = rule->held_owner == NULL ? WEIR_E_LIMIT : WEIR_OK;
    rc = rc == WEIR_OK ? node_view(node, flow->batch, rule->held_owner, err) : rc;
    rc = rc == WEIR_OK
             ? weir_key_encode(rule->key, flow->batch, rows, rule->held_count, 0, &rule->held_keys)
             : rc;
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: the memory cap is reached", node->name);
    }
    memcpy(rule->held_in, node->in, (size_t)node->input->count * sizeof(*rule->held_in));
    rule->flow = *flow;
    rule->flow.batch = weir_batch_ref(flow->batch);
    rule->flow.origin = flow->origin != NULL ? weir_batch_ref(flow->origin) : NULL;
    rule->partition = flow->partition != NULL ? strdup(flow->partition) : NULL;
    rule->flow.partition = rule->partition;
    rule->flow.sel = NULL;
    rule->flow.times_us = rule->flow.watermark_before_us = NULL;
    return WEIR_OK;
}

/* Each row waits, or is held for the chunks to come. */
static int sort_out(struct weir_node *node, const struct weir_flow *flow, const int32_t *sel,
                    int32_t count, const int64_t *times, const int64_t *before,
                    int64_t watermark_us, struct weir_error *err) {
    struct rule *rule = node->rule;
    int32_t waiting[ROWS_MAX];
    uint64_t arrivals[ROWS_MAX];
    int32_t waits = 0;
    bool hold = rule->held_count == 0; /* one batch at a time; others wait as state */
    for (int32_t i = 0; i < count; i++) {
        int32_t row = sel[i];
        int64_t time = rule->plan->timed ? times[row] : node->graph->clock_us;
        uint64_t arrival = weir_rule_state_arrival(rule->state);
        if (rule->plan->by_arrival || (hold && time < watermark_us)) {
            rule->held[rule->held_count++] = (struct held_row){
                .time_us = time,
                .gate_us = !rule->plan->timed       ? time
                           : rule->plan->by_arrival ? before[row]
                                                    : time,
                .arrival = arrival,
                .row = row,
            };
        } else {
            waiting[waits] = row;
            arrivals[waits++] = arrival;
        }
    }
    int rc = park(node, flow, waiting, waits, times, arrivals, err);
    if (rc != WEIR_OK || rule->held_count == 0 || rule->flow.batch != NULL) {
        return rc;
    }
    if (!rule->plan->by_arrival) {
        sort_held(rule);
    }
    return view_held(node, flow, err);
}

int rule_process(struct weir_node *node, const struct weir_flow *flow, struct weir_error *err) {
    struct rule *rule = node->rule;
    int32_t *sel = node->sel;
    int32_t count = 0;
    const int64_t *times;
    const int64_t *before;
    int64_t watermark;
    int rc = flow->count > 0 ? node_view(node, flow->batch, flow->batch, err) : WEIR_OK;
    if (rc == WEIR_OK) {
        rc = node_enter(node, flow, sel, &count, &times, &before, &watermark, err);
        change_after(node, flow, sel, &count);
    }
    if (rc == WEIR_OK && rule->plan->timed && times == NULL && count > 0) {
        rc = weir_error_set(err, WEIR_E_CONFIG,
                            "%s: no event time reaches this rule; declare `time` here or upstream, "
                            "or say order = \"arrival\"",
                            node->name);
    }
    if (rc == WEIR_OK && !rule->plan->by_arrival && count > 0) {
        rc = refuse_late(node, sel, &count, times, before, err);
    }
    if (rc == WEIR_OK) {
        rc = node_leave(node, flow, err);
    }
    if (rc == WEIR_OK && count > 0) {
        rc = sort_out(node, flow, sel, count, times, before, watermark, err);
    }
    return rc == WEIR_OK ? rule_advance(node, watermark, err) : rc;
}

/* --- time ------------------------------------------------------------------------------------- */

static int64_t gate_of(const struct weir_node *node) {
    return node->rule->plan->timed ? node->last_watermark : node->rule->clock_us;
}

static int pass_watermark(struct weir_node *node, struct weir_error *err) {
    struct rule *rule = node->rule;
    bool advanced = rule->advanced;
    int rc = WEIR_OK;
    rule->advanced = false;
    if (!advanced || node->last_watermark == WEIR_WATERMARK_NONE) {
        return rc;
    }
    node->downstream_watermark = node->last_watermark;
    for (int32_t i = 0; rc == WEIR_OK && i < rule->plan->emit_count; i++) {
        rc = dataset_advance(rule->targets[i].dataset, node->last_watermark, err);
    }
    return rc;
}

int rule_advance(struct weir_node *node, int64_t watermark_us, struct weir_error *err) {
    struct rule *rule = node->rule;
    rule->advanced = rule->advanced || watermark_us != node->last_watermark;
    node->last_watermark = watermark_us;
    if (!node->firing) {
        rule->clock_us = node->graph->clock_us;
    }
    if (node->firing || rule->held_count > 0 || rule_row_waits(node) ||
        weir_rule_run_due(rule->state, gate_of(node), rule->clock_us)) {
        start(node);
        return WEIR_OK;
    }
    return pass_watermark(node, err);
}

void rule_tick(struct weir_node *node) {
    if (weir_rule_run_due(node->rule->state, WEIR_WATERMARK_NONE, node->graph->clock_us)) {
        start(node);
    }
}

/* --- running ---------------------------------------------------------------------------------- */

static int breach(struct weir_node *node, int32_t at, const char *text, struct weir_error *err) {
    struct weir_graph *graph = node->graph;
    node->dataset->breached = true;
    snprintf(node->dataset->breach_text, sizeof(node->dataset->breach_text), "%.250s", text);
    return graph->callbacks.breach(graph->callbacks.context, node->dataset,
                                   node->rule->plan->function, at, err);
}

static const struct expected_breach *expected(const struct weir_node *node) {
    const struct weir_graph *graph = node->graph;
    for (int32_t b = 0; b < graph->expected_count; b++) {
        if (graph->expected[b].function == node->rule->plan->function &&
            graph->expected[b].row >= node->rule->position) {
            return &graph->expected[b];
        }
    }
    return NULL;
}

/* The call, again and again behind each offender. */
static int call_rule(struct weir_node *node, struct weir_error *err) {
    struct rule *rule = node->rule;
    struct weir_error thrown = {0};
    for (;;) {
        struct weir_call call = {.in = node->in, .end = ITEMS_MAX};
        call.rule = weir_rule_state_run(rule->state);
        int rc = weir_rule_set_call(node->graph->rule_set, rule->plan->function, &call, &thrown);
        if (rc == WEIR_OK) {
            return WEIR_OK;
        }
        if (weir_rule_run_failed(rule->state, err) != WEIR_OK) {
            return err->code;
        }
        if (rc != WEIR_E_SCRIPT && rc != WEIR_E_BUDGET) {
            return weir_error_set(err, rc, "%s: %s", node->name, thrown.message);
        }
        int32_t item = weir_rule_run_undo(rule->state);
        bool over = rc == WEIR_E_BUDGET;
        if (rule_take_rejections(node, err) != WEIR_OK) {
            return err->code;
        }
        rc = item < 0 ? rule_refuse_timer(node, -1 - item, thrown.message, err)
                      : rule_offend(rule, rule->item_at + item,
                                    over ? TALLY_BUDGET : rule->process_tally, thrown.message);
        if (rc != WEIR_OK) {
            return weir_error_set(err, rc, "%s: too many error texts in one batch", node->name);
        }
        if (over) {
            return breach(node, weir_rule_state_run(rule->state)->position - 1, thrown.message,
                          err);
        }
    }
}

/* Over budget: what is left of the block goes to quarantine. */
static int refuse_rest(struct weir_node *node, struct weir_error *err) {
    struct rule *rule = node->rule;
    for (; rule->item_at < rule->block_end; rule->item_at++) {
        if (rule_offend(rule, rule->item_at, TALLY_BUDGET, node->dataset->breach_text) != WEIR_OK) {
            return weir_error_set(err, WEIR_E_LIMIT, "%s: too many error texts in one batch",
                                  node->name);
        }
    }
    return WEIR_OK;
}

static int run_items(struct weir_node *node, enum weir_rule_end *end, struct weir_error *err) {
    struct rule *rule = node->rule;
    const struct expected_breach *recorded = expected(node);
    int64_t event = node->last_watermark;
    struct weir_rule_span span = {
        .items = rule->items + rule->item_at,
        .count = rule->block_end - rule->item_at,
        .gate_us =
            rule->last && rule->block_end == rule->item_count ? gate_of(node) : WEIR_WATERMARK_NONE,
        .clock_us = rule->clock_us,
        .event_us =
            event == WEIR_WATERMARK_NONE || event == WEIR_WATERMARK_END ? rule->clock_us : event,
        .stop_at = recorded != NULL ? recorded->row : -1,
        .most = rule->plan->span > 0 ? rule->plan->span : ITEMS_MAX - 1,
        .targets = rule->run_targets,
        .target_count = rule->plan->emit_count,
    };
    weir_rule_run_begin(rule->state, &span, rule->position);
    int rc = call_rule(node, err);
    if (rc == WEIR_OK) {
        rc = weir_rule_run_end(rule->state, end, err);
    }
    rc = rc == WEIR_OK ? rule_take_rejections(node, err) : rc;
    rule_count_dropped(node);
    rule->position = weir_rule_state_run(rule->state)->position;
    rule->item_at += weir_rule_run_rows(rule->state);
    node->dataset->counters.out += weir_rule_run_rows(rule->state) - rule->offence_count;
    if (rc == WEIR_OK && *end == WEIR_RULE_STOPPED) {
        node->dataset->breached = true;
        snprintf(node->dataset->breach_text, sizeof(node->dataset->breach_text), "%s",
                 recorded->text);
    }
    return rc;
}

static int finish(struct weir_node *node, struct weir_error *err) {
    release_held(node->rule);
    node->firing = false;
    node->graph->firing--;
    return pass_watermark(node, err);
}

int rule_fire(struct weir_node *node, struct weir_error *err) {
    struct rule *rule = node->rule;
    enum weir_rule_end end = WEIR_RULE_DONE;
    int rc = rule->item_at == rule->item_count ? rule_make_chunk(node, err) : WEIR_OK;
    if (rc != WEIR_OK || node->waits) {
        return rc;
    }
    if (rule->item_at == rule->block_end) {
        int32_t left = rule->item_count - rule->item_at;
        rule->block_end += left < BLOCK_ROWS ? left : BLOCK_ROWS;
    }
    rc = rule_begin_targets(node, err);
    if (rc == WEIR_OK && !node->dataset->breached) {
        rc = run_items(node, &end, err);
    }
    if (rc == WEIR_OK && node->dataset->breached) {
        rc = refuse_rest(node, err);
        end = WEIR_RULE_DONE;
    }
    rc = rc == WEIR_OK ? rule_refuse_offences(node, err) : rc;
    for (int32_t i = 0; rc == WEIR_OK && i < rule->plan->emit_count; i++) {
        rc = rule_emit_target(node, i, err);
    }
    if (rc == WEIR_OK && end == WEIR_RULE_WAITS) {
        rule_wait(node);
    }
    if (rc != WEIR_OK || end == WEIR_RULE_MORE || end == WEIR_RULE_WAITS || !rule->last) {
        return rc;
    }
    return rule->item_at == rule->item_count && rule->held_at == rule->held_count
               ? finish(node, err)
               : WEIR_OK;
}
