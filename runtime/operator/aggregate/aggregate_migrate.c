/* Groups that hold what another version wrote (layout.h): the functions that say what becomes of it
 * run when a group is met, many groups a call. And a hot reload that changes measures: checked,
 * tried, taken over. */
#include <stdlib.h>
#include <string.h>

#include "operator/aggregate/layout.h"
#include "state/cold_keys.h"

enum { CHUNK = 256, COPY_SLOTS = 4096, TRY_SLOTS = 128 };
#define COPY_BYTES_MAX ((size_t)1 << 30)

struct weir_migration {
    struct weir_aggregate *aggregate;
    struct weir_layout *layout;
    struct weir_schema *schema; /* of its measures */
    uint8_t *values[CHUNK];
    uint8_t *olds[CHUNK]; /* images, owned */
    uint32_t bytes[CHUNK];
    int32_t at[CHUNK]; /* as the caller counts them */
    int32_t count;
};

int64_t weir_migration_version(const struct weir_migration *migration) {
    return migration->layout->version;
}

const char *weir_migration_text(const struct weir_migration *migration) {
    return migration->layout->text;
}

int32_t weir_migration_count(const struct weir_migration *migration) {
    return migration->count;
}

struct weir_schema *weir_migration_schema(const struct weir_migration *migration) {
    return migration->schema;
}

int weir_migration_put(struct weir_migration *migration, int32_t i, struct weir_batch_builder *out,
                       struct weir_error *err) {
    struct weir_measures *old = &migration->layout->measures;
    uint8_t *value = migration->layout->value;
    const uint8_t *bytes = migration->olds[i] + OLD_HEAD;
    size_t length = migration->bytes[i] - OLD_HEAD;
    int rc = WEIR_OK;
    memset(value, 0, old->value_bytes);
    if (old->has_parts) {
        rc = weir_measures_codec.decode(old, value, bytes, length, err);
    } else {
        memcpy(value, bytes, old->value_bytes);
    }
    for (int32_t m = 0; rc == WEIR_OK && m < old->count; m++) {
        rc = weir_measures_emit(old, m, value, &out->columns[m], err);
    }
    if (old->has_parts) {
        weir_measures_codec.fini(old, value);
    }
    if (rc == WEIR_OK) {
        weir_batch_builder_finish_row(out);
    }
    return rc;
}

int weir_migration_start(struct weir_migration *migration, int32_t i, int32_t m,
                         const struct weir_column *column, int32_t row, struct weir_error *err) {
    struct weir_measures *measures = &migration->aggregate->measures;
    if (weir_layouts_carried(migration->layout, m)) {
        /* Over several versions it may be one that was away for some of them: nothing came then. */
        int64_t versions = migration->aggregate->layouts->version - migration->layout->version;
        return versions > 1 || versions < -1
                   ? WEIR_OK
                   : weir_error_set(err, WEIR_E_DATA,
                                    "measure '%s' goes on as it was; functions say where those "
                                    "begin that are new, or declared otherwise",
                                    measures->cells[m].measure.name);
    }
    if (measures->retracts) {
        return weir_error_set(err, WEIR_E_DATA,
                              "measure '%s' may take rows back, so where it begins is not told",
                              measures->cells[m].measure.name);
    }
    return weir_measures_start(measures, m, migration->values[i], column, row, err);
}

static int no_memory(const struct weir_aggregate *aggregate, struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "%s: no memory to migrate", aggregate->declaration);
}

static int make_schema(struct weir_migration *migration, struct weir_error *err) {
    const struct weir_measures *old = &migration->layout->measures;
    migration->schema = weir_schema_create();
    int rc = migration->schema != NULL ? WEIR_OK : WEIR_E_NOMEM;
    for (int32_t m = 0; rc == WEIR_OK && m < old->count; m++) {
        struct weir_field field = old->cells[m].output;
        char *name = strdup(old->cells[m].measure.name);
        field.name = name;
        rc = name != NULL ? weir_schema_add(migration->schema, &field) : WEIR_E_NOMEM;
        free(name);
    }
    return rc == WEIR_OK ? rc : no_memory(migration->aggregate, err);
}

/* Runs what is gathered. */
static int run(struct weir_migration *migration, int32_t *failed, struct weir_error *err) {
    struct weir_layouts *layouts = migration->aggregate->layouts;
    int32_t which = 0;
    int rc = WEIR_OK;
    if (migration->count > 0) {
        rc = weir_layouts_allow(layouts, migration->layout, err);
        if (rc == WEIR_OK && migration->layout->stepped) {
            rc = make_schema(migration, err);
            rc = rc == WEIR_OK ? layouts->migrate(layouts->migrate_context, migration, &which, err)
                               : rc;
            weir_schema_unref(migration->schema);
            migration->schema = NULL;
        }
        *failed = rc != WEIR_OK ? migration->at[which] : *failed;
    }
    for (int32_t i = 0; i < migration->count; i++) {
        free(migration->olds[i]);
    }
    migration->count = 0;
    return rc;
}

