/* Timers of a rule, and when keys expire. The tables know what is set; heaps, made again at a
 * start, know what is next: an entry the table no longer agrees with is skipped. */
#include <stdlib.h>
#include <string.h>

#include "operator/rule/rule_private.h"

/* --- heaps ------------------------------------------------------------------------------------ */

enum { CHILDREN = 4 }; /* half as many levels as with two, each a miss of the cache */

/* As one number: what comes next is as good as random, and a branch on it would be guessed wrong.
 */
static inline bool before(const struct rule_due *a, const struct rule_due *b) {
    __int128 left = (__int128)((unsigned __int128)a->at_us << 64 | a->order);
    __int128 right = (__int128)((unsigned __int128)b->at_us << 64 | b->order);
    return left < right;
}

bool rule_heap_push(struct rule_heap *heap, const struct rule_due *due) {
    if (heap->count == heap->capacity) {
        size_t capacity = heap->capacity == 0 ? 64 : heap->capacity * 2;
        struct rule_due *list = realloc(heap->list, capacity * sizeof *list);
        if (list == NULL) {
            return false;
        }
        heap->list = list;
        heap->capacity = capacity;
    }
    size_t at = heap->count++;
    while (at > 0 && before(due, &heap->list[(at - 1) / CHILDREN])) {
        heap->list[at] = heap->list[(at - 1) / CHILDREN];
        at = (at - 1) / CHILDREN;
    }
    heap->list[at] = *due;
    return true;
}

/* The hole goes down to a leaf, then the last entry up from there: it is among the latest, so that
 * comparing it on the way down would be in vain. */
void rule_heap_pop(struct rule_heap *heap) {
    struct rule_due *list = heap->list;
    struct rule_due last = list[--heap->count];
    size_t count = heap->count;
    size_t at = 0;
    for (size_t child = 1; child < count; child = CHILDREN * at + 1) {
        size_t first = child;
        if (child + CHILDREN <= count) {
            size_t left = child + before(&list[child + 1], &list[child]);
            size_t right = child + 2 + before(&list[child + 3], &list[child + 2]);
            first = before(&list[right], &list[left]) ? right : left;
        } else {
            for (size_t i = child + 1; i < count; i++) {
                first = before(&list[i], &list[first]) ? i : first;
            }
        }
        list[at] = list[first];
        at = first;
    }
    while (at > 0 && before(&last, &list[(at - 1) / CHILDREN])) {
        list[at] = list[(at - 1) / CHILDREN];
        at = (at - 1) / CHILDREN;
    }
    if (count > 0) {
        list[at] = last;
    }
}

void rule_heap_fini(struct rule_heap *heap) {
    free(heap->list);
    *heap = (struct rule_heap){0};
}

/* --- timers ----------------------------------------------------------------------------------- */

const struct rule_due *rule_timer_first(struct weir_rule_state *state, bool clock) {
    struct rule_heap *heap = clock ? &state->clock_timers : &state->event_timers;
    while (heap->count > 0) {
        struct rule_due due = heap->list[0];
        struct weir_slot *slot = weir_table_slot(state->timer_table, due.slot);
        const struct rule_timer *timer = weir_slot_value(state->timer_table, slot);
        bool stands = slot->sequence == due.sequence && (timer->clock != 0) == clock;
        if (stands && timer->at_us == due.at_us) {
            return &heap->list[0];
        }
        rule_heap_pop(heap);
        struct rule_queued *queued = weir_side_at(&state->queued, due.slot);
        if (stands && queued->sequence == due.sequence && queued->at_us == due.at_us &&
            queued->clock == clock) { /* it was put off */
            due.at_us = queued->at_us = timer->at_us;
            rule_heap_push(heap, &due); /* into the room of the one before */
        }
    }
    return NULL;
}

const struct rule_due *rule_expiry_first(struct weir_rule_state *state) {
    struct rule_heap *heap = &state->expiry;
    while (heap->count > 0) {
        struct rule_due due = heap->list[0];
        struct weir_slot *slot = weir_table_slot(state->table, due.slot);
        int64_t at = slot->sequence == due.sequence
                         ? rule_slot_of(state, slot)->changed_us + state->ttl_us
                         : 0;
        if (slot->sequence == due.sequence && at == due.at_us) {
            return &heap->list[0];
        }
        rule_heap_pop(heap);
        if (slot->sequence == due.sequence) { /* it has changed since */
            due.at_us = at;
            rule_heap_push(heap, &due); /* into the room of the one before */
        }
    }
    return NULL;
}

