/* Data predicates: meanings, literals at the exact type, and every loop against a plain one. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "batch/builder.h"
#include "operator/literal.h"
#include "operator/predicate.h"

static struct weir_pool *pool;
static struct weir_error err;

static struct weir_schema *schema_of(const char *type) {
    struct weir_schema *schema = weir_schema_create();
    assert_int_equal(weir_schema_add_text(schema, "v", type, true, &err), WEIR_OK);
    return schema;
}

/* Rows from literals; NULL is null. Doubles also take "nan". */
static struct weir_batch *batch_of(struct weir_schema *schema, const char *const *values,
                                   int count) {
    struct weir_batch_builder builder;
    const struct weir_field *field = &schema->fields[0];
    assert_int_equal(weir_batch_builder_init(&builder, pool, schema, 4096, 1 << 20, &err), WEIR_OK);
    assert_int_equal(weir_batch_builder_begin(&builder), WEIR_OK);
    struct weir_column_builder *column = &builder.columns[0];
    for (int i = 0; i < count; i++) {
        struct weir_literal literal = {.number = NAN};
        int rc;
        if (values[i] != NULL && strcmp(values[i], "nan") != 0) {
            assert_int_equal(weir_literal_parse(field, values[i], &literal, &err), WEIR_OK);
        }
        if (values[i] == NULL) {
            rc = weir_builder_null(column);
        } else if (field->type == WEIR_TYPE_BOOL) {
            rc = weir_builder_bool(column, literal.integer != 0);
        } else if (field->type == WEIR_TYPE_FLOAT) {
            rc = weir_builder_float(column, (float)literal.number);
        } else if (field->type == WEIR_TYPE_DOUBLE) {
            rc = weir_builder_double(column, literal.number);
        } else if (field->type == WEIR_TYPE_DECIMAL) {
            rc = weir_builder_decimal(column, (uint64_t)literal.decimal,
                                      (int64_t)(literal.decimal >> 64));
        } else if (weir_type_is_bytes(field->type)) {
            rc = weir_builder_bytes(column, values[i], strlen(values[i]));
        } else {
            rc = weir_builder_int(column, literal.integer);
        }
        assert_int_equal(rc, WEIR_OK);
        weir_batch_builder_finish_row(&builder);
    }
    struct weir_batch *batch = weir_batch_builder_take(&builder);
    weir_batch_builder_fini(&builder);
    return batch;
}

struct judgement {
    const char *type;
    enum weir_predicate_kind kind;
    const char *literals[12];
    const char *values[8];
    int count;
    uint8_t verdict[8];
};

static void check(const struct judgement *j) {
    struct weir_schema *schema = schema_of(j->type);
    struct weir_batch *batch = batch_of(schema, j->values, j->count);
    int32_t literals = 0;
    while (literals < 12 && j->literals[literals] != NULL) {
        literals++;
    }
    struct weir_predicate *predicate =
        weir_predicate_create(j->kind, &schema->fields[0], j->literals, literals, &err);
    if (predicate == NULL) {
        fail_msg("%s", err.message);
    }
    uint8_t verdict[8];
    weir_predicate_evaluate(predicate, &batch->columns[0], NULL, j->count, verdict);
    for (int i = 0; i < j->count; i++) {
        if (verdict[i] != j->verdict[i]) {
            fail_msg("%s: %s judged %d", j->type, j->values[i] ? j->values[i] : "null", verdict[i]);
        }
    }
    /* every second row, through a selection */
    int32_t sel[4];
    int32_t selected = 0;
    for (int i = 1; i < j->count; i += 2) {
        sel[selected++] = i;
    }
    weir_predicate_evaluate(predicate, &batch->columns[0], sel, selected, verdict);
    for (int32_t i = 0; i < selected; i++) {
        assert_int_equal(verdict[i], j->verdict[sel[i]]);
    }
    weir_predicate_destroy(predicate);
    weir_batch_unref(batch);
    weir_schema_unref(schema);
}

