/* The interval join against pairing everything with everything: for each kind, with batches,
 * interleaving, seals, snapshots and crashes at random. */
#include "join_rows.h"
#include "operator/join/join.h"
#include "operator/watermark.h"
#include "random.h"

enum { ROWS = 600, KEYS = 12, BATCH = 40, RESULTS_MAX = 60000, RECORDS_MAX = 400 };

struct input {
    int key; /* -1: null */
    int64_t time;
    int64_t before; /* watermark */
    int64_t high;   /* of the bound by column; INT64_MIN: null */
    bool late;
};

struct scene {
    enum weir_join_kind kind;
    int64_t low;
    int64_t high;
    bool by_column;
    int64_t lateness;
    int64_t window; /* 0: bounds */
    int64_t every;
    struct input rows[2][ROWS];
    int64_t watermark[2][ROWS + 1]; /* after n rows */
};

/* What left: left id << 32 | right id, each from 1, 0 for none. */
struct results {
    uint64_t list[RESULTS_MAX];
    size_t count;
};

static void make_rows(struct scene *scene) {
    for (int s = 0; s < 2; s++) {
        int64_t clock = 1000000;
        int64_t greatest = INT64_MIN;
        scene->watermark[s][0] = WEIR_WATERMARK_NONE;
        for (int i = 0; i < ROWS; i++) {
            struct input *row = &scene->rows[s][i];
            clock += (int64_t)below(30);
            row->key = below(10) == 0 ? -1 : (int)below(KEYS);
            row->time = clock - (int64_t)below(120); /* 100 of them are allowed */
            row->before = scene->watermark[s][i];
            row->high = below(8) == 0 ? INT64_MIN : row->time + (int64_t)below(300) - 50;
            row->late =
                row->before != WEIR_WATERMARK_NONE && row->time < row->before - scene->lateness;
            greatest = row->time > greatest ? row->time : greatest;
            scene->watermark[s][i + 1] = greatest - 100;
        }
    }
}

static bool meet(const struct scene *scene, const struct input *left, const struct input *right) {
    int64_t high = scene->by_column ? left->high : left->time + scene->high;
    return !left->late && !right->late && left->key >= 0 && left->key == right->key &&
           right->time >= left->time + scene->low && right->time <= high &&
           (!scene->by_column || left->high != INT64_MIN);
}

static void add(struct results *results, int left, int right) {
    assert_true(results->count < RESULTS_MAX);
    results->list[results->count++] = (uint64_t)left << 32 | (uint32_t)right;
}

/* Its own side has not closed that window. */
static bool in_window(const struct scene *scene, const struct input *row, int64_t start) {
    return row->time >= start && row->time < start + scene->window &&
           (row->before == WEIR_WATERMARK_NONE ||
            start + scene->window + scene->lateness > row->before);
}

static void expect_window(const struct scene *scene, int64_t start, struct results *results) {
    bool right_met[ROWS] = {false};
    for (int l = 0; l < ROWS; l++) {
        const struct input *left = &scene->rows[0][l];
        bool met = false;
        for (int r = 0; r < ROWS && in_window(scene, left, start); r++) {
            const struct input *right = &scene->rows[1][r];
            if (in_window(scene, right, start) && left->key >= 0 && left->key == right->key) {
                right_met[r] = true;
                if (scene->kind < WEIR_JOIN_SEMI || (scene->kind == WEIR_JOIN_SEMI && !met)) {
                    add(results, l + 1, scene->kind == WEIR_JOIN_SEMI ? 0 : r + 1);
                }
                met = true;
            }
        }
        if (in_window(scene, left, start) && !met &&
            (scene->kind == WEIR_JOIN_LEFT || scene->kind == WEIR_JOIN_FULL ||
             scene->kind == WEIR_JOIN_ANTI)) {
            add(results, l + 1, 0);
        }
    }
    for (int r = 0; r < ROWS; r++) {
        if (in_window(scene, &scene->rows[1][r], start) && !right_met[r] &&
            (scene->kind == WEIR_JOIN_RIGHT || scene->kind == WEIR_JOIN_FULL)) {
            add(results, 0, r + 1);
        }
    }
}

