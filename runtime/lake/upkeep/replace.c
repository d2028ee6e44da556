#include "lake/upkeep/replace.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "lake/delta/duties.h"
#include "lake/delta/maintain.h"
#include "lake/delta/row_tracking.h"
#include "lake/delta/scan.h"
#include "lake/delta/where.h"
#include "lake/delta/writer.h"

#define ACTIONS_BYTES_MAX ((size_t)1 << 30)
#define POOL_BYTES ((size_t)256 << 20)

struct replacing {
    struct weir_delta_table *table;
    struct weir_delta_snapshot *from;
    const struct weir_delta_replace_options *options;
    struct weir_delta_replace_result *result;
    struct weir_delta_snapshot *head; /* of the table when it was begun */
    struct delta_where *where;
    struct weir_delta_adds old; /* copies of what goes */
    struct weir_delta_adds made;
    struct weir_delta_writer *writer;
    struct weir_pool *pool;
    int32_t sel[WEIR_BATCH_ROWS_MAX];
};

static int no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "replace: out of memory");
}

/* --- the new rows -------------------------------------------------------------------------- */

static int write_rows(void *context, struct weir_batch **batch, int64_t first_row,
                      const uint8_t *deleted, struct weir_error *err) {
    struct replacing *replacing = context;
    int32_t count = 0;
    for (int32_t i = 0; i < (*batch)->rows; i++) {
        if (deleted == NULL || !weir_bit_get(deleted, first_row + i)) {
            replacing->sel[count++] = i;
        }
    }
    replacing->result->rows += count;
    return weir_delta_writer_append(replacing->writer, *batch, replacing->sel, count, err);
}

static int write_file(void *context, const struct weir_delta_add *add, struct weir_error *err) {
    struct replacing *replacing = context;
    return delta_scan_file(replacing->from, add, NULL, 0, NULL, replacing->pool, write_rows,
                           replacing, err);
}

static int check_columns(const struct replacing *replacing, const struct weir_schema *rows,
                         struct weir_error *err) {
    const struct weir_schema *have;
    int rc = weir_delta_snapshot_schema(replacing->head, &have, NULL, err);
    for (int32_t i = 0; i < rows->count && rc == WEIR_OK; i++) {
        int32_t at = weir_schema_find(have, rows->fields[i].name);
        if (at < 0 || !delta_same_type(&rows->fields[i], &have->fields[at])) {
            rc = weir_error_set(
                err, WEIR_E_SCHEMA, "the new rows have column %s of type %s, the table has %s",
                rows->fields[i].name, weir_type_name((enum weir_type)rows->fields[i].type),
                at < 0 ? "none of that name"
                       : weir_type_name((enum weir_type)have->fields[at].type));
        }
    }
    for (int32_t i = 0; rc == WEIR_OK && i < have->count; i++) {
        const struct weir_field *field = &have->fields[i];
        int32_t at = weir_schema_find(rows, field->name);
        bool filled = at < 0 && weir_delta_fills(&replacing->head->metadata, field->name);
        bool partition = false;
        for (int32_t p = 0; p < replacing->head->metadata.partition_count; p++) {
            partition |= strcmp(replacing->head->metadata.partition_columns[p], field->name) == 0;
        }
        bool nulls = at < 0 ? !filled : rows->fields[at].nullable;
        if ((nulls && !field->nullable) || (at < 0 && partition && !filled)) {
            rc = weir_error_set(err, WEIR_E_SCHEMA,
                                "column %s of the table %s, which the new rows "
                                "do not keep to",
                                field->name, partition ? "is a partition's" : "may not be null");
        }
    }
    return rc;
}

