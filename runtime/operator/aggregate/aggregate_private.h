#pragma once
/* The inside of an aggregate, shared by aggregate.c (tumbling, and what all kinds do) and hopping.c
 * (windows made of panes). */
#include "operator/aggregate/aggregate.h"
#include "operator/aggregate/measure.h"
#include "operator/calendar.h"
#include "operator/key.h"
#include "operator/window.h"
#include "state/table.h"

enum {
    WINDOW_BYTES = 8,      /* window or pane start, first in a key */
    HOP_BYTES = 16,        /* hops: then the first window's end the slot counts in */
    WEIR_COUNTED_TAIL = 24 /* bytes of counted.c behind the measures */
};

struct weir_hops;
struct weir_sessions;
struct weir_counted;
struct weir_changes;
struct weir_delayed;

/* What weir_aggregate_feed is given. */
struct weir_feed {
    const struct weir_batch *batch;
    const int32_t *sel; /* NULL: rows 0..count */
    int32_t count;
    const int64_t *times_us;
    const int64_t *watermark_before_us;
    const struct weir_column *const *inputs;
    const uint8_t *const *masks;
    const int8_t *signs;
    const struct weir_column *const *orders;
    const bool *only; /* by measure: those that are fed; NULL: all */
    int64_t later_us; /* added to the times of changes */
};

/* One row of output. */
struct weir_aggregate_row {
    const uint8_t *key; /* by columns only */
    size_t key_bytes;
    int64_t start_us;
    int64_t end_us;
    const uint8_t *value;
    int change; /* enum weir_change, where rows change */
};

struct weir_aggregate {
    char *declaration;
    int64_t size;                  /* 0: of another length each */
    int64_t every;                 /* overlap.c: from one window to the next; 0: other windows */
    bool cumulate;                 /* likewise: they share their start */
    struct weir_calendar calendar; /* unit NONE: windows of `size` */
    int64_t lateness;
    uint64_t shape;
    struct weir_key *key;
    int32_t by_count;
    struct weir_measures measures;
    struct weir_schema *output;
    struct weir_table *table;
    struct weir_table *members;     /* NULL without a distinct measure */
    struct weir_windows windows;    /* tumbling: the windows; hopping, cumulate: their panes */
    struct weir_hops *hops;         /* NULL for other windows */
    struct weir_sessions *sessions; /* likewise */
    struct weir_counted *counted;   /* likewise */
    bool unwindowed;                /* one row a key */
    struct aggregate_disk *disk;    /* keys that do not fit are there; NULL: they must */
    bool refires;                   /* changes leave from the end of their window on */
    bool fired_known;               /* where: */
    int64_t fired_us;               /* windows that ended up to then have left for the first time */
    struct weir_windows unfired;    /* the others, by id */
    uint32_t firing;              /* of the first of them, the slot that leaves next; 0: none has */
    struct weir_changes *changes; /* NULL: rows leave once, when their window is over */
    struct weir_delayed *delayed; /* NULL: changes leave when the batch is fed */
    struct weir_layouts *layouts; /* NULL: its measures do not change, because: */
    const char *fixed;
    struct weir_aggregate *retired; /* handed its groups on; what it sealed is being collected */
    int64_t clock_us;               /* recorded; of what is delayed */
    uint32_t prefix_bytes;          /* before the by columns in a key */
    /* Member lists of emitted slots, by first member. */
    uint32_t *graves;
    size_t grave_count;
    size_t grave_capacity;
    /* Scratch of a feed, by row fed and not late. */
    struct weir_keys keys;
    struct weir_keys member_keys;
    struct weir_buffer moved_key; /* of a member of two sets joined */
    int32_t capacity;
    int32_t *rows;
    int32_t *positions;
    int64_t *starts;
    int64_t *min_ends; /* hops: the first window a late row still counts in; INT64_MIN: all */
    uint8_t **values;
    struct weir_slot **slots;
    size_t key_estimate;
    /* Of rows that may be taken back: those that are, apart from the others. */
    int32_t *sorted_rows;
    int32_t *sorted_positions;
    uint8_t **sorted_values;
    struct weir_slot **sorted_slots;
};

