/* What leaves a rule: rows it emits, rows and timers it refuses, and what who sent a command is
 * told of both. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lake/delta/table.h"
#include "pipeline/graph/command.h"
#include "pipeline/graph/rule_parts.h"

static void clear_emitted(void *context, int32_t row) {
    struct target *target = context;
    out_clear_row(&target->out, target->outs, row);
}

/* --- what rules emit -------------------------------------------------------------------------- */

int rule_begin_targets(struct weir_node *node, struct weir_error *err) {
    struct rule *rule = node->rule;
    for (int32_t i = 0; i < rule->plan->emit_count; i++) {
        struct target *target = &rule->targets[i];
        struct weir_rule_target *run = &rule->run_targets[i];
        if (target->batch != NULL) {
            continue;
        }
        target->batch = weir_batch_create(node->graph->pool, target->schema);
        int rc = target->batch == NULL ? WEIR_E_LIMIT
                                       : out_begin(target->batch, target->schema, target->outs,
                                                   EMIT_ROWS, NULL, &target->out);
        if (rc != WEIR_OK) {
            return weir_error_set(err, rc, "%s: the memory cap is reached", node->name);
        }
        *run = (struct weir_rule_target){
            .call = {.out = target->out.columns,
                     .out_var = target->outs,
                     .rows = EMIT_ROWS,
                     .assigned = target->out.assigned},
            .times = target->times,
            .before = target->before,
            .items = node->dataset->follows ? target->items : NULL,
            .context = target,
            .clear = clear_emitted,
        };
    }
    return WEIR_OK;
}

/* What the command's own row emitted; timers that were due meanwhile are others' business. */
static int tell_emitted(struct weir_node *node, const struct target *target,
                        const struct weir_batch *batch, int32_t count, struct weir_error *err) {
    int32_t sel[EMIT_ROWS];
    int32_t found = 0;
    for (int32_t i = 0; i < count; i++) {
        if (target->items[i] >= 0) {
            sel[found++] = i;
        }
    }
    return weir_command_emitted(node->graph->command, target->dataset->name, batch, sel, found,
                                err);
}

int rule_emit_target(struct weir_node *node, int32_t i, struct weir_error *err) {
    struct rule *rule = node->rule;
    struct target *target = &rule->targets[i];
    int32_t count = rule->run_targets[i].count;
    if (count == 0) {
        return WEIR_OK;
    }
    struct weir_batch *batch = target->batch;
    target->batch = NULL;
    int rc = out_finish(batch, target->outs, &target->out);
    for (int32_t c = 0; rc == WEIR_OK && c < target->schema->count; c++) {
        batch->columns[c] = target->out.columns[c];
    }
    batch->rows = EMIT_ROWS;
    bool timed = rule->plan->timed;
    struct weir_flow flow = {
        .batch = batch,
        .sel = rule->sel,
        .count = count,
        .times_us = timed ? target->times : NULL,
        .watermark_before_us = timed ? target->before : NULL,
        .watermark_us = timed ? node->downstream_watermark : WEIR_WATERMARK_NONE,
        .source = -1,
        .partition = node->name,
    };
    if (rc == WEIR_OK && node->dataset->follows && weir_command_open(node->graph->command)) {
        rc = tell_emitted(node, target, batch, count, err);
        if (rc != WEIR_OK) {
            weir_batch_unref(batch);
            return rc;
        }
    }
    rc = rc == WEIR_OK ? graph_emit(node->graph, target->dataset, &flow, err)
                       : weir_error_set(err, rc, "%s: the memory cap is reached", node->name);
    weir_batch_unref(batch);
    return rc;
}

/* --- refused rows and timers ------------------------------------------------------------------ */

int rule_offend(struct rule *rule, int32_t item, int32_t tally, const char *text) {
    struct offence *offence = &rule->offences[rule->offence_count++];
    offence->of_held = rule->of_held[item];
    offence->row = rule->items[item].row;
    offence->tally = tally;
    offence->text = (int64_t)rule->texts.size;
    return weir_buffer_append(&rule->texts, text, strlen(text) + 1);
}

