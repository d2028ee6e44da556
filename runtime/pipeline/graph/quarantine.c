/* Quarantine datasets: rows as they entered, with every reason and where they came from. Nothing
 * that was refused is lost: a row that did not decode is kept as its bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pipeline/graph/command.h"
#include "pipeline/graph/node.h"
#include "source/source.h"

enum {
    EXTRA_BYTES_MAX = 64 << 20,
    RAW_BYTES_FLUSH = 16 << 20, /* a row's raw bytes are at most 1 MiB: never near the cap */
};

/* The extra columns, in order, after the input's own. */
enum {
    EXTRA_REASONS,
    EXTRA_RAW,
    EXTRA_TOPIC,
    EXTRA_PARTITION,
    EXTRA_OFFSET,
    EXTRA_EPOCH,
    EXTRA_RULE_SET,
    EXTRA_REJECTED_AT,
    EXTRA_COUNT,
};

static const struct {
    const char *name;
    const char *type;
} extra_columns[EXTRA_COUNT] = {
    {"_reasons", "list<struct<expectation: string, error: string>>"},
    {"_raw", "binary"},
    {"_topic", "string"},
    {"_partition", "int32"},
    {"_offset", "int64"},
    {"_epoch", "int64"},
    {"_rule_set", "string"},
    {"_rejected_at", "timestamp"},
};

int quarantine_init(struct quarantine *quarantine, struct weir_graph *graph, const char *of,
                    struct weir_schema *input, const struct weir_plan_sink *sink,
                    struct weir_error *err) {
    char name[256];
    snprintf(name, sizeof(name), "quarantine.%s", of);
    struct weir_schema *schema = weir_schema_create();
    quarantine->extra_schema = weir_schema_create();
    quarantine->columns = calloc((size_t)input->count + 1, sizeof(*quarantine->columns));
    quarantine->input = input;
    int rc = schema == NULL || quarantine->extra_schema == NULL || quarantine->columns == NULL
                 ? WEIR_E_NOMEM
                 : WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < input->count; i++) {
        if (input->fields[i].name[0] == '_') {
            continue;
        }
        quarantine->columns[quarantine->kept_columns++] = i;
        rc = weir_schema_add(schema, &input->fields[i]);
        if (rc == WEIR_OK) {
            schema->fields[schema->count - 1].nullable = true;
        }
    }
    for (int i = 0; rc == WEIR_OK && i < EXTRA_COUNT; i++) {
        rc = weir_schema_add_text(schema, extra_columns[i].name, extra_columns[i].type, true, err);
        if (rc == WEIR_OK) {
            rc = weir_schema_add(quarantine->extra_schema, &schema->fields[schema->count - 1]);
        }
    }
    if (rc == WEIR_OK) {
        quarantine->dataset = graph_add_dataset(graph, name, schema,
                                                sink->given ? sink : &graph->plan->quarantine, err);
        rc = quarantine->dataset == NULL ? WEIR_E_NOMEM : WEIR_OK;
    }
    if (rc == WEIR_OK) {
        rc = weir_batch_builder_init(&quarantine->extra, graph->pool, quarantine->extra_schema,
                                     ROWS_MAX, EXTRA_BYTES_MAX, err);
        quarantine->has_extra = rc == WEIR_OK;
    }
    weir_schema_unref(schema);
    return rc == WEIR_E_NOMEM ? weir_error_set(err, rc, "%s: out of memory", name) : rc;
}

void quarantine_fini(struct quarantine *quarantine) {
    if (quarantine->has_extra) {
        weir_batch_builder_fini(&quarantine->extra);
    }
    weir_schema_unref(quarantine->extra_schema);
    free(quarantine->columns);
}

static int begin(struct quarantine *quarantine) {
    return quarantine->extra.batch != NULL ? WEIR_OK : weir_batch_builder_begin(&quarantine->extra);
}

static int text_or_null(struct weir_column_builder *column, const char *text) {
    return text == NULL ? weir_builder_null(column)
                        : weir_builder_bytes(column, text, strlen(text));
}

static int append_reason(struct weir_column_builder *reasons, const char *name, const char *error) {
    struct weir_column_builder *item = &reasons->children[0];
    int rc = weir_builder_bytes(&item->children[0], name, strlen(name));
    if (rc == WEIR_OK) {
        rc = text_or_null(&item->children[1], error);
    }
    return rc == WEIR_OK ? weir_builder_struct(item) : rc;
}

/* The columns after reasons, raw and the place. */
static int append_tail(struct weir_graph *graph, struct weir_column_builder *columns) {
    int rc = weir_builder_int(&columns[EXTRA_EPOCH], graph->epoch);
    if (rc == WEIR_OK) {
        rc = text_or_null(&columns[EXTRA_RULE_SET], graph->rule_set_hash);
    }
    return rc == WEIR_OK ? weir_builder_int(&columns[EXTRA_REJECTED_AT], graph->clock_us) : rc;
}

