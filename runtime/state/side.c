#include "state/side.h"

#include <stdlib.h>
#include <string.h>

#include "core/region.h"

static size_t chunk_bytes(const struct weir_side *side) {
    return (size_t)side->value_bytes << WEIR_SIDE_BITS;
}

void weir_side_init(struct weir_side *side, size_t value_bytes) {
    memset(side, 0, sizeof *side);
    side->value_bytes = (uint32_t)(value_bytes > 0 ? value_bytes : 1);
}

void weir_side_fini(struct weir_side *side) {
    for (uint32_t i = 0; i < side->chunk_count; i++) {
        weir_region_unmap(side->chunks[i], chunk_bytes(side));
    }
    free(side->chunks);
    memset(side, 0, sizeof *side);
}

bool weir_side_extend(struct weir_side *side, uint32_t number) {
    uint32_t wanted = (number >> WEIR_SIDE_BITS) + 1;
    if (wanted > side->chunk_count) {
        uint8_t **chunks = realloc(side->chunks, wanted * sizeof *chunks);
        if (chunks == NULL) {
            return false;
        }
        side->chunks = chunks;
    }
    while (side->chunk_count < wanted) {
        uint8_t *chunk = weir_region_map(chunk_bytes(side));
        if (chunk == NULL) {
            return false;
        }
        side->chunks[side->chunk_count++] = chunk;
    }
    side->reached = (size_t)number + 1;
    return true;
}

void weir_side_clear(struct weir_side *side) {
    for (uint32_t i = 0; i < side->chunk_count; i++) {
        weir_region_drop(side->chunks[i], chunk_bytes(side));
    }
}
