/* The whole pipeline, in process, on disks that forget what was not synced (machine.h), with
 * threads as the system runs them. Also syncs that fail and a disk that fills up.
 *
 * WEIR_POWER_SEEDS=n      so many seeds, however long it takes (else as many as fit in a while)
 * WEIR_POWER_SEED=s       that seed alone. Threads take turns as they like, so a seed repeats what
 *                         is lost, and only about when: run it some times. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "core/clock.h"
#include "machine.h"
#include "script/script.h"

enum { SEEDS = 400, SECONDS = 40, LIVES_MAX = 4 };

/* Up to some power losses in a row, so that recoveries are cut short as well. */
static int power_losses(uint64_t seed) {
    uint64_t state = seed;
    struct machine m;
    machine_init(&m, (enum program)(seed % PROGRAMS), draw(&state));
    int lives = 1 + (int)(draw(&state) % LIVES_MAX);
    int losses = 0;
    for (int i = 0; i < lives; i++) {
        struct weir_error err = {0};
        uint64_t span = (uint64_t)undisturbed_operations(&m);
        span = draw(&state) % 3 == 0 ? span / 20 : span; /* often while it recovers */
        atomic_store(&m.left, (int_fast64_t)(draw(&state) % span));
        int rc = machine_live(&m, &err);
        bool off = atomic_load(&m.off);
        if (rc != WEIR_OK && !off) {
            fail_msg("%s: stops with power on: %s", current_run, err.message);
        }
        losses += off;
        machine_lose_power(&m, &state);
        if (rc == WEIR_OK) { /* all of it was said to be durable and visible */
            assert_undisturbed_tables(&m, "said to be done");
        }
    }
    machine_to_the_end(&m);
    machine_fini(&m);
    return losses;
}

static int failed_sync(uint64_t seed) {
    uint64_t state = seed;
    struct machine m;
    struct weir_error err = {0};
    machine_init(&m, (enum program)(seed % PROGRAMS), draw(&state));
    weir_files_sim_fail_sync(m.files, 1 + draw(&state) % 100);
    int rc = machine_live(&m, &err);
    weir_files_sim_fail_sync(m.files, 0);
    if (draw(&state) % 2 == 0) {
        machine_lose_power(&m, &state);
    }
    machine_to_the_end(&m);
    machine_fini(&m);
    return rc != WEIR_OK;
}

static int no_space(uint64_t seed) {
    uint64_t state = seed;
    struct machine m;
    struct weir_error err = {0};
    machine_init(&m, (enum program)(seed % PROGRAMS), draw(&state));
    weir_files_sim_set_space(m.files, draw(&state) % (1u << 20));
    int rc = machine_live(&m, &err);
    weir_files_sim_set_space(m.files, UINT64_MAX);
    machine_to_the_end(&m);
    machine_fini(&m);
    return rc != WEIR_OK;
}

static int run_one(int (*one)(uint64_t seed), uint64_t seed) {
    snprintf(current_run, sizeof(current_run), "WEIR_POWER_SEED=%llu", (unsigned long long)seed);
    return one(seed);
}

/* Runs `one` over seeds; what share of time it may take is `percent`. */
static void over_seeds(int (*one)(uint64_t seed), const char *what, int percent) {
    const char *only = getenv("WEIR_POWER_SEED");
    const char *many = getenv("WEIR_POWER_SEEDS");
    uint64_t count = many != NULL ? strtoull(many, NULL, 10) : SEEDS;
    count = (count * (uint64_t)percent + 99) / 100;
    int64_t until = weir_clock_mono_ns() + INT64_C(10000000) * SECONDS * percent;
    uint64_t seeds = 0;
    int hits = 0;
    if (only != NULL) {
        hits = run_one(one, strtoull(only, NULL, 10));
        seeds = 1;
    }
    for (uint64_t seed = 1; only == NULL && seed <= count; seed++) {
        if (many == NULL && weir_clock_mono_ns() > until) {
            break;
        }
        hits += run_one(one, seed);
        seeds++;
    }
    print_message("%s: %llu seeds, %d hits\n", what, (unsigned long long)seeds, hits);
    assert_true(hits > 0 || only != NULL);
}

static void the_undisturbed_run_has_every_kind_of_table(void **state) {
    (void)state;
    assert_every_kind_of_table();
}

static void a_power_loss_loses_and_doubles_nothing(void **state) {
    (void)state;
    over_seeds(power_losses, "power losses", 80);
}

static void a_sync_that_fails_stops_the_run_and_loses_nothing(void **state) {
    (void)state;
    over_seeds(failed_sync, "failed syncs", 10);
}

static void a_full_disk_stops_the_run_and_loses_nothing(void **state) {
    (void)state;
    over_seeds(no_space, "full disks", 10);
}

int main(void) {
    weir_script_block_signals();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_undisturbed_run_has_every_kind_of_table),
        cmocka_unit_test(a_power_loss_loses_and_doubles_nothing),
        cmocka_unit_test(a_sync_that_fails_stops_the_run_and_loses_nothing),
        cmocka_unit_test(a_full_disk_stops_the_run_and_loses_nothing),
    };
    return cmocka_run_group_tests(tests, project_set_up, project_tear_down);
}
