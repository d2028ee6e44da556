#include "decode/reject.h"

#include <string.h>

enum { REJECTS_START = 64, BYTES_START = 16 * 1024, BYTES_MAX = 256 << 20 };

struct weir_reject_batch *weir_reject_batch_create(struct weir_pool *pool) {
    struct weir_reject_batch *rejects = weir_pool_take(pool, sizeof(*rejects));
    if (rejects == NULL) {
        return NULL;
    }
    memset(rejects, 0, sizeof(*rejects));
    rejects->pool = pool;
    rejects->rejects = weir_pool_take(pool, REJECTS_START * sizeof(struct weir_reject));
    rejects->bytes = weir_pool_take(pool, BYTES_START);
    if (rejects->rejects == NULL || rejects->bytes == NULL) {
        weir_reject_batch_destroy(rejects);
        return NULL;
    }
    rejects->capacity = REJECTS_START;
    rejects->bytes_capacity = BYTES_START;
    return rejects;
}

void weir_reject_batch_destroy(struct weir_reject_batch *rejects) {
    if (rejects != NULL) {
        weir_pool_give(rejects->pool, rejects->rejects);
        weir_pool_give(rejects->pool, rejects->bytes);
        weir_pool_give(rejects->pool, rejects);
    }
}

/* A wider buffer with the same content; NULL at the cap. */
static void *widen(struct weir_pool *pool, void *old, size_t used, size_t size) {
    void *wider = weir_pool_take(pool, size);
    if (wider != NULL) {
        memcpy(wider, old, used);
        weir_pool_give(pool, old);
    }
    return wider;
}

static int make_slot(struct weir_reject_batch *rejects) {
    if (rejects->count == rejects->capacity) {
        struct weir_reject *wider =
            widen(rejects->pool, rejects->rejects, (size_t)rejects->count * sizeof(*wider),
                  (size_t)rejects->capacity * 2 * sizeof(*wider));
        if (wider == NULL) {
            return WEIR_E_LIMIT;
        }
        rejects->rejects = wider;
        rejects->capacity *= 2;
    }
    return WEIR_OK;
}

static int make_room(struct weir_reject_batch *rejects, size_t extra) {
    size_t need = rejects->bytes_size + extra;
    if (need > rejects->bytes_capacity) {
        size_t capacity = rejects->bytes_capacity;
        while (capacity < need) {
            capacity *= 2;
        }
        char *wider = capacity > BYTES_MAX
                          ? NULL
                          : widen(rejects->pool, rejects->bytes, rejects->bytes_size, capacity);
        if (wider == NULL) {
            return WEIR_E_LIMIT;
        }
        rejects->bytes = wider;
        rejects->bytes_capacity = (uint32_t)capacity;
    }
    return WEIR_OK;
}

static uint32_t put(struct weir_reject_batch *rejects, const void *bytes, size_t length) {
    uint32_t at = rejects->bytes_size;
    memcpy(rejects->bytes + at, bytes, length);
    rejects->bytes_size += (uint32_t)length;
    return at;
}

int weir_reject_batch_add(struct weir_reject_batch *rejects, int32_t before_row, int64_t offset,
                          const void *raw, size_t raw_bytes, const char *reason, const char *field,
                          int32_t position) {
    size_t kept = raw_bytes < WEIR_REJECT_RAW_BYTES_MAX ? raw_bytes : WEIR_REJECT_RAW_BYTES_MAX;
    size_t reason_bytes = strlen(reason) + 1;
    size_t field_bytes = strlen(field) + 1;
    int rc = make_slot(rejects);
    if (rc == WEIR_OK) {
        rc = make_room(rejects, kept + reason_bytes + field_bytes);
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    struct weir_reject *reject = &rejects->rejects[rejects->count++];
    reject->offset = offset;
    reject->frame_bytes = (int64_t)raw_bytes;
    reject->before_row = before_row;
    reject->raw_bytes = (int32_t)kept;
    reject->position = position;
    reject->raw_at = put(rejects, raw, kept);
    reject->reason_at = put(rejects, reason, reason_bytes);
    reject->field_at = put(rejects, field, field_bytes);
    return WEIR_OK;
}

int weir_reject_batch_set_topic(struct weir_reject_batch *rejects, const char *topic) {
    size_t bytes = strlen(topic) + 1;
    int rc = make_room(rejects, bytes);
    if (rc == WEIR_OK) {
        rejects->topic_at = put(rejects, topic, bytes);
        rejects->has_topic = true;
    }
    return rc;
}
