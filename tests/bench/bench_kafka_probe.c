/* What the benches of Kafka's exactly-once path put beside Weir:
 *
 *   copy  BROKERS FROM TO EVERY_MS    the floor: librdkafka alone consumes a topic and produces the
 *                                     same bytes in transactions
 *   pace  BROKERS TOPIC RATE SECONDS  produces events at an even rate, each with the microsecond
 *                                     it was made at in "sent_us"
 *   watch BROKERS TOPIC COUNT SKIP    reads committed events and says how old they were when they
 *                                     could be read, the first SKIP left out
 */
#include <librdkafka/rdkafka.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCH = 1000, WAIT_MS = 10000, GATHER_MS = 20, TRANSACTION_MS = 30000 };

static double seconds(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int64_t now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec * 1000000ll + t.tv_nsec / 1000;
}

static void fail(const char *what) {
    fprintf(stderr, "bench_kafka_probe: %s\n", what);
    exit(3);
}

static void must(rd_kafka_error_t *error) {
    if (error != NULL) {
        fail(rd_kafka_error_string(error));
    }
}

static void set(rd_kafka_conf_t *conf, const char *key, const char *value) {
    char why[256];
    if (rd_kafka_conf_set(conf, key, value, why, sizeof(why)) != RD_KAFKA_CONF_OK) {
        fail(why);
    }
}

static rd_kafka_t *client(rd_kafka_type_t type, rd_kafka_conf_t *conf, const char *brokers) {
    char why[256];
    set(conf, "bootstrap.servers", brokers);
    rd_kafka_t *rk = rd_kafka_new(type, conf, why, sizeof(why));
    if (rk == NULL) {
        fail(why);
    }
    return rk;
}

static rd_kafka_t *producer(const char *brokers, const char *transactional_id) {
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "compression.type", "lz4");
    set(conf, "linger.ms", transactional_id != NULL ? "5" : "2");
    set(conf, "queue.buffering.max.messages", "1000000");
    if (transactional_id != NULL) {
        set(conf, "transactional.id", transactional_id);
        set(conf, "batch.num.messages", "100000");
    }
    return client(RD_KAFKA_PRODUCER, conf, brokers);
}

/* All partitions of a topic from their beginnings; *open: how many. */
static rd_kafka_t *reader(const char *brokers, const char *topic, int *open, const char *wait_ms) {
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "group.id", "probe");
    set(conf, "enable.auto.commit", "false");
    set(conf, "enable.partition.eof", "true");
    set(conf, "isolation.level", "read_committed");
    set(conf, "queued.min.messages", "1000000");
    set(conf, "fetch.wait.max.ms", wait_ms);
    rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, conf, brokers);
    rd_kafka_topic_t *from = rd_kafka_topic_new(rk, topic, NULL);
    const struct rd_kafka_metadata *metadata = NULL;
    *open = 0;
    for (int tries = 0; *open == 0 && tries < 50; tries++) { /* a new topic is not seen at once */
        if (metadata != NULL) {
            rd_kafka_metadata_destroy(metadata);
            nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
        }
        if (rd_kafka_metadata(rk, 0, from, &metadata, WAIT_MS) != RD_KAFKA_RESP_ERR_NO_ERROR) {
            fail("no metadata");
        }
        *open = metadata->topics[0].partition_cnt;
    }
    rd_kafka_topic_partition_list_t *all = rd_kafka_topic_partition_list_new(*open);
    for (int i = 0; i < *open; i++) {
        rd_kafka_topic_partition_list_add(all, topic, i)->offset = RD_KAFKA_OFFSET_BEGINNING;
    }
    rd_kafka_metadata_destroy(metadata);
    rd_kafka_assign(rk, all);
    rd_kafka_topic_partition_list_destroy(all);
    rd_kafka_topic_destroy(from);
    return rk;
}

/* --- copy ------------------------------------------------------------------------------------- */

static void send_copy(rd_kafka_t *rk, rd_kafka_topic_t *to, const rd_kafka_message_t *message) {
    while (rd_kafka_produce(to, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, message->payload,
                            message->len, message->key, message->key_len, NULL) != 0) {
        rd_kafka_poll(rk, 5);
    }
}

static int copy(const char *brokers, const char *from, const char *to, double every) {
    int open;
    rd_kafka_t *in = reader(brokers, from, &open, "500");
    rd_kafka_t *out = producer(brokers, "bench-copy");
    rd_kafka_topic_t *topic = rd_kafka_topic_new(out, to, NULL);
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(in);
    rd_kafka_message_t *messages[BATCH];
    must(rd_kafka_init_transactions(out, TRANSACTION_MS));
    double wall = seconds(CLOCK_MONOTONIC);
    double begun = 0;
    long count = 0;
    while (open > 0) {
        ssize_t got = rd_kafka_consume_batch_queue(queue, GATHER_MS, messages, BATCH);
        for (ssize_t i = 0; i < got; i++) {
            open -= messages[i]->err == RD_KAFKA_RESP_ERR__PARTITION_EOF;
            if (messages[i]->err == RD_KAFKA_RESP_ERR_NO_ERROR) {
                if (begun == 0) {
                    must(rd_kafka_begin_transaction(out));
                    begun = seconds(CLOCK_MONOTONIC);
                }
                send_copy(out, topic, messages[i]);
                count++;
            }
            rd_kafka_message_destroy(messages[i]);
        }
        if (begun != 0 && (seconds(CLOCK_MONOTONIC) - begun > every || open == 0)) {
            must(rd_kafka_commit_transaction(out, TRANSACTION_MS));
            begun = 0;
        }
    }
    wall = seconds(CLOCK_MONOTONIC) - wall;
    rd_kafka_topic_destroy(topic);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(out);
    rd_kafka_destroy(in);
    printf("librdkafka's own consume and produce: %ld events, %.2f M events/s, %.1f ns CPU/event\n",
           count, (double)count / wall / 1e6,
           seconds(CLOCK_PROCESS_CPUTIME_ID) * 1e9 / (double)(count > 0 ? count : 1));
    return 0;
}

