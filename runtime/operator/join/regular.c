/* Both sides are chains of rows by key (state/chains.h). Of a side whose rows leave by themselves
 * (an outer one, the left one of semi and anti) each row counts how many others it stands beside,
 * because what it met may be forgotten while the pair is still there.
 *
 * With a condition, rows are looked at twice: by `ask`, which runs ahead and lists the others each
 * may meet, and once those are judged by the changes. That works because a batch changes only its
 * own side. An update first takes back and updates, then adds: of a left row with one other at a
 * time, a table by the left key never sees the new pair before the old one went. */
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "batch/change.h"
#include "operator/join/regular_private.h"
#include "operator/show.h"
#include "operator/window.h"

enum { AHEAD_INDEX = 16, AHEAD_ROW = 8 }; /* rows: prefetch */

static bool is_counted(enum weir_join_kind kind, int side) {
    return kind == WEIR_JOIN_FULL ||
           (side == WEIR_LEFT
                ? kind == WEIR_JOIN_LEFT || kind == WEIR_JOIN_SEMI || kind == WEIR_JOIN_ANTI
                : kind == WEIR_JOIN_RIGHT);
}

static int make_side(struct weir_regular *r, int s, const struct weir_regular_config *config,
                     struct weir_error *err) {
    const struct weir_join_side *from = &config->sides[s];
    struct side *side = &r->sides[s];
    side->ttl_us = config->ttl_us[s];
    side->change = config->change[s];
    side->counted = is_counted(config->kind, s);
    side->with_other = config->kind == WEIR_JOIN_SEMI;
    side->on = weir_key_create(from->schema, from->on, config->on_count, err);
    side->kept = weir_key_create_whole(from->schema, from->kept, from->kept_count, err);
    return side->on != NULL && side->kept != NULL ? WEIR_OK
           : err != NULL                          ? err->code
                                                  : WEIR_E_NOMEM;
}

static int make(struct weir_regular *r, const struct weir_regular_config *config,
                struct weir_error *err) {
    int rc = make_side(r, WEIR_LEFT, config, err);
    rc = rc == WEIR_OK ? make_side(r, WEIR_RIGHT, config, err) : rc;
    if (rc != WEIR_OK) {
        return rc;
    }
    r->on_disk = config->disk != NULL;
    r->at_once = REGULAR_FED_MOST;
    r->pairs = config->kind != WEIR_JOIN_SEMI && config->kind != WEIR_JOIN_ANTI;
    const char *condition = config->condition;
    uint64_t parts[7] = {
        3,
        config->kind,
        weir_key_shape(r->sides[0].on),
        weir_key_shape(r->sides[0].kept),
        weir_key_shape(r->sides[1].on),
        weir_key_shape(r->sides[1].kept),
        condition != NULL ? XXH3_64bits(condition, strlen(condition)) : 0,
    };
    size_t bytes = (condition != NULL ? 7 : 6) * sizeof *parts;
    r->shape = weir_join_sides_shape(config->sides, config->on_count, XXH3_64bits(parts, bytes));
    if (condition != NULL && (r->asked = calloc(WEIR_REGULAR_ASKED, sizeof *r->asked)) == NULL) {
        return weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", config->declaration);
    }
    for (int s = 0; s < 2; s++) {
        struct weir_chains_config rows = {
            .declaration = config->declaration,
            .cell = s == WEIR_LEFT ? "left" : "right",
            .shape = r->shape,
            .seed = s == WEIR_RIGHT ? weir_chains_seed(r->sides[WEIR_LEFT].rows) : 0,
            .max_bytes = config->max_bytes,
            .option = config->option,
            .disk = config->disk,
            .disk_signal = config->disk_signal,
        };
        r->sides[s].rows = weir_chains_create(&rows, err);
        if (r->sides[s].rows == NULL) {
            return err != NULL ? err->code : WEIR_E_NOMEM;
        }
    }
    return WEIR_OK;
}

