/* Hopping and cumulate windows whose rows change: a slot a (window, key), as of windows that do not
 * overlap, and each row in all of its windows. Panes (hopping.c) cost less, but have nothing to say
 * before a window is over, and take nothing back. A window is known by its start, of cumulate,
 * where windows share it, by its end. */
#include "operator/aggregate/aggregate_private.h"

/* Entries a feed goes through at a time. */
enum { ENTRIES = 1 << 16 };

int64_t weir_overlap_windows(const struct weir_aggregate *aggregate) {
    return (aggregate->size + aggregate->every - 1) / aggregate->every;
}

int32_t weir_overlap_entries(const struct weir_aggregate *aggregate, int32_t rows) {
    int64_t all = rows * weir_overlap_windows(aggregate);
    return all < ENTRIES ? (int32_t)all : ENTRIES;
}

void weir_overlap_bounds(const struct weir_aggregate *aggregate, int64_t id, int64_t *start,
                         int64_t *end) {
    if (aggregate->cumulate) {
        *end = id;
        *start = weir_window_start(id - 1, aggregate->size);
    } else {
        *start = id;
        *end = weir_time_add(id, aggregate->size);
    }
}

/* The first and last window a time lies in, by id. */
static void windows_of(const struct weir_aggregate *aggregate, int64_t time, int64_t *first,
                       int64_t *last) {
    if (aggregate->cumulate) {
        *first = weir_window_start(time, aggregate->every) + aggregate->every;
        *last = weir_window_start(time, aggregate->size) + aggregate->size;
    } else {
        *last = weir_window_start(time, aggregate->every);
        *first = *last - (weir_overlap_windows(aggregate) - 1) * aggregate->every;
        while (weir_time_add(*first, aggregate->size) <= time) {
            *first += aggregate->every;
        }
    }
}

bool weir_overlap_nth(const struct weir_aggregate *aggregate, int64_t time, int64_t n,
                      int64_t *id) {
    int64_t first;
    int64_t last;
    if (time < INT64_MIN / 4 || time > INT64_MAX / 4) { /* no time */
        return false;
    }
    windows_of(aggregate, time, &first, &last);
    *id = first + n * aggregate->every;
    return *id <= last;
}

int32_t weir_overlap_find(struct weir_aggregate *aggregate, const struct weir_feed *feed,
                          int32_t *next, int32_t *late_sel, int32_t *late_count) {
    int64_t windows = weir_overlap_windows(aggregate);
    int32_t taken = 0;
    for (; *next < feed->count && taken + windows <= aggregate->capacity; (*next)++) {
        int32_t row = feed->sel != NULL ? feed->sel[*next] : *next;
        int64_t id;
        int64_t last;
        bool late = false;
        windows_of(aggregate, feed->times_us[row], &id, &last);
        for (; id <= last; id += aggregate->every) {
            int64_t start;
            int64_t end;
            weir_overlap_bounds(aggregate, id, &start, &end);
            if (weir_time_add(end, aggregate->lateness) <= feed->watermark_before_us[row]) {
                late = true;
                continue;
            }
            aggregate->rows[taken] = row;
            aggregate->positions[taken] = *next;
            aggregate->starts[taken++] = id;
        }
        if (late) {
            late_sel[(*late_count)++] = row;
        }
    }
    return taken;
}