static int gather(struct weir_migration *migration, uint8_t *value, int32_t at, int32_t *failed,
                  struct weir_error *err) {
    struct weir_aggregate *aggregate = migration->aggregate;
    uint32_t length;
    uint64_t shape = 0;
    const uint8_t *old = weir_measures_old(&aggregate->measures, value, &length);
    if (old == NULL) {
        return WEIR_OK; /* or gathered already, with a row before */
    }
    memcpy(&shape, old, length >= OLD_HEAD ? sizeof shape : 0);
    struct weir_layout *layout = weir_layouts_find(aggregate->layouts, shape);
    if (layout == NULL) {
        return weir_error_set(err, WEIR_E_CORRUPT,
                              "%s: a group was written under a layout that is not recorded",
                              aggregate->declaration);
    }
    int rc = migration->count == CHUNK || layout != migration->layout ? run(migration, failed, err)
                                                                      : WEIR_OK;
    uint8_t *own = rc == WEIR_OK ? malloc(length) : NULL;
    if (own == NULL) {
        return rc == WEIR_OK ? no_memory(aggregate, err) : rc;
    }
    memcpy(own, old, length);
    migration->layout = layout;
    migration->olds[migration->count] = own;
    migration->bytes[migration->count] = length;
    migration->values[migration->count] = value;
    migration->at[migration->count++] = at;
    return weir_measures_set_old(&aggregate->measures, value, NULL, 0);
}

static int meet(struct weir_aggregate *aggregate, uint8_t *const *values, int32_t count,
                int32_t *failed, struct weir_error *err) {
    struct weir_migration *migration = calloc(1, sizeof *migration);
    if (migration == NULL) {
        return no_memory(aggregate, err);
    }
    migration->aggregate = aggregate;
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        rc = gather(migration, values[i], i, failed, err);
    }
    int last = run(migration, failed, rc == WEIR_OK ? err : NULL);
    free(migration);
    return rc == WEIR_OK ? last : rc;
}

int weir_aggregate_meet(struct weir_aggregate *aggregate, uint8_t *const *values, int32_t count,
                        struct weir_error *err) {
    int32_t failed = 0;
    return aggregate->measures.old_count == 0 ? WEIR_OK
                                              : meet(aggregate, values, count, &failed, err);
}

int weir_aggregate_meet_slot(struct weir_aggregate *aggregate, struct weir_slot *slot,
                             struct weir_error *err) {
    uint8_t *value = weir_slot_value(aggregate->table, slot);
    uint32_t length;
    if (aggregate->measures.old_count == 0 ||
        weir_measures_old(&aggregate->measures, value, &length) == NULL) {
        return WEIR_OK;
    }
    int rc = weir_table_touch(aggregate->table, slot);
    return rc == WEIR_OK ? weir_aggregate_meet(aggregate, &value, 1, err)
                         : no_memory(aggregate, err);
}

int weir_layouts_check_waiting(struct weir_aggregate *aggregate, struct weir_error *err) {
    struct weir_layouts *layouts = aggregate->layouts;
    int rc = WEIR_OK;
    if (layouts == NULL || aggregate->measures.old_count == 0) {
        return WEIR_OK;
    }
    for (uint32_t n = 1; rc == WEIR_OK && n <= weir_table_slots(aggregate->table); n++) {
        struct weir_slot *slot = weir_table_slot(aggregate->table, n);
        uint32_t length;
        uint64_t shape;
        const uint8_t *old =
            slot->sequence == 0
                ? NULL
                : weir_measures_old(&aggregate->measures, weir_slot_value(aggregate->table, slot),
                                    &length);
        if (old == NULL) {
            continue;
        }
        memcpy(&shape, old, sizeof shape);
        const struct weir_layout *layout = weir_layouts_find(layouts, shape);
        rc = layout != NULL ? weir_layouts_allow(layouts, layout, err) : WEIR_OK;
    }
    return rc;
}

/* --- a reload --------------------------------------------------------------------------------- */

int weir_aggregate_check(struct weir_aggregate *to, struct weir_aggregate *from,
                         struct weir_error *err) {
    struct weir_layouts *layouts = to->layouts;
    if (to->shape != from->shape && (layouts == NULL || from->layouts == NULL)) {
        return weir_error_set(err, WEIR_E_STATE,
                              "%s: its window or measures changed, and as %s, what it has counted "
                              "so far would be lost; make it anew from bronze (weir rebuild %s), "
                              "or give the new form another name beside it",
                              to->declaration, layouts == NULL ? to->fixed : from->fixed,
                              to->declaration);
    }
    if (layouts == NULL || from->layouts == NULL) {
        return WEIR_OK;
    }
    bool waits = from->measures.old_count > 0 || weir_table_uses_disk(from->table);
    int rc = WEIR_OK;
    for (const struct weir_layout *layout = from->layouts->list; rc == WEIR_OK && layout != NULL;
         layout = layout->next) {
        const struct weir_layout *known;
        rc = layout->assumed
                 ? WEIR_OK
                 : weir_layouts_learn(layouts, layout->shape, (const uint8_t *)layout->text,
                                      strlen(layout->text), err);
        known = rc == WEIR_OK ? weir_layouts_find(layouts, layout->shape) : NULL;
        rc = known != NULL && waits && !layout->assumed ? weir_layouts_allow(layouts, known, err)
                                                        : rc;
    }
    if (rc != WEIR_OK || to->shape == from->shape) {
        return rc;
    }
    rc = weir_layouts_learn(layouts, from->shape, (const uint8_t *)from->layouts->text,
                            strlen(from->layouts->text), err);
    const struct weir_layout *own = weir_layouts_find(layouts, from->shape);
    bool none = weir_table_keys(from->table) == 0 && !weir_table_uses_disk(from->table);
    return rc == WEIR_OK && !none ? weir_layouts_allow(layouts, own, err) : rc;
}

