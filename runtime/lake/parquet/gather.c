/* From batch rows to leaf staging. This copy through the selection is also the compaction of the
 * batch: nothing else copies the values before they are encoded. Flat columns go in runs of rows;
 * nested ones are shredded into levels and value positions first (Dremel), then gathered alike. */
#include <stdlib.h>
#include <string.h>

#include "core/decimal.h"
#include "lake/parquet/leaf.h"

enum {
    RUN_ROWS = 1024,       /* rows per step, so that page limits are looked at in time */
    RUN_ROWS_LARGE = 16,   /* where single values are large */
    NESTED_ROWS = 64,      /* rows shredded between two gathers */
    LARGE_BYTES = 4 << 20, /* bytes in a batch column that make values "large" */
    DECIDE_VALUES = 4096,  /* a column this far in with mostly new values needs no dictionary */
    SHORT_COPY = 32,
};

static int no_memory(const struct parquet_leaf *leaf, int code, struct weir_error *err) {
    return parquet_leaf_error(leaf, code, err,
                              code == WEIR_E_LIMIT ? "a page would pass 2 GiB; write smaller values"
                                                   : "out of memory");
}

/* --- fixed-width values ------------------------------------------------------------------ */

#define COPY_AS(from_type, to_type)                                                                \
    do {                                                                                           \
        const from_type *from = column->values;                                                    \
        to_type *to = (to_type *)staged;                                                           \
        if (index == NULL) {                                                                       \
            for (int32_t i = 0; i < count; i++) {                                                  \
                to[i] = (to_type)from[start + i];                                                  \
            }                                                                                      \
        } else {                                                                                   \
            for (int32_t i = 0; i < count; i++) {                                                  \
                to[i] = (to_type)from[index[i]];                                                   \
            }                                                                                      \
        }                                                                                          \
    } while (0)

static int copy_decimals(const struct parquet_leaf *leaf, const struct weir_column *column,
                         const int32_t *index, int32_t start, int32_t count, uint8_t *staged,
                         struct weir_error *err) {
    const uint8_t *from = column->values;
    __int128 bound = weir_decimal_power10(leaf->field->precision);
    bool fits = true;
    for (int32_t i = 0; i < count; i++) {
        __int128 value;
        memcpy(&value, from + (size_t)(index != NULL ? index[i] : start + i) * sizeof(value),
               sizeof(value));
        fits = fits && value < bound && value > -bound;
        if (leaf->store == PARQUET_STORE_I32) {
            ((int32_t *)staged)[i] = (int32_t)value;
        } else if (leaf->store == PARQUET_STORE_I64) {
            ((int64_t *)staged)[i] = (int64_t)value;
        } else {
            parquet_store_be(staged + (size_t)i * (size_t)leaf->width, leaf->width, value);
        }
    }
    if (!fits) {
        return weir_error_set(err, WEIR_E_DATA,
                              "parquet column %s: a value does not fit decimal(%d,%d)",
                              leaf->info_path[0], leaf->field->precision, leaf->field->scale);
    }
    return WEIR_OK;
}

static int gather_fixed(struct parquet_leaf *leaf, const struct weir_column *column,
                        const int32_t *index, int32_t start, int32_t count,
                        struct weir_error *err) {
    size_t size = (size_t)count * (size_t)leaf->width;
    int rc = weir_buffer_reserve(&leaf->values, size + PARQUET_SLACK);
    if (rc != WEIR_OK) {
        return no_memory(leaf, rc, err);
    }
    uint8_t *staged = leaf->values.data + leaf->values.size;
    leaf->values.size += size;
    switch (leaf->field->type) {
    case WEIR_TYPE_BOOL:
        for (int32_t i = 0; i < count; i++) {
            staged[i] = weir_bit_get(column->values, index != NULL ? index[i] : start + i);
        }
        return WEIR_OK;
    case WEIR_TYPE_INT8:
        COPY_AS(int8_t, int32_t);
        return WEIR_OK;
    case WEIR_TYPE_INT16:
        COPY_AS(int16_t, int32_t);
        return WEIR_OK;
    case WEIR_TYPE_DECIMAL:
        return copy_decimals(leaf, column, index, start, count, staged, err);
    default:
        if (leaf->width == 4) {
            COPY_AS(uint32_t, uint32_t);
        } else {
            COPY_AS(uint64_t, uint64_t);
        }
        return WEIR_OK;
    }
}

