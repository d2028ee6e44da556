#pragma once
/* Object container files (Avro 1.11 specification, "Object Container Files") as a stream of text
 * that the avro decoder cuts: the file's header as it is, then for each datum, little-endian,
 *
 *   u8 0 · u32 bytes of the datum · the datum
 *   u8 1 · u32 bytes that follow · u16 bytes of the reason · the reason · what could not be read
 *
 * A block that cannot be read gives one of the second kind, and reading goes on behind the next
 * sync marker. Codecs: null, deflate, snappy, zstandard. One thread at a time. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/buffer.h"
#include "core/error.h"
#include "decode/avro/avro_type.h"
#include "decode/decoder.h"

enum {
    AVRO_CONTAINER_DATUM = 0,
    AVRO_CONTAINER_BAD = 1,
    AVRO_CONTAINER_HEAD_BYTES = 5,
    AVRO_CONTAINER_SYNC_BYTES = 16,
};

struct avro_container;

struct avro_container *avro_container_create(void); /* NULL without memory */
void avro_container_destroy(struct avro_container *container);

/* Takes what is whole in `raw` (a header, a block) and appends its text. *used 0: it needs more. An
 * error (WEIR_E_CORRUPT) when this is no container, or one nobody here can read. */
int avro_container_read(struct avro_container *container, const uint8_t *raw, size_t size,
                        size_t *used, struct weir_buffer *text,
                        struct weir_error *err) WEIR_MUST_CHECK;
/* As read, where it said that it needs more and the file has none now: bytes with a marker in them
 * are no beginning of a block, whatever their size said. */
int avro_container_stuck(struct avro_container *container, const uint8_t *raw, size_t size,
                         size_t *used, struct weir_buffer *text,
                         struct weir_error *err) WEIR_MUST_CHECK;

/* Cuts that text behind its header into frames, one a datum or what could not be read. */
int avro_container_split(struct weir_split *work, struct weir_error *err) WEIR_MUST_CHECK;
/* What such a frame holds: [*begin, *end) of the block. True: it could not be read, `reason` (of
 * `size` bytes, with its end) says why. */
bool avro_container_datum(const uint8_t *block, const struct weir_frame *frame,
                          const uint8_t **begin, const uint8_t **end, char *reason, size_t size);

/* The header at `bytes`: its length and its schema. *length 0: not whole yet. */
int avro_container_header(const uint8_t *bytes, size_t size, size_t *length, const uint8_t **schema,
                          size_t *schema_bytes, struct weir_error *err) WEIR_MUST_CHECK;
