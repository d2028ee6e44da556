/* One mutex guards everything but a record being built (the loop's until complete, then the
 * committer's) and the ledger (the committer's). The committer sleeps on `work`, waiters on
 * `progress`. Sinks and hooks are called without the mutex. */
#include "commit/epoch.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/clock.h"
#include "core/histogram.h"
#include "core/log.h"
#include "core/thread.h"

#define DEFAULT_LAG_BYTES ((uint64_t)256 << 20)
#define MAX_EFFECTS ((size_t)1 << 16)
#define MAX_LAG_EPOCHS 65536u

struct effects {
    struct weir_effect *list;
    size_t count;
    size_t capacity;
};

struct pending {
    uint64_t epoch; /* 0 = free */
    int64_t sealed_at_us;
    int64_t opened_ns;
    struct weir_record *record;
    bool loop_complete;
    uint64_t sinks_left; /* bit per sink */
    uint64_t effect_bytes;
    struct effects effects[WEIR_COMMIT_MAX_SINKS];
};

/* Durable epochs a sink has not done yet: a ring of byte counts. */
struct owed {
    uint64_t epoch;
    uint64_t bytes;
    int64_t since_ns;
    bool effects; /* the sink has something to apply, so its own marker moves */
};

struct sink {
    struct weir_commit_sink sink;
    char *name;
    uint64_t marker;         /* everything up to here is done */
    uint64_t marker_written; /* as the last record says */
    uint64_t held;           /* newest of these with effects: what the sink itself holds */
    uint64_t held_written;
    struct owed *owed;
    size_t owed_capacity;
    size_t owed_head;
    size_t owed_count;
};

struct weir_commit {
    struct weir_commit_options options;
    uint64_t repeat_at; /* the record of this epoch says every marker */
    pthread_mutex_t mutex;
    pthread_cond_t work;
    pthread_cond_t progress;
    pthread_t thread;
    bool started;
    bool stopping; /* nothing new is sealed */
    bool joining;
    bool stopped;              /* the thread has ended */
    struct weir_error failure; /* code 0 = none */
    struct pending pending[WEIR_COMMIT_MAX_PENDING];
    uint64_t sealed;
    uint64_t durable;
    uint64_t lag_bytes;
    uint64_t snapshot_begin;
    uint64_t records;
    uint64_t record_syncs;
    int64_t newest_sealed_at_us;
    struct weir_histogram latency;
    struct sink sinks[WEIR_COMMIT_MAX_SINKS];
    uint32_t sink_count;
};

static struct pending *find_pending(struct weir_commit *commit, uint64_t epoch) {
    for (int i = 0; i < WEIR_COMMIT_MAX_PENDING; i++) {
        if (epoch != 0 && commit->pending[i].epoch == epoch) {
            return &commit->pending[i];
        }
    }
    return NULL;
}

static void pending_fini(struct weir_commit *commit, struct pending *pending) {
    weir_record_destroy(pending->record);
    for (uint32_t s = 0; s < commit->sink_count; s++) {
        for (size_t i = 0; i < pending->effects[s].count; i++) {
            weir_blob_release(&pending->effects[s].list[i].body);
        }
        free(pending->effects[s].list);
    }
    memset(pending, 0, sizeof *pending);
}

/* With the mutex held. The first failure stays. */
static void set_failure(struct weir_commit *commit, const struct weir_error *cause) {
    if (commit->failure.code == WEIR_OK) {
        commit->failure = *cause;
        if (commit->failure.code == WEIR_OK) {
            commit->failure.code = WEIR_E_BUG;
        }
    }
    pthread_cond_broadcast(&commit->work);
    pthread_cond_broadcast(&commit->progress);
}

static int answer_failure(struct weir_commit *commit, struct weir_error *err) {
    if (commit->failure.code != WEIR_OK && err != NULL) {
        *err = commit->failure;
    }
    return commit->failure.code;
}

