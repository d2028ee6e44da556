/* Rows as JSON: every type to the last digit, nulls, what must be escaped, and at which byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* after them */
#include <cmocka.h>
#include <float.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "batch/builder.h"
#include "core/pool.h"
#include "sink/encode.h"
#include "sink/kafka_log.h"

struct table {
    struct weir_pool *pool;
    struct weir_schema *schema;
    struct weir_batch_builder builder;
    struct weir_batch *batch;
};

static void begin(struct table *t, const char *const *columns) {
    t->pool = weir_pool_create((size_t)64 << 20);
    t->schema = weir_schema_create();
    for (; columns[0] != NULL; columns += 2) {
        assert_int_equal(weir_schema_add_text(t->schema, columns[0], columns[1], true, NULL), 0);
    }
    assert_int_equal(weir_batch_builder_init(&t->builder, t->pool, t->schema, 4096, 1 << 20, NULL),
                     0);
    assert_int_equal(weir_batch_builder_begin(&t->builder), 0);
}

static struct weir_column_builder *at(struct table *t, int column) {
    return &t->builder.columns[column];
}

static void take(struct table *t) {
    t->batch = weir_batch_builder_take(&t->builder);
    assert_non_null(t->batch);
}

static void end(struct table *t) {
    weir_batch_unref(t->batch);
    weir_batch_builder_fini(&t->builder);
    weir_schema_unref(t->schema);
    weir_pool_destroy(t->pool);
}

/* The rows' messages, each ended by a line end; free it. */
static char *encode(struct table *t, const char *format, const bool *included) {
    const struct weir_encoder_ops *ops = weir_encoder_find(format);
    bool all[64];
    memset(all, 1, sizeof(all));
    struct weir_encoder_config config = {
        .name = "test",
        .options_json = "{}",
        .schema = t->schema,
        .included = included != NULL ? included : all,
    };
    void *encoder;
    struct weir_error err = {0};
    struct weir_buffer out;
    assert_non_null(ops);
    assert_int_equal(ops->create(&config, &encoder, &err), 0);
    weir_buffer_init(&out, (size_t)64 << 20);
    assert_int_equal(ops->begin(encoder, t->batch, &err), 0);
    for (int32_t i = 0; i < t->batch->rows; i++) {
        assert_int_equal(ops->row(encoder, i, &out, &err), 0);
        assert_int_equal(weir_buffer_append(&out, "\n", 1), 0);
    }
    char *text = strndup((const char *)out.data, out.size);
    weir_buffer_fini(&out);
    ops->destroy(encoder);
    return text;
}

static void expect(struct table *t, const char *expected) {
    char *text = encode(t, "json", NULL);
    assert_string_equal(text, expected);
    free(text);
}

static void put_int(struct table *t, int column, int64_t value) {
    assert_int_equal(weir_builder_int(at(t, column), value), 0);
}

static void put_text(struct table *t, int column, const char *text, size_t length) {
    assert_int_equal(weir_builder_bytes(at(t, column), text, length), 0);
}

static void integers_have_every_digit(void **state) {
    (void)state;
    static const char *const columns[] = {"a", "int8", "b", "int64", NULL};
    static const int64_t values[] = {INT64_MIN, INT64_MAX, 0, -1, 9, 10, 99, 100, 12345};
    struct table t;
    char expected[1024] = "";
    begin(&t, columns);
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        put_int(&t, 0, i % 2 == 0 ? INT8_MIN : INT8_MAX);
        put_int(&t, 1, values[i]);
        weir_batch_builder_finish_row(&t.builder);
        snprintf(expected + strlen(expected), sizeof(expected) - strlen(expected),
                 "{\"a\":%d,\"b\":%lld}\n", i % 2 == 0 ? INT8_MIN : INT8_MAX, (long long)values[i]);
    }
    take(&t);
    expect(&t, expected);
    end(&t);
}

