/* Messages → batches, on a lane's thread. librdkafka hands messages over one by one; runs of them
 * from one partition are copied into one reused block, so that decoders see contiguous frames, and
 * leave as a batch when the partition changes, the batch is full or nothing more has come. A batch
 * that finds no room waits inside librdkafka's callback: what it holds ready is bounded
 * (queued.max.messages.kbytes), so a slow loop stops the fetching, not the memory. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL /* with the instructions this build is for */
#include <xxhash.h>

#include "core/log.h"
#include "source/kafka/kafka.h"

enum {
    BLOCK_BYTES =
        1 << 20, /* messages gathered before they are decoded; a larger one stands alone */
    SERVE_MS = 100,
    FRAMES_MAX = WEIR_BATCH_ROWS_MAX,
    BATCH_BYTES_MAX = 64 << 20,
    QUEUE_LONG = 20000,
    BLOCK_SPARE = 8, /* a part of it */
};

#define NO_TIME INT64_MIN

/* --- life ------------------------------------------------------------------------------------ */

static void free_block(struct kafka_lane *lane) {
    if (lane->block_pooled) {
        weir_pool_give(lane->source->pool, lane->block);
    } else {
        free(lane->block);
    }
    lane->block = NULL;
    lane->block_capacity = 0;
    lane->block_pooled = false;
}

/* A block that stays with its batch (source_keep_frames): as large as those before were. NULL: no
 * memory now. */
static uint8_t *take_block(const struct kafka_lane *lane, size_t bytes) {
    size_t wanted = lane->block_expected > bytes ? lane->block_expected : bytes;
    return lane->leaving.projection != NULL ? weir_pool_take(lane->source->pool, wanted) : NULL;
}

static bool make_room(struct kafka_lane *lane, size_t bytes) {
    size_t capacity = bytes + WEIR_DECODE_PADDING;
    if (capacity <= lane->block_capacity) {
        return true;
    }
    uint8_t *made = take_block(lane, capacity);
    bool pooled = made != NULL;
    if (pooled) {
        capacity = weir_pool_usable(made);
    } else {
        capacity = capacity < BLOCK_BYTES ? BLOCK_BYTES : capacity;
        made = malloc(capacity);
    }
    if (made == NULL) {
        return false;
    }
    if (lane->block_size > 0) {
        memcpy(made, lane->block, lane->block_size);
    }
    memset(made + capacity - WEIR_DECODE_PADDING, 0, WEIR_DECODE_PADDING);
    free_block(lane);
    lane->block = made;
    lane->block_capacity = capacity;
    lane->block_pooled = pooled;
    return true;
}

/* Keys and headers are joined to rows as they are. */
static void leave_out(struct kafka_lane *lane) {
    if (lane->extra == NULL) {
        source_leave_out(lane->source, &lane->leaving, &lane->builder);
    }
}

int kafka_lane_init(struct kafka_lane *lane, struct weir_source *source, struct weir_error *err) {
    struct kafka *kafka = source->state;
    lane->source = source;
    lane->frames_max = FRAMES_MAX < source->batch_rows ? FRAMES_MAX : source->batch_rows;
    lane->queue = rd_kafka_queue_new(kafka->client.rk);
    lane->frames = calloc(FRAMES_MAX, sizeof(*lane->frames));
    lane->timestamps_us = calloc(FRAMES_MAX, sizeof(*lane->timestamps_us));
    if (lane->queue == NULL || lane->frames == NULL || lane->timestamps_us == NULL ||
        !make_room(lane, BLOCK_BYTES)) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    struct weir_schema *decoded = source->user_schema;
    struct weir_schema *full = source->full_schema;
    int rc = WEIR_OK;
    if (kafka_extra_wanted(kafka->options, KAFKA_EXTRA_KEY) ||
        kafka_extra_wanted(kafka->options, KAFKA_EXTRA_HEADERS)) {
        rc = kafka_extra_create(source, &lane->extra, err);
        decoded = rc == WEIR_OK ? kafka_extra_decoded(lane->extra) : NULL;
        full = rc == WEIR_OK ? kafka_extra_decoded_full(lane->extra) : NULL;
    }
    if (rc == WEIR_OK) {
        rc = weir_decoder_create(&lane->decoder, source->decoder_kind, source->decoder_options,
                                 decoded, err);
    }
    if (rc == WEIR_OK) {
        lane->decoder->news = &source->news;
        lane->columns_seen = __atomic_load_n(&source->columns_changed, __ATOMIC_ACQUIRE);
        rc = weir_batch_builder_init(&lane->builder, source->pool, full, source->batch_rows,
                                     BATCH_BYTES_MAX, err);
        lane->has_builder = rc == WEIR_OK;
    }
    if (rc == WEIR_OK) {
        leave_out(lane);
    }
    return rc;
}