static void judges_every_type_with_null_passing(void **state) {
    (void)state;
    static const struct judgement all[] = {
        {"int32", WEIR_PREDICATE_NOT_NULL, {NULL}, {"1", NULL, "0"}, 3, {1, 0, 1}},
        {"int8",
         WEIR_PREDICATE_BETWEEN,
         {"-1", "1"},
         {"-2", "-1", NULL, "1", "2"},
         5,
         {0, 1, 1, 1, 0}},
        {"int16", WEIR_PREDICATE_BETWEEN, {"1", "999"}, {"0", "1", "999", "1000"}, 4, {0, 1, 1, 0}},
        {"int32",
         WEIR_PREDICATE_BETWEEN,
         {"1e2", "0x80"},
         {"99", "100", "128", "129"},
         4,
         {0, 1, 1, 0}},
        {"int64",
         WEIR_PREDICATE_BETWEEN,
         {"-9223372036854775808", "9007199254740993"},
         {"9007199254740992", "9007199254740993", "9007199254740994"},
         3,
         {1, 1, 0}},
        {"float",
         WEIR_PREDICATE_BETWEEN,
         {"0.1", "0.3"},
         {"0.1", "0.3", "0.31", "nan"},
         4,
         {1, 1, 0, 0}},
        {"double",
         WEIR_PREDICATE_BETWEEN,
         {"-0.5", "1e300"},
         {"-0.5", "1e300", "-0.6", "nan", NULL},
         5,
         {1, 1, 0, 0, 1}},
        {"decimal(12,2)",
         WEIR_PREDICATE_BETWEEN,
         {"0.10", "12.5"},
         {"0.09", "0.1", "12.50", "12.51", NULL},
         5,
         {0, 1, 1, 0, 1}},
        {"decimal(38,0)",
         WEIR_PREDICATE_BETWEEN,
         {"0", "99999999999999999999999999999999999999"},
         {"99999999999999999999999999999999999999", "-1"},
         2,
         {1, 0}},
        {"string",
         WEIR_PREDICATE_BETWEEN,
         {"b", "d"},
         {"az", "b", "d", "da", "\xc3\xa9", NULL},
         6,
         {0, 1, 1, 0, 0, 1}},
        {"date",
         WEIR_PREDICATE_BETWEEN,
         {"2024-02-29", "2026-01-01"},
         {"2024-02-28", "2024-02-29", "2026-01-01", "2026-01-02"},
         4,
         {0, 1, 1, 0}},
        {"timestamp",
         WEIR_PREDICATE_BETWEEN,
         {"1969-12-31T23:59:59.5Z", "2026-01-05T11:00:00+01:00"},
         {"1969-12-31T23:59:59.499999Z", "1969-12-31T23:59:59.5Z", "2026-01-05T10:00:00Z",
          "2026-01-05T10:00:00.000001Z"},
         4,
         {0, 1, 1, 0}},
        {"timestamp_ntz",
         WEIR_PREDICATE_ONE_OF,
         {"2026-01-05T10:00:00"},
         {"2026-01-05 10:00:00", "2026-01-05T10:00:01"},
         2,
         {1, 0}},
        {"bool", WEIR_PREDICATE_ONE_OF, {"true"}, {"true", "false", NULL}, 3, {1, 0, 1}},
        {"int32", WEIR_PREDICATE_ONE_OF, {"1", "5"}, {"1", "2", "5", NULL}, 4, {1, 0, 1, 1}},
        {"int32",
         WEIR_PREDICATE_ONE_OF,
         {"1", "2", "3", "4", "5", "6"},
         {"1", "6", "7", NULL},
         4,
         {1, 1, 0, 1}},
        {"int64",
         WEIR_PREDICATE_ONE_OF,
         {"1", "2", "3", "4", "5", "6", "7", "8", "9", "10"},
         {"1", "10", "11", "-1", NULL},
         5,
         {1, 1, 0, 0, 1}},
        {"double",
         WEIR_PREDICATE_ONE_OF,
         {"0", "1.5"},
         {"-0.0", "1.5", "nan", "2"},
         4,
         {1, 1, 0, 0}},
        {"double",
         WEIR_PREDICATE_ONE_OF,
         {"0", "1", "2", "3", "4", "5", "6", "7", "8"},
         {"-0.0", "8", "nan", "9"},
         4,
         {1, 1, 0, 0}},
        {"decimal(10,2)",
         WEIR_PREDICATE_ONE_OF,
         {"1.5", "2"},
         {"1.50", "2.00", "2.01"},
         3,
         {1, 1, 0}},
        {"decimal(10,2)",
         WEIR_PREDICATE_ONE_OF,
         {"1", "2", "3", "4", "5", "6", "7", "8", "9.25"},
         {"9.25", "9.26"},
         2,
         {1, 0}},
        {"string",
         WEIR_PREDICATE_ONE_OF,
         {"GBP", "EUR", ""},
         {"GBP", "GB", "", "GBPX", NULL},
         5,
         {1, 0, 1, 0, 1}},
        {"string",
         WEIR_PREDICATE_ONE_OF,
         {"a", "b", "c", "d", "e", "f", "g", "h", "ij"},
         {"ij", "i", "a", NULL},
         4,
         {1, 0, 1, 1}},
        {"string",
         WEIR_PREDICATE_MATCHES,
         {"^L\\d{7}$"},
         {"L1234567", "xL1234567", "L1234567\n", NULL, ""},
         5,
         {1, 0, 0, 1, 0}},
        {"string", WEIR_PREDICATE_MATCHES, {"\xc3\xa9."}, {"caf\xc3\xa9!", "cafe!"}, 2, {1, 0}},
    };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        check(&all[i]);
    }
}

