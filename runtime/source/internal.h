#pragma once
/* What registry.c and the kinds of source share. Private to the room. */
#include <pthread.h>
#include <stdatomic.h>

#include "core/ring.h"
#include "source/source.h"

struct weir_source {
    const struct weir_source_vtable *vtable;
    char *name;
    char *pipeline; /* NULL where none runs */
    char *instance; /* NULL likewise */
    char *log_path; /* NULL likewise */
    int64_t keep_us;
    char *decoder_kind; /* NULL for sources that need none */
    char *decoder_options;
    struct weir_schema *user_schema; /* NULL until the decoder has said it */
    struct weir_schema *full_schema;
    struct weir_projection *projection;   /* what is read of the user's; NULL: all */
    uint32_t projection_number;           /* how often it was set */
    struct source_completion *completion; /* consumer's; NULL until it is needed */
    pthread_mutex_t columns_lock;         /* guards schemas and projection once lanes run */
    uint32_t columns_changed;             /* atomic: how often they were set anew */
    struct weir_decoder_news news;        /* of all lanes' decoders */
    struct weir_pool *pool;
    struct weir_signal *signal;
    bool until_end;
    bool again;
    int32_t batch_rows;          /* at most */
    _Atomic int32_t wanted_rows; /* of a batch, by threads */
    uint32_t queue_batches;
    int32_t partitions;            /* set by open */
    void *state;                   /* the kind's own */
    struct source_outlet *threads; /* one a lane once started */
    int32_t lanes;
    bool started;
};

/* Rows a batch made by a thread should have at most. */
static inline int32_t source_wanted_rows(const struct weir_source *source) {
    return atomic_load_explicit(&source->wanted_rows, memory_order_relaxed);
}

/* A batch wrapped for delivery, with room for a position of `position_bytes` that the caller fills
 * through position.bytes. Steals `batch` and `rejects` when it succeeds. NULL at the pool's cap. */
struct weir_source_batch *source_batch_create(struct weir_pool *pool, struct weir_batch *batch,
                                              struct weir_reject_batch *rejects,
                                              uint32_t position_bytes);
/* The bytes of a batch's position, to be written by the kind before delivery. */
static inline uint8_t *source_position(struct weir_source_batch *batch) {
    return (uint8_t *)(batch + 1);
}

/* The batch is the lane's ring's now; waits for room. False: nobody takes any more, and the batch
 * is released. */
bool source_outlet_push(struct source_outlet *outlet, struct weir_source_batch *batch);
/* Waits that long for input; true once nobody takes any more. */
bool source_outlet_wait(struct source_outlet *outlet, int wait_ms);
/* A moment, for memory the consumer holds: input there is, so the turn is no quiet one. */
bool source_outlet_wait_for_memory(struct source_outlet *outlet);
/* For stores that wait for a service (weir_store_set_stop): the source, whose lanes are ended. */
bool source_stopping(void *source);

/* Before a long wait for input within a turn: there is nothing more now. */
void source_outlet_quiet(struct source_outlet *outlet);

/* The columns changed since `*seen`: makes `decoder` and `builder` (over `user` and `full`, NULL:
 * the source's own) anew. Those at hand stay where that fails, which is told; rows in the old
 * columns are still taken. Lane's thread, with nothing decoded waiting. */
void source_renew(struct weir_source *source, uint32_t *seen, struct weir_decoder **decoder,
                  struct weir_batch_builder *builder, struct weir_schema *user,
                  struct weir_schema *full, size_t batch_bytes_max);
static inline bool source_columns_changed(const struct weir_source *source, uint32_t seen) {
    return __atomic_load_n(&source->columns_changed, __ATOMIC_ACQUIRE) != seen;
}
/* --- complete.c: columns left out ------------------------------------------------------------- */

/* What a lane's builder leaves out. */
struct source_leaving {
    struct weir_projection *projection; /* NULL: nothing */
    uint32_t number;
};
/* What is left out from now on, in batches of `builder` begun after this. */
void source_leave_out(struct weir_source *source, struct source_leaving *leaving,
                      struct weir_batch_builder *builder);
void source_leaving_fini(struct source_leaving *leaving);
/* The frames a batch was decoded from stay with it, where it lacks columns: *block, of the source's
 * pool, becomes the batch's and NULL where `give` says so, else they are copied. WEIR_E_LIMIT. */
int source_keep_frames(struct weir_source *source, const struct source_leaving *leaving,
                       struct weir_batch *batch, uint8_t **block, bool give,
                       const struct weir_frame *frames, int32_t count) WEIR_MUST_CHECK;
void source_completion_destroy(struct source_completion *completion); /* NULL is fine */

/* One reference each for the caller. */
void source_columns(struct weir_source *source, struct weir_schema **user,
                    struct weir_schema **full);

extern const struct weir_source_vtable weir_source_files;
extern const struct weir_source_vtable weir_source_generator;
extern const struct weir_source_vtable weir_source_kafka;
extern const struct weir_source_vtable weir_source_event_hubs;
extern const struct weir_source_vtable weir_source_http;
extern const struct weir_source_vtable weir_source_delta;
extern const struct weir_source_vtable weir_source_parquet;
