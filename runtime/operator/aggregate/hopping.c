/* Windows made of panes: hopping (a window starts every so often) and cumulate (windows share their
 * start and grow). A row goes into one pane, whatever the number of windows it counts in; a window
 * is put together when it closes.
 *
 * Time is cut into blocks of the windows' size. A hopping window is the end of one block and the
 * beginning of the next, so per group two running values suffice: what the block's panes from here
 * to its end hold (kept a pane, made once when the block is entered, back to front), and what the
 * next block's panes hold so far. A pane is merged twice and a row of output once, however short
 * the hops: the sliding minimum of van Herk and of Gil and Werman. Nothing is subtracted, so it
 * serves every measure, and what comes out does not depend on when windows were fired. A cumulate
 * window is the beginning of its block alone.
 *
 * A pane is final once the first window over it closes. A row that comes later is late for that
 * window; it goes into a slot of its own beside the pane's, marked with the end of the first window
 * it still counts in, which makes what a window holds a matter of the rows alone.
 *
 * A window's groups come out in the order in which the first of their slots in it were made, which
 * the rows alone decide, not when earlier windows were fired.
 *
 * Making a window goes over all groups, and entering a block over all slots: both go in slices
 * (hops->making says where), and so does dropping panes.
 *
 * State: the slots; "group", the keys they share; "fired", how far firing came. All else here is
 * made again from them. */
#include "operator/aggregate/hopping.h"

enum {
    LATE_FIRST = 256,
    ORDER_GONE_FEW = 256,
    WORK = 2048 /* a call of fire: some hundred microseconds */
};

static struct fired fired_of(const struct weir_aggregate *aggregate) {
    struct weir_hops *hops = aggregate->hops;
    struct fired fired = {INT64_MIN, INT64_MIN, 0};
    if (hops->fired != NULL) {
        memcpy(&fired, weir_slot_value(hops->cursor, hops->fired), sizeof fired);
    }
    return fired;
}

/* --- creation -------------------------------------------------------------------------------- */

