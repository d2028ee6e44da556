#pragma once
/* Private to the room: values of list, struct and map columns that map loops build part by part,
 * innermost first. A node is one column of the type's tree; what was begun and not ended is
 * forgotten by the next cut, so a loop may throw anywhere. Loop thread only. The calls loops make
 * themselves are declared in abi/call.h. */
#include "batch/batch.h"
#include "core/error.h"

/* limit_bytes caps the bytes of each node's buffers. NULL without memory. */
struct weir_nested *weir_nested_create(const struct weir_field *field, size_t limit_bytes);
void weir_nested_destroy(struct weir_nested *node);
int64_t weir_nested_length(const struct weir_nested *node);
/* Forgets values from number `length` on, and every unfinished one. */
void weir_nested_cut(struct weir_nested *node, int64_t length);
/* Nulls up to `length`. */
int weir_nested_pad(struct weir_nested *node, int64_t length) WEIR_MUST_CHECK;
/* The column so far, in buffers of `batch`. */
int weir_nested_finish(const struct weir_nested *node, struct weir_batch *batch,
                       struct weir_column *column) WEIR_MUST_CHECK;
