#pragma once
/* The regular join: every row of one side with every row of the other that has its key, kept true
 * as both change. Changes come in (whole rows: +I and +U add one, −U and −D take one back), changes
 * go out: a pair comes, goes, or (a −U and the +U behind it, of one key) is updated; of an outer
 * side a row stands alone while it has no other. Of a semi join no pair leaves but the left row,
 * while it has another, of an anti join while it has none. A null in the key meets nothing.
 *
 * Where a condition says which pairs there are, it is judged outside: ask for the pairs it is
 * wanted of, and answer. No verdict is kept: of a pair that goes it is wanted again, over the row
 * taken back, which is the row that came byte for byte. So the condition has to be a function of
 * the two rows, and is part of the shape.
 *
 * A row that is older than another by more than its side's ttl is forgotten by it: it meets it no
 * more, and nothing is taken back for that. What is left of it goes once all rows to come are as
 * young. A row that takes back a forgotten one does nothing, and is counted.
 *
 * Rows may wait on disk: what those fed next may meet or take back is needed first.
 *
 * Use: feed a side's rows, then ask for changes until there are none (with a condition: ask,
 * answer, take the changes, until weir_regular_any says no). One thread. */
#include "operator/join/join.h"
#include "state/chains.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weir_show;

struct weir_regular_config {
    const char *declaration; /* copied */
    struct weir_join_side sides[2];
    int32_t on_count;
    enum weir_join_kind kind;
    const char *condition; /* says which pairs there are; NULL: all. A text that tells it from
                              others: what is kept goes by it */
    int32_t change[2];     /* columns of enum weir_change; -1: rows only come */
    int64_t ttl_us[2];     /* < 0: for ever */
    size_t max_bytes;      /* of each side; 0: none */
    const char *option;
    const char *disk; /* folder for rows that have not been needed lately: max_bytes is a budget
                         then; or NULL */
    struct weir_signal *disk_signal;
};

struct weir_regular_change {
    int32_t row;                   /* of the batch fed; -1: none, the other stands alone */
    const struct weir_link *other; /* of the other side, good until rows of it are fed; or NULL */
    int32_t cause;                 /* row of the batch fed that it comes of */
    int8_t kind;                   /* enum weir_change */
};

enum { WEIR_REGULAR_ASKED = 2048 }; /* pairs, at most, a condition is wanted of at a time */

struct weir_regular_pair {
    int32_t row;                   /* of the batch fed */
    const struct weir_link *other; /* of the other side, good until rows of it are fed */
    bool comes;                    /* it was not judged before: what is wrong with it is news */
};

struct weir_regular;

struct weir_regular *weir_regular_create(const struct weir_regular_config *config,
                                         struct weir_error *err);
void weir_regular_destroy(struct weir_regular *regular);

/* Some rows are on disk: then rows are needed before they are fed. Those of a batch that are fed
 * next are sel[0..*count), *count lessened where they would bring in too much at once. *waits: not
 * before weir_regular_bring is *done. Nothing may be left of rows fed before. */
bool weir_regular_uses_disk(const struct weir_regular *regular);
int weir_regular_need(struct weir_regular *regular, int side, const struct weir_batch *batch,
                      const int32_t *sel, int32_t *count, bool *waits,
                      struct weir_error *err) WEIR_MUST_CHECK;
int weir_regular_bring(struct weir_regular *regular, bool *done,
                       struct weir_error *err) WEIR_MUST_CHECK;
/* Moves rows out, a little at a time, while nothing is left of rows fed or needed. *crowded: too
 * many have changed since the last seal. */
int weir_regular_make_room(struct weir_regular *regular, bool *crowded,
                           struct weir_error *err) WEIR_MUST_CHECK;
struct weir_table_disk_figures weir_regular_disk_figures(const struct weir_regular *regular);
/* Takes rows sel[0..count) of a side, in order; times_us by row. The batch before must have no
 * changes left, and this one lives until it has none. */
int weir_regular_feed(struct weir_regular *regular, int side, const struct weir_batch *batch,
                      const int32_t *sel, int32_t count, const int64_t *times_us,
                      struct weir_error *err) WEIR_MUST_CHECK;
/* Pairs whose verdict is wanted next, in order, at most WEIR_REGULAR_ASKED; 0: none of the rows
 * fed, or the changes of those asked before have not all been taken. */
int32_t weir_regular_ask(struct weir_regular *regular, struct weir_regular_pair *pairs);
/* holds[i]: that of pairs[i]. */
void weir_regular_answer(struct weir_regular *regular, const bool *holds);
/* The next changes, at most `room` (2 or more); *count 0: there are no more, but what verdicts
 * are wanted for. WEIR_E_LIMIT, WEIR_E_NOMEM. */
int weir_regular_changes(struct weir_regular *regular, struct weir_regular_change *changes,
                         int32_t room, int32_t *count, struct weir_error *err) WEIR_MUST_CHECK;
/* Something is left of the rows fed: verdicts that are wanted, or changes. */
bool weir_regular_any(const struct weir_regular *regular);
/* Rows that took back what was forgotten, since it was asked last. */
int64_t weir_regular_take_forgotten(struct weir_regular *regular);
/* Gives back rows that nothing can meet any more when none to come is older than `time_us`: looks
 * at max_rows of each side. */
int weir_regular_expire(struct weir_regular *regular, int64_t time_us, size_t max_rows,
                        struct weir_error *err) WEIR_MUST_CHECK;

/* Appends the kept columns of a row to `columns`, in the order of `kept`. */
int weir_regular_decode(const struct weir_regular *regular, int side, const struct weir_link *row,
                        struct weir_column_builder *columns) WEIR_MUST_CHECK;

size_t weir_regular_rows(const struct weir_regular *regular, int side);
/* Typical bytes of one kept row, index in: for estimates. */
size_t weir_regular_estimate(const struct weir_regular *regular, int side);
uint64_t weir_regular_shape(const struct weir_regular *regular);
void weir_regular_follow(struct weir_regular *regular, struct weir_regular *as); /* see join.h */
void weir_regular_show(struct weir_regular *regular, int side, struct weir_show *show);
struct weir_cell *weir_regular_cell(struct weir_regular *regular, int side);
/* After the images. */
int weir_regular_restore(struct weir_regular *regular, struct weir_error *err) WEIR_MUST_CHECK;

#ifdef __cplusplus
}
#endif
