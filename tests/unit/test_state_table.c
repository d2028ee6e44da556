/* State tables against a model: whatever the interleaving of changes, seals, slices of collection
 * and of a fuzzy snapshot, what is recovered is the state at the seal, sequences included. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "random.h"
#include "state/table.h"

enum { KEYS = 400, EPOCHS = 40, KEY_ROOM = 96 };

struct model_key {
    uint64_t sequence; /* 0: not there */
    uint64_t value[2];
};

struct model {
    struct model_key keys[KEYS];
    uint64_t next_sequence;
    size_t live;
};

/* Some keys fit the slot, some need the heap. */
static size_t key_of(int k, char *key) {
    int length = snprintf(key, KEY_ROOM, "key-%d-%.*s", k, (k % 7) * 10,
                          "................................................................");
    return (size_t)length;
}

static struct weir_table *make_table(size_t max_keys, size_t max_bytes, uint64_t shape) {
    struct weir_error err = {0};
    struct weir_table_config config = {
        .declaration = "gold.test",
        .cell = "window",
        .shape = shape,
        .value_bytes = 16,
        .max_keys = max_keys,
        .max_bytes = max_bytes,
        .option = "pipeline.memory.state",
    };
    struct weir_table *table = weir_table_create(&config, &err);
    assert_non_null(table);
    return table;
}

static struct weir_slot *get(struct weir_table *table, const char *key, size_t length,
                             bool *created) {
    struct weir_error err = {0};
    struct weir_slot *slot =
        weir_table_get(table, weir_table_hash(table, key, length), key, length, created, &err);
    assert_non_null(slot);
    return slot;
}

static struct weir_slot *find(const struct weir_table *table, const char *key, size_t length) {
    return weir_table_find(table, weir_table_hash(table, key, length), key, length);
}

static void write_key(struct weir_table *table, struct model *model, int k) {
    char key[KEY_ROOM];
    size_t length = key_of(k, key);
    bool created;
    struct weir_slot *slot = get(table, key, length, &created);
    assert_int_equal(created, model->keys[k].sequence == 0);
    if (created) {
        model->keys[k] = (struct model_key){.sequence = model->next_sequence++};
        model->live++;
    } else {
        assert_int_equal(weir_table_touch(table, slot), WEIR_OK);
    }
    assert_int_equal(slot->sequence, model->keys[k].sequence);
    model->keys[k].value[below(2)] = next_random();
    memcpy(weir_slot_value(table, slot), model->keys[k].value, 16);
}

static void delete_key(struct weir_table *table, struct model *model, int k) {
    char key[KEY_ROOM];
    size_t length = key_of(k, key);
    struct weir_slot *slot = find(table, key, length);
    assert_int_equal(slot != NULL, model->keys[k].sequence != 0);
    if (slot != NULL) {
        assert_int_equal(weir_table_delete(table, slot, false), WEIR_OK);
        model->keys[k].sequence = 0;
        model->live--;
    }
}

static void assert_same(struct weir_table *table, const struct model *model) {
    assert_int_equal(weir_table_keys(table), model->live);
    for (int k = 0; k < KEYS; k++) {
        char key[KEY_ROOM];
        size_t length = key_of(k, key);
        struct weir_slot *slot = find(table, key, length);
        assert_int_equal(slot != NULL, model->keys[k].sequence != 0);
        if (slot != NULL) {
            assert_int_equal(slot->sequence, model->keys[k].sequence);
            assert_memory_equal(weir_slot_value(table, slot), model->keys[k].value, 16);
        }
    }
    bool created;
    struct weir_slot *slot = get(table, "fresh", 5, &created);
    assert_true(created);
    assert_int_equal(slot->sequence, model->next_sequence);
}

static void apply(struct weir_table *table, const struct weir_buffer *bytes) {
    struct weir_error err = {0};
    /* twice: redo must be idempotent */
    for (int i = 0; i < 2; i++) {
        int rc = weir_table_apply(table, bytes->data, bytes->size, &err);
        if (rc != WEIR_OK) {
            fail_msg("%s", err.message);
        }
    }
}

struct snapshot {
    struct weir_buffer bytes;
    struct weir_cell_cursor cursor;
    int begin;
    int end;
    bool running;
    bool complete;
};

struct world {
    struct weir_table *table;
    struct model model;
    struct model at_seal[EPOCHS];
    struct weir_buffer records[EPOCHS];
    struct snapshot snapshot;
    int open;    /* epoch number */
    bool sealed; /* open - 1 is being collected */
};

