/* The CSV decoder's rules: how records and cells are cut, what is a null, what is rejected. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#include "decode/avsc.h"
#include "decode/decoder.h"

enum { FRAMES = 64 };

static const char avsc[] =
    "{\"type\":\"record\",\"name\":\"r\",\"fields\":["
    "{\"name\":\"id\",\"type\":\"long\"},"
    "{\"name\":\"name\",\"type\":[\"null\",\"string\"],\"default\":null},"
    "{\"name\":\"price\",\"type\":[\"null\",{\"type\":\"bytes\",\"logicalType\":"
    "\"decimal\",\"precision\":10,\"scale\":2}],\"default\":null}]}";

struct read {
    struct weir_pool *pool;
    struct weir_decoder *decoder;
    struct weir_batch *batch;
    struct weir_reject_batch *rejects;
    int32_t frames;
};

/* Reads `text` as a whole file. */
static void read_file(struct read *r, const char *options, const char *text) {
    struct weir_error err = {0};
    struct weir_avsc parsed;
    memset(r, 0, sizeof(*r));
    r->pool = weir_pool_create(64 << 20);
    assert_int_equal(weir_avsc_parse("test", avsc, strlen(avsc), &parsed, &err), 0);
    if (weir_decoder_create(&r->decoder, "csv", options, parsed.schema, &err) != WEIR_OK) {
        fail_msg("%s", err.message);
    }
    struct weir_schema *full = weir_decode_full_schema(parsed.schema);
    struct weir_batch_builder builder;
    assert_int_equal(weir_batch_builder_init(&builder, r->pool, full, FRAMES, 1 << 20, &err), 0);
    assert_int_equal(weir_batch_builder_begin(&builder), 0);
    size_t length = strlen(text);
    uint8_t *block = calloc(1, length + WEIR_DECODE_PADDING);
    memcpy(block, text, length);
    size_t head = 0;
    const struct weir_decoder_vtable *vtable = r->decoder->vtable;
    assert_int_equal(vtable->begin(r->decoder, block, length, true, &head, &err), 0);
    struct weir_frame frames[FRAMES];
    struct weir_split work = {.bytes = block + head,
                              .size = length - head,
                              .offset = head,
                              .last = true,
                              .frames = frames,
                              .max = FRAMES};
    assert_int_equal(vtable->split(r->decoder, &work, &err), 0);
    assert_int_equal(work.used, work.size);
    r->frames = work.count;
    int32_t consumed;
    assert_int_equal(weir_decoder_decode(r->decoder, block + head, frames, work.count, &builder,
                                         &r->rejects, &consumed),
                     0);
    assert_int_equal(consumed, work.count);
    r->batch = weir_batch_builder_take(&builder);
    assert_int_equal(r->batch->rows + (r->rejects != NULL ? r->rejects->count : 0), work.count);
    weir_batch_builder_fini(&builder);
    weir_schema_unref(full);
    weir_avsc_fini(&parsed);
    free(block);
}

static void done(struct read *r) {
    weir_batch_unref(r->batch);
    weir_reject_batch_destroy(r->rejects);
    weir_decoder_destroy(r->decoder);
    weir_pool_destroy(r->pool);
}

static void expect_name(const struct read *r, int32_t row, const char *name) {
    const struct weir_column *column = &r->batch->columns[1];
    assert_true(row < r->batch->rows);
    if (name == NULL) {
        assert_true(weir_column_is_null(column, row));
        return;
    }
    assert_false(weir_column_is_null(column, row));
    size_t length = (size_t)(column->offsets[row + 1] - column->offsets[row]);
    assert_int_equal(length, strlen(name));
    assert_memory_equal((const char *)column->values + column->offsets[row], name, length);
}

static void expect_reject(const struct read *r, int32_t i, const char *field, const char *reason) {
    assert_non_null(r->rejects);
    assert_true(i < r->rejects->count);
    assert_string_equal(weir_reject_field(r->rejects, i), field);
    if (strstr(weir_reject_reason(r->rejects, i), reason) == NULL) {
        fail_msg("reason is: %s", weir_reject_reason(r->rejects, i));
    }
}

static void test_quotes_hold_delimiters_quotes_and_line_ends(void **state) {
    (void)state;
    struct read r;
    read_file(&r, NULL,
              "id,name,price\r\n1,\"a,b\",1.50\r\n2,\"say \"\"hi\"\"\r\nthere\",2\r\n"
              "3,plain,\n4,\"\",3.10\n5,,\n6,\"x\"\"\",");
    assert_null(r.rejects);
    assert_int_equal(r.batch->rows, 6);
    expect_name(&r, 0, "a,b");
    expect_name(&r, 1, "say \"hi\"\r\nthere");
    expect_name(&r, 2, "plain");
    expect_name(&r, 3, "");
    expect_name(&r, 4, NULL);
    expect_name(&r, 5, "x\"");
    const int64_t *price = r.batch->columns[2].values;
    assert_int_equal(price[0], 150);
    assert_int_equal(price[2], 200);
    assert_true(weir_column_is_null(&r.batch->columns[2], 2));
    done(&r);
}

