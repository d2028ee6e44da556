#pragma once
/* Growable byte buffer that cannot be made without a cap (curl's dynbuf idea): full is an error
 * the caller sees, never silent growth. One thread at a time. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weir_buffer {
    uint8_t *data; /* owned: a weir_block; NULL until first use */
    size_t size;
    size_t capacity;
    size_t limit; /* bytes */
};

void weir_buffer_init(struct weir_buffer *buffer, size_t limit_bytes);
void weir_buffer_fini(struct weir_buffer *buffer);
/* Of what held a secret: nothing of it stays in memory. */
void weir_buffer_wipe(struct weir_buffer *buffer);
/* Room for `extra` more bytes. WEIR_E_LIMIT past the cap, WEIR_E_NOMEM. */
int weir_buffer_reserve(struct weir_buffer *buffer, size_t extra) WEIR_MUST_CHECK;
int weir_buffer_printf(struct weir_buffer *buffer, const char *format, ...) WEIR_PRINTF(2, 3);

static inline void weir_buffer_clear(struct weir_buffer *buffer) {
    buffer->size = 0;
}

static inline WEIR_MUST_CHECK int weir_buffer_append(struct weir_buffer *buffer, const void *bytes,
                                                     size_t length) {
    if (buffer->capacity - buffer->size < length) {
        int rc = weir_buffer_reserve(buffer, length);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    if (length > 0) {
        memcpy(buffer->data + buffer->size, bytes, length);
    }
    buffer->size += length;
    return WEIR_OK;
}

static inline WEIR_MUST_CHECK int weir_buffer_append_text(struct weir_buffer *buffer,
                                                          const char *text) {
    return weir_buffer_append(buffer, text, strlen(text));
}

/* The text as a JSON string, quotes included. It is taken to be UTF-8. */
int weir_buffer_append_json(struct weir_buffer *buffer, const char *text,
                            size_t length) WEIR_MUST_CHECK;
/* NUL-terminates (the NUL is not counted in size) and returns the text; NULL when that fails. */
const char *weir_buffer_text(struct weir_buffer *buffer);

#ifdef __cplusplus
}
#endif
