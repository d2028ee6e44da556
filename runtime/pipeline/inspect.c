#include "pipeline/inspect.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "operator/aggregate/aggregate.h"
#include "operator/dedup.h"
#include "operator/literal.h"
#include "operator/show.h"
#include "operator/top/top.h"
#include "pipeline/graph/asking.h"
#include "pipeline/graph/node.h"
#include "pipeline/graph/over.h"
#include "pipeline/graph/rule.h"
#include "pipeline/past.h"
#include "state/image.h"

enum { SLICE_SLOTS = 2048, TRIES = 3 };
#define SLICE_BYTES_MAX ((size_t)1 << 30)

struct weir_inspection {
    struct past past;
    struct weir_show shows[CELLS_MAX]; /* by cell; take NULL: not shown */
    struct weir_shown shown;
};

/* --- what there is ---------------------------------------------------------------------------- */

static int32_t node_shows(struct weir_node *node, struct weir_show *shows, int32_t capacity) {
    int32_t count = 0;
    if (node->dedup != NULL && count < capacity) {
        weir_dedup_show(node->dedup, &shows[count++]);
    }
    count += join_shows(node, shows + count, capacity - count);
    if (node->withheld != NULL && count < capacity) {
        withheld_show(node->withheld, &shows[count++]);
    }
    if (node->dataset->remembered != NULL && count < capacity) {
        remembered_show(node->dataset->remembered, &shows[count++]);
    }
    for (int32_t k = 0; lookup_asking(node, k) != NULL && count < capacity; k++) {
        asking_show(lookup_asking(node, k), &shows[count++]);
    }
    if (node->aggregate != NULL) {
        count += weir_aggregate_shows(node->aggregate, shows + count, capacity - count);
        count += over_shows(node, shows + count, capacity - count);
    }
    if (node->rule != NULL) {
        count += rule_shows(node, shows + count, capacity - count);
    }
    if (node->top != NULL) {
        count += weir_top_shows(node->top, shows + count, capacity - count);
    }
    return count;
}

static void find_shows(struct weir_inspection *in) {
    struct weir_show shows[CELLS_MAX];
    int32_t count = 0;
    for (int32_t n = 0; n < in->past.graph->node_count; n++) {
        count += node_shows(in->past.graph->nodes[n], shows + count, CELLS_MAX - count);
    }
    for (int32_t c = 0; c < in->past.cell_count; c++) {
        for (int32_t s = 0; s < count; s++) {
            if (shows[s].cell == in->past.cells[c]) {
                in->shows[c] = shows[s];
            }
        }
    }
}

/* --- opening ---------------------------------------------------------------------------------- */

static int nothing_leaves(void *context, struct weir_dataset *dataset, struct weir_batch *batch,
                          const int32_t *sel, int32_t count, struct weir_error *err) {
    (void)context;
    (void)batch;
    (void)sel;
    (void)count;
    return weir_error_set(err, WEIR_E_BUG, "%s: rows leave a graph that is only looked at",
                          dataset->name);
}

static int open_once(struct weir_inspection *in, const struct weir_inspect_options *options,
                     struct weir_error *err) {
    struct past_options past = {
        .path = options->path,
        .settings = options->settings,
        .setting_count = options->setting_count,
        .epoch = options->epoch > 0 ? options->epoch + 1 : 0,
        .callbacks = {.output = nothing_leaves},
    };
    struct weir_record_view next;
    bool there;
    int rc = past_open(&in->past, &past, err);
    rc = rc == WEIR_OK ? past_load(&in->past, &next, &there, err) : rc;
    if (rc == WEIR_OK) {
        find_shows(in);
        weir_shown_init(&in->shown, in->past.pool);
    }
    return rc;
}

int weir_inspect(const struct weir_inspect_options *options, struct weir_inspection **out,
                 struct weir_error *err) {
    struct weir_inspection *in = NULL;
    int rc = WEIR_E_NOMEM;
    /* A live instance drops old snapshots and segments at any time. */
    for (int try = 0; try < TRIES; try++) {
        in = calloc(1, sizeof(*in));
        if (in == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
        }
        rc = open_once(in, options, err);
        if (rc == WEIR_OK) {
            *out = in;
            return WEIR_OK;
        }
        weir_inspection_close(in);
        if (rc != WEIR_E_NOTFOUND && rc != WEIR_E_CORRUPT && rc != WEIR_E_IO) {
            break;
        }
    }
    return rc;
}

void weir_inspection_close(struct weir_inspection *in) {
    if (in != NULL) {
        weir_shown_fini(&in->shown);
        past_close(&in->past);
        free(in);
    }
}

uint64_t weir_inspection_epoch(const struct weir_inspection *in) {
    return in->past.options.epoch - 1;
}

bool weir_inspection_cell(const struct weir_inspection *in, int32_t index,
                          struct weir_inspected *out) {
    if (index >= in->past.cell_count) {
        return false;
    }
    const struct weir_cell *cell = in->past.cells[index];
    *out = (struct weir_inspected){
        .name = cell->name,
        .what = in->shows[index].take != NULL ? in->shows[index].what : NULL,
        .keys = cell->ops->keys(cell->self),
        .bytes = cell->ops->bytes(cell->self),
    };
    return true;
}

bool weir_inspection_wanted(const char *cell, const char *asked) {
    size_t length = asked != NULL ? strlen(asked) : 0;
    return asked == NULL ||
           (strncmp(cell, asked, length) == 0 && (cell[length] == '\0' || cell[length] == '/'));
}

