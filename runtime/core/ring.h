#pragma once
/* Bounded single-producer single-consumer ring of pointers. Full is backpressure: the producer
 * waits. The consumer polls several rings and sleeps on the one signal they share. */
#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "core/signal.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weir_ring;

/* `capacity` is rounded up to a power of two. `consumer` (borrowed, may be NULL) is raised on every
 * push. */
int weir_ring_create(struct weir_ring **out, uint32_t capacity, struct weir_signal *consumer,
                     struct weir_error *err) WEIR_MUST_CHECK;
/* Nobody may be waiting. Items still inside are not freed: pop them first. */
void weir_ring_destroy(struct weir_ring *ring);

/* Producer thread. False when full. */
bool weir_ring_try_push(struct weir_ring *ring, void *item);
/* Producer thread. Waits for room; false once the ring is closed (the item is still the caller's).
 */
bool weir_ring_push(struct weir_ring *ring, void *item);
/* Producer thread. Waits up to timeout_ms or until the ring is closed; true when it is closed. */
bool weir_ring_wait_closed(struct weir_ring *ring, int timeout_ms);

/* Consumer thread. NULL when empty. */
void *weir_ring_pop(struct weir_ring *ring);
/* Consumer thread: the next item without taking it, NULL when empty. */
void *weir_ring_peek(struct weir_ring *ring);
/* Any thread: wakes the producer, whose pushes fail from now on. Items inside can still be popped.
 */
void weir_ring_close(struct weir_ring *ring);
uint32_t weir_ring_count(const struct weir_ring *ring);

#ifdef __cplusplus
}
#endif
