/* A batch goes through in steps, each a tight loop: windows and lateness, keys, hashes, slots (with
 * prefetches far enough ahead that cache misses overlap), then measure by measure over the slots'
 * values. Within a slot the rows' order is kept, so double sums come out the same however rows are
 * batched. */
#include <inttypes.h>
#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "batch/change.h"
#include "core/time.h"
#include "operator/changes.h"
#include "operator/delayed.h"
#include "operator/members.h"
#include "operator/session.h"

enum {
    INDEX_AHEAD = 24,
    SLOT_AHEAD = 12,
    KEY_INLINE_MAX = 64,
    INDEX_BYTES_A_KEY = 16,
    MOVED_KEY_MAX = 1 << 30,
    FIRE_WORK = 2048 /* slots a call */
};

/* --- creation ------------------------------------------------------------------------------ */

static int make_output(struct weir_aggregate *aggregate, const struct weir_aggregate_config *config,
                       struct weir_error *err) {
    aggregate->output = weir_schema_create();
    if (aggregate->output == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "no memory for a schema");
    }
    int rc = WEIR_OK;
    for (int32_t i = 0; i < config->by_count && rc == WEIR_OK; i++) {
        rc = weir_schema_add(aggregate->output, &config->input->fields[config->by[i]]);
    }
    const char *const bounds[] = {"window_start", "window_end"};
    for (int i = 0; i < 2 && rc == WEIR_OK && !config->unwindowed; i++) {
        rc = weir_schema_add_text(aggregate->output, bounds[i], "timestamp", false, err);
    }
    for (int32_t m = 0; m < aggregate->measures.count && rc == WEIR_OK; m++) {
        struct weir_measure_cell *cell = &aggregate->measures.cells[m];
        struct weir_field field = cell->output;
        char *name = strdup(cell->measure.name);
        if (name == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "no memory for a schema");
        }
        field.name = name;
        rc = weir_schema_add(aggregate->output, &field);
        free(name);
    }
    if (rc == WEIR_OK && (config->unwindowed || config->updates)) {
        rc = weir_schema_add_text(aggregate->output, WEIR_CHANGE_COLUMN, "int8", false, err);
    }
    return rc == WEIR_OK ? rc : weir_error_set(err, rc, "cannot make the output's schema");
}

static uint64_t shape_of(const struct weir_aggregate *aggregate,
                         const struct weir_aggregate_config *config) {
    uint64_t fixed[3] = {weir_key_shape(aggregate->key), (uint64_t)aggregate->size,
                         config->state_version};
    uint64_t shape = XXH3_64bits(fixed, sizeof fixed);
    if (config->every_us != 0) {
        int64_t hops[2] = {config->every_us, config->cumulate};
        shape = XXH3_64bits_withSeed(hops, sizeof hops, shape);
    }
    if (config->gap_us != 0 || config->calendar != NULL) {
        int64_t other[3] = {config->gap_us, aggregate->calendar.unit,
                            aggregate->calendar.week_start};
        shape = XXH3_64bits_withSeed(other, sizeof other, shape);
        const char *zone = config->calendar != NULL ? weir_zone_name(config->calendar->zone) : "";
        shape = XXH3_64bits_withSeed(zone, strlen(zone), shape);
    }
    if (config->unwindowed || config->retracts || config->updates) {
        uint8_t changing[2] = {(uint8_t)(config->unwindowed | config->updates << 1 |
                                         config->delays << 2 | config->refires << 3),
                               config->retracts};
        shape = XXH3_64bits_withSeed(changing, sizeof changing, shape);
    }
    for (int32_t m = 0; m < aggregate->measures.count; m++) {
        const struct weir_measure *measure = &aggregate->measures.cells[m].measure;
        uint8_t kind[5] = {(uint8_t)measure->kind, measure->has_input, measure->type,
                           measure->precision, (uint8_t)measure->scale};
        shape = XXH3_64bits_withSeed(kind, sizeof kind, shape);
        shape = measure->share != 0
                    ? XXH3_64bits_withSeed(&measure->share, sizeof measure->share, shape)
                    : shape;
        shape = config->over_us != NULL && config->over_us[m] != 0
                    ? XXH3_64bits_withSeed(&config->over_us[m], sizeof(int64_t), shape)
                    : shape;
        shape = measure->most != 0
                    ? XXH3_64bits_withSeed(&measure->most, sizeof measure->most, shape)
                    : shape;
        shape = XXH3_64bits_withSeed(measure->name, strlen(measure->name), shape);
    }
    return shape;
}

