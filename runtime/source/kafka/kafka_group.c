/* Membership of the consumer group. It moves no data: Weir assigns all partitions itself. It is
 * there so that a second process that reads for the same pipeline is noticed before it reads, and
 * so that the tools of Kafka show who reads and how far it is. A group that cannot be had (no
 * grant, no coordinator) is a warning, not an end. */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "source/kafka/kafka.h"

enum {
    ASK_MS = 5000,
    COMMIT_EVERY_MS = 5000,
    SESSION_MS = 6000,
    CALM_MS = 10000,
    JOIN_MS = 5000,
    LISTED_MS = 3000
};

/* --- who else is there ----------------------------------------------------------------------- */

static bool reads_our_topics(const struct kafka *kafka,
                             const rd_kafka_MemberDescription_t *member) {
    const rd_kafka_MemberAssignment_t *assignment = rd_kafka_MemberDescription_assignment(member);
    const rd_kafka_topic_partition_list_t *parts =
        assignment != NULL ? rd_kafka_MemberAssignment_partitions(assignment) : NULL;
    for (int i = 0; parts != NULL && i < parts->cnt; i++) {
        for (const struct kafka_topic *topic = kafka->topics; topic != NULL; topic = topic->next) {
            if (strcmp(topic->name, parts->elems[i].topic) == 0) {
                return true;
            }
        }
    }
    return false;
}

/* The first member that is not this pipeline's own (an earlier run of it may not have expired yet)
 * and reads one of our topics: its name in `who`. *settling: ask again, the group is being formed.
 */
static bool find_other(struct kafka *kafka, const rd_kafka_ConsumerGroupDescription_t *group,
                       char *who, size_t size, bool *settling) {
    rd_kafka_consumer_group_state_t state = rd_kafka_ConsumerGroupDescription_state(group);
    *settling = state == RD_KAFKA_CONSUMER_GROUP_STATE_PREPARING_REBALANCE ||
                state == RD_KAFKA_CONSUMER_GROUP_STATE_COMPLETING_REBALANCE;
    size_t count = rd_kafka_ConsumerGroupDescription_member_count(group);
    for (size_t i = 0; i < count; i++) {
        const rd_kafka_MemberDescription_t *member =
            rd_kafka_ConsumerGroupDescription_member(group, i);
        const char *client = rd_kafka_MemberDescription_client_id(member);
        kafka->group.listed = kafka->group.listed || strcmp(client, kafka->group.client_id) == 0;
        if (strcmp(client, kafka->group.client_id) != 0 &&
            (*settling || reads_our_topics(kafka, member))) {
            snprintf(who, size, "client %s at %s", client, rd_kafka_MemberDescription_host(member));
            return true;
        }
    }
    return false;
}

/* *other: somebody else reads; `who` names it. */
static rd_kafka_resp_err_t ask(struct kafka *kafka, bool *other, char *who, size_t size,
                               bool *settling) {
    rd_kafka_t *rk = kafka->group.client.rk;
    const char *groups[] = {kafka->group.id};
    char ignored[128];
    rd_kafka_AdminOptions_t *options =
        rd_kafka_AdminOptions_new(rk, RD_KAFKA_ADMIN_OP_DESCRIBECONSUMERGROUPS);
    (void)rd_kafka_AdminOptions_set_request_timeout(options, ASK_MS, ignored, sizeof(ignored));
    rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
    rd_kafka_DescribeConsumerGroups(rk, groups, 1, options, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, ASK_MS + 1000);
    rd_kafka_resp_err_t code =
        event == NULL ? RD_KAFKA_RESP_ERR__TIMED_OUT : rd_kafka_event_error(event);
    *other = false;
    *settling = false;
    const rd_kafka_DescribeConsumerGroups_result_t *result =
        event != NULL ? rd_kafka_event_DescribeConsumerGroups_result(event) : NULL;
    size_t count = 0;
    const rd_kafka_ConsumerGroupDescription_t **found =
        result != NULL ? rd_kafka_DescribeConsumerGroups_result_groups(result, &count) : NULL;
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR && count > 0) {
        const rd_kafka_error_t *error = rd_kafka_ConsumerGroupDescription_error(found[0]);
        code = error != NULL ? rd_kafka_error_code(error) : code;
    }
    if (code == RD_KAFKA_RESP_ERR_GROUP_ID_NOT_FOUND) {
        code = RD_KAFKA_RESP_ERR_NO_ERROR; /* nobody has been here */
    } else if (code == RD_KAFKA_RESP_ERR_NO_ERROR && count > 0) {
        *other = find_other(kafka, found[0], who, size, settling);
    }
    if (event != NULL) {
        rd_kafka_event_destroy(event);
    }
    rd_kafka_queue_destroy(queue);
    rd_kafka_AdminOptions_destroy(options);
    return code;
}