static void step_snapshot(struct world *world) {
    struct snapshot *snapshot = &world->snapshot;
    struct weir_error err = {0};
    if (!snapshot->running) {
        weir_buffer_clear(&snapshot->bytes);
        *snapshot =
            (struct snapshot){.bytes = snapshot->bytes, .begin = world->open, .running = true};
    }
    bool done;
    assert_int_equal(weir_table_dump(world->table, &snapshot->cursor, &snapshot->bytes,
                                     1 + below(60), &done, &err),
                     WEIR_OK);
    if (done) {
        snapshot->running = false;
        snapshot->complete = true;
        snapshot->end = world->open;
    }
}

static void recover(struct world *world, int epoch) {
    struct weir_table *table = make_table(0, 0, 7);
    int from = 0;
    if (world->snapshot.complete && epoch >= world->snapshot.end) {
        apply(table, &world->snapshot.bytes);
        from = world->snapshot.begin;
    }
    for (int e = from; e <= epoch; e++) {
        apply(table, &world->records[e]);
    }
    assert_same(table, &world->at_seal[epoch]);
    weir_table_destroy(table);
}

static void step_collect(struct world *world) {
    struct weir_error err = {0};
    bool done;
    assert_int_equal(weir_table_collect(world->table, &world->records[world->open - 1],
                                        1 + below(40), &done, &err),
                     WEIR_OK);
    if (done) {
        world->sealed = false;
        if (below(3) == 0) {
            recover(world, world->open - 1);
        }
    }
}

static void run_world(uint64_t seed) {
    struct world *world = calloc(1, sizeof *world);
    random_state = seed;
    world->table = make_table(0, 0, 7);
    world->model.next_sequence = 1;
    weir_buffer_init(&world->snapshot.bytes, 1 << 24);
    for (int e = 0; e < EPOCHS; e++) {
        weir_buffer_init(&world->records[e], 1 << 24);
    }
    int span = 1 + (int)below(KEYS);
    while (world->open < EPOCHS - 1 || world->sealed) {
        uint64_t what = below(100);
        int k = (int)below((uint64_t)span);
        if (what < 50) {
            write_key(world->table, &world->model, k);
        } else if (what < 80) {
            delete_key(world->table, &world->model, k);
        } else if (what < 86 && !world->sealed && world->open < EPOCHS - 1) {
            struct weir_error err = {0};
            assert_int_equal(weir_table_seal(world->table, &err), WEIR_OK);
            world->at_seal[world->open++] = world->model;
            world->sealed = true;
        } else if (what < 95 && world->sealed) {
            step_collect(world);
        } else if (!world->snapshot.complete || below(10) == 0) {
            if (!world->snapshot.running) {
                world->snapshot.complete = false;
            }
            step_snapshot(world);
        }
    }
    recover(world, world->open - 1);
    assert_same(world->table, &world->model);
    weir_table_destroy(world->table);
    weir_buffer_fini(&world->snapshot.bytes);
    for (int e = 0; e < EPOCHS; e++) {
        weir_buffer_fini(&world->records[e]);
    }
    free(world);
}

static void recovers_the_state_at_any_seal(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        run_world(seed);
    }
}

static void finds_every_key_while_the_index_grows_and_shrinks(void **state) {
    (void)state;
    enum { MANY = 200000 };
    struct weir_table *table = make_table(0, 0, 7);
    bool created;
    for (uint64_t k = 0; k < MANY; k++) {
        struct weir_slot *slot = get(table, (const char *)&k, sizeof k, &created);
        assert_true(created);
        memcpy(weir_slot_value(table, slot), &k, sizeof k);
        if (k % 3 == 0) { /* a delete in the middle of a migration */
            uint64_t gone = k / 2;
            slot = find(table, (const char *)&gone, sizeof gone);
            if (slot != NULL) {
                assert_int_equal(weir_table_delete(table, slot, false), WEIR_OK);
            }
        }
    }
    size_t live = 0;
    for (uint64_t k = 0; k < MANY; k++) {
        struct weir_slot *slot = find(table, (const char *)&k, sizeof k);
        /* k / 2 was deleted for each k divisible by 3 */
        bool deleted =
            (2 * k < MANY && (2 * k) % 3 == 0) || (2 * k + 1 < MANY && (2 * k + 1) % 3 == 0);
        assert_int_equal(slot == NULL, deleted);
        if (slot != NULL) {
            assert_memory_equal(weir_slot_value(table, slot), &k, sizeof k);
            live++;
        }
    }
    assert_int_equal(weir_table_keys(table), live);
    weir_table_destroy(table);
}

static void a_slot_keeps_its_address_while_the_table_grows(void **state) {
    (void)state;
    struct weir_table *table = make_table(0, 0, 7);
    bool created;
    struct weir_slot *first = get(table, "first", 5, &created);
    for (uint32_t k = 0; k < 100000; k++) {
        get(table, (const char *)&k, sizeof k, &created);
    }
    assert_ptr_equal(find(table, "first", 5), first);
    weir_table_destroy(table);
}

