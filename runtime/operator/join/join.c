/* Bounds as times of rows: a row knows until when the other side may have something for it, so two
 * rows meet when neither comes after the other's `until`. */
#include "operator/join/join.h"

#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "operator/key.h"
#include "operator/show.h"
#include "operator/watermark.h"
#include "operator/window.h"

enum {
    AHEAD_INDEX = 16, /* rows: prefetch of an entry, then of what it leads to */
    AHEAD_ROW = 8,
    BUCKETS = 32, /* about as many a span */
    BUCKET_LEAST_US = 100000
};

struct side {
    struct weir_key *on;
    struct weir_key *kept;
    struct weir_rows *rows;
    int64_t watermark_us;
    size_t key_from; /* of a kept key: behind the window */
};

struct weir_join {
    struct side sides[2];
    enum weir_join_kind kind;
    int64_t low_us;
    int64_t high_us;
    int32_t high_column;
    int64_t lateness_us;
    int64_t window_us; /* 0: rows meet within bounds of each other */
    int64_t every_us;
    uint64_t shape;
    int64_t unmatched;
    char *declaration;
    /* The batch fed last. */
    struct weir_keys keys; /* hashed as the other side does */
    struct weir_keys payloads;
    int fed;              /* its side */
    int32_t fed_count;    /* rows that may meet others */
    int32_t at;           /* the row whose pairs come next */
    struct weir_row *met; /* and the row its next pair may be with, once begun */
    bool begun;
    /* By position, in one block that begins with the times. */
    int64_t *times;
    int64_t *ends;
    struct weir_row **own;
    int32_t *rows; /* of the batch */
    uint8_t *once; /* a left row that is not kept has met some row */
    bool *meets;
    int32_t capacity;
};

static bool keeps_alone(enum weir_join_kind kind, int side) {
    return kind == WEIR_JOIN_FULL ||
           (side == WEIR_LEFT ? kind == WEIR_JOIN_LEFT || kind == WEIR_JOIN_ANTI
                              : kind == WEIR_JOIN_RIGHT);
}

uint64_t weir_join_sides_shape(const struct weir_join_side *sides, int32_t on_count,
                               uint64_t hash) {
    for (int s = 0; s < 2; s++) {
        for (int32_t k = 0; k < sides[s].kept_count; k++) {
            const char *name = sides[s].schema->fields[sides[s].kept[k]].name;
            hash = XXH3_64bits_withSeed(name, strlen(name) + 1, hash);
        }
        for (int32_t k = 0; k < on_count; k++) {
            const char *name = sides[s].schema->fields[sides[s].on[k]].name;
            hash = XXH3_64bits_withSeed(name, strlen(name) + 1, hash);
        }
    }
    return hash;
}

static uint64_t shape_of(const struct weir_join_config *config, const struct weir_join *join) {
    uint64_t parts[12] = {
        1,
        weir_key_shape(join->sides[0].on),
        weir_key_shape(join->sides[1].on),
        weir_key_shape(join->sides[0].kept),
        weir_key_shape(join->sides[1].kept),
        config->kind,
        (uint64_t)config->low_us,
        (uint64_t)config->high_us,
        config->high_column >= 0,
        (uint64_t)config->lateness_us,
        (uint64_t)config->window_us,
        (uint64_t)config->every_us,
    };
    size_t bytes = config->window_us > 0 ? sizeof parts : sizeof parts - 2 * sizeof parts[0];
    return weir_join_sides_shape(config->sides, config->on_count, XXH3_64bits(parts, bytes));
}

