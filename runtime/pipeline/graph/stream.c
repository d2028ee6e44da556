/* A stream: row by row, after entry: dedup, map, ensures, quality. Row numbers never change, so
 * everything after it can still say where a row came from.
 *
 * dedup forgets a row that is rejected later, so that its corrected resend passes. Within one batch
 * that makes the rows after it depend on its fate; weir_dedup_settle says which, they are judged
 * again, and the outcome is what row-by-row processing would give. */
#include <stdlib.h>
#include <string.h>

#include "operator/join/join.h"
#include "pipeline/graph/node.h"

/* Which columns of map's the plan says are copies. */
static int mark_copied(struct weir_node *node, struct weir_error *err) {
    const struct weir_plan_copies *copies = &node->graph->plan->copies[node->stream->map];
    node->copied = calloc((size_t)node->stream->map_out->count + 1, sizeof(*node->copied));
    if (node->copied == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    for (int32_t i = 0; i < copies->count; i++) {
        node->copied[copies->columns[i].map] = true;
    }
    return WEIR_OK;
}

int stream_init(struct weir_node *node, struct weir_error *err) {
    const struct weir_plan_stream *stream = node->stream;
    int rc = checks_init(&node->ensures, &stream->ensures, stream->output, node->dataset, err);
    if (rc == WEIR_OK) {
        rc = checks_init(&node->quality, &stream->quality, stream->output, node->dataset, err);
    }
    if (rc == WEIR_OK) {
        rc = explode_init(node, err);
    }
    if (rc == WEIR_OK) {
        rc = lookup_create(node, stream->join_count, true, &node->found, err);
    }
    if (rc == WEIR_OK) {
        rc = lookup_create(node, stream->join_count, false, &node->lookups, err);
    }
    if (rc == WEIR_OK) {
        rc = join_init(node, err);
    }
    if (rc == WEIR_OK) {
        rc = waiting_init(node, err);
    }
    if (rc == WEIR_OK && stream->map >= 0) {
        rc = outs_create(stream->map_out, &node->outs, err);
    }
    if (rc == WEIR_OK && stream->map >= 0) {
        rc = mark_copied(node, err);
    }
    return rc == WEIR_OK ? rc : weir_error_wrap(err, "%s", node->name);
}

void stream_fini(struct weir_node *node) {
    checks_fini(&node->ensures);
    checks_fini(&node->quality);
    explode_fini(node);
    waiting_fini(node);
    lookup_destroy(node->lookups);
    lookup_destroy(node->found);
    join_fini(node);
    free(node->copied);
    held_fini(node);
    if (node->outs != NULL) {
        outs_destroy(node->outs, node->stream->map_out->count);
    }
}

struct map_offence {
    struct weir_node *node;
    struct out_columns *out;
    const int32_t *sel;
    uint8_t *bad; /* by position */
    int rc;
};

static void map_offender(void *context, int32_t position, const char *message, bool touched) {
    struct map_offence *offence = context;
    int32_t row = offence->sel[position];
    if (touched) {
        out_clear_row(offence->out, offence->node->outs, row);
    }
    offence->bad[position] = 1;
    if (offence->rc == WEIR_OK) {
        offence->rc = node_reject(offence->node, row, TALLY_MAP, message);
    }
}

/* --- what a map only hands on (plan: `copies`) ------------------------------------------------ */

static const struct weir_column *column_at(const struct weir_batch *batch,
                                           const struct weir_plan_path *path) {
    const struct weir_column *column = &batch->columns[path->steps[0]];
    for (int32_t i = 1; i < path->count; i++) {
        column = &column->children[path->steps[i]];
    }
    return column;
}

/* Is no struct on the way of the copies null in any of these rows? Then the function would not
 * throw on account of them. */
static bool can_copy(const struct weir_plan_copies *copies, const struct weir_batch *batch,
                     const int32_t *sel, int32_t count) {
    for (int32_t p = 0; p < copies->through_count; p++) {
        const struct weir_column *column = column_at(batch, &copies->through[p]);
        for (int32_t i = 0; column->null_count > 0 && i < count; i++) {
            if (weir_column_is_null(column, sel[i])) {
                return false;
            }
        }
    }
    return copies->count > 0;
}

static int copy_columns(const struct weir_plan_copies *copies, struct weir_batch *owner,
                        struct weir_batch *from, struct out_columns *out) {
    for (int32_t i = 0; i < copies->count; i++) {
        int32_t map = copies->columns[i].map;
        out->columns[map] = *column_at(from, &copies->columns[i]);
        out->assigned[map] = NULL; /* every row is */
    }
    return weir_batch_keep(owner, from);
}

/* Runs the row function over sel; rows it throws on are rejected and leave sel. */
static int run_map(struct weir_node *node, struct weir_batch *batch, struct weir_batch *owner,
                   struct out_columns *out, int32_t *sel, int32_t *count, struct weir_error *err) {
    const struct weir_plan_stream *stream = node->stream;
    const struct weir_plan_copies *copies = &node->graph->plan->copies[stream->map];
    bool copied = can_copy(copies, batch, sel, *count);
    int rc = out_begin(owner, stream->map_out, node->outs, batch->rows,
                       copied ? node->copied : NULL, out);
    if (rc == WEIR_OK && copied) {
        rc = copy_columns(copies, owner, batch, out);
    }
    if (rc == WEIR_OK && copied && copies->all) {
        rc = out_finish(owner, node->outs, out);
        return rc == WEIR_OK ? rc
                             : weir_error_set(err, rc, "%s: the memory cap is reached", node->name);
    }
    if (rc == WEIR_OK) {
        rc = node_view(node, batch, owner, err);
    }
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: the memory cap is reached", node->name);
    }
    memset(node->verdict, 0, (size_t)*count);
    struct weir_call call = {
        .in = node->in,
        .out = out->columns,
        .out_var = node->outs,
        .sel = sel,
        .begin = 0,
        .end = *count,
        .rows = batch->rows,
        .assigned = out->assigned,
        .copied = copied,
    };
    struct map_offence offence = {node, out, sel, node->verdict, WEIR_OK};
    int32_t breached_at;
    rc = node_call(node, stream->map, &call, map_offender, &offence, &breached_at, err);
    if (rc == WEIR_OK) {
        rc = offence.rc;
    }
    for (int32_t i = breached_at; rc == WEIR_OK && i < *count; i++) {
        out_clear_row(out, node->outs, sel[i]);
        node->verdict[i] = 1;
        rc = node_reject(node, sel[i], TALLY_BUDGET, node->dataset->breach_text);
    }
    int32_t kept = 0;
    for (int32_t i = 0; i < *count; i++) {
        if (!node->verdict[i]) {
            sel[kept++] = sel[i];
        }
    }
    *count = kept;
    if (rc == WEIR_OK) {
        rc = out_finish(owner, node->outs, out);
        if (rc != WEIR_OK) {
            rc = weir_error_set(err, rc, "%s: the memory cap is reached", node->name);
        }
    }
    return rc;
}

