/* Rows come in: a batch from each lane in turn, into the graph. A turn of the loop does about
 * TURN_NS of it. How many rows a batch has is asked of the sources by what rows have cost lately;
 * what else may be long (windows that close, many refused rows) goes on where it stopped in the
 * turn before. Only what the schedule records decides what comes out: which batch came, how many
 * rows it had, at what clock; never where a turn ended. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/block.h"
#include "core/clock.h"
#include "pipeline/evolve.h"
#include "pipeline/rebuild.h"

enum {
    TURN_NS = 500000,
    ROWS_LEAST = 32, /* a batch; fewer cost more in being handed over than they save */
    ROWS_MOST = WEIR_BATCH_ROWS_MAX,
    ROWS_TELLING = 16, /* fewer say little of what a row costs */
    REJECTS_A_SLICE = 128
};
#define AHEAD_MAX_NS INT64_C(30000000000)

void pipeline_move_clock(struct weir_pipeline *p) {
    int64_t wall = weir_clock_wall_us();
    p->clock_us = wall > p->clock_us ? wall : p->clock_us; /* recorded clock never goes back */
    weir_graph_set_moment(p->graph, p->clock_us, (int64_t)p->epoch);
    weir_script_set_clock(p->clock_us);
}

static int keep_position(struct partition_state *partition, const struct weir_position *position,
                         struct weir_error *err) {
    uint8_t *copy = weir_block_regrow(partition->position, position->size);
    if (copy == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "position: out of memory");
    }
    memcpy(copy, position->bytes, position->size);
    partition->position = copy;
    partition->position_size = position->size;
    return WEIR_OK;
}

bool intake_ended(const struct weir_pipeline *p) {
    if (!p->options.until_end || p->intake.ahead) {
        return false;
    }
    for (int32_t s = 0; s < p->source_count; s++) {
        int32_t count = p->options.rebuilding != NULL ? 1 : p->sources[s].partition_count;
        for (int32_t i = 0; i < count; i++) {
            if (!p->sources[s].partitions[i].ended) {
                return false;
            }
        }
    }
    return true;
}

/* Partitions may be added while a source runs. */
static int know_partition(struct weir_pipeline *p, int32_t s, int32_t number,
                          struct weir_error *err) {
    struct source_state *source = &p->sources[s];
    if (number < source->partition_count) {
        return WEIR_OK;
    }
    struct partition_state *grown =
        realloc(source->partitions, (size_t)(number + 1) * sizeof(*grown));
    if (grown == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory for a partition");
    }
    source->partitions = grown;
    for (int32_t i = source->partition_count; i <= number; i++) {
        memset(&grown[i], 0, sizeof(grown[i]));
        snprintf(grown[i].name, sizeof(grown[i].name), "%s/%d", p->plan->sources[s].name, i);
    }
    source->partition_count = number + 1;
    return WEIR_OK;
}

static struct weir_message message_of(const struct weir_pipeline *p, enum weir_message_kind kind) {
    const struct weir_source_batch *batch = p->intake.batch;
    const char *name = p->plan->sources[p->intake.source].name;
    return (struct weir_message){
        .kind = (uint8_t)kind,
        .clock_us = p->clock_us,
        .subject = name,
        .subject_size = strlen(name),
        .partition = (uint32_t)batch->partition,
        .hash = batch->hash,
    };
}

/* As many rows as take about a turn: dearer rows are believed sooner than cheaper ones. */
static void ask_for_rows(struct source_state *source, int64_t cpu_ns, int32_t rows) {
    if (rows < ROWS_TELLING) {
        return;
    }
    double seen = (double)cpu_ns / rows;
    double share = seen > source->row_ns ? 0.5 : 0.125;
    source->row_ns = source->row_ns == 0 ? seen : source->row_ns + share * (seen - source->row_ns);
    double wanted = source->row_ns > 0 ? TURN_NS / source->row_ns : ROWS_MOST;
    weir_source_set_batch_rows(source->source, wanted < ROWS_LEAST  ? ROWS_LEAST
                                               : wanted > ROWS_MOST ? ROWS_MOST
                                                                    : (int32_t)wanted);
}

/* A lane failed. Its rows before that count: no more are taken, the epoch is sealed, and then the
 * run ends with why. */
