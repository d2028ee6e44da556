/* Snapshots and recovery: fuzzy begin and end, fallback from damage, and a power loss at any
 * operation. The state here is one counter per key, its images absolute, as the state room's. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "commit/recover.h"
#include "core/fault.h"
#include "core/file_sim.h"
#include "core/log.h"

#define KEYS 16u

/* State after epoch e: key e % KEYS was set to e, the rest as before. */
struct state {
    uint64_t values[KEYS];
};

static void state_step(struct state *state, uint64_t epoch) {
    state->values[epoch % KEYS] = epoch;
}

struct image {
    uint64_t key;
    uint64_t value;
};

struct world {
    struct weir_files_sim *sim;
    struct weir_ledger *ledger;
    struct weir_snapshots *snapshots;
    struct weir_recovery *recovery;
    struct state state;
    uint64_t slices;
};

static int apply_image(struct state *state, struct weir_span bytes, struct weir_error *err) {
    for (size_t at = 0; at + sizeof(struct image) <= bytes.size; at += sizeof(struct image)) {
        struct image image;
        memcpy(&image, bytes.data + at, sizeof image);
        if (image.key >= KEYS) {
            return weir_error_set(err, WEIR_E_CORRUPT, "key");
        }
        state->values[image.key] = image.value;
    }
    return WEIR_OK;
}

static int apply_slice(void *context, struct weir_span table, struct weir_span bytes,
                       struct weir_error *err) {
    struct world *world = context;
    (void)table;
    world->slices++;
    return apply_image(&world->state, bytes, err);
}

static int apply_record(void *context, const struct weir_record_view *record,
                        struct weir_error *err) {
    struct world *world = context;
    struct weir_section_iterator it = weir_section_iterate(record->images);
    struct weir_named_blob blob;
    int rc = WEIR_OK;
    while (rc == WEIR_OK && weir_image_next(&it, &blob)) {
        rc = apply_image(&world->state, blob.body, err);
    }
    return rc;
}

static void world_close(struct world *world) {
    weir_recovery_destroy(world->recovery);
    weir_snapshots_close(world->snapshots);
    weir_ledger_close(world->ledger);
    world->recovery = NULL;
    world->snapshots = NULL;
    world->ledger = NULL;
}

