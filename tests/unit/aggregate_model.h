#pragma once
/* A naive model of windowed aggregation that keeps every row, its random rows, and the comparison
 * of what an aggregate emitted with it. */
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
#include "operator/aggregate/aggregate.h"
#include "operator/watermark.h"
#include "random.h"

typedef __int128 int128;

enum {
    ROWS = 2500,
    GROUPS = ROWS * 5,
    CELLS = 4,
    SIZE = 100,
    LATENESS = 30,
    MEASURES = 15,
    EPOCHS = 400
};
enum { K, F, I, D, X, S, COLUMNS };

#define SHARE 0.3 /* of the quantile */

/* The kind of window under test; every 0: tumbling. */
static int64_t every;
static bool cumulate;
static int64_t gap;     /* sessions */
static int64_t counted; /* windows of so many rows */

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

/* A key's rows as they come, so many together. */
static int model_counted(const struct row *rows, struct group *groups) {
    int count = 0;
    for (int n = 0; n < ROWS; n++) {
        int g = 0;
        while (g < count &&
               (groups[g].count == counted || !same_key(&rows[groups[g].first], &rows[n]))) {
            g++;
        }
        if (!rows[n].selected) {
            continue;
        }
        struct group *into = &groups[g];
        int64_t time = rows[n].time;
        if (g == count) {
            *into = (struct group){
                .start = time, .end = time + 1, .first = n, .rows = calloc(ROWS, sizeof(int))};
            count++;
        }
        into->start = time < into->start ? time : into->start;
        into->end = time + 1 > into->end ? time + 1 : into->end;
        into->rows[into->count++] = n;
    }
    return count;
}

