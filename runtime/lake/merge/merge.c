/* What is fixed for a merge, its attempts, and what its commit does to the held snapshot. */
#include "lake/merge/merge.h"
#include "lake/delta/follow.h"
#include "lake/delta/maintain.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/fault.h"
#include "lake/merge/merge_internal.h"

#define ACTIONS_BYTES_MAX ((size_t)1 << 30)

int delta_merge_no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "merge: out of memory");
}

/* --- what the changes are ------------------------------------------------------------------ */

static int find_columns(struct delta_merge *merge, struct weir_error *err) {
    const struct weir_delta_merge_options *options = merge->options;
    const struct weir_schema *schema = merge->changes[0]->schema;
    merge->time = -1;
    merge->change = -1;
    merge->unavailable =
        options->unavailable != NULL ? weir_schema_find(schema, options->unavailable) : -1;
    if (merge->unavailable >= 0 &&
        (schema->fields[merge->unavailable].type != WEIR_TYPE_LIST ||
         schema->fields[merge->unavailable].children[0].type != WEIR_TYPE_STRING)) {
        return weir_error_set(err, WEIR_E_SCHEMA, "merge: %s is no list of columns",
                              options->unavailable);
    }
    if (options->key_count < 1 || options->key_count > DELTA_MERGE_KEYS_MAX) {
        return weir_error_set(err, WEIR_E_SCHEMA, "merge: a key has 1 to %d columns",
                              DELTA_MERGE_KEYS_MAX);
    }
    for (int32_t i = 0; i < options->key_count; i++) {
        int32_t at = weir_schema_find(schema, options->keys[i]);
        if (at < 0 || !delta_key_type(schema->fields[at].type)) {
            return weir_error_set(
                err, WEIR_E_SCHEMA, "merge: %s %s; name a column of numbers, text or time",
                at < 0 ? "there is no key column" : "a nested column cannot be a key:",
                options->keys[i]);
        }
        merge->key_columns[i] = at;
    }
    merge->key_count = options->key_count;
    if (options->time != NULL) {
        merge->time = weir_schema_find(schema, options->time);
        uint8_t type = merge->time >= 0 ? schema->fields[merge->time].type : WEIR_TYPE_NONE;
        if (!weir_type_is_timestamp(type) && type != WEIR_TYPE_DATE &&
            !(type >= WEIR_TYPE_INT8 && type <= WEIR_TYPE_INT64)) {
            return weir_error_set(err, WEIR_E_SCHEMA,
                                  "merge: the newest row wins by %s, which is no column of times",
                                  options->time);
        }
    }
    if (options->change != NULL) {
        merge->change = weir_schema_find(schema, options->change);
        uint8_t type = merge->change >= 0 ? schema->fields[merge->change].type : WEIR_TYPE_NONE;
        if (type < WEIR_TYPE_INT8 || type > WEIR_TYPE_INT64) {
            return weir_error_set(err, WEIR_E_SCHEMA, "merge: there is no integer column %s",
                                  options->change);
        }
    }
    return WEIR_OK;
}

static int read_changes(struct delta_merge *merge, struct weir_batch *const *changes,
                        int32_t change_count, const struct weir_delta_merge_options *options,
                        struct weir_error *err) {
    merge->changes = changes;
    merge->change_count = change_count;
    merge->options = options;
    int rc = find_columns(merge, err);
    if (rc == WEIR_OK) {
        rc = delta_keys_init(&merge->keys, changes, change_count, merge->key_columns,
                             merge->key_count, merge->time, merge->change, merge->unavailable, err);
    }
    return rc;
}

static int compare_rows(const void *a, const void *b) {
    int64_t left = *(const int64_t *)a;
    int64_t right = *(const int64_t *)b;
    return left < right ? -1 : left > right;
}

/* Ascending, each once; how many are left. */
static int64_t sort_rows(int64_t *rows, int64_t count) {
    int64_t kept = 0;
    qsort(rows, (size_t)count, sizeof(*rows), compare_rows);
    for (int64_t i = 0; i < count; i++) {
        if (kept == 0 || rows[i] != rows[kept - 1]) {
            rows[kept++] = rows[i];
        }
    }
    return kept;
}

