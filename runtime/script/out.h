#pragma once
/* Variable-width output columns of map loops: string and binary values appended row by row, in
 * ascending row order, with gaps left null; lists, structs and maps likewise, part by part. One
 * weir_out serves batch after batch; its working buffers keep their size, so steady state does not
 * malloc. Loop thread only. The two functions loops call themselves, weir_out_set_bytes and
 * weir_out_set_null, are declared in abi/call.h. */
#include "batch/batch.h"
#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

/* type: WEIR_TYPE_STRING (values must be valid UTF-8: WEIR_E_DATA) or WEIR_TYPE_BINARY.
 * limit_bytes caps the bytes of one batch. NULL without memory. */
struct weir_out *weir_out_create(uint8_t type, size_t limit_bytes);
/* Of a list, struct or map field; limit_bytes caps each column of its tree. */
struct weir_out *weir_out_create_nested(const struct weir_field *field, size_t limit_bytes);
void weir_out_destroy(struct weir_out *out);

/* Starts a batch of `rows` rows, all null. */
int weir_out_begin(struct weir_out *out, int32_t rows) WEIR_MUST_CHECK;
/* Undo everything from row `row` on: the loop threw there and the row goes elsewhere. */
void weir_out_rewind(struct weir_out *out, int32_t row);
/* Writes the finished column (length rows, exact null_count) in buffers of `batch`. */
int weir_out_finish(struct weir_out *out, struct weir_batch *batch,
                    struct weir_column *column) WEIR_MUST_CHECK;
bool weir_out_is_utf8(const char *bytes, int64_t length);
/* Bytes row `row` holds so far, NULL when null. Borrowed until the next call. */
const char *weir_out_get(const struct weir_out *out, int32_t row, int32_t *length);

#ifdef __cplusplus
}
#endif