/* A row late for one of its windows goes to late, and counts in the others. */
static int model_groups(const struct row *rows, struct group *groups, bool *late) {
    int count = 0;
    if (gap != 0) {
        return model_sessions(rows, groups, late);
    }
    if (counted != 0) {
        return model_counted(rows, groups);
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

/* Those that are full, as they filled; then the others. */
static int compare_counted(const struct group *x, const struct group *y) {
    bool x_full = x->count == counted;
    bool y_full = y->count == counted;
    if (x_full != y_full) {
        return x_full ? -1 : 1;
    }
    int x_at = x_full ? x->rows[x->count - 1] : x->first;
    int y_at = y_full ? y->rows[y->count - 1] : y->first;
    return (x_at > y_at) - (x_at < y_at);
}

static int compare_groups(const void *a, const void *b) {
    const struct group *x = a;
    const struct group *y = b;
    if (counted != 0) {
        return compare_counted(x, y);
    }
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
    {WEIR_MEASURE_QUANTILE, I, true},  {WEIR_MEASURE_COLLECT, S, false},
    {WEIR_MEASURE_AGGREGATE, I, true},
};

/* The aggregate: states of one int64, which are summed. */
static struct weir_field state_fields[1] = {{.name = "i", .type = WEIR_TYPE_INT64}};
static const struct weir_field sums = {
    .type = WEIR_TYPE_STRUCT, .children = state_fields, .child_count = 1};

static int merge_sums(void *context, int32_t m, uint8_t **into, uint8_t **from, int32_t count,
                      struct weir_error *err) {
    (void)context;
    (void)err;
    assert_true(plan[m].kind == WEIR_MEASURE_AGGREGATE);
    for (int32_t i = 0; i < count; i++) {
        int64_t a;
        int64_t b;
        memcpy(&a, into[i] + 8, sizeof a);
        memcpy(&b, from[i] + 8, sizeof b);
        a = (into[i][0] ? a : 0) + (from[i][0] ? b : 0);
        into[i][0] |= from[i][0];
        memcpy(into[i] + 8, &a, sizeof a);
    }
    return WEIR_OK;
}

/* Rows as states of one. */
static const struct weir_column *input_of(struct weir_batch *batch, int m,
                                          const struct weir_column *states) {
    return plan[m].column < 0                       ? NULL
           : plan[m].kind == WEIR_MEASURE_AGGREGATE ? states
                                                    : &batch->columns[plan[m].column];
}

static struct weir_column states_of(struct weir_batch *batch) {
    return (struct weir_column){.type = WEIR_TYPE_STRUCT,
                                .length = batch->rows,
                                .children = &batch->columns[I],
                                .child_count = 1};
}

static struct weir_aggregate *make_aggregate(struct weir_schema *schema) {
    struct weir_error err = {0};
    struct weir_measure measures[MEASURES];
    static const char *const names[MEASURES] = {"m0", "m1", "m2",  "m3",  "m4",  "m5",  "m6", "m7",
                                                "m8", "m9", "m10", "m11", "m12", "m13", "m14"};
    for (int m = 0; m < MEASURES; m++) {
        int c = plan[m].column;
        measures[m] =
            (struct weir_measure){.name = names[m], .kind = plan[m].kind, .has_input = c >= 0};
        measures[m].share = plan[m].kind == WEIR_MEASURE_QUANTILE ? SHARE : 0;
        if (c >= 0) {
            measures[m].type = schema->fields[c].type;
            measures[m].precision = schema->fields[c].precision;
            measures[m].scale = schema->fields[c].scale;
        }
        if (plan[m].kind == WEIR_MEASURE_AGGREGATE) {
            measures[m].type = WEIR_TYPE_STRUCT;
            measures[m].state = &sums;
        }
    }
    int32_t by[] = {K, F};
    struct weir_aggregate_config config = {
        .declaration = "gold.test",
        .input = schema,
        .by = by,
        .by_count = 2,
        .size_us = gap == 0 && counted == 0 ? SIZE : 0,
        .gap_us = gap,
        .rows = counted,
        .every_us = every,
        .cumulate = cumulate,
        .lateness_us = LATENESS,
        .measures = measures,
        .measure_count = MEASURES,
        .merge = merge_sums,
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

/* The value of rank ceil(share * n). */
static void check_quantile(const struct row *rows, const struct group *group, int m,
                           const struct weir_column *column, int64_t at) {
    int64_t values[ROWS];
    int n = 0;
    for (int r = 0; r < group->count; r++) {
        const struct row *row = &rows[group->rows[r]];
        int to = n;
        if (!counts(row, m)) {
            continue;
        }
        for (; to > 0 && values[to - 1] > row->i; to--) {
            values[to] = values[to - 1];
        }
        values[to] = row->i;
        n++;
    }
    assert_int_equal(weir_column_is_null(column, at), n == 0);
    if (n > 0) {
        assert_int_equal(((const int64_t *)column->values)[at], values[(int)ceil(SHARE * n) - 1]);
    }
}

/* By time, then as they came. */
static void check_list(const struct row *rows, const struct group *group, int m,
                       const struct weir_column *column, int64_t at) {
    int order[ROWS];
    int n = 0;
    for (int r = 0; r < group->count; r++) {
        int row = group->rows[r];
        int to = n;
        if (!counts(&rows[row], m)) {
            continue;
        }
        for (; to > 0 && (rows[order[to - 1]].time > rows[row].time ||
                          (rows[order[to - 1]].time == rows[row].time && order[to - 1] > row));
             to--) {
            order[to] = order[to - 1];
        }
        order[to] = row;
        n++;
    }
    assert_int_equal(weir_column_is_null(column, at), n == 0);
    if (n > 0) {
        assert_int_equal(column->offsets[at + 1] - column->offsets[at], n);
    }
    for (int i = 0; i < n; i++) {
        check_text(&column->children[0], column->offsets[at] + i, rows[order[i]].s);
    }
}

static void check_measure(const struct row *rows, const struct group *group, int m,
                          const struct weir_column *column, int64_t at) {
    if (plan[m].kind == WEIR_MEASURE_QUANTILE) {
        check_quantile(rows, group, m, column, at);
        return;
    }
    if (plan[m].kind == WEIR_MEASURE_COLLECT) {
        check_list(rows, group, m, column, at);
        return;
    }
    if (plan[m].kind == WEIR_MEASURE_AGGREGATE && !weir_column_is_null(column, at)) {
        column = &column->children[0]; /* of nothing but nulls a state is one */
    }
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

/* Tumbling and counted windows come out in the model's order. Of the others the windows do; what
 * orders a window's groups is older than the window. */
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
        assert_true(end >= before || counted != 0);
        before = end;
        seen[g] = true;
        for (int m = 0; m < MEASURES; m++) {
            check_measure(rows, &groups[g], m, &columns[4 + m], 0);
        }
    }
    free(seen);
}
