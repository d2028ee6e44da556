/* Files of a table that lie in its second store: where they are, and the store they are read from,
 * which a snapshot opens once. */
#include <stdlib.h>
#include <string.h>

#include "lake/delta/place.h"
#include "lake/delta/state.h"
#include "lake/store/open.h"

static const char *below(const struct weir_delta_metadata *metadata, const char *logged) {
    const char *root = weir_delta_metadata_property(metadata, DELTA_TIER_ROOT);
    size_t length = root != NULL ? strlen(root) : 0;
    return length > 0 && strncmp(logged, root, length) == 0 && logged[length] == '/'
               ? logged + length + 1
               : NULL;
}

bool delta_is_tiered(const struct weir_delta_metadata *metadata, const char *logged) {
    return below(metadata, logged) != NULL;
}

int delta_tier_path(const struct weir_delta_metadata *metadata, const char *logged, char **path,
                    struct weir_error *err) {
    *path = delta_uri_decode(below(metadata, logged));
    return *path != NULL ? weir_store_check_path(*path, err)
                         : weir_error_set(err, WEIR_E_NOMEM, "tier: out of memory");
}

int delta_tier_store(struct weir_delta_snapshot *snapshot, struct weir_store **store,
                     struct weir_error *err) {
    const char *root = weir_delta_metadata_property(&snapshot->metadata, DELTA_TIER_ROOT);
    int rc = WEIR_OK;
    if (root == NULL) {
        return weir_error_set(err, WEIR_E_SCHEMA, "the table has no second store any more");
    }
    if (snapshot->tier != NULL && strcmp(snapshot->tier_root, root) != 0) {
        delta_tier_close(snapshot);
    }
    if (snapshot->tier == NULL) {
        snapshot->tier_root = strdup(root);
        rc = snapshot->tier_root != NULL
                 ? weir_store_open_url(root, NULL, false, &snapshot->tier, err)
                 : weir_error_set(err, WEIR_E_NOMEM, "tier: out of memory");
        if (rc != WEIR_OK) {
            delta_tier_close(snapshot);
        }
    }
    *store = snapshot->tier;
    return rc;
}

void delta_tier_close(struct weir_delta_snapshot *snapshot) {
    weir_store_destroy(snapshot->tier);
    free(snapshot->tier_root);
    snapshot->tier = NULL;
    snapshot->tier_root = NULL;
}

int delta_file_place(struct weir_delta_snapshot *snapshot, const char *logged,
                     struct weir_store **store, char **path, struct weir_error *err) {
    *store = snapshot->store;
    *path = NULL;
    if (!delta_is_tiered(&snapshot->metadata, logged)) {
        return delta_file_path(snapshot->store, snapshot->dir, logged, path, err);
    }
    int rc = delta_tier_path(&snapshot->metadata, logged, path, err);
    return rc == WEIR_OK ? delta_tier_store(snapshot, store, err) : rc;
}
