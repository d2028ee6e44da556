/* Several datasets read as one, by column name. Rows keep their numbers, so they still know where
 * they came from; columns are borrowed, those a dataset lacks are null, and `_from` says which it
 * was. Where the reader has no time of its own, its watermark is the least of theirs: but for those
 * that wait for nobody any more. Where it has one, each dataset's partitions are partitions of it,
 * and each dataset holds time until its first rows come: two may stem from one source, and what one
 * of them has read says nothing of the other. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pipeline/graph/node.h"

struct union_input {
    struct weir_dataset *dataset;
    int32_t *columns; /* by column of the reader's input: of the dataset's, or -1 */
    int32_t waited;   /* the partition of the reader's time that stands for it; -1: none yet */
    bool came;
};

struct weir_union {
    struct union_input *inputs;
    int32_t count;
    int32_t from_column; /* `_from`, or -1 */
    int64_t now;         /* never goes back */
    int64_t before[ROWS_MAX];
    char partition[UNION_PARTITION_BYTES];
};

int union_create(struct weir_node *node, const char *const *from, int32_t count,
                 struct weir_error *err) {
    if (count < 2) {
        return WEIR_OK;
    }
    struct weir_union *u = calloc(1, sizeof *u);
    node->joined = u;
    if (u == NULL || (u->inputs = calloc((size_t)count, sizeof *u->inputs)) == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", node->name);
    }
    u->now = WEIR_WATERMARK_NONE;
    u->count = count;
    u->from_column = weir_schema_find(node->input, "_from");
    for (int32_t i = 0; i < count; i++) {
        struct union_input *input = &u->inputs[i];
        input->waited = -1;
        input->dataset = weir_graph_find(node->graph, from[i]);
        input->columns = calloc((size_t)node->input->count + 1, sizeof *input->columns);
        if (input->dataset == NULL) {
            return weir_error_set(err, WEIR_E_CONFIG, "%s: reads '%s', which nothing writes",
                                  node->name, from[i]);
        }
        if (input->columns == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", node->name);
        }
        for (int32_t c = 0; c < node->input->count; c++) {
            input->columns[c] = c == u->from_column ? -1
                                                    : weir_schema_find(input->dataset->schema,
                                                                       node->input->fields[c].name);
        }
    }
    return WEIR_OK;
}

void union_destroy(struct weir_union *u) {
    for (int32_t i = 0; u != NULL && u->inputs != NULL && i < u->count; i++) {
        free(u->inputs[i].columns);
    }
    if (u != NULL) {
        free(u->inputs);
    }
    free(u);
}

int32_t union_count(const struct weir_union *u) {
    return u->count;
}

const char *union_from(const struct weir_union *u, int32_t i) {
    return u->inputs[i].dataset->name;
}

void union_partition(const struct weir_union *u, int32_t i, const char *partition, char *name) {
    snprintf(name, UNION_PARTITION_BYTES, "%s: %s", u->inputs[i].dataset->name, partition);
}

int union_wait(struct weir_node *node, struct weir_error *err) {
    struct weir_union *u = node->joined;
    for (int32_t i = 0; node->watermark != NULL && i < u->count; i++) {
        struct union_input *input = &u->inputs[i];
        input->waited = input->waited >= 0
                            ? input->waited
                            : weir_watermark_partition(node->watermark, input->dataset->name,
                                                       node->graph->clock_us);
        if (input->waited < 0) {
            return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", node->name);
        }
    }
    return WEIR_OK;
}

void union_came(struct weir_node *node, int32_t i) {
    struct union_input *input = &node->joined->inputs[i];
    if (!input->came && input->waited >= 0) {
        input->came = true;
        weir_watermark_finish(node->watermark, input->waited);
    }
}

/* Its time waits for no partition: all are idle or have ended. */
static bool stands(const struct weir_dataset *dataset) {
    const struct weir_node *node = dataset->writer;
    if (node == NULL) {
        return false;
    }
    for (int32_t i = 0; i < node->join_count; i++) {
        if (!stands(join_right(node, i))) {
            return false;
        }
    }
    if (node->watermark != NULL) {
        return !weir_watermark_waits(node->watermark);
    }
    if (node->joined == NULL) {
        return stands(node->reads);
    }
    for (int32_t i = 0; i < node->joined->count; i++) {
        if (!stands(node->joined->inputs[i].dataset)) {
            return false;
        }
    }
    return true;
}

