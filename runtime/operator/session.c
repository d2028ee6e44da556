#include "operator/session.h"

#include <stdlib.h>
#include <string.h>

#include "operator/changes.h"
#include "operator/members.h"

enum { CLOSING_FIRST = 256, GROUP_AHEAD = 12, FIRE_WORK = 2048 /* sessions a call */ };

struct span { /* after the measures in a slot's value, and how many rows it has where rows change */
    int64_t first;
    int64_t last;
};

/* A session's end as it was when it was put here; it only moves on, so an entry is brought up to
 * date when it comes to the top. */
struct closing {
    int64_t end;
    uint64_t sequence;
    uint32_t number;
};

struct weir_sessions {
    int64_t gap;
    struct weir_table *groups;
    struct closing *closing; /* a heap: earliest end, then sequence, first */
    size_t closing_count;
    size_t closing_capacity;
    uint64_t *hashes; /* of groups, by position of the rows fed */
    int32_t hash_capacity;
};

static int no_memory(const struct weir_aggregate *aggregate, struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for its sessions",
                          aggregate->declaration);
}

struct weir_sessions *weir_sessions_create(struct weir_aggregate *aggregate,
                                           const struct weir_aggregate_config *config,
                                           struct weir_error *err) {
    struct weir_sessions *sessions = calloc(1, sizeof *sessions);
    if (sessions == NULL) {
        no_memory(aggregate, err);
        return NULL;
    }
    sessions->gap = config->gap_us;
    struct weir_table_config groups = {
        .declaration = config->declaration,
        .cell = "group",
        .shape = aggregate->shape,
        .key_inline_bytes = 24,
        .max_bytes = config->max_bytes,
        .option = config->option,
    };
    sessions->groups = weir_table_create(&groups, err);
    if (sessions->groups == NULL) {
        free(sessions);
        return NULL;
    }
    return sessions;
}

void weir_sessions_destroy(struct weir_sessions *sessions) {
    if (sessions != NULL) {
        weir_table_destroy(sessions->groups);
        free(sessions->closing);
        free(sessions->hashes);
        free(sessions);
    }
}

size_t weir_sessions_bytes(const struct weir_sessions *sessions) {
    return weir_table_bytes(sessions->groups) +
           sessions->closing_capacity * sizeof *sessions->closing;
}

struct weir_cell *weir_sessions_cell(struct weir_sessions *sessions) {
    return weir_table_cell(sessions->groups);
}

static uint32_t span_offset(const struct weir_aggregate *aggregate) {
    return aggregate->measures.value_bytes - (uint32_t)sizeof(struct span);
}

static struct span span_of(const struct weir_aggregate *aggregate, struct weir_slot *slot) {
    struct span span;
    memcpy(&span, (uint8_t *)weir_slot_value(aggregate->table, slot) + span_offset(aggregate),
           sizeof span);
    return span;
}

static void set_span(const struct weir_aggregate *aggregate, struct weir_slot *slot,
                     struct span span) {
    memcpy((uint8_t *)weir_slot_value(aggregate->table, slot) + span_offset(aggregate), &span,
           sizeof span);
}

/* Where rows change: of a session that was joined to another, and waits for its row to be taken
 * back, none are left. */
static int64_t rows_of(const struct weir_aggregate *aggregate, struct weir_slot *slot) {
    int64_t rows;
    memcpy(&rows,
           (uint8_t *)weir_slot_value(aggregate->table, slot) + aggregate->measures.tail_offset,
           sizeof rows);
    return rows;
}

static void set_rows(const struct weir_aggregate *aggregate, struct weir_slot *slot, int64_t rows) {
    memcpy((uint8_t *)weir_slot_value(aggregate->table, slot) + aggregate->measures.tail_offset,
           &rows, sizeof rows);
}

static bool is_joined(const struct weir_aggregate *aggregate, struct weir_slot *slot) {
    return aggregate->changes != NULL && rows_of(aggregate, slot) == 0;
}

void weir_sessions_bounds(const struct weir_aggregate *aggregate, const uint8_t *value,
                          int64_t *start_us, int64_t *end_us) {
    struct span span;
    memcpy(&span, value + span_offset(aggregate), sizeof span);
    *start_us = span.first;
    *end_us = weir_time_add(span.last, aggregate->sessions->gap);
}

