/* A batch goes through in steps, each a tight loop: windows and lateness, keys, hashes, slots (with
 * prefetches far enough ahead that cache misses overlap), then measure by measure over the slots'
 * values. Within a slot the rows' order is kept, so double sums come out the same however rows are
 * batched. */
#include <stdlib.h>

#include "core/time.h"
#include "operator/aggregate/changes.h"
#include "operator/aggregate/counted.h"
#include "operator/aggregate/layout.h"
#include "operator/aggregate/members.h"
#include "operator/aggregate/session.h"

enum { INDEX_AHEAD = 24, SLOT_AHEAD = 12, SLOT_AHEAD_SMALL = 3, SMALL_INDEX = 1 << 14 };

void weir_aggregate_free_scratch(struct weir_aggregate *aggregate) {
    free(aggregate->rows);
    free(aggregate->positions);
    free(aggregate->starts);
    free(aggregate->min_ends);
    free(aggregate->values);
    free(aggregate->slots);
    free(aggregate->sorted_rows);
    free(aggregate->sorted_positions);
    free(aggregate->sorted_values);
    free(aggregate->sorted_slots);
    aggregate->capacity = 0;
}

static int reserve_scratch(struct weir_aggregate *aggregate, int32_t count) {
    if (count <= aggregate->capacity) {
        return WEIR_OK;
    }
    size_t rows = (size_t)(count < WEIR_BATCH_ROWS_MAX ? WEIR_BATCH_ROWS_MAX : count);
    weir_aggregate_free_scratch(aggregate);
    aggregate->rows = malloc(rows * sizeof *aggregate->rows);
    aggregate->positions = malloc(rows * sizeof *aggregate->positions);
    aggregate->starts = malloc(rows * sizeof *aggregate->starts);
    aggregate->min_ends = malloc(rows * sizeof *aggregate->min_ends);
    aggregate->values = malloc(rows * sizeof *aggregate->values);
    aggregate->slots = malloc(rows * sizeof *aggregate->slots);
    aggregate->sorted_rows = malloc(rows * sizeof *aggregate->sorted_rows);
    aggregate->sorted_positions = malloc(rows * sizeof *aggregate->sorted_positions);
    aggregate->sorted_values = malloc(rows * sizeof *aggregate->sorted_values);
    aggregate->sorted_slots = malloc(rows * sizeof *aggregate->sorted_slots);
    if (aggregate->rows == NULL || aggregate->positions == NULL || aggregate->starts == NULL ||
        aggregate->min_ends == NULL || aggregate->values == NULL || aggregate->slots == NULL ||
        aggregate->sorted_rows == NULL || aggregate->sorted_positions == NULL ||
        aggregate->sorted_values == NULL || aggregate->sorted_slots == NULL) {
        return WEIR_E_NOMEM;
    }
    aggregate->capacity = (int32_t)rows;
    return WEIR_OK;
}

int weir_aggregate_reserve(struct weir_aggregate *aggregate, int32_t count,
                           struct weir_error *err) {
    return reserve_scratch(aggregate, count) == WEIR_OK
               ? WEIR_OK
               : weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for %d rows",
                                aggregate->declaration, count);
}

void weir_aggregate_window_of(const struct weir_aggregate *aggregate, int64_t time, int64_t *start,
                              int64_t *end) {
    if (aggregate->calendar.unit != WEIR_CALENDAR_NONE) {
        weir_calendar_window(&aggregate->calendar, time, start, end);
        return;
    }
    *start = weir_window_start(time, aggregate->size);
    *end = weir_time_add(*start, aggregate->size);
}

void weir_aggregate_bounds(const struct weir_aggregate *aggregate, int64_t id, int64_t *start,
                           int64_t *end) {
    (aggregate->every != 0 ? weir_overlap_bounds : weir_aggregate_window_of)(aggregate, id, start,
                                                                             end);
}

