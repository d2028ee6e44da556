#pragma once
/* What decoders by a schema have in common: the schema compiled into a field plan, rows finished or
 * undone whole, rejects. Private to the room. */
#include "decode/avsc.h"
#include "decode/decoder.h"
#include "decode/json/json_read.h"

/* A decoder's schema and how its values are read. Zeroed, then loaded, then settled. */
struct decode_plan {
    struct weir_avsc avsc;      /* zero without a schema file */
    struct weir_schema *schema; /* the user's columns */
    struct json_record record;  /* those read from frames: the first of `schema` */
    struct json_reader reader;
};

/* Reads the .avsc file at `path`. */
int decode_plan_load(struct decode_plan *plan, const char *path,
                     struct weir_error *err) WEIR_MUST_CHECK;
/* Takes the columns of the file or those given (which must be the same), of which the first `count`
 * (-1: all) are read from frames, and reads every default once, so that one that does not fit is
 * found at start. `kind` for messages. */
int decode_plan_settle(struct decode_plan *plan, const char *kind, struct weir_schema *given,
                       int32_t count, struct weir_error *err) WEIR_MUST_CHECK;
void decode_plan_fini(struct decode_plan *plan);

/* Keeps the frame with its reason; ", at byte N" is added when position is not negative. */
int decode_reject(struct weir_batch_builder *builder, struct weir_reject_batch **rejects,
                  const uint8_t *block, const struct weir_frame *frame, const char *field,
                  const char *reason, int64_t position) WEIR_MUST_CHECK;

/* The user's columns (`user` of them) have their values: fills the decoder's meta columns. */
int decode_finish_row(struct weir_batch_builder *builder, int32_t user, int64_t offset,
                      const struct weir_buffer *rescued) WEIR_MUST_CHECK;

/* Bytes of the frames decoded so far count against the batch, so that long frames give short ones.
 */
static inline bool decode_is_full(const struct weir_batch_builder *builder, size_t bytes) {
    return builder->rows >= builder->rows_max || bytes >= builder->bytes_max;
}

/* What is wrong with a frame: in which field of the row, why, at which byte (-1: not told). */
struct decode_fault {
    const char *field;
    const char *reason;
    int64_t at;
};

/* Appends one frame's row and finishes it, or appends none where none is meant. WEIR_E_DATA: *fault
 * says what is wrong, and `frame` what is kept of it. */
typedef int (*decode_one)(void *decoder, const uint8_t *block, struct weir_frame *frame,
                          struct weir_batch_builder *builder, struct decode_fault *fault);

/* Frame by frame until the batch is full; one that is wrong leaves a reject and no other trace.
 * Inlined into its callers, and `one` into it. */
static inline int decode_frames(void *decoder, decode_one one, const uint8_t *block,
                                const struct weir_frame *frames, int32_t count,
                                struct weir_batch_builder *builder,
                                struct weir_reject_batch **rejects, int32_t *consumed) {
    size_t bytes = 0;
    int rc = WEIR_OK;
    int32_t i = 0;
    for (; i < count && !decode_is_full(builder, bytes); i++) {
        struct weir_frame frame = frames[i];
        struct decode_fault fault = {"", "", -1};
        rc = one(decoder, block, &frame, builder, &fault);
        if (rc != WEIR_OK) {
            weir_batch_builder_undo_row(builder);
        }
        if (rc == WEIR_E_DATA) {
            rc =
                decode_reject(builder, rejects, block, &frame, fault.field, fault.reason, fault.at);
        }
        if (rc != WEIR_OK) {
            break;
        }
        bytes += frames[i].length;
    }
    *consumed = i;
    return rc;
}

/* A field no column is for, as a member of the JSON object in `rescued` (closed by the caller). */
int decode_rescue(struct weir_buffer *rescued, const void *name, size_t name_length,
                  const void *text, size_t length) WEIR_MUST_CHECK;
