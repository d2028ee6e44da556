/* Windowed aggregation against a naive model that keeps every row: random batch sizes, selections,
 * chunks of firing, epochs, slices of collection, snapshots and crashes must all come out the same,
 * in the same order, double sums bit by bit. */
#include "aggregate_model.h"

/* --- driving ------------------------------------------------------------------------------- */

struct world {
    const struct row *rows;
    const bool *late;
    struct weir_schema *schema;
    struct weir_aggregate *aggregate;
    struct weir_cell *cells[CELLS];
    int cell_count;
    struct emitted emitted;
    struct weir_buffer records[EPOCHS][CELLS];
    int at;
    int epoch; /* open */
    bool collected[CELLS];
    bool sealed;
    int seal_at;
    int seal_emitted;
    /* fuzzy snapshot */
    struct weir_buffer snapshot[CELLS];
    struct weir_cell_cursor cursors[CELLS];
    bool dumped[CELLS];
    bool running;
    bool complete;
    int begin;
    int end;
};

static void truncate_emitted(struct emitted *emitted, int count) {
    while (emitted->count > count) {
        weir_batch_unref(emitted->batches[--emitted->count]);
    }
}

static void feed(struct world *world, int count) {
    const struct row *rows = world->rows + world->at;
    struct weir_batch *batch = make_batch(world->schema, rows, count);
    int32_t sel[256];
    int32_t late_sel[256];
    int64_t times[256];
    int64_t watermarks[256];
    uint8_t mask[256];
    int32_t selected = 0;
    for (int n = 0; n < count; n++) {
        times[n] = rows[n].time;
        watermarks[n] = rows[n].watermark;
        if (rows[n].selected) {
            mask[selected] = rows[n].mask;
            sel[selected++] = n;
        }
    }
    const struct weir_column *inputs[MEASURES];
    struct weir_column states = states_of(batch);
    const uint8_t *masks[MEASURES];
    for (int m = 0; m < MEASURES; m++) {
        inputs[m] = input_of(batch, m, &states);
        masks[m] = plan[m].masked ? mask : NULL;
    }
    struct weir_error err = {0};
    int32_t late;
    int rc = weir_aggregate_feed(world->aggregate, batch, sel, selected, times, watermarks, inputs,
                                 masks, late_sel, &late, &err);
    if (rc != WEIR_OK) {
        fail_msg("%s", err.message);
    }
    int32_t seen = 0;
    for (int n = 0; n < count; n++) {
        if (rows[n].selected && world->late[world->at + n]) {
            assert_true(seen < late);
            assert_int_equal(late_sel[seen++], n);
        }
    }
    assert_int_equal(seen, late);
    weir_batch_unref(batch);
    world->at += count;
}

static void fire(struct world *world, int64_t watermark, int limit) {
    struct weir_batch_builder builder;
    struct weir_error err = {0};
    assert_int_equal(weir_batch_builder_init(&builder, pool,
                                             weir_aggregate_output(world->aggregate), 64, 1 << 16,
                                             &err),
                     WEIR_OK);
    enum weir_fired fired = WEIR_FIRED_SOME;
    while (fired != WEIR_FIRED_ALL && limit > 0) {
        assert_int_equal(weir_batch_builder_begin(&builder), WEIR_OK);
        int rc = weir_aggregate_fire(world->aggregate, watermark, &builder, limit, &fired, &err);
        if (rc != WEIR_OK) {
            fail_msg("%s", err.message);
        }
        struct weir_batch *batch = weir_batch_builder_take(&builder);
        for (int32_t r = 0; batch != NULL && r < batch->rows; r++) {
            struct weir_batch *one = weir_batch_gather(batch, &r, 1);
            assert_non_null(one);
            world->emitted.batches[world->emitted.count++] = one;
            limit--;
        }
        if (batch != NULL) {
            weir_batch_unref(batch);
        }
    }
    weir_batch_builder_fini(&builder);
}

