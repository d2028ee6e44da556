/* Slices, gathers, borrowed columns, dictionaries: random batches against the naive model. */
#include <pthread.h>

#include "batch_model.h"

/* Codes above the dictionary in null slots must never be followed. */
static const int32_t encoded_columns[] = {1, 2, 3, 4, 6, 8, 9, 10, 11, 12};
#define ENCODED ((int)(sizeof(encoded_columns) / sizeof(encoded_columns[0])))

static void encode_some(struct weir_batch *batch) {
    for (int i = 0; i < ENCODED; i++) {
        model_encode(batch, &batch->columns[encoded_columns[i]]);
    }
    /* And inside a list: elements of list<string>, the binary of a struct in a list. */
    model_encode(batch, &batch->columns[17].children[0]);
    model_encode(batch, &batch->columns[22].children[0].children[0]);
}

static void slices_at_every_bit_offset_hold_their_rows(void **state) {
    (void)state;
    for (int encoded = 0; encoded < 2; encoded++) {
        struct model m;
        model_init(&m, 40 + (uint64_t)encoded, 25);
        struct weir_batch *batch = model_batch(&m, 75, 20);
        if (encoded) {
            encode_some(batch);
        }
        for (int32_t start = 0; start <= 17; start++) {
            for (int32_t rows = 0; rows <= 75 - start; rows += rows < 18 ? 1 : 19) {
                struct weir_batch *slice = weir_batch_slice(batch, start, rows);
                assert_non_null(slice);
                assert_int_equal(slice->rows, rows);
                model_check(&m, slice, NULL, start);
                weir_batch_unref(slice);
            }
        }
        weir_batch_unref(batch);
        model_fini(&m);
    }
}

static void slices_of_slices_and_gathers_of_them_hold_their_rows(void **state) {
    (void)state;
    for (uint64_t seed = 200; seed < 230; seed++) {
        struct model m;
        model_init(&m, seed, (int)(seed % 3) * 30);
        struct weir_batch *batch = model_batch(&m, 90, 10);
        if (seed % 2 == 1) {
            encode_some(batch);
        }
        int32_t map[90];
        for (int32_t i = 0; i < 90; i++) {
            map[i] = i;
        }
        /* A chain of cuts; only the last batch is kept. */
        for (int step = 0; step < 5; step++) {
            struct weir_batch *cut;
            if (model_random(&m.state) % 2 == 0) {
                int32_t start = (int32_t)(model_random(&m.state) % (uint64_t)(batch->rows + 1));
                int32_t rows =
                    (int32_t)(model_random(&m.state) % (uint64_t)(batch->rows - start + 1));
                rows = rows < 20 && start + 20 <= batch->rows ? 20 : rows;
                cut = weir_batch_slice(batch, start, rows);
                memmove(map, map + start, (size_t)rows * sizeof(*map));
            } else {
                int32_t sel[90];
                int32_t chosen[90];
                int32_t count = 0;
                while (count < 85 && batch->rows > 0) { /* any order, some twice */
                    sel[count] = (int32_t)(model_random(&m.state) % (uint64_t)batch->rows);
                    chosen[count] = map[sel[count]];
                    count++;
                }
                cut = weir_batch_gather(batch, sel, count);
                memcpy(map, chosen, (size_t)count * sizeof(*map));
            }
            assert_non_null(cut);
            weir_batch_unref(batch);
            batch = cut;
            model_check(&m, batch, map, 0);
        }
        weir_batch_unref(batch);
        model_fini(&m);
    }
}

static void plain_forms_equal_their_dictionaries(void **state) {
    (void)state;
    struct model m;
    model_init(&m, 9, 30);
    struct weir_batch *batch = model_batch(&m, 120, 0);
    struct weir_batch *slice = weir_batch_slice(batch, 0, 120);
    encode_some(batch);
    for (int i = 0; i < ENCODED; i++) {
        int32_t c = encoded_columns[i];
        for (int32_t r = 0; r < 120; r++) {
            assert_true(weir_column_value_equal(&batch->columns[c], r, &slice->columns[c], r));
            assert_true(weir_column_value_equal(&slice->columns[c], r, &batch->columns[c], r));
        }
        assert_int_equal(weir_column_make_plain(&batch->columns[c], batch), WEIR_OK);
        assert_null(batch->columns[c].codes);
        assert_int_equal(weir_column_make_plain(&batch->columns[c], batch), WEIR_OK);
    }
    model_check(&m, batch, NULL, 0);
    weir_batch_unref(slice);
    weir_batch_unref(batch);
    model_fini(&m);
}

