/* Schemas and the text of types. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "batch/schema.h"

static const char *format(const struct weir_field *field, struct weir_buffer *out) {
    weir_buffer_clear(out);
    assert_int_equal(weir_field_format_type(field, out), WEIR_OK);
    return weir_buffer_text(out);
}

static void type_texts_come_back_as_they_were(void **state) {
    (void)state;
    static const char *const texts[] = {
        "bool",
        "int8",
        "int16",
        "int32",
        "int64",
        "float",
        "double",
        "decimal(1,0)",
        "decimal(38,38)",
        "string",
        "binary",
        "date",
        "timestamp",
        "timestamp_ntz",
        "timestamp_ns",
        "timestamp_ns_ntz",
        "list<string>",
        "list<list<decimal(12,2)>>",
        "struct<a: int64, b_2: string, _: list<bool>>",
        "map<string, int32>",
        "map<int64, struct<x: map<string, list<double>>, y: date>>",
    };
    struct weir_buffer out;
    weir_buffer_init(&out, 4096);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct weir_field field = {0};
        struct weir_error err = {0};
        assert_int_equal(weir_field_parse_type(&field, texts[i], &err), WEIR_OK);
        assert_string_equal(format(&field, &out), texts[i]);
        weir_field_fini(&field);
    }
    weir_buffer_fini(&out);
}

static void space_and_a_missing_scale_are_forgiven(void **state) {
    (void)state;
    static const char *const texts[][2] = {
        {"  int64\t", "int64"},
        {"decimal( 9 , 2 )", "decimal(9,2)"},
        {"decimal(9)", "decimal(9,0)"},
        {"struct < a:int8 ,b : list <int8> >", "struct<a: int8, b: list<int8>>"},
        {"map<string,int32>", "map<string, int32>"},
    };
    struct weir_buffer out;
    weir_buffer_init(&out, 4096);
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct weir_field field = {0};
        assert_int_equal(weir_field_parse_type(&field, texts[i][0], NULL), WEIR_OK);
        assert_string_equal(format(&field, &out), texts[i][1]);
        weir_field_fini(&field);
    }
    weir_buffer_fini(&out);
}

static void wrong_types_are_refused_with_the_place_and_an_example(void **state) {
    (void)state;
    static const char *const texts[][2] = {
        {"", "unknown type"},
        {"int", "unknown type"},
        {"Int64", "unknown type"},
        {"int64 x", "unexpected text"},
        {"int64>", "unexpected text"},
        {"decimal", "precision and scale"},
        {"decimal(", "expected decimal"},
        {"decimal()", "expected decimal"},
        {"decimal(12,)", "expected decimal"},
        {"decimal(12,2", "expected decimal"},
        {"decimal(0,0)", "1..38"},
        {"decimal(39,0)", "1..38"},
        {"decimal(9,10)", "1..38"},
        {"decimal(9,-1)", "1..38"},
        {"decimal(99999999999999999999,1)", "1..38"},
        {"list", "expected '<'"},
        {"list<", "unknown type"},
        {"list<int8", "expected '>'"},
        {"list<int8, int8>", "expected '>'"},
        {"map<string>", "a key and a value"},
        {"map<string, int8, int8>", "expected '>'"},
        {"struct<>", "expected 'name: type'"},
        {"struct<a>", "expected 'name: type'"},
        {"struct<a: int8,>", "expected 'name: type'"},
        {"struct<a: int8, a: int8>", "given twice"},
        {"struct<a: int8, b: list<struct<c: int8, c: bool>>>", "given twice"},
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct weir_field field = {0};
        struct weir_error err = {0};
        assert_int_equal(weir_field_parse_type(&field, texts[i][0], &err), WEIR_E_SCHEMA);
        if (strstr(err.message, texts[i][1]) == NULL ||
            strstr(err.message, "for example") == NULL) {
            fail_msg("'%s': %s", texts[i][0], err.message);
        }
        assert_null(field.children); /* nothing is left to free */
        assert_int_equal(field.type, WEIR_TYPE_NONE);
        struct weir_schema *schema = weir_schema_create();
        assert_int_equal(weir_schema_add_text(schema, "price", texts[i][0], true, &err),
                         WEIR_E_SCHEMA);
        assert_non_null(strstr(err.message, "column price: type"));
        assert_int_equal(weir_schema_add_text(schema, "price", texts[i][0], true, NULL),
                         WEIR_E_SCHEMA);
        assert_int_equal(schema->count, 0);
        weir_schema_unref(schema);
    }
}

