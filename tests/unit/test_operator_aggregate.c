/* Windowed aggregation against a naive model that keeps every row: random batch sizes, selections,
 * chunks of firing, epochs, slices of collection, snapshots and crashes must all come out the same,
 * in the same order, double sums bit by bit. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <xxhash.h>

#include "lake/delta/table.h"
#include "operator/aggregate.h"
#include "operator/watermark.h"

typedef __int128 int128;

enum {
    ROWS = 2500,
    GROUPS = ROWS * 5,
    CELLS = 4,
    SIZE = 100,
    LATENESS = 30,
    MEASURES = 12,
    EPOCHS = 400
};
enum { K, F, I, D, X, S, COLUMNS };

static uint64_t random_state;

/* The kind of window under test; every 0: tumbling. */
static int64_t every;
static bool cumulate;
static int64_t gap; /* sessions */

static uint64_t below(uint64_t n) {
    random_state += UINT64_C(0x9E3779B97F4A7C15);
    uint64_t z = random_state;
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return (z ^ (z >> 31)) % n;
}

struct row {
    bool null[COLUMNS];
    const char *k;
    double f;
    int64_t i;
    int128 d;
    double x;
    const char *s;
    int64_t time;
    int64_t watermark;
    uint8_t mask;
    bool selected;
};

static const char *const words[] = {
    "", "a", "apple", "b", "Zoe", "\xc3\xa9t\xc3\xa9", "zz", "a much longer text than fits"};

static void make_rows(struct row *rows, uint64_t keys) {
    int64_t max = INT64_MIN;
    int64_t clock = -450;
    for (int n = 0; n < ROWS; n++) {
        struct row *row = &rows[n];
        clock += (int64_t)below(3);
        row->time = clock - (int64_t)below(below(6) == 0 ? 400 : 40);
        if (below(8) == 0) {
            row->time -= row->time % SIZE; /* exact bounds */
        }
        row->watermark = max == INT64_MIN ? INT64_MIN : max - 25;
        max = row->time > max ? row->time : max;
        row->k = words[below(keys)];
        static const double floats[] = {0.0, -0.0, 1.5, NAN, -NAN, INFINITY};
        row->f = floats[below(6)];
        row->i = (int64_t)below(1000) - 500;
        row->d = (int128)below(100000) - 50000;
        row->x = (double)below(1000) / 7.0 * (below(2) ? 1e-9 : 1e9);
        row->x = below(40) == 0 ? NAN : row->x;
        row->s = words[below(8)];
        row->mask = (uint8_t)below(2);
        row->selected = below(10) != 0;
        for (int c = 0; c < COLUMNS; c++) {
            row->null[c] = below(c < I ? 12 : 4) == 0;
        }
    }
}

/* --- the model ----------------------------------------------------------------------------- */

struct group {
    int64_t start;
    int64_t end;
    int first; /* row that created it */
    bool gone; /* joined to another */
    int *rows;
    int count;
};

static bool same_double_key(double a, double b) {
    return (isnan(a) && isnan(b)) || a == b;
}

static bool same_key(const struct row *first, const struct row *row) {
    if (first->null[K] != row->null[K] || first->null[F] != row->null[F]) {
        return false;
    }
    return (row->null[K] || strcmp(first->k, row->k) == 0) &&
           (row->null[F] || same_double_key(first->f, row->f));
}

static bool same_group(const struct row *rows, const struct group *group, const struct row *row,
                       int64_t start, int64_t end) {
    return group->start == start && group->end == end && same_key(&rows[group->first], row);
}

static int64_t floor_to(int64_t time, int64_t step) {
    int64_t start = time / step * step;
    return start > time ? start - step : start;
}

/* The windows a time lies in. */
static int windows_of(int64_t time, int64_t *starts, int64_t *ends) {
    int count = 0;
    if (every == 0) {
        starts[0] = floor_to(time, SIZE);
        ends[0] = starts[0] + SIZE;
        return 1;
    }
    if (cumulate) {
        int64_t start = floor_to(time, SIZE);
        for (int64_t end = floor_to(time, every) + every; end <= start + SIZE; end += every) {
            starts[count] = start;
            ends[count++] = end;
        }
        return count;
    }
    for (int64_t start = floor_to(time, every); start > time - SIZE; start -= every) {
        starts[count] = start;
        ends[count++] = start + SIZE;
    }
    return count;
}

static void add_row(const struct row *rows, struct group *groups, int *count, int n, int64_t start,
                    int64_t end) {
    int g = 0;
    while (g < *count && !same_group(rows, &groups[g], &rows[n], start, end)) {
        g++;
    }
    if (g == *count) {
        groups[(*count)++] = (struct group){
            .start = start, .end = end, .first = n, .rows = calloc(ROWS, sizeof(int))};
    }
    groups[g].rows[groups[g].count++] = n;
}

