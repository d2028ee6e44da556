#include "decode/json/json_keys.h"

#include <stdlib.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

enum { TEXT_BYTES_MAX = 32 << 20, ENTRIES_MAX = 1 << 22, SLOTS_START = 64 };

struct json_key {
    uint64_t hash;
    uint32_t object;
    uint32_t text_at;
    uint32_t length;
    uint32_t slot;
};

void json_keys_init(struct json_keys *keys) {
    weir_buffer_init(&keys->entries, ENTRIES_MAX * sizeof(struct json_key));
    weir_buffer_init(&keys->text, TEXT_BYTES_MAX);
    keys->slots = NULL;
    keys->slot_count = 0;
    /* Differs from run to run, so that a sender cannot choose keys that collide. */
    keys->seed = (uint64_t)(uintptr_t)keys * 0x9e3779b97f4a7c15ull;
}

void json_keys_fini(struct json_keys *keys) {
    weir_buffer_fini(&keys->entries);
    weir_buffer_fini(&keys->text);
    free(keys->slots);
    keys->slots = NULL;
}

static uint32_t entry_count(const struct json_keys *keys) {
    return (uint32_t)(keys->entries.size / sizeof(struct json_key));
}

void json_keys_clear(struct json_keys *keys) {
    struct json_key *entries = (struct json_key *)keys->entries.data;
    for (uint32_t i = 0; i < entry_count(keys); i++) {
        keys->slots[entries[i].slot] = 0;
    }
    weir_buffer_clear(&keys->entries);
    weir_buffer_clear(&keys->text);
}

static void place(struct json_keys *keys, uint32_t i) {
    struct json_key *entry = (struct json_key *)keys->entries.data + i;
    uint32_t mask = keys->slot_count - 1;
    uint32_t slot = (uint32_t)entry->hash & mask;
    while (keys->slots[slot] != 0) {
        slot = (slot + 1) & mask;
    }
    keys->slots[slot] = i + 1;
    entry->slot = slot;
}

static int grow(struct json_keys *keys) {
    uint32_t count = keys->slot_count == 0 ? SLOTS_START : keys->slot_count * 2;
    uint32_t *slots = calloc(count, sizeof(*slots));
    if (slots == NULL) {
        return WEIR_E_NOMEM;
    }
    free(keys->slots);
    keys->slots = slots;
    keys->slot_count = count;
    for (uint32_t i = 0; i < entry_count(keys); i++) {
        place(keys, i);
    }
    return WEIR_OK;
}

int json_keys_add(struct json_keys *keys, uint32_t object, const uint8_t *key, size_t length,
                  bool *twice) {
    *twice = false;
    int rc = entry_count(keys) * 2 >= keys->slot_count ? grow(keys) : WEIR_OK;
    if (rc != WEIR_OK) {
        return rc;
    }
    uint64_t hash = XXH3_64bits_withSeed(key, length, keys->seed + object);
    const struct json_key *entries = (const struct json_key *)keys->entries.data;
    uint32_t mask = keys->slot_count - 1;
    for (uint32_t slot = (uint32_t)hash & mask; keys->slots[slot] != 0; slot = (slot + 1) & mask) {
        const struct json_key *e = &entries[keys->slots[slot] - 1];
        if (e->hash == hash && e->object == object && e->length == length &&
            memcmp(keys->text.data + e->text_at, key, length) == 0) {
            *twice = true;
            return WEIR_OK;
        }
    }
    struct json_key entry = {.hash = hash,
                             .object = object,
                             .text_at = (uint32_t)keys->text.size,
                             .length = (uint32_t)length};
    rc = weir_buffer_append(&keys->text, key, length);
    if (rc == WEIR_OK) {
        rc = weir_buffer_append(&keys->entries, &entry, sizeof(entry));
    }
    if (rc == WEIR_OK) {
        place(keys, entry_count(keys) - 1);
    }
    return rc;
}
