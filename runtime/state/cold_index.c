/* Linear probing in segments that grow one at a time by a quarter. Where a tag belongs goes up with
 * the tag, whatever the capacity, so a segment is made larger without a hash at hand. */
#include "state/cold_index.h"

#include <stdlib.h>
#include <string.h>

enum { ENTRY_BYTES = 6, CAPACITY_MIN = 16, SEGMENT_BITS = 8 };

static uint32_t segment_of(uint32_t tag) {
    return tag >> (32 - SEGMENT_BITS);
}

static uint32_t home(const struct weir_cold_segment *segment, uint32_t tag) {
    return (uint32_t)((uint64_t)(tag << SEGMENT_BITS) * segment->capacity >> 32);
}

static uint32_t tag_at(const struct weir_cold_segment *segment, uint32_t at) {
    uint32_t tag;
    memcpy(&tag, segment->entries + (size_t)at * ENTRY_BYTES, sizeof tag);
    return tag;
}

static uint16_t run_at(const struct weir_cold_segment *segment, uint32_t at) {
    uint16_t run;
    memcpy(&run, segment->entries + (size_t)at * ENTRY_BYTES + 4, sizeof run);
    return run;
}

static void set(struct weir_cold_segment *segment, uint32_t at, uint32_t tag, uint16_t run) {
    memcpy(segment->entries + (size_t)at * ENTRY_BYTES, &tag, sizeof tag);
    memcpy(segment->entries + (size_t)at * ENTRY_BYTES + 4, &run, sizeof run);
}

static uint32_t after(const struct weir_cold_segment *segment, uint32_t at) {
    return at + 1 < segment->capacity ? at + 1 : 0;
}

static void place(struct weir_cold_segment *segment, uint32_t tag, uint16_t run) {
    uint32_t at = home(segment, tag);
    while (run_at(segment, at) != 0) {
        at = after(segment, at);
    }
    set(segment, at, tag, run);
}

static bool resize(struct weir_cold_index *index, struct weir_cold_segment *segment,
                   uint32_t capacity) {
    struct weir_cold_segment other = {.capacity = capacity, .count = segment->count};
    other.entries = calloc(capacity, ENTRY_BYTES);
    if (other.entries == NULL) {
        return false;
    }
    for (uint32_t at = 0; at < segment->capacity; at++) {
        if (run_at(segment, at) != 0) {
            place(&other, tag_at(segment, at), run_at(segment, at));
        }
    }
    index->bytes += (size_t)capacity * ENTRY_BYTES;
    index->bytes -= (size_t)segment->capacity * ENTRY_BYTES;
    free(segment->entries);
    *segment = other;
    return true;
}

void weir_cold_index_fini(struct weir_cold_index *index) {
    for (uint32_t i = 0; i < WEIR_COLD_SEGMENTS; i++) {
        free(index->segments[i].entries);
    }
    memset(index, 0, sizeof *index);
}

bool weir_cold_index_add(struct weir_cold_index *index, uint32_t tag, uint16_t run) {
    struct weir_cold_segment *segment = &index->segments[segment_of(tag)];
    if ((uint64_t)(segment->count + 1) * 5 > (uint64_t)segment->capacity * 4) {
        uint32_t capacity = segment->capacity + segment->capacity / 4;
        if (!resize(index, segment, capacity > CAPACITY_MIN ? capacity : CAPACITY_MIN)) {
            return false;
        }
    }
    place(segment, tag, run);
    segment->count++;
    index->count++;
    return true;
}

/* Of the pair, or -1. */
static int64_t find(const struct weir_cold_segment *segment, uint32_t tag, uint16_t run) {
    if (segment->capacity == 0) {
        return -1;
    }
    for (uint32_t at = home(segment, tag); run_at(segment, at) != 0; at = after(segment, at)) {
        if (tag_at(segment, at) == tag && run_at(segment, at) == run) {
            return at;
        }
    }
    return -1;
}

bool weir_cold_index_has(const struct weir_cold_index *index, uint32_t tag, uint16_t run) {
    return find(&index->segments[segment_of(tag)], tag, run) >= 0;
}

bool weir_cold_index_remove(struct weir_cold_index *index, uint32_t tag, uint16_t run) {
    struct weir_cold_segment *segment = &index->segments[segment_of(tag)];
    int64_t found = find(segment, tag, run);
    if (found < 0) {
        return false;
    }
    uint32_t at = (uint32_t)found;
    for (uint32_t next = after(segment, at); run_at(segment, next) != 0;
         next = after(segment, next)) {
        uint32_t from = home(segment, tag_at(segment, next));
        /* What belongs at the gap or before it closes it. */
        bool passed = at <= next ? from <= at || from > next : from <= at && from > next;
        if (passed) {
            set(segment, at, tag_at(segment, next), run_at(segment, next));
            at = next;
        }
    }
    set(segment, at, 0, 0);
    segment->count--;
    index->count--;
    if (segment->capacity > CAPACITY_MIN && segment->count < segment->capacity / 4) {
        (void)resize(index, segment, segment->capacity / 2); /* as large as before, else */
    }
    return true;
}

int64_t weir_cold_index_purge(struct weir_cold_index *index, uint32_t number,
                              bool (*gone)(void *context, uint16_t run), void *context) {
    struct weir_cold_segment *segment = &index->segments[number];
    uint32_t left = 0;
    for (uint32_t at = 0; at < segment->capacity; at++) {
        uint16_t run = run_at(segment, at);
        left += run != 0 && !gone(context, run);
    }
    uint32_t lost = segment->count - left;
    if (lost == 0) {
        return 0;
    }
    uint32_t capacity = left + left / 2 > CAPACITY_MIN ? left + left / 2 : CAPACITY_MIN;
    struct weir_cold_segment other = {.capacity = capacity, .count = left};
    other.entries = calloc(capacity, ENTRY_BYTES);
    if (other.entries == NULL) {
        return -1;
    }
    for (uint32_t at = 0; at < segment->capacity; at++) {
        uint16_t run = run_at(segment, at);
        if (run != 0 && !gone(context, run)) {
            place(&other, tag_at(segment, at), run);
        }
    }
    index->bytes += (size_t)capacity * ENTRY_BYTES;
    index->bytes -= (size_t)segment->capacity * ENTRY_BYTES;
    index->count -= lost;
    free(segment->entries);
    *segment = other;
    return lost;
}

uint16_t weir_cold_index_next(const struct weir_cold_index *index, uint32_t tag, uint32_t *at) {
    const struct weir_cold_segment *segment = &index->segments[segment_of(tag)];
    if (segment->capacity == 0) {
        return 0;
    }
    uint32_t first = home(segment, tag);
    uint32_t place_at = first + *at;
    place_at -= place_at >= segment->capacity ? segment->capacity : 0;
    for (; run_at(segment, place_at) != 0; place_at = after(segment, place_at)) {
        ++*at;
        if (tag_at(segment, place_at) == tag) {
            return run_at(segment, place_at);
        }
    }
    return 0;
}

void weir_cold_index_prefetch(const struct weir_cold_index *index, uint32_t tag) {
    const struct weir_cold_segment *segment = &index->segments[segment_of(tag)];
    if (segment->capacity > 0) {
        __builtin_prefetch(segment->entries + (size_t)home(segment, tag) * ENTRY_BYTES);
    }
}
