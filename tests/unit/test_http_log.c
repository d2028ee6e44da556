/* The log of HTTP requests on a disk that forgets: what was told durable is there, in order, whole;
 * a torn end is cut off; damage before it is an error; keys outlive their segments. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/fault.h"
#include "core/file_sim.h"
#include "source/http/http_log.h"
#include "source/http/http_log_internal.h"

struct heard {
    pthread_mutex_t lock;
    pthread_cond_t more;
    uint32_t group;
    uint32_t failed; /* the newest group that was not kept */
    int code;        /* why; WEIR_OK: none was */
    bool any;
};

static void hear(void *context, uint32_t group, int code, const char *why) {
    struct heard *heard = context;
    (void)why;
    pthread_mutex_lock(&heard->lock);
    heard->group = group;
    heard->failed = code != WEIR_OK ? group : heard->failed;
    heard->code = code != WEIR_OK ? code : heard->code;
    heard->any = true;
    pthread_cond_broadcast(&heard->more);
    pthread_mutex_unlock(&heard->lock);
}

static int wait_for(struct heard *heard, uint32_t group) {
    pthread_mutex_lock(&heard->lock);
    while (!heard->any || (int32_t)(heard->group - group) < 0) {
        pthread_cond_wait(&heard->more, &heard->lock);
    }
    int code = (int32_t)(heard->failed - group) >= 0 ? heard->code : WEIR_OK;
    pthread_mutex_unlock(&heard->lock);
    return code;
}

static void init_heard(struct heard *heard) {
    *heard = (struct heard){.code = WEIR_OK};
    pthread_mutex_init(&heard->lock, NULL);
    pthread_cond_init(&heard->more, NULL);
}

static struct weir_http_log *open_log(struct weir_files *files, uint64_t segment_bytes, int *code) {
    struct weir_http_log_options options = {.path = "log",
                                            .files = files,
                                            .segment_bytes = segment_bytes,
                                            .remember_us = INT64_C(3600000000)};
    struct weir_http_log *log = NULL;
    struct weir_error err = {0};
    int rc = weir_http_log_open(&log, &options, &err);
    if (code != NULL) {
        *code = rc;
    } else if (rc != WEIR_OK) {
        fail_msg("open: %s", err.message);
    }
    return log;
}

/* One request of `count` events, each its number as text; synced when it returns WEIR_OK. */
static int put(struct weir_http_log *log, struct heard *heard, uint64_t number, uint32_t count,
               const char *key, struct weir_http_ticket *ticket) {
    char texts[8][24];
    struct weir_http_event events[8];
    for (uint32_t i = 0; i < count; i++) {
        int size =
            snprintf(texts[i], sizeof(texts[i]), "event %llu", (unsigned long long)(number + i));
        events[i] = (struct weir_http_event){(const uint8_t *)texts[i], (uint32_t)size};
    }
    struct weir_http_append append = {.events = events,
                                      .count = count,
                                      .key = key,
                                      .key_size = key != NULL ? strlen(key) : 0,
                                      .body_hash = number,
                                      .time_us = weir_clock_wall_us()};
    struct weir_error err;
    int rc = weir_http_log_append(log, &append, ticket, &err);
    return rc == WEIR_OK && !ticket->durable ? wait_for(heard, ticket->group) : rc;
}

/* Every event from `from` on is its own number; the number after the last. */
static uint64_t read_all(struct weir_http_log *log, uint64_t from) {
    struct weir_error err;
    struct weir_http_frame frame;
    assert_int_equal(weir_http_log_seek(log, from, &err), WEIR_OK);
    uint64_t expected = 0;
    for (;;) {
        assert_int_equal(weir_http_log_read(log, &frame, &err), WEIR_OK);
        if (frame.count == 0) {
            return expected;
        }
        assert_true(expected == 0 || frame.first == expected);
        uint32_t at = 0;
        for (uint32_t i = 0; i < frame.count; i++) {
            char text[24];
            int size =
                snprintf(text, sizeof(text), "event %llu", (unsigned long long)(frame.first + i));
            assert_int_equal(http_load32(frame.payload + at), size);
            assert_memory_equal(frame.payload + at + 4, text, size);
            at += 4 + (uint32_t)size;
        }
        expected = frame.first + frame.count;
        weir_http_log_done(log);
    }
}