/* --- entries ---------------------------------------------------------------------------------- */

struct walk {
    struct weir_inspection *in;
    const struct weir_show *show;
    weir_inspect_entry *entry;
    void *context;
};

static int give(struct walk *w, const struct weir_show_entry *entry, struct weir_error *err) {
    struct weir_shown *shown = &w->in->shown;
    weir_shown_clear(shown);
    int rc = w->show->take(w->show->owner, entry, shown, err);
    if (rc != WEIR_OK) {
        return weir_error_wrap(err, "%s", w->show->cell->name);
    }
    if (shown->key.size == 0) {
        return WEIR_OK;
    }
    static const uint8_t empty[] = "{}";
    struct weir_span key = {shown->key.data, shown->key.size};
    struct weir_span value = {shown->value.data, shown->value.size};
    return w->entry(w->context, w->show->cell->name, key,
                    value.size > 0 ? value : (struct weir_span){empty, 2}, err);
}

static int take_image(void *context, uint8_t op, struct weir_image_reader *reader,
                      struct weir_error *err) {
    struct walk *w = context;
    struct weir_show_entry entry = {0};
    uint64_t number = 0;
    bool good = true;
    switch (op) {
    case WEIR_IMAGE_HEADER:
    case WEIR_IMAGE_NEXT:
    case WEIR_IMAGE_LAYOUT:
        good = weir_image_skip(reader, op);
        break;
    case WEIR_IMAGE_PUT:
        good = weir_image_u64(reader, &entry.sequence) &&
               weir_image_bytes(reader, &entry.key, &entry.key_bytes) &&
               weir_image_bytes(reader, &entry.value, &entry.value_bytes);
        break;
    case WEIR_IMAGE_INSERT:
        entry.key = reader->at;
        entry.key_bytes = sizeof(struct weir_fingerprint);
        good = weir_image_u64(reader, &number) && weir_image_u64(reader, &number) &&
               weir_image_u64(reader, &number);
        entry.time_us = (int64_t)number;
        break;
    default:
        good = false;
    }
    if (!good) {
        return weir_error_set(err, WEIR_E_CORRUPT, "%s: damaged state image (operation %u)",
                              w->show->cell->name, op);
    }
    bool is_entry = op == WEIR_IMAGE_PUT || op == WEIR_IMAGE_INSERT;
    return is_entry ? give(w, &entry, err) : WEIR_OK;
}

static int walk_cell(struct walk *w, struct weir_cell *cell, struct weir_error *err) {
    struct weir_cell_cursor cursor = {0};
    struct weir_buffer slice;
    weir_buffer_init(&slice, SLICE_BYTES_MAX);
    bool done = false;
    int rc = WEIR_OK;
    while (rc == WEIR_OK && !done) {
        weir_buffer_clear(&slice);
        rc = cell->ops->dump(cell->self, &cursor, &slice, SLICE_SLOTS, &done, err);
        rc = rc == WEIR_OK
                 ? weir_images_apply(cell->name, slice.data, slice.size, take_image, w, err)
                 : rc;
    }
    weir_buffer_fini(&slice);
    return rc;
}

int weir_inspection_each(struct weir_inspection *in, const char *asked, weir_inspect_entry *entry,
                         void *context, struct weir_error *err) {
    int rc = WEIR_OK;
    for (int32_t c = 0; rc == WEIR_OK && c < in->past.cell_count; c++) {
        struct walk w = {in, &in->shows[c], entry, context};
        const char *name = in->past.cells[c]->name;
        bool aside = w.show->detail && asked != NULL && strcmp(asked, name) != 0;
        if (w.show->take != NULL && !aside && weir_inspection_wanted(name, asked)) {
            rc = walk_cell(&w, in->past.cells[c], err);
        }
    }
    return rc;
}

/* --- keys of a dedup -------------------------------------------------------------------------- */

static int put_literal(const struct weir_field *field, const char *text,
                       struct weir_column_builder *column, struct weir_error *err) {
    struct weir_literal literal;
    int rc = weir_literal_parse(field, text, &literal, err);
    return rc == WEIR_OK ? weir_literal_put(field, &literal, column) : rc;
}

int weir_inspection_fingerprint(struct weir_inspection *in, const char *dataset,
                                const char *const *values, int32_t count, char out[33],
                                struct weir_error *err) {
    struct weir_node *node = graph_node(in->past.graph, dataset);
    struct weir_schema *schema =
        node != NULL && node->dedup != NULL ? weir_dedup_schema(node->dedup) : NULL;
    if (schema == NULL || schema->count != count) {
        return weir_error_set(err, WEIR_E_NOTFOUND, "%s: its dedup is by %d columns, not %d",
                              dataset, schema != NULL ? schema->count : 0, count);
    }
    struct weir_batch_builder *builder = weir_shown_row(&in->shown, schema);
    if (builder == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    int rc = WEIR_OK;
    for (int32_t c = 0; rc == WEIR_OK && c < count; c++) {
        rc = put_literal(&schema->fields[c], values[c], &builder->columns[c], err);
    }
    struct weir_fingerprint print = {0};
    if (rc == WEIR_OK) {
        weir_batch_builder_finish_row(builder);
    }
    struct weir_batch *row = weir_batch_builder_take(builder);
    rc = rc == WEIR_OK ? weir_dedup_fingerprint(node->dedup, row, &print) : rc;
    weir_batch_unref(row);
    snprintf(out, 33, "%016" PRIx64 "%016" PRIx64, print.hi, print.lo);
    return rc;
}
