#include "operator/aggregate/counted.h"

#include <stdlib.h>
#include <string.h>

#include "operator/aggregate/members.h"

enum { FULL_FIRST = 256, INDEX_AHEAD = 24, SLOT_AHEAD = 12 };

struct filled { /* after the measures in a slot's value */
    int64_t rows;
    int64_t first;
    int64_t last;
};

_Static_assert(sizeof(struct filled) == WEIR_COUNTED_TAIL, "tail of a counted window");

struct weir_counted {
    int64_t rows;
    uint32_t *full; /* numbers of slots, a queue */
    size_t full_at;
    size_t full_count; /* and those before full_at */
    size_t full_capacity;
    int64_t place;                  /* of the last of them; 0: there is none */
    struct weir_ordered_slot *rest; /* at the end: those that are not full; NULL: not gathered */
    size_t rest_at;
    size_t rest_count;
};

static int no_memory(const struct weir_aggregate *aggregate, struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for its windows",
                          aggregate->declaration);
}

struct weir_counted *weir_counted_create(int64_t rows) {
    struct weir_counted *counted = calloc(1, sizeof *counted);
    if (counted != NULL) {
        counted->rows = rows;
    }
    return counted;
}

void weir_counted_destroy(struct weir_counted *counted) {
    if (counted != NULL) {
        free(counted->full);
        free(counted->rest);
        free(counted);
    }
}

size_t weir_counted_bytes(const struct weir_counted *counted) {
    return counted->full_capacity * sizeof *counted->full +
           (counted->rest != NULL ? counted->rest_count * sizeof *counted->rest : 0);
}

static struct filled filled_of(const struct weir_aggregate *aggregate, const uint8_t *value) {
    struct filled filled;
    memcpy(&filled, value + aggregate->measures.tail_offset, sizeof filled);
    return filled;
}

static void set_filled(const struct weir_aggregate *aggregate, uint8_t *value,
                       struct filled filled) {
    memcpy(value + aggregate->measures.tail_offset, &filled, sizeof filled);
}

void weir_counted_bounds(const struct weir_aggregate *aggregate, const uint8_t *value,
                         int64_t *start_us, int64_t *end_us) {
    struct filled filled = filled_of(aggregate, value);
    *start_us = filled.first;
    *end_us = weir_time_add(filled.last, 1);
}

/* --- feeding --------------------------------------------------------------------------------- */

static bool queue(struct weir_counted *counted, uint32_t number) {
    if (counted->full_count == counted->full_capacity) {
        size_t capacity = counted->full_capacity == 0 ? FULL_FIRST : counted->full_capacity * 2;
        uint32_t *full = realloc(counted->full, capacity * sizeof *full);
        if (full == NULL) {
            return false;
        }
        counted->full = full;
        counted->full_capacity = capacity;
    }
    counted->full[counted->full_count++] = number;
    return true;
}

/* The window is full: it makes room for the key's next one. */
static int set_aside(struct weir_aggregate *aggregate, int32_t position, struct weir_slot *slot,
                     struct weir_error *err) {
    struct weir_counted *counted = aggregate->counted;
    struct weir_table *table = aggregate->table;
    const struct weir_keys *keys = &aggregate->keys;
    uint8_t *key = keys->bytes + keys->offsets[position];
    size_t length = keys->offsets[position + 1] - keys->offsets[position];
    int64_t place = counted->place + 1;
    int64_t filling = 0;
    bool created;
    memcpy(key, &place, WINDOW_BYTES);
    struct weir_slot *full =
        weir_table_get(table, weir_table_hash(table, key, length), key, length, &created, err);
    memcpy(key, &filling, WINDOW_BYTES);
    if (full == NULL) {
        return err != NULL ? err->code : WEIR_E_LIMIT;
    }
    if (!created) {
        return weir_error_set(err, WEIR_E_BUG, "%s: a full window was made twice",
                              aggregate->declaration);
    }
    weir_measures_move(&aggregate->measures, weir_slot_value(table, full),
                       weir_slot_value(table, slot));
    int rc = aggregate->members != NULL ? weir_members_move(aggregate, full, slot, err) : WEIR_OK;
    rc = rc == WEIR_OK ? weir_aggregate_delete_slot(aggregate, slot, err) : rc;
    if (rc == WEIR_OK && !queue(counted, full->number)) {
        rc = no_memory(aggregate, err);
    }
    counted->place = place;
    return rc;
}