static bool is_late(const struct scene *scene, const struct input *row) {
    bool any = false;
    for (int64_t start = row->time / scene->every * scene->every;
         scene->window > 0 && start > row->time - scene->window; start -= scene->every) {
        any |= in_window(scene, row, start);
    }
    return scene->window > 0 ? !any : row->late;
}

static void expect(const struct scene *scene, struct results *results) {
    results->count = 0;
    for (int64_t start = 900000 / scene->every * scene->every; scene->window > 0;) {
        expect_window(scene, start, results);
        start += scene->every;
        if (start > 1100000) {
            return;
        }
    }
    bool right_met[ROWS] = {false};
    for (int l = 0; l < ROWS; l++) {
        bool met = false;
        for (int r = 0; r < ROWS; r++) {
            if (meet(scene, &scene->rows[0][l], &scene->rows[1][r])) {
                right_met[r] = true;
                if (scene->kind < WEIR_JOIN_SEMI || (scene->kind == WEIR_JOIN_SEMI && !met)) {
                    add(results, l + 1, scene->kind == WEIR_JOIN_SEMI ? 0 : r + 1);
                }
                met = true;
            }
        }
        if (!met && !scene->rows[0][l].late &&
            (scene->kind == WEIR_JOIN_LEFT || scene->kind == WEIR_JOIN_FULL ||
             scene->kind == WEIR_JOIN_ANTI)) {
            add(results, l + 1, 0);
        }
    }
    for (int r = 0; r < ROWS; r++) {
        if (!right_met[r] && !scene->rows[1][r].late &&
            (scene->kind == WEIR_JOIN_RIGHT || scene->kind == WEIR_JOIN_FULL)) {
            add(results, 0, r + 1);
        }
    }
}

static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* --- the join ---------------------------------------------------------------------------------
 */

static struct weir_join *make_join(const struct scene *scene) {
    struct weir_join_config config = {
        .declaration = "test.join",
        .sides = {{schema, join_on, join_kept, 2}, {schema, join_on, join_kept, 2}},
        .on_count = 1,
        .kind = scene->kind,
        .low_us = scene->low,
        .high_us = scene->high,
        .high_column = scene->by_column ? 2 : -1,
        .window_us = scene->window,
        .every_us = scene->every,
        .lateness_us = scene->lateness,
        .option = "memory.state",
    };
    struct weir_join *join = weir_join_create(&config, &err);
    assert_non_null(join);
    return join;
}

static struct weir_batch *make_batch(const struct scene *scene, int side, int first, int count,
                                     int64_t *times, int64_t *before) {
    struct weir_batch_builder builder;
    join_begin(&builder, schema, BATCH);
    for (int i = 0; i < count; i++) {
        const struct input *row = &scene->rows[side][first + i];
        join_put(&builder, first + i + 1, row->key);
        int rc = row->high == INT64_MIN ? weir_builder_null(&builder.columns[2])
                                        : weir_builder_int(&builder.columns[2], row->high);
        assert_int_equal(rc, 0);
        weir_batch_builder_finish_row(&builder);
        times[i] = row->time;
        before[i] = row->before;
    }
    return join_end(&builder);
}

/* The id a kept row was made with: what decodes is what was kept. */
static int id_of(struct weir_join *join, int side, const struct weir_row *row) {
    struct weir_batch_builder builder;
    struct weir_column_builder *columns = join_begin_kept(&builder);
    assert_int_equal(weir_join_decode(join, side, row, columns), 0);
    return join_end_kept(&builder);
}

