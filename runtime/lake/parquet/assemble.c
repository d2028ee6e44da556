/* From levels back to nested columns. Every node of the tree reads the levels of its first leaf:
 * an entry is a slot of the node when its repetition level does not continue a deeper list and its
 * definition level reaches the enclosing list's elements. All leaves must agree. */
#include <string.h>

#include "lake/parquet/file.h"

struct levels {
    const uint8_t *definition; /* NULL: all zero */
    const uint8_t *repetition;
    int64_t count;
};

static struct levels levels_of(const struct parquet_column *leaf) {
    struct levels levels = {
        .definition = leaf->node->definition > 0 ? leaf->out_definition.data : NULL,
        .repetition = leaf->node->repetition_level > 0 ? leaf->out_repetition.data : NULL,
        .count = leaf->out_entries,
    };
    return levels;
}

static int no_room(const struct parquet_column *leaf, struct weir_error *err) {
    return weir_error_set(err, WEIR_E_LIMIT, "parquet column %s: the batch passes the pool's limit",
                          leaf->node->name);
}

static int disagree(const struct parquet_column *leaf, struct weir_error *err) {
    return parquet_corrupt(leaf, err, "levels disagree with another column or the row count");
}

/* Packs bytes of 0 and 1 into bits. NULL at the cap. */
static uint8_t *pack_bits(struct weir_batch *batch, const uint8_t *bytes, int64_t n) {
    uint8_t *bits = weir_batch_alloc(batch, (size_t)n / 8 + 1);
    if (bits != NULL) {
        memset(bits, 0, (size_t)n / 8 + 1);
        for (int64_t i = 0; i < n; i++) {
            bits[i >> 3] |= (uint8_t)(bytes[i] << (i & 7));
        }
    }
    return bits;
}

static int assemble_leaf(const struct parquet_column *leaf, struct weir_batch *batch,
                         struct weir_column *column, int64_t expected, struct weir_error *err) {
    int64_t n = leaf->out_slots;
    if (n != expected) {
        return disagree(leaf, err);
    }
    column->length = n;
    column->null_count = leaf->out_nulls;
    if (column->type == WEIR_TYPE_FLOAT || column->type == WEIR_TYPE_DOUBLE) {
        column->flags = WEIR_COLUMN_MAY_HAVE_NAN;
    }
    if (leaf->out_nulls > 0) {
        column->validity = pack_bits(batch, leaf->out_validity.data, n);
        if (column->validity == NULL) {
            return no_room(leaf, err);
        }
    }
    if (column->type == WEIR_TYPE_BOOL) {
        column->values = pack_bits(batch, leaf->out_values.data, n);
        return column->values != NULL ? WEIR_OK : no_room(leaf, err);
    }
    column->values = weir_batch_alloc(batch, leaf->out_values.size + 1);
    if (column->values == NULL) {
        return no_room(leaf, err);
    }
    if (leaf->out_values.size > 0) {
        memcpy(column->values, leaf->out_values.data, leaf->out_values.size);
    }
    if (weir_type_is_bytes(column->type)) {
        column->offsets = weir_batch_alloc(batch, ((size_t)n + 1) * sizeof(int32_t));
        if (column->offsets == NULL) {
            return no_room(leaf, err);
        }
        column->offsets[0] = 0;
        if (n > 0) {
            memcpy(column->offsets + 1, leaf->out_offsets.data, (size_t)n * sizeof(int32_t));
        }
    }
    return WEIR_OK;
}

static int assemble_group(struct weir_parquet_reader *reader, const struct parquet_slot *slot,
                          const struct parquet_column *leaf, struct weir_batch *batch,
                          struct weir_column *column, int64_t expected, struct weir_error *err) {
    struct levels levels = levels_of(leaf);
    bool is_list = slot->field->type != WEIR_TYPE_STRUCT;
    uint8_t *validity = weir_batch_alloc(batch, (size_t)expected / 8 + 1);
    int32_t *offsets =
        is_list ? weir_batch_alloc(batch, ((size_t)expected + 1) * sizeof(int32_t)) : NULL;
    if (validity == NULL || (is_list && offsets == NULL)) {
        return no_room(leaf, err);
    }
    memset(validity, 0, (size_t)expected / 8 + 1);
    int64_t slots = 0;
    int64_t nulls = 0;
    int64_t elements = 0;
    for (int64_t i = 0; i < levels.count; i++) {
        uint8_t definition = levels.definition != NULL ? levels.definition[i] : 0;
        uint8_t repetition = levels.repetition != NULL ? levels.repetition[i] : 0;
        if (definition < slot->slot_definition) {
            continue;
        }
        if (repetition <= slot->repetition) {
            if (slots == expected) {
                return disagree(leaf, err);
            }
            if (is_list) {
                offsets[slots] = (int32_t)elements;
            }
            if (definition >= slot->valid_definition) {
                weir_bit_set(validity, slots);
            } else {
                nulls++;
            }
            slots++;
        }
        if (is_list && definition >= slot->repeated_definition &&
            repetition <= slot->repetition + 1) {
            elements++;
        }
    }
    if (slots != expected || elements > INT32_MAX) {
        return disagree(leaf, err);
    }
    column->length = slots;
    column->null_count = nulls;
    column->validity = nulls > 0 ? validity : NULL;
    if (is_list) {
        offsets[slots] = (int32_t)elements;
        column->offsets = offsets;
    }
    for (int32_t i = 0; i < slot->child_count; i++) {
        int rc = parquet_assemble(reader, &slot->children[i], batch, &column->children[i],
                                  is_list ? elements : slots, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    if (slot->field->type == WEIR_TYPE_MAP && column->children[0].null_count > 0) {
        return parquet_corrupt(leaf, err, "a map key is null");
    }
    return WEIR_OK;
}

int parquet_assemble(struct weir_parquet_reader *reader, const struct parquet_slot *slot,
                     struct weir_batch *batch, struct weir_column *column, int64_t expected,
                     struct weir_error *err) {
    const struct parquet_column *leaf = parquet_reader_column(reader, slot->leaf);
    if (slot->child_count == 0) {
        return assemble_leaf(leaf, batch, column, expected, err);
    }
    return assemble_group(reader, slot, leaf, batch, column, expected, err);
}
