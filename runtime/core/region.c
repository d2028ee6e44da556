#include "core/region.h"

#include <sys/mman.h>

enum { ALIGNMENT = 64, PAGE = 4096 };

void weir_region_init(struct weir_region *region, size_t size) {
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    region->base = base == MAP_FAILED ? NULL : base;
    region->size = region->base != NULL ? size : 0;
    atomic_store(&region->used, 0);
}

void weir_region_fini(struct weir_region *region) {
    if (region->base != NULL) {
        munmap(region->base, region->size);
        region->base = NULL;
        region->size = 0;
    }
}

void *weir_region_take(struct weir_region *region, size_t size) {
    if (size > region->size) {
        return NULL;
    }
    size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    size_t at = atomic_load_explicit(&region->used, memory_order_relaxed);
    do {
        if (region->size - at < size) {
            return NULL;
        }
    } while (!atomic_compare_exchange_weak(&region->used, &at, at + size));
    return region->base + at;
}

bool weir_region_has(const struct weir_region *region, const void *address) {
    uintptr_t base = (uintptr_t)region->base;
    return region->base != NULL && (uintptr_t)address >= base &&
           (uintptr_t)address - base < region->size;
}

static void *map(size_t size, int advice) {
    void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED) {
        return NULL;
    }
    (void)madvise(pages, size, advice); /* only a wish */
    return pages;
}

void *weir_region_map(size_t size) {
    return map(size, MADV_NOHUGEPAGE);
}

void *weir_region_map_large(size_t size) {
    return map(size, MADV_HUGEPAGE);
}

void *weir_region_map_aligned(size_t size, size_t alignment) {
    uint8_t *pages = map(size + alignment, MADV_NOHUGEPAGE);
    if (pages == NULL) {
        return NULL;
    }
    size_t before = (alignment - (uintptr_t)pages % alignment) % alignment;
    if (before > 0) {
        munmap(pages, before);
    }
    munmap(pages + before + size, alignment - before);
    return pages + before;
}

void weir_region_unmap(void *pages, size_t size) {
    if (pages != NULL) {
        munmap(pages, size);
    }
}

void weir_region_drop(void *from, size_t size) {
    uintptr_t begin = ((uintptr_t)from + PAGE - 1) / PAGE * PAGE;
    uintptr_t end = ((uintptr_t)from + size) / PAGE * PAGE;
    if (begin < end) {
        (void)madvise((void *)begin, end - begin, MADV_DONTNEED); /* only a wish */
    }
}
