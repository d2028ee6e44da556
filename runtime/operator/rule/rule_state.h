#pragma once
/* The keyed state of a rule: declared cells of typed records, one slot of them a key, with what a
 * row did to it undone when the row throws.
 *
 * Three tables, addressed by (declaration, cell, key):
 *   "state"   by key: the cells. Its image: u64 layout, i64 time of the last change, then by cell
 *             varint entries and these, oldest first: i64 time, presence bytes, the fields that
 *             are there (8 bytes, 16 a decimal, varint length and bytes a text); of a sketch,
 *             varint length and bytes. Under the empty key: the layouts by number, as JSON, so
 *             that images can be read without the rule that wrote them.
 *   "timers"  by name and key: when.
 *   "rows"    by order of arrival: rows that wait for the watermark.
 * One thread (the loop). */
#include "batch/schema.h"
#include "operator/key.h"
#include "state/table.h"

enum weir_rule_kind {
    WEIR_RULE_VALUE,
    WEIR_RULE_COUNTER,
    WEIR_RULE_RING,
    WEIR_RULE_LIST,
    WEIR_RULE_MAP,
    WEIR_RULE_SET,
    WEIR_RULE_SKETCH,
};
bool weir_rule_kind_parse(const char *text, enum weir_rule_kind *kind);
const char *weir_rule_kind_name(enum weir_rule_kind kind);

struct weir_rule_cell {
    const char *name; /* borrowed */
    enum weir_rule_kind kind;
    uint32_t max;               /* entries */
    struct weir_schema *fields; /* of a record; borrowed. Map, set: the key comes first */
};

struct weir_rule_config {
    const char *declaration;
    int64_t version;
    const struct weir_key *key; /* borrowed: its shape, and bytes as they are encoded */
    struct weir_schema *key_schema;
    struct weir_pool *pool;
    const struct weir_rule_cell *cells;
    int32_t cell_count;
    const char *const *timers; /* names */
    int32_t timer_count;
    int64_t ttl_us;       /* 0: for ever */
    bool ttl_by_clock;    /* else event time */
    const int64_t *steps; /* versions `migrate` has functions for; < 0: ways back */
    int32_t step_count;
    size_t max_bytes;
    const char *option;
    const char *disk; /* folder: keys that do not fit wait there; NULL: they must fit */
    struct weir_signal *disk_signal; /* raised when keys needed are in */
};

struct weir_rule_state;
struct weir_rule_item;

struct weir_rule_state *weir_rule_state_create(const struct weir_rule_config *config,
                                               struct weir_error *err);
void weir_rule_state_destroy(struct weir_rule_state *state);
int32_t weir_rule_state_cells(struct weir_rule_state *state, struct weir_cell **cells,
                              int32_t capacity);
struct weir_show;
/* How they are shown (operator/show.h); whole: all columns of a row, NULL where none waits. */
int32_t weir_rule_state_shows(struct weir_rule_state *state, const struct weir_key *whole,
                              struct weir_show *shows, int32_t capacity);
/* After all images were applied: heaps of timers are made, and what was written under another
 * layout is looked at. WEIR_E_STATE names the cell whose shape changed, and the way out. */
int weir_rule_state_restore(struct weir_rule_state *state, struct weir_error *err) WEIR_MUST_CHECK;
/* Can what `from` holds go on here? WEIR_E_STATE says why not. */
int weir_rule_state_check(struct weir_rule_state *to, const struct weir_rule_state *from,
                          struct weir_error *err) WEIR_MUST_CHECK;
/* Hot reload: takes all of it. Where cells are declared otherwise, keys go over as images, which
 * takes some hundred nanoseconds each, and `to` keeps `*from`, which becomes NULL, until what was
 * sealed of it is collected. */
int weir_rule_state_take(struct weir_rule_state *to, struct weir_rule_state **from,
                         struct weir_error *err) WEIR_MUST_CHECK;
/* For a trial: the next some keys of `from` in memory, as images, are `to`'s, which nobody else
 * uses; a span of them, to be run with `only_migrate`, and dropped again. *count 0: there are no
 * more. */
int weir_rule_state_borrow(struct weir_rule_state *to, struct weir_rule_state *from,
                           struct weir_cell_cursor *cursor, struct weir_rule_item *items,
                           int32_t room, int32_t *count, struct weir_error *err) WEIR_MUST_CHECK;
int weir_rule_state_give_back(struct weir_rule_state *to, struct weir_error *err) WEIR_MUST_CHECK;
/* Do functions run when this state goes on with what `from` holds? */
bool weir_rule_state_migrates(struct weir_rule_state *to, const struct weir_rule_state *from);
/* Bytes a key costs at least, for estimates. */
size_t weir_rule_state_estimate(const struct weir_rule_state *state);

/* --- keys on disk (rule_disk.c): need, then bring until *done, then a run over those items --- */

bool weir_rule_state_may_wait(const struct weir_rule_state *state);
/* Some keys are there. */
bool weir_rule_state_uses_disk(const struct weir_rule_state *state);
int weir_rule_state_need(struct weir_rule_state *state, const struct weir_rule_item *items,
                         int32_t count, bool *waits, struct weir_error *err) WEIR_MUST_CHECK;
