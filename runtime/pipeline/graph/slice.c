#include "pipeline/graph/slice.h"

#include <string.h>

#include "core/clock.h"

const char *slice_name(enum slice_kind kind) {
    static const char *const names[SLICE_KINDS] = {"rows",     "seal",   "collect",
                                                   "snapshot", "reload", "status"};
    return names[kind];
}

void slice_begin(struct slices *s) {
    s->began_ns = s->marked_ns = weir_clock_mono_ns();
    s->began_cpu_ns = weir_clock_thread_cpu_ns();
    memset(s->turn_ns, 0, sizeof(s->turn_ns));
}

void slice_mark(struct slices *s, enum slice_kind kind) {
    int64_t now = weir_clock_mono_ns();
    s->turn_ns[kind] += now - s->marked_ns;
    s->marked_ns = now;
}

void slice_end(struct slices *s) {
    int64_t turn = s->marked_ns - s->began_ns;
    int64_t cpu = weir_clock_thread_cpu_ns() - s->began_cpu_ns;
    enum slice_kind longest = SLICE_ROWS;
    for (int kind = 0; kind < SLICE_KINDS; kind++) {
        longest = s->turn_ns[kind] > s->turn_ns[longest] ? (enum slice_kind)kind : longest;
        s->max_ns[kind] = s->turn_ns[kind] > s->max_ns[kind] ? s->turn_ns[kind] : s->max_ns[kind];
    }
    s->turn_max_cpu_ns = cpu > s->turn_max_cpu_ns ? cpu : s->turn_max_cpu_ns;
    if (turn > s->turn_max_ns) {
        s->turn_max_ns = turn;
        s->turn_max_in = longest;
    }
}
