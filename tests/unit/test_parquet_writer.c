/* The writer's promises beyond bytes: exact file statistics, refusals with a way out, bounded
 * memory, exclusion, reuse after failures, batch dictionaries, the footer's extras. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "parquet_sample.h"

enum { POOL_BYTES = 256 << 20 };

static struct weir_schema *schema_of(const char *const (*columns)[2], int count, bool nullable) {
    struct weir_schema *schema = weir_schema_create();
    for (int i = 0; i < count; i++) {
        assert_int_equal(weir_schema_add_text(schema, columns[i][0], columns[i][1], nullable, NULL),
                         0);
    }
    return schema;
}

static struct weir_parquet_writer *writer_for(struct weir_schema *schema,
                                              const struct weir_parquet_writer_options *options) {
    struct weir_error err = {0};
    struct weir_parquet_writer_options defaults;
    weir_parquet_writer_options_init(&defaults);
    struct weir_parquet_writer *writer = NULL;
    if (weir_parquet_writer_create(&writer, schema, options != NULL ? options : &defaults, &err)) {
        fail_msg("%s", err.message);
    }
    return writer;
}

static struct weir_batch_builder builder_for(struct weir_pool *pool, struct weir_schema *schema) {
    struct weir_batch_builder builder;
    assert_int_equal(weir_batch_builder_init(&builder, pool, schema, 4096, 16 << 20, NULL), 0);
    assert_int_equal(weir_batch_builder_begin(&builder), 0);
    return builder;
}

static void write_one(struct weir_parquet_writer *writer, const struct weir_batch *batch,
                      struct sample_file *file, struct weir_parquet_file_info *info) {
    struct weir_error err = {0};
    *file = (struct sample_file){.fail_after = -1};
    int rc = weir_parquet_writer_open(writer, sample_write, file, &err);
    rc = rc != 0 ? rc : weir_parquet_writer_append(writer, batch, NULL, batch->rows, &err);
    rc = rc != 0 ? rc : weir_parquet_writer_finish(writer, info, &err);
    if (rc != 0) {
        fail_msg("%s", err.message);
    }
}

static void statistics_are_exact_in_batch_form(void **state) {
    (void)state;
    static const char *const columns[][2] = {{"i8", "int8"},         {"d", "decimal(5,2)"},
                                             {"w", "decimal(30,2)"}, {"s", "string"},
                                             {"b", "bool"},          {"t", "timestamp"}};
    struct weir_pool *pool = weir_pool_create(POOL_BYTES);
    struct weir_schema *schema = schema_of(columns, 6, true);
    struct weir_batch_builder builder = builder_for(pool, schema);
    struct weir_column_builder *c = builder.columns;
    for (int i = 0; i < 100; i++) {
        int rc = weir_builder_int(&c[0], i - 50);
        rc |= weir_builder_decimal(&c[1], (uint64_t)(int64_t)(i * 3 - 150), i < 50 ? -1 : 0);
        rc |= weir_builder_decimal(&c[2], (uint64_t)i, i - 7);
        char text[16];
        rc |= weir_builder_bytes(&c[3], text, (size_t)snprintf(text, sizeof(text), "v%02d", i));
        rc |= weir_builder_bool(&c[4], true);
        rc |= i % 4 == 0 ? weir_builder_null(&c[5]) : weir_builder_int(&c[5], i * 1000003LL);
        assert_int_equal(rc, 0);
        weir_batch_builder_finish_row(&builder);
    }
    struct weir_batch *batch = weir_batch_builder_take(&builder);
    struct weir_parquet_writer *writer = writer_for(schema, NULL);
    struct sample_file file;
    struct weir_parquet_file_info info;
    write_one(writer, batch, &file, &info);
    assert_int_equal(info.column_count, 6);
    assert_int_equal(*(const int8_t *)info.columns[0].min, -50);
    assert_int_equal(info.columns[0].min_size, 1);
    assert_int_equal(*(const int8_t *)info.columns[0].max, 49);
    __int128 wide;
    memcpy(&wide, info.columns[1].min, sizeof(wide));
    assert_true(wide == -150);
    memcpy(&wide, info.columns[1].max, sizeof(wide));
    assert_true(wide == 147);
    memcpy(&wide, info.columns[2].min, sizeof(wide));
    assert_true(wide == -7 * ((__int128)1 << 64));
    memcpy(&wide, info.columns[2].max, sizeof(wide));
    assert_true(wide == ((__int128)92 << 64) + 99);
    assert_int_equal(info.columns[3].max_size, 3);
    assert_memory_equal(info.columns[3].min, "v00", 3);
    assert_memory_equal(info.columns[3].max, "v99", 3);
    assert_int_equal(*(const uint8_t *)info.columns[4].min, 1);
    assert_int_equal(info.columns[5].null_count, 25);
    assert_int_equal(info.columns[5].value_count, 100);
    assert_int_equal(*(const int64_t *)info.columns[5].max, 99 * 1000003LL);
    assert_string_equal(info.columns[5].path[0], "t");
    free(file.bytes);
    weir_parquet_writer_destroy(writer);
    weir_batch_unref(batch);
    weir_batch_builder_fini(&builder);
    weir_schema_unref(schema);
    weir_pool_destroy(pool);
}

static void nan_is_flagged_and_zero_bounds_carry_the_wider_sign(void **state) {
    (void)state;
    static const char *const columns[][2] = {
        {"zeros", "double"}, {"nan", "double"}, {"only_nan", "float"}};
    struct weir_pool *pool = weir_pool_create(POOL_BYTES);
    struct weir_schema *schema = schema_of(columns, 3, true);
    struct weir_batch_builder builder = builder_for(pool, schema);
    struct weir_column_builder *c = builder.columns;
    for (int i = 0; i < 10; i++) {
        int rc = weir_builder_double(&c[0], i % 2 ? 0.0 : -0.0);
        rc |= weir_builder_double(&c[1], i == 5 ? (double)NAN : i);
        rc |= weir_builder_float(&c[2], NAN);
        assert_int_equal(rc, 0);
        weir_batch_builder_finish_row(&builder);
    }
    struct weir_batch *batch = weir_batch_builder_take(&builder);
    struct weir_parquet_writer *writer = writer_for(schema, NULL);
    struct sample_file file;
    struct weir_parquet_file_info info;
    write_one(writer, batch, &file, &info);
    double bound;
    memcpy(&bound, info.columns[0].min, sizeof(bound));
    assert_true(bound == 0.0 && signbit(bound));
    memcpy(&bound, info.columns[0].max, sizeof(bound));
    assert_true(bound == 0.0 && !signbit(bound));
    assert_false(info.columns[0].has_nan);
    assert_true(info.columns[1].has_nan && info.columns[1].min_max_set);
    memcpy(&bound, info.columns[1].max, sizeof(bound));
    assert_true(bound == 9.0);
    assert_true(info.columns[2].has_nan);
    assert_false(info.columns[2].min_max_set);
    free(file.bytes);
    weir_parquet_writer_destroy(writer);
    weir_batch_unref(batch);
    weir_batch_builder_fini(&builder);
    weir_schema_unref(schema);
    weir_pool_destroy(pool);
}

static void a_decimal_past_its_precision_is_refused(void **state) {
    (void)state;
    static const char *const columns[][2] = {{"price", "decimal(5,2)"}};
    struct weir_pool *pool = weir_pool_create(POOL_BYTES);
    struct weir_schema *schema = schema_of(columns, 1, true);
    struct weir_batch_builder builder = builder_for(pool, schema);
    assert_int_equal(weir_builder_decimal(&builder.columns[0], 100000, 0), 0);
    weir_batch_builder_finish_row(&builder);
    struct weir_batch *batch = weir_batch_builder_take(&builder);
    struct weir_parquet_writer *writer = writer_for(schema, NULL);
    struct sample_file file = {.fail_after = -1};
    struct weir_error err = {0};
    assert_int_equal(weir_parquet_writer_open(writer, sample_write, &file, &err), 0);
    assert_int_equal(weir_parquet_writer_append(writer, batch, NULL, 1, &err), WEIR_E_DATA);
    assert_non_null(strstr(err.message, "price"));
    assert_non_null(strstr(err.message, "decimal(5,2)"));
    /* nothing but abort is possible now, and then the writer works again */
    assert_int_equal(weir_parquet_writer_finish(writer, NULL, &err), WEIR_E_BUG);
    weir_parquet_writer_abort(writer);
    assert_false(weir_parquet_writer_is_open(writer));
    free(file.bytes);
    file = (struct sample_file){.fail_after = -1};
    assert_int_equal(weir_parquet_writer_open(writer, sample_write, &file, &err), 0);
    assert_int_equal(weir_parquet_writer_finish(writer, NULL, &err), 0);
    free(file.bytes);
    weir_parquet_writer_destroy(writer);
    weir_batch_unref(batch);
    weir_batch_builder_fini(&builder);
    weir_schema_unref(schema);
    weir_pool_destroy(pool);
}

