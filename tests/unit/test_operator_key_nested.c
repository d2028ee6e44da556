/* Whole rows, of every type and nesting, as bytes and back: what a reader that shares no code with
 * either shows of them is the same. */
#include "batch_model.h"
#include "operator/key.h"

enum { ROWS = 150, EVERY = 3, SEEDS = 40, COLUMNS_MAX = 64, CUTS = 200 };

static struct weir_key *whole_key(struct model *m, struct weir_error *err) {
    int32_t columns[COLUMNS_MAX];
    for (int32_t c = 0; c < m->schema->count; c++) {
        columns[c] = c;
    }
    struct weir_key *key = weir_key_create_whole(m->schema, columns, m->schema->count, err);
    assert_non_null(key);
    assert_null(weir_key_create(m->schema, columns, m->schema->count, err)); /* no key is nested */
    return key;
}

/* Some lengths are cut, some bytes changed: refused, or other values; never read beyond. */
static void damage(const struct weir_key *key, const uint8_t *bytes, size_t length, uint64_t *seed,
                   struct weir_batch_builder *builder) {
    for (int i = 0; i < CUTS; i++) {
        size_t cut = i % 2 == 0 ? model_random(seed) % length : length;
        uint8_t *exact = malloc(cut + 1);
        assert_non_null(exact);
        memcpy(exact, bytes, cut);
        if (cut == length) {
            exact[model_random(seed) % length] = (uint8_t)model_random(seed);
        }
        int rc = weir_key_decode(key, exact, cut, builder->columns);
        assert_true(cut == length || rc == WEIR_E_CORRUPT || rc == WEIR_E_LIMIT);
        weir_batch_builder_undo_row(builder);
        free(exact);
    }
}

static void rows_come_back_as_they_were(void **state) {
    (void)state;
    struct weir_error err = {0};
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct model m;
        model_init(&m, seed, (int)(seed % 4) * 30);
        struct weir_batch *batch = model_batch(&m, ROWS, 0);
        uint64_t noise = seed;
        struct weir_key *key = whole_key(&m, &err);
        struct weir_keys keys;
        weir_keys_init(&keys);
        int32_t sel[ROWS / EVERY];
        for (int32_t i = 0; i < ROWS / EVERY; i++) {
            sel[i] = i * EVERY + (int32_t)(seed % EVERY);
        }
        assert_int_equal(weir_key_encode(key, batch, sel, ROWS / EVERY, 0, &keys), WEIR_OK);
        struct weir_batch_builder builder;
        assert_int_equal(weir_batch_builder_init(&builder, m.pool, m.schema, ROWS, 1 << 24, &err),
                         WEIR_OK);
        assert_int_equal(weir_batch_builder_begin(&builder), WEIR_OK);
        for (int32_t i = 0; i < ROWS / EVERY; i++) {
            const uint8_t *bytes = keys.bytes + keys.offsets[i];
            size_t length = keys.offsets[i + 1] - keys.offsets[i];
            if (i == (int32_t)(seed % (ROWS / EVERY))) {
                damage(key, bytes, length, &noise, &builder);
            }
            assert_int_equal(weir_key_decode(key, bytes, length, builder.columns), WEIR_OK);
            weir_batch_builder_finish_row(&builder);
        }
        struct weir_batch *back = weir_batch_builder_take(&builder);
        model_check(&m, back, sel, 0);
        weir_batch_builder_fini(&builder);
        weir_batch_unref(back);
        weir_batch_unref(batch);
        weir_keys_fini(&keys);
        weir_key_destroy(key);
        model_fini(&m);
    }
}

static void other_types_have_another_shape(void **state) {
    (void)state;
    struct weir_error err = {0};
    uint64_t shapes[3];
    const char *const types[] = {"list<int32>", "list<int64>", "struct<a: int64>"};
    for (int i = 0; i < 3; i++) {
        struct weir_schema *schema = weir_schema_create();
        assert_int_equal(weir_schema_add_text(schema, "x", types[i], true, &err), WEIR_OK);
        int32_t column = 0;
        struct weir_key *key = weir_key_create_whole(schema, &column, 1, &err);
        shapes[i] = weir_key_shape(key);
        weir_key_destroy(key);
        weir_schema_unref(schema);
    }
    assert_true(shapes[0] != shapes[1] && shapes[1] != shapes[2] && shapes[0] != shapes[2]);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_come_back_as_they_were),
        cmocka_unit_test(other_types_have_another_shape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