/* Sessions by their definition: a row and all open ones it touches are one. */
static int model_sessions(const struct row *rows, struct group *groups, bool *late) {
    int count = 0;
    for (int n = 0; n < ROWS; n++) {
        int64_t time = rows[n].time;
        struct group *into = NULL;
        if (!rows[n].selected) {
            continue;
        }
        for (int g = 0; g < count; g++) {
            struct group *group = &groups[g];
            if (group->gone || !same_key(&rows[group->first], &rows[n]) ||
                group->end + LATENESS <= rows[n].watermark || time + gap < group->start ||
                time > group->end) {
                continue;
            }
            if (into == NULL) {
                into = group;
                continue;
            }
            into->start = group->start < into->start ? group->start : into->start;
            into->end = group->end > into->end ? group->end : into->end;
            memcpy(into->rows + into->count, group->rows, (size_t)group->count * sizeof(int));
            into->count += group->count;
            group->gone = true;
        }
        if (into == NULL && time + gap + LATENESS <= rows[n].watermark) {
            late[n] = true;
            continue;
        }
        if (into == NULL) {
            into = &groups[count++];
            *into = (struct group){
                .start = time, .end = time + gap, .first = n, .rows = calloc(ROWS, sizeof(int))};
        }
        into->start = time < into->start ? time : into->start;
        into->end = time + gap > into->end ? time + gap : into->end;
        into->rows[into->count++] = n;
    }
    int kept = 0;
    for (int g = 0; g < count; g++) {
        if (groups[g].gone) {
            free(groups[g].rows);
        } else {
            groups[kept++] = groups[g];
        }
    }
    return kept;
}

/* A row late for one of its windows goes to late, and counts in the others. */
static int model_groups(const struct row *rows, struct group *groups, bool *late) {
    int count = 0;
    if (gap != 0) {
        return model_sessions(rows, groups, late);
    }
    for (int n = 0; n < ROWS; n++) {
        int64_t starts[64];
        int64_t ends[64];
        int windows = windows_of(rows[n].time, starts, ends);
        for (int w = 0; w < windows; w++) {
            bool closed = ends[w] + LATENESS <= rows[n].watermark;
            late[n] |= closed;
            if (rows[n].selected && !closed) {
                add_row(rows, groups, &count, n, starts[w], ends[w]);
            }
        }
    }
    return count;
}

static int compare_groups(const void *a, const void *b) {
    const struct group *x = a;
    const struct group *y = b;
    if (x->start != y->start) {
        return x->start < y->start ? -1 : 1;
    }
    return (x->first > y->first) - (x->first < y->first);
}

/* --- the operator -------------------------------------------------------------------------- */

static struct weir_pool *pool;

static struct weir_schema *input_schema(void) {
    struct weir_schema *schema = weir_schema_create();
    static const char *const fields[][2] = {{"k", "string"}, {"f", "double"},
                                            {"i", "int64"},  {"d", "decimal(12,2)"},
                                            {"x", "double"}, {"s", "string"}};
    for (int c = 0; c < COLUMNS; c++) {
        assert_int_equal(weir_schema_add_text(schema, fields[c][0], fields[c][1], true, NULL),
                         WEIR_OK);
    }
    return schema;
}

static const struct {
    enum weir_measure_kind kind;
    int column;
    bool masked;
} plan[MEASURES] = {
    {WEIR_MEASURE_COUNT, -1, false},   {WEIR_MEASURE_COUNT, I, true},
    {WEIR_MEASURE_SUM, I, false},      {WEIR_MEASURE_SUM, D, true},
    {WEIR_MEASURE_SUM, X, false},      {WEIR_MEASURE_AVG, I, false},
    {WEIR_MEASURE_AVG, D, false},      {WEIR_MEASURE_MIN, S, false},
    {WEIR_MEASURE_MAX, S, true},       {WEIR_MEASURE_MAX, X, false},
    {WEIR_MEASURE_DISTINCT, S, false}, {WEIR_MEASURE_DISTINCT, I, true},
};

static struct weir_aggregate *make_aggregate(struct weir_schema *schema) {
    struct weir_error err = {0};
    struct weir_measure measures[MEASURES];
    static const char *const names[MEASURES] = {"m0", "m1", "m2", "m3", "m4",  "m5",
                                                "m6", "m7", "m8", "m9", "m10", "m11"};
    for (int m = 0; m < MEASURES; m++) {
        int c = plan[m].column;
        measures[m] =
            (struct weir_measure){.name = names[m], .kind = plan[m].kind, .has_input = c >= 0};
        if (c >= 0) {
            measures[m].type = schema->fields[c].type;
            measures[m].precision = schema->fields[c].precision;
            measures[m].scale = schema->fields[c].scale;
        }
    }
    int32_t by[] = {K, F};
    struct weir_aggregate_config config = {
        .declaration = "gold.test",
        .input = schema,
        .by = by,
        .by_count = 2,
        .size_us = gap == 0 ? SIZE : 0,
        .gap_us = gap,
        .every_us = every,
        .cumulate = cumulate,
        .lateness_us = LATENESS,
        .measures = measures,
        .measure_count = MEASURES,
        .option = "memory.state",
        .work = 1 + (int32_t)below(50), /* windows are made in many slices */
    };
    struct weir_aggregate *aggregate = weir_aggregate_create(&config, &err);
    if (aggregate == NULL) {
        fail_msg("%s", err.message);
    }
    return aggregate;
}

static int append_bytes(struct weir_column_builder *column, bool null, const char *text) {
    return null ? weir_builder_null(column) : weir_builder_bytes(column, text, strlen(text));
}

