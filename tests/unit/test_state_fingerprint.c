/* Dedup's memory against the definition in its header, row by row over all rows kept so far. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "random.h"
#include "state/fingerprint.h"

enum { ROWS = 3000, WITHIN = 1000 };

static struct weir_fingerprint key_of(uint64_t k) {
    uint64_t h = (k + 1) * UINT64_C(0x9E3779B97F4A7C15);
    return (struct weir_fingerprint){h ^ (h >> 32), ~h};
}

static struct weir_fingerprints *make_store(int64_t within, size_t max_keys) {
    struct weir_error err = {0};
    struct weir_fingerprints_config config = {.declaration = "silver.test",
                                              .cell = "dedup",
                                              .shape = 3,
                                              .within_us = within,
                                              .max_keys = max_keys,
                                              .option = "pipeline.memory.state"};
    struct weir_fingerprints *store = weir_fingerprints_create(&config, &err);
    assert_non_null(store);
    return store;
}

struct row {
    uint64_t key;
    int64_t time;
    int64_t watermark;
    bool forget; /* rejected later, if kept */
    bool duplicate;
};

static int64_t floor_div(int64_t a, int64_t b) {
    return a / b - (a % b < 0);
}

/* The header's rules 1 to 3, naively. remembered[j] = row j is in memory. */
static void judge(struct row *rows, bool *remembered) {
    for (int i = 0; i < ROWS; i++) {
        struct row *row = &rows[i];
        row->duplicate = false;
        for (int j = 0; j < i; j++) {
            if (remembered[j] && rows[j].key == row->key &&
                llabs((long long)(rows[j].time - row->time)) < WITHIN &&
                row->watermark < (floor_div(rows[j].time, WITHIN) + 2) * WITHIN) {
                row->duplicate = true;
            }
        }
        remembered[i] = !row->duplicate && !row->forget &&
                        row->watermark < (floor_div(row->time, WITHIN) + 2) * WITHIN;
    }
}

static void make_rows(struct row *rows, uint64_t keys) {
    int64_t watermark = INT64_MIN;
    int64_t clock = -3 * WITHIN; /* through zero: negative buckets too */
    for (int i = 0; i < ROWS; i++) {
        clock += (int64_t)below(12);
        int64_t time = clock - (int64_t)below(below(8) == 0 ? 4 * WITHIN : WITHIN / 4);
        if (below(5) == 0) { /* exact boundaries */
            time = floor_div(time, WITHIN) * WITHIN;
        }
        rows[i] = (struct row){below(keys), time, watermark, below(20) == 0, false};
        if (i > 10 && clock - 200 > watermark) {
            watermark = clock - 200;
        }
    }
}

static void feed_one(struct weir_fingerprints *store, const struct row *row, uint8_t *duplicate) {
    struct weir_error err = {0};
    struct weir_fingerprint key = key_of(row->key);
    int32_t judged;
    assert_int_equal(weir_fingerprints_feed(store, 1, &key, &row->time, &row->watermark, duplicate,
                                            &judged, &err),
                     WEIR_OK);
}

/* Rows of one batch; a forgotten row ends its batch, since forgetting comes after judging. */
static int feed_batch(struct weir_fingerprints *store, const struct row *rows, int from,
                      int wanted) {
    struct weir_fingerprint keys[256];
    int64_t times[256];
    int64_t watermarks[256];
    uint8_t duplicate[256];
    int count = 0;
    while (from + count < ROWS && count < wanted) {
        const struct row *row = &rows[from + count];
        keys[count] = key_of(row->key);
        times[count] = row->time;
        watermarks[count] = row->watermark;
        count++;
        if (row->forget) {
            break;
        }
    }
    struct weir_error err = {0};
    int32_t judged;
    assert_int_equal(
        weir_fingerprints_feed(store, count, keys, times, watermarks, duplicate, &judged, &err),
        WEIR_OK);
    assert_int_equal(judged, count);
    for (int i = 0; i < count; i++) {
        const struct row *row = &rows[from + i];
        if (duplicate[i] != row->duplicate) {
            fail_msg("row %d: duplicate %d, not %d", from + i, duplicate[i], row->duplicate);
        }
        if (row->forget && !duplicate[i]) {
            assert_int_equal(weir_fingerprints_forget(store, keys[i], row->time), WEIR_OK);
        }
    }
    weir_fingerprints_expire(store, rows[from + count - 1].watermark);
    return count;
}

