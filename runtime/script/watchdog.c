/* The watchdog. Count hooks do not fire in compiled traces, so a hook alone cannot stop a tight
 * loop. LuaJIT's profiler in line mode makes every trace poll a flag that a SIGPROF timer sets
 * (each 10 ms of CPU time); polling leaves the trace for the interpreter, where hooks do fire. So:
 * the profiler always runs, with a callback that does nothing; at the deadline this file's thread
 * sends the loop thread a directed signal; its handler, on the loop thread, sets a hook on every
 * instruction; the hook throws. It stays set until C has the call back, so that a rule that
 * catches the error in pcall meets it again at its next instruction. (xpcall is not for rules: its
 * handler runs inside the hook, where hooks are off.)
 *
 * A budget is the loop thread's CPU time: a busy machine, a page fault or a debugger must never
 * cost an event its place. Reading that clock is a system call, so the loop does not: it numbers
 * its calls, and this file's thread times them, from when it first sees one (a tick late at most).
 *
 * Hooks may be changed on the loop thread only (LuaJIT #1012, #1460), hence the directed signal;
 * lua_sethook may be called from a handler there. But a handler can come in the middle of LuaJIT's
 * own change of its dispatch table and be undone by its end, so the signal is sent again each tick
 * until the call is over, and every call begins by bringing the table in line with the hooks. That
 * also undoes what lua_pcall does after a throw: it puts the hook flags back as they were before,
 * and when a SIGPROF came just then, LuaJIT believes for good that one waits; every trace would
 * leave for the interpreter at its first poll.
 *
 * SIGPROF must reach the loop thread alone: all other threads block it
 * (weir_script_block_signals in main). */
#include "script/watchdog.h"

#include "core/thread.h"

#include <errno.h>
#include <lauxlib.h>
#include <luajit.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "script/script.h"

#define WATCHDOG_SIGNAL SIGUSR2
#define TICK_NS 4000000 /* how late a deadline may be seen */
#define IDLE_TICKS 50   /* then the thread sleeps until armed */

struct weir_watchdog {
    lua_State *lua;
    pthread_t loop;
    pthread_t thread;
    clockid_t loop_clock;     /* CPU time of the loop thread */
    _Atomic uint64_t running; /* number of the call that runs; 0: none */
    _Atomic uint64_t overdue; /* number of the call that is past its budget */
    _Atomic int64_t budget_ns;
    uint64_t calls; /* loop thread */
    _Atomic bool is_asleep;
    _Atomic bool is_stopping;
    volatile sig_atomic_t fired; /* loop thread and its handler */
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct sigaction old_action;
};

static struct weir_watchdog *_Atomic current;

static void on_every_instruction(lua_State *lua, lua_Debug *info) {
    (void)info;
    const struct weir_watchdog *w = current;
    lua_pushfstring(lua, "ran longer than its budget of %f ms",
                    (double)atomic_load(&w->budget_ns) / 1e6);
    lua_error(lua);
}

/* On the loop thread, between any two of its instructions. */
static void on_deadline(int number) {
    (void)number;
    int saved = errno;
    struct weir_watchdog *w = current;
    if (w != NULL) {
        uint64_t call = atomic_load(&w->running);
        if (call != 0 && atomic_load(&w->overdue) == call) {
            w->fired = 1;
            lua_sethook(w->lua, on_every_instruction, LUA_MASKCOUNT | LUA_MASKLINE, 1);
        }
    }
    errno = saved;
}

static void on_profile(void *data, lua_State *lua, int samples, int state) {
    (void)data;
    (void)lua;
    (void)samples;
    (void)state;
}

static void sleep_until_armed(struct weir_watchdog *w) {
    pthread_mutex_lock(&w->mutex);
    atomic_store(&w->is_asleep, true);
    while (atomic_load(&w->running) == 0 && !atomic_load(&w->is_stopping)) {
        pthread_cond_wait(&w->wake, &w->mutex);
    }
    atomic_store(&w->is_asleep, false);
    pthread_mutex_unlock(&w->mutex);
}