struct weir_join *weir_join_create(const struct weir_join_config *config, struct weir_error *err) {
    struct weir_join *join = calloc(1, sizeof *join);
    if (join == NULL || (join->declaration = strdup(config->declaration)) == NULL) {
        free(join);
        weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", config->declaration);
        return NULL;
    }
    join->kind = config->kind;
    join->low_us = config->low_us;
    join->high_us = config->high_us;
    join->high_column = config->high_column;
    join->lateness_us = config->lateness_us;
    join->window_us = config->window_us;
    join->every_us = config->every_us;
    weir_keys_init(&join->keys);
    weir_keys_init(&join->payloads);
    int64_t span = config->high_us - config->low_us + config->window_us + config->lateness_us;
    int64_t bucket = span / BUCKETS > BUCKET_LEAST_US ? span / BUCKETS : BUCKET_LEAST_US;
    for (int s = 0; s < 2; s++) {
        const struct weir_join_side *from = &config->sides[s];
        struct side *side = &join->sides[s];
        side->watermark_us = WEIR_WATERMARK_NONE;
        side->key_from = config->window_us > 0 ? sizeof(int64_t) : 0;
        side->on = weir_key_create(from->schema, from->on, config->on_count, err);
        side->kept = side->on != NULL
                         ? weir_key_create_whole(from->schema, from->kept, from->kept_count, err)
                         : NULL;
        if (side->kept == NULL) {
            weir_join_destroy(join);
            return NULL;
        }
    }
    join->shape = shape_of(config, join);
    for (int s = 0; s < 2; s++) {
        struct weir_rows_config rows = {
            .declaration = config->declaration,
            .cell = s == WEIR_LEFT ? "left" : "right",
            .shape = join->shape,
            .seed = s == WEIR_RIGHT ? weir_rows_seed(join->sides[WEIR_LEFT].rows) : 0,
            .bucket_us = bucket,
            .timed = keeps_alone(config->kind, s),
            .max_bytes = config->max_bytes,
            .option = config->option,
        };
        join->sides[s].rows = weir_rows_create(&rows, err);
        if (join->sides[s].rows == NULL) {
            weir_join_destroy(join);
            return NULL;
        }
    }
    return join;
}

void weir_join_destroy(struct weir_join *join) {
    if (join == NULL) {
        return;
    }
    for (int s = 0; s < 2; s++) {
        weir_key_destroy(join->sides[s].on);
        weir_key_destroy(join->sides[s].kept);
        weir_rows_destroy(join->sides[s].rows);
    }
    weir_keys_fini(&join->keys);
    weir_keys_fini(&join->payloads);
    free(join->times);
    free(join->declaration);
    free(join);
}

/* --- rows come ---------------------------------------------------------------------------------
 */

/* One block for all that is by position. */
static int grow(struct weir_join *join, int32_t count) {
    size_t n = (size_t)count;
    if (count <= join->capacity) {
        return WEIR_OK;
    }
    size_t each = 2 * sizeof(int64_t) + sizeof(struct weir_row *) + sizeof(int32_t) + 2;
    int64_t *block = malloc(n * each);
    if (block == NULL) {
        return WEIR_E_NOMEM;
    }
    free(join->times);
    join->times = block;
    join->ends = block + n;
    join->own = (struct weir_row **)(void *)(join->ends + n);
    join->rows = (int32_t *)(void *)(join->own + n);
    join->once = (uint8_t *)(join->rows + n);
    join->meets = (bool *)(join->once + n);
    join->capacity = count;
    return WEIR_OK;
}

/* The last moment of the other side that a row of this one may meet; INT64_MIN: none at all. */
static int64_t until_of(const struct weir_join *join, int side, int64_t time_us,
                        const struct weir_column *high, int32_t row) {
    if (side == WEIR_RIGHT) {
        return weir_time_add(time_us, -join->low_us);
    }
    if (high == NULL) {
        return weir_time_add(time_us, join->high_us);
    }
    return weir_column_is_null(high, row) ? INT64_MIN : ((const int64_t *)high->values)[row];
}

/* Rows of a side are kept until this passes them. */
static int64_t passed(const struct weir_join *join, int side) {
    int64_t other = join->sides[!side].watermark_us;
    if (other == WEIR_WATERMARK_NONE || other == WEIR_WATERMARK_END) {
        return other;
    }
    return weir_time_add(other, -join->lateness_us);
}

static void put(struct weir_join *join, int32_t row, int64_t time_us, int64_t end_us) {
    int32_t at = join->fed_count++;
    join->rows[at] = row;
    join->times[at] = time_us;
    join->ends[at] = end_us;
}

/* The row once for each of its windows that its own side has not closed; it is as old as they are,
 * so that those of one window meet. False: there is none. */
static bool put_windows(struct weir_join *join, int32_t row, int64_t time_us, int64_t before_us) {
    int32_t before = join->fed_count;
    int64_t start = weir_window_start(time_us, join->every_us);
    for (; start > time_us - join->window_us; start -= join->every_us) {
        int64_t end = weir_time_add(start, join->window_us);
        if (before_us == WEIR_WATERMARK_NONE || weir_time_add(end, join->lateness_us) > before_us) {
            put(join, row, end - 1, end - 1);
        }
    }
    return join->fed_count > before;
}

