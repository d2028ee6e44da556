/* Temporal joins: each left row once, beside the version that was valid at its time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch/change.h"
#include "operator/join/temporal.h"
#include "pipeline/graph/join.h"

struct work {
    struct weir_temporal_pair pairs[ROWS_MAX];
    const struct weir_link *versions[JOIN_PIECE_ROWS];
    int32_t tally;       /* of rows that found none */
    bool gone[ROWS_MAX]; /* by row that leaves: its condition threw */
};

/* Where the version of the i-th row that leaves stands. */
typedef const struct weir_link **slot_of(struct work *work, int32_t i);

static int make(struct join *join, const int32_t *left_on, const int32_t *right_on,
                struct weir_error *err) {
    const struct weir_plan_join *plan = join->plan;
    const struct weir_schema *right = join->right->schema;
    struct work *work = join->work = calloc(1, sizeof(struct work));
    struct weir_temporal_config config = {
        .declaration = join->label,
        .sides = {{join->node->input, left_on, join->kept[0], join->kept_count[0]},
                  {join->right->schema, right_on, join->kept[1], join->kept_count[1]}},
        .on_count = plan->on_count,
        .as_of = plan->as_of != NULL ? weir_schema_find(join->node->input, plan->as_of) : -1,
        .change = weir_schema_find(right, WEIR_CHANGE_COLUMN),
        .unavailable = weir_schema_find(right, WEIR_UNAVAILABLE_COLUMN),
        .wait_us = plan->wait_us,
        .lateness_us = plan->lateness_us,
        .max_bytes = (size_t)join->node->graph->plan->state_bytes,
        .option = "memory.state",
    };
    join->op = work != NULL ? weir_temporal_create(&config, err) : NULL;
    if (join->op == NULL) {
        return join_full(join, WEIR_E_NOMEM, err);
    }
    work->tally = dataset_tally(join->node->dataset, "unmatched");
    return work->tally >= 0 ? WEIR_OK : join_full(join, WEIR_E_NOMEM, err);
}

/* --- rows leave --------------------------------------------------------------------------------
 */

static const struct weir_link **of_pair(struct work *work, int32_t i) {
    return &work->pairs[i].version;
}

static const struct weir_link **of_due(struct work *work, int32_t i) {
    return &work->versions[i];
}

/* The versions as a column of `out`, null where there is none. */
static int put_versions(struct join *join, struct weir_batch *out, int32_t count, slot_of *slot) {
    struct weir_batch_builder *builder = &join->builders[WEIR_RIGHT];
    struct weir_column_builder *columns;
    int rc = join_begin_kept(join, WEIR_RIGHT, count, &columns);
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        const struct weir_link *version = *slot(join->work, i);
        if (version != NULL) {
            rc = weir_temporal_decode_version(join->op, version, columns);
            rc = join_finish_row(join, WEIR_RIGHT, rc);
        } else {
            rc = weir_builder_null(builder->columns);
            weir_batch_builder_finish_row(builder);
        }
    }
    return join_end_kept(join, out, WEIR_RIGHT, rc);
}

/* A version that the condition does not hold for is none. */
static int judge(struct join *join, struct weir_batch *out, int32_t count, slot_of *slot,
                 struct weir_error *err) {
    struct work *work = join->work;
    int32_t asked = 0;
    bool again = false;
    for (int32_t i = 0; i < count; i++) {
        work->gone[i] = false;
        if (*slot(work, i) != NULL) {
            join->node->sel[asked++] = i;
        }
    }
    if (join->plan->where < 0 || asked == 0) {
        return WEIR_OK;
    }
    int rc = node_view(join->node, out, out, err);
    if (rc == WEIR_OK) {
        rc = node_predicate(join->node, join->plan->where, out, join->node->sel, asked,
                            join->node->verdict, TALLY_WHERE, err);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < asked; i++) {
        if (join->node->verdict[i] >= VERDICT_THREW) {
            work->gone[join->node->sel[i]] = true;
            rc = node_where_failed(join->node, join->node->sel[i], join->node->verdict[i]);
        } else if (join->node->verdict[i] != 1) {
            *slot(work, join->node->sel[i]) = NULL;
            again = true;
        }
    }
    if (rc == WEIR_OK) {
        const struct weir_flow flow = {.batch = out, .sel = join->node->sel, .source = -1};
        rc = node_leave(join->node, &flow, err);
    }
    return rc == WEIR_OK && again ? put_versions(join, out, count, slot) : rc;
}

/* Those that leave, into the selection: where each row is to have a version, those with one. */
static int leave_unmatched(struct join *join, int32_t *count, slot_of *slot) {
    struct work *work = join->work;
    bool inner = join_rows_of(join->plan) == WEIR_JOIN_INNER;
    char text[512];
    int32_t kept = 0;
    int rc = WEIR_OK;
    snprintf(text, sizeof text, "%s had no version of this key at that time", join->plan->from);
    for (int32_t i = 0; rc == WEIR_OK && i < *count; i++) {
        if (work->gone[i]) {
            continue; /* to quarantine already */
        }
        if (!inner || *slot(work, i) != NULL) {
            join->sel[kept++] = i;
        } else if (join->plan->quarantine) {
            rc = node_reject(join->node, i, work->tally, text);
        } else {
            join->node->dataset->counters.unmatched++;
        }
    }
    *count = kept;
    return rc;
}

