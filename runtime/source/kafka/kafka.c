/* The Kafka source: what `kafka { … }` and `event_hubs { … }` take, and the life of the threads
 * beside its lanes. Partitions are assigned by Weir alone and positions live in the ledger, so that
 * a rebalance of the consumer group moves nothing. */
#include "source/kafka/kafka.h"

#include <inttypes.h>
#include <jansson.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/thread.h"

enum {
    OPEN_MS = 30000, /* how long brokers may be away at the start */
    LOOK_MS = 10000, /* between looks for new partitions; `discover` changes it */
    LOOK_WAIT_MS = 5000,
    REMIND_MS = 5000,
    KAFKA_QUIET_MS = 3000, /* longer than a fetch that finds nothing, or a change of leaders */
    MALLOC_KEPT_BYTES = 32 << 20,
};

/* --- options --------------------------------------------------------------------------------- */

static const char *const isolation_choices[] = {"read_committed", "read_uncommitted", NULL};
static const char *const lost_choices[] = {"fail", "earliest", NULL};

#define READING_OPTIONS                                                                            \
    {.name = "start", .form = WEIR_OPTION_TEXT, .example = "\"latest\""},                          \
        {.name = "offsets", .form = WEIR_OPTION_SETTINGS, .example = "{ [\"pos/0\"] = 1200 }"},    \
        {.name = "on_lost", .form = WEIR_OPTION_TEXT, .choices = lost_choices},                    \
        {.name = "group", .form = WEIR_OPTION_TEXT, .example = "\"pos-readers\""},                 \
        {.name = "member", .form = WEIR_OPTION_TEXT, .example = "\"till-reader-1\""},              \
        {.name = "isolation", .form = WEIR_OPTION_TEXT, .choices = isolation_choices},             \
        {.name = "keys", .form = WEIR_OPTION_FLAG}, {.name = "headers", .form = WEIR_OPTION_FLAG}, \
        {.name = "discover", .form = WEIR_OPTION_DURATION},                                        \
        {.name = "connect_timeout", .form = WEIR_OPTION_DURATION}, {                               \
        .name = "threads", .form = WEIR_OPTION_COUNT                                               \
    }

static const struct weir_option kafka_options[] = {
    WEIR_KAFKA_CLIENT_OPTIONS,
    {.name = "topic", .form = WEIR_OPTION_TEXTS, .example = "\"pos\""},
    {.name = "pattern", .form = WEIR_OPTION_TEXT, .example = "\"^crm[.]\""},
    READING_OPTIONS,
    {0},
};

static const struct weir_option event_hubs_options[] = {
    {.name = "namespace", .form = WEIR_OPTION_TEXT, .required = true, .example = "\"retail\""},
    {.name = "hub", .form = WEIR_OPTION_TEXTS, .required = true, .example = "\"pos\""},
    {.name = "connection_string",
     .form = WEIR_OPTION_SECRET,
     .required = true,
     .example = "env \"EVENT_HUBS\""},
    {.name = "ca", .form = WEIR_OPTION_PATH},
    {.name = "options", .form = WEIR_OPTION_SETTINGS},
    READING_OPTIONS,
    {0},
};

/* A namespace's Kafka endpoint and its login: the connection string is the password. */
static int expand_event_hubs(json_t *options, struct weir_error *err) {
    const char *namespace = json_string_value(json_object_get(options, "namespace"));
    json_t *secret = json_object_get(options, "connection_string");
    if (namespace == NULL || secret == NULL) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "event_hubs needs namespace, hub and connection_string");
    }
    char brokers[512];
    bool is_name = strpbrk(namespace, ".:") == NULL;
    bool has_port = strchr(namespace, ':') != NULL;
    snprintf(brokers, sizeof(brokers), "%s%s%s", namespace,
             is_name ? ".servicebus.windows.net" : "", has_port ? "" : ":9093");
    json_object_set_new(options, "brokers", json_string(brokers));
    json_object_set_new(options, "tls", json_true());
    json_object_set_new(options, "sasl", json_string("plain"));
    json_object_set_new(options, "username", json_string("$ConnectionString"));
    json_object_set(options, "password", secret);
    json_object_set(options, "topic", json_object_get(options, "hub"));
    return WEIR_OK;
}

