#include "lake/delta/parquet_file.h"

#include <stdlib.h>
#include <string.h>

/* The reader asks for ranges into its own memory; a store hands out buffers. */
static int read_range(void *context, uint64_t offset, void *bytes, size_t size,
                      struct weir_error *err) {
    const struct delta_parquet_file *file = context;
    struct weir_buffer buffer;
    weir_buffer_init(&buffer, size);
    int rc = weir_store_get(file->store, file->path, (int64_t)offset, (int64_t)size, &buffer, err);
    if (rc == WEIR_OK && size > 0) {
        memcpy(bytes, buffer.data, size);
    }
    weir_buffer_fini(&buffer);
    return rc;
}

int delta_parquet_open(struct delta_parquet_file *file, struct weir_store *store, const char *path,
                       int64_t size_bytes, struct weir_pool *pool, struct weir_error *err) {
    const struct weir_parquet_reader_options options = {.pool = pool};
    memset(file, 0, sizeof(*file));
    file->store = store;
    file->path = strdup(path);
    if (file->path == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "open %s: out of memory", path);
    }
    int rc = WEIR_OK;
    if (size_bytes < 0) {
        struct weir_store_info info;
        rc = weir_store_stat(store, path, &info, err);
        size_bytes = rc == WEIR_OK ? info.size_bytes : 0;
    }
    if (rc == WEIR_OK) {
        rc = weir_parquet_reader_open(&file->reader, read_range, file, (uint64_t)size_bytes,
                                      &options, err);
        if (rc != WEIR_OK) {
            rc = weir_error_wrap(err, "%s", path);
        }
    }
    if (rc != WEIR_OK) {
        delta_parquet_close(file);
    }
    return rc;
}

void delta_parquet_close(struct delta_parquet_file *file) {
    weir_parquet_reader_close(file->reader);
    free(file->path);
    memset(file, 0, sizeof(*file));
}

struct delta_view delta_view_child(struct delta_view parent, const char *name) {
    struct delta_view none = {NULL, NULL};
    if (parent.column == NULL || parent.field->type != WEIR_TYPE_STRUCT) {
        return none;
    }
    for (int32_t i = 0; i < parent.field->child_count; i++) {
        if (strcmp(parent.field->children[i].name, name) == 0) {
            return (struct delta_view){&parent.field->children[i], &parent.column->children[i]};
        }
    }
    return none;
}

int64_t delta_view_int(struct delta_view view, int64_t row, int64_t fallback) {
    if (!delta_view_has(view, row)) {
        return fallback;
    }
    switch (weir_type_width(view.field->type)) {
    case 1:
        return ((const int8_t *)view.column->values)[row];
    case 2:
        return ((const int16_t *)view.column->values)[row];
    case 4:
        return view.field->type == WEIR_TYPE_FLOAT ? fallback
                                                   : ((const int32_t *)view.column->values)[row];
    case 8:
        return view.field->type == WEIR_TYPE_DOUBLE ? fallback
                                                    : ((const int64_t *)view.column->values)[row];
    default:
        return fallback;
    }
}

bool delta_view_bool(struct delta_view view, int64_t row, bool fallback) {
    if (!delta_view_has(view, row) || view.field->type != WEIR_TYPE_BOOL) {
        return fallback;
    }
    return weir_bit_get(view.column->values, row);
}
