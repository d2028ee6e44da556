/* The digest: the same for the same values however they lie, different for different ones. */
#include "batch/digest.h"
#include "batch_model.h"

static uint64_t digest_all(const struct weir_batch *batch) {
    return weir_batch_digest(batch, NULL, batch->rows, 7);
}

static void encode_all(struct weir_batch *batch) {
    for (int32_t c = 0; c < MODEL_COLUMNS; c++) {
        if (!weir_type_is_nested(batch->columns[c].type) &&
            batch->columns[c].type != WEIR_TYPE_BOOL) {
            model_encode(batch, &batch->columns[c]);
        }
    }
    model_encode(batch, &batch->columns[17].children[0]);
    model_encode(batch, &batch->columns[19].children[1]);
}

/* Garbage wherever a null says that nothing is. */
static void dirty(struct weir_batch *batch, struct weir_column *column) {
    size_t width = (size_t)weir_type_width(column->type);
    for (int64_t i = 0; i < column->length; i++) {
        if (!weir_column_is_null(column, i)) {
            continue;
        }
        if (column->type == WEIR_TYPE_BOOL) {
            weir_bit_set(column->values, i);
        } else if (width > 0) {
            memset((uint8_t *)column->values + (size_t)i * width, 0x5a, width);
        } else if (column->type == WEIR_TYPE_STRUCT) {
            /* The children have values where the struct has none. */
            for (int32_t c = 0; c < column->child_count; c++) {
                struct weir_column *child = &column->children[c];
                if (child->validity != NULL) {
                    child->null_count -= !weir_bit_get(child->validity, i);
                    weir_bit_set(child->validity, i);
                    child->validity = child->null_count == 0 ? NULL : child->validity;
                }
            }
        }
    }
    if (weir_type_is_bytes(column->type)) { /* null slots of 3 bytes each */
        int32_t *offsets = weir_batch_alloc(batch, ((size_t)column->length + 1) * sizeof(int32_t));
        uint8_t *bytes = weir_batch_alloc(batch, (size_t)column->offsets[column->length] +
                                                     (size_t)column->length * 3 + 1);
        assert_non_null(offsets);
        assert_non_null(bytes);
        offsets[0] = 0;
        for (int64_t i = 0; i < column->length; i++) {
            int32_t size = column->offsets[i + 1] - column->offsets[i];
            const void *from = (const uint8_t *)column->values + column->offsets[i];
            if (weir_column_is_null(column, i)) {
                from = "???";
                size = 3;
            }
            memcpy(bytes + offsets[i], from, (size_t)size);
            offsets[i + 1] = offsets[i] + size;
        }
        column->offsets = offsets;
        column->values = bytes;
    }
    for (int32_t c = 0; c < column->child_count; c++) {
        dirty(batch, &column->children[c]);
    }
}

static void the_layout_does_not_matter(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct model m;
        model_init(&m, seed, (int)(seed % 4) * 20);
        int32_t rows = seed == 1 ? 2600 : 220; /* more than a chunk of the digest, and less */
        struct weir_batch *batch = model_batch(&m, rows, 0);
        int32_t sel[2600];
        int32_t count = 0;
        for (int32_t i = 0; i < rows; i++) {
            sel[count] = i;
            count += model_random(&m.state) % 3 != 0;
        }
        uint64_t whole = digest_all(batch);
        uint64_t some = weir_batch_digest(batch, sel, count, 7);
        struct weir_batch *gathered = weir_batch_gather(batch, sel, count);
        struct weir_batch *slice = weir_batch_slice(batch, 5, rows - 11);
        struct weir_batch *copy = weir_batch_gather(slice, sel, 0);
        weir_batch_unref(copy);
        int32_t inside[2600];
        for (int32_t i = 0; i < rows - 11; i++) {
            inside[i] = i + 5;
        }
        copy = weir_batch_gather(batch, inside, rows - 11);
        uint64_t part = digest_all(slice);
        if (digest_all(gathered) != some || digest_all(copy) != part ||
            weir_batch_digest(batch, inside, rows - 11, 7) != part) {
            fail_msg("seed %llu: cuts change the digest", (unsigned long long)seed);
        }
        for (int32_t c = 0; c < MODEL_COLUMNS; c++) {
            dirty(batch, &batch->columns[c]);
        }
        if (digest_all(batch) != whole || weir_batch_digest(batch, sel, count, 7) != some) {
            fail_msg("seed %llu: null slots change the digest", (unsigned long long)seed);
        }
        encode_all(batch);
        encode_all(gathered);
        if (digest_all(batch) != whole || weir_batch_digest(batch, sel, count, 7) != some ||
            digest_all(gathered) != some) {
            fail_msg("seed %llu: dictionaries change the digest", (unsigned long long)seed);
        }
        weir_batch_unref(copy);
        weir_batch_unref(slice);
        weir_batch_unref(gathered);
        weir_batch_unref(batch);
        model_fini(&m);
    }
}

