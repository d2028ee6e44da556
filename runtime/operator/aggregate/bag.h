#pragma once
/* Bags in the parts of measures: values with how often they are there, in order, so that rows can
 * be taken back and groups joined. Little-endian, and their own image:
 *   u32 bytes that are in order, then items:
 *   u32 bytes of its order, u32 bytes of its value, i64 count, order (operator/order.h), value
 * Items behind those in order wait to be sorted in; they are as soon as they are as many bytes.
 * What a bag holds is a matter of the rows' order alone. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/error.h"
#include "operator/sketch.h"

enum weir_bag_equals {
    WEIR_BAG_ONE,   /* items of equal order are one; they have no value */
    WEIR_BAG_FIRST, /* they stay apart, as they came */
    WEIR_BAG_LAST   /* ... the last to come first */
};

struct weir_bag_rules {
    enum weir_bag_equals equals;
    uint64_t most; /* counts kept from the front on; 0: all */
    /* ONE: so many items are kept apart; beyond, counts are lowered by that of the most frequent
     * one left out (Misra and Gries 1982, merged as Agarwal et al. 2012): too low by at most
     * all / (candidates + 1). 0: all are kept. */
    uint32_t candidates;
};

struct weir_bag_item {
    const uint8_t *order;
    const uint8_t *value;
    uint32_t order_bytes;
    uint32_t value_bytes;
    int64_t count; /* < 0: takes back */
    uint32_t place;
};

struct weir_bag_scratch { /* reused */
    struct weir_bag_item *items;
    size_t capacity;
    int64_t *counts;
    size_t counts_capacity;
};

void weir_bag_scratch_fini(struct weir_bag_scratch *scratch);

#define WEIR_BAG_BYTES_MAX (64u << 20)

/* WEIR_E_NOMEM; WEIR_E_LIMIT past WEIR_BAG_BYTES_MAX. The part may be another's (capacity 0): then
 * it gets one of its own. */
int weir_bag_add(struct weir_part *part, struct weir_heap *heap, const struct weir_bag_rules *rules,
                 struct weir_bag_scratch *scratch,
                 const struct weir_bag_item *item) WEIR_MUST_CHECK;
/* from's items come after into's. */
int weir_bag_merge(struct weir_part *into, struct weir_heap *heap,
                   const struct weir_bag_rules *rules, struct weir_bag_scratch *scratch,
                   const struct weir_part *from) WEIR_MUST_CHECK;
/* The items in order, all of counts above 0, in scratch->items; they point into the part. *count of
 * them. */
int weir_bag_items(const struct weir_part *part, const struct weir_bag_rules *rules,
                   struct weir_bag_scratch *scratch, size_t *count) WEIR_MUST_CHECK;
bool weir_bag_check(const uint8_t *bytes, size_t length);
