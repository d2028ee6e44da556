/* The floor under every figure about Kafka: librdkafka's own consumer, which reads a topic to its
 * end and does nothing but count. Also fills the topic, so that a bench of millions starts soon.
 * usage: bench_kafka_floor read BROKERS TOPIC | produce BROKERS TOPIC FILE, of events with
 * their lengths before them */
#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BATCH = 1000, WAIT_MS = 10000, GATHER_MS = 100, EVENT_BYTES_MAX = 1 << 20 };

static double seconds(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void set(rd_kafka_conf_t *conf, const char *key, const char *value) {
    char why[256];
    if (rd_kafka_conf_set(conf, key, value, why, sizeof(why)) != RD_KAFKA_CONF_OK) {
        fprintf(stderr, "bench_kafka_floor: %s\n", why);
        exit(3);
    }
}

static rd_kafka_t *client(rd_kafka_type_t type, rd_kafka_conf_t *conf) {
    char why[256];
    rd_kafka_t *rk = rd_kafka_new(type, conf, why, sizeof(why));
    if (rk == NULL) {
        fprintf(stderr, "bench_kafka_floor: %s\n", why);
        exit(3);
    }
    return rk;
}

static int produce(const char *brokers, const char *topic, const char *path) {
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", brokers);
    set(conf, "compression.type", "lz4");
    set(conf, "linger.ms", "20");
    set(conf, "queue.buffering.max.messages", "2000000");
    rd_kafka_t *rk = client(RD_KAFKA_PRODUCER, conf);
    rd_kafka_topic_t *to = rd_kafka_topic_new(rk, topic, NULL);
    FILE *file = fopen(path, "r");
    char *event = malloc(EVENT_BYTES_MAX);
    uint32_t length;
    while (file != NULL && event != NULL && fread(&length, sizeof(length), 1, file) == 1 &&
           length <= EVENT_BYTES_MAX && fread(event, 1, length, file) == length) {
        while (rd_kafka_produce(to, RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, event, length, NULL,
                                0, NULL) != 0) {
            rd_kafka_poll(rk, 10);
        }
    }
    int left = file != NULL && rd_kafka_flush(rk, 120000) == RD_KAFKA_RESP_ERR_NO_ERROR ? 0 : 1;
    if (file != NULL) {
        fclose(file);
    }
    free(event);
    rd_kafka_topic_destroy(to);
    rd_kafka_destroy(rk);
    return left;
}

/* All partitions, from their beginnings to their ends. */
static int read_all(const char *brokers, const char *topic) {
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "bootstrap.servers", brokers);
    set(conf, "group.id", "floor");
    set(conf, "enable.auto.commit", "false");
    set(conf, "enable.partition.eof", "true");
    set(conf, "queued.min.messages", "1000000"); /* else it stands still when the queue is full */
    rd_kafka_t *rk = client(RD_KAFKA_CONSUMER, conf);
    rd_kafka_topic_t *from = rd_kafka_topic_new(rk, topic, NULL);
    const struct rd_kafka_metadata *metadata;
    if (rd_kafka_metadata(rk, 0, from, &metadata, WAIT_MS) != RD_KAFKA_RESP_ERR_NO_ERROR) {
        fprintf(stderr, "bench_kafka_floor: no metadata of %s\n", topic);
        return 3;
    }
    int open = metadata->topics[0].partition_cnt;
    rd_kafka_topic_partition_list_t *all = rd_kafka_topic_partition_list_new(open);
    for (int i = 0; i < open; i++) {
        rd_kafka_topic_partition_list_add(all, topic, i)->offset = RD_KAFKA_OFFSET_BEGINNING;
    }
    rd_kafka_metadata_destroy(metadata);
    double wall = seconds(CLOCK_MONOTONIC);
    rd_kafka_assign(rk, all);
    rd_kafka_queue_t *queue = rd_kafka_queue_get_consumer(rk);
    rd_kafka_message_t *messages[BATCH];
    long count = 0;
    size_t bytes = 0;
    while (open > 0) {
        ssize_t got = rd_kafka_consume_batch_queue(queue, GATHER_MS, messages, BATCH);
        for (ssize_t i = 0; i < got; i++) {
            open -= messages[i]->err == RD_KAFKA_RESP_ERR__PARTITION_EOF;
            count += messages[i]->err == RD_KAFKA_RESP_ERR_NO_ERROR;
            bytes += messages[i]->err == RD_KAFKA_RESP_ERR_NO_ERROR ? messages[i]->len : 0;
            rd_kafka_message_destroy(messages[i]);
        }
    }
    wall = seconds(CLOCK_MONOTONIC) - wall;
    rd_kafka_queue_destroy(queue);
    rd_kafka_topic_partition_list_destroy(all);
    rd_kafka_topic_destroy(from);
    rd_kafka_destroy(rk);
    double cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    printf("bare librdkafka: %ld events of %zu bytes, %.2f M events/s, %.1f ns CPU/event\n", count,
           count > 0 ? bytes / (size_t)count : 0, (double)count / wall / 1e6,
           cpu * 1e9 / (double)(count > 0 ? count : 1));
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 5 && strcmp(argv[1], "produce") == 0) {
        return produce(argv[2], argv[3], argv[4]);
    }
    if (argc == 4 && strcmp(argv[1], "read") == 0) {
        return read_all(argv[2], argv[3]);
    }
    printf("bench_kafka_floor: needs a broker; kafka.py runs it\n");
    return 0;
}
