/* What is needed is gathered first, as a set of path hashes (two paths of one hash keep a file too
 * many, never one too few); then the folders are walked, and before anything is deleted the log is
 * read on, so that a file named meanwhile stays. */
#include "lake/upkeep/vacuum.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "core/clock.h"
#include "core/fault.h"
#include "core/log.h"
#include "lake/delta/dv.h"
#include "lake/delta/maintain.h"
#include "lake/delta/place.h"

#define PENDING_MS (24ll * 3600 * 1000)
#define LEFTOVER_MS (3600ll * 1000)
#define CANDIDATES_MAX 1000000
enum { DEPTH_MAX = 64 };

/* Hashes of paths, open addressing; 0 marks a free place. */
struct path_set {
    uint64_t *slots;
    size_t capacity;
    size_t count;
};

struct candidate {
    char *path;
    int64_t bytes;
    bool cold; /* in the second store */
};

struct vacuum {
    struct weir_delta_table *table;
    const struct weir_delta_vacuum_options *options;
    struct weir_delta_vacuum_result *result;
    struct path_set needed;
    int64_t cutoff_ms;  /* what was removed or written since stays */
    int64_t pending_ms; /* unnamed files written since stay */
    struct candidate *candidates;
    size_t count;
    size_t capacity;
    struct weir_store *store; /* that is walked */
    bool cold;                /* it is the table's second one */
    struct weir_error *err;
};

static int no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "vacuum: out of memory");
}

/* --- what is needed ------------------------------------------------------------------------ */

static uint64_t path_hash(const char *path, bool cold) {
    uint64_t hash = XXH64(path, strlen(path), cold);
    return hash != 0 ? hash : 1;
}

static bool set_has(const struct path_set *set, uint64_t hash) {
    for (size_t i = hash & (set->capacity - 1); set->capacity > 0 && set->slots[i] != 0;
         i = (i + 1) & (set->capacity - 1)) {
        if (set->slots[i] == hash) {
            return true;
        }
    }
    return false;
}

static void set_put(struct path_set *set, uint64_t hash) {
    size_t i = hash & (set->capacity - 1);
    while (set->slots[i] != 0 && set->slots[i] != hash) {
        i = (i + 1) & (set->capacity - 1);
    }
    set->count += set->slots[i] == 0;
    set->slots[i] = hash;
}

static int set_add(struct path_set *set, uint64_t hash, struct weir_error *err) {
    if ((set->count + 1) * 2 > set->capacity) {
        struct path_set grown = {.capacity = set->capacity > 0 ? set->capacity * 2 : 1024};
        grown.slots = calloc(grown.capacity, sizeof(*grown.slots));
        if (grown.slots == NULL) {
            return no_memory(err);
        }
        for (size_t i = 0; i < set->capacity; i++) {
            if (set->slots[i] != 0) {
                set_put(&grown, set->slots[i]);
            }
        }
        free(set->slots);
        *set = grown;
    }
    set_put(set, hash);
    return WEIR_OK;
}

static int need_cold(struct vacuum *vacuum, const char *logged, struct weir_error *err) {
    char *path = NULL;
    int rc = delta_tier_path(&vacuum->table->snapshot->metadata, logged, &path, err);
    rc = rc == WEIR_OK ? set_add(&vacuum->needed, path_hash(path, true), err) : rc;
    free(path);
    return rc;
}