static int write_all(struct replacing *replacing, struct weir_error *err) {
    struct weir_delta_table *table = replacing->table;
    const struct weir_schema *rows;
    int rc = weir_delta_snapshot_schema(replacing->from, &rows, NULL, err);
    rc = rc == WEIR_OK ? check_columns(replacing, rows, err) : rc;
    if (rc == WEIR_OK) {
        rc = weir_delta_writer_create(table, rows, NULL, 0, NULL, &replacing->writer, err);
    }
    if (rc == WEIR_OK) {
        rc = weir_delta_snapshot_each_file(replacing->from, write_file, replacing, err);
    }
    if (rc == WEIR_OK) {
        rc = weir_delta_writer_seal(replacing->writer, &replacing->made, err);
    }
    for (int32_t i = 0; i < replacing->made.count && rc == WEIR_OK; i++) {
        if (!delta_where_holds(replacing->where, replacing->made.items[i])) {
            rc = weir_error_set(err, WEIR_E_DATA,
                                "new rows lie outside of `%.200s` (file %.200s); choose them, or "
                                "the predicate, so that they do not",
                                replacing->options->where, replacing->made.items[i]->path);
        }
    }
    return rc;
}

/* --- the commit ---------------------------------------------------------------------------- */

static int choose(void *context, const struct weir_delta_add *add, struct weir_error *err) {
    struct replacing *replacing = context;
    if (!delta_where_holds(replacing->where, add)) {
        return WEIR_OK;
    }
    struct weir_delta_add *copy = weir_delta_add_dup(add);
    if (copy == NULL || weir_delta_adds_push(&replacing->old, copy) != WEIR_OK) {
        free(copy);
        return no_memory(err);
    }
    return WEIR_OK;
}

struct comparing {
    const struct replacing *replacing;
    int32_t count;
};

static int count_file(void *context, const struct weir_delta_add *add, struct weir_error *err) {
    struct comparing *comparing = context;
    (void)err;
    comparing->count += delta_where_holds(comparing->replacing->where, add);
    return WEIR_OK;
}

/* The partitions are as they were when the work began: what came or went there since would be
 * undone unseen. */
static int check_untouched(const struct replacing *replacing, struct weir_error *err) {
    const struct weir_delta_table *table = replacing->table;
    struct comparing comparing = {.replacing = replacing};
    int rc = weir_delta_snapshot_each_file(table->snapshot, count_file, &comparing, err);
    bool same = comparing.count == replacing->old.count &&
                delta_same_table(replacing->head, table->snapshot);
    for (int32_t i = 0; i < replacing->old.count && same; i++) {
        same = delta_snapshot_find(table->snapshot, replacing->old.items[i]) != NULL;
    }
    if (rc == WEIR_OK && !same) {
        rc = weir_error_set(err, WEIR_E_CONFLICT,
                            "another writer changed what `%.200s` picks out while the new rows "
                            "were written; nothing was done, run it again",
                            replacing->options->where);
    }
    return rc;
}

static int format_actions(const struct replacing *replacing, struct weir_buffer *actions,
                          struct weir_error *err) {
    int64_t now_ms = weir_clock_wall_us() / 1000;
    int rc = WEIR_OK;
    weir_buffer_clear(actions);
    for (int32_t i = 0; i < replacing->old.count && rc == WEIR_OK; i++) {
        rc = weir_delta_remove_format(replacing->old.items[i], now_ms, true, actions);
    }
    if (rc == WEIR_OK) {
        rc = delta_track_rows(replacing->table->snapshot, replacing->made.items,
                              replacing->made.count, actions, err);
    }
    for (int32_t i = 0; i < replacing->made.count && rc == WEIR_OK; i++) {
        rc = weir_delta_add_format(replacing->made.items[i], actions);
        rc = rc == WEIR_OK ? weir_buffer_append(actions, "\n", 1) : rc;
    }
    return rc == WEIR_OK ? rc : weir_error_set(err, rc, "the commit grows past 1 GiB");
}

