/* Cleaning up a log: commits and checkpoints that a newer checkpoint has made superfluous, and the
 * sidecars of V2 checkpoints. A checkpoint may name sidecars that older ones wrote, so a sidecar
 * goes only when no checkpoint that stays names it, and when it is old enough not to belong to one
 * that is just being written. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/clock.h"
#include "lake/delta/table_state.h"

#define DAY_MS 86400000ll

struct cleaning {
    char **kept;
    size_t kept_count;
    char **gone; /* paths in the store */
    size_t gone_count;
    int64_t cutoff_ms;
    struct weir_error *err;
};

static int no_memory(struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "clean up sidecars: out of memory");
}

static const char *name_in(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Takes the names; the array itself is freed. */
static int keep(struct cleaning *cleaning, char **names, int32_t count) {
    char **kept =
        count > 0 ? realloc(cleaning->kept, (cleaning->kept_count + (size_t)count) * sizeof(*kept))
                  : cleaning->kept;
    bool good = kept != NULL || count == 0;
    cleaning->kept = kept != NULL ? kept : cleaning->kept;
    for (int32_t i = 0; i < count; i++) {
        char *decoded = good ? delta_uri_decode(names[i]) : NULL;
        char *name = decoded != NULL ? strdup(name_in(decoded)) : NULL;
        good = good && name != NULL;
        if (good) {
            cleaning->kept[cleaning->kept_count++] = name;
        } else {
            free(name);
        }
        free(decoded);
        free(names[i]);
    }
    free(names);
    return good ? WEIR_OK : no_memory(cleaning->err);
}

static int visit_sidecar(void *context, const char *path, const struct weir_store_info *info) {
    struct cleaning *cleaning = context;
    const char *name = name_in(path);
    if (info->modified_ms >= cleaning->cutoff_ms ||
        bsearch(&name, cleaning->kept, cleaning->kept_count, sizeof(*cleaning->kept),
                compare_names) != NULL) {
        return WEIR_OK;
    }
    char **gone = realloc(cleaning->gone, (cleaning->gone_count + 1) * sizeof(*gone));
    if (gone == NULL) {
        return no_memory(cleaning->err);
    }
    cleaning->gone = gone;
    gone[cleaning->gone_count] = strdup(path);
    return gone[cleaning->gone_count++] != NULL ? WEIR_OK : no_memory(cleaning->err);
}

static void free_all(char **names, size_t count) {
    for (size_t i = 0; i < count; i++) {
        free(names[i]);
    }
    free(names);
}

/* Removes sidecars older than `cutoff_ms` that no checkpoint from `keep_from` on names. */
static int clean_sidecars(struct weir_delta_table *table, const struct delta_listing *listing,
                          int64_t keep_from, int64_t cutoff_ms, struct weir_error *err) {
    struct cleaning cleaning = {.cutoff_ms = cutoff_ms, .err = err};
    int rc = WEIR_OK;
    for (size_t i = 0; i < listing->checkpoint_count && rc == WEIR_OK; i++) {
        const struct delta_checkpoint *checkpoint = &listing->checkpoints[i];
        if (checkpoint->version < keep_from || checkpoint->part != 0) {
            continue;
        }
        char **names;
        int32_t count;
        rc = delta_checkpoint_sidecars(table->store, table->dir, checkpoint, &names, &count, err);
        int kept = keep(&cleaning, names, count);
        rc = rc == WEIR_OK ? kept : rc;
    }
    char *folder = delta_log_path(table->dir, "_sidecars");
    if (rc == WEIR_OK && folder == NULL) {
        rc = no_memory(err);
    }
    if (rc == WEIR_OK) {
        if (cleaning.kept_count > 1) {
            qsort(cleaning.kept, cleaning.kept_count, sizeof(*cleaning.kept), compare_names);
        }
        rc = weir_store_list(table->store, folder, NULL, NULL, visit_sidecar, &cleaning, err);
        rc = rc == WEIR_E_NOTFOUND ? WEIR_OK : rc;
    }
    for (size_t i = 0; i < cleaning.gone_count && rc == WEIR_OK; i++) {
        rc = weir_store_remove(table->store, cleaning.gone[i], err);
    }
    free(folder);
    free_all(cleaning.kept, cleaning.kept_count);
    free_all(cleaning.gone, cleaning.gone_count);
    return rc;
}

int delta_log_clean(struct weir_delta_table *table, struct weir_error *err) {
    const struct weir_delta_metadata *metadata = &table->snapshot->metadata;
    const char *enabled = weir_delta_metadata_property(metadata, "delta.enableExpiredLogCleanup");
    if (enabled != NULL && strcmp(enabled, "false") == 0) {
        return WEIR_OK;
    }
    int64_t keep_ms = delta_interval_ms(
        weir_delta_metadata_property(metadata, "delta.logRetentionDuration"), 30 * DAY_MS);
    int64_t cutoff_ms = weir_clock_wall_us() / 1000 - keep_ms;
    cutoff_ms -= cutoff_ms % DAY_MS;
    struct delta_listing listing;
    int rc = delta_list_log(table->store, table->dir, NULL, &listing, err);
    if (rc != WEIR_OK) {
        return rc;
    }
    int64_t expired = -1; /* newest commit older than the cutoff, all before it being so too */
    for (size_t i = 0; i < listing.commit_count && listing.commit_ms[i] < cutoff_ms; i++) {
        expired = listing.commits[i];
    }
    int64_t keep_from = -1;
    for (size_t i = 0; i < listing.checkpoint_count; i++) {
        const struct delta_checkpoint *checkpoint = &listing.checkpoints[i];
        bool whole = checkpoint->part == 0; /* multi-part ones are not trusted to be complete */
        if (whole && checkpoint->version <= expired) {
            keep_from = checkpoint->version;
        }
    }
    for (size_t i = 0; i < listing.commit_count && rc == WEIR_OK; i++) {
        if (listing.commits[i] < keep_from) {
            char *path = delta_log_path(table->dir, "%020" PRId64 ".json", listing.commits[i]);
            char *sum = delta_log_path(table->dir, "%020" PRId64 ".crc", listing.commits[i]);
            rc = path != NULL && sum != NULL ? weir_store_remove(table->store, path, err)
                                             : weir_error_set(err, WEIR_E_NOMEM, "out of memory");
            rc = rc == WEIR_OK ? weir_store_remove(table->store, sum, err) : rc;
            free(path);
            free(sum);
        }
    }
    bool removed = false;
    for (size_t i = 0; i < listing.checkpoint_count && rc == WEIR_OK; i++) {
        if (listing.checkpoints[i].version < keep_from) {
            removed = true;
            char *path = delta_log_path(table->dir, "%s", listing.checkpoints[i].name);
            rc = path != NULL ? weir_store_remove(table->store, path, err)
                              : weir_error_set(err, WEIR_E_NOMEM, "out of memory");
            free(path);
        }
    }
    if (removed && rc == WEIR_OK) {
        rc = clean_sidecars(table, &listing, keep_from, cutoff_ms, err);
    }
    delta_listing_fini(&listing);
    return rc;
}