/* --- latency ---------------------------------------------------------------------------------- */

static int pace(const char *brokers, const char *to, long rate, long for_s) {
    rd_kafka_t *rk = producer(brokers, NULL);
    rd_kafka_topic_t *topic = rd_kafka_topic_new(rk, to, NULL);
    const char *pad =
        "lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor "
        "incididunt ut labore et dolore";
    int64_t start = now_us();
    for (long sent = 0; sent < rate * for_s;) {
        long due = (long)((now_us() - start) * rate / 1000000);
        for (; sent < due && sent < rate * for_s; sent++) {
            char text[400];
            int length =
                snprintf(text, sizeof(text),
                         "{\"event_id\":\"e-%016ld\",\"store_id\":%ld,\"sku\":\"S%ld\","
                         "\"currency\":\"GBP\",\"qty\":3,\"note\":\"%s\",\"sent_us\":%lld}",
                         sent, 1 + sent % 997, 100 + sent % 200, pad, (long long)now_us());
            while (rd_kafka_produce(topic, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, text,
                                    (size_t)length, NULL, 0, NULL) != 0) {
                rd_kafka_poll(rk, 1);
            }
        }
        rd_kafka_poll(rk, 0);
        nanosleep(&(struct timespec){.tv_nsec = 500000}, NULL);
    }
    rd_kafka_flush(rk, WAIT_MS);
    rd_kafka_topic_destroy(topic);
    rd_kafka_destroy(rk);
    return 0;
}

static int by_age(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a;
    int32_t y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static int64_t sent_us(const rd_kafka_message_t *message) {
    static const char key[] = "\"sent_us\":";
    const char *found = memmem(message->payload, message->len, key, sizeof(key) - 1);
    int64_t value = 0;
    const char *end = (const char *)message->payload + message->len;
    for (const char *at = found != NULL ? found + sizeof(key) - 1 : end;
         at < end && *at >= '0' && *at <= '9'; at++) {
        value = value * 10 + (*at - '0');
    }
    return value;
}

static int watch(const char *brokers, const char *topic, long count, long skip) {
    int open;
    rd_kafka_t *rk = reader(brokers, topic, &open, "5");
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(rk);
    rd_kafka_message_t *messages[BATCH];
    int32_t *ages = malloc((size_t)count * sizeof(*ages));
    long seen = 0;
    double last = seconds(CLOCK_MONOTONIC);
    while (ages != NULL && seen < count && seconds(CLOCK_MONOTONIC) - last < 30) {
        ssize_t got = rd_kafka_consume_batch_queue(queue, 1, messages, BATCH);
        int64_t now = now_us();
        for (ssize_t i = 0; i < got; i++) {
            if (messages[i]->err == RD_KAFKA_RESP_ERR_NO_ERROR && seen < count) {
                ages[seen++] = (int32_t)(now - sent_us(messages[i]));
                last = seconds(CLOCK_MONOTONIC);
            }
            rd_kafka_message_destroy(messages[i]);
        }
    }
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(rk);
    if (ages == NULL || seen <= skip) {
        fail("no events came");
    }
    long kept = seen - skip;
    qsort(ages + skip, (size_t)kept, sizeof(*ages), by_age);
    printf("%ld of %ld events, p50 %.1f ms, p99 %.1f ms, max %.1f ms\n", seen, count,
           ages[skip + kept / 2] / 1e3, ages[skip + kept * 99 / 100] / 1e3, ages[seen - 1] / 1e3);
    free(ages);
    return seen == count ? 0 : 1;
}

int main(int argc, char **argv) {
    if (argc == 6 && strcmp(argv[1], "copy") == 0) {
        return copy(argv[2], argv[3], argv[4], atof(argv[5]) / 1000);
    }
    if (argc == 6 && strcmp(argv[1], "pace") == 0) {
        return pace(argv[2], argv[3], atol(argv[4]), atol(argv[5]));
    }
    if (argc == 6 && strcmp(argv[1], "watch") == 0) {
        return watch(argv[2], argv[3], atol(argv[4]), atol(argv[5]));
    }
    printf(
        "bench_kafka_probe: needs a broker; kafka_exactly_once.py and kafka_latency.py run it\n");
    return 0;
}
