#pragma once
/* The writer's view of a schema: a tree of nodes whose leaves stage one page of values each, encode
 * it when full and hold the compressed pages of the open row group. Private to the writer. */
#include "lake/parquet/compress.h"
#include "lake/parquet/dictionary.h"
#include "lake/parquet/encoding.h"
#include "lake/parquet/statistics.h"
#include "lake/parquet/writer.h"

enum parquet_mode {
    PARQUET_MODE_UNDECIDED, /* first page of a chunk: is a dictionary worth it? */
    PARQUET_MODE_DICTIONARY,
    PARQUET_MODE_VALUES,
};

/* A header and its compressed payload, one piece of the held buffer, and what the page index says
 * of it. */
struct parquet_held_page {
    size_t offset;
    size_t size;
    int32_t rows;
    int64_t null_count;
    bool null_page;
    size_t min_at; /* in the leaf's bounds */
    size_t min_size;
    size_t max_size; /* after the min */
};

/* One chunk of the file in the page index; its place in the row groups' metadata. */
struct parquet_indexed_chunk {
    size_t metadata_end; /* in writer->row_groups: where the index's place is to be told */
    int32_t column_index_size;
    int32_t offset_index_size;
};

struct parquet_leaf {
    const struct weir_field *field;
    const char **path;      /* names in the file, from the top */
    const char **info_path; /* names as weir fields */
    int32_t path_count;
    int32_t info_path_count;
    enum parquet_store store;
    int32_t width; /* bytes of a staged value; 0 for BYTES */
    int8_t physical;
    uint8_t max_definition;
    uint8_t max_repetition;
    bool dictionary_allowed;

    /* page staging */
    int32_t rows;       /* rows begun in this page */
    int64_t entries;    /* levels: values and nulls */
    int64_t present;    /* non-null values */
    bool levels_staged; /* definition holds entries; otherwise all are max_definition */
    struct weir_buffer definition;
    struct weir_buffer repetition;
    struct weir_buffer values;  /* headroom, then fixed values or bytes */
    struct weir_buffer lengths; /* int32 each; BYTES in VALUES mode */
    struct weir_buffer codes;   /* uint32 each */
    size_t headroom;
    int64_t logical_bytes; /* of values staged as codes, as if plain */

    /* nested columns: rows of the running append, gathered in bulk */
    struct weir_buffer indices; /* int32 each: positions in the leaf's column */

    /* chunk */
    enum parquet_mode mode;
    struct parquet_dictionary dictionary;
    struct parquet_statistics page;
    struct parquet_statistics chunk;
    struct parquet_statistics file;
    struct weir_buffer bounds;               /* of the chunk's pages, as in the column index */
    bool indexed;                            /* every page so far has bounds or nothing but nulls */
    _Alignas(16) uint8_t info_bounds[2][16]; /* the file's bounds in batch form, for fixed widths */
    struct weir_buffer held;                 /* header and payload of each page, with gaps */
    struct weir_buffer pages;                /* struct parquet_held_page */
    int64_t uncompressed_bytes;
    int64_t compressed_bytes;
    uint32_t encodings; /* bit per enum parquet_encoding of data pages */
    int32_t data_pages[PARQUET_BYTE_STREAM_SPLIT + 1];
    bool search_tried; /* whether hasty compression was compared in this chunk */
    bool hasty;
    int32_t store_pages; /* pages to store uncompressed before trying again */
};

enum parquet_node_kind {
    PARQUET_NODE_LEAF,
    PARQUET_NODE_STRUCT,
    PARQUET_NODE_LIST,
    PARQUET_NODE_MAP
};

struct parquet_shape { /* one weir field in the file's tree */
    const struct weir_field *field;
    enum parquet_node_kind kind;
    struct parquet_shape *children;
    int32_t child_count;
    int32_t leaf_first;
    int32_t leaf_count;
    int32_t field_id;
    uint8_t repetition_level; /* of this node's values: lists add one for their elements */
    bool optional;
    bool excluded;
};

enum { PARQUET_SORTED_BY_MAX = 8 };

struct weir_parquet_writer {
    struct weir_schema *schema;
    struct weir_parquet_writer_options options;
    struct weir_parquet_key_value *metadata; /* owned copies */
    struct parquet_shape *columns;           /* schema->count, excluded ones marked */
    struct parquet_leaf *leaves;
    int32_t leaf_count;
    struct weir_parquet_column_info *infos;
    struct parquet_compressor *compressor;
    struct weir_buffer scratch;    /* encoded page before compression */
    struct weir_buffer header;     /* page header or footer */
    struct weir_buffer row_groups; /* thrift of finished row groups */
    struct weir_buffer indexed;    /* struct parquet_indexed_chunk each */
    struct weir_buffer column_indexes;
    struct weir_buffer offset_indexes;
    int32_t row_group_count;
    int32_t index_scratch[WEIR_BATCH_ROWS_MAX];
    int32_t sorted_leaves[PARQUET_SORTED_BY_MAX]; /* options.sorted_by_count of them */
    uint32_t *remap; /* dictionary of a batch column -> code here, plus one */
    int32_t remap_capacity;

