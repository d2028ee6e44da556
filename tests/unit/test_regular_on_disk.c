/* A regular join most of whose rows are on disk, beside the same in memory: change by change they
 * say the same, with batches, seals, snapshots and starts from them at random. */
#include <unistd.h>

#include "core/signal.h"
#include "regular_rows.h"
#include "state/table.h"

enum {
    STEPS = 120,
    KEYS = 150,
    BATCH = 60,
    ROWS_MAX = 9000,
    RECORDS_MAX = 2 * STEPS,
    SLICES_MAX = 20000
};
enum { BUDGET = 64 << 10 };

struct told {
    int own;
    int other;
    int kind;
    int cause;
};

static char folder[] = "/tmp/weir-join-XXXXXX";
static struct weir_signal brought;
static struct row now[2][ROWS_MAX];
static int counts[2];
static int next_id;

static struct weir_regular *make_join(enum weir_join_kind kind, const char *condition,
                                      const int64_t *ttl, bool on_disk) {
    struct weir_regular_config config = regular_config(kind, condition, ttl);
    config.max_bytes = on_disk ? BUDGET : 0;
    config.disk = on_disk ? folder : NULL;
    config.disk_signal = &brought;
    return regular_make(&config);
}

static void judge(struct weir_regular *join, int side, const struct row *rows) {
    static struct weir_regular_pair pairs[WEIR_REGULAR_ASKED];
    static bool verdicts[WEIR_REGULAR_ASKED];
    int32_t count = weir_regular_ask(join, pairs);
    for (int32_t i = 0; i < count; i++) {
        verdicts[i] = (rows[pairs[i].row].id + regular_id(join, !side, pairs[i].other)) % 3 > 0;
    }
    if (count > 0) {
        weir_regular_answer(join, verdicts);
    }
}

static void need(struct weir_regular *join, int side, const struct weir_batch *batch,
                 const int32_t *sel, int32_t *count) {
    bool waits;
    assert_int_equal(weir_regular_need(join, side, batch, sel, count, &waits, &err), WEIR_OK);
    for (bool done = !waits; !done;) {
        weir_signal_wait(&brought, 1000);
        assert_int_equal(weir_regular_bring(join, &done, &err), WEIR_OK);
    }
}

static size_t feed(struct weir_regular *join, int side, const char *condition,
                   const struct row *rows, int all, struct told *told) {
    int64_t times[BATCH * 2];
    int32_t sel[BATCH * 2];
    struct weir_batch *batch = regular_batch(rows, all, times, sel);
    size_t told_count = 0;
    for (int32_t at = 0, count; at < all; at += count) {
        count = all - at;
        if (weir_regular_uses_disk(join)) {
            need(join, side, batch, sel + at, &count);
        }
        assert_int_equal(weir_regular_feed(join, side, batch, sel + at, count, times, &err),
                         WEIR_OK);
        do {
            struct weir_regular_change changes[7];
            int32_t got;
            if (condition != NULL) {
                judge(join, side, rows);
            }
            assert_int_equal(weir_regular_changes(join, changes, 7, &got, &err), WEIR_OK);
            for (int32_t i = 0; i < got; i++) {
                told[told_count++] = (struct told){
                    changes[i].row,
                    changes[i].other != NULL ? regular_id(join, !side, changes[i].other) : 0,
                    changes[i].kind, changes[i].cause};
            }
        } while (weir_regular_any(join));
    }
    weir_batch_unref(batch);
    return told_count;
}

static void draw_change(int side, int64_t clock, bool changes, struct row *rows, int *count) {
    struct row fresh = {++next_id, below(20) == 0 ? -1 : (int)below(KEYS), clock,
                        WEIR_CHANGE_INSERT};
    uint64_t what = changes && counts[side] > 0 ? below(10) : 0;
    if (what < 7) {
        rows[(*count)++] = now[side][counts[side]++] = fresh;
        return;
    }
    struct row *old = &now[side][below((uint64_t)counts[side])];
    rows[*count] = *old;
    rows[(*count)++].change = what < 9 ? WEIR_CHANGE_BEFORE : WEIR_CHANGE_DELETE;
    if (what == 9) {
        *old = now[side][--counts[side]];
        return;
    }
    fresh.key = below(2) == 0 ? old->key : fresh.key;
    *old = fresh;
    fresh.change = WEIR_CHANGE_AFTER;
    rows[(*count)++] = fresh;
}

/* --- records and snapshots ---------------------------------------------------------------------
 */

struct past {
    struct weir_buffer records[RECORDS_MAX][2];
    int record_count;
    struct weir_buffer slices[SLICES_MAX];
    int of[SLICES_MAX];
    int slice_count;
    int side; /* being dumped; 2: none is */
    struct weir_cell_cursor cursor;
    int began; /* records from it on belong to the snapshot */
    int good_count;
    int good_began;
};

static struct past past;

static void drop_slices(void) {
    for (int i = 0; i < past.slice_count; i++) {
        weir_buffer_fini(&past.slices[i]);
    }
    past.slice_count = past.good_count = 0;
}

static void seal(struct weir_regular *whole, struct weir_regular *part) {
    regular_record(whole);
    regular_seal(part, past.records[past.record_count++]);
}

