/* What a window made of panes holds: running values of a block's end and of the next one's
 * beginning, members of exact distinct sets, and the order of its groups. hopping.c says how it
 * works. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "operator/hopping.h"

/* --- running values --------------------------------------------------------------------------- */

static uint8_t *prefix_of(struct weir_aggregate *aggregate, uint32_t group) {
    return aggregate->hops->prefix + (size_t)group * hops_value_bytes(aggregate);
}

static uint8_t *suffix_of(struct weir_aggregate *aggregate, uint32_t slot) {
    return aggregate->hops->suffix + (size_t)slot * hops_value_bytes(aggregate);
}

static void note_first(uint64_t *first, bool has, uint64_t sequence) {
    *first = has && *first < sequence ? *first : sequence;
}

/* Adds `value` to what is in `into`, or puts it there. */
static void accumulate(const struct weir_aggregate *aggregate, bool *has, uint8_t *into,
                       const uint8_t *value) {
    if (*has) {
        weir_measures_merge(&aggregate->measures, into, value);
    } else {
        memcpy(into, value, hops_value_bytes(aggregate));
        *has = true;
    }
}

/* The panes of [from, until) go into the groups' prefixes. */
static void extend_prefix(struct weir_aggregate *aggregate, int64_t from, int64_t until) {
    struct weir_hops *hops = aggregate->hops;
    for (int64_t pane = from; pane < until; pane += hops->pane) {
        const struct weir_window *window = weir_windows_find(&aggregate->windows, pane);
        for (uint32_t n = window != NULL ? window->head : 0; n != 0;) {
            struct weir_slot *slot = weir_table_slot(aggregate->table, n);
            if (hops_min_end_of(aggregate, slot) == ALL_WINDOWS) {
                uint32_t group = hops->group_of[n];
                struct group_side *side = &hops->sides[group];
                note_first(&side->prefix_first, side->has_prefix, slot->sequence);
                accumulate(aggregate, &side->has_prefix, prefix_of(aggregate, group),
                           weir_slot_value(aggregate->table, slot));
            }
            n = slot->link;
        }
    }
}

/* Back to front, each pane's slot takes what its group has from there to the block's end. */
static void make_suffixes(struct weir_aggregate *aggregate, int64_t from, int64_t block_end) {
    struct weir_hops *hops = aggregate->hops;
    for (int64_t pane = block_end - hops->pane; pane >= from; pane -= hops->pane) {
        const struct weir_window *window = weir_windows_find(&aggregate->windows, pane);
        for (uint32_t n = window != NULL ? window->head : 0; n != 0;) {
            struct weir_slot *slot = weir_table_slot(aggregate->table, n);
            if (hops_min_end_of(aggregate, slot) == ALL_WINDOWS) {
                struct group_side *side = &hops->sides[hops->group_of[n]];
                uint8_t *value = suffix_of(aggregate, n);
                memcpy(value, weir_slot_value(aggregate->table, slot), hops_value_bytes(aggregate));
                hops->suffix_first[n] = slot->sequence;
                if (side->suffix != 0) {
                    note_first(&hops->suffix_first[n], true, hops->suffix_first[side->suffix]);
                    weir_measures_merge(&aggregate->measures, value,
                                        suffix_of(aggregate, side->suffix));
                }
                hops->next_in_block[n] = side->suffix;
                side->suffix = n;
            }
            n = slot->link;
        }
    }
}

/* Slots of late rows that count in the window, in creation order. */
static void make_extras(struct weir_aggregate *aggregate, int64_t from, int64_t until) {
    struct weir_hops *hops = aggregate->hops;
    for (size_t i = 0; hops->any_extra && i < hops->order_count; i++) {
        hops->sides[hops->order[i].number].has_extra = false;
    }
    hops->any_extra = hops->late_count > 0;
    for (size_t i = 0; i < hops->late_count; i++) {
        struct weir_slot *slot = weir_table_slot(aggregate->table, hops->late[i]);
        int64_t pane = hops_pane_of(aggregate, slot);
        if (pane >= from && pane < until && hops_min_end_of(aggregate, slot) <= until) {
            uint32_t group = hops->group_of[slot->number];
            note_first(&hops->sides[group].extra_first, hops->sides[group].has_extra,
                       slot->sequence);
            accumulate(aggregate, &hops->sides[group].has_extra,
                       hops->extra + (size_t)group * hops_value_bytes(aggregate),
                       weir_slot_value(aggregate->table, slot));
        }
    }
}

/* --- exact distinct ----------------------------------------------------------------------------
 */

