#pragma once
/* Keyed state: an open-addressing index over fixed-layout slots in chunked memory. A slot never
 * moves while it lives, growth is incremental (no call rehashes more than a few entries), and a
 * slot remembers the epoch that last changed it, so that a seal is a flip of one number and each
 * changed slot is imaged once however often it changed (design: epochs; images:
 * docs/formats/state.md).
 *
 * Copy on write: while the sealed epoch is being collected, weir_table_touch and
 * weir_table_delete image a slot that was not collected yet before it changes again. So the rule
 * for callers is one: touch before writing to a value.
 *
 * One thread (the loop). Keys are bytes, usually from operator/key.h. Pointers to slots and values
 * are good until the slot is deleted or the table destroyed. */
#include "state/cell.h"
#include "state/heap.h"
#include "state/line.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weir_table;

/* Values with parts outside the slot. NULL codec: the value is its own image, byte for byte. */
struct weir_table_codec {
    /* Appends the value's image. WEIR_E_LIMIT or WEIR_E_NOMEM from the buffer, passed on. */
    int (*encode)(void *context, const void *value, struct weir_buffer *out);
    /* Fills a zeroed value. The bytes are outside input: WEIR_E_CORRUPT when they do not
     * parse. */
    int (*decode)(void *context, void *value, const uint8_t *bytes, size_t length,
                  struct weir_error *err);
    /* Frees the parts. The value may be zeroed or half decoded. */
    void (*fini)(void *context, void *value);
};

struct weir_table_config {
    const char *declaration;   /* "gold.sales_velocity"; copied */
    const char *cell;          /* "window"; copied */
    uint64_t shape;            /* hash of key types, value layout and declared version */
    uint32_t value_bytes;      /* <= 32 KiB */
    uint32_t key_inline_bytes; /* longer keys live in the heap; 0 means 16 */
    size_t max_keys;           /* 0: no cap but 2^31 */
    size_t max_bytes;          /* 0: none; slots, index, heap all in */
    const char *option;        /* the option that raises the cap, for the message; copied */
    const struct weir_table_codec *codec; /* borrowed */
    void *codec_context;                  /* borrowed */
};

/* Slot header; the inline key and the value follow. `link` is the owner's to use (a list through
 * slots by number): it is not imaged, 0 at creation. */
struct weir_slot {
    uint64_t hash;
    uint64_t sequence; /* creation order, from 1, never reused */
    uint32_t changed;  /* the table's count of seals when it last changed; 0: clean */
    uint32_t number;   /* from 1 */
    uint32_t key_bytes : 30;
    uint32_t heat : 2; /* looked for lately, of a table with keys on disk */
    uint32_t link;
};
#define WEIR_SLOT_HEAT_MAX 3

/* The part of a table that the inlined paths read; the rest is private. */
struct weir_table_view {
    uint64_t seed;
    uint32_t generation; /* the current epoch, as slots remember it */
    uint32_t value_offset;
    uint32_t slot_bytes;
    uint32_t key_inline_bytes;
    uint64_t *index; /* entries: low 32 bits of the hash << 32 | slot number */
    uint64_t mask;
    uint8_t **chunks; /* WEIR_TABLE_CHUNK_SLOTS slots each */
};
#define WEIR_TABLE_CHUNK_BITS 16
#define WEIR_TABLE_CHUNK_SLOTS (1u << WEIR_TABLE_CHUNK_BITS)

/* NULL with err set (WEIR_E_CONFIG, WEIR_E_NOMEM). */
struct weir_table *weir_table_create(const struct weir_table_config *config,
                                     struct weir_error *err);
void weir_table_destroy(struct weir_table *table);

static inline const struct weir_table_view *weir_table_view(const struct weir_table *table) {
    return (const struct weir_table_view *)table;
}

/* The hash every call below wants: XXH3 under the table's own random seed (hash flooding). */
uint64_t weir_table_hash(const struct weir_table *table, const void *key, size_t length);

