/* Any bytes as a file of the decoder its first byte names (CSV, MessagePack, Debezium, raw): head,
 * frames, rows. Every frame is a row, a reject or passed over, columns are whole, strings are
 * UTF-8, and bytes that come in two parts are cut as those that come in one.
 *
 * Of kinds that read Avro containers the bytes are a file, and what its container makes of them is
 * cut.
 *
 * fuzz:
 *   runtime/decode/capture.c
 *   runtime/decode/csv.c
 *   runtime/decode/csv_cut.c
 *   runtime/decode/text_value.c
 *   runtime/decode/msgpack.c
 *   runtime/decode/msgpack_read.c
 *   runtime/decode/debezium/debezium.c
 *   runtime/decode/debezium/debezium_members.c
 *   runtime/decode/debezium/debezium_schema.c */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "decode/avro/avro_container.h"
#include "decode/avsc.h"
#include "decode/decoder.h"
#include "decode/json/json_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char scalars[] =
    "{\"name\":\"i\",\"type\":\"int\",\"default\":3},{\"name\":\"l\",\"type\":[\"null\",\"long\"]},"
    "{\"name\":\"s\",\"type\":[\"null\",\"string\"]},{\"name\":\"d\",\"type\":[\"null\",\"double\"]"
    "},"
    "{\"name\":\"f\",\"type\":[\"null\",\"float\"]},{\"name\":\"b\",\"type\":[\"null\",\"boolean\"]"
    "},"
    "{\"name\":\"y\",\"type\":[\"null\",\"bytes\"]},"
    "{\"name\":\"m\",\"type\":[\"null\",{\"type\":\"bytes\",\"logicalType\":\"decimal\","
    "\"precision\":38,\"scale\":9}]},"
    "{\"name\":\"t\",\"type\":[\"null\",{\"type\":\"long\",\"logicalType\":\"timestamp-millis\"}]},"
    "{\"name\":\"a\",\"type\":[\"null\",{\"type\":\"int\",\"logicalType\":\"date\"}]},"
    "{\"name\":\"e\",\"type\":[\"null\",{\"type\":\"enum\",\"name\":\"e\",\"symbols\":[\"A\",\"B\"]"
    "}]}";
static const char nested[] = ",{\"name\":\"g\",\"type\":[\"null\",{\"type\":\"array\",\"items\":{"
                             "\"type\":\"record\",\"name\":\"q\",\"fields\":["
                             "{\"name\":\"x\",\"type\":[\"null\",\"string\"]}]}}]},{\"name\":\"h\","
                             "\"type\":[\"null\",{\"type\":\"map\",\"values\":\"int\"}]}";

enum { FRAMES_MAX = 256, KINDS = 9 };

static const struct {
    const char *kind;
    const char *options; /* %s: the schema's file */
    bool is_flat;
} kinds[KINDS] = {
    {"csv", "{\"schema\":\"%s\"}", true},
    {"csv", "{\"schema\":\"%s\",\"header\":false,\"delimiter\":\";\",\"null\":[\"NULL\"]}", true},
    {"msgpack", "{\"schema\":\"%s\"}", false},
    {"msgpack", "{\"schema\":\"%s\",\"frames\":\"length\"}", false},
    {"debezium", "{\"schema\":\"%s\",\"key\":[\"i\"]}", false},
    {"debezium", "{\"schema\":\"%s\",\"key\":[\"i\",\"s\"],\"decimals\":\"declared\"}", false},
    {"raw", "{}", false},
    {"avro", "{\"schema\":\"%s\"}", false},
    {"capture", "{\"schema\":\"%s\"}", true},
};

static struct {
    struct weir_decoder *decoder;
    struct weir_schema *full;
    struct weir_batch_builder builder;
} made[KINDS];
static struct weir_pool *pool;

static void check(bool holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "broken: %s\n", what);
        __builtin_trap();
    }
}

static void write_schema(char *path, bool is_flat) {
    int fd = mkstemp(path);
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    check(file != NULL, "schema file");
    fprintf(file, "{\"type\":\"record\",\"name\":\"r\",\"fields\":[%s%s]}", scalars,
            is_flat ? "" : nested);
    check(fclose(file) == 0, "schema file written");
}

/* `options` with the path in place of %s, if it has that. */
static void write_options(char *out, size_t size, const char *options, const char *path) {
    const char *at = strstr(options, "%s");
    int before = at != NULL ? (int)(at - options) : (int)strlen(options);
    snprintf(out, size, "%.*s%s%s", before, options, at != NULL ? path : "",
             at != NULL ? at + 2 : "");
}

static void start(void) {
    pool = weir_pool_create(1u << 30);
    for (int k = 0; k < KINDS; k++) {
        struct weir_error err = {0};
        char path[] = "/tmp/weir_fuzz_XXXXXX";
        char text[512];
        write_schema(path, kinds[k].is_flat);
        write_options(text, sizeof(text), kinds[k].options, path);
        check(weir_decoder_create(&made[k].decoder, kinds[k].kind, text, NULL, &err) == WEIR_OK,
              err.message);
        made[k].full = weir_decode_full_schema(made[k].decoder->vtable->schema(made[k].decoder));
        check(weir_batch_builder_init(&made[k].builder, pool, made[k].full, FRAMES_MAX, 1 << 28,
                                      &err) == WEIR_OK,
              "builder");
        check(unlink(path) == 0, "unlink");
    }
}

