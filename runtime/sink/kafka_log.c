/* See kafka_log.h. The life of the shared producer and who may lead a transaction; what happens in
 * one is in kafka_transaction.c. */
#include "sink/kafka_log.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/fault.h"
#include "core/log.h"

enum { INIT_MS = 10000, INIT_FOR_MS = 30000, SEEN_MS = 200, SEEN_TRIES = 10 };

/* --- joining ---------------------------------------------------------------------------------- */

/* What makes a client what it is; the rest of a sink's options is the topic's business. */
static json_t *client_options(const json_t *options) {
    static const char *const names[] = {
        "brokers",      "tls",           "ca",       "certificate", "key_file",
        "key_password", "sasl",          "username", "password",    "token_url",
        "client_id",    "client_secret", "scope",    "options",
    };
    json_t *own = json_object();
    for (size_t i = 0; own != NULL && i < sizeof(names) / sizeof(names[0]); i++) {
        json_t *value = json_object_get(options, names[i]);
        if (value != NULL) {
            json_object_set(own, names[i], value);
        }
    }
    return own;
}

static void name_log(struct kafka_log *log, const struct weir_sink_config *config) {
    snprintf(log->pipeline, sizeof(log->pipeline), "%s", config->pipeline);
    snprintf(log->log, sizeof(log->log), "%s/%s", config->lineage, config->log);
    snprintf(log->id, sizeof(log->id), "weir.%s.%s", config->pipeline, log->log);
    snprintf(log->marker_topic, sizeof(log->marker_topic), "weir.%s.markers", config->pipeline);
}

static struct kafka_log *create(const struct weir_sink_config *config, json_t *own,
                                bool transactional) {
    struct kafka_log *log = calloc(1, sizeof(*log));
    if (log != NULL) {
        name_log(log, config);
        log->options = json_incref(own);
        log->transactional = transactional;
        log->stop = config->stop;
        log->draining = config->draining;
        log->stop_context = config->stop_context;
        pthread_mutex_init(&log->lock, NULL);
        pthread_cond_init(&log->answered, NULL);
    }
    return log;
}

int kafka_log_join(struct kafka_log **logs, const struct weir_sink_config *config,
                   const json_t *options, bool transactional, struct kafka_topic *topic,
                   struct kafka_log **out, struct weir_error *err) {
    json_t *own = client_options(options);
    const char *brokers = json_string_value(json_object_get(options, "brokers"));
    int rc = own == NULL ? WEIR_E_NOMEM : WEIR_OK;
    *out = NULL;
    for (struct kafka_log *log = *logs; rc == WEIR_OK && log != NULL; log = log->next) {
        const char *theirs = json_string_value(json_object_get(log->options, "brokers"));
        if (log->transactional != transactional) {
            continue;
        }
        if (json_equal(log->options, own) == 1) {
            *out = log;
        } else if (transactional && theirs != NULL && brokers != NULL &&
                   strcmp(theirs, brokers) == 0) {
            rc = weir_error_set(err, WEIR_E_CONFIG,
                                "%s: exactly-once sinks of one pipeline share one producer a "
                                "cluster; give all sinks on %s the same login and `options`",
                                config->name, brokers);
        }
    }
    if (rc == WEIR_OK && *out == NULL) {
        *out = create(config, own, transactional);
        if (*out == NULL) {
            rc = WEIR_E_NOMEM;
        } else {
            (*out)->next = *logs;
            *logs = *out;
        }
    }
    json_decref(own);
    if (rc == WEIR_OK) {
        (*out)->references++;
        pthread_mutex_lock(&(*out)->lock);
        topic->next = (*out)->topics;
        (*out)->topics = topic;
        pthread_mutex_unlock(&(*out)->lock);
    }
    return rc == WEIR_E_NOMEM ? weir_error_set(err, rc, "%s: out of memory", config->name) : rc;
}

