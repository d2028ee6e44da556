/* The ledger on a disk that forgets: thousands of seeded runs of write, sync, crash, recover. What
 * must hold after every one: each record whose append returned is there, in order, byte for byte;
 * at most one more follows, and it is the one that was being written; lineage is kept; a failed
 * sync ends the incarnation. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "commit/ledger.h"
#include "core/file_sim.h"
#include "core/log.h"

#define LEDGER_PATH "store/ledger"
#define MAX_BYTES 30000u

static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static uint64_t draw(uint64_t *state) {
    return mix(*state += 0x9e3779b97f4a7c15u);
}

/* A record's bytes follow from seed, number and attempt alone. */
static size_t fill_record(uint64_t seed, uint64_t number, uint64_t attempt, uint8_t *out) {
    uint64_t state = mix(seed * 31 + number) + attempt;
    uint64_t shape = draw(&state) % 8;
    size_t size = shape == 0   ? draw(&state) % MAX_BYTES
                  : shape == 1 ? 4096u - 88u
                               : draw(&state) % 3000;
    for (size_t i = 0; i < size; i++) {
        out[i] = shape == 2 ? 0 : (uint8_t)draw(&state);
    }
    return size;
}

static struct weir_ledger *open_ledger(struct weir_files_sim *sim, int *rc,
                                       struct weir_error *err) {
    struct weir_ledger *ledger = NULL;
    struct weir_ledger_options options = {
        .path = LEDGER_PATH,
        .files = weir_files_sim_files(sim),
        .create = true,
        .segment_bytes = 64u << 10,
        .fill_bytes = 16u << 10,
        .max_record_bytes = 1u << 20,
    };
    *rc = weir_ledger_open(&options, &ledger, err);
    return ledger;
}

struct model {
    uint64_t seed;
    uint64_t acknowledged;
    uint64_t attempts[4096]; /* the attempt whose bytes record i holds */
    uint64_t in_flight;      /* attempt of record acknowledged + 1, 0 = none */
    uint64_t trimmed_to;     /* records below may be gone */
    bool has_identity;
    struct weir_ledger_identity identity;
    uint8_t bytes[MAX_BYTES];
};

static void check_model(struct model *model, struct weir_ledger *ledger) {
    struct weir_error err = {0};
    if (model->has_identity) {
        assert_memory_equal(&model->identity, &ledger->identity, sizeof model->identity);
    }
    if (ledger->last != model->acknowledged) {
        if (ledger->last != model->acknowledged + 1 || model->in_flight == 0) {
            fail_msg("seed %llu: %llu acknowledged, ledger ends at %llu",
                     (unsigned long long)model->seed, (unsigned long long)model->acknowledged,
                     (unsigned long long)ledger->last);
        }
        model->attempts[ledger->last] = model->in_flight;
        model->acknowledged++;
    }
    model->in_flight = 0;
    if (ledger->first > (model->trimmed_to > 0 ? model->trimmed_to : 1)) {
        fail_msg("seed %llu: starts at %llu, trimmed only to %llu", (unsigned long long)model->seed,
                 (unsigned long long)ledger->first, (unsigned long long)model->trimmed_to);
    }
    struct weir_ledger_cursor *cursor = NULL;
    assert_int_equal(weir_ledger_cursor_open(ledger, ledger->first, &cursor, &err), WEIR_OK);
    for (uint64_t number = ledger->first; number <= model->acknowledged; number++) {
        struct weir_ledger_frame frame;
        bool end;
        if (weir_ledger_cursor_next(cursor, &frame, &end, &err) != WEIR_OK || end) {
            fail_msg("seed %llu: record %llu: %s", (unsigned long long)model->seed,
                     (unsigned long long)number, err.message);
        }
        size_t size = fill_record(model->seed, number, model->attempts[number], model->bytes);
        assert_int_equal(frame.number, number);
        assert_int_equal(frame.size, size);
        assert_memory_equal(frame.payload, model->bytes, size);
    }
    struct weir_ledger_frame frame;
    bool end = false;
    assert_int_equal(weir_ledger_cursor_next(cursor, &frame, &end, &err), WEIR_OK);
    assert_true(end);
    weir_ledger_cursor_close(cursor);
}

enum trouble { TROUBLE_CRASH, TROUBLE_SYNC, TROUBLE_SPACE, TROUBLE_COUNT };

