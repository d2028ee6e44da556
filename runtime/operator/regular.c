/* Both sides are chains of rows by key (state/chains.h). Of an outer side each row counts how many
 * others it stands beside, because what it met may be forgotten while the pair is still there. */
#include "operator/regular.h"

#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "batch/change.h"
#include "operator/key.h"
#include "operator/show.h"
#include "operator/window.h"

enum { AHEAD_INDEX = 16, AHEAD_ROW = 8 }; /* rows: prefetch */

struct side {
    struct weir_key *on;
    struct weir_key *kept;
    struct weir_chains *rows;
    int64_t ttl_us;
    int32_t change;
    bool outer; /* its rows stand alone where they have no other */
    uint32_t hand;
};

/* What the row at hand does. */
enum act { ACT_NOTHING, ACT_ADD, ACT_REMOVE, ACT_UPDATE };

struct weir_regular {
    struct side sides[2];
    uint64_t shape;
    int64_t forgotten;
    char *declaration;
    /* The batch fed last. */
    int fed;
    const struct weir_batch *batch;
    int32_t *sel;
    int64_t *times; /* by position */
    int32_t count;
    int32_t capacity;
    struct weir_keys keys;
    struct weir_keys payloads;
    int32_t at;
    /* The row at hand, once begun. */
    bool begun;
    enum act act;
    int32_t new_at;  /* position of the row that comes; of an update the one behind */
    uint32_t own;    /* the link that came; 0: none */
    uint32_t met;    /* the other to be told next; 0: there are no more */
    uint32_t others; /* how many it has met, or had */
    bool alone;      /* it stood alone */
};

static bool outer(enum weir_join_kind kind, int side) {
    return kind == WEIR_JOIN_FULL || kind == (side == WEIR_LEFT ? WEIR_JOIN_LEFT : WEIR_JOIN_RIGHT);
}

