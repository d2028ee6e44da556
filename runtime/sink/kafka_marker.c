/* The topic of markers, and questions to the cluster at the start. */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "sink/kafka_log.h"

enum {
    ASK_MS = 15000,
    POLL_MS = 200,
    READ_MS =
        120000, /* transactions of others may hold the end back for as long as they may last */
    VISIBLE_MS = 20000,
};

int kafka_probe_open(struct kafka_log *log, bool committed, struct weir_kafka_client *out,
                     struct weir_error *err) {
    char what[KAFKA_NAME_BYTES + 32];
    snprintf(what, sizeof(what), "kafka of %s", log->pipeline);
    int rc = weir_kafka_client_init(out, what, log->options, err);
    if (rc == WEIR_OK) {
        rc = weir_kafka_client_default(out, "allow.auto.create.topics", "false", err);
    }
    if (rc == WEIR_OK) {
        rc = weir_kafka_client_default(out, "enable.partition.eof", "true", err);
    }
    if (rc == WEIR_OK) {
        rc = weir_kafka_client_set(out, "isolation.level",
                                   committed ? "read_committed" : "read_uncommitted", err);
    }
    if (rc == WEIR_OK) {
        rc = weir_kafka_client_default(out, "fetch.wait.max.ms", "20", err);
    }
    return rc == WEIR_OK ? weir_kafka_client_open(out, RD_KAFKA_CONSUMER, err) : rc;
}

int kafka_probe_topic(struct weir_kafka_client *probe, const char *name, int32_t *partitions,
                      struct weir_error *err) {
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_topic_t *rkt = rd_kafka_topic_new(probe->rk, name, NULL);
    *partitions = 0;
    if (rkt == NULL) {
        return weir_kafka_error(err, probe, rd_kafka_last_error(), NULL, "look for topic", name);
    }
    rd_kafka_resp_err_t code = rd_kafka_metadata(probe->rk, 0, rkt, &metadata, ASK_MS);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR && metadata->topic_cnt == 1) {
        code = metadata->topics[0].err;
        *partitions = metadata->topics[0].partition_cnt;
    }
    if (metadata != NULL) {
        rd_kafka_metadata_destroy(metadata);
    }
    rd_kafka_topic_destroy(rkt);
    if (code == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
        code == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC) {
        *partitions = 0;
        return WEIR_OK;
    }
    if (code == RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE && *partitions > 0) {
        return WEIR_OK; /* it is there; who leads it is found when it is written to */
    }
    return code == RD_KAFKA_RESP_ERR_NO_ERROR
               ? WEIR_OK
               : weir_kafka_error(err, probe, code, NULL, "look for topic", name);
}

/* --- making topics ---------------------------------------------------------------------------- */

static rd_kafka_resp_err_t made(rd_kafka_event_t *event, char *reason, size_t size) {
    if (event == NULL) {
        return RD_KAFKA_RESP_ERR__TIMED_OUT;
    }
    rd_kafka_resp_err_t code = rd_kafka_event_error(event);
    if (code != RD_KAFKA_RESP_ERR_NO_ERROR) {
        snprintf(reason, size, "%s", rd_kafka_event_error_string(event));
        return code;
    }
    size_t count = 0;
    const rd_kafka_topic_result_t **topics =
        rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
    if (count > 0) {
        code = rd_kafka_topic_result_error(topics[0]);
        const char *text = rd_kafka_topic_result_error_string(topics[0]);
        snprintf(reason, size, "%s", text != NULL ? text : "");
    }
    return code;
}

