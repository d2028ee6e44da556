#include "operator/aggregate/changes.h"

#include <stdlib.h>
#include <string.h>

#include "batch/change.h"
#include "operator/aggregate/delayed.h"
#include "operator/aggregate/session.h"
#include "state/side.h"

enum { FIRST_CAPACITY = 256 };

struct change {
    uint32_t number;
    int64_t time; /* of the last row that changed it */
};

struct mark {
    uint32_t round;
    uint32_t at; /* in the list */
};

struct weir_changes {
    struct change *list;
    uint8_t *before; /* a value each */
    size_t count;
    size_t capacity;
    size_t left;            /* how many have left; of sessions, that go over them twice, of both */
    struct weir_side marks; /* struct mark, by number of slot */
    uint32_t round;
    struct weir_heap heap; /* texts of `before` */
};

struct weir_changes *weir_changes_create(void) {
    struct weir_changes *changes = calloc(1, sizeof *changes);
    if (changes != NULL) {
        weir_heap_init(&changes->heap);
        weir_side_init(&changes->marks, sizeof(struct mark));
    }
    return changes;
}

void weir_changes_destroy(struct weir_changes *changes) {
    if (changes != NULL) {
        weir_heap_fini(&changes->heap);
        free(changes->list);
        free(changes->before);
        weir_side_fini(&changes->marks);
        free(changes);
    }
}

size_t weir_changes_bytes(const struct weir_changes *changes) {
    return weir_side_bytes(&changes->marks);
}

void weir_changes_begin(struct weir_aggregate *aggregate) {
    struct weir_changes *changes = aggregate->changes;
    if (aggregate->delayed != NULL) {
        return;
    }
    if (aggregate->measures.has_parts) {
        for (size_t i = 0; i < changes->count; i++) {
            weir_measures_release(&aggregate->measures,
                                  changes->before + i * aggregate->measures.value_bytes,
                                  &changes->heap);
        }
    }
    changes->count = changes->left = 0;
    if (++changes->round == 0) { /* marks of 2^32 batches ago would count as this one's */
        weir_side_clear(&changes->marks);
        changes->round = 1;
    }
}

static bool make_room(struct weir_changes *changes, uint32_t number, size_t value_bytes) {
    if (!weir_side_reach(&changes->marks, number)) {
        return false;
    }
    if (changes->count < changes->capacity) {
        return true;
    }
    size_t capacity = changes->capacity == 0 ? FIRST_CAPACITY : changes->capacity * 2;
    struct change *list = realloc(changes->list, capacity * sizeof *list);
    if (list == NULL) {
        return false;
    }
    changes->list = list;
    uint8_t *before = realloc(changes->before, capacity * value_bytes);
    if (before == NULL) {
        return false;
    }
    changes->before = before;
    changes->capacity = capacity;
    return true;
}

int weir_changes_note(struct weir_aggregate *aggregate, struct weir_slot *slot, int64_t time_us,
                      struct weir_error *err) {
    struct weir_changes *changes = aggregate->changes;
    size_t value_bytes = aggregate->measures.value_bytes;
    if (aggregate->delayed != NULL) {
        return weir_delayed_note(aggregate, slot, time_us, err);
    }
    if (slot->number < changes->marks.reached) {
        const struct mark *mark = weir_side_at(&changes->marks, slot->number);
        if (mark->round == changes->round) {
            changes->list[mark->at].time = time_us;
            return WEIR_OK;
        }
    }
    int rc = make_room(changes, slot->number, value_bytes)
                 ? weir_measures_copy(&aggregate->measures,
                                      changes->before + changes->count * value_bytes,
                                      weir_slot_value(aggregate->table, slot), &changes->heap)
                 : WEIR_E_NOMEM;
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: no memory to note a change", aggregate->declaration);
    }
    *(struct mark *)weir_side_at(&changes->marks, slot->number) =
        (struct mark){changes->round, (uint32_t)changes->count};
    changes->list[changes->count++] = (struct change){slot->number, time_us};
    return WEIR_OK;
}

static int64_t rows_of(const struct weir_aggregate *aggregate, const uint8_t *value) {
    int64_t rows;
    memcpy(&rows, value + aggregate->measures.tail_offset, sizeof rows);
    return rows;
}

static int append(struct weir_aggregate *aggregate, const struct weir_slot *slot,
                  const uint8_t *value, enum weir_change kind, int64_t time_us, int64_t *times_us,
                  struct weir_batch_builder *out, struct weir_error *err) {
    struct weir_aggregate_row row = {.value = value, .change = kind};
    weir_aggregate_read_key(aggregate, slot, &row);
    int rc = weir_aggregate_append_row(aggregate, &row, out, err);
    if (rc == WEIR_OK) {
        times_us[out->rows] = time_us;
        weir_batch_builder_finish_row(out);
    }
    return rc;
}