int weir_delta_net(struct weir_batch *const *changes, int32_t change_count,
                   const struct weir_delta_merge_options *options, int64_t **rows, int64_t *count,
                   struct weir_error *err) {
    struct delta_merge merge = {0};
    *rows = NULL;
    *count = 0;
    if (change_count == 0) {
        return WEIR_OK;
    }
    int rc = read_changes(&merge, changes, change_count, options, err);
    int64_t *starts = calloc((size_t)change_count + 1, sizeof(*starts));
    size_t most = (size_t)merge.keys.count + (size_t)merge.keys.part_count + 1;
    *rows = rc == WEIR_OK ? malloc(most * sizeof(**rows)) : NULL;
    if (rc == WEIR_OK && (starts == NULL || *rows == NULL)) {
        rc = delta_merge_no_memory(err);
    }
    for (int32_t i = 0; rc == WEIR_OK && i < change_count; i++) {
        starts[i + 1] = starts[i] + changes[i]->rows;
    }
    for (int64_t i = 0; rc == WEIR_OK && i < merge.keys.count; i++) {
        const struct delta_entry *entry = &merge.keys.entries[i];
        (*rows)[(*count)++] = starts[entry->batch] + entry->row;
        for (int32_t k = 0; k < entry->part_count; k++) {
            const struct delta_part *part = &merge.keys.parts[entry->first_part + k];
            if (part->batch >= 0) {
                (*rows)[(*count)++] = starts[part->batch] + part->row;
            }
        }
    }
    if (rc == WEIR_OK) {
        *count = sort_rows(*rows, *count);
    } else {
        free(*rows);
        *rows = NULL;
    }
    free(starts);
    delta_keys_fini(&merge.keys);
    return rc;
}

/* --- what the table is --------------------------------------------------------------------- */

static bool is_derived(const struct weir_delta_merge_options *options, const char *name) {
    static const char *const tails[] = {"", "_date", "_hour"};
    for (int32_t i = 0; i < options->partition_count; i++) {
        const struct weir_delta_partition *partition = &options->partitions[i];
        size_t length = strlen(partition->column);
        if (partition->transform != WEIR_DELTA_IDENTITY &&
            strncmp(name, partition->column, length) == 0 &&
            strcmp(name + length, tails[partition->transform]) == 0) {
            return true;
        }
    }
    return false;
}

static void forget_table(struct delta_merge *merge) {
    weir_delta_writer_destroy(merge->writer);
    weir_delta_writer_destroy(merge->feed_writer);
    weir_schema_unref(merge->schema);
    weir_schema_unref(merge->feed_schema);
    free(merge->positions);
    free(merge->sources);
    free(merge->partitions);
    merge->writer = NULL;
    merge->feed_writer = NULL;
    merge->schema = NULL;
    merge->feed_schema = NULL;
    merge->positions = NULL;
    merge->sources = NULL;
    merge->partitions = NULL;
}

/* The table's partitioning: derived columns as the options say, the others by their own value. */
static int plan_partitions(struct delta_merge *merge, struct weir_error *err) {
    const struct weir_delta_metadata *metadata = &merge->table->snapshot->metadata;
    const struct weir_delta_merge_options *options = merge->options;
    merge->partition_count = metadata->partition_count;
    merge->partitions = calloc((size_t)metadata->partition_count + 1, sizeof(*merge->partitions));
    if (merge->partitions == NULL) {
        return delta_merge_no_memory(err);
    }
    for (int32_t i = 0; i < metadata->partition_count; i++) {
        const char *name = metadata->partition_columns[i];
        merge->partitions[i] =
            (struct weir_delta_partition){.column = name, .transform = WEIR_DELTA_IDENTITY};
        for (int32_t k = 0; k < options->partition_count; k++) {
            const struct weir_delta_merge_options one = {.partitions = &options->partitions[k],
                                                         .partition_count = 1};
            if (is_derived(&one, name)) {
                merge->partitions[i] = options->partitions[k];
            }
        }
    }
    return WEIR_OK;
}

