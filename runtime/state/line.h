#pragma once
/* A cache line of a table's index: eight places, each empty or an entry, which is the low 32 bits
 * of a key's hash (its tag, which names its home line as well) over a slot's number. All eight are
 * looked at together: where in a line a key lies is chance, and a guess that fails costs more.
 *
 * An entry lies in the first line from its home on that had room, so a search ends at a line that
 * has an empty place. */
#include <stdint.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define WEIR_LINE_ENTRIES UINT64_C(8)

/* Index of the first place of a tag's home; mask: entries of the index less one. */
static inline uint64_t weir_line_home(uint32_t tag, uint64_t mask) {
    return tag & mask & ~(WEIR_LINE_ENTRIES - 1);
}

/* A bit for each place: the entry has that tag. Empty places have tag 0. */
static inline uint32_t weir_line_match(const uint64_t *line, uint32_t tag) {
    uint32_t match = 0;
#ifdef __AVX2__
    __m256i wanted = _mm256_set1_epi32((int)tag);
    for (int half = 0; half < 2; half++) {
        __m256i four = _mm256_load_si256((const __m256i *)(const void *)(line + half * 4));
        __m256i same = _mm256_cmpeq_epi32(four, wanted); /* a mask of the upper words */
        match |= (uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(same)) << half * 4;
    }
#else
    for (int i = 0; i < (int)WEIR_LINE_ENTRIES; i++) {
        match |= (uint32_t)(line[i] >> 32 == tag) << i;
    }
#endif
    return match;
}

/* A bit for each place that is empty: its number is 0. */
static inline uint32_t weir_line_empty(const uint64_t *line) {
    uint32_t empty = 0;
#ifdef __AVX2__
    for (int half = 0; half < 2; half++) {
        __m256i four = _mm256_load_si256((const __m256i *)(const void *)(line + half * 4));
        __m256i none = _mm256_cmpeq_epi32(four, _mm256_setzero_si256());
        none = _mm256_slli_epi64(none, 32); /* the lower words decide */
        empty |= (uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(none)) << half * 4;
    }
#else
    for (int i = 0; i < (int)WEIR_LINE_ENTRIES; i++) {
        empty |= (uint32_t)((uint32_t)line[i] == 0) << i;
    }
#endif
    return empty;
}

#ifdef __cplusplus
}
#endif
