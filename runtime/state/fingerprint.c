/* A bucket is a linear hash table: entries in chunks, chained by number from heads in chunks, one
 * more chain with each entry (load 1), each new chain splitting one old one. Nothing is ever
 * rehashed or copied but for the first, small chunks, and memory per key is flat. Chunks of
 * expired buckets are used again by later ones. */
#include "state/fingerprint.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/block.h"
#include "state/fingerprint_private.h"

enum {
    FIRST = 32,       /* entries and heads of a new bucket */
    REAP_CHUNKS = 64, /* chunks of expired buckets taken back a call: well under 1 ms */
    GROUP = 32,       /* rows looked up together, so that their cache misses overlap */
    SPLIT_AHEAD = 8   /* splits to come whose chain is prefetched, an entry each so many splits */
};
#define WITHIN_MAX_US (INT64_C(3000) * 86400 * 1000000) /* fits 48 bits with dead to spare */
#define REGION_BYTES ((size_t)64 << 30)
#define BUCKET_KEYS_MAX (UINT32_C(1) << 31)

struct weir_fingerprints *weir_fingerprints_create(const struct weir_fingerprints_config *config,
                                                   struct weir_error *err) {
    if (config->within_us < 1 || config->within_us > WITHIN_MAX_US) {
        weir_error_set(err, WEIR_E_CONFIG,
                       "%s: dedup within %lld us: it must be positive and at most 3000 days",
                       config->declaration, (long long)config->within_us);
        return NULL;
    }
    struct weir_fingerprints *store = calloc(1, sizeof *store);
    char *name = weir_cell_name(config->declaration, config->cell);
    if (store == NULL || name == NULL) {
        free(store);
        free(name);
        goto nomem;
    }
    store->name = name;
    store->declaration = strdup(config->declaration);
    store->option = strdup(config->option != NULL ? config->option : "its memory cap");
    if (store->declaration == NULL || store->option == NULL) {
        weir_fingerprints_destroy(store);
        goto nomem;
    }
    store->within = config->within_us;
    store->max_keys = config->max_keys != 0 ? config->max_keys : SIZE_MAX;
    store->max_bytes = config->max_bytes != 0 ? config->max_bytes : SIZE_MAX;
#ifndef __SANITIZE_ADDRESS__ /* it should know each chunk */
    weir_region_init(&store->region,
                     store->max_bytes < REGION_BYTES / 2 ? store->max_bytes * 2 : REGION_BYTES);
#endif
    /* Entries live in buckets of this width: another width is another shape. */
    store->shape = (config->shape ^ (uint64_t)config->within_us) * UINT64_C(0x9E3779B97F4A7C15);
    store->cell =
        (struct weir_cell){.name = name, .ops = &weir_fingerprints_cell_ops, .self = store};
    return store;
nomem:
    weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for state '%s'", config->declaration,
                   config->cell);
    return NULL;
}

/* --- chunks -------------------------------------------------------------------------------- */

static void *chunk_take(struct weir_fingerprints *store, struct chunk_list *list, uint32_t *total,
                        size_t bytes) {
    struct chunk *chunk = list->head;
    if (chunk != NULL) {
        list->head = chunk->next;
        list->count--;
        return chunk;
    }
    chunk = list->bare;
    if (chunk != NULL) {
        list->bare = chunk->next;
    } else {
        chunk = weir_region_take(&store->region, bytes);
    }
    chunk = chunk != NULL ? chunk : malloc(bytes);
    if (chunk != NULL) {
        (*total)++;
    }
    return chunk;
}

/* Keeps half of what is in use for the buckets to come (two are remembered while one more dies);
 * the rest goes back to the system. */
static void chunk_give(struct weir_fingerprints *store, struct chunk_list *list, uint32_t *total,
                       size_t bytes, void *part) {
    struct chunk *chunk = part;
    if (list->count > 16 && list->count > (*total - list->count) / 2) {
        (*total)--;
        if (weir_region_has(&store->region, chunk)) {
            weir_region_drop(chunk + 1, bytes - sizeof *chunk);
            chunk->next = list->bare;
            list->bare = chunk;
        } else {
            free(part);
        }
        return;
    }
    chunk->next = list->head;
    list->head = chunk;
    list->count++;
}