int weir_commit_create(const struct weir_commit_options *options, struct weir_commit **out,
                       struct weir_error *err) {
    *out = NULL;
    struct weir_commit *commit = calloc(1, sizeof *commit);
    if (commit == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "commit: out of memory");
    }
    pthread_condattr_t attributes;
    commit->options = *options;
    if (commit->options.max_lag_bytes == 0) {
        commit->options.max_lag_bytes = DEFAULT_LAG_BYTES;
    }
    if (commit->options.max_epoch_bytes == 0 ||
        commit->options.max_epoch_bytes > options->ledger->max_record_bytes) {
        commit->options.max_epoch_bytes = options->ledger->max_record_bytes;
    }
    commit->sealed = options->ledger->last;
    commit->durable = options->ledger->last;
    commit->snapshot_begin = 1;
    commit->newest_sealed_at_us = INT64_MIN;
    pthread_mutex_init(&commit->mutex, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&commit->work, &attributes);
    pthread_cond_init(&commit->progress, &attributes);
    pthread_condattr_destroy(&attributes);
    *out = commit;
    return WEIR_OK;
}

int weir_commit_add_sink(struct weir_commit *commit, const struct weir_commit_sink *sink,
                         uint32_t *index, struct weir_error *err) {
    if (commit->started || commit->sink_count == WEIR_COMMIT_MAX_SINKS) {
        return weir_error_set(err, commit->started ? WEIR_E_BUG : WEIR_E_LIMIT, "sink %s: %s",
                              sink->name,
                              commit->started ? "added after the start"
                                              : "a pipeline has at most 64 sinks: split it");
    }
    struct sink *slot = &commit->sinks[commit->sink_count];
    *slot = (struct sink){
        .sink = *sink, .name = strdup(sink->name), .marker = sink->marker, .held = sink->held};
    slot->owed = calloc(16, sizeof *slot->owed);
    slot->owed_capacity = 16;
    if (slot->name == NULL || slot->owed == NULL) {
        free(slot->name);
        free(slot->owed);
        return weir_error_set(err, WEIR_E_NOMEM, "sink %s: out of memory", sink->name);
    }
    slot->marker_written = UINT64_MAX; /* the first record repeats it in any case */
    slot->held_written = UINT64_MAX;
    *index = commit->sink_count++;
    return WEIR_OK;
}

bool weir_commit_may_seal(struct weir_commit *commit) {
    pthread_mutex_lock(&commit->mutex);
    bool lagging = commit->lag_bytes > commit->options.max_lag_bytes;
    for (uint32_t s = 0; s < commit->sink_count; s++) {
        lagging = lagging || commit->sinks[s].owed_count >= MAX_LAG_EPOCHS;
    }
    bool may = commit->failure.code == WEIR_OK && !commit->stopping && !lagging &&
               commit->sealed - commit->durable < WEIR_COMMIT_MAX_PENDING;
    pthread_mutex_unlock(&commit->mutex);
    return may;
}

