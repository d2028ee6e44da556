/* .avsc files as schema language: what each type becomes, and what errors say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
/* cmocka wants the first three above */
#include <cmocka.h>

#include "decode/avsc.h"

static int parse_field(const char *field, struct weir_avsc *out, struct weir_error *err) {
    char text[1024];
    int length =
        snprintf(text, sizeof(text),
                 "{\"type\":\"record\",\"name\":\"r\",\"fields\":[{\"name\":\"v\",%s}]}", field);
    return weir_avsc_parse("x.avsc", text, (size_t)length, out, err);
}

static void test_each_type_becomes_its_column(void **state) {
    (void)state;
    static const struct {
        const char *field;
        const char *type;
        bool nullable;
        const char *default_json;
    } cases[] = {
        {"\"type\":\"boolean\"", "bool", false, NULL},
        {"\"type\":\"int\",\"default\":3", "int32", false, "3"},
        {"\"type\":[\"null\",\"long\"],\"default\":null", "int64", true, "null"},
        {"\"type\":{\"type\":\"int\",\"weir\":\"int8\"}", "int8", false, NULL},
        {"\"type\":{\"type\":\"int\",\"weir\":\"int16\"}", "int16", false, NULL},
        {"\"type\":\"float\"", "float", false, NULL},
        {"\"type\":\"double\"", "double", false, NULL},
        {"\"type\":\"string\"", "string", false, NULL},
        {"\"type\":\"bytes\",\"default\":\"hi\\u00ff\"", "binary", false, "\"aGn/\""},
        {"\"type\":{\"type\":\"bytes\",\"logicalType\":\"decimal\",\"precision\":12,\"scale\":2}",
         "decimal(12,2)", false, NULL},
        {"\"type\":{\"type\":\"fixed\",\"name\":\"f\",\"size\":4}", "binary", false, NULL},
        {"\"type\":{\"type\":\"enum\",\"name\":\"e\",\"symbols\":[\"A\"]}", "string", false, NULL},
        {"\"type\":{\"type\":\"int\",\"logicalType\":\"date\"}", "date", false, NULL},
        {"\"type\":{\"type\":\"long\",\"logicalType\":\"timestamp-millis\"}", "timestamp", false,
         NULL},
        {"\"type\":{\"type\":\"long\",\"logicalType\":\"timestamp-nanos\"}", "timestamp_ns", false,
         NULL},
        {"\"type\":{\"type\":\"long\",\"logicalType\":\"local-timestamp-micros\"}", "timestamp_ntz",
         false, NULL},
        {"\"type\":{\"type\":\"string\",\"logicalType\":\"uuid\"}", "string", false, NULL},
        {"\"type\":{\"type\":\"string\",\"logicalType\":\"mystery\"}", "string", false, NULL},
        {"\"type\":{\"type\":\"array\",\"items\":\"int\"}", "list<int32>", false, NULL},
        {"\"type\":{\"type\":\"map\",\"values\":\"long\"}", "map<string, int64>", false, NULL},
        {"\"type\":{\"type\":\"record\",\"name\":\"q\",\"fields\":[{\"name\":\"a\",\"type\":"
         "\"int\"}]}",
         "struct<a: int32>", false, NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct weir_avsc avsc;
        struct weir_error err = {0};
        if (parse_field(cases[i].field, &avsc, &err) != WEIR_OK) {
            fail_msg("%s: %s", cases[i].field, err.message);
        }
        const struct weir_field *field = &avsc.schema->fields[0];
        struct weir_buffer text;
        weir_buffer_init(&text, 1024);
        assert_int_equal(weir_field_format_type(field, &text), WEIR_OK);
        assert_string_equal(weir_buffer_text(&text), cases[i].type);
        assert_int_equal(field->nullable, cases[i].nullable);
        if (cases[i].default_json != NULL) {
            assert_string_equal(field->default_json, cases[i].default_json);
        } else {
            assert_null(field->default_json);
        }
        weir_buffer_fini(&text);
        weir_avsc_fini(&avsc);
    }
}

static void test_errors_name_the_place_and_the_way_out(void **state) {
    (void)state;
    static const struct {
        const char *field;
        const char *says;
    } cases[] = {
        {"\"type\":\"text\"", "x.avsc: fields[0] \"v\": no type is called \"text\""},
        {"\"type\":[\"int\",\"string\"]", "union"},
        {"\"type\":\"r\"", "contains itself"},
        {"\"type\":{\"type\":\"string\",\"logicalType\":\"decimal\",\"precision\":3}", "bytes"},
        {"\"type\":{\"type\":\"bytes\",\"logicalType\":\"decimal\",\"precision\":39}", "1 to 38"},
        {"\"type\":{\"type\":\"int\",\"logicalType\":\"timestamp-millis\"}", "\"long\""},
        {"\"type\":\"int\",\"default\":null", "[\"null\""},
        {"\"type\":{\"type\":\"array\"}", "items"},
        {"\"typ\":\"int\"", "no \"type\""},
        {"\"type\":\"int\"},{\"name\":\"v\",\"type\":\"int\"", "declared twice"},
        {"\"type\":\"int\"\n,,", "x.avsc:2:"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct weir_avsc avsc;
        struct weir_error err = {0};
        assert_int_not_equal(parse_field(cases[i].field, &avsc, &err), WEIR_OK);
        if (strstr(err.message, cases[i].says) == NULL) {
            fail_msg("%s says: %s", cases[i].field, err.message);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_type_becomes_its_column),
        cmocka_unit_test(test_errors_name_the_place_and_the_way_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
