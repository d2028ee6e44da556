/* Groups that were counted under other measures: what goes on does so bit by bit, what waits for
 * functions keeps what it was, and what cannot go on is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lake/delta/table.h"
#include "operator/aggregate/aggregate.h"
#include "random.h"
#include "state/image.h"

enum { ROWS = 600, KEYS = 17, ALL = 10, SLOTS = 64 };
enum { K, I, X, S, COLUMNS };

static struct weir_pool *pool;

static const struct {
    const char *name;
    enum weir_measure_kind kind;
    int column; /* -1: none */
} all[ALL] = {
    {"rows", WEIR_MEASURE_COUNT, -1},   {"total", WEIR_MEASURE_SUM, I},
    {"weight", WEIR_MEASURE_SUM, X},    {"mean", WEIR_MEASURE_AVG, X},
    {"low", WEIR_MEASURE_MIN, S},       {"high", WEIR_MEASURE_MAX, I},
    {"spread", WEIR_MEASURE_STDDEV, X}, {"latest", WEIR_MEASURE_LAST, S},
    {"kinds", WEIR_MEASURE_COLLECT, S}, {"about", WEIR_MEASURE_APPROX_DISTINCT, S},
};

static struct weir_schema *input_schema(void) {
    struct weir_schema *schema = weir_schema_create();
    assert_int_equal(weir_schema_add_text(schema, "k", "int64", true, NULL), WEIR_OK);
    assert_int_equal(weir_schema_add_text(schema, "i", "int64", true, NULL), WEIR_OK);
    assert_int_equal(weir_schema_add_text(schema, "x", "double", true, NULL), WEIR_OK);
    assert_int_equal(weir_schema_add_text(schema, "s", "string", true, NULL), WEIR_OK);
    return schema;
}

/* An aggregate of some of the measures, in this order. */
struct made {
    struct weir_aggregate *aggregate;
    int order[ALL];
    int count;
};

struct versions {
    int64_t version;
    const int64_t *steps;
    int32_t step_count;
    const struct weir_renamed *renamed;
    int32_t renamed_count;
    weir_migrate_groups *migrate;
};

static struct made make_of(struct weir_schema *schema, const int *order, int count, int64_t size_us,
                           const struct versions *versions, const char *first_name) {
    struct weir_measure measures[ALL];
    struct made made = {.count = count};
    struct weir_error err = {0};
    for (int m = 0; m < count; m++) {
        int c = all[order[m]].column;
        made.order[m] = order[m];
        measures[m] = (struct weir_measure){
            .name = m == 0 && first_name != NULL ? first_name : all[order[m]].name,
            .kind = all[order[m]].kind,
            .has_input = c >= 0,
            .type = c >= 0 ? schema->fields[c].type : 0};
    }
    int32_t by[] = {K};
    struct weir_aggregate_config config = {
        .declaration = "gold.test",
        .input = schema,
        .by = by,
        .by_count = 1,
        .size_us = size_us,
        .unwindowed = size_us == 0,
        .measures = measures,
        .measure_count = count,
        .state_version = 1,
    };
    if (versions != NULL) {
        config.version = versions->version;
        config.steps = versions->steps;
        config.step_count = versions->step_count;
        config.renamed = versions->renamed;
        config.renamed_count = versions->renamed_count;
        config.migrate = versions->migrate;
    }
    made.aggregate = weir_aggregate_create(&config, &err);
    if (made.aggregate == NULL) {
        fail_msg("%s", err.message);
    }
    return made;
}

