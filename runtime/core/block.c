/* A list and a lock for each power of two. Under AddressSanitizer nothing is kept, so that it sees
 * uses after a give. */
#include "core/block.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum {
    SMALLEST = 6, /* 64 bytes with the header */
    LARGEST = 26, /* 64 MiB; what is larger is malloc's */
    AHEAD_MAX = 8
};

struct header {
    struct header *next;
    size_t usable; /* bytes after the header */
};

static struct shelf {
    pthread_mutex_t lock;
    struct header *free;
    uint32_t made;
} shelves[LARGEST + 1] = {
    [0 ... LARGEST] = {.lock = PTHREAD_MUTEX_INITIALIZER},
};
static _Atomic size_t kept_bytes;
static _Atomic uint64_t malloc_count;

/* LARGEST + 1 when there is no shelf for it. */
static int shelf_of(size_t total) {
    int bits = total <= 1 ? 0 : 64 - __builtin_clzll(total - 1);
    return bits < SMALLEST ? SMALLEST : bits > LARGEST ? LARGEST + 1 : bits;
}

static struct header *take_kept(int shelf) {
    pthread_mutex_lock(&shelves[shelf].lock);
    struct header *head = shelves[shelf].free;
    if (head != NULL) {
        shelves[shelf].free = head->next;
    }
    pthread_mutex_unlock(&shelves[shelf].lock);
    if (head != NULL) {
        atomic_fetch_sub_explicit(&kept_bytes, (size_t)1 << shelf, memory_order_relaxed);
    }
    return head;
}

static struct header *make(size_t total) {
    atomic_fetch_add_explicit(&malloc_count, 1, memory_order_relaxed);
    struct header *head = malloc(total);
    if (head != NULL) {
        head->usable = total - sizeof(struct header);
    }
    return head;
}

/* A shelf found empty has seen a new high: some more than was asked are made, in proportion, so
 * that a demand that swings ever a little higher stops reaching malloc soon. What is not written to
 * costs no memory. */
static struct header *make_for(int shelf) {
    size_t total = (size_t)1 << shelf;
    pthread_mutex_lock(&shelves[shelf].lock);
    uint32_t ahead = shelves[shelf].made / 4;
    ahead = ahead > AHEAD_MAX ? AHEAD_MAX : ahead;
    shelves[shelf].made += 1 + ahead;
    pthread_mutex_unlock(&shelves[shelf].lock);
#ifndef __SANITIZE_ADDRESS__
    for (; ahead > 0; ahead--) {
        struct header *spare = make(total);
        if (spare != NULL) {
            weir_block_give(spare + 1);
        }
    }
#endif
    return make(total);
}

void *weir_block_take(size_t bytes) {
    size_t total = bytes + sizeof(struct header);
    if (total < bytes) {
        return NULL;
    }
    int shelf = shelf_of(total);
    struct header *head = shelf <= LARGEST ? take_kept(shelf) : NULL;
    if (head == NULL) {
        head = shelf <= LARGEST ? make_for(shelf) : make(total);
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

void weir_block_give(void *block) {
    if (block == NULL) {
        return;
    }
    struct header *head = header_of(block);
#ifndef __SANITIZE_ADDRESS__
    size_t total = head->usable + sizeof(struct header);
    int shelf = shelf_of(total);
    if (shelf <= LARGEST &&
        atomic_fetch_add_explicit(&kept_bytes, total, memory_order_relaxed) + total <=
            WEIR_BLOCK_KEEP_BYTES) {
        pthread_mutex_lock(&shelves[shelf].lock);
        head->next = shelves[shelf].free;
        shelves[shelf].free = head;
        pthread_mutex_unlock(&shelves[shelf].lock);
        return;
    }
    if (shelf <= LARGEST) {
        atomic_fetch_sub_explicit(&kept_bytes, total, memory_order_relaxed);
        pthread_mutex_lock(&shelves[shelf].lock);
        shelves[shelf].made--;
        pthread_mutex_unlock(&shelves[shelf].lock);
    }
#endif
    free(head);
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

uint64_t weir_block_malloc_count(void) {
    return atomic_load_explicit(&malloc_count, memory_order_relaxed);
}