/* join, then map, over those rows of sel that are judged. */
static int join_and_map(struct weir_node *node, const struct weir_flow *flow,
                        struct weir_batch *owner, struct out_columns *out, int32_t *sel,
                        int32_t *count, struct weir_error *err) {
    struct weir_batch *found = NULL;
    struct weir_batch *joined = NULL;
    struct change_split split;
    struct weir_flow beside = *flow;
    *count = change_split(node, sel, *count, &split);
    int rc = WEIR_OK;
    if (node->found != NULL) {
        rc = lookup_join(node, node->found, flow, sel, count, &found, err);
        beside.batch = found;
    }
    if (rc == WEIR_OK && node->lookups != NULL) {
        rc = lookup_apply(node, &beside, sel, count, &joined, err);
        beside.batch = joined;
    }
    if (rc == WEIR_OK && node->stream->map >= 0) {
        rc = run_map(node, beside.batch, owner, out, sel, count, err);
    }
    *count = change_join(node, flow, &split, sel, *count);
    weir_batch_unref(joined);
    weir_batch_unref(found);
    return rc;
}

/* join, map, ensures, quality over sel. *made gets the output batch. */
static int transform(struct weir_node *node, const struct weir_flow *flow, int32_t *sel,
                     int32_t *count, struct weir_batch **made, struct weir_error *err) {
    const struct weir_plan_stream *stream = node->stream;
    struct weir_batch *out = weir_batch_create(node->graph->pool, stream->output);
    if (out == NULL) {
        return weir_error_set(err, WEIR_E_LIMIT, "%s: the memory cap is reached", node->name);
    }
    *made = out;
    out->rows = flow->batch->rows;
    struct out_columns mapped = {0};
    int rc = WEIR_OK;
    if (stream->map >= 0 || node->lookups != NULL || node->found != NULL) {
        rc = join_and_map(node, flow, out, &mapped, sel, count, err);
    }
    for (int32_t c = 0; rc == WEIR_OK && c < stream->output->count; c++) {
        const struct weir_plan_out_column *from = &stream->out_columns[c];
        if (from->child >= 0) { /* null where the struct is */
            rc = weir_batch_keep(out, flow->batch);
            out->columns[c] = flow->batch->columns[from->input].children[from->child];
            continue;
        }
        if (from->map < 0 || mapped.columns == NULL) {
            rc = weir_batch_borrow(out, c, flow->batch, from->input);
            continue;
        }
        out->columns[c] = mapped.columns[from->map];
        if (from->input >= 0) {
            rc = out_merge(out, &out->columns[c], mapped.assigned[from->map],
                           &flow->batch->columns[from->input]);
        }
    }
    if (rc == WEIR_OK) {
        rc = change_mark(node, out);
    }
    if (rc != WEIR_OK) {
        return err != NULL && err->code != WEIR_OK
                   ? rc
                   : weir_error_set(err, rc, "%s: the memory cap is reached", node->name);
    }
    if ((node->ensures.any_function || node->quality.any_function) && *count > 0) {
        rc = node_view(node, out, out, err);
    }
    if (rc == WEIR_OK) {
        rc = checks_apply(node, &node->ensures, out, flow, sel, count, err);
    }
    if (rc == WEIR_OK) {
        rc = checks_apply(node, &node->quality, out, flow, sel, count, err);
    }
    return rc == WEIR_OK ? duties_apply(node, out, flow, sel, count, err) : rc;
}