/* One life of the process: open, check, write until trouble, then lose power (or not). */
static void one_life(struct model *model, struct weir_files_sim *sim, uint64_t *state,
                     uint64_t *troubles) {
    struct weir_error err = {0};
    int rc;
    enum trouble trouble = (enum trouble)(draw(state) % TROUBLE_COUNT);
    weir_files_sim_set_space(sim, UINT64_MAX);
    weir_files_sim_short_transfers(sim, draw(state) % 3 == 0);
    weir_files_sim_crash_after(sim, trouble == TROUBLE_CRASH ? 1 + draw(state) % 60 : 0);
    weir_files_sim_fail_sync(sim, trouble == TROUBLE_SYNC ? 1 + draw(state) % 20 : 0);
    if (trouble == TROUBLE_SPACE) {
        weir_files_sim_set_space(sim, draw(state) % (256u << 10));
    }
    struct weir_ledger *ledger = open_ledger(sim, &rc, &err);
    if (ledger != NULL) {
        check_model(model, ledger);
        model->identity = ledger->identity;
        model->has_identity = true;
        for (int i = 0; i < 40 && rc == WEIR_OK && model->acknowledged + 2 < 4096; i++) {
            uint64_t number = model->acknowledged + 1;
            uint64_t attempt = draw(state) | 1;
            size_t size = fill_record(model->seed, number, attempt, model->bytes);
            struct iovec parts[2] = {{model->bytes, size / 3},
                                     {model->bytes + size / 3, size - size / 3}};
            model->in_flight = attempt;
            rc = weir_ledger_append(ledger, number, (int64_t)number, parts, 2, &err);
            if (rc == WEIR_OK) {
                model->acknowledged = number;
                model->attempts[number] = attempt;
                model->in_flight = 0;
                if (draw(state) % 2 == 0 && weir_ledger_prepare(ledger, &err) != WEIR_OK &&
                    ledger->failed) {
                    rc = WEIR_E_IO;
                }
            }
            if (rc == WEIR_OK && draw(state) % 16 == 0) {
                uint64_t keep = 1 + draw(state) % number;
                model->trimmed_to = keep > model->trimmed_to ? keep : model->trimmed_to;
                rc = weir_ledger_trim(ledger, keep, INT64_MAX, &err);
            }
        }
        if (rc != WEIR_OK && ledger->failed) {
            /* Refuses from here on, whatever is asked. */
            struct iovec none = {model->bytes, 1};
            assert_int_not_equal(weir_ledger_append(ledger, ledger->last + 1, 0, &none, 1, &err),
                                 WEIR_OK);
        }
        weir_ledger_close(ledger);
    } else if (err.code == WEIR_E_CORRUPT) {
        fail_msg("seed %llu: opening after trouble: %s", (unsigned long long)model->seed,
                 err.message);
    }
    if (rc != WEIR_OK) {
        troubles[trouble]++;
    }
    if (weir_files_sim_crashed(sim) || draw(state) % 2 == 0) {
        weir_files_sim_power_loss(sim);
    }
}

static void records_whose_sync_returned_survive_any_crash(void **unused) {
    (void)unused;
    const char *runs_text = getenv("WEIR_CRASH_RUNS");
    const char *seed_text = getenv("WEIR_CRASH_SEED");
    uint64_t runs = runs_text != NULL ? strtoull(runs_text, NULL, 10) : 2000;
    uint64_t first = seed_text != NULL ? strtoull(seed_text, NULL, 10) : 1;
    uint64_t troubles[TROUBLE_COUNT] = {0};
    uint64_t records = 0;
    struct model *model = malloc(sizeof *model);
    assert_non_null(model);
    for (uint64_t seed = first; seed < first + runs; seed++) {
        memset(model, 0, sizeof *model);
        model->seed = seed;
        uint64_t state = seed;
        struct weir_files_sim *sim = weir_files_sim_create(seed);
        assert_non_null(sim);
        for (int life = 0; life < 6; life++) {
            one_life(model, sim, &state, troubles);
        }
        /* A last life without trouble must always open. */
        struct weir_error err = {0};
        int rc;
        weir_files_sim_power_loss(sim);
        weir_files_sim_set_space(sim, UINT64_MAX);
        weir_files_sim_crash_after(sim, 0);
        weir_files_sim_fail_sync(sim, 0);
        struct weir_ledger *ledger = open_ledger(sim, &rc, &err);
        if (ledger == NULL) {
            fail_msg("seed %llu: %s", (unsigned long long)seed, err.message);
        }
        check_model(model, ledger);
        records += model->acknowledged;
        weir_ledger_close(ledger);
        weir_files_sim_destroy(sim);
    }
    free(model);
    print_message("%llu seeds, %llu records, lives ended by crash %llu, sync %llu, space %llu\n",
                  (unsigned long long)runs, (unsigned long long)records,
                  (unsigned long long)troubles[TROUBLE_CRASH],
                  (unsigned long long)troubles[TROUBLE_SYNC],
                  (unsigned long long)troubles[TROUBLE_SPACE]);
    for (int i = 0; i < TROUBLE_COUNT; i++) {
        assert_true(runs < 100 || troubles[i] > runs / 4);
    }
}