static int append_place(struct weir_column_builder *columns, const struct weir_flow *flow,
                        int32_t row) {
    if (flow->origin == NULL) {
        int rc = weir_builder_null(&columns[EXTRA_TOPIC]);
        rc = rc == WEIR_OK ? weir_builder_null(&columns[EXTRA_PARTITION]) : rc;
        return rc == WEIR_OK ? weir_builder_null(&columns[EXTRA_OFFSET]) : rc;
    }
    const struct weir_column *meta =
        &flow->origin->columns[flow->origin->column_count - WEIR_META_COUNT];
    int rc;
    if (weir_column_is_null(&meta[WEIR_META_TOPIC], row)) {
        rc = weir_builder_null(&columns[EXTRA_TOPIC]);
    } else {
        int32_t length;
        const char *topic = weir_column_bytes(&meta[WEIR_META_TOPIC], row, &length);
        rc = weir_builder_bytes(&columns[EXTRA_TOPIC], topic, (size_t)length);
    }
    if (rc == WEIR_OK) {
        rc = weir_builder_int(&columns[EXTRA_PARTITION],
                              ((const int32_t *)meta[WEIR_META_PARTITION].values)[row]);
    }
    if (rc == WEIR_OK) {
        rc = weir_builder_int(&columns[EXTRA_OFFSET],
                              ((const int64_t *)meta[WEIR_META_OFFSET].values)[row]);
    }
    return rc;
}

static int append_notes(struct weir_node *node, struct weir_column_builder *reasons, int32_t row) {
    for (int32_t n = node->note_head[row]; n >= 0; n = node->notes[n].next) {
        const struct note *note = &node->notes[n];
        const char *error =
            note->text < 0 ? NULL : (const char *)node->graph->texts.data + note->text;
        int rc = append_reason(reasons, node->dataset->counters.tallies[note->tally].name, error);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return weir_builder_list(reasons);
}

/* `zeros` serves as validity, values and offsets alike: widest value times rows. */
static void all_null(struct weir_column *column, int32_t rows, void *zeros) {
    column->length = column->null_count = rows;
    column->validity = zeros;
    bool nested = weir_type_is_nested(column->type);
    column->values = nested ? NULL : zeros;
    if (column->type != WEIR_TYPE_STRUCT && (nested || weir_type_is_bytes(column->type))) {
        column->offsets = zeros;
    }
    for (int32_t c = 0; c < column->child_count; c++) {
        all_null(&column->children[c], column->type == WEIR_TYPE_STRUCT ? rows : 0, zeros);
    }
}

int column_all_null(struct weir_batch *batch, struct weir_column *column, int32_t rows) {
    size_t bytes = ((size_t)rows + 1) * 16;
    void *zeros = weir_batch_alloc(batch, bytes);
    if (zeros == NULL) {
        return WEIR_E_LIMIT;
    }
    memset(zeros, 0, bytes);
    all_null(column, rows, zeros);
    return WEIR_OK;
}

/* Input columns of `rows`, or all null when rows is NULL, beside the extra columns built. */
static int write_out(struct weir_graph *graph, struct quarantine *quarantine,
                     struct weir_batch *input, const int32_t *rows, struct weir_error *err) {
    struct weir_batch *extra = weir_batch_builder_take(&quarantine->extra);
    int32_t count = extra->rows;
    struct weir_batch *out = weir_batch_create(graph->pool, quarantine->dataset->schema);
    struct weir_batch *gathered = NULL;
    int rc = out == NULL ? WEIR_E_LIMIT : WEIR_OK;
    if (rc == WEIR_OK && input != NULL) {
        if (input->frames != NULL) {
            rc = weir_source_complete(input, graph->pool, rows, count, &gathered, err);
        } else {
            gathered = weir_batch_gather(input, rows, count);
            rc = gathered == NULL ? WEIR_E_LIMIT : WEIR_OK;
        }
    }
    for (int32_t i = 0; rc == WEIR_OK && i < quarantine->kept_columns; i++) {
        /* Before explode a row has no columns of an element. */
        bool has = gathered != NULL && quarantine->columns[i] < gathered->column_count;
        rc = has ? weir_batch_borrow(out, i, gathered, quarantine->columns[i])
                 : column_all_null(out, &out->columns[i], count);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < EXTRA_COUNT; i++) {
        rc = weir_batch_borrow(out, quarantine->kept_columns + i, extra, i);
    }
    if (rc == WEIR_OK) {
        int32_t sel[ROWS_MAX];
        for (int32_t i = 0; i < count; i++) {
            sel[i] = i;
        }
        out->rows = count;
        quarantine->dataset->counters.in += count;
        quarantine->dataset->counters.out += count;
        rc = graph->callbacks.output(graph->callbacks.context, quarantine->dataset, out, sel, count,
                                     err);
    } else {
        rc = weir_error_set(err, rc, "%s: the memory cap is reached", quarantine->dataset->name);
    }
    weir_batch_unref(gathered);
    weir_batch_unref(extra);
    weir_batch_unref(out);
    return rc;
}

/* Who sent the command hears why. */
static int tell_notes(struct weir_node *node, int32_t row, struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t n = node->note_head[row]; rc == WEIR_OK && n >= 0; n = node->notes[n].next) {
        const struct note *note = &node->notes[n];
        const char *text =
            note->text < 0 ? NULL : (const char *)node->graph->texts.data + note->text;
        rc = weir_command_rejected(node->graph->command, node->name,
                                   node->dataset->counters.tallies[note->tally].name, text, err);
    }
    return rc;
}

