/* Dictionary building. Speed is in the hash (two multiplies for short values, overlapping loads
 * instead of a byte loop) and in touching one cache line of slots and one of keys per lookup. */
#include "lake/parquet/dictionary.h"

#include <stdlib.h>
#include <string.h>

enum { SLOTS_MIN = 1024 };

void parquet_dictionary_init(struct parquet_dictionary *dictionary, int32_t width, size_t bytes_max,
                             uint32_t count_max) {
    memset(dictionary, 0, sizeof(*dictionary));
    weir_buffer_init(&dictionary->arena, bytes_max);
    dictionary->width = width;
    dictionary->count_max = count_max;
}

void parquet_dictionary_fini(struct parquet_dictionary *dictionary) {
    weir_buffer_fini(&dictionary->arena);
    free(dictionary->slots);
    free(dictionary->offsets);
    free(dictionary->keys);
    memset(dictionary, 0, sizeof(*dictionary));
}

void parquet_dictionary_clear(struct parquet_dictionary *dictionary) {
    weir_buffer_clear(&dictionary->arena);
    dictionary->count = 0;
    /* start small again: clearing and cache footprint follow the data, memory is kept */
    dictionary->slot_count = dictionary->slots_capacity < SLOTS_MIN ? 0 : SLOTS_MIN;
    if (dictionary->slot_count > 0) {
        memset(dictionary->slots, 0, dictionary->slot_count * sizeof(*dictionary->slots));
    }
}

static inline uint64_t load64(const uint8_t *from) {
    uint64_t word;
    memcpy(&word, from, sizeof(word));
    return word;
}

static inline uint64_t load32(const uint8_t *from) {
    uint32_t word;
    memcpy(&word, from, sizeof(word));
    return word;
}