int weir_rule_state_bring(struct weir_rule_state *state, bool *done,
                          struct weir_error *err) WEIR_MUST_CHECK;
/* While nothing is loaded and no items whose keys were needed are still to be run. *crowded: too
 * many keys changed since the last seal. */
int weir_rule_state_make_room(struct weir_rule_state *state, bool *crowded,
                              struct weir_error *err) WEIR_MUST_CHECK;
struct weir_table_disk_figures weir_rule_state_disk_figures(const struct weir_rule_state *state);

/* --- rows that wait --------------------------------------------------------------------------- */

struct weir_rule_parked {
    int64_t time_us;
    uint64_t arrival;
    const uint8_t *bytes; /* of the whole row, as operator/key.h writes them */
    size_t size;
};

uint64_t weir_rule_state_arrival(struct weir_rule_state *state); /* the next row's number */
int weir_rule_state_park(struct weir_rule_state *state, const struct weir_rule_parked *row,
                         struct weir_error *err) WEIR_MUST_CHECK;
/* The first by time, then arrival; false: none. Good until it is dropped. */
bool weir_rule_state_first(struct weir_rule_state *state, struct weir_rule_parked *row);
bool weir_rule_state_first_time(const struct weir_rule_state *state, int64_t *time_us);
int weir_rule_state_drop_first(struct weir_rule_state *state) WEIR_MUST_CHECK;

/* --- a run ------------------------------------------------------------------------------------ */

struct weir_rule_item { /* a row of a run, in order */
    struct weir_column *in;
    int32_t row;
    int64_t time_us;
    int64_t gate_us; /* timers before this fire first */
    const uint8_t *key;
    uint32_t key_bytes;
};

struct weir_rule_target { /* a dataset emitted to */
    struct weir_call call;
    int32_t count;
    int64_t *times;  /* by row: event time */
    int64_t *before; /* by row: the watermark before it */
    int32_t *items;  /* by row: the item that emitted it, or -1 - timer; NULL: nobody asks */
    void *context;
    void (*clear)(void *context, int32_t row); /* what was assigned to a row is undone */
};

struct weir_rule_span {
    const struct weir_rule_item *items; /* their keys are in memory, or nowhere */
    int32_t count;
    int64_t gate_us;   /* after the items */
    int64_t clock_us;  /* clock timers up to it fire before the items; INT64_MIN: none */
    int64_t event_us;  /* what clock timers count as event time */
    bool only_migrate; /* a trial: nothing else runs, and everything is undone */
    int32_t stop_at;   /* items and timers; in replay, a breach was recorded here; -1 */
    int32_t most;      /* items and timers of one span */
    struct weir_rule_target *targets;
    int32_t target_count;
};

/* WAITS: for keys of timers, which are on disk: bring, then as after MORE. */
enum weir_rule_end { WEIR_RULE_MORE, WEIR_RULE_DONE, WEIR_RULE_STOPPED, WEIR_RULE_WAITS };

struct weir_rule_run *weir_rule_state_run(struct weir_rule_state *state);
/* `position` goes on where the span before ended. */
void weir_rule_run_begin(struct weir_rule_state *state, const struct weir_rule_span *span,
                         int32_t position);
/* Something is due before the gate, without rows. */
bool weir_rule_run_due(struct weir_rule_state *state, int64_t gate_us, int64_t clock_us);
/* The call returned: the last item is kept. WEIR_E_LIMIT, WEIR_E_NOMEM: state is full. */
int weir_rule_run_end(struct weir_rule_state *state, enum weir_rule_end *end,
                      struct weir_error *err) WEIR_MUST_CHECK;
/* The call threw: what the item did is undone. Its place in the span, or -1 - timer. The run goes
 * on behind it. */
int32_t weir_rule_run_undo(struct weir_rule_state *state);
/* Rows its function rejected since the call began, in order. */
struct weir_rule_rejection {
    int32_t item; /* of the span */
    const char *why;
    int64_t actual; /* the version, where another was expected; else -1 */
};
int32_t weir_rule_run_rejections(struct weir_rule_state *state);
struct weir_rule_rejection weir_rule_run_rejection(const struct weir_rule_state *state, int32_t i);
/* They are looked at. */
void weir_rule_run_rejected(struct weir_rule_state *state);
/* Entries of the cell, a ring, that made room for others though a window somebody looks back over
 * still held them, since it was last asked. */
int64_t weir_rule_run_pushed_out(struct weir_rule_state *state, int32_t cell);
/* Which version the last row made; -1: none. */
int64_t weir_rule_run_version(const struct weir_rule_state *state);
/* The key of the timer that fired last, one row; NULL before the first. */
struct weir_batch *weir_rule_state_timer_key(const struct weir_rule_state *state);
/* Rows of the span that were begun. */
int32_t weir_rule_run_rows(const struct weir_rule_state *state);
/* Not the item's fault; WEIR_OK: it is. */
int weir_rule_run_failed(const struct weir_rule_state *state, struct weir_error *err);
