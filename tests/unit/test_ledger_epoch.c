/* Epochs gathered from several threads and written in sequence. Built with TSan as well. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "commit/epoch.h"
#include "commit/recover.h"
#include "core/fault.h"
#include "core/histogram.h"
#include "core/log.h"

static char root[64];
static int directories;

static struct weir_ledger *new_ledger(void) {
    char path[128];
    struct weir_ledger *ledger = NULL;
    struct weir_error err = {0};
    snprintf(path, sizeof path, "%s/ledger%d", root, directories++);
    struct weir_ledger_options options = {.path = path, .create = true, .segment_bytes = 65536};
    if (weir_ledger_open(&options, &ledger, &err) != WEIR_OK) {
        fail_msg("%s", err.message);
    }
    return ledger;
}

static _Atomic int live_blobs;

static void release_blob(void *owner) {
    atomic_fetch_sub(&live_blobs, 1);
    free(owner);
}

static struct weir_blob make_blob(uint64_t epoch, uint32_t sink) {
    char *text = malloc(64);
    assert_non_null(text);
    atomic_fetch_add(&live_blobs, 1);
    int size = snprintf(text, 64, "effects of %llu for %u", (unsigned long long)epoch, sink);
    return (struct weir_blob){text, (size_t)size, release_blob, text};
}

/* A sink: posts its effects for each epoch it is told of, on its own thread, and counts what comes
 * back durable. */
struct sink {
    pthread_t thread;
    struct weir_commit *commit;
    uint32_t index;
    char name[16];
    pthread_mutex_t mutex;
    pthread_cond_t wake;
    uint64_t asked; /* the loop wants effects up to here */
    uint64_t posted;
    bool stop;
    bool done_at_once;
    uint64_t durable; /* newest epoch told */
    uint64_t wrong;
};

static void sink_durable(void *context, uint64_t epoch, struct weir_effect *effects, size_t count) {
    struct sink *sink = context;
    char want[64];
    int size = snprintf(want, sizeof want, "effects of %llu for %u", (unsigned long long)epoch,
                        sink->index);
    bool ok = epoch == sink->durable + 1 && count == 1 && effects[0].kind == 9 &&
              effects[0].body.size == (size_t)size &&
              memcmp(effects[0].body.data, want, (size_t)size) == 0;
    sink->wrong += !ok;
    sink->durable = epoch;
    for (size_t i = 0; i < count; i++) {
        weir_blob_release(&effects[i].body);
    }
    if (sink->done_at_once) {
        weir_commit_sink_done(sink->commit, sink->index, epoch);
    }
}

static void *sink_main(void *context) {
    struct sink *sink = context;
    pthread_mutex_lock(&sink->mutex);
    for (;;) {
        while (!sink->stop && sink->posted == sink->asked) {
            pthread_cond_wait(&sink->wake, &sink->mutex);
        }
        if (sink->stop) {
            break;
        }
        uint64_t epoch = ++sink->posted;
        pthread_mutex_unlock(&sink->mutex);
        struct weir_error err = {0};
        struct weir_blob body = make_blob(epoch, sink->index);
        int rc = weir_commit_post_effect(sink->commit, epoch, sink->index, 9, &body, &err);
        if (rc == WEIR_OK) {
            rc = weir_commit_effects_complete(sink->commit, epoch, sink->index, &err);
        }
        pthread_mutex_lock(&sink->mutex);
    }
    pthread_mutex_unlock(&sink->mutex);
    return NULL;
}

static void sink_ask(struct sink *sink, uint64_t epoch) {
    pthread_mutex_lock(&sink->mutex);
    sink->asked = epoch;
    pthread_cond_signal(&sink->wake);
    pthread_mutex_unlock(&sink->mutex);
}

static void sink_start(struct sink *sink, struct weir_commit *commit, int number) {
    struct weir_error err = {0};
    memset(sink, 0, sizeof *sink);
    snprintf(sink->name, sizeof sink->name, "sink%d", number);
    sink->commit = commit;
    sink->done_at_once = true;
    pthread_mutex_init(&sink->mutex, NULL);
    pthread_cond_init(&sink->wake, NULL);
    struct weir_commit_sink config = {.name = sink->name, .context = sink, .durable = sink_durable};
    assert_int_equal(weir_commit_add_sink(commit, &config, &sink->index, &err), WEIR_OK);
    assert_int_equal(pthread_create(&sink->thread, NULL, sink_main, sink), 0);
}

static void sink_stop(struct sink *sink) {
    pthread_mutex_lock(&sink->mutex);
    sink->stop = true;
    pthread_cond_signal(&sink->wake);
    pthread_mutex_unlock(&sink->mutex);
    pthread_join(sink->thread, NULL);
}

