/* Changelogs in streams (batch/change.h). A row that takes something back, -U or -D, is not judged:
 * where, expectations and map see after-images alone, and a delete always passes. An update that
 * `where` leaves out takes its row out of the dataset, so it leaves as a delete; one that is
 * quarantined or dropped leaves the old row as it was, so the -U in front of it goes too.
 *
 * The changelog of a model has whole rows in front of its updates: there both are judged and mapped
 * alike, so that what measures take back downstream is what they added. */
#include <stdlib.h>
#include <string.h>

#include "batch/change.h"
#include "pipeline/graph/node.h"

enum { JUDGED, TAKES_BACK, LEAVES };

int64_t change_kind(const struct weir_node *node, const struct weir_batch *batch, int32_t row) {
    return weir_change_read(&batch->columns[node->change_column], row);
}

int change_init(struct weir_node *node) {
    bool takes_back = node->model != NULL && node->model->retracts;
    node->change_whole = takes_back || (node->stream != NULL && node->stream->changes_whole);
    node->change_column =
        node->stream != NULL || takes_back ? weir_schema_find(node->input, WEIR_CHANGE_COLUMN) : -1;
    if (node->change_column >= 0) {
        uint8_t type = node->input->fields[node->change_column].type;
        if (type < WEIR_TYPE_INT8 || type > WEIR_TYPE_INT64) {
            node->change_column = -1;
        }
    }
    int32_t joins = node->stream != NULL ? node->stream->join_count : 0;
    for (int32_t i = 0; i < joins && !node->stream->joins[0].left_changes; i++) {
        if (node->stream->joins[i].change >= 0) {
            node->change_column = -1; /* the join adds it */
        }
    }
    if (node->change_column < 0) {
        return WEIR_OK;
    }
    node->exempt = calloc(ROWS_MAX, 1);
    node->signs = calloc(ROWS_MAX, 1);
    return node->exempt != NULL && node->signs != NULL ? WEIR_OK : WEIR_E_NOMEM;
}

void change_begin(struct weir_node *node, const struct weir_flow *flow) {
    node->leaving = false;
    if (node->change_column < 0) {
        return;
    }
    const struct weir_column *column = &flow->batch->columns[node->change_column];
    for (int32_t i = 0; i < flow->count; i++) {
        int32_t row = flow->sel[i];
        bool takes_back = weir_change_takes_back(weir_change_read(column, row));
        node->exempt[row] = takes_back && !node->change_whole ? TAKES_BACK : JUDGED;
    }
}

int change_refuse(struct weir_node *node, const struct weir_flow *flow, int32_t *sel,
                  int32_t *count, struct weir_error *err) {
    int32_t kept = 0;
    if (node->change_column < 0 || node->change_whole ||
        (node->graph->partitions < 2 && node->rule == NULL)) {
        return WEIR_OK;
    }
    for (int32_t i = 0; i < *count; i++) {
        sel[kept++] = sel[i];
        if (change_kind(node, flow->batch, sel[i]) != WEIR_CHANGE_TRUNCATE) {
            continue;
        }
        kept--;
        int rc = node_reject(
            node, sel[i], TALLY_TRUNCATE,
            node->rule != NULL
                ? "the table was truncated, and a rule, which goes by key, has not heard of it: "
                  "DELETE its rows"
                : "the table was truncated, but its topic has several partitions, so that nobody "
                  "knows which rows came before: give the table a topic of one partition, or "
                  "DELETE its rows");
        if (rc != WEIR_OK) {
            return weir_error_set(err, rc, "%s: too many reasons in one batch", node->name);
        }
    }
    *count = kept;
    return WEIR_OK;
}

void change_after(struct weir_node *node, const struct weir_flow *flow, int32_t *sel,
                  int32_t *count) {
    int32_t kept = 0;
    for (int32_t i = 0; node->change_column >= 0 && i < *count; i++) {
        bool before = change_kind(node, flow->batch, sel[i]) == WEIR_CHANGE_BEFORE;
        node->dataset->counters.filtered += before;
        sel[kept] = sel[i];
        kept += !before;
    }
    *count = node->change_column >= 0 ? kept : *count;
}

bool change_leaves(struct weir_node *node, const struct weir_flow *flow, int32_t row) {
    if (node->change_column < 0 ||
        weir_change_read(&flow->batch->columns[node->change_column], row) != WEIR_CHANGE_AFTER) {
        return false;
    }
    if (node->change_whole) { /* its old row, judged just before, is all there is to say */
        int32_t before = row - 1;
        if (before >= 0 && weir_change_read(&flow->batch->columns[node->change_column], before) ==
                               WEIR_CHANGE_BEFORE) {
            node->exempt[before] = LEAVES;
            node->leaving = true;
        }
        return false;
    }
    if (node->rule != NULL) { /* it has no row that would have to leave */
        return false;
    }
    node->exempt[row] = LEAVES;
    node->leaving = true;
    return true;
}

