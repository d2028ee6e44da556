#include "batch/digest.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { CHUNK = 1024 };

static uint64_t digest_column(const struct weir_column *column, const int32_t *rows, int32_t count,
                              uint64_t seed);

static uint64_t digest_validity(const struct weir_column *column, const int32_t *rows,
                                int32_t count, uint64_t seed) {
    uint8_t valid[CHUNK];
    bool any = false;
    for (int32_t i = 0; i < count; i++) {
        valid[i] = !weir_column_is_null(column, rows[i]);
        any |= !valid[i];
    }
    return any ? XXH3_64bits_withSeed(valid, (size_t)count, seed) : seed + 1;
}

static uint64_t digest_fixed(const struct weir_column *column, const int32_t *rows, int32_t count,
                             uint64_t seed) {
    uint8_t copy[CHUNK * 16];
    size_t width = (size_t)weir_type_width(column->type);
    const uint8_t *values = column->values;
    if (column->validity == NULL && rows[count - 1] - rows[0] == count - 1) {
        return XXH3_64bits_withSeed(values + (size_t)rows[0] * width, (size_t)count * width, seed);
    }
    for (int32_t i = 0; i < count; i++) {
        if (weir_column_is_null(column, rows[i])) {
            memset(copy + (size_t)i * width, 0, width);
        } else if (width == 8) {
            memcpy(copy + (size_t)i * 8, values + (size_t)rows[i] * 8, 8);
        } else if (width == 16) {
            memcpy(copy + (size_t)i * 16, values + (size_t)rows[i] * 16, 16);
        } else {
            memcpy(copy + (size_t)i * width, values + (size_t)rows[i] * width, width);
        }
    }
    return XXH3_64bits_withSeed(copy, (size_t)count * width, seed);
}

/* Lengths, then bytes in runs of neighbouring rows. */
static uint64_t digest_bytes(const struct weir_column *column, const int32_t *rows, int32_t count,
                             uint64_t seed) {
    int32_t lengths[CHUNK];
    if (column->codes != NULL) {
        for (int32_t i = 0; i < count; i++) {
            lengths[i] = -1;
            if (!weir_column_is_null(column, rows[i])) {
                const char *bytes = weir_column_bytes(column, rows[i], &lengths[i]);
                seed = XXH3_64bits_withSeed(bytes, (size_t)lengths[i], seed);
            }
        }
        return XXH3_64bits_withSeed(lengths, (size_t)count * sizeof(*lengths), seed);
    }
    int32_t run_start = 0;
    int32_t run_end = 0;
    for (int32_t i = 0; i < count; i++) {
        int32_t start = column->offsets[rows[i]];
        bool null = weir_column_is_null(column, rows[i]);
        int32_t end = null ? start : column->offsets[rows[i] + 1];
        lengths[i] = null ? -1 : end - start;
        if (start != run_end) {
            if (run_end > run_start) {
                seed = XXH3_64bits_withSeed((const uint8_t *)column->values + run_start,
                                            (size_t)(run_end - run_start), seed);
            }
            run_start = start;
        }
        run_end = end;
    }
    if (run_end > run_start) {
        seed = XXH3_64bits_withSeed((const uint8_t *)column->values + run_start,
                                    (size_t)(run_end - run_start), seed);
    }
    return XXH3_64bits_withSeed(lengths, (size_t)count * sizeof(*lengths), seed);
}

static uint64_t digest_nested(const struct weir_column *column, const int32_t *rows, int32_t count,
                              uint64_t seed) {
    if (column->type == WEIR_TYPE_STRUCT) {
        for (int32_t c = 0; c < column->child_count; c++) {
            seed = digest_column(&column->children[c], rows, count, seed);
        }
        return seed;
    }
    for (int32_t i = 0; i < count; i++) {
        if (weir_column_is_null(column, rows[i])) {
            continue;
        }
        int32_t at = column->offsets[rows[i]];
        int32_t end = column->offsets[rows[i] + 1];
        seed = seed * 31 + (uint64_t)(end - at);
        while (at < end) {
            int32_t inner[CHUNK];
            int32_t n = end - at < CHUNK ? end - at : CHUNK;
            for (int32_t k = 0; k < n; k++) {
                inner[k] = at + k;
            }
            for (int32_t c = 0; c < column->child_count; c++) {
                seed = digest_column(&column->children[c], inner, n, seed);
            }
            at += n;
        }
    }
    return seed;
}

static uint64_t digest_column(const struct weir_column *column, const int32_t *rows, int32_t count,
                              uint64_t seed) {
    seed = digest_validity(column, rows, count, seed);
    if (weir_type_is_bytes(column->type)) {
        return digest_bytes(column, rows, count, seed);
    }
    if (weir_type_is_nested(column->type)) {
        return digest_nested(column, rows, count, seed);
    }
    if (column->type == WEIR_TYPE_BOOL) {
        uint8_t bits[CHUNK];
        for (int32_t i = 0; i < count; i++) {
            bits[i] = !weir_column_is_null(column, rows[i]) && weir_bit_get(column->values, rows[i]);
        }
        return XXH3_64bits_withSeed(bits, (size_t)count, seed);
    }
    return digest_fixed(column, rows, count, seed);
}

uint64_t weir_batch_digest(const struct weir_batch *batch, const int32_t *sel, int32_t count,
                           uint64_t seed) {
    for (int32_t start = 0; start < count; start += CHUNK) {
        int32_t rows[CHUNK];
        int32_t n = count - start < CHUNK ? count - start : CHUNK;
        for (int32_t i = 0; i < n; i++) {
            rows[i] = sel != NULL ? sel[start + i] : start + i;
        }
        for (int32_t c = 0; c < batch->column_count; c++) {
            seed = digest_column(&batch->columns[c], rows, n, seed);
        }
    }
    return seed;
}
