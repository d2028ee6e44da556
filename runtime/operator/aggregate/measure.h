#pragma once
/* Measures as cells of a slot's value: where each lies, how a batch is added to it, what comes out
 * of it, how it is imaged. aggregate.c owns slots and windows; this file owns what is in them.
 *
 * A value is, all little-endian, cells 8-aligned:
 *   presence   one u64 per 64 measures: bit m set once measure m has seen a value
 *   per measure, in order
 *     count             u64
 *     sum of ints, of decimals of <= 18 digits        i128
 *     sum of wider decimals                           i192
 *     sum of floats                                   f64
 *     avg                                             its sum, then u64 count
 *     min, max          i64 (ints, bool, times) · f64 (floats) · i128 (decimals)
 *                       · string, binary: 16 bytes, zero in the image
 *     distinct          u64 count, 8 bytes zero in the image; members are slots of their own
 *     min, max that retract: the cell of distinct, then theirs
 *     first, last, arg_max, arg_min    i128 order, i64 time, 16 bytes, zero in the image
 *     approx_distinct, approx_quantile    16 bytes, zero in the image; their part is sketch.h's
 *     quantile, median, top_k, collect; first, last, arg_max, arg_min that retract    likewise;
 *                                         bag.h's
 *     variance, stddev  u64 count; ints and decimals of <= 18 digits: i128 sum, i192 sum of
 * squares; others: f64 mean, f64 sum of squared differences from it
 *   old               16 bytes, zero in the image: where versions are told apart (layout.h)
 * In the image the bytes outside the slot follow (strings of min and max, values chosen as keys),
 * varint length and bytes, for each that is present, in order of measures; then of old, which may
 * have none. */
#include "batch/builder.h"
#include "operator/aggregate/aggregate.h"
#include "operator/aggregate/bag.h"
#include "operator/key.h"
#include "state/table.h"

struct weir_measure_cell {
    struct weir_measure measure; /* name owned */
    struct weir_field output;    /* type only */
    uint32_t offset;
    uint32_t count_offset;       /* avg; and sum that retracts */
    bool counted;                /* it has one */
    bool of_members;             /* distinct; and min, max that retract: their cell comes first */
    bool wide;                   /* decimals: 192 bits */
    bool takes_back;             /* its rows may be */
    struct weir_key *member_key; /* distinct: owned */
};

struct weir_merging;

struct weir_measures {
    struct weir_measure_cell *cells;
    int32_t count;
    uint32_t value_bytes;
    uint32_t tail_offset;          /* of what the owner keeps behind the cells */
    uint32_t old_offset;           /* of a part, the image another version wrote; 0: none is kept */
    size_t old_count;              /* values that have one */
    bool has_parts;                /* some cell needs the codec */
    bool has_growing;              /* some cell is a sketch or a bag */
    bool has_members;              /* some cell is of members (members.h) */
    bool retracts;                 /* rows may be taken back */
    struct weir_keys keys;         /* scratch: values as bytes */
    struct weir_buffer order;      /* likewise */
    struct weir_bag_scratch *bags; /* owned; NULL where no cell is one */
    struct weir_merging *merging;  /* likewise: of aggregates */
    struct weir_table *table;      /* whose heap holds strings; set after creation */
};

/* What a batch feeds: rows[k] with its place in the masks and its slot's value. */
struct weir_measure_rows {
    const int32_t *rows;
    const int32_t *positions;
    uint8_t *const *values;
    int32_t count;
    const int64_t *times_us;         /* by row; NULL where no event time is known */
    const struct weir_column *order; /* arg_max, arg_min: by what */
    bool take_back;                  /* the rows were added before and count no more */
};

/* tail_bytes: of the owner's, in every value and image. retracts: rows may be taken back, which
 * some measures cannot (weir_measure_retracts). keeps_old: a value may hold an image that another
 * version wrote. */
int weir_measures_init(struct weir_measures *measures, const struct weir_measure *list,
                       int32_t count, bool retracts, bool keeps_old, uint32_t tail_bytes,
                       struct weir_error *err) WEIR_MUST_CHECK;
/* Bytes of the cell. */
uint32_t weir_measure_cell_bytes(const struct weir_measures *measures, int32_t m);
/* The image that another version wrote, to be read; NULL: there is none. */
const uint8_t *weir_measures_old(const struct weir_measures *measures, const uint8_t *value,
                                 uint32_t *length);
