/* What leaves of a top: changes of the groups a batch touched, the rows of windows that are over.
 */
#include "batch/change.h"
#include "operator/top/ranks.h"
#include "operator/top/top_private.h"

enum { FIRE_WORK = 2048 /* groups, and rows forgotten, a call */ };

static int64_t time_of(const struct weir_top *top, const uint8_t *rows, uint32_t at) {
    struct entry entry = entry_at(rows, at);
    uint64_t word;
    memcpy(&word, rows + at + sizeof entry + entry.order - SUFFIX_BYTES, sizeof word);
    word = top->config.ties == WEIR_TOP_LAST ? ~word : word;
    return (int64_t)(__builtin_bswap64(word) ^ (UINT64_C(1) << 63));
}

int weir_top_append(struct weir_top *top, const struct leaving *row, struct weir_batch_builder *out,
                    int64_t *times_us, struct weir_error *err) {
    struct weir_column_builder *column = out->columns + top->config.column_count;
    int rc = weir_key_decode(top->row_key, row->columns, row->bytes, out->columns);
    if (rc == WEIR_OK && top->bounded) {
        rc = weir_builder_int(column++, row->bounds[1]);
        if (rc == WEIR_OK) {
            rc = weir_builder_int(column++, row->bounds[0]);
        }
    }
    if (rc == WEIR_OK && top->config.rank != NULL) {
        rc = weir_builder_int(column++, row->rank + 1);
    }
    if (rc == WEIR_OK && top->changes) {
        rc = weir_builder_int(column, row->change);
    }
    if (rc != WEIR_OK) {
        weir_batch_builder_undo_row(out);
        return weir_error_set(err, rc, "%s: no room for one row of output", top->declaration);
    }
    if (times_us != NULL) {
        times_us[out->rows] = row->time_us;
    }
    weir_batch_builder_finish_row(out);
    return WEIR_OK;
}

static bool is_over(const struct place *place) {
    return place->at >= place->bytes;
}

static int leave(struct weir_top *top, const struct place *place, int change,
                 struct weir_batch_builder *out, int64_t *times_us, struct weir_error *err) {
    struct entry entry = entry_at(place->rows, place->at);
    uint32_t head = (uint32_t)sizeof entry + entry.order;
    struct leaving row = {
        .columns = place->rows + place->at + head,
        .bytes = entry.bytes - head,
        .rank = place->rank,
        .bounds = place->bounds,
        .change = change,
        .time_us = times_us != NULL ? time_of(top, place->rows, place->at) : 0,
    };
    return weir_top_append(top, &row, out, times_us, err);
}

/* By rank: what stands at each place now and what stood there. */
static int leave_ranked(struct weir_top *top, struct place was, struct place is,
                        struct weir_batch_builder *out, int64_t *times_us, struct weir_error *err) {
    int rc = WEIR_OK;
    while (rc == WEIR_OK && (!is_over(&was) || !is_over(&is))) {
        if (is_over(&was)) {
            rc = leave(top, &is, WEIR_CHANGE_INSERT, out, times_us, err);
        } else if (is_over(&is)) {
            rc = leave(top, &was, WEIR_CHANGE_DELETE, out, times_us, err);
        } else {
            struct entry a = entry_at(was.rows, was.at);
            struct entry b = entry_at(is.rows, is.at);
            if (was.rank != is.rank || a.bytes != b.bytes ||
                memcmp(was.rows + was.at, is.rows + is.at, a.bytes) != 0) {
                rc = leave(top, &was, WEIR_CHANGE_BEFORE, out, times_us, err);
                if (rc == WEIR_OK) {
                    rc = leave(top, &is, WEIR_CHANGE_AFTER, out, times_us, err);
                }
            }
        }
        if (!is_over(&was)) {
            weir_top_move_on(top, &was);
        }
        if (!is_over(&is)) {
            weir_top_move_on(top, &is);
        }
    }
    return rc;
}

/* As sets: both are in order, and no two rows have one arrival. */
static int leave_unranked(struct weir_top *top, struct place was, struct place is,
                          struct weir_batch_builder *out, int64_t *times_us,
                          struct weir_error *err) {
    int rc = WEIR_OK;
    while (rc == WEIR_OK && (!is_over(&was) || !is_over(&is))) {
        int order = 1;
        if (!is_over(&was) && !is_over(&is)) {
            struct entry a = entry_at(was.rows, was.at);
            struct entry b = entry_at(is.rows, is.at);
            order = weir_top_compare(was.rows + was.at + sizeof a, a.order,
                                     is.rows + is.at + sizeof b, b.order);
        } else if (is_over(&is)) {
            order = -1;
        }
        if (order < 0) {
            rc = leave(top, &was, WEIR_CHANGE_DELETE, out, times_us, err);
        } else if (order > 0) {
            rc = leave(top, &is, WEIR_CHANGE_INSERT, out, times_us, err);
        } else if (top->config.rank != NULL && was.rank != is.rank) {
            rc = leave(top, &was, WEIR_CHANGE_BEFORE, out, times_us, err);
            if (rc == WEIR_OK) {
                rc = leave(top, &is, WEIR_CHANGE_AFTER, out, times_us, err);
            }
        }
        if (order <= 0) {
            weir_top_move_on(top, &was);
        }
        if (order >= 0) {
            weir_top_move_on(top, &is);
        }
    }
    return rc;
}

