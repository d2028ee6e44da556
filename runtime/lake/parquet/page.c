/* From leaf staging to compressed pages. A V1 data page is [repetition levels][definition levels]
 * [values], compressed as one piece. The staged values keep headroom in front of them, so that most
 * pages are put together without moving the values. */
#include <string.h>
#include <zlib.h>

#include "lake/parquet/leaf.h"
#include "lake/parquet/thrift.h"

enum {
    HEADER_MAX = 64,          /* a page header: a few varints */
    STORE_PAGES = 7,          /* pages stored plainly after one that did not compress */
    STORE_MIN = 1024,         /* smaller pages say nothing about the column */
    TRIAL_VALUES = 4096,      /* values looked at before a dictionary is built over a whole page */
    DICTIONARY_COST = 40,     /* header and frame of the extra page */
    SEARCH_MIN = 256 << 10,   /* pages worth trying two ways of compression on */
    SEARCH_SAMPLE = 64 << 10, /* of their middle */
    PREFIX_SAMPLE = 256,      /* pairs of values looked at for common beginnings */
};

static int no_memory(const struct parquet_leaf *leaf, struct weir_error *err) {
    return parquet_leaf_error(leaf, WEIR_E_NOMEM, err, "out of memory");
}

void parquet_leaf_clear_page(struct parquet_leaf *leaf) {
    leaf->rows = 0;
    leaf->entries = 0;
    leaf->present = 0;
    leaf->levels_staged = false;
    leaf->logical_bytes = 0;
    weir_buffer_clear(&leaf->definition);
    weir_buffer_clear(&leaf->repetition);
    leaf->values.size = leaf->headroom;
    weir_buffer_clear(&leaf->lengths);
    weir_buffer_clear(&leaf->codes);
    weir_buffer_clear(&leaf->indices);
}

void parquet_leaf_clear_chunk(struct parquet_leaf *leaf) {
    parquet_leaf_clear_page(leaf);
    leaf->mode = leaf->dictionary_allowed ? PARQUET_MODE_UNDECIDED : PARQUET_MODE_VALUES;
    parquet_dictionary_clear(&leaf->dictionary);
    parquet_statistics_clear(&leaf->chunk);
    weir_buffer_clear(&leaf->held);
    weir_buffer_clear(&leaf->pages);
    weir_buffer_clear(&leaf->bounds);
    leaf->indexed = true;
    leaf->search_tried = false;
    leaf->hasty = false;
    leaf->uncompressed_bytes = 0;
    leaf->compressed_bytes = 0;
    leaf->encodings = 0;
    memset(leaf->data_pages, 0, sizeof(leaf->data_pages));
}

/* --- choosing an encoding ---------------------------------------------------------------- */

static bool has_dictionary_pages(const struct parquet_leaf *leaf) {
    return leaf->data_pages[PARQUET_RLE_DICTIONARY] > 0;
}

static size_t delta_estimate(const struct parquet_leaf *leaf) {
    const uint8_t *values = leaf->values.data + leaf->headroom;
    return leaf->store == PARQUET_STORE_I32
               ? parquet_delta_estimate_i32((const int32_t *)values, leaf->present)
               : parquet_delta_estimate_i64((const int64_t *)values, leaf->present);
}

static bool is_integer(const struct parquet_leaf *leaf) {
    return leaf->store == PARQUET_STORE_I32 || leaf->store == PARQUET_STORE_I64;
}

bool parquet_leaf_dictionary_pays(const struct weir_parquet_writer *writer,
                                  struct parquet_leaf *leaf) {
    size_t n = (size_t)leaf->present;
    size_t arena = leaf->dictionary.arena.size;
    if (leaf->rows >= writer->options.page_rows) {
        arena /= 4; /* a full page: more are likely to come and share it */
    }
    size_t cost =
        arena + DICTIONARY_COST + n * (size_t)parquet_dictionary_bits(&leaf->dictionary) / 8;
    size_t plain;
    if (leaf->store == PARQUET_STORE_BYTES) {
        plain = (size_t)leaf->logical_bytes + n;
    } else {
        plain = n * (size_t)leaf->width;
        if (is_integer(leaf) && !writer->options.compat) {
            size_t delta = delta_estimate(leaf);
            plain = delta < plain ? delta : plain;
        } else if (leaf->store != PARQUET_STORE_FIXED) {
            plain = plain / 4 * 3; /* plain doubles still compress, codes hardly do */
        }
    }
    return cost < plain;
}

