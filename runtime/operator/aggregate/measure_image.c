/* Values as bytes of images, and the parts of theirs that lie outside the slot. */
#include <stddef.h>

#include "operator/aggregate/measure_private.h"

bool weir_measure_has_part(const struct weir_measure_cell *cell) {
    bool extreme = cell->measure.kind == WEIR_MEASURE_MIN || cell->measure.kind == WEIR_MEASURE_MAX;
    return weir_measure_grows(cell) || weir_measure_chooses(cell->measure.kind) ||
           (extreme && weir_type_is_bytes(cell->measure.type));
}

/* Where the part of a cell that has one lies in the value. */
uint32_t weir_measure_part_offset(const struct weir_measure_cell *cell) {
    return weir_measure_chooses(cell->measure.kind) && !weir_measure_bags(cell)
               ? cell->offset + (uint32_t)offsetof(struct weir_chosen, value)
               : weir_extreme_offset(cell);
}

bool weir_measure_take_varint(const uint8_t **at, const uint8_t *end, uint32_t *value) {
    uint64_t result = 0;
    for (int shift = 0; shift < 35 && *at < end; shift += 7) {
        uint8_t byte = *(*at)++;
        result |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            *value = (uint32_t)result;
            return result <= INT32_MAX;
        }
    }
    return false;
}

static int put_part(const struct weir_part *held, struct weir_buffer *out) {
    uint8_t varint[5];
    size_t varint_bytes = 0;
    uint32_t length = held->length;
    for (; length >= 0x80; length >>= 7) {
        varint[varint_bytes++] = (uint8_t)(length | 0x80);
    }
    varint[varint_bytes++] = (uint8_t)length;
    int rc = weir_buffer_append(out, varint, varint_bytes);
    return rc == WEIR_OK ? weir_buffer_append(out, held->bytes, held->length) : rc;
}

/* --- images of other versions ----------------------------------------------------------------- */

const uint8_t *weir_measures_old(const struct weir_measures *measures, const uint8_t *value,
                                 uint32_t *length) {
    struct weir_part held = {0};
    if (measures->old_offset > 0) {
        memcpy(&held, value + measures->old_offset, sizeof held);
    }
    *length = held.length;
    return held.bytes;
}

static void drop_old(struct weir_measures *measures, uint8_t *value) {
    struct weir_part held;
    memcpy(&held, value + measures->old_offset, sizeof held);
    measures->old_count -= held.bytes != NULL;
    weir_heap_give(weir_table_heap(measures->table), held.bytes, held.capacity);
    memset(value + measures->old_offset, 0, sizeof held);
}

int weir_measures_set_old(struct weir_measures *measures, uint8_t *value, const uint8_t *bytes,
                          size_t length) {
    drop_old(measures, value);
    if (length == 0) {
        return WEIR_OK;
    }
    struct weir_part held = {.capacity = (uint32_t)length, .length = (uint32_t)length};
    held.bytes = weir_heap_take(weir_table_heap(measures->table), length);
    if (held.bytes == NULL) {
        return WEIR_E_NOMEM;
    }
    memcpy(held.bytes, bytes, length);
    memcpy(value + measures->old_offset, &held, sizeof held);
    measures->old_count++;
    return WEIR_OK;
}

/* --- the codec -------------------------------------------------------------------------------- */

static int codec_encode(void *context, const void *value, struct weir_buffer *out) {
    const struct weir_measures *measures = context;
    size_t start = out->size;
    int rc = weir_buffer_append(out, value, measures->value_bytes);
    for (int32_t m = 0; m < measures->count && rc == WEIR_OK; m++) {
        const struct weir_measure_cell *cell = &measures->cells[m];
        if (cell->of_members) {
            memset(out->data + start + cell->offset + sizeof(uint64_t), 0, sizeof(uint64_t));
        }
        if (weir_measure_has_part(cell)) {
            memset(out->data + start + weir_measure_part_offset(cell), 0, sizeof(struct weir_part));
            if (!is_present(value, m)) {
                continue;
            }
            struct weir_part held;
            memcpy(&held, (const uint8_t *)value + weir_measure_part_offset(cell), sizeof held);
            rc = put_part(&held, out);
        }
    }
    if (rc == WEIR_OK && measures->old_offset > 0) {
        struct weir_part held;
        memset(out->data + start + measures->old_offset, 0, sizeof held);
        memcpy(&held, (const uint8_t *)value + measures->old_offset, sizeof held);
        rc = put_part(&held, out);
    }
    return rc;
}