struct weir_ordered_slot {
    uint64_t sequence;
    uint32_t number;
};

static inline int weir_compare_sequence(const void *a, const void *b) {
    const struct weir_ordered_slot *x = (const struct weir_ordered_slot *)a;
    const struct weir_ordered_slot *y = (const struct weir_ordered_slot *)b;
    return (x->sequence > y->sequence) - (x->sequence < y->sequence);
}

/* Live slots of a table in creation order; owned by the caller, NULL without memory. */
struct weir_ordered_slot *weir_slots_in_order(struct weir_table *table, size_t *count);

/* Of a window that starts there, or a day of the calendar that does. */
void weir_aggregate_bounds(const struct weir_aggregate *aggregate, int64_t id, int64_t *start,
                           int64_t *end);
/* Key and bounds of a slot of other windows than those of panes and sessions. */
void weir_aggregate_read_key(const struct weir_aggregate *aggregate, const struct weir_slot *slot,
                             struct weir_aggregate_row *row);
int weir_aggregate_append_row(struct weir_aggregate *aggregate,
                              const struct weir_aggregate_row *row, struct weir_batch_builder *out,
                              struct weir_error *err) WEIR_MUST_CHECK;
/* The row did not go out: it is undone. *full: the builder is, and the caller takes the batch and
 * comes again; else returns the error to go on with. */
int weir_aggregate_row_failed(const struct weir_aggregate *aggregate, int rc,
                              struct weir_batch_builder *out, bool *full, struct weir_error *err);
/* Appends a row and finishes it. *full: the builder is, nothing was appended, and the caller takes
 * the batch and comes again. */
int weir_aggregate_emit(struct weir_aggregate *aggregate, const struct weir_aggregate_row *row,
                        struct weir_batch_builder *out, bool *full,
                        struct weir_error *err) WEIR_MUST_CHECK;
/* Appends a new slot to its window's list. */
int weir_aggregate_join_window(struct weir_aggregate *aggregate, struct weir_slot *slot,
                               int64_t start, struct weir_error *err) WEIR_MUST_CHECK;
void weir_aggregate_free_scratch(struct weir_aggregate *aggregate);
/* Adds rows[from..to) to the values of their slots, measure by measure. */
int weir_aggregate_add(struct weir_aggregate *aggregate, const struct weir_feed *feed, int32_t from,
                       int32_t to, struct weir_error *err) WEIR_MUST_CHECK;
/* Deletes a slot of the window table; its distinct members follow in time. */
int weir_aggregate_delete_slot(struct weir_aggregate *aggregate, struct weir_slot *slot,
                               struct weir_error *err) WEIR_MUST_CHECK;

/* --- refire.c ------------------------------------------------------------------------------- */

/* The window has not ended yet: what changes in it does not leave. */
bool weir_refire_waits(const struct weir_aggregate *aggregate, int64_t id);
/* A window got its first slot. False without memory. */
bool weir_refire_note(struct weir_aggregate *aggregate, int64_t id);
bool weir_refire_ready(const struct weir_aggregate *aggregate, int64_t watermark_us);
/* Part of weir_aggregate_fire: rows of windows that have ended leave for the first time. *done: all
 * of them; *work is counted down. */
int weir_refire_first(struct weir_aggregate *aggregate, int64_t watermark_us,
                      struct weir_batch_builder *out, int32_t max_rows, int32_t *work,
                      enum weir_fired *fired, bool *done, struct weir_error *err) WEIR_MUST_CHECK;

/* --- overlap.c ------------------------------------------------------------------------------ */

#define WEIR_OVERLAP_WINDOWS_MAX 1000                                 /* a row lies in */
int64_t weir_overlap_windows(const struct weir_aggregate *aggregate); /* a row lies in, at most */
/* Room a feed of so many rows needs. */
int32_t weir_overlap_entries(const struct weir_aggregate *aggregate, int32_t rows);
void weir_overlap_bounds(const struct weir_aggregate *aggregate, int64_t id, int64_t *start,
                         int64_t *end);
