/* A slot's key is the row's ordinal and then the key of its chain, so that rows of one key are
 * slots of their own. The index of the chains has 256 parts by the upper bits of the hash, each of
 * which grows on its own, as that of rows.c. */
#include "state/chains.h"

#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/block.h"

enum { PARTS = 256, ENTRIES_FIRST = 8, ORDINAL_BYTES = WEIR_CHAIN_KEY_FROM, HEAD_BYTES = 16 };

struct entry { /* oldest 0: free */
    uint64_t hash;
    uint32_t oldest;
    uint32_t newest;
};

struct part {
    struct entry *entries;
    uint32_t mask;
    uint32_t used;
};

struct weir_chains {
    struct weir_table *table;
    struct part parts[PARTS];
    size_t index_bytes;
    uint64_t seed;
    uint64_t next_ordinal;
    uint8_t *key; /* of a slot, under construction */
    size_t key_room;
    bool linked; /* else chains are yet to be made of slots */
    bool on_disk;
    uint32_t *come; /* slots that came from disk, their chains to be sorted */
    size_t come_count;
    size_t come_room;
};

/* --- rows as values --------------------------------------------------------------------------- */

/* i64 time, u32 count, u32 ended, row */
static int link_encode(void *context, const void *value, struct weir_buffer *out) {
    const struct weir_link *link = value;
    uint8_t head[HEAD_BYTES];
    (void)context;
    memcpy(head, &link->time_us, 8);
    memcpy(head + 8, &link->count, 4);
    memcpy(head + 12, &link->ended, 4);
    int rc = weir_buffer_append(out, head, sizeof head);
    return rc == WEIR_OK ? weir_buffer_append(out, link->bytes, link->size) : rc;
}

static void link_fini(void *context, void *value) {
    struct weir_chains *chains = context;
    struct weir_link *link = value;
    if (link->bytes != NULL) {
        weir_heap_give(weir_table_heap(chains->table), link->bytes, (size_t)link->size + 1);
    }
    link->bytes = NULL;
    link->size = 0;
}

static int set_bytes(struct weir_chains *chains, struct weir_link *link, const void *row,
                     size_t row_bytes) {
    uint8_t *own = weir_heap_take(weir_table_heap(chains->table), row_bytes + 1);
    if (own == NULL) {
        return WEIR_E_NOMEM;
    }
    if (row_bytes > 0) {
        memcpy(own, row, row_bytes);
    }
    if (link->bytes != NULL) {
        weir_heap_give(weir_table_heap(chains->table), link->bytes, (size_t)link->size + 1);
    }
    link->bytes = own;
    link->size = (uint32_t)row_bytes;
    return WEIR_OK;
}

size_t weir_chains_read(const uint8_t *value, size_t size, struct weir_link *out) {
    if (size < HEAD_BYTES || size - HEAD_BYTES > UINT32_MAX - 1) {
        return 0;
    }
    memcpy(&out->time_us, value, 8);
    memcpy(&out->count, value + 8, 4);
    memcpy(&out->ended, value + 12, 4);
    return HEAD_BYTES;
}

static int link_decode(void *context, void *value, const uint8_t *bytes, size_t length,
                       struct weir_error *err) {
    struct weir_link *link = value;
    size_t head = weir_chains_read(bytes, length, link);
    if (head == 0) {
        return weir_error_set(err, WEIR_E_CORRUPT, "a row of a join does not parse");
    }
    int rc = set_bytes(context, link, bytes + head, length - head);
    return rc == WEIR_OK ? rc : weir_error_set(err, rc, "no memory for a row of a join");
}

static const struct weir_table_codec codec = {link_encode, link_decode, link_fini};

/* --- what is there ---------------------------------------------------------------------------- */

uint64_t weir_chains_seed(const struct weir_chains *chains) {
    return chains->seed;
}

size_t weir_chains_estimate(void) {
    return sizeof(struct weir_slot) + sizeof(struct weir_link) + ORDINAL_BYTES +
           2 * sizeof(struct entry) + 2 * sizeof(uint64_t);
}

uint32_t weir_chains_numbers(const struct weir_chains *chains) {
    return weir_table_slots(chains->table);
}

size_t weir_chains_rows(const struct weir_chains *chains) {
    return weir_table_keys(chains->table);
}

