/* Builders: every type, undone rows, growth, caps. */
#include "batch_model.h"

struct world {
    struct weir_pool *pool;
    struct weir_schema *schema;
    struct weir_batch_builder builder;
};

static void begin_world(struct world *w, const char *type, int32_t rows_max, size_t bytes_max,
                        size_t pool_bytes) {
    w->pool = weir_pool_create(pool_bytes);
    w->schema = weir_schema_create();
    assert_non_null(w->pool);
    assert_non_null(w->schema);
    assert_int_equal(weir_schema_add_text(w->schema, "c", type, true, NULL), WEIR_OK);
    assert_int_equal(
        weir_batch_builder_init(&w->builder, w->pool, w->schema, rows_max, bytes_max, NULL),
        WEIR_OK);
    assert_int_equal(weir_batch_builder_begin(&w->builder), WEIR_OK);
}

static void end_world(struct world *w) {
    weir_batch_builder_fini(&w->builder);
    weir_schema_unref(w->schema);
    assert_int_equal(weir_pool_used_bytes(w->pool), 0);
    weir_pool_destroy(w->pool);
}

static void random_batches_hold_what_was_appended(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct model m;
        model_init(&m, seed, (int)(seed % 4) * 30);
        struct weir_batch *batch = model_batch(&m, (int32_t)(seed * seed * 3 % 400), 0);
        model_check(&m, batch, NULL, 0);
        weir_batch_unref(batch);
        model_fini(&m);
    }
}

/* Children of structs have a value a row, and count their nulls. */
static void check_lengths(const struct weir_column *column) {
    int64_t nulls = 0;
    for (int64_t i = 0; column->validity != NULL && i < column->length; i++) {
        nulls += !weir_bit_get(column->validity, i);
    }
    assert_int_equal(column->null_count, nulls);
    for (int32_t c = 0; c < column->child_count; c++) {
        int64_t length = column->offsets != NULL ? column->offsets[column->length] : column->length;
        assert_int_equal(column->children[c].length, length);
        check_lengths(&column->children[c]);
    }
}

static void undone_rows_leave_no_trace(void **state) {
    (void)state;
    for (uint64_t seed = 100; seed < 124; seed++) {
        struct model m;
        model_init(&m, seed, (int)(seed % 4) * 30);
        struct weir_batch *batch = model_batch(&m, 150, 60);
        model_check(&m, batch, NULL, 0);
        for (int32_t c = 0; c < batch->column_count; c++) {
            check_lengths(&batch->columns[c]);
        }
        weir_batch_unref(batch);
        model_fini(&m);
    }
}

static void all_rows_null(void **state) {
    (void)state;
    struct model m;
    model_init(&m, 5, 100);
    struct weir_batch *batch = model_batch(&m, 33, 30);
    model_check(&m, batch, NULL, 0);
    for (int32_t c = 0; c < batch->column_count; c++) {
        assert_int_equal(batch->columns[c].null_count, 33);
    }
    weir_batch_unref(batch);
    model_fini(&m);
}

