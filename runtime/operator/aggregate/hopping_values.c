/* What a window made of panes holds: running values of a block's end and of the next one's
 * beginning, members of exact distinct sets, and the order of its groups. hopping.c says how it
 * works. */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "operator/aggregate/hopping.h"

/* --- running values --------------------------------------------------------------------------- */

static uint8_t *prefix_of(struct weir_aggregate *aggregate, uint32_t group) {
    return weir_side_at(&aggregate->hops->prefix, group);
}

static uint8_t *suffix_of(struct weir_aggregate *aggregate, uint32_t slot) {
    return weir_side_at(&aggregate->hops->suffix, slot);
}

static uint8_t *extra_of(const struct weir_aggregate *aggregate, uint32_t group) {
    return weir_side_at(&aggregate->hops->extra, group);
}

static void note_first(uint64_t *first, bool has, uint64_t sequence) {
    *first = has && *first < sequence ? *first : sequence;
}

/* Adds `value` to what is in `into`, or puts it there. */
static void accumulate(const struct weir_aggregate *aggregate, struct weir_heap *heap, bool *has,
                       uint8_t *into, const uint8_t *value) {
    if (*has) {
        aggregate->hops->failed |=
            weir_measures_merge(&aggregate->measures, heap, into, value) != WEIR_OK;
    } else {
        weir_measures_borrow(&aggregate->measures, into, value);
        *has = true;
    }
}

static void forget_parts(struct weir_heap *heap) {
    if (heap->reserved_bytes > 0) {
        weir_heap_fini(heap);
        weir_heap_init(heap);
    }
}

/* --- slices ----------------------------------------------------------------------------------- */

static struct hops_walk walk_from(const struct weir_aggregate *aggregate, int64_t pane,
                                  int64_t until) {
    int64_t panes = until > pane ? (until - pane) / aggregate->hops->pane : 0;
    return (struct hops_walk){.pane = pane, .left = panes};
}

/* The next slot, `step` panes on where one is through; NULL at the end, or when there is no work
 * left. */
static struct weir_slot *walk_next(struct weir_aggregate *aggregate, struct hops_walk *walk,
                                   int64_t step, int32_t *work) {
    while (walk->slot == 0) {
        if (walk->left == 0 || (*work)-- <= 0) {
            return NULL;
        }
        const struct weir_window *window = weir_windows_find(&aggregate->windows, walk->pane);
        walk->slot = window != NULL ? window->head : 0;
        walk->pane += step;
        walk->left--;
    }
    if ((*work)-- <= 0) {
        return NULL;
    }
    struct weir_slot *slot = weir_table_slot(aggregate->table, walk->slot);
    walk->slot = slot->link;
    return slot;
}

static bool walked(const struct hops_walk *walk) {
    return walk->slot == 0 && walk->left == 0;
}

/* --- values of panes -------------------------------------------------------------------------- */

static bool reset_groups(struct weir_aggregate *aggregate, int32_t *work) {
    struct weir_hops *hops = aggregate->hops;
    forget_parts(&hops->block_parts); /* the groups are forgotten before any is looked at again */
    for (; hops->making.at < hops->order_count; hops->making.at++) {
        if ((*work)-- <= 0) {
            return false;
        }
        struct group_side *side = hops_group(hops, hops_ordered(hops, hops->making.at)->number);
        side->suffix = 0;
        side->has_prefix = false;
    }
    return true;
}

/* The panes walked go into the groups' prefixes. */
static bool extend_prefix(struct weir_aggregate *aggregate, int32_t *work) {
    struct weir_hops *hops = aggregate->hops;
    const struct weir_slot *slot;
    while ((slot = walk_next(aggregate, &hops->making.walk, hops->pane, work)) != NULL) {
        if (hops_min_end_of(aggregate, slot) == ALL_WINDOWS) {
            uint32_t group = hops_slot(hops, slot->number)->group;
            struct group_side *side = hops_group(hops, group);
            note_first(&side->prefix_first, side->has_prefix, slot->sequence);
            accumulate(aggregate, &hops->block_parts, &side->has_prefix,
                       prefix_of(aggregate, group),
                       weir_slot_value(aggregate->table, (struct weir_slot *)(uintptr_t)slot));
        }
    }
    return walked(&hops->making.walk);
}

