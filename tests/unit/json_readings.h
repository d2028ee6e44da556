#pragma once
/* Lines decoded from JSON whole, and again with columns left out: what is read of a line is the
 * same either way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the first three above first */
#include <cmocka.h>

#include "decode/decoder.h"

struct decoded {
    struct weir_pool *pool;
    struct weir_schema *full;
    struct weir_decoder *decoder;
    struct weir_batch *batch;
    struct weir_reject_batch *rejects;
};

/* The first column only, of the structs in it the first field only, nothing. */
enum reading { ALL, FIRST, INSIDE, NONE };
enum { PATH_MAX_STEPS = 8 };

static inline struct weir_projection *project(const struct weir_schema *schema,
                                              enum reading reading) {
    struct weir_error err = {0};
    struct weir_projection *made = weir_projection_create(schema);
    const char *path[PATH_MAX_STEPS];
    int32_t steps = 0;
    if (reading != NONE) {
        const struct weir_field *field = schema->fields;
        path[steps++] = field->name;
        while (reading == INSIDE && field->type == WEIR_TYPE_STRUCT) {
            field = field->children;
            path[steps++] = field->name;
        }
        assert_int_equal(weir_projection_add(made, schema, path, steps, &err), 0);
    }
    return made;
}

static inline void decode_reading(struct decoded *d, struct weir_schema *schema,
                                  const char *options, const char *text, size_t length,
                                  enum reading reading) {
    struct weir_error err = {0};
    memset(d, 0, sizeof(*d));
    d->pool = weir_pool_create(64 << 20);
    if (weir_decoder_create(&d->decoder, "json", options, schema, &err) != WEIR_OK) {
        fail_msg("%s", err.message);
    }
    d->full = weir_decode_full_schema(d->decoder->vtable->schema(d->decoder));
    struct weir_batch_builder builder;
    assert_int_equal(weir_batch_builder_init(&builder, d->pool, d->full, 64, 1 << 20, &err), 0);
    struct weir_projection *projection = NULL;
    if (reading != ALL) {
        projection = project(d->decoder->vtable->schema(d->decoder), reading);
        weir_batch_builder_project(&builder, projection);
    }
    assert_int_equal(weir_batch_builder_begin(&builder), 0);
    uint8_t *block = calloc(1, length + WEIR_DECODE_PADDING);
    struct weir_frame frames[64];
    int32_t count = 0;
    memcpy(block, text, length);
    for (size_t at = 0; at < length;) {
        const char *newline = memchr(text + at, '\n', length - at);
        size_t end = newline != NULL ? (size_t)(newline - text) : length;
        frames[count].start = (uint32_t)at;
        frames[count].length = (uint32_t)(end - at);
        frames[count].offset = (int64_t)at;
        count++;
        at = end + 1;
    }
    int32_t consumed = 0;
    assert_int_equal(
        weir_decoder_decode(d->decoder, block, frames, count, &builder, &d->rejects, &consumed), 0);
    assert_int_equal(consumed, count);
    d->batch = weir_batch_builder_take(&builder);
    assert_int_equal(weir_decode_finish(d->batch, "t", 0), 0);
    assert_int_equal(d->batch->rows + (d->rejects != NULL ? d->rejects->count : 0), count);
    for (int32_t i = 0; i < d->batch->column_count; i++) {
        assert_int_equal(d->batch->columns[i].length, d->batch->rows);
    }
    weir_batch_builder_fini(&builder);
    weir_projection_unref(projection);
    free(block);
}

static inline void release(struct decoded *d) {
    weir_batch_unref(d->batch);
    weir_reject_batch_destroy(d->rejects);
    weir_decoder_destroy(d->decoder);
    weir_schema_unref(d->full);
    assert_int_equal(weir_pool_used_bytes(d->pool), 0);
    weir_pool_destroy(d->pool);
}

static inline void assert_all_null(const struct weir_column *column, int64_t rows) {
    assert_int_equal(column->length, rows);
    assert_int_equal(column->null_count, rows);
    for (int64_t row = 0; row < rows; row++) {
        assert_true(weir_column_is_null(column, row));
    }
    for (int32_t i = 0; i < column->child_count; i++) {
        assert_all_null(&column->children[i], column->type == WEIR_TYPE_STRUCT ? rows : 0);
    }
}

static inline void assert_same_inside(const struct weir_column *part,
                                      const struct weir_column *whole, int32_t rows) {
    assert_int_equal(part->null_count, whole->null_count);
    for (int32_t row = 0; row < rows; row++) {
        assert_int_equal(weir_column_is_null(part, row), weir_column_is_null(whole, row));
        assert_true(whole->type == WEIR_TYPE_STRUCT ||
                    weir_column_value_equal(part, row, whole, row));
    }
    for (int32_t i = 0; whole->type == WEIR_TYPE_STRUCT && i < whole->child_count; i++) {
        if (i == 0) {
            assert_same_inside(&part->children[i], &whole->children[i], rows);
        } else {
            assert_all_null(&part->children[i], rows);
        }
    }
}

/* Whatever is read of it, a line is the same row, or rejected for the same reason. */
static inline void assert_same(const struct decoded *whole, const struct decoded *part,
                               enum reading reading) {
    int32_t read = reading == NONE ? 0 : 1;
    int32_t user = whole->batch->column_count - WEIR_META_COUNT;
    assert_int_equal(part->batch->rows, whole->batch->rows);
    for (int32_t c = 0; c < whole->batch->column_count; c++) {
        if (c >= read && c < user) {
            assert_all_null(&part->batch->columns[c], part->batch->rows);
            continue;
        }
        if (reading == INSIDE && c == 0) {
            assert_same_inside(&part->batch->columns[c], &whole->batch->columns[c],
                               whole->batch->rows);
            continue;
        }
        for (int32_t row = 0; row < whole->batch->rows; row++) {
            assert_true(weir_column_value_equal(&part->batch->columns[c], row,
                                                &whole->batch->columns[c], row));
        }
    }
    assert_int_equal(part->rejects != NULL, whole->rejects != NULL);
    for (int32_t i = 0; whole->rejects != NULL && i < whole->rejects->count; i++) {
        const struct weir_reject *a = &part->rejects->rejects[i];
        const struct weir_reject *b = &whole->rejects->rejects[i];
        assert_int_equal(part->rejects->count, whole->rejects->count);
        assert_int_equal(a->offset, b->offset);
        assert_int_equal(a->before_row, b->before_row);
        assert_int_equal(a->position, b->position);
        assert_string_equal(weir_reject_reason(part->rejects, i),
                            weir_reject_reason(whole->rejects, i));
        assert_string_equal(weir_reject_field(part->rejects, i),
                            weir_reject_field(whole->rejects, i));
    }
}

/* Whole into *d; every other reading of it is held to be the same. */
static inline void decode_lines(struct decoded *d, struct weir_schema *schema, const char *options,
                                const char *text, size_t length) {
    decode_reading(d, schema, options, text, length, ALL);
    for (enum reading reading = FIRST; reading <= NONE; reading++) {
        struct decoded part;
        decode_reading(&part, schema, options, text, length, reading);
        assert_same(d, &part, reading);
        release(&part);
    }
}
