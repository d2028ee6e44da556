/* What of the Kafka source needs no broker: options, and positions as bytes from outside. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants those first */
#include <cmocka.h>
#include <string.h>

#include "core/buffer.h"
#include "source/source.h"

static const char *refusal(const char *kind, const char *options) {
    static struct weir_error err;
    struct weir_schema *schema = weir_schema_create();
    assert_int_equal(weir_schema_add_text(schema, "id", "int64", true, NULL), 0);
    struct weir_pool *pool = weir_pool_create(64 << 20);
    struct weir_source_config config = {
        .name = "bronze.x",
        .kind = kind,
        .options_json = options,
        .decoder = "json",
        .decoder_options_json = "{}",
        .schema = schema,
        .pool = pool,
    };
    struct weir_source *source = NULL;
    weir_error_clear(&err);
    if (weir_source_create(&source, &config, &err) == WEIR_OK) {
        weir_source_destroy(source);
    }
    weir_pool_destroy(pool);
    weir_schema_unref(schema);
    return err.message;
}

static void test_topics_are_needed_and_patterns_checked(void **state) {
    (void)state;
    assert_string_equal(refusal("kafka", "{\"brokers\":\"b:1\",\"topic\":[\"pos\"]}"), "");
    assert_non_null(strstr(refusal("kafka", "{\"brokers\":\"b:1\"}"), "topic = \"pos\""));
    assert_non_null(strstr(refusal("kafka", "{\"brokers\":\"b:1\",\"pattern\":\"(\"}"),
                           "no extended regular expression"));
}

static void test_event_hubs_needs_its_connection_string(void **state) {
    (void)state;
    assert_string_equal(refusal("event_hubs", "{\"namespace\":\"n\",\"hub\":[\"h\"],"
                                              "\"connection_string\":{\"env\":\"X\"}}"),
                        "");
    assert_non_null(strstr(refusal("event_hubs", "{\"namespace\":\"n\",\"hub\":[\"h\"]}"),
                           "connection_string"));
}

static void test_positions_say_topic_partition_and_offset(void **state) {
    (void)state;
    uint8_t bytes[23] = {'k', 1, 3, 0, 7, 0, 0, 0, 0x10, 0x27};
    memcpy(bytes + 20, "pos", 3);
    struct weir_buffer out;
    weir_buffer_init(&out, 256);
    struct weir_position position = {bytes, sizeof(bytes)};
    assert_int_equal(weir_source_describe_position("kafka", &position, &out), 0);
    assert_int_equal(weir_buffer_append(&out, "", 1), 0);
    assert_string_equal((const char *)out.data, "topic pos, partition 7, offset 10000");
    for (uint32_t size = 0; size < sizeof(bytes); size++) { /* cut anywhere, it is none */
        weir_buffer_clear(&out);
        position.size = size;
        assert_int_equal(weir_source_describe_position("kafka", &position, &out), 0);
        assert_int_equal(weir_buffer_append(&out, "", 1), 0);
        assert_string_equal((const char *)out.data, "not a Kafka position");
    }
    weir_buffer_fini(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_topics_are_needed_and_patterns_checked),
        cmocka_unit_test(test_event_hubs_needs_its_connection_string),
        cmocka_unit_test(test_positions_say_topic_partition_and_offset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
