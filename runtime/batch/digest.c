/* Digests by value. Up to CHUNK rows of a column are hashed at a time: first which are null, then
 * the values that are there, brought into one form (nulls left out or zeroed, NaN made the one NaN,
 * text as one run of bytes however it lies). List elements are numbered through and hashed in
 * chunks of their own, so that nothing depends on where a value is stored. */
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
    if (column->validity != NULL) {
        for (int32_t i = 0; i < count; i++) {
            valid[i] = weir_bit_get(column->validity, rows[i]);
            any |= !valid[i];
        }
    }
    return any ? XXH3_64bits_withSeed(valid, (size_t)count, seed) : seed + 1;
}

static bool are_neighbours(const int32_t *rows, int32_t count) {
    if (rows[count - 1] - rows[0] != count - 1) {
        return false;
    }
    int32_t apart = 0; /* without a branch: the whole loop is a few vector steps */
    for (int32_t i = 0; i < count; i++) {
        apart |= rows[i] ^ (rows[0] + i);
    }
    return apart == 0;
}

static void unify_nans(const struct weir_column *column, uint8_t *values, int32_t count) {
    if (column->type == WEIR_TYPE_DOUBLE) {
        for (int32_t i = 0; i < count; i++) {
            uint64_t bits;
            memcpy(&bits, values + (size_t)i * 8, 8);
            bits = (bits & INT64_MAX) > 0x7ff0000000000000u ? 0x7ff8000000000000u : bits;
            memcpy(values + (size_t)i * 8, &bits, 8);
        }
    } else {
        for (int32_t i = 0; i < count; i++) {
            uint32_t bits;
            memcpy(&bits, values + (size_t)i * 4, 4);
            bits = (bits & INT32_MAX) > 0x7f800000u ? 0x7fc00000u : bits;
            memcpy(values + (size_t)i * 4, &bits, 4);
        }
    }
}

static uint64_t digest_fixed(const struct weir_column *column, const int32_t *rows, int32_t count,
                             uint64_t seed) {
    _Alignas(16) uint8_t copy[CHUNK * 16];
    size_t width = (size_t)weir_type_width(column->type);
    const struct weir_column *source = column->codes != NULL ? column->dictionary : column;
    const uint8_t *values = source->values;
    bool floating = column->type == WEIR_TYPE_FLOAT || column->type == WEIR_TYPE_DOUBLE;
    if (column->validity == NULL && column->codes == NULL && are_neighbours(rows, count)) {
        const uint8_t *first = values + (size_t)rows[0] * width;
        if (!floating) {
            return XXH3_64bits_withSeed(first, (size_t)count * width, seed);
        }
        memcpy(copy, first, (size_t)count * width);
    } else {
        for (int32_t i = 0; i < count; i++) {
            int32_t row = rows[i];
            if (weir_column_is_null(column, row)) {
                memset(copy + (size_t)i * width, 0, width);
                continue;
            }
            row = column->codes != NULL ? column->codes[row] : row;
            if (width == 8) {
                memcpy(copy + (size_t)i * 8, values + (size_t)row * 8, 8);
            } else {
                memcpy(copy + (size_t)i * width, values + (size_t)row * width, width);
            }
        }
    }
    if (floating) {
        unify_nans(column, copy, count);
    }
    return XXH3_64bits_withSeed(copy, (size_t)count * width, seed);
}

static uint64_t digest_bits(const struct weir_column *column, const int32_t *rows, int32_t count,
                            uint64_t seed) {
    uint8_t bits[CHUNK];
    for (int32_t i = 0; i < count; i++) {
        bool value = false;
        if (!weir_column_is_null(column, rows[i])) {
            value = column->codes != NULL
                        ? weir_bit_get(column->dictionary->values, column->codes[rows[i]])
                        : weir_bit_get(column->values, rows[i]);
        }
        bits[i] = value;
    }
    return XXH3_64bits_withSeed(bits, (size_t)count, seed);
}