/* Two-stage prefetch for batches of lookups: the index line first, some rows later the slot. */
static inline void weir_table_prefetch(const struct weir_table *table, uint64_t hash) {
    const struct weir_table_view *view = weir_table_view(table);
    __builtin_prefetch(&view->index[hash & view->mask]);
}

static inline struct weir_slot *weir_table_slot(const struct weir_table *table, uint32_t number) {
    const struct weir_table_view *view = weir_table_view(table);
    uint32_t at = number - 1;
    void *slot = view->chunks[at >> WEIR_TABLE_CHUNK_BITS] +
                 (size_t)(at & (WEIR_TABLE_CHUNK_SLOTS - 1)) * view->slot_bytes;
    return (struct weir_slot *)slot;
}

/* The slot the hash most probably leads to (weir_slot_is tells), its lines on their way; NULL: none
 * is known, weir_table_get has to look. Slots never move, so it stays good while none is deleted.
 */
static inline struct weir_slot *weir_table_seek(const struct weir_table *table, uint64_t hash) {
    const struct weir_table_view *view = weir_table_view(table);
    const uint64_t *line = view->index + weir_line_home((uint32_t)hash, view->mask);
    uint32_t match = weir_line_match(line, (uint32_t)hash);
    if (match == 0) {
        return NULL; /* or pushed on to the next line, which few are */
    }
    uint32_t number = (uint32_t)line[__builtin_ctz(match)];
    if (__builtin_expect(number == 0, 0)) {
        return NULL;
    }
    struct weir_slot *slot = weir_table_slot(table, number);
    __builtin_prefetch(slot, 1);
    __builtin_prefetch((const char *)slot + 64, 1);
    return slot;
}

static inline void weir_table_prefetch_slot(const struct weir_table *table, uint64_t hash) {
    (void)weir_table_seek(table, hash);
}

static inline void *weir_slot_value(const struct weir_table *table, struct weir_slot *slot) {
    return (uint8_t *)slot + weir_table_view(table)->value_offset;
}

static inline const uint8_t *weir_slot_key(const struct weir_table *table,
                                           const struct weir_slot *slot) {
    const uint8_t *key = (const uint8_t *)slot + sizeof *slot;
    if (slot->key_bytes > weir_table_view(table)->key_inline_bytes) {
        memcpy(&key, (const void *)key, sizeof key);
    }
    return key;
}

/* By words, the last one overlapping: keys are short, a call would be most of it. */
static inline bool weir_same_bytes(const uint8_t *a, const uint8_t *b, size_t length) {
    if (length < 8) {
        return memcmp(a, b, length) == 0;
    }
    for (size_t at = 0; at + 8 < length; at += 8) {
        if (memcmp(a + at, b + at, 8) != 0) {
            return false;
        }
    }
    return memcmp(a + length - 8, b + length - 8, 8) == 0;
}

static inline bool weir_slot_is(const struct weir_table *table, const struct weir_slot *slot,
                                uint64_t hash, const void *key, size_t length) {
    return slot->hash == hash && slot->key_bytes == length &&
           weir_same_bytes(weir_slot_key(table, slot), (const uint8_t *)key, length);
}

/* NULL when there is none. */
struct weir_slot *weir_table_find(const struct weir_table *table, uint64_t hash, const void *key,
                                  size_t length);
/* Finds or creates (value zeroed, touched). NULL: WEIR_E_LIMIT at a cap, WEIR_E_NOMEM; the table
 * is as before. A found slot is not touched. */
struct weir_slot *weir_table_get(struct weir_table *table, uint64_t hash, const void *key,
                                 size_t length, bool *created, struct weir_error *err);

int weir_table_touch_slow(struct weir_table *table, struct weir_slot *slot);
/* Before the first write to a value in an epoch (cheap after that). WEIR_E_NOMEM. */
static inline WEIR_MUST_CHECK int weir_table_touch(struct weir_table *table,
                                                   struct weir_slot *slot) {
    if (slot->changed == weir_table_view(table)->generation) {
        return WEIR_OK;
    }
    return weir_table_touch_slow(table, slot);
}

