/* The regular join against joining both sides anew: what its changes add up to is that, after every
 * batch, with batches, seals and crashes at random. And which rows a ttl lets meet. */
#include "regular_rows.h"

enum { STEPS = 60, KEYS = 6, BATCH = 30, ROWS_MAX = 5000, PAIRS_MAX = 200000, RECORDS_MAX = 100 };

/* What there is: of a side, or of pairs (left id << 32 | right id, 0 for none). */
struct sides {
    struct row rows[2][ROWS_MAX];
    int count[2];
    uint64_t pairs[PAIRS_MAX];
    size_t pair_count;
};

static int compare(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void add_pair(struct sides *s, int left, int right) {
    assert_true(s->pair_count < PAIRS_MAX);
    s->pairs[s->pair_count++] = (uint64_t)left << 32 | (uint32_t)right;
}

/* A change takes back only what is there. */
static void remove_pair(struct sides *s, int left, int right) {
    uint64_t wanted = (uint64_t)left << 32 | (uint32_t)right;
    for (size_t i = s->pair_count; i-- > 0;) {
        if (s->pairs[i] == wanted) {
            s->pairs[i] = s->pairs[--s->pair_count];
            return;
        }
    }
    fail_msg("takes back %d, %d, which is not there", left, right);
}

static bool outer(enum weir_join_kind kind, int side) {
    return kind == WEIR_JOIN_FULL || kind == (side == WEIR_LEFT ? WEIR_JOIN_LEFT : WEIR_JOIN_RIGHT);
}

/* What a condition says of a pair, as often yes as no. */
static bool holds(int left, int right) {
    return ((unsigned)left * 2654435761u + (unsigned)right * 40503u) >> 7 & 1;
}

static void expect(const struct sides *s, enum weir_join_kind kind, bool judged,
                   struct sides *want) {
    bool pairs = kind != WEIR_JOIN_SEMI && kind != WEIR_JOIN_ANTI;
    want->pair_count = 0;
    for (int side = 0; side < 2; side++) {
        for (int i = 0; i < s->count[side]; i++) {
            const struct row *own = &s->rows[side][i];
            bool met = false;
            for (int k = 0; k < s->count[!side]; k++) {
                const struct row *other = &s->rows[!side][k];
                int left = side == WEIR_LEFT ? own->id : other->id;
                int right = side == WEIR_LEFT ? other->id : own->id;
                if (own->key >= 0 && own->key == other->key && (!judged || holds(left, right))) {
                    met = true;
                    if (side == WEIR_LEFT && pairs) {
                        add_pair(want, own->id, other->id);
                    }
                }
            }
            bool alone = pairs ? !met && outer(kind, side)
                               : side == WEIR_LEFT && met == (kind == WEIR_JOIN_SEMI);
            if (alone) {
                add_pair(want, side == WEIR_LEFT ? own->id : 0, side == WEIR_LEFT ? 0 : own->id);
            }
        }
    }
}

static void assert_same(struct sides *got, struct sides *want) {
    qsort(got->pairs, got->pair_count, sizeof got->pairs[0], compare);
    qsort(want->pairs, want->pair_count, sizeof want->pairs[0], compare);
    assert_int_equal(got->pair_count, want->pair_count);
    assert_memory_equal(got->pairs, want->pairs, got->pair_count * sizeof got->pairs[0]);
}

/* --- the join --------------------------------------------------------------------------------- */

static const int64_t ever[] = {-1, -1};

static struct weir_regular *make_join(enum weir_join_kind kind, const char *condition,
                                      const int64_t *ttl) {
    struct weir_regular_config config = regular_config(kind, condition, ttl);
    return regular_make(&config);
}

/* Pairs are judged as they are wanted. */
static void judge(struct weir_regular *join, int side, const struct row *rows) {
    static struct weir_regular_pair pairs[WEIR_REGULAR_ASKED];
    static bool verdicts[WEIR_REGULAR_ASKED];
    int32_t count = weir_regular_ask(join, pairs);
    for (int32_t i = 0; i < count; i++) {
        int own = rows[pairs[i].row].id;
        int other = regular_id(join, !side, pairs[i].other);
        int change = rows[pairs[i].row].change;
        assert_int_equal(pairs[i].comes,
                         change == WEIR_CHANGE_INSERT || change == WEIR_CHANGE_AFTER);
        verdicts[i] = side == WEIR_LEFT ? holds(own, other) : holds(other, own);
    }
    if (count > 0) {
        weir_regular_answer(join, verdicts);
        assert_int_equal(weir_regular_ask(join, pairs), 0); /* until their changes are taken */
    }
}

static void feed(struct weir_regular *join, int side, bool judged, const struct row *rows,
                 int count, struct sides *out) {
    int64_t times[BATCH * 2];
    int32_t sel[BATCH * 2];
    struct weir_batch *batch = regular_batch(rows, count, times, sel);
    assert_int_equal(weir_regular_feed(join, side, batch, sel, count, times, &err), WEIR_OK);
    struct weir_regular_change changes[7];
    int32_t got;
    do {
        if (judged) {
            judge(join, side, rows);
        }
        assert_int_equal(weir_regular_changes(join, changes, 7, &got, &err), WEIR_OK);
        for (int32_t i = 0; i < got; i++) {
            int own = changes[i].row >= 0 ? rows[changes[i].row].id : 0;
            int other = changes[i].other != NULL ? regular_id(join, !side, changes[i].other) : 0;
            int left = side == WEIR_LEFT ? own : other;
            int right = side == WEIR_LEFT ? other : own;
            if (changes[i].kind == WEIR_CHANGE_INSERT || changes[i].kind == WEIR_CHANGE_AFTER) {
                add_pair(out, left, right);
            } else {
                remove_pair(out, left, right);
            }
            if (changes[i].kind == WEIR_CHANGE_BEFORE) { /* and its new row behind it */
                assert_true(i + 1 < got);
                assert_int_equal(changes[i + 1].kind, WEIR_CHANGE_AFTER);
                assert_ptr_equal(changes[i + 1].other, changes[i].other);
            }
        }
    } while (got > 0 || weir_regular_any(join));
    weir_batch_unref(batch);
}

/* A row more, one less, or one in another's place, of `now` as of `rows` that tell of it. */
static void draw_change(struct sides *now, int side, struct row *rows, int *count, int *next_id) {
    struct row fresh = {++*next_id, below(8) == 0 ? -1 : (int)below(KEYS), 0, WEIR_CHANGE_INSERT};
    uint64_t what = below(10);
    int alive = now->count[side];
    if (what < 6 || alive == 0) {
        rows[(*count)++] = fresh;
        now->rows[side][now->count[side]++] = fresh;
        return;
    }
    int at = (int)below((uint64_t)alive);
    struct row *old = &now->rows[side][at];
    rows[*count] = *old;
    rows[(*count)++].change = what < 8 ? WEIR_CHANGE_BEFORE : WEIR_CHANGE_DELETE;
    if (what < 8) {
        fresh.key = below(2) == 0 ? old->key : fresh.key;
        fresh.id = below(6) == 0 ? old->id : fresh.id;
        *old = fresh;
        fresh.change = WEIR_CHANGE_AFTER;
        rows[(*count)++] = fresh;
    } else {
        *old = now->rows[side][--now->count[side]];
    }
}

static struct weir_buffer records[RECORDS_MAX][2];
static int record_count;

static struct weir_regular *recover(enum weir_join_kind kind, const char *condition) {
    struct weir_regular *join = make_join(kind, condition, ever);
    for (int s = 0; s < 2; s++) {
        for (int i = 0; i < record_count; i++) {
            regular_apply(join, s, &records[i][s]);
        }
    }
    assert_int_equal(weir_regular_restore(join, &err), WEIR_OK);
    return join;
}

static void check(enum weir_join_kind kind, const char *condition, uint64_t seed) {
    static struct sides now;
    static struct sides durable;
    static struct sides want;
    int next_id = 0;
    random_state = seed;
    memset(&now, 0, sizeof now);
    durable = now;
    record_count = 0;
    struct weir_regular *join = make_join(kind, condition, ever);
    for (int step = 0; step < STEPS; step++) {
        struct row rows[BATCH * 2];
        int count = 0;
        int side = (int)below(2);
        for (uint64_t left = 1 + below(BATCH - 1); left > 0; left--) {
            draw_change(&now, side, rows, &count, &next_id);
        }
        feed(join, side, condition != NULL, rows, count, &now);
        expect(&now, kind, condition != NULL, &want);
        assert_same(&now, &want);
        assert_int_equal(weir_regular_take_forgotten(join), 0);
        if (below(3) == 0) {
            regular_seal(join, records[record_count++]);
            durable = now;
        } else if (below(8) == 0) {
            weir_regular_destroy(join);
            join = recover(kind, condition);
            now = durable;
        }
    }
    int keyed = 0;
    for (int s = 0; s < 2; s++) {
        for (int i = 0; i < now.count[s]; i++) {
            keyed += now.rows[s][i].key >= 0;
        }
    }
    assert_int_equal(weir_regular_rows(join, 0) + weir_regular_rows(join, 1), keyed);
    weir_regular_destroy(join);
    for (int i = 0; i < record_count; i++) {
        regular_drop(records[i]);
    }
}

#define KIND(name, kind, condition)                                                                \
    static void name(void **state) {                                                               \
        (void)state;                                                                               \
        for (uint64_t seed = 1; seed <= seeds_of(20); seed++) {                                    \
            check(kind, condition, seed * 7919);                                                   \
        }                                                                                          \
    }
KIND(changes_add_up_to_an_inner_join, WEIR_JOIN_INNER, NULL)
KIND(inner_pairs_are_those_that_hold, WEIR_JOIN_INNER, "it holds")
KIND(changes_add_up_to_a_left_join, WEIR_JOIN_LEFT, NULL)
KIND(left_pairs_are_those_that_hold, WEIR_JOIN_LEFT, "it holds")
KIND(changes_add_up_to_a_right_join, WEIR_JOIN_RIGHT, NULL)
KIND(right_pairs_are_those_that_hold, WEIR_JOIN_RIGHT, "it holds")
KIND(changes_add_up_to_a_full_join, WEIR_JOIN_FULL, NULL)
KIND(full_pairs_are_those_that_hold, WEIR_JOIN_FULL, "it holds")
KIND(changes_add_up_to_rows_that_meet_some, WEIR_JOIN_SEMI, NULL)
KIND(changes_add_up_to_rows_some_pair_of_which_holds, WEIR_JOIN_SEMI, "it holds")
KIND(changes_add_up_to_rows_that_meet_none, WEIR_JOIN_ANTI, NULL)
KIND(changes_add_up_to_rows_no_pair_of_which_holds, WEIR_JOIN_ANTI, "it holds")

static void another_condition_is_another_join(void **state) {
    (void)state;
    static const char *const conditions[] = {NULL, "a", "b"};
    uint64_t shapes[3];
    for (int i = 0; i < 3; i++) {
        struct weir_regular *join = make_join(WEIR_JOIN_INNER, conditions[i], ever);
        shapes[i] = weir_regular_shape(join);
        weir_regular_destroy(join);
    }
    assert_int_not_equal(shapes[0], shapes[1]);
    assert_int_not_equal(shapes[1], shapes[2]);
    assert_int_not_equal(shapes[0], shapes[2]);
}

/* More others of one key than are judged at a time, and an update of the row that meets them. */
static void a_row_may_meet_more_than_is_judged_at_a_time(void **state) {
    (void)state;
    static struct sides now;
    static struct sides want;
    enum { MANY = 2 * WEIR_REGULAR_ASKED + 100 };
    for (enum weir_join_kind kind = WEIR_JOIN_INNER; kind <= WEIR_JOIN_ANTI; kind++) {
        struct weir_regular *join = make_join(kind, "it holds", ever);
        memset(&now, 0, sizeof now);
        for (int i = 0; i < MANY && now.count[WEIR_RIGHT] < ROWS_MAX; i++) {
            struct row row = {i + 1, 1, 0, WEIR_CHANGE_INSERT};
            now.rows[WEIR_RIGHT][now.count[WEIR_RIGHT]++] = row;
            feed(join, WEIR_RIGHT, true, &row, 1, &now);
        }
        struct row rows[] = {{70001, 1, 0, WEIR_CHANGE_INSERT},
                             {70001, 1, 0, WEIR_CHANGE_BEFORE},
                             {70002, 1, 0, WEIR_CHANGE_AFTER},
                             {70003, 1, 0, WEIR_CHANGE_INSERT},
                             {70003, 1, 0, WEIR_CHANGE_DELETE}};
        feed(join, WEIR_LEFT, true, rows, 5, &now);
        now.rows[WEIR_LEFT][0] = (struct row){70002, 1, 0, WEIR_CHANGE_INSERT};
        now.count[WEIR_LEFT] = 1;
        expect(&now, kind, true, &want);
        assert_same(&now, &want);
        weir_regular_destroy(join);
    }
}

static void rows_meet_those_their_ttl_has_not_forgotten(void **state) {
    (void)state;
    static struct sides got;
    static struct sides want;
    static const int64_t ttl[] = {500, 120};
    for (uint64_t seed = 1; seed <= seeds_of(20); seed++) {
        random_state = seed * 31;
        got.pair_count = want.pair_count = 0;
        got.count[0] = got.count[1] = 0;
        struct weir_regular *join = make_join(WEIR_JOIN_INNER, NULL, ttl);
        int64_t clock = 1000;
        int id = 0;
        size_t most = 0;
        for (int step = 0; step < STEPS; step++) {
            struct row rows[BATCH];
            int side = (int)below(2);
            int count = 1 + (int)below(BATCH - 1);
            for (int i = 0; i < count; i++) {
                clock += (int64_t)below(8);
                rows[i] = (struct row){++id, (int)below(KEYS), clock, WEIR_CHANGE_INSERT};
                for (int k = 0; k < got.count[!side]; k++) {
                    const struct row *other = &got.rows[!side][k];
                    if (other->key == rows[i].key && other->time + ttl[!side] >= clock) {
                        add_pair(&want, side == WEIR_LEFT ? id : other->id,
                                 side == WEIR_LEFT ? other->id : id);
                    }
                }
                got.rows[side][got.count[side]++] = rows[i];
            }
            feed(join, side, false, rows, count, &got);
            regular_record(join); /* rows expire once they are recorded */
            assert_int_equal(weir_regular_expire(join, clock, 1 + below(200), &err), WEIR_OK);
            size_t kept = weir_regular_rows(join, 0) + weir_regular_rows(join, 1);
            most = kept > most ? kept : most;
        }
        assert_same(&got, &want);
        assert_true(most < 500);
        assert_int_equal(weir_regular_expire(join, clock + 1000, 1 << 20, &err), WEIR_OK);
        assert_int_equal(weir_regular_rows(join, 0) + weir_regular_rows(join, 1), 0);
        struct row gone = {1, 0, clock + 1000, WEIR_CHANGE_DELETE};
        feed(join, 0, false, &gone, 1, &got);
        assert_int_equal(weir_regular_take_forgotten(join), 1);
        weir_regular_destroy(join);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes_add_up_to_an_inner_join),
        cmocka_unit_test(inner_pairs_are_those_that_hold),
        cmocka_unit_test(changes_add_up_to_a_left_join),
        cmocka_unit_test(left_pairs_are_those_that_hold),
        cmocka_unit_test(changes_add_up_to_a_right_join),
        cmocka_unit_test(right_pairs_are_those_that_hold),
        cmocka_unit_test(changes_add_up_to_a_full_join),
        cmocka_unit_test(full_pairs_are_those_that_hold),
        cmocka_unit_test(changes_add_up_to_rows_that_meet_some),
        cmocka_unit_test(changes_add_up_to_rows_some_pair_of_which_holds),
        cmocka_unit_test(changes_add_up_to_rows_that_meet_none),
        cmocka_unit_test(changes_add_up_to_rows_no_pair_of_which_holds),
        cmocka_unit_test(another_condition_is_another_join),
        cmocka_unit_test(a_row_may_meet_more_than_is_judged_at_a_time),
        cmocka_unit_test(rows_meet_those_their_ttl_has_not_forgotten),
    };
    return regular_begin_schema() != WEIR_OK ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