static void feed(const struct scene *scene, struct weir_join *join, int side, int first, int count,
                 struct results *results, int *late) {
    int64_t times[BATCH];
    int64_t before[BATCH];
    int32_t sel[BATCH];
    int32_t late_sel[BATCH];
    int32_t late_count;
    struct weir_batch *batch = make_batch(scene, side, first, count, times, before);
    for (int i = 0; i < count; i++) {
        sel[i] = i;
    }
    assert_int_equal(
        weir_join_feed(join, side, batch, sel, count, times, before, late_sel, &late_count, &err),
        WEIR_OK);
    *late += late_count;
    struct weir_join_pair pairs[17];
    int32_t got;
    while ((got = weir_join_pairs(join, pairs, 17)) > 0) {
        for (int32_t i = 0; i < got; i++) {
            bool leaves;
            assert_int_equal(weir_join_meet(join, &pairs[i], &leaves, &err), WEIR_OK);
            int fed = first + pairs[i].row + 1;
            int other = id_of(join, !side, pairs[i].other);
            int left = side == WEIR_LEFT ? fed : other;
            int right = side == WEIR_LEFT ? other : fed;
            if (scene->window == 0) {
                assert_int_equal(pairs[i].time_us, scene->rows[0][left - 1].time);
            } else {
                assert_in_range(pairs[i].time_us, scene->rows[0][left - 1].time,
                                scene->rows[0][left - 1].time + scene->window - 1);
            }
            if (leaves) {
                add(results, left, scene->kind == WEIR_JOIN_SEMI ? 0 : right);
            }
        }
    }
    weir_batch_unref(batch);
}

static void advance(const struct scene *scene, struct weir_join *join, int side, int64_t watermark,
                    struct results *results) {
    int64_t was = weir_join_watermark(join);
    weir_join_advance(join, side, watermark);
    struct weir_row *rows[5];
    int32_t got;
    int of;
    while ((got = weir_join_alone(join, rows, 5, &of)) > 0) {
        for (int32_t i = 0; i < got; i++) {
            int id = id_of(join, of, rows[i]);
            /* Neither before its bound is closed, nor late for what reads it. */
            assert_true(rows[i]->time_us >= was || was == WEIR_WATERMARK_NONE);
            assert_true(scene->rows[of][id - 1].time <= rows[i]->time_us);
            add(results, of == WEIR_LEFT ? id : 0, of == WEIR_LEFT ? 0 : id);
        }
    }
    assert_false(weir_join_any_alone(join));
    weir_join_expire(join, below(100));
}

/* --- crashes ----------------------------------------------------------------------------------
 */

struct slices {
    struct weir_buffer list[RECORDS_MAX][2];
    int count;
};

struct durable {
    struct slices records;
    struct slices dump;
    struct weir_cell_cursor cursors[2];
    int dump_begin; /* records before the first slice; -1: no dump */
    bool dumped[2];
    bool dump_done;
    int dump_end;
    int fed[2];
    int late;
    size_t results;
    int64_t watermarks[2];
    bool sealed;
};

static struct durable durable;

static void forget_dump(void) {
    for (int i = 0; i < durable.dump.count; i++) {
        weir_buffer_fini(&durable.dump.list[i][0]);
        weir_buffer_fini(&durable.dump.list[i][1]);
    }
    durable.dump.count = 0;
    durable.dump_begin = -1;
    durable.dump_done = durable.dumped[0] = durable.dumped[1] = false;
    memset(durable.cursors, 0, sizeof durable.cursors);
}

static void dump_slice(struct weir_join *join) {
    if (durable.dump_begin < 0) {
        durable.dump_begin = durable.records.count;
    }
    struct weir_buffer *out = durable.dump.list[durable.dump.count++];
    for (int s = 0; s < 2; s++) {
        struct weir_cell *cell = weir_join_cell(join, s);
        weir_buffer_init(&out[s], 1 << 20);
        if (!durable.dumped[s]) {
            assert_int_equal(cell->ops->dump(cell->self, &durable.cursors[s], &out[s],
                                             1 + below(200), &durable.dumped[s], &err),
                             WEIR_OK);
        }
    }
}