static void nulls_in_required_columns_are_refused(void **state) {
    (void)state;
    static const char *const columns[][2] = {{"plain", "int64"}, {"nested", "list<int32>"}};
    for (int which = 0; which < 2; which++) {
        struct weir_pool *pool = weir_pool_create(POOL_BYTES);
        struct weir_schema *loose = schema_of(&columns[which], 1, true);
        struct weir_schema *strict = schema_of(&columns[which], 1, false);
        struct weir_batch_builder builder = builder_for(pool, loose);
        assert_int_equal(weir_builder_null(&builder.columns[0]), 0);
        weir_batch_builder_finish_row(&builder);
        struct weir_batch *batch = weir_batch_builder_take(&builder);
        struct weir_parquet_writer *writer = writer_for(strict, NULL);
        struct sample_file file = {.fail_after = -1};
        struct weir_error err = {0};
        assert_int_equal(weir_parquet_writer_open(writer, sample_write, &file, &err), 0);
        assert_int_equal(weir_parquet_writer_append(writer, batch, NULL, 1, &err), WEIR_E_DATA);
        assert_non_null(strstr(err.message, columns[which][0]));
        free(file.bytes);
        weir_parquet_writer_destroy(writer);
        weir_batch_unref(batch);
        weir_batch_builder_fini(&builder);
        weir_schema_unref(strict);
        weir_schema_unref(loose);
        weir_pool_destroy(pool);
    }
}

