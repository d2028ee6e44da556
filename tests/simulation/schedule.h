#pragma once
/* Every thread of the process under one seeded scheduler and a clock that only it moves, so that a
 * run of the whole pipeline is a function of its seed.
 *
 * The linker puts these functions in the place of the system's (`--wrap`, see CMakeLists.txt):
 * threads, mutexes, conditions, weir_signal, clocks, sleeps and random bytes. One thread runs at a
 * time; at each such call the seed decides whether another goes on instead, and which. Time stands
 * still but for a little at each look at it, and jumps to the next deadline when every thread
 * waits. A wait may wake without reason, as POSIX allows. Where no thread can go on and none waits
 * for a time, the run has come to a deadlock, and says where each thread stands.
 *
 * Only between schedule_begin and schedule_end, and only for threads started in between and the one
 * that began. What those threads share without any of these calls (atomics) happens in the order
 * of the schedule as well. */
#include <stdint.h>

void schedule_begin(uint64_t seed);
/* All threads but the caller must have been joined. Returns a hash of all that was scheduled: two
 * runs of one seed have the same. */
uint64_t schedule_end(void);
/* The calling thread sleeps in the schedule's time: a slow disk. Nothing outside of a schedule. */
void schedule_sleep(int64_t ns);
/* How often threads were switched, and how far the clock has come, since the beginning. */
uint64_t schedule_switches(void);
int64_t schedule_elapsed_ns(void);