static int make_tables(struct weir_aggregate *aggregate, const struct weir_aggregate_config *config,
                       struct weir_error *err) {
    size_t key_bytes = aggregate->prefix_bytes + weir_key_estimate_bytes(aggregate->key);
    aggregate->key_estimate = key_bytes;
    struct weir_table_config table = {
        .declaration = config->declaration,
        .cell = "window",
        .shape = aggregate->shape,
        .value_bytes = aggregate->measures.value_bytes,
        .key_inline_bytes = (uint32_t)(key_bytes < KEY_INLINE_MAX ? key_bytes : KEY_INLINE_MAX),
        .max_keys = config->max_keys,
        .max_bytes = config->max_bytes,
        .option = config->option,
        .codec = aggregate->measures.has_parts ? &weir_measures_codec : NULL,
        .codec_context = &aggregate->measures,
    };
    aggregate->table = weir_table_create(&table, err);
    if (aggregate->table == NULL) {
        return WEIR_E_CONFIG;
    }
    aggregate->measures.table = aggregate->table;
    /* What waits to leave is looked for among the keys in memory. */
    bool plain = config->unwindowed && !aggregate->measures.has_parts && !config->delays;
    if (!aggregate->measures.has_members) {
        return config->disk != NULL && plain ? aggregate_disk_allow(aggregate, config, err)
                                             : WEIR_OK;
    }
    struct weir_table_config members = {
        .declaration = config->declaration,
        .cell = "distinct",
        .shape = aggregate->shape,
        .value_bytes = config->retracts ? sizeof(int64_t) : 0,
        .key_inline_bytes = 24,
        .max_bytes = config->max_bytes,
        .option = config->option,
    };
    aggregate->members = weir_table_create(&members, err);
    return aggregate->members != NULL ? WEIR_OK : WEIR_E_CONFIG;
}

