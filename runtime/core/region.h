#pragma once
/* Address space taken once, for recycled memory to be cut from: what is cut for the first time
 * costs neither a call of the allocator nor one of the system, only the pages that are written.
 * Cuts are never given back; their pages may be (weir_region_drop). Thread-safe. */
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct weir_region {
    uint8_t *base; /* NULL: none could be had, every take fails */
    size_t size;
    _Atomic size_t used;
};

void weir_region_init(struct weir_region *region, size_t size_bytes);
void weir_region_fini(struct weir_region *region);
/* 64-byte aligned, zero; NULL when the region is used up. */
void *weir_region_take(struct weir_region *region, size_t size_bytes);
bool weir_region_has(const struct weir_region *region, const void *address);
/* Zeroed pages of their own that cost nothing until touched, and small ones: zeroing a huge page
 * when it is first touched is a pause, of milliseconds on a busy machine. NULL when out of
 * memory. */
void *weir_region_map(size_t size_bytes);
/* The same of huge pages where there are any: for who fills it at once while nobody waits, or has
 * them made before they are needed (ahead.h). */
void *weir_region_map_large(size_t size_bytes);
/* Small pages again, from an address on that is a multiple of alignment, which is one of pages:
 * huge ones can be put there. */
void *weir_region_map_aligned(size_t size_bytes, size_t alignment);
void weir_region_unmap(void *pages, size_t size_bytes); /* NULL is ignored */
/* The whole pages between are the system's again, and zero when next touched. */
void weir_region_drop(void *from, size_t size_bytes);

#ifdef __cplusplus
}
#endif