static bool set_add(struct weir_hops *hops, XXH128_hash_t hash) {
    size_t at = hash.low64 & hops->set_mask;
    for (;; at = (at + 1) & hops->set_mask) {
        struct weir_fingerprint *entry = &hops->set[at];
        if (entry->lo == 0 && entry->hi == 0) {
            entry->lo = hash.low64;
            entry->hi = hash.high64 | 1;
            return true;
        }
        if (entry->lo == hash.low64 && entry->hi == (hash.high64 | 1)) {
            return false;
        }
    }
}

static size_t members_between(struct weir_aggregate *aggregate, int64_t from, int64_t until) {
    size_t members = 0;
    for (int64_t pane = from; pane < until; pane += aggregate->hops->pane) {
        const struct weir_window *window = weir_windows_find(&aggregate->windows, pane);
        for (uint32_t n = window != NULL ? window->head : 0; n != 0;) {
            struct weir_slot *slot = weir_table_slot(aggregate->table, n);
            for (int32_t m = 0; m < aggregate->measures.count; m++) {
                const struct weir_measure_cell *cell = &aggregate->measures.cells[m];
                if (cell->measure.kind == WEIR_MEASURE_DISTINCT) {
                    struct weir_distinct_cell distinct;
                    memcpy(&distinct,
                           (uint8_t *)weir_slot_value(aggregate->table, slot) + cell->offset,
                           sizeof distinct);
                    members += distinct.count;
                }
            }
            n = slot->link;
        }
    }
    return members;
}

/* Counts the members of a slot that the window's group has not shown yet, into the group's extra
 * value (made if need be). */
static void count_members(struct weir_aggregate *aggregate, struct weir_slot *slot) {
    struct weir_hops *hops = aggregate->hops;
    uint32_t group = hops->group_of[slot->number];
    const uint8_t *value = weir_slot_value(aggregate->table, slot);
    for (int32_t m = 0; m < aggregate->measures.count; m++) {
        const struct weir_measure_cell *cell = &aggregate->measures.cells[m];
        struct weir_distinct_cell distinct;
        if (cell->measure.kind != WEIR_MEASURE_DISTINCT) {
            continue;
        }
        memcpy(&distinct, value + cell->offset, sizeof distinct);
        for (uint32_t n = distinct.head; n != 0;) {
            const struct weir_slot *member = weir_table_slot(aggregate->members, n);
            const uint8_t *key = weir_slot_key(aggregate->members, member) + sizeof(uint64_t);
            if (set_add(hops,
                        XXH3_128bits_withSeed(key, member->key_bytes - sizeof(uint64_t), group))) {
                uint8_t *at =
                    hops->extra + (size_t)group * hops_value_bytes(aggregate) + cell->offset;
                uint64_t count;
                memcpy(&count, at, sizeof count);
                count++;
                memcpy(at, &count, sizeof count);
            }
            n = member->link;
        }
    }
}

static void clear_distinct(struct weir_aggregate *aggregate, uint8_t *value) {
    for (int32_t m = 0; m < aggregate->measures.count; m++) {
        const struct weir_measure_cell *cell = &aggregate->measures.cells[m];
        if (cell->measure.kind == WEIR_MEASURE_DISTINCT) {
            memset(value + cell->offset, 0, sizeof(struct weir_distinct_cell));
        }
    }
}

/* A value in several panes counts once, so sets cannot be merged as counts are: the members of the
 * window's panes are gone through, by 128-bit fingerprints. */
static int make_distinct(struct weir_aggregate *aggregate, int64_t from, int64_t until,
                         struct weir_error *err) {
    struct weir_hops *hops = aggregate->hops;
    size_t members = members_between(aggregate, from, until);
    size_t capacity = 64;
    while (capacity < members * 2) {
        capacity *= 2;
    }
    if (hops->set == NULL || capacity > hops->set_mask + 1) {
        if (!hops_grow((void **)&hops->set, capacity, sizeof *hops->set)) {
            return hops_no_memory(aggregate, err);
        }
        hops->set_mask = capacity - 1;
    }
    memset(hops->set, 0, (hops->set_mask + 1) * sizeof *hops->set);
    for (size_t i = 0; i < hops->order_count; i++) {
        uint32_t group = hops->order[i].number;
        uint8_t *extra = hops->extra + (size_t)group * hops_value_bytes(aggregate);
        if (!hops->sides[group].has_extra) {
            memset(extra, 0, hops_value_bytes(aggregate));
        }
        clear_distinct(aggregate, extra);
    }
    for (int64_t pane = from; pane < until; pane += hops->pane) {
        const struct weir_window *window = weir_windows_find(&aggregate->windows, pane);
        for (uint32_t n = window != NULL ? window->head : 0; n != 0;) {
            struct weir_slot *slot = weir_table_slot(aggregate->table, n);
            if (hops_min_end_of(aggregate, slot) <= until) {
                count_members(aggregate, slot);
            }
            n = slot->link;
        }
    }
    return WEIR_OK;
}

