#include "lake/delta/commit_steps.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lake/delta/dv.h"
#include "lake/delta/maintain.h"
#include "lake/delta/state.h"

static int no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "read changes: out of memory");
}

/* --- the log ------------------------------------------------------------------------------- */

static int keep(struct weir_delta_adds *adds, const struct weir_delta_add *add,
                struct weir_error *err) {
    struct weir_delta_add *copy = weir_delta_add_dup(add);
    int rc = copy != NULL ? weir_delta_adds_push(adds, copy) : WEIR_E_NOMEM;
    if (rc != WEIR_OK) {
        free(copy);
        return no_memory(err);
    }
    return WEIR_OK;
}

static int see_add(void *context, const struct weir_delta_add *add, struct weir_error *err) {
    struct delta_commit *commit = context;
    return add->data_change ? keep(&commit->adds, add, err) : WEIR_OK;
}

static int see_remove(void *context, const struct weir_delta_add *add, struct weir_error *err) {
    struct delta_commit *commit = context;
    return add->data_change ? keep(&commit->removes, add, err) : WEIR_OK;
}

static int see_cdc(void *context, const struct weir_delta_add *add, struct weir_error *err) {
    struct delta_commit *commit = context;
    return keep(&commit->cdc, add, err);
}

static int see_info(void *context, const struct weir_delta_commit_info *info,
                    struct weir_error *err) {
    struct delta_commit *commit = context;
    (void)err;
    commit->timestamp_ms =
        info->in_commit_timestamp_ms != 0 ? info->in_commit_timestamp_ms : info->timestamp_ms;
    return WEIR_OK;
}

int delta_feed_is_off(int64_t version, struct weir_error *err) {
    return weir_error_set(err, WEIR_E_UNSUPPORTED,
                          "the change data feed was not on at version %" PRId64
                          " (delta.enableChangeDataFeed), so what became of single rows is not "
                          "known; begin later, or see `weir table diff`",
                          version);
}

static int see_metadata(void *context, const struct weir_delta_metadata *metadata,
                        struct weir_error *err) {
    struct delta_commit *commit = context;
    (void)err;
    commit->has_metadata = true;
    commit->feed_off = !delta_property_is_true(metadata, DELTA_FEED_PROPERTY);
    return WEIR_OK;
}

/* --- steps --------------------------------------------------------------------------------- */

static void put_step(struct delta_commit *commit, enum delta_step_kind kind,
                     const struct weir_delta_add *file, const struct weir_delta_add *other) {
    commit->steps[commit->step_count++] = (struct delta_step){kind, file, other};
}

static int make_steps(struct delta_commit *commit, struct weir_error *err) {
    int32_t most = commit->cdc.count + 2 * commit->removes.count + commit->adds.count + 1;
    commit->steps = calloc((size_t)most, sizeof(*commit->steps));
    if (commit->steps == NULL) {
        return no_memory(err);
    }
    for (int32_t i = 0; i < commit->cdc.count; i++) {
        put_step(commit, DELTA_STEP_TYPED, commit->cdc.items[i], NULL);
    }
    if (commit->cdc.count > 0) {
        return WEIR_OK;
    }
    for (int32_t r = 0; r < commit->removes.count; r++) {
        const struct weir_delta_add *removed = commit->removes.items[r];
        struct weir_delta_add *again = NULL;
        for (int32_t a = 0; a < commit->adds.count; a++) {
            struct weir_delta_add *add = commit->adds.items[a];
            again = strcmp(add->path, removed->path) == 0 ? add : again;
        }
        put_step(commit, DELTA_STEP_DELETES, removed, again);
        if (again != NULL) {
            put_step(commit, DELTA_STEP_INSERTS, again, removed);
            again->data_change = false; /* told */
        }
    }
    for (int32_t a = 0; a < commit->adds.count; a++) {
        if (commit->adds.items[a]->data_change) {
            put_step(commit, DELTA_STEP_INSERTS, commit->adds.items[a], NULL);
        }
    }
    return WEIR_OK;
}

void delta_commit_fini(struct delta_commit *commit) {
    weir_delta_adds_fini(&commit->adds);
    weir_delta_adds_fini(&commit->removes);
    weir_delta_adds_fini(&commit->cdc);
    free(commit->steps);
    memset(commit, 0, sizeof(*commit));
}