static int need(struct vacuum *vacuum, const char *logged, const struct weir_delta_dv *dv,
                struct weir_error *err) {
    const struct weir_delta_table *table = vacuum->table;
    const struct weir_delta_metadata *metadata = &table->snapshot->metadata;
    bool cold = delta_is_tiered(metadata, logged);
    char *path = NULL;
    struct weir_error inner;
    int rc = cold ? need_cold(vacuum, logged, &inner)
                  : delta_file_path(table->store, table->dir, logged, &path, &inner);
    if (rc == WEIR_E_UNSUPPORTED) {
        rc = WEIR_OK; /* in another place: nothing of this folder */
    } else if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s", inner.message);
    }
    if (path != NULL) {
        rc = set_add(&vacuum->needed, path_hash(path, false), err);
        free(path);
    }
    if (rc == WEIR_OK && dv->storage_type == 'p' && delta_is_tiered(metadata, dv->path_or_inline)) {
        rc = need_cold(vacuum, dv->path_or_inline, err);
    }
    if (rc == WEIR_OK && dv->storage_type == 'u') {
        path = delta_dv_path(table->dir, dv);
        rc = path != NULL ? set_add(&vacuum->needed, path_hash(path, false), err)
                          : weir_error_set(err, WEIR_E_CORRUPT,
                                           "vacuum: the deletion vector of %.200s has no name that "
                                           "can be read; nothing is deleted",
                                           logged);
        free(path);
    }
    return rc;
}

static int need_live(void *context, const struct weir_delta_add *add, struct weir_error *err) {
    return need(context, add->path, &add->dv, err);
}

static int need_removed(void *context, const struct weir_delta_remove *remove,
                        struct weir_error *err) {
    return need(context, remove->path, &remove->dv, err);
}

static int need_tombstone(void *context, void *item) {
    struct vacuum *vacuum = context;
    const struct delta_tombstone *tombstone = item;
    return tombstone->deletion_ms >= vacuum->cutoff_ms
               ? need(vacuum, tombstone->path, &tombstone->dv, vacuum->err)
               : WEIR_OK;
}

/* What commits of the retention's time name: a checkpoint may have dropped tombstones that a
 * retention longer than the table's still wants. */
