/* The watchdog. Count hooks do not fire in compiled traces, so a hook alone cannot stop a tight
 * loop. With LuaJIT's profiler in line mode every trace polls a flag; where it is set the trace
 * leaves for the interpreter, where hooks do fire. The profiler's own timer would set that flag a
 * hundred times a second, at any instruction, also in the middle of LuaJIT's change of its dispatch
 * table: what is half written then stays so, the flag is never taken back, and traces that leave at
 * every poll never end. So the timer is stopped, its handler is kept aside, and nothing disturbs a
 * call until its deadline. Then this file's thread sends the loop thread a directed signal, and its
 * handler, on the loop thread, sets a hook on every instruction; the hook throws. Where no
 * instruction has met the hook a tick later, it is set anew, which writes the table whole should
 * the first have come in the middle; and where none has then, the call is in a trace, and the flag
 * is set. The hook stays until C
 * has the call back, so that a rule that catches the error in pcall meets it again at its next
 * instruction. (xpcall is not for rules: its handler runs inside the hook, where hooks are off.)
 *
 * A call that goes on all the same (LuaJIT lost, or a C function that never returns) would hold
 * every source up without a word; the process ends with one, and starts again from its ledger.
 *
 * A budget is the loop thread's CPU time: a busy machine, a page fault or a debugger must never
 * cost an event its place. Reading that clock is a system call, so the loop does not: it numbers
 * its calls, and this file's thread times them, from when it first sees one (a tick late at most).
 *
 * Hooks may be changed on the loop thread only (LuaJIT #1012, #1460), hence the directed signal;
 * lua_sethook may be called from a handler there. All other threads block it
 * (weir_script_block_signals in main). */
#include "script/watchdog.h"

#include "core/thread.h"

#include <errno.h>
#include <lauxlib.h>
#include <luajit.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "script/script.h"

#define WATCHDOG_SIGNAL SIGUSR2
#define TICK_NS 4000000         /* how late a deadline may be seen */
#define OVERDUE_TICK_NS 1000000 /* between signals to a call that is past it */
#define SIGNALS_FOR_HOOK 2      /* then the flag: it holds a half-written table as it is */
#define LOST_NS INT64_C(30000000000)
#define IDLE_TICKS 50 /* then the thread sleeps until armed */

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
    /* loop thread and its handler */
    volatile sig_atomic_t fired;  /* signals to this call */
    volatile sig_atomic_t thrown; /* instructions that met the hook */
    sig_atomic_t thrown_before;   /* at the signal before this one */
    void (*leave_trace)(int);     /* LuaJIT's handler of SIGPROF */
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    struct sigaction old_action;
};

static struct weir_watchdog *_Atomic current;

static void on_every_instruction(lua_State *lua, lua_Debug *info) {
    (void)info;
    struct weir_watchdog *w = current;
    w->thrown = w->thrown + 1;
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
            if (w->fired == 0 || w->thrown == w->thrown_before) {
                lua_sethook(w->lua, NULL, 0, 0);
                lua_sethook(w->lua, on_every_instruction, LUA_MASKCOUNT | LUA_MASKLINE, 1);
                if (w->fired >= SIGNALS_FOR_HOOK) {
                    w->leave_trace(SIGPROF);
                }
            }
            w->fired = w->fired + 1;
            w->thrown_before = w->thrown;
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

static void give_up(const struct weir_watchdog *w) {
    fprintf(stderr,
            "weir: a rule's call ran %lld s beyond its budget of %lld ms and could not be "
            "interrupted. This is a bug in weir, please report it with the rule file. The process "
            "ends here; started again it goes on from its ledger\n",
            (long long)(LOST_NS / 1000000000), (long long)(atomic_load(&w->budget_ns) / 1000000));
    kill(getpid(), SIGABRT); /* a core, where they are kept, shows the place */
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
            if (now >= deadline + LOST_NS) {
                give_up(w);
            } else if (now >= deadline) {
                atomic_store(&w->overdue, call);
                pthread_kill(w->loop, WATCHDOG_SIGNAL);
                wait_ns = OVERDUE_TICK_NS;
            } else if (deadline - now < wait_ns) {
                wait_ns = deadline - now;
            }
        }
        struct timespec pause = {.tv_nsec = (long)wait_ns};
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static void change_mask(int how, int signal, sigset_t *before) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signal);
    pthread_sigmask(how, &set, before);
}

void weir_script_block_signals(void) {
    change_mask(SIG_BLOCK, WATCHDOG_SIGNAL, NULL);
}

/* Line mode makes traces poll; the timer goes, and the handler is ours to call. */
static void take_profiler(struct weir_watchdog *w) {
    sigset_t before;
    change_mask(SIG_BLOCK, SIGPROF, &before);
    struct sigaction others;
    struct sigaction luajit;
    sigaction(SIGPROF, NULL, &others);
    luaJIT_profile_start(w->lua, "li1000000", on_profile, NULL);
    static const struct itimerval never;
    setitimer(ITIMER_PROF, &never, NULL);
    sigaction(SIGPROF, &others, &luajit);
    w->leave_trace = luajit.sa_handler;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
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
    take_profiler(w);
    current = w;
    struct sigaction action = {.sa_handler = on_deadline, .sa_flags = SA_RESTART};
    sigfillset(&action.sa_mask);
    sigaction(WATCHDOG_SIGNAL, &action, &w->old_action);
    change_mask(SIG_UNBLOCK, WATCHDOG_SIGNAL, NULL);
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
    lua_sethook(w->lua, NULL, 0, 0); /* lua_pcall put the flags back, not the table */
    w->fired = 0;
    return true;
}