struct weir_cell *weir_chains_cell(struct weir_chains *chains) {
    return weir_table_cell(chains->table);
}

struct weir_link *weir_chains_link(const struct weir_chains *chains, uint32_t number) {
    struct weir_slot *slot = weir_table_slot(chains->table, number);
    return slot->sequence != 0 ? weir_slot_value(chains->table, slot) : NULL;
}

static struct weir_link *at_number(const struct weir_chains *chains, uint32_t number) {
    return number != 0 ? weir_slot_value(chains->table, weir_table_slot(chains->table, number))
                       : NULL;
}

/* --- index ------------------------------------------------------------------------------------ */

static const struct part *part_of(const struct weir_chains *chains, uint64_t hash) {
    return &chains->parts[hash >> 56];
}

static struct part *own_part(struct weir_chains *chains, uint64_t hash) {
    return &chains->parts[hash >> 56];
}

static bool key_is(const struct weir_chains *chains, uint32_t number, const void *key,
                   size_t key_bytes) {
    const struct weir_slot *slot = weir_table_slot(chains->table, number);
    return slot->key_bytes == key_bytes + ORDINAL_BYTES &&
           memcmp(weir_slot_key(chains->table, slot) + ORDINAL_BYTES, key, key_bytes) == 0;
}

static struct entry *entry_of(const struct weir_chains *chains, uint64_t hash, const void *key,
                              size_t key_bytes) {
    const struct part *part = part_of(chains, hash);
    for (uint64_t at = hash & part->mask; part->entries != NULL; at = (at + 1) & part->mask) {
        struct entry *entry = &part->entries[at];
        if (entry->oldest == 0) {
            return NULL;
        }
        if (entry->hash == hash && key_is(chains, entry->oldest, key, key_bytes)) {
            return entry;
        }
    }
    return NULL;
}

static struct entry *place_entry(struct part *part, uint64_t hash) {
    uint64_t at = hash & part->mask;
    while (part->entries[at].oldest != 0) {
        at = (at + 1) & part->mask;
    }
    return &part->entries[at];
}

/* Room for one more chain. */
static int part_grow(struct weir_chains *chains, struct part *part) {
    uint32_t room = part->entries != NULL ? part->mask + 1 : 0;
    if (part->used + 1 <= room - room / 4 && room > 0) {
        return WEIR_OK;
    }
    struct part grown = {.mask = (room > 0 ? room * 2 : ENTRIES_FIRST) - 1, .used = part->used};
    size_t bytes = ((size_t)grown.mask + 1) * sizeof *grown.entries;
    grown.entries = weir_block_take(bytes);
    if (grown.entries == NULL) {
        return WEIR_E_NOMEM;
    }
    memset(grown.entries, 0, bytes);
    for (uint32_t i = 0; i < room; i++) {
        if (part->entries[i].oldest != 0) {
            *place_entry(&grown, part->entries[i].hash) = part->entries[i];
        }
    }
    chains->index_bytes += bytes - room * sizeof *grown.entries;
    weir_block_give(part->entries);
    *part = grown;
    return WEIR_OK;
}

static void part_remove(struct part *part, struct entry *entry) {
    uint32_t hole = (uint32_t)(entry - part->entries);
    for (uint32_t at = (hole + 1) & part->mask; part->entries[at].oldest != 0;
         at = (at + 1) & part->mask) {
        uint32_t home = (uint32_t)part->entries[at].hash & part->mask;
        if (((at - home) & part->mask) >= ((at - hole) & part->mask)) {
            part->entries[hole] = part->entries[at];
            hole = at;
        }
    }
    part->entries[hole] = (struct entry){0};
    part->used--;
}

void weir_chains_prefetch(const struct weir_chains *chains, uint64_t hash) {
    const struct part *part = part_of(chains, hash);
    if (part->entries != NULL) {
        __builtin_prefetch(&part->entries[hash & part->mask]);
    }
}

void weir_chains_prefetch_row(const struct weir_chains *chains, uint64_t hash) {
    const struct part *part = part_of(chains, hash);
    if (part->entries != NULL) {
        const struct entry *entry = &part->entries[hash & part->mask];
        if (entry->oldest != 0) {
            const char *slot = (const char *)weir_table_slot(chains->table, entry->oldest);
            __builtin_prefetch(slot);
            __builtin_prefetch(slot + 64);
        }
    }
}