static void judges_rows_as_defined_however_they_are_batched(void **state) {
    (void)state;
    struct row *rows = calloc(ROWS, sizeof *rows);
    bool *remembered = calloc(ROWS, sizeof *remembered);
    int duplicates = 0;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        random_state = seed;
        make_rows(rows, 1 + below(seed % 3 == 0 ? 2000 : 40));
        judge(rows, remembered);
        struct weir_fingerprints *store = make_store(WITHIN, 0);
        uint64_t largest = 1 + below(256);
        for (int at = 0; at < ROWS;) {
            at += feed_batch(store, rows, at, 1 + (int)below(largest));
        }
        for (int i = 0; i < ROWS; i++) {
            duplicates += rows[i].duplicate;
        }
        weir_fingerprints_destroy(store);
    }
    assert_true(duplicates > 1000);
    free(rows);
    free(remembered);
}

static void distance_is_strictly_less_than_within_either_way(void **state) {
    (void)state;
    struct weir_fingerprints *store = make_store(WITHIN, 0);
    uint8_t duplicate;
    struct row row = {.key = 1, .time = 5000, .watermark = INT64_MIN};
    feed_one(store, &row, &duplicate);
    assert_int_equal(duplicate, 0);
    static const struct {
        int64_t time;
        uint8_t duplicate;
    } cases[] = {{5000, 1}, {5999, 1}, {4001, 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        row.time = cases[i].time;
        feed_one(store, &row, &duplicate);
        assert_int_equal(duplicate, cases[i].duplicate);
    }
    row.time = 6000; /* the duplicate at 5999 prolonged nothing */
    feed_one(store, &row, &duplicate);
    assert_int_equal(duplicate, 0);
    row.time = 4000;
    feed_one(store, &row, &duplicate);
    assert_int_equal(duplicate, 0);
    weir_fingerprints_destroy(store);
}

static void a_watermark_hides_a_bucket_whether_or_not_memory_was_dropped(void **state) {
    (void)state;
    for (int drop = 0; drop < 2; drop++) {
        struct weir_fingerprints *store = make_store(WITHIN, 0);
        uint8_t duplicate;
        struct row row = {.key = 1, .time = 500, .watermark = INT64_MIN};
        feed_one(store, &row, &duplicate);
        row.time = 700;
        row.watermark = 2 * WITHIN - 1;
        feed_one(store, &row, &duplicate);
        assert_int_equal(duplicate, 1);
        if (drop) {
            weir_fingerprints_expire(store, 2 * WITHIN);
            assert_int_equal(weir_fingerprints_keys(store), 0);
        }
        row.watermark = 2 * WITHIN;
        feed_one(store, &row, &duplicate);
        assert_int_equal(duplicate, 0);
        feed_one(store, &row, &duplicate); /* nor is it remembered */
        assert_int_equal(duplicate, 0);
        weir_fingerprints_destroy(store);
    }
}

static void times_at_the_ends_of_the_range_do_no_harm(void **state) {
    (void)state;
    static const int64_t withins[] = {1, 7, INT64_C(3000) * 86400 * 1000000};
    static const int64_t times[] = {INT64_MIN, INT64_MIN + 1, -1, 0, 1, INT64_MAX - 1, INT64_MAX};
    for (int w = 0; w < 3; w++) {
        struct weir_fingerprints *store = make_store(withins[w], 0);
        for (int t = 0; t < 7; t++) {
            uint8_t duplicate;
            struct row row = {.key = (uint64_t)t, .time = times[t], .watermark = INT64_MIN};
            feed_one(store, &row, &duplicate);
            assert_int_equal(duplicate, 0);
            feed_one(store, &row, &duplicate);
            assert_int_equal(duplicate, 1);
        }
        weir_fingerprints_destroy(store);
    }
}

static void apply_bytes(struct weir_fingerprints *store, const struct weir_buffer *bytes) {
    struct weir_error err = {0};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(weir_fingerprints_apply(store, bytes->data, bytes->size, &err), WEIR_OK);
    }
}

