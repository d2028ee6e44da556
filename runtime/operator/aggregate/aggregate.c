/* What an aggregate is made of, what it keeps, and how that comes back. Rows go in by
 * aggregate_feed.c and out by aggregate_fire.c. */
#include <inttypes.h>
#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "batch/change.h"
#include "core/time.h"
#include "operator/aggregate/changes.h"
#include "operator/aggregate/counted.h"
#include "operator/aggregate/delayed.h"
#include "operator/aggregate/layout.h"
#include "operator/aggregate/members.h"
#include "operator/aggregate/session.h"

enum { KEY_INLINE_MAX = 64, INDEX_BYTES_A_KEY = 16, MOVED_KEY_MAX = 1 << 30 };

/* --- creation ------------------------------------------------------------------------------ */

static int make_output(struct weir_aggregate *aggregate, const struct weir_aggregate_config *config,
                       struct weir_error *err) {
    aggregate->output = weir_schema_create();
    if (aggregate->output == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "no memory for a schema");
    }
    int rc = WEIR_OK;
    for (int32_t i = 0; i < config->by_count && rc == WEIR_OK; i++) {
        rc = weir_schema_add(aggregate->output, &config->input->fields[config->by[i]]);
    }
    const char *const bounds[] = {"window_start", "window_end"};
    for (int i = 0; i < 2 && rc == WEIR_OK && !config->unwindowed; i++) {
        rc = weir_schema_add_text(aggregate->output, bounds[i], "timestamp", false, err);
    }
    for (int32_t m = 0; m < aggregate->measures.count && rc == WEIR_OK; m++) {
        struct weir_measure_cell *cell = &aggregate->measures.cells[m];
        struct weir_field field = cell->output;
        char *name = strdup(cell->measure.name);
        if (name == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "no memory for a schema");
        }
        field.name = name;
        rc = weir_schema_add(aggregate->output, &field);
        free(name);
    }
    if (rc == WEIR_OK && (config->unwindowed || config->updates)) {
        rc = weir_schema_add_text(aggregate->output, WEIR_CHANGE_COLUMN, "int8", false, err);
    }
    return rc == WEIR_OK ? rc : weir_error_set(err, rc, "cannot make the output's schema");
}

/* Of all but the measures. */
static uint64_t base_of(const struct weir_aggregate *aggregate,
                        const struct weir_aggregate_config *config) {
    uint64_t fixed[3] = {weir_key_shape(aggregate->key), (uint64_t)aggregate->size,
                         config->state_version};
    uint64_t shape = XXH3_64bits(fixed, sizeof fixed);
    if (config->every_us != 0) {
        int64_t hops[2] = {config->every_us, config->cumulate};
        shape = XXH3_64bits_withSeed(hops, sizeof hops, shape);
    }
    if (config->gap_us != 0 || config->calendar != NULL) {
        int64_t other[3] = {config->gap_us, aggregate->calendar.unit,
                            aggregate->calendar.week_start};
        shape = XXH3_64bits_withSeed(other, sizeof other, shape);
        const char *zone = config->calendar != NULL ? weir_zone_name(config->calendar->zone) : "";
        shape = XXH3_64bits_withSeed(zone, strlen(zone), shape);
    }
    if (config->rows != 0) {
        shape = XXH3_64bits_withSeed(&config->rows, sizeof config->rows, shape);
    }
    if (config->unwindowed || config->retracts || config->updates) {
        uint8_t changing[2] = {(uint8_t)(config->unwindowed | config->updates << 1 |
                                         config->delays << 2 | config->refires << 3),
                               config->retracts};
        shape = XXH3_64bits_withSeed(changing, sizeof changing, shape);
    }
    return shape;
}

