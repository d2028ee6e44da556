/* One leaf column of a row group: pages in, levels and batch values out. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "lake/parquet/file.h"

enum {
    HEADER_GUESS = 4096,
    WINDOW_MIN = 1 << 18,
    CHUNK_SLOP = 100, /* old parquet-mr left the dictionary header out of a chunk's size */
};

int parquet_corrupt(const struct parquet_column *column, struct weir_error *err, const char *what) {
    return weir_error_set(err, WEIR_E_CORRUPT, "parquet column %s, row group %d: %s",
                          column->node->name, column->reader->group, what);
}

static int over_limit(const struct parquet_column *column, struct weir_error *err) {
    return weir_error_set(err, WEIR_E_LIMIT,
                          "parquet column %s, row group %d: passes the reader's memory limit; "
                          "raise it or read fewer rows at a time",
                          column->node->name, column->reader->group);
}

void parquet_column_init(struct parquet_column *column, struct weir_parquet_reader *reader,
                         const struct parquet_slot *slot) {
    size_t limit = reader->options.memory_bytes;
    memset(column, 0, sizeof(*column));
    column->reader = reader;
    column->slot = slot;
    column->node = &reader->nodes[slot->node];
    struct parquet_values *values = &column->values;
    values->physical = column->node->physical;
    static const int32_t widths[] = {1, 4, 8, 12, 4, 8, 0, 0};
    values->width = values->physical == PARQUET_FIXED ? column->node->type_length
                                                      : widths[(int)values->physical];
    struct weir_buffer *buffers[] = {
        &column->window,
        &column->page,
        &column->dictionary_page,
        &column->dictionary_slices,
        &column->dictionary_shorts,
        &values->previous,
        &values->scratch,
        &column->out_definition,
        &column->out_repetition,
        &column->out_values,
        &column->out_offsets,
        &column->out_validity,
    };
    for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++) {
        weir_buffer_init(buffers[i], limit);
    }
}

void parquet_column_fini(struct parquet_column *column) {
    weir_buffer_fini(&column->window);
    weir_buffer_fini(&column->page);
    weir_buffer_fini(&column->dictionary_page);
    weir_buffer_fini(&column->dictionary_slices);
    weir_buffer_fini(&column->dictionary_shorts);
    weir_buffer_fini(&column->values.previous);
    weir_buffer_fini(&column->values.scratch);
    weir_buffer_fini(&column->out_definition);
    weir_buffer_fini(&column->out_repetition);
    weir_buffer_fini(&column->out_values);
    weir_buffer_fini(&column->out_offsets);
    weir_buffer_fini(&column->out_validity);
}

int parquet_column_seek(struct parquet_column *column, int32_t group, struct weir_error *err) {
    const struct weir_parquet_reader *reader = column->reader;
    const struct parquet_chunk *chunk = &reader->groups[group].chunks[column->slot->leaf];
    column->chunk = chunk;
    column->page_left = 0;
    column->ahead_at = 0;
    column->ahead_count = 0;
    column->values_left = chunk->values;
    column->values.dictionary_count = -1;
    if (chunk->codec == -1) {
        return weir_error_set(err, WEIR_E_UNSUPPORTED, "parquet column %s is encrypted",
                              column->node->name);
    }
    const char *name = parquet_codec_name(chunk->codec);
    if (name == NULL) {
        return parquet_corrupt(column, err, "unknown compression codec");
    }
    if (!parquet_codec_supported(chunk->codec)) {
        return weir_error_set(err, WEIR_E_UNSUPPORTED,
                              "parquet column %s is compressed with %s, which is not supported; "
                              "rewrite the file with zstd or snappy",
                              column->node->name, name);
    }
    int64_t start = chunk->data_offset;
    if (chunk->dictionary_offset > 0 && chunk->dictionary_offset < start) {
        start = chunk->dictionary_offset;
    }
    if (chunk->physical != column->node->physical || chunk->values < 0 || start < 4 ||
        chunk->compressed_bytes < 0 || (uint64_t)start > reader->data_end) {
        return parquet_corrupt(column, err, "column chunk metadata");
    }
    column->offset = (uint64_t)start;
    uint64_t left = reader->data_end - column->offset;
    uint64_t size = (uint64_t)chunk->compressed_bytes + CHUNK_SLOP;
    column->end = column->offset + (size < left ? size : left);
    return WEIR_OK;
}