static void a_failing_write_is_reported_wherever_it_happens(void **state) {
    (void)state;
    struct weir_pool *pool = weir_pool_create(POOL_BYTES);
    struct weir_schema *schema = sample_schema(true);
    struct sample sample = {.seed = 3, .null_percent = 10};
    struct weir_batch *batch = sample_batch(pool, schema, &sample, 500);
    struct weir_parquet_writer_options options;
    weir_parquet_writer_options_init(&options);
    options.row_group_rows = 100;
    struct weir_parquet_writer *writer = writer_for(schema, &options);
    struct sample_file whole;
    write_one(writer, batch, &whole, NULL);
    for (int64_t limit = 0; limit < (int64_t)whole.size; limit += (int64_t)whole.size / 50 + 1) {
        struct sample_file file = {.fail_after = limit};
        struct weir_error err = {0};
        int rc = weir_parquet_writer_open(writer, sample_write, &file, &err);
        rc = rc != 0 ? rc : weir_parquet_writer_append(writer, batch, NULL, batch->rows, &err);
        rc = rc != 0 ? rc : weir_parquet_writer_finish(writer, NULL, &err);
        assert_int_equal(rc, WEIR_E_IO);
        weir_parquet_writer_abort(writer);
        free(file.bytes);
    }
    struct sample_file again; /* and the next file is the same as the first */
    write_one(writer, batch, &again, NULL);
    assert_int_equal(again.size, whole.size);
    assert_memory_equal(again.bytes, whole.bytes, whole.size);
    free(again.bytes);
    free(whole.bytes);
    weir_parquet_writer_destroy(writer);
    weir_batch_unref(batch);
    weir_schema_unref(schema);
    weir_pool_destroy(pool);
}

