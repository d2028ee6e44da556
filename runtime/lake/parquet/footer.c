/* Row groups leave the writer here: chunk by chunk to the callback, their metadata into a buffer
 * that becomes the footer's list; then the footer itself. (parquet.thrift: FileMetaData) */
#include <string.h>

#include "lake/parquet/leaf.h"
#include "lake/parquet/thrift.h"

static int emit(struct weir_parquet_writer *writer, const void *bytes, size_t size,
                struct weir_error *err) {
    if (size == 0) {
        return WEIR_OK;
    }
    int rc = writer->write(writer->write_ctx, bytes, size, err);
    writer->written += (int64_t)size;
    return rc;
}

/* --- footer statistics ------------------------------------------------------------------- */

/* A prefix of an upper bound, raised so that it stays above: the last byte that can be raised
 * without breaking UTF-8 (binary: without overflow). 0 when there is none. */
static size_t raise_prefix(uint8_t *bytes, size_t size, bool text) {
    uint8_t top = text ? 0x7e : 0xfe;
    while (size > 0 && bytes[size - 1] > top) {
        size--;
    }
    if (size > 0) {
        bytes[size - 1]++;
    }
    return size;
}

static size_t cut_prefix(const uint8_t *bytes, size_t size, bool text) {
    while (text && size > 0 && (bytes[size] & 0xc0) == 0x80) {
        size--; /* not in the middle of a code point */
    }
    return size;
}

static size_t bytes_bound(const struct parquet_leaf *leaf, const struct weir_buffer *bound,
                          bool maximum, uint8_t *to, bool *exact) {
    bool text = leaf->field->type == WEIR_TYPE_STRING;
    *exact = bound->size <= PARQUET_FOOTER_STAT_BYTES;
    size_t size = *exact ? bound->size : PARQUET_FOOTER_STAT_BYTES;
    if (!*exact && !maximum) {
        size = cut_prefix(bound->data, size, text);
    }
    if (size > 0) {
        memcpy(to, bound->data, size);
    }
    return !*exact && maximum ? raise_prefix(to, size, text) : size;
}

size_t parquet_footer_bound(const struct parquet_leaf *leaf,
                            const struct parquet_statistics *statistics, bool maximum, uint8_t *to,
                            bool *exact) {
    int64_t integer = maximum ? statistics->max_int : statistics->min_int;
    double number = maximum ? statistics->max_double : statistics->min_double;
    float narrow = (float)number;
    *exact = true;
    switch (leaf->store) {
    case PARQUET_STORE_BYTES:
        return bytes_bound(leaf, maximum ? &statistics->max_bytes : &statistics->min_bytes, maximum,
                           to, exact);
    case PARQUET_STORE_F32:
        memcpy(to, &narrow, sizeof(narrow));
        break;
    case PARQUET_STORE_F64:
        memcpy(to, &number, sizeof(number));
        break;
    case PARQUET_STORE_FIXED:
        parquet_store_be(to, leaf->width, maximum ? statistics->max_wide : statistics->min_wide);
        break;
    default: /* little-endian: the low bytes come first */
        memcpy(to, &integer, sizeof(integer));
        break;
    }
    return (size_t)leaf->width;
}

static void write_statistics(struct thrift_writer *thrift, const struct parquet_leaf *leaf) {
    const struct parquet_statistics *chunk = &leaf->chunk;
    thrift_struct_begin(thrift, 12);
    thrift_write_i64(thrift, 3, chunk->null_count);
    /* A chunk with NaN gets no bounds: readers disagree on where NaN sorts. */
    if (chunk->set && !chunk->too_long && !chunk->has_nan) {
        uint8_t low[PARQUET_FOOTER_STAT_BYTES];
        uint8_t high[PARQUET_FOOTER_STAT_BYTES];
        bool low_exact;
        bool high_exact;
        size_t low_size = parquet_footer_bound(leaf, chunk, false, low, &low_exact);
        size_t high_size = parquet_footer_bound(leaf, chunk, true, high, &high_exact);
        bool has_high = high_exact || high_size > 0;
        if (has_high) {
            thrift_write_binary(thrift, 5, high, high_size);
        }
        thrift_write_binary(thrift, 6, low, low_size);
        if (has_high) {
            thrift_write_bool(thrift, 7, high_exact);
        }
        thrift_write_bool(thrift, 8, low_exact);
    }
    thrift_struct_end(thrift);
}

/* --- row groups -------------------------------------------------------------------------- */

