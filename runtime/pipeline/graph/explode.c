/* explode: one row an element of a list, after `where` and before expectations. The rows of a batch
 * leave in pieces of at most ROWS_MAX, each a flow of its own: columns are gathered, the list
 * itself is not (it would be copied once an element), the element stands in a column behind the
 * input's. A piece's rows keep the place, event time and watermark of the row they came from, so
 * what comes of them does not depend on where a piece ends. */
#include <stdlib.h>
#include <string.h>

#include "pipeline/graph/node.h"

struct explode {
    const struct weir_plan_explode *plan;
    struct weir_out **outs; /* of a function that makes the list */
    struct weir_schema *meta;
    /* The rows of `where`, and the elements of the piece at hand. */
    int32_t sel[ROWS_MAX];
    int32_t row[ROWS_MAX];
    int32_t element[ROWS_MAX]; /* -1: the list is null or empty */
    int32_t index[ROWS_MAX];   /* from 1; 0: none */
    int64_t times[ROWS_MAX];
    int64_t wm_before[ROWS_MAX];
    uint8_t thrown[ROWS_MAX];
};

int explode_init(struct weir_node *node, struct weir_error *err) {
    const struct weir_plan_explode *plan = &node->stream->explode;
    if (!plan->present) {
        return WEIR_OK;
    }
    struct explode *explode = node->explode = calloc(1, sizeof(*explode));
    if (explode == NULL || (explode->meta = weir_schema_create()) == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    explode->plan = plan;
    return plan->function >= 0 ? outs_create(plan->made, &explode->outs, err) : WEIR_OK;
}

void explode_fini(struct weir_node *node) {
    struct explode *explode = node->explode;
    if (explode != NULL) {
        if (explode->outs != NULL) {
            outs_destroy(explode->outs, explode->plan->made->count);
        }
        weir_schema_unref(explode->meta);
        free(explode);
    }
}

/* --- the list -----------------------------------------------------------------------------------
 */

struct offence {
    struct weir_node *node;
    struct out_columns *out;
    int rc;
};

static void offender(void *context, int32_t position, const char *message, bool touched) {
    struct offence *offence = context;
    struct explode *explode = offence->node->explode;
    if (touched) {
        out_clear_row(offence->out, explode->outs, explode->sel[position]);
    }
    explode->thrown[position] = 1;
    if (offence->rc == WEIR_OK) {
        offence->rc = node_reject(offence->node, explode->sel[position], TALLY_MAP, message);
    }
}

/* Runs the function that makes lists; rows it throws on leave explode->sel. */
static int make_lists(struct weir_node *node, const struct weir_flow *flow,
                      struct weir_batch *owner, struct weir_column *list, int32_t *count,
                      struct weir_error *err) {
    struct explode *explode = node->explode;
    struct out_columns out = {0};
    int rc = out_begin(owner, explode->plan->made, explode->outs, flow->batch->rows, NULL, &out);
    if (rc == WEIR_OK) {
        rc = node_view(node, flow->batch, owner, err);
    }
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: the memory cap is reached", node->name);
    }
    memset(explode->thrown, 0, (size_t)*count);
    struct weir_call call = {
        .in = node->in,
        .out = out.columns,
        .out_var = explode->outs,
        .sel = explode->sel,
        .end = *count,
        .rows = flow->batch->rows,
        .assigned = out.assigned,
    };
    struct offence offence = {node, &out, WEIR_OK};
    int32_t breached_at;
    rc = node_call(node, explode->plan->function, &call, offender, &offence, &breached_at, err);
    rc = rc == WEIR_OK ? offence.rc : rc;
    for (int32_t i = breached_at; rc == WEIR_OK && i < *count; i++) {
        out_clear_row(&out, explode->outs, explode->sel[i]);
        explode->thrown[i] = 1;
        rc = node_reject(node, explode->sel[i], TALLY_BUDGET, node->dataset->breach_text);
    }
    int32_t kept = 0;
    for (int32_t i = 0; i < *count; i++) {
        if (!explode->thrown[i]) {
            explode->sel[kept++] = explode->sel[i];
        }
    }
    *count = kept;
    if (rc == WEIR_OK && (rc = out_finish(owner, explode->outs, &out)) != WEIR_OK) {
        rc = weir_error_set(err, rc, "%s: the memory cap is reached", node->name);
    }
    *list = out.columns[0];
    return rc;
}

/* --- pieces -------------------------------------------------------------------------------------
 */

static void *copied(struct weir_batch *batch, const void *from, size_t bytes, size_t room) {
    uint8_t *to = weir_batch_alloc(batch, room);
    if (to != NULL) {
        if (from != NULL && bytes > 0) {
            memcpy(to, from, bytes);
        }
        memset(to + bytes, 0, room - bytes);
    }
    return to;
}

