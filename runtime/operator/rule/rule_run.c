/* The order of a run: rows, timers and keys that expire, by time. A row of time t comes before a
 * timer set for t. */
#include <stdlib.h>
#include <string.h>

#include "operator/rule/rule_private.h"

static struct weir_rule_state *of(struct weir_rule_run *run) {
    return (struct weir_rule_state *)run;
}

struct weir_rule_run *weir_rule_state_run(struct weir_rule_state *state) {
    return &state->run;
}

/* Keys lie scattered: what the span will read is asked for now. */
static void look_ahead(struct weir_rule_state *state) {
    const struct weir_rule_span *span = &state->span;
    uint64_t *hashes = state->ahead;
    int32_t count = span->count < RULE_AHEAD ? span->count : RULE_AHEAD;
    state->ahead_count = count;
    for (int32_t i = 0; i < count; i++) {
        hashes[i] = weir_table_hash(state->table, span->items[i].key, span->items[i].key_bytes);
        weir_table_prefetch(state->table, hashes[i]);
    }
    for (int32_t i = 0; i < count; i++) {
        weir_table_prefetch_slot(state->table, hashes[i]);
    }
    for (int32_t i = 0; i < count; i++) {
        const struct weir_rule_item *item = &span->items[i];
        struct weir_slot *slot =
            weir_table_find(state->table, hashes[i], item->key, item->key_bytes);
        for (int32_t c = 0; slot != NULL && c < state->cell_count; c++) {
            const char *block = (const char *)rule_slot_of(state, slot)->cells[c].block;
            if (block != NULL) {
                __builtin_prefetch(block);
                __builtin_prefetch(block + 64);
            }
        }
    }
}

void weir_rule_run_begin(struct weir_rule_state *state, const struct weir_rule_span *span,
                         int32_t position) {
    state->span = *span;
    state->next_item = 0;
    state->stopped = false;
    state->waits = false;
    state->in_item = false;
    state->run.position = position;
    state->first_position = position;
    rule_retire(state);
    if (state->emitted_room < span->target_count) {
        int32_t *room = realloc(state->emitted, (size_t)span->target_count * sizeof *room);
        if (room == NULL) {
            weir_error_set(&state->failure, WEIR_E_NOMEM, "%s: out of memory", state->declaration);
            return;
        }
        state->emitted = room;
        state->emitted_room = span->target_count;
    }
    look_ahead(state);
}

/* What is due next before the gate, other than rows. */
enum due_kind { DUE_NONE, DUE_CLOCK, DUE_EVENT, DUE_EXPIRY };

static enum due_kind next_due(struct weir_rule_state *state, int64_t gate_us, int64_t clock_us) {
    const struct rule_due *due =
        state->clock_timers.count > 0 ? rule_timer_first(state, true) : NULL;
    if (due != NULL && due->at_us <= clock_us) {
        return DUE_CLOCK;
    }
    due = state->event_timers.count > 0 ? rule_timer_first(state, false) : NULL;
    int64_t at = due != NULL && due->at_us < gate_us ? due->at_us : gate_us;
    bool timer = due != NULL && due->at_us < gate_us;
    due = state->ttl_us > 0 && state->expiry.count > 0 ? rule_expiry_first(state) : NULL;
    if (due != NULL && state->ttl_by_clock) {
        if (due->at_us <= clock_us) {
            return DUE_EXPIRY;
        }
    } else if (due != NULL && due->at_us < at && gate_us != INT64_MAX) { /* the end is no time */
        return DUE_EXPIRY;
    }
    return timer ? DUE_EVENT : DUE_NONE;
}

bool weir_rule_run_due(struct weir_rule_state *state, int64_t gate_us, int64_t clock_us) {
    return next_due(state, gate_us, clock_us) != DUE_NONE;
}

static void begin_item(struct weir_rule_state *state, int32_t item, const uint8_t *key,
                       uint32_t key_bytes) {
    state->in_item = true;
    state->item = item;
    state->key_bytes = key;
    state->key_size = key_bytes;
    state->slot = NULL;
    state->hashed = item >= 0 && item < state->ahead_count;
    state->key_hash = state->hashed ? state->ahead[item] : 0;
    state->looked = state->touched = state->created = state->moved = false;
    state->run.migrates = 0;
    state->made_version = -1;
    state->run.position++;
    for (int32_t t = 0; t < state->span.target_count; t++) {
        state->emitted[t] = state->span.targets[t].count;
    }
    if (state->olds != NULL) {
        (void)rule_migrate(state); /* state->failure says why not */
    }
}

/* A key is forgotten; nobody is told. */
static void expire(struct weir_rule_state *state) {
    struct weir_slot *slot = weir_table_slot(state->table, state->expiry.list[0].slot);
    if (weir_table_delete(state->table, slot, false) != WEIR_OK) {
        weir_error_set(&state->failure, WEIR_E_NOMEM, "%s: out of memory", state->declaration);
    }
    rule_heap_pop(&state->expiry);
}