/* Codes all staged fixed values; false when they outgrow the dictionary. */
static int code_fixed(struct parquet_leaf *leaf, int64_t n, bool *fits, struct weir_error *err) {
    if (weir_buffer_reserve(&leaf->codes, ((size_t)leaf->present + 8) * sizeof(uint32_t)) !=
        WEIR_OK) {
        return no_memory(leaf, err);
    }
    int64_t have = (int64_t)(leaf->codes.size / sizeof(uint32_t));
    int64_t done = parquet_dictionary_add_fixed(
        &leaf->dictionary, leaf->values.data + leaf->headroom + have * leaf->width, n - have,
        (uint32_t *)leaf->codes.data + have);
    if (done < 0) {
        return no_memory(leaf, err);
    }
    leaf->codes.size += (size_t)done * sizeof(uint32_t);
    *fits = done == n - have;
    return WEIR_OK;
}

static int decide_fixed(struct weir_parquet_writer *writer, struct parquet_leaf *leaf,
                        struct weir_error *err) {
    int64_t trial = leaf->present < TRIAL_VALUES ? leaf->present : TRIAL_VALUES;
    bool good = trial > 0;
    if (good && is_integer(leaf) && !writer->options.compat) {
        /* sequences: a fraction of a bit a value, which no dictionary reaches */
        good = delta_estimate(leaf) > (size_t)leaf->present / 8 + DICTIONARY_COST;
    }
    int rc = WEIR_OK;
    if (good) {
        rc = code_fixed(leaf, trial, &good, err);
        good = good && (trial < TRIAL_VALUES || !parquet_leaf_mostly_new(leaf, trial));
    }
    if (rc == WEIR_OK && good) {
        rc = code_fixed(leaf, leaf->present, &good, err);
        good = good && parquet_leaf_dictionary_pays(writer, leaf);
    }
    if (rc == WEIR_OK && good) {
        leaf->mode = PARQUET_MODE_DICTIONARY;
        return WEIR_OK;
    }
    return rc == WEIR_OK ? parquet_leaf_leave_dictionary(writer, leaf, err) : rc;
}

int parquet_leaf_leave_dictionary(struct weir_parquet_writer *writer, struct parquet_leaf *leaf,
                                  struct weir_error *err) {
    (void)writer;
    leaf->mode = PARQUET_MODE_VALUES;
    if (leaf->store == PARQUET_STORE_BYTES) {
        const uint32_t *codes = (const uint32_t *)leaf->codes.data;
        size_t n = leaf->codes.size / sizeof(uint32_t);
        if (weir_buffer_reserve(&leaf->lengths, n * sizeof(int32_t)) != WEIR_OK ||
            weir_buffer_reserve(&leaf->values, (size_t)leaf->logical_bytes + PARQUET_SLACK) !=
                WEIR_OK) {
            return no_memory(leaf, err);
        }
        int32_t *lengths = (int32_t *)leaf->lengths.data;
        uint8_t *to = leaf->values.data + leaf->values.size;
        for (size_t i = 0; i < n; i++) {
            uint32_t size;
            const uint8_t *bytes = parquet_dictionary_get(&leaf->dictionary, codes[i], &size);
            memcpy(to, bytes, size);
            to += size;
            lengths[i] = (int32_t)size;
        }
        leaf->lengths.size = n * sizeof(int32_t);
        leaf->values.size += (size_t)leaf->logical_bytes;
    }
    weir_buffer_clear(&leaf->codes);
    leaf->logical_bytes = 0;
    if (!has_dictionary_pages(leaf)) {
        parquet_dictionary_clear(&leaf->dictionary);
    }
    return WEIR_OK;
}

/* --- compression and headers -------------------------------------------------------------- */

/* Once a chunk: does hasty compression find more in this column? `scratch` holds a compressed page.
 */
