#include "core/ahead.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>

#include "core/region.h"
#include "core/thread.h"

enum {
    KEPT = 8,      /* pages ready */
    PUT_MAX = 8192 /* in all: each is a mapping, of which a process may have some ten thousand */
};

static void *ready[KEPT];
static int ready_count;
static int put_count;
static bool started;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t taken = PTHREAD_COND_INITIALIZER;

static void *run(void *argument) {
    (void)argument;
    weir_thread_name("pages", -1);
    pthread_mutex_lock(&lock);
    for (;;) {
        while (ready_count == KEPT || put_count + ready_count >= PUT_MAX) {
            pthread_cond_wait(&taken, &lock);
        }
        pthread_mutex_unlock(&lock);
        uint8_t *page = weir_region_map_aligned(WEIR_AHEAD_PAGE_BYTES, WEIR_AHEAD_PAGE_BYTES);
        if (page == NULL) {
            return NULL; /* nor will there be another */
        }
        (void)madvise(page, WEIR_AHEAD_PAGE_BYTES, MADV_HUGEPAGE); /* only a wish */
        for (size_t at = 0; at < WEIR_AHEAD_PAGE_BYTES; at += 4096) {
            *(volatile uint8_t *)(page + at) = 0;
        }
        pthread_mutex_lock(&lock);
        ready[ready_count++] = page;
    }
    return NULL;
}

void weir_ahead_start(void) {
    pthread_mutex_lock(&lock);
    pthread_t thread;
    if (!started && weir_thread_start(&thread, run, NULL) == 0) {
        pthread_detach(thread);
        started = true;
    }
    pthread_mutex_unlock(&lock);
}

int weir_ahead_put(void *at) {
    void *page = NULL;
    pthread_mutex_lock(&lock);
    if (ready_count > 0) {
        page = ready[--ready_count];
        put_count++;
        pthread_cond_signal(&taken);
    }
    pthread_mutex_unlock(&lock);
    if (page == NULL) {
        return 0;
    }
    if (mremap(page, WEIR_AHEAD_PAGE_BYTES, WEIR_AHEAD_PAGE_BYTES, MREMAP_MAYMOVE | MREMAP_FIXED,
               at) == MAP_FAILED) {
        weir_region_unmap(page, WEIR_AHEAD_PAGE_BYTES);
        return 0;
    }
    return 1;
}