/* --- one window --------------------------------------------------------------------------------
 */

static int by_sequence(const void *a, const void *b) {
    const struct weir_ordered_slot *x = a;
    const struct weir_ordered_slot *y = b;
    return (x->sequence > y->sequence) - (x->sequence < y->sequence);
}

/* The sequence of the first slot the group has in the window at hand; UINT64_MAX: it has none. */
static uint64_t first_slot(const struct weir_hops *hops, const struct group_side *side) {
    uint64_t first = side->suffix != 0 ? hops->suffix_first[side->suffix] : UINT64_MAX;
    if (side->has_prefix && side->prefix_first < first) {
        first = side->prefix_first;
    }
    return side->has_extra && side->extra_first < first ? side->extra_first : first;
}

/* The groups that have something in the window, by their first slot there. */
static int order_window(struct weir_aggregate *aggregate, struct weir_error *err) {
    struct weir_hops *hops = aggregate->hops;
    bool sorted = true;
    uint64_t before = 0;
    hops->window_count = 0;
    if (hops->window_capacity < hops->order_count) {
        if (!hops_grow((void **)&hops->window, hops->order_capacity, sizeof *hops->window)) {
            return hops_no_memory(aggregate, err);
        }
        hops->window_capacity = hops->order_capacity;
    }
    for (size_t i = 0; i < hops->order_count; i++) {
        const struct weir_ordered_slot *at = &hops->order[i];
        const struct group_side *side = &hops->sides[at->number];
        uint64_t first =
            side->sequence == at->sequence ? first_slot(hops, side) : UINT64_MAX; /* gone */
        if (first != UINT64_MAX) {
            hops->window[hops->window_count++] = (struct weir_ordered_slot){first, at->number};
            sorted &= first > before;
            before = first;
        }
    }
    if (!sorted) {
        qsort(hops->window, hops->window_count, sizeof *hops->window, by_sequence);
    }
    return WEIR_OK;
}

/* Brings the running values to the window that ends at `end`. What is fed while its rows leave in
 * chunks is late for it and changes none of them. */
int hops_prepare(struct weir_aggregate *aggregate, int64_t end, struct weir_error *err) {
    struct weir_hops *hops = aggregate->hops;
    if (hops->valid && end == hops->until) {
        return WEIR_OK;
    }
    int64_t from = hops->cumulate ? weir_window_start(end - 1, aggregate->size)
                                  : weir_time_add(end, -aggregate->size);
    int64_t block = weir_window_start(from, aggregate->size);
    int64_t block_end = weir_time_add(block, aggregate->size);
    if (!hops->valid || block != hops->block) {
        for (size_t i = 0; i < hops->order_count; i++) {
            hops->sides[hops->order[i].number].suffix = 0;
            hops->sides[hops->order[i].number].has_prefix = false;
        }
        if (hops->cumulate) {
            extend_prefix(aggregate, from, end);
        } else {
            make_suffixes(aggregate, from, block_end);
            extend_prefix(aggregate, block_end, end);
        }
    } else {
        int64_t begin = hops->until;
        if (!hops->cumulate && begin < block_end) {
            begin = block_end;
        }
        extend_prefix(aggregate, begin, end);
    }
    hops->block = block;
    hops->until = end;
    make_extras(aggregate, from, end);
    int rc = order_window(aggregate, err);
    if (rc == WEIR_OK && aggregate->measures.has_members) {
        rc = make_distinct(aggregate, from, end, err);
    }
    hops->valid = rc == WEIR_OK;
    return rc;
}

void hops_combine(struct weir_aggregate *aggregate, uint32_t group) {
    struct weir_hops *hops = aggregate->hops;
    const struct group_side *side = &hops->sides[group];
    const uint8_t *extra = hops->extra + (size_t)group * hops_value_bytes(aggregate);
    bool has = false;
    if (side->suffix != 0) {
        accumulate(aggregate, &has, hops->value, suffix_of(aggregate, side->suffix));
    }
    if (side->has_prefix) {
        accumulate(aggregate, &has, hops->value, prefix_of(aggregate, group));
    }
    if (side->has_extra) {
        accumulate(aggregate, &has, hops->value, extra);
    }
    for (int32_t m = 0; m < aggregate->measures.count; m++) {
        const struct weir_measure_cell *cell = &aggregate->measures.cells[m];
        if (cell->measure.kind == WEIR_MEASURE_DISTINCT) {
            memcpy(hops->value + cell->offset, extra + cell->offset, sizeof(uint64_t));
        }
    }
}
