/* DELTA_BINARY_PACKED: blocks of 128 deltas in four miniblocks, each packed at its own width.
 * Deltas wrap at the physical type's width, so 32-bit columns never need more than 32 bits. */
#include <string.h>

#include "lake/parquet/encoding.h"

enum { BLOCK = 128, MINIS = 4, MINI = 32 };

size_t parquet_delta_bound(int64_t n, int value_bytes) {
    return (size_t)(n / BLOCK + 1) * (10 + MINIS + BLOCK * (size_t)value_bytes) + 40;
}

static inline uint8_t *put_varint(uint8_t *to, uint64_t value) {
    while (value >= 128) {
        *to++ = (uint8_t)(value | 128);
        value >>= 7;
    }
    *to++ = (uint8_t)value;
    return to;
}

static inline uint64_t zigzag(int64_t value) {
    return (uint64_t)value << 1 ^ (uint64_t)(value >> 63);
}

static inline int width_of(uint64_t bits) {
    return bits == 0 ? 0 : 64 - __builtin_clzll(bits);
}

/* 32 values of up to 64 bits: `width` words of 32 bits. */
static inline uint8_t *pack_mini(const uint64_t *values, int width, uint8_t *to) {
    if (width <= 32) {
        uint64_t bits = 0;
        int held = 0;
        for (int i = 0; i < MINI; i++) {
            bits |= values[i] << held;
            held += width;
            if (held >= 32) {
                uint32_t word = (uint32_t)bits;
                memcpy(to, &word, sizeof(word));
                to += 4;
                bits >>= 32;
                held -= 32;
            }
        }
        return to;
    }
    unsigned __int128 bits = 0;
    int held = 0;
    for (int i = 0; i < MINI; i++) {
        bits |= (unsigned __int128)values[i] << held;
        held += width;
        if (held >= 64) {
            uint64_t word = (uint64_t)bits;
            memcpy(to, &word, sizeof(word));
            to += 8;
            bits >>= 64;
            held -= 64;
        }
    }
    if (held > 0) { /* 32 x odd width leaves one half word */
        uint32_t word = (uint32_t)bits;
        memcpy(to, &word, sizeof(word));
        to += 4;
    }
    return to;
}

/* Adjusted deltas of the block that starts at value i (i >= 1); returns the minimum delta. */
static inline int64_t block_deltas(const void *values, int64_t i, int count, uint64_t *deltas,
                                   bool wide) {
    int64_t minimum = INT64_MAX;
    int64_t raw[BLOCK];
    if (wide) {
        const int64_t *v = (const int64_t *)values + i;
        for (int j = 0; j < count; j++) {
            raw[j] = (int64_t)((uint64_t)v[j] - (uint64_t)v[j - 1]);
            minimum = raw[j] < minimum ? raw[j] : minimum;
        }
        for (int j = 0; j < count; j++) {
            deltas[j] = (uint64_t)raw[j] - (uint64_t)minimum;
        }
    } else {
        const int32_t *v = (const int32_t *)values + i;
        for (int j = 0; j < count; j++) {
            raw[j] = (int32_t)((uint32_t)v[j] - (uint32_t)v[j - 1]);
            minimum = raw[j] < minimum ? raw[j] : minimum;
        }
        for (int j = 0; j < count; j++) {
            deltas[j] = (uint32_t)raw[j] - (uint32_t)minimum;
        }
    }
    for (int j = count; j < BLOCK; j++) {
        deltas[j] = 0;
    }
    return minimum;
}

static inline uint8_t *encode(const void *values, int64_t n, uint8_t *to, bool wide) {
    int64_t first = 0;
    if (n > 0) {
        first = wide ? ((const int64_t *)values)[0] : ((const int32_t *)values)[0];
    }
    to = put_varint(to, BLOCK);
    to = put_varint(to, MINIS);
    to = put_varint(to, (uint64_t)n);
    to = put_varint(to, zigzag(first));
    uint64_t deltas[BLOCK];
    for (int64_t i = 1; i < n; i += BLOCK) {
        int count = n - i < BLOCK ? (int)(n - i) : BLOCK;
        to = put_varint(to, zigzag(block_deltas(values, i, count, deltas, wide)));
        uint8_t *widths = to;
        to += MINIS;
        for (int m = 0; m < MINIS; m++) {
            uint64_t any = 0;
            for (int j = 0; j < MINI; j++) {
                any |= deltas[m * MINI + j];
            }
            widths[m] = (uint8_t)width_of(any); /* 0 past the last value */
            to = widths[m] == 0 ? to : pack_mini(deltas + m * MINI, widths[m], to);
        }
    }
    return to;
}