static void excluded_columns_field_ids_and_metadata_reach_the_file(void **state) {
    (void)state;
    static const char *const columns[][2] = {
        {"day", "date"}, {"s", "struct<a: int32, b: string>"}, {"id", "int64"}};
    struct weir_pool *pool = weir_pool_create(POOL_BYTES);
    struct weir_schema *schema = schema_of(columns, 3, true);
    bool excluded[] = {true, false, false};
    int32_t ids[] = {10, 11, 12, -1, 14};
    struct weir_parquet_key_value pair = {"weir.test", "yes"};
    struct weir_parquet_writer_options options;
    weir_parquet_writer_options_init(&options);
    options.excluded = excluded;
    options.field_ids = ids;
    options.field_id_count = 5;
    options.metadata = &pair;
    options.metadata_count = 1;
    struct weir_parquet_writer *writer = writer_for(schema, &options);
    struct sample sample = {.seed = 5, .null_percent = 10};
    struct weir_batch *batch = sample_batch(pool, schema, &sample, 50);
    struct sample_file file;
    write_one(writer, batch, &file, NULL);
    struct weir_error err = {0};
    struct weir_parquet_reader_options reading = {.pool = pool};
    struct weir_parquet_reader *reader = NULL;
    assert_int_equal(
        weir_parquet_reader_open_memory(&reader, file.bytes, file.size, &reading, &err), 0);
    struct weir_schema *got = weir_parquet_reader_schema(reader);
    assert_int_equal(got->count, 2);
    assert_int_equal(weir_schema_find(got, "day"), -1);
    assert_string_equal(weir_parquet_reader_metadata(reader, "weir.test"), "yes");
    assert_null(weir_parquet_reader_metadata(reader, "absent"));
    int32_t count;
    const struct weir_parquet_node *nodes = weir_parquet_reader_nodes(reader, &count);
    assert_int_equal(count, 5);
    assert_int_equal(nodes[weir_parquet_reader_column_node(reader, 0)].field_id, 11);
    assert_int_equal(nodes[2].field_id, 12);
    assert_int_equal(nodes[3].field_id, -1);
    assert_int_equal(nodes[weir_parquet_reader_column_node(reader, 1)].field_id, 14);
    /* projection: the second column alone */
    int32_t only = 1;
    assert_int_equal(weir_parquet_reader_select(reader, &only, 1, &err), 0);
    struct weir_batch *read = NULL;
    assert_int_equal(weir_parquet_reader_next(reader, &read, &err), 0);
    assert_int_equal(read->column_count, 1);
    assert_int_equal(read->rows, 50);
    for (int32_t i = 0; i < 50; i++) {
        assert_true(weir_column_value_equal(&read->columns[0], i, &batch->columns[2], i));
    }
    weir_batch_unref(read);
    weir_parquet_reader_close(reader);
    free(file.bytes);
    weir_parquet_writer_destroy(writer);
    weir_batch_unref(batch);
    weir_schema_unref(schema);
    weir_pool_destroy(pool);
}

static void batch_dictionaries_are_written_by_code(void **state) {
    (void)state;
    static const char *const columns[][2] = {{"s", "string"}, {"n", "int64"}};
    struct weir_pool *pool = weir_pool_create(POOL_BYTES);
    struct weir_schema *schema = schema_of(columns, 2, true);
    struct sample sample = {.seed = 11, .shape = SAMPLE_UNIQUE};
    struct weir_batch *values = sample_batch(pool, schema, &sample, 40);
    struct weir_batch *batch = weir_batch_create(pool, schema);
    assert_non_null(batch);
    int32_t codes[2000];
    for (int32_t i = 0; i < 2000; i++) {
        codes[i] = (int32_t)(sample_random(&sample.seed) % 40);
    }
    batch->rows = 2000;
    for (int32_t c = 0; c < 2; c++) {
        batch->columns[c].length = 2000;
        batch->columns[c].codes = codes;
        batch->columns[c].dictionary = &values->columns[c];
    }
    struct weir_parquet_writer *writer = writer_for(schema, NULL);
    struct sample_file file;
    write_one(writer, batch, &file, NULL);
    struct weir_error err = {0};
    struct weir_parquet_reader_options reading = {.pool = pool};
    struct weir_parquet_reader *reader = NULL;
    assert_int_equal(
        weir_parquet_reader_open_memory(&reader, file.bytes, file.size, &reading, &err), 0);
    struct weir_batch *read = NULL;
    assert_int_equal(weir_parquet_reader_next(reader, &read, &err), 0);
    assert_int_equal(read->rows, 2000);
    for (int32_t i = 0; i < 2000; i++) {
        for (int32_t c = 0; c < 2; c++) {
            assert_true(
                weir_column_value_equal(&read->columns[c], i, &values->columns[c], codes[i]));
        }
    }
    weir_batch_unref(read);
    weir_parquet_reader_close(reader);
    free(file.bytes);
    weir_parquet_writer_destroy(writer);
    weir_batch_unref(batch);
    weir_batch_unref(values);
    weir_schema_unref(schema);
    weir_pool_destroy(pool);
}

