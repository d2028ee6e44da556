/* A restore is one commit: removes, adds and the old metadata. */
#include "lake/upkeep/restore.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/clock.h"
#include "lake/delta/dv.h"
#include "lake/delta/maintain.h"
#include "lake/delta/place.h"

#define ACTIONS_BYTES_MAX ((size_t)1 << 30)

struct restoring {
    struct weir_delta_table *table;
    struct weir_delta_snapshot *target;
    struct weir_delta_restore_result *result;
    struct weir_buffer *actions;
    int64_t now_ms;
};

static int too_large(struct weir_error *err, int rc) {
    return rc == WEIR_OK ? rc : weir_error_set(err, rc, "the commit grows past 1 GiB");
}

static int remove_new(void *context, const struct weir_delta_add *add, struct weir_error *err) {
    struct restoring *restoring = context;
    if (delta_snapshot_find(restoring->target, add) != NULL) {
        return WEIR_OK;
    }
    restoring->result->files_removed++;
    restoring->result->bytes_removed += add->size_bytes;
    return too_large(err,
                     weir_delta_remove_format(add, restoring->now_ms, true, restoring->actions));
}

/* Vacuum may have been there. */
static int check_there(const struct restoring *restoring, struct weir_store *store,
                       const char *path, const char *what, struct weir_error *err) {
    struct weir_store_info info;
    struct weir_error inner;
    int rc = weir_store_stat(store, path, &info, &inner);
    if (rc == WEIR_E_NOTFOUND) {
        return weir_error_set(err, WEIR_E_NOTFOUND,
                              "version %" PRId64
                              " needs the %s %.200s, which was vacuumed; restore "
                              "a newer version",
                              restoring->target->version, what, path);
    }
    return rc == WEIR_OK ? rc : weir_error_set(err, rc, "%s", inner.message);
}

static int add_old(void *context, const struct weir_delta_add *add, struct weir_error *err) {
    struct restoring *restoring = context;
    const struct weir_delta_table *table = restoring->table;
    if (delta_snapshot_find(table->snapshot, add) != NULL) {
        return WEIR_OK;
    }
    char *path = NULL;
    struct weir_store *store;
    int rc = delta_file_place(restoring->target, add->path, &store, &path, err);
    rc = rc == WEIR_OK ? check_there(restoring, store, path, "data file", err) : rc;
    free(path);
    path = NULL;
    if (rc == WEIR_OK && add->dv.storage_type == 'p') {
        rc = delta_file_place(restoring->target, add->dv.path_or_inline, &store, &path, err);
    } else if (rc == WEIR_OK && add->dv.storage_type == 'u') {
        store = table->store;
        path = delta_dv_path(table->dir, &add->dv);
    }
    rc = rc == WEIR_OK && path != NULL ? check_there(restoring, store, path, "deletion vector", err)
                                       : rc;
    free(path);
    if (rc != WEIR_OK) {
        return rc;
    }
    struct weir_delta_add again = *add;
    again.data_change = true;
    restoring->result->files_restored++;
    restoring->result->bytes_restored += add->size_bytes;
    rc = weir_delta_add_format(&again, restoring->actions);
    return too_large(err, rc == WEIR_OK ? weir_buffer_append(restoring->actions, "\n", 1) : rc);
}

static bool same_configuration(const struct weir_delta_metadata *a,
                               const struct weir_delta_metadata *b) {
    if (a->configuration_count != b->configuration_count) {
        return false;
    }
    for (int32_t i = 0; i < a->configuration_count; i++) {
        const char *other = weir_delta_metadata_property(b, a->configuration[i].key);
        const char *value = a->configuration[i].value;
        if (other == NULL || value == NULL || strcmp(other, value) != 0) {
            return false;
        }
    }
    return true;
}

static int restore_metadata(struct restoring *restoring, struct weir_error *err) {
    const struct weir_delta_metadata *now = &restoring->table->snapshot->metadata;
    const struct weir_delta_metadata *then = &restoring->target->metadata;
    if (strcmp(now->id, then->id) != 0) {
        return weir_error_set(err, WEIR_E_SCHEMA,
                              "version %" PRId64 " is of a table that was replaced since (its id "
                              "changed)",
                              restoring->target->version);
    }
    if (delta_same_table(restoring->target, restoring->table->snapshot) &&
        same_configuration(now, then)) {
        return WEIR_OK;
    }
    int rc = weir_delta_metadata_format(then, restoring->actions);
    return too_large(err, rc == WEIR_OK ? weir_buffer_append(restoring->actions, "\n", 1) : rc);
}

