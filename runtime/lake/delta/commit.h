#pragma once
/* Writing to a Delta table's log: create, append, add columns, checkpoint, clean up.
 *
 * An append is a blind one: it reads nothing of the table, so it commutes with every other commit
 * but a change of metadata or protocol (Delta protocol and ConflictChecker; docs/formats/delta.md).
 * It is tried at the held snapshot's version + 1 by put-if-absent; losing the race means reading
 * the winners and trying again, with jitter, for as long as `stop` allows. Exactly-once is built
 * in: a commit carries txn (appId, version) and is skipped when the table already holds that
 * version or a higher one. An attempt whose outcome is unknown is resolved by reading the entry
 * back and comparing commitInfo.txnId.
 *
 * A weir_delta_table is held open by one writer thread; its cost per commit does not depend on the
 * log's length. kill -9 at any instant leaves the table at the old or the new version. */
#include "lake/delta/snapshot.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weir_delta_table;

/* A partition column is a column of the data, or derived from a timestamp or date column, in UTC:
 * date → `<column>_date` of type date; hour → `<column>_hour`, int32 0..23. Derived columns are
 * the last ones of the table's schema. */
enum weir_delta_transform { WEIR_DELTA_IDENTITY, WEIR_DELTA_DATE, WEIR_DELTA_HOUR };

struct weir_delta_partition {
    const char *column;
    enum weir_delta_transform transform;
};

struct weir_delta_create_options {
    const struct weir_schema *schema; /* of the data */
    const struct weir_delta_partition *partitions;
    int32_t partition_count;
    const struct weir_delta_pair *properties; /* table properties, or NULL */
    int32_t property_count;
    const char *description; /* or NULL */
    const char *app_id;      /* of the markers of who writes, or NULL */
};

/* The schema a table for these options has: data columns, then derived ones. The caller owns the
 * reference. WEIR_E_SCHEMA: no such column, a clash of names (compared without case), a type that
 * cannot be a partition. */
int weir_delta_table_schema(const struct weir_delta_create_options *options,
                            struct weir_schema **out, struct weir_error *err) WEIR_MUST_CHECK;

/* Writes version 0 and opens the table. WEIR_E_EXISTS when `dir` already holds a table. `dir` is
 * relative to the store's root. */
int weir_delta_table_create(struct weir_store *store, const char *dir,
                            const struct weir_delta_create_options *options,
                            struct weir_delta_table **out, struct weir_error *err) WEIR_MUST_CHECK;
/* WEIR_E_NOTFOUND when there is none; WEIR_E_UNSUPPORTED when we may not append to it. */
int weir_delta_table_open(struct weir_store *store, const char *dir, struct weir_delta_table **out,
                          struct weir_error *err) WEIR_MUST_CHECK;
/* Open, or create when there is none; an existing table must have the same columns and types
 * (WEIR_E_SCHEMA otherwise, naming the first difference) and partitioning. Columns of `options`
 * that the table lacks are accepted when `may_add_columns`, and columns that may not be null are
 * let go where app_id wrote to the table before: the caller then commits both with
 * weir_delta_add_columns. */
int weir_delta_table_open_or_create(struct weir_store *store, const char *dir,
                                    const struct weir_delta_create_options *options,
                                    bool may_add_columns, struct weir_delta_table **out,
                                    struct weir_error *err) WEIR_MUST_CHECK;
/* Whether an open table takes rows of `options`, as weir_delta_table_open_or_create would have it
 * with may_add_columns. */
int weir_delta_table_takes(const struct weir_delta_table *table,
                           const struct weir_delta_create_options *options,
                           struct weir_error *err) WEIR_MUST_CHECK;
void weir_delta_table_close(struct weir_delta_table *table);

