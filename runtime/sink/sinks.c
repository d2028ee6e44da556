/* Workers and appliers. Queues are linked messages under one lock each: a message carries a whole
 * batch, so a lock a batch is cheap. Message structs come from a free list. */
#include "sink/sinks.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch/digest.h"
#include "core/block.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/thread.h"

enum {
    SINKS_MAX = 64,
    WORKERS_MAX = 8,
    KINDS_MAX = 16,
    TOGETHER_MAX = 32, /* records in one transaction, where a sink is behind */
    TOGETHER_BYTES = 64 << 20,
    SEAL_BYTES = 8 << 20, /* of one sink's open effect: the epoch is sealed early */
};

struct message {
    struct message *next;
    int32_t sink;
    /* rows (worker) */
    struct weir_batch *batch;
    int32_t *sel; /* from the batch's pool; NULL: all rows */
    struct weir_pool *pool;
    int32_t count;
    size_t bytes;
    struct weir_schema *schema; /* columns to come (worker) */
    /* seal (worker) or effect (applier) */
    uint64_t epoch;
    const void *effect;
    size_t size;
    bool verify;
    void (*release)(void *owner);
    void *owner;
};

struct queue {
    pthread_mutex_t lock;
    pthread_cond_t not_empty;
    pthread_cond_t changed; /* room, or drained */
    struct message *head;
    struct message *tail;
    size_t bytes;
    bool busy; /* its thread works on a message */
    bool stop;
    int64_t cpu_ns; /* of its thread, so far */
};

struct worker {
    struct weir_sinks *sinks;
    struct queue queue;
    pthread_t thread;
    bool started;
};

struct entry {
    struct weir_sinks *sinks;
    const struct weir_sink_ops *ops;
    void *self;
    char *name;
    int32_t index;
    struct worker *worker;
    bool many;       /* records that wait are applied together */
    bool dirty;      /* rows since the last seal; loop thread */
    uint64_t digest; /* of the rows since the last seal; worker */
    uint64_t rows;
    struct weir_sink_figures figures; /* each atomic: of both threads */
    struct queue queue;               /* applier's */
    pthread_t thread;
    bool started;
};

struct weir_sinks {
    struct weir_sinks_options options;
    struct entry *entries[SINKS_MAX];
    int32_t count;
    struct worker workers[WORKERS_MAX];
    int32_t worker_count;
    struct {
        const struct weir_sink_ops *ops;
        void *slot;
    } shared[KINDS_MAX]; /* what sinks of one kind share */
    int64_t blocked_ns;
    bool failed;    /* atomic */
    bool want_seal; /* atomic; set by workers, cleared by the seal */
};

static void queue_init(struct queue *queue) {
    pthread_mutex_init(&queue->lock, NULL);
    pthread_cond_init(&queue->not_empty, NULL);
    pthread_cond_init(&queue->changed, NULL);
}

static void drop(struct message *message) {
    weir_schema_unref(message->schema);
    message->schema = NULL;
    if (message->batch != NULL) {
        weir_pool_give(message->pool, message->sel);
        weir_batch_unref(message->batch);
    }
    if (message->release != NULL) {
        message->release(message->owner);
    }
}

static void queue_fini(struct queue *queue) {
    while (queue->head != NULL) {
        struct message *message = queue->head;
        queue->head = message->next;
        drop(message);
        weir_block_give(message);
    }
    pthread_mutex_destroy(&queue->lock);
    pthread_cond_destroy(&queue->not_empty);
    pthread_cond_destroy(&queue->changed);
}

static struct message *new_message(void) {
    return weir_block_take_zeroed(sizeof(struct message));
}

static void push(struct queue *queue, struct message *message) {
    if (queue->tail != NULL && queue->head != NULL) {
        queue->tail->next = message;
    } else {
        queue->head = message;
    }
    queue->tail = message;
    queue->bytes += message->bytes;
    pthread_cond_signal(&queue->not_empty);
}

