/* The loop: takes batches in (intake.c), seals epochs, and between batches does the small work that
 * must not pause it: collecting images, dumping snapshots, looking at rule files. A turn is about a
 * millisecond: each part of it does what its share of time allows and goes on in the next. */
#include "pipeline/pipeline.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/block.h"
#include "core/clock.h"
#include "core/log.h"
#include "lake/store/open.h"
#include "pipeline/internal.h"
#include "pipeline/rebuild.h"

enum {
    IDLE_WAIT_MS = 20,
    COLLECT_NS = 300000,
    TICK_NS = 100000000,
    HELD_US = 10000,       /* less is not worth a message: idleness is of seconds */
    FIRST_BATCH_ROWS = 128 /* until it is known what a row costs */
};

/* --- graph callbacks -------------------------------------------------------------------------- */

static int output(void *context, struct weir_dataset *dataset, struct weir_batch *batch,
                  const int32_t *sel, int32_t count, struct weir_error *err) {
    struct weir_pipeline *p = context;
    if (dataset->sink == NULL || count == 0) { /* no rows, no effect: the sink's marker stays */
        return WEIR_OK;
    }
    return weir_sinks_write(p->sinks, (int32_t)((uintptr_t)dataset->sink - 1), batch, sel, count,
                            err);
}

static int breach(void *context, const struct weir_dataset *dataset, int32_t function, int32_t row,
                  struct weir_error *err) {
    struct weir_pipeline *p = context;
    struct weir_message message = {
        .kind = WEIR_MESSAGE_VERDICT,
        .subject = dataset->name,
        .subject_size = strlen(dataset->name),
        .reason = dataset->breach_text,
        .reason_size = strlen(dataset->breach_text),
        .clock_us = p->clock_us,
        .version = (uint64_t)function,
        .row = row,
    };
    weir_log_warn("pipeline",
                  "%s: %s; its rows go to quarantine, reason `budget`, until it is corrected",
                  dataset->name, dataset->breach_text);
    int rc = schedule_add(p, &message);
    return rc == WEIR_OK ? rc : weir_error_set(err, rc, "schedule: out of memory");
}

static int answered(void *context, const struct weir_dataset *dataset, int32_t place, int32_t count,
                    const void *rows, size_t size, struct weir_error *err) {
    struct weir_pipeline *p = context;
    struct weir_message message = {
        .kind = WEIR_MESSAGE_ANSWERED,
        .subject = dataset->name,
        .subject_size = strlen(dataset->name),
        .partition = (uint32_t)place,
        .rows = (uint64_t)count,
        .reason = rows,
        .reason_size = size,
        .clock_us = p->clock_us,
    };
    int rc = schedule_add_copy(p, &message);
    return rc == WEIR_OK ? rc : weir_error_set(err, rc, "schedule: out of memory");
}

/* --- the loop -------------------------------------------------------------------------------- */

static int tick(struct weir_pipeline *p, struct weir_error *err) {
    int64_t now = weir_clock_mono_ns();
    if (now - p->last_tick_ns < TICK_NS) {
        return WEIR_OK;
    }
    p->last_tick_ns = now;
    pipeline_tell_sources(p);
    if (p->reload != NULL && pipeline_take_request(p, "rollback")) {
        atomic_store(&p->rollback, true);
    }
    if (!p->options.until_end && pipeline_take_request(p, "takeover")) {
        p->restarts = true;
        weir_pipeline_stop(p);
    }
    if (intake_half(p) || p->held_since_us != 0) {
        return WEIR_OK; /* time moves between batches; it will again soon */
    }
    pipeline_move_clock(p);
    bool moved;
    int rc = weir_graph_tick(p->graph, &moved, err);
    if (rc == WEIR_OK && (moved || weir_graph_firing(p->graph))) {
        struct weir_message message = {.kind = WEIR_MESSAGE_TICK, .clock_us = p->clock_us};
        rc = schedule_add(p, &message);
    }
    return rc;
}

