#pragma once
/* The inside of hopping and cumulate windows, shared by hopping.c (panes, groups, firing) and
 * hopping_values.c (what a window holds). */
#include <stdlib.h>
#include <string.h>

#include "operator/aggregate/aggregate_private.h"
#include "state/side.h"

#define ALL_WINDOWS INT64_MIN /* a slot's mark that no window leaves it out */

/* How far firing came; the one slot of "fired". */
struct fired {
    int64_t end;      /* of the last window that was emitted whole; INT64_MIN: none */
    int64_t emitting; /* end of the window being emitted, INT64_MIN: none */
    uint64_t after;   /* ... whose groups up to this sequence of their first slot are out */
};

/* A window is made step by step, each in slices. */
enum hops_step {
    HOPS_MADE,
    HOPS_RESET,  /* the groups forget the block before */
    HOPS_SUFFIX, /* panes of the block, back to front */
    HOPS_PREFIX, /* panes of the next one so far */
    HOPS_UNMARK, /* the groups forget the late rows of the window before */
    HOPS_LATE,   /* late rows' slots that count in the window */
    HOPS_ORDER,  /* the groups that have something in it */
    HOPS_SORT,   /* ... by their first slot */
    HOPS_SIZE,   /* exact distinct: how many members there may be */
    HOPS_ROOM,   /* room for them */
    HOPS_CLEAR,  /* the groups' counts */
    HOPS_COUNT   /* the members */
};

/* Slots of consecutive panes. */
struct hops_walk {
    int64_t pane;  /* the next one */
    int64_t left;  /* panes */
    uint32_t slot; /* the next one of the pane before; 0: none is left */
};

struct hops_making {
    enum hops_step step;
    int64_t end; /* of the window */
    size_t at;   /* group, late slot or place in the set */
    struct hops_walk walk;
    /* sorting: runs of `width` are merged two by two from `window` to `spare` */
    size_t width;
    size_t left;
    size_t right;
    size_t out;
    /* counting: the slot at hand, its measure, the member */
    uint32_t slot;
    int32_t measure;
    uint32_t member;
    size_t members;
};

struct group_side {
    uint64_t sequence; /* of the group's slot; 0: none */
    uint32_t slots;    /* of the window table */
    uint32_t suffix;   /* the earliest pane's slot of the suffix block; 0: none */
    bool has_prefix;
    bool has_extra;
    uint64_t prefix_first; /* smallest sequence of the slots in it */
    uint64_t extra_first;
};

struct slot_side {
    uint32_t group;
    uint32_t next_in_block;
    uint64_t suffix_first; /* smallest sequence of the slots in its suffix */
};

struct weir_hops {
    int64_t every;
    int64_t pane;
    bool cumulate;
    int32_t work;                 /* a call of fire */
    struct weir_heap block_parts; /* sketches of prefix and suffix */
    struct weir_heap extra_parts; /* of extra */
    struct weir_heap value_parts; /* of value */
    bool failed;                  /* no memory for one of them */
    struct weir_table *groups;
    struct weir_table *cursor;
    struct weir_slot *fired; /* NULL before the first window */
    /* By number of the window table's slot. */
    struct weir_side slots;  /* struct slot_side */
    struct weir_side suffix; /* a value: the slot's pane to the end of the block */
    /* By number of the group's slot. */
    struct weir_side sides; /* struct group_side */
    struct weir_side prefix;
    struct weir_side extra;
    /* Groups, by place; those that are gone are dropped once they are half of it. */
    struct weir_side order; /* struct weir_ordered_slot */
    size_t order_count;
    size_t order_gone;
    size_t packing; /* places looked at, while it is being packed */
    size_t packed;  /* ... and kept */
    /* Those of the window at hand, by their first slot. */
    struct weir_ordered_slot *window;
    struct weir_ordered_slot *spare; /* for sorting them */
    size_t window_count;
    size_t window_capacity;
    /* Slots of late rows. */
    uint32_t *late;
    size_t late_count;
    size_t late_capacity;
    /* What the running values are of. */
    bool valid;
    bool any_extra;
    bool expiring; /* panes that no window to come is over are still there */
    struct hops_making making;
    int64_t block;  /* start of the suffix block (cumulate: of the block) */
    int64_t until;  /* end of the window they were last brought to */
    uint8_t *value; /* scratch: one row's */
    /* Exact distinct: counts of the window at hand, by (group, measure). */
    struct weir_fingerprint *set;
    size_t set_mask;
    size_t set_count;
};

static inline struct slot_side *hops_slot(const struct weir_hops *hops, uint32_t slot) {
    return weir_side_at(&hops->slots, slot);
}

static inline struct group_side *hops_group(const struct weir_hops *hops, uint32_t group) {
    return weir_side_at(&hops->sides, group);
}

static inline struct weir_ordered_slot *hops_ordered(const struct weir_hops *hops, size_t place) {
    return weir_side_at(&hops->order, (uint32_t)place);
}

static inline uint32_t hops_value_bytes(const struct weir_aggregate *aggregate) {
    return aggregate->measures.value_bytes;
}

static inline int hops_no_memory(const struct weir_aggregate *aggregate, struct weir_error *err) {
    return weir_error_set(err, WEIR_E_NOMEM, "%s: no memory for its windows",
                          aggregate->declaration);
}

/* Values could not be put together. */
static inline int hops_failed(const struct weir_aggregate *aggregate, struct weir_error *err) {
    int rc = weir_measures_failed(&aggregate->measures, err);
    return rc != WEIR_OK ? rc : hops_no_memory(aggregate, err);
}

static inline int64_t hops_pane_of(const struct weir_aggregate *aggregate,
                                   const struct weir_slot *slot) {
    int64_t pane;
    memcpy(&pane, weir_slot_key(aggregate->table, slot), sizeof pane);
    return pane;
}

static inline int64_t hops_min_end_of(const struct weir_aggregate *aggregate,
                                      const struct weir_slot *slot) {
    int64_t end;
    memcpy(&end, weir_slot_key(aggregate->table, slot) + WINDOW_BYTES, sizeof end);
    return end;
}

static inline bool hops_grow(void **array, size_t capacity, size_t bytes) {
    void *larger = realloc(*array, capacity * bytes);
    if (larger == NULL) {
        return false;
    }
    *array = larger;
    return true;
}

/* Brings the running values to the window that ends at `end`, and hops->window with them, as far as
 * *work goes (it is counted down); *made: all the way. What is fed while its rows leave in chunks
 * is late for it and changes none of them. */
int hops_prepare(struct weir_aggregate *aggregate, int64_t end, int32_t *work, bool *made,
                 struct weir_error *err) WEIR_MUST_CHECK;
/* The window's value of a group into hops->value. */
void hops_combine(struct weir_aggregate *aggregate, uint32_t group);
