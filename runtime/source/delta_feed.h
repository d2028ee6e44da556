#pragma once
/* What commits of a table do to rows, for the source `delta`: parts of a commit in the order they
 * are read, and what each row is. Rows that go come before those that come, so that a key's last
 * word is the newest row whatever order files are in. The old row of an update is left out, for
 * the new one replaces it by key; only where the update changed the key it goes, as a delete. */
#include <jansson.h>

#include "lake/delta/commit_steps.h"
#include "source/table_file.h"

enum { DELTA_FEED_KEYS_MAX = 16 };

struct delta_feed_part {
    struct delta_step step;
    bool goes; /* of typed rows, those that go; else those that come */
};

struct delta_feed {
    const char **keys; /* NULL: the source gives rows, not changes */
    int32_t key_count;
    struct delta_commit commit;
    struct delta_feed_part *parts;
    int32_t part_count;
    uint64_t *updated; /* hashes of the keys of the commit's new rows of updates, ascending */
    size_t updated_count;
    size_t updated_capacity;
    /* of the part being read */
    const struct delta_feed_part *part;
    uint8_t *bits;
    int32_t key_columns[DELTA_FEED_KEYS_MAX]; /* of its batches */
    uint64_t *hashes;
    struct table_file_told told;
};

/* The texts of `keys` (a JSON array) are borrowed. */
int delta_feed_init(struct delta_feed *feed, const json_t *keys,
                    struct weir_error *err) WEIR_MUST_CHECK;
void delta_feed_fini(struct delta_feed *feed);
/* The table's columns with those that say what became of a row; a reference for the caller. */
int delta_feed_columns(const struct delta_feed *feed, const struct weir_schema *table,
                       struct weir_schema **out, struct weir_error *err) WEIR_MUST_CHECK;
/* Forgets the parts at hand. */
void delta_feed_clear(struct delta_feed *feed);
/* The parts of a version. WEIR_E_NOTFOUND: the log has none such. */
int delta_feed_take(struct delta_feed *feed, struct weir_delta_snapshot *snapshot, int64_t version,
                    struct weir_pool *pool, struct weir_error *err) WEIR_MUST_CHECK;
/* The parts of a snapshot: its files (borrowed), all of whose rows come. */
int delta_feed_take_files(struct delta_feed *feed, const struct weir_delta_snapshot *snapshot,
                          const struct weir_delta_adds *files,
                          struct weir_error *err) WEIR_MUST_CHECK;
/* Opens the cursor of `file` at a part, whose rows table_file_next then gives. */
int delta_feed_open(struct delta_feed *feed, int32_t part, struct table_file *file,
                    struct weir_delta_snapshot *snapshot, struct weir_error *err) WEIR_MUST_CHECK;