/* --- bytes ------------------------------------------------------------------------------- */

/* `size` bytes at column->offset, which the caller knows to lie inside the chunk. */
static int view(struct parquet_column *column, size_t size, const uint8_t **bytes,
                struct weir_error *err) {
    struct weir_parquet_reader *reader = column->reader;
    if (reader->memory != NULL) {
        *bytes = reader->memory + column->offset;
        return WEIR_OK;
    }
    struct weir_buffer *window = &column->window;
    if (column->offset < column->window_offset ||
        column->offset + size > column->window_offset + window->size) {
        size_t want = size < WINDOW_MIN ? WINDOW_MIN : size;
        uint64_t left = column->end - column->offset;
        want = want < left ? want : (size_t)left;
        weir_buffer_clear(window);
        if (weir_buffer_reserve(window, want) != WEIR_OK) {
            return over_limit(column, err);
        }
        int rc = reader->read(reader->read_ctx, column->offset, window->data, want, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        window->size = want;
        column->window_offset = column->offset;
    }
    static const uint8_t nothing[1]; /* an empty page before anything was read */
    *bytes =
        window->data == NULL ? nothing : window->data + (column->offset - column->window_offset);
    return WEIR_OK;
}

static int read_header(struct parquet_column *column, struct parquet_page_header *header,
                       struct weir_error *err) {
    uint64_t left = column->end - column->offset;
    for (uint64_t guess = HEADER_GUESS;; guess *= 8) {
        size_t size = (size_t)(guess < left ? guess : left);
        const uint8_t *bytes = NULL;
        int rc = view(column, size, &bytes, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        rc = parquet_read_page_header(bytes, size, header);
        if (rc == WEIR_E_LIMIT && guess < left) {
            continue;
        }
        if (rc != WEIR_OK || (uint64_t)header->compressed_size > left - header->header_bytes) {
            return parquet_corrupt(column, err, "page header");
        }
        column->offset += header->header_bytes;
        return WEIR_OK;
    }
}

/* Decompresses into `to` (or points at the bytes when there is nothing to do and `to` is not
 * needed to keep them). */
static int unpack(struct parquet_column *column, const uint8_t *bytes, size_t size,
                  size_t unpacked_size, bool compressed, bool keep, struct weir_buffer *to,
                  const uint8_t **out, struct weir_error *err) {
    if (unpacked_size == 0) {
        *out = bytes;
        return WEIR_OK;
    }
    int32_t codec = compressed ? column->chunk->codec : WEIR_PARQUET_NONE;
    if (codec == WEIR_PARQUET_NONE && !keep) {
        *out = bytes;
        return size == unpacked_size ? WEIR_OK : parquet_corrupt(column, err, "page size");
    }
    weir_buffer_clear(to);
    if (weir_buffer_reserve(to, unpacked_size + PARQUET_SLACK) != WEIR_OK) {
        return over_limit(column, err);
    }
    if (parquet_decompress(column->reader->decompressor, codec, bytes, size, to->data,
                           unpacked_size) != WEIR_OK) {
        return parquet_corrupt(column, err, "a page does not decompress to its size");
    }
    to->size = unpacked_size;
    *out = to->data;
    return WEIR_OK;
}

/* --- pages ------------------------------------------------------------------------------- */

static int load_dictionary(struct parquet_column *column, const struct parquet_page_header *header,
                           const uint8_t *bytes, struct weir_error *err) {
    struct parquet_values *values = &column->values;
    if (values->dictionary_count >= 0 ||
        (header->encoding != PARQUET_PLAIN && header->encoding != PARQUET_PLAIN_DICTIONARY)) {
        return parquet_corrupt(column, err, "dictionary page");
    }
    const uint8_t *plain;
    size_t size = (size_t)header->uncompressed_size;
    int rc = unpack(column, bytes, (size_t)header->compressed_size, size, true, true,
                    &column->dictionary_page, &plain, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    size_t count = (size_t)header->values;
    if (!parquet_values_sliced(values->physical)) {
        if (values->physical == PARQUET_BOOLEAN || count * (size_t)values->width > size) {
            return parquet_corrupt(column, err, "dictionary size");
        }
        values->dictionary = plain;
        values->dictionary_count = header->values;
        return WEIR_OK;
    }
    size_t least = values->physical == PARQUET_BYTE_ARRAY ? 4 : (size_t)values->width;
    if (count * least > size) {
        return parquet_corrupt(column, err, "dictionary size");
    }
    weir_buffer_clear(&column->dictionary_slices);
    if (weir_buffer_reserve(&column->dictionary_slices,
                            (count + 1) * sizeof(struct parquet_slice)) != WEIR_OK) {
        return over_limit(column, err);
    }
    struct parquet_slice *slices = (struct parquet_slice *)column->dictionary_slices.data;
    rc = parquet_values_begin(values, PARQUET_PLAIN, plain, size);
    for (size_t i = 0; i < count && rc == WEIR_OK; i += PARQUET_BLOCK) {
        size_t n = count - i < PARQUET_BLOCK ? count - i : PARQUET_BLOCK;
        rc = parquet_values_next(values, (int32_t)n, NULL, slices + i);
    }
    if (rc != WEIR_OK) {
        return parquet_corrupt(column, err, "dictionary values");
    }
    values->dictionary_slices = slices;
    values->dictionary_shorts = parquet_text_shorten(&column->dictionary_shorts, slices, count);
    values->dictionary_end = plain + size + PARQUET_SLACK;
    values->dictionary_count = header->values;
    return WEIR_OK;
}

static int level_width(uint8_t maximum) {
    return maximum == 0 ? 0 : 32 - __builtin_clz(maximum);
}

/* Levels at the head of a V1 page; advances *bytes. */
static bool begin_levels(struct parquet_rle *rle, uint8_t maximum, int32_t encoding, int32_t values,
                         const uint8_t **bytes, size_t *size) {
    int width = level_width(maximum);
    parquet_rle_init(rle, *bytes, 0, width);
    if (maximum == 0) {
        return true;
    }
    size_t length;
    size_t head = 0;
    if (encoding == PARQUET_BIT_PACKED) {
        length = ((size_t)values * (size_t)width + 7) / 8;
    } else {
        if (encoding != PARQUET_RLE || *size < 4) {
            return false;
        }
        uint32_t prefix;
        memcpy(&prefix, *bytes, sizeof(prefix));
        length = prefix;
        head = 4;
    }
    if (length > *size - head) {
        return false;
    }
    parquet_rle_init(rle, *bytes + head, length, width);
    rle->old_bit_packed = encoding == PARQUET_BIT_PACKED;
    *bytes += head + length;
    *size -= head + length;
    return true;
}

static int begin_values(struct parquet_column *column, const struct parquet_page_header *header,
                        const uint8_t *bytes, size_t size, struct weir_error *err) {
    int rc = parquet_values_begin(&column->values, header->encoding, bytes, size);
    if (rc == WEIR_E_UNSUPPORTED) {
        return weir_error_set(err, WEIR_E_UNSUPPORTED,
                              "parquet column %s: encoding %d is not supported", column->node->name,
                              header->encoding);
    }
    if (rc != WEIR_OK) {
        return parquet_corrupt(column, err, "page values do not fit their encoding");
    }
    column->page_left = header->values;
    column->values_left -= header->values;
    return WEIR_OK;
}

static int load_data(struct parquet_column *column, const struct parquet_page_header *header,
                     const uint8_t *bytes, struct weir_error *err) {
    const uint8_t *plain;
    size_t size = (size_t)header->uncompressed_size;
    int rc = unpack(column, bytes, (size_t)header->compressed_size, size, true, false,
                    &column->page, &plain, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    const struct weir_parquet_node *node = column->node;
    if (!begin_levels(&column->repetition, node->repetition_level, header->repetition_encoding,
                      header->values, &plain, &size) ||
        !begin_levels(&column->definition, node->definition, header->definition_encoding,
                      header->values, &plain, &size)) {
        return parquet_corrupt(column, err, "page levels");
    }
    return begin_values(column, header, plain, size, err);
}

static int load_data_v2(struct parquet_column *column, const struct parquet_page_header *header,
                        const uint8_t *bytes, struct weir_error *err) {
    const struct weir_parquet_node *node = column->node;
    int64_t levels = (int64_t)header->repetition_bytes + header->definition_bytes;
    if (header->repetition_bytes < 0 || header->definition_bytes < 0 ||
        levels > header->compressed_size || levels > header->uncompressed_size) {
        return parquet_corrupt(column, err, "page levels");
    }
    parquet_rle_init(&column->repetition, bytes, (size_t)header->repetition_bytes,
                     level_width(node->repetition_level));
    parquet_rle_init(&column->definition, bytes + header->repetition_bytes,
                     (size_t)header->definition_bytes, level_width(node->definition));
    const uint8_t *plain;
    size_t size = (size_t)(header->uncompressed_size - levels);
    int rc = unpack(column, bytes + levels, (size_t)(header->compressed_size - levels), size,
                    header->compressed, false, &column->page, &plain, err);
    return rc != WEIR_OK ? rc : begin_values(column, header, plain, size, err);
}

int parquet_column_load_page(struct parquet_column *column, struct weir_error *err) {
    while (column->page_left == 0) {
        if (column->values_left <= 0) {
            return parquet_corrupt(column, err, "fewer values than rows");
        }
        struct parquet_page_header header;
        int rc = read_header(column, &header, err);
        const uint8_t *bytes = NULL;
        if (rc == WEIR_OK) {
            rc = view(column, (size_t)header.compressed_size, &bytes, err);
        }
        if (rc != WEIR_OK) {
            return rc;
        }
        if (header.has_crc && !column->reader->options.ignore_crc &&
            header.crc != (uint32_t)crc32_z(0, bytes, (size_t)header.compressed_size)) {
            return parquet_corrupt(column, err, "page checksum");
        }
        switch (header.type) {
        case PARQUET_PAGE_DATA:
            rc = load_data(column, &header, bytes, err);
            break;
        case PARQUET_PAGE_DATA_V2:
            rc = load_data_v2(column, &header, bytes, err);
            break;
        case PARQUET_PAGE_DICTIONARY:
            rc = load_dictionary(column, &header, bytes, err);
            break;
        default: /* index pages and kinds to come are skipped, as the format asks */
            break;
        }
        if (rc != WEIR_OK) {
            return rc;
        }
        column->offset += (uint64_t)header.compressed_size;
    }
    return WEIR_OK;
}

int parquet_column_skip_pages(struct parquet_column *column, int64_t *rows,
                              struct weir_error *err) {
    while (column->page_left == 0 && *rows > 0 && column->values_left > 0) {
        struct parquet_page_header header;
        uint64_t start = column->offset;
        int rc = read_header(column, &header, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        bool is_data = header.type == PARQUET_PAGE_DATA || header.type == PARQUET_PAGE_DATA_V2;
        if (!is_data || header.values > *rows) {
            column->offset = start; /* to be opened after all */
            return is_data ? WEIR_OK : parquet_column_load_page(column, err);
        }
        column->offset += (uint64_t)header.compressed_size;
        column->values_left -= header.values;
        *rows -= header.values;
    }
    return WEIR_OK;
}

/* --- values ------------------------------------------------------------------------------ */

static float half_to_float(uint16_t half) {
    int exponent = half >> 10 & 31;
    int fraction = half & 1023;
    float value;
    if (exponent == 31) {
        value = fraction != 0 ? NAN : INFINITY;
    } else if (exponent == 0) {
        value = ldexpf((float)fraction, -24);
    } else {
        value = ldexpf((float)(fraction + 1024), exponent - 25);
    }
    return half >> 15 ? -value : value;
}

#define CONVERT(from_type, to_type, expression)                                                    \
    for (int32_t i = 0; i < n; i++) {                                                              \
        from_type value;                                                                           \
        memcpy(&value, fixed + (size_t)i * sizeof(value), sizeof(value));                          \
        to_type result = (to_type)(expression);                                                    \
        memcpy(to + (size_t)i * sizeof(result), &result, sizeof(result));                          \
    }

/* n dense physical numbers to batch form. False: a value out of the batch type's range. */
static bool convert_fixed(enum parquet_convert convert, const uint8_t *fixed, int32_t n,
                          uint8_t *to) {
    bool good = true;
    switch (convert) {
    case PARQUET_CONVERT_BOOL:
        memcpy(to, fixed, (size_t)n);
        break;
    case PARQUET_CONVERT_I8:
        CONVERT(int32_t, int8_t, value);
        break;
    case PARQUET_CONVERT_I16:
        CONVERT(int32_t, int16_t, value);
        break;
    case PARQUET_CONVERT_U8:
        CONVERT(uint32_t, int16_t, value & 255);
        break;
    case PARQUET_CONVERT_U16:
        CONVERT(uint32_t, int32_t, value & 65535);
        break;
    case PARQUET_CONVERT_U32:
        CONVERT(uint32_t, int64_t, value);
        break;
    case PARQUET_CONVERT_U64:
        CONVERT(uint64_t, __int128, value);
        break;
    case PARQUET_CONVERT_DECIMAL32:
        CONVERT(int32_t, __int128, value);
        break;
    case PARQUET_CONVERT_DECIMAL64:
        CONVERT(int64_t, __int128, value);
        break;
    case PARQUET_CONVERT_SAME32:
        memcpy(to, fixed, (size_t)n * 4);
        break;
    case PARQUET_CONVERT_SAME64:
        memcpy(to, fixed, (size_t)n * 8);
        break;
    default: /* milliseconds */
        for (int32_t i = 0; i < n; i++) {
            int64_t value;
            memcpy(&value, fixed + (size_t)i * 8, sizeof(value));
            good = good && !__builtin_mul_overflow(value, (int64_t)1000, &value);
            memcpy(to + (size_t)i * 8, &value, sizeof(value));
        }
        break;
    }
    return good;
}

/* INT96: nanoseconds of the day, then the Julian day. Wraps as Spark does, which writes days past
 * 32 bits for far timestamps and gets them back by wrapping again. */
static int64_t convert_int96(const uint8_t *bytes) {
    int64_t nanos;
    int32_t day;
    memcpy(&nanos, bytes, sizeof(nanos));
    memcpy(&day, bytes + 8, sizeof(day));
    uint64_t days = (uint64_t)((int64_t)day - 2440588);
    return (int64_t)(days * 86400000000u + (uint64_t)(nanos / 1000));
}

static bool convert_slices(enum parquet_convert convert, const struct parquet_slice *slices,
                           int32_t n, uint8_t *to) {
    bool good = true;
    for (int32_t i = 0; i < n; i++) {
        const struct parquet_slice *slice = &slices[i];
        if (convert == PARQUET_CONVERT_INT96) {
            int64_t micros = convert_int96(slice->bytes);
            memcpy(to + (size_t)i * 8, &micros, sizeof(micros));
        } else if (convert == PARQUET_CONVERT_FLOAT16) {
            uint16_t half;
            memcpy(&half, slice->bytes, sizeof(half));
            float value = half_to_float(half);
            memcpy(to + (size_t)i * 4, &value, sizeof(value));
        } else {
            unsigned __int128 value =
                slice->size > 0 && slice->bytes[0] >= 128 ? ~(unsigned __int128)0 : 0;
            for (uint32_t b = 0; b < slice->size; b++) {
                uint8_t top = (uint8_t)(value >> 120);
                bool is_sign = top == 0 || top == 255;
                good = good && (b < 16 || is_sign);
                value = value << 8 | slice->bytes[b];
            }
            memcpy(to + (size_t)i * 16, &value, sizeof(value));
        }
    }
    return good;
}

bool parquet_convert(enum parquet_convert convert, const uint8_t *fixed,
                     const struct parquet_slice *slices, int32_t n, uint8_t *to) {
    return slices != NULL ? convert_slices(convert, slices, n, to)
                          : convert_fixed(convert, fixed, n, to);
}

static int append_bytes(struct parquet_column *column, const struct parquet_slice *slices,
                        const uint8_t *present, int32_t slots, struct weir_error *err) {
    if (weir_buffer_reserve(&column->out_offsets, ((size_t)slots + 1) * sizeof(int32_t)) !=
        WEIR_OK) {
        return over_limit(column, err);
    }
    int32_t *offsets = (int32_t *)(column->out_offsets.data + column->out_offsets.size);
    for (int32_t i = 0; i < slots; i++) {
        if (present[i]) {
            if (weir_buffer_append(&column->out_values, slices->bytes, slices->size) != WEIR_OK ||
                column->out_values.size > INT32_MAX) {
                return over_limit(column, err);
            }
            slices++;
        }
        offsets[i] = (int32_t)column->out_values.size;
    }
    column->out_offsets.size += (size_t)slots * sizeof(int32_t);
    return WEIR_OK;
}

/* Decodes the values of `slots` slots, present[i] saying which are not null. */
static int append_slots(struct parquet_column *column, const uint8_t *present, int32_t slots,
                        struct weir_error *err) {
    enum parquet_convert convert = column->slot->convert;
    int32_t n = 0;
    for (int32_t i = 0; i < slots; i++) {
        n += present[i];
    }
    _Alignas(8) uint8_t fixed[PARQUET_BLOCK * 8];
    struct parquet_slice slices[PARQUET_BLOCK];
    bool sliced = parquet_values_sliced(column->values.physical);
    int rc =
        n == 0 ? WEIR_OK : parquet_values_next(&column->values, n, fixed, sliced ? slices : NULL);
    if (rc == WEIR_E_CORRUPT) {
        return parquet_corrupt(column, err, "page values");
    }
    if (rc != WEIR_OK || weir_buffer_append(&column->out_validity, present, (size_t)slots) != 0) {
        return over_limit(column, err);
    }
    column->out_slots += slots;
    column->out_nulls += slots - n;
    if (convert == PARQUET_CONVERT_BYTES) {
        return append_bytes(column, slices, present, slots, err);
    }
    size_t width = (size_t)weir_type_width(column->slot->field->type);
    width = width == 0 ? 1 : width; /* bool */
    if (weir_buffer_reserve(&column->out_values, (size_t)slots * width + 1) != WEIR_OK) {
        return over_limit(column, err);
    }
    uint8_t *to = column->out_values.data + column->out_values.size;
    column->out_values.size += (size_t)slots * width;
    if (n > 0 && !parquet_convert(convert, fixed, sliced ? slices : NULL, n, to)) {
        return parquet_corrupt(column, err, "a value is beyond the range of its type");
    }
    int32_t dense = n;
    for (int32_t i = slots - 1; i >= dense; i--) { /* spread out from the back */
        if (present[i]) {
            dense--;
            memcpy(to + (size_t)i * width, to + (size_t)dense * width, width);
        } else {
            memset(to + (size_t)i * width, 0, width);
        }
    }
    return WEIR_OK;
}

/* Takes in `n` entries whose levels are given; NULL levels are all at their maximum (0). */
static int append_entries(struct parquet_column *column, const uint8_t *definition,
                          const uint8_t *repetition, int32_t n, struct weir_error *err) {
    uint8_t present[PARQUET_BLOCK];
    int32_t slots = 0;
    uint8_t maximum = column->node->definition;
    if (maximum == 0) {
        memset(present, 1, (size_t)n);
        slots = n;
    } else {
        for (int32_t i = 0; i < n; i++) {
            if (definition[i] > maximum) {
                return parquet_corrupt(column, err, "definition level");
            }
            present[slots] = definition[i] == maximum;
            slots += definition[i] >= column->slot->slot_definition;
        }
        if (weir_buffer_append(&column->out_definition, definition, (size_t)n) != WEIR_OK) {
            return over_limit(column, err);
        }
    }
    if (column->node->repetition_level > 0 &&
        weir_buffer_append(&column->out_repetition, repetition, (size_t)n) != WEIR_OK) {
        return over_limit(column, err);
    }
    column->out_entries += n;
    return append_slots(column, present, slots, err);
}

static int read_flat(struct parquet_column *column, int32_t rows, struct weir_error *err) {
    uint8_t levels[PARQUET_BLOCK];
    while (rows > 0) {
        int rc = parquet_column_load_page(column, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        int32_t n = rows < PARQUET_BLOCK ? rows : PARQUET_BLOCK;
        n = n < column->page_left ? n : (int32_t)column->page_left;
        if (column->node->definition > 0 &&
            parquet_rle_next_u8(&column->definition, levels, n) < n) {
            return parquet_corrupt(column, err, "definition levels end early");
        }
        rc = append_entries(column, levels, NULL, n, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        column->page_left -= n;
        rows -= n;
    }
    return WEIR_OK;
}

/* Decodes the levels of the next block, opening a page where one is due. */
static int look_ahead(struct parquet_column *column, struct weir_error *err) {
    int rc = parquet_column_load_page(column, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    int32_t n =
        column->page_left < PARQUET_BLOCK ? (int32_t)column->page_left : (int32_t)PARQUET_BLOCK;
    if (parquet_rle_next_u8(&column->definition, column->ahead_definition, n) < n ||
        parquet_rle_next_u8(&column->repetition, column->ahead_repetition, n) < n) {
        return parquet_corrupt(column, err, "levels end early");
    }
    column->page_left -= n;
    column->ahead_at = 0;
    column->ahead_count = n;
    return WEIR_OK;
}

static int read_nested(struct parquet_column *column, int32_t rows, struct weir_error *err) {
    uint8_t maximum = column->node->repetition_level;
    int32_t begun = 0;
    for (;;) {
        if (column->ahead_at == column->ahead_count) {
            if (begun == rows && column->page_left == 0 && column->values_left <= 0) {
                return WEIR_OK; /* the chunk ends with the last row */
            }
            int rc = look_ahead(column, err);
            if (rc != WEIR_OK) {
                return rc;
            }
        }
        int32_t at = column->ahead_at;
        int32_t end = at;
        for (; end < column->ahead_count; end++) {
            uint8_t level = column->ahead_repetition[end];
            if (level > maximum || (level > 0 && begun == 0)) {
                return parquet_corrupt(column, err, "repetition level");
            }
            if (level == 0) {
                if (begun == rows) {
                    break;
                }
                begun++;
            }
        }
        int rc = append_entries(column, column->ahead_definition + at,
                                column->ahead_repetition + at, end - at, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        column->ahead_at = end;
        if (end < column->ahead_count) {
            return WEIR_OK;
        }
    }
}

int parquet_column_read(struct parquet_column *column, int32_t rows, struct weir_error *err) {
    weir_buffer_clear(&column->out_definition);
    weir_buffer_clear(&column->out_repetition);
    weir_buffer_clear(&column->out_values);
    weir_buffer_clear(&column->out_offsets);
    weir_buffer_clear(&column->out_validity);
    column->out_entries = 0;
    column->out_slots = 0;
    column->out_nulls = 0;
    return column->node->repetition_level > 0 ? read_nested(column, rows, err)
                                              : read_flat(column, rows, err);
}