struct weir_chain weir_chains_find(const struct weir_chains *chains, uint64_t hash, const void *key,
                                   size_t key_bytes) {
    const struct entry *entry = entry_of(chains, hash, key, key_bytes);
    if (entry == NULL) {
        return (struct weir_chain){NULL, NULL};
    }
    return (struct weir_chain){at_number(chains, entry->oldest), at_number(chains, entry->newest)};
}

/* --- rows come and go ------------------------------------------------------------------------- */

/* Puts a row into its place of the chain, which is looked for from the newest on. */
static void insert(struct weir_chains *chains, struct entry *entry, struct weir_link *link) {
    struct weir_link *before = at_number(chains, entry->newest);
    while (before != NULL && before->time_us > link->time_us) {
        before = at_number(chains, before->older);
    }
    link->older = before != NULL ? before->number : 0;
    link->newer = before != NULL ? before->newer : entry->oldest;
    if (before != NULL) {
        before->newer = link->number;
    } else {
        entry->oldest = link->number;
    }
    if (link->newer != 0) {
        at_number(chains, link->newer)->older = link->number;
    } else {
        entry->newest = link->number;
    }
}

static int join_chain(struct weir_chains *chains, uint64_t hash, const void *key, size_t key_bytes,
                      struct weir_link *link) {
    struct entry *entry = entry_of(chains, hash, key, key_bytes);
    if (entry == NULL) {
        struct part *part = own_part(chains, hash);
        int rc = part_grow(chains, part);
        if (rc != WEIR_OK) {
            return rc;
        }
        entry = place_entry(part, hash);
        *entry = (struct entry){.hash = hash};
        part->used++;
    }
    insert(chains, entry, link);
    return WEIR_OK;
}

struct weir_link *weir_chains_add(struct weir_chains *chains, uint64_t hash, const void *key,
                                  size_t key_bytes, int64_t time_us, const void *row,
                                  size_t row_bytes, struct weir_error *err) {
    size_t length = key_bytes + ORDINAL_BYTES;
    bool created;
    if (weir_table_check_room(chains->table, chains->index_bytes + row_bytes, err) != WEIR_OK) {
        return NULL;
    }
    if (length > chains->key_room) {
        uint8_t *grown = realloc(chains->key, length * 2);
        if (grown == NULL) {
            weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", weir_table_name(chains->table));
            return NULL;
        }
        chains->key = grown;
        chains->key_room = length * 2;
    }
    memcpy(chains->key, &chains->next_ordinal, ORDINAL_BYTES);
    memcpy(chains->key + ORDINAL_BYTES, key, key_bytes);
    struct weir_slot *slot =
        weir_table_get(chains->table, weir_table_hash(chains->table, chains->key, length),
                       chains->key, length, &created, err);
    if (slot == NULL) {
        return NULL;
    }
    struct weir_link *link = weir_slot_value(chains->table, slot);
    link->number = slot->number;
    link->time_us = time_us;
    chains->next_ordinal++;
    chains->linked = true;
    int rc = set_bytes(chains, link, row, row_bytes);
    rc = rc == WEIR_OK ? join_chain(chains, hash, key, key_bytes, link) : rc;
    if (rc != WEIR_OK) {
        rc = weir_table_delete(chains->table, slot, false);
        weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", weir_table_name(chains->table));
        return NULL;
    }
    return link;
}

struct weir_link *weir_chains_add_beside(struct weir_chains *chains, const struct weir_link *other,
                                         int64_t time_us, struct weir_error *err) {
    const struct weir_slot *slot = weir_table_slot(chains->table, other->number);
    const uint8_t *key = weir_slot_key(chains->table, slot) + ORDINAL_BYTES;
    size_t key_bytes = slot->key_bytes - ORDINAL_BYTES;
    return weir_chains_add(chains, XXH3_64bits_withSeed(key, key_bytes, chains->seed), key,
                           key_bytes, time_us, NULL, 0, err);
}

int weir_chains_touch(struct weir_chains *chains, struct weir_link *link, struct weir_error *err) {
    int rc = weir_table_touch(chains->table, weir_table_slot(chains->table, link->number));
    return rc == WEIR_OK ? rc
                         : weir_error_set(err, rc, "%s: no memory for changed state",
                                          weir_table_name(chains->table));
}