struct weir_aggregate *weir_aggregate_create(const struct weir_aggregate_config *config,
                                             struct weir_error *err) {
    bool sized = config->gap_us == 0 && config->calendar == NULL && !config->unwindowed;
    bool overlaps = config->every_us != 0 && (config->updates || config->retracts);
    if ((config->retracts && config->gap_us != 0) ||
        (config->updates && (config->gap_us != 0 || config->unwindowed)) ||
        (sized && config->size_us <= 0) || config->gap_us < 0 || config->lateness_us < 0 ||
        config->every_us < 0 ||
        (config->every_us > 0 && (!sized || config->every_us > config->size_us)) ||
        (config->cumulate && (config->every_us == 0 || config->size_us % config->every_us != 0))) {
        weir_error_set(err, WEIR_E_CONFIG,
                       "%s: a window's size must be positive, its allowed_lateness not negative, "
                       "its `every` or `step` not longer than its size, and a step divides it",
                       config->declaration);
        return NULL;
    }
    struct weir_aggregate *aggregate = calloc(1, sizeof *aggregate);
    if (aggregate == NULL) {
        weir_error_set(err, WEIR_E_NOMEM, "%s: no memory", config->declaration);
        return NULL;
    }
    weir_windows_init(&aggregate->windows);
    weir_windows_init(&aggregate->unfired);
    aggregate->refires = config->refires;
    aggregate->fired_known = true;
    aggregate->fired_us = INT64_MIN;
    weir_keys_init(&aggregate->keys);
    weir_keys_init(&aggregate->member_keys);
    weir_buffer_init(&aggregate->moved_key, MOVED_KEY_MAX);
    aggregate->size = config->size_us;
    aggregate->every = overlaps ? config->every_us : 0;
    aggregate->cumulate = config->cumulate;
    if (config->calendar != NULL) {
        aggregate->calendar = *config->calendar;
    }
    aggregate->lateness = config->lateness_us;
    aggregate->by_count = config->by_count;
    aggregate->unwindowed = config->unwindowed;
    aggregate->prefix_bytes = config->unwindowed                   ? 0
                              : config->every_us != 0 && !overlaps ? HOP_BYTES
                                                                   : WINDOW_BYTES;
    aggregate->declaration = strdup(config->declaration);
    if (aggregate->declaration == NULL) {
        weir_error_set(err, WEIR_E_NOMEM, "no memory");
        goto fail;
    }
    uint32_t tail_bytes = config->gap_us != 0 ? WINDOW_BYTES * 2
                          : config->unwindowed || config->retracts || config->updates
                              ? (uint32_t)sizeof(uint64_t) /* rows of the group */
                              : 0;
    if (overlaps && weir_overlap_windows(aggregate) > WEIR_OVERLAP_WINDOWS_MAX) {
        weir_error_set(err, WEIR_E_CONFIG,
                       "a row would change %lld windows: at most %d can change; make the step "
                       "longer, or let rows leave on_close",
                       (long long)weir_overlap_windows(aggregate), WEIR_OVERLAP_WINDOWS_MAX);
        goto fail;
    }
    aggregate->key = weir_key_create(config->input, config->by, config->by_count, err);
    if (aggregate->key == NULL ||
        weir_measures_init(&aggregate->measures, config->measures, config->measure_count,
                           config->retracts, tail_bytes, err) != WEIR_OK ||
        make_output(aggregate, config, err) != WEIR_OK) {
        goto fail;
    }
    aggregate->shape = shape_of(aggregate, config);
    if (make_tables(aggregate, config, err) != WEIR_OK) {
        goto fail;
    }
    if (config->every_us != 0 && !overlaps) {
        aggregate->hops = weir_hops_create(aggregate, config, err);
        if (aggregate->hops == NULL) {
            goto fail;
        }
    }
    if (config->gap_us != 0) {
        aggregate->sessions = weir_sessions_create(aggregate, config, err);
        if (aggregate->sessions == NULL) {
            goto fail;
        }
    }
    if (config->unwindowed || config->updates) {
        aggregate->changes = weir_changes_create();
        if (aggregate->changes == NULL) {
            weir_error_set(err, WEIR_E_NOMEM, "no memory");
            goto fail;
        }
    }
    if (config->delays) {
        aggregate->delayed = weir_delayed_create(aggregate, config, err);
        if (aggregate->delayed == NULL) {
            goto fail;
        }
    }
    return aggregate;
fail:
    weir_error_wrap(err, "%s", config->declaration);
    weir_aggregate_destroy(aggregate);
    return NULL;
}