static uint64_t shape_of(const struct weir_aggregate *aggregate,
                         const struct weir_aggregate_config *config, bool versions) {
    uint64_t shape = base_of(aggregate, config);
    if (versions) {
        shape = XXH3_64bits_withSeed(&config->version, sizeof config->version, shape);
    }
    for (int32_t m = 0; m < aggregate->measures.count; m++) {
        const struct weir_measure *measure = &aggregate->measures.cells[m].measure;
        uint8_t kind[5] = {(uint8_t)measure->kind, measure->has_input, measure->type,
                           measure->precision, (uint8_t)measure->scale};
        shape = XXH3_64bits_withSeed(kind, sizeof kind, shape);
        shape = measure->share != 0
                    ? XXH3_64bits_withSeed(&measure->share, sizeof measure->share, shape)
                    : shape;
        shape = config->over_us != NULL && config->over_us[m] != 0
                    ? XXH3_64bits_withSeed(&config->over_us[m], sizeof(int64_t), shape)
                    : shape;
        shape = measure->most != 0
                    ? XXH3_64bits_withSeed(&measure->most, sizeof measure->most, shape)
                    : shape;
        shape = XXH3_64bits_withSeed(measure->name, strlen(measure->name), shape);
        const struct weir_field *state = &aggregate->measures.cells[m].output;
        for (int32_t f = 0; measure->kind == WEIR_MEASURE_AGGREGATE && f < state->child_count;
             f++) {
            const struct weir_field *field = &state->children[f];
            uint8_t type[3] = {field->type, field->precision, (uint8_t)field->scale};
            shape = XXH3_64bits_withSeed(type, sizeof type, shape);
            shape = XXH3_64bits_withSeed(field->name, strlen(field->name), shape);
        }
    }
    return shape;
}

static int make_tables(struct weir_aggregate *aggregate, const struct weir_aggregate_config *config,
                       struct weir_error *err) {
    size_t key_bytes = aggregate->prefix_bytes + weir_key_estimate_bytes(aggregate->key);
    aggregate->key_estimate = key_bytes;
    struct weir_table_config table = {
        .declaration = config->declaration,
        .cell = "window",
        .shape = aggregate->shape,
        .value_bytes = aggregate->measures.value_bytes,
        .key_inline_bytes = (uint32_t)(key_bytes < KEY_INLINE_MAX ? key_bytes : KEY_INLINE_MAX),
        .max_keys = config->max_keys,
        .max_bytes = config->max_bytes,
        .option = config->option,
        .codec = aggregate->measures.has_parts ? &weir_measures_codec : NULL,
        .codec_context = &aggregate->measures,
    };
    aggregate->table = weir_table_create(&table, err);
    if (aggregate->table == NULL) {
        return WEIR_E_CONFIG;
    }
    aggregate->measures.table = aggregate->table;
    /* What waits to leave is looked for among the keys in memory. */
    bool plain = !config->refires && config->gap_us == 0 && config->rows == 0 &&
                 (config->unwindowed || config->updates || config->every_us == 0);
    if (!aggregate->measures.has_members) {
        return config->disk != NULL && plain ? aggregate_disk_allow(aggregate, config, err)
                                             : WEIR_OK;
    }
    struct weir_table_config members = {
        .declaration = config->declaration,
        .cell = "distinct",
        .shape = aggregate->shape,
        .value_bytes = config->retracts ? sizeof(int64_t) : 0,
        .key_inline_bytes = 24,
        .max_bytes = config->max_bytes,
        .option = config->option,
    };
    aggregate->members = weir_table_create(&members, err);
    return aggregate->members != NULL ? WEIR_OK : WEIR_E_CONFIG;
}