struct weir_regular *weir_regular_create(const struct weir_regular_config *config,
                                         struct weir_error *err) {
    struct weir_regular *r = calloc(1, sizeof *r);
    if (r == NULL || (r->declaration = strdup(config->declaration)) == NULL) {
        free(r);
        weir_error_set(err, WEIR_E_NOMEM, "%s: out of memory", config->declaration);
        return NULL;
    }
    weir_keys_init(&r->keys);
    weir_keys_init(&r->payloads);
    if (make(r, config, err) != WEIR_OK) {
        weir_regular_destroy(r);
        return NULL;
    }
    return r;
}

void weir_regular_destroy(struct weir_regular *r) {
    if (r == NULL) {
        return;
    }
    for (int s = 0; s < 2; s++) {
        weir_key_destroy(r->sides[s].on);
        weir_key_destroy(r->sides[s].kept);
        weir_chains_destroy(r->sides[s].rows);
    }
    weir_keys_fini(&r->keys);
    weir_keys_fini(&r->payloads);
    free(r->asked);
    free(r->come);
    free(r->times);
    free(r->declaration);
    free(r);
}

/* --- rows come -------------------------------------------------------------------------------- */

static int grow(struct weir_regular *r, int32_t count) {
    size_t n = (size_t)count;
    if (count <= r->capacity) {
        return WEIR_OK;
    }
    int64_t *block = malloc(n * (sizeof(int64_t) + sizeof(int32_t)));
    if (block == NULL) {
        return WEIR_E_NOMEM;
    }
    free(r->times);
    r->times = block;
    r->sel = (int32_t *)(void *)(block + n);
    r->capacity = count;
    return WEIR_OK;
}

int regular_prepare(struct weir_regular *r, int side, const struct weir_batch *batch,
                    const int32_t *sel, int32_t count, struct weir_error *err) {
    int rc = grow(r, count);
    rc = rc == WEIR_OK ? weir_key_encode(r->sides[side].on, batch, sel, count, 0, &r->keys) : rc;
    rc = rc == WEIR_OK ? weir_key_encode(r->sides[side].kept, batch, sel, count, 0, &r->payloads)
                       : rc;
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: no memory for the rows of a batch", r->declaration);
    }
    weir_keys_hash(&r->keys, weir_chains_seed(r->sides[WEIR_LEFT].rows));
    memcpy(r->sel, sel, (size_t)count * sizeof *sel);
    r->fed = side;
    r->batch = batch;
    r->at = r->count = count; /* nothing of it is fed */
    return WEIR_OK;
}

int weir_regular_feed(struct weir_regular *r, int side, const struct weir_batch *batch,
                      const int32_t *sel, int32_t count, const int64_t *times_us,
                      struct weir_error *err) {
    int rc = r->prepared ? WEIR_OK : regular_prepare(r, side, batch, sel, count, err);
    r->prepared = false;
    if (rc != WEIR_OK) {
        return rc;
    }
    r->at = r->ask_at = 0;
    r->begun = r->ask_begun = false;
    r->asked_count = r->asked_at = 0;
    for (int32_t i = 0; i < count; i++) {
        r->times[i] = times_us[sel[i]];
    }
    return WEIR_OK;
}

static int64_t change_of(const struct weir_regular *r, int32_t i) {
    int32_t column = r->sides[r->fed].change;
    return column >= 0 ? weir_change_read(&r->batch->columns[column], r->sel[i])
                       : (int64_t)WEIR_CHANGE_INSERT;
}

static bool same(const struct weir_keys *keys, int32_t a, int32_t b) {
    return span_of(keys, a) == span_of(keys, b) &&
           memcmp(keys->bytes + keys->offsets[a], keys->bytes + keys->offsets[b],
                  span_of(keys, a)) == 0;
}

static struct weir_chain chain_of(const struct weir_regular *r, int side, int32_t i) {
    const uint8_t *key = r->keys.bytes + r->keys.offsets[i];
    size_t size = span_of(&r->keys, i);
    const struct weir_chains *rows = r->sides[side].rows;
    return weir_chains_find(rows, r->keys.hashes[i], key, size);
}