static void an_image_is_made_once_however_often_a_slot_changes(void **state) {
    (void)state;
    struct weir_error err = {0};
    struct weir_table *table = make_table(0, 0, 7);
    struct weir_buffer out;
    weir_buffer_init(&out, 1 << 20);
    bool created;
    for (int i = 0; i < 1000; i++) {
        struct weir_slot *slot = get(table, "a", 1, &created);
        assert_int_equal(weir_table_touch(table, slot), WEIR_OK);
    }
    assert_int_equal(weir_table_changed(table), 1);
    assert_int_equal(weir_table_seal(table, &err), WEIR_OK);
    bool done;
    assert_int_equal(weir_table_collect(table, &out, 1000, &done, &err), WEIR_OK);
    assert_true(done);
    size_t header = 1 + 1 + 8 + 1 + strlen("gold.test/window");
    assert_int_equal(out.size, header + 9 + (1 + 8 + 1 + 1 + 1 + 16));
    weir_buffer_clear(&out);
    assert_int_equal(weir_table_seal(table, &err), WEIR_OK);
    assert_int_equal(weir_table_collect(table, &out, 1000, &done, &err), WEIR_OK);
    assert_true(done);
    assert_int_equal(out.size, 0); /* nothing changed, nothing to record */
    weir_buffer_fini(&out);
    weir_table_destroy(table);
}

static void a_cap_names_declaration_keys_and_option(void **state) {
    (void)state;
    struct weir_error err = {0};
    bool created;
    struct weir_table *table = make_table(2, 0, 7);
    get(table, "a", 1, &created);
    get(table, "b", 1, &created);
    assert_null(weir_table_get(table, weir_table_hash(table, "c", 1), "c", 1, &created, &err));
    assert_int_equal(err.code, WEIR_E_LIMIT);
    assert_non_null(strstr(err.message, "gold.test"));
    assert_non_null(strstr(err.message, "2 keys"));
    assert_non_null(strstr(err.message, "pipeline.memory.state"));
    assert_non_null(find(table, "a", 1));
    assert_null(find(table, "c", 1));
    weir_table_destroy(table);

    table = make_table(0, 1 << 20, 7);
    for (uint32_t k = 0;; k++) {
        assert_true(k < 100000);
        if (weir_table_get(table, weir_table_hash(table, &k, sizeof k), &k, sizeof k, &created,
                           &err) == NULL) {
            break;
        }
    }
    assert_int_equal(err.code, WEIR_E_LIMIT);
    assert_true(weir_table_bytes(table) <= (1 << 20) + 64 * 1024); /* an epoch's block */
    assert_true(weir_table_bytes(table) > (1 << 19));
    weir_table_destroy(table);
}

static void refuses_images_of_another_shape_with_a_way_out(void **state) {
    (void)state;
    struct weir_error err = {0};
    struct weir_table *table = make_table(0, 0, 7);
    struct weir_table *other = make_table(0, 0, 8);
    struct weir_buffer out;
    weir_buffer_init(&out, 1 << 20);
    bool created;
    get(table, "a", 1, &created);
    struct weir_cell_cursor cursor = {0};
    bool done;
    assert_int_equal(weir_table_dump(table, &cursor, &out, 10, &done, &err), WEIR_OK);
    assert_int_equal(weir_table_apply(other, out.data, out.size, &err), WEIR_E_VERSION);
    assert_non_null(strstr(err.message, "gold.test/window"));
    assert_non_null(strstr(err.message, "new lineage"));
    out.data[1] = 99;
    assert_int_equal(weir_table_apply(table, out.data, out.size, &err), WEIR_E_VERSION);
    weir_buffer_fini(&out);
    weir_table_destroy(table);
    weir_table_destroy(other);
}

static void damaged_images_are_refused_and_never_overrun(void **state) {
    (void)state;
    struct weir_error err = {0};
    struct weir_table *table = make_table(0, 0, 7);
    struct weir_buffer out;
    weir_buffer_init(&out, 1 << 20);
    struct model model = {.next_sequence = 1};
    for (int k = 0; k < 10; k++) {
        write_key(table, &model, k);
    }
    delete_key(table, &model, 3);
    assert_int_equal(weir_table_seal(table, &err), WEIR_OK);
    bool done;
    assert_int_equal(weir_table_collect(table, &out, 100, &done, &err), WEIR_OK);
    int refused = 0;
    for (size_t cut = 0; cut < out.size; cut++) {
        struct weir_table *fresh = make_table(0, 0, 7);
        uint8_t *exact = malloc(cut + 1); /* so that a sanitizer sees a read past the end */
        memcpy(exact, out.data, cut);
        refused += weir_table_apply(fresh, exact, cut, &err) == WEIR_E_CORRUPT;
        free(exact);
        weir_table_destroy(fresh);
    }
    /* Only cuts between the 12 images pass. */
    assert_int_equal(refused, (int)out.size - 12);
    for (int i = 0; i < 3000; i++) {
        struct weir_table *fresh = make_table(0, 0, 7);
        uint8_t *copy = malloc(out.size);
        memcpy(copy, out.data, out.size);
        copy[below(out.size)] ^= (uint8_t)(1 + below(255));
        int rc = weir_table_apply(fresh, copy, out.size, &err);
        assert_true(rc == WEIR_OK || rc == WEIR_E_CORRUPT || rc == WEIR_E_VERSION ||
                    rc == WEIR_E_NOMEM);
        free(copy);
        weir_table_destroy(fresh);
    }
    weir_buffer_fini(&out);
    weir_table_destroy(table);
}

