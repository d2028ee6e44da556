/* Rings and signals between two threads: nothing lost, nothing twice, nobody left asleep. Run under
 * the tsan preset too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <pthread.h>

#include "core/ring.h"

enum { ITEMS = 200000, WAIT_MS = 10000, RAISES = 20000 };

static struct weir_ring *make_ring(uint32_t capacity, struct weir_signal *signal) {
    struct weir_ring *ring = NULL;
    struct weir_error err = {0};
    assert_int_equal(weir_ring_create(&ring, capacity, signal, &err), WEIR_OK);
    return ring;
}

static void test_a_full_ring_refuses_and_an_empty_one_gives_nothing(void **state) {
    (void)state;
    struct weir_ring *ring = make_ring(3, NULL); /* rounded up to 4 */
    int items[5];
    assert_null(weir_ring_pop(ring));
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 4; i++) {
            assert_true(weir_ring_try_push(ring, &items[i]));
        }
        assert_false(weir_ring_try_push(ring, &items[4]));
        assert_int_equal(weir_ring_count(ring), 4);
        assert_ptr_equal(weir_ring_peek(ring), &items[0]);
        for (int i = 0; i < 4; i++) {
            assert_ptr_equal(weir_ring_pop(ring), &items[i]);
        }
        assert_null(weir_ring_peek(ring));
    }
    weir_ring_destroy(ring);
}

static void test_a_capacity_out_of_bounds_is_refused(void **state) {
    (void)state;
    struct weir_ring *ring = NULL;
    struct weir_error err = {0};
    assert_int_equal(weir_ring_create(&ring, 0, NULL, &err), WEIR_E_LIMIT);
    assert_int_equal(weir_ring_create(&ring, UINT32_MAX, NULL, &err), WEIR_E_LIMIT);
    assert_null(ring);
}

static void *push_all(void *argument) {
    for (uintptr_t i = 1; i <= ITEMS; i++) {
        if (!weir_ring_push(argument, (void *)i)) {
            return (void *)i;
        }
    }
    return NULL;
}

static void test_items_cross_in_order_while_both_sides_sleep_and_wake(void **state) {
    (void)state;
    struct weir_signal signal;
    struct weir_error err = {0};
    assert_int_equal(weir_signal_init(&signal, &err), WEIR_OK);
    struct weir_ring *ring = make_ring(2, &signal);
    pthread_t producer;
    assert_int_equal(pthread_create(&producer, NULL, push_all, ring), 0);
    uintptr_t expected = 1;
    while (expected <= ITEMS) {
        void *item = weir_ring_pop(ring);
        if (item != NULL) {
            assert_int_equal((uintptr_t)item, expected++);
        } else {
            assert_true(weir_signal_wait(&signal, WAIT_MS));
        }
    }
    void *stopped_at;
    pthread_join(producer, &stopped_at);
    assert_null(stopped_at);
    weir_ring_destroy(ring);
    weir_signal_fini(&signal);
}

static void test_closing_wakes_a_waiting_producer_and_keeps_what_is_inside(void **state) {
    (void)state;
    struct weir_ring *ring = make_ring(2, NULL);
    pthread_t producer;
    assert_int_equal(pthread_create(&producer, NULL, push_all, ring), 0);
    while (weir_ring_count(ring) < 2) {
        assert_false(weir_ring_wait_closed(ring, 0));
    }
    weir_ring_close(ring);
    void *refused;
    pthread_join(producer, &refused);
    assert_int_equal((uintptr_t)refused, 3);
    assert_true(weir_ring_wait_closed(ring, WAIT_MS));
    assert_int_equal((uintptr_t)weir_ring_pop(ring), 1);
    assert_int_equal((uintptr_t)weir_ring_pop(ring), 2);
    assert_null(weir_ring_pop(ring));
    weir_ring_destroy(ring);
}

static void test_raising_is_remembered_once_until_waited_for(void **state) {
    (void)state;
    struct weir_signal signal;
    struct weir_error err = {0};
    assert_int_equal(weir_signal_init(&signal, &err), WEIR_OK);
    assert_false(weir_signal_wait(&signal, 0));
    weir_signal_raise(&signal);
    weir_signal_raise(&signal);
    assert_true(weir_signal_wait(&signal, WAIT_MS));
    assert_false(weir_signal_wait(&signal, 0));
    weir_signal_raise(&signal);
    weir_signal_clear(&signal);
    assert_false(weir_signal_wait(&signal, 0));
    weir_signal_fini(&signal);
}

struct game {
    struct weir_signal serve;
    struct weir_signal answer;
    int lost;
};

static void *answer_all(void *argument) {
    struct game *game = argument;
    for (int i = 0; i < RAISES; i++) {
        game->lost += !weir_signal_wait(&game->serve, WAIT_MS);
        weir_signal_raise(&game->answer);
    }
    return NULL;
}

static void test_no_raise_is_lost_between_two_threads(void **state) {
    (void)state;
    struct game game = {.lost = 0};
    struct weir_error err = {0};
    assert_int_equal(weir_signal_init(&game.serve, &err), WEIR_OK);
    assert_int_equal(weir_signal_init(&game.answer, &err), WEIR_OK);
    pthread_t other;
    assert_int_equal(pthread_create(&other, NULL, answer_all, &game), 0);
    int unanswered = 0;
    for (int i = 0; i < RAISES; i++) {
        weir_signal_raise(&game.serve);
        unanswered += !weir_signal_wait(&game.answer, WAIT_MS);
    }
    pthread_join(other, NULL);
    assert_int_equal(unanswered, 0);
    assert_int_equal(game.lost, 0);
    weir_signal_fini(&game.serve);
    weir_signal_fini(&game.answer);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_full_ring_refuses_and_an_empty_one_gives_nothing),
        cmocka_unit_test(test_a_capacity_out_of_bounds_is_refused),
        cmocka_unit_test(test_items_cross_in_order_while_both_sides_sleep_and_wake),
        cmocka_unit_test(test_closing_wakes_a_waiting_producer_and_keeps_what_is_inside),
        cmocka_unit_test(test_raising_is_remembered_once_until_waited_for),
        cmocka_unit_test(test_no_raise_is_lost_between_two_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