void kafka_log_close(struct kafka_log *log) {
    for (struct kafka_topic *topic = log->topics; topic != NULL; topic = topic->next) {
        if (topic->rkt != NULL) {
            rd_kafka_topic_destroy(topic->rkt);
            topic->rkt = NULL;
        }
    }
    if (log->markers != NULL) {
        rd_kafka_topic_destroy(log->markers);
        log->markers = NULL;
    }
    if (log->reports != NULL) {
        rd_kafka_queue_destroy(log->reports);
        log->reports = NULL;
    }
    if (log->client.rk != NULL) {
        /* Messages still queued point into effects that go away. */
        rd_kafka_purge(log->client.rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
    }
    weir_kafka_client_close(&log->client);
    log->open = false;
}

void kafka_log_leave(struct kafka_log **logs, struct kafka_log *log, struct kafka_topic *topic) {
    if (log == NULL) {
        return;
    }
    pthread_mutex_lock(&log->lock);
    for (struct kafka_topic **at = &log->topics; *at != NULL; at = &(*at)->next) {
        if (*at == topic) {
            *at = topic->next;
            break;
        }
    }
    pthread_mutex_unlock(&log->lock);
    if (topic->rkt != NULL) {
        rd_kafka_topic_destroy(topic->rkt);
        topic->rkt = NULL;
    }
    if (--log->references > 0) {
        return;
    }
    for (struct kafka_log **at = logs; *at != NULL; at = &(*at)->next) {
        if (*at == log) {
            *at = log->next;
            break;
        }
    }
    kafka_log_close(log);
    json_decref(log->options);
    pthread_mutex_destroy(&log->lock);
    pthread_cond_destroy(&log->answered);
    free(log);
}

/* --- the producer ----------------------------------------------------------------------------- */

static void take_report(struct kafka_log *log, const rd_kafka_message_t *message) {
    /* What is purged fell with another message, which is the one to name. */
    if (message->err != RD_KAFKA_RESP_ERR_NO_ERROR &&
        message->err != RD_KAFKA_RESP_ERR__PURGE_QUEUE &&
        message->err != RD_KAFKA_RESP_ERR__PURGE_INFLIGHT &&
        log->failed.code == RD_KAFKA_RESP_ERR_NO_ERROR) {
        log->failed.code = message->err;
        snprintf(log->failed.topic, sizeof(log->failed.topic), "%s",
                 rd_kafka_topic_name(message->rkt));
    }
}

void kafka_log_serve(struct kafka_log *log, int timeout_ms) {
    rd_kafka_event_t *event;
    while ((event = rd_kafka_queue_poll(log->reports, timeout_ms)) != NULL) {
        const rd_kafka_message_t *message;
        while (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DR &&
               (message = rd_kafka_event_message_next(event)) != NULL) {
            take_report(log, message);
        }
        rd_kafka_event_destroy(event);
        timeout_ms = 0;
    }
}

static int configure(struct kafka_log *log, struct weir_error *err) {
    struct weir_kafka_client *client = &log->client;
    static const char *const defaults[][2] = {
        {"queue.buffering.max.messages", "1000000"},
        {"queue.buffering.max.kbytes", "2097151"},
        {"linger.ms", "5"},
        {"batch.num.messages", "100000"},
        {"socket.nagle.disable", "true"},
    };
    int rc = WEIR_OK;
    for (size_t i = 0; rc == WEIR_OK && i < sizeof(defaults) / sizeof(defaults[0]); i++) {
        rc = weir_kafka_client_default(client, defaults[i][0], defaults[i][1], err);
    }
    if (rc == WEIR_OK) {
        rc = weir_kafka_client_set(client, "delivery.report.only.error", "true", err);
    }
    if (rc == WEIR_OK) { /* no message twice or out of its order, within a session */
        rc = weir_kafka_client_set(client, "enable.idempotence", "true", err);
    }
    if (rc == WEIR_OK && log->transactional) {
        rc = weir_kafka_client_set(client, "transactional.id", log->id, err);
    }
    if (rc == WEIR_OK) {
        /* As events and only of what failed: a flush then sleeps until the last message is gone,
         * where with callbacks it looks every ten milliseconds. */
        rd_kafka_conf_set_events(client->conf, RD_KAFKA_EVENT_DR);
        client->events = true;
    }
    return rc;
}

static int64_t number_of(rd_kafka_t *rk, const char *key, int64_t otherwise) {
    char text[32];
    size_t size = sizeof(text);
    bool known = rd_kafka_conf_get(rd_kafka_conf(rk), key, text, &size) == RD_KAFKA_CONF_OK;
    int64_t value = known ? strtoll(text, NULL, 10) : 0;
    return value > 0 ? value : otherwise;
}

/* Fences every producer before us with this id; returns once its transaction is settled. */
static int fence(struct kafka_log *log, struct weir_error *err) {
    int64_t until = weir_clock_mono_ns() + INIT_FOR_MS * INT64_C(1000000);
    for (;;) {
        rd_kafka_error_t *error = rd_kafka_init_transactions(log->client.rk, INIT_MS);
        if (error == NULL) {
            return WEIR_OK;
        }
        rd_kafka_resp_err_t code = rd_kafka_error_code(error);
        bool again = rd_kafka_error_is_retriable(error) || weir_kafka_passing(code);
        int rc = WEIR_OK;
        if (log->stop(log->stop_context)) {
            rc = weir_error_set(err, WEIR_E_CLOSED, "stopped");
        } else if (!again || weir_clock_mono_ns() > until) {
            rc = weir_kafka_error(err, &log->client, code, rd_kafka_error_string(error),
                                  "begin transactions", NULL);
        }
        rd_kafka_error_destroy(error);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
}

int kafka_log_open(struct kafka_log *log, struct weir_error *err) {
    char what[KAFKA_NAME_BYTES + 16];
    kafka_log_close(log);
    snprintf(what, sizeof(what), "kafka of %s", log->pipeline);
    int rc = weir_kafka_client_init(&log->client, what, log->options, err);
    if (rc == WEIR_OK) {
        rc = configure(log, err);
    }
    if (rc == WEIR_OK) {
        rc = weir_kafka_client_open(&log->client, RD_KAFKA_PRODUCER, err);
    }
    if (rc == WEIR_OK) {
        log->reports = rd_kafka_queue_get_main(log->client.rk);
        log->queue_max = number_of(log->client.rk, "queue.buffering.max.messages", 100000);
        log->timeout_ms = number_of(log->client.rk, "transaction.timeout.ms", 60000);
        memset(&log->failed, 0, sizeof(log->failed));
    }
    if (rc == WEIR_OK && log->transactional) {
        rc = fence(log, err);
        if (rc == WEIR_OK && WEIR_FAULT(kafka_fenced)) {
            rc = weir_error_set(err, WEIR_E_FAULT, "injected at kafka_fenced");
        }
        if (rc == WEIR_OK) {
            rc = kafka_markers_read(log, err);
        }
        if (rc == WEIR_OK) {
            log->markers = rd_kafka_topic_new(log->client.rk, log->marker_topic, NULL);
            rc = log->markers == NULL ? weir_kafka_error(err, &log->client, rd_kafka_last_error(),
                                                         NULL, "open topic", log->marker_topic)
                                      : WEIR_OK;
        }
    }
    if (rc != WEIR_OK) {
        kafka_log_close(log);
        return rc;
    }
    log->open = true;
    return WEIR_OK;
}

int kafka_topic_open(struct kafka_log *log, struct kafka_topic *topic, struct weir_error *err) {
    if (topic->rkt != NULL) {
        return WEIR_OK;
    }
    char reason[256] = "";
    rd_kafka_topic_conf_t *conf = rd_kafka_default_topic_conf_dup(log->client.rk);
    rd_kafka_conf_res_t set = RD_KAFKA_CONF_OK;
    if (topic->compression != NULL) {
        set = rd_kafka_topic_conf_set(conf, "compression.codec", topic->compression, reason,
                                      sizeof(reason));
    }
    if (set == RD_KAFKA_CONF_OK && topic->partitioner != NULL) {
        set = rd_kafka_topic_conf_set(conf, "partitioner", topic->partitioner, reason,
                                      sizeof(reason));
    }
    if (set != RD_KAFKA_CONF_OK) {
        rd_kafka_topic_conf_destroy(conf);
        return weir_error_set(err, WEIR_E_CONFIG, "sink %s: %s", topic->sink, reason);
    }
    topic->rkt = rd_kafka_topic_new(log->client.rk, topic->name, conf);
    return topic->rkt != NULL ? WEIR_OK
                              : weir_kafka_error(err, &log->client, rd_kafka_last_error(), NULL,
                                                 "open topic", topic->name);
}

/* --- start ------------------------------------------------------------------------------------ */

static int make(struct weir_kafka_client *probe, struct kafka_topic *topic,
                struct weir_error *err) {
    json_int_t partitions = json_integer_value(json_object_get(topic->make, "partitions"));
    json_int_t replication = json_integer_value(json_object_get(topic->make, "replication"));
    int rc = kafka_make_topic(probe, topic->name, partitions > 0 ? (int)partitions : -1,
                              replication > 0 ? (int)replication : -1, false, err);
    for (int tries = 0; rc == WEIR_OK && topic->partitions == 0 && tries < 100; tries++) {
        rc = kafka_probe_topic(probe, topic->name, &topic->partitions, err);
        if (rc == WEIR_OK && topic->partitions == 0) {
            rd_kafka_poll(probe->rk, 100);
        }
    }
    return rc;
}

static int find_topic(struct kafka_log *log, struct kafka_topic *topic, struct weir_error *err) {
    struct weir_kafka_client probe;
    int rc = kafka_probe_open(log, false, &probe, err);
    /* One made a moment ago is not known to every broker yet. */
    int tries = topic->make != NULL ? 1 : SEEN_TRIES;
    for (int i = 0; rc == WEIR_OK && topic->partitions == 0 && i < tries; i++) {
        if (i > 0) {
            rd_kafka_poll(probe.rk, SEEN_MS);
        }
        rc = kafka_probe_topic(&probe, topic->name, &topic->partitions, err);
    }
    if (rc == WEIR_OK && topic->partitions == 0 && topic->make != NULL) {
        rc = make(&probe, topic, err);
    }
    if (rc == WEIR_OK && topic->partitions == 0) {
        rc = weir_error_set(
            err, WEIR_E_CONFIG,
            "topic %s does not exist on %s; create it (kafka-topics.sh --create --topic %s "
            "--partitions 4), correct `topic`, or say create = { partitions = 4 }",
            topic->name, probe.brokers, topic->name);
    }
    weir_kafka_client_close(&probe);
    return rc == WEIR_OK ? rc : weir_error_wrap(err, "sink %s", topic->sink);
}

int kafka_log_start(struct kafka_log *log, struct kafka_topic *topic, struct weir_error *err) {
    int rc = find_topic(log, topic, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (!log->open) {
        return kafka_log_open(log, err);
    }
    return log->transactional && !topic->is_read ? kafka_markers_read(log, err) : WEIR_OK;
}

int kafka_log_refresh(struct kafka_log *log, struct kafka_topic *topic, struct weir_error *err) {
    int32_t partitions = 0;
    pthread_mutex_lock(&log->lock);
    while (log->leading) { /* whose count of partitions it is */
        pthread_cond_wait(&log->answered, &log->lock);
    }
    log->leading = true;
    pthread_mutex_unlock(&log->lock);
    int rc = log->open ? kafka_probe_topic(&log->client, topic->name, &partitions, err) : WEIR_OK;
    if (rc == WEIR_OK && partitions > topic->partitions) {
        weir_log_info("sink", "topic %s has more partitions now partitions=%d", topic->name,
                      partitions);
        topic->partitions = partitions;
    }
    pthread_mutex_lock(&log->lock);
    log->leading = false;
    pthread_cond_broadcast(&log->answered);
    pthread_mutex_unlock(&log->lock);
    return rc;
}

/* --- apply ------------------------------------------------------------------------------------ */

static void enqueue(struct kafka_log *log, struct kafka_request *request) {
    if (log->waiting == NULL) {
        log->waiting = request;
    } else {
        log->waiting_last->next = request;
    }
    log->waiting_last = request;
}

struct kafka_request *kafka_log_take(struct kafka_log *log) {
    pthread_mutex_lock(&log->lock);
    struct kafka_request *all = log->waiting;
    log->waiting = log->waiting_last = NULL;
    pthread_mutex_unlock(&log->lock);
    return all;
}

/* In the order they came, and so all of them in one group. */
static void enqueue_all(struct kafka_log *log, struct kafka_topic *topic,
                        const struct weir_sink_record *records, int32_t count,
                        struct kafka_request *requests) {
    for (int32_t i = 0; i < count; i++) {
        requests[i] = (struct kafka_request){.topic = topic, .record = records[i]};
        enqueue(log, &requests[i]);
    }
}

int kafka_log_apply(struct kafka_log *log, struct kafka_topic *topic,
                    const struct weir_sink_record *records, int32_t count, struct weir_error *err) {
    struct kafka_request *requests = calloc((size_t)count, sizeof(*requests));
    if (requests == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    struct kafka_request *last = &requests[count - 1];
    pthread_mutex_lock(&log->lock);
    enqueue_all(log, topic, records, count, requests);
    while (!last->done) {
        if (log->leading) {
            pthread_cond_wait(&log->answered, &log->lock);
            continue;
        }
        log->leading = true;
        pthread_mutex_unlock(&log->lock);
        struct kafka_request *group = kafka_log_take(log);
        struct weir_error why = {0};
        int rc = kafka_transaction(log, &group, &why);
        pthread_mutex_lock(&log->lock);
        for (struct kafka_request *next; group != NULL; group = next) {
            next = group->next; /* its owner may be gone once it is answered and unlocked */
            group->rc = rc;
            group->err = why;
            group->done = true;
        }
        log->leading = false;
        pthread_cond_broadcast(&log->answered);
    }
    pthread_mutex_unlock(&log->lock);
    int rc = last->rc;
    if (rc != WEIR_OK && err != NULL) {
        *err = last->err;
    }
    free(requests);
    return rc;
}
