/* Kept rows beside a model that keeps every row ever added: random adds, marks, epochs collected in
 * slices, snapshots dumped in slices meanwhile, expiry, and crashes at any point, after which what
 * was committed, and only that, must be there, with its marks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "random.h"
#include "state/rows.h"

enum { ROWS_MOST = 4000, RECORDS = 400, STEPS = 3000, KEYS = 20, BUCKET_US = 16 };

struct kept {
    int64_t until_us;
    int key;
    bool marked;
    bool taken;           /* by weir_rows_due */
    struct weir_row *row; /* of the living store */
};

/* What is true of the store at one moment; row n has sequence n + 1. */
struct state {
    struct kept rows[ROWS_MOST];
    int count;
    int64_t watermark;
};

struct world {
    struct weir_rows *rows;
    bool timed;
    struct state now;
    struct state sealed;
    struct state durable; /* after the last record */
    bool collecting;
    struct weir_buffer open; /* images of the sealed epoch so far */
    struct weir_buffer records[RECORDS];
    int record_count;
    struct weir_buffer dump; /* the snapshot under way, and from which record on it wants more */
    struct weir_cell_cursor cursor;
    bool dumping;
    int dump_from;
    int dump_end; /* -1: still written; it holds once that many records are there */
    struct weir_buffer snapshot;
    int snapshot_from;
};

static const struct weir_cell_ops *ops;

static void make_store(struct world *w) {
    struct weir_rows_config config = {.declaration = "silver.test",
                                      .cell = "rows",
                                      .shape = 7,
                                      .seed = 1,
                                      .bucket_us = BUCKET_US,
                                      .timed = w->timed,
                                      .option = "memory.state"};
    struct weir_error err = {0};
    w->rows = weir_rows_create(&config, &err);
    assert_non_null(w->rows);
    ops = weir_rows_cell(w->rows)->ops;
}

/* Returns the key's length. */
static size_t key_of(const struct world *w, int k, char key[8], uint64_t *hash) {
    int size = snprintf(key, 8, "k%d", k);
    *hash = XXH3_64bits_withSeed(key, (size_t)size, weir_rows_seed(w->rows));
    return (size_t)size;
}

static void add(struct world *w) {
    struct weir_error err = {0};
    if (w->now.count == ROWS_MOST) {
        return;
    }
    struct kept *k = &w->now.rows[w->now.count];
    uint64_t number = (uint64_t)w->now.count;
    *k = (struct kept){.until_us = w->now.watermark + (int64_t)below(120), .key = (int)below(KEYS)};
    char key[8];
    uint64_t hash;
    size_t size = key_of(w, k->key, key, &hash);
    k->row = weir_rows_add(w->rows, hash, key, size, &number, sizeof(number), 0, k->until_us, &err);
    assert_non_null(k->row);
    assert_int_equal(k->row->sequence, number + 1);
    w->now.count++;
}

static bool is_kept(const struct state *s, int n) {
    return s->rows[n].until_us >= s->watermark;
}

static void mark(struct world *w) {
    for (int tries = 0; tries < 20 && w->now.count > 0; tries++) {
        int n = (int)below((uint64_t)w->now.count);
        if (is_kept(&w->now, n) && w->now.rows[n].row != NULL) {
            assert_int_equal(weir_rows_mark(w->rows, w->now.rows[n].row), WEIR_OK);
            w->now.rows[n].marked = true;
            return;
        }
    }
}

static void pass(struct world *w) {
    w->now.watermark += (int64_t)below(12);
    for (struct weir_row *row;
         w->timed && (row = weir_rows_due(w->rows, w->now.watermark)) != NULL;) {
        struct kept *k = &w->now.rows[row->sequence - 1];
        assert_false(k->marked);
        assert_false(k->taken);
        k->taken = true;
    }
    for (int n = 0; w->timed && n < w->now.count; n++) {
        const struct kept *k = &w->now.rows[n];
        assert_true(k->marked || k->taken || k->until_us >= w->now.watermark);
    }
    weir_rows_expire(w->rows, w->now.watermark, 1000000);
}

static void seal(struct world *w) {
    struct weir_error err = {0};
    if (w->collecting || w->record_count == RECORDS) {
        return;
    }
    assert_int_equal(ops->seal(w->rows, &err), WEIR_OK);
    w->sealed = w->now;
    w->collecting = true;
    weir_buffer_init(&w->open, 1 << 26);
}

