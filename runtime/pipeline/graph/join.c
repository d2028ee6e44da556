/* Joins inside a stream: its left rows come through entry and dedup, its right rows from another
 * dataset; what meets goes on to map in batches of its own, the right row in a column behind the
 * left columns, a struct that is null where there is none. What a batch brings may be more than a
 * turn should do: what is left of it goes on in weir_graph_fire, piece by piece. */
#include "pipeline/graph/join.h"

#include <stdlib.h>
#include <string.h>

#include "operator/show.h"

#define BUILDER_BYTES_MAX ((size_t)64 << 20)

int join_full(const struct join *join, int rc, struct weir_error *err) {
    return err != NULL && err->code != WEIR_OK
               ? err->code
               : weir_error_set(err, rc, "%s: the memory cap is reached", join->label);
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

static int make_operator(struct join *join, struct weir_error *err) {
    const struct weir_plan_join *plan = join->plan;
    int32_t *left_on = NULL;
    int32_t *right_on = NULL;
    int rc = columns_of(join->node->input, plan->left_on, plan->on_count, &left_on, err);
    if (rc == WEIR_OK) {
        rc = columns_of(join->right->schema, plan->right_on, plan->on_count, &right_on, err);
    }
    if (rc == WEIR_OK) {
        rc = join->kind->make(join, left_on, right_on, err);
    }
    free(left_on);
    free(right_on);
    return rc;
}

static int add_late(struct join *join, int side, const char *name, struct weir_error *err) {
    struct weir_node *node = join->node;
    struct weir_schema *schema = NULL;
    if (name == NULL) {
        return WEIR_OK;
    }
    join->late[side] = weir_graph_find(node->graph, name); /* another join's of this stream */
    if (join->late[side] != NULL && side == WEIR_LEFT && join != node->join) {
        return WEIR_OK;
    }
    int rc = side == WEIR_LEFT
                 ? add_fields(&schema, node->input->fields, NULL, node->stream->entered, err)
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

static int make_schemas(struct join *join, struct weir_error *err) {
    const struct weir_plan_join *plan = join->plan;
    const struct weir_schema *input = join->node->input;
    const struct weir_field *column = &input->fields[plan->column];
    const char **names = calloc((size_t)column->child_count + 1, sizeof(*names));
    for (int32_t i = 0; names != NULL && i < column->child_count; i++) {
        names[i] = column->children[i].name;
    }
    join->kept_count[0] = plan->left_count;
    join->kept_count[1] = column->child_count;
    int rc = names == NULL ? weir_error_set(err, WEIR_E_NOMEM, "out of memory")
                           : columns_of(input, plan->left, plan->left_count, &join->kept[0], err);
    if (rc == WEIR_OK) {
        rc = columns_of(join->right->schema, names, column->child_count, &join->kept[1], err);
    }
    free(names);
    if (rc == WEIR_OK) {
        rc = add_fields(&join->schemas[0], input->fields, join->kept[0], plan->left_count, err);
    }
    if (rc == WEIR_OK) {
        rc = add_fields(&join->schemas[1], column, NULL, 1, err);
    }
    if (rc == WEIR_OK) {
        rc = add_fields(&join->flat, join->right->schema->fields, join->kept[1],
                        join->kept_count[1], err);
    }
    return rc;
}

static int make(struct join *join, struct weir_error *err) {
    const struct weir_plan_join *plan = join->plan;
    join->kind = strcmp(plan->what, "temporal") == 0  ? &join_temporal
                 : strcmp(plan->what, "regular") == 0 ? &join_regular
                                                      : &join_interval;
    join->emitted = join->ahead[0] = join->ahead[1] = WEIR_WATERMARK_NONE;
    join->right = weir_graph_find(join->node->graph, plan->from);
    if (join->right == NULL) {
        return weir_error_set(err, WEIR_E_CONFIG, "joins '%s', which nothing writes", plan->from);
    }
    bool first = join == join->node->join;
    if (asprintf(&join->label, "%s%s%s", join->node->name, first ? "" : "/",
                 first ? "" : plan->name) < 0) {
        join->label = NULL;
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    int rc = make_schemas(join, err);
    for (int s = 0; rc == WEIR_OK && s < 2; s++) {
        rc = weir_batch_builder_init(&join->builders[s], join->node->graph->pool, join->schemas[s],
                                     ROWS_MAX, BUILDER_BYTES_MAX, err);
        join->has_builder[s] = rc == WEIR_OK;
    }
    if (rc == WEIR_OK) {
        rc = make_operator(join, err);
    }
    rc = rc == WEIR_OK ? add_late(join, WEIR_LEFT, plan->late_left, err) : rc;
    return rc == WEIR_OK ? add_late(join, WEIR_RIGHT, plan->late_right, err) : rc;
}

int join_init(struct weir_node *node, struct weir_error *err) {
    const struct weir_plan_stream *stream = node->stream;
    if (stream->join_count == 0) {
        return WEIR_OK;
    }
    node->join = calloc((size_t)stream->join_count, sizeof(*node->join));
    if (node->join == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    node->join_count = stream->join_count;
    node->downstream_watermark = WEIR_WATERMARK_NONE; /* the first right side's, in the record */
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < node->join_count; i++) {
        struct join *join = &node->join[i];
        join->node = node;
        join->plan = &stream->joins[i];
        join->next = i + 1 < node->join_count ? join + 1 : NULL;
        rc = make(join, err);
        rc = rc == WEIR_OK ? lookup_create(node, i, true, &join->lookups, err) : rc;
    }
    return rc;
}

static void fini(struct join *join) {
    for (int s = 0; s < 2; s++) {
        if (join->has_builder[s]) {
            weir_batch_builder_fini(&join->builders[s]);
        }
        weir_schema_unref(join->schemas[s]);
        free(join->kept[s]);
    }
    weir_schema_unref(join->flat);
    join_queue_fini(join);
    join_fed_done(join);
    if (join->op != NULL) {
        join->kind->destroy(join->op);
    }
    lookup_destroy(join->lookups);
    free(join->work);
    free(join->label);
}

void join_fini(struct weir_node *node) {
    for (int32_t i = 0; i < node->join_count; i++) {
        fini(&node->join[i]);
    }
    free(node->join);
}

/* --- batches -----------------------------------------------------------------------------------
 */

int join_begin_kept(struct join *join, int side, int32_t count,
                    struct weir_column_builder **columns) {
    struct weir_batch_builder *builder = &join->builders[side];
    *columns = side == WEIR_LEFT ? builder->columns : builder->columns[0].children;
    return weir_batch_builder_begin_rows(builder, count);
}

int join_finish_row(struct join *join, int side, int rc) {
    struct weir_batch_builder *builder = &join->builders[side];
    if (rc == WEIR_OK && side == WEIR_RIGHT) {
        rc = weir_builder_struct(&builder->columns[0]);
    }
    if (rc == WEIR_OK) {
        weir_batch_builder_finish_row(builder);
    }
    return rc;
}

int join_end_kept(struct join *join, struct weir_batch *out, int side, int rc) {
    struct weir_batch *built = weir_batch_builder_take(&join->builders[side]);
    if (rc == WEIR_OK && side == WEIR_RIGHT) {
        rc = weir_batch_borrow(out, join->plan->column, built, 0);
    }
    for (int32_t k = 0; rc == WEIR_OK && side == WEIR_LEFT && k < join->kept_count[0]; k++) {
        rc = weir_batch_borrow(out, join->kept[0][k], built, k);
    }
    weir_batch_unref(built);
    if (rc == WEIR_OK && side == WEIR_LEFT) {
        beside_gather(join, out);
    }
    return rc;
}

int join_put_fed(struct join *join, struct weir_batch *out, int32_t count) {
    struct weir_batch *fed = join->fed;
    int rc = WEIR_OK;
    if (join->fed_side == WEIR_LEFT) {
        for (int32_t k = 0; rc == WEIR_OK && k < join->kept_count[0]; k++) {
            int32_t c = join->kept[0][k];
            rc = weir_batch_gather_column(out, c, fed, &fed->columns[c], join->sel, count);
        }
        if (rc == WEIR_OK) {
            beside_gather(join, out);
        }
        return rc;
    }
    struct weir_batch *flat = weir_batch_create(join->node->graph->pool, join->flat);
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

struct weir_batch *join_batch(struct join *join, int side, int32_t count) {
    struct weir_batch *out = weir_batch_create(join->node->graph->pool, join->node->input);
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

static int32_t place_behind(const struct join *join) {
    return (int32_t)(join - join->node->join) + 1;
}

/* The rows of a join are the left ones of the next. */
static int pass_on(struct join *join, struct weir_flow *flow, struct weir_error *err) {
    join->node->row_base += flow->batch->rows;
    int rc = node_leave(join->node, flow, err);
    struct waiting *waiting = waiting_at(join->node, place_behind(join));
    return rc != WEIR_OK     ? rc
           : waiting != NULL ? waiting_come(waiting, flow, err)
                             : join_enter(join->next, flow, err);
}

int join_go_on(struct join *join, struct weir_batch *out, int32_t count, struct weir_error *err) {
    struct weir_node *node = join->node;
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
    if (count == 0 && node->rejected_count == 0) {
        node->row_base += out->rows;
        return WEIR_OK;
    }
    int rc = beside_spread(node, join->plan->column, join->plan->beside, out);
    if (rc != WEIR_OK) {
        return join_full(join, rc, err);
    } else if (join->next != NULL) {
        return pass_on(join, &flow, err);
    }
    struct waiting *waiting = waiting_at(node, place_behind(join));
    rc = waiting != NULL ? waiting_come(waiting, &flow, err) : stream_joined(node, &flow, err);
    node->row_base += out->rows;
    return rc;
}

void join_fed_done(struct join *join) {
    weir_batch_unref(join->fed);
    join->fed = NULL;
}

int join_late(struct join *join, int side, struct weir_batch *batch, const int32_t *sel,
              int32_t count, struct weir_error *err) {
    struct weir_graph *graph = join->node->graph;
    struct weir_dataset *to = join->late[side];
    join->node->dataset->counters.late += count;
    if (to == NULL || count == 0) {
        return WEIR_OK;
    }
    to->counters.in += count;
    to->counters.out += count;
    return graph->callbacks.output(graph->callbacks.context, to, batch, sel, count, err);
}

/* --- slices ------------------------------------------------------------------------------------
 */

static int step(struct join *join, bool *done, struct weir_error *err) {
    struct weir_node *node = join->node;
    int rc = join->kind->step(join, done, err);
    if (join->fed == NULL && join == node->join) { /* which are in the record */
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
    struct waiting *waiting = waiting_at(node, place_behind(join));
    return waiting != NULL      ? waiting_advance(waiting, watermark, err)
           : join->next != NULL ? join_advance(join->next, WEIR_LEFT, watermark, err)
                                : node_advance(node, watermark, err);
}

/* What was recorded: the watermarks of the first, and of the others the right ones. */
static void settle(struct join *join) {
    struct weir_node *node = join->node;
    if (join->settled) {
        return;
    }
    join->settled = true;
    if (join == node->join) {
        join->ahead[0] = node->last_watermark;
        join->ahead[1] = node->downstream_watermark;
    } else {
        settle(join - 1);
        join->ahead[0] = (join - 1)->emitted;
    }
    join->kind->set_watermarks(join->op, join->ahead[0], join->ahead[1]);
    join->emitted = join->kind->watermark(join);
}

static void set_firing(struct join *join, bool firing) {
    struct weir_node *node = join->node;
    bool any = false;
    join->firing = firing;
    for (int32_t i = 0; i < node->join_count; i++) {
        any |= node->join[i].firing;
    }
    node->graph->firing += any - node->firing;
    node->firing = any;
}

/* A piece of what it has begun; of what came meanwhile the next, when it is done with that. */
static int fire(struct join *join, struct weir_error *err) {
    bool done = false;
    int rc = join->waits ? WEIR_OK : step(join, &done, err);
    if (rc == WEIR_OK && done && join->queue != NULL) {
        done = false;
        rc = join_next(join, err);
    }
    if (rc == WEIR_OK && done == join->firing) {
        set_firing(join, !done);
    }
    return rc;
}

bool join_takes_back(const struct join *join) {
    return join->kind == &join_regular;
}

bool join_reads_changes(const struct weir_node *node) {
    return node->join != NULL && join_takes_back(node->join);
}

struct weir_node *join_node(const struct join *join) {
    return join->node;
}

/* The last first, so that what leaves the one before finds it empty. */
int join_fire(struct weir_node *node, struct weir_error *err) {
    int32_t i = node->join_count - 1;
    while (i > 0 && !node->join[i].firing) {
        i--;
    }
    return fire(&node->join[i], err);
}

/* More comes before what was begun is done. */
static int finish(struct join *join, struct weir_error *err) {
    int rc = WEIR_OK;
    while (rc == WEIR_OK && join->firing && !join->waits) {
        rc = fire(join, err);
    }
    return rc;
}

static void raise(struct join *join, int side, int64_t watermark_us) {
    join->ahead[side] = watermark_us > join->ahead[side] ? watermark_us : join->ahead[side];
}

int join_begin(struct join *join, int side, const struct weir_flow *flow, bool first,
               struct weir_error *err) {
    join->fed = weir_batch_ref(flow->batch);
    join->fed_side = side;
    join->fed_rows = flow->count;
    if (first && (side == WEIR_RIGHT || join == join->node->join)) { /* else it is counted on */
        join->node->row_base = ROWS_MAX;
    }
    return join->kind->feed(join, side, flow, err);
}

/* Behind what waits, or is to wait itself: a piece of it goes on at once if it need not. */
static int feed_queued(struct join *join, int side, const struct weir_flow *flow,
                       struct weir_error *err) {
    int rc = join_queue(join, side, flow, err);
    if (rc == WEIR_OK && !join->firing) {
        set_firing(join, true);
        rc = fire(join, err);
        rc = rc == WEIR_OK && join->fed != NULL ? fire(join, err) : rc;
    }
    return rc;
}

int join_feed(struct join *join, int side, const struct weir_flow *flow, struct weir_error *err) {
    struct weir_node *node = join->node;
    settle(join);
    int rc = finish(join, err);
    if (rc == WEIR_OK && flow->times_us == NULL && !join->plan->by_clock) {
        rc = weir_error_set(err, WEIR_E_CONFIG,
                            "%s: no event time reaches this join from '%s'; declare `time` there",
                            node->name, side == WEIR_LEFT ? node->from : join->plan->from);
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    if (join->waits || (join->kind->disk != NULL && join->kind->disk->uses(join->op))) {
        return feed_queued(join, side, flow, err);
    }
    rc = join_begin(join, side, flow, true, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    raise(join, side, flow->watermark_us);
    return fire(join, err);
}

int join_enter(struct join *join, const struct weir_flow *flow, struct weir_error *err) {
    if (join->lookups == NULL) {
        return flow->count > 0 ? join_feed(join, WEIR_LEFT, flow, err)
                               : join_advance(join, WEIR_LEFT, flow->watermark_us, err);
    }
    int32_t sel[ROWS_MAX];
    struct weir_flow found = *flow;
    struct weir_batch *batch = NULL;
    memcpy(sel, flow->sel, (size_t)flow->count * sizeof(*sel));
    int rc = lookup_join(join->node, join->lookups, flow, sel, &found.count, &batch, err);
    found.batch = batch;
    found.sel = sel;
    if (rc == WEIR_OK) { /* those that found nothing, with the columns they had */
        rc = node_leave(join->node, flow, err);
    }
    if (rc == WEIR_OK) {
        rc = found.count > 0 ? join_feed(join, WEIR_LEFT, &found, err)
                             : join_advance(join, WEIR_LEFT, flow->watermark_us, err);
    }
    weir_batch_unref(batch);
    return rc;
}

void join_reach(struct join *join, int side, int64_t watermark_us) {
    raise(join, side, watermark_us);
    join->fed_rows = join->firing ? join->fed_rows : 0;
}

int join_advance(struct join *join, int side, int64_t watermark_us, struct weir_error *err) {
    settle(join);
    if (join->queue != NULL) {
        const struct weir_flow flow = {.watermark_us = watermark_us};
        return join_queue(join, side, &flow, err);
    }
    join_reach(join, side, watermark_us);
    return join->firing ? WEIR_OK : fire(join, err);
}

/* --- state -------------------------------------------------------------------------------------
 */

struct join *join_at(const struct weir_node *node, int32_t i) {
    return &node->join[i];
}

const struct weir_dataset *join_right(const struct weir_node *node, int32_t i) {
    return node->join[i].right;
}

struct lookups *join_lookups(const struct weir_node *node, int32_t i) {
    return node->join[i].lookups;
}

const char *join_name(const struct weir_node *node, int32_t i) {
    return node->join[i].plan->name;
}

int64_t *join_right_watermark(const struct weir_node *node, int32_t i) {
    return &node->join[i].ahead[1];
}

int32_t join_cells(struct weir_node *node, struct weir_cell **cells, int32_t capacity) {
    int32_t count = 0;
    for (int32_t i = 0; i < node->join_count * 2 && count < capacity; i++) {
        struct join *join = &node->join[i / 2];
        cells[count++] = join->kind->cell(join->op, i % 2);
    }
    return count;
}

int32_t join_shows(struct weir_node *node, struct weir_show *shows, int32_t capacity) {
    int32_t count = 0;
    for (int32_t i = 0; i < node->join_count * 2 && count < capacity; i++) {
        struct join *join = &node->join[i / 2];
        join->kind->show(join->op, i % 2, &shows[count++]);
    }
    return count;
}

int join_restore(struct weir_node *node, struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < node->join_count; i++) {
        rc = node->join[i].kind->restore(node->join[i].op, err);
    }
    return rc;
}

/* The join whose state another form of the stream goes on with: the first with the first, the
 * others by name, as the state's own names are. NULL: it has none. */
static struct join *same_join(const struct weir_node *node, const struct join *other) {
    for (int32_t i = 0; i < node->join_count; i++) {
        bool first = other == other->node->join;
        if (i == 0 ? first : !first && strcmp(node->join[i].label, other->label) == 0) {
            return &node->join[i];
        }
    }
    return NULL;
}

bool columns_agree(const struct weir_schema *before, int32_t count,
                   const struct weir_schema *after) {
    for (int32_t i = 0; i < count; i++) {
        int32_t at = weir_schema_find(after, before->fields[i].name);
        if (at >= 0 && (!weir_field_same_type(&before->fields[i], &after->fields[at]) ||
                        (after->fields[at].nullable && !before->fields[i].nullable))) {
            return false;
        }
    }
    return true;
}

const char *join_changed(const struct weir_node *old, const struct weir_node *node) {
    for (int32_t i = 0; i < old->join_count; i++) {
        const struct join *a = &old->join[i];
        const struct join *b = same_join(node, a);
        if (b == NULL || a->kind != b->kind || a->kind->shape(a->op) != b->kind->shape(b->op) ||
            !columns_agree(a->right->schema, a->right->schema->count, b->right->schema)) {
            return a->plan->name;
        }
    }
    return old->join_count == 0 && node->join_count > 0 ? node->join->plan->name : NULL;
}

void join_take_state(struct weir_node *node, struct weir_node *from) {
    for (int32_t i = 0; i < from->join_count; i++) {
        struct join *old = &from->join[i];
        struct join *to = same_join(node, old);
        if (to != NULL) {
            void *op = to->op;
            to->op = old->op;
            old->op = op;
            to->kind->follow(to->op, old->op);
            to->settled = old->settled;
            to->emitted = old->emitted;
            memcpy(to->ahead, old->ahead, sizeof to->ahead);
        }
    }
}

void join_estimate(const struct weir_node *node, int32_t i, size_t bytes[2]) {
    for (int s = 0; s < 2; s++) {
        bytes[s] = node->join[i].kind->estimate(node->join[i].op, s);
    }
}