static int read_topics(struct kafka *kafka, const json_t *options, struct weir_error *err) {
    const json_t *topics = json_object_get(options, "topic");
    const char *pattern = json_string_value(json_object_get(options, "pattern"));
    if (json_array_size(topics) == 0 && pattern == NULL) {
        return weir_error_set(err, WEIR_E_CONFIG,
                              "kafka needs topic = \"pos\", a list of topics, or pattern = "
                              "\"^crm[.]\"");
    }
    kafka->names = calloc(json_array_size(topics) + 1, sizeof(*kafka->names));
    for (size_t i = 0; kafka->names != NULL && i < json_array_size(topics); i++) {
        kafka->names[i] = strdup(json_string_value(json_array_get(topics, i)));
        kafka->name_count += kafka->names[i] != NULL;
    }
    if (kafka->name_count < (int32_t)json_array_size(topics)) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    int bad = pattern != NULL ? regcomp(&kafka->pattern, pattern, REG_EXTENDED | REG_NOSUB) : 0;
    if (bad != 0) {
        char reason[128];
        regerror(bad, &kafka->pattern, reason, sizeof(reason));
        return weir_error_set(err, WEIR_E_CONFIG,
                              "pattern = \"%s\" is no extended regular expression: %s", pattern,
                              reason);
    }
    kafka->has_pattern = pattern != NULL;
    return WEIR_OK;
}

static int read_options(struct weir_source *source, const json_t *options, struct weir_error *err) {
    struct kafka *kafka = source->state;
    const char *start = json_string_value(json_object_get(options, "start"));
    const char *lost = json_string_value(json_object_get(options, "on_lost"));
    const json_t *discover = json_object_get(options, "discover");
    const json_t *threads = json_object_get(options, "threads");
    kafka->start = start != NULL ? strdup(start) : NULL;
    kafka->offsets = json_deep_copy(json_object_get(options, "offsets"));
    kafka->lost_is_earliest = lost != NULL && strcmp(lost, "earliest") == 0;
    kafka->discover_ms = discover != NULL ? (int64_t)json_number_value(discover) / 1000 : LOOK_MS;
    kafka->discover_ms = kafka->discover_ms < 100 ? 100 : kafka->discover_ms;
    const json_t *connect = json_object_get(options, "connect_timeout");
    kafka->open_ms = connect != NULL ? (int64_t)json_number_value(connect) / 1000 : OPEN_MS;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int64_t lanes = threads != NULL ? (int64_t)json_number_value(threads) : cores / 4;
    kafka->lane_count = (int32_t)(lanes < 1                 ? 1
                                  : lanes > KAFKA_LANES_MAX ? KAFKA_LANES_MAX
                                                            : lanes);
    return read_topics(kafka, options, err);
}

/* Latency and rate: what differs from librdkafka's own choice, and why. */
static int set_client(struct kafka *kafka, const json_t *options, struct weir_error *err) {
    struct weir_kafka_client *client = &kafka->client;
    const char *isolation = json_string_value(json_object_get(options, "isolation"));
    static const char *const ours[][2] = {
        {"enable.partition.eof", "true"}, /* the end of a partition whose last offsets are marks */
        {"enable.auto.commit", "false"},  /* positions live in the ledger */
        {"enable.auto.offset.store", "false"},
        {"auto.offset.reset", "error"}, /* messages that are gone are told, not passed over */
    };
    static const char *const defaults[][2] = {
        /* 2.0.2 stands still for a second when the queue is full; so let bytes alone bound it. */
        {"queued.min.messages", "10000000"},
        {"queued.max.messages.kbytes", "65536"},
        {"fetch.wait.max.ms", "100"}, /* a partition met later waits for the fetch under way */
        {"fetch.error.backoff.ms", "100"},
        {"reconnect.backoff.max.ms", "1000"},
        {"client.id", "weir"},
    };
    int rc = WEIR_OK;
    for (size_t i = 0; rc == WEIR_OK && i < sizeof(ours) / sizeof(ours[0]); i++) {
        rc = weir_kafka_client_set(client, ours[i][0], ours[i][1], err);
    }
    for (size_t i = 0; rc == WEIR_OK && i < sizeof(defaults) / sizeof(defaults[0]); i++) {
        rc = weir_kafka_client_default(client, defaults[i][0], defaults[i][1], err);
    }
    return rc == WEIR_OK
               ? weir_kafka_client_default(client, "isolation.level",
                                           isolation != NULL ? isolation : isolation_choices[0],
                                           err)
               : rc;
}