static int world_open(struct world *world, struct weir_error *err) {
    struct weir_files *files = weir_files_sim_files(world->sim);
    struct weir_ledger_options options = {.path = "w/ledger",
                                          .files = files,
                                          .create = true,
                                          .segment_bytes = 8 * 4096,
                                          .fill_bytes = 4096};
    memset(&world->state, 0, sizeof world->state);
    world->slices = 0;
    int rc = weir_ledger_open(&options, &world->ledger, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    struct weir_snapshots_options where = {
        .path = "w/snapshots", .files = files, .identity = world->ledger->identity};
    rc = weir_snapshots_open(&where, &world->snapshots, err);
    if (rc == WEIR_OK) {
        struct weir_recovery_hooks hooks = {world, apply_slice, apply_record};
        rc = weir_recover(world->ledger, world->snapshots, &hooks, &world->recovery, err);
    }
    return rc;
}

static int write_epoch(struct world *world, uint64_t epoch, struct weir_error *err) {
    struct weir_record *record = NULL;
    const struct iovec *parts;
    int count;
    uint64_t size;
    struct image image = {epoch % KEYS, epoch};
    struct weir_blob blob = {.data = &image, .size = sizeof image};
    struct weir_span effect = {(const uint8_t *)"add", 3};
    assert_int_equal(weir_record_create(epoch, NULL, &record, err), WEIR_OK);
    weir_record_set_sealed_at(record, (int64_t)epoch);
    assert_int_equal(weir_record_put_bytes(record, WEIR_SECTION_POSITIONS, "src/0", 5, &epoch,
                                           sizeof epoch, err),
                     WEIR_OK);
    if (epoch == 1) { /* moves once: only a snapshot carries it later */
        assert_int_equal(
            weir_record_put_bytes(record, WEIR_SECTION_POSITIONS, "src/1", 5, "once", 4, err),
            WEIR_OK);
    }
    assert_int_equal(
        weir_record_put_int(record, WEIR_SECTION_MARKERS, "sink", 4, (int64_t)epoch - 1, err),
        WEIR_OK);
    assert_int_equal(weir_record_take_image(record, "t/c", 3, &blob, err), WEIR_OK);
    assert_int_equal(weir_record_add_effect(record, "sink", 4, 1, effect, err), WEIR_OK);
    assert_int_equal(weir_record_finish(record, &parts, &count, &size, err), WEIR_OK);
    int rc = weir_ledger_append(world->ledger, epoch, (int64_t)epoch, parts, count, err);
    weir_record_destroy(record);
    if (rc == WEIR_OK) {
        state_step(&world->state, epoch);
    }
    return rc;
}

/* Dumps the state fuzzily: half of the keys before two more epochs, half after. */
static int take_snapshot(struct world *world, uint64_t *epoch, struct weir_error *err) {
    struct weir_snapshot_writer *writer = NULL;
    struct weir_record *state = NULL;
    uint64_t begin = *epoch + 1; /* the open one */
    int rc = weir_snapshot_begin(world->snapshots, begin, 0, &writer, err);
    for (uint64_t key = 0; rc == WEIR_OK && key < KEYS; key++) {
        struct image image = {key, world->state.values[key]};
        rc = weir_snapshot_append(writer, "t/c", 3, &image, sizeof image, err);
        if (rc == WEIR_OK && (key == 5 || key == 10)) {
            rc = write_epoch(world, *epoch + 1, err);
            *epoch += rc == WEIR_OK ? 1 : 0;
        }
    }
    if (rc == WEIR_OK) {
        uint64_t end = *epoch + 1;
        assert_int_equal(weir_record_create(end, NULL, &state, err), WEIR_OK);
        assert_int_equal(weir_record_put_bytes(state, WEIR_SECTION_POSITIONS, "src/0", 5, epoch,
                                               sizeof *epoch, err),
                         WEIR_OK);
        assert_int_equal(
            weir_record_put_bytes(state, WEIR_SECTION_POSITIONS, "src/1", 5, "once", 4, err),
            WEIR_OK);
        rc = weir_snapshot_end(writer, state, err);
        weir_record_destroy(state);
        if (rc == WEIR_OK) {
            assert_int_equal(weir_snapshot_publish(writer, end - 1, err), WEIR_E_USAGE);
            rc = write_epoch(world, end, err);
        }
        if (rc == WEIR_OK) {
            *epoch = end;
            rc = weir_snapshot_publish(writer, end, err);
            writer = rc == WEIR_OK ? NULL : writer;
        }
    }
    weir_snapshot_abandon(writer);
    if (rc == WEIR_OK) {
        rc = weir_ledger_trim(world->ledger, weir_snapshots_oldest_begin(world->snapshots),
                              INT64_MAX, err);
    }
    return rc;
}

static void check_world(struct world *world, uint64_t epochs) {
    struct state want = {{0}};
    struct weir_keyed_entry entry;
    uint64_t position;
    for (uint64_t e = 1; e <= epochs; e++) {
        state_step(&want, e);
    }
    assert_int_equal(weir_recovery_last(world->recovery), epochs);
    assert_memory_equal(&want, &world->state, sizeof want);
    assert_int_equal(weir_recovery_count(world->recovery, WEIR_SECTION_POSITIONS),
                     epochs > 0 ? 2 : 0);
    if (epochs > 0) {
        assert_true(
            weir_recovery_find(world->recovery, WEIR_SECTION_POSITIONS, "src/0", 5, &entry));
        memcpy(&position, entry.body.data, sizeof position);
        assert_int_equal(position, epochs);
        assert_true(
            weir_recovery_find(world->recovery, WEIR_SECTION_POSITIONS, "src/1", 5, &entry));
        assert_int_equal(weir_recovery_sealed_at_us(world->recovery), epochs);
    }
}

static void must(int rc, const struct weir_error *err) {
    if (rc != WEIR_OK) {
        fail_msg("%s", err->message);
    }
}

static void begin_world(struct world *world, uint64_t seed) {
    struct weir_error err = {0};
    memset(world, 0, sizeof *world);
    world->sim = weir_files_sim_create(seed);
    assert_non_null(world->sim);
    must(world_open(world, &err), &err);
}

static void a_fuzzy_snapshot_plus_its_records_is_the_state_at_the_end(void **unused) {
    (void)unused;
    struct world world;
    struct weir_error err = {0};
    uint64_t epoch = 0;
    begin_world(&world, 1);
    for (int i = 0; i < 4; i++) {
        for (int k = 0; k < 7; k++) {
            must(write_epoch(&world, epoch + 1, &err), &err);
            epoch++;
        }
        must(take_snapshot(&world, &epoch, &err), &err);
    }
    assert_true(world.ledger->first > 1); /* trimmed: only the snapshots know the start */
    world_close(&world);
    must(world_open(&world, &err), &err);
    check_world(&world, epoch);
    assert_int_equal(world.slices, KEYS);
    assert_int_equal(weir_recovery_snapshot_end(world.recovery), epoch);
    assert_int_equal(weir_recovery_records_applied(world.recovery), 3);
    world_close(&world);
    weir_files_sim_destroy(world.sim);
}

static void a_damaged_snapshot_falls_back_to_the_one_before(void **unused) {
    (void)unused;
    static const uint64_t places[] = {0, 30, 4096 + 20, 4096 + 40, 4096 + 56 * 16 + 40};
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        struct world world;
        struct weir_error err = {0};
        char path[128];
        uint64_t epoch = 0;
        begin_world(&world, 1);
        for (int k = 0; k < 2; k++) {
            must(write_epoch(&world, epoch + 1, &err), &err);
            epoch++;
            must(take_snapshot(&world, &epoch, &err), &err);
        }
        uint64_t newest = weir_snapshots_newest_end(world.snapshots);
        world_close(&world);
        snprintf(path, sizeof path, "w/snapshots/%020" PRIu64 ".snap", newest);
        assert_true(weir_files_sim_damage(world.sim, path, places[i], 1));
        must(world_open(&world, &err), &err);
        check_world(&world, epoch);
        assert_int_equal(weir_recovery_damaged_snapshots(world.recovery), 1);
        assert_true(weir_recovery_snapshot_end(world.recovery) < newest);
        world_close(&world);
        weir_files_sim_destroy(world.sim);
    }
}