static void chunk_list_fini(struct weir_fingerprints *store, struct chunk_list *list) {
    while (list->head != NULL) {
        struct chunk *next = list->head->next;
        if (!weir_region_has(&store->region, list->head)) {
            free(list->head);
        }
        list->head = next;
    }
}

/* Room for one more chunk pointer. */
static void *directory_grow(struct weir_fingerprints *store, void *directory, uint32_t count,
                            uint32_t *capacity) {
    if (count < *capacity) {
        return directory;
    }
    uint32_t wanted = *capacity == 0 ? 4 : *capacity * 2;
    void *grown = weir_block_regrow(directory, wanted * sizeof(void *));
    if (grown != NULL) {
        store->small_bytes += (size_t)(wanted - *capacity) * sizeof(void *);
        *capacity = wanted;
    }
    return grown;
}

/* Doubles a bucket's first chunk; at full size it moves to a chunk like all others. */
static void *grow_first(struct weir_fingerprints *store, void *first, uint32_t *room, uint32_t full,
                        size_t item_bytes, struct chunk_list *list, uint32_t *total) {
    uint32_t wanted = *room * 2;
    void *chunk;
    if (wanted < full) {
        chunk = weir_block_regrow(first, wanted * item_bytes);
        store->small_bytes += chunk != NULL ? (wanted - *room) * item_bytes : 0;
    } else {
        chunk = chunk_take(store, list, total, full * item_bytes);
        if (chunk != NULL) {
            memcpy(chunk, first, *room * item_bytes);
            weir_block_give(first);
            store->small_bytes -= *room * item_bytes;
        }
    }
    if (chunk != NULL) {
        *room = wanted;
    }
    return chunk;
}

static bool grow_entries(struct weir_fingerprints *store, struct bucket *bucket) {
    if (bucket->entry_room > 0 && bucket->entry_room < ENTRY_CHUNK) {
        struct entry *chunk =
            grow_first(store, bucket->entries[0], &bucket->entry_room, ENTRY_CHUNK, sizeof *chunk,
                       &store->free_entries, &store->entry_chunks);
        if (chunk == NULL) {
            return false;
        }
        bucket->entries[0] = chunk;
        return true;
    }
    void *directory =
        directory_grow(store, bucket->entries, bucket->entry_chunks, &bucket->entry_directory);
    if (directory == NULL) {
        return false;
    }
    bucket->entries = directory;
    uint32_t room = bucket->entry_room == 0 ? FIRST : ENTRY_CHUNK;
    struct entry *chunk;
    if (room == FIRST) {
        chunk = weir_block_take(room * sizeof *chunk);
        store->small_bytes += chunk != NULL ? room * sizeof *chunk : 0;
    } else {
        chunk = chunk_take(store, &store->free_entries, &store->entry_chunks, room * sizeof *chunk);
    }
    if (chunk == NULL) {
        return false;
    }
    bucket->entries[bucket->entry_chunks++] = chunk;
    bucket->entry_room += room;
    return true;
}

static bool grow_heads(struct weir_fingerprints *store, struct bucket *bucket) {
    if (bucket->head_room > 0 && bucket->head_room < HEAD_CHUNK) {
        uint32_t *chunk = grow_first(store, bucket->heads[0], &bucket->head_room, HEAD_CHUNK,
                                     sizeof *chunk, &store->free_heads, &store->head_chunks);
        if (chunk == NULL) {
            return false;
        }
        bucket->heads[0] = chunk;
        return true;
    }
    void *directory =
        directory_grow(store, bucket->heads, bucket->head_chunks, &bucket->head_directory);
    if (directory == NULL) {
        return false;
    }
    bucket->heads = directory;
    uint32_t room = bucket->head_room == 0 ? FIRST : HEAD_CHUNK;
    uint32_t *chunk;
    if (room == FIRST) {
        chunk = weir_block_take(room * sizeof *chunk);
        store->small_bytes += chunk != NULL ? room * sizeof *chunk : 0;
    } else {
        chunk = chunk_take(store, &store->free_heads, &store->head_chunks, room * sizeof *chunk);
    }
    if (chunk == NULL) {
        return false;
    }
    bucket->heads[bucket->head_chunks++] = chunk;
    bucket->head_room += room;
    return true;
}

