/* An interval join inside a stream: its left rows come through entry and dedup, its right rows from
 * another dataset; pairs go on to map in batches of their own, the right row in a column behind the
 * left columns, a struct that is null where there is none. What a batch brings may be more than a
 * turn should do: what is left of it goes on in weir_graph_fire, piece by piece. */
#include <stdlib.h>
#include <string.h>

#include "operator/join.h"
#include "operator/show.h"
#include "pipeline/node.h"

enum { PIECE_ROWS = 2048, ALONE_ROWS = 512, EXPIRE_LEAST = 1024, BUILDER_BYTES_MAX = 64 << 20 };

struct join {
    const struct weir_plan_join *plan;
    struct weir_join *op;
    struct weir_dataset *right;
    struct weir_dataset *late[2];
    int32_t *kept[2]; /* columns of the left input and of the right dataset */
    int32_t kept_count[2];
    struct weir_schema *schemas[2]; /* of the kept left columns; of the struct alone */
    struct weir_schema *flat;       /* of the kept right columns */
    struct weir_batch_builder builders[2];
    bool has_builder[2];
    bool counts_unmatched;
    bool settled;    /* the operator knows the watermarks that were recorded */
    int64_t emitted; /* watermark passed on */
    /* What is being done. */
    struct weir_batch *fed;
    int fed_side;
    int32_t fed_rows;
    int64_t ahead[2]; /* watermarks, once the pairs are out */
    struct weir_join_pair pairs[PIECE_ROWS];
    struct weir_row *rows[PIECE_ROWS];
    int32_t sel[PIECE_ROWS];
    int64_t times[PIECE_ROWS];
    int64_t before[PIECE_ROWS];
};

static int full(const struct weir_node *node, int rc, struct weir_error *err) {
    return weir_error_set(err, rc, "%s: the memory cap is reached", node->name);
}

/* --- made --------------------------------------------------------------------------------------
 */

static int columns_of(const struct weir_schema *schema, const char **names, int32_t count,
                      int32_t **out, struct weir_error *err) {
    int32_t *columns = *out = calloc((size_t)count + 1, sizeof(*columns));
    for (int32_t i = 0; columns != NULL && i < count; i++) {
        columns[i] = weir_schema_find(schema, names[i]);
        if (columns[i] < 0) {
            return weir_error_set(err, WEIR_E_CONFIG, "join: no column '%s'", names[i]);
        }
    }
    return columns != NULL ? WEIR_OK : weir_error_set(err, WEIR_E_NOMEM, "out of memory");
}

static int add_fields(struct weir_schema **out, const struct weir_field *fields,
                      const int32_t *columns, int32_t count, struct weir_error *err) {
    struct weir_schema *schema = *out = weir_schema_create();
    int rc = schema == NULL ? WEIR_E_NOMEM : WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        rc = weir_schema_add(schema, &fields[columns != NULL ? columns[i] : i]);
        if (rc == WEIR_OK) { /* of a row alone, the other side's are null */
            schema->fields[i].nullable = true;
        }
    }
    return rc == WEIR_OK ? rc : weir_error_set(err, rc, "out of memory");
}

