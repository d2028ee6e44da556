/* Left rows that wait are rows.h, by the time they ask for; versions are chains.h. What is kept of
 * versions beyond need is pruned where a chain is used, and by a sweep over all of them: what a row
 * meets is judged as if all of it were gone, so it does not matter when. */
#include "operator/join/temporal.h"

#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "batch/change.h"
#include "operator/key.h"
#include "operator/show.h"
#include "operator/watermark.h"
#include "operator/window.h"

enum { AHEAD_INDEX = 16, AHEAD_ROW = 8, WAITING_BUCKET_US = 100000 };
/* For this long it is known when a key was deleted: a version that comes later still, of before
 * then, would be taken for one that holds. */
#define DELETED_KEPT_US (INT64_C(24) * 3600 * 1000000)

struct weir_temporal {
    struct weir_key *on[2];
    struct weir_key *kept[2];
    struct weir_schema *right;
    int32_t *right_kept; /* columns of it */
    struct weir_rows *waiting;
    struct weir_chains *versions;
    int64_t watermarks[2];
    int32_t as_of;
    int32_t change;
    int32_t unavailable;
    int32_t right_count;
    int64_t wait_us;
    int64_t lateness_us;
    uint64_t shape;
    uint32_t hand; /* of the sweep */
    struct weir_keys keys;
    struct weir_keys payloads;
    struct weir_buffer filled; /* a version with what an update left out */
    bool fed;                  /* keys and payloads are those of the right batch at hand */
    char *declaration;
};

struct bytes {
    const uint8_t *data;
    size_t size;
};

#define FILLED_BYTES_MAX ((size_t)64 << 20)

static uint64_t shape_of(const struct weir_temporal_config *config, const struct weir_temporal *t) {
    uint64_t parts[6] = {
        2,
        weir_key_shape(t->on[0]),
        weir_key_shape(t->kept[0]),
        weir_key_shape(t->kept[1]),
        (uint64_t)config->wait_us,
        (uint64_t)config->lateness_us,
    };
    uint64_t hash =
        weir_join_sides_shape(config->sides, config->on_count, XXH3_64bits(parts, sizeof parts));
    const char *as_of =
        config->as_of >= 0 ? config->sides[0].schema->fields[config->as_of].name : "";
    return XXH3_64bits_withSeed(as_of, strlen(as_of) + 1, hash);
}

static int make(struct weir_temporal *t, const struct weir_temporal_config *config,
                struct weir_error *err) {
    size_t kept_bytes = (size_t)t->right_count * sizeof(*t->right_kept);
    t->right_kept = malloc(kept_bytes + 1);
    if (t->right_kept == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", config->declaration);
    }
    memcpy(t->right_kept, config->sides[1].kept, kept_bytes);
    for (int s = 0; s < 2; s++) {
        const struct weir_join_side *side = &config->sides[s];
        t->on[s] = weir_key_create(side->schema, side->on, config->on_count, err);
        t->kept[s] = weir_key_create_whole(side->schema, side->kept, side->kept_count, err);
        if (t->on[s] == NULL || t->kept[s] == NULL) {
            return err != NULL ? err->code : WEIR_E_NOMEM;
        }
    }
    t->shape = shape_of(config, t);
    struct weir_chains_config versions = {
        .declaration = config->declaration,
        .cell = "versions",
        .shape = t->shape,
        .max_bytes = config->max_bytes,
        .option = config->option,
    };
    t->versions = weir_chains_create(&versions, err);
    if (t->versions == NULL) {
        return err != NULL ? err->code : WEIR_E_NOMEM;
    }
    struct weir_rows_config waiting = {
        .declaration = config->declaration,
        .cell = "left",
        .shape = t->shape,
        .seed = weir_chains_seed(t->versions), /* its rows find their versions by their hashes */
        .bucket_us = WAITING_BUCKET_US,
        .timed = true,
        .max_bytes = config->max_bytes,
        .option = config->option,
    };
    t->waiting = weir_rows_create(&waiting, err);
    return t->waiting != NULL ? WEIR_OK : err != NULL ? err->code : WEIR_E_NOMEM;
}

