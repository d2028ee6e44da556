#include <stdlib.h>
#include <string.h>

#include "operator/aggregate/changes.h"
#include "operator/aggregate/session_private.h"

enum { FIRST_ROOM = 64 };

struct list {       /* beside a session's slot */
    uint32_t head;  /* a moment; linked through weir_slot.link */
    uint32_t round; /* it is among those to be put together */
};

struct noted {
    uint32_t number;
    uint64_t sequence;
};

struct notes {
    struct noted *list;
    size_t count;
    size_t capacity;
};

struct weir_moments {
    struct weir_table *table;
    struct weir_side lists;
    struct notes dirty;   /* sessions to be put together again */
    struct notes emptied; /* moments no row was left of */
    uint32_t round;
};

static int no_memory(const struct weir_aggregate *aggregate, struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for its sessions",
                          aggregate->declaration);
}

struct weir_moments *weir_moments_create(struct weir_aggregate *aggregate,
                                         const struct weir_aggregate_config *config,
                                         struct weir_error *err) {
    struct weir_moments *moments = calloc(1, sizeof *moments);
    if (moments == NULL) {
        no_memory(aggregate, err);
        return NULL;
    }
    weir_side_init(&moments->lists, sizeof(struct list));
    struct weir_table_config table = {
        .declaration = config->declaration,
        .cell = "moment",
        .shape = aggregate->shape,
        .value_bytes = aggregate->measures.value_bytes,
        .key_inline_bytes = 24,
        .max_bytes = config->max_bytes,
        .option = config->option,
    };
    moments->table = aggregate->measures.has_parts || aggregate->measures.has_members
                         ? NULL
                         : weir_table_create(&table, err);
    if (moments->table == NULL) {
        if (aggregate->measures.has_parts || aggregate->measures.has_members) {
            weir_error_set(err, WEIR_E_CONFIG,
                           "sessions of rows that change count, sum and average");
        }
        weir_moments_destroy(moments);
        return NULL;
    }
    return moments;
}

void weir_moments_destroy(struct weir_moments *moments) {
    if (moments != NULL) {
        weir_table_destroy(moments->table);
        weir_side_fini(&moments->lists);
        free(moments->dirty.list);
        free(moments->emptied.list);
        free(moments);
    }
}

size_t weir_moments_bytes(const struct weir_moments *moments) {
    return moments != NULL ? weir_table_bytes(moments->table) + weir_side_bytes(&moments->lists)
                           : 0;
}

struct weir_cell *weir_moments_cell(struct weir_moments *moments) {
    return weir_table_cell(moments->table);
}

/* --- lists -------------------------------------------------------------------------------------
 */

static struct weir_slot *moment_at(const struct weir_moments *moments, uint32_t number) {
    return weir_table_slot(moments->table, number);
}

static int64_t time_of(const struct weir_moments *moments, const struct weir_slot *moment) {
    int64_t time;
    memcpy(&time, weir_slot_key(moments->table, moment), sizeof time);
    return time;
}

static int64_t rows_at(const struct weir_aggregate *aggregate, struct weir_slot *moment) {
    int64_t rows;
    const uint8_t *value = weir_slot_value(aggregate->sessions->moments->table, moment);
    memcpy(&rows, value + aggregate->measures.tail_offset, sizeof rows);
    return rows;
}

/* Behind the measures: rows, and the span of a session, as people are shown it. */
static void set_rows_at(const struct weir_aggregate *aggregate, struct weir_slot *moment,
                        int64_t time, int64_t rows) {
    int64_t tail[3] = {rows, time, time};
    uint8_t *value = weir_slot_value(aggregate->sessions->moments->table, moment);
    memcpy(value + aggregate->measures.tail_offset, tail, sizeof tail);
}

static struct list *list_of(const struct weir_moments *moments, const struct weir_slot *session) {
    return weir_side_at(&moments->lists, session->number);
}

