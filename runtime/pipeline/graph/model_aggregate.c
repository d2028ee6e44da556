/* Measures of the analyst's own (`aggregate`): a function makes a state of a row, another merges
 * states where they lie, a third makes a value of one that leaves. */
#include <stdlib.h>
#include <string.h>

#include "pipeline/graph/node.h"

/* The fields of the state as columns. */
static int state_schema(const struct weir_field *state, struct weir_schema **out) {
    struct weir_schema *schema = weir_schema_create();
    int rc = schema != NULL ? WEIR_OK : WEIR_E_NOMEM;
    *out = schema;
    for (int32_t f = 0; f < state->child_count && rc == WEIR_OK; f++) {
        rc = weir_schema_add(schema, &state->children[f]);
    }
    return rc;
}

bool model_is_aggregate(const struct weir_node *node, int32_t m) {
    return node->model->measures[m].merge >= 0;
}

int model_aggregate_init(struct weir_node *node, int32_t m, struct weir_measure *measure,
                         struct weir_error *err) {
    const struct weir_plan_measure *plan = &node->model->measures[m];
    struct weir_schema **schema = &node->result_schemas[m];
    measure->has_input = true;
    measure->type = WEIR_TYPE_STRUCT;
    measure->state = &plan->input;
    int rc = state_schema(&plan->input, &node->measure_schemas[m]);
    if (rc == WEIR_OK) {
        *schema = weir_schema_create();
        rc = *schema != NULL ? weir_schema_add(*schema, &plan->result) : WEIR_E_NOMEM;
    }
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "out of memory");
    }
    rc = outs_create(node->measure_schemas[m], &node->measure_outs[m], err);
    return rc == WEIR_OK ? outs_create(*schema, &node->result_outs[m], err) : rc;
}

void model_aggregate_fini(struct weir_node *node) {
    for (int32_t m = 0; m < node->model->measure_count; m++) {
        if (node->result_outs != NULL) {
            outs_destroy(node->result_outs[m], 1);
        }
        if (node->result_schemas != NULL) {
            weir_schema_unref(node->result_schemas[m]);
        }
    }
    free(node->result_schemas);
    free((void *)node->result_outs);
}

int model_merge_states(void *context, int32_t m, uint8_t **into, uint8_t **from, int32_t count,
                       struct weir_error *err) {
    struct weir_node *node = context;
    const struct weir_plan_measure *plan = &node->model->measures[m];
    struct weir_error thrown = {0};
    struct weir_call call = {.end = count, .rows = count, .into = into, .from = from};
    int rc = weir_rule_set_call(node->graph->rule_set, plan->merge, &call, &thrown);
    return rc == WEIR_OK ? rc
                         : weir_error_set(err, WEIR_E_DATA, "%s: measure '%s': merge: %s",
                                          node->name, plan->name, thrown.message);
}

int model_add_states(struct weir_node *node, int32_t m, struct weir_batch *owner,
                     const int32_t *sel, int32_t count, int32_t rows, struct weir_column *column,
                     struct weir_error *err) {
    const struct weir_plan_measure *plan = &node->model->measures[m];
    const struct weir_schema *schema = node->measure_schemas[m];
    struct weir_column *fields =
        weir_batch_alloc(owner, (size_t)schema->count * sizeof(*fields) + 1);
    if (fields == NULL) {
        return weir_error_set(err, WEIR_E_LIMIT, "%s: the memory cap is reached", node->name);
    }
    *column = (struct weir_column){
        .type = WEIR_TYPE_STRUCT, .length = rows, .children = fields, .child_count = schema->count};
    return model_compute(node, plan->function, owner, schema, node->measure_outs[m], sel, count,
                         rows, true, fields, err);
}

/* The column of states becomes that of results; of groups without one it stays null. */
static int finish_one(struct weir_node *node, int32_t m, struct weir_batch *out, int32_t count,
                      struct weir_column *column, struct weir_error *err) {
    struct weir_column states = *column;
    struct weir_batch *view = weir_batch_create(node->graph->pool, node->measure_schemas[m]);
    int32_t sel[ROWS_MAX];
    int32_t there = 0;
    if (view == NULL) {
        return weir_error_set(err, WEIR_E_LIMIT, "%s: the memory cap is reached", node->name);
    }
    view->rows = count;
    memcpy(view->columns, states.children, (size_t)states.child_count * sizeof(*view->columns));
    for (int32_t i = 0; i < count; i++) {
        if (!weir_column_is_null(&states, i)) {
            sel[there++] = i;
        }
    }
    int rc = node_view(node, view, out, err);
    rc = rc == WEIR_OK
             ? model_compute(node, node->model->measures[m].finish, out, node->result_schemas[m],
                             node->result_outs[m], sel, there, count, false, column, err)
             : rc;
    weir_batch_unref(view);
    return rc;
}

int model_finish_states(struct weir_node *node, struct weir_batch *out, int32_t count,
                        struct weir_error *err) {
    const struct weir_schema *fired = weir_aggregate_output(node->aggregate);
    int32_t first = fired->count - node->model->measure_count -
                    (node->model->unwindowed || node->model->updates);
    int rc = WEIR_OK;
    for (int32_t m = 0; m < node->model->measure_count && rc == WEIR_OK; m++) {
        if (model_is_aggregate(node, m)) {
            rc = finish_one(node, m, out, count, &out->columns[first + m], err);
        }
    }
    return rc;
}
