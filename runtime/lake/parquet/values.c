/* Decoding one page's values block by block. Numbers come out dense in physical form, everything
 * else as slices into the page, the dictionary or a scratch buffer. */
#include <string.h>

#include "lake/parquet/file.h"

bool parquet_values_sliced(int8_t physical) {
    return physical == PARQUET_BYTE_ARRAY || physical == PARQUET_FIXED || physical == PARQUET_INT96;
}

static uint32_t load_le32(const uint8_t *from) {
    uint32_t value;
    memcpy(&value, from, sizeof(value));
    return value;
}

static bool begin_lengths(struct parquet_values *values, struct parquet_delta *delta) {
    if (!parquet_delta_init(delta, values->at, (size_t)(values->end - values->at))) {
        return false;
    }
    const uint8_t *end = parquet_delta_end(delta);
    if (end == NULL) {
        return false;
    }
    values->at = end;
    return true;
}

int parquet_values_begin(struct parquet_values *values, int32_t encoding, const uint8_t *bytes,
                         size_t size) {
    values->encoding = encoding == PARQUET_PLAIN_DICTIONARY ? PARQUET_RLE_DICTIONARY : encoding;
    values->at = bytes;
    values->end = bytes + size;
    values->bit = 0;
    bool is_bytes = values->physical == PARQUET_BYTE_ARRAY;
    bool is_integer = values->physical == PARQUET_INT32 || values->physical == PARQUET_INT64;
    bool good = true;
    switch (values->encoding) {
    case PARQUET_PLAIN:
        break;
    case PARQUET_RLE_DICTIONARY:
        if (size == 0) { /* a page of nulls only */
            parquet_rle_init(&values->rle, bytes, 0, 1);
            break;
        }
        good = bytes[0] <= 32 && values->dictionary_count >= 0;
        if (good) {
            parquet_rle_init(&values->rle, bytes + 1, size - 1, bytes[0]);
        }
        break;
    case PARQUET_RLE:
        good = values->physical == PARQUET_BOOLEAN && size >= 4 && load_le32(bytes) <= size - 4;
        if (good) {
            parquet_rle_init(&values->rle, bytes + 4, load_le32(bytes), 1);
        }
        break;
    case PARQUET_DELTA_BINARY_PACKED:
        good = is_integer && parquet_delta_init(&values->delta, bytes, size);
        break;
    case PARQUET_DELTA_LENGTH_BYTE_ARRAY:
        good = is_bytes && begin_lengths(values, &values->delta);
        break;
    case PARQUET_DELTA_BYTE_ARRAY:
        good = (is_bytes || values->physical == PARQUET_FIXED) &&
               begin_lengths(values, &values->delta) && begin_lengths(values, &values->suffixes);
        weir_buffer_clear(&values->previous);
        break;
    case PARQUET_BYTE_STREAM_SPLIT:
        good = values->width > 1 && values->physical != PARQUET_INT96 &&
               size % (size_t)values->width == 0;
        values->split = good ? (int64_t)size / values->width : 0;
        values->split_at = 0;
        break;
    default:
        return WEIR_E_UNSUPPORTED;
    }
    return good ? WEIR_OK : WEIR_E_CORRUPT;
}

