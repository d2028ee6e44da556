/* Topics and partitions: which there are, where to begin in each, what to do when the messages that
 * should come next are gone. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "decode/json/json_text.h"
#include "source/kafka/kafka.h"

enum {
    ANSWER_MS = 5000,
    APPEAR_MS = 5000,
    MUTE_MS = 3000,
    POSITION_HEAD = 20,
    POSITION_VERSION = 1
};

/* --- positions: 'k', version, u16 bytes of the topic, i32 partition, i64 next offset, 4 zero
 * bytes, the topic; little-endian (docs/formats/files.md)
 * ------------------------------------------------ */

uint32_t kafka_position_bytes(const struct kafka_part *part) {
    return POSITION_HEAD + (uint32_t)strlen(part->topic->name);
}

void kafka_write_position(const struct kafka_part *part, int64_t next, uint8_t *out) {
    uint16_t length = (uint16_t)strlen(part->topic->name);
    memset(out, 0, POSITION_HEAD);
    out[0] = 'k';
    out[1] = POSITION_VERSION;
    memcpy(out + 2, &length, sizeof(length));
    memcpy(out + 4, &part->number, sizeof(part->number));
    memcpy(out + 8, &next, sizeof(next));
    memcpy(out + POSITION_HEAD, part->topic->name, length);
}

static bool read_position(const struct weir_position *position, const char **topic,
                          uint16_t *length, int32_t *number, int64_t *next) {
    if (position->size < POSITION_HEAD || position->bytes[0] != 'k' ||
        position->bytes[1] != POSITION_VERSION) {
        return false;
    }
    memcpy(length, position->bytes + 2, sizeof(*length));
    memcpy(number, position->bytes + 4, sizeof(*number));
    memcpy(next, position->bytes + 8, sizeof(*next));
    *topic = (const char *)position->bytes + POSITION_HEAD;
    return position->size == POSITION_HEAD + (uint32_t)*length && *length > 0 && *number >= 0;
}

int64_t kafka_position_offset(const struct weir_position *position) {
    const char *topic;
    uint16_t length;
    int32_t number;
    int64_t next;
    return read_position(position, &topic, &length, &number, &next) ? next : -1;
}

int kafka_describe(const struct weir_position *position, struct weir_buffer *out) {
    const char *topic;
    uint16_t length;
    int32_t number;
    int64_t next;
    if (!read_position(position, &topic, &length, &number, &next)) {
        return weir_buffer_printf(out, "not a Kafka position");
    }
    return weir_buffer_printf(out, "topic %.*s, partition %d, offset %" PRId64, (int)length, topic,
                              number, next);
}

/* --- what is known --------------------------------------------------------------------------- */

static struct kafka_topic *find_topic(struct kafka *kafka, const char *name) {
    struct kafka_topic *topic = kafka->topics;
    while (topic != NULL && strcmp(topic->name, name) != 0) {
        topic = topic->next;
    }
    return topic;
}

static struct kafka_topic *know_topic(struct kafka *kafka, const char *name,
                                      struct weir_error *err) {
    struct kafka_topic *topic = find_topic(kafka, name);
    if (topic != NULL) {
        return topic;
    }
    topic = calloc(1, sizeof(*topic));
    if (topic == NULL || (topic->name = strdup(name)) == NULL) {
        free(topic);
        weir_error_set(err, WEIR_E_NOMEM, "out of memory for a topic");
        return NULL;
    }
    rd_kafka_topic_conf_t *conf = rd_kafka_topic_conf_new();
    rd_kafka_topic_conf_t *defaults = rd_kafka_default_topic_conf_dup(kafka->client.rk);
    rd_kafka_topic_conf_destroy(conf);
    rd_kafka_topic_conf_set_opaque(defaults, topic);
    topic->handle = rd_kafka_topic_new(kafka->client.rk, name, defaults);
    if (topic->handle == NULL) {
        weir_kafka_error(err, &kafka->client, rd_kafka_last_error(), NULL, "topic", name);
        free(topic->name);
        free(topic);
        return NULL;
    }
    topic->next = kafka->topics;
    kafka->topics = topic;
    return topic;
}