static bool note_down(struct notes *notes, const struct weir_slot *slot) {
    if (notes->count == notes->capacity) {
        size_t capacity = notes->capacity == 0 ? FIRST_ROOM : notes->capacity * 2;
        struct noted *list = realloc(notes->list, capacity * sizeof *list);
        if (list == NULL) {
            return false;
        }
        notes->list = list;
        notes->capacity = capacity;
    }
    notes->list[notes->count++] = (struct noted){slot->number, slot->sequence};
    return true;
}

static int mark(struct weir_aggregate *aggregate, struct weir_slot *session,
                struct weir_error *err) {
    struct weir_moments *moments = aggregate->sessions->moments;
    struct list *list = list_of(moments, session);
    if (list->round == moments->round) {
        return WEIR_OK;
    }
    list->round = moments->round;
    return note_down(&moments->dirty, session) ? WEIR_OK : no_memory(aggregate, err);
}

static void push(struct weir_moments *moments, struct weir_slot *session,
                 struct weir_slot *moment) {
    struct list *list = list_of(moments, session);
    moment->link = list->head;
    list->head = moment->number;
}

static void take_off(struct weir_moments *moments, struct weir_slot *session,
                     const struct weir_slot *moment) {
    uint32_t *at = &list_of(moments, session)->head;
    while (*at != moment->number) {
        at = &moment_at(moments, *at)->link;
    }
    *at = moment->link;
}

int weir_moments_join(struct weir_aggregate *aggregate, struct weir_slot *into,
                      struct weir_slot *from, struct weir_error *err) {
    struct weir_moments *moments = aggregate->sessions->moments;
    uint32_t *at = &list_of(moments, into)->head;
    while (*at != 0) {
        at = &moment_at(moments, *at)->link;
    }
    *at = list_of(moments, from)->head;
    list_of(moments, from)->head = 0;
    return mark(aggregate, into, err);
}

int weir_moments_forget(struct weir_aggregate *aggregate, struct weir_slot *session, int32_t *work,
                        struct weir_error *err) {
    struct weir_moments *moments = aggregate->sessions->moments;
    struct list *list = list_of(moments, session);
    while (list->head != 0) {
        struct weir_slot *moment = moment_at(moments, list->head);
        list->head = moment->link;
        if (weir_table_delete(moments->table, moment, false) != WEIR_OK) {
            return no_memory(aggregate, err);
        }
        (*work)--;
    }
    return WEIR_OK;
}

/* --- rows that come ----------------------------------------------------------------------------
 */

static bool is_late(const struct weir_aggregate *aggregate, int64_t time, int64_t watermark) {
    int64_t end = weir_time_add(time, aggregate->sessions->gap);
    return weir_time_add(end, aggregate->lateness) <= watermark;
}

static struct weir_slot *create(struct weir_aggregate *aggregate, int32_t position, int64_t time,
                                struct weir_error *err) {
    struct weir_moments *moments = aggregate->sessions->moments;
    struct weir_slot *session = weir_session_create(aggregate, position, time, err);
    if (session != NULL && !weir_side_reach(&moments->lists, session->number)) {
        no_memory(aggregate, err);
        return NULL;
    }
    if (session != NULL) {
        *list_of(moments, session) = (struct list){0};
    }
    return session;
}

struct coming { /* a row */
    int32_t position;
    int64_t time;
    int64_t watermark;
    uint8_t *key; /* room for a time, then the group */
    size_t key_bytes;
    struct weir_slot *group; /* NULL: it has no sessions */
    struct weir_slot *moment;
    bool late;
};

static int find_moment(struct weir_aggregate *aggregate, struct coming *row, bool make,
                       struct weir_error *err) {
    struct weir_table *table = aggregate->sessions->moments->table;
    memcpy(row->key, &row->time, sizeof row->time);
    uint64_t hash = weir_table_hash(table, row->key, row->key_bytes);
    bool created;
    row->moment = make ? weir_table_get(table, hash, row->key, row->key_bytes, &created, err)
                       : weir_table_find(table, hash, row->key, row->key_bytes);
    if (row->moment == NULL) {
        return !make ? WEIR_OK : err != NULL ? err->code : WEIR_E_LIMIT;
    }
    return weir_table_touch(table, row->moment) == WEIR_OK ? WEIR_OK : no_memory(aggregate, err);
}