static int emit(struct weir_node *node, const struct weir_flow *flow, struct weir_batch *out,
                const int32_t *sel, int32_t count, const int64_t *times, const int64_t *wm_before,
                int64_t watermark, struct weir_error *err) {
    struct weir_flow next = {
        .batch = out,
        .sel = sel,
        .count = count,
        .times_us = times,
        .watermark_before_us = wm_before,
        .watermark_us = watermark,
        .origin = flow->origin,
        .source = flow->source,
        .partition = flow->partition,
    };
    return graph_emit(node->graph, node->dataset, &next, err);
}

/* Counts and notes as they were, for rows that are judged again. */
struct mark {
    struct weir_counters counters;
    struct weir_tally *tallies;
    int32_t rejected_count;
    int32_t note_count;
};

static int mark_set(struct weir_node *node, struct mark *mark) {
    struct weir_counters *counters = &node->dataset->counters;
    size_t bytes = (size_t)counters->tally_count * sizeof(*mark->tallies);
    if (node->tallies_before == NULL || node->tallies_room < counters->tally_count) {
        struct weir_tally *room = realloc(node->tallies_before, bytes + 1);
        if (room == NULL) {
            return WEIR_E_NOMEM;
        }
        node->tallies_before = room;
        node->tallies_room = counters->tally_count;
    }
    mark->tallies = node->tallies_before;
    memcpy(mark->tallies, counters->tallies, bytes);
    mark->counters = *counters;
    mark->rejected_count = node->rejected_count;
    mark->note_count = node->note_count;
    return WEIR_OK;
}

