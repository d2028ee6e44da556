#pragma once
/* The bytes of state images, shared by the cells of this room. Layout: docs/formats/state.md.
 *
 * A spill holds images (or other small records) until they are collected: a list of fixed blocks,
 * so that appending never copies what is there and draining goes block by block. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/buffer.h"
#include "core/error.h"

#define WEIR_IMAGE_VERSION 1

enum weir_image_op {
    WEIR_IMAGE_HEADER = 0, /* u8 version, u64 shape, varint length, name */
    WEIR_IMAGE_PUT = 1,    /* u64 sequence, varint length, key, varint length, value */
    WEIR_IMAGE_DELETE = 2, /* u64 sequence, varint length, key */
    WEIR_IMAGE_NEXT = 3,   /* u64 next creation sequence */
    WEIR_IMAGE_INSERT = 4, /* u64 lo, u64 hi, i64 time: a fingerprint remembered */
    WEIR_IMAGE_FORGET = 5, /* u64 lo, u64 hi, i64 time */
    WEIR_IMAGE_LAYOUT =
        6 /* u64 shape, varint length, text: what values of that shape are made of */
};

enum {
    WEIR_VARINT_MAX = 10,
    WEIR_SPILL_BLOCK_BYTES = 64 * 1024 - 16 /* a weir_block of 64 KiB */,
    WEIR_SPILL_KEEP = 8
};

struct weir_spill_block {
    struct weir_spill_block *next;
    uint32_t size;
    uint32_t capacity;
    uint32_t records;
    uint8_t data[];
};

struct weir_spill {
    struct weir_spill_block *head;
    struct weir_spill_block *tail;
    struct weir_spill_block *kept; /* drained blocks, for reuse */
    uint32_t kept_count;
    size_t records;
    size_t reserved_bytes;
};

void weir_spill_fini(struct weir_spill *spill);
struct weir_spill_block *weir_spill_grow(struct weir_spill *spill, size_t size);
void weir_spill_pop(struct weir_spill *spill);
/* Moves all of `from`'s records to the empty `to`; kept blocks stay where they are. */
void weir_spill_move(struct weir_spill *to, struct weir_spill *from);

/* Room for one record of `size` bytes, not split across blocks. NULL without memory. */
static inline uint8_t *weir_spill_append(struct weir_spill *spill, size_t size) {
    struct weir_spill_block *block = spill->tail;
    if (block == NULL || block->capacity - block->size < size) {
        block = weir_spill_grow(spill, size);
        if (block == NULL) {
            return NULL;
        }
    }
    uint8_t *at = block->data + block->size;
    block->size += (uint32_t)size;
    block->records++;
    spill->records++;
    return at;
}

static inline size_t weir_varint_bytes(uint64_t value) {
    size_t bytes = 1;
    while (value >= 0x80) {
        value >>= 7;
        bytes++;
    }
    return bytes;
}

static inline uint8_t *weir_varint_put(uint8_t *at, uint64_t value) {
    while (value >= 0x80) {
        *at++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *at++ = (uint8_t)value;
    return at;
}

/* Little-endian, as the machines we build for are (checked in image.c). */
static inline uint8_t *weir_u64_put(uint8_t *at, uint64_t value) {
    memcpy(at, &value, sizeof value);
    return at + sizeof value;
}

/* Reading hostile bytes: every take says whether it was there. */
struct weir_image_reader {
    const uint8_t *at;
    const uint8_t *end;
};

static inline bool weir_image_u8(struct weir_image_reader *reader, uint8_t *value) {
    if (reader->at == reader->end) {
        return false;
    }
    *value = *reader->at++;
    return true;
}

static inline bool weir_image_fixed(struct weir_image_reader *reader, void *to, size_t size) {
    if ((size_t)(reader->end - reader->at) < size) {
        return false;
    }
    memcpy(to, reader->at, size);
    reader->at += size;
    return true;
}

static inline bool weir_image_u64(struct weir_image_reader *reader, uint64_t *value) {
    return weir_image_fixed(reader, value, sizeof *value);
}

bool weir_image_varint(struct weir_image_reader *reader, uint64_t *value);
/* varint length, then the bytes, borrowed. */
bool weir_image_bytes(struct weir_image_reader *reader, const uint8_t **bytes, size_t *length);

/* Bytes of all images but headers: what changed, however it was cut into slices. SIZE_MAX when they
 * do not parse. */
size_t weir_images_bytes(const uint8_t *bytes, size_t length);
/* Appends the header image of a cell. */
int weir_image_put_header(struct weir_buffer *out, uint64_t shape,
                          const char *name) WEIR_MUST_CHECK;
/* Reads what follows a WEIR_IMAGE_HEADER byte and compares it with the cell that is to take it. */
int weir_image_check_header(struct weir_image_reader *reader, uint64_t shape, const char *name,
                            struct weir_error *err) WEIR_MUST_CHECK;

/* What values of that shape are made of. */
int weir_image_put_layout(struct weir_buffer *out, uint64_t shape, const char *text,
                          size_t length) WEIR_MUST_CHECK;

/* The same as weir_image_check_header where other shapes may be known: *shape is the one found. */
int weir_image_read_header(struct weir_image_reader *reader, const char *name, uint64_t *shape,
                           struct weir_error *err) WEIR_MUST_CHECK;
/* WEIR_E_VERSION, with the way out. */
int weir_image_other_shape(const char *name, uint64_t found, uint64_t shape,
                           struct weir_error *err);

/* Goes past an image whose operation has been read; false: it is damaged, or not known. */
bool weir_image_skip(struct weir_image_reader *reader, uint8_t op);

/* Takes one image, whose operation has been read; the reader stands at what follows it. */
typedef int weir_image_take(void *cell, uint8_t op, struct weir_image_reader *reader,
                            struct weir_error *err);
/* Every image there is, of which the first is a header. */
int weir_images_apply(const char *name, const uint8_t *bytes, size_t length, weir_image_take *take,
                      void *cell, struct weir_error *err) WEIR_MUST_CHECK;

/* "declaration/cell", owned; NULL without memory. */
char *weir_cell_name(const char *declaration, const char *cell);