uint8_t *parquet_delta_encode_i32(const int32_t *values, int64_t n, uint8_t *to) {
    return encode(values, n, to, false);
}

uint8_t *parquet_delta_encode_i64(const int64_t *values, int64_t n, uint8_t *to) {
    return encode(values, n, to, true);
}

static inline size_t estimate(const void *values, int64_t n, bool wide) {
    enum { STRIDE = 8 * BLOCK };
    size_t bytes = 0;
    int64_t seen = 0;
    uint64_t deltas[BLOCK];
    for (int64_t i = 1; i < n; i += STRIDE) {
        int count = n - i < BLOCK ? (int)(n - i) : BLOCK;
        int64_t minimum = block_deltas(values, i, count, deltas, wide);
        bytes += 4 + (size_t)width_of(zigzag(minimum)) / 7 + 1;
        for (int m = 0; m < MINIS; m++) {
            uint64_t any = 0;
            for (int j = 0; j < MINI; j++) {
                any |= deltas[m * MINI + j];
            }
            bytes += (size_t)width_of(any) * MINI / 8;
        }
        seen += count;
    }
    return seen == 0 ? 16 : 16 + (size_t)((double)bytes * (double)n / (double)seen);
}

size_t parquet_delta_estimate_i32(const int32_t *values, int64_t n) {
    return estimate(values, n, false);
}

size_t parquet_delta_estimate_i64(const int64_t *values, int64_t n) {
    return estimate(values, n, true);
}

/* --- decoder ----------------------------------------------------------------------------- */

static bool take_varint(struct parquet_delta *delta, uint64_t *value) {
    *value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        if (delta->at == delta->end) {
            return false;
        }
        uint8_t byte = *delta->at++;
        *value |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) {
            return true;
        }
    }
    return false;
}

static uint64_t unzigzag(uint64_t value) {
    return value >> 1 ^ (~(value & 1) + 1);
}

bool parquet_delta_init(struct parquet_delta *delta, const uint8_t *bytes, size_t size) {
    memset(delta, 0, sizeof(*delta));
    delta->at = bytes;
    delta->end = bytes + size;
    uint64_t block;
    uint64_t minis;
    uint64_t first;
    if (!take_varint(delta, &block) || !take_varint(delta, &minis) ||
        !take_varint(delta, &delta->left) || !take_varint(delta, &first)) {
        return false;
    }
    if (block == 0 || block > 1 << 20 || minis == 0 || minis > block / 32 || block % minis != 0 ||
        block / minis % 32 != 0 || delta->left > INT32_MAX) {
        return false;
    }
    delta->mini_count = (uint32_t)minis;
    delta->mini_values = (uint32_t)(block / minis);
    delta->mini_index = delta->mini_count; /* no block yet */
    delta->last = unzigzag(first);
    delta->first = delta->left > 0;
    return true;
}

/* Steps to the next miniblock, reading a block header where one is due. */
static bool next_mini(struct parquet_delta *delta) {
    if (delta->mini_index == delta->mini_count) {
        uint64_t minimum;
        if (!take_varint(delta, &minimum) ||
            (uint64_t)(delta->end - delta->at) < delta->mini_count) {
            return false;
        }
        delta->min_delta = unzigzag(minimum);
        delta->widths = delta->at;
        delta->at += delta->mini_count;
        delta->mini_index = 0;
    }
    delta->width = delta->widths[delta->mini_index++];
    size_t bytes = (size_t)delta->mini_values / 8 * (size_t)delta->width;
    if (delta->width > 64 || bytes > (size_t)(delta->end - delta->at)) {
        return false;
    }
    delta->mini_at = delta->at;
    delta->at += bytes;
    delta->mini_left = delta->mini_values;
    return true;
}