/* Blocks for the next message; NULL at stop. The queue counts as busy until done(). */
static struct message *pop(struct queue *queue) {
    pthread_mutex_lock(&queue->lock);
    queue->cpu_ns = weir_clock_thread_cpu_ns();
    while (queue->head == NULL && !queue->stop) {
        pthread_cond_wait(&queue->not_empty, &queue->lock);
    }
    struct message *message = queue->stop ? NULL : queue->head;
    if (message != NULL) {
        queue->head = message->next;
        queue->busy = true;
    }
    pthread_mutex_unlock(&queue->lock);
    return message;
}

/* True when the queue held more than `most` bytes and no longer does. */
static bool done(struct queue *queue, struct message *message, size_t most) {
    size_t bytes = message->bytes;
    drop(message);
    weir_block_give(message);
    pthread_mutex_lock(&queue->lock);
    bool was_full = queue->bytes > most;
    queue->bytes -= bytes;
    bool room = was_full && queue->bytes <= most;
    queue->busy = false;
    queue->cpu_ns = weir_clock_thread_cpu_ns();
    pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
    return room;
}

static void fail(struct weir_sinks *sinks, const struct weir_error *err) {
    __atomic_store_n(&sinks->failed, true, __ATOMIC_RELEASE);
    sinks->options.hooks.failed(sinks->options.hooks.context, err);
}

static void free_owner(void *owner) {
    weir_block_give(owner);
}

static int seal_buffered(struct weir_sinks *sinks, struct entry *entry, uint64_t epoch,
                         struct weir_sink_effect *out, struct weir_error *err) {
    struct weir_buffer effect;
    weir_buffer_init(&effect, sinks->options.effect_bytes_max);
    int rc = weir_buffer_printf(&effect, WEIR_EFFECT_DIGEST "\n", entry->rows, entry->digest);
    if (rc == WEIR_OK) {
        rc = entry->ops->seal(entry->self, epoch, &effect, err);
    } else {
        weir_error_set(err, rc, "seal %s: out of memory", entry->name);
    }
    if (rc != WEIR_OK) {
        weir_buffer_fini(&effect);
        return rc;
    }
    *out = (struct weir_sink_effect){effect.data, effect.size, free_owner, effect.data};
    return WEIR_OK;
}

static int seal_handed_over(struct entry *entry, uint64_t epoch, struct weir_sink_effect *out,
                            struct weir_error *err) {
    int rc = entry->ops->hand_over(entry->self, epoch, out, err);
    if (rc == WEIR_OK && out->size > 0) {
        char head[WEIR_SINK_HEAD_BYTES + 1];
        int length = snprintf(head, sizeof(head), WEIR_EFFECT_DIGEST, entry->rows, entry->digest);
        memset(head + length, ' ', (size_t)(WEIR_SINK_HEAD_BYTES - length));
        head[WEIR_SINK_HEAD_BYTES - 1] = '\n';
        memcpy(out->data, head, WEIR_SINK_HEAD_BYTES);
    }
    return rc;
}

static int seal_one(struct weir_sinks *sinks, struct entry *entry, uint64_t epoch,
                    struct weir_error *err) {
    struct weir_sink_effect effect = {0};
    int rc = entry->ops->hand_over != NULL ? seal_handed_over(entry, epoch, &effect, err)
                                           : seal_buffered(sinks, entry, epoch, &effect, err);
    entry->rows = 0;
    entry->digest = 0;
    if (rc == WEIR_OK) {
        __atomic_add_fetch(&entry->figures.record_bytes, effect.size, __ATOMIC_RELAXED);
        sinks->options.hooks.sealed(sinks->options.hooks.context, entry->index, epoch, &effect);
    }
    return rc;
}

