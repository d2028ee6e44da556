/* Keys' canonical bytes, and dedup with rows rejected later: settling a batch gives exactly what
 * row-by-row processing gives, whatever the batches. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "operator/dedup.h"
#include "random.h"

static struct weir_pool *pool;
static struct weir_error err;

/* --- keys ---------------------------------------------------------------------------------- */

static const char *const types[] = {"bool",  "int8",      "int16",         "int32",  "int64",
                                    "float", "double",    "decimal(20,3)", "string", "binary",
                                    "date",  "timestamp", "timestamp_ntz"};
enum { TYPES = (int)(sizeof types / sizeof types[0]) };

static struct weir_schema *all_types(void) {
    struct weir_schema *schema = weir_schema_create();
    for (int t = 0; t < TYPES; t++) {
        char name[3] = {'c', (char)('a' + t), 0};
        assert_int_equal(weir_schema_add_text(schema, name, types[t], true, &err), WEIR_OK);
    }
    return schema;
}

static int append(struct weir_column_builder *column, uint64_t seed) {
    static const char *const texts[] = {"", "a", "ab", "\xc3\xa9",
                                        "a long text, longer than 64 "
                                        "bytes so that it is hashed in more than one step, really"};
    static const double numbers[] = {0, -1.5, NAN, INFINITY, 1e300};
    if (seed % 5 == 0) {
        return weir_builder_null(column);
    }
    switch (column->type) {
    case WEIR_TYPE_BOOL:
        return weir_builder_bool(column, seed % 2);
    case WEIR_TYPE_FLOAT:
        return weir_builder_float(column, (float)numbers[seed % 4]);
    case WEIR_TYPE_DOUBLE:
        return weir_builder_double(column, numbers[seed % 5]);
    case WEIR_TYPE_DECIMAL:
        return weir_builder_decimal(column, seed, seed % 2 ? -1 : 0);
    case WEIR_TYPE_STRING:
    case WEIR_TYPE_BINARY:
        return weir_builder_bytes(column, texts[seed % 5], strlen(texts[seed % 5]));
    default:
        return weir_builder_int(column, (int64_t)(seed % 7) - 3);
    }
}

static void keys_decode_to_the_values_they_were_made_of(void **state) {
    (void)state;
    struct weir_schema *schema = all_types();
    struct weir_batch_builder builder;
    assert_int_equal(weir_batch_builder_init(&builder, pool, schema, 200, 1 << 20, &err), WEIR_OK);
    assert_int_equal(weir_batch_builder_begin(&builder), WEIR_OK);
    random_state = 5;
    for (int row = 0; row < 200; row++) {
        for (int t = 0; t < TYPES; t++) {
            assert_int_equal(append(&builder.columns[t], below(35)), WEIR_OK);
        }
        weir_batch_builder_finish_row(&builder);
    }
    struct weir_batch *batch = weir_batch_builder_take(&builder);
    int32_t columns[TYPES];
    for (int t = 0; t < TYPES; t++) {
        columns[t] = t;
    }
    struct weir_key *key = weir_key_create(schema, columns, TYPES, &err);
    assert_non_null(key);
    struct weir_keys keys;
    weir_keys_init(&keys);
    int32_t sel[100];
    for (int i = 0; i < 100; i++) {
        sel[i] = i * 2 + 1;
    }
    assert_int_equal(weir_key_encode(key, batch, sel, 100, 3, &keys), WEIR_OK);
    assert_int_equal(weir_batch_builder_begin(&builder), WEIR_OK);
    for (int i = 0; i < 100; i++) {
        size_t length = keys.offsets[i + 1] - keys.offsets[i] - 3;
        const uint8_t *bytes = keys.bytes + keys.offsets[i] + 3;
        assert_int_equal(weir_key_decode(key, bytes, length, builder.columns), WEIR_OK);
        weir_batch_builder_finish_row(&builder);
        for (size_t cut = 0; cut < length; cut++) { /* damaged ones are refused, not overrun */
            uint8_t *exact = malloc(cut + 1);
            memcpy(exact, bytes, cut);
            int rc = weir_key_decode(key, exact, cut, builder.columns);
            assert_true(rc == WEIR_E_CORRUPT || rc == WEIR_E_LIMIT);
            weir_batch_builder_undo_row(&builder);
            free(exact);
        }
    }
    struct weir_batch *back = weir_batch_builder_take(&builder);
    for (int t = 0; t < TYPES; t++) {
        for (int i = 0; i < 100; i++) {
            assert_true(weir_column_value_equal(&batch->columns[t], sel[i], &back->columns[t], i));
        }
    }
    weir_batch_builder_fini(&builder);
    weir_keys_fini(&keys);
    weir_key_destroy(key);
    weir_batch_unref(batch);
    weir_batch_unref(back);
    weir_schema_unref(schema);
}

