/* Lists and a lock for each power of two. Under AddressSanitizer nothing is kept, so that it sees
 * uses after a give. */
#include "core/block.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/region.h"

enum {
    SMALLEST = 6,     /* 64 bytes with the header */
    LARGEST = 26,     /* 64 MiB; what is larger is malloc's */
    DROPPED_FROM = 16 /* smaller blocks keep their pages: they are few bytes, or soon used again */
};
#define REGION_BYTES ((size_t)8 << 30)

struct header {
    struct header *next;
    size_t usable; /* bytes after the header */
};

static struct shelf {
    pthread_mutex_t lock;
    struct header *free;
    struct header *bare; /* their pages are given up */
} shelves[LARGEST + 1] = {
    [0 ... LARGEST] = {.lock = PTHREAD_MUTEX_INITIALIZER},
};
static _Atomic size_t kept_bytes;
static struct weir_region region;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void take_region(void) {
#ifndef __SANITIZE_ADDRESS__
    weir_region_init(&region, REGION_BYTES);
#endif
}

/* LARGEST + 1 when there is no shelf for it. */
static int shelf_of(size_t total) {
    int bits = total <= 1 ? 0 : 64 - __builtin_clzll(total - 1);
    return bits < SMALLEST ? SMALLEST : bits > LARGEST ? LARGEST + 1 : bits;
}

static struct header *take_kept(int shelf) {
    pthread_mutex_lock(&shelves[shelf].lock);
    struct header *head = shelves[shelf].free;
    bool kept = head != NULL;
    if (kept) {
        shelves[shelf].free = head->next;
    } else if (shelves[shelf].bare != NULL) {
        head = shelves[shelf].bare;
        shelves[shelf].bare = head->next;
    }
    pthread_mutex_unlock(&shelves[shelf].lock);
    if (kept) {
        atomic_fetch_sub_explicit(&kept_bytes, (size_t)1 << shelf, memory_order_relaxed);
    }
    return head;
}

static struct header *make(int shelf, size_t total) {
    struct header *head = NULL;
    if (shelf <= LARGEST) {
        total = (size_t)1 << shelf;
        pthread_once(&once, take_region);
        head = weir_region_take(&region, total);
    }
    head = head != NULL ? head : malloc(total);
    if (head != NULL) {
        head->usable = total - sizeof(struct header);
    }
    return head;
}

void *weir_block_take(size_t bytes) {
    size_t total = bytes + sizeof(struct header);
    if (total < bytes) {
        return NULL;
    }
    int shelf = shelf_of(total);
    struct header *head = shelf <= LARGEST ? take_kept(shelf) : NULL;
    if (head == NULL) {
        head = make(shelf, total);
    }
    return head != NULL ? head + 1 : NULL;
}

void *weir_block_take_zeroed(size_t bytes) {
    void *block = weir_block_take(bytes);
    if (block != NULL) {
        memset(block, 0, bytes);
    }
    return block;
}

static struct header *header_of(const void *block) {
    return (struct header *)(uintptr_t)block - 1;
}

size_t weir_block_usable(const void *block) {
    return header_of(block)->usable;
}

/* Waits for the next of its size, with or without its pages. */
static void keep(struct header *head, int shelf) {
    size_t total = (size_t)1 << shelf;
    size_t kept = atomic_fetch_add_explicit(&kept_bytes, total, memory_order_relaxed) + total;
    bool bare = shelf >= DROPPED_FROM && kept > WEIR_BLOCK_KEEP_BYTES;
    if (bare) {
        atomic_fetch_sub_explicit(&kept_bytes, total, memory_order_relaxed);
        weir_region_drop(head + 1, head->usable);
    }
    pthread_mutex_lock(&shelves[shelf].lock);
    struct header **list = bare ? &shelves[shelf].bare : &shelves[shelf].free;
    head->next = *list;
    *list = head;
    pthread_mutex_unlock(&shelves[shelf].lock);
}

void weir_block_give(void *block) {
    if (block == NULL) {
        return;
    }
    struct header *head = header_of(block);
    if (weir_region_has(&region, head)) {
        keep(head, shelf_of(head->usable + sizeof(struct header)));
    } else {
        free(head);
    }
}

void *weir_block_regrow(void *block, size_t bytes) {
    if (block == NULL) {
        return weir_block_take(bytes);
    }
    if (bytes <= weir_block_usable(block)) {
        return block;
    }
    void *wider = weir_block_take(bytes);
    if (wider != NULL) {
        memcpy(wider, block, weir_block_usable(block));
        weir_block_give(block);
    }
    return wider;
}
