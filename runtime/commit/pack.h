#pragma once
/* A bounds-checked walk over msgpack bytes. The library's unpacker builds a tree whose size an
 * array header of 5 hostile bytes decides; records need only a walk that borrows, so this reads
 * heads one by one and allocates nothing. Writing goes through msgpack-c. Private to the room. */
#include <stdbool.h>
#include <stdint.h>

#include "commit/record.h"

enum weir_pack_type {
    WEIR_PACK_NIL,
    WEIR_PACK_BOOL,
    WEIR_PACK_INT,  /* fits int64: number */
    WEIR_PACK_UINT, /* above INT64_MAX: (uint64_t)number */
    WEIR_PACK_FLOAT,
    WEIR_PACK_STR,
    WEIR_PACK_BIN,
    WEIR_PACK_ARRAY, /* number = elements, which follow */
    WEIR_PACK_MAP,   /* number = pairs, which follow */
    WEIR_PACK_EXT,
};

struct weir_pack_head {
    enum weir_pack_type type;
    int64_t number;
    double real;
    struct weir_span bytes; /* STR, BIN, EXT */
};

/* Reads one head (and a string's bytes) and moves past it. False: truncated or not msgpack. */
bool weir_pack_read(struct weir_span *rest, struct weir_pack_head *out);
/* Moves past one whole value, at most 32 levels deep. */
bool weir_pack_skip(struct weir_span *rest);
