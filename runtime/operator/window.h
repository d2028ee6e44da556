#pragma once
/* Tumbling windows: [start, start + size), aligned to the epoch in UTC, negative times included.
 * A window is closed, and a row for it late, when end + allowed_lateness <= watermark.
 *
 * weir_windows keeps the open windows of an operator: looked up by start, taken in order of time,
 * each with the list of its slots in creation order. It is derived from the slots: rebuilt after
 * recovery, never persisted. Microseconds. One thread. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* a + b without wrapping. */
static inline int64_t weir_time_add(int64_t a, int64_t b) {
    int64_t sum;
    if (__builtin_add_overflow(a, b, &sum)) {
        return b > 0 ? INT64_MAX : INT64_MIN;
    }
    return sum;
}

/* The window a time lies in. The first window of all is cut off at INT64_MIN. */
static inline int64_t weir_window_start(int64_t time_us, int64_t size_us) {
    int64_t remainder = time_us % size_us;
    if (remainder < 0) {
        remainder += size_us;
    }
    int64_t start;
    return __builtin_sub_overflow(time_us, remainder, &start) ? INT64_MIN : start;
}

static inline bool weir_window_closed(int64_t start_us, int64_t size_us, int64_t lateness_us,
                                      int64_t watermark_us) {
    return weir_time_add(weir_time_add(start_us, size_us), lateness_us) <= watermark_us;
}

struct weir_window {
    int64_t start_us;
    uint32_t head; /* slot numbers, linked through weir_slot.link; 0: none */
    uint32_t tail;
    uint64_t slots;
    /* Of an aggregate with keys on disk: */
    bool mixed;     /* slots came in again: the list is not in creation order */
    uint64_t cold;  /* keys on disk */
    uint64_t *runs; /* they are in, ascending; some may be left since. Owned */
    uint32_t run_count;
    uint32_t run_room;
};

struct weir_windows {
    struct weir_window *windows; /* by id; freed ids are reused */
    uint32_t *heap;              /* ids, smallest start first */
    uint32_t *index;             /* open addressing on start: id + 1 */
    uint32_t *free_ids;
    uint32_t count;
    uint32_t free_count;
    uint32_t used; /* ids ever used */
    uint32_t last; /* id + 1 of the one got last, or 0: slots are made in runs of one window */
    uint32_t capacity;
    uint32_t index_mask;
};

void weir_windows_init(struct weir_windows *windows);
void weir_windows_fini(struct weir_windows *windows);
void weir_windows_clear(struct weir_windows *windows);
/* The open window at start_us, opened if need be. NULL without memory. Good until the next call. */
struct weir_window *weir_windows_get(struct weir_windows *windows, int64_t start_us);
/* The open window at start_us, or NULL. */
struct weir_window *weir_windows_find(const struct weir_windows *windows, int64_t start_us);
/* The earliest, or NULL. */
struct weir_window *weir_windows_first(struct weir_windows *windows);
void weir_windows_remove_first(struct weir_windows *windows);
size_t weir_windows_bytes(const struct weir_windows *windows);

#ifdef __cplusplus
}
#endif