/* A crash at a random seal: what is recovered judges the rest of the rows as the original does. */
static void recovers_from_records_and_a_fuzzy_snapshot(void **state) {
    (void)state;
    struct row *rows = calloc(ROWS, sizeof *rows);
    bool *remembered = calloc(ROWS, sizeof *remembered);
    for (uint64_t seed = 1; seed <= 12; seed++) {
        random_state = seed * 77;
        make_rows(rows, 60);
        judge(rows, remembered);
        struct weir_fingerprints *store = make_store(WITHIN, 0);
        struct weir_fingerprints *copy = make_store(WITHIN, 0);
        struct weir_buffer record;
        struct weir_buffer snapshot;
        weir_buffer_init(&record, 1 << 24);
        weir_buffer_init(&snapshot, 1 << 24);
        struct weir_cell_cursor cursor = {0};
        bool with_snapshot = seed % 2 == 0;
        bool dumping = false;
        bool dumped = !with_snapshot;
        struct weir_buffer since; /* records from begin on */
        weir_buffer_init(&since, 1 << 24);
        int stop = ROWS / 2 + (int)below(ROWS / 4);
        int at = 0;
        struct weir_error err = {0};
        bool done;
        while (at < stop || !dumped) {
            at += feed_batch(store, rows, at, 1 + (int)below(60));
            if (with_snapshot && at > ROWS / 4 && !dumped) {
                dumping = true;
                assert_int_equal(
                    weir_fingerprints_dump(store, &cursor, &snapshot, 1 + below(30), &dumped, &err),
                    WEIR_OK);
            }
            if (below(3) == 0 || at >= stop) {
                weir_buffer_clear(&record);
                assert_int_equal(weir_fingerprints_seal(store, &err), WEIR_OK);
                at += at < stop ? feed_batch(store, rows, at, 5) : 0; /* the loop goes on */
                do {
                    assert_int_equal(
                        weir_fingerprints_collect(store, &record, 1 + below(9), &done, &err),
                        WEIR_OK);
                } while (!done);
                if (!with_snapshot || dumping) {
                    assert_int_equal(weir_buffer_append(&since, record.data, record.size), WEIR_OK);
                }
            }
        }
        /* what is still open is sealed, so that both stand at the same row */
        weir_buffer_clear(&record);
        assert_int_equal(weir_fingerprints_seal(store, &err), WEIR_OK);
        do {
            assert_int_equal(weir_fingerprints_collect(store, &record, 100, &done, &err), WEIR_OK);
        } while (!done);
        assert_int_equal(weir_buffer_append(&since, record.data, record.size), WEIR_OK);
        apply_bytes(copy, &snapshot);
        apply_bytes(copy, &since);
        weir_fingerprints_expire(copy, rows[at - 1].watermark);
        assert_int_equal(weir_fingerprints_keys(copy), weir_fingerprints_keys(store));
        while (at < ROWS) {
            int here = at;
            at += feed_batch(store, rows, here, 20);
            assert_int_equal(here + feed_batch(copy, rows, here, 20), at);
        }
        weir_buffer_fini(&record);
        weir_buffer_fini(&snapshot);
        weir_buffer_fini(&since);
        weir_fingerprints_destroy(store);
        weir_fingerprints_destroy(copy);
    }
    free(rows);
    free(remembered);
}

static void holds_a_key_in_32_bytes_at_steady_load(void **state) {
    (void)state;
    struct weir_fingerprints *store = make_store(1000000, 0);
    struct weir_buffer out;
    weir_buffer_init(&out, SIZE_MAX);
    struct weir_error err = {0};
    double worst = 0;
    int64_t time = 0;
    for (uint64_t k = 0; k < 3000000; k += 1000) {
        struct weir_fingerprint keys[1000];
        int64_t times[1000];
        int64_t watermarks[1000];
        uint8_t duplicate[1000];
        for (int i = 0; i < 1000; i++) {
            keys[i] = key_of(k + (uint64_t)i);
            times[i] = time += 2;
            watermarks[i] = time - 1000;
        }
        int32_t judged;
        assert_int_equal(
            weir_fingerprints_feed(store, 1000, keys, times, watermarks, duplicate, &judged, &err),
            WEIR_OK);
        weir_fingerprints_expire(store, time - 1000);
        bool done;
        weir_buffer_clear(&out);
        assert_int_equal(weir_fingerprints_seal(store, &err), WEIR_OK);
        assert_int_equal(weir_fingerprints_collect(store, &out, SIZE_MAX, &done, &err), WEIR_OK);
        double per_key =
            (double)weir_fingerprints_bytes(store) / (double)weir_fingerprints_keys(store);
        /* From half a bucket on: below, the epoch's own images dominate. */
        if (k % 500000 >= 250000 && k < 500000) {
            worst = per_key > worst ? per_key : worst;
        }
    }
    print_message("bytes a key: %.2f\n", worst);
    assert_true(worst <= 32.0);
    weir_buffer_fini(&out);
    weir_fingerprints_destroy(store);
}