static int init(struct weir_source *source, const char *options_json, bool event_hubs,
                struct weir_error *err) {
    struct kafka *kafka = calloc(1, sizeof(*kafka));
    if (kafka == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    source->state = kafka;
    pthread_mutex_init(&kafka->lock, NULL);
    json_error_t where;
    json_t *options = json_loads(options_json != NULL ? options_json : "{}", 0, &where);
    int rc = json_is_object(options)
                 ? WEIR_OK
                 : weir_error_set(err, WEIR_E_CONFIG, "options are not an object");
    if (rc == WEIR_OK && event_hubs) {
        rc = expand_event_hubs(options, err);
    }
    if (rc == WEIR_OK) {
        rc = read_options(source, options, err);
    }
    kafka->options = options; /* for the client, made when the source opens: it resolves secrets */
    return rc;
}

static int init_kafka(struct weir_source *source, const char *options_json,
                      struct weir_error *err) {
    return init(source, options_json, false, err);
}

static int init_event_hubs(struct weir_source *source, const char *options_json,
                           struct weir_error *err) {
    return init(source, options_json, true, err);
}

/* Closed sources whose member of a group could not be: its threads write into their memory. */
static struct kafka *left;

static void leave_behind(struct kafka *kafka) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    kafka->left = left;
    left = kafka;
    pthread_mutex_unlock(&lock);
}

static void fini(struct weir_source *source) {
    struct kafka *kafka = source->state;
    if (kafka == NULL) {
        return;
    }
    for (int32_t i = 0; kafka->lanes != NULL && i < kafka->lane_count; i++) {
        kafka_lane_fini(&kafka->lanes[i]);
    }
    free(kafka->lanes);
    bool has_left = kafka_group_leave(kafka);
    kafka_topics_free(kafka);
    weir_kafka_client_close(&kafka->client);
    if (kafka->has_wake) {
        weir_signal_fini(&kafka->wake);
    }
    for (int32_t i = 0; i < kafka->name_count; i++) {
        free(kafka->names[i]);
    }
    free(kafka->names);
    free(kafka->start);
    json_decref(kafka->offsets);
    json_decref(kafka->options);
    if (kafka->has_pattern) {
        regfree(&kafka->pattern);
    }
    pthread_mutex_destroy(&kafka->lock);
    if (has_left) {
        free(kafka);
    } else {
        leave_behind(kafka);
    }
    source->state = NULL;
}

static int open_source(struct weir_source *source, const struct weir_position *positions,
                       int32_t count, struct weir_error *err) {
    struct kafka *kafka = source->state;
    int rc = weir_signal_init(&kafka->wake, err);
    kafka->has_wake = rc == WEIR_OK;
    if (rc == WEIR_OK) {
        rc = weir_kafka_client_init(&kafka->client, "kafka", kafka->options, err);
    }
    if (rc == WEIR_OK) {
        rc = set_client(kafka, kafka->options, err);
    }
    if (rc == WEIR_OK) {
        rc = weir_kafka_client_open(&kafka->client, RD_KAFKA_CONSUMER, err);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        if (positions[i].size > 0) {
            rc = kafka_restore(source, &positions[i], i, err);
        }
    }
    if (rc == WEIR_OK) {
        rc = kafka_discover(source, kafka->open_ms, err);
    }
    if (rc == WEIR_OK) {
        rc = kafka_check_restored(source, kafka->open_ms, err);
    }
    kafka->resumed = true; /* partitions met from now on were made since */
    source->partitions = kafka->part_count;
    return rc;
}