static int need_recent_commits(struct vacuum *vacuum, struct weir_error *err) {
    const struct weir_delta_table *table = vacuum->table;
    const struct weir_delta_action_visitor visitor = {
        .context = vacuum, .add = need_live, .remove = need_removed};
    struct delta_listing listing;
    int rc = delta_list_log(table->store, table->dir, NULL, &listing, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    for (size_t i = 0; i < listing.commit_count && rc == WEIR_OK; i++) {
        if (listing.commit_ms[i] < vacuum->cutoff_ms) {
            continue;
        }
        struct weir_buffer bytes;
        weir_buffer_init(&bytes, DELTA_COMMIT_BYTES_MAX);
        char *path = delta_log_path(table->dir, "%020" PRId64 ".json", listing.commits[i]);
        rc = path != NULL ? weir_store_get(table->store, path, 0, -1, &bytes, err) : no_memory(err);
        if (rc == WEIR_OK) {
            rc =
                weir_delta_actions_parse((const char *)bytes.data, bytes.size, path, &visitor, err);
        }
        weir_buffer_fini(&bytes);
        free(path);
    }
    delta_listing_fini(&listing);
    return rc;
}

static int gather_needed(struct vacuum *vacuum, struct weir_error *err) {
    const struct weir_delta_snapshot *snapshot = vacuum->table->snapshot;
    int rc = weir_delta_snapshot_each_file(snapshot, need_live, vacuum, err);
    if (rc == WEIR_OK) {
        delta_files_each(&snapshot->tombstones, need_tombstone, vacuum, &rc);
    }
    return rc == WEIR_OK ? need_recent_commits(vacuum, err) : rc;
}

/* A day before the oldest of the last commits of Weir's pipelines. */
static int64_t pending_since(const struct weir_delta_snapshot *snapshot) {
    int64_t since = INT64_MAX;
    for (int32_t i = 0; i < snapshot->txn_count; i++) {
        const struct delta_txn *txn = &snapshot->txns[i];
        if (strncmp(txn->app_id, "weir/", 5) == 0) {
            since = txn->last_updated_ms < since ? txn->last_updated_ms : since;
        }
    }
    return since != INT64_MAX ? since - PENDING_MS : INT64_MAX;
}

/* --- the walk ------------------------------------------------------------------------------ */

struct folders {
    struct vacuum *vacuum;
    char **paths;
    size_t count;
    bool is_table;
    bool is_change_data;
};

static int note_candidate(struct vacuum *vacuum, const char *path, int64_t bytes) {
    if (vacuum->count == vacuum->capacity) {
        size_t capacity = vacuum->capacity > 0 ? vacuum->capacity * 2 : 256;
        struct candidate *grown =
            realloc(vacuum->candidates, capacity * sizeof(*vacuum->candidates));
        if (grown == NULL) {
            return no_memory(vacuum->err);
        }
        vacuum->candidates = grown;
        vacuum->capacity = capacity;
    }
    char *copy = strdup(path);
    if (copy == NULL) {
        return no_memory(vacuum->err);
    }
    vacuum->candidates[vacuum->count++] = (struct candidate){copy, bytes, vacuum->cold};
    return WEIR_OK;
}

static int note_folder(struct folders *folders, const char *path) {
    char **paths = realloc(folders->paths, (folders->count + 1) * sizeof(*paths));
    if (paths == NULL) {
        return no_memory(folders->vacuum->err);
    }
    folders->paths = paths;
    paths[folders->count] = strdup(path);
    return paths[folders->count] != NULL ? (folders->count++, WEIR_OK)
                                         : no_memory(folders->vacuum->err);
}

static int visit_entry(void *context, const char *path, const struct weir_store_info *info) {
    struct folders *folders = context;
    struct vacuum *vacuum = folders->vacuum;
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    bool hidden = name[0] == '_' || name[0] == '.';
    if (info->is_dir) {
        folders->is_table = folders->is_table || strcmp(name, "_delta_log") == 0;
        /* a partition column's name may begin with an underscore too */
        bool walked = !hidden || strcmp(name, "_change_data") == 0 ||
                      (name[0] == '_' && strchr(name, '=') != NULL);
        return walked ? note_folder(folders, path) : WEIR_OK;
    }
    vacuum->result->listed++;
    if (hidden || info->modified_ms >= vacuum->cutoff_ms ||
        set_has(&vacuum->needed, path_hash(path, vacuum->cold))) {
        return WEIR_OK;
    }
    if (info->modified_ms >= vacuum->pending_ms && !vacuum->cold) { /* no ledger names copies */
        vacuum->result->pending++;
        return WEIR_OK;
    }
    return vacuum->count < CANDIDATES_MAX ? note_candidate(vacuum, path, info->size_bytes)
                                          : WEIR_OK;
}

static int walk(struct vacuum *vacuum, const char *dir, int depth, struct weir_error *err) {
    struct folders folders = {.vacuum = vacuum};
    size_t before = vacuum->count;
    int64_t pending = vacuum->result->pending;
    int rc = weir_store_list_dir(vacuum->store, dir, visit_entry, &folders, err);
    if (rc == WEIR_OK && folders.is_table && depth > 0) {
        /* another table inside this one's folder: nothing of it is ours */
        while (vacuum->count > before) {
            free(vacuum->candidates[--vacuum->count].path);
        }
        vacuum->result->pending = pending;
    } else {
        for (size_t i = 0; i < folders.count && rc == WEIR_OK && depth < DEPTH_MAX; i++) {
            rc = walk(vacuum, folders.paths[i], depth + 1, err);
        }
        if (rc == WEIR_OK && !vacuum->options->dry_run) {
            rc = weir_store_sweep(vacuum->store, dir, LEFTOVER_MS, err);
        }
    }
    for (size_t i = 0; i < folders.count; i++) {
        free(folders.paths[i]);
    }
    free(folders.paths);
    return rc;
}

/* Copies in the second store that no version needs: all lie in the folder of the table's id. The
 * table's own folder does not wait for a store that cannot be reached. */
static int walk_tier(struct vacuum *vacuum, struct weir_error *err) {
    struct weir_delta_snapshot *snapshot = vacuum->table->snapshot;
    if (weir_delta_metadata_property(&snapshot->metadata, DELTA_TIER_ROOT) == NULL) {
        return WEIR_OK;
    }
    struct weir_error inner;
    size_t before = vacuum->count;
    int rc = delta_tier_store(snapshot, &vacuum->store, &inner);
    if (rc == WEIR_OK) {
        vacuum->cold = true;
        rc = walk(vacuum, snapshot->metadata.id, 1, &inner);
        vacuum->cold = false;
    }
    vacuum->store = vacuum->table->store;
    if (rc == WEIR_OK || rc == WEIR_E_NOTFOUND) {
        return WEIR_OK;
    }
    if (rc == WEIR_E_NOMEM) {
        return weir_error_set(err, rc, "%s", inner.message);
    }
    while (vacuum->count > before) {
        free(vacuum->candidates[--vacuum->count].path);
    }
    weir_log_warn("lake", "copies in the second store stay, it was not read table=%s error=\"%s\"",
                  vacuum->table->dir, inner.message);
    return WEIR_OK;
}

/* --- the deletions ------------------------------------------------------------------------- */

static int commit_mark(struct vacuum *vacuum, const char *operation, const char *status,
                       struct weir_error *err) {
    struct weir_delta_table *table = vacuum->table;
    const struct weir_delta_vacuum_result *result = vacuum->result;
    const struct weir_delta_commit_options retry = {.stop = vacuum->options->stop,
                                                    .stop_context = vacuum->options->context};
    struct weir_buffer parameters;
    struct weir_buffer metrics;
    struct weir_buffer actions;
    weir_buffer_init(&parameters, 4096);
    weir_buffer_init(&metrics, 4096);
    weir_buffer_init(&actions, 64);
    int rc = status == NULL ? weir_buffer_printf(&parameters,
                                                 "{\"retentionCheckEnabled\":\"%s\","
                                                 "\"specifiedRetentionMillis\":\"%" PRId64 "\"}",
                                                 vacuum->options->allow_short ? "false" : "true",
                                                 result->retention_ms)
                            : weir_buffer_printf(&parameters, "{\"status\":\"%s\"}", status);
    if (rc == WEIR_OK) {
        rc = weir_buffer_printf(&metrics,
                                status == NULL ? "{\"numFilesToDelete\":\"%" PRId64
                                                 "\",\"sizeOfDataToDelete\":\"%" PRId64 "\"}"
                                               : "{\"numDeletedFiles\":\"%" PRId64
                                                 "\",\"sizeOfDeletedData\":\"%" PRId64 "\"}",
                                result->files, result->bytes);
    }
    struct delta_commit_body body = {.operation = operation,
                                     .parameters_json = weir_buffer_text(&parameters),
                                     .metrics_json = weir_buffer_text(&metrics),
                                     .actions = &actions};
    if (vacuum->options->bracket != NULL) {
        vacuum->options->bracket(vacuum->options->context, true);
        rc = rc == WEIR_OK ? weir_delta_table_refresh(table, err) : rc;
    }
    for (int32_t attempt = 1; rc == WEIR_OK; attempt++) {
        rc = delta_commit_actions(table, &body, err);
        if (rc != WEIR_E_CONFLICT) {
            break;
        }
        rc = delta_commit_rebase(table, attempt, &retry, err);
    }
    if (vacuum->options->bracket != NULL) {
        vacuum->options->bracket(vacuum->options->context, false);
    }
    weir_buffer_fini(&parameters);
    weir_buffer_fini(&metrics);
    weir_buffer_fini(&actions);
    return rc;
}

/* Forgets candidates that turn out to be needed by what was committed meanwhile. */
static int spare(struct vacuum *vacuum, struct weir_error *err) {
    int64_t version = vacuum->table->snapshot->version;
    int rc = weir_delta_table_refresh(vacuum->table, err);
    if (rc == WEIR_OK && vacuum->table->snapshot->version != version) {
        rc = gather_needed(vacuum, err);
    }
    size_t kept = 0;
    for (size_t i = 0; i < vacuum->count; i++) {
        if (rc == WEIR_OK && set_has(&vacuum->needed, path_hash(vacuum->candidates[i].path,
                                                                vacuum->candidates[i].cold))) {
            free(vacuum->candidates[i].path);
        } else {
            vacuum->candidates[kept++] = vacuum->candidates[i];
        }
    }
    vacuum->count = kept;
    for (size_t i = 0; i < kept; i++) {
        vacuum->result->files++;
        vacuum->result->bytes += vacuum->candidates[i].bytes;
    }
    return rc;
}

static int delete_files(struct vacuum *vacuum, struct weir_error *err) {
    const struct weir_delta_vacuum_options *options = vacuum->options;
    int rc = WEIR_OK;
    if (!options->dry_run && vacuum->count > 0) {
        rc = commit_mark(vacuum, "VACUUM START", NULL, err);
    }
    for (size_t i = 0; i < vacuum->count && rc == WEIR_OK; i++) {
        const struct candidate *candidate = &vacuum->candidates[i];
        if (options->stop != NULL && options->stop(options->context)) {
            return weir_error_set(err, WEIR_E_CLOSED, "vacuum: stopped");
        }
        if (options->tell != NULL) {
            options->tell(options->context, candidate->path, candidate->bytes);
        }
        if (!options->dry_run) {
            struct weir_store *store = vacuum->table->store;
            rc = candidate->cold ? delta_tier_store(vacuum->table->snapshot, &store, err) : rc;
            rc = rc == WEIR_OK ? weir_store_remove(store, candidate->path, err) : rc;
            if (rc == WEIR_OK && WEIR_FAULT(delta_vacuum_deleted)) {
                rc = weir_error_set(err, WEIR_E_FAULT, "injected at delta_vacuum_deleted");
            }
        }
    }
    if (rc == WEIR_OK && !options->dry_run && vacuum->count > 0) {
        rc = commit_mark(vacuum, "VACUUM END", "COMPLETED", err);
    }
    return rc;
}

static int check_retention(struct vacuum *vacuum, struct weir_error *err) {
    const struct weir_delta_vacuum_options *options = vacuum->options;
    const struct weir_delta_metadata *metadata = &vacuum->table->snapshot->metadata;
    int64_t safe = delta_interval_ms(
        weir_delta_metadata_property(metadata, "delta.deletedFileRetentionDuration"),
        WEIR_DELTA_RETENTION_MS);
    int64_t retention = options->retention_ms >= 0 ? options->retention_ms : safe;
    vacuum->result->retention_ms = retention;
    if (retention < safe && !options->allow_short) {
        return weir_error_set(
            err, WEIR_E_USAGE,
            "vacuum: a retention of %.1f h is shorter than the table's %.1f h, within which "
            "readers, writers and time travel may need its files; if surely none does, add "
            "--allow-short-retention",
            (double)retention / 3600000, (double)safe / 3600000);
    }
    int64_t now_ms = weir_clock_wall_us() / 1000;
    vacuum->cutoff_ms = now_ms - retention;
    vacuum->pending_ms =
        options->ignore_pending ? INT64_MAX : pending_since(vacuum->table->snapshot);
    return WEIR_OK;
}

int weir_delta_vacuum(struct weir_delta_table *table,
                      const struct weir_delta_vacuum_options *options,
                      struct weir_delta_vacuum_result *result, struct weir_error *err) {
    struct vacuum vacuum = {.table = table, .options = options, .result = result, .err = err};
    memset(result, 0, sizeof(*result));
    int rc = check_retention(&vacuum, err);
    if (rc == WEIR_OK) {
        rc = gather_needed(&vacuum, err);
    }
    if (rc == WEIR_OK) {
        vacuum.store = table->store;
        rc = walk(&vacuum, table->dir, 0, err);
    }
    if (rc == WEIR_OK) {
        rc = walk_tier(&vacuum, err);
    }
    if (rc == WEIR_OK) {
        rc = spare(&vacuum, err);
    }
    if (rc == WEIR_OK) {
        rc = delete_files(&vacuum, err);
    }
    for (size_t i = 0; i < vacuum.count; i++) {
        free(vacuum.candidates[i].path);
    }
    free(vacuum.candidates);
    free(vacuum.needed.slots);
    return rc == WEIR_OK
               ? rc
               : weir_error_wrap(err, "vacuum table %s", DELTA_SHOWN(table->store, table->dir));
}