static void feed(struct weir_schema *schema, const struct made *made, uint64_t seed, int from,
                 int to) {
    struct weir_batch_builder builder;
    struct weir_error err = {0};
    int64_t times[ROWS];
    int64_t watermarks[ROWS];
    int32_t late[ROWS];
    int32_t late_count;
    random_state = seed;
    assert_int_equal(weir_batch_builder_init(&builder, pool, schema, ROWS, 1 << 20, NULL), WEIR_OK);
    assert_int_equal(weir_batch_builder_begin(&builder), WEIR_OK);
    for (int n = 0; n < to; n++) {
        static const char *const words[] = {"", "a", "apple", "a much longer text than fits"};
        int64_t k = (int64_t)below(KEYS);
        int64_t i = (int64_t)below(1000) - 500;
        double x = (double)below(1000) / 7.0;
        const char *s = words[below(4)];
        if (n < from) {
            continue;
        }
        times[n - from] = n % 100;
        watermarks[n - from] = INT64_MIN;
        int rc = weir_builder_int(&builder.columns[K], k);
        rc |= n % 5 == 0 ? weir_builder_null(&builder.columns[I])
                         : weir_builder_int(&builder.columns[I], i);
        rc |= weir_builder_double(&builder.columns[X], x);
        rc |= weir_builder_bytes(&builder.columns[S], s, strlen(s));
        assert_int_equal(rc, WEIR_OK);
        weir_batch_builder_finish_row(&builder);
    }
    struct weir_batch *batch = weir_batch_builder_take(&builder);
    weir_batch_builder_fini(&builder);
    const struct weir_column *inputs[ALL];
    for (int m = 0; m < made->count; m++) {
        int c = all[made->order[m]].column;
        inputs[m] = c >= 0 ? &batch->columns[c] : NULL;
    }
    int rc = weir_aggregate_feed(made->aggregate, batch, NULL, to - from, times, watermarks, inputs,
                                 NULL, late, &late_count, &err);
    if (rc != WEIR_OK) {
        fail_msg("%s", err.message);
    }
    weir_batch_unref(batch);
}

static struct weir_buffer dump(const struct made *made) {
    struct weir_cell *cell;
    struct weir_cell_cursor cursor = {0};
    struct weir_buffer out;
    bool done = false;
    weir_buffer_init(&out, 16 << 20);
    assert_int_equal(weir_aggregate_cells(made->aggregate, &cell, 1), 1);
    while (!done) {
        assert_int_equal(cell->ops->dump(cell->self, &cursor, &out, SLOTS, &done, NULL), WEIR_OK);
    }
    return out;
}

static int apply(const struct made *made, const struct weir_buffer *bytes, struct weir_error *err) {
    struct weir_cell *cell;
    assert_int_equal(weir_aggregate_cells(made->aggregate, &cell, 1), 1);
    return cell->ops->apply(cell->self, bytes->data, bytes->size, err);
}

/* The images an epoch leaves, but for headers and the texts of layouts, of which one may know more.
 */
static struct weir_buffer changes_of(const struct made *made) {
    struct weir_buffer all_images;
    struct weir_buffer out;
    struct weir_cell *cell;
    bool done = false;
    weir_buffer_init(&all_images, 16 << 20);
    weir_buffer_init(&out, 16 << 20);
    assert_int_equal(weir_aggregate_cells(made->aggregate, &cell, 1), 1);
    assert_int_equal(cell->ops->seal(cell->self, NULL), WEIR_OK);
    while (!done) {
        assert_int_equal(cell->ops->collect(cell->self, &all_images, 1 << 20, &done, NULL),
                         WEIR_OK);
    }
    struct weir_image_reader reader = {all_images.data, all_images.data + all_images.size};
    uint8_t op;
    uint8_t version;
    uint64_t number;
    const uint8_t *start = reader.at;
    while (weir_image_u8(&reader, &op)) {
        const uint8_t *bytes;
        size_t length;
        bool good = (op != WEIR_IMAGE_HEADER || weir_image_u8(&reader, &version)) &&
                    weir_image_u64(&reader, &number) &&
                    (op == WEIR_IMAGE_NEXT || weir_image_bytes(&reader, &bytes, &length)) &&
                    (op != WEIR_IMAGE_PUT || weir_image_bytes(&reader, &bytes, &length));
        assert_true(good);
        if (op == WEIR_IMAGE_PUT) {
            assert_int_equal(weir_buffer_append(&out, start, (size_t)(reader.at - start)), WEIR_OK);
        }
        start = reader.at;
    }
    weir_buffer_fini(&all_images);
    return out;
}