/* One more value, null, at the end of the column: what a row without an element takes. */
static int add_null(struct weir_batch *batch, struct weir_column *column) {
    size_t length = (size_t)column->length;
    uint8_t *validity = weir_batch_alloc(batch, length / 8 + 1);
    if (validity == NULL) {
        return WEIR_E_LIMIT;
    }
    memset(validity, 0xff, length / 8 + 1);
    if (column->validity != NULL) {
        memcpy(validity, column->validity, (length + 7) / 8);
    }
    weir_bit_clear(validity, column->length);
    column->validity = validity;
    column->null_count++;
    column->length++;
    size_t width = (size_t)weir_type_width(column->type);
    if (column->codes != NULL) {
        column->codes = copied(batch, column->codes, length * 4, length * 4 + 4);
        return column->codes != NULL ? WEIR_OK : WEIR_E_LIMIT;
    }
    if (width > 0 || column->type == WEIR_TYPE_BOOL) {
        size_t bytes = width > 0 ? length * width : (length + 7) / 8;
        column->values = copied(batch, column->values, bytes, bytes + (width > 0 ? width : 1));
        return column->values != NULL ? WEIR_OK : WEIR_E_LIMIT;
    }
    if (column->type != WEIR_TYPE_STRUCT) {
        size_t bytes = column->offsets != NULL ? (length + 1) * 4 : 0;
        int32_t *offsets = copied(batch, column->offsets, bytes, (length + 2) * 4);
        if (offsets == NULL) {
            return WEIR_E_LIMIT;
        }
        offsets[length + 1] = offsets[length];
        column->offsets = offsets;
        return WEIR_OK;
    }
    size_t bytes = (size_t)column->child_count * sizeof(*column->children);
    column->children = copied(batch, column->children, bytes, bytes);
    for (int32_t c = 0; column->children != NULL && c < column->child_count; c++) {
        int rc = add_null(batch, &column->children[c]);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return column->children != NULL ? WEIR_OK : WEIR_E_LIMIT;
}

static int fill_elements(struct explode *explode, struct weir_batch *out, struct weir_batch *parent,
                         const struct weir_column *list, int32_t count) {
    int32_t to = explode->plan->first;
    struct weir_column elements = list->children[0];
    int32_t nothing = (int32_t)elements.length;
    bool missing = false;
    for (int32_t i = 0; i < count; i++) {
        missing |= explode->element[i] < 0;
        explode->element[i] = explode->element[i] < 0 ? nothing : explode->element[i];
    }
    int rc = missing ? add_null(out, &elements) : WEIR_OK;
    if (rc == WEIR_OK) {
        rc = weir_batch_gather_column(out, to, parent, &elements, explode->element, count);
    }
    if (rc != WEIR_OK || !explode->plan->index) {
        return rc;
    }
    struct weir_column *index = &out->columns[to + 1];
    int32_t *values = weir_batch_alloc(out, (size_t)count * sizeof(*values) + 1);
    uint8_t *validity = weir_batch_alloc(out, (size_t)count / 8 + 1);
    if (values == NULL || validity == NULL) {
        return WEIR_E_LIMIT;
    }
    memset(validity, 0, (size_t)count / 8 + 1);
    for (int32_t i = 0; i < count; i++) {
        values[i] = explode->index[i];
        if (values[i] > 0) {
            weir_bit_set(validity, i);
        } else {
            index->null_count++;
        }
    }
    index->length = count;
    index->values = values;
    index->validity = index->null_count > 0 ? validity : NULL;
    return WEIR_OK;
}

/* The piece's rows in the columns expectations and map see. `owner` holds a made list. */
static struct weir_batch *piece(struct weir_node *node, const struct weir_flow *flow,
                                struct weir_batch *owner, const struct weir_column *list,
                                int32_t count) {
    struct explode *explode = node->explode;
    struct weir_batch *out = weir_batch_create(node->graph->pool, node->input);
    if (out == NULL) {
        return NULL;
    }
    out->rows = count;
    int rc = WEIR_OK;
    for (int32_t c = 0; rc == WEIR_OK && c < explode->plan->first; c++) {
        if (c != explode->plan->column) {
            rc = weir_batch_gather_column(out, c, flow->batch, &flow->batch->columns[c],
                                          explode->row, count);
            continue;
        }
        rc = column_all_null(out, &out->columns[c], count);
    }
    if (rc == WEIR_OK) {
        rc = fill_elements(explode, out, owner != NULL ? owner : flow->batch, list, count);
    }
    if (rc != WEIR_OK) {
        weir_batch_unref(out);
        return NULL;
    }
    return out;
}

/* Where the piece's rows came from: the meta columns of their source rows. */
static struct weir_batch *origin_of(struct weir_node *node, const struct weir_flow *flow,
                                    int32_t count) {
    struct explode *explode = node->explode;
    struct weir_batch *origin = flow->origin;
    int32_t first = origin->column_count - WEIR_META_COUNT;
    for (int32_t m = explode->meta->count; m < WEIR_META_COUNT; m++) {
        if (weir_schema_add(explode->meta, &origin->schema->fields[first + m]) != WEIR_OK) {
            return NULL;
        }
    }
    struct weir_batch *out = weir_batch_create(node->graph->pool, explode->meta);
    int rc = out != NULL ? WEIR_OK : WEIR_E_LIMIT;
    for (int32_t m = 0; rc == WEIR_OK && m < WEIR_META_COUNT; m++) {
        rc = weir_batch_gather_column(out, m, origin, &origin->columns[first + m], explode->row,
                                      count);
    }
    if (rc != WEIR_OK) {
        weir_batch_unref(out);
        return NULL;
    }
    out->rows = count;
    return out;
}

static int emit_piece(struct weir_node *node, const struct weir_flow *flow,
                      struct weir_batch *owner, const struct weir_column *list, int32_t count,
                      struct weir_error *err) {
    struct explode *explode = node->explode;
    struct weir_flow next = *flow;
    next.count = count;
    next.sel = all_rows(); /* of the piece; the flow's are rows they came from */
    next.batch = piece(node, flow, owner, list, count);
    next.origin = flow->origin != NULL ? origin_of(node, flow, count) : NULL;
    int rc = WEIR_OK;
    if (next.batch == NULL || (flow->origin != NULL && next.origin == NULL)) {
        rc = weir_error_set(err, WEIR_E_LIMIT, "%s: the memory cap is reached", node->name);
    }
    for (int32_t i = 0; i < count; i++) {
        if (flow->times_us != NULL) {
            explode->times[i] = flow->times_us[explode->row[i]];
        }
        if (flow->watermark_before_us != NULL) {
            explode->wm_before[i] = flow->watermark_before_us[explode->row[i]];
        }
    }
    next.times_us = flow->times_us != NULL ? explode->times : NULL;
    next.watermark_before_us = flow->watermark_before_us != NULL ? explode->wm_before : NULL;
    if (rc == WEIR_OK) {
        rc = waiting_at(node, 0) != NULL ? waiting_come(waiting_at(node, 0), &next, err)
                                         : stream_entered(node, &next, err);
    }
    node->row_base += count;
    weir_batch_unref(next.batch);
    weir_batch_unref(next.origin);
    return rc;
}

/* --- rows ---------------------------------------------------------------------------------------
 */

static int each_row(struct weir_node *node, const struct weir_flow *flow, struct weir_batch *owner,
                    const struct weir_column *list, int32_t rows, struct weir_error *err) {
    struct explode *explode = node->explode;
    struct weir_counters *counters = &node->dataset->counters;
    struct weir_flow part = *flow;
    int32_t count = 0;
    int rc = WEIR_OK;
    for (int32_t r = 0; rc == WEIR_OK && r < rows; r++) {
        int32_t row = explode->sel[r];
        bool null = weir_column_is_null(list, row);
        int32_t at = null ? 0 : list->offsets[row];
        int32_t elements = null ? 0 : list->offsets[row + 1] - at;
        if (elements == 0 && !explode->plan->keep_empty) {
            counters->filtered++;
            continue;
        }
        counters->in += elements > 1 ? elements - 1 : 0;
        for (int32_t k = 0; rc == WEIR_OK && k < (elements > 0 ? elements : 1); k++) {
            if (count == ROWS_MAX) { /* time has not come further than the row at hand */
                part.watermark_us = flow->watermark_before_us != NULL
                                        ? flow->watermark_before_us[row]
                                        : flow->watermark_us;
                rc = emit_piece(node, &part, owner, list, count, err);
                count = 0;
            }
            explode->row[count] = row;
            explode->element[count] = elements > 0 ? at + k : -1;
            explode->index[count++] = elements > 0 ? k + 1 : 0;
        }
    }
    if (rc == WEIR_OK) {
        rc = count > 0 ? emit_piece(node, flow, owner, list, count, err)
             : waiting_at(node, 0) != NULL
                 ? waiting_advance(waiting_at(node, 0), flow->watermark_us, err)
                 : node_advance(node, flow->watermark_us, err);
    }
    return rc;
}

int explode_process(struct weir_node *node, const struct weir_flow *flow, struct weir_error *err) {
    struct explode *explode = node->explode;
    int32_t count = flow->count;
    struct weir_batch *owner = NULL;
    struct weir_column list = {0};
    int rc = WEIR_OK;
    memcpy(explode->sel, flow->sel, (size_t)count * sizeof(*flow->sel));
    if (count > 0 && explode->plan->function >= 0) {
        owner = weir_batch_create(node->graph->pool, explode->plan->made);
        rc = owner == NULL
                 ? weir_error_set(err, WEIR_E_LIMIT, "%s: the memory cap is reached", node->name)
                 : make_lists(node, flow, owner, &list, &count, err);
    } else if (count > 0) {
        list = flow->batch->columns[explode->plan->column];
    }
    if (rc == WEIR_OK) { /* those refused so far are rows of this batch, not of a piece */
        rc = node_leave(node, flow, err);
    }
    node->row_base = ROWS_MAX;
    if (rc == WEIR_OK) {
        rc = each_row(node, flow, owner, &list, count, err);
    }
    node->row_base = 0;
    weir_batch_unref(owner);
    return rc;
}
