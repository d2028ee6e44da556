/* RLE / bit-packed hybrid. The encoder packs in groups of eight and breaks off into a run only
 * where the run is shorter than its packed form. */
#include <string.h>

#include "lake/parquet/encoding.h"

size_t parquet_rle_bound(int64_t n, int width) {
    /* all packed, plus a header per group in the worst alternation of runs and groups */
    return (size_t)((n + 7) / 8) * (size_t)(width + 11) + 32;
}

static inline uint8_t *put_varint(uint8_t *to, uint64_t value) {
    while (value >= 128) {
        *to++ = (uint8_t)(value | 128);
        value >>= 7;
    }
    *to++ = (uint8_t)value;
    return to;
}

static inline uint32_t load(const void *values, int64_t i, bool wide) {
    return wide ? ((const uint32_t *)values)[i] : ((const uint8_t *)values)[i];
}

/* True when the eight values from i are equal. */
static inline bool same_eight(const void *values, int64_t i, bool wide) {
    if (wide) {
        const uint32_t *v = (const uint32_t *)values + i;
        uint32_t differ = 0;
        for (int j = 1; j < 8; j++) {
            differ |= v[j] ^ v[0];
        }
        return differ == 0;
    }
    const uint8_t *v = (const uint8_t *)values + i;
    uint64_t word;
    memcpy(&word, v, sizeof(word));
    return word == v[0] * 0x0101010101010101u;
}

static inline int64_t run_length(const void *values, int64_t i, int64_t n, bool wide) {
    uint32_t value = load(values, i, wide);
    int64_t j = i + 1;
    while (j < n && load(values, j, wide) == value) {
        j++;
        if (j + 8 <= n && load(values, j, wide) == value && same_eight(values, j, wide)) {
            j += 7;
        }
    }
    return j - i;
}

static inline uint8_t *pack(const void *values, int64_t i, int64_t n, int width, uint8_t *to,
                            bool wide) {
    uint64_t bits = 0;
    int held = 0;
    int64_t padded = (n + 7) & ~(int64_t)7;
    for (int64_t j = 0; j < padded; j++) {
        uint64_t value = j < n ? load(values, i + j, wide) : 0;
        bits |= value << held;
        held += width;
        if (held >= 32) {
            uint32_t word = (uint32_t)bits;
            memcpy(to, &word, sizeof(word));
            to += 4;
            bits >>= 32;
            held -= 32;
        }
    }
    memcpy(to, &bits, sizeof(bits)); /* whole bytes remain: eight values are `width` bytes */
    return to + held / 8;
}

static inline uint8_t *encode(const void *values, int64_t n, int width, uint8_t *to, bool wide) {
    int64_t run_min = width >= 5 ? 8 : 40 / width / 8 * 8;
    int64_t i = 0;
    while (i < n) {
        int64_t run = run_length(values, i, n, wide);
        if (run >= run_min || i + run == n) {
            to = put_varint(to, (uint64_t)run << 1);
            uint32_t value = load(values, i, wide);
            for (int b = 0; b < width; b += 8) {
                *to++ = (uint8_t)(value >> b);
            }
            i += run;
            continue;
        }
        int64_t j = i + 8;
        while (j + 8 <= n) {
            if (same_eight(values, j, wide) && run_length(values, j, n, wide) >= run_min) {
                break;
            }
            j += 8;
        }
        if (j + 8 > n) {
            j = n;
        }
        int64_t groups = (j - i + 7) / 8;
        to = put_varint(to, (uint64_t)groups << 1 | 1);
        to = pack(values, i, j - i, width, to, wide);
        i = j;
    }
    return to;
}

uint8_t *parquet_rle_encode_u8(const uint8_t *values, int64_t n, int width, uint8_t *to) {
    return encode(values, n, width, to, false);
}

uint8_t *parquet_rle_encode_u32(const uint32_t *values, int64_t n, int width, uint8_t *to) {
    return encode(values, n, width, to, true);
}

/* --- decoder ----------------------------------------------------------------------------- */

void parquet_rle_init(struct parquet_rle *rle, const uint8_t *bytes, size_t size, int width) {
    memset(rle, 0, sizeof(*rle));
    rle->at = bytes;
    rle->end = bytes + size;
    rle->width = width;
}

static bool next_header(struct parquet_rle *rle) {
    uint64_t head = 0;
    for (int shift = 0;; shift += 7) {
        if (rle->at == rle->end || shift > 56) {
            return false;
        }
        uint8_t byte = *rle->at++;
        head |= (uint64_t)(byte & 127) << shift;
        if (byte < 128) {
            break;
        }
    }
    if (head & 1) {
        rle->packed_left = (head >> 1) * 8;
        return rle->packed_left > 0;
    }
    rle->run_left = head >> 1;
    rle->run_value = 0;
    for (int b = 0; b < rle->width; b += 8) {
        if (rle->at == rle->end) {
            return false;
        }
        rle->run_value |= (uint32_t)*rle->at++ << b;
    }
    return rle->run_left > 0;
}