static void a_dictionary_of_bools_is_read(void **state) {
    (void)state;
    uint8_t plain_bits[] = {0x0d}; /* 1 0 1 1 */
    uint8_t dictionary_bits[] = {0x02};
    int32_t codes[] = {1, 0, 1, 1};
    struct weir_column dictionary = {
        .length = 2, .values = dictionary_bits, .type = WEIR_TYPE_BOOL};
    struct weir_column columns[] = {
        {.length = 4, .values = plain_bits, .type = WEIR_TYPE_BOOL},
        {.length = 4, .codes = codes, .dictionary = &dictionary, .type = WEIR_TYPE_BOOL},
    };
    struct weir_batch plain = {.rows = 4, .column_count = 1, .columns = &columns[0]};
    struct weir_batch coded = {.rows = 4, .column_count = 1, .columns = &columns[1]};
    assert_true(digest_all(&plain) == digest_all(&coded));
}

static void every_nan_is_one_and_zeros_are_two(void **state) {
    (void)state;
    double wide[][2] = {{__builtin_nan("1"), 0.0},
                        {-__builtin_nan("77"), 0.0},
                        {__builtin_nan("1"), -0.0},
                        {__builtin_inf(), 0.0}};
    float small[][2] = {{__builtin_nanf("1"), 0.0f},
                        {-__builtin_nanf("77"), 0.0f},
                        {__builtin_nanf("1"), -0.0f},
                        {__builtin_inff(), 0.0f}};
    for (int type = 0; type < 2; type++) {
        uint64_t digests[4];
        for (int i = 0; i < 4; i++) {
            struct weir_column column = {.length = 2,
                                         .values = type == 0 ? (void *)wide[i] : (void *)small[i],
                                         .type = type == 0 ? WEIR_TYPE_DOUBLE : WEIR_TYPE_FLOAT};
            struct weir_batch batch = {.rows = 2, .column_count = 1, .columns = &column};
            digests[i] = digest_all(&batch);
        }
        assert_true(digests[0] == digests[1]);
        assert_true(digests[0] != digests[2]);
        assert_true(digests[0] != digests[3]);
    }
}

static void one_changed_value_changes_the_digest(void **state) {
    (void)state;
    struct model m;
    model_init(&m, 61, 25);
    struct weir_batch *batch = model_batch(&m, 60, 0);
    int32_t rows[60];
    for (int32_t i = 0; i < 60; i++) {
        rows[i] = i;
    }
    uint64_t whole = digest_all(batch);
    /* One row in the place of another, for every column alone. */
    for (int32_t c = 0; c < MODEL_COLUMNS; c++) {
        struct weir_batch one = *batch;
        one.columns = &batch->columns[c];
        one.column_count = 1;
        uint64_t before = digest_all(&one);
        for (int32_t i = 0; i < 60; i++) {
            int32_t other = (i * 7 + 3) % 60;
            bool same = strcmp(model_cell(&m, i, c), model_cell(&m, other, c)) == 0;
            rows[i] = other;
            bool same_digest = weir_batch_digest(&one, rows, 60, 7) == before;
            rows[i] = i;
            if (same != same_digest) {
                fail_msg("%s: row %d for row %d", model_types[c], other, i);
            }
        }
    }
    assert_true(weir_batch_digest(batch, NULL, 60, 8) != whole);
    assert_true(weir_batch_digest(batch, NULL, 59, 7) != whole);
    assert_int_equal(weir_batch_digest(batch, NULL, 0, 7), 7);
    weir_batch_unref(batch);
    model_fini(&m);
}

static void rows_in_another_order_are_other_rows(void **state) {
    (void)state;
    int64_t values[] = {1, 2, 3};
    struct weir_column column = {.length = 3, .values = values, .type = WEIR_TYPE_INT64};
    struct weir_batch batch = {.rows = 3, .column_count = 1, .columns = &column};
    const int32_t swapped[] = {0, 1, 1, 2, 0}; /* ends as neighbours would */
    const int32_t turned[] = {0, 2, 2};
    assert_true(weir_batch_digest(&batch, turned, 3, 7) != digest_all(&batch));
    assert_true(weir_batch_digest(&batch, swapped + 2, 3, 7) != digest_all(&batch));
}

static void where_lists_end_matters(void **state) {
    (void)state;
    int8_t elements[] = {1, 2, 3};
    int32_t first[] = {0, 1, 3};
    int32_t second[] = {0, 2, 3};
    int32_t third[] = {0, 0, 3};
    int32_t *offsets[] = {first, second, third};
    uint64_t digests[3];
    for (int i = 0; i < 3; i++) {
        struct weir_column child = {.length = 3, .values = elements, .type = WEIR_TYPE_INT8};
        struct weir_column list = {.length = 2,
                                   .offsets = offsets[i],
                                   .children = &child,
                                   .child_count = 1,
                                   .type = WEIR_TYPE_LIST};
        struct weir_batch batch = {.rows = 2, .column_count = 1, .columns = &list};
        digests[i] = digest_all(&batch);
    }
    assert_true(digests[0] != digests[1] && digests[1] != digests[2] && digests[0] != digests[2]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_layout_does_not_matter),
        cmocka_unit_test(a_dictionary_of_bools_is_read),
        cmocka_unit_test(every_nan_is_one_and_zeros_are_two),
        cmocka_unit_test(one_changed_value_changes_the_digest),
        cmocka_unit_test(rows_in_another_order_are_other_rows),
        cmocka_unit_test(where_lists_end_matters),
    };
    return cmocka_run_group_tests_name("digest", tests, NULL, NULL);
}
