/* Replies: seen once durable, forgotten from the front, the same after a restart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "state/replies.h"

enum { MANY = 3000 };

static struct weir_replies *make(size_t bytes_max) {
    struct weir_replies_options options = {
        .cell = "bronze.command/replies", .keep_us = 1000, .bytes_max = bytes_max};
    struct weir_replies *replies = weir_replies_create(&options);
    assert_non_null(replies);
    return replies;
}

static void put(struct weir_replies *replies, uint64_t number, int64_t clock, uint64_t epoch) {
    char body[64];
    int size = snprintf(body, sizeof(body), "reply %d", (int)number);
    assert_int_equal(
        weir_replies_put(replies, number, 200 + (int)number % 3, body, (size_t)size, clock, epoch),
        WEIR_OK);
}

static enum weir_reply look(struct weir_replies *replies, uint64_t number) {
    struct weir_buffer body;
    enum weir_reply found;
    int status = 0;
    char expected[64];
    weir_buffer_init(&body, 4096);
    assert_int_equal(weir_replies_find(replies, number, &found, &status, &body), WEIR_OK);
    if (found == WEIR_REPLY_FOUND) {
        snprintf(expected, sizeof(expected), "reply %d", (int)number);
        assert_string_equal(weir_buffer_text(&body), expected);
        assert_int_equal(status, 200 + (int)number % 3);
    } else {
        assert_int_equal(body.size, 0);
    }
    weir_buffer_fini(&body);
    return found;
}

/* Seals, and what is collected goes to `out`. */
static void seal(struct weir_replies *replies, struct weir_buffer *out) {
    struct weir_cell *cell = weir_replies_cell(replies);
    struct weir_error err = {0};
    bool done = false;
    assert_int_equal(cell->ops->seal(cell->self, &err), WEIR_OK);
    while (!done) {
        assert_int_equal(cell->ops->collect(cell->self, out, 7, &done, &err), WEIR_OK);
    }
}

static void told(void *context) {
    ++*(int *)context;
}

static void a_reply_is_seen_once_its_epoch_is_durable(void **state) {
    struct weir_replies *replies = make(1 << 20);
    int times = 0;
    (void)state;
    weir_replies_listen(replies, told, &times);
    put(replies, 1, 0, 5);
    put(replies, 2, 0, 6);
    assert_int_equal(look(replies, 1), WEIR_REPLY_NONE);
    weir_replies_durable(replies, 4);
    assert_int_equal(times, 0);
    weir_replies_durable(replies, 5);
    assert_int_equal(times, 1);
    assert_int_equal(look(replies, 1), WEIR_REPLY_FOUND);
    assert_int_equal(look(replies, 2), WEIR_REPLY_NONE);
    weir_replies_durable(replies, 7);
    assert_int_equal(times, 2);
    assert_int_equal(look(replies, 2), WEIR_REPLY_FOUND);
    weir_replies_durable(replies, 8);
    assert_int_equal(times, 2);
    weir_replies_destroy(replies);
}

static void the_oldest_are_forgotten_but_nothing_unrecorded(void **state) {
    struct weir_replies *replies = make(1000);
    struct weir_buffer out;
    (void)state;
    weir_buffer_init(&out, 1 << 20);
    for (uint64_t n = 1; n <= 100; n++) {
        put(replies, n, 10, 1);
    }
    weir_replies_durable(replies, 1);
    assert_int_equal(look(replies, 1), WEIR_REPLY_FOUND);
    seal(replies, &out);
    assert_int_equal(look(replies, 1), WEIR_REPLY_FORGOTTEN);
    assert_int_equal(look(replies, 100), WEIR_REPLY_FOUND);
    assert_int_equal(look(replies, 101), WEIR_REPLY_NONE);
    put(replies, 101, 5000, 2); /* all others are past their age */
    weir_replies_durable(replies, 2);
    seal(replies, &out);
    assert_int_equal(look(replies, 100), WEIR_REPLY_FORGOTTEN);
    assert_int_equal(look(replies, 101), WEIR_REPLY_FOUND);
    weir_buffer_fini(&out);
    weir_replies_destroy(replies);
}

