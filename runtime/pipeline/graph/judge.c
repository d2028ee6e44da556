/* Expectations: data predicates by C kernels, functions by generated loops, verdicts combined per
 * row. Every expectation judges every row, so that a rejected row carries all its reasons. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/block.h"
#include "pipeline/graph/node.h"

static int init_term(struct check *check, int32_t t, const struct weir_schema *schema,
                     struct weir_error *err) {
    static const enum weir_predicate_kind kinds[] = {
        [WEIR_TERM_NOT_NULL] = WEIR_PREDICATE_NOT_NULL,
        [WEIR_TERM_ONE_OF] = WEIR_PREDICATE_ONE_OF,
        [WEIR_TERM_BETWEEN] = WEIR_PREDICATE_BETWEEN,
        [WEIR_TERM_MATCHES] = WEIR_PREDICATE_MATCHES,
    };
    const struct weir_plan_term *term = &check->plan->terms[t];
    if (term->kind == WEIR_TERM_FUNCTION) {
        return WEIR_OK;
    }
    check->columns[t] = weir_schema_find(schema, term->column);
    if (check->columns[t] < 0) {
        return weir_error_set(err, WEIR_E_CONFIG, "expectation '%s': no column '%s'",
                              check->plan->name, term->column);
    }
    check->predicates[t] =
        weir_predicate_create(kinds[term->kind], &schema->fields[check->columns[t]], term->literals,
                              term->literal_count, err);
    return check->predicates[t] != NULL
               ? WEIR_OK
               : weir_error_wrap(err, "%s:%lld: expectation '%s'",
                                 check->plan->file != NULL ? check->plan->file : "?",
                                 (long long)check->plan->line, check->plan->name);
}

int checks_init(struct checks *checks, const struct weir_plan_expectations *plan,
                const struct weir_schema *schema, struct weir_dataset *dataset,
                struct weir_error *err) {
    checks->list = calloc((size_t)plan->count + 1, sizeof(*checks->list));
    if (checks->list == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    for (int32_t i = 0; i < plan->count; i++) {
        struct check *check = &checks->list[i];
        check->plan = &plan->list[i];
        checks->count++;
        size_t terms = (size_t)check->plan->term_count + 1;
        check->predicates = calloc(terms, sizeof(struct weir_predicate *));
        check->columns = calloc(terms, sizeof(*check->columns));
        check->tally = dataset_tally(dataset, check->plan->name);
        if (check->predicates == NULL || check->columns == NULL || check->tally < 0) {
            return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
        }
        for (int32_t t = 0; t < check->plan->term_count; t++) {
            int rc = init_term(check, t, schema, err);
            if (rc != WEIR_OK) {
                return rc;
            }
            checks->any_function |= check->plan->terms[t].kind == WEIR_TERM_FUNCTION;
        }
    }
    return WEIR_OK;
}

void checks_fini(struct checks *checks) {
    for (int32_t i = 0; i < checks->count; i++) {
        struct check *check = &checks->list[i];
        for (int32_t t = 0; check->predicates != NULL && t < check->plan->term_count; t++) {
            weir_predicate_destroy(check->predicates[t]);
        }
        free(check->predicates);
        free(check->columns);
    }
    free(checks->list);
    checks->list = NULL;
    checks->count = 0;
}

/* --- notes --------------------------------------------------------------------------------- */