static struct weir_batch *make_batch(struct weir_schema *schema, const struct row *rows,
                                     int count) {
    struct weir_batch_builder builder;
    assert_int_equal(weir_batch_builder_init(&builder, pool, schema, 4096, 1 << 20, NULL), WEIR_OK);
    assert_int_equal(weir_batch_builder_begin(&builder), WEIR_OK);
    for (int n = 0; n < count; n++) {
        const struct row *row = &rows[n];
        struct weir_column_builder *c = builder.columns;
        int rc = append_bytes(&c[K], row->null[K], row->k);
        rc |= row->null[F] ? weir_builder_null(&c[F]) : weir_builder_double(&c[F], row->f);
        rc |= row->null[I] ? weir_builder_null(&c[I]) : weir_builder_int(&c[I], row->i);
        rc |= row->null[D] ? weir_builder_null(&c[D])
                           : weir_builder_decimal(&c[D], (uint64_t)row->d, (int64_t)(row->d >> 64));
        rc |= row->null[X] ? weir_builder_null(&c[X]) : weir_builder_double(&c[X], row->x);
        rc |= append_bytes(&c[S], row->null[S], row->s);
        assert_int_equal(rc, WEIR_OK);
        weir_batch_builder_finish_row(&builder);
    }
    struct weir_batch *batch = weir_batch_builder_take(&builder);
    weir_batch_builder_fini(&builder);
    assert_non_null(batch);
    return batch;
}

/* --- comparing ----------------------------------------------------------------------------- */

static bool counts(const struct row *row, int m) {
    int c = plan[m].column;
    return (!plan[m].masked || row->mask == 1) && (c < 0 || !row->null[c]);
}

static int128 decimal_at(const struct weir_column *column, int64_t at) {
    int128 value;
    memcpy(&value, (const uint8_t *)column->values + at * 16, sizeof value);
    return value;
}

static int128 half_even(int128 numerator, int128 denominator) {
    bool negative = numerator < 0;
    numerator = negative ? -numerator : numerator;
    int128 quotient = numerator / denominator;
    int128 twice = numerator % denominator * 2;
    if (twice > denominator || (twice == denominator && quotient % 2 == 1)) {
        quotient++;
    }
    return negative ? -quotient : quotient;
}

static void check_text(const struct weir_column *column, int64_t at, const char *best) {
    assert_int_equal(weir_column_is_null(column, at), best == NULL);
    if (best != NULL) {
        int32_t length;
        const char *bytes = weir_column_bytes(column, at, &length);
        assert_int_equal(length, (int)strlen(best));
        assert_memory_equal(bytes, best, (size_t)length);
    }
}

static void check_measure(const struct row *rows, const struct group *group, int m,
                          const struct weir_column *column, int64_t at) {
    int64_t n = 0;
    int128 sum = 0;
    double x = 0;
    double magnitude = 0;
    const char *text = NULL;
    double best = 0;
    int distinct = 0;
    for (int r = 0; r < group->count; r++) {
        const struct row *row = &rows[group->rows[r]];
        if (!counts(row, m)) {
            continue;
        }
        sum += plan[m].column == I ? row->i : row->d;
        x += row->x;
        magnitude += fabs(row->x);
        if (n == 0 || (!isnan(best) && (isnan(row->x) || row->x > best))) {
            best = row->x;
        }
        int order = text != NULL ? strcmp(row->s, text) : 1;
        if (text == NULL || (plan[m].kind == WEIR_MEASURE_MIN ? order < 0 : order > 0)) {
            text = row->s;
        }
        bool seen = false;
        for (int q = 0; q < r && !seen; q++) {
            const struct row *other = &rows[group->rows[q]];
            seen = counts(other, m) &&
                   (plan[m].column == S ? strcmp(other->s, row->s) == 0 : other->i == row->i);
        }
        distinct += !seen;
        n++;
    }
    bool null = weir_column_is_null(column, at);
    switch (plan[m].kind) {
    case WEIR_MEASURE_COUNT:
        assert_int_equal(((const int64_t *)column->values)[at], n);
        return;
    case WEIR_MEASURE_DISTINCT:
        assert_int_equal(((const int64_t *)column->values)[at], distinct);
        return;
    case WEIR_MEASURE_MIN:
    case WEIR_MEASURE_MAX:
        if (plan[m].column == S) {
            check_text(column, at, text);
            return;
        }
        break;
    default:
        break;
    }
    assert_int_equal(null, n == 0);
    if (n == 0) {
        return;
    }
    double got = ((const double *)column->values)[at];
    if (plan[m].column == X) {
        double want = plan[m].kind == WEIR_MEASURE_SUM ? x : best;
        bool panes =
            (every != 0 || gap != 0) && plan[m].kind == WEIR_MEASURE_SUM; /* summed pane by pane */
        assert_true(memcmp(&got, &want, sizeof got) == 0 || (isnan(got) && isnan(want)) ||
                    (panes && fabs(got - want) <= 1e-12 * magnitude));
    } else if (plan[m].kind == WEIR_MEASURE_AVG) {
        int128 scaled = sum * (plan[m].column == I ? 1000000 : 10000);
        assert_true(decimal_at(column, at) == half_even(scaled, n));
    } else if (plan[m].column == I) {
        assert_int_equal(((const int64_t *)column->values)[at], (int64_t)sum);
    } else {
        assert_true(decimal_at(column, at) == sum);
    }
}

struct emitted {
    struct weir_batch *batches[GROUPS];
    int count; /* of one-row batches */
};

static bool has_key(const struct row *rows, const struct group *group,
                    const struct weir_column *columns) {
    const struct row *first = &rows[group->first];
    if (weir_column_is_null(&columns[0], 0) != first->null[K] ||
        weir_column_is_null(&columns[1], 0) != first->null[F]) {
        return false;
    }
    int32_t length = 0;
    const char *bytes = first->null[K] ? "" : weir_column_bytes(&columns[0], 0, &length);
    return (first->null[K] ||
            ((size_t)length == strlen(first->k) && memcmp(bytes, first->k, (size_t)length) == 0)) &&
           (first->null[F] || same_double_key(((const double *)columns[1].values)[0], first->f));
}

