/* From an effect's frames to the producer's queue, without a copy. Messages that carry neither time
 * nor headers go a partition's batch at a time, which takes librdkafka's locks once a batch; the
 * others one by one. */
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "sink/kafka_log.h"

enum {
    CHUNK = 256,          /* messages handed over at once */
    PARTITIONS_MAX = 256, /* with more, messages carry their partition */
    STICKY_MIN = 256,     /* messages without a key that follow each other to one partition, */
    STICKY_MAX = 8192,
    STICKY_BYTES = 512 << 10, /* and at least as many as make these */
    POLL_MS = 5,
};

uint32_t kafka_murmur2(const void *key, size_t size) {
    const uint32_t m = 0x5bd1e995;
    const uint8_t *at = key;
    uint32_t h = 0x9747b28cu ^ (uint32_t)size;
    for (; size >= 4; size -= 4, at += 4) {
        uint32_t k;
        memcpy(&k, at, 4);
        k *= m;
        k ^= k >> 24;
        k *= m;
        h *= m;
        h ^= k;
    }
    switch (size) {
    case 3:
        h ^= (uint32_t)at[2] << 16;
        __attribute__((fallthrough));
    case 2:
        h ^= (uint32_t)at[1] << 8;
        __attribute__((fallthrough));
    case 1:
        h ^= at[0];
        h *= m;
        break;
    default:
        break;
    }
    h ^= h >> 13;
    h *= m;
    return h ^ (h >> 15);
}

struct sending {
    struct kafka_log *log;
    struct kafka_topic *topic;
    rd_kafka_message_t *messages; /* CHUNK a partition */
    int32_t *counts;
    int32_t sticky; /* messages without a key a partition */
    int32_t stuck;  /* so far to the partition at hand */
    int32_t chunk;
};

/* Waits until the queue takes `count` more: what would not fit is an error of each message. */
static int wait_for_room(struct kafka_log *log, int64_t count, struct weir_error *err) {
    while (rd_kafka_outq_len(log->client.rk) + count > log->queue_max) {
        if (log->stop(log->stop_context)) {
            return weir_error_set(err, WEIR_E_CLOSED, "stopped");
        }
        kafka_log_serve(log, POLL_MS);
        if (log->failed.code != RD_KAFKA_RESP_ERR_NO_ERROR) {
            return WEIR_OK; /* the commit says so */
        }
    }
    return WEIR_OK;
}

static int refused(struct sending *s, rd_kafka_resp_err_t code, struct weir_error *err) {
    if (s->log->failed.code == RD_KAFKA_RESP_ERR_NO_ERROR) {
        s->log->failed.code = code;
        snprintf(s->log->failed.topic, sizeof(s->log->failed.topic), "%s", s->topic->name);
    }
    return weir_kafka_error(err, &s->log->client, code, NULL, "produce to topic", s->topic->name);
}