static void equal_keys_have_equal_bytes_whatever_their_form(void **state) {
    (void)state;
    struct weir_schema *schema = weir_schema_create();
    assert_int_equal(weir_schema_add_text(schema, "d", "double", true, &err), WEIR_OK);
    assert_int_equal(weir_schema_add_text(schema, "s", "string", true, &err), WEIR_OK);
    int32_t columns[] = {0, 1};
    struct weir_key *key = weir_key_create(schema, columns, 2, &err);
    uint64_t bits[] = {UINT64_C(0x7ff8000000000000), UINT64_C(0xfff0000000000001), 0,
                       UINT64_C(0x8000000000000000)};
    struct weir_column d = {.length = 4, .values = bits, .type = WEIR_TYPE_DOUBLE};
    char text[] = "abab";
    int32_t offsets[] = {0, 2, 4, 4, 4};
    struct weir_column s = {
        .length = 4, .values = text, .offsets = offsets, .type = WEIR_TYPE_STRING};
    int32_t codes[] = {1, 0, 3, 2};
    struct weir_column coded = {
        .length = 4, .codes = codes, .dictionary = &s, .type = WEIR_TYPE_STRING};
    struct weir_keys keys;
    weir_keys_init(&keys);
    for (int form = 0; form < 2; form++) {
        const struct weir_column *both[] = {&d, form ? &coded : &s};
        assert_int_equal(weir_key_encode_columns(key, both, NULL, 4, 0, &keys), WEIR_OK);
        weir_keys_fingerprint(&keys);
        weir_keys_hash(&keys, 9);
        for (int i = 0; i < 4; i += 2) {
            assert_int_equal(keys.hashes[i], keys.hashes[i + 1]);
            assert_int_equal(keys.fingerprints[i].lo, keys.fingerprints[i + 1].lo);
            assert_int_equal(keys.fingerprints[i].hi, keys.fingerprints[i + 1].hi);
        }
        assert_int_not_equal(keys.fingerprints[0].lo, keys.fingerprints[2].lo);
        static const uint8_t first[] = {1, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f, 1, 2, 'a', 'b'};
        assert_int_equal(keys.offsets[1], sizeof first);
        assert_memory_equal(keys.bytes, first, sizeof first); /* persisted: never to change */
    }
    weir_keys_fini(&keys);
    weir_key_destroy(key);
    weir_schema_unref(schema);
}

static void nested_columns_are_no_keys(void **state) {
    (void)state;
    struct weir_schema *schema = weir_schema_create();
    assert_int_equal(weir_schema_add_text(schema, "items", "list<int32>", true, &err), WEIR_OK);
    int32_t column = 0;
    assert_null(weir_key_create(schema, &column, 1, &err));
    assert_int_equal(err.code, WEIR_E_CONFIG);
    assert_non_null(strstr(err.message, "'items'"));
    weir_schema_unref(schema);
}

/* --- dedup --------------------------------------------------------------------------------- */

enum { ROWS = 2000, WITHIN = 100 };

struct row {
    int64_t key; /* < 0: null */
    int64_t time;
    int64_t watermark;
    uint8_t rejected;
};

static struct weir_batch *batch_of(struct weir_schema *schema, const struct row *rows, int count) {
    struct weir_batch_builder builder;
    assert_int_equal(weir_batch_builder_init(&builder, pool, schema, 512, 4096, &err), WEIR_OK);
    assert_int_equal(weir_batch_builder_begin(&builder), WEIR_OK);
    for (int i = 0; i < count; i++) {
        assert_int_equal(rows[i].key < 0 ? weir_builder_null(&builder.columns[0])
                                         : weir_builder_int(&builder.columns[0], rows[i].key),
                         WEIR_OK);
        weir_batch_builder_finish_row(&builder);
    }
    struct weir_batch *batch = weir_batch_builder_take(&builder);
    weir_batch_builder_fini(&builder);
    return batch;
}

