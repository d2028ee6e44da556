#include "core/signal.h"

#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

int weir_signal_init(struct weir_signal *signal, struct weir_error *err) {
    signal->raised = 0;
    signal->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (signal->fd < 0) {
        return weir_error_system(err, WEIR_E_ENVIRONMENT, errno,
                                 "cannot make an event descriptor (raise `ulimit -n`?)");
    }
    return WEIR_OK;
}

void weir_signal_fini(struct weir_signal *signal) {
    if (signal->fd >= 0) {
        close(signal->fd);
        signal->fd = -1;
    }
}

void weir_signal_raise(struct weir_signal *signal) {
    if (__atomic_exchange_n(&signal->raised, 1, __ATOMIC_SEQ_CST) == 0) {
        uint64_t one = 1;
        /* Cannot fill: the counter is at most 1 per clear. */
        ssize_t written = write(signal->fd, &one, sizeof(one));
        (void)written;
    }
}

void weir_signal_clear(struct weir_signal *signal) {
    /* The descriptor first: a raise in between finds the flag set and writes nothing, but then the
     * waiter has yet to look at its condition; the exchange reads the flag that raise wrote, so
     * that what came before it is seen. */
    uint64_t count;
    ssize_t got = read(signal->fd, &count, sizeof(count));
    (void)got;
    (void)__atomic_exchange_n(&signal->raised, 0, __ATOMIC_SEQ_CST);
}

bool weir_signal_wait(struct weir_signal *signal, int timeout_ms) {
    struct pollfd fd = {.fd = signal->fd, .events = POLLIN};
    int ready = poll(&fd, 1, timeout_ms);
    if (ready > 0) {
        weir_signal_clear(signal);
        return true;
    }
    return false;
}
