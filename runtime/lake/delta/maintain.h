#pragma once
/* What optimize, vacuum, restore and retention share: a snapshot without its files to read by while
 * the table goes on, commits made of ready actions, and what a run says of its progress. */
#include "lake/delta/table_state.h"

/* A copy of what reading data files needs (schema, protocol, properties, place), without the list
 * of files: lets a thread read while another commits. weir_delta_snapshot_destroy. */
int delta_snapshot_head(const struct weir_delta_snapshot *from, struct weir_delta_snapshot **out,
                        struct weir_error *err) WEIR_MUST_CHECK;

/* The same table as when `head` was taken: id, schema, partitioning and column mapping. */
bool delta_same_table(const struct weir_delta_snapshot *head,
                      const struct weir_delta_snapshot *now);

/* Tries to commit these actions at the held snapshot's version + 1 and, when that is done, applies
 * them to it. WEIR_E_CONFLICT: another writer has that version. */
int delta_commit_actions(struct weir_delta_table *table, const struct delta_commit_body *body,
                         struct weir_error *err) WEIR_MUST_CHECK;

/* Refuses tables with a feature whose duties for rewritten files are not known here. `what` names
 * the operation in messages. */
int delta_check_maintainable(const struct weir_delta_table *table, const char *what,
                             struct weir_error *err) WEIR_MUST_CHECK;

#define DELTA_FEED_PROPERTY "delta.enableChangeDataFeed"
bool delta_property_is_true(const struct weir_delta_metadata *metadata, const char *key);
/* Refuses to take rows out of an append-only table. */
int delta_check_may_remove(const struct weir_delta_table *table, const char *what,
                           struct weir_error *err) WEIR_MUST_CHECK;

/* numRecords of a file's statistics, or -1. */
int64_t delta_add_rows(const struct weir_delta_add *add);
/* "a=1/b=x/" of a file's partition values, "" without; the caller frees. NULL without memory. */
char *delta_add_folder(const struct weir_delta_add *add);
/* Orders files by their partition values, null first. Empty text, which Delta takes for null, is
 * not put together with it: not every reader does so. */
int delta_compare_partitions(const struct weir_delta_add *a, const struct weir_delta_add *b);

/* Removes the files of these adds, best effort: what stays is garbage that no commit names. */
void delta_remove_files(struct weir_store *store, const char *dir,
                        const struct weir_delta_adds *adds);
