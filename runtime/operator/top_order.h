#pragma once
/* Orders of rows as bytes that compare with memcmp. */
#include "core/buffer.h"
#include "operator/top.h"

/* Appends the row's place in the order: a column after the other, ascending or descending, null
 * last; integers and times big-endian with the sign turned, floats likewise (NaN above all), texts
 * ended by two zero bytes. WEIR_E_NOMEM, WEIR_E_LIMIT from the buffer. */
int weir_top_order_append(const struct weir_top_order *by, int32_t by_count,
                          const struct weir_batch *batch, int32_t row,
                          struct weir_buffer *out) WEIR_MUST_CHECK;
int weir_top_order_int64(int64_t value, bool descending, struct weir_buffer *out) WEIR_MUST_CHECK;
