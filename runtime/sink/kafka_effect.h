#pragma once
/* What a record of the ledger holds for a Kafka sink: the encoded messages of one epoch and how to
 * reach their topic, so that whoever finds the record can send them (docs/formats/ledger.md).
 *
 *   0 u32 magic "WKFE" · 4 u16 format · 6 u16 flags · 8 u32 messages · 12 u32 options bytes ·
 *   16 the sink's options as JSON (references to secrets, never secrets) · frames
 *
 *   frame: u32 key bytes · u32 value bytes (each 2^32 - 1: null) ·
 *          TIMES: i64 milliseconds since 1970 ·
 *          HEADERS: u16 count · per header u16 name bytes, u32 value bytes (2^32 - 1: null), name,
 *          value · key · value
 *
 * Little-endian, nothing aligned. */
#include <stdbool.h>
#include <stdint.h>

#include "core/buffer.h"
#include "core/error.h"

#define KAFKA_EFFECT_MAGIC UINT32_C(0x45464b57)
#define KAFKA_EFFECT_FORMAT 1
#define KAFKA_EFFECT_NULL UINT32_MAX
#define KAFKA_EFFECT_FIXED_BYTES 16
#define KAFKA_EFFECT_HEADERS_MAX 64

enum kafka_effect_flags { KAFKA_EFFECT_TIMES = 1, KAFKA_EFFECT_HEADERS = 2 };

struct kafka_effect {
    uint16_t flags;
    uint32_t messages;
    const char *options;
    uint32_t options_size;
    const uint8_t *at; /* the next frame */
    const uint8_t *end;
};

struct kafka_frame {
    const uint8_t *key;   /* NULL: none */
    const uint8_t *value; /* NULL: tombstone */
    uint32_t key_size;
    uint32_t value_size;
    int64_t time_ms;        /* 0: none */
    const uint8_t *headers; /* first of header_count */
    uint16_t header_count;
};

/* Appends the fixed part; the count of messages is set at the end. */
int kafka_effect_begin(struct weir_buffer *out, uint16_t flags,
                       const char *options) WEIR_MUST_CHECK;
/* `at`: where begin was called. */
void kafka_effect_finish(struct weir_buffer *out, size_t at, uint32_t messages);

/* Checks the fixed part; `bytes` are borrowed. WEIR_E_CORRUPT, WEIR_E_VERSION. */
int kafka_effect_open(struct kafka_effect *effect, const void *bytes, size_t size,
                      struct weir_error *err) WEIR_MUST_CHECK;
/* False at the end; *rc is WEIR_E_CORRUPT where the bytes break off. */
bool kafka_effect_next(struct kafka_effect *effect, struct kafka_frame *out, int *rc);

struct kafka_header {
    const char *name; /* not terminated */
    uint16_t name_size;
    uint32_t value_size;
    const uint8_t *value; /* NULL: null */
};
/* Moves *at behind the header; the frame was checked by kafka_effect_next. */
struct kafka_header kafka_effect_header(const uint8_t **at);
