#pragma once
/* Walks the structural index of one JSON object and writes its values into columns. Private to the
 * JSON decoder. A failed read returns WEIR_E_DATA with reason, path and position set; the caller
 * takes the half-written row back (json_undo_row). WEIR_E_LIMIT and WEIR_E_NOMEM are the runtime's.
 */
#include "batch/builder.h"
#include "decode/json/json_keys.h"
#include "decode/json/json_plan.h"

enum { JSON_REASON_BYTES = 384, JSON_PATH_BYTES = 256, JSON_DEPTH_MAX = 64 };

/* Where we are, for the paths of unknown fields: a list from the value at hand to the top. */
struct json_scope {
    const struct json_scope *parent;
    const char *name; /* a record's field or a map's key; NULL: element number `index` */
    size_t name_length;
    int64_t index;
};

struct json_reader {
    const uint8_t *block;
    const uint32_t *next; /* next structural position */
    uint32_t depth;
    uint32_t objects; /* objects of this line whose keys are in `keys` */
    struct json_keys keys;
    struct weir_buffer scratch; /* one unescaped string */
    struct weir_buffer rescued; /* unknown fields as JSON, "" when there are none */
    uint32_t error_at;          /* in the block */
    char reason[JSON_REASON_BYTES];
    char path[JSON_PATH_BYTES];
};

void json_reader_init(struct json_reader *r);
void json_reader_fini(struct json_reader *r);

/* Reads the object at r->next into columns[0..record->count), one value each. */
int json_read_row(struct json_reader *r, struct json_record *record,
                  struct weir_column_builder *columns) WEIR_MUST_CHECK;
/* Appends a field's default. */
int json_read_default(struct json_reader *r, struct json_field *f,
                      struct weir_column_builder *b) WEIR_MUST_CHECK;

/* --- between json_read.c and json_row.c --------------------------------------------------- */

/* How far json_read_expected came. */
struct json_progress {
    int32_t previous; /* last field read, -1 none */
    int32_t found;
    bool closed; /* the object is complete */
};

/* Reads fields of an object for as long as they come in the order and shape the last ones had.
 * Stops before the first that does not, r->next at its key; record->seen says which are done.
 * `parent` is where the object lies, NULL for a row. */
int json_read_expected(struct json_reader *r, struct json_record *record,
                       struct weir_column_builder *columns, const struct json_scope *parent,
                       struct json_progress *done) WEIR_MUST_CHECK;
/* Puts "name." (or "[index]" without a name) before the path of an error; returns rc. */
int json_fail_within(struct json_reader *r, int rc, const char *name, size_t name_length,
                     int64_t index);
/* The value at r->next. */
int json_read_value(struct json_reader *r, struct json_field *f, struct weir_column_builder *b,
                    const struct json_scope *parent) WEIR_MUST_CHECK;
/* The object of a struct's field, whose brace is at `at` and has been read; `parent` is where the
 * field lies. */
int json_read_struct(struct json_reader *r, struct json_field *f, uint32_t at,
                     struct weir_column_builder *b,
                     const struct json_scope *parent) WEIR_MUST_CHECK;

/* --- between json_read.c and json_skip.c -------------------------------------------------- */

int json_fail(struct json_reader *r, uint32_t at, const char *format, ...) WEIR_PRINTF(3, 4);
/* The string whose opening quote is at `at`, unescaped: into the block, or into r->scratch; a quote
 * follows it either way. */
int json_string_view(struct json_reader *r, uint32_t at, const uint8_t **text,
                     size_t *length) WEIR_MUST_CHECK;
/* Position of the closing quote of the string opening at `at`. */
uint32_t json_string_end(const struct json_reader *r, uint32_t at);
/* Checks the value at r->next in full and steps over it; *end is the byte after it. */
int json_skip_value(struct json_reader *r, uint32_t *end) WEIR_MUST_CHECK;
/* Appends "address.lines[2]." as a JSON text's inside, outermost first. */
int json_put_path(struct weir_buffer *out, const struct json_scope *scope) WEIR_MUST_CHECK;
/* Handles an unknown field whose key opens at `at`: checked, added to r->rescued. */
int json_rescue(struct json_reader *r, uint32_t at, uint32_t object,
                const struct json_scope *scope) WEIR_MUST_CHECK;
/* A short, printable excerpt of the value at `at`, for reasons. */
const char *json_excerpt(const struct json_reader *r, uint32_t at, char out[64]);