/* Tumbling windows come out in the model's order. Of the others the windows do; what orders a
 * window's groups is older than the window. */
static void check_emitted(const struct row *rows, const struct group *groups, int group_count,
                          const struct emitted *emitted) {
    assert_int_equal(emitted->count, group_count);
    bool *seen = calloc(GROUPS, sizeof *seen);
    int64_t before = INT64_MIN;
    for (int e = 0; e < group_count; e++) {
        const struct weir_column *columns = emitted->batches[e]->columns;
        int64_t start = ((const int64_t *)columns[2].values)[0];
        int64_t end = ((const int64_t *)columns[3].values)[0];
        bool ordered = every == 0 && gap == 0;
        int g = ordered ? e : 0;
        while (g < group_count && (seen[g] || groups[g].start != start || groups[g].end != end ||
                                   !has_key(rows, &groups[g], columns))) {
            g = ordered ? group_count : g + 1;
        }
        assert_true(g < group_count);
        assert_true(end >= before);
        before = end;
        seen[g] = true;
        for (int m = 0; m < MEASURES; m++) {
            check_measure(rows, &groups[g], m, &columns[4 + m], 0);
        }
    }
    free(seen);
}

/* --- driving ------------------------------------------------------------------------------- */

struct world {
    const struct row *rows;
    const bool *late;
    struct weir_schema *schema;
    struct weir_aggregate *aggregate;
    struct weir_cell *cells[CELLS];
    int cell_count;
    struct emitted emitted;
    struct weir_buffer records[EPOCHS][CELLS];
    int at;
    int epoch; /* open */
    bool collected[CELLS];
    bool sealed;
    int seal_at;
    int seal_emitted;
    /* fuzzy snapshot */
    struct weir_buffer snapshot[CELLS];
    struct weir_cell_cursor cursors[CELLS];
    bool dumped[CELLS];
    bool running;
    bool complete;
    int begin;
    int end;
};

static void truncate_emitted(struct emitted *emitted, int count) {
    while (emitted->count > count) {
        weir_batch_unref(emitted->batches[--emitted->count]);
    }
}

static void feed(struct world *world, int count) {
    const struct row *rows = world->rows + world->at;
    struct weir_batch *batch = make_batch(world->schema, rows, count);
    int32_t sel[256];
    int32_t late_sel[256];
    int64_t times[256];
    int64_t watermarks[256];
    uint8_t mask[256];
    int32_t selected = 0;
    for (int n = 0; n < count; n++) {
        times[n] = rows[n].time;
        watermarks[n] = rows[n].watermark;
        if (rows[n].selected) {
            mask[selected] = rows[n].mask;
            sel[selected++] = n;
        }
    }
    const struct weir_column *inputs[MEASURES];
    const uint8_t *masks[MEASURES];
    for (int m = 0; m < MEASURES; m++) {
        inputs[m] = plan[m].column >= 0 ? &batch->columns[plan[m].column] : NULL;
        masks[m] = plan[m].masked ? mask : NULL;
    }
    struct weir_error err = {0};
    int32_t late;
    int rc = weir_aggregate_feed(world->aggregate, batch, sel, selected, times, watermarks, inputs,
                                 masks, late_sel, &late, &err);
    if (rc != WEIR_OK) {
        fail_msg("%s", err.message);
    }
    int32_t seen = 0;
    for (int n = 0; n < count; n++) {
        if (rows[n].selected && world->late[world->at + n]) {
            assert_true(seen < late);
            assert_int_equal(late_sel[seen++], n);
        }
    }
    assert_int_equal(seen, late);
    weir_batch_unref(batch);
    world->at += count;
}

static void fire(struct world *world, int64_t watermark, int limit) {
    struct weir_batch_builder builder;
    struct weir_error err = {0};
    assert_int_equal(weir_batch_builder_init(&builder, pool,
                                             weir_aggregate_output(world->aggregate), 64, 1 << 16,
                                             &err),
                     WEIR_OK);
    enum weir_fired fired = WEIR_FIRED_SOME;
    while (fired != WEIR_FIRED_ALL && limit > 0) {
        assert_int_equal(weir_batch_builder_begin(&builder), WEIR_OK);
        int rc = weir_aggregate_fire(world->aggregate, watermark, &builder, limit, &fired, &err);
        if (rc != WEIR_OK) {
            fail_msg("%s", err.message);
        }
        struct weir_batch *batch = weir_batch_builder_take(&builder);
        for (int32_t r = 0; batch != NULL && r < batch->rows; r++) {
            struct weir_batch *one = weir_batch_gather(batch, &r, 1);
            assert_non_null(one);
            world->emitted.batches[world->emitted.count++] = one;
            limit--;
        }
        if (batch != NULL) {
            weir_batch_unref(batch);
        }
    }
    weir_batch_builder_fini(&builder);
}

static void seal(struct world *world) {
    struct weir_error err = {0};
    for (int c = 0; c < world->cell_count; c++) {
        assert_int_equal(world->cells[c]->ops->seal(world->cells[c]->self, &err), WEIR_OK);
        world->collected[c] = false;
    }
    world->seal_at = world->at;
    world->seal_emitted = world->emitted.count;
    world->epoch++;
    world->sealed = true;
}