/* Takes back up to *budget of a bucket's chunks; true when nothing of it is left. */
static bool bucket_reap(struct weir_fingerprints *store, struct bucket *bucket, int *budget) {
    while (bucket->entry_chunks > 0 && *budget > 0) {
        struct entry *chunk = bucket->entries[--bucket->entry_chunks];
        if (bucket->entry_room < ENTRY_CHUNK) {
            store->small_bytes -= bucket->entry_room * sizeof *chunk;
            weir_block_give(chunk);
        } else {
            chunk_give(store, &store->free_entries, &store->entry_chunks,
                       ENTRY_CHUNK * sizeof *chunk, chunk);
        }
        (*budget)--;
    }
    while (bucket->head_chunks > 0 && *budget > 0) {
        uint32_t *chunk = bucket->heads[--bucket->head_chunks];
        if (bucket->head_room < HEAD_CHUNK) {
            store->small_bytes -= bucket->head_room * sizeof *chunk;
            weir_block_give(chunk);
        } else {
            chunk_give(store, &store->free_heads, &store->head_chunks, HEAD_CHUNK * sizeof *chunk,
                       chunk);
        }
        (*budget)--;
    }
    if (bucket->entry_chunks > 0 || bucket->head_chunks > 0) {
        return false;
    }
    store->small_bytes -=
        sizeof *bucket + (bucket->entry_directory + bucket->head_directory) * sizeof(void *);
    weir_block_give(bucket->entries);
    weir_block_give(bucket->heads);
    weir_block_give(bucket);
    return true;
}

static void reap(struct weir_fingerprints *store, int budget) {
    while (store->dying != NULL && budget > 0) {
        struct bucket *next = store->dying->next_dying;
        if (bucket_reap(store, store->dying, &budget)) {
            store->dying = next;
        }
    }
}

void weir_fingerprints_destroy(struct weir_fingerprints *store) {
    if (store == NULL) {
        return;
    }
    for (uint32_t i = 0; i < store->bucket_count; i++) {
        store->buckets[i]->next_dying = store->dying;
        store->dying = store->buckets[i];
    }
    while (store->dying != NULL) {
        reap(store, REAP_CHUNKS);
    }
    chunk_list_fini(store, &store->free_entries);
    chunk_list_fini(store, &store->free_heads);
    weir_region_fini(&store->region);
    weir_spill_fini(&store->operations);
    weir_spill_fini(&store->sealed_operations);
    weir_block_give(store->buckets);
    free(store->name);
    free(store->declaration);
    free(store->option);
    free(store);
}

/* --- buckets ------------------------------------------------------------------------------- */

/* Wraps at the ends of time, where only w = 1 us gets to and neighbours do not matter. */
static inline int64_t bucket_near(int64_t number, int near) {
    return (int64_t)((uint64_t)number + (uint64_t)(int64_t)near);
}

/* Rule 2 of the header. */
static inline bool bucket_visible(const struct weir_fingerprints *store, int64_t number,
                                  int64_t watermark) {
    return (__int128)watermark < ((__int128)number + 2) * store->within;
}