static bool next_plain(struct parquet_values *values, int32_t n, uint8_t *fixed,
                       struct parquet_slice *slices) {
    size_t left = (size_t)(values->end - values->at);
    if (values->physical == PARQUET_BOOLEAN) {
        if ((size_t)(values->bit + n + 7) / 8 > left) {
            return false;
        }
        for (int32_t i = 0; i < n; i++, values->bit++) {
            fixed[i] = values->at[values->bit / 8] >> (values->bit & 7) & 1;
        }
        return true;
    }
    if (values->physical == PARQUET_BYTE_ARRAY) {
        for (int32_t i = 0; i < n; i++) {
            left = (size_t)(values->end - values->at);
            if (left < 4 || load_le32(values->at) > left - 4) {
                return false;
            }
            slices[i].size = load_le32(values->at);
            slices[i].bytes = values->at + 4;
            values->at += 4 + (size_t)slices[i].size;
        }
        return true;
    }
    size_t width = (size_t)values->width;
    if ((size_t)n * width > left) {
        return false;
    }
    if (slices == NULL) {
        memcpy(fixed, values->at, (size_t)n * width);
    } else {
        for (int32_t i = 0; i < n; i++) {
            slices[i] = (struct parquet_slice){values->at + (size_t)i * width, (uint32_t)width};
        }
    }
    values->at += (size_t)n * width;
    return true;
}

bool parquet_values_codes(struct parquet_values *values, int32_t n, uint32_t *codes) {
    if (parquet_rle_next_u32(&values->rle, codes, n) < n) {
        return false;
    }
#ifndef WEIR_PLANT_BUG /* tools/fuzz.py proves that the fuzzer would find this */
    uint32_t greatest = 0;
    for (int32_t i = 0; i < n; i++) {
        greatest = codes[i] > greatest ? codes[i] : greatest;
    }
    if (n > 0 && greatest >= (uint32_t)values->dictionary_count) {
        return false;
    }
#endif
    return true;
}

#define LOOK_UP(type)                                                                              \
    for (int32_t i = 0; i < n; i++) {                                                              \
        memcpy(fixed + (size_t)i * sizeof(type),                                                   \
               values->dictionary + (size_t)codes[i] * sizeof(type), sizeof(type));                \
    }

static bool next_coded_block(struct parquet_values *values, int32_t n, uint8_t *fixed,
                             struct parquet_slice *slices) {
    uint32_t codes[PARQUET_BLOCK];
    if (!parquet_values_codes(values, n, codes)) {
        return false;
    }
    if (slices != NULL) {
        for (int32_t i = 0; i < n; i++) {
            slices[i] = values->dictionary_slices[codes[i]];
        }
    } else if (values->width == 4) {
        LOOK_UP(uint32_t);
    } else if (values->width == 8) {
        LOOK_UP(uint64_t);
    } else {
        LOOK_UP(uint8_t);
    }
    return true;
}

static bool next_coded(struct parquet_values *values, int32_t n, uint8_t *fixed,
                       struct parquet_slice *slices) {
    for (int32_t at = 0; at < n; at += PARQUET_BLOCK) {
        int32_t count = n - at < PARQUET_BLOCK ? n - at : (int32_t)PARQUET_BLOCK;
        if (!next_coded_block(values, count, fixed != NULL ? fixed + at * values->width : NULL,
                              slices != NULL ? slices + at : NULL)) {
            return false;
        }
    }
    return true;
}

/* `fixed` is aligned for its values wherever they end up: in a block or in a batch's buffer. */
static bool next_delta(struct parquet_values *values, int32_t n, uint8_t *fixed) {
    return values->width == 4
               ? parquet_delta_next_i32(&values->delta, (int32_t *)(void *)fixed, n) == n
               : parquet_delta_next(&values->delta, (int64_t *)(void *)fixed, n) == n;
}

static bool next_delta_length(struct parquet_values *values, int32_t n,
                              struct parquet_slice *slices) {
    int64_t lengths[PARQUET_BLOCK];
    if (parquet_delta_next(&values->delta, lengths, n) < n) {
        return false;
    }
    for (int32_t i = 0; i < n; i++) {
        if (lengths[i] < 0 || lengths[i] > values->end - values->at) {
            return false;
        }
        slices[i] = (struct parquet_slice){values->at, (uint32_t)lengths[i]};
        values->at += lengths[i];
    }
    return true;
}