static int write_one(struct entry *entry, struct message *message, struct weir_error *err) {
    entry->digest = weir_batch_digest(message->batch, message->sel, message->count, entry->digest);
    entry->rows += (uint64_t)message->count;
    __atomic_add_fetch(&entry->figures.rows, (uint64_t)message->count, __ATOMIC_RELAXED);
    int rc = entry->ops->write(entry->self, message->batch, message->sel, message->count, err);
    if (rc == WEIR_OK && entry->ops->held != NULL && entry->ops->held(entry->self) > SEAL_BYTES) {
        __atomic_store_n(&entry->sinks->want_seal, true, __ATOMIC_RELEASE);
    }
    return rc;
}

static void *work(void *context) {
    struct worker *worker = context;
    struct weir_sinks *sinks = worker->sinks;
    struct message *message;
    weir_thread_name("encode", (int)(worker - sinks->workers));
    while ((message = pop(&worker->queue)) != NULL) {
        struct entry *entry = sinks->entries[message->sink];
        struct weir_error err = {0};
        int rc = WEIR_OK;
        if (!__atomic_load_n(&sinks->failed, __ATOMIC_ACQUIRE)) {
            rc = message->batch != NULL    ? write_one(entry, message, &err)
                 : message->schema != NULL ? entry->ops->evolve(entry->self, message->schema, &err)
                                           : seal_one(sinks, entry, message->epoch, &err);
        }
        if (rc != WEIR_OK) {
            fail(sinks, &err); /* before done: who waits for the queue then asks for failures */
        }
        size_t most = sinks->options.queue_bytes;
        if (done(&worker->queue, message, most) && sinks->options.hooks.room != NULL) {
            sinks->options.hooks.room(sinks->options.hooks.context);
        }
    }
    return NULL;
}

/* Up to `room` of the messages that wait, without waiting for any. */
static int32_t pop_more(struct queue *queue, struct message **out, int32_t room) {
    size_t bytes = 0;
    int32_t count = 0;
    pthread_mutex_lock(&queue->lock);
    while (count < room && queue->head != NULL && !queue->stop && bytes < TOGETHER_BYTES) {
        out[count] = queue->head;
        queue->head = out[count]->next;
        bytes += out[count++]->size;
    }
    pthread_mutex_unlock(&queue->lock);
    return count;
}

static struct weir_sink_record without_digest(const struct message *message) {
    const char *text = message->effect;
    const char *newline = memchr(text, '\n', message->size);
    size_t head = newline != NULL ? (size_t)(newline - text) + 1 : message->size;
    return (struct weir_sink_record){message->epoch, text + head, message->size - head,
                                     message->verify};
}

static int apply_messages(struct entry *entry, struct message *const *messages, int32_t count,
                          bool *any, struct weir_error *err) {
    struct weir_sink_record records[TOGETHER_MAX];
    int32_t found = 0;
    for (int32_t i = 0; i < count; i++) {
        if (messages[i]->size > 0) {
            records[found++] = without_digest(messages[i]);
        }
    }
    *any = found > 0;
    if (found == 0) {
        return WEIR_OK;
    }
    return entry->many ? entry->ops->apply_many(entry->self, records, found, err)
                       : entry->ops->apply(entry->self, records[0].record, records[0].effect,
                                           records[0].size, records[0].verify, err);
}

