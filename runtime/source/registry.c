/* The sources there are, and what they share: creation, threads that push into rings, polling. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/thread.h"
#include "source/internal.h"

enum {
    QUEUE_BATCHES = 8,
    MEMORY_WAIT_MS = 1,
};

static const struct weir_source_vtable *const sources[] = {
    &weir_source_files, &weir_source_generator, &weir_source_kafka,  &weir_source_event_hubs,
    &weir_source_http,  &weir_source_delta,     &weir_source_parquet};

struct source_outlet { /* a lane: its thread and its ring */
    struct weir_source *source;
    struct weir_ring *ring;
    pthread_t thread;
    int32_t number;
    bool running;
    bool limited;                   /* memory was waited for, this turn */
    uint64_t pushed;                /* batches; its thread's */
    _Atomic int64_t quiet_since_ns; /* nothing came since; 0: something did */
    _Atomic int64_t cpu_ns;
    struct weir_error error; /* written before the failed batch is pushed */
};

static const struct weir_source_vtable *find(const char *kind) {
    for (size_t i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
        if (strcmp(sources[i]->name, kind) == 0) {
            return sources[i];
        }
    }
    return NULL;
}

bool weir_source_exists(const char *kind) {
    return find(kind) != NULL;
}

const struct weir_source_vtable *weir_source_kind(size_t index) {
    return index < sizeof(sources) / sizeof(sources[0]) ? sources[index] : NULL;
}

int weir_source_own_schema(const char *kind, const char *options_json, struct weir_schema **out,
                           struct weir_error *err) {
    const struct weir_source_vtable *vtable = find(kind);
    *out = NULL;
    return vtable != NULL && vtable->own_schema != NULL ? vtable->own_schema(options_json, out, err)
                                                        : WEIR_OK;
}

int weir_source_columns(const char *kind, const char *options_json, struct weir_schema *decoded,
                        struct weir_schema **out, struct weir_error *err) {
    const struct weir_source_vtable *vtable = find(kind);
    *out = NULL;
    if (vtable == NULL || vtable->columns == NULL) {
        *out = decoded;
        return WEIR_OK;
    }
    int rc = vtable->columns(options_json, decoded, out, err);
    weir_schema_unref(decoded);
    return rc;
}

int weir_source_describe_position(const char *kind, const struct weir_position *position,
                                  struct weir_buffer *out) {
    const struct weir_source_vtable *vtable = find(kind);
    return vtable == NULL ? WEIR_E_NOTFOUND : vtable->describe(position, out);
}

/* --- batches ------------------------------------------------------------------------------ */

struct weir_source_batch *source_batch_create(struct weir_pool *pool, struct weir_batch *batch,
                                              struct weir_reject_batch *rejects,
                                              uint32_t position_bytes) {
    struct weir_source_batch *out = weir_pool_take(pool, sizeof(*out) + position_bytes);
    if (out != NULL) {
        memset(out, 0, sizeof(*out));
        out->pool = pool;
        out->batch = batch;
        out->rejects = rejects;
        out->due_ns = weir_clock_mono_ns();
        out->position.bytes = source_position(out);
        out->position.size = position_bytes;
    }
    return out;
}

void weir_source_batch_release(struct weir_source_batch *batch) {
    if (batch != NULL) {
        weir_batch_unref(batch->batch);
        weir_reject_batch_destroy(batch->rejects);
        weir_pool_give(batch->pool, batch);
    }
}

/* --- life --------------------------------------------------------------------------------- */

static char *copy_text(const char *text, int *rc) {
    char *copy = text != NULL ? strdup(text) : NULL;
    if (text != NULL && copy == NULL) {
        *rc = WEIR_E_NOMEM;
    }
    return copy;
}