/* First position whose bucket number is >= number. */
uint32_t weir_bucket_position(const struct weir_fingerprints *store, int64_t number) {
    uint32_t low = 0;
    uint32_t high = store->bucket_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (store->buckets[middle]->number < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct bucket *weir_bucket_find(struct weir_fingerprints *store, int64_t number) {
    uint32_t last = store->last;
    if (last < store->bucket_count && store->buckets[last]->number == number) {
        return store->buckets[last];
    }
    uint32_t at = weir_bucket_position(store, number);
    if (at < store->bucket_count && store->buckets[at]->number == number) {
        store->last = at;
        return store->buckets[at];
    }
    return NULL;
}

struct bucket *weir_bucket_create(struct weir_fingerprints *store, int64_t number) {
    if (store->bucket_count == store->bucket_capacity) {
        uint32_t capacity = store->bucket_capacity == 0 ? 8 : store->bucket_capacity * 2;
        struct bucket **buckets =
            weir_block_regrow(store->buckets, capacity * sizeof(struct bucket *));
        if (buckets == NULL) {
            return NULL;
        }
        store->small_bytes += (capacity - store->bucket_capacity) * sizeof(struct bucket *);
        store->buckets = buckets;
        store->bucket_capacity = capacity;
    }
    struct bucket *bucket = weir_block_take_zeroed(sizeof *bucket);
    if (bucket == NULL) {
        return NULL;
    }
    store->small_bytes += sizeof *bucket;
    bucket->number = number;
    if (!grow_heads(store, bucket)) {
        int budget = REAP_CHUNKS;
        bucket_reap(store, bucket, &budget);
        return NULL;
    }
    bucket->heads[0][0] = 0;
    bucket->chains = 1;
    uint32_t at = weir_bucket_position(store, number);
    memmove(store->buckets + at + 1, store->buckets + at,
            (store->bucket_count - at) * sizeof(struct bucket *));
    store->buckets[at] = bucket;
    store->bucket_count++;
    store->last = at;
    return bucket;
}

static inline uint32_t *head_of(const struct bucket *bucket, uint32_t chain) {
    return &bucket->heads[chain >> HEAD_BITS][chain & (HEAD_CHUNK - 1)];
}

static inline uint32_t chain_of(const struct bucket *bucket, uint64_t lo) {
    uint32_t chain = (uint32_t)lo & (bucket->low_mask * 2 + 1);
    return chain < bucket->chains ? chain : (uint32_t)lo & bucket->low_mask;
}

/* An entry may lie across two cache lines. */
static inline void entry_prefetch(const struct entry *entry) {
    __builtin_prefetch(entry);
    __builtin_prefetch((const char *)entry + sizeof *entry - 1);
}

/* One more chain, split off the one it is the upper half of. */
static bool split_chain(struct weir_fingerprints *store, struct bucket *bucket) {
    if (bucket->chains == bucket->head_room && !grow_heads(store, bucket)) {
        return false;
    }
    uint32_t fresh = bucket->chains;
    if (fresh == (bucket->low_mask + 1) * 2) {
        bucket->low_mask = bucket->low_mask * 2 + 1;
    }
    uint32_t full_mask = bucket->low_mask * 2 + 1;
    uint32_t source = fresh & bucket->low_mask;
    /* Chains are split in order: bring the first entry of one to come nearer, and the second of one
     * that comes sooner. */
    uint32_t ahead = *head_of(bucket, (source + 2 * SPLIT_AHEAD) & bucket->low_mask);
    if (ahead != 0) {
        entry_prefetch(entry_of(bucket, ahead - 1));
    }
    ahead = *head_of(bucket, (source + SPLIT_AHEAD) & bucket->low_mask);
    ahead = ahead != 0 ? entry_of(bucket, ahead - 1)->next : 0;
    if (ahead != 0) {
        entry_prefetch(entry_of(bucket, ahead - 1));
    }
    uint32_t stay = 0;
    uint32_t go = 0;
    uint32_t at = *head_of(bucket, source);
    while (at != 0) {
        struct entry *entry = entry_of(bucket, at - 1);
        uint32_t next = entry->next;
        if (((uint32_t)entry->lo & full_mask) == fresh) {
            entry->next = go;
            go = at;
        } else {
            entry->next = stay;
            stay = at;
        }
        at = next;
    }
    *head_of(bucket, source) = stay;
    *head_of(bucket, fresh) = go;
    bucket->chains++;
    return true;
}

bool weir_bucket_insert(struct weir_fingerprints *store, struct bucket *bucket,
                        struct weir_fingerprint fingerprint, int64_t time) {
    uint32_t at = bucket->free_head;
    struct entry *entry;
    if (at != 0) {
        entry = entry_of(bucket, at - 1);
        bucket->free_head = entry->next;
    } else {
        if (bucket->used == BUCKET_KEYS_MAX ||
            (bucket->used == bucket->entry_room && !grow_entries(store, bucket))) {
            return false;
        }
        if (bucket->used >= bucket->chains && !split_chain(store, bucket)) {
            return false;
        }
        at = ++bucket->used;
        entry = entry_of(bucket, at - 1);
    }
    uint64_t offset = (uint64_t)time - (uint64_t)bucket->number * (uint64_t)store->within;
    entry->lo = fingerprint.lo;
    entry->hi = fingerprint.hi;
    entry->time_low = (uint32_t)offset;
    entry->time_high = (uint16_t)(offset >> 32);
    uint32_t *head = head_of(bucket, chain_of(bucket, fingerprint.lo));
    entry->next = *head;
    *head = at;
    bucket->live++;
    store->keys++;
    return true;
}

/* Whether a remembered row of the key lies less than `reach` from `time`. */
bool weir_bucket_has(const struct weir_fingerprints *store, const struct bucket *bucket,
                     struct weir_fingerprint fingerprint, int64_t time, int64_t reach) {
    uint32_t at = *head_of(bucket, chain_of(bucket, fingerprint.lo));
    while (at != 0) {
        const struct entry *entry = entry_of(bucket, at - 1);
        if (entry->lo == fingerprint.lo && entry->hi == fingerprint.hi) {
            int64_t distance = time - entry_time(store, bucket, entry);
            if (distance < reach && distance > -reach) {
                return true;
            }
        }
        at = entry->next;
    }
    return false;
}

void weir_bucket_remove(struct weir_fingerprints *store, struct bucket *bucket,
                        struct weir_fingerprint fingerprint, int64_t time) {
    uint32_t *head = head_of(bucket, chain_of(bucket, fingerprint.lo));
    struct entry *before = NULL;
    for (uint32_t at = *head; at != 0;) {
        struct entry *entry = entry_of(bucket, at - 1);
        if (entry->lo == fingerprint.lo && entry->hi == fingerprint.hi &&
            entry_time(store, bucket, entry) == time) {
            if (before == NULL) {
                *head = entry->next;
            } else {
                before->next = entry->next;
            }
            entry->time_high = TIME_DEAD;
            entry->next = bucket->free_head;
            bucket->free_head = at;
            bucket->live--;
            store->keys--;
            return;
        }
        before = entry;
        at = entry->next;
    }
}

/* --- feeding ------------------------------------------------------------------------------- */

static int limit_error(const struct weir_fingerprints *store, struct weir_error *err) {
    const char *cell = store->name + strlen(store->declaration) + 1;
    if (store->keys >= store->max_keys) {
        return weir_error_set(err, WEIR_E_LIMIT,
                              "%s: state '%s' is full: %zu keys of at most %zu; raise %s, or "
                              "shorten within",
                              store->declaration, cell, store->keys, store->max_keys,
                              store->option);
    }
    return weir_error_set(err, WEIR_E_LIMIT,
                          "%s: state '%s' is full: %zu keys hold %zu bytes of at most %zu; raise "
                          "%s, or shorten within",
                          store->declaration, cell, store->keys, weir_fingerprints_bytes(store),
                          store->max_bytes, store->option);
}

static int log_operation(struct weir_fingerprints *store, uint8_t op,
                         struct weir_fingerprint fingerprint, int64_t time) {
    uint8_t *at = weir_spill_append(&store->operations, OPERATION_BYTES);
    if (at == NULL) {
        return WEIR_E_NOMEM;
    }
    *at++ = op;
    at = weir_u64_put(at, fingerprint.lo);
    at = weir_u64_put(at, fingerprint.hi);
    weir_u64_put(at, (uint64_t)time);
    return WEIR_OK;
}

/* The bucket of a time and its neighbours, NULL where there is none. Rows of a batch are close in
 * time, so nearly all of them find theirs here, without a division or a search. */
struct near {
    bool known;
    int64_t number;
    uint64_t start; /* of the middle bucket */
    struct bucket *buckets[3];
};

static inline void look_near(struct weir_fingerprints *store, struct near *near, int64_t time) {
    if (near->known && (uint64_t)time - near->start < (uint64_t)store->within) {
        return;
    }
    near->known = true;
    near->number = bucket_number(store, time);
    near->start = (uint64_t)near->number * (uint64_t)store->within;
    for (int i = 0; i < 3; i++) {
        near->buckets[i] = weir_bucket_find(store, bucket_near(near->number, i - 1));
    }
}

static int remember(struct weir_fingerprints *store, struct near *near,
                    struct weir_fingerprint fingerprint, int64_t time, struct weir_error *err) {
    if (store->keys >= store->max_keys || weir_fingerprints_bytes(store) >= store->max_bytes) {
        return limit_error(store, err);
    }
    struct bucket *bucket = near->buckets[1];
    if (bucket == NULL) {
        bucket = near->buckets[1] = weir_bucket_create(store, near->number);
    }
    if (bucket == NULL || !weir_bucket_insert(store, bucket, fingerprint, time)) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for another key of %zu",
                              store->name, store->keys);
    }
    if (log_operation(store, WEIR_IMAGE_INSERT, fingerprint, time) != WEIR_OK) {
        weir_bucket_remove(store, bucket, fingerprint, time);
        return weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for another key of %zu",
                              store->name, store->keys);
    }
    return WEIR_OK;
}

