/* The index is cache lines of 8-byte entries (line.h) that carry 32 bits of the hash: enough to
 * place an entry in a larger index without looking at its slot, so growth moves entries, a line
 * with each insert, from the old index to the new one. Slots are numbered; numbers of deleted slots
 * are reused. */
#include "state/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "core/ahead.h"
#include "core/region.h"
#include "state/table_private.h"

enum {
    INDEX_MIN = 64,
    MIGRATE_STEP = 8,    /* old index entries moved an insert, whole lines: 2 would do */
    NEXT_FROM = 1 << 16, /* entries; smaller indexes are touched in no time */
    PAGE_ENTRIES = 512,
    TOUCH_EVERY = 32, /* inserts: a page; two thirds of those there are until it is needed */
    DROP_ENTRIES = 512 * PAGE_ENTRIES, /* a huge page */
    VALUE_MAX_BYTES = 32 * 1024,
    DEFAULT_KEY_INLINE = 16
};
#define MOVED UINT32_MAX /* slot number in an old index entry that is no longer there */
#define SLOTS_MAX (UINT32_C(1) << 31)

_Static_assert(offsetof(struct weir_table, view) == 0, "the inlined paths cast to the view");
_Static_assert(sizeof(struct weir_slot) == 32, "slot header");

static size_t chunk_bytes(const struct weir_table *table) {
    return (size_t)WEIR_TABLE_CHUNK_SLOTS * table->view.slot_bytes;
}

/* At a start nobody waits for a page to be zeroed, and there are many. Else huge pages are put
 * where tables are large (make_slots_ahead, prepare_next). */
static void *map(const struct weir_table *table, size_t size) {
    if (size < WEIR_AHEAD_PAGE_BYTES) {
        return weir_region_map(size);
    }
    return table->filling ? weir_region_map_large(size)
                          : weir_region_map_aligned(size, WEIR_AHEAD_PAGE_BYTES);
}

static uint64_t *index_create(const struct weir_table *table, uint64_t entries) {
    return map(table, entries * sizeof(uint64_t));
}

static void index_destroy(uint64_t *index, uint64_t mask) {
    weir_region_unmap(index, (mask + 1) * sizeof(uint64_t));
}

struct weir_table *weir_table_create(const struct weir_table_config *config,
                                     struct weir_error *err) {
    if (config->value_bytes > VALUE_MAX_BYTES) {
        weir_error_set(err, WEIR_E_CONFIG,
                       "%s: one key's '%s' takes %u bytes, at most %d are possible: declare fewer "
                       "measures",
                       config->declaration, config->cell, config->value_bytes, VALUE_MAX_BYTES);
        return NULL;
    }
    struct weir_table *table = calloc(1, sizeof *table);
    if (table == NULL) {
        goto nomem;
    }
    weir_heap_init(&table->heap);
    weir_buffer_init(&table->scratch, SIZE_MAX);
    uint32_t key_inline =
        config->key_inline_bytes != 0 ? config->key_inline_bytes : DEFAULT_KEY_INLINE;
    key_inline = (key_inline + 7) & ~7u;
    table->view.generation = 1;
    table->view.key_inline_bytes = key_inline;
    /* 16: decimals are __int128 in values. */
    table->view.value_offset = (uint32_t)((sizeof(struct weir_slot) + key_inline + 15) & ~15u);
    table->view.slot_bytes = (table->view.value_offset + config->value_bytes + 31) & ~31u;
    table->value_bytes = config->value_bytes;
    table->max_keys = config->max_keys != 0 ? config->max_keys : SLOTS_MAX;
    table->max_bytes = config->max_bytes != 0 ? config->max_bytes : SIZE_MAX;
    table->shape = config->shape;
    table->codec = config->codec;
    table->codec_context = config->codec_context;
    table->next_sequence = 1;
    table->ahead_from = WEIR_TABLE_CHUNK_SLOTS / 2;
    table->name = weir_cell_name(config->declaration, config->cell);
    table->declaration = strdup(config->declaration);
    table->option = strdup(config->option != NULL ? config->option : "its memory cap");
    table->view.index = index_create(table, INDEX_MIN);
    table->view.mask = INDEX_MIN - 1;
    if (table->name == NULL || table->declaration == NULL || table->option == NULL ||
        table->view.index == NULL) {
        goto nomem;
    }
    if (getrandom(&table->view.seed, sizeof table->view.seed, GRND_NONBLOCK) !=
        sizeof table->view.seed) {
        table->view.seed = (uint64_t)(uintptr_t)table; /* early boot: ASLR must do */
    }
    table->cell =
        (struct weir_cell){.name = table->name, .ops = &weir_table_cell_ops, .self = table};
    return table;
nomem:
    weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for state '%s'", config->declaration,
                   config->cell);
    weir_table_destroy(table);
    return NULL;
}