/* A dictionary-encoded column of fixed width: positions in the dictionary instead of rows. */
static int gather_coded(struct parquet_leaf *leaf, const struct weir_column *column,
                        const int32_t *index, int32_t start, int32_t count,
                        struct weir_error *err) {
    int32_t positions[RUN_ROWS];
    for (int32_t at = 0; at < count; at += RUN_ROWS) {
        int32_t n = count - at < RUN_ROWS ? count - at : RUN_ROWS;
        for (int32_t i = 0; i < n; i++) {
            positions[i] = column->codes[index != NULL ? index[at + i] : start + at + i];
        }
        int rc = gather_fixed(leaf, column->dictionary, positions, 0, n, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return WEIR_OK;
}

/* --- strings ----------------------------------------------------------------------------- */

static int stage_codes(struct weir_parquet_writer *writer, struct parquet_leaf *leaf,
                       const struct weir_column *column, const int32_t *index, int32_t start,
                       int32_t count, int32_t *done, struct weir_error *err) {
    int rc = weir_buffer_reserve(&leaf->codes, ((size_t)count + 8) * sizeof(uint32_t));
    if (rc != WEIR_OK) {
        return no_memory(leaf, rc, err);
    }
    uint32_t *codes = (uint32_t *)(leaf->codes.data + leaf->codes.size);
    const struct weir_column *values = column->codes != NULL ? column->dictionary : column;
    /* A batch dictionary is looked up once per distinct value, unless it is much the larger. */
    uint32_t *remap = NULL;
    if (column->codes != NULL && values->length <= 2 * (int64_t)count) {
        if (writer->remap_capacity < values->length) {
            free(writer->remap);
            writer->remap_capacity = (int32_t)values->length * 2;
            writer->remap = malloc((size_t)writer->remap_capacity * sizeof(*writer->remap));
            if (writer->remap == NULL) {
                writer->remap_capacity = 0;
                return no_memory(leaf, WEIR_E_NOMEM, err);
            }
        }
        remap = writer->remap;
        memset(remap, 0, (size_t)values->length * sizeof(*remap));
    }
    const uint8_t *bytes = values->values;
    int64_t logical = 0;
    int32_t i = 0;
    if (column->codes == NULL) {
        const int32_t *offsets = values->offsets + (index == NULL ? start : 0);
        int64_t coded =
            parquet_dictionary_add_bytes(&leaf->dictionary, bytes, offsets, index, count, codes);
        if (coded < 0) {
            return no_memory(leaf, WEIR_E_NOMEM, err);
        }
        if (index == NULL) {
            logical = offsets[coded] - offsets[0];
        }
        for (int64_t j = 0; index != NULL && j < coded; j++) {
            logical += offsets[index[j] + 1] - offsets[index[j]];
        }
        i = (int32_t)coded;
        count = i;
    }
    for (; i < count; i++) {
        int64_t row = index != NULL ? index[i] : start + i;
        row = column->codes[row];
        int32_t begin = values->offsets[row];
        uint32_t size = (uint32_t)(values->offsets[row + 1] - begin);
        logical += size;
        if (remap != NULL && remap[row] != 0) {
            codes[i] = remap[row] - 1;
            continue;
        }
        int64_t code = parquet_dictionary_add(&leaf->dictionary, bytes + begin, size);
        if (code < 0) {
            if (code == PARQUET_DICTIONARY_NOMEM) {
                return no_memory(leaf, WEIR_E_NOMEM, err);
            }
            logical -= size;
            break;
        }
        codes[i] = (uint32_t)code;
        if (remap != NULL) {
            remap[row] = (uint32_t)code + 1;
        }
    }
    leaf->codes.size += (size_t)i * sizeof(uint32_t);
    leaf->logical_bytes += logical;
    *done = i;
    return WEIR_OK;
}

static int stage_bytes(struct parquet_leaf *leaf, const struct weir_column *column,
                       const int32_t *index, int32_t start, int32_t count, struct weir_error *err) {
    const struct weir_column *values = column->codes != NULL ? column->dictionary : column;
    const int32_t *offsets = values->offsets;
    const uint8_t *bytes = values->values;
    int rc = weir_buffer_reserve(&leaf->lengths, (size_t)count * sizeof(int32_t));
    if (rc != WEIR_OK) {
        return no_memory(leaf, rc, err);
    }
    int32_t *lengths = (int32_t *)(leaf->lengths.data + leaf->lengths.size);
    size_t total = 0;
    bool plain_run = index == NULL && column->codes == NULL;
    for (int32_t i = 0; i < count; i++) {
        int64_t row = index != NULL ? index[i] : start + i;
        row = column->codes != NULL ? column->codes[row] : row;
        lengths[i] = offsets[row + 1] - offsets[row];
        total += (size_t)lengths[i];
    }
    rc = weir_buffer_reserve(&leaf->values, total + PARQUET_SLACK);
    if (rc != WEIR_OK) {
        return no_memory(leaf, rc, err);
    }
    uint8_t *to = leaf->values.data + leaf->values.size;
    leaf->values.size += total;
    leaf->lengths.size += (size_t)count * sizeof(int32_t);
    if (plain_run) {
        if (total > 0) {
            memcpy(to, bytes + offsets[start], total);
        }
        return WEIR_OK;
    }
    /* Short values are copied as one fixed block while that stays inside the source. */
    const uint8_t *safe_end = bytes + (values->length > 0 ? offsets[values->length] : 0);
    for (int32_t i = 0; i < count; i++) {
        int64_t row = index != NULL ? index[i] : start + i;
        row = column->codes != NULL ? column->codes[row] : row;
        const uint8_t *from = bytes + offsets[row];
        if (lengths[i] <= SHORT_COPY && safe_end - from >= SHORT_COPY) {
            memcpy(to, from, SHORT_COPY);
        } else if (lengths[i] > 0) {
            memcpy(to, from, (size_t)lengths[i]);
        }
        to += lengths[i];
    }
    return WEIR_OK;
}

int parquet_gather_values(struct weir_parquet_writer *writer, struct parquet_leaf *leaf,
                          const struct weir_column *column, const int32_t *index, int32_t start,
                          int32_t count, struct weir_error *err) {
    leaf->present += count;
    if (leaf->store != PARQUET_STORE_BYTES) {
        return column->codes != NULL ? gather_coded(leaf, column, index, start, count, err)
                                     : gather_fixed(leaf, column, index, start, count, err);
    }
    int32_t done = 0;
    if (leaf->mode != PARQUET_MODE_VALUES) {
        int rc = stage_codes(writer, leaf, column, index, start, count, &done, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        bool full = done < count;
        bool useless = leaf->mode == PARQUET_MODE_UNDECIDED && leaf->present >= DECIDE_VALUES &&
                       parquet_leaf_mostly_new(leaf, leaf->present);
        if (full || useless) {
            rc = parquet_leaf_leave_dictionary(writer, leaf, err);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
    }
    if (done == count) {
        return WEIR_OK;
    }
    return stage_bytes(leaf, column, index != NULL ? index + done : NULL, start + done,
                       count - done, err);
}

/* --- flat columns ------------------------------------------------------------------------ */

/* From now on this page's definition levels are kept one by one. */
static int stage_levels(struct parquet_leaf *leaf, int32_t extra) {
    if (!leaf->levels_staged) {
        weir_buffer_clear(&leaf->definition);
        int rc =
            weir_buffer_reserve(&leaf->definition, (size_t)(leaf->entries + extra) + PARQUET_SLACK);
        if (rc != WEIR_OK) {
            return rc;
        }
        memset(leaf->definition.data, leaf->max_definition, (size_t)leaf->entries);
        leaf->definition.size = (size_t)leaf->entries;
        leaf->levels_staged = true;
        return WEIR_OK;
    }
    return weir_buffer_reserve(&leaf->definition, (size_t)extra + PARQUET_SLACK);
}

static int gather_nullable_run(struct weir_parquet_writer *writer, struct parquet_leaf *leaf,
                               const struct weir_column *column, const int32_t *sel, int32_t start,
                               int32_t count, struct weir_error *err) {
    int32_t *index = writer->index_scratch;
    int32_t present = 0;
    uint8_t levels[RUN_ROWS];
    for (int32_t i = 0; i < count; i++) {
        int32_t row = sel != NULL ? sel[start + i] : start + i;
        uint8_t valid = weir_bit_get(column->validity, row);
        levels[i] = valid;
        index[present] = row;
        present += valid;
    }
    if (present < count && leaf->max_definition == 0) {
        return parquet_leaf_error(leaf, WEIR_E_DATA, err, "null in a column declared not null");
    }
    if (present < count || leaf->levels_staged) {
        int rc = stage_levels(leaf, count);
        if (rc != WEIR_OK) {
            return no_memory(leaf, rc, err);
        }
        memcpy(leaf->definition.data + leaf->definition.size, levels, (size_t)count);
        leaf->definition.size += (size_t)count;
    }
    leaf->entries += count;
    leaf->rows += count;
    return parquet_gather_values(writer, leaf, column, index, 0, present, err);
}

static int gather_full_run(struct weir_parquet_writer *writer, struct parquet_leaf *leaf,
                           const struct weir_column *column, const int32_t *sel, int32_t start,
                           int32_t count, struct weir_error *err) {
    if (leaf->levels_staged) {
        int rc = stage_levels(leaf, count);
        if (rc != WEIR_OK) {
            return no_memory(leaf, rc, err);
        }
        memset(leaf->definition.data + leaf->definition.size, leaf->max_definition, (size_t)count);
        leaf->definition.size += (size_t)count;
    }
    leaf->entries += count;
    leaf->rows += count;
    return parquet_gather_values(writer, leaf, column, sel != NULL ? sel + start : NULL, start,
                                 count, err);
}

static bool page_is_full(const struct weir_parquet_writer *writer,
                         const struct parquet_leaf *leaf) {
    return leaf->rows >= writer->options.page_rows || leaf->entries >= 1 << 20 ||
           (int64_t)(leaf->values.size - leaf->headroom) >= writer->options.page_bytes;
}

/* Rows per step for this column: few when its values are large, so that pages stay near their
 * size. */
static int32_t run_rows(const struct weir_column *column) {
    const struct weir_column *values = column->codes != NULL ? column->dictionary : column;
    if (values->offsets == NULL || values->length == 0) {
        return RUN_ROWS;
    }
    int64_t bytes = (int64_t)values->offsets[values->length] - values->offsets[0];
    return bytes > LARGE_BYTES ? RUN_ROWS_LARGE : RUN_ROWS;
}

int parquet_gather_flat(struct weir_parquet_writer *writer, struct parquet_leaf *leaf,
                        const struct weir_column *column, const int32_t *sel, int32_t count,
                        struct weir_error *err) {
    int32_t step = run_rows(column);
    for (int32_t at = 0; at < count;) {
        int32_t room = writer->options.page_rows - leaf->rows;
        int32_t n = count - at < room ? count - at : room;
        n = n < step ? n : step;
        int rc = column->validity != NULL
                     ? gather_nullable_run(writer, leaf, column, sel, at, n, err)
                     : gather_full_run(writer, leaf, column, sel, at, n, err);
        if (rc == WEIR_OK && page_is_full(writer, leaf)) {
            rc = parquet_leaf_flush(writer, leaf, err);
        }
        if (rc != WEIR_OK) {
            return rc;
        }
        at += n;
    }
    return WEIR_OK;
}

/* --- nested columns ---------------------------------------------------------------------- */

struct shred {
    struct weir_parquet_writer *writer;
    struct weir_error *err;
    int rc; /* first failure */
};

static void put_level(struct shred *shred, struct weir_buffer *levels, uint8_t level) {
    if (levels->size + PARQUET_SLACK >= levels->capacity) {
        int rc = weir_buffer_reserve(levels, levels->size + 2 * PARQUET_SLACK);
        if (rc != WEIR_OK) {
            shred->rc =
                weir_error_set(shred->err, rc, "parquet: a row's lists are too long for one page");
            return;
        }
    }
    levels->data[levels->size++] = level;
}

static void put_entry(struct shred *shred, struct parquet_leaf *leaf, int repetition,
                      int definition) {
    leaf->entries++;
    put_level(shred, &leaf->definition, (uint8_t)definition);
    if (leaf->max_repetition > 0) {
        put_level(shred, &leaf->repetition, (uint8_t)repetition);
    }
}

static void put_absent(struct shred *shred, const struct parquet_shape *shape, int repetition,
                       int definition) {
    for (int32_t i = 0; i < shape->leaf_count; i++) {
        put_entry(shred, &shred->writer->leaves[shape->leaf_first + i], repetition, definition);
    }
}

static void shred_value(struct shred *shred, const struct parquet_shape *shape,
                        const struct weir_column *column, int64_t row, int repetition,
                        int definition) {
    if (shred->rc != WEIR_OK) {
        return;
    }
    if (weir_column_is_null(column, row)) {
        if (!shape->optional) {
            const struct parquet_leaf *leaf = &shred->writer->leaves[shape->leaf_first];
            shred->rc = parquet_leaf_error(leaf, WEIR_E_DATA, shred->err,
                                           "null in a nested field declared not null");
            return;
        }
        put_absent(shred, shape, repetition, definition);
        return;
    }
    definition += shape->optional ? 1 : 0;
    switch (shape->kind) {
    case PARQUET_NODE_LEAF: {
        struct parquet_leaf *leaf = &shred->writer->leaves[shape->leaf_first];
        int32_t position = (int32_t)row;
        put_entry(shred, leaf, repetition, definition);
        int rc = weir_buffer_append(&leaf->indices, &position, sizeof(position));
        if (rc != WEIR_OK) {
            shred->rc = no_memory(leaf, rc, shred->err);
        }
        return;
    }
    case PARQUET_NODE_STRUCT:
        for (int32_t i = 0; i < shape->child_count; i++) {
            shred_value(shred, &shape->children[i], &column->children[i], row, repetition,
                        definition);
        }
        return;
    default: {
        int32_t begin = column->offsets[row];
        int32_t end = column->offsets[row + 1];
        if (begin == end) {
            put_absent(shred, shape, repetition, definition);
            return;
        }
        int inner = shape->repetition_level + 1;
        for (int32_t i = 0; i < shape->child_count; i++) {
            for (int32_t j = begin; j < end && shred->rc == WEIR_OK; j++) {
                shred_value(shred, &shape->children[i], &column->children[i], j,
                            j == begin ? repetition : inner, definition + 1);
            }
        }
        return;
    }
    }
}

/* Gathers what shredding selected, leaf by leaf, and flushes full pages. */
static int gather_shredded(struct weir_parquet_writer *writer, const struct parquet_shape *shape,
                           const struct weir_column *column, int32_t rows, struct weir_error *err) {
    if (shape->kind != PARQUET_NODE_LEAF) {
        int rc = WEIR_OK;
        for (int32_t i = 0; i < shape->child_count && rc == WEIR_OK; i++) {
            rc = gather_shredded(writer, &shape->children[i], &column->children[i], rows, err);
        }
        return rc;
    }
    struct parquet_leaf *leaf = &writer->leaves[shape->leaf_first];
    int rc = parquet_gather_values(writer, leaf, column, (const int32_t *)leaf->indices.data, 0,
                                   (int32_t)(leaf->indices.size / sizeof(int32_t)), err);
    weir_buffer_clear(&leaf->indices);
    leaf->rows += rows;
    if (rc == WEIR_OK && page_is_full(writer, leaf)) {
        rc = parquet_leaf_flush(writer, leaf, err);
    }
    return rc;
}

int parquet_shred(struct weir_parquet_writer *writer, const struct parquet_shape *shape,
                  const struct weir_column *column, const int32_t *sel, int32_t count,
                  struct weir_error *err) {
    struct shred shred = {.writer = writer, .err = err};
    for (int32_t at = 0; at < count; at += NESTED_ROWS) {
        int32_t n = count - at < NESTED_ROWS ? count - at : NESTED_ROWS;
        for (int32_t i = 0; i < shape->leaf_count; i++) {
            writer->leaves[shape->leaf_first + i].levels_staged = true;
        }
        for (int32_t i = 0; i < n; i++) {
            shred_value(&shred, shape, column, sel != NULL ? sel[at + i] : at + i, 0, 0);
        }
        int rc = shred.rc;
        if (rc == WEIR_OK) {
            rc = gather_shredded(writer, shape, column, n, err);
        }
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return WEIR_OK;
}
