#pragma once
/* The temporal join: a left row meets the version of a key that was valid at the row's time. The
 * right side's rows are versions, each valid from its event time to that of the next one of its
 * key; a delete ends the version before it. A null in the key meets nothing.
 *
 * A left row leaves, with its version or with none, once no version can come any more that would be
 * valid at its time: when the right watermark has passed it or, with a `wait`, when the left
 * watermark has passed it by that much. Until then it is kept. A version that comes later than that
 * is late: it holds for the rows that have not left. As rows leave in front of a late version,
 * however the input is cut, what meets depends on the order of rows alone.
 *
 * Versions are kept for as long as a left row may ask for them that is on time: one that asks for a
 * time before the left watermark by more than the lateness is late, and meets nothing.
 *
 * A delete is as old as the row it takes back where it carries no time of its own (a database's old
 * row): then the version ends at the right watermark.
 *
 * Use: feed, and take what leaves, until nothing does; then the rest of the batch. One thread. */
#include "operator/join/join.h"
#include "state/chains.h"

#ifdef __cplusplus
extern "C" {
#endif

struct weir_temporal_config {
    const char *declaration; /* copied */
    struct weir_join_side sides[2];
    int32_t on_count;
    int32_t as_of;       /* left column, the time at which a version is asked for; -1: event time */
    int32_t change;      /* right columns: enum weir_change; -1: rows only come */
    int32_t unavailable; /* names of columns an update leaves as they were; -1: none does */
    int64_t wait_us;     /* < 0: for the right watermark, however long */
    int64_t lateness_us;
    size_t max_bytes; /* of each side; 0: none */
    const char *option;
};

struct weir_temporal_pair { /* of the left batch at hand */
    int32_t row;
    const struct weir_link *version; /* NULL: none was valid. Good until the next feed */
    int64_t before_us;               /* the join's watermark before the row */
};

struct weir_temporal;

struct weir_temporal *weir_temporal_create(const struct weir_temporal_config *config,
                                           struct weir_error *err);
void weir_temporal_destroy(struct weir_temporal *temporal);

/* Left rows sel[0..count), in order. Those that leave at once are in pairs (room for count), those
 * that are late in late_sel; the others are kept. WEIR_E_LIMIT, WEIR_E_NOMEM. */
int weir_temporal_left(struct weir_temporal *temporal, const struct weir_batch *batch,
                       const int32_t *sel, int32_t count, const int64_t *times_us,
                       const int64_t *watermark_before_us, struct weir_temporal_pair *pairs,
                       int32_t *pair_count, int32_t *late_sel, int32_t *late_count,
                       struct weir_error *err) WEIR_MUST_CHECK;
/* Right rows from position *from of sel on. Stops, with *from where it did, in front of a late
 * version when rows leave before it: take those (weir_temporal_due), then go on. *late counts
 * versions that came late. */
int weir_temporal_right(struct weir_temporal *temporal, const struct weir_batch *batch,
                        const int32_t *sel, int32_t count, const int64_t *times_us,
                        const int64_t *watermark_before_us, int32_t *from, int64_t *late,
                        struct weir_error *err) WEIR_MUST_CHECK;
void weir_temporal_advance(struct weir_temporal *temporal, int side, int64_t watermark_us);

/* Kept rows that leave, at most `room`, by the time they ask for, with their versions. The rows are
 * good until weir_temporal_expire. */
int32_t weir_temporal_due(struct weir_temporal *temporal, struct weir_row **rows,
                          const struct weir_link **versions, int32_t room);
bool weir_temporal_any_due(struct weir_temporal *temporal);
/* No row that is still to leave is earlier, but for those that came late. */
int64_t weir_temporal_watermark(const struct weir_temporal *temporal);
/* Gives back what nothing needs any more, a slice of it. WEIR_E_NOMEM. */
int weir_temporal_expire(struct weir_temporal *temporal, size_t max_rows,
                         struct weir_error *err) WEIR_MUST_CHECK;

/* Append the kept columns, in the order of `kept`. */
int weir_temporal_decode(const struct weir_temporal *temporal, const struct weir_row *row,
                         struct weir_column_builder *columns) WEIR_MUST_CHECK;
int weir_temporal_decode_version(const struct weir_temporal *temporal,
                                 const struct weir_link *version,
                                 struct weir_column_builder *columns) WEIR_MUST_CHECK;

size_t weir_temporal_rows(const struct weir_temporal *temporal, int side);
/* Typical bytes of one kept row, index in: for estimates. */
size_t weir_temporal_estimate(const struct weir_temporal *temporal, int side);
uint64_t weir_temporal_shape(const struct weir_temporal *temporal);
void weir_temporal_follow(struct weir_temporal *temporal,
                          struct weir_temporal *as); /* see join.h */
struct weir_show;
void weir_temporal_show(struct weir_temporal *temporal, int side, struct weir_show *show);
struct weir_cell *weir_temporal_cell(struct weir_temporal *temporal, int side);
/* After the images: watermarks as they were; rows that were due then have left. */
int weir_temporal_restore(struct weir_temporal *temporal, struct weir_error *err) WEIR_MUST_CHECK;
void weir_temporal_set_watermarks(struct weir_temporal *temporal, int64_t left_us,
                                  int64_t right_us);

#ifdef __cplusplus
}
#endif
