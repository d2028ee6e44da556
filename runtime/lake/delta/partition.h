#pragma once
/* Partition values: which value a row has, how the log and the folder spell it. */
#include "batch/batch.h"
#include "lake/delta/commit.h"

struct delta_partition_column {
    char *name;    /* as the table knows it */
    int32_t index; /* in the data's schema */
    enum weir_delta_transform transform;
};

/* Appends bytes that are equal exactly for rows of the same partition value. */
int delta_partition_key(const struct delta_partition_column *column, const struct weir_batch *batch,
                        int32_t row, struct weir_buffer *key) WEIR_MUST_CHECK;
/* Appends the value's text for the log; *is_null for null (and for empty text, which Delta cannot
 * tell from null). WEIR_E_DATA: text the log cannot hold. */
int delta_partition_text(const struct delta_partition_column *column,
                         const struct weir_batch *batch, int32_t row, struct weir_buffer *text,
                         bool *is_null, struct weir_error *err) WEIR_MUST_CHECK;
/* Appends "name=value/", escaped as Hive does, for the folder. */
int delta_partition_folder(const char *name, const char *value,
                           struct weir_buffer *out) WEIR_MUST_CHECK;
/* Appends a relative path, percent-encoded as the log's `path` wants it. */
int delta_uri_encode(const char *path, struct weir_buffer *out) WEIR_MUST_CHECK;
/* A column of `rows` rows all holding the partition value `text` (NULL: null) of `field`'s type,
 * buffers from the batch. WEIR_E_CORRUPT when the text is no such value. */
int delta_partition_column(const struct weir_field *field, const char *text, int32_t rows,
                           struct weir_batch *batch, struct weir_column *out,
                           struct weir_error *err) WEIR_MUST_CHECK;