/* Back to front, each pane's slot takes what its group has from there to the block's end. */
static bool make_suffixes(struct weir_aggregate *aggregate, int32_t *work) {
    struct weir_hops *hops = aggregate->hops;
    struct weir_slot *slot;
    while ((slot = walk_next(aggregate, &hops->making.walk, -hops->pane, work)) != NULL) {
        if (hops_min_end_of(aggregate, slot) != ALL_WINDOWS) {
            continue;
        }
        uint32_t n = slot->number;
        struct slot_side *of_slot = hops_slot(hops, n);
        struct group_side *side = hops_group(hops, of_slot->group);
        uint8_t *value = suffix_of(aggregate, n);
        weir_measures_borrow(&aggregate->measures, value, weir_slot_value(aggregate->table, slot));
        of_slot->suffix_first = slot->sequence;
        if (side->suffix != 0) {
            note_first(&of_slot->suffix_first, true, hops_slot(hops, side->suffix)->suffix_first);
            hops->failed |= weir_measures_merge(&aggregate->measures, &hops->block_parts, value,
                                                suffix_of(aggregate, side->suffix)) != WEIR_OK;
        }
        of_slot->next_in_block = side->suffix;
        side->suffix = n;
    }
    return walked(&hops->making.walk);
}

static bool unmark_extras(struct weir_aggregate *aggregate, int32_t *work) {
    struct weir_hops *hops = aggregate->hops;
    forget_parts(&hops->extra_parts);
    for (; hops->any_extra && hops->making.at < hops->order_count; hops->making.at++) {
        if ((*work)-- <= 0) {
            return false;
        }
        hops_group(hops, hops_ordered(hops, hops->making.at)->number)->has_extra = false;
    }
    return true;
}