static void test_read_back_over_segments_and_restarts_from_any_number(void **state) {
    (void)state;
    struct weir_files_sim *sim = weir_files_sim_create(1);
    struct weir_files *files = weir_files_sim_files(sim);
    uint64_t next = 1;
    for (int round = 0; round < 3; round++) {
        struct heard heard;
        init_heard(&heard);
        struct weir_http_log *log = open_log(files, 1000, NULL);
        weir_http_log_listen(log, hear, &heard);
        for (int i = 0; i < 20; i++) {
            struct weir_http_ticket ticket;
            uint32_t count = (uint32_t)(1 + i % 3);
            assert_int_equal(put(log, &heard, next, count, NULL, &ticket), WEIR_OK);
            assert_int_equal(ticket.first, next);
            next += count;
        }
        for (uint64_t from = 1; from < next; from++) {
            assert_int_equal(read_all(log, from), next);
        }
        struct weir_error err;
        assert_int_equal(weir_http_log_seek(log, next + 1, &err), WEIR_E_NOTFOUND);
        struct weir_http_log_figures figures;
        assert_int_equal(weir_http_log_seek(log, next, &err), WEIR_OK);
        weir_http_log_figures(log, &figures);
        assert_int_equal(figures.unread_bytes, 0);
        weir_http_log_close(log);
    }
    weir_files_sim_destroy(sim);
}

/* Power fails at each changing operation in turn, with every kind of loss the seed brings. */
static void test_a_power_loss_at_any_operation_keeps_what_was_told_durable(void **state) {
    (void)state;
    int torn = 0;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        struct weir_files_sim *sim = weir_files_sim_create(seed);
        struct weir_files *files = weir_files_sim_files(sim);
        struct heard heard;
        init_heard(&heard);
        struct weir_http_log *log = open_log(files, 700, NULL);
        weir_http_log_listen(log, hear, &heard);
        weir_files_sim_crash_after(sim, 1 + seed % 37);
        uint64_t told = 1;
        char key[32];
        for (int i = 0; i < 30; i++) {
            struct weir_http_ticket ticket;
            snprintf(key, sizeof(key), "k%llu", (unsigned long long)told);
            if (put(log, &heard, told, 2, key, &ticket) != WEIR_OK) {
                break;
            }
            told = ticket.first + 2;
        }
        weir_http_log_close(log);
        weir_files_sim_power_loss(sim);
        weir_files_sim_crash_after(sim, 0);
        log = open_log(files, 700, NULL);
        init_heard(&heard);
        weir_http_log_listen(log, hear, &heard);
        uint64_t end = weir_http_log_end(log);
        assert_true(end >= told && end <= told + 2);
        torn += end == told;
        uint64_t found = read_all(log, 1);
        assert_true(found == end || (found == 0 && end == 1));
        struct weir_http_ticket ticket;
        for (uint64_t n = 1; n < told; n += 2) { /* the keys too */
            snprintf(key, sizeof(key), "k%llu", (unsigned long long)n);
            assert_int_equal(put(log, &heard, n, 2, key, &ticket), WEIR_OK);
            assert_true(ticket.repeated && ticket.first == n);
        }
        assert_int_equal(put(log, &heard, end, 1, NULL, &ticket), WEIR_OK);
        assert_int_equal(ticket.first, end);
        assert_int_equal(read_all(log, 1), end + 1);
        weir_http_log_close(log);
        weir_files_sim_destroy(sim);
    }
    assert_true(torn > 20);
}

