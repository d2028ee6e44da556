/* Any bytes as a writer's schema and messages of it: schema, field plan against fixed columns,
 * rows. Every message is a row or a reject, columns are whole, strings are UTF-8, and a message
 * read the quick way gives what the plan alone gives. The first byte says how long the schema is,
 * in units of four; 0 is a schema that holds, so that bodies get far; 255: the rest is a
 * container's file, whose text does not depend on how its bytes come.
 *
 * fuzz:
 *   runtime/decode/avro/avro_type.c
 *   runtime/decode/avro/avro_plan.c
 *   runtime/decode/avro/avro_read.c
 *   runtime/decode/avro/avro_fast.c
 *   runtime/decode/avro/avro_skip.c
 *   runtime/decode/avro/avro_container.c
 *   runtime/decode/avro/avro_plan.h */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decode/avro/avro_container.h"
#include "decode/avro/avro_plan.h"
#include "decode/avsc.h"
#include "decode/decoder.h"
#include "decode/json/json_text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FRAMES_MAX = 32, ROWS = 64 };

static const char reader_text[] =
    "{\"type\":\"record\",\"name\":\"r\",\"fields\":[{\"name\":\"i\",\"type\":\"int\",\"default\":"
    "3},{\"name\":\"l\",\"type\":[\"null\",\"long\"]},{\"name\":\"s\",\"type\":[\"null\","
    "\"string\"],\"aliases\":[\"z\"]},{\"name\":\"d\",\"type\":[\"null\",\"double\"]},{\"name\":"
    "\"f\",\"type\":[\"null\",\"float\"]},{\"name\":\"b\",\"type\":[\"null\",\"boolean\"]},"
    "{\"name\":\"y\",\"type\":[\"null\",\"bytes\"]},{\"name\":\"m\",\"type\":[\"null\",{\"type\":"
    "\"bytes\",\"logicalType\":\"decimal\",\"precision\":18,\"scale\":2}]},{\"name\":\"t\","
    "\"type\":[\"null\",{\"type\":\"long\",\"logicalType\":\"timestamp-micros\"}]},{\"name\":\"a\","
    "\"type\":[\"null\",{\"type\":\"int\",\"logicalType\":\"date\"}]},{\"name\":\"e\",\"type\":["
    "\"null\",{\"type\":\"enum\",\"name\":\"e\",\"symbols\":[\"A\",\"B\"],\"default\":\"A\"}]},"
    "{\"name\":\"x\",\"type\":[\"null\",{\"type\":\"fixed\",\"name\":\"x\",\"size\":3}]},"
    "{\"name\":\"g\",\"type\":[\"null\",{\"type\":\"array\",\"items\":{\"type\":\"record\","
    "\"name\":\"q\",\"fields\":[{\"name\":\"x\",\"type\":[\"null\",\"string\"]}]}}]},{\"name\":"
    "\"h\",\"type\":[\"null\",{\"type\":\"map\",\"values\":\"int\"}]},{\"name\":\"w\",\"type\":["
    "\"null\",{\"type\":\"int\",\"weir\":\"int8\"}]}]}";
/* What may stand in another order, be promoted, be unknown. */
static const char writer_text[] =
    "{\"type\":\"record\",\"name\":\"r\",\"fields\":[{\"name\":\"i\",\"type\":\"int\"},{\"name\":"
    "\"l\",\"type\":[\"null\",\"long\"]},{\"name\":\"z\",\"type\":[\"string\",\"null\"]},{\"name\":"
    "\"d\",\"type\":[\"float\",\"int\",\"double\"]},{\"name\":\"b\",\"type\":\"boolean\"},{"
    "\"name\":"
    "\"y\",\"type\":\"bytes\"},{\"name\":\"m\",\"type\":{\"type\":\"bytes\",\"logicalType\":"
    "\"decimal\",\"precision\":18,\"scale\":2}},{\"name\":\"t\",\"type\":{\"type\":\"long\","
    "\"logicalType\":\"timestamp-millis\"}},{\"name\":\"a\",\"type\":{\"type\":\"int\","
    "\"logicalType\":\"date\"}},{\"name\":\"e\",\"type\":{\"type\":\"enum\",\"name\":\"e\","
    "\"symbols\":[\"B\",\"C\",\"A\"]}},{\"name\":\"x\",\"type\":{\"type\":\"fixed\",\"name\":\"x\","
    "\"size\":3}},{\"name\":\"g\",\"type\":{\"type\":\"array\",\"items\":{\"type\":\"record\","
    "\"name\":\"q\",\"fields\":[{\"name\":\"x\",\"type\":[\"null\",\"string\"]},{\"name\":\"u\","
    "\"type\":\"long\"}]}}},{\"name\":\"h\",\"type\":{\"type\":\"map\",\"values\":[\"int\","
    "\"string\"]}},{\"name\":\"n\",\"type\":[\"null\",\"double\",\"r\",{\"type\":\"map\","
    "\"values\":"
    "\"bytes\"}]},{\"name\":\"w\",\"type\":\"long\"}]}";