static void release_parts(struct weir_table *table, struct weir_slot *slot) {
    if (table->codec != NULL) {
        table->codec->fini(table->codec_context, weir_slot_value(table, slot));
    }
    if (slot->key_bytes > table->view.key_inline_bytes) {
        void *key;
        memcpy(&key, slot + 1, sizeof key);
        weir_heap_give(&table->heap, key, slot->key_bytes);
    }
}

void weir_table_destroy(struct weir_table *table) {
    if (table == NULL) {
        return;
    }
    for (uint32_t n = 1; n <= table->slots; n++) {
        struct weir_slot *slot = weir_table_slot(table, n);
        if (slot->sequence != 0) {
            release_parts(table, slot);
        }
    }
    for (uint32_t i = 0; i < table->chunk_count; i++) {
        weir_region_unmap(table->view.chunks[i], chunk_bytes(table));
    }
    free(table->view.chunks);
    index_destroy(table->view.index, table->view.mask);
    index_destroy(table->old_index, table->old_mask);
    index_destroy(table->next_index, table->view.mask * 2 + 1);
    table_cold_destroy(table);
    weir_heap_fini(&table->heap);
    weir_spill_fini(&table->changed);
    weir_spill_fini(&table->deleted);
    weir_spill_fini(&table->sealed_changed);
    weir_spill_fini(&table->sealed_deleted);
    weir_spill_fini(&table->sealed_images);
    weir_buffer_fini(&table->scratch);
    free(table->name);
    free(table->declaration);
    free(table->option);
    free(table);
}

/* --- index --------------------------------------------------------------------------------- */

uint64_t weir_table_hash(const struct weir_table *table, const void *key, size_t length) {
    return XXH3_64bits_withSeed(key, length, table->view.seed);
}

static inline bool entry_is(const struct weir_table *table, uint64_t entry, uint64_t hash,
                            const void *key, size_t length) {
    uint32_t number = (uint32_t)entry;
    return number != MOVED && number != 0 &&
           weir_slot_is(table, weir_table_slot(table, number), hash, key, length);
}

/* Position of the key's entry, or -1. */
static inline int64_t index_find(const struct weir_table *table, const uint64_t *index,
                                 uint64_t mask, uint64_t hash, const void *key, size_t length) {
    for (uint64_t line = weir_line_home((uint32_t)hash, mask);;
         line = (line + WEIR_LINE_ENTRIES) & mask) {
        uint32_t match = weir_line_match(index + line, (uint32_t)hash);
        for (; match != 0; match &= match - 1) {
            uint64_t at = line + (uint64_t)__builtin_ctz(match);
            if (entry_is(table, index[at], hash, key, length)) {
                return (int64_t)at;
            }
        }
        if (weir_line_empty(index + line) != 0) {
            return -1;
        }
    }
}

struct weir_slot *weir_table_find(const struct weir_table *table, uint64_t hash, const void *key,
                                  size_t length) {
    const struct weir_table_view *view = &table->view;
    int64_t at = index_find(table, view->index, view->mask, hash, key, length);
    if (at >= 0) {
        return weir_table_slot(table, (uint32_t)view->index[at]);
    }
    if (table->old_index != NULL) {
        at = index_find(table, table->old_index, table->old_mask, hash, key, length);
        if (at >= 0) {
            return weir_table_slot(table, (uint32_t)table->old_index[at]);
        }
    }
    return NULL;
}

static inline void index_place(uint64_t *index, uint64_t mask, uint64_t entry) {
    uint64_t line = weir_line_home((uint32_t)(entry >> 32), mask);
    uint32_t empty;
    while ((empty = weir_line_empty(index + line)) == 0) {
        line = (line + WEIR_LINE_ENTRIES) & mask;
    }
    index[line + (uint64_t)__builtin_ctz(empty)] = entry;
}

