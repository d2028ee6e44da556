/* Batch lifetime: buffers from the pool, references across threads, borrowed columns, and the two
 * ways to cut a batch (slice borrows, gather copies). */
#include "batch/batch.h"

#include <stdlib.h>
#include <string.h>

/* A batch's own bookkeeping (struct, columns, buffer list) is one pool buffer, so that creating a
 * batch does not malloc. */
enum { BUFFERS_PER_COLUMN = 4, PARENTS_MAX_START = 8 };

static int32_t count_columns(const struct weir_field *fields, int32_t count) {
    int32_t total = count;
    for (int32_t i = 0; i < count; i++) {
        total += count_columns(fields[i].children, fields[i].child_count);
    }
    return total;
}

static void init_columns(struct weir_column *columns, const struct weir_field *fields,
                         int32_t count, struct weir_column **next) {
    for (int32_t i = 0; i < count; i++) {
        struct weir_column *column = &columns[i];
        memset(column, 0, sizeof(*column));
        column->type = fields[i].type;
        column->precision = fields[i].precision;
        column->scale = fields[i].scale;
        column->child_count = fields[i].child_count;
        if (fields[i].child_count > 0) {
            column->children = *next;
            *next += fields[i].child_count;
            init_columns(column->children, fields[i].children, fields[i].child_count, next);
        }
    }
}

struct weir_batch *weir_batch_create(struct weir_pool *pool, struct weir_schema *schema) {
    int32_t total = count_columns(schema->fields, schema->count);
    int32_t buffers = total * BUFFERS_PER_COLUMN + 16;
    size_t columns_bytes = (size_t)total * sizeof(struct weir_column);
    size_t size = sizeof(struct weir_batch) + columns_bytes + (size_t)buffers * sizeof(void *) +
                  PARENTS_MAX_START * sizeof(void *);
    struct weir_batch *batch = weir_pool_take(pool, size);
    if (batch == NULL) {
        return NULL;
    }
    memset(batch, 0, sizeof(*batch));
    batch->references = 1;
    batch->pool = pool;
    batch->schema = weir_schema_ref(schema);
    batch->column_count = schema->count;
    batch->columns = (struct weir_column *)(batch + 1);
    batch->buffers = (void **)((uint8_t *)batch->columns + columns_bytes);
    batch->buffer_capacity = buffers;
    batch->parents = (struct weir_batch **)(batch->buffers + buffers);
    struct weir_column *next = batch->columns + schema->count;
    init_columns(batch->columns, schema->fields, schema->count, &next);
    return batch;
}

struct weir_batch *weir_batch_ref(struct weir_batch *batch) {
    __atomic_add_fetch(&batch->references, 1, __ATOMIC_RELAXED);
    return batch;
}

void weir_batch_unref(struct weir_batch *batch) {
    if (batch == NULL || __atomic_sub_fetch(&batch->references, 1, __ATOMIC_ACQ_REL) > 0) {
        return;
    }
    for (int32_t i = 0; i < batch->parent_count; i++) {
        weir_batch_unref(batch->parents[i]);
    }
    struct weir_pool *pool = batch->pool;
    for (int32_t i = 0; i < batch->buffer_count; i++) {
        weir_pool_give(pool, batch->buffers[i]);
    }
    if (batch->buffers_taken) { /* last: it was read until here */
        weir_pool_give(pool, batch->buffers);
    }
    weir_schema_unref(batch->schema);
    weir_pool_give(pool, batch);
}

/* Room in the list for one buffer more. */
static bool list_buffer(struct weir_batch *batch) {
    if (batch->buffer_count == batch->buffer_capacity) {
        /* Rare: a wider list, itself a pool buffer; the first one lies inside the batch. */
        int32_t capacity = batch->buffer_capacity * 2;
        void **buffers = weir_pool_take(batch->pool, (size_t)capacity * sizeof(void *));
        if (buffers == NULL) {
            return false;
        }
        memcpy(buffers, batch->buffers, (size_t)batch->buffer_count * sizeof(void *));
        if (batch->buffers_taken) {
            weir_pool_give(batch->pool, batch->buffers);
        }
        batch->buffers = buffers;
        batch->buffers_taken = true;
        batch->buffer_capacity = capacity;
    }
    return true;
}

bool weir_batch_adopt(struct weir_batch *batch, void *buffer) {
    bool listed = list_buffer(batch);
    if (listed) {
        batch->buffers[batch->buffer_count++] = buffer;
    }
    return listed;
}

void *weir_batch_alloc(struct weir_batch *batch, size_t bytes) {
    void *buffer = list_buffer(batch) ? weir_pool_take(batch->pool, bytes) : NULL;
    if (buffer != NULL) {
        batch->buffers[batch->buffer_count++] = buffer;
    }
    return buffer;
}