/* Not kept any more, for a row of that time. */
static bool is_forgotten(const struct side *side, const struct weir_link *link, int64_t time_us) {
    return side->ttl_us >= 0 && weir_time_add(link->time_us, side->ttl_us) < time_us;
}

static struct weir_link *link_at(const struct side *side, uint32_t number) {
    return number != 0 ? weir_chains_link(side->rows, number) : NULL;
}

static void warm(const struct weir_regular *r, const struct side *side,
                 const struct weir_link *link) {
    if (r->on_disk) {
        weir_chains_warm(side->rows, link);
    }
}

/* The row among its own that a row takes back. */
static struct weir_link *find_own(const struct weir_regular *r, int32_t i) {
    const struct side *side = &r->sides[r->fed];
    struct weir_chain chain = chain_of(r, r->fed, i);
    const uint8_t *bytes = r->payloads.bytes + r->payloads.offsets[i];
    size_t size = span_of(&r->payloads, i);
    for (struct weir_link *link = chain.newest; link != NULL; link = link_at(side, link->older)) {
        warm(r, side, link);
        if (link->size == size && memcmp(link->bytes, bytes, size) == 0) {
            return is_forgotten(side, link, r->times[i]) ? NULL : link;
        }
    }
    return NULL;
}

static uint32_t first_other(const struct weir_regular *r, int32_t i) {
    struct weir_chain chain = chain_of(r, !r->fed, i);
    return chain.oldest != NULL ? chain.oldest->number : 0;
}

static int add_own(struct weir_regular *r, int32_t i, uint32_t count, struct weir_error *err) {
    const uint8_t *key = r->keys.bytes + r->keys.offsets[i];
    size_t size = span_of(&r->keys, i);
    struct weir_chains *rows = r->sides[r->fed].rows;
    struct weir_link *link =
        weir_chains_add(rows, r->keys.hashes[i], key, size, r->times[i],
                        r->payloads.bytes + r->payloads.offsets[i], span_of(&r->payloads, i), err);
    if (link == NULL) {
        return err != NULL && err->code != WEIR_OK ? err->code : WEIR_E_NOMEM;
    }
    link->count = count;
    r->own = link->number;
    return WEIR_OK;
}

void regular_prefetch(const struct weir_regular *r, int32_t i) {
    for (int s = 0; s < 2; s++) {
        const struct weir_chains *rows = r->sides[s].rows;
        if (i + AHEAD_INDEX < r->count) {
            weir_chains_prefetch(rows, r->keys.hashes[i + AHEAD_INDEX]);
        }
        if (i + AHEAD_ROW < r->count) {
            weir_chains_prefetch_row(rows, r->keys.hashes[i + AHEAD_ROW]);
        }
    }
}

struct row regular_classify(const struct weir_regular *r, int32_t i) {
    int64_t kind = change_of(r, i);
    struct row row = {.act = weir_change_takes_back(kind) ? ACT_REMOVE : ACT_ADD,
                      .new_at = i,
                      .keyless = r->keys.any_null[i]};
    if (kind == WEIR_CHANGE_BEFORE && i + 1 < r->count && r->sel[i + 1] == r->sel[i] + 1 &&
        change_of(r, i + 1) == WEIR_CHANGE_AFTER && same(&r->keys, i, i + 1)) {
        row.new_at = i + 1;
        row.act = same(&r->payloads, i, i + 1) && r->sides[r->fed].ttl_us < 0
                      ? ACT_NOTHING /* nothing anybody sees */
                      : ACT_UPDATE;
    }
    return row;
}

bool regular_asks_others(const struct weir_regular *r, const struct row *row) {
    if (row->act == ACT_NOTHING || row->keyless) {
        return false;
    }
    if (row->act == ACT_REMOVE) {
        return r->pairs || r->fed == WEIR_RIGHT; /* what a left one had is known */
    }
    return row->act == ACT_ADD || r->pairs || r->asked != NULL;
}

