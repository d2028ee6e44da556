#pragma once
/* layout.c: what the values of an aggregate are made of, as a text that goes with them, so that
 * they can be read when measures are others. A value under another layout is read into the cells of
 * the present one: measures that go on keep every bit, others begin empty. Where functions say more
 * (`migrate`), the value keeps the bytes it came as until its group is met, however many versions
 * pass; then they run, and what they say is in the epoch's images (aggregate_migrate.c).
 *
 * The text is JSON: {"version": 1, "base": "<hash of keys and window, hex>", "old": true where
 * values may keep older ones, "cells": [{"name", "kind": "value", "fields": [["value", type it
 * comes out with]], "measure": kind, "input": type, "share", "most"}]}. */
#include "operator/aggregate/aggregate_private.h"

struct weir_layout {
    uint64_t shape;
    uint64_t base;
    int64_t version;
    char *text;
    bool assumed;                  /* nobody wrote the text: it may be replaced by one that was */
    struct weir_measures measures; /* that read its values */
    uint8_t *value;                /* scratch, one of them */
    /* As the aggregate is now: */
    int32_t *to;  /* by measure: the aggregate's it goes on as, or -1 */
    int32_t lost; /* a measure of the aggregate that none goes on as; -1: none is */
    bool stepped; /* functions lead on from its version */
    struct weir_layout *next;
};

struct weir_layouts {
    struct weir_aggregate *aggregate;
    uint64_t base;
    int64_t version;
    char *text; /* of the aggregate itself */
    int64_t *steps;
    int32_t step_count;
    struct weir_renamed *renamed; /* names owned */
    int32_t renamed_count;
    weir_migrate_groups *migrate;
    void *migrate_context;
    struct weir_layout *list; /* others that are known */
};

/* Values of another version are told apart from those of this one. */
bool weir_layouts_keep_old(const struct weir_aggregate_config *config);
/* Where the measures of such an aggregate may change. `before`: the shape it had before versions
 * were told apart. */
int weir_layouts_create(struct weir_aggregate *aggregate,
                        const struct weir_aggregate_config *config, uint64_t base, uint64_t before,
                        struct weir_error *err) WEIR_MUST_CHECK;
void weir_layouts_destroy(struct weir_layouts *layouts);
/* The functions and names are those of `as` from here on. */
void weir_layouts_follow(struct weir_aggregate *aggregate, struct weir_aggregate *as);
struct weir_layout *weir_layouts_find(struct weir_layouts *layouts, uint64_t shape);
/* Measure m of the aggregate goes on as one of the layout. */
bool weir_layouts_carried(const struct weir_layout *layout, int32_t m);
int weir_layouts_learn(struct weir_layouts *layouts, uint64_t shape, const uint8_t *text,
                       size_t length, struct weir_error *err) WEIR_MUST_CHECK;
/* WEIR_E_STATE: values of this layout cannot go on, and what to write. */
int weir_layouts_allow(struct weir_layouts *layouts, const struct weir_layout *layout,
                       struct weir_error *err) WEIR_MUST_CHECK;
/* Groups in memory that wait to be met can be. */
int weir_layouts_check_waiting(struct weir_aggregate *aggregate,
                               struct weir_error *err) WEIR_MUST_CHECK;

/* --- aggregate_migrate.c --- */

enum { OLD_HEAD = 8 }; /* of the bytes a value keeps: u64 shape, then the image */

/* Values of these slots are about to be used, and are touched: what waits in them is done. */
int weir_aggregate_meet(struct weir_aggregate *aggregate, uint8_t *const *values, int32_t count,
                        struct weir_error *err) WEIR_MUST_CHECK;
/* The same of one slot, that is not touched yet. */
int weir_aggregate_meet_slot(struct weir_aggregate *aggregate, struct weir_slot *slot,
                             struct weir_error *err) WEIR_MUST_CHECK;
