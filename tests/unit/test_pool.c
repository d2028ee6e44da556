/* The buffer pool: classes, cap, reuse, threads. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/pool.h"

static void buffers_are_aligned_large_enough_and_readable_past_the_end(void **state) {
    (void)state;
    struct weir_pool *pool = weir_pool_create(64 << 20);
    static const size_t sizes[] = {0,    1,    63,   64,    1023,  1024,
                                   1025, 2048, 4097, 65536, 65537, 5 << 20};
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint8_t *buffer = weir_pool_take(pool, sizes[i]);
        assert_non_null(buffer);
        assert_int_equal((uintptr_t)buffer % 64, 0);
        size_t usable = weir_pool_usable(buffer);
        assert_true(usable >= sizes[i] && usable >= 1024);
        assert_true(usable <= 1024 || usable < sizes[i] * 2);
        assert_int_equal(usable & (usable - 1), 0);
        assert_int_equal(weir_pool_used_bytes(pool), usable);
        memset(buffer, 0x55, usable);
        for (size_t k = 0; k < 64; k++) { /* the slack: AddressSanitizer watches */
            sum += *(volatile uint8_t *)(buffer + usable + k);
        }
        weir_pool_give(pool, buffer);
        assert_int_equal(weir_pool_used_bytes(pool), 0);
    }
    assert_true(sum <= 64 * 12 * 255);
    weir_pool_destroy(pool);
}

static void a_buffer_given_back_is_handed_out_again(void **state) {
    (void)state;
    struct weir_pool *pool = weir_pool_create(1 << 20);
    void *first = weir_pool_take(pool, 3000);
    weir_pool_give(pool, first);
    void *other_class = weir_pool_take(pool, 5000);
    assert_ptr_not_equal(other_class, first);
    assert_ptr_equal(weir_pool_take(pool, 2049), first);
    assert_int_equal(weir_pool_made_count(pool), 2);
    weir_pool_give(pool, first);
    weir_pool_give(pool, other_class);
    weir_pool_give(pool, NULL);
    assert_int_equal(weir_pool_used_bytes(pool), 0);
    weir_pool_destroy(pool);
    weir_pool_destroy(NULL);
}

static void the_cap_counts_what_is_handed_out(void **state) {
    (void)state;
    struct weir_pool *pool = weir_pool_create(64 << 10);
    void *buffers[64];
    for (int i = 0; i < 64; i++) {
        buffers[i] = weir_pool_take(pool, 1000);
        assert_non_null(buffers[i]);
    }
    assert_null(weir_pool_take(pool, 1));
    assert_int_equal(weir_pool_used_bytes(pool), 64 << 10);
    weir_pool_give(pool, buffers[7]);
    buffers[7] = weir_pool_take(pool, 1);
    assert_non_null(buffers[7]);
    for (int i = 0; i < 64; i++) {
        weir_pool_give(pool, buffers[i]);
    }
    weir_pool_destroy(pool);
}

static void sizes_no_pool_can_hold_are_refused(void **state) {
    (void)state;
    struct weir_pool *pool = weir_pool_create(SIZE_MAX);
    assert_null(weir_pool_take(pool, SIZE_MAX));
    assert_null(weir_pool_take(pool, (SIZE_MAX >> 1) + 1));
    assert_null(weir_pool_take(pool, ((size_t)1 << 35) + 1));
    assert_int_equal(weir_pool_used_bytes(pool), 0);
    assert_int_equal(weir_pool_made_count(pool), 0);
    weir_pool_destroy(pool);
}

static void free_buffers_of_other_classes_make_room(void **state) {
    (void)state;
    struct weir_pool *pool = weir_pool_create(64 << 10);
    void *small[64];
    for (int i = 0; i < 64; i++) {
        small[i] = weir_pool_take(pool, 1024);
    }
    for (int i = 0; i < 64; i++) {
        weir_pool_give(pool, small[i]);
    }
    void *large = weir_pool_take(pool, 64 << 10); /* all the small ones must go */
    assert_non_null(large);
    assert_null(weir_pool_take(pool, 1));
    weir_pool_give(pool, large);
    large = weir_pool_take(pool, 1); /* and the large one for a small one */
    assert_non_null(large);
    weir_pool_give(pool, large);
    weir_pool_destroy(pool);
}

