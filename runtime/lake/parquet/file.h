#pragma once
/* The reader's view of a file: metadata parsed into an arena with a budget, and one column reader
 * per selected leaf. Private to the reader. */
#include "lake/parquet/compress.h"
#include "lake/parquet/encoding.h"
#include "lake/parquet/reader.h"
#include "lake/parquet/thrift.h"

/* --- metadata.c -------------------------------------------------------------------------- */

struct parquet_chunk {
    int8_t physical;
    int32_t codec;
    int64_t values;
    int64_t compressed_bytes;
    int64_t data_offset;
    int64_t dictionary_offset; /* 0: none */
    int64_t column_index;      /* 0: none */
    int64_t offset_index;
    int32_t column_index_size;
    int32_t offset_index_size;
    uint32_t min_size;
    uint32_t max_size;
    const uint8_t *min; /* in the footer; NULL: unknown */
    const uint8_t *max;
    int64_t null_count; /* -1: unknown */
};

struct parquet_row_group {
    int64_t rows;
    struct parquet_chunk *chunks; /* one per leaf */
};

struct parquet_page_header {
    int32_t type; /* enum parquet_page */
    int32_t uncompressed_size;
    int32_t compressed_size;
    bool has_crc;
    uint32_t crc;
    int32_t values;
    int32_t encoding;
    int32_t definition_encoding; /* V1 */
    int32_t repetition_encoding;
    int32_t definition_bytes; /* V2 */
    int32_t repetition_bytes;
    bool compressed; /* V2: values are */
    size_t header_bytes;
};

struct parquet_arena_block;

struct parquet_arena { /* freed whole; zeroed memory */
    struct parquet_arena_block *blocks;
    size_t *budget; /* bytes the reader may still take */
};

void *parquet_arena_take(struct parquet_arena *arena, size_t size);
void parquet_arena_fini(struct parquet_arena *arena);

int parquet_read_metadata(struct weir_parquet_reader *reader, const uint8_t *bytes, size_t size,
                          struct weir_error *err) WEIR_MUST_CHECK;
/* 0, WEIR_E_CORRUPT, or WEIR_E_LIMIT when the bytes end inside the header. */
int parquet_read_page_header(const uint8_t *bytes, size_t size,
                             struct parquet_page_header *header) WEIR_MUST_CHECK;

/* --- tree.c ------------------------------------------------------------------------------- */

enum parquet_convert { /* physical value -> batch value */
                       PARQUET_CONVERT_BOOL,
                       PARQUET_CONVERT_I8,
                       PARQUET_CONVERT_I16,
                       PARQUET_CONVERT_U8,
                       PARQUET_CONVERT_U16,
                       PARQUET_CONVERT_U32,
                       PARQUET_CONVERT_U64,
                       PARQUET_CONVERT_SAME32,
                       PARQUET_CONVERT_SAME64,
                       PARQUET_CONVERT_MILLIS,
                       PARQUET_CONVERT_INT96,
                       PARQUET_CONVERT_FLOAT16,
                       PARQUET_CONVERT_DECIMAL32,
                       PARQUET_CONVERT_DECIMAL64,
                       PARQUET_CONVERT_DECIMAL_BYTES,
                       PARQUET_CONVERT_BYTES,
};

struct parquet_slot { /* one weir field and how its values come out of the levels */
    const struct weir_field *field;
    struct parquet_slot *children;
    int32_t child_count;
    int32_t leaf; /* leaves: column index in the file; groups: the first below */
    int32_t node;
    enum parquet_convert convert;
    uint8_t slot_definition;     /* below it an entry is an absent list above, not a slot */
    uint8_t valid_definition;    /* from here on the value is not null */
    uint8_t repeated_definition; /* lists: from here on the entry is an element */
    uint8_t repetition;          /* lists above */
};

int parquet_build_tree(struct weir_parquet_reader *reader, struct weir_error *err) WEIR_MUST_CHECK;

/* --- values.c ----------------------------------------------------------------------------- */

enum { PARQUET_BLOCK = 1024 }; /* values decoded at a time */

struct parquet_slice {
    const uint8_t *bytes;
    uint32_t size;
};

/* A byte value of a dictionary whose values are all so short: found and copied as one block, which
 * reaches half the memory that slices and what they point at do. */
