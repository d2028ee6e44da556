/* Tops of rows that may be taken back beside all rows sorted: what leaves as changes adds up to the
 * first rows there are, whatever comes and goes, over images and restores too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "batch/change.h"
#include "operator/top/top.h"
#include "random.h"

enum { ROWS = 3000, FEED = 40, GROUPS = 3, OUT = 4000 };

static struct weir_pool *pool;
static struct weir_schema *schema; /* g, v, id */
static struct weir_error err;

struct row {
    int64_t g;
    int64_t v;
    int64_t id;
    int64_t rank;
};

struct world {
    struct weir_top *top;
    struct weir_batch_builder in;
    struct weir_batch_builder out;
    struct row there[ROWS];
    int32_t count;
    struct row shown[OUT]; /* what the changes add up to */
    int32_t shown_count;
    enum weir_top_ties ties;
    int32_t n;
};

static const int32_t columns[] = {0, 1, 2};
static const int32_t per[] = {0};
static const struct weir_top_order by[] = {{1, true}, {2, false}};

static struct weir_top *make_top(const struct world *world) {
    struct weir_top_config config = {
        .declaration = "gold.m",
        .input = schema,
        .columns = columns,
        .column_count = 3,
        .per = per,
        .per_count = 1,
        .by = by,
        .by_count = 2,
        .tied_count = 1,
        .n = world->n,
        .ties = world->ties,
        .rank = "rank",
        .retracts = true,
        .option = "memory.state",
    };
    struct weir_top *top = weir_top_create(&config, &err);
    assert_non_null(top);
    return top;
}

static int compare(const void *left, const void *right) {
    const struct row *a = left;
    const struct row *b = right;
    int64_t keys[4][2] = {{a->g, b->g}, {b->v, a->v}, {a->id, b->id}, {a->rank, b->rank}};
    for (int k = 0; k < 4; k++) {
        if (keys[k][0] != keys[k][1]) {
            return keys[k][0] < keys[k][1] ? -1 : 1;
        }
    }
    return 0;
}

/* All rows sorted, and cut. */
static int32_t recount(struct world *world, struct row *into) {
    qsort(world->there, (size_t)world->count, sizeof *world->there, compare);
    int32_t kept = 0;
    int64_t place = 0;
    int64_t rank = 0;
    for (int32_t i = 0; i < world->count; i++) {
        struct row row = world->there[i];
        bool same = i > 0 && world->there[i - 1].g == row.g;
        bool tied = same && world->ties == WEIR_TOP_ALL && world->there[i - 1].v == row.v;
        place = same ? place + 1 : 0;
        rank = tied ? rank : place;
        if (rank < world->n) {
            row.rank = rank + 1;
            into[kept++] = row;
        }
    }
    return kept;
}

static void take_changes(struct world *world, const struct weir_batch *batch) {
    for (int32_t i = 0; i < batch->rows; i++) {
        struct row row = {
            weir_column_int(&batch->columns[0], i), weir_column_int(&batch->columns[1], i),
            weir_column_int(&batch->columns[2], i), weir_column_int(&batch->columns[3], i)};
        int64_t change = weir_column_int(&batch->columns[4], i);
        if (!weir_change_takes_back(change)) {
            world->shown[world->shown_count++] = row;
            continue;
        }
        int32_t at = 0;
        while (at < world->shown_count && compare(&world->shown[at], &row) != 0) {
            at++;
        }
        assert_true(at < world->shown_count); /* it was there */
        world->shown[at] = world->shown[--world->shown_count];
        if (change == WEIR_CHANGE_BEFORE) { /* its other half follows, in the same batch */
            assert_true(i + 1 < batch->rows);
            assert_int_equal(weir_column_int(&batch->columns[4], i + 1), WEIR_CHANGE_AFTER);
        }
    }
}

static void tell(struct world *world) {
    int64_t times[OUT];
    bool done = false;
    while (!done) {
        assert_int_equal(weir_batch_builder_begin(&world->out), WEIR_OK);
        assert_int_equal(weir_top_changes(world->top, &world->out, 20, times, &done, &err),
                         WEIR_OK);
        struct weir_batch *batch = weir_batch_builder_take(&world->out);
        take_changes(world, batch);
        weir_batch_unref(batch);
    }
}

static void append(struct world *world, struct row row) {
    assert_int_equal(weir_builder_int(&world->in.columns[0], row.g), WEIR_OK);
    assert_int_equal(weir_builder_int(&world->in.columns[1], row.v), WEIR_OK);
    assert_int_equal(weir_builder_int(&world->in.columns[2], row.id), WEIR_OK);
    weir_batch_builder_finish_row(&world->in);
}

static void feed(struct world *world, bool grows) {
    int8_t signs[FEED];
    int32_t late_sel[FEED];
    int32_t late;
    assert_int_equal(weir_batch_builder_begin(&world->in), WEIR_OK);
    for (int32_t i = 0; i < FEED; i++) {
        bool back = world->count > 0 && (world->count == ROWS || below(10) < (grows ? 4u : 7u));
        struct row row = {(int64_t)below(GROUPS), (int64_t)below(9), (int64_t)below(40), 0};
        if (back) {
            int32_t at = (int32_t)below((uint64_t)world->count);
            row = world->there[at];
            world->there[at] = world->there[--world->count];
        } else if (below(20) == 0) { /* never there: it takes nothing back */
            row.id = 99;
            back = true;
        } else {
            world->there[world->count++] = row;
        }
        signs[i] = back ? -1 : 1;
        append(world, row);
    }
    struct weir_batch *batch = weir_batch_builder_take(&world->in);
    struct weir_top_rows rows = {.batch = batch, .count = FEED, .signs = signs};
    assert_int_equal(weir_top_feed(world->top, &rows, late_sel, &late, &err), WEIR_OK);
    assert_int_equal(late, 0);
    weir_batch_unref(batch);
}