void *weir_batch_regrow(struct weir_batch *batch, void *buffer, size_t keep, size_t bytes) {
    int32_t at = batch->buffer_count - 1;
    while (at >= 0 && batch->buffers[at] != buffer) {
        at--;
    }
    void *wider = at >= 0 ? weir_pool_take(batch->pool, bytes) : NULL;
    if (wider != NULL) {
        memcpy(wider, buffer, keep);
        batch->buffers[at] = wider;
        weir_pool_give(batch->pool, buffer);
    }
    return wider;
}

static int add_parent(struct weir_batch *batch, struct weir_batch *parent) {
    for (int32_t i = 0; i < batch->parent_count; i++) {
        if (batch->parents[i] == parent) {
            return WEIR_OK;
        }
    }
    if (batch->parent_count >= PARENTS_MAX_START) {
        return WEIR_E_LIMIT; /* a row comes from few batches; more is a planning bug */
    }
    batch->parents[batch->parent_count++] = weir_batch_ref(parent);
    return WEIR_OK;
}

int weir_batch_keep(struct weir_batch *batch, struct weir_batch *parent) {
    return add_parent(batch, parent);
}

int weir_batch_borrow(struct weir_batch *batch, int32_t to, struct weir_batch *parent,
                      int32_t from) {
    int rc = add_parent(batch, parent);
    if (rc == WEIR_OK) {
        batch->columns[to] = parent->columns[from];
    }
    return rc;
}

size_t weir_batch_held_bytes(const struct weir_batch *batch) {
    size_t bytes = weir_pool_usable(batch);
    for (int32_t i = 0; i < batch->buffer_count; i++) {
        bytes += weir_pool_usable(batch->buffers[i]);
    }
    if (batch->buffers_taken) {
        bytes += weir_pool_usable(batch->buffers);
    }
    for (int32_t i = 0; i < batch->parent_count; i++) {
        bytes += weir_batch_held_bytes(batch->parents[i]);
    }
    return bytes;
}

int weir_column_init(struct weir_column *column, const struct weir_field *field,
                     struct weir_batch *batch) {
    int32_t total = count_columns(field->children, field->child_count);
    struct weir_column *next = NULL;
    if (total > 0) {
        next = weir_batch_alloc(batch, (size_t)total * sizeof(*next));
        if (next == NULL) {
            return WEIR_E_LIMIT;
        }
    }
    init_columns(column, field, 1, &next);
    return WEIR_OK;
}

/* --- slice ------------------------------------------------------------------------------- */

static uint8_t *slice_bits(struct weir_batch *batch, const uint8_t *bits, int64_t start,
                           int64_t rows) {
    if (bits == NULL || (start & 7) == 0) {
        return bits == NULL ? NULL : (uint8_t *)(uintptr_t)(bits + start / 8);
    }
    uint8_t *copy = weir_batch_alloc(batch, (size_t)rows / 8 + 9);
    if (copy == NULL) {
        return NULL;
    }
    const uint8_t *from = bits + start / 8;
    unsigned shift = (unsigned)(start & 7);
    for (int64_t i = 0; i < (rows + 7) / 8; i++) {
        unsigned low = from[i];
        unsigned high = (int64_t)i * 8 + (int64_t)(8 - shift) < rows ? from[i + 1] : 0;
        copy[i] = (uint8_t)(low >> shift | high << (8 - shift));
    }
    return copy;
}

static int64_t count_nulls(const uint8_t *validity, int64_t rows) {
    if (validity == NULL) {
        return 0;
    }
    int64_t valid = 0;
    for (int64_t i = 0; i < rows / 8; i++) {
        valid += __builtin_popcount(validity[i]);
    }
    for (int64_t i = rows & ~(int64_t)7; i < rows; i++) {
        valid += weir_bit_get(validity, i);
    }
    return rows - valid;
}