/* The partition in its topic and under Weir's number `index` (-1: the first free). */
static struct kafka_part *add_part(struct kafka *kafka, struct kafka_topic *topic, int32_t number,
                                   int32_t index, struct weir_error *err) {
    for (int32_t i = 0; index < 0 && i < kafka->part_count; i++) {
        index = kafka->parts[i] == NULL ? i : index;
    }
    index = index < 0 ? kafka->part_count : index;
    if (index >= WEIR_SOURCE_PARTITIONS_MAX) {
        weir_error_set(err, WEIR_E_LIMIT,
                       "more than %d partitions in one source; divide its topics among several",
                       WEIR_SOURCE_PARTITIONS_MAX);
        return NULL;
    }
    if (number >= topic->part_count) {
        struct kafka_part **grown =
            realloc(topic->parts, (size_t)(number + 1) * sizeof(struct kafka_part *));
        if (grown == NULL) {
            weir_error_set(err, WEIR_E_NOMEM, "out of memory for a partition");
            return NULL;
        }
        memset(grown + topic->part_count, 0,
               (size_t)(number + 1 - topic->part_count) * sizeof(struct kafka_part *));
        topic->parts = grown;
        topic->part_count = number + 1;
    }
    struct kafka_part *part = calloc(1, sizeof(*part));
    if (part == NULL) {
        weir_error_set(err, WEIR_E_NOMEM, "out of memory for a partition");
        return NULL;
    }
    part->topic = topic;
    part->number = number;
    part->index = index;
    part->end = INT64_MAX;
    topic->parts[number] = part;
    pthread_mutex_lock(&kafka->lock); /* status looks at them */
    kafka->parts[index] = part;
    kafka->part_count = index >= kafka->part_count ? index + 1 : kafka->part_count;
    pthread_mutex_unlock(&kafka->lock);
    return part;
}

void kafka_topics_free(struct kafka *kafka) {
    for (int32_t i = 0; i < kafka->part_count; i++) {
        free(kafka->parts[i]);
    }
    while (kafka->topics != NULL) {
        struct kafka_topic *topic = kafka->topics;
        kafka->topics = topic->next;
        rd_kafka_topic_destroy(topic->handle);
        free(topic->parts);
        free(topic->name);
        free(topic);
    }
}

/* --- where to begin -------------------------------------------------------------------------- */

/* Asks again while the brokers are on their way somewhere. */
static int bounds(struct kafka *kafka, const struct kafka_part *part, int64_t wait_ms, int64_t *low,
                  int64_t *high, struct weir_error *err) {
    int64_t give_up = weir_clock_mono_ns() + wait_ms * 1000000;
    rd_kafka_resp_err_t code;
    do {
        code = rd_kafka_query_watermark_offsets(kafka->client.rk, part->topic->name, part->number,
                                                low, high, ANSWER_MS);
    } while (code != RD_KAFKA_RESP_ERR_NO_ERROR && weir_kafka_passing(code) &&
             weir_clock_mono_ns() < give_up && !atomic_load(&kafka->stopping) &&
             !weir_signal_wait(&kafka->wake, 50));
    return code == RD_KAFKA_RESP_ERR_NO_ERROR
               ? WEIR_OK
               : weir_kafka_error(err, &kafka->client, code, NULL, "the offsets of",
                                  part->topic->name);
}