/* On-time rows into the scratch; the others into late_sel. */
static void choose(struct weir_join *join, int side, const struct weir_batch *batch,
                   const int32_t *sel, int32_t count, const int64_t *times_us,
                   const int64_t *watermark_before_us, int32_t *late_sel, int32_t *late_count) {
    const struct weir_column *high =
        join->high_column >= 0 && side == WEIR_LEFT ? &batch->columns[join->high_column] : NULL;
    join->fed_count = 0;
    *late_count = 0;
    for (int32_t i = 0; i < count; i++) {
        int32_t row = sel[i];
        int64_t before = watermark_before_us[row];
        bool late = before != WEIR_WATERMARK_NONE &&
                    times_us[row] < weir_time_add(before, -join->lateness_us);
        if (join->window_us > 0) {
            late = !put_windows(join, row, times_us[row], before);
        } else if (!late) {
            put(join, row, times_us[row], until_of(join, side, times_us[row], high, row));
        }
        if (late) {
            late_sel[(*late_count)++] = row;
        }
    }
}

static int keep(struct weir_join *join, int side, struct weir_error *err) {
    const struct weir_keys *keys = &join->keys;
    const struct weir_keys *payloads = &join->payloads;
    struct side *to = &join->sides[side];
    bool alone = keeps_alone(join->kind, side);
    int64_t over_us = passed(join, side);
    join->unmatched += side == WEIR_LEFT ? join->fed_count : 0;
    memset(join->once, 0, (size_t)join->fed_count);
    for (int32_t i = 0; i < join->fed_count; i++) {
        bool meets = !keys->any_null[i] && join->ends[i] != INT64_MIN;
        if (i + AHEAD_INDEX < join->fed_count) {
            weir_rows_prefetch(to->rows, keys->hashes[i + AHEAD_INDEX]);
        }
        if (i + AHEAD_ROW < join->fed_count) {
            weir_rows_prefetch_row(to->rows, keys->hashes[i + AHEAD_ROW]);
        }
        join->meets[i] = meets;
        join->own[i] = NULL;
        bool over = over_us == WEIR_WATERMARK_END || join->ends[i] < over_us; /* NONE: never */
        if (!alone && (!meets || over)) {
            continue;
        }
        join->own[i] = weir_rows_add(
            to->rows, keys->hashes[i], meets ? keys->bytes + keys->offsets[i] : NULL,
            keys->offsets[i + 1] - keys->offsets[i], payloads->bytes + payloads->offsets[i],
            payloads->offsets[i + 1] - payloads->offsets[i], join->times[i],
            join->ends[i] != INT64_MIN ? join->ends[i] : join->times[i], err);
        if (join->own[i] == NULL) {
            return err != NULL && err->code != WEIR_OK ? err->code : WEIR_E_NOMEM;
        }
    }
    return WEIR_OK;
}

int weir_join_feed(struct weir_join *join, int side, const struct weir_batch *batch,
                   const int32_t *sel, int32_t count, const int64_t *times_us,
                   const int64_t *watermark_before_us, int32_t *late_sel, int32_t *late_count,
                   struct weir_error *err) {
    bool windows = join->window_us > 0;
    int32_t each = windows ? (int32_t)((join->window_us + join->every_us - 1) / join->every_us) : 1;
    int rc = grow(join, count * each);
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: out of memory", join->declaration);
    }
    join->fed = side;
    join->at = 0;
    join->begun = false;
    choose(join, side, batch, sel, count, times_us, watermark_before_us, late_sel, late_count);
    rc = weir_key_encode(join->sides[side].on, batch, join->rows, join->fed_count,
                         (uint32_t)join->sides[side].key_from, &join->keys);
    if (rc == WEIR_OK) {
        rc = weir_key_encode(join->sides[side].kept, batch, join->rows, join->fed_count, 0,
                             &join->payloads);
    }
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: no memory for the rows of a batch", join->declaration);
    }
    for (int32_t i = 0; windows && i < join->fed_count; i++) { /* of one window: one key */
        memcpy(join->keys.bytes + join->keys.offsets[i], &join->times[i], sizeof(int64_t));
    }
    weir_keys_hash(&join->keys, weir_rows_seed(join->sides[WEIR_LEFT].rows));
    return keep(join, side, err);
}

/* --- pairs -------------------------------------------------------------------------------------
 */

static inline bool wants(const struct weir_join *join, int32_t at, const struct weir_row *other) {
    if (join->times[at] > other->until_us || other->time_us > join->ends[at]) {
        return false;
    }
    /* Semi and anti want to know of one. */
    if (join->kind == WEIR_JOIN_SEMI || join->kind == WEIR_JOIN_ANTI) {
        const struct weir_row *left = join->fed == WEIR_LEFT ? join->own[at] : other;
        return left == NULL ? !join->once[at] : left->marked == 0;
    }
    return true;
}

