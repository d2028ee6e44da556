/* What leaves of rows that may be taken back: the first rows of a group as they were told last
 * beside those of now. */
#include "batch/change.h"
#include "operator/top/ranks.h"

enum { SHOWN_MAX = 2 * WEIR_TOP_ROWS_MAX }; /* of a group, with those equal to the last */

struct shown { /* then its order, then its columns */
    uint32_t order;
    uint32_t columns;
    uint64_t copy; /* of rows that are the same, from 0 */
    int64_t rank;
};

/* --- drawing -----------------------------------------------------------------------------------
 */

struct drawing {
    struct weir_top *top;
    struct weir_buffer *out;
    int64_t rank;
    uint32_t last; /* the row drawn last */
    int32_t count;
    bool done;
};

static bool equals_last(const struct drawing *drawing, const struct weir_ranked *row) {
    if (drawing->last == 0) {
        return false;
    }
    struct weir_ranked last = weir_ranks_row(drawing->top->ranks, drawing->last);
    return last.tied_bytes == row->tied_bytes &&
           memcmp(last.order, row->order, row->tied_bytes) == 0;
}

static int draw_row(struct drawing *drawing, uint32_t number, struct weir_error *err) {
    const struct weir_top *top = drawing->top;
    struct weir_ranked row = weir_ranks_row(top->ranks, number);
    bool all = top->config.ties == WEIR_TOP_ALL;
    int rc = WEIR_OK;
    for (uint32_t copy = 0; copy < row.copies && rc == WEIR_OK; copy++) {
        bool tied = all && equals_last(drawing, &row);
        if (drawing->count >= top->config.n && !tied) {
            drawing->done = true;
            return WEIR_OK;
        }
        drawing->rank = tied ? drawing->rank : drawing->count;
        drawing->last = number;
        if (++drawing->count > SHOWN_MAX) {
            return weir_error_set(err, WEIR_E_LIMIT,
                                  "%s: more than %d rows of one group are among the first; add a "
                                  "column to `by`, or leave ties = \"all\" out",
                                  top->declaration, SHOWN_MAX);
        }
        struct shown shown = {row.order_bytes, row.column_bytes, copy, drawing->rank};
        rc = weir_buffer_append(drawing->out, &shown, sizeof shown);
        rc = rc == WEIR_OK ? weir_buffer_append(drawing->out, row.order, row.order_bytes) : rc;
        rc = rc == WEIR_OK ? weir_buffer_append(drawing->out, row.columns, row.column_bytes) : rc;
        rc = rc == WEIR_OK ? rc : weir_top_no_memory(top, err);
    }
    return rc;
}

static int draw(struct drawing *drawing, uint32_t root, struct weir_error *err) {
    if (root == 0 || drawing->done) {
        return WEIR_OK;
    }
    uint32_t left;
    uint32_t right;
    weir_ranks_below(drawing->top->ranks, root, &left, &right);
    int rc = draw(drawing, left, err);
    if (rc == WEIR_OK && !drawing->done) {
        rc = draw_row(drawing, root, err);
    }
    return rc == WEIR_OK ? draw(drawing, right, err) : rc;
}

int weir_ranks_draw(struct weir_top *top, uint32_t root, struct weir_buffer *out, int32_t *count,
                    struct weir_error *err) {
    struct drawing drawing = {.top = top, .out = out};
    int rc = draw(&drawing, root, err);
    *count = drawing.count;
    return rc;
}

/* --- leaving -----------------------------------------------------------------------------------
 */

struct place_shown {
    const uint8_t *at;
    const uint8_t *end;
};

struct exit {
    struct weir_top *top;
    struct weir_batch_builder *out;
    const int64_t *bounds;
    int64_t time_us;
    int64_t *times_us;
};

static bool is_over(const struct place_shown *place) {
    return place->at == place->end;
}

static struct shown shown_at(const struct place_shown *place) {
    struct shown shown;
    memcpy(&shown, place->at, sizeof shown);
    return shown;
}

static void move_on(struct place_shown *place) {
    struct shown shown = shown_at(place);
    place->at += sizeof shown + shown.order + shown.columns;
}

static int leave(const struct exit *exit, const struct place_shown *place, int change,
                 struct weir_error *err) {
    struct shown shown = shown_at(place);
    struct leaving row = {
        .columns = place->at + sizeof shown + shown.order,
        .bytes = shown.columns,
        .rank = shown.rank,
        .bounds = exit->bounds,
        .change = change,
        .time_us = exit->time_us,
    };
    return weir_top_append(exit->top, &row, exit->out, exit->times_us, err);
}

static int leave_pair(const struct exit *exit, const struct place_shown *was,
                      const struct place_shown *is, struct weir_error *err) {
    int rc = leave(exit, was, WEIR_CHANGE_BEFORE, err);
    return rc == WEIR_OK ? leave(exit, is, WEIR_CHANGE_AFTER, err) : rc;
}

static bool same_columns(const struct place_shown *a, const struct place_shown *b) {
    struct shown x = shown_at(a);
    struct shown y = shown_at(b);
    return x.columns == y.columns &&
           memcmp(a->at + sizeof x + x.order, b->at + sizeof y + y.order, x.columns) == 0;
}

/* By rank: what stands at each place now and what stood there. */
static int leave_ranked(const struct exit *exit, struct place_shown was, struct place_shown is,
                        struct weir_error *err) {
    int rc = WEIR_OK;
    while (rc == WEIR_OK && (!is_over(&was) || !is_over(&is))) {
        if (is_over(&was)) {
            rc = leave(exit, &is, WEIR_CHANGE_INSERT, err);
        } else if (is_over(&is)) {
            rc = leave(exit, &was, WEIR_CHANGE_DELETE, err);
        } else if (!same_columns(&was, &is)) {
            rc = leave_pair(exit, &was, &is, err);
        }
        if (!is_over(&was)) {
            move_on(&was);
        }
        if (!is_over(&is)) {
            move_on(&is);
        }
    }
    return rc;
}