static void records_and_snapshots_bring_them_back(void **state) {
    struct weir_replies *replies = make(64 << 20);
    struct weir_replies *again = make(64 << 20);
    struct weir_cell *cell = weir_replies_cell(again);
    struct weir_cell *from = weir_replies_cell(replies);
    struct weir_buffer records;
    struct weir_buffer snapshot;
    struct weir_cell_cursor cursor = {0};
    struct weir_error err = {0};
    bool done = false;
    (void)state;
    weir_buffer_init(&records, 8 << 20);
    weir_buffer_init(&snapshot, 8 << 20);
    for (uint64_t n = 1; n <= MANY; n++) {
        put(replies, n, 10, n / 100);
        if (n % 100 == 99) {
            seal(replies, &records);
        }
        if (n > MANY / 2 && !done) { /* a dump beside what goes on */
            assert_int_equal(from->ops->dump(from->self, &cursor, &snapshot, 50, &done, &err),
                             WEIR_OK);
        }
    }
    seal(replies, &records);
    assert_true(done);
    assert_int_equal(cell->ops->apply(cell->self, snapshot.data, snapshot.size, &err), WEIR_OK);
    assert_int_equal(cell->ops->apply(cell->self, records.data, records.size, &err), WEIR_OK);
    assert_int_equal(cell->ops->apply(cell->self, records.data, records.size, &err), WEIR_OK);
    weir_replies_restored(again, 1000);
    assert_int_equal(cell->ops->keys(cell->self), MANY);
    for (uint64_t n = 1; n <= MANY; n++) {
        assert_int_equal(look(again, n), WEIR_REPLY_FOUND);
    }
    assert_int_equal(cell->ops->apply(cell->self, records.data, records.size - 1, &err),
                     WEIR_E_CORRUPT);
    weir_buffer_fini(&records);
    weir_buffer_fini(&snapshot);
    weir_replies_destroy(replies);
    weir_replies_destroy(again);
}

/* As a seal and a snapshot do: what does not fit a slice is in the next one. */
static void slices_that_are_full_are_gone_on_with(void **state) {
    enum { BODY_BYTES = 1000, SLICE_BYTES = 2500, BODIES = 20 };
    struct weir_replies *replies = make(64 << 20);
    struct weir_replies *again = make(64 << 20);
    struct weir_cell *from = weir_replies_cell(replies);
    struct weir_cell *to = weir_replies_cell(again);
    struct weir_cell_cursor cursor = {0};
    struct weir_error err = {0};
    static const char body[BODY_BYTES];
    (void)state;
    for (uint64_t n = 1; n <= BODIES; n++) {
        assert_int_equal(weir_replies_put(replies, n, 200, body, sizeof(body), 10, 1), WEIR_OK);
    }
    assert_int_equal(from->ops->seal(from->self, &err), WEIR_OK);
    for (int dumping = 0; dumping < 2; dumping++) {
        int slices = 0;
        for (bool done = false; !done; slices++) {
            struct weir_buffer slice;
            weir_buffer_init(&slice, SLICE_BYTES);
            assert_int_equal(dumping
                                 ? from->ops->dump(from->self, &cursor, &slice, 512, &done, &err)
                                 : from->ops->collect(from->self, &slice, 512, &done, &err),
                             WEIR_OK);
            assert_int_equal(to->ops->apply(to->self, slice.data, slice.size, &err), WEIR_OK);
            weir_buffer_fini(&slice);
        }
        assert_int_equal(slices, BODIES / 2);
        assert_int_equal(to->ops->keys(to->self), BODIES);
    }
    struct weir_buffer small; /* one alone does not fit: that is an error */
    bool done;
    weir_buffer_init(&small, BODY_BYTES);
    memset(&cursor, 0, sizeof(cursor));
    assert_int_equal(from->ops->dump(from->self, &cursor, &small, 512, &done, &err), WEIR_E_LIMIT);
    weir_buffer_fini(&small);
    weir_replies_destroy(replies);
    weir_replies_destroy(again);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_reply_is_seen_once_its_epoch_is_durable),
        cmocka_unit_test(the_oldest_are_forgotten_but_nothing_unrecorded),
        cmocka_unit_test(records_and_snapshots_bring_them_back),
        cmocka_unit_test(slices_that_are_full_are_gone_on_with),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