    weir_parquet_write_fn write;
    void *write_ctx;
    bool open;
    bool failed;
    int64_t rows;       /* in the file */
    int64_t group_rows; /* in the open row group */
    int64_t written;    /* bytes handed to the callback */
    int64_t held_bytes; /* compressed pages of the open row group */
};

/* shape.c */
int parquet_shape_build(struct weir_parquet_writer *writer,
                        const struct weir_parquet_writer_options *options,
                        struct weir_error *err) WEIR_MUST_CHECK;
void parquet_shape_destroy(struct weir_parquet_writer *writer);
/* The schema elements of the footer. */
struct thrift_writer;
void parquet_shape_write(const struct weir_parquet_writer *writer, struct thrift_writer *thrift);

/* gather.c: rows of a batch into leaf staging */
int parquet_gather_flat(struct weir_parquet_writer *writer, struct parquet_leaf *leaf,
                        const struct weir_column *column, const int32_t *sel, int32_t count,
                        struct weir_error *err) WEIR_MUST_CHECK;
/* Values at `index` (NULL: start, start + 1, …), none of them null. */
int parquet_gather_values(struct weir_parquet_writer *writer, struct parquet_leaf *leaf,
                          const struct weir_column *column, const int32_t *index, int32_t start,
                          int32_t count, struct weir_error *err) WEIR_MUST_CHECK;
int parquet_shred(struct weir_parquet_writer *writer, const struct parquet_shape *shape,
                  const struct weir_column *column, const int32_t *sel, int32_t count,
                  struct weir_error *err) WEIR_MUST_CHECK;

/* page.c: staging into held pages */
int parquet_leaf_flush(struct weir_parquet_writer *writer, struct parquet_leaf *leaf,
                       struct weir_error *err) WEIR_MUST_CHECK;
/* The staged codes become values, the dictionary is dropped (first page) or closed. */
int parquet_leaf_leave_dictionary(struct weir_parquet_writer *writer, struct parquet_leaf *leaf,
                                  struct weir_error *err) WEIR_MUST_CHECK;
/* Nearly every one of n values was new: the column's values hardly repeat. */
static inline bool parquet_leaf_mostly_new(const struct parquet_leaf *leaf, int64_t n) {
    return (int64_t)leaf->dictionary.count > n - n / 32;
}

/* Still undecided: true when a dictionary costs less than the values. */
bool parquet_leaf_dictionary_pays(const struct weir_parquet_writer *writer,
                                  struct parquet_leaf *leaf);
/* Builds the dictionary page (header and payload) into the writer's scratch. */
int parquet_leaf_dictionary_page(struct weir_parquet_writer *writer, struct parquet_leaf *leaf,
                                 struct parquet_held_page *page,
                                 struct weir_error *err) WEIR_MUST_CHECK;
void parquet_leaf_clear_page(struct parquet_leaf *leaf);
void parquet_leaf_clear_chunk(struct parquet_leaf *leaf);

/* index.c: the page index */
int parquet_index_page(const struct weir_parquet_writer *writer, struct parquet_leaf *leaf,
                       struct parquet_held_page *page) WEIR_MUST_CHECK;
/* The chunk's pages begin at `offset` of the file; its metadata ends where row_groups does. */
int parquet_index_chunk(struct weir_parquet_writer *writer, const struct parquet_leaf *leaf,
                        int64_t offset) WEIR_MUST_CHECK;
/* Appends the row groups' metadata to `to`, each chunk with its place in the index, whose parts
 * begin at these offsets of the file. */
int parquet_index_resolve(const struct weir_parquet_writer *writer, int64_t column_indexes,
                          int64_t offset_indexes, struct weir_buffer *to) WEIR_MUST_CHECK;

/* footer.c */
/* A bound as statistics are stored: at most PARQUET_FOOTER_STAT_BYTES into `to`, 0 when a longer
 * one cannot be raised; *exact tells whether it was cut. */
size_t parquet_footer_bound(const struct parquet_leaf *leaf,
                            const struct parquet_statistics *statistics, bool maximum, uint8_t *to,
                            bool *exact);
int parquet_footer_row_group(struct weir_parquet_writer *writer,
                             struct weir_error *err) WEIR_MUST_CHECK;
int parquet_footer_write(struct weir_parquet_writer *writer,
                         struct weir_error *err) WEIR_MUST_CHECK;

static inline int parquet_leaf_error(const struct parquet_leaf *leaf, int code,
                                     struct weir_error *err, const char *what) {
    return weir_error_set(err, code, "parquet column %s: %s", leaf->info_path[0], what);
}