int quarantine_rows(struct weir_node *node, const struct weir_flow *flow, const int32_t *rows,
                    int32_t count, struct weir_error *err) {
    struct quarantine *quarantine = &node->quarantine;
    if (count == 0) {
        return WEIR_OK;
    }
    for (int32_t i = 0;
         node->dataset->follows && weir_command_open(node->graph->command) && i < count; i++) {
        int rc = tell_notes(node, rows[i], err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    int rc = begin(quarantine);
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        struct weir_column_builder *columns = quarantine->extra.columns;
        rc = append_notes(node, &columns[EXTRA_REASONS], rows[i]);
        if (rc == WEIR_OK) {
            rc = weir_builder_null(&columns[EXTRA_RAW]);
        }
        if (rc == WEIR_OK) {
            rc = append_place(columns, flow, rows[i]);
        }
        if (rc == WEIR_OK) {
            rc = append_tail(node->graph, columns);
        }
        if (rc == WEIR_OK) {
            weir_batch_builder_finish_row(&quarantine->extra);
        }
    }
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: the memory cap is reached", quarantine->dataset->name);
    }
    return write_out(node->graph, quarantine, flow->batch, rows, err);
}

/* Room for one more row kept as bytes. */
static int begin_raw(struct weir_graph *graph, struct quarantine *quarantine,
                     struct weir_error *err) {
    bool full = quarantine->extra.rows == ROWS_MAX ||
                quarantine->extra.columns[EXTRA_RAW].bytes_size > RAW_BYTES_FLUSH;
    if (quarantine->extra.batch != NULL && full) {
        int rc = quarantine_flush(graph, quarantine, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    int rc = begin(quarantine);
    return rc == WEIR_OK ? rc
                         : weir_error_set(err, rc, "%s: the memory cap is reached",
                                          quarantine->dataset->name);
}

/* What follows the reasons of a row kept as bytes; `rc` is theirs. */
static int finish_raw(struct weir_graph *graph, struct quarantine *quarantine, int rc,
                      const struct raw_row *raw, struct weir_error *err) {
    struct weir_column_builder *columns = quarantine->extra.columns;
    if (rc == WEIR_OK) {
        rc = weir_builder_bytes(&columns[EXTRA_RAW], raw->bytes, raw->size);
    }
    if (rc == WEIR_OK) {
        rc = text_or_null(&columns[EXTRA_TOPIC], raw->topic);
    }
    if (rc == WEIR_OK) {
        rc = raw->topic == NULL ? weir_builder_null(&columns[EXTRA_PARTITION])
                                : weir_builder_int(&columns[EXTRA_PARTITION], raw->partition);
    }
    if (rc == WEIR_OK) {
        rc = raw->topic == NULL ? weir_builder_null(&columns[EXTRA_OFFSET])
                                : weir_builder_int(&columns[EXTRA_OFFSET], raw->offset);
    }
    if (rc == WEIR_OK) {
        rc = append_tail(graph, columns);
    }
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: the memory cap is reached", quarantine->dataset->name);
    }
    weir_batch_builder_finish_row(&quarantine->extra);
    return WEIR_OK;
}

int quarantine_raw(struct weir_graph *graph, struct quarantine *quarantine,
                   const struct raw_row *raw, const char *name, const char *error,
                   struct weir_error *err) {
    int rc = begin_raw(graph, quarantine, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    struct weir_column_builder *reasons = &quarantine->extra.columns[EXTRA_REASONS];
    rc = append_reason(reasons, name, error);
    if (rc == WEIR_OK) {
        rc = weir_builder_list(reasons);
    }
    return finish_raw(graph, quarantine, rc, raw, err);
}

int quarantine_noted_raw(struct weir_node *node, int32_t row, const struct raw_row *raw,
                         struct weir_error *err) {
    struct quarantine *quarantine = &node->quarantine;
    int rc = begin_raw(node->graph, quarantine, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    rc = append_notes(node, &quarantine->extra.columns[EXTRA_REASONS], row);
    return finish_raw(node->graph, quarantine, rc, raw, err);
}

int quarantine_flush(struct weir_graph *graph, struct quarantine *quarantine,
                     struct weir_error *err) {
    if (quarantine->extra.batch == NULL || quarantine->extra.rows == 0) {
        return WEIR_OK;
    }
    return write_out(graph, quarantine, NULL, NULL, err);
}