static void seal(struct world *world) {
    struct weir_error err = {0};
    for (int c = 0; c < world->cell_count; c++) {
        assert_int_equal(world->cells[c]->ops->seal(world->cells[c]->self, &err), WEIR_OK);
        world->collected[c] = false;
    }
    world->seal_at = world->at;
    world->seal_emitted = world->emitted.count;
    world->epoch++;
    world->sealed = true;
}

static void crash(struct world *world) {
    struct weir_error err = {0};
    weir_aggregate_destroy(world->aggregate);
    world->aggregate = make_aggregate(world->schema);
    weir_aggregate_cells(world->aggregate, world->cells, CELLS);
    bool snapshot = world->complete && world->end < world->epoch;
    for (int c = 0; c < world->cell_count; c++) {
        const struct weir_cell *cell = world->cells[c];
        if (snapshot) {
            assert_int_equal(cell->ops->apply(cell->self, world->snapshot[c].data,
                                              world->snapshot[c].size, &err),
                             WEIR_OK);
        }
        for (int e = snapshot ? world->begin : 0; e < world->epoch; e++) {
            const struct weir_buffer *record = &world->records[e][c];
            assert_int_equal(cell->ops->apply(cell->self, record->data, record->size, &err),
                             WEIR_OK);
        }
    }
    if (weir_aggregate_restore(world->aggregate, &err) != WEIR_OK) {
        fail_msg("%s", err.message);
    }
    world->at = world->seal_at;
    truncate_emitted(&world->emitted, world->seal_emitted);
    world->running = false;
    world->complete = world->complete && snapshot;
}

static void collect(struct world *world) {
    struct weir_error err = {0};
    for (int c = 0; c < world->cell_count; c++) {
        if (!world->collected[c]) {
            assert_int_equal(world->cells[c]->ops->collect(
                                 world->cells[c]->self, &world->records[world->epoch - 1][c],
                                 1 + below(30), &world->collected[c], &err),
                             WEIR_OK);
        }
    }
    world->sealed = false;
    for (int c = 0; c < world->cell_count; c++) {
        world->sealed |= !world->collected[c];
    }
    if (!world->sealed && below(4) == 0) {
        crash(world);
    }
}

static void dump(struct world *world) {
    struct weir_error err = {0};
    if (!world->running) {
        for (int c = 0; c < world->cell_count; c++) {
            weir_buffer_clear(&world->snapshot[c]);
            world->cursors[c] = (struct weir_cell_cursor){0};
            world->dumped[c] = false;
        }
        world->running = true;
        world->complete = false;
        world->begin = world->epoch;
    }
    for (int c = 0; c < world->cell_count; c++) {
        if (!world->dumped[c]) {
            assert_int_equal(world->cells[c]->ops->dump(world->cells[c]->self, &world->cursors[c],
                                                        &world->snapshot[c], 1 + below(20),
                                                        &world->dumped[c], &err),
                             WEIR_OK);
        }
    }
    bool dumped = true;
    for (int c = 0; c < world->cell_count; c++) {
        dumped &= world->dumped[c];
    }
    if (dumped) {
        world->running = false;
        world->complete = true;
        world->end = world->epoch;
    }
}

static uint64_t digest(const struct emitted *emitted) {
    struct weir_buffer text;
    weir_buffer_init(&text, 1 << 26);
    for (int e = 0; e < emitted->count; e++) {
        assert_int_equal(weir_delta_row_json(emitted->batches[e], 0, &text), WEIR_OK);
    }
    uint64_t hash = XXH3_64bits(text.data, text.size);
    weir_buffer_fini(&text);
    return hash;
}