/* Both rows, or none: undo_row cuts columns back to the rows. */
static int append_pair(struct weir_aggregate *aggregate, const struct weir_slot *slot,
                       const uint8_t *before, const uint8_t *after, int64_t time_us,
                       int64_t *times_us, struct weir_batch_builder *out, struct weir_error *err) {
    int rc = append(aggregate, slot, before, WEIR_CHANGE_BEFORE, time_us, times_us, out, err);
    if (rc == WEIR_OK) {
        rc = append(aggregate, slot, after, WEIR_CHANGE_AFTER, time_us, times_us, out, err);
        out->rows -= rc != WEIR_OK;
    }
    return rc;
}

int weir_changes_leave_session(struct weir_aggregate *aggregate, struct weir_slot *slot,
                               const uint8_t *before, bool first, int64_t time_us,
                               int64_t *times_us, struct weir_batch_builder *out,
                               struct weir_error *err) {
    const uint8_t *after = weir_slot_value(aggregate->table, slot);
    bool was = rows_of(aggregate, before) > 0;
    bool is = rows_of(aggregate, after) > 0;
    int64_t bounds[2][2];
    weir_sessions_bounds(aggregate, before, &bounds[0][0], &bounds[0][1]);
    weir_sessions_bounds(aggregate, after, &bounds[1][0], &bounds[1][1]);
    bool stays = was && is && bounds[0][0] == bounds[1][0];
    if (first) {
        return was && !stays ? append(aggregate, slot, before, WEIR_CHANGE_DELETE, time_us,
                                      times_us, out, err)
                             : WEIR_OK;
    }
    if (!is) {
        return weir_aggregate_delete_slot(aggregate, slot, err);
    }
    bool same = stays && bounds[0][1] == bounds[1][1] && !aggregate->measures.has_parts &&
                memcmp(before, after, aggregate->measures.tail_offset) == 0;
    return same ? WEIR_OK
           : stays
               ? append_pair(aggregate, slot, before, after, time_us, times_us, out, err)
               : append(aggregate, slot, after, WEIR_CHANGE_INSERT, time_us, times_us, out, err);
}

int weir_changes_leave(struct weir_aggregate *aggregate, struct weir_slot *slot,
                       const uint8_t *before, int64_t time_us, int64_t *times_us,
                       struct weir_batch_builder *out, struct weir_error *err) {
    const uint8_t *after = weir_slot_value(aggregate->table, slot);
    bool was = rows_of(aggregate, before) > 0;
    bool is = rows_of(aggregate, after) > 0;
    int rc = WEIR_OK;
    if (was && is) {
        if (!aggregate->measures.has_parts &&
            memcmp(before, after, aggregate->measures.tail_offset) == 0) {
            return WEIR_OK;
        }
        rc = append_pair(aggregate, slot, before, after, time_us, times_us, out, err);
    } else if (was || is) {
        rc = append(aggregate, slot, was ? before : after,
                    was ? WEIR_CHANGE_DELETE : WEIR_CHANGE_INSERT, time_us, times_us, out, err);
    }
    if (rc == WEIR_OK && !is && aggregate->unwindowed) { /* else it goes with its window */
        rc = weir_aggregate_delete_slot(aggregate, slot, err);
    }
    return rc;
}

int weir_aggregate_changes(struct weir_aggregate *aggregate, struct weir_batch_builder *out,
                           int32_t max_rows, int64_t *times_us, bool *done,
                           struct weir_error *err) {
    struct weir_changes *changes = aggregate->changes;
    if (aggregate->delayed != NULL) {
        return weir_delayed_leave(aggregate, out, max_rows, times_us, done, err);
    }
    *done = false;
    bool twice = aggregate->sessions != NULL;
    while (changes != NULL && changes->left < (twice ? 2 : 1) * changes->count) {
        if (out->rows >= max_rows || out->rows + 2 > out->rows_max) {
            return WEIR_OK;
        }
        const struct change *change = &changes->list[changes->left % changes->count];
        const uint8_t *before =
            changes->before + changes->left % changes->count * aggregate->measures.value_bytes;
        struct weir_slot *slot = weir_table_slot(aggregate->table, change->number);
        bool first = changes->left < changes->count;
        int rc =
            twice ? weir_changes_leave_session(aggregate, slot, before, first, change->time,
                                               times_us, out, err)
                  : weir_changes_leave(aggregate, slot, before, change->time, times_us, out, err);
        if (rc != WEIR_OK) {
            bool full;
            rc = weir_aggregate_row_failed(aggregate, rc, out, &full, err);
            return full ? WEIR_OK : rc;
        }
        changes->left++;
    }
    *done = true;
    return WEIR_OK;
}