/* The open epoch ends; its images are collected while the next goes on, or at once. */
static void seal(struct weir_join *join) {
    for (int s = 0; s < 2; s++) {
        struct weir_cell *cell = weir_join_cell(join, s);
        assert_int_equal(cell->ops->seal(cell->self, &err), WEIR_OK);
        weir_buffer_init(&durable.records.list[durable.records.count][s], 1 << 20);
    }
    durable.sealed = true;
}

static bool collect(struct weir_join *join) {
    bool all = true;
    for (int s = 0; s < 2; s++) {
        struct weir_cell *cell = weir_join_cell(join, s);
        bool done;
        assert_int_equal(cell->ops->collect(cell->self,
                                            &durable.records.list[durable.records.count][s],
                                            1 + below(40), &done, &err),
                         WEIR_OK);
        all &= done;
    }
    return all;
}

static struct weir_join *recover(const struct scene *scene) {
    struct weir_join *join = make_join(scene);
    bool from_dump = durable.dump_done;
    for (int s = 0; s < 2; s++) {
        struct weir_cell *cell = weir_join_cell(join, s);
        for (int i = durable.dump.count; from_dump && i-- > 0;) { /* in any order */
            const struct weir_buffer *slice = &durable.dump.list[i][s];
            assert_int_equal(cell->ops->apply(cell->self, slice->data, slice->size, &err), WEIR_OK);
        }
        for (int i = from_dump ? durable.dump_begin : 0; i < durable.records.count; i++) {
            const struct weir_buffer *slice = &durable.records.list[i][s];
            assert_int_equal(cell->ops->apply(cell->self, slice->data, slice->size, &err), WEIR_OK);
        }
    }
    assert_int_equal(weir_join_restore(join, &err), WEIR_OK);
    weir_join_set_watermarks(join, durable.watermarks[0], durable.watermarks[1]);
    return join;
}