/* The user's columns: given, the source's own, or the decoder's. */
static int settle_schema(struct weir_source *source, const char *options_json,
                         struct weir_error *err) {
    struct weir_decoder *decoder = NULL;
    int rc = WEIR_OK;
    if (source->user_schema == NULL && source->vtable->own_schema != NULL) {
        rc = source->vtable->own_schema(options_json, &source->user_schema, err);
    }
    if (rc == WEIR_OK && source->user_schema == NULL && source->decoder_kind != NULL) {
        rc =
            weir_decoder_create(&decoder, source->decoder_kind, source->decoder_options, NULL, err);
        if (rc == WEIR_OK) {
            rc = weir_source_columns(source->vtable->name, options_json,
                                     weir_schema_ref(decoder->vtable->schema(decoder)),
                                     &source->user_schema, err);
        }
        weir_decoder_destroy(decoder);
    }
    if (rc == WEIR_OK && source->user_schema == NULL) {
        rc = weir_error_set(err, WEIR_E_CONFIG, "there is no schema");
    }
    if (rc == WEIR_OK) {
        rc = weir_decode_check_schema(source->user_schema, err);
    }
    if (rc == WEIR_OK) {
        source->full_schema = weir_decode_full_schema(source->user_schema);
        rc = source->full_schema == NULL ? weir_error_set(err, WEIR_E_NOMEM, "out of memory")
                                         : WEIR_OK;
    }
    return rc;
}

