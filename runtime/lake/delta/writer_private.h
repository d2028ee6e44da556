#pragma once
/* The writer of data files, made and unmade in writer_make.c, at work in writer.c. */
#include "lake/delta/duties.h"
#include "lake/delta/partition.h"
#include "lake/delta/table_state.h"
#include "lake/delta/writer.h"
#include "lake/parquet/writer.h"

#define WRITER_KEY_BYTES_MAX ((size_t)16 << 20)

/* One partition value and, when it has rows, its open file. */
struct writer_slot {
    uint64_t hash;
    struct weir_buffer key;
    struct weir_delta_pair *values; /* owned texts; partition_count of them */
    char *folder;                   /* "a=1/b=x/", not yet URI-encoded */
    struct weir_parquet_writer *parquet;
    struct weir_store_file *file;
    char *name; /* path under the table's folder, as on disk */
    bool named; /* the file's name is durable */
    int32_t *sel;
    int32_t sel_count;
};

/* A finished, not yet synced file. */
struct writer_finished {
    struct weir_store_file *file;
    struct weir_delta_add *add;
    char *folder;
    bool named;
};

struct weir_delta_writer {
    struct weir_store *store;
    char *dir;
    char *folder;               /* in front of every partition's */
    struct weir_schema *schema; /* under the names files have */
    struct weir_schema *fitted; /* rows under the table's names and types; NULL: they have them */
    int32_t *field_ids;
    struct weir_delta_duties *duties; /* or NULL */
    bool judged;
    uint8_t verdict[WEIR_BATCH_ROWS_MAX];
    struct delta_partition_column *partitions;
    int32_t partition_count;
    bool *excluded;
    struct weir_parquet_writer_options parquet;
    int32_t sorted_by[DELTA_SORTED_BY_MAX];
    const char *codec_name;
    int32_t stats_leaves;
    bool *stats_skipped; /* leaves the table's list of columns leaves out; NULL: no list */
    int32_t hidden_columns;
    int32_t stats_chars;
    size_t memory_bytes;
    size_t target_bytes;
    struct writer_slot *slots;
    int32_t slot_count;
    int32_t slot_max;
    int32_t *table; /* hash to slot index + 1; a power of two */
    uint32_t table_mask;
    struct weir_parquet_writer **idle;
    int32_t idle_count;
    struct writer_finished *finished;
    int32_t finished_count;
    int32_t finished_capacity;
    struct weir_store_file **unsynced; /* scratch of the seal */
    int32_t unsynced_capacity;
    struct weir_buffer key;
    int64_t rows;
    bool opened; /* some open file is not named yet */
    uint32_t file_number;
};

/* A file it has open is removed. */
void writer_slot_fini(struct weir_delta_writer *writer, struct writer_slot *slot);