static void check(enum weir_join_kind kind, uint64_t seed) {
    static struct scene scene;
    static struct results got;
    static struct results want;
    random_state = seed;
    memset(&durable, 0, sizeof durable);
    forget_dump();
    durable.watermarks[0] = durable.watermarks[1] = WEIR_WATERMARK_NONE;
    static const int64_t bounds[][2] = {{0, 0}, {-200, 100}, {0, 400}, {-500, -50}, {50, 90}};
    const int64_t *bound = bounds[below(5)];
    scene = (struct scene){.kind = kind,
                           .low = bound[0],
                           .high = bound[1],
                           .by_column = below(3) == 0,
                           .lateness = below(2) == 0 ? 0 : 15,
                           .every = 1};
    if (below(3) == 0) {
        static const int64_t windows[][2] = {{200, 200}, {300, 100}, {250, 100}};
        const int64_t *window = windows[below(3)];
        scene.low = scene.high = 0;
        scene.by_column = false;
        scene.window = window[0];
        scene.every = window[1];
    }
    make_rows(&scene);
    struct weir_join *join = make_join(&scene);
    int fed[2] = {0, 0};
    int late = 0;
    int pending_fed[2] = {0, 0};
    int pending_late = 0;
    size_t pending_results = 0;
    int64_t pending_marks[2] = {WEIR_WATERMARK_NONE, WEIR_WATERMARK_NONE};
    got.count = 0;
    while (fed[0] < ROWS || fed[1] < ROWS) {
        int side = fed[0] == ROWS ? 1 : fed[1] == ROWS ? 0 : (int)below(2);
        int count = 1 + (int)below(BATCH);
        count = count > ROWS - fed[side] ? ROWS - fed[side] : count;
        feed(&scene, join, side, fed[side], count, &got, &late);
        fed[side] += count;
        advance(&scene, join, side, scene.watermark[side][fed[side]], &got);
        if (durable.sealed && collect(join)) { /* the record is written */
            durable.records.count++;
            durable.sealed = false;
            memcpy(durable.fed, pending_fed, sizeof fed);
            memcpy(durable.watermarks, pending_marks, sizeof pending_marks);
            durable.late = pending_late;
            durable.results = pending_results;
            if (durable.dumped[0] && durable.dumped[1] && !durable.dump_done &&
                durable.records.count > durable.dump_end) {
                durable.dump_done = true;
            }
        } else if (!durable.sealed && below(4) == 0) {
            seal(join);
            memcpy(pending_fed, fed, sizeof fed);
            pending_late = late;
            pending_results = got.count;
            pending_marks[0] = weir_join_watermark_of(join, 0);
            pending_marks[1] = weir_join_watermark_of(join, 1);
        }
        if (durable.records.count > 3 && below(2) == 0 &&
            !(durable.dumped[0] && durable.dumped[1])) {
            dump_slice(join);
            durable.dump_end = durable.records.count + 1; /* this epoch's, at the latest */
        }
        if (below(durable.dump_done ? 8 : 60) == 0) { /* a crash */
            weir_join_destroy(join);
            if (durable.sealed) {
                weir_buffer_fini(&durable.records.list[durable.records.count][0]);
                weir_buffer_fini(&durable.records.list[durable.records.count][1]);
                durable.sealed = false;
            }
            if (!durable.dump_done) {
                forget_dump();
            }
            join = recover(&scene);
            memcpy(fed, durable.fed, sizeof fed);
            late = durable.late;
            got.count = durable.results;
        }
    }
    advance(&scene, join, 0, WEIR_WATERMARK_END, &got);
    advance(&scene, join, 1, WEIR_WATERMARK_END, &got);
    assert_int_equal(weir_join_watermark(join), WEIR_WATERMARK_END);
    weir_join_expire(join, SIZE_MAX);
    weir_join_expire(join, SIZE_MAX);
    if (!durable.sealed) {
        assert_int_equal(weir_join_rows(join, 0) + weir_join_rows(join, 1), 0);
    }
    expect(&scene, &want);
    int late_wanted = 0;
    for (int i = 0; i < ROWS; i++) {
        late_wanted += is_late(&scene, &scene.rows[0][i]) + is_late(&scene, &scene.rows[1][i]);
    }
    assert_int_equal(late, late_wanted);
    qsort(got.list, got.count, sizeof got.list[0], compare);
    qsort(want.list, want.count, sizeof want.list[0], compare);
    assert_int_equal(got.count, want.count);
    assert_memory_equal(got.list, want.list, got.count * sizeof got.list[0]);
    weir_join_destroy(join);
    for (int i = 0; i < durable.records.count + durable.sealed; i++) {
        weir_buffer_fini(&durable.records.list[i][0]);
        weir_buffer_fini(&durable.records.list[i][1]);
    }
    forget_dump();
}

#define KIND(name, kind)                                                                           \
    static void name(void **state) {                                                               \
        (void)state;                                                                               \
        for (uint64_t seed = 1; seed <= seeds_of(60); seed++) {                                    \
            check(kind, seed * 7919);                                                              \
        }                                                                                          \
    }
KIND(inner_joins_are_what_pairing_everything_gives, WEIR_JOIN_INNER)
KIND(left_joins_are_what_pairing_everything_gives, WEIR_JOIN_LEFT)
KIND(right_joins_are_what_pairing_everything_gives, WEIR_JOIN_RIGHT)
KIND(full_joins_are_what_pairing_everything_gives, WEIR_JOIN_FULL)
KIND(semi_joins_are_what_pairing_everything_gives, WEIR_JOIN_SEMI)
KIND(anti_joins_are_what_pairing_everything_gives, WEIR_JOIN_ANTI)

