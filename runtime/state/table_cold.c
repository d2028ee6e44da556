/* The keys of a table that wait on disk. A key is in memory or on disk, never in both: bringing it
 * in takes it out of the store. Only a slot that no image waits for may go, so records and
 * snapshots see every change where they look for it. What is one record there, a slot or some of a
 * group, table_record.c knows. */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/block.h"
#include "state/cold_keys.h"
#include "state/table_cold.h"

enum {
    SPARE_SLOTS = 8192, /* free at least, of a large table: a batch or two of new keys */
    LOOK_SLOTS = 32768, /* a call */
    PREFETCH_AHEAD = 16,
    SPILL_BYTES_MAX = 256 << 20
};
#define STORE_BYTES_MAX ((size_t)64 << 20)
#define STORE_BYTES_MIN ((size_t)2 << 20)

/* A process may hold two tables of one name for a while. */
static _Atomic uint64_t folders;

static int64_t time_of_record(void *context, const struct weir_cold_record *record) {
    const struct table_cold *cold = context;
    struct table_member member;
    int64_t latest = INT64_MIN;
    size_t at = 0;
    while (table_next_member(&cold->records, record, &at, &member)) {
        int64_t time = cold->owner.time_of(cold->owner.context, member.value, member.size);
        latest = time > latest ? time : latest;
    }
    return at == record->value_size ? latest : INT64_MAX;
}

int weir_table_allow_disk(struct weir_table *table, const struct weir_table_disk *disk,
                          struct weir_error *err) {
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s-%" PRIu64, disk->path, table->declaration,
             atomic_fetch_add(&folders, 1) + 1);
    for (char *at = path + strlen(disk->path) + 1; *at != '\0'; at++) {
        *at = *at == '/' ? '-' : *at; /* a part of a declaration */
    }
    if (table->max_bytes == SIZE_MAX) {
        return weir_error_set(err, WEIR_E_BUG, "%s: such state does not go to disk", table->name);
    }
    struct table_cold *cold = calloc(1, sizeof(*cold));
    if (cold != NULL) {
        size_t memory = table->max_bytes / 12;
        memory = memory > STORE_BYTES_MAX ? STORE_BYTES_MAX : memory;
        memory = memory < STORE_BYTES_MIN ? STORE_BYTES_MIN : memory;
        const struct weir_cold_options options = {
            .path = path, .memory_bytes = memory, .signal = disk->signal};
        cold->keys = weir_cold_keys_create(table->name, &options);
    }
    if (cold == NULL || cold->keys == NULL) {
        free(cold);
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", table->name);
    }
    cold->owner = disk->owner;
    if (cold->owner.time_of != NULL) {
        weir_cold_keys_timed(cold->keys, time_of_record, cold);
    }
    cold->hand = 1;
    table_records_init(&cold->records, disk->group_from, disk->group_seed);
    weir_buffer_init(&cold->spilled, SPILL_BYTES_MAX);
    table->cold = cold;
    return WEIR_OK;
}

void table_cold_destroy(struct weir_table *table) {
    if (table->cold != NULL) {
        weir_cold_keys_destroy(table->cold->keys);
        table_records_fini(&table->cold->records);
        weir_buffer_fini(&table->cold->spilled);
        free(table->cold);
    }
}

bool table_cold_used(const struct weir_table *table) {
    return table->cold != NULL && weir_cold_keys_count(table->cold->keys) > 0;
}

size_t table_cold_keys(const struct weir_table *table) {
    return table->cold != NULL ? weir_cold_keys_count(table->cold->keys) : 0;
}

/* --- out ------------------------------------------------------------------------------------ */

/* A slot is about to leave memory before a dump that goes on has come to it. */
static void spill(struct weir_table *table, struct weir_slot *slot) {
    struct table_cold *cold = table->cold;
    if (cold->dump != DUMP_GOES_ON || slot->number < cold->dumped) {
        return;
    }
    int kept = cold->spilled.size == 0 ? table_put_header(table, &cold->spilled) : WEIR_OK;
    kept = kept == WEIR_OK ? table_put_image(table, slot, &cold->spilled) : kept;
    if (kept != WEIR_OK) {
        cold->dump = DUMP_LOST;
        weir_buffer_fini(&cold->spilled);
        weir_buffer_init(&cold->spilled, SPILL_BYTES_MAX);
    }
}