static inline uint64_t mix(uint64_t a, uint64_t b) {
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

#define HASH_A 0x9e3779b97f4a7c15u
#define HASH_B 0xd6e8feb86659fd93u

static inline uint64_t hash_bytes(const uint8_t *bytes, uint32_t size) {
    uint64_t hash = size * HASH_A;
    if (size > 16) {
        uint32_t i = 0;
        for (; i + 16 < size; i += 16) {
            hash = mix(load64(bytes + i) ^ hash ^ HASH_A, load64(bytes + i + 8) ^ HASH_B);
        }
        return mix(load64(bytes + size - 16) ^ hash, load64(bytes + size - 8) ^ HASH_B);
    }
    if (size >= 8) {
        return mix(load64(bytes) ^ hash, load64(bytes + size - 8) ^ HASH_B);
    }
    if (size >= 4) {
        return mix(load32(bytes) ^ hash, load32(bytes + size - 4) ^ HASH_B);
    }
    if (size > 0) {
        uint64_t few = (uint64_t)bytes[0] << 16 | (uint64_t)bytes[size / 2] << 8 | bytes[size - 1];
        return mix(few ^ hash, HASH_B);
    }
    return HASH_B;
}

static inline bool equal_bytes(const uint8_t *a, const uint8_t *b, uint32_t size) {
    if (size >= 8) {
        for (uint32_t i = 0; i + 8 < size; i += 8) {
            if (load64(a + i) != load64(b + i)) {
                return false;
            }
        }
        return load64(a + size - 8) == load64(b + size - 8);
    }
    if (size >= 4) {
        return load32(a) == load32(b) && load32(a + size - 4) == load32(b + size - 4);
    }
    return size == 0 || (a[0] == b[0] && a[size / 2] == b[size / 2] && a[size - 1] == b[size - 1]);
}

/* A byte value in two words: a short one whole, its size in the last byte; a long one as a hash,
 * with a last byte that no short one has. Values whose keys differ differ; of long ones with the
 * same key the bytes are compared. */
#define KEY_LONG 0xffu
enum { KEY_SIZE_AT = 56, KEY_BYTES = 15 };

static inline struct parquet_dictionary_key key_of(const uint8_t *bytes, uint32_t size) {
    struct parquet_dictionary_key key = {0, (uint64_t)size << KEY_SIZE_AT};
    if (size > KEY_BYTES) {
        key.low = hash_bytes(bytes, size);
        key.high = (uint64_t)KEY_LONG << KEY_SIZE_AT | size;
    } else if (size > 8) {
        key.low = load64(bytes);
        key.high |= load64(bytes + size - 8) >> (8 * (16 - size));
    } else if (size == 8) {
        key.low = load64(bytes);
    } else if (size >= 4) {
        key.low = load32(bytes) | load32(bytes + size - 4) << (8 * (size - 4));
    } else if (size > 0) {
        key.low = (uint64_t)bytes[0] | (uint64_t)bytes[size / 2] << (8 * (size / 2)) |
                  (uint64_t)bytes[size - 1] << (8 * (size - 1));
    }
    return key;
}

static inline bool is_long(struct parquet_dictionary_key key) {
    return key.high >> KEY_SIZE_AT == KEY_LONG;
}

static inline uint32_t key_hash(struct parquet_dictionary_key key) {
    return (uint32_t)mix(key.low ^ HASH_A, key.high ^ HASH_B);
}

const uint8_t *parquet_dictionary_get(const struct parquet_dictionary *dictionary, uint32_t index,
                                      uint32_t *size) {
    if (dictionary->width > 0) {
        *size = (uint32_t)dictionary->width;
        return dictionary->arena.data + (size_t)index * (size_t)dictionary->width;
    }
    const uint8_t *at = dictionary->arena.data + dictionary->offsets[index];
    memcpy(size, at, sizeof(*size));
    return at + sizeof(*size);
}

/* How many values so many slots take: half, since a value that is not where it should be costs a
 * branch that was not foreseen, which is dearer than a larger table. */
static uint32_t room(uint32_t slots) {
    return slots / 2;
}

static bool reserve_values(struct parquet_dictionary *dictionary, uint32_t count) {
    if (dictionary->width > 0 || dictionary->values_capacity >= count) {
        return true;
    }
    uint32_t *offsets = realloc(dictionary->offsets, count * sizeof(*offsets));
    dictionary->offsets = offsets != NULL ? offsets : dictionary->offsets;
    struct parquet_dictionary_key *keys =
        offsets != NULL ? realloc(dictionary->keys, count * sizeof(*keys)) : NULL;
    dictionary->keys = keys != NULL ? keys : dictionary->keys;
    dictionary->values_capacity = keys != NULL ? count : dictionary->values_capacity;
    return keys != NULL;
}

static uint32_t hash_at(const struct parquet_dictionary *dictionary, uint32_t index) {
    if (dictionary->width == 0) {
        return key_hash(dictionary->keys[index]);
    }
    uint32_t size;
    const uint8_t *bytes = parquet_dictionary_get(dictionary, index, &size);
    return (uint32_t)hash_bytes(bytes, size);
}

/* Doubles the table (or makes the first one) and re-enters every value. */
static bool grow(struct parquet_dictionary *dictionary) {
    uint32_t count = dictionary->slot_count == 0 ? SLOTS_MIN : dictionary->slot_count * 2;
    if (count > dictionary->slots_capacity) {
        struct parquet_dictionary_slot *slots = realloc(dictionary->slots, count * sizeof(*slots));
        if (slots == NULL) {
            return false;
        }
        dictionary->slots = slots;
        dictionary->slots_capacity = count;
    }
    if (!reserve_values(dictionary, room(count))) {
        return false;
    }
    memset(dictionary->slots, 0, count * sizeof(*dictionary->slots));
    dictionary->slot_count = count;
    for (uint32_t i = 0; i < dictionary->count; i++) {
        uint32_t hash = hash_at(dictionary, i);
        uint32_t s = hash & (count - 1);
        while (dictionary->slots[s].index != 0) {
            s = (s + 1) & (count - 1);
        }
        dictionary->slots[s] = (struct parquet_dictionary_slot){hash, i + 1};
    }
    return true;
}

/* Enters a value known to be new; `slot` is where the probe ended. */
static int64_t enter(struct parquet_dictionary *dictionary, const uint8_t *bytes, uint32_t size,
                     struct parquet_dictionary_key key, uint32_t hash, uint32_t slot) {
    size_t prefix = dictionary->width == 0 ? sizeof(size) : 0;
    if (dictionary->count >= dictionary->count_max) {
        return PARQUET_DICTIONARY_FULL;
    }
    int rc = weir_buffer_reserve(&dictionary->arena, prefix + size);
    if (rc != WEIR_OK) {
        return rc == WEIR_E_LIMIT ? PARQUET_DICTIONARY_FULL : PARQUET_DICTIONARY_NOMEM;
    }
    uint8_t *to = dictionary->arena.data + dictionary->arena.size;
    if (prefix > 0) {
        dictionary->offsets[dictionary->count] = (uint32_t)dictionary->arena.size;
        dictionary->keys[dictionary->count] = key;
        memcpy(to, &size, sizeof(size));
    }
    memcpy(to + prefix, bytes, size);
    dictionary->arena.size += prefix + size;
    dictionary->slots[slot] = (struct parquet_dictionary_slot){hash, ++dictionary->count};
    if (dictionary->count >= room(dictionary->slot_count) && !grow(dictionary)) {
        return PARQUET_DICTIONARY_NOMEM;
    }
    return dictionary->count - 1;
}

/* Lookup of a byte value whose key and hash are known; entered when new. */
static inline int64_t find_or_enter(struct parquet_dictionary *dictionary, const uint8_t *bytes,
                                    uint32_t size, struct parquet_dictionary_key key,
                                    uint32_t hash) {
    uint32_t mask = dictionary->slot_count - 1;
    for (uint32_t s = hash & mask;; s = (s + 1) & mask) {
        struct parquet_dictionary_slot slot = dictionary->slots[s];
        if (slot.index == 0) {
            return enter(dictionary, bytes, size, key, hash, s);
        }
        if (slot.hash == hash) {
            struct parquet_dictionary_key have = dictionary->keys[slot.index - 1];
            uint32_t length;
            if (((have.low ^ key.low) | (have.high ^ key.high)) == 0 &&
                (!is_long(key) ||
                 equal_bytes(parquet_dictionary_get(dictionary, slot.index - 1, &length), bytes,
                             size))) {
                return slot.index - 1;
            }
        }
    }
}

int64_t parquet_dictionary_add(struct parquet_dictionary *dictionary, const void *bytes,
                               uint32_t size) {
    if (dictionary->slot_count == 0 && !grow(dictionary)) {
        return PARQUET_DICTIONARY_NOMEM;
    }
    struct parquet_dictionary_key key = key_of(bytes, size);
    return find_or_enter(dictionary, bytes, size, key, key_hash(key));
}

/* Lookups go in blocks, each begun two blocks before it is finished: first its keys and hashes, and
 * the slots are asked for; then, those having come, the keys they point at; then the comparisons.
 * Between two batches of a column the other columns have pushed all of it out of the near caches.
 */
enum { BLOCK = 32, BLOCKS = 3, FAR_SLOTS = 2048 };

struct lookup {
    struct parquet_dictionary *dictionary;
    const uint8_t *bytes;
    const int32_t *offsets;
    const int32_t *index; /* NULL: rows 0, 1, … */
    int32_t n;
    struct parquet_dictionary_key keys[BLOCKS][BLOCK];
    uint32_t hashes[BLOCKS][BLOCK];
};

static inline int32_t row_at(const struct lookup *lookup, int32_t i) {
    return lookup->index != NULL ? lookup->index[i] : i;
}

static inline int32_t rows_of(const struct lookup *lookup, int32_t block) {
    int32_t left = lookup->n - block * BLOCK;
    return left < 0 ? 0 : left < BLOCK ? left : (int32_t)BLOCK;
}

/* `index` as a constant NULL lets the compiler drop it. */
static inline void hash_rows(struct lookup *lookup, int32_t block, int32_t count,
                             const int32_t *index) {
    const uint8_t *bytes = lookup->bytes;
    const int32_t *offsets = lookup->offsets + (index == NULL ? block * BLOCK : 0);
    struct parquet_dictionary_key *keys = lookup->keys[block % BLOCKS];
    uint32_t *hashes = lookup->hashes[block % BLOCKS];
    for (int32_t i = 0; i < count; i++) {
        const int32_t *at = offsets + (index == NULL ? i : index[block * BLOCK + i]);
        struct parquet_dictionary_key key = key_of(bytes + at[0], (uint32_t)(at[1] - at[0]));
        keys[i] = key;
        hashes[i] = key_hash(key);
    }
}

static void hash_block(struct lookup *lookup, int32_t block) {
    const struct parquet_dictionary *dictionary = lookup->dictionary;
    const uint32_t *hashes = lookup->hashes[block % BLOCKS];
    int32_t count = rows_of(lookup, block);
    if (lookup->index == NULL) {
        hash_rows(lookup, block, count, NULL);
    } else {
        hash_rows(lookup, block, count, lookup->index);
    }
    if (dictionary->slot_count >= FAR_SLOTS) {
        for (int32_t i = 0; i < count; i++) {
            __builtin_prefetch(&dictionary->slots[hashes[i] & (dictionary->slot_count - 1)]);
        }
    }
}

static void fetch_values(const struct lookup *lookup, int32_t block) {
    const struct parquet_dictionary *dictionary = lookup->dictionary;
    const uint32_t *hashes = lookup->hashes[block % BLOCKS];
    int32_t count = rows_of(lookup, block);
    if (dictionary->slot_count < FAR_SLOTS) {
        return;
    }
    for (int32_t i = 0; i < count; i++) {
        uint32_t index = dictionary->slots[hashes[i] & (dictionary->slot_count - 1)].index;
        __builtin_prefetch(&dictionary->keys[index > 0 ? index - 1 : 0]);
    }
}

/* Codes of the rows from `i` on that are short, known and where they should be; the first that is
 * not, or count. */
static inline int32_t find_near(const struct parquet_dictionary *dictionary,
                                const struct parquet_dictionary_key *keys, const uint32_t *hashes,
                                int32_t i, int32_t count, uint32_t *codes) {
    const struct parquet_dictionary_slot *slots = dictionary->slots;
    const struct parquet_dictionary_key *known = dictionary->keys;
    uint32_t mask = dictionary->slot_count - 1;
    for (; i < count; i++) {
        uint32_t code = slots[hashes[i] & mask].index - 1;
        if (code == UINT32_MAX || is_long(keys[i]) ||
            ((known[code].low ^ keys[i].low) | (known[code].high ^ keys[i].high)) != 0) {
            break;
        }
        codes[i] = code;
    }
    return i;
}

int64_t parquet_dictionary_add_bytes(struct parquet_dictionary *dictionary, const uint8_t *bytes,
                                     const int32_t *offsets, const int32_t *index, int32_t n,
                                     uint32_t *codes) {
    struct lookup lookup;
    lookup.dictionary = dictionary;
    lookup.bytes = bytes;
    lookup.offsets = offsets;
    lookup.index = index;
    lookup.n = n;
    if (dictionary->slot_count == 0 && !grow(dictionary)) {
        return PARQUET_DICTIONARY_NOMEM;
    }
    hash_block(&lookup, 0);
    hash_block(&lookup, 1);
    fetch_values(&lookup, 0);
    for (int32_t block = 0; block * BLOCK < n; block++) {
        hash_block(&lookup, block + 2);
        fetch_values(&lookup, block + 1);
        const struct parquet_dictionary_key *keys = lookup.keys[block % BLOCKS];
        const uint32_t *hashes = lookup.hashes[block % BLOCKS];
        int32_t count = rows_of(&lookup, block);
        int32_t at = block * BLOCK;
        for (int32_t i = find_near(dictionary, keys, hashes, 0, count, codes + at); i < count;
             i = find_near(dictionary, keys, hashes, i + 1, count, codes + at)) {
            int32_t row = row_at(&lookup, at + i);
            uint32_t size = (uint32_t)(offsets[row + 1] - offsets[row]);
            int64_t code =
                find_or_enter(dictionary, bytes + offsets[row], size, keys[i], hashes[i]);
            if (code < 0) {
                return code == PARQUET_DICTIONARY_FULL ? at + i : code;
            }
            codes[at + i] = (uint32_t)code;
        }
    }
    return n;
}

static inline int64_t add_fixed(struct parquet_dictionary *dictionary, const uint8_t *values,
                                int64_t n, uint32_t *codes, uint32_t width) {
    if (dictionary->slot_count == 0 && !grow(dictionary)) {
        return PARQUET_DICTIONARY_NOMEM;
    }
    for (int64_t i = 0; i < n; i++) {
        const uint8_t *bytes = values + (size_t)i * width;
        uint32_t hash = (uint32_t)hash_bytes(bytes, width);
        uint32_t mask = dictionary->slot_count - 1;
        uint32_t s = hash & mask;
        for (;; s = (s + 1) & mask) {
            struct parquet_dictionary_slot slot = dictionary->slots[s];
            if (slot.index == 0) {
                const struct parquet_dictionary_key none = {0, 0};
                int64_t code = enter(dictionary, bytes, width, none, hash, s);
                if (code < 0) {
                    return code == PARQUET_DICTIONARY_FULL ? i : code;
                }
                codes[i] = (uint32_t)code;
                break;
            }
            if (slot.hash == hash &&
                equal_bytes(dictionary->arena.data + (size_t)(slot.index - 1) * width, bytes,
                            width)) {
                codes[i] = slot.index - 1;
                break;
            }
        }
    }
    return n;
}

int64_t parquet_dictionary_add_fixed(struct parquet_dictionary *dictionary, const void *values,
                                     int64_t n, uint32_t *codes) {
    switch (dictionary->width) { /* constant widths let the compiler drop the size branches */
    case 4:
        return add_fixed(dictionary, values, n, codes, 4);
    case 8:
        return add_fixed(dictionary, values, n, codes, 8);
    default:
        return add_fixed(dictionary, values, n, codes, (uint32_t)dictionary->width);
    }
}

size_t parquet_dictionary_memory(const struct parquet_dictionary *dictionary) {
    return dictionary->arena.capacity + dictionary->slots_capacity * sizeof(*dictionary->slots) +
           dictionary->values_capacity * (sizeof(*dictionary->offsets) + sizeof(*dictionary->keys));
}

int parquet_dictionary_bits(const struct parquet_dictionary *dictionary) {
    return dictionary->count <= 1 ? 1 : 32 - __builtin_clz(dictionary->count - 1);
}