/* u8 length, name, key */
static int timer_key(struct weir_rule_state *state, const char *name) {
    size_t length = strlen(name);
    uint8_t head = (uint8_t)length;
    weir_buffer_clear(&state->timer_key);
    int rc = weir_buffer_append(&state->timer_key, &head, 1);
    rc = rc == WEIR_OK ? weir_buffer_append(&state->timer_key, name, length) : rc;
    return rc == WEIR_OK ? weir_buffer_append(&state->timer_key, state->key_bytes, state->key_size)
                         : rc;
}

/* A timer put off keeps its entry, which is put right when its time comes: one that is put off with
 * every row would fill the heap otherwise. */
static int push(struct weir_rule_state *state, struct weir_slot *slot,
                const struct rule_timer *timer, struct weir_error *err) {
    struct rule_heap *heap = timer->clock ? &state->clock_timers : &state->event_timers;
    struct rule_due due = {timer->at_us, slot->sequence, slot->number, slot->sequence};
    bool good = weir_side_reach(&state->queued, slot->number);
    struct rule_queued *queued = good ? weir_side_at(&state->queued, slot->number) : NULL;
    if (good && queued->sequence == slot->sequence && queued->clock == (timer->clock != 0) &&
        queued->at_us <= timer->at_us) {
        return WEIR_OK;
    }
    if (good && rule_heap_push(heap, &due)) {
        *queued = (struct rule_queued){slot->sequence, timer->at_us, timer->clock != 0};
        return WEIR_OK;
    }
    return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", state->declaration);
}

int rule_timer_apply(struct weir_rule_state *state, const struct rule_pending *pending,
                     struct weir_error *err) {
    struct weir_table *table = state->timer_table;
    if (timer_key(state, state->timers[pending->timer]) != WEIR_OK) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", state->declaration);
    }
    const struct weir_buffer *key = &state->timer_key;
    uint64_t hash = weir_table_hash(table, key->data, key->size);
    struct weir_slot *slot = weir_table_find(table, hash, key->data, key->size);
    if (pending->cancel) {
        return slot == NULL ? WEIR_OK : weir_table_delete(table, slot, false);
    }
    bool created;
    if (slot == NULL) {
        slot = weir_table_get(table, hash, key->data, key->size, &created, err);
        if (slot == NULL) {
            return err->code;
        }
    } else if (weir_table_touch(table, slot) != WEIR_OK) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", state->declaration);
    }
    struct rule_timer *timer = weir_slot_value(table, slot);
    timer->at_us = pending->at_us;
    timer->clock = pending->clock;
    return push(state, slot, timer, err);
}

int32_t rule_timer_take(struct weir_rule_state *state, bool clock, int64_t *at_us) {
    struct rule_heap *heap = clock ? &state->clock_timers : &state->event_timers;
    struct weir_slot *slot = weir_table_slot(state->timer_table, heap->list[0].slot);
    const uint8_t *key = weir_slot_key(state->timer_table, slot);
    size_t name = key[0];
    int32_t found = -1;
    *at_us = heap->list[0].at_us;
    for (int32_t t = 0; t < state->timer_count; t++) {
        if (strlen(state->timers[t]) == name && memcmp(state->timers[t], key + 1, name) == 0) {
            found = t;
        }
    }
    weir_buffer_clear(&state->timer_key);
    if (weir_buffer_append(&state->timer_key, key + 1 + name, slot->key_bytes - 1 - name) !=
            WEIR_OK ||
        weir_table_delete(state->timer_table, slot, false) != WEIR_OK) {
        weir_error_set(&state->failure, WEIR_E_NOMEM, "%s: out of memory", state->declaration);
        return -1;
    }
    rule_heap_pop(heap);
    return found;
}

int rule_timers_restore(struct weir_rule_state *state, struct weir_error *err) {
    state->event_timers.count = state->clock_timers.count = 0;
    weir_side_clear(&state->queued);
    for (uint32_t n = 1; n <= weir_table_slots(state->timer_table); n++) {
        struct weir_slot *slot = weir_table_slot(state->timer_table, n);
        if (slot->sequence == 0) {
            continue;
        }
        const uint8_t *key = weir_slot_key(state->timer_table, slot);
        if (slot->key_bytes < 1 || key[0] >= slot->key_bytes) {
            return weir_error_set(err, WEIR_E_CORRUPT, "%s: a timer has no name",
                                  state->declaration);
        }
        int rc = push(state, slot, weir_slot_value(state->timer_table, slot), err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return WEIR_OK;
}
