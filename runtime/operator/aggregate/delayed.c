#include "operator/aggregate/delayed.h"

#include <stdlib.h>
#include <string.h>

#include "operator/aggregate/changes.h"
#include "state/cold_keys.h"

struct wait { /* behind the value in a slot */
    int64_t time_us;
    int64_t clock_us;
};
_Static_assert(sizeof(struct wait) == WEIR_DELAYED_HEAD, "images begin with it");

struct weir_delayed {
    struct weir_measures *measures;
    struct weir_table *table;
    int64_t oldest_us; /* clock, of what waits */
    /* While it leaves: the order, and how much has left. */
    struct weir_ordered_slot *order;
    size_t count;
    size_t left; /* of sessions, that go over them twice, of both times */
};

static const struct wait *wait_of(const struct weir_delayed *delayed, const void *value) {
    return (const void *)((const uint8_t *)value + delayed->measures->value_bytes);
}

static int encode(void *context, const void *value, struct weir_buffer *out) {
    struct weir_delayed *delayed = context;
    int rc = weir_buffer_append(out, wait_of(delayed, value), sizeof(struct wait));
    if (rc != WEIR_OK) {
        return rc;
    }
    return delayed->measures->has_parts
               ? weir_measures_codec.encode(delayed->measures, value, out)
               : weir_buffer_append(out, value, delayed->measures->value_bytes);
}

static int decode(void *context, void *value, const uint8_t *bytes, size_t length,
                  struct weir_error *err) {
    struct weir_delayed *delayed = context;
    uint32_t own = delayed->measures->value_bytes;
    if (length < sizeof(struct wait) ||
        (!delayed->measures->has_parts && length != sizeof(struct wait) + own)) {
        return weir_error_set(err, WEIR_E_CORRUPT, "a change that waits has %zu bytes", length);
    }
    memcpy((uint8_t *)value + own, bytes, sizeof(struct wait));
    bytes += sizeof(struct wait);
    if (delayed->measures->has_parts) {
        return weir_measures_codec.decode(delayed->measures, value, bytes,
                                          length - sizeof(struct wait), err);
    }
    memcpy(value, bytes, own);
    return WEIR_OK;
}

static void fini(void *context, void *value) {
    struct weir_delayed *delayed = context;
    if (delayed->measures->has_parts) {
        weir_measures_codec.fini(delayed->measures, value);
    }
}

static const struct weir_table_codec codec = {encode, decode, fini};

struct weir_delayed *weir_delayed_create(struct weir_aggregate *aggregate,
                                         const struct weir_aggregate_config *config,
                                         struct weir_error *err) {
    struct weir_delayed *delayed = calloc(1, sizeof *delayed);
    if (delayed == NULL) {
        weir_error_set(err, WEIR_E_NOMEM, "no memory");
        return NULL;
    }
    delayed->measures = &aggregate->measures;
    struct weir_table_config table = {
        .declaration = config->declaration,
        .cell = "told",
        .shape = aggregate->shape,
        .value_bytes = aggregate->measures.value_bytes + (uint32_t)sizeof(struct wait),
        .key_inline_bytes = weir_table_view(aggregate->table)->key_inline_bytes,
        .max_bytes = config->max_bytes,
        .option = config->option,
        .codec = &codec,
        .codec_context = delayed,
    };
    delayed->table = weir_table_create(&table, err);
    if (delayed->table == NULL) {
        free(delayed);
        return NULL;
    }
    return delayed;
}

void weir_delayed_destroy(struct weir_delayed *delayed) {
    if (delayed != NULL) {
        weir_table_destroy(delayed->table);
        free(delayed->order);
        free(delayed);
    }
}

struct weir_cell *weir_delayed_cell(struct weir_delayed *delayed) {
    return weir_table_cell(delayed->table);
}

size_t weir_delayed_bytes(const struct weir_delayed *delayed) {
    return weir_table_bytes(delayed->table);
}