static void values_are_equal_exactly_when_the_model_says_so(void **state) {
    (void)state;
    struct model m;
    model_init(&m, 31, 25);
    struct weir_batch *batch = model_batch(&m, 60, 0);
    struct weir_batch *slice = weir_batch_slice(batch, 13, 47);
    int64_t equal = 0;
    for (int32_t c = 0; c < MODEL_COLUMNS; c++) {
        for (int32_t i = 0; i < 60; i++) {
            for (int32_t j = 0; j < 47; j++) {
                bool want = strcmp(model_cell(&m, i, c), model_cell(&m, j + 13, c)) == 0;
                bool got = weir_column_value_equal(&batch->columns[c], i, &slice->columns[c], j);
                if (want != got) {
                    fail_msg("%s: %.100s and %.100s", model_types[c], model_cell(&m, i, c),
                             model_cell(&m, j + 13, c));
                }
                equal += got;
            }
        }
    }
    assert_true(equal > MODEL_COLUMNS * 47);
    weir_batch_unref(slice);
    weir_batch_unref(batch);
    model_fini(&m);
}

static void nan_equals_nan_and_zeros_differ_by_sign(void **state) {
    (void)state;
    double values[] = {__builtin_nan("1"), -__builtin_nan("2"), 0.0, -0.0};
    float narrow[] = {__builtin_nanf("1"), -__builtin_nanf("2"), 0.0f, -0.0f};
    struct weir_column wide = {.length = 4, .values = values, .type = WEIR_TYPE_DOUBLE};
    struct weir_column small = {.length = 4, .values = narrow, .type = WEIR_TYPE_FLOAT};
    const struct weir_column *columns[] = {&wide, &small};
    for (int i = 0; i < 2; i++) {
        assert_true(weir_column_value_equal(columns[i], 0, columns[i], 1));
        assert_false(weir_column_value_equal(columns[i], 2, columns[i], 3));
        assert_false(weir_column_value_equal(columns[i], 0, columns[i], 2));
    }
}

static void borrowed_columns_keep_their_batches_alive(void **state) {
    (void)state;
    struct model m;
    model_init(&m, 17, 20);
    struct weir_batch *batch = model_batch(&m, 70, 0);
    struct weir_batch *out = weir_batch_create(m.pool, m.schema);
    assert_non_null(out);
    int32_t sel[70];
    for (int32_t i = 0; i < 70; i++) {
        sel[i] = 69 - i;
    }
    struct weir_batch *parents[3] = {weir_batch_slice(batch, 20, 30), NULL, NULL};
    parents[1] = weir_batch_gather(parents[0], sel + 40, 30); /* rows 29..0 of the slice */
    parents[2] = weir_batch_gather(parents[1], sel + 40, 30); /* and back */
    weir_batch_unref(batch);
    for (int32_t c = 0; c < MODEL_COLUMNS; c++) {
        int from = c % 2 == 0 ? 0 : 2;
        assert_int_equal(weir_batch_borrow(out, c, parents[from], c), WEIR_OK);
    }
    out->rows = 30;
    assert_int_equal(out->parent_count, 2);
    for (int i = 0; i < 3; i++) {
        weir_batch_unref(parents[i]);
    }
    model_check(&m, out, NULL, 20);
    weir_batch_unref(out);
    model_fini(&m);
}

static void more_parents_than_a_batch_can_have_are_refused(void **state) {
    (void)state;
    struct model m;
    model_init(&m, 18, 20);
    struct weir_batch *batch = model_batch(&m, 10, 0);
    struct weir_batch *out = weir_batch_create(m.pool, m.schema);
    int rc = WEIR_OK;
    int taken = 0;
    while (rc == WEIR_OK) {
        struct weir_batch *slice = weir_batch_slice(batch, 1, 2);
        rc = weir_batch_borrow(out, taken, slice, 0);
        weir_batch_unref(slice);
        taken += rc == WEIR_OK;
        assert_true(taken < MODEL_COLUMNS);
    }
    assert_int_equal(rc, WEIR_E_LIMIT);
    assert_int_equal(taken, 8);
    weir_batch_unref(batch);
    weir_batch_unref(out);
    model_fini(&m);
}