static int make_operator(struct weir_node *node, struct weir_error *err) {
    static const char *const kinds[] = {"inner", "left", "right", "full", "semi", "anti"};
    struct join *join = node->join;
    const struct weir_plan_join *plan = join->plan;
    int32_t *left_on = NULL;
    int32_t *right_on = NULL;
    int kind = 0;
    while (kind < WEIR_JOIN_ANTI && strcmp(plan->kind, kinds[kind]) != 0) {
        kind++;
    }
    int rc = columns_of(node->input, plan->left_on, plan->on_count, &left_on, err);
    if (rc == WEIR_OK) {
        rc = columns_of(join->right->schema, plan->right_on, plan->on_count, &right_on, err);
    }
    int32_t high =
        plan->high_column != NULL ? weir_schema_find(node->input, plan->high_column) : -1;
    struct weir_join_config config = {
        .declaration = node->name,
        .sides = {{node->input, left_on, join->kept[0], join->kept_count[0]},
                  {join->right->schema, right_on, join->kept[1], join->kept_count[1]}},
        .on_count = plan->on_count,
        .kind = (enum weir_join_kind)kind,
        .low_us = plan->low_us,
        .high_us = plan->high_us,
        .high_column = high,
        .lateness_us = plan->lateness_us,
        .max_bytes = (size_t)node->graph->plan->state_bytes,
        .option = "memory.state",
    };
    if (rc == WEIR_OK) {
        join->op = weir_join_create(&config, err);
        rc = join->op != NULL ? WEIR_OK : (err != NULL ? err->code : WEIR_E_NOMEM);
    }
    join->counts_unmatched = kind == WEIR_JOIN_INNER || kind == WEIR_JOIN_SEMI;
    free(left_on);
    free(right_on);
    return rc;
}

static int add_late(struct weir_node *node, int side, const char *name, struct weir_error *err) {
    struct join *join = node->join;
    struct weir_schema *schema = NULL;
    if (name == NULL) {
        return WEIR_OK;
    }
    int rc = side == WEIR_LEFT
                 ? add_fields(&schema, node->input->fields, NULL, join->plan->column, err)
                 : WEIR_OK;
    if (rc == WEIR_OK) {
        join->late[side] =
            graph_add_dataset(node->graph, name, schema != NULL ? schema : join->right->schema,
                              &node->graph->plan->quarantine, err);
        rc = join->late[side] != NULL ? WEIR_OK : WEIR_E_NOMEM;
    }
    weir_schema_unref(schema);
    return rc;
}

int join_init(struct weir_node *node, struct weir_error *err) {
    const struct weir_plan_join *plan = &node->stream->join;
    if (plan->name == NULL) {
        return WEIR_OK;
    }
    struct join *join = node->join = calloc(1, sizeof(*join));
    if (join == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    join->plan = plan;
    join->emitted = join->ahead[0] = join->ahead[1] = WEIR_WATERMARK_NONE;
    node->downstream_watermark = WEIR_WATERMARK_NONE; /* the right side's, in the record */
    join->right = weir_graph_find(node->graph, plan->from);
    if (join->right == NULL) {
        return weir_error_set(err, WEIR_E_CONFIG, "joins '%s', which nothing writes", plan->from);
    }
    const struct weir_field *column = &node->input->fields[plan->column];
    const char **names = calloc((size_t)column->child_count + 1, sizeof(*names));
    for (int32_t i = 0; names != NULL && i < column->child_count; i++) {
        names[i] = column->children[i].name;
    }
    join->kept_count[0] = plan->left_count;
    join->kept_count[1] = column->child_count;
    int rc = names == NULL
                 ? weir_error_set(err, WEIR_E_NOMEM, "out of memory")
                 : columns_of(node->input, plan->left, plan->left_count, &join->kept[0], err);
    if (rc == WEIR_OK) {
        rc = columns_of(join->right->schema, names, column->child_count, &join->kept[1], err);
    }
    free(names);
    if (rc == WEIR_OK) {
        rc = add_fields(&join->schemas[0], node->input->fields, join->kept[0], plan->left_count,
                        err);
    }
    if (rc == WEIR_OK) {
        rc = add_fields(&join->schemas[1], column, NULL, 1, err);
    }
    if (rc == WEIR_OK) {
        rc = add_fields(&join->flat, join->right->schema->fields, join->kept[1],
                        join->kept_count[1], err);
    }
    for (int s = 0; rc == WEIR_OK && s < 2; s++) {
        rc = weir_batch_builder_init(&join->builders[s], node->graph->pool, join->schemas[s],
                                     PIECE_ROWS, BUILDER_BYTES_MAX, err);
        join->has_builder[s] = rc == WEIR_OK;
    }
    if (rc == WEIR_OK) {
        rc = make_operator(node, err);
    }
    rc = rc == WEIR_OK ? add_late(node, WEIR_LEFT, plan->late_left, err) : rc;
    return rc == WEIR_OK ? add_late(node, WEIR_RIGHT, plan->late_right, err) : rc;
}

void join_fini(struct weir_node *node) {
    struct join *join = node->join;
    if (join == NULL) {
        return;
    }
    for (int s = 0; s < 2; s++) {
        if (join->has_builder[s]) {
            weir_batch_builder_fini(&join->builders[s]);
        }
        weir_schema_unref(join->schemas[s]);
        free(join->kept[s]);
    }
    weir_schema_unref(join->flat);
    weir_batch_unref(join->fed);
    weir_join_destroy(join->op);
    free(join);
}

/* --- batches of pairs --------------------------------------------------------------------------
 */

/* rows[0..count) of a side out of the state, as columns of `out`. */
static int put_kept(struct weir_node *node, struct weir_batch *out, int side,
                    struct weir_row *const *rows, int32_t count) {
    struct join *join = node->join;
    struct weir_batch_builder *builder = &join->builders[side];
    int rc = weir_batch_builder_begin_rows(builder, count);
    struct weir_column_builder *columns =
        side == WEIR_LEFT ? builder->columns : builder->columns[0].children;
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        rc = weir_join_decode(join->op, side, rows[i], columns);
        if (rc == WEIR_OK && side == WEIR_RIGHT) {
            rc = weir_builder_struct(&builder->columns[0]);
        }
        if (rc == WEIR_OK) {
            weir_batch_builder_finish_row(builder);
        }
    }
    struct weir_batch *built = weir_batch_builder_take(builder);
    if (rc == WEIR_OK && side == WEIR_RIGHT) {
        rc = weir_batch_borrow(out, join->plan->column, built, 0);
    }
    for (int32_t k = 0; rc == WEIR_OK && side == WEIR_LEFT && k < join->kept_count[0]; k++) {
        rc = weir_batch_borrow(out, join->kept[0][k], built, k);
    }
    weir_batch_unref(built);
    return rc;
}