/* Rows by one seed, batches, epochs and crashes by another. What came out, in order, as a hash. */
static uint64_t run(uint64_t seed, uint64_t way) {
    struct row *rows = calloc(ROWS, sizeof *rows);
    struct group *groups = calloc(GROUPS, sizeof *groups);
    bool *late = calloc(ROWS, sizeof *late);
    random_state = seed;
    make_rows(rows, 1 + below(8));
    int group_count = model_groups(rows, groups, late);
    qsort(groups, (size_t)group_count, sizeof *groups, compare_groups);
    struct world *world = calloc(1, sizeof *world);
    world->rows = rows;
    world->late = late;
    world->schema = input_schema();
    world->aggregate = make_aggregate(world->schema);
    world->cell_count = weir_aggregate_cells(world->aggregate, world->cells, CELLS);
    assert_int_equal(world->cell_count, every != 0 ? 4 : gap != 0 ? 3 : 2);
    for (int c = 0; c < CELLS; c++) {
        for (int e = 0; e < EPOCHS; e++) {
            weir_buffer_init(&world->records[e][c], 1 << 24);
        }
        weir_buffer_init(&world->snapshot[c], 1 << 24);
    }
    random_state = way;
    uint64_t largest = 1 + below(200);
    bool epochs = seed % 4 != 0;
    while (world->at < ROWS || world->sealed) {
        uint64_t what = below(10);
        if (what < 6 && world->at < ROWS) {
            int count = 1 + (int)below(largest);
            feed(world, count < ROWS - world->at ? count : ROWS - world->at);
        } else if (what < 7 && world->at > 0) {
            fire(world, rows[world->at - 1].watermark, below(2) ? 1 + (int)below(10) : 1 << 20);
        } else if (world->sealed) {
            collect(world);
        } else if (epochs && below(2) == 0 && world->epoch < EPOCHS - 1) {
            seal(world);
        } else if (epochs) {
            dump(world);
        }
    }
    fire(world, WEIR_WATERMARK_END, 1 << 20);
    assert_int_equal(weir_aggregate_keys(world->aggregate), 0);
    check_emitted(rows, groups, group_count, &world->emitted);
    uint64_t hash = digest(&world->emitted);
    truncate_emitted(&world->emitted, 0);
    weir_aggregate_destroy(world->aggregate);
    weir_schema_unref(world->schema);
    for (int c = 0; c < CELLS; c++) {
        for (int e = 0; e < EPOCHS; e++) {
            weir_buffer_fini(&world->records[e][c]);
        }
        weir_buffer_fini(&world->snapshot[c]);
    }
    for (int g = 0; g < group_count; g++) {
        free(groups[g].rows);
    }
    free(world);
    free(late);
    free(groups);
    free(rows);
    return hash;
}

static void equals_the_model_whatever_batches_epochs_and_crashes(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= seeds_of(24); seed++) {
        run(seed, seed);
    }
}

static void hopping_and_cumulate_windows_equal_the_model(void **state) {
    (void)state;
    static const struct {
        int64_t every;
        bool cumulate;
    } kinds[] = {{25, false}, {40, false}, {100, false}, {20, true}, {50, true}};
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        every = kinds[k].every;
        cumulate = kinds[k].cumulate;
        for (uint64_t seed = 1; seed <= seeds_of(6); seed++) {
            assert_int_equal(run(seed, seed), run(seed, seed + 1000));
        }
    }
    every = 0;
    cumulate = false;
}

/* Bit by bit the same whatever batches, epochs and crashes: where two sessions are joined in a
 * batch must not show in a double's last bit. */
static void sessions_equal_the_model(void **state) {
    (void)state;
    static const int64_t gaps[] = {1, 7, 30, 90};
    for (size_t k = 0; k < sizeof(gaps) / sizeof(gaps[0]); k++) {
        gap = gaps[k];
        for (uint64_t seed = 1; seed <= seeds_of(6); seed++) {
            assert_int_equal(run(seed, seed), run(seed, seed + 1000));
        }
    }
    gap = 0;
}

/* In the order they filled, sums bit by bit: no row is late, and what is not full leaves at the
 * end. */
static void windows_of_so_many_rows_equal_the_model(void **state) {
    (void)state;
    static const int64_t sizes[] = {1, 2, 7, 40, 1000};
    for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
        counted = sizes[k];
        for (uint64_t seed = 1; seed <= seeds_of(6); seed++) {
            assert_int_equal(run(seed, seed), run(seed, seed + 1000));
        }
    }
    counted = 0;
}