/* Slots that are one record. */
static int evict(struct weir_table *table, const struct table_noted *noted, size_t count,
                 struct weir_error *err) {
    struct table_cold *cold = table->cold;
    struct table_record record;
    bool taken;
    int rc = table_make_record(table, &cold->records, noted, count, &record);
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: no memory for a value that goes to disk", table->name);
    }
    rc = weir_cold_keys_put(cold->keys, &record.key, record.head, record.head_size, record.value,
                            record.value_size, &taken, err);
    for (size_t i = 0; rc == WEIR_OK && taken && i < count; i++) {
        struct weir_slot *slot = weir_table_slot(table, noted[i].number);
        spill(table, slot);
        table_records_see(&cold->records, slot->sequence);
        rc = cold->owner.leaves != NULL ? cold->owner.leaves(cold->owner.context, slot,
                                                             weir_cold_keys_run(cold->keys), err)
                                        : WEIR_OK;
        weir_table_free_slot(table, slot);
    }
    return rc;
}

/* A key with the parts of its value, on average. */
static size_t bytes_a_key(const struct weir_table *table) {
    size_t parts = table->heap.reserved_bytes - table->heap.idle_bytes;
    return table->view.slot_bytes + (table->keys > 0 ? parts / table->keys : 0);
}

/* Keys that may come without passing the budget. */
static uint64_t free_slots(const struct weir_table *table) {
    size_t budget = table->max_bytes - table->max_bytes / 16;
    const struct weir_table_owner *owner = &table->cold->owner;
    size_t store = weir_cold_keys_bytes(table->cold->keys);
    store += owner->beside != NULL ? owner->beside(owner->context) : 0;
    budget = budget > store * 2 ? budget - store : budget / 2;
    size_t used = weir_table_bytes(table);
    uint64_t free = table->slots - table->keys;
    if (table->codec != NULL) { /* a slot that is free has no parts yet */
        size_t idle = table->heap.idle_bytes + free * table->view.slot_bytes;
        return used < budget + idle ? (budget + idle - used) / bytes_a_key(table) : 0;
    }
    return used < budget ? free + (budget - used) / table->view.slot_bytes : free;
}

static uint64_t spare_slots(const struct weir_table *table) {
    uint64_t most = table->max_bytes / bytes_a_key(table) / 8;
    return most < SPARE_SLOTS ? most : SPARE_SLOTS;
}

/* Not looked for lately, and no image waits for it. */
static bool may_go(struct table_cold *cold, struct weir_slot *slot) {
    if (slot->sequence == 0 || slot->changed != 0 || slot->key_bytes == 0) {
        return false;
    }
    if (slot->heat > 0) {
        slot->heat--;
        return false;
    }
    return cold->owner.stays == NULL || !cold->owner.stays(cold->owner.context, slot);
}

/* Of those noted what is of one group goes together, as a run: groups noted next may be the same,
 * and have a record each a run. */
static int evict_noted(struct weir_table *table, struct weir_error *err) {
    struct table_records *records = &table->cold->records;
    int rc = WEIR_OK;
    table_sort_noted(records);
    for (size_t from = 0, to; rc == WEIR_OK && from < records->count; from = to) {
        to = table_group_end(table, records, from);
        rc = evict(table, records->noted + from, to - from, err);
    }
    records->count = 0;
    return rc == WEIR_OK ? weir_cold_keys_flush(table->cold->keys, err) : rc;
}

static int move_out(struct weir_table *table, uint64_t look, struct weir_error *err) {
    struct table_cold *cold = table->cold;
    uint64_t wanted = spare_slots(table) * 2;
    uint64_t free = free_slots(table);
    int rc = WEIR_OK;
    look = table->slots > 0 ? look : 0; /* the budget may be less than an empty table */
    for (; rc == WEIR_OK && look > 0 && free < wanted; look--) {
        if (cold->hand > table->slots || cold->records.count == TABLE_NOTED_MAX) {
            cold->hand = cold->hand > table->slots ? 1 : cold->hand; /* none is noted twice */
            rc = evict_noted(table, err);
        }
        struct weir_slot *slot = weir_table_slot(table, cold->hand++);
        if (cold->hand + PREFETCH_AHEAD <= table->slots) {
            __builtin_prefetch(weir_table_slot(table, cold->hand + PREFETCH_AHEAD - 1));
        }
        if (rc != WEIR_OK || !may_go(cold, slot)) {
            continue;
        }
        if (cold->records.group_from > 0) {
            rc = table_note_slot(table, &cold->records, slot);
            free++;
        } else {
            const struct table_noted noted = {slot->hash, slot->number};
            rc = evict(table, &noted, 1, err);
            free += slot->sequence == 0;
        }
    }
    return rc == WEIR_OK ? evict_noted(table, err) : rc;
}