static int failure(struct weir_pipeline *p, struct weir_error *err) {
    pthread_mutex_lock(&p->failure_lock);
    int code = p->failure.code;
    if (err != NULL) {
        *err = p->failure;
    }
    pthread_mutex_unlock(&p->failure_lock);
    return code;
}

static void show_progress(struct weir_pipeline *p) {
    int64_t now = weir_clock_mono_ns();
    if (p->options.progress_every_ms == 0 ||
        now - p->last_progress_ns < p->options.progress_every_ms * 1000000) {
        return;
    }
    p->last_progress_ns = now;
    struct weir_pipeline_progress progress;
    weir_pipeline_progress(p, &progress);
    p->options.progress(p->options.context, &progress);
}

/* Nothing taken is half done: an epoch may end here. */
static bool settled(const struct weir_pipeline *p) {
    return !intake_busy(p) && !p->collection.active;
}

/* Rows are not asked for: what partitions do not deliver meanwhile is no idleness of theirs. */
static void hold(struct weir_pipeline *p) {
    if (p->held_since_us == 0) {
        int64_t wall = weir_clock_wall_us();
        p->held_since_us = wall > p->clock_us ? wall : p->clock_us;
    }
}

static int release(struct weir_pipeline *p) {
    if (p->held_since_us == 0) {
        return WEIR_OK;
    }
    pipeline_move_clock(p);
    int64_t held_us = p->clock_us - p->held_since_us;
    p->held_since_us = 0;
    if (held_us < HELD_US || !weir_graph_idles(p->graph)) {
        return WEIR_OK;
    }
    struct weir_message message = {
        .kind = WEIR_MESSAGE_IDLE, .clock_us = p->clock_us, .rows = (uint64_t)held_us};
    weir_graph_held(p->graph, held_us);
    bool dirty = p->dirty;
    int rc = schedule_add(p, &message);
    p->dirty = dirty; /* no reason for an epoch, or each that waits would bring the next */
    return rc;
}

static int take_rows(struct weir_pipeline *p, bool may_take, bool *worked, struct weir_error *err) {
    *worked = false;
    if (!may_take) {
        hold(p);
    }
    if (!may_take && !intake_busy(p)) {
        return WEIR_OK;
    }
    if (!weir_sinks_have_room(p->sinks)) {
        hold(p);
        p->blocked_since_ns = p->blocked_since_ns != 0 ? p->blocked_since_ns : weir_clock_mono_ns();
        return WEIR_OK;
    }
    if (p->blocked_since_ns != 0) {
        p->blocked_ns += weir_clock_mono_ns() - p->blocked_since_ns;
        p->blocked_since_ns = 0;
    }
    /* The clock stands still for the rows of a batch: what is half done ends at its own moment, as
     * it does in a replay. */
    if (may_take && !intake_half(p) && release(p) != WEIR_OK) {
        return weir_error_set(err, WEIR_E_NOMEM, "schedule: out of memory");
    }
    return intake_step(p, may_take && p->held_since_us == 0, worked, err);
}

static int seal_when_due(struct weir_pipeline *p, bool due, struct weir_error *err) {
    if (!p->dirty || !due || !settled(p) || !weir_commit_may_seal(p->commit)) {
        return WEIR_OK;
    }
    int64_t cpu_ns = weir_clock_thread_cpu_ns();
    int rc = pipeline_seal(p, err);
    cpu_ns = weir_clock_thread_cpu_ns() - cpu_ns;
    p->seal_max_cpu_ns = cpu_ns > p->seal_max_cpu_ns ? cpu_ns : p->seal_max_cpu_ns;
    slice_mark(&p->slices, SLICE_SEAL);
    if (rc == WEIR_OK && p->reload != NULL) {
        rc = reload_at_seal(p, err);
        slice_mark(&p->slices, SLICE_RELOAD);
    }
    return rc;
}