static int make_side(struct weir_regular *r, int s, const struct weir_regular_config *config,
                     struct weir_error *err) {
    const struct weir_join_side *from = &config->sides[s];
    struct side *side = &r->sides[s];
    side->ttl_us = config->ttl_us[s];
    side->change = config->change[s];
    side->outer = outer(config->kind, s);
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
    uint64_t parts[6] = {
        3,
        config->kind,
        weir_key_shape(r->sides[0].on),
        weir_key_shape(r->sides[0].kept),
        weir_key_shape(r->sides[1].on),
        weir_key_shape(r->sides[1].kept),
    };
    r->shape =
        weir_join_sides_shape(config->sides, config->on_count, XXH3_64bits(parts, sizeof parts));
    for (int s = 0; s < 2; s++) {
        struct weir_chains_config rows = {
            .declaration = config->declaration,
            .cell = s == WEIR_LEFT ? "left" : "right",
            .shape = r->shape,
            .seed = s == WEIR_RIGHT ? weir_chains_seed(r->sides[WEIR_LEFT].rows) : 0,
            .max_bytes = config->max_bytes,
            .option = config->option,
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

int weir_regular_feed(struct weir_regular *r, int side, const struct weir_batch *batch,
                      const int32_t *sel, int32_t count, const int64_t *times_us,
                      struct weir_error *err) {
    int rc = grow(r, count);
    rc = rc == WEIR_OK ? weir_key_encode(r->sides[side].on, batch, sel, count, 0, &r->keys) : rc;
    rc = rc == WEIR_OK ? weir_key_encode(r->sides[side].kept, batch, sel, count, 0, &r->payloads)
                       : rc;
    if (rc != WEIR_OK) {
        return weir_error_set(err, rc, "%s: no memory for the rows of a batch", r->declaration);
    }
    weir_keys_hash(&r->keys, weir_chains_seed(r->sides[WEIR_LEFT].rows));
    r->fed = side;
    r->batch = batch;
    r->count = count;
    r->at = 0;
    r->begun = false;
    for (int32_t i = 0; i < count; i++) {
        r->sel[i] = sel[i];
        r->times[i] = times_us[sel[i]];
    }
    return WEIR_OK;
}

static int64_t change_of(const struct weir_regular *r, int32_t i) {
    int32_t column = r->sides[r->fed].change;
    return column >= 0 ? weir_change_read(&r->batch->columns[column], r->sel[i])
                       : (int64_t)WEIR_CHANGE_INSERT;
}

static size_t span_of(const struct weir_keys *keys, int32_t i) {
    return keys->offsets[i + 1] - keys->offsets[i];
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

/* The row among its own that a row takes back. */
static struct weir_link *find_own(const struct weir_regular *r, int32_t i) {
    const struct side *side = &r->sides[r->fed];
    struct weir_chain chain = chain_of(r, r->fed, i);
    const uint8_t *bytes = r->payloads.bytes + r->payloads.offsets[i];
    size_t size = span_of(&r->payloads, i);
    for (struct weir_link *link = chain.newest; link != NULL; link = link_at(side, link->older)) {
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

static void prefetch(const struct weir_regular *r, int32_t i) {
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

/* What the row at hand does, and its own side changes. */
static int begin(struct weir_regular *r, struct weir_error *err) {
    struct side *side = &r->sides[r->fed];
    int32_t i = r->at;
    int64_t kind = change_of(r, i);
    bool takes_back = weir_change_takes_back(kind);
    bool keyless = r->keys.any_null[i];
    int rc = WEIR_OK;
    prefetch(r, i);
    r->begun = true;
    r->act = takes_back ? ACT_REMOVE : ACT_ADD;
    r->new_at = i;
    r->own = r->met = r->others = 0;
    r->alone = false;
    if (kind == WEIR_CHANGE_BEFORE && i + 1 < r->count && r->sel[i + 1] == r->sel[i] + 1 &&
        change_of(r, i + 1) == WEIR_CHANGE_AFTER && same(&r->keys, i, i + 1)) {
        r->act = ACT_UPDATE;
        r->new_at = i + 1;
        if (same(&r->payloads, i, i + 1) && side->ttl_us < 0) {
            r->act = ACT_NOTHING; /* nothing anybody sees */
            return WEIR_OK;
        }
    }
    if (keyless) { /* it meets nothing, and nobody asks for it again */
        r->alone = true;
        return WEIR_OK;
    }
    if (takes_back) {
        struct weir_link *own = find_own(r, i);
        if (own == NULL) {
            r->forgotten++;
            r->act = r->act == ACT_UPDATE ? ACT_ADD : ACT_NOTHING;
        } else {
            r->others = own->count;
            r->alone = side->outer && own->count == 0;
            rc = weir_chains_remove(side->rows, own, err);
        }
    }
    if (rc == WEIR_OK && (r->act == ACT_ADD || r->act == ACT_UPDATE)) {
        rc = add_own(r, r->new_at, r->act == ACT_UPDATE ? r->others : 0, err);
    }
    r->met = r->act != ACT_NOTHING ? first_other(r, i) : 0;
    return rc;
}

/* --- changes go out --------------------------------------------------------------------------- */

struct out {
    struct weir_regular_change *list;
    int32_t count;
};

static void put(const struct weir_regular *r, struct out *out, int32_t position,
                const struct weir_link *other, enum weir_change kind) {
    out->list[out->count++] = (struct weir_regular_change){
        .row = position >= 0 ? r->sel[position] : -1,
        .other = other,
        .cause = r->sel[r->new_at],
        .kind = (int8_t)kind,
    };
}

/* The pair of the row at hand with one other. */
static int tell(struct weir_regular *r, struct weir_link *other, struct out *out,
                struct weir_error *err) {
    struct side *theirs = &r->sides[!r->fed];
    int rc = WEIR_OK;
    if (r->act == ACT_UPDATE) {
        put(r, out, r->at, other, WEIR_CHANGE_BEFORE);
        put(r, out, r->new_at, other, WEIR_CHANGE_AFTER);
        return WEIR_OK;
    }
    if (theirs->outer) {
        rc = weir_chains_touch(theirs->rows, other, err);
    }
    if (rc == WEIR_OK && r->act == ACT_ADD) {
        if (theirs->outer && other->count++ == 0) {
            put(r, out, -1, other, WEIR_CHANGE_DELETE);
        }
        put(r, out, r->new_at, other, WEIR_CHANGE_INSERT);
        r->others++;
    } else if (rc == WEIR_OK) {
        put(r, out, r->at, other, WEIR_CHANGE_DELETE);
        if (theirs->outer && other->count > 0 && --other->count == 0) {
            put(r, out, -1, other, WEIR_CHANGE_INSERT);
        }
    }
    return rc;
}

/* All others are told: what the row is by itself. */
static int end(struct weir_regular *r, struct out *out, struct weir_error *err) {
    struct side *own = &r->sides[r->fed];
    struct weir_link *link = link_at(own, r->own);
    int rc = WEIR_OK;
    if (r->act == ACT_ADD && link != NULL && own->outer && r->others > 0) {
        rc = weir_chains_touch(own->rows, link, err);
        link->count = r->others;
    }
    bool alone = r->alone || (r->act == ACT_ADD && r->others == 0);
    if (rc != WEIR_OK || !own->outer || !alone || r->act == ACT_NOTHING) {
        return rc;
    }
    if (r->act == ACT_UPDATE) {
        put(r, out, r->at, NULL, WEIR_CHANGE_BEFORE);
        put(r, out, r->new_at, NULL, WEIR_CHANGE_AFTER);
    } else {
        put(r, out, r->at, NULL, r->act == ACT_ADD ? WEIR_CHANGE_INSERT : WEIR_CHANGE_DELETE);
    }
    return WEIR_OK;
}

int weir_regular_changes(struct weir_regular *r, struct weir_regular_change *changes, int32_t room,
                         int32_t *count, struct weir_error *err) {
    const struct side *theirs = &r->sides[!r->fed];
    struct out out = {changes, 0};
    int rc = WEIR_OK;
    for (; rc == WEIR_OK && r->at < r->count; r->at = r->new_at + 1, r->begun = false) {
        if (!r->begun) {
            rc = begin(r, err);
        }
        while (rc == WEIR_OK && r->met != 0 && out.count + 2 <= room) {
            struct weir_link *other = link_at(theirs, r->met);
            r->met = other->newer;
            if (!is_forgotten(theirs, other, r->times[r->new_at])) {
                rc = tell(r, other, &out, err);
            }
        }
        if (rc != WEIR_OK || r->met != 0 || out.count + 2 > room) {
            break;
        }
        rc = end(r, &out, err);
    }
    *count = out.count;
    return rc;
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
        for (size_t i = 0; rc == WEIR_OK && side->ttl_us >= 0 && i < max_rows && i < numbers; i++) {
            side->hand = side->hand >= numbers ? 1 : side->hand + 1;
            struct weir_link *link = weir_chains_link(side->rows, side->hand);
            if (link != NULL && is_forgotten(side, link, time_us)) {
                rc = weir_chains_remove(side->rows, link, err);
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
    return rc == WEIR_OK && side->outer ? weir_shown_int(&out->value, "_met", row.count) : rc;
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