static int slice_column(struct weir_batch *batch, struct weir_column *to,
                        const struct weir_column *from, int64_t start, int64_t rows) {
    *to = *from;
    to->length = rows;
    if (from->validity != NULL) {
        to->validity = slice_bits(batch, from->validity, start, rows);
        if (to->validity == NULL) {
            return WEIR_E_LIMIT;
        }
        to->null_count = count_nulls(to->validity, rows);
        if (to->null_count == 0) {
            to->validity = NULL;
        }
    }
    if (from->codes != NULL) {
        to->codes = from->codes + start;
        return WEIR_OK;
    }
    if (from->offsets != NULL) {
        to->offsets = from->offsets + start; /* children and bytes stay whole */
        return WEIR_OK;
    }
    if (from->type == WEIR_TYPE_BOOL) {
        to->values = slice_bits(batch, from->values, start, rows);
        return to->values != NULL || from->values == NULL ? WEIR_OK : WEIR_E_LIMIT;
    }
    if (from->type == WEIR_TYPE_STRUCT) {
        to->children = weir_batch_alloc(batch, (size_t)from->child_count * sizeof(*to->children));
        if (to->children == NULL) {
            return WEIR_E_LIMIT;
        }
        for (int32_t i = 0; i < from->child_count; i++) {
            int rc = slice_column(batch, &to->children[i], &from->children[i], start, rows);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
        return WEIR_OK;
    }
    if (from->values != NULL) { /* a batch never filled has none */
        to->values = (uint8_t *)from->values + start * weir_type_width(from->type);
    }
    return WEIR_OK;
}

struct weir_batch *weir_batch_slice(struct weir_batch *batch, int32_t start, int32_t rows) {
    struct weir_batch *out = weir_batch_create(batch->pool, batch->schema);
    if (out == NULL) {
        return NULL;
    }
    int rc = add_parent(out, batch);
    out->frames = batch->frames;
    for (int32_t c = 0; rc == WEIR_OK && c < batch->column_count; c++) {
        rc = slice_column(out, &out->columns[c], &batch->columns[c], start, rows);
    }
    out->rows = rows;
    if (rc != WEIR_OK) {
        weir_batch_unref(out);
        return NULL;
    }
    return out;
}

/* --- gather ------------------------------------------------------------------------------ */

static int gather_column(struct weir_batch *batch, struct weir_column *to,
                         const struct weir_column *from, const int32_t *sel, int64_t count);

static int gather_validity(struct weir_batch *batch, struct weir_column *to,
                           const struct weir_column *from, const int32_t *sel, int64_t count) {
    to->validity = NULL;
    to->null_count = 0;
    if (from->validity == NULL) {
        return WEIR_OK;
    }
    size_t bytes = (size_t)count / 8 + 1;
    uint8_t *bits = weir_batch_alloc(batch, bytes);
    if (bits == NULL) {
        return WEIR_E_LIMIT;
    }
    memset(bits, 0, bytes);
    int64_t valid = 0;
    for (int64_t i = 0; i < count; i++) {
        bool v = weir_bit_get(from->validity, sel[i]);
        bits[i >> 3] |= (uint8_t)((unsigned)v << (i & 7));
        valid += v;
    }
    to->null_count = count - valid;
    to->validity = valid == count ? NULL : bits;
    return WEIR_OK;
}

static int gather_fixed(struct weir_batch *batch, struct weir_column *to,
                        const struct weir_column *from, const int32_t *sel, int64_t count,
                        int32_t width) {
    void *values = weir_batch_alloc(batch, (size_t)(count > 0 ? count : 1) * (size_t)width);
    if (values == NULL) {
        return WEIR_E_LIMIT;
    }
    to->values = values;
#define GATHER(type)                                                                               \
    do {                                                                                           \
        const type *source = from->values;                                                         \
        type *target = values;                                                                     \
        for (int64_t i = 0; i < count; i++) {                                                      \
            target[i] = source[sel[i]];                                                            \
        }                                                                                          \
    } while (0)
    switch (width) {
    case 1:
        GATHER(uint8_t);
        break;
    case 2:
        GATHER(uint16_t);
        break;
    case 4:
        GATHER(uint32_t);
        break;
    case 8:
        GATHER(uint64_t);
        break;
    default:
        GATHER(unsigned __int128);
        break;
    }
#undef GATHER
    return WEIR_OK;
}

static int gather_bytes(struct weir_batch *batch, struct weir_column *to,
                        const struct weir_column *from, const int32_t *sel, int64_t count) {
    int32_t *offsets = weir_batch_alloc(batch, ((size_t)count + 1) * sizeof(int32_t));
    if (offsets == NULL) {
        return WEIR_E_LIMIT;
    }
    int64_t total = 0;
    offsets[0] = 0;
    for (int64_t i = 0; i < count; i++) {
        total += from->offsets[sel[i] + 1] - from->offsets[sel[i]];
        if (total > INT32_MAX) {
            return WEIR_E_LIMIT;
        }
        offsets[i + 1] = (int32_t)total;
    }
    uint8_t *bytes = weir_batch_alloc(batch, total > 0 ? (size_t)total : 1);
    if (bytes == NULL) {
        return WEIR_E_LIMIT;
    }
    for (int64_t i = 0; i < count; i++) {
        memcpy(bytes + offsets[i], (const uint8_t *)from->values + from->offsets[sel[i]],
               (size_t)(offsets[i + 1] - offsets[i]));
    }
    to->offsets = offsets;
    to->values = bytes;
    return WEIR_OK;
}

static int gather_list(struct weir_batch *batch, struct weir_column *to,
                       const struct weir_column *from, const int32_t *sel, int64_t count) {
    int32_t *offsets = weir_batch_alloc(batch, ((size_t)count + 1) * sizeof(int32_t));
    to->children = weir_batch_alloc(batch, (size_t)from->child_count * sizeof(*to->children));
    if (offsets == NULL || to->children == NULL) {
        return WEIR_E_LIMIT;
    }
    int64_t total = 0;
    offsets[0] = 0;
    for (int64_t i = 0; i < count; i++) {
        total += from->offsets[sel[i] + 1] - from->offsets[sel[i]];
        if (total > INT32_MAX) {
            return WEIR_E_LIMIT;
        }
        offsets[i + 1] = (int32_t)total;
    }
    int32_t *inner = weir_batch_alloc(batch, (total > 0 ? (size_t)total : 1) * sizeof(int32_t));
    if (inner == NULL) {
        return WEIR_E_LIMIT;
    }
    int64_t at = 0;
    for (int64_t i = 0; i < count; i++) {
        for (int32_t j = from->offsets[sel[i]]; j < from->offsets[sel[i] + 1]; j++) {
            inner[at++] = j;
        }
    }
    to->offsets = offsets;
    for (int32_t c = 0; c < from->child_count; c++) {
        int rc = gather_column(batch, &to->children[c], &from->children[c], inner, total);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return WEIR_OK;
}

static int gather_column(struct weir_batch *batch, struct weir_column *to,
                         const struct weir_column *from, const int32_t *sel, int64_t count) {
    *to = *from;
    to->length = count;
    int rc = gather_validity(batch, to, from, sel, count);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (from->codes != NULL) {
        struct weir_column codes = *from;
        codes.values = from->codes;
        rc = gather_fixed(batch, to, &codes, sel, count, 4);
        to->codes = to->values;
        to->values = NULL;
        return rc;
    }
    if (weir_type_is_bytes(from->type)) {
        return gather_bytes(batch, to, from, sel, count);
    }
    if (from->type == WEIR_TYPE_LIST || from->type == WEIR_TYPE_MAP) {
        return gather_list(batch, to, from, sel, count);
    }
    if (from->type == WEIR_TYPE_STRUCT) {
        to->children = weir_batch_alloc(batch, (size_t)from->child_count * sizeof(*to->children));
        if (to->children == NULL) {
            return WEIR_E_LIMIT;
        }
        for (int32_t c = 0; c < from->child_count; c++) {
            rc = gather_column(batch, &to->children[c], &from->children[c], sel, count);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
        return WEIR_OK;
    }
    if (from->type == WEIR_TYPE_BOOL) {
        size_t bytes = (size_t)count / 8 + 1;
        uint8_t *bits = weir_batch_alloc(batch, bytes);
        if (bits == NULL) {
            return WEIR_E_LIMIT;
        }
        memset(bits, 0, bytes);
        for (int64_t i = 0; i < count; i++) {
            bits[i >> 3] |= (uint8_t)((unsigned)weir_bit_get(from->values, sel[i]) << (i & 7));
        }
        to->values = bits;
        return WEIR_OK;
    }
    return gather_fixed(batch, to, from, sel, count, weir_type_width(from->type));
}

static bool has_dictionary(const struct weir_column *column) {
    bool has = column->codes != NULL;
    for (int32_t c = 0; !has && c < column->child_count; c++) {
        has = has_dictionary(&column->children[c]);
    }
    return has;
}

int weir_batch_gather_column(struct weir_batch *batch, int32_t to, struct weir_batch *parent,
                             const struct weir_column *from, const int32_t *sel, int64_t count) {
    int rc = has_dictionary(from) ? add_parent(batch, parent) : WEIR_OK;
    return rc == WEIR_OK ? gather_column(batch, &batch->columns[to], from, sel, count) : rc;
}

struct weir_batch *weir_batch_gather(struct weir_batch *batch, const int32_t *sel, int32_t count) {
    struct weir_batch *out = weir_batch_create(batch->pool, batch->schema);
    if (out == NULL) {
        return NULL;
    }
    out->rows = count;
    for (int32_t c = 0; c < batch->column_count; c++) {
        int rc = weir_batch_gather_column(out, c, batch, &batch->columns[c], sel, count);
        if (rc != WEIR_OK) {
            weir_batch_unref(out);
            return NULL;
        }
    }
    return out;
}
