#include "core/buffer.h"

#include <stdio.h>

#include "core/block.h"

void weir_buffer_init(struct weir_buffer *buffer, size_t limit_bytes) {
    buffer->data = NULL;
    buffer->size = 0;
    buffer->capacity = 0;
    buffer->limit = limit_bytes;
}

void weir_buffer_fini(struct weir_buffer *buffer) {
    weir_block_give(buffer->data);
    buffer->data = NULL;
    buffer->size = 0;
    buffer->capacity = 0;
}

void weir_buffer_wipe(struct weir_buffer *buffer) {
    if (buffer->data != NULL) {
        explicit_bzero(buffer->data, buffer->capacity);
    }
    weir_buffer_fini(buffer);
}

int weir_buffer_reserve(struct weir_buffer *buffer, size_t extra) {
    if (extra > buffer->limit || buffer->size > buffer->limit - extra) {
        return WEIR_E_LIMIT;
    }
    size_t need = buffer->size + extra;
    if (need <= buffer->capacity) {
        return WEIR_OK;
    }
    size_t capacity = buffer->capacity < 256 ? 256 : buffer->capacity * 2;
    if (capacity < need) {
        capacity = need;
    }
    if (capacity > buffer->limit) {
        capacity = buffer->limit;
    }
    uint8_t *data = weir_block_regrow(buffer->data, capacity);
    if (data == NULL) {
        return WEIR_E_NOMEM;
    }
    size_t usable = weir_block_usable(data);
    buffer->data = data;
    buffer->capacity = usable < buffer->limit ? usable : buffer->limit;
    return WEIR_OK;
}

int weir_buffer_printf(struct weir_buffer *buffer, const char *format, ...) {
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    int rc = length < 0 ? WEIR_E_BUG : weir_buffer_reserve(buffer, (size_t)length + 1);
    if (rc == WEIR_OK) {
        vsnprintf((char *)buffer->data + buffer->size, (size_t)length + 1, format, again);
        buffer->size += (size_t)length;
    }
    va_end(again);
    return rc;
}

int weir_buffer_append_json(struct weir_buffer *buffer, const char *text, size_t length) {
    int rc = weir_buffer_append(buffer, "\"", 1);
    for (size_t i = 0; rc == WEIR_OK && i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\') {
            char escape[2] = {'\\', (char)c};
            rc = weir_buffer_append(buffer, escape, 2);
        } else if (c < 0x20) {
            rc = weir_buffer_printf(buffer, "\\u%04x", c);
        } else {
            rc = weir_buffer_append(buffer, &text[i], 1);
        }
    }
    return rc == WEIR_OK ? weir_buffer_append(buffer, "\"", 1) : rc;
}

const char *weir_buffer_text(struct weir_buffer *buffer) {
    if (weir_buffer_reserve(buffer, 1) != WEIR_OK) {
        return NULL;
    }
    buffer->data[buffer->size] = '\0';
    return (const char *)buffer->data;
}