void weir_delayed_restore(struct weir_delayed *delayed) {
    delayed->oldest_us = INT64_MAX;
    for (uint32_t n = 1; n <= weir_table_slots(delayed->table); n++) {
        struct weir_slot *slot = weir_table_slot(delayed->table, n);
        if (slot->sequence != 0) {
            int64_t clock_us = wait_of(delayed, weir_slot_value(delayed->table, slot))->clock_us;
            delayed->oldest_us = clock_us < delayed->oldest_us ? clock_us : delayed->oldest_us;
        }
    }
}

bool weir_delayed_holds(const struct weir_aggregate *aggregate, const struct weir_slot *slot) {
    const struct weir_table *table = aggregate->delayed->table;
    const uint8_t *key = weir_slot_key(aggregate->table, slot);
    return weir_table_find(table, weir_table_hash(table, key, slot->key_bytes), key,
                           slot->key_bytes) != NULL;
}

int weir_delayed_bring(struct weir_aggregate *aggregate, struct weir_error *err) {
    const struct weir_table *table = aggregate->delayed->table;
    bool waits = false;
    bool done;
    int rc = WEIR_OK;
    for (uint32_t n = 1; rc == WEIR_OK && n <= weir_table_slots(table); n++) {
        const struct weir_slot *slot = weir_table_slot(table, n);
        if (slot->sequence == 0) {
            continue;
        }
        const uint8_t *key = weir_slot_key(table, slot);
        uint64_t hash = weir_table_hash(aggregate->table, key, slot->key_bytes);
        rc = weir_table_find(aggregate->table, hash, key, slot->key_bytes) == NULL
                 ? weir_table_want(aggregate->table, hash, key, slot->key_bytes, err)
                 : WEIR_OK;
    }
    rc = rc == WEIR_OK ? weir_table_load(aggregate->table, &waits, err) : rc;
    if (rc == WEIR_OK && waits) {
        weir_cold_keys_wait(weir_table_cold_keys(aggregate->table));
        rc = weir_table_bring(aggregate->table, &done, err);
    }
    return rc;
}

int weir_delayed_note(struct weir_aggregate *aggregate, struct weir_slot *slot, int64_t time_us,
                      struct weir_error *err) {
    struct weir_delayed *delayed = aggregate->delayed;
    struct weir_table *table = delayed->table;
    const uint8_t *key = weir_slot_key(aggregate->table, slot);
    bool first = weir_table_keys(table) == 0;
    bool created;
    struct weir_slot *waits = weir_table_get(table, weir_table_hash(table, key, slot->key_bytes),
                                             key, slot->key_bytes, &created, err);
    if (waits == NULL) {
        return err->code;
    }
    uint8_t *value = weir_slot_value(table, waits);
    int rc = created ? weir_measures_copy(&aggregate->measures, value,
                                          weir_slot_value(aggregate->table, slot),
                                          weir_table_heap(aggregate->table))
                     : weir_table_touch(table, waits);
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: no memory to note a change", aggregate->declaration);
    }
    struct wait *wait = (void *)(value + aggregate->measures.value_bytes);
    wait->time_us = time_us;
    if (created) {
        wait->clock_us = aggregate->clock_us;
        delayed->oldest_us = first ? aggregate->clock_us : delayed->oldest_us;
    }
    return WEIR_OK;
}

static int64_t rows_before(const struct weir_aggregate *aggregate, const uint8_t *before) {
    int64_t rows;
    memcpy(&rows, before + aggregate->measures.tail_offset, sizeof rows);
    return rows;
}

/* A session as readers know it, that is there no more, leaves; they know nothing of it then. What
 * changes in between therefore harms nothing. */
static int leave_known(struct weir_aggregate *aggregate, struct weir_slot *slot,
                       struct weir_slot *waits, int64_t *times_us, struct weir_batch_builder *out,
                       struct weir_error *err) {
    struct weir_table *table = aggregate->delayed->table;
    uint8_t *before = weir_slot_value(table, waits);
    int32_t rows = out->rows;
    int64_t none = 0;
    int64_t time_us = wait_of(aggregate->delayed, before)->time_us;
    if (rows_before(aggregate, before) == 0) {
        return WEIR_OK;
    }
    int rc = weir_changes_leave_session(aggregate, slot, before, true, time_us, times_us, out, err);
    if (rc != WEIR_OK || out->rows == rows) {
        return rc;
    }
    if (weir_table_touch(table, waits) != WEIR_OK) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: no memory to note a change",
                              weir_table_name(table));
    }
    memcpy(before + aggregate->measures.tail_offset, &none, sizeof none);
    return WEIR_OK;
}

