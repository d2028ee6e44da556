#pragma once
/* Small variable-length parts of state (long keys, strings in values): size classes carved from
 * blocks and recycled by class, so that steady state does not malloc. No cap of its own: the table
 * it belongs to counts its bytes. One thread. */
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WEIR_HEAP_CLASSES 36

struct weir_heap {
    void *free_lists[WEIR_HEAP_CLASSES];
    void *blocks;        /* owned, linked through their first word */
    struct large *large; /* owned */
    uint8_t *fill;
    size_t fill_bytes;
    size_t reserved_bytes; /* blocks, and large parts with what links them */
    size_t idle_bytes;     /* of blocks: parts given back and not taken again yet */
};

void weir_heap_init(struct weir_heap *heap);
/* All parts go, taken or not. A heap stays where it was made: large parts point back to it. */
void weir_heap_fini(struct weir_heap *heap);
/* At least `size` bytes, 8-byte aligned, or NULL. */
void *weir_heap_take(struct weir_heap *heap, size_t size);
/* `size` as it was asked for. */
void weir_heap_give(struct weir_heap *heap, void *part, size_t size);
/* What a take of `size` really holds. */
size_t weir_heap_usable(size_t size);

#ifdef __cplusplus
}
#endif