/* join->sel[0..count) of the batch fed, as columns of `out`. */
static int put_fed(struct weir_node *node, struct weir_batch *out, int32_t count) {
    struct join *join = node->join;
    struct weir_batch *fed = join->fed;
    int rc = WEIR_OK;
    if (join->fed_side == WEIR_LEFT) {
        for (int32_t k = 0; rc == WEIR_OK && k < join->kept_count[0]; k++) {
            int32_t c = join->kept[0][k];
            rc = weir_batch_gather_column(out, c, fed, &fed->columns[c], join->sel, count);
        }
        return rc;
    }
    struct weir_batch *flat = weir_batch_create(node->graph->pool, join->flat);
    rc = flat == NULL ? WEIR_E_LIMIT : weir_batch_keep(out, flat);
    struct weir_column *column = &out->columns[join->plan->column];
    column->length = count;
    for (int32_t k = 0; rc == WEIR_OK && k < join->kept_count[1]; k++) {
        rc = weir_batch_gather_column(flat, k, fed, &fed->columns[join->kept[1][k]], join->sel,
                                      count);
        column->children[k] = flat->columns[k];
    }
    weir_batch_unref(flat);
    return rc;
}

/* A batch of the stream's columns, all of them null but those put in. */
static struct weir_batch *empty_batch(struct weir_node *node, int side, int32_t count) {
    struct join *join = node->join;
    struct weir_batch *out = weir_batch_create(node->graph->pool, node->input);
    int rc = out == NULL ? WEIR_E_LIMIT : WEIR_OK;
    int32_t next = 0;
    for (int32_t c = 0; rc == WEIR_OK && c < out->column_count; c++) {
        bool kept = next < join->kept_count[0] && join->kept[0][next] == c;
        next += kept;
        if (c == join->plan->column ? side == WEIR_LEFT : !kept || side == WEIR_RIGHT) {
            rc = column_all_null(out, &out->columns[c], count);
        }
    }
    if (rc != WEIR_OK) {
        weir_batch_unref(out);
        return NULL;
    }
    out->rows = count;
    return out;
}

