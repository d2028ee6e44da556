#pragma once
/* Lists, structs and maps among the bytes of whole rows (key.h). A value is 0x00, or 0x01 and
 *   plain      as in key.h, every bit kept
 *   struct     varint(bytes) and the value of each field
 *   list       varint(bytes), varint(count) and the value of each element
 *   map        varint(bytes), varint(count) and the values of each key and value
 * Private to key.c. */
#include "batch/builder.h"
#include "state/image.h"

/* Bytes of a row's value. */
size_t key_nested_bytes(const struct weir_field *field, const struct weir_column *column,
                        int64_t row);
/* Writes them; returns where they end. */
uint8_t *key_nested_put(const struct weir_field *field, const struct weir_column *column,
                        int64_t row, uint8_t *at);
/* Appends the value at the reader to the column. WEIR_E_CORRUPT, or WEIR_E_LIMIT from a full
 * builder. */
int key_nested_decode(const struct weir_field *field, struct weir_image_reader *reader,
                      struct weir_column_builder *out) WEIR_MUST_CHECK;
/* Where a fixed-width value of a row lies, dictionary-encoded or plain. */
static inline const uint8_t *key_value_at(const struct weir_column *column, int64_t row,
                                          size_t width) {
    if (column->codes != NULL) {
        row = column->codes[row];
        column = column->dictionary;
    }
    return (const uint8_t *)column->values + (size_t)row * width;
}

static inline bool key_bool_at(const struct weir_column *column, int64_t row) {
    return column->codes != NULL ? weir_bit_get(column->dictionary->values, column->codes[row])
                                 : weir_bit_get(column->values, row);
}