struct weir_temporal *weir_temporal_create(const struct weir_temporal_config *config,
                                           struct weir_error *err) {
    struct weir_temporal *t = calloc(1, sizeof *t);
    if (t == NULL || (t->declaration = strdup(config->declaration)) == NULL) {
        free(t);
        weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", config->declaration);
        return NULL;
    }
    t->right = weir_schema_ref(config->sides[1].schema);
    t->right_count = config->sides[1].kept_count;
    t->watermarks[0] = t->watermarks[1] = WEIR_WATERMARK_NONE;
    t->as_of = config->as_of;
    t->change = config->change;
    t->unavailable = config->unavailable;
    t->wait_us = config->wait_us;
    t->lateness_us = config->lateness_us;
    weir_keys_init(&t->keys);
    weir_keys_init(&t->payloads);
    weir_buffer_init(&t->filled, FILLED_BYTES_MAX);
    if (make(t, config, err) != WEIR_OK) {
        weir_temporal_destroy(t);
        return NULL;
    }
    return t;
}

void weir_temporal_destroy(struct weir_temporal *t) {
    if (t == NULL) {
        return;
    }
    for (int s = 0; s < 2; s++) {
        weir_key_destroy(t->on[s]);
        weir_key_destroy(t->kept[s]);
    }
    weir_rows_destroy(t->waiting);
    weir_chains_destroy(t->versions);
    weir_keys_fini(&t->keys);
    weir_keys_fini(&t->payloads);
    weir_buffer_fini(&t->filled);
    weir_schema_unref(t->right);
    free(t->right_kept);
    free(t->declaration);
    free(t);
}

/* --- time ------------------------------------------------------------------------------------- */

/* Rows that ask for a time before this wait no longer, when the two watermarks are these. */
static int64_t open_from(const struct weir_temporal *t, int64_t left_us, int64_t right_us) {
    int64_t waited = WEIR_WATERMARK_NONE;
    if (t->wait_us >= 0 && left_us != WEIR_WATERMARK_NONE) {
        waited = left_us == WEIR_WATERMARK_END ? left_us : weir_time_add(left_us, -t->wait_us);
    }
    return right_us > waited ? right_us : waited;
}

static int64_t open_now(const struct weir_temporal *t) {
    return open_from(t, t->watermarks[WEIR_LEFT], t->watermarks[WEIR_RIGHT]);
}

/* Left rows on time ask for nothing before this. */
static int64_t on_time_from(const struct weir_temporal *t, int64_t left_us) {
    return left_us == WEIR_WATERMARK_NONE || left_us == WEIR_WATERMARK_END
               ? left_us
               : weir_time_add(left_us, -t->lateness_us);
}

/* Versions that ended before this are needed by nobody. */
static int64_t needed_from(const struct weir_temporal *t) {
    int64_t left = on_time_from(t, t->watermarks[WEIR_LEFT]);
    int64_t open = open_now(t);
    return left < open ? left : open;
}

void weir_temporal_advance(struct weir_temporal *t, int side, int64_t watermark_us) {
    if (watermark_us > t->watermarks[side]) {
        t->watermarks[side] = watermark_us;
    }
}

int64_t weir_temporal_watermark(const struct weir_temporal *t) {
    int64_t left = t->watermarks[WEIR_LEFT];
    int64_t open = open_now(t);
    int64_t lowest = left < open ? left : open;
    if (t->as_of >= 0) { /* the time asked for says nothing about when the row was */
        int64_t kept = weir_rows_lowest_time(t->waiting);
        return open == WEIR_WATERMARK_END ? left : kept < left ? kept : left;
    }
    return lowest;
}

/* --- versions --------------------------------------------------------------------------------- */

static const struct weir_link *link_at(const struct weir_temporal *t, uint32_t number) {
    return number != 0 ? weir_chains_link(t->versions, number) : NULL;
}

/* The newest version not after a time, of a chain: looked for from both ends. */
static const struct weir_link *valid_at(const struct weir_temporal *t,
                                        const struct weir_chain *chain, int64_t time_us) {
    const struct weir_link *down = chain->newest;
    const struct weir_link *up = chain->oldest;
    if (up == NULL || up->time_us > time_us) {
        return NULL;
    }
    for (;;) {
        if (down->time_us <= time_us) {
            return down;
        }
        const struct weir_link *next = link_at(t, up->newer);
        if (next == NULL || next->time_us > time_us) {
            return up;
        }
        up = next;
        down = link_at(t, down->older);
    }
}