static void assert_same_state(const struct made *a, const struct made *b) {
    struct weir_buffer x = changes_of(a);
    struct weir_buffer y = changes_of(b);
    assert_true(x.size > 0);
    assert_int_equal(x.size, y.size);
    assert_memory_equal(x.data, y.data, x.size);
    weir_buffer_fini(&x);
    weir_buffer_fini(&y);
}

static int make_pool(void **state) {
    (void)state;
    pool = weir_pool_create((size_t)256 << 20);
    return pool == NULL;
}

static int drop_pool(void **state) {
    (void)state;
    weir_pool_destroy(pool);
    return 0;
}

static void shuffled(int *order, int *count) {
    *count = 0;
    for (int m = 0; m < ALL; m++) {
        if (below(4) != 0) {
            order[(*count)++] = m;
        }
    }
    *count = *count > 0 ? *count : 1;
    order[0] = *count == 1 ? 0 : order[0];
    for (int m = *count - 1; m > 0; m--) {
        int other = (int)below((uint64_t)m + 1);
        int kept = order[m];
        order[m] = order[other];
        order[other] = kept;
    }
}

/* --------------------------------------------------------------------------------------------- */

static void measures_that_leave_or_change_places_leave_the_others_as_they_are(void **state) {
    (void)state;
    static const int every[ALL] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
    struct weir_schema *schema = input_schema();
    for (uint64_t seed = 1; seed <= 40; seed++) {
        int order[ALL];
        int count;
        random_state = seed * 77;
        shuffled(order, &count);
        int64_t size_us = seed % 2 == 0 ? 0 : 50;
        struct made before = make_of(schema, every, ALL, size_us, NULL, NULL);
        struct made after = make_of(schema, order, count, size_us, NULL, NULL);
        struct made first = make_of(schema, order, count, size_us, NULL, NULL);
        struct made undisturbed = make_of(schema, order, count, size_us, NULL, NULL);
        struct weir_error err = {0};
        feed(schema, &before, seed, 0, ROWS / 2);
        feed(schema, &first, seed, 0, ROWS / 2);
        struct weir_buffer bytes = dump(&first);
        assert_int_equal(apply(&undisturbed, &bytes, &err), WEIR_OK);
        assert_int_equal(weir_aggregate_restore(undisturbed.aggregate, &err), WEIR_OK);
        weir_buffer_fini(&bytes);
        bytes = dump(&before);
        assert_int_equal(apply(&after, &bytes, &err), WEIR_OK);
        assert_int_equal(apply(&after, &bytes, &err), WEIR_OK); /* redo is harmless */
        assert_int_equal(weir_aggregate_restore(after.aggregate, &err), WEIR_OK);
        feed(schema, &after, seed, ROWS / 2, ROWS);
        feed(schema, &undisturbed, seed, ROWS / 2, ROWS);
        assert_same_state(&after, &undisturbed);
        weir_buffer_fini(&bytes);
        weir_aggregate_destroy(before.aggregate);
        weir_aggregate_destroy(after.aggregate);
        weir_aggregate_destroy(first.aggregate);
        weir_aggregate_destroy(undisturbed.aggregate);
    }
    weir_schema_unref(schema);
}

static int32_t migrated;
static bool throws;

static int count_groups(void *context, struct weir_migration *migration, int32_t *failed,
                        struct weir_error *err) {
    struct weir_batch_builder builder;
    int32_t count = weir_migration_count(migration);
    (void)context;
    assert_int_equal(weir_migration_version(migration), 1);
    assert_int_equal(weir_batch_builder_init(&builder, pool, weir_migration_schema(migration), 256,
                                             1 << 20, err),
                     WEIR_OK);
    assert_int_equal(weir_batch_builder_begin(&builder), WEIR_OK);
    for (int32_t i = 0; i < count; i++) {
        assert_int_equal(weir_migration_put(migration, i, &builder, err), WEIR_OK);
    }
    struct weir_batch *rows = weir_batch_builder_take(&builder);
    weir_batch_builder_fini(&builder);
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) { /* `high` begins with `total` */
        rc = weir_migration_start(migration, i, 1, &rows->columns[1], i, err);
    }
    weir_batch_unref(rows);
    migrated += count;
    *failed = count - 1;
    return throws ? weir_error_set(err, WEIR_E_DATA, "no way") : rc;
}