static int finish_statistics(struct parquet_leaf *leaf) {
    const struct parquet_dictionary *dictionary = &leaf->dictionary;
    int rc = WEIR_OK;
    if (leaf->store == PARQUET_STORE_BYTES) {
        for (uint32_t i = 0; i < dictionary->count && rc == WEIR_OK; i++) {
            uint32_t size;
            const uint8_t *bytes = parquet_dictionary_get(dictionary, i, &size);
            rc = parquet_statistics_add_one(&leaf->chunk, bytes, size);
        }
    } else if (dictionary->count > 0) {
        parquet_statistics_add_fixed(&leaf->chunk, leaf->store, leaf->width, dictionary->arena.data,
                                     dictionary->count);
    }
    return rc != WEIR_OK ? rc : parquet_statistics_merge(&leaf->file, leaf->store, &leaf->chunk);
}

static void write_encodings(struct thrift_writer *thrift, const struct parquet_leaf *leaf,
                            bool has_dictionary) {
    uint32_t encodings = leaf->encodings | 1u << PARQUET_RLE; /* levels */
    encodings |= has_dictionary ? 1u << PARQUET_PLAIN : 0;
    thrift_write_list(thrift, 2, THRIFT_I32, __builtin_popcount(encodings));
    for (int32_t i = 0; i <= PARQUET_BYTE_STREAM_SPLIT; i++) {
        if (encodings >> i & 1) {
            thrift_element_i32(thrift, i);
        }
    }
}

static void write_encoding_stats(struct thrift_writer *thrift, const struct parquet_leaf *leaf,
                                 bool has_dictionary) {
    thrift_write_list(thrift, 13, THRIFT_STRUCT,
                      __builtin_popcount(leaf->encodings) + (has_dictionary ? 1 : 0));
    if (has_dictionary) {
        thrift_element_struct(thrift);
        thrift_write_i32(thrift, 1, PARQUET_PAGE_DICTIONARY);
        thrift_write_i32(thrift, 2, PARQUET_PLAIN);
        thrift_write_i32(thrift, 3, 1);
        thrift_struct_end(thrift);
    }
    for (int32_t i = 0; i <= PARQUET_BYTE_STREAM_SPLIT; i++) {
        if (leaf->encodings >> i & 1) {
            thrift_element_struct(thrift);
            thrift_write_i32(thrift, 1, PARQUET_PAGE_DATA);
            thrift_write_i32(thrift, 2, i);
            thrift_write_i32(thrift, 3, leaf->data_pages[i]);
            thrift_struct_end(thrift);
        }
    }
}