/* One null at a time, and the same as one run of them, are the same batch. */
static void runs_of_nulls_are_nulls(void **state) {
    (void)state;
    static const char type[] =
        "struct<a: int64, b: string, c: list<int32>, d: bool, e: struct<f: decimal(20,2)>>";
    struct world w[2];
    struct weir_batch *batches[2];
    for (int k = 0; k < 2; k++) {
        begin_world(&w[k], type, 64, 1 << 20, 1 << 20);
        assert_int_equal(weir_batch_builder_begin_rows(&w[k].builder, 2), WEIR_OK);
        struct weir_column_builder *c = &w[k].builder.columns[0];
        static const int runs[] = {3, 11, 0, 24};
        for (int i = 0; i < 4; i++) {
            for (int n = 0; k == 0 && n < runs[i]; n++) {
                assert_int_equal(weir_builder_null(c), WEIR_OK);
            }
            if (k == 1) {
                assert_int_equal(weir_builder_nulls(c, runs[i]), WEIR_OK);
            }
            assert_int_equal(weir_builder_int(&c->children[0], 7 + i), WEIR_OK);
            assert_int_equal(weir_builder_bytes(&c->children[1], "text", 4), WEIR_OK);
            assert_int_equal(weir_builder_int(&c->children[2].children[0], i), WEIR_OK);
            assert_int_equal(weir_builder_list(&c->children[2]), WEIR_OK);
            assert_int_equal(weir_builder_bool(&c->children[3], true), WEIR_OK);
            assert_int_equal(weir_builder_decimal(&c->children[4].children[0], 5, 0), WEIR_OK);
            assert_int_equal(weir_builder_struct(&c->children[4]), WEIR_OK);
            assert_int_equal(weir_builder_struct(c), WEIR_OK);
            w[k].builder.rows += runs[i] + 1;
        }
        batches[k] = weir_batch_builder_take(&w[k].builder);
        assert_int_equal(batches[k]->rows, 42);
    }
    const struct weir_column *one = &batches[0]->columns[0];
    const struct weir_column *run = &batches[1]->columns[0];
    assert_int_equal(run->null_count, 38);
    assert_int_equal(one->null_count, 38);
    assert_memory_equal(run->validity, one->validity, 5);
    assert_memory_equal(run->children[0].values, one->children[0].values, 42 * sizeof(int64_t));
    assert_memory_equal(run->children[1].offsets, one->children[1].offsets, 43 * sizeof(int32_t));
    assert_memory_equal(run->children[2].offsets, one->children[2].offsets, 43 * sizeof(int32_t));
    assert_int_equal(run->children[2].children[0].length, 4);
    assert_memory_equal(run->children[3].values, one->children[3].values, 5);
    assert_memory_equal(run->children[4].validity, one->children[4].validity, 5);
    assert_memory_equal(run->children[4].children[0].values, one->children[4].children[0].values,
                        42 * 16);
    /* As many as there is room for, and not one more. */
    assert_int_equal(weir_batch_builder_begin_rows(&w[1].builder, 2), WEIR_OK);
    assert_int_equal(weir_builder_nulls(&w[1].builder.columns[0], 65), WEIR_E_LIMIT);
    for (int k = 0; k < 2; k++) {
        weir_batch_unref(batches[k]);
        end_world(&w[k]);
    }
}

static void a_row_not_finished_is_not_taken(void **state) {
    (void)state;
    struct world w;
    begin_world(&w, "list<int32>", 8, 1 << 20, 1 << 20);
    struct weir_column_builder *list = &w.builder.columns[0];
    assert_int_equal(weir_builder_int(&list->children[0], 7), WEIR_OK);
    assert_int_equal(weir_builder_list(list), WEIR_OK);
    weir_batch_builder_finish_row(&w.builder);
    assert_int_equal(weir_builder_int(&list->children[0], 8), WEIR_OK);
    assert_int_equal(weir_builder_null(&list->children[0]), WEIR_OK);
    assert_int_equal(weir_builder_list(list), WEIR_OK);
    struct weir_batch *batch = weir_batch_builder_take(&w.builder);
    assert_int_equal(batch->rows, 1);
    assert_int_equal(batch->columns[0].length, 1);
    assert_int_equal(batch->columns[0].children[0].length, 1);
    assert_int_equal(batch->columns[0].children[0].null_count, 0);
    weir_batch_unref(batch);
    assert_null(weir_batch_builder_take(&w.builder));
    weir_batch_builder_undo_row(&w.builder); /* without a batch: nothing */
    end_world(&w);
}

