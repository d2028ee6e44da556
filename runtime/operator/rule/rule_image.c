/* Images of a rule's slots. A slot of another layout keeps its image as it came until its key is
 * met. */
#include <stdlib.h>
#include <string.h>

#include "operator/rule/rule_private.h"
#include "state/image.h"

/* --- encode ----------------------------------------------------------------------------------- */

static int put_varint(struct weir_buffer *out, uint64_t value) {
    uint8_t bytes[WEIR_VARINT_MAX];
    return weir_buffer_append(out, bytes, (size_t)(weir_varint_put(bytes, value) - bytes));
}

static int put_record(const struct rule_cell *cell, const uint8_t *record,
                      struct weir_buffer *out) {
    int rc = weir_buffer_append(out, record, 8 + (size_t)cell->field_count);
    for (int32_t f = 0; rc == WEIR_OK && f < cell->field_count; f++) {
        const struct rule_field *field = &cell->fields[f];
        if (!rule_field_there(record, f)) {
            continue;
        }
        if (weir_type_is_bytes(field->type)) {
            const struct weir_rule_text *text;
            memcpy(&text, record + field->offset, sizeof text);
            rc = put_varint(out, (uint64_t)text->length);
            rc = rc == WEIR_OK ? weir_buffer_append(out, text->bytes, (size_t)text->length) : rc;
        } else {
            rc = weir_buffer_append(out, record + field->offset, field->width);
        }
    }
    return rc;
}

static int encode(void *context, const void *value, struct weir_buffer *out) {
    struct weir_rule_state *state = *(struct weir_rule_state **)context;
    const struct rule_slot *slot = value;
    if (slot->raw != NULL) {
        return weir_buffer_append(out, slot->raw, slot->raw_bytes);
    }
    uint64_t head[2] = {slot->layout, (uint64_t)slot->changed_us};
    int rc = weir_buffer_append(out, head, sizeof head);
    for (int32_t c = 0; rc == WEIR_OK && c < state->cell_count; c++) {
        const struct rule_cell *cell = &state->cells[c];
        if (cell->kind == WEIR_RULE_SKETCH) {
            const struct weir_part *part = slot->cells[c].sketch;
            rc = put_varint(out, part != NULL ? part->length : 0);
            rc = rc == WEIR_OK && part != NULL ? weir_buffer_append(out, part->bytes, part->length)
                                               : rc;
            continue;
        }
        struct rule_block *block = slot->cells[c].block;
        uint32_t count = block != NULL ? block->count : 0;
        rc = put_varint(out, count);
        for (uint32_t i = 0; rc == WEIR_OK && i < count; i++) {
            rc = put_record(cell, rule_record(cell, block, i), out);
        }
    }
    return rc;
}

/* --- decode ----------------------------------------------------------------------------------- */

static bool take_text(struct weir_image_reader *reader, struct weir_heap *heap, uint8_t *field) {
    const uint8_t *bytes;
    size_t length;
    if (!weir_image_bytes(reader, &bytes, &length) || length > INT32_MAX - 16) {
        return false;
    }
    struct weir_rule_text *text = weir_heap_take(heap, rule_text_bytes(length));
    if (text == NULL) {
        return false;
    }
    text->length = (int32_t)length;
    memcpy(text->bytes, bytes, length);
    memcpy(field, &text, sizeof text);
    return true;
}

static bool take_record(struct weir_image_reader *reader, struct weir_heap *heap,
                        const struct rule_cell *cell, uint8_t *record) {
    bool good = weir_image_fixed(reader, record, 8 + (size_t)cell->field_count);
    for (int32_t f = 0; good && f < cell->field_count; f++) {
        const struct rule_field *field = &cell->fields[f];
        if (rule_field_there(record, f)) {
            good = weir_type_is_bytes(field->type)
                       ? take_text(reader, heap, record + field->offset)
                       : weir_image_fixed(reader, record + field->offset, field->width);
        }
    }
    return good;
}

static bool take_cell(struct weir_image_reader *reader, struct weir_heap *heap,
                      const struct rule_cell *cell, struct rule_block **out) {
    uint64_t count;
    if (!weir_image_varint(reader, &count) || count > cell->max ||
        count > (uint64_t)(reader->end - reader->at)) {
        return false;
    }
    if (count == 0) {
        return true;
    }
    size_t bytes = rule_block_bytes(cell, (uint32_t)count);
    struct rule_block *block = weir_heap_take(heap, bytes);
    if (block == NULL) {
        return false;
    }
    memset(block, 0, bytes);
    block->capacity = (uint32_t)count;
    *out = block;
    for (uint32_t i = 0; i < count; i++) {
        block->count = i + 1; /* what is half taken is given back with the rest */
        if (!take_record(reader, heap, cell, rule_record(cell, block, i))) {
            return false;
        }
    }
    return true;
}

static bool take_sketch(struct weir_image_reader *reader, struct weir_heap *heap,
                        struct weir_part **out) {
    const uint8_t *bytes;
    size_t length;
    if (!weir_image_bytes(reader, &bytes, &length)) {
        return false;
    }
    if (length == 0) {
        return true;
    }
    if (!weir_distinct_sketch_check(bytes, length)) {
        return false;
    }
    struct weir_part *part = weir_heap_take(heap, sizeof *part);
    if (part == NULL) {
        return false;
    }
    *part = (struct weir_part){0};
    *out = part;
    part->bytes = weir_heap_take(heap, length);
    if (part->bytes == NULL) {
        return false;
    }
    memcpy(part->bytes, bytes, length);
    part->length = part->capacity = (uint32_t)length;
    return true;
}

static int decode(void *context, void *value, const uint8_t *bytes, size_t length,
                  struct weir_error *err) {
    struct weir_rule_state *state = *(struct weir_rule_state **)context;
    struct rule_slot *slot = value;
    struct weir_heap *heap = weir_table_heap(state->table);
    struct weir_image_reader reader = {bytes, bytes + length};
    uint64_t head[2] = {0};
    bool good = weir_image_fixed(&reader, head, sizeof head);
    slot->layout = head[0];
    slot->changed_us = (int64_t)head[1];
    if (good && slot->layout != state->layout) { /* or the layouts themselves */
        slot->raw = weir_heap_take(heap, length);
        slot->raw_bytes = (uint32_t)length;
        if (slot->raw == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
        }
        memcpy(slot->raw, bytes, length);
        return WEIR_OK;
    }
    for (int32_t c = 0; good && c < state->cell_count; c++) {
        good = state->cells[c].kind == WEIR_RULE_SKETCH
                   ? take_sketch(&reader, heap, &slot->cells[c].sketch)
                   : take_cell(&reader, heap, &state->cells[c], &slot->cells[c].block);
    }
    return good && reader.at == reader.end
               ? WEIR_OK
               : weir_error_set(err, WEIR_E_CORRUPT, "state of a key does not parse");
}

const struct weir_table_codec rule_codec = {encode, decode, rule_slot_fini};