static int count_effect(void *context, uint64_t record, uint64_t kind, struct weir_span body,
                        struct weir_error *err) {
    uint64_t *next = context;
    (void)err;
    assert_int_equal(record, *next);
    assert_int_equal(kind, 1);
    assert_int_equal(body.size, 3);
    (*next)++;
    return WEIR_OK;
}

static void
a_sink_gets_the_effects_beyond_its_marker_and_impossible_markers_are_refused(void **unused) {
    (void)unused;
    struct world world;
    struct weir_error err = {0};
    begin_world(&world, 1);
    for (uint64_t e = 1; e <= 9; e++) {
        must(write_epoch(&world, e, &err), &err); /* the ledger knows 8 as done */
    }
    world_close(&world);
    must(world_open(&world, &err), &err);
    uint64_t next = 9;
    must(weir_recovery_effects(world.recovery, "sink", 8, count_effect, &next, &err), &err);
    assert_int_equal(next, 10);
    must(weir_recovery_effects(world.recovery, "sink", 9, count_effect, &next, &err), &err);
    assert_int_equal(next, 10);
    assert_int_equal(weir_recovery_effects(world.recovery, "sink", 10, count_effect, &next, &err),
                     WEIR_E_STATE);
    assert_non_null(strstr(err.message, "the ledger ends at 9"));
    assert_int_equal(weir_recovery_effects(world.recovery, "sink", 0, count_effect, &next, &err),
                     WEIR_E_STATE);
    assert_non_null(strstr(err.message, "knows 8 as done"));
    must(weir_recovery_effects(world.recovery, "new sink", 0, count_effect, &next, &err), &err);
    world_close(&world);
    weir_files_sim_destroy(world.sim);
}

static void every_snapshot_fault_point_leaves_what_was_there(void **unused) {
    (void)unused;
    static const enum weir_fault_point points[] = {WEIR_FAULT_snapshot_begin,
                                                   WEIR_FAULT_snapshot_before_publish,
                                                   WEIR_FAULT_snapshot_after_publish};
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        struct world world;
        struct weir_error err = {0};
        uint64_t epoch = 0;
        begin_world(&world, 1);
        must(write_epoch(&world, ++epoch, &err), &err);
        must(take_snapshot(&world, &epoch, &err), &err);
        weir_fault_arm(points[i], weir_fault_hits(points[i]) + 1, false);
        assert_int_equal(take_snapshot(&world, &epoch, &err), WEIR_E_FAULT);
        world_close(&world);
        weir_files_sim_power_loss(world.sim);
        must(world_open(&world, &err), &err);
        check_world(&world, epoch);
        world_close(&world);
        weir_files_sim_destroy(world.sim);
    }
    weir_fault_arm(WEIR_FAULT_snapshot_begin, 0, false);
}

static void a_power_loss_at_any_operation_recovers_the_exact_state(void **unused) {
    (void)unused;
    int crashes = 0;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        struct world world;
        struct weir_error err = {0};
        uint64_t epoch = 0;
        begin_world(&world, seed);
        for (int life = 0; life < 4; life++) {
            uint64_t draw = (seed * 2654435761u + (uint64_t)life * 40503u) >> 3;
            weir_files_sim_crash_after(world.sim, 1 + draw % 120);
            int rc = WEIR_OK;
            for (int i = 0; i < 12 && rc == WEIR_OK; i++) {
                rc = i % 4 == 3 ? take_snapshot(&world, &epoch, &err)
                                : write_epoch(&world, epoch + 1, &err);
                epoch += rc == WEIR_OK && i % 4 != 3 ? 1 : 0;
            }
            crashes += weir_files_sim_crashed(world.sim);
            world_close(&world);
            weir_files_sim_power_loss(world.sim);
            if (world_open(&world, &err) != WEIR_OK) {
                fail_msg("seed %" PRIu64 " life %d: %s", seed, life, err.message);
            }
            uint64_t last = weir_recovery_last(world.recovery);
            assert_in_range(last, epoch, epoch + 1);
            epoch = last;
            check_world(&world, epoch);
        }
        world_close(&world);
        weir_files_sim_destroy(world.sim);
    }
    assert_true(crashes > 400);
}

int main(void) {
    weir_log_set_level(WEIR_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_fuzzy_snapshot_plus_its_records_is_the_state_at_the_end),
        cmocka_unit_test(a_damaged_snapshot_falls_back_to_the_one_before),
        cmocka_unit_test(
            a_sink_gets_the_effects_beyond_its_marker_and_impossible_markers_are_refused),
        cmocka_unit_test(every_snapshot_fault_point_leaves_what_was_there),
        cmocka_unit_test(a_power_loss_at_any_operation_recovers_the_exact_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
