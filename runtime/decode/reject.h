#pragma once
/* Frames that did not decode, kept beside the rows of a batch in the order they came. Memory comes
 * from the pool and is given back with the batch; a source has at most one in the making. */
#include <stdbool.h>
#include <stdint.h>

#include "core/error.h"
#include "core/pool.h"

#ifdef __cplusplus
extern "C" {
#endif

#define WEIR_REJECT_RAW_BYTES_MAX (1 << 20) /* of one frame kept; the reason says when cut */

struct weir_reject {
    int64_t offset;      /* position of the frame in its partition, as in `_offset` */
    int64_t frame_bytes; /* whole length, also where raw is cut */
    int32_t before_row;  /* rows of the batch that came before it */
    int32_t raw_bytes;
    uint32_t raw_at;    /* in `bytes` */
    uint32_t reason_at; /* in `bytes`, NUL-terminated UTF-8 */
    uint32_t field_at;  /* in `bytes`, NUL-terminated path of the field, "" for the frame itself */
    int32_t position;   /* byte in the frame where it went wrong, -1 unknown */
};

struct weir_reject_batch {
    struct weir_pool *pool;
    struct weir_reject *rejects; /* pool buffer */
    char *bytes;                 /* pool buffer */
    int32_t count;
    int32_t capacity;
    uint32_t bytes_size;
    uint32_t bytes_capacity;
    uint32_t topic_at; /* in `bytes`, NUL-terminated; meaningful when has_topic */
    bool has_topic;
};

/* NULL at the pool's cap. */
struct weir_reject_batch *weir_reject_batch_create(struct weir_pool *pool);
void weir_reject_batch_destroy(struct weir_reject_batch *rejects); /* NULL is fine */
/* WEIR_E_LIMIT at the pool's cap; nothing is added then. */
int weir_reject_batch_add(struct weir_reject_batch *rejects, int32_t before_row, int64_t offset,
                          const void *raw, size_t raw_bytes, const char *reason, const char *field,
                          int32_t position) WEIR_MUST_CHECK;

/* Where they all came from, the `_topic` of the batch's rows. WEIR_E_LIMIT at the pool's cap. */
int weir_reject_batch_set_topic(struct weir_reject_batch *rejects,
                                const char *topic) WEIR_MUST_CHECK;

/* NULL: not said; the source's name. */
static inline const char *weir_reject_topic(const struct weir_reject_batch *rejects) {
    return rejects->has_topic ? rejects->bytes + rejects->topic_at : NULL;
}
static inline const void *weir_reject_raw(const struct weir_reject_batch *rejects, int32_t i) {
    return rejects->bytes + rejects->rejects[i].raw_at;
}
static inline const char *weir_reject_reason(const struct weir_reject_batch *rejects, int32_t i) {
    return rejects->bytes + rejects->rejects[i].reason_at;
}
static inline const char *weir_reject_field(const struct weir_reject_batch *rejects, int32_t i) {
    return rejects->bytes + rejects->rejects[i].field_at;
}

#ifdef __cplusplus
}
#endif
