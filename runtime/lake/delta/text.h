#pragma once
/* Values as texts, in the forms the Delta log, partition values and `table cat` use. */
#include "batch/batch.h"
#include "core/buffer.h"

/* Exact digits of a 128-bit unscaled decimal: "-12.50". */
int delta_text_decimal(struct weir_buffer *out, uint64_t lo, int64_t hi, int scale) WEIR_MUST_CHECK;
/* "2024-01-31"; years outside 0..9999 get a sign and more digits (*plain tells, may be NULL). */
int delta_text_date(struct weir_buffer *out, int64_t days, bool *plain) WEIR_MUST_CHECK;
/* "2024-01-31T10:00:00.123456" (digits: 3, 6 or 9) with "Z" when utc; `ticks` are units of
 * 10^-digits seconds since the epoch. */
int delta_text_timestamp(struct weir_buffer *out, int64_t ticks, int digits, bool utc,
                         bool *plain) WEIR_MUST_CHECK;
/* Shortest text that reads back as the same number; "NaN", "Infinity", "-Infinity". */
int delta_text_double(struct weir_buffer *out, double value, bool is_float) WEIR_MUST_CHECK;
int delta_text_base64(struct weir_buffer *out, const void *bytes, size_t size) WEIR_MUST_CHECK;
/* What a cell of a text table shows: JSON without the quotes around a text. */
int delta_cell_text(const struct weir_batch *batch, int32_t column, int32_t row,
                    struct weir_buffer *out) WEIR_MUST_CHECK;
/* Length of the UTF-8 sequence at `text`, or 0 when it is malformed (overlong, surrogate, past
 * U+10FFFF, cut). */
size_t delta_text_utf8_length(const unsigned char *text, size_t left);
bool delta_text_is_utf8(const char *text, size_t length);
/* The reverse of the first three, for partition values; false when the text is no such value. */
bool delta_parse_decimal(const char *text, int precision, int scale, __int128 *out);
bool delta_parse_date(const char *text, int32_t *days);
/* ISO 8601 or "yyyy-MM-dd HH:mm:ss[.f…]", with or without zone, to microseconds. */
bool delta_parse_timestamp(const char *text, int64_t *us);
