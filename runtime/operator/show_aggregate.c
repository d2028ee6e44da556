/* Groups and windows as people read them: their keys, and what the measures are so far. */
#include <stdlib.h>
#include <string.h>

#include "operator/counted.h"
#include "operator/hopping.h"
#include "operator/session.h"
#include "operator/show.h"

/* A value as it is in a slot, of an image. */
static int value_of(struct weir_aggregate *aggregate, const struct weir_show_entry *entry,
                    uint8_t *value, struct weir_error *err) {
    struct weir_measures *measures = &aggregate->measures;
    memset(value, 0, measures->value_bytes);
    if (measures->has_parts) {
        return weir_measures_codec.decode(measures, value, entry->value, entry->value_bytes, err);
    }
    if (entry->value_bytes != measures->value_bytes) {
        return weir_error_set(err, WEIR_E_CORRUPT, "a value of %zu bytes", entry->value_bytes);
    }
    memcpy(value, entry->value, entry->value_bytes);
    return WEIR_OK;
}

/* All its rows were taken back. */
static bool is_gone(const struct weir_aggregate *aggregate, const uint8_t *value) {
    int64_t rows = 1;
    if (aggregate->measures.retracts) {
        memcpy(&rows, value + aggregate->measures.tail_offset, sizeof rows);
    }
    return rows <= 0;
}

static int put_row(struct weir_aggregate *aggregate, const struct weir_aggregate_row *row,
                   struct weir_shown *out, struct weir_error *err) {
    struct weir_batch_builder *builder = weir_shown_row(out, aggregate->output);
    if (builder == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    int rc = weir_aggregate_append_row(aggregate, row, builder, err);
    if (rc == WEIR_OK) {
        weir_batch_builder_finish_row(builder);
    }
    struct weir_batch *batch = weir_batch_builder_take(builder);
    int32_t keys = aggregate->by_count + (aggregate->unwindowed ? 0 : 2);
    rc = rc == WEIR_OK ? weir_shown_columns(batch, 0, keys, &out->key) : rc;
    rc = rc == WEIR_OK ? weir_shown_columns(batch, keys, aggregate->measures.count, &out->value)
                       : rc;
    weir_batch_unref(batch);
    return rc;
}

static int show_group(void *owner, const struct weir_show_entry *entry, struct weir_shown *out,
                      struct weir_error *err) {
    struct weir_aggregate *aggregate = owner;
    uint8_t *value = aligned_alloc(16, (aggregate->measures.value_bytes + 16u) & ~(size_t)15);
    if (value == NULL || entry->key_bytes < aggregate->prefix_bytes) {
        free(value);
        return weir_error_set(err, value == NULL ? WEIR_E_NOMEM : WEIR_E_CORRUPT,
                              "a group's key does not parse");
    }
    struct weir_aggregate_row row = {
        .key = entry->key + aggregate->prefix_bytes,
        .key_bytes = entry->key_bytes - aggregate->prefix_bytes,
        .value = value,
    };
    int rc = value_of(aggregate, entry, value, err);
    if (rc == WEIR_OK && !aggregate->unwindowed) {
        memcpy(&row.start_us, entry->key, sizeof row.start_us);
        if (aggregate->hops != NULL) {
            row.end_us = row.start_us + aggregate->hops->pane;
        } else if (aggregate->sessions != NULL) {
            weir_sessions_bounds(aggregate, value, &row.start_us, &row.end_us);
        } else if (aggregate->counted != NULL) {
            weir_counted_bounds(aggregate, value, &row.start_us, &row.end_us);
        } else {
            weir_aggregate_bounds(aggregate, row.start_us, &row.start_us, &row.end_us);
        }
    }
    rc = rc == WEIR_OK && !is_gone(aggregate, value) ? put_row(aggregate, &row, out, err) : rc;
    if (aggregate->measures.has_parts) {
        weir_measures_codec.fini(&aggregate->measures, value);
    }
    free(value);
    return rc;
}

int32_t weir_aggregate_shows(struct weir_aggregate *aggregate, struct weir_show *shows,
                             int32_t capacity) {
    if (capacity < 1) {
        return 0;
    }
    shows[0] = (struct weir_show){
        .cell = weir_table_cell(aggregate->table),
        .what = aggregate->unwindowed         ? "groups"
                : aggregate->hops != NULL     ? "panes of windows"
                : aggregate->sessions != NULL ? "sessions"
                                              : "windows",
        .owner = aggregate,
        .take = show_group,
    };
    return 1;
}