static void test_columns_go_by_the_headers_names(void **state) {
    (void)state;
    struct read r;
    read_file(&r, NULL, "colour,\"id\",name\nred,7,n\n");
    assert_null(r.rejects);
    assert_int_equal(((const int64_t *)r.batch->columns[0].values)[0], 7);
    expect_name(&r, 0, "n");
    assert_true(weir_column_is_null(&r.batch->columns[2], 0));
    const struct weir_column *rescued = &r.batch->columns[3 + WEIR_META_RESCUED];
    assert_int_equal(rescued->offsets[1], strlen("{\"colour\":\"red\"}"));
    assert_memory_equal(rescued->values, "{\"colour\":\"red\"}", (size_t)rescued->offsets[1]);
    done(&r);
}

static void test_without_a_header_columns_go_by_place(void **state) {
    (void)state;
    struct read r;
    read_file(&r, "{\"header\":false,\"delimiter\":\";\",\"null\":[\"NULL\",\"-\"]}",
              "1;a;1.5\n2;NULL;-\n3;\"-\";0\n\n4;;2\n");
    assert_null(r.rejects);
    assert_int_equal(r.batch->rows, 4);
    expect_name(&r, 0, "a");
    expect_name(&r, 1, NULL);
    expect_name(&r, 2, "-");
    expect_name(&r, 3, "");
    assert_int_equal(((const __int128 *)r.batch->columns[2].values)[0], 150);
    done(&r);
}

static void test_bad_records_are_rejected_and_the_next_go_on(void **state) {
    (void)state;
    struct read r;
    read_file(&r, NULL,
              "id,name,price\n1,a\nx,a,1\n2,a\"b,1\n3,\"a\"b,1\n4,a,1.234\n,a,1\n5,\xff,1\n"
              "9223372036854775808,a,1\n6,good,1\n7,\"open,1\n8,after,2\n");
    assert_int_equal(r.batch->rows, 2);
    expect_name(&r, 0, "good");
    expect_name(&r, 1, "after");
    assert_int_equal(r.rejects->count, 9);
    expect_reject(&r, 0, "", "2 cells where the header has 3");
    expect_reject(&r, 1, "id", "\"x\" is not int64, at byte 0");
    expect_reject(&r, 2, "", "a quote inside a cell without quotes, at byte 3");
    expect_reject(&r, 3, "", "text behind a quoted cell, at byte 5");
    expect_reject(&r, 4, "price", "\"1.234\" is not decimal(10,2), at byte 4");
    expect_reject(&r, 5, "id", "null, but the field is not nullable");
    expect_reject(&r, 6, "", "not valid UTF-8, at byte 2");
    expect_reject(&r, 7, "id", "is not int64");
    expect_reject(&r, 8, "", "a quote that is not closed, at byte 2");
    done(&r);
}

static void test_a_header_that_names_a_column_twice_rejects_its_file(void **state) {
    (void)state;
    struct read r;
    read_file(&r, NULL, "id,id\n1,2\n3,4\n");
    assert_int_equal(r.batch->rows, 0);
    expect_reject(&r, 1, "", "the header has the column \"id\" twice");
    done(&r);
}

/* However the bytes come in, the frames are the same. */
static void test_records_are_cut_the_same_from_any_beginning_of_the_bytes(void **state) {
    (void)state;
    static const char text[] = "1,\"a\nb\",2\r\n2,\"\"\"\",\"\n\"\n3,x,y\n\n4,\"q\nz\",";
    struct weir_error err = {0};
    struct weir_avsc parsed;
    struct weir_decoder *decoder;
    assert_int_equal(weir_avsc_parse("test", avsc, strlen(avsc), &parsed, &err), 0);
    assert_int_equal(weir_decoder_create(&decoder, "csv", NULL, parsed.schema, &err), 0);
    struct weir_frame whole[FRAMES];
    struct weir_split all = {.bytes = (const uint8_t *)text,
                             .size = strlen(text),
                             .last = true,
                             .frames = whole,
                             .max = FRAMES};
    assert_int_equal(decoder->vtable->split(decoder, &all, &err), 0);
    assert_int_equal(all.count, 4);
    for (size_t seen = 0; seen < strlen(text); seen++) {
        struct weir_frame some[FRAMES];
        struct weir_split part = {.bytes = all.bytes, .size = seen, .frames = some, .max = FRAMES};
        uint8_t *copy = malloc(seen + 1); /* a read past what came is seen by the sanitizer */
        memcpy(copy, text, seen);
        part.bytes = copy;
        assert_int_equal(decoder->vtable->split(decoder, &part, &err), 0);
        for (int32_t i = 0; i < part.count; i++) {
            assert_int_equal(some[i].start, whole[i].start);
            assert_int_equal(some[i].length, whole[i].length);
        }
        free(copy);
    }
    weir_decoder_destroy(decoder);
    weir_avsc_fini(&parsed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quotes_hold_delimiters_quotes_and_line_ends),
        cmocka_unit_test(test_columns_go_by_the_headers_names),
        cmocka_unit_test(test_without_a_header_columns_go_by_place),
        cmocka_unit_test(test_bad_records_are_rejected_and_the_next_go_on),
        cmocka_unit_test(test_a_header_that_names_a_column_twice_rejects_its_file),
        cmocka_unit_test(test_records_are_cut_the_same_from_any_beginning_of_the_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
