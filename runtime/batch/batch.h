#pragma once
/* Batches: up to a few thousand rows in Arrow-layout columns (abi/column.h). A batch is filled by
 * one thread through builders, then frozen and shared by reference; every buffer comes from a
 * weir_pool, so steady state does not malloc. A column may borrow buffers of another batch, which
 * the borrowing batch then keeps alive (`weir_batch_borrow`). */
#include "abi/abi.h"
#include "batch/schema.h"
#include "core/error.h"
#include "core/pool.h"

#ifdef __cplusplus
extern "C" {
#endif

#define WEIR_BATCH_ROWS_MAX 4096

struct weir_source_frames;

struct weir_batch {
    int32_t references; /* atomic */
    int32_t rows;
    int32_t column_count;
    struct weir_schema *schema;  /* one reference held */
    struct weir_column *columns; /* column_count of them, in schema order */
    struct weir_pool *pool;
    void **buffers; /* pool buffers this batch owns */
    int32_t buffer_count;
    int32_t buffer_capacity;
    bool buffers_taken;          /* the list outgrew its place and is a pool buffer of its own */
    struct weir_batch **parents; /* batches whose buffers are borrowed */
    int32_t parent_count;
    const struct weir_source_frames *frames; /* what the rows of one that lacks columns were decoded
                                                from (source/complete.c); NULL: it lacks none */
};

/* An empty batch (rows 0, all columns zeroed but typed from the schema). Takes a reference on the
 * schema. NULL at the pool's cap. */
struct weir_batch *weir_batch_create(struct weir_pool *pool, struct weir_schema *schema);
struct weir_batch *weir_batch_ref(struct weir_batch *batch);
void weir_batch_unref(struct weir_batch *batch); /* thread-safe */

/* A pool buffer owned by the batch and released with it. NULL at the cap. */
void *weir_batch_alloc(struct weir_batch *batch, size_t bytes);
/* The same of a buffer taken from the batch's pool before; false: no memory, and it is still the
 * caller's. */
bool weir_batch_adopt(struct weir_batch *batch, void *buffer);
/* A larger buffer in place of `buffer` (from weir_batch_alloc), which goes back to the pool; its
 * first `keep` bytes are copied. NULL at the cap, and then `buffer` is untouched. */
void *weir_batch_regrow(struct weir_batch *batch, void *buffer, size_t keep, size_t bytes);
/* Gives `batch` column `to` the content of column `from` of `parent`, which stays alive with it. */
int weir_batch_borrow(struct weir_batch *batch, int32_t to, struct weir_batch *parent,
                      int32_t from) WEIR_MUST_CHECK;
/* `parent` stays alive with `batch`: for columns put together from its buffers. */
int weir_batch_keep(struct weir_batch *batch, struct weir_batch *parent) WEIR_MUST_CHECK;
/* Rows [start, start + rows) as a new batch that borrows from `batch`. NULL at the cap. */
struct weir_batch *weir_batch_slice(struct weir_batch *batch, int32_t start, int32_t rows);
/* The rows sel[0..count) copied into a new, dense batch. NULL at the cap. */
struct weir_batch *weir_batch_gather(struct weir_batch *batch, const int32_t *sel, int32_t count);
/* Values sel[0..count) of a column of `parent`, copied into column `to` of `batch`; a dictionary
 * keeps the parent alive. */
int weir_batch_gather_column(struct weir_batch *batch, int32_t to, struct weir_batch *parent,
                             const struct weir_column *from, const int32_t *sel,
                             int64_t count) WEIR_MUST_CHECK;
/* Bytes of value, offset and validity data of the batch's rows, counting borrowed columns. */
size_t weir_batch_bytes(const struct weir_batch *batch);

/* Pool bytes this batch keeps from being reused: its own buffers and those of batches it borrows
 * from. What bounds of memory should count. */
size_t weir_batch_held_bytes(const struct weir_batch *batch);

/* --- columns ----------------------------------------------------------------------------- */

static inline bool weir_bit_get(const uint8_t *bits, int64_t i) {
    return (bits[i >> 3] >> (i & 7)) & 1;
}

static inline void weir_bit_set(uint8_t *bits, int64_t i) {
    bits[i >> 3] |= (uint8_t)(1u << (i & 7));
}

static inline void weir_bit_clear(uint8_t *bits, int64_t i) {
    bits[i >> 3] &= (uint8_t) ~(1u << (i & 7));
}

static inline bool weir_column_is_null(const struct weir_column *column, int64_t row) {
    return column->validity != NULL && !weir_bit_get(column->validity, row);
}

/* Types and zeroes a column (and its children, allocated from `batch`) after a field. */
int weir_column_init(struct weir_column *column, const struct weir_field *field,
                     struct weir_batch *batch) WEIR_MUST_CHECK;

/* `rows` nulls of any type, in buffers of `batch`. WEIR_E_LIMIT at the cap. */
int weir_column_nulls(struct weir_column *out, const struct weir_field *field, int64_t rows,
                      struct weir_batch *batch) WEIR_MUST_CHECK;
/* `from`, of the type of `was`, as a column of `field`, which holds that type (weir_field_holds):
 * members it lacks are null. Buffers are shared with `from`, whose batch must stay alive
 * (weir_batch_keep, weir_batch_borrow). WEIR_E_LIMIT at the cap. */
int weir_column_grow(struct weir_column *out, const struct weir_field *field,
                     const struct weir_column *from, const struct weir_field *was, int64_t rows,
                     struct weir_batch *batch) WEIR_MUST_CHECK;

/* Bytes of row `row` of a string or binary column, dictionary-encoded or plain. Borrowed. */
static inline const char *weir_column_bytes(const struct weir_column *column, int64_t row,
                                            int32_t *length) {
    if (column->codes != NULL) {
        row = column->codes[row];
        column = column->dictionary;
    }
    *length = column->offsets[row + 1] - column->offsets[row];
    return (const char *)column->values + column->offsets[row];
}

/* An integer, date or time of any width, that is not null, of a plain column. */
static inline int64_t weir_column_int(const struct weir_column *column, int64_t row) {
    switch (weir_type_width(column->type)) {
    case 1:
        return ((const int8_t *)column->values)[row];
    case 2:
        return ((const int16_t *)column->values)[row];
    case 4:
        return ((const int32_t *)column->values)[row];
    default:
        return ((const int64_t *)column->values)[row];
    }
}

/* Replaces a dictionary-encoded column of `batch` by its plain form (buffers from the batch). */
int weir_column_make_plain(struct weir_column *column, struct weir_batch *batch) WEIR_MUST_CHECK;

/* Writes one value into all rows of an int64 column of a batch not yet shared. */
void weir_batch_fill_int64(struct weir_batch *batch, int32_t column, int64_t value);

/* True when row i of a and row j of b (same type) hold the same value; nulls equal nulls, NaN
 * equals NaN. Recurses into nested values. */
bool weir_column_value_equal(const struct weir_column *a, int64_t i, const struct weir_column *b,
                             int64_t j);

#ifdef __cplusplus
}
#endif
