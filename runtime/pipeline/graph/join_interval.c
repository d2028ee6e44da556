/* Interval and window joins: pairs of rows that are both kept. */
#include <stdlib.h>
#include <string.h>

#include "operator/join/join.h"
#include "pipeline/graph/join.h"

struct work {
    struct weir_join_pair pairs[JOIN_PIECE_ROWS];
};

static int make(struct join *join, const int32_t *left_on, const int32_t *right_on,
                struct weir_error *err) {
    const struct weir_plan_join *plan = join->plan;
    int32_t high =
        plan->high_column != NULL ? weir_schema_find(join->node->input, plan->high_column) : -1;
    struct weir_join_config config = {
        .declaration = join->label,
        .sides = {{join->node->input, left_on, join->kept[0], join->kept_count[0]},
                  {join->right->schema, right_on, join->kept[1], join->kept_count[1]}},
        .on_count = plan->on_count,
        .kind = join_rows_of(plan),
        .low_us = plan->low_us,
        .high_us = plan->high_us,
        .high_column = high,
        .window_us = plan->window_us,
        .every_us = plan->every_us,
        .lateness_us = plan->lateness_us,
        .max_bytes = (size_t)join->node->graph->plan->state_bytes,
        .option = "memory.state",
    };
    join->counts_unmatched = config.kind == WEIR_JOIN_INNER || config.kind == WEIR_JOIN_SEMI;
    join->op = weir_join_create(&config, err);
    join->work = join->op != NULL ? calloc(1, sizeof(struct work)) : NULL;
    if (join->work == NULL) {
        return join_full(join, WEIR_E_NOMEM, err);
    }
    return WEIR_OK;
}

/* --- batches of pairs --------------------------------------------------------------------------
 */

/* rows[0..count) of a side out of the state, as columns of `out`. */
static int put_kept(struct join *join, struct weir_batch *out, int side,
                    struct weir_row *const *rows, int32_t count) {
    struct weir_column_builder *columns;
    int rc = join_begin_kept(join, side, count, &columns);
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        rc = weir_join_decode(join->op, side, rows[i], columns);
        rc = join_finish_row(join, side, rc);
    }
    return join_end_kept(join, out, side, rc);
}

/* Of a window join: the bounds of the window whose last moment is the row's time. */
static int put_bounds(struct join *join, struct weir_batch *out, int32_t count) {
    for (int end = 0; join->plan->window_us > 0 && end < 2; end++) {
        struct weir_column *column = &out->columns[join->plan->bounds + end];
        int64_t *values = weir_batch_alloc(out, ((size_t)count + 1) * sizeof(*values));
        if (values == NULL) {
            return WEIR_E_LIMIT;
        }
        for (int32_t i = 0; i < count; i++) {
            values[i] = join->times[i] + 1 - (end ? 0 : join->plan->window_us);
        }
        column->values = values;
        column->validity = NULL;
        column->length = count;
        column->null_count = 0;
    }
    return WEIR_OK;
}

/* The pairs as rows. */
static struct weir_batch *pair_batch(struct join *join, int32_t count) {
    const struct weir_join_pair *pairs = ((const struct work *)join->work)->pairs;
    struct weir_batch *out = join_batch(join, -1, count);
    for (int32_t i = 0; i < count; i++) {
        join->sel[i] = pairs[i].row;
        join->rows[i] = pairs[i].other;
        join->times[i] = pairs[i].time_us;
        join->before[i] = join->emitted;
    }
    int rc = out != NULL ? join_put_fed(join, out, count) : WEIR_E_LIMIT;
    if (rc == WEIR_OK) {
        rc = put_kept(join, out, !join->fed_side, join->rows, count);
    }
    rc = rc == WEIR_OK ? put_bounds(join, out, count) : rc;
    if (rc != WEIR_OK) {
        weir_batch_unref(out);
        return NULL;
    }
    return out;
}

/* Pairs that hold, of those at hand, as places in node->sel; without a condition all do. */
static int judge(struct join *join, struct weir_batch *out, int32_t *count,
                 struct weir_error *err) {
    int rc = node_view(join->node, out, out, err);
    for (int32_t i = 0; i < *count; i++) {
        join->node->sel[i] = i;
    }
    if (rc == WEIR_OK) {
        rc = node_predicate(join->node, join->plan->where, out, join->node->sel, *count,
                            join->node->verdict, TALLY_WHERE, err);
    }
    int32_t kept = 0;
    for (int32_t i = 0; rc == WEIR_OK && i < *count; i++) {
        if (join->node->verdict[i] == 1) {
            join->node->sel[kept++] = i;
        } else {
            rc = node_where_failed(join->node, i, join->node->verdict[i]);
        }
    }
    *count = kept;
    if (rc == WEIR_OK) {
        const struct weir_flow flow = {.batch = out, .sel = join->node->sel, .source = -1};
        rc = node_leave(join->node, &flow, err);
    }
    return rc;
}