struct weir_aggregate *weir_aggregate_create(const struct weir_aggregate_config *config,
                                             struct weir_error *err) {
    bool timeless = config->gap_us != 0 || config->rows != 0; /* no time tells its window */
    bool sized = !timeless && config->calendar == NULL && !config->unwindowed;
    bool overlaps = config->every_us != 0 && (config->updates || config->retracts);
    if ((config->retracts && config->rows != 0) ||
        (config->updates && (config->rows != 0 || config->unwindowed)) ||
        (sized && config->size_us <= 0) || config->gap_us < 0 || config->rows < 0 ||
        (config->gap_us > 0 && config->rows > 0) || config->lateness_us < 0 ||
        config->every_us < 0 ||
        (config->every_us > 0 && (!sized || config->every_us > config->size_us)) ||
        (config->cumulate && (config->every_us == 0 || config->size_us % config->every_us != 0))) {
        weir_error_set(err, WEIR_E_CONFIG,
                       "%s: a window's size must be positive, its allowed_lateness not negative, "
                       "its `every` or `step` not longer than its size, and a step divides it",
                       config->declaration);
        return NULL;
    }
    struct weir_aggregate *aggregate = calloc(1, sizeof *aggregate);
    if (aggregate == NULL) {
        weir_error_set(err, WEIR_E_NOMEM, "%s: no memory", config->declaration);
        return NULL;
    }
    weir_windows_init(&aggregate->windows);
    weir_windows_init(&aggregate->unfired);
    aggregate->refires = config->refires;
    aggregate->fired_known = true;
    aggregate->fired_us = INT64_MIN;
    weir_keys_init(&aggregate->keys);
    weir_keys_init(&aggregate->member_keys);
    weir_buffer_init(&aggregate->moved_key, MOVED_KEY_MAX);
    aggregate->size = config->size_us;
    aggregate->every = overlaps ? config->every_us : 0;
    aggregate->cumulate = config->cumulate;
    if (config->calendar != NULL) {
        aggregate->calendar = *config->calendar;
    }
    aggregate->lateness = config->lateness_us;
    aggregate->by_count = config->by_count;
    aggregate->unwindowed = config->unwindowed;
    aggregate->prefix_bytes = config->unwindowed                   ? 0
                              : config->every_us != 0 && !overlaps ? HOP_BYTES
                                                                   : WINDOW_BYTES;
    aggregate->declaration = strdup(config->declaration);
    if (aggregate->declaration == NULL) {
        weir_error_set(err, WEIR_E_NOMEM, "no memory");
        goto fail;
    }
    uint32_t tail_bytes = config->gap_us != 0
                              ? WINDOW_BYTES * (config->updates || config->retracts ? 3 : 2)
                          : config->rows != 0 ? WEIR_COUNTED_TAIL
                          : config->unwindowed || config->retracts || config->updates
                              ? (uint32_t)sizeof(uint64_t) /* rows of the group */
                              : 0;
    if (overlaps && weir_overlap_windows(aggregate) > WEIR_OVERLAP_WINDOWS_MAX) {
        weir_error_set(err, WEIR_E_CONFIG,
                       "a row would change %lld windows: at most %d can change; make the step "
                       "longer, or let rows leave on_close",
                       (long long)weir_overlap_windows(aggregate), WEIR_OVERLAP_WINDOWS_MAX);
        goto fail;
    }
    aggregate->key = weir_key_create(config->input, config->by, config->by_count, err);
    if (aggregate->key == NULL ||
        weir_measures_init(&aggregate->measures, config->measures, config->measure_count,
                           config->retracts, weir_layouts_keep_old(config), tail_bytes,
                           err) != WEIR_OK ||
        (config->merge != NULL && weir_measures_set_merge(&aggregate->measures, config->merge,
                                                          config->merge_context, err) != WEIR_OK) ||
        make_output(aggregate, config, err) != WEIR_OK) {
        goto fail;
    }
    aggregate->shape = shape_of(aggregate, config, weir_layouts_keep_old(config));
    if (make_tables(aggregate, config, err) != WEIR_OK) {
        goto fail;
    }
    /* State of declarations from before versions were told apart had the shape without one. */
    if (weir_layouts_create(aggregate, config, base_of(aggregate, config),
                            shape_of(aggregate, config, false), err) != WEIR_OK) {
        goto fail;
    }
    if (config->every_us != 0 && !overlaps) {
        aggregate->hops = weir_hops_create(aggregate, config, err);
        if (aggregate->hops == NULL) {
            goto fail;
        }
    }
    if (config->gap_us != 0) {
        aggregate->sessions = weir_sessions_create(aggregate, config, err);
        if (aggregate->sessions == NULL) {
            goto fail;
        }
    }
    if (config->rows != 0) {
        aggregate->counted = weir_counted_create(config->rows);
        if (aggregate->counted == NULL) {
            weir_error_set(err, WEIR_E_NOMEM, "no memory");
            goto fail;
        }
    }
    if (config->unwindowed || config->updates) {
        aggregate->changes = weir_changes_create();
        if (aggregate->changes == NULL) {
            weir_error_set(err, WEIR_E_NOMEM, "no memory");
            goto fail;
        }
    }
    if (config->delays) {
        aggregate->delayed = weir_delayed_create(aggregate, config, err);
        if (aggregate->delayed == NULL) {
            goto fail;
        }
    }
    return aggregate;
fail:
    weir_error_wrap(err, "%s", config->declaration);
    weir_aggregate_destroy(aggregate);
    return NULL;
}

void weir_aggregate_merge_with(struct weir_aggregate *aggregate, void *context) {
    weir_measures_merge_with(&aggregate->measures, context);
    if (aggregate->layouts != NULL) {
        aggregate->layouts->migrate_context = context;
    }
}

