/* The JSON decoder's rules, one table row each: what is accepted and as what, what is rejected. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "decode/json/json_fast.h"
#include "decode/json/json_text.h"
#include "json_readings.h"
#include "random.h"

static struct weir_schema *schema_of(const char *type, bool nullable, const char *default_json) {
    struct weir_error err = {0};
    struct weir_field field = {0};
    assert_int_equal(weir_field_parse_type(&field, type, &err), 0);
    field.name = strdup("v");
    field.nullable = nullable;
    field.default_json = default_json != NULL ? strdup(default_json) : NULL;
    struct weir_schema *schema = weir_schema_create();
    assert_int_equal(weir_schema_add(schema, &field), 0);
    weir_field_fini(&field);
    return schema;
}

enum { SHOWN = 256 };

/* A value of the batch as text: the physical number, or the bytes. */
static void show(const struct weir_column *c, int64_t row, char out[SHOWN]) {
    if (weir_column_is_null(c, row)) {
        snprintf(out, SHOWN, "null");
        return;
    }
    switch (c->type) {
    case WEIR_TYPE_BOOL:
        snprintf(out, SHOWN, "%s", weir_bit_get(c->values, row) ? "true" : "false");
        break;
    case WEIR_TYPE_INT8:
        snprintf(out, SHOWN, "%d", ((int8_t *)c->values)[row]);
        break;
    case WEIR_TYPE_INT16:
        snprintf(out, SHOWN, "%d", ((int16_t *)c->values)[row]);
        break;
    case WEIR_TYPE_INT32:
    case WEIR_TYPE_DATE:
        snprintf(out, SHOWN, "%d", ((int32_t *)c->values)[row]);
        break;
    case WEIR_TYPE_FLOAT:
        snprintf(out, SHOWN, "%a", (double)((float *)c->values)[row]);
        break;
    case WEIR_TYPE_DOUBLE:
        snprintf(out, SHOWN, "%a", ((double *)c->values)[row]);
        break;
    case WEIR_TYPE_DECIMAL: {
        __int128 v = ((__int128 *)c->values)[row];
        unsigned __int128 m = v < 0 ? 0 - (unsigned __int128)v : (unsigned __int128)v;
        char digits[64];
        int at = 63;
        digits[at] = '\0';
        do {
            digits[--at] = (char)('0' + (int)(m % 10));
            m /= 10;
        } while (m > 0);
        snprintf(out, SHOWN, "%s%s", v < 0 ? "-" : "", digits + at);
        break;
    }
    case WEIR_TYPE_STRING:
    case WEIR_TYPE_BINARY: {
        int32_t length;
        const char *bytes = weir_column_bytes(c, row, &length);
        int at = 0;
        for (int32_t i = 0; i < length && at < 250; i++) {
            at += snprintf(out + at, (size_t)(SHOWN - at), bytes[i] == 0 ? "\\0" : "%c", bytes[i]);
        }
        out[at] = '\0';
        break;
    }
    case WEIR_TYPE_LIST:
    case WEIR_TYPE_MAP:
        snprintf(out, SHOWN, "%d elements", c->offsets[row + 1] - c->offsets[row]);
        break;
    case WEIR_TYPE_STRUCT:
        snprintf(out, SHOWN, "struct");
        break;
    default:
        snprintf(out, SHOWN, "%lld", (long long)((int64_t *)c->values)[row]);
        break;
    }
}

struct value_case {
    const char *type;
    const char *json;   /* of the value */
    const char *expect; /* NULL: rejected */
};

