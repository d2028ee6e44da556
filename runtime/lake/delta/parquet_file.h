#pragma once
/* Opens Parquet files that lie in a store. */
#include "lake/parquet/reader.h"
#include "lake/store/store.h"

struct delta_parquet_file {
    struct weir_store *store; /* borrowed */
    char *path;               /* owned */
    struct weir_parquet_reader *reader;
};

/* `size_bytes` < 0: asks the store. */
int delta_parquet_open(struct delta_parquet_file *file, struct weir_store *store, const char *path,
                       int64_t size_bytes, struct weir_pool *pool,
                       struct weir_error *err) WEIR_MUST_CHECK;
void delta_parquet_close(struct delta_parquet_file *file);

/* A column together with the field that describes it; both NULL when not found. */
struct delta_view {
    const struct weir_field *field;
    const struct weir_column *column;
};

/* Child `name` of a struct view. */
struct delta_view delta_view_child(struct delta_view parent, const char *name);
static inline bool delta_view_has(struct delta_view view, int64_t row) {
    return view.column != NULL && !weir_column_is_null(view.column, row);
}
/* Integer of any width; `fallback` when null, absent or another type. */
int64_t delta_view_int(struct delta_view view, int64_t row, int64_t fallback);
bool delta_view_bool(struct delta_view view, int64_t row, bool fallback);
