/* The generator gives the same events whatever the batches, the rate and the way they are written.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "source/generator.h"
#include "source/source.h"

static struct weir_pool *pool;

static struct weir_source *open_source(const char *kind, const char *options,
                                       const struct weir_position *position) {
    struct weir_error err = {0};
    struct weir_schema *schema = weir_generator_schema();
    struct weir_source_config config = {.name = "bronze.pos_sale",
                                        .kind = kind,
                                        .options_json = options,
                                        .decoder = strcmp(kind, "files") == 0 ? "json" : NULL,
                                        .schema = schema,
                                        .pool = pool,
                                        .until_end = true};
    struct weir_source *source;
    if (weir_source_create(&source, &config, &err) != WEIR_OK ||
        weir_source_open(source, position, position != NULL ? 1 : 0, &err) != WEIR_OK) {
        fail_msg("%s", err.message);
    }
    weir_schema_unref(schema);
    return source;
}

static struct weir_source_batch *next(struct weir_source *source, int32_t rows) {
    struct weir_error err = {0};
    struct weir_source_batch *batch;
    if (weir_source_next(source, 0, rows, &batch, &err) != WEIR_OK) {
        fail_msg("%s", err.message);
    }
    return batch;
}

static void test_json_lines_and_columns_hold_the_same_events(void **state) {
    (void)state;
    enum { COUNT = 3000 };
    struct weir_error err = {0};
    char path[] = "/tmp/weir_generator_XXXXXX";
    FILE *file = fdopen(mkstemp(path), "wb");
    assert_non_null(file);
    assert_int_equal(weir_generator_write_jsonl(7, COUNT, file, &err), 0);
    fclose(file);
    char options[128];
    snprintf(options, sizeof(options), "{\"path\":\"%s\"}", path);
    struct weir_source *written = open_source("files", options, NULL);
    struct weir_source *made = open_source("generator", "{\"seed\":7,\"count\":3000}", NULL);
    struct weir_source_batch *a = next(written, 0);
    struct weir_source_batch *b = next(made, 0);
    assert_null(a->rejects);
    assert_int_equal(a->rows, COUNT);
    assert_int_equal(b->rows, COUNT);
    assert_true(a->end && b->end);
    for (int32_t c = 0; c < a->batch->column_count - WEIR_META_COUNT; c++) {
        for (int32_t row = 0; row < COUNT; row++) {
            if (!weir_column_value_equal(&a->batch->columns[c], row, &b->batch->columns[c], row)) {
                fail_msg("row %d differs in %s", row, a->batch->schema->fields[c].name);
            }
        }
    }
    assert_null(next(made, 0));
    weir_source_batch_release(a);
    weir_source_batch_release(b);
    weir_source_destroy(written);
    weir_source_destroy(made);
    remove(path);
}

static void test_any_batch_size_and_any_resume_give_the_same_events(void **state) {
    (void)state;
    const char *options = "{\"count\":500,\"defects\":0.5}";
    struct weir_source *whole = open_source("generator", options, NULL);
    struct weir_source_batch *all = next(whole, 0);
    uint8_t bytes[64];
    struct weir_position position = {NULL, 0};
    int32_t row = 0;
    bool end = false;
    for (int32_t size = 1; !end; size = size * 2 % 37 + 1) {
        struct weir_source *source = open_source("generator", options, &position);
        struct weir_source_batch *batch = next(source, size);
        for (int32_t i = 0; i < batch->rows; i++, row++) {
            for (int32_t c = 0; c < batch->batch->column_count; c++) {
                assert_true(weir_column_value_equal(&batch->batch->columns[c], i,
                                                    &all->batch->columns[c], row));
            }
        }
        end = batch->end;
        memcpy(bytes, batch->position.bytes, batch->position.size);
        position = (struct weir_position){bytes, batch->position.size};
        weir_source_batch_release(batch);
        weir_source_destroy(source);
    }
    assert_int_equal(row, 500);
    weir_source_batch_release(all);
    weir_source_destroy(whole);
}

static void test_defects_come_in_the_share_asked_for(void **state) {
    (void)state;
    static const struct {
        const char *options;
        int low;
        int high;
    } cases[] = {{"{\"count\":4000,\"defects\":0}", 0, 0},
                 {"{\"count\":4000,\"defects\":1}", 500, 900}};
    for (int i = 0; i < 2; i++) {
        struct weir_source *source = open_source("generator", cases[i].options, NULL);
        struct weir_source_batch *batch = next(source, 0);
        const struct weir_column *currency =
            &batch->batch->columns[weir_schema_find(batch->batch->schema, "currency")];
        int unknown = 0;
        for (int32_t row = 0; row < batch->rows; row++) {
            int32_t length;
            if (!weir_column_is_null(currency, row)) {
                unknown += memcmp(weir_column_bytes(currency, row, &length), "XXX", 3) == 0;
            }
        }
        assert_in_range(unknown, cases[i].low, cases[i].high);
        weir_source_batch_release(batch);
        weir_source_destroy(source);
    }
}

static void test_an_endless_generator_cannot_run_until_its_end(void **state) {
    (void)state;
    struct weir_error err = {0};
    struct weir_source_config config = {
        .name = "x", .pipeline = "p", .kind = "generator", .pool = pool, .until_end = true};
    struct weir_source *source;
    assert_int_equal(weir_source_create(&source, &config, &err), WEIR_E_CONFIG);
    assert_non_null(strstr(err.message, "count"));
    config.pipeline = NULL; /* a replay reads what was read */
    assert_int_equal(weir_source_create(&source, &config, &err), WEIR_OK);
    weir_source_destroy(source);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_lines_and_columns_hold_the_same_events),
        cmocka_unit_test(test_any_batch_size_and_any_resume_give_the_same_events),
        cmocka_unit_test(test_defects_come_in_the_share_asked_for),
        cmocka_unit_test(test_an_endless_generator_cannot_run_until_its_end),
    };
    pool = weir_pool_create(256 << 20);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    failed += weir_pool_used_bytes(pool) != 0;
    weir_pool_destroy(pool);
    return failed;
}