/* `count` rows with their versions leave; their left columns are in `out`. */
static int pass(struct join *join, struct weir_batch *out, int32_t count, slot_of *slot,
                struct weir_error *err) {
    int rc = put_versions(join, out, count, slot);
    rc = rc == WEIR_OK ? judge(join, out, count, slot, err) : rc;
    rc = rc == WEIR_OK ? leave_unmatched(join, &count, slot) : rc;
    return rc == WEIR_OK ? join_go_on(join, out, count, err) : join_full(join, rc, err);
}

/* Left rows of the batch fed that wait for nothing. */
static int pass_now(struct join *join, const struct weir_flow *flow, int32_t count,
                    struct weir_error *err) {
    const struct work *work = join->work;
    struct weir_batch *out = join_batch(join, -1, count);
    for (int32_t i = 0; i < count; i++) {
        join->sel[i] = work->pairs[i].row;
        join->times[i] = flow->times_us[join->sel[i]];
        join->before[i] = work->pairs[i].before_us;
    }
    int rc = out != NULL ? join_put_fed(join, out, count) : WEIR_E_LIMIT;
    rc = rc == WEIR_OK ? pass(join, out, count, of_pair, err) : join_full(join, rc, err);
    weir_batch_unref(out);
    return rc;
}

/* A piece of the rows that have waited long enough. */
static int pass_due(struct join *join, struct weir_error *err) {
    struct work *work = join->work;
    int32_t count = weir_temporal_due(join->op, join->rows, work->versions, JOIN_PIECE_ROWS);
    if (count == 0) {
        return WEIR_OK;
    }
    struct weir_column_builder *columns;
    struct weir_batch *out = join_batch(join, -1, count);
    int rc = out != NULL ? join_begin_kept(join, WEIR_LEFT, count, &columns) : WEIR_E_LIMIT;
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        join->times[i] = join->rows[i]->time_us;
        join->before[i] = join->emitted;
        rc = weir_temporal_decode(join->op, join->rows[i], columns);
        rc = join_finish_row(join, WEIR_LEFT, rc);
    }
    rc = out != NULL ? join_end_kept(join, out, WEIR_LEFT, rc) : rc;
    rc = rc == WEIR_OK ? pass(join, out, count, of_due, err) : join_full(join, rc, err);
    weir_batch_unref(out);
    return rc;
}

/* --- rows come ---------------------------------------------------------------------------------
 */

static int feed_left(struct join *join, const struct weir_flow *flow, struct weir_error *err) {
    struct work *work = join->work;
    int32_t late_sel[ROWS_MAX];
    int32_t late = 0;
    int32_t count = 0;
    int rc =
        weir_temporal_left(join->op, flow->batch, flow->sel, flow->count, flow->times_us,
                           flow->watermark_before_us, work->pairs, &count, late_sel, &late, err);
    rc = rc == WEIR_OK && count > 0 ? pass_now(join, flow, count, err) : rc;
    return rc == WEIR_OK ? join_late(join, WEIR_LEFT, flow->batch, late_sel, late, err) : rc;
}

/* In front of a late version the rows leave that do not see it. */
static int feed_right(struct join *join, const struct weir_flow *flow, struct weir_error *err) {
    int32_t from = 0;
    int rc = WEIR_OK;
    while (rc == WEIR_OK && from < flow->count) {
        rc = weir_temporal_right(join->op, flow->batch, flow->sel, flow->count, flow->times_us,
                                 flow->watermark_before_us, &from,
                                 &join->node->dataset->counters.late, err);
        while (rc == WEIR_OK && from < flow->count && weir_temporal_any_due(join->op)) {
            rc = pass_due(join, err);
        }
    }
    return rc;
}

static int feed(struct join *join, int side, const struct weir_flow *flow, struct weir_error *err) {
    int rc = side == WEIR_LEFT ? feed_left(join, flow, err) : feed_right(join, flow, err);
    join_fed_done(join);
    return rc;
}

static int step(struct join *join, bool *done, struct weir_error *err) {
    weir_temporal_advance(join->op, WEIR_LEFT, join->ahead[0]);
    weir_temporal_advance(join->op, WEIR_RIGHT, join->ahead[1]);
    int rc = pass_due(join, err);
    *done = rc == WEIR_OK && !weir_temporal_any_due(join->op);
    if (*done) {
        rc = weir_temporal_expire(join->op, (size_t)join->fed_rows * 2 + JOIN_EXPIRE_LEAST, err);
    }
    return rc;
}

static void destroy(void *op) {
    weir_temporal_destroy(op);
}

static int64_t watermark(const struct join *join) {
    return weir_temporal_watermark(join->op);
}

static void set_watermarks(void *op, int64_t left_us, int64_t right_us) {
    weir_temporal_set_watermarks(op, left_us, right_us);
}

static struct weir_cell *cell(void *op, int side) {
    return weir_temporal_cell(op, side);
}

static int restore(void *op, struct weir_error *err) {
    return weir_temporal_restore(op, err);
}

static void follow(void *op, void *as) {
    weir_temporal_follow(op, as);
}

static uint64_t shape(const void *op) {
    return weir_temporal_shape(op);
}

static size_t estimate(const void *op, int side) {
    return weir_temporal_estimate(op, side);
}

static void show(void *op, int side, struct weir_show *out) {
    weir_temporal_show(op, side, out);
}

const struct join_kind join_temporal = {make,           destroy, feed,    step,  watermark,
                                        set_watermarks, cell,    restore, shape, follow,
                                        estimate,       show,    NULL};