/* Moves the next entries of the old index; frees it at its end. */
static void migrate(struct weir_table *table, uint64_t steps) {
    uint64_t end = table->migrate_at + steps;
    if (end > table->old_mask + 1) {
        end = table->old_mask + 1;
    }
    for (uint64_t at = table->migrate_at; at < end; at++) {
        uint64_t entry = table->old_index[at];
        uint32_t number = (uint32_t)entry;
        if (number == 0) {
            table->migrate_gap = (at | (WEIR_LINE_ENTRIES - 1)) + 1;
        } else if (number != MOVED) {
            index_place(table->view.index, table->view.mask, entry);
            /* Not emptied: probes for what is still here must pass over it. */
            table->old_index[at] = MOVED;
        }
    }
    table->migrate_at = end;
    if (table->migrate_gap >= table->old_dropped + DROP_ENTRIES) {
        /* No search that begins before the end of a line with an empty place goes on after it, so
         * what is there reads as empty from now on. Page by page, because giving all back at once
         * takes long. */
        weir_region_drop(table->old_index + table->old_dropped,
                         (table->migrate_gap - table->old_dropped) * sizeof(uint64_t));
        table->old_dropped = table->migrate_gap;
    }
    if (end > table->old_mask) {
        index_destroy(table->old_index, table->old_mask);
        table->old_index = NULL;
    }
}

/* 70 %, counting what is still to come from the old index. */
static bool index_is_full(const struct weir_table *table) {
    return table->keys + 1 > (table->view.mask + 1) / 10 * 7;
}

/* Keys go all over an index, so a new one would have its pages made within a few batches, which is
 * a pause. It is mapped when the one at hand is half full, and touched a page every few inserts. */
static void prepare_next(struct weir_table *table) {
    uint64_t entries = table->view.mask + 1;
    if (entries < NEXT_FROM || table->keys < entries / 2 || table->keys % TOUCH_EVERY != 0 ||
        table->filling) {
        return;
    }
    if (table->next_index == NULL) {
        table->next_index = index_create(table, entries * 2);
        table->next_touched = 0;
        return;
    }
    uint64_t huge = WEIR_AHEAD_PAGE_BYTES / sizeof(uint64_t);
    if (table->next_touched < entries * 2) {
        if (table->next_touched % huge == 0 && entries * 2 >= huge) {
            (void)weir_ahead_put(table->next_index + table->next_touched);
        }
        *(volatile uint64_t *)(table->next_index + table->next_touched) = 0;
        table->next_touched += PAGE_ENTRIES;
    }
}

static int grow_index(struct weir_table *table) {
    uint64_t entries = (table->view.mask + 1) * 2;
    uint64_t *index = table->next_index != NULL ? table->next_index : index_create(table, entries);
    if (index == NULL) {
        return WEIR_E_NOMEM;
    }
    table->next_index = NULL;
    if (table->old_index != NULL) {
        migrate(table, table->old_mask + 1);
    }
    table->old_index = table->view.index;
    table->old_mask = table->view.mask;
    table->migrate_at = table->migrate_gap = table->old_dropped = 0;
    table->view.index = index;
    table->view.mask = entries - 1;
    if (table->filling) {
        migrate(table, table->old_mask + 1);
    }
    return WEIR_OK;
}

/* The first entry behind a full line that might lie in it, or -1. */
static int64_t pushed_past(const uint64_t *index, uint64_t mask, uint64_t full) {
    for (uint64_t line = (full + WEIR_LINE_ENTRIES) & mask;;
         line = (line + WEIR_LINE_ENTRIES) & mask) {
        for (uint64_t at = line; at < line + WEIR_LINE_ENTRIES; at++) {
            uint64_t home = weir_line_home((uint32_t)(index[at] >> 32), mask);
            if ((uint32_t)index[at] != 0 && ((line - home) & mask) >= ((line - full) & mask)) {
                return (int64_t)at;
            }
        }
        if (weir_line_empty(index + line) != 0) {
            return -1;
        }
    }
}

/* Position of that entry, or -1. */
static int64_t index_at(const uint64_t *index, uint64_t mask, uint64_t entry) {
    for (uint64_t line = weir_line_home((uint32_t)(entry >> 32), mask);;
         line = (line + WEIR_LINE_ENTRIES) & mask) {
        uint32_t match = weir_line_match(index + line, (uint32_t)(entry >> 32));
        for (; match != 0; match &= match - 1) {
            uint64_t at = line + (uint64_t)__builtin_ctz(match);
            if (index[at] == entry) {
                return (int64_t)at;
            }
        }
        if (weir_line_empty(index + line) != 0) {
            return -1;
        }
    }
}

