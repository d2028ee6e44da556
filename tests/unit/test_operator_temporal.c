/* The temporal join against asking every version there ever was, row by row: with batches, seals
 * and crashes at random. */
#include "batch/change.h"
#include "join_rows.h"
#include "operator/join/temporal.h"
#include "operator/watermark.h"
#include "operator/window.h"
#include "random.h"

enum { ROWS = 500, KEYS = 8, BATCH = 40, RUNS_MAX = 2 * ROWS, RECORDS_MAX = 400 };

struct input {
    int key; /* -1: null */
    int64_t time;
    int64_t asked; /* INT64_MIN: null */
    int64_t before;
    int change;
};

struct scene {
    bool by_column;
    int64_t wait;
    int64_t lateness;
    int disorder; /* of versions: 100 is allowed */
    struct input rows[2][ROWS];
    int64_t watermark[2][ROWS + 1];
    int run[RUNS_MAX]; /* rows in turn, of either side: which come when, however they are cut */
    int runs;
};

struct outcome { /* by left row: -2 not yet, -1 late, 0 none, id of its version */
    int met[ROWS];
    int64_t late_versions;
};

/* --- what it must be -------------------------------------------------------------------------- */

struct held {
    int64_t time;
    int id; /* 0: it ended */
    int key;
};

struct model {
    const struct scene *scene;
    struct held held[ROWS];
    int count;
    int64_t watermarks[2];
    struct outcome out;
    bool waits[ROWS];
};

static int64_t asked_of(const struct scene *scene, const struct input *row) {
    return scene->by_column ? row->asked : row->time;
}

static const struct held *newest(const struct model *m, int key, int64_t time) {
    const struct held *best = NULL;
    for (int i = 0; i < m->count; i++) {
        const struct held *held = &m->held[i];
        if (held->key == key && held->time <= time && (best == NULL || held->time >= best->time)) {
            best = held;
        }
    }
    return best;
}

static int64_t open_from(const struct model *m, int64_t left, int64_t right) {
    int64_t waited = WEIR_WATERMARK_NONE;
    if (m->scene->wait >= 0 && left != WEIR_WATERMARK_NONE) {
        waited = left == WEIR_WATERMARK_END ? left : left - m->scene->wait;
    }
    return right > waited ? right : waited;
}

static void settle(struct model *m, int row) {
    const struct input *left = &m->scene->rows[0][row];
    const struct held *held = newest(m, left->key, asked_of(m->scene, left));
    m->out.met[row] = held != NULL ? held->id : 0;
    m->waits[row] = false;
}

static void flush(struct model *m, int64_t open) {
    for (int i = 0; i < ROWS; i++) {
        if (m->waits[i] && asked_of(m->scene, &m->scene->rows[0][i]) < open) {
            settle(m, i);
        }
    }
}

static void model_left(struct model *m, int i) {
    const struct input *row = &m->scene->rows[0][i];
    int64_t asked = asked_of(m->scene, row);
    int64_t open = open_from(m, row->before, m->watermarks[1]);
    if (row->key < 0 || asked == INT64_MIN) {
        m->out.met[i] = 0;
    } else if (row->before != WEIR_WATERMARK_NONE && asked < row->before - m->scene->lateness) {
        m->out.met[i] = -1;
    } else if (asked < open) {
        settle(m, i);
    } else {
        m->waits[i] = true;
    }
}

static void model_right(struct model *m, int i) {
    const struct input *row = &m->scene->rows[1][i];
    int64_t time = row->time;
    const struct held *last = newest(m, row->key, INT64_MAX);
    if (row->key < 0 || row->change == WEIR_CHANGE_BEFORE ||
        (row->change == WEIR_CHANGE_DELETE && last == NULL)) {
        return;
    }
    if (row->change == WEIR_CHANGE_DELETE && (time == 0 || time == last->time)) {
        time = row->before > last->time ? row->before : last->time;
    }
    int64_t open = open_from(m, m->watermarks[0], row->before);
    if (open != WEIR_WATERMARK_NONE && time < open) {
        flush(m, open);
        m->out.late_versions++;
    }
    m->held[m->count++] =
        (struct held){time, row->change == WEIR_CHANGE_DELETE ? 0 : i + 1, row->key};
}