int weir_chains_set(struct weir_chains *chains, struct weir_link *link, const void *row,
                    size_t row_bytes, struct weir_error *err) {
    int rc = weir_table_check_room(chains->table, chains->index_bytes + row_bytes, err);
    rc = rc == WEIR_OK ? weir_chains_touch(chains, link, err) : rc;
    if (rc == WEIR_OK && (rc = set_bytes(chains, link, row, row_bytes)) != WEIR_OK) {
        weir_error_set(err, rc, "%s: out of memory", weir_table_name(chains->table));
    }
    return rc;
}

/* The row is no more in its chain. */
static void leave_chain(struct weir_chains *chains, const struct weir_link *link) {
    const struct weir_slot *slot = weir_table_slot(chains->table, link->number);
    const uint8_t *key = weir_slot_key(chains->table, slot) + ORDINAL_BYTES;
    size_t key_bytes = slot->key_bytes - ORDINAL_BYTES;
    struct weir_link *older = at_number(chains, link->older);
    struct weir_link *newer = at_number(chains, link->newer);
    struct entry *entry = NULL;
    uint64_t hash = 0;
    if (older == NULL || newer == NULL) { /* an end: the index knows of it */
        hash = XXH3_64bits_withSeed(key, key_bytes, chains->seed);
        entry = entry_of(chains, hash, key, key_bytes);
    }
    if (entry != NULL && older == NULL && newer == NULL) {
        part_remove(own_part(chains, hash), entry);
    } else if (entry != NULL) {
        entry->oldest = older == NULL ? link->newer : entry->oldest;
        entry->newest = newer == NULL ? link->older : entry->newest;
    }
    if (older != NULL) {
        older->newer = link->newer;
    }
    if (newer != NULL) {
        newer->older = link->older;
    }
}

static int remove_row(struct weir_chains *chains, const struct weir_link *link, bool silent,
                      struct weir_error *err) {
    leave_chain(chains, link);
    int rc = weir_table_delete(chains->table, weir_table_slot(chains->table, link->number), silent);
    return rc == WEIR_OK ? rc
                         : weir_error_set(err, rc, "%s: no memory for changed state",
                                          weir_table_name(chains->table));
}

int weir_chains_remove(struct weir_chains *chains, struct weir_link *link, struct weir_error *err) {
    return remove_row(chains, link, false, err);
}

int weir_chains_expire(struct weir_chains *chains, struct weir_link *link, struct weir_error *err) {
    bool waits = weir_table_slot(chains->table, link->number)->changed != 0;
    return waits ? WEIR_OK : remove_row(chains, link, true, err);
}

/* --- chains of slots that are there ----------------------------------------------------------- */

/* They are first made as slots come; those whose rows are not in order of time are then sorted. */
static void note_ordinal(struct weir_chains *chains, const struct weir_slot *slot) {
    uint64_t ordinal;
    memcpy(&ordinal, weir_slot_key(chains->table, slot), sizeof ordinal);
    chains->next_ordinal = ordinal >= chains->next_ordinal ? ordinal + 1 : chains->next_ordinal;
}

struct order {
    int64_t time_us;
    uint64_t sequence;
    uint32_t number;
};

static int by_time(const void *a, const void *b) {
    const struct order *x = a;
    const struct order *y = b;
    return x->time_us != y->time_us ? (x->time_us > y->time_us) - (x->time_us < y->time_us)
                                    : (x->sequence > y->sequence) - (x->sequence < y->sequence);
}

static int sort_chain(struct weir_chains *chains, struct entry *entry) {
    size_t count = 0;
    bool sorted = true;
    for (uint32_t n = entry->oldest; n != 0; n = at_number(chains, n)->newer) {
        const struct weir_link *link = at_number(chains, n);
        const struct weir_link *newer = at_number(chains, link->newer);
        count++;
        sorted = sorted && (newer == NULL || newer->time_us > link->time_us ||
                            (newer->time_us == link->time_us &&
                             weir_table_slot(chains->table, newer->number)->sequence >
                                 weir_table_slot(chains->table, n)->sequence));
    }
    if (sorted) {
        return WEIR_OK;
    }
    struct order *list = malloc(count * sizeof *list);
    if (list == NULL) {
        return WEIR_E_NOMEM;
    }
    count = 0;
    for (uint32_t n = entry->oldest; n != 0; n = at_number(chains, n)->newer) {
        list[count++] = (struct order){at_number(chains, n)->time_us,
                                       weir_table_slot(chains->table, n)->sequence, n};
    }
    qsort(list, count, sizeof *list, by_time);
    for (size_t i = 0; i < count; i++) {
        struct weir_link *link = at_number(chains, list[i].number);
        link->older = i > 0 ? list[i - 1].number : 0;
        link->newer = i + 1 < count ? list[i + 1].number : 0;
    }
    entry->oldest = list[0].number;
    entry->newest = list[count - 1].number;
    free(list);
    return WEIR_OK;
}