static const struct value_case value_cases[] = {
    {"bool", "true", "true"},
    {"bool", "false", "false"},
    {"bool", "truex", NULL},
    {"bool", "1", NULL},
    {"bool", "\"true\"", NULL},
    {"int8", "127", "127"},
    {"int8", "-128", "-128"},
    {"int8", "128", NULL},
    {"int16", "-32768", "-32768"},
    {"int16", "32768", NULL},
    {"int32", "2147483647", "2147483647"},
    {"int32", "-2147483648", "-2147483648"},
    {"int32", "2147483648", NULL},
    {"int32", "1.0", "1"},
    {"int32", "1e3", "1000"},
    {"int32", "1E+3", "1000"},
    {"int32", "1000e-3", "1"},
    {"int32", "1.5", NULL},
    {"int32", "0.00000000000000000000000000000000000000000000", "0"},
    {"int32", "0e999999999", "0"},
    {"int32", "-0", "0"},
    {"int32", "01", NULL},
    {"int32", "+1", NULL},
    {"int32", ".5", NULL},
    {"int32", "1.", NULL},
    {"int32", "1e", NULL},
    {"int32", "1x", NULL},
    {"int32", "-", NULL},
    {"int32", "0x10", NULL},
    {"int32", "\"7\"", NULL},
    {"int32", "1\"\"", NULL},
    {"int32", "null", NULL},
    {"int32", "{}", NULL},
    {"int32", "[1]", NULL},
    {"int32", "1e400000000000000000000", NULL},
    {"int64", "9223372036854775807", "9223372036854775807"},
    {"int64", "-9223372036854775808", "-9223372036854775808"},
    {"int64", "9223372036854775808", NULL},
    {"int64", "-9223372036854775809", NULL},
    {"int64", "9007199254740993", "9007199254740993"},
    {"int64", "9223372036854775807.000", "9223372036854775807"},
    {"int64", "922337203685477580700000000000000000000e-20", "9223372036854775807"},
    {"int64", "\"9007199254740993\"", "9007199254740993"},
    {"int64", "\"-5\"", "-5"},
    {"int64", "\"1.0\"", NULL},
    {"int64", "\"\"", NULL},
    {"int64", "\"12x\"", NULL},
    {"int64", "\" 12\"", NULL},
    {"decimal(12,2)", "12.34", "1234"},
    {"decimal(12,2)", "12.340", "1234"},
    {"decimal(12,2)", "12.345", NULL},
    {"decimal(12,2)", "-0.01", "-1"},
    {"decimal(12,2)", "1e2", "10000"},
    {"decimal(12,2)", "1234e-2", "1234"},
    {"decimal(12,2)", "\"12.34\"", "1234"},
    {"decimal(12,2)", "\"1,00\"", NULL},
    {"decimal(12,2)", "9999999999.99", "999999999999"},
    {"decimal(12,2)", "10000000000.00", NULL},
    {"decimal(38,0)", "99999999999999999999999999999999999999",
     "99999999999999999999999999999999999999"},
    {"decimal(38,0)", "-99999999999999999999999999999999999999",
     "-99999999999999999999999999999999999999"},
    {"decimal(38,0)", "100000000000000000000000000000000000000", NULL},
    {"decimal(38,38)", "0.12345678901234567890123456789012345678",
     "12345678901234567890123456789012345678"},
    {"decimal(38,10)", "1234567890123456789012345678.0123456789",
     "12345678901234567890123456780123456789"},
    {"decimal(38,2)", "0.10000000000000000000000000000000000000000000000000", "10"},
    {"decimal(12,2)", "true", NULL},
    {"double", "0.1", "0x1.999999999999ap-4"},
    {"double", "-0.0", "-0x0p+0"},
    {"double", "-0", "-0x0p+0"},
    {"double", "5e-324", "0x0.0000000000001p-1022"},
    {"double", "2.2250738585072011e-308", "0x0.fffffffffffffp-1022"},
    {"double", "1e-400", "0x0p+0"},
    {"double", "-1e-99999999999999999999", "-0x0p+0"},
    {"double", "1.7976931348623157e308", "0x1.fffffffffffffp+1023"},
    {"double", "1e400", NULL},
    {"double", "1e99999999999999999999", NULL},
    {"double", "9007199254740993", "0x1p+53"},
    {"double", "0.500000000000000166533453693773481063544750213623046875", "0x1.0000000000002p-1"},
    {"double", "NaN", NULL},
    {"double", "Infinity", NULL},
    {"double", "-Infinity", NULL},
    {"double", "\"1.5\"", NULL},
    {"float", "0.1", "0x1.99999ap-4"},
    {"float", "3.5e38", NULL},
    {"float", "16777217", "0x1p+24"},
    {"string", "\"\"", ""},
    {"string", "\"plain\"", "plain"},
    {"string", "\"a\\\"b\\\\c\\/d\\n\"", "a\"b\\c/d\n"},
    {"string", "\"\\u0041\\u00e9\\u20ac\"", "Aé€"},
    {"string", "\"\\ud83d\\uded2\"", "\xf0\x9f\x9b\x92"},
    {"string", "\"\xf0\x9f\x9b\x92\"", "\xf0\x9f\x9b\x92"},
    {"string", "\"a\\u0000b\"", "a\\0b"},
    {"string", "\"\\ud800\"", NULL},
    {"string", "\"\\udc00\"", NULL},
    {"string", "\"\\ud800\\u0041\"", NULL},
    {"string", "\"\\x41\"", NULL},
    {"string", "\"\\u12g4\"", NULL},
    {"string", "\"\\u12\"", NULL},
    {"string", "\"tab\there\"", NULL},
    {"string", "\"\xff\"", NULL},
    {"string", "\"\xc0\x80\"", NULL},
    {"string", "\"\xed\xa0\x80\"", NULL},
    {"string", "\"\xc3\"", NULL},
    {"string", "17", NULL},
    {"string", "\"open", NULL},
    {"string", "\"a\"b", NULL},
    {"string", "'a'", NULL},
    {"binary", "\"aGk=\"", "hi"},
    {"binary", "\"\"", ""},
    {"binary", "\"aGk\"", NULL},
    {"binary", "\"aGl=\"", NULL},
    {"binary", "\"a=k=\"", NULL},
    {"date", "\"1970-01-02\"", "1"},
    {"date", "\"2024-02-29\"", "19782"},
    {"date", "\"2023-02-29\"", NULL},
    {"date", "\"1969-12-31\"", "-1"},
    {"date", "\"0001-01-01\"", "-719162"},
    {"date", "19782", "19782"},
    {"date", "\"2024-1-1\"", NULL},
    {"timestamp", "1743228000000000", "1743228000000000"},
    {"timestamp", "\"2025-03-29T06:00:00Z\"", "1743228000000000"},
    {"timestamp", "\"2025-03-29T07:00:00+01:00\"", "1743228000000000"},
    {"timestamp", "\"2025-03-29 00:30:00.000001-0530\"", "1743228000000001"},
    {"timestamp", "\"2025-03-29T06:00:00.1234560Z\"", "1743228000123456"},
    {"timestamp", "\"2025-03-29T06:00:00.1234567Z\"", NULL},
    {"timestamp", "\"2025-03-29T06:00:00\"", NULL},
    {"timestamp", "\"2025-02-30T06:00:00Z\"", NULL},
    {"timestamp", "\"2025-03-29T24:00:00Z\"", NULL},
    {"timestamp", "\"2025-03-29T06:00:60Z\"", NULL},
    {"timestamp", "\"2025-03-29T06:00:00.Z\"", NULL},
    {"timestamp", "\"yesterday\"", NULL},
    {"timestamp", "1.5", NULL},
    {"timestamp", "\"1969-12-31T23:59:59.999999Z\"", "-1"},
    {"timestamp_ntz", "\"2025-03-29T06:00:00\"", "1743228000000000"},
    {"timestamp_ntz", "\"2025-03-29T06:00:00Z\"", NULL},
    {"timestamp_ns", "\"2025-03-29T06:00:00.123456789Z\"", "1743228000123456789"},
    {"timestamp_ns", "\"2025-03-29T06:00:00.1234567891Z\"", NULL},
    {"timestamp_ns", "\"9999-12-31T00:00:00Z\"", NULL},
    {"list<int32>", "[1, 2,3]", "3 elements"},
    {"list<int32>", "[]", "0 elements"},
    {"list<int32>", "[1,]", NULL},
    {"list<int32>", "[1 2]", NULL},
    {"list<int32>", "[1", NULL},
    {"list<int32>", "[\"a\"]", NULL},
    {"map<string, int32>", "{\"a\":1,\"b\":2}", "2 elements"},
    {"map<string, int32>", "{}", "0 elements"},
    {"map<string, int32>", "{\"a\":1,\"a\":2}", NULL},
    {"map<string, int32>", "{\"a\":1,\"\\u0061\":2}", NULL},
    {"map<string, int32>", "{\"a\" 1}", NULL},
    {"struct<a: int32, b: string>", "{\"b\":\"x\",\"a\":1}", "struct"},
    {"struct<a: int32, b: string>", "{\"a\":1,\"a\":1,\"b\":\"\"}", NULL},
    {"struct<a: int32, b: string>", "[]", NULL},
};

