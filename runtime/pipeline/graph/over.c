/* Measures over the last while (`over`, `sliding`): rows are kept until the watermark has passed
 * their time and the while, and are then taken back from those measures, as the rows of a changelog
 * are. A row that comes too late for a while does not count in it. The end of the input is no time:
 * what counts then stays.
 *
 * State: cell "over <µs>": a row's bytes are a byte a measure (1: it counts), then as the columns
 * of a key (operator/key.h) the `by` columns and of each measure its value and what it is chosen
 * by. A mark says that a row was taken back. */
#include "pipeline/graph/over.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "operator/key.h"
#include "operator/show.h"
#include "operator/window.h"
#include "pipeline/graph/node.h"
#include "state/rows.h"

enum {
    WHILES_MAX = 16,
    PIECE_ROWS = 512,
    BUCKETS = 32,
    BUCKET_LEAST_US = 100000,
    ROWS_BYTES_MAX = 64 << 20
};

/* Measures over the same while. */
struct a_while {
    int64_t us;
    int32_t *measures;
    int32_t count;
    struct weir_schema *schema;
    struct weir_key *key;
    struct weir_rows *rows;
    struct weir_batch_builder builder;
    bool has_builder;
};

struct over {
    struct a_while whiles[WHILES_MAX]; /* the longest first */
    int32_t count;
    int32_t *by;     /* of the model, in the node's input */
    bool whole;      /* with the longest a row counts nowhere any more */
    bool settled;    /* rows that were taken back before the last start are known */
    int64_t reached; /* the watermark, but for the end of everything */
    struct weir_keys keys;
    struct weir_column const **columns; /* of a while's key, by column */
    struct weir_column const **inputs;  /* by measure of the model: those taken back */
    struct weir_column const **orders;
    uint8_t const **masks;
    uint8_t *mask; /* ROWS_MAX a measure */
    bool *only;
    int64_t times[ROWS_MAX];
};

static int no_memory(const struct weir_node *node, struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", node->name);
}

/* --- life ------------------------------------------------------------------------------------- */

static int add_column(struct a_while *w, const struct weir_field *field) {
    return weir_schema_add(w->schema, field);
}

static int make_while(struct weir_node *node, struct a_while *w, const int32_t *by,
                      struct weir_error *err) {
    const struct weir_plan_model *model = node->model;
    w->schema = weir_schema_create();
    w->measures = calloc((size_t)model->measure_count + 1, sizeof(*w->measures));
    int rc = w->schema != NULL && w->measures != NULL ? WEIR_OK : WEIR_E_NOMEM;
    for (int32_t i = 0; i < model->by_count && rc == WEIR_OK; i++) {
        rc = add_column(w, &node->input->fields[by[i]]);
    }
    for (int32_t m = 0; m < model->measure_count && rc == WEIR_OK; m++) {
        const struct weir_plan_measure *plan = &model->measures[m];
        if (plan->over_us != w->us) {
            continue;
        }
        w->measures[w->count++] = m;
        if (node->measure_columns[m] >= 0) {
            rc = add_column(w, &node->input->fields[node->measure_columns[m]]);
        } else if (plan->function >= 0) {
            rc = add_column(w, &node->measure_schemas[m]->fields[0]);
        }
        if (rc == WEIR_OK && node->order_columns[m] >= 0) {
            rc = add_column(w, &node->input->fields[node->order_columns[m]]);
        }
    }
    int32_t *all = calloc((size_t)(rc == WEIR_OK ? w->schema->count : 0) + 1, sizeof(*all));
    if (rc != WEIR_OK || all == NULL) {
        free(all);
        return no_memory(node, err);
    }
    for (int32_t c = 0; c < w->schema->count; c++) {
        all[c] = c;
    }
    w->key = weir_key_create(w->schema, all, w->schema->count, err);
    free(all);
    if (w->key == NULL) {
        return err != NULL ? err->code : WEIR_E_CONFIG;
    }
    rc = weir_batch_builder_init(&w->builder, node->graph->pool, w->schema, PIECE_ROWS,
                                 ROWS_BYTES_MAX, err);
    w->has_builder = rc == WEIR_OK;
    char cell[48];
    snprintf(cell, sizeof(cell), "over %lld", (long long)w->us);
    struct weir_rows_config config = {
        .declaration = node->name,
        .cell = cell,
        .shape = weir_aggregate_shape(node->aggregate) ^ weir_key_shape(w->key) ^ (uint64_t)w->us,
        .bucket_us = w->us / BUCKETS > BUCKET_LEAST_US ? w->us / BUCKETS : BUCKET_LEAST_US,
        .timed = true,
        .max_bytes = (size_t)node->graph->plan->state_bytes,
        .option = "memory.state",
    };
    w->rows = rc == WEIR_OK ? weir_rows_create(&config, err) : NULL;
    return w->rows != NULL ? WEIR_OK : (err != NULL ? err->code : WEIR_E_NOMEM);
}