static void check_column(const struct weir_column *column, int64_t length) {
    check(column->length == length, "column length");
    int64_t nulls = 0;
    for (int64_t i = 0; i < length; i++) {
        nulls += weir_column_is_null(column, i);
    }
    check(nulls == column->null_count, "null count");
    if (column->codes != NULL) {
        return;
    }
    if (column->offsets != NULL) {
        check(column->offsets[0] == 0, "first offset");
        for (int64_t i = 0; i < length; i++) {
            check(column->offsets[i] <= column->offsets[i + 1], "offsets ascend");
        }
    }
    if (column->type == WEIR_TYPE_STRING) {
        for (int64_t i = 0; i < length; i++) {
            int32_t bytes;
            const char *text = weir_column_bytes(column, i, &bytes);
            check(json_find_bad_utf8((const uint8_t *)text, (size_t)bytes) < 0, "UTF-8");
        }
    }
    for (int32_t i = 0; i < column->child_count; i++) {
        check_column(&column->children[i],
                     column->offsets != NULL ? column->offsets[length] : length);
    }
}

static void decode(int k, const uint8_t *block, const struct weir_frame *frames, int32_t count) {
    struct weir_reject_batch *rejects = NULL;
    int32_t consumed = 0;
    check(weir_batch_builder_begin(&made[k].builder) == WEIR_OK, "begin");
    check(weir_decoder_decode(made[k].decoder, block, frames, count, &made[k].builder, &rejects,
                              &consumed) == WEIR_OK,
          "decode");
    struct weir_batch *batch = weir_batch_builder_take(&made[k].builder);
    check(weir_decode_finish(batch, "fuzz", 0) == WEIR_OK, "finish");
    check(consumed == count, "all frames taken");
    check(batch->rows + (rejects != NULL ? rejects->count : 0) <= count, "no more than the frames");
    for (int32_t i = 0; i < batch->column_count; i++) {
        check_column(&batch->columns[i], batch->rows);
    }
    weir_batch_unref(batch);
    weir_reject_batch_destroy(rejects);
}

/* Frames of text[0..size); without a cutter of its own, the decoder gets it whole. */
static int32_t cut(struct weir_decoder *decoder, const uint8_t *text, size_t size, bool last,
                   struct weir_frame frames[FRAMES_MAX]) {
    struct weir_error err = {0};
    if (decoder->vtable->split == NULL) {
        frames[0] = (struct weir_frame){.length = (uint32_t)size};
        return size > 0 && last;
    }
    struct weir_split work = {
        .bytes = text, .size = size, .last = last, .frames = frames, .max = FRAMES_MAX};
    int rc = decoder->vtable->split(decoder, &work, &err);
    check(work.used <= size, "used");
    check(rc != WEIR_OK || !last || work.used == size || work.count == FRAMES_MAX || work.count > 0,
          "cut to the end");
    return work.count;
}

/* The text of a container's file; nothing of what is none. */
static void read_container(const uint8_t *file, size_t size, struct weir_buffer *text) {
    struct weir_error err = {0};
    struct avro_container *container = avro_container_create();
    size_t used = 1;
    int rc = WEIR_OK;
    while (rc == WEIR_OK && used > 0) {
        rc = avro_container_read(container, file, size, &used, text, &err);
        if (rc == WEIR_OK && used == 0) {
            rc = avro_container_stuck(container, file, size, &used, text, &err);
        }
        file += rc == WEIR_OK ? used : 0;
        size -= rc == WEIR_OK ? used : 0;
    }
    avro_container_destroy(container);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (pool == NULL) {
        start();
    }
    if (size < 2) {
        return 0;
    }
    int k = data[0] % KINDS;
    size_t part = data[1];
    data += 2;
    size -= 2;
    struct weir_decoder *decoder = made[k].decoder;
    struct weir_buffer text_of;
    weir_buffer_init(&text_of, 1 << 28);
    if (decoder->vtable->is_container) {
        read_container(data, size, &text_of);
        data = text_of.data;
        size = text_of.size;
    }
    uint8_t *block = calloc(1, size + WEIR_DECODE_PADDING);
    if (size > 0) {
        memcpy(block, data, size);
    }
    weir_buffer_fini(&text_of);
    size_t head = 0;
    struct weir_error err = {0};
    if (decoder->vtable->begin != NULL && size > 0) {
        check(decoder->vtable->begin(decoder, block, size, true, &head, &err) == WEIR_OK, "head");
        check(head <= size, "the head is in the file");
    }
    const uint8_t *text = block + head;
    struct weir_frame frames[FRAMES_MAX];
    struct weir_frame early[FRAMES_MAX];
    int32_t count = cut(decoder, text, size - head, true, frames);
    part = part < size - head ? part : size - head;
    int32_t first = cut(decoder, text, part, false, early);
    check(first <= count, "no frame but those of the whole");
    for (int32_t i = 0; i < first; i++) {
        check(early[i].start == frames[i].start && early[i].length == frames[i].length,
              "the same frames");
    }
    if (count > 0) {
        decode(k, text, frames, count);
    }
    check(weir_pool_used_bytes(pool) == 0, "memory given back");
    free(block);
    return 0;
}