static int64_t common_divisor(int64_t a, int64_t b) {
    while (b != 0) {
        int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

struct weir_hops *weir_hops_create(struct weir_aggregate *aggregate,
                                   const struct weir_aggregate_config *config,
                                   struct weir_error *err) {
    struct weir_hops *hops = calloc(1, sizeof *hops);
    if (hops == NULL) {
        hops_no_memory(aggregate, err);
        return NULL;
    }
    weir_heap_init(&hops->block_parts);
    weir_heap_init(&hops->extra_parts);
    weir_heap_init(&hops->value_parts);
    hops->every = config->every_us;
    hops->cumulate = config->cumulate;
    hops->work = config->work > 0 ? config->work : WORK;
    hops->pane = common_divisor(config->size_us, config->every_us);
    weir_side_init(&hops->slots, sizeof(struct slot_side));
    weir_side_init(&hops->suffix, hops_value_bytes(aggregate));
    weir_side_init(&hops->sides, sizeof(struct group_side));
    weir_side_init(&hops->prefix, hops_value_bytes(aggregate));
    weir_side_init(&hops->extra, hops_value_bytes(aggregate));
    weir_side_init(&hops->order, sizeof(struct weir_ordered_slot));
    struct weir_table_config groups = {
        .declaration = config->declaration,
        .cell = "group",
        .shape = aggregate->shape,
        .value_bytes = 8,
        .key_inline_bytes = 24,
        .max_bytes = config->max_bytes,
        .option = config->option,
    };
    struct weir_table_config cursor = {
        .declaration = config->declaration,
        .cell = "fired",
        .shape = aggregate->shape,
        .value_bytes = sizeof(struct fired),
    };
    hops->groups = weir_table_create(&groups, err);
    hops->cursor = hops->groups != NULL ? weir_table_create(&cursor, err) : NULL;
    hops->value = calloc((size_t)hops_value_bytes(aggregate) + 1, 1);
    if (hops->cursor == NULL || hops->value == NULL) {
        weir_hops_destroy(hops);
        return NULL;
    }
    return hops;
}

void weir_hops_destroy(struct weir_hops *hops) {
    if (hops == NULL) {
        return;
    }
    weir_heap_fini(&hops->block_parts);
    weir_heap_fini(&hops->extra_parts);
    weir_heap_fini(&hops->value_parts);
    weir_table_destroy(hops->groups);
    weir_table_destroy(hops->cursor);
    weir_side_fini(&hops->slots);
    weir_side_fini(&hops->suffix);
    free(hops->window);
    free(hops->spare);
    weir_side_fini(&hops->sides);
    weir_side_fini(&hops->prefix);
    weir_side_fini(&hops->extra);
    weir_side_fini(&hops->order);
    free(hops->late);
    free(hops->value);
    free(hops->set);
    free(hops);
}

size_t weir_hops_bytes(const struct weir_hops *hops) {
    return weir_table_bytes(hops->groups) + weir_table_bytes(hops->cursor) +
           weir_side_bytes(&hops->slots) + weir_side_bytes(&hops->sides) +
           weir_side_bytes(&hops->order) + hops->late_capacity * sizeof *hops->late;
}

/* --- which windows a time counts in ----------------------------------------------------------- */

/* End of the first window over the pane. */
static int64_t first_end(const struct weir_aggregate *aggregate, int64_t pane) {
    const struct weir_hops *hops = aggregate->hops;
    int64_t pane_end = weir_time_add(pane, hops->pane);
    if (hops->cumulate) {
        return pane_end;
    }
    /* The last start at or before the pane's end, less the size, is not late enough by one hop
     * unless it lies on it. */
    int64_t earliest = weir_time_add(pane_end, -aggregate->size);
    int64_t start = weir_window_start(earliest, hops->every);
    if (start < earliest) {
        start = weir_time_add(start, hops->every);
    }
    return weir_time_add(start, aggregate->size);
}

static int64_t last_end(const struct weir_aggregate *aggregate, int64_t pane) {
    int64_t span = aggregate->hops->cumulate ? aggregate->size : aggregate->hops->every;
    return weir_time_add(weir_window_start(pane, span), aggregate->size);
}

/* The first window's end, from `end` on by hops, that is not closed. */
static int64_t first_open(const struct weir_aggregate *aggregate, int64_t end, int64_t watermark) {
    int64_t open_after =
        weir_time_add(watermark, -aggregate->lateness); /* ends above it are open */
    if (end > open_after) {
        return end;
    }
    int64_t every = aggregate->hops->every;
    return weir_time_add(end, ((open_after - end) / every + 1) * every);
}

int32_t weir_hops_find(struct weir_aggregate *aggregate, const int32_t *sel, int32_t count,
                       const int64_t *times, const int64_t *watermarks, int32_t *late_sel,
                       int32_t *late_count) {
    int64_t pane = 0;
    int64_t pane_end = 0; /* exclusive; equal: no pane yet */
    int64_t first_closes = 0;
    int64_t last_closes = 0;
    int32_t taken = 0;
    int32_t late = 0;
    for (int32_t i = 0; i < count; i++) {
        int32_t row = sel != NULL ? sel[i] : i;
        int64_t time = times[row];
        if (time < pane || time >= pane_end) {
            pane = weir_window_start(time, aggregate->hops->pane);
            pane_end = weir_time_add(pane, aggregate->hops->pane);
            first_closes = weir_time_add(first_end(aggregate, pane), aggregate->lateness);
            last_closes = weir_time_add(last_end(aggregate, pane), aggregate->lateness);
        }
        bool is_late = first_closes <= watermarks[row];
        if (is_late) {
            late_sel[late++] = row;
            if (last_closes <= watermarks[row]) {
                continue;
            }
        }
        aggregate->rows[taken] = row;
        aggregate->positions[taken] = i;
        aggregate->starts[taken] = pane;
        aggregate->min_ends[taken] =
            is_late ? first_open(aggregate, first_end(aggregate, pane), watermarks[row])
                    : ALL_WINDOWS;
        taken++;
    }
    *late_count = late;
    return taken;
}

/* --- slots and groups ------------------------------------------------------------------------- */

static size_t doubled(size_t capacity, size_t wanted) {
    size_t next = capacity == 0 ? LATE_FIRST : capacity;
    while (next <= wanted) {
        next *= 2;
    }
    return next;
}

static bool slot_sides(struct weir_hops *hops, uint32_t number) {
    return weir_side_reach(&hops->slots, number) && weir_side_reach(&hops->suffix, number);
}

static bool group_sides(struct weir_hops *hops, uint32_t number) {
    return weir_side_reach(&hops->sides, number) && weir_side_reach(&hops->prefix, number) &&
           weir_side_reach(&hops->extra, number);
}

static bool order_add(struct weir_hops *hops, const struct weir_slot *group) {
    if (!weir_side_reach(&hops->order, (uint32_t)hops->order_count)) {
        return false;
    }
    *hops_ordered(hops, hops->order_count++) =
        (struct weir_ordered_slot){group->sequence, group->number};
    return true;
}

/* Drops groups that are gone from the order, as far as *work goes; false: there is more to do. No
 * row is taken in before it is done. */
static bool order_pack(struct weir_hops *hops, int32_t *work) {
    if (hops->packing == 0 &&
        (hops->order_gone < ORDER_GONE_FEW || hops->order_gone * 2 < hops->order_count)) {
        return true;
    }
    for (; hops->packing < hops->order_count; hops->packing++) {
        if ((*work)-- <= 0) {
            return false;
        }
        const struct weir_ordered_slot *at = hops_ordered(hops, hops->packing);
        if (hops_group(hops, at->number)->sequence == at->sequence) {
            *hops_ordered(hops, hops->packed++) = *at;
        }
    }
    hops->order_count = hops->packed;
    hops->order_gone = hops->packing = hops->packed = 0;
    return true;
}

static bool late_add(struct weir_hops *hops, uint32_t number) {
    if (hops->late_count == hops->late_capacity) {
        size_t capacity = doubled(hops->late_capacity, hops->late_capacity);
        if (!hops_grow((void **)&hops->late, capacity, sizeof *hops->late)) {
            return false;
        }
        hops->late_capacity = capacity;
    }
    hops->late[hops->late_count++] = number;
    return true;
}

int weir_hops_created(struct weir_aggregate *aggregate, struct weir_slot *slot,
                      struct weir_error *err) {
    struct weir_hops *hops = aggregate->hops;
    const uint8_t *by = weir_slot_key(aggregate->table, slot) + HOP_BYTES;
    size_t length = slot->key_bytes - HOP_BYTES;
    bool created;
    struct weir_slot *group = weir_table_get(
        hops->groups, weir_table_hash(hops->groups, by, length), by, length, &created, err);
    if (group == NULL) {
        return err != NULL ? err->code : WEIR_E_LIMIT;
    }
    if (!slot_sides(hops, slot->number) || !group_sides(hops, group->number)) {
        return hops_no_memory(aggregate, err);
    }
    struct group_side *side = hops_group(hops, group->number);
    if (side->sequence != group->sequence) {
        *side = (struct group_side){.sequence = group->sequence};
        if (!order_add(hops, group)) {
            return hops_no_memory(aggregate, err);
        }
    }
    side->slots++;
    struct slot_side *of_slot = hops_slot(hops, slot->number);
    of_slot->group = group->number;
    of_slot->next_in_block = 0;
    return hops_min_end_of(aggregate, slot) == ALL_WINDOWS || late_add(hops, slot->number)
               ? WEIR_OK
               : hops_no_memory(aggregate, err);
}

static int leave_group(struct weir_aggregate *aggregate, uint32_t slot, struct weir_error *err) {
    struct weir_hops *hops = aggregate->hops;
    uint32_t number = hops_slot(hops, slot)->group;
    struct group_side *side = hops_group(hops, number);
    if (side->suffix == slot) {
        side->suffix = hops_slot(hops, slot)->next_in_block;
    }
    if (--side->slots > 0) {
        return WEIR_OK;
    }
    side->sequence = 0;
    hops->order_gone++;
    int rc = weir_table_delete(hops->groups, weir_table_slot(hops->groups, number), false);
    return rc == WEIR_OK ? rc : hops_no_memory(aggregate, err);
}

/* --- firing ---------------------------------------------------------------------------------- */

/* End of the next window to fire; false when no pane is left. */
static bool next_window(const struct weir_aggregate *aggregate, int64_t *end) {
    struct fired fired = fired_of(aggregate);
    if (fired.emitting != INT64_MIN) {
        *end = fired.emitting;
        return true;
    }
    const struct weir_windows *panes = &aggregate->windows;
    if (panes->count == 0) {
        return false;
    }
    *end = first_end(aggregate, panes->windows[panes->heap[0]].start_us);
    if (fired.end != INT64_MIN && *end <= fired.end) {
        *end = weir_time_add(fired.end, aggregate->hops->every);
    }
    return true;
}

bool weir_hops_is_pane(const struct weir_aggregate *aggregate, int64_t start_us) {
    return start_us % aggregate->hops->pane == 0;
}

static bool window_closed(const struct weir_aggregate *aggregate, int64_t watermark_us) {
    int64_t end;
    return next_window(aggregate, &end) && weir_time_add(end, aggregate->lateness) <= watermark_us;
}

bool weir_hops_ready(const struct weir_aggregate *aggregate, int64_t watermark_us) {
    return aggregate->hops->expiring || window_closed(aggregate, watermark_us);
}

static void forget_late(struct weir_hops *hops, uint32_t number) {
    size_t i = 0;
    while (i < hops->late_count && hops->late[i] != number) {
        i++;
    }
    if (i < hops->late_count) {
        memmove(hops->late + i, hops->late + i + 1,
                (hops->late_count - i - 1) * sizeof *hops->late);
        hops->late_count--;
    }
}

/* Deletes panes no window to come is over, as far as *work goes. */
static int expire(struct weir_aggregate *aggregate, int32_t *work, struct weir_error *err) {
    struct weir_hops *hops = aggregate->hops;
    int64_t fired_end = fired_of(aggregate).end;
    struct weir_window *pane;
    while ((pane = weir_windows_first(&aggregate->windows)) != NULL &&
           last_end(aggregate, pane->start_us) <= fired_end) {
        while (pane->head != 0) {
            if ((*work)-- <= 0) {
                return WEIR_OK;
            }
            struct weir_slot *slot = weir_table_slot(aggregate->table, pane->head);
            uint32_t next = slot->link;
            if (hops_min_end_of(aggregate, slot) != ALL_WINDOWS) {
                forget_late(hops, slot->number);
            }
            int rc = leave_group(aggregate, slot->number, err);
            if (rc == WEIR_OK) {
                rc = weir_aggregate_delete_slot(aggregate, slot, err);
            }
            if (rc != WEIR_OK) {
                return rc;
            }
            pane->head = next;
            pane->slots--;
        }
        weir_windows_remove_first(&aggregate->windows);
    }
    hops->expiring = !order_pack(hops, work);
    return WEIR_OK;
}

static int set_fired(struct weir_aggregate *aggregate, int64_t end, int64_t emitting,
                     uint64_t after, struct weir_error *err) {
    static const uint8_t key;
    struct weir_hops *hops = aggregate->hops;
    struct fired fired = {end, emitting, after};
    bool created;
    if (hops->fired == NULL) {
        hops->fired = weir_table_get(hops->cursor, weir_table_hash(hops->cursor, &key, 1), &key, 1,
                                     &created, err);
    }
    if (hops->fired == NULL || weir_table_touch(hops->cursor, hops->fired) != WEIR_OK) {
        return hops_no_memory(aggregate, err);
    }
    memcpy(weir_slot_value(hops->cursor, hops->fired), &fired, sizeof fired);
    return WEIR_OK;
}

/* Rows of the window from the group after `fired->after` on. *whole: all are out. */
static int emit(struct weir_aggregate *aggregate, int64_t end, struct weir_batch_builder *out,
                int32_t max_rows, bool *whole, struct weir_error *err) {
    struct weir_hops *hops = aggregate->hops;
    uint64_t after = fired_of(aggregate).after;
    size_t low = 0;
    size_t high = hops->window_count;
    while (low < high) { /* the first that is not out yet */
        size_t middle = (low + high) / 2;
        if (hops->window[middle].sequence <= after) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    int64_t start = hops->cumulate ? weir_window_start(end - 1, aggregate->size)
                                   : weir_time_add(end, -aggregate->size);
    *whole = false;
    for (size_t i = low; i < hops->window_count; i++) {
        const struct weir_ordered_slot *at = &hops->window[i];
        if (out->rows >= max_rows || out->rows == out->rows_max) {
            return WEIR_OK;
        }
        hops_combine(aggregate, at->number);
        if (aggregate->hops->failed) {
            return hops_failed(aggregate, err);
        }
        const struct weir_slot *group = weir_table_slot(hops->groups, at->number);
        struct weir_aggregate_row row = {
            .key = weir_slot_key(hops->groups, group),
            .key_bytes = group->key_bytes,
            .start_us = start,
            .end_us = end,
            .value = hops->value,
        };
        bool full;
        int rc = weir_aggregate_emit(aggregate, &row, out, &full, err);
        if (rc != WEIR_OK || full) {
            return rc;
        }
        rc = set_fired(aggregate, fired_of(aggregate).end, end, at->sequence, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    *whole = true;
    return WEIR_OK;
}

int weir_hops_fire(struct weir_aggregate *aggregate, int64_t watermark_us,
                   struct weir_batch_builder *out, int32_t max_rows, enum weir_fired *fired,
                   struct weir_error *err) {
    struct weir_hops *hops = aggregate->hops;
    int32_t work = hops->work;
    for (;;) {
        int rc = hops->expiring ? expire(aggregate, &work, err) : WEIR_OK;
        *fired = WEIR_FIRED_SOME;
        if (rc != WEIR_OK || hops->expiring) {
            return rc;
        }
        if (!window_closed(aggregate, watermark_us)) {
            *fired = WEIR_FIRED_ALL;
            return WEIR_OK;
        }
        int64_t end;
        bool made = false;
        bool whole = false;
        (void)next_window(aggregate, &end);
        rc = hops_prepare(aggregate, end, &work, &made, err);
        if (rc != WEIR_OK || !made) {
            return rc;
        }
        *fired = WEIR_FIRED_FULL;
        rc = emit(aggregate, end, out, max_rows, &whole, err);
        if (rc != WEIR_OK || !whole) {
            return rc;
        }
        rc = set_fired(aggregate, end, INT64_MIN, 0, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        hops->expiring = true;
        work--; /* windows without groups are work too */
    }
}

/* --- state -------------------------------------------------------------------------------------
 */

int32_t weir_hops_cells(struct weir_aggregate *aggregate, struct weir_cell **cells,
                        int32_t capacity) {
    int32_t count = 0;
    if (count < capacity) {
        cells[count++] = weir_table_cell(aggregate->hops->groups);
    }
    if (count < capacity) {
        cells[count++] = weir_table_cell(aggregate->hops->cursor);
    }
    return count;
}

int weir_hops_restore(struct weir_aggregate *aggregate, struct weir_error *err) {
    struct weir_hops *hops = aggregate->hops;
    hops->valid = false;
    hops->expiring = true; /* a crash may have come in between */
    hops->making.step = HOPS_MADE;
    hops->late_count = hops->order_count = 0;
    hops->order_gone = hops->packing = hops->packed = 0;
    weir_side_clear(&hops->sides);
    static const uint8_t key;
    hops->fired = weir_table_find(hops->cursor, weir_table_hash(hops->cursor, &key, 1), &key, 1);
    int rc = WEIR_OK;
    size_t count;
    struct weir_ordered_slot *groups = weir_slots_in_order(hops->groups, &count);
    if (rc == WEIR_OK && groups == NULL) {
        rc = hops_no_memory(aggregate, err);
    }
    for (size_t i = 0; i < count && rc == WEIR_OK; i++) {
        const struct weir_slot *group = weir_table_slot(hops->groups, groups[i].number);
        if (!group_sides(hops, group->number)) {
            rc = hops_no_memory(aggregate, err);
            break;
        }
        *hops_group(hops, group->number) = (struct group_side){.sequence = group->sequence};
        rc = order_add(hops, group) ? WEIR_OK : hops_no_memory(aggregate, err);
    }
    free(groups);
    return rc;
}