static int try_search(struct weir_parquet_writer *writer, struct parquet_leaf *leaf,
                      const uint8_t *raw, size_t size, uint8_t *scratch) {
    if (leaf->search_tried || size < SEARCH_MIN ||
        !parquet_compress_can_hurry(writer->compressor)) {
        return WEIR_OK;
    }
    size_t careful;
    size_t hasty;
    const uint8_t *sample = raw + (size - SEARCH_SAMPLE) / 2;
    parquet_compress_hastily(writer->compressor, false);
    int rc = parquet_compress(writer->compressor, sample, SEARCH_SAMPLE, scratch, &careful);
    if (rc == WEIR_OK) {
        parquet_compress_hastily(writer->compressor, true);
        rc = parquet_compress(writer->compressor, sample, SEARCH_SAMPLE, scratch, &hasty);
    }
    leaf->search_tried = true;
    leaf->hasty = rc == WEIR_OK && hasty < careful - careful / 64;
    return rc;
}

/* Compresses raw bytes into the leaf's held buffer behind a header. Dictionary pages pass
 * encoding PARQUET_PLAIN and is_dictionary. */
static int hold_page(struct weir_parquet_writer *writer, struct parquet_leaf *leaf,
                     const uint8_t *raw, size_t size, bool is_dictionary, int64_t values,
                     enum parquet_encoding encoding, struct parquet_held_page *page,
                     struct weir_error *err) {
    enum weir_parquet_codec codec = writer->options.codec;
    if (size > INT32_MAX) {
        return parquet_leaf_error(leaf, WEIR_E_LIMIT, err, "a page passes 2 GiB");
    }
    size_t bound = parquet_compress_bound(codec, size) + HEADER_MAX;
    if (weir_buffer_reserve(&leaf->held, bound) != WEIR_OK) {
        return no_memory(leaf, err);
    }
    uint8_t *payload = leaf->held.data + leaf->held.size + HEADER_MAX;
    size_t packed;
    if (leaf->store_pages > 0 && !is_dictionary) {
        leaf->store_pages--;
        packed = parquet_store(codec, raw, size, payload);
    } else {
        int rc = is_dictionary ? WEIR_OK : try_search(writer, leaf, raw, size, payload);
        parquet_compress_hastily(writer->compressor, leaf->hasty && !is_dictionary);
        rc = rc == WEIR_OK ? parquet_compress(writer->compressor, raw, size, payload, &packed) : rc;
        if (rc != WEIR_OK) {
            return parquet_leaf_error(leaf, rc, err, "compression failed");
        }
        if (!is_dictionary && size >= STORE_MIN && packed > size / 10 * 9) {
            leaf->store_pages = STORE_PAGES;
        }
    }
    struct thrift_writer thrift;
    weir_buffer_clear(&writer->header);
    thrift_writer_init(&thrift, &writer->header);
    thrift_write_i32(&thrift, 1, is_dictionary ? PARQUET_PAGE_DICTIONARY : PARQUET_PAGE_DATA);
    thrift_write_i32(&thrift, 2, (int32_t)size);
    thrift_write_i32(&thrift, 3, (int32_t)packed);
    if (writer->options.page_crc) {
        thrift_write_i32(&thrift, 4, (int32_t)crc32_z(0, payload, packed));
    }
    thrift_struct_begin(&thrift, is_dictionary ? 7 : 5);
    thrift_write_i32(&thrift, 1, (int32_t)values);
    thrift_write_i32(&thrift, 2, (int32_t)encoding);
    if (!is_dictionary) {
        thrift_write_i32(&thrift, 3, PARQUET_RLE);
        thrift_write_i32(&thrift, 4, PARQUET_RLE);
    }
    thrift_struct_end(&thrift);
    thrift_struct_end(&thrift);
    if (thrift.rc != WEIR_OK || writer->header.size > HEADER_MAX) {
        return no_memory(leaf, err);
    }
    memcpy(payload - writer->header.size, writer->header.data, writer->header.size);
    page->offset = leaf->held.size + HEADER_MAX - writer->header.size;
    page->size = writer->header.size + packed;
    leaf->held.size += HEADER_MAX + packed;
    leaf->uncompressed_bytes += (int64_t)(writer->header.size + size);
    leaf->compressed_bytes += (int64_t)page->size;
    writer->held_bytes += (int64_t)page->size;
    return WEIR_OK;
}

