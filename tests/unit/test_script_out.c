/* Variable-width output columns of map loops. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "script/out.h"

struct fixture {
    struct weir_pool *pool;
    struct weir_schema *schema;
    struct weir_batch *batch;
    struct weir_out *out;
};

static int setup(void **state) {
    static struct fixture f;
    struct weir_error err = {0};
    f.pool = weir_pool_create(64 << 20);
    f.schema = weir_schema_create();
    if (f.pool == NULL || f.schema == NULL ||
        weir_schema_add_text(f.schema, "s", "string", true, &err) != WEIR_OK) {
        return -1;
    }
    f.batch = weir_batch_create(f.pool, f.schema);
    f.out = weir_out_create(WEIR_TYPE_STRING, 1000);
    *state = &f;
    return f.batch == NULL || f.out == NULL;
}

static int teardown(void **state) {
    struct fixture *f = *state;
    weir_out_destroy(f->out);
    weir_batch_unref(f->batch);
    weir_schema_unref(f->schema);
    weir_pool_destroy(f->pool);
    return 0;
}

static void set(struct fixture *f, int32_t row, const char *text) {
    assert_int_equal(weir_out_set_bytes(f->out, row, text, (int64_t)strlen(text)), WEIR_OK);
}

static void is(const struct weir_column *column, int32_t row, const char *wanted) {
    int32_t length;
    if (wanted == NULL) {
        assert_true(weir_column_is_null(column, row));
        return;
    }
    assert_false(weir_column_is_null(column, row));
    const char *bytes = weir_column_bytes(column, row, &length);
    assert_int_equal(length, strlen(wanted));
    assert_memory_equal(bytes, wanted, (size_t)length);
}

static void skipped_rows_are_null_and_the_last_assignment_counts(void **state) {
    struct fixture *f = *state;
    struct weir_column *column = &f->batch->columns[0];
    assert_int_equal(weir_out_begin(f->out, 8), WEIR_OK);
    set(f, 1, "one");
    set(f, 4, "wrong and long");
    set(f, 4, "four");
    set(f, 5, "");
    set(f, 6, "gone");
    assert_int_equal(weir_out_set_null(f->out, 6), WEIR_OK);
    int32_t length;
    assert_non_null(weir_out_get(f->out, 4, &length));
    assert_int_equal(length, 4);
    assert_null(weir_out_get(f->out, 0, &length));
    assert_null(weir_out_get(f->out, 7, &length));
    assert_int_equal(weir_out_finish(f->out, f->batch, column), WEIR_OK);
    static const char *const wanted[] = {NULL, "one", NULL, NULL, "four", "", NULL, NULL};
    for (int32_t i = 0; i < 8; i++) {
        is(column, i, wanted[i]);
    }
    assert_int_equal(column->length, 8);
    assert_int_equal(column->null_count, 5);
    assert_int_equal(column->offsets[8], 7);
}

static void a_full_column_has_no_validity(void **state) {
    struct fixture *f = *state;
    struct weir_column *column = &f->batch->columns[0];
    assert_int_equal(weir_out_begin(f->out, 2), WEIR_OK);
    set(f, 0, "a");
    set(f, 1, "\xc3\xa9");
    assert_int_equal(weir_out_finish(f->out, f->batch, column), WEIR_OK);
    assert_null(column->validity);
    is(column, 1, "\xc3\xa9");
    assert_int_equal(weir_out_begin(f->out, 0), WEIR_OK);
    assert_int_equal(weir_out_finish(f->out, f->batch, column), WEIR_OK);
    assert_int_equal(column->length, 0);
    assert_int_equal(column->offsets[0], 0);
}

static void rewinding_forgets_the_row_that_threw(void **state) {
    struct fixture *f = *state;
    struct weir_column *column = &f->batch->columns[0];
    assert_int_equal(weir_out_begin(f->out, 5), WEIR_OK);
    set(f, 0, "zero");
    set(f, 3, "three");
    weir_out_rewind(f->out, 3);
    weir_out_rewind(f->out, 4); /* nothing is there yet */
    set(f, 4, "four");
    assert_int_equal(weir_out_finish(f->out, f->batch, column), WEIR_OK);
    is(column, 0, "zero");
    is(column, 3, NULL);
    is(column, 4, "four");
}

static void invalid_text_wrong_order_and_the_cap_are_refused(void **state) {
    struct fixture *f = *state;
    static const char *const bad[] = {
        "\xff", "\xc3", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "ascii ascii \xe2\x82",
        "\x80"};
    assert_int_equal(weir_out_begin(f->out, 5), WEIR_OK);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(weir_out_set_bytes(f->out, 0, bad[i], (int64_t)strlen(bad[i])),
                         WEIR_E_DATA);
    }
    set(f, 2, "two");
    assert_int_equal(weir_out_set_bytes(f->out, 1, "x", 1), WEIR_E_BUG);
    assert_int_equal(weir_out_set_bytes(f->out, 5, "x", 1), WEIR_E_BUG);
    assert_int_equal(weir_out_set_bytes(f->out, -1, "x", 1), WEIR_E_BUG);
    assert_int_equal(weir_out_set_bytes(f->out, 3, "x", -1), WEIR_E_BUG);
    char big[1001];
    memset(big, 'x', sizeof(big));
    assert_int_equal(weir_out_set_bytes(f->out, 3, big, sizeof(big)), WEIR_E_LIMIT);
    set(f, 3, "fits");
}