/* --- threads --------------------------------------------------------------------------------- */

/* Any request makes librdkafka's thread for the broker look at its queues again. */
static void remind(struct kafka *kafka) {
    if (kafka->part_count > 0 && kafka->parts[0] != NULL) {
        int64_t low;
        int64_t high;
        (void)rd_kafka_query_watermark_offsets(kafka->client.rk, kafka->parts[0]->topic->name,
                                               kafka->parts[0]->number, &low, &high, REMIND_MS);
    }
}

static void *watch(void *argument) {
    struct weir_source *source = argument;
    struct kafka *kafka = source->state;
    weir_thread_name("kafka", -1);
    int64_t looked_ns = weir_clock_mono_ns();
    while (!atomic_load(&kafka->stopping)) {
        (void)weir_signal_wait(&kafka->wake, 100);
        rd_kafka_poll(kafka->client.rk, 0);
        if (atomic_exchange(&kafka->remind, false)) {
            remind(kafka);
        }
        kafka_group_step(kafka);
        if (!source->until_end &&
            weir_clock_mono_ns() - looked_ns >= kafka->discover_ms * 1000000) {
            struct weir_error err = {0};
            if (kafka_discover(source, LOOK_WAIT_MS, &err) != WEIR_OK &&
                err.code != WEIR_E_CLOSED) {
                weir_log_warn("kafka", "looking for new partitions: %s", err.message);
            }
            looked_ns = weir_clock_mono_ns();
        }
    }
    return NULL;
}