int kafka_make_topic(struct weir_kafka_client *client, const char *name, int partitions,
                     int replication, bool compacted, struct weir_error *err) {
    char reason[256] = "";
    rd_kafka_NewTopic_t *topic =
        rd_kafka_NewTopic_new(name, partitions, replication, reason, sizeof(reason));
    if (topic == NULL) {
        return weir_error_set(err, WEIR_E_CONFIG, "%s: make topic %s: %s", client->what, name,
                              reason);
    }
    if (compacted) {
        (void)rd_kafka_NewTopic_set_config(topic, "cleanup.policy", "compact");
    }
    rd_kafka_AdminOptions_t *options =
        rd_kafka_AdminOptions_new(client->rk, RD_KAFKA_ADMIN_OP_CREATETOPICS);
    (void)rd_kafka_AdminOptions_set_operation_timeout(options, ASK_MS, reason, sizeof(reason));
    rd_kafka_queue_t *queue = rd_kafka_queue_new(client->rk);
    rd_kafka_CreateTopics(client->rk, &topic, 1, options, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 2 * ASK_MS);
    rd_kafka_resp_err_t code = made(event, reason, sizeof(reason));
    if (event != NULL) {
        rd_kafka_event_destroy(event);
    }
    rd_kafka_queue_destroy(queue);
    rd_kafka_AdminOptions_destroy(options);
    rd_kafka_NewTopic_destroy(topic);
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR || code == RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS) {
        return WEIR_OK;
    }
    return weir_kafka_error(err, client, code, reason[0] != '\0' ? reason : NULL, "make topic",
                            name);
}

/* What was just made is not known to every broker at once. */
static int wait_for_topic(struct weir_kafka_client *probe, const char *name,
                          struct weir_error *err) {
    int64_t until = weir_clock_mono_ns() + VISIBLE_MS * INT64_C(1000000);
    for (;;) {
        int32_t partitions = 0;
        int rc = kafka_probe_topic(probe, name, &partitions, err);
        if (rc != WEIR_OK || partitions > 0) {
            return rc;
        }
        if (weir_clock_mono_ns() > until) {
            return weir_error_set(err, WEIR_E_ENVIRONMENT,
                                  "%s: topic %s was made on %s and is not seen after %d s; look at "
                                  "the brokers",
                                  probe->what, name, probe->brokers, VISIBLE_MS / 1000);
        }
        rd_kafka_poll(probe->rk, 50);
    }
}

static int make_marker_topic(struct kafka_log *log, struct weir_kafka_client *probe,
                             struct weir_error *err) {
    int32_t partitions = 0;
    int rc = kafka_probe_topic(probe, log->marker_topic, &partitions, err);
    if (rc != WEIR_OK || partitions > 0) {
        return rc;
    }
    rc = kafka_make_topic(probe, log->marker_topic, 1, -1, true, err);
    if (rc != WEIR_OK) {
        return weir_error_wrap(err,
                               "exactly-once needs the topic of markers; make it by hand "
                               "(kafka-topics.sh --create --topic %s --partitions 1 --config "
                               "cleanup.policy=compact) or say delivery = \"at_least_once\"",
                               log->marker_topic);
    }
    weir_log_info("sink", "made the topic of markers topic=%s", log->marker_topic);
    return wait_for_topic(probe, log->marker_topic, err);
}

/* --- reading ---------------------------------------------------------------------------------- */

int kafka_marker_key(const struct kafka_log *log, const struct kafka_topic *topic, char *out,
                     size_t size) {
    return snprintf(out, size, "%s/%s", log->log, topic->sink);
}

static void take(struct kafka_log *log, const rd_kafka_message_t *message) {
    char text[32] = "";
    char key[2 * KAFKA_NAME_BYTES];
    if (message->key == NULL || message->payload == NULL || message->len >= sizeof(text)) {
        return;
    }
    memcpy(text, message->payload, message->len);
    uint64_t record = strtoull(text, NULL, 10);
    pthread_mutex_lock(&log->lock);
    for (struct kafka_topic *topic = log->topics; topic != NULL; topic = topic->next) {
        int length = kafka_marker_key(log, topic, key, sizeof(key));
        if ((size_t)length == message->key_len &&
            memcmp(key, message->key, message->key_len) == 0 && record > topic->marker) {
            topic->marker = record;
        }
    }
    pthread_mutex_unlock(&log->lock);
}

/* To `end`, the end of all that was written, not only of what is settled: a marker of ours may lie
 * behind the open transaction of another. */