static int step(struct weir_pipeline *p, bool *ended, struct weir_error *err) {
    slice_begin(&p->slices);
    int64_t every_ns = 1000 * (p->options.commit_every_us > 0 ? p->options.commit_every_us
                                                              : p->plan->commit_every_us);
    bool crowded;
    if (weir_graph_make_room(p->graph, &crowded, err) != WEIR_OK) {
        return err->code;
    }
    bool full = crowded || weir_sinks_want_seal(p->sinks); /* a record holds only so much */
    bool overdue = p->dirty && (full || weir_clock_mono_ns() - p->sealed_at_ns >= every_ns);
    bool worked = false;
    bool stopping = atomic_load(&p->stop);
    /* An epoch that is to end takes no more rows, also while it must wait for those before it. */
    int rc = take_rows(p, !stopping && !overdue, &worked, err);
    slice_mark(&p->slices, SLICE_ROWS);
    if (rc == WEIR_OK) {
        rc = tick(p, err);
    }
    *ended = !intake_busy(p) && (intake_ended(p) || stopping);
    bool due = full || weir_clock_mono_ns() - p->sealed_at_ns >= every_ns || replying_due(p);
    if (rc == WEIR_OK) {
        rc = seal_when_due(p, due || *ended, err);
    }
    if (rc == WEIR_OK) {
        rc = pipeline_collect(p, COLLECT_NS, err);
        slice_mark(&p->slices, SLICE_COLLECT);
    }
    if (rc == WEIR_OK) {
        rc = snapshotter_step(p, err);
        slice_mark(&p->slices, SLICE_SNAPSHOT);
    }
    if (rc == WEIR_OK && p->reload != NULL) {
        rc = reload_step(p, err);
        slice_mark(&p->slices, SLICE_RELOAD);
    }
    show_progress(p);
    pipeline_write_status(p);
    slice_mark(&p->slices, SLICE_STATUS);
    slice_end(&p->slices);
    bool wait = !worked && !p->collection.active &&
                (p->blocked_since_ns != 0 || weir_graph_holds(p->graph) ||
                 weir_graph_parks(p->graph) || (!intake_busy(p) && (p->dirty || !*ended)));
    if (rc == WEIR_OK && wait) {
        int64_t wait_ms = IDLE_WAIT_MS;
        if (p->dirty) {
            int64_t left = (every_ns - (weir_clock_mono_ns() - p->sealed_at_ns)) / 1000000 + 1;
            wait_ms = left < 1 || p->commands_open > 0 ? 1 : left < wait_ms ? left : wait_ms;
        }
        weir_signal_wait(&p->signal, (int)wait_ms);
    }
    return rc;
}

int weir_pipeline_run(struct weir_pipeline *p, struct weir_error *err) {
    int rc = WEIR_OK;
    p->started_ns = p->sealed_at_ns = p->last_progress_ns = p->snapshot_at_ns =
        weir_clock_mono_ns();
    for (int32_t s = 0; s < p->source_count; s++) {
        weir_source_set_batch_rows(p->sources[s].source, FIRST_BATCH_ROWS);
    }
    rc = p->options.rebuilding != NULL && p->epoch == 1 ? rebuild_open_partitions(p, err) : WEIR_OK;
    rc = rc == WEIR_OK ? intake_start(p, err) : rc;
    bool ended = false;
    while (rc == WEIR_OK && !(ended && !p->dirty && !p->collection.active)) {
        rc = atomic_load(&p->failed) ? failure(p, err) : step(p, &ended, err);
    }
    for (int32_t s = 0; s < p->source_count; s++) {
        weir_source_stop(p->sources[s].source);
    }
    /* After a row stopped the pipeline, the whole epochs before it still become visible. */
    if (rc == WEIR_OK || rc == WEIR_E_DATA) {
        struct weir_error why = {0};
        int end = pipeline_collect(p, -1, &why);
        if (end == WEIR_OK && p->epoch > 1) {
            end = weir_commit_wait(p->commit, p->epoch - 1, -1, &why);
        }
        if (end != WEIR_OK && rc == WEIR_OK) {
            rc = end;
            if (err != NULL) {
                *err = why;
            }
        }
        if (rc == WEIR_OK && !p->dirty) {
            p->told_epoch = 0;
            pipeline_note_positions(p, p->epoch - 1);
            pipeline_tell_sources(p);
        }
        weir_commit_stop(p->commit);
        weir_sinks_drain(p->sinks);
        if (atomic_load(&p->failed)) {
            rc = failure(p, err);
        }
    }
    if (rc == WEIR_OK && p->source_failure.code != WEIR_OK) {
        rc = p->source_failure.code;
        if (err != NULL) {
            *err = p->source_failure;
        }
    }
    p->loop_cpu_ns = weir_clock_thread_cpu_ns();
    pipeline_end_status(p);
    return rc;
}