int node_note(struct weir_node *node, int32_t row, int32_t tally, const char *error) {
    if (node->note_count == node->note_capacity) {
        int32_t capacity = node->note_capacity == 0 ? 256 : node->note_capacity * 2;
        struct note *notes = weir_block_regrow(node->notes, (size_t)capacity * sizeof(*notes));
        if (notes == NULL) {
            return WEIR_E_NOMEM;
        }
        node->notes = notes;
        node->note_capacity = capacity;
    }
    int64_t text = -1;
    if (error != NULL) {
        text = (int64_t)node->graph->texts.size;
        int rc = weir_buffer_append(&node->graph->texts, error, strlen(error) + 1);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    int32_t index = node->note_count++;
    node->notes[index] = (struct note){.next = -1, .tally = tally, .text = text};
    if (node->note_head[row] < 0) {
        node->note_head[row] = index;
        node->noted_rows[node->noted_count++] = row;
    } else {
        node->notes[node->note_tail[row]].next = index;
    }
    node->note_tail[row] = index;
    return WEIR_OK;
}

int node_reject(struct weir_node *node, int32_t row, int32_t tally, const char *error) {
    struct weir_counters *counters = &node->dataset->counters;
    counters->tallies[tally].rejected++;
    counters->quarantined++;
    node->rejected[node->rejected_count++] = row;
    return node_note(node, row, tally, error);
}

/* --- calls ---------------------------------------------------------------------------------- */

/* One node_call under way. */
struct running {
    struct weir_node *node;
    int32_t function;
    void (*offender)(void *context, int32_t position, const char *message, bool touched);
    void *context;
    const int32_t *positions; /* of the rows Lua gets; NULL: as they are */
    int32_t told;             /* rows before this position that throw for certain were reported */
    int32_t end;              /* as the caller gave it, then where the budget broke */
    bool breached;
};

/* Rows that threw and rows that would have are reported in order. */
static void tell_certain(struct running *run, int32_t before) {
    const struct nulls *nulls = run->node->graph->nulls;
    for (; run->positions != NULL && run->told < before; run->told++) {
        const char *text = nulls_text(nulls, run->function, run->told);
        if (text != NULL) {
            run->offender(run->context, run->told, text, false);
        }
    }
}

static int run_rows(struct running *run, struct weir_call *call, struct weir_error *err) {
    struct weir_node *node = run->node;
    struct weir_graph *graph = node->graph;
    struct weir_error thrown = {0};
    while (call->begin < call->end) {
        int rc = weir_rule_set_call(graph->rule_set, run->function, call, &thrown);
        if (rc == WEIR_OK) {
            break;
        }
        int32_t position = run->positions != NULL ? run->positions[call->cursor] : call->cursor;
        if (rc == WEIR_E_SCRIPT) {
            tell_certain(run, position);
            run->offender(run->context, position, thrown.message, true);
            call->begin = call->cursor + 1;
            continue;
        }
        if (rc != WEIR_E_BUDGET) {
            return weir_error_set(err, rc, "%s: %s", node->name, thrown.message);
        }
        run->breached = true;
        run->end = position;
        node->dataset->breached = true;
        snprintf(node->dataset->breach_text, sizeof(node->dataset->breach_text), "%.250s",
                 thrown.message);
        return graph->callbacks.breach(graph->callbacks.context, node->dataset, run->function,
                                       node->row_base + call->sel[call->cursor], err);
    }
    return WEIR_OK;
}

/* Runs one row that throws as far as is known, to hear its message. */
static int run_unknown(struct running *run, const struct weir_call *call, int32_t position,
                       struct weir_error *err) {
    struct nulls *nulls = run->node->graph->nulls;
    struct weir_error thrown = {0};
    struct weir_call one = *call;
    one.begin = position;
    one.end = position + 1;
    int rc = weir_rule_set_call(run->node->graph->rule_set, run->function, &one, &thrown);
    if (rc != WEIR_OK &&
        rc != WEIR_E_SCRIPT) { /* its budget: meets it again, and is judged there */
        one.begin = position;
        nulls->kinds[position] = 0;
        nulls->positions[position] = position;
        run->positions = nulls->positions;
        return run_rows(run, &one, err);
    }
    if (nulls_learn(nulls, run->function, position, rc == WEIR_OK ? NULL : thrown.message) !=
        WEIR_OK) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", run->node->name);
    }
    if (rc == WEIR_E_SCRIPT) {
        tell_certain(run, position);
        run->offender(run->context, position, thrown.message, true);
    }
    return WEIR_OK;
}

