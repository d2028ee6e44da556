#pragma once
/* Can a reader's schema read what a writer's wrote (Avro 1.11 specification, "Schema Resolution")?
 * Pure functions. */
#include "decode/avro/avro_type.h"

enum { AVRO_COMPAT_TEXT_BYTES = 512 };

enum avro_compat_rules {
    AVRO_COMPAT_STRICT, /* as registries judge: names of records count, logical types do not */
    AVRO_COMPAT_WEIR,   /* as rows are read here: names do not count, a field that may be null
                           needs no default, decimals may gain places and lose none */
};

/* Called for each thing that stands against it: the field's path ("lines.sku", "" for the whole)
 * and why. Both borrowed. */
typedef void avro_compat_visit(void *context, const char *path, const char *why);

/* True when nothing does. `visit` may be NULL. */
bool avro_compat(const struct avro_type *reader, const struct avro_type *writer,
                 enum avro_compat_rules rules, avro_compat_visit *visit, void *context);

/* As STRICT, the first thing as text ("field \"qty\": …") into `out`, "" for none. */
bool avro_compat_first(const struct avro_type *reader, const struct avro_type *writer, char *out,
                       size_t size);