int pipeline_settle(struct weir_pipeline *p, struct weir_error *err) {
    weir_commit_stop(p->commit);
    weir_sinks_drain(p->sinks);
    return atomic_load(&p->failed) ? failure(p, err) : WEIR_OK;
}

bool weir_pipeline_restarts(const struct weir_pipeline *p) {
    return p->restarts;
}

void weir_pipeline_stop(struct weir_pipeline *p) {
    atomic_store(&p->stop, true);
    weir_signal_raise(&p->signal);
}

void weir_pipeline_rollback(struct weir_pipeline *p) {
    atomic_store(&p->rollback, true);
    weir_signal_raise(&p->signal);
}

const struct weir_plan *weir_pipeline_plan(const struct weir_pipeline *p) {
    return p->plan;
}

int pipeline_make_graph(struct weir_pipeline *p, const struct weir_plan *plan,
                        struct weir_rule_set *rule_set, struct weir_graph **out,
                        struct weir_error *err) {
    char ledger[1024];
    char disk[1100];
    weir_plan_ledger_path(plan, ledger, sizeof(ledger));
    snprintf(disk, sizeof(disk), "%s/cold", ledger);
    struct weir_graph_options options = {
        .plan = plan,
        .rule_set = rule_set,
        .pool = p->pool,
        .callbacks = {.context = p, .output = output, .breach = breach, .answered = answered},
        .past_failed = p->options.past_failed,
        .answers = WEIR_ANSWERS_ASKED,
        .signal = &p->signal,
        .command = p->command,
        .disk = disk,
    };
    return weir_graph_create(&options, out, err);
}

/* --- life --------------------------------------------------------------------------------------
 */

static int read_plan(struct weir_pipeline *p, struct weir_error *err) {
    const char *plan = weir_rule_set_plan(p->rule_set, NULL);
    char *narrowed = NULL;
    int rc = p->options.rebuilding != NULL
                 ? rebuild_document(p->options.rebuilding, plan, &narrowed, err)
                 : WEIR_OK;
    rc = rc == WEIR_OK ? weir_plan_parse(narrowed != NULL ? narrowed : plan, &p->plan, err) : rc;
    free(narrowed);
    return rc;
}

