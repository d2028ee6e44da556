/* zstd, snappy, gzip, lz4, and for reading brotli, behind one call, plus their "stored" forms: a
 * page whose chunk was seen not to compress is framed by hand, which costs a memcpy instead of a
 * search. */
#include "lake/parquet/compress.h"

#define ZSTD_STATIC_LINKING_ONLY /* for ZSTD_c_literalCompressionMode */
#include <brotli/decode.h>
#include <lz4.h>
#include <snappy-c.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

enum { ZSTD_RAW_BLOCK_MAX = 128 * 1024, GZIP_WINDOW = 15 + 16, GZIP_STORED_MAX = 65535 };

/* --- compressor -------------------------------------------------------------------------- */

struct parquet_compressor {
    enum weir_parquet_codec codec;
    ZSTD_CCtx *zstd;
    bool quick; /* level 1 */
    bool hasty;
    z_stream gzip;
    bool gzip_ready;
};

struct parquet_compressor *parquet_compressor_create(enum weir_parquet_codec codec, int32_t level) {
    struct parquet_compressor *compressor = calloc(1, sizeof(*compressor));
    if (compressor == NULL) {
        return NULL;
    }
    compressor->codec = codec;
    bool good = true;
    if (codec == WEIR_PARQUET_ZSTD) {
        level = level == 0 ? 1 : level;
        compressor->quick = level == 1;
        compressor->zstd = ZSTD_createCCtx();
        good =
            compressor->zstd != NULL &&
            !ZSTD_isError(ZSTD_CCtx_setParameter(compressor->zstd, ZSTD_c_compressionLevel, level));
        /* Level 1 looks for repeats of 7 bytes in inputs past 256 KiB. Doubles with few digits
         * repeat in 6, and a page of them comes out a quarter smaller. A table of 8 Ki places fits
         * the nearest cache and finds nearly as much. */
        good =
            good && (level > 1 ||
                     (!ZSTD_isError(ZSTD_CCtx_setParameter(compressor->zstd, ZSTD_c_minMatch, 6)) &&
                      !ZSTD_isError(ZSTD_CCtx_setParameter(compressor->zstd, ZSTD_c_hashLog, 13))));
    } else if (codec == WEIR_PARQUET_GZIP) {
        good = deflateInit2(&compressor->gzip, level == 0 ? 6 : level, Z_DEFLATED, GZIP_WINDOW, 8,
                            Z_DEFAULT_STRATEGY) == Z_OK;
        compressor->gzip_ready = good;
    }
    if (!good) {
        parquet_compressor_destroy(compressor);
        return NULL;
    }
    return compressor;
}

void parquet_compressor_destroy(struct parquet_compressor *compressor) {
    if (compressor != NULL) {
        ZSTD_freeCCtx(compressor->zstd);
        if (compressor->gzip_ready) {
            deflateEnd(&compressor->gzip);
        }
        free(compressor);
    }
}

bool parquet_compress_can_hurry(const struct parquet_compressor *compressor) {
    return compressor->quick;
}

/* Long steps would also turn off the coding of literals, which is wanted all the more. A library
 * that knows one of these not keeps to its ways: that costs time only. */
void parquet_compress_hastily(struct parquet_compressor *compressor, bool hasty) {
    if (!compressor->quick || compressor->hasty == hasty) {
        return;
    }
    (void)ZSTD_CCtx_setParameter(compressor->zstd, ZSTD_c_literalCompressionMode,
                                 hasty ? ZSTD_lcm_huffman : ZSTD_lcm_auto);
    (void)ZSTD_CCtx_setParameter(compressor->zstd, ZSTD_c_targetLength, hasty ? 8 : 0);
    (void)ZSTD_CCtx_setParameter(compressor->zstd, ZSTD_c_hashLog, hasty ? 12 : 13);
    compressor->hasty = hasty;
}

size_t parquet_compress_bound(enum weir_parquet_codec codec, size_t size) {
    switch (codec) {
    case WEIR_PARQUET_ZSTD:
        return ZSTD_compressBound(size) + size / ZSTD_RAW_BLOCK_MAX * 3 + 32;
    case WEIR_PARQUET_SNAPPY:
        return snappy_max_compressed_length(size) + 16;
    case WEIR_PARQUET_GZIP:
        return compressBound(size) + size / GZIP_STORED_MAX * 5 + 64;
    case WEIR_PARQUET_LZ4_RAW:
        return size + size / 255 + 16;
    default:
        return size;
    }
}

