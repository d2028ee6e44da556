#pragma once
/* Thrift's compact protocol, as much as Parquet metadata needs: a writer over a weir_buffer and a
 * reader over a byte range that never reads past it, never recurses past a depth and remembers its
 * first failure, so callers check once. (thrift-compact-protocol.md) */
#include <stdbool.h>
#include <stdint.h>

#include "core/buffer.h"

enum thrift_type {
    THRIFT_STOP = 0,
    THRIFT_TRUE = 1,
    THRIFT_FALSE = 2,
    THRIFT_BYTE = 3,
    THRIFT_I16 = 4,
    THRIFT_I32 = 5,
    THRIFT_I64 = 6,
    THRIFT_DOUBLE = 7,
    THRIFT_BINARY = 8,
    THRIFT_LIST = 9,
    THRIFT_SET = 10,
    THRIFT_MAP = 11,
    THRIFT_STRUCT = 12,
};

enum { THRIFT_DEPTH_MAX = 24 };

struct thrift_writer {
    struct weir_buffer *out;
    int rc; /* first failure; later calls do nothing */
    int16_t last;
    int depth;
    int16_t saved[THRIFT_DEPTH_MAX];
};

void thrift_writer_init(struct thrift_writer *writer, struct weir_buffer *out);
void thrift_write_bool(struct thrift_writer *writer, int16_t id, bool value);
void thrift_write_i8(struct thrift_writer *writer, int16_t id, int8_t value);
void thrift_write_i32(struct thrift_writer *writer, int16_t id, int32_t value);
void thrift_write_i64(struct thrift_writer *writer, int16_t id, int64_t value);
void thrift_write_binary(struct thrift_writer *writer, int16_t id, const void *bytes, size_t size);
void thrift_write_text(struct thrift_writer *writer, int16_t id, const char *text);
/* A list header; the elements follow by the functions below. */
void thrift_write_list(struct thrift_writer *writer, int16_t id, enum thrift_type element,
                       int64_t count);
void thrift_element_i32(struct thrift_writer *writer, int32_t value);
void thrift_element_i64(struct thrift_writer *writer, int64_t value);
void thrift_element_bool(struct thrift_writer *writer, bool value);
void thrift_element_binary(struct thrift_writer *writer, const void *bytes, size_t size);
void thrift_element_text(struct thrift_writer *writer, const char *text);
void thrift_element_struct(struct thrift_writer *writer); /* close with thrift_struct_end */
void thrift_struct_begin(struct thrift_writer *writer, int16_t id);
/* Ends the innermost struct; at depth 0 ends the top-level one. */
void thrift_struct_end(struct thrift_writer *writer);

struct thrift_reader {
    const uint8_t *at;
    const uint8_t *end;
    bool failed;      /* set once; every read then yields zeros and THRIFT_STOP */
    bool short_input; /* the failure was running out of bytes */
    int depth;
    int16_t last;
};

struct thrift_field {
    uint8_t type; /* enum thrift_type; STOP at the end of the struct */
    int16_t id;
};

void thrift_reader_init(struct thrift_reader *reader, const void *bytes, size_t size);
void thrift_fail(struct thrift_reader *reader);
/* Next field of the current struct. */
struct thrift_field thrift_next(struct thrift_reader *reader);
/* Value of a field of any integer type; fails on another type. */
int64_t thrift_read_int(struct thrift_reader *reader, uint8_t type);
int32_t thrift_read_i32(struct thrift_reader *reader, uint8_t type); /* fails out of range */
bool thrift_read_bool(struct thrift_reader *reader, uint8_t type);
/* Borrowed bytes. */
const uint8_t *thrift_read_binary(struct thrift_reader *reader, uint8_t type, size_t *size);
/* Elements in a list; each is then read with *element as its type. Never more than bytes left. */
int64_t thrift_read_list(struct thrift_reader *reader, uint8_t type, uint8_t *element);
/* Enters a struct field or element; returns the state for thrift_leave. */
int16_t thrift_enter(struct thrift_reader *reader, uint8_t type);
void thrift_leave(struct thrift_reader *reader, int16_t saved);
void thrift_skip(struct thrift_reader *reader, uint8_t type);
