#pragma once
/* SplitMix64 (Steele, Lea, Flood 2014) for tests and benches: the same numbers from the same state
 * on every machine. */
#include <stdint.h>
#include <stdlib.h>

static uint64_t random_state = 1; /* the seed */

static inline uint64_t next_random(void) {
    random_state += UINT64_C(0x9E3779B97F4A7C15);
    uint64_t z = random_state;
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static inline uint64_t below(uint64_t n) {
    return next_random() % n;
}

/* So many seeds of a test in `make test-long`, where WEIR_LONG is set; a third of them otherwise.
 */
static inline uint64_t seeds_of(uint64_t most) {
    return getenv("WEIR_LONG") != NULL || most < 3 ? most : most / 3;
}