void weir_aggregate_destroy(struct weir_aggregate *aggregate) {
    if (aggregate == NULL) {
        return;
    }
    weir_hops_destroy(aggregate->hops);
    weir_sessions_destroy(aggregate->sessions);
    weir_counted_destroy(aggregate->counted);
    weir_changes_destroy(aggregate->changes);
    weir_delayed_destroy(aggregate->delayed);
    weir_layouts_destroy(aggregate->layouts);
    weir_aggregate_destroy(aggregate->retired);
    weir_table_destroy(aggregate->table);
    aggregate_disk_destroy(aggregate->disk);
    weir_table_destroy(aggregate->members);
    weir_measures_fini(&aggregate->measures);
    weir_key_destroy(aggregate->key);
    weir_schema_unref(aggregate->output);
    weir_windows_fini(&aggregate->windows);
    weir_windows_fini(&aggregate->unfired);
    weir_keys_fini(&aggregate->keys);
    weir_keys_fini(&aggregate->member_keys);
    weir_buffer_fini(&aggregate->moved_key);
    weir_aggregate_free_scratch(aggregate);
    free(aggregate->graves);
    free(aggregate->declaration);
    free(aggregate);
}

struct weir_schema *weir_aggregate_output(const struct weir_aggregate *aggregate) {
    return aggregate->output;
}

/* --- state --------------------------------------------------------------------------------- */

size_t weir_aggregate_keys(const struct weir_aggregate *aggregate) {
    return weir_table_keys(aggregate->table);
}

size_t weir_aggregate_bytes(const struct weir_aggregate *aggregate) {
    return weir_table_bytes(aggregate->table) + weir_windows_bytes(&aggregate->windows) +
           (aggregate->members != NULL ? weir_table_bytes(aggregate->members) : 0) +
           (aggregate->hops != NULL ? weir_hops_bytes(aggregate->hops) : 0) +
           (aggregate->sessions != NULL ? weir_sessions_bytes(aggregate->sessions) : 0) +
           (aggregate->counted != NULL ? weir_counted_bytes(aggregate->counted) : 0) +
           (aggregate->changes != NULL ? weir_changes_bytes(aggregate->changes) : 0) +
           (aggregate->delayed != NULL ? weir_delayed_bytes(aggregate->delayed) : 0);
}

size_t weir_aggregate_estimate(const struct weir_aggregate *aggregate) {
    const struct weir_table_view *view = weir_table_view(aggregate->table);
    size_t heap = aggregate->key_estimate > view->key_inline_bytes
                      ? weir_heap_usable(aggregate->key_estimate)
                      : 0;
    return view->slot_bytes + INDEX_BYTES_A_KEY + heap;
}

void weir_aggregate_follow(struct weir_aggregate *aggregate, struct weir_aggregate *as) {
    struct weir_key *key = aggregate->key;
    aggregate->key = as->key;
    as->key = key;
    weir_layouts_follow(aggregate, as);
}

uint64_t weir_aggregate_shape(const struct weir_aggregate *aggregate) {
    return aggregate->shape;
}

int32_t weir_aggregate_cells(struct weir_aggregate *aggregate, struct weir_cell **cells,
                             int32_t capacity) {
    int32_t count = 0;
    if (aggregate->retired != NULL && weir_table_collected(aggregate->retired->table)) {
        weir_aggregate_destroy(aggregate->retired);
        aggregate->retired = NULL;
    }
    if (count < capacity) {
        cells[count++] = weir_table_cell(aggregate->table);
    }
    if (aggregate->members != NULL && count < capacity) {
        cells[count++] = weir_table_cell(aggregate->members);
    }
    if (aggregate->hops != NULL) {
        count += weir_hops_cells(aggregate, cells + count, capacity - count);
    }
    if (aggregate->delayed != NULL && count < capacity) {
        cells[count++] = weir_delayed_cell(aggregate->delayed);
    }
    if (aggregate->sessions != NULL && count < capacity) {
        cells[count++] = weir_sessions_cell(aggregate->sessions);
    }
    if (aggregate->sessions != NULL && weir_sessions_moments(aggregate->sessions) != NULL &&
        count < capacity) {
        cells[count++] = weir_sessions_moments(aggregate->sessions);
    }
    return count;
}