static int codec_decode(void *context, void *value, const uint8_t *bytes, size_t length,
                        struct weir_error *err) {
    struct weir_measures *measures = context;
    if (length < measures->value_bytes) {
        return weir_error_set(err, WEIR_E_CORRUPT, "a value of %zu bytes, not %u", length,
                              measures->value_bytes);
    }
    const uint8_t *at = bytes + measures->value_bytes;
    const uint8_t *end = bytes + length;
    memcpy(value, bytes, measures->value_bytes);
    /* Nothing that came from outside may be taken for a pointer. */
    for (int32_t m = 0; m < measures->count; m++) {
        const struct weir_measure_cell *cell = &measures->cells[m];
        if (cell->of_members) {
            memset((uint8_t *)value + cell->offset + sizeof(uint64_t), 0, sizeof(uint64_t));
        }
        if (weir_measure_has_part(cell)) {
            memset((uint8_t *)value + weir_measure_part_offset(cell), 0, sizeof(struct weir_part));
        }
    }
    if (measures->old_offset > 0) {
        memset((uint8_t *)value + measures->old_offset, 0, sizeof(struct weir_part));
    }
    for (int32_t m = 0; m < measures->count; m++) {
        const struct weir_measure_cell *cell = &measures->cells[m];
        if (!weir_measure_has_part(cell) || !is_present(value, m)) {
            continue;
        }
        uint32_t size;
        if (!weir_measure_take_varint(&at, end, &size) || size > (size_t)(end - at)) {
            return weir_error_set(err, WEIR_E_CORRUPT, "measure '%s': the text is cut off",
                                  cell->measure.name);
        }
        if (weir_measure_grows(cell) && !weir_growing_check(cell, at, size)) {
            return weir_error_set(err, WEIR_E_CORRUPT, "measure '%s': its values do not parse",
                                  cell->measure.name);
        }
        struct weir_part held = {.capacity = size > 0 ? size : 1, .length = size};
        held.bytes = weir_heap_take(weir_table_heap(measures->table), held.capacity);
        if (held.bytes == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "measure '%s': no memory for %u bytes",
                                  cell->measure.name, size);
        }
        memcpy(held.bytes, at, size);
        memcpy((uint8_t *)value + weir_measure_part_offset(cell), &held, sizeof held);
        at += size;
    }
    if (measures->old_offset > 0) {
        uint32_t size;
        if (!weir_measure_take_varint(&at, end, &size) || size > (size_t)(end - at)) {
            return weir_error_set(err, WEIR_E_CORRUPT, "what another version wrote is cut off");
        }
        if (weir_measures_set_old(measures, value, at, size) != WEIR_OK) {
            return weir_error_set(err, WEIR_E_NOMEM, "no memory for %u bytes", size);
        }
        at += size;
    }
    if (at != end) {
        return weir_error_set(err, WEIR_E_CORRUPT, "%zu bytes too many in a value",
                              (size_t)(end - at));
    }
    return WEIR_OK;
}

void weir_measures_release(const struct weir_measures *measures, uint8_t *value,
                           struct weir_heap *heap) {
    for (int32_t m = 0; m < measures->count; m++) {
        const struct weir_measure_cell *cell = &measures->cells[m];
        if (weir_measure_has_part(cell)) {
            struct weir_part held;
            memcpy(&held, value + weir_measure_part_offset(cell), sizeof held);
            weir_heap_give(heap, held.bytes, held.capacity);
        }
    }
}

int weir_measures_copy(const struct weir_measures *measures, uint8_t *into, const uint8_t *from,
                       struct weir_heap *heap) {
    int rc = WEIR_OK;
    memcpy(into, from, measures->value_bytes);
    if (measures->old_offset > 0) { /* a copy is of what was read already */
        memset(into + measures->old_offset, 0, sizeof(struct weir_part));
    }
    for (int32_t m = 0; m < measures->count && measures->has_parts; m++) {
        const struct weir_measure_cell *cell = &measures->cells[m];
        if (!weir_measure_has_part(cell)) {
            continue;
        }
        struct weir_part held;
        memcpy(&held, from + weir_measure_part_offset(cell), sizeof held);
        struct weir_part own = {0};
        if (held.bytes != NULL) {
            own.length = held.length;
            own.capacity = held.length > 0 ? held.length : 1;
            own.bytes = weir_heap_take(heap, own.capacity);
            if (own.bytes == NULL) {
                own = (struct weir_part){0};
                rc = WEIR_E_NOMEM; /* the rest is made whole, so that it may be released */
            } else {
                memcpy(own.bytes, held.bytes, held.length);
            }
        }
        memcpy(into + weir_measure_part_offset(cell), &own, sizeof own);
    }
    return rc;
}

static void codec_fini(void *context, void *value) {
    struct weir_measures *measures = context;
    weir_measures_release(measures, value, weir_table_heap(measures->table));
    if (measures->old_offset > 0) {
        drop_old(measures, value);
    }
}

const struct weir_table_codec weir_measures_codec = {
    .encode = codec_encode,
    .decode = codec_decode,
    .fini = codec_fini,
};