int parquet_compress(struct parquet_compressor *compressor, const void *from, size_t size, void *to,
                     size_t *to_size) {
    size_t capacity = parquet_compress_bound(compressor->codec, size);
    switch (compressor->codec) {
    case WEIR_PARQUET_ZSTD:
        *to_size = ZSTD_compress2(compressor->zstd, to, capacity, from, size);
        return ZSTD_isError(*to_size) ? WEIR_E_NOMEM : WEIR_OK;
    case WEIR_PARQUET_SNAPPY:
        *to_size = capacity;
        return snappy_compress(from, size, to, to_size) == SNAPPY_OK ? WEIR_OK : WEIR_E_BUG;
    case WEIR_PARQUET_GZIP: {
        z_stream *stream = &compressor->gzip;
        deflateReset(stream);
        stream->next_in = (Bytef *)(uintptr_t)from;
        stream->avail_in = (uInt)size;
        stream->next_out = to;
        stream->avail_out = (uInt)capacity;
        int rc = deflate(stream, Z_FINISH);
        *to_size = capacity - stream->avail_out;
        return rc == Z_STREAM_END ? WEIR_OK : WEIR_E_BUG;
    }
    case WEIR_PARQUET_LZ4_RAW:
        if (size > LZ4_MAX_INPUT_SIZE) {
            return WEIR_E_LIMIT;
        }
        *to_size = (size_t)LZ4_compress_default(from, to, (int)size, (int)capacity);
        return *to_size > 0 ? WEIR_OK : WEIR_E_BUG;
    default:
        memcpy(to, from, size);
        *to_size = size;
        return WEIR_OK;
    }
}

static uint8_t *put_le(uint8_t *to, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++) {
        *to++ = (uint8_t)(value >> (8 * i));
    }
    return to;
}

/* RFC 8878: a single-segment frame with an 8-byte content size and raw blocks. */
static uint8_t *store_zstd(const uint8_t *from, size_t size, uint8_t *to) {
    to = put_le(to, 0xfd2fb528, 4);
    *to++ = 3 << 6 | 1 << 5;
    to = put_le(to, size, 8);
    do {
        size_t n = size < ZSTD_RAW_BLOCK_MAX ? size : ZSTD_RAW_BLOCK_MAX;
        to = put_le(to, (uint64_t)n << 3 | (n == size ? 1 : 0), 3);
        memcpy(to, from, n);
        to += n;
        from += n;
        size -= n;
    } while (size > 0);
    return to;
}

/* snappy format_description.txt: length, then one literal with a 4-byte length. */
static uint8_t *store_snappy(const uint8_t *from, size_t size, uint8_t *to) {
    size_t length = size;
    while (length >= 128) {
        *to++ = (uint8_t)(length | 128);
        length >>= 7;
    }
    *to++ = (uint8_t)length;
    if (size > 0) {
        *to++ = 63 << 2;
        to = put_le(to, size - 1, 4);
        memcpy(to, from, size);
    }
    return to + size;
}

/* lz4_Block_format.md: a last sequence of literals only. */
static uint8_t *store_lz4(const uint8_t *from, size_t size, uint8_t *to) {
    *to++ = (uint8_t)((size < 15 ? size : 15) << 4);
    if (size >= 15) {
        size_t rest = size - 15;
        while (rest >= 255) {
            *to++ = 255;
            rest -= 255;
        }
        *to++ = (uint8_t)rest;
    }
    memcpy(to, from, size);
    return to + size;
}

/* RFC 1951 stored blocks in an RFC 1952 member. */
static uint8_t *store_gzip(const uint8_t *from, size_t size, uint8_t *to) {
    static const uint8_t head[10] = {31, 139, 8, 0, 0, 0, 0, 0, 0, 255};
    uint32_t crc = (uint32_t)crc32_z(0, from, size);
    uint32_t total = (uint32_t)size;
    memcpy(to, head, sizeof(head));
    to += sizeof(head);
    do {
        size_t n = size < GZIP_STORED_MAX ? size : GZIP_STORED_MAX;
        *to++ = n == size;
        to = put_le(to, n, 2);
        to = put_le(to, ~(uint64_t)n, 2);
        memcpy(to, from, n);
        to += n;
        from += n;
        size -= n;
    } while (size > 0);
    to = put_le(to, crc, 4);
    return put_le(to, total, 4);
}

size_t parquet_store(enum weir_parquet_codec codec, const void *from, size_t size, void *to) {
    uint8_t *end;
    switch (codec) {
    case WEIR_PARQUET_ZSTD:
        end = store_zstd(from, size, to);
        break;
    case WEIR_PARQUET_SNAPPY:
        end = store_snappy(from, size, to);
        break;
    case WEIR_PARQUET_GZIP:
        end = store_gzip(from, size, to);
        break;
    case WEIR_PARQUET_LZ4_RAW:
        end = store_lz4(from, size, to);
        break;
    default:
        memcpy(to, from, size);
        end = (uint8_t *)to + size;
        break;
    }
    return (size_t)(end - (uint8_t *)to);
}

/* --- decompressor ------------------------------------------------------------------------ */

struct parquet_decompressor {
    ZSTD_DCtx *zstd;
};