static void a_full_buffer_loses_nothing(void **state) {
    (void)state;
    struct weir_error err = {0};
    struct weir_table *table = make_table(0, 0, 7);
    struct weir_table *copy = make_table(0, 0, 7);
    struct model model = {.next_sequence = 1};
    struct weir_buffer out;
    weir_buffer_init(&out, 400);
    for (int k = 0; k < 50; k++) {
        write_key(table, &model, k);
    }
    for (int k = 0; k < 50; k += 5) {
        delete_key(table, &model, k);
    }
    assert_int_equal(weir_table_seal(table, &err), WEIR_OK);
    bool done = false;
    int full = 0;
    for (int i = 0; i < 1000 && !done; i++) {
        weir_buffer_clear(&out);
        int rc = weir_table_collect(table, &out, 1000, &done, &err);
        if (rc == WEIR_E_LIMIT) { /* a block of tombstones does not fit: a larger buffer does */
            full++;
            weir_buffer_fini(&out);
            weir_buffer_init(&out, 4000);
            continue;
        }
        assert_int_equal(rc, WEIR_OK);
        apply(copy, &out);
    }
    assert_true(done);
    assert_true(full > 0);
    assert_same(copy, &model);
    weir_buffer_fini(&out);
    weir_table_destroy(table);
    weir_table_destroy(copy);
}

static void an_old_tombstone_spares_a_later_life_of_the_key(void **state) {
    (void)state;
    struct weir_error err = {0};
    struct weir_table *table = make_table(0, 0, 7);
    struct weir_table *copy = make_table(0, 0, 7);
    struct weir_buffer tombstone;
    struct weir_buffer snapshot;
    weir_buffer_init(&tombstone, 1 << 16);
    weir_buffer_init(&snapshot, 1 << 16);
    bool created;
    bool done;
    assert_int_equal(weir_table_delete(table, get(table, "k", 1, &created), false), WEIR_OK);
    assert_int_equal(weir_table_seal(table, &err), WEIR_OK);
    assert_int_equal(weir_table_collect(table, &tombstone, 10, &done, &err), WEIR_OK);
    get(table, "k", 1, &created);
    struct weir_cell_cursor cursor = {0};
    assert_int_equal(weir_table_dump(table, &cursor, &snapshot, 10, &done, &err), WEIR_OK);
    apply(copy, &snapshot);
    apply(copy, &tombstone);
    assert_non_null(find(copy, "k", 1));
    assert_int_equal(find(copy, "k", 1)->sequence, 2);
    weir_buffer_fini(&tombstone);
    weir_buffer_fini(&snapshot);
    weir_table_destroy(table);
    weir_table_destroy(copy);
}

static void sealing_before_the_last_epoch_is_collected_is_refused(void **state) {
    (void)state;
    struct weir_error err = {0};
    struct weir_table *table = make_table(0, 0, 7);
    bool created;
    get(table, "a", 1, &created);
    assert_int_equal(weir_table_seal(table, &err), WEIR_OK);
    assert_int_equal(weir_table_seal(table, &err), WEIR_E_BUG);
    weir_table_destroy(table);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recovers_the_state_at_any_seal),
        cmocka_unit_test(finds_every_key_while_the_index_grows_and_shrinks),
        cmocka_unit_test(a_slot_keeps_its_address_while_the_table_grows),
        cmocka_unit_test(an_image_is_made_once_however_often_a_slot_changes),
        cmocka_unit_test(a_cap_names_declaration_keys_and_option),
        cmocka_unit_test(refuses_images_of_another_shape_with_a_way_out),
        cmocka_unit_test(damaged_images_are_refused_and_never_overrun),
        cmocka_unit_test(a_full_buffer_loses_nothing),
        cmocka_unit_test(an_old_tombstone_spares_a_later_life_of_the_key),
        cmocka_unit_test(sealing_before_the_last_epoch_is_collected_is_refused),
    };
    return cmocka_run_group_tests_name("state_table", tests, NULL, NULL);
}
