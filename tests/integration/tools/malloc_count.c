/* Loaded before a program (LD_PRELOAD), counts its calls of the allocator by thread and tenth of a
 * second, and writes "tenth thread calls" lines to $MALLOC_COUNT at the end. A thread is known by
 * its name. What mmap gives directly (LuaJIT's arena, thread stacks) is not counted: it is no heap
 * that threads share. */
#include <errno.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

enum { TENTHS = 6000, THREADS = 64 };

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static _Atomic uint32_t counts[THREADS][TENTHS];
static char names[THREADS][16];
static atomic_int threads;
static __thread int self = -1; /* this thread's row */
static struct timespec start;

static void note(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long tenth = (now.tv_sec - start.tv_sec) * 10 + (now.tv_nsec - start.tv_nsec) / 100000000;
    if (self < 0) {
        int row = atomic_fetch_add(&threads, 1);
        self = row < THREADS ? row : THREADS - 1;
    }
    if (tenth >= 0 && tenth < TENTHS) {
        prctl(PR_GET_NAME, names[self]); /* it may be named late */
        atomic_fetch_add(&counts[self][tenth], 1);
    }
}

#pragma GCC visibility push(default)

void *malloc(size_t size) {
    note();
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
    note();
    return __libc_calloc(count, size);
}

void *realloc(void *block, size_t size) {
    note();
    return __libc_realloc(block, size);
}

void *memalign(size_t alignment, size_t size) {
    note();
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    note();
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size) {
    note();
    *out = __libc_memalign(alignment, size);
    return *out != NULL ? 0 : ENOMEM;
}

#pragma GCC visibility pop

__attribute__((constructor)) static void begin(void) {
    clock_gettime(CLOCK_MONOTONIC, &start);
}

__attribute__((destructor)) static void end(void) {
    const char *path = getenv("MALLOC_COUNT");
    FILE *file = path != NULL ? fopen(path, "w") : NULL;
    int rows = atomic_load(&threads) < THREADS ? atomic_load(&threads) : THREADS;
    for (int row = 0; file != NULL && row < rows; row++) {
        for (int tenth = 0; tenth < TENTHS; tenth++) {
            if (counts[row][tenth] > 0) {
                fprintf(file, "%d %s %u\n", tenth, names[row], counts[row][tenth]);
            }
        }
    }
    if (file != NULL) {
        fclose(file);
    }
}