static void mark_restore(struct weir_node *node, struct mark *mark) {
    struct weir_counters *counters = &node->dataset->counters;
    struct weir_tally *tallies = counters->tallies;
    memcpy(tallies, mark->tallies, (size_t)mark->counters.tally_count * sizeof(*mark->tallies));
    *counters = mark->counters;
    counters->tallies = tallies;
    node->rejected_count = mark->rejected_count;
    /* Drop notes made since. */
    for (int32_t i = 0; i < node->noted_count; i++) {
        int32_t row = node->noted_rows[i];
        int32_t last = -1;
        for (int32_t n = node->note_head[row]; n >= 0 && n < mark->note_count;
             n = node->notes[n].next) {
            last = n;
        }
        if (last >= 0) {
            node->notes[last].next = -1;
            node->note_tail[row] = last;
        } else {
            node->note_head[row] = -1;
        }
    }
    int32_t kept = 0;
    for (int32_t i = 0; i < node->noted_count; i++) {
        if (node->note_head[node->noted_rows[i]] >= 0) {
            node->noted_rows[kept++] = node->noted_rows[i];
        }
    }
    node->noted_count = kept;
    node->note_count = mark->note_count;
}

/* rejected[position] of the rows tried in `tried` (positions, ascending) that did not survive. */
static void note_rejected(const int32_t *sel, const int32_t *tried, int32_t tried_count,
                          const int32_t *alive, int32_t alive_count, uint8_t *rejected) {
    int32_t a = 0;
    for (int32_t i = 0; i < tried_count; i++) {
        bool lives = a < alive_count && alive[a] == sel[tried[i]];
        rejected[tried[i]] = !lives;
        a += lives;
    }
}

/* Positions of rows that are no duplicates. */
static int32_t distinct_positions(const struct weir_node *node, int32_t count, int32_t *positions) {
    int32_t kept = 0;
    for (int32_t i = 0; i < count; i++) {
        if (!node->duplicate[i]) {
            positions[kept++] = i;
        }
    }
    return kept;
}

static int transform_positions(struct weir_node *node, const struct weir_flow *flow,
                               const int32_t *sel, const int32_t *positions, int32_t count,
                               int32_t *alive, struct weir_batch **out, struct weir_error *err) {
    for (int32_t i = 0; i < count; i++) {
        node->sel2[i] = sel[positions[i]];
    }
    *alive = count;
    return transform(node, flow, node->sel2, alive, out, err);
}

/* Rows that dedup kept were refused: judge what now depends on it until nothing changes, then
 * transform the right set of rows once, in row order. Row functions are pure, so rows judged twice
 * meet the same fate; counts and notes start again from the mark. */
