/* Groups without a window whose keys need not all fit memory. */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>

#include "operator/aggregate_private.h"

/* A pipeline may hold two graphs of the same rules for a while. */
static _Atomic uint64_t folders;

int aggregate_disk_allow(struct weir_aggregate *aggregate,
                         const struct weir_aggregate_config *config, struct weir_error *err) {
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s-%" PRIu64, config->disk, config->declaration,
             atomic_fetch_add(&folders, 1) + 1);
    const struct weir_table_disk disk = {.path = path, .signal = config->disk_signal};
    aggregate->may_wait = true;
    return weir_table_allow_disk(aggregate->table, &disk, err);
}

bool weir_aggregate_may_wait(const struct weir_aggregate *aggregate) {
    return aggregate->may_wait;
}

int weir_aggregate_need(struct weir_aggregate *aggregate, const struct weir_batch *batch,
                        const int32_t *sel, int32_t count, bool *waits, struct weir_error *err) {
    struct weir_keys *keys = &aggregate->keys;
    *waits = false;
    if (count == 0 || weir_table_disk_figures(aggregate->table).keys == 0) {
        return WEIR_OK;
    }
    int rc = weir_key_encode(aggregate->key, batch, sel, count, aggregate->prefix_bytes, keys);
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: no memory for %d keys", aggregate->declaration, count);
    }
    weir_keys_hash(keys, weir_table_view(aggregate->table)->seed);
    return weir_table_need(aggregate->table, keys->bytes, keys->offsets, keys->hashes, count, waits,
                           err);
}

int weir_aggregate_bring(struct weir_aggregate *aggregate, bool *done, struct weir_error *err) {
    return weir_table_bring(aggregate->table, done, err);
}

int weir_aggregate_make_room(struct weir_aggregate *aggregate, bool *crowded,
                             struct weir_error *err) {
    return weir_table_make_room(aggregate->table, crowded, err);
}

struct weir_table_disk_figures weir_aggregate_disk_figures(const struct weir_aggregate *aggregate) {
    return weir_table_disk_figures(aggregate->table);
}