int weir_commit_open(struct weir_commit *commit, uint64_t epoch, int64_t sealed_at_us,
                     struct weir_error *err) {
    struct weir_record *record = NULL;
    struct weir_record_limits limits = {.total_bytes = commit->options.max_epoch_bytes};
    int rc = weir_record_create(epoch, &limits, &record, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    weir_record_set_sealed_at(record, sealed_at_us);
    pthread_mutex_lock(&commit->mutex);
    struct pending *slot = &commit->pending[epoch % WEIR_COMMIT_MAX_PENDING];
    rc = answer_failure(commit, err);
    if (rc == WEIR_OK && commit->stopping) {
        rc = weir_error_set(err, WEIR_E_CLOSED, "epoch %llu sealed after the stop",
                            (unsigned long long)epoch);
    }
    if (rc == WEIR_OK && (epoch != commit->sealed + 1 || slot->epoch != 0)) {
        rc = weir_error_set(err, WEIR_E_BUG,
                            "epoch %llu sealed after %llu while %llu is durable: at most %d wait",
                            (unsigned long long)epoch, (unsigned long long)commit->sealed,
                            (unsigned long long)commit->durable, WEIR_COMMIT_MAX_PENDING);
    }
    if (rc == WEIR_OK) {
        slot->epoch = epoch;
        slot->sealed_at_us = sealed_at_us;
        slot->opened_ns = weir_clock_mono_ns();
        slot->record = record;
        slot->sinks_left =
            commit->sink_count == 64 ? UINT64_MAX : ((uint64_t)1 << commit->sink_count) - 1;
        commit->sealed = epoch;
        record = NULL;
    }
    pthread_mutex_unlock(&commit->mutex);
    weir_record_destroy(record);
    return rc;
}

struct weir_record *weir_commit_record(struct weir_commit *commit, uint64_t epoch) {
    pthread_mutex_lock(&commit->mutex);
    const struct pending *pending = find_pending(commit, epoch);
    struct weir_record *record =
        pending != NULL && !pending->loop_complete ? pending->record : NULL;
    pthread_mutex_unlock(&commit->mutex);
    return record;
}

static int not_open(struct weir_error *err, uint64_t epoch, const char *what) {
    return weir_error_set(err, WEIR_E_BUG, "epoch %llu is not open for %s",
                          (unsigned long long)epoch, what);
}

int weir_commit_complete(struct weir_commit *commit, uint64_t epoch, struct weir_error *err) {
    pthread_mutex_lock(&commit->mutex);
    struct pending *pending = find_pending(commit, epoch);
    int rc = answer_failure(commit, err);
    if (rc == WEIR_OK && (pending == NULL || pending->loop_complete)) {
        rc = not_open(err, epoch, "the loop's part");
    }
    if (rc == WEIR_OK) {
        pending->loop_complete = true;
        pthread_cond_signal(&commit->work);
    }
    pthread_mutex_unlock(&commit->mutex);
    return rc;
}

static int add_effect(struct effects *effects, uint64_t kind, struct weir_blob *body,
                      struct weir_error *err) {
    if (effects->count == effects->capacity) {
        size_t capacity = effects->capacity == 0 ? 4 : effects->capacity * 2;
        struct weir_effect *list =
            capacity > MAX_EFFECTS ? NULL : realloc(effects->list, capacity * sizeof *list);
        if (list == NULL) {
            return weir_error_set(err, WEIR_E_LIMIT, "more than %zu effects in one epoch",
                                  effects->count);
        }
        effects->list = list;
        effects->capacity = capacity;
    }
    effects->list[effects->count++] = (struct weir_effect){kind, *body};
    *body = (struct weir_blob){0};
    return WEIR_OK;
}

int weir_commit_post_effect(struct weir_commit *commit, uint64_t epoch, uint32_t sink,
                            uint64_t kind, struct weir_blob *body, struct weir_error *err) {
    pthread_mutex_lock(&commit->mutex);
    struct pending *pending = find_pending(commit, epoch);
    int rc = answer_failure(commit, err);
    if (rc == WEIR_OK &&
        (pending == NULL || sink >= commit->sink_count || (pending->sinks_left >> sink & 1) == 0)) {
        rc = not_open(err, epoch, "an effect of this sink");
    }
    if (rc == WEIR_OK && (body->size > commit->options.max_epoch_bytes ||
                          pending->effect_bytes > commit->options.max_epoch_bytes - body->size)) {
        rc = weir_error_set(err, WEIR_E_LIMIT,
                            "epoch %llu: effects of sink %s do not fit: %llu bytes so far, cap "
                            "%llu; seal epochs more often (commit.every)",
                            (unsigned long long)epoch, commit->sinks[sink].name,
                            (unsigned long long)pending->effect_bytes,
                            (unsigned long long)commit->options.max_epoch_bytes);
    }
    if (rc == WEIR_OK) {
        uint64_t bytes = body->size;
        rc = add_effect(&pending->effects[sink], kind, body, err);
        pending->effect_bytes += rc == WEIR_OK ? bytes : 0;
    }
    pthread_mutex_unlock(&commit->mutex);
    if (rc != WEIR_OK) {
        weir_blob_release(body);
    }
    return rc;
}

int weir_commit_effects_complete(struct weir_commit *commit, uint64_t epoch, uint32_t sink,
                                 struct weir_error *err) {
    pthread_mutex_lock(&commit->mutex);
    struct pending *pending = find_pending(commit, epoch);
    int rc = answer_failure(commit, err);
    if (rc == WEIR_OK &&
        (pending == NULL || sink >= commit->sink_count || (pending->sinks_left >> sink & 1) == 0)) {
        rc = not_open(err, epoch, "the end of this sink's effects");
    }
    if (rc == WEIR_OK) {
        pending->sinks_left &= ~((uint64_t)1 << sink);
        pthread_cond_signal(&commit->work);
    }
    pthread_mutex_unlock(&commit->mutex);
    return rc;
}

void weir_commit_fail(struct weir_commit *commit, const struct weir_error *cause) {
    pthread_mutex_lock(&commit->mutex);
    set_failure(commit, cause);
    pthread_mutex_unlock(&commit->mutex);
}

void weir_commit_sink_done(struct weir_commit *commit, uint32_t index, uint64_t epoch) {
    pthread_mutex_lock(&commit->mutex);
    struct sink *sink = &commit->sinks[index];
    if (epoch > sink->marker) {
        sink->marker = epoch;
    }
    if (sink->owed_count == 0 && epoch > sink->held) {
        sink->held = epoch; /* an effect that recovery found owed */
    }
    while (sink->owed_count > 0 && sink->owed[sink->owed_head].epoch <= epoch) {
        commit->lag_bytes -= sink->owed[sink->owed_head].bytes;
        if (sink->owed[sink->owed_head].effects) {
            sink->held = sink->owed[sink->owed_head].epoch;
        }
        sink->owed_head = (sink->owed_head + 1) % sink->owed_capacity;
        sink->owed_count--;
    }
    pthread_cond_broadcast(&commit->progress);
    pthread_mutex_unlock(&commit->mutex);
}

void weir_commit_set_snapshot_begin(struct weir_commit *commit, uint64_t oldest_begin) {
    pthread_mutex_lock(&commit->mutex);
    commit->snapshot_begin = oldest_begin;
    pthread_mutex_unlock(&commit->mutex);
}

/* With the mutex held. */
static int owe(struct weir_commit *commit, struct sink *sink, uint64_t epoch, uint64_t bytes,
               bool effects, struct weir_error *err) {
    if (sink->owed_count == sink->owed_capacity) {
        size_t capacity = sink->owed_capacity * 2;
        struct owed *ring = calloc(capacity, sizeof *ring);
        if (ring == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "sink %s: out of memory", sink->name);
        }
        for (size_t i = 0; i < sink->owed_count; i++) {
            ring[i] = sink->owed[(sink->owed_head + i) % sink->owed_capacity];
        }
        free(sink->owed);
        sink->owed = ring;
        sink->owed_head = 0;
        sink->owed_capacity = capacity;
    }
    sink->owed[(sink->owed_head + sink->owed_count) % sink->owed_capacity] =
        (struct owed){epoch, bytes, weir_clock_mono_ns(), effects};
    sink->owed_count++;
    commit->lag_bytes += bytes;
    return WEIR_OK;
}