static int offset_of_time(struct kafka *kafka, const struct kafka_part *part, int64_t time_us,
                          int64_t high, int64_t *offset, struct weir_error *err) {
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_t *asked =
        rd_kafka_topic_partition_list_add(list, part->topic->name, part->number);
    asked->offset = time_us / 1000 + (time_us % 1000 > 0);
    rd_kafka_resp_err_t code = rd_kafka_offsets_for_times(kafka->client.rk, list, 2 * ANSWER_MS);
    code = code == RD_KAFKA_RESP_ERR_NO_ERROR ? asked->err : code;
    *offset = asked->offset < 0 ? high : asked->offset; /* nothing that young: the end */
    rd_kafka_topic_partition_list_destroy(list);
    return code == RD_KAFKA_RESP_ERR_NO_ERROR
               ? WEIR_OK
               : weir_kafka_error(err, &kafka->client, code, NULL, "the offset at a time of",
                                  part->topic->name);
}

/* `offsets = { ["pos/0"] = 1200 }`, else `start`. */
static int first_offset(struct kafka *kafka, struct kafka_part *part, int64_t low, int64_t high,
                        struct weir_error *err) {
    char key[300];
    snprintf(key, sizeof(key), "%s/%d", part->topic->name, part->number);
    const char *start = json_string_value(json_object_get(kafka->offsets, key));
    start = start != NULL ? start : kafka->start;
    part->next = low;
    if (kafka->resumed || start == NULL || strcmp(start, "earliest") == 0) {
        return WEIR_OK;
    }
    if (strcmp(start, "latest") == 0) {
        part->next = high;
        return WEIR_OK;
    }
    if (strspn(start, "0123456789") == strlen(start)) {
        part->next = strtoll(start, NULL, 10);
        return part->next < low || part->next > high ? kafka_lost(kafka, part, low, high, err)
                                                     : WEIR_OK;
    }
    int64_t time_us;
    enum json_time_error wrong =
        json_parse_timestamp((const uint8_t *)start, strlen(start), 1000000, true, &time_us);
    return wrong == JSON_TIME_OK
               ? offset_of_time(kafka, part, time_us, high, &part->next, err)
               : weir_error_set(err, WEIR_E_CONFIG,
                                "start = \"%s\" is none of \"earliest\", \"latest\", an offset, a "
                                "time such as \"2026-01-05T06:00:00Z\" (%s)",
                                start, json_time_error_text(wrong));
}

int kafka_lost(struct kafka *kafka, struct kafka_part *part, int64_t low, int64_t high,
               struct weir_error *err) {
    const char *topic = part->topic->name;
    if (kafka->lost_is_earliest) {
        weir_log_warn("kafka",
                      "%s: topic %s, partition %d: offset %" PRId64 " is gone (there are %" PRId64
                      " to %" PRId64 "); going on from %" PRId64 ", as on_lost says",
                      kafka->client.what, topic, part->number, part->next, low, high, low);
        part->next = low;
        return WEIR_OK;
    }
    if (part->next > high) {
        return weir_error_set(
            err, WEIR_E_NOTFOUND,
            "topic %s, partition %d: to go on from offset %" PRId64 ", but it ends at %" PRId64
            ": it was deleted and made again, or cut; on_lost = \"earliest\" reads it from its "
            "beginning, a new ledger starts over",
            topic, part->number, part->next, high);
    }
    return weir_error_set(err, WEIR_E_NOTFOUND,
                          "topic %s, partition %d: to go on from offset %" PRId64
                          ", but the oldest there is %" PRId64 ": retention deleted %" PRId64
                          " offsets before they were read; on_lost = \"earliest\" goes "
                          "on without them, a longer retention.ms keeps them next time",
                          topic, part->number, part->next, low, low - part->next);
}

/* Where a partition goes on, whether it can, and where it ends. */
static int settle(struct weir_source *source, struct kafka_part *part, int64_t wait_ms,
                  struct weir_error *err) {
    struct kafka *kafka = source->state;
    int64_t low;
    int64_t high;
    int rc = bounds(kafka, part, wait_ms, &low, &high, err);
    if (rc == WEIR_OK && !part->is_known) {
        rc = first_offset(kafka, part, low, high, err);
    } else if (rc == WEIR_OK && (part->next < low || part->next > high)) {
        rc = kafka_lost(kafka, part, low, high, err);
    }
    part->has_input = part->next < high;
    pthread_mutex_lock(&kafka->lock);
    part->durable = part->next;
    pthread_mutex_unlock(&kafka->lock);
    if (rc == WEIR_OK && source->until_end) {
        part->end = part->next < high ? high : part->next;
    }
    return rc;
}