/* Takes a slot's entry out. Out of a full line of the new index: what was pushed past it comes
 * back. */
static void index_remove(struct weir_table *table, const struct weir_slot *slot) {
    uint64_t entry = (slot->hash << 32) | slot->number;
    uint64_t mask = table->view.mask;
    uint64_t *index = table->view.index;
    int64_t at = index_at(index, mask, entry);
    if (at < 0) {
        at = index_at(table->old_index, table->old_mask, entry);
        table->old_index[at] = MOVED;
        return;
    }
    for (;;) {
        uint64_t line = (uint64_t)at & ~(WEIR_LINE_ENTRIES - 1);
        bool full = weir_line_empty(index + line) == 0;
        int64_t next = full ? pushed_past(index, mask, line) : -1;
        index[at] = next >= 0 ? index[next] : 0;
        if (next < 0) {
            return;
        }
        at = next;
    }
}

/* --- slots --------------------------------------------------------------------------------- */

size_t weir_table_keys(const struct weir_table *table) {
    return table->keys;
}

size_t weir_table_bytes(const struct weir_table *table) {
    size_t index = table->view.mask + 1;
    index += table->old_index != NULL ? table->old_mask + 1 - table->old_dropped : 0;
    index += table->next_index != NULL ? table->next_touched : 0;
    return sizeof *table + (size_t)table->slots * table->view.slot_bytes +
           index * sizeof(uint64_t) + table->heap.reserved_bytes + table->scratch.capacity +
           table->changed.reserved_bytes + table->deleted.reserved_bytes +
           table->sealed_changed.reserved_bytes + table->sealed_deleted.reserved_bytes +
           table->sealed_images.reserved_bytes;
}

size_t weir_table_changed(const struct weir_table *table) {
    return table->changed.records + table->deleted.records;
}

uint32_t weir_table_slots(const struct weir_table *table) {
    return table->slots;
}

struct weir_heap *weir_table_heap(struct weir_table *table) {
    return &table->heap;
}

bool weir_table_collected(const struct weir_table *table) {
    return !table->sealed;
}

const char *weir_table_name(const struct weir_table *table) {
    return table->name;
}

static int limit_error(const struct weir_table *table, struct weir_error *err) {
    const char *cell = table->name + strlen(table->declaration) + 1;
    if (table->keys >= table->max_keys) {
        return weir_error_set(err, WEIR_E_LIMIT,
                              "%s: state '%s' is full: %zu keys of at most %zu; raise %s, or "
                              "declare fewer keys or shorter windows",
                              table->declaration, cell, table->keys, table->max_keys,
                              table->option);
    }
    return weir_error_set(err, WEIR_E_LIMIT,
                          "%s: state '%s' is full: %zu keys hold %zu bytes of at most %zu; raise "
                          "%s, or declare fewer keys or shorter windows",
                          table->declaration, cell, table->keys, weir_table_bytes(table),
                          table->max_bytes, table->option);
}

/* What the keys of one batch may hold, however small the budget. */
#define A_BATCH_BYTES ((size_t)16 << 20)

int weir_table_check_room(const struct weir_table *table, size_t extra, struct weir_error *err) {
    size_t used = weir_table_bytes(table);
    size_t most = table->max_bytes;
    if (table->cold != NULL) { /* a budget: room is made between batches, of what may go */
        used -= table->heap.idle_bytes;
        most += most < SIZE_MAX / 4 ? most + A_BATCH_BYTES : 0;
    }
    if (used > most || extra > most - used) {
        return limit_error(table, err);
    }
    return WEIR_OK;
}

static int add_chunk(struct weir_table *table) {
    if (table->chunk_count == table->chunk_capacity) {
        uint32_t capacity = table->chunk_capacity == 0 ? 8 : table->chunk_capacity * 2;
        uint8_t **chunks = realloc(table->view.chunks, capacity * sizeof *chunks);
        if (chunks == NULL) {
            return WEIR_E_NOMEM;
        }
        table->view.chunks = chunks;
        table->chunk_capacity = capacity;
    }
    uint8_t *chunk = map(table, chunk_bytes(table));
    if (chunk == NULL) {
        return WEIR_E_NOMEM;
    }
    if (table->chunk_count > 0 && !table->filling) {
        (void)weir_ahead_put(chunk);
    }
    table->view.chunks[table->chunk_count++] = chunk;
    return WEIR_OK;
}

/* Slots have come to another two megabytes: those after them are made a huge page. The first chunk
 * keeps small ones, because small tables are many. */