static void a_full_join_says_what_to_raise(void **state) {
    (void)state;
    static const int32_t on[] = {1};
    static const int32_t kept[] = {0, 1};
    struct weir_join_config config = {
        .declaration = "silver.paid",
        .sides = {{schema, on, kept, 2}, {schema, on, kept, 2}},
        .on_count = 1,
        .high_us = 1000,
        .high_column = -1,
        .max_bytes = 20000,
        .option = "memory.state",
    };
    struct weir_join *join = weir_join_create(&config, &err);
    struct scene scene = {.kind = WEIR_JOIN_INNER, .high = 1000};
    random_state = 3;
    make_rows(&scene);
    int64_t times[BATCH];
    int64_t before[BATCH];
    int32_t sel[BATCH];
    int32_t late_sel[BATCH];
    int32_t late;
    int rc = WEIR_OK;
    for (int i = 0; i < BATCH; i++) {
        sel[i] = i;
    }
    for (int first = 0; rc == WEIR_OK && first + BATCH <= ROWS; first += BATCH) {
        struct weir_batch *batch = make_batch(&scene, WEIR_LEFT, first, BATCH, times, before);
        rc = weir_join_feed(join, WEIR_LEFT, batch, sel, BATCH, times, before, late_sel, &late,
                            &err);
        weir_batch_unref(batch);
    }
    assert_int_equal(rc, WEIR_E_LIMIT);
    assert_non_null(strstr(err.message, "silver.paid: its state is full"));
    assert_non_null(strstr(err.message, "Raise memory.state"));
    weir_join_destroy(join);
}

static void damaged_images_are_refused(void **state) {
    (void)state;
    static struct scene scene;
    static struct results results;
    int late = 0;
    random_state = 11;
    scene = (struct scene){.kind = WEIR_JOIN_LEFT, .high = 500};
    make_rows(&scene);
    struct weir_join *join = make_join(&scene);
    feed(&scene, join, WEIR_LEFT, 0, BATCH, &results, &late);
    struct weir_cell *cell = weir_join_cell(join, WEIR_LEFT);
    struct weir_buffer image;
    weir_buffer_init(&image, 1 << 20);
    bool done;
    assert_int_equal(cell->ops->seal(cell->self, &err), WEIR_OK);
    assert_int_equal(cell->ops->collect(cell->self, &image, 1000, &done, &err), WEIR_OK);
    assert_true(done);
    struct weir_join *other = make_join(&scene);
    struct weir_cell *to = weir_join_cell(other, WEIR_LEFT);
    for (size_t length = 1; length < image.size; length += 1 + below(5)) { /* cut short */
        int rc = to->ops->apply(to->self, image.data, length, &err);
        assert_true(rc == WEIR_OK || rc == WEIR_E_CORRUPT);
    }
    scene.high = 600;
    struct weir_join *changed = make_join(&scene);
    to = weir_join_cell(changed, WEIR_LEFT);
    assert_int_equal(to->ops->apply(to->self, image.data, image.size, &err), WEIR_E_VERSION);
    weir_buffer_fini(&image);
    weir_join_destroy(join);
    weir_join_destroy(other);
    weir_join_destroy(changed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(inner_joins_are_what_pairing_everything_gives),
        cmocka_unit_test(left_joins_are_what_pairing_everything_gives),
        cmocka_unit_test(right_joins_are_what_pairing_everything_gives),
        cmocka_unit_test(full_joins_are_what_pairing_everything_gives),
        cmocka_unit_test(semi_joins_are_what_pairing_everything_gives),
        cmocka_unit_test(anti_joins_are_what_pairing_everything_gives),
        cmocka_unit_test(a_full_join_says_what_to_raise),
        cmocka_unit_test(damaged_images_are_refused),
    };
    int rc = join_begin_schema();
    rc |= weir_schema_add_text(schema, "until", "timestamp", true, &err);
    return rc != WEIR_OK ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
