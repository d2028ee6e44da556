/* Keys of a rule that wait on disk. Those of rows are asked for before a run over them; a run that
 * comes to a timer whose key is there stops until it is in, with those of timers that come soon.
 * When keys expire is known of those in memory one by one, of those on disk run by run (the
 * store's): one that comes in and is over is gone before anybody looks. */
#include <stdlib.h>
#include <string.h>

#include "operator/rule/rule_private.h"
#include "state/cold_keys.h"

enum {
    /* The first levels of a heap of four children: nearly those that come next. */
    TIMERS_AHEAD = 340,
    TIMERS_NEEDED = 1364,
    ANEW_SLOTS = 4096,  /* of a walk, a call */
    SEQUENCE_BYTES = 8, /* before a record's image */
    HEAD_BYTES = 16     /* of an image: layout, time of the last change */
};

/* --- when keys expire ------------------------------------------------------------------------- */

bool rule_expiry_push(struct weir_rule_state *state, struct weir_slot *slot) {
    struct rule_slot *value = rule_slot_of(state, slot);
    struct rule_due due = {value->changed_us + state->ttl_us, slot->sequence, slot->number,
                           slot->sequence};
    value->expires = 1;
    return rule_heap_push(&state->expiry, &due) &&
           (state->expiry_walk == 0 || rule_heap_push(&state->expiry_anew, &due));
}

/* Entries of keys that left would stay until their time: when they are many, the heap is made anew
 * from the slots, some of them a call. */
static bool renew_expiry(struct weir_rule_state *state) {
    if (state->expiry_walk == 0) {
        if (state->expiry_left > state->expiry.count / 2 + ANEW_SLOTS) {
            state->expiry_anew.count = 0;
            state->expiry_left = 0;
            state->expiry_walk = 1;
        }
        return true;
    }
    uint32_t slots = weir_table_slots(state->table);
    for (int i = 0; i < ANEW_SLOTS && state->expiry_walk <= slots; i++, state->expiry_walk++) {
        struct weir_slot *slot = weir_table_slot(state->table, state->expiry_walk);
        if (slot->sequence == 0 || !rule_slot_of(state, slot)->expires) {
            continue;
        }
        struct rule_due due = {rule_slot_of(state, slot)->changed_us + state->ttl_us,
                               slot->sequence, slot->number, slot->sequence};
        if (!rule_heap_push(&state->expiry_anew, &due)) {
            return false;
        }
    }
    if (state->expiry_walk > slots) {
        rule_heap_fini(&state->expiry);
        state->expiry = state->expiry_anew;
        state->expiry_anew = (struct rule_heap){0};
        state->expiry_walk = 0;
    }
    return true;
}

void rule_disk_passed(struct weir_rule_state *state, int64_t gate_us) {
    if (state->ttl_us == 0 || !state->on_disk) {
        return;
    }
    /* As next_due has it: by the clock also at the very time; and the end is no time. */
    int64_t over = state->ttl_by_clock    ? state->span.clock_us + 1
                   : gate_us == INT64_MAX ? INT64_MIN
                                          : gate_us;
    state->over_us = over > state->over_us ? over : state->over_us;
}

/* --- out and in ------------------------------------------------------------------------------- */

static int slot_leaves(void *context, struct weir_slot *slot, uint64_t run,
                       struct weir_error *err) {
    struct weir_rule_state *state = *(struct weir_rule_state **)context;
    (void)run;
    (void)err;
    state->expiry_left += rule_slot_of(state, slot)->expires != 0;
    return WEIR_OK;
}

static int slot_comes(void *context, struct weir_slot *slot, struct weir_error *err) {
    struct weir_rule_state *state = *(struct weir_rule_state **)context;
    if (state->ttl_us == 0) {
        return WEIR_OK;
    }
    bool over = rule_slot_of(state, slot)->changed_us + state->ttl_us < state->over_us;
    bool good = over ? weir_table_delete(state->table, slot, false) == WEIR_OK
                     : rule_expiry_push(state, slot);
    return good ? WEIR_OK
                : weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", state->declaration);
}

static int64_t changed_at(void *context, const uint8_t *image, size_t size) {
    int64_t changed = INT64_MAX;
    (void)context;
    if (size >= HEAD_BYTES) {
        memcpy(&changed, image + sizeof(uint64_t), sizeof changed);
    }
    return changed;
}

int rule_disk_allow(struct weir_rule_state *state, const struct weir_rule_config *config,
                    struct weir_error *err) {
    if (config->disk == NULL) {
        return WEIR_OK;
    }
    state->on_disk = true;
    const struct weir_table_disk disk = {
        .path = config->disk,
        .signal = config->disk_signal,
        .owner = {.context = (void *)state->owner,
                  .leaves = slot_leaves,
                  .comes = slot_comes,
                  .time_of = changed_at},
    };
    return weir_table_allow_disk(state->table, &disk, err);
}

bool weir_rule_state_may_wait(const struct weir_rule_state *state) {
    return state->on_disk;
}

bool weir_rule_state_uses_disk(const struct weir_rule_state *state) {
    return state->on_disk && weir_table_uses_disk(state->table);
}

struct weir_table_disk_figures weir_rule_state_disk_figures(const struct weir_rule_state *state) {
    return weir_table_disk_figures(state->table);
}