static int plan_table(struct delta_merge *merge, struct weir_error *err) {
    struct weir_delta_table *table = merge->table;
    const struct weir_schema *changes = merge->changes[0]->schema;
    const struct weir_schema *schema;
    int rc = delta_check_may_remove(table, "merge", err);
    rc = rc == WEIR_OK ? delta_tracking_of(table->snapshot, &merge->tracking, &merge->tracked, err)
                       : rc;
    if (rc == WEIR_OK) {
        rc = weir_delta_snapshot_schema(table->snapshot, &schema, NULL, err);
    }
    if (rc != WEIR_OK) {
        return rc;
    }
    merge->schema = weir_schema_create();
    merge->positions = calloc((size_t)schema->count + 1, sizeof(*merge->positions));
    merge->sources = calloc((size_t)schema->count + 1, sizeof(*merge->sources));
    if (merge->schema == NULL || merge->positions == NULL || merge->sources == NULL) {
        return delta_merge_no_memory(err);
    }
    for (int32_t i = 0; i < schema->count && rc == WEIR_OK; i++) {
        const struct weir_field *field = &schema->fields[i];
        if (is_derived(merge->options, field->name)) {
            continue;
        }
        int32_t at = weir_schema_find(changes, field->name);
        if (at >= 0 && !delta_same_type(field, &changes->fields[at])) {
            return weir_error_set(err, WEIR_E_SCHEMA,
                                  "merge: column %s is of another type in table %s", field->name,
                                  table->dir);
        }
        if (at < 0 && !field->nullable) {
            return weir_error_set(err, WEIR_E_SCHEMA,
                                  "merge: the changes lack column %s, which may not be null in "
                                  "table %s; add it to the stream",
                                  field->name, table->dir);
        }
        merge->positions[merge->schema->count] = i;
        merge->sources[merge->schema->count] = at;
        rc = weir_schema_add(merge->schema, field);
    }
    merge->column_count = merge->schema->count;
    if (rc == WEIR_OK && merge->tracked) {
        rc = delta_tracking_add(&merge->tracking, merge->schema);
    }
    if (rc != WEIR_OK) {
        return delta_merge_no_memory(err);
    }
    for (int32_t i = 0; i < merge->key_count; i++) {
        const char *name = merge->options->keys[i];
        if (weir_schema_find(merge->schema, name) < 0) {
            return weir_error_set(err, WEIR_E_SCHEMA, "merge: table %s has no key column %s",
                                  table->dir, name);
        }
    }
    merge->use_vectors =
        delta_property_is_true(&table->snapshot->metadata, "delta.enableDeletionVectors");
    /* of a commit without change files readers take the rows of removed files as deletes */
    merge->feed = !merge->options->truncate &&
                  delta_property_is_true(&table->snapshot->metadata, DELTA_FEED_PROPERTY);
    return plan_partitions(merge, err);
}

/* --- attempts ------------------------------------------------------------------------------ */

static bool already_there(const struct delta_merge *merge) {
    const struct weir_delta_txn *txn = &merge->options->commit.txn;
    return txn->app_id != NULL &&
           weir_delta_snapshot_txn(merge->table->snapshot, txn->app_id) >= txn->version;
}

/* What this commit did, applied to the held snapshot from its own text. */
static int apply_own(struct delta_merge *merge, int64_t timestamp_ms, struct weir_error *err) {
    struct weir_delta_snapshot *snapshot = merge->table->snapshot;
    const struct weir_delta_txn *txn = &merge->options->commit.txn;
    const struct weir_delta_action_visitor visitor = {.context = snapshot,
                                                      .add = delta_apply_add,
                                                      .remove = delta_apply_remove,
                                                      .domain = delta_apply_domain};
    int rc = WEIR_OK;
    if (merge->actions.size > 0) {
        rc = weir_delta_actions_parse((const char *)merge->actions.data, merge->actions.size,
                                      "the merge's commit", &visitor, err);
    }
    if (rc == WEIR_OK && txn->app_id != NULL) {
        struct weir_delta_txn stamped = {txn->app_id, txn->version, timestamp_ms};
        rc = delta_apply_txn(snapshot, &stamped, err);
    }
    snapshot->version++;
    snapshot->timestamp_ms = timestamp_ms;
    return rc;
}

