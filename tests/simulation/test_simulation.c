/* The whole pipeline as a function of a seed: loop, commit protocol, sources, sinks, snapshots,
 * every thread of them under one scheduler and one clock (schedule.h), on a machine whose power
 * goes, whose syncs fail, whose disk fills up or takes its time (machine.h). Whatever happens, what
 * is started on the rest and runs to the end must leave the tables of an undisturbed run.
 *
 * WEIR_SIM_SEEDS=n        so many seeds (40; a thousand in `make test`)
 * WEIR_SIM_SEED=s         that seed alone: it happens exactly as it did
 * WEIR_SIM_SHARD=i/n      every n-th seed from the i-th on, for processes side by side */
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "core/clock.h"
#include "machine.h"
#include "schedule.h"
#include "script/script.h"
#include "unreliable.h"

enum { SEEDS = 40, LIVES_MAX = 4, REPEATED = 5 };

static struct {
    uint64_t losses;
    uint64_t failures;
    uint64_t lies;
    uint64_t switches;
} seen;

/* One operation in thirty takes up to 50 ms, one in a thousand up to 5 s. */
static void take_time(struct machine *m) {
    uint64_t roll = draw(&m->slow) % 1000;
    if (roll == 0) {
        schedule_sleep((int64_t)(draw(&m->slow) % 5000000000u));
    } else if (roll < 33) {
        schedule_sleep((int64_t)(draw(&m->slow) % 50000000u));
    }
}

/* What goes wrong in one life of a process. */
enum trouble { POWER, SYNC, SPACE, STORE };

/* What happens to one machine until all input is read; returns what the scheduler's trace is. */
static uint64_t simulate(uint64_t seed) {
    uint64_t state = seed;
    struct machine m;
    machine_init(&m, (enum program)(seed / 2 % PROGRAMS), draw(&state)); /* of both shards */
    schedule_begin(draw(&state));
    if (draw(&state) % 2 == 0) {
        m.before = take_time;
        m.slow = draw(&state);
    }
    struct unreliable unreliable; /* it lies in half of all runs, in every life */
    unreliable_init(&unreliable, m.store, draw(&state));
    unreliable.lies = draw(&state) % 2 == 0 ? (uint32_t)(draw(&state) % 200) : 0;
    m.between = &unreliable.head;
    int lives = (int)(draw(&state) % (LIVES_MAX + 1));
    for (int i = 0; i < lives; i++) {
        struct weir_error err = {0};
        uint64_t span = (uint64_t)undisturbed_operations(&m);
        uint64_t kind = draw(&state) % 10;
        enum trouble trouble = kind < 7 ? POWER : kind < 8 ? SYNC : kind < 9 ? SPACE : STORE;
        span = draw(&state) % 3 == 0 ? span / 20 : span; /* often while it recovers */
        if (trouble == POWER) {
            atomic_store(&m.left, (int_fast64_t)(draw(&state) % span));
        } else if (trouble == SYNC) {
            weir_files_sim_fail_sync(m.files, 1 + draw(&state) % 100);
        } else if (trouble == STORE) {
            unreliable.fails = 1 + (uint32_t)(draw(&state) % 10);
        } else {
            weir_files_sim_set_space(m.files, draw(&state) % (1u << 20));
        }
        int rc = machine_live(&m, &err);
        bool off = atomic_load(&m.off);
        if (trouble == POWER && rc != WEIR_OK && !off) {
            fail_msg("%s: stops with power on: %s", current_run, err.message);
        }
        seen.losses += off;
        seen.failures += rc != WEIR_OK && !off;
        atomic_store(&m.left, -1);
        unreliable.fails = 0;
        weir_files_sim_fail_sync(m.files, 0);
        weir_files_sim_set_space(m.files, UINT64_MAX);
        if (off || draw(&state) % 2 == 0) {
            machine_lose_power(&m, &state);
        }
        if (rc == WEIR_OK) { /* all of it was said to be durable and visible */
            assert_undisturbed_tables(&m, "said to be done");
        }
    }
    machine_to_the_end(&m);
    seen.lies += unreliable.lied;
    seen.switches += schedule_switches();
    uint64_t trace = schedule_end();
    machine_fini(&m);
    return trace;
}

