#pragma once
/* Builders append values row by row to the columns of one batch under construction. Decoders and
 * tests use them; a row is either finished or undone whole, so a value that does not fit leaves no
 * trace. Capped by rows and by bytes: WEIR_E_LIMIT means "undo the row, take this batch and start
 * another". A row too large for bytes_max gets a batch of its own, so that every row fits somewhere
 * as long as the pool has room: in a batch without rows, WEIR_E_LIMIT is the pool's. */
#include "batch/batch.h"
#include "batch/projection.h"

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
    struct weir_column_builder *parent; /* NULL for a column of the batch */
    int64_t length;
    int64_t null_count;
    int64_t capacity_rows; /* that may be filled in place: below what there is room for where the
                              parent owes */
    int64_t room_rows;     /* that there is room for */
    int64_t owed;          /* of a struct: null rows, its last, that its children do not have yet */
    size_t bytes_size;     /* string/binary bytes used */
    size_t bytes_capacity;
    int32_t child_count;
    uint8_t type;
    uint8_t flags;
    bool grows;  /* elements of a list or map: as many as bytes_max allows */
    bool unread; /* nobody reads it: has room for one value at a time, which nobody keeps */
    struct weir_batch_builder *owner;
};

struct weir_batch_builder {
    struct weir_pool *pool;
    struct weir_schema *schema;
    struct weir_batch *batch; /* under construction */
    struct weir_column_builder *columns;
    int32_t column_count;
    int32_t rows;
    int32_t rows_max;
    size_t bytes_max;   /* cap on the next */
    size_t bytes_grown; /* what buffers of text and of list elements have grown by */
};

/* A builder is reused for batch after batch. Takes a reference on the schema. The builder must stay
 * where it is until fini. rows_max: rows a batch may hold, at least 1. bytes_max: what text and
 * list elements may grow by above that. */
int weir_batch_builder_init(struct weir_batch_builder *builder, struct weir_pool *pool,
                            struct weir_schema *schema, int32_t rows_max, size_t bytes_max,
                            struct weir_error *err) WEIR_MUST_CHECK;
void weir_batch_builder_fini(struct weir_batch_builder *builder);
/* Batches to come have nulls in the columns, of the first ones, that nobody reads; these take no
 * values. NULL: all are read. */
void weir_batch_builder_project(struct weir_batch_builder *builder,
                                const struct weir_projection *projection);

/* Starts a batch. WEIR_E_LIMIT at the pool's cap (backpressure). */
int weir_batch_builder_begin(struct weir_batch_builder *builder) WEIR_MUST_CHECK;
/* As begin, with room for `rows` rows at first; more grow it, up to rows_max. For batches that are
 * mostly small. */
int weir_batch_builder_begin_rows(struct weir_batch_builder *builder, int32_t rows) WEIR_MUST_CHECK;
/* Every column has got exactly one value since the last row: the row is kept. */
static inline void weir_batch_builder_finish_row(struct weir_batch_builder *builder) {
    builder->rows++;
}
/* Forgets everything appended since the last finished row, in every column. */
void weir_batch_builder_undo_row(struct weir_batch_builder *builder);
/* The finished rows, frozen (an unfinished one is forgotten); the caller owns the reference. NULL
 * when nothing was begun. */
struct weir_batch *weir_batch_builder_take(struct weir_batch_builder *builder);

/* Appends to a column. 0, or WEIR_E_LIMIT (undo the row, take the batch, begin another). Values
 * are given in the column's physical form; list and map: append the elements to the children
 * first, then finish the list with weir_builder_list. struct: append each child, then _struct. */
int weir_builder_null(struct weir_column_builder *column) WEIR_MUST_CHECK;
/* As many nulls at once: for columns that are mostly null. On failure there are none. */
int weir_builder_nulls(struct weir_column_builder *column, int64_t count) WEIR_MUST_CHECK;
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
/* For looking at a value nobody reads with the same code as at others: an unread column, empty,
 * that takes it. */
int weir_builder_scratch(struct weir_column_builder *column) WEIR_MUST_CHECK;
/* Appends a value, null or nested too, of a column of the same type. */
int weir_builder_copy(struct weir_column_builder *to, const struct weir_column *from,
                      int64_t row) WEIR_MUST_CHECK;

#ifdef __cplusplus
}
#endif
