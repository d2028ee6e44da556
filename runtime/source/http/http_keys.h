#pragma once
/* Idempotency keys remembered for a time: open addressing on 128-bit hashes; what has expired goes
 * when the table would grow. Private to the room; under the log's lock. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_key {
    uint64_t hash[2]; /* both 0: an empty slot */
    uint64_t first;
    uint64_t body_hash;
    int64_t time_us;
    uint32_t count;
    uint32_t reserved;
};

struct http_keys {
    struct http_key *slots;
    uint64_t capacity; /* a power of two, or 0 */
    uint64_t used;
    uint64_t max;
    int64_t remember_us;
    int64_t full_until_us; /* not worth looking again before */
};

void http_keys_fini(struct http_keys *keys);
/* NULL when absent or expired at `now_us`. */
struct http_key *http_keys_find(struct http_keys *keys, const uint64_t hash[2], int64_t now_us);
/* False without memory, or when `max` keys are alive. Replaces an expired one. */
bool http_keys_put(struct http_keys *keys, const struct http_key *key, int64_t now_us);
/* Forgets those of events from `first` on. */
void http_keys_forget(struct http_keys *keys, uint64_t first);
