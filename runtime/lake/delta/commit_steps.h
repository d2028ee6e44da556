#pragma once
/* What one commit did to rows, file by file (Delta protocol, "Change Data Files"): its change files
 * where it has any; else the rows of removed files went and those of added ones came, and of a file
 * that only changed its deletion vector those between the two. */
#include "batch/batch.h"
#include "lake/delta/cursor.h"

enum delta_step_kind {
    DELTA_STEP_TYPED,   /* `_change_type` of each row says it */
    DELTA_STEP_DELETES, /* rows that went */
    DELTA_STEP_INSERTS, /* rows that came */
};

struct delta_step {
    enum delta_step_kind kind;
    const struct weir_delta_add *file;
    const struct weir_delta_add *other; /* the same file, with its other vector; or NULL */
};

struct delta_commit {
    int64_t version;
    int64_t timestamp_ms;
    bool has_metadata;
    bool feed_off; /* it has metadata, which turns the feed off */
    struct delta_step *steps;
    int32_t step_count;
    struct weir_delta_adds adds; /* the files of the steps */
    struct weir_delta_adds removes;
    struct weir_delta_adds cdc;
};

/* Zeroed, or of the last call. WEIR_E_NOTFOUND: the log has no such version. WEIR_E_UNSUPPORTED: it
 * turns the feed off. */
int delta_commit_read(struct delta_commit *commit, struct weir_store *store, const char *dir,
                      int64_t version, struct weir_error *err) WEIR_MUST_CHECK;
void delta_commit_fini(struct delta_commit *commit);

/* The message for it. */
int delta_feed_is_off(int64_t version, struct weir_error *err);

/* Rows of the step are those that `bits` has; where those are NULL, the ones the file's own vector
 * does not hide (cursor->deleted). The caller frees them. Close the cursor also after an error. */
int delta_step_open(struct delta_cursor *cursor, struct weir_delta_snapshot *snapshot,
                    const struct delta_step *step, int64_t version, struct weir_schema *schema,
                    const struct weir_delta_column *columns, struct weir_pool *pool, uint8_t **bits,
                    struct weir_error *err) WEIR_MUST_CHECK;