static int tend(struct weir_table *table, struct weir_error *err) {
    const struct weir_table_owner *owner = &table->cold->owner;
    return weir_cold_keys_tend(table->cold->keys, owner->moves, owner->context, err);
}

int weir_table_make_room(struct weir_table *table, bool *crowded, struct weir_error *err) {
    *crowded = false;
    if (table->cold == NULL) {
        return WEIR_OK;
    }
    int rc = table_cold_used(table) ? tend(table, err) : WEIR_OK;
    if (rc != WEIR_OK || free_slots(table) >= spare_slots(table)) {
        return rc;
    }
    rc = move_out(table, LOOK_SLOTS, err);
    *crowded = free_slots(table) < spare_slots(table);
    return rc;
}

int table_cold_settle(struct weir_table *table, struct weir_error *err) {
    if (table->cold == NULL || free_slots(table) >= spare_slots(table)) {
        return WEIR_OK;
    }
    if (table->cold->records.group_from > 0 && !table_cold_used(table)) {
        table_records_forget(&table->cold->records);
        table_records_watch(&table->cold->records, table->max_bytes);
    }
    /* A slot's heat is soon gone: all of them may be looked at some times. */
    int rc = move_out(table, (uint64_t)table->slots * (WEIR_SLOT_HEAT_MAX + 1), err);
    if (rc == WEIR_OK) {
        weir_cold_keys_wait(table->cold->keys);
        rc = weir_cold_keys_failure(table->cold->keys, err);
    }
    return rc == WEIR_OK ? tend(table, err) : rc;
}

/* --- in ------------------------------------------------------------------------------------- */

int weir_table_need(struct weir_table *table, const uint8_t *keys, const uint32_t *offsets,
                    const uint64_t *hashes, int32_t count, bool *waits, struct weir_error *err) {
    *waits = false;
    int rc = weir_table_want_all(table, keys, offsets, hashes, count, err);
    return rc == WEIR_OK ? weir_table_load(table, waits, err) : rc;
}

int weir_table_want_all(struct weir_table *table, const uint8_t *keys, const uint32_t *offsets,
                        const uint64_t *hashes, int32_t count, struct weir_error *err) {
    int rc = WEIR_OK;
    if (!table_cold_used(table)) {
        return WEIR_OK;
    }
    struct weir_cold_keys *cold = table->cold->keys;
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        if (i + PREFETCH_AHEAD < count) {
            weir_table_prefetch(table, hashes[i + PREFETCH_AHEAD]);
            weir_cold_keys_prefetch(cold, hashes[i + PREFETCH_AHEAD]);
        }
        if (i + PREFETCH_AHEAD / 2 < count) {
            weir_table_prefetch_slot(table, hashes[i + PREFETCH_AHEAD / 2]);
        }
        const struct weir_cold_key key = {hashes[i], keys + offsets[i],
                                          offsets[i + 1] - offsets[i]};
        struct weir_slot *slot = weir_table_find(table, key.hash, key.bytes, key.size);
        if (slot == NULL) {
            rc = weir_cold_keys_want(cold, &key, err);
        } else if (slot->heat < WEIR_SLOT_HEAT_MAX) {
            slot->heat++;
        }
    }
    return rc;
}

void weir_table_restored(struct weir_table *table) {
    if (table->cold != NULL) {
        table_records_forget(&table->cold->records);
    }
}

bool weir_table_uses_disk(const struct weir_table *table) {
    return table_cold_used(table);
}