static int commit(struct replacing *replacing, struct weir_error *err) {
    const struct weir_delta_commit_options retry = {
        .stop = replacing->options->stop, .stop_context = replacing->options->stop_context};
    struct weir_buffer actions;
    struct weir_buffer parameters;
    weir_buffer_init(&actions, ACTIONS_BYTES_MAX);
    weir_buffer_init(&parameters, 1 << 20);
    int rc = weir_buffer_append_text(&parameters, "{\"mode\":\"Overwrite\",\"predicate\":");
    const char *where = replacing->options->where;
    rc = rc == WEIR_OK ? weir_delta_json_string(&parameters, where, strlen(where)) : rc;
    rc = rc == WEIR_OK ? weir_buffer_append(&parameters, "}", 1) : rc;
    rc = rc == WEIR_OK ? rc : no_memory(err);
    struct delta_commit_body body = {.operation = "WRITE",
                                     .parameters_json = weir_buffer_text(&parameters),
                                     .actions = &actions,
                                     .file_count = replacing->made.count,
                                     .row_count = replacing->result->rows,
                                     .byte_count = replacing->result->bytes_added};
    for (int32_t attempt = 1; rc == WEIR_OK; attempt++) {
        rc = check_untouched(replacing, err);
        rc = rc == WEIR_OK ? format_actions(replacing, &actions, err) : rc;
        if (rc != WEIR_OK) {
            break;
        }
        rc = delta_commit_actions(replacing->table, &body, err);
        if (rc != WEIR_E_CONFLICT) {
            replacing->result->changed = rc == WEIR_OK;
            break;
        }
        rc = delta_commit_rebase(replacing->table, attempt, &retry, err);
    }
    weir_buffer_fini(&actions);
    weir_buffer_fini(&parameters);
    return rc;
}

static int prepare(struct replacing *replacing, struct weir_error *err) {
    struct weir_delta_table *table = replacing->table;
    int rc = delta_check_may_remove(table, "replace", err);
    rc = rc == WEIR_OK ? delta_check_maintainable(table, "replace", err) : rc;
    rc = rc == WEIR_OK ? delta_snapshot_head(table->snapshot, &replacing->head, err) : rc;
    rc = rc == WEIR_OK
             ? delta_where_parse(replacing->options->where, table->snapshot, &replacing->where, err)
             : rc;
    replacing->pool = weir_pool_create(POOL_BYTES);
    if (rc == WEIR_OK && replacing->pool == NULL) {
        rc = no_memory(err);
    }
    return rc == WEIR_OK ? weir_delta_snapshot_each_file(table->snapshot, choose, replacing, err)
                         : rc;
}

static void sum_up(struct replacing *replacing) {
    struct weir_delta_replace_result *result = replacing->result;
    result->files_removed = replacing->old.count;
    result->files_added = replacing->made.count;
    for (int32_t i = 0; i < replacing->old.count; i++) {
        result->bytes_removed += replacing->old.items[i]->size_bytes;
    }
    for (int32_t i = 0; i < replacing->made.count; i++) {
        result->bytes_added += replacing->made.items[i]->size_bytes;
    }
}

int weir_delta_replace(struct weir_delta_table *table, struct weir_delta_snapshot *from,
                       const struct weir_delta_replace_options *options,
                       struct weir_delta_replace_result *result, struct weir_error *err) {
    struct replacing *replacing = calloc(1, sizeof(*replacing));
    struct weir_error own;
    struct weir_error *e = err != NULL ? err : &own;
    memset(result, 0, sizeof(*result));
    if (replacing == NULL) {
        return no_memory(e);
    }
    replacing->table = table;
    replacing->from = from;
    replacing->options = options;
    replacing->result = result;
    int rc = prepare(replacing, e);
    rc = rc == WEIR_OK ? write_all(replacing, e) : rc;
    sum_up(replacing);
    if (rc == WEIR_OK && !options->dry_run && replacing->old.count + replacing->made.count > 0) {
        rc = commit(replacing, e);
    }
    /* an outcome that is not known may have been the commit: its files stay */
    bool surely_not = rc == WEIR_OK || rc == WEIR_E_CONFLICT || rc == WEIR_E_DATA ||
                      rc == WEIR_E_SCHEMA || rc == WEIR_E_CLOSED;
    if (!result->changed && surely_not) {
        delta_remove_files(table->store, table->dir, &replacing->made);
    }
    result->version = table->snapshot->version;
    weir_delta_writer_destroy(replacing->writer);
    weir_delta_adds_fini(&replacing->old);
    weir_delta_adds_fini(&replacing->made);
    delta_where_destroy(replacing->where);
    weir_delta_snapshot_destroy(replacing->head);
    if (replacing->pool != NULL) {
        weir_pool_destroy(replacing->pool);
    }
    free(replacing);
    return rc == WEIR_OK ? rc
                         : weir_error_wrap(e, "replace rows of table %s",
                                           DELTA_SHOWN(table->store, table->dir));
}