/* --- the condition ---------------------------------------------------------------------------- */

static int32_t ask_of(struct weir_regular *r, int32_t count, struct weir_regular_pair *pairs) {
    const struct side *theirs = &r->sides[!r->fed];
    const struct row *row = &r->ask_row;
    while (r->ask_met != 0 && count + 2 <= WEIR_REGULAR_ASKED) {
        const struct weir_link *other = link_at(theirs, r->ask_met);
        r->ask_met = other->newer;
        if (is_forgotten(theirs, other, r->times[row->new_at])) {
            continue;
        }
        r->asked[r->asked_count++] = (struct asked){r->ask_at, other->number, false, false};
        if (row->act != ACT_ADD) {
            pairs[count++] = (struct weir_regular_pair){r->sel[r->ask_at], other, false};
        }
        if (row->act != ACT_REMOVE) {
            pairs[count++] = (struct weir_regular_pair){r->sel[row->new_at], other, true};
        }
    }
    return count;
}

int32_t weir_regular_ask(struct weir_regular *r, struct weir_regular_pair *pairs) {
    int32_t count = 0;
    if (r->asked_at < r->asked_count) {
        return 0;
    }
    r->asked_count = r->asked_at = 0;
    while (r->ask_at < r->count) {
        if (!r->ask_begun) {
            regular_prefetch(r, r->ask_at);
            r->ask_row = regular_classify(r, r->ask_at);
            r->ask_met = regular_asks_others(r, &r->ask_row) ? first_other(r, r->ask_at) : 0;
            r->ask_begun = true;
        }
        count = ask_of(r, count, pairs);
        if (r->ask_met != 0) {
            break;
        }
        r->ask_at = r->ask_row.new_at + 1;
        r->ask_begun = false;
    }
    return count;
}

void weir_regular_answer(struct weir_regular *r, const bool *holds) {
    int32_t next = 0;
    for (int32_t i = 0; i < r->asked_count; i++) {
        struct asked *asked = &r->asked[i];
        enum act act = regular_classify(r, asked->at).act;
        asked->before = act != ACT_ADD && holds[next++];
        asked->after = act != ACT_REMOVE && holds[next++];
    }
}

/* --- changes go out --------------------------------------------------------------------------- */

/* What the row at hand does, and its own side changes. */
static int begin(struct weir_regular *r, struct weir_error *err) {
    struct side *side = &r->sides[r->fed];
    int32_t i = r->at;
    int rc = WEIR_OK;
    regular_prefetch(r, i);
    r->begun = true;
    r->row = regular_classify(r, i);
    r->stage = STAGE_MEET;
    r->own = r->met = r->had = r->others = 0;
    r->come_count = r->come_at = 0;
    if (r->row.act == ACT_NOTHING || r->row.keyless) { /* nobody asks for it again */
        return WEIR_OK;
    }
    if (r->row.act != ACT_ADD) {
        struct weir_link *own = find_own(r, i);
        if (own == NULL) {
            r->forgotten++;
            r->row.act = r->row.act == ACT_UPDATE ? ACT_ADD : ACT_NOTHING;
        } else {
            r->had = own->count;
            rc = weir_chains_remove(side->rows, own, err);
        }
    }
    if (r->row.act == ACT_UPDATE) {
        r->others = r->had;
    }
    if (rc == WEIR_OK && (r->row.act == ACT_ADD || r->row.act == ACT_UPDATE)) {
        rc = add_own(r, r->row.new_at, r->others, err);
    }
    r->met = r->asked == NULL && regular_asks_others(r, &r->row) ? first_other(r, i) : 0;
    return rc;
}

struct out {
    struct weir_regular_change *list;
    int32_t count;
    int32_t room;
};

static bool is_full(const struct out *out) {
    return out->count + 2 > out->room; /* nothing tells more at a time */
}