static void test_each_byte_cut_or_changed_at_the_end_loses_only_the_last_group(void **state) {
    (void)state;
    for (uint64_t cut = 0; cut < 96; cut++) {
        struct weir_files_sim *sim = weir_files_sim_create(1);
        struct weir_files *files = weir_files_sim_files(sim);
        struct heard heard;
        init_heard(&heard);
        struct weir_http_log *log = open_log(files, 0, NULL);
        weir_http_log_listen(log, hear, &heard);
        struct weir_http_ticket ticket;
        assert_int_equal(put(log, &heard, 1, 1, NULL, &ticket), WEIR_OK);
        struct weir_http_log_figures figures;
        weir_http_log_figures(log, &figures);
        uint64_t before = figures.kept_bytes;
        assert_int_equal(put(log, &heard, 2, 1, NULL, &ticket), WEIR_OK);
        weir_http_log_figures(log, &figures);
        weir_http_log_close(log);
        uint64_t size = figures.kept_bytes - before;
        char path[64] = "log/00000000000000000001.log";
        assert_true(weir_files_sim_damage(sim, path, before + cut % size, 0x10));
        log = open_log(files, 0, NULL);
        assert_int_equal(weir_http_log_end(log), 2);
        assert_int_equal(read_all(log, 1), 2);
        weir_http_log_close(log);
        weir_files_sim_destroy(sim);
    }
}

static void test_damage_before_what_was_acknowledged_is_an_error(void **state) {
    (void)state;
    struct weir_files_sim *sim = weir_files_sim_create(1);
    struct weir_files *files = weir_files_sim_files(sim);
    struct heard heard;
    init_heard(&heard);
    struct weir_http_log *log = open_log(files, 0, NULL);
    weir_http_log_listen(log, hear, &heard);
    struct weir_http_ticket ticket;
    for (uint64_t i = 1; i <= 4; i++) {
        assert_int_equal(put(log, &heard, i, 1, NULL, &ticket), WEIR_OK);
    }
    weir_http_log_close(log);
    assert_true(weir_files_sim_damage(sim, "log/00000000000000000001.log", 64 + 70, 1));
    int code;
    assert_null(open_log(files, 0, &code));
    assert_int_equal(code, WEIR_E_CORRUPT);
    weir_files_sim_destroy(sim);
}

static void test_a_full_disk_refuses_and_goes_on_when_there_is_room(void **state) {
    (void)state;
    struct weir_files_sim *sim = weir_files_sim_create(1);
    struct weir_files *files = weir_files_sim_files(sim);
    struct heard heard;
    init_heard(&heard);
    struct weir_http_log *log = open_log(files, 0, NULL);
    weir_http_log_listen(log, hear, &heard);
    struct weir_http_ticket ticket;
    assert_int_equal(put(log, &heard, 1, 1, "a", &ticket), WEIR_OK);
    weir_files_sim_set_space(sim, 0);
    assert_int_not_equal(put(log, &heard, 2, 1, "b", &ticket), WEIR_OK);
    weir_files_sim_set_space(sim, UINT64_MAX);
    assert_int_equal(put(log, &heard, 2, 1, "b", &ticket), WEIR_OK);
    assert_false(ticket.repeated);
    assert_int_equal(ticket.first, 2);
    assert_int_equal(read_all(log, 1), 3);
    weir_http_log_close(log);
    log = open_log(files, 0, NULL);
    assert_int_equal(weir_http_log_end(log), 3);
    weir_http_log_close(log);
    weir_files_sim_destroy(sim);
}

static void test_after_a_failed_sync_nothing_is_taken_until_it_is_opened_anew(void **state) {
    (void)state;
    struct weir_files_sim *sim = weir_files_sim_create(1);
    struct weir_files *files = weir_files_sim_files(sim);
    struct heard heard;
    init_heard(&heard);
    struct weir_http_log *log = open_log(files, 0, NULL);
    weir_http_log_listen(log, hear, &heard);
    struct weir_http_ticket ticket;
    assert_int_equal(put(log, &heard, 1, 1, NULL, &ticket), WEIR_OK);
    weir_files_sim_fail_sync(sim, 1);
    assert_int_not_equal(put(log, &heard, 2, 1, NULL, &ticket), WEIR_OK);
    assert_int_equal(put(log, &heard, 2, 1, NULL, &ticket), WEIR_E_CLOSED);
    struct weir_http_frame frame;
    struct weir_error err;
    assert_int_equal(weir_http_log_seek(log, 2, &err), WEIR_OK);
    assert_int_equal(weir_http_log_read(log, &frame, &err), WEIR_E_IO);
    weir_http_log_close(log);
    weir_files_sim_destroy(sim);
}

