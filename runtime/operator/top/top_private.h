#pragma once
/* The inside of top, shared by top.c (making, feeding, state), top_group.c (the rows kept of a
 * group) and top_leave.c (what leaves). */
#include <stdlib.h>
#include <string.h>

#include "operator/key.h"
#include "operator/show.h"
#include "operator/top/top.h"
#include "operator/window.h"
#include "state/side.h"
#include "state/table.h"

enum {
    BOUNDS_BYTES = 16, /* window end and start, first in a key */
    SUFFIX_BYTES = 16, /* time and arrival, last in an order */
    GROUP_BYTES_MAX = 1 << 26
};

struct group { /* a slot's value */
    uint8_t *rows;
    uint32_t bytes;
    uint32_t capacity;
    uint64_t arrivals;
    uint32_t count;
    uint32_t last; /* where the last row kept begins */
};

struct entry {      /* then its order, then its columns */
    uint32_t bytes; /* all in */
    uint32_t order;
};

struct touched {
    uint32_t number;
    int64_t time_us; /* retracts: of the row that changed it last */
    size_t before;   /* in top->before; as many bytes as the group had */
    uint32_t before_bytes;
};

struct weir_top {
    char *declaration;
    struct weir_top_config config; /* pointers: own copies, or NULL */
    int32_t *columns;
    int32_t *per;
    struct weir_top_order *by;
    struct weir_calendar calendar;
    bool windowed; /* of any kind */
    bool bounded;  /* window bounds are columns of ours */
    bool changes;  /* rows leave as changes */
    struct weir_key *row_key;
    struct weir_key *group_key;
    struct weir_schema *output;
    struct weir_table *table;
    struct weir_windows windows; /* by end */
    struct weir_ranks *ranks;    /* retracts: all rows; else NULL */
    uint64_t shape;
    struct weir_keys row_keys;
    struct weir_keys group_keys;
    struct weir_buffer orders;
    /* of a feed, by row that is not late */
    int32_t capacity;
    int32_t *rows;
    int64_t (*bounds)[2]; /* end, start */
    struct weir_slot **slots;
    /* Changes since the last were told. */
    struct touched *touched;
    size_t touched_count;
    size_t touched_capacity;
    size_t left;
    struct weir_side marks; /* by slot number: 1 + place in touched, a uint32_t */
    struct weir_buffer before;
};

int weir_top_no_memory(const struct weir_top *top, struct weir_error *err);
/* The group is as it was told last until now. *first: not noted yet, and what it was is to be
 * appended to top->before. */
int weir_top_note(struct weir_top *top, const struct weir_slot *slot, int64_t time_us, bool *first,
                  struct weir_error *err) WEIR_MUST_CHECK;
/* The order of a row into top->orders: of `by`, the first of them alone, or all. */
int weir_top_append_order(struct weir_top *top, const struct weir_batch *batch, int32_t row,
                          int32_t from, int32_t to) WEIR_MUST_CHECK;

static inline struct group group_of(const struct weir_top *top, struct weir_slot *slot) {
    struct group group;
    memcpy(&group, weir_slot_value(top->table, slot), sizeof group);
    return group;
}

static inline struct entry entry_at(const uint8_t *rows, uint32_t at) {
    struct entry entry;
    memcpy(&entry, rows + at, sizeof entry);
    return entry;
}

/* --- top_leave.c ------------------------------------------------------------------------------ */

struct leaving {
    const uint8_t *columns; /* of top->row_key */
    size_t bytes;
    int64_t rank;          /* from 0 */
    const int64_t *bounds; /* end, start; of bounded */
    int change;
    int64_t time_us;
};

int weir_top_append(struct weir_top *top, const struct leaving *row, struct weir_batch_builder *out,
                    int64_t *times_us, struct weir_error *err) WEIR_MUST_CHECK;

/* --- top_group.c ------------------------------------------------------------------------------ */

extern const struct weir_table_codec weir_top_codec; /* context: the struct weir_top */
int weir_top_compare(const uint8_t *a, uint32_t a_bytes, const uint8_t *b, uint32_t b_bytes);
/* Could a row of this order be among the first? */
bool weir_top_is_kept(const struct weir_top *top, const struct group *group, const uint8_t *order,
                      uint32_t bytes);
int weir_top_keep(struct weir_top *top, struct group *group, const uint8_t *order,
                  uint32_t order_bytes, const uint8_t *row, uint32_t row_bytes,
                  struct weir_error *err) WEIR_MUST_CHECK;

/* A place in a group's rows, with its rank. */
struct place {
    const uint8_t *rows;
    uint32_t bytes;
    uint32_t at;
    uint32_t before; /* the row in front of it */
    int64_t index;
    int64_t rank;
    const int64_t *bounds; /* of the group's window: end, start */
};

void weir_top_move_on(const struct weir_top *top, struct place *place);
/* Adds the group's key and the bounds of its window to what is shown. */
int weir_top_show_key(const struct weir_top *top, const uint8_t *key, size_t bytes,
                      struct weir_shown *out, struct weir_error *err) WEIR_MUST_CHECK;
int32_t weir_top_group_shows(struct weir_top *top, struct weir_show *shows, int32_t capacity);