static int write_chunk(struct weir_parquet_writer *writer, struct parquet_leaf *leaf,
                       struct thrift_writer *thrift, struct weir_error *err) {
    int rc = parquet_leaf_flush(writer, leaf, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (finish_statistics(leaf) != WEIR_OK) {
        return parquet_leaf_error(leaf, WEIR_E_NOMEM, err, "out of memory");
    }
    int64_t start = writer->written;
    bool has_dictionary = leaf->data_pages[PARQUET_RLE_DICTIONARY] > 0;
    if (has_dictionary) {
        struct parquet_held_page page;
        rc = parquet_leaf_dictionary_page(writer, leaf, &page, err);
        if (rc == WEIR_OK) {
            rc = emit(writer, leaf->held.data + page.offset, page.size, err);
        }
    }
    int64_t data_start = writer->written;
    const struct parquet_held_page *pages = (const struct parquet_held_page *)leaf->pages.data;
    size_t count = leaf->pages.size / sizeof(*pages);
    for (size_t i = 0; i < count && rc == WEIR_OK; i++) {
        rc = emit(writer, leaf->held.data + pages[i].offset, pages[i].size, err);
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    thrift_element_struct(thrift);
    thrift_write_i64(thrift, 2, 0);
    thrift_struct_begin(thrift, 3);
    thrift_write_i32(thrift, 1, leaf->physical);
    write_encodings(thrift, leaf, has_dictionary);
    thrift_write_list(thrift, 3, THRIFT_BINARY, leaf->path_count);
    for (int32_t i = 0; i < leaf->path_count; i++) {
        thrift_element_text(thrift, leaf->path[i]);
    }
    thrift_write_i32(thrift, 4, (int32_t)writer->options.codec);
    thrift_write_i64(thrift, 5, leaf->chunk.value_count);
    thrift_write_i64(thrift, 6, leaf->uncompressed_bytes);
    thrift_write_i64(thrift, 7, leaf->compressed_bytes);
    thrift_write_i64(thrift, 9, data_start);
    if (has_dictionary) {
        thrift_write_i64(thrift, 11, start);
    }
    write_statistics(thrift, leaf);
    write_encoding_stats(thrift, leaf, has_dictionary);
    thrift_struct_end(thrift);
    if (thrift->rc == WEIR_OK && parquet_index_chunk(writer, leaf, data_start) != WEIR_OK) {
        return parquet_leaf_error(leaf, WEIR_E_LIMIT, err, "its page index is too large");
    }
    thrift_struct_end(thrift);
    return WEIR_OK;
}

int parquet_footer_row_group(struct weir_parquet_writer *writer, struct weir_error *err) {
    if (writer->group_rows == 0) {
        return WEIR_OK;
    }
    struct thrift_writer thrift;
    thrift_writer_init(&thrift, &writer->row_groups);
    int64_t start = writer->written;
    int64_t uncompressed = 0;
    thrift_write_list(&thrift, 1, THRIFT_STRUCT, writer->leaf_count);
    for (int32_t i = 0; i < writer->leaf_count; i++) {
        struct parquet_leaf *leaf = &writer->leaves[i];
        int rc = write_chunk(writer, leaf, &thrift, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        uncompressed += leaf->uncompressed_bytes;
        parquet_leaf_clear_chunk(leaf);
    }
    thrift_write_i64(&thrift, 2, uncompressed);
    thrift_write_i64(&thrift, 3, writer->group_rows);
    if (writer->options.sorted_by_count > 0) {
        thrift_write_list(&thrift, 4, THRIFT_STRUCT, writer->options.sorted_by_count);
        for (int32_t i = 0; i < writer->options.sorted_by_count; i++) {
            thrift_element_struct(&thrift);
            thrift_write_i32(&thrift, 1, writer->sorted_leaves[i]);
            thrift_write_bool(&thrift, 2, false);
            thrift_write_bool(&thrift, 3, true);
            thrift_struct_end(&thrift);
        }
    }
    thrift_write_i64(&thrift, 5, start);
    thrift_write_i64(&thrift, 6, writer->written - start);
    if (writer->row_group_count <= INT16_MAX) {
        thrift_write_i32(&thrift, 7, writer->row_group_count);
    }
    thrift_struct_end(&thrift);
    if (thrift.rc != WEIR_OK) {
        return weir_error_set(err, thrift.rc,
                              "parquet: the footer is too large; write larger row groups");
    }
    writer->row_group_count++;
    writer->group_rows = 0;
    writer->held_bytes = 0;
    return WEIR_OK;
}

int parquet_footer_write(struct weir_parquet_writer *writer, struct weir_error *err) {
    struct thrift_writer thrift;
    int64_t column_indexes = writer->written;
    int rc = emit(writer, writer->column_indexes.data, writer->column_indexes.size, err);
    int64_t offset_indexes = writer->written;
    rc = rc == WEIR_OK ? emit(writer, writer->offset_indexes.data, writer->offset_indexes.size, err)
                       : rc;
    if (rc != WEIR_OK) {
        return rc;
    }
    weir_buffer_clear(&writer->header);
    thrift_writer_init(&thrift, &writer->header);
    thrift_write_i32(&thrift, 1, writer->options.compat ? 1 : 2);
    parquet_shape_write(writer, &thrift);
    thrift_write_i64(&thrift, 3, writer->rows);
    thrift_write_list(&thrift, 4, THRIFT_STRUCT, writer->row_group_count);
    if (thrift.rc == WEIR_OK) {
        thrift.rc = parquet_index_resolve(writer, column_indexes, offset_indexes, &writer->header);
    }
    if (writer->options.metadata_count > 0) {
        thrift_write_list(&thrift, 5, THRIFT_STRUCT, writer->options.metadata_count);
        for (int32_t i = 0; i < writer->options.metadata_count; i++) {
            thrift_element_struct(&thrift);
            thrift_write_text(&thrift, 1, writer->metadata[i].key);
            thrift_write_text(&thrift, 2, writer->metadata[i].value);
            thrift_struct_end(&thrift);
        }
    }
    thrift_write_text(&thrift, 6, "weir version " WEIR_VERSION);
    thrift_write_list(&thrift, 7, THRIFT_STRUCT, writer->leaf_count);
    for (int32_t i = 0; i < writer->leaf_count; i++) {
        thrift_element_struct(&thrift); /* ColumnOrder: TYPE_ORDER */
        thrift_struct_begin(&thrift, 1);
        thrift_struct_end(&thrift);
        thrift_struct_end(&thrift);
    }
    thrift_struct_end(&thrift);
    uint32_t size = (uint32_t)writer->header.size;
    if (thrift.rc == WEIR_OK) {
        thrift.rc = weir_buffer_append(&writer->header, &size, sizeof(size));
    }
    if (thrift.rc == WEIR_OK) {
        thrift.rc = weir_buffer_append(&writer->header, "PAR1", 4);
    }
    if (thrift.rc != WEIR_OK) {
        return weir_error_set(err, thrift.rc,
                              "parquet: the footer is too large; write larger row groups");
    }
    return emit(writer, writer->header.data, writer->header.size, err);
}