static int begin(struct weir_source *source, int32_t *lanes, struct weir_error *err) {
    struct kafka *kafka = source->state;
    if (kafka->lane_count > kafka->part_count && source->until_end) {
        kafka->lane_count = kafka->part_count > 0 ? kafka->part_count : 1;
    }
    kafka->lanes = calloc((size_t)kafka->lane_count, sizeof(*kafka->lanes));
    if (kafka->lanes == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    /* What librdkafka frees it asks for again with the next fetch: keep it mapped. */
    (void)mallopt(M_MMAP_THRESHOLD, MALLOC_KEPT_BYTES);
    (void)mallopt(M_TRIM_THRESHOLD, 2 * MALLOC_KEPT_BYTES);
    int rc = kafka_group_join(source, err);
    for (int32_t i = 0; rc == WEIR_OK && i < kafka->lane_count; i++) {
        rc = kafka_lane_init(&kafka->lanes[i], source, err);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < kafka->part_count; i++) {
        if (kafka->parts[i] != NULL) {
            kafka_lane_give(kafka, &kafka->lanes[i % kafka->lane_count], kafka->parts[i]);
        }
    }
    if (rc == WEIR_OK) {
        int failed = weir_thread_start(&kafka->watcher, watch, source);
        kafka->watching = failed == 0;
        rc = failed == 0
                 ? WEIR_OK
                 : weir_error_system(err, WEIR_E_ENVIRONMENT, failed, "cannot start a thread");
    }
    *lanes = kafka->lane_count;
    return rc;
}

static int serve(struct weir_source *source, int32_t lane, struct source_outlet *outlet,
                 bool *ended, struct weir_error *err) {
    struct kafka *kafka = source->state;
    if (atomic_load_explicit(&kafka->group.failed, memory_order_relaxed)) {
        pthread_mutex_lock(&kafka->lock);
        *err = kafka->group.error;
        pthread_mutex_unlock(&kafka->lock);
        return err->code;
    }
    return kafka_lane_serve(&kafka->lanes[lane], outlet, ended, err);
}

/* Lag: messages the brokers have told of that are not in a durable epoch. */
static int figures(struct weir_source *source, struct weir_buffer *out) {
    struct kafka *kafka = source->state;
    int64_t lag = 0;
    int32_t count = 0;
    uint64_t tombstones = 0;
    pthread_mutex_lock(&kafka->lock);
    for (int32_t i = 0; i < kafka->part_count; i++) {
        const struct kafka_part *part = kafka->parts[i];
        int64_t low;
        int64_t high;
        count += part != NULL;
        if (part != NULL &&
            rd_kafka_get_watermark_offsets(kafka->client.rk, part->topic->name, part->number, &low,
                                           &high) == RD_KAFKA_RESP_ERR_NO_ERROR &&
            high > part->durable) {
            lag += high - (part->durable > low ? part->durable : low);
        }
    }
    pthread_mutex_unlock(&kafka->lock);
    for (int32_t i = 0; kafka->lanes != NULL && i < kafka->lane_count; i++) {
        tombstones += atomic_load_explicit(&kafka->lanes[i].tombstones, memory_order_relaxed);
    }
    return weir_buffer_printf(
        out, "\"partitions\":%d,\"lag\":%" PRId64 ",\"tombstones\":%" PRIu64 ",\"group\":\"%s\"",
        count, lag, tombstones, kafka->group.id);
}

static void committed(struct weir_source *source, int32_t partition,
                      const struct weir_position *position) {
    int64_t next = kafka_position_offset(position);
    if (next >= 0) {
        kafka_group_note(source->state, partition, next);
    }
}

static void interrupt(struct weir_source *source) {
    struct kafka *kafka = source->state;
    atomic_store(&kafka->stopping, true);
    weir_signal_raise(&kafka->wake);
    if (kafka->watching) {
        pthread_join(kafka->watcher, NULL);
        kafka->watching = false;
    }
}

/* Pull mode: a lane a partition, begun when it is first asked for. */
static int next(struct weir_source *source, int32_t partition, int32_t max_rows,
                struct weir_source_batch **out, struct weir_error *err) {
    struct kafka *kafka = source->state;
    if (partition >= kafka->part_count || kafka->parts[partition] == NULL) {
        return weir_error_set(err, WEIR_E_NOTFOUND, "there is no partition %d", partition);
    }
    if (kafka->lanes == NULL) {
        kafka->lane_count = kafka->part_count;
        kafka->lanes = calloc((size_t)kafka->lane_count, sizeof(*kafka->lanes));
        if (kafka->lanes == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
        }
    }
    struct kafka_lane *lane = &kafka->lanes[partition];
    if (lane->queue == NULL) {
        int rc = kafka_lane_init(lane, source, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        kafka_lane_give(kafka, lane, kafka->parts[partition]);
    }
    return kafka_lane_next(lane, max_rows, out, err);
}

const struct weir_source_vtable weir_source_kafka = {
    .name = "kafka",
    .quiet_ms = KAFKA_QUIET_MS,
    .options = kafka_options,
    .needs_decoder = true,
    .columns_change = true,
    .projects = true,
    .columns = kafka_extra_columns,
    .init = init_kafka,
    .open = open_source,
    .next = next,
    .begin = begin,
    .serve = serve,
    .interrupt = interrupt,
    .committed = committed,
    .figures = figures,
    .fini = fini,
    .describe = kafka_describe,
};

const struct weir_source_vtable weir_source_event_hubs = {
    .name = "event_hubs",
    .quiet_ms = KAFKA_QUIET_MS,
    .options = event_hubs_options,
    .needs_decoder = true,
    .columns_change = true,
    .projects = true,
    .columns = kafka_extra_columns,
    .init = init_event_hubs,
    .open = open_source,
    .next = next,
    .begin = begin,
    .serve = serve,
    .interrupt = interrupt,
    .committed = committed,
    .figures = figures,
    .fini = fini,
    .describe = kafka_describe,
};