static void test_each_value_is_taken_by_exact_value_or_rejected(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(value_cases) / sizeof(value_cases[0]); i++) {
        const struct value_case *c = &value_cases[i];
        struct weir_schema *schema = schema_of(c->type, false, NULL);
        char line[512];
        /* a good line before and after: a bad one must not touch its neighbours */
        int length = snprintf(line, sizeof(line), "{\"v\":%s}\n{\"v\": %s }\r", c->json, c->json);
        struct decoded d;
        decode_lines(&d, schema, NULL, line, (size_t)length);
        if (c->expect == NULL) {
            if (d.batch->rows != 0) {
                fail_msg("%s %s was accepted", c->type, c->json);
            }
            assert_int_equal(d.rejects->count, 2);
            assert_true(strlen(weir_reject_reason(d.rejects, 0)) > 5);
        } else {
            if (d.batch->rows != 2) {
                fail_msg("%s %s: %s", c->type, c->json, weir_reject_reason(d.rejects, 0));
            }
            for (int row = 0; row < 2; row++) {
                char text[256];
                show(&d.batch->columns[0], row, text);
                if (strcmp(text, c->expect) != 0) {
                    fail_msg("%s %s is %s, not %s", c->type, c->json, text, c->expect);
                }
            }
        }
        release(&d);
        weir_schema_unref(schema);
    }
}