/* Of all threads. */
static int64_t cpu_ns(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * INT64_C(1000000000) +
           (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * INT64_C(1000);
}

static uint64_t run_one(uint64_t seed) {
    snprintf(current_run, sizeof(current_run), "WEIR_SIM_SEED=%llu", (unsigned long long)seed);
    return simulate(seed);
}

static void nothing_is_lost_or_doubled_whatever_the_seed(void **state) {
    (void)state;
    const char *only = getenv("WEIR_SIM_SEED");
    const char *many = getenv("WEIR_SIM_SEEDS");
    const char *shard = getenv("WEIR_SIM_SHARD");
    uint64_t count = many != NULL ? strtoull(many, NULL, 10) : SEEDS;
    unsigned long long first = 0;
    unsigned long long step = 1;
    if (shard != NULL && (sscanf(shard, "%llu/%llu", &first, &step) != 2 || step == 0)) {
        fail_msg("WEIR_SIM_SHARD=%s is not like 0/2", shard);
    }
    if (only != NULL) {
        uint64_t trace = run_one(strtoull(only, NULL, 10));
        print_message("%s: trace %llx\n", current_run, (unsigned long long)trace);
        return;
    }
    int64_t start_ns = weir_clock_mono_ns();
    int64_t cpu_start_ns = cpu_ns();
    uint64_t seeds = 0;
    for (uint64_t seed = 1 + first; seed <= count; seed += step) {
        (void)run_one(seed);
        seeds++;
    }
    double seconds = (double)(weir_clock_mono_ns() - start_ns) / 1e9;
    double cpu_ms = (double)(cpu_ns() - cpu_start_ns) / 1e6 / (double)(seeds > 0 ? seeds : 1);
    print_message("%llu seeds in %.1f s (%.0f a minute; %.1f ms of CPU each), %llu power losses, "
                  "%llu other failures, "
                  "%llu lies of the store, %llu switches of threads\n",
                  (unsigned long long)seeds, seconds, (double)seeds * 60 / seconds, cpu_ms,
                  (unsigned long long)seen.losses, (unsigned long long)seen.failures,
                  (unsigned long long)seen.lies, (unsigned long long)seen.switches);
    assert_true(seen.losses > 0);
    assert_true(seen.failures > 0);
    assert_true(seen.lies > 0);
}

static void a_seed_happens_again_exactly(void **state) {
    (void)state;
    uint64_t traces[REPEATED];
    for (uint64_t seed = 0; seed < REPEATED; seed++) {
        traces[seed] = run_one(seed + 1);
    }
    for (uint64_t seed = 0; seed < REPEATED; seed++) { /* not even by what ran before it */
        assert_int_equal(run_one(seed + 1), traces[seed]);
    }
}

static void the_undisturbed_run_has_every_kind_of_table(void **state) {
    (void)state;
    assert_every_kind_of_table();
}

/* How long an undisturbed run is decides when the power goes, so it is scheduled as well. */
static int set_up(void **state) {
    schedule_begin(0);
    int failed = project_set_up(state);
    (void)schedule_end();
    return failed;
}

/* One thread runs at a time: handing over is cheaper where it last ran. */
static void stay_on_one_processor(void) {
    cpu_set_t set;
    int here = sched_getcpu();
    if (here >= 0) {
        CPU_ZERO(&set);
        CPU_SET(here, &set);
        (void)sched_setaffinity(0, sizeof(set), &set);
    }
}

int main(void) {
    weir_script_block_signals();
    stay_on_one_processor();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_undisturbed_run_has_every_kind_of_table),
        cmocka_unit_test(a_seed_happens_again_exactly),
        cmocka_unit_test(nothing_is_lost_or_doubled_whatever_the_seed),
    };
    return cmocka_run_group_tests(tests, set_up, project_tear_down);
}