/* A slice of a snapshot; one that is whole takes the place of that before. */
static void dump(struct weir_regular *join) {
    if (past.side == 2) {
        if (below(10) == 0) {
            drop_slices();
            past.side = 0;
            past.cursor = (struct weir_cell_cursor){0};
            past.began = past.record_count;
        }
        return;
    }
    struct weir_cell *cell = weir_regular_cell(join, past.side);
    struct weir_buffer *slice = &past.slices[past.slice_count];
    bool done;
    assert_true(past.slice_count < SLICES_MAX);
    weir_buffer_init(slice, 1 << 22);
    past.of[past.slice_count++] = past.side;
    assert_int_equal(cell->ops->dump(cell->self, &past.cursor, slice, 1 + below(200), &done, &err),
                     WEIR_OK);
    if (done) {
        past.side++;
        past.cursor = (struct weir_cell_cursor){0};
    }
    if (past.side == 2) {
        past.good_count = past.slice_count;
        past.good_began = past.began;
    }
}

/* From the snapshot, if one is whole, and records. */
static struct weir_regular *recover(enum weir_join_kind kind, const char *condition,
                                    const int64_t *ttl) {
    struct weir_regular *join = make_join(kind, condition, ttl, true);
    for (int i = 0; i < past.good_count; i++) {
        regular_apply(join, past.of[i], &past.slices[i]);
    }
    for (int i = past.good_count > 0 ? past.good_began : 0; i < past.record_count; i++) {
        for (int s = 0; s < 2; s++) {
            regular_apply(join, s, &past.records[i][s]);
        }
    }
    assert_int_equal(weir_regular_restore(join, &err), WEIR_OK);
    if (past.good_count == 0) {
        drop_slices();
    }
    past.side = 2; /* one under way is lost */
    return join;
}

static void forget_past(void) {
    drop_slices();
    for (int i = 0; i < past.record_count; i++) {
        regular_drop(past.records[i]);
    }
    past.record_count = 0;
    past.side = 2;
}

/* --- beside each other -------------------------------------------------------------------------
 */

static void check(enum weir_join_kind kind, const char *condition, const int64_t *ttl,
                  uint64_t seed) {
    static struct told told[2][1 << 20];
    int64_t clock = 1000;
    random_state = seed;
    counts[0] = counts[1] = next_id = 0;
    past.side = 2;
    struct weir_regular *whole = make_join(kind, condition, ttl, false);
    struct weir_regular *part = make_join(kind, condition, ttl, true);
    uint64_t found = 0;
    uint64_t forgotten = 0;
    for (int step = 0; step < STEPS; step++) {
        struct row rows[BATCH * 2];
        int count = 0;
        int side = (int)below(2);
        bool crowded;
        for (uint64_t left = 1 + below(BATCH - 1); left > 0; left--) {
            clock += (int64_t)below(4);
            draw_change(side, clock, ttl[0] < 0, rows, &count);
        }
        size_t want = feed(whole, side, condition, rows, count, told[0]);
        size_t got = feed(part, side, condition, rows, count, told[1]);
        assert_int_equal(got, want);
        assert_memory_equal(told[1], told[0], want * sizeof(struct told));
        assert_int_equal(weir_regular_expire(whole, clock, 2000, &err), WEIR_OK);
        assert_int_equal(weir_regular_expire(part, clock, 2000, &err), WEIR_OK);
        assert_int_equal(weir_regular_make_room(part, &crowded, &err), WEIR_OK);
        dump(part);
        if (crowded || below(4) == 0) {
            seal(whole, part);
        }
        if (below(40) == 0) {
            seal(whole, part);
            found += weir_regular_disk_figures(part).found;
            forgotten += weir_regular_disk_figures(part).forgotten;
            weir_regular_destroy(part);
            part = recover(kind, condition, ttl);
        }
    }
    struct weir_table_disk_figures figures = weir_regular_disk_figures(part);
    assert_true(found + figures.found > 200);
    assert_true(ttl[0] < 0 || forgotten + figures.forgotten > 0);
    weir_regular_destroy(whole);
    weir_regular_destroy(part);
    forget_past();
}

static const int64_t ever[] = {-1, -1};

static void check_kinds(const char *condition) {
    for (int kind = WEIR_JOIN_INNER; kind <= WEIR_JOIN_ANTI; kind++) {
        for (uint64_t seed = 1; seed <= seeds_of(3); seed++) {
            check((enum weir_join_kind)kind, condition, ever, seed * 977 + (uint64_t)kind);
        }
    }
}

static void rows_on_disk_meet_others_as_in_memory(void **state) {
    (void)state;
    check_kinds(NULL);
}

static void pairs_of_rows_on_disk_are_judged_as_in_memory(void **state) {
    (void)state;
    check_kinds("it holds");
}

static void rows_expire_on_disk_as_in_memory(void **state) {
    (void)state;
    static const int64_t ttl[] = {3000, 1500};
    for (uint64_t seed = 1; seed <= seeds_of(6); seed++) {
        check(WEIR_JOIN_INNER, NULL, ttl, seed * 31);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_on_disk_meet_others_as_in_memory),
        cmocka_unit_test(pairs_of_rows_on_disk_are_judged_as_in_memory),
        cmocka_unit_test(rows_expire_on_disk_as_in_memory),
    };
    if (regular_begin_schema() != WEIR_OK || mkdtemp(folder) == NULL ||
        weir_signal_init(&brought, &err) != WEIR_OK) {
        return 1;
    }
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    weir_signal_fini(&brought);
    return rmdir(folder) != 0 || rc != 0;
}