static void memory_of_expired_buckets_serves_later_ones(void **state) {
    (void)state;
    struct weir_fingerprints *store = make_store(100000, 0);
    struct weir_error err = {0};
    size_t after_warmup = 0;
    for (int64_t batch = 0; batch < 2000; batch++) {
        struct weir_fingerprint keys[100];
        int64_t times[100];
        int64_t watermarks[100];
        uint8_t duplicate[100];
        for (int i = 0; i < 100; i++) {
            keys[i] = key_of((uint64_t)(batch * 100 + i));
            times[i] = batch * 1000 + i * 10;
            watermarks[i] = batch * 1000;
        }
        int32_t judged;
        assert_int_equal(
            weir_fingerprints_feed(store, 100, keys, times, watermarks, duplicate, &judged, &err),
            WEIR_OK);
        weir_fingerprints_expire(store, batch * 1000);
        struct weir_buffer out;
        weir_buffer_init(&out, 1 << 20);
        bool done;
        assert_int_equal(weir_fingerprints_seal(store, &err), WEIR_OK);
        assert_int_equal(weir_fingerprints_collect(store, &out, SIZE_MAX, &done, &err), WEIR_OK);
        weir_buffer_fini(&out);
        size_t bytes = weir_fingerprints_bytes(store);
        if (batch < 500) { /* five buckets long */
            after_warmup = bytes > after_warmup ? bytes : after_warmup;
        } else {
            assert_true(bytes <= after_warmup + 16 * 1024);
        }
    }
    weir_fingerprints_destroy(store);
}

static void a_cap_stops_with_declaration_and_option(void **state) {
    (void)state;
    struct weir_fingerprints *store = make_store(WITHIN, 3);
    struct weir_fingerprint keys[5];
    int64_t times[5] = {0};
    int64_t watermarks[5] = {INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN};
    uint8_t duplicate[5];
    int32_t judged;
    struct weir_error err = {0};
    for (uint64_t i = 0; i < 5; i++) {
        keys[i] = key_of(i);
    }
    assert_int_equal(
        weir_fingerprints_feed(store, 5, keys, times, watermarks, duplicate, &judged, &err),
        WEIR_E_LIMIT);
    assert_int_equal(judged, 3);
    assert_non_null(strstr(err.message, "silver.test"));
    assert_non_null(strstr(err.message, "3 keys"));
    assert_non_null(strstr(err.message, "pipeline.memory.state"));
    weir_fingerprints_destroy(store);
}

static void damaged_images_are_refused_and_never_overrun(void **state) {
    (void)state;
    struct weir_error err = {0};
    struct weir_fingerprints *store = make_store(WITHIN, 0);
    uint8_t duplicate;
    for (uint64_t k = 0; k < 20; k++) {
        struct row row = {.key = k, .time = (int64_t)k * 100, .watermark = INT64_MIN};
        feed_one(store, &row, &duplicate);
    }
    struct weir_buffer out;
    weir_buffer_init(&out, 1 << 20);
    struct weir_cell_cursor cursor = {0};
    bool done;
    assert_int_equal(weir_fingerprints_dump(store, &cursor, &out, 100, &done, &err), WEIR_OK);
    assert_true(done);
    int refused = 0;
    for (size_t cut = 0; cut < out.size; cut++) {
        struct weir_fingerprints *fresh = make_store(WITHIN, 0);
        uint8_t *exact = malloc(cut + 1);
        memcpy(exact, out.data, cut);
        refused += weir_fingerprints_apply(fresh, exact, cut, &err) == WEIR_E_CORRUPT;
        free(exact);
        weir_fingerprints_destroy(fresh);
    }
    assert_int_equal(refused, (int)out.size - 20 - 1);
    struct weir_fingerprints *wider = make_store(WITHIN + 1, 0);
    assert_int_equal(weir_fingerprints_apply(wider, out.data, out.size, &err), WEIR_E_VERSION);
    weir_fingerprints_destroy(wider);
    weir_buffer_fini(&out);
    weir_fingerprints_destroy(store);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(judges_rows_as_defined_however_they_are_batched),
        cmocka_unit_test(distance_is_strictly_less_than_within_either_way),
        cmocka_unit_test(a_watermark_hides_a_bucket_whether_or_not_memory_was_dropped),
        cmocka_unit_test(times_at_the_ends_of_the_range_do_no_harm),
        cmocka_unit_test(recovers_from_records_and_a_fuzzy_snapshot),
        cmocka_unit_test(holds_a_key_in_32_bytes_at_steady_load),
        cmocka_unit_test(memory_of_expired_buckets_serves_later_ones),
        cmocka_unit_test(a_cap_stops_with_declaration_and_option),
        cmocka_unit_test(damaged_images_are_refused_and_never_overrun),
    };
    return cmocka_run_group_tests_name("state_fingerprint", tests, NULL, NULL);
}