static void *apply_effects(void *context) {
    struct entry *entry = context;
    struct weir_sinks *sinks = entry->sinks;
    struct message *messages[TOGETHER_MAX];
    weir_thread_name("commit", (int)entry->index);
    while ((messages[0] = pop(&entry->queue)) != NULL) {
        struct weir_error err = {0};
        int32_t count = 1;
        if (entry->many) {
            count += pop_more(&entry->queue, messages + 1, TOGETHER_MAX - 1);
        }
        bool any = false;
        bool skip = __atomic_load_n(&sinks->failed, __ATOMIC_ACQUIRE);
        int rc = skip ? WEIR_OK : apply_messages(entry, messages, count, &any, &err);
        for (int32_t i = 0; rc == WEIR_OK && !skip && i < count; i++) {
            sinks->options.hooks.applied(sinks->options.hooks.context, entry->index,
                                         messages[i]->epoch);
        }
        if (rc == WEIR_OK && any) {
            struct weir_error why = {0};
            __atomic_add_fetch(&entry->figures.commits, 1, __ATOMIC_RELAXED);
            if (entry->ops->maintain(entry->self, &why) != WEIR_OK) { /* no effect depends on it */
                weir_log_warn("sink", "upkeep of %s failed, going on error=\"%s\"", entry->name,
                              why.message);
            }
        }
        if (rc != WEIR_OK) {
            fail(sinks, &err);
        }
        for (int32_t i = 0; i < count; i++) {
            (void)done(&entry->queue, messages[i], SIZE_MAX);
        }
    }
    return NULL;
}

int weir_sinks_create(const struct weir_sinks_options *options, struct weir_sinks **out,
                      struct weir_error *err) {
    struct weir_sinks *sinks = calloc(1, sizeof(*sinks));
    *out = sinks;
    if (sinks == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "sinks: out of memory");
    }
    sinks->options = *options;
    if (sinks->options.queue_bytes == 0) {
        sinks->options.queue_bytes = (size_t)24 << 20;
    }
    if (sinks->options.effect_bytes_max == 0) {
        sinks->options.effect_bytes_max = (size_t)64 << 20;
    }
    sinks->worker_count = options->workers > 0 ? options->workers : 2;
    if (sinks->worker_count > WORKERS_MAX) {
        sinks->worker_count = WORKERS_MAX;
    }
    for (int32_t i = 0; i < sinks->worker_count; i++) {
        sinks->workers[i].sinks = sinks;
        queue_init(&sinks->workers[i].queue);
    }
    return WEIR_OK;
}

/* The slot sinks of this kind share; there are fewer kinds than slots. */
static void **shared_slot(struct weir_sinks *sinks, const struct weir_sink_ops *ops) {
    int i = 0;
    while (i < KINDS_MAX - 1 && sinks->shared[i].ops != NULL && sinks->shared[i].ops != ops) {
        i++;
    }
    sinks->shared[i].ops = ops;
    return &sinks->shared[i].slot;
}

int weir_sinks_add(struct weir_sinks *sinks, const struct weir_sink_config *config,
                   struct weir_error *err) {
    const struct weir_sink_ops *ops = weir_sink_find(config->kind);
    if (ops == NULL) {
        return weir_error_set(err, WEIR_E_CONFIG, "%s: there is no sink '%s'", config->name,
                              config->kind);
    }
    if (sinks->count == SINKS_MAX) {
        return weir_error_set(err, WEIR_E_LIMIT,
                              "%s: a pipeline writes at most %d datasets; use `into = none` for "
                              "those nobody reads",
                              config->name, SINKS_MAX);
    }
    struct entry *entry = calloc(1, sizeof(*entry));
    if (entry == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", config->name);
    }
    entry->sinks = sinks;
    entry->ops = ops;
    entry->name = strdup(config->name);
    entry->index = sinks->count;
    entry->many = ops->apply_many != NULL && (ops->apply == NULL || config->together);
    entry->worker = &sinks->workers[sinks->count % sinks->worker_count];
    queue_init(&entry->queue);
    struct weir_sink_config own = *config;
    own.name = entry->name;
    own.shared = shared_slot(sinks, ops);
    int rc = entry->name == NULL
                 ? weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", config->name)
                 : ops->create(&own, &entry->self, err);
    if (rc != WEIR_OK) {
        queue_fini(&entry->queue);
        free(entry->name);
        free(entry);
        return rc;
    }
    sinks->entries[sinks->count] = entry;
    __atomic_store_n(&sinks->count, sinks->count + 1, __ATOMIC_RELEASE);
    return WEIR_OK;
}