static void put(const struct weir_regular *r, struct out *out, int32_t position,
                const struct weir_link *other, enum weir_change kind) {
    out->list[out->count++] = (struct weir_regular_change){
        .row = position >= 0 ? r->sel[position] : -1,
        .other = other,
        .cause = r->sel[r->row.new_at],
        .kind = (int8_t)kind,
    };
}

/* Whether a row that has so many others leaves by itself. */
static bool leaves(const struct side *side, uint32_t others) {
    return side->counted && side->with_other == (others > 0);
}

static int come(struct weir_regular *r, struct weir_link *other, struct out *out,
                struct weir_error *err) {
    struct side *theirs = &r->sides[!r->fed];
    int rc = theirs->counted ? weir_chains_touch(theirs->rows, other, err) : WEIR_OK;
    if (rc == WEIR_OK && theirs->counted && other->count++ == 0) {
        put(r, out, -1, other, theirs->with_other ? WEIR_CHANGE_INSERT : WEIR_CHANGE_DELETE);
    }
    if (rc == WEIR_OK && r->pairs) {
        put(r, out, r->row.new_at, other, WEIR_CHANGE_INSERT);
    }
    return rc;
}

static int go(struct weir_regular *r, struct weir_link *other, struct out *out,
              struct weir_error *err) {
    struct side *theirs = &r->sides[!r->fed];
    int rc = theirs->counted ? weir_chains_touch(theirs->rows, other, err) : WEIR_OK;
    if (rc == WEIR_OK && r->pairs) {
        put(r, out, r->at, other, WEIR_CHANGE_DELETE);
    }
    if (rc == WEIR_OK && theirs->counted && other->count > 0 && --other->count == 0) {
        put(r, out, -1, other, theirs->with_other ? WEIR_CHANGE_DELETE : WEIR_CHANGE_INSERT);
    }
    return rc;
}

static int remember_come(struct weir_regular *r, uint32_t other, struct weir_error *err) {
    if (r->come_count == r->come_capacity) {
        size_t capacity = r->come_capacity * 2 + 64;
        uint32_t *list = realloc(r->come, capacity * sizeof *list);
        if (list == NULL) {
            return weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for what an update meets",
                                  r->declaration);
        }
        r->come = list;
        r->come_capacity = capacity;
    }
    r->come[r->come_count++] = other;
    return WEIR_OK;
}

/* The pair of the row at hand with one other: whether it was there, and is. */
static int meet(struct weir_regular *r, struct weir_link *other, bool before, bool after,
                struct out *out, struct weir_error *err) {
    bool update = r->row.act == ACT_UPDATE;
    before &= r->row.act != ACT_ADD;
    after &= r->row.act != ACT_REMOVE;
    if (before && after && r->pairs) {
        put(r, out, r->at, other, WEIR_CHANGE_BEFORE);
        put(r, out, r->row.new_at, other, WEIR_CHANGE_AFTER);
    }
    if (before == after) {
        return WEIR_OK;
    }
    if (before) {
        r->others -= update && r->others > 0;
        return go(r, other, out, err);
    }
    r->others++;
    return update ? remember_come(r, other->number, err) : come(r, other, out, err);
}

/* Its others, as far as they are judged: those told, STAGE_GO. */
static int meet_others(struct weir_regular *r, struct out *out, struct weir_error *err) {
    const struct side *theirs = &r->sides[!r->fed];
    int rc = WEIR_OK;
    while (rc == WEIR_OK && r->asked != NULL && r->asked_at < r->asked_count &&
           r->asked[r->asked_at].at == r->at) {
        const struct asked *asked = &r->asked[r->asked_at];
        if (is_full(out)) {
            return WEIR_OK;
        }
        if (r->row.act != ACT_NOTHING) {
            warm(r, theirs, link_at(theirs, asked->other));
            rc = meet(r, link_at(theirs, asked->other), asked->before, asked->after, out, err);
        }
        r->asked_at++;
    }
    while (rc == WEIR_OK && r->met != 0) {
        struct weir_link *other = link_at(theirs, r->met);
        if (is_full(out)) {
            return WEIR_OK;
        }
        r->met = other->newer;
        warm(r, theirs, other);
        if (!is_forgotten(theirs, other, r->times[r->row.new_at])) {
            rc = meet(r, other, true, true, out, err);
        }
    }
    if (r->asked == NULL || r->ask_at > r->at) { /* else the rest is yet to be judged */
        r->stage = STAGE_GO;
    }
    return rc;
}