static void expect(const struct scene *scene, struct model *m) {
    int fed[2] = {0, 0};
    *m = (struct model){.scene = scene, .watermarks = {WEIR_WATERMARK_NONE, WEIR_WATERMARK_NONE}};
    for (int r = 0; r < scene->runs; r++) {
        for (int n = 0; n < scene->run[r]; n++) {
            int side = r & 1;
            (side == 0 ? model_left : model_right)(m, fed[side]++);
            int64_t now = scene->watermark[side][fed[side]];
            m->watermarks[side] = now > m->watermarks[side] ? now : m->watermarks[side];
            flush(m, open_from(m, m->watermarks[0], m->watermarks[1]));
        }
    }
    flush(m, WEIR_WATERMARK_END);
}

static void make_rows(struct scene *scene) {
    for (int s = 0; s < 2; s++) {
        int64_t clock = 1000000;
        int64_t greatest = INT64_MIN;
        scene->watermark[s][0] = WEIR_WATERMARK_NONE;
        for (int i = 0; i < ROWS; i++) {
            struct input *row = &scene->rows[s][i];
            clock += (int64_t)below(30);
            row->key = below(10) == 0 ? -1 : (int)below(KEYS);
            row->time = clock - (int64_t)below(s == 0 ? 160 : (uint64_t)scene->disorder);
            row->asked = below(12) == 0 ? INT64_MIN : row->time - (int64_t)below(300) + 40;
            row->before = scene->watermark[s][i];
            row->change = s == 0 || below(4) != 0 ? WEIR_CHANGE_INSERT : 1 + (int)below(3);
            if (s == 1 && row->change == WEIR_CHANGE_DELETE && i > 0 && below(2) == 0) {
                row->time = 0; /* it knows its key alone */
            }
            greatest = row->time > greatest ? row->time : greatest;
            scene->watermark[s][i + 1] = greatest - 100;
        }
    }
    int left[2] = {ROWS, ROWS};
    scene->runs = 0;
    while (left[0] > 0 || left[1] > 0) {
        int side = scene->runs & 1;
        int count = (int)below(60);
        count = count > left[side] ? left[side] : count;
        scene->run[scene->runs++] = count;
        left[side] -= count;
    }
}

/* --- the join --------------------------------------------------------------------------------- */

static struct weir_temporal *make_join(const struct scene *scene) {
    struct weir_temporal_config config = {
        .declaration = "test.join",
        .sides = {{schema, join_on, join_kept, 2}, {schema, join_on, join_kept, 2}},
        .on_count = 1,
        .as_of = scene->by_column ? 2 : -1,
        .change = 3,
        .unavailable = -1,
        .wait_us = scene->wait,
        .lateness_us = scene->lateness,
        .option = "memory.state",
    };
    struct weir_temporal *join = weir_temporal_create(&config, &err);
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
        int rc = row->asked == INT64_MIN ? weir_builder_null(&builder.columns[2])
                                         : weir_builder_int(&builder.columns[2], row->asked);
        rc |= weir_builder_int(&builder.columns[3], row->change);
        assert_int_equal(rc, 0);
        weir_batch_builder_finish_row(&builder);
        times[i] = row->time;
        before[i] = row->before;
    }
    return join_end(&builder);
}

/* The id that what is kept was made with. */
static int id_of(struct weir_temporal *join, const struct weir_row *row,
                 const struct weir_link *version) {
    struct weir_batch_builder builder;
    struct weir_column_builder *columns = join_begin_kept(&builder);
    assert_int_equal(row != NULL ? weir_temporal_decode(join, row, columns)
                                 : weir_temporal_decode_version(join, version, columns),
                     0);
    return join_end_kept(&builder);
}

static void note(struct weir_temporal *join, struct outcome *out, int left,
                 const struct weir_link *version) {
    assert_int_equal(out->met[left - 1], -2);
    out->met[left - 1] = version != NULL ? id_of(join, NULL, version) : 0;
}

static void take_due(struct weir_temporal *join, struct outcome *out) {
    struct weir_row *rows[5];
    const struct weir_link *versions[5];
    int32_t count;
    while ((count = weir_temporal_due(join, rows, versions, 5)) > 0) {
        for (int32_t i = 0; i < count; i++) {
            note(join, out, id_of(join, rows[i], NULL), versions[i]);
        }
    }
    assert_false(weir_temporal_any_due(join));
}