static int check_record(void *context, const struct weir_record_view *record,
                        struct weir_error *err) {
    uint64_t *seen = context;
    struct weir_section_iterator it = weir_section_iterate(record->effects);
    struct weir_named_blob effect;
    int effects = 0;
    while (weir_effect_next(&it, &effect)) {
        effects++;
    }
    (*seen)++;
    return record->epoch == *seen && effects == 3
               ? WEIR_OK
               : weir_error_set(err, WEIR_E_BUG, "record %llu has %d effects",
                                (unsigned long long)record->epoch, effects);
}

static void
epochs_from_many_threads_are_written_in_sequence_and_handed_to_every_sink(void **unused) {
    (void)unused;
    enum { SINKS = 3, EPOCHS = 300 };
    struct weir_error err = {0};
    struct weir_commit *commit = NULL;
    struct sink sinks[SINKS];
    struct weir_ledger *ledger = new_ledger();
    struct weir_commit_options options = {.ledger = ledger};
    assert_int_equal(weir_commit_create(&options, &commit, &err), WEIR_OK);
    for (int i = 0; i < SINKS; i++) {
        sink_start(&sinks[i], commit, i);
    }
    assert_int_equal(weir_commit_start(commit, &err), WEIR_OK);
    for (uint64_t e = 1; e <= EPOCHS; e++) {
        if (!weir_commit_may_seal(commit)) {
            assert_int_equal(weir_commit_wait(commit, e - 2, 60000, &err), WEIR_OK);
        }
        assert_true(weir_commit_may_seal(commit));
        assert_int_equal(weir_commit_open(commit, e, (int64_t)e, &err), WEIR_OK);
        for (int i = 0; i < SINKS; i++) {
            sink_ask(&sinks[i], e);
        }
        struct weir_record *record = weir_commit_record(commit, e);
        assert_non_null(record);
        struct weir_blob image = make_blob(e, 99);
        assert_int_equal(weir_record_take_image(record, "t/c", 3, &image, &err), WEIR_OK);
        assert_int_equal(weir_commit_complete(commit, e, &err), WEIR_OK);
        assert_null(weir_commit_record(commit, e));
    }
    assert_int_equal(weir_commit_wait(commit, EPOCHS, 60000, &err), WEIR_OK);
    for (int i = 0; i < SINKS; i++) {
        sink_stop(&sinks[i]);
    }
    weir_commit_stop(commit);
    struct weir_commit_status status;
    weir_commit_status(commit, &status);
    assert_int_equal(status.durable, EPOCHS);
    assert_int_equal(status.record_syncs, EPOCHS); /* one sync an epoch */
    assert_int_equal(status.lag_bytes, 0);
    assert_true(status.latency_p50_us > 0 && status.latency_p50_us <= status.latency_p99_us &&
                status.latency_p99_us <= status.latency_max_us);
    weir_commit_destroy(commit);
    for (int i = 0; i < SINKS; i++) {
        assert_int_equal(sinks[i].wrong, 0);
        assert_int_equal(sinks[i].durable, EPOCHS);
    }
    assert_int_equal(atomic_load(&live_blobs), 0);

    uint64_t seen = 0;
    struct weir_recovery *recovery = NULL;
    struct weir_recovery_hooks hooks = {.context = &seen, .apply = check_record};
    if (weir_recover(ledger, NULL, &hooks, &recovery, &err) != WEIR_OK) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(seen, EPOCHS);
    struct weir_keyed_entry marker;
    assert_true(weir_recovery_find(recovery, WEIR_SECTION_MARKERS, "sink1", 5, &marker));
    assert_in_range(marker.number, EPOCHS - 2, EPOCHS - 1);
    weir_recovery_destroy(recovery);
    weir_ledger_close(ledger);
}

static void at_most_two_sealed_epochs_wait(void **unused) {
    (void)unused;
    struct weir_error err = {0};
    struct weir_commit *commit = NULL;
    struct weir_ledger *ledger = new_ledger();
    struct weir_commit_options options = {.ledger = ledger};
    assert_int_equal(weir_commit_create(&options, &commit, &err), WEIR_OK);
    assert_int_equal(weir_commit_start(commit, &err), WEIR_OK);
    assert_int_equal(weir_commit_open(commit, 1, 0, &err), WEIR_OK);
    assert_int_equal(weir_commit_open(commit, 3, 0, &err), WEIR_E_BUG);
    assert_true(weir_commit_may_seal(commit));
    assert_int_equal(weir_commit_open(commit, 2, 0, &err), WEIR_OK);
    assert_false(weir_commit_may_seal(commit));
    assert_int_equal(weir_commit_open(commit, 3, 0, &err), WEIR_E_BUG);
    /* 2 is complete first and must wait for 1. */
    assert_int_equal(weir_commit_complete(commit, 2, &err), WEIR_OK);
    assert_int_equal(weir_commit_wait(commit, 1, 20, &err), WEIR_E_LIMIT);
    assert_int_equal(weir_commit_complete(commit, 1, &err), WEIR_OK);
    assert_int_equal(weir_commit_wait(commit, 2, 60000, &err), WEIR_OK);
    assert_true(weir_commit_may_seal(commit));
    weir_commit_destroy(commit);
    assert_int_equal(ledger->last, 2);
    weir_ledger_close(ledger);
}

