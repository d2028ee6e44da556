#include "operator/aggregate/session.h"

#include <stdlib.h>
#include <string.h>

#include "operator/aggregate/changes.h"
#include "operator/aggregate/members.h"
#include "operator/aggregate/session_private.h"

enum { CLOSING_FIRST = 256, GROUP_AHEAD = 12, FIRE_WORK = 2048 /* sessions a call */ };

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
    sessions->moments = config->retracts ? weir_moments_create(aggregate, config, err) : NULL;
    if (config->retracts && sessions->moments == NULL) {
        weir_sessions_destroy(sessions);
        return NULL;
    }
    return sessions;
}

void weir_sessions_destroy(struct weir_sessions *sessions) {
    if (sessions != NULL) {
        weir_moments_destroy(sessions->moments);
        weir_table_destroy(sessions->groups);
        free(sessions->closing);
        free(sessions->hashes);
        free(sessions);
    }
}

size_t weir_sessions_bytes(const struct weir_sessions *sessions) {
    return weir_table_bytes(sessions->groups) + weir_moments_bytes(sessions->moments) +
           sessions->closing_capacity * sizeof *sessions->closing;
}

struct weir_cell *weir_sessions_cell(struct weir_sessions *sessions) {
    return weir_table_cell(sessions->groups);
}

struct weir_cell *weir_sessions_moments(struct weir_sessions *sessions) {
    return sessions->moments != NULL ? weir_moments_cell(sessions->moments) : NULL;
}

static uint32_t span_offset(const struct weir_aggregate *aggregate) {
    return aggregate->measures.value_bytes - (uint32_t)sizeof(struct span);
}

struct span weir_session_span(const struct weir_aggregate *aggregate, struct weir_slot *slot) {
    struct span span;
    memcpy(&span, (uint8_t *)weir_slot_value(aggregate->table, slot) + span_offset(aggregate),
           sizeof span);
    return span;
}

void weir_session_set_span(const struct weir_aggregate *aggregate, struct weir_slot *slot,
                           struct span span) {
    memcpy((uint8_t *)weir_slot_value(aggregate->table, slot) + span_offset(aggregate), &span,
           sizeof span);
}

/* Where rows change: of a session that was joined to another, and waits for its row to be taken
 * back, none are left. */
int64_t weir_session_rows(const struct weir_aggregate *aggregate, struct weir_slot *slot) {
    int64_t rows;
    memcpy(&rows,
           (uint8_t *)weir_slot_value(aggregate->table, slot) + aggregate->measures.tail_offset,
           sizeof rows);
    return rows;
}

void weir_session_set_rows(const struct weir_aggregate *aggregate, struct weir_slot *slot,
                           int64_t rows) {
    memcpy((uint8_t *)weir_slot_value(aggregate->table, slot) + aggregate->measures.tail_offset,
           &rows, sizeof rows);
}

static bool is_joined(const struct weir_aggregate *aggregate, struct weir_slot *slot) {
    return aggregate->changes != NULL && weir_session_rows(aggregate, slot) == 0;
}

void weir_sessions_bounds(const struct weir_aggregate *aggregate, const uint8_t *value,
                          int64_t *start_us, int64_t *end_us) {
    struct span span;
    memcpy(&span, value + span_offset(aggregate), sizeof span);
    *start_us = span.first;
    *end_us = weir_time_add(span.last, aggregate->sessions->gap);
}

static int64_t end_of(const struct weir_aggregate *aggregate, struct weir_slot *slot) {
    return weir_time_add(weir_session_span(aggregate, slot).last, aggregate->sessions->gap);
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

bool weir_session_closes(struct weir_sessions *sessions, struct closing entry) {
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
        if (end < top->end) { /* it stands here again, with its new end */
            closing_remove_first(sessions);
            continue;
        }
        sift_down(sessions, 0, (struct closing){end, top->sequence, top->number});
    }
    return NULL;
}

/* --- sessions of a group --------------------------------------------------------------------- */

bool weir_session_is_open(const struct weir_aggregate *aggregate, struct weir_slot *slot,
                          int64_t watermark) {
    return weir_time_add(end_of(aggregate, slot), aggregate->lateness) > watermark;
}