static void batches_without_rows_can_be_cut(void **state) {
    (void)state;
    struct model m;
    model_init(&m, 19, 20);
    struct weir_batch *never_filled = weir_batch_create(m.pool, m.schema);
    struct weir_batch *filled = model_batch(&m, 0, 0);
    struct weir_batch *batches[] = {never_filled, filled};
    for (int i = 0; i < 2; i++) {
        struct weir_batch *slice = weir_batch_slice(batches[i], 0, 0);
        struct weir_batch *gathered = weir_batch_gather(batches[i], NULL, 0);
        assert_non_null(slice);
        assert_non_null(gathered);
        model_check(&m, slice, NULL, 0);
        model_check(&m, gathered, NULL, 0);
        assert_int_equal(weir_batch_bytes(slice), 0);
        weir_batch_unref(slice);
        weir_batch_unref(gathered);
        weir_batch_unref(batches[i]);
    }
    model_fini(&m);
}

static void bytes_count_the_rows_of_a_slice_alone(void **state) {
    (void)state;
    struct model m;
    model_init(&m, 21, 0);
    struct weir_batch *batch = model_batch(&m, 64, 0);
    size_t whole = weir_batch_bytes(batch);
    size_t parts = 0;
    for (int32_t at = 0; at < 64; at += 8) {
        struct weir_batch *slice = weir_batch_slice(batch, at, 8);
        parts += weir_batch_bytes(slice);
        weir_batch_unref(slice);
    }
    /* Each slice has one more offset a column, and bits round up. */
    assert_in_range(parts, whole, whole + 8 * MODEL_COLUMNS * 16);
    weir_batch_unref(batch);
    model_fini(&m);
}

static void the_pools_cap_fails_cuts_without_a_trace(void **state) {
    (void)state;
    struct model m;
    model_init(&m, 23, 30);
    struct weir_batch *batch = model_batch(&m, 64, 0);
    size_t used = weir_pool_used_bytes(m.pool);
    int32_t sel[64];
    for (int32_t i = 0; i < 64; i++) {
        sel[i] = i;
    }
    /* Everything else in the pool is held, then let go piece by piece until the cuts succeed. */
    enum { PIECES = MODEL_POOL_BYTES / 1024 };
    void **held = calloc(PIECES, sizeof(*held));
    assert_non_null(held);
    int count = 0;
    while ((held[count] = weir_pool_take(m.pool, 1024)) != NULL) {
        count++;
        assert_true(count < PIECES);
    }
    int failed = 0;
    for (int done = 0; done != 3;) {
        size_t before = weir_pool_used_bytes(m.pool);
        struct weir_batch *slice = weir_batch_slice(batch, 3, 40);
        if (slice != NULL) {
            model_check(&m, slice, NULL, 3);
            done |= 1;
        }
        weir_batch_unref(slice);
        struct weir_batch *gathered = weir_batch_gather(batch, sel, 64);
        if (gathered != NULL) {
            model_check(&m, gathered, NULL, 0);
            done |= 2;
        }
        weir_batch_unref(gathered);
        failed += slice == NULL || gathered == NULL;
        assert_int_equal(weir_pool_used_bytes(m.pool), before);
        weir_pool_give(m.pool, held[--count]);
    }
    assert_true(failed > 10);
    while (count > 0) {
        weir_pool_give(m.pool, held[--count]);
    }
    free(held);
    assert_int_equal(weir_pool_used_bytes(m.pool), used);
    weir_batch_unref(batch);
    model_fini(&m);
}

static void a_batch_may_own_more_buffers_than_it_began_with(void **state) {
    (void)state;
    struct weir_pool *pool = weir_pool_create(64 << 20);
    struct weir_schema *schema = weir_schema_create();
    struct weir_batch *batch = weir_batch_create(pool, schema);
    for (int i = 0; i < 5000; i++) {
        uint8_t *buffer = weir_batch_alloc(batch, 1);
        assert_non_null(buffer);
        memset(buffer, i, 1024);
    }
    assert_int_equal(weir_batch_held_bytes(batch), weir_pool_used_bytes(pool));
    weir_batch_unref(batch);
    assert_int_equal(weir_pool_used_bytes(pool), 0);
    weir_schema_unref(schema);
    weir_pool_destroy(pool);
}

