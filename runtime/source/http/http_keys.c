#include "source/http/http_keys.h"

#include <stdlib.h>

enum { LEAST_SLOTS = 1024 };

void http_keys_fini(struct http_keys *keys) {
    free(keys->slots);
    keys->slots = NULL;
    keys->capacity = keys->used = 0;
}

static bool is_empty(const struct http_key *slot) {
    return (slot->hash[0] | slot->hash[1]) == 0;
}

static struct http_key *slot_of(const struct http_keys *keys, const uint64_t hash[2]) {
    uint64_t i = hash[0] & (keys->capacity - 1);
    while (!is_empty(&keys->slots[i]) &&
           (keys->slots[i].hash[0] != hash[0] || keys->slots[i].hash[1] != hash[1])) {
        i = (i + 1) & (keys->capacity - 1);
    }
    return &keys->slots[i];
}

static bool expired(const struct http_keys *keys, const struct http_key *key, int64_t now_us) {
    return now_us - key->time_us >= keys->remember_us;
}

struct http_key *http_keys_find(struct http_keys *keys, const uint64_t hash[2], int64_t now_us) {
    if (keys->capacity == 0) {
        return NULL;
    }
    struct http_key *slot = slot_of(keys, hash);
    return is_empty(slot) || expired(keys, slot, now_us) ? NULL : slot;
}

/* Moves what `stays` says into a table of `capacity` slots. */
static bool rebuild(struct http_keys *keys, uint64_t capacity, int64_t now_us, uint64_t below) {
    struct http_key *slots = calloc(capacity, sizeof(*slots));
    if (slots == NULL) {
        return false;
    }
    struct http_keys old = *keys;
    keys->slots = slots;
    keys->capacity = capacity;
    keys->used = 0;
    for (uint64_t i = 0; i < old.capacity; i++) {
        const struct http_key *key = &old.slots[i];
        if (!is_empty(key) && !expired(keys, key, now_us) && key->first < below) {
            *slot_of(keys, key->hash) = *key;
            keys->used++;
        }
    }
    free(old.slots);
    return true;
}

static uint64_t alive(const struct http_keys *keys, int64_t now_us) {
    uint64_t count = 0;
    for (uint64_t i = 0; i < keys->capacity; i++) {
        count += !is_empty(&keys->slots[i]) && !expired(keys, &keys->slots[i], now_us);
    }
    return count;
}

bool http_keys_put(struct http_keys *keys, const struct http_key *key, int64_t now_us) {
    if (keys->capacity > 0) {
        struct http_key *slot = slot_of(keys, key->hash);
        if (!is_empty(slot)) {
            *slot = *key;
            return true;
        }
    }
    if (keys->used >= keys->max || 2 * (keys->used + 1) > keys->capacity) {
        if (now_us < keys->full_until_us) {
            return false;
        }
        uint64_t count = alive(keys, now_us);
        uint64_t capacity = LEAST_SLOTS;
        while (capacity < 4 * (count + 1)) {
            capacity *= 2;
        }
        if (count >= keys->max) {
            keys->full_until_us = now_us + 1000000;
            return false;
        }
        if (!rebuild(keys, capacity, now_us, UINT64_MAX)) {
            return false;
        }
    }
    *slot_of(keys, key->hash) = *key;
    keys->used++;
    return true;
}

void http_keys_forget(struct http_keys *keys, uint64_t first) {
    bool any = false;
    for (uint64_t i = 0; i < keys->capacity && !any; i++) {
        any = !is_empty(&keys->slots[i]) && keys->slots[i].first >= first;
    }
    if (any && !rebuild(keys, keys->capacity, 0, first)) {
        /* Better to forget than to answer for what was not kept. */
        http_keys_fini(keys);
    }
}