static int add_row(struct weir_aggregate *aggregate, struct coming *row, struct weir_error *err) {
    bool more = false;
    struct weir_slot *session =
        weir_session_find(aggregate, row->group, row->time, row->watermark, &more);
    int rc = WEIR_OK;
    if (session == NULL && is_late(aggregate, row->time, row->watermark)) {
        row->late = true;
        return WEIR_OK;
    }
    if (session == NULL) {
        session = create(aggregate, row->position, row->time, err);
        rc = session != NULL ? WEIR_OK : err != NULL ? err->code : WEIR_E_LIMIT;
    } else if (more) {
        rc = weir_session_join(aggregate, row->group, session, row->time, row->watermark, err);
    }
    rc = rc == WEIR_OK ? weir_session_count(aggregate, session, row->time, 1, err) : rc;
    rc = rc == WEIR_OK ? weir_session_extend(aggregate, session, row->time, err) : rc;
    rc = rc == WEIR_OK ? mark(aggregate, session, err) : rc;
    rc = rc == WEIR_OK ? find_moment(aggregate, row, true, err) : rc;
    if (rc == WEIR_OK) {
        int64_t rows = rows_at(aggregate, row->moment);
        if (rows == 0) {
            push(aggregate->sessions->moments, session, row->moment);
        }
        set_rows_at(aggregate, row->moment, row->time, rows + 1);
    }
    return rc;
}

/* --- rows that go ------------------------------------------------------------------------------
 */

/* The session of the group that a moment is of. */
static struct weir_slot *session_of(const struct weir_aggregate *aggregate,
                                    const struct weir_slot *group, int64_t time) {
    for (uint32_t n = group != NULL ? group->link : 0; n != 0;) {
        struct weir_slot *slot = weir_table_slot(aggregate->table, n);
        struct span span = weir_session_span(aggregate, slot);
        if (span.first <= time && time <= span.last) {
            return slot;
        }
        n = slot->link;
    }
    return NULL;
}

/* What lies behind `time` is a session of its own. */
static int fall_in_two(struct weir_aggregate *aggregate, struct weir_slot *session,
                       const struct coming *row, int64_t last, int64_t next,
                       struct weir_error *err) {
    struct weir_moments *moments = aggregate->sessions->moments;
    struct span span = weir_session_span(aggregate, session);
    struct weir_slot *other = create(aggregate, row->position, next, err);
    if (other == NULL) {
        return err != NULL ? err->code : WEIR_E_LIMIT;
    }
    int64_t moved = 0;
    uint32_t *at = &list_of(moments, session)->head;
    while (*at != 0) {
        struct weir_slot *moment = moment_at(moments, *at);
        if (time_of(moments, moment) < next) {
            at = &moment->link;
            continue;
        }
        *at = moment->link;
        push(moments, other, moment);
        moved += rows_at(aggregate, moment);
    }
    int rc = weir_session_count(aggregate, other, row->time, moved, err);
    rc = rc == WEIR_OK ? mark(aggregate, other, err) : rc;
    weir_session_set_span(aggregate, other, (struct span){next, span.last});
    weir_session_set_span(aggregate, session, (struct span){span.first, last});
    weir_session_set_rows(aggregate, session, weir_session_rows(aggregate, session) - moved);
    return rc;
}

