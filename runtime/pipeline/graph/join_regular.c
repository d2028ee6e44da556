/* Regular joins: both sides as they are now, and what a change of one does to the pairs. Rows that
 * come are changes of a changelog, and so are those that leave. */
#include <stdlib.h>
#include <string.h>

#include "batch/change.h"
#include "operator/join/regular.h"
#include "operator/window.h"
#include "pipeline/graph/join.h"

enum { PIECE = JOIN_PIECE_ROWS };
_Static_assert((int)WEIR_REGULAR_ASKED <= (int)PIECE, "pairs to be judged are a piece of rows");

struct work {
    int64_t times[ROWS_MAX]; /* by row of the batch fed */
    int64_t before[ROWS_MAX];
    struct weir_regular_change changes[PIECE];
    struct weir_regular_pair pairs[WEIR_REGULAR_ASKED];
    bool holds[WEIR_REGULAR_ASKED];
};

static int make(struct join *join, const int32_t *left_on, const int32_t *right_on,
                struct weir_error *err) {
    const struct weir_plan_join *plan = join->plan;
    struct weir_regular_config config = {
        .declaration = join->label,
        .sides = {{join->node->input, left_on, join->kept[0], join->kept_count[0]},
                  {join->right->schema, right_on, join->kept[1], join->kept_count[1]}},
        .on_count = plan->on_count,
        .kind = join_rows_of(plan),
        .condition = plan->condition,
        .change = {plan->left_changes ? plan->change : -1,
                   weir_schema_find(join->right->schema, WEIR_CHANGE_COLUMN)},
        .ttl_us = {plan->ttl_us[0], plan->ttl_us[1]},
        .max_bytes = (size_t)join->node->graph->plan->state_bytes,
        .option = "memory.state",
        .disk = join->node->graph->disk,
        .disk_signal = join->node->graph->answers_signal,
    };
    join->op = weir_regular_create(&config, err);
    join->work = join->op != NULL ? calloc(1, sizeof(struct work)) : NULL;
    return join->work != NULL ? WEIR_OK : join_full(join, WEIR_E_NOMEM, err);
}

/* --- changes leave -----------------------------------------------------------------------------
 */

/* The other side's columns, null where a row stands alone. */
static int put_others(struct join *join, struct weir_batch *out, int32_t count) {
    const struct weir_regular_change *changes = ((const struct work *)join->work)->changes;
    int side = !join->fed_side;
    struct weir_batch_builder *builder = &join->builders[side];
    struct weir_column_builder *columns;
    int rc = join_begin_kept(join, side, count, &columns);
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        if (changes[i].other != NULL) {
            rc = weir_regular_decode(join->op, side, changes[i].other, columns);
            rc = join_finish_row(join, side, rc);
            continue;
        }
        int32_t all = side == WEIR_LEFT ? join->kept_count[0] : 1;
        for (int32_t c = 0; rc == WEIR_OK && c < all; c++) {
            rc = weir_builder_null(&builder->columns[c]);
        }
        weir_batch_builder_finish_row(builder);
    }
    return join_end_kept(join, out, side, rc);
}

/* Null in the columns of the batch fed where the other side's row stands alone. */
static int clear_alone(struct join *join, struct weir_batch *out, int32_t count) {
    const struct weir_regular_change *changes = ((const struct work *)join->work)->changes;
    int32_t columns = join->fed_side == WEIR_LEFT ? join->kept_count[0] : 1;
    bool any = false;
    for (int32_t i = 0; i < count; i++) {
        any |= changes[i].row < 0;
    }
    for (int32_t k = 0; any && k < columns; k++) {
        struct weir_column *column =
            &out->columns[join->fed_side == WEIR_LEFT ? join->kept[0][k] : join->plan->column];
        size_t bytes = ((size_t)count + 7) / 8;
        uint8_t *validity = weir_batch_alloc(out, bytes + 8);
        if (validity == NULL) {
            return WEIR_E_LIMIT;
        }
        memset(validity, 0, bytes + 8);
        column->null_count = 0;
        for (int32_t i = 0; i < count; i++) {
            bool there = changes[i].row >= 0 && !weir_column_is_null(column, i);
            validity[i >> 3] |= (uint8_t)(there << (i & 7));
            column->null_count += !there;
        }
        column->validity = validity;
    }
    if (any && join->fed_side == WEIR_LEFT) {
        beside_gather(join, out);
    }
    return WEIR_OK;
}

