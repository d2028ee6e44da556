/* Joins inside a stream: its left rows come through entry and dedup, its right rows from another
 * dataset; what meets goes on to map in batches of its own, the right row in a column behind the
 * left columns, a struct that is null where there is none. What a batch brings may be more than a
 * turn should do: what is left of it goes on in weir_graph_fire, piece by piece. */
#include "pipeline/join.h"

#include <stdlib.h>
#include <string.h>

#include "operator/show.h"

#define BUILDER_BYTES_MAX ((size_t)64 << 20)

int join_full(const struct weir_node *node, int rc, struct weir_error *err) {
    return err != NULL && err->code != WEIR_OK
               ? err->code
               : weir_error_set(err, rc, "%s: the memory cap is reached", node->name);
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
    struct join *join = node->join;
    const struct weir_plan_join *plan = join->plan;
    int32_t *left_on = NULL;
    int32_t *right_on = NULL;
    int rc = columns_of(node->input, plan->left_on, plan->on_count, &left_on, err);
    if (rc == WEIR_OK) {
        rc = columns_of(join->right->schema, plan->right_on, plan->on_count, &right_on, err);
    }
    if (rc == WEIR_OK) {
        rc = join->kind->make(node, left_on, right_on, err);
    }
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
    join->kind = strcmp(plan->what, "temporal") == 0  ? &join_temporal
                 : strcmp(plan->what, "regular") == 0 ? &join_regular
                                                      : &join_interval;
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
                                     ROWS_MAX, BUILDER_BYTES_MAX, err);
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
    join_fed_done(node);
    if (join->op != NULL) {
        join->kind->destroy(join->op);
    }
    free(join->work);
    free(join);
}

/* --- batches -----------------------------------------------------------------------------------
 */

int join_begin_kept(struct weir_node *node, int side, int32_t count,
                    struct weir_column_builder **columns) {
    struct weir_batch_builder *builder = &node->join->builders[side];
    *columns = side == WEIR_LEFT ? builder->columns : builder->columns[0].children;
    return weir_batch_builder_begin_rows(builder, count);
}

int join_finish_row(struct weir_node *node, int side, int rc) {
    struct weir_batch_builder *builder = &node->join->builders[side];
    if (rc == WEIR_OK && side == WEIR_RIGHT) {
        rc = weir_builder_struct(&builder->columns[0]);
    }
    if (rc == WEIR_OK) {
        weir_batch_builder_finish_row(builder);
    }
    return rc;
}

int join_end_kept(struct weir_node *node, struct weir_batch *out, int side, int rc) {
    struct join *join = node->join;
    struct weir_batch *built = weir_batch_builder_take(&join->builders[side]);
    if (rc == WEIR_OK && side == WEIR_RIGHT) {
        rc = weir_batch_borrow(out, join->plan->column, built, 0);
    }
    for (int32_t k = 0; rc == WEIR_OK && side == WEIR_LEFT && k < join->kept_count[0]; k++) {
        rc = weir_batch_borrow(out, join->kept[0][k], built, k);
    }
    weir_batch_unref(built);
    return rc;
}

int join_put_fed(struct weir_node *node, struct weir_batch *out, int32_t count) {
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

struct weir_batch *join_batch(struct weir_node *node, int side, int32_t count) {
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

int join_go_on(struct weir_node *node, struct weir_batch *out, int32_t count,
               struct weir_error *err) {
    struct join *join = node->join;
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
    int rc = count > 0 || node->rejected_count > 0 ? stream_joined(node, &flow, err) : WEIR_OK;
    node->row_base += out->rows;
    return rc;
}

void join_fed_done(struct weir_node *node) {
    weir_batch_unref(node->join->fed);
    node->join->fed = NULL;
}

int join_late(struct weir_node *node, int side, struct weir_batch *batch, const int32_t *sel,
              int32_t count, struct weir_error *err) {
    struct weir_dataset *to = node->join->late[side];
    node->dataset->counters.late += count;
    if (to == NULL || count == 0) {
        return WEIR_OK;
    }
    to->counters.in += count;
    to->counters.out += count;
    return node->graph->callbacks.output(node->graph->callbacks.context, to, batch, sel, count,
                                         err);
}

/* --- slices ------------------------------------------------------------------------------------
 */

static int step(struct weir_node *node, bool *done, struct weir_error *err) {
    struct join *join = node->join;
    int rc = join->kind->step(node, done, err);
    if (join->fed == NULL) { /* which are in the record */
        node->last_watermark = join->ahead[0];
        node->downstream_watermark = join->ahead[1];
    }
    if (rc != WEIR_OK || !*done) {
        return rc;
    }
    int64_t watermark = join->kind->watermark(join);
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
        join->kind->set_watermarks(join->op, join->ahead[0], join->ahead[1]);
        join->emitted = join->kind->watermark(join);
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

bool join_takes_back(const struct weir_node *node) {
    return node->join != NULL && node->join->kind == &join_regular;
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
    if (rc == WEIR_OK && flow->times_us == NULL && !join->plan->by_clock) {
        rc = weir_error_set(err, WEIR_E_CONFIG,
                            "%s: no event time reaches this join from '%s'; declare `time` there",
                            node->name, side == WEIR_LEFT ? node->from : join->plan->from);
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    join->fed = weir_batch_ref(flow->batch);
    join->fed_side = side;
    join->fed_rows = flow->count;
    node->row_base = ROWS_MAX;
    rc = join->kind->feed(node, side, flow, err);
    if (rc != WEIR_OK) {
        return rc;
    }
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
        cells[count++] = node->join->kind->cell(node->join->op, s);
    }
    return count;
}

int32_t join_shows(struct weir_node *node, struct weir_show *shows, int32_t capacity) {
    int32_t count = 0;
    for (int s = 0; node->join != NULL && s < 2 && count < capacity; s++) {
        node->join->kind->show(node->join->op, s, &shows[count++]);
    }
    return count;
}

int join_restore(struct weir_node *node, struct weir_error *err) {
    return node->join != NULL ? node->join->kind->restore(node->join->op, err) : WEIR_OK;
}

bool join_same(const struct weir_node *a, const struct weir_node *b) {
    if (a->join == NULL || b->join == NULL) {
        return a->join == b->join;
    }
    return a->join->kind == b->join->kind &&
           a->join->kind->shape(a->join->op) == b->join->kind->shape(b->join->op) &&
           weir_schema_equal(a->join->right->schema, b->join->right->schema);
}

void join_take_state(struct weir_node *node, struct weir_node *from) {
    struct join *to = node->join;
    struct join *old = from->join;
    if (to == NULL || old == NULL) {
        return;
    }
    void *op = to->op;
    to->op = old->op;
    old->op = op;
    to->settled = old->settled;
    to->emitted = old->emitted;
    memcpy(to->ahead, old->ahead, sizeof to->ahead);
}

void join_estimate(const struct weir_node *node, size_t bytes[2]) {
    for (int s = 0; s < 2; s++) {
        bytes[s] = node->join->kind->estimate(node->join->op, s);
    }
}