/* Brings the heads, then the first entries of a group's chains nearer. Only hints: the chains may
 * still change before their rows are judged. */
static void prefetch_group(struct weir_fingerprints *store, struct near *near, int32_t count,
                           const struct weir_fingerprint *fingerprints, const int64_t *times) {
    for (int32_t i = 0; i < count; i++) {
        look_near(store, near, times[i]);
        for (int n = 0; n < 3; n++) {
            const struct bucket *bucket = near->buckets[n];
            if (bucket != NULL) {
                __builtin_prefetch(head_of(bucket, chain_of(bucket, fingerprints[i].lo)));
            }
        }
    }
    for (int32_t i = 0; i < count; i++) {
        look_near(store, near, times[i]);
        for (int n = 0; n < 3; n++) {
            const struct bucket *bucket = near->buckets[n];
            uint32_t at =
                bucket != NULL ? *head_of(bucket, chain_of(bucket, fingerprints[i].lo)) : 0;
            if (at != 0) {
                entry_prefetch(entry_of(bucket, at - 1));
            }
        }
    }
}

int weir_fingerprints_feed(struct weir_fingerprints *store, int32_t count,
                           const struct weir_fingerprint *fingerprints, const int64_t *time_us,
                           const int64_t *watermark_before_us, uint8_t *duplicate, int32_t *judged,
                           struct weir_error *err) {
    reap(store, REAP_CHUNKS);
    struct near near = {0}; /* buckets come and go between calls, in one they only come */
    for (int32_t i = 0; i < count; i++) {
        if (i % GROUP == 0) {
            int32_t group = count - i < GROUP ? count - i : GROUP;
            prefetch_group(store, &near, group, fingerprints + i, time_us + i);
        }
        int64_t time = time_us[i];
        look_near(store, &near, time);
        bool found = false;
        for (int n = 0; n < 3 && !found; n++) {
            const struct bucket *bucket = near.buckets[n];
            found = bucket != NULL &&
                    bucket_visible(store, bucket->number, watermark_before_us[i]) &&
                    weir_bucket_has(store, bucket, fingerprints[i], time, store->within);
        }
        if (!found && bucket_visible(store, near.number, watermark_before_us[i])) {
            int rc = remember(store, &near, fingerprints[i], time, err);
            if (rc != WEIR_OK) {
                *judged = i;
                return rc;
            }
        }
        duplicate[i] = found;
    }
    *judged = count;
    return WEIR_OK;
}

