#pragma once
/* Values as bytes that compare with memcmp, and back: integers and times big-endian with the sign
 * turned, floats likewise (NaN above all), texts ended by two zero bytes. Descending: the same
 * bytes turned. */
#include "batch/batch.h"
#include "batch/builder.h"
#include "core/buffer.h"
#include "operator/wide.h"

/* WEIR_E_NOMEM, WEIR_E_LIMIT from the buffer. */
int weir_order_int64(int64_t value, bool descending, struct weir_buffer *out) WEIR_MUST_CHECK;
int weir_order_int128(weir_int128 value, bool descending, struct weir_buffer *out) WEIR_MUST_CHECK;
/* Of a row that is not null, of a column of a plain type. */
int weir_order_value(const struct weir_column *column, int32_t row, bool descending,
                     struct weir_buffer *out) WEIR_MUST_CHECK;

/* Back from the bytes of an ascending value of this type; false: they are none. */
bool weir_order_read_int64(const uint8_t *bytes, size_t length, int64_t *value);
bool weir_order_read_int128(const uint8_t *bytes, size_t length, weir_int128 *value);
bool weir_order_read_double(const uint8_t *bytes, size_t length, double *value);
/* Appends the value to a column of the type. WEIR_E_CORRUPT. */
int weir_order_decode(const uint8_t *bytes, size_t length,
                      struct weir_column_builder *out) WEIR_MUST_CHECK;