/* A member may be dead and not yet given up: it has one session's time to vanish. */
static int refuse_second(struct kafka *kafka, struct weir_error *err) {
    int64_t start_ns = weir_clock_mono_ns();
    bool said = false;
    for (;;) {
        char who[256] = "";
        bool other;
        bool settling;
        rd_kafka_resp_err_t code = ask(kafka, &other, who, sizeof(who), &settling);
        /* Several dead ones expire one after the other while the group is formed anew. */
        int64_t patience_ms = (settling ? 4 : 1) * SESSION_MS + 1500;
        bool is_over = weir_clock_mono_ns() - start_ns >= patience_ms * INT64_C(1000000);
        if (code != RD_KAFKA_RESP_ERR_NO_ERROR && (is_over || !weir_kafka_passing(code))) {
            weir_log_warn("kafka",
                          "cannot ask who else is in consumer group %s: %s; nothing notices a "
                          "second process that reads the same",
                          kafka->group.id, rd_kafka_err2str(code));
            return WEIR_OK;
        }
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR && !other) {
            return WEIR_OK;
        }
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR && is_over) {
            return weir_error_set(
                err, WEIR_E_LOCKED,
                "consumer group %s has a member already (%s): another process reads this for the "
                "same pipeline, and two would each write every row; stop that one, or give this "
                "one "
                "a group of its own (group = \"…\")",
                kafka->group.id, who);
        }
        if (other && !said) {
            weir_log_info("kafka",
                          "consumer group %s has a member (%s); waiting to see whether it "
                          "is alive",
                          kafka->group.id, who);
            said = true;
        }
        if (atomic_load(&kafka->stopping)) {
            return weir_error_set(err, WEIR_E_CLOSED, "stopped");
        }
        (void)weir_signal_wait(&kafka->wake, 300);
    }
}

/* --- membership ------------------------------------------------------------------------------ */

/* What is assigned is taken note of, not read: positions are Weir's own. */
static void on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t code,
                         rd_kafka_topic_partition_list_t *parts, void *opaque) {
    struct weir_kafka_client *client = opaque;
    struct kafka *kafka = client->owner;
    bool assigned = code == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
    const char *protocol = rd_kafka_rebalance_protocol(rk);
    rd_kafka_topic_partition_list_t *none = rd_kafka_topic_partition_list_new(0);
    if (strcmp(protocol, "COOPERATIVE") == 0) {
        rd_kafka_error_t *error = assigned ? rd_kafka_incremental_assign(rk, none)
                                           : rd_kafka_incremental_unassign(rk, none);
        if (error != NULL) {
            weir_log_debug("kafka", "group %s: %s", kafka->group.id, rd_kafka_error_string(error));
            rd_kafka_error_destroy(error);
        }
    } else {
        (void)rd_kafka_assign(rk, assigned ? none : NULL);
    }
    rd_kafka_topic_partition_list_destroy(none);
    weir_log_debug("kafka", "group %s: %s %d partitions", kafka->group.id,
                   assigned ? "assigned" : "revoked", parts->cnt);
    kafka->group.is_member = true;
    kafka->group.look = true; /* somebody may have come */
}

