#pragma once
#include <stdint.h>
#include <time.h>

/* Wall clock, microseconds since epoch. Only the loop's recorded clock and logs may use it. */
static inline int64_t weir_clock_wall_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* Monotonic nanoseconds, for durations. */
static inline int64_t weir_clock_mono_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* CPU nanoseconds of the calling thread, for the per-stage budget. */
static inline int64_t weir_clock_thread_cpu_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}