static void make_slots_ahead(struct weir_table *table) {
    size_t size = chunk_bytes(table);
    uint32_t before = (table->chunk_count - 1) * WEIR_TABLE_CHUNK_SLOTS;
    size_t used = (size_t)(table->slots - before) * table->view.slot_bytes;
    size_t next = (used / WEIR_AHEAD_PAGE_BYTES + 1) * WEIR_AHEAD_PAGE_BYTES;
    next = next < size ? next : size;
    table->ahead_from = before + (uint32_t)(next / table->view.slot_bytes) + 1;
    if (before == 0) {
        weir_ahead_start();
    } else if (next < size && !table->filling) {
        (void)weir_ahead_put(table->view.chunks[table->chunk_count - 1] + next);
    }
}

struct weir_slot *weir_table_create_slot(struct weir_table *table, uint64_t hash, const void *key,
                                         size_t length) {
    void *heap_key = NULL;
    if (length > table->view.key_inline_bytes) {
        heap_key = length <= WEIR_TABLE_KEY_MAX ? weir_heap_take(&table->heap, length) : NULL;
        if (heap_key == NULL) {
            return NULL;
        }
    }
    if (index_is_full(table) && grow_index(table) != WEIR_OK) {
        goto fail;
    }
    uint32_t number = table->free_head;
    struct weir_slot *slot;
    if (number != 0) {
        slot = weir_table_slot(table, number);
        table->free_head = slot->link;
        memset(slot, 0, table->view.slot_bytes);
    } else {
        if (table->slots == table->chunk_count * WEIR_TABLE_CHUNK_SLOTS &&
            (table->slots >= SLOTS_MAX || add_chunk(table) != WEIR_OK)) {
            goto fail;
        }
        number = ++table->slots;
        slot = weir_table_slot(table, number);
        if (number == table->ahead_from) {
            make_slots_ahead(table);
        }
    }
    slot->hash = hash;
    slot->number = number;
    slot->key_bytes = (uint32_t)length & WEIR_TABLE_KEY_MAX;
    if (heap_key != NULL) {
        memcpy(heap_key, key, length);
        memcpy(slot + 1, &heap_key, sizeof heap_key);
    } else {
        memcpy(slot + 1, key, length);
    }
    if (table->old_index != NULL) {
        migrate(table, MIGRATE_STEP);
    }
    index_place(table->view.index, table->view.mask, (hash << 32) | number);
    table->keys++;
    prepare_next(table);
    return slot;
fail:
    weir_heap_give(&table->heap, heap_key, length);
    return NULL;
}

void weir_table_free_slot(struct weir_table *table, struct weir_slot *slot) {
    index_remove(table, slot);
    release_parts(table, slot);
    slot->sequence = 0;
    slot->changed = 0;
    slot->link = table->free_head;
    table->free_head = slot->number;
    table->keys--;
}

struct weir_slot *weir_table_get(struct weir_table *table, uint64_t hash, const void *key,
                                 size_t length, bool *created, struct weir_error *err) {
    struct weir_slot *slot = weir_table_find(table, hash, key, length);
    *created = slot == NULL;
    if (slot != NULL) {
        return slot;
    }
    if (table->keys >= table->max_keys) {
        limit_error(table, err);
        return NULL;
    }
    if (table->max_bytes != SIZE_MAX && table->cold == NULL) {
        size_t extra = length > table->view.key_inline_bytes ? length : 0;
        extra += table->free_head == 0 ? table->view.slot_bytes : 0;
        uint64_t touched = table->next_index != NULL ? table->next_touched : 0;
        extra +=
            index_is_full(table) ? ((table->view.mask + 1) * 2 - touched) * sizeof(uint64_t) : 0;
        if (weir_table_check_room(table, extra, err) != WEIR_OK) {
            return NULL;
        }
    }
    uint8_t *number = weir_spill_append(&table->changed, sizeof(uint32_t));
    slot = number != NULL ? weir_table_create_slot(table, hash, key, length) : NULL;
    if (slot == NULL) {
        if (number != NULL) {
            memset(number, 0, sizeof(uint32_t)); /* no slot's number: collect skips it */
        }
        weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for another key of %zu", table->name,
                       table->keys);
        return NULL;
    }
    memcpy(number, &slot->number, sizeof slot->number);
    slot->sequence = table->next_sequence++;
    slot->changed = table->view.generation;
    return slot;
}