/* Slots of late rows that count in the window, in creation order. */
static bool make_extras(struct weir_aggregate *aggregate, int64_t from, int64_t until,
                        int32_t *work) {
    struct weir_hops *hops = aggregate->hops;
    hops->any_extra = hops->late_count > 0;
    for (; hops->making.at < hops->late_count; hops->making.at++) {
        if ((*work)-- <= 0) {
            return false;
        }
        struct weir_slot *slot = weir_table_slot(aggregate->table, hops->late[hops->making.at]);
        int64_t pane = hops_pane_of(aggregate, slot);
        if (pane >= from && pane < until && hops_min_end_of(aggregate, slot) <= until) {
            uint32_t group = hops_slot(hops, slot->number)->group;
            struct group_side *side = hops_group(hops, group);
            note_first(&side->extra_first, side->has_extra, slot->sequence);
            accumulate(aggregate, &hops->extra_parts, &side->has_extra, extra_of(aggregate, group),
                       weir_slot_value(aggregate->table, slot));
        }
    }
    return true;
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

static bool is_distinct(const struct weir_measure_cell *cell) {
    return cell->measure.kind == WEIR_MEASURE_DISTINCT;
}

static struct weir_distinct_cell distinct_of(struct weir_aggregate *aggregate,
                                             struct weir_slot *slot,
                                             const struct weir_measure_cell *cell) {
    struct weir_distinct_cell distinct;
    memcpy(&distinct, (uint8_t *)weir_slot_value(aggregate->table, slot) + cell->offset,
           sizeof distinct);
    return distinct;
}

/* How many members the window's slots have. */
static bool size_members(struct weir_aggregate *aggregate, int32_t *work) {
    struct weir_hops *hops = aggregate->hops;
    struct weir_slot *slot;
    while ((slot = walk_next(aggregate, &hops->making.walk, hops->pane, work)) != NULL) {
        for (int32_t m = 0; m < aggregate->measures.count; m++) {
            const struct weir_measure_cell *cell = &aggregate->measures.cells[m];
            hops->making.members +=
                is_distinct(cell) ? distinct_of(aggregate, slot, cell).count : 0;
        }
    }
    return walked(&hops->making.walk);
}

/* An empty set with room for them. What is new is zero already. */
static int make_room(struct weir_aggregate *aggregate, int32_t *work, bool *done,
                     struct weir_error *err) {
    enum { ENTRIES_A_WORK = 16 };
    struct weir_hops *hops = aggregate->hops;
    size_t capacity = 64;
    while (capacity < hops->making.members * 2) {
        capacity *= 2;
    }
    *done = true;
    if (hops->set == NULL || capacity > hops->set_mask + 1) {
        free(hops->set);
        hops->set = calloc(capacity, sizeof *hops->set);
        hops->set_mask = capacity - 1;
        return hops->set != NULL ? WEIR_OK : hops_no_memory(aggregate, err);
    }
    while (hops->making.at <= hops->set_mask) {
        if ((*work)-- <= 0) {
            *done = false;
            return WEIR_OK;
        }
        size_t left = hops->set_mask + 1 - hops->making.at;
        size_t some = left < ENTRIES_A_WORK ? left : ENTRIES_A_WORK;
        memset(hops->set + hops->making.at, 0, some * sizeof *hops->set);
        hops->making.at += some;
    }
    return WEIR_OK;
}

static bool clear_counts(struct weir_aggregate *aggregate, int32_t *work) {
    struct weir_hops *hops = aggregate->hops;
    for (; hops->making.at < hops->order_count; hops->making.at++) {
        if ((*work)-- <= 0) {
            return false;
        }
        uint32_t group = hops_ordered(hops, hops->making.at)->number;
        uint8_t *extra = extra_of(aggregate, group);
        if (!hops_group(hops, group)->has_extra) {
            memset(extra, 0, hops_value_bytes(aggregate));
        }
        for (int32_t m = 0; m < aggregate->measures.count; m++) {
            const struct weir_measure_cell *cell = &aggregate->measures.cells[m];
            if (is_distinct(cell)) {
                memset(extra + cell->offset, 0, sizeof(struct weir_distinct_cell));
            }
        }
    }
    return true;
}

static void count_member(struct weir_aggregate *aggregate, const struct weir_slot *member,
                         uint32_t group, const struct weir_measure_cell *cell) {
    struct weir_hops *hops = aggregate->hops;
    const uint8_t *key = weir_slot_key(aggregate->members, member) + sizeof(uint64_t);
    if (set_add(hops, XXH3_128bits_withSeed(key, member->key_bytes - sizeof(uint64_t), group))) {
        uint8_t *at = extra_of(aggregate, group) + cell->offset;
        uint64_t count;
        memcpy(&count, at, sizeof count);
        count++;
        memcpy(at, &count, sizeof count);
    }
}

/* Counts the members of the slot at hand that the window's group has not shown yet, into the
 * group's extra value. A slot may have very many. */
static bool count_slot(struct weir_aggregate *aggregate, int32_t *work) {
    struct weir_hops *hops = aggregate->hops;
    struct hops_making *making = &hops->making;
    struct weir_slot *slot = weir_table_slot(aggregate->table, making->slot);
    for (; making->measure < aggregate->measures.count; making->measure++) {
        const struct weir_measure_cell *cell = &aggregate->measures.cells[making->measure];
        if (!is_distinct(cell)) {
            continue;
        }
        if (making->member == 0) {
            making->member = distinct_of(aggregate, slot, cell).head;
        }
        while (making->member != 0) {
            if ((*work)-- <= 0) {
                return false;
            }
            const struct weir_slot *member = weir_table_slot(aggregate->members, making->member);
            count_member(aggregate, member, hops_slot(hops, making->slot)->group, cell);
            making->member = member->link;
        }
    }
    making->slot = 0;
    return true;
}

/* A value in several panes counts once, so sets cannot be merged as counts are: the members of the
 * window's panes are gone through, by 128-bit fingerprints. */
static bool count_members(struct weir_aggregate *aggregate, int64_t until, int32_t *work) {
    struct weir_hops *hops = aggregate->hops;
    struct hops_making *making = &hops->making;
    for (;;) {
        if (making->slot != 0 && !count_slot(aggregate, work)) {
            return false;
        }
        const struct weir_slot *slot = walk_next(aggregate, &making->walk, hops->pane, work);
        if (slot == NULL) {
            return walked(&making->walk);
        }
        if (hops_min_end_of(aggregate, slot) <= until) {
            making->slot = slot->number;
            making->measure = 0;
            making->member = 0;
        }
    }
}

/* --- order -------------------------------------------------------------------------------------
 */

enum { SORTED_RUN = 256 };

static int by_sequence(const void *a, const void *b) {
    const struct weir_ordered_slot *x = a;
    const struct weir_ordered_slot *y = b;
    return (x->sequence > y->sequence) - (x->sequence < y->sequence);
}

/* The sequence of the first slot the group has in the window at hand; UINT64_MAX: it has none. */
static uint64_t first_slot(const struct weir_hops *hops, const struct group_side *side) {
    uint64_t first = side->suffix != 0 ? hops_slot(hops, side->suffix)->suffix_first : UINT64_MAX;
    if (side->has_prefix && side->prefix_first < first) {
        first = side->prefix_first;
    }
    return side->has_extra && side->extra_first < first ? side->extra_first : first;
}

static int window_room(struct weir_aggregate *aggregate, struct weir_error *err) {
    struct weir_hops *hops = aggregate->hops;
    if (hops->window_capacity >= hops->order_count) {
        return WEIR_OK;
    }
    /* Nothing is in them now, so nothing is copied; pages come as they are written. */
    free(hops->window);
    free(hops->spare);
    size_t capacity = hops->order_count + hops->order_count / 2;
    hops->window = malloc(capacity * sizeof *hops->window);
    hops->spare = malloc(capacity * sizeof *hops->spare);
    hops->window_capacity = hops->window != NULL && hops->spare != NULL ? capacity : 0;
    if (hops->window_capacity == 0) {
        return hops_no_memory(aggregate, err);
    }
    return WEIR_OK;
}

/* The groups that have something in the window; in order already, as a rule. */
static bool order_window(struct weir_aggregate *aggregate, int32_t *work) {
    struct weir_hops *hops = aggregate->hops;
    for (; hops->making.at < hops->order_count; hops->making.at++) {
        if ((*work)-- <= 0) {
            return false;
        }
        const struct weir_ordered_slot *at = hops_ordered(hops, hops->making.at);
        const struct group_side *side = hops_group(hops, at->number);
        uint64_t first =
            side->sequence == at->sequence ? first_slot(hops, side) : UINT64_MAX; /* gone */
        if (first != UINT64_MAX) {
            size_t n = hops->window_count++;
            hops->window[n] = (struct weir_ordered_slot){first, at->number};
            bool in_order = n == 0 || hops->window[n - 1].sequence < first;
            hops->making.width = in_order ? hops->making.width : SORTED_RUN;
        }
    }
    return true;
}

static size_t at_most(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Runs of SORTED_RUN are sorted, then merged two by two, until one is left. */
static bool sort_window(struct weir_aggregate *aggregate, int32_t *work) {
    struct weir_hops *hops = aggregate->hops;
    struct hops_making *m = &hops->making;
    size_t count = hops->window_count;
    if (m->width == 0) {
        return true; /* it is in order */
    }
    for (; m->at < count; m->at += SORTED_RUN) {
        if (*work <= 0) {
            return false;
        }
        *work -= SORTED_RUN;
        qsort(hops->window + m->at, at_most(SORTED_RUN, count - m->at), sizeof *hops->window,
              by_sequence);
    }
    for (; m->width < count; m->width *= 2) {
        while (m->out < count) {
            size_t begin = m->out / (2 * m->width) * (2 * m->width);
            size_t middle = at_most(begin + m->width, count);
            size_t stop = at_most(middle + m->width, count);
            if (m->out == begin) {
                m->left = begin;
                m->right = middle;
            }
            while (m->out < stop) {
                if ((*work)-- <= 0) {
                    return false;
                }
                bool left = m->right >= stop ||
                            (m->left < middle &&
                             hops->window[m->left].sequence < hops->window[m->right].sequence);
                hops->spare[m->out++] = hops->window[left ? m->left++ : m->right++];
            }
        }
        struct weir_ordered_slot *merged = hops->spare;
        hops->spare = hops->window;
        hops->window = merged;
        m->out = 0;
    }
    return true;
}

/* --- one window --------------------------------------------------------------------------------
 */

static int64_t window_begin(const struct weir_aggregate *aggregate, int64_t end) {
    return aggregate->hops->cumulate ? weir_window_start(end - 1, aggregate->size)
                                     : weir_time_add(end, -aggregate->size);
}

/* Where the panes of the prefix begin, when the block is entered. */
static int64_t prefix_begin(const struct weir_aggregate *aggregate, int64_t end) {
    int64_t from = window_begin(aggregate, end);
    return aggregate->hops->cumulate
               ? from
               : weir_time_add(weir_window_start(from, aggregate->size), aggregate->size);
}

static void begin_making(struct weir_aggregate *aggregate, int64_t end) {
    struct weir_hops *hops = aggregate->hops;
    int64_t block = weir_window_start(window_begin(aggregate, end), aggregate->size);
    hops->making = (struct hops_making){.step = HOPS_RESET, .end = end};
    if (hops->valid && block == hops->block) {
        int64_t begin = prefix_begin(aggregate, end);
        begin = begin < hops->until ? hops->until : begin;
        hops->making.step = HOPS_PREFIX;
        hops->making.walk = walk_from(aggregate, begin, end);
    }
    hops->valid = false;
    hops->block = block;
    hops->until = end;
}

/* Sets up the step after `step`. */
static int next_step(struct weir_aggregate *aggregate, enum hops_step step,
                     struct weir_error *err) {
    struct weir_hops *hops = aggregate->hops;
    struct hops_making *making = &hops->making;
    int64_t end = making->end;
    int64_t from = window_begin(aggregate, end);
    making->step = step + 1;
    making->at = 0;
    switch (step) {
    case HOPS_RESET:
        making->walk = (struct hops_walk){0};
        if (!hops->cumulate) {
            int64_t block_end = weir_time_add(hops->block, aggregate->size);
            making->walk = walk_from(aggregate, from, block_end);
            making->walk.pane = block_end - hops->pane;
        }
        break;
    case HOPS_SUFFIX:
        making->walk = walk_from(aggregate, prefix_begin(aggregate, end), end);
        break;
    case HOPS_LATE:
        hops->window_count = 0;
        return window_room(aggregate, err);
    case HOPS_SORT:
        making->walk = walk_from(aggregate, from, end);
        making->step = aggregate->measures.has_members ? HOPS_SIZE : HOPS_MADE;
        break;
    case HOPS_CLEAR:
        making->walk = walk_from(aggregate, from, end);
        break;
    case HOPS_COUNT:
        making->step = HOPS_MADE;
        break;
    default:
        break;
    }
    return WEIR_OK;
}

static int do_step(struct weir_aggregate *aggregate, int32_t *work, bool *done,
                   struct weir_error *err) {
    int64_t end = aggregate->hops->making.end;
    switch (aggregate->hops->making.step) {
    case HOPS_RESET:
        *done = reset_groups(aggregate, work);
        break;
    case HOPS_SUFFIX:
        *done = make_suffixes(aggregate, work);
        break;
    case HOPS_PREFIX:
        *done = extend_prefix(aggregate, work);
        break;
    case HOPS_UNMARK:
        *done = unmark_extras(aggregate, work);
        break;
    case HOPS_LATE:
        *done = make_extras(aggregate, window_begin(aggregate, end), end, work);
        break;
    case HOPS_ORDER:
        *done = order_window(aggregate, work);
        break;
    case HOPS_SORT:
        *done = sort_window(aggregate, work);
        break;
    case HOPS_SIZE:
        *done = size_members(aggregate, work);
        break;
    case HOPS_ROOM:
        return make_room(aggregate, work, done, err);
    case HOPS_CLEAR:
        *done = clear_counts(aggregate, work);
        break;
    case HOPS_COUNT:
        *done = count_members(aggregate, end, work);
        break;
    case HOPS_MADE:
        *done = true;
        break;
    }
    return WEIR_OK;
}

int hops_prepare(struct weir_aggregate *aggregate, int64_t end, int32_t *work, bool *made,
                 struct weir_error *err) {
    struct weir_hops *hops = aggregate->hops;
    *made = hops->valid && end == hops->until;
    if (*made) {
        return WEIR_OK;
    }
    if (hops->making.step == HOPS_MADE || hops->making.end != end) {
        begin_making(aggregate, end);
    }
    while (hops->making.step != HOPS_MADE) {
        bool done = false;
        int rc = do_step(aggregate, work, &done, err);
        if (rc == WEIR_OK && done) {
            rc = next_step(aggregate, hops->making.step, err);
        }
        if (rc == WEIR_OK && hops->failed) {
            rc = hops_failed(aggregate, err);
        }
        if (rc != WEIR_OK) {
            hops->making.step = HOPS_MADE;
        }
        if (rc != WEIR_OK || !done) {
            return rc;
        }
    }
    *made = hops->valid = true;
    return WEIR_OK;
}

void hops_combine(struct weir_aggregate *aggregate, uint32_t group) {
    struct weir_hops *hops = aggregate->hops;
    const struct group_side *side = hops_group(hops, group);
    const uint8_t *extra = extra_of(aggregate, group);
    bool has = false;
    weir_measures_give_back(&aggregate->measures, &hops->value_parts, hops->value);
    if (side->suffix != 0) {
        accumulate(aggregate, &hops->value_parts, &has, hops->value,
                   suffix_of(aggregate, side->suffix));
    }
    if (side->has_prefix) {
        accumulate(aggregate, &hops->value_parts, &has, hops->value, prefix_of(aggregate, group));
    }
    if (side->has_extra) {
        accumulate(aggregate, &hops->value_parts, &has, hops->value, extra);
    }
    for (int32_t m = 0; m < aggregate->measures.count; m++) {
        const struct weir_measure_cell *cell = &aggregate->measures.cells[m];
        if (cell->measure.kind == WEIR_MEASURE_DISTINCT) {
            memcpy(hops->value + cell->offset, extra + cell->offset, sizeof(uint64_t));
        }
    }
}