static int settle(struct weir_node *node, const struct weir_flow *flow, const int32_t *sel,
                  int32_t count, struct mark *mark, int32_t *positions, uint8_t *rejected,
                  int32_t *alive, struct weir_batch **out, struct weir_error *err) {
    int32_t before = distinct_positions(node, count, positions);
    bool changed = false;
    for (;;) {
        int32_t fresh = 0;
        int rc = weir_dedup_settle(node->dedup, rejected, node->duplicate, positions, &fresh, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        if (fresh == 0) {
            break;
        }
        changed = true;
        weir_batch_unref(*out);
        *out = NULL;
        rc = transform_positions(node, flow, sel, positions, fresh, alive, out, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        note_rejected(sel, positions, fresh, node->sel2, *alive, rejected);
    }
    int32_t kept = distinct_positions(node, count, positions);
    if (!changed && kept == before) {
        return WEIR_OK;
    }
    mark_restore(node, mark);
    weir_batch_unref(*out);
    *out = NULL;
    return transform_positions(node, flow, sel, positions, kept, alive, out, err);
}

static int process_deduplicated(struct weir_node *node, const struct weir_flow *flow,
                                const int32_t *sel, int32_t count, const int64_t *times,
                                const int64_t *wm_before, int64_t watermark,
                                struct weir_error *err) {
    struct mark mark;
    if (mark_set(node, &mark) != WEIR_OK) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", node->name);
    }
    int32_t positions[ROWS_MAX];
    uint8_t rejected[ROWS_MAX];
    struct weir_batch *out = NULL;
    int32_t alive = 0;
    int rc = weir_dedup_feed(node->dedup, flow->batch, sel, count, times, wm_before,
                             node->duplicate, err);
    int32_t kept = distinct_positions(node, count, positions);
    if (rc == WEIR_OK) {
        rc = transform_positions(node, flow, sel, positions, kept, &alive, &out, err);
    }
    if (rc == WEIR_OK && alive < kept) {
        memset(rejected, 0, (size_t)count);
        note_rejected(sel, positions, kept, node->sel2, alive, rejected);
        rc = settle(node, flow, sel, count, &mark, positions, rejected, &alive, &out, err);
    }
    if (rc == WEIR_OK) {
        node->dataset->counters.duplicates += count - distinct_positions(node, count, positions);
        rc = emit(node, flow, out, node->sel2, alive, times, wm_before, watermark, err);
    }
    weir_batch_unref(out);
    weir_dedup_expire(node->dedup, watermark);
    return rc;
}

/* dedup, then the join. Rows that are rejected behind it are pairs, of which dedup knows nothing.
 */
static int enter_join(struct weir_node *node, const struct weir_flow *flow, int32_t *sel,
                      int32_t count, const int64_t *times, const int64_t *wm_before,
                      int64_t watermark, struct weir_error *err) {
    int rc = node_leave(node, flow, err); /* these are rows of this batch, not of a piece */
    if (rc == WEIR_OK && node->dedup != NULL && count > 0) {
        int32_t positions[ROWS_MAX];
        rc = weir_dedup_feed(node->dedup, flow->batch, sel, count, times, wm_before,
                             node->duplicate, err);
        int32_t kept = rc == WEIR_OK ? distinct_positions(node, count, positions) : 0;
        for (int32_t i = 0; i < kept; i++) {
            sel[i] = sel[positions[i]];
        }
        node->dataset->counters.duplicates += count - kept;
        count = kept;
        weir_dedup_expire(node->dedup, watermark);
    }
    if (rc != WEIR_OK || count == 0) {
        return rc == WEIR_OK ? join_advance(join_at(node, 0), WEIR_LEFT, watermark, err) : rc;
    }
    struct weir_flow entered = *flow;
    entered.sel = sel;
    entered.count = count;
    entered.times_us = times;
    entered.watermark_before_us = wm_before;
    entered.watermark_us = watermark;
    return join_enter(join_at(node, 0), &entered, err);
}

int stream_joined(struct weir_node *node, const struct weir_flow *flow, struct weir_error *err) {
    int32_t count = flow->count;
    struct weir_batch *out = NULL;
    memcpy(node->sel, flow->sel, (size_t)count * sizeof(*node->sel));
    int rc = WEIR_OK;
    node->leaving = false; /* that was said of rows that entered */
    if (node->dataset->breached) {
        for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
            rc = node_reject(node, node->sel[i], TALLY_BUDGET, node->dataset->breach_text);
        }
        count = 0;
    }
    if (rc == WEIR_OK && count > 0) {
        rc = transform(node, flow, node->sel, &count, &out, err);
    }
    if (rc == WEIR_OK && count > 0) {
        rc = emit(node, flow, out, node->sel, count, flow->times_us, flow->watermark_before_us,
                  flow->watermark_us, err);
    }
    weir_batch_unref(out);
    return rc == WEIR_OK ? node_leave(node, flow, err) : rc;
}

/* dedup, map, ensures, quality over what entry left in sel. */
static int after_entry(struct weir_node *node, const struct weir_flow *flow, int32_t *sel,
                       int32_t count, const int64_t *times, const int64_t *wm_before,
                       int64_t watermark, struct weir_error *err) {
    struct weir_batch *out = NULL;
    int rc;
    if (node->join != NULL) {
        return enter_join(node, flow, sel, count, times, wm_before, watermark, err);
    }
    if (count == 0) {
        rc = node_advance(node, watermark, err);
    } else if (node->dedup != NULL) {
        rc = process_deduplicated(node, flow, sel, count, times, wm_before, watermark, err);
    } else {
        rc = transform(node, flow, sel, &count, &out, err);
        if (rc == WEIR_OK) {
            rc = emit(node, flow, out, sel, count, times, wm_before, watermark, err);
        }
    }
    weir_batch_unref(out);
    return rc == WEIR_OK && node->withheld != NULL ? withheld_settle(node, flow, sel, count, err)
                                                   : rc;
}