enum { PARQUET_SHORT_MAX = 15 };
struct parquet_short {
    uint8_t bytes[PARQUET_SHORT_MAX];
    uint8_t size;
};

struct parquet_values { /* decoder of one page's values */
    int32_t encoding;
    int8_t physical;
    int32_t width; /* physical bytes: 1 bool, 4, 8, 12; type_length; 0 byte arrays */
    const uint8_t *at;
    const uint8_t *end;
    int64_t bit;   /* PLAIN booleans */
    int64_t split; /* BYTE_STREAM_SPLIT: values in the page */
    int64_t split_at;
    struct parquet_rle rle;     /* indices, RLE booleans */
    struct parquet_delta delta; /* integers, lengths, prefix lengths */
    struct parquet_delta suffixes;
    struct weir_buffer previous; /* DELTA_BYTE_ARRAY */
    struct weir_buffer scratch;  /* slices made here */
    /* the chunk's dictionary */
    const uint8_t *dictionary; /* fixed values */
    const struct parquet_slice *dictionary_slices;
    const struct parquet_short *dictionary_shorts; /* or NULL: some are longer */
    const uint8_t *dictionary_end;                 /* how far past a slice may be read */
    int32_t dictionary_count;
};

bool parquet_values_sliced(int8_t physical);
/* `values` is the page's level count: more never come out. False: corrupt or unknown encoding. */
int parquet_values_begin(struct parquet_values *values, int32_t encoding, const uint8_t *bytes,
                         size_t size) WEIR_MUST_CHECK;
/* n values: fixed ones to `fixed` (aligned to their width), others, n <= PARQUET_BLOCK, to `slices`
 * (valid until the next call). */
int parquet_values_next(struct parquet_values *values, int32_t n, uint8_t *fixed,
                        struct parquet_slice *slices) WEIR_MUST_CHECK;

/* n dictionary indices, all within the dictionary; false: corrupt. */
bool parquet_values_codes(struct parquet_values *values, int32_t n,
                          uint32_t *codes) WEIR_MUST_CHECK;

/* --- text.c ------------------------------------------------------------------------------- */

struct parquet_text { /* the bytes of a batch's column under construction */
    struct weir_batch *batch;
    uint8_t *bytes; /* a buffer of the batch, PARQUET_SLACK behind `size` */
    size_t size;
    size_t capacity;
};

/* The dictionary's values as short ones, in `room`; NULL where one is too long, or there is no
 * room: slices do then. */
const struct parquet_short *parquet_text_shorten(struct weir_buffer *room,
                                                 const struct parquet_slice *slices, size_t count);
/* WEIR_E_LIMIT past 2 GiB or the pool's cap. */
int parquet_text_reserve(struct parquet_text *text, size_t extra) WEIR_MUST_CHECK;
/* Appends n byte strings; ends[i] is where the i-th ends. */
int parquet_values_text(struct parquet_values *values, int32_t n, struct parquet_text *text,
                        int32_t *ends) WEIR_MUST_CHECK;

/* --- column.c ----------------------------------------------------------------------------- */

struct parquet_column { /* one leaf of the selection */
    struct weir_parquet_reader *reader;
    const struct parquet_slot *slot;
    const struct weir_parquet_node *node;
    const struct parquet_chunk *chunk;
    uint64_t offset; /* next unread byte of the chunk */
    uint64_t end;
    int64_t values_left; /* levels not yet seen in a page */
    int64_t page_left;   /* levels of the open page not yet decoded */
    struct parquet_rle definition;
    struct parquet_rle repetition;
    struct parquet_values values;
    struct weir_buffer window; /* raw bytes from the callback */
    uint64_t window_offset;
    struct weir_buffer page;
    struct weir_buffer dictionary_page;
    struct weir_buffer dictionary_slices;
    struct weir_buffer dictionary_shorts;
    /* decoded ahead, nested columns: levels of a block and where it is */
    int32_t ahead_at;
    int32_t ahead_count;
    uint8_t ahead_definition[PARQUET_BLOCK];
    uint8_t ahead_repetition[PARQUET_BLOCK];
    /* the batch under construction */
    struct weir_buffer out_definition;
    struct weir_buffer out_repetition;
    struct weir_buffer out_values; /* one per slot, nulls zeroed; bytes: the bytes */
    struct weir_buffer out_offsets;
    struct weir_buffer out_validity; /* one byte per slot */
    int64_t out_entries;
    int64_t out_slots;
    int64_t out_nulls;
    size_t text_bytes; /* of the last batch: what the next one will need */
};

