/* `top` of a model: of whole rows as they come, with or without a window; or of the rows a window
 * made of them, after derive and having. */
#include <stdlib.h>
#include <string.h>

#include "pipeline/graph/node.h"

enum { RANKED_BYTES_MAX = 64 << 20 };

static int find_columns(const struct weir_node *node, const struct weir_schema *input,
                        const char **names, int32_t count, int32_t *columns,
                        struct weir_error *err) {
    for (int32_t i = 0; i < count; i++) {
        columns[i] = weir_schema_find(input, names[i]);
        if (columns[i] < 0) {
            return weir_error_set(err, WEIR_E_CONFIG, "%s: top: no column '%s'", node->name,
                                  names[i]);
        }
    }
    return WEIR_OK;
}

static int create(struct weir_node *node, const struct weir_schema *input, int32_t *columns,
                  int32_t *per, struct weir_top_order *by, struct weir_error *err) {
    const struct weir_plan_model *model = node->model;
    const struct weir_plan_top *plan = &model->top;
    int rc = find_columns(node, input, plan->columns, plan->column_count, columns, err);
    if (rc == WEIR_OK) {
        rc = find_columns(node, input, plan->per, plan->per_count, per, err);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < plan->by_count; i++) {
        rc = find_columns(node, input, &plan->by[i].column, 1, &by[i].column, err);
        by[i].descending = plan->by[i].descending;
    }
    struct weir_calendar room;
    struct weir_top_config config = {
        .declaration = node->name,
        .input = input,
        .columns = columns,
        .column_count = plan->column_count,
        .per = per,
        .per_count = plan->per_count,
        .by = by,
        .by_count = plan->by_count,
        .tied_count = plan->tied_count,
        .n = plan->n,
        .ties = strcmp(plan->ties, "all") == 0    ? WEIR_TOP_ALL
                : strcmp(plan->ties, "last") == 0 ? WEIR_TOP_LAST
                                                  : WEIR_TOP_FIRST,
        .rank = plan->rank,
        .updates = model->updates && !model->refires && !model->unwindowed,
        .retracts = model_top_retracts(node),
        .max_bytes = (size_t)node->graph->plan->state_bytes,
        .option = "memory.state",
    };
    if (rc == WEIR_OK && node->aggregate == NULL) {
        config.size_us = model->window_size_us;
        config.every_us = model->window_every_us;
        config.cumulate = model->window_cumulates;
        config.lateness_us = model->allowed_lateness_us;
        rc = model_calendar(model, &room, &config.calendar, err);
    } else if (rc == WEIR_OK && !model->unwindowed) {
        /* Windows of an aggregate are over when they leave it, those that change when they can no
         * more. */
        config.lateness_us = config.updates ? model->allowed_lateness_us : 0;
        config.windowed = true;
        config.window_start = weir_schema_find(input, "window_start");
        config.window_end = weir_schema_find(input, "window_end");
    }
    if (rc == WEIR_OK) {
        node->top = weir_top_create(&config, err);
        rc = node->top != NULL ? WEIR_OK : err != NULL ? err->code : WEIR_E_NOMEM;
    }
    return rc;
}

bool model_top_retracts(const struct weir_node *node) {
    const struct weir_plan_model *model = node->model;
    bool changing = model->unwindowed || model->updates;
    return node->aggregate != NULL ? changing && !model->refires : model->retracts;
}

int model_top_init(struct weir_node *node, struct weir_error *err) {
    const struct weir_plan_top *plan = &node->model->top;
    const struct weir_schema *input = node->aggregate != NULL ? node->fired_schema : node->input;
    int32_t *columns = calloc((size_t)plan->column_count + 1, sizeof(*columns));
    int32_t *per = calloc((size_t)plan->per_count + 1, sizeof(*per));
    struct weir_top_order *by = calloc((size_t)plan->by_count + 1, sizeof(*by));
    int rc = columns != NULL && per != NULL && by != NULL
                 ? create(node, input, columns, per, by, err)
                 : weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    free(columns);
    free(per);
    free(by);
    if (rc == WEIR_OK) {
        rc = weir_batch_builder_init(&node->ranked, node->graph->pool, weir_top_output(node->top),
                                     ROWS_MAX, RANKED_BYTES_MAX, err);
        node->has_ranked = rc == WEIR_OK;
    }
    return rc;
}

void model_top_fini(struct weir_node *node) {
    if (node->has_ranked) {
        weir_batch_builder_fini(&node->ranked);
    }
    weir_top_destroy(node->top);
}

/* The builder's rows leave as rows of the model. */
static int leave(struct weir_node *node, const int64_t *times, int64_t watermark_us,
                 struct weir_error *err) {
    struct weir_batch *ranked = weir_batch_builder_take(&node->ranked);
    struct weir_batch *out = weir_batch_create(node->graph->pool, node->model->output);
    int rc = out != NULL ? WEIR_OK : WEIR_E_LIMIT;
    if (rc == WEIR_OK) {
        out->rows = ranked->rows;
    }
    for (int32_t c = 0; rc == WEIR_OK && c < ranked->column_count; c++) {
        rc = weir_batch_borrow(out, c, ranked, c);
    }
    if (rc != WEIR_OK) {
        rc = weir_error_set(err, rc, "%s: the memory cap is reached", node->name);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < out->rows; i++) {
        node->sel2[i] = i;
    }
    if (rc == WEIR_OK && out->rows > 0) {
        rc = model_leave(node, out, out->rows, times, watermark_us, err);
    }
    if (out != NULL) {
        weir_batch_unref(out);
    }
    weir_batch_unref(ranked);
    return rc;
}

static int begin(struct weir_node *node, struct weir_error *err) {
    int rc = weir_batch_builder_begin(&node->ranked);
    return rc == WEIR_OK ? rc
                         : weir_error_set(err, rc, "%s: the memory cap is reached", node->name);
}

bool model_top_ready(const struct weir_node *node) {
    return node->top != NULL && !node->model->unwindowed &&
           weir_top_ready(node->top, node->last_watermark);
}

int model_top_fire(struct weir_node *node, struct weir_error *err) {
    int rc = begin(node, err);
    if (rc == WEIR_OK) {
        rc = weir_top_fire(node->top, node->last_watermark, &node->ranked, FIRED_ROWS, err);
    }
    return rc == WEIR_OK ? leave(node, NULL, node->downstream_watermark, err) : rc;
}

int model_top_changes(struct weir_node *node, bool timed, int64_t watermark_us, bool *done,
                      struct weir_error *err) {
    int64_t times[ROWS_MAX];
    int rc = begin(node, err);
    if (rc == WEIR_OK) {
        rc = weir_top_changes(node->top, &node->ranked, CHANGED_ROWS, times, done, err);
    }
    timed = timed && node->ranked.rows > 0 && times[0] != INT64_MIN;
    return rc == WEIR_OK ? leave(node, timed ? times : NULL, watermark_us, err) : rc;
}