/* The row is in the window. */
static bool fills(struct weir_aggregate *aggregate, uint8_t *value, int64_t time) {
    struct filled filled = filled_of(aggregate, value);
    filled.first = filled.rows == 0 || time < filled.first ? time : filled.first;
    filled.last = filled.rows == 0 || time > filled.last ? time : filled.last;
    filled.rows++;
    set_filled(aggregate, value, filled);
    return filled.rows >= aggregate->counted->rows;
}

int weir_counted_feed(struct weir_aggregate *aggregate, const struct weir_feed *feed,
                      struct weir_error *err) {
    struct weir_table *table = aggregate->table;
    struct weir_keys *keys = &aggregate->keys;
    int32_t taken = 0;
    int32_t added = 0;
    int rc = WEIR_OK;
    free(aggregate->counted->rest);
    aggregate->counted->rest = NULL;
    for (int32_t i = 0; i < feed->count; i++) {
        memset(keys->bytes + keys->offsets[i], 0, WINDOW_BYTES);
    }
    weir_keys_hash(keys, weir_table_view(table)->seed);
    for (int32_t i = 0; i < feed->count && rc == WEIR_OK; i++) {
        if (i + INDEX_AHEAD < feed->count) {
            weir_table_prefetch(table, keys->hashes[i + INDEX_AHEAD]);
        }
        if (i + SLOT_AHEAD < feed->count) {
            weir_table_prefetch_slot(table, keys->hashes[i + SLOT_AHEAD]);
        }
        int32_t row = feed->sel != NULL ? feed->sel[i] : i;
        bool created;
        struct weir_slot *slot =
            weir_table_get(table, keys->hashes[i], keys->bytes + keys->offsets[i],
                           keys->offsets[i + 1] - keys->offsets[i], &created, err);
        if (slot == NULL) {
            return err != NULL ? err->code : WEIR_E_LIMIT;
        }
        if (!created && weir_table_touch(table, slot) != WEIR_OK) {
            return no_memory(aggregate, err);
        }
        aggregate->rows[taken] = row;
        aggregate->positions[taken] = i;
        aggregate->slots[taken] = slot;
        aggregate->values[taken] = weir_slot_value(table, slot);
        if (fills(aggregate, aggregate->values[taken++], feed->times_us[row])) {
            rc = weir_aggregate_add(aggregate, feed, added, taken, err);
            added = taken;
            rc = rc == WEIR_OK ? set_aside(aggregate, i, slot, err) : rc;
        }
    }
    return rc == WEIR_OK ? weir_aggregate_add(aggregate, feed, added, taken, err) : rc;
}

/* --- firing ---------------------------------------------------------------------------------- */

static bool is_empty(const struct weir_counted *counted) {
    return counted->full_at == counted->full_count;
}

bool weir_counted_ready(const struct weir_aggregate *aggregate, int64_t watermark_us) {
    return !is_empty(aggregate->counted) ||
           (watermark_us == INT64_MAX && weir_table_keys(aggregate->table) > 0);
}

/* The window that leaves next; NULL after an error. */
static struct weir_slot *next_of(struct weir_aggregate *aggregate, struct weir_error *err) {
    struct weir_counted *counted = aggregate->counted;
    if (!is_empty(counted)) {
        return weir_table_slot(aggregate->table, counted->full[counted->full_at]);
    }
    if (counted->rest == NULL) {
        counted->rest_at = 0;
        counted->rest = weir_slots_in_order(aggregate->table, &counted->rest_count);
        if (counted->rest == NULL) {
            no_memory(aggregate, err);
            return NULL;
        }
    }
    return weir_table_slot(aggregate->table, counted->rest[counted->rest_at].number);
}