/* Unpacks up to 32 values; a last group cut short by the end of the page gives what is there. */
static bool unpack(struct parquet_rle *rle) {
    uint8_t bytes[32 * 4 + 8] = {0};
    int32_t n = rle->packed_left < 32 ? (int32_t)rle->packed_left : 32;
    size_t want = ((size_t)n * (size_t)rle->width + 7) / 8;
    size_t have = (size_t)(rle->end - rle->at);
    if (want > have) {
        n = (int32_t)(have * 8 / (size_t)rle->width);
        want = have;
        rle->packed_left = (uint64_t)n;
    }
    if (n == 0) {
        return false;
    }
    memcpy(bytes, rle->at, want);
    rle->at += want;
    uint32_t mask = rle->width == 32 ? UINT32_MAX : (1u << rle->width) - 1;
    for (int32_t i = 0; i < n; i++) {
        uint32_t bit = (uint32_t)i * (uint32_t)rle->width;
        uint64_t word;
        memcpy(&word, bytes + bit / 8, sizeof(word));
        rle->unpacked[i] = (uint32_t)(word >> (bit & 7)) & mask;
    }
    rle->packed_left -= (uint64_t)n;
    rle->unpacked_at = 0;
    rle->unpacked_count = n;
    return true;
}

static bool unpack_old(struct parquet_rle *rle) {
    if ((uint64_t)(rle->end - rle->at) * 8 < (uint64_t)rle->bit_offset + (uint64_t)rle->width) {
        return false;
    }
    uint32_t value = 0;
    for (int i = 0; i < rle->width; i++) {
        value = value << 1 | (rle->at[rle->bit_offset / 8] >> (7 - rle->bit_offset % 8) & 1);
        rle->bit_offset++;
    }
    rle->at += rle->bit_offset / 8;
    rle->bit_offset %= 8;
    rle->unpacked[0] = value;
    rle->unpacked_at = 0;
    rle->unpacked_count = 1;
    return true;
}

/* Whole groups of eight straight to where they are wanted, while eight bytes can be read at once.
 */
static inline int32_t unpack_groups(struct parquet_rle *rle, void *to, int32_t n, bool wide) {
    size_t width = (size_t)rle->width;
    size_t have = (size_t)(rle->end - rle->at);
    uint64_t groups =
        rle->packed_left / 8 < (uint64_t)n / 8 ? rle->packed_left / 8 : (uint64_t)n / 8;
    if (have < width + sizeof(uint64_t)) {
        return 0;
    }
    size_t safe = (have - sizeof(uint64_t)) / width;
    groups = groups < safe ? groups : safe;
    uint32_t mask = width == 32 ? UINT32_MAX : (1u << width) - 1;
    const uint8_t *at = rle->at;
    for (uint64_t g = 0; g < groups; g++, at += width) {
        for (size_t j = 0; j < 8; j++) {
            size_t bit = j * width;
            uint64_t word;
            memcpy(&word, at + bit / 8, sizeof(word));
            uint32_t value = (uint32_t)(word >> (bit & 7)) & mask;
            if (wide) {
                ((uint32_t *)to)[g * 8 + j] = value;
            } else {
                ((uint8_t *)to)[g * 8 + j] = (uint8_t)value;
            }
        }
    }
    rle->at = at;
    rle->packed_left -= groups * 8;
    return (int32_t)(groups * 8);
}

static inline int32_t take_unpacked(struct parquet_rle *rle, void *to, int32_t n, bool wide) {
    int32_t take = rle->unpacked_count - rle->unpacked_at;
    take = take < n ? take : n;
    for (int32_t i = 0; i < take; i++) {
        uint32_t value = rle->unpacked[rle->unpacked_at + i];
        if (wide) {
            ((uint32_t *)to)[i] = value;
        } else {
            ((uint8_t *)to)[i] = (uint8_t)value;
        }
    }
    rle->unpacked_at += take;
    return take;
}

static inline int32_t take_run(struct parquet_rle *rle, void *to, int32_t n, bool wide) {
    int32_t take = rle->run_left < (uint64_t)n ? (int32_t)rle->run_left : n;
    if (wide) {
        for (int32_t i = 0; i < take; i++) {
            ((uint32_t *)to)[i] = rle->run_value;
        }
    } else {
        memset(to, (int)rle->run_value, (size_t)take);
    }
    rle->run_left -= (uint64_t)take;
    return take;
}

static inline int32_t next(struct parquet_rle *rle, void *to, int32_t n, bool wide) {
    size_t size = wide ? sizeof(uint32_t) : 1;
    int32_t done = 0;
    if (rle->width == 0) {
        memset(to, 0, (size_t)n * size);
        return n;
    }
    while (done < n) {
        uint8_t *at = (uint8_t *)to + (size_t)done * size;
        if (rle->unpacked_at < rle->unpacked_count) {
            done += take_unpacked(rle, at, n - done, wide);
        } else if (rle->run_left > 0) {
            done += take_run(rle, at, n - done, wide);
        } else if (rle->old_bit_packed) {
            if (!unpack_old(rle)) {
                break;
            }
        } else if (rle->packed_left > 0) {
            int32_t unpacked = n - done >= 8 ? unpack_groups(rle, at, n - done, wide) : 0;
            done += unpacked;
            if (unpacked == 0 && !unpack(rle)) {
                break;
            }
        } else if (!next_header(rle)) {
            break;
        }
    }
    return done;
}

int32_t parquet_rle_run(struct parquet_rle *rle, int32_t n, uint32_t *value) {
    if (rle->width == 0 || rle->old_bit_packed || rle->unpacked_at < rle->unpacked_count) {
        return 0;
    }
    if (rle->run_left == 0 && (rle->packed_left > 0 || !next_header(rle))) {
        return 0;
    }
    int32_t run = rle->run_left < (uint64_t)n ? (int32_t)rle->run_left : n;
    rle->run_left -= (uint64_t)run;
    *value = rle->run_value;
    return run;
}

int32_t parquet_rle_next_u32(struct parquet_rle *rle, uint32_t *to, int32_t n) {
    return next(rle, to, n, true);
}

int32_t parquet_rle_next_u8(struct parquet_rle *rle, uint8_t *to, int32_t n) {
    return next(rle, to, n, false);
}