int parquet_leaf_dictionary_page(struct weir_parquet_writer *writer, struct parquet_leaf *leaf,
                                 struct parquet_held_page *page, struct weir_error *err) {
    return hold_page(writer, leaf, leaf->dictionary.arena.data, leaf->dictionary.arena.size, true,
                     leaf->dictionary.count, PARQUET_PLAIN, page, err);
}

/* --- pages ------------------------------------------------------------------------------- */

static uint8_t *put_levels(uint8_t *to, const uint8_t *levels, int64_t n, uint8_t maximum) {
    int width = 32 - __builtin_clz(maximum);
    uint8_t *start = to + sizeof(uint32_t);
    uint8_t *end = parquet_rle_encode_u8(levels, n, width, start);
    uint32_t size = (uint32_t)(end - start);
    memcpy(to, &size, sizeof(size));
    return end;
}

/* All values present: one run, whatever the count. */
static uint8_t *put_full_levels(uint8_t *to, int64_t n, uint8_t maximum) {
    uint8_t *at = to + sizeof(uint32_t);
    uint64_t head = (uint64_t)n << 1;
    while (head >= 128) {
        *at++ = (uint8_t)(head | 128);
        head >>= 7;
    }
    *at++ = (uint8_t)head;
    *at++ = maximum;
    uint32_t size = (uint32_t)(at - to - sizeof(uint32_t));
    memcpy(to, &size, sizeof(size));
    return at;
}

static size_t head_bound(const struct parquet_leaf *leaf) {
    return 2 * parquet_rle_bound(leaf->entries, 8) + 2 * PARQUET_SLACK;
}

static uint8_t *put_head(const struct parquet_leaf *leaf, uint8_t *to) {
    if (leaf->max_repetition > 0) {
        to = put_levels(to, leaf->repetition.data, leaf->entries, leaf->max_repetition);
    }
    if (leaf->max_definition > 0) {
        to = leaf->levels_staged
                 ? put_levels(to, leaf->definition.data, leaf->entries, leaf->max_definition)
                 : put_full_levels(to, leaf->entries, leaf->max_definition);
    }
    return to;
}

/* Eight staged 0/1 bytes become one byte of bits by one multiplication. */
static uint8_t *put_bools(uint8_t *to, const uint8_t *values, int64_t n) {
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t word;
        memcpy(&word, values + i, sizeof(word));
        *to++ = (uint8_t)(word * 0x0102040810204080u >> 56);
    }
    if (i < n) {
        uint8_t byte = 0;
        for (int64_t j = i; j < n; j++) {
            byte |= (uint8_t)(values[j] << (j - i));
        }
        *to++ = byte;
    }
    return to;
}

static uint8_t *put_plain_bytes(uint8_t *to, const uint8_t *bytes, const int32_t *lengths,
                                int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        memcpy(to, &lengths[i], sizeof(lengths[i]));
        memcpy(to + sizeof(lengths[i]), bytes, (size_t)lengths[i]);
        to += sizeof(lengths[i]) + (size_t)lengths[i];
        bytes += lengths[i];
    }
    return to;
}

/* Bytes in which two values agree from the start. */
static inline int32_t common_prefix(const uint8_t *a, const uint8_t *b, int32_t limit) {
    int32_t at = 0;
    for (; at + 8 <= limit; at += 8) {
        uint64_t x;
        uint64_t y;
        memcpy(&x, a + at, sizeof(x));
        memcpy(&y, b + at, sizeof(y));
        if (x != y) {
            return at + (__builtin_ctzll(x ^ y) >> 3);
        }
    }
    while (at < limit && a[at] == b[at]) {
        at++;
    }
    return at;
}

/* Neighbours share a quarter of their bytes, as ids, paths and counters in text do: what the
 * encoding leaves out the codec need not search, and cannot leave out as well. */
static bool prefixes_pay(const struct parquet_leaf *leaf) {
    const int32_t *lengths = (const int32_t *)leaf->lengths.data;
    const uint8_t *bytes = leaf->values.data + leaf->headroom;
    int64_t n = leaf->present < PREFIX_SAMPLE ? leaf->present : PREFIX_SAMPLE;
    int64_t total = 0;
    int64_t shared = 0;
    for (int64_t i = 1; i < n; i++) {
        int32_t limit = lengths[i] < lengths[i - 1] ? lengths[i] : lengths[i - 1];
        shared += common_prefix(bytes, bytes + lengths[i - 1], limit);
        total += lengths[i];
        bytes += lengths[i - 1];
    }
    return shared * 4 > total;
}

