/* Threads beside the main one take no signals. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/thread.h"

static void *own_mask(void *argument) {
    pthread_sigmask(SIG_BLOCK, NULL, argument);
    return NULL;
}

static void a_started_thread_takes_no_signal(void **state) {
    (void)state;
    sigset_t before;
    sigset_t inside;
    sigset_t after;
    pthread_sigmask(SIG_BLOCK, NULL, &before);
    assert_false(sigismember(&before, SIGTERM));
    pthread_t thread;
    assert_int_equal(weir_thread_start(&thread, own_mask, &inside), 0);
    pthread_join(thread, NULL);
    static const int signals[] = {SIGTERM, SIGINT, SIGPROF, SIGUSR2, SIGHUP};
    pthread_sigmask(SIG_BLOCK, NULL, &after);
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        assert_true(sigismember(&inside, signals[i]));
        assert_int_equal(sigismember(&after, signals[i]), sigismember(&before, signals[i]));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_started_thread_takes_no_signal)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