int weir_source_create(struct weir_source **out, const struct weir_source_config *config,
                       struct weir_error *err) {
    *out = NULL;
    const struct weir_source_vtable *vtable = find(config->kind);
    if (vtable == NULL) {
        return weir_error_set(err, WEIR_E_CONFIG, "no connector is called \"%s\"", config->kind);
    }
    if (vtable->needs_decoder && config->decoder == NULL) {
        return weir_error_set(err, WEIR_E_CONFIG, "%s needs a decoder; add json { schema = \"…\" }",
                              config->kind);
    }
    if (!vtable->needs_decoder && config->decoder != NULL) {
        return weir_error_set(err, WEIR_E_CONFIG, "%s takes no decoder; remove %s { … }",
                              config->kind, config->decoder);
    }
    struct weir_source *source = calloc(1, sizeof(*source));
    if (source == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    int rc = WEIR_OK;
    pthread_mutex_init(&source->columns_lock, NULL);
    source->vtable = vtable;
    source->name = copy_text(config->name, &rc);
    source->pipeline = copy_text(config->pipeline, &rc);
    source->instance = copy_text(config->instance, &rc);
    source->log_path = copy_text(config->log_path, &rc);
    source->keep_us = config->keep_us;
    source->decoder_kind = copy_text(config->decoder, &rc);
    source->user_schema = config->schema != NULL ? weir_schema_ref(config->schema) : NULL;
    source->pool = config->pool;
    source->signal = config->signal;
    source->until_end = config->until_end;
    source->again = config->again;
    source->batch_rows = config->batch_rows > 0 && config->batch_rows <= WEIR_BATCH_ROWS_MAX
                             ? config->batch_rows
                             : WEIR_BATCH_ROWS_MAX;
    source->wanted_rows = source->batch_rows;
    source->queue_batches = config->queue_batches > 0 ? config->queue_batches : QUEUE_BATCHES;
    if (rc != WEIR_OK) {
        weir_error_set(err, rc, "out of memory");
    } else if (config->decoder != NULL) {
        rc = weir_decoder_settle(config->decoder, config->decoder_options_json,
                                 config->options_json, &source->decoder_options, err);
    }
    if (rc == WEIR_OK) {
        rc = settle_schema(source, config->options_json, err);
    }
    if (rc == WEIR_OK) {
        rc = vtable->init(source, config->options_json, err);
    }
    if (rc != WEIR_OK) {
        weir_source_destroy(source);
        return rc;
    }
    *out = source;
    return WEIR_OK;
}

void weir_source_destroy(struct weir_source *source) {
    if (source == NULL) {
        return;
    }
    weir_source_stop(source);
    if (source->threads != NULL) {
        for (int32_t i = 0; i < source->lanes; i++) {
            weir_ring_destroy(source->threads[i].ring);
        }
        free(source->threads);
    }
    source->vtable->fini(source);
    weir_schema_unref(source->user_schema);
    weir_schema_unref(source->full_schema);
    weir_projection_unref(source->projection);
    source_completion_destroy(source->completion);
    pthread_mutex_destroy(&source->columns_lock);
    free(source->name);
    free(source->pipeline);
    free(source->instance);
    free(source->log_path);
    free(source->decoder_kind);
    free(source->decoder_options);
    free(source);
}

int weir_source_open(struct weir_source *source, const struct weir_position *positions,
                     int32_t count, struct weir_error *err) {
    return source->vtable->open(source, positions, count, err);
}

int32_t weir_source_partitions(const struct weir_source *source) {
    return source->partitions;
}

int32_t weir_source_lanes(const struct weir_source *source) {
    return source->lanes;
}

struct weir_schema *weir_source_schema(const struct weir_source *source) {
    return source->full_schema;
}

const char *weir_source_name(const struct weir_source *source) {
    return source->name;
}

int weir_source_next(struct weir_source *source, int32_t partition, int32_t max_rows,
                     struct weir_source_batch **out, struct weir_error *err) {
    *out = NULL;
    int32_t rows = max_rows > 0 && max_rows < source->batch_rows ? max_rows : source->batch_rows;
    return source->vtable->next(source, partition, rows, out, err);
}

/* --- columns that change ------------------------------------------------------------------ */

/* A decoder that keeps what a file's beginning said cannot be replaced in its middle. */
bool weir_source_columns_change(const struct weir_source *source) {
    const struct weir_decoder_vtable *decoder =
        source->decoder_kind != NULL ? weir_decoder_find(source->decoder_kind) : NULL;
    bool keeps = source->vtable->has_beginnings && decoder != NULL && decoder->begin != NULL;
    return source->vtable->columns_change && decoder != NULL && !keeps;
}

int weir_source_set_columns(struct weir_source *source, struct weir_schema *user,
                            struct weir_error *err) {
    if (!weir_source_columns_change(source)) {
        return weir_error_set(err, WEIR_E_UNSUPPORTED, "the columns of %s change at a restart only",
                              source->name);
    }
    struct weir_schema *full = weir_decode_full_schema(user);
    if (full == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    pthread_mutex_lock(&source->columns_lock);
    weir_schema_unref(source->user_schema);
    weir_schema_unref(source->full_schema);
    source->user_schema = weir_schema_ref(user);
    source->full_schema = full;
    weir_projection_unref(source->projection); /* it was of the columns before */
    source->projection = NULL;
    source->projection_number++;
    pthread_mutex_unlock(&source->columns_lock);
    __atomic_add_fetch(&source->columns_changed, 1, __ATOMIC_RELEASE);
    return WEIR_OK;
}

struct weir_decoder_news weir_source_news(const struct weir_source *source) {
    return (struct weir_decoder_news){
        .columns = __atomic_load_n(&source->news.columns, __ATOMIC_RELAXED),
        .refused = __atomic_load_n(&source->news.refused, __ATOMIC_RELAXED),
    };
}

void source_columns(struct weir_source *source, struct weir_schema **user,
                    struct weir_schema **full) {
    pthread_mutex_lock(&source->columns_lock);
    *user = weir_schema_ref(source->user_schema);
    *full = weir_schema_ref(source->full_schema);
    pthread_mutex_unlock(&source->columns_lock);
}

void source_renew(struct weir_source *source, uint32_t *seen, struct weir_decoder **decoder,
                  struct weir_batch_builder *builder, struct weir_schema *user,
                  struct weir_schema *full, size_t batch_bytes_max) {
    struct weir_schema *own_user = NULL;
    struct weir_schema *own_full = NULL;
    struct weir_decoder *made = NULL;
    struct weir_error err = {0};
    uint32_t changed = __atomic_load_n(&source->columns_changed, __ATOMIC_ACQUIRE);
    source_columns(source, &own_user, &own_full);
    int rc = weir_decoder_create(&made, source->decoder_kind, source->decoder_options,
                                 user != NULL ? user : own_user, &err);
    if (rc == WEIR_OK) {
        made->news = &source->news;
        weir_batch_builder_fini(builder);
        rc = weir_batch_builder_init(builder, source->pool, full != NULL ? full : own_full,
                                     source->batch_rows, batch_bytes_max, &err);
        weir_decoder_destroy(*decoder);
        *decoder = made;
    }
    if (rc != WEIR_OK) {
        weir_log_warn("source", "%s goes on with its old columns: %s", source->name, err.message);
    }
    *seen = changed;
    weir_schema_unref(own_user);
    weir_schema_unref(own_full);
}

int weir_source_assign(struct weir_source *source, int32_t partition, uint64_t item,
                       struct weir_error *err) {
    return source->vtable->assign != NULL ? source->vtable->assign(source, partition, item, err)
                                          : WEIR_OK;
}

/* --- threads ------------------------------------------------------------------------------ */

bool source_outlet_push(struct source_outlet *t, struct weir_source_batch *batch) {
    batch->lane = t->number;
    t->pushed++;
    atomic_store_explicit(&t->cpu_ns, weir_clock_thread_cpu_ns(), memory_order_relaxed);
    if (!weir_ring_push(t->ring, batch)) {
        weir_source_batch_release(batch);
        return false;
    }
    return true;
}

bool source_outlet_wait(struct source_outlet *t, int wait_ms) {
    return weir_ring_wait_closed(t->ring, wait_ms);
}

bool source_outlet_wait_for_memory(struct source_outlet *t) {
    t->limited = true;
    return weir_ring_wait_closed(t->ring, MEMORY_WAIT_MS);
}

bool source_stopping(void *context) {
    const struct weir_source *source = context;
    return source->threads != NULL && source->lanes > 0 && source->threads[0].ring != NULL &&
           weir_ring_wait_closed(source->threads[0].ring, 0);
}

/* A turn began at start_ns and brought something, or not. */
static void note_turn(struct source_outlet *t, bool brought, int64_t start_ns) {
    int64_t since = atomic_load_explicit(&t->quiet_since_ns, memory_order_relaxed);
    brought |= t->limited; /* it would have */
    t->limited = false;
    if (brought || since == 0) {
        atomic_store_explicit(&t->quiet_since_ns, brought ? 0 : start_ns, memory_order_release);
    }
}

void source_outlet_quiet(struct source_outlet *t) {
    note_turn(t, false, weir_clock_mono_ns());
}

static void push_failure(struct source_outlet *t, int rc) {
    struct weir_source_batch *last = NULL;
    /* The consumer holds the memory; it will come back, or the ring is closed. */
    while ((last = source_batch_create(t->source->pool, NULL, NULL, 0)) == NULL) {
        if (source_outlet_wait_for_memory(t)) {
            return;
        }
    }
    last->partition = t->number;
    last->code = rc;
    (void)source_outlet_push(t, last);
}

/* One batch of the lane's one partition. */
static int serve_partition(struct source_outlet *t, bool *ended) {
    struct weir_source *source = t->source;
    struct weir_source_batch *batch = NULL;
    int rc = weir_source_next(source, t->number, source_wanted_rows(source), &batch, &t->error);
    if (rc == WEIR_E_LIMIT) { /* backpressure by memory */
        *ended = source_outlet_wait_for_memory(t);
        return WEIR_OK;
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    note_turn(t, batch != NULL, weir_clock_mono_ns());
    if (batch == NULL) {
        *ended = source_outlet_wait(t, source->vtable->wait_ms(source, t->number));
        return WEIR_OK;
    }
    bool end = batch->end;
    *ended = !source_outlet_push(t, batch) || end;
    return WEIR_OK;
}

static void *run(void *argument) {
    struct source_outlet *t = argument;
    struct weir_source *source = t->source;
    weir_thread_name("src", t->number);
    bool ended = false;
    int rc = WEIR_OK;
    while (rc == WEIR_OK && !ended) {
        uint64_t pushed = t->pushed;
        int64_t start_ns = weir_clock_mono_ns();
        rc = source->vtable->serve != NULL
                 ? source->vtable->serve(source, t->number, t, &ended, &t->error)
                 : serve_partition(t, &ended);
        atomic_store_explicit(&t->cpu_ns, weir_clock_thread_cpu_ns(), memory_order_relaxed);
        if (source->vtable->serve != NULL) {
            note_turn(t, t->pushed != pushed, start_ns);
        }
        /* Also sees a ring closed while there is always something to read. */
        ended = ended || (rc == WEIR_OK && source_outlet_wait(t, 0));
    }
    if (rc != WEIR_OK) {
        push_failure(t, rc);
    }
    return NULL;
}

int weir_source_start(struct weir_source *source, struct weir_error *err) {
    source->lanes = source->partitions;
    if (source->vtable->begin != NULL) {
        int rc = source->vtable->begin(source, &source->lanes, err);
        if (rc != WEIR_OK) {
            source->lanes = 0;
            return rc;
        }
    }
    source->threads = calloc((size_t)source->lanes + 1, sizeof(*source->threads));
    if (source->threads == NULL) {
        source->lanes = 0;
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    source->started = true;
    for (int32_t i = 0; i < source->lanes; i++) {
        struct source_outlet *t = &source->threads[i];
        t->source = source;
        t->number = i;
        int rc = weir_ring_create(&t->ring, source->queue_batches, source->signal, err);
        if (rc == WEIR_OK) {
            int failed = weir_thread_start(&t->thread, run, t);
            t->running = failed == 0;
            if (failed != 0) {
                rc = weir_error_system(err, WEIR_E_ENVIRONMENT, failed, "cannot start a thread");
            }
        }
        if (rc != WEIR_OK) {
            weir_source_stop(source);
            return rc;
        }
    }
    return WEIR_OK;
}

void weir_source_set_batch_rows(struct weir_source *source, int32_t rows) {
    rows = rows < 1 ? 1 : rows > source->batch_rows ? source->batch_rows : rows;
    atomic_store_explicit(&source->wanted_rows, rows, memory_order_relaxed);
}

struct weir_source_batch *weir_source_poll(struct weir_source *source, int32_t lane) {
    return weir_ring_pop(source->threads[lane].ring);
}

bool weir_source_caught_up(struct weir_source *source) {
    int64_t now = weir_clock_mono_ns();
    for (int32_t i = 0; source->threads != NULL && i < source->lanes; i++) {
        struct source_outlet *t = &source->threads[i];
        int64_t since = atomic_load_explicit(&t->quiet_since_ns, memory_order_acquire);
        if (since == 0 || now - since < source->vtable->quiet_ms * INT64_C(1000000) ||
            weir_ring_peek(t->ring) != NULL) {
            return false;
        }
    }
    return true;
}

const struct weir_source_batch *weir_source_peek(struct weir_source *source, int32_t lane) {
    return weir_ring_peek(source->threads[lane].ring);
}

void weir_source_stop(struct weir_source *source) {
    if (!source->started) {
        return;
    }
    source->started = false;
    for (int32_t i = 0; i < source->lanes; i++) {
        if (source->threads[i].ring != NULL) {
            weir_ring_close(source->threads[i].ring);
        }
    }
    if (source->vtable->interrupt != NULL) {
        source->vtable->interrupt(source);
    }
    for (int32_t i = 0; i < source->lanes; i++) {
        struct source_outlet *t = &source->threads[i];
        if (t->running) {
            pthread_join(t->thread, NULL);
            t->running = false;
        }
        struct weir_source_batch *batch;
        while (t->ring != NULL && (batch = weir_ring_pop(t->ring)) != NULL) {
            weir_source_batch_release(batch);
        }
    }
}

const struct weir_error *weir_source_error(const struct weir_source *source, int32_t lane) {
    return &source->threads[lane].error;
}

void weir_source_committed(struct weir_source *source, int32_t partition,
                           const struct weir_position *position) {
    if (source->vtable->committed != NULL) {
        source->vtable->committed(source, partition, position);
    }
}

int weir_source_figures(struct weir_source *source, struct weir_buffer *out) {
    return source->vtable->figures != NULL ? source->vtable->figures(source, out) : WEIR_OK;
}

int64_t weir_source_cpu_ns(const struct weir_source *source) {
    int64_t total = 0;
    for (int32_t i = 0; source->threads != NULL && i < source->lanes; i++) {
        total += atomic_load_explicit(&source->threads[i].cpu_ns, memory_order_relaxed);
    }
    return total;
}
