/* The page index, written between the last row group and the footer: for each chunk where its pages
 * are (offset index) and, where every page has bounds of its own, what they hold (column index).
 * Pages of dictionary codes have no bounds but their chunk's. The row groups' metadata is written
 * before anyone knows where the index will be, so its places are put in at the end.
 * (apache/parquet-format PageIndex.md) */
#include <string.h>

#include "lake/parquet/leaf.h"
#include "lake/parquet/thrift.h"

int parquet_index_page(const struct weir_parquet_writer *writer, struct parquet_leaf *leaf,
                       struct parquet_held_page *page) {
    const struct parquet_statistics *bounds = &leaf->page;
    page->rows = leaf->rows;
    page->null_count = leaf->entries - leaf->present;
    page->null_page = leaf->present == 0;
    page->min_at = leaf->bounds.size;
    page->min_size = 0;
    page->max_size = 0;
    if (!writer->options.page_index || page->null_page || !leaf->indexed) {
        return WEIR_OK;
    }
    if (leaf->mode == PARQUET_MODE_DICTIONARY || !bounds->set || bounds->too_long ||
        bounds->has_nan) {
        leaf->indexed = false;
        return WEIR_OK;
    }
    uint8_t low[PARQUET_FOOTER_STAT_BYTES];
    uint8_t high[PARQUET_FOOTER_STAT_BYTES];
    bool exact;
    page->min_size = parquet_footer_bound(leaf, bounds, false, low, &exact);
    page->max_size = parquet_footer_bound(leaf, bounds, true, high, &exact);
    leaf->indexed = exact || page->max_size > 0;
    int rc = weir_buffer_append(&leaf->bounds, low, page->min_size);
    return rc == WEIR_OK ? weir_buffer_append(&leaf->bounds, high, page->max_size) : rc;
}

static void write_bounds(struct thrift_writer *thrift, const struct parquet_leaf *leaf,
                         const struct parquet_held_page *pages, int64_t count) {
    static const uint8_t nothing[1]; /* pages of nulls have no bounds at all */
    const uint8_t *bounds = leaf->bounds.data != NULL ? leaf->bounds.data : nothing;
    thrift_write_list(thrift, 1, THRIFT_TRUE, count);
    for (int64_t i = 0; i < count; i++) {
        thrift_element_bool(thrift, pages[i].null_page);
    }
    thrift_write_list(thrift, 2, THRIFT_BINARY, count);
    for (int64_t i = 0; i < count; i++) {
        thrift_element_binary(thrift, bounds + pages[i].min_at, pages[i].min_size);
    }
    thrift_write_list(thrift, 3, THRIFT_BINARY, count);
    for (int64_t i = 0; i < count; i++) {
        thrift_element_binary(thrift, bounds + pages[i].min_at + pages[i].min_size,
                              pages[i].max_size);
    }
    thrift_write_i32(thrift, 4, 0); /* no order promised */
    thrift_write_list(thrift, 5, THRIFT_I64, count);
    for (int64_t i = 0; i < count; i++) {
        thrift_element_i64(thrift, pages[i].null_count);
    }
    thrift_struct_end(thrift);
}

static void write_places(struct thrift_writer *thrift, const struct parquet_held_page *pages,
                         int64_t count, int64_t offset) {
    int64_t row = 0;
    thrift_write_list(thrift, 1, THRIFT_STRUCT, count);
    for (int64_t i = 0; i < count; i++) {
        thrift_element_struct(thrift);
        thrift_write_i64(thrift, 1, offset);
        thrift_write_i32(thrift, 2, (int32_t)pages[i].size);
        thrift_write_i64(thrift, 3, row);
        thrift_struct_end(thrift);
        offset += (int64_t)pages[i].size;
        row += pages[i].rows;
    }
    thrift_struct_end(thrift);
}

int parquet_index_chunk(struct weir_parquet_writer *writer, const struct parquet_leaf *leaf,
                        int64_t offset) {
    if (!writer->options.page_index) {
        return WEIR_OK;
    }
    const struct parquet_held_page *pages = (const struct parquet_held_page *)leaf->pages.data;
    int64_t count = (int64_t)(leaf->pages.size / sizeof(*pages));
    struct parquet_indexed_chunk chunk = {.metadata_end = writer->row_groups.size};
    struct thrift_writer thrift;
    size_t before = writer->column_indexes.size;
    thrift_writer_init(&thrift, &writer->column_indexes);
    if (leaf->indexed && count > 0) {
        write_bounds(&thrift, leaf, pages, count);
    }
    chunk.column_index_size = (int32_t)(writer->column_indexes.size - before);
    int rc = thrift.rc;
    before = writer->offset_indexes.size;
    thrift_writer_init(&thrift, &writer->offset_indexes);
    write_places(&thrift, pages, count, offset);
    chunk.offset_index_size = (int32_t)(writer->offset_indexes.size - before);
    rc = rc == WEIR_OK ? thrift.rc : rc;
    return rc == WEIR_OK ? weir_buffer_append(&writer->indexed, &chunk, sizeof(chunk)) : rc;
}

int parquet_index_resolve(const struct weir_parquet_writer *writer, int64_t column_indexes,
                          int64_t offset_indexes, struct weir_buffer *to) {
    const struct parquet_indexed_chunk *chunks =
        (const struct parquet_indexed_chunk *)writer->indexed.data;
    size_t count = writer->indexed.size / sizeof(*chunks);
    size_t copied = 0;
    int rc = WEIR_OK;
    for (size_t i = 0; i < count && rc == WEIR_OK; i++) {
        rc = weir_buffer_append(to, writer->row_groups.data + copied,
                                chunks[i].metadata_end - copied);
        copied = chunks[i].metadata_end;
        struct thrift_writer thrift;
        thrift_writer_init(&thrift, to);
        thrift.last = 3; /* ColumnChunk.meta_data came before */
        thrift_write_i64(&thrift, 4, offset_indexes);
        thrift_write_i32(&thrift, 5, chunks[i].offset_index_size);
        if (chunks[i].column_index_size > 0) {
            thrift_write_i64(&thrift, 6, column_indexes);
            thrift_write_i32(&thrift, 7, chunks[i].column_index_size);
        }
        rc = rc == WEIR_OK ? thrift.rc : rc;
        column_indexes += chunks[i].column_index_size;
        offset_indexes += chunks[i].offset_index_size;
    }
    return rc == WEIR_OK ? weir_buffer_append(to, writer->row_groups.data + copied,
                                              writer->row_groups.size - copied)
                         : rc;
}