struct weir_commit_lag weir_commit_sink_lag(struct weir_commit *commit, uint32_t index) {
    struct weir_commit_lag lag = {0};
    pthread_mutex_lock(&commit->mutex);
    const struct sink *sink = &commit->sinks[index];
    lag.epochs = sink->owed_count;
    if (sink->owed_count > 0) {
        lag.ns = weir_clock_mono_ns() - sink->owed[sink->owed_head].since_ns;
    }
    pthread_mutex_unlock(&commit->mutex);
    return lag;
}

static int put_marker(struct weir_record *record, const char *name, uint64_t marker, uint64_t held,
                      struct weir_error *err) {
    char key[WEIR_MARKER_KEY_BYTES];
    int rc =
        weir_record_put_int(record, WEIR_SECTION_MARKERS, name, strlen(name), (int64_t)marker, err);
    if (rc == WEIR_OK) {
        rc = weir_record_put_int(record, WEIR_SECTION_MARKERS, key, weir_marker_held_key(name, key),
                                 (int64_t)held, err);
    }
    return rc;
}

int weir_commit_put_markers(struct weir_commit *commit, uint64_t end, struct weir_record *record,
                            struct weir_error *err) {
    int rc = WEIR_OK;
    pthread_mutex_lock(&commit->mutex);
    commit->repeat_at = end;
    for (uint32_t s = 0; s < commit->sink_count && rc == WEIR_OK; s++) {
        const struct sink *sink = &commit->sinks[s];
        bool written = sink->marker_written != UINT64_MAX;
        rc = put_marker(record, sink->name, written ? sink->marker_written : sink->sink.marker,
                        written ? sink->held_written : sink->sink.held, err);
    }
    pthread_mutex_unlock(&commit->mutex);
    return rc;
}

