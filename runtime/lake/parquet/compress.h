#pragma once
/* Page compression over the C libraries. A codec object keeps contexts and is used by one thread;
 * create one per writer or reader. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "lake/parquet/writer.h"

struct parquet_compressor;

struct parquet_compressor *parquet_compressor_create(enum weir_parquet_codec codec, int32_t level);
void parquet_compressor_destroy(struct parquet_compressor *compressor);
/* Largest output for `size` input bytes, of either function below. */
size_t parquet_compress_bound(enum weir_parquet_codec codec, size_t size);
/* zstd at level 1 can take longer steps where it finds nothing, which is quicker and on texts with
 * random parts finds more: for the calls that follow. Others ignore it. */
void parquet_compress_hastily(struct parquet_compressor *compressor, bool hasty);
bool parquet_compress_can_hurry(const struct parquet_compressor *compressor);
/* Compresses into `to` (parquet_compress_bound bytes). */
int parquet_compress(struct parquet_compressor *compressor, const void *from, size_t size, void *to,
                     size_t *to_size) WEIR_MUST_CHECK;
/* Wraps the bytes as the codec's uncompressed form: for pages found not to compress, since V1 pages
 * of a chunk share its codec. */
size_t parquet_store(enum weir_parquet_codec codec, const void *from, size_t size, void *to);

struct parquet_decompressor;

struct parquet_decompressor *parquet_decompressor_create(void);
void parquet_decompressor_destroy(struct parquet_decompressor *decompressor);
/* "brotli", … for messages; NULL for numbers the format does not know. */
const char *parquet_codec_name(int32_t codec);
bool parquet_codec_supported(int32_t codec);
/* Decompresses to exactly to_size bytes; WEIR_E_CORRUPT otherwise. */
int parquet_decompress(struct parquet_decompressor *decompressor, int32_t codec, const void *from,
                       size_t size, void *to, size_t to_size) WEIR_MUST_CHECK;