int weir_table_want(struct weir_table *table, uint64_t hash, const void *key, size_t length,
                    struct weir_error *err) {
    const struct weir_cold_key wanted = {hash, key, (uint32_t)length};
    return table_cold_used(table) ? weir_cold_keys_want(table->cold->keys, &wanted, err) : WEIR_OK;
}

int weir_table_load(struct weir_table *table, bool *waits, struct weir_error *err) {
    *waits = false;
    return table->cold != NULL ? weir_cold_keys_load(table->cold->keys, waits, err) : WEIR_OK;
}

void weir_table_forget(struct weir_table *table, int64_t before) {
    if (table->cold != NULL) {
        weir_cold_keys_forget(table->cold->keys, before);
    }
}

static int install_member(struct weir_table *table, const struct weir_cold_record *record,
                          const struct table_member *member, struct weir_error *err) {
    const uint8_t *key;
    size_t length = table_member_key(&table->cold->records, record, member, &key);
    struct weir_slot *slot =
        key == NULL
            ? NULL
            : weir_table_create_slot(table, weir_table_hash(table, key, length), key, length);
    if (slot == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory for keys from disk",
                              table->name);
    }
    slot->sequence = member->sequence;
    if (table->codec == NULL) {
        memcpy(weir_slot_value(table, slot), member->value, table->value_bytes);
    } else {
        int rc = table->codec->decode(table->codec_context, weir_slot_value(table, slot),
                                      member->value, member->size, err);
        if (rc != WEIR_OK) {
            return weir_error_wrap(err, "%s", table->name);
        }
    }
    const struct weir_table_owner *owner = &table->cold->owner;
    return owner->comes != NULL ? owner->comes(owner->context, slot, err) : WEIR_OK;
}

static int install(void *context, const struct weir_cold_record *record, struct weir_error *err) {
    struct weir_table *table = context;
    struct table_member member;
    size_t at = 0;
    int rc = WEIR_OK;
    while (rc == WEIR_OK && table_next_member(&table->cold->records, record, &at, &member)) {
        rc = table->codec == NULL && member.size != table->value_bytes
                 ? WEIR_E_CORRUPT
                 : install_member(table, record, &member, err);
    }
    if ((rc == WEIR_OK && at != record->value_size) || rc == WEIR_E_CORRUPT) {
        rc = weir_error_set(err, WEIR_E_CORRUPT, "%s: a key on disk is damaged", table->name);
    }
    return rc;
}

int weir_table_bring(struct weir_table *table, bool *done, struct weir_error *err) {
    *done = true;
    return table->cold == NULL ? WEIR_OK
                               : weir_cold_keys_bring(table->cold->keys, install, table, done, err);
}

/* --- recovery ------------------------------------------------------------------------------- */

/* Asks for the key of an image, which may be on disk. */
static int want_image(void *context, uint8_t op, struct weir_image_reader *reader,
                      struct weir_error *err) {
    struct weir_table *table = context;
    uint64_t number;
    const uint8_t *key;
    const uint8_t *value;
    size_t length;
    size_t size;
    bool put = op == WEIR_IMAGE_PUT;
    bool keyed = put || op == WEIR_IMAGE_DELETE;
    bool other = op == WEIR_IMAGE_HEADER || op == WEIR_IMAGE_LAYOUT || op == WEIR_IMAGE_NEXT;
    bool read = keyed
                    ? weir_image_u64(reader, &number) && weir_image_bytes(reader, &key, &length) &&
                          (!put || weir_image_bytes(reader, &value, &size)) &&
                          length <= WEIR_TABLE_KEY_MAX
                    : other && weir_image_skip(reader, op);
    if (!read) {
        return weir_error_set(err, WEIR_E_CORRUPT, "%s: damaged state image (operation %u)",
                              table->name, op);
    }
    if (!keyed) {
        return WEIR_OK;
    }
    uint64_t hash = weir_table_hash(table, key, length);
    if (!table_records_may_have(&table->cold->records, number) ||
        weir_table_find(table, hash, key, length) != NULL) {
        return WEIR_OK;
    }
    const struct weir_cold_key wanted =
        table_record_key(&table->cold->records, hash, key, (uint32_t)length);
    return weir_cold_keys_want(table->cold->keys, &wanted, err);
}

