#pragma once
/* RFC 4180: where records and their fields begin and end. A quote opens a quoted field only as the
 * field's first byte; inside, two quotes are one; commas and line ends inside are text. Private to
 * the CSV decoder. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CSV_FIELDS_MAX = 4096,
    CSV_QUOTED_BYTES_MAX = 1 << 20, /* of a record with quotes; a quote is taken for lost then */
};

struct csv_field {
    uint32_t start; /* in the record; of the text inside the quotes */
    uint32_t length;
    bool quoted;
    bool doubled; /* has "" inside */
};

enum csv_problem {
    CSV_GOOD,
    CSV_TOO_MANY,    /* fields */
    CSV_STRAY_QUOTE, /* text before or behind a quoted field's quotes */
    CSV_UNCLOSED,    /* the record ends inside quotes */
};

/* Fields of the record p[0..length), whose 32 bytes after may be read. *at: where it goes wrong.
 * *ascii: no byte above 0x7f. */
enum csv_problem csv_cut_fields(const uint8_t *p, uint32_t length, uint8_t delimiter,
                                struct csv_field fields[CSV_FIELDS_MAX], int32_t *count,
                                uint32_t *at, bool *ascii);

/* Bytes of the record at p without its line end, and with it in *whole. False: its end has not come
 * (never when `last`). A quote that is not closed makes its first line a record of its own. */
bool csv_cut_record(const uint8_t *p, size_t size, uint8_t delimiter, bool last, size_t *length,
                    size_t *whole);