int kafka_restore(struct weir_source *source, const struct weir_position *position, int32_t index,
                  struct weir_error *err) {
    struct kafka *kafka = source->state;
    const char *topic;
    uint16_t length;
    int32_t number;
    int64_t next;
    if (!read_position(position, &topic, &length, &number, &next)) {
        return weir_error_set(
            err, WEIR_E_VERSION,
            "the recorded position is not one of Kafka's; was the source changed? "
            "Start a new ledger");
    }
    char *name = strndup(topic, length);
    struct kafka_topic *known = name != NULL ? know_topic(kafka, name, err) : NULL;
    struct kafka_part *part = known != NULL ? add_part(kafka, known, number, index, err) : NULL;
    free(name);
    if (part == NULL) {
        return err != NULL && err->code != WEIR_OK ? err->code : WEIR_E_NOMEM;
    }
    part->next = next;
    part->is_known = true;
    kafka->resumed = true;
    return WEIR_OK;
}

int kafka_check_restored(struct weir_source *source, int64_t wait_ms, struct weir_error *err) {
    struct kafka *kafka = source->state;
    int rc = WEIR_OK;
    for (int32_t i = 0; rc == WEIR_OK && i < kafka->part_count; i++) {
        if (kafka->parts[i] != NULL && kafka->parts[i]->is_known) {
            rc = settle(source, kafka->parts[i], wait_ms, err);
        }
    }
    return rc;
}

/* --- discovery ------------------------------------------------------------------------------- */

static bool is_wanted(const struct kafka *kafka, const char *topic) {
    for (int32_t i = 0; i < kafka->name_count; i++) {
        if (strcmp(kafka->names[i], topic) == 0) {
            return true;
        }
    }
    /* Topics of the brokers themselves are read by name only. */
    return kafka->has_pattern && strncmp(topic, "__", 2) != 0 &&
           regexec(&kafka->pattern, topic, 0, NULL, 0) == 0;
}

/* The partitions of one topic that are new, in order. */
static int take_topic(struct weir_source *source, const rd_kafka_metadata_topic_t *found,
                      int64_t wait_ms, struct weir_error *err) {
    struct kafka *kafka = source->state;
    struct kafka_topic *topic = know_topic(kafka, found->topic, err);
    int rc = topic == NULL ? err->code : WEIR_OK;
    for (int32_t number = 0; rc == WEIR_OK && number < found->partition_cnt; number++) {
        if (number < topic->part_count && topic->parts[number] != NULL) {
            continue;
        }
        struct kafka_part *part = add_part(kafka, topic, number, -1, err);
        rc = part == NULL ? err->code : settle(source, part, wait_ms, err);
        if (rc == WEIR_OK && kafka->watching) {
            weir_log_info("kafka",
                          "%s: topic %s has a new partition %d; reading it from offset "
                          "%" PRId64,
                          kafka->client.what, topic->name, number, part->next);
            kafka_lane_give(kafka, &kafka->lanes[part->index % kafka->lane_count], part);
        }
    }
    return rc;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const rd_kafka_metadata_topic_t *)a)->topic,
                  ((const rd_kafka_metadata_topic_t *)b)->topic);
}

