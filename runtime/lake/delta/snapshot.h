#pragma once
/* The state of a Delta table at one version: protocol, metadata, live files, transaction markers.
 * Built from the newest usable checkpoint and the commits after it; refreshed by reading only new
 * commits. Its size is bounded by live files (and unexpired tombstones, kept only as keys when a
 * checkpoint may be written from it), never by the length of the log.
 *
 * Layout of a table's folder (Delta protocol, "Delta Table Specification"):
 *   _delta_log/%020d.json                      commits, contiguous from a checkpoint on
 *   _delta_log/%020d.checkpoint.parquet        classic checkpoint
 *   _delta_log/%020d.checkpoint.%010d.%010d.parquet   one part of a multi-part checkpoint
 *   _delta_log/%020d.checkpoint.<uuid>.{json,parquet} V2 checkpoint, files in _sidecars/
 *   _delta_log/_last_checkpoint                a hint; stale, corrupt or missing is survived
 *   everything else                            data files, named by add actions
 *
 * Threads: one at a time. Blocks on the store. */
#include "batch/schema.h"
#include "lake/delta/actions.h"
#include "lake/store/store.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weir_delta_snapshot;

/* Which version: the latest, or one of two forms of time travel. */
struct weir_delta_at {
    enum { WEIR_DELTA_LATEST, WEIR_DELTA_VERSION, WEIR_DELTA_TIMESTAMP } kind;
    int64_t version;
    int64_t timestamp_ms; /* the last version committed at or before it */
};

/* What Delta says of a column beyond its type: the names and types under which Parquet files hold
 * it. Same tree shape as the schema's fields; list "element" and map "key"/"value" included. */
struct weir_delta_column {
    char *physical_name; /* owned; equals the name without column mapping */
    int32_t field_id;    /* column mapping id, or -1 */
    struct weir_delta_column *children;
    int32_t child_count;
};

/* Opens the table in directory `dir` of `store` (borrowed; outlives the snapshot).
 * WEIR_E_NOTFOUND when there is no table, or no such version; WEIR_E_UNSUPPORTED names a reader
 * feature or type we do not know; WEIR_E_CORRUPT says which file of the log. */
int weir_delta_snapshot_open(struct weir_store *store, const char *dir,
                             const struct weir_delta_at *at, struct weir_delta_snapshot **out,
                             struct weir_error *err) WEIR_MUST_CHECK;
void weir_delta_snapshot_destroy(struct weir_delta_snapshot *snapshot);

/* Reads commits newer than version() and applies them; cheap when there are none (one failed get).
 * On error the snapshot keeps the last whole version it reached. */
int weir_delta_snapshot_refresh(struct weir_delta_snapshot *snapshot,
                                struct weir_error *err) WEIR_MUST_CHECK;

int64_t weir_delta_snapshot_version(const struct weir_delta_snapshot *snapshot);
/* Commit time of version(): in-commit timestamp, else commitInfo or file time. */
int64_t weir_delta_snapshot_timestamp_ms(const struct weir_delta_snapshot *snapshot);
const struct weir_delta_protocol *
weir_delta_snapshot_protocol(const struct weir_delta_snapshot *snapshot);
const struct weir_delta_metadata *
weir_delta_snapshot_metadata(const struct weir_delta_snapshot *snapshot);
/* The table's schema, partition columns included. WEIR_E_UNSUPPORTED names a column whose type we
 * do not read (variant, interval, …). Borrowed, valid until the next refresh. */
int weir_delta_snapshot_schema(struct weir_delta_snapshot *snapshot,
                               const struct weir_schema **schema,
                               const struct weir_delta_column **columns,
                               struct weir_error *err) WEIR_MUST_CHECK;

int64_t weir_delta_snapshot_file_count(const struct weir_delta_snapshot *snapshot);
int64_t weir_delta_snapshot_file_bytes(const struct weir_delta_snapshot *snapshot);
/* Version of the newest txn action of this application, or -1. */
int64_t weir_delta_snapshot_txn(const struct weir_delta_snapshot *snapshot, const char *app_id);
/* Version of the newest complete checkpoint seen, or -1. */
int64_t weir_delta_snapshot_checkpoint_version(const struct weir_delta_snapshot *snapshot);

/* Live files, in no particular order. The add is borrowed. */
typedef int weir_delta_visit_add(void *context, const struct weir_delta_add *add,
                                 struct weir_error *err);
int weir_delta_snapshot_each_file(const struct weir_delta_snapshot *snapshot,
                                  weir_delta_visit_add *visit, void *context,
                                  struct weir_error *err) WEIR_MUST_CHECK;

/* The features this binary reads, and those it can append under: WEIR_E_UNSUPPORTED names the
 * first one it does not know. */
int weir_delta_check_readable(const struct weir_delta_protocol *protocol,
                              struct weir_error *err) WEIR_MUST_CHECK;
int weir_delta_check_appendable(const struct weir_delta_protocol *protocol,
                                const struct weir_delta_metadata *metadata,
                                struct weir_error *err) WEIR_MUST_CHECK;

#ifdef __cplusplus
}
#endif