/* Splits the rows into late ones and those with a window. Returns how many have one. */
static int32_t find_windows(struct weir_aggregate *aggregate, const int32_t *sel, int32_t count,
                            const int64_t *times, const int64_t *watermarks, int32_t *late_sel,
                            int32_t *late_count) {
    int64_t start = 0;
    int64_t end = 0; /* exclusive; start == end: no window yet */
    int64_t closes = 0;
    int32_t taken = 0;
    int32_t late = 0;
    for (int32_t i = 0; i < count; i++) {
        int32_t row = sel != NULL ? sel[i] : i;
        int64_t time = times[row];
        if (time < start || time >= end) {
            weir_aggregate_window_of(aggregate, time, &start, &end);
            closes = weir_time_add(end, aggregate->lateness);
        }
        if (closes <= watermarks[row]) {
            late_sel[late++] = row;
            continue;
        }
        aggregate->rows[taken] = row;
        aggregate->positions[taken] = i;
        aggregate->starts[taken] = start;
        taken++;
    }
    *late_count = late;
    return taken;
}

int weir_aggregate_join_window(struct weir_aggregate *aggregate, struct weir_slot *slot,
                               int64_t start, struct weir_error *err) {
    struct weir_window *window =
        weir_refire_note(aggregate, start) ? weir_windows_get(&aggregate->windows, start) : NULL;
    if (window == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for another window",
                              aggregate->declaration);
    }
    slot->link = 0;
    int rc = aggregate_disk_linked(aggregate, slot, window->tail, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (window->tail == 0) {
        window->head = slot->number;
    } else {
        weir_table_slot(aggregate->table, window->tail)->link = slot->number;
    }
    window->tail = slot->number;
    window->slots++;
    return WEIR_OK;
}

/* Looks up keys 0..count in `table`, creating what is missing; calls nothing back: the caller sees
 * new slots by their sequence. */
static int find_slots(struct weir_aggregate *aggregate, int32_t count, struct weir_error *err) {
    struct weir_table *table = aggregate->table;
    const struct weir_keys *keys = &aggregate->keys;
    /* What is looked for before a row of its key made the slot is looked for in vain: no further
     * ahead than the cache's second level asks for, where that holds the table. */
    int32_t ahead = weir_table_view(table)->mask < SMALL_INDEX ? SLOT_AHEAD_SMALL : SLOT_AHEAD;
    for (int32_t i = 0; i < count && i < INDEX_AHEAD; i++) {
        weir_table_prefetch(table, keys->hashes[i]);
    }
    for (int32_t i = 0; i < count && i < ahead; i++) {
        aggregate->slots[i] = weir_table_seek(table, keys->hashes[i]);
    }
    for (int32_t i = 0; i < count; i++) {
        if (i + INDEX_AHEAD < count) {
            weir_table_prefetch(table, keys->hashes[i + INDEX_AHEAD]);
        }
        if (i + ahead < count) {
            aggregate->slots[i + ahead] = weir_table_seek(table, keys->hashes[i + ahead]);
        }
        uint64_t hash = keys->hashes[i];
        const uint8_t *key = keys->bytes + keys->offsets[i];
        size_t length = keys->offsets[i + 1] - keys->offsets[i];
        struct weir_slot *slot = aggregate->slots[i];
        bool created = false;
        if (slot == NULL || !weir_slot_is(table, slot, hash, key, length)) {
            slot = weir_table_get(table, hash, key, length, &created, err);
        }
        if (slot == NULL) {
            return err != NULL ? err->code : WEIR_E_LIMIT;
        }
        int rc = !created ? weir_table_touch(table, slot)
                 : aggregate->unwindowed
                     ? WEIR_OK
                     : weir_aggregate_join_window(aggregate, slot, aggregate->starts[i], err);
        if (created && rc == WEIR_OK && aggregate->hops != NULL) {
            rc = weir_hops_created(aggregate, slot, err);
        }
        if (rc != WEIR_OK) {
            return created ? rc
                           : weir_error_set(err, rc, "%s: no memory to note a change",
                                            weir_table_name(table));
        }
        aggregate->slots[i] = slot;
        aggregate->values[i] = weir_slot_value(table, slot);
    }
    return weir_aggregate_meet(aggregate, aggregate->values, count, err);
}