struct line_case {
    const char *line;
    const char *value;   /* NULL: rejected */
    const char *rescued; /* or what the reason contains */
    const char *field;
};

static const struct line_case line_cases[] = {
    {"{\"v\":1}", "1", "null", NULL},
    {"  { \"v\" : 1 }  ", "1", "null", NULL},
    {"{\"v\":1,\"x\":{\"a\":[1,2.50,null],\"b\":\"\\u0041\"}}", "1",
     "{\"x\":{\"a\":[1,2.50,null],\"b\":\"\\u0041\"}}", NULL},
    {"{\"y\": 1e5 ,\"v\":1,\"x\":\"s\"}", "1", "{\"y\":1e5,\"x\":\"s\"}", NULL},
    {"{\"\\u0076\":1}", "1", "null", NULL},
    {"{\"v\":1,\"v\":2}", NULL, "comes twice", ""},
    {"{\"v\":1,\"\\u0076\":2}", NULL, "comes twice", ""},
    {"{\"v\":1,\"x\":1,\"x\":2}", NULL, "comes twice", ""},
    {"{\"v\":1,\"x\":{\"a\":1,\"a\":1}}", NULL, "comes twice", ""},
    {"{}", NULL, "missing field", "v"},
    {"{\"w\":1}", NULL, "missing field", "v"},
    {"{\"v\":null}", NULL, "null", "v"},
    {"{\"v\":1} trailing", NULL, "more text", ""},
    {"{\"v\":1}{\"v\":1}", NULL, "more text", ""},
    {"{\"v\":1}}", NULL, "more text", ""},
    {"{\"v\":1", NULL, "too early", ""},
    {"{\"v\":", NULL, "too early", "v"},
    {"{\"v\"", NULL, "too early", ""},
    {"{", NULL, "too early", ""},
    {"{\"v\":1,}", NULL, "expected a key", ""},
    {"{,\"v\":1}", NULL, "expected a key", ""},
    {"{\"v\" 1}", NULL, "colon", ""},
    {"{\"v\"x:1}", NULL, "colon", ""},
    {"{v:1}", NULL, "expected a key", ""},
    {"[1]", NULL, "expected an object", ""},
    {"42", NULL, "expected an object", ""},
    {"null", NULL, "expected an object", ""},
    {"{\"v\":1,\"x\":01}", NULL, "expected a value", ""},
    {"{\"v\":1,\"x\":tru}", NULL, "expected a value", ""},
    {"{\"v\":1,\"x\":nullx}", NULL, "expected a value", ""},
    {"{\"v\":1,\"x\":\"\\q\"}", NULL, "bad escape", ""},
    {"{\"v\":1,\"x\":\"\\ud800\"}", NULL, "bad escape", ""},
    {"{\"v\":1,\"\\q\":1}", NULL, "bad escape", ""},
    {"{\"v\":1,\"x\":[1,2}", NULL, "expected", ""},
    {"{\"v\":1,\"x\":}", NULL, "expected a value", ""},
    {"{\"v\":1,\"x\":\"\xff\"}", NULL, "UTF-8", ""},
    {"{\"v\":1,\"x\":\"open}", NULL, "string", ""},
    {"{\"v\":1\f}", NULL, "", NULL},
    {"{\"v\":[1]}", NULL, "array", "v"},
};