static void crash(struct world *world) {
    struct weir_error err = {0};
    weir_aggregate_destroy(world->aggregate);
    world->aggregate = make_aggregate(world->schema);
    weir_aggregate_cells(world->aggregate, world->cells, CELLS);
    bool snapshot = world->complete && world->end < world->epoch;
    for (int c = 0; c < world->cell_count; c++) {
        const struct weir_cell *cell = world->cells[c];
        if (snapshot) {
            assert_int_equal(cell->ops->apply(cell->self, world->snapshot[c].data,
                                              world->snapshot[c].size, &err),
                             WEIR_OK);
        }
        for (int e = snapshot ? world->begin : 0; e < world->epoch; e++) {
            const struct weir_buffer *record = &world->records[e][c];
            assert_int_equal(cell->ops->apply(cell->self, record->data, record->size, &err),
                             WEIR_OK);
        }
    }
    if (weir_aggregate_restore(world->aggregate, &err) != WEIR_OK) {
        fail_msg("%s", err.message);
    }
    world->at = world->seal_at;
    truncate_emitted(&world->emitted, world->seal_emitted);
    world->running = false;
    world->complete = world->complete && snapshot;
}

static void collect(struct world *world) {
    struct weir_error err = {0};
    for (int c = 0; c < world->cell_count; c++) {
        if (!world->collected[c]) {
            assert_int_equal(world->cells[c]->ops->collect(
                                 world->cells[c]->self, &world->records[world->epoch - 1][c],
                                 1 + below(30), &world->collected[c], &err),
                             WEIR_OK);
        }
    }
    world->sealed = false;
    for (int c = 0; c < world->cell_count; c++) {
        world->sealed |= !world->collected[c];
    }
    if (!world->sealed && below(4) == 0) {
        crash(world);
    }
}

static void dump(struct world *world) {
    struct weir_error err = {0};
    if (!world->running) {
        for (int c = 0; c < world->cell_count; c++) {
            weir_buffer_clear(&world->snapshot[c]);
            world->cursors[c] = (struct weir_cell_cursor){0};
            world->dumped[c] = false;
        }
        world->running = true;
        world->complete = false;
        world->begin = world->epoch;
    }
    for (int c = 0; c < world->cell_count; c++) {
        if (!world->dumped[c]) {
            assert_int_equal(world->cells[c]->ops->dump(world->cells[c]->self, &world->cursors[c],
                                                        &world->snapshot[c], 1 + below(20),
                                                        &world->dumped[c], &err),
                             WEIR_OK);
        }
    }
    bool dumped = true;
    for (int c = 0; c < world->cell_count; c++) {
        dumped &= world->dumped[c];
    }
    if (dumped) {
        world->running = false;
        world->complete = true;
        world->end = world->epoch;
    }
}

static uint64_t digest(const struct emitted *emitted) {
    struct weir_buffer text;
    weir_buffer_init(&text, 1 << 26);
    for (int e = 0; e < emitted->count; e++) {
        assert_int_equal(weir_delta_row_json(emitted->batches[e], 0, &text), WEIR_OK);
    }
    uint64_t hash = XXH3_64bits(text.data, text.size);
    weir_buffer_fini(&text);
    return hash;
}

/* Rows by one seed, batches, epochs and crashes by another. What came out, in order, as a hash. */
static uint64_t run(uint64_t seed, uint64_t way) {
    struct row *rows = calloc(ROWS, sizeof *rows);
    struct group *groups = calloc(GROUPS, sizeof *groups);
    bool *late = calloc(ROWS, sizeof *late);
    random_state = seed;
    make_rows(rows, 1 + below(8));
    int group_count = model_groups(rows, groups, late);
    qsort(groups, (size_t)group_count, sizeof *groups, compare_groups);
    struct world *world = calloc(1, sizeof *world);
    world->rows = rows;
    world->late = late;
    world->schema = input_schema();
    world->aggregate = make_aggregate(world->schema);
    world->cell_count = weir_aggregate_cells(world->aggregate, world->cells, CELLS);
    assert_int_equal(world->cell_count, every != 0 ? 4 : gap != 0 ? 3 : 2);
    for (int c = 0; c < CELLS; c++) {
        for (int e = 0; e < EPOCHS; e++) {
            weir_buffer_init(&world->records[e][c], 1 << 24);
        }
        weir_buffer_init(&world->snapshot[c], 1 << 24);
    }
    random_state = way;
    uint64_t largest = 1 + below(200);
    bool epochs = seed % 4 != 0;
    while (world->at < ROWS || world->sealed) {
        uint64_t what = below(10);
        if (what < 6 && world->at < ROWS) {
            int count = 1 + (int)below(largest);
            feed(world, count < ROWS - world->at ? count : ROWS - world->at);
        } else if (what < 7 && world->at > 0) {
            fire(world, rows[world->at - 1].watermark, below(2) ? 1 + (int)below(10) : 1 << 20);
        } else if (world->sealed) {
            collect(world);
        } else if (epochs && below(2) == 0 && world->epoch < EPOCHS - 1) {
            seal(world);
        } else if (epochs) {
            dump(world);
        }
    }
    fire(world, WEIR_WATERMARK_END, 1 << 20);
    assert_int_equal(weir_aggregate_keys(world->aggregate), 0);
    check_emitted(rows, groups, group_count, &world->emitted);
    uint64_t hash = digest(&world->emitted);
    truncate_emitted(&world->emitted, 0);
    weir_aggregate_destroy(world->aggregate);
    weir_schema_unref(world->schema);
    for (int c = 0; c < CELLS; c++) {
        for (int e = 0; e < EPOCHS; e++) {
            weir_buffer_fini(&world->records[e][c]);
        }
        weir_buffer_fini(&world->snapshot[c]);
    }
    for (int g = 0; g < group_count; g++) {
        free(groups[g].rows);
    }
    free(world);
    free(late);
    free(groups);
    free(rows);
    return hash;
}

