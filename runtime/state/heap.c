/* Size classes: multiples of 16 up to 128, then four a doubling up to 16 KiB; above that malloc.
 * At most a fifth of a part is lost to rounding, and a freed part is found again in O(1). Large
 * parts are in a list, so that a heap that goes takes them along. */
#include "state/heap.h"

#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 64 * 1024, SMALL_STEP = 16, SMALL_MAX = 128, LARGE_MIN = 16 * 1024 + 1 };

struct large { /* before the bytes of a large part */
    struct large *next;
    struct large **link; /* what points here */
};

static int class_of(size_t size) {
    if (size <= SMALL_MAX) {
        return size == 0 ? 0 : (int)((size - 1) / SMALL_STEP);
    }
    uint32_t last = (uint32_t)(size - 1);
    int exponent = 31 - __builtin_clz(last);
    return 8 + (exponent - 7) * 4 + (int)((last >> (exponent - 2)) & 3);
}

static size_t class_bytes(int class_number) {
    if (class_number < 8) {
        return (size_t)(class_number + 1) * SMALL_STEP;
    }
    int exponent = 7 + (class_number - 8) / 4;
    return (size_t)(5 + (class_number - 8) % 4) << (exponent - 2);
}

size_t weir_heap_usable(size_t size) {
    return size >= LARGE_MIN ? sizeof(struct large) + size : class_bytes(class_of(size));
}

void weir_heap_init(struct weir_heap *heap) {
    memset(heap, 0, sizeof *heap);
}

void weir_heap_fini(struct weir_heap *heap) {
    void *block = heap->blocks;
    while (block != NULL) {
        void *next;
        memcpy(&next, block, sizeof next);
        free(block);
        block = next;
    }
    struct large *large = heap->large;
    while (large != NULL) {
        struct large *next = large->next;
        free(large);
        large = next;
    }
    memset(heap, 0, sizeof *heap);
}

void *weir_heap_take(struct weir_heap *heap, size_t size) {
    if (size >= LARGE_MIN) {
        struct large *large = malloc(sizeof *large + size);
        if (large == NULL) {
            return NULL;
        }
        large->next = heap->large;
        large->link = &heap->large;
        if (large->next != NULL) {
            large->next->link = &large->next;
        }
        heap->large = large;
        heap->reserved_bytes += sizeof *large + size;
        return large + 1;
    }
    int number = class_of(size);
    void *part = heap->free_lists[number];
    if (part != NULL) {
        memcpy(&heap->free_lists[number], part, sizeof part);
        heap->idle_bytes -= class_bytes(number);
        return part;
    }
    size_t bytes = class_bytes(number);
    if (heap->fill_bytes < bytes) {
        /* What is left of the old block is lost: less than one part of the largest class. */
        uint8_t *block = malloc(BLOCK_BYTES);
        if (block == NULL) {
            return NULL;
        }
        memcpy(block, &heap->blocks, sizeof heap->blocks);
        heap->blocks = block;
        heap->fill = block + SMALL_STEP;
        heap->fill_bytes = BLOCK_BYTES - SMALL_STEP;
        heap->reserved_bytes += BLOCK_BYTES;
    }
    part = heap->fill;
    heap->fill += bytes;
    heap->fill_bytes -= bytes;
    return part;
}

void weir_heap_give(struct weir_heap *heap, void *part, size_t size) {
    if (part == NULL) {
        return;
    }
    if (size >= LARGE_MIN) {
        struct large *large = (struct large *)part - 1;
        *large->link = large->next;
        if (large->next != NULL) {
            large->next->link = large->link;
        }
        heap->reserved_bytes -= sizeof *large + size;
        free(large);
        return;
    }
    int number = class_of(size);
    memcpy(part, &heap->free_lists[number], sizeof part);
    heap->free_lists[number] = part;
    heap->idle_bytes += class_bytes(number);
}