/* The whiles the measures name, the longest first. */
static int find_whiles(struct weir_node *node, struct over *over, struct weir_error *err) {
    const struct weir_plan_model *model = node->model;
    over->whole = true;
    for (int32_t m = 0; m < model->measure_count; m++) {
        int64_t us = model->measures[m].over_us;
        int32_t at = 0;
        while (at < over->count && over->whiles[at].us > us) {
            at++;
        }
        over->whole = over->whole && us > 0;
        if (us == 0 || (at < over->count && over->whiles[at].us == us)) {
            continue;
        }
        if (over->count == WHILES_MAX) {
            return weir_error_set(err, WEIR_E_CONFIG, "%s: measures over more than %d whiles",
                                  node->name, WHILES_MAX);
        }
        memmove(&over->whiles[at + 1], &over->whiles[at],
                (size_t)(over->count - at) * sizeof(over->whiles[0]));
        over->whiles[at] = (struct a_while){.us = us};
        over->count++;
    }
    return WEIR_OK;
}

int over_init(struct weir_node *node, const int32_t *by, struct weir_error *err) {
    const struct weir_plan_model *model = node->model;
    size_t measures = (size_t)model->measure_count + 1;
    bool any = false;
    for (int32_t m = 0; m < model->measure_count; m++) {
        any = any || model->measures[m].over_us > 0;
    }
    if (!any) {
        return WEIR_OK;
    }
    struct over *over = calloc(1, sizeof(*over));
    node->over = over;
    if (over == NULL) {
        return no_memory(node, err);
    }
    over->reached = WEIR_WATERMARK_NONE;
    weir_keys_init(&over->keys);
    over->columns = calloc((size_t)model->by_count + 2 * measures, sizeof(*over->columns));
    over->inputs = calloc(measures, sizeof(*over->inputs));
    over->orders = calloc(measures, sizeof(*over->orders));
    over->masks = calloc(measures, sizeof(*over->masks));
    over->mask = calloc(measures, ROWS_MAX);
    over->only = calloc(measures, sizeof(*over->only));
    over->by = calloc((size_t)model->by_count + 1, sizeof(*over->by));
    if (over->by == NULL || over->columns == NULL || over->inputs == NULL || over->orders == NULL ||
        over->masks == NULL || over->mask == NULL || over->only == NULL) {
        return no_memory(node, err);
    }
    for (int32_t c = 0; c < model->by_count; c++) {
        over->by[c] = by[c];
    }
    int rc = find_whiles(node, over, err);
    for (int32_t i = 0; i < over->count && rc == WEIR_OK; i++) {
        rc = make_while(node, &over->whiles[i], by, err);
    }
    return rc;
}

void over_fini(struct weir_node *node) {
    struct over *over = node->over;
    if (over == NULL) {
        return;
    }
    for (int32_t i = 0; i < over->count; i++) {
        struct a_while *w = &over->whiles[i];
        weir_rows_destroy(w->rows);
        weir_key_destroy(w->key);
        if (w->has_builder) {
            weir_batch_builder_fini(&w->builder);
        }
        if (w->schema != NULL) {
            weir_schema_unref(w->schema);
        }
        free(w->measures);
    }
    weir_keys_fini(&over->keys);
    free((void *)over->columns);
    free((void *)over->inputs);
    free((void *)over->orders);
    free((void *)over->masks);
    free(over->mask);
    free(over->only);
    free(over->by);
    free(over);
    node->over = NULL;
}

/* --- rows come -------------------------------------------------------------------------------- */

/* Keeps the rows that still count over this while. sel, masks as the aggregate gets them. */
static int keep(struct weir_node *node, struct a_while *w, const struct weir_batch *batch,
                const int32_t *sel, int32_t count, const int64_t *times, const int64_t *wm_before,
                struct weir_error *err) {
    struct over *over = node->over;
    int32_t c = 0;
    for (; c < node->model->by_count; c++) {
        over->columns[c] = &batch->columns[over->by[c]];
    }
    for (int32_t k = 0; k < w->count; k++) {
        int32_t m = w->measures[k];
        if (node->inputs[m] != NULL) {
            over->columns[c++] = node->inputs[m];
        }
        if (node->orders[m] != NULL) {
            over->columns[c++] = node->orders[m];
        }
    }
    int rc =
        weir_key_encode_columns(w->key, over->columns, sel, count, (uint32_t)w->count, &over->keys);
    if (rc != WEIR_OK) {
        return no_memory(node, err);
    }
    for (int32_t i = 0; i < count; i++) {
        int32_t row = sel[i];
        int64_t until = weir_time_add(times[row], w->us - 1);
        uint8_t *bytes = over->keys.bytes + over->keys.offsets[i];
        if (until < wm_before[row]) {
            continue;
        }
        for (int32_t k = 0; k < w->count; k++) {
            bytes[k] = node->masks[w->measures[k]][i];
        }
        if (weir_rows_add(w->rows, 0, NULL, 0, bytes,
                          over->keys.offsets[i + 1] - over->keys.offsets[i], times[row], until,
                          err) == NULL) {
            return err != NULL ? err->code : WEIR_E_LIMIT;
        }
    }
    return WEIR_OK;
}