/* Nobody needs it: the next one was valid already when the last row asked that may ask. */
static bool is_over(const struct weir_temporal *t, const struct weir_link *version,
                    int64_t needed_us) {
    if (needed_us == WEIR_WATERMARK_NONE) {
        return false;
    }
    const struct weir_link *newer = link_at(t, version->newer);
    return (newer != NULL && newer->time_us <= needed_us) ||
           (version->ended && version->older == 0 &&
            version->time_us < weir_time_add(needed_us, -DELETED_KEPT_US));
}

static int prune(struct weir_temporal *t, struct weir_chain *chain, int64_t needed_us,
                 struct weir_error *err) {
    while (chain->oldest != NULL && is_over(t, chain->oldest, needed_us)) {
        struct weir_link *gone = chain->oldest;
        chain->oldest = gone->newer != 0 ? weir_chains_link(t->versions, gone->newer) : NULL;
        chain->newest = chain->oldest != NULL ? chain->newest : NULL;
        int rc = weir_chains_remove(t->versions, gone, err);
        if (rc != WEIR_OK) {
            return rc;
        }
    }
    return WEIR_OK;
}

int weir_temporal_expire(struct weir_temporal *t, size_t max_rows, struct weir_error *err) {
    int64_t open = open_now(t);
    int64_t needed = needed_from(t);
    uint32_t numbers = weir_chains_numbers(t->versions);
    int rc = WEIR_OK;
    if (open != WEIR_WATERMARK_NONE) {
        weir_rows_expire(t->waiting, open, max_rows);
    }
    for (size_t i = 0; rc == WEIR_OK && i < max_rows && i < numbers; i++) {
        t->hand = t->hand >= numbers ? 1 : t->hand + 1;
        struct weir_link *version = weir_chains_link(t->versions, t->hand);
        if (version != NULL && is_over(t, version, needed)) {
            rc = weir_chains_remove(t->versions, version, err);
        }
    }
    return rc;
}

/* --- left rows -------------------------------------------------------------------------------- */

static int encode(struct weir_temporal *t, int side, const struct weir_batch *batch,
                  const int32_t *sel, int32_t count, struct weir_error *err) {
    int rc = weir_key_encode(t->on[side], batch, sel, count, 0, &t->keys);
    rc = rc == WEIR_OK ? weir_key_encode(t->kept[side], batch, sel, count, 0, &t->payloads) : rc;
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: no memory for the rows of a batch", t->declaration);
    }
    weir_keys_hash(&t->keys, weir_chains_seed(t->versions));
    return WEIR_OK;
}

/* INT64_MIN: for none. */
static int64_t asked_for(const struct weir_column *as_of, int32_t row, int64_t time_us) {
    if (as_of == NULL) {
        return time_us;
    }
    return weir_column_is_null(as_of, row) ? INT64_MIN : ((const int64_t *)as_of->values)[row];
}

static size_t span_of(const struct weir_keys *keys, int32_t i) {
    return keys->offsets[i + 1] - keys->offsets[i];
}

static void prefetch(const struct weir_temporal *t, int32_t i, int32_t count) {
    if (i + AHEAD_INDEX < count) {
        weir_chains_prefetch(t->versions, t->keys.hashes[i + AHEAD_INDEX]);
    }
    if (i + AHEAD_ROW < count) {
        weir_chains_prefetch_row(t->versions, t->keys.hashes[i + AHEAD_ROW]);
    }
}

/* The version of one row that waits no longer. */
static int meet(struct weir_temporal *t, int32_t i, int64_t time_us,
                const struct weir_link **version, struct weir_error *err) {
    const struct weir_keys *keys = &t->keys;
    struct weir_chain chain = weir_chains_find(t->versions, keys->hashes[i],
                                               keys->bytes + keys->offsets[i], span_of(keys, i));
    int rc = prune(t, &chain, needed_from(t), err);
    *version = valid_at(t, &chain, time_us);
    *version = *version != NULL && (*version)->ended ? NULL : *version;
    return rc;
}

static int wait(struct weir_temporal *t, int32_t i, int64_t time_us, int64_t event_us,
                struct weir_error *err) {
    const struct weir_keys *keys = &t->keys;
    const struct weir_keys *payloads = &t->payloads;
    struct weir_row *row = weir_rows_add(
        t->waiting, keys->hashes[i], keys->bytes + keys->offsets[i], span_of(keys, i),
        payloads->bytes + payloads->offsets[i], span_of(payloads, i), event_us, time_us, err);
    return row != NULL ? WEIR_OK : err != NULL && err->code != WEIR_OK ? err->code : WEIR_E_NOMEM;
}