struct parquet_decompressor *parquet_decompressor_create(void) {
    struct parquet_decompressor *decompressor = calloc(1, sizeof(*decompressor));
    if (decompressor != NULL) {
        decompressor->zstd = ZSTD_createDCtx();
        if (decompressor->zstd == NULL) {
            free(decompressor);
            return NULL;
        }
    }
    return decompressor;
}

void parquet_decompressor_destroy(struct parquet_decompressor *decompressor) {
    if (decompressor != NULL) {
        ZSTD_freeDCtx(decompressor->zstd);
        free(decompressor);
    }
}

const char *parquet_codec_name(int32_t codec) {
    static const char *const names[] = {"none",   "snappy",     "gzip", "lzo",
                                        "brotli", "lz4_hadoop", "zstd", "lz4_raw"};
    return codec >= 0 && codec < 8 ? names[codec] : NULL;
}

bool parquet_codec_supported(int32_t codec) {
    return parquet_codec_name(codec) != NULL && codec != 3;
}

static int gunzip(const uint8_t *from, size_t size, uint8_t *to, size_t to_size) {
    z_stream stream = {0};
    /* 32: gzip or zlib header by itself; a page may be several members one after another */
    if (inflateInit2(&stream, 15 + 32) != Z_OK) {
        return WEIR_E_NOMEM;
    }
    stream.next_in = (Bytef *)(uintptr_t)from;
    stream.avail_in = (uInt)size;
    stream.next_out = to;
    stream.avail_out = (uInt)to_size;
    int rc = inflate(&stream, Z_FINISH);
    while (rc == Z_STREAM_END && stream.avail_in > 0 && stream.avail_out > 0) {
        inflateReset(&stream);
        rc = inflate(&stream, Z_FINISH);
    }
    bool good = rc == Z_STREAM_END && stream.avail_out == 0;
    inflateEnd(&stream);
    return good ? WEIR_OK : WEIR_E_CORRUPT;
}

static int unlz4(const uint8_t *from, size_t size, uint8_t *to, size_t to_size) {
    int n = LZ4_decompress_safe((const char *)from, (char *)to, (int)size, (int)to_size);
    return n >= 0 && (size_t)n == to_size ? WEIR_OK : WEIR_E_CORRUPT;
}

static uint32_t load_be32(const uint8_t *from) {
    return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
}

/* Hadoop's framing: blocks of big-endian raw size, compressed size, lz4 block. Some writers put a
 * bare lz4 block under the same codec number, so that is tried when the framing does not hold. */
static int unlz4_hadoop(const uint8_t *from, size_t size, uint8_t *to, size_t to_size) {
    const uint8_t *at = from;
    size_t left = size;
    size_t done = 0;
    while (left >= 8) {
        size_t raw = load_be32(at);
        size_t packed = load_be32(at + 4);
        if (packed > left - 8 || raw > to_size - done ||
            unlz4(at + 8, packed, to + done, raw) != WEIR_OK) {
            break;
        }
        at += 8 + packed;
        left -= 8 + packed;
        done += raw;
    }
    if (left == 0 && done == to_size) {
        return WEIR_OK;
    }
    return unlz4(from, size, to, to_size);
}

int parquet_decompress(struct parquet_decompressor *decompressor, int32_t codec, const void *from,
                       size_t size, void *to, size_t to_size) {
    if (size > INT32_MAX || to_size > INT32_MAX) {
        return WEIR_E_CORRUPT;
    }
    switch (codec) {
    case WEIR_PARQUET_NONE:
        if (size != to_size) {
            return WEIR_E_CORRUPT;
        }
        memcpy(to, from, size);
        return WEIR_OK;
    case WEIR_PARQUET_SNAPPY: {
        size_t length = 0;
        if (snappy_uncompressed_length(from, size, &length) != SNAPPY_OK || length != to_size ||
            snappy_uncompress(from, size, to, &length) != SNAPPY_OK) {
            return WEIR_E_CORRUPT;
        }
        return WEIR_OK;
    }
    case WEIR_PARQUET_GZIP:
        return gunzip(from, size, to, to_size);
    case WEIR_PARQUET_ZSTD: {
        size_t n = ZSTD_decompressDCtx(decompressor->zstd, to, to_size, from, size);
        return !ZSTD_isError(n) && n == to_size ? WEIR_OK : WEIR_E_CORRUPT;
    }
    case WEIR_PARQUET_BROTLI: {
        size_t n = to_size;
        return BrotliDecoderDecompress(size, from, &n, to) == BROTLI_DECODER_RESULT_SUCCESS &&
                       n == to_size
                   ? WEIR_OK
                   : WEIR_E_CORRUPT;
    }
    case WEIR_PARQUET_LZ4_RAW:
        return unlz4(from, size, to, to_size);
    case WEIR_PARQUET_LZ4_HADOOP:
        return unlz4_hadoop(from, size, to, to_size);
    default:
        return WEIR_E_UNSUPPORTED;
    }
}