static int leave_change(struct weir_aggregate *aggregate, struct weir_slot *slot,
                        struct weir_slot *waits, bool first, int64_t *times_us,
                        struct weir_batch_builder *out, struct weir_error *err) {
    struct weir_delayed *delayed = aggregate->delayed;
    const uint8_t *before = weir_slot_value(delayed->table, waits);
    int64_t time_us = wait_of(delayed, before)->time_us;
    if (aggregate->sessions == NULL) {
        return weir_changes_leave(aggregate, slot, before, time_us, times_us, out, err);
    }
    int rc = leave_known(aggregate, slot, waits, times_us, out, err);
    return rc != WEIR_OK || first ? rc
                                  : weir_changes_leave_session(aggregate, slot, before, false,
                                                               time_us, times_us, out, err);
}

static int leave_one(struct weir_aggregate *aggregate, struct weir_slot *waits, bool first,
                     int64_t *times_us, struct weir_batch_builder *out, struct weir_error *err) {
    struct weir_delayed *delayed = aggregate->delayed;
    const uint8_t *key = weir_slot_key(delayed->table, waits);
    struct weir_slot *slot =
        weir_table_find(aggregate->table, weir_table_hash(aggregate->table, key, waits->key_bytes),
                        key, waits->key_bytes);
    if (slot == NULL) {
        return weir_error_set(err, WEIR_E_CORRUPT, "%s: a change waits of a group there is not",
                              weir_table_name(delayed->table));
    }
    int rc = leave_change(aggregate, slot, waits, first, times_us, out, err);
    if (rc != WEIR_OK) {
        bool full;
        rc = weir_aggregate_row_failed(aggregate, rc, out, &full, err);
        return full ? WEIR_E_LIMIT : rc;
    }
    rc = first ? WEIR_OK : weir_table_delete(delayed->table, waits, false);
    return rc == WEIR_OK ? rc
                         : weir_error_set(err, rc, "%s: no memory to delete",
                                          weir_table_name(delayed->table));
}

int weir_delayed_leave(struct weir_aggregate *aggregate, struct weir_batch_builder *out,
                       int32_t max_rows, int64_t *times_us, bool *done, struct weir_error *err) {
    struct weir_delayed *delayed = aggregate->delayed;
    *done = false;
    if (delayed->order == NULL) {
        delayed->left = 0;
        delayed->order = weir_slots_in_order(delayed->table, &delayed->count);
        if (delayed->order == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for %zu changes",
                                  aggregate->declaration, weir_table_keys(delayed->table));
        }
    }
    size_t all = (aggregate->sessions != NULL ? 2 : 1) * delayed->count;
    while (delayed->left < all) {
        if (out->rows >= max_rows || out->rows + 3 > out->rows_max) {
            return WEIR_OK;
        }
        uint32_t number = delayed->order[delayed->left % delayed->count].number;
        bool first = aggregate->sessions != NULL && delayed->left < delayed->count;
        int rc = leave_one(aggregate, weir_table_slot(delayed->table, number), first, times_us, out,
                           err);
        if (rc == WEIR_E_LIMIT && out->rows > 0) {
            return WEIR_OK; /* it comes again */
        } else if (rc != WEIR_OK) {
            return rc;
        }
        delayed->left++;
    }
    free(delayed->order);
    delayed->order = NULL;
    *done = true;
    return WEIR_OK;
}

bool weir_delayed_any(const struct weir_delayed *delayed) {
    return weir_table_keys(delayed->table) > 0;
}

bool weir_delayed_due(const struct weir_delayed *delayed, int64_t every_us, int64_t clock_us) {
    return weir_delayed_any(delayed) && clock_us / every_us > delayed->oldest_us / every_us;
}