/* Rows that certainly throw are kept from Lua. */
static int run_without_certain(struct running *run, const struct weir_call *call,
                               struct weir_error *err) {
    struct nulls *nulls = run->node->graph->nulls;
    run->positions = nulls->positions;
    run->told = call->begin;
    int rc = WEIR_OK;
    for (int32_t from = call->begin; rc == WEIR_OK && !run->breached && from < call->end;) {
        struct weir_call part = *call;
        int32_t unknown = nulls_split(nulls, run->function, call, from, &part.end);
        part.begin = 0;
        part.sel = nulls->sel;
        part.verdict = call->verdict != NULL ? nulls->verdict : NULL;
        int32_t count = part.end;
        memset(nulls->verdict, VERDICT_THREW, (size_t)count);
        rc = run_rows(run, &part, err);
        for (int32_t i = 0; call->verdict != NULL && i < count; i++) {
            call->verdict[nulls->positions[i]] = nulls->verdict[i];
        }
        if (rc == WEIR_OK && !run->breached && unknown < call->end) {
            rc = run_unknown(run, call, unknown, err);
        }
        from = unknown + 1;
    }
    if (rc == WEIR_OK) {
        tell_certain(run, run->end);
    }
    return rc;
}

int node_call(struct weir_node *node, int32_t function, struct weir_call *call,
              void (*offender)(void *context, int32_t position, const char *message, bool touched),
              void *context, int32_t *breached_at, struct weir_error *err) {
    struct weir_graph *graph = node->graph;
    const struct expected_breach *expected = NULL;
    for (int32_t b = 0; b < graph->expected_count; b++) {
        for (int32_t i = call->begin; graph->expected[b].function == function && i < call->end;
             i++) {
            if (node->row_base + call->sel[i] == graph->expected[b].row) {
                call->end = i;
                expected = &graph->expected[b];
            }
        }
    }
    struct running run = {
        .node = node,
        .function = function,
        .offender = offender,
        .context = context,
        .end = call->end,
    };
    int rc = nulls_find(graph->nulls, function, call) ? run_without_certain(&run, call, err)
                                                      : run_rows(&run, call, err);
    *breached_at = run.end;
    if (expected != NULL) { /* replay applies the recorded breach, it does not wait for one */
        node->dataset->breached = true;
        snprintf(node->dataset->breach_text, sizeof(node->dataset->breach_text), "%s",
                 expected->text);
    }
    return rc;
}

static bool may_have_nan(const struct weir_column *column) {
    if ((column->flags & WEIR_COLUMN_MAY_HAVE_NAN) != 0) {
        return true;
    }
    for (int32_t i = 0; i < column->child_count; i++) {
        if (may_have_nan(&column->children[i])) {
            return true;
        }
    }
    return false;
}

