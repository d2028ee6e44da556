/* Groups and windows as people read them: their keys, and what the measures are so far. */
#include <stdlib.h>
#include <string.h>

#include "operator/aggregate/counted.h"
#include "operator/aggregate/delayed.h"
#include "operator/aggregate/hopping.h"
#include "operator/aggregate/layout.h"
#include "operator/aggregate/members.h"
#include "operator/aggregate/session.h"
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

/* Of a group that nobody has met since another version wrote it. */
static int put_version(const struct weir_aggregate *aggregate, const uint8_t *value,
                       struct weir_shown *out) {
    uint32_t length;
    uint64_t shape;
    const uint8_t *old = weir_measures_old(&aggregate->measures, value, &length);
    if (old == NULL) {
        return WEIR_OK;
    }
    memcpy(&shape, old, sizeof shape);
    const struct weir_layout *layout = weir_layouts_find(aggregate->layouts, shape);
    return layout != NULL ? weir_shown_int(&out->value, "_version", layout->version) : WEIR_OK;
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
    bool shown = rc == WEIR_OK && !is_gone(aggregate, value);
    rc = shown ? put_row(aggregate, &row, out, err) : rc;
    rc = shown && rc == WEIR_OK ? put_version(aggregate, value, out) : rc;
    if (aggregate->measures.has_parts) {
        weir_measures_codec.fini(&aggregate->measures, value);
    }
    free(value);
    return rc;
}

int weir_aggregate_show_key(struct weir_aggregate *aggregate, const uint8_t *key, size_t length,
                            struct weir_shown *out, struct weir_error *err) {
    int64_t start;
    int64_t end;
    uint32_t prefix = aggregate->prefix_bytes;
    int rc = length < prefix ? weir_error_set(err, WEIR_E_CORRUPT, "a key does not parse")
             : aggregate->by_count == 0 ? WEIR_OK
                                        : weir_shown_key(out, aggregate->key, key + prefix,
                                                         length - prefix, &out->key, err);
    if (rc == WEIR_OK && !aggregate->unwindowed) {
        memcpy(&start, key, sizeof start);
        weir_aggregate_bounds(aggregate, start, &start, &end);
        rc = weir_shown_time(&out->key, "window_start", start);
    }
    return rc;
}

/* A value of an exact distinct, or one an extreme may fall back to, and how many rows have it. */
static int show_member(void *owner, const struct weir_show_entry *entry, struct weir_shown *out,
                       struct weir_error *err) {
    const struct weir_aggregate *aggregate = owner;
    uint64_t group;
    uint16_t m;
    int64_t rows = 1;
    if (entry->key_bytes < MEMBER_BYTES) {
        return weir_error_set(err, WEIR_E_CORRUPT, "a value of a measure does not parse");
    }
    memcpy(&group, entry->key, sizeof group);
    memcpy(&m, entry->key + sizeof group, sizeof m);
    if (m >= aggregate->measures.count || aggregate->measures.cells[m].member_key == NULL) {
        return weir_error_set(err, WEIR_E_CORRUPT, "there is no measure %d", m);
    }
    if (entry->value_bytes == sizeof rows) {
        memcpy(&rows, entry->value, sizeof rows);
    }
    const struct weir_measure_cell *cell = &aggregate->measures.cells[m];
    int rc = weir_shown_int(&out->key, "_group", (int64_t)group);
    rc = rc == WEIR_OK ? weir_shown_text(&out->key, "_measure", cell->measure.name,
                                         strlen(cell->measure.name))
                       : rc;
    rc = rc == WEIR_OK ? weir_shown_key(out, cell->member_key, entry->key + MEMBER_BYTES,
                                        entry->key_bytes - MEMBER_BYTES, &out->key, err)
                       : rc;
    return rc == WEIR_OK ? weir_shown_int(&out->value, "rows", rows) : rc;
}

/* A group as its readers know it, while its change waits. */
static int show_told(void *owner, const struct weir_show_entry *entry, struct weir_shown *out,
                     struct weir_error *err) {
    struct weir_show_entry told = *entry;
    int64_t time_us;
    if (entry->value_bytes < WEIR_DELAYED_HEAD) {
        return weir_error_set(err, WEIR_E_CORRUPT, "a change that waits does not parse");
    }
    memcpy(&time_us, entry->value, sizeof time_us);
    told.value += WEIR_DELAYED_HEAD;
    told.value_bytes -= WEIR_DELAYED_HEAD;
    int rc = show_group(owner, &told, out, err);
    return rc == WEIR_OK && out->value.size > 0 ? weir_shown_time(&out->value, "_changed", time_us)
                                                : rc;
}

static int show_key(void *owner, const struct weir_show_entry *entry, struct weir_shown *out,
                    struct weir_error *err) {
    const struct weir_aggregate *aggregate = owner;
    int rc = aggregate->by_count == 0 ? WEIR_OK
                                      : weir_shown_key(out, aggregate->key, entry->key,
                                                       entry->key_bytes, &out->key, err);
    return rc == WEIR_OK ? weir_shown_int(&out->value, "_number", (int64_t)entry->sequence) : rc;
}

static int show_fired(void *owner, const struct weir_show_entry *entry, struct weir_shown *out,
                      struct weir_error *err) {
    int64_t end;
    (void)owner;
    if (entry->value_bytes < sizeof end) {
        return weir_error_set(err, WEIR_E_CORRUPT, "how far windows have closed does not parse");
    }
    memcpy(&end, entry->value, sizeof end);
    return end == INT64_MIN ? WEIR_OK : weir_shown_time(&out->value, "_closed_until", end);
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
    int32_t count = 1;
    if (aggregate->members != NULL && count < capacity) {
        shows[count++] =
            (struct weir_show){weir_table_cell(aggregate->members), "values of measures, by group",
                               aggregate, show_member, true};
    }
    if (aggregate->hops != NULL && count + 1 < capacity) {
        shows[count++] = (struct weir_show){weir_table_cell(aggregate->hops->groups),
                                            "keys of panes", aggregate, show_key, true};
        shows[count++] =
            (struct weir_show){weir_table_cell(aggregate->hops->cursor),
                               "how far windows have closed", aggregate, show_fired, true};
    }
    if (aggregate->delayed != NULL && count < capacity) {
        shows[count++] = (struct weir_show){weir_delayed_cell(aggregate->delayed),
                                            "what readers of changes that wait know", aggregate,
                                            show_told, true};
    }
    if (aggregate->sessions != NULL && count < capacity) {
        shows[count++] = (struct weir_show){weir_sessions_cell(aggregate->sessions),
                                            "keys of sessions", aggregate, show_key, true};
    }
    if (aggregate->sessions != NULL && weir_sessions_moments(aggregate->sessions) != NULL &&
        count < capacity) {
        shows[count++] =
            (struct weir_show){weir_sessions_moments(aggregate->sessions),
                               "what sessions are made of", aggregate, show_group, true};
    }
    return count;
}