static struct weir_pool *pool;
static struct weir_avsc columns;
static struct avro_schema reader;
static struct decode_plan plan;
static struct weir_batch_builder builder;

static void check(bool holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "broken: %s\n", what);
        __builtin_trap();
    }
}

static void start(void) {
    struct weir_error err = {0};
    pool = weir_pool_create(1u << 30);
    check(weir_avsc_parse("reader", reader_text, strlen(reader_text), &columns, &err) == WEIR_OK,
          err.message);
    check(avro_schema_parse(&reader, reader_text, strlen(reader_text), "reader", &err) == WEIR_OK,
          err.message);
    check(weir_avsc_parse("reader", reader_text, strlen(reader_text), &plan.avsc, &err) == WEIR_OK,
          err.message);
    check(decode_plan_settle(&plan, "avro", NULL, -1, &err) == WEIR_OK, err.message);
    check(weir_batch_builder_init(&builder, pool, columns.schema, ROWS, 1 << 26, &err) == WEIR_OK,
          "builder");
}

static void check_column(const struct weir_column *column, int64_t length) {
    check(column->length == length, "column length");
    int64_t nulls = 0;
    for (int64_t i = 0; i < length; i++) {
        nulls += weir_column_is_null(column, i);
    }
    check(nulls == column->null_count, "null count");
    for (int64_t i = 0; column->offsets != NULL && i < length; i++) {
        check(column->offsets[i] <= column->offsets[i + 1], "offsets ascend");
    }
    for (int64_t i = 0; column->type == WEIR_TYPE_STRING && i < length; i++) {
        int32_t bytes;
        const char *text = weir_column_bytes(column, i, &bytes);
        check(json_find_bad_utf8((const uint8_t *)text, (size_t)bytes) < 0, "UTF-8");
    }
    for (int32_t i = 0; i < column->child_count; i++) {
        check_column(&column->children[i],
                     column->offsets != NULL ? column->offsets[length] : length);
    }
}

static int read_one(const struct avro_node *node, const uint8_t *body, size_t length, bool quick) {
    struct json_reader *r = &plan.reader;
    struct avro_in in = {.begin = body, .p = body, .end = body + length};
    weir_buffer_clear(&r->rescued);
    json_keys_clear(&r->keys);
    r->depth = 1;
    r->objects = 0;
    r->path[0] = '\0';
    int rc = avro_plan_read(node, r, &in, builder.columns, builder.rows, quick ? ROWS : 0);
    if (rc == WEIR_OK) {
        weir_batch_builder_finish_row(&builder);
    } else {
        weir_batch_builder_undo_row(&builder);
    }
    return rc;
}

static bool same_value(const struct weir_column *c, int64_t a, int64_t b) {
    if (weir_column_is_null(c, a) != weir_column_is_null(c, b)) {
        return false;
    }
    if (weir_type_is_bytes(c->type)) {
        int32_t left;
        int32_t right;
        const char *x = weir_column_bytes(c, a, &left);
        const char *y = weir_column_bytes(c, b, &right);
        return left == right && memcmp(x, y, (size_t)left) == 0;
    }
    if (weir_type_is_nested(c->type)) {
        return true;
    }
    if (c->type == WEIR_TYPE_BOOL) {
        return weir_bit_get(c->values, a) == weir_bit_get(c->values, b);
    }
    size_t width = (size_t)weir_type_width(c->type);
    const uint8_t *values = c->values;
    return memcmp(values + (size_t)a * width, values + (size_t)b * width, width) == 0;
}