/* LuaJIT reads some NaN bit patterns as tagged values (design: never loads a raw double). */
static int make_canonical(struct weir_column *column, struct weir_batch *owner) {
    if (column->child_count > 0) {
        struct weir_column *children =
            weir_batch_alloc(owner, (size_t)column->child_count * sizeof(*children));
        if (children == NULL) {
            return WEIR_E_LIMIT;
        }
        memcpy(children, column->children, (size_t)column->child_count * sizeof(*children));
        column->children = children;
        for (int32_t i = 0; i < column->child_count; i++) {
            int rc = make_canonical(&children[i], owner);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
        return WEIR_OK;
    }
    if ((column->flags & WEIR_COLUMN_MAY_HAVE_NAN) == 0) {
        return WEIR_OK;
    }
    size_t rows = (size_t)column->length;
    void *values = weir_batch_alloc(owner, rows * (size_t)weir_type_width(column->type) + 1);
    if (values == NULL) {
        return WEIR_E_LIMIT;
    }
    if (column->type == WEIR_TYPE_DOUBLE) {
        const double *from = column->values;
        double *to = values;
        for (size_t i = 0; i < rows; i++) {
            to[i] = isnan(from[i]) ? (double)NAN : from[i];
        }
    } else {
        const float *from = column->values;
        float *to = values;
        for (size_t i = 0; i < rows; i++) {
            to[i] = isnan(from[i]) ? NAN : from[i];
        }
    }
    column->values = values;
    return WEIR_OK;
}

int node_view(struct weir_node *node, struct weir_batch *batch, struct weir_batch *owner,
              struct weir_error *err) {
    if (node->in_capacity < batch->column_count) {
        struct weir_column *in = realloc(node->in, (size_t)batch->column_count * sizeof(*node->in));
        if (in == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", node->name);
        }
        node->in = in;
        node->in_capacity = batch->column_count;
    }
    memcpy(node->in, batch->columns, (size_t)batch->column_count * sizeof(*node->in));
    for (int32_t c = 0; c < batch->column_count; c++) {
        if (may_have_nan(&node->in[c]) && make_canonical(&node->in[c], owner) != WEIR_OK) {
            return weir_error_set(err, WEIR_E_LIMIT, "%s: the memory cap is reached", node->name);
        }
    }
    return WEIR_OK;
}

struct predicate_offence {
    struct weir_node *node;
    const int32_t *sel;
    uint8_t *verdict;
    int32_t tally;
    int rc;
};

static void predicate_offender(void *context, int32_t position, const char *message, bool touched) {
    (void)touched;
    struct predicate_offence *offence = context;
    offence->verdict[position] = VERDICT_THREW;
    if (offence->tally >= 0 && offence->rc == WEIR_OK) {
        offence->rc = node_note(offence->node, offence->sel[position], offence->tally, message);
    }
}

int node_predicate(struct weir_node *node, int32_t function, struct weir_batch *batch,
                   const int32_t *sel, int32_t count, uint8_t *verdict, int32_t tally,
                   struct weir_error *err) {
    struct weir_call call = {
        .in = node->in,
        .sel = sel,
        .begin = 0,
        .end = count,
        .rows = batch->rows,
        .verdict = verdict,
    };
    struct predicate_offence offence = {node, sel, verdict, tally, WEIR_OK};
    int32_t breached_at;
    int rc = node_call(node, function, &call, predicate_offender, &offence, &breached_at, err);
    if (rc == WEIR_OK && offence.rc != WEIR_OK) {
        rc = weir_error_set(err, offence.rc, "%s: too many error texts in one batch", node->name);
    }
    for (int32_t i = breached_at; i < count; i++) {
        verdict[i] = 5; /* over budget */
    }
    return rc;
}

/* --- expectations ---------------------------------------------------------------------------- */

static int evaluate(struct weir_node *node, struct check *check, struct weir_batch *batch,
                    const int32_t *sel, int32_t count, struct weir_error *err) {
    memset(node->verdict, 1, (size_t)count);
    for (int32_t t = 0; t < check->plan->term_count; t++) {
        if (check->predicates[t] != NULL) {
            const struct weir_column *column = &batch->columns[check->columns[t]];
            if (t == 0) {
                weir_predicate_evaluate(check->predicates[t], column, sel, count, node->verdict);
            } else {
                weir_predicate_restrict(check->predicates[t], column, sel, count, node->verdict);
            }
            continue;
        }
        int rc = node_predicate(node, check->plan->terms[t].function, batch, sel, count,
                                node->term_verdict, check->tally, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        for (int32_t i = 0; i < count; i++) {
            if (node->term_verdict[i] != 1) {
                node->verdict[i] = node->term_verdict[i];
            }
        }
    }
    return WEIR_OK;
}

static int stop_row(struct weir_node *node, const struct check *check, const struct weir_flow *flow,
                    int32_t row, struct weir_error *err) {
    char where[512] = "";
    if (flow->origin != NULL) {
        const struct weir_column *meta =
            &flow->origin->columns[flow->origin->column_count - WEIR_META_COUNT];
        int32_t length = 0;
        const char *topic = "";
        if (!weir_column_is_null(&meta[WEIR_META_TOPIC], row)) {
            topic = weir_column_bytes(&meta[WEIR_META_TOPIC], row, &length);
        }
        snprintf(where, sizeof(where), " at %.*s offset %lld", length, topic,
                 (long long)((const int64_t *)meta[WEIR_META_OFFSET].values)[row]);
    }
    return weir_error_set(err, WEIR_E_DATA,
                          "%s: expectation '%s' failed%s and its action is `fail`; correct the "
                          "rule or the data, or run with --past-failed to quarantine the row",
                          node->name, check->plan->name, where);
}

static const char *verdict_text(const struct check *check, uint8_t verdict) {
    if (verdict == 3) {
        return "returned a value that is not a boolean";
    }
    if (verdict == 4) { /* a predicate that gave up; a throw was noted where it happened */
        for (int32_t t = 0; t < check->plan->term_count; t++) {
            if (check->predicates[t] != NULL) {
                return weir_predicate_gave_up(check->predicates[t]);
            }
        }
    }
    return NULL;
}

static int judge_one(struct weir_node *node, struct check *check, const struct weir_flow *flow,
                     const int32_t *sel, int32_t count, struct weir_error *err) {
    struct weir_tally *tally = &node->dataset->counters.tallies[check->tally];
    enum weir_action action = check->plan->action;
    if (action == WEIR_ACTION_FAIL && node->graph->past_failed) {
        action = WEIR_ACTION_QUARANTINE;
    }
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        uint8_t verdict = node->verdict[i];
        if (verdict == WEIR_VERDICT_PASS) {
            continue;
        }
        if (verdict == 5) {
            if (node->worst[i] < WEIR_ACTION_QUARANTINE + 1) {
                node->worst[i] = WEIR_ACTION_QUARANTINE + 1;
            }
            node->dataset->counters.tallies[TALLY_BUDGET].rejected++;
            rc = node_note(node, sel[i], TALLY_BUDGET, node->dataset->breach_text);
            continue;
        }
        if (action == WEIR_ACTION_FAIL) {
            return stop_row(node, check, flow, sel[i], err);
        }
        *(action == WEIR_ACTION_WARN ? &tally->warned : &tally->rejected) += 1;
        if (node->worst[i] < action + 1) {
            node->worst[i] = (uint8_t)(action + 1);
        }
        bool noted = verdict == 4 && check->plan->terms[0].kind == WEIR_TERM_FUNCTION;
        if (!noted) {
            rc = node_note(node, sel[i], check->tally, verdict_text(check, verdict));
        }
    }
    return rc == WEIR_OK ? rc : weir_error_set(err, rc, "%s: too many reasons", node->name);
}

static int judge_rows(struct weir_node *node, struct checks *checks, struct weir_batch *batch,
                      const struct weir_flow *flow, int32_t *sel, int32_t *count,
                      struct weir_error *err) {
    bool any = false;
    memset(node->worst, 0, (size_t)*count);
    for (int32_t k = 0; k < checks->count; k++) {
        int rc = evaluate(node, &checks->list[k], batch, sel, *count, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        bool all_pass = true;
        for (int32_t i = 0; i < *count; i++) {
            all_pass &= node->verdict[i] == WEIR_VERDICT_PASS;
        }
        if (all_pass) {
            continue;
        }
        any = true;
        rc = judge_one(node, &checks->list[k], flow, sel, *count, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    if (!any) {
        return WEIR_OK;
    }
    struct weir_counters *counters = &node->dataset->counters;
    int32_t kept = 0;
    for (int32_t i = 0; i < *count; i++) {
        if (node->worst[i] <= WEIR_ACTION_WARN + 1) {
            sel[kept++] = sel[i];
        } else if (node->worst[i] == WEIR_ACTION_DROP + 1) {
            counters->dropped++;
        } else {
            counters->quarantined++;
            node->rejected[node->rejected_count++] = sel[i];
        }
    }
    *count = kept;
    return WEIR_OK;
}

int checks_apply(struct weir_node *node, struct checks *checks, struct weir_batch *batch,
                 const struct weir_flow *flow, int32_t *sel, int32_t *count,
                 struct weir_error *err) {
    if (checks->count == 0 || *count == 0) {
        return WEIR_OK;
    }
    struct change_split split;
    *count = change_split(node, sel, *count, &split);
    int rc = *count > 0 ? judge_rows(node, checks, batch, flow, sel, count, err) : WEIR_OK;
    *count = change_join(node, flow, &split, sel, *count);
    return rc;
}