int over_take(struct weir_node *node, const struct weir_batch *batch, int32_t *sel, int32_t *count,
              const int64_t *times, const int64_t *wm_before, int32_t *late_sel, int32_t *late,
              struct weir_error *err) {
    struct over *over = node->over;
    const struct weir_plan_model *model = node->model;
    int32_t kept = 0;
    *late = 0;
    for (int32_t i = 0; i < *count; i++) {
        int32_t row = sel[i];
        if (over->whole && weir_time_add(times[row], over->whiles[0].us) <= wm_before[row]) {
            late_sel[(*late)++] = row;
            continue;
        }
        for (int32_t m = 0; m < model->measure_count; m++) {
            int64_t us = model->measures[m].over_us;
            if (node->masks[m] != NULL) {
                bool counts = us == 0 || weir_time_add(times[row], us) > wm_before[row];
                node->masks[m][kept] = counts ? node->masks[m][i] : 0;
            }
        }
        sel[kept++] = row;
    }
    *count = kept;
    int rc = WEIR_OK;
    for (int32_t w = 0; w < over->count && rc == WEIR_OK && kept > 0; w++) {
        rc = keep(node, &over->whiles[w], batch, sel, kept, times, wm_before, err);
    }
    return rc;
}

/* --- and go ----------------------------------------------------------------------------------- */

bool over_ready(const struct weir_node *node) {
    const struct over *over = node->over;
    for (int32_t w = 0; over != NULL && w < over->count; w++) {
        if (weir_rows_peek(over->whiles[w].rows, over->reached) != NULL) {
            return true;
        }
    }
    return false;
}

int64_t over_reached(const struct weir_node *node) {
    return node->over->settled ? node->over->reached : node->last_watermark;
}

/* After a start: rows that the recorded watermark has passed have gone. */
static void settle(struct weir_node *node) {
    struct over *over = node->over;
    if (over->settled) {
        return;
    }
    over->settled = true;
    over->reached = node->last_watermark;
    for (int32_t w = 0; w < over->count && over->reached != WEIR_WATERMARK_NONE; w++) {
        while (weir_rows_due(over->whiles[w].rows, over->reached) != NULL) {
        }
    }
}

void over_advance(struct weir_node *node, int64_t watermark_us) {
    struct over *over = node->over;
    if (over != NULL) {
        settle(node);
    }
    if (over != NULL && watermark_us != WEIR_WATERMARK_END && watermark_us > over->reached) {
        over->reached = watermark_us;
        for (int32_t w = 0; w < over->count; w++) {
            weir_rows_expire(over->whiles[w].rows, watermark_us, PIECE_ROWS);
        }
    }
}

/* Rows whose while is over, into the builder: *count of them. */
static int gather(struct weir_node *node, struct a_while *w, int32_t *count,
                  struct weir_error *err) {
    struct over *over = node->over;
    int rc = weir_batch_builder_begin(&w->builder);
    *count = 0;
    while (rc == WEIR_OK && *count < PIECE_ROWS) {
        const struct weir_row *next = weir_rows_peek(w->rows, over->reached);
        if (next == NULL) {
            break;
        }
        const uint8_t *bytes = weir_row_bytes(next);
        rc = next->row_bytes >= (uint32_t)w->count
                 ? weir_key_decode(w->key, bytes + w->count, next->row_bytes - (uint32_t)w->count,
                                   w->builder.columns)
                 : WEIR_E_CORRUPT;
        if (rc == WEIR_E_LIMIT && *count > 0) {
            weir_batch_builder_undo_row(&w->builder);
            return WEIR_OK;
        }
        if (rc != WEIR_OK) {
            break;
        }
        weir_batch_builder_finish_row(&w->builder);
        for (int32_t k = 0; k < w->count; k++) {
            over->mask[(size_t)w->measures[k] * ROWS_MAX + (size_t)*count] = bytes[k];
        }
        over->times[(*count)++] = next->time_us;
        (void)weir_rows_due(w->rows, over->reached);
    }
    return rc == WEIR_OK ? rc
                         : weir_error_set(err, rc, "%s: a row it keeps cannot be read", node->name);
}