/* Adds what the sinks posted and their markers. The record is the committer's now. */
static int complete_record(struct weir_commit *commit, struct pending *pending, bool repeat,
                           const uint64_t *markers, const uint64_t *held, struct weir_error *err) {
    int rc = WEIR_OK;
    for (uint32_t s = 0; s < commit->sink_count && rc == WEIR_OK; s++) {
        const struct sink *sink = &commit->sinks[s];
        size_t name_size = strlen(sink->name);
        for (size_t i = 0; i < pending->effects[s].count && rc == WEIR_OK; i++) {
            const struct weir_effect *effect = &pending->effects[s].list[i];
            struct weir_span body = {effect->body.data, effect->body.size};
            rc = weir_record_add_effect(pending->record, sink->name, name_size, effect->kind, body,
                                        err);
        }
        if (!repeat && markers[s] == sink->marker_written && held[s] == sink->held_written) {
            continue;
        }
        /* Always both: recovery may know only the newest records. */
        if (rc == WEIR_OK) {
            rc = put_marker(pending->record, sink->name, markers[s], held[s], err);
        }
    }
    return rc;
}

static int write_record(struct weir_commit *commit, struct pending *pending,
                        struct weir_error *err) {
    uint64_t markers[WEIR_COMMIT_MAX_SINKS];
    uint64_t held[WEIR_COMMIT_MAX_SINKS];
    const struct iovec *parts;
    int count;
    uint64_t size;
    pthread_mutex_lock(&commit->mutex);
    for (uint32_t s = 0; s < commit->sink_count; s++) {
        markers[s] = commit->sinks[s].marker;
        held[s] = commit->sinks[s].held;
    }
    bool repeat = pending->epoch == commit->repeat_at;
    pthread_mutex_unlock(&commit->mutex);
    int rc = complete_record(commit, pending, repeat, markers, held, err);
    if (rc == WEIR_OK) {
        rc = weir_record_finish(pending->record, &parts, &count, &size, err);
    }
    if (rc == WEIR_OK) {
        rc = weir_ledger_append(commit->options.ledger, pending->epoch, pending->sealed_at_us,
                                parts, count, err);
    }
    pthread_mutex_lock(&commit->mutex);
    for (uint32_t s = 0; s < commit->sink_count && rc == WEIR_OK; s++) {
        commit->sinks[s].marker_written = markers[s];
        commit->sinks[s].held_written = held[s];
    }
    pthread_mutex_unlock(&commit->mutex);
    return rc;
}

/* With the mutex held: from here on epoch + 1 may be sealed. */
static int note_durable(struct weir_commit *commit, struct pending *pending,
                        struct weir_error *err) {
    int rc = WEIR_OK;
    for (uint32_t s = 0; s < commit->sink_count && rc == WEIR_OK; s++) {
        uint64_t bytes = 0;
        for (size_t i = 0; i < pending->effects[s].count; i++) {
            bytes += pending->effects[s].list[i].body.size;
        }
        rc = owe(commit, &commit->sinks[s], pending->epoch, bytes, pending->effects[s].count > 0,
                 err);
    }
    int64_t taken_ns = weir_clock_mono_ns() - pending->opened_ns;
    weir_histogram_add(&commit->latency, (uint64_t)(taken_ns > 0 ? taken_ns / 1000 : 0));
    commit->durable = pending->epoch;
    commit->records++;
    commit->record_syncs = commit->options.ledger->stats.record_syncs;
    commit->newest_sealed_at_us = pending->sealed_at_us;
    return rc;
}