int weir_top_changes(struct weir_top *top, struct weir_batch_builder *out, int32_t max_rows,
                     int64_t *times_us, bool *done, struct weir_error *err) {
    *done = false;
    while (top->left < top->touched_count) {
        const struct touched *touched = &top->touched[top->left];
        struct weir_slot *slot = weir_table_slot(top->table, touched->number);
        if (top->ranks != NULL) {
            bool full;
            int rc = weir_ranks_leave(top, touched, slot, out, max_rows, times_us, &full, err);
            if (rc != WEIR_OK || full) {
                return rc;
            }
            top->left++;
            continue;
        }
        struct group group = group_of(top, slot);
        int64_t bounds[2] = {0, 0};
        if (top->windowed) {
            memcpy(bounds, weir_slot_key(top->table, slot), sizeof bounds);
        }
        struct place was = {.rows = top->before.data + touched->before,
                            .bytes = touched->before_bytes,
                            .bounds = bounds};
        struct place is = {.rows = group.rows, .bytes = group.bytes, .bounds = bounds};
        /* All of a group's changes or none: an update is not cut in two. */
        int32_t most =
            2 * (int32_t)group.count + (int32_t)(touched->before_bytes / sizeof(struct entry));
        if (out->rows > 0 && (out->rows >= max_rows || out->rows + most > out->rows_max)) {
            return WEIR_OK;
        }
        bool ranked = top->config.rank != NULL || top->config.n == 1;
        int rc = (ranked && top->config.ties != WEIR_TOP_ALL ? leave_ranked : leave_unranked)(
            top, was, is, out, times_us, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        top->left++;
    }
    *done = true;
    return WEIR_OK;
}

bool weir_top_ready(const struct weir_top *top, int64_t watermark_us) {
    const struct weir_windows *windows = &top->windows;
    return windows->count > 0 && weir_time_add(windows->windows[windows->heap[0]].start_us,
                                               top->config.lateness_us) <= watermark_us;
}

static int fire_group(struct weir_top *top, struct weir_slot *slot, struct weir_batch_builder *out,
                      struct weir_error *err) {
    struct group group = group_of(top, slot);
    int64_t bounds[2];
    memcpy(bounds, weir_slot_key(top->table, slot), sizeof bounds);
    struct place place = {.rows = group.rows, .bytes = group.bytes, .bounds = bounds};
    int rc = WEIR_OK; /* what changes has left already */
    for (; rc == WEIR_OK && !top->changes && !is_over(&place); weir_top_move_on(top, &place)) {
        rc = leave(top, &place, WEIR_CHANGE_INSERT, out, NULL, err);
    }
    if (rc == WEIR_OK && weir_table_delete(top->table, slot, false) != WEIR_OK) {
        rc = weir_top_no_memory(top, err);
    }
    return rc;
}

int weir_top_fire(struct weir_top *top, int64_t watermark_us, struct weir_batch_builder *out,
                  int32_t rows, struct weir_error *err) {
    int32_t work = FIRE_WORK;
    while (weir_top_ready(top, watermark_us)) {
        struct weir_window *window = weir_windows_first(&top->windows);
        struct weir_slot *slot = weir_table_slot(top->table, window->head);
        uint32_t next = slot->link;
        int rc;
        if (top->ranks != NULL) {
            bool gone;
            rc = weir_ranks_fire(top, slot, out, rows, &work, &gone, err);
            if (rc == WEIR_OK && !gone) {
                return rc;
            }
        } else {
            struct group group = group_of(top, slot);
            bool waits = out->rows > 0 && out->rows + (int32_t)group.count > rows;
            if (waits || work-- <= 0) {
                return WEIR_OK;
            }
            rc = fire_group(top, slot, out, err);
        }
        if (rc != WEIR_OK) {
            return rc;
        }
        window->head = next;
        if (next == 0) {
            weir_windows_remove_first(&top->windows);
        }
    }
    return WEIR_OK;
}
