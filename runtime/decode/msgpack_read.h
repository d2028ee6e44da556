#pragma once
/* MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md) as bytes: one item's head at
 * a time, bounds checked. Private to the msgpack decoder. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum msgpack_kind {
    MSGPACK_END, /* the bytes end inside the item */
    MSGPACK_BAD, /* 0xc1, which the format never uses */
    MSGPACK_NIL,
    MSGPACK_BOOL,
    MSGPACK_INT,  /* value in `integer` */
    MSGPACK_UINT, /* value in `integer` as uint64; above INT64_MAX only */
    MSGPACK_FLOAT,
    MSGPACK_DOUBLE,
    MSGPACK_STRING,
    MSGPACK_BINARY,
    MSGPACK_EXTENSION, /* bytes, and its type in `extension` */
    MSGPACK_ARRAY,     /* `count` items follow */
    MSGPACK_MAP,       /* `count` pairs follow */
};

struct msgpack_item {
    enum msgpack_kind kind;
    int8_t extension;
    bool truth;
    uint32_t count;
    int64_t integer;
    double number; /* FLOAT as well: exact */
    const uint8_t *bytes;
    uint32_t length;
};

struct msgpack_reader {
    const uint8_t *begin;
    const uint8_t *p;
    const uint8_t *end;
};

/* The item at r->p; steps over its head, and over its bytes where it has some. */
void msgpack_next(struct msgpack_reader *r, struct msgpack_item *item);
/* Steps over one item with all in it: MSGPACK_NIL when it is whole, else MSGPACK_END or _BAD. */
enum msgpack_kind msgpack_skip(struct msgpack_reader *r);