static void rows_stop_at_rows_max_and_the_batch_stays_usable(void **state) {
    (void)state;
    static const char *const types[] = {"int64", "bool", "string", "struct<a: int8, b: string>",
                                        "list<int8>"};
    for (size_t t = 0; t < sizeof(types) / sizeof(types[0]); t++) {
        for (int small = 0; small < 2; small++) {
            struct world w;
            begin_world(&w, types[t], 37, 1 << 20, 1 << 20);
            if (small) {
                assert_int_equal(weir_batch_builder_begin_rows(&w.builder, 2), WEIR_OK);
            }
            for (int32_t i = 0; i < 37; i++) {
                assert_int_equal(weir_builder_null(&w.builder.columns[0]), WEIR_OK);
                weir_batch_builder_finish_row(&w.builder);
            }
            assert_int_equal(weir_builder_null(&w.builder.columns[0]), WEIR_E_LIMIT);
            weir_batch_builder_undo_row(&w.builder);
            struct weir_batch *batch = weir_batch_builder_take(&w.builder);
            assert_int_equal(batch->rows, 37);
            assert_int_equal(batch->columns[0].length, 37);
            assert_int_equal(batch->columns[0].null_count, 37);
            weir_batch_unref(batch);
            assert_int_equal(weir_batch_builder_begin(&w.builder), WEIR_OK);
            assert_int_equal(weir_builder_null(&w.builder.columns[0]), WEIR_OK);
            end_world(&w);
        }
    }
}

static void bytes_stop_at_bytes_max_and_the_batch_stays_usable(void **state) {
    (void)state;
    struct world w;
    begin_world(&w, "string", 4096, 256 << 10, 16 << 20);
    char text[1000];
    memset(text, 'x', sizeof(text));
    int rc = WEIR_OK;
    while ((rc = weir_builder_bytes(&w.builder.columns[0], text, sizeof(text))) == WEIR_OK) {
        weir_batch_builder_finish_row(&w.builder);
    }
    assert_int_equal(rc, WEIR_E_LIMIT);
    weir_batch_builder_undo_row(&w.builder);
    int32_t rows = w.builder.rows;
    assert_in_range(rows, 100, 300); /* 32 KiB at first, 256 KiB more, by doubling */
    struct weir_batch *batch = weir_batch_builder_take(&w.builder);
    assert_int_equal(batch->rows, rows);
    for (int32_t i = 0; i < rows; i++) {
        int32_t size;
        const char *bytes = weir_column_bytes(&batch->columns[0], i, &size);
        assert_int_equal(size, sizeof(text));
        assert_memory_equal(bytes, text, sizeof(text));
    }
    weir_batch_unref(batch);
    end_world(&w);
}

static void elements_stop_at_bytes_max_and_the_batch_stays_usable(void **state) {
    (void)state;
    struct world w;
    begin_world(&w, "list<int64>", 64, 64 << 10, 16 << 20);
    struct weir_column_builder *list = &w.builder.columns[0];
    int rc = WEIR_OK;
    while (rc == WEIR_OK) {
        for (int i = 0; rc == WEIR_OK && i < 500; i++) {
            rc = weir_builder_int(&list->children[0], i);
        }
        rc = rc == WEIR_OK ? weir_builder_list(list) : rc;
        if (rc == WEIR_OK) {
            weir_batch_builder_finish_row(&w.builder);
        }
    }
    assert_int_equal(rc, WEIR_E_LIMIT);
    assert_true(list->children[0].length % 500 != 0);
    weir_batch_builder_undo_row(&w.builder);
    struct weir_batch *batch = weir_batch_builder_take(&w.builder);
    assert_in_range(batch->rows, 8, 20);
    const struct weir_column *elements = &batch->columns[0].children[0];
    assert_int_equal(elements->length, batch->rows * 500);
    for (int64_t i = 0; i < elements->length; i++) {
        assert_int_equal(((const int64_t *)elements->values)[i], i % 500);
    }
    weir_batch_unref(batch);
    end_world(&w);
}

static void a_row_larger_than_bytes_max_gets_a_batch_of_its_own(void **state) {
    (void)state;
    struct world w;
    begin_world(&w, "string", 16, 1 << 10, 16 << 20);
    size_t size = 3 << 20;
    char *text = malloc(size);
    assert_non_null(text);
    memset(text, 'y', size);
    assert_int_equal(weir_builder_bytes(&w.builder.columns[0], text, size), WEIR_OK);
    weir_batch_builder_finish_row(&w.builder);
    assert_int_equal(weir_builder_bytes(&w.builder.columns[0], text, size), WEIR_E_LIMIT);
    weir_batch_builder_undo_row(&w.builder);
    struct weir_batch *batch = weir_batch_builder_take(&w.builder);
    assert_int_equal(batch->rows, 1);
    int32_t length;
    assert_memory_equal(weir_column_bytes(&batch->columns[0], 0, &length), text, size);
    assert_int_equal(length, size);
    weir_batch_unref(batch);
    assert_int_equal(weir_batch_builder_begin(&w.builder), WEIR_OK);
    assert_int_equal(weir_builder_bytes(&w.builder.columns[0], text, size), WEIR_OK);
    free(text);
    end_world(&w);
}