static int derive(struct restoring *restoring, struct weir_error *err) {
    struct weir_delta_restore_result *result = restoring->result;
    weir_buffer_clear(restoring->actions);
    result->files_removed = result->files_restored = 0;
    result->bytes_removed = result->bytes_restored = 0;
    restoring->now_ms = weir_clock_wall_us() / 1000;
    int rc = restore_metadata(restoring, err);
    if (rc == WEIR_OK) {
        rc = weir_delta_snapshot_each_file(restoring->table->snapshot, remove_new, restoring, err);
    }
    return rc == WEIR_OK ? weir_delta_snapshot_each_file(restoring->target, add_old, restoring, err)
                         : rc;
}

static int commit(struct restoring *restoring, struct weir_error *err) {
    const struct weir_delta_restore_result *result = restoring->result;
    struct weir_buffer parameters;
    struct weir_buffer metrics;
    weir_buffer_init(&parameters, 4096);
    weir_buffer_init(&metrics, 4096);
    int rc = weir_buffer_printf(&parameters, "{\"version\":\"%" PRId64 "\",\"timestamp\":null}",
                                restoring->target->version);
    if (rc == WEIR_OK) {
        rc = weir_buffer_printf(
            &metrics,
            "{\"numRestoredFiles\":\"%" PRId64 "\",\"numRemovedFiles\":\"%" PRId64
            "\",\"restoredFilesSize\":\"%" PRId64 "\",\"removedFilesSize\":\"%" PRId64
            "\",\"numOfFilesAfterRestore\":\"%" PRId64 "\",\"tableSizeAfterRestore\":\"%" PRId64
            "\"}",
            result->files_restored, result->files_removed, result->bytes_restored,
            result->bytes_removed, weir_delta_snapshot_file_count(restoring->target),
            restoring->target->file_bytes);
    }
    struct delta_commit_body body = {.operation = "RESTORE",
                                     .parameters_json = weir_buffer_text(&parameters),
                                     .metrics_json = weir_buffer_text(&metrics),
                                     .actions = restoring->actions};
    if (rc == WEIR_OK) {
        rc = delta_commit_actions(restoring->table, &body, err);
    }
    weir_buffer_fini(&parameters);
    weir_buffer_fini(&metrics);
    return rc;
}

int weir_delta_restore(struct weir_delta_table *table,
                       const struct weir_delta_restore_options *options,
                       struct weir_delta_restore_result *result, struct weir_error *err) {
    struct weir_buffer actions;
    struct restoring restoring = {.table = table, .result = result, .actions = &actions};
    const struct weir_delta_commit_options retry = {.stop = options->stop,
                                                    .stop_context = options->stop_context};
    memset(result, 0, sizeof(*result));
    weir_buffer_init(&actions, ACTIONS_BYTES_MAX);
    int rc = delta_check_may_remove(table, "restore", err);
    rc = rc == WEIR_OK ? delta_check_maintainable(table, "restore", err) : rc;
    if (rc == WEIR_OK) {
        rc = weir_delta_snapshot_open(table->store, table->dir, &options->at, &restoring.target,
                                      err);
    }
    for (int32_t attempt = 1; rc == WEIR_OK; attempt++) {
        result->restored = restoring.target->version;
        rc = derive(&restoring, err);
        result->changed = actions.size > 0;
        if (rc != WEIR_OK || !result->changed || options->dry_run) {
            break;
        }
        rc = commit(&restoring, err);
        if (rc != WEIR_E_CONFLICT) {
            break;
        }
        rc = delta_commit_rebase(table, attempt, &retry, err);
    }
    result->version = table->snapshot->version;
    weir_delta_snapshot_destroy(restoring.target);
    weir_buffer_fini(&actions);
    return rc == WEIR_OK
               ? rc
               : weir_error_wrap(err, "restore table %s", DELTA_SHOWN(table->store, table->dir));
}