static int take_back(struct weir_node *node, struct a_while *w, const struct weir_batch *gone,
                     int32_t count, struct weir_error *err) {
    struct over *over = node->over;
    const struct weir_plan_model *model = node->model;
    struct weir_batch *batch = weir_batch_create(node->graph->pool, node->input);
    if (batch == NULL) {
        return weir_error_set(err, WEIR_E_LIMIT, "%s: the memory cap is reached", node->name);
    }
    batch->rows = count;
    int rc = WEIR_OK;
    int32_t c = 0;
    for (; c < model->by_count && rc == WEIR_OK; c++) {
        rc = weir_batch_borrow(batch, over->by[c], (struct weir_batch *)(uintptr_t)gone, c);
    }
    memset(over->only, 0, (size_t)model->measure_count * sizeof(*over->only));
    for (int32_t k = 0; k < w->count; k++) {
        int32_t m = w->measures[k];
        over->only[m] = true;
        over->masks[m] = over->mask + (size_t)m * ROWS_MAX;
        over->inputs[m] = node->measure_columns[m] >= 0 || model->measures[m].function >= 0
                              ? &gone->columns[c++]
                              : NULL;
        over->orders[m] = node->order_columns[m] >= 0 ? &gone->columns[c++] : NULL;
    }
    struct weir_forgotten forgotten = {
        .batch = batch,
        .count = count,
        .times_us = over->times,
        .later_us = w->us,
        .inputs = over->inputs,
        .orders = over->orders,
        .masks = over->masks,
        .only = over->only,
        .whole = over->whole && w == &over->whiles[0],
    };
    rc = rc == WEIR_OK ? weir_aggregate_forget(node->aggregate, &forgotten, err)
                       : weir_error_set(err, rc, "%s: the memory cap is reached", node->name);
    weir_batch_unref(batch);
    return rc;
}

int over_fire(struct weir_node *node, struct weir_error *err) {
    struct over *over = node->over;
    struct a_while *w = over->whiles;
    while (weir_rows_peek(w->rows, over->reached) == NULL) {
        w++; /* over_ready said that one has some */
    }
    int32_t count;
    int rc = gather(node, w, &count, err);
    struct weir_batch *gone = weir_batch_builder_take(&w->builder);
    if (rc == WEIR_OK && count > 0) {
        rc = take_back(node, w, gone, count, err);
    }
    if (gone != NULL) {
        weir_batch_unref(gone);
    }
    return rc;
}

/* --- state ------------------------------------------------------------------------------------ */

int32_t over_cells(struct weir_node *node, struct weir_cell **cells, int32_t capacity) {
    int32_t count = 0;
    for (int32_t w = 0; node->over != NULL && w < node->over->count && count < capacity; w++) {
        cells[count++] = weir_rows_cell(node->over->whiles[w].rows);
    }
    return count;
}

static int show_row(void *owner, const struct weir_show_entry *entry, struct weir_shown *out,
                    struct weir_error *err) {
    const struct a_while *w = owner;
    struct weir_row_image row;
    size_t masks = (size_t)w->count; /* before its columns: which measures it counts in */
    if (!weir_row_image_read(entry->value, entry->value_bytes, &row) || row.size < masks) {
        return weir_error_set(err, WEIR_E_CORRUPT, "a row that counts does not parse");
    }
    int rc = weir_shown_int(&out->key, "_row", (int64_t)entry->sequence);
    rc = rc == WEIR_OK && w->schema->count > 0
             ? weir_shown_key(out, w->key, row.bytes + masks, row.size - masks, &out->value, err)
             : rc;
    rc = rc == WEIR_OK ? weir_shown_time(&out->value, "_time", row.time_us) : rc;
    return rc == WEIR_OK ? weir_shown_time(&out->value, "_until", row.until_us) : rc;
}

int32_t over_shows(struct weir_node *node, struct weir_show *shows, int32_t capacity) {
    int32_t count = 0;
    for (int32_t w = 0; node->over != NULL && w < node->over->count && count < capacity; w++) {
        struct a_while *a = &node->over->whiles[w];
        shows[count++] = (struct weir_show){weir_rows_cell(a->rows), "rows that count for a while",
                                            a, show_row, true};
    }
    return count;
}

int over_restore(struct weir_node *node, struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t w = 0; node->over != NULL && w < node->over->count && rc == WEIR_OK; w++) {
        rc = weir_rows_restore(node->over->whiles[w].rows, err);
    }
    return rc;
}

/* The shape of the aggregate is the same: so are the whiles. */
void over_take_state(struct weir_node *node, struct weir_node *from) {
    for (int32_t w = 0; node->over != NULL && from->over != NULL && w < node->over->count; w++) {
        struct weir_rows *rows = node->over->whiles[w].rows;
        node->over->whiles[w].rows = from->over->whiles[w].rows;
        from->over->whiles[w].rows = rows;
        node->over->reached = from->over->reached;
        node->over->settled = from->over->settled;
    }
}
