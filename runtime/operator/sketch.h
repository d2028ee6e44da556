#pragma once
/* Sketches in the parts of measures: bytes that grow with what they have seen, up to 12 KiB, so
 * that groups with few values stay small. What they hold is a matter of the values alone, not of
 * their order or of how parts were merged. They are also their own image (little-endian).
 *
 * approx_distinct: HyperLogLog (Flajolet et al. 2007) of 4,096 registers, standard error 1.6 %: a
 * byte each, or, of few, a sorted list of u16 register, u8 value.
 * approx_quantile: counts by the leading 6 bits of the mantissa (as DDSketch and HdrHistogram do),
 * so a result is within 0.8 % of a value of that rank; of more than 1,024 different buckets the
 * lowest are counted as one. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "state/heap.h"

struct weir_part { /* bytes of a measure outside its slot */
    uint8_t *bytes;
    uint32_t length;
    uint32_t capacity; /* as asked of the heap; 0: not owned */
};

/* Room for `bytes` of its own, and some more; what is there is kept. False without memory; the part
 * is as before. So it is below. */
bool weir_part_reserve(struct weir_part *part, struct weir_heap *heap, uint32_t bytes);
bool weir_distinct_sketch_add(struct weir_part *part, struct weir_heap *heap, uint64_t hash);
bool weir_distinct_sketch_merge(struct weir_part *into, struct weir_heap *heap,
                                const struct weir_part *from);
int64_t weir_distinct_sketch_count(const struct weir_part *part);
bool weir_distinct_sketch_check(const uint8_t *bytes, size_t length);

/* count < 0: takes back. */
bool weir_quantile_sketch_add(struct weir_part *part, struct weir_heap *heap, double value,
                              int64_t count);
bool weir_quantile_sketch_merge(struct weir_part *into, struct weir_heap *heap,
                                const struct weir_part *from);
/* The value of rank ceil(share * n), at least 1; false: of nothing. */
bool weir_quantile_sketch_value(const struct weir_part *part, double share, double *value);
bool weir_quantile_sketch_check(const uint8_t *bytes, size_t length);
