#pragma once
/* The keys of one line that no field plan knows (unknown fields, map keys), to find one that comes
 * twice in its object. Memory is kept from line to line. Private to the JSON decoder. */
#include <stdbool.h>

#include "core/buffer.h"

struct json_keys {
    struct weir_buffer entries; /* struct json_key */
    struct weir_buffer text;
    uint32_t *slots; /* entry + 1 */
    uint32_t slot_count;
    uint64_t seed;
};

void json_keys_init(struct json_keys *keys);
void json_keys_fini(struct json_keys *keys);
/* Forgets all. Costs what was added. */
void json_keys_clear(struct json_keys *keys);
/* *twice: object number `object` already had this key. */
int json_keys_add(struct json_keys *keys, uint32_t object, const uint8_t *key, size_t length,
                  bool *twice) WEIR_MUST_CHECK;