static int64_t loop_cpu_ns(const struct weir_watchdog *w) {
    struct timespec t = {0};
    clock_gettime(w->loop_clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void *watch(void *argument) {
    struct weir_watchdog *w = argument;
    weir_thread_name("watchdog", -1);
    int idle = 0;
    uint64_t seen = 0;
    int64_t deadline = 0;
    while (!atomic_load(&w->is_stopping)) {
        uint64_t call = atomic_load(&w->running);
        int64_t wait_ns = TICK_NS;
        if (call == 0) {
            if (++idle > IDLE_TICKS) {
                sleep_until_armed(w);
                idle = 0;
            }
        } else {
            idle = 0;
            int64_t now = loop_cpu_ns(w);
            if (call != seen) {
                seen = call;
                deadline = now + atomic_load(&w->budget_ns);
            }
            if (now >= deadline) {
                atomic_store(&w->overdue, call);
                pthread_kill(w->loop, WATCHDOG_SIGNAL);
            } else if (deadline - now < wait_ns) {
                wait_ns = deadline - now;
            }
        }
        struct timespec pause = {.tv_nsec = (long)wait_ns};
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static void signal_set(sigset_t *set) {
    sigemptyset(set);
    sigaddset(set, SIGPROF);
    sigaddset(set, WATCHDOG_SIGNAL);
}

void weir_script_block_signals(void) {
    sigset_t set;
    signal_set(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

int weir_watchdog_create(lua_State *lua, struct weir_watchdog **out, struct weir_error *err) {
    struct weir_watchdog *w = calloc(1, sizeof(*w));
    if (w == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "watchdog: out of memory");
    }
    w->lua = lua;
    w->loop = pthread_self();
    int failure = pthread_getcpuclockid(w->loop, &w->loop_clock);
    if (failure != 0) {
        free(w);
        return weir_error_system(err, WEIR_E_ENVIRONMENT, failure, "watchdog: no CPU clock");
    }
    pthread_mutex_init(&w->mutex, NULL);
    pthread_cond_init(&w->wake, NULL);

    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failure = pthread_create(&w->thread, NULL, watch, w); /* with every signal blocked */
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failure != 0) {
        pthread_cond_destroy(&w->wake);
        pthread_mutex_destroy(&w->mutex);
        free(w);
        return weir_error_system(err, WEIR_E_ENVIRONMENT, failure, "watchdog: cannot start thread");
    }
    current = w;
    struct sigaction action = {.sa_handler = on_deadline, .sa_flags = SA_RESTART};
    sigfillset(&action.sa_mask);
    sigaction(WATCHDOG_SIGNAL, &action, &w->old_action);
    luaJIT_profile_start(lua, "li10", on_profile, NULL);
    sigset_t set;
    signal_set(&set);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    *out = w;
    return WEIR_OK;
}

void weir_watchdog_destroy(struct weir_watchdog *w) {
    if (w == NULL) {
        return;
    }
    atomic_store(&w->is_stopping, true);
    pthread_mutex_lock(&w->mutex);
    pthread_cond_signal(&w->wake);
    pthread_mutex_unlock(&w->mutex);
    pthread_join(w->thread, NULL);
    luaJIT_profile_stop(w->lua);
    current = NULL;
    sigaction(WATCHDOG_SIGNAL, &w->old_action, NULL);
    pthread_cond_destroy(&w->wake);
    pthread_mutex_destroy(&w->mutex);
    free(w);
}

void weir_watchdog_arm(struct weir_watchdog *w, int64_t budget_ns) {
    if (w == NULL) {
        return;
    }
    w->fired = 0;
    lua_sethook(w->lua, NULL, 0, 0);
    atomic_store_explicit(&w->budget_ns, budget_ns, memory_order_relaxed);
    atomic_store(&w->running, ++w->calls);
    if (atomic_load(&w->is_asleep)) {
        pthread_mutex_lock(&w->mutex);
        pthread_cond_signal(&w->wake);
        pthread_mutex_unlock(&w->mutex);
    }
}

bool weir_watchdog_disarm(struct weir_watchdog *w) {
    if (w == NULL) {
        return false;
    }
    atomic_store(&w->running, 0); /* from here the handler does nothing */
    if (w->fired == 0) {
        return false;
    }
    lua_sethook(w->lua, NULL, 0, 0);
    w->fired = 0;
    return true;
}