static void move_on(struct weir_counted *counted) {
    if (is_empty(counted)) {
        counted->rest_at++;
        if (counted->rest_at == counted->rest_count) {
            free(counted->rest);
            counted->rest = NULL;
        }
    } else if (++counted->full_at == counted->full_count) {
        counted->full_at = counted->full_count = 0;
        counted->place = 0;
    }
}

static int emit(struct weir_aggregate *aggregate, struct weir_slot *slot,
                struct weir_batch_builder *out, bool *full, struct weir_error *err) {
    struct weir_aggregate_row row = {
        .key = weir_slot_key(aggregate->table, slot) + WINDOW_BYTES,
        .key_bytes = slot->key_bytes - WINDOW_BYTES,
        .value = weir_slot_value(aggregate->table, slot),
    };
    weir_counted_bounds(aggregate, row.value, &row.start_us, &row.end_us);
    return weir_aggregate_emit(aggregate, &row, out, full, err);
}

int weir_counted_fire(struct weir_aggregate *aggregate, int64_t watermark_us,
                      struct weir_batch_builder *out, int32_t max_rows, enum weir_fired *fired,
                      struct weir_error *err) {
    *fired = WEIR_FIRED_FULL;
    while (weir_counted_ready(aggregate, watermark_us)) {
        if (out->rows >= max_rows || out->rows == out->rows_max) {
            return WEIR_OK;
        }
        struct weir_slot *slot = next_of(aggregate, err);
        bool full;
        int rc = slot != NULL ? emit(aggregate, slot, out, &full, err) : WEIR_E_NOMEM;
        if (rc != WEIR_OK || full) {
            return rc;
        }
        rc = weir_aggregate_delete_slot(aggregate, slot, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        move_on(aggregate->counted);
    }
    *fired = WEIR_FIRED_ALL;
    return WEIR_OK;
}

/* --- state ------------------------------------------------------------------------------------ */

struct standing {
    int64_t place;
    uint32_t number;
};

static int compare_standing(const void *a, const void *b) {
    const struct standing *x = (const struct standing *)a;
    const struct standing *y = (const struct standing *)b;
    return (x->place > y->place) - (x->place < y->place);
}

int weir_counted_restore(struct weir_aggregate *aggregate, const struct weir_ordered_slot *slots,
                         size_t count, struct weir_error *err) {
    struct weir_counted *counted = aggregate->counted;
    struct standing *full = malloc((count + 1) * sizeof *full);
    size_t found = 0;
    int rc = full != NULL ? WEIR_OK : no_memory(aggregate, err);
    free(counted->rest);
    counted->rest = NULL;
    counted->full_at = counted->full_count = 0;
    counted->place = 0;
    for (size_t i = 0; i < count && rc == WEIR_OK; i++) {
        struct weir_slot *slot = weir_table_slot(aggregate->table, slots[i].number);
        int64_t place;
        memcpy(&place, weir_slot_key(aggregate->table, slot), sizeof place);
        struct filled filled = filled_of(aggregate, weir_slot_value(aggregate->table, slot));
        if (place < 0 || filled.rows < 1 || filled.rows > counted->rows ||
            (place > 0) != (filled.rows == counted->rows)) {
            rc = weir_error_set(err, WEIR_E_CORRUPT, "%s: a window in the state does not parse",
                                weir_table_name(aggregate->table));
        } else if (place > 0) {
            full[found++] = (struct standing){place, slots[i].number};
        }
    }
    if (rc == WEIR_OK && found > 0) {
        qsort(full, found, sizeof *full, compare_standing);
        counted->place = full[found - 1].place;
    }
    for (size_t i = 0; i < found && rc == WEIR_OK; i++) {
        rc = queue(counted, full[i].number) ? WEIR_OK : no_memory(aggregate, err);
    }
    free(full);
    return rc;
}