static int put_kinds(struct join *join, struct weir_batch *out, int32_t count) {
    const struct weir_regular_change *changes = ((const struct work *)join->work)->changes;
    struct weir_column *column = &out->columns[join->plan->change];
    size_t width = (size_t)weir_type_width(column->type);
    uint8_t *values = weir_batch_alloc(out, width * (size_t)count + 8);
    if (values == NULL) {
        return WEIR_E_LIMIT;
    }
    memset(values, 0, width * (size_t)count + 8);
    for (int32_t i = 0; i < count; i++) {
        values[(size_t)i * width] = (uint8_t)changes[i].kind; /* little-endian, as columns are */
    }
    column->values = values;
    column->validity = NULL;
    column->length = count;
    column->null_count = 0;
    return WEIR_OK;
}

/* The first changes of the work as rows. NULL: no memory. */
static struct weir_batch *changes_batch(struct join *join, int32_t count) {
    const struct weir_regular_change *changes = ((const struct work *)join->work)->changes;
    struct weir_batch *out = join_batch(join, -1, count);
    for (int32_t i = 0; i < count; i++) {
        join->sel[i] = changes[i].row >= 0 ? changes[i].row : changes[i].cause;
    }
    int rc = out != NULL ? join_put_fed(join, out, count) : WEIR_E_LIMIT;
    rc = rc == WEIR_OK ? clear_alone(join, out, count) : rc;
    rc = rc == WEIR_OK ? put_others(join, out, count) : rc;
    rc = rc == WEIR_OK ? put_kinds(join, out, count) : rc;
    if (rc != WEIR_OK) {
        weir_batch_unref(out);
        return NULL;
    }
    return out;
}

static int pass(struct join *join, int32_t count, struct weir_error *err) {
    const struct work *work = join->work;
    struct weir_batch *out = changes_batch(join, count);
    for (int32_t i = 0; i < count; i++) {
        join->sel[i] = i;
        join->times[i] = work->times[work->changes[i].cause];
        join->before[i] = work->before[work->changes[i].cause];
    }
    int rc = out != NULL ? join_go_on(join, out, count, err) : join_full(join, WEIR_E_LIMIT, err);
    weir_batch_unref(out);
    return rc;
}

/* --- the condition -----------------------------------------------------------------------------
 */

/* What it says of the pairs at hand. It throws for a pair that comes: a row for quarantine, and no
 * pair; for one that goes, which it threw for when that came, nobody is told again. */
static int judge_pairs(struct join *join, struct weir_batch *out, int32_t count,
                       struct weir_error *err) {
    struct weir_node *node = join->node;
    struct work *work = join->work;
    int rc = WEIR_OK;
    for (int32_t i = 0; i < count; i++) {
        node->sel[i] = i;
    }
    if (node->dataset->breached) { /* as all its rows */
        for (int32_t i = 0; i < count; i++) {
            node->verdict[i] = VERDICT_BREACHED;
        }
    } else {
        rc = node_view(node, out, out, err);
        rc = rc == WEIR_OK ? node_predicate(node, join->plan->where, out, node->sel, count,
                                            node->verdict, TALLY_WHERE, err)
                           : rc;
    }
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        work->holds[i] = node->verdict[i] == WEIR_VERDICT_PASS;
        if (!work->holds[i] && (work->pairs[i].comes || node->verdict[i] == VERDICT_BREACHED)) {
            rc = node_where_failed(node, i, node->verdict[i]);
        }
    }
    if (rc == WEIR_OK) {
        const struct weir_flow flow = {.batch = out, .sel = node->sel, .source = -1};
        rc = node_leave(node, &flow, err);
    }
    node->row_base += out->rows;
    return rc;
}

