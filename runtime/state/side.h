#pragma once
/* What an owner keeps beside the slots of a table, by their numbers: made again after a crash, in
 * no image. In chunks that never move, so that growth copies nothing and touches no page. A value
 * is zero until written. One thread (the loop). */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define WEIR_SIDE_BITS 16

struct weir_side {
    uint8_t **chunks; /* 2^WEIR_SIDE_BITS values each */
    uint32_t chunk_count;
    uint32_t value_bytes;
    size_t reached; /* numbers are below it */
};

void weir_side_init(struct weir_side *side, size_t value_bytes);
void weir_side_fini(struct weir_side *side); /* may be all zeros */
/* Makes room up to the number; false without memory. */
bool weir_side_extend(struct weir_side *side, uint32_t number);
static inline bool weir_side_reach(struct weir_side *side, uint32_t number) {
    return number < side->reached || weir_side_extend(side, number);
}
/* The value of a number that was reached. */
static inline void *weir_side_at(const struct weir_side *side, uint32_t number) {
    return side->chunks[number >> WEIR_SIDE_BITS] +
           (size_t)(number & ((1u << WEIR_SIDE_BITS) - 1)) * side->value_bytes;
}
/* All values are zero again. */
void weir_side_clear(struct weir_side *side);
static inline size_t weir_side_bytes(const struct weir_side *side) {
    return side->reached * side->value_bytes;
}

#ifdef __cplusplus
}
#endif