static void nested_values_are_cut_padded_and_finished(void **state) {
    struct fixture *f = *state;
    struct weir_error err = {0};
    struct weir_field field = {.name = (char *)(uintptr_t) "l", .nullable = true};
    assert_int_equal(weir_field_parse_type(&field, "list<struct<n: int64, s: string>>", &err), 0);
    struct weir_out *out = weir_out_create_nested(&field, 1000);
    assert_non_null(out);
    assert_int_equal(weir_out_begin(out, 6), WEIR_OK);
    /* Row 1: assigned twice; row 2 is left in the middle; row 3 is empty; row 5 holds a null. */
    for (int64_t n = 1; n <= 2; n++) {
        struct weir_nested *list = weir_out_nested(out, 1);
        struct weir_nested *item = weir_nested_child(list, 0);
        for (int64_t k = 0; k < n; k++) {
            assert_int_equal(weir_nested_int(weir_nested_child(item, 0), INT64_MIN + n), 0);
            assert_int_equal(weir_nested_bytes(weir_nested_child(item, 1), "abc", 3), 0);
            assert_int_equal(weir_nested_end(item), 0);
        }
        assert_int_equal(weir_nested_end(list), 0);
    }
    struct weir_nested *list = weir_out_nested(out, 2);
    struct weir_nested *item = weir_nested_child(list, 0);
    assert_int_equal(weir_nested_int(weir_nested_child(item, 0), 9), 0);
    assert_int_equal(weir_nested_bytes(weir_nested_child(item, 1), "\xff", 1), WEIR_E_DATA);
    assert_int_equal(weir_nested_end(weir_out_nested(out, 3)), 0);
    assert_null(weir_out_nested(out, 6));
    assert_null(weir_out_nested(out, 2)); /* rows ascend */
    list = weir_out_nested(out, 4);
    assert_int_equal(weir_nested_null(weir_nested_child(list, 0)), 0);
    assert_int_equal(weir_nested_end(list), 0);
    weir_out_rewind(out, 4); /* the loop threw */
    list = weir_out_nested(out, 5);
    assert_int_equal(weir_nested_null(weir_nested_child(list, 0)), 0);
    assert_int_equal(weir_nested_end(list), 0);

    struct weir_column made;
    assert_int_equal(weir_out_finish(out, f->batch, &made), WEIR_OK);
    assert_int_equal(made.length, 6);
    assert_int_equal(made.null_count, 3);
    const int32_t offsets[] = {0, 0, 2, 2, 2, 2, 3};
    assert_memory_equal(made.offsets, offsets, sizeof(offsets));
    assert_false(weir_column_is_null(&made, 3));
    assert_true(weir_column_is_null(&made, 4));
    const struct weir_column *structs = &made.children[0];
    assert_int_equal(structs->length, 3);
    assert_true(weir_column_is_null(structs, 2));
    assert_int_equal(((const int64_t *)structs->children[0].values)[1], INT64_MIN + 2);
    assert_int_equal(structs->children[0].null_count, 1);
    is(&structs->children[1], 1, "abc");
    is(&structs->children[1], 2, NULL);

    /* The cap holds, and the next batch is whole again. */
    assert_int_equal(weir_out_begin(out, 2), WEIR_OK);
    item = weir_nested_child(weir_nested_child(weir_out_nested(out, 0), 0), 0);
    int rc = WEIR_OK;
    for (int i = 0; i < 2000 && rc == WEIR_OK; i++) {
        rc = weir_nested_int(item, i);
    }
    assert_int_equal(rc, WEIR_E_LIMIT);
    weir_out_rewind(out, 0);
    assert_int_equal(weir_nested_end(weir_out_nested(out, 1)), 0);
    assert_int_equal(weir_out_finish(out, f->batch, &made), WEIR_OK);
    assert_int_equal(made.null_count, 1);
    assert_int_equal(made.children[0].length, 0);
    weir_out_destroy(out);
    field.name = NULL;
    weir_field_fini(&field);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nested_values_are_cut_padded_and_finished, setup, teardown),
        cmocka_unit_test_setup_teardown(skipped_rows_are_null_and_the_last_assignment_counts, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_full_column_has_no_validity, setup, teardown),
        cmocka_unit_test_setup_teardown(rewinding_forgets_the_row_that_threw, setup, teardown),
        cmocka_unit_test_setup_teardown(invalid_text_wrong_order_and_the_cap_are_refused, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