static void the_pools_cap_is_a_limit_that_passes(void **state) {
    (void)state;
    struct world w;
    begin_world(&w, "string", 64, SIZE_MAX, 256 << 10);
    char text[1000];
    memset(text, 'z', sizeof(text));
    for (int i = 0; i < 20; i++) {
        assert_int_equal(weir_builder_bytes(&w.builder.columns[0], text, sizeof(text)), WEIR_OK);
        weir_batch_builder_finish_row(&w.builder);
    }
    void *other[256];
    int others = 0;
    while (others < 256 && (other[others] = weir_pool_take(w.pool, 1 << 10)) != NULL) {
        others++;
    }
    int rc = WEIR_OK;
    while (rc == WEIR_OK) { /* growth needs what is not there */
        rc = weir_builder_bytes(&w.builder.columns[0], text, sizeof(text));
        if (rc == WEIR_OK) {
            weir_batch_builder_finish_row(&w.builder);
        }
    }
    assert_int_equal(rc, WEIR_E_LIMIT);
    struct weir_batch *batch = weir_batch_builder_take(&w.builder);
    assert_int_equal(weir_batch_builder_begin(&w.builder), WEIR_E_LIMIT);
    assert_null(w.builder.batch);
    weir_batch_unref(batch);
    for (int i = 0; i < others; i++) {
        weir_pool_give(w.pool, other[i]);
    }
    assert_int_equal(weir_batch_builder_begin(&w.builder), WEIR_OK);
    end_world(&w);
}

static void text_past_the_offsets_range_is_refused(void **state) {
    (void)state;
    struct world w;
    begin_world(&w, "binary", 4, SIZE_MAX, (size_t)8 << 30);
    assert_int_equal(weir_builder_bytes(&w.builder.columns[0], "", (size_t)INT32_MAX),
                     WEIR_E_LIMIT);
    assert_int_equal(weir_builder_bytes(&w.builder.columns[0], "", SIZE_MAX), WEIR_E_LIMIT);
    assert_int_equal(weir_builder_bytes(&w.builder.columns[0], "ok", 2), WEIR_OK);
    end_world(&w);
}

static void a_builder_without_rows_is_refused(void **state) {
    (void)state;
    struct weir_schema *schema = model_schema();
    struct weir_batch_builder builder;
    struct weir_error err;
    assert_int_equal(weir_batch_builder_init(&builder, NULL, schema, 0, 1, &err), WEIR_E_CONFIG);
    assert_non_null(strstr(err.message, "rows_max 0"));
    weir_batch_builder_fini(&builder);
    weir_schema_unref(schema);
}

static void nan_sets_the_columns_flag(void **state) {
    (void)state;
    struct world w;
    begin_world(&w, "double", 4, 1 << 10, 1 << 20);
    assert_int_equal(weir_builder_double(&w.builder.columns[0], 1.0), WEIR_OK);
    assert_int_equal(w.builder.columns[0].flags, 0);
    weir_batch_builder_finish_row(&w.builder);
    assert_int_equal(weir_builder_double(&w.builder.columns[0], __builtin_nan("")), WEIR_OK);
    weir_batch_builder_finish_row(&w.builder);
    struct weir_batch *batch = weir_batch_builder_take(&w.builder);
    assert_int_equal(batch->columns[0].flags, WEIR_COLUMN_MAY_HAVE_NAN);
    weir_batch_unref(batch);
    assert_int_equal(weir_batch_builder_begin(&w.builder), WEIR_OK);
    assert_int_equal(w.builder.columns[0].flags, 0);
    end_world(&w);
}