static void literals_that_do_not_fit_are_refused_by_name(void **state) {
    (void)state;
    static const char *const wrong[][2] = {
        {"int8", "128"},
        {"int32", "1.5"},
        {"int32", "abc"},
        {"int64", "9223372036854775808"},
        {"int32", ""},
        {"int32", "1 "},
        {"decimal(5,2)", "1.005"},
        {"decimal(5,2)", "1000"},
        {"decimal(5,2)", "x"},
        {"double", "inf"},
        {"double", "1.0x"},
        {"float", "1e39"},
        {"bool", "yes"},
        {"date", "2026-02-29"},
        {"date", "2026-1-1"},
        {"timestamp", "2026-01-05T10:00:00"},
        {"timestamp", "2026-01-05T25:00:00Z"},
        {"timestamp", "2026-01-05T10:00:00.0000001Z"},
        {"timestamp_ntz", "2026-01-05T10:00:00Z"},
        {"int64", "1e9999999999"},
        {"int64", "0x"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct weir_schema *schema = schema_of(wrong[i][0]);
        const char *literal[] = {wrong[i][1]};
        if (weir_predicate_create(WEIR_PREDICATE_ONE_OF, &schema->fields[0], literal, 1, &err) !=
            NULL) {
            fail_msg("%s took %s", wrong[i][0], wrong[i][1]);
        }
        assert_int_equal(err.code, WEIR_E_CONFIG);
        assert_non_null(strstr(err.message, "'v'"));
        weir_schema_unref(schema);
    }
}

static void wrong_uses_are_refused(void **state) {
    (void)state;
    static const struct {
        const char *type;
        enum weir_predicate_kind kind;
        const char *literals[2];
        int32_t count;
    } wrong[] = {
        {"int32", WEIR_PREDICATE_MATCHES, {"a"}, 1},
        {"string", WEIR_PREDICATE_MATCHES, {"(a"}, 1},
        {"bool", WEIR_PREDICATE_BETWEEN, {"true", "false"}, 2},
        {"int32", WEIR_PREDICATE_BETWEEN, {"1"}, 1},
        {"int32", WEIR_PREDICATE_ONE_OF, {NULL}, 0},
        {"list<int32>", WEIR_PREDICATE_ONE_OF, {"1"}, 1},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct weir_schema *schema = schema_of(wrong[i].type);
        assert_null(weir_predicate_create(wrong[i].kind, &schema->fields[0], wrong[i].literals,
                                          wrong[i].count, &err));
        assert_int_equal(err.code, WEIR_E_CONFIG);
        weir_schema_unref(schema);
    }
}

static void a_pattern_bomb_is_a_violation_with_a_text(void **state) {
    (void)state;
    struct weir_schema *schema = schema_of("string");
    static const char *const values[] = {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!",
                                         "aaaa"};
    struct weir_batch *batch = batch_of(schema, values, 2);
    const char *pattern[] = {"^(a+)+$"};
    struct weir_predicate *predicate =
        weir_predicate_create(WEIR_PREDICATE_MATCHES, &schema->fields[0], pattern, 1, &err);
    assert_non_null(predicate);
    uint8_t verdict[2];
    weir_predicate_evaluate(predicate, &batch->columns[0], NULL, 2, verdict);
    assert_int_equal(verdict[0], WEIR_VERDICT_GAVE_UP);
    assert_int_equal(verdict[1], WEIR_VERDICT_PASS);
    assert_non_null(strstr(weir_predicate_gave_up(predicate), "'v'"));
    weir_predicate_destroy(predicate);
    weir_batch_unref(batch);
    weir_schema_unref(schema);
}

static void restrict_only_makes_verdicts_worse(void **state) {
    (void)state;
    struct weir_schema *schema = schema_of("int32");
    static const char *const values[] = {"1", "5", "1", "5"};
    struct weir_batch *batch = batch_of(schema, values, 4);
    const char *bounds[] = {"0", "2"};
    struct weir_predicate *predicate =
        weir_predicate_create(WEIR_PREDICATE_BETWEEN, &schema->fields[0], bounds, 2, &err);
    uint8_t verdict[] = {1, 1, 0, WEIR_VERDICT_GAVE_UP};
    weir_predicate_restrict(predicate, &batch->columns[0], NULL, 4, verdict);
    static const uint8_t wanted[] = {1, 0, 0, WEIR_VERDICT_GAVE_UP};
    assert_memory_equal(verdict, wanted, 4);
    weir_predicate_destroy(predicate);
    weir_batch_unref(batch);
    weir_schema_unref(schema);
}

static void a_dictionary_column_is_judged_like_a_plain_one(void **state) {
    (void)state;
    struct weir_schema *schema = schema_of("string");
    static const char *const values[] = {"a", "bb", "ccc"};
    struct weir_batch *batch = batch_of(schema, values, 3);
    int32_t codes[] = {2, 0, 99, 1, 2}; /* the null's code is out of range */
    uint8_t validity = 0x1b;
    for (int32_t rows = 2; rows <= 5; rows += 3) { /* a dictionary longer, then shorter than it */
        struct weir_column column = {.length = rows,
                                     .type = WEIR_TYPE_STRING,
                                     .codes = codes,
                                     .dictionary = &batch->columns[0],
                                     .validity = &validity,
                                     .null_count = rows == 5};
        const char *set[] = {"a", "ccc"};
        struct weir_predicate *predicate =
            weir_predicate_create(WEIR_PREDICATE_ONE_OF, &schema->fields[0], set, 2, &err);
        uint8_t verdict[5];
        static const uint8_t wanted[] = {1, 1, 1, 0, 1};
        weir_predicate_evaluate(predicate, &column, NULL, rows, verdict);
        assert_memory_equal(verdict, wanted, (size_t)rows);
        weir_predicate_destroy(predicate);
        predicate =
            weir_predicate_create(WEIR_PREDICATE_NOT_NULL, &schema->fields[0], NULL, 0, &err);
        static const uint8_t there[] = {1, 1, 0, 1, 1};
        weir_predicate_evaluate(predicate, &column, NULL, rows, verdict);
        assert_memory_equal(verdict, there, (size_t)rows);
        weir_predicate_destroy(predicate);
    }
    weir_batch_unref(batch);
    weir_schema_unref(schema);
}

/* Of every length around that of a word, differing in one byte anywhere, or in length alone. */
static void short_texts_are_compared_whole(void **state) {
    (void)state;
    struct weir_schema *schema = schema_of("string");
    for (size_t length = 0; length <= 10; length++) {
        char text[12] = "abcdefghijk";
        text[length] = '\0';
        char values[24][12];
        const char *rows[24];
        uint8_t wanted[24];
        int count = 0;
        for (size_t i = 0; i <= length; i++, count++) {
            memcpy(values[count], text, sizeof text);
            values[count][i] = values[count][i] == '\0' ? '\0' : 'X';
            wanted[count] = i == length;
        }
        memcpy(values[count], text, sizeof text);
        values[count][length] = 'k';
        values[count][length + 1] = '\0';
        wanted[count++] = 0;
        memcpy(values[count], "zz", sizeof "zz");
        wanted[count++] = 1;
        for (int i = 0; i < count; i++) {
            rows[i] = values[i];
        }
        struct weir_batch *batch = batch_of(schema, rows, count);
        const char *set[] = {text, "zz"};
        struct weir_predicate *predicate =
            weir_predicate_create(WEIR_PREDICATE_ONE_OF, &schema->fields[0], set, 2, &err);
        uint8_t verdict[24];
        weir_predicate_evaluate(predicate, &batch->columns[0], NULL, count, verdict);
        assert_memory_equal(verdict, wanted, (size_t)count);
        weir_predicate_destroy(predicate);
        weir_batch_unref(batch);
    }
    weir_schema_unref(schema);
}

static void blocks_join_without_seams(void **state) {
    (void)state;
    struct weir_schema *schema = schema_of("int32");
    struct weir_batch_builder builder;
    assert_int_equal(weir_batch_builder_init(&builder, pool, schema, 4096, 1 << 20, &err), WEIR_OK);
    assert_int_equal(weir_batch_builder_begin(&builder), WEIR_OK);
    for (int i = 0; i < 4096; i++) {
        assert_int_equal(i % 7 == 0 ? weir_builder_null(&builder.columns[0])
                                    : weir_builder_int(&builder.columns[0], i),
                         WEIR_OK);
        weir_batch_builder_finish_row(&builder);
    }
    struct weir_batch *batch = weir_batch_builder_take(&builder);
    weir_batch_builder_fini(&builder);
    const char *bounds[] = {"1000", "3000"};
    struct weir_predicate *predicate =
        weir_predicate_create(WEIR_PREDICATE_BETWEEN, &schema->fields[0], bounds, 2, &err);
    static uint8_t verdict[4096];
    static int32_t sel[4096];
    for (int i = 0; i < 4095; i++) {
        sel[i] = i + 1;
    }
    for (int through = 0; through < 2; through++) {
        weir_predicate_evaluate(predicate, &batch->columns[0], through ? sel : NULL, 4095, verdict);
        for (int i = 0; i < 4095; i++) {
            int row = i + through;
            assert_int_equal(verdict[i], row % 7 == 0 || (row >= 1000 && row <= 3000));
        }
    }
    weir_predicate_destroy(predicate);
    weir_batch_unref(batch);
    weir_schema_unref(schema);
}

int main(void) {
    pool = weir_pool_create((size_t)64 << 20);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(judges_every_type_with_null_passing),
        cmocka_unit_test(literals_that_do_not_fit_are_refused_by_name),
        cmocka_unit_test(wrong_uses_are_refused),
        cmocka_unit_test(a_pattern_bomb_is_a_violation_with_a_text),
        cmocka_unit_test(restrict_only_makes_verdicts_worse),
        cmocka_unit_test(a_dictionary_column_is_judged_like_a_plain_one),
        cmocka_unit_test(short_texts_are_compared_whole),
        cmocka_unit_test(blocks_join_without_seams),
    };
    int failed = cmocka_run_group_tests_name("operator_predicate", tests, NULL, NULL);
    weir_pool_destroy(pool);
    return failed;
}