/* Deletes; the epoch's images get a tombstone unless `silent` (for slots whose owner's tombstone
 * says it all). WEIR_E_NOMEM: nothing happened. */
int weir_table_delete(struct weir_table *table, struct weir_slot *slot,
                      bool silent) WEIR_MUST_CHECK;

size_t weir_table_keys(const struct weir_table *table);
size_t weir_table_bytes(const struct weir_table *table); /* resident: slots, index, heap, images */
size_t weir_table_changed(const struct weir_table *table); /* slots changed in the open epoch */
/* Numbers run 1..slots; weir_table_slot(n)->sequence == 0 means free. */
uint32_t weir_table_slots(const struct weir_table *table);
/* For the parts of values; counted against max_bytes. */
struct weir_heap *weir_table_heap(struct weir_table *table);
/* WEIR_E_LIMIT with the table's message when `extra` more bytes would pass the cap. */
int weir_table_check_room(const struct weir_table *table, size_t extra,
                          struct weir_error *err) WEIR_MUST_CHECK;
/* Nothing of the epoch sealed last is to be collected any more. */
bool weir_table_collected(const struct weir_table *table);
const char *weir_table_name(const struct weir_table *table); /* "gold.x/window" */

/* --- more keys than fit: those that have not changed lately wait on disk (cold.h) --- */

struct weir_cold_keys;
struct weir_cold_record;
/* Of an owner whose slots stand in lists, or are forgotten in time; each, or NULL. */
struct weir_table_owner {
    void *context;
    /* The slot goes to disk, into that run. */
    int (*leaves)(void *context, struct weir_slot *slot, uint64_t run, struct weir_error *err);
    int (*comes)(void *context, struct weir_slot *slot, struct weir_error *err);
    /* The record went on to the run being gathered. */
    int (*moves)(void *context, const struct weir_cold_record *record, struct weir_error *err);
    /* It is to stay in memory now. */
    bool (*stays)(void *context, const struct weir_slot *slot);
    /* When the value, as its image has it, last changed: see weir_table_forget. */
    int64_t (*time_of)(void *context, const uint8_t *image, size_t size);
    size_t (*beside)(const void *context); /* bytes it has of the budget itself */
};

struct weir_table_disk {
    const char *path;           /* a folder of its own in there is made when it is needed */
    struct weir_signal *signal; /* raised when keys asked for are in; or NULL */
    struct weir_table_owner owner;
    /* Slots whose keys are alike from this byte on are a *group*: those of it that leave
     * memory at a time are one record, and what is wanted (weir_table_want) is not a key but a
     * group: all of it that is on disk. 0: there are no groups. */
    uint32_t group_from;
    uint64_t group_seed; /* of the XXH3 of those bytes, by which a group is wanted */
};
/* max_bytes is a budget from now on, not a cap. Before the first key. The slot of the empty key, of
 * which there is one at most, always stays in memory. */
int weir_table_allow_disk(struct weir_table *table, const struct weir_table_disk *disk,
                          struct weir_error *err) WEIR_MUST_CHECK;
/* Keys keys[offsets[i] .. offsets[i + 1]) are needed next. *waits: some are not in memory, and none
 * of them may be looked up before weir_table_bring is *done. */
int weir_table_need(struct weir_table *table, const uint8_t *keys, const uint32_t *offsets,
                    const uint64_t *hashes, int32_t count, bool *waits,
                    struct weir_error *err) WEIR_MUST_CHECK;
int weir_table_bring(struct weir_table *table, bool *done, struct weir_error *err) WEIR_MUST_CHECK;
/* Moves keys out until there is room for some batches more; a little at a time. *crowded: there is
 * none, because too many keys changed since the last seal. No pointer to a slot is good after. */