static void take_failure(struct weir_pipeline *p, int32_t s) {
    struct weir_source_batch *batch = p->intake.batch;
    p->source_failure = *weir_source_error(p->sources[s].source, batch->lane);
    p->source_failure.code = batch->code;
    (void)weir_error_wrap(&p->source_failure, "source %s", p->plan->sources[s].name);
    weir_source_batch_release(batch);
    p->intake.batch = NULL;
    atomic_store(&p->stop, true);
}

/* What waits for keys on disk goes on, and windows leave: rows of another partition follow. */
static int push_through(struct weir_pipeline *p, struct weir_error *err) {
    bool done = false;
    int rc = WEIR_OK;
    while (rc == WEIR_OK && !done) {
        rc = weir_graph_go_on(p->graph, err);
        if (rc == WEIR_OK && weir_graph_holds(p->graph)) {
            weir_signal_wait(&p->signal, 1);
            continue;
        }
        rc = rc == WEIR_OK ? weir_graph_fire(p->graph, -1, &done, err) : rc;
    }
    return rc;
}

/* Rows of a table a source wrote, as of the partitions they came from. */
static int push_again(struct weir_pipeline *p, int32_t s, struct weir_batch *batch,
                      struct weir_error *err) {
    const struct weir_column *column =
        &batch->columns[batch->column_count - WEIR_META_COUNT + WEIR_META_PARTITION];
    const int32_t *numbers = column->values;
    int rc = WEIR_OK;
    for (int32_t first = 0, end; rc == WEIR_OK && first < batch->rows; first = end) {
        for (end = first + 1; end < batch->rows && numbers[end] == numbers[first]; end++) {
        }
        rc = numbers[first] >= 0 && numbers[first] < WEIR_SOURCE_PARTITIONS_MAX
                 ? know_partition(p, s, numbers[first], err)
                 : weir_error_set(err, WEIR_E_DATA, "a row of partition %d", (int)numbers[first]);
        struct weir_batch *rows = end - first < batch->rows
                                      ? weir_batch_slice(batch, first, end - first)
                                      : weir_batch_ref(batch);
        if (rc == WEIR_OK && rows == NULL) {
            rc = weir_error_set(err, WEIR_E_NOMEM, "out of memory for rows of a partition");
        }
        if (rc == WEIR_OK) {
            weir_graph_set_partitions(p->graph, p->sources[s].partition_count);
            rc = weir_graph_push(p->graph, s, p->sources[s].partitions[numbers[first]].name, rows,
                                 err);
        }
        rc = rc == WEIR_OK ? push_through(p, err) : rc;
        weir_batch_unref(rows);
    }
    return rc;
}