/* DELTA_BYTE_ARRAY: prefix lengths, suffix lengths, suffixes. Takes the place of the staged
 * lengths. */
static uint8_t *put_prefixed(struct parquet_leaf *leaf, uint8_t *to) {
    int64_t n = leaf->present;
    int32_t *lengths = (int32_t *)leaf->lengths.data;
    int32_t *prefixes = (int32_t *)leaf->codes.data;
    const uint8_t *start = leaf->values.data + leaf->headroom;
    const uint8_t *last = start;
    const uint8_t *bytes = start;
    int32_t last_length = 0;
    for (int64_t i = 0; i < n; i++) {
        int32_t length = lengths[i];
        int32_t limit = length < last_length ? length : last_length;
        prefixes[i] = common_prefix(last, bytes, limit);
        lengths[i] = length - prefixes[i];
        last = bytes;
        last_length = length;
        bytes += length;
    }
    to = parquet_delta_encode_i32(prefixes, n, to);
    to = parquet_delta_encode_i32(lengths, n, to);
    const uint8_t *from = start;
    for (int64_t i = 0; i < n; i++) {
        from += prefixes[i];
        if (lengths[i] <= PARQUET_SLACK / 2) { /* both ends have that much room */
            memcpy(to, from, PARQUET_SLACK / 2);
        } else {
            memcpy(to, from, (size_t)lengths[i]);
        }
        from += lengths[i];
        to += lengths[i];
    }
    return to;
}

static enum parquet_encoding choose_encoding(const struct weir_parquet_writer *writer,
                                             const struct parquet_leaf *leaf) {
    if (leaf->mode == PARQUET_MODE_DICTIONARY) {
        return PARQUET_RLE_DICTIONARY;
    }
    if (writer->options.compat) {
        return PARQUET_PLAIN;
    }
    if (leaf->store == PARQUET_STORE_BYTES) {
        return prefixes_pay(leaf) ? PARQUET_DELTA_BYTE_ARRAY : PARQUET_DELTA_LENGTH_BYTE_ARRAY;
    }
    if (is_integer(leaf) && delta_estimate(leaf) < (size_t)leaf->present * (size_t)leaf->width) {
        return PARQUET_DELTA_BINARY_PACKED;
    }
    return PARQUET_PLAIN;
}

static int add_statistics(struct parquet_leaf *leaf) {
    parquet_statistics_clear(&leaf->page);
    leaf->page.value_count = leaf->entries;
    leaf->page.null_count = leaf->entries - leaf->present;
    const uint8_t *values = leaf->values.data + leaf->headroom;
    int rc = WEIR_OK;
    if (leaf->mode == PARQUET_MODE_DICTIONARY) {
        rc = WEIR_OK; /* bounds from the dictionary, once a chunk */
    } else if (leaf->store == PARQUET_STORE_BYTES) {
        rc = parquet_statistics_add_bytes(&leaf->page, values, (const int32_t *)leaf->lengths.data,
                                          leaf->present);
    } else {
        parquet_statistics_add_fixed(&leaf->page, leaf->store, leaf->width, values, leaf->present);
    }
    return rc == WEIR_OK ? parquet_statistics_merge(&leaf->chunk, leaf->store, &leaf->page) : rc;
}

