#pragma once
/* The bytes of lineage files, segment headers and frames (layout: ledger.h). Private to the room.
 */
#include <stdbool.h>
#include <stdint.h>

#include "commit/ledger.h"

#define WEIR_FRAME_HEADER_BYTES 88u
#define WEIR_BLOCK WEIR_LEDGER_BLOCK_BYTES
#define WEIR_MAGIC_LINEAGE "WEIRLINE"
#define WEIR_MAGIC_SEGMENT "WEIRSEGM"
#define WEIR_MAGIC_SNAPSHOT "WEIRSNAP"

/* The 4096-byte opening block that lineage, segments and snapshots share. */
struct weir_opening {
    uint32_t format;
    uint32_t min_reader;
    uint64_t features;
    uint8_t lineage[WEIR_LEDGER_ID_BYTES];
    uint8_t log[WEIR_LEDGER_ID_BYTES];
    uint32_t shard_count;
    uint64_t number; /* segment: first record; snapshot: begin */
    int64_t time_us;
    struct weir_hash128 previous;
};

void weir_opening_encode(const struct weir_opening *opening, const char *magic,
                         uint8_t block[WEIR_BLOCK]);
/* WEIR_E_CORRUPT: not one, or damaged; WEIR_E_VERSION: needs a newer reader. */
int weir_opening_decode(const uint8_t *block, size_t size, const char *magic, const char *path,
                        struct weir_opening *out, struct weir_error *err);

struct weir_frame_header {
    uint32_t flags;
    uint64_t number;
    uint64_t size;
    int64_t time_us;
    uint64_t nonce;
    uint8_t log[WEIR_LEDGER_ID_BYTES];
    struct weir_hash128 previous;
    struct weir_hash128 hash;
};

/* All but the hash, which covers bytes 0..71 of this and the payload. */
void weir_frame_encode(const struct weir_frame_header *header,
                       uint8_t bytes[WEIR_FRAME_HEADER_BYTES]);
void weir_frame_set_hash(uint8_t bytes[WEIR_FRAME_HEADER_BYTES], struct weir_hash128 hash);
#define WEIR_FRAME_HASHED_BYTES 72u
/* False when the magic is not there. */
bool weir_frame_decode(const uint8_t bytes[WEIR_FRAME_HEADER_BYTES], struct weir_frame_header *out);
uint64_t weir_frame_stored_bytes(uint64_t payload_bytes);

void weir_store_u32(uint8_t *at, uint32_t value);
void weir_store_u64(uint8_t *at, uint64_t value);
uint32_t weir_load_u32(const uint8_t *at);
uint64_t weir_load_u64(const uint8_t *at);
void weir_store_hash(uint8_t *at, struct weir_hash128 hash);
struct weir_hash128 weir_load_hash(const uint8_t *at);
bool weir_hash_equal(struct weir_hash128 a, struct weir_hash128 b);
struct weir_hash128 weir_hash_bytes(const void *bytes, size_t size);