void parquet_column_init(struct parquet_column *column, struct weir_parquet_reader *reader,
                         const struct parquet_slot *slot);
void parquet_column_fini(struct parquet_column *column);
int parquet_column_seek(struct parquet_column *column, int32_t group,
                        struct weir_error *err) WEIR_MUST_CHECK;
/* A flat column: steps over whole pages within the next *rows rows, and takes their rows off. */
int parquet_column_skip_pages(struct parquet_column *column, int64_t *rows,
                              struct weir_error *err) WEIR_MUST_CHECK;
/* Decodes the entries of the next `rows` rows into the out_ buffers. */
int parquet_column_read(struct parquet_column *column, int32_t rows,
                        struct weir_error *err) WEIR_MUST_CHECK;

/* Opens pages until one with entries is there. */
int parquet_column_load_page(struct parquet_column *column, struct weir_error *err) WEIR_MUST_CHECK;
/* n dense physical values, fixed or as slices, to batch form (not bytes). False: out of range. */
bool parquet_convert(enum parquet_convert convert, const uint8_t *fixed,
                     const struct parquet_slice *slices, int32_t n, uint8_t *to) WEIR_MUST_CHECK;

/* --- flat.c ------------------------------------------------------------------------------- */

/* A column that is neither nested nor repeated: its next rows straight into the batch. */
int parquet_flat_read(struct parquet_column *column, int32_t rows, struct weir_batch *batch,
                      struct weir_column *out, struct weir_error *err) WEIR_MUST_CHECK;

/* --- prune.c ------------------------------------------------------------------------------ */

struct parquet_predicate {
    int32_t column;
    enum weir_parquet_op op;
    uint8_t *value; /* owned */
    size_t size;
};

struct parquet_range { /* rows of a group */
    int64_t first;
    int64_t end;
};

/* Fills reader->ranges for the current row group. */
int parquet_prune_group(struct weir_parquet_reader *reader, struct weir_error *err) WEIR_MUST_CHECK;
void parquet_prune_drop(struct weir_parquet_reader *reader);
int parquet_reader_fetch(struct weir_parquet_reader *reader, uint64_t offset, size_t size,
                         uint8_t *to, struct weir_error *err) WEIR_MUST_CHECK;

/* --- assemble.c --------------------------------------------------------------------------- */

int parquet_assemble(struct weir_parquet_reader *reader, const struct parquet_slot *slot,
                     struct weir_batch *batch, struct weir_column *column, int64_t expected,
                     struct weir_error *err) WEIR_MUST_CHECK;
struct parquet_column *parquet_reader_column(const struct weir_parquet_reader *reader,
                                             int32_t leaf);

/* --- the reader ---------------------------------------------------------------------------- */

struct weir_parquet_reader {
    struct weir_parquet_reader_options options;
    size_t budget;
    struct parquet_arena arena;
    const uint8_t *memory; /* NULL: the callback */
    weir_parquet_read_fn read;
    void *read_ctx;
    uint64_t size;
    uint64_t data_end; /* where the footer begins */
    struct parquet_decompressor *decompressor;

    struct weir_parquet_node *nodes;
    int32_t node_count;
    int32_t *leaf_nodes; /* leaf -> node */
    int32_t leaf_count;
    struct parquet_row_group *groups;
    int32_t group_count;
    int64_t rows;
    const char *created_by;
    struct weir_parquet_key_value *metadata;
    int32_t metadata_count;

    struct weir_schema *schema;
    struct parquet_slot *slots; /* one per top-level column */
    int32_t *column_nodes;

    struct weir_schema *selected_schema;
    int32_t *selected; /* top-level columns */
    int32_t selected_count;
    struct parquet_column **columns; /* by leaf; NULL when not selected */

    struct parquet_predicate *predicates;
    int32_t predicate_count;
    struct weir_buffer ranges; /* struct parquet_range: what is left to read of the group */
    size_t range_at;

    int32_t group; /* being read */
    int64_t group_at;
    int64_t group_start; /* rows in the groups before */
    int64_t batch_start;
    bool failed;
};

int parquet_corrupt(const struct parquet_column *column, struct weir_error *err, const char *what);
