/* SPSC ring: each side owns one index and reads the other's; items are published by release stores.
 * The producer sleeps on the ring's own signal when full, the consumer on the shared one. */
#include "core/ring.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "core/clock.h"

enum { CACHE_LINE = 64, CAPACITY_MAX = 1 << 20 };

struct weir_ring {
    _Alignas(CACHE_LINE) _Atomic uint32_t head; /* next to pop; consumer's */
    _Alignas(CACHE_LINE) _Atomic uint32_t tail; /* next to push; producer's */
    _Alignas(CACHE_LINE) uint32_t mask;
    _Atomic bool closed;
    _Atomic bool producer_waits;
    struct weir_signal room;
    struct weir_signal *consumer;
    void **items;
};

int weir_ring_create(struct weir_ring **out, uint32_t capacity, struct weir_signal *consumer,
                     struct weir_error *err) {
    *out = NULL;
    if (capacity == 0 || capacity > CAPACITY_MAX) {
        return weir_error_set(err, WEIR_E_LIMIT, "ring capacity %u is not in 1..%d", capacity,
                              CAPACITY_MAX);
    }
    uint32_t size = 1;
    while (size < capacity) {
        size *= 2;
    }
    struct weir_ring *ring = aligned_alloc(CACHE_LINE, sizeof(*ring));
    void **items = calloc(size, sizeof(void *));
    if (ring == NULL || items == NULL) {
        free(ring);
        free(items);
        return weir_error_set(err, WEIR_E_NOMEM, "ring: out of memory");
    }
    atomic_init(&ring->head, 0);
    atomic_init(&ring->tail, 0);
    atomic_init(&ring->closed, false);
    atomic_init(&ring->producer_waits, false);
    ring->mask = size - 1;
    ring->consumer = consumer;
    ring->items = items;
    int rc = weir_signal_init(&ring->room, err);
    if (rc != WEIR_OK) {
        free(items);
        free(ring);
        return rc;
    }
    *out = ring;
    return WEIR_OK;
}

void weir_ring_destroy(struct weir_ring *ring) {
    if (ring != NULL) {
        weir_signal_fini(&ring->room);
        free(ring->items);
        free(ring);
    }
}

bool weir_ring_try_push(struct weir_ring *ring, void *item) {
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    if (tail - head > ring->mask) {
        return false;
    }
    ring->items[tail & ring->mask] = item;
    atomic_store_explicit(&ring->tail, tail + 1, memory_order_release);
    if (ring->consumer != NULL) {
        weir_signal_raise(ring->consumer);
    }
    return true;
}

bool weir_ring_push(struct weir_ring *ring, void *item) {
    for (;;) {
        if (atomic_load(&ring->closed)) {
            return false;
        }
        if (weir_ring_try_push(ring, item)) {
            return true;
        }
        /* Announce, then look again: a pop before the announcement would not wake us. */
        atomic_store(&ring->producer_waits, true);
        uint32_t used = atomic_load(&ring->tail) - atomic_load(&ring->head);
        if (used > ring->mask && !atomic_load(&ring->closed)) {
            weir_signal_wait(&ring->room, -1);
        }
        atomic_store(&ring->producer_waits, false);
    }
}

bool weir_ring_wait_closed(struct weir_ring *ring, int timeout_ms) {
    int64_t until = weir_clock_mono_ns() + (int64_t)timeout_ms * 1000000;
    while (!atomic_load(&ring->closed)) {
        int64_t left = until - weir_clock_mono_ns();
        if (left <= 0) {
            return false;
        }
        weir_signal_wait(&ring->room, (int)(left / 1000000) + 1);
    }
    return true;
}

void *weir_ring_peek(struct weir_ring *ring) {
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
    return head == tail ? NULL : ring->items[head & ring->mask];
}

void *weir_ring_pop(struct weir_ring *ring) {
    void *item = weir_ring_peek(ring);
    if (item != NULL) {
        /* Sequentially consistent: pairs with the producer's announcement. */
        atomic_fetch_add(&ring->head, 1);
        if (atomic_load(&ring->producer_waits)) {
            weir_signal_raise(&ring->room);
        }
    }
    return item;
}

void weir_ring_close(struct weir_ring *ring) {
    atomic_store(&ring->closed, true);
    weir_signal_raise(&ring->room);
}

uint32_t weir_ring_count(const struct weir_ring *ring) {
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    return atomic_load_explicit(&ring->tail, memory_order_relaxed) - head;
}
