#pragma once
/* Writes batches as the data files of a Delta table: splits rows by partition, streams one Parquet
 * file per open partition into the table's folder under a fresh unique name, and at a seal closes
 * and syncs them and returns the add actions that a commit will carry. Nothing here touches the
 * log: a file that no commit names is invisible, so a kill leaves only garbage that VACUUM finds.
 *
 * Memory: one budget for all partitions of the writer; when it is passed the partition with the
 * most buffered bytes is rolled (its file finished) first. Thread: one at a time; blocks on the
 * store. Syncs: a folder's once its new file is open, in the append that opened it; the files' at
 * the seal, all at once: the time from a seal to durable bytes is that of one sync. */
#include "batch/batch.h"
#include "lake/delta/commit.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weir_delta_writer;

enum { DELTA_SORTED_BY_MAX = 8 };

enum weir_delta_codec {
    WEIR_DELTA_CODEC_TABLE, /* delta.parquet.compression.codec, else zstd */
    WEIR_DELTA_CODEC_ZSTD,
    WEIR_DELTA_CODEC_SNAPPY,
    WEIR_DELTA_CODEC_NONE,
};

struct weir_delta_writer_options {
    size_t memory_bytes;      /* 0: 64 MiB */
    size_t target_file_bytes; /* 0: 128 MiB; a file that reaches it is finished */
    int32_t open_files_max;   /* 0: 256 partitions open at once */
    enum weir_delta_codec codec;
    int level;              /* zstd; 0: 1 */
    int32_t hidden_columns; /* the last of the schema's: none of the table's, without statistics */
    const char *folder;     /* files go under it: "_change_data/"; NULL: the table's folder */
    bool as_is;        /* rows are the table's own, rewritten: they owe it nothing (duties.h) */
    bool large_groups; /* row groups for readers that load whole columns, ended by end_group */
    const int32_t *sorted_by; /* of the schema's columns: rows rise by them up to each end_group */
    int32_t sorted_by_count;
    bool judged; /* rows were judged by the caller; else one that fails is an error */
};

/* Columns the table generates or has defaults for are filled in where `schema` lacks them. Without
 * `partitions` the table's own are taken, where they are columns of the rows or filled in.
 * `schema` and `partitions` are those of weir_delta_create_options: batches hold data columns only,
 * derived partition values are computed here. `options` may be NULL. The table is borrowed and only
 * its settings are read, at creation: the committing thread may go on using it. */
int weir_delta_writer_create(struct weir_delta_table *table, const struct weir_schema *schema,
                             const struct weir_delta_partition *partitions, int32_t partition_count,
                             const struct weir_delta_writer_options *options,
                             struct weir_delta_writer **out,
                             struct weir_error *err) WEIR_MUST_CHECK;
/* Files not sealed are removed. */
void weir_delta_writer_destroy(struct weir_delta_writer *writer);

/* Appends rows sel[0..count) of the batch (sel NULL: rows 0..count). The batch is not kept. After
 * an error only destroy makes sense. */
int weir_delta_writer_append(struct weir_delta_writer *writer, struct weir_batch *batch,
                             const int32_t *sel, int32_t count,
                             struct weir_error *err) WEIR_MUST_CHECK;

/* Ends the row groups of all open files. */
int weir_delta_writer_end_group(struct weir_delta_writer *writer,
                                struct weir_error *err) WEIR_MUST_CHECK;

/* Finishes, syncs and names all files with rows, and moves their adds to `adds` (appended). The
 * writer is empty afterwards and may go on. */
int weir_delta_writer_seal(struct weir_delta_writer *writer, struct weir_delta_adds *adds,
                           struct weir_error *err) WEIR_MUST_CHECK;

int64_t weir_delta_writer_rows(const struct weir_delta_writer *writer); /* since the last seal */
size_t weir_delta_writer_memory(const struct weir_delta_writer *writer);

/* True when every file these adds name exists with its size (recovery, before a redo). */
int weir_delta_adds_exist(struct weir_delta_table *table, struct weir_delta_add *const *adds,
                          int32_t count, struct weir_error *err) WEIR_MUST_CHECK;

#ifdef __cplusplus
}
#endif