int32_t weir_join_pairs(struct weir_join *join, struct weir_join_pair *pairs, int32_t room) {
    const struct weir_rows *others = join->sides[!join->fed].rows;
    int32_t count = 0;
    for (; join->at < join->fed_count; join->at++, join->begun = false) {
        int32_t at = join->at;
        if (!join->begun) {
            const struct weir_keys *keys = &join->keys;
            if (at + AHEAD_INDEX < join->fed_count) {
                weir_rows_prefetch(others, keys->hashes[at + AHEAD_INDEX]);
            }
            if (at + AHEAD_ROW < join->fed_count) {
                weir_rows_prefetch_row(others, keys->hashes[at + AHEAD_ROW]);
            }
            join->met =
                join->meets[at]
                    ? weir_rows_newest(others, keys->hashes[at], keys->bytes + keys->offsets[at],
                                       keys->offsets[at + 1] - keys->offsets[at])
                    : NULL;
            join->begun = true;
        }
        for (; join->met != NULL; join->met = join->met->older) {
            if (!wants(join, at, join->met)) {
                continue;
            }
            if (count == room) {
                return count;
            }
            pairs[count++] = (struct weir_join_pair){
                .row = join->rows[at],
                .at = at,
                .own = join->own[at],
                .other = join->met,
                .time_us = join->fed == WEIR_LEFT ? join->times[at] : join->met->time_us,
            };
        }
    }
    return count;
}

int weir_join_meet(struct weir_join *join, const struct weir_join_pair *pair, bool *leaves,
                   struct weir_error *err) {
    bool left_fed = join->fed == WEIR_LEFT;
    struct weir_row *left = left_fed ? pair->own : pair->other;
    struct weir_row *right = left_fed ? pair->other : pair->own;
    bool first = left == NULL ? !join->once[pair->at] : left->marked == 0;
    *leaves = join->kind == WEIR_JOIN_SEMI ? first : join->kind != WEIR_JOIN_ANTI;
    int rc = WEIR_OK;
    join->unmatched -= first;
    if (left == NULL) {
        join->once[pair->at] = 1;
    } else {
        rc = weir_rows_mark(join->sides[WEIR_LEFT].rows, left);
    }
    if (rc == WEIR_OK && right != NULL && keeps_alone(join->kind, WEIR_RIGHT)) {
        rc = weir_rows_mark(join->sides[WEIR_RIGHT].rows, right);
    }
    return rc == WEIR_OK
               ? rc
               : weir_error_set(err, rc, "%s: no memory for changed state", join->declaration);
}

/* --- time --------------------------------------------------------------------------------------
 */

void weir_join_advance(struct weir_join *join, int side, int64_t watermark_us) {
    if (watermark_us > join->sides[side].watermark_us) {
        join->sides[side].watermark_us = watermark_us;
    }
}

int64_t weir_join_watermark_of(const struct weir_join *join, int side) {
    return join->sides[side].watermark_us;
}

int32_t weir_join_alone(struct weir_join *join, struct weir_row **rows, int32_t room, int *side) {
    int32_t count = 0;
    for (int s = 0; s < 2 && count == 0; s++) {
        *side = s;
        while (count < room &&
               (rows[count] = weir_rows_due(join->sides[s].rows, passed(join, s))) != NULL) {
            count++;
        }
    }
    return count;
}

bool weir_join_any_alone(struct weir_join *join) {
    return weir_rows_peek(join->sides[0].rows, passed(join, WEIR_LEFT)) != NULL ||
           weir_rows_peek(join->sides[1].rows, passed(join, WEIR_RIGHT)) != NULL;
}

int64_t weir_join_watermark(const struct weir_join *join) {
    int64_t left = join->sides[WEIR_LEFT].watermark_us;
    int64_t right = join->sides[WEIR_RIGHT].watermark_us;
    if (left == WEIR_WATERMARK_NONE || right == WEIR_WATERMARK_NONE) {
        return WEIR_WATERMARK_NONE;
    }
    int64_t lowest = left;
    if (join->high_column >= 0) { /* what is kept may still leave */
        int64_t kept = weir_rows_lowest_time(join->sides[WEIR_LEFT].rows);
        lowest = right != WEIR_WATERMARK_END && kept < lowest ? kept : lowest;
    } else if (right != WEIR_WATERMARK_END) {
        int64_t open = weir_time_add(right, -join->high_us);
        lowest = open < lowest ? open : lowest;
    }
    if (keeps_alone(join->kind, WEIR_RIGHT)) {
        int64_t open = left == WEIR_WATERMARK_END ? left : weir_time_add(left, join->low_us);
        lowest = open < lowest ? open : lowest;
        lowest = right < lowest ? right : lowest;
    }
    return lowest == WEIR_WATERMARK_END ? lowest : weir_time_add(lowest, -join->lateness_us);
}

