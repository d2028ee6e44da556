/* One item of a run: its key's slot, what it did kept or undone. Every write is preceded by a note
 * of the bytes as they were; memory a write makes needless is given back when the item is kept,
 * memory it took when the item is undone. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "operator/rule/rule_private.h"

static struct weir_rule_state *of(struct weir_rule_run *run) {
    return (struct weir_rule_state *)run;
}

/* The item's fault: the loop throws it. */
void rule_refuse(struct weir_rule_state *state, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(state->message, sizeof state->message, format, arguments);
    va_end(arguments);
}

void rule_no_memory(struct weir_rule_state *state) {
    if (state->failure.code == WEIR_OK) {
        weir_error_set(&state->failure, WEIR_E_NOMEM, "%s: out of memory", state->declaration);
    }
    rule_refuse(state, "%s", state->failure.message);
}

const char *weir_rule_error(struct weir_rule_run *run) {
    return of(run)->message;
}

/* --- undoing ---------------------------------------------------------------------------------- */

struct trailer {
    void *at;
    size_t size;
};

bool rule_note(struct weir_rule_state *state, void *at, size_t size) {
    struct trailer trailer = {at, size};
    if (weir_buffer_append(&state->undo, at, size) != WEIR_OK ||
        weir_buffer_append(&state->undo, &trailer, sizeof trailer) != WEIR_OK) {
        rule_no_memory(state);
        return false;
    }
    return true;
}

bool rule_add_part(struct weir_rule_state *state, struct rule_parts *parts, void *part,
                   size_t size) {
    if (parts->count == parts->capacity) {
        size_t capacity = parts->capacity == 0 ? 64 : parts->capacity * 2;
        struct rule_part *list = realloc(parts->list, capacity * sizeof *list);
        if (list == NULL) {
            rule_no_memory(state);
            return false;
        }
        parts->list = list;
        parts->capacity = capacity;
    }
    parts->list[parts->count++] = (struct rule_part){part, size};
    return true;
}

static void give_parts(struct weir_rule_state *state, struct rule_parts *parts) {
    for (size_t i = 0; i < parts->count; i++) {
        weir_heap_give(weir_table_heap(state->table), parts->list[i].part, parts->list[i].size);
    }
    parts->count = 0;
}

void *rule_take(struct weir_rule_state *state, size_t size) {
    if (weir_table_check_room(state->table, size, &state->failure) != WEIR_OK) {
        rule_no_memory(state);
        return NULL;
    }
    void *part = weir_heap_take(weir_table_heap(state->table), size);
    if (part == NULL) {
        rule_no_memory(state);
        return NULL;
    }
    return rule_add_part(state, &state->fresh, part, size) ? part : NULL;
}

bool rule_drop_texts(struct weir_rule_state *state, const struct rule_cell *cell,
                     const uint8_t *record) {
    for (int32_t f = 0; f < cell->field_count; f++) {
        if (weir_type_is_bytes(cell->fields[f].type)) {
            struct weir_rule_text *text;
            memcpy(&text, record + cell->fields[f].offset, sizeof text);
            if (text != NULL &&
                !rule_add_part(state, &state->stale, text, rule_text_bytes((size_t)text->length))) {
                return false;
            }
        }
    }
    return true;
}

/* --- slots ------------------------------------------------------------------------------------ */

struct rule_slot *rule_slot_read(struct weir_rule_state *state) {
    if (!state->looked) {
        state->looked = true;
        if (!state->hashed) {
            state->key_hash = weir_table_hash(state->table, state->key_bytes, state->key_size);
        }
        state->slot =
            weir_table_find(state->table, state->key_hash, state->key_bytes, state->key_size);
    }
    return state->slot != NULL ? rule_slot_of(state, state->slot) : NULL;
}