int weir_pipeline_create(const struct weir_pipeline_options *options, struct weir_pipeline **out,
                         struct weir_buffer *report, struct weir_buffer *report_json,
                         struct weir_error *err) {
    struct weir_pipeline *p = calloc(1, sizeof(*p));
    *out = NULL;
    if (p == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    p->options = *options;
    pthread_mutex_init(&p->failure_lock, NULL);
    freshness_init(&p->freshness);
    p->clock_us = weir_clock_wall_us();
    p->epoch = 1;
    struct weir_script_options script_options = {0};
    int rc = weir_signal_init(&p->signal, err);
    if (rc == WEIR_OK) {
        p->script = options->rebuilding != NULL ? options->rebuilding->script : NULL;
        rc = p->script == NULL ? weir_script_create(&script_options, &p->script, err) : WEIR_OK;
    }
    if (rc == WEIR_OK) {
        weir_script_set_clock(p->clock_us);
        p->rules_stamp = reload_rules_stamp();
        rc = weir_script_load(p->script, options->path, options->settings, options->setting_count,
                              &p->rule_set, report, report_json, err);
    }
    if (rc == WEIR_OK) {
        rc = read_plan(p, err);
    }
    if (rc == WEIR_OK && options->rebuilding == NULL) {
        rc = rebuild_finish(p, err);
    }
    if (rc == WEIR_OK) {
        /* What sources hold ahead is bounded on its own, so that a slow sink stops them before the
         * loop itself runs out. */
        p->pool = weir_pool_create((size_t)p->plan->data_bytes);
        p->source_pool = weir_pool_create((size_t)p->plan->data_bytes / 3);
        rc = p->pool == NULL || p->source_pool == NULL
                 ? weir_error_set(err, WEIR_E_NOMEM, "out of memory")
                 : WEIR_OK;
    }
    if (rc == WEIR_OK) {
        rc = replying_create(p, err);
    }
    if (rc == WEIR_OK) {
        rc = pipeline_make_graph(p, p->plan, p->rule_set, &p->graph, err);
    }
    if (rc == WEIR_OK) {
        rc = pipeline_recover(p, err);
    }
    if (rc == WEIR_OK) {
        rc = weir_commit_start(p->commit, err);
    }
    if (rc == WEIR_OK) {
        rc = snapshotter_create(p, &p->snapshotter, err);
    }
    if (rc == WEIR_OK) {
        rc = status_writer_create(p, &p->status_writer, err);
    }
    if (rc == WEIR_OK && options->watch) {
        rc = reload_create(p, &p->reload, err);
    }
    if (rc != WEIR_OK) {
        weir_pipeline_destroy(p);
        return rc;
    }
    pipeline_move_clock(p);
    *out = p;
    return WEIR_OK;
}

void weir_pipeline_destroy(struct weir_pipeline *p) {
    if (p == NULL) {
        return;
    }
    intake_fini(p);
    for (int32_t s = 0; p->sources != NULL && s < p->source_count; s++) {
        weir_source_destroy(p->sources[s].source);
        for (int32_t i = 0; p->sources[s].partitions != NULL && i < p->sources[s].partition_count;
             i++) {
            weir_block_give(p->sources[s].partitions[i].position);
        }
        free(p->sources[s].partitions);
    }
    free(p->sources);
    if (p->commit != NULL) {
        weir_commit_stop(p->commit);
    }
    snapshotter_destroy(p->snapshotter);
    status_writer_destroy(p->status_writer);
    weir_sinks_destroy(p->sinks);
    weir_store_destroy(p->remote);
    if (p->commit != NULL) {
        weir_commit_destroy(p->commit);
    }
    reload_destroy(p->reload);
    weir_graph_destroy(p->graph);
    if (p->snapshots != NULL) {
        weir_snapshots_close(p->snapshots);
    }
    if (p->ledger != NULL) {
        weir_ledger_close(p->ledger);
    }
    for (int32_t i = 0; i < p->orphan_count; i++) {
        free(p->orphans[i]);
    }
    schedule_clear(p);
    weir_block_give(p->schedule.messages);
    rebuild_free(p);
    replying_destroy(p);
    weir_plan_destroy(p->plan);
    weir_rule_set_unref(p->rule_set);
    if (p->options.rebuilding == NULL || p->options.rebuilding->script == NULL) {
        weir_script_destroy(p->script);
    }
    weir_pool_destroy(p->pool);
    weir_pool_destroy(p->source_pool);
    weir_signal_fini(&p->signal);
    pthread_mutex_destroy(&p->failure_lock);
    freshness_fini(&p->freshness);
    free(p);
}