int delta_commit_read(struct delta_commit *commit, struct weir_store *store, const char *dir,
                      int64_t version, struct weir_error *err) {
    struct weir_buffer bytes;
    struct weir_store_info info;
    const struct weir_delta_action_visitor visitor = {.context = commit,
                                                      .metadata = see_metadata,
                                                      .add = see_add,
                                                      .removed_file = see_remove,
                                                      .cdc = see_cdc,
                                                      .commit_info = see_info};
    delta_commit_fini(commit);
    commit->version = version;
    weir_buffer_init(&bytes, DELTA_COMMIT_BYTES_MAX);
    char *path = delta_log_path(dir, "%020" PRId64 ".json", version);
    int rc = path != NULL ? weir_store_get(store, path, 0, -1, &bytes, err) : no_memory(err);
    if (rc == WEIR_E_NOTFOUND) {
        rc = weir_error_set(err, rc,
                            "version %" PRId64 " is no longer in the table's log; its changes are "
                            "gone",
                            version);
    }
    if (rc == WEIR_OK) {
        rc = weir_delta_actions_parse((const char *)bytes.data, bytes.size, path, &visitor, err);
    }
    if (rc == WEIR_OK && commit->feed_off) {
        rc = delta_feed_is_off(version, err);
    }
    if (rc == WEIR_OK && commit->timestamp_ms == 0) {
        rc = weir_store_stat(store, path, &info, err);
        commit->timestamp_ms = rc == WEIR_OK ? info.modified_ms : 0;
    }
    weir_buffer_fini(&bytes);
    free(path);
    return rc == WEIR_OK ? make_steps(commit, err) : rc;
}

/* --- rows ---------------------------------------------------------------------------------- */

/* Rows that one vector of the file hides and the other does not. */
static int between(struct weir_delta_snapshot *snapshot, const struct weir_delta_dv *hides,
                   const struct weir_delta_dv *shows, int64_t rows, uint8_t **bits,
                   struct weir_error *err) {
    uint8_t *shown = NULL;
    int rc = WEIR_OK;
    if (hides->storage_type != 0) {
        rc = delta_dv_read(snapshot, hides, rows, bits, err);
    } else {
        *bits = calloc((size_t)rows / 8 + 1, 1);
        rc = *bits != NULL ? WEIR_OK : no_memory(err);
    }
    if (rc == WEIR_OK && shows->storage_type != 0) {
        rc = delta_dv_read(snapshot, shows, rows, &shown, err);
    }
    for (int64_t i = 0; rc == WEIR_OK && shown != NULL && i < (rows + 7) / 8; i++) {
        (*bits)[i] &= (uint8_t)~shown[i];
    }
    free(shown);
    return rc;
}

int delta_step_open(struct delta_cursor *cursor, struct weir_delta_snapshot *snapshot,
                    const struct delta_step *step, int64_t version, struct weir_schema *schema,
                    const struct weir_delta_column *columns, struct weir_pool *pool, uint8_t **bits,
                    struct weir_error *err) {
    *bits = NULL;
    if (step->file->partition_count == 0 && snapshot->metadata.partition_count > 0) {
        memset(cursor, 0, sizeof(*cursor));
        return weir_error_set(err, WEIR_E_UNSUPPORTED,
                              "version %" PRId64 " does not say which partition the removed file "
                              "%.200s was of (its remove has no extendedFileMetadata)",
                              version, step->file->path);
    }
    int rc = delta_cursor_open(cursor, snapshot, step->file, schema, columns, pool, err);
    if (rc == WEIR_OK && step->other != NULL) {
        bool deletes = step->kind == DELTA_STEP_DELETES;
        const struct weir_delta_dv *after = deletes ? &step->other->dv : &step->file->dv;
        const struct weir_delta_dv *before = deletes ? &step->file->dv : &step->other->dv;
        rc = between(snapshot, deletes ? after : before, deletes ? before : after,
                     weir_parquet_reader_rows(cursor->file.reader), bits, err);
    }
    if (rc == WEIR_E_NOTFOUND) {
        rc = weir_error_wrap(err, "a file of version %" PRId64 " is gone, as VACUUM removes them",
                             version);
    }
    return rc;
}
