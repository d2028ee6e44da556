/* The keys of a table that wait on disk. A key is in memory or on disk, never in both: bringing it
 * in takes it out of the store. Only a slot that no image waits for may go, so records and
 * snapshots see every change where they look for it. */
#include <stdlib.h>
#include <string.h>

#include "core/block.h"
#include "state/cold.h"
#include "state/table_private.h"

enum {
    SPARE_SLOTS = 8192, /* free at least, of a large table: a batch or two of new keys */
    LOOK_SLOTS = 32768, /* a call */
    SEQUENCE_BYTES = 8,
    PREFETCH_AHEAD = 16,
    BUFFER_BYTES_MAX = 1 << 30,
    SPILL_BYTES_MAX = 256 << 20
};
#define STORE_BYTES_MAX ((size_t)256 << 20)
#define STORE_BYTES_MIN ((size_t)16 << 20)

struct table_cold {
    struct weir_cold *store;
    size_t memory_bytes;    /* of it, out of the table's budget */
    uint64_t keys;          /* on disk */
    uint32_t hand;          /* slot looked at next */
    struct weir_buffer out; /* records to be written */
    struct weir_buffer keys_asked;
    bool waits;
    /* a dump under way */
    enum { DUMP_NONE, DUMP_GOES_ON, DUMP_LOST } dump; /* lost: nobody went on with it */
    uint64_t dumped;                                  /* slots below it are in the dump */
    struct weir_buffer spilled; /* images of slots that went to disk before their turn */
};

int weir_table_allow_disk(struct weir_table *table, const struct weir_table_disk *disk,
                          struct weir_error *err) {
    if (table->codec != NULL || table->max_bytes == SIZE_MAX) {
        return weir_error_set(err, WEIR_E_BUG, "%s: such state does not go to disk", table->name);
    }
    struct table_cold *cold = calloc(1, sizeof(*cold));
    if (cold != NULL) {
        cold->memory_bytes = table->max_bytes / 4;
        cold->memory_bytes =
            cold->memory_bytes > STORE_BYTES_MAX ? STORE_BYTES_MAX : cold->memory_bytes;
        cold->memory_bytes =
            cold->memory_bytes < STORE_BYTES_MIN ? STORE_BYTES_MIN : cold->memory_bytes;
        const struct weir_cold_options options = {
            .path = disk->path, .memory_bytes = cold->memory_bytes, .signal = disk->signal};
        cold->store = weir_cold_create(&options);
    }
    if (cold == NULL || cold->store == NULL) {
        free(cold);
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", table->name);
    }
    cold->hand = 1;
    weir_buffer_init(&cold->out, BUFFER_BYTES_MAX);
    weir_buffer_init(&cold->keys_asked, BUFFER_BYTES_MAX);
    weir_buffer_init(&cold->spilled, SPILL_BYTES_MAX);
    table->cold = cold;
    return WEIR_OK;
}

void table_cold_destroy(struct weir_table *table) {
    if (table->cold != NULL) {
        weir_cold_destroy(table->cold->store);
        weir_buffer_fini(&table->cold->out);
        weir_buffer_fini(&table->cold->keys_asked);
        weir_buffer_fini(&table->cold->spilled);
        free(table->cold);
    }
}

bool table_cold_used(const struct weir_table *table) {
    return table->cold != NULL && table->cold->keys > 0;
}

size_t table_cold_keys(const struct weir_table *table) {
    return table->cold != NULL ? table->cold->keys : 0;
}

static int no_memory(const struct weir_table *table, struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory for keys on disk", table->name);
}

/* --- out ------------------------------------------------------------------------------------ */

static int write_out(struct weir_table *table, struct weir_error *err) {
    struct table_cold *cold = table->cold;
    int rc = weir_cold_failure(cold->store, err);
    if (rc == WEIR_OK && cold->out.size > 0 &&
        weir_cold_write(cold->store, &cold->out) != WEIR_OK) {
        rc = no_memory(table, err);
    }
    return rc;
}

