/* What CSV costs: records through the decoder beside memchr over the same bytes for line ends and
 * commas, in one run. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "decode/avsc.h"
#include "decode/decoder.h"

enum { RECORDS = 200000, FRAMES = 4096 };

static const char avsc[] =
    "{\"type\":\"record\",\"name\":\"r\",\"fields\":[{\"name\":\"id\",\"type\":\"long\"},"
    "{\"name\":\"sku\",\"type\":\"string\"},{\"name\":\"qty\",\"type\":\"int\"},"
    "{\"name\":\"price\",\"type\":{\"type\":\"bytes\",\"logicalType\":\"decimal\",\"precision\":10,"
    "\"scale\":2}},{\"name\":\"at\",\"type\":{\"type\":\"long\",\"logicalType\":\"timestamp-"
    "micros\"}},"
    "{\"name\":\"note\",\"type\":[\"null\",\"string\"]}]}";

static size_t write_records(char *text, size_t room, bool quoted) {
    size_t size = 0;
    for (int i = 0; i < RECORDS; i++) {
        const char *q = quoted ? "\"" : "";
        size += (size_t)snprintf(text + size, room - size,
                                 "%d,%sSKU-%06d%s,%d,%d.%02d,2026-11-21T06:%02d:%02dZ,%s%s%s\n", i,
                                 q, i % 5000, q, i % 9, i % 300, i % 100, i % 60, i % 60, q,
                                 i % 3 == 0 ? "a note of some words" : "", q);
    }
    return size;
}

static int64_t floor_ns(const char *text, size_t size, int64_t *found) {
    int64_t begin = weir_clock_thread_cpu_ns();
    for (const char *p = text; p < text + size;) {
        const char *comma = memchr(p, ',', (size_t)(text + size - p));
        if (comma == NULL) {
            break;
        }
        ++*found;
        p = comma + 1;
    }
    for (const char *p = text; p < text + size; ++*found) {
        p = (const char *)memchr(p, '\n', (size_t)(text + size - p)) + 1;
    }
    return weir_clock_thread_cpu_ns() - begin;
}

static int64_t decode_ns(const char *text, size_t size, int32_t *rows) {
    struct weir_error err = {0};
    struct weir_avsc parsed;
    struct weir_decoder *decoder;
    struct weir_batch_builder builder;
    struct weir_pool *pool = weir_pool_create(1u << 30);
    struct weir_frame *frames = calloc(FRAMES, sizeof(*frames));
    if (weir_avsc_parse("bench", avsc, strlen(avsc), &parsed, &err) != WEIR_OK ||
        weir_decoder_create(&decoder, "csv", "{\"header\":false}", parsed.schema, &err) !=
            WEIR_OK ||
        weir_batch_builder_init(&builder, pool, weir_decode_full_schema(parsed.schema), FRAMES,
                                16 << 20, &err) != WEIR_OK) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    int64_t begin = weir_clock_thread_cpu_ns();
    *rows = 0;
    for (size_t at = 0; at < size;) {
        struct weir_split work = {.bytes = (const uint8_t *)text + at,
                                  .size = size - at,
                                  .last = true,
                                  .frames = frames,
                                  .max = FRAMES};
        struct weir_reject_batch *rejects = NULL;
        int32_t consumed;
        if (decoder->vtable->split(decoder, &work, &err) != WEIR_OK ||
            weir_batch_builder_begin(&builder) != WEIR_OK ||
            weir_decoder_decode(decoder, work.bytes, frames, work.count, &builder, &rejects,
                                &consumed) != WEIR_OK) {
            exit(1);
        }
        struct weir_batch *batch = weir_batch_builder_take(&builder);
        *rows += batch->rows;
        weir_batch_unref(batch);
        weir_reject_batch_destroy(rejects);
        at += work.used;
    }
    return weir_clock_thread_cpu_ns() - begin;
}

int main(void) {
    char *text = calloc(RECORDS, 128);
    for (int quoted = 0; quoted < 2; quoted++) {
        size_t size = write_records(text, (size_t)RECORDS * 128, quoted);
        int64_t found = 0;
        int32_t rows;
        (void)floor_ns(text, size, &found);
        double floor = (double)floor_ns(text, size, &found) / RECORDS;
        (void)decode_ns(text, size, &rows);
        double ours = (double)decode_ns(text, size, &rows) / RECORDS;
        printf("csv, %-12s %7.1f ns a record of %zu bytes (6 cells) · memchr alone %5.1f ns · %d "
               "rows\n",
               quoted ? "quoted texts" : "plain", ours, size / RECORDS, floor, rows);
    }
    free(text);
    return 0;
}
