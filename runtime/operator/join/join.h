#pragma once
/* The interval join of two streams: rows of equal keys whose event times lie within bounds of each
 * other, right - left from `low` to `high`, both included. Or the window join: rows of equal keys
 * that are in the same window, once for each they share; they are then as old as its last moment.
 * Rows of both sides are kept for as long
 * as one of the other side may still meet them: a left row until the right watermark has passed
 * time + high, a right row until the left watermark has passed time - low. A null in the key meets
 * nothing.
 *
 * A row that comes after its own side's watermark (and lateness) is late and meets nothing. So
 * which rows meet depends on no batch, no epoch and no order between the sides: whoever is not
 * late finds everything kept that it may meet.
 *
 * Use: feed a side's rows, then ask for pairs until there are none; say of each pair that holds
 * (a condition may be judged in between) that it does. Then advance, and ask for the rows that are
 * alone, until there are none. One thread. */
#include "batch/batch.h"
#include "batch/builder.h"
#include "state/rows.h"

#ifdef __cplusplus
extern "C" {
#endif

enum weir_join_kind {
    WEIR_JOIN_INNER,
    WEIR_JOIN_LEFT, /* left rows alone too */
    WEIR_JOIN_RIGHT,
    WEIR_JOIN_FULL,
    WEIR_JOIN_SEMI, /* left rows that meet some row, once */
    WEIR_JOIN_ANTI, /* left rows that meet none */
};

enum { WEIR_LEFT, WEIR_RIGHT };

struct weir_join_side {
    struct weir_schema *schema;
    const int32_t *on; /* as many on both sides, of the same types */
    const int32_t *kept;
    int32_t kept_count;
};

struct weir_join_config {
    const char *declaration; /* copied */
    struct weir_join_side sides[2];
    int32_t on_count;
    enum weir_join_kind kind;
    int64_t low_us;
    int64_t high_us;
    int32_t high_column; /* of left: the latest time of a right row; -1: time + high_us */
    int64_t window_us;   /* > 0: a window join, and the bounds are 0 */
    int64_t every_us;    /* of its windows: from start to start */
    int64_t lateness_us;
    size_t max_bytes; /* of each side; 0: none */
    const char *option;
};

struct weir_join_pair {
    int32_t row;            /* of the batch fed */
    int32_t at;             /* the join's own */
    struct weir_row *own;   /* NULL: it is not kept */
    struct weir_row *other; /* of the other side */
    int64_t time_us;        /* of the left row */
};

struct weir_join;

struct weir_join *weir_join_create(const struct weir_join_config *config, struct weir_error *err);
void weir_join_destroy(struct weir_join *join);

/* Takes rows sel[0..count) of a side, in order; times_us and watermark_before_us by row. Rows that
 * are late go to late_sel (room for count). The batch before must have no pairs left.
 * WEIR_E_LIMIT, WEIR_E_NOMEM. */
int weir_join_feed(struct weir_join *join, int side, const struct weir_batch *batch,
                   const int32_t *sel, int32_t count, const int64_t *times_us,
                   const int64_t *watermark_before_us, int32_t *late_sel, int32_t *late_count,
                   struct weir_error *err) WEIR_MUST_CHECK;
/* The next pairs of the rows fed, at most `room`; 0: there are no more. The rows of a pair are good
 * until weir_join_expire. */
int32_t weir_join_pairs(struct weir_join *join, struct weir_join_pair *pairs, int32_t room);
/* The pair holds. *leaves: a row of the output comes of it (not of anti, nor of semi again). */
int weir_join_meet(struct weir_join *join, const struct weir_join_pair *pair, bool *leaves,
                   struct weir_error *err) WEIR_MUST_CHECK;

/* A side's watermark moved. */
void weir_join_advance(struct weir_join *join, int side, int64_t watermark_us);
int64_t weir_join_watermark_of(const struct weir_join *join, int side);
/* Rows alone whose time is over, at most `room`, left before right; *side is the side they are
 * of. 0: there are no more. */
int32_t weir_join_alone(struct weir_join *join, struct weir_row **rows, int32_t room, int *side);
bool weir_join_any_alone(struct weir_join *join);
/* No row of the output that is still to come is earlier (by the time of its left row, or of a right
 * row alone). */
int64_t weir_join_watermark(const struct weir_join *join);
/* Gives back what nothing can meet any more, a slice of it. */
void weir_join_expire(struct weir_join *join, size_t max_rows);

/* Appends the kept columns of a row to `columns`, in the order of `kept`. */
int weir_join_decode(const struct weir_join *join, int side, const struct weir_row *row,
                     struct weir_column_builder *columns) WEIR_MUST_CHECK;

/* By how many the left rows that have met none grew (or, < 0, shrank) since it was asked last. */
int64_t weir_join_take_unmatched(struct weir_join *join);
size_t weir_join_rows(const struct weir_join *join, int side);
/* Typical bytes of one kept row, index in: for estimates. */
size_t weir_join_estimate(const struct weir_join *join, int side);
uint64_t weir_join_shape(const struct weir_join *join);
/* Rows to come have the columns `as` was made for, which is of the same shape and is not used
 * again. */
void weir_join_follow(struct weir_join *join, struct weir_join *as);
/* Kept columns and keys are known by their names. */
uint64_t weir_join_sides_shape(const struct weir_join_side *sides, int32_t on_count, uint64_t hash);
struct weir_show;
void weir_join_show(struct weir_join *join, int side, struct weir_show *show);
/* A row of rows.h, kept by a join: `on` from key_from of its key on. */
struct weir_key;
struct weir_shown;
struct weir_show_entry;
int weir_join_show_row(const struct weir_key *on, size_t key_from, const struct weir_key *kept,
                       const struct weir_show_entry *entry, struct weir_shown *out,
                       struct weir_error *err) WEIR_MUST_CHECK;
struct weir_cell *weir_join_cell(struct weir_join *join, int side);
/* After the images: watermarks as they were; rows alone whose time was over then have left. */
int weir_join_restore(struct weir_join *join, struct weir_error *err) WEIR_MUST_CHECK;
void weir_join_set_watermarks(struct weir_join *join, int64_t left_us, int64_t right_us);

#ifdef __cplusplus
}
#endif