static void unpack(struct parquet_delta *delta) {
    uint8_t bytes[MINI * 8 + 16] = {0};
    size_t width = (size_t)delta->width;
    memcpy(bytes, delta->mini_at, width * 4);
    delta->mini_at += width * 4;
    uint64_t mask = width == 64 ? UINT64_MAX : ((uint64_t)1 << width) - 1;
    for (size_t i = 0; i < MINI; i++) {
        size_t bit = i * width;
        uint64_t low;
        memcpy(&low, bytes + bit / 8, sizeof(low));
        unsigned shift = bit & 7;
        uint64_t value = low >> shift;
        if (shift != 0) {
            value |= (uint64_t)bytes[bit / 8 + 8] << (64 - shift);
        }
        delta->unpacked[i] = value & mask;
    }
    delta->unpacked_at = 0;
    delta->unpacked_count = MINI;
    delta->mini_left -= MINI;
}

/* 32 values of the miniblock straight to where they are wanted, while eight bytes can be read at
 * once; false when they cannot. */
static inline bool unpack_direct(struct parquet_delta *delta, void *to, bool wide) {
    size_t width = (size_t)delta->width;
    if (width > 56 || (size_t)(delta->end - delta->mini_at) < width * 4 + sizeof(uint64_t)) {
        return false;
    }
    const uint8_t *at = delta->mini_at;
    uint64_t mask = ((uint64_t)1 << width) - 1;
    uint64_t last = delta->last;
    uint64_t minimum = delta->min_delta;
    for (size_t i = 0; i < MINI; i++) {
        size_t bit = i * width;
        uint64_t word;
        memcpy(&word, at + bit / 8, sizeof(word));
        last += minimum + ((word >> (bit & 7)) & mask);
        if (wide) {
            ((int64_t *)to)[i] = (int64_t)last;
        } else {
            ((int32_t *)to)[i] = (int32_t)last;
        }
    }
    delta->last = last;
    delta->mini_at += width * 4;
    delta->mini_left -= MINI;
    delta->left -= MINI;
    return true;
}

static inline void put(void *to, int32_t i, uint64_t value, bool wide) {
    if (wide) {
        ((int64_t *)to)[i] = (int64_t)value;
    } else {
        ((int32_t *)to)[i] = (int32_t)value;
    }
}

static inline int32_t next(struct parquet_delta *delta, void *to, int32_t n, bool wide) {
    int32_t done = 0;
    size_t size = wide ? sizeof(int64_t) : sizeof(int32_t);
    if (n > 0 && delta->first) {
        delta->first = false;
        delta->left--;
        put(to, done++, delta->last, wide);
    }
    while (done < n && delta->left > 0) {
        if (delta->unpacked_at == delta->unpacked_count) {
            if (delta->mini_left == 0 && !next_mini(delta)) {
                break;
            }
            if (n - done >= MINI && delta->left >= MINI &&
                unpack_direct(delta, (uint8_t *)to + (size_t)done * size, wide)) {
                done += MINI;
                continue;
            }
            unpack(delta);
        }
        int32_t take = delta->unpacked_count - delta->unpacked_at;
        take = take < n - done ? take : n - done;
        take = (uint64_t)take < delta->left ? take : (int32_t)delta->left;
        for (int32_t i = 0; i < take; i++) {
            delta->last += delta->min_delta + delta->unpacked[delta->unpacked_at + i];
            put(to, done + i, delta->last, wide);
        }
        delta->unpacked_at += take;
        delta->left -= (uint64_t)take;
        done += take;
    }
    return done;
}

int32_t parquet_delta_next(struct parquet_delta *delta, int64_t *to, int32_t n) {
    return next(delta, to, n, true);
}

int32_t parquet_delta_next_i32(struct parquet_delta *delta, int32_t *to, int32_t n) {
    return next(delta, to, n, false);
}

const uint8_t *parquet_delta_end(const struct parquet_delta *delta) {
    struct parquet_delta copy = *delta;
    uint64_t held = (uint64_t)(copy.unpacked_count - copy.unpacked_at) + copy.mini_left;
    uint64_t left = copy.left - (copy.first ? 1 : 0);
    while (left > held) {
        left -= held;
        if (!next_mini(&copy)) {
            return NULL;
        }
        held = copy.mini_values;
    }
    return copy.at;
}
