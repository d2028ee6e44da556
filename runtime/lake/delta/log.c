/* Opening and refreshing snapshots: find the newest checkpoint that can be read, then replay the
 * commits after it, which must be contiguous. `_last_checkpoint` only says where to begin looking;
 * when it lies, the whole listing decides. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/log.h"
#include "lake/delta/state.h"

#define HINT_BYTES_MAX (16u << 20)

/* --- one commit ---------------------------------------------------------------------------- */

/* The actions of one commit, held until the whole file has been understood, so that a snapshot is
 * never left between two versions. */
struct staged {
    struct weir_delta_adds adds;
    struct delta_tombstone **removes; /* own their texts */
    int32_t remove_count;
    int32_t remove_capacity;
    struct weir_delta_snapshot small;  /* protocol, metadata, txns, domains of this commit */
    struct weir_delta_domain *dropped; /* domains removed; names owned */
    int32_t dropped_count;
    int64_t timestamp_ms;
    int64_t in_commit_timestamp_ms;
};

static int stage_add(void *context, const struct weir_delta_add *add, struct weir_error *err) {
    struct staged *staged = context;
    struct weir_delta_add *copy = weir_delta_add_dup(add);
    if (copy == NULL || weir_delta_adds_push(&staged->adds, copy) != WEIR_OK) {
        free(copy);
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    return WEIR_OK;
}

static int stage_remove(void *context, const struct weir_delta_remove *remove,
                        struct weir_error *err) {
    struct staged *staged = context;
    if (staged->remove_count == staged->remove_capacity) {
        int32_t capacity = staged->remove_capacity > 0 ? staged->remove_capacity * 2 : 16;
        struct delta_tombstone **removes =
            realloc(staged->removes, (size_t)capacity * sizeof(*removes));
        if (removes == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
        }
        staged->removes = removes;
        staged->remove_capacity = capacity;
    }
    struct delta_tombstone *copy = calloc(1, sizeof(*copy));
    if (copy == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    staged->removes[staged->remove_count++] = copy;
    copy->deletion_ms = remove->deletion_ms;
    copy->data_change = remove->data_change;
    copy->dv = remove->dv;
    copy->dv.path_or_inline = NULL;
    copy->path = strdup(remove->path);
    if (remove->dv.path_or_inline != NULL) {
        copy->dv.path_or_inline = strdup(remove->dv.path_or_inline);
    }
    if (copy->path == NULL ||
        (remove->dv.path_or_inline != NULL && copy->dv.path_or_inline == NULL)) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    return WEIR_OK;
}

static int stage_protocol(void *context, const struct weir_delta_protocol *protocol,
                          struct weir_error *err) {
    return delta_apply_protocol(&((struct staged *)context)->small, protocol, err);
}

static int stage_metadata(void *context, const struct weir_delta_metadata *metadata,
                          struct weir_error *err) {
    return delta_apply_metadata(&((struct staged *)context)->small, metadata, err);
}

static int stage_txn(void *context, const struct weir_delta_txn *txn, struct weir_error *err) {
    return delta_apply_txn(&((struct staged *)context)->small, txn, err);
}

static int stage_domain(void *context, const struct weir_delta_domain *domain,
                        struct weir_error *err) {
    struct staged *staged = context;
    if (!domain->removed) {
        return delta_apply_domain(&staged->small, domain, err);
    }
    struct weir_delta_domain *dropped =
        staged->dropped_count < DELTA_DOMAINS_MAX
            ? realloc(staged->dropped, (size_t)(staged->dropped_count + 1) * sizeof(*dropped))
            : NULL;
    char *name = strdup(domain->name);
    if (dropped != NULL) {
        staged->dropped = dropped;
    }
    if (dropped == NULL || name == NULL) {
        free(name);
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    dropped[staged->dropped_count].name = name;
    dropped[staged->dropped_count].configuration = "";
    dropped[staged->dropped_count++].removed = true;
    return WEIR_OK;
}

static int stage_commit_info(void *context, const struct weir_delta_commit_info *info,
                             struct weir_error *err) {
    struct staged *staged = context;
    (void)err;
    staged->timestamp_ms = info->timestamp_ms;
    staged->in_commit_timestamp_ms = info->in_commit_timestamp_ms;
    return WEIR_OK;
}

static void staged_fini(struct staged *staged) {
    weir_delta_adds_fini(&staged->adds);
    for (int32_t i = 0; i < staged->remove_count; i++) {
        free((void *)(uintptr_t)staged->removes[i]->path);
        free((void *)(uintptr_t)staged->removes[i]->dv.path_or_inline);
        free(staged->removes[i]);
    }
    free(staged->removes);
    for (int32_t i = 0; i < staged->dropped_count; i++) {
        free((void *)(uintptr_t)staged->dropped[i].name);
    }
    free(staged->dropped);
    delta_snapshot_reset(&staged->small);
}

/* Moves a fully parsed commit into the snapshot. Removes first: the protocol lets a commit replace
 * a file's deletion vector by removing and adding the same path. */
static int apply_staged(struct weir_delta_snapshot *snapshot, const struct staged *staged,
                        struct weir_error *err) {
    int rc = WEIR_OK;
    if (staged->small.has_protocol) {
        rc = weir_delta_check_readable(&staged->small.protocol, err);
        if (rc == WEIR_OK) {
            rc = delta_apply_protocol(snapshot, &staged->small.protocol, err);
        }
    }
    if (rc == WEIR_OK && staged->small.has_metadata) {
        rc = delta_apply_metadata(snapshot, &staged->small.metadata, err);
    }
    for (int32_t i = 0; i < staged->remove_count && rc == WEIR_OK; i++) {
        const struct delta_tombstone *from = staged->removes[i];
        struct weir_delta_remove remove = {from->path, from->deletion_ms, from->dv,
                                           from->data_change};
        rc = delta_apply_remove(snapshot, &remove, err);
    }
    for (int32_t i = 0; i < staged->adds.count && rc == WEIR_OK; i++) {
        rc = delta_apply_add(snapshot, staged->adds.items[i], err);
    }
    for (int32_t i = 0; i < staged->small.txn_count && rc == WEIR_OK; i++) {
        const struct delta_txn *from = &staged->small.txns[i];
        struct weir_delta_txn txn = {from->app_id, from->version, from->last_updated_ms};
        rc = delta_apply_txn(snapshot, &txn, err);
    }
    for (int32_t i = 0; i < staged->dropped_count && rc == WEIR_OK; i++) {
        rc = delta_apply_domain(snapshot, &staged->dropped[i], err);
    }
    for (int32_t i = 0; i < staged->small.domain_count && rc == WEIR_OK; i++) {
        const struct delta_domain *from = &staged->small.domains[i];
        struct weir_delta_domain domain = {from->name, from->configuration, false};
        rc = delta_apply_domain(snapshot, &domain, err);
    }
    return rc;
}

/* Shows each action of commit `version`. WEIR_E_NOTFOUND (without a message) when there is none. */
static int visit_commit(struct weir_delta_snapshot *snapshot, int64_t version,
                        const struct weir_delta_action_visitor *visitor, struct weir_error *err) {
    struct weir_buffer bytes;
    weir_buffer_init(&bytes, DELTA_COMMIT_BYTES_MAX);
    char *path = delta_log_path(snapshot->dir, "%020" PRId64 ".json", version);
    int rc = path != NULL ? weir_store_get(snapshot->store, path, 0, -1, &bytes, err)
                          : weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    if (rc == WEIR_OK) {
        rc = weir_delta_actions_parse((const char *)bytes.data, bytes.size, path, visitor, err);
    }
    free(path);
    weir_buffer_fini(&bytes);
    return rc;
}

/* Reads commit `version` and applies it. WEIR_E_NOTFOUND (without a message) when there is none. */
static int apply_commit(struct weir_delta_snapshot *snapshot, int64_t version,
                        struct weir_error *err) {
    struct staged staged;
    const struct weir_delta_action_visitor visitor = {
        .context = &staged,
        .protocol = stage_protocol,
        .metadata = stage_metadata,
        .add = stage_add,
        .remove = stage_remove,
        .txn = stage_txn,
        .domain = stage_domain,
        .commit_info = stage_commit_info,
    };
    memset(&staged, 0, sizeof(staged));
    int rc = visit_commit(snapshot, version, &visitor, err);
    if (rc == WEIR_OK) {
        rc = apply_staged(snapshot, &staged, err);
    }
    if (rc == WEIR_OK) {
        snapshot->version = version;
        snapshot->timestamp_ms = staged.in_commit_timestamp_ms != 0 ? staged.in_commit_timestamp_ms
                                                                    : staged.timestamp_ms;
    }
    staged_fini(&staged);
    return rc;
}

/* What an entry says of itself alone. */
static int read_commit_info(struct weir_delta_snapshot *snapshot, int64_t version,
                            struct staged *out, struct weir_error *err) {
    const struct weir_delta_action_visitor visitor = {.context = out,
                                                      .commit_info = stage_commit_info};
    memset(out, 0, sizeof(*out));
    return visit_commit(snapshot, version, &visitor, err);
}

/* --- opening ------------------------------------------------------------------------------- */

/* Version named by _last_checkpoint, or -1 when there is none that makes sense. */
static int64_t read_hint(struct weir_delta_snapshot *snapshot) {
    struct weir_buffer bytes;
    json_error_t error;
    int64_t version = -1;
    weir_buffer_init(&bytes, HINT_BYTES_MAX);
    char *path = delta_log_path(snapshot->dir, "_last_checkpoint");
    if (path != NULL && weir_store_get(snapshot->store, path, 0, -1, &bytes, NULL) == WEIR_OK &&
        bytes.size > 0) {
        json_t *hint =
            json_loadb((const char *)bytes.data, bytes.size, JSON_DISABLE_EOF_CHECK, &error);
        const json_t *value = json_object_get(hint, "version");
        if (json_is_integer(value) && json_integer_value(value) >= 0) {
            version = json_integer_value(value);
        }
        json_decref(hint);
    }
    free(path);
    weir_buffer_fini(&bytes);
    return version;
}

/* The files of one complete checkpoint ending before index `*end`, whose version is at most
 * `limit`; moves *end down for the next try. 0: no more. */
static int32_t next_checkpoint(const struct delta_listing *listing, int64_t limit, size_t *end,
                               size_t *first) {
    while (*end > 0) {
        size_t last = *end - 1;
        const struct delta_checkpoint *item = &listing->checkpoints[last];
        *end = last;
        if (item->version > limit) {
            continue;
        }
        if (item->part == 0) {
            *first = last;
            return 1;
        }
        /* parts of one set are neighbours in name order: "…001.003", "…002.003", "…003.003", but
         * sets of different sizes interleave, so every part is looked for */
        if (item->part != item->parts) {
            continue;
        }
        int32_t found = 1;
        size_t lowest = last;
        for (size_t i = last; i-- > 0 && listing->checkpoints[i].version == item->version;) {
            const struct delta_checkpoint *other = &listing->checkpoints[i];
            if (other->parts == item->parts && other->part == item->parts - found) {
                found++;
                lowest = i;
            }
        }
        if (found == item->parts) {
            *first = lowest;
            return found;
        }
    }
    return 0;
}

/* Collects the `count` files that start at `first` (skipping neighbours of other sets) and reads
 * them into the snapshot. */
static int load_checkpoint(struct weir_delta_snapshot *snapshot,
                           const struct delta_listing *listing, size_t first, int32_t count,
                           struct weir_error *err) {
    struct delta_checkpoint *files = calloc((size_t)count, sizeof(*files));
    if (files == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "out of memory");
    }
    int32_t parts = listing->checkpoints[first].parts;
    int64_t version = listing->checkpoints[first].version;
    int32_t n = 0;
    for (size_t i = first; n < count && i < listing->checkpoint_count; i++) {
        if (listing->checkpoints[i].version == version && listing->checkpoints[i].parts == parts) {
            files[n++] = listing->checkpoints[i];
        }
    }
    delta_snapshot_reset(snapshot);
    int rc = delta_checkpoint_read(snapshot, files, n, err);
    if (rc == WEIR_OK) {
        snapshot->version = version;
        snapshot->checkpoint_version = version;
    } else {
        delta_snapshot_reset(snapshot);
    }
    free(files);
    return rc;
}

static int missing_commit(struct weir_delta_snapshot *snapshot, int64_t version,
                          struct weir_error *err) {
    return weir_error_set(err, WEIR_E_CORRUPT,
                          "table %s: the versions of its log are not contiguous: commit %" PRId64
                          " is missing; restore %020" PRId64 ".json, or read a version after a "
                          "later checkpoint",
                          DELTA_SHOWN(snapshot->store, snapshot->dir), version, version);
}

/* A checkpoint does not say when its version was committed; the version's own entry does, where it
 * is still there. */
static int time_of_checkpoint(struct weir_delta_snapshot *snapshot,
                              const struct delta_listing *listing, struct weir_error *err) {
    for (size_t i = 0; i < listing->commit_count && snapshot->timestamp_ms == 0; i++) {
        struct staged staged;
        if (listing->commits[i] != snapshot->version) {
            continue;
        }
        int rc = read_commit_info(snapshot, snapshot->version, &staged, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        snapshot->timestamp_ms = staged.in_commit_timestamp_ms != 0 ? staged.in_commit_timestamp_ms
                                 : staged.timestamp_ms != 0         ? staged.timestamp_ms
                                                                    : listing->commit_ms[i];
    }
    return WEIR_OK;
}

/* Loads the state at `limit` (INT64_MAX: latest) from this listing. WEIR_E_NOTFOUND when it holds
 * nothing to start from. */
static int load_from(struct weir_delta_snapshot *snapshot, const struct delta_listing *listing,
                     int64_t limit, struct weir_error *err) {
    size_t end = listing->checkpoint_count;
    size_t first = 0;
    int rc = WEIR_OK;
    bool had_checkpoint = false;
    struct weir_error checkpoint_error;
    weir_error_clear(&checkpoint_error);
    for (;;) {
        int32_t count = next_checkpoint(listing, limit, &end, &first);
        if (count == 0) {
            break;
        }
        rc = load_checkpoint(snapshot, listing, first, count, &checkpoint_error);
        if (rc == WEIR_OK) {
            had_checkpoint = true;
            break;
        }
        if (rc == WEIR_E_NOMEM || rc == WEIR_E_LIMIT || rc == WEIR_E_UNSUPPORTED) {
            return weir_error_set(err, rc, "%s", checkpoint_error.message);
        }
        weir_log_warn("lake",
                      "checkpoint unreadable, trying an older one table=%s version=%" PRId64
                      " error=\"%s\"",
                      snapshot->dir, listing->checkpoints[first].version, checkpoint_error.message);
    }
    if (!had_checkpoint && (listing->commit_count == 0 || listing->commits[0] > limit)) {
        return checkpoint_error.code != WEIR_OK
                   ? weir_error_set(err, checkpoint_error.code, "%s", checkpoint_error.message)
                   : WEIR_E_NOTFOUND;
    }
    for (size_t i = 0; i < listing->commit_count; i++) {
        int64_t version = listing->commits[i];
        if (version <= snapshot->version) {
            continue;
        }
        if (version > limit) {
            break;
        }
        if (version != snapshot->version + 1) {
            return checkpoint_error.code != WEIR_OK
                       ? weir_error_set(err, checkpoint_error.code, "%s", checkpoint_error.message)
                       : missing_commit(snapshot, snapshot->version + 1, err);
        }
        rc = apply_commit(snapshot, version, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        if (snapshot->timestamp_ms == 0) {
            snapshot->timestamp_ms = listing->commit_ms[i];
        }
    }
    rc = time_of_checkpoint(snapshot, listing, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    if (!snapshot->has_protocol || !snapshot->has_metadata) {
        return weir_error_set(err, WEIR_E_CORRUPT,
                              "table %s: its log up to version %" PRId64 " has no %s action",
                              DELTA_SHOWN(snapshot->store, snapshot->dir), snapshot->version,
                              snapshot->has_protocol ? "metaData" : "protocol");
    }
    return weir_delta_check_readable(&snapshot->protocol, err);
}

static int not_a_table(struct weir_delta_snapshot *snapshot, struct weir_error *err) {
    return weir_error_set(
        err, WEIR_E_NOTFOUND,
        "%s is not a Delta table (no _delta_log in it); `weir table ls` shows "
        "the tables there are",
        delta_described(snapshot->store, snapshot->dir, &(struct delta_shown){.text = ""}));
}

/* State at `limit`, by the hint first and by everything when that does not work out. */
static int load(struct weir_delta_snapshot *snapshot, int64_t limit, struct weir_error *err) {
    struct delta_listing listing;
    struct weir_error first_error;
    int rc = WEIR_E_NOTFOUND;
    int64_t hint = read_hint(snapshot);
    snapshot->checked_ns = weir_clock_mono_ns();
    if (hint > 0 && hint <= limit) {
        char start[32];
        snprintf(start, sizeof(start), "%020" PRId64, hint);
        rc = delta_list_log(snapshot->store, snapshot->dir, start, &listing, err);
        if (rc != WEIR_OK) {
            return rc;
        }
        weir_error_clear(&first_error);
        rc = listing.checkpoint_count > 0 ? load_from(snapshot, &listing, limit, &first_error)
                                          : WEIR_E_NOTFOUND;
        delta_listing_fini(&listing);
        if (rc == WEIR_OK) {
            snapshot->checked_ns = weir_clock_mono_ns();
            return rc;
        }
        delta_snapshot_reset(snapshot);
    }
    rc = delta_list_log(snapshot->store, snapshot->dir, NULL, &listing, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    rc = load_from(snapshot, &listing, limit, err);
    if (rc == WEIR_E_NOTFOUND) {
        rc = listing.commit_count + listing.checkpoint_count == 0
                 ? not_a_table(snapshot, err)
                 : weir_error_set(err, WEIR_E_NOTFOUND,
                                  "version %" PRId64 " is no longer in the table's log", limit);
    }
    delta_listing_fini(&listing);
    snapshot->checked_ns = weir_clock_mono_ns();
    return rc;
}

static int64_t in_commit_timestamp(struct weir_delta_snapshot *snapshot, int64_t version,
                                   struct weir_error *err, int *rc) {
    struct staged staged;
    *rc = read_commit_info(snapshot, version, &staged, err);
    return staged.in_commit_timestamp_ms;
}

static void format_ms(int64_t ms, char *out, size_t size) {
    time_t seconds = (time_t)(ms / 1000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    strftime(out, size, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

/* The last version committed at or before `timestamp_ms`: by in-commit timestamps from the version
 * that turned them on, before it by file times made monotonic. */
static int version_at(struct weir_delta_snapshot *snapshot, int64_t timestamp_ms, int64_t *out,
                      struct weir_error *err) {
    struct delta_listing listing;
    const struct weir_delta_metadata *metadata = &snapshot->metadata;
    const char *enabled = weir_delta_metadata_property(metadata, "delta.enableInCommitTimestamps");
    const char *since =
        weir_delta_metadata_property(metadata, "delta.inCommitTimestampEnablementVersion");
    bool in_commit = enabled != NULL && strcmp(enabled, "true") == 0;
    int64_t in_commit_from = since != NULL ? strtoll(since, NULL, 10) : 0;
    int rc = delta_list_log(snapshot->store, snapshot->dir, NULL, &listing, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    int64_t previous = INT64_MIN;
    int64_t earliest = 0;
    *out = -1;
    for (size_t i = 0; i < listing.commit_count; i++) {
        int64_t at = listing.commit_ms[i];
        if (in_commit && listing.commits[i] >= in_commit_from) {
            at = in_commit_timestamp(snapshot, listing.commits[i], err, &rc);
            if (rc != WEIR_OK) {
                goto out;
            }
        } else if (at <= previous) {
            at = previous + 1;
        }
        previous = at;
        if (i == 0) {
            earliest = at;
        }
        if (at > timestamp_ms) {
            break;
        }
        *out = listing.commits[i];
    }
    if (*out < 0) {
        char wanted[40];
        char first[40];
        format_ms(timestamp_ms, wanted, sizeof(wanted));
        format_ms(earliest, first, sizeof(first));
        rc = weir_error_set(err, WEIR_E_NOTFOUND,
                            "the table has no version as old as %s; the oldest commit still in its "
                            "log is of %s",
                            wanted, listing.commit_count > 0 ? first : "(none)");
    }
out:
    delta_listing_fini(&listing);
    return rc;
}

int weir_delta_snapshot_open(struct weir_store *store, const char *dir,
                             const struct weir_delta_at *at, struct weir_delta_snapshot **out,
                             struct weir_error *err) {
    struct weir_delta_snapshot *snapshot = calloc(1, sizeof(*snapshot));
    if (snapshot == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "open table %s: out of memory", dir);
    }
    snapshot->store = store;
    snapshot->dir = strdup(dir);
    snapshot->version = -1;
    snapshot->checkpoint_version = -1;
    snapshot->checksum_version = -1;
    int rc = snapshot->dir != NULL ? WEIR_OK : WEIR_E_NOMEM;
    int64_t limit = INT64_MAX;
    if (rc == WEIR_OK && at != NULL && at->kind == WEIR_DELTA_VERSION) {
        limit = at->version;
    }
    if (rc == WEIR_OK) {
        rc = load(snapshot, limit, err);
    }
    if (rc == WEIR_OK && at != NULL && at->kind == WEIR_DELTA_TIMESTAMP) {
        rc = version_at(snapshot, at->timestamp_ms, &limit, err);
        if (rc == WEIR_OK && limit != snapshot->version) {
            delta_snapshot_reset(snapshot);
            rc = load(snapshot, limit, err);
        }
    }
    if (rc == WEIR_OK && limit != INT64_MAX && snapshot->version != limit) {
        rc = weir_error_set(err, WEIR_E_NOTFOUND,
                            "version %" PRId64 " does not exist; the table's latest is %" PRId64,
                            limit, snapshot->version);
    }
    if (rc != WEIR_OK) {
        weir_delta_snapshot_destroy(snapshot);
        return rc;
    }
    *out = snapshot;
    return WEIR_OK;
}

int weir_delta_snapshot_refresh(struct weir_delta_snapshot *snapshot, struct weir_error *err) {
    for (;;) {
        struct weir_error inner;
        weir_error_clear(&inner);
        int rc = apply_commit(snapshot, snapshot->version + 1, &inner);
        if (rc == WEIR_E_NOTFOUND) {
            return WEIR_OK;
        }
        if (rc != WEIR_OK) {
            return weir_error_set(err, rc, "%s", inner.message);
        }
    }
}
