#include "core/fault.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const point_names[] = {
#define X(name, where) #name,
#include "core/fault.def"
#undef X
};

static _Atomic uint64_t hits[WEIR_FAULT_COUNT_];
static enum weir_fault_point armed_point;
static uint64_t armed_hit; /* 0 = nothing armed */
static int armed_signal;   /* 0: the call site fails */

void weir_fault_arm(enum weir_fault_point point, uint64_t hit, bool kill_process) {
    armed_point = point;
    armed_hit = hit;
    armed_signal = kill_process ? SIGKILL : 0;
}

bool weir_fault_init(void) {
    const char *text = getenv("WEIR_FAULT");
    if (text == NULL || *text == '\0') {
        return true;
    }
    char name[64];
    char action[16];
    unsigned long long hit = 0;
    if (sscanf(text, "%63[^:]:%llu:%15s", name, &hit, action) == 3) {
        for (int i = 0; i < WEIR_FAULT_COUNT_; i++) {
            if (strcmp(point_names[i], name) == 0) {
                weir_fault_arm((enum weir_fault_point)i, hit, strcmp(action, "kill") == 0);
                armed_signal = strcmp(action, "stop") == 0 ? SIGSTOP : armed_signal;
                return true;
            }
        }
    }
    fprintf(stderr, "WEIR_FAULT=%s: expected name:hit:kill|stop|error with a name of fault.def\n",
            text);
    return false;
}

bool weir_fault_hit(enum weir_fault_point point) {
    uint64_t hit = atomic_fetch_add_explicit(&hits[point], 1, memory_order_relaxed) + 1;
    if (armed_hit == 0 || point != armed_point || hit != armed_hit) {
        return false;
    }
    if (armed_signal == 0) {
        return true;
    }
    fprintf(stderr, "fault point %s reached, hit %llu\n", point_names[point],
            (unsigned long long)hit);
    /* of this thread: a stop that another takes would let this one run on a little */
    raise(armed_signal);
    while (armed_signal == SIGKILL) {
        pause();
    }
    return false; /* stopped, and continued by another */
}

uint64_t weir_fault_hits(enum weir_fault_point point) {
    return atomic_load_explicit(&hits[point], memory_order_relaxed);
}

const char *weir_fault_name(enum weir_fault_point point) {
    return point_names[point];
}

void weir_fault_report(void) {
    const char *path = getenv("WEIR_FAULT_REPORT");
    FILE *file = path != NULL ? fopen(path, "w") : NULL;
    if (file == NULL) {
        return;
    }
    for (int i = 0; i < WEIR_FAULT_COUNT_; i++) {
        fprintf(file, "%s %llu\n", point_names[i],
                (unsigned long long)weir_fault_hits((enum weir_fault_point)i));
    }
    fclose(file);
}
