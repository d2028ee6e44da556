#pragma once
/* What we use of simdjson, behind C: its first stage (structural index, UTF-8 and control-character
 * checks over whole blocks of lines) and correctly rounded doubles. The walk over the index is ours
 * (json_read.c): it knows the schema, so no document is built. */
#include <stddef.h>
#include <stdint.h>

#include <stdbool.h>

#include "core/error.h"

#ifdef __cplusplus
extern "C" {
#endif

enum weir_json_index_result {
    WEIR_JSON_INDEXED,
    WEIR_JSON_EMPTY,
    WEIR_JSON_UTF8,     /* not UTF-8 */
    WEIR_JSON_CONTROL,  /* a control character inside a string */
    WEIR_JSON_UNCLOSED, /* a string does not end */
    WEIR_JSON_NOMEM,
    WEIR_JSON_BROKEN,
};

struct weir_json_index;

struct weir_json_index *weir_json_index_create(void); /* NULL without memory */
void weir_json_index_destroy(struct weir_json_index *index);

/* Indexes block[0..length): positions of { } [ ] : , of opening quotes and of the first byte of
 * every other scalar, ascending, then `length` twice as a sentinel. Borrowed until the next run.
 * Memory is kept for the longest block seen. */
enum weir_json_index_result weir_json_index_run(struct weir_json_index *index, const uint8_t *block,
                                                size_t length, uint32_t **positions,
                                                uint32_t *count);

/* Number text (already checked against JSON's grammar) to the nearest value. False on overflow. */
bool weir_json_to_double(const char *text, const char *end, double *value);
bool weir_json_to_float(const char *text, const char *end, float *value);

#ifdef __cplusplus
}
#endif