/* Nothing gathered waits: what comes is decoded into the new columns. */
static void take_columns(struct kafka_lane *lane) {
    struct weir_schema *decoded = NULL;
    struct weir_schema *full = NULL;
    if (lane->extra != NULL) {
        struct kafka_extra *made = NULL;
        struct weir_error err = {0};
        if (kafka_extra_create(lane->source, &made, &err) != WEIR_OK) {
            kafka_extra_destroy(made); /* again at the next look */
            return;
        }
        kafka_extra_destroy(lane->extra);
        lane->extra = made;
        decoded = kafka_extra_decoded(made);
        full = kafka_extra_decoded_full(made);
    }
    source_renew(lane->source, &lane->columns_seen, &lane->decoder, &lane->builder, decoded, full,
                 BATCH_BYTES_MAX);
    leave_out(lane);
}

void kafka_lane_fini(struct kafka_lane *lane) {
    source_leaving_fini(&lane->leaving);
    if (lane->has_builder) {
        weir_batch_builder_fini(&lane->builder);
    }
    weir_decoder_destroy(lane->decoder);
    kafka_extra_destroy(lane->extra);
    if (lane->queue != NULL) {
        rd_kafka_queue_destroy(lane->queue);
    }
    free(lane->buckets);
    free_block(lane);
    free(lane->frames);
    free(lane->timestamps_us);
}

void kafka_lane_give(struct kafka *kafka, struct kafka_lane *lane, struct kafka_part *part) {
    pthread_mutex_lock(&kafka->lock);
    struct kafka_part **last = &lane->fresh;
    while (*last != NULL) {
        last = &(*last)->next_new;
    }
    part->next_new = NULL;
    *last = part;
    pthread_mutex_unlock(&kafka->lock);
}

/* --- batches --------------------------------------------------------------------------------- */

static int fail(struct kafka_lane *lane, int rc) {
    lane->rc = rc;
    return rc;
}

/* Times of the messages that became rows: rows and frames both go by ascending offset. */
static void set_times(struct kafka_lane *lane, int32_t from, struct weir_batch *batch) {
    struct weir_column *meta = &batch->columns[batch->column_count - WEIR_META_COUNT];
    const int64_t *offsets = meta[WEIR_META_OFFSET].values;
    int64_t *times = (int64_t *)meta[WEIR_META_TIMESTAMP].values;
    for (int32_t row = 0, frame = from; row < batch->rows; row++) {
        while (lane->frames[frame].offset != offsets[row]) {
            frame++;
        }
        times[row] = lane->timestamps_us[frame];
    }
}

/* Messages older than timestamps (format 0) have none. */
static int null_times(struct weir_batch *batch, struct weir_column *column) {
    const int64_t *times = column->values;
    int64_t nulls = 0;
    for (int32_t row = 0; row < batch->rows; row++) {
        nulls += times[row] == NO_TIME;
    }
    if (nulls == 0) {
        return WEIR_OK;
    }
    uint8_t *validity = weir_batch_alloc(batch, (size_t)batch->rows / 8 + 1);
    if (validity == NULL) {
        return WEIR_E_LIMIT;
    }
    memset(validity, 0xff, (size_t)batch->rows / 8 + 1);
    for (int32_t row = 0; row < batch->rows; row++) {
        if (times[row] == NO_TIME) {
            weir_bit_clear(validity, row);
        }
    }
    column->validity = validity;
    column->null_count = nulls;
    return WEIR_OK;
}