static void collect(struct world *w) {
    struct weir_error err = {0};
    bool done = false;
    if (!w->collecting) {
        return;
    }
    assert_int_equal(ops->collect(w->rows, &w->open, 1 + below(20), &done, &err), WEIR_OK);
    if (done) {
        w->records[w->record_count++] = w->open;
        w->durable = w->sealed;
        w->collecting = false;
        if (w->dump_end >= 0 && w->record_count >= w->dump_end) {
            weir_buffer_fini(&w->snapshot);
            w->snapshot = w->dump;
            w->snapshot_from = w->dump_from;
            w->dump_end = -1;
            weir_buffer_init(&w->dump, 1 << 26);
        }
    }
}

static void dump(struct world *w) {
    struct weir_error err = {0};
    bool done = false;
    if (w->dump_end >= 0) {
        return; /* written; waits for its last record */
    }
    if (!w->dumping) {
        weir_buffer_clear(&w->dump);
        w->cursor = (struct weir_cell_cursor){0};
        w->dumping = true;
        w->dump_from = w->record_count;
    }
    assert_int_equal(ops->dump(w->rows, &w->cursor, &w->dump, 1 + below(30), &done, &err), WEIR_OK);
    if (done) {
        w->dumping = false;
        w->dump_end = w->record_count + w->collecting + 1; /* the open epoch's too */
    }
}

static void crash(struct world *w) {
    struct weir_error err = {0};
    weir_rows_destroy(w->rows);
    make_store(w);
    if (w->snapshot.size > 0) {
        assert_int_equal(ops->apply(w->rows, w->snapshot.data, w->snapshot.size, &err), WEIR_OK);
    }
    for (int r = w->snapshot_from; r < w->record_count; r++) {
        assert_int_equal(ops->apply(w->rows, w->records[r].data, w->records[r].size, &err),
                         WEIR_OK);
    }
    assert_int_equal(weir_rows_restore(w->rows, &err), WEIR_OK);
    if (w->collecting) {
        weir_buffer_fini(&w->open);
    }
    w->collecting = w->dumping = false;
    w->dump_end = -1;
    w->now = w->durable;
    for (int n = 0; n < w->now.count; n++) {
        w->now.rows[n].row = NULL;
    }
    for (int k = 0; k < KEYS; k++) {
        char key[8];
        uint64_t hash;
        size_t size = key_of(w, k, key, &hash);
        struct weir_row *row = weir_rows_newest(w->rows, hash, key, size);
        for (; row != NULL; row = row->older) {
            uint64_t number;
            memcpy(&number, weir_row_bytes(row), sizeof(number));
            assert_true(number < (uint64_t)w->now.count);
            assert_int_equal(row->sequence, number + 1);
            w->now.rows[number].row = row;
            if (is_kept(&w->now, (int)number) && (row->marked != 0) != w->now.rows[number].marked) {
                fail_msg("row %d is %smarked", (int)number, row->marked != 0 ? "" : "not ");
            }
        }
    }
    for (int n = 0; n < w->now.count; n++) {
        assert_true(w->now.rows[n].row != NULL || !is_kept(&w->now, n));
    }
    /* Rows that were due before are given again, and dropped: their time has passed already. */
    while (w->timed && weir_rows_due(w->rows, w->now.watermark) != NULL) {
    }
    weir_rows_expire(w->rows, w->now.watermark, 1000000);
}

static void run(uint64_t seed, bool timed) {
    struct world *w = calloc(1, sizeof(*w));
    assert_non_null(w);
    random_state = seed;
    w->timed = timed;
    w->dump_end = -1;
    weir_buffer_init(&w->dump, 1 << 26);
    weir_buffer_init(&w->snapshot, 1 << 26);
    make_store(w);
    for (int step = 0; step < STEPS; step++) {
        uint64_t what = below(100);
        if (what < 40) {
            add(w);
        } else if (what < 60) {
            mark(w);
        } else if (what < 68) {
            pass(w);
        } else if (what < 76) {
            seal(w);
        } else if (what < 90) {
            collect(w);
        } else if (what < 99) {
            dump(w);
        } else {
            crash(w);
        }
    }
    crash(w);
    weir_rows_destroy(w->rows);
    for (int r = 0; r < w->record_count; r++) {
        weir_buffer_fini(&w->records[r]);
    }
    weir_buffer_fini(&w->dump);
    weir_buffer_fini(&w->snapshot);
    free(w);
}

static void rows_and_marks_come_back_as_committed(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        run(seed, false);
    }
}

static void rows_that_become_due_do_so_once(void **state) {
    (void)state;
    for (uint64_t seed = 1000; seed <= 1060; seed++) {
        run(seed, true);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_and_marks_come_back_as_committed),
        cmocka_unit_test(rows_that_become_due_do_so_once),
    };
    return cmocka_run_group_tests_name("kept rows", tests, NULL, NULL);
}