static void a_lagging_sink_holds_the_loop_back_until_it_is_done(void **unused) {
    (void)unused;
    struct weir_error err = {0};
    struct weir_commit *commit = NULL;
    struct sink sink;
    struct weir_ledger *ledger = new_ledger();
    struct weir_commit_options options = {.ledger = ledger, .max_lag_bytes = 10};
    assert_int_equal(weir_commit_create(&options, &commit, &err), WEIR_OK);
    sink_start(&sink, commit, 0);
    sink.done_at_once = false;
    assert_int_equal(weir_commit_start(commit, &err), WEIR_OK);
    assert_int_equal(weir_commit_open(commit, 1, 0, &err), WEIR_OK);
    sink_ask(&sink, 1);
    assert_int_equal(weir_commit_complete(commit, 1, &err), WEIR_OK);
    assert_int_equal(weir_commit_wait(commit, 1, 60000, &err), WEIR_OK);
    assert_false(weir_commit_may_seal(commit));
    weir_commit_sink_done(commit, sink.index, 1);
    assert_true(weir_commit_may_seal(commit));
    sink_stop(&sink);
    weir_commit_destroy(commit);
    weir_ledger_close(ledger);
}

static int note_marker(void *context, const struct weir_record_view *record,
                       struct weir_error *err) {
    int64_t *markers = context; /* by epoch */
    struct weir_section_iterator it = weir_section_iterate(record->keyed[WEIR_SECTION_MARKERS]);
    struct weir_keyed_entry entry;
    (void)err;
    while (weir_keyed_next(&it, &entry)) {
        if (entry.key.size == 5 && memcmp(entry.key.data, "sink0", 5) == 0) {
            markers[record->epoch] = entry.number;
        }
    }
    return WEIR_OK;
}

/* Recovery from a snapshot reads no record before its begin: the one that said a marker may lie
 * there, and may have been written after the snapshot took its copy of the markers. */
static void the_record_of_a_snapshots_end_says_every_marker(void **unused) {
    (void)unused;
    struct weir_error err = {0};
    struct weir_commit *commit = NULL;
    struct sink sink;
    struct weir_record *state = NULL;
    struct weir_ledger *ledger = new_ledger();
    struct weir_commit_options options = {.ledger = ledger};
    assert_int_equal(weir_commit_create(&options, &commit, &err), WEIR_OK);
    sink_start(&sink, commit, 0);
    sink.done_at_once = false;
    assert_int_equal(weir_commit_start(commit, &err), WEIR_OK);
    for (uint64_t e = 1; e <= 4; e++) {
        assert_int_equal(weir_commit_open(commit, e, 0, &err), WEIR_OK);
        sink_ask(&sink, e);
        if (e == 2) { /* the snapshot's last slice, in epoch 3: record 2 is not written yet */
            assert_int_equal(weir_record_create(3, NULL, &state, &err), WEIR_OK);
            assert_int_equal(weir_commit_put_markers(commit, 3, state, &err), WEIR_OK);
            weir_record_destroy(state);
        }
        assert_int_equal(weir_commit_complete(commit, e, &err), WEIR_OK);
        assert_int_equal(weir_commit_wait(commit, e, 60000, &err), WEIR_OK);
        if (e == 1) {
            weir_commit_sink_done(commit, sink.index, 1);
        }
    }
    sink_stop(&sink);
    weir_commit_destroy(commit);
    int64_t markers[5] = {-1, -1, -1, -1, -1};
    struct weir_recovery *recovery = NULL;
    struct weir_recovery_hooks hooks = {.context = markers, .apply = note_marker};
    assert_int_equal(weir_recover(ledger, NULL, &hooks, &recovery, &err), WEIR_OK);
    assert_int_equal(markers[1], 0);
    assert_int_equal(markers[2], 1);
    assert_int_equal(markers[3], 1);  /* said again */
    assert_int_equal(markers[4], -1); /* nothing new */
    weir_recovery_destroy(recovery);
    weir_ledger_close(ledger);
}

static struct weir_error told;
static int told_times;
static void failed_hook(void *context, const struct weir_error *err) {
    (void)context;
    told = *err;
    told_times++;
}