/* What the transport says, in the columns the decoder leaves alone. */
static int finish_columns(struct kafka_lane *lane, int32_t from, struct weir_batch *batch,
                          struct weir_reject_batch *rejects) {
    const struct kafka_part *part = lane->part;
    int rc = weir_decode_finish(batch, part->topic->name, part->number);
    struct weir_column *time =
        &batch->columns[batch->column_count - WEIR_META_COUNT + WEIR_META_TIMESTAMP];
    if (rc == WEIR_OK && batch->rows > 0) {
        time->values = weir_batch_alloc(batch, (size_t)batch->rows * sizeof(int64_t));
        time->validity = NULL;
        time->null_count = 0;
        rc = time->values == NULL ? WEIR_E_LIMIT : WEIR_OK;
    }
    if (rc == WEIR_OK) {
        set_times(lane, from, batch);
        rc = null_times(batch, time);
    }
    if (rc == WEIR_OK && rejects != NULL) {
        rc = weir_reject_batch_set_topic(rejects, part->topic->name);
    }
    return rc;
}

static struct weir_source_batch *wrap(struct kafka_lane *lane, const struct kafka_part *part,
                                      struct weir_batch *batch, struct weir_reject_batch *rejects,
                                      int64_t next) {
    struct weir_source_batch *made =
        source_batch_create(lane->source->pool, batch, rejects, kafka_position_bytes(part));
    if (made != NULL) {
        kafka_write_position(part, next, source_position(made));
        made->partition = part->index;
        made->number = part->number;
        made->rows = batch->rows + (rejects != NULL ? rejects->count : 0);
    }
    return made;
}

/* With the columns of keys and headers, where asked for. Takes `batch`. NULL at the pool's cap. */
static struct weir_batch *widen(struct kafka_lane *lane, int32_t from, struct weir_batch *batch) {
    if (lane->extra == NULL || batch == NULL) {
        return batch;
    }
    struct weir_batch *wide = kafka_extra_join(lane, from, batch);
    weir_batch_unref(batch);
    return wide;
}

/* The messages stay with a batch that lacks columns. */
static int keep_block(struct kafka_lane *lane, struct weir_batch *batch, int32_t from,
                      int32_t count) {
    bool give = lane->block_pooled && from == 0 && count == lane->frame_count;
    int rc = source_keep_frames(lane->source, &lane->leaving, batch, &lane->block, give,
                                lane->frames + from, count);
    if (rc == WEIR_OK && lane->block == NULL) {
        lane->block_expected = lane->block_size / (size_t)count * (size_t)lane->frames_max;
        lane->block_expected += lane->block_expected / BLOCK_SPARE;
        lane->block_capacity = 0;
        lane->block_pooled = false;
    }
    return rc;
}