/* --- a pipeline that overwrites ------------------------------------------------------------- */

struct overwriting {
    const struct delta_where *where;
    struct weir_buffer *actions;
    int64_t now_ms;
};

static int remove_file(void *context, const struct weir_delta_add *add, struct weir_error *err) {
    const struct overwriting *overwriting = context;
    int rc = delta_where_holds(overwriting->where, add)
                 ? weir_delta_remove_format(add, overwriting->now_ms, true, overwriting->actions)
                 : WEIR_OK;
    return rc == WEIR_OK ? rc : weir_error_set(err, rc, "the commit grows past 1 GiB");
}

static int derive_overwrite(struct weir_delta_table *table, const char *text,
                            struct weir_delta_add *const *adds, int32_t count,
                            struct weir_buffer *actions, struct weir_error *err) {
    struct delta_where *where = NULL;
    weir_buffer_clear(actions);
    int rc = delta_where_parse(text, table->snapshot, &where, err);
    struct overwriting overwriting = {where, actions, weir_clock_wall_us() / 1000};
    rc = rc == WEIR_OK
             ? weir_delta_snapshot_each_file(table->snapshot, remove_file, &overwriting, err)
             : rc;
    rc = rc == WEIR_OK ? delta_track_rows(table->snapshot, adds, count, actions, err) : rc;
    for (int32_t i = 0; i < count && rc == WEIR_OK; i++) {
        rc = weir_delta_add_format(adds[i], actions);
        rc = rc == WEIR_OK ? weir_buffer_append(actions, "\n", 1) : rc;
        rc = rc == WEIR_OK ? rc : weir_error_set(err, rc, "the commit grows past 1 GiB");
    }
    delta_where_destroy(where);
    return rc;
}

static int try_overwrite(struct weir_delta_table *table, const char *where,
                         struct weir_delta_add *const *adds, int32_t add_count,
                         const struct weir_delta_commit_options *options,
                         struct weir_delta_commit_result *result, struct weir_buffer *actions,
                         struct weir_error *err) {
    struct delta_commit_body body = {
        .operation = "STREAMING UPDATE", .actions = actions, .file_count = add_count};
    int64_t timestamp_ms;
    for (int32_t i = 0; i < add_count; i++) {
        body.byte_count += adds[i]->size_bytes;
        body.row_count += delta_add_rows(adds[i]) > 0 ? delta_add_rows(adds[i]) : 0;
    }
    int rc = delta_check_may_remove(table, "overwrite", err);
    for (bool won = false; rc == WEIR_OK && !won;) {
        if (weir_delta_snapshot_txn(table->snapshot, options->txn.app_id) >= 0) {
            return weir_delta_append(table, adds, add_count, options, result, err);
        }
        rc = derive_overwrite(table, where, adds, add_count, actions, err);
        if (rc != WEIR_OK) {
            break;
        }
        result->attempts++;
        rc = delta_commit_try(table, &body, &options->txn, &timestamp_ms, err);
        won = rc == WEIR_OK;
        if (won || rc == WEIR_E_CONFLICT) { /* the log holds more now, perhaps our own entry */
            rc = delta_commit_rebase(table, won ? 1 : result->attempts, options, err);
        }
    }
    result->version = table->snapshot->version;
    return rc;
}

int weir_delta_overwrite(struct weir_delta_table *table, const char *where,
                         struct weir_delta_add *const *adds, int32_t add_count,
                         const struct weir_delta_commit_options *options,
                         struct weir_delta_commit_result *result, struct weir_error *err) {
    struct weir_buffer actions;
    weir_buffer_init(&actions, ACTIONS_BYTES_MAX);
    memset(result, 0, sizeof(*result));
    int rc = try_overwrite(table, where, adds, add_count, options, result, &actions, err);
    weir_buffer_fini(&actions);
    return rc;
}

int weir_delta_overwrite_check(struct weir_delta_table *table, const char *where,
                               struct weir_error *err) {
    struct delta_where *parsed = NULL;
    int rc = delta_where_parse(where, table->snapshot, &parsed, err);
    delta_where_destroy(parsed);
    return rc == WEIR_OK ? rc : weir_error_wrap(err, "overwrite");
}