int stream_entered(struct weir_node *node, const struct weir_flow *flow, struct weir_error *err) {
    int32_t count = flow->count;
    memmove(node->sel, flow->sel, (size_t)count * sizeof(*node->sel));
    int rc = WEIR_OK;
    if (node->dataset->breached) { /* by an earlier piece */
        for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
            rc = node_reject(node, node->sel[i], TALLY_BUDGET, node->dataset->breach_text);
        }
        count = 0;
    }
    if (rc == WEIR_OK && node->expectations.any_function && count > 0) {
        rc = node_view(node, flow->batch, flow->batch, err);
    }
    if (rc == WEIR_OK) {
        rc = checks_apply(node, &node->expectations, flow->batch, flow, node->sel, &count, err);
    }
    if (rc == WEIR_OK) {
        rc = after_entry(node, flow, node->sel, count, flow->times_us, flow->watermark_before_us,
                         flow->watermark_us, err);
    }
    return rc == WEIR_OK ? node_leave(node, flow, err) : rc;
}

static int process(struct weir_node *node, const struct weir_flow *flow, struct weir_error *err) {
    int32_t *sel = node->sel;
    int32_t count;
    const int64_t *times;
    const int64_t *wm_before;
    int64_t watermark = node->last_watermark;
    bool functions = node->where >= 0 || node->expectations.any_function;
    struct weir_batch *owner = NULL;
    int rc = WEIR_OK;
    if (functions && flow->count > 0) {
        owner = weir_batch_create(node->graph->pool, node->input);
        rc = owner == NULL
                 ? weir_error_set(err, WEIR_E_LIMIT, "%s: the memory cap is reached", node->name)
                 : node_view(node, flow->batch, owner, err);
    }
    if (rc == WEIR_OK) {
        rc = node_enter(node, flow, sel, &count, &times, &wm_before, &watermark, err);
    }
    if (rc == WEIR_OK && (node->explode != NULL || waiting_at(node, 0) != NULL)) {
        struct weir_flow entered = *flow;
        entered.sel = sel;
        entered.count = count;
        entered.times_us = times;
        entered.watermark_before_us = wm_before;
        entered.watermark_us = watermark;
        rc = node->explode != NULL ? explode_process(node, &entered, err)
                                   : waiting_come(waiting_at(node, 0), &entered, err);
    } else if (rc == WEIR_OK) {
        rc = after_entry(node, flow, sel, count, times, wm_before, watermark, err);
    }
    if (node->join == NULL) { /* which goes by its own */
        node->last_watermark = watermark;
    }
    if (rc == WEIR_OK) {
        rc = node_leave(node, flow, err);
    }
    weir_batch_unref(owner);
    return rc;
}

/* Rows whose values hang on what becomes of rows before them are judged after those: part by part.
 */
int stream_go_on(struct weir_node *node, const struct weir_flow *flow, struct weir_error *err) {
    int32_t base = 0;
    int rc = WEIR_OK;
    if (node->withheld == NULL) {
        return process(node, flow, err);
    }
    do {
        struct weir_flow part = *flow;
        struct weir_batch *batch = NULL;
        part.sel += base;
        part.count -= base;
        rc = withheld_fill(node, &part, base, &batch, err);
        base += part.count;
        if (base < flow->count && flow->watermark_before_us != NULL) {
            part.watermark_us = flow->watermark_before_us[flow->sel[base]];
        }
        part.batch = batch != NULL ? batch : part.batch;
        rc = rc == WEIR_OK ? process(node, &part, err) : rc;
        weir_batch_unref(batch);
    } while (rc == WEIR_OK && base < flow->count);
    return rc;
}

int stream_process(struct weir_node *node, const struct weir_flow *flow, struct weir_error *err) {
    bool now = true;
    int rc =
        node->waiting == NULL && lookup_asks(node) ? held_process(node, flow, &now, err) : WEIR_OK;
    return rc == WEIR_OK && now ? stream_go_on(node, flow, err) : rc;
}