/* The pairs as rows. */
static struct weir_batch *pair_batch(struct weir_node *node, int32_t count) {
    struct join *join = node->join;
    struct weir_batch *out = empty_batch(node, -1, count);
    for (int32_t i = 0; i < count; i++) {
        join->sel[i] = join->pairs[i].row;
        join->rows[i] = join->pairs[i].other;
        join->times[i] = join->pairs[i].time_us;
    }
    int rc = out != NULL ? put_fed(node, out, count) : WEIR_E_LIMIT;
    if (rc == WEIR_OK) {
        rc = put_kept(node, out, !join->fed_side, join->rows, count);
    }
    if (rc != WEIR_OK) {
        weir_batch_unref(out);
        return NULL;
    }
    return out;
}

/* join->sel[0..count) of `out` go on to map. */
static int go_on(struct weir_node *node, struct weir_batch *out, int32_t count,
                 struct weir_error *err) {
    struct join *join = node->join;
    for (int32_t i = 0; i < out->rows; i++) {
        join->before[i] = join->emitted;
    }
    struct weir_flow flow = {
        .batch = out,
        .sel = join->sel,
        .count = count,
        .times_us = join->times,
        .watermark_before_us = join->before,
        .watermark_us = join->emitted,
        .source = -1,
        .partition = node->name,
    };
    int rc = count > 0 ? stream_joined(node, &flow, err) : WEIR_OK;
    node->row_base += out->rows;
    return rc;
}

/* Pairs that hold, of those at hand, as places in node->sel; without a condition all do. */
static int judge(struct weir_node *node, struct weir_batch *out, int32_t *count,
                 struct weir_error *err) {
    struct join *join = node->join;
    struct weir_counters *counters = &node->dataset->counters;
    int rc = node_view(node, out, out, err);
    for (int32_t i = 0; i < *count; i++) {
        node->sel[i] = i;
    }
    if (rc == WEIR_OK) {
        rc = node_predicate(node, join->plan->where, out, node->sel, *count, node->verdict,
                            TALLY_WHERE, err);
    }
    int32_t kept = 0;
    for (int32_t i = 0; rc == WEIR_OK && i < *count; i++) {
        if (node->verdict[i] == 1) {
            node->sel[kept++] = i;
        } else if (node->verdict[i] == VERDICT_THREW) { /* noted already */
            counters->tallies[TALLY_WHERE].rejected++;
            counters->quarantined++;
            node->rejected[node->rejected_count++] = i;
        } else if (node->verdict[i] > VERDICT_THREW) {
            rc = node_reject(node, i, TALLY_BUDGET, node->dataset->breach_text);
        }
    }
    *count = kept;
    if (rc == WEIR_OK) {
        const struct weir_flow flow = {.batch = out, .sel = node->sel, .source = -1};
        rc = node_leave(node, &flow, err);
    }
    return rc;
}

/* A condition is judged over rows, so they are made first; without one only those that leave. */
static int pass_pairs(struct weir_node *node, int32_t count, struct weir_error *err) {
    struct join *join = node->join;
    bool judged = join->plan->where >= 0;
    struct weir_batch *out = judged ? pair_batch(node, count) : NULL;
    int32_t leaving = 0;
    int rc = judged && out == NULL ? full(node, WEIR_E_LIMIT, err) : WEIR_OK;
    rc = rc == WEIR_OK && judged ? judge(node, out, &count, err) : rc;
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        int32_t at = judged ? node->sel[i] : i;
        bool leaves;
        rc = weir_join_meet(join->op, &join->pairs[at], &leaves, err);
        if (leaves && judged) {
            join->sel[leaving++] = at;
        } else if (leaves) {
            join->pairs[leaving++] = join->pairs[at];
        }
    }
    if (rc == WEIR_OK && !judged && leaving > 0) {
        out = pair_batch(node, leaving);
        rc = out == NULL ? full(node, WEIR_E_LIMIT, err) : WEIR_OK;
        for (int32_t i = 0; i < leaving; i++) {
            join->sel[i] = i;
        }
    }
    if (rc == WEIR_OK && leaving > 0) {
        rc = go_on(node, out, leaving, err);
    }
    weir_batch_unref(out);
    return rc;
}