static void tell_durable(struct weir_commit *commit, const struct pending *pending,
                         struct effects *handed) {
    for (uint32_t s = 0; s < commit->sink_count; s++) {
        const struct weir_commit_sink *sink = &commit->sinks[s].sink;
        sink->durable(sink->context, pending->epoch, handed[s].list, handed[s].count);
        free(handed[s].list);
    }
    if (commit->options.durable != NULL) {
        commit->options.durable(commit->options.context, pending->epoch);
    }
}

/* What may wait until nobody does: space ahead, forgetting old records. */
static int tidy(struct weir_commit *commit, struct weir_error *err) {
    struct weir_ledger *ledger = commit->options.ledger;
    struct weir_error trouble = {0};
    pthread_mutex_lock(&commit->mutex);
    uint64_t keep_from = commit->snapshot_begin;
    for (uint32_t s = 0; s < commit->sink_count; s++) {
        /* As the ledger says, not as memory says: recovery must find what it believes undone. */
        uint64_t marker = commit->sinks[s].marker_written;
        uint64_t need = marker == UINT64_MAX ? 1 : marker + 1;
        keep_from = need < keep_from ? need : keep_from;
    }
    int64_t now_us = commit->newest_sealed_at_us;
    pthread_mutex_unlock(&commit->mutex);
    int64_t keep_since_us;
    if (__builtin_sub_overflow(now_us, commit->options.keep_us, &keep_since_us)) {
        keep_since_us = INT64_MIN;
    }
    int rc = weir_ledger_prepare(ledger, &trouble);
    if (rc == WEIR_OK) {
        rc = weir_ledger_trim(ledger, keep_from, keep_since_us, &trouble);
    }
    if (rc != WEIR_OK && !ledger->failed) {
        weir_log_warn("commit", "ledger upkeep failed, going on error=\"%s\"", trouble.message);
        return WEIR_OK;
    }
    if (rc != WEIR_OK && err != NULL) {
        *err = trouble;
    }
    return rc;
}

/* One epoch, from complete to told. Called and returns with the mutex held. */
static void commit_epoch(struct weir_commit *commit, struct pending *pending) {
    struct weir_error err = {0};
    struct effects handed[WEIR_COMMIT_MAX_SINKS];
    pthread_mutex_unlock(&commit->mutex);
    int rc = write_record(commit, pending, &err);
    pthread_mutex_lock(&commit->mutex);
    if (rc != WEIR_OK) {
        weir_error_wrap(&err, "commit epoch %llu", (unsigned long long)pending->epoch);
        set_failure(commit, &err);
        return;
    }
    rc = note_durable(commit, pending, &err);
    struct pending done = {.epoch = pending->epoch, .record = pending->record};
    memcpy(handed, pending->effects, sizeof handed);
    memset(pending, 0, sizeof *pending);
    if (rc != WEIR_OK) {
        set_failure(commit, &err);
    }
    pthread_cond_broadcast(&commit->progress);
    pthread_mutex_unlock(&commit->mutex);
    weir_record_destroy(done.record); /* it borrows the effects: first */
    tell_durable(commit, &done, handed);
    rc = tidy(commit, &err);
    pthread_mutex_lock(&commit->mutex);
    if (rc != WEIR_OK) {
        set_failure(commit, &err);
    }
}

static void *commit_main(void *context) {
    struct weir_commit *commit = context;
    weir_thread_name("ledger", -1);
    pthread_mutex_lock(&commit->mutex);
    while (commit->failure.code == WEIR_OK) {
        struct pending *next = find_pending(commit, commit->durable + 1);
        if (next != NULL && next->loop_complete && next->sinks_left == 0) {
            commit_epoch(commit, next);
        } else if (commit->stopping) {
            break;
        } else {
            pthread_cond_wait(&commit->work, &commit->mutex);
        }
    }
    bool tell = commit->failure.code != WEIR_OK && commit->options.failed != NULL;
    struct weir_error failure = commit->failure;
    pthread_mutex_unlock(&commit->mutex);
    if (tell) {
        commit->options.failed(commit->options.context, &failure);
    }
    return NULL;
}