/* Puts the page's bytes together; *raw lies in the scratch buffer or in the staging itself. */
static int encode_page(struct weir_parquet_writer *writer, struct parquet_leaf *leaf,
                       enum parquet_encoding encoding, uint8_t **raw, size_t *raw_size,
                       struct weir_error *err) {
    struct weir_buffer *scratch = &writer->scratch;
    int64_t n = leaf->present;
    size_t values_size = leaf->values.size - leaf->headroom;
    int bits = parquet_dictionary_bits(&leaf->dictionary);
    size_t bound = head_bound(leaf) + parquet_delta_bound(n, 8) + parquet_rle_bound(n, bits) +
                   values_size + (size_t)n * sizeof(uint32_t) + 2 * PARQUET_SLACK;
    if (encoding == PARQUET_DELTA_BYTE_ARRAY) {
        bound += 2 * parquet_delta_bound(n, 4);
    }
    weir_buffer_clear(scratch);
    if (weir_buffer_reserve(scratch, bound) != WEIR_OK ||
        (encoding == PARQUET_DELTA_BYTE_ARRAY &&
         weir_buffer_reserve(&leaf->codes, (size_t)n * sizeof(int32_t)) != WEIR_OK)) {
        return no_memory(leaf, err);
    }
    uint8_t *values = leaf->values.data + leaf->headroom;
    uint8_t *to = put_head(leaf, scratch->data);
    bool values_follow = false; /* the staged bytes, as they are, end the page */
    switch (encoding) {
    case PARQUET_RLE_DICTIONARY:
        *to++ = (uint8_t)bits;
        to = parquet_rle_encode_u32((const uint32_t *)leaf->codes.data, n, bits, to);
        break;
    case PARQUET_DELTA_BINARY_PACKED:
        to = leaf->store == PARQUET_STORE_I32
                 ? parquet_delta_encode_i32((const int32_t *)values, n, to)
                 : parquet_delta_encode_i64((const int64_t *)values, n, to);
        break;
    case PARQUET_DELTA_LENGTH_BYTE_ARRAY:
        to = parquet_delta_encode_i32((const int32_t *)leaf->lengths.data, n, to);
        values_follow = true;
        break;
    case PARQUET_DELTA_BYTE_ARRAY:
        to = put_prefixed(leaf, to); /* keeps its prefix lengths where codes were */
        break;
    default:
        if (leaf->store == PARQUET_STORE_BOOL) {
            to = put_bools(to, values, n);
        } else if (leaf->store == PARQUET_STORE_BYTES) {
            to = put_plain_bytes(to, values, (const int32_t *)leaf->lengths.data, n);
        } else {
            values_follow = true;
        }
        break;
    }
    size_t head = (size_t)(to - scratch->data);
    if (values_follow && head <= leaf->headroom) {
        memcpy(values - head, scratch->data, head);
        *raw = values - head;
        *raw_size = head + values_size;
        return WEIR_OK;
    }
    if (values_follow) {
        memcpy(to, values, values_size);
        head += values_size;
    }
    *raw = scratch->data;
    *raw_size = head;
    return WEIR_OK;
}

int parquet_leaf_flush(struct weir_parquet_writer *writer, struct parquet_leaf *leaf,
                       struct weir_error *err) {
    if (leaf->entries == 0) {
        return WEIR_OK;
    }
    int rc = WEIR_OK;
    if (leaf->mode == PARQUET_MODE_UNDECIDED) {
        if (leaf->store != PARQUET_STORE_BYTES) {
            rc = decide_fixed(writer, leaf, err);
        } else if (parquet_leaf_dictionary_pays(writer, leaf)) {
            leaf->mode = PARQUET_MODE_DICTIONARY;
        } else {
            rc = parquet_leaf_leave_dictionary(writer, leaf, err);
        }
    } else if (leaf->mode == PARQUET_MODE_DICTIONARY && leaf->store != PARQUET_STORE_BYTES) {
        bool fits = true;
        rc = code_fixed(leaf, leaf->present, &fits, err);
        if (rc == WEIR_OK && !fits) {
            rc = parquet_leaf_leave_dictionary(writer, leaf, err);
        }
    }
    if (rc == WEIR_OK && add_statistics(leaf) != WEIR_OK) {
        rc = no_memory(leaf, err);
    }
    enum parquet_encoding encoding = choose_encoding(writer, leaf);
    uint8_t *raw = NULL;
    size_t size = 0;
    if (rc == WEIR_OK) {
        rc = encode_page(writer, leaf, encoding, &raw, &size, err);
    }
    struct parquet_held_page page;
    if (rc == WEIR_OK) {
        rc = hold_page(writer, leaf, raw, size, false, leaf->entries, encoding, &page, err);
    }
    if (rc == WEIR_OK && (parquet_index_page(writer, leaf, &page) != WEIR_OK ||
                          weir_buffer_append(&leaf->pages, &page, sizeof(page)) != WEIR_OK)) {
        rc = no_memory(leaf, err);
    }
    if (rc == WEIR_OK) {
        leaf->encodings |= 1u << encoding;
        leaf->data_pages[encoding]++;
        parquet_leaf_clear_page(leaf);
    }
    return rc;
}