int weir_table_make_room(struct weir_table *table, bool *crowded,
                         struct weir_error *err) WEIR_MUST_CHECK;
/* As need, before weir_table_load. */
int weir_table_want_all(struct weir_table *table, const uint8_t *keys, const uint32_t *offsets,
                        const uint64_t *hashes, int32_t count,
                        struct weir_error *err) WEIR_MUST_CHECK;
/* Some keys are on disk. */
bool weir_table_uses_disk(const struct weir_table *table);
/* As need, of one key that is not in memory; more may follow before weir_table_load. */
int weir_table_want(struct weir_table *table, uint64_t hash, const void *key, size_t length,
                    struct weir_error *err) WEIR_MUST_CHECK;
int weir_table_load(struct weir_table *table, bool *waits, struct weir_error *err) WEIR_MUST_CHECK;
/* Keys on disk whose time is before this one are forgotten, without an image that says so: whoever
 * is given their old images again would know what they are worth. */
void weir_table_forget(struct weir_table *table, int64_t before);
/* For owners that go through what is on disk themselves. NULL: it has no disk. What is loaded comes
 * in by weir_table_bring. Without groups a record's value begins with the slot's sequence. */
struct weir_cold_keys *weir_table_cold_keys(struct weir_table *table);
struct weir_table_disk_figures {
    uint64_t keys; /* on disk */
    uint64_t written;
    uint64_t asked;
    uint64_t read; /* pieces of about a page, for them */
    uint64_t found;
    uint64_t forgotten; /* without having been read */
};
struct weir_table_disk_figures weir_table_disk_figures(const struct weir_table *table);

/* Of an owner that knows values of other shapes: what it declares may change, and what was written
 * before is read all the same (operator/aggregate/layout.h). */
struct weir_table_layouts {
    void *context;
    /* Appends the texts that tell how to read what the table holds (weir_image_put_layout). */
    int (*put)(void *context, struct weir_buffer *out);
    /* Such a text, of whatever shape. The bytes are outside input. */
    int (*learn)(void *context, uint64_t shape, const uint8_t *text, size_t length,
                 struct weir_error *err);
    /* Fills a zeroed value, as a codec does, from one of another shape. WEIR_E_VERSION: it cannot
     * be read. */
    int (*decode)(void *context, uint64_t shape, void *value, const uint8_t *bytes, size_t length,
                  struct weir_error *err);
};
/* Before the first image. */
void weir_table_set_layouts(struct weir_table *table, const struct weir_table_layouts *layouts);

/* See cell.h for the contract of these four. */
int weir_table_seal(struct weir_table *table, struct weir_error *err) WEIR_MUST_CHECK;
int weir_table_collect(struct weir_table *table, struct weir_buffer *out, size_t max_slots,
                       bool *done, struct weir_error *err) WEIR_MUST_CHECK;
/* Slots in the order of their numbers, which growth never changes. */
int weir_table_dump(struct weir_table *table, struct weir_cell_cursor *cursor,
                    struct weir_buffer *out, size_t max_slots, bool *done,
                    struct weir_error *err) WEIR_MUST_CHECK;
/* The same, of what is in memory alone, while another dump may go on: from slot number *next on,
 * which begins with 1. */
int weir_table_dump_memory(struct weir_table *table, uint64_t *next, struct weir_buffer *out,
                           size_t max_slots, bool *done, struct weir_error *err) WEIR_MUST_CHECK;
/* Applied slots are clean: they belong to no epoch until touched. */
int weir_table_apply(struct weir_table *table, const uint8_t *bytes, size_t length,
                     struct weir_error *err) WEIR_MUST_CHECK;
/* After the last image, of a table whose slots are groups on disk: what was kept to apply them is
 * given back. */
void weir_table_restored(struct weir_table *table);
struct weir_cell *weir_table_cell(struct weir_table *table); /* lives as long as the table */

#ifdef __cplusplus
}
#endif