int table_cold_fetch(struct weir_table *table, const uint8_t *bytes, size_t length,
                     struct weir_error *err) {
    bool waits = false;
    bool done;
    if (!table_cold_used(table)) {
        return WEIR_OK;
    }
    int rc = weir_images_apply(table->name, bytes, length, want_image, table, err);
    rc = rc == WEIR_OK ? weir_cold_keys_load(table->cold->keys, &waits, err) : rc;
    if (rc == WEIR_OK && waits) {
        weir_cold_keys_wait(table->cold->keys);
        rc = weir_table_bring(table, &done, err);
    }
    return rc;
}

/* --- dumps ---------------------------------------------------------------------------------- */

struct dumped {
    const struct weir_table *table;
    struct weir_buffer *out;
};

static int put_member_image(const struct dumped *dumped, const struct weir_cold_record *record,
                            const struct table_member *member, struct weir_error *err) {
    struct weir_buffer *out = dumped->out;
    const uint8_t *key;
    size_t length = table_member_key(&dumped->table->cold->records, record, member, &key);
    int rc = key == NULL ? WEIR_E_NOMEM
                         : weir_buffer_reserve(out, 1 + sizeof member->sequence +
                                                        2 * (size_t)WEIR_VARINT_MAX + length +
                                                        member->size);
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "the snapshot's buffer is full");
    }
    uint8_t *to = out->data + out->size;
    *to++ = WEIR_IMAGE_PUT;
    to = weir_varint_put(weir_u64_put(to, member->sequence), length);
    memcpy(to, key, length);
    to = weir_varint_put(to + length, member->size);
    memcpy(to, member->value, member->size);
    out->size = (size_t)(to + member->size - out->data);
    return WEIR_OK;
}

static int put_record_images(void *context, const struct weir_cold_record *record,
                             struct weir_error *err) {
    const struct dumped *dumped = context;
    const struct table_cold *cold = dumped->table->cold;
    struct table_member member;
    size_t at = 0;
    int rc = WEIR_OK;
    if (weir_cold_keys_is_over(cold->keys, record)) {
        return WEIR_OK;
    }
    while (rc == WEIR_OK && table_next_member(&cold->records, record, &at, &member)) {
        rc = put_member_image(dumped, record, &member, err);
    }
    return rc;
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
        if (weir_cold_keys_waits(cold->keys)) { /* what comes in is neither here nor there */
            return WEIR_OK;
        }
        cursor->started = true;
        cursor->major = 1;
        cold->dump = DUMP_GOES_ON;
        cold->dumped = 1;
        weir_buffer_clear(&cold->spilled);
        if (!table_cold_used(table)) {
            cursor->major = 2;
            return WEIR_OK;
        }
        return weir_cold_keys_scan(cold->keys, err);
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
    bool end;
    *done = false;
    size_t start = out->size;
    int rc = table_put_header(table, out);
    size_t empty = out->size;
    struct dumped dumped = {table, out};
    rc = rc == WEIR_OK ? weir_cold_keys_scanned(cold->keys, put_record_images, &dumped, &end, err)
                       : weir_error_set(err, rc, "the snapshot's buffer is full");
    if (out->size == empty) {
        out->size = start;
    }
    if (rc == WEIR_OK && end) {
        cursor->major = 2;
    }
    return rc == WEIR_OK ? rc : weir_error_wrap(err, "%s", table->name);
}

void table_cold_dumped(struct weir_table *table, uint64_t next, bool done) {
    if (table->cold != NULL) {
        table->cold->dumped = next;
        table->cold->dump = done ? DUMP_NONE : DUMP_GOES_ON;
    }
}

struct weir_cold_keys *weir_table_cold_keys(struct weir_table *table) {
    return table->cold != NULL ? table->cold->keys : NULL;
}

struct weir_table_disk_figures weir_table_disk_figures(const struct weir_table *table) {
    struct weir_table_disk_figures figures = {0};
    if (table->cold != NULL) {
        struct weir_cold_figures store = weir_cold_keys_figures(table->cold->keys);
        figures = (struct weir_table_disk_figures){weir_cold_keys_count(table->cold->keys),
                                                   store.written,
                                                   store.asked,
                                                   store.read,
                                                   store.found,
                                                   store.forgotten};
    }
    return figures;
}