/* What the row was by itself goes, or is updated. */
static int go_alone(struct weir_regular *r, struct out *out, struct weir_error *err) {
    struct side *own = &r->sides[r->fed];
    struct weir_link *link = link_at(own, r->own);
    int rc = WEIR_OK;
    if (link != NULL && own->counted && link->count != r->others) {
        rc = weir_chains_touch(own->rows, link, err);
        link->count = r->others;
    }
    bool was = r->row.act == ACT_REMOVE || r->row.act == ACT_UPDATE;
    if (rc == WEIR_OK && was && leaves(own, r->had)) {
        bool is = r->row.act == ACT_UPDATE && leaves(own, r->others);
        put(r, out, r->at, NULL, is ? WEIR_CHANGE_BEFORE : WEIR_CHANGE_DELETE);
        if (is) {
            put(r, out, r->row.new_at, NULL, WEIR_CHANGE_AFTER);
        }
    }
    r->stage = STAGE_COME;
    return rc;
}

/* The others an update brings, and what the row is by itself if it was not. */
static int come_alone(struct weir_regular *r, struct out *out, struct weir_error *err) {
    const struct side *own = &r->sides[r->fed];
    const struct side *theirs = &r->sides[!r->fed];
    int rc = WEIR_OK;
    while (rc == WEIR_OK && r->come_at < r->come_count) {
        if (is_full(out)) {
            return WEIR_OK;
        }
        rc = come(r, link_at(theirs, r->come[r->come_at++]), out, err);
    }
    if (rc != WEIR_OK || is_full(out)) {
        return rc;
    }
    bool was = r->row.act == ACT_UPDATE && leaves(own, r->had);
    bool is = r->row.act == ACT_ADD || r->row.act == ACT_UPDATE;
    if (is && !was && leaves(own, r->others)) {
        put(r, out, r->row.new_at, NULL, WEIR_CHANGE_INSERT);
    }
    r->stage = STAGE_DONE;
    return rc;
}

/* What is to be told of the row at hand, until there is no room; STAGE_DONE: all of it was. */
static int tell(struct weir_regular *r, struct out *out, struct weir_error *err) {
    int rc = WEIR_OK;
    if (r->stage == STAGE_MEET) {
        rc = meet_others(r, out, err);
    }
    if (rc == WEIR_OK && r->stage == STAGE_GO && !is_full(out)) {
        rc = go_alone(r, out, err);
    }
    if (rc == WEIR_OK && r->stage == STAGE_COME && !is_full(out)) {
        rc = come_alone(r, out, err);
    }
    return rc;
}

int weir_regular_changes(struct weir_regular *r, struct weir_regular_change *changes, int32_t room,
                         int32_t *count, struct weir_error *err) {
    struct out out = {changes, 0, room};
    int rc = WEIR_OK;
    while (rc == WEIR_OK && r->at < r->count &&
           (r->begun || r->asked == NULL || r->ask_begun || r->ask_at > r->at)) {
        rc = r->begun ? WEIR_OK : begin(r, err);
        rc = rc == WEIR_OK ? tell(r, &out, err) : rc;
        if (rc != WEIR_OK || r->stage != STAGE_DONE) {
            break;
        }
        r->at = r->row.new_at + 1;
        r->begun = false;
    }
    *count = out.count;
    return rc;
}

bool weir_regular_any(const struct weir_regular *r) {
    return r->at < r->count;
}

int64_t weir_regular_take_forgotten(struct weir_regular *r) {
    int64_t forgotten = r->forgotten;
    r->forgotten = 0;
    return forgotten;
}