/* Which of the two comes first in the order; 0: they are one row. */
static int compare(const struct place_shown *a, const struct place_shown *b) {
    if (is_over(a) || is_over(b)) {
        return is_over(a) ? 1 : -1;
    }
    struct shown x = shown_at(a);
    struct shown y = shown_at(b);
    const uint8_t *p = a->at + sizeof x;
    const uint8_t *q = b->at + sizeof y;
    int order = weir_top_compare(p, x.order, q, y.order);
    order = order != 0 ? order : weir_top_compare(p + x.order, x.columns, q + y.order, y.columns);
    return order != 0 ? order : (x.copy > y.copy) - (x.copy < y.copy);
}

/* As sets. Those that are there no more leave first: another row of the same key may be one of
 * those that come. */
static int leave_set(const struct exit *exit, struct place_shown was, struct place_shown is,
                     bool first, struct weir_error *err) {
    int rc = WEIR_OK;
    while (rc == WEIR_OK && (!is_over(&was) || !is_over(&is))) {
        int order = compare(&was, &is);
        if (order < 0 && first) {
            rc = leave(exit, &was, WEIR_CHANGE_DELETE, err);
        } else if (order > 0 && !first) {
            rc = leave(exit, &is, WEIR_CHANGE_INSERT, err);
        } else if (order == 0 && !first && exit->top->config.rank != NULL &&
                   shown_at(&was).rank != shown_at(&is).rank) {
            rc = leave_pair(exit, &was, &is, err);
        }
        if (order <= 0) {
            move_on(&was);
        }
        if (order >= 0) {
            move_on(&is);
        }
    }
    return rc;
}

static int32_t count_shown(struct place_shown place) {
    int32_t count = 0;
    for (; !is_over(&place); move_on(&place)) {
        count++;
    }
    return count;
}

static struct place_shown begin(const uint8_t *bytes, size_t length) {
    return (struct place_shown){bytes, bytes + length};
}

/* The group as it is now, into top->orders, which nobody needs meanwhile. */
static int draw_now(struct weir_top *top, struct weir_slot *slot, struct place_shown *is,
                    int32_t *count, struct weir_error *err) {
    weir_buffer_clear(&top->orders);
    int rc = weir_ranks_draw(top, weir_ranks_root(top, slot), &top->orders, count, err);
    *is = begin(top->orders.data, top->orders.size);
    return rc;
}

static int forget_group(struct weir_top *top, struct weir_slot *slot, struct weir_error *err) {
    return weir_table_delete(top->table, slot, false) == WEIR_OK ? WEIR_OK
                                                                 : weir_top_no_memory(top, err);
}

int weir_ranks_leave(struct weir_top *top, const struct touched *touched, struct weir_slot *slot,
                     struct weir_batch_builder *out, int32_t max_rows, int64_t *times_us,
                     bool *full, struct weir_error *err) {
    int64_t bounds[2] = {0, 0}; /* end, start */
    struct exit exit = {top, out, bounds, touched->time_us, times_us};
    struct place_shown was = begin(top->before.data + touched->before, touched->before_bytes);
    struct place_shown is;
    int32_t most;
    int rc = draw_now(top, slot, &is, &most, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    most += count_shown(was);
    *full = out->rows > 0 && (out->rows >= max_rows || out->rows + most > out->rows_max);
    if (*full) {
        return WEIR_OK;
    }
    if (top->windowed) {
        memcpy(bounds, weir_slot_key(top->table, slot), sizeof bounds);
    }
    bool ranked = top->config.rank != NULL || top->config.n == 1;
    if (ranked && top->config.ties != WEIR_TOP_ALL) {
        rc = leave_ranked(&exit, was, is, err);
    } else {
        rc = leave_set(&exit, was, is, true, err);
        rc = rc == WEIR_OK ? leave_set(&exit, was, is, false, err) : rc;
    }
    bool goes = rc == WEIR_OK && !top->windowed && weir_ranks_root(top, slot) == 0;
    return goes ? forget_group(top, slot, err) : rc;
}

int weir_ranks_fire(struct weir_top *top, struct weir_slot *slot, struct weir_batch_builder *out,
                    int32_t max_rows, int32_t *work, bool *gone, struct weir_error *err) {
    int64_t bounds[2]; /* end, start */
    int rc = WEIR_OK;
    *gone = false;
    memcpy(bounds, weir_slot_key(top->table, slot), sizeof bounds);
    if (!top->changes && !weir_ranks_have_left(top, slot)) {
        struct exit exit = {top, out, bounds, 0, NULL};
        struct place_shown is;
        int32_t count;
        rc = draw_now(top, slot, &is, &count, err);
        if (rc != WEIR_OK || (out->rows > 0 && out->rows + count > max_rows)) {
            return rc;
        }
        for (; rc == WEIR_OK && !is_over(&is); move_on(&is)) {
            rc = leave(&exit, &is, WEIR_CHANGE_INSERT, err);
        }
        rc = rc == WEIR_OK ? weir_ranks_set_left(top, slot, err) : rc;
    }
    (*work)--;
    rc = rc == WEIR_OK ? weir_ranks_empty(top, slot, work, err) : rc;
    if (rc != WEIR_OK || weir_ranks_root(top, slot) != 0 || *work < 0) {
        return rc;
    }
    *gone = true;
    return forget_group(top, slot, err);
}