/* Behind the newest, whatever its time. */
static int append(struct weir_chains *chains, struct weir_slot *slot) {
    struct weir_link *link = weir_slot_value(chains->table, slot);
    const uint8_t *key = weir_slot_key(chains->table, slot);
    if (slot->key_bytes < ORDINAL_BYTES) {
        return WEIR_E_CORRUPT;
    }
    note_ordinal(chains, slot);
    size_t key_bytes = slot->key_bytes - ORDINAL_BYTES;
    uint64_t hash = XXH3_64bits_withSeed(key + ORDINAL_BYTES, key_bytes, chains->seed);
    struct entry *entry = entry_of(chains, hash, key + ORDINAL_BYTES, key_bytes);
    link->number = slot->number;
    link->newer = 0;
    link->older = entry != NULL ? entry->newest : 0;
    if (entry != NULL) {
        at_number(chains, entry->newest)->newer = link->number;
        entry->newest = link->number;
        return WEIR_OK;
    }
    struct part *part = own_part(chains, hash);
    int rc = part_grow(chains, part);
    if (rc == WEIR_OK) {
        *place_entry(part, hash) = (struct entry){hash, link->number, link->number};
        part->used++;
    }
    return rc;
}

/* --- rows on disk ----------------------------------------------------------------------------- */

static size_t beside(const void *context) {
    const struct weir_chains *chains = context;
    return chains->index_bytes;
}

static int row_leaves(void *context, struct weir_slot *slot, uint64_t run, struct weir_error *err) {
    struct weir_chains *chains = context;
    (void)run;
    (void)err;
    if (chains->linked) {
        leave_chain(chains, weir_slot_value(chains->table, slot));
    } else if (slot->key_bytes >= ORDINAL_BYTES) { /* restored, and on disk before its chain is */
        note_ordinal(chains, slot);
    }
    return WEIR_OK;
}

static int row_comes(void *context, struct weir_slot *slot, struct weir_error *err) {
    struct weir_chains *chains = context;
    if (!chains->linked) {
        return WEIR_OK;
    }
    if (chains->come_count == chains->come_room) {
        size_t room = chains->come_room * 2 + 1024;
        uint32_t *come = realloc(chains->come, room * sizeof *come);
        if (come == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory",
                                  weir_table_name(chains->table));
        }
        chains->come = come;
        chains->come_room = room;
    }
    chains->come[chains->come_count++] = slot->number;
    return append(chains, slot) == WEIR_OK ? WEIR_OK
                                           : weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory",
                                                            weir_table_name(chains->table));
}

static int64_t time_of_row(void *context, const uint8_t *image, size_t size) {
    struct weir_link row;
    (void)context;
    return weir_chains_read(image, size, &row) > 0 ? row.time_us : INT64_MAX;
}

static int allow_disk(struct weir_chains *chains, const struct weir_chains_config *config,
                      struct weir_error *err) {
    const struct weir_table_disk disk = {
        .path = config->disk,
        .signal = config->disk_signal,
        .owner = {.context = chains,
                  .leaves = row_leaves,
                  .comes = row_comes,
                  .time_of = time_of_row,
                  .beside = beside},
        .group_from = ORDINAL_BYTES,
        .group_seed = chains->seed,
    };
    chains->on_disk = true;
    return weir_table_allow_disk(chains->table, &disk, err);
}

bool weir_chains_use_disk(const struct weir_chains *chains) {
    return chains->on_disk && weir_table_uses_disk(chains->table);
}

int weir_chains_want(struct weir_chains *chains, uint64_t hash, const void *key, size_t key_bytes,
                     struct weir_error *err) {
    return weir_table_want(chains->table, hash, key, key_bytes, err);
}

int weir_chains_load(struct weir_chains *chains, bool *waits, struct weir_error *err) {
    return weir_table_load(chains->table, waits, err);
}

