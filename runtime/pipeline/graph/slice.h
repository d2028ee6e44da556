#pragma once
/* How long the loop is away from its duties: a turn is what it does between two looks at them, a
 * slice what one duty takes of a turn. Loop thread. */
#include <stdint.h>

enum slice_kind {
    SLICE_ROWS, /* taking rows in, emitting windows */
    SLICE_SEAL,
    SLICE_COLLECT,
    SLICE_SNAPSHOT,
    SLICE_RELOAD,
    SLICE_STATUS,
    SLICE_KINDS
};

struct slices {
    int64_t began_ns;
    int64_t marked_ns;
    int64_t began_cpu_ns;
    int64_t turn_ns[SLICE_KINDS];
    /* the longest so far; CPU is what the loop itself took, whatever else the machine did */
    int64_t turn_max_ns;
    int64_t turn_max_cpu_ns;
    enum slice_kind turn_max_in;
    int64_t max_ns[SLICE_KINDS];
};

void slice_begin(struct slices *slices);
/* What was done since the mark before was of this kind. */
void slice_mark(struct slices *slices, enum slice_kind kind);
void slice_end(struct slices *slices);
const char *slice_name(enum slice_kind kind);