static void groups_wait_until_they_are_met_however_many_versions_pass(void **state) {
    (void)state;
    static const int one[] = {0, 1};
    static const int two[] = {0, 5};
    static const int64_t steps[] = {1};
    const struct versions second = {
        .version = 2, .steps = steps, .step_count = 1, .migrate = count_groups};
    const struct versions third = {
        .version = 3, .steps = steps, .step_count = 1, .migrate = count_groups};
    const struct versions none = {.version = 3};
    struct weir_schema *schema = input_schema();
    struct weir_error err = {0};
    struct made a = make_of(schema, one, 2, 0, NULL, NULL);
    struct made b = make_of(schema, two, 2, 0, &second, NULL);
    struct made c = make_of(schema, two, 2, 0, &third, NULL);
    struct made lost = make_of(schema, two, 2, 0, &none, NULL);
    feed(schema, &a, 5, 0, ROWS / 2);
    struct weir_buffer bytes = dump(&a);
    migrated = 0;
    assert_int_equal(apply(&b, &bytes, &err), WEIR_OK);
    weir_buffer_fini(&bytes);
    bytes = dump(&b);
    assert_int_equal(migrated, 0);
    assert_int_equal(apply(&c, &bytes, &err), WEIR_OK);
    assert_int_equal(weir_aggregate_restore(c.aggregate, &err), WEIR_OK);
    feed(schema, &c, 5, ROWS / 2, ROWS);
    assert_int_equal(migrated, KEYS);
    feed(schema, &c, 5, ROWS / 2, ROWS);
    assert_int_equal(migrated, KEYS);
    /* Without the function those that wait are refused, when all is read. */
    assert_int_equal(apply(&lost, &bytes, &err), WEIR_OK);
    assert_int_equal(weir_aggregate_restore(lost.aggregate, &err), WEIR_E_STATE);
    assert_non_null(strstr(err.message, "migrate = { [1] = function(old, m)"));
    weir_buffer_fini(&bytes);
    bytes = dump(&c);
    struct made again = make_of(schema, two, 2, 0, &none, NULL);
    err = (struct weir_error){0};
    assert_int_equal(apply(&again, &bytes, &err), WEIR_OK);
    assert_int_equal(weir_aggregate_restore(again.aggregate, &err), WEIR_OK);
    weir_buffer_fini(&bytes);
    weir_aggregate_destroy(a.aggregate);
    weir_aggregate_destroy(b.aggregate);
    weir_aggregate_destroy(c.aggregate);
    weir_aggregate_destroy(lost.aggregate);
    weir_aggregate_destroy(again.aggregate);
    weir_schema_unref(schema);
}

static void a_trial_names_the_group_and_a_taken_over_aggregate_goes_on(void **state) {
    (void)state;
    static const int one[] = {0, 1};
    static const int two[] = {0, 5};
    static const int64_t steps[] = {1};
    const struct versions second = {
        .version = 2, .steps = steps, .step_count = 1, .migrate = count_groups};
    struct weir_schema *schema = input_schema();
    struct weir_error err = {0};
    struct weir_buffer key;
    bool done = false;
    weir_buffer_init(&key, 1024);
    struct made from = make_of(schema, one, 2, 50, NULL, NULL);
    struct made to = make_of(schema, two, 2, 50, &second, NULL);
    feed(schema, &from, 5, 0, ROWS / 2);
    assert_int_equal(weir_aggregate_check(to.aggregate, from.aggregate, &err), WEIR_OK);
    assert_true(weir_aggregate_migrates(to.aggregate, from.aggregate));
    assert_true(weir_aggregate_keeps_columns(to.aggregate, from.aggregate));
    uint64_t next = 1;
    migrated = 0;
    while (!done) {
        assert_int_equal(weir_aggregate_try(to.aggregate, from.aggregate, &next, &done, &key, &err),
                         WEIR_OK);
    }
    assert_int_equal(migrated, weir_aggregate_keys(from.aggregate));
    assert_int_equal(weir_aggregate_keys(to.aggregate), 0);
    next = 1;
    throws = true;
    assert_int_equal(weir_aggregate_try(to.aggregate, from.aggregate, &next, &done, &key, &err),
                     WEIR_E_DATA);
    throws = false;
    assert_true(key.size > 8);
    weir_aggregate_destroy(to.aggregate);
    to = make_of(schema, two, 2, 50, &second, NULL);
    assert_int_equal(weir_aggregate_check(to.aggregate, from.aggregate, &err), WEIR_OK);
    size_t groups = weir_aggregate_keys(from.aggregate);
    assert_int_equal(weir_aggregate_take(to.aggregate, from.aggregate, &err), WEIR_OK);
    assert_int_equal(weir_aggregate_keys(to.aggregate), groups);
    feed(schema, &to, 5, ROWS / 2, ROWS);
    weir_buffer_fini(&key);
    weir_aggregate_destroy(to.aggregate);
    weir_schema_unref(schema);
}