static void a_take_that_cannot_succeed_keeps_the_free_buffers(void **state) {
    (void)state;
    struct weir_pool *pool = weir_pool_create(64 << 10);
    void *held = weir_pool_take(pool, 16 << 10);
    void *spare = weir_pool_take(pool, 32 << 10);
    weir_pool_give(pool, spare);
    assert_null(weir_pool_take(pool, 64 << 10));
    assert_null(weir_pool_take(pool, 1 << 20));
    assert_ptr_equal(weir_pool_take(pool, 32 << 10), spare);
    assert_int_equal(weir_pool_made_count(pool), 2);
    weir_pool_give(pool, spare);
    weir_pool_give(pool, held);
    weir_pool_destroy(pool);
}

static void steady_use_does_not_reach_malloc(void **state) {
    (void)state;
    struct weir_pool *pool = weir_pool_create(8 << 20);
    uint64_t mallocs = 0;
    for (int round = 0; round < 1000; round++) {
        void *buffers[32];
        uint64_t random = 99; /* the same sizes in every round */
        for (int i = 0; i < 32; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            buffers[i] = weir_pool_take(pool, random >> 48);
            assert_non_null(buffers[i]);
        }
        for (int i = 0; i < 32; i++) {
            weir_pool_give(pool, buffers[(i * 7) % 32]);
        }
        mallocs = round == 0 ? weir_pool_made_count(pool) : mallocs;
    }
    assert_int_equal(weir_pool_made_count(pool), mallocs);
    assert_true(mallocs <= 32 + 32 / 4);
    weir_pool_destroy(pool);
}

enum { THREADS = 4, ROUNDS = 5000, KEPT = 16 };

struct worker {
    struct weir_pool *pool;
    uint64_t random;
    int damaged;
};

/* Nobody else writes into a buffer while it is ours. */
static void *work(void *argument) {
    struct worker *worker = argument;
    uint8_t *kept[KEPT] = {0};
    for (int i = 0; i < ROUNDS; i++) {
        worker->random = worker->random * 6364136223846793005u + 1442695040888963407u;
        int at = (int)(worker->random >> 60);
        uint8_t mark = (uint8_t)(worker->random >> 50);
        if (kept[at] != NULL) {
            worker->damaged += kept[at][0] != kept[at][1023];
            weir_pool_give(worker->pool, kept[at]);
        }
        kept[at] = weir_pool_take(worker->pool, worker->random >> 51 & 8191);
        if (kept[at] != NULL) {
            memset(kept[at], mark, 1024);
        }
    }
    for (int i = 0; i < KEPT; i++) {
        weir_pool_give(worker->pool, kept[i]);
    }
    return NULL;
}

static void threads_share_a_pool_at_its_cap(void **state) {
    (void)state;
    struct weir_pool *pool = weir_pool_create(256 << 10); /* less than they ask for */
    pthread_t threads[THREADS];
    struct worker workers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){pool, (uint64_t)i + 1, 0};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(workers[i].damaged, 0);
    }
    assert_int_equal(weir_pool_used_bytes(pool), 0);
    void *all = weir_pool_take(pool, 256 << 10); /* nothing was lost on the way */
    assert_non_null(all);
    weir_pool_give(pool, all);
    weir_pool_destroy(pool);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buffers_are_aligned_large_enough_and_readable_past_the_end),
        cmocka_unit_test(a_buffer_given_back_is_handed_out_again),
        cmocka_unit_test(the_cap_counts_what_is_handed_out),
        cmocka_unit_test(sizes_no_pool_can_hold_are_refused),
        cmocka_unit_test(free_buffers_of_other_classes_make_room),
        cmocka_unit_test(a_take_that_cannot_succeed_keeps_the_free_buffers),
        cmocka_unit_test(steady_use_does_not_reach_malloc),
        cmocka_unit_test(threads_share_a_pool_at_its_cap),
    };
    return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