void weir_join_expire(struct weir_join *join, size_t max_rows) {
    for (int s = 0; s < 2; s++) {
        int64_t watermark = passed(join, s);
        if (watermark != WEIR_WATERMARK_NONE) {
            weir_rows_expire(join->sides[s].rows, watermark, max_rows);
        }
    }
}

int weir_join_decode(const struct weir_join *join, int side, const struct weir_row *row,
                     struct weir_column_builder *columns) {
    return weir_key_decode(join->sides[side].kept, weir_row_bytes(row), row->row_bytes, columns);
}

/* --- state -------------------------------------------------------------------------------------
 */

int64_t weir_join_take_unmatched(struct weir_join *join) {
    int64_t unmatched = join->unmatched;
    join->unmatched = 0;
    return unmatched;
}

size_t weir_join_rows(const struct weir_join *join, int side) {
    return weir_rows_count(join->sides[side].rows);
}

size_t weir_join_estimate(const struct weir_join *join, int side) {
    return sizeof(struct weir_row) + 32 + weir_key_estimate_bytes(join->sides[side].on) +
           weir_key_estimate_bytes(join->sides[side].kept);
}

void weir_join_follow(struct weir_join *join, struct weir_join *as) {
    for (int s = 0; s < 2; s++) {
        struct side *side = &join->sides[s];
        struct weir_key *on = side->on;
        struct weir_key *kept = side->kept;
        side->on = as->sides[s].on;
        side->kept = as->sides[s].kept;
        as->sides[s].on = on;
        as->sides[s].kept = kept;
    }
    join->high_column = as->high_column;
}

uint64_t weir_join_shape(const struct weir_join *join) {
    return join->shape;
}

struct weir_cell *weir_join_cell(struct weir_join *join, int side) {
    return weir_rows_cell(join->sides[side].rows);
}

int weir_join_restore(struct weir_join *join, struct weir_error *err) {
    int rc = weir_rows_restore(join->sides[0].rows, err);
    return rc == WEIR_OK ? weir_rows_restore(join->sides[1].rows, err) : rc;
}

void weir_join_set_watermarks(struct weir_join *join, int64_t left_us, int64_t right_us) {
    join->sides[WEIR_LEFT].watermark_us = left_us;
    join->sides[WEIR_RIGHT].watermark_us = right_us;
    for (int s = 0; s < 2; s++) { /* they have left */
        while (passed(join, s) != WEIR_WATERMARK_NONE &&
               weir_rows_due(join->sides[s].rows, passed(join, s)) != NULL) {
        }
    }
}

/* --- to people -------------------------------------------------------------------------------- */

int weir_join_show_row(const struct weir_key *on, size_t key_from, const struct weir_key *kept,
                       const struct weir_show_entry *entry, struct weir_shown *out,
                       struct weir_error *err) {
    struct weir_row_image row;
    if (!weir_row_image_read(entry->value, entry->value_bytes, &row) ||
        (!row.keyless && entry->key_bytes < key_from)) {
        return weir_error_set(err, WEIR_E_CORRUPT, "a row does not parse");
    }
    int rc = row.keyless ? WEIR_OK
                         : weir_shown_key(out, on, entry->key + key_from,
                                          entry->key_bytes - key_from, &out->key, err);
    rc = rc == WEIR_OK ? weir_shown_int(&out->key, "_row", (int64_t)entry->sequence) : rc;
    rc = rc == WEIR_OK && weir_key_schema(kept)->count > 0
             ? weir_shown_key(out, kept, row.bytes, row.size, &out->value, err)
             : rc;
    rc = rc == WEIR_OK ? weir_shown_time(&out->value, "_time", row.time_us) : rc;
    rc = rc == WEIR_OK ? weir_shown_time(&out->value, "_until", row.until_us) : rc;
    return rc == WEIR_OK ? weir_shown_json(&out->value, "_met", row.marked ? "true" : "false",
                                           row.marked ? 4 : 5)
                         : rc;
}

static int show_row(void *owner, const struct weir_show_entry *entry, struct weir_shown *out,
                    struct weir_error *err) {
    const struct side *side = owner;
    return weir_join_show_row(side->on, side->key_from, side->kept, entry, out, err);
}

void weir_join_show(struct weir_join *join, int side, struct weir_show *show) {
    *show = (struct weir_show){weir_join_cell(join, side),
                               side == WEIR_LEFT ? "left rows that may meet others"
                                                 : "right rows that may meet others",
                               &join->sides[side], show_row, false};
}
