/* A rule's state at a hot reload: checked, tried, taken over. */
#include <string.h>

#include "operator/rule/rule_private.h"
#include "state/cold_keys.h"

enum { COPY_SLOTS = 4096 };
#define COPY_BYTES_MAX ((size_t)1 << 30)

static bool has_nothing(const struct weir_rule_state *state) {
    return weir_table_keys(state->table) == 0 && weir_table_keys(state->timer_table) == 0 &&
           weir_table_keys(state->row_table) == 0;
}

/* Layouts `from` wrote, or has not come to the keys of. */
static int check_layouts(struct weir_rule_state *to, const struct weir_rule_state *from,
                         const struct rule_old **own, struct weir_error *err) {
    const struct rule_old *ignored;
    int rc = rule_old_add(to, from->layout_text, from->layout, own, err);
    for (const struct rule_old *old = from->olds; rc == WEIR_OK && old != NULL; old = old->next) {
        rc = rule_old_add(to, old->layout->text, old->layout->number, &ignored, err);
    }
    return rc;
}

int weir_rule_state_check(struct weir_rule_state *to, const struct weir_rule_state *from,
                          struct weir_error *err) {
    const struct rule_old *own;
    if (has_nothing(from)) {
        return WEIR_OK;
    }
    if (weir_key_shape(to->key) != weir_key_shape(from->key)) {
        return weir_error_set(err, WEIR_E_STATE,
                              "%s: its key changed, and what it remembers by the old one would be "
                              "lost; put it back, or give the new form of the rule another name "
                              "beside it",
                              to->declaration);
    }
    return check_layouts(to, from, &own, err);
}

bool weir_rule_state_migrates(struct weir_rule_state *to, const struct weir_rule_state *from) {
    for (const struct rule_old *old = to->olds; old != NULL; old = old->next) {
        bool known = old->layout->number == from->layout;
        for (const struct rule_old *other = from->olds; other != NULL; other = other->next) {
            known = known || other->layout->number == old->layout->number;
        }
        if (known && old->steps) {
            return true;
        }
    }
    return false;
}

/* All slots of a table, as images. */
static int copy_slots(struct weir_table *to, struct weir_table *from, struct weir_error *err) {
    struct weir_cell_cursor cursor = {0};
    struct weir_buffer slice;
    bool done = false;
    int rc = WEIR_OK;
    weir_buffer_init(&slice, COPY_BYTES_MAX);
    while (rc == WEIR_OK && !done) {
        weir_buffer_clear(&slice);
        rc = weir_table_dump(from, &cursor, &slice, COPY_SLOTS, &done, err);
        rc = rc == WEIR_OK ? weir_table_apply(to, slice.data, slice.size, err) : rc;
        if (rc == WEIR_OK && slice.size == 0 && !done) { /* what is on disk is being read */
            weir_cold_keys_wait(weir_table_cold_keys(from));
        }
    }
    weir_buffer_fini(&slice);
    return rc;
}

static void swap_tables(struct weir_table **a, struct weir_table **b) {
    struct weir_table *table = *a;
    *a = *b;
    *b = table;
}

static void swap_heaps(struct rule_heap *a, struct rule_heap *b) {
    struct rule_heap heap = *a;
    *a = *b;
    *b = heap;
}

/* Timers, and rows that wait. */
static void take_waiting(struct weir_rule_state *to, struct weir_rule_state *from) {
    struct weir_rule_state **owner = to->row_owner;
    to->row_owner = from->row_owner; /* the table knows it */
    from->row_owner = owner;
    *to->row_owner = to;
    *from->row_owner = from;
    swap_tables(&to->row_table, &from->row_table);
    swap_tables(&to->timer_table, &from->timer_table);
    swap_heaps(&to->rows, &from->rows);
    swap_heaps(&to->event_timers, &from->event_timers);
    struct weir_side queued = to->queued;
    to->queued = from->queued;
    from->queued = queued;
    swap_heaps(&to->clock_timers, &from->clock_timers);
    to->arrival = from->arrival;
}

int weir_rule_state_take(struct weir_rule_state *to, struct weir_rule_state **taken,
                         struct weir_error *err) {
    struct weir_rule_state *from = *taken;
    if (has_nothing(from) && weir_key_shape(to->key) != weir_key_shape(from->key)) {
        return WEIR_OK; /* see check */
    }
    take_waiting(to, from);
    to->over_us = from->over_us;
    if (to->layout != from->layout) {
        int rc = copy_slots(to->table, from->table, err);
        to->retired = from;
        *taken = NULL;
        return rc == WEIR_OK ? rule_slots_restore(to, err) : rc;
    }
    struct weir_rule_state **owner = to->owner;
    to->owner = from->owner; /* the table knows it */
    from->owner = owner;
    *to->owner = to;
    *from->owner = from;
    swap_tables(&to->table, &from->table);
    swap_heaps(&to->expiry, &from->expiry);
    swap_heaps(&to->expiry_anew, &from->expiry_anew);
    to->expiry_walk = from->expiry_walk;
    to->expiry_left = from->expiry_left;
    bool on_disk = to->on_disk;
    to->on_disk = from->on_disk;
    from->on_disk = on_disk;
    return to->ttl_us == from->ttl_us ? WEIR_OK : rule_slots_restore(to, err);
}

void rule_retire(struct weir_rule_state *state) {
    if (state->retired != NULL && weir_table_collected(state->retired->table)) {
        weir_rule_state_destroy(state->retired);
        state->retired = NULL;
    }
}

/* --- a trial ---------------------------------------------------------------------------------- */

int weir_rule_state_borrow(struct weir_rule_state *to, struct weir_rule_state *from,
                           struct weir_cell_cursor *cursor, struct weir_rule_item *items,
                           int32_t room, int32_t *count, struct weir_error *err) {
    struct weir_buffer slice;
    bool done = false;
    int rc = WEIR_OK;
    uint64_t next = cursor->minor > 0 ? cursor->minor : 1;
    *count = 0;
    weir_buffer_init(&slice, COPY_BYTES_MAX);
    while (rc == WEIR_OK && !done && *count == 0) {
        weir_buffer_clear(&slice);
        rc = weir_table_dump_memory(from->table, &next, &slice, (size_t)room, &done, err);
        rc = rc == WEIR_OK ? weir_table_apply(to->table, slice.data, slice.size, err) : rc;
        for (uint32_t n = 1; rc == WEIR_OK && n <= weir_table_slots(to->table); n++) {
            const struct weir_slot *slot = weir_table_slot(to->table, n);
            if (slot->sequence != 0 && slot->key_bytes > 0 && *count < room) {
                items[(*count)++] = (struct weir_rule_item){
                    .key = weir_slot_key(to->table, slot),
                    .key_bytes = slot->key_bytes,
                    .time_us = rule_slot_of(to, (struct weir_slot *)(uintptr_t)slot)->changed_us,
                    .gate_us = INT64_MIN,
                };
            }
        }
    }
    cursor->minor = next;
    weir_buffer_fini(&slice);
    return rc;
}

int weir_rule_state_give_back(struct weir_rule_state *to, struct weir_error *err) {
    for (uint32_t n = 1; n <= weir_table_slots(to->table); n++) {
        struct weir_slot *slot = weir_table_slot(to->table, n);
        if (slot->sequence != 0 && slot->key_bytes > 0 &&
            weir_table_delete(to->table, slot, true) != WEIR_OK) {
            return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", to->declaration);
        }
    }
    return WEIR_OK;
}