/* Another top from the images of this one. */
static void restore(struct world *world) {
    struct weir_cell *cells[2];
    struct weir_cell *others[2];
    struct weir_top *other = make_top(world);
    assert_int_equal(weir_top_cells(world->top, cells, 2), 2);
    assert_int_equal(weir_top_cells(other, others, 2), 2);
    for (int c = 0; c < 2; c++) {
        struct weir_cell_cursor cursor = {0};
        struct weir_buffer images;
        bool done = false;
        weir_buffer_init(&images, 1 << 24);
        while (!done) {
            assert_int_equal(
                cells[c]->ops->dump(cells[c]->self, &cursor, &images, 100, &done, &err), WEIR_OK);
        }
        assert_int_equal(others[c]->ops->apply(others[c]->self, images.data, images.size, &err),
                         WEIR_OK);
        assert_int_equal(others[c]->ops->keys(others[c]->self),
                         cells[c]->ops->keys(cells[c]->self));
        weir_buffer_fini(&images);
    }
    assert_int_equal(weir_top_restore(other, &err), WEIR_OK);
    weir_top_destroy(world->top);
    world->top = other;
}

static void judge(struct world *world) {
    static struct row wanted[ROWS];
    int32_t count = recount(world, wanted);
    qsort(world->shown, (size_t)world->shown_count, sizeof *world->shown, compare);
    assert_int_equal(world->shown_count, count);
    for (int32_t i = 0; i < count; i++) {
        assert_int_equal(compare(&world->shown[i], &wanted[i]), 0);
    }
}

static void run(enum weir_top_ties ties, int32_t n, uint64_t seed) {
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    world->ties = ties;
    world->n = n;
    world->top = make_top(world);
    random_state = seed;
    assert_int_equal(weir_batch_builder_init(&world->in, pool, schema, FEED, 1 << 20, &err),
                     WEIR_OK);
    assert_int_equal(
        weir_batch_builder_init(&world->out, pool, weir_top_output(world->top), OUT, 1 << 24, &err),
        WEIR_OK);
    for (int round = 0; round < 60; round++) {
        feed(world, round < 30);
        if (round % 3 == 0) { /* two feeds are told at once */
            feed(world, round < 30);
        }
        tell(world);
        judge(world);
        if (round % 7 == 6) {
            restore(world);
        }
    }
    weir_batch_builder_fini(&world->in);
    weir_batch_builder_fini(&world->out);
    weir_top_destroy(world->top);
    free(world);
}

static void what_leaves_adds_up_to_the_first_rows(void **state) {
    (void)state;
    static const int32_t numbers[] = {1, 2, 5, 40, 1000};
    for (int i = 0; i < 5; i++) {
        run(WEIR_TOP_FIRST, numbers[i], (uint64_t)i + 1);
        run(WEIR_TOP_ALL, numbers[i], (uint64_t)i + 101);
    }
}

static void a_damaged_image_is_refused(void **state) {
    (void)state;
    struct world world = {.n = 3};
    world.top = make_top(&world);
    struct weir_top *other = make_top(&world);
    assert_int_equal(weir_batch_builder_init(&world.in, pool, schema, FEED, 1 << 20, &err),
                     WEIR_OK);
    feed(&world, true);
    struct weir_cell *cells[2];
    struct weir_cell *others[2];
    struct weir_cell_cursor cursor = {0};
    struct weir_buffer images;
    bool done;
    weir_buffer_init(&images, 1 << 24);
    weir_top_cells(world.top, cells, 2);
    weir_top_cells(other, others, 2);
    assert_int_equal(cells[1]->ops->dump(cells[1]->self, &cursor, &images, 1000, &done, &err),
                     WEIR_OK);
    assert_int_equal(others[1]->ops->apply(others[1]->self, images.data, images.size, &err),
                     WEIR_OK);
    assert_int_equal(weir_top_restore(other, &err), WEIR_E_CORRUPT); /* rows without their groups */
    weir_buffer_fini(&images);
    weir_batch_builder_fini(&world.in);
    weir_top_destroy(world.top);
    weir_top_destroy(other);
}

static int setup(void **state) {
    (void)state;
    pool = weir_pool_create((size_t)256 << 20);
    schema = weir_schema_create();
    static const char *const names[] = {"g", "v", "id"};
    for (int c = 0; c < 3; c++) {
        if (weir_schema_add_text(schema, names[c], "int64", false, &err) != WEIR_OK) {
            return -1;
        }
    }
    return pool != NULL ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    weir_schema_unref(schema);
    weir_pool_destroy(pool);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_leaves_adds_up_to_the_first_rows),
        cmocka_unit_test(a_damaged_image_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