static int64_t least(const struct weir_node *node, int32_t except) {
    const struct weir_union *u = node->joined;
    int64_t result = WEIR_WATERMARK_END;
    bool any = false;
    for (int32_t i = 0; i < u->count; i++) {
        if (i != except && !stands(u->inputs[i].dataset)) {
            any = true;
            result = u->inputs[i].dataset->watermark_us < result
                         ? u->inputs[i].dataset->watermark_us
                         : result;
        }
    }
    return any || except >= 0 ? result : WEIR_WATERMARK_NONE;
}

static int32_t index_of(const struct weir_union *u, const struct weir_dataset *dataset) {
    int32_t i = 0;
    while (i < u->count - 1 && u->inputs[i].dataset != dataset) {
        i++;
    }
    return i;
}

/* The end of everything is told by all, whether they stand or not. */
static int64_t reach(struct weir_node *node) {
    struct weir_union *u = node->joined;
    bool ended = true;
    for (int32_t i = 0; i < u->count; i++) {
        ended = ended && u->inputs[i].dataset->watermark_us == WEIR_WATERMARK_END;
    }
    int64_t now = ended ? WEIR_WATERMARK_END : least(node, -1);
    u->now = now > u->now ? now : u->now;
    return u->now;
}

bool union_look(struct weir_node *node, int64_t *watermark_us) {
    int64_t before = node->joined->now;
    *watermark_us = reach(node);
    return *watermark_us != before;
}

void union_restore(struct weir_node *node) {
    struct weir_union *u = node->joined;
    int64_t told = node->dataset->watermark_us;
    u->now = told > node->last_watermark ? told : node->last_watermark;
    (void)reach(node);
}

/* A text column that says the same of every row. */
static int constant_text(struct weir_batch *batch, struct weir_column *column, const char *value,
                         int32_t rows) {
    size_t length = strlen(value);
    int32_t *offsets = weir_batch_alloc(batch, ((size_t)rows + 1) * sizeof *offsets);
    char *bytes = weir_batch_alloc(batch, (size_t)rows * length + 1);
    if (offsets == NULL || bytes == NULL) {
        return WEIR_E_LIMIT;
    }
    offsets[0] = 0;
    for (int32_t i = 0; i < rows; i++) {
        memcpy(bytes + (size_t)i * length, value, length);
        offsets[i + 1] = (int32_t)((size_t)(i + 1) * length);
    }
    column->length = rows;
    column->offsets = offsets;
    column->values = bytes;
    return WEIR_OK;
}

int union_take(struct weir_node *node, const struct weir_dataset *dataset,
               const struct weir_flow *flow, struct weir_flow *out, struct weir_error *err) {
    struct weir_union *u = node->joined;
    int32_t at = index_of(u, dataset);
    const struct union_input *input = &u->inputs[at];
    struct weir_batch *batch = weir_batch_create(node->graph->pool, node->input);
    int rc = batch != NULL ? WEIR_OK : WEIR_E_LIMIT;
    if (rc == WEIR_OK) {
        batch->rows = flow->batch->rows;
    }
    for (int32_t c = 0; rc == WEIR_OK && c < node->input->count; c++) {
        if (input->columns[c] >= 0) {
            rc = weir_batch_borrow(batch, c, flow->batch, input->columns[c]);
        } else if (c == u->from_column) {
            rc = constant_text(batch, &batch->columns[c], dataset->name, flow->batch->rows);
        } else {
            rc = column_all_null(batch, &batch->columns[c], flow->batch->rows);
        }
    }
    if (rc != WEIR_OK) {
        weir_batch_unref(batch);
        return weir_error_set(err, rc, "%s: the memory cap is reached", node->name);
    }
    *out = *flow;
    out->batch = batch;
    if (node->watermark != NULL) {
        union_partition(u, at, flow->partition, u->partition);
        out->partition = u->partition;
        int32_t own =
            weir_watermark_partition(node->watermark, u->partition, node->graph->clock_us);
        rc = own >= 0 ? union_wait(node, err)
                      : weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", node->name);
        if (rc != WEIR_OK) {
            weir_batch_unref(batch);
            return rc;
        }
        union_came(node, at);
        return WEIR_OK;
    }
    if (flow->times_us == NULL) {
        return WEIR_OK;
    }
    int64_t others = least(node, at);
    for (int32_t i = 0; i < flow->count; i++) {
        int64_t own = flow->watermark_before_us[flow->sel[i]];
        int64_t mark = own < others ? own : others;
        u->before[flow->sel[i]] = mark > u->now ? mark : u->now;
    }
    out->watermark_before_us = u->before;
    (void)union_look(node, &out->watermark_us);
    return WEIR_OK;
}
