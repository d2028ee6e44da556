/* The seal: flip the epoch and go on; what it changed is collected behind the loop in slices (copy
 * on write in the cells), and the record is complete when the last slice is in. */
#include <stdlib.h>
#include <string.h>

#include "core/block.h"
#include "core/clock.h"
#include "core/fault.h"
#include "pipeline/evolve.h"

enum { SLICE_SLOTS = 256, SLICE_BYTES_MAX = 64 << 20, SLICE_BYTES = 1 << 20 };

void pipeline_fail(struct weir_pipeline *p, const struct weir_error *err) {
    pthread_mutex_lock(&p->failure_lock);
    if (!atomic_load(&p->failed)) {
        p->failure = *err;
        atomic_store(&p->failed, true);
    }
    pthread_mutex_unlock(&p->failure_lock);
    weir_signal_raise(&p->signal);
}

int schedule_add_copy(struct weir_pipeline *p, struct weir_message *message) {
    struct schedule_text *text = malloc(sizeof(*text) + message->reason_size);
    if (text == NULL) {
        return WEIR_E_NOMEM;
    }
    memcpy(text->bytes, message->reason, message->reason_size);
    text->size = message->reason_size;
    text->next = p->schedule.texts;
    p->schedule.texts = text;
    message->reason = text->bytes;
    return schedule_add(p, message);
}

void schedule_clear(struct weir_pipeline *p) {
    p->schedule.count = 0;
    while (p->schedule.texts != NULL) {
        struct schedule_text *next = p->schedule.texts->next;
        free(p->schedule.texts);
        p->schedule.texts = next;
    }
}

int schedule_add(struct weir_pipeline *p, const struct weir_message *message) {
    struct schedule *s = &p->schedule;
    if (s->count == s->capacity) {
        size_t capacity = s->capacity == 0 ? 1024 : s->capacity * 2;
        struct weir_message *messages =
            weir_block_regrow(s->messages, capacity * sizeof(*messages));
        if (messages == NULL) {
            return WEIR_E_NOMEM;
        }
        s->messages = messages;
        s->capacity = capacity;
    }
    s->messages[s->count++] = *message;
    p->dirty = true;
    return WEIR_OK;
}

