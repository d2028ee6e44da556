#pragma once
/* Builders append values row by row to the columns of one batch under construction. Decoders and
 * tests use them; a row is either finished or undone whole, so a value that does not fit leaves no
 * trace. Capped by rows and by bytes: WEIR_E_LIMIT means "freeze this batch and start another". */
#include "batch/batch.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One column being built; nested columns own child builders. Fields are public for the decoders'
 * inlined fast paths. */
struct weir_column_builder {
    const struct weir_field *field;
    struct weir_batch *batch;
    uint8_t *validity; /* always allocated, all ones until a null comes */
    void *values;
    int32_t *offsets;
    struct weir_column_builder *children;
    int64_t length;
    int64_t null_count;
    int64_t capacity_rows;
    size_t bytes_size; /* string/binary bytes used */
    size_t bytes_capacity;
    int32_t child_count;
    uint8_t type;
    uint8_t flags;
    /* the state at the last finished row, for undo */
    int64_t mark_length;
    int64_t mark_null_count;
    size_t mark_bytes;
};

struct weir_batch_builder {
    struct weir_pool *pool;
    struct weir_schema *schema;
    struct weir_batch *batch; /* under construction */
    struct weir_column_builder *columns;
    int32_t column_count;
    int32_t rows;
    int32_t rows_max;
    size_t bytes_max; /* string and nested bytes a batch may hold */
};

/* A builder is reused for batch after batch. Takes a reference on the schema. */
int weir_batch_builder_init(struct weir_batch_builder *builder, struct weir_pool *pool,
                            struct weir_schema *schema, int32_t rows_max, size_t bytes_max,
                            struct weir_error *err) WEIR_MUST_CHECK;
void weir_batch_builder_fini(struct weir_batch_builder *builder);

/* Starts a batch. WEIR_E_LIMIT at the pool's cap (backpressure). */
int weir_batch_builder_begin(struct weir_batch_builder *builder) WEIR_MUST_CHECK;
/* As begin, with room for `rows` rows at first; more grow it. For batches that are mostly small. */
int weir_batch_builder_begin_rows(struct weir_batch_builder *builder, int32_t rows) WEIR_MUST_CHECK;
/* Every column has got exactly one value since the last row: the row is kept. */
void weir_batch_builder_finish_row(struct weir_batch_builder *builder);
/* Forgets everything appended since the last finished row, in every column. */
void weir_batch_builder_undo_row(struct weir_batch_builder *builder);
/* The finished batch, frozen; the caller owns the reference. NULL when nothing was begun. */
struct weir_batch *weir_batch_builder_take(struct weir_batch_builder *builder);

/* Appends to a column. 0, or WEIR_E_LIMIT / WEIR_E_NOMEM (undo the row, take the batch). Values
 * are given in the column's physical form; list and map: append the elements to the children
 * first, then finish the list with weir_builder_list. struct: append each child, then _struct. */
int weir_builder_null(struct weir_column_builder *column) WEIR_MUST_CHECK;
int weir_builder_bool(struct weir_column_builder *column, bool value) WEIR_MUST_CHECK;
int weir_builder_int(struct weir_column_builder *column, int64_t value)
    WEIR_MUST_CHECK; /* int8..64, date, timestamps; the caller has checked the range */
int weir_builder_float(struct weir_column_builder *column, float value) WEIR_MUST_CHECK;
int weir_builder_double(struct weir_column_builder *column, double value) WEIR_MUST_CHECK;
int weir_builder_decimal(struct weir_column_builder *column, uint64_t lo,
                         int64_t hi) WEIR_MUST_CHECK;
int weir_builder_bytes(struct weir_column_builder *column, const void *bytes,
                       size_t length) WEIR_MUST_CHECK;
int weir_builder_list(struct weir_column_builder *column) WEIR_MUST_CHECK; /* list and map */
int weir_builder_struct(struct weir_column_builder *column) WEIR_MUST_CHECK;

#ifdef __cplusplus
}
#endif