int weir_temporal_left(struct weir_temporal *t, const struct weir_batch *batch, const int32_t *sel,
                       int32_t count, const int64_t *times_us, const int64_t *watermark_before_us,
                       struct weir_temporal_pair *pairs, int32_t *pair_count, int32_t *late_sel,
                       int32_t *late_count, struct weir_error *err) {
    const struct weir_column *as_of = t->as_of >= 0 ? &batch->columns[t->as_of] : NULL;
    *pair_count = *late_count = 0;
    t->fed = false;
    int rc = encode(t, WEIR_LEFT, batch, sel, count, err);
    for (int32_t i = 0; rc == WEIR_OK && i < count; i++) {
        int32_t row = sel[i];
        int64_t before = watermark_before_us[row];
        int64_t time = asked_for(as_of, row, times_us[row]);
        int64_t open = open_from(t, before, t->watermarks[WEIR_RIGHT]);
        bool meets = time != INT64_MIN && !t->keys.any_null[i];
        const struct weir_link *version = NULL;
        prefetch(t, i, count);
        if (meets && time < on_time_from(t, before)) {
            late_sel[(*late_count)++] = row;
        } else if (meets && time >= open && open != WEIR_WATERMARK_END) {
            rc = wait(t, i, time, times_us[row], err);
        } else {
            rc = meets ? meet(t, i, time, &version, err) : WEIR_OK;
            int64_t passed = t->as_of >= 0 || before < open ? before : open;
            pairs[(*pair_count)++] = (struct weir_temporal_pair){row, version, passed};
        }
    }
    return rc;
}

int32_t weir_temporal_due(struct weir_temporal *t, struct weir_row **rows,
                          const struct weir_link **versions, int32_t room) {
    int64_t open = open_now(t);
    int32_t count = 0;
    while (count < room && open != WEIR_WATERMARK_NONE &&
           (rows[count] = weir_rows_due(t->waiting, open)) != NULL) {
        const struct weir_row *row = rows[count];
        struct weir_chain chain =
            weir_chains_find(t->versions, row->hash, row->data, row->key_bytes);
        const struct weir_link *version = valid_at(t, &chain, row->until_us);
        versions[count++] = version != NULL && version->ended ? NULL : version;
    }
    return count;
}

bool weir_temporal_any_due(struct weir_temporal *t) {
    int64_t open = open_now(t);
    return open != WEIR_WATERMARK_NONE && weir_rows_peek(t->waiting, open) != NULL;
}

/* --- right rows ------------------------------------------------------------------------------- */

/* The row's bytes, or t->filled with what it leaves out taken from the version before it. */
static int fill(struct weir_temporal *t, const struct weir_batch *batch, int32_t row, int32_t i,
                const struct weir_link *before, struct bytes *out) {
    const struct weir_keys *payloads = &t->payloads;
    *out = (struct bytes){payloads->bytes + payloads->offsets[i], span_of(payloads, i)};
    if (t->unavailable < 0 || before == NULL ||
        weir_column_is_null(&batch->columns[t->unavailable], row)) {
        return WEIR_OK;
    }
    const uint8_t *fresh = out->data;
    const uint8_t *old = before->bytes;
    size_t fresh_left = out->size;
    size_t old_left = before->size;
    weir_buffer_clear(&t->filled);
    for (int32_t k = 0; k < t->right_count; k++) {
        uint8_t type = t->right->fields[t->right_kept[k]].type;
        size_t fresh_size = weir_key_value_bytes(type, fresh, fresh_left);
        size_t old_size = weir_key_value_bytes(type, old, old_left);
        bool keeps =
            old_size > 0 && weir_change_leaves_out(batch, t->unavailable, row,
                                                   t->right->fields[t->right_kept[k]].name);
        int rc = weir_buffer_append(&t->filled, keeps ? old : fresh, keeps ? old_size : fresh_size);
        if (rc != WEIR_OK) {
            return rc;
        }
        fresh += fresh_size;
        fresh_left -= fresh_size;
        old += old_size;
        old_left -= old_size;
    }
    *out = (struct bytes){t->filled.data, t->filled.size};
    return WEIR_OK;
}

/* From when on a delete holds: without a time of its own (none at all, or that of the row it takes
 * back), from now on. */
static int64_t delete_time(const struct weir_chain *chain, int64_t time_us, int64_t before_us) {
    int64_t newest = chain->newest->time_us;
    if (time_us != 0 && time_us != newest) {
        return time_us;
    }
    return before_us > newest ? before_us : newest;
}