/* The batch polled last, as far as its rows. */
static int begin_batch(struct weir_pipeline *p, struct weir_error *err) {
    struct weir_source_batch *batch = p->intake.batch;
    int32_t s = p->intake.source;
    struct source_state *source = &p->sources[s];
    if (batch->code != WEIR_OK) {
        take_failure(p, s);
        return WEIR_OK;
    }
    int rc = know_partition(p, s, batch->partition, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    const char *partition = source->partitions[batch->partition].name;
    pipeline_move_clock(p);
    if (batch->rows > 0 || batch->opens) {
        struct weir_message message = message_of(p, WEIR_MESSAGE_BATCH);
        message.rows = (uint64_t)batch->rows;
        if (p->columns_changed > 0 && /* decoded before they were others */
            !weir_schema_equal(batch->batch->schema, p->plan->sources[s].full_schema)) {
            message.version = weir_schema_hash(batch->batch->schema);
        }
        rc = schedule_add(p, &message);
        p->events += batch->rows;
    }
    replying_begin(p, s, batch);
    if (rc == WEIR_OK && batch->opens) {
        rc = weir_graph_open_partition(p->graph, s, partition, batch->item != 0, err);
    }
    rc = rc == WEIR_OK ? weir_source_keep_up(source->source, p->pool, &batch->batch, err) : rc;
    rc = rc == WEIR_OK ? evolve_batch(p->pool, &p->plan->sources[s], &batch->batch, err) : rc;
    if (rc == WEIR_OK && p->options.rebuilding != NULL) {
        return push_again(p, s, batch->batch, err);
    }
    if (rc == WEIR_OK && batch->batch->rows > 0) {
        int64_t cpu_ns = weir_clock_thread_cpu_ns();
        weir_batch_fill_int64(batch->batch,
                              batch->batch->column_count - WEIR_META_COUNT + WEIR_META_INGESTED_AT,
                              p->clock_us);
        weir_graph_set_partitions(p->graph, source->partition_count);
        rc = weir_graph_push(p->graph, s, partition, batch->batch, err);
        ask_for_rows(source, weir_clock_thread_cpu_ns() - cpu_ns, batch->batch->rows);
    }
    return rc;
}

static int push_rejects(struct weir_pipeline *p, struct weir_error *err) {
    struct intake *in = &p->intake;
    const struct weir_reject_batch *rejects = in->batch->rejects;
    int32_t count = rejects != NULL ? rejects->count : 0;
    for (int32_t i = 0; i < REJECTS_A_SLICE && in->rejects < count; i++) {
        int rc = weir_graph_reject_of(p->graph, in->source, in->batch->number, rejects,
                                      in->rejects++, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    if (in->rejects < count) {
        return WEIR_OK;
    }
    in->stage++;
    return count > 0 ? weir_graph_flush_rejects(p->graph, err) : WEIR_OK;
}

/* What comes after a batch's rows, one thing a call. */
static int go_on(struct weir_pipeline *p, struct weir_error *err) {
    struct intake *in = &p->intake;
    struct weir_source_batch *batch = in->batch;
    struct partition_state *partition = &p->sources[in->source].partitions[batch->partition];
    struct weir_message message;
    int rc = WEIR_OK;
    switch (in->stage) {
    case INTAKE_REJECTS:
        return push_rejects(p, err);
    case INTAKE_POSITION:
        if (batch->position.size > 0) {
            p->dirty = true; /* where a partition begins is recorded too */
            rc = keep_position(partition, &batch->position, err);
        }
        in->stage = batch->end || batch->closes ? INTAKE_END : INTAKE_DONE;
        return rc;
    case INTAKE_END:
        partition->ended |= batch->end;
        if (p->options.rebuilding != NULL) { /* more will come, to who takes it over */
            in->stage = INTAKE_DONE;
            return WEIR_OK;
        }
        message = message_of(p, WEIR_MESSAGE_END);
        rc = schedule_add(p, &message);
        in->stage = batch->end && intake_ended(p) ? INTAKE_END_ALL : INTAKE_DONE;
        return rc == WEIR_OK ? weir_graph_finish(p->graph, in->source, partition->name, err) : rc;
    case INTAKE_END_ALL:
        message = message_of(p, WEIR_MESSAGE_ADMIN); /* the end of all input closes every window */
        rc = schedule_add(p, &message);
        in->stage = INTAKE_DONE;
        return rc == WEIR_OK ? weir_graph_finish_all(p->graph, err) : rc;
    case INTAKE_DONE:
        rc = replying_end(p, in->source, err);
        freshness_applied(&p->freshness, p->epoch, batch->due_ns, batch->rows);
        weir_source_batch_release(batch);
        in->batch = NULL;
    }
    return rc;
}

static int start_source(struct weir_pipeline *p, int32_t s, struct weir_error *err) {
    int rc = weir_source_start(p->sources[s].source, err);
    p->sources[s].started = true;
    return rc == WEIR_OK ? rc : weir_error_wrap(err, "source %s", p->plan->sources[s].name);
}

int intake_start(struct weir_pipeline *p, struct weir_error *err) {
    int rc = WEIR_OK;
    int32_t ahead = 0;
    for (int32_t s = 0; s < p->source_count; s++) {
        p->sources[s].ahead = weir_graph_looked_up(p->graph, s);
        ahead += p->sources[s].ahead;
    }
    p->intake.ahead = ahead > 0 && ahead < p->source_count; /* there are others to hold up */
    for (int32_t s = 0; rc == WEIR_OK && s < p->source_count; s++) {
        if (p->sources[s].ahead || !p->intake.ahead) {
            rc = start_source(p, s, err);
        }
    }
    return rc;
}

static bool loaded(const struct weir_pipeline *p, const struct source_state *source) {
    bool ended = source->partition_count > 0 || weir_source_lanes(source->source) == 0;
    int32_t count = p->options.rebuilding != NULL ? 1 : source->partition_count;
    for (int32_t i = 0; i < count; i++) {
        ended &= source->partitions[i].ended;
    }
    return ended || (!p->options.until_end && weir_source_caught_up(source->source));
}

/* What rows are looked up in is read to its present end before any other source starts. One that
 * never comes to an end holds the others up no longer than AHEAD_MAX_NS. */
static int start_others(struct weir_pipeline *p, struct weir_error *err) {
    if (p->intake.batch != NULL) {
        return WEIR_OK;
    }
    bool over = !p->options.until_end && weir_clock_mono_ns() - p->started_ns > AHEAD_MAX_NS;
    for (int32_t s = 0; s < p->source_count; s++) {
        if (p->sources[s].ahead && !over && !loaded(p, &p->sources[s])) {
            return WEIR_OK;
        }
    }
    int rc = WEIR_OK;
    p->intake.ahead = false;
    for (int32_t s = 0; rc == WEIR_OK && s < p->source_count; s++) {
        rc = p->sources[s].started ? WEIR_OK : start_source(p, s, err);
    }
    return rc;
}

/* Lanes take turns. */
static bool poll_next(struct weir_pipeline *p) {
    struct intake *in = &p->intake;
    int32_t seen = 0;
    while (seen <= p->source_count) {
        if (in->turn_lane >= weir_source_lanes(p->sources[in->turn_source].source)) {
            in->turn_lane = 0;
            in->turn_source = (in->turn_source + 1) % p->source_count;
            seen++;
            continue;
        }
        in->source = in->turn_source;
        if (p->sources[in->source].waits) {
            in->turn_lane = weir_source_lanes(p->sources[in->source].source);
            continue;
        }
        in->batch = weir_source_poll(p->sources[in->source].source, in->turn_lane++);
        if (in->batch != NULL) {
            in->stage = INTAKE_REJECTS;
            in->rejects = 0;
            return true;
        }
    }
    return false;
}

bool intake_half(const struct weir_pipeline *p) {
    return p->intake.batch != NULL || weir_graph_firing(p->graph) || weir_graph_holds(p->graph) ||
           weir_graph_parks_enough(p->graph);
}

bool intake_busy(const struct weir_pipeline *p) {
    return intake_half(p) || weir_graph_parks(p->graph);
}

/* What ends a partition, or a command, comes behind all its rows: none may wait any more. */
static bool ends_parked(const struct weir_pipeline *p) {
    const struct intake *in = &p->intake;
    return weir_graph_parks(p->graph) && (in->stage == INTAKE_END || in->stage == INTAKE_END_ALL ||
                                          weir_plan_replies(&p->plan->sources[in->source]));
}

/* Rows that wait out of order and are answered leave, at a moment of their own. */
static int let_go(struct weir_pipeline *p, bool *some, struct weir_error *err) {
    *some = false;
    if (!weir_graph_parks(p->graph)) {
        return WEIR_OK;
    }
    pipeline_move_clock(p);
    return weir_graph_let_go(p->graph, some, err);
}

int intake_step(struct weir_pipeline *p, bool may_take, bool *worked, struct weir_error *err) {
    int64_t began = weir_clock_mono_ns();
    int64_t now = began;
    int64_t longest = 0;
    int rc = p->intake.ahead && may_take ? start_others(p, err) : WEIR_OK;
    while (rc == WEIR_OK && now - began < TURN_NS) {
        bool done;
        bool some;
        if (weir_graph_holds(p->graph)) {
            rc = weir_graph_go_on(p->graph, err);
            if (rc != WEIR_OK || weir_graph_holds(p->graph)) {
                break; /* what was answered wakes the loop */
            }
        } else if (weir_graph_firing(p->graph)) {
            rc = weir_graph_fire(p->graph, TURN_NS - (now - began), &done, err);
        } else if (p->intake.batch != NULL && !ends_parked(p)) {
            rc = go_on(p, err);
        } else if ((rc = let_go(p, &some, err)) != WEIR_OK || some) {
            /* and what they close goes on next */
        } else if (p->intake.batch != NULL) {
            break; /* what was answered wakes the loop */
        } else if (may_take && !weir_graph_parks_enough(p->graph) &&
                   now - began + longest <= TURN_NS) {
            rc = p->source_count > 1 ? align_sources(p, err) : WEIR_OK;
            if (rc != WEIR_OK || !poll_next(p)) {
                break;
            }
            /* Going by what was done so far, it ends within the turn. */
            rc = begin_batch(p, err);
        } else {
            break;
        }
        *worked = true;
        int64_t then = now;
        now = weir_clock_mono_ns();
        longest = now - then > longest ? now - then : longest;
    }
    return rc;
}

void intake_fini(struct weir_pipeline *p) {
    if (p->intake.batch != NULL) {
        weir_source_batch_release(p->intake.batch);
        p->intake.batch = NULL;
    }
}