static void nulls_hold_zero_bytes(void **state) {
    (void)state;
    static const char *const types[] = {"int8",  "int16",  "int32",        "int64",
                                        "float", "double", "decimal(9,2)", "timestamp_ns"};
    for (size_t t = 0; t < sizeof(types) / sizeof(types[0]); t++) {
        struct world w;
        begin_world(&w, types[t], 4, 1 << 10, 1 << 20);
        memset(w.builder.columns[0].values, 0xff, 64);
        assert_int_equal(weir_builder_null(&w.builder.columns[0]), WEIR_OK);
        weir_batch_builder_finish_row(&w.builder);
        struct weir_batch *batch = weir_batch_builder_take(&w.builder);
        static const uint8_t zeros[16];
        assert_memory_equal(batch->columns[0].values, zeros,
                            (size_t)weir_type_width(batch->columns[0].type));
        weir_batch_unref(batch);
        end_world(&w);
    }
}

static void steady_state_does_not_reach_malloc(void **state) {
    (void)state;
    struct model m;
    model_init(&m, 77, 20);
    uint64_t mallocs = 0;
    for (int round = 0; round < 40; round++) {
        m.state = 77;
        weir_buffer_clear(&m.text);
        struct weir_batch *batch = model_batch(&m, 200, 10);
        struct weir_batch *slice = weir_batch_slice(batch, 3, 100);
        int32_t sel[50];
        for (int i = 0; i < 50; i++) {
            sel[i] = i * 2 + 1;
        }
        struct weir_batch *gathered = weir_batch_gather(slice, sel, 50);
        assert_non_null(gathered);
        weir_batch_unref(batch);
        weir_batch_unref(slice);
        weir_batch_unref(gathered);
        if (round == 2) {
            mallocs = weir_pool_made_count(m.pool);
        }
    }
    assert_int_equal(weir_pool_made_count(m.pool), mallocs);
    model_fini(&m);
}

static void growth_gives_the_smaller_buffers_back(void **state) {
    (void)state;
    struct world w;
    begin_world(&w, "string", 16, SIZE_MAX, 64 << 20);
    char *text = calloc(1, 1 << 20);
    assert_non_null(text);
    size_t before = weir_pool_used_bytes(w.pool);
    for (int i = 0; i < 7; i++) {
        assert_int_equal(weir_builder_bytes(&w.builder.columns[0], text, 1 << 20), WEIR_OK);
        weir_batch_builder_finish_row(&w.builder);
    }
    assert_in_range(weir_pool_used_bytes(w.pool), before, before + (8 << 20));
    assert_int_equal(weir_batch_held_bytes(w.builder.batch), weir_pool_used_bytes(w.pool));
    free(text);
    end_world(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_batches_hold_what_was_appended),
        cmocka_unit_test(undone_rows_leave_no_trace),
        cmocka_unit_test(all_rows_null),
        cmocka_unit_test(runs_of_nulls_are_nulls),
        cmocka_unit_test(a_row_not_finished_is_not_taken),
        cmocka_unit_test(rows_stop_at_rows_max_and_the_batch_stays_usable),
        cmocka_unit_test(bytes_stop_at_bytes_max_and_the_batch_stays_usable),
        cmocka_unit_test(elements_stop_at_bytes_max_and_the_batch_stays_usable),
        cmocka_unit_test(a_row_larger_than_bytes_max_gets_a_batch_of_its_own),
        cmocka_unit_test(the_pools_cap_is_a_limit_that_passes),
        cmocka_unit_test(text_past_the_offsets_range_is_refused),
        cmocka_unit_test(a_builder_without_rows_is_refused),
        cmocka_unit_test(nan_sets_the_columns_flag),
        cmocka_unit_test(nulls_hold_zero_bytes),
        cmocka_unit_test(steady_state_does_not_reach_malloc),
        cmocka_unit_test(growth_gives_the_smaller_buffers_back),
    };
    return cmocka_run_group_tests_name("batch builder", tests, NULL, NULL);
}
