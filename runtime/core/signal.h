#pragma once
/* A wakeup one thread waits on and any number raise: an eventfd behind a flag, so that raising an
 * already raised signal costs no system call, and an event loop may poll the descriptor. */
#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weir_signal {
    int fd;
    int raised; /* atomic */
};

int weir_signal_init(struct weir_signal *signal, struct weir_error *err) WEIR_MUST_CHECK;
void weir_signal_fini(struct weir_signal *signal);
/* Any thread; never blocks. */
void weir_signal_raise(struct weir_signal *signal);
/* Waits until raised, at most timeout_ms (-1: for ever), and clears it. True when it was raised.
 * The waiter looks at its condition again after every return: a raise may be older than it. */
bool weir_signal_wait(struct weir_signal *signal, int timeout_ms);
/* Clears without waiting; for event loops that poll `fd` themselves. */
void weir_signal_clear(struct weir_signal *signal);

#ifdef __cplusplus
}
#endif