/* Runs all rows in batches of up to `largest`; outcome[row] = 0 left, 1 duplicate, 2 rejected. */
static void run(struct weir_schema *schema, const struct row *rows, uint64_t largest,
                uint8_t *outcome) {
    int32_t by = 0;
    struct weir_dedup_config config = {.declaration = "silver.test",
                                       .input = schema,
                                       .by = &by,
                                       .by_count = 1,
                                       .within_us = WITHIN};
    struct weir_dedup *dedup = weir_dedup_create(&config, &err);
    assert_non_null(dedup);
    for (int at = 0; at < ROWS;) {
        int count = 1 + (int)below(largest);
        count = count < ROWS - at ? count : ROWS - at;
        struct weir_batch *batch = batch_of(schema, rows + at, count);
        int64_t times[512];
        int64_t watermarks[512];
        uint8_t duplicate[512];
        uint8_t rejected[512];
        int32_t fresh[512];
        int32_t fresh_count;
        for (int i = 0; i < count; i++) {
            times[i] = rows[at + i].time;
            watermarks[i] = rows[at + i].watermark;
        }
        assert_int_equal(
            weir_dedup_feed(dedup, batch, NULL, count, times, watermarks, duplicate, &err),
            WEIR_OK);
        for (int i = 0; i < count; i++) { /* what was not evaluated must not be looked at */
            rejected[i] = duplicate[i] ? 77 : rows[at + i].rejected;
        }
        do {
            assert_int_equal(
                weir_dedup_settle(dedup, rejected, duplicate, fresh, &fresh_count, &err), WEIR_OK);
            for (int32_t i = 0; i < fresh_count; i++) {
                assert_int_equal(rejected[fresh[i]], 77);
                rejected[fresh[i]] = rows[at + fresh[i]].rejected;
            }
        } while (fresh_count > 0);
        for (int i = 0; i < count; i++) {
            outcome[at + i] = duplicate[i] ? 1 : rejected[i] * 2;
        }
        weir_dedup_expire(dedup, watermarks[count - 1]);
        weir_batch_unref(batch);
        at += count;
    }
    weir_dedup_destroy(dedup);
}

static void rejected_rows_are_forgotten_as_if_rows_came_one_by_one(void **state) {
    (void)state;
    struct weir_schema *schema = weir_schema_create();
    assert_int_equal(weir_schema_add_text(schema, "id", "int64", true, &err), WEIR_OK);
    struct row *rows = calloc(ROWS, sizeof *rows);
    uint8_t *one_by_one = calloc(ROWS, 1);
    uint8_t *batched = calloc(ROWS, 1);
    int seen[3] = {0};
    for (uint64_t seed = 1; seed <= 15; seed++) {
        random_state = seed;
        int64_t clock = 0;
        for (int i = 0; i < ROWS; i++) {
            clock += (int64_t)below(8);
            rows[i] = (struct row){.key = (int64_t)below(12) - 1,
                                   .time = clock - (int64_t)below(60),
                                   .watermark = clock - 70,
                                   .rejected = below(3) == 0};
        }
        run(schema, rows, 1, one_by_one);
        run(schema, rows, 512, batched);
        assert_memory_equal(batched, one_by_one, ROWS);
        for (int i = 0; i < ROWS; i++) {
            seen[batched[i]]++;
            if (rows[i].key < 0) {
                assert_int_equal(batched[i], rows[i].rejected * 2); /* null: never a duplicate */
            }
        }
    }
    assert_true(seen[0] > 1000 && seen[1] > 1000 && seen[2] > 1000);
    free(rows);
    free(one_by_one);
    free(batched);
    weir_schema_unref(schema);
}

int main(void) {
    pool = weir_pool_create((size_t)64 << 20);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_decode_to_the_values_they_were_made_of),
        cmocka_unit_test(equal_keys_have_equal_bytes_whatever_their_form),
        cmocka_unit_test(nested_columns_are_no_keys),
        cmocka_unit_test(rejected_rows_are_forgotten_as_if_rows_came_one_by_one),
    };
    int failed = cmocka_run_group_tests_name("operator_dedup", tests, NULL, NULL);
    weir_pool_destroy(pool);
    return failed;
}