/* --- small, exact cases -------------------------------------------------------------------- */

static void a_row_exactly_at_the_bound_is_late(void **state) {
    (void)state;
    struct weir_schema *schema = input_schema();
    struct weir_aggregate *aggregate = make_aggregate(schema);
    struct row rows[2] = {{.k = "a", .s = ""}, {.k = "a", .s = ""}};
    struct weir_batch *batch = make_batch(schema, rows, 2);
    const struct weir_column *inputs[MEASURES];
    struct weir_column states = states_of(batch);
    for (int m = 0; m < MEASURES; m++) {
        inputs[m] = input_of(batch, m, &states);
    }
    int64_t times[2] = {-1, -1}; /* window [-100, 0) */
    int64_t watermarks[2] = {LATENESS - 1, LATENESS};
    int32_t late[2];
    int32_t late_count;
    struct weir_error err = {0};
    assert_int_equal(weir_aggregate_feed(aggregate, batch, NULL, 2, times, watermarks, inputs, NULL,
                                         late, &late_count, &err),
                     WEIR_OK);
    assert_int_equal(late_count, 1);
    assert_int_equal(late[0], 1);
    assert_false(weir_aggregate_ready(aggregate, LATENESS - 1));
    assert_true(weir_aggregate_ready(aggregate, LATENESS));
    weir_batch_unref(batch);
    weir_aggregate_destroy(aggregate);
    weir_schema_unref(schema);
}

static void state_of_other_measures_is_refused(void **state) {
    (void)state;
    struct weir_error err = {0};
    struct weir_schema *schema = input_schema();
    struct weir_aggregate *aggregate = make_aggregate(schema);
    struct row row = {.k = "a", .s = ""};
    struct weir_batch *batch = make_batch(schema, &row, 1);
    const struct weir_column *inputs[MEASURES];
    struct weir_column states = states_of(batch);
    for (int m = 0; m < MEASURES; m++) {
        inputs[m] = input_of(batch, m, &states);
    }
    int64_t time = 0;
    int64_t watermark = INT64_MIN;
    int32_t late[1];
    int32_t late_count;
    assert_int_equal(weir_aggregate_feed(aggregate, batch, NULL, 1, &time, &watermark, inputs, NULL,
                                         late, &late_count, &err),
                     WEIR_OK);
    weir_batch_unref(batch);
    struct weir_measure measure = {.name = "m0", .kind = WEIR_MEASURE_COUNT};
    int32_t by[] = {K, F};
    struct weir_aggregate_config config = {.declaration = "gold.test",
                                           .input = schema,
                                           .by = by,
                                           .by_count = 2,
                                           .size_us = SIZE,
                                           .measures = &measure,
                                           .measure_count = 1};
    struct weir_aggregate *other = weir_aggregate_create(&config, &err);
    assert_non_null(other);
    assert_true(weir_aggregate_estimate(other) > 40);
    assert_true(weir_aggregate_estimate(aggregate) > weir_aggregate_estimate(other));
    struct weir_cell *cells[CELLS];
    struct weir_buffer out;
    weir_buffer_init(&out, 1 << 16);
    struct weir_cell_cursor cursor = {0};
    bool done;
    weir_aggregate_cells(aggregate, cells, 2);
    assert_int_equal(cells[0]->ops->dump(cells[0]->self, &cursor, &out, 10, &done, &err), WEIR_OK);
    assert_int_equal(weir_aggregate_cells(other, cells, 2), 1);
    assert_int_equal(cells[0]->ops->apply(cells[0]->self, out.data, out.size, &err),
                     WEIR_E_VERSION);
    weir_buffer_fini(&out);
    weir_aggregate_destroy(aggregate);
    weir_aggregate_destroy(other);
    weir_schema_unref(schema);
}