static int evict(struct weir_table *table, struct weir_slot *slot, struct weir_error *err) {
    struct table_cold *cold = table->cold;
    if (cold->dump == DUMP_GOES_ON && slot->number >= cold->dumped) {
        int kept = cold->spilled.size == 0
                       ? weir_image_put_header(&cold->spilled, table->shape, table->name)
                       : WEIR_OK;
        kept = kept == WEIR_OK ? table_put_image(table, slot, &cold->spilled) : kept;
        if (kept != WEIR_OK) {
            cold->dump = DUMP_LOST;
            weir_buffer_fini(&cold->spilled);
            weir_buffer_init(&cold->spilled, SPILL_BYTES_MAX);
        }
    }
    int rc = weir_cold_put_record(&cold->out, weir_slot_key(table, slot), slot->key_bytes,
                                  &slot->sequence, SEQUENCE_BYTES, weir_slot_value(table, slot),
                                  table->value_bytes);
    if (rc != WEIR_OK) {
        return no_memory(table, err);
    }
    weir_table_free_slot(table, slot);
    cold->keys++;
    return WEIR_OK;
}

/* Slots that may be had without passing the budget. */
static uint64_t free_slots(const struct weir_table *table) {
    size_t budget = table->max_bytes - table->max_bytes / 16;
    budget =
        budget > table->cold->memory_bytes * 2 ? budget - table->cold->memory_bytes : budget / 2;
    size_t used = weir_table_bytes(table);
    uint64_t free = table->slots - table->keys;
    return used < budget ? free + (budget - used) / table->view.slot_bytes : free;
}

static uint64_t spare_slots(const struct weir_table *table) {
    uint64_t most = table->max_bytes / table->view.slot_bytes / 8;
    return most < SPARE_SLOTS ? most : SPARE_SLOTS;
}

static int move_out(struct weir_table *table, uint64_t look, struct weir_error *err) {
    struct table_cold *cold = table->cold;
    uint64_t wanted = spare_slots(table) * 2;
    uint64_t free = free_slots(table);
    int rc = WEIR_OK;
    for (; rc == WEIR_OK && look > 0 && free < wanted; look--) {
        if (cold->hand > table->slots) {
            cold->hand = 1;
        }
        struct weir_slot *slot = weir_table_slot(table, cold->hand++);
        if (cold->hand + PREFETCH_AHEAD <= table->slots) {
            __builtin_prefetch(weir_table_slot(table, cold->hand + PREFETCH_AHEAD - 1));
        }
        if (slot->sequence != 0 && slot->changed == 0) {
            rc = evict(table, slot, err);
            free++;
        }
    }
    return rc == WEIR_OK ? write_out(table, err) : rc;
}

int weir_table_make_room(struct weir_table *table, bool *crowded, struct weir_error *err) {
    *crowded = false;
    if (table->cold == NULL || free_slots(table) >= spare_slots(table)) {
        return WEIR_OK;
    }
    int rc = move_out(table, LOOK_SLOTS, err);
    *crowded = free_slots(table) < spare_slots(table);
    return rc;
}

int table_cold_settle(struct weir_table *table, struct weir_error *err) {
    if (table->cold == NULL) {
        return WEIR_OK;
    }
    bool full = free_slots(table) < spare_slots(table);
    int rc = full ? move_out(table, table->slots, err) : write_out(table, err);
    if (rc == WEIR_OK && full) {
        weir_cold_wait(table->cold->store);
        rc = weir_cold_failure(table->cold->store, err);
    }
    return rc;
}

/* --- in ------------------------------------------------------------------------------------- */

static int ask_for(struct weir_table *table, const uint8_t *key, size_t length,
                   struct weir_error *err) {
    return weir_cold_put_record(&table->cold->keys_asked, key, (uint32_t)length, NULL, 0, NULL,
                                WEIR_COLD_GONE) == WEIR_OK
               ? WEIR_OK
               : no_memory(table, err);
}

