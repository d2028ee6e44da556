#pragma once
/* Threads beside the main one take no signals: a stop request, the profiler's timer and the
 * watchdog's call must reach the thread that runs the loop, and handlers may then use what only
 * that thread changes. */
#include <pthread.h>

#ifdef __cplusplus
extern "C" {
#endif

/* As pthread_create with default attributes: 0, or an error number. The caller joins. */
int weir_thread_start(pthread_t *thread, void *(*run)(void *argument), void *argument);

/* Names the calling thread for perf, gdb and top: "what", or "what:number" when number >= 0. Cut to
 * the kernel's 15 bytes. */
void weir_thread_name(const char *what, int number);

#ifdef __cplusplus
}
#endif