/* A condition is judged over rows, so they are made first; without one only those that leave. */
static int pass_pairs(struct join *join, int32_t count, struct weir_error *err) {
    struct weir_join_pair *pairs = ((struct work *)join->work)->pairs;
    bool judged = join->plan->where >= 0;
    struct weir_batch *out = judged ? pair_batch(join, count) : NULL;
    int32_t leaving = 0;
    int rc = judged && out == NULL ? join_full(join, WEIR_E_LIMIT, err) : WEIR_OK;
    rc = rc == WEIR_OK && judged ? judge(join, out, &count, err) : rc;
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        int32_t at = judged ? join->node->sel[i] : i;
        bool leaves;
        rc = weir_join_meet(join->op, &pairs[at], &leaves, err);
        if (leaves && judged) {
            join->sel[leaving++] = at;
        } else if (leaves) {
            pairs[leaving++] = pairs[at];
        }
    }
    if (rc == WEIR_OK && !judged && leaving > 0) {
        out = pair_batch(join, leaving);
        rc = out == NULL ? join_full(join, WEIR_E_LIMIT, err) : WEIR_OK;
        for (int32_t i = 0; i < leaving; i++) {
            join->sel[i] = i;
        }
    }
    if (rc == WEIR_OK && leaving > 0) {
        rc = join_go_on(join, out, leaving, err);
    }
    weir_batch_unref(out);
    return rc;
}

/* Rows of a side that stay alone. */
static int pass_alone(struct join *join, int side, int32_t count, struct weir_error *err) {
    struct weir_batch *out = join_batch(join, side, count);
    for (int32_t i = 0; i < count; i++) {
        join->sel[i] = i;
        join->times[i] = join->rows[i]->time_us;
        join->before[i] = join->emitted;
    }
    int rc = out != NULL ? put_kept(join, out, side, join->rows, count) : WEIR_E_LIMIT;
    rc = rc == WEIR_OK ? put_bounds(join, out, count) : rc;
    rc = rc == WEIR_OK ? join_go_on(join, out, count, err) : join_full(join, rc, err);
    weir_batch_unref(out);
    return rc;
}

/* --- slices ------------------------------------------------------------------------------------
 */

static int feed(struct join *join, int side, const struct weir_flow *flow, struct weir_error *err) {
    int32_t late_sel[ROWS_MAX];
    int32_t late = 0;
    int rc = weir_join_feed(join->op, side, flow->batch, flow->sel, flow->count, flow->times_us,
                            flow->watermark_before_us, late_sel, &late, err);
    return rc == WEIR_OK ? join_late(join, side, flow->batch, late_sel, late, err) : rc;
}

/* The rest of what was begun, about a piece of it. */
static int step(struct join *join, bool *done, struct weir_error *err) {
    *done = false;
    if (join->fed != NULL) {
        struct weir_join_pair *pairs = ((struct work *)join->work)->pairs;
        int32_t count = weir_join_pairs(join->op, pairs, JOIN_PIECE_ROWS);
        int rc = count > 0 ? pass_pairs(join, count, err) : WEIR_OK;
        if (rc != WEIR_OK || count == JOIN_PIECE_ROWS) {
            return rc;
        }
        join_fed_done(join);
        int64_t unmatched = weir_join_take_unmatched(join->op);
        join->node->dataset->counters.unmatched += join->counts_unmatched ? unmatched : 0;
    }
    weir_join_advance(join->op, WEIR_LEFT, join->ahead[0]);
    weir_join_advance(join->op, WEIR_RIGHT, join->ahead[1]);
    int side;
    int32_t count = weir_join_alone(join->op, join->rows, JOIN_ALONE_ROWS, &side);
    if (count > 0) {
        int rc = pass_alone(join, side, count, err);
        if (rc != WEIR_OK || weir_join_any_alone(join->op)) {
            return rc;
        }
    }
    *done = true;
    weir_join_expire(join->op, (size_t)join->fed_rows * 2 + JOIN_EXPIRE_LEAST);
    return WEIR_OK;
}

static void destroy(void *op) {
    weir_join_destroy(op);
}

static int64_t watermark(const struct join *join) {
    return weir_join_watermark(join->op);
}

static void set_watermarks(void *op, int64_t left_us, int64_t right_us) {
    weir_join_set_watermarks(op, left_us, right_us);
}

static struct weir_cell *cell(void *op, int side) {
    return weir_join_cell(op, side);
}

static int restore(void *op, struct weir_error *err) {
    return weir_join_restore(op, err);
}

static void follow(void *op, void *as) {
    weir_join_follow(op, as);
}

static uint64_t shape(const void *op) {
    return weir_join_shape(op);
}

static size_t estimate(const void *op, int side) {
    return weir_join_estimate(op, side);
}

static void show(void *op, int side, struct weir_show *out) {
    weir_join_show(op, side, out);
}

const struct join_kind join_interval = {make,           destroy, feed,    step,  watermark,
                                        set_watermarks, cell,    restore, shape, follow,
                                        estimate,       show,    NULL};