/* The session has lost its moment at row->time. */
static int shrink(struct weir_aggregate *aggregate, struct weir_slot *session,
                  const struct coming *row, struct weir_error *err) {
    struct weir_sessions *sessions = aggregate->sessions;
    struct span span = weir_session_span(aggregate, session);
    int64_t last = INT64_MIN; /* before it */
    int64_t next = INT64_MAX;
    uint32_t n = list_of(sessions->moments, session)->head;
    if (n == 0) {
        int rc = weir_session_unlink(aggregate, row->group, session, err);
        return rc == WEIR_OK && aggregate->changes == NULL
                   ? weir_aggregate_delete_slot(aggregate, session, err)
                   : rc; /* else it goes with its row */
    }
    for (; n != 0; n = moment_at(sessions->moments, n)->link) {
        int64_t time = time_of(sessions->moments, moment_at(sessions->moments, n));
        last = time < row->time && time > last ? time : last;
        next = time > row->time && time < next ? time : next;
    }
    int rc = WEIR_OK;
    if (row->time == span.first) {
        weir_session_set_span(aggregate, session, (struct span){next, span.last});
    } else if (row->time == span.last) {
        weir_session_set_span(aggregate, session, (struct span){span.first, last});
    } else if (weir_time_add(last, sessions->gap) < next) {
        rc = fall_in_two(aggregate, session, row, last, next, err);
    }
    struct closing entry = {
        weir_time_add(weir_session_span(aggregate, session).last, sessions->gap), session->sequence,
        session->number};
    bool nearer = weir_session_span(aggregate, session).last < span.last;
    return rc == WEIR_OK && nearer && !weir_session_closes(sessions, entry)
               ? no_memory(aggregate, err)
               : rc;
}

static int take_row(struct weir_aggregate *aggregate, struct coming *row, struct weir_error *err) {
    struct weir_moments *moments = aggregate->sessions->moments;
    int rc = find_moment(aggregate, row, false, err);
    struct weir_slot *session = session_of(aggregate, row->group, row->time);
    bool there = rc == WEIR_OK && row->moment != NULL && session != NULL &&
                 rows_at(aggregate, row->moment) > 0;
    if (!there || !weir_session_is_open(aggregate, session, row->watermark)) {
        /* It is over; or the row was never let through, and takes nothing back. */
        row->late = there || is_late(aggregate, row->time, row->watermark);
        row->moment = NULL;
        return rc;
    }
    int64_t rows = rows_at(aggregate, row->moment) - 1;
    rc = weir_session_count(aggregate, session, row->time, -1, err);
    rc = rc == WEIR_OK ? mark(aggregate, session, err) : rc;
    set_rows_at(aggregate, row->moment, row->time, rows);
    if (rc != WEIR_OK || rows > 0) {
        return rc;
    }
    take_off(moments, session, row->moment);
    if (!note_down(&moments->emptied, row->moment)) {
        return no_memory(aggregate, err);
    }
    return shrink(aggregate, session, row, err);
}

/* --- feeding -----------------------------------------------------------------------------------
 */

static int put_together(struct weir_aggregate *aggregate, const struct noted *noted,
                        struct weir_error *err) {
    struct weir_moments *moments = aggregate->sessions->moments;
    struct weir_slot *session = weir_table_slot(aggregate->table, noted->number);
    if (session->sequence != noted->sequence || weir_session_rows(aggregate, session) == 0) {
        return WEIR_OK;
    }
    if (weir_table_touch(aggregate->table, session) != WEIR_OK) {
        return no_memory(aggregate, err);
    }
    uint8_t *value = weir_slot_value(aggregate->table, session);
    memset(value, 0, aggregate->measures.tail_offset);
    int rc = WEIR_OK;
    for (uint32_t n = list_of(moments, session)->head; n != 0 && rc == WEIR_OK;) {
        struct weir_slot *moment = moment_at(moments, n);
        rc = weir_measures_absorb(&aggregate->measures, value,
                                  weir_slot_value(moments->table, moment), err);
        n = moment->link;
    }
    return rc;
}

