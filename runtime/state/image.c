#include "state/image.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/block.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "images are little-endian memory");

static void free_blocks(struct weir_spill_block *block) {
    while (block != NULL) {
        struct weir_spill_block *next = block->next;
        weir_block_give(block);
        block = next;
    }
}

void weir_spill_fini(struct weir_spill *spill) {
    free_blocks(spill->head);
    free_blocks(spill->kept);
    memset(spill, 0, sizeof *spill);
}

struct weir_spill_block *weir_spill_grow(struct weir_spill *spill, size_t size) {
    struct weir_spill_block *block = spill->kept;
    if (block != NULL && size <= block->capacity) {
        spill->kept = block->next;
        spill->kept_count--;
    } else {
        size_t capacity = WEIR_SPILL_BLOCK_BYTES - sizeof *block;
        if (size > UINT32_MAX) {
            return NULL;
        }
        capacity = size > capacity ? size : capacity;
        block = weir_block_take(sizeof *block + capacity);
        if (block == NULL) {
            return NULL;
        }
        block->capacity = (uint32_t)capacity;
        spill->reserved_bytes += sizeof *block + capacity;
    }
    block->next = NULL;
    block->size = 0;
    block->records = 0;
    if (spill->tail == NULL) {
        spill->head = block;
    } else {
        spill->tail->next = block;
    }
    spill->tail = block;
    return block;
}

void weir_spill_pop(struct weir_spill *spill) {
    struct weir_spill_block *block = spill->head;
    spill->head = block->next;
    if (spill->head == NULL) {
        spill->tail = NULL;
    }
    spill->records -= block->records;
    size_t bytes = sizeof *block + block->capacity;
    if (spill->kept_count < WEIR_SPILL_KEEP && bytes == WEIR_SPILL_BLOCK_BYTES) {
        block->next = spill->kept;
        spill->kept = block;
        spill->kept_count++;
    } else {
        spill->reserved_bytes -= bytes;
        weir_block_give(block);
    }
}

void weir_spill_move(struct weir_spill *to, struct weir_spill *from) {
    /* Swap whole: each side keeps its accounts right, and the kept blocks change sides with the
     * empty list, where the next epoch wants them. */
    struct weir_spill moved = *from;
    *from = *to;
    *to = moved;
}

bool weir_image_varint(struct weir_image_reader *reader, uint64_t *value) {
    uint64_t result = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        uint8_t byte;
        if (!weir_image_u8(reader, &byte)) {
            return false;
        }
        if (shift == 63 && byte > 1) {
            return false;
        }
        result |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            *value = result;
            return true;
        }
    }
    return false;
}

bool weir_image_bytes(struct weir_image_reader *reader, const uint8_t **bytes, size_t *length) {
    uint64_t size;
    if (!weir_image_varint(reader, &size) || size > (uint64_t)(reader->end - reader->at)) {
        return false;
    }
    *bytes = reader->at;
    *length = (size_t)size;
    reader->at += size;
    return true;
}

static int put_shaped(struct weir_buffer *out, const uint8_t *head, size_t head_bytes,
                      uint64_t shape, const char *text, size_t length) {
    int rc = weir_buffer_reserve(out, head_bytes + sizeof shape + WEIR_VARINT_MAX + length);
    if (rc != WEIR_OK) {
        return rc;
    }
    uint8_t *at = out->data + out->size;
    memcpy(at, head, head_bytes);
    at = weir_varint_put(weir_u64_put(at + head_bytes, shape), length);
    memcpy(at, text, length);
    out->size = (size_t)(at + length - out->data);
    return WEIR_OK;
}

int weir_image_put_header(struct weir_buffer *out, uint64_t shape, const char *name) {
    static const uint8_t head[] = {WEIR_IMAGE_HEADER, WEIR_IMAGE_VERSION};
    return put_shaped(out, head, sizeof head, shape, name, strlen(name));
}

int weir_image_put_layout(struct weir_buffer *out, uint64_t shape, const char *text,
                          size_t length) {
    static const uint8_t head[] = {WEIR_IMAGE_LAYOUT};
    return put_shaped(out, head, sizeof head, shape, text, length);
}

