#pragma once
/* What JSON strings hold: escapes, ISO 8601 times, base64. All take begin and length, read nothing
 * past the end unless said, and allocate nothing. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Unescapes `text` (what lies between the quotes) into `out`, which has room for `length` bytes:
 * text only shrinks. Returns the bytes written, or -1 for a bad escape or a lone surrogate, with
 * *bad its position in `text`. */
int64_t json_unescape(const uint8_t *text, size_t length, uint8_t *out, size_t *bad);

enum json_time_error {
    JSON_TIME_OK,
    JSON_TIME_MALFORMED,
    JSON_TIME_NO_OFFSET,   /* a zone is needed and missing */
    JSON_TIME_HAS_OFFSET,  /* a local time carries one */
    JSON_TIME_TOO_PRECISE, /* digits below the unit that are not zero */
    JSON_TIME_RANGE,
};

/* "YYYY-MM-DD[T ]hh:mm[:ss[.digits]][Z|±hh[:]mm]" to `per_second` units (1e6, 1e9) since epoch. */
enum json_time_error json_parse_timestamp(const uint8_t *text, size_t length, int64_t per_second,
                                          bool zoned, int64_t *value);
enum json_time_error json_parse_date(const uint8_t *text, size_t length, int32_t *days);
const char *json_time_error_text(enum json_time_error error);

/* RFC 4648 section 4 with padding. Returns the bytes written (at most length / 4 * 3), -1 when the
 * text is not base64. */
int64_t json_base64(const uint8_t *text, size_t length, uint8_t *out);

/* First byte that is not part of valid UTF-8, or -1. For messages; stage one has done the check. */
int64_t json_find_bad_utf8(const uint8_t *text, size_t length);
