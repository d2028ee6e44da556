/* Any bytes as messages of a schema registry, and any bytes as what the registry answers: the
 * decoders `avro` and `debezium` over a registry of our own, a thread that answers every id with
 * one schema, refusal or nonsense. Every message is a row, a reject, passed over or waits, columns
 * are whole. Byte 0: the decoder and whether its columns are known · byte 1: how the registry
 * answers · byte 2: length of the schema in units of four, 0: one that holds · then the schema,
 * then messages, each a byte of length and its bytes.
 *
 * fuzz:
 *   runtime/decode/avro/avro.c
 *   runtime/decode/avro/avro_writers.c
 *   runtime/decode/avro/avro_registry.c
 *   runtime/decode/debezium/debezium_avro.c */
#include <arpa/inet.h>
#include <jansson.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/buffer.h"
#include "core/log.h"
#include "decode/decoder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    FRAMES_MAX = 32,
    ANSWERS = 4 /* those that are not tried again for seconds */,
    REQUEST_BYTES = 4096
};

static const char row_fields[] =
    "{\"name\":\"i\",\"type\":\"int\"},{\"name\":\"s\",\"type\":[\"null\",\"string\"]},"
    "{\"name\":\"m\",\"type\":[\"null\",{\"type\":\"bytes\",\"logicalType\":\"decimal\","
    "\"precision\":18,\"scale\":2}]},{\"name\":\"t\",\"type\":[\"null\",{\"type\":\"long\","
    "\"logicalType\":\"timestamp-micros\"}]}";

static struct weir_pool *pool;
static char address[64];
static char schema_path[] = "/tmp/weir_fuzz_XXXXXX";
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct weir_buffer answer; /* the whole response, under the lock */

static void check(bool holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "broken: %s\n", what);
        __builtin_trap();
    }
}

/* One request a connection. */
static void *serve(void *argument) {
    int listener = *(const int *)argument;
    for (;;) {
        char request[REQUEST_BYTES];
        size_t got = 0;
        int peer = accept(listener, NULL, NULL);
        check(peer >= 0, "accept");
        while (got < sizeof(request) - 1) {
            ssize_t n = read(peer, request + got, sizeof(request) - 1 - got);
            got += n > 0 ? (size_t)n : 0;
            request[got] = '\0';
            if (n <= 0 || strstr(request, "\r\n\r\n") != NULL) {
                break;
            }
        }
        pthread_mutex_lock(&lock);
        for (size_t at = 0; at < answer.size;) {
            ssize_t n = send(peer, answer.data + at, answer.size - at, MSG_NOSIGNAL);
            if (n <= 0) {
                break;
            }
            at += (size_t)n;
        }
        pthread_mutex_unlock(&lock);
        shutdown(peer, SHUT_RDWR);
        close(peer);
    }
    return NULL;
}

static void leave(void) {
    unlink(schema_path);
}

static void start(void) {
    static int listener;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof(at);
    pthread_t thread;
    pool = weir_pool_create(1u << 30);
    weir_buffer_init(&answer, 1 << 24);
    weir_log_set_level(WEIR_LOG_ERROR);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    check(listener >= 0 && bind(listener, (struct sockaddr *)&at, sizeof(at)) == 0 &&
              listen(listener, 16) == 0 &&
              getsockname(listener, (struct sockaddr *)&at, &length) == 0,
          "a socket");
    snprintf(address, sizeof(address), "http://127.0.0.1:%d", ntohs(at.sin_port));
    check(pthread_create(&thread, NULL, serve, &listener) == 0, "a thread");
    FILE *file = fdopen(mkstemp(schema_path), "w");
    check(file != NULL && atexit(leave) == 0, "schema file");
    fprintf(file, "{\"type\":\"record\",\"name\":\"r\",\"fields\":[%s]}", row_fields);
    check(fclose(file) == 0, "schema file written");
}

static void put(const char *status, const char *body, size_t size) {
    check(weir_buffer_printf(&answer,
                             "HTTP/1.1 %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
                             status, size) == WEIR_OK &&
              weir_buffer_append(&answer, body, size) == WEIR_OK,
          "an answer");
}

