/* What Avro costs: records of eight fields through the decoder, beside libavro reading the same
 * bytes into its generic values, the fastest way it has, in one run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef WEIR_HAS_LIBAVRO
#include <avro.h>
#endif

#include "core/clock.h"
#include "decode/avsc.h"
#include "decode/decoder.h"

enum { RECORDS = 4096, ROUNDS = 300, RECORD_BYTES_MAX = 128 };

static const char avsc[] =
    "{\"type\":\"record\",\"name\":\"r\",\"fields\":[{\"name\":\"id\",\"type\":\"long\"},"
    "{\"name\":\"sku\",\"type\":\"string\"},{\"name\":\"qty\",\"type\":\"int\"},"
    "{\"name\":\"share\",\"type\":\"double\"},{\"name\":\"ok\",\"type\":\"boolean\"},"
    "{\"name\":\"store\",\"type\":[\"null\",\"int\"]},"
    "{\"name\":\"at\",\"type\":{\"type\":\"long\",\"logicalType\":\"timestamp-micros\"}},"
    "{\"name\":\"note\",\"type\":[\"null\",\"string\"]}]}";

struct data {
    uint8_t *bytes;
    size_t size;
    struct weir_frame frames[RECORDS];
};

static void put_long(struct data *data, int64_t value) {
    uint64_t zigzag = (uint64_t)value << 1 ^ (uint64_t)(value >> 63);
    for (; zigzag >= 0x80; zigzag >>= 7) {
        data->bytes[data->size++] = (uint8_t)(zigzag | 0x80);
    }
    data->bytes[data->size++] = (uint8_t)zigzag;
}

static void put_text(struct data *data, const char *text) {
    size_t length = strlen(text);
    put_long(data, (int64_t)length);
    memcpy(data->bytes + data->size, text, length);
    data->size += length;
}

static void write_record(struct data *data, int i) {
    char sku[32];
    double share = 0.37 * i;
    snprintf(sku, sizeof(sku), "SKU-%06d", i * 7919 % 5000);
    put_long(data, 1000000 + i);
    put_text(data, sku);
    put_long(data, i % 9);
    memcpy(data->bytes + data->size, &share, sizeof(share));
    data->size += sizeof(share);
    data->bytes[data->size++] = i % 2 == 0;
    put_long(data, i % 10 != 3);
    if (i % 10 != 3) {
        put_long(data, i * 31 % 900);
    }
    put_long(data, INT64_C(1767607200000000) + i * INT64_C(1000));
    put_long(data, i % 4 == 0);
    if (i % 4 == 0) {
        put_text(data, "a note of some words");
    }
}

static void write_records(struct data *data) {
    data->bytes = calloc(RECORDS, RECORD_BYTES_MAX);
    for (int i = 0; i < RECORDS; i++) {
        data->frames[i] = (struct weir_frame){.start = (uint32_t)data->size, .offset = i};
        write_record(data, i);
        data->frames[i].length = (uint32_t)(data->size - data->frames[i].start);
    }
}

static void fail(const char *what) {
    fprintf(stderr, "bench_avro: %s\n", what);
    exit(1);
}

static double ours_ns(const struct data *data, const char *schema_path) {
    struct weir_error err = {0};
    struct weir_avsc parsed;
    struct weir_decoder *decoder;
    struct weir_batch_builder builder;
    char options[256];
    struct weir_pool *pool = weir_pool_create(1u << 30);
    snprintf(options, sizeof(options), "{\"schema\":\"%s\"}", schema_path);
    if (weir_avsc_parse("bench", avsc, strlen(avsc), &parsed, &err) != WEIR_OK ||
        weir_decoder_create(&decoder, "avro", options, parsed.schema, &err) != WEIR_OK ||
        weir_batch_builder_init(&builder, pool, weir_decode_full_schema(parsed.schema), RECORDS,
                                16 << 20, &err) != WEIR_OK) {
        fail(err.message);
    }
    int64_t best = INT64_MAX;
    for (int round = 0; round < ROUNDS; round++) {
        struct weir_reject_batch *rejects = NULL;
        int32_t consumed;
        if (weir_batch_builder_begin(&builder) != WEIR_OK) {
            fail("no memory");
        }
        int64_t begin = weir_clock_thread_cpu_ns();
        int rc = weir_decoder_decode(decoder, data->bytes, data->frames, RECORDS, &builder,
                                     &rejects, &consumed);
        int64_t took = weir_clock_thread_cpu_ns() - begin;
        struct weir_batch *batch = weir_batch_builder_take(&builder);
        if (rc != WEIR_OK || rejects != NULL || batch->rows != RECORDS) {
            fail("records that do not decode");
        }
        weir_batch_unref(batch);
        best = took < best ? took : best;
    }
    weir_decoder_destroy(decoder);
    return (double)best / RECORDS;
}

#ifdef WEIR_HAS_LIBAVRO
static double libavro_ns(const struct data *data) {
    avro_schema_t schema;
    avro_value_t value;
    if (avro_schema_from_json_literal(avsc, &schema) != 0) {
        fail(avro_strerror());
    }
    avro_value_iface_t *kind = avro_generic_class_from_schema(schema);
    avro_generic_value_new(kind, &value);
    int64_t best = INT64_MAX;
    for (int round = 0; round < ROUNDS; round++) {
        avro_reader_t reader = avro_reader_memory((const char *)data->bytes, (int64_t)data->size);
        int64_t begin = weir_clock_thread_cpu_ns();
        for (int i = 0; i < RECORDS; i++) {
            if (avro_value_reset(&value) != 0 || avro_value_read(reader, &value) != 0) {
                fail(avro_strerror());
            }
        }
        int64_t took = weir_clock_thread_cpu_ns() - begin;
        avro_reader_free(reader);
        best = took < best ? took : best;
    }
    avro_value_decref(&value);
    avro_value_iface_decref(kind);
    avro_schema_decref(schema);
    return (double)best / RECORDS;
}
#endif

int main(void) {
    char path[] = "/tmp/weir_bench_XXXXXX";
    int fd = mkstemp(path);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (file == NULL || fputs(avsc, file) == EOF || fclose(file) != 0) {
        fail("cannot write a schema file");
    }
    struct data data = {0};
    write_records(&data);
    double ours = ours_ns(&data, path);
    remove(path);
    printf("avro: %.1f ns a record of %zu bytes, 8 fields (at most 25: %s)", ours,
           data.size / RECORDS, ours <= 25 ? "kept" : "missed");
#ifdef WEIR_HAS_LIBAVRO
    double theirs = libavro_ns(&data);
    printf(" · libavro %.1f ns, %.1f times ours (at least 10: %s)", theirs, theirs / ours,
           theirs / ours >= 10 ? "kept" : "missed");
#else
    printf(" · libavro-dev is not there to compare");
#endif
    printf("\n");
    free(data.bytes);
    return 0;
}