/* One batch from the frames gathered; none is lost when there is no memory (WEIR_E_LIMIT). */
static int decode(struct kafka_lane *lane, struct weir_source_batch **out) {
    int32_t from = lane->frames_done;
    int32_t count = lane->frame_count - from;
    int32_t consumed = 0;
    struct weir_reject_batch *rejects = NULL;
    struct weir_batch *batch = NULL;
    int rc = weir_batch_builder_begin_rows(&lane->builder, count);
    if (rc != WEIR_OK) {
        return WEIR_E_LIMIT;
    }
    rc = weir_decoder_decode(lane->decoder, lane->block, lane->frames + from, count, &lane->builder,
                             &rejects, &consumed);
    if (rc == WEIR_E_LIMIT && consumed > 0) {
        rc = WEIR_OK; /* the pool is exhausted: give what there is */
    }
    if (rc == WEIR_OK) {
        batch = weir_batch_builder_take(&lane->builder);
        rc = batch == NULL ? WEIR_E_LIMIT : finish_columns(lane, from, batch, rejects);
    }
    if (rc == WEIR_OK) {
        batch = widen(lane, from, batch);
        rc = batch == NULL ? WEIR_E_LIMIT : WEIR_OK;
    }
    int32_t last = from + consumed - 1;
    if (rc == WEIR_OK) {
        *out = wrap(lane, lane->part, batch, rejects, lane->frames[last].offset + 1);
        rc = *out == NULL ? WEIR_E_LIMIT : WEIR_OK;
    }
    if (rc != WEIR_OK) {
        weir_batch_unref(batch);
        weir_reject_batch_destroy(rejects);
        return rc;
    }
    const struct weir_frame *frames = lane->frames;
    (*out)->hash = XXH3_64bits(lane->block + frames[from].start,
                               frames[last].start + frames[last].length - frames[from].start);
    rc = keep_block(lane, batch, from, consumed); /* last: then the block may be gone */
    if (rc != WEIR_OK) {
        weir_source_batch_release(*out);
        *out = NULL;
        return rc;
    }
    lane->frames_done = last + 1;
    lane->part->next = frames[last].offset + 1;
    if (lane->frames_done == lane->frame_count) {
        lane->frame_count = 0;
        lane->frames_done = 0;
        lane->block_size = 0;
        if (lane->leaving.projection != NULL && !lane->block_pooled) {
            free_block(lane); /* the next is one to give away */
        }
    }
    return WEIR_OK;
}

static bool wait_for_memory(struct kafka_lane *lane) {
    lane->closed = lane->closed || source_outlet_wait_for_memory(lane->outlet);
    return !lane->closed;
}

static void stop_serving(struct kafka_lane *lane) {
    struct kafka *kafka = lane->source->state;
    rd_kafka_yield(kafka->client.rk); /* the rest goes back to the queue */
}

/* Everything gathered goes to the loop (in pull mode it stays for the caller). False: the lane is
 * done for. */
static bool flush(struct kafka_lane *lane) {
    if (lane->outlet == NULL) {
        return lane->rc == WEIR_OK;
    }
    while (lane->frames_done < lane->frame_count && lane->rc == WEIR_OK && !lane->closed) {
        struct weir_source_batch *batch = NULL;
        int rc = decode(lane, &batch);
        if (rc == WEIR_OK) {
            lane->closed = !source_outlet_push(lane->outlet, batch);
        } else if (rc == WEIR_E_LIMIT) {
            (void)wait_for_memory(lane);
        } else {
            fail(lane, weir_error_set(&lane->error, rc, "out of memory for a batch"));
        }
    }
    return lane->rc == WEIR_OK && !lane->closed;
}

/* A batch without rows: the partition begins, or ends. */
static struct weir_source_batch *empty(struct kafka_lane *lane, struct kafka_part *part,
                                       int64_t next) {
    struct weir_batch *batch = NULL;
    struct weir_source_batch *made = NULL;
    if (weir_batch_builder_begin_rows(&lane->builder, 1) == WEIR_OK) {
        batch = weir_batch_builder_take(&lane->builder);
    }
    if (batch != NULL && weir_decode_finish(batch, part->topic->name, part->number) == WEIR_OK &&
        (batch = widen(lane, 0, batch)) != NULL) {
        made = wrap(lane, part, batch, NULL, next);
    }
    if (made == NULL) {
        weir_batch_unref(batch);
    }
    return made;
}

static void push_empty(struct kafka_lane *lane, struct kafka_part *part, bool opens, bool end) {
    struct weir_source_batch *made;
    while ((made = empty(lane, part, part->next)) == NULL) {
        if (!wait_for_memory(lane)) {
            return;
        }
    }
    made->opens = opens;
    made->end = end;
    lane->closed = lane->closed || !source_outlet_push(lane->outlet, made);
}

/* Bounded, or the topic is gone: nothing more of this partition. */
static void finish_part(struct kafka_lane *lane, struct kafka_part *part) {
    if (part->ended || !flush(lane)) {
        return;
    }
    if (lane->outlet == NULL) {
        lane->finishing = true;
        stop_serving(lane);
        return;
    }
    part->ended = true;
    lane->ended_count++;
    if (part->reading) {
        (void)rd_kafka_consume_stop(part->topic->handle, part->number);
        part->reading = false;
    }
    push_empty(lane, part, false, true);
}