/* The key of the timer that fires, as columns. */
static bool show_key(struct weir_rule_state *state) {
    struct weir_batch_builder *builder = &state->key_builder;
    weir_batch_unref(state->key_batch);
    state->key_batch = NULL;
    if (weir_batch_builder_begin_rows(builder, 1) != WEIR_OK ||
        weir_key_decode(state->key, state->timer_key.data, state->timer_key.size,
                        builder->columns) != WEIR_OK) {
        weir_error_set(&state->failure, WEIR_E_CORRUPT, "%s: the key of a timer does not parse",
                       state->declaration);
        return false;
    }
    weir_batch_builder_finish_row(builder);
    state->key_batch = weir_batch_builder_take(builder);
    state->run.key = state->key_batch->columns;
    return true;
}

static int32_t fire(struct weir_rule_state *state, bool clock) {
    int64_t at;
    int32_t timer = rule_timer_take(state, clock, &at);
    if (timer < 0 || !show_key(state)) {
        return -1;
    }
    state->run.at_us = at;
    state->run.time_us = state->item_gate = clock ? state->span.event_us : at;
    weir_buffer_clear(&state->fired_key);
    if (weir_buffer_append(&state->fired_key, state->timer_key.data, state->timer_key.size) !=
        WEIR_OK) {
        weir_error_set(&state->failure, WEIR_E_NOMEM, "%s: out of memory", state->declaration);
        return -1;
    }
    begin_item(state, -1 - timer, state->fired_key.data, (uint32_t)state->fired_key.size);
    return timer;
}

static bool is_full(const struct weir_rule_state *state) {
    for (int32_t t = 0; t < state->span.target_count; t++) {
        const struct weir_rule_target *target = &state->span.targets[t];
        if (target->count > target->call.rows - RULE_ITEM_EMITS_MAX) {
            return true;
        }
    }
    return state->run.position - state->first_position >= state->span.most;
}

static void end_item(struct weir_rule_state *state) {
    if (state->in_item && state->span.only_migrate) {
        rule_item_undo(state);
    } else if (state->in_item) {
        rule_item_end(state);
    }
}

int32_t weir_rule_next(struct weir_rule_run *run) {
    struct weir_rule_state *state = of(run);
    end_item(state);
    while (state->failure.code == WEIR_OK) {
        bool rows = state->next_item < state->span.count;
        const struct weir_rule_item *item = &state->span.items[state->next_item];
        int64_t gate = rows ? item->gate_us : state->span.gate_us;
        enum due_kind due =
            state->span.only_migrate ? DUE_NONE : next_due(state, gate, state->span.clock_us);
        if (due == DUE_NONE) {
            rule_disk_passed(state, gate);
        } else if (due != DUE_EXPIRY) {
            rule_disk_look(state, due == DUE_CLOCK);
        }
        if (state->waits) {
            return 0;
        }
        if (due == DUE_NONE && !rows) {
            state->finished = true;
            return 0;
        }
        if (is_full(state)) {
            return 0;
        }
        if (due == DUE_EXPIRY) {
            expire(state);
            continue;
        }
        if (run->position == state->span.stop_at) {
            state->stopped = true;
            return 0;
        }
        if (due != DUE_NONE) {
            int32_t timer = fire(state, due == DUE_CLOCK);
            if (timer >= 0 && state->failure.code == WEIR_OK) {
                return 2 + timer;
            }
            continue; /* no timer is called that any more */
        }
        run->in = item->in;
        run->row = item->row;
        run->time_us = item->time_us;
        state->item_gate = item->gate_us;
        begin_item(state, state->next_item++, item->key, item->key_bytes);
        if (state->failure.code == WEIR_OK) {
            return state->span.only_migrate ? -1 : 1;
        }
    }
    return 0;
}

int weir_rule_run_end(struct weir_rule_state *state, enum weir_rule_end *end,
                      struct weir_error *err) {
    end_item(state);
    *end = state->waits      ? WEIR_RULE_WAITS
           : state->stopped  ? WEIR_RULE_STOPPED
           : state->finished ? WEIR_RULE_DONE
                             : WEIR_RULE_MORE;
    state->finished = false;
    return weir_rule_run_failed(state, err);
}

int32_t weir_rule_run_undo(struct weir_rule_state *state) {
    rule_item_undo(state);
    if (state->rejected) { /* it was stopped after all */
        state->rejected = false;
        state->rejection_count--;
    }
    return state->item;
}

int64_t weir_rule_run_pushed_out(struct weir_rule_state *state, int32_t cell) {
    int64_t count = state->cells[cell].pushed_out;
    state->cells[cell].pushed_out = 0;
    return count;
}

int32_t weir_rule_run_rows(const struct weir_rule_state *state) {
    return state->next_item;
}

int weir_rule_run_failed(const struct weir_rule_state *state, struct weir_error *err) {
    if (state->failure.code == WEIR_OK) {
        return WEIR_OK;
    }
    return weir_error_set(err, state->failure.code, "%s", state->failure.message);
}

struct weir_batch *weir_rule_state_timer_key(const struct weir_rule_state *state) {
    return state->key_batch;
}