bool weir_aggregate_keeps_columns(const struct weir_aggregate *to,
                                  const struct weir_aggregate *from) {
    const struct weir_layout *layout =
        to->layouts != NULL ? weir_layouts_find(to->layouts, from->shape) : NULL;
    for (int32_t o = 0; layout != NULL && o < layout->measures.count; o++) {
        const char *name = layout->measures.cells[o].measure.name;
        for (int32_t m = 0; m < to->measures.count; m++) {
            if (strcmp(to->measures.cells[m].measure.name, name) == 0 && layout->to[o] != m) {
                return false;
            }
        }
    }
    return true;
}

bool weir_aggregate_migrates(const struct weir_aggregate *to, const struct weir_aggregate *from) {
    bool steps = false;
    for (const struct weir_layout *layout = to->layouts != NULL ? to->layouts->list : NULL;
         layout != NULL; layout = layout->next) {
        steps |= layout->stepped;
    }
    return steps && to->shape != from->shape;
}

int weir_aggregate_try(struct weir_aggregate *to, struct weir_aggregate *from, uint64_t *next,
                       bool *done, struct weir_buffer *key, struct weir_error *err) {
    struct weir_buffer slice;
    uint8_t *values[TRY_SLOTS];
    struct weir_slot *slots[TRY_SLOTS];
    int32_t count = 0;
    int32_t failed = -1;
    weir_buffer_init(&slice, COPY_BYTES_MAX);
    int rc = weir_table_dump_memory(from->table, next, &slice, TRY_SLOTS, done, err);
    rc = rc == WEIR_OK ? weir_table_apply(to->table, slice.data, slice.size, err) : rc;
    weir_buffer_fini(&slice);
    for (uint32_t n = 1; rc == WEIR_OK && n <= weir_table_slots(to->table); n++) {
        struct weir_slot *slot = weir_table_slot(to->table, n);
        if (slot->sequence != 0 && count < TRY_SLOTS) {
            slots[count] = slot;
            values[count++] = weir_slot_value(to->table, slot);
        }
    }
    if (rc == WEIR_OK && to->measures.old_count > 0) {
        rc = meet(to, values, count, &failed, err);
    }
    if (rc == WEIR_E_DATA && failed >= 0) {
        const struct weir_slot *slot = slots[failed];
        int kept = weir_buffer_append(key, weir_slot_key(to->table, slot), slot->key_bytes);
        return kept == WEIR_OK ? rc : no_memory(to, err);
    }
    for (int32_t i = 0; i < count; i++) {
        int gone = weir_table_delete(to->table, slots[i], true);
        rc = rc == WEIR_OK && gone != WEIR_OK ? no_memory(to, err) : rc;
    }
    return rc;
}

/* All groups, as images; what is on disk is waited for. */
static int copy_groups(struct weir_table *to, struct weir_table *from, struct weir_error *err) {
    struct weir_cell_cursor cursor = {0};
    struct weir_buffer slice;
    bool done = false;
    int rc = WEIR_OK;
    weir_buffer_init(&slice, COPY_BYTES_MAX);
    while (rc == WEIR_OK && !done) {
        weir_buffer_clear(&slice);
        rc = weir_table_dump(from, &cursor, &slice, COPY_SLOTS, &done, err);
        rc = rc == WEIR_OK ? weir_table_apply(to, slice.data, slice.size, err) : rc;
        if (rc == WEIR_OK && slice.size == 0 && !done) {
            weir_cold_keys_wait(weir_table_cold_keys(from));
        }
    }
    weir_buffer_fini(&slice);
    return rc;
}

int weir_aggregate_take(struct weir_aggregate *to, struct weir_aggregate *from,
                        struct weir_error *err) {
    to->retired = from;
    to->clock_us = from->clock_us;
    int rc = copy_groups(to->table, from->table, err);
    rc = rc == WEIR_OK ? weir_aggregate_restore(to, err) : rc;
    if (rc == WEIR_OK && to->refires) {
        rc = weir_aggregate_settle(to, from->fired_us, err);
        to->fired_us = from->fired_us;
    }
    return rc;
}