static void feed(const struct scene *scene, struct weir_temporal *join, int side, int first,
                 int count, struct outcome *out) {
    int64_t times[BATCH];
    int64_t before[BATCH];
    int32_t sel[BATCH];
    struct weir_batch *batch = make_batch(scene, side, first, count, times, before);
    for (int i = 0; i < count; i++) {
        sel[i] = i;
    }
    if (side == WEIR_LEFT) {
        struct weir_temporal_pair pairs[BATCH];
        int32_t late_sel[BATCH];
        int32_t met;
        int32_t late;
        assert_int_equal(weir_temporal_left(join, batch, sel, count, times, before, pairs, &met,
                                            late_sel, &late, &err),
                         WEIR_OK);
        for (int32_t i = 0; i < met; i++) {
            note(join, out, first + pairs[i].row + 1, pairs[i].version);
        }
        for (int32_t i = 0; i < late; i++) {
            out->met[first + late_sel[i]] = -1;
        }
    } else {
        for (int32_t from = 0; from < count;) {
            assert_int_equal(weir_temporal_right(join, batch, sel, count, times, before, &from,
                                                 &out->late_versions, &err),
                             WEIR_OK);
            if (from < count) {
                assert_true(weir_temporal_any_due(join));
                take_due(join, out);
            }
        }
    }
    weir_batch_unref(batch);
}

/* --- crashes ---------------------------------------------------------------------------------- */

struct durable {
    struct weir_buffer records[RECORDS_MAX][2];
    int count;
    int from; /* a dump stands in front of this record */
    struct weir_buffer dump[2];
    int run;
    int at;
    int fed[2];
    int64_t watermarks[2];
    struct outcome out;
};

static struct durable durable;

static void seal(struct weir_temporal *join) {
    for (int s = 0; s < 2; s++) {
        struct weir_cell *cell = weir_temporal_cell(join, s);
        struct weir_buffer *out = &durable.records[durable.count][s];
        bool done = false;
        weir_buffer_init(out, 1 << 20);
        assert_int_equal(cell->ops->seal(cell->self, &err), WEIR_OK);
        while (!done) {
            assert_int_equal(cell->ops->collect(cell->self, out, 1 + below(40), &done, &err),
                             WEIR_OK);
        }
    }
    durable.count++;
    if (below(20) == 0) {
        for (int s = 0; s < 2; s++) {
            struct weir_cell *cell = weir_temporal_cell(join, s);
            struct weir_cell_cursor cursor = {0};
            bool done = false;
            weir_buffer_fini(&durable.dump[s]);
            weir_buffer_init(&durable.dump[s], 1 << 20);
            while (!done) {
                assert_int_equal(cell->ops->dump(cell->self, &cursor, &durable.dump[s],
                                                 1 + below(100), &done, &err),
                                 WEIR_OK);
            }
        }
        durable.from = durable.count;
    }
}

static struct weir_temporal *recover(const struct scene *scene) {
    struct weir_temporal *join = make_join(scene);
    for (int s = 0; s < 2; s++) {
        struct weir_cell *cell = weir_temporal_cell(join, s);
        const struct weir_buffer *dump = &durable.dump[s];
        assert_int_equal(cell->ops->apply(cell->self, dump->data, dump->size, &err), WEIR_OK);
        for (int i = durable.from; i < durable.count; i++) {
            const struct weir_buffer *record = &durable.records[i][s];
            assert_int_equal(cell->ops->apply(cell->self, record->data, record->size, &err),
                             WEIR_OK);
        }
    }
    assert_int_equal(weir_temporal_restore(join, &err), WEIR_OK);
    weir_temporal_set_watermarks(join, durable.watermarks[0], durable.watermarks[1]);
    return join;
}

