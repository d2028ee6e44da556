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

enum {
    SMALLEST_CLASS = 10, /* 1 KiB */
    CLASS_COUNT = 26,    /* up to 32 GiB */
    ALIGNMENT = 64,
    SLACK_BYTES = 64,
};

/* Sits in the 64 bytes before the buffer; `next` links free buffers of a class. */
struct header {
    struct header *next;
    size_t usable;
    uint32_t class_;
};

struct weir_pool {
    pthread_mutex_t lock;
    struct header *free_lists[CLASS_COUNT];
    uint32_t made[CLASS_COUNT]; /* and not freed */
    size_t limit;
    size_t held;  /* handed out + on free lists */
    size_t spare; /* on free lists */
    _Atomic size_t used;
    _Atomic uint64_t malloc_count;
};

struct weir_pool *weir_pool_create(size_t limit_bytes) {
    struct weir_pool *pool = calloc(1, sizeof(*pool));
    if (pool != NULL) {
        pthread_mutex_init(&pool->lock, NULL);
        pool->limit = limit_bytes;
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

static void release(struct header *head) {
#ifdef POOL_POISONS
    __asan_unpoison_memory_region((uint8_t *)head + ALIGNMENT, head->usable + SLACK_BYTES);
#endif
    free(head);
}

/* Frees free buffers, largest first, until `need` more bytes fit under the cap. Lock held. */
static void trim(struct weir_pool *pool, size_t need) {
    for (int c = CLASS_COUNT - 1; c >= 0 && pool->held + need > pool->limit; c--) {
        while (pool->free_lists[c] != NULL && pool->held + need > pool->limit) {
            struct header *head = pool->free_lists[c];
            pool->free_lists[c] = head->next;
            pool->held -= head->usable;
            pool->spare -= head->usable;
            pool->made[c]--;
            release(head);
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
            release(head);
        }
    }
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

static uint32_t size_class(size_t size) {
    uint32_t bits = size <= 1 ? 0 : 64 - (uint32_t)__builtin_clzll(size - 1);
    return bits <= SMALLEST_CLASS ? 0 : bits - SMALLEST_CLASS;
}

static struct header *make(struct weir_pool *pool, uint32_t class_) {
    size_t usable = (size_t)1 << (class_ + SMALLEST_CLASS);
    atomic_fetch_add_explicit(&pool->malloc_count, 1, memory_order_relaxed);
    struct header *head = aligned_alloc(ALIGNMENT, ALIGNMENT + usable + SLACK_BYTES);
    if (head != NULL) {
        head->usable = usable;
        head->class_ = class_;
    }
    return head;
}

/* A class found empty has seen a new high: some more are made, in proportion, so that a demand that
 * swings ever a little higher stops reaching malloc soon. What is not written to costs no memory.
 */
static void make_ahead(struct weir_pool *pool, uint32_t class_, uint32_t count) {
    size_t usable = (size_t)1 << (class_ + SMALLEST_CLASS);
    for (; count > 0; count--) {
        struct header *head = make(pool, class_);
        if (head == NULL) {
            return;
        }
        taken_back(head);
        pthread_mutex_lock(&pool->lock);
        head->next = pool->free_lists[class_];
        pool->free_lists[class_] = head;
        pool->held += usable;
        pool->spare += usable;
        pool->made[class_]++;
        pthread_mutex_unlock(&pool->lock);
    }
}

void *weir_pool_take(struct weir_pool *pool, size_t size) {
    uint32_t class_ = size_class(size);
    if (class_ >= CLASS_COUNT) {
        return NULL;
    }
    size_t usable = (size_t)1 << (class_ + SMALLEST_CLASS);
    uint32_t ahead = 0;
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
        ahead = pool->made[class_]++ / 4;
        if (pool->held + ahead * usable > pool->limit / 2) {
            ahead = 0;
        }
    }
    pthread_mutex_unlock(&pool->lock);
    if (head == NULL) {
        make_ahead(pool, class_, ahead);
        head = make(pool, class_);
        if (head == NULL) {
            pthread_mutex_lock(&pool->lock);
            pool->held -= usable;
            pool->made[class_]--;
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

uint64_t weir_pool_malloc_count(const struct weir_pool *pool) {
    return atomic_load_explicit(&pool->malloc_count, memory_order_relaxed);
}
