#pragma once
/* Canonical bytes of chosen columns: equal keys give equal bytes, whatever the encoding of the
 * column (dictionary or plain) or of the value (any NaN, -0.0). Per column, in order:
 *   0x00                              null (a key value of its own)
 *   0x01 value                        little-endian at the type's width; bool one byte; float and
 *                                     double with NaN and -0.0 made canonical; decimal 16 bytes
 *                                     unscaled (the column's scale is part of the state's shape)
 *   0x01 varint(length) bytes         string, binary
 * These bytes are persisted in state images. Nested columns are refused, but where whole rows are
 * kept (key_nested.h). One thread per struct. */
#include "batch/batch.h"
#include "batch/builder.h"
#include "state/fingerprint.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weir_key;

/* columns: indices into schema. NULL with WEIR_E_CONFIG naming a nested column. count may be 0. */
struct weir_key *weir_key_create(const struct weir_schema *schema, const int32_t *columns,
                                 int32_t count, struct weir_error *err);
/* As above for rows that are kept rather than compared: nested columns too, and every bit of
 * floats, -0.0 and NaN as they are. */
struct weir_key *weir_key_create_whole(const struct weir_schema *schema, const int32_t *columns,
                                       int32_t count, struct weir_error *err);
void weir_key_destroy(struct weir_key *key);
/* Its columns, in order; borrowed. */
struct weir_schema *weir_key_schema(const struct weir_key *key);
/* Hash of the columns' names and types, for state shapes: keys of another column are other keys. */
uint64_t weir_key_shape(const struct weir_key *key);
/* Typical bytes of one key (strings counted as 12), for estimates. */
size_t weir_key_estimate_bytes(const struct weir_key *key);

/* The keys of one batch, by position. Reused from batch to batch; buffers grow to the largest
 * batch seen and stay. */
struct weir_keys {
    uint8_t *bytes;    /* WEIR_KEY_SLACK readable bytes after the last key */
    uint32_t *offsets; /* count + 1; key i is bytes[offsets[i] .. offsets[i + 1]) */
    uint64_t *hashes;  /* after weir_keys_hash */
    struct weir_fingerprint *fingerprints; /* after weir_keys_fingerprint */
    uint8_t *any_null;                     /* 1: some column of key i is null */
    uint32_t *cursors;                     /* scratch: where the next column of key i goes */
    int32_t count;
    int32_t capacity;
    size_t bytes_capacity;
};
#define WEIR_KEY_SLACK 32

void weir_keys_init(struct weir_keys *keys);
void weir_keys_fini(struct weir_keys *keys);

/* Encodes rows sel[0..count) (sel NULL: rows 0..count). Each key is preceded by prefix_bytes of
 * room for the caller to fill before hashing. WEIR_E_NOMEM; WEIR_E_LIMIT past 1 GiB of keys. */
int weir_key_encode(const struct weir_key *key, const struct weir_batch *batch, const int32_t *sel,
                    int32_t count, uint32_t prefix_bytes, struct weir_keys *keys) WEIR_MUST_CHECK;
/* The same for columns that need not be a batch's: columns[c] for column c of the key. */
int weir_key_encode_columns(const struct weir_key *key, const struct weir_column *const *columns,
                            const int32_t *sel, int32_t count, uint32_t prefix_bytes,
                            struct weir_keys *keys) WEIR_MUST_CHECK;
void weir_keys_hash(struct weir_keys *keys, uint64_t seed);
void weir_keys_fingerprint(struct weir_keys *keys);

/* Appends the key's values to columns[0..count of the key), typed as the key's columns are.
 * WEIR_E_CORRUPT when the bytes are no such key; WEIR_E_LIMIT from a full builder. */
int weir_key_decode(const struct weir_key *key, const uint8_t *bytes, size_t length,
                    struct weir_column_builder *columns) WEIR_MUST_CHECK;
/* Bytes of the one value of a type that begins at `at`; 0 when they are cut. */
size_t weir_key_value_bytes(uint8_t type, const uint8_t *at, size_t left);

#ifdef __cplusplus
}
#endif