static int take(struct weir_temporal *t, const struct weir_batch *batch, int32_t row, int32_t i,
                const struct weir_chain *chain, int64_t time_us, bool deletes,
                struct weir_error *err) {
    const struct weir_keys *keys = &t->keys;
    const struct weir_link *before = valid_at(t, chain, time_us);
    struct bytes bytes = {NULL, 0};
    struct weir_link *link;
    int rc = deletes ? WEIR_OK : fill(t, batch, row, i, before, &bytes);
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: a row is too long", t->declaration);
    }
    if (before != NULL && before->time_us == time_us) { /* the last to come */
        link = weir_chains_link(t->versions, before->number);
        rc = weir_chains_set(t->versions, link, bytes.data, bytes.size, err);
    } else {
        link = weir_chains_add(t->versions, keys->hashes[i], keys->bytes + keys->offsets[i],
                               span_of(keys, i), time_us, bytes.data, bytes.size, err);
        rc = link != NULL ? WEIR_OK : err != NULL ? err->code : WEIR_E_NOMEM;
    }
    if (rc == WEIR_OK) {
        link->ended = deletes;
    }
    return rc;
}

/* A truncate ends what holds, as deletes without a time do. */
static int end_all(struct weir_temporal *t, int64_t before_us, struct weir_error *err) {
    uint32_t numbers = weir_chains_numbers(t->versions);
    int rc = WEIR_OK;
    for (uint32_t n = 1; rc == WEIR_OK && n <= numbers; n++) {
        const struct weir_link *version = weir_chains_link(t->versions, n);
        if (version == NULL || version->newer != 0 || version->ended) {
            continue;
        }
        int64_t time = before_us > version->time_us ? before_us : version->time_us;
        struct weir_link *end = weir_chains_add_beside(t->versions, version, time, err);
        rc = end != NULL ? WEIR_OK : err != NULL ? err->code : WEIR_E_NOMEM;
        if (rc == WEIR_OK) {
            end->ended = 1;
        }
    }
    return rc;
}

int weir_temporal_right(struct weir_temporal *t, const struct weir_batch *batch, const int32_t *sel,
                        int32_t count, const int64_t *times_us, const int64_t *watermark_before_us,
                        int32_t *from, int64_t *late, struct weir_error *err) {
    const struct weir_keys *keys = &t->keys;
    int rc = *from == 0 || !t->fed ? encode(t, WEIR_RIGHT, batch, sel, count, err) : WEIR_OK;
    t->fed = true;
    for (; rc == WEIR_OK && *from < count; ++*from) {
        int32_t i = *from;
        int32_t row = sel[i];
        int64_t before = watermark_before_us[row];
        int64_t kind = t->change >= 0 ? weir_change_read(&batch->columns[t->change], row)
                                      : (int64_t)WEIR_CHANGE_INSERT;
        prefetch(t, i, count);
        if (kind == WEIR_CHANGE_TRUNCATE) {
            rc = end_all(t, before, err);
            continue;
        }
        if (keys->any_null[i] || kind == WEIR_CHANGE_BEFORE) {
            continue;
        }
        struct weir_chain chain = weir_chains_find(
            t->versions, keys->hashes[i], keys->bytes + keys->offsets[i], span_of(keys, i));
        bool deletes = kind == WEIR_CHANGE_DELETE;
        if (deletes && chain.newest == NULL) {
            continue; /* of a key that never was */
        }
        int64_t time = deletes ? delete_time(&chain, times_us[row], before) : times_us[row];
        int64_t open = open_from(t, t->watermarks[WEIR_LEFT], before);
        if (open != WEIR_WATERMARK_NONE && time < open) {
            weir_temporal_advance(t, WEIR_RIGHT, before);
            if (weir_temporal_any_due(t)) {
                return WEIR_OK;
            }
            ++*late;
        }
        rc = take(t, batch, row, i, &chain, time, deletes, err);
        if (rc == WEIR_OK) {
            chain = weir_chains_find(t->versions, keys->hashes[i], keys->bytes + keys->offsets[i],
                                     span_of(keys, i));
            rc = prune(t, &chain, needed_from(t), err);
        }
    }
    return rc;
}

/* --- what is kept ----------------------------------------------------------------------------- */