static int want_some(struct weir_rule_state *state, const struct weir_rule_item *items,
                     int32_t count, struct weir_error *err) {
    struct weir_table *table = state->table;
    struct weir_cold_keys *cold = weir_table_cold_keys(table);
    uint64_t hashes[RULE_AHEAD];
    int rc = WEIR_OK;
    for (int32_t i = 0; i < count; i++) {
        hashes[i] = weir_table_hash(table, items[i].key, items[i].key_bytes);
        weir_table_prefetch(table, hashes[i]);
        weir_cold_keys_prefetch(cold, hashes[i]);
    }
    for (int32_t i = 0; i < count; i++) {
        weir_table_prefetch_slot(table, hashes[i]);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        struct weir_slot *slot =
            weir_table_find(table, hashes[i], items[i].key, items[i].key_bytes);
        if (slot == NULL) {
            rc = weir_table_want(table, hashes[i], items[i].key, items[i].key_bytes, err);
        } else if (slot->heat < WEIR_SLOT_HEAT_MAX) {
            slot->heat++;
        }
    }
    return rc;
}

/* The key of the rule that a timer is of, if it is not in memory. */
struct timed_key {
    uint64_t hash;
    const uint8_t *bytes;
    size_t size;
};

static bool is_missing(const struct weir_rule_state *state, const struct rule_due *due,
                       struct timed_key *key) {
    const struct weir_slot *slot = weir_table_slot(state->timer_table, due->slot);
    if (slot->sequence != due->sequence) {
        return false;
    }
    const uint8_t *named = weir_slot_key(state->timer_table, slot); /* the timer's name first */
    key->bytes = named + 1 + named[0];
    key->size = slot->key_bytes - 1 - (size_t)named[0];
    key->hash = weir_table_hash(state->table, key->bytes, key->size);
    return weir_table_find(state->table, key->hash, key->bytes, key->size) == NULL;
}

static int want_timers(struct weir_rule_state *state, const struct rule_heap *heap, size_t most,
                       int64_t last_us, struct weir_error *err) {
    struct timed_key key;
    int rc = WEIR_OK;
    for (size_t i = 0; rc == WEIR_OK && i < heap->count && i < most; i++) {
        if (heap->list[i].at_us <= last_us && is_missing(state, &heap->list[i], &key)) {
            rc = weir_table_want(state->table, key.hash, key.bytes, key.size, err);
        }
    }
    return rc;
}

void rule_disk_look(struct weir_rule_state *state, bool clock) {
    const struct rule_heap *heap = clock ? &state->clock_timers : &state->event_timers;
    struct weir_error *err = &state->failure;
    struct timed_key key;
    if (!weir_rule_state_uses_disk(state) || !is_missing(state, &heap->list[0], &key)) {
        return;
    }
    int rc = want_timers(state, heap, TIMERS_AHEAD, INT64_MAX, err);
    bool waits = false;
    rc = rc == WEIR_OK ? weir_table_load(state->table, &waits, err) : rc;
    state->waits = rc == WEIR_OK && waits;
}

int weir_rule_state_need(struct weir_rule_state *state, const struct weir_rule_item *items,
                         int32_t count, bool *waits, struct weir_error *err) {
    int rc = WEIR_OK;
    *waits = false;
    if (!weir_rule_state_uses_disk(state)) {
        return rc;
    }
    for (int32_t at = 0; rc == WEIR_OK && at < count; at += RULE_AHEAD) {
        int32_t some = count - at < RULE_AHEAD ? count - at : RULE_AHEAD;
        rc = want_some(state, items + at, some, err);
    }
    if (rc == WEIR_OK && count > 0) { /* those that come in between */
        int64_t last = items[count - 1].gate_us;
        rc = want_timers(state, &state->event_timers, TIMERS_NEEDED, last, err);
    }
    return rc == WEIR_OK ? weir_table_load(state->table, waits, err) : rc;
}

int weir_rule_state_bring(struct weir_rule_state *state, bool *done, struct weir_error *err) {
    return weir_table_bring(state->table, done, err);
}

int weir_rule_state_make_room(struct weir_rule_state *state, bool *crowded,
                              struct weir_error *err) {
    *crowded = false;
    if (state->ttl_us > 0 && !renew_expiry(state)) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", state->declaration);
    }
    bool over = state->ttl_us > 0 && state->over_us > INT64_MIN + state->ttl_us;
    weir_table_forget(state->table, over ? state->over_us - state->ttl_us : INT64_MIN);
    return weir_table_make_room(state->table, crowded, err);
}

/* --- restore ---------------------------------------------------------------------------------- */

static int look_at_layout(void *context, const struct weir_cold_record *record,
                          struct weir_error *err) {
    struct weir_rule_state *state = context;
    const struct rule_old *old;
    uint64_t layout;
    if (record->value_size < SEQUENCE_BYTES + HEAD_BYTES) {
        return weir_error_set(err, WEIR_E_CORRUPT, "%s: a key on disk is damaged",
                              state->declaration);
    }
    memcpy(&layout, record->value + SEQUENCE_BYTES, sizeof layout);
    return layout == state->layout ? WEIR_OK : rule_old_of(state, layout, &old, err);
}

/* Another one than this version's was written once. */
static bool knows_layouts(const struct weir_rule_state *state) {
    struct weir_slot *slot =
        weir_table_find(state->table, weir_table_hash(state->table, "", 0), "", 0);
    size_t own = HEAD_BYTES + 17 + strlen(state->layout_text) + 1;
    return slot != NULL && rule_slot_of(state, slot)->raw_bytes != own;
}

int rule_disk_restore(struct weir_rule_state *state, struct weir_error *err) {
    if (!weir_rule_state_uses_disk(state) || !knows_layouts(state)) {
        return WEIR_OK;
    }
    struct weir_cold_keys *keys = weir_table_cold_keys(state->table);
    bool end = false;
    int rc = weir_cold_keys_scan(keys, err);
    while (rc == WEIR_OK && !end) {
        weir_cold_keys_wait(keys);
        rc = weir_cold_keys_scanned(keys, look_at_layout, state, &end, err);
    }
    return rc;
}
