#pragma once
/* Buffers for the data plane, recycled by power-of-two size class and first cut from address space
 * taken at creation, so that steady state does not call malloc, new highs included. One pool per
 * pipeline, shared by all its threads; the cap is the pipeline's data memory budget: a take past it
 * returns NULL and the caller applies backpressure. */
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct weir_pool;

/* limit_bytes caps bytes handed out plus bytes kept for reuse. NULL when out of memory. */
struct weir_pool *weir_pool_create(size_t limit_bytes);
/* All buffers must have been given back. */
void weir_pool_destroy(struct weir_pool *pool);

/* A buffer of at least `size` bytes, 64-byte aligned, contents undefined, with 64 readable bytes
 * of slack after it. Thread-safe. NULL at the cap or out of memory. */
void *weir_pool_take(struct weir_pool *pool, size_t size);
/* Usable bytes of a buffer from weir_pool_take (>= the size asked). */
size_t weir_pool_usable(const void *buffer);
/* Gives a buffer back; NULL is ignored. Thread-safe. */
void weir_pool_give(struct weir_pool *pool, void *buffer);

size_t weir_pool_used_bytes(const struct weir_pool *pool);   /* handed out */
uint64_t weir_pool_made_count(const struct weir_pool *pool); /* takes no free buffer answered */

#ifdef __cplusplus
}
#endif