/* A piece of the pairs that are wanted, if any is. */
static int judge(struct join *join, struct weir_error *err) {
    struct work *work = join->work;
    int32_t count = join->plan->condition != NULL ? weir_regular_ask(join->op, work->pairs) : 0;
    if (count == 0) {
        return WEIR_OK;
    }
    for (int32_t i = 0; i < count; i++) {
        work->changes[i] = (struct weir_regular_change){
            .row = work->pairs[i].row,
            .other = work->pairs[i].other,
            .cause = work->pairs[i].row,
            .kind = WEIR_CHANGE_INSERT, /* the pair is judged, not what becomes of it */
        };
    }
    struct weir_batch *out = changes_batch(join, count);
    int rc = out != NULL ? judge_pairs(join, out, count, err) : join_full(join, WEIR_E_LIMIT, err);
    weir_batch_unref(out);
    if (rc == WEIR_OK) {
        weir_regular_answer(join->op, work->holds);
    }
    return rc;
}

/* --- slices ------------------------------------------------------------------------------------
 */

/* Where a side has no event time, the clock says how old rows are. */
static int feed(struct join *join, int side, const struct weir_flow *flow, struct weir_error *err) {
    struct work *work = join->work;
    int64_t other = join->ahead[!side];
    for (int32_t i = 0; i < flow->count; i++) {
        int32_t row = flow->sel[i];
        bool timed = !join->plan->by_clock;
        int64_t before = timed ? flow->watermark_before_us[row] : WEIR_WATERMARK_NONE;
        work->times[row] = timed ? flow->times_us[row] : join->node->graph->clock_us;
        work->before[row] = before < other ? before : other;
    }
    return weir_regular_feed(join->op, side, flow->batch, flow->sel, flow->count, work->times, err);
}

static int step(struct join *join, bool *done, struct weir_error *err) {
    *done = false;
    if (join->fed != NULL) {
        struct work *work = join->work;
        int32_t count = 0;
        int rc = judge(join, err);
        rc = rc == WEIR_OK ? weir_regular_changes(join->op, work->changes, PIECE, &count, err) : rc;
        rc = rc == WEIR_OK && count > 0 ? pass(join, count, err) : rc;
        if (rc != WEIR_OK || count > 0 || weir_regular_any(join->op)) {
            return rc;
        }
        join_fed_done(join);
        join->node->dataset->counters.late += weir_regular_take_forgotten(join->op);
    }
    *done = true;
    int64_t now = join->ahead[0] < join->ahead[1] ? join->ahead[0] : join->ahead[1];
    now = join->plan->by_clock ? join->node->graph->clock_us : now;
    return now == WEIR_WATERMARK_NONE
               ? WEIR_OK
               : weir_regular_expire(join->op, now, (size_t)join->fed_rows * 2 + JOIN_EXPIRE_LEAST,
                                     err);
}

static void destroy(void *op) {
    weir_regular_destroy(op);
}

static int64_t watermark(const struct join *join) {
    return join->ahead[0] < join->ahead[1] ? join->ahead[0] : join->ahead[1];
}

static void set_watermarks(void *op, int64_t left_us, int64_t right_us) {
    (void)op; /* it goes by those of the join */
    (void)left_us;
    (void)right_us;
}

static struct weir_cell *cell(void *op, int side) {
    return weir_regular_cell(op, side);
}

static int restore(void *op, struct weir_error *err) {
    return weir_regular_restore(op, err);
}

static void follow(void *op, void *as) {
    weir_regular_follow(op, as);
}

static uint64_t shape(const void *op) {
    return weir_regular_shape(op);
}

static size_t estimate(const void *op, int side) {
    return weir_regular_estimate(op, side);
}

static void show(void *op, int side, struct weir_show *out) {
    weir_regular_show(op, side, out);
}

static bool uses_disk(const void *op) {
    return weir_regular_uses_disk(op);
}

static int need(void *op, int side, struct weir_flow *flow, bool *waits, struct weir_error *err) {
    return weir_regular_need(op, side, flow->batch, flow->sel, &flow->count, waits, err);
}

static int bring(void *op, bool *done, struct weir_error *err) {
    return weir_regular_bring(op, done, err);
}

static int make_room(void *op, bool *crowded, struct weir_error *err) {
    return weir_regular_make_room(op, crowded, err);
}

static struct weir_table_disk_figures disk_figures(const void *op) {
    return weir_regular_disk_figures(op);
}

static const struct join_disk disk = {uses_disk, need, bring, make_room, disk_figures};

const struct join_kind join_regular = {make,           destroy, feed,    step,  watermark,
                                       set_watermarks, cell,    restore, shape, follow,
                                       estimate,       show,    &disk};