static void test_each_line_is_a_row_or_a_reject_and_leaves_its_neighbours_alone(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof(line_cases) / sizeof(line_cases[0]); i++) {
        const struct line_case *c = &line_cases[i];
        struct weir_schema *schema = schema_of("int32", false, NULL);
        char text[1024];
        int length = snprintf(text, sizeof(text), "{\"v\":7}\n%s\n{\"v\":8}\n", c->line);
        struct decoded d;
        decode_lines(&d, schema, NULL, text, (size_t)length);
        char value[256];
        show(&d.batch->columns[0], 0, value);
        assert_string_equal(value, "7");
        show(&d.batch->columns[0], d.batch->rows - 1, value);
        assert_string_equal(value, "8");
        if (c->value != NULL) {
            if (d.rejects != NULL) {
                fail_msg("%s: %s", c->line, weir_reject_reason(d.rejects, 0));
            }
            show(&d.batch->columns[0], 1, value);
            assert_string_equal(value, c->value);
            show(&d.batch->columns[1 + WEIR_META_RESCUED], 1, value);
            assert_string_equal(value, c->rescued);
        } else {
            if (d.batch->rows != 2) {
                fail_msg("%s was accepted", c->line);
            }
            assert_int_equal(d.rejects->rejects[0].before_row, 1);
            assert_int_equal(d.rejects->rejects[0].offset, 8);
            assert_int_equal(d.rejects->rejects[0].raw_bytes, strlen(c->line));
            assert_memory_equal(weir_reject_raw(d.rejects, 0), c->line, strlen(c->line));
            if (strstr(weir_reject_reason(d.rejects, 0), c->rescued) == NULL) {
                fail_msg("%s: the reason is \"%s\"", c->line, weir_reject_reason(d.rejects, 0));
            }
            if (c->field != NULL) {
                assert_string_equal(weir_reject_field(d.rejects, 0), c->field);
            }
        }
        release(&d);
        weir_schema_unref(schema);
    }
}