/* Rows of a side that stay alone. */
static int pass_alone(struct weir_node *node, int side, int32_t count, struct weir_error *err) {
    struct join *join = node->join;
    struct weir_batch *out = empty_batch(node, side, count);
    int rc = out != NULL ? put_kept(node, out, side, join->rows, count) : WEIR_E_LIMIT;
    if (rc != WEIR_OK) {
        weir_batch_unref(out);
        return full(node, rc, err);
    }
    for (int32_t i = 0; i < count; i++) {
        join->sel[i] = i;
        join->times[i] = join->rows[i]->time_us;
    }
    rc = go_on(node, out, count, err);
    weir_batch_unref(out);
    return rc;
}

/* --- slices ------------------------------------------------------------------------------------
 */

/* The rest of what was begun, about a piece of it. */
static int step(struct weir_node *node, bool *done, struct weir_error *err) {
    struct join *join = node->join;
    *done = false;
    if (join->fed != NULL) {
        int32_t count = weir_join_pairs(join->op, join->pairs, PIECE_ROWS);
        int rc = count > 0 ? pass_pairs(node, count, err) : WEIR_OK;
        if (rc != WEIR_OK || count == PIECE_ROWS) {
            return rc;
        }
        weir_batch_unref(join->fed);
        join->fed = NULL;
        int64_t unmatched = weir_join_take_unmatched(join->op);
        node->dataset->counters.unmatched += join->counts_unmatched ? unmatched : 0;
    }
    weir_join_advance(join->op, WEIR_LEFT, join->ahead[0]);
    weir_join_advance(join->op, WEIR_RIGHT, join->ahead[1]);
    node->last_watermark = join->ahead[0];
    node->downstream_watermark = join->ahead[1];
    int side;
    int32_t count = weir_join_alone(join->op, join->rows, ALONE_ROWS, &side);
    if (count > 0) {
        int rc = pass_alone(node, side, count, err);
        if (rc != WEIR_OK || weir_join_any_alone(join->op)) {
            return rc;
        }
    }
    *done = true;
    weir_join_expire(join->op, (size_t)join->fed_rows * 2 + EXPIRE_LEAST);
    int64_t watermark = weir_join_watermark(join->op);
    if (watermark <= join->emitted) {
        return WEIR_OK;
    }
    join->emitted = watermark;
    return node_advance(node, watermark, err);
}

static void settle(struct weir_node *node) {
    struct join *join = node->join;
    if (!join->settled) {
        join->settled = true;
        join->ahead[0] = node->last_watermark;
        join->ahead[1] = node->downstream_watermark;
        weir_join_set_watermarks(join->op, join->ahead[0], join->ahead[1]);
        join->emitted = weir_join_watermark(join->op);
    }
}

static int run(struct weir_node *node, struct weir_error *err) {
    bool done;
    int rc = step(node, &done, err);
    if (rc == WEIR_OK && !done && !node->firing) {
        node->firing = true;
        node->graph->firing++;
    }
    return rc;
}

int join_fire(struct weir_node *node, struct weir_error *err) {
    bool done;
    int rc = step(node, &done, err);
    if (rc == WEIR_OK && done) {
        node->firing = false;
        node->graph->firing--;
    }
    return rc;
}