/* --- which partition ------------------------------------------------------------------------- */

static uint32_t place(const struct kafka_lane *lane, const struct kafka_topic *topic,
                      int32_t number) {
    uint64_t mixed = ((uint64_t)(uintptr_t)topic >> 4) * UINT64_C(0x9e3779b97f4a7c15) +
                     (uint64_t)number * UINT64_C(0xc2b2ae3d27d4eb4f);
    return (uint32_t)(mixed >> 32) & (lane->bucket_count - 1);
}

static void put(struct kafka_lane *lane, struct kafka_part *part) {
    uint32_t i = place(lane, part->topic, part->number);
    while (lane->buckets[i] != NULL) {
        i = (i + 1) & (lane->bucket_count - 1);
    }
    lane->buckets[i] = part;
}

static int add(struct kafka_lane *lane, struct kafka_part *part) {
    if (2 * (uint32_t)(lane->part_count + 1) > lane->bucket_count) {
        uint32_t old_count = lane->bucket_count;
        struct kafka_part **old = lane->buckets;
        struct kafka_part **grown = calloc((size_t)old_count * 2 + 16, sizeof(struct kafka_part *));
        if (grown == NULL) {
            return weir_error_set(&lane->error, WEIR_E_NOMEM, "out of memory for a partition");
        }
        lane->buckets = grown;
        lane->bucket_count = old_count == 0 ? 16 : old_count * 2;
        for (uint32_t i = 0; i < old_count; i++) {
            if (old[i] != NULL) {
                put(lane, old[i]);
            }
        }
        free(old);
    }
    put(lane, part);
    lane->part_count++;
    return WEIR_OK;
}

static struct kafka_part *find(const struct kafka_lane *lane, const rd_kafka_message_t *message) {
    if (lane->part != NULL && lane->part->topic->handle == message->rkt &&
        lane->part->number == message->partition) {
        return lane->part;
    }
    const struct kafka_topic *topic = rd_kafka_topic_opaque(message->rkt);
    for (uint32_t i = place(lane, topic, message->partition);
         lane->bucket_count > 0 && lane->buckets[i] != NULL;
         i = (i + 1) & (lane->bucket_count - 1)) {
        if (lane->buckets[i]->topic == topic && lane->buckets[i]->number == message->partition) {
            return lane->buckets[i];
        }
    }
    return NULL;
}

static int start_part(struct kafka_lane *lane, struct kafka_part *part) {
    struct kafka *kafka = lane->source->state;
    if (rd_kafka_consume_start_queue(part->topic->handle, part->number, part->next, lane->queue) !=
        0) {
        return weir_kafka_error(&lane->error, &kafka->client, rd_kafka_last_error(), NULL,
                                "read topic", part->topic->name);
    }
    part->reading = true;
    return WEIR_OK;
}

/* Partitions given to the lane since the last look. */
static int take_fresh(struct kafka_lane *lane) {
    struct kafka *kafka = lane->source->state;
    pthread_mutex_lock(&kafka->lock);
    struct kafka_part *part = lane->fresh;
    lane->fresh = NULL;
    pthread_mutex_unlock(&kafka->lock);
    int rc = WEIR_OK;
    for (struct kafka_part *next; part != NULL && rc == WEIR_OK && !lane->closed; part = next) {
        next = part->next_new;
        rc = add(lane, part);
        if (rc != WEIR_OK) {
            break;
        }
        if (!part->is_known) {
            push_empty(lane, part, part->has_input, false);
        }
        if (part->next >= part->end) {
            finish_part(lane, part);
        } else {
            rc = start_part(lane, part);
        }
    }
    return rc;
}

/* --- messages -------------------------------------------------------------------------------- */

