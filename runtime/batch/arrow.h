#pragma once
/* Batches to and from the Arrow C data interface (Arrow spec, "The Arrow C data interface"), so
 * that pyarrow, DuckDB and any Arrow reader take them without a copy, and give us theirs. */
#include <stdint.h>

#include "batch/batch.h"
#include "core/export.h"

#ifdef __cplusplus
extern "C" {
#endif

#ifndef ARROW_C_DATA_INTERFACE
#define ARROW_C_DATA_INTERFACE
#define ARROW_FLAG_DICTIONARY_ORDERED 1
#define ARROW_FLAG_NULLABLE 2
#define ARROW_FLAG_MAP_KEYS_SORTED 4

struct ArrowSchema {
    const char *format;
    const char *name;
    const char *metadata;
    int64_t flags;
    int64_t n_children;
    struct ArrowSchema **children;
    struct ArrowSchema *dictionary;
    void (*release)(struct ArrowSchema *);
    void *private_data;
};

struct ArrowArray {
    int64_t length;
    int64_t null_count;
    int64_t offset;
    int64_t n_buffers;
    int64_t n_children;
    const void **buffers;
    struct ArrowArray **children;
    struct ArrowArray *dictionary;
    void (*release)(struct ArrowArray *);
    void *private_data;
};
#endif

/* Fills `out` with the schema as one struct type; the consumer calls out->release. Columns that
 * `batch` holds dictionary-encoded are exported as dictionaries; batch may be NULL. */
WEIR_EXPORT int weir_arrow_export_schema(const struct weir_schema *schema,
                                         const struct weir_batch *batch, struct ArrowSchema *out,
                                         struct weir_error *err) WEIR_MUST_CHECK;
/* Fills `out` with the batch as a struct array that holds a reference on the batch, and so does
 * each child moved out of it. */
WEIR_EXPORT int weir_arrow_export_batch(struct weir_batch *batch, struct ArrowArray *out,
                                        struct weir_error *err) WEIR_MUST_CHECK;

/* A schema from a struct-typed ArrowSchema, which is not released. Types we do not have are
 * refused by name. Elements, keys and values of lists and maps take our names for them. */
WEIR_EXPORT int weir_arrow_import_schema(const struct ArrowSchema *in, struct weir_schema **out,
                                         struct weir_error *err) WEIR_MUST_CHECK;
/* A batch with a copy of the array's values, in `schema` (from weir_arrow_import_schema of `type`,
 * the array's own schema). The array is not released. Offsets of foreign arrays are honoured and
 * dictionaries decoded; an array whose parts do not fit together, as far as that can be seen, is
 * refused. */
WEIR_EXPORT int weir_arrow_import_batch(const struct ArrowArray *in, const struct ArrowSchema *type,
                                        struct weir_schema *schema, struct weir_pool *pool,
                                        struct weir_batch **out,
                                        struct weir_error *err) WEIR_MUST_CHECK;

#ifdef __cplusplus
}
#endif