/* There is no row: when the timer was set for, and its key, are kept as JSON. */
int rule_refuse_timer(struct weir_node *node, int32_t timer, const char *message,
                      struct weir_error *err) {
    struct rule *rule = node->rule;
    const struct weir_rule_run *run = weir_rule_state_run(rule->state);
    struct weir_buffer json;
    char at[64];
    weir_buffer_init(&json, 1 << 20);
    int32_t length = weir_time_text_us(run->at_us, 1, at);
    struct weir_batch *key = weir_rule_state_timer_key(rule->state);
    int rc = weir_buffer_printf(&json, "{\"timer\":\"%s\",\"at\":\"%.*s\",\"key\":",
                                rule->plan->timers[timer], (int)length, at);
    rc = rc == WEIR_OK ? weir_delta_row_json(key, 0, &json) : rc;
    rc = rc == WEIR_OK ? weir_buffer_append_text(&json, "}") : rc;
    struct raw_row raw = {.bytes = json.data, .size = json.size};
    node->dataset->counters.tallies[rule->timer_tally].rejected++;
    if (rc == WEIR_OK) {
        rc = quarantine_raw(node->graph, &node->quarantine, &raw, "timer", message, err);
    }
    if (rc == WEIR_OK) {
        rc = quarantine_flush(node->graph, &node->quarantine, err);
    }
    weir_buffer_fini(&json);
    return rc;
}

static int refuse_rows(struct weir_node *node, bool of_held, struct weir_error *err) {
    struct rule *rule = node->rule;
    int32_t found = 0;
    for (int32_t i = 0; i < rule->offence_count; i++) {
        const struct offence *offence = &rule->offences[i];
        if (offence->of_held == of_held) {
            found++;
            int rc = node_reject(node, offence->row, offence->tally,
                                 (const char *)rule->texts.data + offence->text);
            if (rc != WEIR_OK) {
                return weir_error_set(err, rc, "%s: too many reasons in one batch", node->name);
            }
        }
    }
    struct weir_flow waited = {.batch = rule->waited, .source = -1, .partition = node->name};
    return found > 0 ? node_leave(node, of_held ? &rule->flow : &waited, err) : WEIR_OK;
}

int rule_refuse_offences(struct weir_node *node, struct weir_error *err) {
    int rc = refuse_rows(node, true, err);
    rc = rc == WEIR_OK ? refuse_rows(node, false, err) : rc;
    node->rule->offence_count = 0;
    weir_buffer_clear(&node->rule->texts);
    return rc;
}

int rule_take_rejections(struct weir_node *node, struct weir_error *err) {
    struct rule *rule = node->rule;
    bool told = node->dataset->follows && weir_command_open(node->graph->command);
    int32_t count = weir_rule_run_rejections(rule->state);
    int64_t version = weir_rule_run_version(rule->state);
    for (int32_t i = 0; i < count; i++) {
        struct weir_rule_rejection rejection = weir_rule_run_rejection(rule->state, i);
        bool conflict = rejection.actual >= 0;
        int32_t tally = conflict ? rule->version_tally : rule->reject_tally;
        if (rejection.item < 0 ||
            rule_offend(rule, rule->item_at + rejection.item, tally, rejection.why) != WEIR_OK) {
            return weir_error_set(err, WEIR_E_LIMIT, "%s: too many error texts in one batch",
                                  node->name);
        }
        if (told && conflict) {
            weir_command_version(node->graph->command, rejection.actual, true);
        }
    }
    weir_rule_run_rejected(rule->state);
    if (told && version >= 0) {
        weir_command_version(node->graph->command, version, false);
    }
    return WEIR_OK;
}

/* --- rings ------------------------------------------------------------------------------------ */

int rule_init_rings(struct weir_node *node, struct weir_error *err) {
    struct rule *rule = node->rule;
    const struct weir_plan_rule *plan = rule->plan;
    rule->rings = calloc((size_t)plan->cell_count + 1, sizeof(*rule->rings));
    for (int32_t c = 0; rule->rings != NULL && c < plan->cell_count; c++) {
        struct ring *ring = &rule->rings[rule->ring_count];
        if (strcmp(plan->cells[c].kind, "ring") != 0) {
            continue;
        }
        ring->cell = c;
        ring->tally = -1;
        rule->ring_count++;
        if (asprintf(&ring->name, "ring %s", plan->cells[c].name) < 0) {
            ring->name = NULL;
        } else {
            ring->tally = dataset_tally(node->dataset, ring->name);
        }
        if (ring->tally < 0) {
            return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
        }
    }
    return rule->rings != NULL ? WEIR_OK : weir_error_set(err, WEIR_E_NOMEM, "out of memory");
}

void rule_fini_rings(struct rule *rule) {
    for (int32_t i = 0; i < rule->ring_count; i++) {
        free(rule->rings[i].name);
    }
    free(rule->rings);
}

void rule_count_dropped(struct weir_node *node) {
    for (int32_t i = 0; i < node->rule->ring_count; i++) {
        const struct ring *ring = &node->rule->rings[i];
        node->dataset->counters.tallies[ring->tally].warned +=
            weir_rule_run_pushed_out(node->rule->state, ring->cell);
    }
}