static void nesting_is_limited(void **state) {
    (void)state;
    char text[1000];
    for (int depth = 0; depth <= 100; depth++) {
        size_t at = 0;
        for (int i = 0; i < depth; i++) {
            memcpy(text + at, "list<", 5);
            at += 5;
        }
        memcpy(text + at, "bool", 4);
        memset(text + at + 4, '>', (size_t)depth);
        text[at + 4 + (size_t)depth] = '\0';
        struct weir_field field = {0};
        assert_int_equal(weir_field_parse_type(&field, text, NULL),
                         depth <= 32 ? WEIR_OK : WEIR_E_SCHEMA);
        weir_field_fini(&field);
    }
}

static void random_texts_never_break_the_parser(void **state) {
    (void)state;
    static const char *const pieces[] = {"list", "struct", "map", "<",       ">",    ":",     ",",
                                         "a",    "int8",   "(",   ")",       "1",    "2",     " ",
                                         "_b",   "bool",   "99",  "decimal", "\x80", "string"};
    uint64_t seed = 12345;
    int good = 0;
    for (int round = 0; round < 20000; round++) {
        char text[256];
        size_t at = 0;
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        int count = (int)(seed >> 60);
        for (int i = 0; i < count; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            const char *piece = pieces[(seed >> 33) % (sizeof(pieces) / sizeof(pieces[0]))];
            memcpy(text + at, piece, strlen(piece));
            at += strlen(piece);
        }
        text[at] = '\0';
        struct weir_field field = {0};
        struct weir_error err;
        int rc = weir_field_parse_type(&field, text, &err);
        assert_true(rc == WEIR_OK || rc == WEIR_E_SCHEMA);
        good += rc == WEIR_OK;
        weir_field_fini(&field);
    }
    assert_true(good > 50);
}

static void parsing_leaves_the_name_and_the_default(void **state) {
    (void)state;
    char name[] = "n";
    char fallback[] = "1";
    struct weir_field field = {.name = name, .default_json = fallback, .nullable = true};
    assert_int_equal(weir_field_parse_type(&field, "int8", NULL), WEIR_OK);
    assert_ptr_equal(field.name, name);
    assert_ptr_equal(field.default_json, fallback);
    assert_true(field.nullable);
    assert_int_equal(weir_field_parse_type(&field, "int7", NULL), WEIR_E_SCHEMA);
    assert_ptr_equal(field.name, name);
    assert_ptr_equal(field.default_json, fallback);
}

static struct weir_schema *schema_of(const char *name, const char *type, bool nullable) {
    struct weir_schema *schema = weir_schema_create();
    assert_non_null(schema);
    assert_int_equal(weir_schema_add_text(schema, name, type, nullable, NULL), WEIR_OK);
    assert_int_equal(weir_schema_add_text(schema, "last", "bool", true, NULL), WEIR_OK);
    return schema;
}

static void every_difference_shows_in_equality_and_hash(void **state) {
    (void)state;
    static const struct {
        const char *name;
        const char *type;
        bool nullable;
    } columns[] = {
        {"a", "int64", true},
        {"b", "int64", true},
        {"a", "int64", false},
        {"a", "int32", true},
        {"a", "decimal(9,2)", true},
        {"a", "decimal(9,3)", true},
        {"a", "decimal(10,2)", true},
        {"a", "list<int64>", true},
        {"a", "struct<x: struct<y: int8>, z: int8>", true},
        {"a", "struct<x: struct<y: int8, z: int8>>", true},
        {"a", "struct<x: struct<z: int8>, y: int8>", true},
        {"a", "map<string, int8>", true},
        {"a", "map<string, int16>", true},
    };
    enum { COUNT = sizeof(columns) / sizeof(columns[0]) };
    for (int i = 0; i < COUNT; i++) {
        for (int j = 0; j < COUNT; j++) {
            struct weir_schema *a =
                schema_of(columns[i].name, columns[i].type, columns[i].nullable);
            struct weir_schema *b =
                schema_of(columns[j].name, columns[j].type, columns[j].nullable);
            assert_true(weir_schema_equal(a, b) == (i == j));
            assert_true((weir_schema_hash(a) == weir_schema_hash(b)) == (i == j));
            weir_schema_unref(a);
            weir_schema_unref(b);
        }
    }
    struct weir_schema *one = schema_of("a", "int8", true);
    struct weir_schema *empty = weir_schema_create();
    assert_false(weir_schema_equal(one, empty));
    assert_true(weir_schema_hash(one) != weir_schema_hash(empty));
    weir_schema_unref(one);
    weir_schema_unref(empty);
}

