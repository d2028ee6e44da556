/* One lock, one free list a size class. Under AddressSanitizer a buffer on a free list is poisoned,
 * and a buffer handed out holds garbage, so that a use after give or of bytes never written is seen
 * although no free() happened. */
#include "core/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#ifdef __SANITIZE_ADDRESS__
#define POOL_POISONS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POOL_POISONS 1
#endif
#endif
#ifdef POOL_POISONS
#include <sanitizer/asan_interface.h>
#endif

#include "core/region.h"

enum {
    SMALLEST_CLASS = 10, /* 1 KiB */
    CLASS_COUNT = 26,    /* up to 32 GiB */
    ALIGNMENT = 64,
    SLACK_BYTES = 64,
};
#define REGION_MOST ((size_t)1 << 40)

/* Sits in the 64 bytes before the buffer; `next` links free buffers of a class. */
struct header {
    struct header *next;
    size_t usable;
    uint32_t class_;
};

struct weir_pool {
    pthread_mutex_t lock;
    struct header *free_lists[CLASS_COUNT];
    struct header *bare[CLASS_COUNT]; /* cut from the region, their pages given up */
    struct weir_region region;
    size_t limit;
    size_t held;  /* handed out + on free lists */
    size_t spare; /* on free lists */
    _Atomic size_t used;
    _Atomic uint64_t made_count;
};

struct weir_pool *weir_pool_create(size_t limit_bytes) {
    struct weir_pool *pool = calloc(1, sizeof(*pool));
    if (pool != NULL) {
        pthread_mutex_init(&pool->lock, NULL);
        pool->limit = limit_bytes;
#ifndef POOL_POISONS /* it should know each buffer */
        /* Twice: what one class gave up is not another's. */
        if (limit_bytes <= REGION_MOST / 2) {
            weir_region_init(&pool->region, limit_bytes * 2);
        }
#endif
    }
    return pool;
}

static void *handed_out(struct header *head) {
    uint8_t *buffer = (uint8_t *)head + ALIGNMENT;
#ifdef POOL_POISONS
    __asan_unpoison_memory_region(buffer, head->usable + SLACK_BYTES);
    memset(buffer, 0xa5, head->usable + SLACK_BYTES);
#endif
    return buffer;
}

static void taken_back(struct header *head) {
#ifdef POOL_POISONS
    __asan_poison_memory_region((uint8_t *)head + ALIGNMENT, head->usable + SLACK_BYTES);
#else
    (void)head;
#endif
}

/* Its memory is the system's again. Lock held. */
static void release(struct weir_pool *pool, struct header *head) {
#ifdef POOL_POISONS
    __asan_unpoison_memory_region((uint8_t *)head + ALIGNMENT, head->usable + SLACK_BYTES);
#endif
    if (!weir_region_has(&pool->region, head)) {
        free(head);
        return;
    }
    weir_region_drop((uint8_t *)head + ALIGNMENT, head->usable);
    head->next = pool->bare[head->class_];
    pool->bare[head->class_] = head;
}

/* Frees free buffers, largest first, until `need` more bytes fit under the cap. Lock held. */
static void trim(struct weir_pool *pool, size_t need) {
    for (int c = CLASS_COUNT - 1; c >= 0 && pool->held + need > pool->limit; c--) {
        while (pool->free_lists[c] != NULL && pool->held + need > pool->limit) {
            struct header *head = pool->free_lists[c];
            pool->free_lists[c] = head->next;
            pool->held -= head->usable;
            pool->spare -= head->usable;
            release(pool, head);
        }
    }
}

void weir_pool_destroy(struct weir_pool *pool) {
    if (pool == NULL) {
        return;
    }
    for (int c = 0; c < CLASS_COUNT; c++) {
        while (pool->free_lists[c] != NULL) {
            struct header *head = pool->free_lists[c];
            pool->free_lists[c] = head->next;
            release(pool, head);
        }
    }
    weir_region_fini(&pool->region);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

static uint32_t size_class(size_t size) {
    uint32_t bits = size <= 1 ? 0 : 64 - (uint32_t)__builtin_clzll(size - 1);
    return bits <= SMALLEST_CLASS ? 0 : bits - SMALLEST_CLASS;
}

static struct header *make(struct weir_pool *pool, uint32_t class_) {
    size_t usable = (size_t)1 << (class_ + SMALLEST_CLASS);
    size_t total = ALIGNMENT + usable + SLACK_BYTES;
    atomic_fetch_add_explicit(&pool->made_count, 1, memory_order_relaxed);
    pthread_mutex_lock(&pool->lock);
    struct header *head = pool->bare[class_];
    if (head != NULL) {
        pool->bare[class_] = head->next;
    }
    pthread_mutex_unlock(&pool->lock);
    if (head == NULL) {
        head = weir_region_take(&pool->region, total);
    }
    if (head == NULL) {
        head = aligned_alloc(ALIGNMENT, total);
    }
    if (head != NULL) {
        head->usable = usable;
        head->class_ = class_;
    }
    return head;
}

void *weir_pool_take(struct weir_pool *pool, size_t size) {
    uint32_t class_ = size_class(size);
    if (class_ >= CLASS_COUNT) {
        return NULL;
    }
    size_t usable = (size_t)1 << (class_ + SMALLEST_CLASS);
    pthread_mutex_lock(&pool->lock);
    struct header *head = pool->free_lists[class_];
    if (head != NULL) {
        pool->free_lists[class_] = head->next;
        pool->spare -= usable;
    } else {
        /* A take that cannot succeed must not empty the free lists: callers come again and again
         * while they are held back. */
        if (pool->held - pool->spare + usable > pool->limit) {
            pthread_mutex_unlock(&pool->lock);
            return NULL;
        }
        trim(pool, usable);
        pool->held += usable;
    }
    pthread_mutex_unlock(&pool->lock);
    if (head == NULL) {
        head = make(pool, class_);
        if (head == NULL) {
            pthread_mutex_lock(&pool->lock);
            pool->held -= usable;
            pthread_mutex_unlock(&pool->lock);
            return NULL;
        }
    }
    head->next = NULL;
    atomic_fetch_add_explicit(&pool->used, usable, memory_order_relaxed);
    return handed_out(head);
}

static struct header *header_of(const void *buffer) {
    return (struct header *)((uintptr_t)buffer - ALIGNMENT);
}

size_t weir_pool_usable(const void *buffer) {
    return header_of(buffer)->usable;
}

void weir_pool_give(struct weir_pool *pool, void *buffer) {
    if (buffer == NULL) {
        return;
    }
    struct header *head = header_of(buffer);
    atomic_fetch_sub_explicit(&pool->used, head->usable, memory_order_relaxed);
    taken_back(head);
    pthread_mutex_lock(&pool->lock);
    head->next = pool->free_lists[head->class_];
    pool->free_lists[head->class_] = head;
    pool->spare += head->usable;
    pthread_mutex_unlock(&pool->lock);
}

size_t weir_pool_used_bytes(const struct weir_pool *pool) {
    return atomic_load_explicit(&pool->used, memory_order_relaxed);
}

uint64_t weir_pool_made_count(const struct weir_pool *pool) {
    return atomic_load_explicit(&pool->made_count, memory_order_relaxed);
}
