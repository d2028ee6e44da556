#pragma once
/* Which fields of a schema anybody reads. The others need not be decoded: they are null in a batch
 * built so. A field nobody reads has none inside that is read. Immutable, reference-counted. */
#include "batch/schema.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weir_projection {
    int32_t references; /* atomic */
    int32_t count;
    int32_t unread; /* of `count` */
    bool read[];    /* the schema's fields, each before those inside it */
};

/* Of the fields of `schema`, only what is added is read. NULL without memory. */
struct weir_projection *weir_projection_create(const struct weir_schema *schema);
/* The field that path[0..count) names, from the outside in, with all inside it, is read. Before it
 * is shared. */
int weir_projection_add(struct weir_projection *projection, const struct weir_schema *schema,
                        const char *const *path, int32_t count,
                        struct weir_error *err) WEIR_MUST_CHECK;
struct weir_projection *weir_projection_ref(struct weir_projection *projection); /* NULL is fine */
void weir_projection_unref(struct weir_projection *projection);
/* NULL is everything. */
bool weir_projection_equal(const struct weir_projection *a, const struct weir_projection *b);
/* The field and all inside it. */
int32_t weir_field_span(const struct weir_field *field);

#ifdef __cplusplus
}
#endif