int weir_image_read_header(struct weir_image_reader *reader, const char *name, uint64_t *shape,
                           struct weir_error *err) {
    uint8_t version;
    const uint8_t *found_name;
    size_t length;
    if (!weir_image_u8(reader, &version)) {
        return weir_error_set(err, WEIR_E_CORRUPT, "%s: state image is cut off", name);
    }
    if (version != WEIR_IMAGE_VERSION) {
        return weir_error_set(err, WEIR_E_VERSION,
                              "%s: state images of format %u; this binary reads format %d: run the "
                              "version of weir that wrote them, or a later one",
                              name, version, WEIR_IMAGE_VERSION);
    }
    if (!weir_image_u64(reader, shape) || !weir_image_bytes(reader, &found_name, &length)) {
        return weir_error_set(err, WEIR_E_CORRUPT, "%s: state image header is cut off", name);
    }
    if (length != strlen(name) || memcmp(found_name, name, length) != 0) {
        int shown = length > 200 ? 200 : (int)length;
        return weir_error_set(err, WEIR_E_CORRUPT, "%s: state image belongs to '%.*s'", name, shown,
                              (const char *)found_name);
    }
    return WEIR_OK;
}

int weir_image_other_shape(const char *name, uint64_t found, uint64_t shape,
                           struct weir_error *err) {
    return weir_error_set(
        err, WEIR_E_VERSION,
        "%s: recorded state has another shape (%016" PRIx64 ", now %016" PRIx64
        "): its keys, window, measures, condition or types were changed. Make it anew from "
        "bronze "
        "(weir rebuild %.*s), change them back, give the changed declaration a new name, or "
        "start a new lineage with empty state",
        name, found, shape, (int)strcspn(name, "/"), name);
}

int weir_image_check_header(struct weir_image_reader *reader, uint64_t shape, const char *name,
                            struct weir_error *err) {
    uint64_t found = shape;
    int rc = weir_image_read_header(reader, name, &found, err);
    return rc == WEIR_OK && found != shape ? weir_image_other_shape(name, found, shape, err) : rc;
}

int weir_images_apply(const char *name, const uint8_t *bytes, size_t length, weir_image_take *take,
                      void *cell, struct weir_error *err) {
    struct weir_image_reader reader = {bytes, bytes + length};
    uint8_t op;
    bool headed = false;
    while (weir_image_u8(&reader, &op)) {
        if (!headed && op != WEIR_IMAGE_HEADER) {
            return weir_error_set(err, WEIR_E_CORRUPT, "%s: state images without a header", name);
        }
        headed = true;
        int rc = take(cell, op, &reader, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return WEIR_OK;
}

char *weir_cell_name(const char *declaration, const char *cell) {
    size_t length = strlen(declaration) + strlen(cell) + 2;
    char *name = malloc(length);
    if (name != NULL) {
        snprintf(name, length, "%s/%s", declaration, cell);
    }
    return name;
}

bool weir_image_skip(struct weir_image_reader *reader, uint8_t op) {
    static const struct {
        uint8_t u8s;
        uint8_t u64s;
        uint8_t lengths;
    } forms[] = {
        [WEIR_IMAGE_HEADER] = {1, 1, 1}, [WEIR_IMAGE_PUT] = {0, 1, 2},
        [WEIR_IMAGE_DELETE] = {0, 1, 1}, [WEIR_IMAGE_NEXT] = {0, 1, 0},
        [WEIR_IMAGE_INSERT] = {0, 3, 0}, [WEIR_IMAGE_FORGET] = {0, 3, 0},
        [WEIR_IMAGE_LAYOUT] = {0, 1, 1},
    };
    uint8_t small;
    uint64_t number;
    const uint8_t *bytes;
    size_t length;
    bool good = op < sizeof forms / sizeof forms[0];
    for (int i = 0; good && i < forms[op].u8s; i++) {
        good = weir_image_u8(reader, &small);
    }
    for (int i = 0; good && i < forms[op].u64s; i++) {
        good = weir_image_u64(reader, &number);
    }
    for (int i = 0; good && i < forms[op].lengths; i++) {
        good = weir_image_bytes(reader, &bytes, &length);
    }
    return good;
}

size_t weir_images_bytes(const uint8_t *bytes, size_t length) {
    struct weir_image_reader reader = {bytes, bytes + length};
    size_t sum = 0;
    uint8_t op;
    const uint8_t *start = reader.at;
    while (weir_image_u8(&reader, &op)) {
        if (!weir_image_skip(&reader, op)) {
            return SIZE_MAX;
        }
        bool told = op == WEIR_IMAGE_HEADER || op == WEIR_IMAGE_LAYOUT;
        sum += told ? 0 : (size_t)(reader.at - start);
        start = reader.at;
    }
    return sum;
}