static void set_answer(int how, const char *schema, size_t size) {
    struct weir_buffer body;
    static const char refused[] = "{\"error_code\":40403,\"message\":\"Schema not found\"}";
    weir_buffer_init(&body, 1 << 24);
    check(weir_buffer_append_text(&body, "{\"schema\":") == WEIR_OK &&
              weir_buffer_append_json(&body, schema, size) == WEIR_OK &&
              weir_buffer_append_text(&body, how == 1 ? ",\"schemaType\":\"JSON\"}" : "}") ==
                  WEIR_OK,
          "a body");
    pthread_mutex_lock(&lock);
    weir_buffer_clear(&answer);
    switch (how) {
    case 2:
        put("404 Not Found", refused, strlen(refused));
        break;
    case 3: /* what is no answer */
        put("200 OK", schema, size);
        break;
    default:
        put("200 OK", (const char *)body.data, body.size);
    }
    pthread_mutex_unlock(&lock);
    weir_buffer_fini(&body);
}

static struct weir_decoder *make(bool is_debezium) {
    struct weir_decoder *decoder = NULL;
    struct weir_error err = {0};
    char options[512];
    snprintf(options, sizeof(options), "{\"registry\":\"%s\",\"schema\":\"%s\"%s}", address,
             schema_path, is_debezium ? ",\"key\":[\"i\"]" : "");
    check(weir_decoder_create(&decoder, is_debezium ? "debezium" : "avro", options, NULL, &err) ==
              WEIR_OK,
          err.message);
    return decoder;
}

static void decode(struct weir_decoder *decoder, const uint8_t *block,
                   const struct weir_frame *frames, int32_t count) {
    struct weir_schema *full = weir_decode_full_schema(decoder->vtable->schema(decoder));
    struct weir_batch_builder builder;
    struct weir_reject_batch *rejects = NULL;
    struct weir_error err = {0};
    int32_t consumed = 0;
    check(weir_batch_builder_init(&builder, pool, full, FRAMES_MAX, 1 << 26, &err) == WEIR_OK &&
              weir_batch_builder_begin(&builder) == WEIR_OK,
          "builder");
    int rc = weir_decoder_decode(decoder, block, frames, count, &builder, &rejects, &consumed);
    check(rc == WEIR_OK || rc == WEIR_E_LIMIT, "rows, rejects, or waiting");
    check(rc == WEIR_OK ? consumed == count : consumed < count, "how many were taken");
    struct weir_batch *batch = weir_batch_builder_take(&builder);
    check(batch->rows + (rejects != NULL ? rejects->count : 0) <= consumed, "each once");
    for (int32_t i = 0; i < batch->column_count - WEIR_META_COUNT; i++) {
        check(batch->columns[i].length == batch->rows, "whole columns");
    }
    weir_batch_unref(batch);
    weir_reject_batch_destroy(rejects);
    weir_batch_builder_fini(&builder);
    weir_schema_unref(full);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static char good[2048];
    if (pool == NULL) {
        start();
    }
    if (size < 4) {
        return 0;
    }
    bool is_debezium = (data[0] & 1) != 0;
    snprintf(good, sizeof(good),
             is_debezium ? "{\"type\":\"record\",\"name\":\"e\",\"fields\":[{\"name\":\"before\","
                           "\"type\":[\"null\",{\"type\":\"record\",\"name\":\"v\",\"fields\":[%s]}"
                           "]},{\"name\":\"after\",\"type\":[\"null\",\"v\"]},{\"name\":\"op\","
                           "\"type\":\"string\"}]}"
                         : "{\"type\":\"record\",\"name\":\"w\",\"fields\":[%s,{\"name\":\"x\","
                           "\"type\":\"double\"}]}",
             row_fields);
    size_t length = (size_t)data[2] * 4 < size - 3 ? (size_t)data[2] * 4 : size - 3;
    set_answer(data[1] % ANSWERS, length > 0 ? (const char *)data + 3 : good,
               length > 0 ? length : strlen(good));
    uint8_t *block = calloc(1, size + WEIR_DECODE_PADDING);
    struct weir_frame frames[FRAMES_MAX];
    int32_t count = 0;
    memcpy(block, data, size);
    for (size_t at = 3 + length; count < FRAMES_MAX && at + 1 < size; count++) {
        size_t left = size - at - 1;
        uint32_t bytes = block[at] < left ? block[at] : (uint32_t)left;
        frames[count] = (struct weir_frame){(uint32_t)at + 1, bytes, count};
        at += 1 + bytes;
    }
    struct weir_decoder *decoder = make(is_debezium);
    if (count > 0) {
        decode(decoder, block, frames, count);
    }
    weir_decoder_destroy(decoder);
    check(weir_pool_used_bytes(pool) == 0, "memory given back");
    free(block);
    return 0;
}