static void added_fields_are_deep_copies_and_found_by_name(void **state) {
    (void)state;
    struct weir_schema *schema = schema_of("first", "list<struct<a: string>>", false);
    struct weir_schema *copy = weir_schema_create();
    schema->fields[1].default_json = strdup("true");
    for (int32_t i = 0; i < schema->count; i++) {
        assert_int_equal(weir_schema_add(copy, &schema->fields[i]), WEIR_OK);
    }
    assert_true(weir_schema_equal(schema, copy));
    assert_ptr_not_equal(schema->fields[0].children, copy->fields[0].children);
    weir_schema_unref(schema);
    assert_int_equal(weir_schema_find(copy, "first"), 0);
    assert_int_equal(weir_schema_find(copy, "last"), 1);
    assert_int_equal(weir_schema_find(copy, "las"), -1);
    assert_string_equal(copy->fields[1].default_json, "true");
    assert_string_equal(copy->fields[0].children[0].children[0].name, "a");
    assert_ptr_equal(weir_schema_ref(copy), copy);
    weir_schema_unref(copy);
    weir_schema_unref(copy);
    weir_schema_unref(NULL);
}

static void every_type_has_a_name_and_the_width_arrow_gives_it(void **state) {
    (void)state;
    static const int32_t widths[] = {0, 0, 1, 2, 4, 8, 4, 8, 16, 0, 0, 4, 8, 8, 8, 8, 0, 0, 0};
    for (int type = WEIR_TYPE_NONE; type <= WEIR_TYPE_MAP; type++) {
        assert_int_equal(weir_type_width((uint8_t)type), widths[type]);
        assert_true((strcmp(weir_type_name((enum weir_type)type), "none") == 0) ==
                    (type == WEIR_TYPE_NONE));
        assert_true(weir_type_is_timestamp((uint8_t)type) ==
                    (strncmp(weir_type_name((enum weir_type)type), "timestamp", 9) == 0));
    }
}

static void a_full_buffer_fails_the_format(void **state) {
    (void)state;
    struct weir_field field = {0};
    assert_int_equal(weir_field_parse_type(&field, "struct<a: decimal(9,2), b: list<bool>>", NULL),
                     WEIR_OK);
    for (size_t limit = 0; limit < 38; limit++) {
        struct weir_buffer out;
        weir_buffer_init(&out, limit);
        assert_int_equal(weir_field_format_type(&field, &out), WEIR_E_LIMIT);
        weir_buffer_fini(&out);
    }
    weir_field_fini(&field);
}

static struct weir_field of_text(const char *text) {
    struct weir_field field = {0};
    assert_int_equal(weir_field_parse_type(&field, text, NULL), WEIR_OK);
    return field;
}

static void a_type_holds_another_where_only_members_were_added(void **state) {
    (void)state;
    static const struct {
        const char *to;
        const char *from;
        bool holds;
    } pairs[] = {
        {"int32", "int32", true},
        {"int64", "int32", false},
        {"decimal(9,2)", "decimal(9,3)", false},
        {"struct<a: int32>", "struct<a: int32>", true},
        {"struct<b: string, a: int32>", "struct<a: int32>", true},
        {"struct<a: int32>", "struct<b: string, a: int32>", false},
        {"struct<a: int64, b: int32>", "struct<a: int32>", false},
        {"list<struct<a: int32, b: int32>>", "list<struct<b: int32>>", true},
        {"list<struct<a: int32>>", "struct<a: int32>", false},
        {"map<string, struct<a: list<struct<x: bool, y: bool>>>>",
         "map<string, struct<a: list<struct<y: bool>>>>", true},
        {"map<int32, struct<a: int32>>", "map<string, struct<a: int32>>", false},
    };
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        struct weir_field to = of_text(pairs[i].to);
        struct weir_field from = of_text(pairs[i].from);
        assert_int_equal(weir_field_holds(&to, &from), pairs[i].holds);
        assert_int_equal(weir_field_same_type(&to, &from), strcmp(pairs[i].to, pairs[i].from) == 0);
        for (int32_t c = 0; pairs[i].holds && to.type == WEIR_TYPE_STRUCT && c < to.child_count;
             c++) { /* what nobody wrote must be allowed to be null */
            bool added = weir_field_find(&from, to.children[c].name) < 0;
            to.children[c].nullable = false;
            assert_int_equal(weir_field_holds(&to, &from), !added);
            to.children[c].nullable = true;
        }
        weir_field_fini(&to);
        weir_field_fini(&from);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(type_texts_come_back_as_they_were),
        cmocka_unit_test(space_and_a_missing_scale_are_forgiven),
        cmocka_unit_test(wrong_types_are_refused_with_the_place_and_an_example),
        cmocka_unit_test(nesting_is_limited),
        cmocka_unit_test(random_texts_never_break_the_parser),
        cmocka_unit_test(parsing_leaves_the_name_and_the_default),
        cmocka_unit_test(every_difference_shows_in_equality_and_hash),
        cmocka_unit_test(added_fields_are_deep_copies_and_found_by_name),
        cmocka_unit_test(every_type_has_a_name_and_the_width_arrow_gives_it),
        cmocka_unit_test(a_type_holds_another_where_only_members_were_added),
        cmocka_unit_test(a_full_buffer_fails_the_format),
    };
    return cmocka_run_group_tests_name("schema", tests, NULL, NULL);
}