static void measures_get_other_names_by_version(void **state) {
    (void)state;
    static const int order[] = {8, 2};
    const struct weir_renamed renamed[] = {{1, "kinds", "sorts"}, {2, "sorts", "words"}};
    const struct versions third = {.version = 3, .renamed = renamed, .renamed_count = 2};
    const struct versions less = {.version = 3, .renamed = renamed, .renamed_count = 1};
    struct weir_schema *schema = input_schema();
    struct weir_error err = {0};
    struct made a = make_of(schema, order, 2, 0, NULL, NULL);
    struct made b = make_of(schema, order, 2, 0, &third, "words");
    struct made c = make_of(schema, order, 2, 0, &less, "words");
    feed(schema, &a, 9, 0, ROWS);
    assert_int_equal(weir_aggregate_check(b.aggregate, a.aggregate, &err), WEIR_OK);
    assert_false(weir_aggregate_migrates(b.aggregate, a.aggregate));
    assert_int_equal(weir_aggregate_check(c.aggregate, a.aggregate, &err), WEIR_E_STATE);
    assert_non_null(strstr(err.message, "measure `words` is new"));
    weir_aggregate_destroy(a.aggregate);
    weir_aggregate_destroy(b.aggregate);
    weir_aggregate_destroy(c.aggregate);
    weir_schema_unref(schema);
}

static void damaged_layouts_and_values_are_refused_and_never_crash(void **state) {
    (void)state;
    static const int one[] = {0, 1, 4, 8};
    static const int two[] = {4, 0, 8};
    struct weir_schema *schema = input_schema();
    struct made a = make_of(schema, one, 4, 0, NULL, NULL);
    feed(schema, &a, 3, 0, ROWS);
    struct weir_buffer bytes = dump(&a);
    for (int n = 0; n < 4000; n++) {
        struct made b = make_of(schema, two, 3, 0, NULL, NULL);
        struct weir_error err = {0};
        random_state = (uint64_t)n + 1;
        size_t at = below(n % 2 == 0 ? 1200 : bytes.size);
        uint8_t kept = bytes.data[at];
        bytes.data[at] ^= (uint8_t)(1 + below(255));
        int rc = apply(&b, &bytes, &err);
        if (rc == WEIR_OK) {
            (void)!weir_aggregate_restore(b.aggregate, &err);
        }
        bytes.data[at] = kept;
        weir_aggregate_destroy(b.aggregate);
    }
    weir_buffer_fini(&bytes);
    weir_aggregate_destroy(a.aggregate);
    weir_schema_unref(schema);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(measures_that_leave_or_change_places_leave_the_others_as_they_are),
        cmocka_unit_test(groups_wait_until_they_are_met_however_many_versions_pass),
        cmocka_unit_test(a_trial_names_the_group_and_a_taken_over_aggregate_goes_on),
        cmocka_unit_test(measures_get_other_names_by_version),
        cmocka_unit_test(damaged_layouts_and_values_are_refused_and_never_crash),
    };
    return cmocka_run_group_tests(tests, make_pool, drop_pool);
}