int weir_commit_start(struct weir_commit *commit, struct weir_error *err) {
    int rc = weir_ledger_prepare(commit->options.ledger, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    rc = weir_thread_start(&commit->thread, commit_main, commit);
    if (rc != 0) {
        return weir_error_system(err, WEIR_E_ENVIRONMENT, rc, "start the committer thread");
    }
    commit->started = true;
    return WEIR_OK;
}

void weir_commit_stop(struct weir_commit *commit) {
    pthread_mutex_lock(&commit->mutex);
    bool join = commit->started && !commit->joining;
    commit->stopping = true;
    commit->joining = true;
    pthread_cond_broadcast(&commit->work);
    pthread_mutex_unlock(&commit->mutex);
    if (join) {
        pthread_join(commit->thread, NULL);
    }
    pthread_mutex_lock(&commit->mutex);
    for (int i = 0; i < WEIR_COMMIT_MAX_PENDING; i++) {
        pending_fini(commit, &commit->pending[i]);
    }
    commit->stopped = true;
    pthread_cond_broadcast(&commit->progress);
    pthread_mutex_unlock(&commit->mutex);
}

void weir_commit_destroy(struct weir_commit *commit) {
    if (commit == NULL) {
        return;
    }
    weir_commit_stop(commit);
    for (uint32_t s = 0; s < commit->sink_count; s++) {
        free(commit->sinks[s].name);
        free(commit->sinks[s].owed);
    }
    pthread_cond_destroy(&commit->work);
    pthread_cond_destroy(&commit->progress);
    pthread_mutex_destroy(&commit->mutex);
    free(commit);
}

int weir_commit_wait(struct weir_commit *commit, uint64_t epoch, int timeout_ms,
                     struct weir_error *err) {
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    if (timeout_ms > 0) {
        until.tv_sec += timeout_ms / 1000;
        until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000;
        }
    }
    pthread_mutex_lock(&commit->mutex);
    int rc = WEIR_OK;
    int waited = 0;
    while (commit->durable < epoch) {
        rc = answer_failure(commit, err);
        if (rc == WEIR_OK && commit->stopped) {
            rc = weir_error_set(err, WEIR_E_CLOSED, "epoch %llu was dropped at the stop",
                                (unsigned long long)epoch);
        } else if (rc == WEIR_OK && waited == ETIMEDOUT) {
            rc = weir_error_set(err, WEIR_E_LIMIT, "epoch %llu is not durable after %d ms",
                                (unsigned long long)epoch, timeout_ms);
        }
        if (rc != WEIR_OK) {
            break;
        }
        waited = timeout_ms < 0 ? pthread_cond_wait(&commit->progress, &commit->mutex)
                                : pthread_cond_timedwait(&commit->progress, &commit->mutex, &until);
    }
    pthread_mutex_unlock(&commit->mutex);
    return rc;
}

void weir_commit_status(struct weir_commit *commit, struct weir_commit_status *out) {
    pthread_mutex_lock(&commit->mutex);
    *out = (struct weir_commit_status){
        .sealed = commit->sealed,
        .durable = commit->durable,
        .lag_bytes = commit->lag_bytes,
        .record_syncs = commit->record_syncs,
        .records = commit->records,
        .latency_p50_us = weir_histogram_percentile(&commit->latency, 50),
        .latency_p99_us = weir_histogram_percentile(&commit->latency, 99),
        .latency_max_us = commit->latency.max,
        .failed = commit->failure.code != WEIR_OK,
    };
    pthread_mutex_unlock(&commit->mutex);
}

int weir_commit_failure(struct weir_commit *commit, struct weir_error *err) {
    pthread_mutex_lock(&commit->mutex);
    int rc = answer_failure(commit, err);
    pthread_mutex_unlock(&commit->mutex);
    return rc;
}