static void equals_the_model_whatever_batches_epochs_and_crashes(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 24; seed++) {
        run(seed, seed);
    }
}

static void hopping_and_cumulate_windows_equal_the_model(void **state) {
    (void)state;
    static const struct {
        int64_t every;
        bool cumulate;
    } kinds[] = {{25, false}, {40, false}, {100, false}, {20, true}, {50, true}};
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        every = kinds[k].every;
        cumulate = kinds[k].cumulate;
        for (uint64_t seed = 1; seed <= 5; seed++) {
            assert_int_equal(run(seed, seed), run(seed, seed + 1000));
        }
    }
    every = 0;
    cumulate = false;
}

/* Bit by bit the same whatever batches, epochs and crashes: where two sessions are joined in a
 * batch must not show in a double's last bit. */
static void sessions_equal_the_model(void **state) {
    (void)state;
    static const int64_t gaps[] = {1, 7, 30, 90};
    for (size_t k = 0; k < sizeof(gaps) / sizeof(gaps[0]); k++) {
        gap = gaps[k];
        for (uint64_t seed = 1; seed <= 6; seed++) {
            assert_int_equal(run(seed, seed), run(seed, seed + 1000));
        }
    }
    gap = 0;
}

/* --- small, exact cases -------------------------------------------------------------------- */

/* One measure over one column, one group, one window; values as rows of `batch`. */
static int aggregate_one(enum weir_measure_kind kind, struct weir_batch *batch,
                         struct weir_batch **result, struct weir_error *err) {
    struct weir_schema *schema = batch->schema;
    struct weir_measure measure = {.name = "total",
                                   .kind = kind,
                                   .has_input = true,
                                   .type = schema->fields[0].type,
                                   .precision = schema->fields[0].precision,
                                   .scale = schema->fields[0].scale};
    struct weir_aggregate_config config = {.declaration = "gold.one",
                                           .input = schema,
                                           .size_us = 10,
                                           .measures = &measure,
                                           .measure_count = 1,
                                           .option = "memory.state"};
    struct weir_aggregate *aggregate = weir_aggregate_create(&config, err);
    if (aggregate == NULL) {
        return err->code;
    }
    int64_t times[64] = {0};
    int64_t watermarks[64];
    int32_t late[64];
    int32_t late_count;
    for (int i = 0; i < 64; i++) {
        watermarks[i] = INT64_MIN;
    }
    const struct weir_column *inputs[1] = {&batch->columns[0]};
    int rc = weir_aggregate_feed(aggregate, batch, NULL, batch->rows, times, watermarks, inputs,
                                 NULL, late, &late_count, err);
    struct weir_batch_builder builder;
    assert_int_equal(
        weir_batch_builder_init(&builder, pool, weir_aggregate_output(aggregate), 8, 4096, NULL),
        WEIR_OK);
    assert_int_equal(weir_batch_builder_begin(&builder), WEIR_OK);
    enum weir_fired fired;
    if (rc == WEIR_OK) {
        rc = weir_aggregate_fire(aggregate, WEIR_WATERMARK_END, &builder, 8, &fired, err);
    }
    struct weir_batch *taken = weir_batch_builder_take(&builder);
    if (rc == WEIR_OK) {
        *result = taken;
    } else if (taken != NULL) {
        weir_batch_unref(taken);
    }
    weir_batch_builder_fini(&builder);
    weir_aggregate_destroy(aggregate);
    return rc;
}

static struct weir_batch *batch_of(const char *type, const int128 *values, int count) {
    struct weir_schema *schema = weir_schema_create();
    assert_int_equal(weir_schema_add_text(schema, "v", type, true, NULL), WEIR_OK);
    struct weir_batch_builder builder;
    assert_int_equal(weir_batch_builder_init(&builder, pool, schema, 64, 4096, NULL), WEIR_OK);
    assert_int_equal(weir_batch_builder_begin(&builder), WEIR_OK);
    for (int i = 0; i < count; i++) {
        int rc = schema->fields[0].type == WEIR_TYPE_DECIMAL
                     ? weir_builder_decimal(&builder.columns[0], (uint64_t)values[i],
                                            (int64_t)(values[i] >> 64))
                     : weir_builder_int(&builder.columns[0], (int64_t)values[i]);
        assert_int_equal(rc, WEIR_OK);
        weir_batch_builder_finish_row(&builder);
    }
    struct weir_batch *batch = weir_batch_builder_take(&builder);
    weir_batch_builder_fini(&builder);
    weir_schema_unref(schema);
    return batch;
}

static int128 power(int exponent) {
    int128 value = 1;
    while (exponent-- > 0) {
        value *= 10;
    }
    return value;
}

static void int_sums_may_leave_the_range_but_not_end_outside(void **state) {
    (void)state;
    struct weir_error err = {0};
    struct weir_batch *result = NULL;
    int128 there_and_back[] = {INT64_MAX, INT64_MAX, INT64_MIN, INT64_MIN, 7};
    struct weir_batch *batch = batch_of("int64", there_and_back, 5);
    assert_int_equal(aggregate_one(WEIR_MEASURE_SUM, batch, &result, &err), WEIR_OK);
    assert_int_equal(((const int64_t *)result->columns[2].values)[0], 5);
    weir_batch_unref(result);
    weir_batch_unref(batch);
    int128 over[] = {INT64_MAX, 1};
    batch = batch_of("int64", over, 2);
    assert_int_equal(aggregate_one(WEIR_MEASURE_SUM, batch, &result, &err), WEIR_E_DATA);
    assert_non_null(strstr(err.message, "'total'"));
    assert_non_null(strstr(err.message, "gold.one"));
    weir_batch_unref(batch);
}

