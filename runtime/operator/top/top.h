#pragma once
/* The first n rows of each group by an order, kept whole. Without a window the rows of a group
 * change as others come: what a batch did leaves as a changelog (batch/change.h). With one they
 * leave once, when the window is over, in the order of windows, then of groups as they were made,
 * then of rank.
 *
 * Or they leave as they change until then (`updates`), and say nothing when it is over.
 *
 * Rows that are equal in the order: by event time, then arrival, the first (or the last) wins; or
 * all of them stay. Nulls come last. A rank is the row's place, or of `all` one more than the rows
 * before it.
 *
 * Where rows may be taken back (`retracts`) all of a group are kept (operator/top/ranks.h). Those
 * equal in all of `by` go by what they hold then, which is no matter of when they came; a row taken
 * back that is not there takes nothing back.
 *
 * State: a slot a (window end and start, group); its value how many rows it has seen, and the rows
 * kept, each its order in bytes that compare, then its columns (operator/key.h). One thread. */
#include "batch/batch.h"
#include "batch/builder.h"
#include "operator/calendar.h"
#include "state/cell.h"

#ifdef __cplusplus
extern "C" {
#endif

#define WEIR_TOP_ROWS_MAX 1000 /* of a group; with those equal to the last, four times as many */

enum weir_top_ties { WEIR_TOP_FIRST, WEIR_TOP_LAST, WEIR_TOP_ALL };

struct weir_top_order {
    int32_t column; /* of input */
    bool descending;
};

struct weir_top_config {
    const char *declaration; /* copied */
    const struct weir_schema *input;
    const int32_t *columns; /* of input, plain: what of a row is kept */
    int32_t column_count;
    const int32_t *per; /* of input */
    int32_t per_count;
    const struct weir_top_order *by;
    int32_t by_count;
    int32_t tied_count; /* retracts: rows equal in so many of `by` share a rank; 0: in all */
    int32_t n;          /* 1 .. WEIR_TOP_ROWS_MAX */
    enum weir_top_ties ties;
    const char *rank; /* name of the column; NULL: none */
    /* At most one of the three: */
    int64_t size_us;                      /* tumbling windows by the rows' times */
    const struct weir_calendar *calendar; /* calendar windows likewise */
    bool windowed;                        /* rows say their window: timestamps of these columns */
    int32_t window_start;
    int32_t window_end;
    int64_t every_us; /* hopping and cumulate windows of size_us, as those of aggregate.h; else 0 */
    bool cumulate;
    int64_t lateness_us;
    bool updates;     /* of windows: rows leave as changes */
    bool retracts;    /* rows fed may be taken back */
    size_t max_bytes; /* 0: none */
    const char *option;
};

struct weir_top;

struct weir_top *weir_top_create(const struct weir_top_config *config, struct weir_error *err);
void weir_top_destroy(struct weir_top *top);
/* The columns kept; of windows by the rows' times window_start and window_end; the rank; without a
 * window, and of `updates`, `_change`. Borrowed. */
struct weir_schema *weir_top_output(const struct weir_top *top);
struct weir_top_rows {
    const struct weir_batch *batch;
    const int32_t *sel; /* NULL: rows 0..count */
    int32_t count;
    const int64_t *times_us; /* by row, NULL where no event time is known */
    const int64_t *watermark_before_us;
    const int8_t *signs; /* by row: < 0 is taken back; NULL: none is */
};
/* Takes rows in order. late_sel: room for count. Errors as weir_aggregate_feed's
 * (operator/aggregate/aggregate.h). */
int weir_top_feed(struct weir_top *top, const struct weir_top_rows *rows, int32_t *late_sel,
                  int32_t *late_count, struct weir_error *err) WEIR_MUST_CHECK;
/* Without a window, or `updates`: what the batches fed since it was last done did, until the
 * builder (of at least 4 * WEIR_TOP_ROWS_MAX rows) holds max_rows or is full, or nothing is left.
 * times_us by row of output. */
int weir_top_changes(struct weir_top *top, struct weir_batch_builder *out, int32_t max_rows,
                     int64_t *times_us, bool *done, struct weir_error *err) WEIR_MUST_CHECK;
/* With one: rows of the windows that are over, about as many as said: a group's leave together. To
 * be called while it is ready: a call forgets some hundred rows at most. */
int weir_top_fire(struct weir_top *top, int64_t watermark_us, struct weir_batch_builder *out,
                  int32_t rows, struct weir_error *err) WEIR_MUST_CHECK;
bool weir_top_ready(const struct weir_top *top, int64_t watermark_us);

size_t weir_top_bytes(const struct weir_top *top);
uint64_t weir_top_shape(const struct weir_top *top);
struct weir_show;
/* How its groups and rows are shown (operator/show.h), and its cells: two at most. */
int32_t weir_top_shows(struct weir_top *top, struct weir_show *shows, int32_t capacity);
int32_t weir_top_cells(struct weir_top *top, struct weir_cell **cells, int32_t capacity);
int weir_top_restore(struct weir_top *top, struct weir_error *err) WEIR_MUST_CHECK;

#ifdef __cplusplus
}
#endif
