#pragma once
/* Keyed aggregation in windows (tumbling, calendar, hopping, cumulate, session, of so many rows),
 * on state slots (state/table.h). One slot a (window, key), measures as fixed cells in it; the
 * members of exact distinct sets are slots of a table of their own, so an epoch logs only new
 * members. Rows are taken in order; which window a row joins and whether it is late depend on the
 * row's own watermark_before only, and windows are emitted in (start, creation sequence) order: no
 * result depends on batch size or epoch length. Hopping and cumulate windows are put together from
 * panes (hopping.c): a slot a (pane, key); a row late for some windows counts in the others. Their
 * double sums are of panes, each summed in row order. Where rows change they are slots of their own
 * (overlap.c).
 *
 * Small print (docs: language): nulls are ignored, aggregates of nothing are null, count and
 * distinct 0. Sums of ints are int64, summed in 128 bits; of decimal(p,s) decimal(38,s), summed in
 * 192; one that *ends* out of range is an error of class fail. float and double are added as
 * double in row order. avg of ints and decimals is decimal(38, max(6,s)), half-even; of floats
 * double. NaN sorts above all numbers. One thread (the loop). */
#include "batch/batch.h"
#include "batch/builder.h"
#include "operator/calendar.h"
#include "state/cell.h"

#ifdef __cplusplus
extern "C" {
#endif

enum weir_measure_kind {
    WEIR_MEASURE_COUNT, /* of rows, or of non-null values when it has an input */
    WEIR_MEASURE_SUM,
    WEIR_MEASURE_AVG,
    WEIR_MEASURE_MIN,
    WEIR_MEASURE_MAX,
    WEIR_MEASURE_DISTINCT,
    WEIR_MEASURE_FIRST,   /* by event time, of equals the first to arrive */
    WEIR_MEASURE_LAST,    /* of equals the last */
    WEIR_MEASURE_ARG_MAX, /* of the row whose other column is greatest; of equals the first */
    WEIR_MEASURE_ARG_MIN,
    WEIR_MEASURE_VARIANCE, /* of a sample */
    WEIR_MEASURE_STDDEV,
    WEIR_MEASURE_APPROX_DISTINCT, /* sketches: operator/sketch.h states their error */
    WEIR_MEASURE_APPROX_QUANTILE,
    WEIR_MEASURE_QUANTILE, /* a value of that rank */
    WEIR_MEASURE_MEDIAN,   /* halfway between the two middle values */
    WEIR_MEASURE_TOP_K,    /* the most frequent values; of more than 4,096 different ones counts
                              are low by at most a 4,097th of all rows */
    WEIR_MEASURE_COLLECT,  /* all values, by event time, then as they came; where rows may be taken
                              back by value */
    WEIR_MEASURE_AGGREGATE /* the input is a state of one row, of fixed width; states are merged in
                              the order of rows, and come out as they are */
};

struct weir_measure {
    const char *name; /* copied */
    enum weir_measure_kind kind;
    bool has_input;
    uint8_t type; /* of the input: enum weir_type, precision, scale */
    uint8_t precision;
    int8_t scale;
    double share; /* of quantiles: 0 .. 1 */
    int64_t most; /* top_k: values; collect: values kept, the first ones; 0: all */
    const struct weir_field *state; /* aggregate: the struct; copied */
};

/* Merges from[i] into into[i] in order, states of measure m (abi/call.h). WEIR_E_DATA with a
 * message where the function throws; into[i] is then of no use. */
typedef int weir_merge_states(void *context, int32_t m, uint8_t **into, uint8_t **from,
                              int32_t count, struct weir_error *err);

/* What a migrating group's measures are told by (aggregate_migrate.c). */
struct weir_migration;
/* Some groups hold what another version wrote, and its functions say what becomes of it: fills in
 * what they say (weir_migration_start). WEIR_E_DATA where one throws, which group is in *failed. */
typedef int weir_migrate_groups(void *context, struct weir_migration *migration, int32_t *failed,
                                struct weir_error *err);
/* A measure goes on under another name. */
struct weir_renamed {
    int64_t version; /* from it to the next; < 0: back from it */
    const char *from;
    const char *to;
};

#define WEIR_MEASURES_MAX 256

struct weir_aggregate_config {
    const char *declaration; /* "gold.sales_velocity"; copied */
    const struct weir_schema *input;
    const int32_t *by; /* columns of input */
    int32_t by_count;
    int64_t size_us;                      /* > 0, or one of the next three */
    const struct weir_calendar *calendar; /* windows of a wall calendar; NULL: of size_us */
    int64_t gap_us;                       /* > 0: sessions */
    int64_t rows;                         /* > 0: windows of so many rows of a key */
    int64_t
        every_us;  /* 0: tumbling; else a window starts (cumulate: ends) every so often, <= size */
    bool cumulate; /* windows share their start and grow by every_us, which divides size_us */
    int64_t lateness_us; /* >= 0 */
    bool unwindowed;     /* none of the above: one row a key, that changes */
    bool updates;        /* rows leave as changes, and none as a window closes */
    bool delays;         /* unwindowed, updates: changes wait until they are asked for */
    bool refires;  /* updates: rows leave as their window ends, and from then on as they change */
    bool retracts; /* rows fed may be taken back (signs); of sessions counts, sums, averages */
    const int64_t
        *over_us; /* by measure: how long rows count in it (forget), for the shape; NULL */
    const struct weir_measure *measures;
    int32_t measure_count;
    weir_merge_states *merge; /* of measures that are aggregates */
    void *merge_context;
    uint32_t state_version; /* part of the shape */
    int64_t version;        /* as declared; 0: 1 */
    const int64_t *steps;   /* versions with a function that leads on; < 0: back */
    int32_t step_count;
    const struct weir_renamed *renamed;
    int32_t renamed_count;
    weir_migrate_groups *migrate; /* of `steps` */
    void *migrate_context;
    size_t max_keys;    /* 0: none */
    size_t max_bytes;   /* 0: none */
    const char *option; /* that raises the cap, for the message */
    const char *disk;   /* folder for keys that do not fit max_bytes; NULL: they must */
    struct weir_signal *disk_signal; /* raised when keys needed are in */
    int32_t work; /* slots, groups and members a fire goes over; 0: some hundred microseconds */
};

struct weir_aggregate;

bool weir_measure_kind_parse(const char *text, enum weir_measure_kind *kind);
const char *weir_measure_kind_name(enum weir_measure_kind kind);
/* The type a measure comes out with, into *field, which has no children yet (weir_field_fini); name
 * untouched. WEIR_E_CONFIG when the kind does not take the input's type. */
int weir_measure_output(const struct weir_measure *measure, struct weir_field *field,
                        struct weir_error *err) WEIR_MUST_CHECK;

struct weir_aggregate *weir_aggregate_create(const struct weir_aggregate_config *config,
                                             struct weir_error *err);
void weir_aggregate_destroy(struct weir_aggregate *aggregate);
/* Its merges of states and its migrations are called with another context from here on: whoever
 * made it goes. */
void weir_aggregate_merge_with(struct weir_aggregate *aggregate, void *context);

/* Can rows be taken back from the measure? Sums of floats cannot be un-added, nor can a sketch of
 * distinct values forget. */
bool weir_measure_retracts(const struct weir_measure *measure);

/* The schema of what fire emits: by columns, window_start, window_end (timestamp; where there is a
 * window), measures; of changes `_change` (batch/change.h) behind them. Borrowed. */
struct weir_schema *weir_aggregate_output(const struct weir_aggregate *aggregate);

/* Can its keys wait on disk? Those of groups whose measures have no sets of members, without a
 * window or in windows that leave when they are over and do not overlap. */
bool weir_aggregate_may_wait(const struct weir_aggregate *aggregate);
/* Around feeding where they may (state/table.h; times_us by row, of windows): *waits, then
 * weir_aggregate_bring until *done, then feed; and in between, while nothing waits, make_room. */
int weir_aggregate_need(struct weir_aggregate *aggregate, const struct weir_batch *batch,
                        const int32_t *sel, int32_t count, const int64_t *times_us, bool *waits,
                        struct weir_error *err) WEIR_MUST_CHECK;
int weir_aggregate_bring(struct weir_aggregate *aggregate, bool *done,
                         struct weir_error *err) WEIR_MUST_CHECK;
int weir_aggregate_make_room(struct weir_aggregate *aggregate, bool *crowded,
                             struct weir_error *err) WEIR_MUST_CHECK;
struct weir_table_disk_figures;
struct weir_table_disk_figures weir_aggregate_disk_figures(const struct weir_aggregate *aggregate);

/* Takes rows sel[0..count) in order.
 *   times_us, watermark_before_us   by row (operator/watermark.h); rows without a time are not fed
 *   inputs[m]   column of measure m, by row, plain unless string or binary; NULL where it has none
 *   masks[m]    by position: the row counts for measure m iff 1; masks or masks[m] NULL: all do
 *   late_sel    room for count; gets the rows that are late, in order; *late_count of them
 * WEIR_E_LIMIT at the state's cap (the message names declaration, keys, option), WEIR_E_NOMEM: the
 * pipeline must stop and recover, part of the batch is in the state. */
int weir_aggregate_feed(struct weir_aggregate *aggregate, const struct weir_batch *batch,
                        const int32_t *sel, int32_t count, const int64_t *times_us,
                        const int64_t *watermark_before_us, const struct weir_column *const *inputs,
                        const uint8_t *const *masks, int32_t *late_sel, int32_t *late_count,
                        struct weir_error *err) WEIR_MUST_CHECK;
/* The same where rows may be taken back: signs[row] < 0 (NULL: none); and with measures of two
 * columns: orders[m] is the second, plain. */
int weir_aggregate_feed_changes(struct weir_aggregate *aggregate, const struct weir_batch *batch,
                                const int32_t *sel, int32_t count, const int64_t *times_us,
                                const int64_t *watermark_before_us, const int8_t *signs,
                                const struct weir_column *const *inputs,
                                const struct weir_column *const *orders,
                                const uint8_t *const *masks, int32_t *late_sel, int32_t *late_count,
                                struct weir_error *err) WEIR_MUST_CHECK;
/* Rows of an unwindowed aggregate that retracts, fed before, that count no more in some measures.
 */
struct weir_forgotten {
    const struct weir_batch *batch;          /* its `by` columns are read */
    int32_t count;                           /* rows 0 .. count */
    const int64_t *times_us;                 /* theirs */
    int64_t later_us;                        /* so much later they change their groups */
    const struct weir_column *const *inputs; /* as feed's, of the measures in `only` */
    const struct weir_column *const *orders;
    const uint8_t *const *masks;
    const bool *only; /* by measure */
    bool whole;       /* and they count as rows of their groups no more */
};
int weir_aggregate_forget(struct weir_aggregate *aggregate, const struct weir_forgotten *rows,
                          struct weir_error *err) WEIR_MUST_CHECK;
/* Unwindowed, or `updates`: what the batch fed last did to its groups, as a changelog in the order
 * they were first touched, until the builder holds max_rows or is full, or nothing is left (*done).
 * times_us[i], room for out->rows_max: time of the row that changed output row i. To be called
 * until done before the next feed. Errors as fire's. */
int weir_aggregate_changes(struct weir_aggregate *aggregate, struct weir_batch_builder *out,
                           int32_t max_rows, int64_t *times_us, bool *done,
                           struct weir_error *err) WEIR_MUST_CHECK;

/* `delays`: the clock of what is fed from now on; whether changes wait, and a new interval has
 * begun since the first of them came (every_us 0: whatever waits is due). */
void weir_aggregate_set_clock(struct weir_aggregate *aggregate, int64_t clock_us);
bool weir_aggregate_due(const struct weir_aggregate *aggregate, int64_t every_us);

/* How a call of weir_aggregate_fire ended. */
enum weir_fired {
    WEIR_FIRED_ALL,  /* nothing closed is left */
    WEIR_FIRED_FULL, /* the builder holds max_rows, or no more: take its batch and come again */
    WEIR_FIRED_SOME, /* as much work as a call does: come again with the same builder */
    WEIR_FIRED_WAITS /* for keys on disk: likewise, once weir_aggregate_awaits no more */
};
bool weir_aggregate_awaits(struct weir_aggregate *aggregate);

/* Emits rows of closed windows into `out` (begun, of weir_aggregate_output's schema; it may hold
 * rows of calls before) until it holds max_rows or is full. A call does some hundred microseconds
 * of work at most, however large the windows; where it stops changes nothing of what comes out, nor
 * which rows a builder holds. Emitted slots are deleted. watermark_us WEIR_WATERMARK_END closes
 * everything. WEIR_E_DATA means what a failed expectation of action `fail` means: a sum ended out
 * of range (measure, window and type are named); the slot stays. */
int weir_aggregate_fire(struct weir_aggregate *aggregate, int64_t watermark_us,
                        struct weir_batch_builder *out, int32_t max_rows, enum weir_fired *fired,
                        struct weir_error *err) WEIR_MUST_CHECK;
/* True when fire would emit something. */
bool weir_aggregate_ready(const struct weir_aggregate *aggregate, int64_t watermark_us);

/* --- other measures, at a hot reload (layout.h) --- */

/* May `to` go on with what `from` has counted? WEIR_E_STATE: no, and what to write. `to` learns how
 * to read it. */
int weir_aggregate_check(struct weir_aggregate *to, struct weir_aggregate *from,
                         struct weir_error *err) WEIR_MUST_CHECK;
/* After a check: no column of rows that left has another value in rows to come of the same state.
 */
bool weir_aggregate_keeps_columns(const struct weir_aggregate *to,
                                  const struct weir_aggregate *from);
/* There are functions to be tried on the groups of `from`, which is of another shape. */
bool weir_aggregate_migrates(const struct weir_aggregate *to, const struct weir_aggregate *from);
/* `to` is made for this alone: tries the functions on some groups in the memory of `from`, from
 * slot *next on, which begins with 1. On WEIR_E_DATA `key` gets the bytes of the group's, window
 * first. */
int weir_aggregate_try(struct weir_aggregate *to, struct weir_aggregate *from, uint64_t *next,
                       bool *done, struct weir_buffer *key, struct weir_error *err) WEIR_MUST_CHECK;
/* Takes the groups of `from`, of another shape, and `from`, whose sealed changes may still have to
 * be collected. */
int weir_aggregate_take(struct weir_aggregate *to, struct weir_aggregate *from,
                        struct weir_error *err) WEIR_MUST_CHECK;

/* What was written, row by row of `from` groups of one version. */
int64_t weir_migration_version(const struct weir_migration *migration);
const char *weir_migration_text(const struct weir_migration *migration); /* JSON */
int32_t weir_migration_count(const struct weir_migration *migration);
struct weir_schema *weir_migration_schema(const struct weir_migration *migration); /* borrowed */
int weir_migration_put(struct weir_migration *migration, int32_t i, struct weir_batch_builder *out,
                       struct weir_error *err) WEIR_MUST_CHECK;
/* Measure m of group i begins as the row says, or with nothing where it is null. */
int weir_migration_start(struct weir_migration *migration, int32_t i, int32_t m,
                         const struct weir_column *column, int32_t row,
                         struct weir_error *err) WEIR_MUST_CHECK;

struct weir_shown;
/* A group's window and key, from its bytes. */
int weir_aggregate_show_key(struct weir_aggregate *aggregate, const uint8_t *key, size_t length,
                            struct weir_shown *out, struct weir_error *err) WEIR_MUST_CHECK;

struct weir_show;
/* How its groups are shown (operator/show.h); returns how many it filled in. */
int32_t weir_aggregate_shows(struct weir_aggregate *aggregate, struct weir_show *shows,
                             int32_t capacity);
size_t weir_aggregate_keys(const struct weir_aggregate *aggregate); /* open (window, key) pairs */
size_t weir_aggregate_bytes(const struct weir_aggregate *aggregate);
/* Bytes one (window, key) costs in memory, without distinct members and long strings. */
size_t weir_aggregate_estimate(const struct weir_aggregate *aggregate);
uint64_t weir_aggregate_shape(const struct weir_aggregate *aggregate);
/* Rows to come have the columns `as` was made for, which is of the same shape and is not used
 * again. */
void weir_aggregate_follow(struct weir_aggregate *aggregate, struct weir_aggregate *as);

/* Its cells: 1; one more with a distinct measure, two more with every_us, one more of sessions. All
 * are sealed at the same instant. */
int32_t weir_aggregate_cells(struct weir_aggregate *aggregate, struct weir_cell **cells,
                             int32_t capacity);
/* `refires`, after a restore, before anything is fed: the watermark fire was called with last. It
 * may be told again and again. WEIR_E_NOMEM. */
int weir_aggregate_settle(struct weir_aggregate *aggregate, int64_t watermark_us,
                          struct weir_error *err) WEIR_MUST_CHECK;
/* After the last apply to its cells, before the first feed. */
int weir_aggregate_restore(struct weir_aggregate *aggregate,
                           struct weir_error *err) WEIR_MUST_CHECK;

#ifdef __cplusplus
}
#endif