static void test_old_segments_go_and_their_keys_stay(void **state) {
    (void)state;
    struct weir_files_sim *sim = weir_files_sim_create(1);
    struct weir_files *files = weir_files_sim_files(sim);
    struct heard heard;
    init_heard(&heard);
    struct weir_http_log *log = open_log(files, 400, NULL);
    weir_http_log_listen(log, hear, &heard);
    struct weir_http_ticket ticket;
    char key[32];
    for (uint64_t i = 1; i <= 30; i++) {
        snprintf(key, sizeof(key), "k%llu", (unsigned long long)i);
        assert_int_equal(put(log, &heard, i, 1, key, &ticket), WEIR_OK);
    }
    weir_http_log_committed(log, 21);
    int64_t give_up = weir_clock_mono_ns() + INT64_C(20000000000);
    while (weir_http_log_first(log) < 15 && weir_clock_mono_ns() < give_up) {
    }
    weir_http_log_close(log);
    log = open_log(files, 400, NULL);
    init_heard(&heard);
    weir_http_log_listen(log, hear, &heard);
    uint64_t first = weir_http_log_first(log);
    assert_true(first > 14 && first <= 21);
    for (uint64_t i = 1; i <= 30; i++) {
        snprintf(key, sizeof(key), "k%llu", (unsigned long long)i);
        assert_int_equal(put(log, &heard, i, 1, key, &ticket), WEIR_OK);
        assert_true(ticket.repeated && ticket.first == i);
    }
    assert_int_equal(put(log, &heard, 99, 1, "k3", &ticket), WEIR_E_CONFLICT);
    struct weir_error err;
    assert_int_equal(weir_http_log_seek(log, first - 1, &err), WEIR_E_NOTFOUND);
    assert_int_equal(read_all(log, first), 31);
    weir_http_log_close(log);
    weir_files_sim_destroy(sim);
}

static void test_keys_expire_and_the_table_has_an_end(void **state) {
    (void)state;
    struct http_keys keys = {.max = 100, .remember_us = 1000};
    for (uint64_t i = 1; i <= 100; i++) {
        assert_true(http_keys_put(&keys, &(struct http_key){.hash = {i, 0}, .first = i}, 0));
    }
    struct http_key more = {.hash = {1000, 0}, .first = 1000, .time_us = 10};
    assert_false(http_keys_put(&keys, &more, 10));
    assert_non_null(http_keys_find(&keys, (uint64_t[2]){7, 0}, 999));
    assert_null(http_keys_find(&keys, (uint64_t[2]){7, 0}, 1000));
    more.time_us = 5000000;
    assert_true(http_keys_put(&keys, &more, 5000000));
    assert_int_equal(keys.used, 1);
    http_keys_forget(&keys, 1000);
    assert_null(http_keys_find(&keys, more.hash, 5000000));
    http_keys_fini(&keys);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_back_over_segments_and_restarts_from_any_number),
        cmocka_unit_test(test_a_power_loss_at_any_operation_keeps_what_was_told_durable),
        cmocka_unit_test(test_each_byte_cut_or_changed_at_the_end_loses_only_the_last_group),
        cmocka_unit_test(test_damage_before_what_was_acknowledged_is_an_error),
        cmocka_unit_test(test_a_full_disk_refuses_and_goes_on_when_there_is_room),
        cmocka_unit_test(test_after_a_failed_sync_nothing_is_taken_until_it_is_opened_anew),
        cmocka_unit_test(test_old_segments_go_and_their_keys_stay),
        cmocka_unit_test(test_keys_expire_and_the_table_has_an_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