/* The layout this version writes is known to whoever reads the state. */
bool rule_layout_write(struct weir_rule_state *state) {
    char line_start[20];
    bool created;
    uint64_t hash = weir_table_hash(state->table, "", 0);
    snprintf(line_start, sizeof line_start, "%016llx ", (unsigned long long)state->layout);
    struct weir_slot *slot = weir_table_find(state->table, hash, "", 0);
    struct rule_slot *value = slot != NULL ? rule_slot_of(state, slot) : NULL;
    if (value != NULL && memmem(value->raw, value->raw_bytes, line_start, 17) != NULL) {
        return true;
    }
    if (slot == NULL) {
        slot = weir_table_get(state->table, hash, "", 0, &created, &state->failure);
        value = slot != NULL ? rule_slot_of(state, slot) : NULL;
    } else if (weir_table_touch(state->table, slot) != WEIR_OK) {
        value = NULL;
    }
    uint8_t head[16] = {0};
    size_t old = value != NULL && value->raw != NULL ? value->raw_bytes : sizeof head;
    size_t size = old + 17 + strlen(state->layout_text) + 1;
    uint8_t *text = value != NULL ? weir_heap_take(weir_table_heap(state->table), size) : NULL;
    if (text == NULL) {
        rule_no_memory(state);
        return false;
    }
    memcpy(text, value->raw != NULL ? value->raw : head, old);
    memcpy(text + old, line_start, 17);
    memcpy(text + old + 17, state->layout_text, size - old - 18);
    text[size - 1] = '\n';
    if (value->raw != NULL) {
        weir_heap_give(weir_table_heap(state->table), value->raw, value->raw_bytes);
    }
    value->raw = text;
    value->raw_bytes = (uint32_t)size;
    return true;
}

/* The item's slot, about to be written. */
struct rule_slot *rule_slot_write(struct weir_rule_state *state) {
    struct rule_slot *value = rule_slot_read(state);
    if (state->touched) {
        return value;
    }
    if (value == NULL) {
        if (!state->layout_written && !(state->layout_written = rule_layout_write(state))) {
            return NULL;
        }
        state->slot = weir_table_get(state->table, state->key_hash, state->key_bytes,
                                     state->key_size, &state->created, &state->failure);
        if (state->slot == NULL) {
            rule_no_memory(state);
            return NULL;
        }
        value = rule_slot_of(state, state->slot);
        value->layout = state->layout;
    } else if (weir_table_touch(state->table, state->slot) != WEIR_OK) {
        rule_no_memory(state);
        return NULL;
    }
    if (!rule_note(state, &value->changed_us, sizeof value->changed_us)) {
        return NULL;
    }
    int64_t now = state->ttl_by_clock ? state->span.clock_us : state->run.time_us;
    /* By arrival a row may be older than one before it. */
    value->changed_us = state->created || now > value->changed_us ? now : value->changed_us;
    state->touched = true;
    return value;
}

/* What the item pushed out of rings counts when the item is kept. */
static void settle_pushed_out(struct weir_rule_state *state, bool kept) {
    for (int32_t c = 0; state->pushes_out && c < state->cell_count; c++) {
        struct rule_cell *cell = &state->cells[c];
        cell->pushed_out += kept ? cell->pushed_now : 0;
        cell->pushed_now = 0;
    }
    state->pushes_out = false;
}

void rule_item_keep(struct weir_rule_state *state) {
    settle_pushed_out(state, true);
    give_parts(state, &state->stale);
    state->fresh.count = 0;
    weir_buffer_clear(&state->undo);
    for (size_t i = 0; i < state->pending_count && state->failure.code == WEIR_OK; i++) {
        if (rule_timer_apply(state, &state->pending[i], &state->failure) != WEIR_OK &&
            state->failure.code == WEIR_OK) {
            rule_no_memory(state);
        }
    }
    state->pending_count = 0;
    if (state->touched || state->moved) {
        struct rule_slot *value = rule_slot_of(state, state->slot);
        if (rule_slot_is_empty(state, value)) {
            if (weir_table_delete(state->table, state->slot, false) != WEIR_OK) {
                rule_no_memory(state);
            }
        } else if (state->ttl_us > 0 && !value->expires && !rule_expiry_push(state, state->slot)) {
            rule_no_memory(state);
        }
    }
    state->in_item = false;
}

void rule_item_undo(struct weir_rule_state *state) {
    settle_pushed_out(state, false);
    while (state->undo.size > 0) {
        struct trailer trailer;
        state->undo.size -= sizeof trailer;
        memcpy(&trailer, state->undo.data + state->undo.size, sizeof trailer);
        state->undo.size -= trailer.size;
        memcpy(trailer.at, state->undo.data + state->undo.size, trailer.size);
    }
    give_parts(state, &state->fresh);
    state->stale.count = 0;
    state->pending_count = 0;
    if (state->created && weir_table_delete(state->table, state->slot, false) != WEIR_OK) {
        rule_no_memory(state);
    }
    for (int32_t t = 0; t < state->span.target_count; t++) {
        struct weir_rule_target *target = &state->span.targets[t];
        while (target->count > state->emitted[t]) {
            target->clear(target->context, --target->count);
        }
    }
    state->in_item = false;
}