int weir_sinks_start(struct weir_sinks *sinks, uint64_t *markers, struct weir_error *err) {
    for (int32_t i = 0; i < sinks->count; i++) {
        int rc = sinks->entries[i]->ops->start(sinks->entries[i]->self, &markers[i], err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    for (int32_t i = 0; i < sinks->worker_count; i++) {
        if (weir_thread_start(&sinks->workers[i].thread, work, &sinks->workers[i]) != 0) {
            return weir_error_set(err, WEIR_E_ENVIRONMENT, "sinks: cannot start a thread");
        }
        sinks->workers[i].started = true;
    }
    return WEIR_OK;
}

int weir_sinks_add_running(struct weir_sinks *sinks, const struct weir_sink_config *config,
                           uint64_t *marker, struct weir_error *err) {
    int rc = weir_sinks_add(sinks, config, err);
    if (rc == WEIR_OK) {
        struct entry *entry = sinks->entries[sinks->count - 1];
        rc = entry->ops->start(entry->self, marker, err);
    }
    return rc;
}

int weir_sinks_duties(struct weir_sinks *sinks, int32_t sink, struct weir_schema *schema,
                      struct weir_delta_duties **out, struct weir_error *err) {
    struct entry *entry = sinks->entries[sink];
    *out = NULL;
    return entry->ops->duties != NULL ? entry->ops->duties(entry->self, schema, out, err) : WEIR_OK;
}

int32_t weir_sinks_count(const struct weir_sinks *sinks) {
    return sinks->count;
}

const char *weir_sinks_name(const struct weir_sinks *sinks, int32_t sink) {
    return sinks->entries[sink]->name;
}

enum weir_sink_effect_kind weir_sinks_effect_kind(const struct weir_sinks *sinks, int32_t sink) {
    return sinks->entries[sink]->ops->effect_kind;
}

bool weir_sinks_have_room(struct weir_sinks *sinks) {
    bool room = true;
    for (int32_t i = 0; i < sinks->worker_count; i++) {
        struct queue *queue = &sinks->workers[i].queue;
        pthread_mutex_lock(&queue->lock);
        room = room && queue->bytes <= sinks->options.queue_bytes;
        pthread_mutex_unlock(&queue->lock);
    }
    return room || __atomic_load_n(&sinks->failed, __ATOMIC_ACQUIRE);
}

bool weir_sinks_want_seal(struct weir_sinks *sinks) {
    return __atomic_load_n(&sinks->want_seal, __ATOMIC_ACQUIRE);
}

int weir_sinks_write(struct weir_sinks *sinks, int32_t sink, struct weir_batch *batch,
                     const int32_t *sel, int32_t count, struct weir_error *err) {
    struct entry *entry = sinks->entries[sink];
    struct queue *queue = &entry->worker->queue;
    int32_t *copy = NULL;
    if (sel != NULL && count < batch->rows) {
        copy = weir_pool_take(batch->pool, (size_t)count * sizeof(*copy) + 1);
        if (copy == NULL) {
            return weir_error_set(err, WEIR_E_LIMIT, "%s: the memory cap is reached", entry->name);
        }
        memcpy(copy, sel, (size_t)count * sizeof(*copy));
    }
    size_t bytes = weir_batch_held_bytes(batch);
    pthread_mutex_lock(&queue->lock);
    size_t most = sinks->options.queue_bytes + sinks->options.queue_bytes / 2;
    if (queue->bytes > most) {
        int64_t start = weir_clock_mono_ns();
        while (queue->bytes > most && !__atomic_load_n(&sinks->failed, __ATOMIC_ACQUIRE)) {
            pthread_cond_wait(&queue->changed, &queue->lock);
        }
        sinks->blocked_ns += weir_clock_mono_ns() - start;
    }
    struct message *message = new_message();
    if (message != NULL) {
        message->sink = sink;
        message->batch = weir_batch_ref(batch);
        message->pool = batch->pool;
        message->sel = copy;
        message->count = count;
        message->bytes = bytes;
        push(queue, message);
        entry->dirty = true;
    }
    pthread_mutex_unlock(&queue->lock);
    if (message == NULL) {
        weir_pool_give(batch->pool, copy);
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", entry->name);
    }
    return WEIR_OK;
}

int weir_sinks_takes(struct weir_sinks *sinks, int32_t sink, struct weir_schema *schema, bool wider,
                     struct weir_error *err) {
    struct entry *entry = sinks->entries[sink];
    if (entry->ops->takes != NULL) {
        return entry->ops->takes(entry->self, schema, err);
    }
    return wider ? weir_error_set(err, WEIR_E_UNSUPPORTED,
                                  "columns of %s get other types at a restart only", entry->name)
                 : WEIR_OK;
}

int weir_sinks_evolve(struct weir_sinks *sinks, int32_t sink, struct weir_schema *schema,
                      struct weir_error *err) {
    struct entry *entry = sinks->entries[sink];
    struct queue *queue = &entry->worker->queue;
    if (entry->ops->evolve == NULL) {
        return weir_error_set(err, WEIR_E_UNSUPPORTED, "the columns of %s change at a restart only",
                              entry->name);
    }
    pthread_mutex_lock(&queue->lock);
    struct message *message = new_message();
    if (message != NULL) {
        message->sink = sink;
        message->schema = weir_schema_ref(schema);
        push(queue, message);
    }
    pthread_mutex_unlock(&queue->lock);
    return message != NULL ? WEIR_OK
                           : weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", entry->name);
}

void weir_sinks_seal(struct weir_sinks *sinks, uint64_t epoch) {
    static const struct weir_sink_effect nothing;
    __atomic_store_n(&sinks->want_seal, false, __ATOMIC_RELEASE);
    for (int32_t i = 0; i < sinks->count; i++) {
        struct entry *entry = sinks->entries[i];
        if (!entry->dirty) {
            sinks->options.hooks.sealed(sinks->options.hooks.context, i, epoch, &nothing);
            continue;
        }
        entry->dirty = false;
        struct queue *queue = &entry->worker->queue;
        pthread_mutex_lock(&queue->lock);
        struct message *message = new_message();
        if (message != NULL) {
            message->sink = i;
            message->epoch = epoch;
            push(queue, message);
        }
        pthread_mutex_unlock(&queue->lock);
        if (message == NULL) {
            struct weir_error err;
            weir_error_set(&err, WEIR_E_NOMEM, "%s: out of memory", entry->name);
            fail(sinks, &err);
        }
    }
}

void weir_sinks_apply(struct weir_sinks *sinks, int32_t sink, uint64_t epoch, const void *effect,
                      size_t size, bool verify, void (*release)(void *owner), void *owner) {
    struct entry *entry = sinks->entries[sink];
    struct queue *queue = &entry->queue;
    pthread_mutex_lock(&queue->lock);
    bool idle = queue->head == NULL && !queue->busy;
    struct message *message = size > 0 || !idle ? new_message() : NULL;
    if (message != NULL) {
        message->sink = sink;
        message->epoch = epoch;
        message->effect = effect;
        message->size = size;
        message->verify = verify;
        message->release = release;
        message->owner = owner;
        push(queue, message);
        if (!entry->started) {
            entry->started = weir_thread_start(&entry->thread, apply_effects, entry) == 0;
        }
    }
    bool lost = (size > 0 && message == NULL) || (message != NULL && !entry->started);
    pthread_mutex_unlock(&queue->lock);
    if (lost) {
        if (message == NULL && release != NULL) {
            release(owner);
        }
        struct weir_error err;
        weir_error_set(&err, WEIR_E_NOMEM, "%s: cannot start its commit thread", entry->name);
        fail(sinks, &err);
    } else if (message == NULL) {
        if (release != NULL) {
            release(owner);
        }
        sinks->options.hooks.applied(sinks->options.hooks.context, sink, epoch);
    }
}

void weir_sinks_drain(struct weir_sinks *sinks) {
    for (int32_t i = 0; i < sinks->count; i++) {
        struct queue *queue = &sinks->entries[i]->queue;
        pthread_mutex_lock(&queue->lock);
        while ((queue->head != NULL || queue->busy) && sinks->entries[i]->started &&
               !__atomic_load_n(&sinks->failed, __ATOMIC_ACQUIRE)) {
            pthread_cond_wait(&queue->changed, &queue->lock);
        }
        pthread_mutex_unlock(&queue->lock);
    }
}

static void stop_queue(struct queue *queue, pthread_t thread, bool *started) {
    pthread_mutex_lock(&queue->lock);
    queue->stop = true;
    pthread_cond_broadcast(&queue->not_empty);
    pthread_cond_broadcast(&queue->changed);
    pthread_mutex_unlock(&queue->lock);
    if (*started) {
        pthread_join(thread, NULL);
        *started = false;
    }
}

void weir_sinks_stop(struct weir_sinks *sinks) {
    for (int32_t i = 0; i < sinks->worker_count; i++) {
        stop_queue(&sinks->workers[i].queue, sinks->workers[i].thread, &sinks->workers[i].started);
    }
    for (int32_t i = 0; i < sinks->count; i++) {
        struct entry *entry = sinks->entries[i];
        stop_queue(&entry->queue, entry->thread, &entry->started);
    }
}

void weir_sinks_destroy(struct weir_sinks *sinks) {
    if (sinks == NULL) {
        return;
    }
    weir_sinks_stop(sinks);
    for (int32_t i = 0; i < sinks->worker_count; i++) {
        queue_fini(&sinks->workers[i].queue);
    }
    for (int32_t i = 0; i < sinks->count; i++) {
        queue_fini(&sinks->entries[i]->queue);
        sinks->entries[i]->ops->destroy(sinks->entries[i]->self);
        free(sinks->entries[i]->name);
        free(sinks->entries[i]);
    }
    free(sinks);
}

struct weir_sink_figures weir_sinks_figures(const struct weir_sinks *sinks, int32_t sink) {
    const struct weir_sink_figures *figures = &sinks->entries[sink]->figures;
    return (struct weir_sink_figures){
        .rows = __atomic_load_n(&figures->rows, __ATOMIC_RELAXED),
        .record_bytes = __atomic_load_n(&figures->record_bytes, __ATOMIC_RELAXED),
        .commits = __atomic_load_n(&figures->commits, __ATOMIC_RELAXED),
    };
}

const char *weir_sinks_kind(const struct weir_sinks *sinks, int32_t sink) {
    return sinks->entries[sink]->ops->kind;
}

void weir_sinks_stats(struct weir_sinks *sinks, struct weir_sinks_stats *out) {
    memset(out, 0, sizeof(*out));
    out->blocked_ns = sinks->blocked_ns;
    for (int32_t i = 0; i < sinks->worker_count; i++) {
        struct queue *queue = &sinks->workers[i].queue;
        pthread_mutex_lock(&queue->lock);
        out->encode_cpu_ns += queue->cpu_ns;
        out->queued_bytes += (int64_t)queue->bytes;
        pthread_mutex_unlock(&queue->lock);
    }
    for (int32_t i = 0; i < sinks->count; i++) {
        struct queue *queue = &sinks->entries[i]->queue;
        pthread_mutex_lock(&queue->lock);
        out->apply_cpu_ns += queue->cpu_ns;
        pthread_mutex_unlock(&queue->lock);
        if (sinks->entries[i]->ops->upkeep != NULL) {
            sinks->entries[i]->ops->upkeep(sinks->entries[i]->self, &out->upkeep);
        }
    }
}