static void regrow_keeps_what_is_asked_and_gives_the_old_back(void **state) {
    (void)state;
    struct weir_pool *pool = weir_pool_create(1 << 20);
    struct weir_schema *schema = weir_schema_create();
    struct weir_batch *batch = weir_batch_create(pool, schema);
    char *first = weir_batch_alloc(batch, 1000);
    char *second = weir_batch_alloc(batch, 1000);
    memset(first, 'a', 1000);
    memset(second, 'b', 1000);
    char *wider = weir_batch_regrow(batch, first, 1000, 100000);
    assert_non_null(wider);
    for (int i = 0; i < 1000; i++) {
        assert_true(wider[i] == 'a' && second[i] == 'b');
    }
    assert_null(weir_batch_regrow(batch, wider, 1000, 2 << 20));
    assert_true(wider[999] == 'a');
    assert_null(weir_batch_regrow(batch, batch, 10, 1000)); /* not a buffer of the batch */
    assert_int_equal(batch->buffer_count, 2);
    weir_batch_unref(batch);
    assert_int_equal(weir_pool_used_bytes(pool), 0);
    weir_schema_unref(schema);
    weir_pool_destroy(pool);
}

enum { THREADS = 4, ROUNDS = 3000 };

struct sharing {
    struct weir_batch *batch;
    uint64_t seed;
};

static void *share(void *argument) {
    struct sharing *s = argument;
    for (int i = 0; i < ROUNDS; i++) {
        struct weir_batch *mine = weir_batch_ref(s->batch);
        struct weir_batch *slice =
            weir_batch_slice(mine, (int32_t)(model_random(&s->seed) % 50), 10);
        weir_batch_unref(mine);
        weir_batch_unref(slice); /* NULL at the cap is fine: another thread has the room */
    }
    weir_batch_unref(s->batch);
    return NULL;
}

static void threads_may_share_and_let_go_of_a_batch(void **state) {
    (void)state;
    struct model m;
    model_init(&m, 29, 20);
    struct weir_batch *batch = model_batch(&m, 64, 0);
    pthread_t threads[THREADS];
    struct sharing sharing[THREADS];
    for (int i = 0; i < THREADS; i++) {
        sharing[i] = (struct sharing){weir_batch_ref(batch), (uint64_t)i};
        assert_int_equal(pthread_create(&threads[i], NULL, share, &sharing[i]), 0);
    }
    weir_batch_unref(batch);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    model_fini(&m); /* nothing is held any more */
}

static void fill_writes_every_row_of_an_int64_column(void **state) {
    (void)state;
    struct model m;
    model_init(&m, 33, 0);
    struct weir_batch *batch = model_batch(&m, 20, 0);
    weir_batch_fill_int64(batch, 4, INT64_MIN);
    for (int i = 0; i < 20; i++) {
        assert_true(((int64_t *)batch->columns[4].values)[i] == INT64_MIN);
    }
    weir_batch_unref(batch);
    model_fini(&m);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_at_every_bit_offset_hold_their_rows),
        cmocka_unit_test(slices_of_slices_and_gathers_of_them_hold_their_rows),
        cmocka_unit_test(plain_forms_equal_their_dictionaries),
        cmocka_unit_test(values_are_equal_exactly_when_the_model_says_so),
        cmocka_unit_test(nan_equals_nan_and_zeros_differ_by_sign),
        cmocka_unit_test(borrowed_columns_keep_their_batches_alive),
        cmocka_unit_test(more_parents_than_a_batch_can_have_are_refused),
        cmocka_unit_test(batches_without_rows_can_be_cut),
        cmocka_unit_test(bytes_count_the_rows_of_a_slice_alone),
        cmocka_unit_test(the_pools_cap_fails_cuts_without_a_trace),
        cmocka_unit_test(a_batch_may_own_more_buffers_than_it_began_with),
        cmocka_unit_test(regrow_keeps_what_is_asked_and_gives_the_old_back),
        cmocka_unit_test(threads_may_share_and_let_go_of_a_batch),
        cmocka_unit_test(fill_writes_every_row_of_an_int64_column),
    };
    return cmocka_run_group_tests_name("batch cuts", tests, NULL, NULL);
}
