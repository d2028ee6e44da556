/* Rows of a regular join that wait on disk. Those are needed that a row may meet, and of its own
 * side what it takes back: a row that only comes need not know the others of its side. */
#include "batch/change.h"
#include "operator/join/regular_private.h"

enum { BROUGHT_MOST = 2048 /* rows of a side that come in at a time, about */, FED_LEAST = 16 };

bool weir_regular_uses_disk(const struct weir_regular *r) {
    return weir_chains_use_disk(r->sides[WEIR_LEFT].rows) ||
           weir_chains_use_disk(r->sides[WEIR_RIGHT].rows);
}

/* Whether these two rows of a batch may be an update: they are not parted. */
static bool is_update(const struct weir_regular *r, int side, const struct weir_batch *batch,
                      const int32_t *sel) {
    int32_t column = r->sides[side].change;
    return column >= 0 && sel[1] == sel[0] + 1 &&
           weir_change_read(&batch->columns[column], sel[0]) == WEIR_CHANGE_BEFORE &&
           weir_change_read(&batch->columns[column], sel[1]) == WEIR_CHANGE_AFTER;
}

static int want(struct weir_regular *r, int side, int32_t i, struct weir_error *err) {
    const uint8_t *key = r->keys.bytes + r->keys.offsets[i];
    return weir_chains_want(r->sides[side].rows, r->keys.hashes[i], key, span_of(&r->keys, i), err);
}

int weir_regular_need(struct weir_regular *r, int side, const struct weir_batch *batch,
                      const int32_t *sel, int32_t *count, bool *waits, struct weir_error *err) {
    bool loads[2] = {false, false};
    if (*count > r->at_once) {
        *count = r->at_once + is_update(r, side, batch, sel + r->at_once - 1);
    }
    int rc = regular_prepare(r, side, batch, sel, *count, err);
    r->prepared = rc == WEIR_OK;
    r->brought = 0;
    for (int32_t i = 0; rc == WEIR_OK && i < *count; i++) {
        const struct row row = regular_classify(r, i);
        regular_prefetch(r, i);
        if (regular_asks_others(r, &row)) {
            rc = want(r, !side, i, err);
        }
        if (rc == WEIR_OK && !row.keyless && (row.act == ACT_REMOVE || row.act == ACT_UPDATE)) {
            rc = want(r, side, i, err);
        }
        i = row.new_at;
    }
    for (int s = 0; rc == WEIR_OK && s < 2; s++) {
        rc = weir_chains_load(r->sides[s].rows, &loads[s], err);
    }
    *waits = loads[0] || loads[1];
    if (!*waits && r->at_once < REGULAR_FED_MOST) {
        r->at_once *= 2;
    }
    return rc;
}

int weir_regular_bring(struct weir_regular *r, bool *done, struct weir_error *err) {
    int rc = WEIR_OK;
    *done = true;
    for (int s = 0; rc == WEIR_OK && s < 2; s++) {
        bool side_done;
        size_t rows;
        rc = weir_chains_bring(r->sides[s].rows, &side_done, &rows, err);
        *done = *done && side_done;
        r->brought += rows;
    }
    if (rc == WEIR_OK && *done) { /* as many the next time as would have brought enough now */
        int64_t fit = (int64_t)r->count * BROUGHT_MOST / (int64_t)(r->brought + 1) + 1;
        fit = fit > (int64_t)r->at_once * 2 ? (int64_t)r->at_once * 2 : fit;
        r->at_once = fit > REGULAR_FED_MOST ? REGULAR_FED_MOST
                     : fit < FED_LEAST      ? FED_LEAST
                                            : (int32_t)fit;
    }
    return rc;
}

int weir_regular_make_room(struct weir_regular *r, bool *crowded, struct weir_error *err) {
    int rc = WEIR_OK;
    *crowded = false;
    for (int s = 0; rc == WEIR_OK && s < 2; s++) {
        bool this_one;
        rc = weir_chains_make_room(r->sides[s].rows, &this_one, err);
        *crowded |= this_one;
    }
    return rc;
}

struct weir_table_disk_figures weir_regular_disk_figures(const struct weir_regular *r) {
    struct weir_table_disk_figures all = weir_chains_disk_figures(r->sides[WEIR_LEFT].rows);
    struct weir_table_disk_figures right = weir_chains_disk_figures(r->sides[WEIR_RIGHT].rows);
    all.keys += right.keys;
    all.written += right.written;
    all.asked += right.asked;
    all.read += right.read;
    all.found += right.found;
    all.forgotten += right.forgotten;
    return all;
}