int weir_chains_bring(struct weir_chains *chains, bool *done, size_t *rows,
                      struct weir_error *err) {
    const struct entry *sorted = NULL;
    int rc = weir_table_bring(chains->table, done, err);
    *rows = chains->come_count;
    for (size_t i = 0; rc == WEIR_OK && i < chains->come_count; i++) {
        const struct weir_slot *slot = weir_table_slot(chains->table, chains->come[i]);
        const uint8_t *key = weir_slot_key(chains->table, slot) + ORDINAL_BYTES;
        size_t key_bytes = slot->key_bytes - ORDINAL_BYTES;
        uint64_t hash = XXH3_64bits_withSeed(key, key_bytes, chains->seed);
        struct entry *entry = entry_of(chains, hash, key, key_bytes);
        if (entry != NULL && entry != sorted) { /* rows of a record come one behind the other */
            rc = sort_chain(chains, entry);
            sorted = entry;
        }
    }
    chains->come_count = 0;
    return rc == WEIR_OK || (err != NULL && err->code != WEIR_OK)
               ? rc
               : weir_error_set(err, rc, "%s: out of memory", weir_table_name(chains->table));
}

int weir_chains_make_room(struct weir_chains *chains, bool *crowded, struct weir_error *err) {
    return weir_table_make_room(chains->table, crowded, err);
}

void weir_chains_forget(struct weir_chains *chains, int64_t before_us) {
    weir_table_forget(chains->table, before_us);
}

struct weir_table_disk_figures weir_chains_disk_figures(const struct weir_chains *chains) {
    return weir_table_disk_figures(chains->table);
}

void weir_chains_warm(const struct weir_chains *chains, const struct weir_link *link) {
    struct weir_slot *slot = weir_table_slot(chains->table, link->number);
    if (slot->heat < WEIR_SLOT_HEAT_MAX) {
        slot->heat++;
    }
}

/* --- life ------------------------------------------------------------------------------------- */

struct weir_chains *weir_chains_create(const struct weir_chains_config *config,
                                       struct weir_error *err) {
    struct weir_chains *chains = calloc(1, sizeof *chains);
    if (chains == NULL) {
        weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", config->declaration);
        return NULL;
    }
    struct weir_table_config table = {
        .declaration = config->declaration,
        .cell = config->cell,
        .shape = config->shape,
        .value_bytes = sizeof(struct weir_link),
        .key_inline_bytes = 24,
        .max_bytes = config->max_bytes,
        .option = config->option,
        .codec = &codec,
        .codec_context = chains,
    };
    chains->next_ordinal = 1;
    chains->table = weir_table_create(&table, err);
    if (chains->table == NULL) {
        free(chains);
        return NULL;
    }
    chains->seed = config->seed != 0 ? config->seed : weir_table_view(chains->table)->seed;
    if (config->disk != NULL && allow_disk(chains, config, err) != WEIR_OK) {
        weir_chains_destroy(chains);
        return NULL;
    }
    return chains;
}

void weir_chains_destroy(struct weir_chains *chains) {
    if (chains == NULL) {
        return;
    }
    for (int i = 0; i < PARTS; i++) {
        weir_block_give(chains->parts[i].entries);
    }
    weir_table_destroy(chains->table);
    free(chains->come);
    free(chains->key);
    free(chains);
}

int weir_chains_restore(struct weir_chains *chains, struct weir_error *err) {
    int rc = WEIR_OK;
    chains->linked = true;
    weir_table_restored(chains->table);
    for (uint32_t n = 1; rc == WEIR_OK && n <= weir_table_slots(chains->table); n++) {
        struct weir_slot *slot = weir_table_slot(chains->table, n);
        rc = slot->sequence != 0 ? append(chains, slot) : WEIR_OK;
    }
    for (int p = 0; p < PARTS; p++) {
        const struct part *part = &chains->parts[p];
        for (uint32_t i = 0; rc == WEIR_OK && part->entries != NULL && i <= part->mask; i++) {
            rc = part->entries[i].oldest != 0 ? sort_chain(chains, &part->entries[i]) : WEIR_OK;
        }
    }
    return rc == WEIR_OK
               ? rc
               : weir_error_set(err, rc, "%s: cannot be restored", weir_table_name(chains->table));
}