static int set_group(struct weir_source *source, struct kafka *kafka, struct weir_error *err) {
    struct weir_kafka_client *client = &kafka->group.client;
    const char *group = json_string_value(json_object_get(kafka->options, "group"));
    const char *member = json_string_value(json_object_get(kafka->options, "member"));
    if (group != NULL) {
        snprintf(kafka->group.id, sizeof(kafka->group.id), "%s", group);
    } else {
        snprintf(kafka->group.id, sizeof(kafka->group.id), "weir.%s.%s", source->pipeline,
                 source->name);
    }
    snprintf(kafka->group.client_id, sizeof(kafka->group.client_id), "weir-%s",
             source->instance != NULL ? source->instance : "process");
    char session[16];
    snprintf(session, sizeof(session), "%d", SESSION_MS);
    client->owner = kafka;
    rd_kafka_conf_set_rebalance_cb(client->conf, on_rebalance);
    int rc = weir_kafka_client_set(client, "group.id", kafka->group.id, err);
    rc = rc == WEIR_OK ? weir_kafka_client_set(client, "client.id", kafka->group.client_id, err)
                       : rc;
    rc = rc == WEIR_OK && member != NULL
             ? weir_kafka_client_default(client, "group.instance.id", member, err)
             : rc;
    rc = rc == WEIR_OK ? weir_kafka_client_default(client, "partition.assignment.strategy",
                                                   "cooperative-sticky", err)
                       : rc;
    rc = rc == WEIR_OK ? weir_kafka_client_default(client, "session.timeout.ms", session, err) : rc;
    rc = rc == WEIR_OK ? weir_kafka_client_default(client, "heartbeat.interval.ms", "1500", err)
                       : rc;
    rc = rc == WEIR_OK ? weir_kafka_client_default(client, "reconnect.backoff.max.ms", "1000", err)
                       : rc;
    return rc == WEIR_OK ? weir_kafka_client_set(client, "enable.auto.commit", "false", err) : rc;
}

/* From here on whoever comes sees us, though the group may not be formed yet. */
static void wait_listed(struct kafka *kafka) {
    int64_t give_up = weir_clock_mono_ns() + LISTED_MS * INT64_C(1000000);
    while (!kafka->group.listed && !kafka->group.is_member && weir_clock_mono_ns() < give_up) {
        char who[256];
        bool other;
        bool settling;
        (void)weir_signal_wait(&kafka->wake, 30);
        kafka_group_step(kafka);
        if (ask(kafka, &other, who, sizeof(who), &settling) != RD_KAFKA_RESP_ERR_NO_ERROR) {
            return;
        }
    }
}