static int settle(struct weir_aggregate *aggregate, struct weir_error *err) {
    struct weir_moments *moments = aggregate->sessions->moments;
    int rc = WEIR_OK;
    for (size_t i = 0; i < moments->emptied.count && rc == WEIR_OK; i++) {
        struct weir_slot *moment = moment_at(moments, moments->emptied.list[i].number);
        if (moment->sequence == moments->emptied.list[i].sequence &&
            rows_at(aggregate, moment) == 0) {
            rc = weir_table_delete(moments->table, moment, false) == WEIR_OK
                     ? WEIR_OK
                     : no_memory(aggregate, err);
        }
    }
    for (size_t i = 0; i < moments->dirty.count && rc == WEIR_OK; i++) {
        rc = put_together(aggregate, &moments->dirty.list[i], err);
    }
    return rc;
}

int weir_moments_feed(struct weir_aggregate *aggregate, const struct weir_feed *feed,
                      int32_t *late_sel, int32_t *late_count, struct weir_error *err) {
    struct weir_sessions *sessions = aggregate->sessions;
    struct weir_moments *moments = sessions->moments;
    const struct weir_keys *keys = &aggregate->keys;
    int32_t taken = 0;
    int rc = WEIR_OK;
    moments->dirty.count = moments->emptied.count = 0;
    if (++moments->round == 0) { /* marks of 2^32 batches ago would count as this one's */
        moments->round = 1;
    }
    for (int32_t i = 0; i < feed->count && rc == WEIR_OK; i++) {
        int32_t at = feed->sel != NULL ? feed->sel[i] : i;
        struct coming row = {
            .position = i,
            .time = feed->times_us[at],
            .watermark = feed->watermark_before_us[at],
            .key = keys->bytes + keys->offsets[i],
            .key_bytes = keys->offsets[i + 1] - keys->offsets[i],
        };
        row.group = weir_table_find(sessions->groups, sessions->hashes[i], row.key + WINDOW_BYTES,
                                    row.key_bytes - WINDOW_BYTES);
        bool back = feed->signs != NULL && feed->signs[at] < 0;
        rc = (back ? take_row : add_row)(aggregate, &row, err);
        if (row.late) {
            late_sel[(*late_count)++] = at;
        }
        if (rc == WEIR_OK && row.moment != NULL) {
            aggregate->rows[taken] = at;
            aggregate->positions[taken] = i;
            aggregate->slots[taken] = row.moment;
            aggregate->values[taken++] = weir_slot_value(moments->table, row.moment);
        }
    }
    rc = rc == WEIR_OK ? weir_aggregate_add(aggregate, feed, 0, taken, err) : rc;
    return rc == WEIR_OK ? settle(aggregate, err) : rc;
}

/* --- state -------------------------------------------------------------------------------------
 */

int weir_moments_restore(struct weir_aggregate *aggregate, struct weir_error *err) {
    struct weir_sessions *sessions = aggregate->sessions;
    struct weir_moments *moments = sessions->moments;
    weir_side_clear(&moments->lists);
    if (!weir_side_reach(&moments->lists, weir_table_slots(aggregate->table))) {
        return no_memory(aggregate, err);
    }
    for (uint32_t n = 1; n <= weir_table_slots(moments->table); n++) {
        struct weir_slot *moment = moment_at(moments, n);
        if (moment->sequence == 0) {
            continue;
        }
        const uint8_t *key = weir_slot_key(moments->table, moment) + WINDOW_BYTES;
        size_t length = moment->key_bytes < WINDOW_BYTES ? 0 : moment->key_bytes - WINDOW_BYTES;
        struct weir_slot *group = weir_table_find(
            sessions->groups, weir_table_hash(sessions->groups, key, length), key, length);
        struct weir_slot *session = moment->key_bytes < WINDOW_BYTES
                                        ? NULL
                                        : session_of(aggregate, group, time_of(moments, moment));
        if (session == NULL) {
            return weir_error_set(err, WEIR_E_CORRUPT, "%s: a moment in the state has no session",
                                  weir_table_name(moments->table));
        }
        push(moments, session, moment);
    }
    return WEIR_OK;
}