/* The simulated disk itself: without a sync, bytes and names do get lost for some seed. */
static void the_simulated_disk_forgets_what_was_not_synced(void **unused) {
    (void)unused;
    int lost_names = 0;
    int lost_bytes = 0;
    int kept_all = 0;
    for (uint64_t seed = 0; seed < 64; seed++) {
        struct weir_files_sim *sim = weir_files_sim_create(seed);
        struct weir_files *files = weir_files_sim_files(sim);
        struct weir_file *file = NULL;
        char text[1024];
        char back[1024] = {0};
        size_t got = 0;
        memset(text, 'x', sizeof text);
        struct iovec part = {text, sizeof text};
        assert_int_equal(files->ops->make_directory(files, "d"), 0);
        assert_int_equal(files->ops->sync_directory(files, "."), 0);
        assert_int_equal(files->ops->open(files, "d/f", WEIR_FILE_CREATE, &file), 0);
        assert_int_equal(weir_file_write_all(file, &part, 1, 0, "d/f", NULL), WEIR_OK);
        file->ops->close(file);
        weir_files_sim_power_loss(sim);
        if (files->ops->open(files, "d/f", WEIR_FILE_READ, &file) != 0) {
            lost_names++;
        } else {
            assert_int_equal(weir_file_read_all(file, back, sizeof back, 0, &got, "d/f", NULL),
                             WEIR_OK);
            if (got == sizeof back && memcmp(back, text, sizeof back) == 0) {
                kept_all++;
            } else {
                lost_bytes++;
            }
            file->ops->close(file);
        }
        weir_files_sim_destroy(sim);
    }
    assert_true(lost_names > 16);
    assert_true(lost_bytes > 8);
    assert_true(kept_all > 0);
}

/* Would the property test notice a ledger that forgets its sync? A file layer whose file sync lies
 * must lose an acknowledged record for some seed. */
static int lying_sync(struct weir_file *file) {
    (void)file;
    return 0;
}

static void a_sync_that_lies_is_found_by_this_store(void **unused) {
    (void)unused;
    int lost = 0;
    for (uint64_t seed = 1; seed <= 32; seed++) {
        struct weir_files_sim *sim = weir_files_sim_create(seed);
        struct weir_files *files = weir_files_sim_files(sim);
        struct weir_error err = {0};
        int rc;
        struct weir_ledger *ledger = open_ledger(sim, &rc, &err);
        assert_non_null(ledger);
        struct iovec part = {(void *)(uintptr_t) "record", 6};
        assert_int_equal(weir_ledger_prepare(ledger, &err), WEIR_OK);
        const struct weir_files_ops *honest = files->ops;
        struct weir_files_ops liar = *honest;
        liar.sync = lying_sync;
        assert_int_equal(weir_ledger_append(ledger, 1, 0, &part, 1, &err), WEIR_OK);
        weir_ledger_close(ledger);
        files->ops = &liar; /* files opened from here on lie */
        ledger = open_ledger(sim, &rc, &err);
        assert_non_null(ledger);
        assert_int_equal(weir_ledger_append(ledger, 2, 0, &part, 1, &err), WEIR_OK);
        weir_ledger_close(ledger);
        files->ops = honest;
        weir_files_sim_power_loss(sim);
        ledger = open_ledger(sim, &rc, &err);
        assert_non_null(ledger);
        lost += ledger->last < 2;
        weir_ledger_close(ledger);
        weir_files_sim_destroy(sim);
    }
    assert_true(lost > 4);
}

/* Killed between making a directory and syncing its parent: who finds it must not trust it. */
static void a_path_that_was_made_stays_whoever_made_its_parts(void **unused) {
    (void)unused;
    for (uint64_t seed = 1; seed <= 64; seed++) {
        struct weir_error err = {0};
        struct weir_files_sim *sim = weir_files_sim_create(seed);
        struct weir_files *files = weir_files_sim_files(sim);
        assert_int_equal(files->ops->make_directory(files, "a"), 0);
        assert_int_equal(files->ops->make_directory(files, "a/b"), 0);
        weir_files_sim_process_loss(sim);
        assert_int_equal(weir_files_make_path(files, "a/b/c", &err), WEIR_OK);
        weir_files_sim_power_loss(sim);
        assert_int_equal(files->ops->make_directory(files, "a/b/c"), -EEXIST);
        weir_files_sim_destroy(sim);
    }
}

int main(void) {
    weir_log_set_level(WEIR_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_path_that_was_made_stays_whoever_made_its_parts),
        cmocka_unit_test(the_simulated_disk_forgets_what_was_not_synced),
        cmocka_unit_test(a_sync_that_lies_is_found_by_this_store),
        cmocka_unit_test(records_whose_sync_returned_survive_any_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
