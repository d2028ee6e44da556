/* Fuzzy snapshots: the loop dumps cells in slices between batches; a thread of its own writes,
 * syncs and publishes. begin is the epoch open at the first slice, end the one open at the last. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/block.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/thread.h"
#include "pipeline/evolve.h"

enum {
    SLICE_SLOTS = 512,
    SLICE_BYTES_MAX = 64 << 20,
    QUEUE_SLICES_MAX = 256, /* waiting for the disk; the dump pauses beyond it */
    EVERY_IMAGE_BYTES = 64 << 20,
    STEP_NS = 200000, /* of dumping between two batches, at least one slice */
};

struct slice {
    struct slice *next;
    const char *table; /* the cell's name */
    struct weir_buffer bytes;
};

struct snapshotter {
    struct weir_pipeline *p;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* under the lock */
    struct slice *head;
    struct slice *tail;
    int32_t queued;
    uint64_t begin; /* 0: idle */
    int64_t began_ns;
    int64_t time_us;
    struct weir_record *state; /* given with the last slice */
    bool busy;
    bool stop;
    /* loop's */
    struct weir_cell *cells[CELLS_MAX];
    int32_t cell_count;
    int32_t at;
    struct weir_cell_cursor cursor;
    bool dumping;
};

static struct slice *take(struct snapshotter *s, bool *last, bool *stop) {
    pthread_mutex_lock(&s->lock);
    while (s->head == NULL && s->state == NULL && !s->stop) {
        pthread_cond_wait(&s->changed, &s->lock);
    }
    struct slice *slice = s->head;
    if (slice != NULL) {
        s->head = slice->next;
        s->queued--;
    }
    *last = s->head == NULL && s->state != NULL;
    *stop = s->stop;
    pthread_mutex_unlock(&s->lock);
    return slice;
}