int weir_table_need(struct weir_table *table, const uint8_t *keys, const uint32_t *offsets,
                    const uint64_t *hashes, int32_t count, bool *waits, struct weir_error *err) {
    struct table_cold *cold = table->cold;
    int rc = WEIR_OK;
    *waits = false;
    if (!table_cold_used(table)) {
        return WEIR_OK;
    }
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        if (i + PREFETCH_AHEAD < count) {
            weir_table_prefetch(table, hashes[i + PREFETCH_AHEAD]);
        }
        if (i + PREFETCH_AHEAD / 2 < count) {
            weir_table_prefetch_slot(table, hashes[i + PREFETCH_AHEAD / 2]);
        }
        size_t length = offsets[i + 1] - offsets[i];
        if (weir_table_find(table, hashes[i], keys + offsets[i], length) == NULL) {
            rc = ask_for(table, keys + offsets[i], length, err);
        }
    }
    if (rc == WEIR_OK && cold->keys_asked.size > 0) {
        rc = weir_cold_load(cold->store, &cold->keys_asked) == WEIR_OK ? WEIR_OK
                                                                       : no_memory(table, err);
        cold->waits = *waits = rc == WEIR_OK;
    }
    return rc;
}

static int install(struct weir_table *table, const struct weir_cold_record *record,
                   struct weir_error *err) {
    uint64_t hash = weir_table_hash(table, record->key, record->key_size);
    if (record->value_size != SEQUENCE_BYTES + table->value_bytes) {
        return weir_error_set(err, WEIR_E_CORRUPT, "%s: a key on disk is damaged", table->name);
    }
    if (weir_table_find(table, hash, record->key, record->key_size) != NULL) {
        return WEIR_OK; /* asked for twice in one batch */
    }
    struct weir_slot *slot = weir_table_create_slot(table, hash, record->key, record->key_size);
    if (slot == NULL) {
        return no_memory(table, err);
    }
    memcpy(&slot->sequence, record->value, SEQUENCE_BYTES);
    memcpy(weir_slot_value(table, slot), record->value + SEQUENCE_BYTES, table->value_bytes);
    table->cold->keys--;
    return WEIR_OK;
}

int weir_table_bring(struct weir_table *table, bool *done, struct weir_error *err) {
    struct table_cold *cold = table->cold;
    *done = cold == NULL || !cold->waits;
    if (*done) {
        return WEIR_OK;
    }
    int rc = weir_cold_failure(cold->store, err);
    struct weir_buffer found;
    if (rc != WEIR_OK || !weir_cold_loaded(cold->store, &found)) {
        return rc;
    }
    const uint8_t *at = found.data;
    struct weir_cold_record record;
    while (rc == WEIR_OK && weir_cold_next_record(&at, found.data + found.size, &record)) {
        rc = install(table, &record, err);
    }
    weir_buffer_fini(&found);
    cold->waits = false;
    *done = true;
    return rc;
}

/* --- recovery ------------------------------------------------------------------------------- */

int table_cold_replace(struct weir_table *table, const uint8_t *key, size_t length) {
    if (!table_cold_used(table)) {
        return WEIR_OK;
    }
    /* Whether it was there is not known: the count of keys may be too high by some until then. */
    return weir_cold_put_record(&table->cold->out, key, (uint32_t)length, NULL, 0, NULL,
                                WEIR_COLD_GONE);
}

int table_cold_fetch(struct weir_table *table, uint64_t hash, const uint8_t *key, size_t length,
                     struct weir_slot **slot, struct weir_error *err) {
    bool done;
    *slot = NULL;
    if (!table_cold_used(table)) {
        return WEIR_OK;
    }
    int rc = write_out(table, err);
    rc = rc == WEIR_OK ? ask_for(table, key, length, err) : rc;
    if (rc == WEIR_OK && weir_cold_load(table->cold->store, &table->cold->keys_asked) != WEIR_OK) {
        rc = no_memory(table, err);
    }
    if (rc == WEIR_OK) {
        table->cold->waits = true;
        weir_cold_wait(table->cold->store);
        rc = weir_table_bring(table, &done, err);
    }
    *slot = rc == WEIR_OK ? weir_table_find(table, hash, key, length) : NULL;
    return rc;
}

/* --- dumps ---------------------------------------------------------------------------------- */