/* The bytes of all values in a row, then their lengths. Values that touch in memory are hashed in
 * one go; a streamed hash does not depend on where it was cut (xxHash: XXH3_64bits_update). */
static uint64_t digest_bytes(const struct weir_column *column, const int32_t *rows, int32_t count,
                             uint64_t seed) {
    int32_t lengths[CHUNK];
    XXH3_state_t state;
    bool streamed = false;
    const char *run = NULL;
    size_t run_bytes = 0;
    for (int32_t i = 0; i < count; i++) {
        if (weir_column_is_null(column, rows[i])) {
            lengths[i] = -1;
            continue;
        }
        const char *bytes = weir_column_bytes(column, rows[i], &lengths[i]);
        if (run_bytes == 0) {
            run = bytes;
        } else if (lengths[i] > 0 && bytes != run + run_bytes) {
            if (!streamed) {
                XXH3_INITSTATE(&state); /* a state on the stack must not look seeded already */
                XXH3_64bits_reset_withSeed(&state, seed);
                streamed = true;
            }
            XXH3_64bits_update(&state, run, run_bytes);
            run = bytes;
            run_bytes = 0;
        }
        run_bytes += (size_t)lengths[i];
    }
    if (streamed) {
        XXH3_64bits_update(&state, run, run_bytes);
        seed = XXH3_64bits_digest(&state);
    } else if (run_bytes > 0) {
        seed = XXH3_64bits_withSeed(run, run_bytes, seed);
    }
    return XXH3_64bits_withSeed(lengths, (size_t)count * sizeof(*lengths), seed);
}

static uint64_t digest_children(const struct weir_column *column, const int32_t *rows,
                                int32_t count, uint64_t seed) {
    for (int32_t c = 0; count > 0 && c < column->child_count; c++) {
        seed = digest_column(&column->children[c], rows, count, seed);
    }
    return seed;
}

/* What lies under a null struct is no value. */
static uint64_t digest_struct(const struct weir_column *column, const int32_t *rows, int32_t count,
                              uint64_t seed) {
    if (column->validity == NULL) {
        return digest_children(column, rows, count, seed);
    }
    int32_t present[CHUNK];
    int32_t n = 0;
    for (int32_t i = 0; i < count; i++) {
        present[n] = rows[i];
        n += weir_bit_get(column->validity, rows[i]);
    }
    return digest_children(column, present, n, seed);
}

static uint64_t digest_list(const struct weir_column *column, const int32_t *rows, int32_t count,
                            uint64_t seed) {
    int32_t numbers[CHUNK]; /* lengths, then elements */
    for (int32_t i = 0; i < count; i++) {
        numbers[i] = weir_column_is_null(column, rows[i])
                         ? -1
                         : column->offsets[rows[i] + 1] - column->offsets[rows[i]];
    }
    seed = XXH3_64bits_withSeed(numbers, (size_t)count * sizeof(*numbers), seed);
    int32_t n = 0;
    for (int32_t i = 0; i < count; i++) {
        if (weir_column_is_null(column, rows[i])) {
            continue;
        }
        for (int32_t at = column->offsets[rows[i]]; at < column->offsets[rows[i] + 1]; at++) {
            numbers[n++] = at;
            if (n == CHUNK) {
                seed = digest_children(column, numbers, n, seed);
                n = 0;
            }
        }
    }
    return digest_children(column, numbers, n, seed);
}

static uint64_t digest_column(const struct weir_column *column, const int32_t *rows, int32_t count,
                              uint64_t seed) {
    seed = digest_validity(column, rows, count, seed);
    switch (column->type) {
    case WEIR_TYPE_STRING:
    case WEIR_TYPE_BINARY:
        return digest_bytes(column, rows, count, seed);
    case WEIR_TYPE_STRUCT:
        return digest_struct(column, rows, count, seed);
    case WEIR_TYPE_LIST:
    case WEIR_TYPE_MAP:
        return digest_list(column, rows, count, seed);
    case WEIR_TYPE_BOOL:
        return digest_bits(column, rows, count, seed);
    default:
        return digest_fixed(column, rows, count, seed);
    }
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
