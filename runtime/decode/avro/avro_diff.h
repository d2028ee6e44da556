#pragma once
/* What became of a schema, for people: fields added, removed, renamed, and types, defaults and
 * symbols that changed, by path. Pure functions. */
#include "core/buffer.h"
#include "decode/avro/avro_type.h"

struct avro_change {
    const char *change; /* added, removed, renamed, widened, narrowed, changed, default, symbols */
    const char *field;  /* path: "lines.sku"; "" for the whole */
    const char
        *before; /* what it was: a type, a name, a default, symbols; NULL where nothing was */
    const char *after;
    const char *default_json; /* of an added field, or NULL */
};

/* Every text is borrowed for the call. */
typedef int avro_diff_visit(void *context, const struct avro_change *change);

/* The first code a visit gives, else WEIR_OK; WEIR_E_NOMEM. */
int avro_diff(const struct avro_type *before, const struct avro_type *after, avro_diff_visit *visit,
              void *context) WEIR_MUST_CHECK;

/* "long", "decimal(12,2)", "array of string", "string or null", "record till". */
int avro_type_text(const struct avro_type *type, struct weir_buffer *out) WEIR_MUST_CHECK;