struct weir_ordered_slot *weir_slots_in_order(struct weir_table *table, size_t *count) {
    struct weir_ordered_slot *list = malloc((weir_table_keys(table) + 1) * sizeof *list);
    uint64_t last = 0;
    bool sorted = true; /* as long as no number was used again */
    *count = 0;
    for (uint32_t n = 1; list != NULL && n <= weir_table_slots(table); n++) {
        const struct weir_slot *slot = weir_table_slot(table, n);
        if (slot->sequence != 0) {
            list[(*count)++] = (struct weir_ordered_slot){slot->sequence, n};
            sorted = sorted && slot->sequence > last;
            last = slot->sequence;
        }
    }
    if (list != NULL && !sorted) {
        qsort(list, *count, sizeof *list, weir_compare_sequence);
    }
    return list;
}

void weir_aggregate_set_clock(struct weir_aggregate *aggregate, int64_t clock_us) {
    aggregate->clock_us = clock_us;
}

bool weir_aggregate_due(const struct weir_aggregate *aggregate, int64_t every_us) {
    const struct weir_delayed *delayed = aggregate->delayed;
    return delayed != NULL &&
           (every_us == 0 ? weir_delayed_any(delayed)
                          : weir_delayed_due(delayed, every_us, aggregate->clock_us));
}

int weir_aggregate_restore(struct weir_aggregate *aggregate, struct weir_error *err) {
    if (aggregate->delayed != NULL) {
        weir_delayed_restore(aggregate->delayed);
    }
    if (weir_layouts_check_waiting(aggregate, err) != WEIR_OK) {
        return WEIR_E_STATE;
    }
    if (aggregate->unwindowed && aggregate->members == NULL) {
        return aggregate_disk_restore(aggregate, err); /* keys are found, never gone through */
    }
    size_t count;
    size_t member_count = 0;
    struct weir_ordered_slot *members = NULL;
    struct weir_ordered_slot *slots = weir_slots_in_order(aggregate->table, &count);
    int rc = WEIR_OK;
    weir_windows_clear(&aggregate->windows);
    weir_windows_clear(&aggregate->unfired);
    aggregate->fired_known = !aggregate->refires;
    if (aggregate->members != NULL) {
        members = weir_slots_in_order(aggregate->members, &member_count);
    }
    if (slots == NULL || (aggregate->members != NULL && members == NULL)) {
        rc = weir_error_set(err, WEIR_E_NOMEM, "%s: no memory to restore %zu keys",
                            aggregate->declaration, count);
        goto out;
    }
    if (rc == WEIR_OK && aggregate->hops != NULL) {
        rc = weir_hops_restore(aggregate, err);
    }
    for (size_t i = 0; i < count && rc == WEIR_OK; i++) {
        struct weir_slot *slot = weir_table_slot(aggregate->table, slots[i].number);
        int64_t start;
        if (aggregate->unwindowed) {
            break;
        }
        if (slot->key_bytes < aggregate->prefix_bytes) {
            rc = weir_error_set(err, WEIR_E_CORRUPT, "%s: a key in the state does not parse",
                                weir_table_name(aggregate->table));
            break;
        }
        memcpy(&start, weir_slot_key(aggregate->table, slot), sizeof start);
        if (aggregate->hops != NULL && !weir_hops_is_pane(aggregate, start)) {
            rc = weir_error_set(err, WEIR_E_CORRUPT, "%s: a pane in the state starts at %" PRId64,
                                weir_table_name(aggregate->table), start);
            break;
        }
        if (aggregate->sessions == NULL && aggregate->counted == NULL) {
            rc = weir_aggregate_join_window(aggregate, slot, start, err);
        }
        if (rc == WEIR_OK && aggregate->hops != NULL) {
            rc = weir_hops_created(aggregate, slot, err);
        }
    }
    rc = rc == WEIR_OK ? aggregate_disk_restore(aggregate, err) : rc;
    if (rc == WEIR_OK && aggregate->sessions != NULL) {
        rc = weir_sessions_restore(aggregate, slots, count, err);
    }
    if (rc == WEIR_OK && aggregate->counted != NULL) {
        rc = weir_counted_restore(aggregate, slots, count, err);
    }
    for (size_t i = 0; i < member_count && rc == WEIR_OK; i++) {
        rc = weir_members_restore(aggregate, weir_table_slot(aggregate->members, members[i].number),
                                  slots, count, err);
    }
    if (rc == WEIR_OK) {
        rc = weir_members_check(aggregate, slots, count, err);
    }
out:
    free(slots);
    free(members);
    return rc;
}
