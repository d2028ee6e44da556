#include "schedule.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>

#include "core/signal.h"

enum {
    THREADS_MAX = 256,
    LOOK_NS = 2000,       /* a look at the clock takes up to so long */
    SPURIOUS = 200,       /* one wait in so many ends without reason */
    START_S = 1767607200, /* 2026-01-05T10:00:00Z */
};

#define NEVER INT64_MAX

enum state { FREE, READY, BLOCKED, DONE };

struct thread {
    pthread_t handle;
    sem_t turn;
    enum state state;
    const void *on;   /* BLOCKED: what for */
    const char *what; /* BLOCKED: in which call, for the message of a deadlock */
    int64_t deadline_ns;
    bool timed_out;
    void *(*run)(void *argument);
    void *argument;
    void *result;
};

/* Touched by the thread whose turn it is, and by nobody else. */
static struct {
    bool active;
    struct thread threads[THREADS_MAX];
    int count;
    int running;
    uint64_t random; /* decides the schedule */
    uint64_t bytes;  /* decides random bytes, which programs ask for */
    uint64_t trace;
    uint64_t switches;
    uint64_t interval; /* one call in so many hands over, on average */
    int64_t now_ns;
} s;

static __thread int me = -1;

int __real_pthread_create(pthread_t *handle, const pthread_attr_t *attributes,
                          void *(*run)(void *argument), void *argument);
int __real_pthread_join(pthread_t handle, void **result);
int __real_pthread_mutex_lock(pthread_mutex_t *mutex);
int __real_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __real_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex);
int __real_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                  const struct timespec *until);
int __real_pthread_cond_signal(pthread_cond_t *condition);
int __real_pthread_cond_broadcast(pthread_cond_t *condition);
int __real_clock_gettime(clockid_t clock, struct timespec *out);
int __real_nanosleep(const struct timespec *duration, struct timespec *left);
ssize_t __real_getrandom(void *bytes, size_t size, unsigned flags);
void __real_weir_signal_raise(struct weir_signal *signal);
bool __real_weir_signal_wait(struct weir_signal *signal, int timeout_ms);
void __real_weir_signal_clear(struct weir_signal *signal);

int __wrap_pthread_create(pthread_t *handle, const pthread_attr_t *attributes,
                          void *(*run)(void *argument), void *argument);
int __wrap_pthread_join(pthread_t handle, void **result);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __wrap_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex);
int __wrap_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                  const struct timespec *until);
int __wrap_pthread_cond_signal(pthread_cond_t *condition);
int __wrap_pthread_cond_broadcast(pthread_cond_t *condition);
int __wrap_clock_gettime(clockid_t clock, struct timespec *out);
int __wrap_nanosleep(const struct timespec *duration, struct timespec *left);
ssize_t __wrap_getrandom(void *bytes, size_t size, unsigned flags);
void __wrap_weir_signal_raise(struct weir_signal *signal);
bool __wrap_weir_signal_wait(struct weir_signal *signal, int timeout_ms);
void __wrap_weir_signal_clear(struct weir_signal *signal);

/* --- choosing ------------------------------------------------------------------------------ */