int weir_fingerprints_forget(struct weir_fingerprints *store, struct weir_fingerprint fingerprint,
                             int64_t time_us) {
    struct bucket *bucket = weir_bucket_find(store, bucket_number(store, time_us));
    if (bucket == NULL || !weir_bucket_has(store, bucket, fingerprint, time_us, 1)) {
        return WEIR_OK;
    }
    int rc = log_operation(store, WEIR_IMAGE_FORGET, fingerprint, time_us);
    if (rc == WEIR_OK) {
        weir_bucket_remove(store, bucket, fingerprint, time_us);
    }
    return rc;
}

void weir_fingerprints_expire(struct weir_fingerprints *store, int64_t watermark_us) {
    uint32_t expired = 0;
    while (expired < store->bucket_count &&
           !bucket_visible(store, store->buckets[expired]->number, watermark_us)) {
        struct bucket *bucket = store->buckets[expired++];
        store->keys -= bucket->live;
        bucket->next_dying = store->dying;
        store->dying = bucket;
    }
    if (expired > 0) {
        store->bucket_count -= expired;
        memmove(store->buckets, store->buckets + expired,
                store->bucket_count * sizeof(struct bucket *));
        store->last = 0;
    }
    reap(store, REAP_CHUNKS);
}

size_t weir_fingerprints_keys(const struct weir_fingerprints *store) {
    return store->keys;
}

size_t weir_fingerprints_bytes(const struct weir_fingerprints *store) {
    return sizeof *store + store->small_bytes +
           (size_t)store->entry_chunks * ENTRY_CHUNK * sizeof(struct entry) +
           (size_t)store->head_chunks * HEAD_CHUNK * sizeof(uint32_t) +
           store->operations.reserved_bytes + store->sealed_operations.reserved_bytes;
}