static void memory_stays_bounded_and_flat_from_file_to_file(void **state) {
    (void)state;
    static const char *const columns[][2] = {{"s", "string"}, {"n", "int64"}};
    struct weir_pool *pool = weir_pool_create(POOL_BYTES);
    struct weir_schema *schema = schema_of(columns, 2, true);
    struct sample sample = {.seed = 9, .shape = SAMPLE_UNIQUE};
    struct weir_batch *batch = sample_batch(pool, schema, &sample, 4096);
    struct weir_parquet_writer_options options;
    weir_parquet_writer_options_init(&options);
    options.memory_bytes = 1 << 20;
    options.dictionary_bytes = 0; /* the batches repeat, which must not help */
    options.page_bytes = 64 << 10;
    struct weir_parquet_writer *writer = writer_for(schema, &options);
    int64_t first = 0;
    for (int round = 0; round < 4; round++) {
        struct weir_error err = {0};
        struct sample_file file = {.fail_after = -1};
        assert_int_equal(weir_parquet_writer_open(writer, sample_write, &file, &err), 0);
        int64_t before = 0;
        for (int i = 0; i < 100; i++) {
            assert_int_equal(weir_parquet_writer_append(writer, batch, NULL, 4096, &err), 0);
            before = weir_parquet_writer_size_estimate(writer);
        }
        assert_int_equal(weir_parquet_writer_rows(writer), 409600);
        struct weir_parquet_file_info info;
        assert_int_equal(weir_parquet_writer_finish(writer, &info, &err), 0);
        assert_true(info.row_groups > 5); /* forced out early, over and over */
        assert_true(before > info.bytes / 2 && before < info.bytes * 2);
        first = round == 0 ? weir_parquet_writer_memory(writer) : first;
        assert_int_equal(weir_parquet_writer_memory(writer), first);
        free(file.bytes);
    }
    assert_true(first < 24 << 20);
    weir_parquet_writer_destroy(writer);
    weir_batch_unref(batch);
    weir_schema_unref(schema);
    weir_pool_destroy(pool);
}

static void options_out_of_range_are_refused(void **state) {
    (void)state;
    static const char *const columns[][2] = {{"n", "int64"}};
    struct weir_schema *schema = schema_of(columns, 1, true);
    struct weir_parquet_writer *writer = NULL;
    struct weir_parquet_writer_options options;
    struct weir_error err = {0};
    weir_parquet_writer_options_init(&options);
    options.codec = WEIR_PARQUET_LZ4_HADOOP;
    assert_int_equal(weir_parquet_writer_create(&writer, schema, &options, &err), WEIR_E_CONFIG);
    assert_non_null(strstr(err.message, "zstd"));
    weir_parquet_writer_options_init(&options);
    options.level = 23;
    assert_int_equal(weir_parquet_writer_create(&writer, schema, &options, &err), WEIR_E_CONFIG);
    weir_parquet_writer_options_init(&options);
    options.page_rows = 0;
    assert_int_equal(weir_parquet_writer_create(&writer, schema, &options, &err), WEIR_E_CONFIG);
    weir_parquet_writer_options_direct_lake(&options);
    const int32_t missing = 1;
    options.sorted_by = &missing;
    options.sorted_by_count = 1;
    assert_int_equal(weir_parquet_writer_create(&writer, schema, &options, &err), WEIR_E_CONFIG);
    options.sorted_by_count = 9;
    assert_int_equal(weir_parquet_writer_create(&writer, schema, &options, &err), WEIR_E_CONFIG);
    weir_parquet_writer_options_init(&options);
    bool all = true;
    options.excluded = &all;
    assert_int_equal(weir_parquet_writer_create(&writer, schema, &options, &err), WEIR_E_SCHEMA);
    assert_null(writer);
    weir_schema_unref(schema);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(statistics_are_exact_in_batch_form),
        cmocka_unit_test(nan_is_flagged_and_zero_bounds_carry_the_wider_sign),
        cmocka_unit_test(a_decimal_past_its_precision_is_refused),
        cmocka_unit_test(nulls_in_required_columns_are_refused),
        cmocka_unit_test(a_failing_write_is_reported_wherever_it_happens),
        cmocka_unit_test(excluded_columns_field_ids_and_metadata_reach_the_file),
        cmocka_unit_test(batch_dictionaries_are_written_by_code),
        cmocka_unit_test(memory_stays_bounded_and_flat_from_file_to_file),
        cmocka_unit_test(options_out_of_range_are_refused),
    };
    return cmocka_run_group_tests_name("parquet_writer", tests, NULL, NULL);
}