int kafka_group_join(struct weir_source *source, struct weir_error *err) {
    struct kafka *kafka = source->state;
    if (source->pipeline == NULL || kafka->topics == NULL) {
        return WEIR_OK;
    }
    int rc = weir_kafka_client_init(&kafka->group.client, "kafka", kafka->options, err);
    if (rc == WEIR_OK) {
        rc = set_group(source, kafka, err);
    }
    if (rc == WEIR_OK) {
        rc = weir_kafka_client_open(&kafka->group.client, RD_KAFKA_CONSUMER, err);
    }
    if (rc == WEIR_OK) {
        rd_kafka_poll_set_consumer(kafka->group.client.rk);
        rc = refuse_second(kafka, err);
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    kafka->group.is_member = source->until_end;
    if (source->until_end) {
        return WEIR_OK; /* soon over: no need to keep a place */
    }
    rd_kafka_topic_partition_list_t *topics = rd_kafka_topic_partition_list_new(4);
    for (const struct kafka_topic *topic = kafka->topics; topic != NULL; topic = topic->next) {
        rd_kafka_topic_partition_list_add(topics, topic->name, RD_KAFKA_PARTITION_UA);
    }
    rd_kafka_resp_err_t code = rd_kafka_subscribe(kafka->group.client.rk, topics);
    kafka->group.joined = true;
    wait_listed(kafka);
    rd_kafka_topic_partition_list_destroy(topics);
    return code == RD_KAFKA_RESP_ERR_NO_ERROR
               ? WEIR_OK
               : weir_kafka_error(err, &kafka->group.client, code, NULL, "join group",
                                  kafka->group.id);
}

/* --- how far we are -------------------------------------------------------------------------- */

void kafka_group_note(struct kafka *kafka, int32_t partition, int64_t next) {
    pthread_mutex_lock(&kafka->lock);
    struct kafka_part *part = partition < kafka->part_count ? kafka->parts[partition] : NULL;
    if (part != NULL) {
        part->durable = next;
    }
    pthread_mutex_unlock(&kafka->lock);
}

static void commit(struct kafka *kafka, bool wait) {
    rd_kafka_topic_partition_list_t *offsets = rd_kafka_topic_partition_list_new(8);
    pthread_mutex_lock(&kafka->lock);
    for (int32_t i = 0; i < kafka->part_count; i++) {
        struct kafka_part *part = kafka->parts[i];
        if (part != NULL && part->durable > part->told) {
            rd_kafka_topic_partition_list_add(offsets, part->topic->name, part->number)->offset =
                part->durable;
            part->told = part->durable;
        }
    }
    pthread_mutex_unlock(&kafka->lock);
    if (offsets->cnt > 0) {
        (void)rd_kafka_commit(kafka->group.client.rk, offsets, !wait);
    }
    rd_kafka_topic_partition_list_destroy(offsets);
}

/* Fenced: a static member of this name came up elsewhere. */
static void check_fatal(struct kafka *kafka) {
    char reason[256];
    rd_kafka_resp_err_t code = rd_kafka_fatal_error(kafka->group.client.rk, reason, sizeof(reason));
    if (code == RD_KAFKA_RESP_ERR_NO_ERROR || kafka->group.failed_said) {
        return;
    }
    kafka->group.failed_said = true;
    pthread_mutex_lock(&kafka->lock);
    weir_error_set(&kafka->group.error, WEIR_E_LOCKED,
                   "consumer group %s: another process took this one's place (%s); stop that one, "
                   "or give it another `member`",
                   kafka->group.id, reason);
    pthread_mutex_unlock(&kafka->lock);
    atomic_store(&kafka->group.failed, true);
}

/* Two that started at one instant saw nobody: the greater name leaves. */
static void look_again(struct kafka *kafka) {
    char who[256] = "";
    bool other;
    bool settling;
    kafka->group.look = false;
    if (ask(kafka, &other, who, sizeof(who), &settling) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        return;
    }
    kafka->group.look = settling;
    if (!other || settling) {
        return;
    }
    const char *name = who + strlen("client ");
    if (strncmp(name, "weir-", 5) != 0 ||
        strncmp(kafka->group.client_id, name, strlen(kafka->group.client_id)) < 0) {
        weir_log_warn("kafka",
                      "another consumer joined group %s (%s); Weir reads every partition all the "
                      "same",
                      kafka->group.id, who);
        return;
    }
    pthread_mutex_lock(&kafka->lock);
    weir_error_set(&kafka->group.error, WEIR_E_LOCKED,
                   "consumer group %s has another member (%s) that started at the same time; stop "
                   "that one, or give this one a group of its own (group = \"…\")",
                   kafka->group.id, who);
    pthread_mutex_unlock(&kafka->lock);
    atomic_store(&kafka->group.failed, true);
}

void kafka_group_step(struct kafka *kafka) {
    rd_kafka_t *rk = kafka->group.client.rk;
    if (rk == NULL) {
        return;
    }
    rd_kafka_message_t *message;
    while ((message = rd_kafka_consumer_poll(rk, 0)) != NULL) {
        weir_log_debug("kafka", "group %s: %s", kafka->group.id, rd_kafka_message_errstr(message));
        if (message->err == RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED &&
            !kafka->group.failed_said) {
            kafka->group.failed_said = true;
            weir_log_warn(
                "kafka",
                "not allowed to join consumer group %s: nothing notices a second process "
                "that reads the same; grant it (kafka-acls.sh --add --group … --operation "
                "Read)",
                kafka->group.id);
        }
        rd_kafka_message_destroy(message);
    }
    check_fatal(kafka);
    int64_t now = weir_clock_mono_ns();
    int64_t trouble_ns = atomic_load(&kafka->group.client.trouble_ns);
    /* librdkafka dies of an assertion when an answer about a group comes after its time was over
     * (its issue 4605), as it does when a broker goes meanwhile: ask when brokers stay. */
    if (kafka->group.look && (trouble_ns == 0 || now - trouble_ns > CALM_MS * INT64_C(1000000))) {
        look_again(kafka);
    }
    if (kafka->group.is_member && now - kafka->group.told_ns > COMMIT_EVERY_MS * INT64_C(1000000)) {
        kafka->group.told_ns = now;
        commit(kafka, false);
    }
}

bool kafka_group_leave(struct kafka *kafka) {
    rd_kafka_t *rk = kafka->group.client.rk;
    if (rk != NULL) {
        /* 2.0.2 dies of an assertion when it is closed while it joins. */
        int64_t give_up = weir_clock_mono_ns() + JOIN_MS * INT64_C(1000000);
        while (!kafka->group.is_member && kafka->group.joined && weir_clock_mono_ns() < give_up) {
            kafka_group_step(kafka);
            (void)weir_signal_wait(&kafka->wake, 20);
        }
        if (!kafka->group.is_member && kafka->group.joined) {
            return false;
        }
        commit(kafka, true);
        (void)rd_kafka_consumer_close(rk);
    }
    weir_kafka_client_close(&kafka->group.client);
    return true;
}