int weir_temporal_decode(const struct weir_temporal *t, const struct weir_row *row,
                         struct weir_column_builder *columns) {
    return weir_key_decode(t->kept[WEIR_LEFT], weir_row_bytes(row), row->row_bytes, columns);
}

int weir_temporal_decode_version(const struct weir_temporal *t, const struct weir_link *version,
                                 struct weir_column_builder *columns) {
    return weir_key_decode(t->kept[WEIR_RIGHT], version->bytes, version->size, columns);
}

size_t weir_temporal_rows(const struct weir_temporal *t, int side) {
    return side == WEIR_LEFT ? weir_rows_count(t->waiting) : weir_chains_rows(t->versions);
}

size_t weir_temporal_estimate(const struct weir_temporal *t, int side) {
    size_t head = side == WEIR_LEFT ? sizeof(struct weir_row) + 32 : weir_chains_estimate();
    return head + weir_key_estimate_bytes(t->on[side]) + weir_key_estimate_bytes(t->kept[side]);
}

void weir_temporal_follow(struct weir_temporal *t, struct weir_temporal *as) {
    for (int s = 0; s < 2; s++) {
        struct weir_key *on = t->on[s];
        struct weir_key *kept = t->kept[s];
        t->on[s] = as->on[s];
        t->kept[s] = as->kept[s];
        as->on[s] = on;
        as->kept[s] = kept;
    }
    struct weir_schema *right = t->right;
    int32_t *right_kept = t->right_kept;
    t->right = as->right;
    t->right_kept = as->right_kept;
    as->right = right;
    as->right_kept = right_kept;
    t->as_of = as->as_of;
    t->change = as->change;
    t->unavailable = as->unavailable;
}

uint64_t weir_temporal_shape(const struct weir_temporal *t) {
    return t->shape;
}

struct weir_cell *weir_temporal_cell(struct weir_temporal *t, int side) {
    return side == WEIR_LEFT ? weir_rows_cell(t->waiting) : weir_chains_cell(t->versions);
}

static int show_waiting(void *owner, const struct weir_show_entry *entry, struct weir_shown *out,
                        struct weir_error *err) {
    const struct weir_temporal *t = owner;
    return weir_join_show_row(t->on[WEIR_LEFT], 0, t->kept[WEIR_LEFT], entry, out, err);
}

static int show_version(void *owner, const struct weir_show_entry *entry, struct weir_shown *out,
                        struct weir_error *err) {
    const struct weir_temporal *t = owner;
    struct weir_link version;
    size_t head = weir_chains_read(entry->value, entry->value_bytes, &version);
    if (head == 0 || entry->key_bytes < WEIR_CHAIN_KEY_FROM) {
        return weir_error_set(err, WEIR_E_CORRUPT, "a version does not parse");
    }
    int rc = weir_shown_key(out, t->on[WEIR_RIGHT], entry->key + WEIR_CHAIN_KEY_FROM,
                            entry->key_bytes - WEIR_CHAIN_KEY_FROM, &out->key, err);
    rc = rc == WEIR_OK ? weir_shown_time(&out->key, "_from", version.time_us) : rc;
    if (rc == WEIR_OK && version.ended) {
        return weir_shown_json(&out->value, "_deleted", "true", 4);
    }
    return rc == WEIR_OK && weir_key_schema(t->kept[WEIR_RIGHT])->count > 0
               ? weir_shown_key(out, t->kept[WEIR_RIGHT], entry->value + head,
                                entry->value_bytes - head, &out->value, err)
               : rc;
}

void weir_temporal_show(struct weir_temporal *t, int side, struct weir_show *show) {
    *show =
        side == WEIR_LEFT
            ? (struct weir_show){weir_temporal_cell(t, side), "rows that wait for their version", t,
                                 show_waiting, false}
            : (struct weir_show){weir_temporal_cell(t, side), "versions", t, show_version, false};
}

int weir_temporal_restore(struct weir_temporal *t, struct weir_error *err) {
    int rc = weir_rows_restore(t->waiting, err);
    return rc == WEIR_OK ? weir_chains_restore(t->versions, err) : rc;
}

void weir_temporal_set_watermarks(struct weir_temporal *t, int64_t left_us, int64_t right_us) {
    t->watermarks[WEIR_LEFT] = left_us;
    t->watermarks[WEIR_RIGHT] = right_us;
    int64_t open = open_now(t);
    while (open != WEIR_WATERMARK_NONE && weir_rows_due(t->waiting, open) != NULL) {
    }
}