/* The value holds these bytes as its old image; length 0: none. WEIR_E_NOMEM. */
int weir_measures_set_old(struct weir_measures *measures, uint8_t *value, const uint8_t *bytes,
                          size_t length) WEIR_MUST_CHECK;
/* The measure begins anew: with nothing, or as row `row` of `column` says, which is of the type
 * that its kind begins with (weir_measure_start). */
void weir_measures_clear(struct weir_measures *measures, int32_t m, uint8_t *value);
int weir_measures_start(struct weir_measures *measures, int32_t m, uint8_t *value,
                        const struct weir_column *column, int32_t row,
                        struct weir_error *err) WEIR_MUST_CHECK;
void weir_measures_fini(struct weir_measures *measures);
/* After init, where some measure is an aggregate. WEIR_E_NOMEM. */
int weir_measures_set_merge(struct weir_measures *measures, weir_merge_states *merge, void *context,
                            struct weir_error *err) WEIR_MUST_CHECK;
/* Where some measure is an aggregate: merges are called with another context from here on. */
void weir_measures_merge_with(struct weir_measures *measures, void *context);
/* What a merge of states failed with that could not say so; WEIR_OK: none did. */
int weir_measures_failed(const struct weir_measures *measures, struct weir_error *err);

/* Adds the rows to measure m (not distinct). mask NULL: all count. */
int weir_measures_add(struct weir_measures *measures, int32_t m,
                      const struct weir_measure_rows *rows, const struct weir_column *input,
                      const uint8_t *mask, struct weir_error *err) WEIR_MUST_CHECK;
/* Adds what `from` holds to `into`, all measures but distinct; `from` counts as the later one.
 * Texts of min and max stay `from`'s or `into`'s: the result borrows them and must not be given to
 * the codec. Sketches that are merged become parts in `heap`. WEIR_E_NOMEM; WEIR_E_DATA: see
 * weir_measures_failed. */
int weir_measures_merge(const struct weir_measures *measures, struct weir_heap *heap, uint8_t *into,
                        const uint8_t *from) WEIR_MUST_CHECK;
/* Puts what `from` holds into `into`, which borrows its parts. */
void weir_measures_borrow(const struct weir_measures *measures, uint8_t *into, const uint8_t *from);
/* Gives back the parts of a merged value that are its own. */
void weir_measures_give_back(const struct weir_measures *measures, struct weir_heap *heap,
                             uint8_t *value);
/* A value with parts of its own, in `heap`. WEIR_E_NOMEM. */
int weir_measures_copy(const struct weir_measures *measures, uint8_t *into, const uint8_t *from,
                       struct weir_heap *heap) WEIR_MUST_CHECK;
void weir_measures_release(const struct weir_measures *measures, uint8_t *value,
                           struct weir_heap *heap);
/* What `from` holds becomes into's, parts and all; but for members, which are slots of their own
 * (members.h) and stay. Both are values of the table. */
void weir_measures_move(const struct weir_measures *measures, uint8_t *into, uint8_t *from);
/* As merge, for values that are slots': texts are copied. */
int weir_measures_absorb(struct weir_measures *measures, uint8_t *into, const uint8_t *from,
                         struct weir_error *err) WEIR_MUST_CHECK;
/* Appends measure m's result. WEIR_E_DATA: out of range (err names the measure). */
int weir_measures_emit(const struct weir_measures *measures, int32_t m, const uint8_t *value,
                       struct weir_column_builder *out, struct weir_error *err) WEIR_MUST_CHECK;

/* Cells of members. */
struct weir_distinct_cell {
    uint64_t count; /* of members that some row still has */
    uint32_t head;  /* first member's slot number */
    uint32_t dead;  /* members in the list that no row has */
};

/* min, max that retract: the best value, behind the cell of members. */
static inline uint32_t weir_extreme_offset(const struct weir_measure_cell *cell) {
    return cell->offset + (cell->of_members ? (uint32_t)sizeof(struct weir_distinct_cell) : 0);
}
/* Is the value with these key bytes (operator/key.h) better than what the cell holds, or as good?
 */
int weir_extreme_compare(const struct weir_measure_cell *cell, const uint8_t *value,
                         const uint8_t *key, size_t length);
/* The cell holds the value with these key bytes; NULL: none. */
int weir_extreme_set(struct weir_measures *measures, int32_t m, uint8_t *value, const uint8_t *key,
                     size_t length, struct weir_error *err) WEIR_MUST_CHECK;

extern const struct weir_table_codec weir_measures_codec; /* context: the struct weir_measures */