int pipeline_put_keyed(struct weir_pipeline *p, struct weir_record *record,
                       struct weir_error *err) {
    for (int32_t s = 0; s < p->source_count; s++) {
        for (int32_t i = 0; i < p->sources[s].partition_count; i++) {
            const struct partition_state *partition = &p->sources[s].partitions[i];
            if (partition->position == NULL) {
                continue;
            }
            int rc = weir_record_put_bytes(record, WEIR_SECTION_POSITIONS, partition->name,
                                           strlen(partition->name), partition->position,
                                           partition->position_size, err);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
    }
    struct weir_buffer saved;
    weir_buffer_init(&saved, 64 << 20);
    int rc = weir_graph_save(p->graph, &saved);
    if (rc == WEIR_OK) {
        rc = weir_record_put_bytes(record, WEIR_SECTION_COUNTERS, "graph", 5, saved.data,
                                   saved.size, err);
    } else {
        rc = weir_error_set(err, rc, "seal: counters and watermarks do not fit a record");
    }
    weir_buffer_fini(&saved);
    return rc;
}

static int fill_record(struct weir_pipeline *p, struct weir_record *record,
                       struct weir_error *err) {
    const char *hash = weir_rule_set_hash(p->rule_set);
    int rc = weir_record_set_rule_set(record, hash, strlen(hash), err);
    for (size_t i = 0; rc == WEIR_OK && i < p->schedule.count; i++) {
        rc = weir_record_add_message(record, &p->schedule.messages[i], err);
    }
    schedule_clear(p);
    if (rc == WEIR_OK && p->columns_told != p->columns_changed + 1) {
        rc = evolve_put(p, record, err);
        p->columns_told = p->columns_changed + 1;
    }
    return rc == WEIR_OK ? pipeline_put_keyed(p, record, err) : rc;
}

static void free_owner(void *owner) {
    weir_block_give(owner);
}

/* Images of one cell, few slots at a time, until it is done or the time is up. */
static int collect_cell(struct weir_pipeline *p, struct weir_record *record, struct weir_cell *cell,
                        int64_t until, struct weir_error *err) {
    struct weir_buffer bytes;
    int rc = WEIR_OK;
    weir_buffer_init(&bytes, SLICE_BYTES_MAX);
    p->collection.cell_done = false;
    do {
        rc = cell->ops->collect(cell->self, &bytes, SLICE_SLOTS, &p->collection.cell_done, err);
    } while (rc == WEIR_OK && !p->collection.cell_done && bytes.size < SLICE_BYTES &&
             weir_clock_mono_ns() < until);
    if (rc != WEIR_OK || bytes.size == 0) {
        weir_buffer_fini(&bytes);
        return rc;
    }
    p->images_since_snapshot += bytes.size;
    struct weir_blob blob = {bytes.data, bytes.size, free_owner, bytes.data};
    return weir_record_take_image(record, cell->name, strlen(cell->name), &blob, err);
}

int pipeline_collect(struct weir_pipeline *p, int64_t budget_ns, struct weir_error *err) {
    struct collection *c = &p->collection;
    if (!c->active) {
        return WEIR_OK;
    }
    int64_t until = budget_ns < 0 ? INT64_MAX : weir_clock_mono_ns() + budget_ns;
    struct weir_record *record = weir_commit_record(p->commit, c->epoch);
    while (c->at < c->cell_count) {
        int rc = collect_cell(p, record, c->cells[c->at], until, err);
        if (rc != WEIR_OK) {
            return weir_error_wrap(err, "state of %s", c->cells[c->at]->name);
        }
        c->at += c->cell_done;
        if (c->at < c->cell_count && weir_clock_mono_ns() >= until) {
            return WEIR_OK;
        }
    }
    if (WEIR_FAULT(epoch_collected)) {
        return weir_error_set(err, WEIR_E_FAULT, "injected at epoch_collected");
    }
    c->active = false;
    return weir_commit_complete(p->commit, c->epoch, err);
}

/* Positions of the epoch just sealed, to be told once it is durable; one epoch waits at a time. */
void pipeline_note_positions(struct weir_pipeline *p, uint64_t epoch) {
    if (p->told_epoch != 0) {
        return;
    }
    p->told_epoch = epoch;
    for (int32_t s = 0; s < p->source_count; s++) {
        for (int32_t i = 0; i < p->sources[s].partition_count; i++) {
            struct partition_state *partition = &p->sources[s].partitions[i];
            partition->told_size = 0;
            if (partition->position != NULL && partition->position_size <= POSITION_TOLD_MAX) {
                memcpy(partition->told, partition->position, partition->position_size);
                partition->told_size = partition->position_size;
            }
        }
    }
}

void pipeline_tell_sources(struct weir_pipeline *p) {
    if (p->told_epoch == 0) {
        return;
    }
    struct weir_commit_status status;
    weir_commit_status(p->commit, &status);
    if (status.durable < p->told_epoch) {
        return;
    }
    p->told_epoch = 0;
    for (int32_t s = 0; s < p->source_count; s++) {
        for (int32_t i = 0; i < p->sources[s].partition_count; i++) {
            const struct partition_state *partition = &p->sources[s].partitions[i];
            struct weir_position position = {partition->told, partition->told_size};
            if (partition->told_size > 0) {
                weir_source_committed(p->sources[s].source, i, &position);
            }
        }
    }
}

int pipeline_seal(struct weir_pipeline *p, struct weir_error *err) {
    int64_t start = weir_clock_mono_ns();
    uint64_t epoch = p->epoch;
    int rc = weir_commit_open(p->commit, epoch, p->clock_us, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    struct collection *c = &p->collection;
    c->epoch = epoch;
    c->at = 0;
    c->cell_count = pipeline_cells(p, c->cells, CELLS_MAX);
    for (int32_t i = 0; rc == WEIR_OK && i < c->cell_count; i++) {
        rc = c->cells[i]->ops->seal(c->cells[i]->self, err);
    }
    if (rc == WEIR_OK) {
        rc = fill_record(p, weir_commit_record(p->commit, epoch), err);
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    c->active = true;
    pipeline_note_positions(p, epoch);
    p->epoch++;
    p->dirty = false;
    p->commands_open = 0;
    p->sealed_at_ns = start;
    weir_sinks_seal(p->sinks, epoch);
    if (WEIR_FAULT(epoch_sealed)) {
        return weir_error_set(err, WEIR_E_FAULT, "injected at epoch_sealed");
    }
    return WEIR_OK;
}
