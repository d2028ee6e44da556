#include "decode/csv_cut.h"

#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#endif

enum { STEP = 32 };

/* Bits of the 32 bytes at p that are a, that are a quote, and that are not ASCII. */
static inline void masks(const uint8_t *p, uint8_t a, uint32_t *of_a, uint32_t *quotes,
                         uint32_t *high) {
#if defined(__AVX2__)
    __m256i bytes = _mm256_loadu_si256((const __m256i *)(const void *)p);
    *of_a = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(bytes, _mm256_set1_epi8((char)a)));
    *quotes = (uint32_t)_mm256_movemask_epi8(_mm256_cmpeq_epi8(bytes, _mm256_set1_epi8('"')));
    *high = (uint32_t)_mm256_movemask_epi8(bytes);
#elif defined(__SSE2__)
    *of_a = *quotes = *high = 0;
    for (int half = 0; half < 2; half++) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)(p + 16 * half));
        *of_a |= (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8((char)a)))
                 << 16 * half;
        *quotes |= (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')))
                   << 16 * half;
        *high |= (uint32_t)_mm_movemask_epi8(bytes) << 16 * half;
    }
#else
    *of_a = *quotes = *high = 0;
    for (int i = 0; i < STEP; i++) {
        *of_a |= (uint32_t)(p[i] == a) << i;
        *quotes |= (uint32_t)(p[i] == '"') << i;
        *high |= (uint32_t)(p[i] >> 7) << i;
    }
#endif
}

static inline bool add(struct csv_field *fields, int32_t *count, uint32_t start, uint32_t end) {
    if (*count == CSV_FIELDS_MAX) {
        return false;
    }
    fields[(*count)++] = (struct csv_field){.start = start, .length = end - start};
    return true;
}

/* A record with quotes, byte by byte between them. */
static enum csv_problem cut_quoted(const uint8_t *p, uint32_t length, uint8_t delimiter,
                                   struct csv_field *fields, int32_t *count, uint32_t *at) {
    uint32_t i = 0;
    *count = 0;
    for (;;) {
        uint32_t start = i;
        bool quoted = i < length && p[i] == '"';
        bool doubled = false;
        uint32_t end;
        if (quoted) {
            start++;
            i++;
            for (;;) {
                const uint8_t *quote = memchr(p + i, '"', length - i);
                if (quote == NULL) {
                    *at = start - 1;
                    return CSV_UNCLOSED;
                }
                i = (uint32_t)(quote - p) + 1;
                if (i == length || p[i] != '"') {
                    break;
                }
                doubled = true;
                i++;
            }
            end = i - 1;
            if (i < length && p[i] != delimiter) {
                *at = i;
                return CSV_STRAY_QUOTE;
            }
        } else {
            while (i < length && p[i] != delimiter) {
                if (p[i] == '"') {
                    *at = i;
                    return CSV_STRAY_QUOTE;
                }
                i++;
            }
            end = i;
        }
        if (!add(fields, count, start, end)) {
            *at = start;
            return CSV_TOO_MANY;
        }
        fields[*count - 1].quoted = quoted;
        fields[*count - 1].doubled = doubled;
        if (i == length) {
            return CSV_GOOD;
        }
        i++;
    }
}

enum csv_problem csv_cut_fields(const uint8_t *p, uint32_t length, uint8_t delimiter,
                                struct csv_field fields[CSV_FIELDS_MAX], int32_t *count,
                                uint32_t *at, bool *ascii) {
    uint32_t start = 0;
    uint32_t any_high = 0;
    uint32_t any_quotes = 0;
    *count = 0;
    *at = 0;
    for (uint32_t base = 0; base < length; base += STEP) {
        uint32_t ends;
        uint32_t quotes;
        uint32_t high;
        masks(p + base, delimiter, &ends, &quotes, &high);
        uint32_t left = length - base;
        uint32_t inside = left >= STEP ? UINT32_MAX : (1u << left) - 1;
        ends &= inside;
        any_quotes |= quotes & inside;
        any_high |= high & inside;
        while (ends != 0) {
            uint32_t end = base + (uint32_t)__builtin_ctz(ends);
            if (any_quotes == 0 && !add(fields, count, start, end)) {
                *at = start;
                return CSV_TOO_MANY;
            }
            start = end + 1;
            ends &= ends - 1;
        }
    }
    *ascii = any_high == 0;
    if (any_quotes != 0) {
        return cut_quoted(p, length, delimiter, fields, count, at);
    }
    if (!add(fields, count, start, length)) {
        *at = start;
        return CSV_TOO_MANY;
    }
    return CSV_GOOD;
}

/* The line feed that ends the record at p, walking its quoted fields; NULL when it is not there:
 * *open when the bytes end inside quotes. */
static const uint8_t *end_of_quoted(const uint8_t *p, const uint8_t *end, uint8_t delimiter,
                                    bool *open) {
    bool at_start = true;
    *open = false;
    while (p < end) {
        if (at_start && *p == '"') {
            p++;
            for (;;) {
                p = memchr(p, '"', (size_t)(end - p));
                if (p == NULL) {
                    *open = true;
                    return NULL;
                }
                p++;
                if (p == end) {
                    return NULL;
                }
                if (*p != '"') {
                    break;
                }
                p++;
            }
        }
        if (*p == '\n') {
            return p;
        }
        at_start = *p++ == delimiter;
    }
    return NULL;
}

bool csv_cut_record(const uint8_t *p, size_t size, uint8_t delimiter, bool last, size_t *length,
                    size_t *whole) {
    const uint8_t *newline = memchr(p, '\n', size);
    const uint8_t *stop = newline != NULL ? newline : p + size;
    if (memchr(p, '"', (size_t)(stop - p)) != NULL) {
        bool is_long = size > CSV_QUOTED_BYTES_MAX;
        bool open;
        const uint8_t *end =
            end_of_quoted(p, p + (is_long ? CSV_QUOTED_BYTES_MAX : size), delimiter, &open);
        if (end == NULL && !last && !is_long) {
            return false;
        }
        if (end != NULL || (!is_long && !open)) {
            newline = end;
        }
    }
    if (newline == NULL && !last) {
        return false;
    }
    size_t bytes = newline != NULL ? (size_t)(newline - p) : size;
    *whole = newline != NULL ? bytes + 1 : size;
    *length = bytes > 0 && p[bytes - 1] == '\r' ? bytes - 1 : bytes;
    return true;
}
