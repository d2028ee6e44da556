#pragma once
/* What the tests of regular joins share: rows that are changes, joins of them, and the images of
 * both sides. */
#include "batch/change.h"
#include "join_rows.h"
#include "operator/join/regular.h"
#include "random.h"

struct row {
    int id;
    int key; /* -1: null */
    int64_t time;
    int change;
};

/* For main: id, key and what change it is. */
static inline int regular_begin_schema(void) {
    int rc = join_begin_schema();
    return rc == WEIR_OK ? weir_schema_add_text(schema, "_change", "int8", true, &err) : rc;
}

/* In memory; a test may want it otherwise. */
static inline struct weir_regular_config regular_config(enum weir_join_kind kind,
                                                        const char *condition, const int64_t *ttl) {
    return (struct weir_regular_config){
        .declaration = "test.join",
        .sides = {{schema, join_on, join_kept, 2}, {schema, join_on, join_kept, 2}},
        .on_count = 1,
        .kind = kind,
        .condition = condition,
        .change = {2, 2},
        .ttl_us = {ttl[0], ttl[1]},
        .option = "memory.state",
    };
}

static inline struct weir_regular *regular_make(const struct weir_regular_config *config) {
    struct weir_regular *join = weir_regular_create(config, &err);
    assert_non_null(join);
    return join;
}

static inline int regular_id(struct weir_regular *join, int side, const struct weir_link *row) {
    struct weir_batch_builder builder;
    struct weir_column_builder *columns = join_begin_kept(&builder);
    assert_int_equal(weir_regular_decode(join, side, row, columns), 0);
    return join_end_kept(&builder);
}

/* All of them selected. */
static inline struct weir_batch *regular_batch(const struct row *rows, int count, int64_t *times,
                                               int32_t *sel) {
    struct weir_batch_builder builder;
    join_begin(&builder, schema, count);
    for (int i = 0; i < count; i++) {
        join_put(&builder, rows[i].id, rows[i].key);
        assert_int_equal(weir_builder_int(&builder.columns[2], rows[i].change), 0);
        weir_batch_builder_finish_row(&builder);
        times[i] = rows[i].time;
        sel[i] = i;
    }
    return join_end(&builder);
}

/* What an epoch leaves, in slices at random: an image of each side. */
static inline void regular_seal(struct weir_regular *join, struct weir_buffer images[2]) {
    for (int s = 0; s < 2; s++) {
        struct weir_cell *cell = weir_regular_cell(join, s);
        bool done = false;
        weir_buffer_init(&images[s], 1 << 22);
        assert_int_equal(cell->ops->seal(cell->self, &err), WEIR_OK);
        while (!done) {
            assert_int_equal(cell->ops->collect(cell->self, &images[s], 1 + below(40), &done, &err),
                             WEIR_OK);
        }
    }
}

static inline void regular_apply(struct weir_regular *join, int side,
                                 const struct weir_buffer *image) {
    struct weir_cell *cell = weir_regular_cell(join, side);
    assert_int_equal(cell->ops->apply(cell->self, image->data, image->size, &err), WEIR_OK);
}

static inline void regular_drop(struct weir_buffer images[2]) {
    weir_buffer_fini(&images[0]);
    weir_buffer_fini(&images[1]);
}

/* An epoch whose record nobody wants. */
static inline void regular_record(struct weir_regular *join) {
    struct weir_buffer images[2];
    regular_seal(join, images);
    regular_drop(images);
}