/* *missing: the first topic asked for by name that the brokers do not know (yet). */
static int take_metadata(struct weir_source *source, const struct rd_kafka_metadata *metadata,
                         int64_t wait_ms, const char **missing, struct weir_error *err) {
    struct kafka *kafka = source->state;
    int rc = WEIR_OK;
    *missing = NULL;
    for (int i = 0; rc == WEIR_OK && i < metadata->topic_cnt; i++) {
        const rd_kafka_metadata_topic_t *found = &metadata->topics[i];
        if (!is_wanted(kafka, found->topic)) {
            continue;
        }
        if (found->err == RD_KAFKA_RESP_ERR_NO_ERROR ||
            (found->partition_cnt > 0 && weir_kafka_passing(found->err))) {
            rc = take_topic(source, found, wait_ms, err);
        } else if (found->err != RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART &&
                   !weir_kafka_passing(found->err)) {
            rc = weir_kafka_error(err, &kafka->client, found->err, NULL, "topic", found->topic);
        }
    }
    for (int32_t i = 0; rc == WEIR_OK && i < kafka->name_count && *missing == NULL; i++) {
        const struct kafka_topic *topic = find_topic(kafka, kafka->names[i]);
        *missing = topic == NULL || topic->part_count == 0 ? kafka->names[i] : NULL;
    }
    return rc;
}

/* Waiting does not help: the login is wrong, or the certificate. */
static bool is_refused(struct weir_kafka_client *client) {
    pthread_mutex_lock(&client->lock);
    int code = client->said_code;
    pthread_mutex_unlock(&client->lock);
    return code == RD_KAFKA_RESP_ERR__AUTHENTICATION || code == RD_KAFKA_RESP_ERR__SSL ||
           code == RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED;
}

/* Brokers that want TLS, or another certificate, hang up without a word. */
static bool is_mute(struct weir_kafka_client *client) {
    pthread_mutex_lock(&client->lock);
    bool mute = strstr(client->said, "state APIVERSION_QUERY") != NULL;
    pthread_mutex_unlock(&client->lock);
    return mute;
}

int kafka_discover(struct weir_source *source, int64_t wait_ms, struct weir_error *err) {
    struct kafka *kafka = source->state;
    for (int32_t i = 0; i < kafka->name_count; i++) {
        if (know_topic(kafka, kafka->names[i], err) == NULL) {
            return err->code;
        }
    }
    int64_t start = weir_clock_mono_ns();
    for (;;) {
        const struct rd_kafka_metadata *metadata = NULL;
        const char *missing = NULL;
        int rc = WEIR_OK;
        rd_kafka_resp_err_t code =
            rd_kafka_metadata(kafka->client.rk, kafka->has_pattern, NULL, &metadata,
                              (int)(wait_ms < 1000 ? wait_ms : 1000));
        rd_kafka_poll(kafka->client.rk, 0); /* errors become client.said */
        int64_t waited_ms = (weir_clock_mono_ns() - start) / 1000000;
        if (code == RD_KAFKA_RESP_ERR_NO_ERROR) {
            qsort(metadata->topics, (size_t)metadata->topic_cnt, sizeof(metadata->topics[0]),
                  by_name);
            rc = take_metadata(source, metadata, wait_ms, &missing, err);
            rd_kafka_metadata_destroy(metadata);
            if (rc != WEIR_OK || missing == NULL) {
                return rc;
            }
            if (waited_ms >= APPEAR_MS || waited_ms >= wait_ms) {
                return weir_kafka_error(err, &kafka->client,
                                        RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, NULL, "topic",
                                        missing);
            }
        } else if (!weir_kafka_passing(code) || waited_ms >= wait_ms ||
                   (!kafka->watching && is_refused(&kafka->client))) {
            return weir_kafka_error(err, &kafka->client, code, NULL, "ask for the topics", NULL);
        }
        if (!kafka->watching && waited_ms >= MUTE_MS && is_mute(&kafka->client)) {
            return weir_kafka_error(err, &kafka->client, RD_KAFKA_RESP_ERR__SSL,
                                    "the broker closes the connection before its first answer",
                                    "ask for the topics", NULL);
        }
        if (atomic_load(&kafka->stopping)) {
            return weir_error_set(err, WEIR_E_CLOSED, "stopped");
        }
        (void)weir_signal_wait(&kafka->wake, 100);
    }
}
