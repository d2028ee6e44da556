#pragma once
/* Values written as plain text (a cell of a CSV file): numbers by exact value as in JSON, and NaN
 * and infinities, which JSON has not. Private to the room. */
#include "decode/json/json_read.h"

/* Appends the text to the column. The text is UTF-8 and may be followed by anything. WEIR_E_DATA
 * with r->reason when it is not a value of the column's type. */
int text_value_put(struct json_reader *r, const struct json_field *f, struct weir_column_builder *b,
                   const uint8_t *text, size_t length) WEIR_MUST_CHECK;