static int read_to(struct kafka_log *log, struct weir_kafka_client *reader, rd_kafka_topic_t *rkt,
                   int64_t end, struct weir_error *err) {
    int64_t until = weir_clock_mono_ns() + READ_MS * INT64_C(1000000);
    for (;;) {
        rd_kafka_message_t *message = rd_kafka_consume(rkt, 0, POLL_MS);
        if (message != NULL) {
            rd_kafka_resp_err_t code = message->err;
            bool reached = code == RD_KAFKA_RESP_ERR__PARTITION_EOF && message->offset >= end;
            if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
                take(log, message);
                reached = message->offset + 1 >= end;
            }
            rd_kafka_message_destroy(message);
            if (reached) {
                return WEIR_OK;
            }
            if (code != RD_KAFKA_RESP_ERR_NO_ERROR && code != RD_KAFKA_RESP_ERR__PARTITION_EOF &&
                !weir_kafka_passing(code)) {
                return weir_kafka_error(err, reader, code, NULL, "read the topic of markers",
                                        log->marker_topic);
            }
        }
        if (log->stop(log->stop_context)) {
            return weir_error_set(err, WEIR_E_CLOSED, "stopped");
        }
        if (weir_clock_mono_ns() > until) {
            return weir_error_set(err, WEIR_E_ENVIRONMENT,
                                  "%s: topic %s on %s cannot be read to its end: a transaction "
                                  "there stays open; look for its producer (kafka-transactions.sh "
                                  "--find-hanging)",
                                  reader->what, log->marker_topic, reader->brokers);
        }
    }
}

static int read_markers(struct kafka_log *log, int64_t end, struct weir_error *err) {
    struct weir_kafka_client reader;
    int rc = kafka_probe_open(log, true, &reader, err);
    rd_kafka_topic_t *rkt =
        rc == WEIR_OK ? rd_kafka_topic_new(reader.rk, log->marker_topic, NULL) : NULL;
    if (rc == WEIR_OK &&
        (rkt == NULL || rd_kafka_consume_start(rkt, 0, RD_KAFKA_OFFSET_BEGINNING) != 0)) {
        rc = weir_kafka_error(err, &reader, rd_kafka_last_error(), NULL,
                              "read the topic of markers", log->marker_topic);
    } else if (rc == WEIR_OK) {
        rc = read_to(log, &reader, rkt, end, err);
        rd_kafka_consume_stop(rkt, 0);
    }
    if (rkt != NULL) {
        rd_kafka_topic_destroy(rkt);
    }
    weir_kafka_client_close(&reader);
    return rc;
}

/* The end of all that was written. A topic just made has no leader for a moment. */
static int find_end(struct kafka_log *log, struct weir_kafka_client *probe, int64_t *end,
                    struct weir_error *err) {
    int64_t until = weir_clock_mono_ns() + VISIBLE_MS * INT64_C(1000000);
    for (;;) {
        int64_t low = 0;
        rd_kafka_resp_err_t code =
            rd_kafka_query_watermark_offsets(probe->rk, log->marker_topic, 0, &low, end, ASK_MS);
        *end = *end > low ? *end : 0;
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
            return WEIR_OK;
        }
        bool again = weir_kafka_passing(code) && weir_clock_mono_ns() < until &&
                     !log->stop(log->stop_context);
        if (!again) {
            return weir_kafka_error(err, probe, code, NULL, "find the end of topic",
                                    log->marker_topic);
        }
        rd_kafka_poll(probe->rk, POLL_MS);
    }
}

int kafka_markers_read(struct kafka_log *log, struct weir_error *err) {
    struct weir_kafka_client probe;
    pthread_mutex_lock(&log->lock);
    for (struct kafka_topic *topic = log->topics; topic != NULL; topic = topic->next) {
        topic->is_read = true;
    }
    pthread_mutex_unlock(&log->lock);
    int rc = kafka_probe_open(log, false, &probe, err);
    if (rc == WEIR_OK) {
        rc = make_marker_topic(log, &probe, err);
    }
    int64_t end = 0;
    rc = rc == WEIR_OK ? find_end(log, &probe, &end, err) : rc;
    weir_kafka_client_close(&probe);
    return rc == WEIR_OK && end > 0 ? read_markers(log, end, err) : rc;
}