/* Each twice: the quick way and by the plan alone. */
static void read_all(const struct avro_node *node, const uint8_t *bytes, size_t size) {
    check(weir_batch_builder_begin(&builder) == WEIR_OK, "begin");
    for (int32_t i = 0; i < FRAMES_MAX && size > 0; i++) {
        size_t length = bytes[0] < size - 1 ? bytes[0] : size - 1;
        uint8_t *body = calloc(1, length + WEIR_DECODE_PADDING);
        memcpy(body, bytes + 1, length);
        int quick = read_one(node, body, length, true);
        check(quick == WEIR_OK || quick == WEIR_E_DATA || quick == WEIR_E_LIMIT, "a row or why");
        check(read_one(node, body, length, false) == quick, "the same verdict");
        free(body);
        bytes += length + 1;
        size -= length + 1;
    }
    struct weir_batch *batch = weir_batch_builder_take(&builder);
    for (int32_t i = 0; i < batch->column_count; i++) {
        check_column(&batch->columns[i], batch->rows);
        for (int64_t row = 0; row + 1 < batch->rows; row += 2) {
            check(same_value(&batch->columns[i], row, row + 1), "the same value both ways");
        }
    }
    weir_batch_unref(batch);
}

/* The text of a file that comes `step` bytes at a time. */
static int read_container(const uint8_t *file, size_t size, size_t step, struct weir_buffer *text) {
    struct weir_error err = {0};
    struct avro_container *container = avro_container_create();
    size_t begin = 0;
    size_t end = 0;
    int rc = WEIR_OK;
    while (rc == WEIR_OK) {
        size_t used;
        uint8_t *raw = malloc(end - begin + 1);
        memcpy(raw, file + begin, end - begin);
        rc = avro_container_read(container, raw, end - begin, &used, text, &err);
        if (rc == WEIR_OK && used == 0 && end == size) {
            rc = avro_container_stuck(container, raw, end - begin, &used, text, &err);
        }
        free(raw);
        check(used <= end - begin, "used");
        begin += used;
        if (used == 0 && end == size) {
            break;
        }
        end = used > 0 ? end : size - end > step ? end + step : size;
    }
    check(rc == WEIR_OK || err.message[0] != '\0', "an error says what is wrong");
    avro_container_destroy(container);
    return rc;
}

static void check_text(const struct weir_buffer *text) {
    const uint8_t *schema;
    size_t schema_bytes;
    size_t at;
    struct weir_error err = {0};
    if (text->size == 0) {
        return;
    }
    check(avro_container_header(text->data, text->size, &at, &schema, &schema_bytes, &err) ==
                  WEIR_OK &&
              at > 0 && at <= text->size,
          "the text begins with the header");
    while (at < text->size) {
        uint32_t length;
        check(text->size - at >= AVRO_CONTAINER_HEAD_BYTES, "a head");
        memcpy(&length, text->data + at + 1, sizeof(length));
        check(length <= text->size - at - AVRO_CONTAINER_HEAD_BYTES, "a datum");
        at += AVRO_CONTAINER_HEAD_BYTES + length;
    }
}

static int container(const uint8_t *file, size_t size) {
    struct weir_buffer whole;
    struct weir_buffer pieces;
    weir_buffer_init(&whole, 1 << 28);
    weir_buffer_init(&pieces, 1 << 28);
    int rc = read_container(file, size, size, &whole);
    check(read_container(file, size, 1 + size / 7, &pieces) == rc, "the same verdict in pieces");
    check_text(&whole);
    check(whole.size == pieces.size &&
              (whole.size == 0 || memcmp(whole.data, pieces.data, whole.size) == 0),
          "the same text in pieces");
    weir_buffer_fini(&whole);
    weir_buffer_fini(&pieces);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (pool == NULL) {
        start();
    }
    if (size < 2) {
        return 0;
    }
    if (data[0] == 255) {
        return container(data + 1, size - 1);
    }
    struct avro_schema schema = {0};
    struct avro_node node;
    struct weir_error err = {0};
    size_t length = (size_t)data[0] * 4 < size - 1 ? (size_t)data[0] * 4 : size - 1;
    const char *text = length > 0 ? (const char *)data + 1 : writer_text;
    int rc =
        avro_schema_parse(&schema, text, length > 0 ? length : strlen(writer_text), "fuzz", &err);
    check(rc == WEIR_OK || err.message[0] != '\0', "an error says what is wrong");
    if (rc == WEIR_OK &&
        avro_plan_compile(schema.top, reader.top, &plan.record, &node, &err) == WEIR_OK) {
        read_all(&node, data + 1 + length, size - 1 - length);
        avro_plan_fini(&node);
    }
    avro_schema_fini(&schema);
    check(weir_pool_used_bytes(pool) == 0, "memory given back");
    return 0;
}
