/* A thread inherits the mask of its creator, so all is blocked while it is created: no signal can
 * come between its first instruction and a mask it would set itself. */
#include "core/thread.h"

#include <signal.h>
#include <stdio.h>

int weir_thread_start(pthread_t *thread, void *(*run)(void *argument), void *argument) {
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(thread, NULL, run, argument);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

void weir_thread_name(const char *what, int number) {
    char name[16];
    if (number >= 0) {
        snprintf(name, sizeof(name), "%s:%d", what, number);
    } else {
        snprintf(name, sizeof(name), "%s", what);
    }
    (void)pthread_setname_np(pthread_self(), name);
}
