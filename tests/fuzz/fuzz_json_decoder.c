/* Any bytes, split into lines, through the JSON decoder: every frame is a row or a reject, columns
 * are whole, string columns hold UTF-8, and one line decodes alone as it does among others.
 *
 * fuzz:
 *   runtime/decode/json/json_text.c
 *   runtime/decode/json/json_number.c
 *   runtime/decode/json/json_skip.c
 *   runtime/decode/json/json_read.c */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decode/avsc.h"
#include "decode/decoder.h"
#include "decode/json/json_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char avsc[] =
    "{\"type\":\"record\",\"name\":\"r\",\"fields\":["
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
    "}]},"
    "{\"name\":\"g\",\"type\":[\"null\",{\"type\":\"array\",\"items\":{\"type\":\"record\","
    "\"name\":"
    "\"q\",\"fields\":[{\"name\":\"x\",\"type\":[\"null\",\"string\"]}]}}]},"
    "{\"name\":\"h\",\"type\":[\"null\",{\"type\":\"map\",\"values\":\"int\"}]}]}";

enum { FRAMES_MAX = 256 };

static struct weir_pool *pool;
static struct weir_decoder *decoder;
static struct weir_schema *full;
static struct weir_batch_builder builder;

static void check(bool holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "broken: %s\n", what);
        __builtin_trap();
    }
}

static void start(void) {
    struct weir_avsc parsed;
    struct weir_error err;
    pool = weir_pool_create(1u << 30);
    check(weir_avsc_parse("fuzz", avsc, sizeof(avsc) - 1, &parsed, &err) == WEIR_OK, "schema");
    check(weir_decoder_create(&decoder, "json", NULL, parsed.schema, &err) == WEIR_OK, "decoder");
    full = weir_decode_full_schema(parsed.schema);
    check(weir_batch_builder_init(&builder, pool, full, FRAMES_MAX, 1 << 28, &err) == WEIR_OK,
          "builder");
    weir_avsc_fini(&parsed);
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

/* Rows of frames[0..count); every frame is accounted for. */
static int32_t decode(const uint8_t *block, const struct weir_frame *frames, int32_t count) {
    struct weir_reject_batch *rejects = NULL;
    int32_t consumed = 0;
    check(weir_batch_builder_begin(&builder) == WEIR_OK, "begin");
    check(weir_decoder_decode(decoder, block, frames, count, &builder, &rejects, &consumed) ==
              WEIR_OK,
          "decode");
    struct weir_batch *batch = weir_batch_builder_take(&builder);
    check(weir_decode_finish(batch, "fuzz", 0) == WEIR_OK, "finish");
    int32_t rows = batch->rows;
    check(consumed == count, "all frames taken");
    check(rows + (rejects != NULL ? rejects->count : 0) == count, "rows and rejects are the lines");
    for (int32_t i = 0; i < batch->column_count; i++) {
        check_column(&batch->columns[i], rows);
    }
    weir_batch_unref(batch);
    weir_reject_batch_destroy(rejects);
    return rows;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (decoder == NULL) {
        start();
    }
    uint8_t *block = calloc(1, size + WEIR_DECODE_PADDING);
    struct weir_frame frames[FRAMES_MAX];
    int32_t count = 0;
    memcpy(block, data, size);
    for (size_t at = 0; at < size && count < FRAMES_MAX;) {
        const uint8_t *newline = memchr(block + at, '\n', size - at);
        size_t end = newline != NULL ? (size_t)(newline - block) : size;
        frames[count].start = (uint32_t)at;
        frames[count].length = (uint32_t)(end - at);
        frames[count].offset = (int64_t)at;
        count++;
        at = end + 1;
    }
    int32_t together = count > 0 ? decode(block, frames, count) : 0;
    int32_t alone = 0;
    for (int32_t i = 0; i < count; i++) {
        alone += decode(block, &frames[i], 1);
    }
    check(together == alone, "lines decode alone as among others");
    check(weir_pool_used_bytes(pool) == 0, "memory given back");
    free(block);
    return 0;
}