/* Where the next message should be there is none any more. */
static void lost(struct kafka_lane *lane, struct kafka_part *part) {
    struct kafka *kafka = lane->source->state;
    int64_t low = part->next;
    int64_t high = part->next;
    if (!flush(lane)) {
        return;
    }
    rd_kafka_resp_err_t code = rd_kafka_query_watermark_offsets(kafka->client.rk, part->topic->name,
                                                                part->number, &low, &high, 10000);
    int rc = WEIR_OK;
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
        rc = weir_kafka_error(&lane->error, &kafka->client, code, NULL, "the offsets of",
                              part->topic->name);
    } else if (part->next < low || part->next > high) {
        rc = kafka_lost(kafka, part, low, high, &lane->error);
    }
    if (rc == WEIR_OK) {
        (void)rd_kafka_consume_stop(part->topic->handle, part->number);
        part->reading = false;
        rc = start_part(lane, part);
    }
    lane->rc = rc;
}

static void on_trouble(struct kafka_lane *lane, struct kafka_part *part,
                       const rd_kafka_message_t *message) {
    struct kafka *kafka = lane->source->state;
    const char *reason = rd_kafka_message_errstr(message);
    switch (message->err) {
    case RD_KAFKA_RESP_ERR__PARTITION_EOF:
        if (message->offset >= part->end) { /* what lay before were marks of transactions */
            if (flush(lane)) {
                part->next = part->end;
                finish_part(lane, part);
            }
        } else if (lane->outlet == NULL) {
            lane->drained = true;
            stop_serving(lane);
        }
        return;
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
    case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
        lost(lane, part);
        return;
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
    case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
        if (kafka->has_pattern) {
            weir_log_warn("kafka", "%s: topic %s, partition %d is gone; it is not read any more",
                          kafka->client.what, part->topic->name, part->number);
            finish_part(lane, part);
            return;
        }
        break;
    default:
        if (weir_kafka_passing(message->err)) {
            weir_log_debug("kafka", "%s: topic %s, partition %d: %s", kafka->client.what,
                           part->topic->name, part->number, reason);
            return;
        }
        break;
    }
    if (flush(lane)) {
        fail(lane, weir_kafka_error(&lane->error, &kafka->client, message->err, reason, "topic",
                                    part->topic->name));
    }
}

/* Room for the message in the block; in pull mode the caller stops before there is none. */
static bool keep(struct kafka_lane *lane, const rd_kafka_message_t *message) {
    size_t length = message->len;
    if (lane->block_size + length + 1 + WEIR_DECODE_PADDING > lane->block_capacity) {
        if (lane->frame_count > lane->frames_done && lane->outlet != NULL && !flush(lane)) {
            return false;
        }
        if (!make_room(lane, lane->block_size + length + 1)) {
            fail(lane, weir_error_set(&lane->error, WEIR_E_NOMEM,
                                      "out of memory for a message of %zu bytes", length));
            return false;
        }
    }
    struct weir_frame *frame = &lane->frames[lane->frame_count];
    frame->start = (uint32_t)lane->block_size;
    frame->length = (uint32_t)length;
    frame->offset = message->offset;
    if (lane->extra != NULL && kafka_extra_keep(lane->extra, lane->frame_count, message) != 0) {
        fail(lane, weir_error_set(&lane->error, WEIR_E_LIMIT,
                                  "the keys and headers of one batch are more than 256 MB"));
        return false;
    }
    rd_kafka_timestamp_type_t type;
    int64_t time_ms = rd_kafka_message_timestamp(message, &type);
    lane->timestamps_us[lane->frame_count++] =
        type == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE ? NO_TIME : time_ms * 1000;
    memcpy(lane->block + lane->block_size, message->payload, length);
    lane->block_size += length;
    lane->block[lane->block_size++] = '\n';
    return true;
}