int weir_regular_expire(struct weir_regular *r, int64_t time_us, size_t max_rows,
                        struct weir_error *err) {
    int rc = WEIR_OK;
    for (int s = 0; s < 2; s++) {
        struct side *side = &r->sides[s];
        uint32_t numbers = weir_chains_numbers(side->rows);
        if (side->ttl_us >= 0 && time_us < INT64_MAX && time_us > INT64_MIN + side->ttl_us) {
            weir_chains_forget(side->rows, time_us - side->ttl_us);
        }
        for (size_t i = 0; rc == WEIR_OK && side->ttl_us >= 0 && i < max_rows && i < numbers; i++) {
            side->hand = side->hand >= numbers ? 1 : side->hand + 1;
            struct weir_link *link = weir_chains_link(side->rows, side->hand);
            if (link != NULL && is_forgotten(side, link, time_us)) {
                rc = weir_chains_expire(side->rows, link, err);
            }
        }
    }
    return rc;
}

/* --- what is kept ----------------------------------------------------------------------------- */

int weir_regular_decode(const struct weir_regular *r, int side, const struct weir_link *row,
                        struct weir_column_builder *columns) {
    return weir_key_decode(r->sides[side].kept, row->bytes, row->size, columns);
}

size_t weir_regular_rows(const struct weir_regular *r, int side) {
    return weir_chains_rows(r->sides[side].rows);
}

size_t weir_regular_estimate(const struct weir_regular *r, int side) {
    return weir_chains_estimate() + weir_key_estimate_bytes(r->sides[side].on) +
           weir_key_estimate_bytes(r->sides[side].kept);
}

void weir_regular_follow(struct weir_regular *r, struct weir_regular *as) {
    for (int s = 0; s < 2; s++) {
        struct side *side = &r->sides[s];
        struct weir_key *on = side->on;
        struct weir_key *kept = side->kept;
        side->on = as->sides[s].on;
        side->kept = as->sides[s].kept;
        side->change = as->sides[s].change;
        as->sides[s].on = on;
        as->sides[s].kept = kept;
    }
}

uint64_t weir_regular_shape(const struct weir_regular *r) {
    return r->shape;
}

static int show_row(void *owner, const struct weir_show_entry *entry, struct weir_shown *out,
                    struct weir_error *err) {
    const struct side *side = owner;
    struct weir_link row;
    size_t head = weir_chains_read(entry->value, entry->value_bytes, &row);
    if (head == 0 || entry->key_bytes < WEIR_CHAIN_KEY_FROM) {
        return weir_error_set(err, WEIR_E_CORRUPT, "a row does not parse");
    }
    int rc = weir_shown_key(out, side->on, entry->key + WEIR_CHAIN_KEY_FROM,
                            entry->key_bytes - WEIR_CHAIN_KEY_FROM, &out->key, err);
    rc = rc == WEIR_OK ? weir_shown_int(&out->key, "_row", (int64_t)entry->sequence) : rc;
    rc = rc == WEIR_OK && weir_key_schema(side->kept)->count > 0
             ? weir_shown_key(out, side->kept, entry->value + head, entry->value_bytes - head,
                              &out->value, err)
             : rc;
    rc = rc == WEIR_OK ? weir_shown_time(&out->value, "_time", row.time_us) : rc;
    return rc == WEIR_OK && side->counted ? weir_shown_int(&out->value, "_met", row.count) : rc;
}

void weir_regular_show(struct weir_regular *r, int side, struct weir_show *show) {
    *show =
        (struct weir_show){weir_regular_cell(r, side),
                           side == WEIR_LEFT ? "left rows of the join" : "right rows of the join",
                           &r->sides[side], show_row, false};
}

struct weir_cell *weir_regular_cell(struct weir_regular *r, int side) {
    return weir_chains_cell(r->sides[side].rows);
}

int weir_regular_restore(struct weir_regular *r, struct weir_error *err) {
    int rc = weir_chains_restore(r->sides[0].rows, err);
    return rc == WEIR_OK ? weir_chains_restore(r->sides[1].rows, err) : rc;
}