/* Damaged state is refused or recovered from; it never crashes, whatever is done with it then. */
static void damage(void) {
    enum { FEW = 60, TRIES = 1500 };
    struct weir_error err = {0};
    struct row *rows = calloc(ROWS, sizeof *rows);
    bool *late = calloc(ROWS, sizeof *late);
    random_state = 99;
    make_rows(rows, 8);
    struct world *world = calloc(1, sizeof *world);
    world->rows = rows;
    world->late = late;
    world->schema = input_schema();
    world->aggregate = make_aggregate(world->schema);
    for (int n = 0; n < FEW; n++) {
        rows[n].watermark = INT64_MIN;
    }
    feed(world, FEW);
    struct weir_buffer images[CELLS];
    world->cell_count = weir_aggregate_cells(world->aggregate, world->cells, CELLS);
    for (int c = 0; c < world->cell_count; c++) {
        struct weir_cell_cursor cursor = {0};
        bool done;
        weir_buffer_init(&images[c], 1 << 20);
        assert_int_equal(world->cells[c]->ops->dump(world->cells[c]->self, &cursor, &images[c],
                                                    1000, &done, &err),
                         WEIR_OK);
    }
    int refused = 0;
    for (int i = 0; i < TRIES; i++) {
        weir_aggregate_destroy(world->aggregate);
        world->aggregate = make_aggregate(world->schema);
        weir_aggregate_cells(world->aggregate, world->cells, CELLS);
        int rc = WEIR_OK;
        for (int c = 0; c < world->cell_count && rc == WEIR_OK; c++) {
            uint8_t *copy = malloc(images[c].size);
            memcpy(copy, images[c].data, images[c].size);
            if (c == i % world->cell_count && images[c].size > 0) {
                copy[below(images[c].size)] ^= (uint8_t)(1 + below(255));
            }
            rc = world->cells[c]->ops->apply(world->cells[c]->self, copy, images[c].size, &err);
            free(copy);
        }
        rc = rc == WEIR_OK ? weir_aggregate_restore(world->aggregate, &err) : rc;
        struct weir_batch_builder builder;
        assert_int_equal(weir_batch_builder_init(&builder, pool,
                                                 weir_aggregate_output(world->aggregate), 4096,
                                                 1 << 20, &err),
                         WEIR_OK);
        assert_int_equal(weir_batch_builder_begin(&builder), WEIR_OK);
        enum weir_fired fired = WEIR_FIRED_SOME;
        while (rc == WEIR_OK && fired == WEIR_FIRED_SOME) {
            rc = weir_aggregate_fire(world->aggregate, WEIR_WATERMARK_END, &builder, 4096, &fired,
                                     &err);
        }
        refused += rc != WEIR_OK;
        struct weir_batch *batch = weir_batch_builder_take(&builder);
        if (batch != NULL) {
            weir_batch_unref(batch);
        }
        weir_batch_builder_fini(&builder);
    }
    assert_true(refused > TRIES / 10);
    weir_aggregate_destroy(world->aggregate);
    weir_schema_unref(world->schema);
    for (int c = 0; c < world->cell_count; c++) {
        weir_buffer_fini(&images[c]);
    }
    free(world);
    free(rows);
    free(late);
}

static void damaged_state_does_no_harm(void **state) {
    (void)state;
    damage();
    every = 25;
    damage();
    every = 0;
}

int main(void) {
    pool = weir_pool_create((size_t)1 << 30);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_model_whatever_batches_epochs_and_crashes),
        cmocka_unit_test(hopping_and_cumulate_windows_equal_the_model),
        cmocka_unit_test(sessions_equal_the_model),
        cmocka_unit_test(windows_of_so_many_rows_equal_the_model),
        cmocka_unit_test(a_row_exactly_at_the_bound_is_late),
        cmocka_unit_test(state_of_other_measures_is_refused),
        cmocka_unit_test(damaged_state_does_no_harm),
    };
    int failed = cmocka_run_group_tests_name("operator_aggregate", tests, NULL, NULL);
    weir_pool_destroy(pool);
    return failed;
}