static void on_message(rd_kafka_message_t *message, void *opaque) {
    struct kafka_lane *lane = opaque;
    if (lane->rc != WEIR_OK || lane->closed) {
        stop_serving(lane);
        return;
    }
    struct kafka_part *part = find(lane, message);
    if (part == NULL || part->ended) {
        return;
    }
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR) {
        on_trouble(lane, part, message);
        return;
    }
    lane->served++;
    if (part != lane->part || lane->frame_count >= lane->frames_max) {
        if (lane->frame_count > 0 && !flush(lane)) {
            return;
        }
        lane->part = part;
    }
    if (message->offset >= part->end) {
        if (flush(lane)) {
            part->next = part->end;
            finish_part(lane, part);
        }
        return;
    }
    if (message->payload == NULL) {
        atomic_fetch_add_explicit(&lane->tombstones, 1, memory_order_relaxed);
        if (lane->frame_count == 0) {
            part->next = message->offset + 1;
        }
    } else if (!keep(lane, message)) {
        return;
    }
    if (message->offset + 1 == part->end) {
        if (flush(lane)) {
            part->next = part->end;
            finish_part(lane, part);
        }
    } else if (lane->outlet == NULL && lane->frame_count >= lane->frames_max) {
        stop_serving(lane);
    }
}

/* librdkafka stops fetching while its queue is full and looks again once a second: the watcher
 * wakes it when the queue has become short. */
static void note_queue(struct kafka_lane *lane) {
    struct kafka *kafka = lane->source->state;
    int32_t length = (int32_t)rd_kafka_queue_length(lane->queue);
    if (length > lane->longest_queue) {
        lane->longest_queue = length;
    } else if (lane->longest_queue > QUEUE_LONG && length < lane->longest_queue / 4) {
        lane->longest_queue = 0;
        atomic_store(&kafka->remind, true);
        weir_signal_raise(&kafka->wake);
    }
}

int kafka_lane_serve(struct kafka_lane *lane, struct source_outlet *outlet, bool *ended,
                     struct weir_error *err) {
    lane->outlet = outlet;
    if (lane->rc == WEIR_OK) {
        lane->rc = take_fresh(lane);
    }
    *ended = lane->source->until_end && lane->ended_count == lane->part_count;
    if (source_columns_changed(lane->source, lane->columns_seen) && lane->frame_count == 0) {
        take_columns(lane);
    }
    if (lane->rc == WEIR_OK && !lane->closed && !*ended) {
        note_queue(lane);
        lane->frames_max = source_wanted_rows(lane->source);
        (void)rd_kafka_consume_callback_queue(lane->queue, SERVE_MS, on_message, lane);
        note_queue(lane);
        (void)flush(lane);
    }
    if (lane->rc != WEIR_OK && err != NULL) {
        *err = lane->error;
    }
    return lane->rc;
}

/* --- pull mode ------------------------------------------------------------------------------- */

int kafka_lane_next(struct kafka_lane *lane, int32_t max_rows, struct weir_source_batch **out,
                    struct weir_error *err) {
    *out = NULL;
    if (lane->rc == WEIR_OK && lane->fresh != NULL) {
        struct kafka_part *part = lane->fresh;
        lane->fresh = NULL;
        lane->rc = add(lane, part);
        lane->part = part;
        lane->rc =
            lane->rc == WEIR_OK && part->next < part->end ? start_part(lane, part) : lane->rc;
    }
    struct kafka_part *part = lane->part;
    lane->frames_max = max_rows < FRAMES_MAX ? max_rows : FRAMES_MAX;
    lane->drained = false;
    while (lane->rc == WEIR_OK && lane->frame_count < lane->frames_max && !lane->finishing &&
           !lane->drained && part->reading) {
        (void)rd_kafka_consume_callback_queue(lane->queue, SERVE_MS, on_message, lane);
    }
    int rc = lane->rc;
    bool end = lane->finishing || !part->reading;
    if (rc == WEIR_OK && lane->frame_count > 0) {
        rc = decode(lane, out);
    } else if (rc == WEIR_OK && end && !part->ended) {
        *out = empty(lane, part, part->next);
        rc = *out == NULL ? WEIR_E_LIMIT : WEIR_OK;
    }
    if (*out != NULL && end && lane->frame_count == 0) {
        (*out)->end = true;
        part->ended = true;
    }
    if (rc != WEIR_OK && err != NULL) {
        *err = lane->error;
    }
    return rc;
}
