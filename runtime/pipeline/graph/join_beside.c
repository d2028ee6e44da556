/* What a join or lookup has put beside a row, as plain columns of their own (plan: `beside`):
 * whether there is something, then its fields. So joins written later can take it for a key and
 * keep it, as they do columns of the row; where functions read it, it is the struct again. */
#include <string.h>

#include "pipeline/graph/join.h"

/* What is there of a field of the struct: nothing, where the struct is null. */
static int field_alone(struct weir_batch *batch, const struct weir_column *from,
                       const struct weir_column *field, struct weir_column *to) {
    size_t bytes = ((size_t)batch->rows + 7) / 8;
    *to = *field;
    if (from->null_count == 0) {
        return WEIR_OK;
    }
    uint8_t *validity = weir_batch_alloc(batch, bytes + 8);
    if (validity == NULL) {
        return WEIR_E_LIMIT;
    }
    int64_t valid = 0;
    for (size_t i = 0; i < bytes; i++) {
        validity[i] = from->validity[i];
        validity[i] &= field->validity != NULL ? field->validity[i] : UINT8_MAX;
    }
    for (int32_t i = 0; i < batch->rows; i++) {
        valid += (validity[i >> 3] >> (i & 7)) & 1;
    }
    to->validity = validity;
    to->null_count = batch->rows - valid;
    return WEIR_OK;
}

int beside_spread(struct weir_node *node, int32_t column, int32_t beside,
                  struct weir_batch *batch) {
    const struct weir_field *field = &node->input->fields[column];
    const struct weir_column *from = &batch->columns[column];
    if (beside < 0) {
        return WEIR_OK;
    }
    struct weir_column *there = &batch->columns[beside];
    size_t bytes = ((size_t)batch->rows + 7) / 8 + 8;
    uint8_t *ones = weir_batch_alloc(batch, bytes);
    if (ones == NULL) {
        return WEIR_E_LIMIT;
    }
    memset(ones, UINT8_MAX, bytes);
    there->values = ones;
    there->validity = from->null_count > 0 ? from->validity : NULL;
    there->null_count = from->null_count;
    there->length = batch->rows;
    int rc = WEIR_OK;
    for (int32_t k = 0; rc == WEIR_OK && k < field->child_count; k++) {
        rc = field_alone(batch, from, &from->children[k], &batch->columns[beside + 1 + k]);
    }
    return rc;
}

static void gather(const struct weir_node *node, int32_t column, int32_t beside,
                   struct weir_batch *batch) {
    const struct weir_field *field = &node->input->fields[column];
    if (beside < 0) {
        return;
    }
    const struct weir_column *there = &batch->columns[beside];
    struct weir_column *to = &batch->columns[column];
    to->length = batch->rows;
    to->validity = there->validity;
    to->null_count = there->null_count;
    for (int32_t k = 0; k < field->child_count; k++) {
        to->children[k] = batch->columns[beside + 1 + k];
    }
}

void beside_gather(const struct join *join, struct weir_batch *batch) {
    const struct weir_node *node = join->node;
    const struct weir_plan_stream *stream = node->stream;
    int32_t at = (int32_t)(join - node->join);
    for (int32_t i = 0; i < at; i++) {
        gather(node, stream->joins[i].column, stream->joins[i].beside, batch);
    }
    for (int32_t i = 0; i < stream->lookup_count; i++) {
        if (stream->lookups[i].before <= at && stream->lookups[i].before < node->join_count) {
            gather(node, stream->lookups[i].column, stream->lookups[i].beside, batch);
        }
    }
}