/* The n-th window a time lies in, from 0 on; false: so many there are not. */
bool weir_overlap_nth(const struct weir_aggregate *aggregate, int64_t time, int64_t n, int64_t *id);
/* As find_windows, of rows from *next on as far as there is room: *late_count goes on, starts are
 * ids. A row late for some of its windows counts in the others. */
int32_t weir_overlap_find(struct weir_aggregate *aggregate, const struct weir_feed *feed,
                          int32_t *next, int32_t *late_sel, int32_t *late_count);

/* --- hopping.c ------------------------------------------------------------------------------ */

struct weir_hops *weir_hops_create(struct weir_aggregate *aggregate,
                                   const struct weir_aggregate_config *config,
                                   struct weir_error *err);
void weir_hops_destroy(struct weir_hops *hops);
/* As find_windows: starts are panes; a row late for some windows is fed and in late_sel too. */
int32_t weir_hops_find(struct weir_aggregate *aggregate, const int32_t *sel, int32_t count,
                       const int64_t *times, const int64_t *watermarks, int32_t *late_sel,
                       int32_t *late_count);
/* A slot was made (fed or restored). */
int weir_hops_created(struct weir_aggregate *aggregate, struct weir_slot *slot,
                      struct weir_error *err) WEIR_MUST_CHECK;
bool weir_hops_is_pane(const struct weir_aggregate *aggregate, int64_t start_us);
bool weir_hops_ready(const struct weir_aggregate *aggregate, int64_t watermark_us);
int weir_hops_fire(struct weir_aggregate *aggregate, int64_t watermark_us,
                   struct weir_batch_builder *out, int32_t max_rows, enum weir_fired *fired,
                   struct weir_error *err) WEIR_MUST_CHECK;
int32_t weir_hops_cells(struct weir_aggregate *aggregate, struct weir_cell **cells,
                        int32_t capacity);
/* Before the slots are given back by weir_hops_created. */
int weir_hops_restore(struct weir_aggregate *aggregate, struct weir_error *err) WEIR_MUST_CHECK;
size_t weir_hops_bytes(const struct weir_hops *hops);

/* The window of tumbling and calendar windows a time lies in. */
void weir_aggregate_window_of(const struct weir_aggregate *aggregate, int64_t time, int64_t *start,
                              int64_t *end);
int weir_aggregate_reserve(struct weir_aggregate *aggregate, int32_t count,
                           struct weir_error *err) WEIR_MUST_CHECK;

/* aggregate_disk.c */
void aggregate_disk_destroy(struct aggregate_disk *disk);
int aggregate_disk_allow(struct weir_aggregate *aggregate,
                         const struct weir_aggregate_config *config,
                         struct weir_error *err) WEIR_MUST_CHECK;
/* A slot stands in its window's list behind `before` (0: first). */
int aggregate_disk_linked(struct weir_aggregate *aggregate, const struct weir_slot *slot,
                          uint32_t before, struct weir_error *err) WEIR_MUST_CHECK;
/* The first slot of a window left; `head` is the next. */
void aggregate_disk_headed(struct weir_aggregate *aggregate, uint32_t head);
/* The window that closes next is not as it was made: it is emitted from memory and disk. *done:
 * it has left. */
bool aggregate_disk_fires(const struct weir_aggregate *aggregate);
int aggregate_disk_fire(struct weir_aggregate *aggregate, struct weir_batch_builder *out,
                        int32_t max_rows, bool *done, enum weir_fired *fired,
                        struct weir_error *err) WEIR_MUST_CHECK;
/* After windows were made from what is in memory. */
int aggregate_disk_restore(struct weir_aggregate *aggregate,
                           struct weir_error *err) WEIR_MUST_CHECK;
bool weir_aggregate_has_no_rows(const struct weir_aggregate *aggregate, struct weir_slot *slot);
int weir_aggregate_emit_slot(struct weir_aggregate *aggregate, struct weir_slot *slot,
                             struct weir_batch_builder *out, bool *full,
                             struct weir_error *err) WEIR_MUST_CHECK;