static void a_failed_write_is_final_and_told_once(void **unused) {
    (void)unused;
    struct weir_error err = {0};
    struct weir_commit *commit = NULL;
    struct weir_ledger *ledger = new_ledger();
    struct weir_commit_options options = {.ledger = ledger, .failed = failed_hook};
    assert_int_equal(weir_commit_create(&options, &commit, &err), WEIR_OK);
    weir_fault_arm(WEIR_FAULT_ledger_before_sync,
                   weir_fault_hits(WEIR_FAULT_ledger_before_sync) + 1, false);
    assert_int_equal(weir_commit_start(commit, &err), WEIR_OK);
    assert_int_equal(weir_commit_open(commit, 1, 0, &err), WEIR_OK);
    assert_int_equal(weir_commit_complete(commit, 1, &err), WEIR_OK);
    assert_int_equal(weir_commit_wait(commit, 1, 60000, &err), WEIR_E_FAULT);
    assert_non_null(strstr(err.message, "commit epoch 1"));
    assert_false(weir_commit_may_seal(commit));
    assert_int_equal(weir_commit_open(commit, 2, 0, &err), WEIR_E_FAULT);
    struct weir_blob body = make_blob(1, 0);
    assert_int_equal(weir_commit_post_effect(commit, 1, 0, 0, &body, &err), WEIR_E_FAULT);
    assert_int_equal(atomic_load(&live_blobs), 0);
    weir_commit_destroy(commit);
    assert_int_equal(told_times, 1);
    assert_int_equal(told.code, WEIR_E_FAULT);
    weir_ledger_close(ledger);
}

static void stopping_writes_complete_epochs_and_drops_the_others(void **unused) {
    (void)unused;
    struct weir_error err = {0};
    struct weir_commit *commit = NULL;
    struct weir_ledger *ledger = new_ledger();
    struct weir_commit_options options = {.ledger = ledger};
    assert_int_equal(weir_commit_create(&options, &commit, &err), WEIR_OK);
    assert_int_equal(weir_commit_start(commit, &err), WEIR_OK);
    assert_int_equal(weir_commit_open(commit, 1, 0, &err), WEIR_OK);
    assert_int_equal(weir_commit_open(commit, 2, 0, &err), WEIR_OK);
    struct weir_blob image = make_blob(2, 0);
    assert_int_equal(weir_record_take_image(weir_commit_record(commit, 2), "t", 1, &image, &err),
                     WEIR_OK);
    assert_int_equal(weir_commit_complete(commit, 1, &err), WEIR_OK);
    weir_commit_stop(commit);
    assert_int_equal(weir_commit_wait(commit, 1, 0, &err), WEIR_OK);
    assert_int_equal(weir_commit_wait(commit, 2, -1, &err), WEIR_E_CLOSED);
    assert_int_equal(weir_commit_open(commit, 3, 0, &err), WEIR_E_CLOSED);
    weir_commit_destroy(commit);
    assert_int_equal(ledger->last, 1);
    assert_int_equal(atomic_load(&live_blobs), 0);
    weir_ledger_close(ledger);
}

static void the_histogram_is_right_within_an_eighth(void **unused) {
    (void)unused;
    static struct weir_histogram histogram;
    for (uint64_t v = 0; v < 100000; v++) {
        unsigned bucket = weir_histogram_bucket(v);
        assert_true(weir_histogram_limit(bucket) >= v);
        assert_true(bucket == 0 || weir_histogram_limit(bucket - 1) < v);
        assert_true((double)weir_histogram_limit(bucket) <= (double)v * 1.125 + 1);
    }
    assert_true(weir_histogram_bucket(UINT64_MAX) < WEIR_HISTOGRAM_BUCKETS);
    for (uint64_t v = 1; v <= 1000; v++) {
        weir_histogram_add(&histogram, v);
    }
    assert_in_range(weir_histogram_percentile(&histogram, 50), 500, 563);
    assert_in_range(weir_histogram_percentile(&histogram, 99), 990, 1000);
}

int main(void) {
    snprintf(root, sizeof root, "test_epoch.XXXXXX");
    if (mkdtemp(root) == NULL) {
        return 1;
    }
    weir_log_set_level(WEIR_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(epochs_from_many_threads_are_written_in_sequence_and_handed_to_every_sink),
        cmocka_unit_test(at_most_two_sealed_epochs_wait),
        cmocka_unit_test(a_lagging_sink_holds_the_loop_back_until_it_is_done),
        cmocka_unit_test(the_record_of_a_snapshots_end_says_every_marker),
        cmocka_unit_test(a_failed_write_is_final_and_told_once),
        cmocka_unit_test(stopping_writes_complete_epochs_and_drops_the_others),
        cmocka_unit_test(the_histogram_is_right_within_an_eighth),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command) == 0 ? failed : 1;
}