static int write_one(struct snapshotter *s, struct weir_error *err) {
    struct weir_snapshot_writer *writer;
    int rc = weir_snapshot_begin(s->p->snapshots, s->begin, s->time_us, &writer, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    bool last = false;
    bool stop = false;
    while (rc == WEIR_OK && !last) {
        struct slice *slice = take(s, &last, &stop);
        if (slice != NULL) {
            rc = weir_snapshot_append(writer, slice->table, strlen(slice->table), slice->bytes.data,
                                      slice->bytes.size, err);
            weir_buffer_fini(&slice->bytes);
            weir_block_give(slice);
        }
        if (stop) {
            weir_snapshot_abandon(writer);
            return WEIR_OK;
        }
    }
    if (rc == WEIR_OK) {
        rc = weir_snapshot_end(writer, s->state, err);
    }
    if (rc == WEIR_OK) {
        uint64_t end = weir_snapshot_end_epoch(writer);
        rc = weir_commit_wait(s->p->commit, end, -1, err);
        if (rc == WEIR_OK) {
            rc = weir_snapshot_publish(writer, end, err);
        }
        if (rc == WEIR_OK) {
            weir_commit_set_snapshot_begin(s->p->commit,
                                           weir_snapshots_oldest_begin(s->p->snapshots));
            int64_t now = weir_clock_mono_ns();
            atomic_fetch_add(&s->p->snapshots_published, 1);
            atomic_store(&s->p->snapshot_published_ns, now);
            atomic_store(&s->p->snapshot_took_ns, now - s->began_ns);
            return WEIR_OK;
        }
    }
    weir_snapshot_abandon(writer);
    return rc;
}

static void *run(void *context) {
    struct snapshotter *s = context;
    weir_thread_name("snapshot", -1);
    pthread_mutex_lock(&s->lock);
    while (!s->stop) {
        if (s->begin == 0) {
            pthread_cond_wait(&s->changed, &s->lock);
            continue;
        }
        pthread_mutex_unlock(&s->lock);
        struct weir_error err = {0};
        int rc = write_one(s, &err);
        if (rc != WEIR_OK && rc != WEIR_E_CLOSED) {
            pipeline_fail(s->p, &err);
        }
        pthread_mutex_lock(&s->lock);
        weir_record_destroy(s->state);
        s->state = NULL;
        s->begin = 0;
        s->busy = false;
        pthread_cond_broadcast(&s->changed);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

int snapshotter_create(struct weir_pipeline *p, struct snapshotter **out, struct weir_error *err) {
    struct snapshotter *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "snapshots: out of memory");
    }
    s->p = p;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    if (weir_thread_start(&s->thread, run, s) != 0) {
        pthread_mutex_destroy(&s->lock);
        pthread_cond_destroy(&s->changed);
        free(s);
        return weir_error_set(err, WEIR_E_ENVIRONMENT, "snapshots: cannot start a thread");
    }
    *out = s;
    return WEIR_OK;
}

static int begin(struct weir_pipeline *p, struct snapshotter *s) {
    s->cell_count = pipeline_cells(p, s->cells, CELLS_MAX);
    s->at = 0;
    memset(&s->cursor, 0, sizeof(s->cursor));
    s->dumping = true;
    p->images_since_snapshot = 0;
    p->snapshot_at_ns = weir_clock_mono_ns();
    pthread_mutex_lock(&s->lock);
    s->begin = p->epoch;
    s->began_ns = weir_clock_mono_ns();
    s->time_us = p->clock_us;
    s->busy = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    return WEIR_OK;
}

static int finish(struct weir_pipeline *p, struct snapshotter *s, struct weir_error *err) {
    /* The open epoch is the snapshot's end; its record will say everything again, so the state
     * given here only needs to be complete, not current. */
    struct weir_record *state = NULL;
    int rc = weir_record_create(p->epoch, NULL, &state, err);
    if (rc == WEIR_OK) {
        weir_record_set_sealed_at(state, p->clock_us);
        const char *hash = weir_rule_set_hash(p->rule_set);
        rc = weir_record_set_rule_set(state, hash, strlen(hash), err);
    }
    if (rc == WEIR_OK) {
        rc = pipeline_put_keyed(p, state, err);
    }
    if (rc == WEIR_OK) {
        rc = evolve_put(p, state, err);
    }
    if (rc == WEIR_OK) {
        rc = weir_commit_put_markers(p->commit, p->epoch, state, err);
    }
    if (rc != WEIR_OK) {
        weir_record_destroy(state);
        return rc;
    }
    s->dumping = false;
    pthread_mutex_lock(&s->lock);
    s->state = state;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    return WEIR_OK;
}

/* The next slice, or the end. *more: another may follow at once. */
static int dump_slice(struct weir_pipeline *p, struct snapshotter *s, bool *more,
                      struct weir_error *err) {
    *more = false;
    pthread_mutex_lock(&s->lock);
    bool full = s->queued >= QUEUE_SLICES_MAX;
    pthread_mutex_unlock(&s->lock);
    if (full) {
        return WEIR_OK;
    }
    if (s->at == s->cell_count) {
        return finish(p, s, err);
    }
    struct weir_cell *cell = s->cells[s->at];
    struct slice *slice = weir_block_take_zeroed(sizeof(*slice));
    if (slice == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "snapshot: out of memory");
    }
    slice->table = cell->name;
    weir_buffer_init(&slice->bytes, SLICE_BYTES_MAX);
    bool done = false;
    int rc = cell->ops->dump(cell->self, &s->cursor, &slice->bytes, SLICE_SLOTS, &done, err);
    if (rc != WEIR_OK || slice->bytes.size == 0) {
        weir_buffer_fini(&slice->bytes);
        weir_block_give(slice);
        slice = NULL;
    }
    if (rc != WEIR_OK) {
        return weir_error_wrap(err, "snapshot of %s", cell->name);
    }
    if (done) {
        s->at++;
        memset(&s->cursor, 0, sizeof(s->cursor));
    }
    if (slice != NULL) {
        pthread_mutex_lock(&s->lock);
        if (s->head == NULL) {
            s->head = slice;
        } else {
            s->tail->next = slice;
        }
        s->tail = slice;
        s->queued++;
        pthread_cond_broadcast(&s->changed);
        pthread_mutex_unlock(&s->lock);
    }
    *more = slice != NULL || done; /* else it reads from a disk */
    return WEIR_OK;
}

int snapshotter_step(struct weir_pipeline *p, struct weir_error *err) {
    struct snapshotter *s = p->snapshotter;
    if (!s->dumping) {
        bool due = p->images_since_snapshot > EVERY_IMAGE_BYTES ||
                   (p->images_since_snapshot > 0 &&
                    weir_clock_mono_ns() - p->snapshot_at_ns > p->plan->snapshot_every_us * 1000);
        if (!due) {
            return WEIR_OK;
        }
        pthread_mutex_lock(&s->lock);
        bool busy = s->busy;
        pthread_mutex_unlock(&s->lock);
        return busy ? WEIR_OK : begin(p, s);
    }
    int64_t until = weir_clock_mono_ns() + STEP_NS;
    bool more = true;
    int rc = WEIR_OK;
    while (rc == WEIR_OK && more) {
        rc = dump_slice(p, s, &more, err);
        more = more && weir_clock_mono_ns() < until;
    }
    return rc;
}

bool snapshotter_dumping(const struct snapshotter *s) {
    return s->dumping;
}

void snapshotter_destroy(struct snapshotter *s) {
    if (s == NULL) {
        return;
    }
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    while (s->head != NULL) {
        struct slice *slice = s->head;
        s->head = slice->next;
        weir_buffer_fini(&slice->bytes);
        weir_block_give(slice);
    }
    weir_record_destroy(s->state);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->changed);
    free(s);
}