static void times_have_as_few_digits_as_hold_them(void **state) {
    (void)state;
    static const char *const columns[] = {"a", "timestamp", "b", "timestamp_ntz",
                                          "c", "date",      NULL};
    static const int64_t values[][2] = {{1767607200123456, 20458},
                                        {1767607200123000, 0},
                                        {0, -1},
                                        {-1, -719528},
                                        {253402300800000000, 2932897}};
    struct table t;
    begin(&t, columns);
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        put_int(&t, 0, values[i][0]);
        put_int(&t, 1, values[i][0]);
        put_int(&t, 2, values[i][1]);
        weir_batch_builder_finish_row(&t.builder);
    }
    take(&t);
    expect(&t, "{\"a\":\"2026-01-05T10:00:00.123456Z\",\"b\":\"2026-01-05T10:00:00.123456\",\"c\":"
               "\"2026-01-05\"}\n"
               "{\"a\":\"2026-01-05T10:00:00.123Z\",\"b\":\"2026-01-05T10:00:00.123\",\"c\":"
               "\"1970-01-01\"}\n"
               "{\"a\":\"1970-01-01T00:00:00Z\",\"b\":\"1970-01-01T00:00:00\",\"c\":"
               "\"1969-12-31\"}\n"
               "{\"a\":\"1969-12-31T23:59:59.999999Z\",\"b\":\"1969-12-31T23:59:59.999999\",\"c\":"
               "\"0000-01-01\"}\n"
               "{\"a\":\"+10000-01-01T00:00:00Z\",\"b\":\"+10000-01-01T00:00:00\",\"c\":"
               "\"+10000-01-01\"}\n");
    end(&t);
}

/* Every control character, quote and backslash at every offset of a wide copy, and texts of every
 * length around its width, read back by another parser. */
static void text_is_escaped_wherever_it_must_be(void **state) {
    (void)state;
    static const char *const columns[] = {"name \"1\"", "string", NULL};
    char texts[2048][48];
    size_t lengths[2048];
    size_t count = 0;
    struct table t;
    begin(&t, columns);
    for (int length = 0; length <= 40; length++) {
        for (int odd = 0; odd <= length && count < 2048; odd++) {
            memset(texts[count], 'x', sizeof(texts[count]));
            static const char special[] = "\"\\\n\t\r\b\f\x01\x1f\x7f";
            texts[count][odd] = special[count % (sizeof(special) - 1)];
            lengths[count] = (size_t)length;
            put_text(&t, 0, texts[count], lengths[count]);
            weir_batch_builder_finish_row(&t.builder);
            count++;
        }
    }
    put_text(&t, 0, "\0\xc3\xbc\xf0\x9f\x98\x80", 7);
    weir_batch_builder_finish_row(&t.builder);
    take(&t);
    char *text = encode(&t, "json", NULL);
    char *line = text;
    for (size_t i = 0; i < count; i++) {
        json_t *row = json_loads(line, JSON_DISABLE_EOF_CHECK, NULL);
        const json_t *value = json_object_get(row, "name \"1\"");
        assert_int_equal(json_string_length(value), lengths[i]);
        assert_memory_equal(json_string_value(value), texts[i], lengths[i]);
        json_decref(row);
        line = strchr(line, '\n') + 1;
    }
    assert_string_equal(line, "{\"name \\\"1\\\"\":\"\\u0000\xc3\xbc\xf0\x9f\x98\x80\"}\n");
    free(text);
    end(&t);
}

static void doubles_read_back_the_same(void **state) {
    (void)state;
    static const char *const columns[] = {"d", "double", NULL};
    static const double values[] = {0.1, -0.0, 1e300, 5e-324, 1.0 / 3, 9007199254740993.0, DBL_MAX};
    struct table t;
    begin(&t, columns);
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        assert_int_equal(weir_builder_double(at(&t, 0), values[i]), 0);
        weir_batch_builder_finish_row(&t.builder);
    }
    assert_int_equal(weir_builder_double(at(&t, 0), (double)NAN), 0);
    weir_batch_builder_finish_row(&t.builder);
    assert_int_equal(weir_builder_double(at(&t, 0), -(double)INFINITY), 0);
    weir_batch_builder_finish_row(&t.builder);
    take(&t);
    char *text = encode(&t, "json", NULL);
    char *line = text;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        double back = strtod(line + strlen("{\"d\":"), NULL);
        assert_memory_equal(&back, &values[i], sizeof(back));
        line = strchr(line, '\n') + 1;
    }
    assert_string_equal(line, "{\"d\":\"NaN\"}\n{\"d\":\"-Infinity\"}\n");
    free(text);
    end(&t);
}