static int hand_over(struct sending *s, int32_t slot, int32_t partition, int flags,
                     struct weir_error *err) {
    int32_t count = s->counts[slot];
    rd_kafka_message_t *messages = s->messages + (size_t)slot * CHUNK;
    s->counts[slot] = 0;
    if (count == 0) {
        return WEIR_OK;
    }
    int rc = wait_for_room(s->log, count, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    int sent = rd_kafka_produce_batch(s->topic->rkt, partition, flags, messages, count);
    for (int32_t i = 0; sent != count && i < count; i++) {
        if (messages[i].err != RD_KAFKA_RESP_ERR_NO_ERROR) {
            return refused(s, messages[i].err, err);
        }
    }
    return WEIR_OK;
}

static int32_t partition_of(struct sending *s, const struct kafka_frame *frame) {
    struct kafka_topic *topic = s->topic;
    if (frame->key != NULL) {
        uint32_t hash = kafka_murmur2(frame->key, frame->key_size) & INT32_MAX;
        return (int32_t)(hash % (uint32_t)topic->partitions);
    }
    if (s->stuck == s->sticky) {
        s->stuck = 0;
        topic->next_partition++;
    }
    s->stuck++;
    topic->next_partition %= topic->partitions;
    return topic->next_partition;
}

static int send_batches(struct sending *s, struct kafka_effect *effect, struct weir_error *err) {
    struct kafka_frame frame;
    bool ours = s->topic->partitioner == NULL;
    bool many = s->topic->partitions > PARTITIONS_MAX; /* one slot, partitions in the messages */
    int flags = many ? RD_KAFKA_MSG_F_PARTITION : 0;
    int32_t slots = many || !ours ? 1 : s->topic->partitions;
    int rc = WEIR_OK;
    int broken = WEIR_OK;
    while (rc == WEIR_OK && kafka_effect_next(effect, &frame, &broken)) {
        int32_t partition = ours ? partition_of(s, &frame) : RD_KAFKA_PARTITION_UA;
        int32_t slot = slots == 1 ? 0 : partition;
        s->messages[(size_t)slot * CHUNK + (size_t)s->counts[slot]++] = (rd_kafka_message_t){
            .payload = (void *)(uintptr_t)frame.value,
            .len = frame.value_size,
            .key = (void *)(uintptr_t)frame.key,
            .key_len = frame.key_size,
            .partition = partition,
        };
        if (s->counts[slot] == s->chunk) {
            rc = hand_over(s, slot, many && ours ? 0 : partition, ours ? flags : 0, err);
        }
    }
    if (rc == WEIR_OK && broken != WEIR_OK) {
        rc = weir_error_set(err, broken, "the ledger's messages for Kafka are damaged");
    }
    for (int32_t slot = 0; rc == WEIR_OK && slot < slots; slot++) {
        int32_t partition = !ours ? RD_KAFKA_PARTITION_UA : slot;
        rc = hand_over(s, slot, partition, ours ? flags : 0, err);
    }
    return rc;
}

static int send_one(struct sending *s, const struct kafka_frame *frame, struct weir_error *err) {
    rd_kafka_vu_t parts[6 + KAFKA_EFFECT_HEADERS_MAX];
    size_t count = 0;
    parts[count].vtype = RD_KAFKA_VTYPE_RKT;
    parts[count++].u.rkt = s->topic->rkt;
    parts[count].vtype = RD_KAFKA_VTYPE_PARTITION;
    parts[count++].u.i32 =
        s->topic->partitioner == NULL ? partition_of(s, frame) : RD_KAFKA_PARTITION_UA;
    parts[count].vtype = RD_KAFKA_VTYPE_VALUE;
    parts[count].u.mem.ptr = (void *)(uintptr_t)frame->value;
    parts[count++].u.mem.size = frame->value_size;
    parts[count].vtype = RD_KAFKA_VTYPE_KEY;
    parts[count].u.mem.ptr = (void *)(uintptr_t)frame->key;
    parts[count++].u.mem.size = frame->key_size;
    if (frame->time_ms != 0) {
        parts[count].vtype = RD_KAFKA_VTYPE_TIMESTAMP;
        parts[count++].u.i64 = frame->time_ms;
    }
    char names[KAFKA_EFFECT_HEADERS_MAX][KAFKA_NAME_BYTES];
    const uint8_t *at = frame->headers;
    for (uint16_t i = 0; i < frame->header_count && i < KAFKA_EFFECT_HEADERS_MAX; i++) {
        struct kafka_header header = kafka_effect_header(&at);
        snprintf(names[i], sizeof(names[i]), "%.*s", (int)header.name_size, header.name);
        parts[count].vtype = RD_KAFKA_VTYPE_HEADER;
        parts[count].u.header.name = names[i];
        parts[count].u.header.val = header.value;
        parts[count++].u.header.size = header.value != NULL ? (ssize_t)header.value_size : 0;
    }
    rd_kafka_error_t *error = rd_kafka_produceva(s->log->client.rk, parts, count);
    if (error == NULL) {
        return WEIR_OK;
    }
    int rc = refused(s, rd_kafka_error_code(error), err);
    rd_kafka_error_destroy(error);
    return rc;
}

static int send_singly(struct sending *s, struct kafka_effect *effect, struct weir_error *err) {
    struct kafka_frame frame;
    int broken = WEIR_OK;
    for (uint32_t n = 0; kafka_effect_next(effect, &frame, &broken); n++) {
        int rc = n % (uint32_t)s->chunk == 0 ? wait_for_room(s->log, s->chunk, err) : WEIR_OK;
        if (rc == WEIR_OK) {
            rc = send_one(s, &frame, err);
        }
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return broken == WEIR_OK
               ? WEIR_OK
               : weir_error_set(err, broken, "the ledger's messages for Kafka are damaged");
}

/* Each partition of a transaction is added to it, written to and marked by the brokers: an epoch's
 * few messages go to one, the next epoch's to the next. */
static int32_t run_length(const struct kafka_effect *effect, size_t size, int32_t partitions) {
    int64_t messages = effect->messages > 0 ? effect->messages : 1;
    int64_t each = messages / partitions;
    int64_t least = STICKY_BYTES / ((int64_t)size / messages + 1);
    least = least < STICKY_MIN ? STICKY_MIN : least;
    each = each < least ? least : each;
    return (int32_t)(each > STICKY_MAX ? STICKY_MAX : each);
}

int kafka_send(struct kafka_log *log, struct kafka_topic *topic, const void *effect, size_t size,
               struct weir_error *err) {
    struct kafka_effect open;
    int rc = kafka_effect_open(&open, effect, size, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    struct sending s = {.log = log, .topic = topic};
    s.chunk = log->queue_max >= 2 * CHUNK ? CHUNK : (int32_t)(log->queue_max + 1) / 2;
    s.sticky = run_length(&open, size, topic->partitions);
    if (open.flags != 0) {
        rc = send_singly(&s, &open, err);
        topic->next_partition += s.stuck > 0;
        return rc;
    }
    int32_t slots = topic->partitions > PARTITIONS_MAX ? 1 : topic->partitions;
    s.messages = malloc((size_t)slots * CHUNK * sizeof(*s.messages));
    s.counts = calloc((size_t)slots, sizeof(*s.counts));
    rc = s.messages == NULL || s.counts == NULL
             ? weir_error_set(err, WEIR_E_NOMEM, "produce to topic %s: out of memory", topic->name)
             : send_batches(&s, &open, err);
    topic->next_partition += s.stuck > 0;
    free(s.messages);
    free(s.counts);
    return rc;
}