static int commit(struct delta_merge *merge, int64_t *timestamp_ms, struct weir_error *err) {
    struct delta_commit_body body = {
        .actions = &merge->actions,
        .operation =
            merge->options->commit.operation != NULL ? merge->options->commit.operation : "MERGE",
        .file_count = merge->adds.count,
        .row_count = merge->result->inserted + merge->result->updated,
        .parameters_json = "{\"predicate\":\"[]\",\"matchedPredicates\":\"[]\","
                           "\"notMatchedPredicates\":\"[]\"}",
    };
    for (int32_t i = 0; i < merge->adds.count; i++) {
        body.byte_count += merge->adds.items[i]->size_bytes;
    }
    return delta_commit_try(merge->table, &body, &merge->options->commit.txn, timestamp_ms, err);
}

/* Derives the actions from the held snapshot and tries to commit them. */
static int attempt(struct delta_merge *merge, struct weir_error *err) {
    struct weir_delta_merge_result *result = merge->result;
    struct weir_delta_commit_result committed = result->commit;
    int64_t timestamp_ms;
    memset(result, 0, sizeof(*result));
    result->commit = committed;
    result->commit.attempts++;
    int rc = merge->schema == NULL ? plan_table(merge, err) : WEIR_OK;
    if (rc == WEIR_OK) {
        rc = delta_merge_match(merge, err);
    }
    if (rc == WEIR_OK) {
        rc = delta_merge_write(merge, err);
    }
    if (rc == WEIR_OK && WEIR_FAULT(delta_merge_written)) {
        rc = weir_error_set(err, WEIR_E_FAULT, "injected at delta_merge_written");
    }
    bool tried = rc == WEIR_OK;
    if (tried) {
        rc = commit(merge, &timestamp_ms, err);
    }
    /* files go only where surely no commit names them: an attempt that failed otherwise may yet
     * turn out to have been made */
    bool lost = !tried || rc == WEIR_E_CONFLICT;
    if (rc == WEIR_OK) {
        rc = apply_own(merge, timestamp_ms, err);
    }
    delta_merge_discard(merge, lost);
    return rc;
}

int weir_delta_merge(struct weir_delta_table *table, struct weir_batch *const *changes,
                     int32_t change_count, const struct weir_delta_merge_options *options,
                     struct weir_delta_merge_result *result, struct weir_error *err) {
    struct delta_merge merge = {.table = table, .result = result};
    struct weir_delta_merge_result dropped;
    merge.result = result = result != NULL ? result : &dropped;
    memset(result, 0, sizeof(*result));
    weir_buffer_init(&merge.actions, ACTIONS_BYTES_MAX);
    const uint32_t schema_changes = table->schema_changes;
    int rc = WEIR_OK;
    if (change_count > 0) {
        rc = delta_check_maintainable(table, "merge", err);
    }
    struct weir_batch **full = NULL;
    if (rc == WEIR_OK && change_count > 0) {
        rc = delta_merge_complete(table, changes, change_count, options, &full, err);
        changes = full != NULL ? full : changes;
    }
    if (rc == WEIR_OK && change_count > 0) {
        rc = read_changes(&merge, changes, change_count, options, err);
    }
    if (rc == WEIR_OK && change_count > 0) {
        rc = delta_table_writes(table, changes[0]->schema, err);
    }
    while (rc == WEIR_OK && change_count > 0) {
        if (already_there(&merge)) {
            /* the commit that put it there may have died before its directory was synced */
            char *log = delta_log_path(table->dir, "%s", "");
            rc = log != NULL ? weir_store_sync_dir(table->store, log, err)
                             : delta_merge_no_memory(err);
            free(log);
            result->commit.skipped = rc == WEIR_OK;
            break;
        }
        rc = attempt(&merge, err);
        if (rc != WEIR_E_CONFLICT) {
            break;
        }
        rc = delta_commit_rebase(table, result->commit.attempts, &options->commit, err);
        forget_table(&merge);
        if (rc == WEIR_OK && table->schema_changes != schema_changes) {
            result->columns_changed = true;
            rc = weir_error_set(err, WEIR_E_CONFLICT, "another writer changed the table's columns");
        }
    }
    result->commit.version = table->snapshot->version;
    forget_table(&merge);
    free(merge.matches);
    free(merge.touched);
    free(merge.old);
    weir_buffer_fini(&merge.actions);
    delta_keys_fini(&merge.keys);
    delta_merge_free_changes(full, change_count);
    return rc == WEIR_OK ? rc : weir_error_wrap(err, "merge into table %s", table->dir);
}
