#include "sink/kafka_effect.h"

#include <string.h>

int kafka_effect_begin(struct weir_buffer *out, uint16_t flags, const char *options) {
    uint8_t fixed[KAFKA_EFFECT_FIXED_BYTES] = {0};
    uint32_t magic = KAFKA_EFFECT_MAGIC;
    uint16_t format = KAFKA_EFFECT_FORMAT;
    uint32_t options_size = (uint32_t)strlen(options);
    memcpy(fixed, &magic, 4);
    memcpy(fixed + 4, &format, 2);
    memcpy(fixed + 6, &flags, 2);
    memcpy(fixed + 12, &options_size, 4);
    int rc = weir_buffer_append(out, fixed, sizeof(fixed));
    return rc == WEIR_OK ? weir_buffer_append(out, options, options_size) : rc;
}

void kafka_effect_finish(struct weir_buffer *out, size_t at, uint32_t messages) {
    memcpy(out->data + at + 8, &messages, 4);
}

int kafka_effect_open(struct kafka_effect *effect, const void *bytes, size_t size,
                      struct weir_error *err) {
    const uint8_t *at = bytes;
    uint32_t magic = 0;
    uint16_t format = 0;
    memset(effect, 0, sizeof(*effect));
    if (size >= KAFKA_EFFECT_FIXED_BYTES) {
        memcpy(&magic, at, 4);
        memcpy(&format, at + 4, 2);
        memcpy(&effect->flags, at + 6, 2);
        memcpy(&effect->messages, at + 8, 4);
        memcpy(&effect->options_size, at + 12, 4);
    }
    if (magic != KAFKA_EFFECT_MAGIC || effect->options_size > size - KAFKA_EFFECT_FIXED_BYTES) {
        return weir_error_set(err, WEIR_E_CORRUPT, "the ledger's messages for Kafka are damaged");
    }
    if (format > KAFKA_EFFECT_FORMAT ||
        (effect->flags & ~(KAFKA_EFFECT_TIMES | KAFKA_EFFECT_HEADERS)) != 0) {
        return weir_error_set(err, WEIR_E_VERSION,
                              "the ledger's messages for Kafka are of a newer format; start the "
                              "newer version");
    }
    effect->options = (const char *)at + KAFKA_EFFECT_FIXED_BYTES;
    effect->at = at + KAFKA_EFFECT_FIXED_BYTES + effect->options_size;
    effect->end = at + size;
    return WEIR_OK;
}

struct kafka_header kafka_effect_header(const uint8_t **at) {
    struct kafka_header header;
    memcpy(&header.name_size, *at, 2);
    memcpy(&header.value_size, *at + 2, 4);
    header.name = (const char *)*at + 6;
    header.value = NULL;
    *at += 6 + header.name_size;
    if (header.value_size != KAFKA_EFFECT_NULL) {
        header.value = *at;
        *at += header.value_size;
    }
    return header;
}

static bool skip(const uint8_t **at, const uint8_t *end, uint64_t bytes) {
    if ((uint64_t)(end - *at) < bytes) {
        return false;
    }
    *at += bytes;
    return true;
}

static bool check_headers(const uint8_t **at, const uint8_t *end, struct kafka_frame *out) {
    const uint8_t *count = *at;
    if (!skip(at, end, 2)) {
        return false;
    }
    memcpy(&out->header_count, count, 2);
    out->headers = *at;
    for (uint16_t i = 0; i < out->header_count; i++) {
        const uint8_t *fixed = *at;
        uint16_t name_size;
        uint32_t value_size;
        if (!skip(at, end, 6)) {
            return false;
        }
        memcpy(&name_size, fixed, 2);
        memcpy(&value_size, fixed + 2, 4);
        uint64_t bytes = value_size == KAFKA_EFFECT_NULL ? 0 : value_size;
        if (!skip(at, end, name_size + bytes)) {
            return false;
        }
    }
    return true;
}

bool kafka_effect_next(struct kafka_effect *effect, struct kafka_frame *out, int *rc) {
    const uint8_t *at = effect->at;
    const uint8_t *end = effect->end;
    *rc = WEIR_OK;
    if (at == end) {
        return false;
    }
    *rc = WEIR_E_CORRUPT;
    if (end - at < 8) {
        return false;
    }
    memset(out, 0, sizeof(*out));
    memcpy(&out->key_size, at, 4);
    memcpy(&out->value_size, at + 4, 4);
    at += 8;
    if ((effect->flags & KAFKA_EFFECT_TIMES) != 0) {
        if (end - at < 8) {
            return false;
        }
        memcpy(&out->time_ms, at, 8);
        at += 8;
    }
    if ((effect->flags & KAFKA_EFFECT_HEADERS) != 0 && !check_headers(&at, end, out)) {
        return false;
    }
    if (out->key_size != KAFKA_EFFECT_NULL) {
        out->key = at;
        if (!skip(&at, end, out->key_size)) {
            return false;
        }
    } else {
        out->key_size = 0;
    }
    if (out->value_size != KAFKA_EFFECT_NULL) {
        out->value = at;
        if (!skip(&at, end, out->value_size)) {
            return false;
        }
    } else {
        out->value_size = 0;
    }
    /* The bytes lie long in memory and only lengths are read: ask for the frame after the next one,
     * if it lies as far behind as this one does before it. */
    const uint8_t *ahead = at + 2 * (at - effect->at);
    __builtin_prefetch(ahead - 64);
    __builtin_prefetch(ahead);
    __builtin_prefetch(ahead + 64);
    effect->at = at;
    *rc = WEIR_OK;
    return true;
}