static void check(uint64_t seed) {
    static struct scene scene;
    static struct model want;
    struct outcome got = {.late_versions = 0};
    int fed[2] = {0, 0};
    random_state = seed;
    static const int64_t waits[] = {-1, -1, 0, 50, 400};
    memset(&scene, 0, sizeof scene);
    scene.by_column = below(2) == 0;
    scene.wait = waits[below(5)];
    scene.lateness = below(2) == 0 ? 0 : 120;
    scene.disorder = below(2) == 0 ? 100 : 200;
    make_rows(&scene);
    expect(&scene, &want);
    struct weir_temporal *join = make_join(&scene);
    memset(&durable, 0, sizeof durable);
    durable.watermarks[0] = durable.watermarks[1] = WEIR_WATERMARK_NONE;
    for (int i = 0; i < ROWS; i++) {
        got.met[i] = -2;
    }
    durable.out = got;
    int64_t watermarks[2] = {WEIR_WATERMARK_NONE, WEIR_WATERMARK_NONE};
    for (int r = 0, at = 0; r < scene.runs;) {
        int side = r & 1;
        int count = 1 + (int)below(BATCH);
        count = count > scene.run[r] - at ? scene.run[r] - at : count;
        if (count > 0) {
            feed(&scene, join, side, fed[side], count, &got);
            fed[side] += count;
            watermarks[side] = scene.watermark[side][fed[side]] > watermarks[side]
                                   ? scene.watermark[side][fed[side]]
                                   : watermarks[side];
            weir_temporal_advance(join, side, watermarks[side]);
            take_due(join, &got);
            assert_int_equal(weir_temporal_expire(join, below(60), &err), WEIR_OK);
        }
        at += count;
        if (at == scene.run[r]) {
            at = 0;
            r++;
        }
        if (below(4) == 0 && durable.count < RECORDS_MAX) {
            seal(join);
            durable.run = r;
            durable.at = at;
            memcpy(durable.fed, fed, sizeof fed);
            memcpy(durable.watermarks, watermarks, sizeof watermarks);
            durable.out = got;
        } else if (below(40) == 0) {
            weir_temporal_destroy(join);
            join = recover(&scene);
            r = durable.run;
            at = durable.at;
            memcpy(fed, durable.fed, sizeof fed);
            memcpy(watermarks, durable.watermarks, sizeof watermarks);
            got = durable.out;
        }
    }
    weir_temporal_advance(join, 0, WEIR_WATERMARK_END);
    weir_temporal_advance(join, 1, WEIR_WATERMARK_END);
    take_due(join, &got);
    assert_int_equal(weir_temporal_watermark(join), WEIR_WATERMARK_END);
    for (int i = 0; i < ROWS; i++) {
        if (got.met[i] != want.out.met[i]) {
            fail_msg("seed %lu: left row %d met %d, not %d", (unsigned long)seed, i + 1, got.met[i],
                     want.out.met[i]);
        }
    }
    assert_int_equal(got.late_versions, want.out.late_versions);
    weir_temporal_destroy(join);
    for (int i = 0; i < durable.count; i++) {
        weir_buffer_fini(&durable.records[i][0]);
        weir_buffer_fini(&durable.records[i][1]);
    }
    weir_buffer_fini(&durable.dump[0]);
    weir_buffer_fini(&durable.dump[1]);
}

static void rows_meet_the_versions_asking_all_of_them_finds(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        check(seed * 7919);
    }
}

static void versions_nobody_needs_are_given_back(void **state) {
    (void)state;
    static struct scene scene;
    struct outcome out;
    random_state = 5;
    memset(&scene, 0, sizeof scene);
    scene.wait = -1;
    scene.disorder = 100;
    make_rows(&scene);
    struct weir_temporal *join = make_join(&scene);
    for (int first = 0; first + BATCH <= ROWS; first += BATCH) {
        feed(&scene, join, WEIR_RIGHT, first, BATCH, &out);
        weir_temporal_advance(join, 0, scene.watermark[1][first + BATCH]);
        weir_temporal_advance(join, 1, scene.watermark[1][first + BATCH]);
        assert_int_equal(weir_temporal_expire(join, 100, &err), WEIR_OK);
        assert_true(weir_temporal_rows(join, WEIR_RIGHT) < 120);
    }
    weir_temporal_advance(join, 0, INT64_MAX - 1);
    weir_temporal_advance(join, 1, INT64_MAX - 1);
    assert_int_equal(weir_temporal_expire(join, 1 << 20, &err), WEIR_OK);
    assert_in_range(weir_temporal_rows(join, WEIR_RIGHT), 1, KEYS);
    weir_temporal_destroy(join);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_meet_the_versions_asking_all_of_them_finds),
        cmocka_unit_test(versions_nobody_needs_are_given_back),
    };
    int rc = join_begin_schema();
    rc |= weir_schema_add_text(schema, "asked", "timestamp", true, &err);
    rc |= weir_schema_add_text(schema, "_change", "int8", true, &err);
    return rc != WEIR_OK ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
