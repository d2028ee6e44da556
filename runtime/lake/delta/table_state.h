#pragma once
/* The inside of an open table and the steps its writing commands share. */
#include "lake/delta/commit.h"
#include "lake/delta/state.h"

struct weir_delta_table {
    struct weir_store *store; /* borrowed */
    char *dir;
    struct weir_delta_snapshot *snapshot;
    char *id;            /* metaData.id when opened */
    char *schema_string; /* the schema the caller's files were made for */
    char *duties;        /* weir_delta_duties_text when opened */
    char **written;      /* columns of files to come, by the names in files (follow.h) */
    int32_t written_count;
    uint32_t schema_changes;
    uint64_t random; /* jitter */
};

/* Same type text, nested fields included. */
bool delta_same_type(const struct weir_field *a, const struct weir_field *b);

#define DELTA_CHECKPOINT_INTERVAL 10
#define DELTA_UUID_BYTES 37

/* A column by name, whatever its case; -1: none. */
int32_t delta_find_column(const struct weir_schema *schema, const char *name);
/* Keeps what the snapshot says of the table, to see a change of it by. */
int delta_table_remember(struct weir_delta_table *table, struct weir_error *err) WEIR_MUST_CHECK;
/* The table's owner said that its types may become wider. */
bool delta_widens_by_itself(const struct weir_delta_table *table, const char *column);

/* A random (version 4) UUID. */
int delta_uuid(char out[DELTA_UUID_BYTES], struct weir_error *err) WEIR_MUST_CHECK;

/* What one commit holds besides commitInfo and txn. */
struct delta_commit_body {
    const char *operation;
    const char *parameters_json;       /* or NULL: taken from the txn */
    const char *metrics_json;          /* or NULL: the counts below */
    const struct weir_buffer *actions; /* whole lines */
    int32_t file_count;
    int64_t row_count;
    int64_t byte_count;
    bool blind;
};

/* Puts the adds' lines behind what `out` holds and, where rows are tracked, the ids they have in
 * version snapshot + 1; the body's counts are then theirs. */
int delta_format_adds(const struct weir_delta_table *table, struct weir_delta_add *const *adds,
                      int32_t count, struct delta_commit_body *body, struct weir_buffer *out,
                      struct weir_error *err) WEIR_MUST_CHECK;
/* Tries to write version snapshot + 1. WEIR_E_CONFLICT when another writer has it (surely not
 * this commit); the outcome of anything uncertain has been resolved. The snapshot is not moved. */
int delta_commit_try(struct weir_delta_table *table, const struct delta_commit_body *body,
                     const struct weir_delta_txn *txn, int64_t *timestamp_ms,
                     struct weir_error *err) WEIR_MUST_CHECK;
/* Removes commits and checkpoints older than the newest whole checkpoint at or before the cutoff
 * (delta.logRetentionDuration), then sidecars that no checkpoint left names. Without such a
 * checkpoint nothing is removed. The cutoff is a whole day, so that a table is not listed for
 * removal at every checkpoint but for the first of the day. */
int delta_log_clean(struct weir_delta_table *table, struct weir_error *err) WEIR_MUST_CHECK;
/* After a lost race: waits a little, reads the winners, and checks that the table still takes what
 * was made for it. */
int delta_commit_rebase(struct weir_delta_table *table, int32_t attempt,
                        const struct weir_delta_commit_options *options,
                        struct weir_error *err) WEIR_MUST_CHECK;