static void free_scratch(struct weir_aggregate *aggregate) {
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

void weir_aggregate_destroy(struct weir_aggregate *aggregate) {
    if (aggregate == NULL) {
        return;
    }
    weir_hops_destroy(aggregate->hops);
    weir_sessions_destroy(aggregate->sessions);
    weir_changes_destroy(aggregate->changes);
    weir_delayed_destroy(aggregate->delayed);
    weir_table_destroy(aggregate->table);
    weir_table_destroy(aggregate->members);
    weir_measures_fini(&aggregate->measures);
    weir_key_destroy(aggregate->key);
    weir_schema_unref(aggregate->output);
    weir_windows_fini(&aggregate->windows);
    weir_windows_fini(&aggregate->unfired);
    weir_keys_fini(&aggregate->keys);
    weir_keys_fini(&aggregate->member_keys);
    weir_buffer_fini(&aggregate->moved_key);
    free_scratch(aggregate);
    free(aggregate->graves);
    free(aggregate->declaration);
    free(aggregate);
}

struct weir_schema *weir_aggregate_output(const struct weir_aggregate *aggregate) {
    return aggregate->output;
}

/* --- feed ---------------------------------------------------------------------------------- */

static int reserve_scratch(struct weir_aggregate *aggregate, int32_t count) {
    if (count <= aggregate->capacity) {
        return WEIR_OK;
    }
    size_t rows = (size_t)(count < WEIR_BATCH_ROWS_MAX ? WEIR_BATCH_ROWS_MAX : count);
    free_scratch(aggregate);
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

/* The window of tumbling and calendar windows a time lies in. */
static void window_of(const struct weir_aggregate *aggregate, int64_t time, int64_t *start,
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
    (aggregate->every != 0 ? weir_overlap_bounds : window_of)(aggregate, id, start, end);
}

static int64_t end_of(const struct weir_aggregate *aggregate, int64_t id) {
    int64_t start;
    int64_t end;
    weir_aggregate_bounds(aggregate, id, &start, &end);
    return end;
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
            window_of(aggregate, time, &start, &end);
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

/* Appends a new slot to its window's list. */
static int join_window(struct weir_aggregate *aggregate, struct weir_slot *slot, int64_t start,
                       struct weir_error *err) {
    struct weir_window *window =
        weir_refire_note(aggregate, start) ? weir_windows_get(&aggregate->windows, start) : NULL;
    if (window == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for another window",
                              aggregate->declaration);
    }
    slot->link = 0;
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
    for (int32_t i = 0; i < count && i < INDEX_AHEAD; i++) {
        weir_table_prefetch(table, keys->hashes[i]);
    }
    for (int32_t i = 0; i < count; i++) {
        if (i + INDEX_AHEAD < count) {
            weir_table_prefetch(table, keys->hashes[i + INDEX_AHEAD]);
        }
        if (i + SLOT_AHEAD < count) {
            weir_table_prefetch_slot(table, keys->hashes[i + SLOT_AHEAD]);
        }
        bool created;
        struct weir_slot *slot =
            weir_table_get(table, keys->hashes[i], keys->bytes + keys->offsets[i],
                           keys->offsets[i + 1] - keys->offsets[i], &created, err);
        if (slot == NULL) {
            return err != NULL ? err->code : WEIR_E_LIMIT;
        }
        int rc = !created                ? weir_table_touch(table, slot)
                 : aggregate->unwindowed ? WEIR_OK
                                         : join_window(aggregate, slot, aggregate->starts[i], err);
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
    return WEIR_OK;
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
    if (aggregate->sessions == NULL) {
        return feed_windows(aggregate, &feed, late_sel, late_count, err);
    }
    rc = encode_keys(aggregate, batch, sel, count, err);
    return rc == WEIR_OK ? weir_sessions_feed(aggregate, &feed, late_sel, late_count, err) : rc;
}

int weir_aggregate_feed(struct weir_aggregate *aggregate, const struct weir_batch *batch,
                        const int32_t *sel, int32_t count, const int64_t *times_us,
                        const int64_t *watermark_before_us, const struct weir_column *const *inputs,
                        const uint8_t *const *masks, int32_t *late_sel, int32_t *late_count,
                        struct weir_error *err) {
    return weir_aggregate_feed_changes(aggregate, batch, sel, count, times_us, watermark_before_us,
                                       NULL, inputs, NULL, masks, late_sel, late_count, err);
}

/* --- fire ---------------------------------------------------------------------------------- */

bool weir_aggregate_ready(const struct weir_aggregate *aggregate, int64_t watermark_us) {
    const struct weir_windows *windows = &aggregate->windows;
    if (aggregate->hops != NULL) {
        return weir_hops_ready(aggregate, watermark_us);
    }
    if (aggregate->sessions != NULL) {
        return weir_sessions_ready(aggregate, watermark_us);
    }
    if (weir_refire_ready(aggregate, watermark_us)) {
        return true;
    }
    return windows->count > 0 &&
           weir_time_add(end_of(aggregate, windows->windows[windows->heap[0]].start_us),
                         aggregate->lateness) <= watermark_us;
}

int weir_aggregate_append_row(struct weir_aggregate *aggregate, const struct weir_row *row,
                              struct weir_batch_builder *out, struct weir_error *err) {
    struct weir_column_builder *column = out->columns + aggregate->by_count;
    int rc = weir_key_decode(aggregate->key, row->key, row->key_bytes, out->columns);
    if (rc == WEIR_E_CORRUPT) {
        return weir_error_set(err, rc, "%s: a key in the state does not parse",
                              weir_table_name(aggregate->table));
    }
    if (rc == WEIR_OK && !aggregate->unwindowed) {
        rc = weir_builder_int(column++, row->start_us);
        if (rc == WEIR_OK) {
            rc = weir_builder_int(column++, row->end_us);
        }
    }
    for (int32_t m = 0; m < aggregate->measures.count && rc == WEIR_OK; m++) {
        rc = weir_measures_emit(&aggregate->measures, m, row->value, column++, err);
    }
    if (rc == WEIR_OK && aggregate->changes != NULL) {
        rc = weir_builder_int(column, row->change);
    }
    if (rc == WEIR_E_DATA && aggregate->unwindowed) {
        weir_error_wrap(err, "%s", aggregate->declaration);
    } else if (rc == WEIR_E_DATA) {
        weir_error_wrap(err, "%s: window of %" PRId64 " us", aggregate->declaration, row->start_us);
    }
    return rc;
}

void weir_aggregate_read_key(const struct weir_aggregate *aggregate, const struct weir_slot *slot,
                             struct weir_row *row) {
    const uint8_t *key = weir_slot_key(aggregate->table, slot);
    row->key = key + aggregate->prefix_bytes;
    row->key_bytes = slot->key_bytes - aggregate->prefix_bytes;
    if (!aggregate->unwindowed) {
        int64_t id;
        memcpy(&id, key, sizeof id);
        weir_aggregate_bounds(aggregate, id, &row->start_us, &row->end_us);
    }
}

static int append_row(struct weir_aggregate *aggregate, struct weir_slot *slot,
                      struct weir_batch_builder *out, struct weir_error *err) {
    struct weir_row row = {.value = weir_slot_value(aggregate->table, slot)};
    weir_aggregate_read_key(aggregate, slot, &row);
    return weir_aggregate_append_row(aggregate, &row, out, err);
}

int weir_aggregate_row_failed(const struct weir_aggregate *aggregate, int rc,
                              struct weir_batch_builder *out, bool *full, struct weir_error *err) {
    weir_batch_builder_undo_row(out);
    *full = rc == WEIR_E_LIMIT && out->rows > 0;
    return rc == WEIR_E_LIMIT || rc == WEIR_E_NOMEM
               ? weir_error_set(err, rc, "%s: no room for one row of output",
                                aggregate->declaration)
               : rc;
}

int weir_aggregate_delete_slot(struct weir_aggregate *aggregate, struct weir_slot *slot,
                               struct weir_error *err) {
    int rc = WEIR_OK;
    if (aggregate->members != NULL) {
        rc = weir_members_bury(aggregate, weir_slot_value(aggregate->table, slot), err);
    }
    if (rc == WEIR_OK) {
        rc = weir_table_delete(aggregate->table, slot, false);
        if (rc != WEIR_OK) {
            return weir_error_set(err, rc, "%s: no memory to delete",
                                  weir_table_name(aggregate->table));
        }
    }
    return rc;
}

static bool has_no_rows(const struct weir_aggregate *aggregate, struct weir_slot *slot) {
    int64_t rows;
    memcpy(&rows,
           (uint8_t *)weir_slot_value(aggregate->table, slot) + aggregate->measures.tail_offset,
           sizeof rows);
    return rows <= 0;
}

int weir_aggregate_fire(struct weir_aggregate *aggregate, int64_t watermark_us,
                        struct weir_batch_builder *out, int32_t max_rows, enum weir_fired *fired,
                        struct weir_error *err) {
    int32_t work = FIRE_WORK;
    *fired = WEIR_FIRED_FULL;
    int rc = weir_members_reap(aggregate, err);
    if (rc == WEIR_OK && aggregate->hops != NULL) {
        return weir_hops_fire(aggregate, watermark_us, out, max_rows, fired, err);
    }
    if (rc == WEIR_OK && aggregate->sessions != NULL) {
        return weir_sessions_fire(aggregate, watermark_us, out, max_rows, fired, err);
    }
    if (rc == WEIR_OK && aggregate->refires) {
        bool done;
        rc = weir_refire_first(aggregate, watermark_us, out, max_rows, &work, fired, &done, err);
        if (rc != WEIR_OK || !done) {
            return rc;
        }
    }
    while (rc == WEIR_OK && weir_aggregate_ready(aggregate, watermark_us)) {
        if (out->rows >= max_rows || out->rows == out->rows_max) {
            return WEIR_OK;
        }
        if (work-- <= 0) { /* of windows that all was taken back from there may be very many */
            *fired = WEIR_FIRED_SOME;
            return WEIR_OK;
        }
        struct weir_window *window = weir_windows_first(&aggregate->windows);
        struct weir_slot *slot = weir_table_slot(aggregate->table, window->head);
        bool empty = aggregate->changes != NULL || /* they have left already */
                     (aggregate->measures.retracts && has_no_rows(aggregate, slot));
        rc = empty ? WEIR_OK : append_row(aggregate, slot, out, err);
        if (rc != WEIR_OK) {
            bool full;
            rc = weir_aggregate_row_failed(aggregate, rc, out, &full, err);
            return full ? WEIR_OK : rc;
        }
        if (!empty) {
            weir_batch_builder_finish_row(out);
        }
        uint32_t next = slot->link;
        if (next != 0) { /* its place in the index, for the delete to come */
            weir_table_prefetch(aggregate->table, weir_table_slot(aggregate->table, next)->hash);
        }
        rc = weir_aggregate_delete_slot(aggregate, slot, err);
        if (rc == WEIR_E_NOMEM) {
            return rc;
        }
        window->head = next;
        window->slots--;
        if (next == 0) {
            weir_windows_remove_first(&aggregate->windows);
        }
    }
    *fired = WEIR_FIRED_ALL;
    return rc;
}

/* --- state --------------------------------------------------------------------------------- */

size_t weir_aggregate_keys(const struct weir_aggregate *aggregate) {
    return weir_table_keys(aggregate->table);
}

size_t weir_aggregate_bytes(const struct weir_aggregate *aggregate) {
    return weir_table_bytes(aggregate->table) + weir_windows_bytes(&aggregate->windows) +
           (aggregate->members != NULL ? weir_table_bytes(aggregate->members) : 0) +
           (aggregate->hops != NULL ? weir_hops_bytes(aggregate->hops) : 0) +
           (aggregate->sessions != NULL ? weir_sessions_bytes(aggregate->sessions) : 0) +
           (aggregate->changes != NULL ? weir_changes_bytes(aggregate->changes) : 0) +
           (aggregate->delayed != NULL ? weir_delayed_bytes(aggregate->delayed) : 0);
}

size_t weir_aggregate_estimate(const struct weir_aggregate *aggregate) {
    const struct weir_table_view *view = weir_table_view(aggregate->table);
    size_t heap = aggregate->key_estimate > view->key_inline_bytes
                      ? weir_heap_usable(aggregate->key_estimate)
                      : 0;
    return view->slot_bytes + INDEX_BYTES_A_KEY + heap;
}

uint64_t weir_aggregate_shape(const struct weir_aggregate *aggregate) {
    return aggregate->shape;
}

int32_t weir_aggregate_cells(struct weir_aggregate *aggregate, struct weir_cell **cells,
                             int32_t capacity) {
    int32_t count = 0;
    if (count < capacity) {
        cells[count++] = weir_table_cell(aggregate->table);
    }
    if (aggregate->members != NULL && count < capacity) {
        cells[count++] = weir_table_cell(aggregate->members);
    }
    if (aggregate->hops != NULL) {
        count += weir_hops_cells(aggregate, cells + count, capacity - count);
    }
    if (aggregate->delayed != NULL && count < capacity) {
        cells[count++] = weir_delayed_cell(aggregate->delayed);
    }
    if (aggregate->sessions != NULL && count < capacity) {
        cells[count++] = weir_sessions_cell(aggregate->sessions);
    }
    return count;
}

struct weir_ordered_slot *weir_slots_in_order(struct weir_table *table, size_t *count) {
    struct weir_ordered_slot *list = malloc((weir_table_keys(table) + 1) * sizeof *list);
    uint64_t last = 0;
    bool sorted = true; /* as long as no number was used again */
    *count = 0;
    for (uint32_t n = 1; list != NULL && n <= weir_table_slots(table); n++) {
        const struct weir_slot *slot = weir_table_slot(table, n);
        if (slot->sequence != 0) {
            list[(*count)++] = (struct weir_ordered_slot){slot->sequence, n};
            sorted = sorted && slot->sequence > last;
            last = slot->sequence;
        }
    }
    if (list != NULL && !sorted) {
        qsort(list, *count, sizeof *list, weir_compare_sequence);
    }
    return list;
}

void weir_aggregate_set_clock(struct weir_aggregate *aggregate, int64_t clock_us) {
    aggregate->clock_us = clock_us;
}

bool weir_aggregate_due(const struct weir_aggregate *aggregate, int64_t every_us) {
    const struct weir_delayed *delayed = aggregate->delayed;
    return delayed != NULL &&
           (every_us == 0 ? weir_delayed_any(delayed)
                          : weir_delayed_due(delayed, every_us, aggregate->clock_us));
}

int weir_aggregate_restore(struct weir_aggregate *aggregate, struct weir_error *err) {
    if (aggregate->delayed != NULL) {
        weir_delayed_restore(aggregate->delayed);
    }
    if (aggregate->unwindowed && aggregate->members == NULL) {
        return WEIR_OK; /* keys are found, never gone through */
    }
    size_t count;
    size_t member_count = 0;
    struct weir_ordered_slot *members = NULL;
    struct weir_ordered_slot *slots = weir_slots_in_order(aggregate->table, &count);
    int rc = WEIR_OK;
    weir_windows_clear(&aggregate->windows);
    weir_windows_clear(&aggregate->unfired);
    aggregate->fired_known = !aggregate->refires;
    if (aggregate->members != NULL) {
        members = weir_slots_in_order(aggregate->members, &member_count);
    }
    if (slots == NULL || (aggregate->members != NULL && members == NULL)) {
        rc = weir_error_set(err, WEIR_E_NOMEM, "%s: no memory to restore %zu keys",
                            aggregate->declaration, count);
        goto out;
    }
    if (rc == WEIR_OK && aggregate->hops != NULL) {
        rc = weir_hops_restore(aggregate, err);
    }
    for (size_t i = 0; i < count && rc == WEIR_OK; i++) {
        struct weir_slot *slot = weir_table_slot(aggregate->table, slots[i].number);
        int64_t start;
        if (aggregate->unwindowed) {
            break;
        }
        if (slot->key_bytes < aggregate->prefix_bytes) {
            rc = weir_error_set(err, WEIR_E_CORRUPT, "%s: a key in the state does not parse",
                                weir_table_name(aggregate->table));
            break;
        }
        memcpy(&start, weir_slot_key(aggregate->table, slot), sizeof start);
        if (aggregate->hops != NULL && !weir_hops_is_pane(aggregate, start)) {
            rc = weir_error_set(err, WEIR_E_CORRUPT, "%s: a pane in the state starts at %" PRId64,
                                weir_table_name(aggregate->table), start);
            break;
        }
        if (aggregate->sessions == NULL) {
            rc = join_window(aggregate, slot, start, err);
        }
        if (rc == WEIR_OK && aggregate->hops != NULL) {
            rc = weir_hops_created(aggregate, slot, err);
        }
    }
    if (rc == WEIR_OK && aggregate->sessions != NULL) {
        rc = weir_sessions_restore(aggregate, slots, count, err);
    }
    for (size_t i = 0; i < member_count && rc == WEIR_OK; i++) {
        rc = weir_members_restore(aggregate, weir_table_slot(aggregate->members, members[i].number),
                                  slots, count, err);
    }
    if (rc == WEIR_OK) {
        rc = weir_members_check(aggregate, slots, count, err);
    }
out:
    free(slots);
    free(members);
    return rc;
}