static void test_absent_takes_the_default_and_null_is_not_absent(void **state) {
    (void)state;
    static const struct {
        bool nullable;
        const char *default_json;
        const char *line;
        const char *expect;
    } cases[] = {
        {true, NULL, "{}", "null"},
        {true, NULL, "{\"v\":null}", "null"},
        {true, "5", "{}", "5"},
        {true, "5", "{\"v\":null}", "null"},
        {false, "5", "{}", "5"},
        {false, "5", "{\"v\":6}", "6"},
        {false, "5", "{\"v\":null}", NULL},
        {false, NULL, "{}", NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct weir_schema *schema = schema_of("int32", cases[i].nullable, cases[i].default_json);
        struct decoded d;
        decode_lines(&d, schema, NULL, cases[i].line, strlen(cases[i].line));
        assert_int_equal(d.batch->rows, cases[i].expect != NULL);
        if (cases[i].expect != NULL) {
            char value[256];
            show(&d.batch->columns[0], 0, value);
            assert_string_equal(value, cases[i].expect);
        }
        release(&d);
        weir_schema_unref(schema);
    }
}

static void test_a_default_that_does_not_fit_is_an_error_at_start(void **state) {
    (void)state;
    struct weir_schema *schema = schema_of("int32", false, "\"five\"");
    struct weir_decoder *decoder;
    struct weir_error err = {0};
    assert_int_equal(weir_decoder_create(&decoder, "json", NULL, schema, &err), WEIR_E_SCHEMA);
    assert_non_null(strstr(err.message, "\"v\""));
    weir_schema_unref(schema);
}

static void test_unknown_fields_inside_are_rescued_by_path(void **state) {
    (void)state;
    struct weir_schema *schema = schema_of("list<struct<a: int32>>", false, NULL);
    const char *line = "{\"v\":[{\"a\":1,\"z\":true},{\"y\":[2],\"a\":2}],\"w\":0}";
    struct decoded d;
    decode_lines(&d, schema, NULL, line, strlen(line));
    assert_int_equal(d.batch->rows, 1);
    char value[256];
    show(&d.batch->columns[1 + WEIR_META_RESCUED], 0, value);
    assert_string_equal(value, "{\"v[0].z\":true,\"v[1].y\":[2],\"w\":0}");
    release(&d);
    weir_schema_unref(schema);
}

static void test_nesting_is_limited(void **state) {
    (void)state;
    struct weir_schema *schema = schema_of("int32", false, NULL);
    char line[8192] = "{\"v\":1,\"x\":";
    size_t length = strlen(line);
    memset(line + length, '[', 3000);
    memset(line + length + 3000, ']', 3000);
    line[length + 6000] = '}';
    struct decoded d;
    decode_lines(&d, schema, NULL, line, length + 6001);
    assert_int_equal(d.rejects->count, 1);
    assert_non_null(strstr(weir_reject_reason(d.rejects, 0), "deeper"));
    release(&d);
    weir_schema_unref(schema);
}

static void test_a_rejected_row_leaves_nothing_in_nested_columns(void **state) {
    (void)state;
    struct weir_schema *schema = schema_of("list<string>", true, NULL);
    const char *text =
        "{\"v\":[\"a\",\"b\"]}\n{\"v\":[\"c\",\"d\",1]}\n{\"v\":null}\n{\"v\":[\"e\"]}";
    struct decoded d;
    decode_lines(&d, schema, NULL, text, strlen(text));
    assert_int_equal(d.batch->rows, 3);
    assert_int_equal(d.rejects->count, 1);
    assert_string_equal(weir_reject_field(d.rejects, 0), "v[2]");
    const struct weir_column *list = &d.batch->columns[0];
    assert_int_equal(list->null_count, 1);
    assert_int_equal(list->children[0].length, 3);
    char value[256];
    show(&list->children[0], 2, value);
    assert_string_equal(value, "e");
    release(&d);
    weir_schema_unref(schema);
}

/* Values are taken a short way when nothing but them lies between two structural bytes, and the
 * general way otherwise: white space around a value must change nothing. */
/* What is left to the general way is read by it; what is not must come out the same. */
static void test_instants_are_read_the_same_both_ways(void **state) {
    (void)state;
#if JSON_FAST
    random_state = 7;
    struct json_fast_minute minutes[2] = {0}; /* one forgotten before each, one kept */
    for (int i = 0; i < 200000; i++) {
        static const char letters[] = "0123456789999-:.TZz+ \"";
        char text[128] = {0};
        int digits = (int)below(10);
        int size = snprintf(text, sizeof(text), "%04d-%02d-%02dT%02d:%02d:%02d%s%0*d",
                            (int)below(10000), (int)below(14), (int)below(33), (int)below(25),
                            (int)below(61), (int)below(61), digits > 0 ? "." : "", digits, 0);
        size -= digits == 0; /* %0*d of no digits is one */
        for (int k = 0; k < digits; k++) {
            text[size - 1 - k] = (char)('0' + below(10));
        }
        size += snprintf(text + size, sizeof(text) - (size_t)size, "Z");
        int changed = (int)below(3);
        for (int k = 0; k < changed; k++) {
            text[below((uint64_t)size)] = letters[below(sizeof(letters) - 1)];
        }
        size_t length = (size_t)size;
        snprintf(text + size, sizeof(text) - (size_t)size, "\",");
        const uint8_t *p = (const uint8_t *)text;
        int64_t fast = 0;
        int64_t general = 0;
        int64_t again = 0;
        memset(&minutes[0], 0, sizeof(minutes[0]));
        bool taken = json_fast_instant(p, p + length + 1, &minutes[0], &fast);
        (void)json_fast_instant(p, p + length + 1, &minutes[1], &again);
        bool taken_again = json_fast_instant(p, p + length + 1, &minutes[1], &again);
        bool good = json_parse_timestamp(p, length, 1000000, true, &general) == JSON_TIME_OK;
        if ((taken && (!good || fast != general)) || taken != taken_again ||
            (taken && fast != again) || (changed == 0 && digits <= 6 && taken != good)) {
            fail_msg("%s: %d %lld, not %d %lld", text, taken, (long long)fast, good,
                     (long long)general);
        }
    }
#endif
}

static void test_strings_of_every_length_are_copied_whole(void **state) {
    (void)state;
    for (int length = 0; length < 140; length++) {
        for (int escape = -1; escape < length; escape += 1 + length / 7) {
            char want[200] = {0};
            char text[600];
            for (int i = 0; i < length; i++) {
                want[i] = (char)('a' + i % 26);
            }
            int size = snprintf(text, sizeof(text), "{\"v\":\"first\"}\n{\"v\":\"");
            for (int i = 0; i < length; i++) {
                size += snprintf(text + size, sizeof(text) - (size_t)size, "%s",
                                 i == escape ? "\\n" : (char[2]){want[i], '\0'});
            }
            if (escape >= 0) {
                want[escape] = '\n';
            }
            size += snprintf(text + size, sizeof(text) - (size_t)size, "\"}");
            struct weir_schema *schema = schema_of("string", false, NULL);
            struct decoded d;
            decode_lines(&d, schema, NULL, text, (size_t)size);
            int32_t got = 0;
            const char *bytes = weir_column_bytes(&d.batch->columns[0], 1, &got);
            assert_int_equal(got, length);
            assert_memory_equal(bytes, want, (size_t)length);
            release(&d);
            weir_schema_unref(schema);
        }
    }
}

static void test_white_space_does_not_change_what_a_value_is(void **state) {
    (void)state;
    static const char *const types[] = {"int32",     "int64",  "decimal(12,3)", "decimal(38,0)",
                                        "timestamp", "double", "string"};
    static const char *const texts[] = {"0",
                                        "-0",
                                        "7",
                                        "-7",
                                        "00",
                                        "01",
                                        "-01",
                                        "12",
                                        "2147483647",
                                        "2147483648",
                                        "-2147483648",
                                        "-2147483649",
                                        "999999999999999",
                                        "9999999999999999",
                                        "99999999999999999",
                                        "-9999999999999999",
                                        "1743227999324000",
                                        "0.1",
                                        ".1",
                                        "1.",
                                        "-.1",
                                        "-1.",
                                        "1.5",
                                        "-1.50",
                                        "1.500",
                                        "1.5000",
                                        "1.2345",
                                        "999999999.999",
                                        "1000000000.000",
                                        "-999999999.999",
                                        "0.000",
                                        "00.1",
                                        "1..2",
                                        "1.2.3",
                                        "1-2",
                                        "--1",
                                        "+1",
                                        "1e3",
                                        "1.5e1",
                                        "0.30000000000000004",
                                        "9007199254740993",
                                        "900719925474.0993",
                                        "123456789012345.6",
                                        "1234567890123456.7",
                                        "-",
                                        "1 2",
                                        "\"\"",
                                        "\"a\"",
                                        "\"thirty bytes and one more is it\"",
                                        "\"thirty-one bytes and two more: 32\"",
                                        "\"a longer text of more than thirty-two bytes\"",
                                        "\"tab\\t\"",
                                        "\"\\u00e9\"",
                                        "\"12\"",
                                        "\"a\"b",
                                        "\"a\"\"b\"",
                                        "nul",
                                        "null",
                                        "nullx"};
    for (size_t t = 0; t < sizeof(types) / sizeof(types[0]); t++) {
        struct weir_schema *schema = schema_of(types[t], true, NULL);
        for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
            char lines[256];
            int length =
                snprintf(lines, sizeof(lines), "{\"v\":%s}\n{\"v\" : %s }\n", texts[i], texts[i]);
            struct decoded d;
            decode_lines(&d, schema, NULL, lines, (size_t)length);
            if (d.batch->rows == 2) {
                char tight[256];
                char spaced[256];
                show(&d.batch->columns[0], 0, tight);
                show(&d.batch->columns[0], 1, spaced);
                assert_string_equal(tight, spaced);
            } else if (d.batch->rows != 0) {
                fail_msg("%s: %s depends on white space", types[t], texts[i]);
            }
            release(&d);
        }
        weir_schema_unref(schema);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_instants_are_read_the_same_both_ways),
        cmocka_unit_test(test_strings_of_every_length_are_copied_whole),
        cmocka_unit_test(test_white_space_does_not_change_what_a_value_is),
        cmocka_unit_test(test_each_value_is_taken_by_exact_value_or_rejected),
        cmocka_unit_test(test_each_line_is_a_row_or_a_reject_and_leaves_its_neighbours_alone),
        cmocka_unit_test(test_absent_takes_the_default_and_null_is_not_absent),
        cmocka_unit_test(test_a_default_that_does_not_fit_is_an_error_at_start),
        cmocka_unit_test(test_unknown_fields_inside_are_rescued_by_path),
        cmocka_unit_test(test_nesting_is_limited),
        cmocka_unit_test(test_a_rejected_row_leaves_nothing_in_nested_columns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