static int next_delta_bytes(struct parquet_values *values, int32_t n,
                            struct parquet_slice *slices) {
    int64_t prefixes[PARQUET_BLOCK];
    int64_t suffixes[PARQUET_BLOCK];
    if (parquet_delta_next(&values->delta, prefixes, n) < n ||
        parquet_delta_next(&values->suffixes, suffixes, n) < n) {
        return WEIR_E_CORRUPT;
    }
    size_t total = 0;
    int64_t before = (int64_t)values->previous.size;
    const uint8_t *at = values->at;
    for (int32_t i = 0; i < n; i++) {
        if (prefixes[i] < 0 || prefixes[i] > before || suffixes[i] < 0 ||
            suffixes[i] > values->end - at) {
            return WEIR_E_CORRUPT;
        }
        before = prefixes[i] + suffixes[i];
        at += suffixes[i];
        total += (size_t)before;
        if (before > INT32_MAX || (values->physical == PARQUET_FIXED && before != values->width)) {
            return WEIR_E_CORRUPT;
        }
    }
    weir_buffer_clear(&values->scratch);
    int rc = weir_buffer_reserve(&values->scratch, total + 1);
    if (rc != WEIR_OK) {
        return rc;
    }
    uint8_t *to = values->scratch.data;
    const uint8_t *last = values->previous.data;
    size_t last_size = values->previous.size;
    for (int32_t i = 0; i < n; i++) {
        size_t prefix = (size_t)prefixes[i];
        size_t suffix = (size_t)suffixes[i];
        if (prefix > 0) {
            memcpy(to, last, prefix);
        }
        if (suffix > 0) {
            memcpy(to + prefix, values->at, suffix);
        }
        values->at += suffix;
        slices[i] = (struct parquet_slice){to, (uint32_t)(prefix + suffix)};
        last = to;
        last_size = prefix + suffix;
        to += last_size;
    }
    if (n > 0) {
        weir_buffer_clear(&values->previous);
        rc = weir_buffer_append(&values->previous, last, last_size);
    }
    return rc;
}

static int next_split(struct parquet_values *values, int32_t n, uint8_t *fixed,
                      struct parquet_slice *slices) {
    size_t width = (size_t)values->width;
    if (n > values->split - values->split_at) {
        return WEIR_E_CORRUPT;
    }
    if (slices != NULL) {
        weir_buffer_clear(&values->scratch);
        int rc = weir_buffer_reserve(&values->scratch, (size_t)n * width + 1);
        if (rc != WEIR_OK) {
            return rc;
        }
        fixed = values->scratch.data;
    }
    for (int32_t i = 0; i < n; i++) {
        for (size_t b = 0; b < width; b++) {
            fixed[(size_t)i * width + b] =
                values->at[b * (size_t)values->split + (size_t)(values->split_at + i)];
        }
        if (slices != NULL) {
            slices[i] = (struct parquet_slice){fixed + (size_t)i * width, (uint32_t)width};
        }
    }
    values->split_at += n;
    return WEIR_OK;
}

int parquet_values_next(struct parquet_values *values, int32_t n, uint8_t *fixed,
                        struct parquet_slice *slices) {
    bool good = true;
    switch (values->encoding) {
    case PARQUET_PLAIN:
        good = next_plain(values, n, fixed, slices);
        break;
    case PARQUET_RLE_DICTIONARY:
        good = next_coded(values, n, fixed, slices);
        break;
    case PARQUET_RLE:
        good = parquet_rle_next_u8(&values->rle, fixed, n) == n;
        break;
    case PARQUET_DELTA_BINARY_PACKED:
        good = next_delta(values, n, fixed);
        break;
    case PARQUET_DELTA_LENGTH_BYTE_ARRAY:
        good = next_delta_length(values, n, slices);
        break;
    case PARQUET_DELTA_BYTE_ARRAY:
        return next_delta_bytes(values, n, slices);
    default:
        return next_split(values, n, fixed, slices);
    }
    return good ? WEIR_OK : WEIR_E_CORRUPT;
}
