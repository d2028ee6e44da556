/* The Arrow C data interface for test_arrow.py, as a shared library: arrays another implementation
 * exports are imported, cut as asked and exported again. Counts what is still held, so that the
 * tests can see that nothing leaks and nothing is released twice. */
#include <stdlib.h>

#include "batch/arrow.h"
#include "core/export.h"

static struct weir_pool *pool;
static struct weir_error last_error;

WEIR_EXPORT const char *arrow_tool_error(void);
WEIR_EXPORT size_t arrow_tool_held_bytes(void);
WEIR_EXPORT int arrow_tool_import(const struct ArrowArray *array, const struct ArrowSchema *type,
                                  struct weir_batch **out);
WEIR_EXPORT int arrow_tool_export(struct weir_batch *batch, struct ArrowArray *array,
                                  struct ArrowSchema *type);
WEIR_EXPORT int arrow_tool_export_child(struct weir_batch *batch, int32_t column,
                                        struct ArrowArray *array, struct ArrowSchema *type);
WEIR_EXPORT struct weir_batch *arrow_tool_slice(struct weir_batch *batch, int32_t start,
                                                int32_t rows);
WEIR_EXPORT struct weir_batch *arrow_tool_every_other(struct weir_batch *batch);
WEIR_EXPORT struct weir_batch *arrow_tool_encode(struct weir_batch *batch);
WEIR_EXPORT struct weir_batch *arrow_tool_empty(struct weir_batch *like);
WEIR_EXPORT void arrow_tool_free(struct weir_batch *batch);

const char *arrow_tool_error(void) {
    return last_error.message;
}

size_t arrow_tool_held_bytes(void) {
    return pool == NULL ? 0 : weir_pool_used_bytes(pool);
}

/* As a consumer does: takes both over and releases them. */
int arrow_tool_import(const struct ArrowArray *array, const struct ArrowSchema *type,
                      struct weir_batch **out) {
    struct ArrowArray own_array = *array;
    struct ArrowSchema own_type = *type;
    struct weir_schema *schema = NULL;
    *out = NULL;
    pool = pool == NULL ? weir_pool_create((size_t)1 << 30) : pool;
    int rc = weir_arrow_import_schema(&own_type, &schema, &last_error);
    if (rc == WEIR_OK) {
        rc = weir_arrow_import_batch(&own_array, &own_type, schema, pool, out, &last_error);
    }
    weir_schema_unref(schema);
    own_array.release(&own_array);
    own_type.release(&own_type);
    return rc;
}

int arrow_tool_export(struct weir_batch *batch, struct ArrowArray *array,
                      struct ArrowSchema *type) {
    int rc = weir_arrow_export_schema(batch->schema, batch, type, &last_error);
    if (rc != WEIR_OK) {
        return rc;
    }
    rc = weir_arrow_export_batch(batch, array, &last_error);
    if (rc != WEIR_OK) {
        type->release(type);
    }
    return rc;
}

/* One column, moved out of its batch, whose other parts are released at once. */
int arrow_tool_export_child(struct weir_batch *batch, int32_t column, struct ArrowArray *array,
                            struct ArrowSchema *type) {
    struct ArrowArray whole;
    struct ArrowSchema whole_type;
    int rc = arrow_tool_export(batch, &whole, &whole_type);
    if (rc == WEIR_OK) {
        *array = *whole.children[column];
        whole.children[column]->release = NULL;
        *type = *whole_type.children[column];
        whole_type.children[column]->release = NULL;
        whole.release(&whole);
        whole_type.release(&whole_type);
    }
    return rc;
}

struct weir_batch *arrow_tool_slice(struct weir_batch *batch, int32_t start, int32_t rows) {
    return weir_batch_slice(batch, start, rows);
}

struct weir_batch *arrow_tool_every_other(struct weir_batch *batch) {
    int32_t count = (batch->rows + 1) / 2;
    int32_t *sel = malloc(((size_t)count + 1) * sizeof(*sel));
    for (int32_t i = 0; sel != NULL && i < count; i++) {
        sel[i] = i * 2;
    }
    struct weir_batch *out = sel == NULL ? NULL : weir_batch_gather(batch, sel, count);
    free(sel);
    return out;
}

/* Turns text into dictionaries at every depth: a value a row, in reverse, codes to match. */
static bool encode(struct weir_batch *batch, struct weir_column *column) {
    bool done = true;
    for (int32_t c = 0; c < column->child_count; c++) {
        done = encode(batch, &column->children[c]) && done;
    }
    if (!weir_type_is_bytes(column->type) || column->codes != NULL) {
        return done;
    }
    int64_t rows = column->length;
    struct weir_column *dictionary = weir_batch_alloc(batch, sizeof(*dictionary));
    int32_t *codes = weir_batch_alloc(batch, ((size_t)rows + 1) * sizeof(*codes));
    int32_t *offsets = weir_batch_alloc(batch, ((size_t)rows + 1) * sizeof(*offsets));
    size_t bytes = (size_t)(column->offsets[rows] - column->offsets[0]);
    uint8_t *values = weir_batch_alloc(batch, bytes + 1);
    if (dictionary == NULL || codes == NULL || offsets == NULL || values == NULL) {
        return false;
    }
    offsets[0] = 0;
    for (int64_t i = 0; i < rows; i++) {
        int64_t from = rows - 1 - i;
        int32_t size = column->offsets[from + 1] - column->offsets[from];
        memcpy(values + offsets[i], (const uint8_t *)column->values + column->offsets[from],
               (size_t)size);
        offsets[i + 1] = offsets[i] + size;
        codes[from] = (int32_t)i;
    }
    *dictionary = (struct weir_column){
        .length = rows, .values = values, .offsets = offsets, .type = column->type};
    column->codes = codes;
    column->dictionary = dictionary;
    column->offsets = NULL;
    column->values = NULL;
    return done;
}

struct weir_batch *arrow_tool_encode(struct weir_batch *batch) {
    int32_t *sel = malloc(((size_t)batch->rows + 1) * sizeof(*sel));
    for (int32_t i = 0; sel != NULL && i < batch->rows; i++) {
        sel[i] = i;
    }
    struct weir_batch *out = sel == NULL ? NULL : weir_batch_gather(batch, sel, batch->rows);
    free(sel);
    bool done = out != NULL;
    for (int32_t c = 0; done && c < out->column_count; c++) {
        done = encode(out, &out->columns[c]);
    }
    if (!done) {
        weir_batch_unref(out);
        return NULL;
    }
    return out;
}

struct weir_batch *arrow_tool_empty(struct weir_batch *like) {
    return weir_batch_create(like->pool, like->schema);
}

void arrow_tool_free(struct weir_batch *batch) {
    weir_batch_unref(batch);
}