static void decimal_sums_run_beyond_128_bits_and_stop_at_38_digits(void **state) {
    (void)state;
    struct weir_error err = {0};
    struct weir_batch *result = NULL;
    int128 most = power(38) - 1;
    int128 there_and_back[] = {most, most, most, most, -most, -most, -most, 0};
    struct weir_batch *batch = batch_of("decimal(38,2)", there_and_back, 8);
    assert_int_equal(aggregate_one(WEIR_MEASURE_SUM, batch, &result, &err), WEIR_OK);
    assert_true(decimal_at(&result->columns[2], 0) == most);
    assert_int_equal(result->columns[2].scale, 2);
    assert_int_equal(result->columns[2].precision, 38);
    weir_batch_unref(result);
    weir_batch_unref(batch);
    int128 over[] = {-most, -1};
    batch = batch_of("decimal(38,2)", over, 2);
    assert_int_equal(aggregate_one(WEIR_MEASURE_SUM, batch, &result, &err), WEIR_E_DATA);
    weir_batch_unref(batch);
}

static void averages_round_half_to_even_at_six_digits(void **state) {
    (void)state;
    static const struct {
        const char *type;
        int128 values[4];
        int count;
        int128 average;
        int scale;
    } cases[] = {
        {"int32", {1, 2}, 2, 1500000, 6},      {"int32", {1, 0, 0}, 3, 333333, 6},
        {"int32", {-2, 0, 0}, 3, -666667, 6},  {"decimal(10,6)", {1, 2}, 2, 2, 6}, /* 1.5e-6 to 2 */
        {"decimal(10,6)", {2, 3}, 2, 2, 6},                                        /* 2.5e-6 to 2 */
        {"decimal(10,6)", {-2, -3}, 2, -2, 6}, {"decimal(20,8)", {5, 5, 6}, 3, 5, 8},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct weir_error err = {0};
        struct weir_batch *result = NULL;
        struct weir_batch *batch = batch_of(cases[i].type, cases[i].values, cases[i].count);
        assert_int_equal(aggregate_one(WEIR_MEASURE_AVG, batch, &result, &err), WEIR_OK);
        assert_int_equal(result->columns[2].scale, cases[i].scale);
        assert_true(decimal_at(&result->columns[2], 0) == cases[i].average);
        weir_batch_unref(result);
        weir_batch_unref(batch);
    }
}

static void measures_refuse_types_they_cannot_take(void **state) {
    (void)state;
    struct weir_error err = {0};
    struct weir_field out = {0};
    struct weir_measure measure = {
        .name = "m", .kind = WEIR_MEASURE_SUM, .has_input = true, .type = WEIR_TYPE_STRING};
    assert_int_equal(weir_measure_output(&measure, &out, &err), WEIR_E_CONFIG);
    assert_non_null(strstr(err.message, "'m'"));
    measure.type = WEIR_TYPE_STRUCT;
    measure.kind = WEIR_MEASURE_DISTINCT;
    assert_int_equal(weir_measure_output(&measure, &out, &err), WEIR_E_CONFIG);
    measure.kind = WEIR_MEASURE_MAX;
    measure.has_input = false;
    assert_int_equal(weir_measure_output(&measure, &out, &err), WEIR_E_CONFIG);
}

static void a_row_exactly_at_the_bound_is_late(void **state) {
    (void)state;
    struct weir_schema *schema = input_schema();
    struct weir_aggregate *aggregate = make_aggregate(schema);
    struct row rows[2] = {{.k = "a", .s = ""}, {.k = "a", .s = ""}};
    struct weir_batch *batch = make_batch(schema, rows, 2);
    const struct weir_column *inputs[MEASURES];
    for (int m = 0; m < MEASURES; m++) {
        inputs[m] = plan[m].column >= 0 ? &batch->columns[plan[m].column] : NULL;
    }
    int64_t times[2] = {-1, -1}; /* window [-100, 0) */
    int64_t watermarks[2] = {LATENESS - 1, LATENESS};
    int32_t late[2];
    int32_t late_count;
    struct weir_error err = {0};
    assert_int_equal(weir_aggregate_feed(aggregate, batch, NULL, 2, times, watermarks, inputs, NULL,
                                         late, &late_count, &err),
                     WEIR_OK);
    assert_int_equal(late_count, 1);
    assert_int_equal(late[0], 1);
    assert_false(weir_aggregate_ready(aggregate, LATENESS - 1));
    assert_true(weir_aggregate_ready(aggregate, LATENESS));
    weir_batch_unref(batch);
    weir_aggregate_destroy(aggregate);
    weir_schema_unref(schema);
}