/* More comes before what was begun is done. */
static int finish(struct weir_node *node, struct weir_error *err) {
    int rc = WEIR_OK;
    while (rc == WEIR_OK && node->firing) {
        rc = join_fire(node, err);
    }
    return rc;
}

static void raise(struct join *join, int side, int64_t watermark_us) {
    join->ahead[side] = watermark_us > join->ahead[side] ? watermark_us : join->ahead[side];
}

int join_feed(struct weir_node *node, int side, const struct weir_flow *flow,
              struct weir_error *err) {
    struct join *join = node->join;
    settle(node);
    int rc = finish(node, err);
    if (rc == WEIR_OK && flow->times_us == NULL) {
        rc = weir_error_set(err, WEIR_E_CONFIG,
                            "%s: no event time reaches this join from '%s'; declare `time` there",
                            node->name, side == WEIR_LEFT ? node->from : join->plan->from);
    }
    int32_t late_sel[ROWS_MAX];
    int32_t late = 0;
    if (rc == WEIR_OK) {
        rc = weir_join_feed(join->op, side, flow->batch, flow->sel, flow->count, flow->times_us,
                            flow->watermark_before_us, late_sel, &late, err);
    }
    if (rc == WEIR_OK && late > 0) {
        struct weir_dataset *to = join->late[side];
        node->dataset->counters.late += late;
        if (to != NULL) {
            to->counters.in += late;
            to->counters.out += late;
            rc = node->graph->callbacks.output(node->graph->callbacks.context, to, flow->batch,
                                               late_sel, late, err);
        }
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    join->fed = weir_batch_ref(flow->batch);
    join->fed_side = side;
    join->fed_rows = flow->count;
    node->row_base = ROWS_MAX;
    raise(join, side, flow->watermark_us);
    return run(node, err);
}

int join_advance(struct weir_node *node, int side, int64_t watermark_us, struct weir_error *err) {
    struct join *join = node->join;
    settle(node);
    raise(join, side, watermark_us);
    join->fed_rows = node->firing ? join->fed_rows : 0;
    return node->firing ? WEIR_OK : run(node, err);
}

/* --- state -------------------------------------------------------------------------------------
 */

const struct weir_dataset *join_right(const struct weir_node *node) {
    return node->join->right;
}

int32_t join_cells(struct weir_node *node, struct weir_cell **cells, int32_t capacity) {
    int32_t count = 0;
    for (int s = 0; node->join != NULL && s < 2 && count < capacity; s++) {
        cells[count++] = weir_join_cell(node->join->op, s);
    }
    return count;
}

int32_t join_shows(struct weir_node *node, struct weir_show *shows, int32_t capacity) {
    int32_t count = 0;
    for (int s = 0; node->join != NULL && s < 2 && count < capacity; s++) {
        weir_join_show(node->join->op, s, &shows[count++]);
    }
    return count;
}

int join_restore(struct weir_node *node, struct weir_error *err) {
    return node->join != NULL ? weir_join_restore(node->join->op, err) : WEIR_OK;
}

bool join_same(const struct weir_node *a, const struct weir_node *b) {
    if (a->join == NULL || b->join == NULL) {
        return a->join == b->join;
    }
    return weir_join_shape(a->join->op) == weir_join_shape(b->join->op) &&
           weir_schema_equal(a->join->right->schema, b->join->right->schema);
}

void join_take_state(struct weir_node *node, struct weir_node *from) {
    struct join *to = node->join;
    struct join *old = from->join;
    if (to == NULL || old == NULL) {
        return;
    }
    struct weir_join *op = to->op;
    to->op = old->op;
    old->op = op;
    to->settled = old->settled;
    to->emitted = old->emitted;
    memcpy(to->ahead, old->ahead, sizeof to->ahead);
}

void join_estimate(const struct weir_node *node, size_t bytes[2]) {
    for (int s = 0; s < 2; s++) {
        bytes[s] = weir_join_estimate(node->join->op, s);
    }
}