static int64_t end_of(const struct weir_aggregate *aggregate, struct weir_slot *slot) {
    return weir_time_add(span_of(aggregate, slot).last, aggregate->sessions->gap);
}

/* --- the order of closing -------------------------------------------------------------------- */

static bool closes_before(const struct closing *a, const struct closing *b) {
    return a->end < b->end || (a->end == b->end && a->sequence < b->sequence);
}

static void sift_down(struct weir_sessions *sessions, size_t at, struct closing moved) {
    struct closing *heap = sessions->closing;
    for (;;) {
        size_t child = at * 2 + 1;
        if (child >= sessions->closing_count) {
            break;
        }
        if (child + 1 < sessions->closing_count && closes_before(&heap[child + 1], &heap[child])) {
            child++;
        }
        if (!closes_before(&heap[child], &moved)) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moved;
}

static bool closing_add(struct weir_sessions *sessions, struct closing entry) {
    if (sessions->closing_count == sessions->closing_capacity) {
        size_t capacity =
            sessions->closing_capacity == 0 ? CLOSING_FIRST : sessions->closing_capacity * 2;
        struct closing *heap = realloc(sessions->closing, capacity * sizeof *heap);
        if (heap == NULL) {
            return false;
        }
        sessions->closing = heap;
        sessions->closing_capacity = capacity;
    }
    size_t at = sessions->closing_count++;
    while (at > 0 && closes_before(&entry, &sessions->closing[(at - 1) / 2])) {
        sessions->closing[at] = sessions->closing[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    sessions->closing[at] = entry;
    return true;
}

static void closing_remove_first(struct weir_sessions *sessions) {
    struct closing last = sessions->closing[--sessions->closing_count];
    if (sessions->closing_count > 0) {
        sift_down(sessions, 0, last);
    }
}

/* The session that closes first; NULL: there is none. */
static struct weir_slot *first_closing(const struct weir_aggregate *aggregate) {
    struct weir_sessions *sessions = aggregate->sessions;
    while (sessions->closing_count > 0) {
        struct closing *top = &sessions->closing[0];
        struct weir_slot *slot = weir_table_slot(aggregate->table, top->number);
        if (slot->sequence != top->sequence || is_joined(aggregate, slot)) {
            closing_remove_first(sessions);
            continue;
        }
        int64_t end = end_of(aggregate, slot);
        if (end == top->end) {
            return slot;
        }
        sift_down(sessions, 0, (struct closing){end, top->sequence, top->number});
    }
    return NULL;
}

/* --- sessions of a group --------------------------------------------------------------------- */

static bool is_open(const struct weir_aggregate *aggregate, struct weir_slot *slot,
                    int64_t watermark) {
    return weir_time_add(end_of(aggregate, slot), aggregate->lateness) > watermark;
}

static bool reaches(const struct weir_aggregate *aggregate, struct weir_slot *slot, int64_t time) {
    struct span span = span_of(aggregate, slot);
    int64_t gap = aggregate->sessions->gap;
    return weir_time_add(time, gap) >= span.first && time <= weir_time_add(span.last, gap);
}

static int unlink_session(struct weir_aggregate *aggregate, struct weir_slot *group,
                          const struct weir_slot *slot, struct weir_error *err) {
    uint32_t *at = &group->link;
    while (*at != slot->number) {
        at = &weir_table_slot(aggregate->table, *at)->link;
    }
    *at = slot->link;
    if (group->link != 0) {
        return WEIR_OK;
    }
    int rc = weir_table_delete(aggregate->sessions->groups, group, false);
    return rc == WEIR_OK ? rc : no_memory(aggregate, err);
}

static struct weir_slot *create_session(struct weir_aggregate *aggregate, int32_t position,
                                        int64_t time, struct weir_error *err) {
    struct weir_sessions *sessions = aggregate->sessions;
    const struct weir_keys *keys = &aggregate->keys;
    uint8_t *key = keys->bytes + keys->offsets[position];
    size_t length = keys->offsets[position + 1] - keys->offsets[position];
    bool created;
    struct weir_slot *group =
        weir_table_get(sessions->groups, sessions->hashes[position], key + WINDOW_BYTES,
                       length - WINDOW_BYTES, &created, err);
    if (group == NULL) {
        return NULL;
    }
    memcpy(key, &time, WINDOW_BYTES);
    struct weir_slot *slot =
        weir_table_get(aggregate->table, weir_table_hash(aggregate->table, key, length), key,
                       length, &created, err);
    if (slot == NULL) {
        return NULL;
    }
    if (!created) {
        weir_error_set(err, WEIR_E_BUG, "%s: a session was made twice", aggregate->declaration);
        return NULL;
    }
    set_span(aggregate, slot, (struct span){time, time});
    slot->link = group->link;
    group->link = slot->number;
    struct closing entry = {weir_time_add(time, sessions->gap), slot->sequence, slot->number};
    if (!closing_add(sessions, entry)) {
        no_memory(aggregate, err);
        return NULL;
    }
    return slot;
}

static int note_both(struct weir_aggregate *aggregate, struct weir_slot *into,
                     struct weir_slot *from, int64_t time, struct weir_error *err) {
    int rc = weir_changes_note(aggregate, into, time, err);
    return rc == WEIR_OK ? weir_changes_note(aggregate, from, time, err) : rc;
}

/* Joins `from` to `into`, which was made earlier. */
static int join(struct weir_aggregate *aggregate, struct weir_slot *group, struct weir_slot *into,
                struct weir_slot *from, int64_t time, struct weir_error *err) {
    struct span a = span_of(aggregate, into);
    struct span b = span_of(aggregate, from);
    bool changing = aggregate->changes != NULL;
    int rc = weir_table_touch(aggregate->table, into);
    if (rc != WEIR_OK || (changing && weir_table_touch(aggregate->table, from) != WEIR_OK)) {
        return no_memory(aggregate, err);
    }
    rc = changing ? note_both(aggregate, into, from, time, err) : WEIR_OK;
    if (rc != WEIR_OK) {
        return rc;
    }
    rc = weir_measures_absorb(&aggregate->measures, weir_slot_value(aggregate->table, into),
                              weir_slot_value(aggregate->table, from), err);
    if (rc == WEIR_OK && aggregate->members != NULL) {
        rc = weir_members_move(aggregate, into, from, err);
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    set_span(
        aggregate, into,
        (struct span){a.first < b.first ? a.first : b.first, a.last > b.last ? a.last : b.last});
    rc = unlink_session(aggregate, group, from, err);
    if (changing) { /* it goes with its row */
        set_rows(aggregate, into, rows_of(aggregate, into) + rows_of(aggregate, from));
        set_rows(aggregate, from, 0);
        return rc;
    }
    return rc == WEIR_OK ? weir_aggregate_delete_slot(aggregate, from, err) : rc;
}

/* --- feeding --------------------------------------------------------------------------------- */

static int hash_groups(struct weir_aggregate *aggregate, int32_t count, struct weir_error *err) {
    struct weir_sessions *sessions = aggregate->sessions;
    if (count > sessions->hash_capacity) {
        uint64_t *hashes = realloc(sessions->hashes, (size_t)count * sizeof *hashes);
        if (hashes == NULL) {
            return no_memory(aggregate, err);
        }
        sessions->hashes = hashes;
        sessions->hash_capacity = count;
    }
    const struct weir_keys *keys = &aggregate->keys;
    for (int32_t i = 0; i < count; i++) {
        const uint8_t *key = keys->bytes + keys->offsets[i] + WINDOW_BYTES;
        sessions->hashes[i] = weir_table_hash(
            sessions->groups, key, keys->offsets[i + 1] - keys->offsets[i] - WINDOW_BYTES);
        weir_table_prefetch(sessions->groups, sessions->hashes[i]);
    }
    return WEIR_OK;
}

/* The earliest made session the row reaches, and whether it reaches more. */
static struct weir_slot *find_session(const struct weir_aggregate *aggregate,
                                      const struct weir_slot *group, int64_t time,
                                      int64_t watermark, bool *more) {
    struct weir_slot *found = NULL;
    *more = false;
    for (uint32_t n = group != NULL ? group->link : 0; n != 0;) {
        struct weir_slot *slot = weir_table_slot(aggregate->table, n);
        if (reaches(aggregate, slot, time) && is_open(aggregate, slot, watermark)) {
            *more = found != NULL;
            found = found == NULL || slot->sequence < found->sequence ? slot : found;
        }
        n = slot->link;
    }
    return found;
}

static int join_all(struct weir_aggregate *aggregate, struct weir_slot *group,
                    struct weir_slot *into, int64_t time, int64_t watermark,
                    struct weir_error *err) {
    for (;;) {
        /* By creation, so that what doubles add up to is a matter of the rows alone. */
        struct weir_slot *next = NULL;
        for (uint32_t n = group->link; n != 0;) {
            struct weir_slot *slot = weir_table_slot(aggregate->table, n);
            if (slot != into && (next == NULL || slot->sequence < next->sequence) &&
                reaches(aggregate, slot, time) && is_open(aggregate, slot, watermark)) {
                next = slot;
            }
            n = slot->link;
        }
        if (next == NULL) {
            return WEIR_OK;
        }
        int rc = join(aggregate, group, into, next, time, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
}

static int extend(struct weir_aggregate *aggregate, struct weir_slot *slot, int64_t time,
                  struct weir_error *err) {
    if (weir_table_touch(aggregate->table, slot) != WEIR_OK) {
        return no_memory(aggregate, err);
    }
    struct span span = span_of(aggregate, slot);
    span.first = time < span.first ? time : span.first;
    span.last = time > span.last ? time : span.last;
    set_span(aggregate, slot, span);
    return WEIR_OK;
}

/* Rows change: what the session was leaves before it takes the row. */
static int count_row(struct weir_aggregate *aggregate, struct weir_slot *slot, int64_t time,
                     struct weir_error *err) {
    if (weir_table_touch(aggregate->table, slot) != WEIR_OK) {
        return no_memory(aggregate, err);
    }
    int rc = weir_changes_note(aggregate, slot, time, err);
    set_rows(aggregate, slot, rows_of(aggregate, slot) + 1);
    return rc;
}

int weir_sessions_feed(struct weir_aggregate *aggregate, const struct weir_feed *feed,
                       int32_t *late_sel, int32_t *late_count, struct weir_error *err) {
    struct weir_sessions *sessions = aggregate->sessions;
    const struct weir_keys *keys = &aggregate->keys;
    int32_t taken = 0;
    int32_t added = 0;
    int rc = hash_groups(aggregate, feed->count, err);
    if (aggregate->changes != NULL) {
        weir_changes_begin(aggregate);
    }
    for (int32_t i = 0; i < feed->count && rc == WEIR_OK; i++) {
        if (i + GROUP_AHEAD < feed->count) {
            weir_table_prefetch_slot(sessions->groups, sessions->hashes[i + GROUP_AHEAD]);
        }
        int32_t row = feed->sel != NULL ? feed->sel[i] : i;
        int64_t time = feed->times_us[row];
        int64_t watermark = feed->watermark_before_us[row];
        const uint8_t *key = keys->bytes + keys->offsets[i] + WINDOW_BYTES;
        struct weir_slot *group =
            weir_table_find(sessions->groups, sessions->hashes[i], key,
                            keys->offsets[i + 1] - keys->offsets[i] - WINDOW_BYTES);
        bool more;
        struct weir_slot *slot = find_session(aggregate, group, time, watermark, &more);
        if (slot == NULL) {
            int64_t end = weir_time_add(time, sessions->gap);
            if (weir_time_add(end, aggregate->lateness) <= watermark) {
                late_sel[(*late_count)++] = row;
                continue;
            }
            slot = create_session(aggregate, i, time, err);
            rc = slot != NULL ? WEIR_OK : err != NULL ? err->code : WEIR_E_LIMIT;
        } else if (more) { /* what came before goes into the sessions as they were */
            rc = weir_aggregate_add(aggregate, feed, added, taken, err);
            added = taken;
            if (rc == WEIR_OK) {
                rc = join_all(aggregate, group, slot, time, watermark, err);
            }
        }
        if (rc == WEIR_OK && aggregate->changes != NULL) {
            rc = count_row(aggregate, slot, time, err);
        }
        if (rc == WEIR_OK) {
            rc = extend(aggregate, slot, time, err);
        }
        if (rc == WEIR_OK) {
            aggregate->rows[taken] = row;
            aggregate->positions[taken] = i;
            aggregate->slots[taken] = slot;
            aggregate->values[taken++] = weir_slot_value(aggregate->table, slot);
        }
    }
    return rc == WEIR_OK ? weir_aggregate_add(aggregate, feed, added, taken, err) : rc;
}

/* --- firing ---------------------------------------------------------------------------------- */

bool weir_sessions_ready(const struct weir_aggregate *aggregate, int64_t watermark_us) {
    struct weir_slot *slot = first_closing(aggregate);
    return slot != NULL && !is_open(aggregate, slot, watermark_us);
}

static int emit(struct weir_aggregate *aggregate, struct weir_slot *slot,
                struct weir_batch_builder *out, bool *full, struct weir_error *err) {
    struct weir_aggregate_row row = {
        .key = weir_slot_key(aggregate->table, slot) + WINDOW_BYTES,
        .key_bytes = slot->key_bytes - WINDOW_BYTES,
        .start_us = span_of(aggregate, slot).first,
        .end_us = end_of(aggregate, slot),
        .value = weir_slot_value(aggregate->table, slot),
    };
    return weir_aggregate_emit(aggregate, &row, out, full, err);
}

static int leave(struct weir_aggregate *aggregate, struct weir_slot *slot, struct weir_error *err) {
    struct weir_table *groups = aggregate->sessions->groups;
    const uint8_t *key = weir_slot_key(aggregate->table, slot) + WINDOW_BYTES;
    size_t length = slot->key_bytes - WINDOW_BYTES;
    struct weir_slot *group =
        weir_table_find(groups, weir_table_hash(groups, key, length), key, length);
    int rc = group != NULL ? unlink_session(aggregate, group, slot, err)
                           : weir_error_set(err, WEIR_E_BUG, "%s: a session without its group",
                                            aggregate->declaration);
    return rc == WEIR_OK ? weir_aggregate_delete_slot(aggregate, slot, err) : rc;
}

int weir_sessions_fire(struct weir_aggregate *aggregate, int64_t watermark_us,
                       struct weir_batch_builder *out, int32_t max_rows, enum weir_fired *fired,
                       struct weir_error *err) {
    int32_t work = FIRE_WORK;
    *fired = WEIR_FIRED_FULL;
    while (weir_sessions_ready(aggregate, watermark_us)) {
        if (out->rows >= max_rows || out->rows == out->rows_max) {
            return WEIR_OK;
        }
        if (work-- <= 0) {
            *fired = WEIR_FIRED_SOME;
            return WEIR_OK;
        }
        struct weir_slot *slot = first_closing(aggregate);
        bool full = false; /* rows that change have left already */
        int rc = aggregate->changes == NULL ? emit(aggregate, slot, out, &full, err) : WEIR_OK;
        if (rc != WEIR_OK || full) {
            return rc;
        }
        closing_remove_first(aggregate->sessions);
        rc = leave(aggregate, slot, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    *fired = WEIR_FIRED_ALL;
    return WEIR_OK;
}

/* --- state ------------------------------------------------------------------------------------ */

int weir_sessions_restore(struct weir_aggregate *aggregate, const struct weir_ordered_slot *slots,
                          size_t count, struct weir_error *err) {
    struct weir_sessions *sessions = aggregate->sessions;
    sessions->closing_count = 0;
    for (uint32_t n = 1; n <= weir_table_slots(sessions->groups); n++) {
        weir_table_slot(sessions->groups, n)->link = 0;
    }
    for (size_t i = 0; i < count; i++) {
        struct weir_slot *slot = weir_table_slot(aggregate->table, slots[i].number);
        if (is_joined(aggregate, slot) && aggregate->delayed != NULL) {
            continue; /* its row waits to be taken back */
        }
        if (is_joined(aggregate, slot)) {
            return weir_error_set(err, WEIR_E_CORRUPT, "%s: a session in the state has no rows",
                                  weir_table_name(aggregate->table));
        }
        const uint8_t *key = weir_slot_key(aggregate->table, slot) + WINDOW_BYTES;
        size_t length = slot->key_bytes - WINDOW_BYTES;
        struct weir_slot *group = weir_table_find(
            sessions->groups, weir_table_hash(sessions->groups, key, length), key, length);
        struct span span = span_of(aggregate, slot);
        if (group == NULL || span.last < span.first) {
            return weir_error_set(err, WEIR_E_CORRUPT, "%s: a session in the state does not parse",
                                  weir_table_name(aggregate->table));
        }
        slot->link = group->link;
        group->link = slot->number;
        struct closing entry = {end_of(aggregate, slot), slot->sequence, slot->number};
        if (!closing_add(sessions, entry)) {
            return no_memory(aggregate, err);
        }
    }
    return WEIR_OK;
}