static int add_measures(struct weir_aggregate *aggregate, const struct weir_feed *feed,
                        int32_t from, int32_t to, bool take_back, struct weir_error *err) {
    struct weir_measure_rows rows = {
        .rows = aggregate->rows + from,
        .positions = aggregate->positions + from,
        .values = aggregate->values + from,
        .count = to - from,
        .times_us = feed->times_us,
        .take_back = take_back,
    };
    int rc = WEIR_OK;
    for (int32_t m = 0; m < aggregate->measures.count && rc == WEIR_OK && from < to; m++) {
        if (feed->only != NULL && !feed->only[m]) {
            continue;
        }
        const uint8_t *mask = feed->masks != NULL ? feed->masks[m] : NULL;
        if (aggregate->measures.cells[m].of_members) {
            rc = weir_members_add(aggregate, m, from, to, feed->inputs[m], mask, take_back, err);
        } else {
            const struct weir_column *input =
                aggregate->measures.cells[m].measure.has_input ? feed->inputs[m] : NULL;
            rows.order = feed->orders != NULL ? feed->orders[m] : NULL;
            rc = weir_measures_add(&aggregate->measures, m, &rows, input, mask, err);
        }
    }
    return rc;
}

/* Puts rows that are taken back behind the others: what they take back was added before. Returns
 * how many are added. */
static int32_t sort_by_sign(struct weir_aggregate *aggregate, const int8_t *signs, int32_t from,
                            int32_t to) {
    int32_t added = from;
    int32_t taken = 0;
    for (int32_t i = from; i < to; i++) {
        bool back = signs[aggregate->rows[i]] < 0;
        int32_t *rows = back ? aggregate->sorted_rows : aggregate->rows;
        int32_t *positions = back ? aggregate->sorted_positions : aggregate->positions;
        uint8_t **values = back ? aggregate->sorted_values : aggregate->values;
        struct weir_slot **slots = back ? aggregate->sorted_slots : aggregate->slots;
        int32_t at = back ? taken++ : added++;
        rows[at] = aggregate->rows[i];
        positions[at] = aggregate->positions[i];
        values[at] = aggregate->values[i];
        slots[at] = aggregate->slots[i];
    }
    memcpy(aggregate->rows + added, aggregate->sorted_rows, (size_t)taken * sizeof(int32_t));
    memcpy(aggregate->positions + added, aggregate->sorted_positions,
           (size_t)taken * sizeof(int32_t));
    memcpy(aggregate->values + added, aggregate->sorted_values, (size_t)taken * sizeof(uint8_t *));
    memcpy(aggregate->slots + added, aggregate->sorted_slots,
           (size_t)taken * sizeof(struct weir_slot *));
    return added;
}

int weir_aggregate_add(struct weir_aggregate *aggregate, const struct weir_feed *feed, int32_t from,
                       int32_t to, struct weir_error *err) {
    int32_t added = feed->signs != NULL ? sort_by_sign(aggregate, feed->signs, from, to) : to;
    int rc = add_measures(aggregate, feed, from, added, false, err);
    return rc == WEIR_OK ? add_measures(aggregate, feed, added, to, true, err) : rc;
}

static int encode_keys(struct weir_aggregate *aggregate, const struct weir_batch *batch,
                       const int32_t *rows, int32_t count, struct weir_error *err) {
    int rc = weir_key_encode(aggregate->key, batch, rows, count, aggregate->prefix_bytes,
                             &aggregate->keys);
    return rc == WEIR_OK ? rc
                         : weir_error_set(err, rc, "%s: no memory for the keys of %d rows",
                                          aggregate->declaration, count);
}