void change_signs(struct weir_node *node, const struct weir_flow *flow) {
    const struct weir_column *column = &flow->batch->columns[node->change_column];
    for (int32_t i = 0; i < flow->count; i++) {
        int32_t row = flow->sel[i];
        node->signs[row] = (weir_change_read(column, row) & 1) != 0 ? -1 : 1;
    }
}

int32_t change_split(const struct weir_node *node, int32_t *sel, int32_t count,
                     struct change_split *split) {
    split->count = 0;
    if (node->change_column < 0 || node->change_whole) {
        return count;
    }
    memcpy(split->rows, sel, (size_t)count * sizeof(*sel));
    split->count = count;
    int32_t judged = 0;
    for (int32_t i = 0; i < count; i++) {
        if (node->exempt[sel[i]] == JUDGED) {
            sel[judged++] = sel[i];
        }
    }
    return judged;
}

/* The -U of the update that follows it in the batch. */
static bool is_before_of(const struct weir_node *node, const struct weir_flow *flow, int32_t row,
                         int32_t next) {
    const struct weir_column *column = &flow->batch->columns[node->change_column];
    return next == row + 1 && weir_change_read(column, row) == WEIR_CHANGE_BEFORE &&
           weir_change_read(column, next) == WEIR_CHANGE_AFTER;
}

int32_t change_join(const struct weir_node *node, const struct weir_flow *flow,
                    const struct change_split *split, int32_t *sel, int32_t count) {
    int32_t alive[ROWS_MAX];
    int32_t next = 0;
    int32_t kept = 0;
    if (node->change_column < 0 || node->change_whole) {
        return count;
    }
    memcpy(alive, sel, (size_t)count * sizeof(*sel));
    for (int32_t i = 0; i < split->count; i++) {
        int32_t row = split->rows[i];
        if (node->exempt[row] != JUDGED) {
            sel[kept++] = row;
        } else if (next < count && alive[next] == row) {
            next++;
            sel[kept++] = row;
        } else if (kept > 0 && is_before_of(node, flow, sel[kept - 1], row)) {
            kept--;
        }
    }
    return kept;
}

int change_mark(const struct weir_node *node, struct weir_batch *out) {
    int32_t at = node->leaving ? weir_schema_find(out->schema, WEIR_CHANGE_COLUMN) : -1;
    if (at < 0) {
        return WEIR_OK;
    }
    struct weir_column *column = &out->columns[at];
    size_t width = (size_t)weir_type_width(column->type);
    uint8_t *values = weir_batch_alloc(out, width * (size_t)out->rows + 8);
    if (values == NULL) {
        return WEIR_E_LIMIT;
    }
    memcpy(values, column->values, width * (size_t)out->rows);
    for (int32_t row = 0; row < out->rows; row++) {
        if (node->exempt[row] == LEAVES) {
            memset(values + (size_t)row * width, 0, width);
            values[(size_t)row * width] = WEIR_CHANGE_DELETE; /* little-endian, as columns are */
        }
    }
    column->values = values;
    return WEIR_OK;
}

int change_having(struct weir_batch *out, const uint8_t *verdict, int32_t *sel, int32_t *count) {
    int32_t at = weir_schema_find(out->schema, WEIR_CHANGE_COLUMN);
    int32_t kept = 0;
    int8_t *changes = NULL;
    if (at >= 0) {
        changes = weir_batch_alloc(out, (size_t)out->rows + 8);
        if (changes == NULL) {
            return WEIR_E_LIMIT;
        }
        memcpy(changes, out->columns[at].values, (size_t)out->rows);
        out->columns[at].values = changes;
    }
    for (int32_t row = 0; row < *count; row++) {
        bool leaves = verdict[row] == 1;
        bool pair = changes != NULL && changes[row] == WEIR_CHANGE_BEFORE && row + 1 < *count;
        if (pair && leaves != (verdict[row + 1] == 1)) {
            int32_t one = leaves ? row : row + 1;
            changes[one] = leaves ? WEIR_CHANGE_DELETE : WEIR_CHANGE_INSERT;
            sel[kept++] = one;
        } else if (leaves) {
            sel[kept++] = row;
            if (pair) {
                sel[kept++] = row + 1;
            }
        }
        row += pair;
    }
    *count = kept;
    return WEIR_OK;
}