static void state_of_other_measures_is_refused(void **state) {
    (void)state;
    struct weir_error err = {0};
    struct weir_schema *schema = input_schema();
    struct weir_aggregate *aggregate = make_aggregate(schema);
    struct weir_measure measure = {.name = "m0", .kind = WEIR_MEASURE_COUNT};
    int32_t by[] = {K, F};
    struct weir_aggregate_config config = {.declaration = "gold.test",
                                           .input = schema,
                                           .by = by,
                                           .by_count = 2,
                                           .size_us = SIZE,
                                           .measures = &measure,
                                           .measure_count = 1};
    struct weir_aggregate *other = weir_aggregate_create(&config, &err);
    assert_non_null(other);
    assert_true(weir_aggregate_estimate(other) > 40);
    assert_true(weir_aggregate_estimate(aggregate) > weir_aggregate_estimate(other));
    struct weir_cell *cells[CELLS];
    struct weir_buffer out;
    weir_buffer_init(&out, 1 << 16);
    struct weir_cell_cursor cursor = {0};
    bool done;
    weir_aggregate_cells(aggregate, cells, 2);
    assert_int_equal(cells[0]->ops->dump(cells[0]->self, &cursor, &out, 10, &done, &err), WEIR_OK);
    assert_int_equal(weir_aggregate_cells(other, cells, 2), 1);
    assert_int_equal(cells[0]->ops->apply(cells[0]->self, out.data, out.size, &err),
                     WEIR_E_VERSION);
    weir_buffer_fini(&out);
    weir_aggregate_destroy(aggregate);
    weir_aggregate_destroy(other);
    weir_schema_unref(schema);
}

/* Damaged state is refused or recovered from; it never crashes, whatever is done with it then. */
static void damage(void) {
    enum { FEW = 60, TRIES = 1500 };
    struct weir_error err = {0};
    struct row *rows = calloc(ROWS, sizeof *rows);
    bool *late = calloc(ROWS, sizeof *late);
    random_state = 99;
    make_rows(rows, 8);
    struct world *world = calloc(1, sizeof *world);
    world->rows = rows;
    world->late = late;
    world->schema = input_schema();
    world->aggregate = make_aggregate(world->schema);
    for (int n = 0; n < FEW; n++) {
        rows[n].watermark = INT64_MIN;
    }
    feed(world, FEW);
    struct weir_buffer images[CELLS];
    world->cell_count = weir_aggregate_cells(world->aggregate, world->cells, CELLS);
    for (int c = 0; c < world->cell_count; c++) {
        struct weir_cell_cursor cursor = {0};
        bool done;
        weir_buffer_init(&images[c], 1 << 20);
        assert_int_equal(world->cells[c]->ops->dump(world->cells[c]->self, &cursor, &images[c],
                                                    1000, &done, &err),
                         WEIR_OK);
    }
    int refused = 0;
    for (int i = 0; i < TRIES; i++) {
        weir_aggregate_destroy(world->aggregate);
        world->aggregate = make_aggregate(world->schema);
        weir_aggregate_cells(world->aggregate, world->cells, CELLS);
        int rc = WEIR_OK;
        for (int c = 0; c < world->cell_count && rc == WEIR_OK; c++) {
            uint8_t *copy = malloc(images[c].size);
            memcpy(copy, images[c].data, images[c].size);
            if (c == i % world->cell_count && images[c].size > 0) {
                copy[below(images[c].size)] ^= (uint8_t)(1 + below(255));
            }
            rc = world->cells[c]->ops->apply(world->cells[c]->self, copy, images[c].size, &err);
            free(copy);
        }
        rc = rc == WEIR_OK ? weir_aggregate_restore(world->aggregate, &err) : rc;
        struct weir_batch_builder builder;
        assert_int_equal(weir_batch_builder_init(&builder, pool,
                                                 weir_aggregate_output(world->aggregate), 4096,
                                                 1 << 20, &err),
                         WEIR_OK);
        assert_int_equal(weir_batch_builder_begin(&builder), WEIR_OK);
        enum weir_fired fired = WEIR_FIRED_SOME;
        while (rc == WEIR_OK && fired == WEIR_FIRED_SOME) {
            rc = weir_aggregate_fire(world->aggregate, WEIR_WATERMARK_END, &builder, 4096, &fired,
                                     &err);
        }
        refused += rc != WEIR_OK;
        struct weir_batch *batch = weir_batch_builder_take(&builder);
        if (batch != NULL) {
            weir_batch_unref(batch);
        }
        weir_batch_builder_fini(&builder);
    }
    assert_true(refused > TRIES / 10);
    weir_aggregate_destroy(world->aggregate);
    weir_schema_unref(world->schema);
    for (int c = 0; c < world->cell_count; c++) {
        weir_buffer_fini(&images[c]);
    }
    free(world);
    free(rows);
    free(late);
}

static void damaged_state_does_no_harm(void **state) {
    (void)state;
    damage();
    every = 25;
    damage();
    every = 0;
}

int main(void) {
    pool = weir_pool_create((size_t)1 << 30);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(equals_the_model_whatever_batches_epochs_and_crashes),
        cmocka_unit_test(hopping_and_cumulate_windows_equal_the_model),
        cmocka_unit_test(sessions_equal_the_model),
        cmocka_unit_test(int_sums_may_leave_the_range_but_not_end_outside),
        cmocka_unit_test(decimal_sums_run_beyond_128_bits_and_stop_at_38_digits),
        cmocka_unit_test(averages_round_half_to_even_at_six_digits),
        cmocka_unit_test(measures_refuse_types_they_cannot_take),
        cmocka_unit_test(a_row_exactly_at_the_bound_is_late),
        cmocka_unit_test(state_of_other_measures_is_refused),
        cmocka_unit_test(damaged_state_does_no_harm),
    };
    int failed = cmocka_run_group_tests_name("operator_aggregate", tests, NULL, NULL);
    weir_pool_destroy(pool);
    return failed;
}
