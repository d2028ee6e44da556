#include "commit/ledger_format.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#define FRAME_MAGIC 0x4d465257u
#define OPENING_HASH_AT (WEIR_BLOCK - 16)

void weir_store_u32(uint8_t *at, uint32_t value) {
    value = htole32(value);
    memcpy(at, &value, sizeof value);
}

void weir_store_u64(uint8_t *at, uint64_t value) {
    value = htole64(value);
    memcpy(at, &value, sizeof value);
}

uint32_t weir_load_u32(const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return le32toh(value);
}

uint64_t weir_load_u64(const uint8_t *at) {
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return le64toh(value);
}

void weir_store_hash(uint8_t *at, struct weir_hash128 hash) {
    weir_store_u64(at, hash.low);
    weir_store_u64(at + 8, hash.high);
}

struct weir_hash128 weir_load_hash(const uint8_t *at) {
    return (struct weir_hash128){weir_load_u64(at), weir_load_u64(at + 8)};
}

bool weir_hash_equal(struct weir_hash128 a, struct weir_hash128 b) {
    return a.low == b.low && a.high == b.high;
}

struct weir_hash128 weir_hash_bytes(const void *bytes, size_t size) {
    XXH128_hash_t hash = XXH3_128bits(bytes, size);
    return (struct weir_hash128){hash.low64, hash.high64};
}

void weir_opening_encode(const struct weir_opening *opening, const char *magic,
                         uint8_t block[WEIR_BLOCK]) {
    memset(block, 0, WEIR_BLOCK);
    memcpy(block, magic, 8);
    weir_store_u32(block + 8, opening->format);
    weir_store_u32(block + 12, opening->min_reader);
    weir_store_u64(block + 16, opening->features);
    memcpy(block + 24, opening->lineage, WEIR_LEDGER_ID_BYTES);
    memcpy(block + 40, opening->log, WEIR_LEDGER_ID_BYTES);
    weir_store_u32(block + 56, opening->shard_count);
    weir_store_u64(block + 64, opening->number);
    weir_store_u64(block + 72, (uint64_t)opening->time_us);
    weir_store_hash(block + 80, opening->previous);
    weir_store_hash(block + OPENING_HASH_AT, weir_hash_bytes(block, OPENING_HASH_AT));
}

int weir_opening_decode(const uint8_t *block, size_t size, const char *magic, const char *path,
                        struct weir_opening *out, struct weir_error *err) {
    if (size < WEIR_BLOCK || memcmp(block, magic, 8) != 0) {
        return weir_error_set(err, WEIR_E_CORRUPT, "%s: does not open with %s", path, magic);
    }
    if (!weir_hash_equal(weir_load_hash(block + OPENING_HASH_AT),
                         weir_hash_bytes(block, OPENING_HASH_AT))) {
        return weir_error_set(err, WEIR_E_CORRUPT, "%s: its first 4096 bytes are damaged", path);
    }
    *out = (struct weir_opening){
        .format = weir_load_u32(block + 8),
        .min_reader = weir_load_u32(block + 12),
        .features = weir_load_u64(block + 16),
        .shard_count = weir_load_u32(block + 56),
        .number = weir_load_u64(block + 64),
        .time_us = (int64_t)weir_load_u64(block + 72),
        .previous = weir_load_hash(block + 80),
    };
    memcpy(out->lineage, block + 24, WEIR_LEDGER_ID_BYTES);
    memcpy(out->log, block + 40, WEIR_LEDGER_ID_BYTES);
    if (out->min_reader > WEIR_LEDGER_FORMAT || out->features != 0) {
        return weir_error_set(err, WEIR_E_VERSION,
                              "%s: format %u (features %llx) needs a reader of format %u; this "
                              "binary reads format %u: run the newer binary that wrote it",
                              path, out->format, (unsigned long long)out->features, out->min_reader,
                              WEIR_LEDGER_FORMAT);
    }
    return WEIR_OK;
}

void weir_frame_encode(const struct weir_frame_header *header,
                       uint8_t bytes[WEIR_FRAME_HEADER_BYTES]) {
    memset(bytes, 0, WEIR_FRAME_HEADER_BYTES);
    weir_store_u32(bytes, FRAME_MAGIC);
    weir_store_u32(bytes + 4, header->flags);
    weir_store_u64(bytes + 8, header->number);
    weir_store_u64(bytes + 16, header->size);
    weir_store_u64(bytes + 24, (uint64_t)header->time_us);
    weir_store_u64(bytes + 32, header->nonce);
    memcpy(bytes + 40, header->log, WEIR_LEDGER_ID_BYTES);
    weir_store_hash(bytes + 56, header->previous);
}

void weir_frame_set_hash(uint8_t bytes[WEIR_FRAME_HEADER_BYTES], struct weir_hash128 hash) {
    weir_store_hash(bytes + WEIR_FRAME_HASHED_BYTES, hash);
}

bool weir_frame_decode(const uint8_t bytes[WEIR_FRAME_HEADER_BYTES],
                       struct weir_frame_header *out) {
    if (weir_load_u32(bytes) != FRAME_MAGIC) {
        return false;
    }
    *out = (struct weir_frame_header){
        .flags = weir_load_u32(bytes + 4),
        .number = weir_load_u64(bytes + 8),
        .size = weir_load_u64(bytes + 16),
        .time_us = (int64_t)weir_load_u64(bytes + 24),
        .nonce = weir_load_u64(bytes + 32),
        .previous = weir_load_hash(bytes + 56),
        .hash = weir_load_hash(bytes + WEIR_FRAME_HASHED_BYTES),
    };
    memcpy(out->log, bytes + 40, WEIR_LEDGER_ID_BYTES);
    return true;
}

uint64_t weir_frame_stored_bytes(uint64_t payload_bytes) {
    uint64_t bytes = WEIR_FRAME_HEADER_BYTES + payload_bytes;
    return (bytes + WEIR_BLOCK - 1) / WEIR_BLOCK * WEIR_BLOCK;
}

void weir_id_format(const uint8_t id[WEIR_LEDGER_ID_BYTES], char text[33]) {
    for (int i = 0; i < WEIR_LEDGER_ID_BYTES; i++) {
        snprintf(text + 2 * i, 3, "%02x", id[i]);
    }
}