static uint64_t draw(uint64_t *state) { /* splitmix64 */
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* A thread of ours, whose turn it is. One that is done still frees what it kept for itself. */
static bool scheduled(void) {
    return s.active && me >= 0 && s.threads[me].state != DONE;
}

static void note(uint64_t what) {
    s.trace = (s.trace ^ (what + (uint64_t)(me + 1) * 0x9e3779b97f4a7c15u)) * 0xbf58476d1ce4e5b9u;
    s.trace ^= s.trace >> 29;
}

static void deadlock(void) {
    fprintf(stderr, "deadlock: no thread can go on\n");
    for (int i = 0; i < s.count; i++) {
        const struct thread *t = &s.threads[i];
        if (t->state == BLOCKED) {
            fprintf(stderr, "  thread %d waits in %s\n", i, t->what);
        }
    }
    abort();
}

static void wake_expired(void) {
    for (int i = 0; i < s.count; i++) {
        struct thread *t = &s.threads[i];
        if (t->state == BLOCKED && t->deadline_ns <= s.now_ns) {
            t->state = READY;
            t->timed_out = true;
        }
    }
}

/* Some thread that is ready; time moves on when there is none. */
static int choose(void) {
    for (;;) {
        int ready[THREADS_MAX];
        int count = 0;
        int64_t next_ns = NEVER;
        wake_expired();
        for (int i = 0; i < s.count; i++) {
            const struct thread *t = &s.threads[i];
            if (t->state == READY) {
                ready[count++] = i;
            } else if (t->state == BLOCKED && t->deadline_ns < next_ns) {
                next_ns = t->deadline_ns;
            }
        }
        if (count > 0) {
            return ready[draw(&s.random) % (uint64_t)count];
        }
        if (next_ns == NEVER) {
            deadlock();
        }
        s.now_ns = next_ns;
    }
}

static void hand_over(int next) {
    s.switches++;
    s.running = next;
    note((uint64_t)next);
    sem_post(&s.threads[next].turn);
}

static void await_turn(void) {
    while (sem_wait(&s.threads[me].turn) != 0) {
    }
}

static void switch_to(int next) {
    if (next != me) {
        hand_over(next);
        await_turn();
    }
}

/* Perhaps another thread goes on here. */
static void maybe_yield(void) {
    if (draw(&s.random) % s.interval == 0) {
        switch_to(choose());
    }
}

/* Until woken or the deadline; true: it was the deadline. */
static bool block(const void *on, const char *what, int64_t deadline_ns) {
    struct thread *t = &s.threads[me];
    t->state = BLOCKED;
    t->on = on;
    t->what = what;
    t->deadline_ns = deadline_ns;
    t->timed_out = false;
    switch_to(choose());
    t->on = NULL;
    return t->timed_out;
}

static void wake_all(const void *on) {
    for (int i = 0; i < s.count; i++) {
        if (s.threads[i].state == BLOCKED && s.threads[i].on == on) {
            s.threads[i].state = READY;
        }
    }
}

/* --- from outside -------------------------------------------------------------------------- */

void schedule_begin(uint64_t seed) {
    static const uint64_t intervals[] = {1, 3, 10, 50, 200, 1000};
    memset(&s, 0, sizeof(s));
    s.random = seed;
    s.bytes = seed ^ 0x5bf03635u;
    s.interval = intervals[draw(&s.random) % (sizeof(intervals) / sizeof(intervals[0]))];
    s.count = 1;
    s.threads[0].state = READY;
    s.threads[0].handle = pthread_self();
    sem_init(&s.threads[0].turn, 0, 0);
    me = 0;
    s.active = true;
}

uint64_t schedule_end(void) {
    for (int i = 1; i < s.count; i++) {
        if (s.threads[i].state != FREE) {
            fprintf(stderr, "thread %d was not joined\n", i);
            abort();
        }
    }
    sem_destroy(&s.threads[0].turn);
    s.active = false;
    me = -1;
    return s.trace;
}

void schedule_sleep(int64_t ns) {
    if (scheduled() && ns > 0) {
        (void)block(NULL, "schedule_sleep", s.now_ns + ns);
    }
}

uint64_t schedule_switches(void) {
    return s.switches;
}

int64_t schedule_elapsed_ns(void) {
    return s.now_ns;
}

/* --- threads ------------------------------------------------------------------------------- */

static void *run_thread(void *argument) {
    struct thread *t = argument;
    me = (int)(t - s.threads);
    await_turn();
    t->result = t->run(t->argument);
    t->state = DONE;
    wake_all(t);
    hand_over(choose());
    return t->result;
}

int __wrap_pthread_create(pthread_t *handle, const pthread_attr_t *attributes,
                          void *(*run)(void *argument), void *argument) {
    if (!scheduled()) {
        return __real_pthread_create(handle, attributes, run, argument);
    }
    int at = 1;
    while (at < s.count && s.threads[at].state != FREE) {
        at++;
    }
    if (at == THREADS_MAX) {
        return EAGAIN;
    }
    struct thread *t = &s.threads[at];
    *t = (struct thread){.state = READY, .run = run, .argument = argument, .deadline_ns = NEVER};
    sem_init(&t->turn, 0, 0);
    s.count = at == s.count ? s.count + 1 : s.count;
    int failed = __real_pthread_create(&t->handle, attributes, run_thread, t);
    if (failed != 0) {
        t->state = FREE;
        return failed;
    }
    *handle = t->handle;
    maybe_yield();
    return 0;
}

int __wrap_pthread_join(pthread_t handle, void **result) {
    struct thread *t = NULL;
    for (int i = 1; scheduled() && i < s.count; i++) {
        if (s.threads[i].state != FREE && pthread_equal(s.threads[i].handle, handle)) {
            t = &s.threads[i];
        }
    }
    while (t != NULL && t->state != DONE) {
        (void)block(t, "pthread_join", NEVER);
    }
    int failed = __real_pthread_join(handle, result);
    if (t != NULL) {
        sem_destroy(&t->turn);
        t->state = FREE;
    }
    return failed;
}

/* --- mutexes and conditions: the real mutex says who has it, and is never waited for ---------- */

/* Of the process and not of a pipeline: what it guards (blocks kept for later) depends on the runs
 * before, so a seed must not. None is held across another call of these. */
static bool is_static(const pthread_mutex_t *mutex) {
    extern char __data_start;
    extern char _end;
    uintptr_t at = (uintptr_t)mutex;
    return at >= (uintptr_t)&__data_start && at < (uintptr_t)&_end;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex) {
    if (!scheduled() || is_static(mutex)) {
        return __real_pthread_mutex_lock(mutex);
    }
    maybe_yield();
    int failed;
    while ((failed = pthread_mutex_trylock(mutex)) == EBUSY) {
        (void)block(mutex, "pthread_mutex_lock", NEVER);
    }
    return failed;
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex) {
    int failed = __real_pthread_mutex_unlock(mutex);
    if (scheduled() && !is_static(mutex)) {
        wake_all(mutex);
        maybe_yield();
    }
    return failed;
}

static int wait_for(pthread_cond_t *condition, pthread_mutex_t *mutex, const char *what,
                    int64_t deadline_ns) {
    int failed = __real_pthread_mutex_unlock(mutex);
    wake_all(mutex);
    bool spurious = draw(&s.random) % SPURIOUS == 0;
    bool timed_out = false;
    if (spurious) {
        switch_to(choose());
    } else {
        timed_out = block(condition, what, deadline_ns);
    }
    while (failed == 0 && (failed = pthread_mutex_trylock(mutex)) == EBUSY) {
        (void)block(mutex, "pthread_mutex_lock", NEVER);
        failed = 0;
    }
    return failed != 0 ? failed : timed_out ? ETIMEDOUT : 0;
}

int __wrap_pthread_cond_wait(pthread_cond_t *condition, pthread_mutex_t *mutex) {
    return scheduled() ? wait_for(condition, mutex, "pthread_cond_wait", NEVER)
                       : __real_pthread_cond_wait(condition, mutex);
}

static int64_t to_ns(const struct timespec *t) {
    return ((int64_t)t->tv_sec - START_S) * 1000000000 + t->tv_nsec;
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                                  const struct timespec *until) {
    return scheduled() ? wait_for(condition, mutex, "pthread_cond_timedwait", to_ns(until))
                       : __real_pthread_cond_timedwait(condition, mutex, until);
}

int __wrap_pthread_cond_signal(pthread_cond_t *condition) {
    if (!scheduled()) {
        return __real_pthread_cond_signal(condition);
    }
    int waiting[THREADS_MAX];
    int count = 0;
    for (int i = 0; i < s.count; i++) {
        if (s.threads[i].state == BLOCKED && s.threads[i].on == condition) {
            waiting[count++] = i;
        }
    }
    if (count > 0) {
        s.threads[waiting[draw(&s.random) % (uint64_t)count]].state = READY;
    }
    maybe_yield();
    return 0;
}

int __wrap_pthread_cond_broadcast(pthread_cond_t *condition) {
    if (!scheduled()) {
        return __real_pthread_cond_broadcast(condition);
    }
    wake_all(condition);
    maybe_yield();
    return 0;
}

/* --- weir_signal: its flag, without the descriptor ------------------------------------------- */

void __wrap_weir_signal_raise(struct weir_signal *signal) {
    if (!scheduled()) {
        __real_weir_signal_raise(signal);
        return;
    }
    signal->raised = 1;
    wake_all(signal);
    maybe_yield();
}

bool __wrap_weir_signal_wait(struct weir_signal *signal, int timeout_ms) {
    if (!scheduled()) {
        return __real_weir_signal_wait(signal, timeout_ms);
    }
    if (signal->raised == 0 && timeout_ms != 0) {
        (void)block(signal, "weir_signal_wait",
                    timeout_ms < 0 ? NEVER : s.now_ns + (int64_t)timeout_ms * 1000000);
    } else {
        maybe_yield();
    }
    bool raised = signal->raised != 0;
    signal->raised = 0;
    return raised;
}

void __wrap_weir_signal_clear(struct weir_signal *signal) {
    if (scheduled()) {
        signal->raised = 0;
    } else {
        __real_weir_signal_clear(signal);
    }
}

/* --- time and chance ------------------------------------------------------------------------- */

int __wrap_clock_gettime(clockid_t clock, struct timespec *out) {
    if (!scheduled()) {
        return __real_clock_gettime(clock, out);
    }
    s.now_ns += (int64_t)(draw(&s.random) % LOOK_NS);
    bool of_processor =
        clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC; /* times that are summed */
    out->tv_sec = (of_processor ? 0 : START_S) + s.now_ns / 1000000000;
    out->tv_nsec = s.now_ns % 1000000000;
    return 0;
}

int __wrap_nanosleep(const struct timespec *duration, struct timespec *left) {
    if (!scheduled()) {
        return __real_nanosleep(duration, left);
    }
    schedule_sleep((int64_t)duration->tv_sec * 1000000000 + duration->tv_nsec);
    return 0;
}

ssize_t __wrap_getrandom(void *bytes, size_t size, unsigned flags) {
    if (!scheduled()) {
        return __real_getrandom(bytes, size, flags);
    }
    for (size_t i = 0; i < size; i++) {
        ((uint8_t *)bytes)[i] = (uint8_t)draw(&s.bytes);
    }
    return (ssize_t)size;
}