static int put_record_image(struct weir_buffer *out, const struct weir_cold_record *record) {
    size_t value = record->value_size - SEQUENCE_BYTES;
    int rc = weir_buffer_reserve(out, 1 + SEQUENCE_BYTES + 2 * (size_t)WEIR_VARINT_MAX +
                                          record->key_size + value);
    if (rc != WEIR_OK) {
        return rc;
    }
    uint8_t *to = out->data + out->size;
    *to++ = WEIR_IMAGE_PUT;
    memcpy(to, record->value, SEQUENCE_BYTES);
    to = weir_varint_put(to + SEQUENCE_BYTES, record->key_size);
    memcpy(to, record->key, record->key_size);
    to = weir_varint_put(to + record->key_size, value);
    memcpy(to, record->value + SEQUENCE_BYTES, value);
    out->size = (size_t)(to + value - out->data);
    return WEIR_OK;
}

/* A slice of its own, and as long as it is: a slice's cap is less than what may go to disk while
 * the dump waits for its turn. */
static int hand_spilled(struct weir_table *table, struct weir_buffer *out, struct weir_error *err) {
    struct weir_buffer *spilled = &table->cold->spilled;
    if (out->size > 0) {
        int rc = weir_buffer_append(out, spilled->data, spilled->size);
        if (rc != WEIR_OK) {
            return weir_error_set(err, rc, "%s: the snapshot's buffer is full", table->name);
        }
    } else {
        struct weir_buffer given = *spilled;
        *spilled = *out;
        spilled->limit = given.limit;
        given.limit = out->limit;
        *out = given;
    }
    weir_buffer_clear(spilled);
    return WEIR_OK;
}

int table_cold_dump(struct weir_table *table, struct weir_cell_cursor *cursor,
                    struct weir_buffer *out, bool *done, struct weir_error *err) {
    struct table_cold *cold = table->cold;
    *done = true;
    if (cold == NULL) {
        return WEIR_OK;
    }
    if (!cursor->started) {
        *done = false;
        if (cold->waits) { /* what comes in is neither here nor there */
            return WEIR_OK;
        }
        cursor->started = true;
        cursor->major = 1;
        cold->dump = DUMP_GOES_ON;
        cold->dumped = 1;
        weir_buffer_clear(&cold->spilled);
        int rc = write_out(table, err);
        if (rc == WEIR_OK && !table_cold_used(table)) {
            cursor->major = 2;
        } else if (rc == WEIR_OK && weir_cold_scan(cold->store) != WEIR_OK) {
            rc = no_memory(table, err);
        }
        return rc;
    }
    if (cold->dump != DUMP_GOES_ON) {
        return weir_error_set(err, WEIR_E_LIMIT, "%s: the dump was not gone on with", table->name);
    }
    if (cold->spilled.size > 0) {
        *done = false;
        return hand_spilled(table, out, err);
    }
    if (cursor->major != 1) {
        return WEIR_OK;
    }
    struct weir_buffer part;
    bool end;
    *done = false;
    int rc = weir_cold_failure(cold->store, err);
    if (rc != WEIR_OK || !weir_cold_scanned(cold->store, &part, &end)) {
        return rc;
    }
    const uint8_t *at = part.data;
    struct weir_cold_record record;
    rc = part.size > 0 ? weir_image_put_header(out, table->shape, table->name) : WEIR_OK;
    while (rc == WEIR_OK && weir_cold_next_record(&at, part.data + part.size, &record)) {
        rc = put_record_image(out, &record);
    }
    weir_buffer_fini(&part);
    if (end) {
        cursor->major = 2;
    }
    return rc == WEIR_OK ? rc : no_memory(table, err);
}

void table_cold_dumped(struct weir_table *table, uint64_t next, bool done) {
    if (table->cold != NULL) {
        table->cold->dumped = next;
        table->cold->dump = done ? DUMP_NONE : DUMP_GOES_ON;
    }
}

struct weir_table_disk_figures weir_table_disk_figures(const struct weir_table *table) {
    struct weir_table_disk_figures figures = {0};
    if (table->cold != NULL) {
        struct weir_cold_figures store = weir_cold_figures(table->cold->store);
        figures = (struct weir_table_disk_figures){table->cold->keys, store.written, store.asked,
                                                   store.found};
    }
    return figures;
}