static bool reaches(const struct weir_aggregate *aggregate, struct weir_slot *slot, int64_t time) {
    struct span span = weir_session_span(aggregate, slot);
    int64_t gap = aggregate->sessions->gap;
    return weir_time_add(time, gap) >= span.first && time <= weir_time_add(span.last, gap);
}

int weir_session_unlink(struct weir_aggregate *aggregate, struct weir_slot *group,
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

struct weir_slot *weir_session_create(struct weir_aggregate *aggregate, int32_t position,
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
    struct weir_slot *slot = NULL;
    int64_t id = time; /* of sessions that fell in two another may have it */
    for (created = false; !created && (slot == NULL || sessions->moments != NULL); id++) {
        memcpy(key, &id, WINDOW_BYTES);
        slot = weir_table_get(aggregate->table, weir_table_hash(aggregate->table, key, length), key,
                              length, &created, err);
        if (slot == NULL) {
            return NULL;
        }
    }
    if (!created) {
        weir_error_set(err, WEIR_E_BUG, "%s: a session was made twice", aggregate->declaration);
        return NULL;
    }
    weir_session_set_span(aggregate, slot, (struct span){time, time});
    slot->link = group->link;
    group->link = slot->number;
    struct closing entry = {weir_time_add(time, sessions->gap), slot->sequence, slot->number};
    if (!weir_session_closes(sessions, entry)) {
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
    struct span a = weir_session_span(aggregate, into);
    struct span b = weir_session_span(aggregate, from);
    bool changing = aggregate->changes != NULL;
    int rc = weir_table_touch(aggregate->table, into);
    if (rc != WEIR_OK || (changing && weir_table_touch(aggregate->table, from) != WEIR_OK)) {
        return no_memory(aggregate, err);
    }
    rc = changing ? note_both(aggregate, into, from, time, err) : WEIR_OK;
    if (rc != WEIR_OK) {
        return rc;
    }
    bool moments = aggregate->sessions->moments != NULL;
    rc = moments
             ? weir_moments_join(aggregate, into, from, err)
             : weir_measures_absorb(&aggregate->measures, weir_slot_value(aggregate->table, into),
                                    weir_slot_value(aggregate->table, from), err);
    if (rc == WEIR_OK && aggregate->members != NULL) {
        rc = weir_members_move(aggregate, into, from, err);
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    weir_session_set_span(
        aggregate, into,
        (struct span){a.first < b.first ? a.first : b.first, a.last > b.last ? a.last : b.last});
    rc = weir_session_unlink(aggregate, group, from, err);
    if (changing || moments) {
        weir_session_set_rows(aggregate, into,
                              weir_session_rows(aggregate, into) +
                                  weir_session_rows(aggregate, from));
    }
    if (changing) { /* it goes with its row */
        weir_session_set_rows(aggregate, from, 0);
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
struct weir_slot *weir_session_find(const struct weir_aggregate *aggregate,
                                    const struct weir_slot *group, int64_t time, int64_t watermark,
                                    bool *more) {
    struct weir_slot *found = NULL;
    *more = false;
    for (uint32_t n = group != NULL ? group->link : 0; n != 0;) {
        struct weir_slot *slot = weir_table_slot(aggregate->table, n);
        if (reaches(aggregate, slot, time) && weir_session_is_open(aggregate, slot, watermark)) {
            *more = found != NULL;
            found = found == NULL || slot->sequence < found->sequence ? slot : found;
        }
        n = slot->link;
    }
    return found;
}

int weir_session_join(struct weir_aggregate *aggregate, struct weir_slot *group,
                      struct weir_slot *into, int64_t time, int64_t watermark,
                      struct weir_error *err) {
    for (;;) {
        /* By creation, so that what doubles add up to is a matter of the rows alone. */
        struct weir_slot *next = NULL;
        for (uint32_t n = group->link; n != 0;) {
            struct weir_slot *slot = weir_table_slot(aggregate->table, n);
            if (slot != into && (next == NULL || slot->sequence < next->sequence) &&
                reaches(aggregate, slot, time) &&
                weir_session_is_open(aggregate, slot, watermark)) {
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

int weir_session_extend(struct weir_aggregate *aggregate, struct weir_slot *slot, int64_t time,
                        struct weir_error *err) {
    if (weir_table_touch(aggregate->table, slot) != WEIR_OK) {
        return no_memory(aggregate, err);
    }
    struct span span = weir_session_span(aggregate, slot);
    span.first = time < span.first ? time : span.first;
    span.last = time > span.last ? time : span.last;
    weir_session_set_span(aggregate, slot, span);
    return WEIR_OK;
}

int weir_session_count(struct weir_aggregate *aggregate, struct weir_slot *slot, int64_t time,
                       int64_t by, struct weir_error *err) {
    if (weir_table_touch(aggregate->table, slot) != WEIR_OK) {
        return no_memory(aggregate, err);
    }
    int rc = aggregate->changes != NULL ? weir_changes_note(aggregate, slot, time, err) : WEIR_OK;
    weir_session_set_rows(aggregate, slot, weir_session_rows(aggregate, slot) + by);
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
    if (rc == WEIR_OK && sessions->moments != NULL) {
        return weir_moments_feed(aggregate, feed, late_sel, late_count, err);
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
        struct weir_slot *slot = weir_session_find(aggregate, group, time, watermark, &more);
        if (slot == NULL) {
            int64_t end = weir_time_add(time, sessions->gap);
            if (weir_time_add(end, aggregate->lateness) <= watermark) {
                late_sel[(*late_count)++] = row;
                continue;
            }
            slot = weir_session_create(aggregate, i, time, err);
            rc = slot != NULL ? WEIR_OK : err != NULL ? err->code : WEIR_E_LIMIT;
        } else if (more) { /* what came before goes into the sessions as they were */
            rc = weir_aggregate_add(aggregate, feed, added, taken, err);
            added = taken;
            if (rc == WEIR_OK) {
                rc = weir_session_join(aggregate, group, slot, time, watermark, err);
            }
        }
        if (rc == WEIR_OK && aggregate->changes != NULL) {
            rc = weir_session_count(aggregate, slot, time, 1, err);
        }
        if (rc == WEIR_OK) {
            rc = weir_session_extend(aggregate, slot, time, err);
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
    return slot != NULL && !weir_session_is_open(aggregate, slot, watermark_us);
}

static int emit(struct weir_aggregate *aggregate, struct weir_slot *slot,
                struct weir_batch_builder *out, bool *full, struct weir_error *err) {
    struct weir_aggregate_row row = {
        .key = weir_slot_key(aggregate->table, slot) + WINDOW_BYTES,
        .key_bytes = slot->key_bytes - WINDOW_BYTES,
        .start_us = weir_session_span(aggregate, slot).first,
        .end_us = end_of(aggregate, slot),
        .value = weir_slot_value(aggregate->table, slot),
    };
    return weir_aggregate_emit(aggregate, &row, out, full, err);
}

static int leave(struct weir_aggregate *aggregate, struct weir_slot *slot, int32_t *work,
                 struct weir_error *err) {
    struct weir_table *groups = aggregate->sessions->groups;
    const uint8_t *key = weir_slot_key(aggregate->table, slot) + WINDOW_BYTES;
    size_t length = slot->key_bytes - WINDOW_BYTES;
    struct weir_slot *group =
        weir_table_find(groups, weir_table_hash(groups, key, length), key, length);
    int rc = group != NULL ? weir_session_unlink(aggregate, group, slot, err)
                           : weir_error_set(err, WEIR_E_BUG, "%s: a session without its group",
                                            aggregate->declaration);
    if (rc == WEIR_OK && aggregate->sessions->moments != NULL) {
        rc = weir_moments_forget(aggregate, slot, work, err);
    }
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
        rc = leave(aggregate, slot, &work, err);
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
        struct span span = weir_session_span(aggregate, slot);
        if (group == NULL || span.last < span.first) {
            return weir_error_set(err, WEIR_E_CORRUPT, "%s: a session in the state does not parse",
                                  weir_table_name(aggregate->table));
        }
        slot->link = group->link;
        group->link = slot->number;
        struct closing entry = {end_of(aggregate, slot), slot->sequence, slot->number};
        if (!weir_session_closes(sessions, entry)) {
            return no_memory(aggregate, err);
        }
    }
    return sessions->moments != NULL ? weir_moments_restore(aggregate, err) : WEIR_OK;
}
