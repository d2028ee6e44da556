#pragma once
/* What the Kafka sinks of a pipeline share: one transactional producer for its log of records.
 *
 * Appliers hand over the effects of a record; whoever comes first leads a transaction for all that
 * wait, sends their messages and their markers, commits, and answers them. A marker is a record in
 * the compacted topic `weir.<pipeline>.markers`, key <lineage>/<log>/<sink>, value the number of
 * the newest record of the ledger that is in the topic: in the same transaction as its messages.
 *
 * Whatever leaves a commit in doubt (time-outs, a broker that died, a producer that was fenced) is
 * settled in one way: a new producer with the same transactional id fences the old one, which
 * settles its transaction, and then the markers say what is there. */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "kafka/client.h"
#include "sink/kafka_effect.h"
#include "sink/sink.h"

struct json_t;

enum { KAFKA_NAME_BYTES = 256 };

/* A topic as one sink sees it. Its fields are the log's business between start and leave. */
struct kafka_topic {
    struct kafka_topic *next;
    const char *sink; /* dataset; the sink's, as all pointers here */
    const char *name;
    const char *compression;   /* NULL: the client's */
    const char *partitioner;   /* NULL: ours, as Java's; else librdkafka's of that name */
    const struct json_t *make; /* { partitions, replication } of a topic to be made; NULL: refuse */
    bool has_key;
    rd_kafka_topic_t *rkt;
    int32_t partitions;
    int32_t next_partition; /* of messages without a key */
    uint64_t marker;        /* as read or written last */
    bool is_read;           /* marker was looked for */
};

struct kafka_request { /* one record's effects of one sink, waiting for its transaction */
    struct kafka_request *next;
    struct kafka_topic *topic;
    struct weir_sink_record record;
    bool done;
    int rc;
    struct weir_error err;
};

struct kafka_failed { /* the first message that could not be delivered */
    rd_kafka_resp_err_t code;
    char topic[KAFKA_NAME_BYTES];
};

struct kafka_log {
    struct kafka_log *next;
    int32_t references;
    struct json_t *options; /* of the client: brokers, security, options */
    bool transactional;
    char pipeline[KAFKA_NAME_BYTES];
    char log[96];                  /* <lineage>/<log> */
    char id[2 * KAFKA_NAME_BYTES]; /* transactional */
    char marker_topic[KAFKA_NAME_BYTES + 32];
    bool (*stop)(void *context);
    bool (*draining)(void *context);
    void *stop_context;

    pthread_mutex_t lock; /* guards topics, waiting, leading */
    pthread_cond_t answered;
    struct kafka_topic *topics;
    struct kafka_request *waiting;
    struct kafka_request *waiting_last;
    bool leading;

    /* the leader's, or the start's */
    struct weir_kafka_client client;
    bool open;
    rd_kafka_topic_t *markers;
    rd_kafka_queue_t *reports; /* of messages that were not delivered */
    int64_t timeout_ms;        /* of a transaction */
    int64_t began_ns;
    int64_t queue_max;
    struct kafka_failed failed;
};

/* Finds or makes the log of these options in *logs, one a pipeline and cluster, and adds the topic.
 * No I/O. */
int kafka_log_join(struct kafka_log **logs, const struct weir_sink_config *config,
                   const struct json_t *options, bool transactional, struct kafka_topic *topic,
                   struct kafka_log **out, struct weir_error *err) WEIR_MUST_CHECK;
void kafka_log_leave(struct kafka_log **logs, struct kafka_log *log, struct kafka_topic *topic);
/* Connects and fences where that is not done, looks for the topic, and reads the sink's marker (0
 * without transactions). Caller's thread, before any apply of this sink. */
int kafka_log_start(struct kafka_log *log, struct kafka_topic *topic,
                    struct weir_error *err) WEIR_MUST_CHECK;
/* Applier. Returns once the records' messages and markers are committed (or were already). */
int kafka_log_apply(struct kafka_log *log, struct kafka_topic *topic,
                    const struct weir_sink_record *records, int32_t count,
                    struct weir_error *err) WEIR_MUST_CHECK;
/* Applier, now and then: notices added partitions. */
int kafka_log_refresh(struct kafka_log *log, struct kafka_topic *topic,
                      struct weir_error *err) WEIR_MUST_CHECK;

/* --- within the sink ------------------------------------------------------------------------ */

/* kafka_log.c. Makes the producer anew, fences with it and reads the markers. */
int kafka_log_open(struct kafka_log *log, struct weir_error *err) WEIR_MUST_CHECK;
/* Takes delivery reports, waiting up to timeout_ms for one. */
void kafka_log_serve(struct kafka_log *log, int timeout_ms);
/* Purges and destroys the producer. */
void kafka_log_close(struct kafka_log *log);
int kafka_topic_open(struct kafka_log *log, struct kafka_topic *topic,
                     struct weir_error *err) WEIR_MUST_CHECK;
/* The requests that wait, oldest first. */
struct kafka_request *kafka_log_take(struct kafka_log *log);

/* kafka_transaction.c: the leader's. Sends, marks and commits all of *group, and what has come
 * meanwhile, which is added to it; tries again for as long as that can help. */
int kafka_transaction(struct kafka_log *log, struct kafka_request **group,
                      struct weir_error *err) WEIR_MUST_CHECK;

/* kafka_marker.c: the topic of markers. */
/* A client for questions, which never makes topics by asking. */
int kafka_probe_open(struct kafka_log *log, bool committed, struct weir_kafka_client *out,
                     struct weir_error *err) WEIR_MUST_CHECK;
/* Partitions of a topic; 0 where it does not exist. */
int kafka_probe_topic(struct weir_kafka_client *probe, const char *name, int32_t *partitions,
                      struct weir_error *err) WEIR_MUST_CHECK;
int kafka_make_topic(struct weir_kafka_client *client, const char *name, int partitions,
                     int replication, bool compacted, struct weir_error *err) WEIR_MUST_CHECK;
/* Reads the markers of all topics of the log, making their topic where it is missing. */
int kafka_markers_read(struct kafka_log *log, struct weir_error *err) WEIR_MUST_CHECK;
int kafka_marker_key(const struct kafka_log *log, const struct kafka_topic *topic, char *out,
                     size_t size);

/* kafka_send.c: messages of an effect to the producer's queue. Bytes are not copied: they must stay
 * until the transaction ended. */
int kafka_send(struct kafka_log *log, struct kafka_topic *topic, const void *effect, size_t size,
               struct weir_error *err) WEIR_MUST_CHECK;
/* Java's: of a key's bytes. */
uint32_t kafka_murmur2(const void *key, size_t size);