static void nulls_are_said_and_columns_left_out_are_not(void **state) {
    (void)state;
    static const char *const columns[] = {"a", "string", "b", "int32", "c", "binary", NULL};
    static const bool included[] = {true, false, true};
    struct table t;
    begin(&t, columns);
    assert_int_equal(weir_builder_null(at(&t, 0)), 0);
    put_int(&t, 1, 7);
    put_text(&t, 2, "\x00\xff\x10\x80", 4);
    weir_batch_builder_finish_row(&t.builder);
    take(&t);
    char *text = encode(&t, "json", included);
    assert_string_equal(text, "{\"a\":null,\"c\":\"AP8QgA==\"}\n");
    free(text);
    static const bool none[] = {false, false, false};
    text = encode(&t, "json", none);
    assert_string_equal(text, "{}\n");
    free(text);
    end(&t);
}

/* Of the Java client's own test of Utils.murmur2. */
static void keys_hash_as_javas(void **state) {
    (void)state;
    static const struct {
        const char *key;
        int32_t hash;
    } known[] = {{"21", -973932308},
                 {"foobar", -790332482},
                 {"a-little-bit-long-string", -985981536},
                 {"a-little-bit-longer-string", -1486304829},
                 {"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971},
                 {"abc", 479470107}};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        assert_int_equal((int32_t)kafka_murmur2(known[i].key, strlen(known[i].key)), known[i].hash);
    }
}

/* A frame cut anywhere is refused, never read past. */
static void effects_cut_short_are_refused(void **state) {
    (void)state;
    struct weir_buffer out;
    struct weir_error err = {0};
    weir_buffer_init(&out, 4096);
    assert_int_equal(kafka_effect_begin(&out, KAFKA_EFFECT_HEADERS | KAFKA_EFFECT_TIMES, "{}"), 0);
    static const uint8_t frame[] = "\x01\0\0\0\x02\0\0\0" /* lengths of key and value */
                                   "\x05\0\0\0\0\0\0\0"   /* time */
                                   "\x01\0"               /* headers */
                                   "\x01\0\x02\0\0\0hab"  /* name h, value ab */
                                   "kvv";
    assert_int_equal(weir_buffer_append(&out, frame, sizeof(frame) - 1), 0);
    kafka_effect_finish(&out, 0, 1);
    size_t fixed = KAFKA_EFFECT_FIXED_BYTES + 2;
    for (size_t size = 0; size <= out.size; size++) {
        uint8_t *copy = malloc(size + 1); /* so that a sanitizer sees what is read past it */
        memcpy(copy, out.data, size);
        struct kafka_effect effect;
        struct kafka_frame found;
        int rc = kafka_effect_open(&effect, copy, size, &err);
        bool whole = rc == WEIR_OK && kafka_effect_next(&effect, &found, &rc);
        assert_int_equal(whole, size == out.size);
        assert_int_equal(rc == WEIR_OK, size == out.size || size == fixed);
        if (whole) {
            const uint8_t *headers = found.headers;
            struct kafka_header header = kafka_effect_header(&headers);
            assert_int_equal(found.time_ms, 5);
            assert_memory_equal(found.key, "k", 1);
            assert_memory_equal(found.value, "vv", 2);
            assert_memory_equal(header.value, "ab", 2);
        }
        free(copy);
    }
    weir_buffer_fini(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_have_every_digit),
        cmocka_unit_test(times_have_as_few_digits_as_hold_them),
        cmocka_unit_test(text_is_escaped_wherever_it_must_be),
        cmocka_unit_test(doubles_read_back_the_same),
        cmocka_unit_test(nulls_are_said_and_columns_left_out_are_not),
        cmocka_unit_test(keys_hash_as_javas),
        cmocka_unit_test(effects_cut_short_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
