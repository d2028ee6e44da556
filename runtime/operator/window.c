#include "operator/window.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_CAPACITY = 16 };

void weir_windows_init(struct weir_windows *windows) {
    memset(windows, 0, sizeof *windows);
}

static void free_runs(struct weir_windows *windows) {
    for (uint32_t i = 0; i < windows->count; i++) {
        free(windows->windows[windows->heap[i]].runs);
    }
}

void weir_windows_fini(struct weir_windows *windows) {
    free_runs(windows);
    free(windows->windows);
    free(windows->heap);
    free(windows->index);
    free(windows->free_ids);
    memset(windows, 0, sizeof *windows);
}

void weir_windows_clear(struct weir_windows *windows) {
    free_runs(windows);
    windows->count = 0;
    windows->free_count = 0;
    windows->used = 0;
    windows->last = 0;
    if (windows->index != NULL) {
        memset(windows->index, 0, ((size_t)windows->index_mask + 1) * sizeof *windows->index);
    }
}

size_t weir_windows_bytes(const struct weir_windows *windows) {
    size_t per_window = sizeof *windows->windows + sizeof *windows->heap +
                        sizeof *windows->free_ids + 2 * sizeof *windows->index;
    return windows->capacity * per_window;
}

static uint32_t home_of(const struct weir_windows *windows, int64_t start_us) {
    return (uint32_t)(((uint64_t)start_us * UINT64_C(0x9E3779B97F4A7C15)) >> 32) &
           windows->index_mask;
}

static void index_place(struct weir_windows *windows, uint32_t id) {
    uint32_t at = home_of(windows, windows->windows[id].start_us);
    while (windows->index[at] != 0) {
        at = (at + 1) & windows->index_mask;
    }
    windows->index[at] = id + 1;
}

static void index_remove(struct weir_windows *windows, uint32_t id) {
    uint32_t mask = windows->index_mask;
    uint32_t at = home_of(windows, windows->windows[id].start_us);
    while (windows->index[at] != id + 1) {
        at = (at + 1) & mask;
    }
    for (uint32_t next = (at + 1) & mask; windows->index[next] != 0; next = (next + 1) & mask) {
        uint32_t home = home_of(windows, windows->windows[windows->index[next] - 1].start_us);
        if (((next - home) & mask) >= ((next - at) & mask)) {
            windows->index[at] = windows->index[next];
            at = next;
        }
    }
    windows->index[at] = 0;
}

/* Grows all arrays; on failure what was there still works. */
static bool grow(struct weir_windows *windows) {
    size_t capacity = windows->capacity == 0 ? FIRST_CAPACITY : (size_t)windows->capacity * 2;
    if (capacity > UINT32_MAX / 4) {
        return false;
    }
    struct weir_window *entries = realloc(windows->windows, capacity * sizeof *entries);
    if (entries == NULL) {
        return false;
    }
    windows->windows = entries;
    uint32_t *heap = realloc(windows->heap, capacity * sizeof *heap);
    if (heap == NULL) {
        return false;
    }
    windows->heap = heap;
    uint32_t *free_ids = realloc(windows->free_ids, capacity * sizeof *free_ids);
    if (free_ids == NULL) {
        return false;
    }
    windows->free_ids = free_ids;
    uint32_t *index = calloc(capacity * 2, sizeof *index);
    if (index == NULL) {
        return false;
    }
    free(windows->index);
    windows->index = index;
    windows->index_mask = (uint32_t)capacity * 2 - 1;
    windows->capacity = (uint32_t)capacity;
    for (uint32_t i = 0; i < windows->count; i++) {
        index_place(windows, windows->heap[i]);
    }
    return true;
}

static int64_t start_at(const struct weir_windows *windows, uint32_t heap_position) {
    return windows->windows[windows->heap[heap_position]].start_us;
}

struct weir_window *weir_windows_find(const struct weir_windows *windows, int64_t start_us) {
    if (windows->index != NULL) {
        for (uint32_t at = home_of(windows, start_us); windows->index[at] != 0;
             at = (at + 1) & windows->index_mask) {
            struct weir_window *window = &windows->windows[windows->index[at] - 1];
            if (window->start_us == start_us) {
                return window;
            }
        }
    }
    return NULL;
}

struct weir_window *weir_windows_get(struct weir_windows *windows, int64_t start_us) {
    if (windows->last != 0 && windows->windows[windows->last - 1].start_us == start_us) {
        return &windows->windows[windows->last - 1];
    }
    struct weir_window *found = weir_windows_find(windows, start_us);
    if (found != NULL) {
        windows->last = (uint32_t)(found - windows->windows) + 1;
        return found;
    }
    if (windows->count == windows->capacity && !grow(windows)) {
        return NULL;
    }
    uint32_t id =
        windows->free_count > 0 ? windows->free_ids[--windows->free_count] : windows->used++;
    windows->windows[id] = (struct weir_window){.start_us = start_us};
    index_place(windows, id);
    uint32_t at = windows->count++;
    while (at > 0 && start_at(windows, (at - 1) / 2) > start_us) {
        windows->heap[at] = windows->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    windows->heap[at] = id;
    windows->last = id + 1;
    return &windows->windows[id];
}

struct weir_window *weir_windows_first(struct weir_windows *windows) {
    return windows->count > 0 ? &windows->windows[windows->heap[0]] : NULL;
}

void weir_windows_remove_first(struct weir_windows *windows) {
    uint32_t id = windows->heap[0];
    free(windows->windows[id].runs);
    index_remove(windows, id);
    windows->last = 0;
    windows->free_ids[windows->free_count++] = id;
    uint32_t moved = windows->heap[--windows->count];
    int64_t start = windows->windows[moved].start_us;
    uint32_t at = 0;
    for (;;) {
        uint32_t child = at * 2 + 1;
        if (child >= windows->count) {
            break;
        }
        if (child + 1 < windows->count && start_at(windows, child + 1) < start_at(windows, child)) {
            child++;
        }
        if (start_at(windows, child) >= start) {
            break;
        }
        windows->heap[at] = windows->heap[child];
        at = child;
    }
    if (windows->count > 0) {
        windows->heap[at] = moved;
    }
}