/* The held snapshot, at the last version this table read or wrote. Borrowed. */
struct weir_delta_snapshot *weir_delta_table_snapshot(struct weir_delta_table *table);
struct weir_store *weir_delta_table_store(struct weir_delta_table *table);
const char *weir_delta_table_dir(const struct weir_delta_table *table);
int weir_delta_table_refresh(struct weir_delta_table *table,
                             struct weir_error *err) WEIR_MUST_CHECK;

/* How often other writers changed the columns since it was opened: rows to come are better written
 * by a new weir_delta_writer, which gives them the names and types the table has now. */
uint32_t weir_delta_table_schema_changes(const struct weir_delta_table *table);

/* Files to come have other columns: those of the files before may be removed by other writers, who
 * take nothing from them (a column that a table lacks is not read). */
void weir_delta_table_writes_others(struct weir_delta_table *table);

/* True when the writer should give up (shutdown). Asked before each retry. */
typedef bool weir_delta_stop(void *context);

struct weir_delta_commit_options {
    struct weir_delta_txn txn; /* app_id NULL: none */
    const char *operation;     /* NULL: "STREAMING UPDATE" when txn is given, else "WRITE" */
    weir_delta_stop *stop;     /* or NULL: retries without end */
    void *stop_context;
};

struct weir_delta_commit_result {
    int64_t version; /* the version written; when skipped, the table's version */
    int32_t attempts;
    bool skipped; /* the table already holds this txn: nothing was written */
};

/* Appends files that are already durable. The adds' texts are written as they are. WEIR_E_SCHEMA
 * when the table's id changed (it was dropped and made anew) or its schema no longer takes these
 * files; WEIR_E_CLOSED when `stop` said so. */
int weir_delta_append(struct weir_delta_table *table, struct weir_delta_add *const *adds,
                      int32_t add_count, const struct weir_delta_commit_options *options,
                      struct weir_delta_commit_result *result,
                      struct weir_error *err) WEIR_MUST_CHECK;

/* Commits a metaData action with these fields added (nullable, at the end, before nothing else
 * changes). Fields the table already has with the same type are skipped, but where they may be null
 * and the table's not, the table's may from then on; so it may be repeated. */
int weir_delta_add_columns(struct weir_delta_table *table, const struct weir_field *fields,
                           int32_t field_count, const struct weir_delta_commit_options *options,
                           struct weir_delta_commit_result *result,
                           struct weir_error *err) WEIR_MUST_CHECK;

/* Both in one commit: the fields the table lacks, then the files, which hold them already. As
 * weir_delta_append where it lacks none, as weir_delta_add_columns without files. */
int weir_delta_append_columns(struct weir_delta_table *table, const struct weir_field *fields,
                              int32_t field_count, struct weir_delta_add *const *adds,
                              int32_t add_count, const struct weir_delta_commit_options *options,
                              struct weir_delta_commit_result *result,
                              struct weir_error *err) WEIR_MUST_CHECK;

/* Every how many commits a checkpoint is due (table property delta.checkpointInterval, else 10). */
bool weir_delta_checkpoint_due(const struct weir_delta_table *table);
/* Another table of the same folder, of which this is the snapshot, wrote a checkpoint. */
void weir_delta_checkpoint_seen(struct weir_delta_table *table,
                                const struct weir_delta_snapshot *other);
/* Writes the version checksum (`<version>.crc`) of the held snapshot, where there is none yet; not
 * synced, since nothing depends on it. */
int weir_delta_checksum(struct weir_delta_table *table, struct weir_error *err) WEIR_MUST_CHECK;
/* Writes a checkpoint of the held snapshot (classic; V2 with sidecars where the table says so by
 * delta.checkpointPolicy), streamed in bounded memory, then the `_last_checkpoint` hint, then
 * removes log files that have expired (30 days, or delta.logRetentionDuration; never the newest
 * checkpoint at or before the limit nor anything after it). Skips when that version already has
 * one. May be repeated after any failure. */
int weir_delta_checkpoint(struct weir_delta_table *table, struct weir_error *err) WEIR_MUST_CHECK;

#ifdef __cplusplus
}
#endif