/* A group none of whose rows is left is no group. */
static void count_by(struct weir_aggregate *aggregate, int32_t i, int64_t by) {
    uint8_t *at = aggregate->values[i] + aggregate->measures.tail_offset;
    int64_t rows;
    memcpy(&rows, at, sizeof rows);
    rows += by;
    memcpy(at, &rows, sizeof rows);
}

static void count_row(struct weir_aggregate *aggregate, const struct weir_feed *feed, int32_t i) {
    bool back = feed->signs != NULL && feed->signs[aggregate->rows[i]] < 0;
    count_by(aggregate, i, back ? -1 : 1);
}

/* Rows that have found their windows. */
static int feed_taken(struct weir_aggregate *aggregate, const struct weir_feed *feed, int32_t taken,
                      struct weir_error *err) {
    struct weir_keys *keys = &aggregate->keys;
    int rc = encode_keys(aggregate, feed->batch, aggregate->rows, taken, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    for (int32_t i = 0; i < taken; i++) {
        memcpy(keys->bytes + keys->offsets[i], &aggregate->starts[i], WINDOW_BYTES);
    }
    for (int32_t i = 0; aggregate->hops != NULL && i < taken; i++) {
        memcpy(keys->bytes + keys->offsets[i] + WINDOW_BYTES, &aggregate->min_ends[i],
               HOP_BYTES - WINDOW_BYTES);
    }
    weir_keys_hash(keys, weir_table_view(aggregate->table)->seed);
    rc = find_slots(aggregate, taken, err);
    for (int32_t i = 0; i < taken && rc == WEIR_OK && aggregate->changes != NULL; i++) {
        if (!weir_refire_waits(aggregate, aggregate->starts[i])) {
            rc = weir_changes_note(aggregate, aggregate->slots[i],
                                   feed->times_us[aggregate->rows[i]], err);
        }
    }
    bool counted = aggregate->measures.retracts || aggregate->changes != NULL;
    for (int32_t i = 0; i < taken && rc == WEIR_OK && counted; i++) {
        count_row(aggregate, feed, i);
    }
    return rc == WEIR_OK ? weir_aggregate_add(aggregate, feed, 0, taken, err) : rc;
}

/* Windows that a row's time alone tells. */
static int feed_windows(struct weir_aggregate *aggregate, const struct weir_feed *feed,
                        int32_t *late_sel, int32_t *late_count, struct weir_error *err) {
    int rc = WEIR_OK;
    if (aggregate->changes != NULL) {
        weir_changes_begin(aggregate);
    }
    if (aggregate->every == 0) {
        int32_t taken = (aggregate->hops != NULL ? weir_hops_find : find_windows)(
            aggregate, feed->sel, feed->count, feed->times_us, feed->watermark_before_us, late_sel,
            late_count);
        return taken > 0 ? feed_taken(aggregate, feed, taken, err) : WEIR_OK;
    }
    for (int32_t next = 0; next < feed->count && rc == WEIR_OK;) {
        int32_t taken = weir_overlap_find(aggregate, feed, &next, late_sel, late_count);
        rc = taken > 0 ? feed_taken(aggregate, feed, taken, err) : WEIR_OK;
    }
    return rc;
}

/* One row a key: all rows have their slot. */
static int find_groups(struct weir_aggregate *aggregate, const struct weir_feed *feed,
                       struct weir_error *err) {
    weir_changes_begin(aggregate);
    for (int32_t i = 0; i < feed->count; i++) {
        aggregate->rows[i] = feed->sel != NULL ? feed->sel[i] : i;
        aggregate->positions[i] = i;
    }
    int rc = encode_keys(aggregate, feed->batch, aggregate->rows, feed->count, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    weir_keys_hash(&aggregate->keys, weir_table_view(aggregate->table)->seed);
    rc = find_slots(aggregate, feed->count, err);
    for (int32_t i = 0; i < feed->count && rc == WEIR_OK; i++) {
        int64_t time = feed->times_us != NULL
                           ? weir_time_add(feed->times_us[aggregate->rows[i]], feed->later_us)
                           : INT64_MIN;
        rc = weir_changes_note(aggregate, aggregate->slots[i], time, err);
    }
    return rc;
}

static int feed_groups(struct weir_aggregate *aggregate, const struct weir_feed *feed,
                       struct weir_error *err) {
    int rc = find_groups(aggregate, feed, err);
    for (int32_t i = 0; i < feed->count && rc == WEIR_OK; i++) {
        count_row(aggregate, feed, i);
    }
    return rc == WEIR_OK ? weir_aggregate_add(aggregate, feed, 0, feed->count, err) : rc;
}

int weir_aggregate_forget(struct weir_aggregate *aggregate, const struct weir_forgotten *rows,
                          struct weir_error *err) {
    struct weir_feed feed = {
        .batch = rows->batch,
        .count = rows->count,
        .times_us = rows->times_us,
        .inputs = rows->inputs,
        .masks = rows->masks,
        .orders = rows->orders,
        .only = rows->only,
        .later_us = rows->later_us,
    };
    int rc = reserve_scratch(aggregate, rows->count);
    rc = rc == WEIR_OK ? weir_members_reap(aggregate, err)
                       : weir_error_set(err, rc, "%s: no memory for %d rows",
                                        aggregate->declaration, rows->count);
    rc = rc == WEIR_OK ? find_groups(aggregate, &feed, err) : rc;
    for (int32_t i = 0; i < rows->count && rc == WEIR_OK && rows->whole; i++) {
        count_by(aggregate, i, -1);
    }
    return rc == WEIR_OK ? add_measures(aggregate, &feed, 0, rows->count, true, err) : rc;
}

int weir_aggregate_feed_changes(struct weir_aggregate *aggregate, const struct weir_batch *batch,
                                const int32_t *sel, int32_t count, const int64_t *times_us,
                                const int64_t *watermark_before_us, const int8_t *signs,
                                const struct weir_column *const *inputs,
                                const struct weir_column *const *orders,
                                const uint8_t *const *masks, int32_t *late_sel, int32_t *late_count,
                                struct weir_error *err) {
    struct weir_feed feed = {.batch = batch,
                             .sel = sel,
                             .count = count,
                             .times_us = times_us,
                             .watermark_before_us = watermark_before_us,
                             .inputs = inputs,
                             .masks = masks,
                             .signs = signs,
                             .orders = orders};
    *late_count = 0;
    int rc = reserve_scratch(
        aggregate, aggregate->every != 0 ? weir_overlap_entries(aggregate, count) : count);
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: no memory for %d rows", aggregate->declaration, count);
    }
    rc = weir_members_reap(aggregate, err);
    if (rc != WEIR_OK || count == 0) {
        return rc;
    }
    if (aggregate->unwindowed) {
        return feed_groups(aggregate, &feed, err);
    }
    if (aggregate->sessions == NULL && aggregate->counted == NULL) {
        return feed_windows(aggregate, &feed, late_sel, late_count, err);
    }
    rc = encode_keys(aggregate, batch, sel, count, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    return aggregate->counted != NULL
               ? weir_counted_feed(aggregate, &feed, err)
               : weir_sessions_feed(aggregate, &feed, late_sel, late_count, err);
}

int weir_aggregate_feed(struct weir_aggregate *aggregate, const struct weir_batch *batch,
                        const int32_t *sel, int32_t count, const int64_t *times_us,
                        const int64_t *watermark_before_us, const struct weir_column *const *inputs,
                        const uint8_t *const *masks, int32_t *late_sel, int32_t *late_count,
                        struct weir_error *err) {
    return weir_aggregate_feed_changes(aggregate, batch, sel, count, times_us, watermark_before_us,
                                       NULL, inputs, NULL, masks, late_sel, late_count, err);
}
