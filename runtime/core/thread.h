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

#ifdef __cplusplus
}
#endif
